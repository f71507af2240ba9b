"""Nested structures of arrays: what every function of fastgrad takes as parameters and gives as gradients.

A tree is a leaf, or a dict, OrderedDict, list, tuple, NamedTuple or None whose children are trees. None and
an empty container hold no leaf. Anything else is a leaf, also an object of a subclass of dict or list.
The order of leaves is that of the container, and for a dict that of its sorted keys, so that two dicts with
equal keys have one structure however they were filled. Keys that cannot be compared with one another keep
the order of insertion; wherever a second tree is matched with a first, dicts are matched by key.

The names are those of `jax.tree`. `_KINDS` is the one place that knows the containers: a kind says how to
split a node into keys and children and how to join it again.
"""

from __future__ import annotations

import builtins
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Structure", "flatten", "flatten_with_path", "leaves", "map", "structure", "unflatten"]


class _Kind(NamedTuple):
    split: Callable[[Any], tuple[Sequence[Any], Iterable[Any]]]
    join: Callable[[type, Sequence[Any], Iterable[Any]], Any]
    entry: str  # how a path names a child
    brackets: str  # how a repr shows the children


def _split_dict(node: dict[Any, Any]) -> tuple[Sequence[Any], Iterable[Any]]:
    try:
        keys = tuple(sorted(node))
    except TypeError:
        keys = tuple(node)
    return keys, [node[key] for key in keys]


def _split_sequence(node: Sequence[Any]) -> tuple[Sequence[Any], Iterable[Any]]:
    return range(len(node)), node


def _join_mapping(kind: type, keys: Sequence[Any], children: Iterable[Any]) -> Any:
    return kind(zip(keys, children))


def _join_sequence(kind: type, keys: Sequence[Any], children: Iterable[Any]) -> Any:
    return kind(children)


_KINDS: dict[type, _Kind] = {
    dict: _Kind(_split_dict, _join_mapping, "[{!r}]", "{}"),
    OrderedDict: _Kind(lambda node: (tuple(node), node.values()), _join_mapping, "[{!r}]", "{}"),
    list: _Kind(_split_sequence, _join_sequence, "[{}]", "[]"),
    tuple: _Kind(_split_sequence, _join_sequence, "[{}]", "()"),
    type(None): _Kind(lambda node: ((), ()), lambda kind, keys, children: None, "", ""),
}
_NAMED_TUPLE = _Kind(
    lambda node: (node._fields, node), lambda kind, keys, children: kind(*children), ".{}", "()"
)


def _kind_of(type_: type) -> _Kind | None:
    """The kind of a container type, None for a leaf."""
    kind = _KINDS.get(type_)
    if kind is None and issubclass(type_, tuple) and hasattr(type_, "_fields"):
        return _NAMED_TUPLE
    return kind


class Structure:
    """The shape of a tree without its leaves: comparable, hashable, and able to build the tree again.

    `num_leaves` is how many leaves it takes.
    """

    __slots__ = ("_children", "_keys", "_type", "num_leaves")

    def __init__(
        self, type_: type | None, keys: Sequence[Any], children: tuple[Structure, ...], num_leaves: int
    ) -> None:
        self._type, self._keys, self._children, self.num_leaves = type_, keys, children, num_leaves

    @property
    def _kind(self) -> _Kind:
        kind = _kind_of(self._type)  # type: ignore[arg-type]
        assert kind is not None
        return kind

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """The tree of this structure with these leaves; ValueError unless their number fits."""
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ValueError(
                f"tree.unflatten: {len(leaves)} leaves for a structure of {self.num_leaves}: {self}"
            )
        return self._build(iter(leaves))

    def _build(self, leaves: Any) -> Any:
        if self._type is None:
            return next(leaves)
        children = [next(leaves) if c is _LEAF else c._build(leaves) for c in self._children]
        return self._kind.join(self._type, self._keys, children)

    def flatten_up_to(self, tree: Any, name: str = "tree") -> list[Any]:
        """The subtrees of `tree` that stand where this structure has leaves, in the order of the leaves.

        Raises ValueError naming the place, from `name` on, where `tree` is built otherwise.
        """
        found: list[Any] = []
        self._match(tree, name, found)
        return found

    def _match(self, node: Any, path: str, found: list[Any]) -> None:
        if self._type is None:
            found.append(node)
            return
        if type(node) is not self._type:
            raise ValueError(
                f"{path} is of type {type(node).__name__} where {self._type.__name__} was expected: {self}"
            )
        keys, children = self._kind.split(node)
        if keys != self._keys:
            if not isinstance(node, dict) or set(keys) != set(self._keys):
                raise ValueError(f"{path} {_difference(self._keys, keys)}")
            children = [node[key] for key in self._keys]
        for key, structure, child in zip(self._keys, self._children, children):
            if structure is _LEAF:
                found.append(child)
            else:
                structure._match(child, path + self._kind.entry.format(key), found)

    def paths(self, name: str = "") -> list[str]:
        """Where each leaf stands, written as in Python from `name` on: "params['layer1'][0]"."""
        if self._type is None:
            return [name]
        return [
            path
            for key, child in zip(self._keys, self._children)
            for path in child.paths(name + self._kind.entry.format(key))
        ]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Structure):
            return NotImplemented
        return (
            self._type is other._type and self._keys == other._keys and self._children == other._children
        )

    def __hash__(self) -> int:
        return hash((self._type, self._keys, self._children))

    def __repr__(self) -> str:
        if self._type is None:
            return "*"
        if self._type is type(None):
            return "None"
        kind = self._kind
        if kind is _NAMED_TUPLE:
            items = [f"{key}={child}" for key, child in zip(self._keys, self._children)]
            return f"{self._type.__name__}({', '.join(items)})"
        if isinstance(self._keys, range):
            items = [repr(child) for child in self._children]
        else:
            items = [f"{key!r}: {child}" for key, child in zip(self._keys, self._children)]
        comma = "," if self._type is tuple and len(items) == 1 else ""
        return kind.brackets[0] + ", ".join(items) + comma + kind.brackets[1]


_LEAF = Structure(None, (), (), 1)
_LEAF_TUPLE = (_LEAF,)
_PLAIN_LEAVES = {np.ndarray, float}  # a container of nothing else is flattened in one go: half the time


def _difference(expected: Sequence[Any], found: Sequence[Any]) -> str:
    if isinstance(expected, range):
        return f"has {len(found)} elements where {len(expected)} were expected"
    missing = [repr(key) for key in expected if key not in found]
    extra = [repr(key) for key in found if key not in expected]
    parts = ["lacks " + ", ".join(missing)] if missing else []
    parts += ["has the unexpected " + ", ".join(extra)] if extra else []
    return " and ".join(parts)


def _flatten(node: Any, leaves: list[Any]) -> Structure:
    type_ = type(node)
    kind = _KINDS.get(type_) or _kind_of(type_)
    if kind is None:
        leaves.append(node)
        return _LEAF
    before = len(leaves)
    keys, children = kind.split(node)
    if _PLAIN_LEAVES.issuperset(builtins.map(type, children)):
        leaves += children
        structures = _LEAF_TUPLE * len(keys)
    else:
        structures = tuple([_flatten(child, leaves) for child in children])
    return Structure(type_, keys, structures, len(leaves) - before)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree, in order, and its structure.

    >>> import fastgrad as fg
    >>> fg.tree.flatten({"w": [1.0, 2.0], "b": 3.0})
    ([3.0, 1.0, 2.0], {'b': *, 'w': [*, *]})
    """
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The tree of a structure, with new leaves; the inverse of `flatten`.

    Raises ValueError unless there are as many leaves as the structure takes.

    >>> import fastgrad as fg
    >>> leaves, structure = fg.tree.flatten({"w": [1.0, 2.0], "b": 3.0})
    >>> fg.tree.unflatten(structure, [10 * leaf for leaf in leaves])
    {'b': 30.0, 'w': [10.0, 20.0]}
    """
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
