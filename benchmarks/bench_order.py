"""Order statistics and running products of 10,000 elements, compiled, value and gradient, beside jax.jit."""

import numpy as np
import pytest
from _compare import compare, one_thread, peer

import fastgrad as fg

jax = peer("jax")
N = 10_000


def losses(m):
    """A loss of x and weights w for each function, in a module of NumPy's names."""
    return {
        "sort": lambda x, w: (w * m.sort(x)).sum(),
        "median": lambda x, w: m.median(w * x),
        "quantiles": lambda x, w: m.quantile(x, np.array([0.1, 0.5, 0.9])).sum() * w[0],
        "cumprod": lambda x, w: (w * m.cumprod(1 + 1e-3 * x)).sum(),
        "prod": lambda x, w: m.prod(1 + 1e-3 * x) * w[0],
        "cummax": lambda x, w: (w * (jax.lax.cummax(x) if m is not fg else fg.cummax(x))).sum(),
        "logcumsumexp": lambda x, w: (w * (jax.lax.cumlogsumexp(x) if m is not fg else fg.logcumsumexp(x))).sum(),
    }


AT_MOST = {"sort": 0.7, "median": 0.7, "cumprod": 0.7}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", losses(fg))
def test_value_and_gradient(benchmark, name, dtype):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, N)).astype(dtype)
    replay = fg.compile(fg.value_and_grad(losses(fg)[name], (0, 1)))

    def ours():
        value, gradients = replay(x, w)
        return np.asarray(value), *gradients

    peers = {}
    if jax:
        jax.config.update("jax_enable_x64", True)
        compiled = jax.jit(jax.value_and_grad(losses(jax.numpy)[name], (0, 1)))

        def theirs():
            value, gradients = jax.block_until_ready(compiled(x, w))
            return value, *gradients

        peers["jax.jit"] = theirs
    targets = {"jax.jit": AT_MOST[name]} if name in AT_MOST else {}
    rtol, atol = (2e-3, 1e-3) if dtype == np.float32 else (1e-6, 1e-9)
    with one_thread():
        what = f"{name} of {N:,} {np.dtype(dtype)}, value and gradient"
        compare(benchmark, what, ours, peers, targets, rtol=rtol, atol=atol)
