"""Where the values of a program are in its C text, and the lines of that text.

What only the text reads and writes is a local variable, which the compiler keeps in a register or on the stack; all
else is where the interpreter has it: in the arena, in inputs and outputs.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from .. import _core
from .._core import Program
from .compiler import include_directory
from .description import Buffer, Description, Step
from .limits import CONSTANT_BYTES
from .values import Value, c_type, declaration, literal, suffix

LOCAL_BYTES = 2048  # larger values of a program are in the arena
STACK_BYTES = 1 << 16  # all local variables of a program take no more
ALIGN = 64  # results of a loop or branch are at multiples of this, and further apart (room in control_flow.c)
INLINED = 8  # a function of vecmath.h that more statements call than this is not made part of each, nor a very long one


@functools.cache
def very_long() -> set[str]:
    """The rows whose functions are marked as such in csrc/kernels/vecmath.h."""
    return set(re.findall(r"#define VM_LONG_(\w+)", (include_directory() / "kernels" / "vecmath.h").read_text()))


class Unwritten(Exception):
    """A step that is left to the interpreter, or, where there is none, cannot be exported."""


StepWriter = Callable[["Scope", int, Step], None]
Path = tuple[tuple[int, int], ...]  # to a body: steps that run bodies, from the program's on, and which of theirs


class Text:
    """The lines of a function, and what its parts share: numbers for names, and declarations at its top."""

    def __init__(
        self,
        write_steps: Callable[[Scope], None],
        writers: Mapping[str, StepWriter],
        interpreted: Mapping[Path, set[int]] | None = None,
    ) -> None:
        self.interpreted = interpreted or {}  # of the program and its bodies: the groups that the interpreter runs
        self.failed: dict[Path, dict[int, Step]] = {}  # groups that turned out to be unwritten, and their first steps
        self.write_steps = write_steps  # of a body, too
        self.writers = writers  # of steps that are no maps, by the names of their operations
        self.lines: list[str] = []
        self.top: list[str] = []
        self.includes: list[str] = []  # headers beside those of every program
        self.functions: list[str] = []  # before the function itself
        self.depth = 1
        self.bodies = 0  # how many have been written
        self.stack = 0  # bytes of local arrays
        self.n_steps = self.n_all = 0  # that are written out, and all
        self.unwritten = ""  # the operation of the step for which Unwritten was raised first

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text if text else "")

    def include(self, header: str) -> None:
        if header not in self.includes:
            self.includes.append(header)

    def define(self, function: str) -> None:
        if function not in self.functions:
            self.functions.append(function)

    def declare(self, text: str) -> None:
        """A declaration at the top of the function, once."""
        if text not in self.top:
            self.top.append(text)

    def open(self, text: str) -> None:
        self.line(text)
        self.depth += 1

    def close(self, text: str = "}") -> None:
        self.depth -= 1
        self.line(text)


class Scope:
    """A program, or a body, as part of a function: its values by the numbers of their buffers."""

    constant_bytes = CONSTANT_BYTES
    is_alone = False  # whether there is neither an interpreter nor a kernel to be called (standalone.py)

    def __init__(
        self,
        text: Text,
        description: Description,
        name: str = "",
        around: tuple[Scope, int, int] | None = None,
    ) -> None:
        self.text, self.description = text, description
        self.name = name  # what names of this body end with
        self.around = around  # of a body: the scope that it is in, the step that runs it, and which of its bodies it is
        self.path: Path = () if around is None else (*around[0].path, around[1:])
        self.interpreted = text.interpreted.get(self.path, set())  # the first steps of groups that are not written out
        self.written: set[int] = set()  # steps that are written already (ahead.py)
        self.iteration = ""  # of a loop's body: the number of the iteration, if a step may fail
        self.places: dict[int, Value] = {}  # of roots
        self.constants: dict[int, int] = {}  # of a body's inputs: the buffers of the scope around that they are
        self.pointers: dict[int, Callable[[], str]] = {}  # of inputs that are a number here: to their elements
        self._count_uses()

    def frame(self) -> str:
        """What points to the frame of the program or body."""
        if self.around is None:
            return "f"
        scope, k, i = self.around
        self.text.declare(f"fg_frame f{self.name}[1];")
        self.text.declare(f"s->enter({scope.frame()}, {k}, {i}, f{self.name});")
        return f"f{self.name}"

    def may_fail(self) -> bool:
        """Whether the interpreter runs a step of the body, or of one within it, or one refuses matrices."""
        n = len(self.path)
        return any(path[:n] == self.path and groups for path, groups in self.text.interpreted.items()) or (
            not self.is_alone and _refuses(self.description.program)
        )

    def failure(self) -> str:
        """The status of a step that has failed, which tells the iterations of all loops around it."""
        told, scope = "status", self
        while scope.around is not None:
            if scope.iteration:
                told = f"s->in_step({told}, {scope.iteration})"
            scope = scope.around[0]
        return told

    def refuse_index(self, name: str, index: str, at: str, length: int) -> str:
        """The statement that ends the replay where an index is out of range, with the interpreter's error."""
        return f'return s->outside("{name}", {index}, {at}, {length});'

    # ---- where values are ----------------------------------------------------------------------------------------
    def _count_uses(self) -> None:
        d = self.description
        self.writers: dict[int, int] = {}  # how many steps write a root
        self.shared: set[int] = set()  # roots that the interpreter, or what runs the program, reads or writes
        self.extent: dict[int, tuple[int, int]] = {}  # the bytes of a root and of all that is part of its memory
        for group in self.groups():
            for k in group:
                step = d.steps[k]
                root = d.root(step.y)
                self.writers[root] = self.writers.get(root, 0) + 1
                if group[0] in self.interpreted or step.late:
                    self.shared |= {d.root(v) for v in (step.y, *step.operands) if v >= 0}
        self.readers: dict[int, list[int]] = {}  # the steps that read a root
        self.statements = Counter(step.op for step in d.steps if d.buffer(step.y).size == 1)  # by operation
        for k, step in enumerate(d.steps):
            for v in step.operands:
                if v >= 0:
                    self.readers.setdefault(d.root(v), []).append(k)
        for v, b in enumerate(d.buffers):
            if b is not None:
                low, high = self.extent.get(b.root, (0, 0))
                self.extent[b.root] = min(low, b.shift), max(high, b.shift + b.bytes)
                if self.around is None and (b.kept or b.output >= 0) and b.root == v:
                    self.shared.add(v)
        if self.around is None:
            self.shared |= {d.root(v) for v in d.outs}
        # Roots that another step may add something to, or that leave a body, where that may happen.
        self.summed = {d.root(v) for s in d.steps if not is_no_sum(s) for v in s.operands if v >= 0}
        if self.around is not None:
            self.summed |= {d.root(v) for v in d.outs}

    def separate(self, step: Step, expression: str, lanes: bool = False) -> str:
        """The expression for a step's result; hidden from the compiler if that could fuse it with another step's sum
        (SEPARATE in csrc/kernels/rows.h)."""
        b = self.description.buffer(step.y)
        if b.root not in self.summed or b.dtype.kind != "f" or is_no_product(step):
            return expression
        if lanes:
            self.text.declare("const uint64_t no_bits = NO_BITS;")
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
            if b.root >= d.n_in and b.root not in self.writers:
                raise Unwritten  # a constant whose elements change: the state of a generator
            assert not self.is_local(b.root) or b.root < d.n_in, f"buffer {v} is read before it is written"
            place = self._memory(b.root)
        if b.root == v:
            return place
        return part_of(place, b.shift, b.dtype, b.shape)

    def _constant(self, v: int, b: Buffer, root: Buffer) -> Value:
        name = f"const{v}{self.name}"
        kind = c_type(b.dtype)
        if root.data or not root.bytes:
            data = root.data or b""
            if len(data) < root.bytes and b.dtype == root.dtype:  # all elements are equal to this one
                return Value(literal(np.frombuffer(data, b.dtype)[0]), b.dtype, b.shape, True)
            elements = np.frombuffer(data[b.shift : b.shift + b.bytes], b.dtype)
            if b.size and (elements.view(f"V{b.dtype.itemsize}") == elements.view(f"V{b.dtype.itemsize}")[0]).all():
                return Value(literal(elements[0]), b.dtype, b.shape, True)
            numbers = ", ".join(map(literal, elements)) or "0"
            text = f"static const {declaration(b.dtype, name, max(b.size, 1))} = {{{numbers}}};"
        else:
            text = f"const {kind} *const {name} = {self._constant_address(v)};"
        self.text.declare(text)
        return Value(name, b.dtype, b.shape, False)

    def _constant_address(self, v: int) -> str:
        b = self.description.buffer(v)
        start = f" + {b.shift // b.dtype.itemsize}" if b.shift else ""
        return f"(const {c_type(b.dtype)} *)s->constant({self.frame()}, {b.root}){start}"

    def pointer(self, v: int) -> str:
        """What points to the elements of a buffer, all of which are in memory."""
        b = self.description.buffer(v)
        if self.description.buffer(b.root).data is not None:
            name = f"at{v}{self.name}"
            self.text.declare(f"const {c_type(b.dtype)} *const {name} = {self._constant_address(v)};")
            return name
        if b.root in self.pointers:
            return f"({self.pointers[b.root]()} + {b.shift // b.dtype.itemsize})"
        return self.value(v).address

    def _memory(self, v: int) -> Value:
        """A root in the arena, an input or an output."""
        b = self.description.buffer(v)
        if b.offset >= 0:
            self.places[v] = self.arena(v)
            return self.places[v]
        if self.around is not None or not (v < self.description.n_in or b.output >= 0):
            raise Unwritten
        is_input = v < self.description.n_in
        address = f"f->address[{v if is_input else self.description.n_in + b.output}]"
        kind = f"const {c_type(b.dtype)}" if is_input else c_type(b.dtype)
        name = self.variable(v)
        if is_input and b.size == 1:
            self.text.declare(f"{kind} {name} = *({kind} *){address};")
        else:
            self.text.declare(f"{kind} *const {name} = ({kind} *)({address});")
        self.places[v] = Value(name, b.dtype, b.shape, is_input and b.size == 1)
        return self.places[v]

    def arena(self, v: int) -> Value:
        """A root in the arena."""
        b, name = self.description.buffer(v), f"{'a' * (v < self.description.n_in)}v{v}{self.name}"
        kind = c_type(b.dtype)
        self.text.declare(f"{kind} *const {name} = ({kind} *)({self.frame()}->arena + {b.offset});")
        return Value(name, b.dtype, b.shape, False)

    def is_single(self, v: int) -> bool:
        """Whether all elements of a buffer are one number."""
        b = self.description.buffer(v)
        return b.size == 1 or (self.description.buffer(b.root).data is not None and self.value(v).single)

    def is_used(self, v: int) -> bool:
        """Whether any step reads a buffer, or part of its memory."""
        return v in self.readers

    def function(self, step: Step, in_lanes: bool = False) -> str:
        """The name of the function that computes a row or its derivative. One that is long, and called in many
        statements, is called through one that the compiler does not make part of each."""
        b = self.description.buffer(step.y)
        unary, by = _core.ROWS[step.name]["arity"] == 1, step.by_input
        name = f"{step.name}{'' if by is None else '_vjp' if unary else ('_da', '_db')[by]}_{suffix(b.dtype)}"
        if b.size > 1 or in_lanes or not self.calls(step):
            return name
        if self.statements[step.op] <= INLINED and step.name not in very_long():
            return name
        kind = c_type(b.dtype)
        letters = ("x" if unary else "ab") + ("" if by is None else "yg")
        parameters = ", ".join(f"{kind} {letter}" for letter in letters)
        self.text.define(
            f"static __attribute__((noinline)) {kind} called_{name}({parameters})\n"
            f"{{\n    return {name}({', '.join(letters)});\n}}\n\n"
        )
        return f"called_{name}"

    @staticmethod
    def calls(step: Step) -> bool:
        """Whether a row or its derivative is computed by functions."""
        row, by = _core.ROWS[step.name], step.by_input
        text = row["definition"] if by is None else row["derivatives"][by if row["arity"] == 2 else 0]
        return re.search(r"\w\(", text) is not None

    def is_in_arena(self, v: int) -> bool:
        """Whether the memory of a root is where the arena's plan has it, which other roots may have, too."""
        b = self.description.buffer(v)
        return b.offset >= 0 and not b.blockwise and not self.is_local(v)

    def is_private(self, v: int) -> bool:
        """Whether a result that is read within one loop only need not be stored."""
        return v not in self.shared

    def block(self, k: int, step: Step) -> Block:
        """Where the results of a loop or branch go."""
        return Block(self, k, step)

    def groups(self) -> list[range]:
        """The steps that are written together."""
        return self.description.groups()

    def release(self, before: int) -> None:
        """All steps before this one are written."""

    def array(self, name: str, b: Buffer) -> Value:
        """A variable of a loop that is an array."""
        if not b.size:
            raise Unwritten
        self.text.stack += b.bytes
        self.text.line(f"{declaration(b.dtype, name, b.size)};")
        return Value(name, b.dtype, b.shape, False)

    def fits(self, n_bytes: int, most: int = LOCAL_BYTES) -> bool:
        """Whether a variable may be a local array."""
        return n_bytes <= most and self.text.stack + n_bytes <= STACK_BYTES

    def is_in_loop(self) -> bool:
        """Whether this is the body of a loop, or within one."""
        if self.around is None:
            return False
        outer, k, _ = self.around
        return outer.description.steps[k].name != "cond" or outer.is_in_loop()

    def before_loops(self, v: int) -> Value | None:
        """A buffer as the top of the function can name it, if that is possible: if it is a constant, or an input of the
        program, which does not change."""
        scope, root = self, self.description.root(v)
        while scope.around is not None and scope.description.buffer(root).data is None:
            if root not in scope.constants:
                return None
            outer = scope.around[0]
            scope, root = outer, outer.description.root(scope.constants[root])
        is_input = root < scope.description.n_in and root not in scope.writers
        return self.value(v) if is_input or scope.description.buffer(root).data is not None else None

    def is_local(self, v: int) -> bool:
        low, high = self.extent[self.description.root(v)]
        return self.description.root(v) not in self.shared and high - low <= LOCAL_BYTES

    def result(self, v: int) -> Value:
        """Where a step writes its result: a local array, which is declared here unless it was before, or memory."""
        b = self.description.buffer(v)
        if b.root not in self.places and self.is_local(v):
            low, high = self.extent[b.root]
            if self.text.stack + high - low <= STACK_BYTES:
                self._declare(b.root)
            elif self.around is None or self.description.buffer(b.root).offset >= 0:
                self.shared.add(b.root)
            else:
                raise Unwritten
        return self.value(v)

    def _declare(self, v: int) -> None:
        b, (low, high) = self.description.buffer(v), self.extent[v]
        name, kind, itemsize = self.variable(v), c_type(b.dtype), b.dtype.itemsize
        self.text.stack += high - low
        if b.dtype == np.uint8 and b.size != 1:  # the block of results of a loop or branch
            self.text.line(f"_Alignas(64) uint8_t {name}[{high}];")
        elif high - low == itemsize:
            self.text.line(f"{kind} {name};")
        elif low == 0:
            self.text.line(f"{declaration(b.dtype, name, high // itemsize)};")
        else:
            self.text.line(f"{declaration(b.dtype, f'whole_{name}', (high - low) // itemsize)};")
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

    def fail(self, group: range) -> None:
        """Note a group that is left to the interpreter; its results are in memory, so that the rest can be tried."""
        self.text.failed.setdefault(self.path, {})[group[0]] = self.description.steps[group[0]]
        for v in {self.description.root(self.description.steps[k].y) for k in group}:
            b = self.description.buffer(v)
            self.shared.add(v)
            if b.offset < 0 and self.around is not None:  # which memory that is, is decided before a body is written
                self.places.setdefault(v, Value("undecided", b.dtype, b.shape, False))

    def operand(self, step: Step, k: int) -> Value:
        if step.operands[k] < 0:
            raise Unwritten
        return self.value(step.operands[k])


class Block:
    """The results of a loop or branch, which the interpreter has in one block of bytes."""

    def __init__(self, scope: Scope, k: int, step: Step) -> None:
        self.program, self.k, self.place = scope.description.program, k, scope.result(step.y)

    def array(self, j: int, b: Buffer, rows: int, first: int = 0) -> str:
        """A pointer to so many rows like a buffer, which are result j from row `first` on."""
        offset = self.program.result_offset(self.k, j) - first * b.bytes
        return f"({c_type(b.dtype)} *)({self.place.address} + {offset})"

    def second_array(self, j: int, b: Buffer) -> str:
        """A pointer to the second of the two buffers of result j, a carried value."""
        offset = self.program.result_offset(self.k, j) + b.bytes // ALIGN * ALIGN + ALIGN
        return f"({c_type(b.dtype)} *)({self.place.address} + {offset})"

    def final(self, j: int, like: Value) -> Value:
        """Where result j is, which is like this value."""
        return part_of(self.place, self.program.result_offset(self.k, j), like.dtype, like.shape)


_MAY_REFUSE = {_core.OP_NAMES.index(name) for name in ("cholesky", "factor", "solve", "solve_triangular")}


def _refuses(program: Program) -> bool:
    """Whether a step of a program, or of a body in it, may refuse a matrix."""
    steps = program.steps()
    return any(step[0] in _MAY_REFUSE for step in steps) or any(
        _refuses(body) for k in range(len(steps)) for body in program.bodies(k)
    )


# Rows whose value is no product, and rows that only multiply and divide their operands.
_NO_PRODUCTS = {"add", "subtract", "divide", "reciprocal", "sqrt", "rint", "floor", "ceil", "trunc", "sign"}
_NO_PRODUCTS |= {"broadcast_to", "transpose", "slice", "concatenate", "unslice", "take"}
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
    if place.dtype.itemsize != 1:
        raise Unwritten
    pointer = f"({c_type(dtype)} *)({place.address} + {shift})" if shift else f"({c_type(dtype)} *){place.address}"
    return Value(f"*{pointer}" if size == 1 else f"({pointer})", dtype, shape, size == 1)
