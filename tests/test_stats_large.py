"""Probabilities and densities of large numbers, against mpmath: where logarithms of powers and factorials cancel."""

import mpmath
import numpy as np
import pytest

import fastgrad as fg
from fastgrad import stats


def log_factorial(k):
    return mpmath.loggamma(k + 1)


def log_beta(a, b):
    return mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)


EXACT = {
    "poisson": lambda k, mu: k * mpmath.log(mu) - mu - log_factorial(k),
    "binom": lambda k, n, p: log_factorial(n) - log_factorial(k) - log_factorial(n - k) + k * mpmath.log(p)
    + (n - k) * mpmath.log(1 - p),
    "gamma": lambda x, a: (a - 1) * mpmath.log(x) - x - mpmath.loggamma(a),
    "chi2": lambda x, df: (df / 2 - 1) * mpmath.log(x) - x / 2 - mpmath.loggamma(df / 2) - df / 2 * mpmath.log(2),
    "invgamma": lambda x, a: -(a + 1) * mpmath.log(x) - 1 / x - mpmath.loggamma(a),
    "f": lambda x, m, n: m / 2 * mpmath.log(m / n) + (m / 2 - 1) * mpmath.log(x)
    - (m + n) / 2 * mpmath.log(1 + m / n * x) - log_beta(m / 2, n / 2),
    "beta": lambda x, a, b: (a - 1) * mpmath.log(x) + (b - 1) * mpmath.log(1 - x) - log_beta(a, b),
    "nbinom": lambda k, n, p: n * mpmath.log(p) + k * mpmath.log(1 - p) - log_beta(n, k + 1) - mpmath.log(n + k),
}  # fmt: skip


def slope(function, arguments, i, order):
    """The derivative by argument i."""
    f = lambda x: function(*arguments[:i], x, *arguments[i + 1 :])
    return mpmath.diff(f, arguments[i], order, h=arguments[i] * mpmath.mpf(10) ** -15)


SIZES = [1e-2, 0.5, 7.0, 15.9, 17.5, 300.0, 1e5, 1e8, 1e10, 1e12]
CASES = [
    *[("poisson", (max(np.floor(mu + s * mu**0.5), 0.0), mu)) for mu in SIZES for s in (0, -0.9, 2.5)],
    *[("binom", (np.floor(n * p + s * (n * p * (1 - p)) ** 0.5), n, p))
      for n in (1.0, 9.0, 1e3, 1e6, 1e9, 1e12) for p in (1e-3, 0.3, 0.5, 0.999) for s in (0, -0.9, 2.5)
      if 0 <= n * p + s * (n * p * (1 - p)) ** 0.5 <= n],
    *[("gamma", (a + s * a**0.5, a)) for a in SIZES for s in (0, -0.05, 2.5)],
    *[("chi2", (df + s * df**0.5, df)) for df in SIZES for s in (0, -0.05, 2.5)],
    *[("invgamma", (1 / (a + s * a**0.5), a)) for a in SIZES for s in (0, 2.5)],
    *[("f", (x, m, n)) for m in (0.5, 3.0, 1e12) for n in (0.5, 3.0, 1e12) for x in (0.2, 1.3, 40.0) if m + n < 2e12],
    *[("f", (1 + s / m**0.5, m, n)) for m in (40.0, 1e6, 1e12) for n in (m, 3 * m) for s in (0, -0.5, 2.5)],
    *[("beta", (a / (a + b) * (1 + s * (b / (a + b) / a) ** 0.5), a, b)) for a in (0.5, 17.0, 1e6, 1e12)
      for b in (3.0, 18.0, 1e5, 1e12) for s in (0, -0.5, 0.9)],
    *[("nbinom", (np.floor(n * (1 - p) / p * (1 + s / n**0.5)), n, p)) for n in (0.5, 15.5, 17.0, 1e6, 1e12)
      for p in (1e-3, 0.3, 0.999) for s in (0, -0.5, 0.5)],
]  # fmt: skip


@pytest.mark.parametrize("name, arguments", CASES)
def test_values_and_slopes(name, arguments):
    """Errors by the units in the last places of the arguments: the derivatives tell what these are worth."""
    d = getattr(stats, name)
    log_density = d.logpmf if d.is_discrete else d.logpdf
    eps = np.finfo(float).eps
    with mpmath.workdps(60):
        exact = [mpmath.mpf(x) for x in arguments]
        value = EXACT[name](*exact)
        first = int(d.is_discrete)  # counts are exact
        slopes = {i: slope(EXACT[name], exact, i, 1) for i in range(first, len(exact))}
        worth = sum(abs(float(s * exact[i])) for i, s in slopes.items())
        np.testing.assert_allclose(log_density(*arguments).item(), float(value), rtol=0,
                                   atol=eps * (20 + 8 * abs(float(value)) + 4 * worth))  # fmt: skip
        found = fg.grad(lambda *args: log_density(*args), tuple(range(len(arguments))))(*arguments)
        for i, s in slopes.items():
            second = slope(EXACT[name], exact, i, 2)
            last_places = abs(float(second * exact[i]))
            if i > 0 and not d.is_discrete:
                by_x = slope(lambda x: slope(EXACT[name], [x, *exact[1:]], i, 1), exact[:1], 0, 1)
                last_places += abs(float(by_x * exact[0]))
            limit = eps * (20 * abs(float(s)) + 20 * last_places + 100 / arguments[i])
            assert abs(found[i] - float(s)) <= limit, (i, found[i], float(s))


@pytest.mark.parametrize("p", [[0.2, 0.3, 0.5], [1e-9, 0.4, 0.6 - 1e-9], [0.1] * 10, [1.0]])
@pytest.mark.parametrize("n", [1, 10, 10**6, 10**9, 10**12, 10**15])
def test_multinomial(n, p):
    x = np.random.default_rng(n % 97).multinomial(n, np.array(p) / sum(p)).astype(float)
    with mpmath.workdps(60):
        chosen = log_factorial(mpmath.mpf(n)) - sum(log_factorial(mpmath.mpf(k)) for k in x)
        value = float(chosen + sum(mpmath.mpf(k) * mpmath.log(mpmath.mpf(q)) for k, q in zip(x, p)))
    for function in (stats.multinomial.logpmf, fg.compile(stats.multinomial.logpmf)):
        atol = 1e-13 + 4e-16 * n**0.5
        np.testing.assert_allclose(float(function(x, float(n), np.array(p))), value, rtol=1e-13, atol=atol)
    slopes = fg.grad(lambda p: stats.multinomial.logpmf(x, float(n), p))(np.array(p))
    np.testing.assert_allclose(slopes, x / p, rtol=1e-13)
    slope = fg.grad(lambda n: stats.multinomial.logpmf(x, n, np.array(p)))(float(n))
    np.testing.assert_allclose(slope, float(mpmath.digamma(n + 1)), rtol=1e-13)


def test_float32():
    """Some digits are left of the logarithms of probabilities of counts of a million."""
    mu, k = np.float32(1e6), np.float32(1e6 + 1500)
    with mpmath.workdps(40):
        expected = float(EXACT["poisson"](mpmath.mpf(float(k)), mpmath.mpf(float(mu))))
        np.testing.assert_allclose(stats.poisson.logpmf(k, mu).item(), expected, rtol=1e-6)
        expected = float(EXACT["gamma"](mpmath.mpf(float(k)), mpmath.mpf(float(mu))))
        np.testing.assert_allclose(stats.gamma.logpdf(k, mu).item(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["poisson", "binom", "multinomial"])
def test_slopes_by_counts_at_0(name):
    """Of the continuous function of k, as before and beyond: log(mean) + Euler's constant for k = 0."""
    euler = -float(mpmath.digamma(1))
    if name == "poisson":
        np.testing.assert_allclose(fg.grad(lambda k: stats.poisson.logpmf(k, 3.0))(0.0), np.log(3) + euler, rtol=1e-12)
    elif name == "binom":
        slope = float(np.log(0.3) - np.log(0.7) + mpmath.digamma(6) - mpmath.digamma(1))
        np.testing.assert_allclose(fg.grad(lambda k: stats.binom.logpmf(k, 5.0, 0.3))(0.0), slope, rtol=1e-12)
        by_n = float(mpmath.digamma(6) - mpmath.digamma(1) + np.log(0.7))
        np.testing.assert_allclose(fg.grad(lambda n: stats.binom.logpmf(5.0, n, 0.3))(5.0), by_n, rtol=1e-12)
    else:
        p = np.array([0.25, 0.75])
        slope = fg.grad(lambda x: stats.multinomial.logpmf(x, 2.0, p))(np.array([0.0, 2.0]))
        np.testing.assert_allclose(slope[0], np.log(0.25) + euler, rtol=1e-12)


@pytest.mark.parametrize("df", [0.7, 2.5, 3.5, 12.0, 900.0])
@pytest.mark.parametrize("q", [1e-300, 1e-200, 1e-100, 1e-40, 1e-25, 1e-10])
def test_quantiles_of_t_far_out(df, q):
    """SciPy's stdtrit loses all digits there."""
    t = stats.t.isf(q, df).item()
    assert stats.t.ppf(q, df).item() == -t
    with mpmath.workdps(60):
        v, x = mpmath.mpf(df), mpmath.mpf(t)
        tail = mpmath.betainc(v / 2, 0.5, 0, v / (v + x * x), regularized=True) / 2
        worth = 10 * max(1.0, df)  # what the last place of t is worth
        assert t == np.finfo(float).max or abs(float(tail / mpmath.mpf(q)) - 1) < worth * 1e-14


def test_slopes_of_quantiles_of_f_far_out():
    """For 2 and n degrees of freedom the quantile is n / 2 (q^(-2 / n) - 1)."""
    for q in (1e-160, 1e-60, 1e-20):
        n = 2.5
        y, slope = fg.value_and_grad(lambda q, n=n: stats.f.isf(q, 2.0, n))(q)
        np.testing.assert_allclose(y, n / 2 * q ** (-2 / n), rtol=1e-10)
        np.testing.assert_allclose(slope, -(q ** (-2 / n - 1)), rtol=1e-10)
        by_n = fg.grad(lambda n, q=q: stats.f.isf(q, 2.0, n))(n)
        np.testing.assert_allclose(by_n, q ** (-2 / n) * (0.5 + np.log(q) / n), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_beta_and_f_of_large_shapes_on_bounds_and_far_out(dtype):
    """Where x is 0, 1, tiny or infinite: the values, and slopes and curvatures that are not nan."""
    a, b = dtype(20), dtype(30)
    far = np.array([1e-30, 0.5, 1 - 6e-8], dtype)
    cases = [
        ("beta", [0, *far, 1, -1, 2], far),
        ("f", [0, 1e-30, 1.0, 1e30, np.inf], np.array([1e-30, 1.0, 1e30], dtype)),
    ]
    for name, x, inside in cases:
        f = lambda x, d=getattr(stats, name): d.logpdf(x, a, b)
        for function in (f, fg.compile(f), fg.vmap(f)):
            y = np.asarray(function(np.array(x, dtype)))
            assert y.dtype == dtype
            finite = [float(EXACT[name](*map(mpmath.mpf, map(float, (v, a, b))))) for v in inside]
            np.testing.assert_allclose(y[1 : 1 + len(finite)], finite, rtol=20 * np.finfo(dtype).eps, atol=1e-5)
            assert y[0] == -np.inf and (y[1 + len(finite) :] == -np.inf).all()
        for derivative in (fg.grad(f), fg.grad(fg.grad(f))):
            assert not np.isnan(fg.vmap(derivative)(np.array(x, dtype))).any()
