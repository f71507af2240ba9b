"""Schedules: learning rates that change from step to step, for the `learning_rate` of any optimizer.

A schedule is a function of the number of steps taken so far, 0 at the first. The ones here have no state but
`ReduceOnPlateau`, so that an optimizer that goes on from a state file goes on with the right rate. Any other function
of that number serves as well, such as ``lambda step: 0.1 / (1 + step)``. All count steps: of ``n`` epochs there are n
times the batches of an epoch. In compiled training steps the rate is an input, so that no program is traced anew.

>>> import numpy as np
>>> import fastgrad as fg
>>> schedule = fg.schedules.warmup(fg.schedules.cosine(0.1, steps=90), steps=10)
>>> optimizer = fg.optim.SGD(learning_rate=schedule)
>>> optimizer.step(np.ones(2), np.ones(2))
>>> optimizer.rate  # of the next step
0.01
"""

from __future__ import annotations

import bisect
import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np

from . import _plot
from ._arguments import ABOVE_0, integer, number

__all__ = [
    "ReduceOnPlateau", "Schedule", "constant", "cosine", "cosine_restarts", "exponential", "join", "linear",
    "multistep", "one_cycle", "piecewise", "polynomial", "step", "warmup",
]  # fmt: skip


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


class Schedule:
    """What the functions here return: ``schedule(step)`` is the learning rate after so many steps.

    ``schedule.values(n)`` has the first n of them, ``schedule.plot(n)`` draws them, and ``factor * schedule`` is the
    schedule times a number, for instance for a group of parameters. ``Schedule(function)`` makes one of a function of
    the step; ``length`` is the number of steps that ``plot()`` draws of it.

    >>> import fastgrad as fg
    >>> (0.5 * fg.schedules.linear(1.0, steps=4)).values(6)
    array([0.5  , 0.375, 0.25 , 0.125, 0.   , 0.   ])
    """

    _made_by: tuple[Any, ...] | None = None  # the function of this module that made it, and its arguments

    _length = 100  # in steps, what `plot` draws unless told otherwise

    def __init__(self, function: Callable[[int], float], text: str = "", length: int = 100) -> None:
        if not callable(function):
            raise TypeError(f"Schedule: function is of type {type(function).__name__}, expected a function of the step")
        self._function = function
        self._length = integer("Schedule", "length", length)
        self._text = text or f"Schedule({getattr(function, '__qualname__', None) or repr(function)})"

    def __call__(self, step: int) -> float:
        return self._function(step)

    def values(self, n: int) -> np.ndarray:
        """The rates of the first n steps, as a float64 array."""
        n = integer("Schedule.values", "n", n, least=0)
        return np.array([self(step) for step in range(n)], np.float64)

    def plot(self, n: int | None = None, ax: Any = None) -> Any:
        """Draw the rates of the first n steps, in the matplotlib axes ``ax`` or in new ones, which are returned.

        With n None these are the steps in which the schedule changes, and its value after them: all of those that have
        an end, three waves of `cosine_restarts`, five times the steps of `step` and `exponential` but at least 100. A
        schedule that does not depend on the step is drawn for 100. ImportError if matplotlib is not installed.

        >>> import matplotlib; matplotlib.use("agg")
        >>> import fastgrad as fg
        >>> axes = fg.schedules.cosine(0.1, steps=50).plot()
        >>> axes.get_ylabel(), len(axes.lines[0].get_xdata())
        ('learning rate', 51)
        """
        n = self._length if n is None else integer("Schedule.plot", "n", n, least=0)
        ax = _plot.axes("Schedule.plot", ax)
        ax.plot(np.arange(n), self.values(n), drawstyle="steps-post")
        ax.set(xlabel="step", ylabel="learning rate")
        return ax

    def __mul__(self, factor: float) -> Schedule:
        if not isinstance(factor, (int, float, np.number)):
            return NotImplemented
        return _times(self, factor)

    __rmul__ = __mul__

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What pickles and copies hold: how it was made, or its function and attributes."""
        return super().__reduce_ex__(protocol) if self._made_by is None else (_made_again, self._made_by)

    def __repr__(self) -> str:
        return self._text


_P = ParamSpec("_P")


def _noted(make: Callable[_P, Schedule]) -> Callable[_P, Schedule]:
    """A function that makes schedules, which note how they were made: pickle cannot hold the function of a step."""

    @functools.wraps(make)
    def noted(*args: _P.args, **kwargs: _P.kwargs) -> Schedule:
        own: Any = tuple(map(_own, args))
        named: Any = {name: _own(value) for name, value in kwargs.items()}
        schedule = make(*own, **named)
        schedule._made_by = make.__name__, own, named
        return schedule

    return noted


def _own(value: Any) -> Any:
    """An argument that stays what it is: a copy of what the caller may change, a list of what can be read only once."""
    if isinstance(value, Iterator):
        return list(value)
    return copy.copy(value) if isinstance(value, (list, np.ndarray)) else value


def _made_again(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Schedule:
    schedule: Schedule = globals()[name](*args, **kwargs)
    return schedule


@_noted
def _times(schedule: Schedule, factor: float) -> Schedule:
    return Schedule(lambda step: factor * schedule(step), f"{factor!r} * {schedule!r}", schedule._length)


@_noted
def constant(value: float) -> Schedule:
    """The same rate at every step.

    >>> import fastgrad as fg
    >>> fg.schedules.constant(0.1).values(2)
    array([0.1, 0.1])
    """
    value = number("constant", "value", value)
    return Schedule(lambda step: value, f"constant({value!r})")


@_noted
def step(value: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """The rate times gamma after each step_size steps, as PyTorch's StepLR.

    >>> import fastgrad as fg
    >>> fg.schedules.step(1.0, step_size=2, gamma=0.5).values(5)
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])
    """
    value, gamma = number("step", "value", value), number("step", "gamma", gamma)
    size = integer("step", "step_size", step_size)
    text = f"step({value!r}, {size}, {gamma!r})"
    return Schedule(lambda step: value * gamma ** (step // size), text, max(5 * size, 100))


@_noted
def multistep(value: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """The rate times gamma at each of the milestones, numbers of steps in rising order, as PyTorch's MultiStepLR.

    >>> import fastgrad as fg
    >>> fg.schedules.multistep(1.0, [1, 3], gamma=0.5).values(4)
    array([1.  , 0.5 , 0.5 , 0.25])
    """
    value, gamma = number("multistep", "value", value), number("multistep", "gamma", gamma)
    at = _rising("multistep", "milestones", milestones)
    text = f"multistep({value!r}, {at}, {gamma!r})"
    return Schedule(lambda step: value * gamma ** bisect.bisect_right(at, step), text, _beyond(at))


@_noted
def piecewise(values: Sequence[float], boundaries: Sequence[int]) -> Schedule:
    """values[0] up to boundaries[0] steps, then values[1] up to boundaries[1], and so on; the last value stays.

    >>> import fastgrad as fg
    >>> fg.schedules.piecewise([1.0, 0.5, 0.1], boundaries=[1, 3]).values(4)
    array([1. , 0.5, 0.5, 0.1])
    """
    at = _rising("piecewise", "boundaries", boundaries)
    rates = [number("piecewise", f"values[{i}]", value) for i, value in enumerate(values)]
    if len(rates) != len(at) + 1:
        raise ValueError(f"piecewise: expected one value more than boundaries, got {len(rates)} and {len(at)}")
    return Schedule(lambda step: rates[bisect.bisect_right(at, step)], f"piecewise({rates}, {at})", _beyond(at))


@_noted
def exponential(value: float, gamma: float, steps: int = 1) -> Schedule:
    """The rate times gamma every `steps` steps, smoothly: value gamma^(step / steps), as PyTorch's ExponentialLR.

    >>> import fastgrad as fg
    >>> fg.schedules.exponential(1.0, gamma=0.25, steps=2).values(3)
    array([1.  , 0.5 , 0.25])
    """
    value, gamma = number("exponential", "value", value), number("exponential", "gamma", gamma)
    n = integer("exponential", "steps", steps)
    text = f"exponential({value!r}, {gamma!r}, {n})"
    return Schedule(lambda step: value * gamma ** (step / n), text, max(5 * n, 100))


@_noted
def polynomial(value: float, steps: int, end_value: float = 0.0, power: float = 1.0) -> Schedule:
    """From value to end_value in so many steps, then constant: end + (value - end) (1 - step / steps)^power.

    With end_value 0 this is PyTorch's PolynomialLR, and in general optax's ``polynomial_schedule``.

    >>> import fastgrad as fg
    >>> fg.schedules.polynomial(1.0, steps=4, power=2).values(6)
    array([1.    , 0.5625, 0.25  , 0.0625, 0.    , 0.    ])
    """
    value, end = number("polynomial", "value", value), number("polynomial", "end_value", end_value)
    n, power = integer("polynomial", "steps", steps), number("polynomial", "power", power)
    text = f"polynomial({value!r}, {n}, {end!r}, {power!r})"
    return Schedule(lambda step: end + (value - end) * (1 - min(step, n) / n) ** power, text, n + 1)


@_noted
def linear(value: float, steps: int, end_value: float = 0.0) -> Schedule:
    """From value to end_value in a straight line of so many steps, then constant.

    >>> import fastgrad as fg
    >>> fg.schedules.linear(1.0, steps=2, end_value=0.5).values(4)
    array([1.  , 0.75, 0.5 , 0.5 ])
    """
    value, end = number("linear", "value", value), number("linear", "end_value", end_value)
    return polynomial(value, integer("linear", "steps", steps), end, 1.0)


@_noted
def cosine(value: float, steps: int, end_value: float = 0.0) -> Schedule:
    """From value to end_value along half a cosine wave of so many steps, then constant, as optax's ``cosine_decay``.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).

    >>> import fastgrad as fg
    >>> fg.schedules.cosine(1.0, steps=2).values(4).round(3) + 0.0
    array([1. , 0.5, 0. , 0. ])
    """
    value, end = number("cosine", "value", value), number("cosine", "end_value", end_value)
    n = integer("cosine", "steps", steps)
    return Schedule(lambda step: _cosine(value, end, min(step, n) / n), f"cosine({value!r}, {n}, {end!r})", n + 1)


@_noted
def cosine_restarts(value: float, steps: int, steps_factor: int = 1, end_value: float = 0.0) -> Schedule:
    """`cosine` begun anew after so many steps, each wave steps_factor times as long as the one before it.

    As PyTorch's CosineAnnealingWarmRestarts, whose T_0 and T_mult these are. Source: as of `cosine`.

    >>> import fastgrad as fg
    >>> fg.schedules.cosine_restarts(1.0, steps=2, steps_factor=2).values(7).round(3)
    array([1.   , 0.5  , 1.   , 0.854, 0.5  , 0.146, 1.   ])
    """
    name = "cosine_restarts"
    value, end = number(name, "value", value), number(name, "end_value", end_value)
    n, factor = integer(name, "steps", steps), integer(name, "steps_factor", steps_factor)

    def rate(step: int) -> float:
        length, place = n, step
        if factor == 1:
            place = step % n
        else:
            while place >= length:
                place, length = place - length, length * factor
        return _cosine(value, end, place / length)

    return Schedule(rate, f"{name}({value!r}, {n}, {factor}, {end!r})", n * (1 + factor + factor**2))


@_noted
def one_cycle(
    max_value: float,
    steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up from max_value / div_factor to max_value in the part pct_start of the steps, and down to the
    final_div_factor-th part of the beginning, along cosines ("cos") or lines ("linear"), as PyTorch's OneCycleLR.

    Source: Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates"
    (2019).

    >>> import fastgrad as fg
    >>> fg.schedules.one_cycle(1.0, steps=5, pct_start=0.4, div_factor=4, final_div_factor=10).values(6).round(3)
    array([0.25 , 1.   , 0.756, 0.269, 0.025, 0.025])
    """
    name = "one_cycle"
    most, n = number(name, "max_value", max_value), integer(name, "steps", steps)
    pct_start = number(name, "pct_start", pct_start, ("a number in [0, 1]", lambda x: 0 <= x <= 1))
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f"{name}: anneal_strategy is {anneal_strategy!r}, expected 'cos' or 'linear'")
    div_factor = number(name, "div_factor", div_factor, ABOVE_0)
    final_div_factor = number(name, "final_div_factor", final_div_factor, ABOVE_0)
    first, last = most / div_factor, most / div_factor / final_div_factor
    top, end = pct_start * n - 1, n - 1
    between = _cosine if anneal_strategy == "cos" else lambda a, b, x: a + (b - a) * x

    def rate(step: int) -> float:
        step = min(step, end)
        if step <= top:
            return between(first, most, step / top) if top else most
        return between(most, last, (step - top) / (end - top))

    text = f"{name}({most!r}, {n}, {pct_start!r}, {anneal_strategy!r}, {div_factor!r}, {final_div_factor!r})"
    return Schedule(rate, text, n)


@_noted
def warmup(schedule: float | Callable[[int], float], steps: int, start: float = 0.0) -> Schedule:
    """A line of so many steps from `start` times a schedule's first rate up to that rate; then the schedule.

    The schedule's own steps are counted from the end of the line on. Source: Goyal et al., "Accurate, large minibatch
    SGD: training ImageNet in 1 hour" (2017).

    >>> import fastgrad as fg
    >>> fg.schedules.warmup(fg.schedules.step(1.0, 2), steps=4).values(8)
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.  , 0.1 , 0.1 ])
    """
    after, n = _as_schedule("warmup", schedule), integer("warmup", "steps", steps)
    start = number("warmup", "start", start)

    def rate(step: int) -> float:
        if step >= n:
            return after(step - n)
        first = after(0)
        return first * start + (first - first * start) * step / n

    return Schedule(rate, f"warmup({after!r}, {n}, {start!r})", n + _length(after))


@_noted
def join(schedules: Sequence[float | Callable[[int], float]], boundaries: Sequence[int]) -> Schedule:
    """One schedule after the other: schedules[i + 1] begins after boundaries[i] steps, and counts from there.

    As optax's ``join_schedules``.

    >>> import fastgrad as fg
    >>> fg.schedules.join([1.0, fg.schedules.linear(0.5, 2)], boundaries=[2]).values(6)
    array([1.  , 1.  , 0.5 , 0.25, 0.  , 0.  ])
    """
    at = _rising("join", "boundaries", boundaries)
    parts = [_as_schedule("join", schedule) for schedule in schedules]
    if len(parts) != len(at) + 1:
        raise ValueError(f"join: expected one schedule more than boundaries, got {len(parts)} and {len(at)}")

    def rate(step: int) -> float:
        i = bisect.bisect_right(at, step)
        return parts[i](step - at[i - 1] if i else step)

    return Schedule(rate, f"join({parts}, {at})", (at[-1] if at else 0) + _length(parts[-1]))


class ReduceOnPlateau(Schedule):
    """A rate that is multiplied by `factor` when a value, such as a validation loss, no longer improves.

    `observe(value)` tells it a value; `fastgrad.descend` does so after each epoch, with the validation loss if there is
    one, else the mean loss. After more than `patience` values in a row that are not better than the best one by
    `threshold` (relative to it with threshold_mode "rel", absolute with "abs"), the rate is reduced, down to min_value;
    then `cooldown` values are not counted. mode is "min" or "max": whether small or large values are good. Changes of
    the rate below eps are left out. Arguments and rule are those of PyTorch's ReduceLROnPlateau.

    >>> import fastgrad as fg
    >>> schedule = fg.schedules.ReduceOnPlateau(1.0, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0):
    ...     schedule.observe(loss)
    >>> schedule(0)
    0.25
    """

    def __init__(
        self,
        value: float,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_value: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceOnPlateau"
        factor = number(name, "factor", factor, ("a number in (0, 1)", lambda x: 0 < x < 1))
        patience = integer(name, "patience", patience, least=0)
        cooldown = integer(name, "cooldown", cooldown, least=0)
        threshold, eps = number(name, "threshold", threshold), number(name, "eps", eps)
        min_value = number(name, "min_value", min_value)
        if mode not in ("min", "max"):
            raise ValueError(f"{name}: mode is {mode!r}, expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"{name}: threshold_mode is {threshold_mode!r}, expected 'rel' or 'abs'")
        self.value = value = number(name, "value", value)
        self._text = f"{name}({value!r}, {mode!r}, {factor!r}, {patience!r})"
        self._mode, self._factor, self._patience, self._cooldown = mode, factor, patience, cooldown
        self._threshold, self._threshold_mode, self._least, self._eps = threshold, threshold_mode, min_value, eps
        self._best = math.inf if mode == "min" else -math.inf
        self._bad = self._cooling = 0

    def __call__(self, step: int) -> float:
        return self.value

    def _is_better(self, value: float) -> bool:
        margin = self._threshold * (abs(self._best) if self._threshold_mode == "rel" else 1.0)
        if not math.isfinite(self._best):
            margin = 0.0
        return value < self._best - margin if self._mode == "min" else value > self._best + margin

    def observe(self, value: float) -> None:
        """Take note of a value, and reduce the rate if it is time."""
        if self._is_better(value := float(value)):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._cooling:
            self._cooling, self._bad = self._cooling - 1, 0
        if self._bad > self._patience:
            new = max(self.value * self._factor, self._least)
            if self.value - new > self._eps:
                self.value = new
            self._cooling, self._bad = self._cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """The rate and what was observed; part of the state of an optimizer that has this schedule."""
        return {"value": self.value, "best": self._best, "bad": self._bad, "cooling": self._cooling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        if not isinstance(state, Mapping) or set(state) != {"value", "best", "bad", "cooling"}:
            raise TypeError("ReduceOnPlateau.load_state_dict: expected what state_dict() returned")
        self.value, self._best = float(state["value"]), float(state["best"])
        self._bad, self._cooling = int(state["bad"]), int(state["cooling"])


# arguments --------------------------------------------------------------------------------------------------


def _cosine(value: float, end: float, x: float) -> float:
    """From value at x = 0 to end at x = 1."""
    return end + (value - end) * (1 + math.cos(math.pi * x)) / 2


def _rising(name: str, what: str, values: Sequence[int]) -> list[int]:
    numbers = [integer(name, f"{what}[{i}]", value) for i, value in enumerate(values)]
    if any(a >= b for a, b in itertools.pairwise(numbers)):
        raise ValueError(f"{name}: {what} are {numbers}, expected numbers of steps in rising order")
    return numbers


def _beyond(at: list[int]) -> int:
    """A number of steps that goes beyond the last boundary, by a quarter, to show the value after it."""
    return at[-1] + at[-1] // 4 + 2 if at else Schedule._length


def _length(schedule: Callable[[int], float]) -> int:
    return schedule._length if isinstance(schedule, Schedule) else Schedule._length


def _as_schedule(name: str, schedule: Any) -> Callable[[int], float]:
    return schedule if callable(schedule) else constant(number(name, "the schedule", schedule))
