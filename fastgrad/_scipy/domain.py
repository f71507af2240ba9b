"""Where the function of a solver has finite values and derivatives, and what a search is told elsewhere.

A search may try a point outside of the function's domain, where a logarithm is nan or a matrix has no Cholesky factor.
The step has only to be shorter. So such a point counts as higher than where the search stands, which no comparison with
nan says. The start has to lie inside, or there is nowhere to go from.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .vectors import Scalar, Variables

__all__ = ["Domain", "NoStart", "ResidualsDomain"]

_LOOK = "look for a sqrt, log or division at the edge of its domain, and keep it away by fastgrad.where within f"


class NoStart(Exception):
    """x0 lies outside: f and its gradient there, None if it has none, and what is wrong."""

    def __init__(self, value: float, gradient: np.ndarray | None, message: str) -> None:
        super().__init__(message)
        self.value, self.gradient = value, gradient


class Domain:
    """The function to minimise and its derivatives, as SciPy calls them, with values for points outside.

    With ``interpolates`` the method's line search takes values and slopes for those of a cubic, and breaks off at inf.
    It gets the value and slope of the parabola along the line of which a quarter of the step is the minimum: higher
    than where the line begins, so that the point is not accepted. Other methods get inf.
    """

    def __init__(self, name: str, objective: Scalar, variables: Variables, interpolates: bool) -> None:
        self._name, self._objective, self._variables, self._interpolates = name, objective, variables, interpolates
        # The last point inside, x, value and gradient, and that where the line begins.
        self._found: tuple[np.ndarray, float, np.ndarray] | None = None
        self._base: tuple[np.ndarray, float, np.ndarray] | None = None
        self._tried, self._outside = 0, 0
        self._ahead: tuple[np.ndarray, tuple[float, np.ndarray]] | None = None  # x and what was computed for it early
        self._last_outside: np.ndarray | None = None
        self._why = ""  # what was wrong there
        self._of_hessian = ""

    def value(self, x: np.ndarray, *args: Any) -> float:
        """f(x) for methods without derivatives."""
        self._tried += 1
        try:
            y = self._objective.value(x, *args)
        except np.linalg.LinAlgError as error:
            self._raise_at_start(error, self._tried == 1)
            return self._leave(f"f raised {type(error).__name__}: {error}")
        if math.isnan(y) and self._tried == 1:
            raise NoStart(y, None, f"At x0 f is {y}; start where it is finite")
        return self._leave("f was nan") if math.isnan(y) else y

    def value_and_gradient(self, x: np.ndarray, *args: Any) -> tuple[float, np.ndarray]:
        """What SciPy takes with jac=True."""
        if self._ahead is not None and np.array_equal(self._ahead[0], x):
            return self._ahead[1]
        self._tried += 1
        start = self._found is None
        try:
            y, gradient = self._objective.value_and_gradient(x, *args)
        except np.linalg.LinAlgError as error:
            self._raise_at_start(error, start)
            return self._beyond(x, f"f raised {type(error).__name__}: {error}")
        if math.isnan(y) or y == math.inf:
            if start:
                raise NoStart(y, gradient, f"At x0 f is {y}; start where f and its gradient are finite")
            return self._beyond(x, f"f was {y}")
        if _core.first_not_finite([gradient]) >= 0:
            where = self._variables.not_finite(gradient)
            if start:
                cure = f"{_LOOK}, or start elsewhere"
                raise NoStart(y, gradient, f"At x0 f is {y:.6g}, but its gradient by {where} is not finite; {cure}")
            return self._beyond(x, f"the gradient by {where} was not finite")
        self._found = x.copy(), y, gradient
        self._base = self._base or self._found
        return y, gradient

    def callback(self, callback: Callable[..., Any] | None) -> Callable[..., Any]:
        """A callback for SciPy that takes note of where the next line begins, and calls another."""

        def accept(x: Any) -> None:
            if self._found is not None and np.array_equal(self._found[0], x):
                self._base = self._found

        if callback is None:
            return accept
        if set(inspect.signature(callback).parameters) == {"intermediate_result"}:  # of which SciPy looks at the name

            def accept_result(intermediate_result: Any) -> Any:
                accept(getattr(intermediate_result, "x", intermediate_result))  # TNC passes the vector alone
                return callback(intermediate_result=intermediate_result)

            return accept_result

        def accept_point(x: Any, *rest: Any) -> Any:
            accept(x)
            return callback(x, *rest)

        return accept_point

    def hessian(self, x: np.ndarray, *args: Any) -> np.ndarray:
        """The second derivatives at x; zeros outside, where the method rejects the step by the value alone."""
        if self._is_inside(x, args):
            return self._second(self._objective.hessian(x, *args))
        return np.zeros((x.size, x.size))

    def hessian_product(self, x: np.ndarray, p: np.ndarray, *args: Any) -> np.ndarray:
        """The same times a vector p."""
        if self._is_inside(x, args):
            return self._second(self._objective.hessian_product(x, p, *args))
        return np.zeros(x.size)

    def told(self) -> str:
        """What went wrong, for a search that did not succeed."""
        told = []
        if self._outside:
            told.append(f"Of {self._tried} points tried {self._outside} lay outside of f's domain: {self._why}.")
        if self._of_hessian:
            told.append(f"The Hessian of f by {self._of_hessian} was not finite.")
        return " ".join(told)

    def _is_inside(self, x: np.ndarray, args: tuple[Any, ...]) -> bool:
        """Whether f has a value at x; trust-exact asks for the Hessian before it asks for that."""
        if self._found is not None and np.array_equal(self._found[0], x):
            return True
        if self._last_outside is None or not np.array_equal(self._last_outside, x):
            self._ahead = None
            self._ahead = x.copy(), self.value_and_gradient(x, *args)
        return self._found is not None and np.array_equal(self._found[0], x)

    def _second(self, found: np.ndarray) -> np.ndarray:
        if not self._of_hessian and _core.first_not_finite([found]) >= 0:
            bad = found if found.ndim == 1 else np.where(np.isfinite(found).all(1), 0.0, np.nan)
            self._of_hessian = self._variables.not_finite(bad)
        return found

    def _raise_at_start(self, error: Exception, start: bool) -> None:
        if start:
            error.add_note(f"{self._name}: this is at x0; start where f and its gradient are finite")
            raise error

    def _leave(self, why: str) -> float:
        self._outside += 1
        self._why = why
        return math.inf

    def _beyond(self, x: np.ndarray, why: str) -> tuple[float, np.ndarray]:
        """Value and gradient for a point outside."""
        y, self._last_outside = self._leave(why), x.copy()
        if not self._interpolates or self._base is None:
            return y, np.zeros(x.shape)
        begin, value, gradient = self._base
        step = x - begin
        rise = abs(float(gradient @ step))
        return value + rise, 3 * rise / max(float(step @ step), np.finfo(np.float64).tiny) * step


class ResidualsDomain:
    """Residuals and their Jacobian as SciPy calls them for least squares, which shortens a step for what is not finite.

    ``values`` and ``jacobian`` are functions of any arguments. ``not_finite`` names, for errors, the variables whose
    numbers in a vector are not finite; the vector has one number for each column of the Jacobian.
    """

    def __init__(
        self, name: str, values: Callable[..., np.ndarray], jacobian: Callable[..., Any],
        not_finite: Callable[[np.ndarray], str],
    ) -> None:  # fmt: skip
        self._name, self._values, self._jacobian, self._not_finite = name, values, jacobian, not_finite
        self._size: int | None = None  # of the residuals, once they were computed

    def values(self, *args: Any) -> np.ndarray:
        """The residuals, inf at points outside; an error at the first point."""
        try:
            found = self._values(*args)
        except np.linalg.LinAlgError as error:
            if self._size is None:
                error.add_note(f"{self._name}: this is at the start; begin where f is finite")
                raise
            return np.full(self._size, np.inf)
        if self._size is None and _core.first_not_finite([found]) >= 0:
            raise ValueError(
                f"{self._name}: Residuals are not finite in the initial point: f returned "
                f"{np.count_nonzero(~np.isfinite(found))} numbers of {found.size} that are nan or infinite; begin "
                "where f is finite"
            )
        self._size = found.size
        return found

    def jacobian(self, *args: Any) -> Any:
        """The Jacobian, a matrix or a sparse one; an error where it is not finite."""
        found = self._jacobian(*args)
        entries = found if isinstance(found, np.ndarray) else found.data  # of a sparse matrix
        if _core.first_not_finite([entries]) >= 0:
            bad = ~np.isfinite(entries)
            columns = np.zeros(found.shape[1])
            columns[bad.any(0) if entries is found else found.indices[bad]] = np.nan
            raise ValueError(
                f"{self._name}: f is finite, but its derivatives by {self._not_finite(columns)} are not, at a point "
                f"that the search has come to; {_LOOK}, set bounds, or start elsewhere"
            )
        return found
