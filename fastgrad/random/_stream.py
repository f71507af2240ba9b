"""Streams of random numbers: their state, and the draws that all others are made of."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .. import _core
from .._core import Tensor, log
from .._numpy.order import argsort
from ._arguments import shape_of

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import DTypeLike

    from ._arguments import Size

_METHOD = "Philox4x32-10"
_MOST_CHILDREN = 10_000_000  # that one call of spawn makes, in about a minute
_WORDS = ("key", "stream", "position")

AnyStream = TypeVar("AnyStream", bound="Stream")


class Stream:
    """A stream of random numbers: what a ``Generator`` is without its distributions."""

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

    def spawn(self, n_children: int) -> list[Self]:
        """Independent generators, others with each call; they follow from the seed and not from what was drawn.

        >>> import fastgrad as fg
        >>> len(fg.random.default_rng(0).spawn(2))
        2
        """
        _core.refuse_traced_effect("generators were spawned", "Spawn them outside the function")
        if not 0 <= operator.index(n_children) <= _MOST_CHILDREN:
            raise ValueError(f"spawn: expected from 0 to {_MOST_CHILDREN:,} children, got {n_children}")
        return [type(self)(seed) for seed in self._seed.spawn(n_children)]

    def jumped(self, jumps: int = 1) -> Self:
        """A copy further on by ``jumps`` times 2**64 blocks, farther than any number of draws.

        >>> import fastgrad as fg
        >>> rng = fg.random.default_rng(0)
        >>> rng.jumped().random() == rng.random()
        tensor(False)
        """
        state = self.state
        state["stream"] = (state["stream"] + operator.index(jumps)) % 2**64
        return _restored(type(self), state, self._seed)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.state, self._seed)

    def __repr__(self) -> str:
        return f"Generator({_METHOD})"

    # ---- what all draws are made of ---------------------------------------------------------------------------------
    def _order(self, name: str, n: int) -> Tensor:
        return argsort(self._draw(name, n, np.float64), kind="stable")

    def _gumbel(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        return -log(-_core.log1p(-self._above_0(name, size, dtype)))

    def _above_0(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        """Uniform numbers above 0 and below 1, at which quantile functions are finite."""
        least = 2.0**-54 if np.dtype(dtype) == np.float64 else 2.0**-25  # in the place of 0
        return _core.maximum(self._draw(name, size, dtype), least)

    def _draw(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        return _core.random_draw(self._state, shape_of(name, size), dtype, name)

    def _normal(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        shape = shape_of(name, size)
        n = math.prod(shape)
        half = (n + 1) // 2
        radius = _core.sqrt(-2.0 * _core.log(1.0 - self._draw(name, half, dtype)))  # 1 - u is never 0
        angle = 2 * math.pi * self._draw(name, half, dtype)
        both = _core.concatenate([radius * _core.cos(angle), radius * _core.sin(angle)])
        return _core.reshape(both if n % 2 == 0 else both[:n], shape)

    def _exponential(self, name: str, size: Size, dtype: DTypeLike) -> Tensor:
        return -_core.log(1.0 - self._draw(name, size, dtype))


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


def _restored(kind: type[AnyStream], state: dict[str, Any], seed: np.random.SeedSequence) -> AnyStream:
    rng = kind(seed)
    rng.state = state
    return rng
