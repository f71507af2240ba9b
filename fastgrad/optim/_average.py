"""Averages of the weights over the steps of a training, which often generalise better than the last weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import tree
from .._arguments import integer, number
from .._core import Tensor, UpdateRule

__all__ = ["EMA", "SWA"]


class _Average:
    """What both have: `params`, the averages, None before the first update, and `steps`, the number of updates."""

    def __init__(self) -> None:
        self.params: Any = None
        self.steps = 0

    def _weight(self) -> float:
        raise NotImplementedError

    def update(self, params: Any) -> None:
        """Let the parameters, float32 or float64 arrays in any nested structure, take part. They are not changed.

        The first call copies them. Raises ValueError naming the place where they are not built as those before, and
        TypeError or ValueError for other shapes or dtypes.
        """
        leaves, structure = tree.flatten(params)
        arrays = [leaf.detach().numpy() if isinstance(leaf, Tensor) else np.asarray(leaf) for leaf in leaves]
        if self.params is None:
            copies = [np.array(array, order="C") for array in arrays]
            bad = [i for i, array in enumerate(copies) if array.dtype not in (np.float32, np.float64)]
            if bad:
                path, dtype = structure.paths("params")[bad[0]], copies[bad[0]].dtype
                raise TypeError(f"{path} has dtype {dtype}, expected float32 or float64")
            self.params = structure.unflatten(copies)
        else:
            averages, known = tree.flatten(self.params)
            arrays = known.flatten_up_to(structure.unflatten(arrays), "params")
            UpdateRule("average", (), (self._weight(),)).update(averages, arrays)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """A copy of the averages and the number of updates."""
        return {"params": tree.map(np.copy, self.params), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a copy of what `state_dict` gave."""
        if not isinstance(state, Mapping) or not {"params", "steps"} <= state.keys():
            raise TypeError(f"{type(self).__name__}.load_state_dict: expected what state_dict() returned")
        params, steps = tree.map(lambda x: np.array(x, order="C"), state["params"]), state["steps"]
        self.params, self.steps = params, integer(f"{type(self).__name__}.load_state_dict", "steps", steps, least=0)


class EMA(_Average):
    """The exponential moving average of the weights: a = decay a + (1 - decay) p; at the first update a = p.

    `params` has the averages, in the structure of the parameters; `steps` is the number of updates. `update` is made to
    be called after each step of an optimizer, as by ``callback=lambda step: average.update(step.params)`` of
    `fastgrad.descend`.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992), with weights as in
    PyTorch's ``get_ema_avg_fn``. Raises ValueError unless decay is in [0, 1].

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> average = fg.optim.EMA(decay=0.9)
    >>> for value in (1.0, 2.0):
    ...     average.update({"w": np.array([value])})
    >>> average.params
    {'w': array([1.1])}
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = number("EMA", "decay", decay, ("a number in [0, 1]", lambda x: 0 <= x <= 1))

    def _weight(self) -> float:
        return 1 - self.decay


class SWA(_Average):
    """The mean of the weights over the updates, all with the same weight: stochastic weight averaging.

    Used as `EMA`, with one update an epoch or so, from the epoch on in which the weights have come near an optimum.

    Source: Izmailov, Podoprikhin, Garipov, Vetrov and Wilson, "Averaging weights leads to wider optima and better
    generalization" (2018).

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> average = fg.optim.SWA()
    >>> for value in (1.0, 2.0, 6.0):
    ...     average.update(np.array([value]))
    >>> average.params
    array([3.])
    """

    def _weight(self) -> float:
        return 1 / (self.steps + 1)
