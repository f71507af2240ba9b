"""Training by descent: the loop around `training_step`, over mini-batches.

Ctrl-C takes effect between steps only: parameters and optimizer state are always those of whole steps.
"""

from __future__ import annotations

import math
import operator
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core, optim, tree
from .._compile.replayed import Replayed
from .._core import Tensor
from .._transforms.arguments import tracked_error
from .parallel import RankError, Ranks, Stopped, agree_on_end, parts_of
from .step import NonFinite, TrainingStep, begin_on_ranks, take_step

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, Order

__all__ = ["DescentResult", "descend"]


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


@agree_on_end
def descend(
    loss: Callable[..., Any],
    params: Any,
    data: Any = None,
    *,
    optimizer: optim.Optimizer | str,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int | np.random.Generator | None = None,
    tol: float | None = None,
    n_iter_no_change: int = 1,
    callback: Callable[[DescentResult], Any] | None = None,
    progress: bool | None = None,
    nonfinite: NonFinite = "raise",
    compile: bool = True,
    validation_data: Any = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    patience: int | None = None,
    restore_best: bool = False,
    time_limit: float | None = None,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    clip_each_norm: float | None = None,
    accumulate: int = 1,
    has_aux: bool = False,
    comm: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
    resume: bool = False,
) -> DescentResult:
    """Minimise a loss by steps of an optimizer, over mini-batches of data if there are any.

    Parameters
    ----------
    loss : callable
        ``loss(params, *batch)`` returns a scalar computed by fastgrad or NumPy functions.
    params : nested structure
        Where to start: float32 or float64 arrays; Python floats become float64 arrays. They are copied and never
        changed.
    data : array or tuple of arrays, optional
        The rows (along the first axis, the same number in each array) that make the batches; None for a loss of
        params alone.
    optimizer : fastgrad.optim.Optimizer or str
        An object of ``fastgrad.optim`` or a name. Its state is kept: another call with the same object and
        ``result.params`` goes on where this one ended.
    steps, epochs : int, optional
        How long to run, whichever ends first; at least one of them. An epoch is one pass over the data, a single
        step without data or batch_size.
    batch_size : int, optional
        How many rows a step takes, all if None. The last batch of an epoch may be smaller.
    shuffle : bool
        Draw the rows of the batches in a new order each epoch.
    seed : int or numpy.random.Generator, optional
        Of that order; None for another order each call.
    tol : float, optional
        End when the loss, taken as its mean over an epoch, changes by less than tol from one epoch to the next;
        without batches that is from one step to the next.
    n_iter_no_change : int
        How many such changes in a row it takes.
    callback : callable, optional
        Called after each step with ``.step .epoch .loss .params``: the step's number from 0, its epoch, its loss
        before the update, the live arrays; and with has_aux ``.aux``. Returning True or raising StopIteration ends the
        descent.
    progress : bool, optional
        Show a progress bar on stderr; None shows it if stderr is a terminal.
    nonfinite : {"raise", "skip", "ignore"}
        What to do about a loss or gradient that is not finite: raise FloatingPointError (whose ``.result`` is what
        was reached before that step), leave the step out, or check nothing and update.
    compile : bool
        Trace the loss and replay it, as ``training_step`` does: at most two programs, one for the last batch of an
        epoch if that is smaller.
    validation_data : array or tuple of arrays, optional
        Further arguments of the loss, as data, for which it is computed after each epoch, all rows at once.
    metrics : dict of callables, optional
        Functions of params and the arrays of validation_data, or of data if there is none, that return a number; they
        are called after each epoch.
    patience : int, optional
        End after so many epochs in a row in which the validation loss, or without validation_data the mean loss of the
        epoch, was not less than the least one before.
    restore_best : bool
        Return the parameters as they were after the epoch in which that loss was least; the optimizer's state is that
        of the last step.
    time_limit : float, optional
        End after the step during which so many seconds have passed.
    clip_value, clip_norm, clip_each_norm, accumulate, has_aux
        As of ``training_step``.
    comm : mpi4py communicator, optional
        Descend together with other processes, all of which call this with the same arguments and data: each computes
        the loss of its part of the rows of each batch, and all get the same result. Batches, history and result are
        those of one process, up to rounding, for any number of processes. The first callback that stops, time_limit or
        Ctrl-C ends all of them. If one fails, the others raise RuntimeError. See ``docs/mpi.md``.
    checkpoint : str or path-like, optional
        A file for all that it takes to go on after a step: parameters, optimizer and schedule, the place in the data
        and the order of the rows, history, curves and best parameters, and the random generators and averages
        (``optim.EMA``, ``optim.SWA``) that loss, metrics and callback reach. Of the format that the end of its name
        tells, as of `fastgrad.save`. It is replaced whole, and the one before it is kept beside it, as
        "run.previous.npz" for "run.npz". A callback with methods state_dict and load_state_dict has its state in it,
        too.
    every : int, optional
        After how many steps it is written; None for each epoch, where that is more than a step. It is written at the
        end in any case, also after Ctrl-C, unless an error ends the descent.
    resume : bool
        Go on from the checkpoint, if there is one, to the same bits as if there had been no interruption. steps, epochs
        and history count from the first beginning; params and seed tell only where that was. ValueError if the
        checkpoint is of other parameters, data, or another optimizer. One that is damaged is passed over, with a
        warning, for the one before it.

    A learning rate that is a ``fastgrad.schedules.ReduceOnPlateau`` is told the same loss after each epoch.

    Returns
    -------
    DescentResult
        With ``.params .loss .history .steps .converged .message``; params in the structure of params.

    Ctrl-C ends the descent after the step under way and returns what was reached; a second Ctrl-C interrupts that
    step. Raises TypeError or ValueError for arguments that do not fit, FloatingPointError as said, OSError if a
    checkpoint cannot be written: before the first step, or later with what was reached as its ``.result``.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.linspace(-1, 1, 50)
    >>> line = lambda p, x, y: fg.losses.mse(p["slope"] * x + p["offset"], y)
    >>> result = fg.descend(line, {"slope": 0.0, "offset": 0.0}, (x, 3 * x - 1), optimizer=fg.optim.SGD(0.5),
    ...                     steps=100, seed=0)
    >>> result.params["slope"].round(6), result.params["offset"].round(6)
    (np.float64(3.0), np.float64(-1.0))
    """
    leaves, structure = tree.flatten(params)
    optim.check_distinct(leaves, structure, "params")
    for i, p in enumerate(leaves):
        if isinstance(p, Tensor) and (p.requires_grad or _core.traced(p)):
            raise tracked_error(f"descend: {structure.paths('params')[i]}")
    live = structure.unflatten(map(_float_array, leaves))
    step = TrainingStep(
        loss, live, optimizer, nonfinite, compile, clip_value=clip_value, clip_norm=clip_norm,
        clip_each_norm=clip_each_norm, accumulate=accumulate, has_aux=has_aux, _ranks=comm, _name="descend",
    )  # fmt: skip
    arrays = _data_arrays(data)
    rows = len(arrays[0]) if arrays else 1
    size = _positive("batch_size", batch_size, rows) if arrays else 1
    if not arrays and batch_size is not None:
        raise ValueError("descend: batch_size is given but data is None: there are no rows to draw")
    if size > rows:
        raise ValueError(
            f"descend: batch_size={size} is larger than the data, which has {rows} rows; "
            "use a smaller one, or None for all rows"
        )
    if steps is None and epochs is None:
        raise ValueError("descend: how long to run? Give steps= or epochs=")
    per_epoch = -(-rows // size)
    total = min(_positive("steps", steps, sys.maxsize), _positive("epochs", epochs, sys.maxsize) * per_epoch)
    if tol is not None and not (isinstance(tol, (int, float, np.number)) and tol >= 0):
        raise ValueError(f"descend: tol is {tol!r}, expected a number of at least 0 or None")
    if callback is not None and not callable(callback):
        raise TypeError(f"descend: callback is of type {type(callback).__name__}, expected a function")

    tolerance = _Tolerance(tol, _positive("n_iter_no_change", n_iter_no_change, 1))
    if time_limit is not None and not (isinstance(time_limit, (int, float, np.number)) and time_limit > 0):
        raise ValueError(f"descend: time_limit is {time_limit!r}, expected a number of seconds above 0 or None")
    held_out = _data_arrays(validation_data, "validation_data")
    epochs_end = _EpochEnd(step, loss, arrays, held_out, metrics, patience, restore_best, compile, has_aux)

    result = DescentResult(
        params=live, loss=np.nan, history=[], steps=0, converged=False, message=f"took all {total} steps"
    )
    rng: Any = np.random.default_rng(seed)
    ranks: Ranks | None = comm
    if ranks is not None:
        begin_on_ranks(step, ranks, rows=rows, batch_size=size, shuffle=bool(shuffle), steps=total)
        rng, progress = ranks.agree_on_generator(rng), False if ranks.rank else progress
    saver, taken = None, 0
    if checkpoint is not None:
        from .checkpoint import Checkpoint, Order, about

        due = _positive("every", every, per_epoch if per_epoch > 1 else sys.maxsize)
        order = rng = Order(rng)
        saver = Checkpoint(
            checkpoint, due, per_epoch, step, order, {"tol": tolerance, "epochs": epochs_end},
            [loss, *(metrics or {}).values(), callback],
            about(step, arrays, held_out, batch_size=size, shuffle=bool(shuffle), accumulate=accumulate),
            ranks,
        )  # fmt: skip
        taken = saver.begin(resume, result)
        if taken >= total:
            result.message = f"took all {taken} steps"
    elif every is not None or resume:
        raise ValueError("descend: every and resume are about a checkpoint; give the path of one, checkpoint=")
    batches = _batches(arrays, rows, size, shuffle, rng, taken % per_epoch)
    if ranks is not None:
        batches = parts_of(batches, ranks)
    bar = _Bar(progress, total)
    try:
        with _core.DeferredInterrupt() as interrupt:
            _run(step, batches, total, per_epoch, tolerance, time_limit, callback, epochs_end, bar, interrupt, saver,
                 result)  # fmt: skip
            if saver is not None:
                saver.write(result)
    except KeyboardInterrupt:
        result.message = f"interrupted after {result.steps} steps"
    except Stopped as stop:
        result.message = str(stop)
        if saver is not None:
            saver.write(result)
    except (FloatingPointError, RankError) as error:
        error.result = result  # type: ignore[union-attr]
        raise
    finally:
        bar.close(result)
        epochs_end.close(result)
    return result


def _run(
    step: TrainingStep,
    batches: Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]],
    total: int,
    per_epoch: int,
    tolerance: _Tolerance,
    time_limit: float | None,
    callback: Callable[[DescentResult], Any] | None,
    epochs_end: _EpochEnd,
    bar: _Bar,
    interrupt: _core.FirstInterrupt,
    saver: Checkpoint | None,
    result: DescentResult,
) -> None:
    """The loop. `result` is brought up to date after each step, so that it is right however this ends."""
    history = result.history
    taken = result.steps
    if taken and _is_at_its_end(tolerance, epochs_end, result):
        return
    due = sys.maxsize if saver is None else saver.next_after(taken)
    deadline = None if time_limit is None else time.monotonic() + time_limit
    has_aux, has_bar, has_epochs = epochs_end.has_aux, bar.is_shown, epochs_end.is_needed
    has_tolerance = tolerance.tol is not None
    for number in range(taken, total):
        value = take_step(step, *next(batches))
        if has_aux:
            value, result["aux"] = value
        history.append(value)
        result["loss"], result["steps"] = value, number + 1
        if has_bar:
            bar.update(result)
        if callback is not None:
            info = DescentResult(step=number, epoch=number // per_epoch, loss=value, params=result.params)
            if has_aux:
                info["aux"] = result["aux"]
            try:
                stop = callback(info)
            except StopIteration:
                stop = True
            if isinstance(stop, (bool, np.bool_)) and stop:
                result.message = f"stopped by the callback after {number + 1} steps"
                return
        if has_tolerance and (number + 1) % per_epoch == 0:
            tolerance(value if per_epoch == 1 else sum(history[-per_epoch:]) / per_epoch)
            if tolerance.is_met:
                if has_epochs:
                    epochs_end(history[-per_epoch:])
                _is_at_its_end(tolerance, epochs_end, result)
                return
        if has_epochs and (number + 1) % per_epoch == 0:
            epochs_end(history[-per_epoch:])
            if epochs_end.message is not None:
                result.message = epochs_end.message
                return
        if deadline is not None and time.monotonic() >= deadline:
            result.message = f"stopped by time_limit={time_limit:g} after {number + 1} steps"
            return
        if number + 1 == due:
            assert saver is not None
            saver.write(result)
            due = saver.next_after(due)
        if interrupt.seen:
            if saver is not None:
                saver.write(result)
            raise KeyboardInterrupt


def _is_at_its_end(tolerance: _Tolerance, epochs_end: _EpochEnd, result: DescentResult) -> bool:
    """Whether the loss no longer changes or falls; then the result says so."""
    if tolerance.is_met:
        result.update(converged=True, message=f"the loss changed by less than tol={tolerance.tol:g}")
    elif epochs_end.message is not None:
        result.message = epochs_end.message
    else:
        return False
    return True


class _Tolerance:
    """Whether the loss has changed by less than tol so many times in a row."""

    def __init__(self, tol: float | None, no_change: int) -> None:
        self.tol, self._no_change = tol, no_change
        self._previous, self._unchanged = math.inf, 0

    def __call__(self, mean: float) -> None:
        """Called with the mean loss of an epoch."""
        assert self.tol is not None
        self._unchanged = self._unchanged + 1 if abs(self._previous - mean) < self.tol else 0
        self._previous = mean

    @property
    def is_met(self) -> bool:
        return self.tol is not None and self._unchanged >= self._no_change

    def state(self) -> dict[str, Any]:
        return {"previous": self._previous, "unchanged": self._unchanged}

    def load(self, state: dict[str, Any]) -> None:
        self._previous, self._unchanged = state["previous"], state["unchanged"]


class _EpochEnd:
    """What is done after each epoch: validation, metrics, the learning rate of a plateau, and the end by patience."""

    def __init__(
        self,
        step: TrainingStep,
        loss: Callable[..., Any],
        arrays: tuple[np.ndarray, ...],
        held_out: tuple[np.ndarray, ...],
        metrics: Mapping[str, Callable[..., Any]] | None,
        patience: int | None,
        restore_best: bool,
        compile: bool,
        has_aux: bool,
    ) -> None:
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
        self._patience = None if patience is None else _positive("patience", patience, 1)
        self._held_out, self._data, self._restores = held_out, held_out or arrays, bool(restore_best)
        self.has_aux = has_aux
        self._optimizer, self._params = step.optimizer, step.params
        self._leaves, structure = tree.flatten(step.params)
        self._best: list[np.ndarray] = []
        self._least, self._epoch, self._best_epoch = math.inf, 0, -1
        self._curves: dict[str, list[float]] = {}
        self._is_recorded = bool(held_out or self._metrics or patience is not None or restore_best)
        self.is_needed = self._is_recorded or hasattr(self._optimizer.learning_rate, "observe")

        def value(leaves: list[Any], *batch: Any) -> Any:
            tensors = [leaf if isinstance(leaf, Tensor) else _core.asarray(leaf) for leaf in leaves]
            found = loss(structure.unflatten(tensors), *batch)
            return found[0] if has_aux else found

        self._value = Replayed(value, value, "descend: the loss of validation_data", compile)

    def __call__(self, losses: list[float]) -> None:
        """Called with the losses of an epoch."""
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
        self._epoch += 1
        observe = getattr(self._optimizer.learning_rate, "observe", None)
        if observe is not None:
            observe(watched)

    @property
    def message(self) -> str | None:
        """Why the descent is to end, if it is."""
        if self._patience is None or self._epoch - 1 - self._best_epoch < self._patience:
            return None
        name = "validation loss" if self._held_out else "loss"
        return f"the {name} has not fallen for patience={self._patience} epochs"

    def state(self) -> dict[str, Any]:
        return {
            "curves": {name: np.array(numbers, np.float64) for name, numbers in self._curves.items()},
            "least": self._least, "epoch": self._epoch, "best_epoch": self._best_epoch, "best": list(self._best),
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        self._curves = {name: numbers.tolist() for name, numbers in state["curves"].items()}
        self._least, self._epoch, self._best_epoch = state["least"], state["epoch"], state["best_epoch"]
        self._best = state["best"]

    def close(self, result: DescentResult) -> None:
        """What the result has of the epochs; and the best parameters, if they are asked for."""
        if not self._is_recorded:
            return
        result["curves"] = {name: np.array(numbers) for name, numbers in self._curves.items()}
        result["best_epoch"] = self._best_epoch
        for leaf, best in zip(self._leaves, self._best):
            leaf[...] = best


# arguments --------------------------------------------------------------------------------------------------


def _float_array(p: Any) -> Any:
    """A copy of a parameter that can be updated in place; what is no float array is left to be refused."""
    if isinstance(p, Tensor):
        p = p.detach().numpy()
    if isinstance(p, (float, np.floating, np.ndarray)) and not _core.is_masked(p):
        return np.array(p, order="C")
    return p


def _data_arrays(data: Any, name: str = "data") -> tuple[np.ndarray, ...]:
    if data is None:
        return ()
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    for i, part in enumerate(parts):
        if _core.is_masked(part):
            raise TypeError(
                f"descend: {name}[{i}] is a masked array, whose mask would be ignored; fill it with .filled() first"
            )
    arrays = tuple([_as_array(part, f"{name}[{i}]") for i, part in enumerate(parts)])
    if not arrays:
        raise ValueError(f"descend: {name} is empty; pass an array, a tuple of arrays, or None")
    for i, array in enumerate(arrays):
        if array.ndim == 0 or array.dtype == object:
            raise TypeError(
                f"descend: {name}[{i}] is {array.dtype} of shape {array.shape}, expected an array of rows; "
                "pass an array or a tuple of arrays with one first axis"
            )
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"descend: the arrays of {name} have {lengths} rows, expected the same number in each")
    if lengths[0] == 0:
        raise ValueError(f"descend: {name} has no rows")
    return arrays


def _as_array(part: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(part)
    except ValueError:
        if not isinstance(part, (list, tuple)):
            raise
        raise ValueError(
            f"descend: {name} is a {type(part).__name__} of rows of different shapes, expected an array of rows; "
            "pad sequences to one length and pass their lengths as another array of data, for fastgrad.where to leave "
            "out what was added"
        ) from None


def _positive(name: str, value: Any, default: int) -> int:
    if value is None:
        return default
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"descend: {name} is {value!r}, expected an integer above 0 or None") from None
    if number < 1 or isinstance(value, bool):
        raise ValueError(f"descend: {name} is {value!r}, expected an integer above 0 or None")
    return number


def _batches(
    arrays: tuple[np.ndarray, ...], rows: int, size: int, shuffle: bool, rng: np.random.Generator | Order, skip: int
) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]]:
    """Batches without end, an epoch after the other: arrays, and the rows of them, None for all. The first epoch begins
    after so many batches."""
    if size == rows:  # each step reads all of it: arrays that are not contiguous are copied once, not at each step
        arrays = tuple(np.ascontiguousarray(array) if array.flags.aligned else array for array in arrays)
    while size == rows:
        yield arrays, None
    while True:
        order = rng.permutation(rows) if shuffle else None
        for start in range(skip * size, rows, size):
            if order is None:
                yield tuple(array[start : start + size] for array in arrays), None
            else:
                yield arrays, order[start : start + size]
        skip = 0


# the terminal -----------------------------------------------------------------------------------------------


class _Bar:
    """A tqdm progress bar, or nothing: tqdm is imported only when a bar is shown.

    tqdm is told of the steps ten times a second, since its own bookkeeping costs as much as a small step.
    """

    def __init__(self, progress: bool | None, total: int) -> None:
        self._bar: Any = None
        self.is_shown = False
        self._next = 0.0
        if sys.stderr is not None and sys.stderr.isatty() if progress is None else progress:
            from tqdm import tqdm

            self._bar, self.is_shown = tqdm(total=total, unit="step"), True

    def update(self, result: DescentResult) -> None:
        if self._bar is not None and (now := time.monotonic()) >= self._next:
            self._next = now + 0.1
            self._show(result)

    def close(self, result: DescentResult) -> None:
        if self._bar is not None:
            self._show(result)
            self._bar.close()

    def _show(self, result: DescentResult) -> None:
        self._bar.set_postfix_str(f"loss {result.loss:.4g}", refresh=False)
        self._bar.update(result.steps - self._bar.n)
