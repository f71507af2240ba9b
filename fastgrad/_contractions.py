"""Sums of products of several arrays, under NumPy's names and rules: composed of transpose, reshape and matmul.

Each axis has a label. Two factors are contracted as one matrix product, over a stack of those labels that both have and
that stay, with the labels that go as its inner axis; where none go it is an elementwise product. ``einsum`` contracts
two factors at a time, in the order that ``numpy.einsum_path`` finds.
"""

from __future__ import annotations

import functools
import math
import operator
import string
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._core import Tensor, asarray, astype, matmul, multiply, normal_axes, reshape, transpose
from ._shapes import diagonal, one_axis

if TYPE_CHECKING:                       # numpy.typing is slow to import
    from numpy.typing import ArrayLike

    TensorLike = Tensor | ArrayLike

_MATMUL = _core.op_names().index("matmul")
Labels = tuple[int, ...]


# ---- two factors -----------------------------------------------------------------------------------------------------
def _ordered(x: Tensor, labels: Labels, order: Labels) -> Tensor:
    """x with its axes in another order."""
    return x if labels == order else transpose(x, [labels.index(i) for i in order])


def _summed(x: Tensor, labels: Labels, kept: Iterable[int]) -> tuple[Tensor, Labels]:
    """x summed over the labels that are not kept."""
    gone = tuple(k for k, i in enumerate(labels) if i not in kept)
    return (_core.sum(x, gone), tuple(i for i in labels if i in kept)) if gone else (x, labels)


def _contracted(a: Tensor, of_a: Labels, b: Tensor, of_b: Labels, kept: Iterable[int]) -> tuple[Tensor, Labels]:
    """The product of two factors of one dtype, summed over the labels that are not kept, and its labels."""
    a, of_a = _summed(a, of_a, {*kept, *of_b})
    b, of_b = _summed(b, of_b, {*kept, *of_a})
    both = tuple(i for i in of_a if i in of_b and i in kept)
    gone = tuple(i for i in of_a if i in of_b and i not in kept)
    rows = tuple(i for i in of_a if i not in of_b)
    columns = tuple(i for i in of_b if i not in of_a)
    length = dict(zip(of_a + of_b, a.shape + b.shape))
    shape = {part: [length[i] for i in part] for part in (both, gone, rows, columns)}
    if not gone:
        a = reshape(_ordered(a, of_a, both + rows), shape[both] + shape[rows] + [1] * len(columns))
        b = reshape(_ordered(b, of_b, both + columns), shape[both] + [1] * len(rows) + shape[columns])
        return multiply(a, b), both + rows + columns
    ta = rows != () and of_a == both + gone + rows  # as it lies, transposed
    tb = columns != () and of_b == both + columns + gone
    m, k, n = (math.prod(shape[part]) for part in (rows, gone, columns))
    a = _ordered(a, of_a, both + (gone + rows if ta else rows + gone))
    b = _ordered(b, of_b, both + (columns + gone if tb else gone + columns))
    a = reshape(a, shape[both] + ([k, m] if ta else [m, k]))
    b = reshape(b, shape[both] + ([n, k] if tb else [k, n]))
    if a.dtype.kind == "f":
        product = _core.apply_op(_MATMUL, [a, b], (ta, tb))
    else:
        product = matmul(_turned(a) if ta else a, _turned(b) if tb else b)
    return reshape(product, shape[both] + shape[rows] + shape[columns]), both + rows + columns


def _turned(x: Tensor) -> Tensor:
    return transpose(x, [*range(x.ndim - 2), x.ndim - 1, x.ndim - 2])


def _in_one_dtype(name: str, *operands: TensorLike) -> tuple[Any, list[Tensor]]:
    dtype, tensors = _core.promoted(name, *operands)
    return dtype, [_as(x, dtype) for x in tensors]


def _as(x: Tensor, dtype: Any) -> Tensor:
    return x if x.dtype == dtype else astype(x, dtype)  # sums of small integers are of larger ones


def dot(a: TensorLike, b: TensorLike) -> Tensor:
    """NumPy's dot product: a product with a number, or a sum over the last axis of a and the last but one of b.

    >>> import fastgrad as fg
    >>> fg.dot([1.0, 2.0], [3.0, 4.0])
    tensor(11.)
    """
    a, b = asarray(a), asarray(b)
    if a.ndim == 0 or b.ndim == 0:
        return multiply(a, b)
    if b.ndim <= 2:
        return matmul(a, b)
    return _over("dot", a, b, (-1,), (-2,))


def inner(a: TensorLike, b: TensorLike) -> Tensor:
    """Sums of products over the last axes of both; with a number, the product.

    >>> import fastgrad as fg
    >>> fg.inner([1.0, 2.0], [[3.0, 4.0], [5.0, 6.0]])
    tensor([11., 17.])
    """
    a, b = asarray(a), asarray(b)
    return multiply(a, b) if a.ndim == 0 or b.ndim == 0 else _over("inner", a, b, (-1,), (-1,))


def outer(a: TensorLike, b: TensorLike) -> Tensor:
    """The products of each element of a with each of b, both raveled.

    >>> import fastgrad as fg
    >>> fg.outer([1.0, 2.0], [3.0, 4.0])
    tensor([[3., 4.],
            [6., 8.]])
    """
    return multiply(reshape(a, (-1, 1)), reshape(b, (1, -1)))


def vdot(a: TensorLike, b: TensorLike) -> Tensor:
    """The sum of the products of the elements of a and b, both raveled.

    >>> import fastgrad as fg
    >>> fg.vdot([[1.0], [2.0]], [3.0, 4.0])
    tensor(11.)
    """
    return _over("vdot", reshape(a, -1), reshape(b, -1), (0,), (0,))


def tensordot(a: TensorLike, b: TensorLike, axes: Any = 2) -> Tensor:
    """Sums of products over axes of a paired with axes of b.

    ``axes`` is a pair of an axis of each, or of as many axes of each; a number n pairs the last n of a with the first n
    of b. The other axes of a and then of b remain.

    >>> import fastgrad as fg
    >>> fg.tensordot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]])
    tensor(5.)
    """
    a, b = asarray(a), asarray(b)
    if not hasattr(axes, "__len__"):
        n = operator.index(axes)
        if not 0 <= n <= min(a.ndim, b.ndim):
            raise ValueError(
                f"tensordot: expected axes of 0 to {min(a.ndim, b.ndim)} for shapes {a.shape} and {b.shape}, got {n}"
            )
        return _over("tensordot", a, b, range(a.ndim - n, a.ndim), range(n))
    first, second = ([k] if isinstance(k, int) else k for k in axes)
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
    return _as(_contracted(a, tuple(of_a), b, tuple(of_b), {*of_a, *of_b} - {i for i, _ in pairs})[0], dtype)


def trace(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of ``diagonal(x, offset, axis1, axis2)``.

    >>> import fastgrad as fg
    >>> fg.trace([[1.0, 2.0], [3.0, 4.0]])
    tensor(5.)
    """
    return _core.sum(diagonal(x, offset, axis1, axis2), -1)


# ---- any number ------------------------------------------------------------------------------------------------------
def einsum(subscripts: Any, *operands: Any, optimize: Any = True) -> Tensor:
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
    dtype, factors = _in_one_dtype("einsum", *operands)
    order = optimize if isinstance(optimize, (bool, str)) else tuple(optimize)
    terms, output, path = _plan(subscripts, tuple(x.shape for x in factors), order)
    work = [_distinct(x, labels) for x, labels in zip(factors, terms)]
    for places in path:
        group = [work[i] for i in sorted(places)]
        work = [w for i, w in enumerate(work) if i not in places]
        x, labels = group[0]
        for k, (other, of_other) in enumerate(group[1:], 2):
            kept = {*output}.union(*[of for _, of in work + group[k:]])
            x, labels = _contracted(x, labels, other, of_other, kept)
        work.append((x, labels))
    ((x, labels),) = work
    x, labels = _summed(x, labels, output)
    return _as(_ordered(x, labels, output), dtype)


_LETTERS = string.ascii_uppercase + string.ascii_lowercase  # in the order of their codes


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


@functools.lru_cache(1024)
def _plan(
    subscripts: str, shapes: tuple[tuple[int, ...], ...], optimize: Any
) -> tuple[list[Labels], Labels, list[tuple[int, ...]]]:
    """The labels of each factor's axes (0: of length 1 where that label's other axes are longer), those of the result,
    and which of the factors left are multiplied next, time after time."""
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
    length: dict[int, int] = {}
    for labels, shape in zip(terms, shapes):
        for i, n in zip(labels, shape):
            if length.setdefault(i, n) == 1:
                length[i] = n
            if n not in (1, length[i]) or n != shape[labels.index(i)]:
                name = "an axis of '...'" if i < 0 else repr(chr(i))
                told = ", ".join(map(str, shapes))
                raise ValueError(f"einsum: {name} of {subscripts!r} has different lengths in shapes {told}")
    terms = [tuple(i if n == length[i] else 0 for i, n in zip(labels, shape)) for labels, shape in zip(terms, shapes)]
    if len(terms) <= 2:
        return terms, output, [tuple(range(len(terms)))]
    letters = dict(zip({*every}, _LETTERS))
    if len({*every}) > len(_LETTERS):
        raise ValueError(f"einsum: {subscripts!r} has more than {len(_LETTERS)} labels")
    told = ",".join("".join(letters[i] for i in dict.fromkeys(labels) if i) for labels in terms)
    stand_ins = [np.broadcast_to(np.empty(()), [length[i] for i in dict.fromkeys(labels) if i]) for labels in terms]
    path = np.einsum_path(
        told + "->" + "".join(map(letters.__getitem__, output)), *stand_ins,
        optimize=list(optimize) if isinstance(optimize, tuple) else optimize,
    )[0]  # fmt: skip
    return terms, output, [tuple(places) for places in path[1:]]


def _labels(subscripts: str, word: str, ndim: int) -> Labels:
    """Of the axes of one factor: codes of letters, and -n to -1 for those of an ellipsis."""
    before, dots, behind = word.partition("...")
    n = ndim - len(before + behind)
    if not (before + behind).isascii() or not (before + behind + "a").isalpha():
        raise ValueError(f"einsum: expected letters, commas, '...' and one '->', got {subscripts!r}")
    if n < 0 or (n and not dots):
        named = len(before + behind)
        raise ValueError(f"einsum: {word!r} of {subscripts!r} names {named} axes of a factor that has {ndim}")
    return (*map(ord, before), *range(-n, 0), *map(ord, behind))


def _distinct(x: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """x with one axis for each label but 0: the diagonal where one is there twice."""
    if 0 in labels:
        x = reshape(x, [n for n, i in zip(x.shape, labels) if i])
        labels = tuple(i for i in labels if i)
    while len({*labels}) < len(labels):
        at = next(k for k, i in enumerate(labels) if i in labels[:k])
        i = labels[at]
        x = diagonal(x, 0, labels.index(i), at)
        rest = [k for k in range(len(labels)) if k not in (labels.index(i), at)]
        labels = (*[labels[k] for k in rest], i)
    return x, labels


__all__ = ["dot", "einsum", "inner", "outer", "tensordot", "trace", "vdot"]
