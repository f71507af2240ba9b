"""From a program to its native code: the text, the compiler, the library."""

from __future__ import annotations

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
    return found if found is not None else compiled(text, name, chosen)


def compiled(text: str, name: str, chosen: compiler.Compiler) -> Native:
    place = cache.Workplace()
    try:
        place.write(text)
        compiler.run(compiler.command_line(chosen, place.source, place.target), compiler.SECONDS)
        return place.finish(name)
    finally:
        place.remove()
