"""Order statistics, searches, sets and counts against NumPy; gradients against differences, and where elements tie."""

import numpy as np
import pytest
from _expressions import as_numpy, function, in_every_mode, same
from _oracles import FLOATS, gradients, same_bits
from _samples import NUMPY_2_0
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg

RNG = np.random.default_rng(3)
X = RNG.permutation(60).reshape(3, 4, 5) / 7.0 - 4
WITH_NAN = np.where(RNG.random(X.shape) < 0.25, np.nan, X)
ALL_NAN = WITH_NAN.copy()
ALL_NAN[1, :, 2] = np.nan
TIED = RNG.integers(-2, 3, X.shape) * 1.0
INFINITE = np.where(RNG.random(X.shape) < 0.2, np.inf, np.where(RNG.random(X.shape) < 0.2, -np.inf, X))
METHODS = (
    "inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf hazen weibull linear "
    "median_unbiased normal_unbiased lower higher midpoint nearest"
).split()
INDEX = np.array([[[2], [0], [2], [1]]])

# With a gradient by x.
SMOOTH = [
    "m.sort(x)", "m.sort(x, axis=0)", "m.sort(x, 1, kind='stable')", "m.sort(x, axis=None)", "m.sort(x, stable=True)",
    "m.median(x)", "m.median(x, axis=1)", "m.median(x, axis=(0, 2), keepdims=True)", "m.median(x, axis=(-1, 1))",
    "m.nanmedian(x)", "m.nanmedian(x, axis=0)", "m.nanmedian(x, axis=(2, 1), keepdims=True)",
    "m.take_along_axis(x, np.argsort(np.zeros((3, 4, 5)), 1), 1)", "m.take_along_axis(x, np.arange(9) - 5, None)",
    f"m.take_along_axis(x, np.array({INDEX.tolist()}), axis=2)", "m.percentile(x, 30, axis=0)",
    "m.percentile(x, [10, 50, 99.5])", "m.nanpercentile(x, [[10, 50], [0, 100]], axis=1)",
    "m.quantile(x, np.linspace(0, 1, 13), axis=2)", "m.nanquantile(x, 0.3, axis=(0, 1), keepdims=True)",
    "m.quantile(x, 0.4, axis=1, keepdims=True)", "m.quantile(x, [], axis=1)",
    *[f"m.quantile(x, [0.0, 0.2, 0.35, 0.5, 0.75, 1.0], axis={axis}, method='{method}')" for method in METHODS
      for axis in (None, 1)],
    *[f"m.nanquantile(x, [0.0, 0.2, 0.5, 0.8], axis=2, method='{method}')" for method in METHODS],
    "m.quantile(x, [0.1, 0.6], 1, weights=np.array([1.0, 0.0, 2.0, 0.5]), method='inverted_cdf')",
    "m.nanquantile(x, 0.6, axis=(0, 2), weights=1 + np.arange(60.0).reshape(3, 4, 5) % 4, method='inverted_cdf')",
]  # fmt: skip
# Data.
SORTED = "np.array([-3.0, -1.0, 0.0, 0.0, 2.0])"
DISCRETE = [
    "m.argsort(x, kind='stable')", "m.argsort(x, axis=0, kind='stable')", "m.argsort(x, axis=None, stable=True)",
    "m.lexsort(x)", "m.lexsort((x[0], x[1] > 0, x[2] > 1), axis=0)", f"m.searchsorted({SORTED}, x)",
    f"m.searchsorted({SORTED}, x, side='right')", f"m.searchsorted({SORTED}[::-1], x, sorter=np.arange(4, -1, -1))",
    f"m.digitize(x, {SORTED})", f"m.digitize(x, {SORTED}[::-1], right=True)", f"m.isin(x, {SORTED})",
    f"m.isin(x, {SORTED}, invert=True)", "m.count_nonzero(x > 0, axis=1)",
    "m.count_nonzero(x, axis=(0, 2), keepdims=True)",
    "m.histogram(x, 4)", "m.histogram(x, 5, range=(-2, 2))", f"m.histogram(x, {SORTED})",
    "m.histogram(x, 3, density=True)",
    "m.histogram(x, 4, weights=np.arange(60).reshape(3, 4, 5))",
]  # fmt: skip
# Data whose shape depends on elements.
UNKNOWN = [
    "m.unique(x)", "m.unique(x, return_index=True, return_inverse=True, return_counts=True)", "m.unique(x, axis=1)",
    "m.unique(x, equal_nan=False, return_counts=True)", "m.nonzero(x)", "m.flatnonzero(x)", "m.argwhere(x)",
    "m.histogram(x[x == x], 'auto')",
]  # fmt: skip
ULPS = 4


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("text", SMOOTH)
def test_values_and_gradients(text, dtype):
    if NUMPY_2_0 and "weights" in text:
        pytest.skip("NumPy 2.0 gives something else here")
    x = X.astype(dtype)
    as_numpy(text, x, ULPS)
    in_every_mode(text, x)
    if dtype == np.float64 and "[]" not in text:
        fg.check_grads(function(text, fg), (x,), order=2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("x", [WITH_NAN, ALL_NAN, TIED, INFINITE], ids=["nan", "all nan", "ties", "infinities"])
@pytest.mark.parametrize("text", SMOOTH)
def test_special_values(text, x):
    if NUMPY_2_0 and "weights" in text:
        pytest.skip("NumPy 2.0 gives something else here")
    as_numpy(text, x, ULPS)
    if x is not ALL_NAN:
        in_every_mode(text, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.bool_])
@pytest.mark.parametrize("text", DISCRETE)
def test_data(text, dtype):
    if dtype == np.bool_ and ("histogram" in text or "digitize" in text):
        return  # NumPy's own warns or fails
    for x in (X, TIED):
        as_numpy(text, x.astype(dtype), ULPS)
        in_every_mode(text, x.astype(dtype))


@pytest.mark.parametrize("text", DISCRETE)
def test_data_with_nan(text):
    if "histogram" not in text:
        as_numpy(text, WITH_NAN)


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_depends_on_elements_is_not_traced(text):
    for x in (X, TIED, WITH_NAN, TIED.astype(int)):
        if text == "m.unique(x, axis=1)" and x is WITH_NAN:
            continue
        as_numpy(text, x)
    if "[x == x]" in text:
        return
    for trace in (fg.compile, lambda f: fg.vmap(f)):
        with pytest.raises(fg.TraceError, match="depends on which elements there are: instead use fastgrad.where"):
            trace(function(text, fg))(X)


@pytest.mark.parametrize("text", [t for t in SMOOTH if "weights" not in t and "take" not in t])
@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.bool_])
def test_integers_and_booleans(text, dtype):
    if dtype == np.bool_ and ("quantile" in text or "percentile" in text):
        return  # NumPy's own subtracts booleans
    as_numpy(text, (TIED > 0).astype(dtype) if dtype == np.bool_ else TIED.astype(dtype), ULPS)


# ---- ties, nan, signed zeros -----------------------------------------------------------------------------------------
def test_a_sort_is_stable_and_sends_gradients_to_single_elements():
    x = np.array([2.0, 1.0, 2.0, np.nan, -0.0, 0.0, np.nan, 2.0])
    order = np.argsort(x, kind="stable")
    for kind in (None, "quicksort", "heapsort", "mergesort", "stable"):
        same_bits(fg.argsort(x, kind=kind), order)
        w = np.arange(1.0, 9)
        (g,) = gradients(lambda x: fg.sort(x, kind=kind) * w, x)
        expected = np.empty(8)
        expected[order] = w
        same_bits(g, expected)
    same_bits(np.signbit(fg.sort([0.0, -0.0, 0.0]).numpy()), [False, True, False])


def test_the_gradient_of_a_median_goes_where_a_sort_puts_it():
    np.testing.assert_array_equal(fg.grad(fg.median)(np.array([2.0, 1.0, 2.0, 2.0, 3.0])), [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(fg.grad(fg.median)(np.array([5.0, 5.0])), [0.5, 0.5])
    np.testing.assert_array_equal(fg.grad(fg.median)(np.array([1.0, np.nan, 2.0])), [0, 1, 0])
    np.testing.assert_array_equal(fg.grad(fg.nanmedian)(np.array([1.0, np.nan, 3.0])), [0.5, 0, 0.5])
    x = RNG.integers(0, 4, 41) * 1.0
    for q in (0.1, 0.25, 0.5, 0.9):
        at = fg.grad(lambda x: fg.quantile(x, q, method="lower"))(x)
        same_bits(at, fg.grad(lambda x: fg.sort(x)[int(40 * q)])(x))


@given(st.lists(st.floats(width=32), min_size=1, max_size=400), st.booleans(), st.data())
def test_the_order_of_any_floats(values, descending, data):
    from fastgrad import _core

    dtype = data.draw(st.sampled_from(FLOATS))
    x = np.array(values, dtype)
    order = len(x) - 1 - np.argsort(x[::-1], kind="stable")[::-1] if descending else np.argsort(x, kind="stable")
    argsort = _core.OP_NUMBERS["argsort"]
    same_bits(_core.apply_op(argsort, [fg.tensor(x)], (descending,)), order)
    places = data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1, max_size=12))
    same_bits(_core.apply_op(argsort, [fg.tensor(x)], (descending, *places)), order[places])


def test_places_are_within_the_axis():
    from fastgrad import _core

    argsort = _core.OP_NUMBERS["argsort"]
    for shape, attr, text in (
        ((3,), (0, 3), "argsort: place 3 is outside an axis of length 3"),
        ((2, 0), (0, 0), "argsort: place 0 is outside an axis of length 0"),
        ((), (0,), "argsort: expected at least one axis, got a single number"),
    ):
        with pytest.raises((IndexError, ValueError), match=text):
            _core.apply_op(argsort, [fg.zeros(shape)], attr)
    with pytest.raises(TypeError, match="argsort: expected float32 or float64, got int64"):
        _core.apply_op(argsort, [fg.tensor([1, 2])], (0,))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [2, 16, 17, 256, 257, 1024, 1025, 5000])
@pytest.mark.parametrize("kind", ["normal", "few values", "narrow", "reversed", "wide", "one value"])
def test_the_order_of_long_rows(kind, n, dtype):
    """Every way in which rows are ordered: insertion, merging, digits; and the narrowing to a place."""
    x = RNG.normal(size=(3, n))
    x = {
        "normal": x, "few values": np.round(x), "narrow": 1 + x * 1e-6, "reversed": np.sort(x)[:, ::-1],
        "wide": np.sign(x) * 10.0 ** np.clip(9 * x, -37, 37), "one value": np.ones_like(x),
    }[kind].astype(dtype)  # fmt: skip
    same_bits(fg.argsort(x), np.argsort(x, kind="stable"))
    same_bits(fg.sort(x), np.sort(x, kind="stable"))
    same(fg.median(x, axis=1), np.median(x, axis=1), "median", 1e-6)
    same(fg.quantile(x, [0, 0.01, 0.3, 1], axis=1), np.quantile(x, [0, 0.01, 0.3, 1], axis=1), "quantile", 1e-6)
    values, index = fg.topk(x, n // 2)
    np.testing.assert_array_equal(values.numpy(), np.sort(x)[:, ::-1][:, : n // 2])
    same_bits(np.take_along_axis(x, index.numpy(), 1), values)


# ---- functions that NumPy has otherwise or not -----------------------------------------------------------------------
@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_partitions(axis):
    for kth in (2, [1, -1], -3):
        y, i = fg.partition(TIED, kth, axis).numpy(), fg.argpartition(TIED, kth, axis).numpy()
        expected = np.sort(TIED, axis)
        same_bits(y, expected)
        same_bits(np.take_along_axis(TIED, i, axis), expected)
    fg.check_grads(lambda x: fg.partition(x, 1, axis), (X,))
    assert fg.partition(np.ones((2, 0)), 1).shape == fg.argpartition(np.ones((2, 0)), 1).shape == (2, 0)


def test_topk_and_kthvalue():
    x = np.array([[1.0, np.nan, 3.0, 3.0, -1.0], [2.0, 2.0, 2.0, -np.inf, np.inf]])
    values, index = fg.topk(x, 3)
    np.testing.assert_array_equal(values.numpy(), [[np.nan, 3, 3], [np.inf, 2, 2]])
    np.testing.assert_array_equal(index.numpy(), [[1, 2, 3], [4, 0, 1]])
    values, index = fg.topk(x.T, 1, axis=0)
    np.testing.assert_array_equal(index.numpy(), [[1, 4]])
    assert [r.shape for r in fg.topk(x, 0)] == [(2, 0), (2, 0)]
    ints, index = fg.topk([3, 5, 5, 1], 2)
    assert (ints.tolist(), index.tolist()) == ([5, 5], [1, 2])
    value, index = fg.kthvalue(x, 2)
    assert (value.tolist(), index.tolist()) == ([1.0, 2.0], [0, 0])
    value, index = fg.kthvalue(X, 3, axis=1, keepdims=True)
    same_bits(value, np.sort(X, 1)[:, 2:3])
    for f in (lambda x: fg.topk(x, 2, axis=1)[0], lambda x: fg.kthvalue(x, 2, axis=0)[0]):
        fg.check_grads(f, (X,), order=2)
        same_bits(fg.compile(f)(X), f(X))
        same_bits(fg.vmap(f)(np.stack([X, -X])), np.stack([f(X).numpy(), f(-X).numpy()]))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_values_put_along_an_axis(axis):
    index = RNG.integers(-3, 3, [2 if i == axis % 3 else n for i, n in enumerate(X.shape)])
    values = RNG.normal(size=index.shape)
    for v in (values, 7.0, values.take([0], axis)):
        expected = X.copy()
        np.put_along_axis(expected, index, v, axis)
        same_bits(fg.put_along_axis(X, index, v, axis), expected)
    f = lambda x, v: fg.put_along_axis(x, index, v, axis) ** 2
    fg.check_grads(f, (X, values), order=2, rtol=1e-5, atol=1e-5)
    same_bits(fg.compile(f)(X, values), f(X, values))
    same_bits(
        fg.vmap(f)(np.stack([X, -X]), np.stack([values, values + 1])),
        np.stack([f(X, values).numpy(), f(-X, values + 1).numpy()]),
    )


def test_values_put_into_a_raveled_array():
    expected = X.copy()
    np.put_along_axis(expected, np.array([3, 59, 3]), [1.0, 2.0, 5.0], None)
    same_bits(fg.put_along_axis(X, [3, 59, 3], [1.0, 2.0, 5.0], None), expected)
    same_bits(fg.put_along_axis([1, 2], [0], 9, 0), np.array([9, 2]))


def test_gradients_by_probabilities_and_their_traces():
    q = np.array([0.13, 0.5, 0.77])
    for method in ("linear", "hazen", "weibull", "median_unbiased"):
        f = lambda x, q: fg.quantile(x, q, axis=1, method=method)
        fg.check_grads(f, (X, q + 0.01), order=2, rtol=1e-5, atol=1e-5)
    for method in METHODS:
        for name in ("quantile", "nanquantile", "percentile"):
            scale = 100 if name == "percentile" else 1
            x = WITH_NAN if name == "nanquantile" else X
            f = lambda x, q: getattr(fg, name)(x, q, axis=1, method=method)
            expected = getattr(np, name)(x, q * scale, axis=1, method=method)
            np.testing.assert_allclose(fg.compile(f)(x, q * scale), expected, rtol=1e-13)
            np.testing.assert_allclose(
                fg.vmap(f, (None, 0), -1)(x, q * scale), np.moveaxis(expected, 0, -1), rtol=1e-13
            )


@pytest.mark.skipif(NUMPY_2_0, reason="weighted quantiles over several axes are wrong in NumPy 2.0")
def test_weighted_quantiles_in_a_program():
    w = 1.0 + np.arange(60.0).reshape(X.shape) % 5
    f = lambda x, w, q: fg.quantile(x, q, axis=(0, 2), weights=w, method="inverted_cdf")
    expected = np.quantile(X, [0.1, 0.7], axis=(0, 2), weights=w, method="inverted_cdf")
    np.testing.assert_array_equal(fg.compile(f)(X, w, np.array([0.1, 0.7])), expected)


@pytest.mark.parametrize("dtype", ["i1", "u2", "i8", "?"])
def test_counts_of_integers(dtype):
    x = np.array([0, 1, 1, 3, 0, 1]).astype(dtype) if dtype != "?" else np.array([True, False, True])
    if dtype == "?":
        same_bits(fg.bincount(x), np.array([1, 2]))
        return
    w = np.linspace(0.5, 1, 6)
    for keywords in ({}, {"minlength": 6}, {"weights": w}, {"weights": w.astype("f4"), "minlength": 5}):
        same_bits(fg.bincount(x, **keywords), np.bincount(x, **keywords))
    for length in (0, 2, 6):
        whole = np.bincount(x, minlength=6)
        same_bits(fg.compile(lambda x: fg.bincount(x, length=length))(x), whole[:length])
        f = lambda w, x: fg.bincount(x, w, length=length)
        np.testing.assert_allclose(fg.compile(f)(w, x), np.bincount(x, w, 6)[:length])
        fg.check_grads(f, (w, x), order=2) if length else None
    same_bits(
        fg.vmap(lambda x: fg.bincount(x, length=4))(np.stack([x, x[::-1] // 2])),
        np.stack([np.bincount(x, minlength=4), np.bincount(x // 2, minlength=4)]),
    )
    same_bits(fg.bincount(np.array([], int)), np.bincount(np.array([], int)))
    with pytest.raises(
        fg.TraceError, match="the length of the result depends on the largest of them: give it as length="
    ):
        fg.compile(fg.bincount)(x)


def test_weights_of_histograms_have_gradients():
    edges = np.array([-4.0, -1.0, 0.5, 4.5])
    w = RNG.uniform(1, 2, X.shape)
    for density in (False, True):
        f = lambda w: fg.histogram(X, edges, density=density, weights=w)[0]
        np.testing.assert_allclose(f(w).numpy(), np.histogram(X, edges, density=density, weights=w)[0])
        fg.check_grads(f, (w,), order=2)
        np.testing.assert_allclose(fg.compile(f)(w), f(w).numpy())
    got = fg.vmap(lambda x, w: fg.histogram(x, 3, weights=w)[0])(np.stack([X, X * 2]), np.stack([w, w]))
    np.testing.assert_allclose(got, [np.histogram(X, 3, weights=w)[0], np.histogram(X * 2, 3, weights=w)[0]])


def test_distinct_elements_have_gradients():
    x = np.array([2.0, 1.0, 2.0])
    np.testing.assert_array_equal(fg.grad(lambda x: (fg.unique(x) * [3.0, 5.0]).sum())(x), [5, 3, 0])
    fg.check_grads(lambda x: fg.unique(x, axis=1) ** 2, (X,), order=2)
    assert fg.unique([3.0, 1.0, 3.0], sorted=False).tolist() == [1, 3]


# ---- shapes without elements, or without axes ------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_empty(shape):
    x = np.zeros(shape)
    for text in (
        "m.sort(x)", "m.sort(x, 0)", "m.argsort(x)", "m.median(x, axis=-1)", "m.median(x)", "m.nanmedian(x, axis=0)",
        "m.unique(x)", "m.nonzero(x)", "m.count_nonzero(x)", "m.isin(x, [1.0])", "m.searchsorted(np.zeros(0), x)",
        "m.digitize(x, [0.0, 1.0])", "m.take_along_axis(x, np.zeros(x.shape, int), 0)", "m.histogram(x, 3)",
        "m.flatnonzero(x)", "m.argwhere(x)", "m.lexsort(x)",
    ):  # fmt: skip
        if text == "m.lexsort(x)" and shape[0] == 0:
            continue
        same(function(text, fg)(fg.tensor(x)), _quiet(text, x), text)
    assert fg.quantile(x, 0.5).shape == () and np.isnan(fg.quantile(x, 0.5).item())
    assert fg.grad(lambda x: fg.sort(x).sum())(x).shape == shape


def _quiet(text, x):
    from _expressions import quietly

    return quietly(function(text, np), x)


def test_single_numbers():
    for text in ("m.argsort(x)", "m.median(x)", "m.quantile(x, 0.3)", "m.nanmedian(x)", "m.searchsorted([1.0, 2.0], x)",
                 "m.count_nonzero(x)", "m.unique(x)", "m.isin(x, [3.0])", "m.sort(x, axis=None)", "m.argwhere(x)",
                 "m.flatnonzero(x)"):  # fmt: skip
        same(function(text, fg)(fg.tensor(3.0)), function(text, np)(np.array(3.0)), text)
    assert fg.grad(fg.median)(2.0) == 1


# ---- errors ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: fg.sort(3.0), ValueError, "sort: axis -1 does not exist in a tensor of 0 dimensions"),
        (lambda: fg.sort(X, kind="bubble"), ValueError, "sort: expected a kind among 'quicksort', .*, got 'bubble'"),
        (lambda: fg.sort(X, kind="stable", stable=True), ValueError, "sort: expected kind= or stable=, got both"),
        (lambda: fg.argsort(X, order="f"), ValueError, "argsort: order= names fields, and tensors have none"),
        (lambda: fg.tensor(X).sort(), TypeError,
         r"sort: a tensor is not sorted in place; write x = fastgrad.sort\(x\)"),
        (lambda: fg.tensor(X).partition(1), TypeError, "partition: a tensor is not partitioned in place"),
        (lambda: fg.partition(X, 5), ValueError, "partition: kth=5 is outside an axis of length 5"),
        (lambda: fg.argpartition(X, 0, kind="x"), ValueError, "argpartition: expected kind='introselect', got 'x'"),
        (lambda: fg.topk(X, 6), ValueError, "topk: expected k from 0 to 5, the length of the axis, got 6"),
        (lambda: fg.kthvalue(X, 0), ValueError, "kthvalue: expected k from 1 to 5, the length of the axis, got 0"),
        (lambda: fg.lexsort([]), TypeError, "lexsort: expected at least one key, got none"),
        (lambda: fg.lexsort([[1.0], [1.0, 2.0]]), ValueError, r"lexsort: expected keys of one shape, got \(1,\) and"),
        (lambda: fg.take_along_axis(X, [[[0.5]]]), IndexError,
         "take_along_axis: expected integer indices, got float64"),
        (lambda: fg.take_along_axis(X, [0]), ValueError, "take_along_axis: expected indices with as many axes"),
        (lambda: fg.take_along_axis(X, [[0]], None), ValueError, "take_along_axis: expected one axis of indices"),
        (lambda: fg.take_along_axis([1.0], [3]), IndexError, "index 3 .* is outside an axis of length 1"),
        (lambda: fg.put_along_axis([1.0], [3], 0.0, 0), IndexError,
         "put_along_axis: index 3 is outside an axis of length 1"),
        (lambda: fg.put_along_axis([[1.0]], [[0], [0]], 0.0, 1), ValueError, "put_along_axis: indices of shape"),
        (lambda: fg.quantile(X, 1.5), ValueError, "quantile: expected q from 0 to 1, got 1.5"),
        (lambda: fg.percentile(X, [5, -1]), ValueError, r"percentile: expected q from 0 to 100, got \[5.0, -1.0\]"),
        (lambda: fg.quantile(X, "a"), TypeError, "quantile: expected q as a number or an array of numbers"),
        (lambda: fg.quantile(X, 0.5, method="cubic"), ValueError,
         "quantile: expected a method among inverted_cdf, .*'cubic'"),
        (lambda: fg.quantile(X, 0.5, weights=X), ValueError,
         "quantile: weights= need method='inverted_cdf', got 'linear'"),
        (lambda: fg.quantile(X, 0.5, weights=-abs(X), method="inverted_cdf"), ValueError,
         "expected weights of at least 0"),
        (lambda: fg.quantile(X, 0.5, weights=0 * X, method="inverted_cdf"), ValueError,
         "finite weights that are not all 0"),
        (lambda: fg.quantile(X, 0.5, weights=[1.0], method="inverted_cdf"), ValueError, "quantile: weights of shape"),
        (lambda: fg.searchsorted(X, 1.0), ValueError, r"searchsorted: expected a sorted vector, got shape \(3, 4, 5\)"),
        (lambda: fg.searchsorted([1.0], 1.0, "middle"), ValueError, "searchsorted: expected side 'left' or 'right'"),
        (lambda: fg.digitize(X, [1.0, 3.0, 2.0]), ValueError, "bins must be monotonically"),
        (lambda: fg.digitize(X, 1.0), ValueError, "digitize: expected the bounds as a vector"),
        (lambda: fg.nonzero(1.0), ValueError, "nonzero"),
        (lambda: fg.bincount([0.5]), TypeError, "bincount: expected integers, got float64"),
        (lambda: fg.bincount([[1]]), ValueError, r"bincount: expected a vector, got shape \(1, 1\)"),
        (lambda: fg.bincount([1, -1]), ValueError, "bincount: expected integers of at least 0, got -1"),
        (lambda: fg.bincount([1], minlength=-1), ValueError, "bincount: expected minlength of at least 0, got -1"),
        (lambda: fg.bincount([1], [1.0, 2.0]), ValueError, "bincount: expected a weight for each of 1 integers"),
        (lambda: fg.histogram(X, [1.0, 0.0]), ValueError, "histogram: expected edges that increase"),
        (lambda: fg.histogram(X, [1.0]), ValueError, "histogram: expected at least two edges, got 1"),
        (lambda: fg.histogram(X, [[1.0]]), ValueError, "histogram: expected bins as a number or a vector of edges"),
        (lambda: fg.histogram(X, weights=[1.0]), ValueError, "histogram: expected weights of shape"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    if NUMPY_2_0 and text == "nonzero":
        pytest.skip("NumPy 2.0 gives something else here")
    with pytest.raises(error, match=text):
        call()


@pytest.mark.skipif(NUMPY_2_0, reason="quantiles beside infinity warn in NumPy 2.0")
def test_the_ends_as_integers_beside_infinity():
    x = np.array([-np.inf, 0.0, 1.0, np.inf])
    for dtype in (np.float32, np.float64):
        for q in (0, 1, [0, 1], True):
            same_bits(fg.quantile(x.astype(dtype), q), np.quantile(x.astype(dtype), q))


@pytest.mark.parametrize("name", ["quantile", "nanquantile", "percentile", "nanpercentile"])
@pytest.mark.parametrize("method", METHODS)
def test_probabilities_outside_are_refused_wherever_they_are_known(name, method):
    f = lambda q: getattr(fg, name)(X, q, method=method)
    compiled = fg.compile(f)
    whole = 100 if "percent" in name else 1
    for q in (1.5 * whole, -0.5 * whole, np.nan):
        for call in (f, fg.grad(f), compiled, lambda q: fg.vmap(f)(np.array([0.5, q]))):
            with pytest.raises(ValueError, match=f"^{name}: expected q from 0 to {whole}, got"):
                call(np.array(q))
    np.testing.assert_allclose(compiled(np.array(0.25 * whole)), f(0.25 * whole))
    if method == "inverted_cdf":
        weighted = fg.compile(lambda q: getattr(fg, name)(X, q, method=method, weights=np.ones(X.shape)))
        with pytest.raises(ValueError, match=f"^{name}: expected q from 0 to {whole}, got"):
            weighted(np.array(1.5 * whole))


def test_the_edges_of_a_density_have_their_gradient():
    def height(edges):
        counts, found = fg.histogram(np.array([0.0, 1.0, 1.5]), edges, density=True)
        assert not found.requires_grad
        return counts @ np.array([1.0, 3.0])

    fg.check_grads(height, np.array([-0.1, 0.7, 2.0]), order=2)


@pytest.mark.parametrize("function", [
    lambda v: fg.put_along_axis(np.array([1, 2, 3]), np.array([0]), v, 0),
    lambda v: fg.full_like(np.array([1, 2]), v),
    lambda v: fg.sum(np.array([1, 2]), initial=v),
    lambda v: fg.max(np.array([1, 2]), initial=v),
    lambda v: fg.max(np.zeros((0, 2), int), 0, initial=v),
])  # fmt: skip
def test_values_with_gradients_do_not_end_in_integers(function):
    with pytest.raises(TypeError, match="values that require gradients would lose them in an array of int64"):
        fg.grad(lambda v: function(v).sum())(1.5)
    np.testing.assert_array_equal(function(4.0), function(4))
