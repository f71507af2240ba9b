"""A batch of one-hot vectors, such as the unit vectors that a Jacobian's pass starts from, and rules that keep it one.

As long as a pass scales elements one by one, the batch remains a diagonal matrix, of which the entries are enough. Its
product with a matrix is that matrix with its rows or columns scaled. Only an operation that mixes elements in another
way needs the batch as an array: an operation without a rule here gets it from ``Diagonal.whole``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, apply_op, reshape, transpose

__all__ = ["Diagonal", "Rule"]


class Diagonal:
    """A batch of n arrays of n elements: array k has element k of ``entries``, and zeros elsewhere. ``units``: all
    entries are 1."""

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


# ---- rules -----------------------------------------------------------------------------------------------------------
# A rule (op, operands, k, attr) is called where operand k is a Diagonal and no other operand is batched, but for
# `of_sum_of_two`, whose operands are both diagonals. It returns a diagonal again or the whole batch, or None where the
# batching rule has to do it.
Rule = Callable[[int, list[Any], int, tuple[int, ...]], "Diagonal | Tensor | None"]


def of_linear(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal | None:
    """An elementwise operation that is linear in operand k, the diagonal, if its result has no more elements."""
    x = xs[k].entries
    y = apply_op(op, [*xs[:k], x, *xs[k + 1 :]], attr)
    return Diagonal(y) if y.size == x.size else None


def of_derivative(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal | None:
    return of_linear(op, xs, k, attr) if k == len(xs) - 1 else None


def of_divide(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal | None:
    return of_linear(op, xs, k, attr) if k == 0 else None


def of_sum_of_two(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal | None:
    """A sum or difference of two diagonals."""
    if type(xs[0]) is not Diagonal or type(xs[1]) is not Diagonal or xs[0].entries.shape != xs[1].entries.shape:
        return None
    return Diagonal(apply_op(op, [d.entries for d in xs]))


def of_reshape(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Diagonal:
    return Diagonal(reshape(xs[0].entries, attr), xs[0].units)


def of_sum(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Tensor | None:
    (axes, keepdims), x = attr, xs[0].entries
    every = axes == (1 << x.ndim) - 1
    return reshape(x, (x.size, *(1,) * (x.ndim if keepdims else 0))) if every else None


def of_matmul(op: int, xs: list[Any], k: int, attr: tuple[int, ...]) -> Tensor | None:
    """The product of a diagonal of row vectors on the left (k = 0) or of column vectors on the right with a matrix."""
    d, other = xs[k], xs[1 - k]
    x, n = d.entries, d.entries.size
    if x.shape != ((1, n) if attr[k] == k else (n, 1)) or other.ndim != 2:
        return None
    rows = other if attr[1 - k] == k else transpose(other, (1, 0))  # one for each entry
    if not d.units:
        rows = _core.multiply(rows, reshape(x, (n, 1)))
    return reshape(rows, (n, 1, rows.shape[1]) if k == 0 else (n, rows.shape[1], 1))
