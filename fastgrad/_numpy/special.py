"""Special functions by SciPy's names: those of the table of elementwise operations, and what is composed of them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import (
    Tensor,
    absolute,
    asarray,
    betaln,
    digamma,
    entr,
    erf,
    erfc,
    erfcinv,
    erfcx,
    erfinv,
    gamma,
    gammaln,
    i0,
    i0e,
    i1,
    i1e,
    j0,
    j1,
    kl_div,
    log1mexp,
    log_ndtr,
    logit,
    ndtr,
    ndtri,
    normal_axes,
    rel_entr,
    rgamma,
    stirling_error,
    where,
    xlog1py,
    xlogy,
)
from . import neural
from .creation import floating
from .elementwise import sinc
from .neural import logsumexp

if TYPE_CHECKING:
    from .typing import Axis, TensorLike

__all__ = [
    "beta", "betaln", "binom", "digamma", "entr", "erf", "erfc", "erfcinv", "erfcx", "erfinv", "expit", "gamma",
    "gammaln", "gammasgn", "i0", "i0e", "i1", "i1e", "j0", "j1", "kl_div", "log1mexp", "log_binom", "log_expit",
    "log_ndtr", "log_softmax", "logit", "logsumexp", "multigammaln", "ndtr", "ndtri", "polygamma", "psi", "rel_entr",
    "rgamma", "sinc", "softmax", "stirling_error", "xlog1py", "xlogy",
]  # fmt: skip

psi, expit, log_expit = digamma, _core.sigmoid, _core.log_sigmoid


# ---- the gamma function ------------------------------------------------------------------------------------------
_MAX_ORDER = 100_000  # the kernel adds as many terms for an element, and cannot be interrupted meanwhile


def polygamma(n: Any, x: TensorLike) -> Tensor:
    """The derivative of order n of ``digamma``, elementwise. Its derivative by x is that of order n + 1.

    n is a whole number from 0 to 100,000, or an ndarray of some, which broadcasts with x; an element takes time in
    proportion to n. Raises TypeError for an order that is differentiated or traced, and ValueError for one that is
    negative, greater or not whole. For n from 2 on an error is at most 4 n ULP for x > 0; below 0, of the largest of
    the terms that the formula of reflection adds.

    >>> import fastgrad as fg
    >>> fg.special.polygamma(1, [1.0, 2.0]).numpy().round(4)
    array([1.6449, 0.6449])
    """
    if isinstance(n, Tensor):
        if n.requires_grad or _core.traced(n):
            raise TypeError(
                "polygamma: the order n must be a constant: there is no derivative by it, and it is not traced; "
                f"got {'a tensor that requires gradients' if n.requires_grad else 'a traced tensor'}"
            )
        n = n.numpy()
    orders = np.asarray(n)
    if orders.dtype.kind not in "iuf" or not ((orders >= 0) & (orders <= _MAX_ORDER)).all() or (orders % 1).any():
        raise ValueError(f"polygamma: expected whole orders from 0 to {_MAX_ORDER}, got {n!r}")
    x = floating(x)
    if orders.ndim == 0:
        return _of_order(int(orders), x)
    y = asarray(np.zeros(np.broadcast_shapes(orders.shape, x.shape), x.dtype))
    for order in np.unique(orders):
        y = where(orders == order, _of_order(int(order), x), y)
    return y


def _of_order(n: int, x: Tensor) -> Tensor:
    if n < 2:
        return _core.trigamma(x) if n else digamma(x)
    return _core.apply_op(_core.OP_NUMBERS["polygamma"], [x], (n,))


def multigammaln(a: TensorLike, d: int) -> Tensor:
    """Logarithm of the multivariate gamma function of dimension d, for a > (d - 1) / 2, elementwise.

    ``d (d - 1) / 4 log(pi)`` plus the sum of ``gammaln(a - j / 2)`` for j = 0 ... d - 1 (Anderson, "An introduction to
    multivariate statistical analysis", 7.2). nan for a smaller a, where SciPy raises an error. Raises ValueError for a
    d that is not a positive integer.

    >>> import fastgrad as fg
    >>> round(fg.special.multigammaln(3.0, 2).item(), 4)
    1.5502
    """
    try:
        dimension = operator.index(d)
    except TypeError as error:
        if isinstance(error, _core.TraceError):
            raise
        dimension = 0
    if dimension < 1:
        raise ValueError(f"multigammaln: expected a dimension of at least 1, got d={d!r}")
    a, d = floating(a), dimension
    half = np.arange(d, dtype=a.dtype) / 2
    y = gammaln(a.reshape((*a.shape, 1)) - half).sum(-1) + d * (d - 1) / 4 * float(np.log(np.pi))
    return where(a > (d - 1) / 2, y, np.nan)


def gammasgn(x: TensorLike) -> Tensor:
    """The sign of the gamma function, 1 or -1; nan at the negative integers. It has no gradient.

    >>> import fastgrad as fg
    >>> fg.special.gammasgn([0.5, -0.5, -1.5])
    tensor([ 1., -1.,  1.])
    """
    x = floating(x).detach()
    whole = _core.floor(x)
    below = where(whole == x, np.nan, 1 - 2 * _core.remainder(whole, 2))
    return where(x == 0, _core.copysign(1, x), where(x > 0, 1, below))


def beta(a: TensorLike, b: TensorLike) -> Tensor:
    """The beta function ``gamma(a) gamma(b) / gamma(a + b)``, elementwise.

    It is the exponential of ``betaln``, and errs by about as many ULP more as that is large. Where an argument is a
    negative whole number it is the limit along that argument, as SciPy's: finite if the other one is whole and above 0
    and the sum is below 1, else infinite. There is no derivative by the other one there: it is nan.

    >>> import fastgrad as fg
    >>> fg.special.beta([2.0, -0.5, -2.0], [3.0, -0.5, 1.0]).numpy().round(4)
    array([ 0.0833,  0.    , -0.5   ])
    """
    dtype, (a, b) = _core.promoted("beta", a, b)
    below = ((a < 0) & (b != 0)) | ((b < 0) & (a != 0)) | ((a == 0) & (b < 0)) | ((a < 0) & (b == 0))
    if not _core.traced(below) and not below.numpy().any():
        return _core.exp(betaln(a, b))
    # Below 0 there are zeros, where a + b is a pole, whose slope the logarithm does not have.
    a_whole, b_whole = (a <= 0) & (_core.floor(a) == a), (b <= 0) & (_core.floor(b) == b)
    at_pole = below & (a_whole | b_whole) & (a == a) & (b == b)
    limit = _beta_at_poles(where(at_pole, where(a_whole, a, b), -1), where(at_pole, where(a_whole, b, a), 1))
    a, b = where(at_pole, 1, a), where(at_pole, 1, b)
    most = 12 if dtype == np.float32 else 50
    small = below & (absolute(a) <= most) & (absolute(b) <= most)
    p, q = where(small, a, 1), where(small, b, 1)
    product = gamma(p) * rgamma(p + q) * gamma(q)  # in an order that does not overflow next to 0
    a, b = where(small, 1, a), where(small, 1, b)
    logarithm, sign = betaln(a, b), gammasgn(a) * gammasgn(b) * gammasgn(a + b)
    y = where(small, product, _core.exp(logarithm) * where((sign != sign) & (logarithm == -np.inf), 1, sign))
    return where(at_pole, limit, y)


def _beta_at_poles(a: Tensor, b: Tensor) -> Tensor:
    """The limits of beta along a, at whole numbers a <= 0: where b is whole, too, beta(a, b) is ``(-1)^b beta(1 - a -
    b, b)`` for every a (DLMF 5.5.3)."""
    c, fixed = 1 - a - b.detach(), b.detach()
    is_whole = (_core.floor(fixed) == fixed) & (absolute(fixed) < np.inf) & (c > 0) & (c < np.inf)
    sign = where(is_whole & (_core.remainder(where(is_whole, fixed, 0), 2) == 1), -1.0, 1.0)
    is_finite = is_whole & (fixed > 0)
    y = where(is_finite, _core.exp(betaln(where(is_finite, c, 1), where(is_finite, fixed, 1))), np.inf)
    none = _core.sqrt(where(absolute(fixed) < np.inf, b - fixed, 0.0)) * 0.0  # makes the slope by b nan
    # The slope by a is nan, too, where the limit is infinite.
    at_infinity = _core.sqrt(where(is_finite, 1.0, where(c < np.inf, a - a.detach(), 0.0))) * 0.0
    return _core.astype(sign, y.dtype) * y + none + at_infinity


def log_binom(n: TensorLike, k: TensorLike) -> Tensor:
    """Logarithm of the binomial coefficient of n and k for 0 <= k <= n, which need not be whole.

    ``-log(n + 1) - betaln(n - k + 1, k + 1)``.

    >>> import fastgrad as fg
    >>> round(fg.special.log_binom(5.0, 2.0).item(), 4)
    2.3026
    """
    _, (n, k) = _core.promoted("log_binom", n, k)
    return -_core.log1p(n) - betaln(n - k + 1, k + 1)


def binom(n: TensorLike, k: TensorLike) -> Tensor:
    """The binomial coefficient of n and k, which need not be whole, as ``scipy.special.binom``.

    ``gamma(n + 1) / (gamma(k + 1) gamma(n - k + 1))``, also outside of 0 <= k <= n; nan for negative whole n. Where n
    or k is above 50 in absolute value, in float32 above 12, it is the exponential of the logarithm, with a derivative
    of nan where the coefficient is 0.

    >>> import fastgrad as fg
    >>> fg.special.binom([5.0, 5.0], [2.0, 6.5]).numpy().round(4)
    array([10.    , -0.0181])
    """
    dtype, (n, k) = _core.promoted("binom", n, k)
    most = 12 if dtype == np.float32 else 50
    small = (absolute(n) <= most) & (absolute(k) <= most)
    few, chosen = where(small, n, 1), where(small, k, 1)
    y = gamma(where(few == -1, np.nan, few + 1)) * rgamma(chosen + 1) * rgamma(few - chosen + 1)
    if not _core.traced(small) and small.numpy().all():
        return y
    # What has no logarithm: a coefficient of 0, and the limit for infinite n.
    whole, ends = _core.floor(n) == n, (k == _core.floor(k)) & (k < 0)
    none = (ends | (absolute(k) == np.inf)) & ~((n < 0) & whole) & ((absolute(n) < np.inf) | ends) & (n == n)
    limit = (n == np.inf) & (absolute(k) < np.inf) & ~ends
    number = y.dtype.type
    at_limit = where(k > 0, number(np.inf), where(k == 0, number(1), number(0)))
    at_pole = (n < 0) & (n > -np.inf) & whole & (k == k)
    known = small | none | limit | at_pole
    n, k = where(known, most, n), where(known, 1, k)
    rest = n - k
    positive = where(n > -1, n, 1)
    large = where(
        n > -1, -_core.log1p(positive) - betaln(rest + 1, k + 1), gammaln(n + 1) - gammaln(k + 1) - gammaln(rest + 1)
    )
    sign = gammasgn(n + 1) * gammasgn(k + 1) * gammasgn(rest + 1)
    large = _core.exp(large) * where((sign != sign) & (large == -np.inf), 1, sign)
    return where(small, y, where(none, 0.0, where(limit, at_limit, where(at_pole, np.nan, large))))


# ---- sums of exponentials ----------------------------------------------------------------------------------------
def softmax(x: TensorLike, axis: Axis = None) -> Tensor:
    """``exp(x) / sum(exp(x))`` over axes; over all by default, as SciPy's. ``fastgrad.softmax`` takes the last axis.

    Raises ValueError for axes that x does not have.

    >>> import fastgrad as fg
    >>> fg.special.softmax([[0.0, 0.0], [0.0, 0.0]])
    tensor([[0.25, 0.25],
            [0.25, 0.25]])
    """
    return _over(x, axis, "softmax", neural.softmax)


def log_softmax(x: TensorLike, axis: Axis = None) -> Tensor:
    """Logarithm of ``softmax`` over axes; over all by default.

    Raises ValueError for axes that x does not have.

    >>> import fastgrad as fg
    >>> fg.special.log_softmax([0.0, -1000.0])
    tensor([    0., -1000.])
    """
    return _over(x, axis, "log_softmax", neural.log_softmax)


def _over(x: TensorLike, axis: Axis, name: str, function: Any) -> Tensor:
    """A function of one axis over several, which are joined to one at the end."""
    x = floating(x)
    axes = normal_axes(axis, x.ndim, name)
    if len(axes) == 1:
        return function(x, axes[0])  # type: ignore[no-any-return]
    order = tuple([i for i in range(x.ndim) if i not in axes]) + axes
    moved = _core.transpose(x, order)
    y = function(moved.reshape((*moved.shape[: x.ndim - len(axes)], -1 if x.size else 0)), -1).reshape(moved.shape)
    return _core.transpose(y, tuple(np.argsort(order)))
