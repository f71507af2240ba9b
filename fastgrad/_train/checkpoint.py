"""Checkpoints of a descent: all that it takes to go on from a step as if nothing had happened.

One file holds what the loop, the step and their functions have as state after a whole step: parameters, optimizer and
schedule, where in the data, the curves and the best parameters so far, random generators and averages. It is written
in one piece (`_serialize/atomic.py`), and the one before it is kept. What the descent was called with is noted in it,
and a resumption with other data, parameters or optimizer is refused.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from .. import _user_frames, tree
from .._serialize.api import check_tree, load_tree, save_tree
from .._serialize.atomic import check_place, previous_of, remove_leftovers
from .parallel import Ranks
from .sources import Source, Table, is_iterable
from .state import Part, check_parts, global_generators, load_parts, parts_of, states_of
from .step import TrainingStep

__all__ = ["Checkpoint", "about"]

_FORMAT = "fastgrad checkpoint"
_ENTRIES = {
    "format", "about", "steps", "history", "aux", "step", "skipped", "position", "loop", "parts", "global generators",
}  # fmt: skip
_SAMPLE, _SAMPLE_BYTES = 256, 1 << 24  # rows of each array, and their bytes, that tell whether the data are the same


class HasState(Protocol):
    """A part of the loop that can be asked for its state and set to it."""

    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


class Checkpoint:
    """Where a descent writes its state, and from where it takes it.

    `every` is a number of steps, None for each epoch that has more than one; `loop` are the parts of the loop that have
    a state; `about` are descriptions of what the descent was called with, which a resumption is compared with. Of
    several ranks, the first one reads and writes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int | None,
        step: TrainingStep,
        source: Source,
        loop: Mapping[str, HasState],
        functions: Iterable[Callable[..., Any] | None],
        about: Mapping[str, Any],
        ranks: Ranks | None = None,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"descend: checkpoint is of type {type(path).__name__}, expected the path of a file")
        self._path = os.path.abspath(os.fsdecode(path))  # wherever a callback goes
        self._every, self._step, self._source, self._loop = every, step, source, loop
        self.is_of_epochs = every is None and source.per_epoch != 1
        given = [f for f in functions if f is not None]
        self._parts = parts_of(given, step.named)
        for f in given:
            if callable(getattr(f, "state_dict", None)) and callable(getattr(f, "load_state_dict", None)):
                self._parts["the callback"] = Part(f.state_dict, f.load_state_dict)  # type: ignore[attr-defined]
        self._about, self._ranks = dict(about), ranks
        self._before = states_of(global_generators())
        self._drawn_from = set[str]()  # global generators that have been drawn from since the descent began
        self._written = -1  # the number of steps that the file is of
        self._keeps = True  # whether the file that is there is worth keeping

    def begin(self, resume: bool, result: dict[str, Any]) -> None:
        """Make sure that a checkpoint can be written, and bring all to the state of the one that is there, if asked
        for. Whatever is wrong raises here, before the first step."""
        found = self._prepare(resume) if self._ranks is None else self._ranks.of_rank_0(lambda: self._prepare(resume))
        if found is not None:
            self._load(found, result)
        check_tree(self._state(result), "descend: a checkpoint of this")

    def _prepare(self, resume: bool) -> Any:
        """See that a checkpoint can be written, and read the one that is there, if it is asked for."""
        check_place(self._path, "descend")
        remove_leftovers(self._path)
        return self._read() if resume else None

    def due_after(self, steps: int) -> int:
        """The number of steps after which the next one is due, besides those of epochs."""
        return sys.maxsize if self._every is None else steps + self._every - steps % self._every

    def write(self, result: dict[str, Any]) -> None:
        """Write a checkpoint, unless the file is that of this step. OSError, whose ``.result`` is what was reached, if
        it cannot be written; the one that was there is there then."""
        steps = result["steps"]
        if steps == self._written or (self._ranks is not None and self._ranks.rank):
            return
        try:
            save_tree(
                self._path,
                self._state(result),
                f"descend: the checkpoint after {steps} steps",
                keep_previous=self._keeps,
            )
        except OSError as error:
            error.result = result  # type: ignore[attr-defined]
            error.add_note("What was reached is the attribute .result of this error")
            raise
        self._written, self._keeps = steps, True

    def _state(self, result: dict[str, Any]) -> dict[str, Any]:
        steps = result["steps"]
        generators = states_of(global_generators())
        self._drawn_from |= {name for name in generators if not _same(generators[name], self._before.get(name))}
        return {
            "format": _FORMAT,
            "about": self._about,
            "steps": steps,
            "history": np.array(result["history"], np.float64),
            "aux": _plain(result.get("aux")),
            "step": self._step.state_dict(),
            "skipped": self._step.skipped,
            "position": self._source.state(),
            "loop": {name: part.state() for name, part in self._loop.items()},
            "parts": states_of(self._parts),
            "global generators": {name: generators[name] for name in sorted(self._drawn_from)},
        }

    def _read(self) -> Any:
        """The last checkpoint; the one before it, with a warning, where that is damaged; None if there is none."""
        previous = previous_of(os.path.realpath(self._path))  # beside the file that is written
        damage: Exception | None = None
        if os.path.exists(self._path):
            try:
                found = load_tree(self._path, "descend")
            except ValueError as error:
                damage = error
            else:
                return self._of_descent(found)
        if not os.path.exists(previous):
            if damage is not None:
                raise damage
            return None
        found = self._of_descent(load_tree(previous, "descend"))
        if damage is not None:
            self._keeps = False
            _user_frames.warn(f"{damage}. The descent goes on from the checkpoint before it, {previous!r}")
        return found

    def _of_descent(self, found: Any) -> dict[str, Any]:
        """What was read, if a descent has written it."""
        if not isinstance(found, dict) or found.keys() != _ENTRIES or not _same(found["format"], _FORMAT):
            raise ValueError(f"descend: {self._path!r} holds no checkpoint of a descent; resume from another file")
        return found

    def _load(self, found: dict[str, Any], result: dict[str, Any]) -> None:
        subject = f"descend: {self._path!r}"
        for name, value in self._about.items():
            if name not in found["about"] or not _same(found["about"][name], value):
                raise ValueError(
                    f"{subject} is the checkpoint of another descent: {name} {_told(found['about'].get(name))}, and "
                    f"{_told(value)} now; call descend as it was called then, or give resume=False to start anew"
                )
        check_parts(self._parts, found["parts"], subject)
        steps: int = found["steps"]
        try:
            for name, part in self._loop.items():  # first what may refuse, and is of this descent alone
                part.load(found["loop"][name])
            self._source.restore(found["position"])
            self._step.load_state_dict(found["step"])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{subject} is the checkpoint of another descent: {str(error).removeprefix('descend: ')}"
            ) from error
        load_parts(self._parts, found["parts"], subject)
        generators = global_generators()
        for name, state in found["global generators"].items():
            if name in generators:
                generators[name].load(state)
            self._drawn_from.add(name)
        result["history"][:] = found["history"].tolist()
        result["steps"] = steps
        if steps:
            result["loss"] = result["history"][-1]
        if found["aux"] is not None:
            result["aux"] = found["aux"]["aux"]
        self._step.skipped, self._written = found["skipped"], steps


def _told(x: Any) -> str:
    return "is not told" if x is None else f"is {x}"


def _same(a: Any, b: Any) -> bool:
    """Whether two states of generators or descriptions are equal, arrays element by element."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def _plain(aux: Any) -> Any:
    """What the loss returned besides its value, if it can be read without its classes; else None."""
    if aux is None:
        return None
    try:
        is_plain = check_tree(aux, "aux")
    except (TypeError, ValueError):
        return None
    return {"aux": aux} if is_plain else None


def about(step: TrainingStep, data: Any, validation_data: Any, sample_weight: Any, **more: Any) -> dict[str, Any]:
    """What a descent was called with, as far as a resumption must be called with the same."""
    leaves = tree.leaves(step.params)
    return {
        "params": {name: f"{leaf.dtype} of shape {leaf.shape}" for name, leaf in zip(step.named.names, leaves)},
        "the optimizer": type(step.optimizer).__name__,
        **more,
        "data": _data_described(data),
        "validation_data": _data_described(validation_data),
        "sample_weight": _data_described(sample_weight),
    }


def _data_described(data: Any) -> list[str]:
    """Of data to iterate over only the type."""
    if is_iterable(data):
        return [f"of type {type(data).__name__}"]
    return [_described(array) for array in Table(data).arrays]


def _described(array: np.ndarray) -> str:
    """Shape and dtype of data, and a digest of some rows, the first and the last among them."""
    n = min(_SAMPLE, max(2, _SAMPLE_BYTES // max(1, array.nbytes // len(array))), len(array))
    rows = np.linspace(0, len(array) - 1, n).astype(np.intp)
    sample = np.ascontiguousarray(array[rows])
    digest = hashlib.sha256(sample.tobytes()).hexdigest()[:8]
    return f"{array.dtype} of shape {array.shape} with content {digest}"
