"""Native programs beside their replay by the interpreter and beside jax.jit: small models, whose time is that of
many small steps. Two of them also beside C that is written by hand. Compilation is apart, in `test_compilation`."""

import ctypes
import time
from pathlib import Path

import numpy as np
import pytest
from _compare import compare, limit, peer

import fastgrad as fg
from fastgrad._native import build, compiler

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


def beliefs(m, scan):
    """A chain of twenty Gaussian beliefs, each of which tracks the one before it: a mean, a precision and a volatility,
    60 numbers in all, over 614 observations."""

    def loss(drift, rate, observations):
        def step(state, seen):
            means, precisions, volatilities = state[:20], state[20:40], state[40:]
            told, surprise, found = seen, 0.0, ([], [], [])
            for mean, precision, volatility in zip(means, precisions, volatilities):
                predicted = 1 / (1 / precision + m.exp(drift + volatility))
                error = told - mean
                new = predicted + 0.5
                surprise = surprise + 0.5 * (error * error * predicted - m.log(predicted))
                told = mean + 0.5 * error / new
                found[0].append(told)
                found[1].append(new)
                found[2].append(volatility + rate * (predicted * error * error - 1) / (1 + predicted))
            return (*found[0], *found[1], *found[2]), surprise

        start = (0.0,) * 20 + (1.0,) * 20 + (-2.0,) * 20
        return m.mean(scan(step, start, observations)[1])

    return loss


def populations(m, scan):
    """Predators and prey after 2,000 steps of the classical method of Runge and Kutta."""

    def loss(a, b, c, d):
        def slope(x, y):
            return a * x - b * x * y, d * x * y - c * y

        def step(state, _):
            (x, y), h = state, 0.01
            x1, y1 = slope(x, y)
            x2, y2 = slope(x + h / 2 * x1, y + h / 2 * y1)
            x3, y3 = slope(x + h / 2 * x2, y + h / 2 * y2)
            x4, y4 = slope(x + h * x3, y + h * y3)
            return (x + h / 6 * (x1 + 2 * x2 + 2 * x3 + x4), y + h / 6 * (y1 + 2 * y2 + 2 * y3 + y4)), None

        x, y = scan(step, (1.0, 0.5), None, length=2000)[0]
        return x * x + y * y

    return loss


def arm(m):
    """The places of the twelve links of an arm whose joints turn about two axes in turn."""

    def places(q):
        turned, place, found = m.eye(3), m.zeros(3), []
        for k in range(12):
            c, s, zero, one = m.cos(q[k]), m.sin(q[k]), 0.0 * q[k], 0.0 * q[k] + 1
            rows = [[c, -s, zero], [s, c, zero], [zero, zero, one]]
            if k % 2:
                rows = [[c, zero, s], [zero, one, zero], [-s, zero, c]]
            turned = turned @ m.stack([m.stack(row) for row in rows])
            place = place + turned @ LINK
            found.append(place)
        return m.stack(found)

    return places


LINK = np.array([0.1, 0.02, 0.3])
ROWS = [RNG.uniform(3, 4, 2000), 0.3 * RNG.random((2000, 3)), 0.3 * RNG.random((2000, 3))]
WEIGHTS = [RNG.normal(size=(4, 16)), np.zeros(16), RNG.normal(size=(16, 3)), np.zeros(3)]
WIDE = [RNG.normal(size=(64, 32)) / 8, np.zeros(32), RNG.normal(size=(32, 10)) / 5, np.zeros(10)]
# What is computed, its arguments, how many of them are differentiated, and the ratios to stay below.
WORK = {
    "neuron, 2,000 steps": (neuron, (-65.0, 120.0), 2, {"replay": 0.25, "jax.jit": 0.05}),
    "quasi-separable Cholesky, 2,000 steps": (filtered, (0.9 * np.eye(3), *ROWS), 4, {"replay": 0.35, "jax.jit": 0.05}),
    "beliefs of 60 numbers, 614 steps": (beliefs, (-1.0, 0.1, RNG.normal(size=614)), 2, {"jax.jit": 0.05}),
    "Runge and Kutta, 2,000 steps": (populations, (1.1, 0.4, 0.4, 0.1), 4, {"jax.jit": 0.05}),
    "chain of 100 tanh of one element": (chain, (np.array([0.5]),), 1, {"replay": 0.9, "jax.jit": 0.09}),
    "Rosenbrock, 10": (rosenbrock, (RNG.normal(size=10),), 1, {"replay": 0.8}),
    "Rosenbrock, 1,000": (rosenbrock, (RNG.normal(size=1000),), 1, {"replay": 0.8}),
    "Rosenbrock, 100,000": (rosenbrock, (RNG.normal(size=100_000),), 1, {"replay": 0.8}),
    "gradient of a 4-16-3 network": (network, (*WEIGHTS, RNG.normal(size=(32, 4)), RNG.normal(size=(32, 3))), 4,
                                     {"replay": 0.8}),
    "gradient of a 64-32-10 network": (network, (*WIDE, RNG.normal(size=(32, 64)), RNG.normal(size=(32, 10))), 4,
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


def compiled_beside(f, theirs, args):
    """A function by native code, by the interpreter and, as `theirs`, by JAX."""
    native, replay = fg.compile(f, native=True), fg.compile(f, native=False)
    peers = {"replay": lambda: replay(*args)}
    if jax:
        jitted, given = jax.jit(theirs), [jax.numpy.asarray(x) for x in args]
        peers["jax.jit"] = lambda: jax.block_until_ready(jitted(*given))
    return (lambda: native(*args)), peers


@pytest.mark.parametrize("what", ["mass matrix", "gradient of kinetic energy"])
def test_arm(benchmark, what):
    """Of an arm with twelve joints: the mass matrix by jacfwd, and the gradient of the energy at these speeds."""
    q, speeds = RNG.normal(size=12), RNG.normal(size=12)

    def made(m, jacfwd, grad):
        def mass(q):
            j = m.reshape(jacfwd(arm(m))(q), (36, 12))
            return j.T @ j

        return mass if what == "mass matrix" else grad(lambda q, speeds: 0.5 * speeds @ mass(q) @ speeds)

    args = (q,) if what == "mass matrix" else (q, speeds)
    theirs = made(jax.numpy, jax.jacfwd, jax.grad) if jax else None
    compare(benchmark, f"native: arm, {what}", *compiled_beside(made(np, fg.jacfwd, fg.grad), theirs, args),
            {"jax.jit": 0.1}, rtol=1e-6, atol=1e-9)  # fmt: skip


def test_leapfrog(benchmark):
    """A hundred leapfrog steps, each with a gradient of a logistic regression, in one call."""
    x, y = RNG.normal(size=(100, 5)), RNG.integers(0, 2, 100) * 2.0 - 1

    def made(m, scan, grad):
        slope = grad(lambda w: m.sum(m.log(1 + m.exp(-y * (x @ w)))) + 0.5 * m.sum(w * w))

        def step(state, _):
            w, p = state
            w = w + 0.01 * p
            return (w, p - 0.01 * slope(w)), None

        return lambda w, p: scan(step, (w, p), None, length=100)[0]

    theirs = made(jax.numpy, jax.lax.scan, jax.grad) if jax else None
    args = RNG.normal(size=5), RNG.normal(size=5)
    compare(benchmark, "native: 100 leapfrog steps", *compiled_beside(made(np, fg.scan, fg.grad), theirs, args),
            {"jax.jit": 0.1}, rtol=1e-6, atol=1e-9)  # fmt: skip


@pytest.mark.parametrize("sizes", [(4, 16, 3), (64, 32, 10)])
def test_training_step(benchmark, sizes):
    """A step of Adam on 32 rows."""
    n, hidden, out = sizes
    x, y = RNG.normal(size=(32, n)), RNG.normal(size=(32, out))

    def step(how):
        rng = np.random.default_rng(0)
        params = [rng.normal(size=(n, hidden)) / n, np.zeros(hidden), rng.normal(size=(hidden, out)), np.zeros(out)]
        loss = network(np, None)
        return fg.training_step(lambda p, x, y: loss(*p, x, y), params, fg.optim.Adam(0.0), native=how)

    native, replay = step(True), step(False)
    work = f"native: training step {'-'.join(map(str, sizes))}"
    compare(benchmark, work, lambda: native(x, y), {"replay": lambda: replay(x, y)}, {"replay": 0.8}, rtol=1e-9)


@pytest.mark.parametrize("name", ["neuron, 2,000 steps", "Runge and Kutta, 2,000 steps"])
def test_beside_c_by_hand(benchmark, name, tmp_path):
    make, args, n, _ = WORK[name]
    source = Path(__file__).with_name("by_hand.c")
    compiler.run(compiler.command_line(compiler.find(), source, tmp_path / "by_hand.so"), 60)
    library, results = ctypes.CDLL(str(tmp_path / "by_hand.so")), np.zeros(1 + n)
    at = [ctypes.c_void_p(results.ctypes.data + 8 * k) for k in range(1 + n)]
    rates = np.array(args)
    if make is neuron:
        by_hand = lambda: library.neuron(*map(ctypes.c_double, args), *at)
    else:
        by_hand = lambda: library.populations(ctypes.c_void_p(rates.ctypes.data), *at[:2])
    native = contenders(make, args, n)[0]
    peers = {"C by hand": lambda: (by_hand(), results)[1]}
    compare(benchmark, f"native: {name}, beside C", lambda: np.array(native()), peers, {"C by hand": 1.2}, rtol=1e-6)


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
