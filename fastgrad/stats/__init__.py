"""Densities and distribution functions by the names and arguments of ``scipy.stats``, differentiable.

Each distribution has ``logpdf`` and ``pdf``, or ``logpmf`` and ``pmf`` of whole numbers; ``cdf``, ``sf``, ``logcdf``
and ``logsf``; and ``ppf`` and ``isf``, the quantiles, of continuous ones. Those that are made of incomplete gamma or
beta functions call SciPy; those of ``vonmises`` raise NotImplementedError. Gradients flow to x and to every parameter,
and all arguments broadcast. Outside of the support a logarithm is -inf with gradient 0; where a parameter is not valid
the result is nan, as SciPy's. docs/stats.md lists them.

>>> import fastgrad as fg
>>> fg.grad(lambda loc: fg.stats.norm.logpdf([1.0, 2.0], loc, 2.0).sum())(0.0)
np.float64(0.75)
"""

import typing as _typing

from .. import _names
from ._continuous import beta, cauchy, laplace, logistic, norm, t, truncnorm, uniform, vonmises
from ._discrete import bernoulli, binom, geom, nbinom, poisson
from ._half_line import chi2, expon, f, gamma, halfnorm, invgamma, lognorm, pareto, weibull_min
from ._multivariate import dirichlet, multinomial, multivariate_normal, wishart

__all__ = [
    "bernoulli", "beta", "binom", "cauchy", "chi2", "dirichlet", "expon", "f", "gamma", "geom", "halfnorm", "invgamma",
    "laplace", "logistic", "lognorm", "multinomial", "multivariate_normal", "nbinom", "norm", "pareto", "poisson", "t",
    "truncnorm", "uniform", "vonmises", "weibull_min", "wishart",
]  # fmt: skip


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


if not _typing.TYPE_CHECKING:

    def __getattr__(name):
        raise _names.missing(name, asked="stats")
