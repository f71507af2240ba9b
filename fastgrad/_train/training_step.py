"""`training_step`: the public function that makes a training step, alone or with other ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

from .. import optim
from .._arguments import flag
from .parallel import Ranks
from .step import NonFinite, TrainingStep, TrainingStepWithAux, begin_on_ranks

__all__ = ["training_step"]


@overload
def training_step(
    loss: Callable[..., Any],
    params: Any,
    optimizer: optim.Optimizer | str,
    *,
    nonfinite: NonFinite = "raise",
    compile: bool = True,
    maxsize: int = 64,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    clip_each_norm: float | None = None,
    accumulate: int = 1,
    has_aux: Literal[False] = False,
    native: bool | Literal["auto"] | None = None,
    comm: Any = None,
) -> TrainingStep: ...
@overload
def training_step(
    loss: Callable[..., Any],
    params: Any,
    optimizer: optim.Optimizer | str,
    *,
    nonfinite: NonFinite = "raise",
    compile: bool = True,
    maxsize: int = 64,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    clip_each_norm: float | None = None,
    accumulate: int = 1,
    has_aux: Literal[True],
    native: bool | Literal["auto"] | None = None,
    comm: Any = None,
) -> TrainingStepWithAux: ...
def training_step(
    loss: Callable[..., Any],
    params: Any,
    optimizer: optim.Optimizer | str,
    *,
    nonfinite: NonFinite = "raise",
    compile: bool = True,
    maxsize: int = 64,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    clip_each_norm: float | None = None,
    accumulate: int = 1,
    has_aux: bool = False,
    native: bool | Literal["auto"] | None = None,
    comm: Any = None,
) -> TrainingStep:
    """A function that takes one step of descent: `value = step(*batch)`.

    Parameters
    ----------
    loss : callable
        ``loss(params, *batch)`` returns a scalar computed by fastgrad or NumPy functions. A list of numbers in the
        batch, also a nested one, comes to it as an array.
    params : nested structure
        float32 or float64 arrays, writable and C-contiguous. Each call updates them in place. Numbers and lists of
        numbers, which cannot change in place, become arrays in a structure of the step's own, ``step.params``.
    optimizer : fastgrad.optim.Optimizer or str
        An object of ``fastgrad.optim`` or a name.
    nonfinite : {"raise", "skip", "ignore"}
        What to do about a loss or gradient that is not finite: raise FloatingPointError naming the step and the
        parameter, leave the step out, or check nothing and update. In the first two cases parameters and
        optimizer stay as they were before that step. Steps are counted by ``optimizer.steps``, from 0.
    compile : bool
        Trace the loss at the first two steps with a batch of new shapes (after four of these at the first only), and
        replay it in one C call later (``fastgrad.compile``). What it reads from outside its arguments is a constant,
        and a change of it is traced anew; large arrays of floats are read at each step. What it changes outside, such
        as a counter, is told by a warning. From the third shape on, a step runs eagerly where tracing would not pay,
        because many shapes come and each of them seldom. A loss that cannot be traced, draws NumPy's random numbers
        (those of ``fastgrad.random`` are traced), writes to arrays from outside, or comes out differently the second
        time because it counts its calls, runs eagerly after one RuntimeWarning that names the line. False runs it
        eagerly from the start. A trace that fails has called the loss once more than there are steps. What it drew and
        wrote is undone, except in arrays of many megabytes and in traces of further shapes; other side effects remain.
        An exception that the handler of a signal raises, as on a timeout, is raised to the caller whenever it comes.
        ``step.program(*batch)`` is the program.
    maxsize : int
        For how many shapes programs are kept, as of ``fastgrad.compile``. Each takes the memory of its intermediates.
    clip_value, clip_norm, clip_each_norm : float, optional
        At most one of them: what is done to gradients once they are known to be finite, before the update. Elements are
        brought into [-clip_value, clip_value]; all gradients are scaled so that the root of the sum of their squares is
        at most clip_norm; or each of them so that its own is at most clip_each_norm.
    accumulate : int
        In how many parts the rows of a batch are split, which are run in turn, to take less memory: loss and gradients
        are the means over the parts, weighted by their rows. So for a loss that is a mean over rows the step is that of
        the whole batch. All of the batch are arrays with one first axis.
    has_aux : bool
        The loss returns a pair, the loss and other values, arrays in any nested structure (metrics, new running
        statistics); a call then returns both. Of parts that are accumulated it returns a list of the other values.
    native : bool, "auto" or None
        Whether programs run as C that the machine's compiler has compiled, as of ``fastgrad.compile`` (docs/native.md).
        With True it is a RuntimeError if that fails, or if the loss cannot be traced.
    comm : mpi4py communicator, optional
        Take steps together with other processes, all of which make the step and call it as often, each with its own
        part of the batch; a part may have no rows. The parameters and the optimizer's state of rank 0 are given to all.
        Loss and gradients are the means over all rows, which are those of the first array of each part, so the loss is
        a mean over rows, too. Other values of the loss are those of the process's own part. If a process fails, the
        others raise RuntimeError. See ``docs/mpi.md``.

    Returns
    -------
    TrainingStep
        A call does forward, backward and update, and returns the loss before the update as a float;
        ``step.params`` are the live arrays, those given themselves: to set one, write into it (``w[...] = new``),
        or put another array of its shape and dtype in its place.

    Raises TypeError or ValueError, naming the place, for parameters that cannot be updated, and TypeError if the
    loss is not a scalar that depends on them.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> step = fg.training_step(lambda p, x: ((p["w"] - x) ** 2).sum(), {"w": np.zeros(2)}, fg.optim.SGD(0.25))
    >>> step(np.array([1.0, 2.0])), step(np.array([1.0, 2.0]))
    (5.0, 1.25)
    >>> step.params
    {'w': array([0.75, 1.5 ])}

    Sequences of any length, of which programs for the 200 most recent lengths are kept:

    >>> mean = lambda p, x: fg.losses.mse(x * p["w"], x)
    >>> step = fg.training_step(mean, {"w": np.zeros(1)}, fg.optim.SGD(0.1), maxsize=200)
    >>> [round(step(np.ones(length)), 4) for length in (3, 1, 4)]
    [1.0, 0.64, 0.4096]
    """
    ranks = None if comm is None else Ranks(comm, "training_step")
    try:
        step = (TrainingStepWithAux if flag("training_step", "has_aux", has_aux) else TrainingStep)(
            loss, params, optimizer, nonfinite, compile, maxsize, clip_value=clip_value, clip_norm=clip_norm,
            clip_each_norm=clip_each_norm, accumulate=accumulate, has_aux=has_aux, native=native, _ranks=ranks,
        )  # fmt: skip
    except BaseException as error:
        if ranks is not None:
            ranks.fail(error)
        raise
    if ranks is not None:
        begin_on_ranks(step, ranks)
    return step
