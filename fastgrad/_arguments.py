"""Checks of numbers, integers and flags among the arguments of public functions.

One rule for all: a value of a wrong type is a TypeError, one out of range a ValueError, and both name function,
argument, value and what was expected. bool is no number: True given as a count is a mistake. And only a bool is a flag,
as a text such as "no" would count as true.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ._core import Tensor

__all__ = ["ABOVE_0", "AT_LEAST_0", "Range", "flag", "integer", "number", "shown"]

# What `number` takes: the words for a range, and whether a number is within it. No comparison holds for NaN.
Range = tuple[str, Callable[[float], bool]]
AT_LEAST_0: Range = "a finite number of at least 0", lambda x: 0 <= x < math.inf
ABOVE_0: Range = "a finite number above 0", lambda x: 0 < x < math.inf


def integer(name: str, what: str, value: Any, least: int = 1, expected: str | None = None) -> int:
    """An argument that is an integer of at least ``least``, of Python, NumPy or any type with ``__index__``."""
    expected = expected or ("an integer above 0" if least == 1 else f"an integer of at least {least}")
    if isinstance(value, (bool, np.bool)):
        raise TypeError(f"{name}: {what} is {value!r}, expected {expected}")
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {what} is {shown(value)}, expected {expected}") from None
    if found < least:
        raise ValueError(f"{name}: {what} is {shown(value)}, expected {expected}")
    return found


def number(name: str, what: str, value: Any, within: Range = AT_LEAST_0) -> float:
    """An argument that is a real number within a range, as a float; also an array without axes."""
    expected, is_fit = within
    if type(value) is not float:
        if not _may_be_number(value):
            raise TypeError(f"{name}: {what} is {shown(value)}, expected {expected}")
        try:
            found = float(value)
        except OverflowError:  # of an integer
            found = math.inf if value > 0 else -math.inf
        except (TypeError, ValueError, RuntimeError):
            if isinstance(value, Tensor):  # one that is traced, whose error says so
                raise
            # An object that is not one number, such as a tensor of PyTorch's.
            raise TypeError(f"{name}: {what} is {shown(value)}, expected {expected}") from None
    else:
        found = value
    if not is_fit(found):
        raise ValueError(f"{name}: {what} is {shown(value)}, expected {expected}")
    return found


def flag(name: str, what: str, value: Any) -> bool:
    """An argument that is True or False."""
    if not isinstance(value, (bool, np.bool)):
        raise TypeError(f"{name}: {what} is {shown(value)}, expected True or False")
    return bool(value)


def shown(value: Any) -> str:
    """A value in an error: a number or a short text as it is written, of anything larger what it is."""
    if isinstance(value, int) and value.bit_length() > 1024:
        return f"an integer of {value.bit_length()} bits"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and (shape or not isinstance(value, np.generic)):
        return f"an array of shape {shape}"
    text = repr(value)
    return text if len(text) <= 60 else f"of type {type(value).__name__}"


def _may_be_number(value: Any) -> bool:
    if isinstance(value, (bool, np.bool)):
        return False
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind is not None:
        return kind in "iuf" and getattr(value, "ndim", None) == 0
    return hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
