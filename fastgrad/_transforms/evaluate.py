"""The interpreter of instructions: a traced function evaluated on other tensors, or on a whole batch of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from .. import _core
from .._core import Tensor, apply_op
from .._rules.batching import Operands, rule_of
from .._rules.diagonal import Diagonal, through

__all__ = ["FLOWS", "Compound", "Noted", "Part", "TracedFunction", "evaluate", "instruction", "record_call"]

_NAMES = _core.op_names()
_RANDOM, _PART, _CUSTOM = (_NAMES.index(name) for name in ("random", "part", "custom"))
FLOWS = [_NAMES.index(name) for name in ("scan", "while_loop", "cond")]
_SPECIAL = {_RANDOM, _PART, _CUSTOM, *FLOWS}


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


class Noted:
    """The compounds of a recording of instructions that begins ``with`` it, in this thread, by how instructions name them."""

    def __init__(self) -> None:
        self.compounds: dict[int, Compound] = {}

    def __enter__(self) -> Noted:
        _under_way.recordings.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _under_way.recordings.pop()

    def draws(self, op: int, attr: tuple[int, ...]) -> bool:
        """Whether an instruction is of random numbers."""
        return op == _RANDOM or (op in FLOWS and self.compounds[attr[0]].draws)


class _UnderWay(threading.local):
    def __init__(self) -> None:
        self.recordings: list[Noted] = []  # the innermost last


_under_way = _UnderWay()


def instruction(number: int, compound: Compound) -> None:
    for noted in _under_way.recordings:  # a closure may make it that of an outer recording
        noted.compounds[number] = compound


def record_call(call: Compound, operands: list[Tensor], results: list[Tensor]) -> list[Tensor] | None:
    """The results as those of a call in the instructions under way, or None where there are none that know the operands."""
    found = _core.record_call(operands, results, id(call))
    if found:
        instruction(id(call), call)
    return found


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
        if op == _PART:
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
            if op == _PART:
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
        return rule_of(op)(op, xs, batched, attr, size) if moved else apply_op(op, xs, attr)

    return _core.instructions_evaluate(instructions, values, moving, _SPECIAL, special)


class TracedFunction:
    """What a function does to one element: its instructions, and for each of its results the number of the value it is (-1: it
    depends on no input), whether outer transforms track it, and itself."""

    def __init__(self, element: Callable[[], list[Tensor]], f: Callable[[list[Tensor]], list[Any]]) -> None:
        """``element`` makes the inputs, tensors that nobody else knows; f takes them to results."""
        with Noted() as self.noted:
            _core.instructions_begin()
            try:
                inputs = element()
                for x in inputs:
                    _core.instructions_input(x)
                self.results = f(inputs)
                self.numbers, self.tracked = _core.instructions_outputs(self.results)
            except BaseException:
                _core.trace_abort()
                raise
        instructions, self.constants = _core.instructions_end()
        self.instructions = _core.instructions_for(self.numbers, instructions)

    def over(self, batches: Iterable[Tensor | Diagonal], size: int) -> list[Any]:
        """The results over batches, those that depend on one with the batch as first axis."""
        inputs = dict(enumerate(batches))
        values = evaluate(self.instructions, self.constants | inputs, self.noted, inputs, size)
        results = [own if v < 0 else values[v] for v, own in zip(self.numbers, self.results)]
        for k, x in enumerate(results):
            if type(x) is Diagonal:
                x = results[k] = x.whole()
            if not self.tracked[k] and isinstance(x, Tensor) and x.requires_grad:
                results[k] = x.detach()
        return results
