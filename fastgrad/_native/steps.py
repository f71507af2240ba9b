"""Steps that are no maps, written one by one: sums, small products, paddings.

The order of additions in sums and products is that of the kernels, so that their bits are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .description import Step
from .scope import Scope, Unwritten
from .values import contiguous, index_text, suffix

_NARROW, _LANES = 16, 64  # rows from here on are summed in lanes (csrc/kernels/reduce.c)
_UNROLLED = 128  # additions of a sum that is written out term by term, at most
_FEW = 216  # multiplications of a product that is written out, at most (fg_is_few in csrc/kernels.h)


def _unslice(scope: Scope, k: int, step: Step) -> None:
    """Zeros around a slice. What was computed inside of the result is written after these."""
    d = scope.description
    x, y = d.buffer(step.operands[0]), d.buffer(step.y)
    result = scope.result(step.y)
    if x.root == y.root:
        before = (x.shift - y.shift) // y.dtype.itemsize
        for start, n in ((0, before), (before + x.size, y.size - before - x.size)):
            if n:
                scope.text.line(f"for (int64_t i = 0; i < {n}; i++) {result.at(f'{start} + i' if start else 'i')} = 0;")
        return
    strides = contiguous(y.shape)
    start = sum(stride * step.attr[3 * i] for i, stride in enumerate(strides))
    to = index_text("i", x.shape, [stride * step.attr[3 * i + 1] for i, stride in enumerate(strides)], start)
    value = scope.operand(step, 0)
    scope.text.line(f"for (int64_t i = 0; i < {y.size}; i++) {result.at('i')} = 0;")
    scope.text.line(f"for (int64_t i = 0; i < {x.size}; i++) {result.at(to)} = {value.at('i')};")


def _concatenate(scope: Scope, k: int, step: Step) -> None:
    d, y, axis = scope.description, scope.description.buffer(step.y), step.attr[0]
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    result, at = scope.result(step.y), 0
    strides = contiguous(y.shape)
    for v, value in zip(step.operands, values):
        x = d.buffer(v)
        to = index_text("i", x.shape, strides, at * strides[axis])
        scope.text.line(f"for (int64_t i = 0; i < {x.size}; i++) {result.at(to)} = {value.at('i')};")
        at += x.shape[axis]


def _reduced(shape: tuple[int, ...], axes: int) -> tuple[int, int, int] | None:
    """(outer, n, inner): the one run of neighbouring axes that is summed, or None if there are several."""
    lengths = [(n, bool(axes >> i & 1)) for i, n in enumerate(shape) if n != 1]
    runs: list[tuple[int, bool]] = []
    for n, summed in lengths:
        if runs and runs[-1][1] == summed:
            runs[-1] = runs[-1][0] * n, summed
        else:
            runs.append((n, summed))
    if sum(summed for _, summed in runs) > 1:
        return None
    place = next((i for i, (_, summed) in enumerate(runs) if summed), None)
    if place is None:
        return math.prod(shape), 1, 1
    return math.prod(n for n, _ in runs[:place]), runs[place][0], math.prod(n for n, _ in runs[place + 1 :])


def _tree(terms: list[str]) -> str:
    """The sum of up to 15 terms, or of a column, in the order of fold_down in csrc/kernels/reduce.c."""

    def eight(t: list[str]) -> str:
        return f"(({t[0]} + {t[1]}) + ({t[2]} + {t[3]})) + (({t[4]} + {t[5]}) + ({t[6]} + {t[7]}))"

    total, rest = (eight(terms[:8]), terms[8:]) if len(terms) >= 8 else (terms[0], terms[1:])
    while len(rest) >= 8:
        total, rest = f"({total}) + ({eight(rest[:8])})", rest[8:]
    for term in rest:
        total = f"{total} + {term}"
    return total


def _sum(scope: Scope, k: int, step: Step) -> None:
    d = scope.description
    x, y = d.buffer(step.operands[0]), d.buffer(step.y)
    sizes = _reduced(x.shape, step.attr[0])
    if sizes is None or not x.size:
        raise Unwritten
    outer, n, inner = sizes
    value = scope.operand(step, 0)
    if x.size == 1:
        scope.define(step, value.at("0"))
        return
    if value.single:
        raise Unwritten
    few_columns = inner == 1 or n * inner <= _LANES or inner > _LANES // 2
    if n < _NARROW and few_columns and outer * n * inner <= _UNROLLED:
        sums = [
            _tree([value.at(str((o * n + j) * inner + c)) for j in range(n)])
            for o in range(outer)
            for c in range(inner)
        ]
        if y.size == 1:
            scope.define(step, sums[0])
            return
        result = scope.result(step.y)
        for i, text in enumerate(sums):
            scope.text.line(f"{result.at(str(i))} = {text};")
        return
    result, which = scope.result(step.y), int(y.dtype == np.float64)
    if inner == 1:
        scope.text.line(f"s->sum_rows[{which}]({outer}, {n}, {value.address}, {result.address});")
    else:
        for o in range(outer):
            if outer > 8:
                raise Unwritten
            shift = f" + {o * n * inner}" if o else ""
            to = f" + {o * inner}" if o else ""
            scope.text.line(f"s->sum_cols[{which}]({n}, {inner}, {value.address}{shift}, {result.address}{to});")


def _matmul(scope: Scope, k: int, step: Step) -> None:
    """A small product, element by element: y = a b, or y = a b + c."""
    d = scope.description
    a, b, y = (d.buffer(v) for v in (*step.operands[:2], step.y))
    if len(a.shape) != 2 or len(b.shape) != 2 or not y.size:
        raise Unwritten
    ta, tb = step.attr[:2]
    (m, n), depth = y.shape, a.shape[not ta]
    if not 0 < depth <= 8 or m * n > 64 or m * n * depth > _FEW:
        raise Unwritten
    va, vb = scope.operand(step, 0), scope.operand(step, 1)
    added = scope.operand(step, 2) if len(step.operands) == 3 else None

    def element(i: int, j: int) -> str:
        total = "0"
        for p in range(depth):
            left = va.at(str(p * m + i if ta else i * depth + p))
            right = vb.at(str(j * depth + p if tb else p * n + j))
            total = f"FMA_{suffix(y.dtype)}({left}, {right}, {total})"
        return total if added is None else f"{total} + {added.at(str(i * n + j))}"

    if y.size == 1 and added is None:
        scope.define(step, element(0, 0))
        return
    result = scope.result(step.y)
    for i in range(m):
        for j in range(n):
            scope.text.line(f"{result.at(str(i * n + j))} = {element(i, j)};")


STEPS: dict[str, Callable[[Scope, int, Step], None]] = {
    "unslice": _unslice, "concatenate": _concatenate, "sum": _sum, "matmul": _matmul,
}  # fmt: skip
