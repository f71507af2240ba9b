"""Loops and branches as C: scan, while_loop (fori_loop is a scan) and cond.

The results go where the interpreter would have written them (csrc/program/control_flow.c): into one block of bytes. The
body's constants are the operands themselves; what it carries is in variables, or, if it is large, in the block; its
rows are read and written in place. A step of the body that the interpreter runs finds its operands where the body's
replay has them: small ones are copied there, of others it is told the address.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .ahead import Ahead
from .description import Buffer, Description, Step
from .scope import Block, Scope
from .values import Value, c_type

_PAUSE = 1e6  # nanoseconds of the interpreter's between two pauses


class _Body:
    """A body, and what the interpreter is told of its inputs and outputs."""

    def __init__(self, scope: Scope, k: int, i: int) -> None:
        """Body i of step k, whose inputs are still to be set."""
        scope.text.bodies += 1
        self.description = Description(scope.description.program.bodies(k)[i], scope.constant_bytes)
        self.scope = type(scope)(scope.text, self.description, f"_{scope.text.bodies}", (scope, k, i))
        self.name, self.outs = self.scope.name, self.description.outs
        self.placed: set[int] = set()  # outputs that are written where the loop or branch says
        self._has_told = False  # an address, since the last bind

    def value(self, j: int) -> Value:
        """Output j."""
        return self.scope.value(self.outs[j])

    def buffer(self, j: int) -> Buffer:
        """The memory of output j."""
        return self.description.buffer(self.description.root(self.outs[j]))

    def constant(self, i: int, outer: Scope, v: int) -> None:
        """Let input i be buffer v of the scope around."""
        self.scope.constants[i] = v
        self.scope.places[i] = outer.value(v)._replace(shape=self.description.buffer(i).shape)
        self.scope.pointers[i] = lambda: outer.pointer(v)
        self.hand_over(i)

    def hand_over(self, i: int) -> None:
        """Let the interpreter have the present value of input i, if it runs a step that reads it."""
        scope = self.scope
        if scope.is_alone or i not in scope.shared:
            return
        if self.description.buffer(i).offset < 0:
            self._tell(i, scope.pointers[i]() if i in scope.pointers else scope.places[i].address)
        else:
            _copy(scope, scope.arena(i), scope.places[i])

    def adds_to(self, i: int) -> bool:
        """Whether a product is added to input i, which is carried, in its place (fg_program_in_place)."""
        products = [s for s in self.description.steps if s.name == "matmul" and len(s.operands) == 3]
        return not self.scope.is_alone and any(s.operands[2] == i for s in products)

    def changes(self, i: int) -> bool:
        """Whether the interpreter may change input i, which is carried, in its place."""
        return not self.scope.is_alone and i in self.scope.shared and i in self.scope.writers

    def needs_place(self, j: int) -> bool:
        """Whether output j is no variable of the text's, and in no arena."""
        b = self.buffer(j)
        return b.offset < 0 and b.output == j and not self.scope.is_local(b.root)

    def place(self, j: int, pointer: str) -> None:
        """Let the body write output j there."""
        b = self.buffer(j)
        self.scope.places[b.root] = Value(pointer, b.dtype, b.shape, False)
        self.placed.add(j)
        if not self.scope.is_alone and b.root in self.scope.shared:
            self._tell(self.description.n_in + j, pointer)

    def _tell(self, number: int, pointer: str) -> None:
        self.scope.text.line(f"{self.scope.frame()}->address[{number}] = (void *)({pointer});")
        self._has_told = True

    def bind(self, first: int = 0) -> None:
        """Let the interpreter take in the addresses of inputs from `first` on, and of outputs, if any has changed."""
        if self._has_told:
            self.scope.text.line(f"s->bind({self.scope.frame()}, {first});")
        self._has_told = False

    def write(self) -> None:
        self.scope.text.write_steps(self.scope)


def _copy(scope: Scope, to: Value, value: Value) -> None:
    """to = value"""
    if to.text == value.text:
        return
    if to.size == 1:
        scope.text.line(f"{to.at('0')} = {value.at('0')};")
    else:
        scope.text.line(f"for (int64_t i = 0; i < {to.size}; i++) {to.at('i')} = {value.at('i')};")


def _store(scope: Scope, pointer: str, row: str, value: Value) -> None:
    """Write a value into row `row` of the array at a pointer."""
    if value.size == 1:
        scope.text.line(f"{pointer}[{row}] = {value.at('0')};")
    elif value.size:
        index = f"({row}) * {value.size} + i"
        scope.text.line(f"for (int64_t i = 0; i < {value.size}; i++) {pointer}[{index}] = {value.at('i')};")


def _pause(scope: Scope, work: float) -> Callable[[], None]:
    """Declare a count, before a loop. What is returned writes the pause that belongs at the end of an iteration."""
    if scope.is_alone:
        return lambda: None
    every = max(1, int(_PAUSE / (work + 10)))
    name = f"left{scope.name}"
    scope.text.line(f"int64_t {name} = {every};")

    def write() -> None:
        scope.text.open(f"if (!--{name}) {{")
        scope.text.line("if ((status = s->pause())) return status;")
        scope.text.line(f"{name} = {every};")
        scope.text.close()

    return write


class _Carried:
    """Value j that a loop carries, input i of its body. An iteration reads the present value and makes the next one.

    A small one is a variable. A large one is read in one part of the block and written to another: to the next row of
    its stack, if it has one, or to the second of two buffers, which change their roles after each iteration. A product
    may be added to the present value in its place.
    """

    def __init__(self, body: _Body, i: int, j: int, first: Value, block: Block, stack: str) -> None:
        """To be made before the loop."""
        self.body, self.i, self.j, self.block, self.stack = body, i, j, block, stack
        scope, b = body.scope, body.description.buffer(i)
        self.size, self.kind = b.size, c_type(b.dtype)
        self.moves = not (scope.is_alone or b.size == 1 or scope.fits(b.bytes))
        self.in_place = body.adds_to(i)
        self.now = f"carry{j}{body.name}"
        self.next = self.now if self.in_place else f"next{j}{body.name}"
        at_now = Value(self.now, b.dtype, b.shape, False)
        if self.moves and not stack:
            scope.text.line(f"{self.kind} *{self.now} = {block.array(j, b, 1)};")
            if not self.in_place:
                scope.text.line(f"{self.kind} *{self.next} = {block.second_array(j, b)};")
            _copy(scope, at_now, first)
        elif body.changes(i) and b.offset >= 0:
            at_now = scope.arena(i)
            _copy(scope, at_now, first)
        elif b.size == 1:
            scope.text.line(f"{self.kind} {self.now} = {first.at('0')};")
            at_now = at_now._replace(single=True)
        elif not self.moves:
            at_now = scope.array(self.now, b)
            _copy(scope, at_now, first)
        scope.places[i] = at_now
        if not self.moves and b.offset < 0:
            body.hand_over(i)
        if not (self.moves or scope.is_alone) and body.needs_place(j):
            body.place(j, self.next if self.in_place else scope.array(self.next, body.buffer(j)).text)

    def begin(self, row: str, next_row: str) -> None:
        """At the beginning of an iteration, which reads this row of the stack and writes that one."""
        text, body = self.body.scope.text, self.body
        if self.moves and self.stack:
            text.line(f"{self.kind} *const {self.now} = {self.stack} + ({row}) * {self.size};")
            text.line(f"{self.kind} *const {self.next} = {self.stack} + ({next_row}) * {self.size};")
        if self.moves:
            body.hand_over(self.i)
            if body.needs_place(self.j):
                body.place(self.j, self.next)
        elif body.description.buffer(self.i).offset >= 0 and not body.changes(self.i):
            body.hand_over(self.i)

    def leave(self) -> None:
        """At the end of an iteration, before any carried value changes."""
        if self.moves and self.j not in self.body.placed:
            value = self.body.value(self.j)
            _copy(self.body.scope, value._replace(text=self.next, single=False), value)

    def end(self, next_row: str) -> None:
        """After that: the next value becomes the present one."""
        text = self.body.scope.text
        if not self.moves:
            _copy(self.body.scope, self.body.scope.places[self.i], self.body.value(self.j))
            if self.stack:
                _store(self.body.scope, self.stack, next_row, self.body.scope.places[self.i])
        elif not self.stack and not self.in_place:
            swapped = f"last{self.j}{self.body.name}"
            text.line(f"{self.kind} *const {swapped} = {self.now};")
            text.line(f"{self.now} = {self.next};")
            text.line(f"{self.next} = {swapped};")

    def finish(self) -> None:
        """After the loop: the last value is a result."""
        scope, value = self.body.scope, self.body.scope.places[self.i]
        if self.stack:
            return
        result = self.block.final(self.j, value)
        if self.moves:
            scope.text.line(f"if ({self.now} != {result.address})")
            scope.text.depth += 1
            _copy(scope, result, value)
            scope.text.depth -= 1
        else:
            _copy(scope, result, value)


def _scan(scope: Scope, k: int, step: Step) -> None:
    _, length, reverse, n_constants, n, stacked = step.attr
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    block, body = scope.block(k, step), _Body(scope, k, 0)
    d, text, name = body.description, scope.text, body.name
    text.open("{")
    for i in range(n_constants):
        body.constant(i, scope, step.operands[i])
    carried = []
    for j, first in enumerate(values[n_constants : n_constants + n]):
        stack, b = "", d.buffer(n_constants + j)
        if stacked:
            stack = f"stack{j}{name}"
            at = block.array(j, b, length + 1, 0 if reverse else length)
            text.line(f"{c_type(b.dtype)} *const {stack} = {at};")
            _store(body.scope, stack, str(length if reverse else 0), first)
        carried.append(_Carried(body, n_constants + j, j, first, block, stack))
    outputs = {}
    for j in range(n, len(d.outs)):
        outputs[j], b = f"rows{j}{name}", d.buffer(d.outs[j])
        text.line(f"{c_type(b.dtype)} *const {outputs[j]} = {block.array(j, b, length)};")
    body.bind()
    pause = _pause(body.scope, d.program.work)
    ahead = Ahead(body.scope, range(n_constants + n, d.n_in), length)
    if ahead:
        text.open(f"for (int64_t from{name} = 0; from{name} < {length}; from{name} += {ahead.block}) {{")
        text.line(
            f"const int64_t n{name} = {length} - from{name} < {ahead.block} ? {length} - from{name} : {ahead.block};"
        )
        ahead.write(values, f"{length - 1} - (from{name} + i)" if reverse else f"from{name} + i")
        text.open(f"for (int64_t i{name} = 0; i{name} < n{name}; i{name}++) {{")
        text.line(f"const int64_t t{name} = from{name} + i{name};")
    else:
        text.open(f"for (int64_t t{name} = 0; t{name} < {length}; t{name}++) {{")
    row = body.scope.iteration = f"row{name}" if reverse else f"t{name}"
    came, went = (f"{row} + 1", row) if reverse else (row, f"{row} + 1")
    start = len(text.lines)
    if reverse:
        text.line(f"const int64_t {row} = {length - 1} - t{name};")
    for c in carried:
        c.begin(came, went)
    for i in filter(body.scope.is_used, range(n_constants + n, d.n_in)):
        _row(body, i, values[i], row, scope, step.operands[i])
    for j in filter(body.needs_place, outputs):
        text.line(f"{c_type(body.buffer(j).dtype)} *const out{j}{name} = {outputs[j]} + {row} * {body.buffer(j).size};")
        body.place(j, f"out{j}{name}")
    body.bind(n_constants)
    body.write()
    for j, output in outputs.items():
        if j not in body.placed:
            _store(body.scope, output, row, body.value(j))
    _end_iteration(carried, went)
    pause()
    if reverse and not any(re.search(rf"\b{row}\b", line) for line in text.lines[start + 1 :]):
        del text.lines[start]  # strict compilers warn of a variable that nothing reads
    text.close()
    if ahead:
        text.close()
    for c in carried:
        c.finish()
    text.close()


def _end_iteration(carried: list[_Carried], next_row: str = "") -> None:
    for c in carried:
        c.leave()
    for c in carried:
        c.end(next_row)


def _row(body: _Body, i: int, value: Value, row: str, outer: Scope, v: int) -> None:
    """Let input i be a row of buffer v of the scope around."""
    scope, b, name = body.scope, body.description.buffer(i), body.scope.variable(i)
    kind = c_type(b.dtype)
    if value.single:
        scope.places[i] = value._replace(shape=b.shape)
        scope.pointers[i] = lambda: f"({outer.pointer(v)} + {row} * {b.size})"
    elif b.size == 1:
        scope.text.line(f"const {kind} {name} = {value.at(row)};")
        scope.places[i] = Value(name, b.dtype, b.shape, True)
    else:
        scope.text.line(f"const {kind} *const {name} = {value.text} + {row} * {b.size};")
        scope.places[i] = Value(name, b.dtype, b.shape, False)
    body.hand_over(i)


def _while_loop(scope: Scope, k: int, step: Step) -> None:
    n_constants = step.attr[2]
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    block, test = scope.block(k, step), _Body(scope, k, 0)
    body = _Body(scope, k, 1)
    text, count = scope.text, ""
    text.open("{")
    if test.scope.may_fail() or body.scope.may_fail():
        count = test.scope.iteration = body.scope.iteration = f"step{body.name}"
        text.line(f"int64_t {count} = 0;")
    for i in range(n_constants):
        test.constant(i, scope, step.operands[i])
        body.constant(i, scope, step.operands[i])
    carried = [_Carried(body, i, i - n_constants, values[i], block, "") for i in range(n_constants, len(values))]
    if test.needs_place(0):
        test.place(0, test.scope.array(f"holds{test.name}", test.buffer(0)).text)
    test.bind()
    body.bind()
    pause = _pause(body.scope, body.description.program.work + test.description.program.work)
    text.open("for (;;) {")
    for i in range(n_constants, len(values)):
        test.scope.places[i] = body.scope.places[i]
        test.hand_over(i)
    test.bind(n_constants)
    test.write()
    text.line(f"if (!{test.value(0).at('0')}) break;")
    for c in carried:
        c.begin("", "")
    body.bind(n_constants)
    body.write()
    _end_iteration(carried)
    if count:
        text.line(f"{count}++;")
    pause()
    text.close()
    for c in carried:
        c.finish()
    text.close()


def _cond(scope: Scope, k: int, step: Step) -> None:
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    block, text = scope.block(k, step), scope.text
    for i, head in enumerate((f"if ({values[0].at('0')}) {{", "else {")):
        text.open(head)
        branch = _Body(scope, k, i)
        for j, v in enumerate(step.operands[1:]):
            branch.constant(j, scope, v)
        for j in filter(branch.needs_place, range(len(branch.outs))):
            b, out = branch.buffer(j), f"out{j}{branch.name}"
            text.line(f"{c_type(b.dtype)} *const {out} = {block.array(j, b, 1)};")
            branch.place(j, out)
        branch.bind()
        branch.write()
        for j in range(len(branch.outs)):
            if j not in branch.placed:
                value = branch.value(j)
                _copy(branch.scope, block.final(j, value), value)
        text.close()


LOOPS: dict[str, Callable[[Scope, int, Step], None]] = {"scan": _scan, "while_loop": _while_loop, "cond": _cond}
