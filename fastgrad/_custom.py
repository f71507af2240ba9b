"""Functions with derivatives of their own: ``custom_vjp``, ``custom_jvp``, ``primitive``, and ``checkpoint``.

Such a function is no operation. Its body runs as any code does, with tensors of its own in the places of its arguments;
then the results are cut off from what the body recorded, and a node that holds a rule connects them with the arguments
(csrc/custom.c). In a backward pass the node calls its rule, which is made of operations: while a pass is recorded, so
are they, and the derivative of the derivative is that of the rule.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import _core, tree
from ._core import Tensor

__all__ = ["checkpoint", "custom_jvp", "custom_vjp", "primitive"]


# ---- calls ----------------------------------------------------------------------------------------------------------
class _Call:
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
        """Hold, until a backward pass, the arguments as they are now or nothing of their values; no leaf's own tensor."""
        self.inputs = []
        self.leaves = [_settled(x) for x in self.leaves] if values else []
        self.args = [None if i in self.places else _settled_tree(x) for i, x in enumerate(self.args)]

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
            None if leaves[k] is None else _fitting(leaves[k], shape, dtype, f"{self.name}: {rule}", paths[k])
            for k, (shape, dtype) in zip(self.tracked, self.kinds)
        ]


def _is_tracked(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _is_float(x: Any) -> bool:
    if isinstance(x, (Tensor, np.ndarray, np.generic)):
        return x.dtype in (np.float32, np.float64)
    return isinstance(x, float)


def _settled(x: Any) -> Any:
    """A value for a backward pass: a tensor as the tape keeps it, an ndarray as a copy."""
    return _core.settled(x) if isinstance(x, Tensor) else x.copy() if isinstance(x, np.ndarray) else x


def _settled_tree(x: Any) -> Any:
    return tree.map(_settled, x)


def _fitting(x: Any, shape: tuple[int, ...], dtype: np.dtype[Any], rule: str, path: str) -> Tensor:
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
def _body(name: str, inputs: list[Tensor], inner: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
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
        f"{name}: the function reads a tensor which requires gradients and is none of its arguments; its gradient would "
        "be lost. Make it an argument, or use its .detach()"
    )


# ---- rules ----------------------------------------------------------------------------------------------------------
class _Rule:
    """What a node holds. ``vjp(g)`` is called by the core."""

    keeps_values = True  # of the arguments

    def __init__(self, call: _Call) -> None:
        self.call = call

    def attach(self, result: Any, mark: int) -> Any:
        """The result of the call, which began at this mark, with its float arrays connected by this rule."""
        leaves, self.structure = tree.flatten(result)
        self.places = [i for i, x in enumerate(leaves) if _is_float(x)]
        if not self.places:
            return result
        results = [x if isinstance(x, Tensor) else _core.tensor(x) for x in (leaves[i] for i in self.places)]
        if any(_core.older(x, mark) for x in results):
            _refuse_outside(self.call.name)
        self.kinds = [(x.shape, x.dtype) for x in results]
        inputs = self.call.inputs
        self.call.keep(self.keeps_values)
        for i, x in zip(self.places, _core.custom(inputs, results, self)):
            leaves[i] = x
        return self.structure.unflatten(leaves)

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        raise NotImplementedError

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
        terms = [(y * part).sum() for y, part in zip(results, self.parts(g)) if _is_tracked(y)]
        if not terms:
            return [None] * len(own)
        number = terms[0]
        for term in terms[1:]:
            number = number + term
        return list(_core.gradients(number, own, recorded))


class _Function:
    """A function with a rule: called as the function is, where nothing is differentiated."""

    def __init__(self, f: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()) -> None:
        kind = type(self).__name__
        if not callable(f):
            raise TypeError(f"{kind}: expected a function, got {f!r}")
        functools.update_wrapper(self, f)
        self._f = f
        self._name = f"{kind} {getattr(f, '__name__', type(f).__name__)}"
        numbers = nondiff_argnums if isinstance(nondiff_argnums, (tuple, list)) else (nondiff_argnums,)
        self._nondiff = tuple(map(operator.index, numbers))  # type: ignore[arg-type]
        try:
            self._signature = inspect.signature(f)
        except (TypeError, ValueError):
            self._signature = None  # a builtin that does not tell

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments by position, with defaults filled in: what rules are called with."""
        if self._signature is None:
            if kwargs:
                raise TypeError(f"{self._name}: its signature is unknown; give all arguments by position")
            return args
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"{self._name}: the arguments {', '.join(bound.kwargs)} can only be given by keyword, for which rules have "
                "no place"
            )
        return bound.args

    def _names(self, n: int) -> list[str]:
        """How errors call the arguments."""
        names = []
        for p in self._signature.parameters.values() if self._signature else ():
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
                names.append(p.name)
        return [*names, *[f"args[{i}]" for i in range(len(names), n)]][:n]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._require_rule()
        given = self._positional(args, kwargs)
        for i in self._nondiff:
            if not -len(given) <= i < len(given):
                raise TypeError(
                    f"{self._name}: nondiff_argnums names argument {i}, but it was called with {len(given)} arguments"
                )
        nondiff = [i % len(given) for i in self._nondiff]
        call = _Call(self._name, self._names(len(given)), given, nondiff)
        return self._differentiated(call) if call.tracked else self._plain(given)

    def _require_rule(self) -> None:
        pass

    def _plain(self, args: tuple[Any, ...]) -> Any:
        return self._f(*args)

    def _differentiated(self, call: _Call) -> Any:
        raise NotImplementedError


# ---- custom_vjp -----------------------------------------------------------------------------------------------------
class _Threads(threading.local):
    def __init__(self) -> None:
        self.forward: list[Any] = []


_running = _Threads()  # the functions whose fwd runs in this thread


class custom_vjp(_Function):
    """A function with a reverse-mode rule of its own, as ``jax.custom_vjp``.

    Parameters
    ----------
    f : callable
        Takes and returns arrays or nested structures of them. Called where nothing is differentiated.
    nondiff_argnums : int or sequence of ints
        Positional arguments that are never differentiated and may be anything; bwd gets them first.

    The rule is given by ``f.defvjp(fwd, bwd)``. ``fwd`` takes f's arguments and returns ``(f's result, residuals)``.
    ``bwd(*nondiff_args, residuals, g)`` takes the cotangent of the result, in its structure (None for what is no float),
    and returns a tuple with the cotangent of each argument, in the argument's structure, shapes and dtypes; None stands
    for zeros. Derivatives of higher order are those of fwd and bwd. Forward mode is refused.

    Raises AttributeError where f is called without a rule; TypeError where fwd or bwd return something of another
    structure, and ValueError for another shape or dtype, naming the argument; TypeError where f reads a tensor that
    requires gradients and is no argument of it.

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
            raise AttributeError(f"{self._name}: it has no rule yet; call {self.__name__}.defvjp(fwd, bwd)")  # type: ignore[attr-defined]

    def _differentiated(self, call: _Call) -> Any:
        mark = _core.newest()
        late = self in _running.forward  # fwd calls the function itself: to run fwd now would never end
        with _body(self._name, call.inputs, _core.alias) as own:
            args = call.with_inputs(own)
            result, residuals = (self._f(*args), None) if late else self._run_forward(args)
        return _Backward(call, self, _settled_tree(residuals), late).attach(result, mark)

    def _run_forward(self, args: Sequence[Any]) -> tuple[Any, Any]:
        assert self._fwd is not None
        _running.forward.append(self)
        try:
            pair = self._fwd(*args)
        finally:
            _running.forward.pop()
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            got = f"{len(pair)} values" if isinstance(pair, (tuple, list)) else type(pair).__name__
            raise TypeError(f"{self._name}: fwd must return a pair, the result and the residuals; got {got}")
        return pair[0], pair[1]


class _Backward(_Rule):
    """Calls bwd, with the residuals of the call or, if it was within fwd itself, of one that is made up for now."""

    def __init__(self, call: _Call, function: custom_vjp, residuals: Any, late: bool) -> None:
        super().__init__(call)
        self.function, self.residuals, self.keeps_values = function, residuals, late

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        late, call = self.keeps_values, self.call
        residuals = self.function._run_forward(call.with_leaves(call.leaves))[1] if late else self.residuals
        found = self.function._bwd(*self.call.nondiff, residuals, self.as_result(g))
        return self.call.cotangents(found, "bwd")


# ---- custom_jvp -----------------------------------------------------------------------------------------------------
class custom_jvp(_Function):
    """A function with a forward-mode rule of its own, as ``jax.custom_jvp``; reverse mode uses its transpose.

    Parameters
    ----------
    f : callable
        Takes and returns arrays or nested structures of them. It gives the value, also where it is differentiated.
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
            raise AttributeError(f"{self._name}: it has no rule yet; call {self.__name__}.defjvp(jvp)")  # type: ignore[attr-defined]

    def _differentiated(self, call: _Call) -> Any:
        mark = _core.newest()
        with _body(self._name, call.inputs, _core.alias) as own:
            result = self._f(*call.with_inputs(own))
        return _Tangent(call, self).attach(result, mark)


class _Tangent(_Rule):
    """Runs a jvp rule, and backward through it by the tangents, in which it is linear."""

    def __init__(self, call: _Call, function: custom_jvp) -> None:
        super().__init__(call)
        self.function = function

    def push(self, primals: Sequence[Any], tangents: dict[int, Tensor]) -> list[Any]:
        """The tangents of the float arrays of the result, for those of some leaves of the arguments."""
        call = self.call
        zeros = [tangents.get(k, None) for k in range(len(primals))]
        filled = [_zeros(x) if t is None else t for x, t in zip(primals, zeros)]
        split = [tuple(args[i] for i in call.places) for args in (call.with_leaves(primals), call.with_leaves(filled))]
        pair = self.function._jvp(*call.nondiff, *split)  # type: ignore[misc]
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            got = f"{len(pair)} values" if isinstance(pair, (tuple, list)) else type(pair).__name__
            raise TypeError(f"{call.name}: jvp must return a pair, the result and its tangent; got {got}")
        try:
            leaves = self.structure.flatten_up_to(pair[1], "tangent")
        except ValueError as error:
            raise TypeError(f"{call.name}: jvp must return a tangent built as the result: {error}") from None
        paths = self.structure.paths("the tangent of the result")
        return [
            _fitting(leaves[i], shape, dtype, f"{call.name}: jvp", paths[i])
            for i, (shape, dtype) in zip(self.places, self.kinds)
        ]

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        call, recorded = self.call, _core.grad_enabled()
        primals = call.leaves if recorded else [x.detach() if isinstance(x, Tensor) else x for x in call.leaves]
        was = _core.set_grad_enabled(True)
        try:
            own = [_core.watch(np.zeros(shape, dtype)) for shape, dtype in call.kinds]
            return self.pull(self.push(primals, dict(zip(call.tracked, own))), g, own, recorded)
        finally:
            _core.set_grad_enabled(was)


def _zeros(x: Any) -> Any:
    """A tangent of what is not differentiated."""
    if _is_float(x):
        return np.zeros(np.shape(x), x.dtype if hasattr(x, "dtype") else np.float64)
    return np.zeros(np.shape(x)) if isinstance(x, (Tensor, np.ndarray, np.generic, int)) else None


# ---- checkpoint -----------------------------------------------------------------------------------------------------
def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, but nothing of its inside is kept for the backward pass, which runs it again: time for memory.

    Takes f's arguments, arrays or nested structures of them, and returns what f returns. Only the arguments are kept, and
    the random numbers that f draws from ``fastgrad.random``, which are the same when it runs again. Whatever else f does
    must be the same too. In a compiled function the second computation is not merged with the first.

    Raises TypeError where f reads a tensor that requires gradients and is no argument of it, such as parameters from
    outside: pass them as arguments.

    >>> import fastgrad as fg, numpy as np
    >>> layer = fg.checkpoint(lambda w, x: np.tanh(w * x))
    >>> fg.grad(lambda w: layer(w, layer(w, 1.0)))(0.5).round(4)
    np.float64(0.8118)
    """
    if not callable(f):
        raise TypeError(f"checkpoint: expected a function, got {f!r}")
    name = f"checkpoint {getattr(f, '__name__', type(f).__name__)}"

    @functools.wraps(f)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        call = _Call(name, ["args", "kwargs"], [args, kwargs])
        if not call.tracked:
            return f(*args, **kwargs)
        mark = _core.newest()
        rule = _Again(call, f)
        with _body(name, call.inputs, _core.alias) as own, rule.draws:
            args, kwargs = call.with_inputs(own)
            result = f(*args, **kwargs)
        return rule.attach(result, mark)

    return checkpointed


class _Again(_Rule):
    """Runs a function again, and backward through it."""

    def __init__(self, call: _Call, f: Callable[..., Any]) -> None:
        super().__init__(call)
        self.f, self.draws = f, _core.Draws()

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        call, recorded = self.call, _core.grad_enabled()
        leaves = [_core.barrier(x) if isinstance(x, Tensor) else x for x in call.leaves]
        inputs = [leaves[k] for k in call.tracked]
        with _body(call.name, inputs, lambda x: _core.watch_tensor(x, recorded)) as own, self.draws:
            for k, x in zip(call.tracked, own):
                leaves[k] = x
            args, kwargs = call.with_leaves(leaves)
            results, structure = tree.flatten(self.f(*args, **kwargs))
            if structure != self.structure:
                raise RuntimeError(f"{call.name}: run again, the function returned {structure} instead of {self.structure}")
            again = [results[i] for i in self.places]
            if [(np.shape(y), getattr(y, "dtype", np.float64)) for y in again] != self.kinds:
                raise RuntimeError(f"{call.name}: run again, the function returned other shapes or dtypes than before")
            return self.pull(again, g, own, recorded)


# ---- primitive ------------------------------------------------------------------------------------------------------
class primitive(_Function):
    """A function of ndarrays, such as one of SciPy's, that takes tensors too and is differentiated by a rule.

    Parameters
    ----------
    f : callable
        Called with ndarrays (read-only, where tensors are given) and returns arrays or a nested structure of them.

    The rule is given by one function for each positional argument, ``f.defvjp(vjp0, vjp1, ...)``: ``vjp0(g, y, *args)``
    is the cotangent of argument 0 for the cotangent g of the result y, of the argument's structure, shapes and dtypes.
    None stands for an argument that is not differentiated. They get tensors and are run as any code: for derivatives of
    higher order they must be made of differentiable functions, primitives among them.

    Raises NotImplementedError in the backward pass where an argument that requires gradients has no rule, and TraceError
    in a compiled function, which runs no Python. Given no tensor, it returns what f returns.

    >>> import fastgrad as fg, numpy as np
    >>> cumulated = fg.primitive(np.cumsum)
    >>> cumulated.defvjp(lambda g, y, x: cumulated(g[::-1])[::-1])
    >>> fg.grad(lambda x: (cumulated(x) ** 2).sum())(np.array([1.0, 2.0]))
    array([8., 6.])
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__(f)
        self._vjps: tuple[Callable[..., Any] | None, ...] = ()

    def defvjp(self, *vjps: Callable[..., Any] | None) -> None:
        """Set the rule by one function, or None, for each argument."""
        for vjp in vjps:
            if vjp is not None and not callable(vjp):
                raise TypeError(f"{self._name}: expected functions and None, got {vjp!r}")
        self._vjps = vjps

    def _plain(self, args: tuple[Any, ...]) -> Any:
        leaves, structure = tree.flatten(args)
        if not any(isinstance(x, Tensor) for x in leaves):
            return self._f(*args)
        for x in leaves:
            if isinstance(x, Tensor) and _core.traced(x):
                _core.refuse_recorded(
                    f"{self._name} was called", "It is Python code and cannot be compiled: leave it outside of the function"
                )
        result = self._f(*structure.unflatten([x.detach().numpy() if isinstance(x, Tensor) else x for x in leaves]))
        return tree.map(lambda x: _core.tensor(x) if isinstance(x, (np.ndarray, np.generic, float)) else x, result)

    def _differentiated(self, call: _Call) -> Any:
        mark = _core.newest()
        return _ByArgument(call, self).attach(self._plain(tuple(call.args)), mark)


class _ByArgument(_Rule):
    """Calls a primitive's function for each argument that is differentiated."""

    def __init__(self, call: _Call, function: primitive) -> None:
        super().__init__(call)
        self.function = function

    def attach(self, result: Any, mark: int) -> Any:
        self.result = _settled_tree(result)
        return super().attach(result, mark)

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        call, vjps, at = self.call, self.function._vjps, 0
        args = call.with_leaves(call.leaves)
        result = self.function(*args) if _core.grad_enabled() else self.result
        found: list[Any] = []
        for i, structure in enumerate(call.structures):
            tracked = any(at <= k < at + structure.num_leaves for k in call.tracked)
            at += structure.num_leaves
            vjp = vjps[i] if i < len(vjps) else None
            if tracked and vjp is None:
                raise NotImplementedError(
                    f"{call.name}: it has no rule for {call.names[i]}, by which it is differentiated; give it one by "
                    f"{getattr(self.function, '__name__', 'f')}.defvjp(...), or pass the argument's .detach()"
                )
            found.append(vjp(self.as_result(g), result, *args) if tracked and vjp is not None else None)
        return call.cotangents(tuple(found), "its rule")
