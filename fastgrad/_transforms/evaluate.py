"""The interpreter of recorded instructions: evaluates them on other inputs, or for a whole batch at once.

A function that was recorded (csrc/record/trace.c) is a list of instructions. Each is evaluated by its own operation,
or, where an operand has a batch as first axis, by the batching rule of that operation (``_rules/table.py``). Either way
the work is done by ordinary operations, which an outer transform records in its turn: on the tape, or as instructions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from .. import _core
from .._core import Tensor, apply_op
from .._rules.diagonal import Diagonal
from .._rules.table import RULES, rule_of_diagonals

__all__ = ["CONTROL_FLOW", "PART", "Compound", "Compounds", "Operands", "Part", "evaluate", "record_call", "register"]

Operands = list[Any]  # tensors, and None for a missing one
Part = tuple[int, ...]  # the attributes of an instruction `part`

CONTROL_FLOW = frozenset(row["index"] for row in _core.STRUCTURAL.values() if row["bodies"])
_DRAWS = frozenset(row["index"] for row in _core.STRUCTURAL.values() if "DRAWS" in row["flags"])
PART, _CUSTOM = (_core.OP_NUMBERS[name] for name in ("part", "custom"))
_SPECIAL = {PART, _CUSTOM, *_DRAWS, *CONTROL_FLOW}  # whose results are not those of `apply_op` on the operands


# ---- compounds -----------------------------------------------------------------------------------------------------
class Compound(Protocol):
    """One operation with several results. A loop or branch is one instruction, followed by an instruction `part` for
    each result that is read; a call of a function with custom rules is one instruction for each result."""

    draws: bool

    def at(self, operands: Operands, wanted: Sequence[Part]) -> Any:
        """The results for other operands, by their numbers; of a loop only the wanted ones, by the attributes of their
        parts."""

    def over(self, operands: Operands, batched: list[bool], size: int, wanted: Sequence[Part]) -> Any:
        """The same for a batch, every result with the batch as first axis."""


class Compounds:
    """The compounds of one recording, by the number that their instructions have as first attribute.

    A context: within it, compounds that this thread makes are registered here, and in the recordings around it too, as
    a function may be called in one recording by a closure that belongs to an outer one.
    """

    def __init__(self) -> None:
        self.by_number: dict[int, Compound] = {}

    def __enter__(self) -> Compounds:
        _thread.recordings.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _thread.recordings.pop()

    def draws(self, op: int, attr: tuple[int, ...]) -> bool:
        """Whether each evaluation of an instruction gives other random numbers."""
        return op in _DRAWS or (op in CONTROL_FLOW and self.by_number[attr[0]].draws)


class _Thread(threading.local):
    def __init__(self) -> None:
        self.recordings: list[Compounds] = []  # the innermost last


_thread = _Thread()


def register(number: int, compound: Compound) -> None:
    """Add a compound to all recordings that this thread is making."""
    for compounds in _thread.recordings:
        compounds.by_number[number] = compound


def record_call(call: Compound, operands: list[Tensor], results: list[Tensor]) -> list[Tensor] | None:
    """The results as those of a call in the innermost recording that the operands depend on; None if there is none."""
    found = _core.record_call(operands, results, id(call))
    if found:
        register(id(call), call)
    return found


# ---- instructions ---------------------------------------------------------------------------------------------------
def evaluate(
    instructions: Sequence[_core.Instruction],
    values: dict[int, Any],
    compounds: Compounds,
    over: Iterable[int] | None = None,
    size: int = 0,
) -> dict[int, Any]:
    """Evaluate the instructions of a recording (``_core.instructions_end``) on ``values``, its inputs and constants by
    their numbers. The results are added to ``values``, which is returned. An instruction whose value is given already
    is skipped, and a value is dropped after the last instruction that reads it.

    ``over``: evaluate for a batch of this size. The values with these numbers have it as first axis, and so does what
    is computed from them or drawn. An operand that no outer transform tracked while the function was recorded is a
    constant to them here, too.
    """
    parts: dict[int, list[Part]] = {}
    for op, _, operands, _, attr, _ in instructions if compounds.by_number else ():
        if op == PART:
            parts.setdefault(operands[0], []).append(attr)
    results: dict[int, Any] = {}  # of compounds
    batched_values = set(over or ())

    def special(op: int, result: int, xs: Operands, batched: list[bool], attr: tuple[int, ...]) -> Any:
        if Diagonal in map(type, xs):
            if (found := rule_of_diagonals(op, xs, batched, attr)) is not None:
                return found
            xs = [x.whole() if type(x) is Diagonal else x for x in xs]
        is_batched = True in batched
        if op in _SPECIAL:
            if op == PART:
                return xs[0][attr]
            if over is not None and compounds.draws(op, attr):
                is_batched = True
                batched_values.add(result)
            if op not in _DRAWS:
                number, wanted = attr[0], parts.get(result, [])
                if op != _CUSTOM or number not in results:
                    compound = compounds.by_number[number]
                    results[number] = (
                        compound.over(xs, batched, size, wanted) if is_batched else compound.at(xs, wanted)
                    )
                return results[number][attr[1]] if op == _CUSTOM else results[number]
        if not is_batched:
            return apply_op(op, xs, attr)
        return RULES[op].batching(op, xs, batched, attr, size)  # type: ignore[misc]

    return _core.instructions_evaluate(instructions, values, batched_values, _SPECIAL, special)
