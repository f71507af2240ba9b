"""Maps: steps of which element i of the result is an expression of one element of each operand.

Consecutive maps over equally many elements are one loop, in which a value that only they read is a variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import _core
from .description import Buffer, Step
from .scope import Scope, Unwritten
from .values import Value, broadcast_strides, c_type, contiguous, index_text, number_of_index, suffix

HUGE = {"sin", "cos", "j0", "j1"}  # rows that look at each element for huge arguments: kernels do so block by block
_FEW = 9  # up to so many, that are no whole vectors, are written one by one
_LONG = 64  # from so many elements on a kernel is faster than a loop that divides indices or looks at each element


class Map(NamedTuple):
    """A step that is a map: the operands, where each has the element for element i, and the expression of these."""

    n: int
    operands: tuple[tuple[int, str], ...]  # (buffer, index)
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
    divides = any("%" in index or "/" in index for _, index in found.operands)
    if scope.around is None and not scope.is_alone and found.n >= _LONG and divides:
        raise Unwritten
    return found


def _broadcast(scope: Scope, step: Step) -> tuple[tuple[int, str], ...]:
    """The operands, broadcast to the result's shape; -1 where one is missing."""
    d = scope.description
    y = d.buffer(step.y)
    found = []
    for v in step.operands:
        if v < 0:
            found.append((-1, ""))
            continue
        x = d.buffer(v)
        if scope.is_single(v):
            found.append((v, "0"))
        elif x.period:
            found.append((v, f"i % {x.period}"))
        else:
            strides = broadcast_strides(x.shape, y.shape)
            if strides is None:
                raise Unwritten
            found.append((v, index_text("i", y.shape, strides)))
    return tuple(found)


def _row(scope: Scope, step: Step, in_lanes: bool) -> Map:
    """A row of csrc/ops.def, or a derivative of it: a function of csrc/kernels/rows.h."""
    y = scope.description.buffer(step.y)
    if y.dtype.kind != "f":
        return _of_integers(scope, step)
    if step.name in HUGE and y.size >= _LONG and not scope.is_alone:
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
    index = index_text("i", y.shape, strides, start)
    return Map(y.size, ((step.operands[0], index),), lambda xs: xs[0])


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
    return not set(re.findall(r"(\w+)\(", text)) <= _SHORT


def element_of_all(scope: Scope, step: Step, v: int) -> str:
    """A number that a step takes for all elements of a loop; for a function of two operands one for each element."""
    b, element = scope.description.buffer(v), scope.value(v).at("0")
    if scope.is_alone or b.dtype.kind != "f" or scope.description.buffer(b.root).data is not None:
        return element
    if step.name not in _core.ROWS or _core.ROWS[step.name]["arity"] < 2 or not scope.calls(step):
        return element
    scope.text.declare("const uint64_t no_bits = NO_BITS;")
    return f"EACH_{suffix(b.dtype)}({element})"


class ElementLoop:
    """Consecutive maps over equally many elements, which become one loop; a map of one element is a statement."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.forget()

    def forget(self) -> None:
        self.n = 0
        self.steps: list[tuple[Step, Map]] = []

    @property
    def is_empty(self) -> bool:
        return not self.steps

    def takes(self, step: Step) -> bool:
        """Whether the step is a map that can join the loop; if so, it has."""
        m = map_of(self.scope, step)
        if m is None or (self.steps and (m.n != self.n or self._conflicts(step, m))):
            return False
        if m.n == 1:
            if self.steps:
                return False
            self._define(step, m)
            return True
        self.n = m.n
        self.steps.append((step, m._replace(operands=tuple(self._as_made(v, index) for v, index in m.operands))))
        return True

    def _as_made(self, v: int, index: str) -> tuple[int, str]:
        """An operand; where it is a view, such as a reshape, of what the loop makes, that itself: it has the same
        element i, and need not be in memory yet."""
        d = self.scope.description
        for step, _ in reversed(self.steps) if v >= 0 and index == "i" else ():
            x, y = d.buffer(v), d.buffer(step.y)
            if (x.root, x.shift, x.bytes, x.dtype) == (y.root, y.shift, y.bytes, y.dtype):
                return step.y, index
        return v, index

    def _define(self, step: Step, m: Map) -> None:
        values = [self.scope.value(v).at(index) if v >= 0 else "0" for v, index in m.operands]
        self.scope.define(step, m.expression(values))

    def _conflicts(self, step: Step, m: Map) -> bool:
        """Does the step read what the loop writes, other than the element just computed; or write what it reads so?"""
        return any(
            self._clash(self._span(x), index, v == x, self._span(y))
            for earlier, n in self.steps
            for x, index, v, y in (
                *((v, index, earlier.y, earlier.y) for v, index in m.operands if v >= 0),
                *((v, index, step.y, step.y) for v, index in n.operands if v >= 0),
                *(((earlier.y, "i", step.y, step.y),)),
            )
        )

    @staticmethod
    def _clash(x: tuple[object, int, int, int], index: str, same: bool, y: tuple[object, int, int, int]) -> bool:
        """x is read (or written) at an index while y is written at i."""
        if x[0] != y[0] or x[2] <= y[1] or y[2] <= x[1]:
            return False  # in different memory
        return not (index == "i" and x[1] == y[1] and x[3] == y[3])

    def _span(self, v: int) -> tuple[object, int, int, int]:
        """The memory of a buffer: which, first and last byte in it, and the size of its elements."""
        b = self.scope.description.buffer(v)
        root = self.scope.description.buffer(b.root)
        if self.scope.is_in_arena(b.root):
            start = root.offset + b.shift
            return "arena", start, start + b.bytes, b.dtype.itemsize
        return b.root, b.shift, b.shift + b.bytes, b.dtype.itemsize

    def end(self) -> None:
        """Write the loop, if there is one."""
        steps, n = self.steps, self.n
        self.forget()
        if not steps:
            return
        stored = {step.y: self.scope.result(step.y) for step, _ in steps if self._is_stored(step, steps)}
        if n <= _FEW and n % lanes() and not self.scope.is_alone and not any(is_long(self.scope, s) for s, _ in steps):
            for i in range(n):
                self._write_element(steps, stored, i)
            return
        whole = n - n % self._vector(steps, n)
        if whole:
            self._write(steps, stored, 0, whole)
        rest, most = n - whole, 1 << (n - whole - 1).bit_length()
        if rest == most:
            self._write(steps, stored, whole, n)
        elif rest:
            self._write_padded(steps, stored, whole, rest, most)

    def _vector(self, steps: list[tuple[Step, Map]], n: int) -> int:
        """How many elements a loop takes in vectors only. Of few elements and long functions the rest gets a loop of
        its own, because compilers would compute it one by one; any other loop takes all."""
        if self.scope.is_alone or n >= _LONG or not any(is_long(self.scope, step) for step, _ in steps):
            return 1
        sizes = [self.scope.description.buffer(step.y).dtype.itemsize for step, _ in steps]
        return lanes() * 8 // max(sizes)

    def _write_padded(
        self, steps: list[tuple[Step, Map]], stored: dict[int, Value], start: int, rest: int, n: int
    ) -> None:
        """Write a loop over the `rest` elements from `start` on, as one over n of which the last ones are not used."""
        text, inside = self.scope.text, {step.y for step, _ in steps}
        read = dict.fromkeys(
            (v, index) for _, m in steps for v, index in m.operands if v >= 0 and v not in inside and index != "0"
        )
        text.open("{")
        padded: dict[tuple[int, str], str] = {}
        for v, index in read:
            padded[v, index] = name = f"padded{len(padded)}"
            text.line(f"{c_type(self.scope.description.buffer(v).dtype)} {name}[{n}];")
        for y in stored:
            text.line(f"{c_type(self.scope.description.buffer(y).dtype)} made{y}[{n}];")
        text.open(f"for (int64_t j = 0; j < {n}; j++) {{")
        text.line(f"const int64_t i = j < {rest} ? {start} + j : {start};")
        for (v, index), name in padded.items():
            text.line(f"{name}[j] = {self.scope.value(v).at(index)};")
        text.close()
        for name in padded.values():
            text.line(f"IN_MEMORY({name});")
        made = {y: value._replace(text=f"made{y}", single=False) for y, value in stored.items()}
        self._write(steps, made, 0, n, padded)
        for y, value in stored.items():
            text.line(f"for (int64_t i = 0; i < {rest}; i++) {value.at(f'{start} + i')} = made{y}[i];")
        text.close()

    def _write(
        self,
        steps: list[tuple[Step, Map]],
        stored: dict[int, Value],
        start: int,
        end: int,
        padded: dict[tuple[int, str], str] | None = None,
    ) -> None:
        text = self.scope.text
        if not self.scope.is_alone:
            text.line('_Pragma("omp simd")')
        text.open(f"for (int64_t i = {start}; i < {end}; i++) {{")
        names: dict[int, str] = {}
        for step, m in steps:
            values = [
                "0"
                if v < 0
                else names[v]
                if v in names
                else f"{padded[v, index]}[i]"
                if padded and (v, index) in padded
                else self.scope.value(v).at(index)
                if index != "0"
                else element_of_all(self.scope, step, v)
                for v, index in m.operands
            ]
            b, name = self.scope.description.buffer(step.y), f"e{step.y}{self.scope.name}"
            expression = self.scope.separate(step, m.expression(values), lanes=True)
            if step.y in stored and not self._is_read(step.y, steps):
                text.line(f"{stored[step.y].at('i')} = {expression};")
            else:
                text.line(f"const {c_type(b.dtype)} {name} = {expression};")
                if step.y in stored:
                    text.line(f"{stored[step.y].at('i')} = {name};")
                names[step.y] = name
        text.close()

    def _write_element(self, steps: list[tuple[Step, Map]], stored: dict[int, Value], i: int) -> None:
        """Write the steps of a short loop for element i, whose values then are in registers."""
        scope, names = self.scope, dict[int, str]()
        for step, m in steps:
            given = [
                "0" if v < 0 else names[v] if v in names else scope.value(v).at(number_of_index(index, i))
                for v, index in m.operands
            ]
            b, name = scope.description.buffer(step.y), f"e{step.y}_{i}{scope.name}"
            expression = scope.separate(step, m.expression(given))
            if step.y not in stored or self._is_read(step.y, steps):
                scope.text.line(f"const {c_type(b.dtype)} {name} = {expression};")
                expression = names[step.y] = name
            if step.y in stored:
                scope.text.line(f"{stored[step.y].at(str(i))} = {expression};")

    @staticmethod
    def _is_read(v: int, steps: list[tuple[Step, Map]]) -> bool:
        return any(v == x for _, m in steps for x, _ in m.operands)

    def _is_stored(self, step: Step, steps: list[tuple[Step, Map]]) -> bool:
        """Whether anything but this loop reads a step's result."""
        d, root = self.scope.description, self.scope.description.root(step.y)
        if root != step.y or not self.scope.is_private(root):
            return True
        inside = {s.y for s, _ in steps}
        if any(d.steps[k].y not in inside for k in self.scope.readers.get(root, ())):
            return True
        views = any(v != root and v >= 0 and d.root(v) == root for _, m in steps for v, _ in m.operands)
        return views or any(d.root(v) == root for v in d.outs)
