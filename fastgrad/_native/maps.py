"""Maps: steps of which element i of the result is an expression of one element of each operand."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import _core
from .description import Buffer, Step
from .scope import Scope, Unwritten, very_long
from .values import SINGLE, Index, broadcast_strides, c_type, contiguous, index_of, suffix

HUGE = {"sin", "cos", "j0", "j1"}  # rows that look at each element for huge arguments: kernels do so block by block
PLACE = -2  # an operand of a map that is no buffer, but the number that its index says
# From so many elements on a kernel is faster than a loop that divides indices or looks at each element, and as fast as
# one that calls a very long function, of which compilers would make tens of kilobytes.
LONG = 64


class Map(NamedTuple):
    """A step that is a map: the operands, where each has the element for element i, and the expression of these."""

    n: int
    operands: tuple[tuple[int, Index], ...]  # (buffer, where its element is); (-1, ...): a missing one; (PLACE, ...)
    expression: Callable[[list[str]], str]


def map_of(scope: Scope, step: Step, in_lanes: bool = False) -> Map | None:
    """The step as a map, or None if it is none; `in_lanes`: of one element, but within a loop of vectors."""
    write = MAPS.get(step.name)
    if step.name in _core.ROWS:
        found = _row(scope, step, in_lanes)
    elif write is not None:
        found = write(scope, step)
    else:
        return None
    return found


def _broadcast(scope: Scope, step: Step) -> tuple[tuple[int, Index], ...]:
    """The operands, broadcast to the result's shape; -1 where one is missing."""
    d = scope.description
    y = d.buffer(step.y)
    found = []
    for v in step.operands:
        if v < 0:
            found.append((-1, SINGLE))
            continue
        x = d.buffer(v)
        if scope.is_single(v):
            found.append((v, SINGLE))
        elif x.period:
            found.append((v, Index(((y.size // x.period, 0), (x.period, 1)))))
        else:
            strides = broadcast_strides(x.shape, y.shape)
            if strides is None:
                raise Unwritten
            found.append((v, index_of(y.shape, strides)))
    return tuple(found)


def _row(scope: Scope, step: Step, in_lanes: bool) -> Map:
    """A row of csrc/ops.def, or a derivative of it: a function of csrc/kernels/rows.h."""
    y = scope.description.buffer(step.y)
    if y.dtype.kind != "f":
        return _of_integers(scope, step)
    if y.size >= LONG and not scope.is_alone and (step.name in HUGE or step.name in very_long()):
        raise Unwritten
    function = scope.function(step, in_lanes)
    return Map(y.size, _broadcast(scope, step), lambda xs: f"{function}({', '.join(xs)})")


def _compare(operator: str) -> Callable[[Scope, Step], Map]:
    def write(scope: Scope, step: Step) -> Map:
        y = scope.description.buffer(step.y)
        return Map(y.size, _broadcast(scope, step), lambda xs: f"{xs[0]} {operator} {xs[1]}")

    return write


def _where(scope: Scope, step: Step) -> Map:
    y = scope.description.buffer(step.y)
    text = "{0} ? {1} : {2}" if y.dtype.kind == "f" else f"({c_type(y.dtype)})({{0}} ? {{1}} : {{2}})"
    return Map(y.size, _broadcast(scope, step), lambda xs: text.format(*xs))


def _cast(scope: Scope, step: Step) -> Map:
    x, y = (scope.description.buffer(v) for v in (step.operands[0], step.y))
    if x.dtype == y.dtype:
        return Map(y.size, _broadcast(scope, step), lambda xs: xs[0])
    if y.dtype.kind == "b" or (x.dtype.kind == "f" and y.dtype.kind != "f") or len(step.attr) > 1:
        return _narrowed(scope, step, x, y)
    return Map(y.size, _broadcast(scope, step), lambda xs: f"({c_type(y.dtype)}){xs[0]}")


def _narrowed(scope: Scope, step: Step, x: Buffer, y: Buffer) -> Map:
    """A cast of values that have to be compared, or may not fit."""
    if not scope.is_alone or len(step.attr) > 1:
        raise Unwritten
    if y.dtype.kind == "b":
        return Map(y.size, _broadcast(scope, step), lambda xs: f"{xs[0]} != 0")
    function = "unsigned_of" if y.dtype == np.uint64 else "integer_of"
    return Map(y.size, _broadcast(scope, step), lambda xs: f"({c_type(y.dtype)}){function}({xs[0]})")


def _broadcast_to(scope: Scope, step: Step) -> Map:
    y = scope.description.buffer(step.y)
    return Map(y.size, _broadcast(scope, step), lambda xs: xs[0])


def _moved(scope: Scope, step: Step, strides: list[int], start: int = 0) -> Map:
    """The result reads the operand's memory with these strides."""
    y = scope.description.buffer(step.y)
    return Map(y.size, ((step.operands[0], index_of(y.shape, strides, start)),), lambda xs: xs[0])


def _transpose(scope: Scope, step: Step) -> Map:
    strides = contiguous(scope.description.buffer(step.operands[0]).shape)
    return _moved(scope, step, [strides[axis] for axis in step.attr])


def _slice(scope: Scope, step: Step) -> Map:
    strides = contiguous(scope.description.buffer(step.operands[0]).shape)
    start = sum(stride * step.attr[3 * i] for i, stride in enumerate(strides))
    return _moved(scope, step, [stride * step.attr[3 * i + 1] for i, stride in enumerate(strides)], start)


# By the names of csrc/integers.def, whose other rows are left to the interpreter.
_OF_INTEGERS = {
    "add": "{0} + {1}", "subtract": "{0} - {1}", "multiply": "{0} * {1}", "negative": "-{0}", "positive": "{0}",
    "square": "{0} * {0}", "maximum": "{0} > {1} ? {0} : {1}", "minimum": "{0} < {1} ? {0} : {1}", "invert": "~{0}",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}",
}  # fmt: skip
_OF_BOOLEANS = {
    "add": "{0} | {1}", "multiply": "{0} & {1}", "maximum": "{0} | {1}", "minimum": "{0} & {1}", "invert": "!{0}",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}",
}  # fmt: skip
_QUOTIENTS = {"floor_divide": "floor_divide_i64({0}, {1})", "remainder": "remainder_i64({0}, {1})"}


def _divides_by_a_constant(scope: Scope, step: Step) -> bool:
    """Whether a quotient of integers needs no warning, and no number beyond int64."""
    b = scope.description.buffer(step.operands[1])
    root = scope.description.buffer(b.root)
    if not root.data or b.dtype == np.uint64:
        return False
    divisors = np.frombuffer(root.data, b.dtype)
    return bool(((divisors != 0) & (divisors != -1)).all())


def _of_integers(scope: Scope, step: Step) -> Map:
    """A row of csrc/integers.def that C computes without a warning."""
    y = scope.description.buffer(step.y)
    if scope.is_alone:
        return Map(y.size, _broadcast(scope, step), lambda xs: f"{step.name}_{y.dtype.name}({', '.join(xs)})")
    text = (_OF_BOOLEANS if y.dtype == np.bool_ else _OF_INTEGERS).get(step.name)
    if step.name in _QUOTIENTS and _divides_by_a_constant(scope, step):
        text = _QUOTIENTS[step.name]
    if text is None:
        raise Unwritten
    whole = f"({c_type(y.dtype)})({text})"
    return Map(y.size, _broadcast(scope, step), lambda xs: whole.format(*xs))


MAPS: dict[str, Callable[[Scope, Step], Map]] = {
    "less": _compare("<"), "less_equal": _compare("<="), "greater": _compare(">"), "greater_equal": _compare(">="),
    "equal": _compare("=="), "not_equal": _compare("!="), "where": _where, "cast": _cast, "invert": _of_integers,
    "left_shift": _of_integers, "right_shift": _of_integers,
    "bitwise_and": _of_integers, "bitwise_or": _of_integers, "bitwise_xor": _of_integers,
    "broadcast_to": _broadcast_to, "transpose": _transpose, "slice": _slice,
}  # fmt: skip


# Functions that take an instruction or two; and how many float64 numbers are in a vector, elsewhere 2.
_SHORT = {"sqrt", "fabs", "where", "copysign", "floor", "ceil", "trunc", "rint"}
_LANES = {"avx512": 8, "avx2": 4}


def lanes() -> int:
    """How many float64 numbers are in a vector."""
    return _LANES.get(_core.isa(), 2)


def is_long(scope: Scope, step: Step) -> bool:
    """Whether a step calls a function of vecmath.h that compilers make vectors of."""
    row = _core.ROWS.get(step.name)
    if row is None or step.name in HUGE or scope.description.buffer(step.y).dtype.kind != "f":
        return False
    by = step.by_input
    text = row["definition"] if by is None else row["derivatives"][by if row["arity"] == 2 else 0]
    return calls_long_functions(text)


def calls_long_functions(text: str) -> bool:
    """Whether a row's definition or derivative calls functions that take more than an instruction or two."""
    return not set(re.findall(r"(\w+)\(", text)) <= _SHORT


def place_text(index: Index, width: int = 0, shift: int = 0) -> str:
    """The number that an index says for element i + shift, or for element j of row r of `width` elements."""
    parts = index.split(width) if width and not shift else None
    if parts is None:
        return index.text(f"(i {'-' if shift < 0 else '+'} {abs(shift)})" if shift else "i")
    outer, stride = parts
    terms = [outer.text("r")] * (not outer.is_constant) + [f"j * {stride}" if stride > 1 else "j"] * bool(stride)
    return " + ".join(terms) or "0"


def for_each(scope: Scope, step: Step, v: int, element: str) -> str:
    """A number that a step of a loop takes for all elements; for a function of two operands as one for each."""
    b = scope.description.buffer(v)
    if scope.is_alone or b.dtype.kind != "f" or scope.description.buffer(b.root).data is not None:
        return element
    if step.name not in _core.ROWS or _core.ROWS[step.name]["arity"] < 2 or not scope.calls(step):
        return element
    scope.text.declare("const uint64_t no_bits = NO_BITS;")
    return f"EACH_{suffix(b.dtype)}({element}, i)"
