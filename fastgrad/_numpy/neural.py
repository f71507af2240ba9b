"""Functions of neural networks that NumPy lacks: the softmax family along an axis, and activations with parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    asarray,
    multiply,
    negative,
    normal_axes,
    reshape,
    sigmoid,
    subtract,
    sum,
    transpose,
    where,
)
from .creation import floating
from .predicates import isfinite
from .reductions import any_zero_length
from .shapes import one_axis, part, swapaxes

if TYPE_CHECKING:
    from .typing import Axis, TensorLike


# ---- the softmax family -----------------------------------------------------------------------------------------
def _along_last(x: TensorLike, axis: int, name: str, function: Callable[[Tensor], Tensor]) -> Tensor:
    x = asarray(x)
    if x.ndim == 0 and axis in (0, -1):  # a vector of one, as SciPy has it
        return reshape(function(reshape(x, (1,))), ())
    axis = one_axis(axis, x.ndim, name)
    return function(x) if axis == x.ndim - 1 else swapaxes(function(swapaxes(x, axis, -1)), axis, -1)


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along an axis, stable for every finite input. A row of only -inf, or with +inf, is nan.

    Its Jacobian is ``p[i] (delta[i, j] - p[j])``. Along an axis of length 0 the result is empty.
    A single number is a row of one.

    >>> import fastgrad as fg
    >>> fg.softmax([1e30, 0.0])
    tensor([1., 0.])
    """
    return _along_last(x, axis, "softmax", _core.softmax_last)


def softmin(x: TensorLike, axis: int = -1) -> Tensor:
    """``exp(-x) / sum(exp(-x))`` along an axis, ``softmax`` of -x: the smallest element has the largest share.

    Stable for every finite input. A row of only +inf, or with -inf, is nan. Along an axis of length 0 the result is
    empty. Unsigned integers are converted to floats before their sign changes. A single number is a row of one.

    >>> import fastgrad as fg
    >>> fg.softmin([1e30, 0.0])
    tensor([0., 1.])
    """
    return _along_last(x, axis, "softmin", _softmin_last)


def _softmin_last(x: Tensor) -> Tensor:
    return _core.softmax_last(negative(floating(x)))


def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """Logarithm of ``softmax`` along an axis, stable for every finite input. A row of only -inf, or with +inf, is nan.

    A single number is a row of one.

    >>> import fastgrad as fg
    >>> fg.log_softmax([0.0, -1000.0])
    tensor([    0., -1000.])
    """
    return _along_last(x, axis, "log_softmax", _core.log_softmax_last)


@overload
def logsumexp(
    a: TensorLike, axis: Axis = None, b: TensorLike | None = None, keepdims: bool = False,
    return_sign: Literal[False] = False,
) -> Tensor: ...  # fmt: skip
@overload
def logsumexp(
    a: TensorLike, axis: Axis = None, b: TensorLike | None = None, keepdims: bool = False, *,
    return_sign: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
def logsumexp(
    a: TensorLike, axis: Axis = None, b: TensorLike | None = None, keepdims: bool = False, return_sign: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """``log(sum(b * exp(a)))`` over axes, stable for every finite a. -inf for no elements. The weights b are 1 by
    default.

    Without weights its gradient is the softmax, but 0 where all elements are -inf; elements of +inf have equal shares.
    a and b broadcast; a term of weight 0 contributes nothing, whatever its a, and has a derivative by the weight where
    a is finite. With ``return_sign`` the result is (log of the absolute value of the sum, its sign); without, a
    negative sum gives nan. Raises ValueError for axes that a does not have. It is SciPy's function.

    >>> import fastgrad as fg
    >>> fg.logsumexp([1000.0, 1000.0])
    tensor(1000.69314718)
    >>> fg.logsumexp([0.0, 0.0], b=[1.0, -3.0], return_sign=True)
    (tensor(0.69314718), tensor(-1.))
    """
    if b is None:
        y = _log_of_sum(a, axis, keepdims)
        return (y, where(y == -np.inf, 0.0, where(y == y, 1.0, y.detach()))) if return_sign else y
    dtype, (a, b) = _core.promoted("logsumexp", a, b)
    if dtype.kind != "f":
        dtype = _core.float_dtype(dtype)
    a, b = _core.astype(a, dtype), _core.astype(b, dtype)
    shape = np.broadcast_shapes(a.shape, b.shape)
    axes = normal_axes(axis, len(shape), "logsumexp")
    a, weightless = _core.broadcast_to(a, shape), b == 0
    kept = tuple([1 if i in axes else n for i, n in enumerate(shape)])
    if a.size == 0:
        total, top = _core.sum(a, axes, keepdims=True), asarray(np.zeros(kept, dtype))
    else:
        top = where(weightless, -np.inf, a.detach())
        top = _core.max(top, axes, keepdims=True) if axes else top
        top = where(isfinite(top), top, 0)
        # A term of weight 0 is 0, and its exponential the derivative by the weight: it must be finite.
        above, most = a - top, float(np.log(np.finfo(dtype).max)) - 1
        above = where(weightless, where(isfinite(a), _core.minimum(above, most), -np.inf), above)
        total = _core.sum(b * _core.exp(above), axes, keepdims=True)
    y = _core.log(_core.absolute(total) if return_sign else total) + top
    y, sign = [v if keepdims else v.reshape([n for i, n in enumerate(shape) if i not in axes])
               for v in (y, _core.sign(total))]  # fmt: skip
    return (y, sign) if return_sign else y


def _log_of_sum(x: TensorLike, axis: Axis, keepdims: bool) -> Tensor:
    """``logsumexp`` without weights."""
    x = asarray(x)
    axes = normal_axes(axis, x.ndim, "logsumexp")
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    others = tuple([i for i in range(x.ndim) if i not in axes])
    rest = [x.shape[i] for i in others]
    if x.size == 0:
        y = sum(floating(x), axis, keepdims=keepdims)
        return subtract(y, np.inf) if any_zero_length(x.shape, axes) else y
    if others + axes != tuple(range(x.ndim)):
        x = transpose(x, others + axes)
    y = _core.logsumexp_last(x if len(axes) == 1 else reshape(x, [*rest, -1]))
    return reshape(y, kept) if keepdims else y


# ---- activations with parameters ----------------------------------------------------------------------------------
def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, else ``negative_slope * x`` (the derivative at 0).

    >>> import fastgrad as fg
    >>> fg.leaky_relu([-1.0, 2.0])
    tensor([-0.01,  2.  ])
    """
    return _core.prelu(x, negative_slope)


def elu(x: TensorLike, alpha: TensorLike = 1.0) -> Tensor:
    """x where it is positive, else ``alpha (exp(x) - 1)`` (Clevert, Unterthiner and Hochreiter 2016).

    >>> import fastgrad as fg
    >>> fg.elu([-1000.0, 2.0])
    tensor([-1.,  2.])
    """
    return _core.elu(x, alpha)


def celu(x: TensorLike, alpha: TensorLike = 1.0) -> Tensor:
    """x where it is positive, else ``alpha (exp(x / alpha) - 1)``, for alpha > 0 (Barron 2017).

    >>> import fastgrad as fg
    >>> fg.celu([-1000.0, 2.0], alpha=0.5)
    tensor([-0.5,  2. ])
    """
    return _core.celu(x, alpha)


def hard_shrink(x: TensorLike, lambd: TensorLike = 0.5) -> Tensor:
    """x outside the interval [-lambd, lambd], else 0.

    >>> import fastgrad as fg
    >>> fg.hard_shrink([-0.3, 2.0])
    tensor([0., 2.])
    """
    return _core.hard_shrink(x, lambd)


def soft_shrink(x: TensorLike, lambd: TensorLike = 0.5) -> Tensor:
    """x moved toward 0 by lambd, and 0 within it.

    >>> import fastgrad as fg
    >>> fg.soft_shrink([-0.25, 2.0])
    tensor([0. , 1.5])
    """
    return _core.soft_shrink(x, lambd)


def gelu(x: TensorLike, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """x times the standard normal distribution function (Hendrycks and Gimpel 2016).

    ``approximate="tanh"`` takes their formula with tanh in place of erf. Raises ValueError for another word.

    >>> import fastgrad as fg
    >>> fg.gelu([-1.0, 1.0]).numpy().round(4)
    array([-0.1587,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: expected approximate='none' or 'tanh', got {approximate!r}")
    return _core.gelu_tanh(x) if approximate == "tanh" else _core.gelu(x)


def glu(x: TensorLike, axis: int = -1) -> Tensor:
    """Gated linear unit: the first half along an axis times the sigmoid of the second (Dauphin et al. 2017).

    Raises ValueError where the length is odd.

    >>> import fastgrad as fg
    >>> fg.glu([3.0, 0.0])
    tensor([1.5])
    """
    x = asarray(x)
    axis = one_axis(axis, x.ndim, "glu")
    if x.shape[axis] % 2:
        raise ValueError(f"glu: expected an even length along axis {axis}, got shape {x.shape}")
    half = x.shape[axis] // 2
    return multiply(part(x, axis, None, half), sigmoid(part(x, axis, half, None)))


expit, swish = sigmoid, _core.silu

__all__ = [
    "celu", "elu", "expit", "gelu", "glu", "hard_shrink", "leaky_relu", "log_softmax", "logsumexp", "soft_shrink",
    "softmax", "softmin", "swish",
]  # fmt: skip
