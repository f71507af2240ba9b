"""Continuous distributions on the whole line and on an interval. The formulas are those of Johnson, Kotz and
Balakrishnan, "Continuous univariate distributions" (1994, 1995), in the parameters of SciPy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, absolute, exp, log, log1p, square, where
from .._numpy import incomplete
from .._numpy.incomplete import LOWER_BETA, betainccinv, betaincinv, log1p_square, stdtr, stdtrit
from .._numpy.incomplete_integrals import gauss_legendre
from .._numpy.scipy_calls import call
from .._numpy.shapes import expand_dims
from .._numpy.special import betaln, i0e, log_ndtr, logit, ndtr, ndtri, xlog1py, xlogy
from ._base import HALF_LOG_2_PI, LOG_2, ByIncompleteFunction, Continuous, Symmetric
from ._deviance import log_beta_density
from ._truncnorm import TruncNorm

if TYPE_CHECKING:
    pass

__all__ = ["beta", "cauchy", "laplace", "logistic", "norm", "t", "truncnorm", "uniform", "vonmises"]

_LOG_PI = math.log(math.pi)


# ---- on the whole line -----------------------------------------------------------------------------------------------
class Norm(Symmetric):
    """The normal distribution with mean ``loc`` and deviation ``scale``.

    >>> import fastgrad as fg
    >>> fg.stats.norm.logpdf([0.0, 40.0], loc=0.0, scale=1.0).numpy().round(4)
    array([  -0.9189, -800.9189])
    """

    takes_infinity = True

    def _log_density(self, z: Tensor) -> Tensor:
        return -0.5 * square(z) - HALF_LOG_2_PI

    def _cdf(self, z: Tensor) -> Tensor:
        return ndtr(z)

    def _logcdf(self, z: Tensor) -> Tensor:
        return log_ndtr(z)

    def _ppf(self, q: Tensor) -> Tensor:
        return ndtri(q)


class Cauchy(Symmetric):
    """The Cauchy distribution.

    >>> import fastgrad as fg
    >>> fg.stats.cauchy.cdf(1.0)
    tensor(0.75)
    """

    def _log_density(self, z: Tensor) -> Tensor:
        return -log1p_square(z) - _LOG_PI

    def _cdf(self, z: Tensor) -> Tensor:
        return _core.arctan2(1.0, -z) / math.pi

    def _logcdf(self, z: Tensor) -> Tensor:
        upper = z > 0  # where the function is near 1, it is the other tail that is exact
        tail = self._cdf(where(upper, -z, z))
        return where(upper, log1p(-tail), log(tail))

    def _ppf(self, q: Tensor) -> Tensor:
        upper = q > 0.5
        tail = 1 / _core.tan(math.pi * where(upper, 1 - q, q))
        return where(upper, tail, -tail)


class T(Symmetric):
    """Student's t distribution of ``df`` degrees of freedom; the normal one for infinitely many.

    >>> import fastgrad as fg
    >>> fg.stats.t.logpdf(0.0, 3.0).numpy().round(4)
    np.float64(-1.0009)
    """

    shapes = ("df",)

    def _valid(self, df: Any) -> Any:
        return df > 0

    def _log_density(self, z: Tensor, df: Tensor) -> Tensor:
        y: Tensor = incomplete.t_log_density(df, z)
        return y

    def _cdf(self, z: Tensor, df: Tensor) -> Tensor:
        return stdtr(df, z)

    def _logcdf(self, z: Tensor, df: Tensor) -> Tensor:
        return call(incomplete.LOG_STDTR, df, z)

    def _ppf(self, q: Tensor, df: Tensor) -> Tensor:
        return stdtrit(df, q)


class Laplace(Symmetric):
    """The Laplace distribution; the slope of its density at ``loc`` is taken as 0.

    >>> import fastgrad as fg
    >>> fg.stats.laplace.pdf([0.0, 1.0]).numpy().round(4)
    array([0.5   , 0.1839])
    """

    takes_infinity = True

    def _log_density(self, z: Tensor) -> Tensor:
        return -absolute(z) - LOG_2

    def _cdf(self, z: Tensor) -> Tensor:
        upper = z > 0
        tail = 0.5 * exp(where(upper, -z, z))
        return where(upper, 1 - tail, tail)

    def _logcdf(self, z: Tensor) -> Tensor:
        upper = z > 0
        down = where(upper, -z, z)
        return where(upper, log1p(-0.5 * exp(down)), down - LOG_2)

    def _ppf(self, q: Tensor) -> Tensor:
        upper = q > 0.5
        tail = log(2 * where(upper, 1 - q, q))
        return where(upper, -tail, tail)


class Logistic(Symmetric):
    """The logistic distribution.

    >>> import fastgrad as fg
    >>> fg.stats.logistic.logcdf(-1000.0)
    tensor(-1000.)
    """

    takes_infinity = True

    def _log_density(self, z: Tensor) -> Tensor:
        return _core.log_sigmoid(z) + _core.log_sigmoid(-z)

    def _cdf(self, z: Tensor) -> Tensor:
        return _core.sigmoid(z)

    def _logcdf(self, z: Tensor) -> Tensor:
        return _core.log_sigmoid(z)

    def _ppf(self, q: Tensor) -> Tensor:
        return logit(q)


class VonMises(Symmetric):
    """The von Mises distribution of angles, with concentration ``kappa``; the density is periodic.

    As SciPy's, the distribution function is that of the angle from -pi to pi, and grows by 1 with each turn. It is an
    integral of the density by the rule of Gauss and Legendre, to 1e-13 also in the tails. There are no quantiles.

    >>> import fastgrad as fg
    >>> fg.stats.vonmises.pdf(0.5, 0.0).numpy().round(4)
    np.float64(0.1592)
    """

    shapes = ("kappa",)
    no_quantiles = "they have no closed form"

    def _valid(self, kappa: Any) -> Any:
        return kappa >= 0

    def _log_density(self, z: Tensor, kappa: Tensor) -> Tensor:
        return -2 * kappa * square(_core.sin(z / 2)) - (log(i0e(kappa)) + 2 * HALF_LOG_2_PI)

    def _parts(self, z: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The number of whole turns; whether the angle is above 0; the logarithm of the density, and the integral of
        the density up to the angle or, if that is above 0, from it on, divided by the density.

        The integral begins where the density is negligible beside that at its end: at twice the distance that follows
        from the slope of the logarithm there, or at that which follows from its curvature at 0."""
        shape = np.broadcast_shapes(z.shape, kappa.shape)
        z, kappa = _core.broadcast_to(z, shape), _core.broadcast_to(kappa, shape)
        turns = _core.floor((z.detach() + math.pi) / (2 * math.pi))
        angle = z - 2 * math.pi * turns
        upper = angle > 0
        end = where(upper, -angle, angle)
        at, k = end.detach(), kappa.detach() + 1e-30
        far = where(at > -math.pi / 2, 9 / _core.sqrt(k), math.pi)
        far = _core.minimum(far, 80 / (k * _core.maximum(_core.absolute(_core.sin(at)), 1e-30)))
        begin = _core.maximum(at - far, -math.pi)
        nodes, weights = (part.astype(z.dtype) for part in gauss_legendre(64))
        length = end - begin
        t = expand_dims(begin, -1) + expand_dims(length, -1) * nodes
        change = expand_dims(square(_core.sin(end / 2)), -1) - square(_core.sin(t / 2))
        ratio = (exp(2 * expand_dims(kappa, -1) * change) * weights).sum(-1) * length
        return turns, upper, self._log_density(end, kappa), ratio

    def _cdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        turns, upper, log_density, ratio = self._parts(z, *shapes)
        tail = exp(log_density) * ratio
        return turns + where(upper, 1 - tail, tail)

    def _logcdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        turns, upper, log_density, ratio = self._parts(z, *shapes)
        log_tail = log_density + log(ratio)
        y = where(upper, log1p(-exp(log_tail)), log_tail)
        first = turns == 0
        return where(first, y, log(where(first, 1.0, turns + exp(y))))


# ---- on an interval --------------------------------------------------------------------------------------------------
class Uniform(Continuous):
    """The uniform distribution from ``loc`` to ``loc + scale``.

    >>> import fastgrad as fg
    >>> fg.stats.uniform.pdf([1.0, 7.0], loc=0.0, scale=4.0)
    tensor([0.25, 0.  ])
    """

    low, high, within = 0.0, 1.0, 0.5

    def _log_density(self, z: Tensor) -> Tensor:
        return 0.0 * z

    def _cdf(self, z: Tensor) -> Tensor:
        return z

    def _sf(self, z: Tensor) -> Tensor:
        return 1 - z

    def _logcdf(self, z: Tensor) -> Tensor:
        return log(z)

    def _logsf(self, z: Tensor) -> Tensor:
        return log1p(-z)

    def _ppf(self, q: Tensor) -> Tensor:
        return q

    def _isf(self, q: Tensor) -> Tensor:
        return 1 - q


class Beta(ByIncompleteFunction, Continuous):
    """The beta distribution of shapes ``a`` and ``b``.

    >>> import fastgrad as fg
    >>> fg.stats.beta.pdf([0.0, 0.5, 2.0], 2.0, 2.0)
    tensor([0. , 1.5, 0. ])
    """

    shapes = ("a", "b")
    _function = LOWER_BETA
    low, high, within = 0.0, 1.0, 0.5

    def _valid(self, a: Any, b: Any) -> Any:
        return (a > 0) & (b > 0)

    def _singular(self, a: Tensor, b: Tensor) -> tuple[Any, Any]:
        return a != 1, b != 1

    def _log_density(self, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        def by_powers(a: Tensor, b: Tensor) -> Tensor:
            return xlogy(a - 1, z) + xlog1py(b - 1, -z) - betaln(a, b)

        return log_beta_density(by_powers, a, b, z, 1 - z, z * (1 - z))

    def _arguments(self, z: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return a, b, z, 1 - z

    def _ppf(self, q: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return betaincinv(a, b, q)

    def _isf(self, q: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return betainccinv(a, b, q)


norm, cauchy, t, laplace, logistic, vonmises = (
    Norm("norm"), Cauchy("cauchy"), T("t"), Laplace("laplace"), Logistic("logistic"), VonMises("vonmises"),
)  # fmt: skip
uniform, beta, truncnorm = Uniform("uniform"), Beta("beta"), TruncNorm("truncnorm")
