"""Elementwise functions composed of the core's operations, and other names of these, under NumPy's names and rules."""

from __future__ import annotations

import builtins
import operator
from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    absolute,
    asarray,
    astype,
    divide,
    multiply,
    power,
    remainder,
    reshape,
    sin,
    square,
    trunc,
    where,
)
from .creation import floating
from .predicates import isinf, isnan
from .results import stored

if TYPE_CHECKING:
    from .typing import TensorLike


def divmod(a: TensorLike, b: TensorLike) -> tuple[Tensor, Tensor]:
    """Quotient rounded down, and remainder: ``(a // b, a % b)``.

    >>> import fastgrad as fg
    >>> fg.divmod(7.0, 2.0)
    (tensor(3.), tensor(1.))
    """
    return _core.floor_divide(a, b), remainder(a, b)


def float_power(a: TensorLike, b: TensorLike) -> Tensor:
    """a to the power b, computed in float64.

    >>> import fastgrad as fg
    >>> fg.float_power(2, -1)
    tensor(0.5)
    """
    return power(astype(asarray(a), np.float64), astype(asarray(b), np.float64))


def fabs(x: TensorLike) -> Tensor:
    """Absolute value as a float, also of integers; derivative 0 at 0.

    >>> import fastgrad as fg
    >>> fg.fabs([-2, 3])
    tensor([2., 3.])
    """
    return absolute(floating(x))


def ldexp(x: TensorLike, exponent: TensorLike) -> Tensor:
    """x times two to an integer power. Raises TypeError for an exponent that is no integer.

    >>> import fastgrad as fg
    >>> fg.ldexp(3.0, 2)
    tensor(12.)
    """
    e = asarray(exponent)
    if e.dtype.kind not in "iub":
        raise TypeError(f"ldexp: expected integer exponents, got {e.dtype}")
    x = floating(x)
    return multiply(x, _core.by_numpy(np.ldexp, x.dtype.type(1), e))


def modf(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Fractional and integer part, both with the sign of x.

    >>> import fastgrad as fg
    >>> fg.modf(-1.25)
    (tensor(-0.25), tensor(-1.))
    """
    x = floating(x)
    return where(isinf(x), _core.copysign(0.0, x), _core.fmod(x, 1.0)), trunc(x)


def fix(x: TensorLike, out: Tensor | None = None) -> Tensor:
    """The integer part: ``trunc``.

    >>> import fastgrad as fg
    >>> fg.fix(-1.5)
    tensor(-1.)
    """
    return stored("fix", out, trunc(x))


def round(a: TensorLike, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """Rounded to a number of decimals, ties to even. The derivative is 0 wherever it exists.

    >>> import fastgrad as fg
    >>> fg.round(2.567, 1)
    tensor(2.6)
    """
    if out is not None:
        return stored("round", out, round(a, decimals))
    x, decimals = asarray(a), operator.index(decimals)
    if x.dtype.kind in "iu":
        return _core.positive(x) if decimals >= 0 else _core.by_numpy(np.round, x, decimals=decimals)
    if decimals == 0:
        return _core.rint(x)
    scale = 10.0 ** builtins.abs(decimals)
    if decimals > 0:
        return divide(_core.rint(multiply(x, scale)), scale)
    return multiply(_core.rint(divide(x, scale)), scale)


def sinc(x: TensorLike) -> Tensor:
    """``sin(pi x) / (pi x)``, 1 at 0. Near 0 its Taylor series, where the quotient's derivative would cancel.

    The sine is that of the distance to the nearest whole number, as pi x is rounded: so the value is 0 at the others
    than 0, and right to the last bits beside them.

    >>> import fastgrad as fg
    >>> fg.sinc([0.0, 0.5]).numpy().round(4)
    array([1.    , 0.6366])
    """
    px = multiply(x, np.pi)
    near = absolute(px) < 0.5
    far = where(near, 1.0, px)
    u = square(where(near, px, 0.0))
    series = u / 6227020800 - 1 / 39916800
    for coefficient in (1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0):
        series = coefficient + u * series
    x = _core.astype(x, px.dtype)
    whole = _core.rint(x)
    half = multiply(whole, 0.5)
    sign = 1.0 - 4.0 * absolute(half - _core.rint(half))  # -1 for an odd number
    return where(near, series, sign * sin((x - whole) * np.pi) / far)


def nan_to_num(
    x: TensorLike, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """nan and infinities replaced by numbers: 0 and the largest of the dtype unless given. No gradient passes to what
    was replaced. The result is a value of its own: ``copy``, which is NumPy's, must be true, else TypeError.

    >>> import fastgrad as fg
    >>> fg.nan_to_num([1.0, float("nan")])
    tensor([1., 0.])
    """
    x = asarray(x)
    if not isinstance(copy, (bool, np.bool_)) or not copy:
        raise TypeError(f"nan_to_num: expected copy=True, got {copy!r}; the second argument is copy, as NumPy's, and a "
                        "tensor is not changed in place")  # fmt: skip
    if x.dtype.kind != "f":
        return reshape(x, x.shape)  # a value of its own
    limits = np.finfo(x.dtype)
    x = where(isnan(x), nan, x)
    x = where(x == np.inf, float(limits.max) if posinf is None else posinf, x)
    return where(x == -np.inf, float(limits.min) if neginf is None else neginf, x)


def clip(
    a: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None, out: Tensor | None = None, *,
    a_min: TensorLike | None = None, a_max: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``a`` limited to the interval [min, max]; either bound may be None. Within the bounds and on them the gradient
    goes to ``a``, outside to the bound. A nan bound gives nan.

    ``a_min`` and ``a_max`` are NumPy's other names of the bounds; ValueError where one is given under both.

    >>> import fastgrad as fg
    >>> fg.clip([-1.0, 0.5, 2.0], 0, 1)
    tensor([0. , 0.5, 1. ])
    """
    if a_min is not None or a_max is not None:
        if (a_min is not None and min is not None) or (a_max is not None and max is not None):
            raise ValueError("clip: a bound is given twice, under both of its names, min and a_min or max and a_max")
        min, max = a_min if min is None else min, a_max if max is None else max
    x = asarray(a)
    if min is not None:
        x = where(_replaced(x < min, min), min, x)
    if max is not None:
        x = where(_replaced(x > max, max), max, x)
    return stored("clip", out, reshape(x, x.shape) if min is None and max is None else x)  # a value of its own


def _replaced(beyond: Tensor, bound: TensorLike) -> Tensor:
    """Where ``clip`` takes its bound: beyond it, and where it is nan."""
    return beyond if type(bound) in (float, int) and bound == bound else beyond | isnan(bound)


def nextafter(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """The next floating-point number after x1 towards x2, elementwise. TypeError for tensors that require gradients, as
    it has none.

    >>> import fastgrad as fg
    >>> fg.nextafter(1.0, 2.0) - 1.0
    tensor(2.22044605e-16)
    """
    dtype, operands = _core.promoted("nextafter", x1, x2)
    if builtins.any(x.requires_grad for x in operands):
        raise TypeError("nextafter is not supported on tensors that require gradients, as it has none; pass x.detach()")
    dtype = dtype if dtype.kind == "f" else _core.float_dtype(dtype)
    return _core.by_numpy(np.nextafter, *[astype(x, dtype) for x in operands])


# ---- functions of complex numbers, of which there are only real ones ------------------------------------------------
def conj(x: TensorLike, /) -> Tensor:
    """The complex conjugate, which is x itself, as all dtypes are real; for booleans as int8, as in NumPy.

    >>> import fastgrad as fg
    >>> fg.conj([1.0, 2.0])
    tensor([1., 2.])
    """
    x = asarray(x)
    return astype(x, np.int8) if x.dtype == np.bool_ else _core.positive(x)


def real(val: TensorLike) -> Tensor:
    """The real part, which is ``val`` itself, as all dtypes are real.

    >>> import fastgrad as fg
    >>> fg.real([1.0, 2.0])
    tensor([1., 2.])
    """
    x = asarray(val)
    return reshape(x, x.shape)  # a value of its own


def imag(val: TensorLike) -> Tensor:
    """The imaginary part, which is 0, as all dtypes are real.

    >>> import fastgrad as fg
    >>> fg.imag([1.0, 2.0])
    tensor([0., 0.])
    """
    x = asarray(val)
    return asarray(np.zeros(x.shape, x.dtype))


# ---- other names of the core's functions ----------------------------------------------------------------------------
abs = absolute
acos, asin, atan, atan2 = _core.arccos, _core.arcsin, _core.arctan, _core.arctan2
acosh, asinh, atanh = _core.arccosh, _core.arcsinh, _core.arctanh
around = round
conjugate = conj
deg2rad, rad2deg = _core.radians, _core.degrees
mod, pow, true_divide = remainder, power, divide

__all__ = [
    "abs", "acos", "acosh", "around", "asin", "asinh", "atan", "atan2", "atanh", "clip", "conj", "conjugate", "deg2rad",
    "divmod", "fabs", "fix", "float_power", "imag", "ldexp", "mod", "modf", "nan_to_num", "nextafter", "pow", "rad2deg",
    "real", "round", "sinc", "true_divide",
]  # fmt: skip
