"""Arguments of draws: sizes, dtypes, and parameters that are refused."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor

Size = int | tuple[int, ...] | None


def shape_of(name: str, size: Any) -> tuple[int, ...]:
    try:
        shape = () if size is None else tuple(map(operator.index, size if isinstance(size, (tuple, list)) else (size,)))
    except TypeError as error:
        if isinstance(error, _core.TraceError):
            raise
        raise TypeError(f"{name}: expected a size as an int or a tuple of ints, got {size!r}") from None
    if min(shape, default=0) < 0:
        raise ValueError(f"{name}: expected lengths that are 0 or more, got the size {size!r}")
    return shape


def float_of(dtype: Any) -> Any:
    """A dtype; where none is given the default one, or float64."""
    return (_core.default_float() or np.float64) if dtype is None else dtype


def fitted(name: str, size: Any, dtype: Any, **parameters: Any) -> tuple[tuple[int, ...], Any]:
    """The size and dtype of a draw for these parameters, to which they must broadcast."""
    arrays = [p if isinstance(p, (Tensor, np.ndarray, np.generic)) else np.asarray(p) for p in parameters.values()]
    shapes = [a.shape for a in arrays]
    target = None if size is None else shape_of(name, size)
    try:
        together = np.broadcast_shapes(*shapes)
        fits = target is None or np.broadcast_shapes(together, target) == target
    except ValueError:
        fits = False
    if not fits:
        named = " and ".join(f"{k} {s}" for k, s in zip(parameters, shapes))
        wanted = "" if size is None else f" to the size {size}"
        raise ValueError(f"{name}: the shapes of {named} do not broadcast{wanted}")
    if dtype is None:
        strong = [a.dtype for a, p in zip(arrays, parameters.values()) if not isinstance(p, (int, float, list, tuple))]
        dtype = np.result_type(*strong) if strong and all(d.kind == "f" for d in strong) else float_of(None)
    return together if target is None else target, dtype


def refuse_tracked(name: str, what: str, value: Any, why: str) -> None:
    """Raise TypeError where a value requires gradients, which would silently be 0."""
    if isinstance(value, Tensor) and value.requires_grad:
        raise TypeError(f"{name}: {what} requires gradients, which {why}; pass {what}.detach()")


def refuse_shapes(name: str, **shapes: Any) -> None:
    """Raise ValueError where a shape parameter of a gamma distribution is out of range, unless it is abstract."""
    for what, value in shapes.items():
        refuse(name, f"{what} finite and above 0", lambda x: ~((x > 0) & (x < math.inf)), value)


def refuse(name: str, expected: str, is_bad: Any, *values: Any) -> None:
    """Raise ValueError where values are out of range, unless one of them is abstract."""
    if any(isinstance(value, Tensor) and _core.traced(value) for value in values):
        return
    known = [_numbers(v) for v in values]
    if np.any(is_bad(*known)):
        raise ValueError(f"{name}: expected {expected}, got {' and '.join(map(repr, values))}")


def refuse_negative(name: str, what: str, value: Any) -> None:
    """Raise ValueError where a value is negative, unless it is abstract."""
    if isinstance(value, Tensor) and _core.traced(value):
        return
    known = _numbers(value)
    if np.any(known < 0):
        raise ValueError(f"{name}: expected {what} of 0 or more, got {np.min(known)}")


def _numbers(value: Any) -> np.ndarray:
    """Raise TypeError for what is no number."""
    return (value if isinstance(value, Tensor) else _core.asarray(value)).detach().numpy()
