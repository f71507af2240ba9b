"""Densities, value and gradient in float64, compiled, beside jax.jit."""

import numpy as np
from _compare import compare, peer, slopes_by_both

import fastgrad as fg

jax = peer("jax")
if jax:
    import jax.numpy
    import jax.scipy.stats

    jax.config.update("jax_enable_x64", True)


def regression(module, stats):
    """The negative log-likelihood of counts by coefficients and the logarithm of the dispersion."""

    def loss(coefficients, log_size, x, counts):
        size, mean = module.exp(log_size), module.exp(x @ coefficients)
        return -module.sum(stats.nbinom.logpmf(counts, size, size / (size + mean)))

    return loss


def test_negative_binomial_regression(benchmark):
    rng = np.random.default_rng(0)
    rows = 1000
    x = np.column_stack([np.ones(rows), 0.5 * rng.normal(size=(rows, 4))])
    counts = rng.negative_binomial(2, 0.3, rows).astype(float)
    arguments = (np.array([1.0, 0.2, -0.1, 0.3, 0.0]), np.array(0.5), x, counts)
    theirs = jax and regression(jax.numpy, jax.scipy.stats)
    ours, peers = slopes_by_both(regression(np, fg.stats), theirs, arguments, (0, 1))
    compare(benchmark, f"negative-binomial regression of {rows:,} rows", ours, peers, {"jax.jit": 0.3})


def multivariate_normal(module, stats):
    """The log-likelihood of points by their mean and a factor of their covariance."""

    def loss(mean, factor, x):
        cov = factor @ factor.T + module.eye(len(mean))
        return module.sum(stats.multivariate_normal.logpdf(x, mean, cov))

    return loss


def test_multivariate_normal(benchmark):
    rng = np.random.default_rng(0)
    d, n = 10, 1000
    arguments = (rng.normal(size=d), rng.normal(size=(d, d)), rng.normal(size=(n, d)))
    theirs = jax and multivariate_normal(jax.numpy, jax.scipy.stats)
    ours, peers = slopes_by_both(multivariate_normal(np, fg.stats), theirs, arguments, (0, 1))
    compare(benchmark, f"multivariate normal, {n:,} points of {d}", ours, peers, {"jax.jit": 0.5}, atol=1e-5)
