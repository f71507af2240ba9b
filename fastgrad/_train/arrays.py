"""Arrays of what users hand over as data: DataFrames of pandas and polars, tensors of PyTorch, lists of rows.

Nothing is imported for it: a DataFrame is what has `columns`, and the rest is `__array__` and `to_numpy`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import tree
from .._core import Tensor
from .._transforms.arguments import with_arrays

__all__ = ["arguments_of", "as_array", "as_numbers", "note_on_batch", "parameters_of", "rows_error"]


def arguments_of(batch: Any, name: str = "training_step") -> Any:
    """A batch with arrays in the places of lists of numbers, DataFrames and tensors of other libraries."""
    found = with_arrays(batch)
    leaves, structure = tree.flatten(found)
    if not any(map(_is_foreign, leaves)):
        return found
    arrays = [
        as_numbers(x, f"{name}: batch{path}") if _is_foreign(x) else x for x, path in zip(leaves, structure.paths(""))
    ]
    return structure.unflatten(arrays)


def parameters_of(params: Any, name: str) -> Any:
    """Parameters with arrays of floats in the places of numbers and lists of numbers; params itself if it has none.

    Arrays of integers are left to be refused: they may be indices, which nobody means to train.
    """
    found = with_arrays(params, f"{name}: params")
    leaves, structure = tree.flatten(found)
    given = structure.flatten_up_to(params, "params")
    made = [_as_parameter(leaf, type(was) is list) for leaf, was in zip(leaves, given)]
    return params if all(a is b for a, b in zip(made, given)) else structure.unflatten(made)


def _as_parameter(leaf: Any, is_list: bool) -> Any:
    if not (is_list or isinstance(leaf, (float, int, np.floating, np.integer))) or isinstance(leaf, bool):
        return leaf
    array = np.array(leaf)
    return array.astype(np.float64) if array.dtype.kind in "iu" else array


def as_numbers(part: Any, place: str) -> np.ndarray:
    """An array of numbers, without axes or with; TypeError naming the place if it holds anything else."""
    array = as_array(part, place)
    if array.dtype.kind not in "biufc":
        raise rows_error(array, place)
    return array


def as_array(part: Any, place: str) -> np.ndarray:
    """An array of whatever NumPy makes one of; in a view of the same memory, where that is possible.

    A missing value of a column of numbers is NaN. TypeError for a DataFrame with columns of anything but numbers.
    """
    if isinstance(part, np.ndarray):
        return part
    if not hasattr(part, "__array__") and not hasattr(part, "to_numpy") and hasattr(part, "collect"):
        raise TypeError(f"{place} is a {type(part).__name__}, whose values are not known yet; pass its .collect()")
    if _is_frame(part):
        return _of_frame(part, place)
    try:
        return _of_column(part if hasattr(part, "__array__") or not hasattr(part, "to_numpy") else part.to_numpy())
    except Exception as error:  # whatever another library raises, such as PyTorch for a bfloat16
        if not isinstance(error, ValueError) or not isinstance(part, (list, tuple)):
            error.add_note(f"{place} is a {type(part).__name__} that NumPy cannot read as an array")
            raise
        raise ValueError(
            f"{place} is a {type(part).__name__} of rows of different shapes, expected an array of rows; pad sequences "
            "to one length and pass their lengths as another array of data, for fastgrad.where to leave out what was "
            "added"
        ) from None


def rows_error(array: np.ndarray, place: str) -> TypeError:
    """The error for data that are no array of rows of numbers."""
    what = f"{place} is {array.dtype} of shape {array.shape}, expected an array of rows"
    are_words = array.size and isinstance(array.flat[0], str)
    if not array.ndim or array.dtype.kind in "biufc" or (array.dtype.kind == "O" and not are_words):
        return TypeError(f"{what}; pass an array or a tuple of arrays with one first axis")
    return TypeError(
        f"{what} of numbers; leave it out, or encode it as numbers first, words by "
        "np.unique(words, return_inverse=True)[1]"
    )


def _is_foreign(x: Any) -> bool:
    """Whether x is an object of another library that stands for an array."""
    if isinstance(x, (np.ndarray, np.generic, Tensor, float, int)) or x is None:
        return False
    return hasattr(x, "__array__") or hasattr(x, "to_numpy") or hasattr(x, "collect")


def _is_frame(part: Any) -> bool:
    columns = getattr(part, "columns", None)
    return columns is not None and not callable(columns) and hasattr(type(part), "__getitem__")


def _of_frame(part: Any, place: str) -> np.ndarray:
    """A DataFrame as a table of its columns, all of which are numbers."""
    names, columns, bad = list(part.columns), [], []
    for i, name in enumerate(names):
        column = part.iloc[:, i] if hasattr(part, "iloc") else part[name]  # two columns of pandas' may have one name
        array = _of_column(column)
        columns.append(array)
        if array.dtype.kind not in "biufc":
            bad.append(f"{name!r} ({getattr(column, 'dtype', array.dtype)})")
    if bad:
        raise TypeError(
            f"{place} has columns that are not numbers: {', '.join(bad)}; leave them out, or encode them as numbers "
            "first"
        )
    whole = np.asarray(part if hasattr(part, "__array__") else part.to_numpy())
    if whole.dtype.kind in "biufc" or not columns:
        return whole  # which is a view of the frame's own memory where all columns lie in one block
    return np.column_stack(columns)


def _of_column(column: Any) -> np.ndarray:
    """A column or another array; of a dtype for numbers that may be missing, these are NaN."""
    array = np.asarray(column)
    dtype = getattr(column, "dtype", None)
    kind = getattr(dtype, "kind", "O")
    if array.dtype == object and kind in "biuf" and hasattr(column, "to_numpy"):
        is_single = kind == "f" and getattr(dtype, "itemsize", 8) == 4
        return np.asarray(column.to_numpy(dtype=np.float32 if is_single else np.float64, na_value=np.nan))
    return array


def note_on_batch(
    error: FloatingPointError, name: str, batch: tuple[Any, ...], rows: np.ndarray | None, places: list[str] | None
) -> None:
    """Add to an error about a loss or gradient that is not finite where the batch is not finite itself.

    `places` are the names of its arrays, if these are not their places in the batch.
    """
    leaves, structure = tree.flatten(arguments_of(batch, name))
    for leaf, place in zip(leaves, places or structure.paths("batch")):
        if isinstance(leaf, Tensor):
            leaf = leaf.detach().numpy()
        if isinstance(leaf, (np.ndarray, np.floating)) and leaf.dtype.kind == "f":
            chosen = np.isfinite(leaf if rows is None else np.asarray(leaf)[rows])
            if bad := chosen.size - np.count_nonzero(chosen):
                error.add_note(
                    f"{name}: {place}, of {leaf.dtype} and shape {chosen.shape}, has {bad} numbers of "
                    f"{chosen.size} that are not finite: fill in missing values, or leave out their rows"
                )
