"""What a descent does after each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import _core, tree
from .._compile.replayed import Replayed
from .._core import Tensor
from .arguments import positive
from .result import DescentResult
from .sources import Table
from .step import TrainingStep

__all__ = ["EpochEnd"]


class EpochEnd:
    """What is done after each epoch: validation, metrics, the learning rate of a plateau, and the ends by tol and by
    patience."""

    def __init__(
        self,
        step: TrainingStep,
        loss: Callable[..., Any],
        table: Table | None,
        held_out: Table,
        metrics: Mapping[str, Callable[..., Any]] | None,
        patience: int | None,
        restore_best: bool,
        compile: bool,
        has_aux: bool,
        tol: float | None,
        n_iter_no_change: int,
    ) -> None:
        self._tol, self._no_change = tol, n_iter_no_change
        self._previous, self._unchanged = math.inf, 0
        self._metrics = dict(metrics or {})
        taken = {"loss", "rate", "validation_loss"} & self._metrics.keys()
        if taken:
            raise ValueError(f"descend: {taken.pop()!r} is the name of a metric, but also that of a curve")
        for name, metric in self._metrics.items():
            if not callable(metric):
                raise TypeError(
                    f"descend: metrics[{name!r}] is of type {type(metric).__name__}, expected a function of params and "
                    "data"
                )
        self._patience = None if patience is None else positive("patience", patience, 1)
        self._held_out = held_out.arguments
        self._restores = bool(restore_best)
        if self._metrics and not self._held_out and table is None:
            raise ValueError(
                "descend: metrics are computed on validation_data, or on data if that is arrays; give validation_data"
            )
        self._data = self._held_out or (table.arguments if table is not None else ())
        self.has_aux = has_aux
        self._optimizer, self._params = step.optimizer, step.params
        self._leaves, structure = tree.flatten(step.params)
        self._best: list[np.ndarray] = []
        self._least, self._epoch, self._best_epoch = math.inf, 0, -1
        self._curves: dict[str, list[float]] = {}
        self._is_recorded = bool(self._held_out or self._metrics or patience is not None or restore_best)
        self._is_needed = self._is_recorded or hasattr(self._optimizer.learning_rate, "observe")

        def value(leaves: list[Any], *batch: Any) -> Any:
            tensors = [leaf if isinstance(leaf, Tensor) else _core.asarray(leaf) for leaf in leaves]
            found = loss(structure.unflatten(tensors), *batch)
            return found[0] if has_aux else found

        self._value = Replayed(value, value, "descend: the loss of validation_data", compile)

    def __call__(self, losses: list[float], result: DescentResult) -> str | None:
        """Called with the losses of an epoch; a message if the descent is to end."""
        message = self._told(losses) if self._is_needed else None
        if self._tol is None:
            return message
        mean = losses[0] if len(losses) == 1 else sum(losses) / len(losses)
        self._unchanged = self._unchanged + 1 if abs(self._previous - mean) < self._tol else 0
        self._previous = mean
        if self._unchanged == self._no_change:
            result["converged"] = True
            return f"the loss changed by less than tol={self._tol:g}"
        return message

    def _told(self, losses: list[float]) -> str | None:
        """The curves and what follows from them; a message if the descent is to end."""
        found = {"loss": sum(losses) / len(losses), "rate": self._optimizer.rate}
        watched = found["loss"]
        if self._held_out:
            watched = found["validation_loss"] = float(self._value(self._leaves, *self._held_out))
        for name, metric in self._metrics.items():
            found[name] = float(metric(self._params, *self._data))
        for name, number in found.items():
            self._curves.setdefault(name, []).append(number)
        if watched < self._least:
            self._least, self._best_epoch = watched, self._epoch
            if self._restores:
                self._best = [leaf.copy() for leaf in self._leaves]
        epoch, self._epoch = self._epoch, self._epoch + 1
        observe = getattr(self._optimizer.learning_rate, "observe", None)
        if observe is not None:
            observe(watched)
        if self._patience is not None and epoch - self._best_epoch >= self._patience:
            name = "validation loss" if self._held_out else "loss"
            return f"the {name} has not fallen for patience={self._patience} epochs"
        return None

    def close(self, result: DescentResult) -> None:
        """What the result has of the epochs; and the best parameters, if they are asked for."""
        if not self._is_recorded:
            return
        result["curves"] = {name: np.array(numbers) for name, numbers in self._curves.items()}
        result["best_epoch"] = self._best_epoch
        for leaf, best in zip(self._leaves, self._best):
            leaf[...] = best
