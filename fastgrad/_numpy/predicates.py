"""Predicates: comparisons, tests and logic, of elements and of arrays, whose results are booleans without gradient."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, absolute, asarray
from .creation import floating
from .reductions import all

if TYPE_CHECKING:
    from .typing import TensorLike


def _predicate(name: str, of_floats: Callable[..., Any] | None = None) -> Callable[..., Tensor]:
    """``numpy.name`` of tensors; ``of_floats`` says the same of floats in operations that can be compiled."""
    function = getattr(np, name)

    def predicate(*operands: TensorLike) -> Tensor:
        if len(operands) != function.nin:
            raise TypeError(f"{name}() takes {function.nin} arguments but {len(operands)} were given")
        x = asarray(operands[0])
        if of_floats is not None and (x.dtype.kind == "f" or function.nin == 2 or function is np.logical_not):
            if function.nin == 2 and operands[1] is None:  # which == and != would take for something else than an array
                raise TypeError(f"{name}: expected arrays and numbers, got None")
            return of_floats(x, *operands[1:])  # type: ignore[no-any-return]
        return _core.by_numpy(function, x)

    predicate.__name__ = predicate.__qualname__ = name
    predicate.__doc__ = (
        f"``numpy.{name}`` of tensors: a Tensor of booleans, which carries no gradient.\n\n"
        f"    >>> import fastgrad as fg\n    >>> fg.{name}({', '.join(['1.0'] * function.nin)}).dtype\n"
        "    dtype('bool')\n    "
    )
    return predicate


def _truth(x: TensorLike) -> Tensor:
    x = asarray(x)
    return x if x.dtype == np.bool_ else x != 0


isfinite = _predicate("isfinite", lambda x: absolute(x) < np.inf)
isinf = _predicate("isinf", lambda x: absolute(x) == np.inf)
isnan = _predicate("isnan", lambda x: x != x)
signbit = _predicate("signbit", lambda x: _core.copysign(1.0, x) < 0)
less, less_equal = _predicate("less", operator.lt), _predicate("less_equal", operator.le)
greater, greater_equal = _predicate("greater", operator.gt), _predicate("greater_equal", operator.ge)
equal, not_equal = _predicate("equal", operator.eq), _predicate("not_equal", operator.ne)
logical_and = _predicate("logical_and", lambda a, b: _truth(a) & _truth(b))
logical_or = _predicate("logical_or", lambda a, b: _truth(a) | _truth(b))
logical_xor = _predicate("logical_xor", lambda a, b: _truth(a) ^ _truth(b))
logical_not = _predicate("logical_not", lambda x: ~_truth(x))


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
