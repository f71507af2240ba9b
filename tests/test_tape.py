"""The tape: which gradients backward gives, what it adds up, what it uses up, and what keeps a graph alive."""

import gc

import numpy as np
import pytest
from _threads import run_with_stack

import fastgrad as fg
from fastgrad import _core

SPENT = (
    "backward: this graph was already used by an earlier backward pass and its values are freed; pass "
    "retain_graph=True to the earlier call, or compute the result anew"
)


def leaf(*values, dtype=None):
    return fg.tensor(values if len(values) > 1 else values[0], dtype, requires_grad=True)


def nodes():
    return _core.live()["nodes"]


def grad_of(x):
    return None if x.grad is None else x.grad.tolist()


# ---- graphs of every form: f(x, z) and the gradients by hand at x = 3, z = 2 -----------------------------------------
def shared_parts(x, z):
    a = x * z
    b, c = fg.exp(a), fg.sin(a)
    return b * c + c * a


def ladder(x, z):
    a, b = x, z
    for _ in range(40):  # 2**40 paths, 80 nodes
        a, b = (a + b) / 2, (a - b) / 2 + b
    return a * b


E6, S6, C6 = np.exp(6), np.sin(6), np.cos(6)
SHARED = E6 * S6 + E6 * C6 + C6 * 6 + S6
GRAPHS = {
    "x*x": (lambda x, z: x * x, 6, None),
    "x**3 by products": (lambda x, z: x * x * x, 27, None),
    "x is its own result": (lambda x, z: x, 1, None),
    "x+x": (lambda x, z: x + x, 2, None),
    "x-x": (lambda x, z: x - x, 0, None),
    "x/x": (lambda x, z: x / x, 0, None),
    "both of x*z": (lambda x, z: x * z, 2, 3),
    "diamond": (lambda x, z: (x * z) * (x + z), 2 * 5 + 6, 3 * 5 + 6),
    "diamond of three sides": (lambda x, z: x * z + x * x + z, 2 + 6, 3 + 1),
    "one user is another's user": (lambda x, z: (y := x * z) * y + y, 2 * 6 * 2 + 2, 2 * 6 * 3 + 3),
    "shared parts": (shared_parts, 2 * SHARED, 3 * SHARED),
    "a ladder of diamonds": (ladder, 2.5, 2.5),
    "a part cut off": (lambda x, z: x * (x * z).detach(), 6, None),
    "result of no use": (lambda x, z: (fg.exp(z), x * 4)[1], 4, None),
    "concatenate x with itself": (lambda x, z: fg.concatenate([x[None]] * 5 + [z[None]]).sum(), 5, 1),
    "a constant of zeros": (lambda x, z: x * 0 + z, 0, 1),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name):
    f, dx, dz = GRAPHS[name]
    x, z = leaf(3.0), leaf(2.0)
    f(x, z).backward()
    for x, expected in ((x, dx), (z, dz)):
        assert (x.grad is None) == (expected is None)
        if expected is not None:
            np.testing.assert_allclose(x.grad.item(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_in_functional_style_give_zeros_for_what_is_unused(name):
    f, dx, dz = GRAPHS[name]
    np.testing.assert_allclose(fg.grad(f, (0, 1))(3.0, 2.0), (dx, dz or 0), rtol=1e-12)


# ---- backward --------------------------------------------------------------------------------------------------------
def test_gradients_accumulate_over_backward_calls():
    x = leaf(1.0, 2.0)
    for i in range(1, 4):
        (x * x).sum().backward()
        assert grad_of(x) == [2.0 * i, 4.0 * i]
    x.zero_grad()
    assert x.grad is None
    (3 * x).sum().backward()
    assert grad_of(x) == [3, 3]


def test_a_gradient_taken_before_is_not_changed_by_the_next_backward():
    x = leaf(1.0, 2.0)
    x.sum().backward()
    first = x.grad
    x.sum().backward()
    assert (first.tolist(), grad_of(x)) == ([1, 1], [2, 2])


def test_one_cotangent_may_become_the_gradient_of_many_leaves():
    """a + b sends the same array to both: adding to one gradient later must not add to the other."""
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (a + b).sum().backward()
    a.sum().backward()
    assert (grad_of(a), grad_of(b)) == ([2, 2], [1, 1])


def test_the_cotangent_is_copied():
    x, g = leaf(1.0, 2.0), np.array([5.0, 7.0])
    (+x).backward(g)
    g[:] = 0
    t = fg.tensor([1.0, 1.0])
    x.backward(t)
    t += 100
    assert grad_of(x) == [6, 8]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("g", [
    [[1, 2, 3], [4, 5, 6]], np.arange(6).reshape(2, 3), np.arange(6.0).reshape(3, 2).T, np.ones((2, 3), np.float32),
    np.ones((2, 3), bool), np.ones((4, 6))[::-2, ::-2], fg.ones((2, 3)), np.float64(2) * np.ones((2, 3)),
])  # fmt: skip
def test_backward_of_a_non_scalar_takes_any_cotangent_of_its_shape(g, dtype):
    x = fg.tensor(np.arange(6).reshape(2, 3), dtype, requires_grad=True)
    (x * x).backward(g)
    assert x.grad.dtype == dtype
    np.testing.assert_array_equal(x.grad, 2 * np.arange(6).reshape(2, 3) * np.asarray(g))


def test_a_single_element_of_any_rank_needs_no_cotangent():
    for shape in [(), (1,), (1, 1, 1)]:
        x = fg.full(shape, 3.0, requires_grad=True)
        (x * x).backward()
        assert x.grad.shape == shape and x.grad.item() == 6


def test_backward_of_nothing():
    x = fg.zeros((0, 3), requires_grad=True)
    (x * 2).backward(np.zeros((0, 3)))
    assert x.grad.shape == (0, 3)
    x.sum().backward()
    assert x.grad.shape == (0, 3)


def test_a_second_backward_is_an_error_without_retain_graph_and_right_with_it():
    x = leaf(3.0)
    y = x * x
    for i in range(1, 4):
        y.backward(retain_graph=True)
        assert x.grad.item() == 6 * i
    y.backward()
    assert x.grad.item() == 24
    for retain_graph in (False, True):
        with pytest.raises(RuntimeError) as error:
            y.backward(retain_graph=retain_graph)
        assert str(error.value) == SPENT
    assert x.grad.item() == 24


def test_the_cotangent_may_differ_each_time():
    x = leaf(1.0, 2.0)
    y = x * x
    y.backward([1.0, 0.0], retain_graph=True)
    y.backward([0.0, 10.0])
    assert grad_of(x) == [2, 40]


def test_graphs_that_share_a_part():
    """The part is used up by the first backward; what lies above it only for the other result is not."""
    x, z = leaf(2.0), leaf(5.0)
    part = fg.exp(x)
    first, second = part * z, part + z
    first.backward()
    before = grad_of(x), grad_of(z)
    with pytest.raises(RuntimeError, match="already used"):
        second.backward()
    assert (grad_of(x), grad_of(z)) == before, "a backward that fails leaves every .grad as it was"
    first, second = (part := fg.exp(x)) * z, part + z
    x.zero_grad(), z.zero_grad()
    first.backward(retain_graph=True)
    second.backward()
    np.testing.assert_allclose([x.grad.item(), z.grad.item()], [6 * np.exp(2), np.exp(2) + 1], rtol=1e-15)


def test_a_graph_can_grow_on_a_result_that_was_used():
    """Only what backward went through is used up: a new user of a leaf is a new graph."""
    x = leaf(2.0)
    y = x * 3
    y.backward()
    (x * 5).backward()
    assert x.grad.item() == 8
    with pytest.raises(RuntimeError, match="already used"):
        (y * 2).backward()


def test_grad_stays_when_backward_fails_after_reaching_the_leaf():
    x, z = leaf(1.0, 2.0), leaf(3.0, 4.0)
    x.sum().backward()
    y = fg.exp(z)
    late = (x * 10).sum() + y.sum()  # the pass reaches x before it finds y changed
    with fg.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        late.backward()
    assert (grad_of(x), grad_of(z)) == ([1, 1], None)
    x.sum().backward()
    assert grad_of(x) == [2, 2], "nothing of the failed pass is left over"


def test_backward_works_under_no_grad():
    x = leaf(3.0)
    y = x * x
    with fg.no_grad():
        y.backward()
    assert x.grad.item() == 6


# ---- leaves ----------------------------------------------------------------------------------------------------------
def test_requires_grad_can_be_switched():
    x = fg.tensor([1.0, 2.0])
    assert not x.requires_grad and x.is_leaf and x.grad is None
    x.requires_grad = True
    y = x * 2
    assert x.requires_grad and x.is_leaf and y.requires_grad and not y.is_leaf
    y.sum().backward()
    assert grad_of(x) == [2, 2]
    x.requires_grad = True
    assert grad_of(x) == [2, 2], "setting what is already set changes nothing"
    x.requires_grad = False
    assert not (x * 2).requires_grad and x.grad is None
    y = fg.tensor(1.0, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="use .detach()"):
        y.requires_grad = False
    y.requires_grad = True


def test_a_graph_recorded_before_requires_grad_was_turned_off_still_runs():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.requires_grad = False
    y.backward()
    assert x.grad is None


def test_grad_can_be_set():
    x = leaf(1.0, 2.0, dtype=np.float32)
    given = np.array([5.0, 6.0])
    x.grad = given
    given[:] = 0
    assert grad_of(x) == [5, 6] and x.grad.dtype == np.float32 and not x.grad.requires_grad
    x.sum().backward()
    assert grad_of(x) == [6, 7]
    x.grad = fg.tensor([1, 2])
    assert grad_of(x) == [1, 2]
    x.grad = None
    assert x.grad is None
    with pytest.raises(RuntimeError, match=r"only a tensor made with requires_grad=True has a \.grad to set"):
        (x * 2).grad = [1.0, 1.0]


def test_only_leaves_keep_a_gradient():
    x = leaf(1.0)
    y = x * 2
    z = y * 3
    z.backward()
    assert (x.grad.item(), y.grad, z.grad) == (6, None, None)
    y.zero_grad()  # harmless


def test_mixed_dtypes_each_get_a_gradient_of_their_own():
    x, z = leaf(1.0, 2.0, dtype=np.float32), leaf(3.0, 4.0)
    y = x * z
    assert y.dtype == np.float64
    y.sum().backward()
    assert (x.grad.dtype, grad_of(x)) == (np.float32, [3, 4])
    assert (z.grad.dtype, grad_of(z)) == (np.float64, [1, 2])


# ---- constants -------------------------------------------------------------------------------------------------------
def test_detach_and_stop_gradient_cut():
    x = leaf(3.0)
    for constant in (x.detach(), fg.stop_gradient(x), (x * 1).detach(), fg.stop_gradient({"a": [x]})["a"][0]):
        assert not constant.requires_grad and constant.item() == 3
        x.zero_grad()
        (x * constant).backward()
        assert x.grad.item() == 3
    assert fg.stop_gradient([1.0, np.float64(2), None]) == [1.0, 2.0, None]


def test_what_has_no_gradient_is_not_recorded():
    x = leaf(1.0, 2.0)
    before = nodes()
    for f in (lambda: x > 1, lambda: fg.argmax(x), lambda: fg.isnan(x), lambda: x.numpy(), lambda: x.detach() * 2):
        assert not getattr(f(), "requires_grad", False)
    kept = [f() for f in (lambda: fg.zeros(3) * 2, lambda: x.detach() + 1)]
    assert nodes() == before and len(kept) == 2


def test_no_grad_nests_decorates_and_survives_exceptions():
    x = leaf(1.0)
    quiet = fg.no_grad()

    @fg.no_grad()
    def decorated(n):
        """Says so."""
        assert not (x * 2).requires_grad
        return decorated(n - 1) if n else x * 2

    with quiet:
        assert not (x * 2).requires_grad
        with quiet, fg.no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
        assert not decorated(2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    assert not decorated(3).requires_grad
    assert (x * 2).requires_grad
    assert (decorated.__name__, decorated.__doc__) == ("decorated", "Says so.")
    for manager in (quiet, fg.no_grad()):
        with pytest.raises(ZeroDivisionError), manager:
            1 / 0
        assert (x * 2).requires_grad


def test_no_grad_of_a_generator_ends_with_it():
    def generate():
        with fg.no_grad():
            yield

    x, g = leaf(1.0), generate()
    next(g)
    with fg.no_grad():
        g.close()  # the older one ends first
    assert (x * 2).requires_grad


# ---- what keeps a graph alive ----------------------------------------------------------------------------------------
def test_a_graph_lives_exactly_as_long_as_something_reaches_it():
    before = nodes()
    x = leaf(1.0, 2.0)
    assert nodes() == before + 1
    y = fg.exp(x) * 2
    assert nodes() == before + 3
    tip = y.sum()
    y2 = y + 1
    assert nodes() == before + 5
    del y
    assert nodes() == before + 5, "tip and y2 need what y was made by"
    del tip
    assert nodes() == before + 4
    del y2
    assert nodes() == before + 1, "freed at once, without a garbage collection"
    y = x * 1
    del x
    assert nodes() == before + 2, "y's node holds the leaf"
    view, detached = y.numpy(), y.detach()
    del y
    assert nodes() == before, "neither values nor detached tensors hold a graph"
    assert view.tolist() == detached.tolist() == [1, 2]


def test_freed_at_once_with_the_garbage_collector_off():
    gc.disable()
    try:
        before = _core.live()["bytes"]
        x = leaf(1.0)
        for _ in range(100):
            x = fg.tanh(x) * x
        del x
        assert _core.live()["bytes"] == before
    finally:
        gc.enable()


def test_backward_frees_the_values_it_has_used():
    x = fg.ones(1000, requires_grad=True)
    y = fg.exp(x)
    for _ in range(20):
        y = fg.exp(y * 0.1)
    y = y.sum()
    held = _core.live()["bytes"]
    y.backward(retain_graph=True)
    assert _core.live()["bytes"] >= held
    y.backward()
    assert held - _core.live()["bytes"] > 19 * 8000
    assert x.grad is not None


def test_a_tensor_in_a_cycle_is_collected():
    before = _core.live()

    class Box:
        pass

    box = Box()
    box.self, box.loss = box, leaf(1.0, 2.0).sum()
    del box
    gc.collect()
    assert _core.live()["nodes"] == before["nodes"] and _core.live()["arrays"] == before["arrays"]


# ---- long and wide ---------------------------------------------------------------------------------------------------
def chain(length):
    x = leaf(1.0)
    y = x
    for _ in range(length // 2):
        y = -y + 1.0
    assert nodes() >= length
    return x, y


def test_a_chain_of_two_million_operations_runs_backward_and_is_freed_on_a_small_stack():
    def backward():
        x, y = chain(2_000_000)
        y.backward()
        assert abs(x.grad.item()) == 1
        del y

    def free():
        x, y = chain(2_000_000)
        del y
        return nodes()

    before = nodes()
    run_with_stack(256 * 1024, backward)
    assert run_with_stack(256 * 1024, free) == before + 1


def test_a_tensor_used_a_million_times():
    x = leaf(2.0)
    total = leaf(0.0)
    y = total
    for _ in range(1_000_000):
        y = y + x
    y.backward()
    assert (x.grad.item(), total.grad.item()) == (1_000_000, 1)


def test_a_million_users_at_once():
    """All of them wait in the queue of the backward pass together."""
    x = fg.tensor(np.full(8, 0.5), requires_grad=True)
    parts = [x[None] * 1.0 for _ in range(100_000)]
    joined = fg.concatenate(parts)
    del parts
    assert joined.shape == (100_000, 8)
    joined.sum().backward()
    assert grad_of(x) == [100_000] * 8


def test_concatenating_parts_of_many_lengths():
    leaves = [fg.ones(n, requires_grad=True) for n in range(200)]
    joined = fg.concatenate(leaves)
    weights = np.arange(joined.size)
    (joined * weights).sum().backward()
    assert [n for x in leaves for n in x.grad.tolist()] == weights.tolist()
