"""The counter of a fori_loop: a weak int64 that a trace does not carry unless it is read."""

import numpy as np
import pytest

import fastgrad as fg


def test_fori_loop():
    f = lambda x: fg.fori_loop(1, 6, lambda i, v: v * x + fg.take(np.arange(10.0), i), x)
    x = expected = 0.9
    for i in range(1, 6):
        expected = expected * x + i
    assert np.isclose(float(f(fg.tensor(x))), expected) and np.isclose(fg.compile(f)(x), expected)
    np.testing.assert_allclose(fg.compile(fg.grad(f))(x), fg.grad(f)(x), rtol=1e-14)


# ---- the counter of a fori_loop is a Python int to what it meets -----------------------------------------------------
COUNTED = {
    "times": lambda i, x: x + 0.1 * i * x,
    "integers": lambda i, x: x * (0.5 * i + 1) - (i * i - 2 * i) * x,
    "alone": lambda i, x: x + i,
    "divided": lambda i, x: x * (i / 3) + i // 2 * x + i % 3,
    "power": lambda i, x: x**i + 2**i * x + i**2 * x,
    "compared": lambda i, x: fg.where(i < 2, x, x * 0.5) + (x > i) * x + (0.5 * i < 1) * x,
    "where": lambda i, x: fg.where(i % 2 == 0, x, i) + np.maximum(x, i) + fg.clip(x, -i, i),
    "function of NumPy": lambda i, x: np.multiply(x, i) + np.add(0.25 * i, x),
    "negated": lambda i, x: x * -i + abs(i),
    "within a scan": lambda i, x: fg.scan(lambda c, _: (c + 0.1 * i * c, None), x, length=2)[0],
    "within a fori_loop": lambda i, x: fg.fori_loop(0, 3, lambda j, y: y + 0.1 * i * j + i - j, x),
    "within a cond": lambda i, x: fg.cond(i < 2, lambda x: x * (0.1 * i), lambda x: x + i, x),
    "operand of a cond": lambda i, x: fg.cond(i < 2, lambda i, x: x * (0.1 * i), lambda i, x: x + i, i, x),
    "argument of checkpoint": lambda i, x: fg.checkpoint(lambda i, x: fg.tanh(x) * (0.1 * i))(i, x),
    "argument of compile": lambda i, x: fg.compile(lambda i, x: x * (0.1 * i))(i, x),
    "argument of vmap": lambda i, x: fg.vmap(lambda i, x: x * (0.1 * i), (None, 0))(i, x),
}
COUNTING = {
    "value": lambda f: f,
    "gradient": lambda f: fg.grad(lambda x: fg.sum(f(x) ** 2)),
    "hessian": lambda f: fg.hessian(lambda x: fg.sum(f(x))),
    "tangent": lambda f: lambda x: fg.jvp(f, (x,), (x / 2,))[1],
    "mapped": lambda f: lambda x: fg.vmap(f)(fg.stack([x, x * 2])),
    "mapped gradient": lambda f: lambda x: fg.vmap(fg.grad(lambda x: fg.sum(f(x))))(fg.stack([x, x * 2])),
}


@pytest.mark.parametrize("name", COUNTED)
def test_the_counter_of_a_fori_loop_is_weak(name):
    def loop(x):
        return fg.fori_loop(1, 4, COUNTED[name], x)

    def unrolled(x):
        for i in range(1, 4):
            x = COUNTED[name](i, x)
        return x

    x = np.array([0.5, 1.5, -1.25])
    for dtype in (np.float32, np.float64):
        for what, transform in COUNTING.items():
            expected = np.asarray(transform(unrolled)(fg.tensor(x.astype(dtype))))
            for found in (transform(loop)(fg.tensor(x.astype(dtype))), fg.compile(transform(loop))(x.astype(dtype))):
                found = np.asarray(found)
                assert found.dtype == expected.dtype == dtype, (what, found.dtype, expected.dtype)
                np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6, err_msg=what)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.compile], ids=["eager", "compiled"])
def test_the_counter_reaches_the_ends_of_int64(wrap):
    def counted(lower, upper):
        last, steps = wrap(lambda: fg.fori_loop(lower, upper, lambda i, v: (i, v[1] + 1), (0, 0)))()
        return int(last), int(steps)

    assert counted(2**63 - 3, 2**63) == (2**63 - 1, 3)
    assert counted(-(2**63), 2 - 2**63) == (1 - 2**63, 2)
    for lower, upper in [(2**65, 0), (0, -(2**65)), (2**65, 2**65), (2**70, 2**65)]:
        assert counted(lower, upper) == (0, 0), f"steps from {lower} to {upper}"
    for lower, upper in [(2**63, 2**63 + 1), (2**63 - 1, 2**63 + 1), (-(2**63) - 1, 0), (0, 2**64), (-1, 2**63)]:
        with pytest.raises(OverflowError, match=f"fori_loop: .* int64, got lower {lower} and upper {upper}; begin at"):
            counted(lower, upper)


def test_the_counter_is_an_int64_tensor():
    for wrap in (lambda f: f, fg.compile):
        kinds = []
        found = wrap(lambda: fg.fori_loop(2**53, 2**53 + 2, lambda i, c: (kinds.append((i.dtype, i.shape)), i)[1], 0))()
        assert found == 2**53 + 1 and found.dtype == np.int64
        assert set(kinds) == {(np.dtype(np.int64), ())}
        started = wrap(lambda: fg.fori_loop(-2, 2, lambda i, c: (c[0] + i, c[1] * 2), (np.int8(0), 1.0)))()
        assert started[0] == -2 and started[0].dtype == np.int8 and started[1] == 16
        with pytest.raises(OverflowError, match="out of bounds for int8"):
            wrap(lambda: fg.fori_loop(200, 202, lambda i, c: c + i, np.int8(0)))()
        with pytest.raises(TypeError, match="fori_loop: carry came in as float64 .* float32"):
            wrap(lambda: fg.fori_loop(0, 2, lambda i, c: c.astype(np.float32), 1.0))()
    with pytest.raises(TypeError, match="integer"):
        fg.fori_loop(0, 2.0, lambda i, c: c, 1.0)
    assert fg.compile(lambda: fg.fori_loop(0, 3, lambda i, c: c, ()))() == ()
    successor = fg.compile(lambda: fg.fori_loop(0, 3, lambda i, c: fg.add(i, 1), 0))  # as the loop itself computes it
    assert successor() == 3
    kept = []
    fg.fori_loop(0, 3, lambda i, c: (kept.append(i), c)[1], 0)
    assert [int(i) for i in kept] == [0, 1, 2]


# ---- memory ---------------------------------------------------------------------------------------------------------
def test_a_counter_that_is_not_read_is_not_carried():
    def bodies(body):
        program = fg.compile(lambda x: fg.fori_loop(0, 9, body, x)).program(1.0)
        return sum("= add" in line and "int64" in line for line in str(program).splitlines())

    assert bodies(lambda i, c: c * 0.5) == 0
    assert bodies(lambda i, c: c * 0.5 + i) == 1


@pytest.mark.parametrize("dtype", [float, int])
@pytest.mark.parametrize("transform", [lambda f: f, lambda f: lambda x: fg.vmap(f)(fg.stack([x, x]))])
def test_a_fori_loop_takes_the_same_memory_for_any_number_of_steps(dtype, transform):
    body = (lambda i, c: c * 3 + i) if dtype is int else (lambda i, c: c * 0.5 + 0.1 * i)
    memory = []
    for n in (10, 10**12):
        program = fg.compile(transform(lambda x: fg.fori_loop(0, n, body, x))).program(np.ones(3, dtype))
        memory.append((program.facts["peak_bytes"], program.facts["constant_bytes"]))
    assert memory[0] == memory[1]
    assert sum(memory[0]) < 4000


def test_counters_that_are_kept_are_not_counted_on():
    """A counter that nobody keeps is used again by the next step."""
    kept, arrays, inside, ids = [], [], [], set()

    def body(i, c):
        ids.add(id(i))
        return c + i

    assert fg.fori_loop(5, 105, body, 0.0).item() == sum(range(5, 105))
    assert len(ids) == 1
    for keep in (
        lambda i: kept.append(i),
        lambda i: arrays.append(i.numpy()),
        lambda i: inside.append(fg.vmap(lambda x: x * i)(np.ones(2))),
        lambda i: inside.append(lambda: i),
        lambda i: inside.append(fg.asarray(i)),
    ):
        del kept[:], arrays[:], inside[:]
        fg.fori_loop(0, 4, lambda i, c, keep=keep: (keep(i), c)[1], 0.0)
        found = [x() if callable(x) else x for x in [*kept, *arrays, *inside]]
        np.testing.assert_array_equal([np.max(x) for x in found], range(4))
    np.testing.assert_array_equal(fg.fori_loop(0, 4, lambda i, c: (c[1], i), (0, 0)), (2, 3))
    x = np.array([0.5, 1.5])
    slope = fg.grad(lambda x: fg.fori_loop(0, 4, lambda i, c: c * x[i % 2] + i * x[0], x[1]))(x)
    by_hand = fg.grad(lambda x: (((x[1] * x[0]) * x[1] + x[0]) * x[0] + 2 * x[0]) * x[1] + 3 * x[0])(x)
    np.testing.assert_allclose(slope, by_hand, rtol=1e-15)
