"""Sparsity rules: on which elements of its operands each element of a result depends.

A rule gets an `EvaluatedInstruction`, which is one of a backward pass, and returns the pattern of the result: a boolean
sparse matrix with a row for each of its elements and a column for each element of the cotangent that the pass started
from; or None for the pattern of `of_everything`. The pattern must hold for all values of the operands that are not
``known``, so that no entry is ever missed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, apply_op

__all__ = ["Rule", "EvaluatedInstruction"]


class EvaluatedInstruction:
    """An instruction with the values of its operands ``xs`` and of its result y, the pattern of each operand in
    ``parts`` (None: it does not depend on the cotangent), and whether each operand is ``known``: the same for all
    values of the leaves."""

    def __init__(
        self, op: int, attr: tuple[int, ...], xs: list[Any], known: list[bool], y: Tensor, parts: list[Any],
        sparse: Any,
    ) -> None:  # fmt: skip
        self.op, self.attr, self.xs, self.known, self.y, self.parts = op, attr, xs, known, y, parts
        self.sparse = sparse

    def moved(self, part: Any, rows: np.ndarray, to: np.ndarray, n: int) -> Any:
        """A pattern of n rows, where row ``to[k]`` is the union of all rows numbered ``rows[k]``."""
        ones = np.ones(rows.size, bool)
        return self.sparse.csr_array((ones, (to.ravel(), rows.ravel())), (n, part.shape[0])) @ part

    def width(self) -> int:
        """How many elements the cotangent has."""
        return int(next(part.shape[1] for part in self.parts if part is not None))

    def picked(self, part: Any, rows: np.ndarray) -> Any:
        """The rows with these numbers, one for each element of the result."""
        return part[rows.ravel()]


Rule = Callable[[EvaluatedInstruction], Any]


def _numbers(shape: tuple[int, ...], start: int = 0) -> np.ndarray:
    """An array of this shape that holds the position of each element in row-major order."""
    return np.arange(start, start + int(np.prod(shape, dtype=np.int64))).reshape(shape)


def _union(parts: list[Any]) -> Any:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def of_everything(s: EvaluatedInstruction) -> Any:
    """Every element depends on whatever one of the operands depends on."""
    columns = np.unique(np.concatenate([part.indices for part in s.parts if part is not None]))
    row = s.sparse.csr_array((np.ones(columns.size, bool), columns, [0, columns.size]), (1, s.width()))
    return row[np.zeros(s.y.size, np.int64)]


def of_elementwise(s: EvaluatedInstruction) -> Any:
    return _union([
        part if x.shape == s.y.shape else s.picked(part, np.broadcast_to(_numbers(x.shape), s.y.shape))
        for x, part in zip(s.xs, s.parts) if part is not None
    ])  # fmt: skip


def of_selection(s: EvaluatedInstruction) -> Any:
    """Of what moves elements, found by moving their numbers, from 1 on: 0 is an element that is none of them."""
    if (s.parts[1:] and s.parts[1] is not None) or not all(s.known[1:]):
        return None
    numbers = apply_op(s.op, [_core.tensor(_numbers(s.xs[0].shape, 1)), *s.xs[1:]], s.attr).numpy().ravel()
    to = np.flatnonzero(numbers)
    return s.moved(s.parts[0], numbers[to] - 1, to, s.y.size)


def of_concatenate(s: EvaluatedInstruction) -> Any:
    numbers, at, parts = [], 1, []
    for x, part in zip(s.xs, s.parts):
        numbers.append(_core.tensor(_numbers(x.shape, at)))
        at += x.size
        parts.append(s.sparse.csr_array((x.size, s.width()), dtype=bool) if part is None else part)
    order = apply_op(s.op, numbers, s.attr).numpy()
    return s.picked(s.sparse.vstack(parts, format="csr"), order - 1)


def of_untake(s: EvaluatedInstruction) -> Any:
    if s.parts[1] is not None or not s.known[1]:
        return None
    axis, shared, _ = s.attr
    to = apply_op(_core.OP_NUMBERS["take"], [_core.tensor(_numbers(s.y.shape)), s.xs[1]], (axis, shared)).numpy()
    return s.moved(s.parts[0], _numbers(to.shape), to, s.y.size)


def of_reduction(s: EvaluatedInstruction) -> Any:
    shape = s.xs[0].shape
    kept = tuple([1 if s.attr[0] >> k & 1 else n for k, n in enumerate(shape)])
    return s.moved(s.parts[0], _numbers(shape), np.broadcast_to(_numbers(kept), shape), s.y.size)


def of_running(s: EvaluatedInstruction) -> Any:
    """Every element depends on those before it in all operands, or after it: a union over distances that double."""
    axis, reverse = (*s.attr, 0)[:2]
    part, numbers, distance = _union([part for part in s.parts if part is not None]), _numbers(s.y.shape), 1
    while distance < s.y.shape[axis]:
        near, far = np.split(numbers, [-distance], axis)[0], np.split(numbers, [distance], axis)[1]
        part = part + s.moved(part, *((far, near) if reverse else (near, far)), s.y.size)
        distance *= 2
    return part


def of_rows(s: EvaluatedInstruction) -> Any:
    """Every element depends on its row of all operands."""
    rows = _numbers(s.y.shape) // max(s.y.shape[-1], 1)
    together = s.moved(of_elementwise(s), _numbers(s.y.shape), rows, s.y.size // max(s.y.shape[-1], 1))
    return s.picked(together, rows)


def of_one_for_each_row(s: EvaluatedInstruction) -> Any:
    """The last operand has an element for each row of the result."""
    if any(part is not None for part in s.parts[:-1]):
        return None
    return s.picked(s.parts[-1], _numbers(s.y.shape) // max(s.y.size // max(s.xs[-1].size, 1), 1))


def of_matrices(s: EvaluatedInstruction) -> Any:
    """Every element depends on the matrix of all operands that has its place in the stack."""
    count = int(np.prod(s.xs[0].shape[:-2], dtype=np.int64))
    together = _union([
        s.moved(part, _numbers((x.size,)), _numbers((x.size,)) // max(x.size // max(count, 1), 1), count)
        for x, part in zip(s.xs, s.parts) if part is not None
    ])  # fmt: skip
    return s.picked(together, _numbers((s.y.size,)) // max(s.y.size // max(count, 1), 1))


def of_matmul(s: EvaluatedInstruction) -> Any:
    return _union([_factor(s, k) for k in (0, 1) if s.parts[k] is not None])


def _factor(s: EvaluatedInstruction, k: int) -> Any:
    """A product by its factor k. Zeros of the other one count if it is known."""
    factors = [np.swapaxes(_numbers(x.shape), -1, -2) if t else _numbers(x.shape) for x, t in zip(s.xs[:2], s.attr)]
    mine, part = factors[k], s.parts[k]
    if s.known[1 - k] and s.parts[1 - k] is None and factors[0].ndim == factors[1].ndim == 2:
        other = s.xs[1 - k].numpy()
        other = s.sparse.csr_array((other.T if s.attr[1 - k] else other) != 0)
        own = s.sparse.eye_array(mine.shape[k], dtype=bool)
        link = s.sparse.kron(own, other.T) if k == 0 else s.sparse.kron(other, own)
        return link.tocsr().astype(bool) @ s.picked(part, mine)
    kept = (*mine.shape[:-1], 1) if k == 0 else (*mine.shape[:-2], 1, mine.shape[-1])
    to = np.broadcast_to(_numbers(kept), mine.shape)
    together = s.moved(part, mine, to, _numbers(kept).size)
    return s.picked(together, np.broadcast_to(_numbers(kept), s.y.shape))
