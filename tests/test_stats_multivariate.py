"""Distributions of vectors and matrices: values against SciPy's, derivatives by every argument, what is outside of the
support or not valid, dtypes and broadcasting."""

import numpy as np
import pytest
from scipy import special
from scipy import stats as scipy_stats

import fastgrad as fg

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(3, 3))
MATRIX = MATRIX @ MATRIX.T + np.eye(3)


@pytest.mark.parametrize("method", ["logpdf", "pdf"])
def test_multivariate_normal(method):
    x, mean = RNG.normal(size=(4, 2, 3)), np.array([0.1, -0.2, 0.3])
    ours_, theirs_ = getattr(fg.stats.multivariate_normal, method), getattr(scipy_stats.multivariate_normal, method)
    for cov in (MATRIX, np.array([1.0, 2.0, 0.5]), 2.0):
        expected = theirs_(x, mean, cov)
        np.testing.assert_allclose(ours_(x, mean, cov).numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(fg.compile(ours_)(x, mean, cov), expected, rtol=1e-12)
        np.testing.assert_allclose(fg.vmap(ours_, in_axes=(0, None, None))(x, mean, cov), expected, rtol=1e-12)
        np.testing.assert_allclose(ours_(x[0, 0], mean, cov).numpy(), expected[0, 0], rtol=1e-12)
    np.testing.assert_allclose(ours_(x, mean, chol=np.linalg.cholesky(MATRIX)).numpy(), theirs_(x, mean, MATRIX),
                               rtol=1e-12)  # fmt: skip
    np.testing.assert_allclose(ours_(x).numpy(), theirs_(x, np.zeros(3)), rtol=1e-12)
    covs = MATRIX + np.arange(4)[:, None, None, None] * np.eye(3)
    expected = [theirs_(a, mean, c[0]) for a, c in zip(x, covs)]
    np.testing.assert_allclose(ours_(x, mean, covs).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(fg.vmap(lambda a, c: ours_(a, mean, c))(x, covs[:, 0]), expected, rtol=1e-12)
    assert ours_(x.astype(np.float32), mean.astype(np.float32), np.eye(3, dtype=np.float32)).dtype == np.float32
    assert ours_(np.zeros((0, 3))).shape == (0,)
    fg.check_grads(lambda x, m, a: ours_(x, m, a @ a.T + np.eye(3)), (x[0], mean, RNG.normal(size=(3, 3))), order=2,
                   atol=1e-5, rtol=1e-5)  # fmt: skip
    fg.check_grads(lambda x, c: ours_(x, chol=c), (x[0], np.linalg.cholesky(MATRIX)), order=2, atol=1e-5, rtol=1e-5)
    fg.check_grads(lambda x, v: ours_(x, mean, v), (x[0], np.array([1.0, 2.0, 0.5])), order=2, atol=1e-5, rtol=1e-5)


def test_a_multivariate_normal_of_one_number():
    """A number, and a vector of numbers where the mean or the covariance says so, are points as in SciPy."""
    for arguments in (
        (0.3,), (0.3, 0.1, 2.0), (0.3, [0.1], 2.0), ([0.3, 0.4], [0.1], 2.0), ([0.3, 0.4], [0.1], [2.0]),
        ([0.3, 0.4], None, [[2.0]]), ([0.3, 0.4], 0.1, [[2.0]]), ([[0.3], [0.4]], [0.1], 2.0), ([0.3, 0.4],),
        ([0.3, 0.4], None, 2.0), ([0.3, 0.4], 0.1), ([0.3, 0.4], 0.1, 2.0, True), ([],), ([0.3],),
    ):  # fmt: skip
        found = fg.stats.multivariate_normal.logpdf(*arguments)
        np.testing.assert_allclose(found.numpy(), scipy_stats.multivariate_normal.logpdf(*arguments), rtol=1e-14)


def test_a_singular_covariance():
    rng = np.random.default_rng(0)
    logpdf = fg.stats.multivariate_normal.logpdf
    a, mean, weights = rng.normal(size=(4, 2)), rng.normal(size=4), rng.normal(size=(3, 2))
    inside = mean + weights @ a.T
    for x, cov in ((inside, a @ a.T), (inside + 1, a @ a.T), (inside, np.eye(4)), (mean, [1.0, 2.0, 0.0, 0.0])):
        found, expected = logpdf(x, mean, cov, True), scipy_stats.multivariate_normal.logpdf(x, mean, cov, True)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
        compiled = fg.compile(lambda x, mean, cov: logpdf(x, mean, cov, True))
        np.testing.assert_allclose(compiled(x, mean, np.array(cov)), expected, rtol=1e-9)
    covariances = np.stack([a @ a.T, np.eye(4)])
    each = [logpdf(inside[0], mean, cov, True).item() for cov in covariances]
    np.testing.assert_allclose(logpdf(inside[0], mean, covariances, True).numpy(), each, rtol=1e-9)
    for negative in ([1.0, 2.0, -1.0, 0.0], np.stack([np.eye(4), -np.eye(4)])):
        with pytest.raises(np.linalg.LinAlgError, match="multivariate_normal: matrix.* is not positive definite"):
            logpdf(mean, mean, negative, True)
        with pytest.raises(np.linalg.LinAlgError, match="multivariate_normal: matrix.* is not positive definite"):
            fg.compile(fg.grad(lambda cov: logpdf(mean, mean, cov, True).sum()))(np.array(negative))
    factor = np.tril(rng.normal(size=(4, 4))) * [1.0, 1.0, 0.0, 0.0]
    found, expected = logpdf(mean, mean, None, True, chol=factor), logpdf(mean, mean, factor @ factor.T, True)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)
    assert np.isnan(logpdf([np.nan, 0.0, 0.0, 0.0], mean, a @ a.T, True).item())
    lower = np.array([[2.0, 9.0], [0.5, 1.0]])  # what is above the diagonal is not read; gradients are symmetric
    for x in ([0.3, 0.4], [0.0, 0.0]):
        found, expected = [
            fg.value_and_grad(lambda cov: logpdf(x, [0.0, 0.1], cov, is_allowed))(lower) for is_allowed in (True, False)
        ]
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)
    for factor in (a, np.eye(4)[:, :2]):  # also with equal eigenvalues
        of_factor = lambda w, m, a: logpdf(m + w @ a.T, m, a @ a.T, True)
        fg.check_grads(of_factor, (weights, mean, factor), order=2)
    fg.check_grads(lambda x, cov: logpdf(x, mean, cov + cov.T, True), (inside, np.eye(4)), order=2)


@pytest.mark.parametrize("method", ["logpdf", "pdf"])
def test_dirichlet(method):
    ours_, theirs_ = getattr(fg.stats.dirichlet, method), getattr(scipy_stats.dirichlet, method)
    alpha, x = np.array([0.5, 1.0, 3.0]), RNG.dirichlet([1, 2, 3], 5).T
    expected = theirs_(x, alpha)
    for found in (ours_(x, alpha).numpy(), ours_(x[:-1], alpha).numpy(), fg.compile(ours_)(x, alpha),
                  fg.vmap(ours_, in_axes=(1, None))(x, alpha),
                  ours_(x, np.broadcast_to(alpha[:, None], x.shape)).numpy()):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    outside = np.array([[-0.1, 0.6, 0.5], [0.2, 0.2, 0.2]]).T
    gradients = fg.grad(lambda x, a: ours_(x, a).sum(), (0, 1))(outside, alpha)
    assert (ours_(outside, alpha).numpy() == (-np.inf if method == "logpdf" else 0)).all()
    assert all((g == 0).all() for g in gradients)
    assert np.isnan(ours_(x, -alpha).numpy()).all()
    fg.check_grads(lambda y, a: ours_(fg.softmax(y), a), (np.array([0.1, 0.2, -0.5]), alpha), order=2)


@pytest.mark.parametrize("method", ["logpmf", "pmf"])
def test_multinomial(method):
    ours_, theirs_ = getattr(fg.stats.multinomial, method), getattr(scipy_stats.multinomial, method)
    p, x = np.array([0.2, 0.3, 0.5]), np.array([[1, 2, 3], [0, 0, 6], [1, 1, 1], [-1, 3, 4], [6, 0, 0]])
    expected = theirs_(x, 6, p)
    for found in (ours_(x, 6, p).numpy(), fg.compile(lambda x, p: ours_(x, 6, p))(x, p), ours_(x.tolist(), [6], p)
                  .numpy(), fg.vmap(ours_, in_axes=(0, None, None))(x, 6.0, p)):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(ours_(x, 6, [0.2, -0.3, 1.1]).numpy()).all()
    assert (fg.grad(lambda p: ours_(x[2:4], 6, p).sum())(p) == 0).all()
    assert ours_([2, 0], 2, [1.0, 0.0]).item() == (0.0 if method == "logpmf" else 1.0)
    fg.check_grads(lambda p: ours_(x[:2], 6, p), (p,), order=2)


@pytest.mark.parametrize("method", ["logpdf", "pdf"])
def test_wishart(method):
    ours_, theirs_ = getattr(fg.stats.wishart, method), getattr(scipy_stats.wishart, method)
    a = RNG.normal(size=(4, 3, 5))
    x = a @ a.transpose(0, 2, 1)
    expected = theirs_(x.transpose(1, 2, 0), 4.5, MATRIX)
    for found in (ours_(x, 4.5, MATRIX).numpy(), fg.compile(ours_)(x, 4.5, MATRIX),
                  fg.vmap(ours_, in_axes=(0, None, None))(x, 4.5, MATRIX)):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-11)
    assert np.isnan(ours_(x, 1.5, MATRIX).numpy()).all()
    positive = lambda a: a @ a.T + np.eye(3)
    fg.check_grads(lambda a, n, b: ours_(positive(a), n, positive(b)), (RNG.normal(size=(3, 3)), 4.5,
                   RNG.normal(size=(3, 3))), order=2, atol=1e-5, rtol=1e-5)  # fmt: skip


def test_degrees_of_freedom_that_are_not_valid_have_no_slopes():
    logpdf = fg.stats.wishart.logpdf
    for df in (2.0, 1.9, -1.0):
        by_x, by_scale = fg.grad(lambda x, s, df=df: logpdf(x, df, s), (0, 1))(MATRIX + np.eye(3), MATRIX)
        assert (by_x == 0).all() and (by_scale == 0).all()
    assert fg.grad(lambda df: logpdf(MATRIX, df, MATRIX))(1.9) == 0


EDGES = [  # x, alpha: parts of 0, where the logarithm is infinite or not
    ([0.0, 0.25, 0.75], [2.0, 2.0, 3.0]),
    ([0.0, 0.25, 0.75], [3.0, 2.0, 3.0]),
    ([0.0, 0.0, 1.0], [2.0, 3.0, 1.5]),
    ([0.0, 0.25, 0.75], [1.0, 2.0, 3.0]),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("x, alpha", EDGES)
def test_slopes_at_parts_of_0_are_one_sided_limits(x, alpha, dtype):
    x, alpha = np.array(x, dtype), np.array(alpha, dtype)
    pdf, logpdf = fg.stats.dirichlet.pdf, fg.stats.dirichlet.logpdf
    np.testing.assert_allclose(pdf(x, alpha).numpy(), scipy_stats.dirichlet.pdf(x.astype(float), alpha), rtol=1e-5)
    constant = special.gamma(alpha.sum()) / special.gamma(alpha).prod()
    with np.errstate(divide="ignore", invalid="ignore"):
        powers, slopes = x ** (alpha - 1), np.where(alpha == 1, 0, (alpha - 1) * x ** (alpha - 2))
    expected = [constant * np.delete(powers, i).prod() * slopes[i] for i in range(3)]
    for gradient in (fg.grad(pdf), fg.compile(fg.grad(pdf))):
        np.testing.assert_allclose(gradient(x, alpha), expected, rtol=1e-5, atol=1e-20)
    by_x, by_alpha = fg.grad(logpdf, (0, 1))(x, alpha)
    assert np.isfinite(by_x).all() and np.isfinite(by_alpha).all()
    assert (by_x[(x == 0) & (alpha > 1)] > 1e30).all()
    np.testing.assert_allclose(
        logpdf(x, alpha).numpy(), scipy_stats.dirichlet.logpdf(x.astype(float), alpha), rtol=1e-5
    )


@pytest.mark.parametrize("counts", [[1, 2, 3], [2, 1, 3], [0, 3, 3]])
def test_slopes_at_probabilities_of_0_are_one_sided_limits(counts):
    p, counts = np.array([0.0, 0.25, 0.75]), np.array(counts)
    ways = special.factorial(6) / special.factorial(counts).prod()
    slopes = counts * p ** np.maximum(counts - 1, 0)
    expected = [ways * np.delete(p**counts, i).prod() * slopes[i] for i in range(3)]
    pmf = lambda p: fg.stats.multinomial.pmf(counts, 6, p)
    for gradient in (fg.grad(pmf), fg.compile(fg.grad(pmf))):
        np.testing.assert_allclose(gradient(p), expected, rtol=1e-12, atol=1e-200)
    np.testing.assert_allclose(pmf(p).numpy(), scipy_stats.multinomial.pmf(counts, 6, p), rtol=1e-12)
    assert np.isfinite(fg.grad(lambda p: fg.stats.multinomial.logpmf(counts, 6, p))(p)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_distributions_of_several_variables_keep_the_dtype(dtype):
    numbers = lambda *shape: np.full(shape, 0.5, dtype)
    square = np.eye(2, dtype=dtype)
    for methods, arguments in (
        (("logpdf", "pdf"), (fg.stats.dirichlet, numbers(2, 3), numbers(2))),
        (("logpmf", "pmf"), (fg.stats.multinomial, np.ones((3, 2), dtype), 2, numbers(2))),
        (("logpdf", "pdf"), (fg.stats.dirichlet, np.eye(2, dtype=dtype), 4 * numbers(2))),
        (("logpmf", "pmf"), (fg.stats.multinomial, np.ones((3, 2), dtype), 2, np.eye(2, dtype=dtype)[0])),
        (("logpdf", "pdf"), (fg.stats.wishart, square, 3.0, square)),
        (("logpdf", "pdf"), (fg.stats.multivariate_normal, numbers(3, 2), numbers(2), square)),
    ):
        for method in methods:
            assert getattr(arguments[0], method)(*arguments[1:]).dtype == dtype


def test_parts_and_their_parameters_broadcast():
    x, alpha = np.array([0.2, 0.3, 0.5]), RNG.uniform(0.5, 3, (3, 4, 2))
    expected = [[scipy_stats.dirichlet.logpdf(x, alpha[:, i, j]) for j in range(2)] for i in range(4)]
    np.testing.assert_allclose(fg.stats.dirichlet.logpdf(x, alpha).numpy(), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="stats.dirichlet: x of shape .0,. and alpha of shape .0,. do not fit"):
        fg.stats.dirichlet.logpdf([], [])


def test_normal_vectors_of_length_0():
    assert fg.stats.multivariate_normal.logpdf(np.zeros((2, 0)), np.zeros(0), np.zeros((0, 0))).tolist() == [0, 0]
