"""Gamma numbers as functions of their shape parameter: implicit reparameterization.

A draw x by rejection has no formula in the shape a. But its place in the distribution, F(a, x), is a uniform number
that does not depend on a, so that x is a quantile, which has a derivative by a (_numpy/gamma_slope.py).
"""

from __future__ import annotations

from .. import _core
from .._core import Tensor
from .._numpy.gamma_slope import log_quantile_slope
from .._transforms.custom import custom_jvp

__all__ = ["as_function_of_shape"]


@custom_jvp
def as_function_of_shape(a: Tensor, u: Tensor) -> Tensor:
    """u, the logarithms of gamma numbers drawn with the shapes a, as a function of a."""
    return u


@as_function_of_shape.defjvp
def _jvp(primals: tuple[Tensor, Tensor], tangents: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    a, _ = primals
    u = as_function_of_shape(*primals)
    return u, _core.astype(log_quantile_slope(a, u), u.dtype) * tangents[0] + tangents[1]
