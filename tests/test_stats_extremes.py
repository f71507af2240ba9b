"""Every function of every distribution of one variable at 0, on and beyond the bounds of the support, far out and at
infinity, and with parameters at the edge of what is valid: no value and no derivative is nan there."""

import itertools

import mpmath
import numpy as np
import pytest

import fastgrad as fg

INF = np.inf
SHAPES = {
    "norm": [()], "cauchy": [()], "laplace": [()], "logistic": [()], "expon": [()], "halfnorm": [()], "uniform": [()],
    "t": [(1,), (3.5,), (1e-3,), (1e10,), (INF,)], "chi2": [(1,), (2,), (3,), (1e-3,), (1e4,)],
    "f": [(1, 2), (2, 3), (5, 1), (1e-2, 1e2)], "gamma": [(1,), (0.5,), (2,), (1e-3,), (1e4,)],
    "invgamma": [(1,), (0.5,), (1e-3,), (1e4,)], "beta": [(1, 1), (0.5, 0.5), (2, 3), (1, 2), (1e-3, 1e3)],
    "truncnorm": [(-1, 2), (-INF, 1), (2, INF), (-INF, INF), (40, 41), (-50, -40), (0, 1), (37, 700)],
    "lognorm": [(1,), (0.1,), (10,)], "pareto": [(1,), (0.5,), (1e3,)], "vonmises": [(0,), (1,), (1e3,)],
    "weibull_min": [(1,), (0.5,), (2,), (1e-2,), (100,)],
    "poisson": [(0,), (1,), (1e4,)], "binom": [(0, 0.5), (3, 0.5), (3, 0), (3, 1), (1e6, 1e-8)],
    "nbinom": [(1, 0.5), (0.5, 1), (3, 1e-10)], "bernoulli": [(0,), (0.5,), (1,)], "geom": [(0.5,), (1,), (1e-10,)],
}  # fmt: skip
POINTS = [0, 1, -1, 3, 0.5, 37, -37, 700, -700, 1e20, -1e20, INF, -INF]
FAR = [1e-20, -1e-20, 1e-160, 1e-300, -1e-300, 1 - 1e-16, 1 + 1e-15, 1e160, -1e160, 1e300, -1e300]


def methods(distribution):
    names = ("logpmf", "pmf") if distribution.is_discrete else ("logpdf", "pdf")
    return (*names, "cdf", "sf", "logcdf", "logsf")


CASES = [(name, method) for name in SHAPES for method in methods(getattr(fg.stats, name))]


def grid(name, dtype):
    """All arguments of a method as arrays of one shape: points and shape parameters, and loc and scale."""
    d = getattr(fg.stats, name)
    points = POINTS + (FAR if dtype == np.float64 and not d.is_discrete else [])
    bounds = [b for p in SHAPES[name] for b in p] if name == "truncnorm" else []
    if name == "vonmises":  # beyond a turn its functions are negative, and their logarithms nan
        points = [x for x in points if abs(x) < np.pi or np.isinf(x)]
    rows = [(x, *p, 0.0, 1.0) for p in SHAPES[name] for x in points + bounds]
    arguments = [np.array(column, dtype) for column in zip(*rows)]
    return arguments[:-1] if d.is_discrete else arguments


def gradients(function, arguments):
    return fg.grad(lambda *args: function(*args).sum(), tuple(range(len(arguments))))(*arguments)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name, method", CASES)
def test_nothing_is_nan(name, method, dtype):
    function, arguments = getattr(getattr(fg.stats, name), method), grid(name, dtype)
    rows = np.stack(arguments, axis=1)
    y = function(*arguments).numpy()
    assert not np.isnan(y).any(), rows[np.isnan(y)]
    for i, g in enumerate(gradients(function, arguments)):
        assert not np.isnan(g).any(), (i, rows[np.isnan(g)])
        outside = np.isinf(rows[:, 0]) if not function.__self__.takes_infinity or method != "logpdf" else []
        assert not g[outside].any(), (i, rows[outside], g[outside])


@pytest.mark.parametrize("name, method", CASES)
def test_compiled_it_is_the_same(name, method):
    function, arguments = getattr(getattr(fg.stats, name), method), grid(name, np.float64)
    for got, expected in zip(
        fg.compile(lambda *args: (function(*args), *gradients(function, args)))(*arguments),
        (function(*arguments), *gradients(function, arguments)),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("method, a, expected", [
    ("logpdf", 2.5, (INF, -INF, -2.5)), ("pdf", 3.0, (0, 0, 0)), ("pdf", 2.0, (1, 0, 0)), ("cdf", 0.5, (INF, 0, 0)),
    ("cdf", 2.0, (0, 0, 0)), ("logcdf", 2.5, (INF, -INF, -2.5)), ("sf", 2.0, (0, 0, 0)), ("logsf", 0.5, (-INF, 0, 0)),
])  # fmt: skip
def test_derivatives_on_a_bound_are_one_sided_limits(method, a, expected):
    """By x, the shape and the scale of a gamma distribution; where a limit is infinite, a large number."""
    found = fg.grad(lambda *args: getattr(fg.stats.gamma, method)(args[0], args[1], 0.0, args[2]), (0, 1, 2))(
        0.0, a, 1.0
    )
    for g, limit in zip(found, expected):
        if np.isinf(limit):
            assert np.sign(limit) * g > 600
        else:
            np.testing.assert_allclose(g, limit, rtol=1e-12, atol=1e-140)


def test_probabilities_at_an_edge_have_their_slopes():
    for k, p, slope in ((1, 0.0, 1), (0, 0.0, -1), (1, 1.0, 1), (0, 1.0, -1)):
        np.testing.assert_allclose(fg.grad(lambda p: fg.stats.bernoulli.pmf(k, p))(p), slope, rtol=1e-12)
        np.testing.assert_allclose(fg.grad(lambda p: fg.stats.binom.pmf(k, 1, p))(p), slope, rtol=1e-12)
        assert fg.stats.binom.pmf(k, 1, np.array(p)).item() == fg.stats.bernoulli.pmf(k, np.array(p)).item() == (k == p)
    for mu, k, slope in ((0.0, 0, -1), (0.0, 1, 1), (0.0, 2, 0)):
        np.testing.assert_allclose(fg.grad(lambda mu: fg.stats.poisson.pmf(k, mu))(mu), slope, rtol=1e-12, atol=1e-15)


SPREAD = [1e-300, 1e-100, 1e-10, 0.5, 3.0, 1e3, 1e10, 1e20, 1e100, 1e300]
PROBABILITIES = [1e-300, 1e-100, 1e-10, 0.5, 1 - 1e-10, 1 - 1e-16, 1.0]
ANY = {
    "t": [SPREAD], "chi2": [SPREAD], "f": [SPREAD[:7], SPREAD[:7]], "gamma": [SPREAD], "invgamma": [SPREAD],
    "beta": [SPREAD, SPREAD], "lognorm": [SPREAD], "pareto": [SPREAD], "weibull_min": [SPREAD], "poisson": [SPREAD],
    "binom": [[1.0, 3.0, 1e10, 1e20, 1e300], PROBABILITIES], "nbinom": [SPREAD, PROBABILITIES], "geom": [PROBABILITIES],
}  # fmt: skip


@pytest.mark.parametrize("name", ANY)
def test_probabilities_of_any_parameters_are_probabilities(name):
    """From 0 to 1, and their logarithms at most 0 and not those of other numbers."""
    d, far = getattr(fg.stats, name), [1e3, 1e10, 1e100, 1e300, INF]
    points = [0.0, 1.0, 2.0, *far] if d.is_discrete else [-1.0, 5e-324, *FAR[3:8:2], 0.5, 1.0, 38.0, *far]
    rows = np.array(list(itertools.product(points, *ANY[name]))).T
    cdf, sf, logcdf, logsf = (getattr(d, method)(*rows).numpy() for method in ("cdf", "sf", "logcdf", "logsf"))
    for y in (cdf, sf):
        bad = ~((y >= 0) & (y <= 1))
        assert not bad.any(), rows.T[bad]
    for y in (logcdf, logsf):
        bad = ~(y <= 0)
        assert not bad.any(), rows.T[bad]
    np.testing.assert_allclose(np.exp(logcdf), cdf, rtol=1e-9, atol=1e-290)
    np.testing.assert_allclose(np.exp(logsf), sf, rtol=1e-9, atol=1e-290)


def test_tails_of_large_parameters():
    """By mpmath: where a shape is huge, and where SciPy's function of its arguments is nan."""
    stats = fg.stats
    for value, expected in (
        (stats.t.logcdf(-38.0, 1e20), -726.55721601882013), (stats.t.logcdf(-38.0, 1e300), -726.55721601882013),
        (stats.t.logcdf(1e10, 1e-300), np.log(0.5)), (stats.nbinom.logsf(1e300, 1.0, 1e-100), -1e200),
        (stats.f.cdf(0.5, 3.0, 1e300), 0.31772966966378), (stats.beta.cdf(1e-300, 3.0, 1e300), 0.0803013970713942),
        (stats.gamma.logsf(1e10, 1e-300), -10000000713.8013788), (stats.t.sf(1e160, 0.5), 3.207009754142289e-81),
        (stats.nbinom.sf(1e300, 3.0, 1e-300), 0.919698602928606),
    ):  # fmt: skip
        np.testing.assert_allclose(value.item(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["f", "invgamma"])
def test_arguments_beyond_float32_of_float32_numbers(name):
    """The quotients of which the functions are made are computed in float64: no derivative is nan."""
    shapes = [np.array([1e-10, 0.5, 1e10], np.float32)] * (2 if name == "f" else 1)
    rows = [np.array(c, np.float32) for c in zip(*itertools.product(np.float32([1e-30, 1.0, 1e10]), *shapes))]
    for method in ("cdf", "sf", "logcdf", "logsf"):
        function = getattr(getattr(fg.stats, name), method)
        assert function(*rows).dtype == np.float32
        for g in gradients(function, rows):
            assert g.dtype == np.float32 and not np.isnan(g).any(), method


@pytest.mark.parametrize("n", [1e-3, 2.5, 1e2, 1e6, 1e10, 1e12, 1e14])
@pytest.mark.parametrize("k", [0, 3, 1000])
def test_nbinom_of_many_successes(n, k):
    """Its limit is Poisson's distribution: counts that are not overdispersed drive a fit of n there."""
    p = n / (n + 4)
    with mpmath.workdps(60):
        size, chance = mpmath.mpf(n), mpmath.mpf(p)
        chosen = mpmath.loggamma(size + k) - mpmath.loggamma(size) - mpmath.loggamma(k + 1)
        value = float(chosen + size * mpmath.log(chance) + k * mpmath.log(1 - chance))
        slope = float(mpmath.digamma(size + k) - mpmath.digamma(size) + mpmath.log(chance))
    y, g = fg.value_and_grad(lambda n: fg.stats.nbinom.logpmf(k, n, p))(n)
    assert y == pytest.approx(value, rel=1e-14, abs=1e-14 * (1 + 40 * k))
    assert g == pytest.approx(slope, rel=1e-13)
