"""Arguments and results that the transforms share: argnums, tensors to differentiate by, results for the caller."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor

__all__ = [
    "LEAVE_OUT", "argnum_tuple", "argument_places", "array_like", "as_constant", "constant_as_tensor", "describe_type",
    "function_name", "note_lists", "pair_with_aux", "tracked_error", "watch_leaves", "with_arrays",
]  # fmt: skip

_FLOATS = frozenset((np.dtype(np.float32), np.dtype(np.float64)))
LEAVE_OUT = "leave it out of argnums"


def tracked_error(place: str) -> TypeError:
    """The error for a tensor, called by its place, that a transform tracks, where only its values could be used."""
    return TypeError(
        f"{place} is a tensor of a function being differentiated or traced, which the result would not know; pass its "
        ".detach()"
    )


def watch_leaves(
    leaves: Sequence[Any], connected: bool, place: Callable[[int], str], cure: str, keep: bool = False
) -> list[Tensor]:
    """A watched tensor on the memory of each leaf: what a transform differentiates by.

    ``connected``: leaves that are recorded already stay so. ``place(k)`` is the name of leaf k in errors, ``cure`` the
    end of their advice. ``keep``: ndarrays are copied, because the tape outlasts the call.
    """
    found = []
    for k, x in enumerate(leaves):
        if type(x) is np.ndarray and x.dtype in _FLOATS and not keep:
            found.append(_core.watch(x))
            continue
        if isinstance(x, Tensor) and x.dtype in _FLOATS:
            found.append(_core.watch_tensor(x, connected))
            continue
        if isinstance(x, (np.ndarray, np.generic, float)):
            if _core.is_masked(x):
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
        got = describe_type(x)
        if isinstance(x, (dict, list, tuple)):
            base = next(kind.__name__ for kind in (dict, list, tuple) if isinstance(x, kind))
            raise TypeError(
                f"{place(k)} is {got}, an object of a subclass of {base}, which is no container of arrays until "
                f"fastgrad.tree.register says how it is built; or pass a plain {base}"
            )
        if hasattr(x, "dtype"):
            got = str(x.dtype)
        raise TypeError(
            f"{place(k)} is {got}; only float32 and float64 have gradients, convert it with float(x) or "
            f"x.astype(float), or {cure}"
        )
    return found


def argnum_tuple(argnums: Any, name: str) -> tuple[int, ...]:
    try:
        return tuple(operator.index(i) for i in (argnums if isinstance(argnums, (tuple, list)) else (argnums,)))
    except TypeError:
        raise TypeError(f"{name}: expected argnums as an int or a tuple of ints, got {argnums!r}") from None


def argument_places(numbers: tuple[int, ...], args: Sequence[Any], f: Callable[..., Any], name: str) -> list[int]:
    """argnums counted from the first argument of this call, checked."""
    n = len(args)
    for i in numbers:
        if not -n <= i < n:
            raise TypeError(
                f"{name}: argnums names argument {i}, but {function_name(f)} was called with {n} positional argument"
                f"{'s' * (n != 1)}"
            )
    return [i % n for i in numbers]


def pair_with_aux(f: Callable[..., Any], result: Any, name: str) -> Any:
    if not (isinstance(result, tuple) and len(result) == 2):
        got = describe_type(result)
        raise TypeError(f"{name}: with has_aux=True {function_name(f)} must return (value, aux), got {got}")
    return result


def as_constant(x: Any, tensors: bool) -> Any:
    """A tensor as an ndarray, or as a number if it has no axes; or if asked for as a constant tensor."""
    if not isinstance(x, Tensor):
        return x
    if tensors:
        return x.detach()
    return x.numpy().copy() if x.ndim else x.numpy()[()]


def constant_as_tensor(y: Any, any_numbers: bool = False) -> Any:
    """A result of f that is a Python number or an ndarray of floats, or of ``any_numbers``, as a tensor: f does not
    depend on its arguments, for a tensor that is differentiated refuses to become one. Any other result as it is."""
    if type(y) in (float, int):
        return _core.asarray(float(y))
    if isinstance(y, (np.ndarray, np.floating)) and y.dtype in _FLOATS and not _core.is_masked(y):
        return _core.tensor(y)
    if any_numbers and isinstance(y, (bool, np.ndarray, np.generic)) and np.asarray(y).dtype.kind in "iub":
        return y if _core.is_masked(y) else _core.tensor(y)
    return y


def array_like(g: Tensor, x: Any) -> Any:
    """The gradient by x as an ndarray, or as a number if x is one."""
    a = _core.own(g)
    return a if isinstance(x, (np.ndarray, Tensor)) else a[()]


def function_name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", repr(f))


def describe_type(x: Any) -> str:
    name = type(x).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def with_arrays(x: Any, place: str = "training_step: the batch") -> Any:
    """A structure with its lists of numbers, nested or not, as arrays; other lists, tuples and dicts are structures."""
    try:
        return _with_arrays_below(x)
    except RecursionError:
        raise ValueError(f"{place} holds itself, or is nested too deeply") from None


def note_lists(error: Exception, args: Any) -> None:
    """Note on an error of a function that a list of numbers among its arguments, for which it is called with a list of
    tensors, is no array."""
    told = any("np.array(" in note for note in getattr(error, "__notes__", ()))
    if not told and tree.structure(args) != tree.structure(with_arrays(args)):
        error.add_note(
            "a list of numbers among the arguments is a structure of single numbers, for which the function gets a "
            "list of tensors; for an array give np.array(...)"
        )


def _with_arrays_below(x: Any) -> Any:
    if type(x) is dict:
        return {key: _with_arrays_below(value) for key, value in x.items()}
    if type(x) is tuple:
        return tuple([_with_arrays_below(item) for item in x])
    if type(x) is list and x:
        if _holds_numbers(x):
            with contextlib.suppress(ValueError):  # of unequal lengths
                return np.asarray(x)
        else:
            return [_with_arrays_below(item) for item in x]
    return x


def _holds_numbers(x: list[Any] | tuple[Any, ...], depth: int = 64) -> bool:
    """Whether x and the lists in it hold numbers only, nested no deeper than an array can have axes."""
    return depth > 0 and all(
        isinstance(item, (float, int, np.generic)) or (type(item) in (list, tuple) and _holds_numbers(item, depth - 1))
        for item in x
    )
