"""Joining and splitting, inserting and deleting, grids: against NumPy's, and under every transform."""

import numpy as np
import pytest
from _errors import raises_text
from _oracles import same_bits
from _samples import NUMPY_2_0
from _surface import check_transforms, parts, same_as_numpy

import fastgrad as fg

X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.random.default_rng(1).normal(size=(3, 4))
V = np.array([1.5, -2.0, 0.25])
JOINS = {
    "dstack": lambda m, x, y: m.dstack([x, y]),
    "dstack, vectors": lambda m, x, y: m.dstack([x[0], y[0]]),
    "dstack, 3-d": lambda m, x, y: m.dstack([x[..., None], y[..., None]]),
    "dstack, numbers": lambda m, x, y: m.dstack([x[0, 0], y[0, 0]]),
    "column_stack": lambda m, x, y: m.column_stack([x, y[:, 0], y]),
    "column_stack, numbers": lambda m, x, y: m.column_stack([x[0, 0], y[0, 0]]),
    "row_stack": lambda m, x, y: m.vstack([x, y[0]]),
    "append": lambda m, x, y: m.append(x, y),
    "append, axis": lambda m, x, y: m.append(x, y[:1], 0),
    "append, negative": lambda m, x, y: m.append(x, y, axis=-1),
    "append, wrong": lambda m, x, y: m.append(x, y[0], axis=0),
    "block": lambda m, x, y: m.block([[x, y], [y[:1], x[1:2]]]),
    "block, flat": lambda m, x, y: m.block([x, y[:, :1]]),
    "block, one": lambda m, x, y: m.block(x),
    "block, vectors": lambda m, x, y: m.block([[x[0], 2.0], [y[0], 3.0]]),
    "block, three deep": lambda m, x, y: m.block([[[x, y]], [[y, x]]]),
    "block, ragged": lambda m, x, y: m.block([[x, y], x]),
    "block, empty": lambda m, x, y: m.block([[x], []]),
    "block, nothing": lambda m, x, y: m.block([]),
    "block, tuple": lambda m, x, y: m.block((x, y)),
    "block, lengths": lambda m, x, y: m.block([[x, y], [x]]),
    "insert, int": lambda m, x, y: m.insert(x, 1, y[:, 0], axis=1),
    "insert, raveled": lambda m, x, y: m.insert(x, 5, y[0, 0]),
    "insert, several before one": lambda m, x, y: m.insert(x, [1], y[:2], axis=0),
    "insert, list": lambda m, x, y: m.insert(x, [0, 2, 2], y, axis=0),
    "insert, number": lambda m, x, y: m.insert(x, 2, 7, 0),
    "insert, list of numbers": lambda m, x, y: m.insert(x, [3, 1], y[0, :2]),
    "insert, slice": lambda m, x, y: m.insert(x, slice(0, 3, 2), y[:2], axis=0),
    "insert, slice of one": lambda m, x, y: m.insert(x, slice(1, 2), y[:1], axis=0),
    "insert, mask": lambda m, x, y: m.insert(x, np.array([True, False, True]), y[:2], axis=0),
    "insert, negative": lambda m, x, y: m.insert(x, -1, y[0], axis=-2),
    "insert, scalar axis 1": lambda m, x, y: m.insert(x, 1, y[:2, 0].reshape(2, 1), axis=0),
    "insert, nothing": lambda m, x, y: m.insert(x, [], y[:0], axis=0),
    "insert, end": lambda m, x, y: m.insert(x, 3, y[0], 0),
    "insert, outside": lambda m, x, y: m.insert(x, 4, y[0], 0),
    "insert, axis": lambda m, x, y: m.insert(x, 0, y[0], 2),
    "insert, shape": lambda m, x, y: m.insert(x, [0, 1], y, axis=0),
}
ALONE = {
    "delete": lambda m, x: m.delete(x, 1, axis=0),
    "delete, raveled": lambda m, x: m.delete(x, 5),
    "delete, list": lambda m, x: m.delete(x, [0, 2, 0], axis=1),
    "delete, slice": lambda m, x: m.delete(x, slice(None, None, 2), 1),
    "delete, mask": lambda m, x: m.delete(x, np.array([True, False, True]), axis=0),
    "delete, negative": lambda m, x: m.delete(x, [-1], axis=-1),
    "delete, nothing": lambda m, x: m.delete(x, [], axis=0),
    "delete, all": lambda m, x: m.delete(x, [0, 1, 2], axis=0),
    "delete, outside": lambda m, x: m.delete(x, 3, axis=0),
    "array_split": lambda m, x: m.array_split(x, 3, axis=1),
    "array_split, first": lambda m, x: m.array_split(x, 2),
    "array_split, many": lambda m, x: m.array_split(x, 7, axis=-1),
    "array_split, places": lambda m, x: m.array_split(x, [1, 3], 1),
    "array_split, none": lambda m, x: m.array_split(x, 0),
    "hsplit": lambda m, x: m.hsplit(x, 2),
    "hsplit, vector": lambda m, x: m.hsplit(x[0], [1, 3]),
    "hsplit, number": lambda m, x: m.hsplit(x[0, 0], 1),
    "hsplit, uneven": lambda m, x: m.hsplit(x, 3),
    "vsplit": lambda m, x: m.vsplit(x, 3),
    "vsplit, vector": lambda m, x: m.vsplit(x[0], 1),
    "dsplit": lambda m, x: m.dsplit(x[None], 2),
    "dsplit, matrix": lambda m, x: m.dsplit(x, 2),
    "unstack": lambda m, x: m.unstack(x),
    "unstack, last": lambda m, x: m.unstack(x, axis=-1),
    "unstack, number": lambda m, x: m.unstack(x[0, 0]),
    "unstack, axis": lambda m, x: m.unstack(x, axis=2),
    "apply_along_axis": lambda m, x: m.apply_along_axis(lambda r: r[::-1] * r, 1, x),
    "apply_along_axis, number": lambda m, x: m.apply_along_axis(lambda r, k: r[k] * 2, 0, x, 1),
    "apply_along_axis, matrix": lambda m, x: m.apply_along_axis(lambda r: r[:, None] * r, 0, x),
    "apply_along_axis, 3-d": lambda m, x: m.apply_along_axis(lambda r: r[:1], -2, x.reshape(2, 3, 2)),
    "apply_along_axis, none": lambda m, x: m.apply_along_axis(lambda r: r, 0, x[:, :0]),
    "meshgrid": lambda m, x: m.meshgrid(x[0], x[:, 1]),
    "meshgrid, one": lambda m, x: m.meshgrid(x[0]),
    "meshgrid, ij": lambda m, x: m.meshgrid(x[0], x[:, 1], indexing="ij"),
    "meshgrid, none": lambda m, x: m.meshgrid(),
    "meshgrid, sparse": lambda m, x: m.meshgrid(x[0], x[:, 1], x[1, :2], sparse=True),
    "meshgrid, three": lambda m, x: m.meshgrid(x[0], x[:, 1], x[1, :2], copy=False),
    "meshgrid, number": lambda m, x: m.meshgrid(x[0, 0], x[1]),
    "meshgrid, wrong": lambda m, x: m.meshgrid(x[0], indexing="ji"),
}
TRICKS = {
    "r_": lambda m, x: m.r_[x[0], 1.0, x[1], 2],
    "r_, range": lambda m, x: m.r_[1:7:2, x[0]],
    "r_, linear": lambda m, x: m.r_[0:1:5j, x[0]],
    "r_, matrices": lambda m, x: m.r_[x, x[:1]],
    "r_, axis": lambda m, x: m.r_["1", x, x],
    "r_, ndim": lambda m, x: m.r_["0,2", x[0], x[1]],
    "r_, place": lambda m, x: m.r_["0,2,0", x[0], x[1]],
    "r_, place 3": lambda m, x: m.r_["1,3,0", x[0], x[1], x[2]],
    "r_, range and place": lambda m, x: m.r_["0,2,0", 0:4, x[0]],
    "r_, range and ndim": lambda m, x: m.r_["0,3,1", 0:4],
    "c_": lambda m, x: m.c_[x[0], x[1]],
    "c_, matrix": lambda m, x: m.c_[x, x[:, 0]],
    "c_, range": lambda m, x: m.c_[0:4, x[0]],
    "c_, numbers": lambda m, x: m.c_[1, 2.5],
    "r_, ints": lambda m, x: m.r_[1, 2:4],
    "r_, one": lambda m, x: m.r_[x],
    "r_, late": lambda m, x: m.r_[x, "0"],
    "r_, nothing": lambda m, x: m.r_[()],
    "r_, wrong": lambda m, x: m.r_["a,b", x],
}
NUMPY_2_1 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


def accepted(call, *arrays):
    """Whether NumPy accepts the call."""
    try:
        call(np, *arrays)
    except (IndexError, TypeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("name", JOINS)
def test_joins(name):
    if NUMPY_2_0 and name == "insert, mask":
        pytest.skip("NumPy 2.0 gives something else here")
    for dtypes in (("f8", "f8"), ("f4", "f4"), ("f4", "f8"), ("i8", "i8"), ("u1", "i2"), ("?", "?")):
        x, y = ((abs(a) * 5).astype(d) for a, d in zip((X, Y), dtypes))
        same_as_numpy(JOINS[name], x, y, message=dtypes)
    if accepted(JOINS[name], X, Y):
        check_transforms(JOINS[name], X, Y)


@pytest.mark.parametrize("name", ALONE)
def test_splits_and_grids(name):
    if name.startswith("unstack") and not NUMPY_2_1:
        pytest.skip("NumPy has unstack from 2.1 on")
    for dtype in ("f8", "f4", "i8", "u1", "?"):
        same_as_numpy(ALONE[name], (abs(X) * 5).astype(dtype), message=dtype)
    if accepted(ALONE[name], X) and any(y.size for y in parts(ALONE[name](np, X))):
        check_transforms(ALONE[name], X)


@pytest.mark.parametrize("name", TRICKS)
def test_index_tricks(name):
    for dtype in ("f8", "f4", "i8", "u1"):
        same_as_numpy(TRICKS[name], (abs(X) * 5).astype(dtype), message=dtype)
    if accepted(TRICKS[name], X):
        check_transforms(lambda m, x: TRICKS[name](m, x) * x[0, 0], X)


@pytest.mark.parametrize("name", ["concatenate", "stack", "hstack", "vstack"])
def test_joins_in_a_dtype(name):
    for dtypes, dtype, casting in (
        (("f8", "f8"), "f4", "same_kind"), (("f8", "i8"), "i4", "unsafe"), (("f4", "i2"), "f8", "safe"),
        (("f8", "f8"), "f4", "safe"), (("f8", "i8"), "i8", "same_kind"), (("i8", "i8"), "f8", "equiv"),
        (("f8", "i4"), None, "no"), (("f4", "f4"), None, "no"), (("f4", "f8"), None, "equiv"),
        (("f4", "f8"), None, "safe"), (("f8", "f8"), None, "nonsense"),
    ):  # fmt: skip
        call = lambda m, x, y: getattr(m, name)([x, y], dtype=dtype, casting=casting)
        same_as_numpy(call, *[(abs(X) * 5).astype(d) for d in dtypes], message=(dtypes, dtype, casting))
    check_transforms(lambda m, x, y: getattr(m, name)([x, y], dtype="f8"), X, X)
    slope = fg.grad(lambda x: getattr(np, name)([x, x], dtype="f4").sum().astype("f8"))(X)
    np.testing.assert_array_equal(slope, np.full(X.shape, 2.0))
    with pytest.raises(TypeError, match=f"^{name}: float64 is not converted to float32 by the rule casting='safe'"):
        getattr(fg, name)([X, X], dtype="f4", casting="safe")


def test_c_of_a_matrix_of_strings_is_refused():
    with pytest.raises(ValueError, match="^r_: expected directives as 'axis', .* got 'r'; there are no matrices"):
        fg.r_["r", X]
    assert repr(fg.c_) == "fastgrad.c_" and fg.s_[1:, ...] == (slice(1, None), ...)


def test_open_meshes():
    for args in (([0, 2], [1, 3]), ([True, False, True], [1, 1]), ([0, 2], []), ([-1],)):
        for a, b in zip(fg.ix_(*args), np.ix_(*args)):
            same_bits(a, b)
    i, j = np.array([2, 0]), np.array([1, 1, 3])
    same_bits(fg.asarray(X)[fg.ix_(i, j)], X[np.ix_(i, j)])
    same_bits(fg.compile(lambda x, i, j: x[fg.ix_(i, j)])(X, i, j), X[np.ix_(i, j)])
    check_transforms(lambda m, x: x[m.ix_(i, j)], X)
    with raises_text(ValueError, "ix_: expected vectors, got shape (1, 1)"):
        fg.ix_([[1]])


def test_joins_of_tensors_by_numpys_names():
    """np.array and np.full with like=, which NumPy shows us."""
    t = fg.tensor(V, requires_grad=True)
    for made in (np.array([t[0], 1.0], like=t), np.asarray([t[0], 1.0], like=t), np.full(2, t[0], like=t),
                 np.array([[t[0]] * 2] * 2, "f8", like=t), np.array(t, ndmin=2, like=t)):  # fmt: skip
        assert isinstance(made, fg.Tensor) and made.requires_grad
    assert np.array(t, ndmin=3, like=t).shape == (1, 1, 3)
    same_bits(np.array([t[0], 1.0], like=t), np.array([1.5, 1.0]))
    same_bits(np.full((2, 3), t, np.float32, like=t), np.full((2, 3), V, np.float32))
    np.testing.assert_array_equal(fg.grad(lambda x: np.array([x, x * x, 1.0], like=x).sum())(3.0), 7)


@pytest.mark.parametrize(
    "f, cure",
    [
        (lambda x: np.array([x[0], x[1]]), "join tensors with fastgrad.stack or fastgrad.asarray"),
        (lambda x: np.full(3, x[0]), "Instead of NumPy's full use fastgrad.full(shape, t)"),
        (lambda x: np.vectorize(lambda v: v * v)(x), "Instead of NumPy's vectorize use fastgrad.vmap(f)"),
        (
            lambda x: np.vectorize(lambda v: v * v, signature="()->()")(x),
            "Instead of NumPy's vectorize use fastgrad.vmap(f)",
        ),
        (lambda x: np.diag([x[0], x[1]]), "Instead of NumPy's diag use fastgrad.diag"),
        (lambda x: np.mean([x[0], x[1]]), "Instead of NumPy's mean use fastgrad.mean"),
        (lambda x: np.std([x[0], x[1]]), "Instead of NumPy's std use fastgrad.std"),
        (
            lambda x: np.linalg.solve([[x[0], 0.0], [0.0, x[1]]], [1.0, 2.0]),
            "Instead of NumPy's solve use fastgrad.linalg.solve",
        ),
        (lambda x: np.r_[x, 1.0], "Instead of NumPy's r_ and c_ use fastgrad.r_ and fastgrad.c_"),
        (lambda x: np.c_[x, x], "Instead of NumPy's r_ and c_ use fastgrad.r_ and fastgrad.c_"),
    ],
)
def test_what_numpy_does_not_show_us_names_our_function(f, cure):
    with pytest.raises(TypeError) as raised:
        fg.grad(lambda x: fg.sum(f(x)))(V)
    assert cure in str(raised.value)


@pytest.mark.parametrize(
    "theirs, ours",
    [
        (lambda a, b: np.diag([a, b]), lambda a, b: fg.diag([a, b])),
        (lambda a, b: np.std([a, b]), lambda a, b: fg.std([a, b])),
        (lambda a, b: np.outer([a, 1.0], [b, a]), lambda a, b: fg.outer([a, 1.0], [b, a])),
        (
            lambda a, b: np.linalg.solve([[a, 0.0], [b, b]], [1.0, 2.0]),
            lambda a, b: fg.linalg.solve([[a, 0.0], [b, b]], [1.0, 2.0]),
        ),
        (lambda a, b: np.array([[1.0, a], [b, 0.0]]), lambda a, b: fg.asarray([[1.0, a], [b, 0.0]])),
    ],
)
def test_our_functions_take_lists_of_tensors(theirs, ours):
    np.testing.assert_allclose(ours(1.5, -0.5), theirs(1.5, -0.5), rtol=1e-14)
    fg.check_grads(ours, (1.5, -0.5), order=2)
    np.testing.assert_allclose(fg.compile(ours)(1.5, -0.5), theirs(1.5, -0.5), rtol=1e-14)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fg.block([[X, X], X]), ValueError, "block: expected lists of one depth, got blocks at depths 2 and 1"),
        (lambda: fg.block([X, [X]]), ValueError,
         "block: expected lists of one depth, got blocks at depth 1 and a list there"),
        (lambda: fg.block([[]]), ValueError, "block: expected blocks in each list, got an empty list"),
        (lambda: fg.block((X,)), TypeError,
         "block: expected nested lists of blocks, got a tuple; only lists are joined"),
        (lambda: fg.array_split(X, 0), ValueError, "array_split: expected at least one part, got 0"),
        (lambda: fg.hsplit(1.0, 1), ValueError, "hsplit: expected at least 1 dimension, got shape ()"),
        (lambda: fg.dsplit(X, 1), ValueError, "dsplit: expected at least 3 dimensions, got shape (3, 4)"),
        (lambda: fg.unstack(1.0), ValueError, "unstack: expected at least one axis, got a single number"),
        (lambda: fg.meshgrid(V, indexing="x"), ValueError, "meshgrid: expected indexing 'xy' or 'ij', got 'x'"),
        (lambda: fg.apply_along_axis(fg.sum, 0, X[:, :0]), ValueError,
         "apply_along_axis: shape (3, 0) has no slices along axis 0 to call the function with"),
        (lambda: fg.r_[X, "0"], ValueError, "r_: a string of directives must come first, got '0' behind it"),
        (lambda: fg.c_[()], ValueError, "c_: expected something to join, got nothing"),
    ],
)  # fmt: skip
def test_error_texts(call, error, message):
    with raises_text(error, message):
        call()
