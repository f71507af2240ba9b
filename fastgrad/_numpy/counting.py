"""Searching, sets and counts under NumPy's names and rules. Their results are data and carry no gradient, but for the
distinct elements of ``unique`` and the weights of ``bincount`` and ``histogram``.

A result whose shape depends on elements cannot be traced; where it is known, NumPy's function is one instruction of a
program.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, apply_op, asarray, astype, by_numpy, normal_axes, reshape
from .indexing import take
from .shapes import is_single

if TYPE_CHECKING:
    from .typing import Axis, TensorLike
    from .unique_results import UniqueAllResult, UniqueCountsResult, UniqueInverseResult

_UNTAKE = _core.OP_NUMBERS["untake"]


def _known(x: TensorLike, name: str) -> Any:
    """The elements as an ndarray; TraceError where they are not known."""
    x = asarray(x)
    _core.refuse_value(x, "found")
    return x.detach().numpy()


def for_each_batch(function: Callable[..., Any], *vectors: Any) -> Any:
    """A function of vectors, for each element of their leading batch axes."""
    lead = np.broadcast_shapes(*[v.shape[:-1] for v in vectors])
    if not lead:
        return function(*vectors)
    vectors = tuple(np.broadcast_to(v, (*lead, v.shape[-1])) for v in vectors)
    found = [function(*[v[k] for v in vectors]) for k in np.ndindex(lead)]
    like = found[0] if found else function(*[np.zeros(v.shape[-1:], v.dtype) for v in vectors])
    return np.array(found, like.dtype).reshape((*lead, *like.shape))


# ---- places in sorted arrays -----------------------------------------------------------------------------------------
def searchsorted(a: TensorLike, v: TensorLike, side: str = "left", sorter: TensorLike | None = None) -> Tensor:
    """The places at which numbers would be put into a sorted vector so that it remains sorted, as int64: before equal
    ones, or behind them for ``side="right"``. ``sorter`` has the positions in a of its elements in ascending order.
    Raises ValueError where a is no vector, and for another side.

    >>> import fastgrad as fg
    >>> fg.searchsorted([1.0, 2.0, 2.0], [2.0, 3.0])
    tensor([1, 3])
    """
    a, v = asarray(a), asarray(v)
    if a.ndim != 1:
        raise ValueError(f"searchsorted: expected a sorted vector, got shape {a.shape}")
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: expected side 'left' or 'right', got {side!r}")
    if sorter is not None:
        a = take(a, sorter)
    return reshape(by_numpy(places, a, reshape(v, -1), side=side), v.shape)


def places(a: Any, v: Any, side: str) -> Any:
    return for_each_batch(functools.partial(np.searchsorted, side=side), a, v)


def digitize(x: TensorLike, bins: TensorLike, right: bool = False) -> Tensor:
    """The number of the interval between monotonic bounds that each element lies in, as int64: 0 before the first
    bound. A bound belongs to the interval behind it, or to that before it if ``right``. Raises ValueError for bounds
    that are not monotonic.

    >>> import fastgrad as fg
    >>> fg.digitize([0.5, 1.0, 5.0], [0.0, 1.0, 2.0])
    tensor([1, 2, 3])
    """
    x, bins = asarray(x), asarray(bins)
    if bins.ndim != 1:
        raise ValueError(f"digitize: expected the bounds as a vector, got shape {bins.shape}")
    return reshape(by_numpy(intervals, reshape(x, -1), bins, right=bool(right)), x.shape)


def intervals(x: Any, bins: Any, right: bool) -> Any:
    return for_each_batch(functools.partial(np.digitize, right=right), x, bins)


# ---- sets ------------------------------------------------------------------------------------------------------------
def unique(
    ar: TensorLike, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
    axis: int | None = None, *, equal_nan: bool = True, sorted: bool = True,
) -> Any:  # fmt: skip
    """The distinct elements in ascending order, also for ``sorted=False``, or along an axis the distinct slices. The
    gradient goes to the first element of each value. Further results are int64: the position of the first of each, for
    each element the number of its value, and how often each occurs. How many values there are depends on elements:
    TraceError in a trace.

    >>> import fastgrad as fg
    >>> fg.unique([3.0, 1.0, 3.0], return_counts=True)
    (tensor([1., 3.]), tensor([1, 2]))
    """
    x = asarray(ar)
    a = _known(x, "unique")
    _, index, inverse, counts = np.unique(a, True, True, True, axis, equal_nan=equal_nan)
    first = take(x, index, axis)
    wanted = [(return_index, index), (return_inverse, inverse), (return_counts, counts)]
    found = [asarray(result) for is_wanted, result in wanted if is_wanted]
    return (first, *found) if found else first


def unique_all(x: TensorLike) -> UniqueAllResult:
    """The distinct elements in ascending order; the position of the first of each in the raveled array; in x's shape,
    the number of each element's value among them; and how often each occurs. Each nan is distinct. Gradients and traces
    as for ``unique``.

    >>> import fastgrad as fg
    >>> fg.unique_all([3.0, 1.0, 3.0]).indices
    tensor([1, 0])
    """
    from .unique_results import UniqueAllResult  # a class of tuples takes long to make

    x = asarray(x)
    values, index, inverse, counts = unique(x, True, True, True, equal_nan=False)
    return UniqueAllResult(values, index, reshape(inverse, x.shape), counts)


def unique_counts(x: TensorLike) -> UniqueCountsResult:
    """The distinct elements in ascending order, and how often each occurs; see ``unique_all``.

    >>> import fastgrad as fg
    >>> fg.unique_counts([3.0, 1.0, 3.0]).counts
    tensor([1, 2])
    """
    from .unique_results import UniqueCountsResult

    return UniqueCountsResult(*unique(x, return_counts=True, equal_nan=False))


def unique_inverse(x: TensorLike) -> UniqueInverseResult:
    """The distinct elements in ascending order, and in x's shape the number of each element's value among them; see
    ``unique_all``.

    >>> import fastgrad as fg
    >>> fg.unique_inverse([3.0, 1.0, 3.0]).inverse_indices
    tensor([1, 0, 1])
    """
    from .unique_results import UniqueInverseResult

    x = asarray(x)
    values, inverse = unique(x, return_inverse=True, equal_nan=False)
    return UniqueInverseResult(values, reshape(inverse, x.shape))


def unique_values(x: TensorLike) -> Tensor:
    """The distinct elements in ascending order; see ``unique_all``.

    >>> import fastgrad as fg
    >>> fg.unique_values([3.0, 1.0, 3.0])
    tensor([1., 3.])
    """
    return unique(x, equal_nan=False)  # type: ignore[no-any-return]


def isin(
    element: TensorLike, test_elements: TensorLike, assume_unique: bool = False, invert: bool = False, *,
    kind: str | None = None,
) -> Tensor:  # fmt: skip
    """Whether each element is among others. ``assume_unique`` and ``kind`` only choose an algorithm of NumPy's.

    >>> import fastgrad as fg
    >>> fg.isin([1.0, 2.0], [2.0, 5.0])
    tensor([False,  True])
    """
    x, others = asarray(element), asarray(test_elements)
    options = {"assume_unique": bool(assume_unique), "invert": bool(invert), "kind": kind}
    return reshape(by_numpy(are_among, reshape(x, -1), reshape(others, -1), **options), x.shape)


def are_among(x: Any, others: Any, **options: Any) -> Any:
    return for_each_batch(functools.partial(np.isin, **options), x, others)


# ---- where elements are not 0 ----------------------------------------------------------------------------------------
def nonzero(a: TensorLike) -> tuple[Tensor, ...]:
    """The positions of the elements that are not 0: for each axis a vector of int64. How many there are depends on
    elements: TraceError in a trace. Raises ValueError for a single number.

    >>> import fastgrad as fg
    >>> fg.nonzero([0.0, 2.0, 3.0])
    (tensor([1, 2]),)
    """
    return tuple(asarray(i) for i in np.nonzero(_known(a, "nonzero")))


def flatnonzero(a: TensorLike) -> Tensor:
    """The positions in the raveled array of the elements that are not 0; TraceError in a trace.

    >>> import fastgrad as fg
    >>> fg.flatnonzero([0.0, 2.0, 3.0])
    tensor([1, 2])
    """
    return asarray(np.flatnonzero(_known(a, "flatnonzero")))


def argwhere(a: TensorLike) -> Tensor:
    """The positions of the elements that are not 0, one in each row; TraceError in a trace.

    >>> import fastgrad as fg
    >>> fg.argwhere([0.0, 2.0, 3.0])
    tensor([[1],
            [2]])
    """
    return asarray(np.argwhere(_known(a, "argwhere")))


def count_nonzero(a: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """How many elements over axes are not 0, as int64.

    >>> import fastgrad as fg
    >>> fg.count_nonzero([0.0, 2.0, 3.0])
    tensor(2)
    """
    x = asarray(a)
    normal_axes(axis, x.ndim, "count_nonzero")
    return _core.sum(x if x.dtype == np.bool_ else x != 0, axis, keepdims=keepdims)


# ---- counts ----------------------------------------------------------------------------------------------------------
def bincount(
    x: TensorLike, /, weights: TensorLike | None = None, minlength: int = 0, *, length: int | None = None
) -> Tensor:
    """How often each integer of at least 0 occurs in a vector, as int64; or the sums of the weights of those places, in
    float64, with gradients to the weights.

    The result has as many elements as the largest integer asks for, at least ``minlength``; in a trace, where that is
    not known, give ``length``: integers that are not below it are not counted. Raises TypeError for numbers that are
    no integers, ValueError for negative ones.

    >>> import fastgrad as fg
    >>> fg.bincount([0, 2, 2])
    tensor([1, 0, 2])
    """
    x = asarray(x)
    if x.dtype.kind not in "iub" and x.size:
        raise TypeError(f"bincount: expected integers, got {x.dtype}")
    if x.ndim != 1:
        raise ValueError(f"bincount: expected a vector, got shape {x.shape}")
    if (minlength := operator.index(minlength)) < 0:
        raise ValueError(f"bincount: expected minlength of at least 0, got {minlength}")
    if length is None:
        _core.refuse_value(x, "count")
        length = max(int(x.detach().numpy().max()) + 1 if x.size else 0, minlength)
    n = operator.index(length)
    if weights is None:
        return by_numpy(counts, x, length=n)
    w = asarray(weights)
    if w.shape != x.shape:
        raise ValueError(f"bincount: expected a weight for each of {x.shape[0]} integers, got shape {w.shape}")
    at = by_numpy(bounded, x, length=n)
    return apply_op(_UNTAKE, [astype(w, np.float64), at], (0, 0, n + 1))[:n]


def counts(x: Any, length: int) -> Any:
    return for_each_batch(lambda x: np.bincount(x, minlength=length + 1)[:length], bounded(x, length))


def bounded(x: Any, length: int) -> Any:
    """Integers as int64, those of at least ``length`` as just that."""
    if (x < 0).any():
        raise ValueError(f"bincount: expected integers of at least 0, got {x.min()}")
    return np.minimum(x, length).astype(np.int64)


def histogram(
    a: TensorLike, bins: Any = 10, range: tuple[float, float] | None = None, density: bool | None = None,
    weights: TensorLike | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """How many elements lie between neighbouring edges, and the edges. ``bins`` is the number of equal intervals from
    the least element to the largest or over ``range``, or the edges, or the name of one of NumPy's rules, for which
    elements must be known. The last interval includes its end.

    With ``weights`` their sums, with gradients to them; with ``density`` divided by the sum of all and by the
    interval's length, with gradients to the edges that were given. Counts and the edges returned are data. Raises
    ValueError for edges that do not increase.

    >>> import fastgrad as fg
    >>> fg.histogram([0.0, 1.0, 1.5, 2.0], 2)
    (tensor([1, 3]), tensor([0., 1., 2.]))
    """
    x = asarray(a)
    if weights is not None and asarray(weights).shape != x.shape:
        raise ValueError(f"histogram: expected weights of shape {x.shape}, got {asarray(weights).shape}")
    flat = reshape(x, -1).detach()
    given: Tensor | None = None
    if isinstance(bins, str):
        edges = asarray(np.histogram_bin_edges(_known(flat, "histogram"), bins, range))
    elif is_single(bins):
        limits = None if range is None else (float(range[0]), float(range[1]))
        edges = by_numpy(equal_intervals, flat, bins=operator.index(bins), range=limits)
    else:
        given = asarray(bins)
        edges = given.detach()
        if edges.ndim != 1:
            raise ValueError(f"histogram: expected bins as a number or a vector of edges, got shape {edges.shape}")
    if edges.shape[0] < 2:
        raise ValueError(f"histogram: expected at least two edges, got {edges.shape[0]}")
    number = by_numpy(interval_numbers, flat, edges)
    n = edges.shape[0] - 1
    if weights is None:
        found = bincount(number, length=n)
    else:
        w = reshape(asarray(weights), -1)
        found = apply_op(_UNTAKE, [w if w.dtype.kind == "f" else astype(w, np.float64), number], (0, 0, n + 1))[:n]
        found = found if w.dtype.kind == "f" else astype(found, w.dtype)
    if density:
        bounds = edges if given is None else given
        widths = bounds[1:] - bounds[:-1]
        found = found / astype(widths, np.float64) / found.sum()
    return found, edges


def equal_intervals(x: Any, bins: int, range: tuple[float, float] | None) -> Any:
    return for_each_batch(lambda x: np.histogram_bin_edges(x, bins, range), x)


def interval_numbers(x: Any, edges: Any) -> Any:
    """For each element the number of its interval; their number for what lies in none."""

    def numbers(x: Any, edges: Any) -> Any:
        if not (edges[:-1] <= edges[1:]).all():
            raise ValueError("histogram: expected edges that increase")
        n = len(edges) - 1
        i = np.where(x == edges[-1], n - 1, np.searchsorted(edges, x, "right") - 1)
        return np.where((x >= edges[0]) & (x <= edges[-1]), i, n)

    return for_each_batch(numbers, x, edges)


__all__ = [
    "argwhere", "bincount", "count_nonzero", "digitize", "flatnonzero", "histogram", "isin", "nonzero", "searchsorted",
    "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values",
]  # fmt: skip
