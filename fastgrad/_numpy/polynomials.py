"""Polynomials by their coefficients, and products of them: convolution and correlation of vectors."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import Tensor, asarray, astype, broadcast_to, concatenate, matmul, promoted, reshape
from .sequences import cumprod
from .shapes import flip

if TYPE_CHECKING:
    from .typing import TensorLike


def polyval(p: TensorLike, x: TensorLike) -> Tensor:
    """The polynomial with coefficients p, that of the highest power first, at x, by Horner's rule.

    >>> import fastgrad as fg
    >>> fg.polyval([1.0, 0.0, 2.0], 3.0)
    tensor(11.)
    """
    coefficients, x = asarray(p), asarray(x)
    if coefficients.ndim < 1:
        raise TypeError("polyval: expected coefficients along an axis, got a single number")
    y: Any = asarray(np.zeros(x.shape, x.dtype))
    for k in range(coefficients.shape[0]):
        y = y * x + coefficients[k]
    return y  # type: ignore[no-any-return]


def vander(x: TensorLike, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of a vector's elements as columns, from the highest down, or from 0 up; N of them, as many as there
    are elements by default. Raises ValueError for what is no vector.

    >>> import fastgrad as fg
    >>> fg.vander([2.0, 3.0], 3)
    tensor([[4., 2., 1.],
            [9., 3., 1.]])
    """
    x = asarray(x)
    if x.ndim != 1:
        raise ValueError(f"vander: expected a vector, got shape {x.shape}")
    count = x.shape[0] if N is None else operator.index(N)
    if count < 0:
        raise ValueError(f"vander: expected N of at least 0, got {count}")
    x = astype(x, np.promote_types(x.dtype, int))  # float32 becomes float64, as NumPy's does
    if not count:
        return asarray(np.zeros((x.shape[0], 0), x.dtype))
    powers = cumprod(broadcast_to(reshape(x, (-1, 1)), (x.shape[0], count - 1)), 1)
    y = concatenate([np.ones((x.shape[0], 1), x.dtype), powers], 1)
    return y if increasing else flip(y, 1)


def convolve(a: TensorLike, v: TensorLike, mode: str = "full") -> Tensor:
    """The convolution of two vectors, which is the product of polynomials: ``sum(a[i] * v[k - i])`` for each k.

    ``mode`` is "full", "same" for as many elements as the longer one has, or "valid" for those where both overlap
    completely. One matrix product, with as many rows as the shorter one has elements; its sums have another order than
    NumPy's, and beside its own terms each has terms of 0: nan and infinity in the shorter one make all elements nan.
    Raises ValueError for what is no vector, for empty ones and unknown modes.

    >>> import fastgrad as fg
    >>> fg.convolve([1.0, 2.0, 3.0], [0.0, 1.0])
    tensor([0., 1., 2., 3.])
    """
    a, v = (reshape(x, 1) if x.ndim == 0 else x for x in (asarray(a), asarray(v)))
    a, v = _vectors("convolve", a, v)
    full, least, most = _full(a, v), *sorted((a.shape[0], v.shape[0]))
    return _part_of(full, least, most, mode, "convolve", (least - 1) // 2)


def correlate(a: TensorLike, v: TensorLike, mode: str = "valid") -> Tensor:
    """The cross-correlation of two vectors: ``sum(a[i + k] * v[i])`` for each k. Modes, nan and errors as for
    ``convolve``.

    >>> import fastgrad as fg
    >>> fg.correlate([1.0, 2.0, 3.0], [0.0, 1.0])
    tensor([2., 3.])
    """
    a, v = _vectors("correlate", a, v)
    full, least, most = _full(a, v[::-1]), *sorted((a.shape[0], v.shape[0]))
    start = (least - 1) // 2 if a.shape[0] >= v.shape[0] else least // 2  # NumPy exchanges the two, and turns it round
    return _part_of(full, least, most, mode, "correlate", start)


def _vectors(name: str, a: TensorLike, v: TensorLike) -> tuple[Tensor, Tensor]:
    dtype, (first, second) = promoted(name, a, v)
    for x in (first, second):
        if x.ndim != 1 or not x.shape[0]:
            raise ValueError(f"{name}: expected two vectors with elements, got shapes {first.shape} and {second.shape}")
    first, second = (x if x.dtype == dtype else astype(x, dtype) for x in (first, second))
    return first, second


def _full(a: Tensor, v: Tensor) -> Tensor:
    """The full convolution: the shorter vector times the matrix whose row k is the longer one shifted by k.

    The matrix is a reshape: rows of the longer one and as many zeros as the shorter has elements, read in rows that are
    shorter by one, move by one place from row to row.
    """
    if a.shape[0] < v.shape[0]:
        a, v = v, a
    n, m = a.shape[0], v.shape[0]
    padded = concatenate([a, np.zeros(m, a.dtype)])
    rows = reshape(broadcast_to(padded, (m, n + m)), -1)
    shifted = reshape(rows[: m * (n + m - 1)], (m, n + m - 1))
    y = matmul(v, shifted)
    return y if y.dtype == a.dtype else astype(y, a.dtype)


def _part_of(full: Tensor, least: int, most: int, mode: str, name: str, start: int) -> Tensor:
    if mode == "full":
        return full
    if mode == "same":
        return full[start : start + most]
    if mode == "valid":
        return full[least - 1 : most]
    raise ValueError(f"{name}: expected mode 'full', 'same' or 'valid', got {mode!r}")


__all__ = ["convolve", "correlate", "polyval", "vander"]
