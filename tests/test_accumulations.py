"""Running sums, products and extrema, statistics, the keywords of reductions, and the methods of ufuncs against NumPy;
gradients against differences, also where elements are 0, tie, or are nan."""

import contextlib

import numpy as np
import pytest
from _expressions import as_numpy, function, in_every_mode, quietly, same
from _oracles import FLOATS, same_bits
from _samples import NUMPY_2_0

import fastgrad as fg
from fastgrad import _core
from fastgrad._numpy.protocol import UFUNCS

RNG = np.random.default_rng(5)
X = RNG.permutation(np.linspace(-2, 2.1, 60)).reshape(3, 4, 5)
MASK = RNG.random(X.shape) < 0.6
MASK[0, 1] = False
WITH_NAN = np.where(RNG.random(X.shape) < 0.25, np.nan, X)
ALL_NAN = WITH_NAN.copy()
ALL_NAN[1, :, 2] = np.nan
TIED = RNG.integers(-2, 3, X.shape) * 1.0
INFINITE = np.where(RNG.random(X.shape) < 0.2, np.inf, np.where(RNG.random(X.shape) < 0.2, -np.inf, X))
MASKED = "np.arange(60).reshape(3, 4, 5) % 7 > 1"

SMOOTH = [
    "m.cumsum(x, 1)", "m.cumprod(x)", "m.cumprod(x, axis=0)", "m.cumprod(x, 1)", "m.cumprod(x, axis=-1)",
    "np.maximum.accumulate(x)", "np.maximum.accumulate(x, axis=1)", "np.minimum.accumulate(x, -1)",
    "np.multiply.accumulate(x, 2)", "np.add.accumulate(x, 1)", "np.logaddexp.accumulate(x, 0)",
    "np.logaddexp.accumulate(x, axis=2)", "m.cumulative_sum(x, axis=1)", "m.cumulative_prod(x, axis=2)",
    "m.cumulative_sum(x, axis=0, include_initial=True)", "m.cumulative_prod(x, axis=-1, include_initial=True)",
    "m.nancumsum(x, 1)", "m.nancumprod(x)", "m.nancumprod(x, axis=0)",
    "m.prod(x)", "m.prod(x, axis=1)", "m.prod(x, axis=(0, 2), keepdims=True)",
    "m.nansum(x)", "m.nansum(x, axis=1, keepdims=True)", "m.nanprod(x, axis=0)", "m.nanmean(x, axis=(0, 1))",
    "m.nanmean(x)", "m.nanvar(x, axis=1)", "m.nanvar(x, 1, ddof=1)", "m.nanvar(x, axis=1, ddof=3)",
    "m.nanstd(x, axis=(0, 2), keepdims=True)", "m.nanmax(x, axis=1)", "m.nanmin(x)",
    "m.nanmax(x, axis=(2, 0), keepdims=True)",
    "m.ptp(x)", "m.ptp(x, axis=1, keepdims=True)", "m.average(x)", "m.average(x, axis=1)",
    "m.average(x, axis=1, weights=[1.0, 2.0, 0.5, 3.0])", "m.average(x, weights=1 + np.arange(60.0).reshape(3, 4, 5))",
    "m.average(x, axis=(2, 0), weights=1 + np.arange(15.0).reshape(5, 3), keepdims=True)",
    "m.average(x, axis=0, weights=[1.0, 2.0, 3.0], returned=True)", "m.average(x, axis=2, returned=True)",
    "m.cov(x[0])", "m.cov(x[0], x[1])", "m.cov(x[0], rowvar=False)", "m.cov(x[0, 0])", "m.cov(x[0], bias=True)",
    "m.cov(x[0], ddof=2)", "m.cov(x[0], fweights=[1, 2, 0, 1, 3])", "m.cov(x[0], aweights=[1.0, 2.0, 0.5, 1.0, 3.0])",
    "m.cov(x[0], fweights=[1, 2, 0, 1, 3], aweights=[1.0, 2.0, 0.5, 1.0, 3.0])",
    "m.cov(x[0], aweights=[1.0, 2.0, 0.5, 1.0, 3.0], ddof=0)",
    "m.corrcoef(x[0])", "m.corrcoef(x[0], x[1], rowvar=False)",
    "m.trapezoid(x)", "m.trapezoid(x, dx=0.5, axis=1)", "m.trapezoid(x, [0.0, 1.0, 3.0, 4.5], axis=1)",
    "m.trapezoid(x, np.cumsum(np.ones((3, 4, 5)) * 0.3, 0), axis=0)",
    "m.gradient(x)", "m.gradient(x, 0.5)", "m.gradient(x, axis=1)", "m.gradient(x, 2.0, axis=(0, 2))",
    "m.gradient(x, 2.0, [0.0, 1.0, 1.5, 4.0], 0.1, edge_order=2)", "m.gradient(x, [0.0, 1.0, 1.5, 4.0], axis=1)",
    "m.gradient(x, edge_order=2)", "m.ediff1d(x)", "m.ediff1d(x, to_end=[1.0, 2.0], to_begin=9.0)",
    "m.unwrap(x * 4)", "m.unwrap(x * 4, axis=0)", "m.unwrap(x * 9, discont=5, axis=1)", "m.unwrap(x * 3, period=2.5)",
    *[f"m.{name}(x, axis={axis}, where={MASKED}{more})" for axis in (None, 1, (0, 2)) for name, more in (
        ("sum", ""), ("prod", ", initial=2.0"), ("mean", ", keepdims=True"), ("std", ", ddof=1"), ("var", ""),
        ("max", ", initial=-1.5"), ("min", ", initial=5.0, keepdims=True"), ("nansum", ", initial=1.0"),
        ("nanmean", ""), ("nanvar", ", ddof=1"), ("nanmax", ", initial=-9.0"), ("nanmin", ", initial=0.1"))],
    "m.sum(x, initial=3.0)", "m.max(x, axis=0, initial=0.3)", "m.min(x, initial=-3.0)", "m.sum(x, 1, dtype=np.float64)",
    "m.prod(x, axis=0, dtype=np.float64)", "m.mean(x, axis=1, dtype=np.float64)", "m.std(x, axis=1, dtype=np.float64)",
    "m.var(x, axis=1, mean=np.full((3, 1, 5), 0.25))", "m.std(x, axis=(0, 1), correction=1)", "m.var(x, correction=2)",
    "m.cumsum(x, 0, dtype=np.float64)", "m.cumprod(x, 0, dtype=np.float64)",
    "np.subtract.reduce(x)", "np.subtract.reduce(x, axis=1, keepdims=True)", "np.hypot.reduce(x, axis=2)",
    "np.hypot.reduce(x[0, 0, 0], axis=-1)", "np.hypot.reduce(x[:, :, :1], axis=2)",
    "np.logaddexp.reduce(x, 1)", "np.fmax.reduce(x, axis=1)", "np.fmin.reduce(x)", "np.divide.accumulate(x, axis=1)",
    "np.arctan2.accumulate(x)", "np.add.reduce(x, 1, initial=2.0)", "np.multiply.reduce(x, axis=None)",
    f"np.add.reduce(x, axis=0, where={MASKED})", "np.multiply.outer(x[0], x[1, 0])",
    "np.logaddexp.outer(x[0, 0], x[1])",
]  # fmt: skip
DISCRETE = [
    "m.nanargmax(x)", "m.nanargmin(x, axis=1)", "m.nanargmax(x, axis=0, keepdims=True)",
    "np.logical_and.reduce(x, axis=1)", "np.logical_or.reduce(x > 1, axis=(0, 1))",
    "np.logical_and.accumulate(x, axis=1)", "np.logical_or.accumulate(x)", "np.logical_xor.accumulate(x, axis=2)",
]  # fmt: skip
ULPS = 64
if not hasattr(np, "cumulative_sum"):  # since NumPy 2.1
    SMOOTH = [text for text in SMOOTH if "cumulative" not in text]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("text", SMOOTH)
def test_values_and_gradients(text, dtype):
    x = X.astype(dtype)
    as_numpy(text, x, ULPS)
    in_every_mode(text, x)
    if dtype == np.float64:
        fg.check_grads(function(text, fg), (x,), order=2, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("x", [WITH_NAN, ALL_NAN, TIED, INFINITE], ids=["nan", "all nan", "ties", "infinities"])
@pytest.mark.parametrize("text", [t for t in SMOOTH if "arctan2" not in t and "corrcoef" not in t])
def test_special_values(text, x):
    if x is INFINITE and ("unwrap" in text or "gradient" in text):
        return  # nan at places that depend on the order of operations
    as_numpy(text, x, ULPS)


@pytest.mark.parametrize("text", DISCRETE)
def test_answers_that_are_no_floats(text):
    for x in (X, TIED, WITH_NAN):
        as_numpy(text, x)
        if x is not WITH_NAN:
            in_every_mode(text, x)


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("text", [
    "m.cumprod(x, 1)", "np.maximum.accumulate(x, 1)", "np.minimum.accumulate(x, 0)", "m.nancumsum(x)",
    "m.nanprod(x, 1)",
    "m.nancumprod(x, 2)", "m.nansum(x, 1)", "m.nanmean(x)", "m.nanvar(x, 0)", "m.nanmax(x, 1)", "m.average(x, 1)",
    "m.round(m.cov(x[0]), 12)", "m.cumulative_sum(x, axis=1)", "m.trapezoid(x)", "m.prod(x, axis=1)",
    "m.nanargmax(x, 1)",
    "m.sum(x, dtype=np.int32)", "m.sum(x, 1, dtype=np.float32)", f"m.max(x, 1, where={MASKED}, initial=0)",
    f"m.sum(x, 1, where={MASKED})", f"m.mean(x, 1, where={MASKED})", "m.prod(x, 0, dtype=np.int64)",
    "m.cumsum(x, 1, dtype=np.int32)", "np.add.reduce(x, dtype=np.float64)", "m.cumprod(x, 1, dtype=np.float32)",
])  # fmt: skip
def test_integers_and_booleans(text, dtype):
    if NUMPY_2_0 and "cumulative_sum" in text:
        pytest.skip("NumPy 2.0 has no cumulative_sum")
    x = (np.abs(TIED) if dtype == np.uint8 else TIED).astype(dtype)
    as_numpy(text, x, 0)


def test_more_of_integers():
    x = (TIED * 3).astype(int)
    for text in ("m.ptp(x)", "m.ediff1d(x)", "m.gradient(x)", "m.ediff1d(x, to_begin=3)", "m.unwrap(x, period=4)",
                 "m.unwrap(x, period=5, axis=0)", "m.unwrap(x)", "m.corrcoef(x[0])"):  # fmt: skip
        same(function(text, fg)(fg.tensor(x)), function(text, np)(x), text, 1e-14, 1e-14)


# ---- running products ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("zeros", [[0], [4], [2, 3], [0, 1, 2, 3, 4], [1, 4]])
def test_gradients_of_products_of_zeros(zeros):
    x = np.array([1.5, -2.0, 0.5, 3.0, -1.2])
    x[zeros] = 0.0
    for f in (fg.cumprod, fg.prod, lambda x: fg.cumprod(x) ** 2, lambda x: fg.prod(fg.reshape(x, (5, 1)), 0)):
        fg.check_grads(f, (x,), order=2)
    jacobian = [[np.prod(np.delete(x[: i + 1], j)) if j <= i else 0.0 for j in range(5)] for i in range(5)]
    np.testing.assert_allclose(fg.jacobian(fg.cumprod)(x), jacobian)
    third = fg.grad(lambda x: fg.hessian(lambda x: fg.cumprod(x)[3])(x)[0, 2])(x)
    np.testing.assert_allclose(third, [0, x[3], 0, x[1], 0])


@pytest.mark.parametrize("shape, axis", [((1000,), None), ((131, 3), 0), ((50, 8), None), ((128, 40), 0), ((3, 500), 1),
                                         ((300, 2, 3), (0, 2))])  # fmt: skip
def test_products_of_many_elements(shape, axis):
    x = RNG.uniform(0.9, 1.1, shape)
    x.reshape(-1)[7] = 0
    for x in (x, RNG.uniform(0.9, 1.1, shape)):
        np.testing.assert_allclose(fg.prod(x, axis).numpy(), np.prod(x, axis), rtol=1e-13)
        loss = lambda x: (fg.prod(x, axis) ** 2).sum()
        got, expected = fg.grad(loss)(x), np.zeros_like(x)
        for k in np.ndindex(*[min(n, 9) for n in shape]):
            up, down = x.copy(), x.copy()
            up[k] += 1e-6
            down[k] -= 1e-6
            expected[k] = ((np.prod(up, axis) ** 2).sum() - (np.prod(down, axis) ** 2).sum()) / 2e-6
            np.testing.assert_allclose(got[k], expected[k], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(fg.compile(fg.grad(loss))(x), got, rtol=1e-12, atol=1e-300)


def test_products_have_the_bits_of_numpys():
    x = RNG.normal(size=(7, 33, 3))
    for dtype in FLOATS:
        for axis in (0, 1, 2, None):
            same_bits(fg.cumprod(x.astype(dtype), axis), np.cumprod(x.astype(dtype), axis))
    same_bits(fg.cumprod([-0.0, 1.0, np.inf]), np.array([-0.0, -0.0, np.nan]))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("transposed", [0, 1])
def test_recurrences(axis, transposed):
    a, b = RNG.normal(size=(2, 5, 6, 3))
    y = _core.apply_op(_core.OP_NUMBERS["recurrence"], [fg.tensor(a), fg.tensor(b)], (axis, transposed)).numpy()
    a, b, y = (np.moveaxis(x, axis, 0) for x in (a, b, y))
    order = range(len(y) - 1, -1, -1) if transposed else range(len(y))
    last = np.zeros_like(b[0])
    for n, i in enumerate(order):
        last = b[i] + (0 if n == 0 else a[i + transposed] * last)
        np.testing.assert_allclose(y[i], last, rtol=1e-14)
    a[0] = np.nan  # is not read
    y = _core.apply_op(_core.OP_NUMBERS["recurrence"], [fg.tensor(a), fg.tensor(b)], (0, transposed))
    assert np.isfinite(y.numpy()).all()


def test_recurrences_need_one_shape():
    with pytest.raises(
        ValueError, match=r"recurrence: expected coefficients and terms of one shape, got \(2,\) and \(3,\)"
    ):
        _core.apply_op(_core.OP_NUMBERS["recurrence"], [fg.zeros(2), fg.zeros(3)], (0, 0))


# ---- running extrema -------------------------------------------------------------------------------------------------
def shares(x, g):
    """The gradient of cummax by the convention of max, for each result by itself."""
    gx = np.zeros_like(x)
    for i in range(len(x)):
        head = x[: i + 1]
        ties = np.isnan(head) if np.isnan(head).any() else head == head.max()
        gx[: i + 1][ties] += g[i] / ties.sum()
    return gx


@pytest.mark.parametrize("x", [[2.0, 2.0, 1.0, 2.0, 3.0, 3.0], [1.0, np.nan, 2.0, np.nan, 5.0],
    [-np.inf, -np.inf, 0.0, 0.0],
                               [0.0, -0.0, 0.0], [np.inf, 1.0, np.inf], [4.0]])  # fmt: skip
def test_ties_of_running_extrema_share_as_those_of_max_do(x):
    x = np.array(x)
    g = RNG.normal(size=x.size)
    np.testing.assert_allclose(fg.grad(lambda x: (fg.cummax(x) * g).sum())(x), shares(x, g))
    np.testing.assert_allclose(fg.grad(lambda x: (fg.cummin(-x) * g).sum())(x), -shares(x, g))
    with_g = lambda x, w: (fg.cummax(x) * w).sum()
    recorded = fg.jacobian(fg.grad(with_g, 0), 1)(x, g) @ g  # by the rule of recorded passes
    np.testing.assert_allclose(recorded, shares(x, g))
    t = RNG.normal(size=x.size)
    np.testing.assert_allclose(fg.jvp(lambda x: (fg.cummax(x) * g).sum(), (x,), (t,))[1], shares(x, g) @ t)
    wide = np.stack([x, x[::-1], x], 1)
    np.testing.assert_allclose(fg.grad(lambda x: (fg.cummax(x, axis=0) * g[:, None]).sum())(wide),
                               np.stack([shares(row, g) for row in wide.T], 1))  # fmt: skip
    np.testing.assert_array_equal(fg.hessian(with_g)(x, g), np.zeros((x.size, x.size)))


def test_running_extrema_under_their_own_names():
    same_bits(fg.cummax(X, 1), np.maximum.accumulate(X, 1))
    same_bits(fg.cummin(X, 0), np.minimum.accumulate(X, 0))
    same_bits(fg.cummax(X), np.maximum.accumulate(X.ravel()))
    same_bits(fg.cummin(TIED.astype(int)), np.minimum.accumulate(TIED.astype(int).ravel()))


# ---- logarithms of running sums --------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
def test_logarithms_of_running_sums_keep_their_accuracy(dtype):
    import mpmath

    scale = 80 if dtype == np.float32 else 700
    x = (RNG.normal(size=40) * scale).astype(dtype)
    sums, exact = mpmath.mpf(0), []
    for v in x:
        sums += mpmath.exp(mpmath.mpf(float(v)))
        exact.append(float(mpmath.log(sums)))
    np.testing.assert_allclose(fg.logcumsumexp(x).numpy(), exact, rtol=40 * np.finfo(dtype).eps)


def test_logarithms_of_running_sums_of_infinities():
    x = np.array([-np.inf, -np.inf, 1.0, -np.inf, 2.0, -1e308, 1e308, np.inf, 3.0, np.inf])
    np.testing.assert_allclose(fg.logcumsumexp(x).numpy(), quietly(np.logaddexp.accumulate, x))
    jacobian = fg.jacobian(fg.logcumsumexp)(x)
    for i in range(x.size):  # as logsumexp has it
        expected = np.zeros(x.size)
        expected[: i + 1] = fg.grad(fg.logsumexp)(x[: i + 1])
        np.testing.assert_allclose(jacobian[i], expected, atol=1e-15, err_msg=str(i))
    assert np.isnan(fg.logcumsumexp([1.0, np.nan, 2.0]).numpy()).tolist() == [False, True, True]


# ---- what is nan is left out of gradients ----------------------------------------------------------------------------
@pytest.mark.parametrize("text", [t for t in SMOOTH if "m.nan" in t])
def test_gradients_leave_nan_out(text):
    f = function(text, fg)
    valid = np.isfinite(WITH_NAN)
    x0 = np.where(valid, WITH_NAN, 0.0)
    weights = lambda y: np.cos(np.arange(y.size) + 1.0).reshape(y.shape)
    of_valid = lambda x: fg.where(valid, x, np.nan)
    y = f(WITH_NAN).numpy()
    loss = lambda x: (fg.where(np.isfinite(y), f(of_valid(x)), 0.0) * weights(y)).sum()
    got = fg.grad(loss)(x0)
    assert np.isfinite(got).all() and (got[~valid] == 0).all(), f"{text}: {got}"
    fg.check_grads(loss, (x0,), rtol=1e-5, atol=1e-5)


def test_positions_where_all_are_nan():
    for f in (fg.nanargmax, fg.nanargmin, fg.compile(lambda x: fg.nanargmax(x, 1))):
        with pytest.raises(ValueError, match="All-NaN slice encountered"):
            f(np.full((2, 3), np.nan))


# ---- gradients by other arguments ------------------------------------------------------------------------------------
def test_gradients_by_weights_and_points():
    w, points = RNG.uniform(0.5, 2, 4), np.array([0.0, 0.4, 1.5, 2.0])
    for f, args in [
        (lambda x, w: fg.average(x, 1, w), (X, w)), (lambda y, x: fg.trapezoid(y, x, axis=1), (X, points)),
        (lambda f, d: fg.gradient(f, d, axis=1), (X, points)), (lambda f, d: fg.gradient(f, d, axis=1), (X, 0.7)),
        (lambda f, d: fg.gradient(f, d, axis=1, edge_order=2), (X, points)),
        (lambda y, dx: fg.trapezoid(y, dx=dx), (X, 0.3)),
        (lambda x, w: fg.cov(x[0], aweights=w), (X[:, :, :4], w)), (lambda x, m: fg.var(x, 1, mean=m), (X, X[:, :1])),
        (lambda x, i: fg.sum(x, 1, initial=i), (X, 2.0)), (lambda x, i: fg.max(x, 1, initial=i), (X, 0.33)),
        (lambda x, e: fg.ediff1d(x, to_end=e), (X, np.array([1.0, 2.0]))),
    ]:  # fmt: skip
        fg.check_grads(f, args, order=2, rtol=1e-5, atol=1e-5)
        same(fg.compile(f)(*args), f(*args), "compiled", 1e-15, 1e-15)


# ---- methods of ufuncs -----------------------------------------------------------------------------------------------
def test_added_in_place():
    for ufunc in (np.add, np.subtract):
        for index in ([0, 2, 0], (slice(None), [1, 1]), np.array([[0], [2]]), MASK, (np.array([0, -1]), 2)):
            shape = X[index].shape
            values, expected = RNG.normal(size=shape), X.copy()
            ufunc.at(expected, index, values)
            x = fg.tensor(X)
            assert ufunc.at(x, index, values) is None
            np.testing.assert_allclose(x.numpy(), expected, rtol=1e-13, atol=1e-15)
    index = [1, 1, 0]

    def f(x, v):
        y = x * 1.0
        np.add.at(y, index, v)
        return y**2

    fg.check_grads(f, (X, RNG.normal(size=(3, 4, 5))), order=2, rtol=1e-5, atol=1e-5)


BINARY = [u for u in UFUNCS if u.nin == 2 and u.nout == 1 and not u.signature]
UNARY = [u for u in UFUNCS if u.nin == 1 and u.nout == 1 and not u.signature]
SMALL = np.array([[0.37, 0.71, 1.22], [0.93, 0.54, 0.45]])
PLACES = [([0, 1, 0, 0], [1, 2, 1, 0]), (slice(None), [0, 0]), 0, SMALL > 0.5, ..., ([],)]


@pytest.mark.parametrize("ufunc", BINARY + UNARY, ids=lambda u: u.__name__)
def test_every_ufunc_at(ufunc):
    for index in PLACES:
        shape = np.arange(6).reshape(2, 3)[index].shape
        values = [np.resize([0.61, 0.23, 0.84, 1.13], shape)] if ufunc.nin == 2 else []
        for dtype in (np.float64, np.float32):
            expected = SMALL.astype(dtype)
            x = fg.tensor(expected)
            try:
                with np.errstate(all="ignore"):
                    ufunc.at(expected, index, *[v.astype(dtype) for v in values])
            except TypeError:  # ours does nothing where there is nothing to do
                with pytest.raises(TypeError) if np.prod(shape) else contextlib.nullcontext():
                    ufunc.at(x, index, *[v.astype(dtype) for v in values])
                continue
            assert ufunc.at(x, index, *[v.astype(dtype) for v in values]) is None
            np.testing.assert_allclose(x.numpy(), expected, rtol=1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("ufunc", [np.multiply, np.divide, np.power, np.maximum, np.minimum, np.hypot, np.logaddexp,
                                   np.fmax, np.arctan2, np.copysign], ids=lambda u: u.__name__)  # fmt: skip
def test_gradients_of_ufunc_at(ufunc):
    index = ([0, 1, 0, 0], [1, 2, 1, 0])

    def f(x, v):
        y = x * 1.0
        ufunc.at(y, index, v)
        return fg.sum(y**2 * SMALL.cumsum().reshape(2, 3))

    v = np.array([0.61, 0.23, 0.84, 1.13])
    fg.check_grads(f, (SMALL, v), order=2, rtol=1e-5, atol=1e-5)
    eager = fg.grad(f, (0, 1))(SMALL, v)
    for found in (fg.compile(fg.grad(f, (0, 1)))(SMALL, v), fg.vmap(fg.grad(f, (0, 1)))(SMALL[None], v[None])):
        for a, b in zip(found, eager):
            np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-12)


def test_ties_of_extremes_at_share_the_gradient():
    def f(x, v):
        y = x * 1.0
        np.maximum.at(y, [0, 0, 1], v)
        return y.sum()

    gx, gv = fg.grad(f, (0, 1))(np.array([2.0, 3.0]), np.array([2.0, 1.0, 3.0]))
    np.testing.assert_array_equal(gx, [0.5, 0.5])
    np.testing.assert_array_equal(gv, [0.5, 0, 0.5])


def test_ufunc_at_refuses():
    with pytest.raises(RuntimeError, match="numpy.multiply.at: a tensor made with requires_grad=True is changed in pl"):
        np.multiply.at(LEAF, [0], 2.0)
    with pytest.raises(fg.TraceError, match="numpy.hypot.at changes a tensor in place that was made before"):
        fg.compile(lambda x: np.hypot.at(LEAF, [0], x))(2.0)
    with pytest.raises(TypeError, match="numpy.sqrt.at: values of float64 do not go into a tensor of int64"):
        np.sqrt.at(WHOLE, [0])

    def by_index(x, i):
        y = x * 1.0
        np.hypot.at(y, i, 2.0)
        return y

    with pytest.raises(TypeError, match="numpy.hypot.at: how often each element is named must be known"):
        fg.compile(by_index)(np.ones(3), np.array([0, 0]))
    np.testing.assert_allclose(fg.compile(by_index)(np.ones(3), np.array([2])), [1, 1, np.sqrt(5)])


LEAF, WHOLE = fg.tensor([1.0, 2.0], requires_grad=True), fg.tensor([1, 2])


@pytest.mark.parametrize("ufunc", [np.subtract, np.divide, np.hypot, np.logaddexp2, np.maximum, np.logaddexp])
def test_folds_with_keywords(ufunc):
    mask = np.array([[True, False, True], [True, True, False]])
    for keywords in (
        {"axis": 1, "initial": 0.7}, {"axis": 0, "keepdims": True}, {"axis": 1, "initial": 0.7, "where": mask},
        {"axis": -1, "dtype": np.float32}, {"axis": None}, {"axis": (0, 1), "keepdims": True},
    ):  # fmt: skip
        if not isinstance(keywords["axis"], int) and ufunc in (np.subtract, np.divide):
            continue
        f = lambda x, keywords=keywords: ufunc.reduce(x, **keywords)
        expected = f(SMALL)
        got = fg.compile(f)(SMALL)
        assert got.dtype == expected.dtype and got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5 if got.dtype == np.float32 else 1e-13)
        if got.dtype == np.float64:
            fg.check_grads(lambda x: fg.sin(f(x)), (SMALL,), order=2, rtol=1e-5, atol=1e-5)
    assert fg.compile(lambda x: ufunc.accumulate(x, 0))(np.zeros((0, 3))).shape == (0, 3)


# ---- shapes without elements, or without axes ------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_empty(shape):
    x = np.zeros(shape)
    for text in (
        "m.cumprod(x)", "m.cumprod(x, 0)", "m.cumprod(x, -1)", "np.maximum.accumulate(x, -1)", "m.prod(x)",
        "m.prod(x, 0)",
        "m.prod(x, axis=-1)", "m.nansum(x, 0)", "m.nanmean(x)", "m.nanvar(x, -1)", "m.sum(x, initial=2.0)",
        "m.nancumsum(x)",
        "m.max(x, axis=0, initial=1.0)", "m.mean(x, where=x > 1)", "m.cumulative_sum(x, axis=0, include_initial=True)",
        "m.trapezoid(x)", "m.unwrap(x)", "np.logaddexp.accumulate(x, 0)", "m.ediff1d(x)",
    ):  # fmt: skip
        if NUMPY_2_0 and "cumulative_sum" in text:
            continue  # NumPy 2.0 has none
        expected = quietly(function(text, np), x)
        same(function(text, fg)(fg.tensor(x)), expected, text)
        f = function(text, fg)
        assert fg.grad(lambda x: fg.sum(f(x)))(x).shape == shape, text


@pytest.mark.parametrize("text", [
    "x.cumprod(1)", "x.cumsum(0, dtype=np.float64)", "x.argsort(0, kind='stable')",
    "x.sum(1, where=x > 0, initial=2.0)", "x.max(0, where=x > 0, initial=0.5)", "x.min(initial=-9.0)",
    "x.mean(1, where=x > -1)",
    "x.prod(1, initial=3.0)", "x.var(1, ddof=1)", "x.std(0, where=np.array([[True], [True], [False], [True]]))",
    "x[0].searchsorted([0.0, 1.0], 'right')", "x.nonzero()",
])  # fmt: skip
def test_methods(text):
    x = np.sort(X[0], 1)
    expected = eval(text, {"x": x, "np": np})
    same(eval(text, {"x": fg.tensor(x), "np": np}), expected, text, 1e-14)
    same(np.take_along_axis(x, fg.tensor(x).argpartition(2).numpy(), 1), x, "argpartition")


def test_single_numbers():
    for text in ("m.cumprod(x, None)", "m.prod(x)", "m.prod(x, ())", "m.nansum(x)", "m.nanmax(x)", "m.average(x)",
        "m.ptp(x)",
                 "m.nancumprod(x)", "m.nanvar(x)", "m.cov(x)"):  # fmt: skip
        same(function(text, fg)(fg.tensor(3.0)), quietly(function(text, np), np.array(3.0)), text)
    assert fg.grad(fg.cumprod)(np.array([2.0])).tolist() == [1.0]
    assert fg.grad(fg.prod)(2.0) == 1


def test_negative_weights_of_a_program_make_nan():
    f = fg.compile(lambda w: fg.cov(X[0], aweights=w))
    assert np.isfinite(f(np.ones(5))).all() and np.isnan(f(np.array([1.0, -1.0, 2.0, 1.0, 1.0]))).all()


# ---- errors ----------------------------------------------------------------------------------------------------------
EMPTY_ROWS = fg.tensor(np.zeros((2, 0)), requires_grad=True)
LASTING = fg.tensor(np.zeros(0), requires_grad=True)  # NumPy keeps a tensor whose class refuses a method of a ufunc
NUMBER = fg.tensor(1.0)
OUT = "expected out= as a tensor, got ndarray, in which the result would lose its gradient; write a = fastgrad."


@pytest.mark.parametrize(
    "call, error, text",
    [
        *[(lambda name=name: getattr(fg, name)(X, out=np.zeros(())), TypeError, f"{name}: {OUT}{name}")
          for name in ("sum", "prod", "mean", "std", "var", "max", "min", "nansum", "nanprod", "nanmean", "nanstd",
                       "nanvar", "nanmax", "nanmin")],
        (lambda: fg.tensor(X).sum(out=np.zeros(())), TypeError, f"sum: {OUT}sum"),
        (lambda: fg.max(X, where=MASK), ValueError,
         "max: where= may leave nothing over, so that initial= must be given"),
        (lambda: fg.sum(X, where=X), TypeError, "sum: expected where= as booleans, got float64"),
        (lambda: fg.var(X, ddof=1, correction=1), ValueError, "var: expected ddof or correction, which are the same"),
        (lambda: fg.std(X, dtype=int), TypeError, "std: expected dtype as a float dtype, got int64"),
        (lambda: fg.cumprod(X, 3), ValueError, "cumprod: axis 3 does not exist in a tensor of 3 dimensions"),
        (lambda: fg.cumulative_sum(X), ValueError, "cumulative_sum: the axis can be left out for one axis only"),
        (lambda: fg.cumulative_prod(1.0), ValueError,
         "cumulative_prod: expected at least one axis, got a single number"),
        (lambda: fg.average(X, weights=[1.0]), TypeError,
         r"average: weights of shape \(1,\) for an array .* need an axis"),
        (lambda: fg.average(X, 1, [1.0]), ValueError, "average: expected weights of the shape of the axes 1"),
        (lambda: fg.average([1.0, 2.0], 0, [1.0, -1.0]), ZeroDivisionError, "average: the weights sum to zero"),
        (lambda: fg.cov(X), ValueError, r"cov: expected m with at most two axes, got shape \(3, 4, 5\)"),
        (lambda: fg.corrcoef(X[0], X), ValueError, "corrcoef: expected y with at most two axes, got shape"),
        (lambda: fg.cov(X[0], ddof=0.5), ValueError, "cov: expected ddof as an integer, got 0.5"),
        (lambda: fg.cov(X[0], fweights=[0.5]), TypeError, "cov: expected fweights as integers, got float64"),
        (lambda: fg.cov(X[0], fweights=[1]), ValueError, "cov: expected fweights for 5 observations"),
        (lambda: fg.cov(X[0], aweights=-np.ones(5)), ValueError, "cov: expected aweights of at least 0"),
        (lambda: fg.gradient(X, 1.0, 2.0), TypeError, "gradient: expected distances for 3 axes or for all, got 2"),
        (lambda: fg.gradient(X, edge_order=3), ValueError, "gradient: expected edge_order 1 or 2, got 3"),
        (lambda: fg.gradient([1.0]), ValueError, "gradient: expected at least 2 samples along axis 0, got 1"),
        (lambda: fg.gradient([1.0, 2.0], [1.0]), ValueError,
         r"gradient: expected a number or 2 coordinates for axis 0"),
        (lambda: fg.ediff1d([1, 2], to_end=0.5), TypeError, "ediff1d: expected to_end of a kind that fits int64"),
        (lambda: np.subtract.reduce(LASTING), ValueError, "it has no identity, with which an empty axis begins"),
        (lambda: np.maximum.accumulate(NUMBER), TypeError,
         "numpy.maximum.accumulate: expected at least one axis, got a single number"),
        (lambda: np.subtract.reduce(EMPTY_ROWS, axis=None), ValueError, "expected one axis, as its order counts"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("dtype", [int, np.int8, np.uint8, bool])
@pytest.mark.parametrize(
    "name", ["sum", "prod", "mean", "nansum", "nanprod", "cumsum", "cumprod", "nancumsum", "nancumprod"]
)
def test_a_dtype_of_integers_is_that_of_the_elements(name, dtype):
    x = np.array([[0.5, 1.5, 2.5, 3.75], [1.25, 1.75, 0.0, 2.5]])
    for axis in (None, 0, 1):
        expected = getattr(np, name)(x, axis=axis, dtype=dtype)
        same_bits(getattr(fg, name)(x, axis=axis, dtype=dtype), expected)
        same_bits(fg.compile(lambda x, axis=axis: getattr(fg, name)(x, axis=axis, dtype=dtype))(x), expected)


def test_keywords_of_extrema_under_their_other_names():
    for name in ("amax", "amin"):
        same_bits(getattr(fg, name)(X, axis=1, initial=0.25), getattr(np, name)(X, axis=1, initial=0.25))
        options = dict(axis=0, keepdims=True, initial=0.5, where=MASK)
        same_bits(getattr(fg, name)(X, **options), getattr(np, name)(X, **options))
    with pytest.raises(TypeError, match="^max: expected out= as a tensor, got ndarray"):
        fg.amax(X, out=np.zeros(()))


def test_a_mask_that_is_none_names_the_function():
    for name in ("var", "std", "nanvar", "nanstd"):
        with pytest.raises(TypeError, match=f"^{name.removeprefix('nan')}: expected where= as booleans, got int64"):
            getattr(fg, name)(X, where=1)


def test_small_integers_are_unwrapped_in_their_dtype():
    x = np.array([[3, 1, 2, 1], [0, 5, -7, 127]], np.int8)
    for period in (4, 7, 6.0):
        same_bits(fg.unwrap(x, period=period), np.unwrap(x, period=period))


def test_a_mask_does_not_repeat_the_elements():
    for name in ("sum", "prod", "mean", "var", "std", "max", "min"):
        options = {"initial": 0.0} if name in ("max", "min") else {}
        for shape, mask_shape in (((3,), (2, 3)), ((1,), (3,)), ((1, 3), (2, 3)), ((2, 3), (3, 2))):
            for module in (np, fg):
                with pytest.raises(ValueError):
                    getattr(module, name)(np.ones(shape), where=np.ones(mask_shape, bool), **options)
    with pytest.raises(ValueError, match=r"^sum: expected where= of a shape that broadcasts to \(3,\), got \(2, 3\)$"):
        fg.sum(np.ones(3), where=np.ones((2, 3), bool))


def test_trapezoid_of_points_with_fewer_axes():
    y, x = np.arange(24.0).reshape(2, 3, 4) ** 2, np.array([[0.0, 1, 3, 4], [0, 2, 3, 7], [1, 2, 4, 8]])
    np.testing.assert_array_equal(fg.trapezoid(y, x), np.trapezoid(y, x))
    fg.check_grads(lambda y, x: fg.trapezoid(y, x), (y, x), order=2)
