"""Functional updates in JAX's spelling, ``x.at[index].set(values)``: x with some elements changed, as a value.

An update is where(changed, one of the new rows, x): for each row of x NumPy's own indexing finds which of the new rows
is the last that is written there. So nothing is written in place, each element of the result is copied from one place,
and the gradient of a copy is exact: it goes to x where x was kept and to the value that was kept, to no other.
``add`` is a sum with ``untake`` instead, which adds all values of a repeated index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    apply_op,
    asarray,
    astype,
    broadcast_to,
    concatenate,
    gathered,
    maximum,
    reshape,
    traced,
    where,
)

if TYPE_CHECKING:
    from .typing import TensorLike

_UNTAKE = _core.OP_NUMBERS["untake"]
_LAST_WRITER = _core.OP_NUMBERS["last_writer"]


def replaced(x: Tensor, index: Any, values: Tensor) -> Tensor:
    """x with the rows along its first axis that a vector of positions names replaced by those of values; the last one
    where a position is repeated. The positions are an ndarray, or a tensor that is known only at each replay."""
    length = x.shape[0]
    ones = (1,) * (x.ndim - 1)
    if not index.shape[0]:
        return reshape(x, x.shape)  # a value of its own
    if not isinstance(index, Tensor):
        begin, end = int(index[0]), int(index[-1]) + 1
        if end - begin == len(index) and (index[1:] - index[:-1] == 1).all():  # a run of rows
            return concatenate([x[:begin], values, x[end:]])
    elif index.shape[0] == 1:
        return where(reshape(asarray(np.arange(length)) == index, (length, *ones)), values, x)
    writer = apply_op(_LAST_WRITER, [asarray(index)], (length,))
    return where(reshape(writer >= 0, (length, *ones)), gathered(values, maximum(writer, 0), 0), x)


def _groups(index: Any) -> tuple[Any, Any] | None:
    """For each position of a vector the places where it occurs: numbers of these places and which of them count, both
    of shape (places, the most that may be equal). None if no position is repeated."""
    count = index.shape[0]
    if isinstance(index, Tensor):
        if count < 2:
            return None
        places = np.broadcast_to(np.arange(count), (count, count))
        return places, reshape(index, (count, 1)) == reshape(index, (1, count))
    _, group, sizes = np.unique(index, return_inverse=True, return_counts=True)
    if count == len(sizes):
        return None
    order = np.argsort(group, kind="stable")
    begin = np.cumsum(sizes) - sizes
    columns = np.arange(sizes.max())
    table = order[np.minimum(begin[:, None] + columns, count - 1)]
    return table[group], (columns < sizes[:, None])[group]


def _joint(values: Tensor, index: Any, identity: Any, reduce: Callable[..., Tensor], also: Tensor | None) -> Tensor:
    """For each row of values what a reduction makes of all rows with the same position, and of a row of ``also``."""
    groups = _groups(index)
    if groups is None and also is None:
        return values
    places, counts = groups or (np.arange(index.shape[0])[:, None], True)
    rows = gathered(values, asarray(places), 0)
    if counts is not True:
        mask = reshape(counts, (*places.shape, *(1,) * (values.ndim - 1)))
        rows = where(mask, rows, values.dtype.type(identity))
    if also is not None:
        rows = concatenate([reshape(also, (also.shape[0], 1, *also.shape[1:])), rows], 1)
    return reduce(rows, 1)


def _least(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else np.iinfo(dtype).min


def _largest(dtype: np.dtype[Any]) -> Any:
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


class At:
    """What ``x.at`` is: ``x.at[index]`` names the elements to update.

    >>> import fastgrad as fg
    >>> fg.zeros(3).at[1].set(2.0)
    tensor([0., 2., 0.])
    """

    __slots__ = ("x",)

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __getitem__(self, index: Any) -> Update:
        return Update(self.x, index)

    def __repr__(self) -> str:
        return f"{self.x!r}.at"


class Update:
    """The elements ``x.at[index]`` of a tensor, for any index that ``x[index]`` takes. Each method returns a new tensor
    of x's shape and dtype; x stays as it is.

    Values broadcast to the shape of ``x[index]``. Where an index is repeated ``set`` keeps the last value, in the order
    of the index, and the others act once for each time: ``add`` adds all values, ``multiply`` multiplies by their
    product, ``power`` raises to that, and so on. A mask whose values are known only at each replay takes values that
    broadcast over it, such as a single number. Raises IndexError for an index outside, TypeError for values that x's
    dtype cannot take.
    """

    __slots__ = ("index", "x")

    def __init__(self, x: Tensor, index: Any) -> None:
        self.x, self.index = x, index

    def get(self) -> Tensor:
        """``x[index]``.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 2.0]).at[0].get()
        tensor(1.)
        """
        return self.x[self.index]

    def set(self, values: TensorLike) -> Tensor:
        """x with these elements replaced.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 2.0, 3.0]).at[1:].set(0.0)
        tensor([1., 0., 0.])
        """
        return self._updated("set", values, lambda x, v: v, lambda old, v, i: v)

    def add(self, values: TensorLike) -> Tensor:
        """x with values added to these elements; all of them where an index is repeated.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 2.0, 3.0]).at[[0, 0]].add([1.0, 10.0])
        tensor([12.,  2.,  3.])
        """
        return self._updated("add", values, _core.add, lambda old, v, i: old + _joint(v, i, 0, _core.sum, None))

    def subtract(self, values: TensorLike) -> Tensor:
        """x with values subtracted from these elements; all of them where an index is repeated.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 2.0]).at[0].subtract(3.0)
        tensor([-2.,  2.])
        """
        return self.add(-_in_dtype(values, self.x.dtype, "subtract"))

    def multiply(self, values: TensorLike) -> Tensor:
        """x with these elements multiplied by values; by their product where an index is repeated.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 2.0]).at[[0, 0]].multiply([2.0, 3.0])
        tensor([6., 2.])
        """
        return self._updated("multiply", values, _core.multiply, lambda old, v, i: old * _product(v, i))

    def divide(self, values: TensorLike) -> Tensor:
        """x with these elements divided by values, by their product where an index is repeated. Raises TypeError where
        x consists of integers, which could not hold the quotients.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 2.0]).at[1].divide(4.0)
        tensor([1. , 0.5])
        """
        if self.x.dtype.kind != "f":
            raise TypeError(
                f"at[].divide: the quotients of {self.x.dtype} are no integers; make x a float tensor first"
            )
        return self._updated("divide", values, _core.divide, lambda old, v, i: old / _product(v, i))

    def power(self, values: TensorLike) -> Tensor:
        """x with these elements raised to the power of values, to that of their product where an index is repeated.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 3.0]).at[1].power(2.0)
        tensor([1., 9.])
        """
        return self._updated("power", values, _core.power, lambda old, v, i: old ** _product(v, i))

    def min(self, values: TensorLike) -> Tensor:
        """x with these elements replaced by values where those are smaller. Those that tie share the gradient.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 3.0]).at[:].min(2.0)
        tensor([1., 2.])
        """
        return self._updated("min", values, _core.minimum, lambda old, v, i: _extreme(_core.min, _largest, old, v, i))

    def max(self, values: TensorLike) -> Tensor:
        """x with these elements replaced by values where those are larger. Those that tie share the gradient.

        >>> import fastgrad as fg
        >>> fg.asarray([1.0, 3.0]).at[:].max(2.0)
        tensor([2., 3.])
        """
        return self._updated("max", values, _core.maximum, lambda old, v, i: _extreme(_core.max, _least, old, v, i))

    def __repr__(self) -> str:
        return f"{self.x!r}.at[{self.index!r}]"

    def _updated(
        self,
        name: str,
        values: TensorLike,
        elementwise: Callable[[Any, Any], Tensor],
        of_rows: Callable[[Tensor, Tensor, Any], Tensor],
    ) -> Tensor:
        """The updated x: by an elementwise function of x and values under a mask, else by a function of the old rows,
        the new ones and their positions."""
        x, index = self.x, self.index
        new = _in_dtype(values, x.dtype, name)
        if _is_mask(index) and index.shape == x.shape[: index.ndim] and new.ndim <= x.ndim - index.ndim:
            new = broadcast_to(new, x.shape[index.ndim :])
            mask = reshape(index, (*index.shape, *(1,) * (x.ndim - index.ndim)))
            one = x.dtype.type(1)  # in both operands, so that an infinite slope elsewhere does not count
            y = elementwise(where(mask, x, one), new if name == "set" else where(mask, new, one))
            return where(mask, y if y.dtype == x.dtype else astype(y, x.dtype), x)
        if x.ndim and (run := _run_of_rows(index, x.shape[0])) is not None:
            begin, end = run
            shape = x.shape[1:] if isinstance(index, int) else (end - begin, *x.shape[1:])
            new = reshape(broadcast_to(new, shape), (end - begin, *x.shape[1:]))
            if name != "set":
                new = elementwise(x[begin:end], new)
                new = new if new.dtype == x.dtype else astype(new, x.dtype)
            return concatenate([x[:begin], new, x[end:]])
        rest: tuple[int, ...] = ()
        if _of_the_first_axis(index) and x.ndim:
            rest = x.shape[1:]
            numbers = asarray(np.arange(x.shape[0]))[index]
        else:
            numbers = asarray(np.arange(x.size).reshape(x.shape))[index]
        positions: Any = reshape(numbers, -1)
        count, length = positions.shape[0], x.shape[0] if rest else x.size
        new = reshape(broadcast_to(new, (*numbers.shape, *rest)), (count, *rest))
        rows = reshape(x, (length, *rest))
        if name == "add" and x.dtype.kind == "f":
            y = rows + apply_op(_UNTAKE, [new, positions], (0, 0, length))
        else:
            positions = positions if traced(positions) else positions.numpy()
            if name != "set" and count:
                new = of_rows(gathered(rows, asarray(positions), 0), new, positions)
                new = new if new.dtype == x.dtype else astype(new, x.dtype)  # NumPy's sums of small integers are larger
            y = replaced(rows, positions, new)
        return reshape(y, x.shape)


def changed_in_turn(name: str, function: Callable[..., Tensor], x: Tensor, index: Any, *values: TensorLike) -> Tensor:
    """x with ``function`` of its elements at an index, and of the values beside them, in their places. Where the index
    names an element several times, the function is applied to it as often, in the order of the index."""
    numbers = asarray(np.arange(x.size).reshape(x.shape))[index]
    operands = [reshape(broadcast_to(asarray(v), numbers.shape), -1) for v in values]
    positions: Any = reshape(numbers, -1)
    if not traced(positions):
        positions = positions.numpy()
    elif positions.shape[0] > 1:
        raise TypeError(
            f"{name}: how often each element is named must be known while the function is traced; use an index that "
            "does not depend on its arguments, or x.at[index] with add, multiply, divide, power, min or max"
        )
    rows = reshape(x, -1)
    for places in _turns(positions):
        again = len(places) < positions.shape[0]
        at = positions[places] if again else positions
        old = gathered(rows, asarray(at), 0)
        new = function(old, *[gathered(v, asarray(places), 0) if again else v for v in operands])
        if not np.can_cast(new.dtype, x.dtype, "same_kind"):
            raise TypeError(
                f"{name}: values of {new.dtype} do not go into a tensor of {x.dtype}; cast the tensor first"
            )
        rows = replaced(rows, at, new if new.dtype == x.dtype else astype(new, x.dtype))
    return reshape(rows, x.shape)


def _turns(positions: Any) -> list[Any]:
    """The places of a vector of positions in groups: the first occurrences of all positions, then the second ones, and
    so on."""
    count = positions.shape[0]
    if isinstance(positions, Tensor) or count < 2:
        return [np.arange(count)] if count else []
    order = np.argsort(positions, kind="stable")
    ranked = positions[order]
    first = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    turn = np.empty(count, int)
    turn[order] = np.arange(count) - np.repeat(first, np.diff(np.append(first, count)))
    return [np.flatnonzero(turn == k) for k in range(turn.max() + 1)]


def _product(values: Tensor, index: Any) -> Tensor:
    from .reductions import prod

    return _joint(values, index, 1, prod, None)


def _extreme(
    reduce: Callable[..., Tensor], bound: Callable[..., Any], old: Tensor, values: Tensor, index: Any
) -> Tensor:
    return _joint(values, index, bound(old.dtype), reduce, old)


def _is_mask(index: Any) -> bool:
    return isinstance(index, (Tensor, np.ndarray)) and index.dtype == np.bool_ and index.ndim > 0


def _of_the_first_axis(index: Any) -> bool:
    """Whether an index names whole rows: an integer, a slice, or an array of integers."""
    if isinstance(index, (Tensor, np.ndarray, np.generic)):
        return index.dtype.kind in "iu"
    if isinstance(index, list):
        return all(type(i) is int for i in index)
    return isinstance(index, slice) or (isinstance(index, int) and not isinstance(index, bool))


def _run_of_rows(index: Any, length: int) -> tuple[int, int] | None:
    """The rows that an int, or a slice without a step, names: the first and the end; None for any other index."""
    if type(index) is int and -length <= index < length:
        return index % length, index % length + 1
    if type(index) is slice and index.step in (None, 1):
        begin, end, _ = index.indices(length)
        return begin, max(begin, end)
    return None


def _in_dtype(values: TensorLike, dtype: np.dtype[Any], name: str) -> Tensor:
    if type(values) in (int, bool) and dtype.kind in "iu":
        return asarray(np.asarray(values, dtype))  # OverflowError where it does not fit
    new = asarray(values)
    if new.dtype == dtype:
        return new
    if not np.can_cast(new.dtype, dtype, "same_kind"):
        raise TypeError(
            f"at[].{name}: values of {new.dtype} do not go into a tensor of {dtype}; cast one of both first"
        )
    return astype(new, dtype)


__all__: list[str] = []
