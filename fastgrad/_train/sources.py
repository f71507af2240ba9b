"""Sources of data: where the batches of a descent come from, one epoch after the other.

A source is arrays, whose rows are drawn, or an object to iterate over, whose items are the batches. It knows its
position: how many epochs are over, how many batches of this one were taken, and the state of the random numbers from
which the order of this epoch's rows was drawn. `state` and `restore` hand that out and take it back.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor
from .arguments import generator_of, positive
from .arrays import as_array, as_numbers, rows_error
from .step import rows_of

__all__ = [
    "Batch", "IterableSource", "RowSource", "Source", "Table", "is_iterable", "loss_of_arrays",
    "source_of", "weights_of", "as_arguments",
]  # fmt: skip

_CACHE_BYTES, _COPIED_BYTES = 4 << 20, 256 << 20

# The arguments of the loss, and the rows of them that make the batch; None for all rows.
Batch = tuple[tuple[Any, ...], np.ndarray | None]


class Source:
    """The batches of a descent.

    `batches` iterates over those that are left of the epoch. The loop calls `end_epoch` when they are over and what is
    done after an epoch is done, and `close` when it takes no more. `is_at_end` tells that no batch of this epoch is
    left, as far as it is known without asking for one; `is_over` that there is no further epoch; `is_once` that there
    is only one. `per_epoch` is the number of batches in an epoch, `rows` that of rows in a batch, None where it is not
    known.
    """

    per_epoch: int | None = None
    rows: int | None = None
    is_over = False
    is_once = False
    interrupt: _core.FirstInterrupt | None = None  # tells a source that waits whether there was a Ctrl-C

    def __init__(self) -> None:
        self.epoch = 0
        self.position = 0  # how many batches of the epoch were taken

    @property
    def is_at_end(self) -> bool:
        return self.position == self.per_epoch

    @property
    def _most(self) -> float:
        """The most batches that an epoch can have."""
        return math.inf if self.per_epoch is None else self.per_epoch

    def expect(self, steps: int, is_constant: bool) -> None:
        """Be told how many batches will be taken at most, as far as that is known, and whether nothing changes the data
        meanwhile."""

    def batches(self) -> Iterator[Batch]:
        raise NotImplementedError

    def end_epoch(self) -> None:
        self.epoch, self.position = self.epoch + 1, 0

    def state(self) -> dict[str, Any]:
        """The position between two steps: {"epoch": int, "position": int, "random": dict or None}, plain numbers, texts
        and arrays of integers in dicts. A source of the same data that takes it over by `restore` goes on with the
        batch that is next here."""
        return {"epoch": self.epoch, "position": self.position, "random": None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to the position that `state` gave."""
        if not isinstance(state, Mapping) or set(state) != {"epoch", "position", "random"}:
            raise TypeError("descend: expected a position in data, as state() of a source gives it")
        epoch, position = operator.index(state["epoch"]), operator.index(state["position"])
        if epoch < 0 or position < 0 or position > self._most:
            raise ValueError(
                f"descend: there is no batch {position} in epoch {epoch} of the data, which has {self.per_epoch} an "
                "epoch; go on with the data and the batch_size that the position was saved with"
            )
        self.epoch, self.position = epoch, position

    def loaded(self, batch: Batch) -> Batch:
        """A batch in memory of its own, where it is rows of something larger."""
        return batch

    def close(self) -> None:
        """Let go of what is open."""


class RowSource(Source):
    """Batches of the rows of arrays, which lie in memory or in a file that is mapped into it.

    Without arrays an epoch is one batch without arguments.
    """

    per_epoch: int

    def __init__(
        self, arrays: tuple[np.ndarray, ...], size: int, shuffle: bool, rng: np.random.Generator, drop_last: bool
    ) -> None:
        super().__init__()
        n = len(arrays[0]) if arrays else 1
        self.per_epoch = n // size if drop_last else -(-n // size)
        self.rows = size if arrays else None
        self._n, self._size, self._rng = n, size, rng
        self._shuffles = shuffle and size < n
        if size == n:  # each step reads all of it: arrays that are not contiguous are copied once, not at each step
            arrays = tuple(np.ascontiguousarray(array) if array.flags.aligned else array for array in arrays)
        self._arrays = arrays
        # Arrays whose rows are scattered over memory are copied: at the beginning where that is known to pay, else once
        # an eighth of the rows was read from where they are, so that a short descent copies nothing.
        self._scattered = [i for i, array in enumerate(arrays) if self._shuffles and _is_scattered(array)]
        self._near: list[np.ndarray] = []  # the copies
        self._n_far = 0  # how many rows were read where they are scattered
        self._most_far = n // 8
        self._copies_once = False
        self._random: dict[str, Any] | None = None  # the state of rng that the order of this epoch was drawn from

    def batches(self) -> Iterator[Batch]:
        arrays, size, n = self._arrays, self._size, self._n
        if size == n:
            if not self.position:
                self.position = 1
                yield arrays, None
            return
        order = None
        if self._shuffles:
            self._random = dict(self._rng.bit_generator.state)
            order = self._rng.permutation(self._n)
        is_far = bool(self._scattered)
        for start in range(self.position * size, size * self.per_epoch, size):
            self.position += 1
            if is_far:
                if self._n_far < self._most_far:
                    self._n_far += size
                else:
                    arrays, is_far = self._copied_near(), False
            if order is None:
                yield tuple([array[start : start + size] for array in arrays]), None
            else:
                yield arrays, order[start : start + size]

    def expect(self, steps: int, is_constant: bool) -> None:
        # A copy takes the time in which a quarter of the rows is read from where they are, or less.
        rows = steps * self._size
        self._most_far = 0 if rows >= self._n // 4 else self._n
        self._copies_once = is_constant

    def _copied_near(self) -> tuple[np.ndarray, ...]:
        """The arrays with copies of those whose rows are scattered, as they are now."""
        is_first = not self._near
        if is_first:
            self._near = [np.empty(self._arrays[i].shape, self._arrays[i].dtype) for i in self._scattered]
        found = list(self._arrays)
        for i, copy_of_it in zip(self._scattered, self._near):
            if is_first or not self._copies_once:
                np.copyto(copy_of_it, found[i])
            found[i] = copy_of_it
        return tuple(found)

    def loaded(self, batch: Batch) -> Batch:
        arrays, rows = batch
        if rows is not None:
            return rows_of(arrays, rows), None
        return tuple([np.array(array, order="C") for array in arrays]) if self._size < self._n else arrays, None

    def end_epoch(self) -> None:
        super().end_epoch()
        self._random = None

    def state(self) -> dict[str, Any]:
        random = None
        if self._shuffles:
            random = self._random if self._random is not None else self._rng.bit_generator.state
        return {**super().state(), "random": copy.deepcopy(random)}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        if self._shuffles:
            if state["random"] is None:
                raise ValueError("descend: the position in the data was saved without shuffle=True")
            bits, name = self._rng.bit_generator, state["random"]["bit_generator"]
            if name != bits.state["bit_generator"]:
                raise ValueError(
                    f"descend: seed is a generator on {type(bits).__name__}, and the position in the data was saved "
                    f"with one on {name}; give a seed of the same kind"
                )
            bits.state = state["random"]
            self._random = None


def _is_scattered(array: np.ndarray) -> bool:
    """Whether the elements of a row lie farther apart than the rows, as in a column-major table, in an array too large
    for a cache, whose rows then take several times as long to gather, but small enough to be copied."""
    strides = [abs(stride) for stride, n in zip(array.strides, array.shape) if n > 1]
    is_larger_than_cache = _CACHE_BYTES < array.nbytes <= _COPIED_BYTES
    return is_larger_than_cache and len(strides) > 1 and strides[0] < max(strides[1:])


class IterableSource(Source):
    """Batches from an object to iterate over, such as a loader of data, or from a function that returns one.

    Each epoch iterates over it anew. An iterator, such as a generator, is over after one epoch. The number of batches
    in an epoch is known where the object has a length. A position is found again by dropping as many batches as were
    taken.
    """

    def __init__(self, data: Any) -> None:
        super().__init__()
        self._make: Callable[[], Iterator[Any]] = data if callable(data) else lambda: iter(data)
        self.is_once = not callable(data) and hasattr(data, "__next__")
        self._is_at_end = False
        self._iterator: Iterator[Any] | None = None  # of the epoch under way
        try:
            self.per_epoch = None if self.is_once or callable(data) else len(data)
        except TypeError:  # a length that is not known, as of a stream
            self.per_epoch = None

    @property
    def is_at_end(self) -> bool:
        return self._is_at_end or super().is_at_end

    def batches(self) -> Iterator[Batch]:
        if self._iterator is None:
            made = self._make()
            if not hasattr(made, "__iter__") and not hasattr(type(made), "__getitem__"):
                raise TypeError(
                    f"descend: data is a function that returned an object of type {type(made).__name__}, expected an "
                    "iterator of batches"
                )
            self._iterator = iter(made)
            for i in range(self.position):
                if next(self._iterator, self) is self:
                    raise ValueError(
                        f"descend: data ended after {i} batches, and {self.position} of this epoch were taken before "
                        "the descent was resumed; go on with the data that it began with"
                    )
        for item in self._iterator:
            self.position += 1
            yield as_arguments(item), None
        if not self.position:
            self.is_over = True
            if not self.epoch:
                raise ValueError("descend: data has no batches: the iterator ended before the first")
        self._is_at_end = True

    def end_epoch(self) -> None:
        super().end_epoch()
        self.is_over = self.is_over or self.is_once
        self._is_at_end, self._iterator = False, None

    @property
    def _most(self) -> float:
        return math.inf  # a length may be a guess

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._is_at_end, self._iterator = False, None
        self.is_over = self.is_once and self.epoch > 0

    def loaded(self, batch: Batch) -> Batch:
        return _copied(batch[0]), None  # an iterator may fill one array again for each batch

    def close(self) -> None:
        iterator, self._iterator = self._iterator, None
        if not self.is_once and hasattr(iterator, "close"):  # a generator of our own asking
            iterator.close()  # type: ignore[union-attr]


# arrays of rows ---------------------------------------------------------------------------------------------


class Table:
    """Arrays with one first axis, and how they make up the arguments of the loss."""

    def __init__(self, data: Any, name: str = "data") -> None:
        parts = () if data is None else tuple(data) if isinstance(data, (tuple, list)) else (data,)
        kinds = {type(part) for part in parts}
        if type(data) is list and (kinds == {tuple} or (kinds == {dict} and len(parts) > 1)):
            raise TypeError(
                f"descend: {name} is a list of {kinds.pop().__name__}s, which look like batches, but a list or tuple "
                "holds whole arrays, one for each argument of the loss: for batches pass a function, as in lambda: "
                f"iter({name}); for arguments a tuple, as in tuple({name})"
            )
        if data is not None and not parts:
            raise ValueError(f"descend: {name} is empty; pass an array, a tuple of arrays, or None")
        nested = tuple([_arrays_in(part, f"{name}[{i}]") for i, part in enumerate(parts)])
        self.arrays: tuple[np.ndarray, ...] = nested
        self.structure: tree.Structure | None = None  # of the arguments, if there are dicts among them
        if any(isinstance(part, dict) for part in nested):
            leaves, self.structure = tree.flatten(nested)
            self.arrays = tuple(leaves)
            if not leaves:
                raise ValueError(f"descend: {name} is empty; pass an array, a tuple of arrays, or None")
        self.arguments = nested
        lengths = [len(array) for array in self.arrays]
        if len(set(lengths)) > 1:
            raise ValueError(f"descend: the arrays of {name} have {lengths} rows, expected the same number in each")
        if lengths and lengths[0] == 0:
            raise ValueError(f"descend: {name} has no rows")

    def __len__(self) -> int:
        return len(self.arrays[0]) if self.arrays else 0

    def paths(self, name: str) -> list[str]:
        """The places of its arrays among the arguments, which have this name."""
        return tree.flatten(self.arguments)[1].paths(name)


def _arrays_in(part: Any, name: str) -> Any:
    """A part of data as an array of rows, or as a dict of such."""
    if isinstance(part, Mapping):
        return {key: _arrays_in(value, f"{name}[{key!r}]") for key, value in part.items()}
    if _core.is_masked(part):
        raise TypeError(f"descend: {name} is a masked array, whose mask would be ignored; fill it with .filled() first")
    if hasattr(part, "__next__"):
        raise TypeError(
            f"descend: {name} is an iterator, expected an array of rows; an iterator is data as a whole and yields "
            "batches, tuples of all that the loss takes"
        )
    array = as_array(part, f"descend: {name}")
    if array.ndim == 0 or array.dtype.kind not in "biufc":
        raise rows_error(array, f"descend: {name}")
    return array


def weights_of(sample_weight: Any, table: Table | None, dtype: np.dtype) -> np.ndarray:
    """Weights of the rows of a table, scaled so that their mean is 1."""
    if table is None or not table.arrays:
        raise ValueError(
            "descend: sample_weight has a number for each row of arrays, but data is not arrays; let the iterator "
            "yield the weights with each batch, and the loss multiply by them"
        )
    weights = as_array(sample_weight, "descend: sample_weight")
    if weights.shape != (len(table),) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"descend: sample_weight is {weights.dtype} of shape {weights.shape}, expected a number for each of the "
            f"{len(table)} rows of data"
        )
    weights = weights.astype(np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("descend: sample_weight has to be finite and at least 0, and not 0 for all rows")
    weights = weights / weights.max()  # so that their sum neither overflows nor underflows
    scaled: np.ndarray = weights / weights.mean()
    return scaled.astype(dtype)


def loss_of_arrays(loss: Callable[..., Any], table: Table | None, is_weighted: bool, has_aux: bool) -> Any:
    """The loss as a function of params and the arrays of a table, one after the other.

    If it is weighted, an array of weights comes before them, and the loss has one value for each row, of which the
    weighted mean is taken.
    """
    structure = None if table is None else table.structure
    if not callable(loss) or (structure is None and not is_weighted):
        return loss

    def of_arrays(params: Any, *arrays: Any) -> Any:
        return loss(params, *(arrays if structure is None else structure.unflatten(arrays)))

    if not is_weighted:
        return of_arrays

    def weighted(params: Any, weights: Any, *arrays: Any) -> Any:
        found = of_arrays(params, *arrays)
        if not has_aux:
            return _mean_of_rows(found, weights)
        return (_mean_of_rows(found[0], weights), *found[1:]) if isinstance(found, tuple) and found else found

    return weighted


def _mean_of_rows(values: Any, weights: Any) -> Any:
    if not isinstance(values, Tensor):
        return values  # which the step refuses
    if values.shape != weights.shape:
        raise ValueError(
            f"descend: with sample_weight the loss returns a value for each row, of shape {weights.shape}, got shape "
            f"{values.shape}; take no mean or sum over the rows, as with reduction='none' of fastgrad.losses"
        )
    return (values * weights).mean()


# batches of iterators ---------------------------------------------------------------------------------------


def as_arguments(item: Any) -> tuple[Any, ...]:
    """The arguments of the loss that an item of an iterator stands for: each item of a tuple or list is one."""
    if type(item) is tuple or isinstance(item, (tuple, list)):
        return tuple([_batch_array(part) for part in item])
    return (_batch_array(item),)


def _batch_array(part: Any) -> Any:
    if type(part) is np.ndarray or part is None or isinstance(part, (Tensor, np.generic, float, int, list)):
        return part
    if type(part) is tuple:
        return tuple([_batch_array(value) for value in part])
    if isinstance(part, Mapping):
        return {key: _batch_array(value) for key, value in part.items()}
    return as_numbers(part, "descend: a batch")


def _copied(x: Any) -> Any:
    """Arguments with arrays of their own."""
    if isinstance(x, np.ndarray):
        return np.array(x)
    if type(x) is tuple:
        return tuple([_copied(item) for item in x])
    return {key: _copied(value) for key, value in x.items()} if type(x) is dict else x


def source_of(
    data: Any,
    table: Table | None,
    batch_size: int | None,
    shuffle: bool,
    seed: int | np.random.Generator | None,
    drop_last: bool,
    weights: np.ndarray | None,
) -> Source:
    """The source of data; `table` are its arrays, None if data is to be iterated over. Weights go before the arrays."""
    if table is None:
        for name, given in (("batch_size", batch_size is not None), ("drop_last", drop_last)):
            if given:
                raise ValueError(
                    f"descend: {name} is given but data is of type {type(data).__name__}, which yields whole batches"
                )
        return IterableSource(data)
    rows = len(table)
    batch_size = None if batch_size is None else positive("batch_size", batch_size, 1)
    if not rows and batch_size is not None:
        raise ValueError("descend: batch_size is given but data is None: there are no rows to draw")
    size = batch_size if batch_size is not None and rows else max(rows, 1)
    if size > max(rows, 1):
        raise ValueError(
            f"descend: batch_size={size} is larger than the data, which has {rows} rows; "
            "use a smaller one, or None for all rows"
        )
    arrays = table.arrays if weights is None else (weights, *table.arrays)
    return RowSource(arrays, size, shuffle, generator_of("descend", seed), drop_last)


def is_iterable(data: Any) -> bool:
    """Whether data yields batches, as an iterator, a loader or a function that returns one, and is not arrays."""
    if isinstance(data, (tuple, list, Mapping, str, bytes, bytearray, memoryview, np.ndarray, np.generic, Tensor)):
        return False
    if any(hasattr(data, name) for name in ("__array__", "__array_interface__", "__dataframe__", "to_numpy")):
        return False
    return hasattr(data, "__iter__") or hasattr(data, "__next__") or callable(data)
