"""Training steps by plain SGD, the loss as a Python float: the digits net, 64-128-10 with tanh and a batch of 64; and
word2vec, two tables of 200,000 x 64 of which a batch of 512 reads 7 rows for each of its words."""

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


# ---- word2vec: skip-gram with negative sampling --------------------------------------------------------------------
WORDS, WIDTH, BATCH, NEGATIVE = 200_000, 64, 512, 5


def tables():
    rng = np.random.default_rng(0)
    params = {name: (rng.standard_normal((WORDS, WIDTH)) / 8).astype(np.float32) for name in ("words", "contexts")}
    shapes = BATCH, BATCH, (BATCH, NEGATIVE)
    batches = [tuple(rng.integers(0, WORDS, shape) for shape in shapes) for _ in range(64)]
    return params, batches


def in_turn(step, batches):
    """A function that takes a step on the next of the batches, which read other rows."""
    count = iter(range(10**12))
    return lambda: step(*batches[next(count) % len(batches)])


def word2vec_by_fastgrad():
    params, batches = tables()

    def loss(params, centre, context, negative):
        v, vocabulary = params["words"][centre], params["contexts"]
        right = fg.sum(v * vocabulary[context], axis=1)
        wrong = fg.sum(v[:, None] * vocabulary[negative], axis=2)
        return fg.mean(fg.logaddexp(0.0, -right)) + fg.mean(fg.sum(fg.logaddexp(0.0, wrong), axis=1))

    step = fg.training_step(loss, params, fg.optim.SGD(learning_rate=RATE))
    return in_turn(step, batches), lambda: step.params


def word2vec_by_torch(sparse):
    params, batches = tables()
    params = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    batches = [tuple(map(torch.tensor, batch)) for batch in batches]
    optimizer = torch.optim.SGD(params.values(), lr=RATE)
    embedding, softplus = torch.nn.functional.embedding, torch.nn.functional.softplus

    def step(centre, context, negative):
        optimizer.zero_grad()
        v = embedding(centre, params["words"], sparse=sparse)
        right = (v * embedding(context, params["contexts"], sparse=sparse)).sum(1)
        wrong = (v[:, None] * embedding(negative, params["contexts"], sparse=sparse)).sum(2)
        loss = softplus(-right).mean() + softplus(wrong).sum(1).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return in_turn(step, batches), lambda: {name: value.detach().numpy() for name, value in params.items()}


def word2vec_by_numpy():
    """The same gradients written out by hand, added to the rows."""
    params, batches = tables()
    words, contexts = params.values()

    def step(centre, context, negative):
        v, u, w = words[centre], contexts[context], contexts[negative]
        right, wrong = np.sum(v * u, axis=1), np.sum(v[:, None] * w, axis=2)
        loss = np.logaddexp(0, -right).mean() + np.logaddexp(0, wrong).sum(axis=1).mean()
        slope = (-RATE / BATCH / (1 + np.exp(right)))[:, None]
        slopes = (RATE / BATCH / (1 + np.exp(-wrong)))[:, :, None]
        np.subtract.at(words, centre, slope * u + np.sum(slopes * w, axis=1))
        np.subtract.at(contexts, context, slope * v)
        np.subtract.at(contexts, negative, slopes * v[:, None])
        return float(loss)

    return in_turn(step, batches), lambda: params


def test_word2vec(benchmark):
    with one_thread():
        contenders = {"fastgrad": word2vec_by_fastgrad(), "NumPy by hand": word2vec_by_numpy()}
        if torch:
            contenders |= {"PyTorch, sparse": word2vec_by_torch(True), "PyTorch, dense": word2vec_by_torch(False)}
        expected = None
        for name, (step, params) in contenders.items():
            found = [step() for _ in range(5)], *(params()[name].copy() for name in ("words", "contexts"))
            expected = expected or found
            for mine, theirs in zip(expected, found, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6, err_msg=name)
        steps = {name: step for name, (step, _) in contenders.items()}
        compare(benchmark, "word2vec, 200,000 x 64, batch 512 x (1 + 5)", steps.pop("fastgrad"), steps, {})
