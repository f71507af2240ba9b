"""The incomplete gamma and beta functions, their inverses, and Student's t distribution: SciPy's values, with
derivatives by every argument, and logarithms that are finite where the functions underflow.

With the density p of the distribution whose function this is, the derivative by x is p, and that by a shape parameter p
times an integral (incomplete_integrals.py, gamma_slope.py). The derivatives of both are closed again. An inverse has
the reciprocal of the derivative of its function.

Source: NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov, 8.8 and 8.17.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from .._core import Tensor, asarray, betaln, digamma, exp, log, log1p, square, where
from .._rules.host import HostElementwise
from . import incomplete_integrals as integrals
from .gamma_slope import log_quantile_slope
from .scipy_calls import by_scipy, call, common, scipy_special
from .special import polygamma

if TYPE_CHECKING:
    from .typing import TensorLike

__all__ = [
    "betainc", "betaincc", "betainccinv", "betaincinv", "gammainc", "gammaincc", "gammainccinv", "gammaincinv", "stdtr",
    "stdtrit",
]  # fmt: skip


class IncompleteFunction(NamedTuple):
    """The rows of an incomplete function, of its complement to 1, and of the logarithms of both."""

    below: HostElementwise
    above: HostElementwise
    log_below: HostElementwise
    log_above: HostElementwise


def _inside(x: Any, value: Any) -> Any:
    """The value where x is above 0 and finite, else 0."""
    return where((x > 0) & (x < np.inf), value, 0.0)


def _number_inside(x: Any) -> Any:
    """x where it is above 0 and finite, else 1."""
    return where((x > 0) & (x < np.inf), x, 1.0)


# ---- the incomplete gamma function -----------------------------------------------------------------------------------
def _by_a(a: Any, x: Any) -> Any:
    """The derivative of log(x^a e^-x / Gamma(a)) by a."""
    return log(x) - digamma(a)


_GAMMA_LOG_DENSITY = HostElementwise(
    "gamma_log_density", integrals.gamma_log_density,
    [lambda y, a, x: _by_a(a, x), lambda y, a, x: where(a == 1, 0.0, (a - 1) / where(a == 1, 1.0, x)) - 1],
)  # fmt: skip


def gamma_quantile_slope(a: Any, x: Any) -> Any:
    """The derivative by a of the quantile x of the gamma distribution of shape a, that is, of the x at which
    gammainc(a, x) has a fixed value, for operands of one float dtype; 0 where x is 0 or infinite."""
    z = _number_inside(x)
    return _inside(x, z * _core.astype(log_quantile_slope(a, log(z)), z.dtype))


def _gamma_rows(name: str, is_upper: bool, f: Callable[..., Any]) -> tuple[HostElementwise, HostElementwise]:
    """The rows of gammainc or gammaincc, and of its logarithm."""
    s = -1.0 if is_upper else 1.0

    def by_a(y: Any, a: Any, x: Any, of_log: bool = False) -> Any:
        log_density = _GAMMA_LOG_DENSITY.at(a, _number_inside(x))
        return (_ratio(log_density, y) if of_log else exp(log_density)) * gamma_quantile_slope(a, x) * -s

    def by_x(y: Any, a: Any, x: Any) -> Any:
        return s * exp(_GAMMA_LOG_DENSITY.at(a, x))

    def log_by_x(y: Any, a: Any, x: Any) -> Any:
        return s * _ratio(_GAMMA_LOG_DENSITY.at(a, x), y)

    def log_f(a: Any, x: Any) -> Any:
        a, x = (np.asarray(z, np.float64) for z in (a, x))

        def tail() -> Any:
            log_q = integrals.gamma_log_density(a, x) + np.log(x)
            return log_q + np.log(s * integrals.gamma_tail(a, x))

        p, q = scipy_special().gammainc(a, x), scipy_special().gammaincc(a, x)
        return _log(q, p, tail) if is_upper else _log(p, q, tail)

    return (
        HostElementwise(name, f, [by_a, by_x]),
        HostElementwise(f"log_{name}", log_f, [functools.partial(by_a, of_log=True), log_by_x]),
    )


def _at_most_1(name: str) -> Callable[..., Any]:
    """SciPy's function, which for a tiny shape is 1 + 2e-14."""
    f = by_scipy(name)
    return lambda *arrays: np.minimum(f(*arrays), 1)


def _ratio(log_density: Any, log_probability: Any) -> Any:
    """The derivative of the logarithm of a probability; infinite where that is 0."""
    none = log_probability == -np.inf
    return exp(where(none, np.inf, log_density - where(none, 0.0, log_probability)))


def _log(p: Any, q: Any, tail: Callable[[], Any]) -> Any:
    """The logarithm of a probability p whose complement is q. Where p is too small for a float, it is what ``tail``
    returns; that is right for the smaller tail."""
    with np.errstate(all="ignore"):
        y = np.where(p < 0.5, np.log(p), np.log1p(-q))
        small = p < 1e-290
        if small.any():
            at_ends = tail()
            y = np.where(small & (q == 1) & ~np.isnan(at_ends), at_ends, y)
    return np.minimum(y, 0)


GAMMAINC, LOG_GAMMAINC = _gamma_rows("gammainc", False, _at_most_1("gammainc"))
GAMMAINCC, LOG_GAMMAINCC = _gamma_rows("gammaincc", True, _at_most_1("gammaincc"))
LOWER_GAMMA = IncompleteFunction(GAMMAINC, GAMMAINCC, LOG_GAMMAINC, LOG_GAMMAINCC)
UPPER_GAMMA = IncompleteFunction(GAMMAINCC, GAMMAINC, LOG_GAMMAINCC, LOG_GAMMAINC)


def _reciprocal_gamma_density(a: Any, x: Any) -> Any:
    """The derivative of the quantile x by its probability; 0 where x is 0 because it is too small for a float."""
    none = (x == 0) & (a < 1)
    return where(none, 0.0, exp(-_GAMMA_LOG_DENSITY.at(a, where(none, 1.0, x))))


_GAMMAINCINV, _GAMMAINCCINV = [
    HostElementwise(
        name, by_scipy(name),
        [lambda y, a, p: gamma_quantile_slope(a, y), lambda y, a, p, s=s: s * _reciprocal_gamma_density(a, y)],
    )
    for name, s in (("gammaincinv", 1.0), ("gammainccinv", -1.0))
]  # fmt: skip


def gammainc(a: TensorLike, x: TensorLike) -> Tensor:
    """The regularized lower incomplete gamma function: the integral of ``t^(a-1) e^-t`` from 0 to x, over ``gamma(a)``.

    For a > 0 and x >= 0, elementwise; differentiable by both. Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.gammainc(1.0, 2.0).numpy().round(4)
    np.float64(0.8647)
    """
    return call(GAMMAINC, a, x)


def gammaincc(a: TensorLike, x: TensorLike) -> Tensor:
    """The regularized upper incomplete gamma function, ``1 - gammainc(a, x)``, accurate where it is small.

    For a > 0 and x >= 0, elementwise; differentiable by both. Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.gammaincc(1.0, 2.0).numpy().round(4)
    np.float64(0.1353)
    """
    return call(GAMMAINCC, a, x)


def gammaincinv(a: TensorLike, y: TensorLike) -> Tensor:
    """The x at which ``gammainc(a, x)`` is y, for a > 0 and y from 0 to 1, elementwise; differentiable by both.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.gammaincinv(1.0, 0.5).numpy().round(4)
    np.float64(0.6931)
    """
    return call(_GAMMAINCINV, a, y)


def gammainccinv(a: TensorLike, y: TensorLike) -> Tensor:
    """The x at which ``gammaincc(a, x)`` is y, for a > 0 and y from 0 to 1, elementwise; differentiable by both.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.gammainccinv(1.0, 1e-20).numpy().round(4)
    np.float64(46.0517)
    """
    return call(_GAMMAINCCINV, a, y)


# ---- the incomplete beta function ------------------------------------------------------------------------------------
# Its rows have both x and y = 1 - x, each of which is exact where it is small; y has no derivative of its own, and that
# of x is the derivative along the line on which x + y = 1.
def _by_a_or_b(a: Any, b: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The derivatives of log(x^a y^b / B(a, b)) by a and b."""
    of_sum = digamma(a + b)
    return log(x) - digamma(a) + of_sum, log(y) - digamma(b) + of_sum


def _beta_slope_by_x(z: Any, a: Any, b: Any, x: Any, y: Any, j: int, k: int) -> Any:
    by_a, by_b = _by_a_or_b(a, b, x, y)

    def cumulant(p: int, q: int) -> Any:
        if p + q == 1:
            return by_a if p else by_b
        own = polygamma(p - 1, a) if q == 0 else polygamma(q - 1, b) if p == 0 else 0.0
        return polygamma(p + q - 1, a + b) - own

    return (integrals.bell_2(j, k, cumulant) - z * (a * y - b * x)) / (x * y)


_BETA_SLOPE: HostElementwise = HostElementwise(
    "beta_slope", integrals.beta_slope,
    [
        lambda z, a, b, x, y, j, k: _BETA_SLOPE.at(a, b, x, y, j=j + 1, k=k) - z * _by_a_or_b(a, b, x, y)[0],
        lambda z, a, b, x, y, j, k: _BETA_SLOPE.at(a, b, x, y, j=j, k=k + 1) - z * _by_a_or_b(a, b, x, y)[1],
        _beta_slope_by_x,
        None,
    ],
)  # fmt: skip
_BETA_LOG_DENSITY = HostElementwise(
    "beta_log_density", integrals.beta_log_density,
    [
        lambda z, a, b, x, y: _by_a_or_b(a, b, x, y)[0],
        lambda z, a, b, x, y: _by_a_or_b(a, b, x, y)[1],
        lambda z, a, b, x, y: _over(a - 1, x) - _over(b - 1, y),
        None,
    ],
)  # fmt: skip


def _over(a: Any, x: Any) -> Any:
    """a / x, and 0 where a is."""
    return where(a == 0, 0.0, a / where(a == 0, 1.0, x))


def _pair_inside(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Where x and y = 1 - x are both above 0; and x and y, with 0.5 elsewhere."""
    inside = (x > 0) & (y > 0)
    return inside, where(inside, x, 0.5), where(inside, y, 0.5)


def _beta_quantile_slope(a: Any, b: Any, x: Any, y: Any, of_b: bool) -> Any:
    """The derivative by a, or by b, of the quantile x, at which betainc(a, b, x) has a fixed value; 0 at both ends."""
    inside, x, y = _pair_inside(x, y)
    return where(inside, -x * y * _BETA_SLOPE.at(a, b, x, y, j=1 - of_b, k=int(of_b)), 0.0)


def _lower_beta(a: Any, b: Any, x: Any, y: Any) -> Any:
    special = scipy_special()
    p = np.where(x <= 0.5, special.betainc(a, b, x), special.betaincc(b, a, y))
    return _where_it_is_nan(p, a, b, x, y, lambda tail: np.where(tail < 0, 1 + tail, tail))


def _upper_beta(a: Any, b: Any, x: Any, y: Any) -> Any:
    special = scipy_special()
    p = np.where(y < 0.5, special.betainc(b, a, y), special.betaincc(a, b, x))
    return _where_it_is_nan(p, a, b, x, y, lambda tail: np.where(tail < 0, -tail, 1 - tail))


def _where_it_is_nan(p: Any, a: Any, b: Any, x: Any, y: Any, part: Callable[[Any], Any]) -> Any:
    """p, and where SciPy's p is nan for arguments that are not, the part that follows from the smaller tail, which
    comes with a minus where it is the upper one."""
    wrong = np.isnan(p) & (a > 0) & (b > 0) & (x > 0) & (y > 0)
    if not wrong.any():
        return p
    a, b, x, y = (np.broadcast_to(z, p.shape)[wrong].astype(np.float64) for z in (a, b, x, y))
    with np.errstate(all="ignore"):
        log_q = integrals.beta_log_density(a, b, x, y) + np.log(x) + np.log(y)
        p[wrong] = part(np.exp(log_q) * integrals.beta_slope(a, b, x, y, 0, 0))
    return p


def _beta_rows(name: str, is_upper: bool) -> tuple[HostElementwise, HostElementwise]:
    """The rows of betainc or betaincc, and of its logarithm."""
    s = -1.0 if is_upper else 1.0

    def by_shape(z: Any, a: Any, b: Any, x: Any, y: Any, of_b: bool, of_log: bool) -> Any:
        log_density = _BETA_LOG_DENSITY.at(a, b, *_pair_inside(x, y)[1:])
        return (_ratio(log_density, z) if of_log else exp(log_density)) * _beta_quantile_slope(a, b, x, y, of_b) * -s

    def by_x(z: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
        return s * exp(_BETA_LOG_DENSITY.at(a, b, x, y))

    def log_by_x(z: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
        return s * _ratio(_BETA_LOG_DENSITY.at(a, b, x, y), z)

    def f(a: Any, b: Any, x: Any, y: Any) -> Any:
        return (_upper_beta if is_upper else _lower_beta)(a, b, x, y)

    def log_f(a: Any, b: Any, x: Any, y: Any) -> Any:
        a, b, x, y = (np.asarray(z, np.float64) for z in (a, b, x, y))

        def tail() -> Any:
            log_q = integrals.beta_log_density(a, b, x, y) + np.log(x) + np.log(y)
            return log_q + np.log(s * integrals.beta_slope(a, b, x, y, 0, 0))

        p, q = f(a, b, x, y), f(b, a, y, x)
        return _log(p, q, tail)

    def row(name: str, f: Callable[..., Any], slope: Callable[..., Any], of_log: bool) -> HostElementwise:
        by_a, by_b = (functools.partial(by_shape, of_b=of_b, of_log=of_log) for of_b in (False, True))
        return HostElementwise(name, f, [by_a, by_b, slope, None])

    return row(name, f, by_x, False), row(f"log_{name}", log_f, log_by_x, True)


BETAINC, LOG_BETAINC = _beta_rows("betainc", False)
BETAINCC, LOG_BETAINCC = _beta_rows("betaincc", True)
LOWER_BETA = IncompleteFunction(BETAINC, BETAINCC, LOG_BETAINC, LOG_BETAINCC)


def _beta_inverse(name: str) -> Callable[..., Any]:
    """SciPy's inverse; where it is so near the end that p leads to that only the leading term of its series counts, and
    SciPy's may be nan or the smallest normal number, that term."""
    f, is_upper = by_scipy(name), name == "betainccinv"

    def inverse(a: Any, b: Any, p: Any) -> Any:
        x = np.asarray(f(a, b, p))
        near = ~(x < 1) if is_upper else ~(x > 1e-18)
        small = near & (p > 0) & (p < 0.5) & (a > 0) & (b > 0)
        if not small.any():
            return x
        q, a, b = (np.broadcast_to(z, x.shape)[small].astype(np.float64) for z in (p, a, b))
        power = b if is_upper else a
        with np.errstate(all="ignore"):
            distance = np.exp((np.log(q) + np.log(power) + betaln(a, b).numpy()) / power)
        x[small] = np.where(distance < 1e-16, 1 - distance if is_upper else distance, x[small])
        return x

    return inverse


def _reciprocal_beta_density(a: Any, b: Any, x: Any, p: Any, is_upper: bool) -> Any:
    """The derivative of the quantile x by its lower probability; where x has been rounded to an end, by the leading
    term of the series there."""
    inside, y = (p > 0) & (p < 1), 1 - x
    at_end = inside & ((x == 0) | (y == 0))
    from_0 = at_end & (x == 0)
    power, p = where(from_0, a, b), where(inside, p, 0.5)
    log_p = where(from_0, log1p(-p), log(p)) if is_upper else where(from_0, log(p), log1p(-p))
    leading = ((1 - power) * log_p + betaln(a, b) + log(power)) / power - log(power)
    inner = where(at_end, 0.5, x)
    return exp(where(at_end, leading, -_BETA_LOG_DENSITY.at(a, b, inner, 1 - inner)))


_BETAINCINV, _BETAINCCINV = [
    HostElementwise(
        name, _beta_inverse(name),
        [lambda x, a, b, p: _beta_quantile_slope(a, b, x, 1 - x, False),
         lambda x, a, b, p: _beta_quantile_slope(a, b, x, 1 - x, True),
         lambda x, a, b, p, s=s: s * _reciprocal_beta_density(a, b, x, p, s < 0)],
    )
    for name, s in (("betaincinv", 1.0), ("betainccinv", -1.0))
]  # fmt: skip


def betainc(a: TensorLike, b: TensorLike, x: TensorLike) -> Tensor:
    """The regularized incomplete beta function: the integral of ``t^(a-1) (1-t)^(b-1)`` from 0 to x, over ``beta(a,
    b)``.

    For a, b > 0 and x from 0 to 1, elementwise; differentiable by all three. Calls SciPy, and raises ImportError
    without it.

    >>> import fastgrad as fg
    >>> fg.special.betainc(2.0, 1.0, 0.5).numpy().round(4)
    np.float64(0.25)
    """
    p, q, z = common("betainc", a, b, x)
    return BETAINC.at(p, q, z, 1 - z)


def betaincc(a: TensorLike, b: TensorLike, x: TensorLike) -> Tensor:
    """The complement of the regularized incomplete beta function, ``1 - betainc(a, b, x)``, accurate where it is small.

    For a, b > 0 and x from 0 to 1, elementwise; differentiable by all three. Calls SciPy, and raises ImportError
    without it.

    >>> import fastgrad as fg
    >>> fg.special.betaincc(2.0, 1.0, 0.5).numpy().round(4)
    np.float64(0.75)
    """
    p, q, z = common("betaincc", a, b, x)
    return BETAINCC.at(p, q, z, 1 - z)


def betaincinv(a: TensorLike, b: TensorLike, y: TensorLike) -> Tensor:
    """The x at which ``betainc(a, b, x)`` is y, for a, b > 0 and y from 0 to 1, elementwise; differentiable by all
    three.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.betaincinv(2.0, 1.0, 0.25).numpy().round(4)
    np.float64(0.5)
    """
    return call(_BETAINCINV, a, b, y)


def betainccinv(a: TensorLike, b: TensorLike, y: TensorLike) -> Tensor:
    """The x at which ``betaincc(a, b, x)`` is y, for a, b > 0 and y from 0 to 1, elementwise; differentiable by all
    three.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.betainccinv(2.0, 1.0, 0.75).numpy().round(4)
    np.float64(0.5)
    """
    return call(_BETAINCCINV, a, b, y)


# ---- Student's t distribution ----------------------------------------------------------------------------------------
def t_log_density(df: Any, t: Any) -> Any:
    """The logarithm of the density of Student's t distribution, which for an infinite df is the normal one."""
    is_normal = df == np.inf
    df = where(is_normal, 1.0, df)
    y = -(df + 1) / 2 * log1p_square(t / _core.sqrt(df)) - (betaln(df / 2, 0.5) + log(df) / 2)
    return where(is_normal, -0.5 * square(t) - 0.5 * math.log(2 * math.pi), y)


def log1p_square(x: Tensor) -> Tensor:
    """``log(1 + x^2)``, which does not overflow."""
    far = _core.absolute(x) > 1
    large = where(far, x, 1.0)
    return log1p(square(where(far, 1 / large, x))) + 2 * log(_core.absolute(large))


def _t_quantile_slope(df: Any, t: Any) -> Any:
    """The derivative by df of the quantile t, at which stdtr(df, t) has a fixed value. With x = df / (df + t^2) the
    smaller tail is betainc(df / 2, 1 / 2, x) / 2."""
    most = float(np.finfo(t.dtype).max) ** 0.4  # so that t^2 / df does not overflow
    ratio = square(_core.maximum(_core.minimum(where(t == 0, 1.0, t), most), -most)) / df
    x = 1 / (1 + ratio)
    half = asarray(np.asarray(0.5, t.dtype))
    return t * (0.5 / df + 0.25 * _BETA_SLOPE.at(df / 2, half, x, ratio * x, j=1, k=0))


def _stdtr(df: Any, t: Any) -> Any:
    df, t = (np.asarray(z, np.float64) for z in (df, t))
    tail, usual = 0.5 * _t_tail(df, t), (df > 0) & (df < 1e10) & (np.abs(t) < np.inf)
    y = np.where(t < 0, tail, 1 - tail)
    return y if usual.all() else np.where(usual, y, scipy_special().stdtr(df, t))


def _t_tail(df: Any, t: Any) -> Any:
    """Twice the smaller tail."""
    df = np.where(df > 0, np.maximum(df, 1e-323), df)  # half of which is above 0
    with np.errstate(all="ignore"):
        ratio = t / df * t
        x, y = 1 / (1 + ratio), 1 / (1 + 1 / ratio)
        special = scipy_special()
        tail = np.where(x <= 0.5, special.betainc(df / 2, 0.5, x), special.betaincc(0.5, df / 2, y))
        far = (x < 1e-290) & (np.abs(t) < np.inf) & (df > 0)
        return np.where(far, 2 * np.exp(_log_far_t_tail(df, t)), tail) if far.any() else tail


def _log_far_t_tail(df: Any, t: Any) -> Any:
    """The leading term of the logarithm of the smaller tail, which is a multiple of t^-df, where t^2 / df is large."""
    log_root = np.log(np.abs(t)) - 0.5 * np.log(df)
    return -df * log_root - np.log(df) - betaln(df / 2, 0.5).numpy()


def _log_stdtr(df: Any, t: Any) -> Any:
    df, t = np.broadcast_arrays(*[np.asarray(z, np.float64) for z in (df, t)])
    tail = 0.5 * _t_tail(df, t)

    def far() -> Any:
        """The tail by integration, and by its leading term where df does not count beside t^2."""
        log_root = np.log(np.abs(t)) - 0.5 * np.log(df)
        log_x = -np.logaddexp(0, 2 * log_root)
        x, y = np.exp(log_x), -np.expm1(log_x)
        a, half = df / 2, np.full(df.shape, 0.5)
        log_q = integrals.beta_log_density(a, half, x, y) + np.log(x) + np.log(y)
        integral = log_q + np.log(0.5 * integrals.beta_slope(a, half, x, y, 0, 0))
        return np.where(log_root > 40, _log_far_t_tail(df, t), integral)

    with np.errstate(all="ignore"):
        small, log_tail = tail < 1e-290, np.log(tail)
        if small.any():
            log_tail = np.where(small, far(), log_tail)
            tail = np.where(small, np.exp(log_tail), tail)
        y = np.where(t < 0, log_tail, np.log1p(-tail))
        usual = (df > 0) & (df < np.inf) & (np.abs(t) < np.inf)
        if usual.all():
            return y
        other = np.where(df == np.inf, _core.log_ndtr(t).numpy(), np.log(scipy_special().stdtr(df, t)))
        return np.where(usual, y, other)


def _stdtrit(df: Any, p: Any) -> Any:
    """SciPy's; far out the leading term of the series of the tail, where SciPy's may be infinite, of either sign; and
    the infinite quantiles of 0 and 1, where some of its versions have nan or the other sign."""
    inner = np.asarray(scipy_special().stdtrit(df, p))
    tail = np.minimum(p, 1 - p)
    far = (tail < 1e-30) & (tail > 0) & (df > 0) & (df < 1e3)
    if far.any():
        of, q, lower = (np.broadcast_to(z, inner.shape)[far] for z in (df, np.asarray(tail), np.asarray(p < 0.5)))
        log_root = -(np.log(q) + np.log(of) + betaln(of / 2, 0.5).numpy()) / of
        inner, most = np.array(inner), float(np.finfo(inner.dtype).max)
        with np.errstate(over="ignore"):
            t = np.minimum(np.exp(log_root + 0.5 * np.log(of)), most)
        inner[far] = np.where(log_root > 20, np.where(lower, -t, t), inner[far])
    return np.where((df > 0) & ((p == 0) | (p == 1)), np.where(p == 0, -np.inf, np.inf), inner)


STDTR = HostElementwise(
    "stdtr", _stdtr,
    [lambda y, df, t: -exp(t_log_density(df, t)) * _t_quantile_slope(df, t),
     lambda y, df, t: exp(t_log_density(df, t))],
)  # fmt: skip
LOG_STDTR = HostElementwise(
    "log_stdtr", _log_stdtr,
    [lambda y, df, t: where(df == np.inf, 0.0, -_ratio(t_log_density(df, t), y) * _t_quantile_slope(df, t)),
     lambda y, df, t: _ratio(t_log_density(df, t), y)],
)  # fmt: skip
_STDTRIT = HostElementwise(
    "stdtrit", _stdtrit,
    [lambda t, df, p: _t_quantile_slope(df, t), lambda t, df, p: exp(-t_log_density(df, t))],
)  # fmt: skip


def stdtr(df: TensorLike, t: TensorLike) -> Tensor:
    """The distribution function of Student's t distribution of df > 0 degrees of freedom, elementwise; differentiable
    by both.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.stdtr(1.0, [-1.0, 0.0]).numpy().round(4)
    array([0.25, 0.5 ])
    """
    return call(STDTR, df, t)


def stdtrit(df: TensorLike, p: TensorLike) -> Tensor:
    """The t at which ``stdtr(df, t)`` is p, for df > 0 and p from 0 to 1, elementwise; differentiable by both.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.stdtrit(1.0, 0.75).numpy().round(4)
    np.float64(1.0)
    """
    return call(_STDTRIT, df, p)
