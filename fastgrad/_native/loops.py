"""Loops and branches as C: scan, while_loop (fori_loop is a scan) and cond.

The results go where the interpreter would have written them (csrc/program/control_flow.c): into one block of bytes. The
body's constants are the operands themselves; what it carries is in variables; its rows are read and written in place.
"""

from __future__ import annotations

from collections.abc import Callable

from .description import Description, Step
from .scope import Scope
from .values import Value, c_type

_PAUSE = 1e6  # nanoseconds of the interpreter's between two pauses


def _body(scope: Scope, k: int, i: int) -> Scope:
    """Body i of step k, whose inputs are still to be set."""
    scope.text.bodies += 1
    description = Description(scope.description.program.bodies(k)[i], scope.constant_bytes)
    return type(scope)(scope.text, description, set(), f"_{scope.text.bodies}", (scope, k, i))


def _variable(scope: Scope, v: int, value: Value, text: str) -> Value:
    """A variable for an input of a body, with this value at first."""
    b = scope.description.buffer(v)
    kind = c_type(b.dtype)
    if b.size == 1:
        scope.text.line(f"{kind} {text} = {value.at('0')};")
        return Value(text, b.dtype, b.shape, True)
    made = scope.array(text, b)
    _copy(scope, made, value)
    return made


def _copy(scope: Scope, to: Value, value: Value) -> None:
    """to = value"""
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


def _scan(scope: Scope, k: int, step: Step) -> None:
    _, length, reverse, n_constants, n, stacked = step.attr
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    block, body = scope.block(k, step), _body(scope, k, 0)
    d, text, name = body.description, scope.text, body.name
    rows = range(n_constants + n, d.n_in)
    text.open("{")
    stacks, outputs = {}, {}
    for i in range(n_constants):
        body.places[i] = values[i]._replace(shape=d.buffer(i).shape)
    for j in range(n):
        carried = body.places[n_constants + j] = _variable(
            body, n_constants + j, values[n_constants + j], f"carry{j}{name}"
        )
        if stacked:
            stacks[j] = f"stack{j}{name}"
            first = block.array(j, d.buffer(n_constants + j), length + 1, 0 if reverse else length)
            text.line(f"{c_type(carried.dtype)} *const {stacks[j]} = {first};")
            _store(body, stacks[j], str(length if reverse else 0), carried)
    for j in range(n, len(d.outs)):
        outputs[j] = f"rows{j}{name}"
        b = d.buffer(d.outs[j])
        text.line(f"{c_type(b.dtype)} *const {outputs[j]} = {block.array(j, b, length)};")
    pause = _pause(body, d.program.work)
    text.open(f"for (int64_t t{name} = 0; t{name} < {length}; t{name}++) {{")
    row = f"row{name}"
    if reverse:
        text.line(f"const int64_t {row} = {length - 1} - t{name};")
    else:
        row = f"t{name}"
    for i in filter(body.is_used, rows):
        body.places[i] = _row(body, i, values[i], row)
    for j, out in enumerate(d.outs[n:], n):
        _write_into_rows(body, out, outputs[j], row)
    body.text.write_steps(body)
    for j, out in enumerate(d.outs[n:], n):
        if not body.places[d.root(out)].text.startswith("out_"):
            _store(body, outputs[j], row, body.value(out))
    _carry(body, n_constants, n)
    if stacked:
        for j in range(n):
            _store(body, stacks[j], row if reverse else f"{row} + 1", body.places[n_constants + j])
    pause()
    text.close()
    if not stacked:
        for j in range(n):
            carried = body.places[n_constants + j]
            _copy(body, block.final(j, carried), carried)
    text.close()


def _row(body: Scope, i: int, value: Value, row: str) -> Value:
    """An input that is a row of an operand."""
    b, name = body.description.buffer(i), body.variable(i)
    kind = c_type(b.dtype)
    if value.single:
        return value._replace(shape=b.shape)
    if b.size == 1:
        body.text.line(f"const {kind} {name} = {value.at(row)};")
        return Value(name, b.dtype, b.shape, True)
    body.text.line(f"const {kind} *const {name} = {value.text} + {row} * {b.size};")
    return Value(name, b.dtype, b.shape, False)


def _write_into_rows(body: Scope, out: int, rows: str, row: str) -> None:
    """Let the body write a large output where it belongs."""
    b = body.description.buffer(out)
    if b.root == out and not body.is_local(out):
        body.text.line(f"{c_type(b.dtype)} *const out_{body.variable(out)} = {rows} + {row} * {b.size};")
        body.places[out] = Value(f"out_{body.variable(out)}", b.dtype, b.shape, False)


def _carry(body: Scope, first: int, n: int) -> None:
    """The outputs of an iteration become the inputs of the next one."""
    for j in range(n):
        _copy(body, body.places[first + j], body.value(body.description.outs[j]))


def _while_loop(scope: Scope, k: int, step: Step) -> None:
    n_constants = step.attr[2]
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    block, test = scope.block(k, step), _body(scope, k, 0)
    body = _body(scope, k, 1)
    text, n = scope.text, len(body.description.outs)
    text.open("{")
    for i, value in enumerate(values):
        if i >= n_constants:
            value = _variable(body, i, value, f"carry{i - n_constants}{body.name}")
        body.places[i] = test.places[i] = value._replace(shape=body.description.buffer(i).shape)
    pause = _pause(body, body.description.program.work + test.description.program.work)
    text.open("for (;;) {")
    test.text.write_steps(test)
    text.line(f"if (!{test.value(test.description.outs[0]).at('0')}) break;")
    body.text.write_steps(body)
    _carry(body, n_constants, n)
    pause()
    text.close()
    for j in range(n):
        carried = body.places[n_constants + j]
        _copy(body, block.final(j, carried), carried)
    text.close()


def _cond(scope: Scope, k: int, step: Step) -> None:
    values = [scope.operand(step, j) for j in range(len(step.operands))]
    block, text = scope.block(k, step), scope.text
    for i, head in enumerate((f"if ({values[0].at('0')}) {{", "else {")):
        text.open(head)
        branch = _body(scope, k, i)
        for j, value in enumerate(values[1:]):
            branch.places[j] = value._replace(shape=branch.description.buffer(j).shape)
        branch.text.write_steps(branch)
        for j, out in enumerate(branch.description.outs):
            value = branch.value(out)
            _copy(branch, block.final(j, value), value)
        text.close()


LOOPS: dict[str, Callable[[Scope, int, Step], None]] = {"scan": _scan, "while_loop": _while_loop, "cond": _cond}
