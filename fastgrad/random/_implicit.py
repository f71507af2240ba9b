"""Gamma numbers as functions of their shape parameter: implicit reparameterization.

A draw x by rejection has no formula in the shape a. But where F is the distribution function, F(a, x) is a uniform
number that does not depend on a, and the derivative of this equation gives that of x (Figurnov, Mohamed and Mnih,
"Implicit reparameterization gradients", 2018):

    dx/da = -(dF/da) / (dF/dx)

Of the logarithm u = log x, whose density is exp(a u - e^u) / Gamma(a), the slope du/da is either of two integrals, by
the part of F below u or the part above:

    int_0^inf (digamma(a) - u + s) exp(-a s + x (1 - e^-s)) ds
    int_0^inf (u + s - digamma(a)) exp(a s - x (e^s - 1)) ds

For small x, the first is taken at a larger shape, after the first terms of a series in x, in which a small a does no
harm: slope(a) = (digamma(a + 1) - u + x slope(a + 1)) / a, by the recurrence of the incomplete gamma function. No term
of what is computed is negative, so that nothing cancels. The derivative of the slope is that of these formulas.

_numpy/incomplete_integrals.py has the same integrals as functions of ndarrays, for the derivatives of distribution
functions. Here they are operations, which a program runs itself, and of u, which is finite where x is rounded to 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, digamma, exp, expm1, log1p, sqrt, square, where
from .._numpy.incomplete_integrals import gauss_legendre
from .._transforms.custom import custom_jvp

__all__ = ["as_function_of_shape"]

_TERMS = 8  # of the series
_DROP = 37.0  # integrals end where their integrands are below exp(-_DROP) of the first value
_NODES = 28  # for a relative error of 1e-13


def _end(half: Any, scale: Any) -> Any:
    """The positive root s of scale s^2 / 2 + half s = _DROP."""
    return 2 * _DROP / (half + sqrt(square(half) + 2 * _DROP * scale))


def _slope(a: Tensor, u: Tensor) -> Tensor:
    """du/da of the logarithm u of a gamma number of shape a; both of one shape, and float64."""
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


@custom_jvp
def as_function_of_shape(a: Tensor, u: Tensor) -> Tensor:
    """u, the logarithms of gamma numbers drawn with the shapes a, as a function of a."""
    return u


@as_function_of_shape.defjvp
def _jvp(primals: tuple[Tensor, Tensor], tangents: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    a, _ = primals
    u = as_function_of_shape(*primals)
    double = np.float64
    slope = _slope(_core.astype(a, double), _core.astype(u, double))
    return u, _core.astype(slope, u.dtype) * tangents[0] + tangents[1]
