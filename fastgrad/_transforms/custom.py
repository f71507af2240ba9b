"""Functions with derivatives of their own: ``custom_vjp`` and ``custom_jvp``; ``primitive`` is in primitive.py.

What these have in common is in custom_call.py, the node on the tape in custom_node.py.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor
from .custom_call import Call, CallRule, inside, zero_tangent
from .custom_node import pull_back
from .transformed import global_name

__all__ = ["FunctionWithRule", "custom_jvp", "custom_vjp"]


class FunctionWithRule:
    """A function with a rule. Where nothing is differentiated, a call is a call of the function."""

    _fills_defaults = True
    _kind = ""  # what errors call it; by default as the class

    def __init__(self, f: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()) -> None:
        kind = self._kind or type(self).__name__
        if not callable(f):
            raise TypeError(f"{kind}: expected a function, got {f!r}")
        functools.update_wrapper(self, f)
        self._f = f
        self._name = f"{kind} {getattr(f, '__name__', type(f).__name__)}"
        numbers = nondiff_argnums if isinstance(nondiff_argnums, (tuple, list)) else (nondiff_argnums,)
        self._nondiff = tuple(map(operator.index, numbers))
        self._signature: inspect.Signature | None = None
        self._parameters: list[str] = []  # those that can be given by position
        with contextlib.suppress(TypeError, ValueError):  # of a builtin that does not tell
            self._signature = inspect.signature(f)
            kinds = self._signature.parameters.values()
            self._parameters = [p.name for p in kinds if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return global_name(self) or super().__reduce_ex__(protocol)

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments by position: what rules are called with."""
        if not kwargs and self._signature and len(args) == len(self._parameters) == len(self._signature.parameters):
            return args
        if self._signature is None:
            if kwargs:
                raise TypeError(f"{self._name}: its signature is unknown; give all arguments by position")
            return args
        bound = self._signature.bind(*args, **kwargs)
        if self._fills_defaults:
            bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"{self._name}: the arguments {', '.join(bound.kwargs)} can only be given by keyword, for which rules "
                "have no place"
            )
        return bound.args

    def _names(self, n: int) -> list[str]:
        """The names of n arguments in errors."""
        if n == len(self._parameters):
            return self._parameters
        return self._parameters[:n] + [f"args[{i}]" for i in range(len(self._parameters), n)]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._require_rule()
        given = self._positional(args, kwargs)
        for i in self._nondiff:
            if not -len(given) <= i < len(given):
                raise TypeError(
                    f"{self._name}: nondiff_argnums names argument {i}, but it was called with {len(given)} arguments"
                )
        nondiff = [i % len(given) for i in self._nondiff]
        call = Call(self._name, self._names(len(given)), given, nondiff)
        return self._differentiated(call) if call.tracked else self._plain(call)

    def _require_rule(self) -> None:
        pass

    def _plain(self, call: Call) -> Any:
        return self._f(*call.on_tensors())

    def _differentiated(self, call: Call) -> Any:
        raise NotImplementedError


# ---- custom_vjp -----------------------------------------------------------------------------------------------------
class custom_vjp(FunctionWithRule):
    """A function with a reverse-mode rule of its own, as ``jax.custom_vjp``.

    Parameters
    ----------
    f : callable
        Takes and returns arrays or nested structures of them; ndarrays among its arguments reach it and the rule as
        tensors. Called where nothing is differentiated.
    nondiff_argnums : int or sequence of ints
        Positional arguments that are never differentiated and may be anything; bwd gets them first.

    The rule is given by ``f.defvjp(fwd, bwd)``. ``fwd`` takes f's arguments and returns ``(f's result, residuals)``.
    ``bwd(*nondiff_args, residuals, g)`` takes the cotangent of the result, in its structure (None for what is no
    float), and returns a tuple with the cotangent of each argument, in the argument's structure, shapes and dtypes;
    None stands for zeros. Derivatives of higher order are those of fwd and bwd. Forward mode, as in ``jvp``, ``jacfwd``
    and ``hessian``, transposes bwd, which must then be linear in g and made of differentiable functions.

    Of residuals that are trees of arrays the arrays are kept, not the containers. Other objects are kept as they are,
    and so are fwd and bwd. No garbage collection finds a cycle through these: an object among them that refers to the
    result of the call lives until a backward pass has used the call.

    Raises AttributeError where f is called without a rule; TypeError where fwd or bwd return something of another
    structure, and ValueError for another shape or dtype, naming the argument; TypeError where f reads a tensor that
    requires gradients and is no argument of it, and in forward mode where bwd is found not to be linear in g, as where
    it clips g.

    >>> import fastgrad as fg, numpy as np
    >>> @fg.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, g: (np.clip(g, -1, 1),))
    >>> fg.grad(lambda x: np.sum(clipped(x) ** 2))(np.array([0.1, 3.0]))
    array([0.2, 1. ])
    """

    _fwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule."""
        for name, rule in (("fwd", fwd), ("bwd", bwd)):
            if not callable(rule):
                raise TypeError(f"{self._name}: expected {name} as a function, got {rule!r}")
        self._fwd, self._bwd = fwd, bwd

    def _require_rule(self) -> None:
        if self._fwd is None:
            raise AttributeError(f"{self._name}: it has no rule yet; give it one by .defvjp(fwd, bwd)")

    def _differentiated(self, call: Call) -> Any:
        late = _core.is_running(self)  # fwd calls the function itself: running fwd here would never end
        own = [_core.alias(x) for x in call.inputs]
        args = call.with_inputs(own)
        result, residuals = (inside(self._f, args), None) if late else inside(self._run_forward, args)
        return _Backward(call, self, residuals, late).attach(result, own)

    def _run_forward(self, *args: Any) -> tuple[Any, Any]:
        assert self._fwd is not None
        with _core.Running(self):
            pair = self._fwd(*args)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            got = f"{len(pair)} values" if isinstance(pair, (tuple, list)) else type(pair).__name__
            raise TypeError(f"{self._name}: fwd must return a pair, the result and the residuals; got {got}")
        return pair[0], pair[1]


class _Backward(CallRule):
    """Calls bwd with the residuals of fwd. ``late``: the call was made within fwd, so fwd runs in the backward pass."""

    def __init__(self, call: Call, function: custom_vjp, residuals: Any, late: bool) -> None:
        super().__init__(call, residuals)
        self.function, self.keeps_values = function, late

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        return self._cotangents(self._residuals(), self.as_result(g))

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        """The transpose of bwd, which is linear in the cotangent."""
        residuals = self._residuals()
        if not _core.grad_enabled():
            residuals = tree.map(lambda x: x.detach() if isinstance(x, Tensor) else x, residuals)

        def cotangents(own: list[Tensor]) -> list[Tensor | None]:
            return self._cotangents(residuals, self.in_structure(own))

        tracked = self.call.tracked
        return self.joined(self.transposed(
            cotangents, tangents, f"{self.call.name}: its bwd", lambda k: self.call.path(tracked[k]),
            "use custom_jvp, whose rule is one of forward mode",
        ))  # fmt: skip

    def _residuals(self) -> Any:
        late, call = self.keeps_values, self.call
        return self.function._run_forward(*call.with_leaves(call.leaves))[1] if late else self.saved

    def _cotangents(self, residuals: Any, g: Any) -> list[Tensor | None]:
        """The cotangents of the tracked arguments from that of the result."""
        return self.call.cotangents(self.function._bwd(*self.call.nondiff, residuals, g), "bwd")


# ---- custom_jvp -----------------------------------------------------------------------------------------------------
class custom_jvp(FunctionWithRule):
    """A function with a forward-mode rule of its own, as ``jax.custom_jvp``; reverse mode uses its transpose.

    Parameters
    ----------
    f : callable
        Takes and returns arrays or nested structures of them; ndarrays among its arguments reach it and the rule as
        tensors. It gives the value, also where it is differentiated.
    nondiff_argnums : int or sequence of ints
        Positional arguments that are never differentiated and may be anything; the rule gets them first.

    The rule is given by ``f.defjvp(jvp)``: ``jvp(*nondiff_args, primals, tangents)`` takes two tuples of one structure
    and returns ``(f's result, its tangent)``, the latter linear in the tangents. Tangents of what is not differentiated
    are zeros. Or it is given by one function for each argument, ``f.defjvps(jvp0, jvp1, ...)``, where ``jvp0(t, y,
    *primals)`` is the tangent of the result y for the tangent t of argument 0; None stands for zeros.

    Raises AttributeError where f is called without a rule; in the backward pass, TypeError where the rule returns
    something else than a pair of such results, and ValueError for another shape or dtype.

    >>> import fastgrad as fg, numpy as np
    >>> @fg.custom_jvp
    ... def softplus(x):
    ...     return np.log(1 + np.exp(x))
    >>> softplus.defjvps(lambda t, y, x: t * (1 - np.exp(-y)))
    >>> fg.grad(fg.grad(softplus))(0.0)
    np.float64(0.25)
    """

    _jvp: Callable[..., Any] | None = None

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule; returns it, so that this is a decorator."""
        if not callable(jvp):
            raise TypeError(f"{self._name}: expected jvp as a function, got {jvp!r}")
        self._jvp = jvp
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Set the rule by one function, or None, for each argument."""
        if self._nondiff:
            raise TypeError(f"{self._name}: defjvps cannot be used with nondiff_argnums; use defjvp")

        def jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            if len(primals) != len(jvps):
                raise TypeError(f"{self._name}: defjvps was given {len(jvps)} rules for {len(primals)} arguments")
            result = self(*primals)
            terms = [rule(t, result, *primals) for rule, t in zip(jvps, tangents) if rule is not None]
            zeros = tree.map(np.zeros_like, result)
            return result, tree.map(lambda *parts: sum(parts[1:], parts[0]), *(terms or [zeros]))

        self._jvp = jvp

    def _require_rule(self) -> None:
        if self._jvp is None:
            raise AttributeError(f"{self._name}: it has no rule yet; give it one by .defjvp(jvp)")

    def _differentiated(self, call: Call) -> Any:
        own = [_core.alias(x) for x in call.inputs]
        return _Tangent(call, self).attach(inside(self._f, call.with_inputs(own)), own)


class _Tangent(CallRule):
    """Runs a jvp rule. The vjp is its transpose: a backward pass through the rule, which is linear in the tangents."""

    def __init__(self, call: Call, function: custom_jvp) -> None:
        super().__init__(call)
        self.function = function

    def push(self, primals: Sequence[Any], tangents: Sequence[Tensor | None]) -> list[Any]:
        """The tangents of the float arrays of the result, from those of the tracked leaves of the arguments."""
        call = self.call
        given = dict(zip(call.tracked, tangents))
        filled = [zero_tangent(x) if given.get(k) is None else given[k] for k, x in enumerate(primals)]
        split = [tuple(args[i] for i in call.places) for args in (call.with_leaves(primals), call.with_leaves(filled))]
        pair = self.function._jvp(*call.nondiff, *split)  # type: ignore[misc]
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            got = f"{len(pair)} values" if isinstance(pair, (tuple, list)) else type(pair).__name__
            raise TypeError(f"{call.name}: jvp must return a pair, the result and its tangent; got {got}")
        return self.as_parts(pair[1], "jvp")

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        call, recorded = self.call, _core.grad_enabled()
        primals = call.leaves if recorded else [x.detach() if isinstance(x, Tensor) else x for x in call.leaves]
        with _core.Grads(True):
            own = [_core.watch(np.ones(shape, dtype)) for shape, dtype in call.kinds]
            tangents = self.push(primals, own)
        for t in tangents:
            if not (t.requires_grad or _core.traced(t)) and np.any(t.numpy()):
                raise TypeError(
                    f"{call.name}: jvp returned a tangent that is not zero and does not depend on the tangents given, "
                    "in which it must be linear; compute it from them by operations that are differentiable"
                )
        return pull_back(tangents, self.parts(g), own, recorded)

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        return self.joined(self.push(self.call.leaves, tangents))
