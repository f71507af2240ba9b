"""Recurrences: compiled scan beside jax.lax.scan, value and gradient, small and larger states, mapped, Hessian. Eager
loops beside Python's own, and loops that carry integers beside loops that carry floats."""

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


@pytest.mark.parametrize("loop", ["fori_loop", "scan", "while_loop"])
def test_eager_loops(benchmark, loop):
    """The same small body in a loop of Python, which hands on tensors, too."""
    steps = 1000
    x, xs, zero = fg.asarray(np.ones(3)), fg.asarray(np.ones((steps, 3))), fg.asarray(0.0)
    halved, step = lambda i, c: c * 0.5, lambda c, row: (c * 0.5 + row, c)
    test, more = lambda c: c[0] < steps, lambda c: (c[0] + 1, c[1] * 0.5)

    def python():
        c = (zero, x) if loop == "while_loop" else x
        if loop == "while_loop":
            while test(c):
                c = more(c)
            return c[1].numpy()
        if loop == "fori_loop":
            for i in range(steps):
                c = halved(i, c)
            return c.numpy()
        ys = []
        for row in xs:
            c, y = step(c, row)
            ys.append(y)
        return fg.stack(ys).numpy()

    ours = {
        "fori_loop": lambda: fg.fori_loop(0, steps, halved, x).numpy(),
        "scan": lambda: fg.scan(step, x, xs)[1].numpy(),
        "while_loop": lambda: fg.while_loop(test, more, (zero, x))[1].numpy(),
    }[loop]
    compare(benchmark, f"eager {loop}, a step", ours, {"Python": python}, {"Python": 1.3}, operations=steps)


@pytest.mark.parametrize("loop", ["scan", "while_loop"])
def test_carried_integers(benchmark, loop):
    def compiled(one):
        step = lambda c: (c[0] * 0.5, c[1] + one)
        if loop == "scan":
            f = fg.compile(lambda x: fg.scan(lambda c, _: (step(c), None), (x, one), length=STEPS)[0][1])
        else:
            f = fg.compile(lambda x: fg.while_loop(lambda c: c[1] < STEPS, step, (x, one))[1])
        return lambda: np.asarray(f(1.0))

    what = f"{loop} that carries an integer beside a float, a step"
    compare(benchmark, what, compiled(1), {"floats only": compiled(1.0)}, {"floats only": 1.2}, operations=STEPS)


def test_integer_counter(benchmark):
    def compiled(zero, one):
        f = fg.compile(lambda last: fg.while_loop(lambda c: c < last, lambda c: c + one, zero))
        return lambda: np.asarray(f(type(one)(STEPS)))

    what = "while_loop of an integer counter, a step"
    compare(benchmark, what, compiled(0, 1), {"a float": compiled(0.0, 1.0)}, {"a float": 1.2}, operations=STEPS)


VECTOR = np.array([3, 1, 4, 1, 5])
STEPS_OF_INTEGERS = {  # a step, by which the same is computed of integers and of floats, and what it starts from
    "counter": (lambda c, one: c + one, 0),
    "product": (lambda c, one: c * c, 1),
    "limit": (lambda c, one: fg.minimum(c + one, one * 7), 0),
    "quotient": (lambda c, one: (c + 9 * one) // (one + one), 5),
    "choice": (lambda c, one: fg.where(c > one, c - one, c + one), 5),
    "sum of 5": (lambda c, one: fg.minimum(c + c.sum() * one, one * 9), VECTOR),
    "maximum of 5": (lambda c, one: c - c.max() * one, VECTOR),
    "vector of 5": (lambda c, one: c + one, VECTOR),
}


@pytest.mark.parametrize("name", STEPS_OF_INTEGERS)
def test_steps_of_integers(benchmark, name):
    step, start = STEPS_OF_INTEGERS[name]

    def compiled(dtype):
        f = fg.compile(lambda c: fg.scan(lambda c, _: (step(c, dtype(1)), None), c, length=STEPS)[0])
        c = np.asarray(start, dtype)
        return lambda: np.asarray(f(c))

    what = f"scan, a step of integers: {name}"
    compare(benchmark, what, compiled(np.int64), {"floats": compiled(np.float64)}, {"floats": 1.2}, operations=STEPS)
