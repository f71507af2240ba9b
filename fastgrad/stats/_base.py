"""What distributions of one variable share: parameters by SciPy's names, standardisation by loc and scale, what is
outside of the support, and which parameters are valid.

A distribution is a class with its formulas of a standardised z, at loc 0 and scale 1, and with its bounds. The
formulas see no z outside of the bounds: another one stands in for it, so that derivatives that are not finite there
reach nothing. What is returned for it does not depend on anything, and has gradient 0.
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

_LARGEST = {np.dtype(dtype): float(np.finfo(dtype).max) for dtype in (np.float32, np.float64)}


class Operands(NamedTuple):
    """The arguments of a method, as tensors of one dtype."""

    x: Tensor
    shapes: list[Tensor]
    loc: Tensor | None  # None where none is given
    scale: Tensor | None
    valid: Any  # True, or a tensor of booleans: whether the parameters are
    is_whole: bool  # x - loc consists of whole numbers by its dtype

    def standardized(self) -> Tensor:
        z = self.x if self.loc is None else self.x - self.loc
        return z if self.scale is None else z / self.scale


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
    infinity_is_beyond = False  # the formulas of the distribution function do not take an infinite z
    not_closed = ""  # why the distribution function is not here

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

    _log_density: Callable[..., Tensor]
    _cdf: Callable[..., Tensor]
    _sf: Callable[..., Tensor]
    _logcdf: Callable[..., Tensor]
    _logsf: Callable[..., Tensor]
    _ppf: Callable[..., Tensor]

    # ---- distribution functions -------------------------------------------------------------------------------------
    def cdf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The distribution function, P(X <= x).

        >>> import fastgrad as fg
        >>> fg.stats.norm.cdf(1.0, loc=1.0, scale=2.0)
        tensor(0.5)
        """
        return self._distribution("cdf", 0.0, 1.0, x, args, kwargs)

    def sf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The survival function, P(X > x), accurate where it is small.

        >>> import fastgrad as fg
        >>> fg.stats.geom.sf(3, 0.5)
        tensor(0.125)
        """
        return self._distribution("sf", 1.0, 0.0, x, args, kwargs)

    def logcdf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The logarithm of the distribution function, finite where that underflows.

        >>> import fastgrad as fg
        >>> round(fg.stats.norm.logcdf(-40.0).item(), 4)
        -804.6084
        """
        return self._distribution("logcdf", -math.inf, 0.0, x, args, kwargs)

    def logsf(self, x: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The logarithm of the survival function, finite where that underflows.

        >>> import fastgrad as fg
        >>> round(fg.stats.norm.logsf(40.0).item(), 4)
        -804.6084
        """
        return self._distribution("logsf", 0.0, -math.inf, x, args, kwargs)

    # ---- operands ---------------------------------------------------------------------------------------------------
    def _refuse_if_not_closed(self, method: str) -> None:
        if self.not_closed:
            raise NotImplementedError(
                f"stats.{self.name}.{method}: {self.not_closed}; give SciPy's function of ndarrays its derivative with "
                "fastgrad.primitive"
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

    def _distribution(
        self, method: str, at_low: float, at_high: float, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        self._refuse_if_not_closed(method)
        operands = self._operands(method, x, args, kwargs)
        shapes, z = operands.shapes, operands.standardized()
        if self.is_discrete and not operands.is_whole:
            z = _core.floor(z)
        low, high, within = self._bounds(*shapes)
        if self.infinity_is_beyond and _is(high, math.inf):
            high = _LARGEST[z.dtype]
        below = None if _is(low, -math.inf) else z < low if self.low_is_inside else z <= low
        above = None if _is(high, math.inf) else z >= high if self.is_discrete else z > high
        for beyond in (below, above):
            z = z if beyond is None else where(beyond, within, z)
        function: Callable[..., Tensor] = getattr(self, f"_{method}")
        y = function(z, *shapes)
        y = y if below is None else where(below, at_low, y)
        y = y if above is None else where(above, at_high, y)
        return _or_nan(operands.valid, y)

    def _density(self, method: str, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        operands = self._operands(method, x, args, kwargs)
        shapes, z = operands.shapes, operands.standardized()
        outside = self._outside(z, self.is_discrete and not operands.is_whole, *shapes)
        if outside is not None:
            z = where(outside, self._bounds(*shapes)[2], z)
        y = self._log_density(z, *shapes)
        if operands.scale is not None:
            y = y - _core.log(operands.scale)
        if outside is not None:
            y = where(outside, -math.inf, y)
        return _or_nan(operands.valid, y)

    def _outside(self, z: Tensor, may_be_fractional: bool, *shapes: Tensor) -> Tensor | None:
        low, high, _ = self._bounds(*shapes)
        outside = None
        if not (_is(low, -math.inf) and _is(high, math.inf)):
            high = _LARGEST[z.dtype] if _is(high, math.inf) else high  # infinity is outside
            outside = (z < low if self.low_is_inside else z <= low) | (z > high)
        if may_be_fractional:
            fractional = _core.floor(z) < z
            outside = fractional if outside is None else outside | fractional
        return outside


class Continuous(Distribution):
    """A distribution with a density."""

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
        return _core.exp(self._density("pdf", x, args, kwargs))

    def ppf(self, q: TensorLike, *args: Any, **kwargs: Any) -> Tensor:
        """The quantile function: where the distribution function is q; nan for q outside [0, 1].

        >>> import fastgrad as fg
        >>> round(fg.stats.expon.ppf(0.5, scale=2.0).item(), 4)
        1.3863
        """
        self._refuse_if_not_closed("ppf")
        operands = self._operands("ppf", q, args, kwargs)
        outside = (operands.x < 0) | (operands.x > 1)
        y = self._ppf(where(outside, 0.5, operands.x), *operands.shapes)
        y = y if operands.scale is None else y * operands.scale
        y = y if operands.loc is None else y + operands.loc
        return _or_nan(operands.valid, where(outside, math.nan, y))


class Symmetric(Continuous):
    """A distribution that is symmetric about loc."""

    def _sf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return self._cdf(-z, *shapes)

    def _logsf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return self._logcdf(-z, *shapes)


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
        return _core.exp(self._density("pmf", k, args, kwargs))


# ---- distributions whose functions SciPy computes --------------------------------------------------------------------
class ByIncompleteFunction:
    """For a distribution whose function is an incomplete one of `_arguments`: of a and x, or of a, b, x and 1 - x,
    exact where that is small. These get the z and shape parameters of `Distribution._cdf`."""

    infinity_is_beyond = True
    _function: IncompleteFunction
    _arguments: Callable[..., tuple[Tensor, ...]]

    def _cdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return call(self._function.below, *self._arguments(z, *shapes))

    def _sf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return call(self._function.above, *self._arguments(z, *shapes))

    def _logcdf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return call(self._function.log_below, *self._arguments(z, *shapes))

    def _logsf(self, z: Tensor, *shapes: Tensor) -> Tensor:
        return call(self._function.log_above, *self._arguments(z, *shapes))


def _is(bound: Any, value: float) -> bool:
    return type(bound) is float and bound == value


def _or_nan(valid: Any, y: Tensor) -> Tensor:
    """y, and nan for parameters that are not valid."""
    return y if valid is True else where(valid, y, math.nan)
