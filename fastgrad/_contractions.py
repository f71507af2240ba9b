"""Sums of products of several arrays, under NumPy's names and rules: composed of transpose, reshape and matmul."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._core import Tensor, asarray, matmul, multiply, reshape
from ._shapes import moveaxis

if TYPE_CHECKING:                       # numpy.typing is slow to import
    from numpy.typing import ArrayLike

    TensorLike = Tensor | ArrayLike


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
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"dot: shapes {a.shape} and {b.shape} do not align: {a.shape[-1]} (axis {a.ndim - 1}) is not "
            f"{b.shape[-2]} (axis {b.ndim - 2})"
        )
    columns = b.shape[-1]
    for length in b.shape[:-2]:
        columns *= length
    rows = reshape(moveaxis(b, -2, 0), (b.shape[-2], columns))
    return reshape(matmul(a, rows), (*a.shape[:-1], *b.shape[:-2], b.shape[-1]))


__all__ = ["dot"]
