"""Large float arrays from outside a compiled function, which replays read from where they lie: a change in place of any
element is seen by the next call, without a trace."""

import types

import numpy as np
import pytest

import fastgrad as fg

SIZE = 40  # SIZE x SIZE elements are more than are compared at each call
rng = np.random.default_rng(0)
X = rng.standard_normal(SIZE)


def table():
    return np.random.default_rng(1).standard_normal((SIZE, SIZE))


class Slotted:
    __slots__ = ("a",)


GLOBAL = table()


def by_closure(a):
    return lambda x: fg.tanh(a @ x)


def by_global(a):
    globals()["GLOBAL"] = a
    return lambda x: fg.tanh(GLOBAL @ x)


def by_attribute(a):
    model = types.SimpleNamespace(a=a)
    return lambda x: fg.tanh(model.a @ x)


def by_slot(a):
    model = Slotted()
    model.a = a
    return lambda x: fg.tanh(model.a @ x)


def by_entry(a):
    found = {"a": [a]}
    return lambda x: fg.tanh(found["a"][0] @ x)


def by_default(a):
    return lambda x, a=a: fg.tanh(a @ x)


def by_view(a):
    part = a[:]
    return lambda x: fg.tanh(part @ x)


def by_rows(a):
    part = a[: SIZE // 2]
    return lambda x: fg.tanh(part @ x)


def by_asarray(a):
    return lambda x: fg.tanh(fg.asarray(a) @ x)


def in_scan(a):
    return lambda x: fg.scan(lambda c, _: (fg.tanh(a @ c), c), x, None, length=3)[1]


def in_cond(a):
    return lambda x: fg.cond(x[0] < 5, lambda x: a @ x, lambda x: x, x)


def in_vmap(a):
    return lambda x: fg.vmap(lambda u: fg.sum(fg.tanh(a @ u)))(fg.stack([x, 2 * x]))


def in_grad(a):
    return fg.grad(lambda x: fg.sum(fg.tanh(a @ x) ** 2))


def in_vmap_of_grad(a):
    return lambda x: fg.vmap(fg.grad(lambda u: fg.sum(fg.tanh(a @ u))))(fg.stack([x, 2 * x]))


def in_checkpoint(a):
    return fg.grad(lambda x: fg.sum(fg.checkpoint(lambda u: fg.tanh(a @ u))(x)))


def by_it(a):
    return lambda x: fg.grad(lambda b: fg.sum(fg.tanh(b @ x)))(a)


KINDS = [
    by_closure, by_global, by_attribute, by_slot, by_entry, by_default, by_view, by_rows, by_asarray, in_scan, in_cond,
    in_vmap, in_grad, in_vmap_of_grad, in_checkpoint, by_it,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_changed_element_is_seen_by_the_next_call(kind):
    a, traces = table(), []
    inner = kind(a)

    def f(x):
        traces.append(0)
        return inner(x)

    compiled = fg.compile(f)
    compiled(X)
    assert any(b is not None for b in compiled.program(X).live)
    for k in range(30):
        a[3, k] = 10 + k
        np.testing.assert_allclose(compiled(X), np.asarray(fg.asarray(kind(a)(X))), rtol=1e-12, atol=1e-12)
    assert compiled.cache_info().misses == 1


def test_changes_of_the_whole_array_are_traced_ever_more_rarely():
    a, traces = table(), []

    def f(x):
        traces.append(0)
        return a @ x

    compiled = fg.compile(f)
    compiled(X)
    for k in range(100):
        a[:] = k
        np.testing.assert_allclose(compiled(X), a @ X)
    assert len(traces) <= 6  # the trace and its check, and two more of changes


def test_what_numpy_makes_of_it_is_traced_anew():
    a = table()
    compiled = fg.compile(lambda x: a @ x + a.mean())
    for _ in range(5):
        np.testing.assert_allclose(compiled(X), a @ X + a.mean())
        a += 1
    compiled(X)
    a[0, 0] += 1e6
    with pytest.raises(fg.TraceError, match=r"elements of a, a large array .* were changed"):
        for _ in range(100):
            compiled(X)
    np.testing.assert_allclose(compiled(X), a @ X + a.mean())


def test_a_branch_on_it_is_traced_anew():
    a = table()
    compiled = fg.compile(lambda x: a @ x if a.sum() < 1e5 else -(a @ x))
    for value in (1, 1000, 2, 2000):
        a[:] = value
        np.testing.assert_allclose(compiled(X), a @ X if value < 100 else -(a @ X))


@pytest.mark.parametrize("part", [slice(None), slice(3, 5)], ids=["whole", "rows"])
def test_a_branch_that_a_later_change_takes_is_an_error(part):
    """Traces of earlier changes gave the same program, so most changes are passed over; but not for ever."""
    a = np.ones((SIZE, SIZE))
    compiled = fg.compile(lambda x: a @ x if a.max() < 1000 else -(a @ x))
    for k in range(600):
        a[part] = k
        np.testing.assert_allclose(compiled(X), a @ X)
    with pytest.raises(fg.TraceError, match=r"elements of a, a large array .* were changed"):
        for k in range(20_000):
            a[part] = 1000 + k
            compiled(X)
    np.testing.assert_allclose(compiled(X), -(a @ X))


def test_changes_of_rows_are_no_reason_to_run_eagerly():
    a, traces = np.zeros((400, SIZE)), []

    def f(x):
        traces.append(0)
        return a @ x

    compiled = fg.compile(f)
    for k in range(3000):
        a[k % 400] = k
        found = compiled(X)
    np.testing.assert_allclose(found, a @ X)
    assert compiled.cache_info().hits == 2999
    assert len(traces) < 20


def test_results_beside_the_program():
    """A change is seen without an error where constants among the results stay, and traced anew where they do not."""
    a = table()
    tagged = fg.compile(lambda x: {"y": a @ x, "tag": "t", "n": 1.5, "none": np.arange(3)})
    named = fg.compile(lambda x: {"low": a @ x} if a.sum() < 1e5 else {"high": a @ x})
    told = fg.compile(lambda x: (a @ x, "low" if a.sum() < 1e5 else "high"))
    for k in range(60):
        a[3, k % SIZE] = 10 + k
        found = tagged(X)
        np.testing.assert_allclose(found["y"], a @ X)
        assert (found["tag"], found["n"], found["none"].tolist()) == ("t", 1.5, [0, 1, 2])
    assert tagged.cache_info().misses == 1
    for value, name in [(1, "low"), (1000, "high"), (2, "low")]:
        a[:] = value
        assert list(named(X)) == [name]
        assert told(X)[1] == name


def test_a_result_that_is_the_array_itself():
    a = table()
    compiled = fg.compile(lambda x: (a @ x, a, fg.asarray(a)))
    for _ in range(4):
        product, itself, tensor = compiled(X)
        for found in (itself, tensor):
            np.testing.assert_array_equal(found, a)
            assert not np.shares_memory(found, a)
        np.testing.assert_allclose(product, a @ X)
        a *= 2


def test_a_buffer_that_the_function_fills_is_a_constant():
    buffer = np.zeros((SIZE, SIZE))

    def f(x):
        buffer[:] = 3
        y = buffer @ x
        buffer[:] = 0
        return y

    compiled = fg.compile(f)
    for _ in range(3):
        np.testing.assert_allclose(compiled(X), 3 * X.sum() * np.ones(SIZE))


def test_memory_is_shared_and_kept_alive():
    a = np.ones((1000, SIZE))
    compiled = fg.compile(lambda x: fg.sum(a @ x))
    assert compiled.program(X).facts["constant_bytes"] < 1000
    held = compiled.program(X)
    expected = np.sum(a @ X)
    del compiled
    np.testing.assert_allclose(held.run([X])[0], expected)


@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype) on a NumPy array:DeprecationWarning")
def test_an_array_that_gets_another_shape_is_traced_anew():
    """So is a small one, whose elements are compared; a program by itself, which cannot be traced, refuses it."""
    for size in (SIZE, 4 * SIZE):
        a = np.arange(4.0 * size)
        compiled = fg.compile(lambda x, a=a: fg.sum(x) + fg.asarray(a) * x[0])
        same = lambda: np.testing.assert_allclose(compiled(X), X.sum() + a * X[0], strict=True)
        same()
        program = compiled.program(X)
        a.shape = 4, size
        if size > SIZE:
            with pytest.raises(fg.TraceError, match="another shape or dtype than it had"):
                program.run([X])
        same()
        a.shape = -1
        same()
        a.dtype = np.int64
        same()


def test_integers_and_other_layouts_are_constants_that_are_watched():
    integers, columns = np.arange(SIZE**2).reshape(SIZE, SIZE), np.asfortranarray(table())
    compiled = fg.compile(lambda x: integers @ x + columns @ x)
    for _ in range(3):
        np.testing.assert_allclose(compiled(X), integers @ X + columns @ X)
        integers += 1
        columns *= 2


def test_integers_above_a_megabyte_are_compared_whole():
    """A change of one element of a table that is a constant is met in turn, wherever it is."""
    for at in (0, 300_000, -1):
        table = np.zeros(600_000, np.int32)
        compiled = fg.compile(lambda x, table=table: x + table[3])
        compiled(X)
        table[at] = 1
        with pytest.raises(fg.TraceError, match=r"elements of table, a large array .* were changed"):
            for _ in range(table.nbytes // 256 + 1):
                compiled(X)


def test_long_programs_compare_more_at_once():
    """So that a change is met after few calls, where a call takes long anyway."""
    labels, x = np.zeros(400_000, np.int64), np.ones((400_000, 3))
    compiled = fg.compile(lambda x: fg.sum(fg.where(labels[:, None] == 0, fg.exp(x), 0.0)))
    compiled(x)
    labels[123_456] = 1
    with pytest.raises(fg.TraceError, match=r"elements of labels, a large array .* were changed"):
        for _ in range(30):
            compiled(x)
    np.testing.assert_allclose(compiled(x), 3 * 399_999 * np.e)


def test_training():
    a, y = rng.standard_normal((200, 4)), rng.standard_normal(200)
    step = fg.training_step(lambda w: fg.mean((a @ w - y) ** 2), np.zeros(4), "sgd")
    for k in range(20):
        before = step.params.copy()
        np.testing.assert_allclose(step(), np.mean((a @ before - y) ** 2))
        a[k] = k
        y[-k] = -k


def test_descend_and_minimize():
    scale, x = np.ones(200), rng.standard_normal((200, 3))
    loss = lambda w: fg.mean(scale * (x @ w - 1) ** 2)

    def weaken(info):
        scale[info.step % 200] = 0.5

    found = []
    for compile in (True, False):
        scale[:] = 1
        found.append(fg.descend(loss, np.zeros(3), optimizer="sgd", steps=40, callback=weaken, compile=compile))
    np.testing.assert_allclose(found[0].history, found[1].history, rtol=1e-12)
    np.testing.assert_allclose(found[0].params, found[1].params, rtol=1e-12)

    target = np.zeros(300)
    objective = lambda v: fg.sum((v - target) ** 2)
    for k in range(3):
        np.testing.assert_allclose(fg.minimize(objective, np.ones(300)).x, target, atol=1e-5)
        target[5 * k] = 3.0
