"""Joining arrays and splitting them, under NumPy's names and rules; also what is put into an array or left out of it.

Where elements only move, NumPy's function is applied to their positions, and one gather follows.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import Tensor, asarray, broadcast_to, cast_arrays, concatenate, gathered, reshape, stacked
from .creation import into, known
from .results import stored
from .shapes import atleast_3d, is_single, moveaxis, one_axis, part

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from .typing import TensorLike


# ---- joining ---------------------------------------------------------------------------------------------------------
def _listed(arrays: Sequence[TensorLike], name: str) -> list[Tensor]:
    try:
        return [asarray(a) for a in iter(arrays)]
    except TypeError:
        if hasattr(arrays, "__iter__"):
            raise
        raise TypeError(f"{name}: expected a list of arrays, got {arrays!r}") from None


def stack(
    arrays: Sequence[TensorLike], axis: int = 0, out: Tensor | None = None, *, dtype: DTypeLike | None = None,
    casting: str = "same_kind",
) -> Tensor:  # fmt: skip
    """Arrays joined along a new axis. Raises ValueError unless all have one shape; ``dtype`` and ``casting`` are as for
    ``concatenate``.

    >>> import fastgrad as fg
    >>> fg.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    tensors = _listed(arrays, "stack")
    if dtype is not None or casting != "same_kind":
        tensors = cast_arrays("stack", tensors, dtype, casting)
    if not tensors:
        raise ValueError("stack: expected at least one array, got none")
    return stored("stack", out, stacked(tensors, one_axis(axis, tensors[0].ndim + 1, "stack")))


def hstack(tup: Sequence[TensorLike], *, dtype: DTypeLike | None = None, casting: str = "same_kind") -> Tensor:
    """Arrays joined along the second axis; those with one axis are joined along that. ``dtype`` and ``casting`` are as
    for ``concatenate``.

    >>> import fastgrad as fg
    >>> fg.hstack([[1.0], [2.0, 3.0]])
    tensor([1., 2., 3.])
    """
    rows = [reshape(t, 1) if t.ndim == 0 else t for t in cast_arrays("hstack", _listed(tup, "hstack"), dtype, casting)]
    return concatenate(rows, 0 if rows and rows[0].ndim == 1 else 1)


def vstack(tup: Sequence[TensorLike], *, dtype: DTypeLike | None = None, casting: str = "same_kind") -> Tensor:
    """Arrays joined along the first axis; one with a single axis is a row. ``dtype`` and ``casting`` are as for
    ``concatenate``.

    >>> import fastgrad as fg
    >>> fg.vstack([[1.0, 2.0], [[3.0, 4.0]]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    rows = cast_arrays("vstack", _listed(tup, "vstack"), dtype, casting)
    return concatenate([reshape(t, (1, -1)) if t.ndim < 2 else t for t in rows], 0)


def dstack(tup: Sequence[TensorLike]) -> Tensor:
    """Arrays joined along the third axis; those with fewer axes are made three-dimensional, as by ``atleast_3d``.

    >>> import fastgrad as fg
    >>> fg.dstack([[1.0, 2.0], [3.0, 4.0]])
    tensor([[[1., 3.],
             [2., 4.]]])
    """
    return concatenate([atleast_3d(t) for t in _listed(tup, "dstack")], 2)


def column_stack(tup: Sequence[TensorLike]) -> Tensor:
    """Arrays joined along the second axis; one with a single axis is a column.

    >>> import fastgrad as fg
    >>> fg.column_stack([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 3.],
            [2., 4.]])
    """
    tensors = _listed(tup, "column_stack")
    return concatenate([reshape(t, (-1, 1)) if t.ndim < 2 else t for t in tensors], 1)


def block(arrays: Any) -> Tensor:
    """Nested lists of blocks as one array: the innermost lists are joined along the last axis, those around them along
    the axis before it, and so on. Blocks get leading axes of length 1 where they have fewer than others.

    Raises TypeError for tuples, ValueError for empty lists and for lists of different depths, or deeper than 32.

    >>> import fastgrad as fg, numpy as np
    >>> fg.block([[np.eye(2), np.full((2, 1), 5.0)], [7.0, 8.0, 9.0]])
    tensor([[1., 0., 5.],
            [0., 1., 5.],
            [7., 8., 9.]])
    """
    depth, x = 0, arrays
    while isinstance(x, list) and x:
        depth, x = depth + 1, x[0]
        if depth > 32:  # each makes an axis; a list may hold itself
            raise ValueError("block: a tensor has at most 32 axes, got lists within each other at more levels")
    blocks: list[Tensor] = []

    def gather(x: Any, level: int) -> None:
        if isinstance(x, tuple):
            raise TypeError("block: expected nested lists of blocks, got a tuple; only lists are joined")
        if not isinstance(x, list):
            if level != depth:
                raise ValueError(f"block: expected lists of one depth, got blocks at depths {depth} and {level}")
            blocks.append(asarray(x))
            return
        if not x:
            raise ValueError("block: expected blocks in each list, got an empty list")
        if level == depth:
            raise ValueError(f"block: expected lists of one depth, got blocks at depth {depth} and a list there")
        for item in x:
            gather(item, level + 1)

    gather(arrays, 0)
    ndim = max([depth, *[t.ndim for t in blocks]])
    parts = iter([reshape(t, (1,) * (ndim - t.ndim) + t.shape) for t in blocks])

    def join(x: Any, level: int) -> Tensor:
        return concatenate([join(item, level + 1) for item in x], level - depth) if level < depth else next(parts)

    y = join(arrays, 0)
    return y if depth else reshape(y, y.shape)


def append(arr: TensorLike, values: TensorLike, axis: int | None = None) -> Tensor:
    """values joined to the end of arr along an axis; both raveled for ``axis=None``.

    >>> import fastgrad as fg
    >>> fg.append([1.0, 2.0], [[3.0], [4.0]])
    tensor([1., 2., 3., 4.])
    """
    return concatenate([asarray(arr), asarray(values)], axis)


def _raveled(arr: TensorLike, axis: int | None, name: str) -> tuple[Tensor, int]:
    x = asarray(arr)
    return (reshape(x, -1), 0) if axis is None else (x, one_axis(axis, x.ndim, name))


def insert(arr: TensorLike, obj: Any, values: TensorLike, axis: int | None = None) -> Tensor:
    """arr with values put in before the positions obj along an axis, or into the raveled arr for ``axis=None``.

    obj is an int, a slice, or integers or booleans along the axis. values broadcast and become arr's dtype, as NumPy's
    do. Raises IndexError for a position outside.

    >>> import fastgrad as fg
    >>> fg.insert([1.0, 2.0, 3.0], 1, 5.0)
    tensor([1., 5., 2., 3.])
    """
    x, axis = _raveled(arr, axis, "insert")
    new, n = asarray(values), x.shape[axis]
    new = into(new, x.dtype, "insert")
    at = np.arange(n)[obj] if isinstance(obj, slice) else np.asarray(known(obj))
    if at.dtype == np.bool_:
        at = np.flatnonzero(at)
    if at.size == 1:  # all values go before one position
        new = reshape(new, (1,) * (x.ndim - new.ndim) + new.shape)
        new = moveaxis(new, 0, axis) if at.ndim == 0 else new
        count = new.shape[axis]
    else:
        count = at.size
    new = broadcast_to(new, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
    order = np.insert(np.arange(n), at if at.size else at.astype(np.intp), np.arange(n, n + count))
    return gathered(concatenate([x, new], axis), asarray(order), axis)


def delete(arr: TensorLike, obj: Any, axis: int | None = None) -> Tensor:
    """arr without the elements at the positions obj along an axis, or of the raveled arr for ``axis=None``.

    obj is an int, a slice, or integers or booleans along the axis. Raises IndexError for a position outside.

    >>> import fastgrad as fg
    >>> fg.delete([1.0, 2.0, 3.0], 1)
    tensor([1., 3.])
    """
    x, axis = _raveled(arr, axis, "delete")
    return gathered(x, asarray(np.delete(np.arange(x.shape[axis]), known(obj))), axis)


def from_lists(nested: Sequence[Any], name: str) -> Tensor:
    """Nested lists that hold tensors as one tensor, as ``numpy.asarray`` would join arrays."""
    parts = [from_lists(x, name) if isinstance(x, (list, tuple)) else asarray(x) for x in nested]
    if len({x.shape for x in parts}) > 1:
        raise ValueError(
            f"{name}: expected nested lists of equal lengths, got parts of shapes "
            f"{', '.join(sorted({str(x.shape) for x in parts}))}; pad them, or make a tensor of each"
        )
    return stack(parts) if parts else asarray(nested)


# ---- splitting -------------------------------------------------------------------------------------------------------
def split(ary: TensorLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Parts along an axis: a number of parts of equal length, or those between the given places.

    Raises ValueError where the length is no multiple of that number.

    >>> import fastgrad as fg
    >>> fg.split([1.0, 2.0, 3.0], [1])
    [tensor([1.]), tensor([2., 3.])]
    """
    x = asarray(ary)
    axis = one_axis(axis, x.ndim, "split")
    n = x.shape[axis]
    if not is_single(indices_or_sections):
        places = [operator.index(i) for i in indices_or_sections]
    else:
        count = operator.index(indices_or_sections)
        if count < 1 or n % count:
            raise ValueError(f"split: axis {axis} of shape {x.shape} has length {n}, which is not {count} equal parts")
        places = list(range(n // count, n, n // count)) if n else [0] * (count - 1)
    return [part(x, axis, i, j) for i, j in zip([0, *places], [*places, None])]


def array_split(ary: TensorLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Parts along an axis, as ``split``, but a number of parts need not divide the length: then the first parts are
    longer by one. Raises ValueError for fewer parts than one.

    >>> import fastgrad as fg
    >>> fg.array_split([1.0, 2.0, 3.0], 2)
    [tensor([1., 2.]), tensor([3.])]
    """
    x = asarray(ary)
    axis = one_axis(axis, x.ndim, "array_split")
    if not is_single(indices_or_sections):
        return split(x, indices_or_sections, axis)
    if (count := operator.index(indices_or_sections)) < 1:
        raise ValueError(f"array_split: expected at least one part, got {count}")
    size, longer = divmod(x.shape[axis], count)
    return split(x, [size * k + min(k, longer) for k in range(1, count)], axis)


def _splitter(name: str, least: int, axis: int, along: str, example: str) -> Callable[..., list[Tensor]]:
    def splitting(ary: TensorLike, indices_or_sections: Any) -> list[Tensor]:
        x = asarray(ary)
        if x.ndim < least:
            raise ValueError(f"{name}: expected at least {least} dimension{'s' * (least > 1)}, got shape {x.shape}")
        return split(x, indices_or_sections, min(axis, x.ndim - 1))

    splitting.__name__ = splitting.__qualname__ = name
    splitting.__doc__ = (
        f"Parts along {along}, as ``split``. Raises ValueError for fewer than {least} axes.\n\n"
        f"    >>> import fastgrad as fg\n    >>> {example}\n    "
    )
    return splitting


hsplit = _splitter(
    "hsplit", 1, 1, "the second axis, or the only one", "fg.hsplit([1.0, 2.0], 2)\n    [tensor([1.]), tensor([2.])]"
)
vsplit = _splitter(
    "vsplit", 2, 0, "the first axis", "fg.vsplit([[1.0], [2.0]], 2)\n    [tensor([[1.]]), tensor([[2.]])]"
)
dsplit = _splitter(
    "dsplit", 3, 2, "the third axis", "fg.dsplit([[[1.0, 2.0]]], 2)\n    [tensor([[[1.]]]), tensor([[[2.]]])]"
)


def unstack(x: TensorLike, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts along an axis, without that axis: what ``stack`` joins.

    >>> import fastgrad as fg
    >>> fg.unstack([[1.0, 2.0], [3.0, 4.0]])
    (tensor([1., 2.]), tensor([3., 4.]))
    """
    x = asarray(x)
    if x.ndim == 0:
        raise ValueError("unstack: expected at least one axis, got a single number")
    before = (slice(None),) * one_axis(axis, x.ndim, "unstack")
    return tuple([x[(*before, i)] for i in range(x.shape[len(before)])])


def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
    """func1d of each slice along an axis; the axes of its result take the place of this axis.

    func1d is called once for each slice, as NumPy's is: ``fastgrad.vmap`` calls it once. Raises ValueError where there
    is no slice, as the shape of its result is not known.

    >>> import fastgrad as fg
    >>> fg.apply_along_axis(fg.sum, 0, [[1.0, 2.0], [3.0, 4.0]])
    tensor([4., 6.])
    """
    x = asarray(arr)
    axis = one_axis(axis, x.ndim, "apply_along_axis")
    others = (*x.shape[:axis], *x.shape[axis + 1 :])
    rows = reshape(moveaxis(x, axis, -1), (int(np.prod(others)), x.shape[axis]))
    if not rows.shape[0]:
        raise ValueError(f"apply_along_axis: shape {x.shape} has no slices along axis {axis} to call the function with")
    results = stack([asarray(func1d(row, *args, **kwargs)) for row in unstack(rows)])
    shape = results.shape[1:]
    results = reshape(results, (*others, *shape))
    inner = range(len(others), results.ndim)
    return moveaxis(results, tuple(inner), tuple(range(axis, axis + len(shape)))) if len(shape) else results


concat, row_stack = concatenate, vstack

__all__ = [
    "append", "apply_along_axis", "array_split", "block", "column_stack", "concat", "delete", "dsplit", "dstack",
    "hsplit", "hstack", "insert", "row_stack", "split", "stack", "unstack", "vsplit", "vstack",
]  # fmt: skip
