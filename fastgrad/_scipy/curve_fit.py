"""``curve_fit``: SciPy's, with the exact Jacobian of the model."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .._arguments import flag
from .._compile.compiled import Compiled
from .._core import Tensor
from .._transforms.arguments import describe_type
from .domain import ResidualsDomain
from .vectors import Variables, Vector, refuse_native, scipy

__all__ = ["curve_fit"]


def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: Any = (-np.inf, np.inf),
    method: str | None = None,
    jac: Any = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    compile: bool = True,
    **kwargs: Any,
) -> Any:
    """Fit a function to data by ``scipy.optimize.curve_fit``, with its exact Jacobian.

    Parameters
    ----------
    f : callable
        ``f(x, *params)`` returns the M values of the model, computed by fastgrad's or NumPy's functions; each parameter
        comes as a tensor without axes.
    xdata : array_like or object
        What f gets as x, as float64 if it is an array or a list; any other object as it is.
    ydata : array_like of M numbers
    p0, sigma, absolute_sigma, check_finite, bounds, method, full_output, nan_policy
        As SciPy's: p0 is found by the names of f's parameters and the bounds where it is None; sigma has the standard
        deviations of ydata or their covariance; method is "lm", "trf" or "dogbox".
    jac : callable or str, optional
        None for the exact Jacobian; otherwise as SciPy's, and f is then called with numbers.
    compile : bool
        Trace f and its Jacobian at the first two calls and replay them later, as ``fg.minimize`` does. Each fit traces
        anew, unless f is made by ``fastgrad.compile``, once for all fits: then their programs are kept with it.
    **kwargs
        Passed on to ``leastsq`` for method="lm", else to ``least_squares``.

    Returns
    -------
    popt, pcov : ndarray of shape (n,), (n, n)
        The parameters at the least sum of squares, and their estimated covariance; with full_output also SciPy's
        infodict, mesg and ier.

    Raises TypeError where f returns nothing that was computed from tensors, ValueError where f is not finite at p0, or
    its derivatives at a point that the fit has come to, ImportError if SciPy is not installed, else what SciPy raises
    and warns.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> t = np.linspace(0, 4, 30)
    >>> popt, pcov = fg.curve_fit(lambda t, a, k: a * np.exp(-k * t), t, 2.5 * np.exp(-1.3 * t))
    >>> popt.round(6)
    array([2.5, 1.3])
    """
    if "native" in kwargs:
        refuse_native("curve_fit")
    compile = flag("curve_fit", "compile", compile)
    optimize = scipy("curve_fit")
    if not callable(f):
        raise TypeError(f"curve_fit: expected a function, got {f!r}")
    model, exact = f, jac
    if jac is None:
        if getattr(xdata, "ndim", None) == 1 and hasattr(xdata, "to_numpy"):
            xdata = xdata.to_numpy()  # a column of a DataFrame, which would not take the tensors of the parameters
        fitted = _Model(f, compile)
        domain = ResidualsDomain("curve_fit", fitted.values, fitted.jacobian, lambda found: _not_finite(f, found))
        exact = domain.jacobian

        @functools.wraps(f)  # SciPy looks at the names of the parameters
        def model(x: Any, *params: Any) -> np.ndarray:
            return domain.values(x, *params)

    return optimize.curve_fit(
        model, xdata, ydata, p0, sigma, absolute_sigma, check_finite, bounds, method, exact, full_output=full_output,
        nan_policy=nan_policy, **kwargs,
    )  # fmt: skip


class _Model:
    """The model as SciPy calls it, with x and the parameters, which it may do with several x.

    x is a constant of the program, so that it may be anything. Of an f that is compiled it is an input, and the
    programs are kept with f, for the next call with as many parameters.
    """

    def __init__(self, f: Callable[..., Any], compile: bool) -> None:
        self._f, self._compile = f, compile
        self._x: Any = None
        self._vector: Vector | None = None

    def _at(self, x: Any, params: tuple[Any, ...]) -> tuple[Vector, np.ndarray, tuple[Any, ...]]:
        """The residuals, the vector of parameters, and what they take besides."""
        f, vector, n = self._f, np.asarray(params, np.float64), len(params)
        if self._compile and isinstance(f, Compiled) and isinstance(x, np.ndarray):
            static = (1,) if 0 in f.static_places(1 + n) else ()
            kept: Vector = f.derived(("curve_fit", n, static), lambda: self._made(_of_vector(f, n), n, static))
            return kept, vector, (x,)
        if self._vector is None or self._x is not x:
            of_x = _of_vector(f, n)
            self._vector, self._x = self._made(lambda p: of_x(p, x), n), x
        return self._vector, vector, ()

    def _made(self, values: Callable[..., Any], n: int, static: tuple[int, ...] = ()) -> Vector:
        native = self._f.native if isinstance(self._f, Compiled) and self._compile else None
        variables = Variables("curve_fit", np.zeros(n), "p0")
        return Vector("curve_fit", values, variables, (), self._compile, static, native)

    def values(self, x: Any, *params: Any) -> np.ndarray:
        residuals, vector, more = self._at(x, params)
        return residuals.values(vector, *more)

    def jacobian(self, x: Any, *params: Any) -> np.ndarray:
        residuals, vector, more = self._at(x, params)
        return residuals.jacobian(vector, *more)


def _not_finite(f: Callable[..., Any], vector: np.ndarray) -> str:
    """The names of the parameters whose numbers in a vector are not finite."""
    names: list[str] = []
    with contextlib.suppress(TypeError, ValueError):  # it has no signature
        names = [p.name for p in inspect.signature(f).parameters.values() if p.kind is not p.VAR_POSITIONAL][1:]
    bad = np.flatnonzero(~np.isfinite(vector))
    return ", ".join(names[i] if i < len(names) else f"parameter {i}" for i in bad)


def _of_vector(f: Callable[..., Any], n: int) -> Callable[..., Any]:
    """The model as a function of the vector of n parameters, and x."""

    def values(p: Any, x: Any) -> Any:
        y = f(x, *[p[i] for i in range(n)])
        if isinstance(p, Tensor) and not isinstance(y, Tensor):
            raise TypeError(
                f"curve_fit: f returned {describe_type(y)}, of which no Jacobian is known; compute with fastgrad's or "
                "NumPy's functions on the parameters, or give jac='2-point'"
            )
        return y

    return values
