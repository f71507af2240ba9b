"""L-BFGS: steps along a direction made of the last gradients, whose length a line search finds.

The line search evaluates the loss several times at a step, so that `step` is handed the function that gives loss and
gradients in the place of gradients. It evaluates at copies: parameters are only ever written once, by what was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import tree
from .._arguments import integer
from .._core import Tensor
from .._transforms.grad import no_grad
from ._base import Optimizer, checked

__all__ = ["LBFGS", "search", "takes_closure"]

_SUFFICIENT, _CURVATURE = 1e-4, 0.9  # the constants of the Wolfe conditions
_SLOTS = ("direction", "gradient", "steps", "differences", "numbers")

Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]  # of a vector: the loss and its gradient


class LBFGS(Optimizer):
    """Limited-memory BFGS, for a loss without noise: all data at each step.

    One step makes up to max_iter iterations, each along -H g, where H is an estimate of the inverse Hessian from the
    last history_size changes of parameters and gradients. Their length is learning_rate (at the very first that over
    the sum of |g|, if this is above 1), or with line_search_fn="strong_wolfe" what a line search finds, from there on,
    that meets the strong Wolfe conditions.

    Parameters
    ----------
    learning_rate : float or schedule
    max_iter : int
        Iterations of one step at most.
    max_eval : int, optional
        Evaluations of the loss in one step, after which no iteration begins and a line search goes on at most once;
        max_iter * 5 // 4 if None.
    tolerance_grad, tolerance_change : float
        A step ends where no derivative is above the first, or where loss or parameters change by less than the second.
    history_size : int
    line_search_fn : {"strong_wolfe"}, optional

    ``step(params, value_and_grad)`` takes a function of params that returns the loss and its gradients, such as
    ``fg.value_and_grad(loss)``, and returns the loss before the step. `training_step` and `descend` hand over that of
    their batch; clipping, accumulation and several ranks (``comm``) are refused there. Parameters and state stay as
    they were where the loss raises. All parameters belong together, so there are no groups.

    Arguments, defaults and the trajectory are PyTorch's. Source: Nocedal and Wright, "Numerical optimization" (2006),
    algorithms 7.4, 3.5 and 3.6. Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> x, optimizer = np.array([-1.0, 1.0]), fg.optim.LBFGS(max_iter=100, line_search_fn="strong_wolfe")
    >>> optimizer.step(x, fg.value_and_grad(rosenbrock))
    4.0
    >>> x.round(3)
    array([1., 1.])
    """

    tolerance_grad, tolerance_change = checked("tolerance_grad"), checked("tolerance_change")

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        super().__init__(learning_rate)
        name = "LBFGS"
        self.max_iter = integer(name, "max_iter", max_iter)
        self.history_size = integer(name, "history_size", history_size)
        self.max_eval = self.max_iter * 5 // 4 if max_eval is None else integer(name, "max_eval", max_eval)
        self.tolerance_grad, self.tolerance_change = tolerance_grad, tolerance_change
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(f"LBFGS: line_search_fn is {line_search_fn!r}, expected 'strong_wolfe' or None")
        self.line_search_fn = line_search_fn
        self._memory: _Memory | None = None

    def step(self, params: Any, value_and_grad: Any) -> float:  # type: ignore[override]
        """Change the arrays of `params` in place by one step; returns the loss before it.

        ``value_and_grad(params)`` returns the loss and its gradients, in the structure of params.
        """
        if not callable(value_and_grad):
            raise TypeError(
                "LBFGS: step needs a function that evaluates loss and gradients at several points: "
                f"step(params, fastgrad.value_and_grad(loss)); got {type(value_and_grad).__name__}"
            )
        leaves, structure = tree.flatten(params)
        self._check(leaves, structure)

        def evaluate(arrays: list[Any]) -> tuple[Any, list[Any]]:
            value, gradients = value_and_grad(structure.unflatten(arrays))
            return value, structure.flatten_up_to(gradients, "grads")

        return self._search(leaves, structure, evaluate)

    def _search(
        self,
        leaves: Sequence[Any],
        structure: tree.Structure,
        evaluate: Callable[[list[Any]], tuple[Any, list[Any]]],
        check: Callable[[float, list[Any]], bool] | None = None,
    ) -> float:
        """A step on leaves that were checked. ``check`` is told the first loss and gradients; false ends the step."""
        arrays = [leaf.detach().numpy() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        dtype = np.result_type(*arrays)
        ends = np.cumsum([0, *(a.size for a in arrays)])
        parts = [(slice(a, b), array) for a, b, array in zip(ends, ends[1:], arrays)]

        def flat(values: Sequence[Any]) -> np.ndarray:
            return np.concatenate([np.asarray(_plain(v), dtype).reshape(-1) for v in values])

        def at(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradients = evaluate([x[part].reshape(a.shape).astype(a.dtype, copy=False) for part, a in parts])
            return float(_plain(value)), flat(gradients)

        x = flat(arrays)
        if self._memory is not None and self._memory.direction.size not in (0, x.size):
            raise ValueError(
                f"LBFGS: params hold {x.size} numbers, but this optimizer keeps state for "
                f"{self._memory.direction.size}; use a new optimizer for new parameters"
            )
        memory = _Memory() if self._memory is None else self._memory.copy()
        value, gradient = at(x)
        if check is not None and not check(value, [gradient[part].reshape(a.shape) for part, a in parts]):
            return value
        reached = self._iterate(x, value, gradient, at, memory)
        if check is not None and not np.isfinite(reached).all() and not check(math.nan, []):
            return value
        with no_grad():
            for (part, _), leaf in zip(parts, leaves):
                leaf[...] = reached[part].reshape(leaf.shape)
        self._structure, self._memory, self.steps = structure, memory, self.steps + 1
        return value

    def _iterate(
        self, x: np.ndarray, value: float, gradient: np.ndarray, evaluate: Evaluate, memory: _Memory
    ) -> np.ndarray:
        """Where the iterations of one step lead from x."""
        rate, evaluations = self._rate(), 1
        if _largest(gradient) <= self.tolerance_grad:
            return x
        for iteration in range(1, self.max_iter + 1):
            is_first = memory.direction.size == 0
            memory.turn(gradient, self.history_size)
            length = rate * min(1.0, 1.0 / float(np.abs(gradient).sum())) if is_first else rate
            direction, before = memory.direction, value
            slope = float(gradient @ direction)
            memory.length = length
            if not slope <= -self.tolerance_change:
                break
            if self.line_search_fn is not None:
                start = _Point(0.0, value, gradient, slope)
                found, trials = _strong_wolfe(
                    evaluate, x, direction, start, length, self.tolerance_change, self.max_eval - evaluations
                )
                length, value, gradient = found.t, found.value, found.gradient
                memory.length = length
                x = x + length * direction
            else:
                x, trials = x + length * direction, 0
                if iteration != self.max_iter:
                    (value, gradient), trials = evaluate(x), 1
            evaluations += trials
            if evaluations >= self.max_eval or _largest(gradient) <= self.tolerance_grad:
                break
            if length * _largest(direction) <= self.tolerance_change or abs(value - before) < self.tolerance_change:
                break
        return x

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state: {"optimizer": name, "steps": int, "state": vectors of all parameters by name}."""
        state = {} if self._memory is None else self._memory.arrays()
        found = {"optimizer": type(self).__name__, "steps": self.steps, "state": state}
        if hasattr(self.learning_rate, "state_dict"):
            found["schedule"] = self.learning_rate.state_dict()
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a copy of what `state_dict` gave; ValueError or TypeError if it is not of this optimizer."""
        slots = state.get("state") if isinstance(state, Mapping) else None
        if not isinstance(slots, Mapping):
            raise TypeError("LBFGS.load_state_dict: expected what LBFGS.state_dict() returned")
        if slots and set(slots) != set(_SLOTS):
            raise ValueError(f"LBFGS.load_state_dict: state has {sorted(slots)}, expected {sorted(_SLOTS)}")
        memory = _Memory.of(slots) if slots else None
        super().load_state_dict({**state, "state": {}})
        self._memory = memory


class _Memory:
    """What is kept from one iteration to the next, also across steps: the last direction and the length of the step
    along it, the gradient before it, and the changes of parameters and gradients of the last iterations."""

    def __init__(self) -> None:
        self.direction = self.gradient = np.empty(0)
        self.steps: list[np.ndarray] = []
        self.differences: list[np.ndarray] = []
        self.length, self.scale = 0.0, 1.0

    def copy(self) -> _Memory:
        other = _Memory()
        vars(other).update(vars(self), steps=list(self.steps), differences=list(self.differences))
        return other  # vectors are replaced, never changed

    def turn(self, gradient: np.ndarray, history_size: int) -> None:
        """Remember the iteration that led to this gradient, and take the direction from there."""
        if self.direction.size:
            difference, step = gradient - self.gradient, self.length * self.direction
            curvature = float(difference @ step)
            if curvature > 1e-10:
                self.steps, self.differences = (
                    [*kept, new][-history_size:] for kept, new in ((self.steps, step), (self.differences, difference))
                )
                self.scale = curvature / float(difference @ difference)
        d, shares = -gradient, []
        inverses = [1 / float(y @ s) for s, y in zip(self.steps, self.differences)]
        for s, y, inverse in zip(self.steps[::-1], self.differences[::-1], inverses[::-1]):
            shares.append(float(s @ d) * inverse)
            d -= shares[-1] * y
        d *= self.scale
        for s, y, inverse, share in zip(self.steps, self.differences, inverses, shares[::-1]):
            d += (share - float(y @ d) * inverse) * s
        self.direction, self.gradient = d, gradient

    def arrays(self) -> dict[str, np.ndarray]:
        shape = len(self.steps), self.direction.size
        return {
            "direction": self.direction.copy(),
            "gradient": self.gradient.copy(),
            "steps": np.array(self.steps, self.direction.dtype).reshape(shape),
            "differences": np.array(self.differences, self.direction.dtype).reshape(shape),
            "numbers": np.array([self.length, self.scale]),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> _Memory:
        memory, a = cls(), {key: np.array(value) for key, value in arrays.items()}
        n, kept = a["direction"].size, len(a["steps"]) if a["steps"].ndim else -1
        expected = {"direction": (n,), "gradient": (n,), "steps": (kept, n), "differences": (kept, n), "numbers": (2,)}
        for key, shape in expected.items():
            if a[key].shape != shape or a[key].dtype.kind != "f":
                raise ValueError(
                    f"LBFGS.load_state_dict: state[{key!r}] is {a[key].dtype} of shape {a[key].shape}, expected floats "
                    f"of shape {shape}"
                )
        memory.direction, memory.gradient = a["direction"], a["gradient"]
        memory.steps, memory.differences = list(a["steps"]), list(a["differences"])
        memory.length, memory.scale = map(float, a["numbers"])
        return memory


class _Point(NamedTuple):
    """A place on the line: the length of the step there, the loss, its gradient and its slope along the line."""

    t: float
    value: float
    gradient: np.ndarray
    slope: float


def _strong_wolfe(
    evaluate: Evaluate,
    x: np.ndarray,
    direction: np.ndarray,
    start: _Point,
    t: float,
    tolerance: float,
    most_trials: int,
) -> tuple[_Point, int]:
    """A point on the line from x whose loss has fallen enough and is flat enough, and how many were tried.

    First an interval is found that holds one, by longer and longer steps; then it is made smaller. Where `tolerance` or
    the number of trials ends it before, it is the best point of the interval.
    """
    trials, width = 0, _largest(direction)

    def at(t: float) -> _Point:
        nonlocal trials
        trials += 1
        value, gradient = evaluate(x + t * direction)
        return _Point(t, value, gradient, float(gradient @ direction))

    def has_fallen(p: _Point) -> bool:
        return p.value <= start.value + _SUFFICIENT * p.t * start.slope

    def is_flat(p: _Point) -> bool:
        return abs(p.slope) <= -_CURVATURE * start.slope

    previous, new = start, at(t)
    while True:
        if trials > most_trials:
            previous = start
            break
        if not has_fallen(new) or (trials > 2 and new.value >= previous.value):
            break
        if is_flat(new):
            return new, trials
        if new.slope >= 0:
            break
        longer = _interpolated(previous, new, new.t + 0.01 * (new.t - previous.t), 10 * new.t)
        previous, new = new, at(longer)

    ends = [previous, new]  # in the order in which they were found; a new point takes the place of one
    low = _lower(ends)
    is_stuck = False
    while trials <= most_trials and abs(ends[1].t - ends[0].t) * width >= tolerance:
        least, most = sorted((ends[0].t, ends[1].t))
        t, margin = _interpolated(ends[0], ends[1], least, most), 0.1 * (most - least)
        if min(most - t, t - least) < margin:  # near an end, twice in a row or at it: away from there
            if is_stuck or t >= most or t <= least:
                t = most - margin if abs(t - most) < abs(t - least) else least + margin
                is_stuck = False
            else:
                is_stuck = True
        else:
            is_stuck = False
        new = at(t)
        if not has_fallen(new) or new.value >= ends[low].value:
            ends[1 - low] = new
            low = _lower(ends)
            continue
        if is_flat(new):
            return new, trials
        if new.slope * (ends[1 - low].t - ends[low].t) >= 0:
            ends[1 - low] = ends[low]
        ends[low] = new
    return ends[low], trials


def _lower(ends: list[_Point]) -> int:
    """Which end has the smaller loss; a nan counts as larger than any."""
    a, b = ends
    return 0 if a.value <= b.value or math.isnan(b.value) else 1


def _interpolated(a: _Point, b: _Point, low: float, high: float) -> float:
    """The minimum of the cubic through two points with their slopes, within limits; the middle if there is none."""
    if a.t > b.t:
        a, b = b, a
    middle = (low + high) / 2
    if a.t == b.t:
        return middle
    chord = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = chord * chord - a.slope * b.slope
    if not 0 <= square < math.inf:
        return middle
    root = math.sqrt(square)
    below = b.slope - a.slope + 2 * root
    t = b.t - (b.t - a.t) * ((b.slope + root - chord) / below) if below else math.nan
    return min(max(t, low), high) if math.isfinite(t) else middle


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x))) if x.size else 0.0


def _plain(x: Any) -> Any:
    return x.detach().numpy() if isinstance(x, Tensor) else x


def takes_closure(optimizer: Optimizer) -> bool:
    """Whether an optimizer's step evaluates the loss itself."""
    return isinstance(optimizer, LBFGS)


def search(
    optimizer: Any,
    leaves: Sequence[Any],
    structure: tree.Structure,
    evaluate: Callable[[list[Any]], tuple[Any, list[Any]]],
    check: Callable[[float, list[Any]], bool],
) -> float:
    """A step of such an optimizer on leaves that were checked, for training steps."""
    value: float = optimizer._search(leaves, structure, evaluate, check)
    return value
