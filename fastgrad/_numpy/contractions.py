"""Tensor contractions (einsum, tensordot, dot and others), composed of transpose, reshape and matmul.

Each axis has a label. Two factors are contracted by one matrix product: labels that are summed over make its inner
axis, labels that both factors have and that remain make a stack of matrices. Where no label is summed over it is an
elementwise product. ``einsum`` contracts two factors at a time, in the order that ``numpy.einsum_path`` finds.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from .._core import Tensor, asarray, astype, matmul, multiply, normal_axes, reshape, transpose
from . import joining
from .diagonals import diagonal
from .results import stored
from .shapes import is_single, moveaxis, one_axis

if TYPE_CHECKING:
    from .typing import TensorLike

_MATMUL = _core.OP_NUMBERS["matmul"]
_MANY = 2048  # elements from which on the components of a cross product are read in place, not gathered
Labels = tuple[int, ...]
Shape = tuple[int, ...]


# ---- two factors -----------------------------------------------------------------------------------------------------
class _Layout(NamedTuple):
    """How a factor is laid out: summed over the axes ``gone``, then transposed, then reshaped."""

    gone: tuple[int, ...]
    order: tuple[int, ...]  # empty: not transposed
    shape: Shape


class _Product(NamedTuple):
    """How two factors are multiplied: as matrices, either of which may be stored transposed, or elementwise and then
    summed over axes."""

    a: _Layout
    b: _Layout
    transposed: tuple[bool, bool] | None  # None: elementwise
    summed: tuple[int, ...]  # axes of the elementwise product
    labels: Labels  # of the result
    shape: Shape


_RUN = 8  # an axis of so many elements is moved in runs, at nearly the speed of a copy
_SHORT = 64  # dot products of fewer elements are elementwise products and sums, which a program fuses with others


def _layout(labels: Labels, order: Labels, shape: Sequence[int]) -> _Layout:
    """The layout of a factor with these labels for an order of labels; those that the order lacks are summed over."""
    left = tuple(i for i in labels if i in order)
    gone = tuple(k for k, i in enumerate(labels) if i not in order)
    return _Layout(gone, () if left == order else tuple(map(left.index, order)), tuple(shape))


def _laid_out(x: Tensor, layout: _Layout) -> Tensor:
    gone, order, shape = layout
    if gone:
        x = _core.sum(x, gone)
    if order:
        x = transpose(x, order)
    return x if x.shape == shape else reshape(x, shape)


@functools.lru_cache(1024)
def _product(of_a: Labels, in_a: Shape, of_b: Labels, in_b: Shape, kept: frozenset[int]) -> _Product:
    """The product of factors with these labels and shapes, summed over the labels that are not kept."""
    length = dict(zip(of_a + of_b, in_a + in_b))
    left_a = tuple(i for i in of_a if i in kept or i in of_b)
    left_b = tuple(i for i in of_b if i in kept or i in of_a)
    both = tuple(i for i in left_a if i in kept and i in of_b)
    gone = tuple(i for i in left_a if i not in kept)
    rows = tuple(i for i in left_a if i not in of_b)
    columns = tuple(i for i in left_b if i not in of_a)
    labels = both + rows + columns
    stack, down, across = [[length[i] for i in part] for part in (both, rows, columns)]
    if not gone:
        a = _layout(of_a, both + rows, [*stack, *down, *[1] * len(across)])
        b = _layout(of_b, both + columns, [*stack, *[1] * len(down), *across])
        return _Product(a, b, None, (), labels, (*stack, *down, *across))
    terms = math.prod(length[i] for i in gone)
    if both and not rows and not columns and left_a == left_b and (terms < _SHORT or left_a != both + gone):
        own = _layout(of_a, left_a, [length[i] for i in left_a])
        summed = tuple(k for k, i in enumerate(left_a) if i in gone)
        return _Product(own, _layout(of_b, left_b, own.shape), None, summed, both, tuple(stack))

    def matrices(of: Labels, *parts: Labels) -> _Layout:
        sizes = [math.prod(length[i] for i in part) for part in parts]
        return _layout(of, both + parts[0] + parts[1], [*stack, *sizes])

    transpose_a = rows != () and left_a == both + gone + rows  # stored in this order, the product transposes it
    transpose_b = columns != () and left_b == both + columns + gone
    a = matrices(of_a, gone, rows) if transpose_a else matrices(of_a, rows, gone)
    b = matrices(of_b, columns, gone) if transpose_b else matrices(of_b, gone, columns)
    return _Product(a, b, (transpose_a, transpose_b), (), labels, (*stack, *down, *across))


def _multiplied(product: _Product, a: Tensor, b: Tensor) -> Tensor:
    """The product of two factors of one dtype. Of small integers its dtype may be larger, as NumPy's sums are."""
    a, b = _laid_out(a, product.a), _laid_out(b, product.b)
    if product.transposed is None:
        y = multiply(a, b)
        return _core.sum(y, product.summed) if product.summed else y
    if a.dtype.kind == "f":
        y = _core.apply_op(_MATMUL, [a, b], product.transposed)
    else:
        pairs = zip((a, b), product.transposed)
        y = matmul(*[transpose(x, [*range(x.ndim - 2), -1, -2]) if t else x for x, t in pairs])
    return y if y.shape == product.shape else reshape(y, product.shape)


def _in_one_dtype(name: str, *operands: TensorLike) -> tuple[Any, list[Tensor]]:
    dtype, tensors = _core.promoted(name, *operands)
    return dtype, [_as(x, dtype) for x in tensors]


def _as(x: Tensor, dtype: Any) -> Tensor:
    return x if x.dtype == dtype else astype(x, dtype)


def dot(a: TensorLike, b: TensorLike, out: Tensor | None = None) -> Tensor:
    """NumPy's dot product: a product with a number, or a sum over the last axis of a and the last but one of b.

    Raises ValueError where the lengths of these axes differ.

    >>> import fastgrad as fg
    >>> fg.dot([1.0, 2.0], [3.0, 4.0])
    tensor(11.)
    """
    if out is not None:
        return stored("dot", out, dot(a, b))
    a, b = asarray(a), asarray(b)
    if a.ndim == 0 or b.ndim == 0:
        return multiply(a, b)
    if b.ndim <= 2:
        return matmul(a, b)
    return _over("dot", a, b, (-1,), (-2,))


def inner(a: TensorLike, b: TensorLike) -> Tensor:
    """Sums of products over the last axes of both; with a number, the product. Raises ValueError where these differ.

    >>> import fastgrad as fg
    >>> fg.inner([1.0, 2.0], [[3.0, 4.0], [5.0, 6.0]])
    tensor([11., 17.])
    """
    a, b = asarray(a), asarray(b)
    return multiply(a, b) if a.ndim == 0 or b.ndim == 0 else _over("inner", a, b, (-1,), (-1,))


def outer(a: TensorLike, b: TensorLike, out: Tensor | None = None) -> Tensor:
    """The products of each element of a with each of b, both raveled.

    >>> import fastgrad as fg
    >>> fg.outer([1.0, 2.0], [3.0, 4.0])
    tensor([[3., 4.],
            [6., 8.]])
    """
    return stored("outer", out, multiply(reshape(a, (-1, 1)), reshape(b, (1, -1))))


def vdot(a: TensorLike, b: TensorLike) -> Tensor:
    """The sum of the products of the elements of a and b, both raveled. Raises ValueError where their numbers differ.

    >>> import fastgrad as fg
    >>> fg.vdot([[1.0], [2.0]], [3.0, 4.0])
    tensor(11.)
    """
    return _over("vdot", reshape(a, -1), reshape(b, -1), (0,), (0,))


def vecdot(x1: TensorLike, x2: TensorLike, axis: int = -1) -> Tensor:
    """Sums of products along one axis of each; the other axes broadcast. Raises ValueError where the lengths differ.

    >>> import fastgrad as fg
    >>> fg.vecdot([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    tensor([3., 7.])
    """
    dtype, (a, b) = _in_one_dtype("vecdot", x1, x2)
    a, b = (moveaxis(x, one_axis(axis, x.ndim, "vecdot"), -1) for x in (a, b))
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"vecdot: shapes {asarray(x1).shape} and {asarray(x2).shape} have different lengths along axis {axis}"
        )
    rows, columns = reshape(a, (*a.shape[:-1], 1, a.shape[-1])), reshape(b, (*b.shape, 1))
    y = matmul(rows, columns)
    return _as(reshape(y, y.shape[:-2]), dtype)


def tensordot(a: TensorLike, b: TensorLike, axes: Any = 2) -> Tensor:
    """Sums of products over axes of a paired with axes of b.

    ``axes`` is a pair of an axis of each, or of as many axes of each; a number n pairs the last n of a with the first n
    of b. The other axes of a and then of b remain. Raises ValueError where lengths of paired axes differ.

    >>> import fastgrad as fg
    >>> fg.tensordot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]])
    tensor(5.)
    """
    a, b = asarray(a), asarray(b)
    if is_single(axes):
        n = operator.index(axes)
        if not 0 <= n <= min(a.ndim, b.ndim):
            raise ValueError(
                f"tensordot: expected axes of 0 to {min(a.ndim, b.ndim)} for shapes {a.shape} and {b.shape}, got {n}"
            )
        return _over("tensordot", a, b, range(a.ndim - n, a.ndim), range(n))
    if len(axes) != 2:
        raise ValueError(f"tensordot: expected axes as a number or a pair of an axis or axes of each, got {axes!r}")
    first, second = ([k] if is_single(k) else k for k in axes)
    return _over("tensordot", a, b, first, second)


def _over(name: str, a: Tensor, b: Tensor, axes_a: Sequence[int], axes_b: Sequence[int]) -> Tensor:
    """The product of a and b summed over axes of a paired with as many of b."""
    dtype, (a, b) = _in_one_dtype(name, a, b)
    normal_axes(tuple(axes_a), a.ndim, name), normal_axes(tuple(axes_b), b.ndim, name)
    pairs = [(one_axis(i, a.ndim, name), one_axis(j, b.ndim, name)) for i, j in zip(axes_a, axes_b)]
    of_a, of_b = list(range(a.ndim)), list(range(a.ndim, a.ndim + b.ndim))
    for i, j in pairs:
        if a.shape[i] != b.shape[j]:
            raise ValueError(
                f"{name}: shapes {a.shape} and {b.shape} do not align: {a.shape[i]} (axis {i}) is not {b.shape[j]} "
                f"(axis {j})"
            )
        of_b[j] = i
    if len(axes_a) != len(axes_b):
        raise ValueError(f"{name}: {len(axes_a)} axes of the first factor for {len(axes_b)} of the second")
    kept = frozenset({*of_a, *of_b} - {i for i, _ in pairs})
    return _as(_multiplied(_product(tuple(of_a), a.shape, tuple(of_b), b.shape, kept), a, b), dtype)


def kron(a: TensorLike, b: TensorLike) -> Tensor:
    """The Kronecker product: b times each element of a, in its place; as ``numpy.kron``.

    Axes of length 1 go before the shape of the one that has fewer.

    >>> import fastgrad as fg
    >>> fg.kron([1.0, 10.0], [[1.0, 2.0]])
    tensor([[ 1.,  2., 10., 20.]])
    """
    a, b = asarray(a), asarray(b)
    n = max(a.ndim, b.ndim)
    left, right = (1,) * (n - a.ndim) + a.shape, (1,) * (n - b.ndim) + b.shape
    a = reshape(a, [k for length in left for k in (length, 1)])
    b = reshape(b, [k for length in right for k in (1, length)])
    return reshape(multiply(a, b), [i * j for i, j in zip(left, right)])


def cross(
    a: TensorLike, b: TensorLike, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Tensor:
    """The cross product of vectors of three elements, as ``numpy.cross``.

    The vectors lie along ``axisa`` of a and ``axisb`` of b, and of the result along ``axisc``; ``axis`` stands for all
    three. The other axes broadcast. Raises ValueError for vectors of another length.

    >>> import fastgrad as fg
    >>> fg.cross([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    tensor([0., 0., 1.])
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    _, (a, b) = _in_one_dtype("cross", a, b)
    a, b = moveaxis(a, one_axis(axisa, a.ndim, "cross"), -1), moveaxis(b, one_axis(axisb, b.ndim, "cross"), -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(f"cross: expected vectors of 3 elements, got {a.shape[-1]} and {b.shape[-1]}")
    if max(a.size, b.size) >= _MANY:
        (a0, a1, a2), (b0, b1, b2) = [[x[..., k] for k in range(3)] for x in (a, b)]
        y = joining.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1)
    else:
        turned = [multiply(a[..., [1, 2, 0]], b[..., [2, 0, 1]]), multiply(a[..., [2, 0, 1]], b[..., [1, 2, 0]])]
        y = turned[0] - turned[1]
    return y if axisc == -1 else moveaxis(y, -1, one_axis(axisc, y.ndim, "cross"))


def trace(
    a: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Tensor | None = None
) -> Tensor:
    """The sum of ``diagonal(a, offset, axis1, axis2)``, in a dtype if one is given.

    >>> import fastgrad as fg
    >>> fg.trace([[1.0, 2.0], [3.0, 4.0]])
    tensor(5.)
    """
    return stored("trace", out, _core.sum(diagonal(a, offset, axis1, axis2), -1, dtype))


# ---- any number of factors -------------------------------------------------------------------------------------------
def einsum(subscripts: Any, *operands: Any, out: Tensor | None = None, optimize: Any = True) -> Tensor:
    """Sums of products of any number of factors, whose axes are labelled by letters: Einstein's convention.

    Parameters
    ----------
    subscripts : str
        As ``numpy.einsum``'s: letters for the axes of each factor, with commas between them, then ``->`` and the
        letters of the result; without that, those that occur once, in the order of the alphabet. A letter that the
        result lacks is summed over, a letter twice in one factor takes a diagonal, ``...`` stands for axes that
        broadcast. Lists of numbers behind each factor do as well.
    *operands : array_like
        The factors. float32 and float64 are kept, dtypes are promoted as NumPy does.
    out : tensor
        Takes the result, in place, and is returned.
    optimize : bool, str or list
        In which order three factors or more are multiplied, as ``numpy.einsum_path``'s; False: from left to right.

    Two factors are one matrix product where a label goes, so sums have another order than NumPy's. Raises
    ValueError where letters and shapes do not fit.

    >>> import fastgrad as fg, numpy as np
    >>> fg.einsum("ij,kj->ik", [[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]])
    tensor([[11., 17.]])
    >>> fg.grad(lambda a: fg.einsum("ii", a))(np.ones((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _of_lists(subscripts, *operands)
    if not operands:
        raise ValueError(f"einsum: expected factors after the subscripts {subscripts!r}, got none")
    dtype, factors = _in_one_dtype("einsum", *operands)
    order = optimize if isinstance(optimize, (bool, str)) else tuple(optimize)
    diagonals, steps, last = _plan(subscripts, tuple([x.shape for x in factors]), order)
    values = dict(enumerate(factors))
    for k, shape, pairs in diagonals:
        values[k] = reshape(values[k], shape)
        for i, j in pairs:
            values[k] = diagonal(values[k], 0, i, j)
    for k, (i, j, product) in enumerate(steps, len(factors)):
        values[k] = _multiplied(product, values.pop(i), values.pop(j))
    (x,) = values.values()
    y = _as(_laid_out(x, last), dtype)
    return stored("einsum", out, reshape(y, y.shape) if y is factors[0] else y)  # a value of its own


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # in the order of their codes


def _of_lists(*given: Any) -> tuple[str, tuple[Any, ...]]:
    """Factors followed by lists of numbers as letters and factors."""
    lists = [*given[1::2], *(given[-1:] if len(given) % 2 else ())]
    try:
        words = ["".join("..." if i is Ellipsis else _LETTERS[operator.index(i)] for i in labels) for labels in lists]
    except (TypeError, IndexError):
        message = "einsum: expected a string of subscripts first, or a list of numbers behind each factor"
        raise TypeError(message) from None
    n = len(given) // 2
    return ",".join(words[:n]) + "".join("->" + word for word in words[n:]), given[: 2 * n : 2]


class _Plan(NamedTuple):
    """What einsum does with factors 0 to n - 1."""

    diagonals: list[tuple[int, Shape, list[tuple[int, int]]]]  # factor, shape to give it, pairs of axes
    steps: list[tuple[int, int, _Product]]  # two that are multiplied; the results are n, n + 1, ...
    last: _Layout  # of what is left


@functools.lru_cache(1024)
def _plan(subscripts: str, shapes: tuple[Shape, ...], optimize: Any) -> _Plan:
    terms, output = _parsed(subscripts, shapes)
    length = {i: 1 for labels in terms for i in labels}
    for labels, shape in zip(terms, shapes):
        for i, n in zip(labels, shape):
            length[i] = n if length[i] == 1 else length[i]
            if n not in (1, length[i]) or n != shape[labels.index(i)]:
                name, told = "an axis of '...'" if i < 0 else repr(chr(i)), ", ".join(map(str, shapes))
                raise ValueError(f"einsum: {name} of {subscripts!r} has different lengths in shapes {told}")
    diagonals = []
    for k, (labels, shape) in enumerate(zip(terms, shapes)):
        long = [i for i, n in zip(labels, shape) if n == length[i]]  # an axis of length 1 beside longer ones is dropped
        narrow, pairs = tuple(length[i] for i in long), []
        while twice := [(long.index(i), j) for j, i in enumerate(long) if i in long[:j]]:
            pairs.append(twice[0])
            i, j = twice[0]
            long = [*[x for at, x in enumerate(long) if at not in (i, j)], long[i]]
        if len(long) < len(shape):
            diagonals.append((k, narrow, pairs))
        terms[k] = tuple(long)
    steps, left = [], list(range(len(terms)))
    for places in _path(terms, output, length, optimize):
        group = [left[at] for at in sorted(places)]
        left = [k for k in left if k not in group]
        while len(group) > 1:
            i, j, *group = group
            last_labels = {*output[-1:]} if not left and not group else set()
            if last_labels & {*terms[i]} - {*terms[j]} and length[output[-1]] >= _RUN:
                i, j = j, i  # the last axis of the product is that of the result
            kept = frozenset(output).union(*[terms[k] for k in left + group])
            sizes = [tuple(length[label] for label in terms[k]) for k in (i, j)]
            steps.append((i, j, _product(terms[i], sizes[0], terms[j], sizes[1], kept)))
            group.insert(0, len(terms))
            terms.append(steps[-1][2].labels)
        left += group
    (last,) = left
    return _Plan(diagonals, steps, _layout(terms[last], output, [length[i] for i in output]))


def _path(terms: list[Labels], output: Labels, length: dict[int, int], optimize: Any) -> list[tuple[int, ...]]:
    """For each contraction the places, among the factors that are left, of those contracted; the result is appended."""
    if len(terms) <= 2:
        return [tuple(range(len(terms)))]
    if len(length) > len(_LETTERS):
        raise ValueError(f"einsum: expected at most {len(_LETTERS)} labels, got {len(length)}")
    letter = dict(zip(length, _LETTERS))
    words = ["".join(map(letter.__getitem__, labels)) for labels in (*terms, output)]
    stand_ins = [np.broadcast_to(np.empty(()), [length[i] for i in labels]) for labels in terms]
    asked = list(optimize) if isinstance(optimize, tuple) else optimize
    return list(np.einsum_path(",".join(words[:-1]) + "->" + words[-1], *stand_ins, optimize=asked)[0][1:])


def _parsed(subscripts: str, shapes: Sequence[Shape]) -> tuple[list[Labels], Labels]:
    """The labels of the axes of each factor and of the result: codes of letters, and below 0 those of an ellipsis."""
    inputs, arrow, result = "".join(subscripts.split()).partition("->")
    words = inputs.split(",")
    if len(words) != len(shapes):
        raise ValueError(f"einsum: {subscripts!r} has subscripts for {len(words)} factors, got {len(shapes)}")
    terms = [_labels(subscripts, word, len(shape)) for word, shape in zip(words, shapes)]
    every = [i for labels in terms for i in labels]
    dots = tuple(sorted({i for i in every if i < 0}))
    output = dots + tuple(sorted(i for i in every if i > 0 and every.count(i) == 1))
    if arrow:
        output = _labels(subscripts, result, len(result.replace("...", "")) + len(dots) * ("..." in result))
    if len({*output}) != len(output) or not {*dots} <= {*output} <= {*every}:
        raise ValueError(
            f"einsum: expected in the result of {subscripts!r} letters of the factors, each once, and ... if they have "
            "it"
        )
    return terms, output


def _labels(subscripts: str, word: str, ndim: int) -> Labels:
    """The labels of the axes of one factor."""
    before, dots, behind = word.partition("...")
    named = len(before + behind)
    if not (before + behind).isascii() or not (before + behind + "a").isalpha():
        raise ValueError(f"einsum: expected letters, commas, '...' and one '->', got {subscripts!r}")
    if named > ndim or (named < ndim and not dots):
        raise ValueError(f"einsum: {word!r} of {subscripts!r} names {named} axes of a factor that has {ndim}")
    return (*map(ord, before), *range(named - ndim, 0), *map(ord, behind))


__all__ = ["cross", "dot", "einsum", "inner", "kron", "outer", "tensordot", "trace", "vdot", "vecdot"]
