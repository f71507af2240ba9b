"""The same elements in other shapes, under NumPy's names and rules: composed of reshape, transpose and concatenate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._core import Tensor, asarray, concatenate, normal_axes, reshape, transpose

if TYPE_CHECKING:                       # numpy.typing is slow to import
    from numpy.typing import ArrayLike

    Axis = int | tuple[int, ...] | None
    TensorLike = Tensor | ArrayLike


def one_axis(axis: int, ndim: int, name: str) -> int:
    if axis is None or isinstance(axis, (tuple, list)):
        raise TypeError(f"{name}: expected one axis as an int, got {axis!r}")
    return normal_axes(axis, ndim, name)[0]


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
    """Axes moved to new positions, the others in order.

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
    """Without axes of length 1: all of them, or the given ones.

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
    """With new axes of length 1 at the given positions of the result.

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


def stack(arrays: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Joined along a new axis; all inputs have one shape.

    >>> import fastgrad as fg
    >>> fg.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    try:
        tensors = [asarray(a) for a in iter(arrays)]
    except TypeError:
        if hasattr(arrays, "__iter__"):
            raise
        raise TypeError(f"stack: expected a list of arrays, got {arrays!r}") from None
    if not tensors:
        raise ValueError("stack: expected at least one array, got none")
    shape = tensors[0].shape
    for k, t in enumerate(tensors):
        if t.shape != shape:
            raise ValueError(f"stack: input 0 has shape {shape}, input {k} has {t.shape}; all must be the same")
    axis = one_axis(axis, len(shape) + 1, "stack")
    thicker = (*shape[:axis], 1, *shape[axis:])
    return concatenate([reshape(t, thicker) for t in tensors], axis)


def from_lists(nested: Sequence[Any], name: str) -> Tensor:
    """Nested lists that hold tensors as one tensor, as ``numpy.asarray`` would join arrays."""
    parts = [from_lists(x, name) if isinstance(x, (list, tuple)) else asarray(x) for x in nested]
    if len({x.shape for x in parts}) > 1:
        raise ValueError(
            f"{name}: expected nested lists of equal lengths, got parts of shapes "
            f"{', '.join(sorted({str(x.shape) for x in parts}))}; pad them, or make a tensor of each"
        )
    return stack(parts) if parts else asarray(nested)


__all__ = ["expand_dims", "moveaxis", "ravel", "squeeze", "stack", "swapaxes"]
