"""The loss and metrics of data that are held out, computed after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import _core, tree
from .._compile.replayed import Replayed
from .._core import Tensor
from .sources import Table, as_arguments, is_iterable
from .step import TrainingStep

__all__ = ["Validation"]

TAKEN = {"step", "loss", "rate", "validation_loss"}  # names of curves that no metric may have


class Validation:
    """Computes the loss of validation_data, and metrics of them or, without them, of the data of the descent.

    Data to iterate over are gone through anew each time; loss and metrics are the means over the batches, weighted by
    their rows.
    """

    def __init__(
        self,
        step: TrainingStep,
        loss: Callable[..., Any],
        table: Table | None,
        validation_data: Any,
        metrics: Mapping[str, Callable[..., Any]] | None,
        compile: bool,
        has_aux: bool,
        is_weighted: bool,
        native: Any,
    ) -> None:
        if not isinstance(metrics, Mapping | None):
            raise TypeError(
                f"descend: metrics is of type {type(metrics).__name__}, expected a dict of functions, whose keys name "
                "their curves"
            )
        self._metrics = dict(metrics or {})
        taken = TAKEN & self._metrics.keys()
        if taken:
            raise ValueError(f"descend: {taken.pop()!r} is the name of a metric, but also that of a curve")
        for name, metric in self._metrics.items():
            if not callable(metric):
                raise TypeError(
                    f"descend: metrics[{name!r}] is of type {type(metric).__name__}, expected a function of params and "
                    "data"
                )
        self.has_data = validation_data is not None
        self._batches = _batches_of(validation_data, table)
        if self._metrics and not self.has_data:
            if table is None:
                raise ValueError(
                    "descend: metrics are of validation_data, or of data if that is arrays, but data is iterated over; "
                    "give validation_data"
                )
            self._batches = lambda: iter([(table.arguments, 1)])
        self.is_needed = self.has_data or bool(self._metrics)
        self._params = step.params
        self._leaves, structure = tree.flatten(step.params)

        def value(leaves: list[Any], *batch: Any) -> Any:
            tensors = [leaf if isinstance(leaf, Tensor) else _core.asarray(leaf) for leaf in leaves]
            found = loss(structure.unflatten(tensors), *batch)
            found = found[0] if has_aux else found
            return found.mean() if is_weighted and isinstance(found, Tensor) else found

        self._value: Replayed | None = None
        if self.has_data:
            self._value = Replayed(value, value, "descend: the loss of validation_data", compile, native=native)

    def __call__(self, epoch: int) -> dict[str, float]:
        """The loss, if there are data for it, and the metrics after this epoch, by their names."""
        found: dict[str, float] = {}
        total, has_empty = 0, False
        for arguments, rows in self._batches():
            if not rows:
                has_empty = True
                continue
            total += rows
            share = rows / total  # of this batch in the mean over those so far
            for name, number in self._of_batch(arguments, epoch):
                found[name] = number if name not in found else found[name] + share * (number - found[name])
        if not total:
            cause = "rows" if has_empty else "batches: the iterator ended before the first"
            raise ValueError(f"descend: validation_data has no {cause}")
        return found

    def _of_batch(self, arguments: tuple[Any, ...], epoch: int) -> Iterator[tuple[str, float]]:
        if self._value is not None:
            with _naming(f"descend: this came from the loss of validation_data after epoch {epoch}"):
                yield "validation_loss", float(self._value(self._leaves, *arguments))
        for name, metric in self._metrics.items():
            with _naming(f"descend: this came from metrics[{name!r}] after epoch {epoch}"):
                number = metric(self._params, *arguments)
            if np.size(number) != 1 or np.asarray(number).dtype.kind not in "biuf":
                raise TypeError(
                    f"descend: metrics[{name!r}] returned a {type(number).__name__} of shape {np.shape(number)}, "
                    "expected a number"
                )
            yield name, np.asarray(number).item()


class _naming:
    """A context whose errors are told where they came from."""

    def __init__(self, note: str) -> None:
        self._note = note

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            error.add_note(self._note)


def _batches_of(data: Any, table: Table | None) -> Callable[[], Iterator[tuple[tuple[Any, ...], int]]]:
    """A function that iterates over validation_data: the arguments of the loss, and the number of their rows."""
    if data is None:
        return lambda: iter([])
    if is_iterable(data):
        if hasattr(data, "__next__"):
            raise TypeError(
                f"descend: validation_data is of type {type(data).__name__}, which can be gone through only once; give "
                "arrays, an object to iterate over again, or a function that returns an iterator"
            )
        return lambda: ((batch, _rows(batch)) for batch in map(as_arguments, data() if callable(data) else data))
    held_out = Table(data, "validation_data")
    if table is not None:
        _check_alike(held_out, table)
    return lambda: iter([(held_out.arguments, len(held_out))])


def _rows(batch: tuple[Any, ...]) -> int:
    arrays = [leaf for leaf in tree.leaves(batch) if np.ndim(leaf)]
    return len(arrays[0]) if arrays else 1


def _check_alike(held_out: Table, table: Table) -> None:
    """Raise ValueError where the loss cannot take validation_data as it takes data."""
    theirs, ours = tree.structure(held_out.arguments), tree.structure(table.arguments)
    if theirs != ours:
        raise ValueError(
            f"descend: validation_data is {_description(held_out)} and data is {_description(table)}; expected the "
            "same, as the loss takes both"
        )
    for path, a, b in zip(ours.paths(""), held_out.arrays, table.arrays):
        if a.ndim != b.ndim:
            raise ValueError(
                f"descend: validation_data{path} has shape {a.shape} and data{path} has shape {b.shape}; expected the "
                "same number of axes"
            )


def _description(table: Table) -> str:
    parts = ["a dict of " + ", ".join(map(repr, x)) if isinstance(x, dict) else "an array" for x in table.arguments]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})" if parts else "None"
