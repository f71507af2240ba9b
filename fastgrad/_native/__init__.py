"""Native programs: the steps of a program as C, compiled by the machine's compiler, in the place of the interpreter.

What needs them imports the modules when it does: `import fastgrad` reads this file alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from .error import CompilerError

if TYPE_CHECKING:
    from .._core import Program

__all__ = ["CompilerError", "Mode", "c_source", "configuration", "mode", "request"]

Mode = Literal["auto", True, False]
_WORDS: dict[str, Mode] = {
    "": False, "0": False, "false": False, "off": False, "1": True, "true": True, "on": True, "auto": "auto",
}  # fmt: skip


def mode(asked: Any, name: str = "compile") -> Mode:
    """What ``native=`` of the function `name` means: None is what FASTGRAD_NATIVE says, and without that False."""
    if asked is None:
        word = os.environ.get("FASTGRAD_NATIVE", "").strip().lower()
        if word not in _WORDS:
            raise ValueError(f"FASTGRAD_NATIVE={word}: expected 0, 1 or auto")
        return _WORDS[word]
    if asked is True or asked is False or asked == "auto":
        return asked  # type: ignore[no-any-return]
    raise ValueError(f"{name}: native must be True, False or 'auto', not {asked!r}")


def request(program: Program, how: Mode, must: bool = True) -> None:
    """Let a program run as native code: from now on (True), or, once its runs have taken long enough for a compilation
    to pay, as soon as that is done in the background ("auto"). RuntimeError where True fails; unless it ``must``: then
    the interpreter runs, after one warning."""
    if how is False:
        return
    from . import background

    if how == "auto":
        background.watch(program)
    elif must:
        background.make_native(program)
    else:
        background.try_native(program)


def c_source(program: Program) -> str:
    """The C text of a program."""
    from .emit import c_source

    return c_source(program).text


def configuration() -> dict[str, str | None]:
    """For `show_config`: the compiler, or None and why there is none; and the directory of compiled programs."""
    from . import cache, compiler

    try:
        found = compiler.find()
    except CompilerError as error:
        return {"compiler": None, "why": str(error), "directory": None}
    try:
        return {"compiler": found.identity.splitlines()[0], "why": None, "directory": str(cache.directory())}
    except CompilerError as error:
        return {"compiler": found.identity.splitlines()[0], "why": str(error), "directory": None}
