"""Probabilities of counts, and densities of gamma distributions, without the loss of digits that large numbers bring:
logarithms of powers and of factorials, each as large as k log(k), are not formed.

``mean^k exp(-mean) / k!`` is ``exp(-deviance(k, mean) - stirling_error(k))``. Where it is not small, neither of these
is large: the first is 0 where k is the mean, the second grows as ``log(k) / 2``. (C. Loader, "Fast and accurate
computation of binomial probabilities", 2000.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .._control_flow.api import cond
from .._core import Tensor, kl_div, log, stirling_error, where
from .._numpy.special import gammaln, xlogy
from ._base import LIMITS, if_any, with_value

__all__ = ["above_0", "deviance", "log_beta_density", "log_binomial", "log_gamma_density"]

_LARGE = 16.0  # below, what is formed is not large


def above_0(k: Tensor) -> Tensor:
    """k >= 0; in the place of a 0 that is differentiated the least normal number: `deviance` and `stirling_error` have
    infinite slopes by k there, of which the sum is finite."""
    if not k.requires_grad:
        return k
    at_0 = if_any(k.detach() == 0)
    return k if at_0 is None else where(at_0, k + _least(k), k)


def deviance(k: Tensor, mean: Tensor) -> Tensor:
    """``k log(k / mean) - k + mean``; for a mean of 0 it is 0 or infinite, with the slopes next to there."""
    at_0 = if_any(mean.detach() == 0)
    if at_0 is None:
        return kl_div(k, mean)
    y = kl_div(k, where(at_0, mean + LIMITS[mean.dtype][1], mean))
    return with_value(y, at_0, where(k.detach() <= _least(k), 0.0, math.inf))


def log_gamma_density(x: Tensor, a: Tensor) -> Tensor:
    """The logarithm of the density of the gamma distribution of shape a and scale 1."""
    is_large = a.detach() > _LARGE
    shape = where(is_large, 1.0, a)

    def by_deviance(is_large: Tensor, found: Tensor, x: Tensor, a: Tensor) -> Tensor:
        k = where(is_large, a - 1, 1.0)
        return where(is_large, -(deviance(k, x) + stirling_error(k)), found)

    return _if_large(by_deviance, is_large, xlogy(shape - 1, x) - x - gammaln(shape), x, a)


def _if_large(f: Callable[..., Tensor], is_large: Tensor, found: Tensor, *more: Tensor) -> Tensor:
    """f of all arguments where some element is large, else what was found: a branch, because f takes longer and is
    seldom needed."""
    y: Tensor = cond(is_large.any(), f, lambda _, found, *__: found, is_large, found, *more)
    return y


def log_binomial(k: Tensor, rest: Tensor, n: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """The logarithm of ``n! / (k! rest!) p^k q^rest`` for ``n = k + rest`` and ``p + q = 1``."""
    chosen = stirling_error(n) - stirling_error(k) - stirling_error(rest)
    return chosen - (deviance(k, n * p) + deviance(rest, n * q))


def log_beta_density(
    by_powers: Callable[..., Tensor], a: Tensor, b: Tensor, x: Tensor, y: Tensor, divisor: Tensor
) -> Tensor:
    """The logarithm of ``x^a y^b / B(a, b) / divisor`` for ``x + y = 1``, which is ``a b / (a + b) / divisor`` times a
    binomial probability. Unless both a and b are large it is ``by_powers(a, b)``, and far from the mode, where the
    logarithm is as large as those of the powers: there x, y or the divisor may be 0."""

    def by_deviances(is_large: Tensor, found: Tensor, *given: Tensor) -> Tensor:
        low, high, _, p, q = (v.detach() for v in given)
        n = low + high
        is_large = is_large & (1000 * p * n > low) & (1000 * q * n > high)
        k, rest, scale = (where(is_large, v, 1.0) for v in given[:3])
        p, q = (where(is_large, v, 0.5) for v in given[3:])
        factor = log(k) + log(rest / (k + rest)) - log(scale)
        return where(is_large, factor + log_binomial(k, rest, k + rest, p, q), found)

    is_large = (a.detach() > _LARGE) & (b.detach() > _LARGE)
    return _if_large(by_deviances, is_large, by_powers(a, b), a, b, divisor, x, y)


def _least(k: Tensor) -> float:
    return float(np.finfo(k.dtype).tiny)
