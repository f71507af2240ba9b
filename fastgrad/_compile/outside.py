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
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import _user_frames
from .._core import ABSENT, Tensor, Watch

__all__ = ["is_library_class", "reached", "watch", "watch_what_was_made"]

_PACKAGE = __name__.partition(".")[0]
# The nearest objects are looked at, and so many places are watched: one takes 1 to 20 ns of each call.
_MOST_OBJECTS, _MOST_PLACES = 2_000, 400
_LONGEST = 256  # containers of more items are not watched,
_SINGLY = 64  # and dicts of more than that as a whole, not item by item
# Special methods that a computation does not call, and those that it calls only where it makes an object.
_NOT_CALLED = {
    "__copy__", "__deepcopy__", "__del__", "__eq__", "__getstate__", "__hash__", "__ne__", "__reduce__",
    "__reduce_ex__", "__replace__", "__repr__", "__setstate__", "__str__",
}  # fmt: skip
_MAKERS = {"__init__", "__new__"}
_BY_NAME = {"getattr", "hasattr"}  # functions that take names of attributes
# Classes are told apart by their ids, as a metaclass may hash and compare them by code of its own.
_ATOMS = {id(c) for c in (bool, int, float, complex, str, bytes, type(None))}
_UNINDEXED = {id(c) for c in (set, frozenset, deque)}
_FUNCTIONS = {id(c) for c in (types.FunctionType, types.MethodType, functools.partial)}
_HEAP_TYPE = 1 << 9  # of a class that was made by a class statement


def watch(f: Callable[..., Any], constants: Iterable[Any] = ()) -> Watch | None:
    """A watch over what f, called with these static arguments, reads from outside; None where that is nothing."""
    places = _Search(f, constants).places
    return Watch(places) if places else None


def watch_what_was_made(watched: Watch, f: Callable[..., Any], constants: Iterable[Any] = ()) -> None:
    """Watch also what f has made outside while it was traced, such as a model at its first use."""
    if watched.changes():
        watched.add(_Search(f, constants).places)


def reached(f: Callable[..., Any]) -> list[tuple[Any, str]]:
    """The objects that f reaches, the nearest first, with the names by which it does."""
    return _Search(f, ()).visited


class _Names(NamedTuple):
    """What a code object and those nested in it read: globals, attributes of what is no global, and, as pairs of the
    name of a global and an attribute, what follows on the name of a global, as in ``np.linalg.norm``; and what
    modules they import."""

    globals: frozenset[str]
    attributes: frozenset[str]
    chains: frozenset[tuple[str, str]]
    imports: frozenset[str]


_OPCODES = opcode.opmap
_EXTENDED_ARG, _IMPORT_NAME = _OPCODES["EXTENDED_ARG"], _OPCODES["IMPORT_NAME"]
# How far the index of a name is shifted in the argument of an opcode that loads a global, two of them in class bodies.
_GLOBALS = {_OPCODES["LOAD_GLOBAL"]: 1, _OPCODES["LOAD_NAME"]: 0}
_GLOBALS |= {_OPCODES[name]: 0 for name in ("LOAD_FROM_DICT_OR_GLOBALS",) if name in _OPCODES}
# The same for an attribute.
_ATTRIBUTES = {_OPCODES["LOAD_ATTR"]: int(sys.version_info >= (3, 12)), _OPCODES["IMPORT_FROM"]: 0}
_ATTRIBUTES |= {_OPCODES[name]: n for name, n in (("LOAD_METHOD", 0), ("LOAD_SUPER_ATTR", 2)) if name in _OPCODES}
_BETWEEN = {_OPCODES[name] for name in ("CACHE", "PUSH_NULL", "NOP", "EXTENDED_ARG") if name in _OPCODES}


@functools.lru_cache(maxsize=4096)
def _names_of(code: types.CodeType) -> _Names:
    read, attributes, chains, imports = set[str](), set[str](), set[tuple[str, str]](), set[str]()
    base, high, names, text = None, 0, code.co_names, code.co_code
    for op, low in zip(text[::2], text[1::2]):
        argument, high = high << 8 | low, 0
        if op == _EXTENDED_ARG:
            high = argument
        elif op in _GLOBALS:
            base = names[argument >> _GLOBALS[op]]
            read.add(base)
        elif op in _ATTRIBUTES:
            name = names[argument >> _ATTRIBUTES[op]]
            if base is None:
                attributes.add(name)
            else:
                chains.add((base, name))
        elif op not in _BETWEEN:
            base = None
            if op == _IMPORT_NAME:
                imports.add(names[argument])
    if read & _BY_NAME:
        attributes |= {x for x in code.co_consts if type(x) is str and x.isidentifier()}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _names_of(constant)
            read |= inner.globals
            attributes |= inner.attributes
            chains |= inner.chains
            imports |= inner.imports
    return _Names(frozenset(read), frozenset(attributes), frozenset(chains), frozenset(imports))


class _Owner(NamedTuple):
    """An object whose attributes are looked up: the dicts that hold them, with the classes that these belong to, and
    the names looked up so far."""

    spaces: list[tuple[dict[str, Any], type | None]]
    name: str
    of: type | None  # the class, or that of an instance
    known: set[str]


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
        self.visited: list[tuple[Any, str]] = []
        self._classes: dict[int, type] = {}
        self._attributes: set[str] = set()
        self._owners: list[_Owner] = []
        self._found: set[tuple[int, str]] = set()  # items of dicts of attributes and globals, by id and name
        while len(self._seen) < _MOST_OBJECTS and len(self.places) < _MOST_PLACES:
            if self._todo:
                self._visit(*self._todo.popleft())
            elif not self._look_up():
                break
        del self.places[_MOST_PLACES:]

    def _place(self, kind: str, holder: Any, key: Any, value: Any, name: str) -> None:
        self.places.append((kind, holder, key, value, name))
        if value is not ABSENT and not _is_atom(value):
            self._todo.append((value, name))

    def _item(self, space: dict[str, Any], key: str, name: str) -> None:
        """Add a variable or attribute, or that it is not there, once."""
        if (id(space), key) not in self._found:
            self._found.add((id(space), key))
            self._place("item", space, key, space.get(key, ABSENT), name)

    def _own(self, spaces: list[tuple[dict[str, Any], type | None]], name: str, of: type | None = None) -> None:
        self._owners.append(_Owner(spaces, name, of, set()))

    def _look_up(self) -> bool:
        """Add the attributes of known objects that code names; False if there are no more of them."""
        for spaces, owner, of, known in self._owners:
            names = self._attributes - known
            known |= names
            for name in sorted(names):
                path = f"{owner}.{name}" if owner else name
                # Where it is not found before the search comes to this class, it may be put there later and hide it.
                c = next((c for c in of.__mro__ if name in vars(c)), None) if of else None
                before = c is not None and (spaces[0][1] or not hasattr(type(vars(c)[name]), "__set__"))
                for space, holder in spaces:
                    before = before and (holder is None or holder is not c)
                    if before or name in space:
                        self._item(space, name, path)
        return bool(self._todo)

    def _visit(self, x: Any, name: str) -> None:
        if id(x) in self._seen:
            return
        self._seen[id(x)] = x
        self.visited.append((x, name))
        kind = type(x)
        if kind is types.FunctionType:
            self._visit_function(x, name)
        elif kind is types.MethodType:
            self._todo += [(x.__func__, name), (x.__self__, name.rpartition(".")[0] or "self")]
        elif kind is functools.partial:
            self._todo += [(x.func, name), *((part, "a bound argument") for part in x.args)]
            self._todo += [(part, key) for key, part in x.keywords.items()]
        elif issubclass(kind, np.ndarray):
            self._array(x, name)
        elif issubclass(kind, Tensor):
            self.places.append(("array", x, None, None, name))
        elif issubclass(kind, dict):
            self._dict(x, name)
        elif issubclass(kind, list):
            self._items("list", x, list.copy(x), name)
        elif issubclass(kind, tuple):
            self._todo += _parts(tuple.__iter__(x), name)
        elif id(kind) in _UNINDEXED:
            self._items("items", x, x, name)
        elif issubclass(kind, types.ModuleType):
            if not _is_library_module(x) and (attributes := _attributes_of(x)) is not None:
                self._own([(attributes, None)], name)
        elif issubclass(kind, type):
            self._class(x, name, made=True)
        elif id(kind) in _AROUND:
            self._todo.append((_AROUND[id(kind)](x), name))
        elif _is_ours(x):  # a transform of a function
            with contextlib.suppress(AttributeError):  # not by its dict: once that is made, its attributes take longer
                self._todo.append((object.__getattribute__(x, "_f"), name))
        else:
            self._object(x, name)
        if kind.__flags__ & _HEAP_TYPE and issubclass(kind, _CONTAINERS):
            self._object(x, name)

    def _visit_function(self, f: types.FunctionType, name: str) -> None:
        found = list(_variables(f))
        if _user_frames.rank(f.__code__.co_filename):  # of a wrapper, the function that it calls
            self._todo += [(x, name) for _, _, x in found if id(type(x)) in _FUNCTIONS or _is_ours(x)]
            self._todo += [  # what a function of several implementations chooses from
                (x, name) for _, _, table in found if type(table) is dict for x in list(table.values())
                if type(x) is types.FunctionType
            ]  # fmt: skip
            return
        self.places.append(("code", f, None, f.__code__, name or f.__name__))
        for variable, cell, value in found:
            self._place("cell", cell, None, value, variable)
        names, space = _names_of(f.__code__), f.__globals__
        for variable in sorted(names.globals & space.keys()):
            if not _is_of_library(space.get(variable)):
                self._item(space, variable, variable)
        self._attributes |= names.attributes
        self._attributes |= {name for base, name in names.chains if not _is_of_library(space.get(base))}
        self._todo += _imported(names.imports, space)
        code, defaults = f.__code__, f.__defaults__ or ()
        self._todo += zip(defaults, code.co_varnames[code.co_argcount - len(defaults) :])
        self._todo += [(value, key) for key, value in (f.__kwdefaults__ or {}).items()]
        if f.__dict__:
            self._own([(f.__dict__, None)], name)

    def _class(self, c: type, name: str, made: bool = False) -> None:
        """Class attributes and methods by their names; special methods in any case, as no code names them. Those that
        make an object only where code may do so, as it names the class."""
        spaces = [(_attributes_of_class(base), base) for base in c.__mro__ if not is_library_class(base)]
        if id(c) not in self._classes:
            self._classes[id(c)] = c
            if spaces:
                self._own([*spaces], name, c)
            if type(c) is not type and not is_library_class(type(c)):
                self._class(type(c), name)
        for attributes, _ in spaces:
            for key, value in list(attributes.items()):
                if (
                    (type(value) is types.FunctionType or type(value) is staticmethod)
                    and key.startswith("__")
                    and (made if key in _MAKERS else key not in _NOT_CALLED)
                ):
                    self._item(attributes, key, f"{name}.{key}")

    def _object(self, x: Any, name: str) -> None:
        attributes = _attributes_of(x)
        if attributes is not None:
            self._own([(attributes, None)], name, type(x))
            if "__wrapped__" in attributes:
                self._todo.append((attributes.get("__wrapped__"), name))
        if not is_library_class(type(x)):
            self._class(type(x), name)
            for key, member in _slots(type(x)):
                with contextlib.suppress(AttributeError):  # a slot that is empty
                    self._place("slot", x, member, member.__get__(x, type(x)), f"{name}.{key}")

    def _dict(self, x: dict[Any, Any], name: str) -> None:
        if dict.__len__(x) > _LONGEST:
            return
        items = list(dict.items(x))
        if any(key == "__spec__" for key, _ in items if type(key) is str):  # the names of a module
            return
        if len(items) <= _SINGLY and all(type(key) is str or type(key) is int for key, _ in items):
            self.places.append(("size", x, None, len(items), name))
            for key, value in items:
                self._place("item", x, key, value, f"{name}[{key!r}]")
        else:  # other keys cannot be looked up without code of their classes
            self.places.append(("dict", x, None, tuple(part for item in items for part in item), name))
            self._todo += _parts([value for _, value in items], name)

    def _items(self, kind: str, x: Any, items: Collection[Any], name: str) -> None:
        if len(items) <= _LONGEST:
            found = tuple(items)
            self.places.append((kind, x, None, found, name))
            self._todo += _parts(found, name)

    def _array(self, x: np.ndarray, name: str) -> None:
        if x.size and (x.flags.writeable or not x.flags.owndata):
            if not x.dtype.hasobject:
                self.places.append(("array", x, None, None, name))
            elif x.dtype.kind == "O" and x.size <= _LONGEST:
                self._items("objects", x, list(x.flat), name)


# What is behind objects of some classes of the standard library.
_AROUND: dict[int, Callable[[Any], Any]] = {
    id(property): lambda x: x.fget,
    id(staticmethod): lambda x: x.__func__,
    id(classmethod): lambda x: x.__func__,
    id(functools.partialmethod): lambda x: x.func,
    id(functools.cached_property): lambda x: x.func,
    id(types.MappingProxyType): lambda x: gc.get_referents(x)[0],
    id(weakref.ref): lambda x: x(),
}
_CONTAINERS = (dict, list, tuple, np.ndarray)


def _parts(items: Iterable[Any], name: str) -> list[tuple[Any, str]]:
    return [(item, f"{name}[{i}]") for i, item in enumerate(items) if not _is_atom(item)]


def _is_atom(x: Any) -> bool:
    return id(type(x)) in _ATOMS or issubclass(type(x), np.generic)


def _imported(names: Iterable[str], space: dict[str, Any]) -> Iterator[tuple[types.ModuleType, str]]:
    """The modules, and their names, that a function imports by these, as in ``import a.b`` or ``from .b import c``."""
    package = space.get("__package__")
    packages = [""]
    while type(package) is str and package:
        packages.append(package)
        package = package.rpartition(".")[0]
    for name in sorted(names):
        for path in {name.partition(".")[0], *(f"{package}.{name}".strip(".") for package in packages)}:
            module = sys.modules.get(path)
            if module is not None and issubclass(type(module), types.ModuleType):
                yield module, path


def _variables(f: types.FunctionType) -> Iterator[tuple[str, types.CellType, Any]]:
    """The variables of a function's closure that have a value: name, cell and value."""
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
        with contextlib.suppress(ValueError):
            yield name, cell, cell.cell_contents


def _attributes_of(x: Any) -> dict[str, Any] | None:
    """The dict of an object's own attributes, found without code of its class; None if it has none."""
    member = next((vars(c)["__dict__"] for c in type(x).__mro__ if "__dict__" in vars(c)), None)
    if type(member) is not types.GetSetDescriptorType and type(member) is not types.MemberDescriptorType:
        return None  # none, or a property of the user's
    attributes = member.__get__(x)
    return attributes if type(attributes) is dict else None


def _attributes_of_class(c: type) -> dict[str, Any]:
    attributes: dict[str, Any] = gc.get_referents(vars(c))[0]  # the dict behind the read-only view
    return attributes


def _slots(c: type) -> Iterator[tuple[str, Any]]:
    for base in c.__mro__:
        for key, member in list(vars(base).items()):
            if type(member) is types.MemberDescriptorType:
                yield key, member


def _module(c: Any) -> str:
    return module if type(module := getattr(c, "__module__", None)) is str else ""


def _is_ours(x: Any) -> bool:
    """Whether x is an object of a class of fastgrad's."""
    return _module(type(x)).partition(".")[0] == _PACKAGE


def _is_library_module(x: types.ModuleType) -> bool:
    attributes = _attributes_of(x) or {}  # a lazy module would load itself
    name, file = attributes.get("__name__"), attributes.get("__file__")
    if name == "__main__" or type(name) is not str:
        return False
    return name.partition(".")[0] in sys.stdlib_module_names if type(file) is not str else _user_frames.rank(file) > 0


def is_library_class(c: type) -> bool:
    """Whether a class belongs to a library, as far as can be told without code of the user's."""
    name = _module(c)
    module = sys.modules.get(name)
    if module is not None and issubclass(type(module), types.ModuleType) and name != "builtins":
        return _is_library_module(module)
    # Of a module that is not known, such as a file that was run: its methods tell.
    return not c.__flags__ & _HEAP_TYPE or any(
        _user_frames.rank(f.__code__.co_filename) for f in list(vars(c).values()) if type(f) is types.FunctionType
    )


def _is_of_library(x: Any) -> bool:
    """Whether x is a module, class or function of a library, which nobody changes between two calls."""
    if issubclass(type(x), types.ModuleType):
        return _is_library_module(x)
    if issubclass(type(x), type):
        return is_library_class(x)
    if type(x) is types.FunctionType:
        return _user_frames.rank(x.__code__.co_filename) > 0 and not x.__closure__
    return type(x) is types.BuiltinFunctionType or type(x) is np.ufunc
