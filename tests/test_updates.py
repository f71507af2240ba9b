"""Functional updates, x.at[index].set(values) and so on: against NumPy's assignments and ufunc.at, for every kind of
index; gradients to both sides to second order; mapped, compiled and in forward mode; repeated indices."""

import numpy as np
import pytest
from _oracles import same_bits

import fastgrad as fg

X = np.arange(12.0).reshape(3, 4) / 3 + 1
MASK = np.array([[True, False, True, False], [False] * 4, [True] * 4])
KEYS = {
    "int": 1,
    "negative": -1,
    "NumPy int": np.int8(2),
    "slice": slice(1, None),
    "step": slice(None, None, -2),
    "ints": (1, -2),
    "slices": (slice(0, 2), slice(1, 3)),
    "int and slice": (0, slice(None, None, 2)),
    "ellipsis": (..., 1),
    "all": ...,
    "new axis": (None, 1),
    "empty tuple": (),
    "list": [2, 0],
    "array": np.array([0, 2]),
    "matrix": np.array([[0, 1], [2, 0]])[:, :1],
    "pairs": ([0, 1, 2], [3, 1, 0]),
    "mixed": (slice(None), [0, 3]),
    "mask": MASK,
    "mask of rows": np.array([True, False, True]),
    "mask of columns": (slice(None), np.array([1, 0, 0, 1], bool)),
    "empty list": [],
    "empty slice": slice(2, 2),
    "tensor": fg.tensor([2, 1]),
    "tensors": (fg.tensor([2, 1]), fg.tensor([0, 0])),
    "mesh": np.ix_([0, 2], [1, 3]),
}
REPEATED = {
    "rows": np.array([0, 2, 0, 0]),
    "elements": ([0, 1, 0, 0, 2], [1, 1, 1, 1, 3]),
    "raveled rows": [1, 1],
    "negative": [0, -3, 1],
    "columns": (slice(None), [2, 2]),
}
NUMPY_KEYS = {**KEYS, **REPEATED}
UFUNCS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "min": np.minimum,
    "max": np.maximum,
}
NAMES = ["set", *UFUNCS]


def plain(key):
    if isinstance(key, tuple):
        return tuple(plain(k) for k in key)
    return key.numpy() if isinstance(key, fg.Tensor) else key


def values_for(x, key, dtype=np.float64):
    shape = x[plain(key)].shape
    return (np.cos(np.arange(np.prod(shape, dtype=int))) + 1.5).reshape(shape).astype(dtype)


def updated(name, x, key, v):
    """NumPy's own update in place."""
    y, key = x.copy(), plain(key)
    if name == "set":
        y[key] = v
    else:
        UFUNCS[name].at(y, key, v)
    return y


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", NUMPY_KEYS)
def test_values_are_those_of_numpys_update_in_place(kind, name):
    key = NUMPY_KEYS[kind]
    for dtype in (np.float64, np.float32):
        x = X.astype(dtype)
        v = values_for(x, key, dtype)
        got = getattr(fg.asarray(x).at[key], name)(v)
        assert got.dtype == dtype and got.shape == x.shape
        np.testing.assert_allclose(got.numpy(), updated(name, x, key, v), rtol=1e-13 if dtype == np.float64 else 1e-5)
        same_bits(x, X.astype(dtype), "x has changed")
        if len(np.shape(v)):  # values that broadcast
            np.testing.assert_allclose(
                getattr(fg.asarray(x).at[key], name)(1.75), updated(name, x, key, 1.75), rtol=1e-5
            )


@pytest.mark.parametrize("name", ["set", "add", "subtract", "multiply", "power", "min", "max"])
@pytest.mark.parametrize("kind", ["int", "slice", "pairs", "mask", "rows", "elements"])
def test_values_of_integers(kind, name):
    key = NUMPY_KEYS[kind]
    for dtype in (np.int64, np.uint8):
        x = np.arange(12, dtype=dtype).reshape(3, 4)
        v = (np.arange(x[key].size) % 3).reshape(x[key].shape).astype(dtype)
        same_bits(getattr(fg.asarray(x).at[key], name)(v), updated(name, x, key, v), f"{name} of {dtype}")


def test_booleans_are_set():
    same_bits(fg.asarray(MASK).at[0].set(True), updated("set", MASK, 0, True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", NUMPY_KEYS)
def test_gradients_to_both_sides(kind, name):
    key = NUMPY_KEYS[kind]

    def f(x, v):
        return getattr(x.at[key], name)(v)

    fg.check_grads(f, (X, values_for(X, key)), order=2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", NUMPY_KEYS)
def test_mapped_and_compiled(kind, name):
    key = NUMPY_KEYS[kind]
    xs = np.stack([X, X + 0.25, X[::-1]])
    vs = np.stack([values_for(X, key) + k / 8 for k in range(3)])

    def f(x, v):
        return fg.sum(fg.sin(getattr(x.at[key], name)(v)))

    both = fg.value_and_grad(f, argnums=(0, 1))
    compiled = fg.compile(both)
    alone = [both(x, v) for x, v in zip(xs, vs)]
    for k in range(3):
        value, grads = compiled(xs[k], vs[k])
        np.testing.assert_allclose(value, alone[k][0], rtol=1e-14)
        for a, b in zip(grads, alone[k][1]):
            np.testing.assert_allclose(a, b, rtol=1e-13)
    for mapped in (fg.vmap(both), fg.compile(fg.vmap(both))):
        values, (gx, gv) = mapped(xs, vs)
        np.testing.assert_allclose(values, [a[0] for a in alone], rtol=1e-14)
        np.testing.assert_allclose(gx, [a[1][0] for a in alone], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(gv, [a[1][1] for a in alone], rtol=1e-12, atol=1e-15)


INDICES = {"single": (), "one": (1,), "vector": (4,), "matrix": (2, 2)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", INDICES)
def test_an_index_that_changes_from_call_to_call(kind, name):
    """Compiled and mapped with repeats among its elements, of rows and of elements."""
    rng = np.random.default_rng(0)
    shape = INDICES[kind]
    compiled = {}
    for of_rows in (True, False):

        def f(x, v, i, j, of_rows=of_rows):
            return getattr(x.at[i if of_rows else (i, j)], name)(v)

        compiled[of_rows] = (
            f,
            fg.compile(f),
            fg.compile(fg.grad(lambda x, v, i, j, f=f: fg.sum(fg.sin(f(x, v, i, j))), argnums=(0, 1))),
        )
    for _ in range(4):
        i, j = rng.integers(-3, 3, shape), rng.integers(0, 4, shape)
        for of_rows, (f, fast, slopes) in compiled.items():
            key = i if of_rows else (i, j)
            v = values_for(X, key)
            expected = updated(name, X, key, v)
            np.testing.assert_allclose(fast(X, v, i, j), expected, rtol=1e-13)
            eager = fg.grad(lambda x, v: fg.sum(fg.sin(f(x, v, i, j))), argnums=(0, 1))(X, v)
            for got, wanted in zip(slopes(X, v, i, j), eager):
                np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15)
    many = rng.integers(-3, 3, (5, *shape)), rng.integers(0, 4, (5, *shape))
    for of_rows, (f, _, _) in compiled.items():
        keys = [i if of_rows else (i, j) for i, j in zip(*many)]
        vs = np.stack([values_for(X, key) for key in keys])
        expected = [updated(name, X, key, v) for key, v in zip(keys, vs)]
        for mapped in (fg.vmap(f, (None, 0, 0, 0)), fg.compile(fg.vmap(f, (None, 0, 0, 0)))):
            np.testing.assert_allclose(mapped(X, vs, *many), expected, rtol=1e-13)


def test_repeated_indices():
    """add accumulates, set keeps the last; the gradient of set goes to that one alone."""
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    v = fg.tensor([10.0, 20.0, 30.0], requires_grad=True)
    y = x.at[[0, 0, 0]].set(v)
    same_bits(y, np.array([30.0, 2.0]))
    y.sum().backward()
    assert (x.grad.tolist(), v.grad.tolist()) == ([0, 1], [0, 0, 1])
    same_bits(fg.zeros(2).at[[1, 1, 1]].add([1.0, 2.0, 4.0]), np.array([0.0, 7.0]))
    # a product is exact where values are 0
    slopes = fg.grad(lambda v: fg.ones(1).at[[0, 0, 0]].multiply(v)[0])(np.array([0.0, 2.0, 3.0]))
    np.testing.assert_array_equal(slopes, [6, 0, 0])


def test_ties_share_the_gradient():
    for name in ("min", "max"):
        gx, gv = fg.grad(lambda x, v: getattr(x.at[[0, 0]], name)(v)[0], argnums=(0, 1))(
            np.full(1, 2.0), np.full(2, 2.0)
        )
        np.testing.assert_allclose(np.concatenate([gx, gv]), 1 / 3)


def test_get_is_indexing():
    for key in NUMPY_KEYS.values():
        same_bits(fg.asarray(X).at[key].get(), X[plain(key)])


def test_infinite_and_undefined_values_stay_where_they_are():
    x = np.array([np.inf, np.nan, 1.0])
    for name in ("set", "add", "multiply", "max"):
        got = getattr(fg.asarray(x).at[2], name)(2.0)
        np.testing.assert_array_equal(got.numpy()[:2], x[:2])
    for key in (np.array([False, False, True]), 2):
        value, slope = fg.value_and_grad(lambda x: x.at[key].power(0.5)[2])(np.array([-1.0, np.nan, 4.0]))
        assert value == 2 and slope.tolist() == [0, 0, 0.25]


def test_a_mask_of_a_trace_takes_values_that_broadcast_over_it():
    def clipped(x):
        return x.at[x > 2].set(2.0).at[x < 1.5].multiply(3.0)

    expected = np.where(X > 2, 2.0, np.where(X < 1.5, 3 * X, X))
    same_bits(fg.compile(clipped)(X), expected)
    same_bits(fg.vmap(clipped)(X), expected)
    rows = fg.compile(lambda x, v: x.at[x[:, 0] > 2].set(v))
    same_bits(rows(X, X[0]), np.where(X[:, :1] > 2, X[0], X))
    fg.check_grads(clipped, (X + 0.01,), order=2)


def test_in_loops():
    def ones_below(n):
        return fg.fori_loop(0, 4, lambda i, a: a.at[i].set(n * i).at[[i, 0]].add(1.0), fg.zeros(4))

    expected = np.zeros(4)
    for i in range(4):
        expected[i] = 2.0 * i
        np.add.at(expected, [i, 0], 1.0)
    for f in (ones_below, fg.compile(ones_below)):
        np.testing.assert_array_equal(f(2.0), expected)
    for f in (fg.jacobian(ones_below), fg.compile(fg.jacobian(ones_below)), fg.jacfwd(ones_below)):
        np.testing.assert_array_equal(f(2.0), np.arange(4))


def test_numbers_and_empty_arrays():
    same_bits(fg.asarray(1.5).at[()].set(2.0), np.array(2.0))
    same_bits(fg.asarray(1.5).at[...].add(2.0), np.array(3.5))
    same_bits(fg.zeros((0, 3)).at[:].set(1.0), np.zeros((0, 3)))
    same_bits(fg.zeros((0, 3)).at[:, 1].add(np.zeros(0)), np.zeros((0, 3)))


def test_errors():
    x = fg.asarray(X)
    for key in (3, -4, [0, 3], (0, 4), np.array([5])):
        with pytest.raises(IndexError):
            x.at[key].set(0.0)
    with pytest.raises(IndexError, match="index 3 at position 0 is outside an axis of length 3"):
        fg.compile(lambda x, i: x.at[i].set(0.0))(X, 3)
    with pytest.raises(TypeError, match=r"^at\[\].set: values of float64 do not go into a tensor of int64; cast one"):
        fg.asarray([1, 2]).at[0].set(0.5)
    with pytest.raises(TypeError, match=r"^at\[\].divide: the quotients of int64 are no integers"):
        fg.asarray([1, 2]).at[0].divide(2)
    with pytest.raises(OverflowError):
        fg.asarray(np.zeros(2, np.uint8)).at[0].set(256)
    with pytest.raises(ValueError, match="does not stretch"):
        x.at[0].set(np.zeros(3))
    with pytest.raises(fg.TraceError):
        fg.compile(lambda x: x.at[x > 2].set(fg.ones(3)))(X)


def test_elements_of_an_ndarray_are_set_by_what_the_error_advises():
    for f in (lambda x: np.zeros(3).__setitem__(0, x[0]), lambda x: np.zeros(3).__setitem__(slice(3), x)):
        with pytest.raises(TypeError, match=r"a = fastgrad.asarray\(a\).at\[i\].set\(x\)"):
            fg.grad(lambda x: f(x) or x.sum())(np.ones(3))
    np.testing.assert_array_equal(
        fg.grad(lambda x: (fg.asarray(np.ones(3)).at[0].set(x[0]) * 2).sum())(np.ones(3)), [2, 0, 0]
    )


@pytest.mark.parametrize("tracer", [fg.compile, fg.vmap])
def test_elements_of_an_ndarray_that_is_filled_in_a_trace(tracer):
    for key in (0, slice(None)):

        def f(x, key=key):
            a = np.zeros(2)
            a[key] = x[key]
            return x

        with pytest.raises(fg.TraceError, match=r"a = fastgrad.asarray\(a\).at\[i\].set\(x\)"):
            tracer(f)(np.ones(2) if tracer is fg.compile else np.ones((3, 2)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.float32])
def test_numbers_are_subtracted_from_every_dtype(dtype):
    x = np.array([3, 0, 5], dtype)
    for key, value in ((0, 1), ([0, 0, 1], 1), (np.array([True, False, True]), np.array([1, 2], dtype))):
        expected = x.copy()
        np.subtract.at(expected, key, np.asarray(value, dtype))
        same_bits(fg.asarray(x).at[key].subtract(value), expected)
    if dtype == np.float32:
        same_bits(fg.asarray(x).at[0].subtract(True), np.array([2, 0, 5], dtype))


def test_a_mask_that_chooses_nothing_leaves_no_slope():
    none = np.zeros(2, bool)
    for method in ("divide", "power"):
        f = lambda v, mask, method=method: getattr(fg.asarray([1.0, 2.0]).at[mask], method)(v).sum()
        assert fg.grad(f)(0.0, none) == 0
        assert fg.compile(fg.grad(f))(0.0, none) == 0
    y = fg.asarray([True, False]).at[none].power(True)
    assert y.dtype == np.bool_, y.dtype
