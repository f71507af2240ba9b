"""The texts of an exported function: header, source, self-test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._native.function import Body
from .._native.values import literal
from .arguments import Argument

_LINE = 110
_SIZES = {"double": 8, "float": 4}
_TOLERANCE = {4: 1e-4, 8: 1e-9}  # of the self-test, relative to the largest element, by the bytes of the least float


class Function(NamedTuple):
    """An exported function."""

    name: str
    of: str  # what it is in Python
    inputs: list[Argument]
    outputs: list[Argument]
    body: Body
    has_own_memory: bool  # rather than a workspace of the caller's
    version: str

    @property
    def upper(self) -> str:
        return self.name.upper()

    @property
    def declaration(self) -> str:
        parts = [f"{a.c_type} {a.name}" if a.shape == () else f"const {a.c_type} *{a.name}" for a in self.inputs]
        parts += [f"uint64_t *state{k}" for k in range(len(self.body.states))]
        parts += [f"{a.c_type} *{a.name}" for a in self.outputs]
        if not self.has_own_memory:
            parts.append(f"{self.name}_workspace *workspace")
        lines, indent = [f"int {self.name}("], " " * (len(self.name) + 5)
        for k, part in enumerate(parts or ["void"]):
            end = ", " if k < len(parts) - 1 else ")"
            if len(lines[-1]) + len(part) > _LINE and not lines[-1].isspace():
                lines.append(indent)
            lines[-1] += part + end
        return "\n".join(line.rstrip() for line in lines)


def _bytes(kind: str) -> int:
    return _SIZES.get(kind) or int("".join(c for c in kind if c.isdigit())) // 8


def _guard(f: Function) -> str:
    return f"{f.upper}_H"


def header(f: Function) -> str:
    """The header: how the function is called."""
    total = sum(n * _bytes(kind) for _, kind, n in f.body.workspace)
    members = [f"    {kind} {member}[{n}];" for member, kind, n in f.body.workspace] or ["    char nothing[8];"]
    notes = [f"{a.name}: {a.described}" for a in f.inputs]
    notes += [
        f"state{k}: three words, the state of a generator, which the call advances; at first {f.upper}_STATE{k}"
        for k in range(len(f.body.states))
    ]
    results = [f"{a.name}: {a.described}" for a in f.outputs]
    memory = (
        "It has memory of its own: no two calls may run at once."
        if f.has_own_memory
        else "The workspace is memory of the caller's, which a call overwrites: calls with workspaces of their own may "
        "run\n * at once."
    )
    about = [
        f"/* {f.of}, as C. Written by fastgrad {f.version}.",
        " *",
        *(f" *   {note}" for note in notes),
        " * Results are written to where these pointers lead, which must not overlap an argument:",
        *(f" *   {note}" for note in results),
        " *",
        f" * {memory}",
        " * Nothing else is needed or changed, but the library of <math.h>.",
        " */",
    ]
    states = [
        f"#define {f.upper}_STATE{k} {{{', '.join(f'UINT64_C({int(word)})' for word in state)}}}"
        for k, state in enumerate(f.body.states)
    ]
    workspace = [
        f"#define {f.upper}_WORKSPACE_BYTES {total}",
        "typedef struct {",
        *members,
        f"}} {f.name}_workspace;",
        "",
    ]
    status = [
        "/* What it returns. */",
        "enum {",
        f"    {f.upper}_OK = 0,",
        f"    {f.upper}_BAD_INDEX = 1, /* an index was out of range */",
        f"    {f.upper}_BAD_MATRIX = 2 /* a matrix was singular, or not positive definite */",
        "};",
    ]
    parts = [
        *about, f"#ifndef {_guard(f)}", f"#define {_guard(f)}", "", "#include <stdint.h>", "",
        "#ifdef __cplusplus", 'extern "C" {', "#endif", "", *workspace, *states, *status, "", f"{f.declaration};", "",
        "#ifdef __cplusplus", "}", "#endif", "", "#endif", "",
    ]  # fmt: skip
    return "\n".join(parts)


def source(f: Function, header_name: str, test: str) -> str:
    """The file: the functions that are called, the function itself, and its self-test or ""."""
    lines = [
        f"/* {f.of}, as C: see {header_name}. Written by fastgrad {f.version}. */",
        f'#include "{header_name}"',
        "",
        "#include <math.h>",
        "#include <string.h>",
        "",
        *([f.body.functions, ""] if f.body.functions else []),
        *([_size_check(f), ""] if f.body.workspace else []),
        f.declaration,
        "{",
    ]
    if f.has_own_memory:
        lines += [f"    static {f.name}_workspace memory;", f"    {f.name}_workspace *const workspace = &memory;"]
    text = "\n".join(f.body.lines)
    unused = [a.name for a in f.inputs if not _names(a.name, text)]
    if not _names("workspace", text):
        unused.append("workspace")
    lines += [f"    (void){name};" for name in unused]
    lines += [*f.body.lines, "    return 0;", "}", ""]
    return "\n".join(lines) + test


def _size_check(f: Function) -> str:
    return f'_Static_assert(sizeof({f.name}_workspace) == {f.upper}_WORKSPACE_BYTES, "a workspace without gaps");'


def _names(name: str, text: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None


def self_test(f: Function, given: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> str:
    """A `main`, where the macro <NAME>_MAIN is defined, that calls the function and compares its results."""
    lines = ["", f"#ifdef {f.upper}_MAIN", "#include <stdio.h>", ""]
    call = []
    for a, x in zip(f.inputs, given):
        lines.append(_array(f"given_{a.name}", a.c_type, x))
        call.append(f"given_{a.name}[0]" if a.shape == () else f"given_{a.name}")
    for a, x in zip(f.outputs, expected):
        lines.append(_array(f"expected_{a.name}", a.c_type, x))
        lines.append(f"static {a.c_type} found_{a.name}[{max(a.size, 1)}];")
    lines += [
        "",
        "static int differ(const char *name, int64_t n, double tolerance, double found, double expected, double scale)",
        "{",
        "    const int both_nan = found != found && expected != expected;",
        "    if (both_nan || found == expected || fabs(found - expected) <= tolerance * scale) return 0;",
        '    printf("%s[%ld] is %.17g, expected %.17g\\n", name, (long)n, found, expected);',
        "    return 1;",
        "}",
        "",
        "int main(void)",
        "{",
        "    int wrong = 0;",
    ]
    for k in range(len(f.body.states)):
        lines.append(f"    uint64_t state{k}[3] = {f.upper}_STATE{k};")
        call.append(f"state{k}")
    call += [f"found_{a.name}" for a in f.outputs]
    if not f.has_own_memory:
        lines.append(f"    static {f.name}_workspace workspace;")
        call.append("&workspace")
    least = min([a.dtype.itemsize for a in (*f.inputs, *f.outputs) if a.dtype.kind == "f"], default=8)
    lines += [
        f"    const int status = {f.name}({', '.join(call)});",
        "    if (status) {",
        f'        printf("{f.name}: status %d\\n", status);',
        "        return 1;",
        "    }",
    ]
    for a, x in zip(f.outputs, expected):
        finite = np.abs(x[np.isfinite(x)]) if a.dtype.kind == "f" else np.zeros(0)
        scale = float(np.max(finite, initial=0)) or 1.0
        tolerance = _TOLERANCE[least] if a.dtype.kind == "f" else 0.0
        lines += [
            f"    for (int64_t i = 0; i < {a.size}; i++)",
            f'        wrong += differ("{a.name}", i, {tolerance}, (double)found_{a.name}[i], '
            f"(double)expected_{a.name}[i], {scale!r});",
        ]
    lines += [
        f'    printf("{f.name}: %s\\n", wrong ? "wrong" : "all results agree");',
        "    return wrong != 0;",
        "}",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _array(name: str, kind: str, x: np.ndarray) -> str:
    rows, row = list[str](), ""
    for number in map(literal, x.reshape(-1)):
        if len(row) + len(number) > _LINE - 8:
            rows.append(row.rstrip())
            row = ""
        row += f"{number}, "
    numbers = "\n    ".join([*rows, row.rstrip(", ")]) or "0"
    return f"static const {kind} {name}[{max(x.size, 1)}] = {{\n    {numbers}}};"
