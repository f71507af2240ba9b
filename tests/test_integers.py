"""Kernels of integers and booleans: compiled programs against NumPy, with edge values, warnings and errors."""

import operator
import warnings

import numpy as np
import pytest
from _replay import same

import fastgrad as fg
from fastgrad import _core

INTEGERS = [np.dtype(c) for c in "bhilBHIL"]
DTYPES = [np.dtype(bool), *INTEGERS]
UNARY = "negative positive absolute sign square floor ceil trunc invert logical_not".split()
BINARY = """add subtract multiply maximum minimum fmax fmin bitwise_and bitwise_or bitwise_xor left_shift right_shift
    floor_divide remainder fmod power less less_equal greater greater_equal equal not_equal""".split()


def edges(dtype):
    if dtype.kind == "b":
        return np.array([True, False])
    limits, bits = np.iinfo(dtype), 8 * dtype.itemsize
    found = {limits.min, limits.min + 1, limits.max, limits.max // 3, 0, 1, 2, 7, bits - 1, bits, bits + 1, -1, -2, -7}
    return np.array(sorted(v for v in found if limits.min <= v <= limits.max), dtype)


def told(f, *args):
    """The result of f, or its error, and the warnings; floats raise nothing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = f(*args)
        except (TypeError, ValueError, OverflowError) as error:
            return str(error), []
    return result, sorted({str(w.message).split(" encountered")[0] for w in caught})


def compiled(name):
    """The ufunc of this name as an instruction, compiled."""
    ufunc = getattr(np, name)
    return fg.compile(lambda *xs: _core.by_numpy(ufunc, *xs))


def compare(name, f, *xs):
    expected, found = told(getattr(np, name), *xs), told(f, *xs)
    if isinstance(expected[0], str):
        assert found[0] == expected[0]
        return
    same(np.asarray(found[0]), np.asarray(expected[0]))
    assert found[1] == expected[1], (name, xs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", UNARY + BINARY)
def test_edge_values_are_numpys(name, dtype):
    ufunc, x = getattr(np, name), edges(dtype)
    try:
        if ufunc.resolve_dtypes((dtype,) * ufunc.nin + (None,))[-1].kind == "f":
            return  # before NumPy 2.1 the floor of an integer is a float
    except TypeError:  # NumPy has no loop for this dtype
        return
    f = compiled(name)
    if ufunc.nin == 1:
        for a in (x, x[:1].reshape(()), np.resize(x, 70), np.resize(x, 3000)):
            compare(name, f, a)
        return
    a, b = (v.ravel() for v in np.meshgrid(x, x))
    if name == "power":
        a, b = a[b >= 0], b[b >= 0]
    compare(name, f, a, b)  # all pairs, some of which are refused
    legal = b == b
    if name in ("floor_divide", "remainder", "fmod"):
        legal = (b != 0) & ~((b < 0) & (b + dtype.type(1) == 0))
    compare(name, f, np.resize(a[legal], 3000), np.resize(b[legal], 3000))  # in blocks
    for k in range(0, len(a), 7):
        compare(name, f, a[k], b[k])  # single ones
        if legal[k]:
            compare(name, f, x, b[k])  # one beside many
            compare(name, f, x[:, None], b[legal][:3])  # rows


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", UNARY + BINARY)
def test_eager_operations_are_numpys_however_many_the_elements(name, dtype):
    """A kernel computes a few, NumPy many, and Python ints and other dtypes are promoted as by NumPy."""
    ufunc, x = getattr(np, name), edges(dtype)
    try:
        if ufunc.resolve_dtypes((dtype,) * ufunc.nin + (None,))[-1].kind == "f":
            return  # before NumPy 2.1 the floor of an integer is a float
    except TypeError:
        with pytest.raises(TypeError):
            getattr(fg, name)(*[fg.asarray(x)] * ufunc.nin)
        return
    f = lambda *xs: getattr(fg, name)(*[fg.asarray(v) if isinstance(v, np.ndarray) else v for v in xs])
    if ufunc.nin == 1:
        for a in (x, x[:1].reshape(()), x[:0], np.resize(x, 3000)):
            compare(name, f, a)
        return
    a, b = (v.ravel() for v in np.meshgrid(x, x))
    for y in (b, b[0], b.astype(np.uint8), np.resize(b, (20, len(b)))):
        compare(name, f, a, y)
        compare(name, f, y, a)
    if dtype.kind != "b":
        for number in (0, 1, -1, 3, 2**63):
            compare(name, f, a, number)
            compare(name, f, number, a[-1:])


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_a_single_element_that_is_refused_warns_or_raises_as_numpy_does(dtype):
    one, zero = np.ones((), dtype), np.zeros((), dtype)
    for name in ("floor_divide", "remainder", "fmod"):
        f = compiled(name)
        f(one, one)
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            same(np.asarray(f(one, zero)), zero)
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            f(one, zero)
    if dtype.kind == "i":
        with pytest.raises(ValueError, match="negative integer powers"):
            compiled("power")(one, -one)


def test_a_refusal_within_a_loop_travels_out_of_it():
    f = fg.compile(lambda i, j: fg.scan(lambda c, _: (c // j, None), i, None, length=5)[0])
    same(np.asarray(f(np.int64(100), np.int64(2))), np.asarray(3))
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        f(np.int64(100), np.int64(0))
    with np.errstate(divide="ignore"):
        assert f(np.int64(100), np.int64(0)) == 0
    same(np.asarray(f(np.int64(100), np.int64(3))), np.asarray(0))


# ---- casts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("start", [np.float32, np.float64])
def test_floats_become_integers_as_numpys(start, dtype):
    f = fg.compile(lambda x: x.astype(dtype))
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    inside = np.array([0.0, -0.0, 0.9, 1.5, limits[1] // 2, max(limits[0], -7), -0.5], start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(np.asarray(f(inside)), inside.astype(dtype))
        same(np.asarray(f(np.resize(inside, 1000))), np.resize(inside, 1000).astype(dtype))
    for v in (np.nan, np.inf, -np.inf, 1e300 if start is np.float64 else 1e30, float(limits[1]) * 2 + 2):
        x = np.array([1.0, v], start)
        expected, found = told(lambda x: x.astype(dtype), x), told(f, x)
        same(np.asarray(found[0]), expected[0])
        assert found[1] == expected[1]


def test_integers_from_floats_carry_no_gradient():
    f = lambda x: fg.sum(fg.floor(x).astype(int) * x + fg.where(x.astype(bool), x, 0.0))
    for g in (fg.grad(f), fg.compile(fg.grad(f))):
        same(g(np.array([0.5, 2.5, 0.0])), np.array([1.0, 3.0, 0.0]))
    found = fg.jvp(lambda x: fg.floor(x).astype(int) + 0.0, (2.5,), (1.0,))
    assert float(found[0]) == 2 and float(found[1]) == 0


# ---- reductions, choices, indices -----------------------------------------------------------------------------------
REDUCTIONS = [fg.sum, fg.prod, fg.max, fg.min, fg.any, fg.all, fg.argmax, fg.argmin, fg.count_nonzero]


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda f: f.__name__)
def test_reductions_are_numpys(reduction):
    rng = np.random.default_rng(2)
    of = getattr(np, reduction.__name__)
    for dtype in DTYPES:
        x = rng.choice(edges(dtype), (3, 5, 4))
        axes = (None, 0, 1, 2) if "arg" in reduction.__name__ else (None, 0, 1, 2, (0, 2), (0, 1), (1, 2))
        for axis in axes:
            f = fg.compile(lambda x, axis=axis: reduction(x, axis=axis))
            same(np.asarray(f(x)), np.asarray(of(x, axis=axis)))
        same(np.asarray(fg.compile(reduction)(x[0, 0, 0])), np.asarray(of(x[0, 0, 0])))
        long = rng.choice(edges(dtype), 1000)
        same(np.asarray(fg.compile(reduction)(long)), np.asarray(of(long)))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_place_of_an_extreme_is_that_of_the_first_one_or_of_the_first_nan(name):
    rng = np.random.default_rng(3)
    f, rows = fg.compile(getattr(fg, name)), fg.compile(lambda x: getattr(fg, name)(x, axis=0, keepdims=True))
    for k in range(40):
        x = rng.integers(-4, 5, 1 + 37 * (k % 5) + k).astype(float)
        x[rng.random(x.size) < (0.02, 0, 0.3)[k % 3]] = np.nan
        assert f(x) == getattr(np, name)(x)
        table = np.stack([x, -x[::-1]], 1)
        same(np.asarray(rows(table)), getattr(np, name)(table, axis=0, keepdims=True))
    assert f(np.arange(1000)) == getattr(np, name)(np.arange(1000))
    with pytest.raises(ValueError, match="at least one element"):
        f(np.zeros(0))


def test_none_of_no_elements():
    x = np.zeros((2, 0), bool)
    for name in ("any", "all", "sum", "prod"):
        for axis in (None, 0, 1):
            f = fg.compile(lambda x, name=name, axis=axis: getattr(fg, name)(x, axis=axis))
            same(np.asarray(f(x)), np.asarray(getattr(np, name)(x, axis=axis)))


@pytest.mark.parametrize("dtype", [*DTYPES, np.dtype(np.float32), np.dtype(np.float64)], ids=str)
def test_choices_and_running_results_are_numpys(dtype):
    rng = np.random.default_rng(4)
    x, y = (rng.integers(0, 2 if dtype.kind == "b" else 6, (3, 4)).astype(dtype) for _ in range(2))
    mask = rng.random((3, 4)) < 0.5
    f = fg.compile(lambda m, x, y: (fg.where(m, x, y), fg.where(m[0, 0], x[0, 0], y[0, 0]), fg.where(m[0], x, y[0, 0])))
    for found, expected in zip(f(mask, x, y), (np.where(mask, x, y), np.where(mask[0, 0], x[0, 0], y[0, 0]),
                                               np.where(mask[0], x, y[0, 0]))):  # fmt: skip
        same(np.asarray(found), np.asarray(expected))
    long, chosen = np.resize(x, 5000), np.resize(mask, 5000)
    same(np.asarray(fg.compile(lambda m, x: fg.where(m, x, x[0]))(chosen, long)), np.where(chosen, long, long[0]))
    for name, of in (("cumsum", np.cumsum), ("cumprod", np.cumprod), ("cummax", np.maximum.accumulate)):
        g = fg.compile(lambda x, name=name: getattr(fg, name)(x, axis=0))
        same(np.asarray(g(x)), of(x, axis=0))


def test_indices_known_only_at_a_replay():
    x = np.arange(24).reshape(2, 3, 4)
    f = fg.compile(lambda x, i, j: (x[i, j], x[i, :, j], x[:, i, j], x[0].at[i].set(7), x[0, 0].at[j].add(i)))
    for i, j in [(1, 2), (-1, -3), (0, 0)]:
        i, j = np.int64(i), np.int64(j)
        rows, row = x[0].copy(), x[0, 0].copy()
        rows[i], row[j] = 7, row[j] + i
        for found, expected in zip(f(x, i, j), (x[i, j], x[i, :, j], x[:, i, j], rows, row)):
            same(np.asarray(found), np.asarray(expected))
    assert "numpy" not in str(f.program(x, np.int64(0), np.int64(0)))
    for i, j in [(2, 0), (0, 4), (-3, 0)]:
        with pytest.raises(IndexError, match="outside an axis of length"):
            f(x, np.int64(i), np.int64(j))
    g = fg.compile(lambda x, i: x.at[i].set(x[: i.shape[0]] + 100))
    for i in ([0, 2, 0], [-1, -1, 1], [2, 1, 0]):
        expected = np.arange(3)
        expected[i] = np.arange(3) + 100
        same(np.asarray(g(np.arange(3), np.array(i))), expected)
    with pytest.raises(IndexError, match="index 3 .*outside an axis of length 3"):
        g(np.arange(3), np.array([0, 3, 1]))


# ---- in loops -------------------------------------------------------------------------------------------------------
IN_LOOPS = {
    "arithmetic": lambda c: (c + 1) * 3 - c // 2 + c % 7,
    "signs": lambda c: -c + abs(c) + fg.sign(c),
    "limits": lambda c: fg.clip(fg.maximum(c, 2) + fg.minimum(c, 9), 0, 50) + 1,
    "power": lambda c: (c % 5) ** 3,
    "bits": lambda c: (c & 12 | 3) ^ ~c,
    "choices": lambda c: fg.where((c > 3) & ~(c == 7) | (c <= 1), c - 1, c + 2),
    "logic": lambda c: fg.where(fg.logical_and(c > 1, fg.logical_not(c % 2)) ^ fg.logical_or(c, c - 3), c + 1, c * 2),
    "casts": lambda c: (fg.floor(c % 100 * 1.5).astype(int) + c.astype(np.int32).astype(np.int64)) % 1000,
    "table": lambda c: fg.asarray(np.arange(10) * 7 % 10)[c % 10] + 1,
    "two": lambda c: fg.asarray(np.arange(12).reshape(3, 4))[c % 3, (c + 1) % 4],
    "sums": lambda c: fg.sum(c * np.arange(4)) + fg.prod(c % 3 + np.arange(3)) + fg.max(c + np.arange(3)),
    "places": lambda c: fg.argmax(c % np.arange(2, 6)) + fg.argmin(c % np.array([3.0, 5.0])) + c,
    "counts": lambda c: fg.any(c == np.arange(4)) + fg.all(c > np.arange(3)) + fg.count_nonzero(c % np.arange(1, 4)),
    "running": lambda c: fg.cumsum(c % 5 + np.arange(4))[2] + fg.cumprod(c % 3 + np.arange(3))[1],
    "update": lambda c: fg.sum(fg.asarray(np.arange(5)).at[c % 5].set(c % 7)),
    "rounded": lambda c: fg.round(c) + 1,
}  # fmt: skip


@pytest.mark.parametrize("name", IN_LOOPS)
def test_no_step_of_a_loop_on_integers_calls_numpy(name):
    step, n = IN_LOOPS[name], 9
    by_scan = fg.compile(lambda c: fg.scan(lambda c, _: (step(c), c), c, None, length=n))
    by_while = fg.compile(lambda c: fg.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, step(s[1])), (0, c))[1])
    by_fori = fg.compile(lambda c: fg.fori_loop(0, n, lambda i, c: step(c), c))
    expected = np.asarray(5)
    for _ in range(n):
        expected = np.asarray(step(fg.asarray(expected)))
    for f in (lambda c: by_scan(c)[0], by_while, by_fori):
        same(np.asarray(f(np.asarray(5))), expected)
    for f in (by_scan, by_while, by_fori):
        assert "numpy" not in str(f.program(np.asarray(5)))


def test_a_counter_takes_on_the_dtype_it_meets_without_numpy():
    f = fg.compile(lambda x: fg.fori_loop(0, 5, lambda i, x: x + i, x))
    for dtype in (np.int32, np.uint8, np.int64):
        same(np.asarray(f(np.zeros(2, dtype))), np.full(2, 10, dtype))
        assert "numpy" not in str(f.program(np.zeros(2, dtype)))
    with pytest.raises(OverflowError, match="Python integer 128 out of bounds for int8"):
        fg.compile(lambda x: fg.fori_loop(126, 130, lambda i, x: x + i, x))(np.zeros(2, np.int8))


def test_random_programs_of_integer_steps_run_as_numpy_does():
    """Carries of mixed dtypes through scan, beside the same steps in NumPy."""
    rng = np.random.default_rng(5)
    binary = [operator.add, operator.sub, operator.mul, operator.and_, operator.or_, operator.xor, np.maximum,
              np.minimum, lambda a, b: np.where(a > b, a, b), lambda a, b: np.where(a == b, a + a, b),
              lambda a, b: np.less(a, b) * a, lambda a, b: a // (b * 0 + 3), lambda a, b: a % (b * 0 + 5)]  # fmt: skip
    unary = [lambda a: ~a, lambda a: abs(a), lambda a: -a, np.square, np.sign, lambda a: a + 1, lambda a: a * 3]
    for trial in range(40):
        dtypes = [np.dtype(rng.choice(["i4", "i8", "u1", "i2"])) for _ in range(3)]
        shape = [(), (1,), (5,), (2, 3)][trial % 4]
        steps = [(int(rng.integers(3)), int(rng.integers(3)), int(rng.integers(3)),
                  binary[rng.integers(len(binary))], unary[rng.integers(len(unary))]) for _ in range(5)]  # fmt: skip

        def body(carry, steps=steps, dtypes=dtypes):
            carry = list(carry)
            for i, j, k, f, g in steps:
                carry[k] = g(f(carry[i], carry[j])).astype(dtypes[k])
            return tuple(carry)

        start = tuple(rng.integers(0, 100, shape).astype(d) for d in dtypes)
        expected = start
        with np.errstate(all="ignore"):
            for _ in range(6):
                expected = body(tuple(np.asarray(v) for v in expected))
        f = fg.compile(lambda *c: fg.scan(lambda c, _: (body(c), None), c, None, length=6)[0])
        for found, value in zip(f(*start), expected):
            same(np.asarray(found), np.asarray(value))


# ---- what goes with them --------------------------------------------------------------------------------------------
def test_the_jvp_of_a_while_loop_runs_one_loop():
    def f(x, n):
        return fg.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, fg.sin(s[1]) * s[1] + 0.5), (0, x))[1]

    push = lambda x, n: fg.jvp(lambda x: f(x, n), (x,), (1.0,))
    twice = lambda x, n: fg.jvp(lambda x: push(x, n)[1], (x,), (1.0,))
    inner = lambda x, n: fg.scan(lambda c, _: (sum(push(c, n)) * 0.1, None), x, None, length=3)[0]
    for g in (push, twice, inner):
        compiled = fg.compile(g)
        for n in (0, 1, 7):
            np.testing.assert_allclose(np.asarray(compiled(0.3, n)), np.asarray(g(0.3, n)), rtol=1e-13)
        assert str(compiled.program(0.3, 7)).count("= while_loop") == 1
    apart = fg.compile(lambda x, n: (f(x, n), f(x + 1, n), push(x, n)))  # only one is computed by another
    np.testing.assert_allclose(apart(0.3, 5)[1], f(1.3, 5), rtol=1e-13)
    assert str(apart.program(0.3, 5)).count("= while_loop") == 2
    y, push_on = fg.linearize(lambda x: f(x, 4), 0.3)
    depends = fg.compile(lambda x: fg.jvp(lambda z: f(z, 4), (x,), (f(x, 4),)))  # its tangent needs the first loop
    np.testing.assert_allclose(depends(0.3)[1], push_on(y), rtol=1e-13)


def test_a_number_times_itself_is_a_square():
    x = np.array([0.5, -2.0, np.inf, np.nan])
    same(np.asarray(fg.tensor(x) * fg.tensor(x)), x * x)
    f = fg.compile(lambda x: (x * x, fg.multiply(x, x)))
    assert "square" in str(f.program(x)) and "multiply" not in str(f.program(x))
    same(np.asarray(f(x)[0]), x * x)
    g = fg.compile(fg.grad(lambda x: fg.sum(x * x)))
    same(g(x[:2]), 2 * x[:2])
    fg.check_grads(lambda x: fg.sum(x * x * x), (x[:2],), order=2)
    t = fg.tensor([1.5], requires_grad=True)
    (t * t).backward(np.ones(1))
    same(t.grad.numpy(), np.array([3.0]))
    same(np.asarray(fg.compile(lambda b: b * b)(np.array([True, False]))), np.array([True, False]))


def test_single_floats_are_compared_and_chosen_as_numpy_does():
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan])
    for dtype in (np.float32, np.float64):
        f = fg.compile(lambda a, b: (a < b, a <= b, a > b, a >= b, a == b, a != b, fg.where(a < b, a, b)))
        for a in values.astype(dtype):
            for b in values.astype(dtype):
                expected = (a < b, a <= b, a > b, a >= b, a == b, a != b, np.where(a < b, a, b))
                for found, value in zip(f(a, b), expected):
                    same(np.asarray(found), np.asarray(value))
