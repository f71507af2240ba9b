"""Changing values in place: the right gradient, as the tape keeps a value that it needs; an error where the change must
be seen in memory that the tape holds.

Never a wrong gradient. The tests change values by every operator and in every other way: tensors that share memory,
ndarrays behind `asarray`, DLPack, optimizer kernels.
"""

import ctypes
import operator

import numpy as np
import pytest
from _oracles import sgd_numbers
from _samples import NUMPY_2_0

import fastgrad as fg
from fastgrad import _core

OPERATORS = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv, "//=": operator.ifloordiv,
    "%=": operator.imod, "**=": operator.ipow,
}  # fmt: skip
OUT_OF_PLACE = {
    "+=": operator.add, "-=": operator.sub, "*=": operator.mul, "/=": operator.truediv, "//=": operator.floordiv,
    "%=": operator.mod, "**=": operator.pow,
}  # fmt: skip
A, B = np.array([1.5, 2.25, 3.125]), np.array([2.0, 0.75, 1.25])


def changed(name, which):
    return (
        f"{name}: its {which} of shape (3,) was changed in place after it was recorded, and its gradient needs the "
        "value it had; write y = y + x instead of y += x, or change a copy"
    )


def sgd(p, g, rate):
    """An optimizer's kernel on p."""
    _core.UpdateRule("sgd", (), sgd_numbers(rate)).update([p], [g])


def leaf(values=A):
    return fg.tensor(values, requires_grad=True)


# ---- values --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    "other", [B, B[1], fg.tensor(B), fg.tensor(B[None, 0]), 2, 0.75, np.float32(2), [2, 1, 2], B[::-1]]
)
def test_values_are_those_of_numpy(name, other):
    x, expected = fg.tensor(A), A.copy()
    same = OPERATORS[name](x, other)
    expected = OPERATORS[name](expected, np.asarray(other))
    assert same is x
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-15)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(name, dtype):
    x = fg.tensor(A, dtype)
    OPERATORS[name](x, fg.tensor(B, np.float64 if dtype == np.float32 else np.float32))
    assert x.dtype == dtype
    np.testing.assert_allclose(x.numpy(), OUT_OF_PLACE[name](A, B), rtol=1e-6)


def test_integers_change_in_place_too():
    x = fg.tensor([7, 8, 9])
    view = x.numpy()
    x += 1
    x *= 2
    x //= 3
    assert (x.dtype, x.tolist(), view.tolist()) == (np.int64, [5, 6, 6], [5, 6, 6])


# ---- tensors without axes ------------------------------------------------------------------------------------------
def partial_sums(x):
    """The sum of the elements and of the first ones, as each of those that are kept keeps its value."""
    kept, s = [], x[0]
    for i in range(1, 3):
        kept.append(s)
        s += x[i]
    return s + np.sum(np.stack(kept))


def mean_beside_the_sum(x):
    s = np.sum(x)
    total = s
    s /= 3
    return total * s


def one_more(x):
    s = x[1]
    y = s
    y *= s
    y -= 1.0
    return s * y


def a_count_is_divided(x):
    n = np.sum(x > 0)
    counted = n
    n /= 2
    return n * x[0] + counted


def a_sum_becomes_a_vector(x):
    s = np.sum(x)
    s += x
    return np.sum(s * s)


@pytest.mark.parametrize("f", [partial_sums, mean_beside_the_sum, one_more, a_count_is_divided, a_sum_becomes_a_vector])
def test_without_axes_a_value_is_what_a_scalar_is_to_numpy(f):
    x, t = np.array([1.5, 2.25, 3.125]), np.array([0.5, -1.0, 2.0])
    value, step = f(x), 1e-6
    slope = (f(x + step * t) - f(x - step * t)) / (2 * step)
    got, gradient = fg.value_and_grad(f)(x)
    np.testing.assert_allclose([got, gradient @ t], [value, slope], rtol=1e-8)
    np.testing.assert_allclose(fg.jvp(f, (x,), (t,)), [value, slope], rtol=1e-8)
    np.testing.assert_allclose(fg.compile(f)(x), value, rtol=1e-14)
    np.testing.assert_allclose(fg.compile(fg.grad(f))(x), gradient, rtol=1e-14)
    np.testing.assert_allclose(fg.vmap(f)(np.stack([x, t])), [value, f(t)], rtol=1e-14)
    np.testing.assert_allclose(f(fg.asarray(x)).numpy(), value, rtol=1e-14)


@pytest.mark.parametrize("number", [2.0, np.float64(2.0), fg.tensor(2.0)])
def test_an_argument_without_axes_keeps_its_value(number):
    def f(x):
        y = x
        y += 1
        return x * y

    assert float(f(number)) == 6.0
    assert float(number) == 2.0
    assert [float(v) for v in fg.value_and_grad(f)(number)] == [6.0, 5.0]
    assert float(fg.hessian(f)(number)) == 2.0
    assert fg.vmap(f)(np.array([2.0, 3.0])).tolist() == [6.0, 12.0]


def test_without_axes_carries_and_operands_are_values_in_bodies_too():
    def step(c, t):
        before = c
        c += t
        c *= t
        return c, before * c

    def branch(v):
        v *= v
        return v

    def f(w):
        s = 1 + w
        s, kept = fg.scan(step, s, np.array([1.0, 2.0]))
        last = s
        s += fg.cond(w > 0, branch, lambda v: v, w)
        return s * last + fg.sum(kept)

    def plain(w):
        a = (1 + w + 1) * 1
        b = (a + 2) * 2
        return (b + (w * w if w > 0 else w)) * b + (1 + w) * a + a * b

    slope = (plain(1.5 + 1e-6) - plain(1.5 - 1e-6)) / 2e-6
    for transformed in (fg.value_and_grad(f), fg.compile(fg.value_and_grad(f))):
        np.testing.assert_allclose(transformed(1.5), [plain(1.5), slope], rtol=1e-8)
    np.testing.assert_allclose(fg.compile(f)(1.5), plain(1.5), rtol=1e-14)
    np.testing.assert_allclose(fg.vmap(f)(np.array([1.5, -0.5])), [plain(1.5), plain(-0.5)], rtol=1e-14)


def test_a_parameter_without_axes_changes_in_place():
    x = fg.tensor(2.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="made with requires_grad=True is changed in place"):
        x -= 1.0
    same = x
    with fg.no_grad():
        x -= 0.5
    assert x is same and x.requires_grad and float(x) == 1.5
    y = fg.zeros(())
    same = y
    y[...] = 4.0
    y += 1.0
    assert float(same) == 4.0 and float(y) == 5.0


# ---- gradients -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tracked", ["target", "operand", "both"])
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shown", [False, True])
def test_a_change_that_is_recorded_gives_the_right_gradient_or_an_error(name, tracked, shown):
    """y op= b is y = y op b. Where an ndarray shows the memory of y and the tape would need the old y, it refuses."""

    def run(operators):
        x, b = leaf(A), leaf(B)
        y = x * 1.0 if tracked != "operand" else fg.tensor(A)
        view = y.detach().numpy() if shown else None  # noqa: F841
        y = operators[name](y, b if tracked != "target" else fg.tensor(B))
        y.sum().backward()
        return [None if t.grad is None else t.grad.tolist() for t in (x, b)]

    expected = run(OUT_OF_PLACE)
    names = {"*=": "multiply", "%=": "remainder", "**=": "power"}
    needs_old = shown and ((name in {"*=", "%="} and tracked != "target") or name == "**=")
    if needs_old:
        with pytest.raises(RuntimeError) as error:
            run(OPERATORS)
        assert str(error.value) == changed(names[name], "input")
    else:
        assert run(OPERATORS) == expected


@pytest.mark.parametrize("shared", [False, True], ids=["own memory", "an ndarray's memory"])
@pytest.mark.parametrize("name", ["+=", "-=", "/="])
def test_the_result_of_a_recorded_change_is_what_the_tape_keeps(name, shared):
    """The derivative of a / b by b names the result, which is only known after the change."""
    memory = A.copy()
    y, b = (fg.asarray if shared else fg.tensor)(memory), leaf(B)
    OPERATORS[name](y, b)
    (y * A).sum().backward()
    expected = fg.grad(lambda b: (OUT_OF_PLACE[name](A, b) * A).sum())(B)
    np.testing.assert_allclose(b.grad.numpy(), expected, rtol=1e-14)


def test_a_chain_of_changes():
    x = leaf()
    y = x * 1.0
    for _ in range(5):
        y += x
        y *= 2.0
        y -= 1.0
        y /= 4.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 3


def test_a_tensor_and_itself():
    for change, factor in ((lambda y: operator.iadd(y, y), 2), (lambda y: operator.isub(y, y), 0)):
        x = leaf()
        y = x * 1.0
        change(y)
        y.sum().backward()
        assert x.grad.tolist() == [factor] * 3
    x = leaf()
    y = x * 1.0
    y *= y
    y.sum().backward()
    assert x.grad.tolist() == (2 * A).tolist()


# What was recorded, and which of its values is then changed.
NEEDED = {
    "input of square": (lambda x: (y := x * 1.0, fg.square(y)), "square", "input"),
    "input of sin": (lambda x: (y := x * 1.0, fg.sin(y)), "sin", "input"),
    "input of log": (lambda x: (y := x * 1.0, fg.log(y)), "log", "input"),
    "input of multiply": (lambda x: (y := fg.tensor(B), x * y), "multiply", "input"),
    "input of divide": (lambda x: (y := fg.tensor(B), x / y), "divide", "input"),
    "input of matmul": (lambda x: (y := fg.tensor(B), x @ y), None, "input"),
    "input of max": (lambda x: (y := x * 1.0, fg.max(y)), "max", "input"),
    "input of logsumexp": (lambda x: (y := x * 1.0, fg.logsumexp(y)), "logsumexp", "input"),
    "result of exp": (lambda x: (y := fg.exp(x), y), "exp", "result"),
    "result of tanh": (lambda x: (y := fg.tanh(x), y * 2), "tanh", "result"),
    "result of sqrt": (lambda x: (y := fg.sqrt(x), y), "sqrt", "result"),
    "result of softmax": (lambda x: (y := fg.softmax(x), y), "softmax", "result"),
    "an integer index": (lambda x: (y := fg.tensor([0, 1, 1]), fg.take(x, y)), "take", "input"),
}


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("by", ["operator", "assignment", "operator, shown", "under no_grad", "optimizer"])
def test_a_needed_value_that_changed_is_kept_or_an_error(name, by):
    record, op, which = NEEDED[name]
    x = leaf()
    value, result = record(x)
    view = value.detach().numpy() if by == "operator, shown" else None  # noqa: F841
    if by == "assignment":
        if value is result:
            return  # whose gradient the assignment changes
        value[1:] = 2
    elif by.startswith("operator"):
        value += 1
    elif by == "under no_grad":
        with fg.no_grad():
            value += 1
    elif value.dtype != np.float64:
        return  # an optimizer changes floats only
    else:
        sgd(value, np.ones(3), 0.1)
    if by in ("operator", "assignment") or op is None:  # a matmul is reached by way of a reshape
        expected = fg.grad(lambda x: record(x)[1].sum())(A)
        result.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), expected)
        return
    with pytest.raises(RuntimeError) as error:
        result.sum().backward()
    assert str(error.value) == changed(op, which)
    assert x.grad is None


def test_a_leaf_cannot_change_while_it_is_recorded():
    x = leaf()
    for name, op in (("+=", "add"), ("-=", "subtract"), ("*=", "multiply"), ("/=", "divide"), ("//=", "floor_divide"),
                     ("%=", "remainder"), ("**=", "power")):  # fmt: skip
        with pytest.raises(RuntimeError) as error:
            OPERATORS[name](x, 1.0)
        assert str(error.value) == (
            f"{op}: a tensor made with requires_grad=True is changed in place while gradients are recorded; do it "
            "under fg.no_grad(), or make a new tensor"
        )
    assert x.tolist() == A.tolist()
    y = x * x
    with fg.no_grad():
        x -= 1.0
    assert x.requires_grad and x.is_leaf and x.tolist() == (A - 1).tolist()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()
    (x * x).sum().backward()
    assert x.grad.tolist() == (2 * (A - 1)).tolist()


def test_a_matrix_product_in_place():
    m = np.array([[1.0, 2.0], [3.0, 4.0]])
    for dtype in (np.float64, np.float32, np.int32):
        x = y = fg.tensor(m.astype(dtype))
        y @= m.astype(dtype)
        assert x is y and x.dtype == dtype and x.tolist() == (m @ m).tolist()
    x = leaf(m)
    y = x * 2.0
    y @= x
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), fg.grad(lambda x: fg.sum(2.0 * x @ x))(m), rtol=1e-14)
    with pytest.raises(RuntimeError, match="^matmul: a tensor made with requires_grad=True is changed in place"):
        x @= m


# ---- assignment to elements ----------------------------------------------------------------------------------------
KEYS = [
    0,
    -1,
    slice(1, None),
    Ellipsis,
    [0, 2, 0],
    np.array([True, False, True]),
    np.array([], int),
    (slice(None), None),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.bool_])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_assigned_elements_are_those_of_numpy(key, dtype):
    for value in (A[0], A[key] * 2) if np.dtype(dtype).kind == "f" else (np.dtype(dtype).type(1),):
        x, expected = fg.tensor(A.astype(dtype)), A.astype(dtype)
        view = x.numpy()
        x[key] = value
        expected[key] = value
        assert x.dtype == dtype
        np.testing.assert_array_equal(x.numpy(), expected)
        np.testing.assert_array_equal(view, expected)


def test_assignment_is_recorded():
    def f(x, v):
        y = x * x
        square = y * y  # needs the y of before
        y[1:] = fg.exp(v)
        y[y > 5.0] = 0.0
        return fg.sum(y * x) + fg.sum(square)

    def values(x, v):
        y = x * x
        square = y * y
        y = y.at[1:].set(fg.exp(v))
        return fg.sum(fg.where(y > 5.0, 0.0, y) * x) + fg.sum(square)

    x, v = np.array([1.5, 2.5, 0.5]), np.array([0.25, 2.0])
    expected = fg.grad(values, (0, 1))(x, v)
    for run in (fg.grad(f, (0, 1)), fg.compile(fg.grad(f, (0, 1)))):
        for got, wanted in zip(run(x, v), expected):
            np.testing.assert_allclose(got, wanted, rtol=1e-15)
    mapped = fg.vmap(fg.grad(f))(np.stack([x, x + 1]), np.stack([v, v]))
    np.testing.assert_allclose(mapped[0], expected[0], rtol=1e-15)
    fg.check_grads(f, (x, v), order=2)


def test_assignment_is_refused_where_a_change_in_place_is():
    x = leaf()
    with pytest.raises(RuntimeError, match="requires_grad=True is changed in place while gradients are recorded"):
        x[0] = 1.0
    with fg.no_grad():
        x[0] = 1.0
    assert x.requires_grad and x.tolist() == [1.0, *A[1:]]

    def changes(x):
        x[0] = 1.0
        return fg.sum(x)

    with pytest.raises(RuntimeError, match=r"make a new tensor, as in x = x.at\[i\].set\(v\) instead of x\[i\] = v"):
        fg.grad(changes)(A)
    with pytest.raises(fg.TraceError, match="assignment changes an argument of the function in place"):
        fg.compile(lambda x: fg.scan(lambda c, t: (c.__setitem__(0, t), c), x, x)[0])(A)
    outside = fg.tensor(A)
    with pytest.raises(fg.TraceError, match="assignment changes a tensor in place that was made before"):
        fg.compile(lambda t: outside.__setitem__(0, t[0]))(A)
    with pytest.raises(IndexError):
        outside[3] = 1.0
    with pytest.raises(TypeError):
        fg.tensor([1, 2])[0] = x
    with pytest.raises(ValueError):
        outside[:2] = A
    assert outside.tolist() == A.tolist()


def test_a_failed_change_changes_nothing():
    x = leaf()
    y = x * 1.0
    for other, error in (([1.0, 2.0], ValueError), (np.ones((2, 3)), ValueError), (np.ones((3, 3)), ValueError)):
        with pytest.raises(error):
            y += other
    with pytest.raises(TypeError):
        y += "a"
    (y * y).sum().backward()
    assert x.grad.tolist() == (2 * A).tolist()


# ---- which tensors a change reaches ----------------------------------------------------------------------------------
DERIVED = {
    "detach": lambda x: x.detach(), "reshape": lambda x: x.reshape(3, 1), "ravel": lambda x: x.ravel(),
    "x[:]": lambda x: x[:], "x[...]": lambda x: x[...], "T": lambda x: x.T, "squeeze": lambda x: x.squeeze(),
    "x[None]": lambda x: x[None], "transpose": lambda x: x.transpose(0), "+x": lambda x: +x, "copy": lambda x: x.copy(),
    "astype": lambda x: x.astype(x.dtype), "broadcast_to": lambda x: fg.broadcast_to(x, (3,)),
    "concatenate": lambda x: fg.concatenate([x]), "stop_gradient": fg.stop_gradient,
}  # fmt: skip


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("by", ["operator", "optimizer"])
@pytest.mark.parametrize("changes", ["the tensor", "what was made of it"])
def test_what_is_made_of_a_tensor_is_a_value_of_its_own(name, by, changes):
    x = fg.tensor(A)
    derived = DERIVED[name](x)
    one, other = (x, derived) if changes == "the tensor" else (derived, x)
    if by == "operator":
        one += 1
    else:
        sgd(one, np.full(one.shape, -10.0), 0.1)
    np.testing.assert_allclose(one.numpy().ravel(), A + 1)
    assert other.numpy().ravel().tolist() == A.tolist()


@pytest.mark.parametrize("name", DERIVED)
def test_the_gradient_is_right_or_refused_when_what_was_made_of_a_tensor_changes(name):
    x = leaf()
    y = x * 1.0
    derived = DERIVED[name](y)
    loss = (y * y).sum() + (fg.exp(derived)).sum()
    with fg.no_grad():
        derived *= 3.0
    cut = name in ("detach", "stop_gradient")
    try:
        loss.backward()
    except RuntimeError as error:
        assert "changed in place" in str(error)
    else:
        np.testing.assert_allclose(x.grad.numpy(), 2 * A + (0 if cut else np.exp(A)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_a_numpy_view_sees_in_place_changes(dtype):
    x = fg.tensor([1, 2, 3], dtype)
    view, buffer, array = x.numpy(), memoryview(x), np.asarray(x)
    x += 1
    x *= 2
    assert view.tolist() == buffer.tolist() == array.tolist() == [4, 6, 8]
    assert np.shares_memory(view, x.numpy())


def test_a_numpy_view_cannot_be_written():
    x = fg.tensor(A)
    for view in (x.numpy(), np.asarray(x), np.asarray(memoryview(x)), x.numpy()[1:], x.numpy().T):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True


def test_a_numpy_view_outlives_its_tensor():
    view = fg.tensor(A).numpy()[::-1]
    filler = [fg.tensor(B) for _ in range(100)]
    assert view.tolist() == A[::-1].tolist() and len(filler) == 100


@pytest.mark.parametrize("size", [3, 1000])
def test_asarray_shares_memory_both_ways(size):
    memory = np.arange(float(size))
    x = fg.asarray(memory)
    memory += 1
    assert x.tolist() == memory.tolist()
    x *= 2
    assert x.tolist() == memory.tolist()
    with np.errstate(all="raise"):
        x += x
    assert x.tolist() == memory.tolist() == (4 * np.arange(1.0, size + 1)).tolist()


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shift", [-1, 1, 0, 7])
def test_operands_that_overlap(name, shift):
    memory = np.linspace(1, 3, 1200)
    expected = memory.copy()
    x, other = slice(10, 1010), slice(10 + shift, 1010 + shift)
    y = fg.asarray(memory[x])
    OPERATORS[name](y, fg.asarray(memory[other]))
    expected[x] = OUT_OF_PLACE[name](expected[x], expected[other].copy())
    np.testing.assert_allclose(memory, expected, rtol=1e-14)


def test_a_read_only_array_is_never_written():
    memory = np.arange(200.0)
    memory.flags.writeable = False
    for change in (lambda x: operator.iadd(x, 1), lambda x: sgd(x, -np.ones(200), 1)):
        x = fg.asarray(memory)
        change(x)
        assert x.tolist() == list(range(1, 201))
        assert memory.tolist() == list(range(200))


# ---- memory that is written behind the tape's back -------------------------------------------------------------------
def plain(n):
    memory = np.arange(1.0, n + 1)
    return memory, memory


def a_read_only_view(n):
    memory = np.arange(1.0, n + 1)
    view = memory[:]
    view.flags.writeable = False
    return memory, view


def strided(n):
    memory = np.repeat(np.arange(1.0, n + 1), 2)
    return memory, memory[::2]


def a_tensors_view(n):
    owner = fg.arange(1.0, n + 1)
    return owner, owner.numpy()


def a_view_of_a_view(n):
    owner = fg.arange(1.0, n + 1)
    return owner, fg.asarray(owner.numpy()[:]).numpy().reshape(n)


@pytest.mark.parametrize("n", [3, 1000])
@pytest.mark.parametrize("make", [plain, a_read_only_view, strided, a_tensors_view, a_view_of_a_view])
@pytest.mark.parametrize(
    "convert", [fg.asarray, lambda a: fg.asarray(a).reshape(-1, 1).ravel(), lambda a: a, fg.from_dlpack]
)
def test_an_ndarray_that_changes_after_it_was_recorded(make, convert, n):
    memory, view = make(n)
    if NUMPY_2_0 and convert is fg.from_dlpack and not view.flags.writeable:
        pytest.skip("NumPy 2.0 exports no read-only memory by DLPack")
    x = fg.ones(n, requires_grad=True)
    y = (x * convert(view)).sum() + fg.sum(fg.take(x, np.arange(n)) * view)
    memory *= 0
    memory -= 7
    y.backward()
    assert x.grad.tolist() == (2 * np.arange(1.0, n + 1)).tolist()


def test_labels_masks_and_indices_that_change_after_they_were_recorded():
    """A label that was checked and then changed must not send the backward pass outside of its array."""
    x = fg.tensor(np.arange(12.0).reshape(4, 3), requires_grad=True)
    labels, index, mask = np.array([0, 1, 2, 0]), np.array([0, 2, 0]), np.arange(12).reshape(4, 3) % 2 == 0
    tensors = [fg.asarray(a) for a in (labels, index, mask)]
    views = [a[:] for a in (labels, index, mask)]
    for view in views:
        view.flags.writeable = False

    def loss(labels, index, mask):
        return fg.losses.softmax_cross_entropy(x, labels) + fg.take(x, index, 0).sum() + fg.where(mask, x, 0.0).sum()

    loss(labels.copy(), index.copy(), mask.copy()).backward()
    expected = x.grad.numpy().copy()
    for values in (tensors, views):
        labels[:], index[:], mask[:] = [0, 1, 2, 0], [0, 2, 0], np.arange(12).reshape(4, 3) % 2 == 0
        x.zero_grad()
        y = loss(*values)
        labels[:], index[:], mask[:] = 2**40, -(2**40), False
        y.backward()
        np.testing.assert_array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize("n", [3, 1000])
def test_dlpack_hands_out_memory_that_may_be_written(n):
    t = fg.arange(0.0, n)
    theirs = np.from_dlpack(t)
    if NUMPY_2_0:  # it takes for read-only whatever it imports
        theirs = np.ctypeslib.as_array((ctypes.c_double * n).from_address(theirs.ctypes.data))
    theirs[:] = 5
    assert t.tolist() == [5] * n, "no copy"
    x = fg.ones(n, requires_grad=True)
    y = (x * t).sum()
    theirs[:] = 7
    y.backward()
    assert x.grad.tolist() == [5] * n


@pytest.mark.parametrize("n", [3, 1000])
@pytest.mark.parametrize("share", [
    lambda t: t.detach(), lambda t: t.reshape(-1, 1), lambda t: fg.tensor(t) if t.requires_grad is None else t,
])  # fmt: skip
def test_dlpack_does_not_hand_out_for_writing_what_the_tape_or_another_tensor_holds(n, share):
    x, t = fg.ones(n, requires_grad=True), fg.arange(0.0, n)
    y = (x * t).sum()
    exported = share(t)
    for consumer in (exported, Consumer(exported), Consumer(exported, max_version=(1, 0), dl_device=(1, 0), copy=True)):
        array = np.from_dlpack(consumer)
        if array.flags.writeable:
            array[:] = 99
    assert t.tolist() == exported.ravel().tolist() == list(range(n))
    y.backward()
    assert x.grad.tolist() == list(range(n))


def test_dlpack_to_one_that_writes_read_only_memory():
    """PyTorch is told that memory is read-only, and writes it."""
    x, t = leaf(), fg.tensor(B)
    y = (x * t).sum()
    array = np.from_dlpack(t)
    ctypes.memset(array.ctypes.data, 0, array.nbytes)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), B)


class Consumer:
    """One that asks with these keyword arguments. An old one knows none: it cannot be told of read-only memory."""

    def __init__(self, x, **options):
        self.__dlpack_device__ = x.__dlpack_device__
        self.x, self.options = x, options

    def __dlpack__(self, **kwargs):
        return self.x.__dlpack__(**self.options)


def test_dlpack_of_the_tape_is_a_copy_or_read_only():
    x, t = leaf(), fg.tensor(B)
    kept = x * t
    assert not np.shares_memory(np.from_dlpack(t), t.numpy())
    shared = Consumer(t, max_version=(1, 0), copy=False)
    if NUMPY_2_0:
        with pytest.raises(BufferError, match="readonly"):
            np.from_dlpack(shared)
    else:
        array = np.from_dlpack(shared)
        assert np.shares_memory(array, t.numpy()) and not array.flags.writeable and kept.requires_grad
    with pytest.raises(BufferError, match="use .detach"):
        np.from_dlpack(x)
    with pytest.raises(BufferError, match="device"):
        t.__dlpack__(dl_device=(2, 0))


def test_a_gradient_is_not_spoiled_by_a_change_of_the_argument_in_place():
    """In-place operators within f act on f's own tensor, never on the caller's array."""
    for n in (3, 1000):
        x = np.arange(float(n))

        def f(w):
            y = (w * w).sum()
            with fg.no_grad():
                w += 1
            return y + w.sum() * 0

        gradient = fg.grad(f)(x)
        assert x.tolist() == list(range(n))
        assert gradient.tolist() == (2 * x).tolist()


@pytest.mark.parametrize("kernel", ["sgd", "adam"])
@pytest.mark.parametrize("which", range(3))
def test_optimizer_kernels_tell_the_tape_of_all_that_they_write(kernel, which):
    p, m, v = (fg.tensor(A) for _ in range(3))
    x = leaf()
    y = (x * (p, m, v)[which]).sum()
    if kernel == "sgd":
        _core.UpdateRule("sgd", ([m],), sgd_numbers(0.1, momentum=0.9)).update([p], [np.ones(3)])
    else:
        _core.UpdateRule("adam", ([m], [v]), (0.5,) * 8).update([p], [np.ones(3)])
    if (p, m, v)[which].tolist() == A.tolist():
        assert kernel == "sgd" and which == 2
        y.backward()
        return
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_an_owner_of_memory_whose_finalizer_reads_the_tensor():
    """To drop the last reference to foreign memory may run any code, which must find the tensor in a valid state."""
    seen = []

    class Owner(np.ndarray):
        def __del__(self):
            seen.append(x.tolist())

    memory = Owner(300)
    memory.fill(7)
    memory.flags.writeable = False
    x = fg.asarray(memory)
    del memory
    x += 1  # takes memory of its own and lets the owner go
    assert seen == [[8] * 300]
