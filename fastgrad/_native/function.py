"""An exported function: the statements of its body, and what it needs beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._core import Program
from . import plain
from .description import Description
from .emit import write_steps
from .loops import LOOPS
from .scope import Text, Unwritten
from .standalone import StandaloneScope
from .standalone_steps import STEPS as STANDALONE_STEPS
from .steps import STEPS
from .values import Value, c_type


class NotWritten(Exception):
    """A program has an operation that cannot be written as C alone: its name, in the core's table."""


class Body(NamedTuple):
    """What a program is as C."""

    lines: list[str]  # of the function's body
    functions: str  # that it calls
    workspace: list[tuple[str, str, int]]  # of each type: its member, the type, and how many elements
    states: list[np.ndarray]  # of generators, which are arguments state0, state1, ...


def body(program: Program, inputs: Sequence[str], outputs: Sequence[str]) -> Body:
    """The body of a function whose arguments have these names: inputs without axes are numbers, all others arrays, and
    outputs are pointers. NotWritten where an operation cannot be."""
    text = Text(write_steps, {**STEPS, **LOOPS, **STANDALONE_STEPS})
    scope = StandaloneScope(text, Description(program, StandaloneScope.constant_bytes))
    d = scope.description
    for v, name in enumerate(inputs):
        b = d.buffers[v]
        if b is not None:
            is_number = b.shape == ()
            element = name if is_number else f"{name}[0]"
            scope.places[v] = Value(element if b.size == 1 else name, b.dtype, b.shape, b.size == 1)
    is_direct = [False] * len(outputs)
    for k, out in enumerate(d.outs):
        root = d.root(out)
        b = d.buffer(root)
        if b.output == k and out == root and root in scope.writers and scope.extent[root] == (0, b.bytes):
            is_direct[k] = True
            scope.places[root] = Value(f"{outputs[k]}[0]" if b.size == 1 else outputs[k], b.dtype, b.shape, b.size == 1)
    try:
        write_steps(scope)
    except Unwritten:
        raise NotWritten(text.unwritten) from None
    for k, out in enumerate(d.outs):
        if not is_direct[k]:
            value, n = scope.value(out), d.buffer(out).size
            if n == 1:
                text.line(f"{outputs[k]}[0] = {value.at('0')};")
            else:
                text.line(f"for (int64_t i = 0; i < {n}; i++) {outputs[k]}[i] = {value.at('i')};")
    lines = ["    " + line for line in _of_use(text.top, text.lines)] + text.lines
    called = _names("\n".join([*lines, *text.functions]))
    copied = "\n\n".join(t for t in (plain.functions(called), *map(str.strip, text.functions)) if t)
    types = {f"of_{c_type(np.dtype(t)).removesuffix('_t')}": np.dtype(t) for t in _TYPES}
    workspace = []
    for member, pool in scope.workspace.pools.items():
        unit = max(1, 8 // types[member].itemsize)  # so that the sizes of all members are multiples of 8 bytes
        workspace.append((member, c_type(types[member]), -(-pool.size // unit) * unit))
    workspace.sort(key=lambda entry: -types[entry[0]].itemsize)
    return Body(lines, copied, workspace, scope.states)


def _names(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w*", text))


def _of_use(declarations: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Those of variables that are named later on. A way to write steps that was given up may have left others."""
    named, kept = _names("\n".join(lines)), list[str]()
    for declaration in reversed(declarations):
        variable = re.search(r"(\w+)(\[\w+\])*( =.*)?;$", declaration)
        if variable is None or variable[1] in named:
            kept.append(declaration)
            named |= _names(declaration)
    return kept[::-1]


_TYPES = (
    "float64", "float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
)  # fmt: skip
