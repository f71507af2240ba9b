"""Reductions over axes, composed of the core's, under NumPy's names and rules."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    add,
    asarray,
    astype,
    concatenate,
    divide,
    mean,
    multiply,
    normal_axes,
    reshape,
    sqrt,
    square,
    subtract,
    sum,
    transpose,
    where,
)
from .creation import into
from .results import stored
from .shapes import one_axis

if TYPE_CHECKING:
    from .typing import Axis, TensorLike


# ---- NumPy's keywords ------------------------------------------------------------------------------------------------
def checked_dtype(name: str, dtype: Any) -> Any:
    """A dtype to compute in, or None; TypeError for a bool or a number, which was meant as another argument."""
    if isinstance(dtype, (bool, int, float, np.generic)):
        meant = f"write keepdims={dtype!r}" if isinstance(dtype, (bool, np.bool_)) else "keepdims= and ddof= go by name"
        raise TypeError(f"{name}: expected a dtype as the third argument, as in NumPy, got {dtype!r}; {meant}")
    return None if dtype is None else np.dtype(dtype)


def booleans(name: str, mask: TensorLike, shape: tuple[int, ...]) -> Tensor:
    """A mask given as where= for an array of this shape; TypeError for what has no booleans, ValueError for more of
    them than elements."""
    mask = asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"{name}: expected where= as booleans, got {mask.dtype}")
    lengths = zip(mask.shape[::-1], shape[::-1])
    if mask.ndim > len(shape) or not builtins.all(m in (1, n) for m, n in lengths):
        raise ValueError(f"{name}: expected where= of a shape that broadcasts to {shape}, got {mask.shape}")
    return mask


def chosen(x: Tensor, mask: Tensor, else_: Any) -> Tensor:
    """x where a mask is true, else a number."""
    return where(mask, x, x.dtype.type(else_))


def reduced_with(
    name: str, x: TensorLike, axis: Axis, keepdims: bool, dtype: Any, out: Any, initial: Any, mask: Any
) -> Tensor:
    """``sum``, ``prod``, ``max``, ``min`` and ``mean`` with keywords. The binding calls this where one is given."""
    x, dtype = asarray(x), checked_dtype(name, dtype)
    if dtype is not None and x.dtype != dtype:
        x = astype(x, dtype)
    axes = normal_axes(axis, x.ndim, name)
    mask = None if mask is None else booleans(name, mask, x.shape)
    if name == "mean":
        if mask is None:
            y = mean(x, axis, keepdims=keepdims)
        else:
            x = x if x.dtype.kind == "f" else astype(x, np.float64)
            count = astype(counted(mask, x.shape, axis, keepdims), x.dtype)
            y = divide(sum(chosen(x, mask, 0), axis, keepdims=keepdims), count)
    elif name in ("max", "min"):
        extremum, pairwise = (_core.max, _core.maximum) if name == "max" else (_core.min, _core.minimum)
        if mask is not None:
            if initial is None:
                raise ValueError(f"{name}: where= may leave nothing over, so that initial= must be given, too")
            if x.dtype.kind == "f":
                least = -np.inf if name == "max" else np.inf
            elif x.dtype == np.bool_:
                least = name == "min"
            else:
                least = np.iinfo(x.dtype).min if name == "max" else np.iinfo(x.dtype).max
            x = chosen(x, mask, least)
        if initial is not None and any_zero_length(x.shape, axes):
            kept = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
            y = _core.broadcast_to(into(asarray(initial), x.dtype, name), kept)
        else:
            y = extremum(x, axis, keepdims=keepdims)
            y = y if initial is None else pairwise(y, into(asarray(initial), y.dtype, name))
    else:
        neutral, reduction, joined = (0, sum, add) if name == "sum" else (1, prod, multiply)
        x = x if mask is None else chosen(x, mask, neutral)
        y = reduction(x, axis, keepdims=keepdims)
        y = y if initial is None else joined(y, into(asarray(initial), y.dtype, name))
    return stored(name, out, y if dtype is None or y.dtype == dtype else astype(y, dtype))


def counted(mask: TensorLike, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Tensor:
    """How many elements of this shape over axes a mask chooses."""
    return sum(_core.broadcast_to(asarray(mask), shape), axis, keepdims=keepdims)


# ---- products, variances --------------------------------------------------------------------------------------------
def prod(
    a: TensorLike, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, keepdims: bool = False,
    initial: TensorLike | None = None, where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """Product of elements over axes. Its gradient divides by nothing and is exact where elements are 0. Keywords as in
    ``sum``.

    It is the last of the running products, those of ``cumprod``; along a long first axis, of 32 interleaved parts.

    >>> import fastgrad as fg
    >>> fg.prod([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([3., 8.])
    """
    if dtype is not None or out is not None or initial is not None or where is not None:
        return reduced_with("prod", a, axis, keepdims, dtype, out, initial, where)
    x = asarray(a)
    axes = normal_axes(axis, x.ndim, "prod")
    if x.dtype.kind != "f":
        if not _core.traced(x):
            return _core.by_numpy(np.prod, x, axis=axes, keepdims=bool(keepdims))
        x = astype(x, _core.summed_dtype(x.dtype))
    if any_zero_length(x.shape, axes):
        return add(sum(x, axis, keepdims=keepdims), x.dtype.type(1))
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    others = tuple([i for i in range(x.ndim) if i not in axes])
    rest = [x.shape[i] for i in others]
    result = kept if keepdims else rest
    if not x.size:
        return reshape(x, result)
    if len(axes) == 1:
        at, n = axes[0], x.shape[axes[0]]
    else:
        x, at = reshape(x if axes == tuple(range(len(axes))) else transpose(x, [*axes, *others]), [-1, *rest]), 0
        n = x.shape[0]
    if at == 0 and n >= 4 * _LANES and x.size < n * _LANES:
        whole = n // _LANES * _LANES
        lanes = reshape(_last_product(reshape(x[:whole], (-1, _LANES, *rest)), 0), (_LANES, *rest))
        x = concatenate([lanes, x[whole:]]) if whole < n else lanes
    return reshape(_last_product(x, at), result)


_CUMPROD = _core.OP_NUMBERS["cumprod"]
_LANES = 32


def _last_product(x: Tensor, axis: int) -> Tensor:
    """The last of the running products along an axis, which stays with length 1."""
    n = x.shape[axis]
    return _core.apply_op(_CUMPROD, [x], (axis,))[(slice(None),) * axis + (slice(n - 1, n),)]


def any_zero_length(shape: Sequence[int], axes: Sequence[int]) -> bool:
    """Whether one of the axes has no elements."""
    return builtins.any(shape[i] == 0 for i in axes)


def var(
    a: TensorLike, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, ddof: float = 0,
    keepdims: bool = False, *, where: TensorLike | None = None, mean: TensorLike | None = None,
    correction: float | None = None,
) -> Tensor:  # fmt: skip
    """Variance over axes: mean squared distance from the mean, with divisor n - ddof. Its gradient where all elements
    are equal is 0.

    ``correction`` is another name of ``ddof``; ``where`` chooses elements by a mask; ``mean`` is the mean with its axes
    kept, if it is known; ``dtype`` is the float dtype to compute in.

    >>> import fastgrad as fg
    >>> fg.var([1.0, 2.0, 3.0, 4.0])
    tensor(1.25)
    """
    y = _spread("var", a, axis, ddof, keepdims, dtype, where, mean, correction)
    return stored("var", out, y)


def _spread(
    name: str, x: TensorLike, axis: Axis, ddof: float, keepdims: bool, dtype: Any, mask: Any, center: Any,
    correction: float | None,
) -> Tensor:  # fmt: skip
    x = asarray(x)
    dtype = checked_dtype(name, dtype)
    if correction is not None:
        if ddof != 0:
            raise ValueError(f"{name}: expected ddof or correction, which are the same, got both")
        ddof = correction
    if dtype is not None:
        if dtype.kind != "f":
            raise TypeError(f"{name}: expected dtype as a float dtype, got {dtype}")
        x = astype(x, dtype)
    mask = None if mask is None else booleans(name, mask, x.shape)
    count: Any = 1
    for i in normal_axes(axis, x.ndim, name):
        count *= x.shape[i]
    if center is None:
        center = mean(x, axis, keepdims=True) if mask is None else mean(x, axis, keepdims=True, where=mask)
    distance = subtract(x, center)
    if mask is None:
        return divide(sum(square(distance), axis, keepdims=keepdims), builtins.max(count - float(ddof), 0.0))
    squares = sum(square(chosen(distance, mask, 0)), axis, keepdims=keepdims)
    freedom = astype(counted(mask, x.shape, axis, keepdims), distance.dtype) - float(ddof)
    some = freedom > 0  # elsewhere it is a quotient by 0, which has no gradient
    of_none = where(squares == 0, squares.dtype.type(np.nan), np.inf)
    return where(some, divide(squares, where(some, freedom, 1.0)), of_none)


def std(
    a: TensorLike, axis: Axis = None, dtype: Any = None, out: Tensor | None = None, ddof: float = 0,
    keepdims: bool = False, *, where: TensorLike | None = None, mean: TensorLike | None = None,
    correction: float | None = None,
) -> Tensor:  # fmt: skip
    """Standard deviation over axes: the square root of ``var``, with its keywords. Where all elements are equal its
    gradient is 0, as that of ``norm`` at 0.

    >>> import fastgrad as fg
    >>> fg.std([1.0, 3.0])
    tensor(1.)
    """
    y = root_or_zero(_spread("std", a, axis, ddof, keepdims, dtype, where, mean, correction), sqrt)
    return stored("std", out, y)


def root_or_zero(x: Tensor, root: Callable[[Tensor], Tensor]) -> Tensor:
    """A root of x, of derivative 0 at 0: where() on both sides keeps its infinite slope there out of the gradient."""
    zero = x == 0.0
    return where(zero, 0.0, root(where(zero, 1.0, x)))


def _of_truths(extremum: Callable[..., Tensor], of_none: bool) -> Callable[..., Tensor]:
    """``any`` as the maximum of booleans, ``all`` as their minimum; ``of_none`` where there are no elements."""

    def reduced(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
        axes = normal_axes(axis, x.ndim, extremum.__name__)
        if any_zero_length(x.shape, axes):
            kept = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
            return _core.broadcast_to(asarray(of_none), kept)
        return extremum(x if x.dtype == np.bool_ else x != 0, axis, keepdims=keepdims)

    return reduced


def _place(name: str) -> Callable[..., Tensor]:
    """``argmax`` and ``argmin`` by the operation of that name."""
    op = _core.OP_NUMBERS[name]

    def placed(x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
        shape = x.shape
        if axis is None:
            x = reshape(x, -1)
        y = _core.apply_op(op, [x.detach()], (axis or 0,))
        kept = [1 if axis in (None, i) else n for i, n in enumerate(shape)]
        return reshape(y, kept) if keepdims else y

    return placed


def _counted(function: Callable[..., Any], of_traced: Callable[..., Tensor], example: str) -> Callable[..., Tensor]:
    """A function of NumPy's whose result is no float; ``of_traced`` computes it in programs, by operations."""

    def count(a: TensorLike, axis: Any = None, out: Tensor | None = None, *, keepdims: bool = False) -> Tensor:
        x = asarray(a)
        if out is not None:
            return stored(function.__name__, out, count(x, axis, keepdims=keepdims))
        if axis is not None and function in (np.argmax, np.argmin):
            axis = one_axis(axis, x.ndim or 1, function.__name__)
            axis = axis if x.ndim else None
        elif axis is not None:
            axis = normal_axes(axis, x.ndim, function.__name__)
        if _core.traced(x):
            return of_traced(x, axis, bool(keepdims))
        return _core.by_numpy(function, x, axis=axis, keepdims=bool(keepdims))

    count.__name__ = count.__qualname__ = function.__name__
    count.__doc__ = (
        f"``numpy.{function.__name__}`` of a tensor; the result is no float and carries no gradient.\n\n"
        f"    >>> import fastgrad as fg\n    >>> {example}\n    "
    )
    return count


_any = _counted(np.any, _of_truths(_core.max, False), "")
_all = _counted(np.all, _of_truths(_core.min, True), "")


def any(
    a: TensorLike, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False, *,
    where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """Whether any element over axes is not 0, as booleans; ``where`` is a mask of the elements that count.

    >>> import fastgrad as fg
    >>> fg.any([0.0, 2.0])
    tensor(True)
    """
    if where is not None:
        a = asarray(a)
        a = _core.by_numpy(np.logical_and, a, booleans("any", where, a.shape))
    return stored("any", out, _any(a, axis, keepdims=keepdims))


def all(
    a: TensorLike, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False, *,
    where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """Whether all elements over axes are not 0, as booleans; ``where`` is a mask of the elements that count.

    >>> import fastgrad as fg
    >>> fg.all([0.0, 2.0])
    tensor(False)
    """
    if where is not None:
        a = asarray(a)
        a = _core.by_numpy(np.logical_or, a, _core.by_numpy(np.logical_not, booleans("all", where, a.shape)))
    return stored("all", out, _all(a, axis, keepdims=keepdims))


argmax = _counted(np.argmax, _place("argmax"), "fg.argmax([0.0, 2.0])\n    tensor(1)")
argmin = _counted(np.argmin, _place("argmin"), "fg.argmin([0.0, 2.0])\n    tensor(0)")


def amax(
    a: TensorLike, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False,
    initial: TensorLike | None = None, where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """Another name of ``max``.

    >>> import fastgrad as fg
    >>> fg.amax([1.0, 2.0])
    tensor(2.)
    """
    return _core.max(a, axis, out, keepdims, initial, where)


def amin(
    a: TensorLike, axis: Axis = None, out: Tensor | None = None, keepdims: bool = False,
    initial: TensorLike | None = None, where: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """Another name of ``min``.

    >>> import fastgrad as fg
    >>> fg.amin([1.0, 2.0])
    tensor(1.)
    """
    return _core.min(a, axis, out, keepdims, initial, where)


__all__ = ["all", "amax", "amin", "any", "argmax", "argmin", "prod", "std", "var"]
