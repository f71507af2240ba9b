"""What loops and branches check of their arguments and of what their functions return."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor


def check_function(name: str, f: Any) -> None:
    if not callable(f):
        raise TypeError(f"{name}: expected a function, got {f!r}")


def pair(result: Any) -> tuple[Any, Any]:
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"scan: expected f to return (carry, y), got {described(result)}")
    return result


def bounds(lower: Any, upper: Any) -> tuple[int, int]:
    """The first count of a fori_loop and the number of its steps."""
    for name, x in ("lower", lower), ("upper", upper):
        if isinstance(x, Tensor):
            _core.refuse_value(x, "bound")
        elif not hasattr(type(x), "__index__"):
            raise TypeError(f"fori_loop: {name} is {x!r}, expected an integer")
    lower, upper = operator.index(lower), operator.index(upper)
    if lower >= upper:
        return 0, 0
    if lower < -(2**63) or upper > 2**63 or upper - lower >= 2**63:
        raise OverflowError(
            f"fori_loop: expected a counter and a number of steps that fit in an int64, got lower {lower} and upper "
            f"{upper}; begin at 0 and add the offset in body_fun, or nest two loops"
        )
    return lower, upper - lower


def described(x: Any) -> str:
    return f"a tuple of {len(x)}" if isinstance(x, tuple) else f"a {type(x).__name__}"


def kind_of(dtype: Any, shape: tuple[int, ...]) -> str:
    return f"{dtype} of shape {shape}"


def tensors_of(name: str, what: str, value: Any, copy: bool = False) -> tuple[list[Tensor], tree.Structure]:
    """The leaves of a tree as tensors, and its structure. ``copy``: arrays of NumPy, which may change, are copied."""
    leaves, structure = tree.flatten(value)
    found = []
    for i, x in enumerate(leaves):
        if not isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float)):
            path = structure.paths(what)[i]
            raise TypeError(f"{name}: {path} is of type {type(x).__name__}, expected arrays and numbers")
        found.append(_core.asarray(x.copy() if copy and isinstance(x, np.ndarray) else x))
    return found, structure


def carried(name: str, structure: tree.Structure, before: list[Tensor], value: Any, copy: bool = False) -> list[Tensor]:
    """The leaves of the next carry, checked against the previous one: same structure, shapes and dtypes. ``copy``: as
    for `tensors_of`."""
    after, found = tensors_of(name, "carry", value, copy)
    if found != structure:
        raise TypeError(
            f"{name}: the carry came in as {structure} and goes on as {found}; its structure must stay the same"
        )
    for i, (a, b) in enumerate(zip(before, after)):
        if a.shape != b.shape or a.dtype != b.dtype:
            same = a.dtype == b.dtype
            like = "" if same else f" by np.{b.dtype}(...) (Python's float counts as float64, its int as int64)"
            back = "reshape or sum" if same else f".astype(np.{a.dtype})"
            cure = f"give an initial value of that kind{like}, or bring the new one back by {back}"
            if a.shape == b.shape and a.dtype == np.float32 and b.dtype == np.float64:
                cure = (
                    "make float32 of what it meets that is float64, such as NumPy's numbers (np.float64(2)), arrays of "
                    "float64 or integers, and zeros or draws without a dtype; Python's numbers do not widen it. Or "
                    "give an initial value of float64"
                )
            raise (ValueError if same else TypeError)(
                f"{name}: {structure.paths('carry')[i]} came in as {kind_of(a.dtype, a.shape)} and goes on as "
                f"{kind_of(b.dtype, b.shape)}; {cure}"
            )
    return after


def condition_of(name: str, what: str, x: Any) -> Tensor:
    if not isinstance(x, (Tensor, np.ndarray, np.generic, bool)):
        raise TypeError(f"{name}: expected {what} a single boolean, got {described(x)}")
    condition = _core.asarray(x)
    if condition.dtype != np.bool_ or condition.size != 1:
        raise TypeError(
            f"{name}: expected {what} a single boolean, got {kind_of(condition.dtype, condition.shape)}; compare, as "
            "in x > 0"
        )
    return _core.reshape(condition, ())


def length_of(rows: list[Tensor], structure: tree.Structure, length: int | None) -> int:
    told = {}
    for path, x in zip(structure.paths("xs"), rows):
        if x.ndim == 0:
            raise ValueError(f"scan: {path} is a single number, expected an array with a row for each step")
        told[len(x)] = f"{path} has {len(x)}"
    if length is not None:
        length = operator.index(length)
        if length < 0:
            raise ValueError(f"scan: expected a length of at least 0, got {length}")
        told[length] = f"length is {length}"
    if len(told) > 1:
        raise ValueError(f"scan: the numbers of steps differ: {', '.join(told.values())}")
    if not told:
        raise ValueError("scan: the number of steps is not known; give xs with arrays, or a length")
    return next(iter(told))


def views(init: list[Tensor]) -> list[Tensor]:
    """Tensors of the same elements: an in-place change of one copies it first, so the caller's are not written."""
    return [_core.reshape(x, x.shape) for x in init]


def handed_on(name: str, structure: tree.Structure, init: list[Tensor]) -> tuple[Any, Callable[[Any], Any]]:
    """The value that the first step takes, and the function that checks the one it returns and hands it on."""

    def check(value: Any) -> Any:
        return structure.unflatten(carried(name, structure, init, value, copy=True))

    return structure.unflatten(views(init)), _core.Carry(structure.unflatten(init), check).hand_on
