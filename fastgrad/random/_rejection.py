"""Draws by rejection: gamma and Poisson numbers. They run in a ``while_loop`` until every number is accepted. The
gradients of gamma numbers are in _implicit.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from .._control_flow.api import while_loop
from .._core import Tensor, exp, floor, log, sqrt, square, where
from .._numpy.special import gammaln
from ._implicit import as_function_of_shape
from ._stream import Stream


class RejectionStream(Stream):
    """A stream with draws by rejection, of checked parameters."""

    def _log_gamma(self, name: str, shape: Any, size: tuple[int, ...], dtype: Any) -> Tensor:
        """Logarithms of gamma numbers, which are finite for every shape, and differentiable by it."""
        given = _core.broadcast_to(_core.astype(_core.asarray(shape), dtype), size)
        a = given.detach()
        a = where((a > 0) & (a < math.inf), a, math.nan)
        d = a + 2 / 3
        c = 1 / sqrt(9 * d)

        def step(value: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            accepted, y = value
            x = self._normal(name, size, dtype)
            e = self._exponential(name, size, dtype)
            root = 1 + c * x
            possible = root > 0
            log_v = 3 * log(where(possible, root, 1.0))
            good = possible & (-e < 0.5 * square(x) + d - d * exp(log_v) + d * log_v)
            return accepted | good, where(accepted, y, log_v)

        start = (a != a, _core.multiply(a, 0.0))
        log_v: Tensor = while_loop(lambda value: ~value[0].all(), step, start)[1]
        drawn = log(d) + log_v - self._exponential(name, size, dtype) / a
        return as_function_of_shape(given, drawn) if given.requires_grad else drawn

    def _poisson(self, lam: Tensor) -> Tensor:
        """Poisson numbers with means from 0 to 1e12 (float64)."""
        return where(lam <= 10, self._small_poisson(lam), self._large_poisson(lam))

    def _small_poisson(self, lam: Tensor) -> Tensor:
        lam = _core.minimum(lam, 10.0)
        u = self._draw("poisson", lam.shape, np.float64)

        def step(value: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            k, term, total = value
            going = total <= u
            k = where(going, k + 1, k)
            term = where(going, term * lam / k, term)
            return k, term, where(going, total + term, total)

        first = exp(-lam)
        # The sum ends below 1 by rounding: past 100 a term adds nothing.
        start = (_core.multiply(lam, 0.0), first, first)
        k: Tensor = while_loop(lambda value: ((value[2] <= u) & (value[0] < 100)).any(), step, start)[0]
        return k

    def _large_poisson(self, lam: Tensor) -> Tensor:
        small = ~(lam > 10)  # nan, too, for which the loop would not end
        lam = _core.maximum(lam, 10.0)
        b = 0.931 + 2.53 * sqrt(lam)
        a = -0.059 + 0.02483 * b
        scale = log(1.1239 + 1.1328 / (b - 3.4))
        inner = 0.9277 - 3.6224 / (b - 2)

        def step(value: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            accepted, x = value
            u = self._draw("poisson", lam.shape, np.float64) - 0.5
            v = 1 - self._draw("poisson", lam.shape, np.float64)
            edge = _core.maximum(0.5 - _core.absolute(u), 2.0**-54)
            k = floor((2 * a / edge + b) * u + lam + 0.43)
            possible = (k >= 0) & ((edge >= 0.013) | (v <= edge))
            n = where(k >= 0, k, 0.0)
            below = log(v) + scale - log(a / square(edge) + b) <= n * log(lam) - lam - gammaln(n + 1)
            good = ((edge >= 0.07) & (v <= inner)) | (possible & below)
            return accepted | good, where(accepted, x, k)

        x: Tensor = while_loop(lambda value: ~value[0].all(), step, (small, _core.multiply(lam, 0.0)))[1]
        return x
