"""NumPy's dispatch protocols: ``np.tanh(t)``, ``np.sum(t, axis=1)``, ``np.concatenate([t, a])`` of tensors.

NumPy hands every call that involves a Tensor to the two functions below. A function that fastgrad has is called in
NumPy's place, so that the result is on the tape. Any other is left to NumPy where the tensors are only data, and raises
TypeError where one is differentiated or traced: nothing ever comes back as a plain ndarray that has silently lost its
gradient.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from .._core import Tensor
from .._instead import WRITTEN
from . import functions
from .indexing import take
from .results import put
from .shapes import one_axis
from .updates import Update, changed_in_turn

# NumPy's ufunc -> our function: those of one name, and those we call otherwise.
UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    ufunc: function
    for source in (_core.functions, {name: vars(functions)[name] for name in vars(functions)["__all__"]})
    for name, function in source.items()
    if isinstance(ufunc := getattr(np, name, None), np.ufunc)
} | {
    np.matmul: _core.matmul,
}
# Our functions for methods of NumPy's ufuncs. For other ufuncs `reduce` and `accumulate` are folds, by one call for
# each element of the axis, and `at` makes one call for each time that an element is named.
_METHODS: dict[str, dict[np.ufunc, str]] = {
    "reduce": {
        np.add: "sum", np.multiply: "prod", np.maximum: "max", np.minimum: "min", np.fmax: "nanmax", np.fmin: "nanmin",
        np.logaddexp: "logsumexp", np.logical_and: "all", np.logical_or: "any",
    },
    "accumulate": {
        np.add: "cumsum", np.multiply: "cumprod", np.maximum: "cummax", np.minimum: "cummin",
        np.logaddexp: "logcumsumexp",
    },
    "at": {np.multiply: "multiply", np.divide: "divide", np.maximum: "max", np.minimum: "min"},
}  # fmt: skip
_LOGICAL = (np.logical_and, np.logical_or, np.logical_xor)
_UNTAKE = _core.OP_NUMBERS["untake"]


def _named(name: str) -> Any:
    """Our function of this name, composed or of the core; None if there is none."""
    return getattr(functions, name, None) or getattr(_core, name, None)


class _NotHere(TypeError):
    """fastgrad has no such function, or does not take these arguments."""


def _as_data_or(error: _NotHere, x: Any) -> Any:
    """x with ndarrays in the places of tensors that are only data, which have no gradient to lose; where one is tracked
    or traced, the error is raised."""
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
    if any(isinstance(o, Tensor) for o in kwargs.get("out", ())):
        return _into_tensors(ufunc, method, inputs, dict(kwargs))
    try:
        return _ours(ufunc, method, inputs, dict(kwargs))
    except _NotHere as error:
        if any(isinstance(o, Tensor) for o in (*kwargs.get("out", ()), *inputs[: method == "at"])):
            raise TypeError(*error.args) from None
        plain = _as_data_or(error, (inputs, kwargs))
    return getattr(ufunc, method)(*plain[0], **plain[1])


def _into_tensors(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call with ``out=``, of which at least one is a tensor: the result becomes its value, as by ``out[...] = y``.
    Where there is a mask, ``where=``, the other elements remain."""
    name = f"numpy.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
    outs, mask = kwargs.pop("out"), kwargs.get("where", True)
    if method == "__call__":
        kwargs.pop("where", None)
    else:
        mask = True
    if not any(isinstance(x, Tensor) for x in inputs):
        inputs = (_core.asarray(inputs[0]), *inputs[1:])
    y = array_ufunc(ufunc, method, inputs, kwargs)
    given = tuple([_stored(name, out, new, mask) for out, new in zip(outs, y if isinstance(y, tuple) else (y,))])
    return given if isinstance(y, tuple) else given[0]


def _stored(name: str, out: Any, y: Any, mask: Any = True) -> Any:
    """``out`` with a result y as its value, by a change in place; y itself where there is no ``out``."""
    if out is None:
        return y
    if not isinstance(out, Tensor):
        raise _NotHere(_no_out(name))
    return put(name, out, y, mask)


def _ours(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = f"numpy.{ufunc.__name__}"
    if method in ("reduce", "accumulate"):
        return _along_axis(ufunc, method, inputs[0], kwargs)
    if method == "reduceat":
        return _reduceat(ufunc, *inputs, **kwargs)
    if method == "at" and isinstance(inputs[0], Tensor):
        return _at(ufunc, *inputs)
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
        function = _of_scipy().get(ufunc.__name__)
    if function is None:
        raise _NotHere(_missing(name))
    if any(isinstance(o, np.ndarray) for o in kwargs.get("out", ())):
        raise _NotHere(
            f"{name}: the result of an operation on a tensor cannot be stored in an ndarray, which would lose its "
            "gradient; write a = a + t instead of a += t or out=a"
        )
    of_axis = {"axis": kwargs.pop("axis")} if ufunc is getattr(np, "vecdot", None) and "axis" in kwargs else {}
    if kwargs:
        inputs = _in_dtype(name, ufunc, inputs, kwargs)
        _refuse_extras(name, kwargs)
    return function(*inputs, **of_axis)


def _in_dtype(name: str, ufunc: np.ufunc, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The inputs in the dtype in which a ufunc is told to compute. ``dtype`` is taken out of its keywords where the
    ufunc computes in it alone, and so are those that ask for what is so anyway."""
    if kwargs.get("casting") == "same_kind":
        del kwargs["casting"]
    kwargs.pop("order", None)  # of memory, which is always row-major
    if kwargs.get("where") is True:
        del kwargs["where"]
    if kwargs.get("dtype") is None:
        return inputs
    dtype = np.dtype(kwargs["dtype"])
    if f"{dtype.char * ufunc.nin}->{dtype.char * ufunc.nout}" not in ufunc.types:
        return inputs
    tensors = [_core.asarray(x) for x in inputs]
    for x in tensors:
        if not np.can_cast(x.dtype, dtype, "same_kind"):
            raise TypeError(f"{name}: cannot compute with {x.dtype} in dtype={dtype}; use .astype() first")
    del kwargs["dtype"]
    return tuple([_core.astype(x, dtype) for x in tensors])


def _along_axis(ufunc: np.ufunc, method: str, x: Any, kwargs: dict[str, Any]) -> Any:
    """``ufunc.reduce`` and ``ufunc.accumulate``."""
    name = f"numpy.{ufunc.__name__}.{method}"
    axis, keepdims = kwargs.pop("axis", 0), kwargs.pop("keepdims", False)
    if any(out is not None for out in kwargs.pop("out", ())):
        raise _NotHere(_no_out(name))
    given = {key: value for key, value in kwargs.items() if value is not None and value is not np._NoValue}
    if given.get("where") is True:
        del given["where"]
    if method == "accumulate" and not _core.asarray(x).ndim:
        raise TypeError(f"{name}: expected at least one axis, got a single number")
    if (same := _METHODS[method].get(ufunc)) is not None:
        whole = _named(same)
        if given.keys() <= inspect.signature(whole).parameters.keys():
            return whole(x, axis, keepdims=bool(keepdims), **given) if method == "reduce" else whole(x, axis, **given)
    function = UFUNCS.get(ufunc)
    if function is None or ufunc.nin != 2 or ufunc.nout != 1:
        raise _NotHere(_missing(name))
    x = _core.asarray(x)
    if ufunc in _LOGICAL:
        x = _core.astype(x, bool)  # the first element is a result, too
    return _folded(name, ufunc, function, method, x, axis, bool(keepdims), given)


def _folded(
    name: str, ufunc: np.ufunc, function: Callable[..., Any], method: str, x: Tensor, axis: Any, keepdims: bool,
    given: dict[str, Any],
) -> Tensor:  # fmt: skip
    """``ufunc.reduce`` and ``ufunc.accumulate`` by one call of the function for each element of the axis. Several axes
    are merged to one; only of ufuncs that have an identity, for which the order does not count."""
    if (dtype := given.pop("dtype", None)) is not None:
        x = _core.astype(x, dtype)
    initial, where = (given.pop(key, None) if method == "reduce" else None for key in ("initial", "where"))
    _refuse_extras(name, given)
    shape = x.shape
    if x.ndim == 0 and method == "reduce" and axis in (0, -1):
        x = x.reshape(1)
    if axis is None and x.ndim == 1:
        axis = 0
    several = axis is None or isinstance(axis, tuple)
    axes = _core.normal_axes(axis, x.ndim, name) if several else (one_axis(axis, x.ndim, name),)
    if len(axes) != 1 and (method != "reduce" or ufunc.identity is None):
        raise ValueError(f"{name}: expected one axis, as its order counts, got axis={axis!r}")
    if where is not None:
        where = _core.broadcast_to(_core.asarray(where), shape)
    if len(axes) != 1:
        left = [i for i in range(x.ndim) if i not in axes]
        merged = (*[shape[i] for i in left], math.prod(shape[i] for i in axes))
        x = _core.transpose(x, [*left, *axes]).reshape(merged)
        where = None if where is None else _core.transpose(where, [*left, *axes]).reshape(merged)
        at = len(left)
    else:
        at = axes[0]
    rows = [row.squeeze(at) for row in functions.split(x, x.shape[at], at)] if x.shape[at] else []
    if not rows:
        x = _core.astype(x, function(*[_core.asarray(np.ones(1, x.dtype))] * 2).dtype)  # that of a result
        if method == "accumulate":
            return _core.alias(x)
    if initial is None and (where is not None or not rows):
        initial = ufunc.identity
        if initial is None:
            raise ValueError(f"{name}: it has no identity, with which {'where=' if rows else 'an empty axis'} begins; "
                             "give an initial value")  # fmt: skip
    if method == "reduce" and initial is None and len(rows) == 1:
        initial = ufunc.identity  # the result of one element is the function's, too: numpy.hypot.reduce([-3.0]) is 3
    if initial is not None:
        of_one = (*x.shape[:at], *x.shape[at + 1 :])
        rows.insert(0, _core.broadcast_to(_core.astype(_core.asarray(initial), x.dtype), of_one))
    if where is None:
        found = list(itertools.accumulate(rows, function))
    else:
        counts = [row.squeeze(at) for row in functions.split(where, where.shape[at], at)] if where.shape[at] else []
        last = rows[0]
        for row, count in zip(rows[1:], counts):
            last = _core.where(count, function(last, _core.where(count, row, row.dtype.type(1))), last)
        found = [last]
    if method == "accumulate":
        return functions.stack(found, at)
    y: Tensor = found[-1]
    return y.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape))) if keepdims else y


def _reduceat(
    ufunc: np.ufunc, x: Any, indices: Any, axis: Any = 0, dtype: Any = None, out: tuple[Any, ...] = (None,)
) -> Tensor:
    """``ufunc.reduceat``: a reduction for each index, of the elements up to the next index; of the one at the index if
    the next one is no larger."""
    name = f"numpy.{ufunc.__name__}.reduceat"
    if UFUNCS.get(ufunc) is None or ufunc.nin != 2 or ufunc.nout != 1:
        raise _NotHere(_missing(name))
    _refuse_extras(name, {"out": out[0]})
    x, indices = _core.asarray(x), _core.asarray(indices)
    axis = one_axis(axis, x.ndim, name)
    if _core.traced(indices):
        raise TypeError(f"{name}: the indices must be known while the function is traced; they depend on its arguments")
    starts = indices.numpy()
    if starts.ndim != 1 or starts.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected a vector of whole indices, got {starts.dtype} of shape {starts.shape}")
    n = x.shape[axis]
    if ((starts < 0) | (starts >= n)).any():
        raise IndexError(f"{name}: expected indices from 0 to {n - 1} for axis {axis} of length {n}, got {starts}")
    given = {} if dtype is None else {"dtype": dtype}
    parts = []
    for start, following in zip(starts, (*starts[1:], n)):
        cut = (slice(None),) * axis + (slice(int(start), int(max(following, start + 1))),)
        parts.append(array_ufunc(ufunc, "reduce", (x[cut],), {"axis": axis, "keepdims": True, **given}))
    return _core.concatenate(parts, axis) if parts else x[(slice(None),) * axis + (slice(0),)]


def _at(ufunc: np.ufunc, x: Tensor, indices: Any, *values: Any) -> None:
    """``ufunc.at``: the ufunc is applied to elements of the tensor in place, to each as often as it is named."""
    name, function = f"numpy.{ufunc.__name__}.at", UFUNCS.get(ufunc)
    if function is None or ufunc.nout != 1 or ufunc.nin != 1 + len(values) or ufunc.signature:
        raise _NotHere(_missing(name))
    if ufunc in (np.add, np.subtract) and x.dtype.kind == "f":
        numbers = _core.asarray(np.arange(x.size).reshape(x.shape))[indices]
        terms = _core.broadcast_to(_core.astype(_core.asarray(values[0]), x.dtype), numbers.shape)
        sums = _core.apply_op(_UNTAKE, [terms.reshape(-1), numbers.reshape(-1)], (0, 0, x.size)).reshape(x.shape)
        if ufunc is np.add:
            x += sums
        else:
            x -= sums
    else:
        same = _METHODS["at"].get(ufunc) if x.dtype.kind == "f" else None
        changed = (
            changed_in_turn(name, function, x, indices, *values) if same is None
            else getattr(Update(x, indices), same)(*values)
        )  # fmt: skip
        _core.replace_inplace(x, _core.alias(changed), name)


def _no_out(name: str) -> str:
    return (
        f"{name}: the argument out= must be a tensor where tensors are among the operands, as an ndarray would lose "
        f"the gradient; write a = {name}(t) instead of {name}(t, out=a), or make a a tensor"
    )


INSTEAD = {
    "accumulate": "fastgrad.scan", "at": "a = fastgrad.asarray(a).at[i].add(t), or multiply, min, max and so on",
    "copyto": "fastgrad.full(shape, t) for numpy.full(shape, t), a = fastgrad.asarray(a).at[i].set(t) for a[i] = t",
    "extract": "t[condition]",
    "fill_diagonal": "a = fastgrad.fill_diagonal(a, t), a new value",
    "geomspace": "exp(fastgrad.linspace(log(a), log(b), n))",
    "isneginf": "t == -numpy.inf", "isposinf": "t == numpy.inf",
    "logspace": "10 ** fastgrad.linspace(...)", "matvec": "(a @ t[..., None])[..., 0]",
    "place": "a = fastgrad.place(a, mask, t), a new value",
    "put": "a = fastgrad.asarray(a).at[i].set(t)", "putmask": "a = fastgrad.putmask(a, mask, t), a new value",
    "put_along_axis": "a = fastgrad.put_along_axis(a, indices, values, axis), a new value",
    "vecmat": "(t[..., None, :] @ a)[..., 0, :]",
}  # fmt: skip


def _missing(name: str) -> str:
    module, _, own = name.rpartition(".")
    instead = INSTEAD.get(own)
    hint = f"write it as {instead}, or " if instead else ""
    whose, known = ("NumPy", "scipy.fft") if module == "numpy.fft" else ("SciPy", module)
    written = WRITTEN.get(known, {}).get(own)
    return (
        f"{name} is not supported on tensors; {hint}give a function of ndarrays its rule with fastgrad.primitive, "
        "or pass np.asarray(fastgrad.stop_gradient(t)) for values without gradients"
        + (f". Instead of {whose}'s {own} write {written}" if written else "")
    )


def _refuse_extras(name: str, kwargs: dict[str, Any]) -> None:
    for key, value in kwargs.items():
        if value is not None and value is not np._NoValue:
            raise _NotHere(_no_out(name) if key == "out" else _no_keyword(name, key))


def _no_keyword(name: str, key: str) -> str:
    cure = {
        "where": f", as what it leaves out has no value; write fastgrad.where(mask, {name}(t), other)",
        "dtype": "; use .astype() on the arguments or the result",
    }.get(key, "")
    return f"{name}: the argument {key}= is not supported on tensors{cure}"


def _where(condition: Any, *choices: Any) -> Tensor:
    if len(choices) != 2:
        raise _NotHere("numpy.where: with a tensor, expected where(condition, x, y)")
    return _core.where(condition, *choices)


@functools.cache
def _of_scipy() -> dict[str, Callable[..., Any]]:
    """The name of a ufunc of scipy.special -> our function: those of one name, and the ufuncs behind SciPy's ``zeta``,
    which is a Python function."""
    from . import incomplete, scipy_special, special  # not needed before the first call

    ours = {name: vars(module)[name] for module in (special, incomplete, scipy_special) for name in module.__all__}
    return _core.functions | ours | {"_zeta": scipy_special.zeta, "_riemann_zeta": scipy_special.zeta}


@functools.cache
def _functions() -> dict[Any, Callable[..., Any]]:
    """NumPy's function -> ours: those of one name, unless NumPy's is to be written otherwise, and those that differ."""
    from . import decompositions, linalg, matrices  # not needed before the first call

    table = {
        theirs: _named(name)
        for name in {*_core.PUBLIC, *vars(functions)["__all__"]} - INSTEAD.keys()
        if callable(theirs := getattr(np, name, None)) and not isinstance(theirs, np.ufunc)
    }
    table |= {
        theirs: vars(module)[name]
        for module in (linalg, decompositions, matrices)
        for name in module.__all__
        if callable(theirs := getattr(np.linalg, name, None))
    }
    return table | {
        np.take: take, np.where: _where, np.permute_dims: _core.transpose,
        np.lib.stride_tricks.sliding_window_view: functions.sliding_window_view,
    }  # fmt: skip


class _Route(NamedTuple):
    """How the arguments of a function of NumPy go over to ours."""

    ours: Callable[..., Any]
    taken: frozenset[str]  # the names of our arguments
    names: tuple[str, ...]  # those of NumPy's; empty where the positional ones go over as they are
    unnamed: int  # how many of the first ones go over by position: those whose names are NumPy's own
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
    if theirs is None or ours is _where:
        return _Route(ours, taken, (), 0, {})
    if any(p.kind is p.VAR_POSITIONAL for p in theirs.values()):
        return _Route(ours, taken, (), 0, {name: p.default for name, p in theirs.items() if p.kind is p.KEYWORD_ONLY})
    names = tuple([_RENAMED.get(name, name) for name in theirs])
    unnamed = max(1, sum(p.kind is p.POSITIONAL_ONLY for p in theirs.values()))
    return _Route(ours, taken, names, unnamed, {name: p.default for name, p in zip(names, theirs.values())})


def array_function(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``Tensor.__array_function__``. NumPy has seen to it that the arguments fit its function's signature."""
    try:
        return _our_function(function, args, kwargs)
    except _NotHere as error:
        if function in _IN_PLACE and isinstance((*args, *kwargs.values())[0], Tensor):
            raise TypeError(*error.args) from None
        plain = _as_data_or(error, (args, kwargs))
    return function(*plain[0], **plain[1])


_IN_PLACE = {np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask}  # they write to the first


def _our_function(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    route = _route(function)
    if route is None:
        raise _NotHere(_missing(f"{function.__module__}.{function.__name__}"))
    if isinstance(out := kwargs.get("out"), Tensor):
        y = array_function(function, args, {key: value for key, value in kwargs.items() if key != "out"})
        return _stored(f"{function.__module__}.{function.__name__}", out, y)
    ours, taken, names, unnamed, defaults = route
    if len(args) == 1 and not kwargs:  # the array alone, which goes over by position
        return ours(args[0])
    if "out" in names and (k := names.index("out")) < len(args) and isinstance(args[k], Tensor):
        return _our_function(function, (*args[:k], None, *args[k + 1 :]), {**kwargs, "out": args[k]})
    if "kwargs" in taken:  # it takes all of NumPy's
        return ours(*args, **kwargs)
    given = {**dict(zip(names, args)), **{_RENAMED.get(name, name): value for name, value in kwargs.items()}}
    if names:  # all go over by name but the array, or the arrays, whose names differ
        args = tuple([given.pop(name) for name in names[:unnamed] if name in given])
    passed = {}
    for key, value in given.items():
        if value is np._NoValue or (value is None and key not in defaults) or (key == "where" and value is True):
            continue
        if key == "overwrite_input":  # NumPy may overwrite it then, but need not
            continue
        if key == "out" and value is not None:
            raise _NotHere(_no_out(f"{function.__module__}.{function.__name__}"))
        if key in taken:
            passed[key] = value
        elif value is not None and value is not defaults.get(key):
            name = f"{function.__module__}.{function.__name__}"
            raise _NotHere(_no_keyword(name, key))
    return ours(*args, **passed)
