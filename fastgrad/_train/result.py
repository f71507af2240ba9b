"""What a descent returns, and how it shows itself."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DescentResult"]


class DescentResult(dict[str, Any]):
    """What `descend` returns: a dict whose entries are also attributes, as SciPy's OptimizeResult.

    params     the structure of arrays reached
    loss       the last entry of history (nan if no step was taken)
    history    a float64 array, the loss of each step before its update
    steps      how many steps were taken
    converged  True if the loss changed by less than tol
    message    why the descent ended

    With validation_data, metrics, patience or restore_best also

    curves      a dict of float64 arrays with one entry for each epoch that was completed: "step", the number of steps
                up to its end, "loss", its mean loss, "rate", the learning rate at its end, "validation_loss", and the
                metrics by their names
    best_epoch  the epoch, from 0, after which validation_loss, or without it the loss, was least; -1 if there is none

    with has_aux

    aux        what the loss returned besides its value at the last step

    and with nonfinite="skip"

    skipped    how many steps were left out

    `plot()` draws the losses by matplotlib, and a notebook shows them as a curve.
    """

    params: Any
    loss: float
    history: np.ndarray
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

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss of each step, and the validation loss if there is one, over the number of steps.

        In the matplotlib axes ``ax``, or in new ones; they are returned. The scale is logarithmic where the losses are
        positive and of different magnitudes. ImportError if matplotlib is not installed.

        >>> import matplotlib; matplotlib.use("agg")
        >>> import numpy as np
        >>> import fastgrad as fg
        >>> result = fg.descend(lambda p: fg.sum(p**2), np.ones(2), optimizer=fg.optim.SGD(0.1), steps=20)
        >>> result.plot().get_ylabel()
        'loss'
        """
        from .. import _plot

        ax = _plot.axes("DescentResult.plot", ax)
        curves = self._losses()
        for name, steps, values in curves:
            ax.plot(steps, values, label=name, linewidth=1)
        ax.set(xlabel="step", ylabel="loss")
        if _plot.is_steep(np.concatenate([values for *_, values in curves])):
            ax.set_yscale("log")
        if len(curves) > 1:
            ax.legend()
        return ax

    def _losses(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        history = np.asarray(self.get("history", ()), np.float64)
        curves = [("loss", np.arange(1.0, history.size + 1), history)]
        by_epoch = self.get("curves", {})
        if "validation_loss" in by_epoch:
            curves.append(("validation loss", by_epoch["step"], by_epoch["validation_loss"]))
        return curves

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        with np.printoptions(threshold=40, edgeitems=3):
            shown = {key: repr(value) for key, value in self.items()}
        if len(self.get("history", ())):
            shown["history"] = _short(self["history"])
        if isinstance(self.get("curves"), dict):
            shown["curves"] = "\n".join(f"{name}: {_short(values)}" for name, values in self["curves"].items())
        indent = "\n" + " " * (width + 2)
        return "\n".join(f"{key:>{width}}: {text.replace(chr(10), indent)}" for key, text in shown.items())

    def _repr_html_(self) -> str:
        """The curve of the losses, and the entries as text."""
        import html

        from .. import _plot

        picture = _plot.svg(self._losses(), "step")
        return f"<div>{picture}<pre>{html.escape(repr(self))}</pre></div>"


def _short(values: Any) -> str:
    """A few numbers of many."""
    texts = [f"{value:.4g}" for value in (values if len(values) <= 6 else [*values[:3], *values[-3:]])]
    if len(values) > 6:
        texts.insert(3, "...")
    return f"[{', '.join(texts)}]"
