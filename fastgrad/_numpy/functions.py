"""Functions of tensors that are composed of the core's operations, under NumPy's names and rules.

Each takes tensors, ndarrays, nested lists and numbers, and returns a Tensor. What is differentiable here is so
because its parts are; there is no second list of rules.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import contractions, creation, sequences, shapes
from .. import _core
from .contractions import *
from .._core import *
from .._core import Tensor, normal_axes
from .creation import *
from .creation import floating
from .sequences import *
from .shapes import *
from .shapes import from_lists as from_lists, one_axis, part

if TYPE_CHECKING:                       # numpy.typing is slow to import
    from numpy.typing import ArrayLike

    Axis = int | tuple[int, ...] | None
    TensorLike = Tensor | ArrayLike


# ---- elementwise functions composed of others ---------------------------------------------------------------
def divmod(a: TensorLike, b: TensorLike) -> tuple[Tensor, Tensor]:
    """Quotient rounded down, and remainder: ``(a // b, a % b)``.

    >>> import fastgrad as fg
    >>> fg.divmod(7.0, 2.0)
    (tensor(3.), tensor(1.))
    """
    return _core.floor_divide(a, b), remainder(a, b)


def float_power(a: TensorLike, b: TensorLike) -> Tensor:
    """a to the power b, computed in float64.

    >>> import fastgrad as fg
    >>> fg.float_power(2, -1)
    tensor(0.5)
    """
    return power(astype(asarray(a), np.float64), astype(asarray(b), np.float64))


def fabs(x: TensorLike) -> Tensor:
    """Absolute value as a float, also of integers; derivative 0 at 0.

    >>> import fastgrad as fg
    >>> fg.fabs([-2, 3])
    tensor([2., 3.])
    """
    return absolute(floating(x))


def ldexp(x: TensorLike, exponent: TensorLike) -> Tensor:
    """x times two to an integer power.

    >>> import fastgrad as fg
    >>> fg.ldexp(3.0, 2)
    tensor(12.)
    """
    e = asarray(exponent)
    if e.dtype.kind not in "iub":
        raise TypeError(f"ldexp: expected integer exponents, got {e.dtype}")
    x = floating(x)
    return multiply(x, _core.by_numpy(np.ldexp, x.dtype.type(1), e))


def modf(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Fractional and integer part, both with the sign of x.

    >>> import fastgrad as fg
    >>> fg.modf(-1.25)
    (tensor(-0.25), tensor(-1.))
    """
    x = floating(x)
    return where(isinf(x), _core.copysign(0.0, x), _core.fmod(x, 1.0)), trunc(x)


def fix(x: TensorLike) -> Tensor:
    """The integer part: ``trunc``.

    >>> import fastgrad as fg
    >>> fg.fix(-1.5)
    tensor(-1.)
    """
    return trunc(x)


def round(x: TensorLike, decimals: int = 0) -> Tensor:
    """Rounded to a number of decimals, ties to even. The derivative is 0 wherever it exists.

    >>> import fastgrad as fg
    >>> fg.round(2.567, 1)
    tensor(2.6)
    """
    x, decimals = asarray(x), operator.index(decimals)
    if x.dtype.kind in "iu":
        return _core.by_numpy(np.round, x, decimals=decimals)
    if decimals == 0:
        return _core.rint(x)
    scale = 10.0 ** builtins.abs(decimals)
    if decimals > 0:
        return divide(_core.rint(multiply(x, scale)), scale)
    return multiply(_core.rint(divide(x, scale)), scale)


def sinc(x: TensorLike) -> Tensor:
    """``sin(pi x) / (pi x)``, 1 at 0. Near 0 its Taylor series, where the quotient's derivative would cancel.

    >>> import fastgrad as fg
    >>> fg.sinc([0.0, 0.5]).numpy().round(4)
    array([1.    , 0.6366])
    """
    px = multiply(x, np.pi)
    near = absolute(px) < 0.5
    far = where(near, 1.0, px)
    u = square(where(near, px, 0.0))
    series = u / 6227020800 - 1 / 39916800
    for coefficient in (1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0):
        series = coefficient + u * series
    return where(near, series, sin(far) / far)


def nan_to_num(
    x: TensorLike,
    copy: builtins.bool = True,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """nan and infinities replaced by numbers: 0 and the largest of the dtype unless given. No gradient passes to what
    was replaced. The result is a value of its own: ``copy``, which is NumPy's, must be true.

    >>> import fastgrad as fg
    >>> fg.nan_to_num([1.0, float("nan")])
    tensor([1., 0.])
    """
    x = asarray(x)
    if not isinstance(copy, (builtins.bool, np.bool_)) or not copy:
        raise TypeError(f"nan_to_num: expected copy=True, got {copy!r}; the second argument is copy, as NumPy's, and a "
                        "tensor is not changed in place")  # fmt: skip
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    x = where(isnan(x), nan, x)
    x = where(x == np.inf, float(limits.max) if posinf is None else posinf, x)
    return where(x == -np.inf, float(limits.min) if neginf is None else neginf, x)


def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """x limited to the interval [min, max]; either bound may be None. Within the bounds and on them the gradient
    goes to x, outside to the bound. A nan bound gives nan.

    >>> import fastgrad as fg
    >>> fg.clip([-1.0, 0.5, 2.0], 0, 1)
    tensor([0. , 0.5, 1. ])
    """
    x = asarray(x)
    if min is not None:
        x = where((x < min) | isnan(min), min, x)
    if max is not None:
        x = where((x > max) | isnan(max), max, x)
    return x


# ---- questions about elements: booleans, which carry no gradient ----------------------------------------------
def _question(name: str, of_floats: Callable[..., Any] | None = None) -> Callable[..., Tensor]:
    """``numpy.name`` of tensors; ``of_floats`` says the same of floats in operations that can be compiled."""
    function = getattr(np, name)

    def ask(*operands: TensorLike) -> Tensor:
        if len(operands) != function.nin:
            raise TypeError(f"{name}() takes {function.nin} arguments but {len(operands)} were given")
        x = asarray(operands[0])
        if of_floats is not None and (x.dtype.kind == "f" or function.nin == 2):
            if function.nin == 2 and operands[1] is None:  # which == and != would take for something else than an array
                raise TypeError(f"{name}: expected arrays and numbers, got None")
            return of_floats(x, *operands[1:])  # type: ignore[no-any-return]
        return _core.by_numpy(function, x)

    ask.__name__ = ask.__qualname__ = name
    ask.__doc__ = (
        f"``numpy.{name}`` of tensors: a Tensor of booleans, which carries no gradient.\n\n"
        f"    >>> import fastgrad as fg\n    >>> fg.{name}({', '.join(['1.0'] * function.nin)}).dtype\n"
        "    dtype('bool')\n    "
    )
    return ask


def _truth(x: TensorLike) -> Tensor:
    x = asarray(x)
    return x if x.dtype == np.bool_ else x != 0


isfinite = _question("isfinite", lambda x: absolute(x) < np.inf)
isinf = _question("isinf", lambda x: absolute(x) == np.inf)
isnan = _question("isnan", lambda x: x != x)
signbit = _question("signbit", lambda x: copysign(1.0, x) < 0)
less, less_equal = _question("less", operator.lt), _question("less_equal", operator.le)
greater, greater_equal = _question("greater", operator.gt), _question("greater_equal", operator.ge)
equal, not_equal = _question("equal", operator.eq), _question("not_equal", operator.ne)
logical_and = _question("logical_and", lambda a, b: _truth(a) & _truth(b))
logical_or = _question("logical_or", lambda a, b: _truth(a) | _truth(b))
logical_xor = _question("logical_xor", lambda a, b: _truth(a) ^ _truth(b))
logical_not = _question("logical_not", lambda x: ~_truth(x))


# ---- reductions -----------------------------------------------------------------------------------------------
def prod(x: TensorLike, axis: Axis = None, keepdims: builtins.bool = False) -> Tensor:
    """Product of elements over axes. Its gradient is exact where elements are 0.

    Computed by multiplying one half of the elements with the other until one is left.

    >>> import fastgrad as fg
    >>> fg.prod([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([3., 8.])
    """
    x = asarray(x)
    axes = normal_axes(axis, x.ndim, "prod")
    if x.dtype.kind != "f":
        return _core.by_numpy(np.prod, x, axis=axes, keepdims=builtins.bool(keepdims))
    if _any_zero_length(x.shape, axes):
        return add(sum(x, axis, keepdims), 1.0)
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    others = tuple([i for i in range(x.ndim) if i not in axes])
    rest = [x.shape[i] for i in others]
    y = reshape(transpose(x, [*axes, *others]), [-1, *rest]) if x.size else reshape(x, [1, *rest])
    while (n := y.shape[0]) > 1:
        half = n // 2
        product = multiply(y[:half], y[half : 2 * half])
        y = concatenate([product, y[2 * half :]]) if n % 2 else product
    return reshape(y, kept if keepdims else rest)


def _any_zero_length(shape: Sequence[int], axes: Sequence[int]) -> builtins.bool:
    """Whether one of the axes has no elements."""
    return builtins.any(shape[i] == 0 for i in axes)


def var(x: TensorLike, axis: Axis = None, ddof: float = 0, keepdims: builtins.bool = False) -> Tensor:
    """Variance over axes: mean squared distance from the mean, with divisor n - ddof. Its gradient where all elements
    are equal is 0.

    >>> import fastgrad as fg
    >>> fg.var([1.0, 2.0, 3.0, 4.0])
    tensor(1.25)
    """
    x = asarray(x)
    count = 1
    for i in normal_axes(axis, x.ndim, "var"):
        count *= x.shape[i]
    squares = sum(square(subtract(x, mean(x, axis, keepdims=True))), axis, keepdims)
    return divide(squares, builtins.max(count - float(ddof), 0.0))


def std(x: TensorLike, axis: Axis = None, ddof: float = 0, keepdims: builtins.bool = False) -> Tensor:
    """Standard deviation over axes: the square root of ``var``. Its gradient where it is 0, of equal elements, is 0, as
    that of ``norm``.

    >>> import fastgrad as fg
    >>> fg.std([1.0, 3.0])
    tensor(1.)
    """
    x = asarray(x)
    normal_axes(axis, x.ndim, "std")
    return _root(var(x, axis, ddof, keepdims), sqrt)


def _counted(function: Callable[..., Any], example: str) -> Callable[..., Tensor]:
    def count(x: TensorLike, axis: Any = None, keepdims: builtins.bool = False) -> Tensor:
        x = asarray(x)
        if axis is not None and function in (np.argmax, np.argmin):
            axis = one_axis(axis, x.ndim, function.__name__)
        elif axis is not None:
            axis = normal_axes(axis, x.ndim, function.__name__)
        return _core.by_numpy(function, x, axis=axis, keepdims=builtins.bool(keepdims))

    count.__name__ = count.__qualname__ = function.__name__
    count.__doc__ = (
        f"``numpy.{function.__name__}`` of a tensor; the result is no float and carries no gradient.\n\n"
        f"    >>> import fastgrad as fg\n    >>> {example}\n    "
    )
    return count


any = _counted(np.any, "fg.any([0.0, 2.0])\n    tensor(True)")
all = _counted(np.all, "fg.all([0.0, 2.0])\n    tensor(False)")
argmax = _counted(np.argmax, "fg.argmax([0.0, 2.0])\n    tensor(1)")
argmin = _counted(np.argmin, "fg.argmin([0.0, 2.0])\n    tensor(0)")


def norm(x: TensorLike, ord: float | str | None = None, axis: Axis = None, keepdims: builtins.bool = False) -> Tensor:
    """Vector norm over one axis, or Frobenius norm over two or all axes, as ``numpy.linalg.norm``.

    ``ord`` is None or 2 (Euclidean), "fro", 1, inf, -inf, 0 (count of elements that are not 0; no gradient) or
    another number p for ``sum(|x|^p)^(1/p)``. The gradient at x = 0 is 0 for p of at least 1, a subgradient, as
    PyTorch's; for p below 1 a zero element makes it nan, for there is none. Norms of matrices other than the Frobenius
    norm need an axis, or raise NotImplementedError.

    >>> import fastgrad as fg
    >>> fg.norm([3.0, 4.0])
    tensor(5.)
    """
    x = asarray(x)
    x = x if x.dtype.kind == "f" else astype(x, np.float64)
    axes = normal_axes(axis, x.ndim, "norm")
    if ord in (None, "fro") or (ord == 2 and len(axes) == 1):
        return _root(sum(square(x), axis, keepdims), sqrt)
    if len(axes) != 1:
        raise NotImplementedError(
            f"norm: ord={ord!r} over {len(axes)} axes is a matrix norm; only the Frobenius norm is here"
        )
    if isinstance(ord, str):
        raise ValueError(f"norm: expected ord as a number for a vector norm, got {ord!r}")
    ord, size = float(ord), absolute(x)  # a scalar of NumPy's has a dtype that would count
    if ord == np.inf:
        return _core.max(size, axis, keepdims)
    if ord == -np.inf:
        return _core.min(size, axis, keepdims)
    if ord == 0:
        return sum(astype(size != 0.0, size.dtype), axis, keepdims)
    if ord == 1:
        return sum(size, axis, keepdims)
    total = sum(power(size, ord), axis, keepdims)
    return _root(total, lambda t: power(t, 1.0 / ord)) if ord > 0 else power(total, 1.0 / ord)


def _root(x: Tensor, root: Callable[[Tensor], Tensor]) -> Tensor:
    """A root of x, of derivative 0 at 0: where() on both sides keeps its infinite slope there out of the gradient."""
    zero = x == 0.0
    return where(zero, 0.0, root(where(zero, 1.0, x)))


# ---- the softmax family -----------------------------------------------------------------------------------------
def _along_last(x: TensorLike, axis: int, name: str, function: Callable[[Tensor], Tensor]) -> Tensor:
    x = asarray(x)
    if x.ndim == 0:
        raise ValueError(f"{name}: expected a tensor with axes, got a single number")
    axis = one_axis(axis, x.ndim, name)
    return function(x) if axis == x.ndim - 1 else swapaxes(function(swapaxes(x, axis, -1)), axis, -1)


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along an axis, stable for every finite input. A row of only -inf, or with +inf, is nan.

    Its Jacobian is ``p[i] (delta[i, j] - p[j])``. Along an axis of length 0 the result is empty.

    >>> import fastgrad as fg
    >>> fg.softmax([1e30, 0.0])
    tensor([1., 0.])
    """
    return _along_last(x, axis, "softmax", _core.softmax_last)


def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """Logarithm of ``softmax`` along an axis, stable for every finite input. A row of only -inf, or with +inf, is nan.

    >>> import fastgrad as fg
    >>> fg.log_softmax([0.0, -1000.0])
    tensor([    0., -1000.])
    """
    return _along_last(x, axis, "log_softmax", _core.log_softmax_last)


def logsumexp(x: TensorLike, axis: Axis = None, keepdims: builtins.bool = False) -> Tensor:
    """``log(sum(exp(x)))`` over axes, stable for every finite input. -inf for no elements.

    Its gradient is the softmax, but 0 where all elements are -inf; elements of +inf have equal shares.

    >>> import fastgrad as fg
    >>> fg.logsumexp([1000.0, 1000.0])
    tensor(1000.69314718)
    """
    x = asarray(x)
    axes = normal_axes(axis, x.ndim, "logsumexp")
    kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
    others = tuple([i for i in range(x.ndim) if i not in axes])
    rest = [x.shape[i] for i in others]
    if x.size == 0:
        y = sum(floating(x), axis, keepdims)
        return subtract(y, np.inf) if _any_zero_length(x.shape, axes) else y
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

    ``approximate="tanh"`` takes their formula with tanh in place of erf.

    >>> import fastgrad as fg
    >>> fg.gelu([-1.0, 1.0]).numpy().round(4)
    array([-0.1587,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: expected approximate='none' or 'tanh', got {approximate!r}")
    return _core.gelu_tanh(x) if approximate == "tanh" else _core.gelu(x)


def glu(x: TensorLike, axis: int = -1) -> Tensor:
    """Gated linear unit: the first half along an axis times the sigmoid of the second (Dauphin et al. 2017).

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


# ---- other names --------------------------------------------------------------------------------------------------
def amax(x: TensorLike, axis: Axis = None, keepdims: builtins.bool = False) -> Tensor:
    """Another name of ``max``.

    >>> import fastgrad as fg
    >>> fg.amax([1.0, 2.0])
    tensor(2.)
    """
    return _core.max(x, axis, keepdims)


def amin(x: TensorLike, axis: Axis = None, keepdims: builtins.bool = False) -> Tensor:
    """Another name of ``min``.

    >>> import fastgrad as fg
    >>> fg.amin([1.0, 2.0])
    tensor(1.)
    """
    return _core.min(x, axis, keepdims)


abs = absolute
acos, asin, atan, atan2 = _core.arccos, _core.arcsin, _core.arctan, _core.arctan2
acosh, asinh, atanh = _core.arccosh, _core.arcsinh, _core.arctanh
around = round
concat, permute_dims = concatenate, transpose
deg2rad, rad2deg = _core.radians, _core.degrees
expit, swish = sigmoid, _core.silu
mod, pow, true_divide = remainder, power, divide

__all__ = [
    "abs", "acos", "acosh", "all", "amax", "amin", "any", "argmax", "argmin", "around", "asin", "asinh", "atan",
    "atan2", "atanh", "celu", "clip", "concat", "deg2rad", "divmod", "elu", "equal", "expit", "fabs", "fix",
    "float_power", "gelu", "glu", "greater", "greater_equal", "hard_shrink", "isfinite", "isinf", "isnan", "ldexp",
    "leaky_relu", "less", "less_equal", "log_softmax", "logical_and", "logical_not", "logical_or", "logical_xor",
    "logsumexp", "mod", "modf", "nan_to_num", "norm", "not_equal", "permute_dims", "pow", "prod", "rad2deg", "round",
    "signbit", "sinc", "soft_shrink", "softmax", "std", "swish", "true_divide", "var",
]  # fmt: skip
__all__ += contractions.__all__ + creation.__all__ + sequences.__all__ + shapes.__all__
