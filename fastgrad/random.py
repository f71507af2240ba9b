"""Random numbers as tensors, drawn afresh by every replay of a compiled function.

The generator is Philox4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a function
of a key and a counter. There is one operation, numbers uniform in [0, 1), which advances the counter; everything else
is composed of it and differentiable operations. A draw itself is a constant: gradients flow to locations and scales, to
the means and covariances of ``multivariate_normal`` and the bounds of ``truncated_normal``. Where a parameter has no
gradient, one that requires gradients is refused.

Methods that reject draws run in a ``while_loop`` until every number is accepted, with the draws within, so that they
compile.

While a function is traced its draws become instructions and consume nothing, so that from one seed eager calls and
replays have the same draws in the same order. A program keeps draws that no result needs. The uniform numbers have the
same bits with every instruction set; those computed from them differ by rounding, as logarithm and cosine do.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._control_flow.api import while_loop
from ._core import Tensor, exp, floor, log, sqrt, square, where
from ._numpy.counting import searchsorted
from ._numpy.creation import floating
from ._numpy.indexing import take
from ._numpy.neural import softmax
from ._numpy.order import argsort
from ._numpy.sequences import cumsum
from ._numpy.shapes import moveaxis
from ._numpy.special import gammaln

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    Size = int | tuple[int, ...] | None

__all__ = ["Generator", "default_rng", "dropout"]

_METHOD = "Philox4x32-10"
_MOST_CHILDREN = 10_000_000  # that one call of spawn makes, in about a minute
_WORDS = ("key", "stream", "position")


class Generator:
    """A stream of random numbers. Made by ``default_rng(seed)``; methods and arguments as those of NumPy's Generator.

    ``size`` is an int, a tuple of ints, or None for that of the parameters. ``dtype`` is float32 or float64. Each draw
    begins at a new block of the stream: ten draws of one number are not one draw of ten.

    Generators can be copied and pickled. Threads may share one: no two get the same numbers.

    Draws raise TypeError for a size that is no int or tuple of ints, ValueError for parameters that do not broadcast to
    it or are out of range.
    """

    def __init__(self, seed: Any = None) -> None:
        _core.refuse_traced_effect("a generator was made", "Make it outside the function, which then draws from it")
        self._seed = _sequence(seed)
        self._state = _core.random_state([*self._seed.generate_state(2, np.uint64), 0])

    # ---- state ------------------------------------------------------------------------------------------------------
    @property
    def state(self) -> dict[str, Any]:
        """Where in which stream the generator is: a dict that can be assigned to go back there.

        >>> import fastgrad as fg
        >>> rng = fg.random.default_rng(0)
        >>> state, a = rng.state, rng.random()
        >>> rng.state = state
        >>> rng.random() == a
        tensor(True)
        """
        _core.refuse_traced_effect("the state of a generator was asked for", "Ask for it outside the function")
        return {"bit_generator": _METHOD, **dict(zip(_WORDS, _core.random_words(self._state).tolist()))}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        _core.refuse_traced_effect("the state of a generator was set", "Set it outside the function")
        if not isinstance(state, dict) or state.get("bit_generator") != _METHOD or not set(_WORDS) <= set(state):
            raise ValueError(f"random: expected the state of another fastgrad.random.Generator, got {state!r}")
        words = [state[word] for word in _WORDS]
        for name, word in zip(_WORDS, words):
            if not isinstance(word, (int, np.integer)) or not 0 <= word < 2**64:
                raise ValueError(f"random: expected the state's {name} as an int from 0 to 2**64 - 1, got {word!r}")
        _core.random_words(self._state)[...] = np.array(words, np.uint64)

    def spawn(self, n_children: int) -> list[Generator]:
        """Independent generators, others with each call; they follow from the seed and not from what was drawn.

        >>> import fastgrad as fg
        >>> len(fg.random.default_rng(0).spawn(2))
        2
        """
        _core.refuse_traced_effect("generators were spawned", "Spawn them outside the function")
        if not 0 <= operator.index(n_children) <= _MOST_CHILDREN:
            raise ValueError(f"spawn: expected from 0 to {_MOST_CHILDREN:,} children, got {n_children}")
        return [Generator(seed) for seed in self._seed.spawn(n_children)]

    def jumped(self, jumps: int = 1) -> Generator:
        """A copy further on by ``jumps`` times 2**64 blocks, farther than any number of draws.

        >>> import fastgrad as fg
        >>> rng = fg.random.default_rng(0)
        >>> rng.jumped().random() == rng.random()
        tensor(False)
        """
        state = self.state
        state["stream"] = (state["stream"] + operator.index(jumps)) % 2**64
        return _restored(state, self._seed)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.state, self._seed)

    def __repr__(self) -> str:
        return f"Generator({_METHOD})"

    # ---- draws ------------------------------------------------------------------------------------------------------
    def random(self, size: Size = None, dtype: DTypeLike = np.float64) -> Tensor:
        """Uniform in [0, 1): multiples of 2**-53 (float64) or 2**-24 (float32).

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).random((2, 3)).shape
        (2, 3)
        """
        return self._draw("random", size, dtype)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Uniform in [low, high): ``low + (high - low) * u``, so that gradients flow to low and high.

        ``dtype`` is that of u; by default that of low and high if they are float arrays, else float64. Raises
        ValueError where low is above high, unless they depend on the arguments of a function being traced.

        >>> import fastgrad as fg
        >>> fg.grad(lambda high: fg.random.default_rng(0).uniform(0.0, high, 1000).mean())(2.0).round(1)
        np.float64(0.5)
        """
        size, dtype = _fitted("uniform", size, dtype, low=low, high=high)
        plain = isinstance(low, (int, float)) and isinstance(high, (int, float))
        width = high - low if plain else _core.subtract(high, low)
        _refuse_negative("uniform", "high - low", width)
        return _core.add(low, _core.multiply(width, self._draw("uniform", size, dtype)))

    def standard_normal(self, size: Size = None, dtype: DTypeLike = np.float64) -> Tensor:
        """Normal with mean 0 and deviation 1, by the method of Box and Muller (1958).

        No value is beyond 8.6 (float64) or 5.8 (float32), where the tails hold 1e-17 and 1e-8.

        >>> import fastgrad as fg
        >>> abs(fg.random.default_rng(0).standard_normal(1000).mean()) < 0.1
        tensor(True)
        """
        return self._normal("standard_normal", size, dtype)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Normal with mean loc and deviation scale: ``loc + scale * z``, so that gradients flow to loc and scale.

        ``dtype`` is that of z; by default that of loc and scale if they are float arrays, else float64. Raises
        ValueError for a negative scale, unless it depends on the arguments of a function being traced.

        >>> import fastgrad as fg
        >>> rng = fg.random.default_rng(0)
        >>> fg.grad(lambda loc: rng.normal(loc, 2.0, 5).sum())(1.0)
        np.float64(5.0)
        """
        size, dtype = _fitted("normal", size, dtype, loc=loc, scale=scale)
        _refuse_negative("normal", "scale", scale)
        return _core.add(loc, _core.multiply(scale, self._normal("normal", size, dtype)))

    def standard_exponential(self, size: Size = None, dtype: DTypeLike = np.float64) -> Tensor:
        """Exponential with mean 1: ``-log(1 - u)``.

        >>> import fastgrad as fg
        >>> (fg.random.default_rng(0).standard_exponential(100) >= 0).all()
        tensor(True)
        """
        return self._exponential("standard_exponential", size, dtype)

    def exponential(self, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Exponential with mean scale, to which gradients flow. ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).exponential([1.0, 2.0]).shape
        (2,)
        """
        size, dtype = _fitted("exponential", size, dtype, scale=scale)
        _refuse_negative("exponential", "scale", scale)
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
        size, dtype = _fitted("bernoulli", size, None, p=p)
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
        return _core.random_draw(self._state, _shape("integers", size), np.int64, "integers", low, high - low)

    def laplace(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Laplace with mean loc and deviation ``scale * sqrt(2)``: loc plus scale times the difference of two
        exponential numbers, so that gradients flow to loc and scale. ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).laplace([0.0, 10.0], 2.0).shape
        (2,)
        """
        size, dtype = _fitted("laplace", size, dtype, loc=loc, scale=scale)
        _refuse_negative("laplace", "scale", scale)
        first, second = (self._exponential("laplace", size, dtype) for _ in range(2))
        return _core.add(loc, _core.multiply(scale, first - second))

    def gumbel(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Gumbel with mode loc: loc minus scale times the logarithm of an exponential number, so that gradients flow to
        loc and scale. ``dtype`` and errors as ``normal``.

        >>> import fastgrad as fg
        >>> fg.grad(lambda loc: fg.random.default_rng(0).gumbel(loc, 2.0, 5).sum())(1.0)
        np.float64(5.0)
        """
        size, dtype = _fitted("gumbel", size, dtype, loc=loc, scale=scale)
        _refuse_negative("gumbel", "scale", scale)
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
        size, _ = _fitted("multivariate_normal", size, mean.dtype, **stacks)
        from ._numpy.linalg import cholesky  # with LAPACK, which the other draws do not need

        factor = cholesky(cov)
        z = self._normal("multivariate_normal", (*size, d, 1), factor.dtype)
        y: Tensor = mean + (factor @ z)[..., 0]
        return y

    def truncated_normal(self, lower: Any, upper: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Normal with mean 0 and deviation 1, given that it is from lower to upper. (Not in NumPy.)

        By the inverse of the distribution function, ``fastgrad.stats.truncnorm.ppf``, so that gradients flow to lower
        and upper, and limited to them. The bound nearer to 0 must be within 37 of it, in float32 within 12.
        ``dtype`` as ``normal``. Raises ValueError unless lower is below upper, or where both are too far out, unless
        they depend on the arguments of a function being traced.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).truncated_normal(2.0, 3.0, 1000).min() >= 2.0
        tensor(True)
        """
        from .stats import truncnorm  # only this needs it

        size, dtype = _fitted("truncated_normal", size, dtype, lower=lower, upper=upper)
        _refuse("truncated_normal", "lower below upper", lambda a, b: ~(a < b), lower, upper)
        far = 37 if dtype == np.float64 else 12
        _refuse("truncated_normal", f"a bound within {far} of 0", lambda a, b: (a > far) | (b < -far), lower, upper)
        u = self._draw("truncated_normal", size, dtype)
        x = truncnorm.ppf(u, lower, upper)
        return where(x < lower, lower, where(x > upper, upper, x))

    # ---- choices ----------------------------------------------------------------------------------------------------
    def categorical(self, logits: Any, axis: int = -1, size: Size = None) -> Tensor:
        """Indices (int64) along an axis of logits, with probabilities ``softmax(logits)``. (As JAX's; not in NumPy.)

        ``size`` is that of the result; by default that of logits without the axis, which must broadcast to it. A logit
        of -inf is never chosen. By the index of the largest sum of logit and Gumbel number (Maddison, Tarlow and Minka,
        "A* sampling", 2014). Raises TypeError where logits require gradients.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).categorical([0.0, -float("inf")], size=3)
        tensor([0, 0, 0])
        """
        _refuse_tracked("categorical", "logits", logits, "end at an index")
        logits = floating(logits)
        if logits.ndim == 0 or not -logits.ndim <= operator.index(axis) < logits.ndim:
            raise ValueError(f"categorical: logits of shape {logits.shape} have no axis {axis}")
        logits = moveaxis(logits, axis, -1)
        n = logits.shape[-1]
        if n == 0:
            raise ValueError("categorical: there are no categories to choose from")
        size, _ = _fitted("categorical", size, logits.dtype, logits=np.broadcast_to(0, logits.shape[:-1]))
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
            return self._order("permutation", _shape("permutation", x)[0])
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
        n, shape = int(a) if is_int else a.shape[axis], _shape("choice", size)
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
        Raises TypeError where the shape requires gradients, and as ``normal``.

        >>> import fastgrad as fg
        >>> abs(fg.random.default_rng(0).standard_gamma(3.0, 10_000).mean() - 3.0) < 0.1
        tensor(True)
        """
        _refuse_shapes("standard_gamma", shape=shape)
        size, dtype = _fitted("standard_gamma", size, dtype, shape=shape)
        return exp(self._log_gamma("standard_gamma", shape, size, dtype))

    def gamma(self, shape: Any, scale: Any = 1.0, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Gamma with a shape parameter and a scale, to which gradients flow: ``scale * standard_gamma(shape)``. Raises
        TypeError where the shape requires gradients, and as ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).gamma([1.0, 2.0], 3.0).shape
        (2,)
        """
        _refuse_shapes("gamma", shape=shape)
        size, dtype = _fitted("gamma", size, dtype, shape=shape, scale=scale)
        _refuse_negative("gamma", "scale", scale)
        return _core.multiply(scale, exp(self._log_gamma("gamma", shape, size, dtype)))

    def beta(self, a: Any, b: Any, size: Size = None, dtype: DTypeLike | None = None) -> Tensor:
        """Beta with parameters above 0: ``x / (x + y)`` of two gamma numbers, from their logarithms.

        Raises TypeError where a or b requires gradients, and as ``normal``.

        >>> import fastgrad as fg
        >>> 0 <= fg.random.default_rng(0).beta(1e-3, 1e-3) <= 1
        tensor(True)
        """
        _refuse_shapes("beta", a=a, b=b)
        size, dtype = _fitted("beta", size, dtype, a=a, b=b)
        x = self._log_gamma("beta", a, size, dtype)
        return _core.sigmoid(x - self._log_gamma("beta", b, size, dtype))

    def dirichlet(self, alpha: Any, size: Size = None) -> Tensor:
        """Parts of 1, in the last axis, with parameters alpha above 0 in its last axis: gamma numbers over their sum.

        ``size`` is that of the result without its last axis. Raises TypeError where alpha requires gradients, and
        as ``normal``.

        >>> import fastgrad as fg
        >>> fg.random.default_rng(0).dirichlet([1.0, 2.0, 3.0], 4).shape
        (4, 3)
        """
        _refuse_shapes("dirichlet", alpha=alpha)
        alpha = floating(alpha)
        if alpha.ndim == 0:
            raise ValueError("dirichlet: expected alpha of shape (..., k), got a number")
        size, dtype = _fitted("dirichlet", size, alpha.dtype, alpha=np.broadcast_to(0, alpha.shape[:-1]))
        return softmax(self._log_gamma("dirichlet", alpha, (*size, alpha.shape[-1]), dtype), axis=-1)

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
        _refuse_tracked("poisson", "lam", lam, "end at an integer")
        size, _ = _fitted("poisson", size, None, lam=lam)
        _refuse("poisson", "lam from 0 to 1e12", lambda x: ~((x >= 0) & (x <= 1e12)), lam)
        lam = _core.minimum(_core.broadcast_to(_core.astype(_core.asarray(lam), np.float64), size), 1e12)
        k = where(lam <= 10, self._small_poisson(lam), self._large_poisson(lam))
        return _core.astype(where(lam >= 0, k, -1.0), np.int64)

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

    def _log_gamma(self, name: str, shape: Any, size: tuple[int, ...], dtype: Any) -> Tensor:
        """Logarithms of gamma numbers, which are finite for every shape."""
        a = _core.broadcast_to(_core.astype(_core.asarray(shape), dtype), size)
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
        return log(d) + log_v - self._exponential(name, size, dtype) / a

    def _probabilities(self, p: Any, n: int, least: int) -> Tensor:
        _refuse_tracked("choice", "p", p, "end at an index")
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

    def _order(self, name: str, n: int) -> Tensor:
        return argsort(self._draw(name, n, np.float64), kind="stable")

    def _gumbel(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        least = 2.0**-54 if np.dtype(dtype) == np.float64 else 2.0**-25  # in the place of 0, whose logarithm is -inf
        return -log(-_core.log1p(-_core.maximum(self._draw(name, size, dtype), least)))

    def _draw(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        return _core.random_draw(self._state, _shape(name, size), dtype, name)

    def _normal(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        shape = _shape(name, size)
        n = math.prod(shape)
        half = (n + 1) // 2
        radius = _core.sqrt(-2.0 * _core.log(1.0 - self._draw(name, half, dtype)))  # 1 - u is never 0
        angle = 2 * math.pi * self._draw(name, half, dtype)
        both = _core.concatenate([radius * _core.cos(angle), radius * _core.sin(angle)])
        return _core.reshape(both if n % 2 == 0 else both[:n], shape)

    def _exponential(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        return -_core.log(1.0 - self._draw(name, size, dtype))


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
    kept = rng._draw("dropout", operand.shape, operand.dtype) >= rate
    return _core.where(kept, operand * (1 / (1 - rate)), 0.0)


def _sequence(seed: Any) -> np.random.SeedSequence:
    if isinstance(seed, np.random.SeedSequence):
        return seed
    items = seed if isinstance(seed, (tuple, list)) else () if seed is None else (seed,)
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (int, np.integer)):
            raise TypeError(f"default_rng: expected the seed as None, an int or a sequence of ints, got {seed!r}")
        if item < 0:
            raise ValueError(f"default_rng: expected a seed of 0 or more, got {seed!r}")
    return np.random.SeedSequence(seed)


def _restored(state: dict[str, Any], seed: np.random.SeedSequence) -> Generator:
    rng = Generator(seed)
    rng.state = state
    return rng


def _shape(name: str, size: Any) -> tuple[int, ...]:
    try:
        shape = () if size is None else tuple(map(operator.index, size if isinstance(size, (tuple, list)) else (size,)))
    except TypeError as error:
        if isinstance(error, _core.TraceError):
            raise
        raise TypeError(f"{name}: expected a size as an int or a tuple of ints, got {size!r}") from None
    if min(shape, default=0) < 0:
        raise ValueError(f"{name}: expected lengths that are 0 or more, got the size {size!r}")
    return shape


def _fitted(name: str, size: Any, dtype: Any, **parameters: Any) -> tuple[tuple[int, ...], Any]:
    """The size and dtype of a draw for these parameters, to which they must broadcast."""
    arrays = [p if isinstance(p, (Tensor, np.ndarray, np.generic)) else np.asarray(p) for p in parameters.values()]
    shapes = [a.shape for a in arrays]
    try:
        together = np.broadcast_shapes(*shapes)
        fits = size is None or np.broadcast_shapes(together, _shape(name, size)) == _shape(name, size)
    except ValueError:
        fits = False
    if not fits:
        named = " and ".join(f"{k} {s}" for k, s in zip(parameters, shapes))
        target = "" if size is None else f" to the size {size}"
        raise ValueError(f"{name}: the shapes of {named} do not broadcast{target}")
    if dtype is None:
        strong = [a.dtype for a, p in zip(arrays, parameters.values()) if not isinstance(p, (int, float, list, tuple))]
        dtype = np.result_type(*strong) if strong and all(d.kind == "f" for d in strong) else np.float64
    return together if size is None else _shape(name, size), dtype


def _refuse_tracked(name: str, what: str, value: Any, why: str) -> None:
    """Raise TypeError where a value requires gradients, which would silently be 0."""
    if isinstance(value, Tensor) and value.requires_grad:
        raise TypeError(f"{name}: {what} requires gradients, which {why}; pass {what}.detach()")


def _refuse_shapes(name: str, **shapes: Any) -> None:
    """Raise where a shape parameter of a gamma distribution requires gradients or is out of range."""
    for what, value in shapes.items():
        _refuse_tracked(name, what, value, "have no way through a draw by rejection")
        _refuse(name, f"{what} finite and above 0", lambda x: ~((x > 0) & (x < math.inf)), value)


def _refuse(name: str, expected: str, is_bad: Any, *values: Any) -> None:
    """Raise ValueError where values are out of range, unless one of them is abstract."""
    if any(isinstance(value, Tensor) and _core.traced(value) for value in values):
        return
    known = [v.detach().numpy() if isinstance(v, Tensor) else np.asarray(v) for v in values]
    if np.any(is_bad(*known)):
        raise ValueError(f"{name}: expected {expected}, got {' and '.join(map(repr, values))}")


def _refuse_negative(name: str, what: str, value: Any) -> None:
    """Raise ValueError where a value is negative, unless it is abstract."""
    if isinstance(value, Tensor):
        if _core.traced(value):
            return
        value = value.detach().numpy()
    if np.any(np.asarray(value) < 0):
        raise ValueError(f"{name}: expected {what} of 0 or more, got {np.min(value)}")
