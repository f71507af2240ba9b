"""From a program to its native code: the text, the compiler, the library."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._core import Program
from . import cache, compiler, importing
from .cache import Native
from .error import CompilerError, TimeLimit, TooLong

if TYPE_CHECKING:
    from .emit import Source

MOST_LINES = 20_000  # of a text: GCC takes 8 seconds for half as many, and its time grows faster than their number


def _imported() -> Callable[[Program], Source]:
    """The function that writes the text; it and what runs a compiler take longer to import than to load a program."""
    with importing.lock:
        import shlex  # noqa: F401
        import shutil  # noqa: F401
        import signal  # noqa: F401
        import subprocess  # noqa: F401
        import tempfile  # noqa: F401

        from .emit import c_source
    return c_source


def native(program: Program) -> tuple[Native, float]:
    """The native code of a program, compiled now unless it was before, and which share of its steps that is;
    CompilerError if it cannot be."""
    with importing.lock:
        short = cache.short_key(program)
    known = cache.linked(short)
    if known is not None:
        return known
    c_source = _imported()
    chosen = compiler.find()
    source = c_source(program)
    if (lines := source.text.count("\n")) > MOST_LINES:
        raise TooLong(f"its text has {lines:,} lines, and more than {MOST_LINES:,} would take a compiler too long")
    name = cache.key(source.text, chosen)
    found = cache.loaded(name) or _compiled(source.text, name, chosen)
    if found.text is not None:
        cache.link(short, name, source.share)
    return found, source.share


def _compiled(text: str, name: str, chosen: compiler.Compiler) -> Native:
    """Compiled within the cache, or, where that fails, as on a disk that is full or from which nothing may be executed,
    in a temporary directory."""
    failure: CompilerError | None = None
    for place in cache.workplaces():
        try:
            place.write(text)
            compiler.run(compiler.command_line(chosen, place.source, place.target), compiler.SECONDS, place.path)
            return place.finish(name)
        except TimeLimit:
            raise
        except CompilerError as error:
            failure = failure or error
        finally:
            place.remove()
    raise failure or CompilerError("no directory to compile in")


def make_native(program: Program) -> None:
    """Let a program run as native code from now on; CompilerError if it cannot be compiled."""
    start = time.perf_counter()
    made, share = native(program)
    seconds = time.perf_counter() - start
    path = None if made.text is None else str(made.text)
    program.set_native(made.address, "it was compiled", seconds, path, share)
