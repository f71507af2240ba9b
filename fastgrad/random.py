"""Random numbers as tensors, drawn afresh by every replay of a compiled function.

The generator is Philox4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a function
of a key and a counter. There is one operation, numbers uniform in [0, 1), which advances the counter; everything else
is composed of it and differentiable operations. A draw itself is a constant: gradients flow to the parameters of
``normal``, ``uniform`` and ``exponential``.

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
from ._core import Tensor
from ._numpy.creation import floating

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


def _refuse_negative(name: str, what: str, value: Any) -> None:
    """Raise ValueError where a value is negative, unless it is abstract."""
    if isinstance(value, Tensor):
        if _core.traced(value):
            return
        value = value.detach().numpy()
    if np.any(np.asarray(value) < 0):
        raise ValueError(f"{name}: expected {what} of 0 or more, got {np.min(value)}")
