"""``x[key]`` and ``take``: NumPy's indexing, in terms of the core's slice and gather.

Basic indexing, by integers, slices, None and Ellipsis, is one slice and a reshape. Advanced indexing, by integer and
boolean arrays, is a gather along one axis: that which a single array names, else that of all elements. NumPy itself
resolves the rare kinds of keys, so that all that it accepts are accepted. Integer tensors that are known only at each
replay are turned into indices along one axis by operations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    apply_op,
    asarray,
    astype,
    basic,
    by_numpy,
    gathered,
    refuse_value,
    reshape,
    traced,
    transpose,
)
from .joining import stack
from .results import stored
from .shapes import along_axis

_POSITION = _core.OP_NUMBERS["position"]


def getitem(x: Tensor, key: Any) -> Tensor:
    """The elements of x that key names, as ``x.numpy()[key]`` would, with gradients."""
    if isinstance(key, Tensor) and key.dtype.kind in "iu" and x.ndim:
        return gathered(x, int64_positions(key), 0)  # reads no value of the index: can be traced
    keys = [_plain(k) for k in (key if isinstance(key, tuple) else (key,))]
    if len(keys) == 1 and isinstance(keys[0], np.ndarray) and keys[0].dtype.kind in "iu" and x.ndim:
        return gathered(x, int64_positions(asarray(keys[0])), 0)
    if any(isinstance(k, Tensor) for k in keys):
        return _by_tensors(x, [np.bool_(k) if isinstance(k, bool) else k for k in keys])
    if all(k is None or k is Ellipsis or isinstance(k, slice) or _is_integer(k) for k in keys):
        return basic(x, keys)
    if _names_one_axis(x, keys):
        return _by_tensors(x, keys)
    # NumPy applies the key to the elements' numbers, and complains where it does not fit.
    numbers = np.arange(x.size).reshape(x.shape)[tuple(keys)]
    return gathered(reshape(x, -1), asarray(numbers), 0)


def take(a: Any, indices: Any, axis: int | None = None, out: Tensor | None = None, mode: str = "raise") -> Tensor:
    """Elements at integer positions along an axis, or of the raveled ``a`` for ``axis=None``.

    Negative positions count from the end; those outside raise IndexError. With ``mode="wrap"`` positions are taken
    modulo the length of the axis; with "clip" negative ones are 0, and those beyond the end the last one. ValueError
    for another mode.

    >>> import fastgrad as fg
    >>> fg.take([10.0, 20.0, 30.0], [2, 0, 2])
    tensor([30., 10., 30.])
    """
    x, index = asarray(a), asarray(indices)
    if index.dtype.kind not in "iu" and index.size:
        raise TypeError(f"take: expected integer indices, got {index.dtype}")
    x, axis = along_axis(x, axis, "take")
    index, last = int64_positions(index), x.shape[axis] - 1
    if mode not in ("raise", "wrap", "clip"):
        raise ValueError(f'take: expected the mode "raise", "wrap" or "clip", got {mode!r}')
    if mode != "raise" and last >= 0:
        index = index % (last + 1) if mode == "wrap" else by_numpy(np.clip, index, a_min=0, a_max=last)
    return stored("take", out, gathered(x, index, axis))


def _plain(key: Any) -> Any:
    """A tensor, list or array of a key as an ndarray, or a tensor if it is traced; its dtype is checked."""
    if isinstance(key, Tensor):
        if key.dtype.kind in "iu" and traced(key):
            return key
        if key.dtype == np.bool_:
            refuse_value(key, "mask")
        key = key.numpy()
    elif isinstance(key, (list, tuple)):
        parts = [_plain(k) for k in key]
        if any(isinstance(k, Tensor) for k in parts):
            return stack(parts)
        key = np.array(parts) if key else np.empty(0, np.intp)
    if isinstance(key, np.ndarray) and key.dtype == np.uint64:
        return positions(key)  # beyond int64, where NumPy would wrap around
    if isinstance(key, np.ndarray) and key.dtype.kind not in "iub":
        raise IndexError(f"indexing: expected integers or booleans, got an array of {key.dtype}")
    if isinstance(key, (float, str)):
        raise IndexError(
            f"indexing: expected integers, slices, None, ... or arrays of integers or booleans, got {key!r}"
        )
    return key


def _names_one_axis(x: Tensor, keys: list[Any]) -> bool:
    """Whether there is one array of integers among slices, None and an ellipsis, and all fit x."""
    places = [i for i, k in enumerate(keys) if isinstance(k, np.ndarray) and k.dtype.kind in "iu"]
    others = [k for k in keys if k is None or k is Ellipsis or isinstance(k, slice)]
    named = len(keys) - sum(k is None or k is Ellipsis for k in keys)
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(places) != 1 or len(others) != len(keys) - 1 or named > x.ndim or len(dots) > 1:
        return False
    before = sum(k is not None and k is not Ellipsis for k in keys[: places[0]])
    axis = x.ndim - named + before if dots and dots[0] < places[0] else before
    index, length = keys[places[0]], x.shape[axis]
    return not index.size or bool(-length <= index.min() and index.max() < length)


def _by_tensors(x: Tensor, keys: list[Any]) -> Tensor:
    """Indexing by keys among which are traced tensors of integers."""
    if sum(k is Ellipsis for k in keys) > 1:
        raise IndexError("indexing: an index can hold only one ellipsis (...)")
    named = sum(k.ndim if _is_mask(k) else k is not None and k is not Ellipsis for k in keys)
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    keys = _without_masks(x, [*keys[:at], *[slice(None)] * (x.ndim - named), *keys[at + 1 :]])
    part = basic(x, [k if k is None or isinstance(k, slice) else slice(None) for k in keys])
    axes = [i for i, k in enumerate(keys) if not (k is None or isinstance(k, slice))]
    lengths = tuple(part.shape[i] for i in axes)
    first = axes[0]
    if len(axes) == 1:
        return gathered(part, int64_positions(asarray(keys[first])), first)
    if axes[-1] - first >= len(axes):  # not adjacent: as in NumPy, the axes of the index come first
        part = transpose(part, [*axes, *[i for i in range(part.ndim) if i not in axes]])
        first = 0
    part = reshape(part, (*part.shape[:first], math.prod(lengths), *part.shape[first + len(axes) :]))
    joint = asarray(0)  # one index into the axes raveled
    for i, length in zip(axes, lengths):
        joint = joint * length + apply_op(_POSITION, [int64_positions(asarray(keys[i]))], (length,))
    return gathered(part, joint, first)


def _without_masks(x: Tensor, keys: list[Any]) -> list[Any]:
    """The keys with each boolean array replaced by the positions of its true elements; there is no ellipsis left."""
    found: list[Any] = []
    axis = 0
    for key in keys:
        if _is_mask(key):
            if not key.ndim or key.shape != x.shape[axis : axis + key.ndim]:
                raise IndexError(f"indexing: a mask of shape {key.shape} at axis {axis} of a tensor of shape {x.shape}")
            found.extend(key.nonzero())
            axis += key.ndim
        else:
            found.append(key)
            axis += key is not None
    return found


def int64_positions(index: Tensor) -> Tensor:
    """A tensor of integers as int64; IndexError for an element of uint64 that does not fit."""
    if index.dtype == np.uint64:
        return by_numpy(positions, index)
    return index if index.dtype == np.int64 else astype(index, np.int64)


def positions(index: Any) -> Any:
    """Integers as int64; IndexError where one does not fit."""
    index = np.asarray(index)
    if index.dtype == np.uint64 and (outside := index > np.iinfo(np.int64).max).any():
        raise IndexError(f"indexing: index {index[outside][0]} is outside any axis")
    return index.astype(np.int64)


def _is_mask(key: Any) -> bool:
    return isinstance(key, (bool, np.bool_)) or getattr(key, "dtype", None) == np.bool_


def _is_integer(key: Any) -> bool:
    if _is_mask(key):
        return False
    return hasattr(key, "__index__") and getattr(key, "shape", ()) == ()
