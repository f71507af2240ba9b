"""Where a derivative can be other than zero, read off what computes it.

A backward pass is noted down with the function within, as ``vmap`` does. Then each instruction's elements get the set of the
cotangent's elements that they depend on: the rows of a boolean sparse matrix. An operation that has no rule here makes
every element depend on all that its operands do; so no entry is ever missed, whatever the values are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, apply_op
from .evaluate import TracedFunction
from .grad import no_grad

__all__ = ["pattern"]

_NAMES = _core.op_names()
_WITHOUT_VALUE = {"custom", "scan", "while_loop", "cond", "part", "numpy", "random"}  # no work of apply_op


def pattern(
    pull: Callable[[list[Any], Any], list[Tensor]], leaves: Sequence[np.ndarray], cotangent: Tensor, sparse: Any
) -> Any:
    """The pattern of what ``pull(leaves, cotangent)``, linear in the cotangent, makes of it: a boolean csr_array with a
    row for each element of the leaves. None where it cannot be told for all values of the leaves. What is read
    from outside is a constant, as in a program: its zeros are zeros for ever.
    """
    try:
        traced = TracedFunction(
            lambda: [*[_core.example(x) for x in leaves], _core.example(cotangent)],
            lambda xs: pull(xs[:-1], xs[-1]),
            lambda: [*map(_core.tensor, leaves), _core.ones_like(cotangent)],
        )
    except (_core.TraceError, NotImplementedError):
        return None
    values: dict[int, Any] = dict(traced.constants)
    values.update(enumerate([*map(_core.tensor, leaves), _core.ones_like(cotangent)]))
    varying = set(range(len(leaves)))  # values that depend on the leaves
    m = cotangent.size
    found: dict[int, Any] = {len(leaves): sparse.eye_array(m, dtype=bool, format="csr")}
    with no_grad():
        for op, result, operands, _, attr, last in traced.instructions:
            name = _NAMES[op] if op < len(_NAMES) else "derivative"
            if name in _WITHOUT_VALUE:
                return None
            xs = [values.get(v) for v in operands]
            y = values[result] = apply_op(op, xs, attr)
            if not varying.isdisjoint(operands):
                varying.add(result)
            parts = [found.get(v) for v in operands]
            if any(part is not None for part in parts):
                known = [x is not None and v not in varying for x, v in zip(xs, operands)]
                step = _Step(op, attr, xs, known, y, parts, sparse)
                rule = _RULES.get(name, _everything)
                found[result] = _everything(step) if (rows := rule(step)) is None else rows
            for v in last:
                values.pop(v, None)
                found.pop(v, None)
    rows = [
        found[v] if v in found else sparse.csr_array((np.size(x), m), dtype=bool)
        for v, x in zip(traced.numbers, leaves)
    ]
    return sparse.vstack(rows, format="csr")


class _Step:
    """A instruction: its operands' values and patterns (None: no dependence on the cotangent), and whether each is ``known``,
    the same for all leaves."""

    def __init__(
        self, op: int, attr: tuple[int, ...], xs: list[Any], known: list[bool], y: Tensor, parts: list[Any],
        sparse: Any,
    ) -> None:  # fmt: skip
        self.op, self.attr, self.xs, self.known, self.y, self.parts = op, attr, xs, known, y, parts
        self.sparse = sparse

    def moved(self, part: Any, rows: np.ndarray, to: np.ndarray, n: int) -> Any:
        """A pattern of n rows: those numbered ``rows`` come to places ``to``, where some may meet."""
        ones = np.ones(rows.size, bool)
        return self.sparse.csr_array((ones, (to.ravel(), rows.ravel())), (n, part.shape[0])) @ part

    def width(self) -> int:
        """How many elements the cotangent has."""
        return int(next(part.shape[1] for part in self.parts if part is not None))

    def picked(self, part: Any, rows: np.ndarray) -> Any:
        """The rows with these numbers, one for each element of the result."""
        return part[rows.ravel()]


def _numbers(shape: tuple[int, ...], start: int = 0) -> np.ndarray:
    """The elements of an array by their places in memory."""
    return np.arange(start, start + int(np.prod(shape, dtype=np.int64))).reshape(shape)


def _union(parts: list[Any]) -> Any:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def _everything(s: _Step) -> Any:
    """Every element depends on whatever one of the operands depends on."""
    columns = np.unique(np.concatenate([part.indices for part in s.parts if part is not None]))
    row = s.sparse.csr_array((np.ones(columns.size, bool), columns, [0, columns.size]), (1, s.width()))
    return row[np.zeros(s.y.size, np.int64)]


def _elementwise(s: _Step) -> Any:
    return _union([
        part if x.shape == s.y.shape else s.picked(part, np.broadcast_to(_numbers(x.shape), s.y.shape))
        for x, part in zip(s.xs, s.parts) if part is not None
    ])  # fmt: skip


def _select(s: _Step) -> Any:
    """The operation carried out on the numbers of the elements, from 1 on: 0 is an element that is none of them."""
    if s.parts[1:] and s.parts[1] is not None or not all(s.known[1:]):
        return None
    numbers = apply_op(s.op, [_core.tensor(_numbers(s.xs[0].shape, 1)), *s.xs[1:]], s.attr).numpy().ravel()
    to = np.flatnonzero(numbers)
    return s.moved(s.parts[0], numbers[to] - 1, to, s.y.size)


def _concatenate(s: _Step) -> Any:
    numbers, at, parts = [], 1, []
    for x, part in zip(s.xs, s.parts):
        numbers.append(_core.tensor(_numbers(x.shape, at)))
        at += x.size
        parts.append(s.sparse.csr_array((x.size, s.width()), dtype=bool) if part is None else part)
    order = apply_op(s.op, numbers, s.attr).numpy()
    return s.picked(s.sparse.vstack(parts, format="csr"), order - 1)


def _untake(s: _Step) -> Any:
    if s.parts[1] is not None or not s.known[1]:
        return None
    axis, shared, _ = s.attr
    to = apply_op(_NAMES.index("take"), [_core.tensor(_numbers(s.y.shape)), s.xs[1]], (axis, shared)).numpy()
    return s.moved(s.parts[0], _numbers(to.shape), to, s.y.size)


def _reduction(s: _Step) -> Any:
    shape = s.xs[0].shape
    kept = tuple([1 if s.attr[0] >> k & 1 else n for k, n in enumerate(shape)])
    return s.moved(s.parts[0], _numbers(shape), np.broadcast_to(_numbers(kept), shape), s.y.size)


def _cumsum(s: _Step) -> Any:
    """Every element depends on those before it, or behind it: joined over distances that double."""
    axis, reverse = s.attr
    part, numbers, distance = s.parts[0], _numbers(s.y.shape), 1
    while distance < s.y.shape[axis]:
        near, far = np.split(numbers, [-distance], axis)[0], np.split(numbers, [distance], axis)[1]
        part = part + s.moved(part, *((far, near) if reverse else (near, far)), s.y.size)
        distance *= 2
    return part


def _within_rows(s: _Step) -> Any:
    """Every element depends on its row of all operands."""
    rows = _numbers(s.y.shape) // max(s.y.shape[-1], 1)
    together = s.moved(_elementwise(s), _numbers(s.y.shape), rows, s.y.size // max(s.y.shape[-1], 1))
    return s.picked(together, rows)


def _of_each_row(s: _Step) -> Any:
    """The last operand has an element for each row of the result."""
    if any(part is not None for part in s.parts[:-1]):
        return None
    return s.picked(s.parts[-1], _numbers(s.y.shape) // max(s.y.size // max(s.xs[-1].size, 1), 1))


def _matmul(s: _Step) -> Any:
    return _union([_factor(s, k) for k in (0, 1) if s.parts[k] is not None])


def _factor(s: _Step, k: int) -> Any:
    """A product by its factor k. Zeros of the other one count if it is known."""
    factors = [np.swapaxes(_numbers(x.shape), -1, -2) if t else _numbers(x.shape) for x, t in zip(s.xs[:2], s.attr)]
    mine, part = factors[k], s.parts[k]
    if s.known[1 - k] and s.parts[1 - k] is None and factors[0].ndim == factors[1].ndim == 2:
        other = s.xs[1 - k].numpy()
        other = s.sparse.csr_array((other.T if s.attr[1 - k] else other) != 0)
        own = s.sparse.eye_array(mine.shape[k], dtype=bool)
        link = s.sparse.kron(own, other.T) if k == 0 else s.sparse.kron(other, own)
        return link.tocsr().astype(bool) @ s.picked(part, mine)
    kept = mine.shape[:-1] + (1,) if k == 0 else (*mine.shape[:-2], 1, mine.shape[-1])
    to = np.broadcast_to(_numbers(kept), mine.shape)
    together = s.moved(part, mine, to, _numbers(kept).size)
    return s.picked(together, np.broadcast_to(_numbers(kept), s.y.shape))


_RULES: dict[str, Callable[[_Step], Any]] = dict.fromkeys(_core.ROWS, _elementwise) | {
    **dict.fromkeys(("derivative", "cast", "barrier", "where"), _elementwise),
    **dict.fromkeys(("reshape", "transpose", "broadcast_to", "slice", "unslice", "take"), _select),
    **dict.fromkeys(("sum", "max", "min"), _reduction),
    **dict.fromkeys(("softmax", "log_softmax", "softmax_adjoint", "log_softmax_adjoint"), _within_rows),
    **dict.fromkeys(("extremum_adjoint", "logsumexp_adjoint", "cross_entropy_adjoint"), _of_each_row),
    "concatenate": _concatenate, "untake": _untake, "cumsum": _cumsum, "matmul": _matmul,
}  # fmt: skip
