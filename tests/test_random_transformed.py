"""Numbers of ``fg.random`` that are functions of others, and whole numbers: their distributions by SciPy, gradients by
their parameters, and the same numbers eagerly, compiled and in loops."""

import re

import numpy as np
import pytest
from _distributions import N, sample
from scipy import special, stats

import fastgrad as fg
from fastgrad.random import default_rng

FLOATS = [np.float32, np.float64]

CONTINUOUS = {
    "logistic": (lambda r, n, d: r.logistic(1.0, 2.0, n, d), stats.logistic(1, 2)),
    "lognormal": (lambda r, n, d: r.lognormal(0.5, 0.7, n, d), stats.lognorm(0.7, scale=np.exp(0.5))),
    "rayleigh": (lambda r, n, d: r.rayleigh(3.0, n, d), stats.rayleigh(scale=3)),
    "weibull": (lambda r, n, d: r.weibull(0.7, n, d), stats.weibull_min(0.7)),
    "pareto": (lambda r, n, d: r.pareto(2.5, n, d), stats.lomax(2.5)),
    "power": (lambda r, n, d: r.power(0.4, n, d), stats.powerlaw(0.4)),
    "standard_cauchy": (lambda r, n, d: r.standard_cauchy(n, d), stats.cauchy()),
    "cauchy": (lambda r, n, d: r.cauchy(-1.0, 0.5, n, d), stats.cauchy(-1, 0.5)),
    "triangular": (lambda r, n, d: r.triangular(-1.0, 0.0, 3.0, n, d), stats.triang(0.25, -1, 4)),
    "rising": (lambda r, n, d: r.triangular(0.0, 2.0, 2.0, n, d), stats.triang(1.0, 0, 2)),
    "falling": (lambda r, n, d: r.triangular(0.0, 0.0, 2.0, n, d), stats.triang(0.0, 0, 2)),
    "f": (lambda r, n, d: r.f(3.0, 7.0, n, d), stats.f(3, 7)),
    "wishart": (lambda r, n, d: r.wishart(3.5, np.array([[2.0]], d), n)[:, 0, 0], stats.chi2(3.5, scale=2)),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distributions(name, dtype):
    draw, distribution = CONTINUOUS[name]
    x = sample(draw, distribution, 21, dtype)
    ranks = stats.rankdata(x)
    assert abs(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]) < 4 / np.sqrt(N)


def p_value(x, distribution, least=20):
    """Of a chi-squared test of whole numbers, those with small expectations together."""
    k = np.arange(x.min(), x.max() + 2)
    expected = distribution.pmf(k) * len(x)
    kept = expected >= least
    found, wanted = np.array([(x == i).sum() for i in k[kept]]), expected[kept]
    rest = len(x) - wanted.sum()
    if rest > 1:
        found, wanted = np.append(found, len(x) - found.sum()), np.append(wanted, rest)
    return stats.chisquare(found, wanted, sum_check=False).pvalue


COUNTS = {
    **{f"binomial {n} {p}": (lambda r, s, n=n, p=p: r.binomial(n, p, s), stats.binom(n, p))
       for n, p in ((1, 0.3), (5, 0.9), (30, 0.2), (30, 0.5), (49, 0.79), (60, 0.5), (1000, 0.02), (1000, 0.995))},
    "negative_binomial": (lambda r, s: r.negative_binomial(2.5, 0.3, s), stats.nbinom(2.5, 0.3)),
    "negative_binomial of 40": (lambda r, s: r.negative_binomial(40, 0.6, s), stats.nbinom(40, 0.6)),
    "geometric": (lambda r, s: r.geometric(0.3, s), stats.geom(0.3)),
    "geometric of 0.95": (lambda r, s: r.geometric(0.95, s), stats.geom(0.95)),
    "multinomial": (lambda r, s: r.multinomial(50, [0.1, 0.4, 0.5], s)[:, 1], stats.binom(50, 0.4)),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_whole_numbers(name):
    draw, distribution = COUNTS[name]
    x = draw(default_rng(4), N)
    assert x.dtype == np.int64 and x.shape == (N,)
    x = x.numpy()
    mean, variance = map(float, distribution.stats("mv"))
    assert p_value(x, distribution) > 0.01
    assert abs(x.mean() - mean) < 4 * np.sqrt(variance / N)


def test_binomial_numbers_of_many_trials():
    n = np.array([0.0, 1e3, 1e6, 1e9, 1e12, 1e15, 1e15])
    p = np.array([0.5, 0.5, 1e-3, 0.7, 1e-12, 0.5, 1.0])
    x = default_rng(1).binomial(n, p, (4000, 7)).numpy()
    assert ((x >= 0) & (x <= n)).all() and (x[:, 0] == 0).all() and (x[:, 6] == 1e15).all()
    deviation = np.sqrt(n * p * (1 - p))
    assert (abs(x.mean(0) - n * p) <= 4 * deviation / np.sqrt(4000)).all()
    assert (abs(x[:, 1:6].var(0) / deviation[1:6] ** 2 - 1) < 0.15).all()
    for k in (1, 2, 3, 5):
        assert stats.kstest((x[:, k] - n[k] * p[k]) / deviation[k], stats.norm.cdf).pvalue > 0.001


def test_multinomial_counts():
    p = np.array([[0.2, 0.0, 0.3, 0.5], [0.0, 0.0, 1.0, 0.0]])
    x = default_rng(2).multinomial([1000, 7], p, (3000, 2)).numpy()
    assert x.shape == (3000, 2, 4) and (x.sum(-1) == [1000, 7]).all() and (x[:, 1] == [0, 0, 7, 0]).all()
    q, y = p[0], x[:, 0]
    np.testing.assert_allclose(np.cov(y.T), 1000 * (np.diag(q) - np.outer(q, q)), atol=25)
    assert (abs(y.mean(0) - 1000 * q) <= 4 * np.sqrt(1000 * q * (1 - q) / 3000)).all()
    assert default_rng(0).multinomial(5, [0.3, 0.7]).shape == (2,)
    assert default_rng(0).multinomial(5, [1.0]).tolist() == [5]
    assert default_rng(0).multinomial(5, [0.3, 0.7], 0).shape == (0, 2)
    thirds = np.full(3, np.float32(1) / 3)
    assert default_rng(0).multinomial(9, thirds, 4).dtype == np.int64


def test_wishart():
    scale, df, n = np.array([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 0.7]]), 4.5, 20_000
    x = default_rng(7).wishart(df, scale, n).numpy()
    assert x.shape == (n, 3, 3)
    np.testing.assert_allclose(x, np.swapaxes(x, 1, 2), rtol=1e-12, atol=1e-12)
    # DLMF 35.2; the covariance of two elements is df (s_ik s_jl + s_il s_jk).
    variance = df * (scale**2 + np.outer(np.diag(scale), np.diag(scale)))
    assert (abs(x.mean(0) - df * scale) < 4 * np.sqrt(variance / n)).all()
    np.testing.assert_allclose(x.var(0), variance, rtol=0.06)
    # The ratio of determinants is a product of independent chi-squared numbers.
    ratios, df_of = np.linalg.det(x) / np.linalg.det(scale), df - np.arange(3)
    logs = np.log(stats.chi2.rvs(df_of, size=(n, 3), random_state=1)).sum(1)
    assert stats.ks_2samp(np.log(ratios), logs).pvalue > 0.01
    assert default_rng(0).wishart([3.0, 5.0], np.stack([np.eye(2)] * 2)).shape == (2, 2, 2)
    assert default_rng(0).wishart(3.0, np.eye(2, dtype=np.float32), (4, 2)).dtype == np.float32


# ---- compiled, mapped and in loops -----------------------------------------------------------------------------------
DRAWS = {
    "logistic": lambda r, x: r.logistic(x, fg.exp(x)), "lognormal": lambda r, x: r.lognormal(x, fg.exp(x)),
    "rayleigh": lambda r, x: r.rayleigh(fg.exp(x)), "weibull": lambda r, x: r.weibull(fg.exp(x)),
    "pareto": lambda r, x: r.pareto(fg.exp(x)), "power": lambda r, x: r.power(fg.exp(x)),
    "cauchy": lambda r, x: r.cauchy(x, fg.exp(x)), "triangular": lambda r, x: r.triangular(x - 1, x, x + fg.exp(x)),
    "f": lambda r, x: r.f(fg.exp(x), 4.0),
    "wishart": lambda r, x: r.wishart(len(x) + fg.exp(x[0]), np.eye(len(x)) + fg.outer(x, x), 2),
    "binomial": lambda r, x: r.binomial(fg.floor(20 * fg.exp(x)), fg.sigmoid(x)),
    "negative_binomial": lambda r, x: r.negative_binomial(fg.exp(x), fg.sigmoid(x)),
    "geometric": lambda r, x: r.geometric(fg.sigmoid(x)),
    "multinomial": lambda r, x: r.multinomial(30, fg.softmax(x), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_replays_and_loops_draw_what_eager_calls_draw(name):
    rng, twin, third = default_rng(8), default_rng(8), default_rng(8)
    draw, x = DRAWS[name], np.linspace(-1, 1, 3)
    compiled = fg.compile(lambda x: draw(rng, x))
    looped = fg.scan(lambda c, _: (c, draw(third, c)), fg.tensor(x), None, 3)[1].numpy()
    seen = set()
    for i in range(3):
        found, expected = compiled(x), draw(twin, fg.tensor(x))
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)
        np.testing.assert_allclose(looped[i], expected.numpy(), rtol=1e-12)
        seen.add(found.tobytes())
        assert rng.state == twin.state
    assert third.state == twin.state and len(seen) > 1


@pytest.mark.parametrize("name", DRAWS)
def test_mapped_draws_are_independent(name):
    x, draw = np.linspace(-1, 1, 3), DRAWS[name]
    for wrap in (fg.vmap, lambda f: fg.compile(fg.vmap(f))):
        rng = default_rng(3)
        y = np.asarray(wrap(lambda x, rng=rng: draw(rng, x))(np.tile(x, (40, 1))))
        assert len({row.tobytes() for row in y}) > 10


def test_bad_parameters_of_a_program_give_no_numbers():
    rng = default_rng(0)
    f = fg.compile(lambda n, p: (rng.binomial(n, p), rng.negative_binomial(n, p), rng.geometric(p),
                                 rng.multinomial(n, fg.stack([p, 1 - p]))))  # fmt: skip
    for n, p in ((5.0, np.nan), (np.nan, 0.5), (-1.0, 0.5), (5.0, 1.5), (5.0, -0.5), (np.inf, 0.5)):
        binomial, negative, geometric, several = f(n, p)
        assert binomial == negative == -1 and (several == -1).all()
        assert (geometric == -1) == (not 0 < p <= 1)
    assert f(2.5, 0.5)[0] == -1


# ---- gradients -------------------------------------------------------------------------------------------------------
def test_gradients_reach_the_parameters():
    loc, scale = np.array([0.5, -1.0]), np.array([2.0, 0.5])
    for name in ("logistic", "lognormal", "cauchy"):
        fg.check_grads(lambda m, s, name=name: getattr(default_rng(3), name)(m, s), (loc, scale), order=2)
    for name in ("rayleigh", "weibull", "pareto", "power"):
        fg.check_grads(lambda a, name=name: getattr(default_rng(3), name)(a, (5, 2)), (scale,), order=2)
    fg.check_grads(lambda a, b, c: default_rng(3).triangular(a, b, c, 9), (-1.0, 0.3, 2.0), order=2)
    factor = np.array([[1.0, 0.2], [-0.3, 0.8]])
    fg.check_grads(lambda f: default_rng(3).wishart(3.5, f @ f.T + np.eye(2), 3), (factor,), order=2)


MEANS = {  # of one number: a parameter, and the derivative of the mean by it
    "lognormal": (lambda r, p, n: r.lognormal(0.2, p, n), 0.5, 0.5 * np.exp(0.2 + 0.125)),
    "weibull": (lambda r, p, n: r.weibull(p, n), 3.0, -special.gamma(4 / 3) * special.digamma(4 / 3) / 9),
    "pareto": (lambda r, p, n: r.pareto(p, n), 5.0, -1 / 16),
    "f: dfden": (lambda r, p, n: r.f(3.0, p, n), 12.0, -2 / 100),
    "f: dfnum": (lambda r, p, n: r.f(p, 12.0, n) ** 2, 4.0, -2 * 144 / (16 * 10 * 8)),
    "wishart": (lambda r, p, n: r.wishart(p, [[2.0, 0.5], [0.5, 1.0]], n).sum((1, 2)), 5.0, 4.0),
    "wishart: determinant": (lambda r, p, n: np.linalg.det(r.wishart(p, np.eye(2), n)), 5.0, 9.0),
}


@pytest.mark.parametrize("name", MEANS)
def test_the_mean_of_derivatives_is_the_derivative_of_the_mean(name):
    draw, parameter, expected = MEANS[name]
    n = 20_000
    each = fg.jvp(lambda p: draw(default_rng(5), p, n), (parameter,), (1.0,))[1]
    assert abs(each.mean() - expected) < 4 * each.std() / np.sqrt(n)
    few = lambda p: fg.sum(draw(default_rng(5), p, 7) ** 2)
    assert np.isfinite(fg.hessian(few)(parameter))


def test_gradients_of_extreme_draws_are_finite(monkeypatch):
    for u in (0.0, 1 - 2**-53):
        monkeypatch.setattr(fg.random.Generator, "_draw", lambda self, name, size, dtype: fg.full(size, u, dtype=dtype))
        for name in ("logistic", "cauchy", "rayleigh", "weibull", "pareto", "power"):
            draw = lambda p: fg.sum(getattr(default_rng(0), name)(p, size=3))
            assert np.isfinite(draw(1.5).numpy()) and np.isfinite(fg.grad(draw)(1.5)), (name, u)
        for mode in (-1.0, 0.0, 1.0):
            corners = fg.grad(lambda b: fg.sum(default_rng(0).triangular(-1.0, b, 1.0, 3)))(mode)
            assert np.isfinite(corners), (mode, u)


REFUSED = {
    "binomial: n": lambda r, p: r.binomial(p, 0.5), "binomial: p": lambda r, p: r.binomial(3, p),
    "negative_binomial: n": lambda r, p: r.negative_binomial(p, 0.5),
    "negative_binomial: p": lambda r, p: r.negative_binomial(3, p), "geometric: p": lambda r, p: r.geometric(p),
    "multinomial: pvals": lambda r, p: r.multinomial(3, p), "multinomial: n": lambda r, p: r.multinomial(p, [0.5, 0.5]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_no_gradient_is_silently_zero(what):
    draw, p = REFUSED[what], np.array([1.0, 1.0]) if what.endswith("n") else np.array([0.5, 0.5])
    number = lambda p: fg.sum(draw(default_rng(0), p) * 1.0)
    for function in (fg.grad(number), fg.jacfwd(number), lambda p: fg.jvp(number, (p,), (p,))):
        with pytest.raises(TypeError, match=re.escape(f"{what} requires gradients")):
            function(p)
    number(fg.tensor(p))


@pytest.mark.parametrize("act, text", [
    (lambda r: r.logistic(0, -1), "logistic: expected scale of 0 or more, got -1"),
    (lambda r: r.lognormal(0, -1), "lognormal: expected sigma of 0 or more, got -1"),
    (lambda r: r.weibull(0.0), "weibull: expected a finite and above 0, got 0.0"),
    (lambda r: r.pareto(np.inf), "pareto: expected a finite and above 0, got inf"),
    (lambda r: r.f(1.0, -1.0), "f: expected dfden finite and above 0, got -1.0"),
    (lambda r: r.triangular(0.0, 3.0, 2.0), "triangular: expected left <= mode <= right and left < right, got 0.0"),
    (lambda r: r.triangular(1.0, 1.0, 1.0), "triangular: expected left <= mode <= right and left < right, got 1.0"),
    (lambda r: r.wishart(1.0, np.eye(2)), "wishart: expected df finite and above 1, for a scale of shape (2, 2), got"),
    (lambda r: r.wishart(3.0, np.eye(2)[:1]), "wishart: expected a scale of shape (..., p, p), got (1, 2)"),
    (lambda r: r.wishart(3.0, -np.eye(2)), "wishart"),
    (lambda r: r.binomial(2.5, 0.5), "binomial: expected n whole and from 0 to 1e15, got 2.5"),
    (lambda r: r.binomial(2, 1.5), "binomial: expected p from 0 to 1, got 1.5"),
    (lambda r: r.negative_binomial(0, 0.5), "negative_binomial: expected n finite and above 0, got 0"),
    (lambda r: r.negative_binomial(2, 0.0), "negative_binomial: expected p above 0 and at most 1, got 0.0"),
    (lambda r: r.geometric(0.0), "geometric: expected p above 0 and at most 1, got 0.0"),
    (lambda r: r.multinomial(3, [0.7, 0.7, 0.1]), "multinomial: expected pvals from 0 to 1, the sum of those but"),
    (lambda r: r.multinomial(3, 0.5), "multinomial: expected pvals of shape (..., k) with k of 1 or more, got ()"),
    (lambda r: r.binomial([1, 2, 3], [0.1, 0.2]), "binomial: the shapes of n (3,) and p (2,) do not broadcast"),
    (lambda r: r.weibull([1.0, 2.0], 3), "weibull: the shapes of a (2,) do not broadcast to the size 3"),
])  # fmt: skip
def test_errors(act, text):
    with pytest.raises((ValueError, np.linalg.LinAlgError), match=re.escape(text)):
        act(default_rng(0))


@pytest.mark.parametrize("name", ["pareto", "power", "weibull", "standard_gamma"])
def test_shapes_that_a_trace_does_not_know_give_nan_where_they_are_not_valid(name):
    draw = getattr(fg.random.default_rng(0), name)
    a = np.array([-1.0, 0.0, np.inf, np.nan, 2.0])
    for numbers in (fg.compile(draw)(a), fg.vmap(draw)(a)):
        assert np.isnan(np.asarray(numbers)).tolist() == [True] * 4 + [False]
    gradient = fg.compile(fg.grad(lambda a: draw(a).sum()))(a[4:])
    assert np.isfinite(gradient).all() and (gradient != 0).all()
