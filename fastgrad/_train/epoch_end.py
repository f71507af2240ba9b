"""What a descent does after each epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import tree
from .arguments import positive
from .result import DescentResult
from .step import TrainingStep
from .validation import Validation

__all__ = ["EpochEnd"]


class EpochEnd:
    """What is done after each epoch: validation, metrics, the learning rate of a plateau, and the ends by tol and by
    patience."""

    def __init__(
        self,
        step: TrainingStep,
        validation: Validation,
        patience: int | None,
        restore_best: bool,
        tol: float | None,
        n_iter_no_change: int,
    ) -> None:
        self._validation = validation
        self._tol, self._no_change = tol, n_iter_no_change
        self._previous, self._unchanged = math.inf, 0
        self._patience = None if patience is None else positive("patience", patience, 1)
        self._restores = restore_best
        self._optimizer, self._skips = step.optimizer, step.skips
        self._leaves = tree.leaves(step.params)
        self._best: list[np.ndarray] = []
        self._least, self._epoch, self._best_epoch = math.inf, 0, -1
        self._curves: dict[str, list[float]] = {}
        self._is_recorded = validation.is_needed or patience is not None or self._restores
        self._is_told = self._is_recorded or hasattr(self._optimizer.learning_rate, "observe")
        self.is_needed = self._is_told or tol is not None

    def __call__(self, losses: list[float], result: DescentResult) -> str | None:
        """Called with the losses of an epoch; a message if the descent is to end."""
        if self._skips:
            losses = [loss for loss in losses if math.isfinite(loss)] or [math.nan]
        mean = losses[0] if len(losses) == 1 else sum(losses) / len(losses)
        if self._is_told:
            self._tell(mean, result.steps)
        if self._tol is not None:
            self._unchanged = self._unchanged + 1 if abs(self._previous - mean) < self._tol else 0
            self._previous = mean
        return self.ended(result)

    def ended(self, result: DescentResult) -> str | None:
        """A message if the descent is to end after the epochs that are over."""
        if self._tol is not None and self._unchanged >= self._no_change:
            result["converged"] = True
            return f"the loss changed by less than tol={self._tol:g}"
        if self._patience is not None and self._epoch - 1 - self._best_epoch >= self._patience:
            name = "validation loss" if self._validation.has_data else "loss"
            key = "validation_loss" if self._validation.has_data else "loss"
            last = self._curves.get(key, [])[-self._patience :]
            was_nan = ", in which it was nan" if last and all(map(math.isnan, last)) else ""
            return f"the {name} has not fallen for patience={self._patience} epochs{was_nan}"
        return None

    def _tell(self, mean: float, steps: int) -> None:
        """The curves, the best parameters, and the schedule that watches the loss."""
        found: dict[str, float] = {"step": steps, "loss": mean, "rate": self._optimizer.rate}
        if self._validation.is_needed:
            found |= self._validation(self._epoch)
        watched = found.get("validation_loss", mean)
        n = len(self._curves.get("step", []))
        for name in self._curves | found:  # a metric may have been added or left out where a descent was resumed
            self._curves.setdefault(name, [math.nan] * n).append(found.get(name, math.nan))
        if watched < self._least:
            self._least, self._best_epoch = watched, self._epoch
            if self._restores:
                self._best = [leaf.copy() for leaf in self._leaves]
        self._epoch += 1
        observe = getattr(self._optimizer.learning_rate, "observe", None)
        if observe is not None:
            observe(watched)

    def state(self) -> dict[str, Any]:
        return {
            "previous": self._previous, "unchanged": self._unchanged,
            "curves": {name: np.array(numbers, np.float64) for name, numbers in self._curves.items()},
            "least": self._least, "epoch": self._epoch, "best_epoch": self._best_epoch, "best": list(self._best),
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        self._previous, self._unchanged = state["previous"], state["unchanged"]
        self._curves = {name: numbers.tolist() for name, numbers in state["curves"].items()}
        self._least, self._epoch, self._best_epoch = state["least"], state["epoch"], state["best_epoch"]
        if self._restores and self._best_epoch >= 0 and not state["best"]:
            raise ValueError("it was written without restore_best=True, so it does not have the best parameters")
        self._best = state["best"] if self._restores else []

    def close(self, result: DescentResult) -> None:
        """What the result has of the epochs; and the best parameters, if they are asked for."""
        if not self._is_recorded:
            return
        result["curves"] = {name: np.array(numbers, np.float64) for name, numbers in self._curves.items()}
        result["best_epoch"] = self._best_epoch
        for leaf, best in zip(self._leaves, self._best):
            leaf[...] = best
