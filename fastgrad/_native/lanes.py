"""Functions of single numbers that do not depend on one another, computed side by side in the lanes of a vector.

A neuron's six exponentials, each of another number, take little longer in this way than one of them. Steps are moved
for that within a run of steps whose operands and results are numbers in local variables. Such steps may be in any order
in which each comes after those whose results it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .. import _core
from . import order
from .description import Step
from .maps import MAPS, is_long, lanes
from .scope import Scope
from .values import c_type, suffix


class Bundle(NamedTuple):
    """Steps of one operation and dtype, none of which reads another's result."""

    steps: list[Step]


def ordered(scope: Scope) -> Iterator[range | Bundle]:
    """The groups of a program or body, in an order in which functions that can be computed side by side are."""
    segment: list[range] = []
    for group in order.ordered(scope):
        if group[0] in scope.written:
            continue
        if len(group) == 1 and group[0] not in scope.interpreted and is_number_of_numbers(scope, group[0]):
            segment.append(group)
        else:
            yield from _bundled(scope, segment)
            segment = []
            yield group
    yield from _bundled(scope, segment)


def is_number_of_numbers(scope: Scope, k: int) -> bool:
    """Whether a step makes a number from numbers, all of which keep their values."""
    d = scope.description
    step = d.steps[k]
    if step.late or (step.name not in _core.ROWS and step.name not in MAPS):
        return False
    y = step.y
    if d.buffer(y).size != 1 or d.root(y) != y or not scope.is_local(y) or scope.writers[y] != 1:
        return False
    return all(v < 0 or _is_number(scope, v) for v in step.operands)


def _is_number(scope: Scope, v: int) -> bool:
    b = scope.description.buffer(v)
    if scope.description.buffer(b.root).data is not None:
        return True
    if b.size != 1 or b.root != v:
        return False
    if v < scope.description.n_in:
        return v not in scope.writers
    return scope.is_local(v) and scope.writers.get(v) == 1


def _is_function(scope: Scope, step: Step) -> bool:
    return is_long(scope, step) and _core.ROWS[step.name]["arity"] == 1 and step.by_input is None


def _bundled(scope: Scope, segment: list[range]) -> Iterator[range | Bundle]:
    d = scope.description
    heavy = [_is_function(scope, d.steps[group[0]]) for group in segment]
    if sum(heavy) < 2:
        yield from segment
        return
    levels: dict[int, int] = {}  # of a result: how many heavy steps in turn it takes before it can be computed
    after: dict[int, int] = {}  # ... before it can be read
    for group, is_heavy in zip(segment, heavy):
        step = d.steps[group[0]]
        levels[step.y] = max((after.get(v, 0) for v in step.operands), default=0)
        after[step.y] = levels[step.y] + is_heavy
    for level in range(max(levels.values()) + 1):
        bundles: dict[tuple[int, str], list[range]] = {}
        for group, is_heavy in zip(segment, heavy):
            step = d.steps[group[0]]
            if levels[step.y] == level:
                if is_heavy:
                    bundles.setdefault((step.op, d.buffer(step.y).dtype.name), []).append(group)
                else:
                    yield group
        for groups in bundles.values():
            if len(groups) == 1:
                yield groups[0]
                continue
            yield Bundle([d.steps[group[0]] for group in groups])


def write(scope: Scope, bundle: Bundle) -> None:
    """Write the steps of a bundle: an array of their operands, a loop over it, and the results."""
    first = bundle.steps[0]
    b = scope.description.buffer(first.y)
    most = lanes() * (8 // b.dtype.itemsize)
    for start in range(0, len(bundle.steps), most):
        steps = bundle.steps[start : start + most]
        n = 2
        while n < len(steps):
            n *= 2
        operands = [scope.value(step.operands[0]).at("0") for step in steps]
        operands += operands[:1] * (n - len(steps))
        name, kind = f"lanes{steps[0].y}{scope.name}", c_type(b.dtype)
        scope.text.line(f"{kind} {name}[{n}] = {{{', '.join(operands)}}};")
        scope.text.line(f"IN_MEMORY({name});")
        scope.text.line('_Pragma("omp simd")')
        call = f"{first.name}_{suffix(b.dtype)}({name}[i])"
        scope.text.line(f"for (int64_t i = 0; i < {n}; i++) {name}[i] = {call};")
        for i, step in enumerate(steps):
            scope.define(step, f"{name}[{i}]")
