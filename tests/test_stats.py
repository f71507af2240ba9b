"""Distributions: values against SciPy's and high precision, derivatives by every argument, what is outside of the
support, parameters that are not valid, and the same under every transform."""

import copy
import pickle
import re

import mpmath
import numpy as np
import pytest
from scipy import stats as scipy_stats

import fastgrad as fg

INF, NAN = np.inf, np.nan

# name: shape parameters, and others that SciPy takes as not valid.
CONTINUOUS = {
    "norm": ((), ()), "cauchy": ((), ()), "t": ((3.5,), (-1.0,)), "laplace": ((), ()), "logistic": ((), ()),
    "vonmises": ((2.5,), (-1.0,)), "expon": ((), ()), "gamma": ((2.3,), (0.0,)), "invgamma": ((1.7,), (-1.0,)),
    "chi2": ((3.3,), (-2.0,)), "f": ((3.1, 5.2), (3.0, -1.0)), "lognorm": ((0.7,), (-0.5,)),
    "pareto": ((2.2,), (-1.0,)), "weibull_min": ((1.6,), (-1.0,)), "halfnorm": ((), ()), "uniform": ((), ()),
    "beta": ((2.2, 0.6), (-1.0, 1.0)), "truncnorm": ((-1.2, 2.1), (2.0, 1.0)),
}  # fmt: skip
DISCRETE = {
    "poisson": ((3.3,), (-1.0,)), "binom": ((7, 0.3), (7, 1.5)), "nbinom": ((2.5, 0.3), (-1.0, 0.5)),
    "bernoulli": ((0.3,), (1.5,)), "geom": ((0.3,), (0.0,)),
}  # fmt: skip
ALL = CONTINUOUS | DISCRETE
NO_QUANTILES = {"vonmises"}
DISTRIBUTION = ("cdf", "sf", "logcdf", "logsf")
OF_DENSITY = {name: ("logpdf", "pdf") if name in CONTINUOUS else ("logpmf", "pmf") for name in ALL}


METHODS = [(name, method) for name in ALL for method in OF_DENSITY[name] + DISTRIBUTION]


def ours(name, method):
    return getattr(getattr(fg.stats, name), method)


def theirs(name, method, *args, **kwargs):
    with np.errstate(all="ignore"):
        return getattr(getattr(scipy_stats, name), method)(*args, **kwargs)


def points(name):
    """Numbers on both sides of every bound, far out, and special ones."""
    if name in DISCRETE:
        return np.array([-2, -1, 0, 1, 1.5, 2, 3, 7, 8, 30, 1000, 2.000001, NAN])
    return np.concatenate([np.linspace(-6, 9, 61) + 0.013, [-500, -40, 30, 40, 500, 1e5, NAN, 0, 1, 0.5, 1e-300]])


def others(name):
    return (2.0, 0.5) if name in CONTINUOUS else (2,)


def inner(name):
    """Points within the support at loc 0.3 and scale 1.7, away from kinks."""
    if name in DISCRETE:
        return np.array([0.0, 0.0, 0.0] if name == "bernoulli" else [1.0, 2.0, 4.0])
    low = {"pareto": 1.0}.get(name, 0.0)
    return 0.3 + 1.7 * (low + np.array([0.31, 0.47, 0.83]))


# ---- values ----------------------------------------------------------------------------------------------------------
# SciPy takes the logarithm of what has underflowed, or lost its digits, where it has no formula of its own.
FINER = {
    *(
        (name, f"log{tail}")
        for name in "gamma invgamma chi2 f t beta poisson binom nbinom".split()
        for tail in ("cdf", "sf")
    ),
    ("laplace", "logpdf"),
    ("laplace", "logcdf"),
    ("laplace", "logsf"),
    ("halfnorm", "logsf"),
    ("weibull_min", "logcdf"),
    ("geom", "logcdf"),
}


@pytest.mark.parametrize("name, method", METHODS)
@pytest.mark.parametrize("moved", [False, True])
def test_values(name, method, moved):
    x = points(name)
    shapes = ALL[name][0] + (others(name) if moved else ())
    found, expected = ours(name, method)(x, *shapes).numpy(), theirs(name, method, x, *shapes)
    if (name, method) in FINER:
        assert (found[np.isneginf(expected)] < -300).all()
        near = ~(np.isneginf(expected) & np.isfinite(found)) & (expected < -1e-4)
        assert near.sum() > 1
        found, expected = found[near], expected[near]
    # SciPy's distribution function of angles is only exact to 1e-14 of 1.
    rtol, atol = (1e-11, 1e-13) if name == "vonmises" else (1e-12, 0)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", sorted(set(CONTINUOUS) - NO_QUANTILES))
def test_quantiles(name):
    q = np.array([0.0, 0.2, 0.49, 0.51, 0.9, 1 - 1e-10, 1.0, -0.1, 1.1, NAN])
    shapes = CONTINUOUS[name][0]
    for more in ((), others(name)):
        found = ours(name, "ppf")(q, *shapes, *more).numpy()
        np.testing.assert_allclose(found, theirs(name, "ppf", q, *shapes, *more), rtol=1e-12, atol=1e-15)
        far = [] if name in ("f", "t", "truncnorm") else [1e-200, 1e-20, 1e-9]  # there SciPy's are wrong
        small = np.append(q, far)
        found = ours(name, "isf")(small, *shapes, *more).numpy()
        np.testing.assert_allclose(found, theirs(name, "isf", small, *shapes, *more), rtol=1e-12, atol=1e-15)
    p = np.array([1e-4, 0.3, 0.7])
    if name not in ("beta", "truncnorm", "uniform"):  # numbers close to the upper bound are not dense
        tail = np.array([1e-40, 1e-9])
        again = ours(name, "sf")(ours(name, "isf")(tail, *shapes), *shapes).numpy()
        np.testing.assert_allclose(again, tail, rtol=1e-10)
    np.testing.assert_allclose(ours(name, "cdf")(ours(name, "ppf")(p, *shapes), *shapes).numpy(), p, rtol=1e-10)


TRUNCATED = [
    (-1e4, 0.3), (-1e4, 1e-10), (-100, 2), (-100, 1e-5), (-38, 50), (-38, INF), (-5, 1e-2), (-1, 0.3), (-1e-8, 2e-8),
    (0, 1e-5), (1e-20, 1e-3), (0.5, INF), (3, 1e-10), (37, 0.3), (40, INF), (300, 1e-5), (1e4, INF), (1e8, INF),
]  # fmt: skip


@pytest.mark.parametrize("a, width", TRUNCATED)
def test_a_normal_distribution_limited_to_any_interval(a, width):
    """However far out and narrow it is, against mpmath: quantiles, and every function at them."""
    q = np.array([1e-12, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9])
    b = a + width
    x = fg.stats.truncnorm.ppf(q, a, b).numpy()
    low, high, spacing = float(a), float(b), np.spacing(abs(x)) + 1e-300
    assert ((x >= low) & (x <= high)).all()
    with mpmath.workdps(60 if abs(a) < 1e3 else 80):
        f = lambda x: mpmath.erfc(-mpmath.mpf(x) / mpmath.sqrt(2)) / 2
        mass = lambda low, high: f(-low) - f(-high) if low > 0 else f(high) - f(low)
        density = lambda x: mpmath.exp(-(mpmath.mpf(x) ** 2) / 2) / mpmath.sqrt(2 * mpmath.pi) / mass(low, high)
        wanted = {
            "pdf": [density(z) for z in x], "cdf": [mass(low, z) / mass(low, high) for z in x],
            "sf": [mass(z, high) / mass(low, high) for z in x],
        }  # fmt: skip
        for name in list(wanted):
            wanted["log" + name] = [mpmath.log(y) if y else -INF for y in wanted[name]]
        off = np.array([float(abs(p - r) / density(z)) for p, r, z in zip(q, wanted["cdf"], x)])
        wanted = {name: np.array(list(map(float, values))) for name, values in wanted.items()}
    assert (off <= 8 * spacing + 4e-16 / wanted["pdf"]).all(), off / spacing
    for name, expected in wanted.items():
        found = ours("truncnorm", name)(x, a, b).numpy()
        np.testing.assert_allclose(found, expected, rtol=2e-13, atol=2e-13 * name.startswith("log"), err_msg=name)


def test_quantiles_at_the_ends_of_an_interval():
    for dtype in (np.float32, np.float64):
        for a, b in ((-1, 1), (-INF, -40), (700, INF), (-INF, INF), (-1, 50), (1e30, INF), (1e6, 1e7)):
            q, bounds = np.array([0, 1], dtype), (np.array(a, dtype), np.array(b, dtype))
            found = fg.stats.truncnorm.ppf(q, *bounds)
            assert found.dtype == dtype and found.tolist() == [x.item() for x in bounds]
            by_q, *by_bounds = fg.grad(lambda *args: fg.stats.truncnorm.ppf(*args).sum(), (0, 1, 2))(q, *bounds)
            assert (by_q > 0).all()
            np.testing.assert_array_equal(by_bounds, [float(np.isfinite(bound)) for bound in (a, b)])
    for a, b in ((-2.0, 3.0), (-45.0, -40.0), (70.0, 80.0), (-50.0, 3.0)):
        q = np.array([0.1, 0.4, 0.95])
        fg.check_grads(fg.stats.truncnorm.ppf, (q, a, b), order=2, atol=1e-5, rtol=1e-5)
        quantile = lambda q: fg.stats.truncnorm.ppf(q, a, b)
        np.testing.assert_allclose(fg.compile(quantile)(q), quantile(q).numpy(), rtol=1e-14)
        np.testing.assert_allclose(fg.compile(fg.vmap(quantile))(q), quantile(q).numpy(), rtol=1e-14)


def exact(name, z, *shapes):
    """Logarithms of densities at loc 0 and scale 1, in mpmath."""
    z, *shapes = map(mpmath.mpf, (z, *shapes))
    log, gamma = mpmath.log, mpmath.loggamma
    if name == "t":
        (n,) = shapes
        return gamma((n + 1) / 2) - gamma(n / 2) - log(n * mpmath.pi) / 2 - (n + 1) / 2 * log(1 + z * z / n)
    if name == "cauchy":
        return -log(mpmath.pi * (1 + z * z))
    if name == "f":
        n, m = shapes
        return (n / 2 * log(n / m) + (n / 2 - 1) * log(z) - (n + m) / 2 * log(1 + n * z / m)
                - gamma(n / 2) - gamma(m / 2) + gamma((n + m) / 2))  # fmt: skip
    if name == "binom":
        n, p = shapes
        return gamma(n + 1) - gamma(z + 1) - gamma(n - z + 1) + z * log(p) + (n - z) * log(1 - p)
    if name == "vonmises":
        (k,) = shapes
        return k * mpmath.cos(z) - log(2 * mpmath.pi * mpmath.besseli(0, k))
    low, high = shapes
    ndtr = lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2
    return -z * z / 2 - log(2 * mpmath.pi) / 2 - log(ndtr(-low) - ndtr(-high))


@pytest.mark.parametrize(
    "name, z, shapes",
    [
        ("t", 1e200, (3.0,)), ("t", -2.0, (1e9,)), ("t", 0.5, (1e-3,)), ("cauchy", 1e170, ()), ("cauchy", 1e-9, ()),
        ("f", 1e200, (3.0, 4.0)), ("f", 2.0, (1e7, 3e6)), ("binom", 400_000.0, (1_000_000.0, 0.4)),
        ("vonmises", 0.01, (1e5,)), ("vonmises", 3.0, (700.0,)), ("truncnorm", 51.0, (50.0, 52.0)),
        ("truncnorm", 8.5, (8.0, 60.0)), ("truncnorm", -8.0, (-9.0, -7.0)), ("truncnorm", 1.0, (-30.0, 30.0)),
    ],
)  # fmt: skip
def test_tails_and_large_parameters(name, z, shapes):
    with mpmath.workdps(800 if name == "truncnorm" else 60):
        expected = float(exact(name, z, *shapes))
    found = ours(name, "logpmf" if name == "binom" else "logpdf")(z, *shapes).item()
    assert abs(found - expected) <= 1e-12 * abs(expected) + 1e-8 * (name == "binom"), (found, expected)


@pytest.mark.parametrize("x, kappa, expected", [
    (-3.1, 40.0, -82.2459103495616), (-1.0, 40.0, -20.999316470607198), (-0.01, 40.0, -0.7447243756010874),
    (0.5, 40.0, -0.0009070313085568012), (-3.1, 1e3, -2000.3218385724101), (-0.3, 1e3, -47.828078445944115),
])  # fmt: skip
def test_the_tails_of_angles(x, kappa, expected):
    """Against integrals by mpmath with 30 digits."""
    np.testing.assert_allclose(fg.stats.vonmises.logcdf(x, kappa).item(), expected, rtol=1e-13)
    np.testing.assert_allclose(fg.stats.vonmises.logsf(-x, kappa).item(), expected, rtol=1e-13)


def test_distribution_functions_in_the_tails():
    t, norm, z = fg.stats.t, fg.stats.norm, np.array([-2.0, 0.5])
    np.testing.assert_allclose(t.logpdf(z, [INF, 3.0])[0].item(), norm.logpdf(-2.0).item(), rtol=1e-15)
    assert t.logpdf(0.5, [INF, 3.0])[1].item() == t.logpdf(0.5, 3.0).item()
    np.testing.assert_allclose(fg.grad(lambda z: t.logpdf(z, INF).sum())(z), -z, rtol=1e-15)
    np.testing.assert_allclose(fg.grad(lambda z: t.cdf(z, INF).sum())(z), norm.pdf(z).numpy(), rtol=1e-14)
    np.testing.assert_allclose(fg.stats.norm.logcdf(-1e10).item(), -5e19, rtol=1e-12)
    np.testing.assert_allclose(fg.stats.truncnorm.logsf(60.0, 50.0, INF).item(), -550.1823, rtol=1e-4)
    np.testing.assert_allclose(fg.stats.cauchy.cdf(-1e100).item(), 1e-100 / np.pi, rtol=1e-14)
    np.testing.assert_allclose(fg.stats.cauchy.logcdf(1e100).item(), -1e-100 / np.pi, rtol=1e-14)
    np.testing.assert_allclose(fg.stats.laplace.logcdf(1000.0).item(), 0.0, atol=0)
    np.testing.assert_allclose(fg.stats.pareto.logcdf(1e200, 2.0).item(), 0.0, atol=0)
    np.testing.assert_allclose(fg.stats.geom.logsf(10**6, 0.5).item(), -(10**6) * np.log(2), rtol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_infinity_is_outside(name):
    shapes = ALL[name][0]
    if name != "vonmises":
        assert ours(name, OF_DENSITY[name][0])(INF, *shapes).item() == -INF
    if True:
        found = [ours(name, method)([INF, -INF], *shapes).tolist() for method in DISTRIBUTION]
        assert found == [[1, 0], [0, 1], [0, -INF], [-INF, 0]]


# ---- outside of the support, and parameters that are not valid -------------------------------------------------------
OUTSIDE = {
    "expon": [-2.0, -1e-9], "gamma": [-2.0, -1e-9], "chi2": [-2.0, -1e-9], "f": [-2.0, -1e-9],
    "weibull_min": [-2.0, -1e-9], "halfnorm": [-2.0, -1e-9],
    "invgamma": [-2.0, 0.0], "lognorm": [-2.0, 0.0], "pareto": [-1.0, 0.5], "uniform": [-0.1, 1.1],
    "beta": [-0.5, 1.5], "truncnorm": [-3.0, 3.0], "poisson": [-1.0, 1.5], "binom": [-1.0, 8.0], "nbinom": [-1.0, 0.5],
    "bernoulli": [2.0, 0.5], "geom": [0.0, -3.0],
}  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_of_the_support(name):
    """-inf, and 0 as the gradient by every argument and by those of the gradient."""
    shapes = tuple(map(float, ALL[name][0])) + ((0.0, 1.0) if name in CONTINUOUS else (0.0,))
    argnums = tuple(range(1 + len(shapes)))
    for method in OF_DENSITY[name]:
        function = lambda *args: ours(name, method)(*args).sum()
        x = np.array(OUTSIDE[name])
        assert (ours(name, method)(x, *shapes).numpy() == (-INF if method.startswith("log") else 0.0)).all()
        for g in fg.grad(function, argnums)(x, *shapes):
            np.testing.assert_array_equal(g, np.zeros_like(g))
        second = fg.grad(lambda *args: sum(fg.sum(g) for g in fg.grad(function, argnums)(*args)), argnums)
        for g in second(x, *shapes):
            np.testing.assert_array_equal(g, np.zeros_like(g))
    if name in CONTINUOUS:
        for method in DISTRIBUTION:
            x = np.array([OUTSIDE[name][0]])
            for g in fg.grad(lambda *args: ours(name, method)(*args).sum(), argnums)(x, *shapes):
                np.testing.assert_array_equal(g, np.zeros_like(g))


@pytest.mark.parametrize("name, method", METHODS)
def test_parameters_that_are_not_valid(name, method):
    valid, invalid = ALL[name]
    x = np.array([-1.0, 0.5, 1.0, 2.0])
    function = ours(name, method)
    for shapes in (invalid, (*valid, 0.0, -1.0), (*valid, 0.0, 0.0), tuple([NAN] * len(valid))):
        if (shapes == valid) or (name in DISCRETE and len(shapes) > len(valid)):
            continue
        assert np.isnan(function(x, *shapes).numpy()).all()  # numbers
        arrays = [np.full(4, p) for p in shapes]
        assert np.isnan(function(x, *arrays).numpy()).all()
        assert np.isnan(fg.compile(function)(x, *arrays)).all()
        assert np.isnan(theirs(name, method, 0.5, *shapes))  # above, some of SciPy's are 1


# ---- derivatives -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, method", METHODS)
def test_derivatives(name, method):
    x, shapes = inner(name), ALL[name][0]
    function = ours(name, method)
    if name in DISCRETE:  # k and n are whole numbers, and not differentiated
        fixed = (7,) if name == "binom" else ()
        free = shapes[len(fixed) :]
        fg.check_grads(
            lambda *p: function(x, *fixed, *p), tuple(np.array([p, 1.1 * p, 0.9 * p]) for p in free), order=2
        )
        fg.check_grads(lambda *p: function(x, *fixed, *p), free, order=2)
        return
    arguments = (x, *[np.array([p, 1.1 * p, 0.9 * p]) for p in shapes], 0.3, 1.7)
    fg.check_grads(function, arguments, order=2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(set(CONTINUOUS) - NO_QUANTILES))
def test_derivatives_of_quantiles(name):
    arguments = (np.array([0.2, 0.7]), *CONTINUOUS[name][0], 0.3, 1.7)
    fg.check_grads(ours(name, "ppf"), arguments, order=2, atol=1e-5, rtol=1e-5)
    fg.check_grads(ours(name, "isf"), arguments, order=2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["ppf", "isf"])
@pytest.mark.parametrize("name", [name for name in CONTINUOUS if name != "vonmises"])
def test_quantiles_of_0_and_1(name, method):
    """They are the bounds of the support, and no slope is nan."""
    f, q = ours(name, method), np.array([0.0, 1.0])
    arguments = [*CONTINUOUS[name][0], *others(name)]
    for dtype in (np.float32, np.float64):
        given = [np.asarray(p, dtype) for p in (q, *arguments)]
        found = f(*given)
        assert found.dtype == dtype
        np.testing.assert_allclose(found.numpy(), theirs(name, method, q, *arguments), rtol=1e-6)
        slopes_of_each = fg.vmap(fg.grad(f, tuple(range(len(given)))), in_axes=(0, *[None] * len(arguments)))
        slopes = slopes_of_each(*given)
        assert (slopes[0] >= 0 if method == "ppf" else slopes[0] <= 0).all()
        assert not np.isnan(slopes).any()
    for slope, again in zip(slopes, fg.compile(slopes_of_each)(*given)):
        np.testing.assert_allclose(again, slope, rtol=1e-6)


def test_derivatives_at_the_middle_are_those_of_smooth_functions():
    for name in ("laplace", "logistic", "cauchy", "norm"):
        for method, sign in (("cdf", 1), ("sf", -1)):
            slope = fg.grad(ours(name, method))(0.0)
            np.testing.assert_allclose(slope, sign * theirs(name, "pdf", 0.0), rtol=1e-14)
    assert fg.grad(fg.stats.laplace.logpdf)(0.0) == 0
    assert fg.grad(fg.grad(fg.stats.cauchy.logpdf))(0.0) == -2


def test_derivatives_at_bounds():
    p = fg.grad(lambda mu: fg.stats.poisson.logpmf(np.array([0.0, 0.0]), mu).sum())
    assert p(0.0) == -2
    assert fg.grad(lambda p: fg.stats.bernoulli.logpmf(1, p))(1.0) == 1
    slope = fg.grad(lambda a: fg.stats.gamma.logpdf(0.0, a))(1.0)
    np.testing.assert_allclose(slope, np.euler_gamma, rtol=1e-14)  # 0 log 0 has slope 0
    assert fg.grad(fg.stats.expon.cdf)(0.0) == 1
    for x in (0.0, 1.0):
        assert (fg.grad(fg.stats.uniform.cdf)(x), fg.grad(fg.stats.uniform.sf)(x)) == (1, -1)
    for a, b in ((-1.2, 2.1), (3.0, 4.0), (-50.0, -49.0), (30.0, 31.0)):
        for x in (a, b):
            density = theirs("truncnorm", "pdf", x, a, b)
            np.testing.assert_allclose(fg.grad(fg.stats.truncnorm.cdf)(x, a, b), density, rtol=1e-11)
            np.testing.assert_allclose(fg.grad(fg.stats.truncnorm.sf)(x, a, b), -density, rtol=1e-11)
        assert np.isfinite(fg.grad(fg.stats.truncnorm.logcdf, (0, 1, 2))(b, a, b)).all()
        assert np.isfinite(fg.grad(fg.stats.truncnorm.logpdf, (0, 1, 2))(b, a, b)).all()
    for g in fg.grad(fg.stats.truncnorm.logcdf, (0, 1, 2))(0.5, -INF, INF):  # a bound that does not matter
        assert np.isfinite(g)


@pytest.mark.parametrize(
    "function, arguments",
    [
        (fg.stats.gamma.logpdf, (np.array([0.5, 2.0]), 1.0)), (fg.stats.chi2.logpdf, (np.array([0.5, 2.0]), 2.0)),
        (fg.stats.beta.logpdf, (np.array([0.2, 0.7]), 1.0, 1.0)), (fg.stats.f.logpdf, (np.array([0.2, 0.7]), 2.0, 3.0)),
        (fg.stats.weibull_min.logpdf, (np.array([0.2, 0.7]), 1.0)),
        (lambda a, b: fg.special.xlogy(a, b), (np.zeros(2), np.array([0.5, 2.0]))),
        (lambda a, b: fg.special.xlog1py(a, b), (np.zeros(2), np.array([-0.5, 2.0]))),
    ],
)  # fmt: skip
def test_second_derivatives_where_a_power_is_0(function, arguments):
    fg.check_grads(function, arguments, order=2)
    fg.check_grads(fg.compile(function), arguments)


def test_elements_outside_leave_the_others_alone():
    x, inside = np.array([-1.0, 0.5, 2.0, -0.1]), np.array([0.5, 2.0])
    loss = lambda x, a, loc, scale: fg.stats.gamma.pdf(x, a, loc, scale).sum()
    for g, expected in zip(fg.grad(loss, (1, 2, 3))(x, 2.5, 0.0, 1.5), fg.grad(loss, (1, 2, 3))(inside, 2.5, 0.0, 1.5)):
        np.testing.assert_allclose(g, expected, rtol=1e-14)


def test_counts_are_whole_by_their_dtype():
    """Integers are compared with the bounds only, also where they are traced."""
    f = fg.compile(lambda k, mu: fg.stats.poisson.logpmf(k, mu))
    mu = np.array([1.0, 2.0, 3.0])
    for dtype in (np.int64, np.int32, np.uint8, np.float64):
        k = np.array([0, 2, 5], dtype)
        np.testing.assert_allclose(f(k, mu), scipy_stats.poisson.logpmf(k, mu), rtol=1e-12)
        assert ("floor" in str(f.program(k, mu))) == (dtype == np.float64)
    np.testing.assert_array_equal(fg.stats.bernoulli.pmf([True, False], 0.25).numpy(), [0.25, 0.75])


# ---- transforms, dtypes and arguments --------------------------------------------------------------------------------
@pytest.mark.parametrize("name, method", METHODS)
def test_compiled_mapped_and_of_every_kind_of_argument(name, method):
    function, shapes = ours(name, method), ALL[name][0]
    x = inner(name)
    expected = function(x, *shapes).numpy()
    same = lambda found: np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-14)
    same(function(fg.tensor(x), *map(fg.tensor, map(float, shapes))).numpy())
    same(function(x.tolist(), *[[p] for p in shapes]).numpy())
    same(fg.compile(function)(x, *shapes))
    same(fg.compile(lambda x: function(x, *shapes))(x))
    same(fg.vmap(lambda x: function(x, *shapes))(x))
    same(fg.vmap(function)(x, *[np.full(3, p) for p in shapes]))
    names = getattr(fg.stats, name).shapes
    same(function(x, **dict(zip(names, shapes)), loc=0).numpy())
    assert function(x[:, None], *[np.full(2, p) for p in shapes]).shape == (3, 2 if shapes else 1)
    assert function(np.zeros((0, 2)), *shapes).shape == (0, 2)
    argnums = tuple(range(1 + len(shapes)))
    total = lambda *args: function(*args).sum()
    eager = fg.grad(total, argnums)(x, *map(float, shapes))
    for a, b in zip(fg.compile(fg.grad(total, argnums))(x, *map(float, shapes)), eager):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    tangents = (np.ones(3), *[0.1] * len(shapes))
    _, t = fg.jvp(function, (x, *map(float, shapes)), tangents)
    np.testing.assert_allclose(np.sum(np.asarray(t)), sum(np.sum(g * d) for g, d in zip(eager, tangents)), rtol=1e-10,
                               atol=1e-12)  # fmt: skip


@pytest.mark.parametrize("name, method", METHODS)
def test_float32_is_kept(name, method):
    x = inner(name).astype(np.float32)
    y = ours(name, method)(x, *ALL[name][0])
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), theirs(name, method, x.astype(float), *ALL[name][0]), rtol=2e-5, atol=1e-6)
    if name in DISCRETE:
        k = np.array([1, 1], np.int64)
        assert ours(name, method)(k, *map(np.float64, ALL[name][0])).dtype == np.float64


@pytest.mark.parametrize("name, method", METHODS)
def test_float32_is_kept_on_bounds_and_in_programs(name, method):
    function = getattr(getattr(fg.stats, name), method)
    shapes = ALL[name][0]
    for edge in (0.0, 1.0, INF):
        x = np.array([edge, 0.5], np.float32)
        for values in (shapes, [0.0] * len(shapes), [1.0] * len(shapes)):
            arguments = (x, *[np.full(2, v, np.float32) for v in values])
            assert function(*arguments).dtype == np.float32
    assert fg.compile(function)(*arguments).dtype == np.float32


def test_distributions_are_copied():
    for d in (fg.stats.norm, fg.stats.wishart):
        for again in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
            assert repr(again) == repr(d) and type(again) is type(d)
            assert not hasattr(again, "rvs")


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda s: s.gamma.logpdf(1.0), TypeError, "stats.gamma.logpdf: expected the parameter a"),
        (lambda s: s.norm.logpdf(1.0, 0, 1, 2), TypeError, "expected at most 2 parameters (loc, scale), got 3"),
        (lambda s: s.norm.pdf(1.0, mean=0), TypeError, "stats.norm.pdf: the parameter 'mean' is not among loc, scale"),
        (lambda s: s.norm.cdf(1.0, 0.0, loc=0), TypeError, "stats.norm.cdf: the parameter 'loc' is given twice"),
        (lambda s: s.poisson.pmf(1, 2.0, scale=1), TypeError, "the parameter 'scale' is not among mu, loc"),
        (lambda s: s.vonmises.ppf(0.5, 2.0), NotImplementedError, "stats.vonmises.ppf: they have no closed form"),
        (lambda s: s.multivariate_normal.logpdf(np.ones(3), np.ones(2)), ValueError, "expected vectors of length 3"),
        (lambda s: s.multivariate_normal.logpdf(np.ones(3), cov=np.eye(2)), ValueError, "expected (3, 3)"),
        (lambda s: s.multivariate_normal.logpdf(np.ones(1), cov=1, chol=[[1.0]]), ValueError, "cov or chol, got both"),
        (lambda s: s.multivariate_normal.pdf(np.ones(2), cov=-np.eye(2)), np.linalg.LinAlgError, "positive definite"),
        (lambda s: s.dirichlet.logpdf(np.ones(4), np.ones(3)), ValueError, "do not fit"),
        (lambda s: s.multinomial.logpmf(np.ones(4), 4, np.ones(3) / 3), ValueError, "do not fit"),
        (lambda s: s.wishart.logpdf(np.eye(2), 4, np.eye(3)), ValueError, "do not fit"),
        (lambda s: s.gamma(2.0), TypeError, "as in fastgrad.stats.gamma.logpdf(x, a, loc, scale)"),
        (lambda s: s.nbinom(2, 0.5), TypeError, "as in fastgrad.stats.nbinom.logpmf(x, n, p, loc)"),
        (
            lambda s: s.multivariate_normal(cov=1),
            TypeError,
            "multivariate_normal.logpdf(x, mean, cov, allow_singular, chol)",
        ),
        (lambda s: s.multinomial(3, [0.5, 0.5]), TypeError, "as in fastgrad.stats.multinomial.logpmf(x, n, p)"),
        (lambda s: s.multinomial.logpdf([1, 2], 3), AttributeError, "multinomial has no method 'logpdf'; use logpmf"),
        (lambda s: s.dirichlet.rvs(), AttributeError, "dirichlet has no method 'rvs'; random numbers are in"),
        (lambda s: s.norm.rvs(size=3), AttributeError, "'rvs'; random numbers are in fastgrad.random"),
        (lambda s: s.norm.fit(np.ones(3)), AttributeError, "by fastgrad.minimize"),
        (lambda s: s.poisson.logpdf(1, 2.0), AttributeError, "stats.poisson has no method 'logpdf'; use logpmf"),
        (lambda s: s.t.pmf(1, 2.0), AttributeError, "stats.t has no method 'pmf'; use pdf"),
        (lambda s: s.t.entropy(2.0), AttributeError, "stats.t has no method 'entropy'"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call(fg.stats)


def test_methods_of_scipy_name_ours():
    t = fg.tensor([0.4, 0.6], requires_grad=True)
    for call, ours_ in (
        (lambda s: s.norm.logpdf(t), "norm.logpdf"), (lambda s: s.norm(0, 1).cdf(t), "norm.cdf"),
        (lambda s: s.gamma.pdf(1.0, t), "gamma.pdf"), (lambda s: s.poisson.logpmf(1, t), "poisson.logpmf"),
        (lambda s: s.multivariate_normal.logpdf(t), "multivariate_normal.logpdf"),
        (lambda s: s.multivariate_normal([0.0, 0.0]).logpdf(t), "multivariate_normal.logpdf"),
        (lambda s: s.multivariate_normal(t), "multivariate_normal"),
        (lambda s: s.dirichlet.logpdf(t, [1.0, 2.0]), "dirichlet.logpdf"),
    ):  # fmt: skip
        name = ours_.rpartition(".")[2]
        with pytest.raises(TypeError, match=re.escape(f"Instead of SciPy's {name} use fastgrad.stats.{ours_}") + "$"):
            call(scipy_stats)
    for call in (lambda s: s.rankdata(t), lambda s: s.norm.interval(t)):  # what we do not have
        with pytest.raises(TypeError, match="requires gradients") as caught:
            call(scipy_stats)
        assert "fastgrad.stats" not in str(caught.value)


def test_every_distribution_is_tested():
    assert {*ALL, "multivariate_normal", "dirichlet", "multinomial", "wishart"} == set(fg.stats.__all__)
    assert repr(fg.stats.norm) == "fastgrad.stats.norm"
