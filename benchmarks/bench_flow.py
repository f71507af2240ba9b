"""Recurrences: compiled scan beside jax.lax.scan, value and gradient, small and larger states, mapped, Hessian."""

import numpy as np
import pytest
from _compare import compare, peer

import fastgrad as fg

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


@pytest.mark.parametrize("size", [4, 64])
@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
def test_linear_recurrence(benchmark, size, gradient):
    """Element by element, without a product."""
    rng = np.random.default_rng(0)
    a, xs = rng.uniform(0.5, 0.9, size).astype(np.float32), rng.normal(size=(STEPS, size)).astype(np.float32)

    def linear(scan):
        def step(h, x, a):
            h = a * h + x
            return h, h * h

        return lambda a, xs: scan(lambda h, x: step(h, x, a), xs[0], xs)[1].mean()

    replay = fg.compile(fg.grad(linear(fg.scan), (0, 1)) if gradient else linear(fg.scan))
    peers = {}
    if jax:
        theirs = linear(jax.lax.scan)
        compiled = jax.jit(jax.grad(theirs, (0, 1)) if gradient else theirs)
        peers["jax.jit"] = lambda: jax.block_until_ready(compiled(a, xs))
    what = f"linear recurrence of {STEPS:,} steps, {size} states, {'gradient' if gradient else 'value'}, a step"
    compare(benchmark, what, lambda: replay(a, xs), peers, {}, operations=STEPS, atol=1e-5)


@pytest.mark.parametrize("name", ["vmap of grad", "hessian"])
def test_transforms_of_recurrences(benchmark, name):
    steps, batch, size = 1000, 16, 4
    rng = np.random.default_rng(0)
    w = (rng.normal(size=(size, size)) / 3).astype(np.float32)
    xs = rng.normal(size=(steps, size) if name == "hessian" else (batch, steps, size)).astype(np.float32)

    def transformed(module, loss):
        return module.hessian(loss) if name == "hessian" else module.vmap(module.grad(loss), (None, 0))

    replay = fg.compile(transformed(fg, recurrence(np, fg.scan)))
    peers = {}
    if jax:
        compiled = jax.jit(transformed(jax, recurrence(jax.numpy, jax.lax.scan)))
        peers["jax.jit"] = lambda: jax.block_until_ready(compiled(w, xs))
    what = f"{name} of a recurrence of {steps:,} steps, {size} states, a step"
    compare(benchmark, what, lambda: replay(w, xs), peers, {}, operations=steps, atol=1e-4)
