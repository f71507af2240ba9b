"""Calls of functions that have rules of their own: arguments, residuals, and checks of what a rule returns.

The body of such a function runs as any code does, on tensors of its own in the places of its arguments. The functions
themselves are in custom.py and checkpoint.py, the node on the tape in custom_node.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor
from .custom_node import NodeRule, attach_rule, is_float, pull_back

_WHERE = _core.OP_NUMBERS["where"]
_GOLDEN = (5**0.5 - 1) / 2

__all__ = ["Call", "CallRule", "fitting", "inside", "zero_tangent"]


# ---- calls ----------------------------------------------------------------------------------------------------------
class Call:
    """The arguments of a call, and which of their leaves require gradients.

    ``leaves`` and ``structure`` are those of the differentiable arguments, whose places are ``places``. ndarrays among
    the leaves are tensors here, so that functions and rules get one kind of value, whatever is differentiated.
    ``tracked`` are the numbers of the leaves that require gradients, ``inputs`` these leaves, ``kinds`` their shapes
    and dtypes.
    """

    def __init__(self, name: str, names: Sequence[str], args: Sequence[Any], nondiff: Sequence[int] = ()) -> None:
        self.name, self.names, self.args, self._nondiff = name, names, args, nondiff
        self.places = [i for i in range(len(args)) if i not in nondiff]
        leaves, self.structure = tree.flatten(tuple([args[i] for i in self.places] if nondiff else args))
        self.leaves = _core.arrays_as_tensors(leaves)
        self._has_arrays = self.leaves is not leaves
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
        """The structures of the differentiable arguments."""
        return self.structure.children

    def on_tensors(self) -> Sequence[Any]:
        """The arguments with tensors in the place of ndarrays."""
        return self.with_leaves(self.leaves) if self._has_arrays else self.args

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
        """Keep for a backward pass snapshots of the arguments, or none of their values. A tensor of the user's itself
        is never kept: it may refer to the node that this call belongs to, which would make a reference cycle."""
        self.inputs = []
        self.leaves = [_snapshot(x) for x in self.leaves] if values else []
        if self._nondiff:
            self.args = [tree.map(_snapshot, x) if i in self._nondiff else None for i, x in enumerate(self.args)]
        else:
            self.args = ()

    def cotangents(self, found: Any, rule: str) -> list[Tensor | None]:
        """The cotangents of the tracked leaves, checked, from what a rule returned: a tuple with an entry for each
        argument."""
        try:
            if not isinstance(found, tuple):
                raise ValueError
            leaves = self.structure.flatten_up_to(tuple(found), nones=True)
        except ValueError:
            raise self._misbuilt(found, rule) from None
        return [
            x if x is None else fitting(x, shape, dtype, f"{self.name}: {rule}", self.path, k)
            for k, (shape, dtype), x in zip(self.tracked, self.kinds, [leaves[k] for k in self.tracked])
        ]

    def path(self, k: int) -> str:
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
    """The tangent of an argument that is not differentiated."""
    if is_float(x):
        return _core.asarray(np.zeros(np.shape(x), x.dtype if hasattr(x, "dtype") else np.float64))
    return _core.asarray(np.zeros(np.shape(x))) if isinstance(x, (Tensor, np.ndarray, np.generic, int)) else None


def _snapshot(x: Any) -> Any:
    """A value that later writes do not reach: of a tensor the tape's snapshot, of an ndarray a copy."""
    return _core.snapshot(x) if isinstance(x, Tensor) else x.copy() if isinstance(x, np.ndarray) else x


def fitting(
    x: Any, shape: tuple[int, ...], dtype: np.dtype[Any], rule: str, path: Callable[[int], str], k: int
) -> Tensor:
    """What a rule returned, checked, as a tensor of this shape and dtype; path(k) is its name in errors."""
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
    """f(*args), recorded."""
    with _core.Recording():  # a transform within f is an inner one, so that its results stay connected
        return f(*args)


def _probe(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A cotangent that shows by its size and signs where a rule limits it. Its elements all differ, so that no sum of
    several is 0."""
    n = math.prod(shape)
    probe = 1024 * (1 + np.arange(n) * _GOLDEN % 1)
    probe[1::2] *= -1
    return probe.reshape(shape).astype(dtype)


def _is_linear(results: list[Tensor], own: list[Tensor]) -> bool:
    """Whether results may be linear in the watched tensors ``own``, as far as the tape and the values show."""
    numbers, chooses = {_core.node_number(x) for x in own}, False
    for op, number, operands, _, _, y, inputs, *_ in _core.tape_operations(results, own, False) if results else ():
        chooses |= op == _WHERE
        # An operation is not linear if its derivative reads what depends on `own`. If it has operands that do not, the
        # value may have been saved for the derivative by these.
        read = y is not None or any(x is not None and k in numbers for k, x in zip(operands, inputs))
        if read and numbers.issuperset(k for k in operands if k is not None):
            return False
        numbers.add(number)
    if not chooses or any(map(_core.traced, results)):
        return True
    # The condition may depend on `own`, as in a clipped cotangent: then the derivative gives another value.
    signs = [_core.asarray(np.sign(x.numpy())) for x in results]  # so that results of both signs do not cancel
    slopes = _core.pull(results, signs, own, False)
    terms = [abs(x.numpy()) for x in results] + [-(slope * x).numpy() for slope, x in zip(slopes, own)]
    error, size = (abs(sum(float(f(x).sum(dtype=np.float64)) for x in terms)) for f in (np.positive, np.abs))
    return not error > 1e4 * max(np.finfo(x.dtype).eps for x in own) * size


class CallRule(NodeRule):
    """The rule of one call of a user's function."""

    keeps_values = True  # whether the values of the arguments are residuals

    def __init__(self, call: Call, saved: Any = None) -> None:
        self.call = call
        self.save(saved)

    def save(self, values: Any) -> None:
        """Make snapshots of a tree of values residuals, beside the arguments."""
        leaves, self._saved_structure = tree.flatten(values)
        self._saved = [_snapshot(x) for x in leaves]

    @property
    def saved(self) -> Any:
        return self._saved_structure.unflatten(self._saved)

    def attach(self, result: Any, own: list[Tensor]) -> Any:
        """The result of the call, computed on the tensors ``own``, with this rule attached to its float arrays."""
        leaves, self.structure = tree.flatten(result)
        self.places = [i for i, x in enumerate(leaves) if is_float(x)]
        if not self.places:
            return result
        results = [x if isinstance(x, Tensor) else _core.tensor(x) for x in (leaves[i] for i in self.places)]
        inputs = [*self.call.inputs, *self.closed_over_inputs(_core.closed_over(results, own))]
        if self.is_derivative and _core.vmapped(inputs):  # the outer transform differentiates the traced operations
            return result
        self.call.keep(self.keeps_values)
        for i, x in zip(self.places, attach_rule(inputs, results, self)):
            leaves[i] = x
        return self.structure.unflatten(leaves)

    def _values(self) -> tuple[list[Any], tree.Structure]:
        return tree.flatten((self._saved, self.call.leaves, self.call.args))

    def residuals(self) -> list[Tensor]:
        return [x for x in self._values()[0] if isinstance(x, Tensor)]

    def with_residuals(self, residuals: Sequence[Tensor]) -> CallRule:
        leaves, structure = self._values()
        left = iter(residuals)
        other = copy.copy(self)
        other.call = copy.copy(self.call)
        other._saved, other.call.leaves, other.call.args = structure.unflatten(
            [next(left) if isinstance(x, Tensor) else x for x in leaves]
        )
        return other

    def closed_over_inputs(self, found: dict[int, Tensor]) -> Iterable[Tensor]:
        """Further inputs of the node, for tensors that the function has closed over (``_core.closed_over``)."""
        if found:
            raise TypeError(
                f"{self.call.name}: the function reads a tensor which requires gradients and is none of its arguments; "
                "its gradient would be lost. Make it an argument, or use its .detach()"
            )
        return ()

    def transposed(
        self, rule: Callable[[list[Tensor]], Sequence[Any]], tangents: Sequence[Any], what: str,
        path: Callable[[int], str], cure: str,
    ) -> list[Tensor]:  # fmt: skip
        """The tangents of the float arrays of the result, by transposing a rule of reverse mode.

        ``rule`` maps the cotangents of these arrays to those of the arguments, which have the ``tangents``; None stands
        for zeros in both. As it is linear, a backward pass through it maps the tangents of the arguments to those of
        the result. In errors ``what`` names the rule, path(k) argument k, and ``cure`` says what to do instead.
        """
        recorded = _core.grad_enabled()
        with _core.Grads(True):
            own = [_core.watch(_probe(shape, dtype)) for shape, dtype in self.kinds]
            found = [(k, x, t) for k, (x, t) in enumerate(zip(rule(own), tangents)) if x is not None and t is not None]
        linear = _is_linear([x for _, x, _ in found if isinstance(x, Tensor) and x.requires_grad], own)
        for k, x, _ in found:
            if not isinstance(x, Tensor) or not (x.requires_grad or _core.traced(x) or not np.any(x.numpy())):
                raise TypeError(
                    f"{what} for {path(k)} is used for forward mode, too, but its result does not depend on the "
                    f"cotangent by operations that are differentiable; compute it by such, or {cure}"
                )
        if not linear:
            raise TypeError(
                f"{what} is not linear in the cotangent: it is the derivative of no function, and cannot serve forward "
                f"mode; {cure}"
            )
        parts = pull_back([x for _, x, _ in found], [_core.asarray(t) for _, _, t in found], own, recorded)
        return [
            _core.asarray(np.zeros(shape, dtype)) if part is None else part
            for part, (shape, dtype) in zip(parts, self.kinds)
        ]

    def as_result(self, g: Tensor) -> Any:
        """The cotangent in the structure of the result, with None where the result has no float array."""
        return self.in_structure(self.parts(g))

    def in_structure(self, parts: Sequence[Tensor]) -> Any:
        """The cotangents of the float arrays of the result in its structure, with None for what is no float array."""
        if self.structure.num_leaves == len(self.places):
            return self.structure.unflatten(parts)
        leaves: list[Any] = [None] * self.structure.num_leaves
        for i, part in zip(self.places, parts):
            leaves[i] = part
        return self.structure.unflatten(leaves)

    def as_parts(self, tangent: Any, rule: str) -> list[Tensor]:
        """The tangent of each float array of the result, checked, from what a rule returned."""
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
