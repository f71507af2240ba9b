"""Differentiation of functions: arrays in, arrays out.

Inside the function the arguments are tensors; outside nobody sees one.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor


class no_grad(_core.NoGrad, contextlib.ContextDecorator):
    """Context manager and decorator: operations within are not recorded, in this thread.

    >>> import fastgrad as fg
    >>> x = fg.tensor([1.0], requires_grad=True)
    >>> with fg.no_grad():
    ...     y = 2 * x
    >>> y.requires_grad
    False
    """


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
        Returns a single float tensor (and, with ``has_aux``, anything else beside it).
    argnums : int or sequence of ints
        Which positional arguments to differentiate by. Each is an ndarray or number of dtype float32 or float64, or a
        nested structure (dict, list, tuple) of them; f receives tensors in their places.
    has_aux : bool
        f returns ``(value, aux)``; the result is then ``((value, aux), gradient)``, tensors in aux as ndarrays.

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

    Raises TypeError where an argument is no float or f returns no tensor, ValueError where f returns more than a
    single number.

    >>> import fastgrad as fg, numpy as np
    >>> fg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (5.0, array([2., 4.]))
    >>> fg.value_and_grad(fg.grad(lambda x: x**3))(2.0)
    (12.0, np.float64(12.0))
    """
    return _value_and_grad(f, argnums, has_aux, "value_and_grad")


def _value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, name: str
) -> Callable[..., tuple[Any, Any]]:
    """The same, called by another name in errors."""
    if not callable(f):
        raise TypeError(f"{name}: expected a function, got {f!r}")
    several = isinstance(argnums, (tuple, list))
    numbers = _argnums(argnums, name)

    @functools.wraps(f)
    def value_and_grad_of_f(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        places = _places(numbers, args, f, name)
        connected = _core.grad_enabled()  # to what was recorded before
        nested, mark = _core.in_transform(), _core.last_node_id()
        call = list(args)
        originals: dict[int, list[Any]] = {}
        structures: dict[int, tree.Structure] = {}

        def place(k: int, i: int) -> str:
            path = structures[i].paths()[k]
            return f"{name}: argument {i}{f' at {path}' if path else ''}"

        watched: list[Tensor] = []
        aux = None
        with _core.Recording():
            for i in dict.fromkeys(places):
                originals[i], structures[i] = tree.flatten(args[i])
                leaves = _watched(originals[i], connected, functools.partial(place, i=i), _LEAVE_OUT)
                call[i] = tree.unflatten(structures[i], leaves)
                watched += leaves
            result = f(*call, **kwargs)
            if has_aux:
                result, aux = _with_aux(f, result, name)
            _check_value(f, result, name)
            if connected and not nested:
                nested = _core.depends_on_outer([result, *watched, *(tree.leaves(aux) if has_aux else ())], mark)
            found = iter(_core.gradients(result, watched, nested and connected))
        tensors = nested or _core.tracing()
        by_place = {
            i: tree.unflatten(structures[i], [g if tensors else _array(g, x) for x, g in zip(leaves, found)])
            for i, leaves in originals.items()
        }
        gradients = tuple(by_place[i] for i in places)
        if not (nested and connected):
            result = result.detach()
            aux = tree.map(lambda x: _plain(x, tensors), aux) if has_aux else None
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
    return _grad(f, argnums, has_aux, "grad")


def _grad(f: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, name: str) -> Callable[..., Any]:
    both = _value_and_grad(f, argnums, has_aux, name)

    @functools.wraps(f)
    def grad_of_f(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_of_f


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", repr(f))


def _kind(x: Any) -> str:
    name = type(x).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


_FLOATS = frozenset((np.dtype(np.float32), np.dtype(np.float64)))
_LEAVE_OUT = "leave it out of argnums"


def _watched(
    leaves: Sequence[Any], connected: bool, place: Callable[[int], str], cure: str, keep: bool = False
) -> list[Tensor]:
    """A tensor on the memory of each leaf, for a transform to stop at. ``place`` says in errors which leaf is meant;
    ``keep``: of ndarrays copies, for what is recorded outlasts the call."""
    found = []
    for k, x in enumerate(leaves):
        if type(x) is np.ndarray and x.dtype in _FLOATS and not keep:
            found.append(_core.watch(x))
            continue
        if isinstance(x, Tensor) and x.dtype in _FLOATS:
            found.append(_core.watch_tensor(x, connected))
            continue
        if isinstance(x, (np.ndarray, np.generic, float)):
            if isinstance(x, np.ma.MaskedArray):
                raise TypeError(
                    f"{place(k)} is a masked array, whose mask would be ignored; fill it with .filled() first"
                )
            a = np.array(x) if keep else np.asarray(x)
            if a.dtype in _FLOATS:
                found.append(_core.watch(a))
                continue
            if (native := a.dtype.newbyteorder("=")) in _FLOATS:
                found.append(_core.watch(a.astype(native)))
                continue
        got = _kind(x)
        if hasattr(x, "dtype"):
            got = str(x.dtype)
        raise TypeError(
            f"{place(k)} is {got}; only float32 and float64 have gradients, convert it with float(x) or "
            f"x.astype(float), or {cure}"
        )
    return found


def _argnums(argnums: Any, name: str) -> tuple[int, ...]:
    try:
        return tuple(operator.index(i) for i in (argnums if isinstance(argnums, (tuple, list)) else (argnums,)))
    except TypeError:
        raise TypeError(f"{name}: expected argnums as an int or a tuple of ints, got {argnums!r}") from None


def _places(numbers: tuple[int, ...], args: Sequence[Any], f: Callable[..., Any], name: str) -> list[int]:
    """The numbers, counted from the first argument."""
    n = len(args)
    for i in numbers:
        if not -n <= i < n:
            raise TypeError(
                f"{name}: argnums names argument {i}, but {_name(f)} was called with {n} positional argument"
                f"{'s' * (n != 1)}"
            )
    return [i % n for i in numbers]


def _with_aux(f: Callable[..., Any], result: Any, name: str) -> Any:
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"{name}: with has_aux=True {_name(f)} must return (value, aux), got {_kind(result)}")
    return result


def _check_value(f: Callable[..., Any], result: Any, name: str) -> None:
    if not isinstance(result, Tensor):
        raise TypeError(
            f"{name}: {_name(f)} returned {_kind(result)}, expected a tensor"
            + (
                "; to return more beside the value, give has_aux=True and return (value, aux)"
                if isinstance(result, (tuple, list, dict))
                else ": nothing in it was recorded. Compute with fastgrad's or NumPy's functions on the arguments, not "
                "with math or on copies of their values"
            )
        )
    if result.size != 1:
        raise ValueError(
            f"{name}: {_name(f)} returned a tensor of shape {result.shape}; a gradient is that of a single number, "
            "such as a sum or mean"
        )
    if result.dtype.kind != "f":
        raise TypeError(f"{name}: {_name(f)} returned {result.dtype}, which has no gradient")


def _plain(x: Any, tensors: bool) -> Any:
    """A tensor as an ndarray, or if asked for as a constant tensor."""
    if not isinstance(x, Tensor):
        return x
    return x.detach() if tensors else x.numpy().copy()


def _array(g: Tensor, x: Any) -> Any:
    """The gradient by x as an ndarray, or as a number if x is one."""
    a = _core.own(g)
    return a if isinstance(x, (np.ndarray, Tensor)) else a[()]
