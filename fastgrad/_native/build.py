"""From a program to its native code: the text, the compiler, the library."""

from __future__ import annotations

import time

from .._core import Program
from . import cache, compiler
from .cache import Native
from .emit import Source, c_source


def native(program: Program) -> tuple[Native, Source]:
    """The native code of a program, compiled now unless it was before, and its text; CompilerError if it cannot be."""
    chosen = compiler.find()
    source = c_source(program)
    name = cache.key(source.text, chosen)
    found = cache.loaded(name)
    return found if found is not None else _compiled(source.text, name, chosen), source


def _compiled(text: str, name: str, chosen: compiler.Compiler) -> Native:
    place = cache.Workplace()
    try:
        place.write(text)
        compiler.run(compiler.command_line(chosen, place.source, place.target), compiler.SECONDS)
        return place.finish(name)
    finally:
        place.remove()


def make_native(program: Program) -> None:
    """Let a program run as native code from now on; CompilerError if it cannot be compiled."""
    start = time.perf_counter()
    made, source = native(program)
    seconds = time.perf_counter() - start
    path = None if made.text is None else str(made.text)
    program.set_native(made.address, "it was compiled", seconds, path, source.share)
