"""Calls of SciPy's special functions as operations. SciPy is imported when one is first called."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor
from .._rules.host import HostElementwise

__all__ = ["by_scipy", "call", "common", "scipy_special"]


@functools.cache
def scipy_special() -> Any:
    try:
        from scipy import special
    except ImportError as error:
        raise ImportError(
            "this function of fastgrad.special, or the distribution that needs it, calls SciPy, which is not "
            "installed: pip install scipy"
        ) from error
    return special


def by_scipy(name: str) -> Callable[..., np.ndarray]:
    """SciPy's function of this name, looked up when it is called."""

    def f(*arrays: np.ndarray) -> np.ndarray:
        y: np.ndarray = getattr(scipy_special(), name)(*arrays)
        return y

    return f


def common(name: str, *operands: Any) -> list[Tensor]:
    """Operands of any kind as tensors of the float dtype that NumPy would compute in."""
    scipy_special()
    dtype, tensors = _core.promoted(name, *operands)
    if dtype.kind != "f":
        dtype = _core.float_dtype(dtype)
    return [x if x.dtype == dtype else _core.astype(x, dtype) for x in tensors]


def call(row: HostElementwise, *operands: Any) -> Tensor:
    """A row's operation on operands of any kind."""
    return row.at(*common(row.__name__, *operands))
