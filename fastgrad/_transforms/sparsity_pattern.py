"""Where a derivative can be other than zero, read off the instructions that compute it.

A backward pass is traced together with the function, as in ``vmap``. Then each instruction's result gets a pattern:
for each of its elements, the set of elements of the cotangent that it depends on (``_rules/sparsity.py``). Equal sets
have one number, so a pattern takes four bytes for each element, and what moves elements moves numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, _user_frames
from .._core import Tensor, apply_op
from .._rules.sparsity import PatternInstruction, of_everything
from .._rules.table import RULES
from .evaluate import InstructionTrace, TracedFunction
from .grad import no_grad

__all__ = ["pattern"]


def pattern(pull: Callable[[list[Any], Any], list[Tensor]], leaves: Sequence[np.ndarray], cotangent: Tensor) -> Any:
    """The pattern of what ``pull(leaves, cotangent)``, linear in the cotangent, makes of it, in CSR form with a row for
    each element of the leaves: (start, columns). None where it cannot be told for all values of the leaves. What is
    read from outside is a constant, as in a program: its zeros count as zeros of the pattern.
    """

    def inputs() -> list[Tensor]:
        return [*[_core.abstract_like(x) for x in leaves], _core.abstract_like(cotangent)]

    def values() -> list[Tensor]:
        return [*map(_core.tensor, leaves), _core.ones_like(cotangent)]

    try:
        traced = TracedFunction(inputs, lambda xs: pull(xs[:-1], xs[-1]), values)
    except (_core.TraceError, NotImplementedError) as error:
        if _user_frames.is_from_signal(error):
            raise
        return None
    sets = _core.NumberedSets(cotangent.size)
    found: dict[int, Any] = {len(leaves): np.arange(1, cotangent.size + 1, dtype=np.int32).reshape(cotangent.shape)}
    with no_grad(), InstructionTrace("mapped", values):  # so that shapes are found and nothing is computed
        abstract: dict[int, Any] = dict(enumerate(inputs()))
        for x in abstract.values():
            _core.instructions_input(x)
        abstract.update(traced.constants)
        for op, result, operands, _, attr, last in traced.instructions:
            rule = RULES[op].sparsity
            if rule is None:
                return None
            xs = [abstract.get(v) for v in operands]
            y = abstract[result] = apply_op(op, xs, attr)
            parts = [found.get(v) for v in operands]
            if any(part is not None for part in parts):
                one = PatternInstruction(op, attr, xs, y, parts, sets)
                sets_of_y = rule(one)
                found[result] = of_everything(one) if sets_of_y is None else sets_of_y
            for v in last:
                abstract.pop(v, None)
                found.pop(v, None)
    ends = [found[v].ravel() if v in found else np.zeros(x.size, np.int32) for v, x in zip(traced.numbers, leaves)]
    return sets.rows(np.concatenate(ends))
