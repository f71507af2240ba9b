"""Samples of the distributions of ``fg.random``, which have SciPy's."""

from scipy import stats

from fastgrad.random import default_rng

N = 50_001


def sample(draw, distribution, seed, dtype):
    """N numbers of draw(generator, N, dtype), as float64, which pass Kolmogorov and Smirnov's test."""
    x = draw(default_rng(seed), N, dtype)
    assert x.dtype == dtype and x.shape == (N,)
    x = x.numpy().astype(float)
    assert stats.kstest(x, distribution.cdf).pvalue > 0.01
    return x
