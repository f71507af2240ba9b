"""Diagonals, triangles and their indices: against NumPy's, and under every transform. (The diagonals that have a method
are tested with movements in test_shapes.py.)"""

import numpy as np
import pytest
from _errors import raises_text
from _surface import check_transforms, same_as_numpy

import fastgrad as fg

X = np.random.default_rng(0).normal(size=(4, 4))
CALLS = {
    "diag": lambda m, x: m.diag(x, 1),
    "diag, vector": lambda m, x: m.diag(x[0], -1),
    "diagonal": lambda m, x: m.diagonal(x.reshape(2, 2, 4), -1, 2, 0),
    "diagflat": lambda m, x: m.diagflat(x[:2]),
    "diagflat, offset": lambda m, x: m.diagflat(x[0], -2),
    "diagflat, number": lambda m, x: m.diagflat(x[0, 0]),
    "tril": lambda m, x: m.tril(x, -1),
    "triu": lambda m, x: m.triu(x.reshape(2, 2, 4), 1),
    "tril_indices": lambda m, x: m.asarray(x)[m.tril_indices(4)],
    "triu_indices": lambda m, x: m.asarray(x)[m.triu_indices(4, 1)],
    "tril_indices_from": lambda m, x: m.asarray(x)[:3][m.tril_indices_from(x[:3], -1)],
    "triu_indices_from": lambda m, x: m.asarray(x)[:, :3][m.triu_indices_from(x[:, :3])],
    "diag_indices": lambda m, x: m.asarray(x)[m.diag_indices(4)],
    "diag_indices_from": lambda m, x: m.asarray(x)[m.diag_indices_from(x)],
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients(name):
    for dtype in ("f8", "f4", "i8", "u1", "?"):
        same_as_numpy(CALLS[name], (abs(X) * 5).astype(dtype), message=dtype)
    check_transforms(CALLS[name], X)


def test_indices_and_masks():
    for call in (
        lambda m: m.tri(3), lambda m: m.tri(3, 4, -1), lambda m: m.tri(2, 3, 1, dtype=bool),
        lambda m: m.tril_indices(3, 1, 4),
        lambda m: m.triu_indices(3, m=2), lambda m: m.diag_indices(3, 3), lambda m: m.diag_indices(0),
        lambda m: m.diag_indices_from(np.zeros((2, 2, 2))),
    ):  # fmt: skip
        same_as_numpy(call)
    t = fg.tri(2, requires_grad=True)
    assert t.requires_grad


def filled(a, val, wrap=False):
    a = a.copy()
    np.fill_diagonal(a, val, wrap)
    return a


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (5, 2), (7, 2), (2, 2, 2), (0, 0), (3, 0)])
@pytest.mark.parametrize("val", [7.0, [1.0, 2.0, 3.0], [[1.0, 2.0], [3.0, 4.0]], np.arange(20.0)])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonal(shape, val, wrap):
    x = np.random.default_rng(0).normal(size=shape)
    for dtype in ("f8", "f4", "i8"):
        expected = filled((x * 5).astype(dtype), val, wrap)
        got = fg.fill_diagonal((x * 5).astype(dtype), val, wrap)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got.numpy(), expected)
    if x.size:
        check_transforms(lambda m, x, v: fg.fill_diagonal(x, v, wrap), x, np.asarray(val))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fg.fill_diagonal(X[0], 1.0), ValueError,
         "fill_diagonal: expected at least 2 dimensions, got shape (4,)"),
        (lambda: fg.fill_diagonal(np.zeros((2, 2, 3)), 1.0), ValueError,
         "fill_diagonal: expected axes of one length where there are more than two, got (2, 2, 3)"),
        (lambda: fg.fill_diagonal(X, []), ValueError, "fill_diagonal: expected values for the diagonal, got none"),
        (lambda: fg.tril_indices_from(X[0]), ValueError, "tril_indices_from: expected a matrix, got shape (4,)"),
        (lambda: fg.triu_indices_from(X[0]), ValueError, "triu_indices_from: expected a matrix, got shape (4,)"),
        (lambda: fg.diag_indices_from(X[:2]), ValueError,
         "diag_indices_from: expected two axes or more of one length, got shape (2, 4)"),
    ],
)  # fmt: skip
def test_error_texts(call, error, message):
    with raises_text(error, message):
        call()
