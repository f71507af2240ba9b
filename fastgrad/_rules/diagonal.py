"""Unit vectors in a batch, each for its element: what a Jacobian's pass starts from.

As long as a pass only scales single numbers, such a batch remains a diagonal, which a vector of entries stands for. A
product with a matrix gives the rows or columns of that, scaled. Only where elements are mixed in another way does the
batch become an array of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, apply_op, reshape, transpose

__all__ = ["Diagonal", "through"]

_NAMES = _core.op_names()


class Diagonal:
    """A batch of as many arrays as each has elements, array number k zero but for its element number k, which is that
    of ``entries``. ``units``: all entries are 1."""

    __slots__ = ("entries", "units")

    def __init__(self, entries: Tensor, units: bool = False) -> None:
        self.entries, self.units = entries, units

    @property
    def requires_grad(self) -> bool:
        return self.entries.requires_grad

    def detach(self) -> Diagonal:
        return Diagonal(self.entries.detach(), self.units)

    def whole(self) -> Tensor:
        """The batch as a tensor."""
        x = self.entries
        n, shape = x.size, (x.size, *x.shape)
        if self.units:
            return _core.adopt(np.eye(n, dtype=x.dtype).reshape(shape), "jacobian")
        return _core.where(np.eye(n, dtype=bool).reshape(shape), x, 0)


def through(op: int, xs: list[Any], batched: list[bool], attr: tuple[int, ...]) -> Diagonal | Tensor | None:
    """What an operation makes of operands among which are diagonals: one again, or the whole batch; None if this is
    for the rules of ``_batching`` to tell, from the whole operands."""
    rule = _rule(op)
    if rule is None or (rule is not _same and batched.count(True) > 1):
        return None
    return rule(op, xs, batched.index(True), attr)


def _scaled(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal | None:
    """An elementwise operation that is linear in operand k, the diagonal, if its result has no more elements."""
    x = xs[k].entries
    y = apply_op(op, [*xs[:k], x, *xs[k + 1 :]], attr)
    return Diagonal(y) if y.size == x.size else None


def _derivative(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal | None:
    return _scaled(op, xs, k, attr) if k == len(xs) - 1 else None


def _divide(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal | None:
    return _scaled(op, xs, k, attr) if k == 0 else None


def _same(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal | None:
    """A sum or difference of two diagonals."""
    if type(xs[0]) is not Diagonal or type(xs[1]) is not Diagonal or xs[0].entries.shape != xs[1].entries.shape:
        return None
    return Diagonal(apply_op(op, [d.entries for d in xs]))


def _reshape(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal:
    return Diagonal(reshape(xs[0].entries, attr), xs[0].units)


def _sum(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Tensor | None:
    (axes, kept), x = attr, xs[0].entries
    every = axes == (1 << x.ndim) - 1
    return reshape(x, (x.size, *(1,) * (x.ndim if kept else 0))) if every else None


def _matmul(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Tensor | None:
    """The product of a diagonal of row vectors on the left (k = 0) or of column vectors on the right with a matrix."""
    d, other = xs[k], xs[1 - k]
    x, n = d.entries, d.entries.size
    if x.shape != ((1, n) if attr[k] == k else (n, 1)) or other.ndim != 2:
        return None
    rows = other if attr[1 - k] == k else transpose(other, (1, 0))  # one for each entry
    if not d.units:
        rows = _core.multiply(rows, reshape(x, (n, 1)))
    return reshape(rows, (n, 1, rows.shape[1]) if k == 0 else (n, rows.shape[1], 1))


_RULES: dict[str, Callable[..., Diagonal | Tensor | None]] = {
    **dict.fromkeys(("negative", "positive", "cast", "barrier", "multiply"), _scaled), "divide": _divide,
    "add": _same, "subtract": _same, "reshape": _reshape, "sum": _sum, "matmul": _matmul,
}  # fmt: skip


@functools.cache
def _rule(op: int) -> Callable[..., Diagonal | Tensor | None] | None:
    return _RULES.get(_NAMES[op]) if op < len(_NAMES) else _derivative
