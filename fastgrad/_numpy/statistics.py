"""Statistics under NumPy's names and rules: reductions that leave out nan, averages, covariances, ranges.

Where nothing is left, NumPy warns and returns nan; here nan is returned without a warning, because a compiled program
cannot warn. The gradient with respect to a nan that is left out is 0.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    asarray,
    astype,
    concatenate,
    max,
    mean,
    min,
    multiply,
    normal_axes,
    reshape,
    sqrt,
    sum,
    where,
)
from .diagonals import diagonal
from .elementwise import clip
from .reductions import counted, prod, std, var
from .results import stored
from .sequences import cumprod, cumsum

if TYPE_CHECKING:
    from .typing import Axis, TensorLike


# ---- without nan -----------------------------------------------------------------------------------------------------
def _with(x: Tensor, value: float) -> Tensor:
    """x with a number in the place of nan."""
    return where(x != x, x.dtype.type(value), x) if x.dtype.kind == "f" else x


def _valid(x: Tensor, mask: TensorLike | None) -> Any:
    """The mask of the elements that count; None for all of them."""
    if x.dtype.kind != "f":
        return mask
    return x == x if mask is None else (x == x) & asarray(mask)


def nansum(
    a: TensorLike, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False,
    initial: TensorLike | None = None, where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``sum`` with 0 for nan.

    >>> import fastgrad as fg
    >>> fg.nansum([1.0, float("nan"), 2.0])
    tensor(3.)
    """
    return stored("nansum", out, sum(_with(asarray(a), 0), axis, dtype, None, keepdims, initial, where))


def nanprod(
    a: TensorLike, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False,
    initial: TensorLike | None = None, where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``prod`` with 1 for nan.

    >>> import fastgrad as fg
    >>> fg.nanprod([2.0, float("nan"), 3.0])
    tensor(6.)
    """
    return stored("nanprod", out, prod(_with(asarray(a), 1), axis, dtype, None, keepdims, initial, where))


def nanmean(
    a: TensorLike, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False, *,
    where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``mean`` of the elements that are not nan; nan where there is none.

    >>> import fastgrad as fg
    >>> fg.nanmean([1.0, float("nan"), 2.0])
    tensor(1.5)
    """
    x, axis = _with_axis(a, axis, "nanmean")
    return stored("nanmean", out, mean(x, axis, dtype, None, keepdims, where=_valid(x, where)))


def nanvar(
    a: TensorLike, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, ddof: float = 0,
    keepdims: bool = False, *, where: TensorLike | None = None, mean: TensorLike | None = None,
    correction: float | None = None,
) -> Tensor:  # fmt: skip
    """``var`` of the elements that are not nan; nan where there are no more than ddof of them.

    >>> import fastgrad as fg
    >>> fg.nanvar([1.0, float("nan"), 3.0])
    tensor(1.)
    """
    x, axis = _with_axis(a, axis, "nanvar")
    y = var(x, axis, dtype, None, ddof, keepdims, where=_valid(x, where), mean=mean, correction=correction)
    y = _enough(y, x, axis, ddof if correction is None else correction, keepdims, where)
    if dtype is None and x.dtype.kind == "f":
        y = _core.astype(y, x.dtype)  # that of mean does not count
    return stored("nanvar", out, y)


def nanstd(
    a: TensorLike, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, ddof: float = 0,
    keepdims: bool = False, *, where: TensorLike | None = None, mean: TensorLike | None = None,
    correction: float | None = None,
) -> Tensor:  # fmt: skip
    """The square root of ``nanvar``.

    >>> import fastgrad as fg
    >>> fg.nanstd([1.0, float("nan"), 3.0])
    tensor(1.)
    """
    x, axis = _with_axis(a, axis, "nanstd")
    y = std(x, axis, dtype, None, ddof, keepdims, where=_valid(x, where), mean=mean, correction=correction)
    y = _enough(y, x, axis, ddof if correction is None else correction, keepdims, where)
    if dtype is None and x.dtype.kind == "f":
        y = _core.astype(y, x.dtype)  # that of mean does not count
    return stored("nanstd", out, y)


def _with_axis(a: TensorLike, axis: Axis, name: str) -> tuple[Tensor, Axis]:
    """a as a tensor, and its axes: those of a float without axes are None, if they are 0 or -1."""
    x = asarray(a)
    return x, axis if x.ndim or x.dtype.kind != "f" else normal_axes(axis, 0, name) or None


def _enough(y: Tensor, x: Tensor, axis: Axis, ddof: float, keepdims: bool, mask: TensorLike | None) -> Tensor:
    """y, or nan where no more elements than ddof count."""
    if x.dtype.kind != "f":
        return y
    return where(counted(_valid(x, mask), x.shape, axis, keepdims) > ddof, y, y.dtype.type(np.nan))


def _nan_extremum(
    name: str, a: TensorLike, axis: Axis, keepdims: bool, initial: Any, mask: TensorLike | None
) -> Tensor:
    x, reduction = asarray(a), max if name == "nanmax" else min
    if x.dtype.kind != "f":
        return reduction(x, axis, keepdims=keepdims, initial=initial, where=mask)
    filled = _with(x, -np.inf if name == "nanmax" else np.inf)
    y = reduction(filled, axis, keepdims=keepdims, initial=initial, where=mask)
    if initial is not None:
        return y
    return where(counted(x == x, x.shape, axis, keepdims) == 0, y.dtype.type(np.nan), y)


def nanmax(
    a: TensorLike, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False,
    initial: TensorLike | None = None, where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``max`` of the elements that are not nan; nan where there is none.

    >>> import fastgrad as fg
    >>> fg.nanmax([1.0, float("nan"), 2.0])
    tensor(2.)
    """
    return stored("nanmax", out, _nan_extremum("nanmax", a, axis, keepdims, initial, where))


def nanmin(
    a: TensorLike, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False,
    initial: TensorLike | None = None, where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``min`` of the elements that are not nan; nan where there is none.

    >>> import fastgrad as fg
    >>> fg.nanmin([1.0, float("nan"), 2.0])
    tensor(1.)
    """
    return stored("nanmin", out, _nan_extremum("nanmin", a, axis, keepdims, initial, where))


def nanargmax(a: TensorLike, axis: int | None = None, out: Tensor | None = None, *, keepdims: bool = False) -> Tensor:
    """The position of the largest element that is not nan. Raises ValueError where all are nan.

    >>> import fastgrad as fg
    >>> fg.nanargmax([1.0, float("nan"), 2.0])
    tensor(2)
    """
    return stored("nanargmax", out, _position(np.nanargmax, a, axis, keepdims))


def nanargmin(a: TensorLike, axis: int | None = None, out: Tensor | None = None, *, keepdims: bool = False) -> Tensor:
    """The position of the smallest element that is not nan. Raises ValueError where all are nan.

    >>> import fastgrad as fg
    >>> fg.nanargmin([1.0, float("nan"), 2.0])
    tensor(0)
    """
    return stored("nanargmin", out, _position(np.nanargmin, a, axis, keepdims))


def _position(function: Any, a: TensorLike, axis: Any, keepdims: bool) -> Tensor:
    x = asarray(a)
    if axis is not None:
        (axis,) = normal_axes(operator.index(axis), x.ndim or 1, function.__name__)
    if x.ndim == 0:
        x, axis, keepdims = reshape(x, 1), 0, False
    return _core.by_numpy(function, x, axis=axis, keepdims=bool(keepdims))


def nancumsum(a: TensorLike, axis: int | None = None, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """``cumsum`` with 0 for nan.

    >>> import fastgrad as fg
    >>> fg.nancumsum([1.0, float("nan"), 2.0])
    tensor([1., 1., 3.])
    """
    return stored("nancumsum", out, cumsum(_with(asarray(a), 0), axis, dtype))


def nancumprod(a: TensorLike, axis: int | None = None, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """``cumprod`` with 1 for nan.

    >>> import fastgrad as fg
    >>> fg.nancumprod([2.0, float("nan"), 3.0])
    tensor([2., 2., 6.])
    """
    return stored("nancumprod", out, cumprod(_with(asarray(a), 1), axis, dtype))


# ---- averages, ranges, covariances -----------------------------------------------------------------------------------
def average(
    a: TensorLike, axis: Axis = None, weights: TensorLike | None = None, returned: bool = False, *,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    """The mean over axes weighted by ``weights``, which have the shape of a or of the axes, in their order; gradients
    pass to both. ``returned`` adds the sum of the weights as a second result. Raises ZeroDivisionError where that is 0
    and known.

    >>> import fastgrad as fg
    >>> fg.average([1.0, 2.0], weights=[3.0, 1.0])
    tensor(1.25)
    """
    x = asarray(a)
    axes = normal_axes(axis, x.ndim, "average")
    if weights is None:
        y = mean(x, axis, keepdims=keepdims)
        total = asarray(np.full(y.shape, x.size // y.size if y.size else 0, y.dtype))
    else:
        w = asarray(weights)
        if w.shape != x.shape:
            if axis is None:
                raise TypeError(f"average: weights of shape {w.shape} for an array of shape {x.shape} need an axis")
            named = [i % x.ndim for i in (axis if isinstance(axis, (tuple, list)) else (axis,))]
            if w.shape != tuple(x.shape[i] for i in named):
                raise ValueError(f"average: expected weights of the shape of the axes {axis}, got {w.shape}")
            w = _core.transpose(w, [int(i) for i in np.argsort(named)])
            w = reshape(w, [n if i in axes else 1 for i, n in enumerate(x.shape)])
        dtype = np.result_type(x.dtype, w.dtype, *([np.float64] if x.dtype.kind != "f" else []))
        w = _core.broadcast_to(astype(w, dtype), x.shape)
        total = sum(w, axis, keepdims=keepdims)
        if not _core.traced(total) and (total.detach().numpy() == 0).any():
            raise ZeroDivisionError("average: the weights sum to zero")
        y = sum(multiply(astype(x, dtype), w), axis, keepdims=keepdims) / total
    return (y, total) if returned else y


def ptp(a: TensorLike, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False) -> Tensor:
    """The range of elements over axes: the largest minus the smallest. Ties share the gradient, as in ``max``.

    >>> import fastgrad as fg
    >>> fg.ptp([1.0, 5.0, 3.0])
    tensor(4.)
    """
    x = asarray(a)
    return stored("ptp", out, max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims))


def cov(
    m: TensorLike, y: TensorLike | None = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None,
    fweights: TensorLike | None = None, aweights: TensorLike | None = None, *, dtype: Any = None,
) -> Tensor:  # fmt: skip
    """The matrix of covariances of variables, which are the rows of m (the columns, unless ``rowvar``) and of y.

    Divided by n - 1, by n if ``bias``, or by n - ddof. ``fweights`` are how often each observation occurs, integers;
    ``aweights`` their relative weights. Raises ValueError for more than two axes, and for weights that do not fit or
    are negative; where their values are not known, as the function is being traced, negative ones make the result nan.

    >>> import fastgrad as fg
    >>> fg.cov([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    if ddof is not None and ddof != int(ddof):
        raise ValueError(f"cov: expected ddof as an integer, got {ddof!r}")
    x = _variables("cov", ("m", "y"), (m, y), rowvar, dtype)
    if x.shape[0] == 0:
        return asarray(np.zeros((0, 0), x.dtype))
    ddof = ddof if ddof is not None else 0 if bias else 1
    weights: Any = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        w = asarray(given)
        if name == "fweights" and w.dtype.kind not in "iub":
            raise TypeError(f"cov: expected fweights as integers, got {w.dtype}")
        if w.shape != x.shape[1:]:
            raise ValueError(f"cov: expected {name} for {x.shape[1]} observations, got shape {w.shape}")
        if not _core.traced(w) and (w.detach().numpy() < 0).any():
            raise ValueError(f"cov: expected {name} of at least 0")
        w = astype(w, x.dtype)
        if _core.traced(w):
            w = where(w < 0, x.dtype.type(np.nan), w)
        weights = w if weights is None else weights * w
    if weights is None:
        total: Any = x.shape[1]
        scale: Any = total - ddof
        centre = mean(x, 1, keepdims=True)
    else:
        total = sum(weights)
        centre = sum(x * weights, 1, keepdims=True) / total
        if ddof == 0:
            scale = total
        elif aweights is None:
            scale = total - ddof
        else:
            scale = total - ddof * sum(weights * astype(asarray(aweights), x.dtype)) / total
    distance = x - centre
    weighted = distance if weights is None else distance * weights
    scale = builtins.max(scale, 0) if not isinstance(scale, Tensor) else _core.maximum(scale, 0.0)
    c = _core.matmul(distance, _core.transpose(weighted)) / scale
    return reshape(c, ()) if c.shape == (1, 1) else c


def _variables(
    function: str, names: Sequence[str], arrays: Sequence[TensorLike | None], rowvar: bool, dtype: Any
) -> Tensor:
    """The variables of one or two arrays as rows."""
    found = [_rows(function, *each, rowvar, dtype) for each in zip(names, arrays) if each[1] is not None]
    return found[0] if len(found) == 1 else concatenate(found, 0)


def _rows(function: str, name: str, m: Any, rowvar: bool, dtype: Any) -> Tensor:
    x = asarray(m)
    if x.ndim > 2:
        raise ValueError(f"{function}: expected {name} with at most two axes, got shape {x.shape}")
    x = astype(x, dtype if dtype is not None else np.result_type(x.dtype, np.float64))
    if x.ndim < 2:
        return reshape(x, (1, -1))
    return x if rowvar else _core.transpose(x)


def corrcoef(x: TensorLike, y: TensorLike | None = None, rowvar: bool = True, *, dtype: Any = None) -> Tensor:
    """The matrix of correlation coefficients of variables, from -1 to 1, which are given as to ``cov``.

    >>> import fastgrad as fg
    >>> fg.corrcoef([[1.0, 2.0, 3.0], [6.0, 4.0, 2.0]]).numpy().round(6)
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    c = cov(_variables("corrcoef", ("x", "y"), (x, y), rowvar, dtype), dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = sqrt(diagonal(c))
    return clip(c / reshape(deviation, (-1, 1)) / deviation, -1, 1)


__all__ = [
    "average", "corrcoef", "cov", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmin",
    "nanprod", "nanstd", "nansum", "nanvar", "ptp",
]  # fmt: skip
