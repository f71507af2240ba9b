"""From a program to its native code: the text, the compiler, the library."""

from __future__ import annotations

import time

from .._core import Program
from . import cache, compiler
from .cache import Native
from .emit import c_source


def native(program: Program) -> Native:
    """The native code of a program, compiled now unless it was before; CompilerError if it cannot be."""
    chosen = compiler.find()
    text = c_source(program).text
    name = cache.key(text, chosen)
    found = cache.loaded(name)
    return found if found is not None else _compiled(text, name, chosen)


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
    made = native(program)
    seconds = time.perf_counter() - start
    program.set_native(made.address, "it was compiled", seconds, None if made.text is None else str(made.text))
