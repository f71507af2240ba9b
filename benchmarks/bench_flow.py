"""A recurrence of 10,000 steps: compiled scan beside jax.lax.scan, value and gradient, small and larger states."""

import fastgrad as fg
import numpy as np
import pytest
from _compare import compare, peer

jax = peer("jax")
STEPS = 10_000


def recurrence(module, scan):
    """The loss of a plain recurrent network by its weights and its inputs."""

    def loss(w, xs):
        def step(h, x):
            h = module.tanh(w @ h + x)
            return h, (h * h).sum()

        return scan(step, xs[0], xs)[1].mean()

    return loss


@pytest.mark.parametrize("size", [4, 32, 64])
@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
def test_recurrence(benchmark, size, gradient):
    rng = np.random.default_rng(0)
    w = (rng.normal(size=(size, size)) / np.sqrt(size)).astype(np.float32)
    xs = rng.normal(size=(STEPS, size)).astype(np.float32)
    ours = recurrence(np, fg.scan)
    replay = fg.compile(fg.grad(ours, (0, 1)) if gradient else ours)
    peers = {}
    if jax:
        theirs = recurrence(jax.numpy, jax.lax.scan)
        compiled = jax.jit(jax.grad(theirs, (0, 1)) if gradient else theirs)
        peers["jax.jit"] = lambda: jax.block_until_ready(compiled(w, xs))
    what = f"recurrence of {STEPS:,} steps, {size} states, {'gradient' if gradient else 'value'}, a step"
    compare(benchmark, what, lambda: replay(w, xs), peers, {}, operations=STEPS, atol=1e-5)
