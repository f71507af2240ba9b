"""What a transform returns: called as the function that it was made from, and pickled by reference.

A process that unpickles it, such as a worker of ``multiprocessing``, finds it by its name where a decorated function
stands under that, or makes it anew from the function that it was made from.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

__all__ = ["Transformed", "global_name", "transformed"]


def global_name(x: Any) -> str | None:
    """The name in its module under which pickle finds x itself, or None."""
    name: str = getattr(x, "__qualname__", "")
    found: Any = sys.modules.get(getattr(x, "__module__", None) or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    return name if found is x else None


class Transformed(functools.partial[Any]):
    """A partial object, whose call costs next to nothing, without arguments of its own."""

    _f: Callable[..., Any]  # what it was made from
    _made_by: tuple[Callable[..., Any], tuple[Any, ...]]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self) -> Any:
        return global_name(self) or self._made_by

    def __repr__(self) -> str:
        make, (f, *_) = self._made_by
        return f"<fastgrad.{make.__name__.removeprefix('named_')} of {getattr(f, '__qualname__', None) or repr(f)}>"


def transformed(
    f: Callable[..., Any], make: Callable[..., Any], *options: Any
) -> Callable[[Callable[..., Any]], Transformed]:
    """A decorator for the function that a transform of f returns, which is ``make(f, *options)``."""

    def wrap(call: Callable[..., Any]) -> Transformed:
        result = Transformed(call)
        functools.update_wrapper(result, f)
        result._f, result._made_by = f, (make, (f, *options))
        return result

    return wrap
