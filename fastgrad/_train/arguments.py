"""Checks of arguments that several files here share."""

from __future__ import annotations

import operator
from typing import Any

__all__ = ["positive"]


def positive(name: str, value: Any, default: int) -> int:
    """An argument of `descend` that counts something; the default for None."""
    if value is None:
        return default
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"descend: {name} is {value!r}, expected an integer above 0 or None") from None
    if number < 1 or isinstance(value, bool):
        raise ValueError(f"descend: {name} is {value!r}, expected an integer above 0 or None")
    return number
