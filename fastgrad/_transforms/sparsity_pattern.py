"""Where a derivative can be other than zero, read off the instructions that compute it.

A backward pass is traced together with the function, as in ``vmap``. Then each instruction's result gets a pattern:
for each of its elements, the elements of the cotangent that it depends on (``_rules/sparsity.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, _user_frames
from .._core import Tensor, apply_op
from .._rules.sparsity import EvaluatedInstruction, of_everything
from .._rules.table import RULES
from .evaluate import TracedFunction
from .grad import no_grad

__all__ = ["pattern"]


def pattern(
    pull: Callable[[list[Any], Any], list[Tensor]], leaves: Sequence[np.ndarray], cotangent: Tensor, sparse: Any
) -> Any:
    """The pattern of what ``pull(leaves, cotangent)``, linear in the cotangent, makes of it: a boolean csr_array with a
    row for each element of the leaves. None where it cannot be told for all values of the leaves. What is read
    from outside is a constant, as in a program: its zeros count as zeros of the pattern.
    """
    try:
        traced = TracedFunction(
            lambda: [*[_core.abstract_like(x) for x in leaves], _core.abstract_like(cotangent)],
            lambda xs: pull(xs[:-1], xs[-1]),
            lambda: [*map(_core.tensor, leaves), _core.ones_like(cotangent)],
        )
    except (_core.TraceError, NotImplementedError) as error:
        if _user_frames.is_from_signal(error):
            raise
        return None
    values: dict[int, Any] = dict(traced.constants)
    values.update(enumerate([*map(_core.tensor, leaves), _core.ones_like(cotangent)]))
    varying = set(range(len(leaves)))  # values that depend on the leaves
    m = cotangent.size
    found: dict[int, Any] = {len(leaves): sparse.eye_array(m, dtype=bool, format="csr")}
    with no_grad():
        for op, result, operands, _, attr, last in traced.instructions:
            rule = RULES[op].sparsity
            if rule is None:
                return None
            xs = [values.get(v) for v in operands]
            y = values[result] = apply_op(op, xs, attr)
            if not varying.isdisjoint(operands):
                varying.add(result)
            parts = [found.get(v) for v in operands]
            if any(part is not None for part in parts):
                known = [x is not None and v not in varying for x, v in zip(xs, operands)]
                evaluated = EvaluatedInstruction(op, attr, xs, known, y, parts, sparse)
                found[result] = of_everything(evaluated) if (rows := rule(evaluated)) is None else rows
            for v in last:
                values.pop(v, None)
                found.pop(v, None)
    rows = [
        found[v] if v in found else sparse.csr_array((np.size(x), m), dtype=bool)
        for v, x in zip(traced.numbers, leaves)
    ]
    return sparse.vstack(rows, format="csr")
