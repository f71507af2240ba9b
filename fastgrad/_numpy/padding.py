"""``pad``: NumPy's modes of padding, one axis after the other as NumPy does it, so that corners agree.

Modes that repeat elements are a gather by indices that NumPy itself pads; an odd reflection adds multiples of the first
and the last element. The others join what they compute to both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, asarray, astype, broadcast_to, concatenate, gathered, reshape, where
from .creation import into, known
from .elementwise import round
from .order import median
from .shapes import one_axis, part

if TYPE_CHECKING:
    from .typing import TensorLike

_OPTIONS: dict[str, tuple[str, ...]] = {
    "constant": ("constant_values",), "edge": (), "empty": (), "linear_ramp": ("end_values",),
    "maximum": ("stat_length",), "mean": ("stat_length",), "median": ("stat_length",), "minimum": ("stat_length",),
    "reflect": ("reflect_type",), "symmetric": ("reflect_type",), "wrap": (),
}  # fmt: skip


def pad(array: TensorLike, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Tensor:
    """The array with elements added before and after it along each axis, as ``numpy.pad``.

    Parameters
    ----------
    array : array_like
    pad_width : int, pairs of ints, or dict of axes to these
        How many before and after: for each axis, or one pair or one number for all.
    mode : str
        "constant" (``constant_values``, which may be tensors), "edge", "linear_ramp" (``end_values``, likewise),
        "maximum", "mean", "median", "minimum" (of ``stat_length`` elements at the end), "reflect", "symmetric"
        (``reflect_type`` "even" or "odd"), "wrap", "empty" (here zeros). Functions that write to a vector in place are
        refused by TypeError.

    Raises ValueError for an unknown mode, for options that it does not have, and for negative widths.

    >>> import fastgrad as fg
    >>> fg.pad([1.0, 2.0], 1)
    tensor([0., 1., 2., 0.])
    >>> fg.pad([1.0, 2.0, 3.0], (2, 0), "reflect")
    tensor([3., 2., 1., 2., 3.])
    """
    x = asarray(array)
    widths = _widths(pad_width, x.ndim)
    if callable(mode):
        raise TypeError(
            "pad: a function that changes a vector in place has no gradient; compute the ends, and join them with "
            "fastgrad.concatenate"
        )
    if mode not in _OPTIONS:
        raise ValueError(f"pad: expected a mode of {', '.join(_OPTIONS)}, got {mode!r}")
    for name in kwargs:
        if name not in _OPTIONS[mode]:
            raise ValueError(f"pad: mode {mode!r} does not take {name}=")
    y = reshape(x, x.shape)  # a value of its own, also where nothing is added
    if mode in ("constant", "empty", "linear_ramp"):
        ends = _ends(kwargs.get("end_values" if mode == "linear_ramp" else "constant_values", 0), x, mode)
        function = _ramp if mode == "linear_ramp" else _constant
        for axis, (before, after) in enumerate(widths):
            if before or after:
                if mode == "linear_ramp":
                    _refuse_empty(y, axis, mode)
                left, right = ends(axis)
                y = concatenate(
                    [function(y, axis, before, left, True), y, function(y, axis, after, right, False)], axis
                )
    elif "stat_length" in _OPTIONS[mode]:
        lengths = _lengths(kwargs.get("stat_length"), x.shape, mode)
        for axis, (before, after) in enumerate(widths):
            if before or after:
                _refuse_empty(y, axis, mode)
                left, right = (_statistic(mode, y, axis, n, first) for n, first in zip(lengths[axis], (True, False)))
                y = concatenate([_repeated(left, axis, before), y, _repeated(right, axis, after)], axis)
    else:
        odd = _is_odd(kwargs.get("reflect_type", "even"))
        if odd and x.dtype.kind == "b":
            raise TypeError("pad: an odd reflection subtracts, which booleans do not; cast them to integers first")
        for axis, (before, after) in enumerate(widths):
            if before or after:
                _refuse_empty(y, axis, mode)
                y = _repeating(y, axis, before, after, mode, odd)
    return y


def _widths(given: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(given, dict):
        pairs: Any = [(0, 0)] * ndim
        for axis, width in given.items():
            pairs[one_axis(axis, ndim, "pad")] = width if isinstance(width, (tuple, list)) else (width, width)
        given = pairs
    widths = np.asarray(known(given))
    if widths.dtype.kind not in "iu" and ndim:
        raise TypeError(f"pad: expected pad_width as ints, got {given!r}")
    if widths.size and widths.min() < 0:
        raise ValueError(f"pad: expected widths of at least 0, got {given!r}")
    return [(int(a), int(b)) for a, b in np.broadcast_to(widths, (ndim, 2))]


def _refuse_empty(x: Tensor, axis: int, mode: str) -> None:
    if not x.shape[axis]:
        raise ValueError(f"pad: axis {axis} of shape {x.shape} has no elements, which mode {mode!r} needs; mode "
                         "'constant' does not")  # fmt: skip


def _rows(x: Tensor, axis: int, count: int) -> tuple[int, ...]:
    return (*x.shape[:axis], count, *x.shape[axis + 1 :])


def _ends(given: Any, x: Tensor, mode: str) -> Callable[[int], tuple[Tensor, Tensor]]:
    """The values at the ends of each axis, in x's dtype."""
    values = asarray(given)
    if values.dtype != x.dtype and (mode != "linear_ramp" or x.dtype.kind == "f"):
        values = into(values, x.dtype, "pad")
    if values.ndim == 0:
        return lambda axis: (values, values)
    pairs = broadcast_to(values, (x.ndim, 2))
    return lambda axis: (pairs[axis, 0], pairs[axis, 1])


def _constant(x: Tensor, axis: int, count: int, value: Tensor, first: bool) -> Tensor:
    return broadcast_to(value, _rows(x, axis, count))


def _ramp(x: Tensor, axis: int, count: int, end: Tensor, first: bool) -> Tensor:
    """From the end value to the element at that end of x, which is not repeated."""
    edge = part(x, axis, 0, 1) if first else part(x, axis, -1, None)
    steps = np.arange(count) if first else np.arange(count)[::-1]
    place = steps.reshape(-1, *(1,) * (x.ndim - axis - 1)).astype(x.dtype if x.dtype.kind == "f" else np.float64)
    y = end + (edge - end) / max(count, 1) * place
    return into(_core.floor(y) if x.dtype.kind in "iu" else y, x.dtype, "pad")


def _lengths(given: Any, shape: tuple[int, ...], mode: str) -> list[tuple[int, int]]:
    """How many elements at each end a statistic is of."""
    if given is None:
        return [(n, n) for n in shape]
    lengths = np.broadcast_to(np.asarray(known(given)), (len(shape), 2)).tolist()
    if any(n < 0 for pair in lengths for n in pair):
        raise ValueError(f"pad: expected stat_length of at least 0, got {given!r}")
    if mode in ("maximum", "minimum") and any(n == 0 for pair in lengths for n in pair):
        raise ValueError(f"pad: of no elements there is no {mode}; expected stat_length of at least 1, got {given!r}")
    return [(min(a, n), min(b, n)) for (a, b), n in zip(lengths, shape)]


def _statistic(mode: str, x: Tensor, axis: int, length: int, first: bool) -> Tensor:
    n = x.shape[axis]
    some = part(x, axis, 0, length) if first else part(x, axis, n - length, None)
    if mode in ("maximum", "minimum"):
        return (_core.max if mode == "maximum" else _core.min)(some, axis, keepdims=True)
    y = _core.mean(some, axis, keepdims=True) if mode == "mean" else median(some, axis, keepdims=True)
    return y if y.dtype == x.dtype else astype(round(y) if x.dtype.kind in "iu" else y, x.dtype)


def _repeated(x: Tensor, axis: int, count: int) -> Tensor:
    return broadcast_to(x, _rows(x, axis, count))


def _is_odd(kind: str) -> bool:
    if kind not in ("even", "odd"):
        raise ValueError(f"pad: expected reflect_type 'even' or 'odd', got {kind!r}")
    return kind == "odd"


def _repeating(x: Tensor, axis: int, before: int, after: int, mode: str, odd: bool) -> Tensor:
    """x continued by its own elements; where odd, by those of its mirror image, so that both ends are centres of
    symmetry: after an even number q of lengths they have grown by q times the rise from the first to the last."""
    n = x.shape[axis]
    index = np.pad(np.arange(n), (before, after), mode)  # type: ignore[call-overload]
    if not odd or n == 1:
        return gathered(x, asarray(index), axis)
    place = np.arange(-before, n + after)
    turns = place // n if mode == "symmetric" else (place - (place > 0)) // (n - 1)
    sign = np.where(turns % 2, -1, 1).astype(x.dtype)
    of_first = np.where(turns % 2, 1 - turns, -turns).astype(x.dtype)
    of_last = np.where(turns % 2, 1 + turns, turns).astype(x.dtype)
    first, last = part(x, axis, 0, 1), part(x, axis, n - 1, n)

    def outside(begin: int, end: int) -> Tensor:
        s, a, b = (c[begin:end].reshape(-1, *(1,) * (x.ndim - axis - 1)) for c in (sign, of_first, of_last))
        y = gathered(x, asarray(index[begin:end]), axis) * s
        for c, edge in ((a, first), (b, last)):
            y = y + where(c != 0, edge * c, x.dtype.type(0))  # an edge that is nan or infinite only where it counts
        return y

    return concatenate([outside(0, before), x, outside(before + n, len(index))], axis)


__all__ = ["pad"]
