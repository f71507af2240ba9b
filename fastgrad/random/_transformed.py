"""Distributions whose numbers are functions of uniform, normal or gamma numbers, with gradients by every parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, exp, expm1, log, log1p, sqrt, where
from .._numpy.creation import floating
from .._numpy.shapes import swapaxes
from .._numpy.special import logit
from ._arguments import fitted, refuse, refuse_negative, refuse_shapes
from ._rejection import RejectionStream

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ._arguments import Size


class TransformedStream(RejectionStream):
    """A stream with draws that are transformed."""

    def logistic(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Logistic with mean loc: loc plus scale times the logarithm of the odds of a uniform number, so that gradients
        flow to loc and scale. ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.grad(lambda loc: fg.random.default_rng(0).logistic(loc, 2.0, 5).sum())(1.0)
        np.float64(5.0)
        """
        size, dtype = fitted("logistic", size, dtype, loc=loc, scale=scale)
        refuse_negative("logistic", "scale", scale)
        return _core.add(loc, _core.multiply(scale, logit(self._above_0("logistic", size, dtype))))

    def lognormal(self, mean: Any = 0.0, sigma: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """The exponential of ``normal(mean, sigma)``: gradients flow to mean and sigma. Raises ValueError for a
        negative sigma, unless it depends on the arguments of a function being traced.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).lognormal([0.0, 1.0], 0.5).shape
        (2,)
        """
        size, dtype = fitted("lognormal", size, dtype, mean=mean, sigma=sigma)
        refuse_negative("lognormal", "sigma", sigma)
        return exp(_core.add(mean, _core.multiply(sigma, self._normal("lognormal", size, dtype))))

    def rayleigh(self, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """The length of a vector of two normal numbers with mean 0 and deviation scale, to which gradients flow.
        ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).rayleigh(2.0, 3).shape
        (3,)
        """
        size, dtype = fitted("rayleigh", size, dtype, scale=scale)
        refuse_negative("rayleigh", "scale", scale)
        return _core.multiply(scale, sqrt(2 * self._exponential("rayleigh", size, dtype)))

    def weibull(self, a: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Weibull with shape a above 0 and scale 1: an exponential number to the power ``1 / a``. Gradients flow to a.

        Raises as ``standard_gamma``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).weibull([1.0, 2.0]).shape
        (2,)
        """
        refuse_shapes("weibull", a=a)
        size, dtype = fitted("weibull", size, dtype, a=a)
        return exp(_core.divide(log(self._exponential_above_0("weibull", size, dtype)), _shape_or_nan(a)))

    def pareto(self, a: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Pareto of the second kind, or Lomax, with shape a above 0: 1 more has Pareto's distribution with the least
        value 1. Gradients flow to a. Raises as ``standard_gamma``.

        >>> import fastgrad as fg
        >>> (fg.random.default_rng(0).pareto(3.0, 100) >= 0).all()
        tensor(True)
        """
        refuse_shapes("pareto", a=a)
        size, dtype = fitted("pareto", size, dtype, a=a)
        return expm1(_core.divide(self._exponential("pareto", size, dtype), _shape_or_nan(a)))

    def power(self, a: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """With the density ``a x^(a - 1)`` from 0 to 1, for a above 0: a uniform number to the power ``1 / a``.
        Gradients flow to a. Raises as ``standard_gamma``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).power(5.0, 100).max() <= 1
        tensor(True)
        """
        refuse_shapes("power", a=a)
        size, dtype = fitted("power", size, dtype, a=a)
        return exp(_core.divide(-self._exponential("power", size, dtype), _shape_or_nan(a)))

    def standard_cauchy(self, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Cauchy with median 0 and scale 1: the tangent of a uniform angle.

        >>> import fastgrad as fg
        >>> abs(fg.median(fg.random.default_rng(0).standard_cauchy(10_000))) < 0.1
        tensor(True)
        """
        return self._cauchy("standard_cauchy", *fitted("standard_cauchy", size, dtype))

    def cauchy(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Cauchy with median loc, ``loc + scale * standard_cauchy()``, so that gradients flow to loc and scale. (Not in
        NumPy.) ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).cauchy([0.0, 10.0], 2.0).shape
        (2,)
        """
        size, dtype = fitted("cauchy", size, dtype, loc=loc, scale=scale)
        refuse_negative("cauchy", "scale", scale)
        return _core.add(loc, _core.multiply(scale, self._cauchy("cauchy", size, dtype)))

    def triangular(self, left: Any, mode: Any, right: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """With a density that rises from left to mode and falls to right, by the inverse of the distribution function:
        gradients flow to all three. ``dtype`` as ``normal``.

        Raises ValueError unless left <= mode <= right and left < right, or they depend on the arguments of a function
        being traced.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).triangular(0.0, 1.0, 3.0, 100).max() <= 3
        tensor(True)
        """
        size, dtype = fitted("triangular", size, dtype, left=left, mode=mode, right=right)
        is_bad = lambda a, b, c: ~((a <= b) & (b <= c) & (a < c))
        refuse("triangular", "left <= mode <= right and left < right", is_bad, left, mode, right)
        left, mode, right = (_core.astype(_core.asarray(x), dtype) for x in (left, mode, right))
        u = self._above_0("triangular", size, dtype)
        rise, fall, width = mode - left, right - mode, right - left
        below = u * width < rise  # so that the root taken is never of 0, where its slope is infinite
        up = where(below, u * width * rise, 1.0)
        down = where(below, 1.0, (1 - u) * width * fall)
        y: Tensor = where(below, left + sqrt(up), right - sqrt(down))
        return y

    def f(self, dfnum: Any, dfden: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """F with dfnum and dfden degrees of freedom: the ratio of two chi-square numbers, each over its degrees.

        Gradients flow to both, by those of gamma numbers. Raises as ``standard_gamma``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).f(3.0, 5.0, 4).shape
        (4,)
        """
        refuse_shapes("f", dfnum=dfnum, dfden=dfden)
        size, dtype = fitted("f", size, dtype, dfnum=dfnum, dfden=dfden)
        a, b = (_core.astype(_core.multiply(df, 0.5), dtype) for df in (dfnum, dfden))
        return exp(self._log_gamma("f", a, size, dtype) - self._log_gamma("f", b, size, dtype) + (log(b) - log(a)))

    def wishart(self, df: Any, scale: Any, size: Size = None) -> Tensor:
        """Wishart matrices of shape (p, p), with df degrees of freedom, above p - 1, and a scale, a symmetric positive
        definite matrix: ``df * scale`` is the mean. (SciPy's ``wishart.rvs``; not in NumPy.)

        ``size`` is that of the result without its last two axes. df may be (...) and scale (..., p, p), which broadcast
        to each other, and to the size. By Bartlett's decomposition (Anderson, "An introduction to multivariate
        statistical analysis", 7.2): with the Cholesky factor L of scale, ``(L @ A) @ (L @ A).T``, where A has roots of
        chi-square numbers on the diagonal and normal numbers below. Gradients flow to df, by those of gamma numbers,
        and to scale. Raises ValueError for shapes that do not fit and a df that is too small, LinAlgError for a scale
        that is not positive definite.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).wishart(3.0, [[1.0, 0.5], [0.5, 2.0]], 10).shape
        (10, 2, 2)
        """
        scale = floating(scale)
        p = scale.shape[-1] if scale.ndim > 1 else 0
        if scale.shape[-2:] != (p, p) or p == 0:
            raise ValueError(f"wishart: expected a scale of shape (..., p, p), got {scale.shape}")
        is_bad = lambda x: ~((x > p - 1) & (x < math.inf))
        refuse("wishart", f"df finite and above {p - 1}, for a scale of shape {scale.shape}", is_bad, df)
        size, _ = fitted("wishart", size, scale.dtype, df=df, scale=np.broadcast_to(0, scale.shape[:-2]))
        from .._numpy.linalg import triangle_of  # with LAPACK, which the other draws do not need

        factor = triangle_of("wishart", scale, False)
        dtype = factor.dtype
        df = _core.astype(_core.asarray(df), dtype)
        halves = (df.reshape((*df.shape, 1)) - np.arange(p, dtype=dtype)) / 2
        roots = exp((self._log_gamma("wishart", halves, (*size, p), dtype) + math.log(2)) / 2)
        below = self._normal("wishart", (*size, p, p), dtype) * np.tri(p, k=-1, dtype=dtype)
        root = factor @ (below + roots.reshape((*size, p, 1)) * np.eye(p, dtype=dtype))
        y: Tensor = root @ swapaxes(root, -1, -2)
        return y

    def _exponential_above_0(self, name: str, size: tuple[int, ...], dtype: Any) -> Tensor:
        return -log1p(-self._above_0(name, size, dtype))

    def _cauchy(self, name: str, size: tuple[int, ...], dtype: Any) -> Tensor:
        return _core.tan(math.pi * (self._above_0(name, size, dtype) - 0.5))


def _shape_or_nan(a: Any) -> Any:
    """A shape; of one that is abstract, which could not be refused, nan unless it is finite and above 0."""
    if not (isinstance(a, Tensor) and _core.traced(a)):
        return a
    return where((a > 0) & (a < math.inf), a, math.nan)
