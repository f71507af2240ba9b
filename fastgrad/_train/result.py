"""What a descent returns."""

from __future__ import annotations

from typing import Any

__all__ = ["DescentResult"]


class DescentResult(dict[str, Any]):
    """What `descend` returns: a dict whose entries are also attributes, as SciPy's OptimizeResult.

    params     the structure of arrays reached
    loss       the last entry of history (nan if no step was taken)
    history    the loss of each step, before its update
    steps      how many steps were taken
    converged  True if the loss changed by less than tol
    message    why the descent ended

    With validation_data, metrics or patience also

    curves      a dict of float64 arrays with one entry for each epoch that was completed: "loss", its mean loss,
                "rate", the learning rate at its end, "validation_loss", and the metrics by their names
    best_epoch  the epoch, from 0, after which validation_loss, or without it the loss, was least; -1 if there is none

    and with has_aux

    aux        what the loss returned besides its value at the last step
    """

    params: Any
    loss: float
    history: list[float]
    steps: int
    converged: bool
    message: str

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"a descent result has no {name!r}, only {', '.join(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        shown = {key: f"{value!r}" for key, value in self.items()}
        if "history" in shown and len(self["history"]) > 6:
            first, last = self["history"][:3], self["history"][-3:]
            shown["history"] = f"[{', '.join(f'{x:.4g}' for x in first)}, ..., {', '.join(f'{x:.4g}' for x in last)}]"
        indent = "\n" + " " * (width + 2)
        return "\n".join(f"{key:>{width}}: {text.replace(chr(10), indent)}" for key, text in shown.items())
