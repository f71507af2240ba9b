"""``GLM``: generalised linear models, fitted by SciPy's minimisers with exact derivatives."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import d2_tweedie_score
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _core, activations, special
from .._scipy.minimize import minimize
from .._transforms.grad import no_grad
from ._checks import check_choice, check_flags, check_number, row_weights

__all__ = ["GLM"]

# The variance of y is in proportion to the mean to this power.
_POWERS = {"normal": 0.0, "poisson": 1.0, "gamma": 2.0, "inverse_gaussian": 3.0}
_METHODS = {"lbfgs": "L-BFGS-B", "newton-cholesky": "trust-exact"}

_Function = Callable[..., Any]
# Of each link: the mean by the linear predictor, its logarithm, and the link itself.
_LINKS: dict[str, tuple[_Function, _Function, _Function]] = {
    "identity": (_core.asarray, _core.log, float),
    "log": (_core.exp, _core.asarray, np.log),
    "logit": (activations.sigmoid, activations.log_sigmoid, lambda mean: np.log(mean) - np.log1p(-mean)),
    "probit": (special.ndtr, special.log_ndtr, lambda mean: special.ndtri(mean).numpy()),
}


def _half_deviance(family: str, power: float, link: str) -> _Function:
    """Of each row, by its linear predictor and y, but for what depends on y alone (Jorgensen, 1987)."""
    mean, log_mean, _ = _LINKS[link]

    def binomial(eta: Any, y: Any) -> Any:
        return -(y * log_mean(eta) + (1 - y) * log_mean(-eta))  # its links are symmetric

    def normal(eta: Any, y: Any) -> Any:
        return 0.5 * (mean(eta) - y) ** 2

    def poisson(eta: Any, y: Any) -> Any:
        return mean(eta) - y * log_mean(eta)

    def gamma(eta: Any, y: Any) -> Any:
        return log_mean(eta) + y * _core.exp(-log_mean(eta))

    def tweedie(eta: Any, y: Any) -> Any:
        log = log_mean(eta)
        return _core.exp((2 - power) * log) / (2 - power) - y * _core.exp((1 - power) * log) / (1 - power)

    if family == "binomial":
        return binomial
    return {0.0: normal, 1.0: poisson, 2.0: gamma}.get(power, tweedie)


class GLM(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A generalised linear model: the mean of y is the inverse of a link of a linear function of X.

    It minimises half the mean deviance of the rows, weighted, plus alpha / 2 times the sum of the squares of coef_, as
    scikit-learn's PoissonRegressor, GammaRegressor and TweedieRegressor do.

    Parameters
    ----------
    family : {"normal", "poisson", "gamma", "inverse_gaussian", "tweedie", "binomial"}
        The distribution of y: any numbers for normal, and for tweedie with a power of at most 0; of at least 0 for
        poisson, and for tweedie from power 1 to below 2; above 0 for gamma, inverse_gaussian, and tweedie from power 2
        on; in [0, 1] for binomial (logistic regression, which predicts the probability).
    link : {"auto", "identity", "log", "logit", "probit"}
        "auto" is identity for normal and for tweedie with a power of at most 0, logit for binomial, log for others.
        logit and probit are for binomial, and binomial takes no others.
    alpha : float
        The weight of the penalty.
    power : float
        Of tweedie: the variance of y is in proportion to the mean to this power, at most 0 or at least 1.
    fit_intercept : bool
        Whether there is a constant term, which is not penalised.
    solver : {"lbfgs", "newton-cholesky"}
        SciPy's L-BFGS-B, or its trust-exact with the exact Hessian: few steps where there are few columns.
    max_iter, tol, warm_start, verbose
        As of scikit-learn's. The solver ends where all derivatives are below tol.

    Attributes
    ----------
    coef_ : array of shape (n_features,)
    intercept_ : float
    n_iter_ : int
    n_features_in_, feature_names_in_

    Raises ValueError or TypeError for a parameter out of range, and for X or y that do not fit. Warns where the solver
    does not converge. Source: McCullagh and Nelder, "Generalized linear models" (1989).

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model = fg.sklearn.GLM("poisson", alpha=0).fit(x, [1.0, 2.0, 4.0, 8.0])
    >>> model.coef_.round(3), model.predict([[4.0]]).round(1)
    (array([0.693]), array([16.]))
    """

    coef_: np.ndarray
    intercept_: float

    def __init__(
        self,
        family: str = "normal",
        *,
        link: str = "auto",
        alpha: float = 1.0,
        power: float = 1.5,
        fit_intercept: bool = True,
        solver: str = "lbfgs",
        max_iter: int = 100,
        tol: float = 1e-4,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.family, self.link, self.alpha, self.power, self.fit_intercept = family, link, alpha, power, fit_intercept
        self.solver, self.max_iter, self.tol, self.warm_start, self.verbose = solver, max_iter, tol, warm_start, verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GLM:
        """Fit the model to rows X, of shape (n_samples, n_features), and y, of shape (n_samples,); returns self.

        A row of sample_weight 0 counts as if it were not there.
        """
        link, power = self._check_parameters()
        x, y = validate_data(self, X, y, y_numeric=True, dtype=(np.float64, np.float32))
        x, y, weight = row_weights(self, sample_weight, x, y)
        y = y.astype(x.dtype, copy=False)
        self._check_range(y, power)
        share = np.full(len(y), 1 / len(y), x.dtype) if weight is None else weight / weight.sum()
        half_deviance, alpha, has_intercept = (
            _half_deviance(self.family, power, link), float(self.alpha), bool(self.fit_intercept)
        )  # fmt: skip

        def cost(params: Any, x: Any, y: Any, share: Any) -> Any:
            eta = x @ params["coef"]
            if has_intercept:
                eta = eta + params["intercept"]
            return _core.sum(share * half_deviance(eta, y)) + 0.5 * alpha * _core.sum(params["coef"] ** 2)

        if self.warm_start and hasattr(self, "coef_"):
            start = {"coef": self.coef_.astype(x.dtype)}
            intercept = self.intercept_
        else:
            start = {"coef": np.zeros(x.shape[1], x.dtype)}
            intercept = self._link_of(float(np.sum(share * y)), link)
        if has_intercept:
            start["intercept"] = np.array(intercept, x.dtype)
        options = {"maxiter": self.max_iter, "gtol": self.tol}
        if self.solver == "lbfgs":
            options |= {"maxls": 50, "ftol": 64 * np.finfo(float).eps}
        found = minimize(cost, start, (x, y, share), method=_METHODS[self.solver], options=options)
        if not np.isfinite(found.fun):
            raise ValueError(
                f"GLM: the deviance came out as {found.fun}: the mean left the range of family={self.family!r}; take "
                "another link, or bring the columns of X to one scale"
            )
        if not found.success:
            warnings.warn(
                f"GLM: {self.solver} did not converge: {found.message}; increase max_iter, or bring the columns of X "
                "to one scale",
                ConvergenceWarning,
                stacklevel=2,
            )
        if self.verbose:
            print(f"{self.solver}: {found.nit} iterations, half the mean deviance and penalty {found.fun:.8g}")
        self.coef_ = found.x["coef"]
        self.intercept_ = float(found.x["intercept"]) if has_intercept else 0.0
        self.n_iter_, self._link = int(found.nit), link
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The mean of y for each row; of binomial, a probability."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        with no_grad():
            return np.array(_core.asarray(_LINKS[self._link][0](x @ self.coef_ + self.intercept_)).numpy())

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """D^2, the part of the deviance that is explained: 1 at best, 0 for the mean of y alone."""
        predicted, y = self.predict(X), np.asarray(y, np.float64)
        if self.family != "binomial":
            power = _POWERS.get(self.family, self.power)
            return float(d2_tweedie_score(y, predicted, sample_weight=sample_weight, power=power))
        mean = np.average(y, weights=sample_weight)

        def deviance(p: Any) -> float:
            rows = special.rel_entr(y, p) + special.rel_entr(1 - y, 1 - p)
            return float(np.average(rows.numpy(), weights=sample_weight))

        return 1 - deviance(predicted) / deviance(np.full(len(y), mean))

    def _check_parameters(self) -> tuple[str, float]:
        """Raise where a parameter is out of range; the link, and the power of the variance."""
        check_choice(self, "family", [*_POWERS, "tweedie", "binomial"])
        check_choice(self, "link", ["auto", *_LINKS])
        check_choice(self, "solver", list(_METHODS))
        check_number(self, "alpha", 0)
        check_number(self, "tol", 0, above=True)
        check_number(self, "max_iter", 1, integer=True)
        check_flags(self, "fit_intercept", "warm_start")
        if self.family == "tweedie":
            check_number(self, "power", -np.inf)
            if 0 < self.power < 1:
                raise ValueError(
                    f"GLM: power is {self.power!r}, expected at most 0 or at least 1: no distribution has another"
                )
        power = float(_POWERS.get(self.family, self.power))
        is_binomial = self.family == "binomial"
        if self.link == "auto":
            return "logit" if is_binomial else "identity" if power <= 0 else "log", power
        if (self.link in ("logit", "probit")) != is_binomial:
            raise ValueError(
                f"GLM: link={self.link!r} does not go with family={self.family!r}; expected "
                f"{'logit or probit' if is_binomial else 'identity or log'}"
            )
        return self.link, power

    def _check_range(self, y: np.ndarray, power: float) -> None:
        least = float(y.min())
        if self.family == "binomial":
            wrong, expected = least < 0 or float(y.max()) > 1, "numbers from 0 to 1"
        elif power >= 2:
            wrong, expected = least <= 0, "numbers above 0"
        else:
            wrong, expected = power >= 1 and least < 0, "numbers of at least 0"
        if wrong:
            raise ValueError(f"GLM: y has values from {least:g} to {float(y.max()):g}, expected {expected} for "
                             f"family={self.family!r}")  # fmt: skip

    @staticmethod
    def _link_of(mean: float, link: str) -> float:
        """The linear predictor for the mean of y, held off the ends of its range."""
        if link in ("logit", "probit"):
            mean = min(max(mean, 1e-6), 1 - 1e-6)
        elif link == "log":
            mean = max(mean, 1e-6)
        return float(_LINKS[link][2](mean))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        takes_any = self.family == "tweedie" and self.power <= 0
        tags.target_tags.positive_only = not takes_any and self.family not in ("normal", "binomial")
        return tags
