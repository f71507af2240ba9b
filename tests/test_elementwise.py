"""Every row of csrc/ops.def, and the functions composed of them: values, gradients, dtypes, layouts, extremes."""

import math

import mpmath
import numpy as np
import pytest
from _errors import raises_text
from _oracles import (
    BINARY,
    FLOATS,
    FUNCTIONS,
    LIMITS,
    ROWS,
    UNARY,
    exact,
    extremes,
    gradients,
    layouts,
    off,
    pairs,
    same_bits,
    samples,
)  # fmt: skip

import fastgrad as fg
from fastgrad._rules import formula

LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 127, 255, 256, 257, 511, 513, 1000, 1025]
NUMPY = [name for name in ROWS if isinstance(getattr(np, name, None), np.ufunc)]

# Where the text in high precision is no oracle, and why.
NO_ORACLE = {
    # of a negative base: b - 1 is rounded, perhaps to an integer where b is none, or to an even one
    "power": lambda a, b, info: (a < 0) & ((b != np.rint(b)) | (np.abs(b) >= 1 / info.eps)),
}


def allclose(got, expected, dtype, ulp, message):
    """Equal classes and signs, finite numbers within some ULP; the sign of a zero counts too."""
    info = np.finfo(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        close = np.abs(got - expected) <= ulp * (info.eps * np.abs(expected) + info.smallest_subnormal)
    bad = ~((got == expected) | ((got != got) & (expected != expected)) | (np.isfinite(expected) & close))
    assert not bad.any(), f"{message}: " + "; ".join(
        f"at {k} got {got[k]!r}, expected {expected[k]!r}" for k in np.flatnonzero(bad)[:3]
    )


# ---- values -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_value_within_the_domain(name, dtype):
    """Within the bound of docs/accuracy.md of the definition in high precision."""
    points = samples(ROWS[name], 40, dtype)
    got = FUNCTIONS[name](*points).numpy()
    assert got.dtype == dtype
    for k, point in enumerate(zip(*points)):
        error, expected = off(name, point, got[k])
        assert error <= LIMITS[name], (
            f"{name}{point} = {got[k]!r}, exactly {mpmath.nstr(expected, 20)}: {error:.2f} ULP off"
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NUMPY)
def test_value_at_the_extremes_is_numpys(name, dtype):
    values = extremes(dtype)
    args = [values] if ROWS[name]["arity"] == 1 else pairs(values)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*args)
    got = FUNCTIONS[name](*args).numpy()
    allclose(got, expected, dtype, 4, name)
    if name not in {"maximum", "minimum", "fmax", "fmin"}:  # of 0 and -0 NumPy takes the one its SIMD code meets
        zero = got == 0
        wrong = zero & (np.signbit(got) != np.signbit(expected))
        assert not wrong.any(), f"{name}: the sign of the zero differs at {[a[wrong][:3] for a in args]}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [name for name in ROWS if name not in NUMPY])
def test_value_at_the_extremes_is_the_definitions(name, dtype):
    points = at_the_extremes(name, dtype)
    got = FUNCTIONS[name](*points).numpy()
    for k, point in enumerate(zip(*points)):
        error, expected = off(name, point, got[k])
        assert error <= LIMITS[name], f"{name}{point} = {got[k]!r}, exactly {mpmath.nstr(expected, 20)}"


ODD_POLES = {"gamma", "digamma"}  # of -0 the value is infinite with another sign; the oracle has no -0


def at_the_extremes(name, dtype):
    """Finite extremes; an argument that is positive by its row's domain stays so where NumPy sets no example."""
    values = extremes(dtype, inf=False)
    if ROWS[name]["arity"] == 1:
        return [values[(values != 0) | ~np.signbit(values)] if name in ODD_POLES else values]
    a, b = pairs(values[::2])
    keep = (b > 0) if name not in NUMPY and ROWS[name]["domain"][1][0] > 0 else np.full(b.shape, True)
    if name == "betaln":
        keep &= a > 0
    return [a[keep], b[keep]]


AT_INFINITY = {
    # name: (at -inf, at inf)
    "sigmoid": (0, 1), "log_sigmoid": (-np.inf, 0), "softplus": (0, np.inf), "relu": (0, np.inf), "relu6": (0, 6),
    "selu": (-1.7580993408473766, np.inf), "silu": (0, np.inf), "gelu": (0, np.inf), "gelu_tanh": (0, np.inf),
    "mish": (0, np.inf), "hard_tanh": (-1, 1), "hard_sigmoid": (0, 1), "hard_swish": (0, np.inf), "erf": (-1, 1),
    "erfc": (2, 0), "tanh_shrink": (-np.inf, np.inf), "softsign": (-1, 1), "erfcx": (np.inf, 0),
    "erfinv": (np.nan, np.nan), "erfcinv": (np.nan, np.nan), "ndtr": (0, 1), "log_ndtr": (-np.inf, 0),
    "ndtri": (np.nan, np.nan), "logit": (np.nan, np.nan), "log1mexp": (np.nan, 0), "entr": (-np.inf, -np.inf),
    "gammaln": (np.inf, np.inf), "digamma": (np.nan, np.inf), "trigamma": (np.inf, 0), "gamma": (np.nan, np.inf),
    "stirling_error": (np.nan, np.inf),
    "rgamma": (0, 0), "j0": (0, 0), "j1": (0, 0), "i0": (np.inf, np.inf), "i0e": (0, 0), "i1": (-np.inf, np.inf),
    "i1e": (0, 0),
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [name for name in UNARY if name not in NUMPY])
def test_value_at_infinity_and_nan(name, dtype):
    got = FUNCTIONS[name](np.array([-np.inf, np.inf, np.nan], dtype)).numpy()
    allclose(got, np.array([*AT_INFINITY[name], np.nan], dtype), dtype, 2, name)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_nan_comes_through(name, dtype):
    numbers, nans = np.array([-1, 0.5, 2], dtype), np.full(3, np.nan, dtype)
    passes = {"fmax": numbers, "fmin": numbers, "prelu": numbers, "elu": numbers, "celu": numbers}
    for args in ((numbers, nans), (nans, numbers), (nans, nans)):
        got = FUNCTIONS[name](*args).numpy()
        if name in NUMPY:
            with np.errstate(invalid="ignore"):
                allclose(got, getattr(np, name)(*args), dtype, 2, name)
        elif not (name in passes and args[0] is numbers) and "shrink" not in name:
            assert np.isnan(got).all(), f"{name}{args} = {got}"


@pytest.mark.parametrize(
    "f, x, value, gradient",
    [
        (fg.log_sigmoid, -1000, -1000, 1), (fg.log_sigmoid, 1000, -0.0, 0), (fg.softplus, 1e30, 1e30, 1),
        (fg.softplus, -1e30, 0, 0), (fg.gelu, 1e30, 1e30, 1), (fg.gelu, -1e30, -0.0, 0), (fg.silu, 1e30, 1e30, 1),
        (fg.silu, -1e30, -0.0, 0), (fg.mish, 1e30, 1e30, 1), (fg.mish, -1e30, -0.0, 0), (fg.elu, -1e30, -1, 0),
        (fg.elu, 1e30, 1e30, 1), (fg.celu, -1e30, -1, 0), (fg.sigmoid, -1e30, 0, 0), (fg.sigmoid, 1e30, 1, 0),
        (fg.tanh, 1e30, 1, 0), (fg.softsign, 1e30, 1, 0), (fg.hard_swish, 1e30, 1e30, 1), (fg.relu, 0, 0, 0),
        (fg.hard_swish, 3, 3, 1), (fg.hard_swish, -3, -0.0, 0), (fg.relu, -0.0, -0.0, 0), (fg.relu6, 6, 6, 0),
        (fg.absolute, 0, 0, 0), (fg.leaky_relu, 0, 0, 0.01),
        (fg.square, 1e19, 1e38, 2e19), (lambda x: fg.gelu(x, "tanh"), -1e30, -0.0, 0),
        (lambda x: fg.hypot(x, 0), 0, 0, 0), (lambda x: fg.power(x, 2), 0, 0, 0), (lambda x: fg.power(x, 0), 0, 1, 0),
        (lambda x: fg.power(2.0, x), 3, 8, 8 * np.log(2)), (lambda x: fg.maximum(x, 1), 1, 1, 0.5),
        (lambda x: fg.minimum(x, 1), 1, 1, 0.5), (lambda x: fg.fmax(x, np.nan), 2, 2, 1),
        (lambda x: fg.logaddexp(x, 1e30), 1e30, 1e30, 0.5), (lambda x: fg.logaddexp(x, -1e30), 3, 3, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", FLOATS)
def test_stable_and_chosen_values(f, x, value, gradient, dtype):
    x = np.array(x, dtype)
    same_bits(f(x), np.array(value, dtype))
    np.testing.assert_allclose(gradients(f, x)[0], gradient, rtol=np.finfo(dtype).eps, atol=1e-45)


# ---- gradients ----------------------------------------------------------------------------------------------
def check_gradients(name, points, dtype, cotangent=None):
    """Each derivative against its text in high precision, where the value and the derivative are normal numbers."""
    row, info = ROWS[name], np.finfo(dtype)
    value = FUNCTIONS[name](*points).numpy()
    for i, got in enumerate(gradients(FUNCTIONS[name], *points, cotangent=cotangent)):
        assert got.dtype == dtype
        usable = np.full(value.shape, True)
        if "y" in formula.names(row["derivatives"][i]):
            usable = (value == 0) | (np.abs(value) >= info.tiny) & np.isfinite(value)
        if name in NO_ORACLE:
            usable &= ~NO_ORACLE[name](*points, info)
        for k in np.flatnonzero(usable):
            point = [p[k] for p in points]
            expected = exact(row, *point, derivative=i)
            if not mpmath.isfinite(expected) or abs(expected) > float(info.max):
                continue
            expected *= 1 if cotangent is None else float(cotangent[k])
            error = abs(mpmath.mpf(float(got[k])) - expected) if np.isfinite(got[k]) else mpmath.inf
            assert error <= float(info.eps) * (512 * abs(expected) + 8), (
                f"d {name} / d argument {i} at {point} is {got[k]!r}, exactly {mpmath.nstr(expected, 20)}"
            )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_gradient_within_the_domain(name, dtype):
    points = samples(ROWS[name], 20, dtype, seed=1)
    check_gradients(name, points, dtype, np.linspace(-2, 3, 20).astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_gradient_at_the_extremes(name, dtype):
    """Finite and right wherever the true derivative is finite; at kinks, what the table says."""
    check_gradients(name, at_the_extremes(name, dtype), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_gradient_by_finite_differences(name, dtype):
    fg.check_grads(FUNCTIONS[name], tuple(samples(ROWS[name], 6, dtype, seed=2)))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(
    "shapes", [((3, 1), (4,)), ((), (2, 3)), ((2, 1, 3), (4, 1)), ((2, 0), (1, 1)), ((1,), (3, 1))]
)
def test_gradient_of_broadcast_operands(name, shapes):
    """That of the stretched operands, summed back over the axes that were stretched."""
    f, domain = FUNCTIONS[name], ROWS[name]["domain"]
    rng = np.random.default_rng(3)
    a, b = (rng.uniform(lo, hi, shape) for (lo, hi), shape in zip(domain, shapes))
    whole = np.broadcast_shapes(*shapes)
    g = rng.uniform(0.5, 2, whole)
    same_bits(f(a, b), f(np.broadcast_to(a, whole), np.broadcast_to(b, whole)))
    full = gradients(f, np.broadcast_to(a, whole), np.broadcast_to(b, whole), cotangent=g)
    for got, operand, stretched in zip(gradients(f, a, b, cotangent=g), (a, b), full):
        axes = tuple(range(len(whole) - operand.ndim)) + tuple(
            len(whole) - operand.ndim + i for i, n in enumerate(operand.shape) if n == 1
        )
        expected = stretched.sum(axis=axes, keepdims=True).reshape(operand.shape)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BINARY)
def test_one_tensor_as_both_operands(name):
    """Its gradient is the sum of both derivatives."""
    x = np.array([0.75, 1.5])
    t = fg.tensor(x, requires_grad=True)
    FUNCTIONS[name](t, t).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), sum(gradients(FUNCTIONS[name], x, x)), rtol=1e-14)


# ---- where the elements lie ---------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_result_does_not_depend_on_place_length_or_stride(name, dtype):
    """The same bits for a value wherever it stands, forward and backward."""
    f = FUNCTIONS[name]
    values = samples(ROWS[name], 16, dtype, seed=4)
    cotangent = np.linspace(-1, 2, 16).astype(dtype)
    expected = f(*values).numpy()
    slopes = gradients(f, *values, cotangent=cotangent)
    for n in LENGTHS:
        at = (np.arange(n) * 5 + n) % 16
        args = [v[at] for v in values]
        same_bits(f(*args), expected[at], f"{name}, length {n}")
        for got, slope in zip(gradients(f, *args, cotangent=cotangent[at]), slopes):
            same_bits(got, slope[at], f"gradient of {name}, length {n}")
    for k in range(16):
        alone = [v[k : k + 1] for v in values]
        same_bits(f(*alone), expected[k : k + 1], f"{name}, element {k} alone")
        for got, slope in zip(gradients(f, *alone, cotangent=cotangent[k : k + 1]), slopes):
            same_bits(got, slope[k : k + 1], f"gradient of {name}, element {k} alone")
    if len(values) == 2:
        for k in range(16):
            for args in ((values[0][k], np.full(33, values[1][k])), (np.full(33, values[0][k]), values[1][k])):
                same_bits(f(*args), np.full(33, expected[k]), f"{name}{args}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_layouts_of_memory(name, dtype):
    """Strides, byte order, alignment and read-only memory change nothing; inputs are never modified."""
    f = FUNCTIONS[name]
    args = [x.reshape(3, 5) for x in samples(ROWS[name], 15, dtype, seed=5)]
    expected = f(*args).numpy()
    others = [layouts(x) for x in args]
    for layout in others[0]:
        laid = [x[layout] for x in others]
        before = [x.copy() for x in laid]
        for x in laid:
            x.flags.writeable = False
        same_bits(f(*laid), np.broadcast_to(expected, laid[0].shape), f"{name} of {layout} input")
        for x, y in zip(laid, before):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_shapes_and_kinds_of_input(name, dtype):
    """0-d, size 0, rank 32, tensors, NumPy scalars, lists and Python numbers."""
    f = FUNCTIONS[name]
    args = [x[:1] for x in samples(ROWS[name], 1, dtype, seed=6)]
    expected = f(*args).numpy()
    for shape in [(), (1,), (1,) * 32]:
        same_bits(f(*(x.reshape(shape) for x in args)), expected.reshape(shape), f"{name} of shape {shape}")
    for shape in [(0,), (2, 0, 3)]:
        empty = [np.zeros(shape, dtype) for _ in args]
        same_bits(f(*empty), np.zeros(shape, dtype), f"{name} of shape {shape}")
        for g in gradients(f, *empty):
            same_bits(g, np.zeros(shape, dtype), f"gradient of {name} of shape {shape}")
    same_bits(f(*(fg.tensor(x) for x in args)), expected)
    same_bits(f(*(x[0] for x in args)), expected[0], f"{name} of NumPy scalars")
    wide = [x.astype(np.float64) for x in args]
    same_bits(f(*(x.tolist() for x in wide)), f(*wide), f"{name} of lists")
    same_bits(f(*(x.item() for x in wide)), f(*wide).numpy()[0], f"{name} of Python numbers")


@pytest.mark.parametrize("name", ROWS)
def test_wrong_operands_are_refused_by_name(name):
    n = ROWS[name]["arity"]
    for bad in (
        "text",
        b"bytes",
        np.array([1j]),
        np.array([object()]),
        np.zeros(1, "M8[s]"),
        np.zeros(2, np.float16),
        None,
    ):
        with pytest.raises(TypeError, match=f"^{name}: expected"):
            FUNCTIONS[name](*[bad] * n)
    with pytest.raises(
        ValueError, match=f"^{name}: expected an array or nested lists of equal lengths, got ragged ones"
    ):
        FUNCTIONS[name](*[[[1.0], [1.0, 2.0]]] * n)
    with pytest.raises(TypeError, match=f"^{name}: expected a plain array, got a masked one"):
        FUNCTIONS[name](*[np.ma.masked_array([1.0], [True])] * n)
    with pytest.raises(TypeError, match="argument"):
        FUNCTIONS[name](*[1.0] * (n + 1))
    if n == 2:
        with pytest.raises(
            ValueError, match=rf"^{name}: shapes \(2,\) and \(3,\) do not broadcast: axis -1 has lengths 2 and 3"
        ):
            FUNCTIONS[name](np.ones(2), np.ones(3))


# ---- functions composed of the rows ----------------------------------------------------------------------------
X = np.array([[-2.3, -0.7, -0.2, 0.4], [0.9, 1.3, 2.6, -1.1]])
sigmoid = lambda x: 1 / (1 + np.exp(-x))
COMPOSED = {
    # name: (ours, the same in NumPy)
    "leaky_relu": (fg.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "leaky_relu, slope": (lambda x: fg.leaky_relu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * x)),
    "prelu": (lambda x: fg.prelu(x, [0.1, 0.2, 0.3, 0.4]), lambda x: np.where(x > 0, x, x * [0.1, 0.2, 0.3, 0.4])),
    "elu": (fg.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
    "elu, alpha": (lambda x: fg.elu(x, alpha=0.4), lambda x: np.where(x > 0, x, 0.4 * np.expm1(x))),
    "celu, alpha": (lambda x: fg.celu(x, alpha=0.4), lambda x: np.where(x > 0, x, 0.4 * np.expm1(x / 0.4))),
    "hard_shrink": (fg.hard_shrink, lambda x: np.where(np.abs(x) > 0.5, x, 0)),
    "soft_shrink": (fg.soft_shrink, lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
    "gelu, tanh": (
        lambda x: fg.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "glu": (fg.glu, lambda x: x[:, :2] * sigmoid(x[:, 2:])),
    "glu, axis": (lambda x: fg.glu(x, axis=0), lambda x: x[:1] * sigmoid(x[1:])),
    "swish": (fg.swish, lambda x: x * sigmoid(x)), "expit": (fg.expit, sigmoid),
    "sinc": (fg.sinc, np.sinc), "round": (fg.round, np.round),
    "round, 1": (lambda x: fg.round(x, 1), lambda x: np.round(x, 1)),
    "around, -1": (lambda x: fg.around(x * 20, -1), lambda x: np.around(x * 20, -1)), "fix": (fg.fix, np.trunc),
    "clip": (lambda x: fg.clip(x, -0.5, 1), lambda x: np.clip(x, -0.5, 1)),
    "clip, below": (lambda x: fg.clip(x, min=-0.5), lambda x: np.clip(x, -0.5, None)),
    "clip, above": (lambda x: fg.clip(x, max=[0, 1, 2, 3]), lambda x: np.clip(x, None, [0, 1, 2, 3])),
    "nan_to_num": (fg.nan_to_num, np.nan_to_num), "float_power": (lambda x: fg.float_power(x + 3, 1.5),
    lambda x: np.float_power(x + 3, 1.5)),
    "ldexp": (lambda x: fg.ldexp(x, [1, -2, 3, 0]), lambda x: np.ldexp(x, [1, -2, 3, 0])),
    "modf, fraction": (lambda x: fg.modf(x)[0], lambda x: np.modf(x)[0]),
    "modf, whole": (lambda x: fg.modf(x)[1], lambda x: np.modf(x)[1]),
    "divmod, quotient": (lambda x: fg.divmod(x, 0.8)[0], lambda x: np.divmod(x, 0.8)[0]),
    "divmod, remainder": (lambda x: fg.divmod(x, 0.8)[1], lambda x: np.divmod(x, 0.8)[1]),
    "where": (lambda x: fg.where(x > 0, x, 2 * x), lambda x: np.where(x > 0, x, 2 * x)),
    "abs": (fg.abs, np.abs), "fabs": (fg.fabs, np.fabs), "pow": (lambda x: fg.pow(x, 2), lambda x: x**2),
    "mod": (lambda x: fg.mod(x, 0.8), lambda x: np.mod(x, 0.8)), "deg2rad": (fg.deg2rad, np.deg2rad),
    "rad2deg": (fg.rad2deg, np.rad2deg), "true_divide": (lambda x: fg.true_divide(1, x), lambda x: 1 / x),
    "atan": (fg.atan, np.arctan), "asinh": (fg.asinh, np.arcsinh),
    "atan2": (lambda x: fg.atan2(x, 2), lambda x: np.arctan2(x, 2)),
    "asin": (lambda x: fg.asin(x / 3), lambda x: np.arcsin(x / 3)),
    "acos": (lambda x: fg.acos(x / 3), lambda x: np.arccos(x / 3)),
    "acosh": (lambda x: fg.acosh(x + 4), lambda x: np.arccosh(x + 4)),
    "atanh": (lambda x: fg.atanh(x / 3), lambda x: np.arctanh(x / 3)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", COMPOSED)
def test_composed_functions(name, dtype):
    ours, theirs = COMPOSED[name]
    x = X.astype(dtype)
    got = ours(x)
    expected = theirs(x)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got.numpy(), expected, rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    fg.check_grads(ours, (x,))
    same_bits(ours(fg.tensor(x)), got)


def test_composed_functions_at_the_edges():
    inf, nan = np.inf, np.nan
    x = np.array([inf, -inf, nan, 0.0, -0.0, 2.5])
    for ours, theirs in zip((*fg.modf(x), fg.round(x), fg.nan_to_num(x), fg.nan_to_num(x, True, 1.0, 2.0, 3.0)),
                            (*np.modf(x), np.round(x), np.nan_to_num(x),
                            np.nan_to_num(x, nan=1.0, posinf=2.0, neginf=3.0))):  # fmt: skip
        same_bits(ours, theirs)
    same_bits(gradients(fg.nan_to_num, x)[0], np.array([0, 0, 0, 1.0, 1, 1]))
    np.testing.assert_array_equal(fg.sinc([0.0, 1e-200]).numpy(), 1)
    assert gradients(fg.sinc, np.float64(0))[0] == 0
    whole, rest = np.arange(-6.0, 7), 2.0**-20
    np.testing.assert_array_equal(fg.sinc(whole).numpy(), whole == 0)
    beside = (-1) ** np.abs(whole) * np.sin(np.pi * rest) / (np.pi * (whole + rest))
    beside[whole == 0] = 1 - (np.pi * rest) ** 2 / 6
    np.testing.assert_allclose(fg.sinc(whole + rest).numpy(), beside, rtol=2e-15)
    assert fg.sinc(np.float32(0.5)).dtype == np.float32


@pytest.mark.parametrize("x, gradient", [(-2, 0), (-1, 1), (0.5, 1), (1, 1), (2, 0)])
def test_clip_passes_the_gradient_within_the_bounds_and_on_them(x, gradient):
    low, high = fg.tensor(-1.0, requires_grad=True), fg.tensor(1.0, requires_grad=True)
    t = fg.tensor(float(x), requires_grad=True)
    fg.clip(t, low, high).backward()
    assert t.grad.item() == gradient
    got = [0 if bound.grad is None else bound.grad.item() for bound in (low, high)]
    assert got == [float(x < -1), float(x > 1)]


@pytest.mark.parametrize(
    "name", "isfinite isinf isnan signbit logical_not less less_equal greater greater_equal equal not_equal "
    "logical_and logical_or logical_xor".split()
)  # fmt: skip
def test_predicates(name):
    theirs = getattr(np, name)
    x = np.array([-1.0, -0.0, 0.0, 1.0, np.inf, -np.inf, np.nan])
    args = [x] if theirs.nin == 1 else pairs(x)
    expected = theirs(*args)
    for operands in (args, [fg.tensor(a, requires_grad=True) for a in args], [a.astype(np.float32) for a in args]):
        got = getattr(fg, name)(*operands)
        same_bits(got, expected)
        assert not got.requires_grad


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: fg.gelu(1.0, approximate="erf"), "gelu: expected approximate='none' or 'tanh', got 'erf'"),
        (lambda: fg.glu([1.0, 2, 3]), "glu: expected an even length along axis 0, got shape (3,)"),
        (lambda: fg.ldexp(1.0, 2.0), "ldexp: expected integer exponents, got float64"),
        (lambda: fg.where(fg.tensor([1.0], requires_grad=True), 1.0, 2.0),
         "where: the condition is a tensor that requires gradients; compare it first, as in x > 0"),
    ],
)  # fmt: skip
def test_error_texts(call, message):
    with raises_text((ValueError, TypeError), message):
        call()
