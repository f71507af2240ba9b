"""Distributions of ``fg.random`` beyond the uniform and the normal: their moments and distribution functions, gradients
by their parameters, and the same numbers eagerly and compiled."""

import re

import numpy as np
import pytest
from _distributions import N, sample
from scipy import special, stats

import fastgrad as fg
from fastgrad.random import _implicit, default_rng

FLOATS = [np.float32, np.float64]

CONTINUOUS = {
    "laplace": (lambda r, n, d: r.laplace(1.0, 2.0, n, d), stats.laplace(1, 2)),
    "gumbel": (lambda r, n, d: r.gumbel(1.0, 2.0, n, d), stats.gumbel_r(1, 2)),
    "truncated": (lambda r, n, d: r.truncated_normal(-0.5, 2.0, n, d), stats.truncnorm(-0.5, 2)),
    "upper tail": (lambda r, n, d: r.truncated_normal(6.0, np.inf, n, d), stats.truncnorm(6, np.inf)),
    "far tail": (lambda r, n, d: r.truncated_normal(40.0, 41.0, n, d), stats.truncnorm(40, 41)),
    "lower tail": (lambda r, n, d: r.truncated_normal(-9.0, -8.0, n, d), stats.truncnorm(-9, -8)),
    "gamma": (lambda r, n, d: r.gamma(3.5, 2.0, n, d), stats.gamma(3.5, scale=2)),
    "chisquare": (lambda r, n, d: r.chisquare(3.0, n, d), stats.chi2(3)),
    "standard_t": (lambda r, n, d: r.standard_t(12.0, n, d), stats.t(12)),
    "small gamma": (lambda r, n, d: r.standard_gamma(0.3, n, d), stats.gamma(0.3)),
    "large gamma": (lambda r, n, d: r.standard_gamma(1000.0, n, d), stats.gamma(1000)),
    "beta": (lambda r, n, d: r.beta(2.0, 0.6, n, d), stats.beta(2, 0.6)),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distributions(name, dtype):
    draw, distribution = CONTINUOUS[name]
    x = sample(draw, distribution, 12, dtype)
    mean, variance = map(float, distribution.stats("mv"))
    z = (x - mean) / np.sqrt(variance)
    for k, wanted in ((1, 0), (2, 1)):
        assert abs(np.mean(z**k) - wanted) < 4 * np.std(z**k) / np.sqrt(N)
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 4 / np.sqrt(N)


def chi_squared(x, distribution, least=20):
    """The p-value of integers, those with small expectations together."""
    k = np.arange(x.max() + 2)
    expected = distribution.pmf(k) * len(x)
    kept = expected >= least
    counts = np.bincount(x, minlength=len(k))[: len(k)]
    found, wanted = counts[kept], expected[kept]
    return stats.chisquare([*found, len(x) - found.sum()], [*wanted, len(x) - wanted.sum()]).pvalue


@pytest.mark.parametrize("lam", [0.3, 4.0, 9.99, 10.01, 30.0, 400.0])
def test_poisson(lam):
    x = default_rng(4).poisson(lam, N)
    assert x.dtype == np.int64 and x.shape == (N,)
    x = x.numpy()
    assert chi_squared(x, stats.poisson(lam)) > 0.01
    assert abs(x.mean() - lam) < 4 * np.sqrt(lam / N)


def test_poisson_of_many_means():
    lam = np.array([0.0, 1e-300, 1e-3, 3.0, 9.0, 11.0, 1e3, 1e6, 1e12])
    x = default_rng(0).poisson(lam, (2000, 9)).numpy()
    assert (x[:, :2] == 0).all() and (x >= 0).all()
    assert (abs(x.mean(0) - lam) <= 4 * np.sqrt(lam / 2000)).all()
    assert (abs(x[:, 4:].var(0) / lam[4:] - 1) < 0.15).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_categorical(dtype):
    p = np.array([0.1, 0.0, 0.2, 0.7])
    with np.errstate(divide="ignore"):
        logits = np.log(p).astype(dtype) + 3
    x = default_rng(0).categorical(logits, size=N)
    assert x.dtype == np.int64
    counts = np.bincount(x.numpy(), minlength=4)
    assert counts[1] == 0 and stats.chisquare(counts[p > 0], N * p[p > 0]).pvalue > 0.01
    assert default_rng(0).categorical(np.zeros((2, 5, 3)), axis=1).shape == (2, 3)
    assert default_rng(0).categorical(np.zeros((3, 5)), size=(7, 3)).shape == (7, 3)
    steep = np.where(np.eye(4), 0.0, -np.inf)
    assert default_rng(0).categorical(steep).tolist() == [0, 1, 2, 3]


def test_permutations():
    rng = default_rng(1)
    orders = np.array([rng.permutation(3).tolist() for _ in range(3000)])
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 0.01
    x = np.arange(12.0).reshape(3, 4)
    y = rng.permutation(x, axis=1).numpy()
    assert sorted(y[0]) == list(x[0]) and (y - y[0] == x - x[0]).all() and (y != x).any()
    assert rng.permutation(0).shape == (0,) and rng.permutation(np.int64(4)).dtype == np.int64
    assert rng.permutation([[1, 2], [3, 4]]).numpy().sum() == 10
    t = fg.tensor(np.arange(4.0), requires_grad=True)
    order = default_rng(5).permutation(4).numpy()
    fg.sum(default_rng(5).permutation(t) * np.arange(4.0)).backward()
    assert t.grad.numpy()[order].tolist() == [0, 1, 2, 3]


def test_choices():
    rng = default_rng(2)
    p = np.array([0.5, 0.0, 0.2, 0.3])
    x = rng.choice(4, N, p=p).numpy()
    counts = np.bincount(x, minlength=4)
    assert counts[1] == 0 and stats.chisquare(counts[p > 0], N * p[p > 0]).pvalue > 0.01
    assert stats.chisquare(np.bincount(rng.choice(5, N).numpy())).pvalue > 0.01
    assert rng.choice(5).shape == () and rng.choice(5, (2, 3)).shape == (2, 3)
    assert sorted(rng.choice(5, 5, replace=False).tolist()) == [0, 1, 2, 3, 4]
    assert rng.choice(np.zeros((2, 5, 3)), (4, 6), axis=1).shape == (2, 4, 6, 3)
    assert rng.choice([10.0, 20.0], 2, replace=False).numpy().sum() == 30
    # One after another without replacement: the probability of the pair (i, j) is p_i p_j / (1 - p_i).
    q = np.array([0.5, 0.3, 0.2])
    pairs = [tuple(rng.choice(3, 2, replace=False, p=q).tolist()) for _ in range(4000)]
    kinds = [(i, j) for i in range(3) for j in range(3) if i != j]
    expected = [4000 * q[i] * q[j] / (1 - q[i]) for i, j in kinds]
    assert stats.chisquare([pairs.count(kind) for kind in kinds], expected).pvalue > 0.01


def test_multivariate_normal():
    mean, cov = np.array([1.0, -2.0, 0.5]), np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 0.7]])
    x = default_rng(4).multivariate_normal(mean, cov, N).numpy()
    assert x.shape == (N, 3)
    assert (abs(x.mean(0) - mean) < 4 * np.sqrt(np.diag(cov) / N)).all()
    np.testing.assert_allclose(np.cov(x.T), cov, atol=0.04)
    z = np.linalg.solve(np.linalg.cholesky(cov), (x - mean).T)
    assert all(stats.kstest(row, stats.norm().cdf).pvalue > 0.01 for row in z)
    rng = default_rng(4)
    assert rng.multivariate_normal(mean, cov).shape == (3,)
    assert rng.multivariate_normal(np.zeros((5, 3)), cov).shape == (5, 3)
    assert rng.multivariate_normal(mean, np.stack([cov] * 4), (2, 4)).shape == (2, 4, 3)
    assert rng.multivariate_normal(mean.astype("f4"), cov.astype("f4"), 2).dtype == np.float32


def test_dirichlet():
    alpha = np.array([0.3, 1.0, 4.0])
    x = default_rng(4).dirichlet(alpha, N).numpy()
    np.testing.assert_allclose(x.sum(1), 1, rtol=1e-12)
    for i, a in enumerate(alpha):
        assert stats.kstest(x[:, i], stats.beta(a, alpha.sum() - a).cdf).pvalue > 0.01
    assert default_rng(0).dirichlet(np.ones((5, 2))).shape == (5, 2)
    tiny = default_rng(0).dirichlet([1e-5, 1e-5, 1e-5], 100).numpy()
    assert np.isfinite(tiny).all() and (tiny.max(1) > 0.99).all()


def test_extreme_draws_give_finite_numbers(monkeypatch):
    for u in (0.0, 1 - 2**-53):
        monkeypatch.setattr(fg.random.Generator, "_draw", lambda self, name, size, dtype: fg.full(size, u, dtype=dtype))
        rng = default_rng(0)
        for x in (
            rng.laplace(size=3), rng.gumbel(size=3), rng.truncated_normal(-30.0, np.inf, 3),
            rng.truncated_normal(-np.inf, np.inf, 3), rng.truncated_normal(-np.inf, -1e9, 3),
        ):  # fmt: skip
            assert np.isfinite(x.numpy()).all()
        assert rng.choice(3, 2, p=[0.5, 0.5, 0.0]).numpy().max() <= 1
    monkeypatch.setattr(fg.random.Generator, "_draw", lambda self, name, size, dtype: fg.zeros(size, dtype=dtype))
    assert np.isfinite(default_rng(0).gumbel(size=3, dtype=np.float32).numpy()).all()
    assert np.isfinite(default_rng(0).truncated_normal(-np.inf, np.inf, 3, np.float32).numpy()).all()


# ---- compiled and mapped ---------------------------------------------------------------------------------------------
DRAWS = {
    "laplace": lambda r, x: r.laplace(x, fg.exp(x)),
    "gumbel": lambda r, x: r.gumbel(x, fg.exp(x)),
    "exponential": lambda r, x: r.exponential(fg.exp(x)),
    "categorical": lambda r, x: r.categorical(x, size=4),
    "permutation": lambda r, x: r.permutation(x),
    "order": lambda r, x: r.permutation(7) + x.sum(),
    "choice": lambda r, x: r.choice(x, 5),
    "choice by p": lambda r, x: r.choice(x, 5, p=fg.softmax(x)),
    "choice once": lambda r, x: r.choice(x, 2, replace=False, p=fg.softmax(x)),
    "multivariate_normal": lambda r, x: r.multivariate_normal(x, np.eye(len(x)) + fg.outer(x, x), 4),
    "truncated_normal": lambda r, x: r.truncated_normal(x, x + 1.0),
    "gamma": lambda r, x: r.gamma(fg.exp(x), 2.0, (50, len(x))),
    "beta": lambda r, x: r.beta(fg.exp(x), 0.5),
    "dirichlet": lambda r, x: r.dirichlet(fg.exp(x), 3),
    "poisson": lambda r, x: r.poisson(fg.exp(4 * x), (50, len(x))),
    "poisson of a number": lambda r, x: r.poisson(20.0, 30) + x.sum(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_replays_draw_what_eager_calls_draw(name):
    rng, twin = default_rng(8), default_rng(8)
    draw = DRAWS[name]
    compiled = fg.compile(lambda x: draw(rng, x))
    seen = set()
    for n in (3, 3, 5, 3):
        x = np.linspace(-1, 1, n)
        found, expected = compiled(x), draw(twin, fg.tensor(x))
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)
        seen.add(found.tobytes())
        assert rng.state == twin.state
    assert len(seen) > 1


@pytest.mark.parametrize("name", ["gamma", "poisson", "beta", "categorical", "truncated_normal"])
def test_mapped_draws_are_independent(name):
    rng = default_rng(8)
    draw = {
        "gamma": lambda x: rng.gamma(fg.exp(x)), "poisson": lambda x: rng.poisson(20 * fg.exp(x)),
        "beta": lambda x: rng.beta(fg.exp(x), 1.0), "categorical": lambda x: rng.categorical(fg.zeros(1000) + x),
        "truncated_normal": lambda x: rng.truncated_normal(x, np.inf),
    }[name]  # fmt: skip
    for function in (fg.vmap(draw), fg.compile(fg.vmap(draw))):
        x = function(np.zeros(2000))
        assert x.shape == (2000,) and len(set(np.asarray(x).tolist())) > 10
        mean = {"gamma": 1.0, "poisson": 20.0, "beta": 0.5, "categorical": 499.5, "truncated_normal": 0.798}[name]
        np.testing.assert_allclose(np.asarray(x).mean(), mean, rtol=0.1)


def test_nan_and_bad_parameters_end_loops_of_a_program():
    rng = default_rng(0)
    f = fg.compile(lambda a: (rng.gamma(a), rng.poisson(a)))
    for a in (np.nan, -1.0, 0.0, np.inf):
        gamma, poisson = f(a)
        assert np.isnan(gamma) and (poisson == -1 or a in (0, np.inf))


# ---- gradients -------------------------------------------------------------------------------------------------------
def test_gradients_reach_the_parameters():
    loc, scale = np.array([0.5, -1.0]), np.array([2.0, 0.5])
    for name in ("laplace", "gumbel"):
        draw = lambda m, s: getattr(default_rng(3), name)(m, s)
        fg.check_grads(draw, (loc, scale), order=2)
        z = getattr(default_rng(3), name)(np.zeros(2), np.ones(2)).numpy()
        np.testing.assert_allclose(fg.grad(lambda s: draw(loc, s).sum())(scale), z, rtol=1e-12)
    fg.check_grads(lambda a, b: default_rng(3).truncated_normal(a, b, 5), (-0.5, 1.5), order=2)
    fg.check_grads(lambda a: default_rng(3).truncated_normal(a, np.inf, 5), (5.0,))
    fg.check_grads(lambda s: default_rng(3).gamma(2.0, s, 4), (1.5,), order=2)
    factor = np.array([[1.0, 0.2], [-0.3, 0.8]])
    normal = lambda m, f: default_rng(3).multivariate_normal(m, f @ f.T + np.eye(2), 3)
    fg.check_grads(normal, (loc, factor), order=2)


@pytest.mark.parametrize("a", [1e-3, 0.05, 0.7, 1.0, 4.0, 60.0, 1e4])
def test_the_slope_of_a_quantile_of_gamma_numbers(a):
    p = np.array([1e-9, 1e-3, 0.1, 0.4, 0.6, 0.9, 0.999, 1 - 1e-9])
    p = p[special.gammaincinv(a * 0.99, p) > 1e-280]
    log_quantile = lambda a: np.log(special.gammaincinv(a, p))
    f = lambda a: _implicit.as_function_of_shape(fg.broadcast_to(a, p.shape), log_quantile(a_known))
    a_known, h = a, a / 64
    d = {k: (log_quantile(a + k * h) - log_quantile(a - k * h)) / (2 * k * h) for k in (1, 2, 4)}
    finer, coarse = ((4 * d[k] - d[2 * k]) / 3 for k in (1, 2))
    expected = (16 * finer - coarse) / 15
    np.testing.assert_allclose(fg.jacobian(f)(a), expected, rtol=1e-6)
    np.testing.assert_allclose(fg.jacfwd(f)(a), expected, rtol=1e-6)
    slope = lambda a: fg.jacobian(lambda b: _implicit.as_function_of_shape(
        fg.broadcast_to(b, p.shape), log_quantile(a)))(a)  # fmt: skip
    second = (8 * (slope(a + h / 4) - slope(a - h / 4)) - slope(a + h / 2) + slope(a - h / 2)) / (3 * h)
    np.testing.assert_allclose(fg.jacfwd(fg.jacobian(f))(a), second, rtol=1e-4, atol=1e-9 * abs(second).max())


SHAPES = {
    "standard_gamma": (lambda r, p, n: r.standard_gamma(p[0], n), 2.5, 1.0),
    "gamma": (lambda r, p, n: r.gamma(p[0], 2.0, n), 0.6, 2.0),
    "chisquare": (lambda r, p, n: r.chisquare(p[0], n), 3.0, 1.0),
    "standard_t": (lambda r, p, n: r.standard_t(p[0], n) ** 2, 9.0, -2 / 49),
    "beta: a": (lambda r, p, n: r.beta(p[0], 2.0, n), 3.0, 2 / 25),
    "beta: b": (lambda r, p, n: r.beta(3.0, p[0], n), 2.0, -3 / 25),
    "dirichlet": (lambda r, p, n: r.dirichlet([p[0], 2.0, 0.5], n)[:, 1], 1.5, -2 / 16),
}


@pytest.mark.parametrize("name", SHAPES)
def test_gradients_by_shapes(name):
    """The mean of the derivatives is the derivative of the mean; compiled, mapped and forward they are the same."""
    draw, shape, expected = SHAPES[name]
    n, p = 20_000, np.array([shape])
    rng = default_rng(5)
    start = rng.state

    def again(function, *args):
        rng.state = start
        return function(*args)

    each = again(fg.jvp, lambda p: draw(rng, p, n), (p,), (np.ones(1),))[1]
    assert abs(each.mean() - expected) < 4 * each.std() / np.sqrt(n)
    few = lambda p: fg.sum(draw(rng, p, 7) ** 2)
    gradient, hessian = again(fg.grad(few), p), again(fg.hessian(few), p)
    assert np.isfinite(hessian).all()
    np.testing.assert_allclose(again(fg.compile(fg.grad(few)), p), gradient, rtol=1e-12)
    np.testing.assert_allclose(again(fg.compile(fg.hessian(few)), p), hessian, rtol=1e-10)
    mapped = again(fg.compile(fg.vmap(fg.grad(few))), np.tile(p, (3, 1)))
    assert mapped.shape == (3, 1) and len(set(mapped.ravel().tolist())) == 3
    single = again(fg.grad(lambda p: fg.sum(draw(rng, p, 7))), p.astype(np.float32))
    assert single.dtype == np.float32 and np.isfinite(single).all()


def test_gradients_by_extreme_shapes_are_finite():
    for a in (1e-6, 1e-3, 1e6, 1e12):
        for dtype in FLOATS:
            g = fg.grad(lambda a: fg.sum(default_rng(0).standard_gamma(a, 50)))(np.asarray(a, dtype))
            assert g.dtype == dtype and np.isfinite(g), (a, g)
    g = fg.grad(lambda a: default_rng(0).dirichlet(a, 50)[:, 0].sum())(np.full(3, 1e-4))
    assert np.isfinite(g).all()
    carried = fg.grad(lambda a: fg.sum(fg.scan(lambda c, _: (c, rng.standard_gamma(c)), a, None, 4)[1]))
    rng = default_rng(1)
    expected = fg.grad(lambda a: fg.sum(fg.stack([twin.standard_gamma(a) for _ in range(4)])))
    twin = default_rng(1)
    np.testing.assert_allclose(carried(2.0), expected(2.0), rtol=1e-12)


REFUSED = {
    "poisson: lam": lambda r, p: r.poisson(p),
    "categorical: logits": lambda r, p: r.categorical(p), "choice: p": lambda r, p: r.choice(2, p=p / p.sum()),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_no_gradient_is_silently_zero(what):
    draw, p = REFUSED[what], np.array([0.5, 0.5])
    rng = default_rng(0)
    number = lambda p: fg.sum(draw(rng, p) * 1.0)
    for function in (fg.grad(number), fg.compile(fg.grad(number)), lambda p: fg.jvp(number, (p,), (p,)),
                     lambda p: fg.jacfwd(number)(p)):  # fmt: skip
        with pytest.raises(TypeError, match=re.escape(f"{what} requires gradients")):
            function(p)
    number(fg.tensor(p))


@pytest.mark.parametrize(
    "act, error, text",
    [
        (lambda r: r.laplace(0, -1), ValueError, "laplace: expected scale of 0 or more, got -1"),
        (lambda r: r.gumbel(np.zeros(2), np.ones(3)), ValueError, "gumbel: the shapes of loc (2,) and scale (3,)"),
        (lambda r: r.gamma(0.0), ValueError, "gamma: expected shape finite and above 0, got 0.0"),
        (lambda r: r.gamma(1.0, -1.0), ValueError, "gamma: expected scale of 0 or more"),
        (lambda r: r.gamma("a"), TypeError, "expected numbers, got the str 'a'"),
        (lambda r: r.gamma(None), TypeError, "got NoneType of dtype object"),
        (lambda r: r.exponential("a"), TypeError, "expected numbers, got the str 'a'"),
        (lambda r: r.beta(1.0, [1.0, np.nan]), ValueError, "beta: expected b finite and above 0, got [1.0, nan]"),
        (lambda r: r.dirichlet(1.0), ValueError, "dirichlet: expected alpha of shape (..., k), got a number"),
        (lambda r: r.dirichlet([1.0, 0.0]), ValueError, "dirichlet: expected alpha finite and above 0"),
        (lambda r: r.poisson(-1), ValueError, "poisson: expected lam from 0 to 1e12, got -1"),
        (lambda r: r.poisson(np.nan), ValueError, "poisson: expected lam from 0 to 1e12, got nan"),
        (lambda r: r.truncated_normal(1.0, 1.0), ValueError, "expected lower below upper, got 1.0 and 1.0"),
        (lambda r: r.categorical(1.0), ValueError, "categorical: logits of shape () have no axis -1"),
        (lambda r: r.categorical(np.zeros((2, 0))), ValueError, "there are no categories to choose from"),
        (lambda r: r.categorical(np.zeros((2, 3)), size=3), ValueError, "do not broadcast to the size 3"),
        (lambda r: r.categorical([0.0, np.nan]), ValueError, "categorical: expected logits below inf, and in each row"),
        (lambda r: r.categorical([0.0, np.inf]), ValueError, "categorical: expected logits below inf, and in each row"),
        (lambda r: r.categorical(np.full((2, 3), -np.inf), 0), ValueError, "one above -inf"),
        (lambda r: r.permutation(-1), ValueError, "permutation: expected lengths that are 0 or more"),
        (lambda r: r.permutation(1.5), ValueError, "expected an int, or an array with an axis 0, got the shape ()"),
        (lambda r: r.choice(0), ValueError, "choice: expected at least 1 element to choose from, got 0"),
        (lambda r: r.choice(3, 4, replace=False), ValueError, "expected a size of at most 3 without replacement"),
        (lambda r: r.choice(3, p=[0.5, 0.5]), ValueError, "choice: expected p of shape (3,), got (2,)"),
        (lambda r: r.choice(2, p=[0.5, 0.6]), ValueError, "expected probabilities of 0 or more that sum to 1"),
        (lambda r: r.choice(2, 2, False, [1.0, 0.0]), ValueError, "at least 2 probabilities that are not 0"),
        (lambda r: r.multivariate_normal(0.0, 1.0), ValueError, "expected a mean of shape (..., d)"),
        (lambda r: r.multivariate_normal(np.zeros(2), np.eye(3)), ValueError, "got (2,) and (3, 3)"),
        (lambda r: r.multivariate_normal(np.zeros(2), -np.eye(2)), np.linalg.LinAlgError, "positive definite"),
    ],
)
def test_errors(act, error, text):
    rng = default_rng(0)
    before = rng.state
    with pytest.raises(error, match=re.escape(text)):
        act(rng)
    assert rng.state == before


def test_a_distribution_asked_of_the_module_is_found_in_a_generator():
    text = "^module 'fastgrad.random' has no attribute 'gamma'; gamma is a method of a generator: "
    with pytest.raises(AttributeError, match=text + r"fastgrad.random.default_rng\(seed\).gamma$"):
        fg.random.gamma(2.0)
    for name in ("nothing", "__nothing__"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'$"):
            getattr(fg.random, name)
