"""The arguments of a call of a compiled function: static ones, and the leaves of the others.

They make the key by which ``compiled`` keeps programs, the inputs of a program, and the guard that matches further
calls in C.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import _core, tree
from .._core import Tensor

_NOWHERE = 1 << 30  # the place of a parameter that is passed by name only: no call has so many arguments


class Leaf(NamedTuple):
    value: Any
    array: np.ndarray
    number: type | None  # the type of a Python number, which takes on the dtype of what it meets; None for an array


class Call:
    """The arguments of a call: static ones, at ``places`` and of ``names``, and the leaves of the dynamic ones."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], places: set[int], names: set[str]) -> None:
        self.args, self.kwargs, self.places, self.names = args, kwargs, places, names
        dynamic = tuple(a for i, a in enumerate(args) if i not in places)
        named = {name: a for name, a in kwargs.items() if name not in names}
        self.given, self.structure = tree.flatten((dynamic, named))
        self.leaves = [
            Leaf(x, _input(x, self.structure, i), type(x) if type(x) in (float, int, bool) else None)
            for i, x in enumerate(map(_core.number_if_known, self.given))
        ]
        self.inputs = [leaf.array for leaf in self.leaves]
        self.changed: list[str] = []  # what the function changed outside while it was traced for this call

    def key(self) -> Any:
        """The key of the cache: equal for calls that one program serves."""
        fixed = tuple((i, _typed(self.args[i], i)) for i in sorted(self.places))
        named = tuple((name, _typed(self.kwargs[name], name)) for name in sorted(self.names))
        kinds = tuple((leaf.array.shape, leaf.array.dtype.char, leaf.number) for leaf in self.leaves)
        default = _core.default_float()
        return len(self.args), fixed, named, self.structure, self.structure.insertion_orders(), kinds, default

    def constants(self) -> list[Any]:
        """The static arguments."""
        return [*(self.args[i] for i in self.places), *(self.kwargs[name] for name in self.names)]

    def on(self, f: Callable[..., Any], leaves: list[Any]) -> Any:
        """f called with these arguments, but other leaves."""
        dynamic, named = tree.unflatten(self.structure, leaves)
        rest = iter(dynamic)
        args = [a if i in self.places else next(rest) for i, a in enumerate(self.args)]
        return f(*args, **{name: named.get(name, a) for name, a in self.kwargs.items()})

    def guard(self) -> Any:
        """A guard that matches such calls in C, or None if only ``key`` can. It is made of the structure, because the
        function, or another thread, may have changed a container among the arguments meanwhile."""
        dynamic, named = tree.unflatten(self.structure, self.given)
        rest = iter(dynamic)
        args = tuple([_core.Static(a) if i in self.places else next(rest) for i, a in enumerate(self.args)])
        kwargs = {name: _core.Static(a) if name in self.names else named[name] for name, a in self.kwargs.items()}
        return _core.make_guard((args, kwargs), iter(range(len(self.leaves))), tree.is_named_tuple)


def _typed(value: Any, i: int | str) -> Any:
    """A static argument as a part of the key; TypeError if it cannot be one."""
    if isinstance(value, tuple):
        return type(value), tuple(_typed(item, i) for item in value)
    try:
        hash(value)
    except TypeError:
        value_type = type(value).__name__
    else:
        if not isinstance(value, Tensor):
            return tree.exact(value)
        value_type = "Tensor"
    i = repr(i) if isinstance(i, str) else i
    cure = "; arrays are passed as arguments that are not static"
    if isinstance(value, (list, dict, set)):
        cure = ", such as a tuple"
    raise TypeError(f"compile: the static argument {i} holds a {value_type}, expected hashable constants{cure}")


def _input(leaf: Any, structure: tree.Structure, i: int) -> np.ndarray:
    if isinstance(leaf, Tensor):
        if leaf.requires_grad:
            raise TypeError(
                "compile: an argument is a tensor that requires gradients; compile the gradient instead, as in "
                "compile(grad(f)), or pass its .detach()"
            )
        leaf = leaf.numpy()
    if not isinstance(leaf, (np.ndarray, np.generic, float, int)) or _core.is_masked(leaf):
        raise TypeError(
            f"compile: {tree.place_of(structure, i)} is of type {type(leaf).__name__}, expected arrays and numbers; "
            "bind it by functools.partial if it is a constant or, of fastgrad.compile, name its argument in "
            "static_argnums or static_argnames"
        )
    if type(leaf) is int and not -(2**63) <= leaf < 2**64:
        raise TypeError(
            f"compile: {tree.place_of(structure, i)} is an integer of {leaf.bit_length()} bits, which fits neither "
            "int64 nor uint64; pass it as a float"
        )
    a = np.asarray(leaf)
    if a.dtype.kind not in "fiub" or a.dtype.itemsize not in (1, 2, 4, 8) or a.dtype == np.float16:
        raise TypeError(
            f"compile: {tree.place_of(structure, i)} has dtype {a.dtype}, expected float32, float64, bool or an "
            "integer dtype"
        )
    return a if a.flags.c_contiguous else np.ascontiguousarray(a).reshape(a.shape)


def all_static(f: Callable[..., Any], numbers: tuple[int, ...], names: tuple[str, ...]) -> dict[int, str]:
    """{place: name} of the static parameters that can be passed by name; keyword-only ones get a place that no
    argument has."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"compile: expected static_argnames as names of parameters, got {name!r}")
    if not numbers and not names:
        return {}
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # some functions do not tell theirs
        return {_NOWHERE + k: name for k, name in enumerate(names)}
    known = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in names:
        if name not in known and all(p.kind is not p.VAR_KEYWORD for p in parameters):
            raise ValueError(
                f"compile: static_argnames has {name!r}, but the function's parameters are "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    places = {p.name: i for i, p in enumerate(parameters) if p.kind is p.POSITIONAL_OR_KEYWORD}
    found = {places.get(name, _NOWHERE + k): name for k, name in enumerate(names)}
    return found | {i: name for name, i in places.items() if i in numbers}


def with_defaults(f: Callable[..., Any]) -> set[int]:
    """The places of parameters that have defaults, so that a call may leave them out."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {i for i, p in enumerate(parameters) if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY}
