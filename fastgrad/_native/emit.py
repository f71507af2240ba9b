"""The C text of a program: one function that does what its steps do (csrc/native.h).

What only this text reads and writes is a local variable, which the compiler keeps in a register or on the stack; all
else is where the interpreter has it, in the arena or in inputs and outputs, so that a step which is not written out can
be run by the interpreter between two that are. Consecutive elementwise steps over equally many elements are one loop.
A loop or branch of the program is one in C, with the values of its body as local variables; if some step of its body
cannot be written out, the interpreter runs the whole loop or branch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .. import _core
from .._core import Program
from .description import Buffer, Description, Step
from .values import Value, c_type, literal, suffix

LOCAL_BYTES = 2048  # larger values of a program are in the arena
STACK_BYTES = 1 << 16  # all local variables of a program take no more

_HEAD = """\
#include <math.h>
#include <string.h>

#include "kernels/rows.h"
#include "native.h"

{functions}int fg_native_program(const fg_frame *f, const fg_services *s);
int fg_native_program(const fg_frame *f, const fg_services *s)
{{
"""


class Unwritten(Exception):
    """A step that is left to the interpreter."""


class Source(NamedTuple):
    """The text for a program, and what is written out in it."""

    text: str
    n_steps: int  # of the program and, if they are written out, of its bodies
    interpreted: list[str]  # the operations of the steps that the interpreter runs


class Text:
    """The lines of a function, and what its parts share: numbers for names, and declarations at its top."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.top: list[str] = []
        self.functions: list[str] = []
        self.depth = 1
        self.bodies = 0  # how many have been written
        self.stack = 0  # bytes of local arrays
        self.n_steps = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text if text else "")

    def open(self, text: str) -> None:
        self.line(text)
        self.depth += 1

    def close(self, text: str = "}") -> None:
        self.depth -= 1
        self.line(text)


class Scope:
    """A program, or a body, as part of a function: its values by the numbers of their buffers."""

    def __init__(self, text: Text, description: Description, name: str, frame: bool, interpreted: set[int]) -> None:
        self.text, self.description, self.name, self.frame = text, description, name, frame
        self.interpreted = interpreted  # the first steps of groups that the interpreter runs
        self.failed: dict[int, str] = {}  # groups that turned out to be unwritten, and the operation
        self.places: dict[int, Value] = {}  # of roots
        self.program = "f->program" if frame else f"body{name}"
        self._count_uses()

    # ---- where values are ----------------------------------------------------------------------------------------
    def _count_uses(self) -> None:
        d = self.description
        self.writers: dict[int, int] = {}  # how many steps write a root
        self.shared: set[int] = set()  # roots that the interpreter, or what runs the program, reads or writes
        self.extent: dict[int, tuple[int, int]] = {}  # the bytes of a root and of all that is part of its memory
        for group in d.groups():
            for k in group:
                step = d.steps[k]
                root = d.root(step.y)
                self.writers[root] = self.writers.get(root, 0) + 1
                if group[0] in self.interpreted or step.late:
                    self.shared |= {d.root(v) for v in (step.y, *step.operands) if v >= 0}
        for v, b in enumerate(d.buffers):
            if b is not None:
                low, high = self.extent.get(b.root, (0, 0))
                self.extent[b.root] = min(low, b.shift), max(high, b.shift + b.bytes)
                if self.frame and (b.kept or b.output >= 0) and b.root == v:
                    self.shared.add(v)
        if self.frame:
            self.shared |= {d.root(v) for v in d.outs}
        # Roots that another step may add something to, or that leave a body, where that may happen.
        self.summed = {d.root(v) for s in d.steps if not is_no_sum(s) for v in s.operands if v >= 0}
        if not self.frame:
            self.summed |= {d.root(v) for v in d.outs}

    def separate(self, step: Step, expression: str, lanes: bool = False) -> str:
        """The expression for a step's result; hidden from the compiler if that could fuse it with another step's sum
        (SEPARATE in csrc/kernels/rows.h)."""
        b = self.description.buffer(step.y)
        if b.root not in self.summed or b.dtype.kind != "f" or is_no_product(step):
            return expression
        if lanes:
            self.text.top.append("const uint64_t no_bits = NO_BITS;")
        return f"SEPARATE{'_LANES' * lanes}_{suffix(b.dtype)}({expression})"

    def variable(self, v: int) -> str:
        return f"{'in' if v < self.description.n_in else 'v'}{v}{self.name}"

    def value(self, v: int) -> Value:
        """The value of a buffer."""
        d = self.description
        b = d.buffer(v)
        root = d.buffer(b.root)
        if root.data is not None:
            return self._constant(v, b, root)
        place = self.places.get(b.root)
        if place is None:
            assert not self.is_local(b.root) or b.root < d.n_in, f"buffer {v} is read before it is written"
            place = self._memory(b.root)
        if b.root == v:
            return place
        return part_of(place, b.shift, b.dtype, b.shape)

    def _constant(self, v: int, b: Buffer, root: Buffer) -> Value:
        name = f"const{v}{self.name}"
        kind = c_type(b.dtype)
        if root.data or not root.bytes:
            elements = np.frombuffer((root.data or b"")[b.shift : b.shift + b.bytes], b.dtype)
            if b.size and (elements.view(f"V{b.dtype.itemsize}") == elements.view(f"V{b.dtype.itemsize}")[0]).all():
                return Value(literal(elements[0]), b.dtype, b.shape, True)
            text = f"static const {kind} {name}[{max(b.size, 1)}] = {{{', '.join(map(literal, elements)) or '0'}}};"
        else:
            text = f"const {kind} *const {name} = (const {kind} *)s->constant({self.program}, {b.root})"
            text += f" + {b.shift // b.dtype.itemsize};" if b.shift else ";"
        if text not in self.text.top:
            self.text.top.append(text)
        return Value(name, b.dtype, b.shape, False)

    def _memory(self, v: int) -> Value:
        """A root in the arena, an input or an output."""
        b = self.description.buffer(v)
        if not self.frame or not (v < self.description.n_in or b.offset >= 0 or b.output >= 0):
            raise Unwritten
        is_input = v < self.description.n_in and b.offset < 0
        if b.offset >= 0:
            address = f"f->arena + {b.offset}"
        else:
            address = f"f->address[{v if is_input else self.description.n_in + b.output}]"
        kind = f"const {c_type(b.dtype)}" if is_input else c_type(b.dtype)
        name = self.variable(v)
        if is_input and b.size == 1:
            self.text.top.append(f"{kind} {name} = *({kind} *){address};")
        else:
            self.text.top.append(f"{kind} *const {name} = ({kind} *)({address});")
        self.places[v] = Value(name, b.dtype, b.shape, is_input and b.size == 1)
        return self.places[v]

    def is_single(self, v: int) -> bool:
        """Whether all elements of a buffer are one number."""
        b = self.description.buffer(v)
        return b.size == 1 or (self.description.buffer(b.root).data is not None and self.value(v).single)

    def is_used(self, v: int) -> bool:
        """Whether any step reads a buffer, or part of its memory."""
        d = self.description
        return any(u >= 0 and d.root(u) == v for step in d.steps for u in step.operands)

    def is_local(self, v: int) -> bool:
        low, high = self.extent[self.description.root(v)]
        return self.description.root(v) not in self.shared and high - low <= LOCAL_BYTES

    def result(self, v: int) -> Value:
        """Where a step writes its result: a local array, which is declared here unless it was before, or memory."""
        b = self.description.buffer(v)
        if b.root not in self.places and self.is_local(v):
            self._declare(b.root)
        return self.value(v)

    def _declare(self, v: int) -> None:
        b, (low, high) = self.description.buffer(v), self.extent[v]
        name, kind, itemsize = self.variable(v), c_type(b.dtype), b.dtype.itemsize
        self.text.stack += high - low
        if self.text.stack > STACK_BYTES:
            raise Unwritten
        if b.dtype == np.uint8 and b.size != 1:  # the block of results of a loop or branch
            self.text.line(f"_Alignas(64) uint8_t {name}[{high}];")
        elif high - low == itemsize:
            self.text.line(f"{kind} {name};")
        elif low == 0:
            self.text.line(f"{kind} {name}[{high // itemsize}];")
        else:
            self.text.line(f"{kind} whole_{name}[{(high - low) // itemsize}];")
            self.text.line(f"{kind} *const {name} = whole_{name} + {-low // itemsize};")
        self.places[v] = Value(name, b.dtype, b.shape, high - low == itemsize)

    def define(self, step: Step, expression: str) -> None:
        """Give a step's result of a single element its value."""
        v, expression = step.y, self.separate(step, expression)
        b = self.description.buffer(v)
        local = b.root == v and v not in self.places and self.is_local(v) and self.writers[v] == 1
        if local and self.extent[v] == (0, b.dtype.itemsize):
            self.text.line(f"const {c_type(b.dtype)} {self.variable(v)} = {expression};")
            self.places[v] = Value(self.variable(v), b.dtype, b.shape, True)
        else:
            self.text.line(f"{self.result(v).at('0')} = {expression};")

    def operand(self, step: Step, k: int) -> Value:
        if step.operands[k] < 0:
            raise Unwritten
        return self.value(step.operands[k])

    # ---- steps ---------------------------------------------------------------------------------------------------
    def write(self) -> None:
        """Write all steps; those of a program that turn out to be unwritten are noted in `failed`."""
        from .steps import ElementLoop, write_step

        run = ElementLoop(self)
        for group in self.description.groups():
            steps = [self.description.steps[k] for k in group]
            if steps[0].late:
                break
            if group[0] in self.interpreted:
                run.end()
                self._interpret(group[0])
                continue
            before = len(self.text.lines)
            try:
                if len(group) > 1:
                    run.end()
                for k, step in zip(group, steps):
                    if not run.takes(step):
                        run.end()
                        if not run.takes(step):
                            if len(group) > 1:
                                raise Unwritten
                            write_step(self, k, step)
                if len(group) > 1:
                    run.end()
            except Unwritten:
                self.failed[group[0]] = steps[0].name
                run.forget()
                del self.text.lines[before:]
                if not self.frame:
                    raise
                self.shared |= {self.description.root(step.y) for step in steps}  # so that the rest can be tried
        run.end()
        self.text.n_steps += len(self.description.steps)

    def _interpret(self, k: int) -> None:
        self.text.line(f"if ((status = s->run_step(f, {k}))) return status; /* {self.description.steps[k].name} */")


# Rows whose value is no product, and rows that only multiply and divide their operands.
_NO_PRODUCTS = {"add", "subtract", "divide", "reciprocal", "sqrt", "rint", "floor", "ceil", "trunc", "sign"}
_NO_SUMS = {"multiply", "divide", "square", "reciprocal", "sqrt"}


def is_no_product(step: Step) -> bool:
    return step.by_input is None and step.name in _NO_PRODUCTS


def is_no_sum(step: Step) -> bool:
    return (step.by_input is None and step.name in _NO_SUMS) or step.name == "multiply"


def part_of(place: Value, shift: int, dtype: np.dtype, shape: tuple[int, ...]) -> Value:
    """Elements of a place from a byte on, as an array of their own."""
    size = math.prod(shape)
    if dtype == place.dtype:
        if place.single:
            return Value(place.text, dtype, shape, True)
        start = shift // dtype.itemsize
        if size == 1:
            return Value(f"{place.text}[{start}]", dtype, shape, True)
        return Value(f"({place.text} + {start})" if start else place.text, dtype, shape, False)
    pointer = f"({c_type(dtype)} *)({place.address} + {shift})" if shift else f"({c_type(dtype)} *){place.address}"
    return Value(f"*{pointer}" if size == 1 else f"({pointer})", dtype, shape, size == 1)


def c_source(program: Program) -> Source:
    """The C text for a program."""
    description, interpreted = Description(program), set[int]()
    while True:
        text = Text()
        scope = Scope(text, description, "", True, interpreted)
        scope.write()
        if not scope.failed:
            break
        interpreted = interpreted | scope.failed.keys()
    names = [description.steps[k].name for k in sorted(interpreted)]
    late = any(step.late for step in description.steps)
    prologue = ["    " + line for line in text.top]
    if interpreted or late:
        prologue.append("    s->bind(f);")
    if interpreted or text.bodies:
        prologue.insert(0, "    int status = 0;")
    if not any("s->" in line for line in prologue + text.lines):
        prologue.append("    (void)s;")
    lines = [_HEAD.format(functions="".join(text.functions)) + "\n".join(_unique(prologue)), "", *text.lines]
    lines += ["    return 0;", "}", ""]
    return Source(_comment(program) + "\n".join(lines), text.n_steps - len(interpreted), names)


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _comment(program: Program) -> str:
    facts = program.facts
    return (
        f"/* A program of fastgrad: {facts['inputs']} inputs, {facts['outputs']} outputs, "
        f"{facts['instructions']} steps. Written by Program.c_source for {_core.isa()}. */\n"
    )
