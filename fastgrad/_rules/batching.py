"""Batching rules: what each operation is over a whole batch.

A rule ``(op, operands, batched, attr, size)`` gets the operation's number, its operands, which of them have the batch
as a further first axis, the attributes of the operation on one element, and the size of the batch. It returns the
result with the batch as first axis. It is made of ordinary operations, as many for a large batch as for a small one,
which outer transforms record or trace as any others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, apply_op, broadcast_to, reshape, transpose

__all__ = ["Rule", "whole"]

Operands = list[Any]  # tensors, and None for a missing one
Rule = Callable[[int, Operands, list[bool], tuple[int, ...], int], Tensor]


# ---- shapes --------------------------------------------------------------------------------------------------------
def _padded(x: Tensor, ndim: int) -> Tensor:
    """A batched x whose elements get leading axes of length 1, up to a number of axes."""
    missing = ndim + 1 - x.ndim
    return reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:])) if missing > 0 else x


def _aligned(xs: Operands, batched: list[bool]) -> Operands:
    """Operands that broadcast over the batch as their elements do."""
    ndim = max([x.ndim - b for x, b in zip(xs, batched)])
    return [_padded(x, ndim) if b else x for x, b in zip(xs, batched)]


def whole(x: Any, batched: bool, size: int) -> Any:
    """x with the batch as first axis, repeated if it has none."""
    return x if batched or x is None else broadcast_to(x, (size, *x.shape))


def _all_whole(xs: Operands, batched: list[bool], size: int) -> Operands:
    return [whole(x, b, size) for x, b in zip(xs, batched)]


# ---- rules ---------------------------------------------------------------------------------------------------------
def of_elementwise(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, _aligned(xs, batched), attr)


def _slope(op: int, xs: Operands) -> Tensor:
    """Where only the cotangent, the last operand, is batched, the derivative is the same for the whole batch."""
    *saved, g = xs
    known = [x for x in saved if x is not None]
    if not known:
        return apply_op(op, xs)
    return _core.multiply(g, apply_op(op, [*saved, _core.ones_like(known[-1])]))


def of_unary_derivative(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    if batched == [False, False, True]:
        return _slope(op, xs)
    return apply_op(op, _all_whole(xs, batched, size))


def of_binary_derivative(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    if batched == [False, False, False, True] and xs[2] is not None:
        return _slope(op, xs)
    y, g = _all_whole(xs[2:], batched[2:], size)
    a, b = (_padded(x, g.ndim - 1) if each else x for x, each in zip(xs[:2], batched))
    return apply_op(op, [a, b, y, g])


def of_rows(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    """Of what treats each row by itself, where all operands have the same rows."""
    return apply_op(op, _all_whole(xs, batched, size), attr)


def of_reshape(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, xs, (size, *attr))


def of_transpose(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, xs, (0, *[axis + 1 for axis in attr]))


def of_broadcast_to(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, [_padded(xs[0], len(attr))], (size, *attr))


def of_slice(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, xs, (0, 1, size, *attr))


def of_concatenate(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, _all_whole(xs, batched, size), (attr[0] + 1, *attr[1:]))


def of_take(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    axis, shared = attr
    if batched == [True, False] and not shared:
        return apply_op(op, xs, (axis + 1, 0))
    if batched == [False, True] and not shared:  # the batch comes with the index, in the place of the axis
        y = apply_op(op, xs, attr)
        return transpose(y, (axis, *range(axis), *range(axis + 1, y.ndim))) if axis else y
    return apply_op(op, _all_whole(xs, batched, size), (axis + 1, shared + 1))


def of_untake(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    axis, shared, length = attr
    if batched == [True, False] and not shared:
        return apply_op(op, xs, (axis + 1, 0, length))
    return apply_op(op, _all_whole(xs, batched, size), (axis + 1, shared + 1, length))


def of_reduction(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    axes, keepdims = attr
    return apply_op(op, xs, (axes << 1, keepdims))


def of_along_an_axis(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    """Of what works along an axis, the first attribute, of operands that all have that axis."""
    axis, *rest = attr
    return apply_op(op, _all_whole(xs, batched, size), (axis + 1, *rest))


def of_matmul(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    a, b = xs
    ta, tb = attr
    rows, inner, columns = a.shape[-1 if ta else -2], a.shape[-2 if ta else -1], b.shape[-2 if tb else -1]
    if batched == [True, False] and b.ndim == 2:  # one product with more rows
        a = _swapped(a) if ta else a
        stacked = reshape(a, (_product(a.shape[:-1]), inner))
        return reshape(apply_op(op, [stacked, b], (0, tb)), (*a.shape[:-1], columns))
    if batched == [False, True] and a.ndim == 2 and (columns == 1 or (tb and rows == 1)):  # the same, transposed
        stacked = reshape(b, (_product(b.shape[:-2]) * columns, inner))
        return reshape(apply_op(op, [stacked, a], (0, not ta)), (*b.shape[:-2], rows, columns))
    a, b = _aligned(xs, batched)
    if inner == 1:
        return _core.multiply(_swapped(a) if ta else a, _swapped(b) if tb else b)
    return apply_op(op, [a, b], attr)


def _swapped(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    *lead, m, n = x.shape
    return reshape(x, (*lead, n, m)) if m == 1 or n == 1 else transpose(x, (*range(x.ndim - 2), -1, -2))


def _product(lengths: Sequence[int]) -> int:
    product = 1
    for length in lengths:
        product *= length
    return product


def of_equations(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    """Of matrices, maybe with their factors, and right-hand sides. One matrix for the whole batch, and one right-hand
    side in each element, are one system with more columns."""
    b, of_matrices = xs[-1], batched[:-1]
    if True in of_matrices:  # a factor has the leading axes of its matrix
        xs = [*_all_whole(xs[:-1], of_matrices, size), b]
        return apply_op(op, _aligned(xs, [*[True] * len(of_matrices), batched[-1]]), attr)
    if b.ndim != 3 or xs[0].ndim != 2:
        return apply_op(op, _aligned(xs, batched), attr)
    _, n, k = b.shape
    y = apply_op(op, [*xs[:-1], reshape(transpose(b, (1, 0, 2)), (n, size * k))], attr)
    return transpose(reshape(y, (n, size, k)), (1, 0, 2))


def of_random(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    """One draw for the whole batch: each element has numbers of its own."""
    dtype, low, count, *shape = attr
    return apply_op(op, xs, (dtype, low, count, size, *shape))


def of_numpy(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    """A function of NumPy's: a product, or one that reduces one operand over the axes in its options, or else one that
    broadcasts its operands."""
    function, options = _core.numpy_call(attr[0])
    if function is np.matmul:
        return _numpy_matmul(xs, batched)
    if "keepdims" not in options:
        return _core.by_numpy(function, *_aligned(xs, batched), **options)
    x, axis = xs[0], options["axis"]
    if axis is None:  # over all elements in row-major order; their axes all remain with length 1, or none does
        ones = (1,) * (x.ndim - 1) if options["keepdims"] else ()
        flat = reshape(x, (size, _product(x.shape[1:])))
        return reshape(_core.by_numpy(function, flat, axis=1, keepdims=False), (size, *ones))
    shifted = tuple(i + 1 for i in axis) if isinstance(axis, tuple) else axis + 1
    return _core.by_numpy(function, x, axis=shifted, keepdims=options["keepdims"])


def _numpy_matmul(xs: Operands, batched: list[bool]) -> Tensor:
    """Products of integers: elements that are vectors become matrices of one row (a) or column (b), as the batch takes
    the place of an axis that ``numpy.matmul`` would take for the rows."""
    a, b = xs
    of_rows, of_columns = [x.ndim - over > 1 for x, over in zip(xs, batched)]
    a = a if of_rows else reshape(a, (*a.shape[:-1], 1, a.shape[-1]))
    b = b if of_columns else reshape(b, (*b.shape, 1))
    y = _core.by_numpy(np.matmul, *_aligned([a, b], batched))
    rows, columns = y.shape[-2:]
    return reshape(y, (*y.shape[:-2], *[rows] * of_rows, *[columns] * of_columns))
