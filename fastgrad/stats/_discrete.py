"""Distributions of whole numbers. The formulas are those of Johnson, Kemp and Kotz, "Univariate discrete
distributions" (2005), in the parameters of SciPy."""

from __future__ import annotations

from typing import Any

from .._core import Tensor, exp, expm1, log, log1p, square, stirling_error, where
from .._numpy.incomplete import LOWER_BETA, UPPER_GAMMA
from .._numpy.special import betaln, log1mexp, xlog1py, xlogy
from ._base import ByIncompleteFunction, Discrete
from ._deviance import above_0, deviance, log_beta_density, log_binomial

__all__ = ["bernoulli", "binom", "geom", "nbinom", "poisson"]


class Poisson(ByIncompleteFunction, Discrete):
    """The Poisson distribution with mean ``mu``.

    >>> import fastgrad as fg
    >>> fg.stats.poisson.logpmf([0, 1, 1.5], 2.0).numpy().round(4)
    array([-2.    , -1.3069,    -inf])
    """

    shapes = ("mu",)
    edges = ((0.0,),)
    _function = UPPER_GAMMA

    def _valid(self, mu: Any) -> Any:
        return mu >= 0

    def _negligible(self, z: Tensor, mu: Tensor) -> tuple[Any, Any]:
        return None, z > 1e4 * square(1 + mu)

    def _log_density(self, z: Tensor, mu: Tensor) -> Tensor:
        z = above_0(z)
        return -(deviance(z, mu) + stirling_error(z))

    def _arguments(self, z: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        return z + 1, mu


class Binom(ByIncompleteFunction, Discrete):
    """The number of successes of probability ``p`` in ``n`` trials.

    >>> import fastgrad as fg
    >>> fg.stats.binom.pmf([0, 1, 3], 2, 0.5).numpy().round(4)
    array([0.25, 0.5 , 0.  ])
    """

    shapes = ("n", "p")
    edges = ((), (0.0, 1.0))
    _function = LOWER_BETA

    def _mass_at(self, n: Tensor, p: Tensor) -> Any:
        return where(p > 0.5, n, 0.0)

    def _valid(self, n: Any, p: Any) -> Any:
        return (n >= 0) & (n % 1 == 0) & (p >= 0) & (p <= 1)

    def _bounds(self, n: Tensor, p: Tensor) -> tuple[Any, Any, Any]:
        return 0.0, n, 0.0

    def _log_density(self, z: Tensor, n: Tensor, p: Tensor) -> Tensor:
        rest, z, n = above_0(n - z), above_0(z), above_0(n)
        return log_binomial(z, rest, n, p, 1 - p)

    def _arguments(self, z: Tensor, n: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return where(n > z, n - z, 1.0), z + 1, 1 - p, p  # for n = 0 the result is not used


class NBinom(ByIncompleteFunction, Discrete):
    """The number of failures before the ``n``-th success, of probability ``p``; n need not be whole.

    >>> import fastgrad as fg
    >>> fg.stats.nbinom.pmf(1, 2, 0.5).numpy().round(4)
    np.float64(0.25)
    """

    shapes = ("n", "p")
    edges = ((), (1.0,))
    _function = LOWER_BETA

    def _valid(self, n: Any, p: Any) -> Any:
        return (n > 0) & (p > 0) & (p <= 1)

    def _negligible(self, z: Tensor, n: Tensor, p: Tensor) -> tuple[Any, Any]:
        return None, z * p > 1e4 * square(1 + n)

    def _log_density(self, z: Tensor, n: Tensor, p: Tensor) -> Tensor:
        def by_powers(n: Tensor, z: Tensor) -> Tensor:
            return n * log(p) + xlog1py(z, -p) - betaln(n, z + 1) - log(n + z)

        return log_beta_density(by_powers, n, z, p, 1 - p, z)

    def _arguments(self, z: Tensor, n: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return n, z + 1, p, 1 - p


class Bernoulli(Discrete):
    """1 with probability ``p``, else 0.

    >>> import fastgrad as fg
    >>> fg.stats.bernoulli.pmf([0, 1, 2], 0.25)
    tensor([0.75, 0.25, 0.  ])
    """

    shapes = ("p",)
    edges = ((0.0, 1.0),)
    high = 1.0

    def _mass_at(self, p: Tensor) -> Any:
        return p

    def _valid(self, p: Any) -> Any:
        return (p >= 0) & (p <= 1)

    def _log_density(self, z: Tensor, p: Tensor) -> Tensor:
        return xlogy(z, p) + xlog1py(1 - z, -p)

    def _cdf(self, z: Tensor, p: Tensor) -> Tensor:
        return 1 - p + 0 * z

    def _sf(self, z: Tensor, p: Tensor) -> Tensor:
        return p + 0 * z

    def _logcdf(self, z: Tensor, p: Tensor) -> Tensor:
        return log1p(-p) + 0 * z

    def _logsf(self, z: Tensor, p: Tensor) -> Tensor:
        return log(p) + 0 * z


class Geom(Discrete):
    """The number of trials up to the first success, of probability ``p``.

    >>> import fastgrad as fg
    >>> fg.stats.geom.sf(3, 0.5)
    tensor(0.125)
    """

    shapes = ("p",)
    edges = ((1.0,),)
    low, within = 1.0, 1.0

    def _valid(self, p: Any) -> Any:
        return (p > 0) & (p <= 1)

    def _negligible(self, z: Tensor, p: Tensor) -> tuple[Any, Any]:
        return None, z * p > 1e4

    def _log_density(self, z: Tensor, p: Tensor) -> Tensor:
        return xlog1py(z - 1, -p) + log(p)

    def _cdf(self, z: Tensor, p: Tensor) -> Tensor:
        return -expm1(xlog1py(z, -p))

    def _sf(self, z: Tensor, p: Tensor) -> Tensor:
        return exp(xlog1py(z, -p))

    def _logcdf(self, z: Tensor, p: Tensor) -> Tensor:
        return log1mexp(-xlog1py(z, -p))

    def _logsf(self, z: Tensor, p: Tensor) -> Tensor:
        return xlog1py(z, -p)


poisson, binom, nbinom = Poisson("poisson"), Binom("binom"), NBinom("nbinom")
bernoulli, geom = Bernoulli("bernoulli"), Geom("geom")
