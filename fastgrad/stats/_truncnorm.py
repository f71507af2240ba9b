"""The normal distribution limited to an interval, exact far out in a tail and on an interval of any width.

A mass far out underflows, and the difference of logarithms of tails loses digits as the square of the bounds grows.
So a mass is computed as a multiple of ``exp(-end^2 / 2)``, where ``end`` is the end of the interval that is nearer to
0, and quotients of masses and densities have exponents such as ``(end - z) (end + z) / 2``. With the scaled function
``W(x) = exp(x^2 / 2) erfc(-x / sqrt(2))``, twice the mass from low to high, both below 0, is that multiple of

    W(high) - W(low) exp((high - low) (high + low) / 2),

and where both terms are nearly the same, it is a series in half of the width.
"""

from __future__ import annotations

import math
from typing import Any

from .._core import Tensor, absolute, erf, erfcx, erfinv, exp, log, log1p, maximum, minimum, sqrt, traced, where
from .._numpy.shapes import broadcast_arrays
from .._numpy.special import ndtr, ndtri
from .._transforms.custom import custom_jvp
from ._base import Continuous

__all__ = ["TruncNorm"]

_ROOT_HALF, _ROOT_2_PI = math.sqrt(0.5), math.sqrt(2 * math.pi)
_STEPS = 4  # of Newton's iteration: after the first the error is below 0.01, and each squares it


class TruncNorm(Continuous):
    """The normal distribution limited to z from ``a`` to ``b``, where ``loc`` and ``scale`` are those of the normal
    distribution, so that the bounds are ``loc + a * scale`` and ``loc + b * scale``.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.stats.truncnorm.logpdf([-1.0, 20.0], 10.0, np.inf).numpy().round(4)
    array([     -inf, -147.6877])
    >>> fg.stats.truncnorm.ppf(0.5, 1000.0, np.inf).numpy().round(6)
    np.float64(1000.000693)
    """

    shapes = ("a", "b")
    quantiles_have_slopes_at_ends = True

    def _valid(self, a: Any, b: Any) -> Any:
        return a < b

    def _bounds(self, a: Tensor, b: Tensor) -> tuple[Any, Any, Any]:
        low, high = a.detach(), b.detach()
        middle = where(high < math.inf, (low + high) / 2, low + 1)
        return a, b, where(low > -math.inf, middle, where(high < math.inf, high - 1, 0.0))

    def _log_density(self, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        end, mass = _mass(a, b)
        return (end - z) * (end + z) / 2 - log(mass * _ROOT_2_PI)

    def _cdf(self, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return self._part(a, z, a, b)

    def _sf(self, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return self._part(z, b, a, b)

    def _logcdf(self, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _either(self._log_part(a, z, a, b), self._part(z, b, a, b))

    def _logsf(self, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _either(self._log_part(z, b, a, b), self._part(a, z, a, b))

    def _part(self, low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """The mass from low to high, a part of that from a to b, divided by that."""
        (end, mass), (whole_end, whole) = _mass(low, high), _mass(a, b)
        return mass / whole * exp((whole_end - end) * (whole_end + end) / 2)

    def _log_part(self, low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> Tensor:
        (end, mass), (whole_end, whole) = _mass(low, high), _mass(a, b)
        return log(mass) - log(whole) + (whole_end - end) * (whole_end + end) / 2

    def _ppf(self, q: Tensor, a: Tensor, b: Tensor) -> Tensor:
        y: Tensor = _quantile(*broadcast_arrays(q, a, b))
        return y

    def _isf(self, q: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return -self._ppf(q, -b, -a)  # the quantile of the mirror image


def _mass(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """An end of the interval, or its negative, or 0; and what times ``exp(-end^2 / 2)`` is the interval's mass."""
    low, high = _mirrored(low, high)
    in_tail = high < 0
    end = where(in_tail, high, 0.0)
    most = 40.0  # of the rest nothing is left
    across = 0.5 * (erf(_ROOT_HALF * minimum(high, most)) - erf(_ROOT_HALF * maximum(low, -most)))

    near = where(in_tail, high, -1.0)
    bottom = where(in_tail, low, -1.0).detach()
    endless = (near - bottom) * (near + bottom) < -1e4
    is_narrow = in_tail & ~endless & ((near - bottom) * (1 - bottom) < 0.1)
    bottom = where(in_tail & ~endless, low, near - 1)
    wide = 0.5 * (_w(near) - where(endless, 0.0, _w(bottom) * exp((near - bottom) * (near + bottom) / 2)))
    half = where(is_narrow, (near - bottom) / 2, 0.0)
    middle = near - half
    u, v = (middle * half) ** 2, half**2
    series = 1 + (u - v) / 6 + (u * u - 6 * u * v + 3 * v * v) / 120
    series = series + (u**3 - 15 * u * u * v + 45 * u * v * v - 15 * v**3) / 5040
    narrow = half * (2 / _ROOT_2_PI) * exp(half * (near + middle) / 2) * series
    return end, where(in_tail, where(is_narrow, narrow, wide), across)


def _w(x: Tensor) -> Tensor:
    return erfcx(-_ROOT_HALF * x)


def _mirrored(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The interval, or its mirror image where it lies above 0."""
    above = low > 0
    return where(above, -high, low), where(above, -low, high)


def _either(y: Tensor, other: Tensor) -> Tensor:
    """The logarithm y of a probability; near 0, where the complement ``other`` is exact, computed from that."""
    near = y > -0.1
    return where(near, log1p(-where(near, other, 0.5)), y)


# ---- quantiles -------------------------------------------------------------------------------------------------------
@custom_jvp
def _quantile(q: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Where the distribution function is q, for operands of one shape."""
    is_mirrored = a > 0
    low, high = _mirrored(a, b)
    below, above = where(is_mirrored, 1 - q, q), where(is_mirrored, q, 1 - q)
    end, mass = _mass(low, high)

    whole = mass * exp(-end * end / 2)
    erf_y = where(below < 0.5, erf(_ROOT_HALF * low) + 2 * below * whole, erf(_ROOT_HALF * high) - 2 * above * whole)
    outer = where(erf_y < 0, ndtri(ndtr(low) + below * whole), -ndtri(ndtr(-high) + above * whole))
    y = where(absolute(erf_y) < 0.5, erfinv(erf_y) / _ROOT_HALF, outer)

    in_tail = high < -0.5
    if traced(in_tail) or in_tail.any():
        y = where(in_tail, _quantile_in_tail(below, above, low, where(in_tail, high, -1.0), mass), y)
    y = maximum(minimum(y, high), low)
    y = where(below == 0, low, where(above == 0, high, y))
    return where(is_mirrored, -y, y)


def _quantile_in_tail(below: Tensor, above: Tensor, low: Tensor, near: Tensor, mass: Tensor) -> Tensor:
    """Where the distribution function is ``below``, and 1 minus it ``above``, on an interval below 0 whose upper end is
    ``near``. fall = -log(ndtr(y) / ndtr(near)), and of that the derivative by y is the slope."""
    w, part = _w(near), 2 * mass / _w(near)
    left = exp((near - low) * (near + low) / 2) * _w(low) / w + below * part
    fall = minimum(-where(left < 0.5, log(left), log1p(-above * part)), 800.0)
    slope = 2 / _ROOT_2_PI / w
    step = 2 * fall / (slope + sqrt(slope * slope + 2 * fall))
    for _ in range(_STEPS):
        here = _w(near - step)
        step = step + (log(here / w) - step * (step - 2 * near) / 2 + fall) * here * (_ROOT_2_PI / 2)
    return near - step


@_quantile.defjvp
def _quantile_jvp(primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """By the implicit equation: the density at y times dy is the change of mass that dq and the bounds make."""
    q, a, b = primals
    y = _quantile(q, a, b)
    end, mass = _mass(a, b)
    is_finite = absolute(y.detach()) < math.inf
    inner = where(is_finite, y, end)
    by_q = where(is_finite, mass * _ROOT_2_PI * exp((inner - end) * (inner + end) / 2), math.inf)
    change = by_q * tangents[0]
    for bound, part, t in ((a, 1 - q, tangents[1]), (b, q, tangents[2])):
        counts = is_finite & (absolute(bound.detach()) < math.inf) & (part.detach() != 0)
        bound = where(counts, bound, inner)
        change = change + where(counts, part * exp((inner - bound) * (inner + bound) / 2), 0.0) * t
    return y, change
