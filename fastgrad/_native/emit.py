"""The C text of a program: one function that does what its steps do (csrc/native.h).

A step that is not written out is run by the interpreter, between two that are. Consecutive elementwise steps over
equally many elements are one loop. A loop or branch of the program is one in C, with the values of its body as local
variables; if some step of its body cannot be written out, the interpreter runs the whole loop or branch.
"""

from __future__ import annotations

from typing import NamedTuple

from .. import _core
from .._core import Program
from .description import Description
from .loops import LOOPS
from .maps import ElementLoop
from .scope import Scope, Text, Unwritten
from .steps import STEPS

_HEAD = """\
#include <math.h>
#include <string.h>

#include "kernels/rows.h"
#include "native.h"

{functions}int fg_native_program(const fg_frame *f, const fg_services *s);
int fg_native_program(const fg_frame *f, const fg_services *s)
{{
"""


class Source(NamedTuple):
    """The text for a program, and what is written out in it."""

    text: str
    n_steps: int  # of the program and, if they are written out, of its bodies
    interpreted: list[str]  # the operations of the steps that the interpreter runs


def write_steps(scope: Scope) -> None:
    """Write all steps of a program or body; those of a program that turn out to be unwritten are noted in `failed`."""
    run, text = ElementLoop(scope), scope.text
    for group in scope.groups():
        first = scope.description.steps[group[0]]
        if first.late:
            break
        if run.is_empty:
            scope.release(group[0])
        if group[0] in scope.interpreted:
            run.end()
            text.line(f"if ((status = s->run_step(f, {group[0]}))) return status; /* {first.name} */")
            continue
        try:
            if len(group) == 1 and run.takes(first):
                continue
            run.end()
            before = len(text.lines)
            try:
                _write_group(scope, run, group)
            except Unwritten:
                run.forget()
                del text.lines[before:]
                raise
        except Unwritten:
            if not scope.frame or scope.is_alone:
                scope.text.unwritten = scope.text.unwritten or first.name
                raise
            scope.fail(group)
    run.end()
    text.n_steps += len(scope.description.steps)


def _write_group(scope: Scope, run: ElementLoop, group: range) -> None:
    """Write a single step, or a fused group, which has to be one loop, as its values exist block by block only."""
    first = scope.description.steps[group[0]]
    if all(run.takes(scope.description.steps[k]) for k in group):
        if len(group) > 1:
            run.end()
        return
    write = scope.text.writers.get(first.name)
    if len(group) > 1 or write is None or first.by_input is not None:
        raise Unwritten
    write(scope, group[0], first)


def c_source(program: Program) -> Source:
    """The C text for a program."""
    description, interpreted = Description(program), set[int]()
    while True:
        text = Text(write_steps, {**STEPS, **LOOPS})
        scope = Scope(text, description, interpreted)
        write_steps(scope)
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
    lines = [_HEAD.format(functions="".join(text.functions)) + "\n".join(prologue), "", *text.lines]
    lines += ["    return 0;", "}", ""]
    return Source(_comment(program) + "\n".join(lines), text.n_steps - len(interpreted), names)


def _comment(program: Program) -> str:
    facts = program.facts
    return (
        f"/* A program of fastgrad: {facts['inputs']} inputs, {facts['outputs']} outputs, "
        f"{facts['instructions']} steps. Written by Program.c_source for {_core.isa()}. */\n"
    )
