"""Bitwise operations on integers and booleans, by NumPy's names and those of the array API standard. They are Python's
operators between tensors; their results are data without a gradient."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._core import Tensor, asarray
from .creation import pair

if TYPE_CHECKING:
    from .typing import TensorLike


def _bitwise(name: str, of_two: Callable[[Any, Any], Any], summary: str, example: str) -> Callable[..., Tensor]:
    def bitwise(x1: TensorLike, x2: TensorLike, /) -> Tensor:
        return of_two(*pair(x1, x2))  # type: ignore[no-any-return]

    bitwise.__name__ = bitwise.__qualname__ = name
    bitwise.__doc__ = (
        f"{summary}, elementwise: a Tensor, which carries no gradient. TypeError for floats.\n\n"
        f"    >>> import fastgrad as fg\n    >>> fg.{name}({example}\n    "
    )
    return bitwise


bitwise_and = _bitwise("bitwise_and", operator.and_, "``x1 & x2``", "6, [3, 5])\n    tensor([2, 4])")
bitwise_or = _bitwise("bitwise_or", operator.or_, "``x1 | x2``", "[True, False], False)\n    tensor([ True, False])")
bitwise_xor = _bitwise("bitwise_xor", operator.xor, "``x1 ^ x2``", "6, 3)\n    tensor(5)")
bitwise_left_shift = _bitwise("bitwise_left_shift", operator.lshift, "``x1 << x2``", "[1, 3], 2)\n    tensor([ 4, 12])")
bitwise_right_shift = _bitwise(
    "bitwise_right_shift", operator.rshift, "``x1 >> x2``", "[4, 13], 2)\n    tensor([1, 3])"
)


def bitwise_invert(x: TensorLike, /) -> Tensor:
    """``~x``, elementwise: a Tensor, which carries no gradient. TypeError for floats.

    >>> import fastgrad as fg
    >>> fg.bitwise_invert([0, 5])
    tensor([-1, -6])
    """
    return ~(x if type(x) is Tensor else asarray(x))


# ---- NumPy's names --------------------------------------------------------------------------------------------------
invert = bitwise_not = bitwise_invert
left_shift, right_shift = bitwise_left_shift, bitwise_right_shift

__all__ = [
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "invert", "left_shift", "right_shift",
]  # fmt: skip
