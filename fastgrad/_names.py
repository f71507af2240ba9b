"""Where in the package a name is that was asked of the wrong module, for the error that says so."""

from __future__ import annotations

import sys

_MODULES = ("linalg", "special", "stats")


def where(name: str, *, asked: str) -> str:
    """The end of an error's text for a name that a module lacks: the places in the package that have it, if any.

    ``asked``: the module, as in "special", or "" for the package itself. Modules are imported as they are looked at.
    """
    if name.startswith("_"):
        return ""
    package = sys.modules[__package__]
    found = [f"fastgrad.{name}"] if asked and name in package.__all__ else []
    found += [f"fastgrad.{m}.{name}" for m in _MODULES if m != asked and name in getattr(package, m).__all__]
    if callable(getattr(package.random.Generator, name, None)):
        found.append(f"fastgrad.random.default_rng(seed).{name}")
    return f"; use {' or '.join(found)}" if found else ""


def missing(name: str, *, asked: str) -> AttributeError:
    """The error of a module, named as for ``where``, that lacks a name."""
    module = f"{__package__}.{asked}"
    message = f"module {module!r} has no attribute {name!r}{where(name, asked=asked)}"
    return AttributeError(message, name=name, obj=sys.modules[module])
