"""What type annotations call the arguments of functions of tensors. Nothing imports this at run time."""

from numpy.typing import ArrayLike

from .._core import Tensor

__all__ = ["Axis", "TensorLike"]

Axis = int | tuple[int, ...] | None
TensorLike = Tensor | ArrayLike
