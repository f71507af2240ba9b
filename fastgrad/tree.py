"""Nested structures of arrays: what every function of fastgrad takes as parameters and gives as gradients.

A tree is a leaf, or a dict, OrderedDict, list, tuple, NamedTuple, dataclass instance or None whose children are
trees, or an object of a class given to `register`. None and an empty container hold no leaf. Anything else is a
leaf, also an object of a subclass of dict or list. The order of leaves is that of the container, and for a dict that
of its sorted keys, so that two dicts with the same keys have one structure however they were filled. A dict that is
built again has its keys in the order of insertion. Keys of several types are sorted by the names of their types first,
members of an Enum by their names, and other keys that cannot be compared keep the order of insertion; wherever a second
tree is matched with a first, dicts are matched by key. Structures tell apart the keys 1, 1.0 and True, 0.0 and -0.0.

The children of a dataclass are its fields, but for those made by ``field(metadata={"static": True})``: their values
belong to the structure. It is rebuilt from its fields alone, without ``__init__`` or ``__post_init__``, which may
expect arrays where there are tensors.

The names are those of `jax.tree`. `_KINDS` is the one place that knows the containers: a kind says how to
split a node into keys, children and constants, and how to join it again.
"""

from __future__ import annotations

import builtins
import enum
import functools
import operator
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._core import Tensor

__all__ = ["Structure", "flatten", "flatten_with_path", "leaves", "map", "ravel", "register", "structure", "unflatten"]

_Split = tuple[Sequence[Any], Iterable[Any], Any]  # keys, children, and what else the container needs: constants


class _Kind(NamedTuple):
    split: Callable[[Any], _Split]
    join: Callable[[type, Sequence[Any], Iterable[Any], Any], Any]  # type, keys, children, constants
    entry: str  # how a path names a child
    brackets: str  # how a repr shows the children


class _DictKeys(tuple[Any, ...]):
    """The sorted keys of a dict that was filled in another order, which is `inserted` and takes no part in equality."""

    inserted: tuple[Any, ...]


def _sorted_keys(inserted: tuple[Any, ...]) -> tuple[Any, ...]:
    if not (_any_of(inserted, tuple) and _any_of(inserted, np.generic)):
        try:
            return tuple(sorted(inserted))
        except (TypeError, ValueError):
            pass
    try:  # also where NumPy's numbers stand beside tuples, since they are compared with each of a tuple's items
        return tuple(sorted(inserted, key=_by_type))
    except (TypeError, ValueError):
        return inserted


def _any_of(keys: Iterable[Any], kind: type) -> bool:
    return any(isinstance(key, kind) for key in keys)


def same_keys(keys: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether they are the same to a dict. Not by ``==`` alone, which compares NumPy's numbers with a tuple's items."""
    if type(keys) is range or type(others) is range:
        return keys == others
    return keys is others or (hash(keys) == hash(others) and keys == others)


def _by_type(key: Any) -> tuple[str, str, Any]:
    type_ = type(key)
    return type_.__module__, type_.__qualname__, key.name if isinstance(key, enum.Enum) else key


def _split_dict(node: dict[Any, Any]) -> _Split:
    inserted = tuple(node)
    try:
        keys = tuple(sorted(inserted))
        plain = not keys or type(keys[0]) is str  # strings alone, since they could be sorted
    except (TypeError, ValueError):
        plain = False
    if plain:
        in_order = keys == inserted
    else:
        keys = _sorted_keys(inserted)
        in_order = all(builtins.map(operator.is_, keys, inserted))
    if not in_order:
        keys = _DictKeys(keys)
        keys.inserted = inserted
    return keys, [node[key] for key in keys], None


def _split_ordered(node: OrderedDict[Any, Any]) -> _Split:
    return tuple(node), node.values(), None


def _split_sequence(node: Sequence[Any]) -> _Split:
    return range(len(node)), node, None


def _join_mapping(kind: type, keys: Sequence[Any], children: Iterable[Any], constants: Any) -> Any:
    node = kind(zip(keys, children))
    return {key: node[key] for key in keys.inserted} if type(keys) is _DictKeys else node


def _join_sequence(kind: type, keys: Sequence[Any], children: Iterable[Any], constants: Any) -> Any:
    return kind(children)


def _split_none(node: None) -> _Split:
    return (), (), None


def _join_none(kind: type, keys: Sequence[Any], children: Iterable[Any], constants: Any) -> None:
    return None


_KINDS: dict[type, _Kind | None] = {
    dict: _Kind(_split_dict, _join_mapping, "[{!r}]", "{}"),
    OrderedDict: _Kind(_split_ordered, _join_mapping, "[{!r}]", "{}"),
    list: _Kind(_split_sequence, _join_sequence, "[{}]", "[]"),
    tuple: _Kind(_split_sequence, _join_sequence, "[{}]", "()"),
    type(None): _Kind(_split_none, _join_none, "", ""),
    # Common types of leaves, found by one lookup; other types are leaves if they are none of the containers.
    **dict.fromkeys((np.ndarray, np.float64, np.float32, Tensor, float, int, bool, str)),
}


def _split_named(node: Any) -> _Split:
    return node._fields, node, None


def _join_named(kind: type, keys: Sequence[Any], children: Iterable[Any], constants: Any) -> Any:
    return kind(*children)


_NAMED_TUPLE = _Kind(_split_named, _join_named, ".{}", "()")
_DATACLASSES: weakref.WeakKeyDictionary[type, _Kind] = weakref.WeakKeyDictionary()


def kind_of(type_: type) -> _Kind | None:
    """The kind of a container type, None for a leaf."""
    try:
        return _KINDS[type_]
    except KeyError:
        if issubclass(type_, tuple) and hasattr(type_, "_fields"):
            return _NAMED_TUPLE
        return _dataclass_kind(type_) if hasattr(type_, "__dataclass_fields__") else None


def _fields(type_: type) -> tuple[Any, ...]:
    """The fields of a dataclass. Whoever made one has imported its module already, which is slow to import."""
    import dataclasses

    return dataclasses.fields(type_)


def _dataclass_kind(type_: type) -> _Kind:
    kind = _DATACLASSES.get(type_)
    if kind is not None:
        return kind
    names: dict[bool, list[str]] = {False: [], True: []}
    for field in _fields(type_):
        names[bool(field.metadata.get("static", False))].append(field.name)
    keys, static = tuple(names[False]), tuple(names[True])

    def split(node: Any) -> _Split:
        return keys, [getattr(node, key) for key in keys], tuple([getattr(node, name) for name in static]) or None

    def join(type_: type, keys: Sequence[Any], children: Iterable[Any], constants: Any) -> Any:
        node: Any = object.__new__(type_)
        for name, value in (*zip(keys, children), *zip(static, constants or ())):
            object.__setattr__(node, name, value)  # a frozen class refuses setattr
        return node

    kind = _DATACLASSES[type_] = _Kind(split, join, ".{}", "()")
    return kind


def register(
    cls: type, flatten: Callable[[Any], tuple[Iterable[Any], Any]], unflatten: Callable[[Any, tuple[Any, ...]], Any]
) -> None:
    """Make the objects of a class containers, as ``jax.tree_util.register_pytree_node`` does.

    Parameters
    ----------
    cls : type
        The class; its subclasses are not meant.
    flatten : callable
        ``flatten(obj)`` returns ``(children, aux)``: the children, which are trees, and what else it takes to build
        the object. aux belongs to the structure: it must be hashable and comparable, and hold no arrays.
    unflatten : callable
        ``unflatten(aux, children)`` returns the object; children is a tuple, of whatever is put in their places:
        tensors, or placeholders of any type.

    Raises TypeError if cls is no class or a type of leaves, such as ndarray, or the others are no functions; ValueError
    if it is a container already.
    Registering a dataclass or NamedTuple replaces what is done with its fields.

    >>> import fastgrad as fg
    >>> class Line:
    ...     def __init__(self, slope, offset, unit):
    ...         self.slope, self.offset, self.unit = slope, offset, unit
    >>> fg.tree.register(Line, lambda line: ((line.slope, line.offset), line.unit),
    ...                  lambda unit, children: Line(*children, unit))
    >>> fg.grad(lambda line: line.slope * 2 + line.offset)(Line(3.0, 1.0, "m")).slope
    np.float64(2.0)
    """
    if not isinstance(cls, type):
        raise TypeError(f"tree.register: expected a class, got {cls!r}")
    if issubclass(cls, (np.ndarray, np.generic, Tensor, float, int, str)):
        raise TypeError(f"tree.register: {cls.__name__} is a type of leaves and cannot be a container")
    for f in (flatten, unflatten):
        if not callable(f):
            raise TypeError(f"tree.register: expected functions flatten and unflatten, got {f!r}")
    if _KINDS.get(cls) is not None:
        raise ValueError(f"tree.register: {cls.__name__} is a container already")

    def split(node: Any) -> _Split:
        parts = flatten(node)
        if not isinstance(parts, tuple) or len(parts) != 2:
            raise TypeError(f"tree.register: flatten of {cls.__name__} must return (children, aux), got {parts!r}")
        children = tuple(parts[0])
        return range(len(children)), children, parts[1]

    def join(type_: type, keys: Sequence[Any], children: Iterable[Any], aux: Any) -> Any:
        return unflatten(aux, tuple(children))

    _KINDS[cls] = _Kind(split, join, "[<child {}>]", "()")


def registered() -> list[type]:
    """The classes given to `register`, and the containers that are known without it."""
    return [type_ for type_, kind in _KINDS.items() if kind is not None]


def is_named_tuple(type_: type) -> bool:
    """Whether a type is a NamedTuple, whose children are its items."""
    return kind_of(type_) is _NAMED_TUPLE


def exact(value: Any) -> Any:
    """A constant as a key that tells apart what Python compares equal but a program must not: 1, 1.0 and True, 0.0 and
    -0.0, and tuples and dataclasses of them."""
    type_ = type(value)
    if isinstance(value, tuple):
        return type_, tuple([exact(item) for item in value])
    if isinstance(value, frozenset):
        return type_, frozenset([exact(item) for item in value])
    if isinstance(value, (float, complex, np.inexact)):
        return type_, repr(value)
    if hasattr(type_, "__dataclass_fields__"):
        return type_, value, tuple([exact(getattr(value, field.name)) for field in _fields(type_)])
    return type_, value


class Structure:
    """The shape of a tree without its leaves: comparable, hashable, and able to build the tree again.

    `num_leaves` is how many leaves it takes.
    """

    __slots__ = ("_children", "_constants", "_is_flat", "_keys", "_type", "num_leaves")

    def __init__(
        self,
        type_: type | None,
        keys: Sequence[Any],
        children: tuple[Structure, ...],
        num_leaves: int,
        constants: Any = None,
    ) -> None:
        self._type, self._keys, self._children, self.num_leaves = type_, keys, children, num_leaves
        self._constants = constants
        self._is_flat = children != () and children.count(_LEAF) == len(children)  # it has leaves only

    @property
    def children(self) -> tuple[Structure, ...]:
        """The structures of the children, in the order of the leaves; none of a leaf."""
        return self._children

    @property
    def _kind(self) -> _Kind:
        kind = kind_of(self._type)  # type: ignore[arg-type]
        assert kind is not None
        return kind

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """The tree of this structure with these leaves; ValueError unless their number fits."""
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ValueError(f"tree.unflatten: {len(leaves)} leaves for a structure of {self.num_leaves}: {self}")
        if self is _LEAF:
            return leaves[0]
        if self._is_flat:
            if self._type is tuple:
                return tuple(leaves)
            return self._kind.join(self._type, self._keys, leaves, self._constants)  # type: ignore[arg-type]
        return self._build(iter(leaves))

    def _build(self, leaves: Any) -> Any:
        if self._type is None:
            return next(leaves)
        children = [next(leaves) if c is _LEAF else c._build(leaves) for c in self._children]
        return self._kind.join(self._type, self._keys, children, self._constants)

    def flatten_up_to(self, tree: Any, name: str = "tree", nones: bool = False) -> list[Any]:
        """The subtrees of `tree` that stand where this structure has leaves, in the order of the leaves.

        With ``nones``, a None may stand for any part, all of whose leaves are then None. Raises ValueError naming the
        place, from `name` on, where `tree` is built otherwise.
        """
        if self._is_flat and type(tree) is tuple is self._type and len(tree) == self.num_leaves:
            return list(tree)
        found: list[Any] = []
        self._match(tree, name, found, nones)
        return found

    def _match(self, node: Any, path: str, found: list[Any], nones: bool) -> None:
        if nones and node is None:
            found += [None] * self.num_leaves
            return
        if self._type is None:
            found.append(node)
            return
        if type(node) is not self._type:
            raise ValueError(
                f"{path} is of type {type(node).__name__} where {self._type.__name__} was expected: {self}"
            )
        keys, children, constants = self._kind.split(node)
        if not same_keys(keys, self._keys):
            if not isinstance(node, dict) or set(keys) != set(self._keys):
                raise ValueError(f"{path} {_difference(self._keys, keys)}")
            children = [node[key] for key in self._keys]
        if not self._has_constants(constants):
            raise ValueError(f"{path} has the constants {constants!r} where {self._constants!r} were expected")
        for key, structure, child in zip(self._keys, self._children, children):
            if structure is _LEAF:
                found.append(child)
            else:
                structure._match(child, path + self._kind.entry.format(key), found, nones)

    def paths(self, name: str = "") -> list[str]:
        """Where each leaf stands, written as in Python from `name` on: "params['layer1'][0]"."""
        if self._type is None:
            return [name]
        return [
            path
            for key, child in zip(self._keys, self._children)
            for path in child.paths(name + self._kind.entry.format(key))
        ]

    def insertion_orders(self) -> tuple[Any, ...] | None:
        """Tells apart equal structures whose dicts were filled in different orders; None where all were sorted.

        A function that walks a dict meets its values in this order.
        """
        own = getattr(self._keys, "inserted", None)
        below = tuple([c.insertion_orders() for c in self._children if c is not _LEAF])
        return None if own is None and not any(below) else (own, below)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Structure):
            return NotImplemented
        return (
            self._type is other._type
            and self._has_keys(other._keys)
            and self._children == other._children
            and self._has_constants(other._constants)
        )

    def _has_keys(self, keys: Sequence[Any]) -> bool:
        """Whether these are the own keys, and not only equal: a function may tell 1 from True, 0.0 from -0.0."""
        if type(keys) is range:
            return self._keys == keys
        return len(self._keys) == len(keys) and all(a is b or exact(a) == exact(b) for a, b in zip(self._keys, keys))

    def _has_constants(self, constants: Any) -> bool:
        try:
            return self._constants is constants or bool(exact(self._constants) == exact(constants))
        except ValueError as error:  # as of arrays
            raise self._unfit("comparable", error) from None

    def _unfit(self, needed: str, error: Exception) -> TypeError:
        name = getattr(self._type, "__name__", "")
        return TypeError(f"tree: the constants {self._constants!r} of {name} must be {needed}: {error}")

    def __hash__(self) -> int:
        constants = self._constants
        try:
            own = None if constants is None else hash(exact(constants))
        except TypeError as error:
            raise self._unfit("hashable", error) from None
        return hash((self._type, self._keys, self._children, own))

    def __repr__(self) -> str:
        if self._type is None:
            return "*"
        if self._type is type(None):
            return "None"
        kind = self._kind
        if kind.entry == ".{}":
            items = [f"{key}={child}" for key, child in zip(self._keys, self._children)]
        elif isinstance(self._keys, range):
            items = [repr(child) for child in self._children]
        else:
            items = [f"{key!r}: {child}" for key, child in zip(self._keys, self._children)]
        if self._type not in _PLAIN_CONTAINERS:
            items += [] if self._constants is None else [f"constants={self._constants!r}"]
            return f"{self._type.__name__}({', '.join(items)})"
        comma = "," if self._type is tuple and len(items) == 1 else ""
        return kind.brackets[0] + ", ".join(items) + comma + kind.brackets[1]


_PLAIN_CONTAINERS = (dict, OrderedDict, list, tuple)  # which a repr shows by brackets alone
_LEAF = Structure(None, (), (), 1)
_LEAF_TUPLE = (_LEAF,)
_PLAIN_LEAVES = {np.ndarray, Tensor, float}  # a container of nothing else is flattened in one go: half the time


def _difference(expected: Sequence[Any], found: Sequence[Any]) -> str:
    if isinstance(expected, range):
        return f"has {len(found)} elements where {len(expected)} were expected"
    known, there = set(expected), set(found)
    missing = [repr(key) for key in expected if key not in there]
    extra = [repr(key) for key in found if key not in known]
    parts = ["lacks " + ", ".join(missing)] if missing else []
    parts += ["has the unexpected " + ", ".join(extra)] if extra else []
    return " and ".join(parts)


@functools.lru_cache
def _tuple_of_leaves(n: int) -> Structure:
    return Structure(tuple, range(n), _LEAF_TUPLE * n, n)


# How deep containers may be nested. A structure is hashed, compared and shown by recursion through C functions of
# Python's, which take the machine's stack whatever sys.setrecursionlimit says. The first releases of CPython 3.12 let
# these nest 1500 times, and a level takes three.
_DEPTH_LIMIT = 400 if sys.version_info[:2] == (3, 12) else 1000


def _flatten(node: Any, leaves: list[Any], depth: int) -> Structure:
    type_ = type(node)
    try:
        kind = _KINDS[type_]
    except KeyError:
        kind = kind_of(type_)
    if kind is None:
        leaves.append(node)
        return _LEAF
    before = len(leaves)
    keys, children, constants = kind.split(node)
    if _PLAIN_LEAVES.issuperset(builtins.map(type, children)):
        leaves += children
        if type_ is tuple:
            return _tuple_of_leaves(len(keys))
        structures = _LEAF_TUPLE * len(keys)
    else:
        if depth == _DEPTH_LIMIT:
            raise RecursionError
        structures = tuple([_flatten(child, leaves, depth + 1) for child in children])
    return Structure(type_, keys, structures, len(leaves) - before, constants)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree, in order, and its structure.

    Raises ValueError if the tree holds itself, or containers are nested more than 1000 deep (400 on CPython 3.12), or
    deeper than Python's recursion limit allows: by default some 500.

    >>> import fastgrad as fg
    >>> fg.tree.flatten({"w": [1.0, 2.0], "b": 3.0})
    ([3.0, 1.0, 2.0], {'b': *, 'w': [*, *]})
    """
    leaves: list[Any] = []
    try:
        return leaves, _flatten(tree, leaves, 1)
    except RecursionError:
        raise ValueError("tree: a structure holds itself, or is nested too deeply") from None


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The tree of a structure, with new leaves; the inverse of `flatten`.

    Raises ValueError unless there are as many leaves as the structure takes.

    >>> import fastgrad as fg
    >>> leaves, structure = fg.tree.flatten({"w": [1.0, 2.0], "b": 3.0})
    >>> fg.tree.unflatten(structure, [10 * leaf for leaf in leaves])
    {'w': [10.0, 20.0], 'b': 30.0}
    """
    if not isinstance(structure, Structure):
        raise TypeError(
            "tree.unflatten: expected a structure, as flatten returns, and then the leaves, got "
            f"{type(structure).__name__}"
        )
    return structure.unflatten(leaves)


def leaves(tree: Any) -> list[Any]:
    """The leaves of a tree, in order.

    >>> import fastgrad as fg
    >>> fg.tree.leaves({"w": (1.0, None), "b": 3.0})
    [3.0, 1.0]
    """
    return flatten(tree)[0]


def structure(tree: Any) -> Structure:
    """The structure of a tree.

    >>> import fastgrad as fg
    >>> fg.tree.structure([1.0, (2.0, 3.0)]) == fg.tree.structure([0.0, (0.0, 0.0)])
    True
    """
    return flatten(tree)[1]


def flatten_with_path(tree: Any, name: str = "") -> tuple[list[tuple[str, Any]], Structure]:
    """The leaves of a tree with their places, written as in Python from `name` on, and its structure.

    >>> import fastgrad as fg
    >>> fg.tree.flatten_with_path({"layer1": [1.0, 2.0]}, "params")[0]
    [("params['layer1'][0]", 1.0), ("params['layer1'][1]", 2.0)]
    """
    found, structure = flatten(tree)
    return list(zip(structure.paths(name), found)), structure


def map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """The tree of f(leaf, ...) over the leaves of `tree` and what stands in the same places of `rest`.

    Raises ValueError, naming the place, where one of `rest` is built otherwise than `tree`.

    >>> import fastgrad as fg
    >>> fg.tree.map(lambda p, g: p - g, {"w": [3.0, 2.0]}, {"w": [1.0, 1.0]})
    {'w': [2.0, 1.0]}
    """
    found, structure = flatten(tree)
    others = [structure.flatten_up_to(other, f"tree {i}") for i, other in enumerate(rest, 2)]
    return structure.unflatten(builtins.map(f, found, *others))


def place_of(structure: Structure, i: int) -> str:
    """The name in errors of leaf number i of the structure of (args, kwargs), such as "args[0]['w']"."""
    path = structure.paths("")[i]
    return ("args" if path.startswith("[0]") else "kwargs") + path[3:]


def ravel(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The leaves of a tree joined to one vector, and the function that makes the tree of such a vector.

    Parameters
    ----------
    tree : nested structure
        Its leaves are arrays, tensors or numbers, real, of any shapes.

    Returns
    -------
    flat : ndarray or Tensor
        All elements, leaf after leaf, each in C order. The leaves of a dict come by its sorted keys, whatever the
        order of insertion, those of a list, tuple or dataclass in its order. A Tensor if one of the leaves is; of the
        dtype to which NumPy promotes those of the leaves, a Python float counting as float64 and an int as int64.
        Without leaves it is empty and float64.
    unravel : callable
        Takes a vector of that length, of any dtype, and returns the tree: each leaf with its shape and dtype, an
        ndarray where it was one and a NumPy number where it was a number; tensors if the vector is one. Leaves of the
        vector's own dtype are views of it.

    Inside ``grad`` and ``compile`` both are differentiated and traced as any operation. Raises TypeError, naming the
    place, for other leaves; unravel raises ValueError for a vector of another shape, and TypeError where a tensor that
    requires gradients would become a leaf of integers, which has none.

    >>> import fastgrad as fg, numpy as np
    >>> flat, unravel = fg.tree.ravel({"w": np.ones((1, 2)), "b": np.float32(3)})
    >>> flat, unravel(2 * flat)
    (array([3., 1., 1.]), {'w': array([[2., 2.]]), 'b': np.float32(6.0)})

    Here b comes before w, as it does in the rows and columns of a Hessian by this vector.
    """
    found, structure = flatten(tree)
    arrays = [leaf if isinstance(leaf, Tensor) else np.asarray(leaf) for leaf in found]
    for i, a in enumerate(arrays):
        if a.dtype.kind not in "fiub" or _core.is_masked(found[i]):
            raise TypeError(
                f"tree.ravel: {structure.paths('tree')[i]} is of type {type(found[i]).__name__} and dtype {a.dtype}, "
                "expected real arrays and numbers"
            )
    numbers = [not isinstance(leaf, (np.ndarray, Tensor)) for leaf in found]
    parts = [(a.shape, a.size, a.dtype, number) for a, number in zip(arrays, numbers)]
    size = sum([a.size for a in arrays])
    if any(isinstance(a, Tensor) for a in arrays):
        flat: Any = _core.concatenate(arrays, axis=None)
    else:
        flat = np.concatenate([a.reshape(-1) for a in arrays]) if arrays else np.zeros(0)

    def unravel(flat: Any) -> Any:
        if not isinstance(flat, Tensor):
            flat = np.asarray(flat)
        if flat.shape != (size,):
            raise ValueError(f"tree.ravel: unravel takes a vector of shape ({size},), got shape {flat.shape}")
        leaves, start = [], 0
        for shape, n, dtype, number in parts:
            leaf = flat[start : start + n].reshape(shape)
            if leaf.dtype != dtype:
                if isinstance(leaf, Tensor) and leaf.requires_grad and dtype.kind != "f":
                    raise TypeError(
                        f"tree.ravel: part of a vector that requires gradients cannot become {dtype}, which has none; "
                        "leave integers out of the tree, or use .detach() first"
                    )
                leaf = leaf.astype(dtype)
            leaves.append(leaf[()] if number and not isinstance(leaf, Tensor) else leaf)
            start += n
        return structure.unflatten(leaves)

    return flat, unravel
