"""Calls of functions that have rules of their own, and the nodes that hold the rules.

Such a function is no operation. Its body runs as any code does, with tensors of its own in the places of its arguments;
then the results are cut off from what the body recorded, and a node that holds a rule connects them with the arguments
(csrc/custom.c). In a backward pass the node calls its rule, which is made of operations: while a pass is recorded, so
are they, and the derivative of the derivative is that of the rule. The functions themselves are in _custom.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import _core, tree
from ._core import Tensor

__all__ = ["Call", "Rule", "body", "contracted", "fitting", "is_float", "settled_tree"]


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


@contextlib.contextmanager
def body(name: str, inputs: list[Tensor], inner: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """Run the body of a function on tensors of its own; what it reads beside them must not require gradients."""
    mark = _core.newest()
    own = [inner(x) for x in inputs]
    state = _core.open_body(mark)
    was = _core.set_grad_enabled(True)
    try:
        yield own
    finally:
        _core.set_grad_enabled(was)
        outside = _core.close_body(state)
    if outside:
        _refuse_outside(name)


def _refuse_outside(name: str) -> None:
    raise TypeError(
        f"{name}: the function reads a tensor which requires gradients and is none of its arguments; its gradient "
        "would be lost. Make it an argument, or use its .detach()"
    )


# ---- rules ----------------------------------------------------------------------------------------------------------
class Rule:
    """What a node holds: ``vjp(g)`` is called in a backward pass, ``jvp(tangents)`` in a forward one."""

    keeps_values = True  # of the arguments
    is_derivative = False  # of just what the function does

    def __init__(self, call: Call) -> None:
        self.call = call

    def attach(self, result: Any, mark: int) -> Any:
        """The result of the call, which began at this mark, with its float arrays connected by this rule."""
        leaves, self.structure = tree.flatten(result)
        self.places = [i for i, x in enumerate(leaves) if is_float(x)]
        if not self.places:
            return result
        results = [x if isinstance(x, Tensor) else _core.tensor(x) for x in (leaves[i] for i in self.places)]
        if any(_core.older(x, mark) for x in results):
            _refuse_outside(self.call.name)
        if not self.is_derivative and any(map(_core.vmapped, self.call.inputs)):
            raise NotImplementedError(
                f"{self.call.name}: vmap carries out what the function does and would lose its rule, by which a "
                "gradient taken outside of the vmap goes; take the gradient within, as in vmap(grad(f))"
            )
        self.kinds = [(x.shape, x.dtype) for x in results]
        inputs = self.call.inputs
        self.call.keep(self.keeps_values)
        for i, x in zip(self.places, _core.custom(inputs, results, self)):
            leaves[i] = x
        return self.structure.unflatten(leaves)

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        raise NotImplementedError

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        """The tangent of what the node stands for, as g in ``vjp``, for those of its inputs; None stands for zeros."""
        raise TypeError(f"{self.call.name}: it has a rule for reverse mode only; use custom_jvp for a function that is "
                        "differentiated in forward mode")

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Tangents of the float arrays of the result as one of what the node stands for."""
        if len(parts) == 1:
            return parts[0]
        return _core.concatenate([_core.reshape(part, -1) for part in parts])

    def parts(self, g: Tensor) -> list[Tensor]:
        """The cotangent of each float array of the result."""
        if len(self.kinds) == 1:
            return [g]
        found, at = [], 0
        for shape, dtype in self.kinds:
            size = int(np.prod(shape))
            part = _core.reshape(g[at : at + size], shape)
            found.append(part if part.dtype == dtype else _core.astype(part, dtype))
            at += size
        return found

    def as_result(self, g: Tensor) -> Any:
        """The cotangents in the structure of the result, None for what is no float array."""
        leaves: list[Any] = [None] * self.structure.num_leaves
        for i, part in zip(self.places, self.parts(g)):
            leaves[i] = part
        return self.structure.unflatten(leaves)

    def pull(self, results: list[Any], g: Tensor, own: list[Tensor], recorded: bool) -> list[Tensor | None]:
        """Cotangents of the tensors ``own``, of which results were computed that stand for those of the call."""
        return contracted(results, self.parts(g), own, recorded)


def contracted(
    results: Sequence[Any], cotangents: Sequence[Tensor], own: list[Tensor], recorded: bool
) -> list[Tensor | None]:
    """The gradients by the tensors ``own`` of the products of results with their cotangents, summed."""
    was = _core.set_grad_enabled(True)
    try:
        terms = [(y * g).sum() for y, g in zip(results, cotangents) if _is_tracked(y)]
        if not terms:
            return [None] * len(own)
        number = terms[0]
        for term in terms[1:]:
            number = number + term
        return list(_core.gradients(number, own, recorded))
    finally:
        _core.set_grad_enabled(was)
