"""Transforms beside the same by jax.jit and torch.func; ours have ndarrays in and out, theirs their own arrays."""

import timeit

import numpy as np
from _compare import compare, limit, one_thread, peer
from bench_compile import net

import fastgrad as fg

torch, jax = peer("torch"), peer("jax")


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
    made = net((64, 128, 10), 128)
    peers = {"jax.jit": by_jax(made)} if jax else {}
    work = "compiled per-sample gradients 64-128-10, batch 128"
    compare(benchmark, work, by_fastgrad(made, True), peers, {"jax.jit": 0.8})


def test_per_sample_gradients_eager(benchmark):
    made = net((64, 128, 10), 128)
    peers = {"torch.func": by_torch(made)} if torch else {}
    with one_thread():
        compare(benchmark, "eager per-sample gradients 64-128-10, batch 128", by_fastgrad(made, False), peers, {})


def test_jacobian_of_a_layer_eager(benchmark):
    rng = np.random.default_rng(0)
    w, b, x = rng.normal(size=(100, 100)) / 10, rng.normal(size=100), rng.normal(size=100)
    ours = fg.jacrev(lambda x: fg.tanh(w @ x + b))
    peers = {}
    if torch:
        tw, tb, tx = (torch.tensor(a) for a in (w, b, x))
        theirs = torch.func.jacrev(lambda x: torch.tanh(tw @ x + tb))
        peers["torch.func"] = lambda: theirs(tx)
    with one_thread():
        compare(benchmark, "eager Jacobian of a tanh layer 100-100", lambda: ours(x), peers, {"torch.func": 0.1})


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def test_hessian_of_rosenbrock(benchmark):
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    ours, peers = fg.compile(fg.hessian(rosenbrock)), {}
    if jax:
        theirs = jax.jit(jax.hessian(rosenbrock))
        peers["jax.jit"] = lambda: jax.block_until_ready(theirs(x))
    compare(benchmark, "compiled Hessian of Rosenbrock, n = 100", lambda: ours(x), peers, {"jax.jit": 1 / 3}, atol=1e-2)


def test_hessian_vector_product():
    """Against the value of the function, both compiled."""
    x, p = np.random.default_rng(0).normal(size=(2, 100))
    value, product = fg.compile(rosenbrock), fg.compile(fg.hessp(rosenbrock))
    np.testing.assert_allclose(product(x, p), fg.hessian(rosenbrock)(x) @ p, rtol=1e-10)
    times = [min(timeit.repeat(f, number=2000, repeat=15)) for f in (lambda: product(x, p), lambda: value(x))]
    limit("compiled hvp of Rosenbrock, n = 100, to its compiled value", times[0] / times[1], 5, "times")


def banded(x):
    """The discrete Bratu problem: three diagonals."""
    left, right = np.concatenate([np.zeros(1), x[:-1]]), np.concatenate([x[1:], np.zeros(1)])
    return left - 2 * x + right + 0.1 * np.exp(x)


def test_sparse_jacobian():
    """Against the function itself, both compiled."""
    x = np.random.default_rng(0).normal(size=100_000)
    value, jacobian = fg.compile(banded), fg.sparse.jacobian(banded)
    np.testing.assert_allclose(jacobian(x).diagonal(), 0.1 * np.exp(x) - 2, rtol=1e-12)
    times = [min(timeit.repeat(f, number=20, repeat=15)) for f in (lambda: jacobian(x), lambda: value(x))]
    limit("sparse Jacobian of three diagonals, n = 100 000, to its compiled value", times[0] / times[1], 20, "times")
