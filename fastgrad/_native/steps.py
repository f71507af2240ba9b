"""Steps that are no maps, written one by one: sums, paddings, joins, indices.

The order of additions in sums is that of the kernels, so that their bits are the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from .description import Step
from .scope import Scope, Unwritten
from .values import Index, Value, c_type, contiguous, index_of

_NARROW, _LANES = 16, 64  # rows from here on are summed in lanes (csrc/kernels/reduce.c)
_UNROLLED = 128  # additions of a sum that is written out term by term, at most


def _unslice(scope: Scope, k: int, step: Step) -> None:
    """Zeros around a slice, or the sum of several. What was computed inside of the result is written after these."""
    d = scope.description
    x, y = d.buffer(step.operands[0]), d.buffer(step.y)
    result = scope.result(step.y)
    if x.root == y.root:
        before = (x.shift - y.shift) // y.dtype.itemsize
        for start, n in ((0, before), (before + x.size, y.size - before - x.size)):
            if n:
                scope.text.line(f"for (int64_t i = 0; i < {n}; i++) {result.at(f'{start} + i' if start else 'i')} = 0;")
        return
    n, strides = len(step.operands), contiguous(y.shape)
    values = [scope.operand(step, j) for j in range(n)]
    scope.text.line(f"for (int64_t i = 0; i < {y.size}; i++) {result.at('i')} = 0;")
    starts, steps = (np.reshape(step.attr, (n, len(y.shape), 3))[:, :, k].tolist() for k in range(2))
    shapes = [d.buffer(v).shape for v in step.operands]

    def put(first: list[int], by: list[int], shape: tuple[int, ...], how: str, value: Value | None = None) -> None:
        start = sum(stride * at for stride, at in zip(strides, first))
        index = index_of(shape, [stride * m for stride, m in zip(strides, by)], start)

        def write(to: str, i: str) -> str:
            return f"{result.at(to)} {how}{value.at(i) if value else ''};"

        _for_each_place(scope, math.prod(shape), index, write)

    if n > 1:  # adding 0 makes 0 of -0, which remains where every operand has it: -0 + x is x (csrc/kernels/pieces.c)
        common = [_common(*axis) for axis in zip(zip(*starts), zip(*steps), zip(*shapes))]
        put([r.start for r in common], [r.step for r in common], tuple(len(r) for r in common), "= -0.0")
    for first, by, shape, value in zip(starts, steps, shapes, values):
        put(first, by, shape, "+= " if n > 1 else "= ", value)


def _for_each_place(scope: Scope, size: int, index: Index, write: Callable[[str, str], str]) -> None:
    """Loops over the axes of an index, which need no quotients: write(the place that it says, the element's number)."""
    if not size:
        return
    names = [f"i{k}" for k in range(len(index.axes))]
    inner = contiguous([n for n, _ in index.axes])
    for name, (n, _) in zip(names, index.axes):
        scope.text.open(f"for (int64_t {name} = 0; {name} < {n}; {name}++) {{")
    to = _sum_of([*((name, stride) for name, (_, stride) in zip(names, index.axes))], index.start)
    scope.text.line(write(to, _sum_of(list(zip(names, inner)), 0)))
    for _ in names:
        scope.text.close()


def _sum_of(terms: list[tuple[str, int]], start: int) -> str:
    found = [name if stride == 1 else f"{name} * {stride}" for name, stride in terms if stride]
    return " + ".join([*found, *([str(start)] if start or not found else [])])


def _common(starts: Sequence[int], steps: Sequence[int], lengths: Sequence[int]) -> range:
    """The indices that several slices of an axis have in common. Steps other than 1 and -1 are alike."""
    ranges = [range(start, start + step * n, step) for start, step, n in zip(starts, steps, lengths)]
    if not all(ranges):
        return range(0)
    ranges = [r if r.step > 0 else r[::-1] for r in ranges]
    low, high = max(r.start for r in ranges), min(r[-1] for r in ranges)
    coarse = next((r for r in ranges if len(r) > 1 and r.step > 1), range(1))
    low += (coarse.start - low) % coarse.step
    return range(low, high + 1, coarse.step) if all(low in r for r in ranges) else range(0)


def _concatenate(scope: Scope, k: int, step: Step) -> None:
    d, y, axis = scope.description, scope.description.buffer(step.y), step.attr[0]
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    result, at = scope.result(step.y), 0
    strides = contiguous(y.shape)
    for v, value in zip(step.operands, values):
        x = d.buffer(v)
        index = index_of(x.shape, strides, at * strides[axis])
        _for_each_place(scope, x.size, index, functools.partial(_moved, result, value))
        at += x.shape[axis]


def _moved(result: Value, value: Value, to: str, i: str) -> str:
    return f"{result.at(to)} = {value.at(i)};"


def reduced(shape: tuple[int, ...], axes: int) -> tuple[int, int, int] | None:
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


def sum_of_terms(terms: list[str]) -> str:
    """The sum of up to 15 terms, or of a column, in the order of fold_down in csrc/kernels/reduce.c."""

    def eight(t: list[str]) -> str:
        return f"(({t[0]} + {t[1]}) + ({t[2]} + {t[3]})) + (({t[4]} + {t[5]}) + ({t[6]} + {t[7]}))"

    total, rest = (eight(terms[:8]), terms[8:]) if len(terms) >= 8 else (terms[0], terms[1:])
    while len(rest) >= 8:
        total, rest = f"({total}) + ({eight(rest[:8])})", rest[8:]
    for term in rest:
        total = f"{total} + {term}"
    return total


def _reduction(scope: Scope, k: int, step: Step) -> None:
    """A sum, maximum or minimum over neighbouring axes: few terms of a sum are added here, others by a kernel."""
    d = scope.description
    x, y = d.buffer(step.operands[0]), d.buffer(step.y)
    sizes = reduced(x.shape, step.attr[0])
    if sizes is None or not x.size or x.dtype.kind != "f":
        raise Unwritten
    outer, n, inner = sizes
    value = scope.operand(step, 0)
    if x.size == 1:
        scope.define(step, value.at("0"))
    elif value.single:
        raise Unwritten
    elif (
        step.name == "sum" and n < _NARROW and outer * n * inner <= _UNROLLED and not _LANES // 2 >= inner > _LANES // n
    ):
        terms = [[(o * n + j) * inner + c for j in range(n)] for o in range(outer) for c in range(inner)]
        elements(scope, step, [sum_of_terms([value.at(str(i)) for i in places]) for places in terms])
    elif inner > 1 and outer > _UNROLLED // 8:
        raise Unwritten
    else:
        result, which = scope.result(step.y), f"[FG_ROWS_{step.name}][{int(y.dtype == np.float64)}]"
        if inner == 1:
            scope.text.line(f"s->rows{which}({outer}, {n}, {value.address}, {result.address});")
        for o in range(outer if inner > 1 else 0):
            operands = f"{_from(value, o * n * inner)}, {_from(result, o * inner)}"
            scope.text.line(f"s->cols{which}({n}, {inner}, {operands});")


def _from(value: Value, start: int) -> str:
    """The address of an element of an array."""
    return f"{value.address} + {start}" if start else value.address


def elements(scope: Scope, step: Step, expressions: list[str]) -> None:
    """Give each element of the result a value."""
    if len(expressions) == 1:
        scope.define(step, expressions[0])
        return
    result = scope.result(step.y)
    for i, expression in enumerate(expressions):
        scope.text.line(f"{result.at(str(i))} = {expression};")


def _rows(scope: Scope, k: int, step: Step) -> None:
    """A function of the softmax family of each row, or its adjoint, by a kernel."""
    x = scope.description.buffer(step.operands[0])
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    if step.attr or not x.size or any(value.single and value.size > 1 for value in values):
        raise Unwritten
    name, result = step.name.removesuffix("_adjoint"), scope.result(step.y)
    which = f"rows{'_adjoint' * (name != step.name)}[FG_ROWS_{name}][{int(x.dtype == np.float64)}]"
    operands = ", ".join([*(address(value) for value in values), result.address])
    scope.text.line(f"s->{which}({x.size // x.shape[-1]}, {x.shape[-1]}, {operands});")


def _extremum_adjoint(scope: Scope, k: int, step: Step) -> None:
    """The cotangent of a maximum or minimum shared among the elements that are equal to it, by a kernel."""
    d = scope.description
    x, y = d.buffer(step.operands[0]), d.buffer(step.operands[1])
    values = [scope.operand(step, j) for j in range(3)]
    if not x.size or any(value.single and value.size > 1 for value in values):
        raise Unwritten
    operands = ", ".join([*(address(value) for value in values), scope.result(step.y).address])
    scope.text.line(f"s->extremum_adjoint[{int(x.dtype == np.float64)}]({y.size}, {x.size // y.size}, {operands});")


def address(value: Value) -> str:
    """The address of an operand, which may be a number that has none."""
    return f"(const {c_type(value.dtype)}[]){{{value.text}}}" if value.single else value.address


def _gather_sizes(whole: tuple[int, ...], step: Step, index: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(outer, length, count, inner), as in csrc/ops/gather.c, of an index without axes that elements share with it."""
    axis, shared = step.attr[:2]
    if shared:
        raise Unwritten
    return math.prod(whole[:axis]), whole[axis], math.prod(index), math.prod(whole[axis + 1 :])


def _take(scope: Scope, k: int, step: Step) -> None:
    """Rows that an index names."""
    d = scope.description
    sizes = _gather_sizes(d.buffer(step.operands[0]).shape, step, d.buffer(step.operands[1]).shape)
    value, index = scope.operand(step, 0), scope.operand(step, 1)
    result = scope.result(step.y)
    _for_each_index(scope, sizes, index, lambda row, place: f"{result.at(row)} = {value.at(place)};")


def _position(scope: Scope, k: int, step: Step) -> None:
    """Indices counted from the first element."""
    (length,) = step.attr
    y, index, text = scope.description.buffer(step.y), scope.operand(step, 0), scope.text
    result = scope.result(step.y)
    text.open(f"for (int64_t i = 0; i < {y.size}; i++) {{")
    text.line(f"const int64_t at = {index.at('i')} < 0 ? {index.at('i')} + {length} : {index.at('i')};")
    refuse = scope.refuse_index("indexing", index.at("i"), "-1", length)
    text.line(f"if (at < 0 || at >= {length}) {refuse}")
    text.line(f"{result.at('i')} = at;")
    text.close()


def _untake(scope: Scope, k: int, step: Step) -> None:
    """Zeros to which rows are added that an index names."""
    d = scope.description
    y = d.buffer(step.y)
    if len(step.operands) > 2 or len(step.attr) > 3:  # the rows of a gradient (csrc/program/row_sparse.c)
        raise Unwritten
    sizes = _gather_sizes(y.shape, step, d.buffer(step.operands[1]).shape)
    if sizes[2] > _NARROW and y.dtype == np.float32:  # many terms are added in float64
        raise Unwritten
    value, index = scope.operand(step, 0), scope.operand(step, 1)
    result = scope.result(step.y)
    scope.text.line(f"for (int64_t i = 0; i < {y.size}; i++) {result.at('i')} = 0;")
    _for_each_index(scope, sizes, index, lambda row, place: f"{result.at(place)} += {value.at(row)};")


def _for_each_index(
    scope: Scope, sizes: tuple[int, int, int, int], index: Value, write: Callable[[str, str], str]
) -> None:
    """Loops over the rows of an index, and over the elements of each: write(place in these rows, in the whole)."""
    outer, length, count, inner = sizes
    text = scope.text
    text.open(f"for (int64_t k = 0; k < {count}; k++) {{")
    text.line(f"const int64_t at = {index.at('k')} < 0 ? {index.at('k')} + {length} : {index.at('k')};")
    refuse = scope.refuse_index("take", index.at("k"), "k", length)
    text.line(f"if (at < 0 || at >= {length}) {refuse}")
    text.line(f"for (int64_t o = 0; o < {outer}; o++)")
    text.line(f"    for (int64_t j = 0; j < {inner}; j++)")
    text.line(f"        {write(f'(o * {count} + k) * {inner} + j', f'(o * {length} + at) * {inner} + j')}")
    text.close()


STEPS: dict[str, Callable[[Scope, int, Step], None]] = {
    "unslice": _unslice, "concatenate": _concatenate, "sum": _reduction, "max": _reduction, "min": _reduction,
    "take": _take, "untake": _untake, "position": _position, "softmax": _rows,
    "log_softmax": _rows, "logsumexp": _rows,
    "softmax_adjoint": _rows, "log_softmax_adjoint": _rows, "logsumexp_adjoint": _rows,
    "extremum_adjoint": _extremum_adjoint,
}  # fmt: skip
