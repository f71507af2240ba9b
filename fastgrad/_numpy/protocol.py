"""NumPy's dispatch protocols: ``np.tanh(t)``, ``np.sum(t, axis=1)``, ``np.concatenate([t, a])`` of tensors.

NumPy hands every call that involves a Tensor to the two functions below. A function that fastgrad has is called in
NumPy's place, so that the result is on the tape. Any other is left to NumPy where the tensors are only data, and raises
TypeError where one is differentiated or traced: nothing ever comes back as a plain ndarray that has silently lost its
gradient.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from .._core import Tensor
from . import functions
from . import special as special_functions
from .indexing import take


def _conjugate(x: Any) -> Tensor:
    x = _core.asarray(x)
    return _core.astype(x, np.int8) if x.dtype == np.bool_ else _core.positive(x)  # NumPy has none of booleans


# NumPy's ufunc -> our function: those of one name, and those we call otherwise.
UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    ufunc: function
    for source in (_core.functions, {name: vars(functions)[name] for name in vars(functions)["__all__"]})
    for name, function in source.items()
    if isinstance(ufunc := getattr(np, name, None), np.ufunc)
} | {
    np.matmul: _core.matmul, np.conjugate: _conjugate, np.invert: lambda a: ~a,
    np.bitwise_and: lambda a, b: _core.asarray(a) & b, np.bitwise_or: lambda a, b: _core.asarray(a) | b,
    np.bitwise_xor: lambda a, b: _core.asarray(a) ^ b,
}  # fmt: skip
# The functions that NumPy itself defines by the methods of its ufuncs. A method works where fastgrad has its function.
_METHODS: dict[str, dict[np.ufunc, str]] = {
    "reduce": {np.add: "sum", np.multiply: "prod", np.maximum: "max", np.minimum: "min"},
    "accumulate": {np.add: "cumsum", np.multiply: "cumprod"},
}  # fmt: skip
_SCIPY_NAMES = {"expit": "sigmoid", "log_expit": "log_sigmoid", "psi": "digamma"}  # others: those of one name


def _named(name: str) -> Any:
    """Our function of this name, composed or of the core; None if there is none."""
    return getattr(functions, name, None) or getattr(_core, name, None)


class _NotHere(TypeError):
    """fastgrad has no such function, or does not take these arguments."""


def _as_data_or(error: _NotHere, x: Any) -> Any:
    """x with ndarrays in the places of tensors that are only data, which lose nothing thereby; where one is tracked or
    traced, the error is raised."""
    if isinstance(x, Tensor):
        if x.requires_grad or _core.traced(x):
            raise TypeError(*error.args) from None
        return x.numpy()
    if type(x) in (list, tuple):
        return type(x)([_as_data_or(error, item) for item in x])
    if type(x) is dict:
        return {key: _as_data_or(error, item) for key, item in x.items()}
    return x


def array_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``Tensor.__array_ufunc__``."""
    try:
        return _ours(ufunc, method, inputs, dict(kwargs))
    except _NotHere as error:
        if any(isinstance(o, Tensor) for o in (*kwargs.get("out", ()), *inputs[: method == "at"])):
            raise TypeError(*error.args) from None
        plain = _as_data_or(error, (inputs, kwargs))
    return getattr(ufunc, method)(*plain[0], **plain[1])


def _ours(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = f"numpy.{ufunc.__name__}"
    same = _named(_METHODS.get(method, {}).get(ufunc, ""))
    if same is not None:
        options = [kwargs.pop("axis", 0)]
        if method == "reduce":
            options.append(kwargs.pop("keepdims", False))
        _refuse_extras(f"{name}.{method}", kwargs)
        return same(inputs[0], *options)
    if method == "outer":
        _refuse_extras(f"{name}.outer", kwargs)
        a, b = map(_core.asarray, inputs)
        return array_ufunc(ufunc, "__call__", (a.reshape(a.shape + (1,) * b.ndim), b), {})
    if method != "__call__":
        raise _NotHere(_missing(f"{name}.{method}"))
    function = UFUNCS.get(ufunc)
    special = sys.modules.get("scipy.special._ufuncs")  # scipy.special itself may have wrappers of them
    if function is None and special and ufunc is getattr(special, ufunc.__name__, None):
        name = f"scipy.special.{ufunc.__name__}"
        function = getattr(special_functions, ufunc.__name__, None) or _core.functions.get(
            _SCIPY_NAMES.get(ufunc.__name__, ufunc.__name__)
        )
    if function is None:
        raise _NotHere(_missing(name))
    if any(isinstance(o, np.ndarray) for o in kwargs.get("out", ())):
        raise _NotHere(
            f"{name}: the result of an operation on a tensor cannot be stored in an ndarray, which would lose its "
            "gradient; write a = a + t instead of a += t or out=a"
        )
    _refuse_extras(name, kwargs)
    return function(*inputs)


INSTEAD = {
    "accumulate": "fastgrad.scan", "append": "concatenate", "array_split": "split at places",
    "atleast_1d": "reshape", "atleast_2d": "reshape",
    "average": "(w * x).sum() / w.sum()", "column_stack": "stack along axis 1",
    "copyto": "fastgrad.full(shape, t) where numpy.full was called",
    "cumprod": "exp(cumsum(log(x))) of positive x", "dstack": "stack along axis 2",
    "geomspace": "exp(fastgrad.linspace(log(a), log(b), n))", "kron": "einsum and reshape",
    "logspace": "10 ** fastgrad.linspace(...)", "meshgrid": "broadcast_to of x[None, :] and y[:, None]",
    "nansum": "where(isnan(x), 0, x).sum()", "pad": "concatenate with zeros", "piecewise": "where",
    "polyval": "Horner's loop", "ptp": "x.max() - x.min()", "select": "where",
    "trapezoid": "((y[1:] + y[:-1]) / 2 * diff(x)).sum()",
}  # fmt: skip


def _missing(name: str) -> str:
    instead = INSTEAD.get(name.rpartition(".")[2])
    hint = f"write it as {instead}, or " if instead else ""
    return (
        f"{name} is not supported on tensors; {hint}give a function of ndarrays its rule with fastgrad.primitive, "
        "which cannot be compiled, or pass np.asarray(fastgrad.stop_gradient(t)) for values without "
        "gradients"
    )


def _refuse_extras(name: str, kwargs: dict[str, Any]) -> None:
    for key, value in kwargs.items():
        if value is not None and value is not np._NoValue:
            raise _NotHere(f"{name}: the argument {key}= is not supported on tensors")


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    return functions.clip(a, a_min if min is None else min, a_max if max is None else max)


def _where(condition: Any, *choices: Any) -> Tensor:
    if len(choices) != 2:
        raise _NotHere("numpy.where: with a tensor, expected where(condition, x, y)")
    return _core.where(condition, *choices)


@functools.cache
def _functions() -> dict[Any, Callable[..., Any]]:
    """NumPy's function -> ours: those of one name, unless NumPy's is to be written otherwise, and those that differ."""
    table = {
        theirs: _named(name)
        for name in {*_core.PUBLIC, *vars(functions)["__all__"]} - INSTEAD.keys()
        if callable(theirs := getattr(np, name, None)) and not isinstance(theirs, np.ufunc)
    }
    return table | {
        np.take: take, np.where: _where, np.clip: _clip, np.linalg.norm: functions.norm,
        np.permute_dims: _core.transpose, np.shape: lambda a: a.shape, np.ndim: lambda a: a.ndim,
        np.size: lambda a, axis=None: a.size if axis is None else a.shape[axis],
        np.copy: lambda a: _core.astype(a, a.dtype),
    }  # fmt: skip


class _Route(NamedTuple):
    """How the arguments of a function of NumPy go over to ours."""

    ours: Callable[..., Any]
    taken: frozenset[str]  # the names of our arguments
    names: tuple[str, ...]  # those of NumPy's; empty where the positional ones go over as they are
    defaults: dict[str, Any]  # of NumPy's: where what ours lacks may be left


_RENAMED = {"newshape": "shape"}  # of reshape until NumPy 2.0


@functools.cache
def _route(function: Callable[..., Any]) -> _Route | None:
    ours = _functions().get(function)
    if ours is None:
        return None
    taken = frozenset(inspect.signature(ours).parameters)
    try:
        theirs = inspect.signature(function).parameters
    except ValueError:  # some of NumPy's C functions do not tell theirs
        theirs = None
    if theirs is None or ours in (_clip, _where, functions.einsum):
        return _Route(ours, taken, (), {})
    names = tuple([_RENAMED.get(name, name) for name in theirs])
    return _Route(ours, taken, names, {name: p.default for name, p in zip(names, theirs.values())})


def array_function(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``Tensor.__array_function__``. NumPy has seen to it that the arguments fit its function's signature."""
    try:
        return _our_function(function, args, kwargs)
    except _NotHere as error:
        plain = _as_data_or(error, (args, kwargs))
    return function(*plain[0], **plain[1])


def _our_function(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    route = _route(function)
    if route is None:
        raise _NotHere(_missing(f"{function.__module__}.{function.__name__}"))
    ours, taken, names, defaults = route
    if "kwargs" in taken:  # a creation function, which hands everything to NumPy's
        return ours(*args, **kwargs)
    given = {**dict(zip(names, args)), **{_RENAMED.get(name, name): value for name, value in kwargs.items()}}
    if names:  # all go over by name but the array, whose name differs
        args = (given.pop(names[0]),)
    passed = {}
    for key, value in given.items():
        if value is np._NoValue or (value is None and key not in defaults):
            continue
        if key in taken:
            passed[key] = value
        elif value is not None and value is not defaults.get(key):
            name = f"{function.__module__}.{function.__name__}"
            raise _NotHere(f"{name}: the argument {key}= is not supported on tensors")
    return ours(*args, **passed)
