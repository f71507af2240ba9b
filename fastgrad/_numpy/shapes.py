"""Shape manipulation under NumPy's names and rules: axes, repeats, reversals and shifts, broadcasting."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import Tensor, asarray, broadcast_to, concatenate, gathered, normal_axes, reshape, transpose

if TYPE_CHECKING:
    from .typing import Axis, TensorLike


def one_axis(axis: int, ndim: int, name: str) -> int:
    """An axis counted from the first one; TypeError for several, AxisError for one that there is not."""
    if axis is None or isinstance(axis, (tuple, list)):
        raise TypeError(f"{name}: expected one axis as an int, got {axis!r}")
    return normal_axes(axis, ndim, name)[0]


def along_axis(x: Tensor, axis: int | None, name: str) -> tuple[Tensor, int]:
    """x and the number of one of its axes; x raveled, and its axis 0, if ``axis`` is None or x has no axes."""
    if axis is None:
        return reshape(x, -1), 0
    return (x if x.ndim else reshape(x, -1)), one_axis(axis, x.ndim or 1, name)


def is_single(value: Any) -> bool:
    """Whether an argument that is one number or several is one: a number, or an array or tensor without axes."""
    return not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0


def part(x: Tensor, axis: int, *bounds: int | None) -> Tensor:
    """A slice along one axis."""
    return x[(slice(None),) * axis + (slice(*bounds),)]


def shape(a: TensorLike) -> tuple[int, ...]:
    """The lengths of the axes. Nested lists may hold tensors.

    >>> import fastgrad as fg
    >>> fg.shape([[1.0, fg.tensor(2.0)]])
    (1, 2)
    """
    return asarray(a).shape


def ndim(a: TensorLike) -> int:
    """The number of axes.

    >>> import fastgrad as fg
    >>> fg.ndim([[1.0, 2.0]])
    2
    """
    return asarray(a).ndim


def size(a: TensorLike, axis: Axis = None) -> int:
    """The number of elements, or the length along an axis or several. Raises AxisError for an axis that does not exist.

    >>> import fastgrad as fg
    >>> fg.size(fg.zeros((2, 3))), fg.size(fg.zeros((2, 3)), axis=1)
    (6, 3)
    """
    x = asarray(a)
    return x.size if axis is None else math.prod(x.shape[i] for i in normal_axes(axis, x.ndim, "size"))


def swapaxes(a: TensorLike, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged.

    >>> import fastgrad as fg
    >>> fg.swapaxes(fg.zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    x = asarray(a)
    i, j = one_axis(axis1, x.ndim, "swapaxes"), one_axis(axis2, x.ndim, "swapaxes")
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return transpose(x, order)


def moveaxis(a: TensorLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to new positions, the others in order. Raises ValueError unless there are as many of both.

    >>> import fastgrad as fg
    >>> fg.moveaxis(fg.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = asarray(a)
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


def rollaxis(a: TensorLike, axis: int, start: int = 0) -> Tensor:
    """An axis moved to the position before ``start``, the others in order. ``moveaxis``, which is given the position
    where the axis ends, is clearer.

    >>> import fastgrad as fg
    >>> fg.rollaxis(fg.zeros((2, 3, 4)), 2).shape
    (4, 2, 3)
    """
    x = asarray(a)
    axis, start = one_axis(axis, x.ndim, "rollaxis"), operator.index(start)
    if not -x.ndim <= start <= x.ndim:
        raise np.exceptions.AxisError(f"rollaxis: expected start from {-x.ndim} to {x.ndim}, got {start}")
    start += x.ndim if start < 0 else 0
    return moveaxis(x, axis, start - (axis < start))


def matrix_transpose(x: TensorLike) -> Tensor:
    """The last two axes exchanged. Raises ValueError for fewer than two axes.

    >>> import fastgrad as fg
    >>> fg.matrix_transpose(fg.zeros((2, 3, 4))).shape
    (2, 4, 3)
    """
    x = asarray(x)
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: expected at least 2 dimensions, got shape {x.shape}")
    return swapaxes(x, -1, -2)


def squeeze(a: TensorLike, axis: Axis = None) -> Tensor:
    """``a`` without axes of length 1: all of them, or the given ones. Raises ValueError where one has another length.

    >>> import fastgrad as fg
    >>> fg.squeeze(fg.zeros((1, 3, 1))).shape
    (3,)
    """
    x = asarray(a)
    if axis is None:
        return reshape(x, [n for n in x.shape if n != 1])
    axes = normal_axes(axis, x.ndim, "squeeze")
    for i in axes:
        if x.shape[i] != 1:
            raise ValueError(f"squeeze: axis {i} of shape {x.shape} has length {x.shape[i]}, not 1")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])


def expand_dims(a: TensorLike, axis: int | tuple[int, ...] = 0) -> Tensor:
    """``a`` with new axes of length 1 at the given positions of the result.

    >>> import fastgrad as fg
    >>> fg.expand_dims([1.0, 2.0], 1).shape
    (2, 1)
    """
    x = asarray(a)
    new = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    ndim = x.ndim + len(new)
    places = normal_axes(new, ndim, "expand_dims")
    lengths = iter(x.shape)
    return reshape(x, [1 if i in places else next(lengths) for i in range(ndim)])


def _at_least(name: str, thicker: Callable[[tuple[int, ...]], tuple[int, ...]], example: str) -> Callable[..., Any]:
    def at_least(*arys: TensorLike) -> Any:
        tensors = [asarray(x) for x in arys]
        raised = tuple([reshape(x, thicker(x.shape)) for x in tensors])
        return raised[0] if len(raised) == 1 else raised

    at_least.__name__ = at_least.__qualname__ = name
    at_least.__doc__ = (
        f"``numpy.{name}``: arrays with axes of length 1 added where they have fewer. A tuple for more than one.\n\n"
        f"    >>> import fastgrad as fg\n    >>> {example}\n    "
    )
    return at_least


atleast_1d = _at_least("atleast_1d", lambda s: s or (1,), "fg.atleast_1d(2.0)\n    tensor([2.])")
atleast_2d = _at_least("atleast_2d", lambda s: (1,) * (2 - len(s)) + s, "fg.atleast_2d([1.0, 2.0]).shape\n    (1, 2)")
atleast_3d = _at_least(
    "atleast_3d",
    lambda s: s if len(s) > 2 else (*s, 1) if len(s) == 2 else (1, *(s or (1,)), 1),
    "fg.atleast_3d([1.0, 2.0]).shape\n    (1, 2, 1)",
)


def ravel(a: TensorLike, order: str = "C") -> Tensor:
    """The elements along one axis, with the last index changing fastest; with the first one for ``order="F"``.

    ``"A"`` and ``"K"`` are ``"C"``, as tensors are in row-major order. Raises ValueError for another order.

    >>> import fastgrad as fg
    >>> fg.ravel([[1.0, 2.0], [3.0, 4.0]])
    tensor([1., 2., 3., 4.])
    >>> fg.ravel([[1.0, 2.0], [3.0, 4.0]], order="F")
    tensor([1., 3., 2., 4.])
    """
    if order not in ("C", "F", "A", "K"):
        raise ValueError(f"ravel: expected order as 'C', 'F', 'A' or 'K', got {order!r}")
    return reshape(a, -1, "F" if order == "F" else "C")


def repeat(a: TensorLike, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element repeated along an axis, or each of the raveled ``a`` for ``axis=None``.

    ``repeats`` is one number, or one for each position along the axis. Raises ValueError where one is negative.

    >>> import fastgrad as fg
    >>> fg.repeat([1.0, 2.0], 2)
    tensor([1., 1., 2., 2.])
    """
    x, axis = along_axis(asarray(a), axis, "repeat")
    counts = np.asarray(repeats)
    if counts.ndim < 2 and counts.size == 1:
        if (count := operator.index(counts.item())) < 0:
            raise ValueError(f"repeat: expected repeats of at least 0, got {count}")
        before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
        stretched = broadcast_to(reshape(x, (*before, 1, *after)), (*before, count, *after))
        return reshape(stretched, (*before[:-1], before[-1] * count, *after))
    if counts.dtype.kind in "iu":
        if (total := sum(counts.ravel().tolist())) > sys.maxsize // 64:
            raise MemoryError(f"repeat: no memory for {total} rows")
        counts = counts.astype(np.intp, copy=False)  # NumPy takes no uint64
    return gathered(x, asarray(np.repeat(np.arange(x.shape[axis]), counts)), axis)


def tile(A: TensorLike, reps: Any) -> Tensor:
    """``A`` repeated as a whole along its axes; the last number of ``reps`` is for the last axis.

    >>> import fastgrad as fg
    >>> fg.tile([1.0, 2.0], 2)
    tensor([1., 2., 1., 2.])
    """
    x = asarray(A)
    times = [operator.index(n) for n in ((reps,) if is_single(reps) else reps)]
    ndim = max(x.ndim, len(times))
    times, lengths = [1] * (ndim - len(times)) + times, [1] * (ndim - x.ndim) + list(x.shape)
    thicker = reshape(x, [n for length in lengths for n in (1, length)])
    stretched = broadcast_to(thicker, [n for pair in zip(times, lengths) for n in pair])
    return reshape(stretched, [n * length for n, length in zip(times, lengths)])


def resize(a: TensorLike, new_shape: int | Sequence[int]) -> Tensor:
    """The elements of the raveled a in another shape, repeated from the beginning where there are too few.

    Where a has no elements the result is zeros, as NumPy's. Raises ValueError for a negative length.

    >>> import fastgrad as fg
    >>> fg.resize([1.0, 2.0], (2, 2))
    tensor([[1., 2.],
            [1., 2.]])
    """
    x = reshape(a, -1)
    shape = tuple(operator.index(n) for n in (new_shape if isinstance(new_shape, (tuple, list)) else (new_shape,)))
    if any(n < 0 for n in shape):
        raise ValueError(f"resize: expected lengths that are 0 or more, got {shape}")
    if not x.size:
        return asarray(np.zeros(shape, x.dtype))
    return gathered(x, asarray(np.arange(math.prod(shape)).reshape(shape) % x.size), 0)


def flip(m: TensorLike, axis: Axis = None) -> Tensor:
    """The elements in reverse order along axes, or along all.

    >>> import fastgrad as fg
    >>> fg.flip([1.0, 2.0, 3.0])
    tensor([3., 2., 1.])
    """
    x = asarray(m)
    axes = normal_axes(axis, x.ndim, "flip")
    return x[tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))]


def flipud(m: TensorLike) -> Tensor:
    """The elements in reverse order along the first axis. Raises ValueError for a single number.

    >>> import fastgrad as fg
    >>> fg.flipud([[1.0], [2.0]])
    tensor([[2.],
            [1.]])
    """
    x = asarray(m)
    if x.ndim < 1:
        raise ValueError("flipud: expected at least 1 dimension, got shape ()")
    return x[::-1]


def fliplr(m: TensorLike) -> Tensor:
    """The elements in reverse order along the second axis. Raises ValueError for fewer than two axes.

    >>> import fastgrad as fg
    >>> fg.fliplr([[1.0, 2.0]])
    tensor([[2., 1.]])
    """
    x = asarray(m)
    if x.ndim < 2:
        raise ValueError(f"fliplr: expected at least 2 dimensions, got shape {x.shape}")
    return x[:, ::-1]


def rot90(m: TensorLike, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turned k times by 90 degrees in the plane of two axes, from the first towards the second.

    >>> import fastgrad as fg
    >>> fg.rot90([[1.0, 2.0], [3.0, 4.0]])
    tensor([[2., 4.],
            [1., 3.]])
    """
    x, turns = asarray(m), operator.index(k) % 4
    if len(axes) != 2:
        raise ValueError(f"rot90: expected two axes, got {axes!r}")
    normal_axes(tuple(axes), x.ndim, "rot90")  # each of them, and not one twice
    i, j = one_axis(axes[0], x.ndim, "rot90"), one_axis(axes[1], x.ndim, "rot90")
    if turns == 2:
        return flip(x, (i, j))
    if turns == 0:
        return reshape(x, x.shape)  # a value of its own
    return swapaxes(flip(x, j), i, j) if turns == 1 else flip(swapaxes(x, i, j), j)


def roll(a: TensorLike, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements moved along axes, or in the raveled ``a`` for ``axis=None``; those that leave at the end come in
    at the beginning.

    >>> import fastgrad as fg
    >>> fg.roll([1.0, 2.0, 3.0], 1)
    tensor([3., 1., 2.])
    """
    x = asarray(a)
    x = reshape(x, x.shape)  # a value of its own, also where nothing moves
    if axis is None:
        return reshape(roll(reshape(x, -1), shift, 0), x.shape)
    for by, i in np.broadcast(shift, axis):
        i = one_axis(i, x.ndim, "roll")
        if at := -operator.index(by) % x.shape[i] if x.shape[i] else 0:
            x = concatenate([part(x, i, at, None), part(x, i, None, at)], i)
    return x


def sliding_window_view(
    x: TensorLike, window_shape: int | Sequence[int], axis: int | Sequence[int] | None = None
) -> Tensor:
    """All windows of a shape, as ``numpy.lib.stride_tricks.sliding_window_view``, but as a value, not a view.

    The axes of the result are those of the windows' positions, and behind them those within a window. It has as many
    elements as all windows together. Without ``axis``, ``window_shape`` has a length for each axis. Raises ValueError
    for a window that is longer than its axis, or of negative length, and where the number of lengths is not that of
    axes. NumPy's ``subok`` and ``writeable`` have no meaning here.

    >>> import fastgrad as fg
    >>> fg.sliding_window_view([1.0, 2.0, 3.0, 4.0], 3)
    tensor([[1., 2., 3.],
            [2., 3., 4.]])

    A correlation of images with a kernel is a product with the windows:

    >>> windows = fg.sliding_window_view(fg.ones((4, 5)), (3, 3))
    >>> fg.einsum("ijkl,kl->ij", windows, fg.ones((3, 3))).shape
    (2, 3)
    """
    x = asarray(x)
    lengths: Sequence[Any] = (window_shape,) if is_single(window_shape) else tuple(window_shape)  # type: ignore
    axes: Sequence[Any] = range(x.ndim) if axis is None else (axis,) if is_single(axis) else tuple(axis)  # type: ignore
    if len(lengths) != len(axes):
        raise ValueError(f"sliding_window_view: expected a length for each of {len(axes)} axes, got {window_shape}")
    for w, i in zip(map(operator.index, lengths), axes):
        i = one_axis(i, x.ndim, "sliding_window_view")
        if not 0 <= w <= x.shape[i]:
            raise ValueError(
                f"sliding_window_view: expected a window of 0 to {x.shape[i]} elements along axis {i}, got {w}"
            )
        places = np.arange(x.shape[i] - w + 1)[:, None] + np.arange(w)
        x = moveaxis(gathered(x, asarray(places), i), i + 1, -1)
    return x


# ---- broadcasting ----------------------------------------------------------------------------------------------------
def broadcast_shapes(*args: int | Sequence[int]) -> tuple[int, ...]:
    """The shape to which arrays of these shapes broadcast. Raises ValueError where there is none.

    >>> import fastgrad as fg
    >>> fg.broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    return np.broadcast_shapes(*args)


def broadcast_arrays(*args: TensorLike) -> tuple[Tensor, ...]:
    """Arrays stretched to the shape to which they broadcast. Raises ValueError where there is none.

    >>> import fastgrad as fg
    >>> [x.shape for x in fg.broadcast_arrays([1.0, 2.0], [[3.0]])]
    [(1, 2), (1, 2)]
    """
    tensors = [asarray(x) for x in args]
    shape = np.broadcast_shapes(*[x.shape for x in tensors])
    return tuple([broadcast_to(x, shape) for x in tensors])


permute_dims = transpose

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "broadcast_shapes", "expand_dims", "flip", "fliplr",
    "flipud", "matrix_transpose", "moveaxis", "ndim", "permute_dims", "ravel", "repeat", "resize", "roll", "rollaxis",
    "rot90", "shape", "size", "sliding_window_view", "squeeze", "swapaxes", "tile",
]  # fmt: skip
