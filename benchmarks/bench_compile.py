"""The compiled replay beside jax.jit and eager PyTorch: chains, Rosenbrock's function, training steps of small nets.

JAX's compile time is not in these figures; `test_time_to_trace` reports ours on its own.
"""

from itertools import pairwise

import numpy as np
import pytest
from _compare import compare, limit, peer

import fastgrad as fg

torch, jax = peer("torch"), peer("jax")


def value_and_gradient(ours, in_torch, in_jax, data):
    """Contenders for the value and gradient of a function of one array, ndarray in and out where that is free."""
    replay = fg.compile(fg.value_and_grad(ours))
    contenders = {"fastgrad": lambda: replay(data)}
    if torch:
        x = torch.tensor(data, requires_grad=True)

        def by_torch():
            x.grad = None
            value = in_torch(x)
            value.backward()
            return value.detach(), x.grad

        contenders["PyTorch"] = by_torch
    if jax:
        compiled = jax.jit(jax.value_and_grad(in_jax))
        contenders["jax.jit"] = lambda: jax.block_until_ready(compiled(data))
    return contenders


def run(benchmark, work, contenders, target, **options):
    contenders = dict(contenders)
    compare(benchmark, work, contenders.pop("fastgrad"), contenders, {"jax.jit": target}, **options)


def chain(module):
    def f(x):
        for _ in range(100):
            x = module.tanh(x)
        return x.sum()

    return f


@pytest.mark.parametrize("size, target", [(1, 1 / 6), (1000, 1 / 3)])
def test_chain(benchmark, size, target):
    data = np.linspace(0.25, 1, size, dtype=np.float32)
    contenders = value_and_gradient(chain(fg), chain(torch), chain(jax.numpy if jax else None), data)
    run(benchmark, f"compiled chain of tanh, {size:,}, per op", contenders, target, operations=100)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("n, target", [(10, 1 / 8), (1000, 1 / 8), (100_000, 0.6)])
def test_rosenbrock(benchmark, n, target):
    data = np.random.default_rng(0).normal(size=n).astype(np.float32)
    contenders = value_and_gradient(rosenbrock, rosenbrock, rosenbrock, data)
    run(benchmark, f"compiled Rosenbrock, n = {n:,}", contenders, target, rtol=1e-3, atol=1e-2)


def step_by_fastgrad(params):
    def loss(params, x, labels):
        for w, b in params[:-1]:
            x = fg.tanh(x @ w + b)
        w, b = params[-1]
        return fg.losses.softmax_cross_entropy(x @ w + b, labels)

    return fg.training_step(loss, [[w.copy(), b.copy()] for w, b in params], fg.optim.SGD(learning_rate=0.1))


def net_by_fastgrad(params, x, labels):
    step = step_by_fastgrad(params)
    return lambda: step(x, labels)


def net_by_torch(params, x, labels):
    params = [[torch.tensor(w, requires_grad=True), torch.tensor(b, requires_grad=True)] for w, b in params]
    x, labels = torch.tensor(x), torch.tensor(labels)
    optimizer = torch.optim.SGD([p for layer in params for p in layer], lr=0.1)

    def step():
        optimizer.zero_grad()
        h = x
        for w, b in params[:-1]:
            h = torch.tanh(torch.addmm(b, h, w))
        loss = torch.nn.functional.cross_entropy(torch.addmm(params[-1][1], h, params[-1][0]), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def net_by_jax(params, x, labels):
    state = {"params": jax.tree.map(jax.numpy.asarray, params)}
    x, labels = jax.numpy.asarray(x), jax.numpy.asarray(labels)

    def loss(params, x, labels):
        for w, b in params[:-1]:
            x = jax.numpy.tanh(x @ w + b)
        logits = jax.nn.log_softmax(x @ params[-1][0] + params[-1][1])
        return -jax.numpy.take_along_axis(logits, labels[:, None], axis=1).mean()

    @jax.jit
    def update(params, x, labels):
        value, gradient = jax.value_and_grad(loss)(params, x, labels)
        return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)

    def step():
        value, state["params"] = jax.block_until_ready(update(state["params"], x, labels))
        return float(value)

    return step


def net(sizes, batch):
    """Parameters of a net of tanh layers, inputs and labels."""
    rng = np.random.default_rng(0)
    params = [
        [rng.normal(size=(m, n)).astype(np.float32) / np.float32(m) ** 0.5, np.zeros(n, np.float32)]
        for m, n in pairwise(sizes)
    ]
    return params, rng.normal(size=(batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch)


@pytest.mark.parametrize(
    "sizes, batch, target",
    [
        ((4, 16, 3), 16, 1 / 8),
        ((64, 32, 10), 32, 1 / 5),
        ((64, 128, 10), 128, 1 / 2),
        ((784, 256, 10), 128, 0.85),
        ((784, 1024, 1024, 10), 256, 0.95),
    ],
)
def test_net(benchmark, sizes, batch, target):
    made = net(sizes, batch)
    contenders = {"fastgrad": net_by_fastgrad(*made)}
    if torch:
        contenders["PyTorch"] = net_by_torch(*made)
    if jax:
        contenders["jax.jit"] = net_by_jax(*made)
    first = {name: np.asarray([step() for _ in range(5)]) for name, step in contenders.items()}
    for name, losses in first.items():
        np.testing.assert_allclose(losses, first["fastgrad"], rtol=1e-3, err_msg=name)
    # From here on the contenders take different numbers of steps, so their losses are not compared.
    timed = {name: (lambda step=step: (step(), np.zeros(1))[1]) for name, step in contenders.items()}
    name = "-".join(map(str, sizes))
    ours = timed.pop("fastgrad")
    targets = dict.fromkeys(timed, target) if target >= 0.5 else {"jax.jit": target}
    compare(benchmark, f"compiled step {name}, batch {batch}", ours, timed, targets)


def torch_peak_bytes(step):
    """The most bytes that a step has allocated at a time, by PyTorch's profiler."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]))


@pytest.mark.skipif(torch is None, reason="no PyTorch")
def test_peak_memory(benchmark):
    """Intermediates and gradients of the largest step; neither figure counts parameters and data."""
    params, x, labels = net((784, 1024, 1024, 10), 256)
    step = step_by_fastgrad(params)
    benchmark.pedantic(step, (x, labels), rounds=3)
    theirs = torch_peak_bytes(net_by_torch(params, x, labels))
    limit(
        "peak memory of 784-1024-1024-10, of PyTorch's",
        step.program(x, labels).facts["peak_bytes"] / theirs,
        0.6,
        "times",
    )


def test_time_to_trace(benchmark):
    """Of the graph of 784-1024-1024-10, with few units in each layer."""
    params, x, labels = net((7, 10, 10, 5), 2)

    def loss(params, x, labels):
        for w, b in params[:-1]:
            x = fg.tanh(x @ w + b)
        return fg.losses.softmax_cross_entropy(x @ params[-1][0] + params[-1][1], labels)

    f = fg.value_and_grad(loss)
    benchmark(lambda: fg.compile(f).program(params, x, labels))
    limit("tracing and planning a net of 3 layers", 1000 * benchmark.stats.stats.median, 20, "ms")


def test_guarded_call(benchmark):
    x = np.ones(3)
    f = fg.compile(lambda x: x)
    f(x)
    benchmark(f, x)
    limit("compiled call that returns its input", 1e9 * benchmark.stats.stats.median, 300, "ns")
