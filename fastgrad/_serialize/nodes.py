"""A tree as a list of nodes that JSON can hold, and back.

The nodes stand in the order of a walk from the root, a container before its children, so that reading needs no
recursion. An array is a node that names an entry of the file, with its dtype, its shape and a digest of its bytes.
Classes are named and never imported: whoever reads the file says which classes may be made.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor

__all__ = ["Array", "Damaged", "decode", "digest", "encode", "plain_dtype"]

_KINDS = "biufcmMSU"  # of dtypes that their text describes whole: no objects, no fields
_CONTAINERS: dict[str, Callable[[Any], Any]] = {"list": list, "tuple": tuple}
_MAPPINGS: dict[str, Callable[[Any], Any]] = {"dict": dict, "OrderedDict": OrderedDict}
_LARGEST = 2**53  # integers beyond are written as text, which other readers of JSON do not round


class Damaged(ValueError):
    """What was read is not what `encode` wrote. The text says what is wrong."""


class Array:
    """An array of a tree: its entry's name and its node, which lacks the digest until the bytes are known."""

    def __init__(self, name: str, value: np.ndarray, node: list[Any]) -> None:
        self.name, self._value, self._node = name, value, node

    def snapshot(self) -> np.ndarray:
        """A contiguous copy, which no other thread can change, and whose digest the node now has."""
        copy = np.array(self._value, order="C")
        self._node[-1] = digest(copy)
        return copy


def digest(a: np.ndarray) -> str:
    """The SHA-256 of a contiguous array's bytes."""
    return hashlib.sha256(a.reshape(-1).view(np.uint8).data).hexdigest()


def plain_dtype(text: Any) -> np.dtype[Any]:
    """The dtype of a text as NumPy's ``dtype.str``; Damaged if it is none of those that are saved."""
    try:
        dtype = np.dtype(text) if type(text) is str and len(text) < 40 else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.kind not in _KINDS or dtype.str != text:
        raise Damaged(f"{text!r} is no dtype that is saved")
    return dtype


# writing ----------------------------------------------------------------------------------------------------


def encode(root: Any, subject: str) -> tuple[list[list[Any]], list[Array]]:
    """The nodes of a tree and its arrays. TypeError, naming the place, for what cannot be saved; ValueError if the tree
    holds itself or is nested too deeply."""
    writer = _Writer(subject)
    try:
        writer.add(root, ())
    except RecursionError:
        raise ValueError(f"{subject}: the tree holds itself, or is nested too deeply") from None
    return writer.nodes, writer.arrays


class _Writer:
    def __init__(self, subject: str) -> None:
        self.nodes: list[list[Any]] = []
        self.arrays: list[Array] = []
        self._subject = subject
        self._taken: dict[str, int] = {}

    def add(self, x: Any, path: tuple[Any, ...]) -> None:
        type_ = type(x)
        node = _atom(x, type_)
        if node is not None:
            self.nodes.append(node)
        elif type_ is list or type_ is tuple:
            self.nodes.append([type_.__name__, len(x)])
            for i, child in enumerate(x):
                self.add(child, (*path, i))
        elif type_ in (dict, OrderedDict):
            self.nodes.append([type_.__name__, len(x)])
            for key, child in x.items():
                self.add(key, (*path, "a key"))
                self.add(child, (*path, key))
        elif issubclass(type_, (np.ndarray, np.generic, Tensor)):
            self._add_array(x, path)
        elif (kind := tree.kind_of(type_)) is not None:
            keys, children, constants = kind.split(x)
            names = len(keys) if isinstance(keys, range) else [str(key) for key in keys]
            self.nodes.append(["object", _class_name(type_), names])
            self.add(constants, (*path, "its constants"))
            for key, child in zip(keys, children):
                self.add(child, (*path, key))
        else:
            raise self._refused(
                x, path, "arrays, tensors, numbers, strings, bytes, None, and dicts, lists, tuples and registered "
                "containers of these"
            )  # fmt: skip

    def _add_array(self, x: Any, path: tuple[Any, ...]) -> None:
        kind = "ndarray"
        if isinstance(x, Tensor):
            if x.requires_grad and (not x.is_leaf or _core.in_transform()):
                raise self._refused(x, path, "its .detach(), as it is the result of recorded operations")
            _core.refuse_traced_effect("a tensor was saved", "Save it outside the function")
            kind, x = "leaf" if x.requires_grad else "tensor", x.detach().numpy()
        elif isinstance(x, np.generic):
            kind, x = "scalar", np.asarray(x)
        elif type(x) not in (np.ndarray, np.memmap):
            cure = "its .filled()" if _core.is_masked(x) else "a plain array, by np.asarray"
            raise self._refused(x, path, cure)
        if x.dtype.kind not in _KINDS or x.dtype.metadata:
            cure = "a list of the objects" if x.dtype.kind == "O" else "numbers, strings or times without fields"
            raise self._refused(x, path, cure)
        node = ["array", kind, self._name(path), x.dtype.str, list(x.shape), ""]
        self.nodes.append(node)
        self.arrays.append(Array(node[2], x, node))

    def _name(self, path: tuple[Any, ...]) -> str:
        """The name of an entry: the keys on the way to it, as PyTorch joins them, in letters that are safe in names of
        files; numbered where two would be equal."""
        name = ".".join([re.sub(r"[^A-Za-z0-9_-]", "_", str(key))[:60] for key in path])[-200:].lstrip(".") or "array"
        n = self._taken[name.lower()] = self._taken.get(name.lower(), 0) + 1
        return name if n == 1 else self._name((*path, f"copy{n}"))

    def _refused(self, x: Any, path: tuple[Any, ...], cure: str) -> TypeError:
        what = f"an array of {x.dtype}" if type(x) is np.ndarray else f"of type {type(x).__name__}"
        place = "tree" + "".join([f"[{key!r}]" for key in path])
        return TypeError(f"{self._subject}: {place} is {what}, which cannot be saved; expected {cure}")


def _atom(x: Any, type_: type) -> list[Any] | None:
    """The node of what is neither array nor container; None of those."""
    if x is None:
        return ["none"]
    if type_ is bool or type_ is str:
        return [type_.__name__, x]
    if type_ is int:
        return ["int", x if -_LARGEST < x < _LARGEST else hex(x)]
    if type_ is float:
        return ["float", x if x - x == 0 else struct.pack(">d", x).hex()]
    if type_ is complex:
        return ["complex", struct.pack(">dd", x.real, x.imag).hex()]
    return ["bytes", x.hex()] if type_ is bytes else None


def _class_name(type_: type) -> str:
    return f"{type_.__module__}:{type_.__qualname__}"


# reading ----------------------------------------------------------------------------------------------------


def decode(
    nodes: Any, read: Callable[[str, np.dtype[Any], tuple[int, ...], str], np.ndarray], types: Iterable[type]
) -> Any:
    """The tree of these nodes. ``read(name, dtype, shape, digest)`` returns an array; objects are made of these types
    and of those registered with `tree.register`. Damaged where the nodes are not those of `encode`; ValueError for a
    class that is not among the types."""
    known = {_class_name(t): t for t in (*tree.registered(), *types)}
    open_: list[_Open] = []
    if type(nodes) is not list:
        raise Damaged("there are no nodes")
    names = set[str]()
    last = len(nodes) - 1
    for i, node in enumerate(nodes):
        if type(node) is not list or not node or type(node[0]) is not str:
            raise Damaged(f"node {i} has no kind")
        kind, rest = node[0], node[1:]
        if kind == "array":
            value = _array(rest, read, names)
        elif kind in _CONTAINERS or kind in _MAPPINGS or kind == "object":
            begun = _begun(kind, rest, known)
            if begun.left > last - i:
                raise Damaged(f"node {i} lacks children")
            if begun.left:
                open_.append(begun)
                continue
            value = begun.close()
        else:
            value = _value(kind, rest)
        while open_:
            innermost = open_[-1]
            innermost.children.append(value)
            innermost.left -= 1
            if innermost.left:
                break
            value = open_.pop().close()
        else:
            if i != last:
                raise Damaged("there are nodes after the end of the tree")
            return value
    raise Damaged("the tree has no end")


class _Open:
    """A container some of whose children are still to come."""

    def __init__(self, n: int, join: Callable[[list[Any]], Any]) -> None:
        self.left, self.children, self._join = n, list[Any](), join

    def close(self) -> Any:
        try:
            return self._join(self.children)
        except TypeError as error:  # as of a key that cannot be hashed
            raise Damaged(str(error)) from None


def _begun(kind: str, rest: list[Any], known: dict[str, type]) -> _Open:
    if kind != "object":
        n = rest[0] if len(rest) == 1 else None
        if type(n) is not int or n < 0:
            raise Damaged(f"a {kind} has no length")
        if kind in _CONTAINERS:
            return _Open(n, _CONTAINERS[kind])
        return _Open(2 * n, lambda children: _MAPPINGS[kind](zip(children[::2], children[1::2])))
    name, keys = rest if len(rest) == 2 else (None, None)
    if type(keys) is int and keys >= 0:
        n = keys
    elif type(keys) is list and all(type(key) is str for key in keys):
        n = len(keys)
    else:
        n = -1
    if type(name) is not str or n < 0:
        raise Damaged("an object has no class or no keys")
    type_ = known.get(name)
    if type_ is None:
        raise ValueError(
            f"it holds an object of the class {name.replace(':', '.')}, which is not known here; pass the class, as in "
            f"types=[{name.rpartition(':')[2]}], or register it by fastgrad.tree.register"
        )
    return _Open(1 + n, lambda children: _joined(type_, keys, children))


def _joined(type_: type, keys: Any, children: list[Any]) -> Any:
    """An object of a class; ValueError if the class has changed since it was saved."""
    kind = tree.kind_of(type_)
    expected = range(keys) if type(keys) is int else tuple(keys)
    try:
        if kind is None:
            raise TypeError("it is no container")
        joined = kind.join(type_, expected, children[1:], children[0])
        found = kind.split(joined)[0]
    except Exception as error:  # whatever the user's class raises
        raise ValueError(f"an object of the class {type_.__qualname__} cannot be built: {error}") from error
    if found != expected:
        raise ValueError(
            f"{type_.__qualname__} was saved with {_listed(expected)} and has {_listed(found)} here; load it with the "
            "class as it was"
        )
    return joined


def _listed(keys: Any) -> str:
    return f"{len(keys)} children" if isinstance(keys, range) else f"the fields {', '.join(map(str, keys))}"


def _array(rest: list[Any], read: Callable[..., np.ndarray], names: set[str]) -> Any:
    if len(rest) != 5:
        raise Damaged("an array has no description")
    kind, name, text, shape, sha = rest
    dtype = plain_dtype(text)
    if type(name) is not str or name in names or type(sha) is not str or kind not in _MADE:
        raise Damaged(f"the array {name!r} has a wrong description")
    if type(shape) is not list or len(shape) > 64 or not all(type(n) is int and 0 <= n < 2**62 for n in shape):
        raise Damaged(f"the array {name!r} has the shape {shape!r}")
    names.add(name)
    return _MADE[kind](read(name, dtype, tuple(shape), sha))


_MADE: dict[str, Callable[[np.ndarray], Any]] = {
    "ndarray": lambda a: a,
    "scalar": lambda a: a[()],
    "tensor": _core.tensor,
    "leaf": lambda a: _core.tensor(a, requires_grad=True),
}


def _value(kind: str, rest: list[Any]) -> Any:
    value = rest[0] if len(rest) == 1 else None
    try:
        if kind == "none" and not rest:
            return None
        if kind in ("bool", "str") and type(value).__name__ == kind:
            return value
        if kind == "int":
            return value if type(value) is int else int(_text(value), 16)
        if kind == "float":
            return value if type(value) is float else struct.unpack(">d", bytes.fromhex(_text(value)))[0]
        if kind == "complex":
            return complex(*struct.unpack(">dd", bytes.fromhex(_text(value))))
        if kind == "bytes":
            return bytes.fromhex(_text(value))
    except (ValueError, struct.error):
        pass
    raise Damaged(f"{kind!r} is no kind of node, or has the value {value!r:.40}")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError
    return value
