"""Derivatives as operations on tensors, for backward passes that are recorded.

A pass that nobody differentiates again runs kernels. One that is recorded (``create_graph``, or a gradient within a
gradient) calls ``gradient`` here instead, where a rule's kernel has no derivative of its own. For elementwise
operations that is the text of csrc/ops.def, evaluated over tensors; the few rules below are of the softmax family and
of the extrema. The other operations have rules made of operations already (csrc/ops/shapes.c, csrc/ops/matmul.c).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor

__all__ = ["gradient"]

# Texts that give the derivative, but not a second one everywhere: a `where` hides a point at which its other branch has
# no finite derivative, or at which it stands for the limit of one, or a `minimum` ties at the seam of two pieces, or
# parts of it overflow one against the other. These equal them wherever the values are finite.
_CELU_CONSTANT = "(a > 0) | ((b >= 0) & (a < -1000 * b))"
_CELU_U = f"where({_CELU_CONSTANT}, 0, a) / where({_CELU_CONSTANT}, 1, b)"
_TWICE = {
    ("cbrt", 0): "square(reciprocal(y)) / 3",
    ("celu", 0): f"where(a > 0, 1, where({_CELU_CONSTANT}, 0, exp({_CELU_U})))",
    ("celu", 1): f"where(a > 0, 0, where({_CELU_CONSTANT}, -1, expm1({_CELU_U}) - {_CELU_U} * exp({_CELU_U})))",
    ("elu", 0): "where(a > 0, 1, b * exp(where(a > 0, 0, a)))",
    ("elu", 1): "where(a > 0, 0, expm1(where(a > 0, 0, a)))",
    ("selu", 0): "where(x > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * exp(where(x > 0, 0, x)))",
    ("gelu", 0): "erfc(-x * SQRT_HALF) / 2 + x * exp(-square(x) / 2) * ONE_OVER_SQRT_2PI",
    ("hypot", 0): "where(y == 0, 0, a / where(y == 0, 1, y))",
    ("hypot", 1): "where(y == 0, 0, b / where(y == 0, 1, y))",
    ("power", 0): "b * power(a, where((b == 0) & (a == 0), 1, b - 1))",
    ("power", 1): "where(a == 0, 0, power(a, b) * log(where(a == 0, 1, a)))",
    ("softsign", 0): "square(reciprocal(1 + absolute(x)))",
    ("logaddexp", 0): "sigmoid(where((a == b) & (a - b != 0), 0, a - b))",
    ("logaddexp", 1): "sigmoid(where((a == b) & (a - b != 0), 0, b - a))",
    ("logaddexp2", 0): "sigmoid(where((a == b) & (a - b != 0), 0, a - b) * LN_2)",
    ("logaddexp2", 1): "sigmoid(where((a == b) & (a - b != 0), 0, b - a) * LN_2)",
}
# Beyond this distance from 0 the derivative is constant, but parts of its text overflow, or have no value at infinity.
_FLAT = {"erf": 30, "erfc": 30, "gelu": 40, "gelu_tanh": 30, "silu": 800, "mish": 800}


def gradient(name: str, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor | None, *inputs: Tensor | None) -> Tensor:
    """The cotangent g times the derivative of an operation by its input i, from what the tape has saved: the result y
    and the inputs, None where the derivative does not name them."""
    if name in _RULES:
        return _RULES[name](attr, g, y, *inputs)
    gx: Tensor = g * _derivative(name, i, g.dtype.char)(*inputs, y)
    return gx


@cache
def _derivative(name: str, i: int, dtype: str) -> Callable[..., Any]:
    """The text of a row as a function of its letters."""
    row = _core.ROWS[name]
    letters = "x, y" if row["arity"] == 1 else "a, b, y"
    text = " ".join(_TWICE.get((name, i), row["derivatives"][i]).split())
    function: Callable[..., Any] = eval(f"lambda {letters}: {text}", _namespace(dtype))
    if (far := _FLAT.get(name)) is not None:
        return lambda x, y: function(_core.minimum(_core.maximum(x, -far), far), y)
    return function


@cache
def _namespace(dtype: str) -> dict[str, Any]:
    """What a text may name, for numbers of this dtype."""
    constants = {name: value for name, (value, _) in _core.constants().items()}
    return {"__builtins__": {}, **constants, **_core.functions, "where": partial(_where, np.dtype(dtype))}


def _where(dtype: np.dtype[Any], condition: Tensor, a: Any, b: Any) -> Tensor:
    """Choose elements; two plain numbers become tensors of the dtype that the formula is computed in."""
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = np.asarray(a, dtype)
    return _core.where(condition, a, b)


# ---- rules that are not in the table ------------------------------------------------------------------------
def _last(x: Tensor) -> Tensor:
    """x with an axis of length 1 behind the others."""
    return x.reshape((*x.shape, 1))


def _softmax(attr: tuple[int, ...], g: Tensor, y: Tensor, x: None) -> Tensor:
    return y * (g - (g * y).sum(-1, keepdims=True))


def _log_softmax(attr: tuple[int, ...], g: Tensor, y: Tensor, x: None) -> Tensor:
    return g - _core.exp(y) * g.sum(-1, keepdims=True)


def _logsumexp(attr: tuple[int, ...], g: Tensor, y: None, x: Tensor) -> Tensor:
    return _last(g) * _core.apply_op(_core.OP_NUMBER["softmax"], [x], (1,))  # which is 0 in a row of -inf


def _cross_entropy(attr: tuple[int, ...], g: Tensor, y: None, x: Tensor, labels: Tensor) -> Tensor:
    classes = np.arange(x.shape[-1], dtype=np.float64)
    chosen = _last(labels.astype(np.float64)) == classes    # as floats, which a program can compare
    return _last(g) * (_core.softmax_last(x) - _where(x.dtype, chosen, 1, 0))


def _extremum(attr: tuple[int, ...], g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Elements that tie share the cotangent. There is a nan only where the extremum is nan."""
    axes = tuple(k for k in range(x.ndim) if attr[0] >> k & 1)
    kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    hit = (x == y.reshape(kept)) | (x != x)
    ties = _where(x.dtype, hit, 1, 0).sum(axes, keepdims=True)
    return _core.where(hit, g.reshape(kept) / ties, 0)


_RULES: dict[str, Callable[..., Tensor]] = {
    "softmax": _softmax, "log_softmax": _log_softmax, "logsumexp": _logsumexp, "cross_entropy": _cross_entropy,
    "max": _extremum, "min": _extremum,
}  # fmt: skip
