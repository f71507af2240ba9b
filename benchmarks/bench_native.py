"""Native programs beside their replay by the interpreter and beside jax.jit: small models, whose time is that of
many small steps. Compilation is apart, in `test_compilation`."""

import time

import numpy as np
import pytest
from _compare import compare, limit, peer

import fastgrad as fg
from fastgrad._native import build

jax = peer("jax")
if jax:
    jax.config.update("jax_enable_x64", True)
RNG = np.random.default_rng(0)


def neuron(m, scan):
    """A Hodgkin-Huxley neuron: 2,000 Euler steps of membrane voltage and three gates."""

    def rates(v):
        """Of each gate: how fast it opens and closes."""
        return (
            (0.01 * (v + 55) / (1 - m.exp(-(v + 55) / 10)), 0.125 * m.exp(-(v + 65) / 80)),
            (0.1 * (v + 40) / (1 - m.exp(-(v + 40) / 10)), 4 * m.exp(-(v + 65) / 18)),
            (0.07 * m.exp(-(v + 65) / 20), 1 / (1 + m.exp(-(v + 35) / 10))),
        )

    def loss(v0, conductance):
        def euler(state, _):
            v, n, p, h = state
            current = conductance * p * p * p * h * (v - 50) + 36 * n * n * n * n * (v + 77) + 0.3 * (v + 54.4)
            gates = [x + 0.025 * (up * (1 - x) - down * x) for x, (up, down) in zip((n, p, h), rates(v))]
            return (v + 0.025 * (10 - current), *gates), v

        return m.mean(scan(euler, (v0, 0.3177, 0.0529, 0.5961), None, length=2000)[1] ** 2)

    return loss


def filtered(m, scan):
    """The Cholesky factor of a quasi-separable matrix of 2,000 rows: a recursion on 3 by 3 matrices."""

    def loss(a, d, p, q):
        def step(f, x):
            d, p, q = x
            fp = f @ p
            c = m.sqrt(d - p @ fp)
            w = (q - a @ fp) / c
            return a @ f @ a.T + m.outer(w, w), (c, w)

        c, w = scan(step, m.zeros((3, 3)), (d, p, q))[1]
        return m.sum(m.log(c)) + m.sum(w * w)

    return loss


def rosenbrock(m, _):
    return lambda x: m.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def chain(m, _):
    def f(x):
        for _ in range(100):
            x = m.tanh(x)
        return m.sum(x)

    return f


def network(m, _):
    def loss(w, b, v, c, x, y):
        return m.mean((m.tanh(x @ w + b) @ v + c - y) ** 2)

    return loss


ROWS = [RNG.uniform(3, 4, 2000), 0.3 * RNG.random((2000, 3)), 0.3 * RNG.random((2000, 3))]
WEIGHTS = [RNG.normal(size=(4, 16)), np.zeros(16), RNG.normal(size=(16, 3)), np.zeros(3)]
# What is computed, its arguments, how many of them are differentiated, and the ratios to stay below.
WORK = {
    "neuron, 2,000 steps": (neuron, (-65.0, 120.0), 2, {"replay": 0.25, "jax.jit": 0.05}),
    "quasi-separable Cholesky, 2,000 steps": (filtered, (0.9 * np.eye(3), *ROWS), 4, {"replay": 0.35, "jax.jit": 0.05}),
    "chain of 100 tanh of one element": (chain, (np.array([0.5]),), 1, {"replay": 0.9, "jax.jit": 0.09}),
    "Rosenbrock, 10": (rosenbrock, (RNG.normal(size=10),), 1, {"replay": 0.8}),
    "Rosenbrock, 1,000": (rosenbrock, (RNG.normal(size=1000),), 1, {"replay": 0.8}),
    "Rosenbrock, 100,000": (rosenbrock, (RNG.normal(size=100_000),), 1, {"replay": 1.05}),
    "gradient of a 4-16-3 network": (network, (*WEIGHTS, RNG.normal(size=(32, 4)), RNG.normal(size=(32, 3))), 4,
                                     {"replay": 0.8}),
}  # fmt: skip


def contenders(make, args, n):
    """Value and gradient by native code, by the interpreter and by JAX."""
    numbers = tuple(range(n))

    def flat(value_and_grad):
        def f(*args):
            value, gradients = value_and_grad(*args)
            return value, *gradients

        return f

    ours = flat(fg.value_and_grad(make(np, fg.scan), numbers))
    native, replay = fg.compile(ours, native=True), fg.compile(ours, native=False)
    peers = {"replay": lambda: replay(*args)}
    if jax:
        theirs = jax.jit(flat(jax.value_and_grad(make(jax.numpy, jax.lax.scan), numbers)))
        given = [jax.numpy.asarray(x) for x in args]
        peers["jax.jit"] = lambda: jax.block_until_ready(theirs(*given))
    return (lambda: native(*args)), peers


@pytest.mark.parametrize("name", WORK)
def test_value_and_gradient(benchmark, name):
    make, args, n, targets = WORK[name]
    ours, peers = contenders(make, args, n)
    compare(benchmark, f"native: {name}", ours, peers, targets, rtol=1e-6, atol=1e-9)


def test_while_loop(benchmark):
    """A loop of trivial steps."""
    steps = 200_000
    condition, step = lambda c: c[0] < steps, lambda c: (c[0] + 1, c[1] * 0.5 + 1)

    def compiled(how):
        f = fg.compile(lambda x: fg.while_loop(condition, step, (0.0, x)), native=how)
        return lambda: [np.asarray(y) for y in f(1.0)]

    peers = {"replay": compiled(False)}
    if jax:
        theirs = jax.jit(lambda x: jax.lax.while_loop(condition, step, (0.0, x)))
        peers["jax.jit"] = lambda: [np.asarray(y) for y in jax.block_until_ready(theirs(1.0))]
    compare(benchmark, "native: while_loop, a step", compiled(True), peers, {"replay": 0.1}, operations=steps)


@pytest.mark.parametrize("name", ["neuron, 2,000 steps", "Rosenbrock, 10"])
def test_compilation(name, tmp_path, monkeypatch):
    """From a trace to native code, with a compiler that has not seen the program."""
    monkeypatch.setenv("FASTGRAD_CACHE_DIR", str(tmp_path))
    make, args, n, _ = WORK[name]
    f = fg.compile(fg.value_and_grad(make(np, fg.scan), tuple(range(n))), native=False)
    build.native(f.program(*args))  # looks for the compiler
    times = []
    for scale in (2.0, 3.0, 4.0):
        loss = make(np, fg.scan)
        f = fg.compile(fg.value_and_grad(lambda *args: scale * loss(*args), tuple(range(n))), native=False)
        program = f.program(*args)
        start = time.perf_counter()
        build.native(program)
        times.append(time.perf_counter() - start)
    limit(f"native: compilation of {name}", 1e3 * min(times), 400, "ms")
