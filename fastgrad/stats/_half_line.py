"""Continuous distributions on the numbers from 0 on. The formulas are those of Johnson, Kotz and Balakrishnan,
"Continuous univariate distributions" (1994, 1995), in the parameters of SciPy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import _core
from .._core import Tensor, exp, expm1, log, log1p, sqrt, square, where
from .._numpy.incomplete import LOWER_BETA, LOWER_GAMMA, UPPER_GAMMA, betainccinv, betaincinv, gammainccinv, gammaincinv
from .._numpy.special import betaln, log1mexp, log_ndtr, ndtr, ndtri, xlogy
from ._base import HALF_LOG_2_PI, LOG_2, ByIncompleteFunction, Continuous
from ._deviance import log_beta_density, log_gamma_density

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["chi2", "expon", "f", "gamma", "halfnorm", "invgamma", "lognorm", "pareto", "weibull_min"]


class Positive(Continuous):
    """A distribution on the numbers from 0 on."""

    low = 0.0


class Expon(Positive):
    """The exponential distribution from ``loc`` on, with mean ``loc + scale``.

    >>> import fastgrad as fg
    >>> fg.stats.expon.logpdf([-1.0, 2.0])
    tensor([-inf,  -2.])
    """

    def _log_density(self, z: Tensor) -> Tensor:
        return -z

    def _cdf(self, z: Tensor) -> Tensor:
        return -expm1(-z)

    def _sf(self, z: Tensor) -> Tensor:
        return exp(-z)

    def _logcdf(self, z: Tensor) -> Tensor:
        return log1mexp(z)

    def _logsf(self, z: Tensor) -> Tensor:
        return -z

    def _ppf(self, q: Tensor) -> Tensor:
        return -log1p(-q)

    def _isf(self, q: Tensor) -> Tensor:
        return -log(q)


class Gamma(ByIncompleteFunction, Positive):
    """The gamma distribution of shape ``a``; ``scale`` is the inverse of the rate.

    >>> import fastgrad as fg
    >>> fg.stats.gamma.logpdf(2.0, a=2.0, scale=3.0).numpy().round(4)
    np.float64(-2.1707)
    """

    shapes = ("a",)
    _function = LOWER_GAMMA

    def _valid(self, a: Any) -> Any:
        return a > 0

    def _singular(self, a: Tensor) -> tuple[Any, Any]:
        return a != 1, False

    def _log_density(self, z: Tensor, a: Tensor) -> Tensor:
        return log_gamma_density(z, a)

    def _arguments(self, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        return a, z

    def _ppf(self, q: Tensor, a: Tensor) -> Tensor:
        return gammaincinv(a, q)

    def _isf(self, q: Tensor, a: Tensor) -> Tensor:
        return gammainccinv(a, q)


class InvGamma(Gamma):
    """The distribution of 1 / X for a gamma distribution of shape ``a``.

    >>> import fastgrad as fg
    >>> fg.stats.invgamma.logpdf(1.0, 1.0)
    tensor(-1.)
    """

    low_is_inside = False
    _function = UPPER_GAMMA

    def _negligible(self, z: Tensor, a: Tensor) -> tuple[Any, Any]:
        return z * (1e4 * square(1 + a)) < 1, None

    def _log_density(self, z: Tensor, a: Tensor) -> Tensor:
        return log_gamma_density(1 / z, a) - 2 * log(z)

    def _arguments(self, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        return a, 1 / z

    def _ppf(self, q: Tensor, a: Tensor) -> Tensor:
        return 1 / gammainccinv(a, q)

    def _isf(self, q: Tensor, a: Tensor) -> Tensor:
        return 1 / gammaincinv(a, q)


class Chi2(ByIncompleteFunction, Positive):
    """The chi-squared distribution of ``df`` degrees of freedom.

    >>> import fastgrad as fg
    >>> fg.stats.chi2.pdf(0.0, 2.0)
    tensor(0.5)
    """

    shapes = ("df",)
    _function = LOWER_GAMMA

    def _valid(self, df: Any) -> Any:
        return df > 0

    def _singular(self, df: Tensor) -> tuple[Any, Any]:
        return df != 2, False

    def _log_density(self, z: Tensor, df: Tensor) -> Tensor:
        return log_gamma_density(z / 2, df / 2) - LOG_2

    def _arguments(self, z: Tensor, df: Tensor) -> tuple[Tensor, Tensor]:
        return df / 2, z / 2

    def _ppf(self, q: Tensor, df: Tensor) -> Tensor:
        return 2 * gammaincinv(df / 2, q)

    def _isf(self, q: Tensor, df: Tensor) -> Tensor:
        return 2 * gammainccinv(df / 2, q)


class F(ByIncompleteFunction, Positive):
    """The F distribution of ``dfn`` and ``dfd`` degrees of freedom.

    >>> import fastgrad as fg
    >>> fg.stats.f.logpdf(1.0, 2.0, 4.0).numpy().round(4)
    np.float64(-1.2164)
    """

    shapes = ("dfn", "dfd")
    _function = LOWER_BETA

    def _valid(self, dfn: Any, dfd: Any) -> Any:
        return (dfn > 0) & (dfd > 0)

    def _singular(self, dfn: Tensor, dfd: Tensor) -> tuple[Any, Any]:
        return dfn != 2, False

    def _log_density(self, z: Tensor, dfn: Tensor, dfd: Tensor) -> Tensor:
        a, b, most, rest = self._arguments(z, dfn, dfd)
        odds, log_ratio = _odds(z, dfn, dfd)
        upper = odds > 1  # where the logarithm of the odds is taken out of that of 1 + odds
        small = where(upper, 1 / where(upper, odds, 1.0), odds)

        def by_powers(a: Tensor, b: Tensor) -> Tensor:
            below = xlogy(a - 1, where(upper, 1.0, z)) + a * log_ratio
            above = -(b + 1) * log(where(upper, z, 1.0)) - b * log_ratio
            return where(upper, above, below) - (a + b) * log1p(small) - betaln(a, b)

        return log_beta_density(by_powers, a, b, most, rest, z)

    def _arguments(self, z: Tensor, dfn: Tensor, dfd: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        odds, _ = _odds(z, dfn, dfd)
        upper = odds > 1
        small = where(upper, 1 / where(upper, odds, 1.0), odds)
        most, rest = 1 / (1 + small), small / (1 + small)
        return dfn / 2, dfd / 2, where(upper, most, rest), where(upper, rest, most)

    def _ppf(self, q: Tensor, dfn: Tensor, dfd: Tensor) -> Tensor:
        a, b = dfn / 2, dfd / 2
        return _quotient(b * betaincinv(a, b, q), a * betainccinv(b, a, q))

    def _isf(self, q: Tensor, dfn: Tensor, dfd: Tensor) -> Tensor:
        a, b = dfn / 2, dfd / 2
        return _quotient(b * betainccinv(a, b, q), a * betaincinv(b, a, q))


def _quotient(x: Tensor, y: Tensor) -> Tensor:
    """x / y, with derivatives by those of logarithms: the square of a tiny y would underflow."""
    value = (x / y).detach()
    inside = (x > 0) & (y > 0) & (value < math.inf)
    log_value = log(where(inside, x, 1.0)) - log(where(inside, y, 1.0))
    return where(inside, value * exp(log_value - log_value.detach()), x / where(inside, 1.0, y))


def _odds(z: Tensor, dfn: Tensor, dfd: Tensor) -> tuple[Tensor, Tensor]:
    """dfn / dfd * z, which overflows only where that does, and the logarithm of dfn / dfd."""
    ratio = dfn / dfd
    is_usual = (ratio > 1e-30) & (ratio < 1e30)
    ratio, p, q = where(is_usual, ratio, 1.0), where(is_usual, 1.0, dfn), where(is_usual, 1.0, dfd)
    root = sqrt(p) / sqrt(q)
    return where(is_usual, ratio * z, root * z * root), log(ratio) + (log(p) - log(q))


class LogNorm(Positive):
    """The distribution of ``exp(X)`` for a normal X of deviation ``s``; ``scale`` is the exponential of its mean.

    >>> import fastgrad as fg
    >>> fg.stats.lognorm.cdf([0.0, 1.0], s=2.0)
    tensor([0. , 0.5])
    """

    shapes = ("s",)
    low_is_inside = False

    def _valid(self, s: Any) -> Any:
        return s > 0

    def _log_density(self, z: Tensor, s: Tensor) -> Tensor:
        u = log(z)
        return -0.5 * square(u / s) - u - (log(s) + HALF_LOG_2_PI)

    def _cdf(self, z: Tensor, s: Tensor) -> Tensor:
        return ndtr(log(z) / s)

    def _sf(self, z: Tensor, s: Tensor) -> Tensor:
        return ndtr(-log(z) / s)

    def _logcdf(self, z: Tensor, s: Tensor) -> Tensor:
        return log_ndtr(log(z) / s)

    def _logsf(self, z: Tensor, s: Tensor) -> Tensor:
        return log_ndtr(-log(z) / s)

    def _ppf(self, q: Tensor, s: Tensor) -> Tensor:
        return exp(s * ndtri(q))

    def _isf(self, q: Tensor, s: Tensor) -> Tensor:
        return exp(-s * ndtri(q))


class ByHazard(Positive):
    """A distribution whose survival function is ``exp(-h)`` for a cumulative hazard h in closed form."""

    _hazard: Callable[..., Tensor]

    def _cdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return -expm1(-self._hazard(z, *shapes))

    def _sf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return exp(-self._hazard(z, *shapes))

    def _logcdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return log1mexp(self._hazard(z, *shapes))

    def _logsf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return -self._hazard(z, *shapes)


class Pareto(ByHazard):
    """The Pareto distribution of shape ``b`` from ``loc + scale`` on.

    >>> import fastgrad as fg
    >>> fg.stats.pareto.sf(10.0, 2.0).numpy().round(4)
    np.float64(0.01)
    """

    shapes = ("b",)
    low, within = 1.0, 2.0

    def _valid(self, b: Any) -> Any:
        return b > 0

    def _log_density(self, z: Tensor, b: Tensor) -> Tensor:
        return log(b) - (b + 1) * log(z)

    def _hazard(self, z: Tensor, b: Tensor) -> Tensor:
        return b * log(z)

    def _ppf(self, q: Tensor, b: Tensor) -> Tensor:
        return exp(-log1p(-q) / b)

    def _isf(self, q: Tensor, b: Tensor) -> Tensor:
        return exp(-log(q) / b)


class WeibullMin(ByHazard):
    """The Weibull distribution of shape ``c``.

    >>> import fastgrad as fg
    >>> fg.stats.weibull_min.logsf(3.0, 2.0)
    tensor(-9.)
    """

    shapes = ("c",)

    def _valid(self, c: Any) -> Any:
        return c > 0

    def _singular(self, c: Tensor) -> tuple[Any, Any]:
        return c != 1, False

    def _negligible(self, z: Tensor, c: Tensor) -> tuple[Any, Any]:
        return None, (z > 0) & (_core.power(z, c) > 1e4)

    def _log_density(self, z: Tensor, c: Tensor) -> Tensor:
        return log(c) + xlogy(c - 1, z) - _core.power(z, c)

    def _hazard(self, z: Tensor, c: Tensor) -> Tensor:
        return _core.power(z, c)

    def _logcdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        (c,) = shapes
        hazard = self._hazard(z, c)
        small = hazard < 1e-3  # it may underflow
        near = c * log(where(small, z, 1.0)) - hazard / 2 + square(hazard) / 24  # the series of log((1 - exp(-h)) / h)
        return where(small, near, log1mexp(where(small, 1.0, hazard)))

    def _ppf(self, q: Tensor, c: Tensor) -> Tensor:
        return _core.power(-log1p(-q), 1 / c)

    def _isf(self, q: Tensor, c: Tensor) -> Tensor:
        return _core.power(-log(q), 1 / c)


class HalfNorm(Positive):
    """The distribution of ``|X|`` for a normal X.

    >>> import fastgrad as fg
    >>> fg.stats.halfnorm.sf(0.0)
    tensor(1.)
    """

    def _log_density(self, z: Tensor) -> Tensor:
        return -0.5 * square(z) - (HALF_LOG_2_PI - LOG_2)

    def _cdf(self, z: Tensor) -> Tensor:
        return _core.erf(z * math.sqrt(0.5))

    def _sf(self, z: Tensor) -> Tensor:
        return 2 * ndtr(-z)

    def _logcdf(self, z: Tensor) -> Tensor:
        upper = z > 1
        near = log(self._cdf(where(upper, 1.0, z)))
        return where(upper, log1p(-self._sf(where(upper, z, 1.0))), near)

    def _logsf(self, z: Tensor) -> Tensor:
        upper = z > 1
        near = log1p(-self._cdf(where(upper, 1.0, z)))
        return where(upper, log_ndtr(-z) + LOG_2, near)

    def _ppf(self, q: Tensor) -> Tensor:
        return math.sqrt(2) * _core.erfinv(q)

    def _isf(self, q: Tensor) -> Tensor:
        return math.sqrt(2) * _core.erfcinv(q)


expon, gamma, invgamma, chi2, f = Expon("expon"), Gamma("gamma"), InvGamma("invgamma"), Chi2("chi2"), F("f")
lognorm, pareto, weibull_min = LogNorm("lognorm"), Pareto("pareto"), WeibullMin("weibull_min")
halfnorm = HalfNorm("halfnorm")
