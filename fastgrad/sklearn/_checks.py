"""Checks of the estimators' parameters, when they are fitted, and of the weights of rows."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array

__all__ = ["check_choice", "check_flags", "check_number", "row_weights"]


def check_choice(estimator: Any, name: str, choices: Sequence[str]) -> None:
    """ValueError unless a parameter is one of some words."""
    value = getattr(estimator, name)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"{type(estimator).__name__}: {name} is {value!r}, expected one of {', '.join(map(repr, choices))}"
        )


def check_flags(estimator: Any, *names: str) -> None:
    """TypeError unless parameters are True or False."""
    for name in names:
        value = getattr(estimator, name)
        if not isinstance(value, (bool, np.bool_, numbers.Integral)):
            raise TypeError(f"{type(estimator).__name__}: {name} is {value!r}, expected True or False")


def check_number(
    estimator: Any, name: str, low: float, high: float = math.inf, *, above: bool = False, integer: bool = False
) -> None:
    """TypeError or ValueError unless a parameter is a number in [low, high), or with ``above`` in (low, high)."""
    value: Any = getattr(estimator, name)
    kind = numbers.Integral if integer else numbers.Real
    sign = "above" if above else "of at least"
    upper = "" if high == math.inf else f" and below {high:g}"
    expected = f"expected {'an integer' if integer else 'a number'} {sign} {low:g}{upper}"
    found = f"{type(estimator).__name__}: {name} is {value!r}, {expected}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, kind):
        raise TypeError(found)
    value = float(value)
    if not (low < value < high if above else low <= value < high) and not (high == math.inf and value == math.inf):
        raise ValueError(found)


def row_weights(
    estimator: Any, sample_weight: Any, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The rows of x and y of which the weight is not 0, and their weights, None if no weights are given.

    A row of weight 0 counts as if it were not there: neither does it make part of a batch nor does it define a class.
    """
    if sample_weight is None:
        return x, y, None
    if isinstance(sample_weight, numbers.Number):
        sample_weight = np.full(len(x), sample_weight)
    weight = check_array(sample_weight, ensure_2d=False, dtype=x.dtype, input_name="sample_weight")
    if weight.shape != (len(x),):
        raise ValueError(
            f"{type(estimator).__name__}: sample_weight has shape {weight.shape}, expected ({len(x)},): a number for "
            "each row of X"
        )
    if np.any(weight < 0):
        raise ValueError(f"{type(estimator).__name__}: sample_weight has negative entries, expected none")
    counts = weight != 0
    if not counts.any():
        raise ValueError(f"{type(estimator).__name__}: all entries of sample_weight are zero, expected some above 0")
    return (x, y, weight) if counts.all() else (x[counts], y[counts], weight[counts])
