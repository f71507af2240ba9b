"""Predicates: comparisons, tests and logic of elements, whose results are booleans and carry no gradient."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, absolute, asarray

if TYPE_CHECKING:
    from .typing import TensorLike


def _predicate(name: str, of_floats: Callable[..., Any] | None = None) -> Callable[..., Tensor]:
    """``numpy.name`` of tensors; ``of_floats`` says the same of floats in operations that can be compiled."""
    function = getattr(np, name)

    def predicate(*operands: TensorLike) -> Tensor:
        if len(operands) != function.nin:
            raise TypeError(f"{name}() takes {function.nin} arguments but {len(operands)} were given")
        x = asarray(operands[0])
        if of_floats is not None and (x.dtype.kind == "f" or function.nin == 2):
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

__all__ = [
    "equal", "greater", "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and",
    "logical_not", "logical_or", "logical_xor", "not_equal", "signbit",
]  # fmt: skip
