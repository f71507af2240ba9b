"""minimize, least_squares and curve_fit where f has no finite value or derivative at some points."""

import re
import warnings

import numpy as np
import pytest
from test_minimize import WITH_GRADIENT, WITHOUT_GRADIENT

import fastgrad as fg

COVARIANCE = np.array([[1.26, 0.0754], [0.0754, 0.696]])
METHODS = [method for method in WITH_GRADIENT if method != "dogleg"] + WITHOUT_GRADIENT


def distance(p):
    """That of a covariance from a given one, by its Cholesky factor: the least is 2 + log(det) where both are equal."""
    c = fg.stack([fg.stack([p["a"], p["c"]]), fg.stack([p["c"], p["b"]])])
    factor = fg.linalg.cholesky(c)
    return 2 * fg.sum(fg.log(fg.diagonal(factor))) + fg.trace(fg.linalg.solve(c, COVARIANCE))


def barrier(x):
    """Least at 3, and nan below 0."""
    return np.sum(x - 3 * np.log(x))


def steep(x):
    return 1e8 * barrier(x)


@pytest.mark.parametrize("method", METHODS)
def test_a_point_without_a_cholesky_factor_shortens_the_step(method):
    refused = []

    def f(p):
        try:
            return distance(p)
        except np.linalg.LinAlgError:
            refused.append(method)
            raise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # BFGS of trust-constr
        result = fg.minimize(f, {"a": 5.0, "b": 0.05, "c": 0.0}, method=method, compile=False)
    assert result.success, result.message
    found = [[result.x["a"], result.x["c"]], [result.x["c"], result.x["b"]]]
    np.testing.assert_allclose(found, COVARIANCE, atol=2e-3)
    np.testing.assert_allclose(result.fun, 2 + np.log(np.linalg.det(COVARIANCE)), atol=1e-5)
    assert refused or method in (None, "BFGS", "COBYLA")  # which happen to stay inside


@pytest.mark.parametrize("f", [barrier, steep])
@pytest.mark.parametrize("method", METHODS)
def test_a_point_where_f_is_nan_shortens_the_step(method, f):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = fg.minimize(f, np.array([0.01, 100.0]), method=method)
    np.testing.assert_allclose(result.x, [3.0, 3.0], atol=5e-3)


@pytest.mark.parametrize("bounds", [None, [(1e-3, None), (None, 200.0)]])
def test_the_default_method_knows_which_line_search_it_has(bounds):
    accepted, start = [], np.array([0.01, 100.0])
    result = fg.minimize(barrier, start, bounds=bounds, callback=lambda x: accepted.append(barrier(x)))
    np.testing.assert_allclose(result.x, [3.0, 3.0], atol=1e-3)
    assert np.all(np.diff([float(y) for y in accepted]) <= 0)  # also no nan


@pytest.mark.parametrize("method", ["L-BFGS-B", "TNC"])
def test_callbacks_of_results_come_through(method):
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.x["x"])

    fg.minimize(lambda p: barrier(p["x"]), {"x": np.array([0.01, 100.0])}, method=method, callback=callback)
    assert len(seen) > 3 and seen[0].shape == (2,)

    def stop(x):
        raise StopIteration

    assert fg.minimize(barrier, np.array([0.01, 100.0]), method="L-BFGS-B", callback=stop).nit == 1


@pytest.mark.parametrize("method", WITH_GRADIENT + WITHOUT_GRADIENT)
def test_a_start_where_f_is_nan_is_said(method):
    result = fg.minimize(lambda x: np.sum(np.log(x) * np.nan), np.ones(2), method=method)
    assert not result.success and np.isnan(result.fun) and result.nit == 0
    assert result.message.startswith("At x0 f is nan; start where")
    np.testing.assert_array_equal(result.x, np.ones(2))


@pytest.mark.parametrize("method", WITH_GRADIENT)
def test_a_gradient_at_the_start_that_is_not_finite_is_said(method):
    f = lambda p: np.sum(np.sqrt(p["edge"])) + p["inside"] ** 2
    result = fg.minimize(f, {"edge": np.array([0.0, 1.0]), "inside": 1.0}, method=method)
    assert not result.success and result.fun == 2.0
    assert "At x0 f is 2, but its gradient by x0['edge'] (1 of 2 numbers) is not finite" in result.message
    np.testing.assert_array_equal(result.jac["edge"], [np.inf, 0.5])


def test_points_without_a_gradient_are_told_where_the_search_fails():
    def edge(p):  # it falls without an end, but below 0.3 its gradient is nan
        y = np.sum(p["depth"]) + 0 * np.sum(p["rest"])
        return y if y > 0.3 else y + np.sum(np.sqrt(0 * p["depth"]))

    result = fg.minimize(edge, {"depth": np.ones(2), "rest": np.ones(2)}, compile=False)
    assert not result.success and np.sum(result.x["depth"]) > 0.3
    told = r"Of \d+ points tried \d+ lay outside of f's domain: the gradient by x0\['depth'\] \(2 of 2 numbers\) was"
    assert re.search(told, result.message)


def test_a_start_without_a_cholesky_factor_is_an_error():
    for function in (fg.minimize, fg.least_squares):
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite") as caught:
            function(distance, {"a": 1.0, "b": 1.0, "c": 2.0})
        assert any("start" in note for note in caught.value.__notes__)


def test_a_hessian_that_is_not_finite_is_told():
    f = lambda p: np.sum(np.abs(p["x"]) ** 1.5) + (p["y"] - 1) ** 2
    with pytest.raises(ValueError) as caught:
        fg.minimize(f, {"x": np.zeros(2), "y": 0.0}, method="trust-exact")
    assert "minimize: The Hessian of f by x0['x'] (2 of 2 numbers) was not finite." in caught.value.__notes__


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_residuals_without_a_value_shorten_the_step(method):
    def residuals(x):
        factor = fg.linalg.cholesky(fg.stack([fg.stack([x[0], x[1]]), fg.stack([x[1], 1.0 + 0 * x[0]])]))
        return fg.stack([fg.log(factor[0, 0]) + 3, 3 * x[1] - 0.1])

    with pytest.raises(np.linalg.LinAlgError):
        fg.minimize(lambda x: np.sum(residuals(x) ** 2), np.array([-1.0, 0.0]))
    result = fg.least_squares(residuals, np.array([9.0, 0.0]), method=method)
    assert result.success
    np.testing.assert_allclose(result.x, [np.exp(-6.0), 0.1 / 3], atol=1e-6)


@pytest.mark.parametrize("sparsity", [None, "auto"])
def test_a_jacobian_that_is_not_finite_is_an_error(sparsity):
    with pytest.raises(ValueError, match=r"derivatives by x0\['b'\] \(1 of 2 numbers\) are not"):
        fg.least_squares(
            lambda p: fg.concatenate([p["a"], fg.sqrt(p["b"])]), {"a": np.ones(2), "b": np.array([1.0, 0.0])},
            jac_sparsity=sparsity,
        )  # fmt: skip


@pytest.mark.parametrize("method", ["lm", "trf"])
def test_curve_fit(method):
    t = np.linspace(0.1, 1, 10)
    model = lambda t, height, rate: height * fg.log(rate * t)
    np.testing.assert_allclose(fg.curve_fit(model, t, np.log(5 * t), p0=[5.0, 100.0], method=method)[0], [1, 5])
    with pytest.raises(ValueError, match="^curve_fit: Residuals are not finite in the initial point: f returned 10"):
        fg.curve_fit(model, t, np.log(5 * t), p0=[5.0, -1.0], method=method)
    with pytest.raises(ValueError, match="derivatives by (height, )?rate are not"):
        fg.curve_fit(lambda t, height, rate: height * t + fg.sqrt(rate), t, t, p0=[1.0, 0.0], method=method)
    with pytest.raises(ValueError, match="derivatives by (parameter 0, )?parameter 1 are not"):
        fg.curve_fit(lambda t, *p: p[0] * t + fg.sqrt(p[1]), t, t, p0=[1.0, 0.0], method=method)
