"""Functions of the order along an axis, under NumPy's names and rules: running sums, differences, interpolation."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, asarray, astype, broadcast_to, concatenate, gathered, reshape, subtract, where
from .shapes import one_axis, part

if TYPE_CHECKING:
    from .typing import TensorLike

_CUMSUM = _core.OP_NUMBERS["cumsum"]


def cumsum(x: TensorLike, axis: int | None = None) -> Tensor:
    """Running sums along an axis, or of the raveled x for ``axis=None``, added one by one: they have NumPy's bits.

    float32 and float64 are kept, integers and booleans are summed as integers. From the end: ``cumsum(x[::-1])[::-1]``.

    >>> import fastgrad as fg
    >>> fg.cumsum([1.0, 2.0, 3.0])
    tensor([1., 3., 6.])
    """
    x = asarray(x)
    if axis is None:
        x, axis = reshape(x, -1), 0
    axis = one_axis(axis, x.ndim, "cumsum")
    if x.dtype.kind != "f":
        return _core.by_numpy(np.cumsum, x, axis=axis - x.ndim)  # from the end, where a batch does not shift it
    return _core.apply_op(_CUMSUM, [x], (axis, 0))


def diff(
    x: TensorLike, n: int = 1, axis: int = -1, prepend: TensorLike | None = None, append: TensorLike | None = None
) -> Tensor:
    """Differences of neighbours along an axis, n times; of booleans, whether they differ.

    ``prepend`` and ``append`` are joined to x along the axis first; a single number counts as one row of it.
    Raises ValueError for a negative n.

    >>> import fastgrad as fg
    >>> fg.diff([1.0, 3.0, 6.0])
    tensor([2., 3.])
    """
    x = asarray(x)
    axis = one_axis(axis, x.ndim, "diff")
    if (n := operator.index(n)) < 0:
        raise ValueError(f"diff: expected n of at least 0, got {n}")
    x = reshape(x, x.shape)  # a value of its own, also for n = 0
    if n and (prepend is not None or append is not None):
        row = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        ends = [None if end is None else asarray(end) for end in (prepend, append)]
        first, last = ([] if end is None else [end if end.ndim else broadcast_to(end, row)] for end in ends)
        x = concatenate([*first, x, *last], axis)
    for _ in range(min(n, x.shape[axis])):
        after, before = part(x, axis, 1, None), part(x, axis, None, -1)
        x = after != before if x.dtype == np.bool_ else subtract(after, before)
    return x


def interp(
    x: TensorLike, xp: TensorLike, fp: TensorLike, left: TensorLike | None = None, right: TensorLike | None = None
) -> Tensor:
    """Values at x of the function that is linear between the points (xp, fp), computed in float64 as NumPy's.

    xp increases; beyond its ends the value is ``left`` and ``right``, by default that of the first and the last point.
    Gradients pass to all of these. At a point the slope is that to its right, and 0 beyond the ends. Raises ValueError
    unless xp and fp are vectors of one length.

    >>> import fastgrad as fg
    >>> fg.interp([0.5, 2.0], [0.0, 1.0], [10.0, 20.0])
    tensor([15., 20.])
    >>> fg.jacobian(lambda fp: fg.interp([0.5, 2.0], [0.0, 1.0], fp))(fg.ones(2).numpy())
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    x, xp, fp = (astype(asarray(a), np.float64) for a in (x, xp, fp))
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        raise ValueError(f"interp: expected points as two vectors of one length, got shapes {xp.shape} and {fp.shape}")
    flat, last = reshape(x, -1), len(xp) - 1
    i = _core.by_numpy(_last_before, xp, flat)
    j = _core.by_numpy(np.minimum, i + 1, last)
    (x0, x1), (y0, y1) = ((gathered(p, i, 0), gathered(p, j, 0)) for p in (xp, fp))
    run = x1 - x0
    slope = (y1 - y0) / where(run == 0, 1.0, run)
    y = slope * (flat - x0) + y0
    finite = where((flat == x0) | (y0 == y1), y0, slope * (flat - x1) + y1)  # beside a point that is not, as NumPy's
    y = where((y != y) & (flat == flat), finite, y)
    y = where(flat < xp[0], fp[0] if left is None else left, y)
    y = where(flat > xp[-1], fp[-1] if right is None else right, y)
    return reshape(y, x.shape)


def _last_before(xp: Any, x: Any) -> Any:
    """The index of the last of the points xp that is not above x, 0 if all are. Both may have leading batch axes."""
    if xp.ndim == 1:
        return np.maximum(np.searchsorted(xp, x, "right") - 1, 0)
    lead = np.broadcast_shapes(xp.shape[:-1], x.shape[:-1])
    xp, x = (np.broadcast_to(a, (*lead, a.shape[-1])) for a in (xp, x))
    found = np.empty(x.shape, np.int64)
    for k in np.ndindex(lead):
        found[k] = _last_before(xp[k], x[k])
    return found


__all__ = ["cumsum", "diff", "interp"]
