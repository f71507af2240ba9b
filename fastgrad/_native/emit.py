"""The C text of a program: one function that does what its steps do (csrc/native.h).

A step that is not written out is run by the interpreter, between two that are. Consecutive elementwise steps are one
loop (element_loops.py). A loop or branch of the program is one in C, with the values of its body as local
variables; what the interpreter reads and writes of these is in the memory of the body's replay.
"""

from __future__ import annotations

from typing import NamedTuple

from .. import _core
from .._core import Program
from . import lanes, repeats, row_groups, tiles
from .description import Description
from .element_loops import ElementLoop
from .loops import LOOPS
from .matrices import MATRICES
from .products import matmul
from .scope import Path, Scope, Text, Unwritten
from .steps import STEPS

_HEAD = """\
#include <math.h>
#include <string.h>

{includes}#include "kernels/halves.h"
#include "kernels/rows.h"
#include "native.h"

{functions}int fg_native_program(const fg_frame *f, const fg_services *s);
int fg_native_program(const fg_frame *f, const fg_services *s)
{{
"""


class Source(NamedTuple):
    """The text for a program, and what is written out in it."""

    text: str
    n_steps: int  # that are written out, of the program and its bodies
    interpreted: list[str]  # the operations of the steps, or the first ones of groups, that the interpreter runs
    share: float  # of the steps that are written out


def write_steps(scope: Scope) -> None:
    """Write all steps of a program or body; those of a program that turn out to be unwritten are noted in `failed`."""
    run, text = ElementLoop(scope), scope.text
    for group in scope.groups() if scope.is_alone else lanes.ordered(scope):
        if isinstance(group, lanes.Bundle):
            run.end()
            lanes.write(scope, group)
            continue
        first = scope.description.steps[group[0]]
        if first.late:
            break
        if run.is_empty:
            scope.release(group[0])
        if group[0] in scope.interpreted:
            run.end()
            status = scope.failure()
            text.line(f"if ((status = s->run_step({scope.frame()}, {group[0]}))) return {status}; /* {first.name} */")
            continue
        try:
            if run.takes(group[0], first) if len(group) == 1 else run.takes_group(group):
                continue
            run.end()
            before, depth = len(text.lines), text.depth
            try:
                _write_group(scope, run, group)
            except Unwritten:
                run.forget()
                del text.lines[before:]
                text.depth = depth
                raise
        except Unwritten:
            if scope.is_alone:
                scope.text.unwritten = scope.text.unwritten or first.name
                raise
            scope.fail(group)
    run.end()
    text.n_all += len(scope.description.steps)
    text.n_steps += sum(len(group) for group in scope.groups() if group[0] not in scope.interpreted)


def _write_group(scope: Scope, run: ElementLoop, group: range) -> None:
    """Write a single step, or a fused group, which has to be one loop, as its values exist block by block only."""
    first = scope.description.steps[group[0]]
    if run.takes(group[0], first) if len(group) == 1 else run.takes_group(group):
        return
    if len(group) > 1:
        row_groups.write(scope, group)
        return
    write = scope.text.writers.get(first.name)
    if write is None or first.by_input is not None:
        raise Unwritten
    try:
        write(scope, group[0], first)
    except Unwritten:
        if first.name != "matmul" or scope.is_alone:
            raise
        tiles.matmul(scope, group[0], first)


def c_source(program: Program) -> Source:
    """The C text for a program."""
    description, interpreted = Description(program), dict[Path, set[int]]()
    left: list[str] = []  # the operations of the interpreter's steps
    while True:
        text = Text(write_steps, {**STEPS, **LOOPS, **MATRICES, "matmul": matmul}, interpreted)
        write_steps(Scope(text, description))
        if not text.failed:
            break
        for path, groups in text.failed.items():
            interpreted.setdefault(path, set()).update(groups)
            left += [step.name for step in groups.values()]
    late = any(step.late for step in description.steps)
    prologue = ["    " + line for line in text.top]
    if () in interpreted or late:
        prologue.append("    s->bind(f, 0);")
    if interpreted or text.bodies:
        prologue = ["    int status = 0;", *(line for line in prologue if line != "    int status = 0;")]
    if not any("s->" in line for line in prologue + text.lines):
        prologue.append("    (void)s;")
    includes = "".join(f'#include "{header}"\n' for header in text.includes)
    body, pieces = repeats.shared(text.lines, text.top)
    head = _HEAD.format(includes=includes, functions="".join([*text.functions, *pieces]))
    lines = [head + "\n".join(prologue), "", *body]
    lines += ["    return 0;", "}", ""]
    return Source(_comment(program) + "\n".join(lines), text.n_steps, left, text.n_steps / max(1, text.n_all))


def _comment(program: Program) -> str:
    facts = program.facts
    return (
        f"/* A program of fastgrad: {facts['inputs']} inputs, {facts['outputs']} outputs, "
        f"{facts['instructions']} steps. Written by Program.c_source for {_core.isa()}. */\n"
    )
