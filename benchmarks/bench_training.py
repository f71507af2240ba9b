"""A training step of the digits net: 64-128-10 with tanh, batch of 64, plain SGD; loss as a Python float."""

from contextlib import nullcontext

import numpy as np
import pytest
from _compare import compare, one_thread, peer

import fastgrad as fg

RATE = 0.1
torch, jax = peer("torch"), peer("jax")


def initial():
    rng = np.random.default_rng(0)
    params = {
        "w1": rng.standard_normal((64, 128)) / 8,
        "b1": rng.standard_normal(128) / 8,
        "w2": rng.standard_normal((128, 10)) / 11,
        "b2": rng.standard_normal(10) / 11,
    }
    x, labels = rng.uniform(0, 1, (64, 64)), rng.integers(0, 10, 64)
    return {name: value.astype(np.float32) for name, value in params.items()}, x.astype(np.float32), labels


def first_steps(step, params, n=5):
    """The losses of n steps from the start, and the parameters after them: what all contenders must agree on."""
    losses = [step() for _ in range(n)]
    return [np.asarray(losses), *(np.array(params()[name]) for name in ("w1", "b1", "w2", "b2"))]


def by_fastgrad(compile=True):
    params, x, labels = initial()

    def loss(params, x, labels):
        hidden = fg.tanh(x @ params["w1"] + params["b1"])
        return fg.losses.softmax_cross_entropy(hidden @ params["w2"] + params["b2"], labels)

    step = fg.training_step(loss, params, fg.optim.SGD(learning_rate=RATE), compile=compile)
    return lambda: step(x, labels), lambda: step.params


def by_torch(**options):
    params, x, labels = initial()
    params = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    x, labels = torch.tensor(x), torch.tensor(labels)
    optimizer = torch.optim.SGD(params.values(), lr=RATE, **options)

    def step():
        optimizer.zero_grad()
        hidden = torch.tanh(torch.addmm(params["b1"], x, params["w1"]))
        loss = torch.nn.functional.cross_entropy(torch.addmm(params["b2"], hidden, params["w2"]), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, lambda: {name: value.detach().numpy() for name, value in params.items()}


def by_jax():
    params, x, labels = initial()
    state = {"params": jax.tree.map(jax.numpy.asarray, params)}
    x, labels = jax.numpy.asarray(x), jax.numpy.asarray(labels)

    def loss(params, x, labels):
        hidden = jax.numpy.tanh(x @ params["w1"] + params["b1"])
        logits = jax.nn.log_softmax(hidden @ params["w2"] + params["b2"])
        return -jax.numpy.take_along_axis(logits, labels[:, None], axis=1).mean()

    @jax.jit
    def update(params, x, labels):
        value, gradient = jax.value_and_grad(loss)(params, x, labels)
        return value, jax.tree.map(lambda p, g: p - RATE * g, params, gradient)

    def step():
        value, state["params"] = jax.block_until_ready(update(state["params"], x, labels))
        return float(value)

    return step, lambda: state["params"]


def by_numpy():
    """The same gradients written out by hand."""
    params, x, labels = initial()
    w1, b1, w2, b2 = params.values()
    rows = np.arange(len(x))

    def step():
        hidden = np.tanh(x @ w1 + b1)
        logits = hidden @ w2 + b2
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        loss = np.log(total).mean() - logits[rows, labels].mean()
        p /= total
        p[rows, labels] -= 1
        p /= np.float32(len(x))
        g = (p @ w2.T) * ((1 + hidden) * (1 - hidden))
        w2[...] -= RATE * (hidden.T @ p)
        b2[...] -= RATE * p.sum(axis=0)
        w1[...] -= RATE * (x.T @ g)
        b1[...] -= RATE * g.sum(axis=0)
        return float(loss)

    return step, lambda: params


@pytest.mark.parametrize("threads", ["one thread", "all threads"])
def test_training_step(benchmark, threads):
    with one_thread() if threads == "one thread" else nullcontext():
        contenders = {"fastgrad": by_fastgrad(), "NumPy by hand": by_numpy()}
        if torch:
            contenders |= {"PyTorch": by_torch(), "PyTorch, fused SGD": by_torch(fused=True)}
        if jax and threads == "all threads":  # its number of threads is fixed when it starts
            contenders["jax.jit"] = by_jax()
        expected = first_steps(*contenders["fastgrad"])
        for name, contender in contenders.items():
            if name != "fastgrad":
                for mine, theirs in zip(expected, first_steps(*contender), strict=True):
                    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6, err_msg=name)
        steps = {name: step for name, (step, _) in contenders.items()}
        ours = steps.pop("fastgrad")
        compare(benchmark, f"digits net, batch 64, {threads}", ours, steps, {"PyTorch": 1 / 8})


def test_training_step_on_the_tape(benchmark):
    """The same with compile=False: the loss runs as Python at each step."""
    with one_thread():
        contenders = {"fastgrad": by_fastgrad(compile=False)} | ({"PyTorch": by_torch()} if torch else {})
        first = {name: first_steps(*contender) for name, contender in contenders.items()}
        for name, found in first.items():
            for mine, theirs in zip(first["fastgrad"], found, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6, err_msg=name)
        steps = {name: step for name, (step, _) in contenders.items()}
        compare(benchmark, "digits net, batch 64, not compiled", steps.pop("fastgrad"), steps, {"PyTorch": 1 / 8})
