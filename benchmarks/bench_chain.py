"""What one recorded operation costs: a chain of 100 tanh, forward and backward, from one element to 10,000."""

import numpy as np
import pytest
from _compare import compare, peer

import fastgrad as fg

LENGTH = 100
torch, jax = peer("torch"), peer("jax")


@pytest.mark.parametrize("size, target", [(1, 1 / 25), (100, 1 / 20), (10_000, 1 / 4)])
def test_chain(benchmark, size, target):
    rng = np.random.default_rng(0)
    data = rng.uniform(-1, 1, size).astype(np.float32)
    cotangent = rng.uniform(1, 2, size).astype(np.float32)
    peers = {}

    x, g = fg.tensor(data, requires_grad=True), fg.tensor(cotangent)

    def ours():
        y = x
        for _ in range(LENGTH):
            y = fg.tanh(y)
        x.zero_grad()
        y.backward(g)
        return y.detach(), x.grad

    if torch:
        torch_x, torch_g = torch.tensor(data, requires_grad=True), torch.tensor(cotangent)

        def in_torch():
            y = torch_x
            for _ in range(LENGTH):
                y = torch.tanh(y)
            torch_x.grad = None
            y.backward(torch_g)
            return y.detach(), torch_x.grad

        peers["PyTorch"] = in_torch
    if jax:

        def chain(x):
            for _ in range(LENGTH):
                x = jax.numpy.tanh(x)
            return x

        @jax.jit
        def chain_and_gradient(x, g):
            y, pullback = jax.vjp(chain, x)
            return y, pullback(g)[0]

        jax_x, jax_g = jax.numpy.asarray(data), jax.numpy.asarray(cotangent)
        peers["jax.jit"] = lambda: jax.block_until_ready(chain_and_gradient(jax_x, jax_g))

    compare(benchmark, f"chain of tanh, {size:,}, per op", ours, peers, {"PyTorch": target}, operations=LENGTH)
