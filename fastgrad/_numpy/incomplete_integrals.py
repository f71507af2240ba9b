"""The smaller tails of the gamma and beta distributions, derivatives of the incomplete beta function by its shape
parameters, and densities: functions of ndarrays, in float64, which incomplete.py makes operations.

With P(a, x) = gammainc(a, x), q = x^a e^-x / Gamma(a) and t = x e^v, P is the integral over v from -inf to 0 of

    q exp(a v - x (e^v - 1)),

a function whose logarithm is concave. On the side of v = 0 where the maximum does not lie the function falls from v = 0
on, so that tail is integrated by the quadrature of Gauss and Legendre up to where nothing is left. The same holds for
the beta function with v as a difference of logits. Its derivatives are integrals of the same function times polynomials
in log t + digamma(a + b) - digamma(a); those of the two tails are the same but for the sign, so either gives both. What
is returned is divided by q, so that it neither overflows nor underflows in the tails. Errors are some 1e-14 of the
result; but those of derivatives by an a that is tiny are up to 1e-16 / a. The derivative of gammainc by a is in
gamma_slope.py.

Sources: Johnson, Kotz and Balakrishnan, "Continuous univariate distributions" (1994), 17.2 and 25.2, for the
functions; Comtet, "Advanced combinatorics" (1974), 3.3, for the polynomials, which are Bell's; Loader, "Fast and
accurate computation of binomial probabilities" (2000), for the densities.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .special import polygamma

__all__ = ["bell_2", "beta_log_density", "beta_slope", "gamma_log_density", "gamma_tail", "gauss_legendre"]

Array = Any  # an ndarray, or a tensor in the polynomials
_NODES = 48
_NEGLIGIBLE = 42.0  # exp(-42) is 1e-18 of the maximum
_BLOCK = 512  # elements at a time, each with 48 nodes: arrays of 200 kB


@functools.cache
def gauss_legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n nodes, an even number, and weights of the quadrature of Gauss and Legendre on the interval from 0 to 1.

    Nodes near 0 count most, and need a small relative error. NumPy's, on the interval from -1 to 1, have a small
    absolute one. So the Legendre polynomials of 1 - 2 s are computed from their differences, which are multiples of s.
    """
    s = np.sin(np.pi / 2 * (np.arange(n // 2) + 0.75) / (n + 0.5)) ** 2  # those below the middle
    for _ in range(6):  # Newton's iteration
        p, change = np.ones(n // 2), -2 * s
        for k in range(1, n):
            p, change = p + change, k / (k + 1) * change - 2 * (2 * k + 1) / (k + 1) * s * (p + change)
        before, p = p, p + change
        slope = n * ((1 - 2 * s) * p - before) / (2 * s * (1 - s))
        weight = 4 * s * (1 - s) / (n * before) ** 2
        s = s - p / slope
    return np.concatenate([s, 1 - s[::-1]]), np.concatenate([weight, weight[::-1]])


def _psi(order: int, x: np.ndarray) -> np.ndarray:
    return polygamma(order, x).numpy()


def _in_blocks(f: Callable[..., np.ndarray], *arrays: Any) -> np.ndarray:
    """f, a function of vectors, of these arrays, broadcast and raveled, a block at a time; in their joint shape."""
    operands = np.broadcast_arrays(*[np.asarray(x, np.float64) for x in arrays])
    flat = [np.ravel(x) for x in operands]
    y = np.empty(flat[0].shape)
    with np.errstate(all="ignore"):
        for i in range(0, y.size, _BLOCK):
            y[i : i + _BLOCK] = f(*[x[i : i + _BLOCK] for x in flat])
    return y.reshape(operands[0].shape)


def bell_2(j: int, k: int, cumulant: Callable[[int, int], Array]) -> Array:
    """A polynomial of Bell's: the derivative of exp(f), divided by exp(f), j times by the first argument and k times by
    the second, where cumulant(p, q) is that of f."""

    @functools.cache
    def value(j: int, k: int) -> Array:
        if j:
            return sum(
                math.comb(j - 1, p) * math.comb(k, q) * cumulant(p + 1, q) * value(j - 1 - p, k - q)
                for p in range(j) for q in range(k + 1)
            )  # fmt: skip
        return sum(math.comb(k - 1, q) * cumulant(0, q + 1) * value(0, k - 1 - q) for q in range(k)) if k else 1.0

    return value(j, k)


# ---- the incomplete gamma function -----------------------------------------------------------------------------------
def gamma_tail(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The smaller tail, gammainc or -gammaincc, divided by ``x^a e^-x / Gamma(a)``, for x > 0."""
    return _in_blocks(_gamma_tail, a, x)


def _gamma_tail(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    y = np.full(x.shape, np.nan)
    series = x <= 1
    lower = (x < a) & ~series
    for region, integral in ((series, _gamma_series), (lower, _gamma_lower), (~series & ~lower, _gamma_upper)):
        if region.any():
            y[region] = integral(a[region], x[region])
    return np.where((a > 0) & (x > 0), y, np.nan)


def _gamma_series(a: Array, x: Array) -> Array:
    """By powers of x up to 1: the sum of (-x)^n / n! a / (a + n)."""
    total, term = np.zeros(x.shape), np.ones(x.shape)
    for n in range(22):
        total += term * (a / (a + n))
        term = term * -x / (n + 1)
    return np.exp(x) / a * total


def _gamma_lower(a: Array, x: Array) -> Array:
    end = np.minimum(
        np.where(3 * _NEGLIGIBLE <= x, np.sqrt(3 * _NEGLIGIBLE / x), 1 + _NEGLIGIBLE / x), _NEGLIGIBLE / (a - x)
    )
    for _ in range(4):  # Newton's iteration from above, of a convex function
        end -= (a * end + x * np.expm1(-end) - _NEGLIGIBLE) / (a - x * np.exp(-end))
    s, w = gauss_legendre(_NODES)
    u = end[:, None] * s
    return (np.exp(-a[:, None] * u - x[:, None] * np.expm1(-u)) * (w * end[:, None])).sum(-1)


def _gamma_upper(a: Array, x: Array) -> Array:
    end = np.minimum(np.sqrt(2 * _NEGLIGIBLE / x), _NEGLIGIBLE / (x - a))
    for _ in range(6):
        end -= (x * np.expm1(end) - a * end - _NEGLIGIBLE) / (x * np.exp(end) - a)
    s, w = gauss_legendre(_NODES)
    u = end[:, None] * s
    return -(np.exp(a[:, None] * u - x[:, None] * np.expm1(u)) * (w * end[:, None])).sum(-1)


# ---- the incomplete beta function ------------------------------------------------------------------------------------
def beta_slope(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray, j: int, k: int) -> np.ndarray:
    """The derivative of betainc(a, b, x), j times by a and k times by b, divided by ``x^a y^b / B(a, b)``, for x and
    y = 1 - x above 0.

    With j = k = 0 it is the smaller tail, betainc or -betaincc, divided by the same.
    """
    return _in_blocks(functools.partial(_beta_slope, j, k), a, b, x, y)


def _beta_slope(j: int, k: int, a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    found = np.full(x.shape, np.nan)
    valid = (a > 0) & (b > 0) & (x >= 0) & (y >= 0)
    upper = a * y < b * x
    for region, sign in ((valid & ~upper, 1), (valid & upper, -1)):
        if region.any():
            p, q, s, t = (z[region] for z in ((a, b, x, y) if sign > 0 else (b, a, y, x)))
            found[region] = sign * (_beta_lower(j, k, p, q, s, t) if sign > 0 else _beta_lower(k, j, p, q, s, t))
    return found


def _beta_lower(j: int, k: int, a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The integral over t below x, where the maximum is not below x, in u = logit(x) - logit(t). Up to the first seam
    t is near 1, beyond the second one so near 0 that the function is a single exponential."""
    n, first = a + b, np.maximum(np.log(x) - np.log(y), 0)
    log_y, curvature = np.where(x < 0.5, np.log1p(-x), np.log(y)), n * x * y
    end = np.minimum((_NEGLIGIBLE - n * log_y) / a, _NEGLIGIBLE / np.maximum(a * y - b * x, 0))
    square = 2 * np.e * _NEGLIGIBLE / curvature  # the curvature falls by e up to u = 1
    end = np.where(square < 1, np.minimum(end, np.sqrt(square)), end)
    for _ in range(10):
        shrunk = x * np.exp(-end)
        end -= (_fall(a, b, x, y, end) - _NEGLIGIBLE) / ((a * y - b * shrunk) / (y + shrunk))
    seams = [np.zeros(x.shape), np.minimum(first, end), np.minimum(first + _NEGLIGIBLE, end), end]
    of_a = _psi(0, n) - _psi(0, a)
    of_b = _psi(0, n) - _psi(0, b)
    constants = {
        (p, q): _psi(p + q - 1, n) - (_psi(p - 1, a) if q == 0 else _psi(q - 1, b) if p == 0 else 0)
        for p in range(j + 1) for q in range(k + 1) if p + q > 1
    }  # fmt: skip
    total = np.zeros(x.shape)
    for low, high in itertools.pairwise(seams):
        part = high > low
        if part.any():
            of_part = {key: value[part, None] for key, value in constants.items()}
            operands = (z[part, None] for z in (a, b, x, y, of_a, of_b, low, high))
            total[part] += _beta_panel(j, k, of_part, *operands)
    return total


def _log_rest(x: np.ndarray, y: np.ndarray, u: np.ndarray) -> Array:
    """log(y + x e^-u), for x + y = 1."""
    change = x * np.expm1(-u)
    return np.where(change < -0.5, np.log(y + x * np.exp(-u)), np.log1p(change))


def _fall(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray, u: np.ndarray) -> Array:
    """``a u + (a + b) log(y + x e^-u)``, by how much the logarithm of the function is below that at x. Where t is near
    1 both terms are large, and without their common part they are ``-b u + (a + b) log(1 + y (e^u - 1))``."""
    growth = y * np.expm1(u)
    near = (growth < 1) & (y < x)
    return np.where(near, (a + b) * np.log1p(np.where(near, growth, 0)) - b * u, a * u + (a + b) * _log_rest(x, y, u))


def _beta_panel(
    j: int, k: int, constants: dict[tuple[int, int], np.ndarray], a: np.ndarray, b: np.ndarray, x: np.ndarray,
    y: np.ndarray, of_a: np.ndarray, of_b: np.ndarray, low: np.ndarray, high: np.ndarray,
) -> Any:  # fmt: skip
    s, w = gauss_legendre(_NODES)
    u = low + (high - low) * s
    rest = _log_rest(x, y, u)
    firsts = {(1, 0): np.log(x) - u - rest + of_a, (0, 1): np.log(y) - rest + of_b}
    weight = bell_2(j, k, lambda p, q: firsts[p, q] if p + q == 1 else constants[p, q])
    return (weight * np.exp(-_fall(a, b, x, y, u)) * (w * (high - low))).sum(-1)


# ---- densities -------------------------------------------------------------------------------------------------------
def gamma_log_density(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The logarithm of ``x^(a-1) e^-x / Gamma(a)``, without the differences of large numbers."""
    return _in_blocks(_gamma_log_density, a, x)


def _gamma_log_density(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    y = 0.5 * np.log(a / (2 * np.pi)) - _stirling_error(a) - _deviance(a, x, x - a) - np.log(x)
    y = np.where(x == 0, np.where(a == 1, 0, np.where(a < 1, np.inf, -np.inf)), np.where(x < np.inf, y, -np.inf))
    return np.where((a > 0) & (x >= 0), y, np.nan)


def beta_log_density(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The logarithm of ``x^(a-1) y^(b-1) / B(a, b)`` for y = 1 - x."""
    return _in_blocks(_beta_log_density, a, b, x, y)


def _beta_log_density(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    n = a + b
    z = 0.5 * (np.log(a) + np.log(b / n) - math.log(2 * math.pi))
    beyond = b * x - a * y  # (a + b) x - a
    z += _stirling_error(n) - _stirling_error(a) - _stirling_error(b)
    z -= _deviance(a, n * x, beyond) + _deviance(b, n * y, -beyond)
    z -= np.log(x) + np.log(y)
    for end, of_end, other in ((x, a, b), (y, b, a)):
        z = np.where(end == 0, np.where(of_end == 1, np.log(other), np.where(of_end < 1, np.inf, -np.inf)), z)
    return np.where((a > 0) & (b > 0) & (x >= 0) & (y >= 0), z, np.nan)


def _stirling_error(a: np.ndarray) -> Array:
    """What Stirling's formula lacks: gammaln(a) - ((a - 1/2) log(a) - a + log(2 pi) / 2)."""
    square = 1 / (a * a)
    coefficients = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
    series = functools.reduce(lambda sum, c: sum * square + c, reversed(coefficients), 0.0 * a) / a
    near = _core.gammaln(a).numpy() - ((a - 0.5) * np.log(a) - a + 0.5 * math.log(2 * math.pi))
    return np.where(a > 15, series, near)


def _deviance(a: np.ndarray, x: np.ndarray, beyond: np.ndarray) -> Array:
    """``a log(a / x) + beyond`` for beyond = x - a."""
    change = beyond / a
    near = np.where(np.abs(change) < 0.1, change, 0)
    series = 0.0 * near
    for n in range(16, 1, -1):  # of 1 - log(1 + c) / c, divided by c
        series = 1 / n - series * near
    series = series * near
    log_ratio = np.where(
        change < -0.5, np.log(x / a), np.where(change < np.inf, np.log1p(change), np.log(x) - np.log(a))
    )
    return np.where(near != 0, beyond * series, beyond - a * log_ratio)
