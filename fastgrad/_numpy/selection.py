"""Choosing among arrays by conditions and numbers, under NumPy's names and rules, composed of ``where``.

What NumPy changes in place, ``place`` and ``putmask``, returns a new value here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import Tensor, asarray, astype, broadcast_to, by_numpy, gathered, promoted, reshape, where
from .counting import flatnonzero
from .creation import into
from .indexing import take
from .reductions import any as any_of
from .reductions import argmax
from .results import stored
from .sequences import cumsum
from .shapes import along_axis, resize

if TYPE_CHECKING:
    from .typing import TensorLike


def select(condlist: Sequence[TensorLike], choicelist: Sequence[TensorLike], default: TensorLike = 0) -> Tensor:
    """Elements of the first choice whose condition is true, of default where none is; all broadcast together.

    Raises TypeError for conditions that are no booleans, ValueError unless there are as many choices as conditions.

    >>> import fastgrad as fg, numpy as np
    >>> x = np.array([-1.0, 0.5, 2.0])
    >>> fg.select([x < 0, x < 1], [0.0, x], 1.0)
    tensor([0. , 0.5, 1. ])
    """
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(f"select: expected as many choices as conditions, at least one, got {len(choicelist)} and "
                         f"{len(condlist)}")  # fmt: skip
    conditions = [asarray(c) for c in condlist]
    for k, c in enumerate(conditions):
        if c.dtype != np.bool_:
            raise TypeError(f"select: expected conditions as booleans, got {c.dtype} as condition {k}")
    dtype, (y, *choices) = promoted("select", default, *choicelist)
    shape = np.broadcast_shapes(y.shape, *[x.shape for x in (*conditions, *choices)])
    y = astype(y, dtype)
    for condition, choice in zip(conditions[::-1], choices[::-1]):
        y = where(condition, choice if choice.dtype == dtype else astype(choice, dtype), y)
    return y if y.shape == shape else broadcast_to(y, shape)


def chosen(a: Any, count: int, mode: str) -> Any:
    """The numbers of choices, within 0 to count - 1."""
    if mode == "raise":
        if (outside := (a < 0) | (a >= count)).any():
            raise ValueError(f"choose: expected numbers from 0 to {count - 1}, got {a[outside][0]}")
        return a.astype(np.int64)
    return (a % count if mode == "wrap" else np.clip(a, 0, count - 1)).astype(np.int64)


def choose(
    a: TensorLike, choices: Sequence[TensorLike] | TensorLike, out: Tensor | None = None, mode: str = "raise"
) -> Tensor:
    """Elements of the choices that the integers a number; all broadcast together.

    ``mode`` says what is done with numbers outside: "raise" a ValueError, "wrap" around, or "clip". ``out`` is a
    tensor that takes the result. Raises TypeError for an a that is no integer.

    >>> import fastgrad as fg
    >>> fg.choose([1, 0], [[1.0, 2.0], [3.0, 4.0]])
    tensor([3., 2.])
    """
    if out is not None:
        return stored("choose", out, choose(a, choices, mode=mode))
    numbers, listed = asarray(a), [asarray(choice) for choice in choices]  # type: ignore[union-attr]
    if numbers.dtype.kind not in "iub":
        raise TypeError(f"choose: expected integers, got {numbers.dtype}")
    if not listed:
        raise ValueError("choose: expected at least one choice, got none")
    if mode not in ("raise", "wrap", "clip"):
        raise ValueError(f"choose: expected mode 'raise', 'wrap' or 'clip', got {mode!r}")
    numbers = by_numpy(chosen, numbers, count=len(listed), mode=mode)
    dtype, tensors = promoted("choose", *listed)
    y = astype(tensors[-1], dtype)
    for k in range(len(tensors) - 2, -1, -1):
        y = where(numbers == k, tensors[k], y)
    shape = np.broadcast_shapes(numbers.shape, *[x.shape for x in tensors])
    return y if y.shape == shape else broadcast_to(y, shape)


def compress(condition: TensorLike, a: TensorLike, axis: int | None = None, out: Tensor | None = None) -> Tensor:
    """What is at the places along an axis, or in the raveled ``a``, where a condition of one axis is true. It may be
    shorter than that axis.

    Raises ValueError for a condition of other axes, IndexError where it is true beyond the end, and TraceError where
    the condition is being traced, as its values decide the shape.

    >>> import fastgrad as fg
    >>> fg.compress([True, False], [[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([[1.],
            [3.]])
    """
    chosen = asarray(condition)
    if chosen.ndim != 1:
        raise ValueError(f"compress: expected a condition of one axis, got shape {chosen.shape}")
    x, axis = along_axis(asarray(a), axis, "compress")
    return stored("compress", out, take(x, flatnonzero(chosen), axis))


def piecewise(
    x: TensorLike, condlist: Any, funclist: Sequence[Callable[..., Any] | TensorLike], *args: Any, **kw: Any
) -> Tensor:
    """Functions of x, or numbers, each where its condition is true, in x's dtype; the last condition that holds counts.

    One function more than conditions is for the elements where none is true, else these are 0. Each function is called
    once, with an array of x's shape in which the elements that are not its own are replaced by one that is: it must
    work element by element, and values and slopes of x where its condition is false have no influence. NumPy hands only
    the chosen elements over, along one axis. Raises ValueError for another number of functions.

    >>> import fastgrad as fg, numpy as np
    >>> x = np.array([0.0, 4.0])
    >>> fg.piecewise(x, [x > 0], [fg.sqrt, -1.0])
    tensor([-1.,  2.])
    >>> fg.grad(lambda x: fg.piecewise(x, [x > 0], [fg.sqrt, -1.0]).sum())(x)
    array([0.  , 0.25])
    """
    x = asarray(x)
    listed = isinstance(condlist, (list, tuple)) or (isinstance(condlist, (np.ndarray, Tensor)) and condlist.ndim > 0)
    first = condlist[0] if listed else None
    of_arrays = isinstance(first, list) or (isinstance(first, (np.ndarray, Tensor)) and first.ndim > 0)
    several = first is not None and (of_arrays or x.ndim == 0)  # else a list of truth values is one condition
    conditions = [asarray(c) for c in condlist] if several else [asarray(condlist)]
    conditions = [c if c.dtype == np.bool_ else c != 0 for c in conditions]
    functions = list(funclist)
    if len(functions) == len(conditions) + 1:
        anywhere = conditions[0]
        for c in conditions[1:]:
            anywhere = anywhere | c
        conditions.append(~anywhere)
    elif len(functions) != len(conditions):
        raise ValueError(f"piecewise: expected {len(conditions)} functions for as many conditions, or one more, got "
                         f"{len(functions)}")  # fmt: skip
    y = asarray(np.zeros(x.shape, x.dtype))
    for condition, function in zip(conditions, functions):
        new = asarray(function(_own(x, condition), *args, **kw) if callable(function) else function)
        y = where(condition, into(new, x.dtype, "piecewise"), y)
    return y


def _own(x: Tensor, condition: Tensor) -> Tensor:
    """x with the elements where a condition is false replaced by the first one where it is true, or by 1."""
    if not x.size:
        return x
    condition = broadcast_to(condition, x.shape)
    first = gathered(reshape(x, -1), reshape(argmax(condition), ()), 0)
    return where(condition, x, where(any_of(condition), first, x.dtype.type(1)))


def putmask(a: TensorLike, mask: TensorLike, values: TensorLike) -> Tensor:
    """a with values where the mask is true, each from its own place; values are repeated to a's size. Unlike NumPy's it
    changes nothing in place: it returns a tensor. Raises ValueError where a and mask differ in size.

    >>> import fastgrad as fg
    >>> fg.putmask([1.0, 2.0, 3.0], [True, False, True], [10.0, 20.0])
    tensor([10.,  2., 10.])
    """
    x, mask, new = _masked(a, mask, values, "putmask")
    return where(mask, resize(new, x.shape), x) if new.size else reshape(x, x.shape)


def place(arr: TensorLike, mask: TensorLike, vals: TensorLike) -> Tensor:
    """arr with the values one after the other where the mask is true, and again from the first. Unlike NumPy's it
    changes nothing in place: it returns a tensor. Raises ValueError where arr and mask differ in size, and for no
    values.

    >>> import fastgrad as fg
    >>> fg.place([1.0, 2.0, 3.0], [True, False, True], [10.0, 20.0])
    tensor([10.,  2., 20.])
    """
    x, mask, new = _masked(arr, mask, vals, "place")
    if not new.size:
        if x.size:
            raise ValueError("place: expected values to place, got none")
        return reshape(x, x.shape)  # a value of its own
    number = cumsum(astype(reshape(mask, -1), np.int64), 0)
    kept = (number - 1) % new.size
    return where(mask, reshape(gathered(reshape(new, -1), kept, 0), x.shape), x)


def _masked(a: TensorLike, mask: TensorLike, values: TensorLike, name: str) -> tuple[Tensor, Tensor, Tensor]:
    x, mask, new = asarray(a), asarray(mask), asarray(values)
    if mask.size != x.size:
        raise ValueError(f"{name}: expected a mask of {x.size} elements, as the array has, got shape {mask.shape}")
    mask = reshape(mask if mask.dtype == np.bool_ else mask != 0, x.shape)
    return x, mask, into(new, x.dtype, name)


__all__ = ["choose", "compress", "piecewise", "place", "putmask", "select"]
