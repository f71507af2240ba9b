"""Linear algebra under the names of ``numpy.linalg``: norms of vectors, and the Frobenius norm of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from .._core import Tensor, absolute, asarray, astype, normal_axes, power, sqrt, square, sum
from .reductions import root_or_zero

if TYPE_CHECKING:
    from .typing import Axis, TensorLike


def norm(x: TensorLike, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Vector norm over one axis, or Frobenius norm over two or all axes, as ``numpy.linalg.norm``.

    ``ord`` is None or 2 (Euclidean), "fro", 1, inf, -inf, 0 (count of elements that are not 0; no gradient) or
    another number p for ``sum(|x|^p)^(1/p)``. The gradient at x = 0 is 0 for p of at least 1, a subgradient, as
    PyTorch's; for p below 1 a zero element makes it nan, for there is none. Norms of matrices other than the Frobenius
    norm need an axis, or raise NotImplementedError.

    >>> import fastgrad as fg
    >>> fg.norm([3.0, 4.0])
    tensor(5.)
    """
    x = asarray(x)
    x = x if x.dtype.kind == "f" else astype(x, np.float64)
    axes = normal_axes(axis, x.ndim, "norm")
    if ord in (None, "fro") or (ord == 2 and len(axes) == 1):
        return root_or_zero(sum(square(x), axis, keepdims), sqrt)
    if len(axes) != 1:
        raise NotImplementedError(
            f"norm: ord={ord!r} over {len(axes)} axes is a matrix norm; only the Frobenius norm is here"
        )
    if isinstance(ord, str):
        raise ValueError(f"norm: expected ord as a number for a vector norm, got {ord!r}")
    ord, size = float(ord), absolute(x)  # a scalar of NumPy's has a dtype that would count
    if ord == np.inf:
        return _core.max(size, axis, keepdims)
    if ord == -np.inf:
        return _core.min(size, axis, keepdims)
    if ord == 0:
        return sum(astype(size != 0.0, size.dtype), axis, keepdims)
    if ord == 1:
        return sum(size, axis, keepdims)
    if not 1 < ord < 2:
        total = sum(power(size, ord), axis, keepdims)
        return root_or_zero(total, lambda t: power(t, 1.0 / ord)) if ord > 1 else power(total, 1.0 / ord)
    # The second derivative of |x|^p is infinite at 0: the slope of |x| must not be 0 there, for its square is a factor.
    # prelu's is -1. Where all elements are 0, they take part as ones, for root_or_zero sends 0 times this slope back.
    size = _core.prelu(x, -1.0)
    ones = astype(sum(size, axis, True) == 0.0, x.dtype)
    return root_or_zero(sum(power(size + ones, ord) - ones, axis, keepdims), lambda t: power(t, 1.0 / ord))


__all__ = ["norm"]
