"""Sparsity rules: on which elements of its operands each element of a result depends.

A rule gets a `PatternInstruction`, which is one of a backward pass, and returns the pattern of the result: an array of
its shape that holds for each element the number of a set (``_core.NumberedSets``), the elements of the cotangent that
the pass started from on which it depends; or None for the pattern of `of_everything`. The pattern must hold for all
values of the operands that are not ``known``, so that no entry is ever missed. What moves elements moves the numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, apply_op

__all__ = ["PatternInstruction", "Rule"]


class PatternInstruction:
    """An instruction with its operands ``xs`` and its result y, which are abstract but for those operands that are
    ``known``, the same for all values of the leaves; and the pattern of each operand in ``parts`` (None: it does not
    depend on the cotangent)."""

    def __init__(
        self, op: int, attr: tuple[int, ...], xs: list[Any], y: Tensor, parts: list[Any], sets: _core.NumberedSets
    ) -> None:
        self.op, self.attr, self.xs, self.y, self.parts, self.sets = op, attr, xs, y, parts, sets
        self.known = [x is not None and not _core.traced(x) for x in xs]

    def union(self, parts: list[Any]) -> Any:
        """The union of patterns of one shape."""
        return functools.reduce(self.sets.union, {id(part): part for part in parts}.values())

    def moved(self, *operands: Any) -> Any:
        """The operation on arrays of sets and of integers, for one that moves elements and puts zeros elsewhere."""
        return apply_op(self.op, [_core.adopt(x, "sparse") for x in operands], self.attr).numpy()

    def together(self, part: Any, kept: tuple[int, ...]) -> Any:
        """The unions along the axes of a pattern that have length 1 in ``kept``, which is their shape."""
        return self.sets.gathered(part, np.broadcast_to(_numbers(kept), part.shape), _size(kept)).reshape(kept)


Rule = Callable[[PatternInstruction], Any]


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _numbers(shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape that holds the position of each element in row-major order."""
    return np.arange(_size(shape)).reshape(shape)


def of_everything(s: PatternInstruction) -> Any:
    """Every element depends on whatever one of the operands depends on."""
    sets = np.concatenate([part.ravel() for part in s.parts if part is not None])
    return np.broadcast_to(s.sets.gathered(sets, np.zeros(sets.size, np.int64), 1)[0], s.y.shape)


def of_elementwise(s: PatternInstruction) -> Any:
    return s.union([
        part if part.shape == s.y.shape else np.broadcast_to(part, s.y.shape) for part in s.parts if part is not None
    ])  # fmt: skip


def of_selection(s: PatternInstruction) -> Any:
    if (s.parts[1:] and s.parts[1] is not None) or not all(s.known[1:]):
        return None
    return s.moved(s.parts[0], *[x.numpy() for x in s.xs[1:]])


def of_concatenate(s: PatternInstruction) -> Any:
    return s.moved(*[np.zeros(x.shape, np.int32) if part is None else part for x, part in zip(s.xs, s.parts)])


def of_untake(s: PatternInstruction) -> Any:
    if s.parts[1] is not None or not s.known[1]:
        return None
    axis, shared, length = s.attr
    if axis == 0 and not shared:
        index = s.xs[1].numpy().ravel()
        inner = _size(s.y.shape[1:])
        to = np.where(index < 0, index + length, index)
        return s.sets.gathered(s.parts[0], to, length, inner).reshape(s.y.shape)
    to = apply_op(_core.OP_NUMBERS["take"], [_core.tensor(_numbers(s.y.shape)), s.xs[1]], (axis, shared)).numpy()
    return s.sets.gathered(s.parts[0], to, s.y.size).reshape(s.y.shape)


def of_reduction(s: PatternInstruction) -> Any:
    kept = tuple([1 if s.attr[0] >> k & 1 else n for k, n in enumerate(s.parts[0].shape)])
    return s.together(s.parts[0], kept).reshape(s.y.shape)


def of_running(s: PatternInstruction) -> Any:
    """Every element depends on those before it in all operands, or after it: a union over distances that double."""
    axis, reverse = (*s.attr, 0)[:2]
    found, distance = of_elementwise(s), 1
    while distance < s.y.shape[axis]:
        first, last = [(slice(None),) * axis + (k,) for k in (slice(-distance), slice(distance, None))]
        to, source = (first, last) if reverse else (last, first)
        joined = s.sets.union(found[to], found[source])
        found = found.copy()
        found[to] = joined
        distance *= 2
    return found


def of_rows(s: PatternInstruction) -> Any:
    """Every element depends on its row of all operands."""
    return np.broadcast_to(s.together(of_elementwise(s), (*s.y.shape[:-1], 1)), s.y.shape)


def of_one_for_each_row(s: PatternInstruction) -> Any:
    """The last operand has an element for each row of the result."""
    if any(part is not None for part in s.parts[:-1]):
        return None
    return s.parts[-1].ravel()[_numbers(s.y.shape) // max(s.y.size // max(s.xs[-1].size, 1), 1)]


def of_matrices(s: PatternInstruction) -> Any:
    """Every element depends on the matrix of all operands that has its place in the stack."""
    count = _size(s.xs[0].shape[:-2])
    whole = s.union([s.together(part.reshape(count, -1), (count, 1)) for part in s.parts if part is not None])
    return whole.ravel()[_numbers(s.y.shape) // max(s.y.size // max(count, 1), 1)]


def of_matmul(s: PatternInstruction) -> Any:
    return s.union([_factor(s, k) for k in (0, 1) if s.parts[k] is not None])


def _factor(s: PatternInstruction, k: int) -> Any:
    """A product by its factor k. Zeros of the other one count if it is known."""
    part = np.swapaxes(s.parts[k], -1, -2) if s.attr[k] else s.parts[k]
    if s.known[1 - k] and s.parts[1 - k] is None and s.xs[1 - k].ndim == part.ndim == 2:
        other = s.xs[1 - k].numpy()
        at = np.nonzero(other.T if s.attr[1 - k] else other)  # row and column of what a factor's elements go through
        rows, columns = s.y.shape
        if k == 0:
            sets, to = part[:, at[0]], columns * np.arange(rows)[:, None] + at[1]
        else:
            sets, to = part[at[1]], columns * at[0][:, None] + np.arange(columns)
        return s.sets.gathered(sets, to, s.y.size).reshape(s.y.shape)
    kept = (*part.shape[:-1], 1) if k == 0 else (*part.shape[:-2], 1, part.shape[-1])
    return np.broadcast_to(s.together(part, kept), s.y.shape)
