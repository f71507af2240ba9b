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
from .shapes import one_axis

if TYPE_CHECKING:
    from .typing import Axis, TensorLike


def prod(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Product of elements over axes. Its gradient is exact where elements are 0.

    Computed by multiplying one half of the elements with the other until one is left.

    >>> import fastgrad as fg
    >>> fg.prod([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([3., 8.])
    """
    x = asarray(x)
    axes = normal_axes(axis, x.ndim, "prod")
    if x.dtype.kind != "f":
        return _core.by_numpy(np.prod, x, axis=axes, keepdims=bool(keepdims))
    if any_zero_length(x.shape, axes):
        return add(sum(x, axis, keepdims), 1.0)
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    others = tuple([i for i in range(x.ndim) if i not in axes])
    rest = [x.shape[i] for i in others]
    y = reshape(transpose(x, [*axes, *others]), [-1, *rest]) if x.size else reshape(x, [1, *rest])
    while (n := y.shape[0]) > 1:
        half = n // 2
        product = multiply(y[:half], y[half : 2 * half])
        y = concatenate([product, y[2 * half :]]) if n % 2 else product
    return reshape(y, kept if keepdims else rest)


def any_zero_length(shape: Sequence[int], axes: Sequence[int]) -> bool:
    """Whether one of the axes has no elements."""
    return builtins.any(shape[i] == 0 for i in axes)


def var(x: TensorLike, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Variance over axes: mean squared distance from the mean, with divisor n - ddof. Its gradient where all elements
    are equal is 0.

    >>> import fastgrad as fg
    >>> fg.var([1.0, 2.0, 3.0, 4.0])
    tensor(1.25)
    """
    x = asarray(x)
    count = 1
    for i in normal_axes(axis, x.ndim, "var"):
        count *= x.shape[i]
    squares = sum(square(subtract(x, mean(x, axis, keepdims=True))), axis, keepdims)
    return divide(squares, builtins.max(count - float(ddof), 0.0))


def std(x: TensorLike, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Standard deviation over axes: the square root of ``var``. Its gradient where it is 0, of equal elements, is 0, as
    that of ``norm``.

    >>> import fastgrad as fg
    >>> fg.std([1.0, 3.0])
    tensor(1.)
    """
    x = asarray(x)
    normal_axes(axis, x.ndim, "std")
    return root_or_zero(var(x, axis, ddof, keepdims), sqrt)


def root_or_zero(x: Tensor, root: Callable[[Tensor], Tensor]) -> Tensor:
    """A root of x, of derivative 0 at 0: where() on both sides keeps its infinite slope there out of the gradient."""
    zero = x == 0.0
    return where(zero, 0.0, root(where(zero, 1.0, x)))


def _counted(function: Callable[..., Any], example: str) -> Callable[..., Tensor]:
    def count(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
        x = asarray(x)
        if axis is not None and function in (np.argmax, np.argmin):
            axis = one_axis(axis, x.ndim, function.__name__)
        elif axis is not None:
            axis = normal_axes(axis, x.ndim, function.__name__)
        return _core.by_numpy(function, x, axis=axis, keepdims=bool(keepdims))

    count.__name__ = count.__qualname__ = function.__name__
    count.__doc__ = (
        f"``numpy.{function.__name__}`` of a tensor; the result is no float and carries no gradient.\n\n"
        f"    >>> import fastgrad as fg\n    >>> {example}\n    "
    )
    return count


any = _counted(np.any, "fg.any([0.0, 2.0])\n    tensor(True)")
all = _counted(np.all, "fg.all([0.0, 2.0])\n    tensor(False)")
argmax = _counted(np.argmax, "fg.argmax([0.0, 2.0])\n    tensor(1)")
argmin = _counted(np.argmin, "fg.argmin([0.0, 2.0])\n    tensor(0)")


def amax(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Another name of ``max``.

    >>> import fastgrad as fg
    >>> fg.amax([1.0, 2.0])
    tensor(2.)
    """
    return _core.max(x, axis, keepdims)


def amin(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Another name of ``min``.

    >>> import fastgrad as fg
    >>> fg.amin([1.0, 2.0])
    tensor(1.)
    """
    return _core.min(x, axis, keepdims)


__all__ = ["all", "amax", "amin", "any", "argmax", "argmin", "prod", "std", "var"]
