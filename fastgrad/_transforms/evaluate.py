"""The interpreter of instructions: a traced function evaluated on other tensors, or on a whole batch.

`TracedFunction` traces a function on one abstract element. `evaluate` applies its instructions again, one after the
other: on other tensors by the same operations, over a batch by their batching rules. It does so by ordinary operations,
so that an outer transform may record or trace them in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from .. import _core
from .._core import Tensor, apply_op
from .._rules.batching import Operands
from .._rules.diagonal import Diagonal
from .._rules.table import RULES, rule_of_diagonals

__all__ = [
    "CONTROL_FLOW_OPS", "Compound", "InstructionTrace", "Part", "TracedFunction", "batched_values", "evaluate",
    "first_elements", "first_row", "trace_call",
]  # fmt: skip

CONTROL_FLOW_OPS = frozenset(row["index"] for row in _core.STRUCTURAL.values() if row["bodies"])
_DRAWS = frozenset(row["index"] for row in _core.STRUCTURAL.values() if "DRAWS" in row["flags"])
_PART, _CUSTOM = (_core.OP_NUMBERS[name] for name in ("part", "custom"))
_SPECIAL = {_PART, _CUSTOM, *_DRAWS, *CONTROL_FLOW_OPS}  # whose results are not those of `apply_op` on the operands


# ---- operations with several results --------------------------------------------------------------------------------
Part = tuple[int, ...]


class Compound(Protocol):
    """An operation of instructions with several results.

    A loop or branch is one instruction, whose result is a block; each result that is read is another instruction, a
    `part` of the block. A call of a function with a rule is an instruction `custom` for each result.
    """

    draws: bool

    def at(self, operands: Operands, wanted: Sequence[Part]) -> Any:
        """The results for these operands: of a call a list, of a loop a dict of the wanted ones by the attributes of
        their parts."""

    def over(self, operands: Operands, batched: list[bool], size: int, wanted: Sequence[Part]) -> Any:
        """The same over a batch, which all results have as first axis."""


class InstructionTrace(_core.Trace):
    """A trace that ends with its instructions; ``compounds`` has the operations that these name by number.

    ``inputs`` makes values that the trace's inputs may have, for a function that has to be called on values: those of
    the first element of a batch, or of the first step of a loop.
    """

    def __init__(self, of: Literal["mapped", "body"], inputs: Callable[[], list[Tensor]]) -> None:
        super().__init__(of)
        self.inputs = inputs

    def draws(self, op: int, attr: tuple[int, ...]) -> bool:
        """Whether an instruction draws random numbers."""
        return op in _DRAWS or (op in CONTROL_FLOW_OPS and self.compounds[attr[0]].draws)


def trace_call(call: Compound, operands: list[Tensor], results: list[Tensor]) -> list[Tensor] | None:
    """The results as those of a call in the trace under way; None if no trace knows the operands."""
    found = _core.trace_call(operands, results, id(call))
    if found:
        _core.register_compound(id(call), call)
    return found


# ---- values in place of abstract tensors ----------------------------------------------------------------------------
def first_row(stack: Tensor) -> Tensor:
    """The first row, without gradients; zeros if there is none."""
    x = stack.detach()
    return x[0] if len(x) else _core.adopt(np.zeros(x.shape[1:], x.dtype), "vmap")


def first_elements(xs: list[Tensor]) -> list[Tensor] | None:
    """The values that abstract tensors have in the first element of the batches that they are mapped over.

    They are computed by the instructions in the traces under way. Nothing is drawn: a random number is the middle of
    its range. None while a program is traced, because then there are no values.
    """
    if _core.compiling():
        return None
    return [_first_element(x) for x in xs]


def _first_element(x: Tensor) -> Any:
    if not _core.traced(x):
        return x.detach()
    trace, v, instructions, constants = _core.instructions_before(x)
    assert isinstance(trace, InstructionTrace)
    instructions = [
        (op, y, operands, tracked, attr, ())
        for op, y, operands, tracked, attr, _ in _core.instructions_for([v], instructions)
    ]
    needed = {v}.union(*[operands for _, _, operands, *_ in instructions])
    given = constants | dict(enumerate(trace.inputs()))
    values = {k: _first_element(given[k]) for k in needed & given.keys()}
    for op, y, _, _, attr, _ in instructions:
        if op in _DRAWS:
            dtype, low, count, *shape = attr
            middle = low + count // 2 if count else 0.5
            values[y] = _core.adopt(np.full(shape, middle, _core.dtype_numbered(dtype)), "vmap")
    return evaluate(instructions, values, trace)[v]


# ---- evaluation ------------------------------------------------------------------------------------------------------
def evaluate(
    instructions: Sequence[_core.Instruction],
    values: dict[int, Any],
    trace: InstructionTrace,
    over: Iterable[int] | None = None,
    size: int = 0,
) -> dict[int, Any]:
    """Evaluate the instructions of a trace (``_core.instructions_end``) on ``values``: inputs and constants by number.

    The results of the instructions are added to ``values``, which is returned. An instruction whose result is there
    already is skipped; values that nothing later reads are dropped.

    ``over``: evaluate over a whole batch of this size. The values with these numbers have the batch as first axis, and
    so do the results that depend on them and draws. An operand that no outer transform tracked while the function was
    traced is a constant to outer transforms here, too.
    """
    parts: dict[int, list[Part]] = {}
    for op, _, operands, _, attr, _ in instructions if trace.compounds else ():
        if op == _PART:
            parts.setdefault(operands[0], []).append(attr)
    called: dict[int, Any] = {}  # the results of compounds, by number
    in_batch = set(over or ())  # numbers of the values that have the batch as first axis

    def special(op: int, result: int, xs: Operands, batched: list[bool], attr: tuple[int, ...]) -> Any:
        if Diagonal in map(type, xs):
            if (found := rule_of_diagonals(op, xs, batched, attr)) is not None:
                return found
            xs = [x.whole() if type(x) is Diagonal else x for x in xs]
        mapped = True in batched
        if op in _SPECIAL:
            if op == _PART:
                return xs[0][attr]
            if over is not None and trace.draws(op, attr):
                mapped = True
                in_batch.add(result)
            if op not in _DRAWS:
                number, read = attr[0], parts.get(result, [])
                if op != _CUSTOM or number not in called:
                    compound = trace.compounds[number]
                    called[number] = compound.over(xs, batched, size, read) if mapped else compound.at(xs, read)
                return called[number][attr[1]] if op == _CUSTOM else called[number]
        if not mapped:
            return apply_op(op, xs, attr)
        return RULES[op].batching(op, xs, batched, attr, size)  # type: ignore[misc]

    return _core.instructions_evaluate(instructions, values, in_batch, _SPECIAL, special)


def batched_values(
    instructions: Sequence[_core.Instruction], trace: InstructionTrace, start: Iterable[int]
) -> set[int]:
    """Numbers of the values that are batched if those of ``start`` are: what depends on these, and draws."""
    found = set(start)
    for op, y, operands, _, attr, _ in instructions:
        if not found.isdisjoint(operands) or trace.draws(op, attr):
            found.add(y)
    return found


class TracedFunction:
    """A function traced on one abstract element: its instructions, and of each result the value, the number of that
    value (-1: it is none of the trace), whether it is batched if the inputs are, and whether outer transforms track
    it."""

    def __init__(
        self,
        element: Callable[[], list[Tensor]],
        f: Callable[[list[Tensor]], list[Any]],
        values: Callable[[], list[Tensor]],
    ) -> None:
        """``element`` makes the inputs, abstract tensors that nobody else uses; f maps them to results; ``values``
        makes values that the inputs may have."""
        with InstructionTrace("mapped", values) as self.trace:
            inputs = element()
            for x in inputs:
                _core.instructions_input(x)
            self.results = f(inputs)
            self.numbers, self.tracked = _core.instructions_outputs(self.results)
            instructions, self.constants = _core.instructions_end()
        self.instructions = _core.instructions_for(self.numbers, instructions)
        batched = batched_values(self.instructions, self.trace, range(len(inputs)))
        self.batched = [v in batched for v in self.numbers]

    def over(self, batches: Iterable[Tensor | Diagonal], size: int) -> list[Any]:
        """The results for batches of inputs; those that depend on an input have the batch as first axis."""
        inputs = dict(enumerate(batches))
        with _core.DeferZeros(any(map(_core.traced, self.constants.values()))):
            values = evaluate(self.instructions, self.constants | inputs, self.trace, inputs, size)
        results = [own if v < 0 else values[v] for v, own in zip(self.numbers, self.results)]
        for k, x in enumerate(results):
            if type(x) is Diagonal:
                x = results[k] = x.whole()
            if not self.tracked[k] and isinstance(x, Tensor) and x.requires_grad:
                results[k] = x.detach()
        return results
