"""Elementwise functions of ndarrays, such as SciPy's, as operations with derivatives.

One operation of the core, `host_elementwise`, calls all of them. Its attribute is the number of a call
(``_core.numpy_number``), and what it calls is a `HostElementwise`, which knows the derivatives as expressions of
tensors. So derivatives of both modes and of every order follow from one row for each function, as in
_numpy/scipy_special.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor

__all__ = ["HostElementwise", "of_host_elementwise_jvp", "of_host_elementwise_vjp"]

Derivative = Callable[..., Tensor]  # (y, *operands, **options)


class HostElementwise:
    """A function of at most 4 ndarrays of one float dtype that broadcasts them, and its derivatives.

    ``derivatives`` has for each operand a function ``(y, *operands, **options)`` of the result and the operands, all
    tensors; None, which stands for 0; or a text that says what the operand is, if there is no derivative by it.
    """

    def __init__(self, name: str, f: Callable[..., Any], derivatives: Sequence[Derivative | str | None]) -> None:
        self.__name__, self.f, self.derivatives = name, f, tuple(derivatives)

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        y = np.asarray(self.f(*arrays, **options))
        if y.dtype != arrays[0].dtype:
            with np.errstate(all="ignore"):
                y = y.astype(arrays[0].dtype)
        return y

    def at(self, *tensors: Tensor, **options: Any) -> Tensor:
        """The function of tensors of one dtype, as an operation."""
        return _core.apply_op(_OP, list(tensors), (_core.numpy_number(self, options),))

    def along(self, i: int, g: Tensor, y: Any, operands: Sequence[Any], options: dict[str, Any]) -> Any:
        """g times the derivative by operand i; None for 0."""
        derivative = self.derivatives[i]
        if derivative is None:
            return None
        if isinstance(derivative, str):
            raise NotImplementedError(
                f"special.{self.__name__}: there is no derivative by {derivative}, by which it is differentiated; "
                "pass that as a number, as an ndarray or by its .detach()"
            )
        return g * derivative(y, *operands, **options)


_OP = _core.OP_NUMBERS["host_elementwise"]


def _called(attr: tuple[int, ...]) -> tuple[HostElementwise, dict[str, Any]]:
    function, options = _core.numpy_call(attr[0])
    assert isinstance(function, HostElementwise)
    return function, options


def of_host_elementwise_vjp(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Any, *operands: Any) -> Tensor:
    function, options = _called(attr)
    gx: Tensor | None = function.along(i, g, y, operands, options)
    return _core.asarray(np.zeros(g.shape, g.dtype)) if gx is None else gx


def of_host_elementwise_jvp(saved: Any, ts: list[Any]) -> Any:
    function, options = _called(saved.attr)
    total = None
    for i, t in enumerate(ts):
        term = None if t is None else function.along(i, t, saved.y, saved.inputs, options)
        if term is not None:
            total = term if total is None else total + term
    return total if total is None or total.shape == saved.shape else _core.broadcast_to(total, saved.shape)
