"""Order statistics under NumPy's names and rules: sorts, the largest and smallest elements, medians, quantiles.

All are composed of one operation, ``argsort``, which gives the positions of the elements in ascending or descending
order, or of those at some places of the order only, and of gathers by these positions. So a gradient goes to the
elements that were chosen. Elements that are equal keep their order, and the first of them is the smallest: a sort is
stable whatever ``kind`` says, and the element of a given rank is the same in ``sort`` and ``median``. nan is the
largest number. Integers and booleans are sorted by NumPy.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    apply_op,
    asarray,
    astype,
    broadcast_to,
    by_numpy,
    gathered,
    maximum,
    normal_axes,
    reshape,
    transpose,
    where,
)
from .creation import into
from .elementwise import clip
from .indexing import int64_positions
from .results import stored
from .sequences import cumsum
from .shapes import is_single, moveaxis, one_axis, part

if TYPE_CHECKING:
    from .typing import Axis, TensorLike

_ARGSORT, _TAKE, _LAST_WRITER = [_core.OP_NUMBERS[name] for name in ("argsort", "take", "last_writer")]
_KINDS = (None, "quicksort", "mergesort", "heapsort", "stable")


# ---- order along the last axis --------------------------------------------------------------------------------------
def _order(x: Tensor, descending: bool = False, places: tuple[int, ...] = ()) -> Tensor:
    """The positions of the elements in the order of each row, or of those at some places of it."""
    if x.dtype.kind == "f":
        return apply_op(_ARGSORT, [x], (descending, *places))
    return by_numpy(order_of_integers, x, descending=descending, places=places)


def order_of_integers(x: Any, descending: bool, places: tuple[int, ...]) -> Any:
    if descending:
        order = x.shape[-1] - 1 - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    else:
        order = np.argsort(x, axis=-1, kind="stable")
    return order[..., list(places)] if places else order


def _picked(x: Tensor, index: Tensor) -> Tensor:
    """Elements of each row of x by the positions in the same row of an index."""
    return apply_op(_TAKE, [x, index], (x.ndim - 1, x.ndim - 1))


def _rows(x: TensorLike, axis: int | None, name: str) -> tuple[Tensor, int]:
    """x, raveled for no axis, with the axis moved to the end; and where it was."""
    x = asarray(x)
    if axis is None:
        x, axis = reshape(x, -1), -1
    axis = one_axis(axis, x.ndim, name)
    return (x if axis == x.ndim - 1 else moveaxis(x, axis, -1)), axis


def _back(y: Tensor, axis: int) -> Tensor:
    return y if axis == y.ndim - 1 else moveaxis(y, -1, axis)


def _check_kind(name: str, kind: Any, order: Any, stable: Any = None) -> None:
    if kind not in _KINDS:
        raise ValueError(f"{name}: expected a kind among {', '.join(map(repr, _KINDS[1:]))}, got {kind!r}")
    if kind is not None and stable is not None:
        raise ValueError(f"{name}: expected kind= or stable=, got both; every sort of tensors is stable")
    if order is not None:
        raise ValueError(f"{name}: order= names fields, and tensors have none")


def sort(
    a: TensorLike, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None,
    descending: bool = False,
) -> Tensor:  # fmt: skip
    """The elements in ascending order along an axis, or of the raveled array for ``axis=None``; nan is last. In
    descending order it is first.

    Every kind of sort is stable: the gradient of equal elements goes to them in their order. Raises AxisError for an
    array without axes, ValueError for an unknown kind.

    >>> import fastgrad as fg
    >>> fg.sort([3.0, 1.0, 2.0])
    tensor([1., 2., 3.])
    """
    _check_kind("sort", kind, order, stable)
    x, axis = _rows(a, axis, "sort")
    if x.dtype.kind != "f":
        y = by_numpy(np.sort, x, axis=-1)
        return _back(y[..., ::-1] if descending else y, axis)
    return _back(_picked(x, _order(x, bool(descending))), axis)


def argsort(
    a: TensorLike, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None,
    descending: bool = False,
) -> Tensor:  # fmt: skip
    """The positions of the elements in ascending order along an axis, as int64; they carry no gradient. Equal elements
    keep their order, whatever the kind; nan is last. In descending order it is first.

    >>> import fastgrad as fg
    >>> fg.argsort([3.0, 1.0, 2.0])
    tensor([1, 2, 0])
    """
    _check_kind("argsort", kind, order, stable)
    x = asarray(a)
    x, axis = _rows(x if x.ndim else reshape(x, 1), axis, "argsort")
    return _back(_order(x, bool(descending)), axis)


def partition(
    a: TensorLike, kth: int | Sequence[int], axis: int | None = -1, kind: str = "introselect", order: None = None
) -> Tensor:
    """The elements along an axis with the kth smallest in its place, smaller ones before it and larger ones behind: all
    in ascending order, which is one of the partitions. For a single one of them use ``kthvalue``.

    Raises ValueError where kth is outside the axis.

    >>> import fastgrad as fg
    >>> fg.partition([3.0, 1.0, 2.0], 1)
    tensor([1., 2., 3.])
    """
    _check_partition("partition", a, kth, axis, kind, order)
    return sort(a, axis)


def argpartition(
    a: TensorLike, kth: int | Sequence[int], axis: int | None = -1, kind: str = "introselect", order: None = None
) -> Tensor:
    """The positions of the elements of ``partition``, as int64.

    >>> import fastgrad as fg
    >>> fg.argpartition([3.0, 1.0, 2.0], 1)
    tensor([1, 2, 0])
    """
    _check_partition("argpartition", a, kth, axis, kind, order)
    return argsort(a, axis)


def _check_partition(name: str, a: TensorLike, kth: Any, axis: int | None, kind: str, order: None) -> None:
    if kind != "introselect":
        raise ValueError(f"{name}: expected kind='introselect', got {kind!r}")
    _check_kind(name, None, order)
    x = asarray(a)
    n = x.size if axis is None else x.shape[one_axis(axis, x.ndim, name)] if x.ndim else 1
    for k in (kth,) if is_single(kth) else kth:
        if x.size and not -n <= operator.index(k) < n:
            raise ValueError(f"{name}: kth={k} is outside an axis of length {n}")


def topk(x: TensorLike, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest elements along an axis, the largest first, and their positions. Of equal elements the first is
    taken first; nan is the largest number. Raises ValueError where the axis has fewer than k elements.

    >>> import fastgrad as fg
    >>> fg.topk([3.0, 1.0, 2.0], 2)
    (tensor([3., 2.]), tensor([0, 2]))
    """
    rows, axis = _rows(x, axis, "topk")
    k, n = operator.index(k), rows.shape[-1]
    if not 0 <= k <= n:
        raise ValueError(f"topk: expected k from 0 to {n}, the length of the axis, got {k}")
    index = part(_order(rows, True), rows.ndim - 1, None, k) if k == 0 else _order(rows, True, tuple(range(k)))
    return _back(_picked(rows, index), axis), _back(index, axis)


def kthvalue(x: TensorLike, k: int, axis: int = -1, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """The kth smallest element along an axis, counted from 1, and its position. It is found without a sort. Raises
    ValueError where the axis has fewer than k elements.

    >>> import fastgrad as fg
    >>> fg.kthvalue([3.0, 1.0, 2.0], 2)
    (tensor(2.), tensor(2))
    """
    rows, axis = _rows(x, axis, "kthvalue")
    k, n = operator.index(k), rows.shape[-1]
    if not 1 <= k <= n:
        raise ValueError(f"kthvalue: expected k from 1 to {n}, the length of the axis, got {k}")
    index = _order(rows, False, (k - 1,))
    y = _picked(rows, index)
    if keepdims:
        return _back(y, axis), _back(index, axis)
    return reshape(y, rows.shape[:-1]), reshape(index, rows.shape[:-1])


def lexsort(keys: TensorLike | Sequence[TensorLike], axis: int = -1) -> Tensor:
    """The positions, as int64, of the elements in ascending order of the last key; where that is equal, in the order of
    the key before it, and so on. Raises TypeError for no keys, ValueError for keys of different shapes.

    >>> import fastgrad as fg
    >>> fg.lexsort(([2.0, 1.0, 0.0], [1.0, 1.0, 0.0]))
    tensor([2, 1, 0])
    """
    keys = [asarray(key) for key in keys]  # type: ignore[union-attr]
    if not keys:
        raise TypeError("lexsort: expected at least one key, got none")
    order = None
    for key in keys:
        if key.shape != keys[0].shape:
            raise ValueError(f"lexsort: expected keys of one shape, got {keys[0].shape} and {key.shape}")
        if not key.ndim:
            return asarray(np.int64(0))
        rows, at = _rows(key, axis, "lexsort")
        order = _order(rows) if order is None else _picked(order, _order(_picked(rows, order)))
    return _back(order, at)  # type: ignore[arg-type]


# ---- elements along an axis by positions ----------------------------------------------------------------------------
def _along(name: str, x: Tensor, indices: TensorLike, axis: int | None) -> tuple[Tensor, Tensor, int]:
    """x and int64 positions with the axis moved to the end, of equal shapes along the others; and where it was."""
    index = asarray(indices)
    if index.dtype.kind not in "iu":
        raise IndexError(f"{name}: expected integer indices, got {index.dtype}")
    if axis is None:
        if index.ndim != 1:
            raise ValueError(f"{name}: expected one axis of indices for axis=None, got shape {index.shape}")
        x, axis = reshape(x, -1), 0
    if index.ndim != x.ndim:
        raise ValueError(f"{name}: expected indices with as many axes as the array, got shapes {index.shape} and "
                         f"{x.shape}")  # fmt: skip
    rows, axis = _rows(x, axis, name)
    index, _ = _rows(int64_positions(index), axis, name)
    lead = np.broadcast_shapes(rows.shape[:-1], index.shape[:-1])
    return broadcast_to(rows, (*lead, rows.shape[-1])), broadcast_to(index, (*lead, index.shape[-1])), axis


def take_along_axis(arr: TensorLike, indices: TensorLike, axis: int | None = -1) -> Tensor:
    """Elements along an axis by positions, such as those of ``argsort``. Array and positions broadcast along the other
    axes. Negative positions count from the end. Raises IndexError for positions outside and for those that are no
    integers, ValueError where the numbers of axes differ.

    >>> import fastgrad as fg
    >>> fg.take_along_axis([[3.0, 1.0], [5.0, 6.0]], [[1], [0]], axis=1)
    tensor([[1.],
            [5.]])
    """
    rows, index, axis = _along("take_along_axis", asarray(arr), indices, axis)
    return _back(_picked(rows, index), axis)


def put_along_axis(arr: TensorLike, indices: TensorLike, values: TensorLike, axis: int | None) -> Tensor:
    """The array with other values at positions along an axis. Unlike NumPy's it changes nothing in place: it returns
    a tensor, in the array's dtype. Where a position is named twice, the last value counts. Raises IndexError and
    ValueError as ``take_along_axis``.

    >>> import fastgrad as fg
    >>> fg.put_along_axis([1.0, 2.0, 3.0], [2], 0.0, axis=0)
    tensor([1., 2., 0.])
    """
    x, v = asarray(arr), asarray(values)
    rows, index, at = _along("put_along_axis", x, indices, axis)
    shape = reshape(x, -1).shape if axis is None else x.shape
    if rows.shape != (*shape[:at], *shape[at + 1 :], shape[at]):
        raise ValueError(f"put_along_axis: indices of shape {index.shape} do not fit an array of shape {x.shape}")
    laid = (*index.shape[:at], index.shape[-1], *index.shape[at:-1])
    v, _ = _rows(broadcast_to(into(v, x.dtype, "put_along_axis"), laid), at, "put_along_axis")
    writer = apply_op(_LAST_WRITER, [index], (rows.shape[-1],))
    chosen = _picked(v, maximum(writer, 0)) if v.shape[-1] else rows
    return reshape(_back(where(writer >= 0, chosen, rows), at), x.shape)


# ---- medians and quantiles ------------------------------------------------------------------------------------------
class _Reduced(NamedTuple):
    """An array with the axes that are reduced as one last axis, and the shape of a result with keepdims."""

    rows: Tensor
    kept: tuple[int, ...]
    keepdims: bool

    def result(self, y: Tensor, lead: tuple[int, ...] = ()) -> Tensor:
        """The result of y, whose last axis is that of the axes ``lead`` raveled; these come first in the result."""
        shape = self.kept if self.keepdims else self.rows.shape[:-1]
        if lead:
            y = transpose(y, (y.ndim - 1, *range(y.ndim - 1)))
        return reshape(y, (*lead, *shape))


def _reduced(a: TensorLike, axis: Axis, keepdims: bool, name: str) -> _Reduced:
    x = asarray(a)
    axes = normal_axes(axis, x.ndim, name)
    kept = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
    rest = [i for i in range(x.ndim) if i not in axes]
    order = [*rest, *axes]
    count = 1
    for i in axes:
        count *= x.shape[i]
    if order != list(range(x.ndim)):
        x = transpose(x, order)
    return _Reduced(reshape(x, (*x.shape[: len(rest)], count)), kept, bool(keepdims))


def _unless_nan(y: Tensor, largest: Tensor) -> Tensor:
    """y, or the largest element where that is nan."""
    return where(largest != largest, largest, y)


def median(
    a: TensorLike, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False, keepdims: bool = False
) -> Tensor:
    """The middle of the elements in order, or the mean of the two in the middle; nan if any is nan, or for none.

    They are found without a sort; ``overwrite_input`` changes nothing. The gradient goes to the elements in the
    middle; of equal ones, to those that a stable sort puts there. float32 and float64 are kept, integers become
    float64.

    >>> import fastgrad as fg
    >>> fg.median([[3.0, 1.0, 2.0], [7.0, 5.0, 4.0]], axis=1)
    tensor([2., 5.])
    """
    if out is not None:
        return stored("median", out, median(a, axis, keepdims=keepdims))
    r = _reduced(a, axis, keepdims, "median")
    x = r.rows if r.rows.dtype.kind == "f" else astype(r.rows, np.float64)
    if not (n := x.shape[-1]):
        return r.result(asarray(np.full(x.shape[:-1], np.nan, x.dtype)))
    values = _picked(x, _order(x, False, ((n - 1) // 2, n // 2, n - 1) if n % 2 == 0 else (n // 2, n - 1)))
    first, last = values[..., 0], values[..., -1]
    y = first if n % 2 else (first + values[..., 1]) / 2
    return r.result(_unless_nan(y, last))


def nanmedian(
    a: TensorLike, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False, keepdims: bool = False
) -> Tensor:
    """The median of the elements that are not nan; nan where there is none.

    >>> import fastgrad as fg
    >>> fg.nanmedian([3.0, float("nan"), 1.0])
    tensor(2.)
    """
    if out is not None:
        return stored("nanmedian", out, nanmedian(a, axis, keepdims=keepdims))
    r = _reduced(a, axis, keepdims, "nanmedian")
    x = r.rows
    if x.dtype.kind != "f" or not x.shape[-1]:
        return median(a, axis, keepdims=keepdims)
    middle = by_numpy(middle_places, x == x)  # nan is last in the order
    values = _picked(x, _picked(_order(x), middle))
    first, second = values[..., 0], values[..., 1]
    return r.result(where(middle[..., 0] == middle[..., 1], first, (first + second) / 2))


def middle_places(valid: Any) -> Any:
    """The two places in the middle of so many elements as are valid in a row; the same one twice for an odd number."""
    count = valid.sum(-1)[..., None]
    return np.maximum(np.concatenate([(count - 1) // 2, count // 2], -1), 0)


def _between(alpha: float, beta: float) -> Callable[[Any, Any], Any]:
    return lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1


def _at_a_step(at: Any, down: Callable[[Any, Any], Any]) -> Any:
    """The place before or behind a step of the distribution function."""
    before = np.floor(at)
    return np.maximum(np.where(down(at - before, before), before, before + 1), 0)


# Hyndman and Fan, "Sample quantiles in statistical packages" (1996), and NumPy's own: for n elements and the
# probability q, the place in the order, counted from 0. For those of DISCRETE it is a whole number.
_PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "inverted_cdf": lambda n, q: _at_a_step(n * q - 1, lambda over, _: over == 0),
    "averaged_inverted_cdf": lambda n, q: n * q - 1,
    "closest_observation": lambda n, q: _at_a_step(n * q - 1 - 0.5, lambda over, at: (over == 0) & (at % 2 == 1)),
    "interpolated_inverted_cdf": _between(0, 1),
    "hazen": _between(0.5, 0.5),
    "weibull": _between(0, 0),
    "linear": lambda n, q: (n - 1) * q,
    "median_unbiased": _between(1 / 3.0, 1 / 3.0),
    "normal_unbiased": _between(3 / 8.0, 3 / 8.0),
    "lower": lambda n, q: np.floor((n - 1) * q),
    "higher": lambda n, q: np.ceil((n - 1) * q),
    "midpoint": lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)),
    "nearest": lambda n, q: np.around((n - 1) * q),
}
_DISCRETE = {"inverted_cdf", "closest_observation", "lower", "higher", "nearest"}
# The weight of the element behind a place, by the fractional part of the place, where it is not that part itself.
_WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "averaged_inverted_cdf": lambda fraction: np.where(fraction == 0, 0.5, 1.0),
    "midpoint": lambda fraction: np.where(fraction == 0, 0.0, 0.5),
}


def quantile(
    a: TensorLike, q: TensorLike, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False, *, weights: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """The quantiles of probabilities q along axes; the axes of q come first in the result. nan if an element is nan, or
    for no elements, as ``median``, where NumPy raises IndexError.

    ``method`` is one of NumPy's thirteen, which differ between elements. For a few constant q the elements are found
    without a sort. The gradient goes to the elements beside each place in the order, of equal ones to those that a
    stable sort puts there, and to q where the method interpolates. ``weights``, not negative, of the shape of a or for
    one axis, need ``method="inverted_cdf"``; their derivative is 0. Raises ValueError for q outside [0, 1], in a
    program where it runs, for an unknown method, and for weights that are negative, not finite or all 0; in a program,
    which does not know them, the latter two give nan.

    >>> import fastgrad as fg
    >>> fg.quantile([3.0, 1.0, 2.0, 4.0], [0.5, 1.0])
    tensor([2.5, 4. ])
    """
    return stored("quantile", out, _quantile("quantile", a, q, axis, method, keepdims, weights))


def nanquantile(
    a: TensorLike, q: TensorLike, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False, *, weights: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``quantile`` of the elements that are not nan; nan where there is none.

    >>> import fastgrad as fg
    >>> fg.nanquantile([3.0, float("nan"), 1.0], 0.25)
    tensor(1.5)
    """
    return stored("nanquantile", out, _quantile("nanquantile", a, q, axis, method, keepdims, weights))


def percentile(
    a: TensorLike, q: TensorLike, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False, *, weights: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``quantile`` with q in per cent, from 0 to 100.

    >>> import fastgrad as fg
    >>> fg.percentile([3.0, 1.0, 2.0], 50)
    tensor(2.)
    """
    return stored("percentile", out, _quantile("percentile", a, q, axis, method, keepdims, weights, 100))


def nanpercentile(
    a: TensorLike, q: TensorLike, axis: Axis = None, out: Tensor | None = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False, *, weights: TensorLike | None = None,
) -> Tensor:  # fmt: skip
    """``nanquantile`` with q in per cent, from 0 to 100.

    >>> import fastgrad as fg
    >>> fg.nanpercentile([3.0, float("nan"), 1.0], 50)
    tensor(2.)
    """
    return stored("nanpercentile", out, _quantile("nanpercentile", a, q, axis, method, keepdims, weights, 100))


def _quantile(
    name: str, a: TensorLike, q: Any, axis: Axis, method: str, keepdims: bool, weights: Any, whole: int = 1
) -> Tensor:
    if method not in _PLACES:
        raise ValueError(f"{name}: expected a method among {', '.join(_PLACES)}, got {method!r}")
    r, is_nan_ignored = _reduced(a, axis, keepdims, name), name.startswith("nan")
    x = r.rows
    q = _probabilities(name, q, x, whole)
    if q.ndim > 2:
        raise ValueError(f"{name}: expected q as a number or with one or two axes, got shape {q.shape}")
    lead, flat = q.shape, q.reshape(-1)
    if x.dtype.kind != "f" and (q.dtype.kind == "f" or method != "linear") and method not in _DISCRETE:
        x = astype(x, np.float64)
    if not x.shape[-1]:
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        return r.result(asarray(np.full((*x.shape[:-1], flat.size), np.nan, dtype)), lead)
    # The probabilities that decide which elements are taken: in a program they are checked where it runs.
    checked = by_numpy(probabilities, flat, name=name, whole=whole) if isinstance(flat, Tensor) else flat
    if weights is not None:
        return r.result(_weighted(name, x, checked, method, a, weights, axis, is_nan_ignored), lead)
    if is_nan_ignored and x.dtype.kind == "f":
        count = astype((x == x).sum(-1, keepdims=True), flat.dtype if flat.dtype.kind == "f" else np.float64)
        return r.result(_at_places(x, count, flat, checked, method), lead)
    if isinstance(flat, Tensor):
        y = _at_places(x, x.shape[-1], flat, checked, method)
        return r.result(_unless_nan(y, _picked(x, _order(x, False, (x.shape[-1] - 1,)))), lead)
    return r.result(_at_constant_places(x, flat, method), lead)


def _probabilities(name: str, q: Any, x: Tensor, whole: int) -> Any:
    """q from 0 to 1 as an ndarray, or as a tensor if it is differentiated or its value is not known."""
    if isinstance(q, Tensor) and (q.requires_grad or _core.traced(q)):
        q = q if q.dtype.kind == "f" else astype(q, np.float64)
        return q if whole == 1 else q / whole
    q = q.numpy() if isinstance(q, Tensor) else q
    # An integer q of 0 or 1 stays one, so that the place is known to be that of an element, beside inf, too.
    weak = x.dtype.kind == "f" and isinstance(q, float if whole == 1 else (int, float))
    q = np.asarray(q, x.dtype if weak else None)
    if q.dtype.kind not in "iufb":
        raise TypeError(f"{name}: expected q as a number or an array of numbers, got {q.dtype}")
    if whole != 1:
        q = np.true_divide(q, x.dtype.type(whole) if x.dtype.kind == "f" else whole)
    return probabilities(q, name, whole)


def probabilities(q: Any, name: str, whole: int) -> Any:
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError(f"{name}: expected q from 0 to {whole}, got {(q * whole).tolist()}")
    return q


def _mixed(before: Any, behind: Any, share: Any) -> Any:
    """Linear interpolation from the end that is nearer."""
    step = behind - before
    if isinstance(share, np.ndarray) and (share < 0.5).all():
        return before + step * share
    if isinstance(share, np.ndarray) and (share >= 0.5).all():
        return behind - step * (1 - share)
    return where(share >= 0.5, behind - step * (1 - share), before + step * share)


def _share(at: Any, before: Any, method: str) -> Any:
    fraction = at - before
    return _WEIGHTS[method](fraction).astype(at.dtype) if method in _WEIGHTS else fraction


def _at_constant_places(x: Tensor, q: np.ndarray, method: str) -> Tensor:
    places, before, behind, share = _constant_places(x.shape[-1], tuple(q.tolist()), q.dtype, method)
    values = _picked(x, _order(x, False, places))
    y = gathered(values, asarray(before), values.ndim - 1)
    if behind is not None:
        y = _mixed(y, gathered(values, asarray(behind), values.ndim - 1), share)
    return _unless_nan(y, part(values, values.ndim - 1, -1, None)) if x.dtype.kind == "f" else y


@functools.lru_cache(1024)
def _constant_places(n: int, q: tuple[Any, ...], dtype: np.dtype[Any], method: str) -> tuple[Any, Any, Any, Any]:
    """The places wanted of n elements, in ascending order, the last of all among them, where nan is; for each q the
    numbers of those before and behind its place, and its share of the latter. None: there is one element for each q."""
    at = _PLACES[method](n, np.array(q, dtype))
    before, behind = (np.clip(place, 0, n - 1).astype(np.int64) for place in (np.floor(at), np.floor(at) + 1))
    if method in _DISCRETE or at.dtype.kind != "f":
        places = np.unique([*before, n - 1])
        return tuple(places.tolist()), np.searchsorted(places, before), None, None
    places = np.unique([*before, *behind, n - 1])
    before, behind = np.searchsorted(places, before), np.searchsorted(places, behind)
    return tuple(places.tolist()), before, behind, _share(at, np.clip(np.floor(at), 0, n - 1), method)


def _at_places(x: Tensor, n: Any, q: Any, checked: Any, method: str) -> Tensor:
    """The quantiles of rows of which the first n in order count, n a number or a column; also of q whose values are not
    known."""
    at = _PLACES[method](n, q)
    shape = (*x.shape[:-1], q.shape[0])
    down = np.floor(_PLACES[method](n, checked))
    before, behind = (clip(clip(place, None, n - 1), 0, None) for place in (down, down + 1))
    values = _picked(x, _order(x))

    def value(place: Any) -> Tensor:
        return _picked(values, broadcast_to(astype(asarray(place).detach(), np.int64), shape))

    if method in _DISCRETE:
        return value(before)
    return _mixed(value(before), value(behind), _share(asarray(at), before, method))  # type: ignore[no-any-return]


def _weighted(
    name: str, x: Tensor, q: Any, method: str, a: Any, weights: Any, axis: Axis, is_nan_ignored: bool
) -> Tensor:
    """The first element up to which the weights are a share of at least q of their sum."""
    if method != "inverted_cdf":
        raise ValueError(f"{name}: weights= need method='inverted_cdf', got {method!r}")
    w, a = asarray(weights), asarray(a)
    if w.shape == a.shape:
        w = _reduced(w, axis, False, name).rows
    elif w.shape != x.shape[-1:] or axis is None or isinstance(axis, tuple):
        raise ValueError(f"{name}: weights of shape {w.shape} fit neither an array of shape {a.shape} nor one axis of "
                         "it")  # fmt: skip
    w = astype(broadcast_to(w, x.shape).detach(), np.float64)
    if not _core.traced(w):
        _check_weights(name, w.numpy())
    w = where(x == x, w, 0.0) if is_nan_ignored else w
    order = _order(x)
    total = cumsum(_picked(w, order), -1)
    share = total / part(total, total.ndim - 1, -1, None)
    share = where(share == 0, -1.0, share)
    q = q if isinstance(q, Tensor) else asarray(q)
    below = reshape(share, (*share.shape[:-1], 1, share.shape[-1])) < reshape(q, (-1, 1))
    place = by_numpy(np.minimum, below.sum(-1), x.shape[-1] - 1)
    values = _picked(x, order)
    y = _picked(values, place)
    if x.dtype.kind != "f":
        return y
    whole = part(share, share.ndim - 1, -1, None)  # nan where the sum of the weights is 0 or not finite
    y = where(whole != whole, x.dtype.type(np.nan), y)
    return y if is_nan_ignored else _unless_nan(y, part(values, values.ndim - 1, -1, None))


def _check_weights(name: str, weights: np.ndarray) -> None:
    if (weights < 0).any():
        raise ValueError(f"{name}: expected weights of at least 0")
    total = weights.sum(-1)
    if not (np.isfinite(total) & (total > 0)).all():
        raise ValueError(f"{name}: expected finite weights that are not all 0")


__all__ = [
    "argpartition", "argsort", "kthvalue", "lexsort", "median", "nanmedian", "nanpercentile", "nanquantile",
    "partition", "percentile", "put_along_axis", "quantile", "sort", "take_along_axis", "topk",
]  # fmt: skip
