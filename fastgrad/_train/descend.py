"""Training by descent: the loop around `training_step`, over mini-batches.

Ctrl-C takes effect between steps only: parameters and optimizer state are always those of whole steps.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import _core, optim, tree
from .._arguments import flag, integer, number
from .._core import Tensor
from .._transforms.arguments import tracked_error
from .arguments import positive
from .arrays import parameters_of
from .epoch_end import EpochEnd
from .parallel import RankError, Ranks, Stopped, agree_on_end, own_parts
from .progress import Progress
from .result import DescentResult
from .sources import Source, Table, is_iterable, loss_of_arrays, source_of, weights_of
from .step import NonFinite, TrainingStep, begin_on_ranks, take_step
from .validation import Validation

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

__all__ = ["DescentResult", "descend"]


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
    drop_last: bool = False,
    prefetch: int = 0,
    sample_weight: Any = None,
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
    native: bool | Literal["auto"] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
    resume: bool = False,
    comm: Any = None,
) -> DescentResult:
    """Minimise a loss by steps of an optimizer, over mini-batches of data if there are any.

    Parameters
    ----------
    loss : callable
        ``loss(params, *batch)`` returns a scalar computed by fastgrad or NumPy functions.
    params : nested structure
        Where to start: float32 or float64 arrays. Numbers and lists of numbers become arrays, of float64 where they
        are Python's. They are copied, so that those given are never changed.
    data : array, dict or tuple of these, or something to iterate over, optional
        Rows along the first axis, the same number in each array, of which batches are made: an array, a dict of arrays,
        which comes to the loss as a dict, or a tuple with one of these for each argument. Or an iterable of batches, or
        a function that returns an iterator, which is gone through anew each epoch; an iterator given itself is one
        epoch, and its end ends the descent. A batch is a tuple or list of arguments, or the only one. A list is taken
        as a tuple is, and one of tuples or dicts, which may be meant as batches, raises TypeError. None for a loss of
        params alone.
    optimizer : fastgrad.optim.Optimizer or str
        An object of ``fastgrad.optim`` or a name. Its state is kept: another call with the same object and
        ``result.params`` goes on where this one ended.
    steps, epochs : int, optional
        How long to run, whichever ends first; at least one of them, unless data is an iterator. An epoch is one pass
        over the data, a single step without data or batch_size.
    batch_size : int, optional
        How many rows a step takes, all if None. The last batch of an epoch may be smaller.
    shuffle : bool
        Draw the rows of the batches in a new order each epoch.
    seed : int or numpy.random.Generator, optional
        Of the order of the rows; None for another order each call.
    drop_last : bool
        Leave out the last batch of an epoch if it is smaller.
    prefetch : int
        How many batches a thread has ready while steps are taken; 0 for no thread.
    sample_weight : array, optional
        A number of at least 0 for each row. The loss then returns a value for each row, and the mean of weight times
        value is taken, with weights scaled to have the mean 1 over all rows. The validation loss has no weights.
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
    native : bool, "auto" or None
        Whether these programs, and that of the loss of validation_data, run as C, as of ``training_step``.
    validation_data : as data, optional
        Further arguments of the loss, for which it is computed after each epoch, all rows at once; of an iterable the
        mean over the batches, weighted by their rows.
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
        and history count from the first beginning; params and seed tell only where that was. Data to iterate over must
        yield the same batches again: those of the epoch that were taken are dropped. ValueError if the checkpoint is of
        other parameters or data, or another optimizer. One that is damaged is passed over, with a warning, for the one
        before it.
    comm : mpi4py communicator, optional
        Descend together with other processes, all of which call this with the same arguments and data: each computes
        the loss of its part of the rows of each batch, and all get the same result. Batches, history and result are
        those of one process, up to rounding, for any number of processes. The first callback that stops, time_limit or
        Ctrl-C ends all of them. If one fails, the others raise RuntimeError. See ``docs/mpi.md``.

    A learning rate that is a ``fastgrad.schedules.ReduceOnPlateau`` is told after each epoch the loss that patience
    watches.

    Returns
    -------
    DescentResult
        With ``.params .loss .history .steps .converged .message``; params in the structure of params. Validation data,
        metrics, patience or restore_best add ``.curves .best_epoch``, has_aux ``.aux``, nonfinite="skip" ``.skipped``.

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
    for what, given in (
        ("shuffle", shuffle), ("drop_last", drop_last), ("restore_best", restore_best), ("resume", resume),
        ("compile", compile), ("has_aux", has_aux),
    ):  # fmt: skip
        flag("descend", what, given)
    if progress is not None:
        flag("descend", "progress", progress)
    prefetch = integer("descend", "prefetch", prefetch, least=0)
    live = _copied(params)
    table = None if is_iterable(data) else Table(data)
    is_weighted = sample_weight is not None
    weights = weights_of(sample_weight, table, _dtype_of(live)) if is_weighted else None
    step = TrainingStep(
        loss_of_arrays(loss, table, is_weighted, has_aux), live, optimizer, nonfinite, compile, clip_value=clip_value,
        clip_norm=clip_norm, clip_each_norm=clip_each_norm, accumulate=accumulate, has_aux=has_aux, native=native,
        _ranks=comm, _name="descend",
        _places=None if table is None else ["sample_weight"] * is_weighted + table.paths("batch"),
    )  # fmt: skip
    source = source_of(data, table, batch_size, shuffle, seed, drop_last, weights)
    if prefetch:
        from .prefetch import prefetched

        source = prefetched(source, prefetch, data)
    if steps is None and epochs is None and not source.is_once:
        raise ValueError("descend: how long to run? Give steps= or epochs=")
    n_steps, n_epochs = positive("steps", steps, sys.maxsize), positive("epochs", epochs, sys.maxsize)
    expected = n_steps if source.per_epoch is None else min(n_steps, n_epochs * source.per_epoch)
    _check_ends(tol, callback, time_limit)
    if time_limit is None and tol is None:
        source.expect(expected, is_constant=callback is None and metrics is None)
    no_change = positive("n_iter_no_change", n_iter_no_change, 1)
    validation = Validation(step, loss, table, validation_data, metrics, compile, has_aux, is_weighted, native)
    epoch_end = EpochEnd(step, validation, patience, restore_best, tol, no_change)

    result = DescentResult(params=live, loss=np.nan, history=[], steps=0, converged=False, message="")
    ranks: Ranks | None = comm
    if ranks is not None:
        begin_on_ranks(step, ranks, rows=len(table) if table is not None else None, batch_size=source.rows,
                       shuffle=shuffle, steps=expected)  # fmt: skip
        position = ranks.agree(source.state())
        ranks.on_all(lambda: source.restore(position))
        progress = False if ranks.rank else progress
    saver = None
    if checkpoint is not None:
        from .checkpoint import Checkpoint, about

        saver = Checkpoint(
            checkpoint, None if every is None else positive("every", every, 1), step, source, {"epochs": epoch_end},
            [loss, *(metrics or {}).values(), callback],
            about(step, data, validation_data, sample_weight, batch_size=source.rows, shuffle=shuffle,
                  drop_last=drop_last, accumulate=accumulate),
            ranks,
        )  # fmt: skip
        saver.begin(resume, result)
    elif every is not None or resume:
        raise ValueError("descend: every and resume are about a checkpoint; give the path of one, checkpoint=")
    bar = Progress(progress, expected if expected < sys.maxsize else None, source.rows, step.optimizer, result.steps)
    try:
        with _core.DeferredInterrupt() as interrupt:
            source.interrupt = interrupt
            _run(step, source, n_steps, n_epochs, time_limit, callback, epoch_end, bar, interrupt, has_aux, saver,
                 ranks, result)  # fmt: skip
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
        source.close()
        bar.close(result)
        result.history = np.array(result.history, np.float64)
        epoch_end.close(result)
        if step.skips:
            result["skipped"] = step.skipped
    return result


def _run(
    step: TrainingStep,
    source: Source,
    n_steps: int,
    n_epochs: int,
    time_limit: float | None,
    callback: Callable[[DescentResult], Any] | None,
    epoch_end: EpochEnd,
    bar: Progress,
    interrupt: _core.FirstInterrupt,
    has_aux: bool,
    saver: Checkpoint | None,
    ranks: Ranks | None,
    result: DescentResult,
) -> None:
    """The loop. `result` is brought up to date after each step, so that it is right however this ends."""
    history: list[float] = result["history"]
    number = result.steps
    if number and (message := epoch_end.ended(result)):
        result.message = message
        return
    deadline = None if time_limit is None else time.monotonic() + time_limit
    has_bar, has_epoch_end = bar.is_shown, epoch_end.is_needed
    due = sys.maxsize if saver is None else saver.due_after(number)
    is_stopped = False  # by the callback
    while number < n_steps and source.epoch < n_epochs:
        before = number - source.position  # the steps before this epoch
        batches = source.batches() if ranks is None else own_parts(source.batches(), ranks)
        for batch, rows in batches:
            try:
                value = take_step(step, batch, rows)
            except Stopped:  # without a step on this batch, which is the next one of whoever goes on
                source.position -= 1
                raise
            if has_aux:
                value, result["aux"] = value
            history.append(value)
            number += 1
            result["loss"], result["steps"] = value, number
            if has_bar:
                bar.update(result)
            if callback is not None and _stops(callback, source.epoch, result):
                is_stopped = True
                break
            if number == n_steps or interrupt.seen or (deadline is not None and time.monotonic() >= deadline):
                break
            if number >= due and not source.is_at_end:
                due = _write(saver, result)
        looks_on = ranks is not None and source.per_epoch is None and number < n_steps and not source.is_at_end
        if looks_on and next(batches, None) is not None:
            # The others have found that the epoch is not over before they learn that this rank stops.
            source.position -= 1
        if source.is_at_end and number > before:
            message = epoch_end(history[before:], result) if has_epoch_end else None
            source.end_epoch()
            if message:
                result.message = message
                return
            if saver is not None and (number >= due or saver.is_of_epochs):
                due = _write(saver, result)
        if is_stopped:
            result.message = f"stopped by the callback after {number} steps"
            return
        if deadline is not None and time.monotonic() >= deadline:
            result.message = f"stopped by time_limit={time_limit:g} after {number} steps"
            return
        if interrupt.seen:
            if saver is not None:
                saver.write(result)
            raise KeyboardInterrupt
        if source.is_over and number < n_steps and source.epoch < n_epochs:
            result.message = f"the data ended after {number} steps"
            return
    result.message = f"took all {number} steps"


def _write(saver: Checkpoint | None, result: DescentResult) -> int:
    """Write a checkpoint; the number of steps after which the next one is due."""
    assert saver is not None
    saver.write(result)
    return saver.due_after(result.steps)


def _stops(callback: Callable[[DescentResult], Any], epoch: int, result: DescentResult) -> bool:
    """Whether the callback, told of the step that was taken, ends the descent."""
    info = DescentResult(step=result.steps - 1, epoch=epoch, loss=result.loss, params=result.params)
    if "aux" in result:
        info["aux"] = result["aux"]
    try:
        stop = callback(info)
    except StopIteration:
        return True
    return isinstance(stop, (bool, np.bool_)) and bool(stop)


# arguments --------------------------------------------------------------------------------------------------


def _check_ends(tol: Any, callback: Any, time_limit: Any) -> None:
    """Raise for arguments that end a descent and cannot be used."""
    if tol is not None:
        number("descend", "tol", tol, ("a number of at least 0 or None", lambda x: x >= 0))
    if callback is not None and not callable(callback):
        raise TypeError(f"descend: callback is of type {type(callback).__name__}, expected a function")
    if time_limit is not None:
        number("descend", "time_limit", time_limit, ("a number of seconds above 0 or None", lambda x: x > 0))


def _copied(params: Any) -> Any:
    """The parameters as arrays of our own, in the same structure."""
    leaves, structure = tree.flatten(parameters_of(params, "descend"))
    optim.check_distinct(leaves, structure, "params")
    for i, p in enumerate(leaves):
        if isinstance(p, Tensor) and (p.requires_grad or _core.traced(p)):
            raise tracked_error(f"descend: {structure.paths('params')[i]}")
    return structure.unflatten(map(_float_array, leaves))


def _float_array(p: Any) -> Any:
    """A copy of a parameter that can be updated in place; what is no float array is left to be refused."""
    if isinstance(p, Tensor):
        p = p.detach().numpy()
    if isinstance(p, np.ndarray) and not _core.is_masked(p):
        return np.array(p, order="C")
    return p


def _dtype_of(params: Any) -> np.dtype:
    """float32 if all parameters are, else float64."""
    dtypes = {leaf.dtype for leaf in tree.leaves(params) if isinstance(leaf, np.ndarray)}
    return np.dtype(np.float32) if dtypes == {np.dtype(np.float32)} else np.dtype(np.float64)
