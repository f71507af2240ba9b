"""Diagonals and triangles of matrices under NumPy's names and rules, and the indices of their elements."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, asarray, concatenate, normal_axes, reshape, transpose, where
from .creation import into
from .shapes import one_axis, resize
from .updates import replaced

if TYPE_CHECKING:
    from .typing import TensorLike


def diagonal(a: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements whose indices along two axes are equal, or differ by offset, along a new last axis.

    >>> import fastgrad as fg
    >>> fg.diagonal([[1.0, 2.0], [3.0, 4.0]])
    tensor([1., 4.])
    """
    x, k = asarray(a), operator.index(offset)
    i, j = one_axis(axis1, x.ndim, "diagonal"), one_axis(axis2, x.ndim, "diagonal")
    normal_axes((i, j), x.ndim, "diagonal")
    rest = [a for a in range(x.ndim) if a not in (i, j)]
    m, n = x.shape[i], x.shape[j]
    count = max(min(m + min(k, 0), n - max(k, 0)), 0)
    if (i, j) != (x.ndim - 2, x.ndim - 1):
        x = transpose(x, [*rest, i, j])
    lead = x.shape[:-2]
    flat, start = reshape(x, (*lead, m * n)), max(k, 0) - min(k, 0) * n
    return flat[(..., slice(start, start + count * (n + 1) - n if count else start, n + 1))]


def diag(v: TensorLike, k: int = 0) -> Tensor:
    """The k-th diagonal of a matrix, or of a vector the matrix with this diagonal and zeros elsewhere.

    Raises ValueError for any other number of axes.

    >>> import fastgrad as fg
    >>> fg.diag([1.0, 2.0])
    tensor([[1., 0.],
            [0., 2.]])
    """
    x, k = asarray(v), operator.index(k)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag: expected a vector or a matrix, got shape {x.shape}")
    n = len(x) + abs(k)
    elements = concatenate([np.zeros(abs(k), x.dtype), x])  # of each column, or for k < 0 of each row
    return where(np.eye(n, k=k, dtype=bool), elements if k >= 0 else reshape(elements, (-1, 1)), x.dtype.type(0))


def tril(m: TensorLike, k: int = 0) -> Tensor:
    """Matrices with zeros above the k-th diagonal.

    >>> import fastgrad as fg
    >>> fg.tril([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 0.],
            [3., 4.]])
    """
    return where(_lower("tril", x := asarray(m), k), x, x.dtype.type(0))


def triu(m: TensorLike, k: int = 0) -> Tensor:
    """Matrices with zeros below the k-th diagonal.

    >>> import fastgrad as fg
    >>> fg.triu([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [0., 4.]])
    """
    return where(_lower("triu", x := asarray(m), k - 1), x.dtype.type(0), x)


def _lower(name: str, x: Tensor, k: int) -> Any:
    """A mask of the elements of matrices of x's shape that are not above the k-th diagonal."""
    if x.ndim == 0:
        raise ValueError(f"{name}: expected a matrix, got a single number")
    return np.tri(x.shape[-2:][0], x.shape[-1], operator.index(k), bool)


def diagflat(v: TensorLike, k: int = 0) -> Tensor:
    """The matrix with the raveled v as its k-th diagonal and zeros elsewhere.

    >>> import fastgrad as fg
    >>> fg.diagflat([[1.0], [2.0]])
    tensor([[1., 0.],
            [0., 2.]])
    """
    return diag(reshape(v, -1), k)


def fill_diagonal(a: TensorLike, val: TensorLike, wrap: bool = False) -> Tensor:
    """a with val on its main diagonal. Unlike NumPy's it changes nothing in place: it returns a tensor.

    The elements of val are repeated where there are too few. ``wrap`` begins the diagonal of a tall matrix again below
    its end. With more than two axes all lengths must be equal. Raises ValueError otherwise, and for fewer axes.

    >>> import fastgrad as fg
    >>> fg.fill_diagonal(fg.zeros((2, 2)), [1.0, 2.0])
    tensor([[1., 0.],
            [0., 2.]])
    """
    x = asarray(a)
    if x.ndim < 2:
        raise ValueError(f"fill_diagonal: expected at least 2 dimensions, got shape {x.shape}")
    if x.ndim > 2 and len(set(x.shape)) > 1:
        raise ValueError(f"fill_diagonal: expected axes of one length where there are more than two, got {x.shape}")
    step = 1 + sum(math.prod(x.shape[i:]) for i in range(1, x.ndim))
    end = x.shape[1] ** 2 if x.ndim == 2 and not wrap else x.size
    places = np.arange(x.size)[:end:step]
    if (values := reshape(val, -1)).size == 0 and places.size:
        raise ValueError("fill_diagonal: expected values for the diagonal, got none")
    values = into(values, x.dtype, "fill_diagonal")
    return reshape(replaced(reshape(x, -1), places, resize(values, places.size)), x.shape)


# ---- indices ---------------------------------------------------------------------------------------------------------
def _indices(function: Callable[..., Any], summary: str, example: str) -> Callable[..., tuple[Tensor, ...]]:
    def indices(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        return tuple([_core.adopt(i, function.__name__) for i in function(*args, **kwargs)])

    indices.__wrapped__ = function  # type: ignore[attr-defined]  # inspect.signature finds it here
    indices.__name__ = indices.__qualname__ = function.__name__
    indices.__doc__ = (
        f"{summary}, as a tuple of tensors of integers. Arguments as ``numpy.{function.__name__}``.\n\n"
        f"    >>> import fastgrad as fg\n    >>> {example}\n    "
    )
    return indices


tril_indices = _indices(
    np.tril_indices,
    "The indices of a matrix on and below a diagonal",
    "fg.tril_indices(2)\n    (tensor([0, 1, 1]), tensor([0, 0, 1]))",
)
triu_indices = _indices(
    np.triu_indices,
    "The indices of a matrix on and above a diagonal",
    "fg.triu_indices(2)\n    (tensor([0, 0, 1]), tensor([0, 1, 1]))",
)
diag_indices = _indices(
    np.diag_indices, "The indices of the main diagonal", "fg.diag_indices(2)\n    (tensor([0, 1]), tensor([0, 1]))"
)


def tril_indices_from(arr: TensorLike, k: int = 0) -> tuple[Tensor, ...]:
    """``tril_indices`` for a matrix like arr. Raises ValueError for another number of axes.

    >>> import fastgrad as fg
    >>> fg.tril_indices_from(fg.zeros((2, 2)))
    (tensor([0, 1, 1]), tensor([0, 0, 1]))
    """
    m, n = _matrix_shape(arr, "tril_indices_from")
    return tril_indices(m, k, n)


def triu_indices_from(arr: TensorLike, k: int = 0) -> tuple[Tensor, ...]:
    """``triu_indices`` for a matrix like arr. Raises ValueError for another number of axes.

    >>> import fastgrad as fg
    >>> fg.triu_indices_from(fg.zeros((2, 2)))
    (tensor([0, 0, 1]), tensor([0, 1, 1]))
    """
    m, n = _matrix_shape(arr, "triu_indices_from")
    return triu_indices(m, k, n)


def _matrix_shape(arr: TensorLike, name: str) -> tuple[int, int]:
    shape = asarray(arr).shape
    if len(shape) != 2:
        raise ValueError(f"{name}: expected a matrix, got shape {shape}")
    return shape[0], shape[1]


def diag_indices_from(arr: TensorLike) -> tuple[Tensor, ...]:
    """``diag_indices`` for an array like arr, whose axes have one length. Raises ValueError otherwise.

    >>> import fastgrad as fg
    >>> fg.diag_indices_from(fg.zeros((2, 2)))
    (tensor([0, 1]), tensor([0, 1]))
    """
    shape = asarray(arr).shape
    if len(shape) < 2 or len(set(shape)) > 1:
        raise ValueError(f"diag_indices_from: expected two axes or more of one length, got shape {shape}")
    return diag_indices(shape[0], len(shape))


__all__ = [
    "diag", "diag_indices", "diag_indices_from", "diagflat", "diagonal", "fill_diagonal", "tril", "tril_indices",
    "tril_indices_from", "triu", "triu_indices", "triu_indices_from",
]  # fmt: skip
