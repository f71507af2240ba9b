"""Transforms beside the same by jax.jit and torch.func; ours have ndarrays in and out, theirs their own arrays."""

import fastgrad as fg
import numpy as np
from _compare import compare, one_thread, peer

torch, jax = peer("torch"), peer("jax")


def per_sample(sizes, batch):
    """Parameters of a net of tanh layers, inputs and labels."""
    rng = np.random.default_rng(0)
    params = [
        [rng.normal(size=(m, n)).astype(np.float32) / np.float32(m) ** 0.5, np.zeros(n, np.float32)]
        for m, n in zip(sizes, sizes[1:])
    ]
    return params, rng.normal(size=(batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch)


def by_fastgrad(made, compiled):
    def loss(params, x, label):
        for w, b in params[:-1]:
            x = fg.tanh(x @ w + b)
        w, b = params[-1]
        return fg.losses.softmax_cross_entropy(x @ w + b, label)

    gradients = fg.vmap(fg.grad(loss), (None, 0, 0))
    gradients = fg.compile(gradients) if compiled else gradients
    return lambda: fg.tree.leaves(gradients(*made))


def by_jax(made):
    def loss(params, x, label):
        for w, b in params[:-1]:
            x = jax.numpy.tanh(x @ w + b)
        w, b = params[-1]
        return -jax.nn.log_softmax(x @ w + b)[label]

    gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))
    made = jax.tree.map(jax.numpy.asarray, made)
    return lambda: jax.tree.leaves(jax.block_until_ready(gradients(*made)))


def by_torch(made):
    def loss(params, x, label):
        for w, b in params[:-1]:
            x = torch.tanh(x @ w + b)
        w, b = params[-1]
        return torch.nn.functional.cross_entropy(x @ w + b, label)

    params, x, labels = made
    params = [[torch.tensor(a) for a in layer] for layer in params]
    x, labels = torch.tensor(x), torch.tensor(labels)
    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    return lambda: [a for layer in gradients(params, x, labels) for a in layer]


def test_per_sample_gradients(benchmark):
    made = per_sample((64, 128, 10), 128)
    peers = {"jax.jit": by_jax(made)} if jax else {}
    work = "compiled per-sample gradients 64-128-10, batch 128"
    compare(benchmark, work, by_fastgrad(made, True), peers, {"jax.jit": 0.8})


def test_per_sample_gradients_eager(benchmark):
    made = per_sample((64, 128, 10), 128)
    peers = {"torch.func": by_torch(made)} if torch else {}
    with one_thread():
        compare(benchmark, "eager per-sample gradients 64-128-10, batch 128", by_fastgrad(made, False), peers, {})
