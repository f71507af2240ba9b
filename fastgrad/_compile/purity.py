"""Purity check: what a traced function reads and changes besides its arguments.

A replay repeats neither a draw from a generator outside of fastgrad nor a write to an array. So while a function is
traced, the states of the generators and arrays that it can reach are compared: NumPy's and Python's global generators,
and those found through its closure, its defaults, the globals and attributes that its code names, containers, objects,
and the functions that it calls, except library code. No code of the user's is run to find them.
"""

from __future__ import annotations

import functools
import gc
import pickle
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import _core, _user_frames
from .._core import Tensor
from .outside import is_library_class

_PACKAGE = __name__.partition(".")[0]
# The nearest objects are looked at, for some 10 ms at most: so many containers, functions, objects and arrays, and so
# many in all, numbers and strings among them. Longer containers are left out.
_MOST, _MOST_ITEMS, _LONGEST = 5_000, 50_000, 10_000
_WHOLE = 1 << 22  # bytes of arrays that are compared whole; of arrays beyond that a sample
# Modules; os.urandom is posix's.
_DIFFERENT_EACH_TIME = {"datetime", "nt", "posix", "random", "secrets", "time", "uuid"}


class PurityCheck:
    """The state of the generators and arrays that f reaches, to be compared with their state later.

    ``keep``: also to be restored later, but for arrays of which a sample is compared.
    """

    def __init__(self, f: Callable[..., Any], arguments: list[Any], keep: bool = False) -> None:
        found, self._doubtful, self.place = _reached(f, {id(x) for x in arguments})
        left, self._watched = _WHOLE, []
        for x in [*found, *_global_generators()]:
            size = getattr(x, "nbytes", 0)
            whole = size <= left
            left -= size * whole
            self._watched.append((x, whole, _state(x, whole), _restorer(x) if keep and whole else None))
        self._loaded = "numpy.random" in sys.modules

    def changes(self) -> list[str]:
        """What the function did to them, in words."""
        return [_words(x) for x, whole, was, _ in self._watched if _state(x, whole) != was]

    def restore(self) -> None:
        """Undo these changes."""
        for x, whole, was, restore in self._watched:
            if restore is not None and _state(x, whole) != was:
                restore()

    def suspect(self) -> bool:
        """Whether f may compute something else at each call, so that it has to be traced twice to be believed."""
        return self._doubtful or bool(self.changes()) or self._loaded != ("numpy.random" in sys.modules)


def _global_generators() -> list[Any]:
    """Those behind the functions of ``numpy.random`` and ``random``, where these modules are in use."""
    mtrand, random = sys.modules.get("numpy.random.mtrand"), sys.modules.get("random")
    return [g for g in (getattr(mtrand, "_rand", None), getattr(random, "_inst", None)) if g is not None]


_TWISTER = 624 * 4  # bytes of a Mersenne twister's state
_GENERATORS = {"Generator", "RandomState", "BitGenerator", "Random"}  # of NumPy and of Python


def _module(c: Any) -> str:
    """The name of the module of a class or function; empty where it is no string, as of Cython's type of functions."""
    return module if type(module := getattr(c, "__module__", None)) is str else ""


def _state(x: Any, whole: bool) -> int:
    """A hash of the state of a generator or array: a draw or a write changes it, in all likelihood."""
    if isinstance(x, np.ndarray):
        return hash((x if whole else x.flat[:: (x.size >> 10) + 1]).tobytes())
    if hasattr(x, "getstate"):
        return hash(x.getstate())
    bits = getattr(x, "_bit_generator", None)
    if type(x) is np.random.RandomState and type(bits) is np.random.MT19937 and type(bits).__basicsize__ > _TWISTER:
        # The state is within the memory of both objects. NumPy takes 50 us to convert it.
        return hash(_core.memory_of(x) + _core.memory_of(bits))
    state = x.get_state(legacy=False) if hasattr(x, "get_state") else getattr(x, "bit_generator", x).state
    return hash(pickle.dumps(state))


def _restorer(x: Any) -> Callable[[], None]:
    """A function that gives a generator or array its present state again."""
    if isinstance(x, np.ndarray):
        return functools.partial(np.copyto, x, x.copy())
    if hasattr(x, "getstate"):
        return functools.partial(x.setstate, x.getstate())
    if hasattr(x, "get_state"):
        return functools.partial(x.set_state, x.get_state(legacy=False))
    bits = getattr(x, "bit_generator", x)
    return functools.partial(setattr, bits, "state", bits.state)


def _words(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"writes to an array of shape {x.shape} from outside its arguments"
    if any(x is g for g in _global_generators()):
        return f"draws from {'random' if hasattr(x, 'getstate') else 'numpy.random'}"
    return f"draws from a {_module(type(x)).partition('._')[0]}.{type(x).__name__}"


def _reached(f: Any, arguments: set[int]) -> tuple[list[Any], bool, str]:
    """What f reaches: the generators and arrays, except its arguments; whether there is a clock, an iterator or a maker
    of generators; and where the first of the user's functions begins, as the end of a phrase."""
    todo: deque[Any] = deque([f])
    seen: dict[int, Any] = {}
    found: list[Any] = []
    kinds, types_met = dict(_KINDS), list[type]()
    doubtful, place = False, ""
    for _ in range(_MOST_ITEMS):
        if not todo or len(seen) == _MOST:
            break
        x = todo.popleft()
        kind = kinds.get(id(type(x)))
        if kind is None:
            types_met.append(type(x))
            kind = kinds[id(type(x))] = _kind(type(x))
        if kind == "atom" or id(x) in seen or id(x) in arguments:
            continue
        seen[id(x)] = x
        if kind == "container":
            if len(x) <= _LONGEST and not (type(x) is dict and "__spec__" in x):  # else the names of a module
                todo += gc.get_referents(x)
        elif kind == "watched":
            found.append(x)
        elif kind == "callable":
            doubtful = doubtful or _is_different_each_time(x)
            if not place and type(x) is types.FunctionType and not _user_frames.rank(x.__code__.co_filename):
                place = f" ({x.__code__.co_filename}, line {x.__code__.co_firstlineno})"
            todo += _parts(x)
        elif kind == "own":
            todo.append(getattr(x, "_f", None))
        else:
            doubtful = doubtful or kind == "iterator"
            todo += gc.get_referents(x)
    return found, doubtful, place


# By id, as a metaclass may have a hash of its own.
_KINDS = {id(c): "container" for c in (list, tuple, dict, set)}
_KINDS |= {id(c): "atom" for c in (bool, int, float, complex, str, bytes, type(None), types.CodeType)}
_FUNCTIONS = {"function", "builtin_function_or_method", "cython_function_or_method"}


def _kind(c: type) -> str:
    """What is to be done with objects of a type: once for each, as a program may hold thousands."""
    if issubclass(c, np.ndarray) or any(
        base.__name__ in _GENERATORS and (_module(base) == "random" or _module(base).startswith("numpy.random"))
        for base in c.__mro__
    ):
        return "watched"
    if issubclass(c, (types.ModuleType, Tensor, str, bytes)):
        return "atom"
    if any("__next__" in vars(base) for base in c.__mro__):
        return "iterator"
    if issubclass(c, type) or c.__name__ in _FUNCTIONS:
        return "callable"
    return "own" if _module(c).partition(".")[0] == _PACKAGE else "object"


def _is_different_each_time(x: Any) -> bool:
    """Whether a function or class belongs to a clock or a source of random numbers."""
    module = _module(x)
    return module in _DIFFERENT_EACH_TIME or module.startswith("numpy.random")


def _parts(x: Any) -> Iterable[Any]:
    """What a function or class refers to; a method of a builtin type, to its object. Only type(x) is asked: isinstance
    would ask a proxy for the class it stands for."""
    if type(x) is types.FunctionType:
        inner = [x.__closure__, x.__defaults__, x.__kwdefaults__, x.__dict__]
        return [*inner, *_named(x)] if _user_frames.rank(x.__code__.co_filename) == 0 else inner
    if issubclass(type(x), type):
        return () if is_library_class(x) else [*vars(x).values(), *x.__bases__]
    return gc.get_referents(x)


def _named(f: types.FunctionType) -> Iterable[Any]:
    """The globals that a function's code names, and of modules among them the attributes that it names."""
    codes, names = [f.__code__], set[str]()
    for code in codes:
        names.update(code.co_names)
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    places, seen = [f.__globals__], set[int]()
    for place in places:
        for name in names & place.keys():
            x = place[name]
            if not issubclass(type(x), types.ModuleType):
                yield x
            elif id(x) not in seen:
                seen.add(id(x))
                places.append(vars(x))
