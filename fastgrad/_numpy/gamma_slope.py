"""The derivative of a quantile of the gamma distribution by its shape.

The distribution function F(a, x) = gammainc(a, x) at the quantile x does not depend on a, so that

    dx/da = -(dF/da) / (dF/dx)

(Figurnov, Mohamed and Mnih, "Implicit reparameterization gradients", 2018). Read from right to left it is the
derivative of gammainc by a. Of the logarithm u = log x, which is finite where x is rounded to 0, and whose density is
exp(a u - e^u) / Gamma(a), the slope du/da is either of two integrals, by the part of F below u or the part above:

    int_0^inf (digamma(a) - u + s) exp(-a s + x (1 - e^-s)) ds
    int_0^inf (u + s - digamma(a)) exp(a s - x (e^s - 1)) ds

For small x, the first is taken at a larger shape, after the first terms of a series in x, in which a small a does no
harm: slope(a) = (digamma(a + 1) - u + x slope(a + 1)) / a, by the recurrence of the incomplete gamma function. No term
of what is computed is negative, so that nothing cancels. All are operations, so that the derivatives of the slope are
those of these formulas, and programs run them themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, digamma, exp, expm1, log1p, sqrt, square, where
from .incomplete_integrals import gauss_legendre

__all__ = ["log_quantile_slope"]

_TERMS = 8  # of the series
_DROP = 37.0  # integrals end where their integrands are below exp(-_DROP) of the first value
_NODES = 28  # for a relative error of 1e-13


def _end(half: Any, scale: Any) -> Any:
    """The positive root s of scale s^2 / 2 + half s = _DROP."""
    return 2 * _DROP / (half + sqrt(square(half) + 2 * _DROP * scale))


def log_quantile_slope(a: Tensor, u: Tensor) -> Tensor:
    """du/da of the logarithm u of a quantile of the gamma distribution of shape a; for operands of one float dtype, in
    float64."""
    a, u = _core.astype(a, np.float64), _core.astype(u, np.float64)
    x = exp(u)
    below = x < a + 0.5  # which is less than exp(digamma(a + 1))
    first = digamma(a + 1)
    term, above = 1 / a, first - u
    series: Any = 0.0
    for k in range(1, _TERMS + 1):
        series = series + term * above
        term, above = term * (x / (a + k)), above + 1 / (a + k)
    larger = a + _TERMS
    ahead = where(below, above - 1 / larger, u - first + 1 / a)  # the integrand's first value

    # Bounds of the exponents: e^-s >= (1 - s/2) / (1 + s/2); e^s - 1 >= s + s^2/2, and >= s.
    beyond = where(below, 1.0, x - a)
    end = where(
        below, _end(larger - x - _DROP / 2, larger), _core.minimum(_end(beyond, x), log1p(_DROP / beyond))
    ).detach()  # fmt: skip
    rate, sign = where(below, -larger, a), where(below, -1.0, 1.0)
    integral: Any = 0.0
    for node, weight in zip(*gauss_legendre(_NODES)):
        s = float(node) * end
        integral = integral + float(weight) * (ahead + s) * exp(rate * s - x * expm1(sign * s))
    integral = integral * end
    slope: Tensor = where(below, series + term * larger * integral, integral)
    return slope
