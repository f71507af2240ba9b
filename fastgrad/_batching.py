"""What a noted operation is over a whole batch: one rule for each operation of the core.

A rule gets the operation's number, its operands, which of them are batched (they have the batch as a further first
axis), its attributes, and the size of the batch. It carries the operation out by ordinary operations, whose number does
not depend on that size, and returns the result with the batch as first axis. So the work of a rule is itself recorded
by whoever records it: on the tape, or in the notes of an outer recording.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from . import _core
from ._core import Tensor, apply_op, broadcast_to, reshape, transpose
from ._diagonal import Diagonal, through

__all__ = ["CUSTOM", "FLOWS", "PART", "Call", "Flow", "Noted", "Part", "carry_out", "note_call", "note_flow", "noting",
           "whole"]

Operands = list[Any]  # tensors, and None for a missing one
Rule = Callable[[int, Operands, list[bool], tuple[int, ...], int], Tensor]

_NAMES = _core.op_names()
_RANDOM, PART, CUSTOM = (_NAMES.index(name) for name in ("random", "part", "custom"))
FLOWS = [_NAMES.index(name) for name in ("scan", "while_loop", "cond")]


# ---- what notes hold as a whole ------------------------------------------------------------------------------------
Part = tuple[int, ...]


class Flow(Protocol):
    """A loop or branch, whose note has parts: those of its results that are read, by the attributes of their notes."""

    draws: bool

    def parts(self, operands: Operands, wanted: Sequence[Part]) -> dict[Part, Tensor]: ...

    def parts_over(
        self, operands: Operands, batched: list[bool], size: int, wanted: Sequence[Part]
    ) -> dict[Part, Tensor]: ...


class Call(Protocol):
    """Something else that is one operation, with several results."""

    def again(self, operands: list[Tensor]) -> list[Tensor]:
        """The results for other operands."""

    def over(self, operands: list[Tensor], batched: list[bool], size: int) -> list[Tensor]:
        """The results for a batch, all with the batch as first axis."""


class Noted:
    """The loops and branches of a recording, by how a note names their first body, and its calls, by their numbers."""

    def __init__(self) -> None:
        self.flows: dict[int, Any] = {}
        self.calls: dict[int, Call] = {}


class _UnderWay(threading.local):
    def __init__(self) -> None:
        self.recordings: list[Noted] = []  # the innermost last


_under_way = _UnderWay()


@contextlib.contextmanager
def noting() -> Iterator[Noted]:
    """What a recording of notes holds that begins here, in this thread."""
    noted = Noted()
    _under_way.recordings.append(noted)
    try:
        yield noted
    finally:
        _under_way.recordings.pop()


def note_flow(number: int, flow: Flow) -> None:
    for noted in _under_way.recordings:  # a closure may make it that of an outer recording
        noted.flows[number] = flow


def note_call(call: Call, operands: list[Tensor], results: list[Tensor]) -> list[Tensor] | None:
    """The results as those of a call in the notes under way, or None where there are none that know the operands."""
    found = _core.note_call(operands, results, id(call))
    for noted in _under_way.recordings if found else ():
        noted.calls[id(call)] = call
    return found


# ---- notes ---------------------------------------------------------------------------------------------------------
def carry_out(
    notes: Sequence[_core.Note],
    constants: dict[int, Tensor],
    inputs: Mapping[int, Tensor | Diagonal],
    wanted: Iterable[int],
    size: int,
    noted: Noted,
) -> dict[int, Tensor]:
    """The wanted values of a recording (``_core.notes_end``) for a whole batch, with the batch as first axis where they
    depend on one of ``inputs`` or are drawn.

    ``inputs`` are those of the recording for the batch, by their numbers, and ``noted`` what it holds as a whole. An
    operand that no outer transform tracked while the function ran is a constant to them here, too.
    """
    parts: dict[int, list[Part]] = {}
    for note in notes:
        if note[0] == PART:
            parts.setdefault(note[2][0], []).append(note[4])
    values: dict[int, Any] = dict(inputs)
    same: dict[int, Any] = dict(constants)  # for all elements
    called: dict[int, list[Tensor]] = {}  # the results of calls
    for op, result, operands, tracked, attr, last in notes:
        batched = [v >= 0 and v in values for v in operands]
        moved = any(batched) or op == _RANDOM or (op in FLOWS and noted.flows[attr[0]].draws)
        xs: list[Any] = [None if v < 0 else (values if b else same)[v] for v, b in zip(operands, batched)]
        for v in last:
            values.pop(v, None)
        if op == PART:
            (values if moved else same)[result] = xs[0][attr]
            continue
        xs = [x if x is None or outer or not x.requires_grad else x.detach() for x, outer in zip(xs, tracked)]
        found: Any = through(op, xs, batched, attr) if Diagonal in map(type, xs) else None
        if found is None:
            xs = [x.whole() if type(x) is Diagonal else x for x in xs]
            if op in FLOWS:
                flow, read = noted.flows[attr[0]], parts.get(result, [])
                found = flow.parts_over(xs, batched, size, read) if moved else flow.parts(xs, read)
            elif op == CUSTOM:
                number, k = attr
                if number not in called:
                    call = noted.calls[number]
                    called[number] = call.over(xs, batched, size) if moved else call.again(xs)
                found = called[number][k]
            else:
                found = _rule(op)(op, xs, batched, attr, size) if moved else apply_op(op, xs, attr)
        (values if moved else same)[result] = found
    found = {v: values[v] if v in values else same[v] for v in wanted if v in values or v in same}
    return {v: x.whole() if type(x) is Diagonal else x for v, x in found.items()}


@functools.cache
def _rule(op: int) -> Rule:
    if op < len(_NAMES):
        return RULES[_NAMES[op]]
    return _unary_derivative if _core.ROWS[_NAMES[(op - len(_NAMES)) // 2]]["arity"] == 1 else _binary_derivative


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
def _elementwise(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, _aligned(xs, batched), attr)


def _slope(op: int, xs: Operands) -> Tensor:
    """The derivative itself, where only the cotangent, the last operand, is batched: it is the same for all."""
    g = xs[-1]
    one = _core.adopt(np.ones(g.shape[1:], g.dtype), "vmap")
    return _core.multiply(g, apply_op(op, [*xs[:-1], one]))


def _unary_derivative(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    if batched == [False, False, True]:
        return _slope(op, xs)
    return apply_op(op, _all_whole(xs, batched, size))


def _binary_derivative(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    if batched == [False, False, False, True] and xs[2] is not None:
        return _slope(op, xs)
    y, g = _all_whole(xs[2:], batched[2:], size)
    a, b = (_padded(x, g.ndim - 1) if each else x for x, each in zip(xs[:2], batched))
    return apply_op(op, [a, b, y, g])


def _rows(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    """Of what is done to each row by itself, all operands having the same rows."""
    return apply_op(op, _all_whole(xs, batched, size), attr)


def _reshape(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, xs, (size, *attr))


def _transpose(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, xs, (0, *[axis + 1 for axis in attr]))


def _broadcast_to(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, [_padded(xs[0], len(attr))], (size, *attr))


def _slice(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, xs, (0, 1, size, *attr))


def _concatenate(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    return apply_op(op, _all_whole(xs, batched, size), (attr[0] + 1, *attr[1:]))


def _take(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    axis, shared = attr
    if batched == [True, False] and not shared:
        return apply_op(op, xs, (axis + 1, 0))
    if batched == [False, True] and not shared:  # the batch comes with the index, in the place of the axis
        y = apply_op(op, xs, attr)
        return transpose(y, (axis, *range(axis), *range(axis + 1, y.ndim))) if axis else y
    return apply_op(op, _all_whole(xs, batched, size), (axis + 1, shared + 1))


def _untake(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    axis, shared, length = attr
    if batched == [True, False] and not shared:
        return apply_op(op, xs, (axis + 1, 0, length))
    return apply_op(op, _all_whole(xs, batched, size), (axis + 1, shared + 1, length))


def _reduction(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    axes, keepdims = attr
    return apply_op(op, xs, (axes << 1, keepdims))


def _along(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    axis, *rest = attr
    return apply_op(op, xs, (axis + 1, *rest))


def _matmul(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
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


def _random(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    """One draw for the whole batch: each element has numbers of its own."""
    dtype, low, count, *shape = attr
    return apply_op(op, xs, (dtype, low, count, size, *shape))


def _numpy(op: int, xs: Operands, batched: list[bool], attr: tuple[int, ...], size: int) -> Tensor:
    """A function of NumPy's: it reduces one operand over the axes that its options name, or broadcasts its operands."""
    function, options = _core.numpy_call(attr[0])
    if "keepdims" not in options:
        return _core.by_numpy(function, *_aligned(xs, batched), **options)
    x, axis = xs[0], options["axis"]
    if axis is None:  # of all elements as they lie in memory; their axes all remain with length 1, or none does
        kept = (1,) * (x.ndim - 1) if options["keepdims"] else ()
        flat = reshape(x, (size, _product(x.shape[1:])))
        return reshape(_core.by_numpy(function, flat, axis=1, keepdims=False), (size, *kept))
    moved = tuple(i + 1 for i in axis) if isinstance(axis, tuple) else axis + 1
    return _core.by_numpy(function, x, axis=moved, keepdims=options["keepdims"])


RULES: dict[str, Rule] = dict.fromkeys(_core.ROWS, _elementwise) | {
    **dict.fromkeys(
        "cast barrier where less less_equal greater greater_equal equal not_equal logical_and logical_or "
        "logical_xor".split(),
        _elementwise,
    ),
    **dict.fromkeys(
        "softmax log_softmax logsumexp cross_entropy extremum_adjoint softmax_adjoint log_softmax_adjoint "
        "logsumexp_adjoint cross_entropy_adjoint".split(),
        _rows,
    ),
    **dict.fromkeys(("sum", "max", "min"), _reduction),
    **dict.fromkeys(("slice", "unslice"), _slice),
    "reshape": _reshape, "transpose": _transpose, "broadcast_to": _broadcast_to, "concatenate": _concatenate,
    "take": _take, "untake": _untake, "cumsum": _along, "matmul": _matmul, "random": _random, "numpy": _numpy,
}  # fmt: skip
