"""A learning rate found by a short descent in which it rises step by step.

Source: Smith, "Cyclical learning rates for training neural networks" (2017), section 3.3; the steepest fall before the
least loss as the suggestion is that of fastai's `lr_find`, here of a loss whose noise is taken into account. The
arguments have the names of PyTorch Lightning's and fastai's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import optim
from .._arguments import ABOVE_0, Range, flag, integer, number
from ..schedules import Schedule
from .descend import descend
from .result import DescentResult
from .sources import is_iterable

__all__ = ["LRFindResult", "lr_find"]


class LRFindResult:
    """What `lr_find` returns.

    rates       float64 array, the learning rate of each step
    losses      float64 array, the loss of each step, before its update
    smoothed    the losses, each a mean over its neighbours
    suggestion  the rate at which the smoothed loss falls fastest, per factor of the rate, on its way to its least
                value; None if it does not fall by more than the noise: try larger batches, more steps or a larger
                max_lr

    `plot()` draws the losses by matplotlib, and a notebook shows them as a curve.
    """

    def __init__(self, rates: np.ndarray, losses: np.ndarray) -> None:
        self.rates, self.losses = rates, losses
        self.smoothed = _smoothed(losses)
        self.suggestion = _steepest(rates, losses, self.smoothed)

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses over the rates, and the suggestion, in the matplotlib axes ``ax`` or in new ones, which are
        returned. ImportError if matplotlib is not installed.

        >>> import matplotlib; matplotlib.use("agg")
        >>> import numpy as np
        >>> import fastgrad as fg
        >>> found = fg.lr_find(lambda p: fg.sum(p**2), np.ones(2), optimizer="sgd")
        >>> found.plot().get_xlabel()
        'learning rate'
        """
        from .. import _plot

        ax = _plot.axes("LRFindResult.plot", ax)
        ax.plot(self.rates, self.losses, linewidth=0.5, label="loss")
        ax.plot(self.rates, self.smoothed, label="smoothed")
        if self.suggestion is not None:
            ax.axvline(self.suggestion, linestyle="--", color="gray", label=f"suggestion {self.suggestion:.2g}")
        ax.set(xlabel="learning rate", ylabel="loss", xscale="log")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        found = "no suggestion" if self.suggestion is None else f"suggestion {self.suggestion:.3g}"
        tried = f", rates {self.rates[0]:.3g} to {self.rates[-1]:.3g}" if self.rates.size else ""
        return f"<lr_find: {found}{tried}, {self.rates.size} steps>"

    def _repr_html_(self) -> str:
        import html

        from .. import _plot

        curves = [("loss", self.rates, self.losses), ("smoothed", self.rates, self.smoothed)]
        return f"<div>{_plot.svg(curves, 'learning rate', log_x=True)}<pre>{html.escape(repr(self))}</pre></div>"


def lr_find(
    loss: Callable[..., Any],
    params: Any,
    data: Any = None,
    *,
    optimizer: optim.Optimizer | str,
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    num_training: int = 100,
    mode: str = "exponential",
    early_stop_threshold: float | None = 4.0,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int | np.random.Generator | None = None,
    sample_weight: Any = None,
    compile: bool = True,
    has_aux: bool = False,
) -> LRFindResult:
    """Try learning rates from small to large in a short descent, and suggest one.

    Parameters, optimizer, and a generator given as seed are left as they are: the descent works on copies.

    Parameters
    ----------
    loss, params, data, optimizer, batch_size, shuffle, seed, sample_weight, compile, has_aux
        As of ``descend``. The optimizer's own learning rate is not used; that of a group which has its own is not
        varied. Data to iterate over has to be one that can be gone through again.
    min_lr, max_lr : float
        The first and the last rate.
    num_training : int
        In how many steps; with few rows the data are gone through as often as it takes.
    mode : {"exponential", "linear"}
        Whether the rate rises by one factor or by one difference at each step.
    early_stop_threshold : float or None
        End when the loss, as a running mean, has risen above its least value by more than so many times its fall before
        that, or its size if that is larger. Also a loss or gradient that is not finite is the end. None for only that.

    Returns
    -------
    LRFindResult
        With ``.rates .losses .smoothed .suggestion`` and ``.plot()``.

    Raises as `descend` does, and ValueError for rates that are not 0 < min_lr < max_lr.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.linspace(-1, 1, 64)
    >>> line = lambda p, x, y: fg.losses.mse(p["slope"] * x + p["offset"], y)
    >>> start = {"slope": 0.0, "offset": 0.0}
    >>> found = fg.lr_find(line, start, (x, 3 * x - 1), optimizer="sgd", batch_size=16, seed=0)
    >>> bool(0.01 < found.suggestion < 2)
    True
    >>> result = fg.descend(line, start, (x, 3 * x - 1), optimizer=fg.optim.SGD(found.suggestion), steps=50)
    >>> bool(result.loss < found.losses[0] / 10)
    True
    """
    for name, rate in (("min_lr", min_lr), ("max_lr", max_lr)):
        number("lr_find", name, rate, ABOVE_0)
    if min_lr >= max_lr:
        raise ValueError(f"lr_find: min_lr={min_lr!r} is not below max_lr={max_lr!r}")
    if mode not in ("exponential", "linear"):
        raise ValueError(f"lr_find: mode is {mode!r}, expected 'exponential' or 'linear'")
    for name, given in (("shuffle", shuffle), ("compile", compile), ("has_aux", has_aux)):
        flag("lr_find", name, given)
    if is_iterable(data) and hasattr(data, "__next__"):
        raise TypeError(
            f"lr_find: data is of type {type(data).__name__}, whose batches would be used up; give a function that "
            "returns an iterator"
        )
    n = integer("lr_find", "num_training", num_training)
    rates = (np.geomspace if mode == "exponential" else np.linspace)(min_lr, max_lr, max(n, 2))[:n]
    tried = copy.deepcopy(optim.get(optimizer))
    first = tried.steps
    tried.learning_rate = Schedule(lambda step: float(rates[min(max(step - first, 0), n - 1)]))
    callback = None
    if early_stop_threshold is not None:
        within: Range = "a number of at least 0 or None", lambda x: x >= 0
        callback = _Rise(number("lr_find", "early_stop_threshold", early_stop_threshold, within))
    try:
        with np.errstate(all="ignore"):
            found = descend(
                loss, params, data, optimizer=tried, steps=n, batch_size=batch_size, shuffle=shuffle,
                seed=copy.deepcopy(seed), sample_weight=sample_weight, compile=compile, has_aux=has_aux,
                callback=callback, progress=False,
            )  # fmt: skip
    except FloatingPointError as error:
        found = error.result  # type: ignore[attr-defined]
        if not found.steps:  # whatever the rate
            raise
    losses = found.history
    return LRFindResult(rates[: losses.size], losses)


class _Rise:
    """A callback that ends a descent whose loss has risen far, by its running mean."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._sum = self._weight = 0.0
        self._first, self._least = math.nan, math.inf

    def __call__(self, info: DescentResult) -> bool:
        self._sum, self._weight = 0.9 * self._sum + 0.1 * info.loss, 0.9 * self._weight + 0.1
        mean = self._sum / self._weight
        if info.step == 0:
            self._first = mean
        self._least = min(self._least, mean)
        return mean - self._least > self._threshold * max(abs(self._least), self._first - self._least)


def _weights(n: int) -> np.ndarray:
    """The weights of a mean over neighbours among n losses, 1 2 .. reach .. 2 1."""
    reach = n // 20 + 1
    return np.concatenate([np.arange(1.0, reach + 1), np.arange(reach - 1.0, 0, -1)])


def _smoothed(losses: np.ndarray) -> np.ndarray:
    """Means over neighbours with weights that fall off in a line, up to a twentieth of all to each side."""
    weights = _weights(losses.size)
    reach = weights.size // 2 + 1
    sums = np.convolve(losses, weights)[reach - 1 : reach - 1 + losses.size]
    return sums / np.convolve(np.ones(losses.size), weights)[reach - 1 : reach - 1 + losses.size]


def _steepest(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray) -> float | None:
    """The rate at which the loss falls fastest on its way to the least smoothed loss; None if that fall may be noise.

    Small rates change little: there the losses of batches scatter about one level, and any of their differences would
    look like a fall. That level is the mean of the losses up to the last rate at which the smoothed loss is not below
    their mean. The fall from it has to exceed three standard errors, and is looked at from its first quarter on. Slopes
    are those of lines fitted to the smoothed losses over half a decade of rates. They are of the loss and not of its
    logarithm, as a loss may be negative.
    """
    least = int(np.argmin(smoothed)) if smoothed.size else 0
    if least < 2:
        return None
    means = np.cumsum(losses[:least]) / np.arange(1, least + 1)
    level = int(np.max(np.flatnonzero(smoothed[:least] >= means), initial=0))
    fall = means[level] - smoothed[least]
    # From successive differences, which a slow fall hardly changes: of normally distributed noise their mean size is
    # 2 / sqrt(pi) of the standard deviation. Squares of large losses would overflow.
    noise = np.mean(abs(np.diff(losses[: least + 1]))) * math.sqrt(math.pi) / 2
    weights = _weights(losses.size)
    if fall <= 3 * noise * math.sqrt(1 / (level + 1) + np.sum(weights**2) / np.sum(weights) ** 2):
        return None
    start = int(np.max(np.flatnonzero(smoothed[:least] >= means[level] - fall / 4), initial=0))
    x, y = np.log10(rates[start : least + 1]), smoothed[start : least + 1]
    slopes = []
    for i in range(x.size):
        near = abs(x - x[i]) <= 0.25
        near[max(i - 1, 0) : i + 2] = True
        offsets = x[near] - x[near].mean()
        slopes.append(offsets @ y[near] / (offsets @ offsets))
    return float(rates[start + int(np.argmin(slopes))])
