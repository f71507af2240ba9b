"""Functions of the order along an axis, under NumPy's names and rules: running sums, products and extrema, differences,
integrals, interpolation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    absolute,
    apply_op,
    asarray,
    astype,
    broadcast_to,
    concatenate,
    gathered,
    negative,
    normal_axes,
    reshape,
    subtract,
    summed_dtype,
    traced,
    where,
)
from .creation import floating
from .results import stored
from .shapes import along_axis, one_axis, part

if TYPE_CHECKING:
    from .typing import TensorLike

_RECURRENCE = _core.OP_NUMBERS["recurrence"]


# ---- running sums, products and extrema ------------------------------------------------------------------------------
def _running(
    name: str, function: Callable[..., Any], x: TensorLike, axis: int | None, dtype: Any, attr: tuple[int, ...] = ()
) -> Tensor:
    """The operation ``name`` along an axis, or of the raveled x. For integers it is NumPy's, but in programs."""
    x, axis = along_axis(asarray(x), axis, name)
    if dtype is not None and x.dtype != dtype:
        x = astype(x, dtype)
    if x.dtype.kind != "f" and name in ("cumsum", "cumprod") and traced(x):
        x = astype(x, summed_dtype(x.dtype))
    if x.dtype.kind == "f" or (traced(x) and name != "cummin"):
        y = apply_op(_core.OP_NUMBERS[name], [x], (axis, *attr))
    else:
        y = _core.by_numpy(function, x, axis=axis - x.ndim)  # from the end, where a batch does not shift it
    return y if dtype is None or y.dtype == dtype else astype(y, dtype)


def cumsum(a: TensorLike, axis: int | None = None, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """Running sums along an axis, or of the raveled ``a`` for ``axis=None``, added one by one: they have NumPy's bits.

    float32 and float64 are kept, integers and booleans are summed as integers. From the end: ``cumsum(a[::-1])[::-1]``.

    >>> import fastgrad as fg
    >>> fg.cumsum([1.0, 2.0, 3.0])
    tensor([1., 3., 6.])
    """
    return stored("cumsum", out, _running("cumsum", np.cumsum, a, axis, dtype, (0,)))


def cumprod(a: TensorLike, axis: int | None = None, dtype: Any = None, out: Tensor | None = None) -> Tensor:
    """Running products along an axis, or of the raveled ``a`` for ``axis=None``, multiplied one by one: they have
    NumPy's bits. Its gradient divides by nothing and is exact where elements are 0.

    >>> import fastgrad as fg
    >>> fg.cumprod([1.0, 2.0, 3.0])
    tensor([1., 2., 6.])
    >>> fg.grad(lambda x: fg.cumprod(x).sum())(fg.asarray([0.0, 2.0, 3.0]).numpy())
    array([9., 0., 0.])
    """
    return stored("cumprod", out, _running("cumprod", np.cumprod, a, axis, dtype))


def cummax(x: TensorLike, axis: int | None = None) -> Tensor:
    """Running maxima along an axis, or of the raveled x for ``axis=None``: ``numpy.maximum.accumulate``. nan from the
    first nan on. As in ``max``, elements that tie for the maximum so far share its gradient equally.

    >>> import fastgrad as fg
    >>> fg.cummax([1.0, 3.0, 2.0])
    tensor([1., 3., 3.])
    """
    return _running("cummax", running_maxima, x, axis, None)


def cummin(x: TensorLike, axis: int | None = None) -> Tensor:
    """Running minima along an axis: ``numpy.minimum.accumulate``. Ties and nan as in ``cummax``.

    >>> import fastgrad as fg
    >>> fg.cummin([2.0, 1.0, 3.0])
    tensor([2., 1., 1.])
    """
    x = asarray(x)
    return (
        negative(cummax(negative(x), axis))
        if x.dtype.kind == "f"
        else _running("cummin", running_minima, x, axis, None)
    )


def running_maxima(x: Any, axis: int) -> Any:
    return np.maximum.accumulate(x, axis)


def running_minima(x: Any, axis: int) -> Any:
    return np.minimum.accumulate(x, axis)


def logcumsumexp(x: TensorLike, axis: int | None = None) -> Tensor:
    """Logarithms of the running sums of exponentials along an axis, or of the raveled x for ``axis=None``:
    ``numpy.logaddexp.accumulate``. It neither overflows nor underflows.

    >>> import fastgrad as fg
    >>> fg.logcumsumexp([-1000.0, -1000.0, 0.0]).numpy().round(2)
    array([-1000.  ,  -999.31,     0.  ])
    """
    x = floating(x)
    if axis is None:
        x, axis = reshape(x, -1), 0
    axis = one_axis(axis, x.ndim, "logcumsumexp")
    # Each sum is divided by the exponential of the largest term so far, on which the result does not depend:
    # sum[i] = exp(x[i] - largest[i]) + exp(largest[i - 1] - largest[i]) sum[i - 1]. Infinite elements are left out.
    running = cummax(x, axis)
    largest = running.detach()
    is_infinite = absolute(largest) == np.inf
    one, rest = part(largest, axis, None, 1), part(largest, axis, None, -1)
    before = concatenate([one, rest], axis) if x.shape[axis] else largest
    fall = where(is_infinite | (absolute(before) == np.inf), 0.0, _core.exp(before - largest))
    counts = ~is_infinite & (x != -np.inf)
    terms = where(counts, _core.exp(where(counts, x - largest, 0.0)), 0.0)
    sums = where(is_infinite, 1.0, apply_op(_RECURRENCE, [fall, terms], (axis, 0)))
    return where(largest == np.inf, running, largest + _core.log(sums))


def cumulative_sum(
    x: TensorLike, /, *, axis: int | None = None, dtype: Any = None, out: Tensor | None = None,
    include_initial: bool = False,
) -> Tensor:  # fmt: skip
    """``cumsum`` under the name of the array API standard. The axis may be left out for an array of one axis only, else
    ValueError. ``include_initial`` puts the 0 in front from which the sums begin.

    >>> import fastgrad as fg
    >>> fg.cumulative_sum([1.0, 2.0], include_initial=True)
    tensor([0., 1., 3.])
    """
    return stored("cumulative_sum", out, _cumulative("cumulative_sum", cumsum, 0, x, axis, dtype, include_initial))


def cumulative_prod(
    x: TensorLike, /, *, axis: int | None = None, dtype: Any = None, out: Tensor | None = None,
    include_initial: bool = False,
) -> Tensor:  # fmt: skip
    """``cumprod`` under the name of the array API standard; the axis and errors as for ``cumulative_sum``.
    ``include_initial`` puts the 1 in front from which the products begin.

    >>> import fastgrad as fg
    >>> fg.cumulative_prod([2.0, 3.0], include_initial=True)
    tensor([1., 2., 6.])
    """
    return stored("cumulative_prod", out, _cumulative("cumulative_prod", cumprod, 1, x, axis, dtype, include_initial))


def _cumulative(
    name: str, function: Callable[..., Tensor], initial: int, x: TensorLike, axis: int | None, dtype: Any, include: bool
) -> Tensor:
    x = asarray(x)
    if x.ndim == 0:
        raise ValueError(f"{name}: expected at least one axis, got a single number")
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"{name}: the axis can be left out for one axis only, got shape {x.shape}")
        axis = 0
    axis = one_axis(axis, x.ndim, name)
    y = function(x, axis, dtype=dtype)
    if not include:
        return y
    first = asarray(np.full((*y.shape[:axis], 1, *y.shape[axis + 1 :]), initial, y.dtype))
    return concatenate([first, y], axis)


def diff(
    a: TensorLike, n: int = 1, axis: int = -1, prepend: TensorLike | None = None, append: TensorLike | None = None
) -> Tensor:
    """Differences of neighbours along an axis, n times; of booleans, whether they differ.

    ``prepend`` and ``append`` are joined to ``a`` along the axis first; a single number counts as one row of it.
    Raises ValueError for a negative n.

    >>> import fastgrad as fg
    >>> fg.diff([1.0, 3.0, 6.0])
    tensor([2., 3.])
    """
    x = asarray(a)
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


def ediff1d(ary: TensorLike, to_end: TensorLike | None = None, to_begin: TensorLike | None = None) -> Tensor:
    """Differences of neighbours of the raveled array, between other numbers. Raises TypeError for numbers that the
    array's dtype does not hold.

    >>> import fastgrad as fg
    >>> fg.ediff1d([1.0, 3.0, 6.0], to_begin=0.0)
    tensor([0., 2., 3.])
    """
    x = reshape(asarray(ary), -1)
    ends = []
    for name, end in (("to_begin", to_begin), ("to_end", to_end)):
        end = None if end is None else reshape(asarray(end), -1)
        if end is not None and not np.can_cast(end.dtype, x.dtype, "same_kind"):
            raise TypeError(f"ediff1d: expected {name} of a kind that fits {x.dtype}, got {end.dtype}")
        ends.append([] if end is None else [astype(end, x.dtype)])
    return concatenate([*ends[0], diff(x), *ends[1]])


def unwrap(p: TensorLike, discont: float | None = None, axis: int = -1, *, period: float = 6.283185307179586) -> Tensor:
    """Angles with multiples of the period added, so that no difference of neighbours along the axis is larger than
    half a period, unless it is below ``discont``. What is added has derivative 0.

    >>> import fastgrad as fg
    >>> fg.unwrap([0.0, 3.0, 6.0, 9.0, 0.5], period=10.0)
    tensor([ 0. ,  3. ,  6. ,  9. , 10.5])
    """
    x = asarray(p)
    axis = one_axis(axis, x.ndim, "unwrap")
    step = diff(x, axis=axis).detach()
    discont = period / 2 if discont is None else discont
    if np.result_type(step.dtype, period).kind in "iu":
        low, rest = -(period // 2), period % 2
        on_boundary = rest == 0
    else:
        low, on_boundary = -period / 2, True
    wrapped = (step - low) % period + low
    if on_boundary:
        wrapped = where((wrapped == low) & (step > 0), -low, wrapped)
    jump = where(absolute(step) < discont, 0, wrapped - step)
    dtype = np.result_type(x.dtype, period)
    added = concatenate(
        [asarray(np.zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]), dtype)), cumsum(jump, axis)], axis
    )
    return astype(astype(x, dtype) + added, dtype) if x.shape[axis] else astype(x, dtype)


def trapezoid(y: TensorLike, x: TensorLike | None = None, dx: TensorLike = 1.0, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule, of values at the points x, or at a distance of dx. Gradients
    pass to y, x and dx.

    >>> import fastgrad as fg
    >>> fg.trapezoid([1.0, 2.0, 3.0], [0.0, 1.0, 3.0])
    tensor(6.5)
    """
    y, axis_of_x = asarray(y), axis
    axis = one_axis(axis, y.ndim, "trapezoid")
    if x is None:
        d: Any = dx
    else:
        x = asarray(x)
        d = diff(x, axis=axis_of_x) if x.ndim != 1 else reshape(diff(x), (-1, *(1,) * (y.ndim - 1 - axis)))
    return (d * (part(y, axis, 1, None) + part(y, axis, None, -1)) / 2.0).sum(axis)  # type: ignore[no-any-return]


def gradient(
    f: TensorLike, *varargs: TensorLike, axis: int | Sequence[int] | None = None, edge_order: int = 1
) -> Tensor | tuple[Tensor, ...]:
    """``numpy.gradient``: derivatives of samples along axes by central differences of second order, at the ends by
    differences of order ``edge_order``, 1 or 2. It is the numerical derivative of a table; that of a function is
    ``grad``.

    Distances are given as one number for all axes, or for each axis as a number or as the coordinates along it;
    gradients pass to f and to the distances. Returns a tensor for one axis, else a tuple. Raises ValueError for fewer
    samples than edge_order + 1.

    >>> import fastgrad as fg
    >>> fg.gradient([1.0, 2.0, 4.0, 7.0], 2.0)
    tensor([0.5 , 0.75, 1.25, 1.5 ])
    """
    f = asarray(f)
    axes = [*range(f.ndim)] if axis is None else [
        one_axis(i, f.ndim, "gradient") for i in (axis if isinstance(axis, (tuple, list)) else (axis,))
    ]  # fmt: skip
    normal_axes(tuple(axes), f.ndim, "gradient")
    given: list[Any] = [d if type(d) in (int, float) else asarray(d) for d in varargs]
    if not given:
        given = [1.0] * len(axes)
    elif len(given) == 1 and np.ndim(given[0]) == 0:
        given *= len(axes)
    elif len(given) != len(axes):
        raise TypeError(f"gradient: expected distances for {len(axes)} axes or for all, got {len(given)}")
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: expected edge_order 1 or 2, got {edge_order!r}")
    f = f if f.dtype.kind == "f" else astype(f, np.float64)
    found = tuple([_derivative(f, d, i, edge_order) for d, i in zip(given, axes)])
    return found[0] if len(axes) == 1 else found


def _derivative(f: Tensor, d: Any, axis: int, edge_order: int) -> Tensor:
    """The derivative along an axis, at a distance d or at the coordinates d."""
    n, is_even = f.shape[axis], np.ndim(d) == 0
    if n < edge_order + 1:
        raise ValueError(f"gradient: expected at least {edge_order + 1} samples along axis {axis}, got {n}")
    if not is_even and d.shape != (n,):
        raise ValueError(f"gradient: expected a number or {n} coordinates for axis {axis}, got shape {d.shape}")

    def at(*bounds: int | None) -> Tensor:
        return part(f, axis, *bounds)

    if is_even:
        inner = (at(2, None) - at(None, -2)) / (2.0 * d)
        h = h1 = k1 = k = d
    else:
        d = d if d.dtype.kind == "f" else astype(d, np.float64)
        steps = reshape(diff(d), (*(1,) * axis, n - 1, *(1,) * (f.ndim - 1 - axis)))
        h, k = part(steps, axis, None, -1), part(steps, axis, 1, None)
        inner = -k / (h * (h + k)) * at(None, -2) + (k - h) / (h * k) * at(1, -1) + h / (k * (h + k)) * at(2, None)
        h, h1, k1, k = (part(steps, axis, *ends) for ends in ((None, 1), (1, 2), (-2, -1), (-1, None)))
    if edge_order == 1:
        first, last = (at(1, 2) - at(0, 1)) / h, (at(-1, None) - at(-2, -1)) / k
    else:
        first = (
            -(2.0 * h + h1) / (h * (h + h1)) * at(0, 1)
            + (h + h1) / (h * h1) * at(1, 2)
            - h / (h1 * (h + h1)) * at(2, 3)
        )
        last = (
            k / (k1 * (k1 + k)) * at(-3, -2) - (k + k1) / (k1 * k) * at(-2, -1)
            + (2.0 * k + k1) / (k * (k1 + k)) * at(-1, None)
        )  # fmt: skip
    return astype(concatenate([first, inner, last], axis), f.dtype)


def interp(
    x: TensorLike, xp: TensorLike, fp: TensorLike, left: TensorLike | None = None, right: TensorLike | None = None,
    period: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """Values at x of the function that is linear between the points (xp, fp), computed in float64 as NumPy's.

    xp increases; beyond its ends the value is ``left`` and ``right``, by default that of the first and the last point.
    With a ``period`` the function repeats itself, xp may be in any order, and ``left`` and ``right`` are not used.
    Gradients pass to all of these. At a point the slope is that to its right, and 0 beyond the ends. Raises ValueError
    unless xp and fp are vectors of one length, and for a period of 0.

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
    if period is not None:
        x, xp, fp = _of_one_period(x, xp, fp, astype(asarray(period), np.float64))
        left = right = None
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


def _of_one_period(x: Tensor, xp: Tensor, fp: Tensor, period: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of interp within a period, where the points have one neighbour on either side."""
    if not _core.traced(period) and not period.detach().numpy().all():
        raise ValueError("interp: expected a period that is not 0")
    period = _core.absolute(period)
    x, xp = x % period, xp % period
    order = _core.by_numpy(np.argsort, xp)
    xp, fp = gathered(xp, order, 0), gathered(fp, order, 0)
    return x, concatenate([xp[-1:] - period, xp, xp[:1] + period]), concatenate([fp[-1:], fp, fp[:1]])


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


__all__ = [
    "cummax", "cummin", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diff", "ediff1d", "gradient",
    "interp",
    "logcumsumexp", "trapezoid", "unwrap",
]  # fmt: skip
