"""Gradients of functions by reverse mode: `grad`, `value_and_grad`, and what switches recording off.

The function gets tensors in the places of arrays; the caller gets arrays back, unless an outer transform goes on.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import Any

from .. import _core, tree
from .._core import Tensor
from .arguments import (
    LEAVE_OUT,
    argnum_tuple,
    argument_places,
    array_like,
    as_constant,
    constant_as_tensor,
    describe_type,
    function_name,
    note_lists,
    pair_with_aux,
    watch_leaves,
)
from .transformed import transformed


class no_grad(_core.NoGrad, contextlib.ContextDecorator):
    """Context manager and decorator: operations within are not recorded, in this thread. Functions, generators and
    coroutines can be decorated.

    >>> import fastgrad as fg
    >>> x = fg.tensor([1.0], requires_grad=True)
    >>> with fg.no_grad():
    ...     y = 2 * x
    >>> y.requires_grad
    False
    """

    def __call__(self, func: Any) -> Any:
        """func with all its work inside: of a generator or coroutine what it does between two yields or awaits."""
        if inspect.isgeneratorfunction(func):

            @functools.wraps(func)
            def generator(*args: Any, **kwargs: Any) -> Any:
                return (yield from self._stepwise(func(*args, **kwargs)))

            return generator
        if inspect.isasyncgenfunction(func):
            return functools.wraps(func)(lambda *args, **kwargs: self._asyncwise(func(*args, **kwargs)))
        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                return await _Awaitable(self._stepwise(func(*args, **kwargs)))

            return coroutine
        return super().__call__(func)

    def _stepwise(self, inner: Any) -> Generator[Any, Any, Any]:
        """A generator, coroutine or other iterator that has send, throw and close, resumed inside only."""
        resume, given = inner.send, None
        while True:
            try:
                with self:
                    result = resume(given)
            except StopIteration as stop:
                return stop.value
            try:
                resume, given = inner.send, (yield result)
            except GeneratorExit:
                with self:
                    inner.close()
                raise
            except BaseException as error:
                resume, given = inner.throw, error

    async def _asyncwise(self, inner: Any) -> AsyncGenerator[Any, Any]:
        resume, given = inner.asend, None
        while True:
            try:
                result = await _Awaitable(self._stepwise(resume(given)))
            except StopAsyncIteration:
                return
            try:
                resume, given = inner.asend, (yield result)
            except GeneratorExit:
                await _Awaitable(self._stepwise(inner.aclose()))
                raise
            except BaseException as error:
                resume, given = inner.athrow, error


class _Awaitable:
    def __init__(self, steps: Generator[Any, Any, Any]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps


def stop_gradient(x: Any) -> Any:
    """x as a constant: no gradient passes. x is a tensor or array, or a nested structure of them.

    >>> import fastgrad as fg
    >>> fg.grad(lambda x: x * fg.stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return tree.map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, x)


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns f's value and its gradient.

    Parameters
    ----------
    f : callable
        Returns a single float tensor (and, with ``has_aux``, anything else beside it). A Python number or an ndarray of
        floats is a constant, whose gradient is zeros.
    argnums : int or sequence of ints
        Which positional arguments to differentiate by. Each is an ndarray or number of dtype float32 or float64, or a
        nested structure (dict, list, tuple) of them; f receives tensors in their places.
    has_aux : bool
        f returns ``(value, aux)``; the result is then ``((value, aux), gradient)``, tensors in aux as ndarrays and
        numbers.

    Returns
    -------
    callable
        Takes f's arguments; returns the value as a Python float, and the gradient in the structure of the argument (a
        tuple for a sequence of argnums) as ndarrays of its shapes and dtypes: zeros where f does not depend on it.
        It fits ``scipy.optimize.minimize(..., jac=True)`` as it stands. Large arrays are not copied: nothing may write
        to an argument while f runs.

        Within another transform, or where an argument or anything that the result depends on requires gradients,
        value and gradient are tensors instead and stay connected with what they were computed from: that is what a
        gradient of a gradient differentiates, to any order. Under ``no_grad`` they are constants.

    Raises TypeError where an argument is no float or f returns neither a tensor nor a constant, ValueError where f
    returns more than a single number.

    >>> import fastgrad as fg, numpy as np
    >>> fg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (5.0, array([2., 4.]))
    >>> fg.value_and_grad(fg.grad(lambda x: x**3))(2.0)
    (12.0, np.float64(12.0))
    """
    return named_value_and_grad(f, argnums, has_aux, "value_and_grad")


def named_value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, name: str
) -> Callable[..., tuple[Any, Any]]:
    """``value_and_grad`` under another name in errors."""
    if not callable(f):
        raise TypeError(f"{name}: expected a function, got {f!r}")
    several = isinstance(argnums, (tuple, list))
    numbers = argnum_tuple(argnums, name)

    @transformed(f, named_value_and_grad, argnums, has_aux, name)
    def value_and_grad_of_f(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        places = argument_places(numbers, args, f, name)
        connected = _core.grad_enabled()  # whether arguments that are recorded already stay so
        nested, mark = _core.in_transform(), _core.last_node_id()
        call = list(args)
        parts: dict[int, tuple[list[Any], tree.Structure]] = {}
        watched: list[Tensor] = []
        aux = None
        with _core.Recording():
            for i in dict.fromkeys(places):
                originals, structure = parts[i] = tree.flatten(args[i])
                leaves = watch_leaves(originals, connected, functools.partial(_place, name, i, structure), LEAVE_OUT)
                call[i] = structure.unflatten(leaves)
                watched += leaves
            try:
                result = f(*call, **kwargs)
            except (TypeError, AttributeError) as error:
                note_lists(error, tuple([args[i] for i in places]))
                raise
            if has_aux:
                result, aux = pair_with_aux(f, result, name)
            if not isinstance(result, Tensor):
                result = constant_as_tensor(result)
            _check_value(f, result, name)
            if connected and not nested:
                nested = _core.depends_on_outer([result, *watched, *(tree.leaves(aux) if has_aux else ())], mark)
            found = iter(_core.gradients(result, watched, nested and connected))
        tensors = nested or _core.tracing()
        by_place = {
            i: structure.unflatten([g if tensors else array_like(g, x) for x, g in zip(originals, found)])
            for i, (originals, structure) in parts.items()
        }
        gradients = tuple(by_place[i] for i in places)
        if not (nested and connected):
            result = result.detach()
            aux = tree.map(lambda x: as_constant(x, tensors), aux) if has_aux else None
        if tensors:
            value = _core.reshape(result, ()) if nested else _core.as_number(result)
        else:
            value = result.item()
        return ((value, aux) if has_aux else value), (gradients if several else gradients[0])

    return value_and_grad_of_f


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of f; ``(gradient, aux)`` with ``has_aux``. See ``value_and_grad``.

    >>> import fastgrad as fg
    >>> fg.grad(fg.tanh)(0.0)
    np.float64(1.0)
    """
    return named_grad(f, argnums, has_aux, "grad")


def named_grad(f: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, name: str) -> Callable[..., Any]:
    """``grad`` under another name in errors."""
    both = named_value_and_grad(f, argnums, has_aux, name)

    @transformed(f, named_grad, argnums, has_aux, name)
    def grad_of_f(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_of_f


def _place(name: str, i: int, structure: tree.Structure, k: int) -> str:
    """The name in errors of leaf k of argument i."""
    path = structure.paths()[k]
    return f"{name}: argument {i}{f' at {path}' if path else ''}"


def _check_value(f: Callable[..., Any], result: Any, name: str) -> None:
    if not isinstance(result, Tensor):
        raise TypeError(
            f"{name}: {function_name(f)} returned {describe_type(result)}, expected a tensor"
            + (
                "; to return more beside the value, give has_aux=True and return (value, aux)"
                if isinstance(result, (tuple, list, dict))
                else ": nothing in it was recorded. Compute with fastgrad's or NumPy's functions on the arguments, not "
                "with math or on copies of their values"
            )
        )
    if result.size != 1:
        raise ValueError(
            f"{name}: {function_name(f)} returned a tensor of shape {result.shape}; a gradient is that of a single "
            "number, such as a sum or mean"
        )
    if result.dtype.kind != "f":
        raise TypeError(f"{name}: {function_name(f)} returned {result.dtype}, which has no gradient")
