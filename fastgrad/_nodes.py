"""Calls of functions that have rules of their own, and the nodes that hold the rules.

Such a function is no operation. Its body runs as any code does, with tensors of its own in the places of its arguments;
then the results are cut off from what the body recorded, and a node that holds a rule connects them with the arguments
(csrc/custom.c). In a backward pass the node calls its rule, which is made of operations: while a pass is recorded, so
are they, and the derivative of the derivative is that of the rule. The functions themselves are in _custom.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from . import _core, tree
from ._core import Tensor

__all__ = ["Call", "CallRule", "Rule", "fitting", "inside", "is_float", "pulled", "settled_tree"]


# ---- calls ----------------------------------------------------------------------------------------------------------
class Call:
    """The arguments of a call, and the numbers of those of their leaves that are tracked."""

    def __init__(self, name: str, names: Sequence[str], args: Sequence[Any], nondiff: Sequence[int] = ()) -> None:
        self.name, self.names, self.args, self._nondiff = name, names, args, nondiff
        self.places = [i for i in range(len(args)) if i not in nondiff]
        self.leaves, self.structures = [], []
        for i in self.places:
            leaves, structure = tree.flatten(args[i])
            self.leaves += leaves
            self.structures.append(structure)
        enabled = _core.grad_enabled()
        self.tracked = [k for k, x in enumerate(self.leaves) if enabled and _is_tracked(x)]
        self.inputs = [self.leaves[k] for k in self.tracked]
        self.kinds = [(x.shape, x.dtype) for x in self.inputs]
        if enabled:
            for i in nondiff:
                if any(map(_is_tracked, tree.leaves(args[i]))):
                    raise TypeError(
                        f"{name}: argument {names[i]} is named in nondiff_argnums, but holds a tensor that requires "
                        "gradients; leave it out there and return None for its cotangent"
                    )

    @property
    def nondiff(self) -> list[Any]:
        return [self.args[i] for i in self._nondiff]

    def with_leaves(self, leaves: Sequence[Any]) -> list[Any]:
        """The arguments with other leaves in the places of their own."""
        args, at = list(self.args), 0
        for i, structure in zip(self.places, self.structures):
            args[i] = structure.unflatten(leaves[at : at + structure.num_leaves])
            at += structure.num_leaves
        return args

    def with_inputs(self, inputs: Sequence[Tensor]) -> list[Any]:
        """The arguments with other tensors in the places of the tracked ones."""
        leaves = list(self.leaves)
        for k, x in zip(self.tracked, inputs):
            leaves[k] = x
        return self.with_leaves(leaves)

    def keep(self, values: bool) -> None:
        """Hold, until a backward pass, the arguments as they are now, or nothing of their values: never a tensor of the
        user's, which may refer to the node that this is for."""
        self.inputs = []
        self.leaves = [_settled(x) for x in self.leaves] if values else []
        self.args = [None if i in self.places else settled_tree(x) for i, x in enumerate(self.args)]

    def cotangents(self, found: Any, rule: str) -> list[Tensor | None]:
        """What a rule returned, a tuple with an entry for each argument, as the cotangents of the tracked leaves."""
        names = [self.names[i] for i in self.places]
        wanted = f"a tuple of {len(names)}, a cotangent for each of {', '.join(names)}"
        if not isinstance(found, tuple) or len(found) != len(names):
            got = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
            raise TypeError(f"{self.name}: {rule} must return {wanted}, or None for zeros; got {got}")
        leaves: list[Any] = []
        paths: list[str] = []
        for name, structure, cotangent in zip(names, self.structures, found):
            try:
                leaves += structure.flatten_up_to(cotangent, name, nones=True)
            except ValueError as error:
                raise TypeError(f"{self.name}: {rule} must return cotangents built as the arguments: {error}") from None
            paths += structure.paths(name)
        return [
            None if leaves[k] is None else fitting(leaves[k], shape, dtype, f"{self.name}: {rule}", paths[k])
            for k, (shape, dtype) in zip(self.tracked, self.kinds)
        ]


def _is_tracked(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def is_float(x: Any) -> bool:
    if isinstance(x, (Tensor, np.ndarray, np.generic)):
        return x.dtype in (np.float32, np.float64)
    return isinstance(x, float)


def _settled(x: Any) -> Any:
    """A value for a backward pass: a tensor as the tape keeps it, an ndarray as a copy."""
    return _core.settled(x) if isinstance(x, Tensor) else x.copy() if isinstance(x, np.ndarray) else x


def settled_tree(x: Any) -> Any:
    return tree.map(_settled, x)


def fitting(x: Any, shape: tuple[int, ...], dtype: np.dtype[Any], rule: str, path: str) -> Tensor:
    """What a rule returned as a tensor of this shape and dtype."""
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        x = np.asarray(x, dtype)
    if not isinstance(x, (Tensor, np.ndarray, np.generic)):
        raise TypeError(f"{rule} returned {type(x).__name__} for {path}, expected an array of shape {shape}")
    if x.shape != shape:
        raise ValueError(f"{rule} returned shape {x.shape} for {path}, expected its shape {shape}")
    if x.dtype != dtype:
        raise ValueError(f"{rule} returned {x.dtype} for {path}, expected its dtype {dtype}; use .astype(np.{dtype})")
    return _core.settled(x) if isinstance(x, Tensor) else _core.tensor(x)


def inside(f: Callable[..., Any], args: Iterable[Any]) -> Any:
    """f(*args), recorded, as the body of a function, on tensors that are its own."""
    was = _core.set_grad_enabled(True)
    _core.enter_transform(1)  # so that an inner transform is not the outermost
    try:
        return f(*args)
    finally:
        _core.enter_transform(-1)
        _core.set_grad_enabled(was)


# ---- rules ----------------------------------------------------------------------------------------------------------
class Rule:
    """What a node holds: ``vjp(g)`` is called in a backward pass, ``jvp(tangents)`` in a forward one.

    The node stands for the float results of a function, whose shapes and dtypes are ``kinds``, laid end to end in a
    vector where they are several: g and the tangent that ``jvp`` returns are in its place.
    """

    kinds: list[tuple[tuple[int, ...], np.dtype[Any]]]

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        """The cotangent of each input; None stands for zeros."""
        raise NotImplementedError

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        """The tangent of what the node stands for, for those of its inputs; None stands for zeros."""
        raise NotImplementedError

    def parts(self, g: Tensor) -> list[Tensor]:
        """The cotangent of each result."""
        if len(self.kinds) == 1:
            return [g]
        found, at = [], 0
        for shape, dtype in self.kinds:
            size = int(np.prod(shape))
            part = _core.reshape(g[at : at + size], shape)
            found.append(part if part.dtype == dtype else _core.astype(part, dtype))
            at += size
        return found

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Tangents of the results as one of what the node stands for."""
        if len(parts) == 1:
            return parts[0]
        return _core.concatenate([_core.reshape(part, -1) for part in parts])


class CallRule(Rule):
    """That of a function called by a user."""

    keeps_values = True  # of the arguments
    is_derivative = False  # of just what the function does

    def __init__(self, call: Call) -> None:
        self.call = call

    def attach(self, result: Any, own: list[Tensor]) -> Any:
        """The result of a call on these tensors, with its float arrays connected by this rule."""
        leaves, self.structure = tree.flatten(result)
        self.places = [i for i, x in enumerate(leaves) if is_float(x)]
        if not self.places:
            return result
        results = [x if isinstance(x, Tensor) else _core.tensor(x) for x in (leaves[i] for i in self.places)]
        behind = self.others(_core.outside(results, own))
        if not self.is_derivative and any(map(_core.vmapped, self.call.inputs)):
            raise NotImplementedError(
                f"{self.call.name}: vmap carries out what the function does and would lose its rule, by which a "
                "gradient taken outside of the vmap goes; take the gradient within, as in vmap(grad(f))"
            )
        self.kinds = [(x.shape, x.dtype) for x in results]
        inputs = [*self.call.inputs, *behind]
        self.call.keep(self.keeps_values)
        for i, x in zip(self.places, _core.custom(inputs, results, self)):
            leaves[i] = x
        return self.structure.unflatten(leaves)

    def others(self, found: dict[int, Tensor]) -> Iterable[Tensor]:
        """Further inputs of the node, for what the function has read beside its arguments (``_core.outside``)."""
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
        leaves: list[Any] = [None] * self.structure.num_leaves
        for i, part in zip(self.places, self.parts(g)):
            leaves[i] = part
        return self.structure.unflatten(leaves)


def pulled(
    results: Sequence[Any], cotangents: Sequence[Tensor], own: list[Tensor], recorded: bool,
    behind: Sequence[Tensor] = (),
) -> list[Tensor | None]:  # fmt: skip
    """The cotangents of the tensors ``own``, and of what those of ``behind`` stand for, from those of results that were
    just computed from them."""
    pairs = [(y, g) for y, g in zip(results, cotangents) if _is_tracked(y)]
    if not pairs:
        return [None] * (len(own) + len(behind))
    was = _core.set_grad_enabled(True)
    try:
        return list(_core.pull([y for y, _ in pairs], [g for _, g in pairs], own, recorded, False, behind))
    finally:
        _core.set_grad_enabled(was)
