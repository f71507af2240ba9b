"""Predicates: comparisons, tests and logic, of elements and of arrays, whose results are booleans without gradient."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, absolute, asarray
from .creation import floating, pair
from .reductions import all

if TYPE_CHECKING:
    from .typing import TensorLike


def _test(name: str, of_floats: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """``numpy.name`` of one tensor; ``of_floats`` says the same of floats in operations that can be compiled."""
    ufunc = getattr(np, name)

    def test(x: TensorLike, /) -> Tensor:
        x = asarray(x)
        return of_floats(x) if x.dtype.kind == "f" or ufunc is np.logical_not else _core.by_numpy(ufunc, x)

    return _named(test, name, "1.0")


def _relation(name: str, of_two: Callable[[Any, Any], Any]) -> Callable[..., Tensor]:
    """``numpy.name`` of two operands, which ``of_two`` says in operations that can be compiled."""

    def relation(x1: TensorLike, x2: TensorLike, /) -> Tensor:
        if x1 is None or x2 is None:  # which == and != would take for something else than an array
            raise TypeError(f"{name}: expected arrays and numbers, got None")
        return of_two(*pair(x1, x2))  # type: ignore[no-any-return]

    return _named(relation, name, "1.0, 1.0")


def _named(predicate: Callable[..., Tensor], name: str, arguments: str) -> Callable[..., Tensor]:
    predicate.__name__ = predicate.__qualname__ = name
    predicate.__doc__ = (
        f"``numpy.{name}`` of tensors: a Tensor of booleans, which carries no gradient.\n\n"
        f"    >>> import fastgrad as fg\n    >>> fg.{name}({arguments}).dtype\n"
        "    dtype('bool')\n    "
    )
    return predicate


def _truth(x: TensorLike) -> Tensor:
    x = asarray(x)
    return x if x.dtype == np.bool_ else x != 0


isfinite = _test("isfinite", lambda x: absolute(x) < np.inf)
isinf = _test("isinf", lambda x: absolute(x) == np.inf)
isnan = _test("isnan", lambda x: x != x)
signbit = _test("signbit", lambda x: _core.copysign(1.0, x) < 0)
less, less_equal = _relation("less", operator.lt), _relation("less_equal", operator.le)
greater, greater_equal = _relation("greater", operator.gt), _relation("greater_equal", operator.ge)
equal, not_equal = _relation("equal", operator.eq), _relation("not_equal", operator.ne)
logical_and = _relation("logical_and", lambda a, b: _truth(a) & _truth(b))
logical_or = _relation("logical_or", lambda a, b: _truth(a) | _truth(b))
logical_xor = _relation("logical_xor", lambda a, b: _truth(a) ^ _truth(b))
logical_not = _test("logical_not", lambda x: ~_truth(x))


def isclose(
    a: TensorLike, b: TensorLike, rtol: TensorLike = 1e-5, atol: TensorLike = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Where ``|a - b| <= atol + rtol * |b|``, as booleans; infinities are close where they are equal, and nans where
    ``equal_nan`` says so.

    >>> import fastgrad as fg
    >>> fg.isclose([1.0, 2.0], [1.0 + 1e-9, 2.1])
    tensor([ True, False])
    """
    x, y = asarray(a), floating(b)
    close = (absolute(x - y) <= _core.add(atol, _core.multiply(rtol, absolute(y)))) & isfinite(y) | (x == y)
    return close | (isnan(x) & isnan(y)) if equal_nan else close


def allclose(
    a: TensorLike, b: TensorLike, rtol: TensorLike = 1e-5, atol: TensorLike = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether all elements are close: ``all(isclose(...))``.

    >>> import fastgrad as fg
    >>> fg.allclose([1.0, 2.0], [1.0 + 1e-9, 2.0])
    tensor(True)
    """
    return all(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: TensorLike, a2: TensorLike, equal_nan: bool = False) -> Tensor:
    """Whether two arrays have one shape and equal elements; nans are equal where ``equal_nan`` says so.

    >>> import fastgrad as fg
    >>> fg.array_equal([1.0, 2.0], [1.0, 2.0])
    tensor(True)
    """
    a, b = asarray(a1), asarray(a2)
    if a.shape != b.shape:
        return asarray(False)
    same = a == b
    return all(same | (isnan(a) & isnan(b)) if equal_nan else same)


def array_equiv(a1: TensorLike, a2: TensorLike) -> Tensor:
    """Whether two arrays broadcast to one shape and have equal elements there.

    >>> import fastgrad as fg
    >>> fg.array_equiv([1.0, 1.0], 1.0)
    tensor(True)
    """
    a, b = asarray(a1), asarray(a2)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return asarray(False)
    return all(a == b)


__all__ = [
    "allclose", "array_equal", "array_equiv", "equal", "greater", "greater_equal", "isclose", "isfinite", "isinf",
    "isnan", "less", "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor", "not_equal", "signbit",
]  # fmt: skip
