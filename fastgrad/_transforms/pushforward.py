"""Forward mode: tangents pushed through the operations that a function has recorded on the tape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import _core
from .._core import Tensor
from .._rules.jvp import SavedNode
from .._rules.table import RULES

__all__ = ["push"]

Tangents = list[Any]  # tensors, and None for zero


def push(results: list[Tensor], inputs: list[Tensor], tangents: Iterable[Tensor], recorded: bool) -> Tangents:
    """The tangents of results that were computed from watched inputs with tangents; None for zero.

    ``recorded``: the saved values keep their nodes, so that an outer transform differentiates through them too.
    """
    found: dict[int | None, Any] = {_core.node_number(x): t for x, t in zip(inputs, tangents)}
    nodes = [SavedNode(*node) for node in _core.tape_operations(results, inputs, recorded)]
    ends = [_core.node_number(y) for y in results]
    last_read = {v: saved.number for saved in nodes for v in saved.operands} | dict.fromkeys(ends)
    for saved in nodes:
        ts = [*map(found.get, saved.operands)]
        if any(t is not None for t in ts):
            found[saved.number] = RULES[saved.op].jvp(saved, ts)  # type: ignore[misc]
            for v in saved.operands:
                if last_read[v] == saved.number:
                    found.pop(v, None)  # so that memory holds the tangents only that are still to be read
    return [found.get(v) for v in ends]
