"""The distributions of ``Generator``, ``default_rng``, and ``dropout``."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, exp, log, where
from .._numpy.counting import searchsorted
from .._numpy.creation import floating
from .._numpy.indexing import take
from .._numpy.neural import softmax
from .._numpy.order import argsort
from .._numpy.sequences import cumsum
from .._numpy.shapes import moveaxis
from ._arguments import fitted, float_of, refuse, refuse_negative, refuse_shapes, refuse_tracked, shape_of
from ._counts import CountStream

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ._arguments import Size


class Generator(CountStream):
    """A stream of random numbers. Made by ``default_rng(seed)``; methods and arguments as those of NumPy's Generator.

    ``size`` is an int, a tuple of ints, or None for that of the parameters. ``dtype`` is float32 or
    float64; None is that of the parameters, and without any `fastgrad.set_default_dtype`'s, else float64. Each draw
    begins at a new block of the stream: ten draws of one number are not one draw of ten.

    Generators can be copied and pickled. Threads may share one: no two get the same numbers.

    Draws raise TypeError for a size that is no int or tuple of ints, ValueError for parameters that do not broadcast to
    it or are out of range.
    """

    # ---- draws ------------------------------------------------------------------------------------------------------
    def random(self, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Uniform in [0, 1): multiples of 2**-53 (float64) or 2**-24 (float32).

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).random((2, 3)).shape
        (2, 3)
        """
        return self._draw("random", size, float_of(dtype))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Uniform in [low, high): ``low + (high - low) * u``, so that gradients flow to low and high.

        ``dtype`` is that of u; by default that of low and high if they are float arrays, else float64. Raises
        ValueError where low is above high, unless they depend on the arguments of a function being traced.

        >>> import fastgrad as fg
        >>> fg.grad(lambda high: fg.random.default_rng(0).uniform(0.0, high, 1000).mean())(2.0).round(1)
        np.float64(0.5)
        """
        size, dtype = fitted("uniform", size, dtype, low=low, high=high)
        plain = isinstance(low, (int, float)) and isinstance(high, (int, float))
        width = high - low if plain else _core.subtract(high, low)
        refuse_negative("uniform", "high - low", width)
        return _core.add(low, _core.multiply(width, self._draw("uniform", size, dtype)))

    def standard_normal(self, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Normal with mean 0 and deviation 1, by the method of Box and Muller (1958).

        No value is beyond 8.6 (float64) or 5.8 (float32), where the tails hold 1e-17 and 1e-8.

        >>> import fastgrad as fg
        >>> abs(fg.random.default_rng(0).standard_normal(1000).mean()) < 0.1
        tensor(True)
        """
        return self._normal("standard_normal", size, float_of(dtype))

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Normal with mean loc and deviation scale: ``loc + scale * z``, so that gradients flow to loc and scale.

        ``dtype`` is that of z; by default that of loc and scale if they are float arrays, else float64. Raises
        ValueError for a negative scale, unless it depends on the arguments of a function being traced.

        >>> import fastgrad as fg
        >>> rng = fg.random.default_rng(0)
        >>> fg.grad(lambda loc: rng.normal(loc, 2.0, 5).sum())(1.0)
        np.float64(5.0)
        """
        size, dtype = fitted("normal", size, dtype, loc=loc, scale=scale)
        refuse_negative("normal", "scale", scale)
        return _core.add(loc, _core.multiply(scale, self._normal("normal", size, dtype)))

    def standard_exponential(self, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Exponential with mean 1: ``-log(1 - u)``.

        >>> import fastgrad as fg
        >>> (fg.random.default_rng(0).standard_exponential(100) >= 0).all()
        tensor(True)
        """
        return self._exponential("standard_exponential", size, float_of(dtype))

    def exponential(self, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Exponential with mean scale, to which gradients flow. ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).exponential([1.0, 2.0]).shape
        (2,)
        """
        size, dtype = fitted("exponential", size, dtype, scale=scale)
        refuse_negative("exponential", "scale", scale)
        return _core.multiply(scale, self._exponential("exponential", size, dtype))

    def bernoulli(self, p: Any = 0.5, size: Size = None) -> Tensor:
        """Booleans that are true with probability p. (Not in NumPy.)

        Not differentiable: TypeError where p requires gradients, ValueError where it is not from 0 to 1.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).bernoulli([0.0, 1.0])
        tensor([False,  True])
        """
        if isinstance(p, Tensor) and p.requires_grad:
            raise TypeError("bernoulli: p requires gradients, which end at a yes or no; pass p.detach()")
        size, dtype = fitted("bernoulli", size, None, p=p)
        if not (isinstance(p, Tensor) and _core.traced(p)) and not np.all((np.asarray(p) >= 0) & (np.asarray(p) <= 1)):
            raise ValueError(f"bernoulli: expected p from 0 to 1, got {p!r}")
        true: Tensor = self._draw("bernoulli", size, dtype) < p
        return true

    def integers(self, low: int, high: int | None = None, size: Size = None, *, endpoint: bool = False) -> Tensor:
        """Integers (int64) from low, or from 0 if only one bound is given, up to but not including high.

        The bounds are ints, at most 2**32 apart: then no integer is likelier than another by more than 2**-21 of its
        probability. ``endpoint`` includes high.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).integers(3, size=100).max()
        tensor(2)
        """
        if high is None:
            low, high = 0, low
        for bound in (low, high):
            if isinstance(bound, bool) or not hasattr(type(bound), "__index__"):
                raise TypeError(f"integers: expected the bounds as ints, got {bound!r}")
        low, high = operator.index(low), operator.index(high) + endpoint
        if not 0 < high - low <= 2**32 or not -(2**63) <= low <= high <= 2**63:
            raise ValueError(
                f"integers: expected bounds of int64 with 1 to 2**32 integers between them, got {high - low} from {low}"
            )
        return _core.random_draw(self._state, shape_of("integers", size), np.int64, "integers", low, high - low)

    def laplace(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Laplace with mean loc and deviation ``scale * sqrt(2)``: loc plus scale times the difference of two
        exponential numbers, so that gradients flow to loc and scale. ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).laplace([0.0, 10.0], 2.0).shape
        (2,)
        """
        size, dtype = fitted("laplace", size, dtype, loc=loc, scale=scale)
        refuse_negative("laplace", "scale", scale)
        first, second = (self._exponential("laplace", size, dtype) for _ in range(2))
        return _core.add(loc, _core.multiply(scale, first - second))

    def gumbel(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Gumbel with mode loc: loc minus scale times the logarithm of an exponential number, so that gradients flow to
        loc and scale. ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.grad(lambda loc: fg.random.default_rng(0).gumbel(loc, 2.0, 5).sum())(1.0)
        np.float64(5.0)
        """
        size, dtype = fitted("gumbel", size, dtype, loc=loc, scale=scale)
        refuse_negative("gumbel", "scale", scale)
        return _core.add(loc, _core.multiply(scale, self._gumbel("gumbel", size, dtype)))

    def multivariate_normal(self, mean: Any, cov: Any, size: Size = None) -> Tensor:
        """Normal vectors of shape (d,) with a mean and a covariance: ``mean + L @ z`` with the Cholesky factor L.

        ``size`` is that of the result without its last axis. mean may be (..., d) and cov (..., d, d), which broadcast
        to each other, and to the size. Gradients flow to both; that by cov is symmetric, as that of
        ``fastgrad.linalg.cholesky``. Raises ValueError for shapes that do not fit, LinAlgError for a covariance that
        is not positive definite.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).multivariate_normal([0.0, 1.0], [[1.0, 0.5], [0.5, 2.0]], 10).shape
        (10, 2)
        """
        mean, cov = floating(mean), floating(cov)
        d = mean.shape[-1] if mean.ndim else 0
        if mean.ndim == 0 or cov.shape[-2:] != (d, d):
            raise ValueError(f"multivariate_normal: expected a mean of shape (..., d) and a covariance of shape "
                             f"(..., d, d), got {mean.shape} and {cov.shape}")  # fmt: skip
        stacks = {"mean": np.broadcast_to(0, mean.shape[:-1]), "cov": np.broadcast_to(0, cov.shape[:-2])}
        size, _ = fitted("multivariate_normal", size, mean.dtype, **stacks)
        from .._numpy.linalg import triangle_of  # with LAPACK, which the other draws do not need

        factor = triangle_of("multivariate_normal", cov, False)
        z = self._normal("multivariate_normal", (*size, d, 1), factor.dtype)
        y: Tensor = mean + (factor @ z)[..., 0]
        return y

    def truncated_normal(self, lower: Any, upper: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Normal with mean 0 and deviation 1, given that it is from lower to upper. (Not in NumPy.)

        By the inverse of the distribution function, ``fastgrad.stats.truncnorm.ppf``, so that gradients flow to lower
        and upper, and limited to them, which may be far out or infinite. ``dtype`` as ``normal``. Raises ValueError
        unless lower is below upper, or they depend on the arguments of a function being traced.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).truncated_normal(2.0, 3.0, 1000).min() >= 2.0
        tensor(True)
        """
        from ..stats import truncnorm  # only this needs it

        size, dtype = fitted("truncated_normal", size, dtype, lower=lower, upper=upper)
        refuse("truncated_normal", "lower below upper", lambda a, b: ~(a < b), lower, upper)
        u = self._above_0("truncated_normal", size, dtype)
        x = truncnorm.ppf(u, lower, upper)
        return where(x < lower, lower, where(x > upper, upper, x))

    # ---- choices ----------------------------------------------------------------------------------------------------
    def categorical(self, logits: Any, axis: int = -1, size: Size = None) -> Tensor:
        """Indices (int64) along an axis of logits, with probabilities ``softmax(logits)``. (As JAX's; not in NumPy.)

        ``size`` is that of the result; by default that of logits without the axis, which must broadcast to it. A logit
        of -inf is never chosen. By the index of the largest sum of logit and Gumbel number (Maddison, Tarlow and Minka,
        "A* sampling", 2014). Raises TypeError where logits require gradients; ValueError for nan or inf, and where all
        are -inf, unless they depend on the arguments of a function being traced.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).categorical([0.0, -float("inf")], size=3)
        tensor([0, 0, 0])
        """
        refuse_tracked("categorical", "logits", logits, "end at an index")
        logits = floating(logits)
        if logits.ndim == 0 or not -logits.ndim <= operator.index(axis) < logits.ndim:
            raise ValueError(f"categorical: logits of shape {logits.shape} have no axis {axis}")
        logits = moveaxis(logits, axis, -1)
        n = logits.shape[-1]
        if n == 0:
            raise ValueError("categorical: there are no categories to choose from")
        none_to_choose = lambda x: ~((x < math.inf).all(-1) & (x > -math.inf).any(-1))  # nan is not below
        refuse("categorical", "logits below inf, and in each row one above -inf", none_to_choose, logits)
        size, _ = fitted("categorical", size, logits.dtype, logits=np.broadcast_to(0, logits.shape[:-1]))
        chosen: Tensor = (logits + self._gumbel("categorical", (*size, n), logits.dtype)).argmax(-1)
        return chosen

    def permutation(self, x: Any, axis: int = 0) -> Tensor:
        """The integers below x in random order, or an array shuffled along an axis, as ``take`` does it: gradients flow
        to an array. The order is that which sorts as many uniform numbers.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).permutation(5).sum()
        tensor(10)
        """
        if isinstance(x, (int, np.integer)) and not isinstance(x, bool):
            return self._order("permutation", shape_of("permutation", x)[0])
        x = _core.asarray(x)
        if x.ndim == 0 or not -x.ndim <= operator.index(axis) < x.ndim:
            raise ValueError(f"permutation: expected an int, or an array with an axis {axis}, got the shape {x.shape}")
        return take(x, self._order("permutation", x.shape[axis]), axis)

    def choice(self, a: Any, size: Size = None, replace: bool = True, p: Any = None, axis: int = 0) -> Tensor:
        """Elements of a along an axis, or integers below a, each as likely as another or with probabilities p.

        Without ``replace`` none is chosen twice. Then, with p, elements are those with the largest sums of log p and
        Gumbel numbers, in that order, which is that of drawing one after another (Kool, van Hoof and Welling,
        "Stochastic beams and where to find them", 2019). The size of the result takes the place of the axis. Gradients
        flow to an array a.

        Raises ValueError for an empty a, a p of another length, that is negative or does not sum to 1 (unless it
        depends on the arguments of a function being traced), or a size that is more than there is; TypeError where p
        requires gradients.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).choice([10.0, 20.0], 3, p=[0.0, 1.0])
        tensor([20., 20., 20.])
        """
        is_int = isinstance(a, (int, np.integer)) and not isinstance(a, bool)
        a = a if is_int else _core.asarray(a)
        if not is_int and (a.ndim == 0 or not -a.ndim <= operator.index(axis) < a.ndim):
            raise ValueError(f"choice: expected an int, or an array with an axis {axis}, got the shape {a.shape}")
        n, shape = int(a) if is_int else a.shape[axis], shape_of("choice", size)
        wanted = math.prod(shape)
        if n < 1:
            raise ValueError(f"choice: expected at least 1 element to choose from, got {n}")
        if not replace and wanted > n:
            raise ValueError(f"choice: expected a size of at most {n} without replacement, got {wanted}")
        if p is not None:
            p = self._probabilities(p, n, 1 if replace else wanted)
        if not replace:
            order = self._order("choice", n) if p is None else argsort(-log(p) - self._gumbel("choice", n, p.dtype))
            indices = order[:wanted].reshape(shape)
        elif p is None:
            indices = self.integers(n, size=shape)
        else:
            ends = cumsum(p)
            indices = searchsorted(ends / ends[-1], self._draw("choice", shape, p.dtype), side="right")
        return indices if is_int else take(a, indices, axis)

    # ---- by rejection -----------------------------------------------------------------------------------------------
    def standard_gamma(self, shape: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Gamma with a shape parameter above 0 and scale 1.

        A gamma number of the shape ``shape + 1``, by the method of Marsaglia and Tsang, "A simple method for generating
        gamma variables" (2000), times a uniform number to the power ``1 / shape``. It may round to 0 for shapes below
        0.02.

        Gradients flow to the shape by implicit differentiation of the distribution function (Figurnov, Mohamed and
        Mnih, "Implicit reparameterization gradients", 2018), to any order. Raises ValueError as ``normal``, and for a
        shape that is not finite and above 0.

        >>> import fastgrad as fg
        >>> fg.grad(lambda a: fg.random.default_rng(0).standard_gamma(a, 10_000).mean())(3.0).round(1)
        np.float64(1.0)
        """
        refuse_shapes("standard_gamma", shape=shape)
        size, dtype = fitted("standard_gamma", size, dtype, shape=shape)
        return exp(self._log_gamma("standard_gamma", shape, size, dtype))

    def gamma(self, shape: Any, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Gamma with a shape parameter and a scale, ``scale * standard_gamma(shape)``: gradients flow to both.

        Raises as ``standard_gamma`` and ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).gamma([1.0, 2.0], 3.0).shape
        (2,)
        """
        refuse_shapes("gamma", shape=shape)
        size, dtype = fitted("gamma", size, dtype, shape=shape, scale=scale)
        refuse_negative("gamma", "scale", scale)
        return _core.multiply(scale, exp(self._log_gamma("gamma", shape, size, dtype)))

    def chisquare(self, df: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Chi-square with df degrees of freedom, ``2 * standard_gamma(df / 2)``: gradients flow to df.

        Raises as ``standard_gamma``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).chisquare([1.0, 5.0]).shape
        (2,)
        """
        refuse_shapes("chisquare", df=df)
        size, dtype = fitted("chisquare", size, dtype, df=df)
        return 2 * exp(self._log_gamma("chisquare", _core.multiply(df, 0.5), size, dtype))

    def standard_t(self, df: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Student's t with df degrees of freedom: a normal number over the root of a chi-square number divided by df.

        Gradients flow to df. Raises as ``standard_gamma``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).standard_t(5.0, 3).shape
        (3,)
        """
        refuse_shapes("standard_t", df=df)
        size, dtype = fitted("standard_t", size, dtype, df=df)
        half = _core.astype(_core.multiply(df, 0.5), dtype)
        z = self._normal("standard_t", size, dtype)
        return z * exp(0.5 * (log(half) - self._log_gamma("standard_t", half, size, dtype)))

    def beta(self, a: Any, b: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Beta with parameters above 0: ``x / (x + y)`` of two gamma numbers, from their logarithms.

        Gradients flow to a and b, by those of the gamma numbers. Raises as ``standard_gamma``.

        >>> import fastgrad as fg
        >>> 0 <= fg.random.default_rng(0).beta(1e-3, 1e-3) <= 1
        tensor(True)
        """
        refuse_shapes("beta", a=a, b=b)
        size, dtype = fitted("beta", size, dtype, a=a, b=b)
        x = self._log_gamma("beta", a, size, dtype)
        return _core.sigmoid(x - self._log_gamma("beta", b, size, dtype))

    def dirichlet(self, alpha: Any, size: Size = None) -> Tensor:
        """Parts of 1, in the last axis, with parameters alpha above 0 in its last axis: gamma numbers over their sum.

        ``size`` is that of the result without its last axis. Gradients flow to alpha, by those of the gamma numbers.
        Raises as ``standard_gamma``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).dirichlet([1.0, 2.0, 3.0], 4).shape
        (4, 3)
        """
        alpha = floating(alpha)
        refuse_shapes("dirichlet", alpha=alpha)
        if alpha.ndim == 0:
            raise ValueError("dirichlet: expected alpha of shape (..., k), got a number")
        size, dtype = fitted("dirichlet", size, alpha.dtype, alpha=np.broadcast_to(0, alpha.shape[:-1]))
        return softmax(self._log_gamma("dirichlet", alpha, (*size, alpha.shape[-1]), dtype), axis=-1)

    def _probabilities(self, p: Any, n: int, least: int) -> Tensor:
        refuse_tracked("choice", "p", p, "end at an index")
        given: Tensor = floating(p)
        if given.shape != (n,):
            raise ValueError(f"choice: expected p of shape ({n},), got {given.shape}")
        if not _core.traced(given):
            known = given.numpy().astype(np.float64)
            if not (known >= 0).all() or abs(known.sum() - 1) > 1e-6:
                raise ValueError(f"choice: expected probabilities of 0 or more that sum to 1, got {p!r}")
            if np.count_nonzero(known) < least:
                raise ValueError(f"choice: expected at least {least} probabilities that are not 0, got {p!r}")
        return given


def default_rng(seed: Any = None) -> Generator:
    """A generator from a seed: None for one of the operating system's, an int or several of 0 or more, a NumPy
    SeedSequence, or a Generator, which is returned as it is.

    >>> import fastgrad as fg
    >>> rng = fg.random.default_rng(0)
    >>> f = fg.compile(lambda x: x + rng.random())
    >>> f(0.0) == f(0.0)
    np.False_
    """
    return seed if isinstance(seed, Generator) else Generator(seed)


def dropout(x: Any, rate: float, rng: Generator) -> Tensor:
    """x with elements set to 0 with probability ``rate``, the others divided by ``1 - rate`` (inverted dropout).

    Parameters
    ----------
    x : tensor or array_like
        Any shape, of a float dtype; gradients flow to the elements that are kept.
    rate : float
        From 0 up to but not including 1. With 0 nothing is drawn.
    rng : Generator
        Of ``fastgrad.random.default_rng``. A compiled function draws from it anew at every call.

    Raises TypeError for another generator, ValueError for a rate out of range.

    Source: Srivastava and others, "Dropout: a simple way to prevent neural networks from overfitting" (2014).

    >>> import fastgrad as fg
    >>> fg.dropout(fg.ones(4), 0.5, fg.random.default_rng(0)).tolist()
    [0.0, 2.0, 0.0, 0.0]
    """
    if not isinstance(rng, Generator):
        raise TypeError(
            f"dropout: expected rng as a fastgrad.random.Generator, got {type(rng).__module__}."
            f"{type(rng).__name__}; make one by fastgrad.random.default_rng(seed)"
        )
    if isinstance(rate, Tensor) or not 0 <= rate < 1:
        raise ValueError(f"dropout: expected a rate from 0 up to but not including 1, got {rate!r}")
    operand: Tensor = floating(x)
    if rate == 0:
        return operand
    kept = rng.random(operand.shape, operand.dtype) >= rate
    return _core.where(kept, operand * (1 / (1 - rate)), 0.0)
