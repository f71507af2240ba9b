"""Calls of functions that have rules of their own, and what these rules have in common (_nodes.py).

The body of such a function runs as any code does, with tensors of its own in the places of its arguments. The functions
themselves are in _custom.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor
from .custom_node import Rule, connected, is_float

__all__ = ["Call", "CallRule", "fitting", "inside", "zero_tangent"]


# ---- calls ----------------------------------------------------------------------------------------------------------
class Call:
    """The arguments of a call, and the numbers of those of their leaves that are tracked."""

    def __init__(self, name: str, names: Sequence[str], args: Sequence[Any], nondiff: Sequence[int] = ()) -> None:
        self.name, self.names, self.args, self._nondiff = name, names, args, nondiff
        self.places = [i for i in range(len(args)) if i not in nondiff]
        self.leaves, self.structure = tree.flatten(tuple([args[i] for i in self.places] if nondiff else args))
        self.tracked = _core.tracked_among(self.leaves)
        self.inputs = [self.leaves[k] for k in self.tracked]
        self.kinds = [(x.shape, x.dtype) for x in self.inputs]
        for i in nondiff:
            if _core.tracked_among(tree.leaves(args[i])):
                raise TypeError(
                    f"{name}: argument {names[i]} is named in nondiff_argnums, but holds a tensor that requires "
                    "gradients; leave it out there and return None for its cotangent"
                )

    @property
    def nondiff(self) -> list[Any]:
        return [self.args[i] for i in self._nondiff]

    @property
    def structures(self) -> tuple[tree.Structure, ...]:
        """Of the arguments that may be differentiated."""
        return self.structure._children

    def with_leaves(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """The arguments with other leaves in the places of their own."""
        given: Sequence[Any] = self.structure.unflatten(leaves)
        if not self._nondiff:
            return given
        args = list(self.args)
        for i, x in zip(self.places, given):
            args[i] = x
        return args

    def with_inputs(self, inputs: Sequence[Tensor]) -> Sequence[Any]:
        """The arguments with other tensors in the places of the tracked ones."""
        leaves = list(self.leaves)
        for k, x in zip(self.tracked, inputs):
            leaves[k] = x
        return self.with_leaves(leaves)

    def keep(self, values: bool) -> None:
        """Hold, until a backward pass, the arguments as they are now, or nothing of their values: never a tensor of the
        user's, which may refer to the node that this is for."""
        self.inputs = []
        self.leaves = [_snapshot(x) for x in self.leaves] if values else []
        if self._nondiff:
            self.args = [tree.map(_snapshot, x) if i in self._nondiff else None for i, x in enumerate(self.args)]
        else:
            self.args = ()

    def cotangents(self, found: Any, rule: str) -> list[Tensor | None]:
        """What a rule returned, a tuple with an entry for each argument, as the cotangents of the tracked leaves."""
        try:
            if not isinstance(found, tuple):
                raise ValueError
            leaves = self.structure.flatten_up_to(tuple(found), nones=True)
        except ValueError:
            raise self._misbuilt(found, rule) from None
        return [
            x if x is None else fitting(x, shape, dtype, f"{self.name}: {rule}", self._path, k)
            for k, (shape, dtype), x in zip(self.tracked, self.kinds, [leaves[k] for k in self.tracked])
        ]

    def _path(self, k: int) -> str:
        """How errors call a leaf."""
        return [path for i, part in zip(self.places, self.structures) for path in part.paths(self.names[i])][k]

    def _misbuilt(self, found: Any, rule: str) -> TypeError:
        names = [self.names[i] for i in self.places]
        if isinstance(found, tuple) and len(found) == len(names):
            for name, structure, cotangent in zip(names, self.structures, found):
                try:
                    structure.flatten_up_to(cotangent, name, nones=True)
                except ValueError as error:
                    return TypeError(f"{self.name}: {rule} must return cotangents built as the arguments: {error}")
        got = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
        return TypeError(
            f"{self.name}: {rule} must return a tuple of {len(names)}, a cotangent for each of {', '.join(names)}, or "
            f"None for zeros; got {got}"
        )


def zero_tangent(x: Any) -> Any:
    """A tangent of what is not differentiated."""
    if is_float(x):
        return np.zeros(np.shape(x), x.dtype if hasattr(x, "dtype") else np.float64)
    return np.zeros(np.shape(x)) if isinstance(x, (Tensor, np.ndarray, np.generic, int)) else None


def _snapshot(x: Any) -> Any:
    """A value for a backward pass: a tensor as the tape keeps it, an ndarray as a copy."""
    return _core.snapshot(x) if isinstance(x, Tensor) else x.copy() if isinstance(x, np.ndarray) else x


def fitting(
    x: Any, shape: tuple[int, ...], dtype: np.dtype[Any], rule: str, path: Callable[[int], str], k: int
) -> Tensor:
    """What a rule returned as a tensor of this shape and dtype; path(k) is how errors call it."""
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        x = np.asarray(x, dtype)
    if not isinstance(x, (Tensor, np.ndarray, np.generic)):
        raise TypeError(f"{rule} returned {type(x).__name__} for {path(k)}, expected an array of shape {shape}")
    if x.shape != shape:
        raise ValueError(f"{rule} returned shape {x.shape} for {path(k)}, expected its shape {shape}")
    if x.dtype != dtype:
        raise ValueError(
            f"{rule} returned {x.dtype} for {path(k)}, expected its dtype {dtype}; use .astype(np.{dtype})"
        )
    return _core.snapshot(x) if isinstance(x, Tensor) else _core.tensor(x)


def inside(f: Callable[..., Any], args: Iterable[Any]) -> Any:
    """f(*args), recorded, as the body of a function, on tensors that are its own."""
    with _core.Recording():  # so that an inner transform is not the outermost
        return f(*args)


class CallRule(Rule):
    """That of a function called by a user."""

    keeps_values = True  # of the arguments

    def __init__(self, call: Call, kept: Any = None) -> None:
        self.call = call
        self.keep(kept)

    def keep(self, values: Any) -> None:
        """Hold a tree of values, beside the arguments, as they are now."""
        leaves, self._kept_structure = tree.flatten(values)
        self._kept = [_snapshot(x) for x in leaves]

    @property
    def kept(self) -> Any:
        return self._kept_structure.unflatten(self._kept)

    def attach(self, result: Any, own: list[Tensor]) -> Any:
        """The result of a call on these tensors, with its float arrays connected by this rule."""
        leaves, self.structure = tree.flatten(result)
        self.places = [i for i, x in enumerate(leaves) if is_float(x)]
        if not self.places:
            return result
        results = [x if isinstance(x, Tensor) else _core.tensor(x) for x in (leaves[i] for i in self.places)]
        behind = self.others(_core.behind(results, own))
        inputs = [*self.call.inputs, *behind]
        if self.is_derivative and _core.vmapped(inputs):  # who tracks them sees the operations that are noted
            return result
        self.call.keep(self.keeps_values)
        for i, x in zip(self.places, connected(inputs, results, self)):
            leaves[i] = x
        return self.structure.unflatten(leaves)

    def _values(self) -> tuple[list[Any], tree.Structure]:
        return tree.flatten((self._kept, self.call.leaves, self.call.args))

    def held(self) -> list[Tensor]:
        return [x for x in self._values()[0] if isinstance(x, Tensor)]

    def holding(self, held: Sequence[Tensor]) -> CallRule:
        leaves, structure = self._values()
        left = iter(held)
        other = copy.copy(self)
        other.call = copy.copy(self.call)
        other._kept, other.call.leaves, other.call.args = structure.unflatten(
            [next(left) if isinstance(x, Tensor) else x for x in leaves]
        )
        return other

    def others(self, found: dict[int, Tensor]) -> Iterable[Tensor]:
        """Further inputs of the node, for what the function has read beside its arguments (``_core.behind``)."""
        if found:
            raise TypeError(
                f"{self.call.name}: the function reads a tensor which requires gradients and is none of its arguments; "
                "its gradient would be lost. Make it an argument, or use its .detach()"
            )
        return ()

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        raise TypeError(f"{self.call.name}: it has a rule for reverse mode only; use custom_jvp for a function that is "
                        "differentiated in forward mode")

    def as_result(self, g: Tensor) -> Any:
        """The cotangents in the structure of the result, None for what is no float array."""
        if self.structure.num_leaves == len(self.places):
            return self.structure.unflatten(self.parts(g))
        leaves: list[Any] = [None] * self.structure.num_leaves
        for i, part in zip(self.places, self.parts(g)):
            leaves[i] = part
        return self.structure.unflatten(leaves)

    def as_parts(self, tangent: Any, rule: str) -> list[Tensor]:
        """What a rule returned as the tangent of the result: the tangent of each float array of it."""
        name = self.call.name
        try:
            leaves = self.structure.flatten_up_to(tangent, "tangent")
        except ValueError as error:
            raise TypeError(f"{name}: {rule} must return a tangent built as the result: {error}") from None
        path = self.structure.paths("the tangent of the result").__getitem__
        return [
            fitting(leaves[i], shape, dtype, f"{name}: {rule}", path, i)
            for i, (shape, dtype) in zip(self.places, self.kinds)
        ]
