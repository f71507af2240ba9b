"""Distributions of whole numbers. These have no gradients: a parameter that requires them is refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._control_flow.api import scan, while_loop
from .._core import Tensor, exp, floor, kl_div, log, log1p, sqrt, square, stirling_error, where
from .._numpy.creation import floating
from .._numpy.joining import append
from .._numpy.sequences import cumsum
from .._numpy.shapes import moveaxis
from ._arguments import fitted, refuse, refuse_shapes, refuse_tracked
from ._transformed import TransformedStream

if TYPE_CHECKING:
    from ._arguments import Size

_MOST_TRIALS = 1e15  # beyond, the numbers of a proposal are not all whole ones
_MOST = float(2**63 - 1024)  # the greatest float64 that is an int64


class CountStream(TransformedStream):
    """A stream with draws of whole numbers."""

    def poisson(self, lam: Any = 1.0, size: Size = None) -> Tensor:
        """Poisson integers (int64) with mean lam, of 0 or more.

        Up to a mean of 10 by the inverse of the distribution function, summed term by term; above by the method of
        Hoermann, "The transformed rejection method for generating Poisson random variables" (1993), PTRS. Raises
        TypeError where lam requires gradients, ValueError for a negative or nan lam, or one above 1e12. Where it
        depends on the arguments of a function being traced, the result is then -1, or that of 1e12.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).poisson(0.0, 3)
        tensor([0, 0, 0])
        """
        refuse_tracked("poisson", "lam", lam, "end at an integer")
        size, _ = fitted("poisson", size, None, lam=lam)
        refuse("poisson", "lam from 0 to 1e12", lambda x: ~((x >= 0) & (x <= 1e12)), lam)
        lam = _core.minimum(_in_float64(lam, size), 1e12)
        return _core.astype(where(lam >= 0, self._poisson(lam), -1.0), np.int64)

    def binomial(self, n: Any, p: Any, size: Size = None) -> Tensor:
        """The number of successes (int64) in n trials, each with probability p.

        Where n p, or n (1 - p), is below 10, by the inverse of the distribution function, summed term by term; else by
        the method of Hoermann, "The generation of binomial random variates" (1993), BTRS. Raises TypeError where n or p
        requires gradients, ValueError unless n is whole and from 0 to 1e15, and p from 0 to 1. Where they depend on the
        arguments of a function being traced, the result is then -1.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).binomial(10, [0.0, 1.0])
        tensor([ 0, 10])
        """
        for what, value in (("n", n), ("p", p)):
            refuse_tracked("binomial", what, value, "end at an integer")
        size, _ = fitted("binomial", size, None, n=n, p=p)
        refuse("binomial", "n whole and from 0 to 1e15", lambda x: ~_is_count(x), n)
        refuse("binomial", "p from 0 to 1", lambda x: ~((x >= 0) & (x <= 1)), p)
        return _core.astype(self._binomial("binomial", _in_float64(n, size), _in_float64(p, size)), np.int64)

    def negative_binomial(self, n: Any, p: Any, size: Size = None) -> Tensor:
        """The number of failures (int64) before the n-th success, of probability p; n need not be whole: a Poisson
        number whose mean is ``(1 - p) / p`` times a gamma number of shape n, at most 1e12.

        Raises TypeError where n or p requires gradients, ValueError unless n is finite and above 0, and p above 0 and
        at most 1. Where they depend on the arguments of a function being traced, the result is then -1.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).negative_binomial(5.0, 1.0)
        tensor(0)
        """
        for what, value in (("n", n), ("p", p)):
            refuse_tracked("negative_binomial", what, value, "end at an integer")
        refuse_shapes("negative_binomial", n=n)
        size, _ = fitted("negative_binomial", size, None, n=n, p=p)
        refuse("negative_binomial", "p above 0 and at most 1", lambda x: ~((x > 0) & (x <= 1)), p)
        n, p = _in_float64(n, size), _in_float64(p, size)
        mean = exp(self._log_gamma("negative_binomial", n, size, np.float64)) * ((1 - p) / p)
        is_valid = (n > 0) & (n < math.inf) & (p > 0) & (p <= 1)
        mean = _core.minimum(where(is_valid, mean, 0.0), 1e12)
        return _core.astype(where(is_valid, self._poisson(mean), -1.0), np.int64)

    def geometric(self, p: Any, size: Size = None) -> Tensor:
        """The number of trials (int64) up to the first success, of probability p, by the inverse of the distribution
        function.

        Raises TypeError where p requires gradients, ValueError unless it is above 0 and at most 1. Where it depends on
        the arguments of a function being traced, the result is then -1.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).geometric(1.0, 3)
        tensor([1, 1, 1])
        """
        refuse_tracked("geometric", "p", p, "end at an integer")
        size, _ = fitted("geometric", size, None, p=p)
        refuse("geometric", "p above 0 and at most 1", lambda x: ~((x > 0) & (x <= 1)), p)
        p = _in_float64(p, size)
        is_valid = (p > 0) & (p <= 1)
        rate = -log1p(-where(is_valid, p, 1.0))
        k = _core.minimum(floor(self._exponential("geometric", size, np.float64) / rate) + 1, _MOST)
        return _core.astype(where(is_valid, k, -1.0), np.int64)

    def multinomial(self, n: Any, pvals: Any, size: Size = None) -> Tensor:
        """How often each of k outcomes occurs (int64, in the last axis) in n trials with the probabilities pvals, in
        its last axis: a binomial number for each outcome, of the trials that are left.

        ``size`` is that of the result without its last axis, to which n and pvals without its last axis broadcast. The
        last outcome has the probability that the others leave. Raises TypeError where n or pvals requires gradients,
        ValueError unless n is whole and from 0 to 1e15, and pvals are from 0 to 1 and those but the last sum to at most
        1. Where they depend on the arguments of a function being traced, the counts are then -1.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).multinomial(10, [0.2, 0.3, 0.5], 4).sum(-1)
        tensor([10, 10, 10, 10])
        """
        for what, value in (("n", n), ("pvals", pvals)):
            refuse_tracked("multinomial", what, value, "end at an integer")
        given: Tensor = floating(pvals)
        if given.ndim == 0 or given.shape[-1] == 0:
            raise ValueError(f"multinomial: expected pvals of shape (..., k) with k of 1 or more, got {given.shape}")
        size, _ = fitted("multinomial", size, None, n=n, pvals=np.broadcast_to(0, given.shape[:-1]))
        refuse("multinomial", "n whole and from 0 to 1e15", lambda x: ~_is_count(x), n)
        k, eps = given.shape[-1], float(np.finfo(given.dtype).eps)
        chances = _core.astype(given, np.float64)

        def fits(x: Any) -> Any:
            return ((x >= 0) & (x <= 1)).all(-1) & (x[..., :-1].sum(-1) <= 1 + k * eps)

        refuse("multinomial", "pvals from 0 to 1, the sum of those but the last at most 1", lambda x: ~fits(x), chances)
        p = _core.broadcast_to(chances, (*size, k))[..., :-1]
        trials = where(fits(chances), _in_float64(n, size), -1.0)
        # The probability of each outcome given that it is none of those before it.
        left = _core.maximum(1 - cumsum(p, -1) + p, 0.0)
        share = _core.minimum(where(left > 0, p / where(left > 0, left, 1.0), 0.0), 1.0)

        def draw(rest: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
            count = self._binomial("multinomial", rest, chance)
            return rest - count, count

        rest, counts = scan(draw, trials, moveaxis(share, -1, 0))
        counts = append(moveaxis(counts, 0, -1), rest.reshape((*size, 1)), -1)
        is_valid = (counts >= 0).all(-1, keepdims=True)
        return _core.astype(where(is_valid, counts, -1.0), np.int64)

    # ---- by inversion and rejection ---------------------------------------------------------------------------------
    def _binomial(self, name: str, n: Tensor, p: Tensor) -> Tensor:
        """Binomial numbers as float64; -1 where parameters are not valid."""
        is_valid = _is_count(n) & (p >= 0) & (p <= 1)
        n = where(is_valid, n, 0.0)
        p = where(is_valid, p, 0.0)
        upper = p > 0.5
        rare = where(upper, 1 - p, p)
        few = n * rare < 10
        k = where(few, self._few(name, n, rare, few), self._many(name, n, rare, few))
        return where(is_valid, where(upper, n - k, k), -1.0)

    def _few(self, name: str, n: Tensor, p: Tensor, wanted: Tensor) -> Tensor:
        p = where(wanted, p, 0.0)
        u = self._draw(name, n.shape, np.float64)
        odds = p / (1 - p)

        def step(value: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            k, term, total = value
            going = (total <= u) & (k < n)
            term = where(going, term * odds * (n - k) / (k + 1), term)
            return where(going, k + 1, k), term, where(going, total + term, total)

        first = exp(n * log1p(-p))
        # The sum ends below 1 by rounding: past 150 a term adds nothing.
        going_on = lambda value: ((value[2] <= u) & (value[0] < _core.minimum(n, 150.0))).any()
        k: Tensor = while_loop(going_on, step, (_core.multiply(u, 0.0), first, first))[0]
        return k

    def _many(self, name: str, n: Tensor, p: Tensor, unwanted: Tensor) -> Tensor:
        n, p = where(unwanted, 100.0, n), where(unwanted, 0.5, p)
        q = 1 - p
        deviation = sqrt(n * p * q)
        b = 1.15 + 2.53 * deviation
        a = -0.0873 + 0.0248 * b + 0.01 * p
        centre, inner, scale = n * p + 0.5, 0.92 - 4.2 / b, (2.83 + 5.1 / b) * deviation

        def log_probability(k: Tensor) -> Tensor:  # but for what does not depend on k
            return -(kl_div(k, n * p) + kl_div(n - k, n * q) + stirling_error(k) + stirling_error(n - k))

        log_most = log_probability(floor((n + 1) * p))

        def step(value: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            accepted, x = value
            u = self._draw(name, n.shape, np.float64) - 0.5
            v = 1 - self._draw(name, n.shape, np.float64)
            edge = _core.maximum(0.5 - _core.absolute(u), 2.0**-54)
            k = floor((2 * a / edge + b) * u + centre)
            possible = (k >= 0) & (k <= n)
            inside = where(possible, k, 0.0)
            below = log(v) + log(scale) - log(a / square(edge) + b) <= log_probability(inside) - log_most
            good = possible & (((edge >= 0.07) & (v <= inner)) | below)
            return accepted | good, where(accepted, x, k)

        x: Tensor = while_loop(lambda value: ~value[0].all(), step, (unwanted, _core.multiply(n, 0.0)))[1]
        return x


def _in_float64(value: Any, size: tuple[int, ...]) -> Tensor:
    return _core.broadcast_to(_core.astype(_core.asarray(value), np.float64), size)


def _is_count(n: Any) -> Any:
    return (n >= 0) & (n <= _MOST_TRIALS) & (n % 1 == 0)
