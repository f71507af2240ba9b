"""``primitive``: a function of ndarrays, such as one of SciPy's, with derivatives by rules. How it is called is in
host_call.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor
from .custom import FunctionWithRule
from .custom_call import Call, CallRule, zero_tangent
from .host_call import HostCall, Identity, arguments_key, called

__all__ = ["primitive"]

_ARRAYS = (Tensor, np.ndarray, np.generic, float, int)  # what a primitive's result is made of


class primitive(FunctionWithRule):
    """A function of ndarrays, such as one of SciPy's, that takes tensors too and is differentiated by a rule.

    Parameters
    ----------
    f : callable
        Called with ndarrays (read-only, where tensors are given) and returns arrays or a nested structure of them. It
        must be pure: a compiled function calls it at each run, but not where its result is not needed.
    result_shape : nested structure of arrays, or callable, optional
        The structure, shapes and dtypes of the result, or a function of the arguments that returns these. Without it f
        is called for stand-ins, random numbers between 0.5 and 1.5, when a function that calls it is compiled.
    vmap_method : str
        What ``vmap`` does: "sequential" calls f for each element; "expand_dims" calls it once, with the batch as first
        axis of what is mapped, and a first axis of length 1 for the other tensors: f has to broadcast them.

    The rule is given by one function for each positional argument, ``f.defvjp(vjp0, vjp1, ...)``: ``vjp0(g, y, *args)``
    is the cotangent of argument 0 for the cotangent g of the result y, of the argument's structure, shapes and dtypes.
    That of forward mode is given by ``f.defjvp(jvp0, jvp1, ...)``: ``jvp0(t, y, *args)`` is the tangent of the result,
    in its structure, shapes and dtypes, for the tangent t of argument 0. None stands for an argument that is not
    differentiated. Without a rule of forward mode that of reverse mode is transposed, so that ``jvp``, ``jacfwd`` and
    ``hessian`` need no other. These functions get tensors and are run as any code: for derivatives of higher order, and
    to be transposed, they must be made of differentiable functions, primitives among them. ``vmap`` runs them once.

    A compiled function that calls f holds the GIL; a call costs some microseconds beside the work of f. An exception
    that f raises comes out with its own traceback.

    Raises NotImplementedError where an argument is differentiated by that has no rule, TypeError where f reads a tensor
    that is differentiated or mapped and is no argument of it, ValueError where it returns other shapes than when it was
    compiled or than ``result_shape``, and TraceError where it cannot be compiled because it refuses the stand-ins.
    Given no tensor, it returns what f returns.

    >>> import fastgrad as fg, numpy as np
    >>> cumulated = fg.primitive(np.cumsum)
    >>> cumulated.defvjp(lambda g, y, x: cumulated(g[::-1])[::-1])
    >>> fg.grad(lambda x: (cumulated(x) ** 2).sum())(np.array([1.0, 2.0]))
    array([8., 6.])
    """

    _fills_defaults = False  # a function of a library may have many

    _checks_always = False  # also where no argument is a tensor

    def __init__(self, f: Callable[..., Any], result_shape: Any = None, vmap_method: str = "sequential") -> None:
        super().__init__(f)
        if vmap_method not in ("sequential", "expand_dims"):
            raise ValueError(f"{self._name}: expected vmap_method 'sequential' or 'expand_dims', got {vmap_method!r}")
        self._result_shape, self._method = result_shape, vmap_method
        self._identified = f  # the function whose identity counts
        self._rules: dict[str, tuple[Callable[..., Any] | None, ...]] = {}

    def defvjp(self, *vjps: Callable[..., Any] | None) -> None:
        """Set the rule of reverse mode by one function, or None, for each argument."""
        self._define("defvjp", vjps)

    def defjvp(self, *jvps: Callable[..., Any] | None) -> None:
        """Set the rule of forward mode by one function, or None, for each argument."""
        self._define("defjvp", jvps)

    def _define(self, mode: str, rules: tuple[Callable[..., Any] | None, ...]) -> None:
        for rule in rules:
            if rule is not None and not callable(rule):
                raise TypeError(f"{self._name}: expected functions and None, got {rule!r}")
        self._rules[mode] = rules

    def _rule(self, mode: str, i: int) -> Callable[..., Any] | None:
        """The rule for argument i, None if there is none."""
        rules = self._rules.get(mode, ())
        return rules[i] if i < len(rules) else None

    def _without_rule(self, mode: str, name: str) -> NotImplementedError:
        """The error where an argument of this name is differentiated by."""
        return NotImplementedError(
            f"{self._name}: it has no {'reverse' if mode == 'defvjp' else 'forward'}-mode rule for {name}, by "
            f"which it is differentiated; give it one by {getattr(self, '__name__', 'f')}.{mode}(...), or pass "
            "the argument's .detach()"
        )

    def _plain(self, call: Call) -> Any:
        return self._on_arrays(tuple(call.args))

    def _on_arrays(self, args: tuple[Any, ...]) -> Any:
        leaves, structure = tree.flatten(args)
        places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        if not places and not self._checks_always:
            return self._f(*args)
        kinds, expected = self._kinds_of_result(args)
        others = [None if isinstance(x, Tensor) else x for x in leaves]
        on_arrays = _OnArrays(self._name, self._f, structure, others, places, expected)
        key = None
        if _core.tracing():
            key = (Identity(self._identified), structure, tuple(places), arguments_key(others), expected)
        results = called(HostCall(self._name, on_arrays, key, kinds, self._method), [leaves[i] for i in places])
        if expected is not None:
            return expected.unflatten(results if places else [y.numpy()[()] for y in results])
        return on_arrays.with_arrays(results)

    def _kinds_of_result(self, args: tuple[Any, ...]) -> tuple[list[Any] | None, tree.Structure | None]:
        """The shapes and dtypes of the result's arrays, and its structure, where they were given."""
        if self._result_shape is None:
            return None, None
        like = self._result_shape(*args) if callable(self._result_shape) else self._result_shape
        leaves, structure = tree.flatten(like)
        arrays = [x if hasattr(x, "shape") and hasattr(x, "dtype") else np.asarray(x) for x in leaves]
        return [(tuple(x.shape), np.dtype(x.dtype)) for x in arrays], structure

    def _differentiated(self, call: Call) -> Any:
        return _ByArgument(call, self).attach(self._plain(call), [])


class _ByArgument(CallRule):
    """Calls a primitive's rule for each argument that is differentiated."""

    def __init__(self, call: Call, function: primitive) -> None:
        super().__init__(call)
        self.function = function

    def attach(self, result: Any, own: list[Tensor]) -> Any:
        self.save(result)
        return super().attach(result, own)

    def _given(self) -> list[Any]:
        """What the rules get after their first argument: the result and the arguments."""
        args = self.call.with_leaves(self.call.leaves)
        return [self.function(*args) if _core.grad_enabled() else self.saved, *args]

    def _arguments_of(self, leaves: Sequence[int]) -> list[int]:
        """The places of the arguments that have some of these leaves."""
        found, at = [], 0
        for i, structure in enumerate(self.call.structures):
            if any(at <= k < at + structure.num_leaves for k in leaves):
                found.append(i)
            at += structure.num_leaves
        return found

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        rules = {i: self.function._rule("defvjp", i) for i in self._arguments_of(self.call.tracked)}
        for i, rule in rules.items():
            if rule is None:
                raise self.function._without_rule("defvjp", self.call.names[i])
        given = self._given()
        found: list[Any] = [None] * len(self.call.structures)
        for i in rules:
            found[i] = self._cotangent(i, self.as_result(g), given)
        return self.call.cotangents(tuple(found), "its rule")

    def _cotangent(self, i: int, g: Any, given: list[Any]) -> Any:
        """That of argument i. A rule that returns nothing has rather forgotten to than meant zeros."""
        rule = self.function._rule("defvjp", i)
        assert rule is not None
        found = rule(g, *given)
        if found is None:
            raise TypeError(
                f"{self.call.name}: its rule returned None for {self.call.names[i]}, expected the cotangent; return "
                "zeros where that is meant"
            )
        return found

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        known = {k: t for k, t in zip(self.call.tracked, tangents) if t is not None}
        arguments = self._arguments_of([*known])
        for i in arguments:
            if self.function._rule("defjvp", i) is None and self.function._rule("defvjp", i) is None:
                raise self.function._without_rule("defjvp", self.call.names[i])
        leaves = self.call.leaves
        filled = [known[k] if k in known else zero_tangent(x) for k, x in enumerate(leaves)]
        along, given = self.call.with_leaves(filled), self._given()
        terms = []
        for i in arguments:
            rule = self.function._rule("defjvp", i)
            terms.append(
                self._transposed(i, along[i], given) if rule is None
                else self.as_parts(rule(along[i], *given), "its rule")
            )  # fmt: skip
        return self.joined([functools.reduce(_core.add, parts) for parts in zip(*terms)])

    def _transposed(self, i: int, tangent: Any, given: list[Any]) -> list[Tensor]:
        """The tangents of the float arrays of the result by the rule of reverse mode for argument i."""
        name = self.call.names[i]
        if not _core.grad_enabled():
            given = [tree.map(lambda x: x.detach() if isinstance(x, Tensor) else x, x) for x in given]

        def cotangents(own: list[Tensor]) -> list[Any]:
            found = self._cotangent(i, self.in_structure(own), given)
            return self.call.structures[i].flatten_up_to(found, name, nones=True)

        return self.transposed(
            cotangents, tree.leaves(tangent), f"{self.call.name}: its rule of reverse mode",
            self.call.structures[i].paths(name).__getitem__,
            f"give a rule of forward mode by {getattr(self.function, '__name__', 'f')}.defjvp(...)",
        )  # fmt: skip


def _constant(name: str, x: Any, mark: int) -> Any:
    """An array or number that f returned for ndarrays, which must not depend on nodes of the tape up to ``mark``,
    or on what is traced."""
    if not isinstance(x, Tensor):
        return x
    tracked = _core.depends_on_outer([x], mark)
    if tracked or _core.traced(x):
        raise TypeError(
            f"{name}: the function reads a tensor which is differentiated or mapped and is none of its "
            "arguments; "
            + (
                "its gradient would be lost. Make it an argument, or use its .detach()" if tracked else
                "each element of the batch would get the same value. Make it an argument"
            )
        )  # fmt: skip
    return x.detach().numpy()


class _OnArrays:
    """A primitive's function as one of ndarrays, in the places of the tensors among its arguments, that returns a list.
    It keeps no tensor and no array of a call."""

    def __init__(
        self, name: str, f: Callable[..., Any], structure: tree.Structure, others: list[Any], places: list[int],
        expected: tree.Structure | None,
    ) -> None:  # fmt: skip
        self.name, self.f, self.structure, self.others, self.places = name, f, structure, others, places
        self.expected = expected
        self.result: tuple[list[Any], tree.Structure] | None = None

    def __call__(self, *arrays: Any) -> list[Any]:
        filled = list(self.others)
        for i, x in zip(self.places, arrays):
            filled[i] = x
        mark = _core.last_node_id()
        leaves, structure = tree.flatten(self.f(*self.structure.unflatten(filled)))
        if self.expected is not None and structure != self.expected:
            raise TypeError(f"{self.name}: it returned a result of another structure than result_shape")
        self.result = [None if isinstance(x, _ARRAYS) else x for x in leaves], structure
        return [_constant(self.name, x, mark) for x in leaves if isinstance(x, _ARRAYS)]

    def with_arrays(self, arrays: list[Tensor]) -> Any:
        """The result of the last call with these in the places of its arrays."""
        assert self.result is not None
        others, structure = self.result
        left = iter(arrays)
        return structure.unflatten([next(left) if x is None else x for x in others])
