"""Shape manipulation under NumPy's names and rules: axes, joining and splitting, repeats, shifts, diagonals."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import Tensor, asarray, broadcast_to, concatenate, gathered, normal_axes, reshape, transpose, where

if TYPE_CHECKING:
    from .typing import Axis, TensorLike


def one_axis(axis: int, ndim: int, name: str) -> int:
    if axis is None or isinstance(axis, (tuple, list)):
        raise TypeError(f"{name}: expected one axis as an int, got {axis!r}")
    return normal_axes(axis, ndim, name)[0]


def part(x: Tensor, axis: int, *bounds: int | None) -> Tensor:
    """A slice along one axis."""
    return x[(slice(None),) * axis + (slice(*bounds),)]


def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged.

    >>> import fastgrad as fg
    >>> fg.swapaxes(fg.zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    x = asarray(x)
    i, j = one_axis(axis1, x.ndim, "swapaxes"), one_axis(axis2, x.ndim, "swapaxes")
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return transpose(x, order)


def moveaxis(x: TensorLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to new positions, the others in order. Raises ValueError unless there are as many of both.

    >>> import fastgrad as fg
    >>> fg.moveaxis(fg.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = asarray(x)
    sources: list[Any] = list(source) if isinstance(source, (tuple, list)) else [source]
    targets: list[Any] = list(destination) if isinstance(destination, (tuple, list)) else [destination]
    if len(sources) != len(targets):
        raise ValueError(f"moveaxis: {len(sources)} source axes for {len(targets)} destinations")
    normal_axes(tuple(sources), x.ndim, "moveaxis"), normal_axes(tuple(targets), x.ndim, "moveaxis")
    sources, targets = [s % x.ndim for s in sources], [t % x.ndim for t in targets]
    order = [i for i in range(x.ndim) if i not in sources]
    for target, origin in sorted(zip(targets, sources)):
        order.insert(target, origin)
    return transpose(x, order)


def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """x without axes of length 1: all of them, or the given ones. Raises ValueError where one has another length.

    >>> import fastgrad as fg
    >>> fg.squeeze(fg.zeros((1, 3, 1))).shape
    (3,)
    """
    x = asarray(x)
    if axis is None:
        return reshape(x, [n for n in x.shape if n != 1])
    axes = normal_axes(axis, x.ndim, "squeeze")
    for i in axes:
        if x.shape[i] != 1:
            raise ValueError(f"squeeze: axis {i} of shape {x.shape} has length {x.shape[i]}, not 1")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])


def expand_dims(x: TensorLike, axis: int | tuple[int, ...]) -> Tensor:
    """x with new axes of length 1 at the given positions of the result.

    >>> import fastgrad as fg
    >>> fg.expand_dims([1.0, 2.0], 1).shape
    (2, 1)
    """
    x = asarray(x)
    new = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    ndim = x.ndim + len(new)
    places = normal_axes(new, ndim, "expand_dims")
    lengths = iter(x.shape)
    return reshape(x, [1 if i in places else next(lengths) for i in range(ndim)])


def ravel(x: TensorLike) -> Tensor:
    """The elements along one axis.

    >>> import fastgrad as fg
    >>> fg.ravel([[1.0], [2.0]])
    tensor([1., 2.])
    """
    return reshape(x, -1)


def _listed(arrays: Sequence[TensorLike], name: str) -> list[Tensor]:
    try:
        return [asarray(a) for a in iter(arrays)]
    except TypeError:
        if hasattr(arrays, "__iter__"):
            raise
        raise TypeError(f"{name}: expected a list of arrays, got {arrays!r}") from None


def stack(arrays: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Arrays joined along a new axis. Raises ValueError unless all have one shape.

    >>> import fastgrad as fg
    >>> fg.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    tensors = _listed(arrays, "stack")
    if not tensors:
        raise ValueError("stack: expected at least one array, got none")
    shape = tensors[0].shape
    for k, t in enumerate(tensors):
        if t.shape != shape:
            raise ValueError(f"stack: input 0 has shape {shape}, input {k} has {t.shape}; all must be the same")
    axis = one_axis(axis, len(shape) + 1, "stack")
    thicker = (*shape[:axis], 1, *shape[axis:])
    return concatenate([reshape(t, thicker) for t in tensors], axis)


def hstack(arrays: Sequence[TensorLike]) -> Tensor:
    """Arrays joined along the second axis; those with one axis are joined along that.

    >>> import fastgrad as fg
    >>> fg.hstack([[1.0], [2.0, 3.0]])
    tensor([1., 2., 3.])
    """
    rows = [reshape(t, 1) if t.ndim == 0 else t for t in _listed(arrays, "hstack")]
    return concatenate(rows, 0 if rows and rows[0].ndim == 1 else 1)


def vstack(arrays: Sequence[TensorLike]) -> Tensor:
    """Arrays joined along the first axis; one with a single axis is a row.

    >>> import fastgrad as fg
    >>> fg.vstack([[1.0, 2.0], [[3.0, 4.0]]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    return concatenate([reshape(t, (1, -1)) if t.ndim < 2 else t for t in _listed(arrays, "vstack")], 0)


def split(x: TensorLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Parts along an axis: a number of parts of equal length, or those between the given places.

    Raises ValueError where the length is no multiple of that number.

    >>> import fastgrad as fg
    >>> fg.split([1.0, 2.0, 3.0], [1])
    [tensor([1.]), tensor([2., 3.])]
    """
    x = asarray(x)
    axis = one_axis(axis, x.ndim, "split")
    n = x.shape[axis]
    if hasattr(indices_or_sections, "__len__"):
        places = [operator.index(i) for i in indices_or_sections]
    else:
        count = operator.index(indices_or_sections)
        if count < 1 or n % count:
            raise ValueError(f"split: axis {axis} of shape {x.shape} has length {n}, which is not {count} equal parts")
        places = list(range(n // count, n, n // count)) if n else [0] * (count - 1)
    return [part(x, axis, i, j) for i, j in zip([0, *places], [*places, None])]


def repeat(x: TensorLike, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element repeated along an axis, or each of the raveled x for ``axis=None``.

    ``repeats`` is one number, or one for each position along the axis. Raises ValueError where one is negative.

    >>> import fastgrad as fg
    >>> fg.repeat([1.0, 2.0], 2)
    tensor([1., 1., 2., 2.])
    """
    x = asarray(x)
    if axis is None:
        x, axis = reshape(x, -1), 0
    axis = one_axis(axis, x.ndim, "repeat")
    counts = np.asarray(repeats)
    if counts.ndim < 2 and counts.size == 1:
        if (count := operator.index(counts.item())) < 0:
            raise ValueError(f"repeat: expected repeats of at least 0, got {count}")
        before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
        stretched = broadcast_to(reshape(x, (*before, 1, *after)), (*before, count, *after))
        return reshape(stretched, (*before[:-1], before[-1] * count, *after))
    if counts.dtype.kind in "iu" and (total := sum(counts.ravel().tolist())) > sys.maxsize // 64:
        raise MemoryError(f"repeat: no memory for {total} rows")
    return gathered(x, asarray(np.repeat(np.arange(x.shape[axis]), repeats)), axis)


def tile(x: TensorLike, reps: Any) -> Tensor:
    """x repeated as a whole along its axes; the last number of ``reps`` is for the last axis.

    >>> import fastgrad as fg
    >>> fg.tile([1.0, 2.0], 2)
    tensor([1., 2., 1., 2.])
    """
    x = asarray(x)
    times = [operator.index(n) for n in (reps if hasattr(reps, "__len__") else (reps,))]
    ndim = max(x.ndim, len(times))
    times, lengths = [1] * (ndim - len(times)) + times, [1] * (ndim - x.ndim) + list(x.shape)
    thicker = reshape(x, [n for length in lengths for n in (1, length)])
    stretched = broadcast_to(thicker, [n for pair in zip(times, lengths) for n in pair])
    return reshape(stretched, [n * length for n, length in zip(times, lengths)])


def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """The elements in reverse order along axes, or along all.

    >>> import fastgrad as fg
    >>> fg.flip([1.0, 2.0, 3.0])
    tensor([3., 2., 1.])
    """
    x = asarray(x)
    axes = normal_axes(axis, x.ndim, "flip")
    return x[tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))]


def roll(x: TensorLike, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements moved along axes, or in the raveled x for ``axis=None``; those that leave at the end come in at the
    beginning.

    >>> import fastgrad as fg
    >>> fg.roll([1.0, 2.0, 3.0], 1)
    tensor([3., 1., 2.])
    """
    x = asarray(x)
    x = reshape(x, x.shape)  # a value of its own, also where nothing moves
    if axis is None:
        return reshape(roll(reshape(x, -1), shift, 0), x.shape)
    for by, i in np.broadcast(shift, axis):
        i = one_axis(i, x.ndim, "roll")
        if at := -operator.index(by) % x.shape[i] if x.shape[i] else 0:
            x = concatenate([part(x, i, at, None), part(x, i, None, at)], i)
    return x


# ---- diagonals ------------------------------------------------------------------------------------------------------
def diagonal(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements whose indices along two axes are equal, or differ by offset, along a new last axis.

    >>> import fastgrad as fg
    >>> fg.diagonal([[1.0, 2.0], [3.0, 4.0]])
    tensor([1., 4.])
    """
    x, k = asarray(x), operator.index(offset)
    i, j = one_axis(axis1, x.ndim, "diagonal"), one_axis(axis2, x.ndim, "diagonal")
    normal_axes((i, j), x.ndim, "diagonal")
    rest = [a for a in range(x.ndim) if a not in (i, j)]
    m, n = x.shape[i], x.shape[j]
    count = max(min(m + min(k, 0), n - max(k, 0)), 0)
    if (i, j) != (x.ndim - 2, x.ndim - 1):
        x = transpose(x, [*rest, i, j])
    lead = x.shape[:-2]
    flat, start = reshape(x, (*lead, m * n)), max(k, 0) - min(k, 0) * n
    return flat[(..., slice(start, start + count * (n + 1) - n if count else start, n + 1))]


def diag(x: TensorLike, k: int = 0) -> Tensor:
    """The k-th diagonal of a matrix, or of a vector the matrix with this diagonal and zeros elsewhere.

    Raises ValueError for any other number of axes.

    >>> import fastgrad as fg
    >>> fg.diag([1.0, 2.0])
    tensor([[1., 0.],
            [0., 2.]])
    """
    x, k = asarray(x), operator.index(k)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag: expected a vector or a matrix, got shape {x.shape}")
    n = len(x) + abs(k)
    elements = concatenate([np.zeros(abs(k), x.dtype), x])  # of each column, or for k < 0 of each row
    return where(np.eye(n, k=k, dtype=bool), elements if k >= 0 else reshape(elements, (-1, 1)), x.dtype.type(0))


def tril(x: TensorLike, k: int = 0) -> Tensor:
    """Matrices with zeros above the k-th diagonal.

    >>> import fastgrad as fg
    >>> fg.tril([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 0.],
            [3., 4.]])
    """
    return where(_lower("tril", x := asarray(x), k), x, x.dtype.type(0))


def triu(x: TensorLike, k: int = 0) -> Tensor:
    """Matrices with zeros below the k-th diagonal.

    >>> import fastgrad as fg
    >>> fg.triu([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [0., 4.]])
    """
    return where(_lower("triu", x := asarray(x), k - 1), x.dtype.type(0), x)


def _lower(name: str, x: Tensor, k: int) -> Any:
    """A mask of the elements of matrices of x's shape that are not above the k-th diagonal."""
    if x.ndim == 0:
        raise ValueError(f"{name}: expected a matrix, got a single number")
    return np.tri(x.shape[-2:][0], x.shape[-1], operator.index(k), bool)


def from_lists(nested: Sequence[Any], name: str) -> Tensor:
    """Nested lists that hold tensors as one tensor, as ``numpy.asarray`` would join arrays."""
    parts = [from_lists(x, name) if isinstance(x, (list, tuple)) else asarray(x) for x in nested]
    if len({x.shape for x in parts}) > 1:
        raise ValueError(
            f"{name}: expected nested lists of equal lengths, got parts of shapes "
            f"{', '.join(sorted({str(x.shape) for x in parts}))}; pad them, or make a tensor of each"
        )
    return stack(parts) if parts else asarray(nested)


concat, permute_dims = concatenate, transpose

__all__ = [
    "concat", "diag", "diagonal", "expand_dims", "flip", "hstack", "moveaxis", "permute_dims", "ravel", "repeat",
    "roll", "split", "squeeze", "stack", "swapaxes", "tile", "tril", "triu", "vstack",
]  # fmt: skip
