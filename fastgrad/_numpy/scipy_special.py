"""Special functions that SciPy computes: a row for each, with its derivatives as expressions of tensors.

Source of the derivatives: NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov, 10.6 and 10.29
(Bessel), 15.5 (hypergeometric), 25.11 (zeta); of Owen's T function Owen, "A table of normal integrals" (1980).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._core import Tensor, erf, exp, sign, square
from .._rules.host import HostElementwise
from .results import stored
from .scipy_calls import by_scipy, call

if TYPE_CHECKING:
    from .typing import TensorLike

__all__ = ["hyp2f1", "iv", "ive", "jv", "kv", "kve", "owens_t", "yv", "zeta"]


# ---- Bessel functions ------------------------------------------------------------------------------------------------
_ORDER = "its order v"


def _bessel(name: str, before: float, after: float, own: Callable[[Any, Any], Any] | None = None) -> HostElementwise:
    """The row of a Bessel function. Its derivative is ``before`` times the function of order v - 1, plus ``after``
    times that of order v + 1, plus ``own`` of the value and x."""

    def by_x(y: Any, v: Any, x: Any) -> Any:
        slope = before * row.at(v - 1, x) + after * row.at(v + 1, x)
        return slope if own is None else slope + own(y, x)

    row = HostElementwise(name, by_scipy(name), [_ORDER, by_x])
    return row


_JV, _YV = _bessel("jv", 0.5, -0.5), _bessel("yv", 0.5, -0.5)
_IV, _IVE = _bessel("iv", 0.5, 0.5), _bessel("ive", 0.5, 0.5, lambda y, x: -sign(x) * y)
_KV, _KVE = _bessel("kv", -0.5, -0.5), _bessel("kve", -0.5, -0.5, lambda y, x: y)


def jv(v: TensorLike, x: TensorLike) -> Tensor:
    """The Bessel function of the first kind of real order v, elementwise; differentiable by x.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.jv(0.5, 1.0).numpy().round(4)
    np.float64(0.6714)
    """
    return call(_JV, v, x)


def yv(v: TensorLike, x: TensorLike) -> Tensor:
    """The Bessel function of the second kind of real order v, elementwise; differentiable by x.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.yv(0.5, 1.0).numpy().round(4)
    np.float64(-0.4311)
    """
    return call(_YV, v, x)


def iv(v: TensorLike, x: TensorLike) -> Tensor:
    """The modified Bessel function of the first kind of real order v, elementwise; differentiable by x.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.iv(0.5, 1.0).numpy().round(4)
    np.float64(0.9377)
    """
    return call(_IV, v, x)


def ive(v: TensorLike, x: TensorLike) -> Tensor:
    """``iv(v, x) * exp(-abs(x))``, which does not overflow; differentiable by x.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.ive(0.5, 1e4).numpy().round(4)
    np.float64(0.004)
    """
    return call(_IVE, v, x)


def kv(v: TensorLike, x: TensorLike) -> Tensor:
    """The modified Bessel function of the second kind of real order v, for x > 0, elementwise; differentiable by x.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.kv(0.5, 1.0).numpy().round(4)
    np.float64(0.4611)
    """
    return call(_KV, v, x)


def kve(v: TensorLike, x: TensorLike) -> Tensor:
    """``kv(v, x) * exp(x)``, which does not underflow; differentiable by x.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.kve(0.5, 1e4).numpy().round(4)
    np.float64(0.0125)
    """
    return call(_KVE, v, x)


# ---- others ----------------------------------------------------------------------------------------------------------
_RIEMANN_ZETA = HostElementwise("zeta", by_scipy("zeta"), ["its argument x"])
_ZETA: HostElementwise = HostElementwise(
    "zeta", by_scipy("zeta"), ["its argument x", lambda y, x, q: -x * _ZETA.at(x + 1, q)]
)  # fmt: skip
_OWENS_T = HostElementwise(
    "owens_t", by_scipy("owens_t"),
    [lambda y, h, a: exp(square(h) * -0.5) * erf(a * h * math.sqrt(0.5)) * (-0.5 / math.sqrt(2 * math.pi)),
     lambda y, h, a: exp(square(h) * (1 + square(a)) * -0.5) / ((1 + square(a)) * (2 * math.pi))],
)  # fmt: skip
_HYP2F1: HostElementwise = HostElementwise(
    "hyp2f1", by_scipy("hyp2f1"),
    ["its parameter a", "its parameter b", "its parameter c",
     lambda y, a, b, c, z: a * b / c * _HYP2F1.at(a + 1, b + 1, c + 1, z)],
)  # fmt: skip


def zeta(x: TensorLike, q: TensorLike | None = None, out: Tensor | None = None) -> Tensor:
    """Hurwitz's zeta function: the sum of ``(n + q)^-x`` for n = 0, 1, 2 ..., for x > 1 and q > 0, elementwise.

    Without q it is Riemann's, for any x. Differentiable by q. Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.zeta(2.0, 1.0).numpy().round(4)
    np.float64(1.6449)
    """
    return stored("special.zeta", out, call(_RIEMANN_ZETA, x) if q is None else call(_ZETA, x, q))


def owens_t(h: TensorLike, a: TensorLike) -> Tensor:
    """Owen's T function, elementwise: the probability that X is above h and Y from 0 to a X, for independent standard
    normal X and Y.

    Differentiable by both. Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.owens_t(0.0, 1.0).numpy().round(4)
    np.float64(0.125)
    """
    return call(_OWENS_T, h, a)


def hyp2f1(a: TensorLike, b: TensorLike, c: TensorLike, z: TensorLike) -> Tensor:
    """Gauss's hypergeometric function, for real z below 1, elementwise; differentiable by z.

    Calls SciPy, and raises ImportError without it.

    >>> import fastgrad as fg
    >>> fg.special.hyp2f1(1.0, 1.0, 2.0, 0.5).numpy().round(4)
    np.float64(1.3863)
    """
    return call(_HYP2F1, a, b, c, z)
