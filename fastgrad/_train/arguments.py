"""Checks of arguments that several files here share."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arguments import integer, shown

__all__ = ["generator_of", "positive"]


def positive(what: str, value: Any, default: int) -> int:
    """An argument of `descend` that counts something; the default for None."""
    return default if value is None else integer("descend", what, value, expected="an integer above 0 or None")


def generator_of(name: str, seed: Any) -> np.random.Generator:
    """NumPy's generator of a seed."""
    try:
        if not isinstance(seed, (bool, np.bool)):
            return np.random.default_rng(seed)
    except (TypeError, ValueError):
        pass
    error = ValueError if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) else TypeError
    raise error(
        f"{name}: seed is {shown(seed)}, expected an integer of at least 0, a generator of numpy.random, or None"
    )
