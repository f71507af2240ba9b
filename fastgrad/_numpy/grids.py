"""Grids and index tricks under NumPy's names: meshgrid, open meshes, and joining by the brackets of r_ and c_."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._core import Tensor, asarray, astype, broadcast_to, concatenate, promoted, refuse_value, reshape, transpose
from .creation import arange, linspace
from .shapes import swapaxes

if TYPE_CHECKING:
    from .typing import TensorLike


def meshgrid(*xi: TensorLike, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Tensor, ...]:
    """The coordinates of a grid from the vectors of its axes. Results are values, whatever ``copy`` says.

    ``indexing="xy"`` exchanges the first two axes of the results, "ij" does not; ``sparse`` leaves each with length 1
    along the axes of the others. Raises ValueError for other indexing.

    >>> import fastgrad as fg
    >>> fg.meshgrid([1.0, 2.0], [3.0])
    (tensor([[1., 2.]]), tensor([[3., 3.]]))
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: expected indexing 'xy' or 'ij', got {indexing!r}")
    n = len(xi)
    order = list(range(n))
    if indexing == "xy" and n > 1:
        order[:2] = 1, 0
    vectors = [reshape(x, [-1 if axis == k else 1 for axis in range(n)]) for x, k in zip(xi, order)]
    if sparse:
        return tuple(vectors)
    shape = np.broadcast_shapes(*[x.shape for x in vectors])
    return tuple([broadcast_to(x, shape) for x in vectors])


def ix_(*args: TensorLike) -> tuple[Tensor, ...]:
    """An open mesh of indices: the k-th vector along the k-th axis, so that they name all combinations. Booleans become
    the positions of those that are true. Raises ValueError for what is no vector.

    >>> import fastgrad as fg
    >>> fg.asarray([[1.0, 2.0], [3.0, 4.0]])[fg.ix_([0, 1], [1])]
    tensor([[2.],
            [4.]])
    """
    mesh = []
    for k, given in enumerate(args):
        x = asarray(given)
        if x.ndim != 1:
            raise ValueError(f"ix_: expected vectors, got shape {x.shape}")
        if x.dtype == np.bool_:
            refuse_value(x, "mask")
            x = asarray(np.flatnonzero(x.numpy()))
        elif not x.size:
            x = asarray(np.empty(0, np.intp))
        mesh.append(reshape(x, [-1 if axis == k else 1 for axis in range(len(args))]))
    return tuple(mesh)


class _Joined:
    """What the brackets of ``r_`` and ``c_`` join: slices as ranges, numbers and arrays, along an axis, with leading
    axes of length 1 up to a number of axes, among which those of an array with fewer have a place."""

    def __init__(self, name: str, axis: int, ndmin: int, place: int, doc: str) -> None:
        self._name, self._options, self.__doc__ = name, (axis, ndmin, place), doc

    def __getitem__(self, key: Any) -> Tensor:
        axis, ndmin, place = self._options
        kinds: list[Any] = []  # as numpy.result_type takes them: a Python number is weak
        parts: list[Tensor] = []
        for k, item in enumerate(key if isinstance(key, tuple) else (key,)):
            if isinstance(item, str):
                if k:
                    raise ValueError(f"{self._name}: a string of directives must come first, got {item!r} behind it")
                axis, ndmin, place = self._directive(item, ndmin, place)
                continue
            if isinstance(item, slice):
                x = _range(item)
                thin, kind = 1, x.dtype
            else:
                x = asarray(item)
                thin, kind = x.ndim, item if type(item) in (float, int, bool) else x.dtype
            kinds.append(kind)
            parts.append(_thicker(x, thin, ndmin, place, isinstance(item, slice)))
        if not parts:
            raise ValueError(f"{self._name}: expected something to join, got nothing")
        dtype = np.result_type(*kinds)
        promoted(self._name, *parts)  # the dtype is one that tensors have
        return concatenate([x if x.dtype == dtype else astype(x, dtype) for x in parts], axis)

    def _directive(self, text: str, ndmin: int, place: int) -> tuple[int, int, int]:
        try:
            numbers = [int(number) for number in text.split(",")]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3:
            raise ValueError(f"{self._name}: expected directives as 'axis', 'axis,ndim' or 'axis,ndim,place', got "
                             f"{text!r}; there are no matrices of tensors")  # fmt: skip
        axis, ndmin, place = (*numbers, *(ndmin, place)[len(numbers) - 1 :])
        return axis, ndmin, place

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"fastgrad.{self._name}"


def _range(item: slice) -> Tensor:
    start: Any = 0 if item.start is None else item.start
    step: Any = 1 if item.step is None else item.step
    if isinstance(step, (complex, np.complexfloating)):
        count: Any = abs(step)
        return linspace(start, item.stop, int(count))
    return arange(start, item.stop, step)


def _thicker(x: Tensor, thin: int, ndmin: int, place: int, is_range: bool) -> Tensor:
    """x with leading axes of length 1 up to ndmin, its own axes moved to a place among them."""
    missing = ndmin - x.ndim
    if missing > 0:
        x = reshape(x, (1,) * missing + x.shape)
    if place == -1 or thin >= ndmin:
        return x
    if is_range:
        return swapaxes(x, -1, place)
    gap = ndmin - thin
    begin = place + gap + 1 if place < 0 else place
    axes = list(range(ndmin))
    return transpose(x, axes[:begin] + axes[gap:] + axes[begin:gap])


_TEXT = """``numpy.{0}`` of tensors: {0}[a, b] joins arrays, numbers and ranges written as slices along the {1} axis{2}.

A string of directives may come first, as NumPy's, but for matrices.

>>> import fastgrad as fg
>>> fg.{0}[{3}]
{4}
"""
r_ = _Joined("r_", 0, 1, -1, _TEXT.format("r_", "first", "", "[1.0, 2.0], 0, 5:7", "tensor([1., 2., 0., 5., 6.])"))
c_ = _Joined(
    "c_", -1, 2, 0,
    _TEXT.format("c_", "last", "; vectors are columns", "[1, 2], [3, 4]", "tensor([[1, 3],\n        [2, 4]])"),
)  # fmt: skip
s_ = np.s_

__all__ = ["c_", "ix_", "meshgrid", "r_", "s_"]
