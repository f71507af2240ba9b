"""Derivatives as operations on tensors, for backward passes that are recorded.

A backward pass that nobody differentiates again runs kernels. One that is recorded (``create_graph``, or a gradient
within a gradient) takes the rule of this file instead, where the kernel of a rule has no derivative of its own. For
elementwise operations that is the text of csrc/ops.def, evaluated over tensors; the other rules here belong to the
operations of csrc/structural.def with the flag FG_RULE_IN_PYTHON, but for decompositions, whose rules serve every pass
(decompositions.py). All others have rules made of operations in C already (csrc/ops/shapes.c, csrc/ops/matmul.c).

A rule ``(op, i, attr, g, y, *inputs)`` gets the operation's number and attributes, the cotangent g of the result, and
what the tape has saved: the result y and the inputs, each None where the derivative does not name it. It returns
g times the derivative by input i.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor

__all__ = ["RECURRENCE", "Rule", "ties_of_cummax"]

Rule = Callable[..., Tensor]

# ---- the rows of ops.def --------------------------------------------------------------------------------------------
# Texts that give the derivative, but not a second one everywhere: a `where` hides a point at which its other branch has
# no finite derivative, or at which it stands for the limit of one, or a `minimum` ties at the seam of two pieces, or
# parts of it overflow one against the other, or at the end of a domain a factor of 0 meets an infinite one. These equal
# them wherever the values are finite.
_CELU_CONSTANT = "(a > 0) | ((b >= 0) & (a < -1000 * b))"
_CELU_U = f"where({_CELU_CONSTANT}, 0, a) / where({_CELU_CONSTANT}, 1, b)"
# At the ends of a domain 1 - x x has a slope that is not 0, where (1 - x) (1 + x) has a factor that is.
_AT_AN_END = "absolute(x) == 1"
_ONE_MINUS_SQUARE = f"where({_AT_AN_END}, 1 - x * x, (1 - x) * (1 + x))"
_XLOGY, _XLOG1PY, _OUTSIDE = "(a == 0) & (b <= 0)", "(a == 0) & (b <= -1)", "(a < 0) | (b <= 0)"
_TWICE = {
    ("arcsin", 0): f"1 / sqrt({_ONE_MINUS_SQUARE})",
    ("arccos", 0): f"-1 / sqrt({_ONE_MINUS_SQUARE})",
    ("arctanh", 0): f"where({_AT_AN_END}, reciprocal(1 - square(where({_AT_AN_END}, x, 0))), "
    f"reciprocal(where({_AT_AN_END}, 1, 1 - x)) * reciprocal(where({_AT_AN_END}, 1, 1 + x)))",
    ("arccosh", 0): "reciprocal(sqrt(x - 1)) * reciprocal(sqrt(x + 1))",
    ("arctan", 0): "square(reciprocal(hypot(x, 1)))",
    ("cbrt", 0): "square(reciprocal(y)) / 3",
    ("celu", 0): f"where(a > 0, 1, where({_CELU_CONSTANT}, 0, exp({_CELU_U})))",
    ("celu", 1): f"where(a > 0, 0, where({_CELU_CONSTANT}, -1, expm1({_CELU_U}) - {_CELU_U} * exp({_CELU_U})))",
    ("elu", 0): "where(a > 0, 1, b * exp(where(a > 0, 0, a)))",
    ("elu", 1): "where(a > 0, 0, expm1(where(a > 0, 0, a)))",
    ("selu", 0): "where(x > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * exp(where(x > 0, 0, x)))",
    ("gelu", 0): "erfc(-x * SQRT_HALF) / 2 + x * exp(-square(x) / 2) * ONE_OVER_SQRT_2PI",
    ("hypot", 0): "where(y == 0, 0, a / where(y == 0, 1, y))",
    ("hypot", 1): "where(y == 0, 0, b / where(y == 0, 1, y))",
    ("power", 1): "where(a == 0, 0, power(where(a == 0, 1, a), b) * log(where(a == 0, 1, a)))",
    ("erfinv", 0): "exp(y * y) / TWO_OVER_SQRT_PI",
    ("erfcinv", 0): "-exp(y * y) / TWO_OVER_SQRT_PI",
    ("ndtri", 0): "exp(y * y / 2) / ONE_OVER_SQRT_2PI",
    ("log1mexp", 0): "-exp(-x) / expm1(-x)",
    ("logit", 0): "1 / x + 1 / (1 - x)",
    ("xlogy", 0): f"where({_XLOGY}, 0, log(where({_XLOGY}, 1, b)))",
    ("xlogy", 1): "where((a == 0) & (b == 0), 0, a / where((a == 0) & (b == 0), 1, b))",
    ("xlog1py", 0): f"where({_XLOG1PY}, 0, log1p(where({_XLOG1PY}, 1, b)))",
    ("xlog1py", 1): "where((a == 0) & (b == -1), 0, a / where((a == 0) & (b == -1), 1, 1 + b))",
    ("rel_entr", 0): f"where({_OUTSIDE}, 0, log(where({_OUTSIDE}, 1, a)) - log(where({_OUTSIDE}, 1, b)) + 1)",
    ("rel_entr", 1): f"where({_OUTSIDE}, 0, -a / where({_OUTSIDE}, 1, b))",
    ("kl_div", 0): f"where({_OUTSIDE}, 0, log(where({_OUTSIDE}, 1, a)) - log(where({_OUTSIDE}, 1, b)))",
    ("kl_div", 1): f"where({_OUTSIDE}, 0, 1 - a / where({_OUTSIDE}, 1, b))",
    ("softsign", 0): "square(reciprocal(1 + absolute(x)))",
    ("logaddexp", 0): "sigmoid(where((a == b) & (a - b != 0), 0, a - b))",
    ("logaddexp", 1): "sigmoid(where((a == b) & (a - b != 0), 0, b - a))",
    ("logaddexp2", 0): "sigmoid(where((a == b) & (a - b != 0), 0, a - b) * LN_2)",
    ("logaddexp2", 1): "sigmoid(where((a == b) & (a - b != 0), 0, b - a) * LN_2)",
}


def _power_by_base(a: Tensor, b: Tensor, y: None) -> Tensor:
    """b a^(b - 1), 0 where b is 0. Its own derivatives, too, are 0 by the exponent where the base is 0."""
    if b.size == 1 and not b.requires_grad and not _core.traced(b):  # as in x ** 3
        return b * _core.power(a, b - 1) if b.item() != 0 else b
    zero = b == 0
    b = _core.where(a == 0, b.detach(), b)
    # At b = 0 the same as b / a a^b, whose derivatives by a keep the factor b, where those of a^(b - 1) multiply 0 by
    # infinity. The power of a negative base has no derivatives by b: they are nan.
    base = _core.where(zero & (a != 0), a, 1)
    near_0 = b / base * _core.power(base, b)
    return _core.where(zero, near_0, b * _core.power(a, _core.where(zero, 1, b - 1)))


def _fmod_by_divisor(a: Tensor, b: Tensor, y: None) -> Tensor:
    """Constant between the steps; the quotient's own slope by b may be infinite."""
    return -_core.trunc(a.detach() / b.detach())


def _arctan2_by(letter: str) -> Callable[..., Tensor]:
    """b or -a, over a a + b b. Both are divided by the larger one first, a constant that cancels, so that near (0, 0) a
    factor of 0 does not meet one that overflows."""

    def derivative(a: Tensor, b: Tensor, y: None) -> Tensor:
        size = _core.maximum(_core.absolute(a.detach()), _core.absolute(b.detach()))
        size = _core.where(size < np.inf, size, 1)
        a, b = a / size, b / size
        return (b if letter == "a" else -a) / (a * a + b * b) / size

    return derivative


def _gamma(x: Tensor, y: Tensor) -> Tensor:
    """gamma(x) digamma(x). Where gamma overflows the terms of further derivatives would cancel: it stands for them."""
    gamma = _core.functions["gamma"]
    far = (x > 1) & (y.detach() == np.inf)
    near = _core.where(far, 1, x)
    return _core.where(far, gamma(_core.where(far, x, 1)), gamma(near) * _core.functions["digamma"](near))


def _rgamma(x: Tensor, y: Tensor) -> Tensor:
    """-rgamma(x) digamma(x), or for x < 1/2 the derivative of gamma(1 - x) sin(pi x) / pi, the reflection formula,
    which has no poles. Where gamma(1 - x) is infinite it is the limit of that, a constant."""
    gamma, digamma = _core.functions["gamma"], _core.functions["digamma"]
    far = (x < 0.5) & (gamma(1 - x.detach()) == np.inf)
    left = _core.where((x < 0.5) & ~far, x, 0.25)
    whole = _core.rint(_core.where(x < 0.5, x, 0.25).detach())
    sign = 1 - 2 * (whole - 2 * _core.floor(whole / 2))
    angle = np.pi * (left - _core.where(far, 0, whole))
    slope = gamma(1 - left) * (_core.cos(angle) - _core.sin(angle) * digamma(1 - left) / np.pi)
    right = _core.where(x < 0.5, 1, x)
    apart = np.pi * (x.detach() - whole)
    limit = _core.cos(apart) - _core.sin(apart) * digamma(_core.where(far, 1 - x.detach(), 1)) / np.pi
    return _core.where(
        far,
        sign * limit * np.inf,
        _core.where(x < 0.5, sign * slope, -_core.functions["rgamma"](right) * digamma(right)),
    )


def _bessel_1(sign: int, scaled: bool = False) -> Callable[..., Tensor]:
    """The derivative of j1 (sign -1), i1 or i1e (sign 1): f0(x) - f1(x) / x, near 0 by the series of that (DLMF 10.2.2,
    10.25.2), because further quotients by x would overflow. Where i0 is infinite it stands for its derivatives."""
    terms = [sign**k * (2 * k + 1) / (2 * 4**k * math.factorial(k) * math.factorial(k + 1)) for k in range(6)]

    def derivative(x: Tensor, y: Tensor) -> Tensor:
        f0, f1 = (_core.functions[("i" if sign > 0 else "j") + order] for order in "01")
        near = _core.absolute(x) < 0.1
        far = near & False if scaled or sign < 0 else f0(x.detach()) == np.inf
        z, mid = _core.square(_core.where(near, x, 0)), _core.where(near | far, 1, x)
        series: Any = terms[-1]
        for term in terms[-2::-1]:
            series = series * z + term
        if not scaled:
            return _core.where(near, series, _core.where(far, f0(_core.where(far, x, 0)), f0(mid) - f1(mid) / mid))
        i0e, i1e = _core.functions["i0e"], _core.functions["i1e"]
        small = _core.exp(-_core.absolute(_core.where(near, x, 0))) * series
        slope: Tensor = _core.where(near, small, i0e(mid) - i1e(mid) / mid) - _core.sign(x) * i1e(x)
        return slope

    return derivative


def _erfcx(x: Tensor, y: Tensor) -> Tensor:
    """2 x y - 2 / sqrt(pi), which cancels; for x > 100 by the series in 1 / x (DLMF 7.12.1)."""
    far = x > 100
    near, u = _core.where(far, 0, x), _core.square(_core.reciprocal(_core.where(far, x, 100)))
    series = -u * (1 - u * (1.5 - u * (3.75 - u * (13.125 - u * 59.0625)))) / math.sqrt(np.pi)
    return _core.where(far, series, 2 * near * _core.functions["erfcx"](near) - 2 / math.sqrt(np.pi))


def _log_ndtr(x: Tensor, y: Tensor) -> Tensor:
    """The normal density over the distribution function, to the left by erfcx, and far to the left -x."""
    right, far = x > 0, x < -1e15
    above = _core.minimum(_core.where(right, x, 0), 40)
    density = _core.exp(-above * above / 2) / math.sqrt(2 * np.pi)
    tail = _core.functions["erfcx"](_core.where(right | far, 0, x) * -math.sqrt(0.5))
    ratio = _core.where(right, density / _core.functions["ndtr"](above), math.sqrt(2 / np.pi) / tail)
    return _core.where(far, -x, ratio)


# In place of a text.
_COMPOSED: dict[tuple[str, int], Callable[..., Tensor]] = {
    ("erfcx", 0): _erfcx,
    ("gamma", 0): _gamma,
    ("i1", 0): _bessel_1(1),
    ("i1e", 0): _bessel_1(1, scaled=True),
    ("j1", 0): _bessel_1(-1),
    ("log_ndtr", 0): _log_ndtr,
    ("power", 0): _power_by_base,
    ("rgamma", 0): _rgamma,
    ("fmod", 1): _fmod_by_divisor,
    ("arctan2", 0): _arctan2_by("a"),
    ("arctan2", 1): _arctan2_by("b"),
}
# Beyond this distance from 0 the derivative is constant, but parts of its text overflow, or have no value at infinity.
_FLAT = {"erf": 30, "erfc": 30, "ndtr": 40, "gelu": 40, "gelu_tanh": 30, "silu": 800, "mish": 800}


def of_elementwise(
    op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor | None, *inputs: Tensor | None
) -> Tensor:
    gx: Tensor = g * _derivative(_core.OP_NAMES[op], i, g.dtype.char)(*inputs, y)
    return gx


@cache
def _derivative(name: str, i: int, dtype: str) -> Callable[..., Any]:
    """The text of a row as a function of its letters."""
    if (composed := _COMPOSED.get((name, i))) is not None:
        return composed
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
    return {
        "__builtins__": {}, **constants, **_core.functions, "where": partial(_where, np.dtype(dtype)),
        "polygamma": _polygamma,
    }  # fmt: skip


def _where(dtype: np.dtype[Any], condition: Tensor, a: Any, b: Any) -> Tensor:
    """Choose elements; two plain numbers become tensors of the dtype that the formula is computed in."""
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = np.asarray(a, dtype)
    return _core.where(condition, a, b)


def _polygamma(n: int, x: Tensor) -> Tensor:
    return _core.apply_op(_core.OP_NUMBERS["polygamma"], [x], (n,))


_SOFTMAX, _TRIANGLE, _SOLVE_TRIANGULAR = [
    _core.OP_NUMBERS[name] for name in ("softmax", "triangle", "solve_triangular")
]
RECURRENCE = _core.OP_NUMBERS["recurrence"]


# ---- the rows of structural.def -------------------------------------------------------------------------------------
def _last(x: Tensor) -> Tensor:
    """x with an axis of length 1 behind the others."""
    return x.reshape((*x.shape, 1))


def of_softmax(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: None) -> Tensor:
    return y * (g - (g * y).sum(-1, keepdims=True))


def of_log_softmax(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: None) -> Tensor:
    return g - _core.exp(y) * g.sum(-1, keepdims=True)


def of_logsumexp(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: None, x: Tensor) -> Tensor:
    return _last(g) * _core.apply_op(_SOFTMAX, [x], (1,))  # which is 0 in a row of -inf


def of_cross_entropy(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: None, x: Tensor, labels: Tensor) -> Tensor:
    classes = np.arange(x.shape[-1], dtype=np.float64)
    chosen = _last(labels.astype(np.float64)) == classes  # as floats, which a program can compare
    return _last(g) * (_core.softmax_last(x) - _where(x.dtype, chosen, 1, 0))


def swapped(x: Tensor) -> Tensor:
    """Matrices transposed."""
    return _core.transpose(x, (*range(x.ndim - 2), -1, -2))


def symmetric(x: Tensor) -> Tensor:
    return (x + swapped(x)) * 0.5


def lower_half(x: Tensor) -> Tensor:
    """The lower triangle with its diagonal halved: Murray's function Phi."""
    return _core.apply_op(_TRIANGLE, [x], (0, 0, 1))


def of_cholesky(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: None) -> Tensor:
    """L^-T Phi(L^T g) L^-1, symmetric: Murray, "Differentiation of the Cholesky decomposition" (2016), section 3.2."""
    how = (_core.LOWER | _core.TRANSPOSED,)
    half = _core.apply_op(_SOLVE_TRIANGULAR, [y, lower_half(swapped(y) @ g)], how)
    return symmetric(_core.apply_op(_SOLVE_TRIANGULAR, [y, swapped(half)], how))


def of_extremum(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Elements that tie share the cotangent. There is a nan only where the extremum is nan."""
    axes = tuple(k for k in range(x.ndim) if attr[0] >> k & 1)
    kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    hit = (x == y.reshape(kept)) | (x != x)
    ties = _where(x.dtype, hit, 1, 0).sum(axes, keepdims=True)
    return _core.where(hit, g.reshape(kept) / ties, 0)


def ties_of_cummax(axis: int, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of running maxima y: 1 where an element ties for the maximum so far, else 0; and 1 where the maximum is the same
    as one place before, else 0."""
    ties = _where(x.dtype, (x == y) | (x != x), 1, 0)
    all_before = (slice(None),) * axis
    after, before = y[(*all_before, slice(1, None))], y[(*all_before, slice(None, -1))]
    goes_on = _where(x.dtype, (after == before) | ((after != after) & (before != before)), 1, 0)
    first = np.zeros((*y.shape[:axis], min(y.shape[axis], 1), *y.shape[axis + 1 :]), x.dtype)
    return ties, _core.concatenate([first, goes_on], axis)


def of_cummax(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Elements that tie for the maximum share its cotangent, as in `of_extremum`."""
    ties, goes_on = ties_of_cummax(attr[0], y, x)
    count = _core.apply_op(RECURRENCE, [goes_on, ties], (attr[0], 0))
    return ties * _core.apply_op(RECURRENCE, [goes_on, g / count], (attr[0], 1))
