"""What a noted operation is over a whole batch: one rule for each operation of the core.

A rule gets the operation's number, its operands, which of them are batched (they have the batch as a further first
axis), its attributes, and the size of the batch. It carries the operation out by ordinary operations, whose number does
not depend on that size, and returns the result with the batch as first axis. So the work of a rule is itself recorded
by whoever records it: on the tape, or in the instructions of an outer recording.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from .. import _core
from .._core import Tensor, apply_op, broadcast_to, reshape, transpose
from .diagonal import Diagonal, through

__all__ = [
    "FLOWS", "PART", "Compound", "Noted", "Part", "evaluate", "first_elements", "first_row", "instruction",
    "moving", "record_call", "whole",
]  # fmt: skip

Operands = list[Any]  # tensors, and None for a missing one
Rule = Callable[[int, Operands, list[bool], tuple[int, ...], int], Tensor]

_NAMES = _core.op_names()
_RANDOM, PART, _CUSTOM = (_NAMES.index(name) for name in ("random", "part", "custom"))
FLOWS = [_NAMES.index(name) for name in ("scan", "while_loop", "cond")]
_SPECIAL = {_RANDOM, PART, _CUSTOM, *FLOWS}


# ---- compounds -----------------------------------------------------------------------------------------------------
Part = tuple[int, ...]


class Compound(Protocol):
    """What is one operation in instructions and has several results: a loop or branch, whose instruction has parts, the instructions of
    those results that are read; or a call of a function with a rule, which has an instruction for each result."""

    draws: bool

    def at(self, operands: Operands, wanted: Sequence[Part]) -> Any:
        """The results for other operands, by their numbers; those of a loop that are wanted, by their parts'
        attributes."""

    def over(self, operands: Operands, batched: list[bool], size: int, wanted: Sequence[Part]) -> Any:
        """The same for a batch, all with the batch as first axis."""


class Noted(_core.Trace):
    """A recording that ends in its instructions, and the compounds of these by how they name them.

    ``inputs`` makes values that the recording's inputs may have, for a function that has to be called on some: in the
    first element of a batch, or the first step of a loop.
    """

    def __init__(self, of: Literal["mapped", "body"], inputs: Callable[[], Operands]) -> None:
        super().__init__(of)
        self.inputs = inputs

    def draws(self, op: int, attr: tuple[int, ...]) -> bool:
        """Whether an instruction is of random numbers."""
        return op == _RANDOM or (op in FLOWS and self.compounds[attr[0]].draws)


def instruction(number: int, compound: Compound) -> None:
    _core.note_compound(number, compound)


def record_call(call: Compound, operands: list[Tensor], results: list[Tensor]) -> list[Tensor] | None:
    """The results as those of a call in the instructions under way, or None where there are none that know the operands."""
    found = _core.record_call(operands, results, id(call))
    if found:
        instruction(id(call), call)
    return found


def first_row(stack: Tensor) -> Tensor:
    """The first row, without gradients; of none, zeros."""
    x = stack.detach()
    return x[0] if len(x) else _core.adopt(np.zeros(x.shape[1:], x.dtype), "vmap")


def first_elements(xs: list[Tensor]) -> list[Tensor] | None:
    """Tensors of the values that abstract ones have in the first element of the batches that they are mapped over.

    The recordings under way tell how they are computed. A draw is in the middle of its range, as none is made. None
    where a program is recorded, in which they have no values.
    """
    if _core.compiling():
        return None
    return [_first_element(x) for x in xs]


def _first_element(x: Tensor) -> Any:
    if not _core.traced(x):
        return x.detach()
    noted, v, instructions, constants = _core.instructions_before(x)
    assert isinstance(noted, Noted)
    instructions = [
        (op, y, operands, tracked, attr, ())
        for op, y, operands, tracked, attr, _ in _core.instructions_for([v], instructions)
    ]
    needed = {v}.union(*[operands for _, _, operands, *_ in instructions])
    given = constants | dict(enumerate(noted.inputs()))
    values = {k: _first_element(given[k]) for k in needed & given.keys()}
    for op, y, _, _, attr, _ in instructions:
        if op == _RANDOM:
            dtype, low, count, *shape = attr
            middle = low + count // 2 if count else 0.5
            values[y] = _core.adopt(np.full(shape, middle, _core.dtype_numbered(dtype)), "vmap")
    return evaluate(instructions, values, noted)[v]


# ---- instructions ---------------------------------------------------------------------------------------------------------
def evaluate(
    instructions: Sequence[_core.Instruction], values: dict[int, Any], noted: Noted, over: Iterable[int] | None = None, size: int = 0
) -> dict[int, Any]:
    """Carry a recording (``_core.instructions_end``) out on other inputs and constants: ``values`` by number, to which those
    of the instructions are added; an instruction whose value is known is left out, and what nothing later reads is dropped. ``noted``
    is what the recording holds.

    ``over``: for a whole batch of this size. These values have it as first axis; what depends on them or is drawn has
    it, too. An operand that no outer transform tracked while the function ran is a constant to them here, too.
    """
    parts: dict[int, list[Part]] = {}
    for op, _, operands, _, attr, _ in instructions if noted.compounds else ():
        if op == PART:
            parts.setdefault(operands[0], []).append(attr)
    called: dict[int, Any] = {}  # the results of compounds
    moving = set(over or ())

    def special(op: int, result: int, xs: Operands, batched: list[bool], attr: tuple[int, ...]) -> Any:
        if Diagonal in map(type, xs):
            if (found := through(op, xs, batched, attr)) is not None:
                return found
            xs = [x.whole() if type(x) is Diagonal else x for x in xs]
        moved = True in batched
        if op in _SPECIAL:
            if op == PART:
                return xs[0][attr]
            if over is not None and noted.draws(op, attr):
                moved = True
                moving.add(result)
            if op != _RANDOM:
                number, read = attr[0], parts.get(result, [])
                if op != _CUSTOM or number not in called:
                    compound = noted.compounds[number]
                    called[number] = compound.over(xs, batched, size, read) if moved else compound.at(xs, read)
                return called[number][attr[1]] if op == _CUSTOM else called[number]
        return _rule(op)(op, xs, batched, attr, size) if moved else apply_op(op, xs, attr)

    return _core.instructions_evaluate(instructions, values, moving, _SPECIAL, special)


def moving(instructions: Sequence[_core.Instruction], noted: Noted, start: Iterable[int]) -> set[int]:
    """Which values differ over a batch if these do: what depends on them, and what is drawn."""
    found = set(start)
    for op, y, operands, _, attr, _ in instructions:
        if not found.isdisjoint(operands) or noted.draws(op, attr):
            found.add(y)
    return found


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
    *saved, g = xs
    known = [x for x in saved if x is not None]
    if not known:
        return apply_op(op, xs)
    return _core.multiply(g, apply_op(op, [*saved, _core.ones_like(known[-1])]))


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
