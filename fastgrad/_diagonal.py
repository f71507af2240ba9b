"""Unit vectors in a batch, each for its element: what a Jacobian's pass starts from.

As long as a pass only scales single numbers, such a batch remains a diagonal, which a vector of entries stands for. A
product with a matrix gives the rows or columns of that, scaled. Only where elements are mixed in another way does the
batch become an array of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from ._core import Tensor, apply_op, broadcast_to, reshape, transpose

__all__ = ["Diagonal", "through"]

_NAMES = _core.op_names()
_ALONE = {"negative", "positive", "cast", "barrier"}
_TOGETHER = {"add", "subtract"}


class Diagonal:
    """A batch of as many arrays as each has elements, array number k zero but for its element number k, which is that
    of ``entries``. ``units``: all entries are 1."""

    __slots__ = ("entries", "units")

    def __init__(self, entries: Tensor, units: bool = False) -> None:
        self.entries, self.units = entries, units

    @staticmethod
    def ones(shape: tuple[int, ...], dtype: Any) -> Diagonal:
        return Diagonal(_core.adopt(np.ones(shape, dtype), "jacobian"), True)

    def detach(self) -> Diagonal:
        return Diagonal(self.entries.detach(), self.units)

    def whole(self) -> Tensor:
        """The batch as a tensor."""
        x = self.entries
        n, shape = x.size, (x.size, *x.shape)
        if self.units:
            return _core.adopt(np.eye(n, dtype=x.dtype).reshape(shape), "jacobian")
        return _core.where(np.eye(n, dtype=bool).reshape(shape), x, 0)

    def scaled(self, rows: Tensor) -> Tensor:
        """The rows of a matrix times the entries."""
        return rows if self.units else _core.multiply(rows, reshape(self.entries, (self.entries.size, 1)))


def through(op: int, xs: list[Any], batched: list[bool], attr: tuple[int, ...]) -> Diagonal | Tensor | None:
    """What an operation makes of operands among which are diagonals: one again, or the whole batch; None if this is
    for the rules of ``_batching`` to tell, from the whole operands."""
    name = _NAMES[op] if op < len(_NAMES) else "derivative"
    which = [k for k, x in enumerate(xs) if isinstance(x, Diagonal)]
    if name in _TOGETHER:
        return _same(op, xs) if len(which) == 2 else None
    if len(which) > 1 or sum(batched) > 1:
        return None
    k = which[0]
    d = xs[k]
    x = d.entries
    if name == "reshape":
        return Diagonal(reshape(x, attr), d.units)
    if name == "matmul":
        return _product(k, d, xs[1 - k], attr)
    if name == "sum":
        axes, kept = attr
        every = axes == (1 << x.ndim) - 1
        return reshape(x, (x.size, *(1,) * (x.ndim if kept else 0))) if every else None
    scaling = name in _ALONE or name == "multiply" or (name == "divide" and k == 0)
    if scaling or (name == "derivative" and k == len(xs) - 1):
        others = [a for a in xs if a is not None and a is not d]
        if all([_fits(a.shape, x.shape) for a in others]):
            return Diagonal(apply_op(op, [x if a is d else a for a in xs], attr))
    return None


def _same(op: int, xs: list[Any]) -> Diagonal | None:
    a, b = [d.entries for d in xs]
    return Diagonal(apply_op(op, [a, b])) if a.shape == b.shape else None


def _fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array of this shape broadcasts to that of the whole."""
    return len(shape) <= len(whole) and all([n in (1, m) for n, m in zip(shape[::-1], whole[::-1])])


def _product(k: int, d: Diagonal, other: Tensor, attr: tuple[int, ...]) -> Tensor | None:
    """The product of a diagonal of row vectors on the left (k = 0) or of column vectors on the right with a matrix."""
    n, shape = d.entries.size, d.entries.shape
    vector = (1, n) if attr[k] == k else (n, 1)
    if shape != vector or other.ndim != 2:
        return None
    along = (attr[1 - k] == 0) if k == 0 else (attr[1 - k] == 1)  # the matrix has a row for each entry
    rows = d.scaled(other if along else transpose(other, (1, 0)))
    length = rows.shape[1]
    return reshape(rows, (n, 1, length) if k == 0 else (n, length, 1))
