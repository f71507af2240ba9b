"""``out=`` of functions: a tensor takes the result as its value, in place and on the tape."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor


def stored(name: str, out: Tensor | None, y: Tensor) -> Tensor:
    """The result y of a function of this name; ``out`` with it as its value where that is given.

    Raises TypeError for an ``out`` that is no tensor, which would lose the gradient, or into whose dtype the result is
    not cast; ValueError where its shape differs.
    """
    if out is None:
        return y
    if not isinstance(out, Tensor):
        if isinstance(out, (bool, np.bool_)):  # by position
            raise TypeError(f"{name}: expected out= as a tensor, got {out!r}; write keepdims={out!r}")
        raise TypeError(
            f"{name}: expected out= as a tensor, got {type(out).__name__}, in which the result would lose its "
            f"gradient; write a = fastgrad.{name}(...) without out=a, or make a a tensor"
        )
    if y.shape != out.shape:
        raise _misfit(name, out, y)
    return put(name, out, y)


def put(name: str, out: Tensor, y: Any, mask: Any = True) -> Tensor:
    """``out`` with a result y as its value, where a mask is true, by a change in place. y is broadcast, as those of
    NumPy's ufuncs are; errors as of ``stored``."""
    y = _core.asarray(y)
    if not np.can_cast(y.dtype, out.dtype, "same_kind"):
        raise TypeError(f"{name}: a result of {y.dtype} does not go into out= of {out.dtype}; cast it first")
    lengths = zip(y.shape[::-1], out.shape[::-1])
    if y.ndim > out.ndim or any(n not in (1, m) for n, m in lengths):
        raise _misfit(name, out, y)
    y = _core.broadcast_to(_core.astype(y, out.dtype), out.shape)
    y = y if mask is True else _core.where(mask, y, out)
    out[...] = y
    return out


def _misfit(name: str, out: Tensor, y: Tensor) -> ValueError:
    return ValueError(f"{name}: a result of shape {y.shape} does not go into out= of shape {out.shape}")
