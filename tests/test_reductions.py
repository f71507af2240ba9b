"""Sums, products, extrema, moments, norms and the softmax family: values against NumPy and SciPy, gradients against
finite differences or written-out formulas."""

import itertools
import math
import warnings

import numpy as np
import pytest
import scipy.special
from _errors import raises_text
from _oracles import FLOATS, gradients, property_test, same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastgrad as fg

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, (2, 3, 4))
AXES = [None, 0, 1, 2, -1, -3, (0, 1), (0, 2), (1, 2), (2, 0), (0, 1, 2), (-1, 0), ()]
FLOAT_VALUED = {
    "sum": np.sum, "mean": np.mean, "prod": np.prod, "max": np.max, "min": np.min, "amax": np.amax, "amin": np.amin,
    "var": np.var, "std": np.std, "logsumexp": scipy.special.logsumexp,
}  # fmt: skip
WITHOUT_GRADIENT = {"any": np.any, "all": np.all, "argmax": np.argmax, "argmin": np.argmin}
ONE_AXIS = {
    "softmax": scipy.special.softmax, "softmin": lambda x, axis: scipy.special.softmax(-x, axis=axis),
    "log_softmax": scipy.special.log_softmax,
}  # fmt: skip


def quietly(function, *args, **kwargs):
    """NumPy warns of empty means; what it returns is what counts here."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def close(got, expected, dtype, message=""):
    expected = np.asarray(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), f"{message}: {got!r}, expected {expected!r}"
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(got.numpy(), expected, rtol=16 * eps, atol=8 * eps, err_msg=message)


# ---- values and gradients over every kind of axis ---------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", FLOAT_VALUED)
def test_over_axes(name, axis, keepdims, dtype):
    x, ours, theirs = X.astype(dtype), getattr(fg, name), FLOAT_VALUED[name]
    if name == "logsumexp" and axis == ():
        expected = x
    else:
        expected = theirs(x, axis=axis, keepdims=keepdims)
    close(ours(x, axis=axis, keepdims=keepdims), expected, dtype, name)
    if name != "std" or axis != ():  # a spread of 0 has a kink
        fg.check_grads(lambda t: ours(t, axis=axis, keepdims=keepdims), (x,))
    if hasattr(fg.Tensor, name):
        same_bits(getattr(fg.tensor(x), name)(axis=axis, keepdims=keepdims), ours(x, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("dtype", [*FLOATS, np.int16, np.bool_])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", WITHOUT_GRADIENT)
def test_results_that_are_no_floats(name, axis, dtype):
    x = RNG.integers(0, 3, (3, 4, 5)).astype(dtype)
    for keepdims in (False, True):
        expected = WITHOUT_GRADIENT[name](x, axis=axis, keepdims=keepdims)
        got = getattr(fg, name)(fg.tensor(x), axis=axis, keepdims=keepdims)
        same_bits(got, expected)
        same_bits(getattr(fg.tensor(x), name)(axis=axis, keepdims=keepdims), expected)
        assert not got.requires_grad


@pytest.mark.parametrize("axis", [(0, 2), (), (1, 2)])
@pytest.mark.parametrize("name", ["any", "all"])
def test_any_and_all_over_several_axes(name, axis):
    x = RNG.integers(0, 2, (3, 2, 2)).astype(float)
    same_bits(getattr(fg, name)(x, axis=axis), WITHOUT_GRADIENT[name](x, axis=axis))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ONE_AXIS)
def test_softmax_and_its_logarithm(name, axis, dtype):
    x = X.astype(dtype)
    close(getattr(fg, name)(x, axis=axis), ONE_AXIS[name](x, axis=axis), dtype)
    fg.check_grads(lambda t: getattr(fg, name)(t, axis=axis), (x,))


def test_the_jacobian_of_softmax():
    x = X[0, 0]
    p = np.exp(x) / np.exp(x).sum()
    jacobian = [gradients(fg.softmax, x, cotangent=row)[0] for row in np.eye(4)]
    np.testing.assert_allclose(jacobian, np.diag(p) - np.outer(p, p), atol=1e-16)


@pytest.mark.parametrize("name", FLOAT_VALUED)
@pytest.mark.parametrize("dtype", [*(np.dtype(c).type for c in "bhilBHIL"), np.bool_])
def test_integers_and_booleans_as_numpy_has_them(name, dtype):
    x = (X > 0).astype(dtype) + np.array(1, dtype)
    if name == "logsumexp":
        return close(fg.logsumexp(x, axis=1), scipy.special.logsumexp(x.astype(float), axis=1).astype(
            np.result_type(dtype, np.float32)), np.float32)  # fmt: skip
    got, expected = getattr(fg, name)(x, axis=1), FLOAT_VALUED[name](x, axis=1)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("ddof", [0, 1, 2, 0.5, 3, 4])
@pytest.mark.parametrize("name", ["var", "std"])
def test_degrees_of_freedom(name, ddof):
    ours, theirs = getattr(fg, name), FLOAT_VALUED[name]
    close(ours(X, axis=1, ddof=ddof), quietly(theirs, X, axis=1, ddof=ddof), np.float64)
    if ddof < 3:
        fg.check_grads(lambda t: ours(t, axis=1, ddof=ddof), (X,))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    "ord, axis",
    [(None, None), (None, 0), (None, (0, 2)), (None, (-1, 0)), ("fro", (0, 1)), (2, 1), (1, 1), (np.inf, 2),
     (-np.inf, -1),
     (3, 0), (0.5, 1), (-1, 1), (0, 1)],
)  # fmt: skip
def test_norms(ord, axis, keepdims, dtype):
    x = X.astype(dtype)
    expected = np.linalg.norm(x, ord=ord, axis=axis, keepdims=keepdims)
    close(fg.norm(x, ord=ord, axis=axis, keepdims=keepdims), expected.astype(dtype), dtype)
    if isinstance(ord, (int, float)):  # of a scalar of NumPy's as of a number
        assert fg.norm(x, ord=np.float64(ord), axis=axis, keepdims=keepdims).dtype == dtype
    if ord != 0:
        fg.check_grads(lambda t: fg.norm(t, ord=ord, axis=axis, keepdims=keepdims), (x,))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", "?"])
def test_norms_of_integers_do_not_overflow(dtype):
    x = np.array([100, 101, 0, 127]).astype(dtype)
    for ord in (None, 1, 2, 3, np.inf, -np.inf, 0):
        expected = np.linalg.norm(x, ord)
        got = fg.norm(x, ord)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-15, err_msg=f"ord={ord}")


@pytest.mark.parametrize("p", [None, 1, 1.5, 2, 3, np.inf])
def test_gradient_of_norms_at_zero_is_a_subgradient(p):
    x = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    got = gradients(lambda t: fg.norm(t, p, axis=1), x)[0]
    np.testing.assert_allclose(got[1:], [[0, 0], [0, 1]], rtol=1e-15)
    assert np.all(np.isfinite(got[0])) and np.any(got[0])
    np.testing.assert_array_equal(fg.compile(fg.grad(lambda t: fg.norm(t, p)))(np.zeros(3)), 0)


def test_gradient_of_spread_at_equal_elements():
    """As the docstrings say."""
    equal = np.full(3, 2.0)
    np.testing.assert_array_equal(gradients(fg.var, equal)[0], 0)
    for axis, ddof in ((None, 0), (0, 1), (1, 0)):
        x = np.array([[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]])
        np.testing.assert_array_equal(gradients(lambda t: fg.sum(fg.std(t, axis, ddof=ddof)), x)[0], 0)
    some = np.array([[2.0, 2.0], [1.0, 3.0]])  # one row of equal elements, one of others
    np.testing.assert_allclose(gradients(lambda t: fg.sum(fg.std(t, axis=1)), some)[0], [[0, 0], [-0.5, 0.5]])
    assert np.all(np.isnan(gradients(lambda t: fg.std(t, ddof=3), equal)[0]))  # its value is nan, 0 / 0
    np.testing.assert_array_equal(gradients(lambda t: fg.sqrt(fg.var(t) + 1e-6), equal)[0], 0)
    assert np.isnan(gradients(lambda t: fg.norm(t, 0.5), np.array([0.0, 1.0]))[0][0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["std", "nanstd"])
def test_gradient_of_spread_at_equal_elements_whose_mean_is_rounded(name, dtype):
    """The standard deviation is then some 1e-17 and not 0, but its slope must not be that of a real spread."""
    f, rounded = getattr(fg, name), 0
    for n in (2, 6, 11, 37, 300):
        for value in (0.1, -1 / 3, 123.456):
            x = np.full(n, value, dtype)
            rounded += fg.tensor(x).std().item() != 0
            for slope in (fg.grad(f)(x), fg.compile(fg.grad(lambda t: fg.sum(f(t, axis=1))))(x[None])):
                np.testing.assert_allclose(slope, 0 * slope, atol=np.finfo(dtype).eps, err_msg=f"{n} of {value}")
    assert rounded


def test_norm_of_vectors_and_at_zero():
    for ord in (None, 1, 2, 3, np.inf, -np.inf, 0):
        close(fg.norm(X[0, 0], ord), np.linalg.norm(X[0, 0], ord), np.float64)
    np.testing.assert_array_equal(gradients(fg.norm, np.zeros(3))[0], 0)
    got = gradients(lambda t: fg.norm(t, axis=1), np.array([[3.0, 4], [0, 0]]))[0]
    np.testing.assert_allclose(got, [[0.6, 0.8], [0, 0]], rtol=1e-15)


# ---- sizes and ranks ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FLOAT_VALUED)
def test_a_number_without_axes(name, dtype):
    x = np.array(1.5, dtype)
    for axis in (None, ()):
        expected = x if name == "logsumexp" else FLOAT_VALUED[name](x, axis=axis)
        close(getattr(fg, name)(x, axis=axis), expected, dtype)
    slope = 0 if name in ("var", "std") else 1
    assert gradients(getattr(fg, name), x)[0] == slope


@pytest.mark.parametrize(
    "name",
    ["all", "any", "argmax", "argmin", "count_nonzero", "cummax", "cumprod", "cumsum", "max", "mean", "min",
     "nanargmax", "nancumsum", "nanmax", "nanmean", "nanprod", "nanstd", "nansum", "nanvar", "prod", "ptp", "repeat",
     "squeeze", "std", "sum", "take", "var"],
)  # fmt: skip
def test_axes_of_a_number_without_axes(name):
    more = {"repeat": (2,), "take": (0,)}.get(name, ())
    theirs = getattr(np, name, None)
    for x, axis in itertools.product((np.array(2.5), np.array(3)), (0, -1, np.int64(0), 1, -2, (0,))):
        try:
            expected = np.array([x]) if name == "cummax" else theirs(x, *more, axis=axis)
        except (AxisError, ValueError, TypeError):
            expected = None
        if expected is None or (name == "cummax" and axis not in (0, -1)):
            with pytest.raises((AxisError, ValueError, TypeError)):
                getattr(fg, name)(x, *more, axis=axis)
        else:
            found = getattr(fg, name)(x, *more, axis=axis).numpy()
            assert found.shape == expected.shape and found == pytest.approx(expected), (axis, found)
    with pytest.raises(TypeError, match="expected an axis as an int|expected one axis|interpreted as an integer"):
        getattr(fg, name)(2.5, *more, axis="0")


@pytest.mark.parametrize("name", ["any", "all"])
def test_masks_of_any_and_all(name):
    x = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, np.nan]])
    for mask, axis in itertools.product((True, [[True], [False]], [True, False, False], ~np.isnan(x)), (None, 0, 1)):
        expected = getattr(np, name)(x, axis, where=np.array(mask))
        t = fg.tensor(x)
        for found in (getattr(fg, name)(x, axis, where=mask), getattr(t, name)(axis, where=mask),
                      getattr(np, name)(t, axis, where=np.array(mask))):  # fmt: skip
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(TypeError, match=f"{name}: expected where= as booleans, got float64"):
        getattr(fg, name)(x, where=x)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (1, 2), ()], ids=str)
@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 3, 2), (0, 0, 1)])
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "var", "std", "any", "all"])
def test_no_elements(name, shape, axis):
    x = np.zeros(shape)
    expected = quietly(getattr(np, name), x, axis=axis)
    close(getattr(fg, name)(x, axis=axis), expected, np.float64)
    if name not in WITHOUT_GRADIENT:
        t = fg.tensor(x, requires_grad=True)
        y = getattr(fg, name)(t, axis=axis)
        y.backward(np.ones(y.shape))
        assert t.grad.shape == shape


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_extrema_of_no_elements(name):
    ours, theirs = getattr(fg, name), getattr(np, name)
    x = np.zeros((2, 0, 3))
    for axis in (None, 1):
        with pytest.raises(ValueError):
            theirs(x, axis=axis)
        with pytest.raises(
            ValueError,
            match=name
            if name.startswith("arg")
            else f"^{name}: axis 1 has length 0, but a {name}imum needs at least one element",
        ):
            ours(x, axis=axis)
    same_bits(ours(x, axis=2), theirs(x, axis=2))
    same_bits(ours(x, axis=0), theirs(x, axis=0))


def test_logsumexp_and_softmax_of_no_elements():
    x = np.zeros((2, 0, 3))
    same_bits(fg.logsumexp(x, axis=1), np.full((2, 3), -np.inf))
    same_bits(fg.logsumexp(x, axis=2), np.zeros((2, 0)))
    assert fg.softmax(x, axis=2).shape == fg.softmin(x, axis=2).shape == fg.log_softmax(x, axis=0).shape == x.shape
    for shape, axis in (((2, 0), -1), ((0, 3), -1), ((0,), 0), ((2, 0, 3), 1), ((0, 0), 0)):
        for f in (fg.softmax, fg.softmin, fg.log_softmax):
            for dtype in (np.float32, np.float64):
                x = np.zeros(shape, dtype)
                one = lambda t, f=f: fg.sum(f(t, axis=axis))
                for empty in (f(x, axis=axis), fg.compile(f, static_argnames="axis")(x, axis=axis), fg.grad(one)(x)):
                    assert empty.shape == shape and empty.dtype == dtype
                assert fg.jvp(lambda t: f(t, axis=axis), (x,), (x,))[1].shape == shape
                assert fg.hessian(one)(x).shape == shape * 2
                assert fg.vmap(lambda t: f(t, axis=axis))(np.zeros((4, *shape))).shape == (4, *shape)


@pytest.mark.parametrize("axes", [(0, 31), (1, 4, 9, 16, 25), tuple(range(0, 32, 2)), tuple(range(32)), (30,)])
@pytest.mark.parametrize("name", ["sum", "max", "prod", "var", "logsumexp"])
def test_rank_32(name, axes):
    shape = [1] * 32
    for i in (0, 1, 4, 9, 15, 16, 25, 30, 31):
        shape[i] = 2
    x = np.random.default_rng(1).uniform(-1, 1, shape)
    for keepdims in (False, True):
        expected = FLOAT_VALUED[name](x, axis=axes, keepdims=keepdims)
        close(getattr(fg, name)(x, axis=axes, keepdims=keepdims), expected, np.float64)
    flat = x.reshape([n for n in shape if n > 1])
    some = tuple(sum(n > 1 for n in shape[:a]) for a in axes if shape[a] > 1)
    got, expected = (gradients(lambda t: getattr(fg, name)(t, axis=a), v)[0] for v, a in ((x, axes), (flat, some)))
    np.testing.assert_allclose(got.reshape(flat.shape), expected, rtol=1e-12)


# ---- accuracy ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "shape, axis", [((3_000_000,), 0), ((2, 1_500_000), 1), ((1_500_000, 2), 0), ((1000, 3, 1000), (0, 2))]
)
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_float32_sums_are_pairwise(name, shape, axis):
    """Adding one after the other would be off by some 1e-3 here."""
    x = np.random.default_rng(2).uniform(0.9, 1.1, shape).astype(np.float32)
    exactly = FLOAT_VALUED[name](x.astype(np.float64), axis=axis)
    np.testing.assert_allclose(getattr(fg, name)(x, axis=axis).numpy(), exactly, rtol=3e-7)


def test_float32_moments_away_from_zero():
    x = np.random.default_rng(3).normal(1000, 1, 100_000).astype(np.float32)
    np.testing.assert_allclose(fg.var(x).item(), np.var(x.astype(float)), rtol=1e-5)


def test_a_sum_does_not_depend_on_its_neighbours():
    """A row has the same sum wherever it stands, and however many others are summed with it."""
    x = np.random.default_rng(4).normal(size=(9, 1001)).astype(np.float32)
    rows = fg.sum(x, axis=1).numpy()
    for i in range(9):
        same_bits(fg.sum(x[i]), rows[i])
        same_bits(fg.sum(x[: i + 1], axis=1), rows[: i + 1])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(257, 129), (1000, 33), (33, 1000), (3, 257, 65), (513,), (9, 16, 17)], ids=str)
def test_blocks_of_every_size(shape, dtype):
    """Along each axis of arrays that fill the blocks of a kernel and leave something over."""
    x = np.random.default_rng(5).uniform(-1, 1, shape).astype(dtype)
    wide, eps = x.astype(np.float64), np.finfo(dtype).eps
    for axis in range(len(shape)):
        tolerance = {"rtol": 32 * eps, "atol": 4 * eps * shape[axis] ** 0.5}
        for name in ("sum", "mean", "max", "min", "logsumexp", "prod"):
            expected = FLOAT_VALUED[name](wide, axis=axis)
            np.testing.assert_allclose(
                getattr(fg, name)(x, axis=axis).numpy(), expected, **tolerance, err_msg=f"{name}, axis {axis}"
            )
        p = scipy.special.softmax(wide, axis=axis)
        np.testing.assert_allclose(fg.softmax(x, axis=axis).numpy(), p, **tolerance)
        g = np.random.default_rng(6).uniform(-1, 1, shape).astype(dtype)
        got = gradients(lambda t: fg.softmax(t, axis=axis), x, cotangent=g)[0]
        np.testing.assert_allclose(got, p * (g - (p * g).sum(axis=axis, keepdims=True)), **tolerance)
        got = gradients(lambda t: fg.log_softmax(t, axis=axis), x, cotangent=g)[0]
        np.testing.assert_allclose(got, g - p * g.astype(float).sum(axis=axis, keepdims=True), **tolerance)
        got = gradients(lambda t: fg.logsumexp(t, axis=axis, keepdims=True), x, cotangent=g.take([0], axis))[0]
        np.testing.assert_allclose(got, p * g.take([0], axis), **tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 16, 31, 33, 64, 65, 130])
def test_one_element_is_found_wherever_it_is(n, dtype):
    """The largest, the smallest, a nan: row i of each matrix has it at place i, and so has column i."""
    x = np.random.default_rng(n).uniform(-1, 1, (n, n)).astype(dtype)
    i = np.arange(n)
    for name, value in (
        ("max", 5),
        ("min", -5),
        ("max", np.nan),
        ("min", np.nan),
        ("max", np.inf),
        ("sum", np.nan),
        ("logsumexp", np.nan),
    ):
        x[i, i] = value
        for axis in (0, 1):
            got = getattr(fg, name)(x, axis=axis).numpy()
            np.testing.assert_array_equal(got, np.full(n, value), f"{name} of {value} along axis {axis}")
        if name in ("max", "min"):
            np.testing.assert_array_equal(gradients(lambda t: getattr(fg, name)(t, axis=1), x)[0], np.eye(n))
            np.testing.assert_array_equal(gradients(lambda t: getattr(fg, name)(t, axis=0), x)[0], np.eye(n))


# ---- ties, zeros, infinities, nan ----------------------------------------------------------------------------------
@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (0, 1), (1, 2), (0, 1, 2), ()], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_the_gradient_equally(name, dtype, axis):
    x = RNG.integers(0, 3, (3, 4, 5)).astype(dtype)
    best = FLOAT_VALUED[name](x, axis=axis, keepdims=True)
    g = RNG.uniform(1, 2, best.shape).astype(dtype)
    hit = x == best
    expected = g * hit / hit.sum(axis=axis, keepdims=True).astype(dtype)
    assert (hit.sum(axis=axis) > 1).any() or axis == ()
    got = gradients(lambda t: getattr(fg, name)(t, axis=axis, keepdims=True), x, cotangent=g)[0]
    np.testing.assert_allclose(got, expected, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("x, gradient", [
    ([2, 0, 3, 4], [0, 24, 0, 0]), ([0, 2, 0, 3], [0, 0, 0, 0]), ([0], [1]), ([-2, 3, 0.5], [1.5, -1, -6]),
    ([0, 0], [0, 0]), ([-0.0, 5], [5, 0]),
])  # fmt: skip
def test_the_gradient_of_a_product_is_exact_at_zeros(x, gradient):
    np.testing.assert_array_equal(gradients(fg.prod, np.array(x, float))[0], gradient)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 8, 31, 33])
def test_products_of_any_length(n):
    x = np.random.default_rng(n).uniform(0.5, 1.5, (n, 2))
    product = np.prod(x, axis=0)
    np.testing.assert_allclose(fg.prod(x, axis=0).numpy(), product, rtol=1e-14)
    np.testing.assert_allclose(gradients(lambda t: fg.prod(t, axis=0), x)[0], product / x, rtol=1e-14)


SPECIAL = np.array([[1, np.inf, 2], [np.nan, 1, 2], [-np.inf, np.inf, 0], [np.nan, np.inf, -np.inf], [0, -0.0, 0],
                    [-np.inf, -np.inf, -np.inf], [1, 2, -np.inf]])  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("name", FLOAT_VALUED | WITHOUT_GRADIENT)
def test_infinities_and_nan(name, axis, dtype):
    x = SPECIAL.astype(dtype)
    theirs = (FLOAT_VALUED | WITHOUT_GRADIENT)[name]
    np.testing.assert_allclose(getattr(fg, name)(x, axis=axis).numpy(), quietly(theirs, x, axis=axis), rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_family_at_the_extremes(dtype):
    inf, nan, big = np.inf, np.nan, np.finfo(dtype).max
    rows = [[1e30, 0, -1e30], [big, big, -big], [-inf, 0, 1], [-inf, -inf, 3], [0, nan, 1], [-big, -big, -big]]
    rows = np.array(rows, dtype)
    e = math.e
    softmax = [[1, 0, 0], [0.5, 0.5, 0], [0, 1 / (1 + e), e / (1 + e)], [0, 0, 1], [nan] * 3, [1 / 3] * 3]
    log2, log3 = math.log(2), math.log(3)
    l1 = math.log1p(e)
    log_softmax = [
        [0, -1e30, -2e30],
        [-log2, -log2, -inf],
        [-inf, -l1, 1 - l1],
        [-inf, -inf, 0],
        [nan] * 3,
        [-log3] * 3,
    ]
    logsumexp = [1e30, big, l1, 3, nan, -big]
    tolerance = {"rtol": 4 * np.finfo(dtype).eps}
    np.testing.assert_allclose(fg.softmax(rows).numpy(), softmax, **tolerance)
    np.testing.assert_allclose(
        fg.log_softmax(rows).numpy()[[0, 2, 3, 4, 5]], np.array(log_softmax)[[0, 2, 3, 4, 5]], **tolerance
    )
    np.testing.assert_allclose(fg.logsumexp(rows, axis=1).numpy(), logsumexp, **tolerance)
    finite = rows[[0, 1, 2, 3, 5]]
    for f in (fg.softmax, fg.log_softmax, lambda t: fg.logsumexp(t, axis=1)):
        assert np.isfinite(gradients(f, finite)[0]).all()
    np.testing.assert_allclose(
        gradients(lambda t: fg.logsumexp(t, axis=1), finite)[0], np.array(softmax)[[0, 1, 2, 3, 5]], **tolerance
    )
    assert fg.logsumexp([-inf, -inf]).item() == -inf
    assert fg.logsumexp([inf, 0.0]).item() == inf


@pytest.mark.parametrize("n", [2, 9, 40, 3000])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_logsumexp_beside_an_infinite_element(n, dtype):
    """0 for the finite ones and 1 for the infinite element, which is the limit, whatever the length."""
    rows = np.zeros((3, n), dtype)
    rows[1, n // 2] = np.inf
    got = gradients(lambda t: fg.logsumexp(t, axis=1), rows)[0]
    np.testing.assert_array_equal(got[1], np.isinf(rows[1]))
    np.testing.assert_allclose(got[[0, 2]], np.full((2, n), 1 / n), rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 16, 17, 100, 1001])
@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_of_any_length(n, dtype):
    x = np.random.default_rng(n).normal(0, 3, (3, n)).astype(dtype)
    for name, theirs in ONE_AXIS.items():
        np.testing.assert_allclose(getattr(fg, name)(x).numpy(), theirs(x.astype(float), axis=1),
            rtol=32 * np.finfo(dtype).eps,
                                   atol=4 * np.finfo(dtype).eps)  # fmt: skip
    np.testing.assert_allclose(fg.softmax(x).numpy().sum(axis=1), 1, rtol=8 * np.finfo(dtype).eps)


# ---- any array, any axes ---------------------------------------------------------------------------------------
@st.composite
def arrays_and_axes(draw):
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    numbers = draw(st.randoms(use_true_random=False)).choices(range(-3, 4), k=math.prod(shape))
    x = np.asarray(numbers, dtype).reshape(shape)
    lists = st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda a: a % len(shape))
    axes = tuple(draw(lists)) if shape else ()
    return x, draw(st.sampled_from([axes, None])), draw(st.booleans())


@property_test
@given(arrays_and_axes())
def test_any_array_over_any_axes(case):
    x, axis, keepdims = case
    for name in ("sum", "mean", "prod", "var", "std", "max", "min"):
        ours, theirs = getattr(fg, name), FLOAT_VALUED[name]
        try:
            expected = quietly(theirs, x, axis=axis, keepdims=keepdims)
        except ValueError:
            with pytest.raises(ValueError, match="has length 0"):
                ours(x, axis=axis, keepdims=keepdims)
            continue
        close(ours(x, axis=axis, keepdims=keepdims), expected, x.dtype, f"{name} of shape {x.shape} over {axis}")
        if name in ("sum", "max", "min"):
            kept = quietly(theirs, x, axis=axis, keepdims=True)
            g = np.arange(1, kept.size + 1, dtype=x.dtype).reshape(kept.shape)
            hit = np.ones(x.shape, bool) if name == "sum" else x == kept
            share = hit.sum(axis=axis, keepdims=True) if name != "sum" else 1
            got = gradients(lambda t: ours(t, axis=axis, keepdims=True), x, cotangent=g)[0]
            np.testing.assert_allclose(
                got, g * hit / share, rtol=1e-6, err_msg=f"{name} of shape {x.shape} over {axis}"
            )


# ---- refusals -----------------------------------------------------------------------------------------------------
AxisError = np.exceptions.AxisError


@pytest.mark.parametrize("name", [*FLOAT_VALUED, "norm"])
def test_axes_that_do_not_exist(name):
    f, said = getattr(fg, name), {"amax": "max", "amin": "min"}.get(name, name)
    for axis in (3, -4, (0, 3)):
        wrong = axis if isinstance(axis, int) else 3
        with pytest.raises(AxisError, match=f"^{said}: axis {wrong} does not exist in a tensor of 3 dimensions$"):
            f(X, axis=axis)
    for axis in ((0, 0), (1, -2)):
        with pytest.raises(
            ValueError, match=rf"^{said}: .*named twice in {str(axis).replace('(', '.').replace(')', '.')}$"
        ):
            f(X, axis=axis)
    for axis in (1.0, "0", (0, 1.5)):
        with pytest.raises(TypeError, match=f"^{said}: expected an axis as an int, a tuple of ints or None, got"):
            f(X, axis=axis)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.bool_])
def test_softmin_of_integers(dtype):
    x = np.array([[0, 1, 3], [127, 2, 1]]).astype(dtype)
    found, expected = fg.softmin(x), scipy.special.softmax(-x.astype(float), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)
    assert found.dtype == fg.softmax(x).dtype
    lowest = np.array([np.iinfo(np.int8).min, 127], np.int8)
    np.testing.assert_array_equal(fg.softmin(lowest), [1, 0])  # in int8 the lowest number has no negative


@pytest.mark.parametrize("name", ONE_AXIS)
def test_softmax_refusals(name):
    with pytest.raises(AxisError, match=f"^{name}: axis 1 does not exist in a tensor of 0 dimensions$"):
        getattr(fg, name)(1.0, axis=1)
    with pytest.raises(AxisError, match=f"^{name}: axis 3 does not exist in a tensor of 3 dimensions$"):
        getattr(fg, name)(X, axis=3)


@pytest.mark.parametrize("axis", [0, -1, None])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_a_number_is_a_row_of_one(name, axis):
    for ours in [getattr(fg.special, name), *[getattr(fg, name)] * (axis is not None or name == "logsumexp")]:
        f = lambda x, ours=ours: ours(x, axis=axis)
        x = f(fg.tensor(2.5))
        assert x.shape == () and x == getattr(scipy.special, name)(np.array(2.5), axis=axis)
        assert fg.grad(f)(2.5) == fg.compile(fg.grad(f))(2.5) == (name == "logsumexp")
        assert fg.vmap(f)(np.ones(3)).shape == (3,)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_argmax_refusals(name):
    with pytest.raises(AxisError, match=f"^{name}: axis 3 does not exist in a tensor of 3 dimensions$"):
        getattr(fg, name)(X, axis=3)
    with pytest.raises(TypeError, match=rf"^{name}: expected one axis as an int, got \(0, 1\)$"):
        getattr(fg, name)(X, axis=(0, 1))


def test_norm_refusals():
    with pytest.raises(ValueError, match="^norm: expected one axis or two for ord=2, got 3$"):
        fg.norm(X, 2)
    with pytest.raises(ValueError, match="^norm: expected ord as a number for a vector norm, got 'nuc'$"):
        fg.norm(X[0, 0], "nuc")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [2, 3, 15, 16, 40, 600, 3000])  # rows of each kind that the kernel tells apart
def test_gradient_of_logsumexp_at_infinity(n, dtype):
    """A row of -inf moves with none of its elements; +inf takes the whole share; nan stays."""
    inf, other = np.inf, np.linspace(-1, 1, n)
    softmax = np.exp(other) / np.exp(other).sum()
    one_high, two_high, one_low, has_nan = (other.copy() for _ in range(4))
    one_high[1], two_high[:2], one_low[0], has_nan[-1] = inf, inf, -inf, np.nan
    low_nan = np.full(n, -inf)
    low_nan[0] = np.nan
    rows = np.array([np.full(n, -inf), one_high, two_high, other, one_low, has_nan, low_nan, np.full(n, -inf)], dtype)
    expected = np.zeros(rows.shape)
    expected[1, 1] = 1
    expected[2, :2] = 0.5
    expected[3] = softmax
    expected[4, 1:] = np.exp(other[1:]) / np.exp(other[1:]).sum()
    expected[5:7] = np.nan
    f = lambda x: fg.sum(fg.logsumexp(x, axis=-1))
    g = np.arange(1.0, len(rows) + 1).astype(dtype)
    weighted = lambda x: fg.sum(fg.logsumexp(x, axis=-1) * g)
    tolerance = dict(rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-30)
    np.testing.assert_allclose(fg.grad(weighted)(rows), expected * g[:, None], **tolerance)
    np.testing.assert_allclose(fg.compile(fg.grad(f))(rows), expected, **tolerance)
    np.testing.assert_allclose(fg.vmap(fg.grad(fg.logsumexp))(rows), expected, **tolerance)
    np.testing.assert_allclose(fg.grad(lambda x: fg.sum(fg.logsumexp(x, axis=0)))(rows.T), expected.T, **tolerance)
    t = np.linspace(1, 2, n).astype(dtype)
    slopes = fg.jvp(lambda x: fg.logsumexp(x, axis=-1), (rows,), (np.broadcast_to(t, rows.shape).copy(),))[1]
    np.testing.assert_allclose(slopes, expected @ t.astype(float), **tolerance)
    for row, p in zip(rows[:5], expected):
        product = fg.grad(lambda x: fg.sum(fg.grad(fg.logsumexp)(x) * t))(row)
        np.testing.assert_allclose(product, p * (t - p @ t), rtol=1e-4 if dtype == np.float32 else 1e-11, atol=1e-6)


# ---- NumPy's third argument ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    "sum prod mean nansum nanprod nanmean var std nanvar nanstd cumsum cumprod nancumsum nancumprod".split(),
)
def test_a_dtype_by_position_is_numpys(name):
    x = np.arange(6.0).reshape(2, 3)
    for dtype in (np.float32, "float32", np.dtype("f4"), None):
        expected = getattr(np, name)(x, 0, dtype)
        calls = [getattr(fg, name), lambda t, *args: getattr(np, name)(t, *args)]
        calls += [lambda t, *args: getattr(t, name)(*args)] if hasattr(fg.Tensor, name) else []
        for call in calls:
            y = call(fg.tensor(x), 0, dtype)
            assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)


def test_the_third_argument_is_numpys():
    x = np.ones((2, 3))
    third = "expected a dtype as the third argument, as in NumPy, got"
    for name in ("sum", "mean", "prod", "var", "std", "nansum", "nanmean"):
        with raises_text(TypeError, f"{name.removeprefix('nan')}: {third} True; write keepdims=True"):
            getattr(fg, name)(x, 0, True)
    with raises_text(TypeError, f"std: {third} 1; keepdims= and ddof= go by name"):
        fg.std(x, 0, 1)
    for name in ("max", "min", "any", "all", "median", "ptp"):
        with raises_text(TypeError, f"{name}: expected out= as a tensor, got True; write keepdims=True"):
            getattr(fg, name)(x, 0, True)
    with pytest.raises(TypeError, match="data type 'no' not understood"):
        fg.sum(x, 0, "no")
    assert fg.trace(x, 0, 0, 1, np.float32).dtype == np.trace(fg.tensor(x), 0, 0, 1, np.float32).dtype == np.float32
