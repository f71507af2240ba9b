"""What a function reads from outside its arguments: numbers, arrays, attributes and functions.

A program has these as constants. So when a function is traced, the places from which it may read them are listed: the
variables of its closure and the globals that its code names, the attributes that the code names of the objects found
there, the items of small containers, the elements of arrays, and the same for the functions that it calls, except
library code. A ``Watch`` (``_binding/watch.pxi``) compares them at each call. No code of the user's is run to find
them, and a place that is listed though nothing reads it costs no more than a trace that was not needed.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import opcode
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import _user_frames
from .._core import ABSENT, Tensor, Watch

__all__ = ["watch"]

_PACKAGE = __name__.partition(".")[0]
# The nearest objects are looked at, and so many places are watched: one takes 1 to 20 ns of each call.
_MOST_OBJECTS, _MOST_PLACES = 2_000, 200
_LONGEST = 64  # containers of more items are not watched
# Special methods that a computation does not call.
_NOT_CALLED = {
    "__copy__", "__deepcopy__", "__del__", "__eq__", "__getstate__", "__hash__", "__init__", "__new__", "__ne__",
    "__reduce__", "__reduce_ex__", "__replace__", "__repr__", "__setattr__", "__setitem__", "__setstate__", "__str__",
}  # fmt: skip
_ATOMS = (bool, int, float, complex, str, bytes, type(None), np.generic)
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)


def watch(f: Callable[..., Any], constants: Iterable[Any] = ()) -> Watch | None:
    """A watch over what f, called with these static arguments, reads from outside; None where that is nothing."""
    places = _Search(f, constants).places
    return Watch(places) if places else None


class _Names(NamedTuple):
    """What a code object and those nested in it read: globals, attributes of what is no global, and, as pairs of the
    name of a global and an attribute, what follows on the name of a global, as in ``np.linalg.norm``."""

    globals: frozenset[str]
    attributes: frozenset[str]
    chains: frozenset[tuple[str, str]]


_OPCODES = opcode.opmap
_LOAD_GLOBAL, _EXTENDED_ARG = _OPCODES["LOAD_GLOBAL"], _OPCODES["EXTENDED_ARG"]
# How far the index of a name is shifted in the argument of an opcode that loads an attribute.
_ATTRIBUTES = {_OPCODES["LOAD_ATTR"]: int(sys.version_info >= (3, 12))}
_ATTRIBUTES |= {_OPCODES[name]: n for name, n in (("LOAD_METHOD", 0), ("LOAD_SUPER_ATTR", 2)) if name in _OPCODES}
_BETWEEN = {_OPCODES[name] for name in ("CACHE", "PUSH_NULL", "NOP", "EXTENDED_ARG") if name in _OPCODES}


@functools.lru_cache(maxsize=4096)
def _names_of(code: types.CodeType) -> _Names:
    read, attributes, chains = set[str](), set[str](), set[tuple[str, str]]()
    base, high, names, text = None, 0, code.co_names, code.co_code
    for op, low in zip(text[::2], text[1::2]):
        argument, high = high << 8 | low, 0
        if op == _EXTENDED_ARG:
            high = argument
        elif op == _LOAD_GLOBAL:
            base = names[argument >> 1]
            read.add(base)
        elif op in _ATTRIBUTES:
            name = names[argument >> _ATTRIBUTES[op]]
            if base is None:
                attributes.add(name)
            else:
                chains.add((base, name))
        elif op not in _BETWEEN:
            base = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _names_of(constant)
            read |= inner.globals
            attributes |= inner.attributes
            chains |= inner.chains
    return _Names(frozenset(read), frozenset(attributes), frozenset(chains))


class _Search:
    """A search, nearest first, for the places that a function reads: tuples (kind, holder, key, value, name).

    An object's attributes are looked up by the names that any code found so far reads, so the search goes back to the
    objects when code is found that reads further names.
    """

    def __init__(self, f: Callable[..., Any], constants: Iterable[Any]) -> None:
        self.places: list[tuple[str, Any, Any, Any, str]] = []
        self._todo: deque[tuple[Any, str]] = deque([(f, "")])
        self._todo += [(constant, "a static argument") for constant in constants]
        self._seen: dict[int, Any] = {}
        self._attributes: set[str] = set()
        # Dicts of attributes, the name of the object, the names looked up so far, and the class of an instance.
        self._owners: list[tuple[dict[str, Any], str, set[str], type | None]] = []
        while len(self._seen) < _MOST_OBJECTS and len(self.places) < _MOST_PLACES:
            if self._todo:
                self._visit(*self._todo.popleft())
            elif not self._look_up():
                break
        del self.places[_MOST_PLACES:]

    def _place(self, kind: str, holder: Any, key: Any, value: Any, name: str) -> None:
        self.places.append((kind, holder, key, value, name))
        if not issubclass(type(value), _ATOMS):
            self._todo.append((value, name))

    def _look_up(self) -> bool:
        """Add the attributes of known objects that code names; False if there are no more of them."""
        found = False
        for attributes, owner, known, of in self._owners:
            if of is not None:
                for name in sorted(self._attributes - attributes.keys() - known):
                    if _is_data(of, name):  # an attribute of the instance would hide it
                        known.add(name)
                        self.places.append(("item", attributes, name, ABSENT, f"{owner}.{name}"))
            for name in sorted(self._attributes & attributes.keys() - known):
                known.add(name)
                found = True
                value, path = attributes.get(name), f"{owner}.{name}" if owner else name
                if type(value) is types.FunctionType and "__module__" in attributes:  # a method in a class
                    self._todo.append((value, path))
                else:
                    self._place("item", attributes, name, value, path)
        return found

    def _visit(self, x: Any, name: str) -> None:
        if id(x) in self._seen:
            return
        self._seen[id(x)] = x
        kind = type(x)
        if kind is types.FunctionType:
            self._visit_function(x, name)
        elif kind is types.MethodType:
            self._todo += [(x.__func__, name), (x.__self__, name.rpartition(".")[0] or "self")]
        elif kind is functools.partial:
            self._todo += [(part, name) for part in (x.func, *x.args, *x.keywords.values())]
        elif issubclass(kind, np.ndarray):
            self._array(x, name)
        elif issubclass(kind, Tensor):
            self.places.append(("array", x, None, None, name))
        elif issubclass(kind, dict):
            self._dict(x, name)
        elif kind is list:
            if len(x) <= _LONGEST:
                self.places.append(("list", x, None, tuple(x), name))
                self._todo += [(item, f"{name}[{i}]") for i, item in enumerate(x) if not issubclass(type(item), _ATOMS)]
        elif issubclass(kind, tuple):
            self._todo += [(item, f"{name}[{i}]") for i, item in enumerate(x) if not issubclass(type(item), _ATOMS)]
        elif issubclass(kind, types.ModuleType):
            if not _is_library_module(x):
                self._owners.append((vars(x), name, set(), None))
        elif issubclass(kind, type):
            self._class(x, name)
        elif _is_ours(x):  # a transform of a function
            with contextlib.suppress(AttributeError):  # not by its dict: once that is made, its attributes take longer
                self._todo.append((object.__getattribute__(x, "_f"), name))
        else:
            self._object(x, name)

    def _visit_function(self, f: types.FunctionType, name: str) -> None:
        found = list(_variables(f))
        if _user_frames.rank(f.__code__.co_filename):  # of a wrapper, the function that it calls
            self._todo += [(x, name) for _, _, x in found if type(x) in _FUNCTIONS or _is_ours(x)]
            return
        for variable, cell, value in found:
            self._place("cell", cell, None, value, variable)
        names, space = _names_of(f.__code__), f.__globals__
        for variable in sorted(names.globals & space.keys()):
            if not _is_of_library(space.get(variable)):
                self._place("item", space, variable, space.get(variable), variable)
        self._attributes |= names.attributes
        self._attributes |= {name for base, name in names.chains if not _is_of_library(space.get(base))}
        self._todo += [(value, name) for value in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values())]
        if f.__dict__:
            self._owners.append((f.__dict__, name, set(), None))

    def _class(self, c: type, name: str) -> None:
        """Class attributes and methods by their names; special methods in any case, as no code names them."""
        for base in c.__mro__:
            if _is_library_class(base):
                continue
            attributes = gc.get_referents(vars(base))[0]  # the dict behind the read-only view
            self._owners.append((attributes, name, set(), None))
            self._todo += [
                (value, f"{name}.{key}") for key, value in attributes.items()
                if type(value) is types.FunctionType and key.startswith("__") and key not in _NOT_CALLED
            ]  # fmt: skip
            self._todo += [
                (part, name) for value in attributes.values() if type(value) in (property, staticmethod, classmethod)
                for part in (getattr(value, "fget", None) or getattr(value, "__func__", None),)
            ]  # fmt: skip

    def _object(self, x: Any, name: str) -> None:
        attributes = _attributes_of(x)
        if attributes is not None:
            self._owners.append((attributes, name, set(), type(x)))
        if not _is_library_class(type(x)):
            self._todo.append((type(x), name))
            for key, member in _slots(type(x)):
                with contextlib.suppress(AttributeError):  # a slot that is empty
                    self._place("slot", x, member, member.__get__(x, type(x)), f"{name}.{key}")

    def _dict(self, x: dict[Any, Any], name: str) -> None:
        if len(x) > _LONGEST or "__spec__" in x:  # else the names of a module
            return
        self.places.append(("size", x, None, len(x), name))
        for key, value in list(x.items()):
            if type(key) in (str, int):
                self._place("item", x, key, value, f"{name}[{key!r}]")

    def _array(self, x: np.ndarray, name: str) -> None:
        if x.dtype.kind in "fiub" and x.size and (x.flags.writeable or not x.flags.owndata):
            self.places.append(("array", x, None, None, name))


def _variables(f: types.FunctionType) -> Iterator[tuple[str, types.CellType, Any]]:
    """The variables of a function's closure that have a value: name, cell and value."""
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
        with contextlib.suppress(ValueError):
            yield name, cell, cell.cell_contents


def _attributes_of(x: Any) -> dict[str, Any] | None:
    """The dict of an object's own attributes, found without code of its class; None if it has none."""
    try:
        attributes = object.__getattribute__(x, "__dict__")
    except AttributeError:
        return None
    return attributes if type(attributes) is dict else None


def _is_data(c: type, name: str) -> bool:
    """Whether a class has an attribute that is no method, property or slot."""
    for base in c.__mro__:
        if name in vars(base):
            return not hasattr(type(vars(base)[name]), "__get__")
    return False


def _slots(c: type) -> Iterator[tuple[str, Any]]:
    for base in c.__mro__:
        for key, member in vars(base).items():
            if type(member) is types.MemberDescriptorType:
                yield key, member


def _module(c: Any) -> str:
    return module if type(module := getattr(c, "__module__", None)) is str else ""


def _is_ours(x: Any) -> bool:
    """Whether x is an object of a class of fastgrad's."""
    return _module(type(x)).partition(".")[0] == _PACKAGE


def _is_library_module(x: types.ModuleType) -> bool:
    if x.__name__ == "__main__":
        return False
    file = getattr(x, "__file__", None)
    return x.__name__.partition(".")[0] in sys.stdlib_module_names if file is None else _user_frames.rank(file) > 0


def _is_library_class(c: type) -> bool:
    module = sys.modules.get(_module(c))
    return module is None or _is_library_module(module)


def _is_of_library(x: Any) -> bool:
    """Whether x is a module, class or function of a library, which nobody changes between two calls."""
    if issubclass(type(x), types.ModuleType):
        return _is_library_module(x)
    if issubclass(type(x), type):
        return _is_library_class(x)
    if type(x) is types.FunctionType:
        return _user_frames.rank(x.__code__.co_filename) > 0 and not x.__closure__
    return type(x) in (types.BuiltinFunctionType, np.ufunc)
