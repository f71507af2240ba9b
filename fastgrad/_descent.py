"""Training: one step (`training_step`) and the loop around it (`descend`).

A step is the loss, its gradients and the optimizer's update: a recorded program does all three in one call of the
core (csrc/train.c); where there is none, the loss runs on the tape and the gradients go to the optimizer. What can be
known beforehand (structure, leaves) is settled when the step is made, so that a call costs little more than the loss
itself. Nothing is changed before loss and gradients are known to be finite, and an
interrupt is let in only between steps: parameters and optimizer state are always those of whole steps.
"""

from __future__ import annotations

import contextlib
import math
import operator
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from . import _core, optim, tree
from ._compile import Compiled, Replayed
from ._core import Tensor

__all__ = ["DescentResult", "TrainingStep", "descend", "training_step"]

NonFinite = Literal["raise", "skip", "ignore"]


class TrainingStep:
    """What `training_step` returns: call it with a batch to take a step.

    `params` is the structure of live arrays, `optimizer` the optimizer.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        params: Any,
        optimizer: optim.Optimizer | str,
        nonfinite: NonFinite = "raise",
        compile: bool = True,
        _name: str = "training_step",
    ) -> None:
        if not callable(loss):
            raise TypeError(f"{_name}: loss is of type {type(loss).__name__}, expected a function of params")
        if nonfinite not in ("raise", "skip", "ignore"):
            raise ValueError(f"{_name}: nonfinite is {nonfinite!r}, expected 'raise', 'skip' or 'ignore'")
        self.params = params
        self.optimizer = optim.get(optimizer)
        self._loss = loss
        self._nonfinite = nonfinite
        self._name = _name
        self._leaves, self._structure = tree.flatten(params)
        if not self._leaves:
            raise ValueError(f"{_name}: params hold no arrays: {params!r}")
        for i, leaf in enumerate(self._leaves):
            if isinstance(leaf, Tensor):
                path = self._structure.paths("params")[i]
                raise TypeError(f"{path} is a Tensor, expected an ndarray: use np.array({path}.detach())")
        self.optimizer._check(self._leaves, self._structure)
        self._value_and_gradients = Replayed(self._traced, self._eagerly, f"{_name}: the loss", compile)

    def __call__(self, *batch: Any) -> float:
        """Take one step on a batch, the arguments of the loss after params, and return its loss before it."""
        return self._take(batch, None)

    def _take(self, batch: tuple[Any, ...], rows: np.ndarray | None) -> float:
        """A step on a batch, or on these rows of its arrays."""
        optimizer, leaves, structure = self.optimizer, self._leaves, self._structure
        if optimizer._structure is not structure:  # at the first step, or when its state was loaded
            optimizer._check(leaves, structure)
        rule = optimizer._rule(leaves) if self._compiled is not None else None
        if rule is not None:
            try:
                value, bad, gradient = self._in_one_call(batch, rows, rule)
            except Exception as error:
                unwritable = _core.first_not_writable(leaves)
                if unwritable >= 0:
                    raise optim._leaf_error(leaves[unwritable], structure.paths("params")[unwritable]) from None
                value, gradients = self._value_and_gradients.give_up(error, (leaves, *_rows_of(batch, rows)), 4)
            else:
                if bad >= 0:
                    return self._refuse(value, bad, gradient)
                optimizer._structure = structure
                optimizer.steps += 1
                return value
        else:
            self._keep(0)
            value, gradients = self._value_and_gradients(leaves, *_rows_of(batch, rows))
            value = float(value)
        if self._nonfinite != "ignore":
            bad = _core.first_not_finite(gradients)
            if bad >= 0 or not math.isfinite(value):
                return self._refuse(value, bad, gradients[bad] if bad >= 0 else None)
        optimizer._apply(leaves, structure, gradients)
        return value

    def program(self, *batch: Any) -> Any:
        """The recorded program that a step with this batch replays."""
        if self._compiled is None:
            raise RuntimeError(f"{self._name}: the loss runs eagerly, there is no program")
        return self._compiled.program(self._leaves, *batch)

    def _in_one_call(
        self, batch: tuple[Any, ...], rows: np.ndarray | None, rule: _core.Rule
    ) -> tuple[float, int, np.ndarray | None]:
        """The step done by its program: the loss, and which gradient is not finite, as ``Compiled.train`` says."""
        leaves, checked = self._leaves, self._nonfinite != "ignore"
        compiled = self._keep(len(leaves))
        assert compiled is not None
        found = None if rows is None else compiled._train_on_rows(leaves, batch, rows, rule, checked)
        return found or compiled.train((leaves, *_rows_of(batch, rows)), rule, checked)

    def _keep(self, kept: int) -> Compiled | None:
        """The compiled loss, of whose last results so many stay with the program: the gradients, for its rule to use,
        or none, for an optimizer in Python."""
        compiled = self._compiled
        if compiled is not None and compiled._kept != kept:
            compiled = self._value_and_gradients.compiled = Compiled(self._traced, wary=True, kept=kept)
        return compiled

    @property
    def _compiled(self) -> Compiled | None:
        return self._value_and_gradients.compiled

    def _eagerly(self, leaves: list[Any], *batch: Any) -> tuple[float, list[Any]]:
        value, gradients = self._differentiate([_core.watch(leaf) for leaf in leaves], batch)
        return value.item(), gradients

    def _traced(self, leaves: list[Tensor], *batch: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What is recorded: the loss, without axes, and its gradients in the order of the leaves."""
        value, gradients = self._differentiate([_core.watch_tensor(leaf) for leaf in leaves], batch)
        return _core.reshape(value.detach(), ()), gradients

    def _differentiate(self, tensors: list[Tensor], batch: tuple[Any, ...]) -> tuple[Tensor, list[Tensor]]:
        """The loss on these leaves, and its gradients by them."""
        was = _core.set_grad_enabled(True)
        _core.enter_transform(1)
        try:
            value = self._loss(self._structure.unflatten(tensors), *batch)
        finally:
            _core.enter_transform(-1)
            _core.set_grad_enabled(was)
        if not isinstance(value, Tensor) or value.size != 1 or not value.requires_grad:
            raise _loss_error(self._name, value)
        return value, _core.gradients(value, tensors, False)

    def _refuse(self, value: float, bad: int, gradient: Any) -> float:
        """Leave a step out, or raise: the loss is not finite, or a gradient."""
        if self._nonfinite == "skip":
            return value
        what = [] if math.isfinite(value) else [f"the loss is {value}"]
        if gradient is not None:
            entries = np.isfinite(np.asarray(gradient))
            what.append(
                f"the gradient of {self._structure.paths('params')[bad]} has {entries.size - entries.sum()} "
                f"entries of {entries.size} that are not finite"
            )
        raise FloatingPointError(
            f"{self._name}: at step {self.optimizer.steps} {' and '.join(what)}; the parameters are as they were "
            "before this step. Lower the learning rate, or look for log(0), division by 0 or overflow in the loss"
        )


def training_step(
    loss: Callable[..., Any],
    params: Any,
    optimizer: optim.Optimizer | str,
    *,
    nonfinite: NonFinite = "raise",
    compile: bool = True,
) -> TrainingStep:
    """A function that takes one step of descent: `value = step(*batch)`.

    Parameters
    ----------
    loss : callable
        ``loss(params, *batch)`` returns a scalar computed by fastgrad or NumPy functions.
    params : nested structure
        float32 or float64 arrays, writable and C-contiguous. Each call updates them in place.
    optimizer : fastgrad.optim.Optimizer or str
        An object of ``fastgrad.optim`` or a name.
    nonfinite : {"raise", "skip", "ignore"}
        What to do about a loss or gradient that is not finite: raise FloatingPointError naming the step and the
        parameter, leave the step out, or look at nothing and update. In the first two cases parameters and
        optimizer stay as they were before that step. Steps are counted by ``optimizer.steps``, from 0.
    compile : bool
        Record the loss at the first two steps with a batch of new shapes, and replay it in one C call later
        (``fastgrad.compile``): what it reads from outside its arguments is a constant from then on. A loss that
        cannot be recorded, or comes out differently the second time because it draws NumPy's random numbers
        (those of ``fastgrad.random`` are recorded) or counts its calls, runs eagerly after one RuntimeWarning that
        names the line. False runs it eagerly from the start.
        ``step.program(*batch)`` is the program.

    Returns
    -------
    TrainingStep
        A call does forward, backward and update, and returns the loss before the update as a float;
        ``step.params`` are the live arrays, the very ones given: to set one, write into it (``w[...] = new``);
        another array put in its place is not seen.

    Raises TypeError or ValueError, naming the place, for parameters that cannot be updated, and TypeError if the
    loss is not a scalar that depends on them.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> step = fg.training_step(lambda p, x: ((p["w"] - x) ** 2).sum(), {"w": np.zeros(2)}, fg.optim.SGD(0.25))
    >>> step(np.array([1.0, 2.0])), step(np.array([1.0, 2.0]))
    (5.0, 1.25)
    >>> step.params
    {'w': array([0.75, 1.5 ])}
    """
    return TrainingStep(loss, params, optimizer, nonfinite, compile)


class DescentResult(dict[str, Any]):
    """What `descend` returns: a dict whose entries are also attributes, as SciPy's OptimizeResult.

    params     the structure of arrays reached
    loss       the last entry of history (nan if no step was taken)
    history    the loss of each step, before its update
    steps      how many steps were taken
    converged  True if the loss changed by less than tol
    message    why the descent ended
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
    callback: Callable[[DescentResult], Any] | None = None,
    progress: bool | None = None,
    nonfinite: NonFinite = "raise",
    compile: bool = True,
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
    callback : callable, optional
        Called after each step with ``.step .epoch .loss .params``: the step's number from 0, its epoch, its loss
        before the update, the live arrays. Returning True or raising StopIteration ends the descent.
    progress : bool, optional
        Show a progress bar on stderr; None shows it if stderr is a terminal.
    nonfinite : {"raise", "skip", "ignore"}
        What to do about a loss or gradient that is not finite: raise FloatingPointError (whose ``.result`` is what
        was reached before that step), leave the step out, or look at nothing and update.
    compile : bool
        Record the loss and replay it, as ``training_step`` does.

    Returns
    -------
    DescentResult
        With ``.params .loss .history .steps .converged .message``; params in the structure of params.

    Ctrl-C ends the descent after the step under way and returns what was reached; a second Ctrl-C interrupts that
    step. Raises TypeError or ValueError for arguments that do not fit, FloatingPointError as said.

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
    optim._check_distinct(leaves, structure, "params")
    live = structure.unflatten(map(_float_array, leaves))
    step = TrainingStep(loss, live, optimizer, nonfinite, compile, "descend")
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
    total = min(
        _positive("steps", steps, sys.maxsize), _positive("epochs", epochs, sys.maxsize) * per_epoch
    )
    if tol is not None and not (isinstance(tol, (int, float, np.number)) and tol >= 0):
        raise ValueError(f"descend: tol is {tol!r}, expected a number of at least 0 or None")
    if callback is not None and not callable(callback):
        raise TypeError(f"descend: callback is of type {type(callback).__name__}, expected a function")

    result = DescentResult(
        params=live, loss=np.nan, history=[], steps=0, converged=False, message=f"took all {total} steps"
    )
    batches = _batches(arrays, rows, size, shuffle, np.random.default_rng(seed))
    bar = _Bar(progress, total)
    try:
        with _Interrupt() as interrupt:
            _run(step, batches, total, per_epoch, tol, callback, bar, interrupt, result)
    except KeyboardInterrupt:
        result.message = f"interrupted after {result.steps} steps"
    except FloatingPointError as error:
        error.result = result  # type: ignore[attr-defined]
        raise
    finally:
        bar.close(result)
    return result


def _run(
    step: TrainingStep,
    batches: Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]],
    total: int,
    per_epoch: int,
    tol: float | None,
    callback: Callable[[DescentResult], Any] | None,
    bar: _Bar,
    interrupt: _Interrupt,
    result: DescentResult,
) -> None:
    """The loop. `result` is brought up to date after each step, so that it is right however this ends."""
    history = result.history
    previous = np.inf
    for number in range(total):
        value = step._take(*next(batches))
        history.append(value)
        result.update(loss=value, steps=number + 1)
        bar.update(result)
        if callback is not None:
            info = DescentResult(step=number, epoch=number // per_epoch, loss=value, params=result.params)
            try:
                stop = callback(info)
            except StopIteration:
                stop = True
            if isinstance(stop, (bool, np.bool_)) and stop:
                result.message = f"stopped by the callback after {number + 1} steps"
                return
        if tol is not None and (number + 1) % per_epoch == 0:
            mean = value if per_epoch == 1 else sum(history[-per_epoch:]) / per_epoch
            if abs(previous - mean) < tol:
                result.update(converged=True, message=f"the loss changed by less than tol={tol:g}")
                return
            previous = mean
        if interrupt.seen:
            raise KeyboardInterrupt


# arguments --------------------------------------------------------------------------------------------------


def _rows_of(arrays: tuple[Any, ...], rows: np.ndarray | None) -> tuple[Any, ...]:
    return arrays if rows is None else tuple(array.take(rows, axis=0) for array in arrays)


def _loss_error(name: str, value: Any) -> TypeError:
    if not isinstance(value, Tensor):
        cure = (
            "; return the loss alone" if isinstance(value, tuple) else
            "; was it taken out of a tensor by float(), .item() or .numpy()?"
        )  # fmt: skip
        return TypeError(f"{name}: the loss is of type {type(value).__name__}, expected a scalar tensor{cure}")
    if value.size != 1:
        return TypeError(f"{name}: the loss has shape {value.shape}, expected a scalar: take its mean or sum")
    return TypeError(f"{name}: the loss does not depend on params")


def _float_array(p: Any) -> Any:
    """A copy of a parameter that can be updated in place; what is no float array is left to be refused."""
    if isinstance(p, Tensor):
        p = p.detach().numpy()
    if isinstance(p, (float, np.floating, np.ndarray)) and not isinstance(p, np.ma.MaskedArray):
        return np.array(p, order="C")
    return p


def _data_arrays(data: Any) -> tuple[np.ndarray, ...]:
    if data is None:
        return ()
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    for i, part in enumerate(parts):
        if isinstance(part, np.ma.MaskedArray):
            raise TypeError(
                f"descend: data[{i}] is a masked array, whose mask would be ignored; fill it with .filled() first"
            )
    arrays = tuple(map(np.asarray, parts))
    if not arrays:
        raise ValueError("descend: data is empty; pass an array, a tuple of arrays, or None")
    for i, array in enumerate(arrays):
        if array.ndim == 0 or array.dtype == object:
            raise TypeError(
                f"descend: data[{i}] is {array.dtype} of shape {array.shape}, expected an array of rows; "
                "pass an array or a tuple of arrays with one first axis"
            )
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"descend: the arrays of data have {lengths} rows, expected the same number in each")
    if lengths[0] == 0:
        raise ValueError("descend: data has no rows")
    return arrays


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
    arrays: tuple[np.ndarray, ...], rows: int, size: int, shuffle: bool, rng: np.random.Generator
) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]]:
    """Batches without end, an epoch after the other: arrays, and the rows of them, None for all."""
    while size == rows:
        yield arrays, None
    while True:
        order = rng.permutation(rows) if shuffle else None
        for start in range(0, rows, size):
            if order is None:
                yield tuple(array[start : start + size] for array in arrays), None
            else:
                yield arrays, order[start : start + size]


# the terminal -----------------------------------------------------------------------------------------------


class _Bar:
    """A tqdm progress bar, or nothing: tqdm is imported only when a bar is shown.

    tqdm is told of the steps ten times a second, since its own bookkeeping costs as much as a small step.
    """

    def __init__(self, progress: bool | None, total: int) -> None:
        self._bar: Any = None
        self._next = 0.0
        if sys.stderr is not None and sys.stderr.isatty() if progress is None else progress:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="step")

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


class _Interrupt:
    """Holds Ctrl-C back until the step under way is whole: `seen` says that it came, the second one strikes.

    Only in the main thread, and only in place of Python's own handler. `signal` is imported here because that
    takes half a millisecond, which `import fastgrad` need not spend.
    """

    seen = False
    _ours = False

    def __enter__(self) -> _Interrupt:
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGINT, self._handle)
                self._ours = True
        return self

    def _handle(self, number: int, frame: Any) -> None:
        self.seen = True
        self.__exit__()

    def __exit__(self, *exception: object) -> None:
        import signal

        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
