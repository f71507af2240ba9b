"""Norms, products and powers of matrices under the names of ``numpy.linalg``, composed of other functions."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    absolute,
    apply_op,
    asarray,
    astype,
    normal_axes,
    power,
    reshape,
    sqrt,
    square,
    sum,
    transpose,
)
from . import contractions
from .decompositions import singular_values
from .diagonals import diagonal as diagonal_of_axes
from .indexing import take
from .linalg import factored, floats, inverse, solution
from .reductions import root_or_zero
from .results import stored
from .shapes import flip, matrix_transpose, moveaxis, one_axis

if TYPE_CHECKING:
    from .typing import Axis, TensorLike

_SOLVE = _core.OP_NUMBERS["solve"]
LinAlgError = np.linalg.LinAlgError


# ---- norms -----------------------------------------------------------------------------------------------------------
def norm(x: TensorLike, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Norms of vectors, over one axis, and of matrices, over two, as ``numpy.linalg.norm``.

    Parameters
    ----------
    x : array_like
    ord : number or str, optional
        None: the root of the sum of squares, over any axes. Of vectors: 2, the same; 1, inf, -inf; 0, the count of
        elements that are not 0, without gradient; another number p, ``sum(|x|^p)^(1/p)``. Of matrices: "fro", the root
        of the sum of squares; "nuc", the sum of the singular values; 2 and -2, the largest and the smallest of them; 1
        and -1, the largest and smallest sum of absolute values of a column; inf and -inf, of a row.
    axis : int or tuple of ints, optional
        One axis or two; by default all axes of x.
    keepdims : bool

    The gradient of a vector's norm at x = 0 is 0 for p of at least 1, a subgradient, as PyTorch's; for p below 1 a zero
    element makes it nan, for there is none. Where columns, rows or singular values tie for the largest or smallest,
    they share the gradient. Raises ValueError for another ord or number of axes.

    >>> import fastgrad as fg
    >>> fg.norm([3.0, 4.0])
    tensor(5.)
    >>> fg.norm([[3.0, 0.0], [0.0, 4.0]], "nuc")
    tensor(7.)
    """
    x = floats(x)
    axes = normal_axes(axis, x.ndim, "norm")
    if ord is None or (len(axes) == 1 and not isinstance(ord, str) and ord == 2):
        return root_or_zero(sum(square(x), axis, keepdims=keepdims), sqrt)
    if len(axes) == 2:
        rows, columns = (0, 1) if axis is None else [one_axis(i, x.ndim, "norm") for i in axis]  # type: ignore
        y = _of_matrices(x, ord, rows, columns)
        return reshape(y, [1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else y
    if len(axes) != 1:
        raise ValueError(f"norm: expected one axis or two for ord={ord!r}, got {len(axes)}")
    if isinstance(ord, str):
        raise ValueError(f"norm: expected ord as a number for a vector norm, got {ord!r}")
    ord, size = float(ord), absolute(x)  # a scalar of NumPy's has a dtype that would count
    if ord == np.inf:
        return _core.max(size, axis, keepdims=keepdims) if x.size else sum(size, axis, keepdims=keepdims)
    if ord == -np.inf:
        return _core.min(size, axis, keepdims=keepdims)
    if ord == 0:
        return sum(astype(size != 0.0, size.dtype), axis, keepdims=keepdims)
    if ord == 1:
        return sum(size, axis, keepdims=keepdims)
    if not 1 < ord < 2:
        total = sum(power(size, ord), axis, keepdims=keepdims)
        return root_or_zero(total, lambda t: power(t, 1.0 / ord)) if ord > 1 else power(total, 1.0 / ord)
    # At 0 the second derivative of |x|^p is infinite. It has the squared slope of |x| as a factor, which must not be 0
    # there: prelu(x, -1) is |x| with slope -1 at 0. Where all elements are 0, ones take their place, as root_or_zero
    # multiplies this slope by 0.
    size = _core.prelu(x, -1.0)
    ones = astype(sum(size, axis, keepdims=True) == 0.0, x.dtype)
    return root_or_zero(sum(power(size + ones, ord) - ones, axis, keepdims=keepdims), lambda t: power(t, 1.0 / ord))


def _of_matrices(x: Tensor, ord: float | str, rows: int, columns: int) -> Tensor:
    """Norms of matrices with these axes."""
    if ord in ("fro", "f"):
        return root_or_zero(sum(square(x), (rows, columns)), sqrt)
    if ord == "nuc" or ord in (2, -2):
        s = singular_values("norm", moveaxis(x, (rows, columns), (-2, -1)))
        if ord == -2 and s.shape[-1] == 0:
            raise ValueError(f"norm: a matrix without elements has no norm of ord -2, got shape {x.shape}")
        return sum(s, -1) if ord == "nuc" or s.shape[-1] == 0 else s[..., 0 if ord == 2 else -1]
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError(f"norm: expected ord as 1, -1, 2, -2, inf, -inf, 'fro' or 'nuc' for matrices, got {ord!r}")
    along, left = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = sum(absolute(x), along)
    left -= left > along
    if ord < 0:
        return _core.min(sums, left)
    return _core.max(sums, left) if sums.shape[left] else sum(sums, left)


def matrix_norm(x: TensorLike, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> Tensor:
    """``norm`` of the matrices in the last two axes, as ``numpy.linalg.matrix_norm``. Raises AxisError for fewer axes,
    ValueError for an ord that ``norm`` does not have for matrices.

    >>> import fastgrad as fg
    >>> fg.linalg.matrix_norm([[3.0, 0.0], [0.0, 4.0]], ord=1)
    tensor(4.)
    """
    return norm(x, ord, (-2, -1), keepdims)


def vector_norm(x: TensorLike, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """``norm`` of vectors over an axis, over several as one, or over all, as ``numpy.linalg.vector_norm``. Raises
    ValueError for an ord that is no number.

    >>> import fastgrad as fg
    >>> fg.linalg.vector_norm([[3.0, 0.0], [0.0, 4.0]])
    tensor(5.)
    """
    x = floats(x)
    if axis is not None and not isinstance(axis, tuple):
        return norm(x, ord, axis, keepdims)
    axes = normal_axes(axis, x.ndim, "vector_norm")
    rest = [i for i in range(x.ndim) if i not in axes]
    kept = [x.shape[i] for i in rest]
    flat = reshape(transpose(x, (*axes, *rest)), (math.prod([x.shape[i] for i in axes]), *kept))
    y = norm(flat, ord, 0)
    return reshape(y, [1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else y


def cond(x: TensorLike, p: float | str | None = None) -> Tensor:
    """The condition number: for p None or 2 the largest singular value over the smallest, for -2 the smallest over the
    largest, else ``norm(x, p) * norm(inv(x), p)``; as ``numpy.linalg.cond``. It is inf for a singular matrix.

    Raises LinAlgError for a matrix without elements, or that is not square where the inverse is needed.

    >>> import fastgrad as fg
    >>> fg.linalg.cond([[2.0, 0.0], [0.0, 8.0]])
    tensor(4.)
    """
    x = floats(x)
    if x.ndim >= 2 and x.shape[-1] * x.shape[-2] == 0:
        raise LinAlgError("cond: a matrix without elements has no condition number")
    if p is None or p in (2, -2):
        s = singular_values("cond", x)
        first, last = s[..., 0], s[..., -1]
        ratio = last / first if p == -2 else first / last
    else:
        one = asarray(np.eye(x.shape[-1] if x.ndim else 0, dtype=x.dtype))
        inverted = apply_op(_SOLVE, [x, factored("cond", x, _core.BY_LU), one], (_core.BY_LU, _core.UNCHECKED))
        ratio = norm(x, p, (-2, -1)) * norm(inverted, p, (-2, -1))
    known = sum(astype(x != x, x.dtype), (-2, -1)) == 0.0
    return _core.where((ratio != ratio) & known, np.inf, ratio)


# ---- products --------------------------------------------------------------------------------------------------------
def matrix_power(a: TensorLike, n: int) -> Tensor:
    """A square matrix to an integer power, as ``numpy.linalg.matrix_power``: products of squares, of the inverse for n
    below 0, the identity for n = 0.

    Raises LinAlgError for a matrix that is not square, or singular where the inverse is needed, TypeError for another
    n.

    >>> import fastgrad as fg
    >>> fg.linalg.matrix_power([[1.0, 1.0], [0.0, 1.0]], 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    x = asarray(a)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise LinAlgError(f"matrix_power: expected a square matrix or a stack of them, got shape {x.shape}")
    try:
        n = operator.index(n)
    except TypeError as error:
        if isinstance(error, _core.TraceError):
            raise
        raise TypeError(f"matrix_power: expected n as an int, got {n!r}") from None
    if n == 0:
        return asarray(np.broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), x.shape).copy())
    x, n = (inverse("matrix_power", x), -n) if n < 0 else (x, n)
    result = None
    while True:
        if n & 1:
            result = x if result is None else result @ x
        n >>= 1
        if not n:
            return result  # type: ignore[return-value]
        x = x @ x


def multi_dot(arrays: Sequence[TensorLike], *, out: Tensor | None = None) -> Tensor:
    """The product of two or more matrices, in the order that takes the fewest multiplications, as
    ``numpy.linalg.multi_dot``. The first and the last may be vectors. Two factors are multiplied by ``fastgrad.dot``.

    Raises ValueError for fewer than two, LinAlgError where there are more and one has another number of axes.

    >>> import fastgrad as fg
    >>> fg.linalg.multi_dot([[1.0, 2.0], [[1.0, 0.0], [0.0, 2.0]], [3.0, 4.0]])
    tensor(19.)
    """
    if out is not None:
        return stored("linalg.multi_dot", out, multi_dot(arrays))
    factors = [asarray(x) for x in arrays]
    if len(factors) < 2:
        raise ValueError(f"multi_dot: expected at least two factors, got {len(factors)}")
    if len(factors) == 2:
        return contractions.dot(*factors)
    row, column = factors[0].ndim == 1, factors[-1].ndim == 1
    if row:
        factors[0] = reshape(factors[0], (1, -1))
    if column:
        factors[-1] = reshape(factors[-1], (-1, 1))
    for x in factors:
        if x.ndim != 2:
            raise LinAlgError(f"multi_dot: expected matrices, got one of {x.ndim} axes")
    y = _in_order(factors, _splits([x.shape[0] for x in factors] + [factors[-1].shape[1]]), 0, len(factors) - 1)
    return reshape(y, () if row and column else (-1,)) if row or column else y


def _splits(lengths: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to split the product of the factors i to j, for all i < j: the textbook's dynamic programme (Cormen,
    Leiserson, Rivest and Stein, "Introduction to Algorithms", section on matrix-chain multiplication). Factor i has
    lengths[i] rows and lengths[i + 1] columns."""
    n = len(lengths) - 1
    cost = {(i, i): 0 for i in range(n)}
    best = {}
    for span in range(1, n):
        for i in range(n - span):
            j = i + span
            costs = [
                (cost[i, k] + cost[k + 1, j] + lengths[i] * lengths[k + 1] * lengths[j + 1], k) for k in range(i, j)
            ]
            cost[i, j], best[i, j] = min(costs)
    return best


def _in_order(factors: Sequence[Tensor], best: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    """The product of factors i to j. The pairs are visited without recursion: a chain may have any length."""
    values: dict[tuple[int, int], Tensor] = {(k, k): x for k, x in enumerate(factors)}
    pending = [(i, j)]
    while pending:
        first, last = pending[-1]
        if (first, last) in values:
            pending.pop()
            continue
        k = best[first, last]
        parts = [part for part in ((first, k), (k + 1, last)) if part not in values]
        if parts:
            pending += parts
        else:
            values[first, last] = values.pop((first, k)) @ values.pop((k + 1, last))
    return values[i, j]


def outer(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """The products of each element of a vector with each of another, as ``numpy.linalg.outer``.

    Raises ValueError unless both have one axis.

    >>> import fastgrad as fg
    >>> fg.linalg.outer([1.0, 2.0], [3.0, 4.0])
    tensor([[3., 4.],
            [6., 8.]])
    """
    a, b = asarray(x1), asarray(x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"outer: expected vectors, got {a.ndim} and {b.ndim} axes")
    return contractions.outer(a, b)


def cross(x1: TensorLike, x2: TensorLike, /, *, axis: int = -1) -> Tensor:
    """The cross product of vectors of three elements along an axis, as ``numpy.linalg.cross``. Raises ValueError for
    vectors of another length.

    >>> import fastgrad as fg
    >>> fg.linalg.cross([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    tensor([0., 0., 1.])
    """
    return contractions.cross(x1, x2, axis=axis)


vecdot, matmul, tensordot = contractions.vecdot, _core.matmul, contractions.tensordot


# ---- axes ------------------------------------------------------------------------------------------------------------
def diagonal(x: TensorLike, /, *, offset: int = 0) -> Tensor:
    """A diagonal of the matrices in the last two axes, as ``numpy.linalg.diagonal``.

    >>> import fastgrad as fg
    >>> fg.linalg.diagonal([[1.0, 2.0], [3.0, 4.0]], offset=1)
    tensor([2.])
    """
    return diagonal_of_axes(x, offset, -2, -1)


def trace(x: TensorLike, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum of a diagonal of the matrices in the last two axes, as ``numpy.linalg.trace``.

    >>> import fastgrad as fg
    >>> fg.linalg.trace([[1.0, 2.0], [3.0, 4.0]])
    tensor(5.)
    """
    y = diagonal_of_axes(x, offset, -2, -1)
    return sum(y if dtype is None else astype(y, dtype), -1)


# ---- equations of tensors --------------------------------------------------------------------------------------------
def tensorsolve(a: TensorLike, b: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """The solution y of ``tensordot(a, y, y.ndim) == b``, as ``numpy.linalg.tensorsolve``.

    a has the axes of b and then those of y, with as many elements; the axes of a that ``axes`` names are first moved
    to its end. Raises LinAlgError for other shapes, and as ``solve``.

    >>> import fastgrad as fg, numpy as np
    >>> fg.linalg.tensorsolve(np.eye(4).reshape(2, 2, 2, 2), [[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    x, y = asarray(a), asarray(b)
    if axes is not None:
        order = list(range(x.ndim))
        for k in axes:
            order.remove(one_axis(k, x.ndim, "tensorsolve"))
            order.append(one_axis(k, x.ndim, "tensorsolve"))
        x = transpose(x, order)
    shape = x.shape[y.ndim :]
    size = math.prod(shape)
    if x.size != size**2 or y.size != size:
        raise LinAlgError(f"tensorsolve: expected as many unknowns as equations, got shapes {x.shape} and {y.shape}")
    return reshape(solution("tensorsolve", reshape(x, (size, size)), reshape(y, (size,)), _core.BY_LU), shape)


def tensorinv(a: TensorLike, ind: int = 2) -> Tensor:
    """The inverse with respect to ``tensordot(a, b, ind)``, as ``numpy.linalg.tensorinv``: the first ``ind`` axes of a
    are its last ones. Raises ValueError for ind below 1, LinAlgError as ``inv``.

    >>> import fastgrad as fg, numpy as np
    >>> fg.linalg.tensorinv(2 * np.eye(4).reshape(2, 2, 4)).shape
    (4, 2, 2)
    """
    x = asarray(a)
    if ind <= 0:
        raise ValueError(f"tensorinv: expected ind of at least 1, got {ind!r}")
    rows, columns = math.prod(x.shape[:ind]), math.prod(x.shape[ind:])
    if rows != columns:
        raise LinAlgError(f"tensorinv: expected as many rows as columns, got shape {x.shape} for ind {ind}")
    return reshape(inverse("tensorinv", reshape(x, (rows, columns))), x.shape[ind:] + x.shape[:ind])


def toeplitz(c: TensorLike, r: TensorLike | None = None) -> Tensor:
    """The matrix with constant diagonals that has c as its first column and r, by default c, as its first row, as
    ``scipy.linalg.toeplitz``. ``r[0]`` is not read. Axes before the last one are of a stack and broadcast.

    >>> import fastgrad as fg
    >>> fg.linalg.toeplitz([1.0, 2.0, 3.0], [1.0, 4.0])
    tensor([[1., 4.],
            [2., 1.],
            [3., 2.]])
    """
    columns = [asarray(c)] if r is None else list(_core.promoted("toeplitz", c, r)[1])
    columns = [reshape(x, (1,)) if x.ndim == 0 else x for x in columns]
    column, row = columns[0], columns[-1]
    try:
        stack = np.broadcast_shapes(column.shape[:-1], row.shape[:-1])
    except ValueError:
        raise ValueError(f"toeplitz: the axes before the last one do not broadcast: c has shape {column.shape}, "
                         f"r has {row.shape}") from None  # fmt: skip
    column, row = [_core.broadcast_to(x, (*stack, x.shape[-1])) for x in (column, row)]
    m, n = column.shape[-1], row.shape[-1]
    # Along each diagonal, from the last row of the matrix on.
    diagonals = _core.concatenate([flip(column, -1), row[..., 1:]], -1)
    return take(diagonals, np.arange(m - 1, -1, -1)[:, None] + np.arange(n), axis=-1)


__all__ = [
    "cond", "cross", "diagonal", "matmul", "matrix_norm", "matrix_power", "matrix_transpose", "multi_dot", "norm",
    "outer", "tensordot", "tensorinv", "tensorsolve", "toeplitz", "trace", "vecdot", "vector_norm",
]  # fmt: skip
