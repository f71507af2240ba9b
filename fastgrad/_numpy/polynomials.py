"""Polynomials by their coefficients, and products of them: convolution and correlation of vectors."""

from __future__ import annotations

import operator
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import (
    Tensor,
    asarray,
    astype,
    broadcast_to,
    concatenate,
    matmul,
    promoted,
    reshape,
    sqrt,
    square,
    traced,
    transpose,
)
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


def polyfit(
    x: TensorLike, y: TensorLike, deg: int, rcond: float | None = None, full: bool = False,
    w: TensorLike | None = None, cov: bool | str = False,
) -> Any:  # fmt: skip
    """The polynomial of degree deg for which the sum of the squares of ``w * (polyval(p, x) - y)`` is least.

    Parameters
    ----------
    x : array_like, shape (m,)
    y : array_like, shape (m,) or (m, k)
        With two axes its columns are fitted one by one.
    deg : int
    rcond : float, optional
        Singular values of at most rcond times the largest count as 0; m times the dtype's eps by default.
    full : bool
        Return what ``fastgrad.linalg.lstsq`` returns, too.
    w : array_like, shape (m,), optional
        Weights of the distances, not of their squares.
    cov : bool or "unscaled"
        Return an estimate of the coefficients' covariance, too; "unscaled" for weights that are 1 over deviations.

    Returns
    -------
    The coefficients of shape (deg + 1,) or (deg + 1, k), that of the highest power first; or a tuple of these and, if
    ``full``, of residuals, rank, singular values and rcond; or of these and the covariance of shape (deg + 1, deg + 1)
    or (deg + 1, deg + 1, k).

    As ``numpy.polyfit``, differentiable by x, y and w. RankWarning where the points do not determine all coefficients,
    unless the function is being traced, when the rank is not known. Raises TypeError for shapes that do not fit,
    ValueError for a deg below 0 or fewer points than the covariance needs.

    >>> import fastgrad as fg
    >>> fg.polyfit([0.0, 1.0, 2.0], [1.0, 3.0, 5.0], 1).numpy().round(4)
    array([2., 1.])
    """
    from .decompositions import lstsq  # not needed before the first call
    from .linalg import inv

    order = operator.index(deg) + 1
    if order < 1:
        raise ValueError(f"polyfit: expected deg of at least 0, got {deg}")
    x, y = asarray(x), asarray(y)
    if x.ndim != 1 or not x.shape[0]:
        raise TypeError(f"polyfit: expected x as a vector with elements, got shape {x.shape}")
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise TypeError(
            f"polyfit: expected y of shape ({x.shape[0]},) or ({x.shape[0]}, k) for as many x, got {y.shape}"
        )
    eps = float(np.finfo(x.dtype if x.dtype.kind == "f" else np.float64).eps)
    rcond = x.shape[0] * eps if rcond is None else rcond
    powers, right = vander(x + 0.0, order), y + 0.0
    if w is not None:
        weights = asarray(w) + 0.0
        if weights.shape != x.shape:
            raise TypeError(f"polyfit: expected w of the shape of x, {x.shape}, got {weights.shape}")
        powers = powers * reshape(weights, (-1, 1))
        right = right * reshape(weights, (-1,) + (1,) * (y.ndim - 1))
    scale = sqrt(square(powers).sum(0))
    powers = powers / scale
    coefficients, residuals, rank, s = lstsq(powers, right, rcond)
    coefficients = transpose(transpose(coefficients) / scale)
    if full:
        return coefficients, residuals, rank, s, rcond
    if not traced(rank) and rank.item() != order:
        warnings.warn("polyfit: the points do not determine all coefficients", np.exceptions.RankWarning, stacklevel=2)
    if not cov:
        return coefficients
    base = inv(transpose(powers) @ powers) / (reshape(scale, (-1, 1)) * scale)
    if cov == "unscaled":
        factor: Any = 1.0
    elif x.shape[0] <= order:
        raise ValueError(f"polyfit: expected more than {order} points, which the covariance needs, got {x.shape[0]}")
    else:
        factor = residuals / (x.shape[0] - order)
    if y.ndim == 1:
        return coefficients, base * factor
    return coefficients, reshape(base, (order, order, 1)) * factor


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


__all__ = ["convolve", "correlate", "polyfit", "polyval", "vander"]
