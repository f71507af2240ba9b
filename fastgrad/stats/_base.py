"""What distributions of one variable share: parameters by SciPy's names, standardisation by loc and scale, what is
outside of the support, and which parameters are valid.

A distribution is a class with its formulas of a standardised z, at loc 0 and scale 1, and with its bounds. The
formulas see no z outside of the bounds, nor an infinite one: another one stands in for it, and for parameters at the
edge of what is valid, so that derivatives that are not finite there reach nothing. What is returned for it does not
depend on anything, and has gradient 0.

On a bound, and where a parameter is at the edge of what is valid, the formula is evaluated a little inside, by a
*nudge*, and the value replaced by that on the bound. The derivatives are then one-sided limits, where those on the
bound would be products of 0 and infinity; a limit that is infinite is a very large number.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from .._core import Tensor, where
from .._numpy.creation import floating
from .._numpy.incomplete import IncompleteFunction
from .._numpy.scipy_calls import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._numpy.typing import TensorLike

LOG_2, HALF_LOG_2_PI = math.log(2), math.log(2 * math.pi) / 2
LIMITS = {  # eps; what stands for the least number above 0, so that its reciprocal is far from overflow; the largest
    np.dtype(dtype): (float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny) * 2.0**20, float(np.finfo(dtype).max))
    for dtype in (np.float32, np.float64)
}
# Of each distribution function: the values below and above the support.
_OUTSIDE = {"cdf": (0.0, 1.0), "sf": (1.0, 0.0), "logcdf": (-math.inf, 0.0), "logsf": (0.0, -math.inf)}


class Operands(NamedTuple):
    """The arguments of a method, as tensors of one dtype."""

    x: Tensor
    shapes: list[Tensor]
    loc: Tensor | None  # None where none is given
    scale: Tensor | None
    valid: Any  # True, or a tensor of booleans: whether the parameters are
    is_whole: bool  # x - loc consists of whole numbers by its dtype


class Refusing:
    """What distributions say where a method of SciPy's is asked for that they do not have."""

    if not TYPE_CHECKING:  # a type checker is to report these

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            method = "logpdf" if hasattr(type(self), "logpdf") else "logpmf"
            raise TypeError(
                f"{self!r}: a distribution with its parameters in it is not supported; give them to its methods, as in "
                f"{self!r}.{method}({', '.join(self._parameters(method))})"
            )

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            advice = ""
            if name in ("rvs", "random_state"):
                advice = "; random numbers are in fastgrad.random"
            elif name in ("ppf", "isf") and hasattr(type(self), "logpmf"):
                advice = f"; its values are steps, which have no slope: give SciPy's {name} ndarrays"
            elif name == "fit":
                advice = "; minimize the negative sum of its logarithms by fastgrad.minimize"
            for one, other in (("pdf", "pmf"), ("pmf", "pdf")):
                if one in name and hasattr(type(self), name.replace(one, other)):
                    advice = f"; use {name.replace(one, other)}"
            raise AttributeError(f"{self!r} has no method {name!r}{advice}", name=name, obj=self)

    def _parameters(self, method: str) -> list[str]:
        """The names of the parameters of a method."""
        return list(inspect.signature(getattr(self, method)).parameters)


class Distribution(Refusing):
    """A distribution of one variable. Methods take x, the shape parameters, then ``loc`` and ``scale``, each by
    position or name, as those of ``scipy.stats``; all arguments broadcast.

    float32 and float64 are kept, integers become floats as in NumPy. Where a parameter is not valid the result is nan.
    Methods raise TypeError for missing and unknown parameters, NotImplementedError where there is no closed form.
    """

    shapes: tuple[str, ...] = ()  # names of the shape parameters
    others: tuple[str, ...] = ("loc", "scale")
    is_discrete = False
    low, high = -math.inf, math.inf  # the bounds of the support, which belong to it
    low_is_inside = True
    within = 1.0  # a number in the support
    takes_infinity = (
        False  # whether the formula of the logarithm of the density, and its derivatives, are right at infinity
    )
    edges: tuple[tuple[float, ...], ...] = ()  # of each shape parameter the values at which all mass is at one point
    no_quantiles = ""  # why the quantile function is not here
    quantiles_have_slopes_at_ends = False  # whether the formulas of quantiles, and their slopes, are right at 0 and 1

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"fastgrad.stats.{self.name}"

    def _parameters(self, method: str) -> list[str]:
        return ["x", *self.shapes, *self.others]

    # ---- what a distribution defines --------------------------------------------------------------------------------
    def _bounds(self, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """The least and the greatest number of the support, and one within."""
        return self.low, self.high, self.within

    def _valid(self, *args: Any, **kwargs: Any) -> Any:
        """Whether shape parameters are valid. They come as numbers where they are Python's, else as tensors."""
        return True

    def _singular(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Whether the density is 0 or infinite on the lower and on the upper bound, which belong to the support."""
        return False, False

    def _negligible(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Given z and the shape parameters: where z is so far down, and so far up, that the density and the tail are 0
        in any float. None for nowhere, and where no derivative overflows."""
        return None, None

    _log_density: Callable[..., Tensor]
    _cdf: Callable[..., Tensor]
    _sf: Callable[..., Tensor]
    _logcdf: Callable[..., Tensor]
    _logsf: Callable[..., Tensor]
    _ppf: Callable[..., Tensor]
    _isf: Callable[..., Tensor]

    # ---- operands ---------------------------------------------------------------------------------------------------
    def _refuse_if_no_quantiles(self, method: str) -> None:
        if self.no_quantiles:
            raise NotImplementedError(
                f"stats.{self.name}.{method}: {self.no_quantiles}; give SciPy's function of ndarrays its derivative "
                "with fastgrad.primitive"
            )

    def _operands(self, method: str, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operands:
        names, n = (*self.shapes, *self.others), len(self.shapes)
        if len(args) > len(names):
            raise TypeError(f"stats.{self.name}.{method}: expected at most {len(names)} parameters "
                            f"({', '.join(names)}), got {len(args)}")  # fmt: skip
        values = dict(zip(names, args))
        for name, value in kwargs.items():
            if name not in names or name in values:
                what = "is given twice" if name in names else f"is not among {', '.join(names)}"
                raise TypeError(f"stats.{self.name}.{method}: the parameter {name!r} {what}")
            values[name] = value
        if missing := [name for name in self.shapes if name not in values]:
            raise TypeError(f"stats.{self.name}.{method}: expected the parameter {' and '.join(missing)}")

        given = [name for name in names if name in values]
        dtype, tensors = _core.promoted(f"stats.{self.name}.{method}", x, *[values[name] for name in given])
        is_whole = False
        if self.is_discrete and type(values.get("loc", 0)) is int:
            is_whole = (x if isinstance(x, Tensor) else np.asarray(x)).dtype.kind in "iub"
        if dtype.kind != "f":
            tensors = list(map(floating, tensors))
        known = dict(zip(given, tensors[1:]))
        # Numbers are checked without an operation.
        checked = {name: v if type(v := values[name]) in (float, int) else known[name] for name in given}
        valid = self._valid(*[checked[name] for name in self.shapes])
        if "scale" in checked:
            valid = (checked["scale"] > 0) & valid
        shapes = tensors[1 : n + 1]
        return Operands(tensors[0], shapes, known.get("loc"), known.get("scale"), valid, is_whole)

    def _distribution(self, method: str, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The distribution function or the survival function, or the logarithm of one."""
        at_low, at_high = _OUTSIDE[method]
        operands = self._operands(method, x, args, kwargs)
        nudged = (not self.is_discrete,) * 2
        tails = (method != "logcdf", method != "logsf")
        point = Point(self, operands, nudged=nudged, is_edge_nudged=True, negligible=tails)
        y: Tensor = getattr(self, f"_{method}")(point.z, *point.shapes)
        if point.edge is not None:
            y = with_value(y, point.edge, where(point.z < self._mass_at(*operands.shapes), at_low, at_high))
        for is_there, value in ((point.at_low, at_low), (point.at_high, at_high)):
            y = y if is_there is None else with_value(y, is_there, value)
        for is_there, value in ((point.below, at_low), (point.above, at_high)):
            y = y if is_there is None else where(is_there, value, y)
        return _or_nan(operands.valid, y)

    def _density(
        self, method: str, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any], is_log: bool = True
    ) -> Tensor:
        """The density, or its logarithm."""
        operands = self._operands(method, x, args, kwargs)
        point = Point(
            self, operands, is_density=True, nudged=self._singular(*operands.shapes), is_edge_nudged=not is_log,
            negligible=(not is_log, not is_log), takes_infinity=is_log and self.takes_infinity,
        )  # fmt: skip

        def density(z: Any, shapes: list[Tensor], scale: Tensor | None) -> Tensor:
            y = self._log_density(z, *shapes)
            y = y if scale is None else y - _core.log(scale)
            return y if is_log else _core.exp(y)

        y = density(point.z, point.shapes, operands.scale)
        if point.edge is not None:
            y = with_value(y, point.edge, where(point.z == self._mass_at(*operands.shapes), 1.0, 0.0))
        if point.at_low is not None or point.at_high is not None:
            shapes, scale = [z.detach() for z in operands.shapes], operands.scale
            scale = scale if scale is None else scale.detach()
            for is_there, bound in zip((point.at_low, point.at_high), self._bounds(*shapes)):
                if is_there is not None:
                    y = with_value(y, is_there, density(_core.asarray(np.asarray(bound, y.dtype)), shapes, scale))
        if point.outside is not None:
            y = where(point.outside, -math.inf if is_log else 0.0, y)
        return _or_nan(operands.valid, y)

    def _mass_at(self, *args: Any, **kwargs: Any) -> Any:
        """Where all mass is if a shape parameter is at an edge."""
        return self.low


class Point:
    """Where a formula is evaluated, z and the shape parameters; and where its value is replaced, None for nowhere."""

    z: Tensor
    shapes: list[Tensor]
    below: Tensor | None  # outside of the support, or infinite
    above: Tensor | None
    outside: Tensor | None  # either of these, or not whole
    at_low: Tensor | None = None  # z is on a bound, and nudged inside
    at_high: Tensor | None = None
    edge: Tensor | None = None  # a shape parameter is at an edge, and nudged inside

    def __init__(
        self, of: Distribution, operands: Operands, *, nudged: tuple[Any, Any], is_edge_nudged: bool,
        negligible: tuple[bool, bool], is_density: bool = False, takes_infinity: bool = False,
    ) -> None:  # fmt: skip
        """``nudged`` tells where z is nudged on the lower and on the upper bound: True, False or a tensor.
        ``negligible`` tells whether the lower and the upper tail are outside, too, where the density underflows."""
        u = operands.x if operands.loc is None else operands.x - operands.loc
        scale, shapes = operands.scale, operands.shapes
        z = u if scale is None else u / scale
        if may_be_fractional := of.is_discrete and not operands.is_whole:
            whole = _core.floor(z)
            z = z if is_density else whole
        raw, (eps, least, largest) = z.detach(), LIMITS[z.dtype]
        constants = [p.detach() for p in shapes]
        low, high, within = of._bounds(*constants)
        low_most = _core.maximum(low, -largest) if isinstance(low, Tensor) else max(low, -largest)
        high_most = _core.minimum(high, largest) if isinstance(high, Tensor) else min(high, largest)
        self.below = self.above = None
        if not (takes_infinity and _is(low, -math.inf)):
            self.below = if_any(raw < low_most if of.low_is_inside else raw <= low_most)
        if not (takes_infinity and _is(high, math.inf)):
            self.above = if_any(raw > high_most if is_density or not of.is_discrete else raw >= high_most)
        if nudged[0] is not False and of.low_is_inside and not _is(low, -math.inf):
            self.at_low = if_any((raw == low_most) & nudged[0])
        if nudged[1] is not False and not _is(high, math.inf):
            self.at_high = if_any((raw == high_most) & nudged[1])
        lower, upper = of._negligible(raw, *constants)
        if lower is not None and negligible[0]:
            self.below = _either_of(self.below, if_any(lower))
        if upper is not None and negligible[1]:
            self.above = _either_of(self.above, if_any(upper))
        self.outside = _either_of(self.below, self.above)
        if may_be_fractional and is_density:
            self.outside = _either_of(self.outside, if_any(whole.detach() < raw))

        if self.at_low is not None or self.at_high is not None or self.outside is not None:
            if self.outside is not None:  # so that its derivative by the scale is finite
                u = where(self.outside, 0.0, u)
            for is_there, bound, sign in ((self.at_low, low_most, 1.0), (self.at_high, high_most, -1.0)):
                if is_there is not None:
                    nudge: Any
                    if isinstance(bound, Tensor):
                        nudge = sign * 4 * eps * _core.maximum(_core.absolute(bound), 1.0)
                    else:
                        nudge = sign * (bound * eps if bound else least)
                    u = where(is_there, u + (nudge if scale is None else nudge * scale.detach()), u)
            z = u if scale is None else u / scale
            z = _core.floor(z) if may_be_fractional and not is_density else z
            z = z if self.outside is None else where(self.outside, within, z)
        self.z, self.shapes = z, shapes
        if of.edges:
            self.shapes = [self._inside(p, edges, least, eps, is_edge_nudged) for p, edges in zip(shapes, of.edges)]

    def _inside(self, p: Tensor, edges: tuple[float, ...], least: float, eps: float, is_nudged: bool) -> Tensor:
        """The shape parameter p, away from its edges outside of the support and, if that is asked for, inside."""
        for edge in edges:
            at = if_any(p.detach() == edge)
            if at is not None and self.outside is not None:
                p = where(self.outside & at, 0.5, p)
            if at is not None and is_nudged:
                self.edge = _either_of(self.edge, at)
                p = where(at, p + (eps / -2 if edge else least), p)
        return p


class Continuous(Distribution):
    """A distribution with a density."""

    # ---- distribution functions
    def cdf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The distribution function, P(X <= x).

        >>> import fastgrad as fg
        >>> fg.stats.norm.cdf(1.0, loc=1.0, scale=2.0)
        tensor(0.5)
        """
        return self._distribution("cdf", x, args, kwargs)

    def sf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The survival function, P(X > x), accurate where it is small.

        >>> import fastgrad as fg
        >>> fg.stats.expon.sf(1000.0, scale=500.0)
        tensor(0.13533528)
        """
        return self._distribution("sf", x, args, kwargs)

    def logcdf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The logarithm of the distribution function, finite where that underflows.

        >>> import fastgrad as fg
        >>> round(fg.stats.norm.logcdf(-40.0).item(), 4)
        -804.6084
        """
        return self._distribution("logcdf", x, args, kwargs)

    def logsf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The logarithm of the survival function, finite where that underflows.

        >>> import fastgrad as fg
        >>> round(fg.stats.norm.logsf(40.0).item(), 4)
        -804.6084
        """
        return self._distribution("logsf", x, args, kwargs)

    def logpdf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The logarithm of the density; -inf outside of the support.

        >>> import fastgrad as fg
        >>> fg.stats.expon.logpdf([-1.0, 2.0])
        tensor([-inf,  -2.])
        """
        return self._density("logpdf", x, args, kwargs)

    def pdf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The density; 0 outside of the support.

        >>> import fastgrad as fg
        >>> fg.stats.expon.pdf([-1.0, 0.0])
        tensor([0., 1.])
        """
        return self._density("pdf", x, args, kwargs, is_log=False)

    def ppf(self, q: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The quantile function: where the distribution function is q; nan for q outside [0, 1]. For q of 0 and 1 it is
        the bound of the support; where a slope there is infinite, a large number of its sign stands for it.

        >>> import fastgrad as fg
        >>> round(fg.stats.expon.ppf(0.5, scale=2.0).item(), 4)
        1.3863
        """
        self._refuse_if_no_quantiles("ppf")
        return self._quantile("ppf", self._ppf, q, args, kwargs, is_upper=False)

    def isf(self, q: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The inverse of the survival function, accurate for a small q: where that is q; nan for q outside [0, 1]. At 0
        and 1 as ``ppf``.

        >>> import fastgrad as fg
        >>> round(fg.stats.norm.isf(1e-30).item(), 4)
        11.464
        """
        self._refuse_if_no_quantiles("isf")
        return self._quantile("isf", self._isf, q, args, kwargs, is_upper=True)

    def _quantile(
        self, method: str, function: Callable[..., Tensor], q: TensorLike, args: tuple[Any, ...],
        kwargs: dict[str, Any], *, is_upper: bool,
    ) -> Tensor:  # fmt: skip
        """For q of 0 and 1 ``function`` is evaluated next to them, so that its derivatives are finite, also where they
        grow as q^-2; the bounds of the support are the values."""
        operands = self._operands(method, q, args, kwargs)
        raw, (eps, least, _) = operands.x.detach(), LIMITS[operands.x.dtype]
        number = operands.x.dtype.type
        outside = at_end = None
        if if_any((raw <= 0) | (raw >= 1)) is not None:
            outside = if_any((raw < 0) | (raw > 1))
            at_end = None if self.quantiles_have_slopes_at_ends else if_any((raw == 0) | (raw == 1))
        inner = operands.x if outside is None else where(outside, 0.5, operands.x)
        if at_end is not None:
            is_zero = raw == 0
            inner = where(at_end, inner + where(is_zero, number(math.sqrt(least)), number(-eps / 2)), inner)
        y = function(inner, *operands.shapes)
        if at_end is not None:
            low, high, _ = self._bounds(*[p.detach() for p in operands.shapes])
            bounds = number(low), number(high)
            y = with_value(y, at_end, where(is_zero, bounds[is_upper], bounds[not is_upper]))
        y = y if operands.scale is None else y * operands.scale
        y = y if operands.loc is None else y + operands.loc
        return _or_nan(operands.valid, y if outside is None else where(outside, math.nan, y))


class Symmetric(Continuous):
    """A distribution that is symmetric about loc."""

    def _sf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return self._cdf(-z, *shapes)

    def _logsf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return self._logcdf(-z, *shapes)

    def _isf(self, q: Tensor, *shapes: Tensor) -> Tensor:
        return -self._ppf(q, *shapes)


class Discrete(Distribution):
    """A distribution of whole numbers."""

    others, is_discrete = ("loc",), True
    low, within = 0.0, 0.0

    def logpmf(self, k: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The logarithm of the probability of k; -inf outside of the support and where k is not whole.

        >>> import fastgrad as fg
        >>> fg.stats.poisson.logpmf([0, 1], 1.0)
        tensor([-1., -1.])
        """
        return self._density("logpmf", k, args, kwargs)

    def pmf(self, k: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The probability of k; 0 outside of the support and where k is not whole.

        >>> import fastgrad as fg
        >>> fg.stats.bernoulli.pmf([0, 1, 2], 0.25)
        tensor([0.75, 0.25, 0.  ])
        """
        return self._density("pmf", k, args, kwargs, is_log=False)

    # ---- distribution functions, whose first argument SciPy calls k
    def cdf(self, k: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The distribution function, P(X <= k).

        >>> import fastgrad as fg
        >>> fg.stats.bernoulli.cdf([0, 1], 0.25)
        tensor([0.75, 1.  ])
        """
        return self._distribution("cdf", k, args, kwargs)

    def sf(self, k: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The survival function, P(X > k), accurate where it is small.

        >>> import fastgrad as fg
        >>> fg.stats.geom.sf(3, 0.5)
        tensor(0.125)
        """
        return self._distribution("sf", k, args, kwargs)

    def logcdf(self, k: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The logarithm of the distribution function, finite where that underflows.

        >>> import fastgrad as fg
        >>> fg.stats.poisson.logcdf(0, 800.0)
        tensor(-800.)
        """
        return self._distribution("logcdf", k, args, kwargs)

    def logsf(self, k: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The logarithm of the survival function, finite where that underflows.

        >>> import fastgrad as fg
        >>> round(fg.stats.geom.logsf(2000, 0.5).item(), 4)
        -1386.2944
        """
        return self._distribution("logsf", k, args, kwargs)


# ---- distributions whose functions SciPy computes --------------------------------------------------------------------
class ByIncompleteFunction:
    """For a distribution whose function is an incomplete one of `_arguments`: of a and x, or of a, b, x and 1 - x,
    exact where that is small. These get the z and shape parameters of `Distribution._cdf`."""

    _function: IncompleteFunction
    _arguments: Callable[..., tuple[Tensor, ...]]

    def _at(self, row: Any, z: Tensor, shapes: tuple[Tensor, ...]) -> Tensor:
        """In float64, where the arguments of float32 numbers neither overflow nor underflow."""
        y = call(row, *self._arguments(*[_core.astype(x, np.float64) for x in (z, *shapes)]))
        return _core.astype(y, z.dtype)

    def _cdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return self._at(self._function.below, z, shapes)

    def _sf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return self._at(self._function.above, z, shapes)

    def _logcdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return self._at(self._function.log_below, z, shapes)

    def _logsf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return self._at(self._function.log_above, z, shapes)


def _is(bound: Any, value: float) -> bool:
    return type(bound) is float and bound == value


def if_any(condition: Tensor) -> Tensor | None:
    """The condition; None if it is known to hold nowhere."""
    return condition if _core.traced(condition) or np.count_nonzero(condition.numpy()) else None


def _either_of(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a | b


def with_value(y: Tensor, is_there: Tensor, value: Any) -> Tensor:
    """y, with another value at some elements, where its derivatives remain."""
    value = _core.astype(value, y.dtype) if isinstance(value, Tensor) else value
    zero = where(_core.absolute(y.detach()) < math.inf, y - y.detach(), 0.0)
    return where(is_there, value + zero, y)


def _or_nan(valid: Any, y: Tensor) -> Tensor:
    """y, and nan for parameters that are not valid."""
    return y if valid is True else where(valid, y, math.nan)
