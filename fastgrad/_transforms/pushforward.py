"""Forward mode: tangents pushed through the operations that a function has recorded on the tape.

A pass that is not differentiated again is made by the core (csrc/autodiff/forward.c), which knows the rules of most
operations and calls the others here; one that is, by these rules alone. The core also pushes the tangents of several
directions together, as rows of one array each: for that a rule in Python is mapped over the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import _core
from .._core import Tensor
from .._rules import jvp
from .._rules.batching import whole
from .._rules.jvp import SavedNode
from .._rules.table import RULES
from .evaluate import TracedFunction, first_row

__all__ = ["passes_are_short", "push", "push_rows"]

Tangents = list[Any]  # tensors, and None for zero
_KINDS: dict[Any, int] = {
    jvp.of_linear: _core.PUSH_KINDS["linear"],
    jvp.of_matmul: _core.PUSH_KINDS["product"],
    jvp.of_concatenate: _core.PUSH_KINDS["together"],
}
_HOW = bytes([_KINDS.get(rules.jvp, 0) for rules in RULES])  # what the core does for these rules
# Operations that may take long on short arrays: what is called back, and loops.
_LONG = {_core.OP_NUMBERS[name] for name in ("custom", "numpy", "host_elementwise")} | {
    row["index"] for row in _core.STRUCTURAL.values() if row["bodies"]
}
_QUICK = bytes([op not in _LONG for op in range(len(RULES))])
_SHORT = 1 << 15  # elements of an array in all passes together that take hardly more than the calls of their operations
_CHUNK = 1 << 14  # elements that are compared with 0 before it is asked whether one was found


def push(
    results: list[Tensor], inputs: list[Tensor], tangents: Iterable[Any], recorded: bool, drop_zeros: bool = False
) -> Tangents:
    """The tangents of results that were computed from watched inputs with tangents; None for zero.

    ``recorded``: the saved values keep their nodes, so that an outer transform differentiates through them too.
    ``drop_zeros``: while a program is traced, tangents whose elements are known to be all zero are not pushed on.
    """
    drop_zeros = drop_zeros and _core.tracing()
    if not recorded and not drop_zeros:
        return _core.push(results, inputs, list(tangents), _HOW, _apply_rule)
    return by_rules(results, inputs, tangents, recorded, drop_zeros)


def push_rows(results: list[Tensor], inputs: list[Tensor], tangents: list[Tensor], n: int) -> Tangents:
    """The tangents of results in n directions, which are the rows of the inputs' tangents, as rows; None for zero. The
    pass is neither recorded nor traced."""
    return _core.push(results, inputs, tangents, _HOW, _map_rule, n)


def passes_are_short(results: list[Tensor], inputs: list[Tensor], n: int) -> bool:
    """Whether n passes between them, in either direction, take little time beside that of tracing one."""
    return _core.pass_is_short(results, inputs, _QUICK, _SHORT // n)


def by_rules(
    results: list[Tensor], inputs: list[Tensor], tangents: Iterable[Any], recorded: bool, drop_zeros: bool
) -> Tangents:
    """The same by the rules in Python for all operations."""
    found: dict[int | None, Any] = {_core.node_number(x): t for x, t in zip(inputs, tangents)}
    nodes = [SavedNode(*node) for node in _core.tape_operations(results, inputs, recorded)]
    ends = [_core.node_number(y) for y in results]
    last_read = {v: saved.number for saved in nodes for v in saved.operands} | dict.fromkeys(ends)
    for saved in nodes:
        ts = [*map(found.get, saved.operands)]
        if any(t is not None for t in ts):
            t = RULES[saved.op].jvp(saved, ts)  # type: ignore[misc]
            found[saved.number] = None if drop_zeros and _is_zero(t) else t
            for v in saved.operands:
                if last_read[v] == saved.number:
                    found.pop(v, None)  # so that memory holds the tangents only that are still to be read
    return [found.get(v) for v in ends]


def _apply_rule(operation: tuple[Any, ...], tangents: Tangents) -> Any:
    saved = SavedNode(*operation)
    return RULES[saved.op].jvp(saved, tangents)  # type: ignore[misc]


def _map_rule(operation: tuple[Any, ...], tangents: Tangents) -> Any:
    saved, given = SavedNode(*operation), [t for t in tangents if t is not None]

    def rule(rows: list[Tensor]) -> list[Any]:
        row = iter(rows)
        return [RULES[saved.op].jvp(saved, [None if t is None else next(row) for t in tangents])]  # type: ignore[misc]

    traced = TracedFunction(lambda: [*map(_core.element, given)], rule, lambda: [*map(first_row, given)])
    (y,) = traced.over(given, len(given[0]))
    return whole(y, traced.batched[0], len(given[0]))


def _is_zero(t: Any) -> bool:
    """Whether a tangent has elements, not abstract ones, and all are 0."""
    if t is None or _core.traced(t) or t.requires_grad:
        return t is None
    flat = t.numpy().reshape(-1)
    return not any(flat[k : k + _CHUNK].any() for k in range(0, flat.size, _CHUNK))
