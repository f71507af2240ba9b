"""Traces are abstract: they hold no elements, no value decides what is in them, nothing is drawn, and no loop runs."""

import subprocess
import sys

import numpy as np
import pytest
from _oracles import ADDRESS_SANITIZER

import fastgrad as fg
from fastgrad import _core

# ---- memory ---------------------------------------------------------------------------------------------------------
N = 50_000  # elements: an array takes 400 kB


def steps(y, n=30):
    for _ in range(n):
        y = y + 0.1 * (np.roll(y, 1) + np.roll(y, -1) - 2 * y)
    return np.sum(y * y)


class Held:
    """The most bytes that the core held at any call of `look`."""

    def __init__(self):
        self.start = _core.live()["bytes"]
        self.most = 0

    def look(self):
        self.most = max(self.most, _core.live()["bytes"] - self.start)


def looked(f, held):
    """f, with a call of ``held.look`` at the end."""

    def g(*args):
        result = f(*args)
        held.look()
        return result

    return g


def body(c, x):
    return steps(c + x, 3), None


def called(step, times):
    for _ in range(times):
        step()


X = np.linspace(0.0, 1.0, N)
TRACED = {
    "compile": lambda f: fg.compile(f)(X),
    "gradient": lambda f: fg.compile(fg.grad(f))(X),
    "value and gradient": lambda f: fg.compile(fg.value_and_grad(f))(X),
    "hvp": lambda f: fg.compile(lambda x, v: fg.jvp(fg.grad(f), (x,), (v,)))(X, X),
    "jvp": lambda f: fg.compile(lambda x: fg.jvp(f, (x,), (x,)))(X),
    "linearize": lambda f: fg.compile(lambda x: fg.linearize(f, x)[0])(X),
    "checkpoint": lambda f: fg.compile(fg.grad(fg.checkpoint(f)))(X),
    "vmap": lambda f: fg.vmap(f)(np.stack([X, X])),
    "vmap of a gradient": lambda f: fg.vmap(fg.grad(f))(np.stack([X, X])),
    "gradient of vmap": lambda f: fg.grad(lambda x: fg.sum(fg.vmap(f)(x)))(np.stack([X, X])),
    "compiled vmap": lambda f: fg.compile(fg.vmap(fg.grad(f)))(np.stack([X, X])),
    "cond": lambda f: fg.compile(lambda x: fg.cond(x[0] < 1, f, lambda x: x[0], x))(X),
    "scan": lambda f: fg.compile(lambda x: fg.scan(lambda c, _: (c + f(x), None), 0.0, length=2)[0])(X),
    "gradient of a scan": lambda f: fg.compile(
        fg.grad(lambda x: fg.scan(lambda c, _: (c + 0 * f(c), f(c)), x, length=2)[1].sum())
    )(X),
    "while": lambda f: fg.compile(lambda x: fg.while_loop(lambda c: c < 1, lambda c: c + 1 + 0 * f(x), 0.0))(X),
    "fori within cond": lambda f: fg.compile(
        lambda x: fg.cond(x[0] < 1, lambda x: fg.fori_loop(0, 2, lambda i, c: c + f(x), 0.0), lambda x: x[0], x)
    )(X),
    "training step": lambda f: called(fg.training_step(lambda p: f(p), X.copy(), "sgd"), 3),
    "training step on a scan": lambda f: called(
        fg.training_step(lambda p: fg.scan(lambda c, _: (c + 0 * f(c), f(c)), p, length=2)[1].sum(), X.copy(), "sgd"), 3
    ),
    "descend": lambda f: fg.descend(lambda p: f(p), X.copy(), optimizer="sgd", epochs=3),
    "minimize": lambda f: fg.minimize(f, X, method="L-BFGS-B", options={"maxiter": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.filterwarnings("ignore:compile. the function changes")
def test_a_trace_holds_no_intermediates(name):
    held = Held()
    TRACED[name](looked(steps, held))
    assert 0 < held.most < 5 * 8 * N, held.most  # a few arrays, of the intermediates of 30 steps


PEAK = """
import numpy as np, sys
import fastgrad as fg
from fastgrad import _core

def peak():
    with open("/proc/self/status") as f:
        return int(next(line for line in f if line.startswith("VmHWM")).split()[1]) * 1024

def steps(y):
    for _ in range(100):
        y = y + 0.1 * (np.roll(y, 1) + np.roll(y, -1) - 2 * y)
    return np.sum(y * y)

def rosenbrock(x):
    s = 0.0
    for i in range(x.size - 1):
        s = s + 100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return s

def warmed(f, x, compile):
    f = fg.compile(f) if compile else f
    f(x[:3])
    start = peak()
    f(x)
    return start, f.program(x).facts["traced"] if compile else 0

x = np.linspace(0.0, 1.0, 100_000)
name, compile = sys.argv[1], sys.argv[2] == "compiled"
if name == "gradient":
    start, n = warmed(fg.grad(steps), x, compile)
elif name == "hvp":
    start, n = warmed(lambda x: fg.jvp(fg.grad(steps), (x,), (x,))[1], x, compile)
elif name == "hessian":
    start, n = warmed(fg.hessian(rosenbrock), x[:600], compile)
elif name == "minimize":
    minimize = lambda x: fg.minimize(steps, x, method="L-BFGS-B", options={"maxiter": 2}, compile=compile)
    minimize(x[:3])
    start, n = peak(), 4500
    minimize(x)
else:
    fg.descend(steps, x[:3].copy(), optimizer="sgd", epochs=2, compile=compile)
    start, n = peak(), 4500
    if name == "descend" and compile:
        fg.descend(steps, x.copy(), optimizer="sgd", epochs=3)
    else:
        step = fg.training_step(steps, x.copy(), "sgd", compile=compile)
        step(), step(), step()
print(peak() - start, n)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(ADDRESS_SANITIZER, reason="the address sanitizer keeps freed memory")
@pytest.mark.parametrize("name", ["gradient", "hvp", "hessian", "minimize", "training step", "descend"])
def test_the_peak_of_a_trace_is_that_of_an_eager_run(name):
    """At most 1.3 times that, and 1 kB an instruction."""
    found = {}
    for how in ("eager", "compiled"):
        if (name, how) == ("hvp", "eager"):  # takes 1.8 GB
            found[how] = [5_000_000, 0]
            continue
        run = subprocess.run([sys.executable, "-c", PEAK, name, how], capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        found[how] = [int(word) for word in run.stdout.split()]
    (eager, _), (compiled, n) = found["eager"], found["compiled"]
    assert compiled <= 1.3 * eager + 1024 * n, found


# ---- no value decides anything, nothing is drawn, no loop runs -------------------------------------------------------
def draws():
    rng = fg.random.default_rng(0)
    return lambda u: rng.random()


LOOP = {
    "compile": lambda loop: fg.compile(loop)(1.0),
    "jvp": lambda loop: fg.compile(lambda x: fg.jvp(lambda y: x * y, (x,), (x,))[0] * loop(x))(1.0),
    "vmap": lambda loop: fg.vmap(loop)(np.ones(3))[0],
    "compiled vmap": lambda loop: fg.compile(fg.vmap(loop))(np.ones(3))[0],
    "scan": lambda loop: fg.compile(lambda x: fg.scan(lambda c, _: (loop(c), None), x, length=2)[0])(1.0),
    "cond": lambda loop: fg.compile(lambda x: fg.cond(x > 0, loop, lambda x: x, x))(1.0),
    "training step": lambda loop: fg.training_step(lambda p: p + 0 * fg.stop_gradient(loop(1.0 * p.detach())),
                                                   np.array(0.1), "sgd")(),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOP)
def test_a_loop_that_ends_by_a_draw(name):
    f = draws()
    found = LOOP[name](lambda x: fg.while_loop(lambda u: u > 0.2, f, x))
    assert 0 <= found <= 0.2


def test_a_loop_that_ends_by_a_draw_draws_what_an_eager_one_does():
    def loop(f):
        return lambda x: fg.while_loop(lambda u: u > 0.05, f, x)

    eager, compiled = loop(draws()), fg.compile(loop(draws()))
    for _ in range(5):
        assert float(eager(1.0)) == compiled(1.0)


def root(x):
    return fg.while_loop(lambda y: abs(y * y - x) > 1e-9, lambda y: (y + x / y) / 2, 1.0)


def _endless(x):
    return x + fg.while_loop(lambda y: y > 0, lambda y: y, 1.0)


ENDLESS = {
    "on the argument": root,
    "on a constant": _endless,
    "on a constant, mapped": lambda x: x + fg.sum(fg.vmap(_endless)(np.ones(2))),
    "within a scan": lambda x: fg.scan(lambda c, _: (c + root(x), None), 0.0, length=2)[0],
    "within a while": lambda x: fg.while_loop(lambda y: y < 1, lambda y: y + root(x), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDLESS)
def test_a_loop_in_a_branch_that_is_not_taken_need_not_end(name):
    f = fg.compile(lambda x: fg.cond(x > 0, ENDLESS[name], lambda x: x * 2, x))
    assert f(-2.0) == -4.0


def test_a_branch_with_a_loop_is_right_when_it_is_taken():
    f = fg.compile(lambda x: fg.cond(x > 0, root, lambda x: x * 2, x))
    assert f(-2.0) == -4.0
    np.testing.assert_allclose(f(2.0), np.sqrt(2), rtol=1e-8)
    g = fg.compile(lambda x: fg.jvp(lambda x: fg.cond(x > 0, root, lambda x: x * 2, x), (x,), (1.0,))[1])
    assert g(-2.0) == 2.0
    np.testing.assert_allclose(g(2.0), 0.5 / np.sqrt(2), rtol=1e-6)
    h = fg.compile(fg.vmap(lambda x: fg.cond(x[0] > 0, lambda x: x[1] * x[0], lambda x: x[2], x)))
    np.testing.assert_array_equal(h(np.array([[1.0, 2.0, 3.0], [-1.0, 2.0, 3.0]])), [2.0, 3.0])


def test_an_index_is_checked_where_it_is_used():
    x = np.arange(3.0) + 1

    def chosen(x, i):
        return fg.cond(i < 3, lambda x, i: x[i], lambda x, i: x[0] * 0, x, i)

    f = fg.compile(chosen)
    assert [f(x, i) for i in (7, 2, 7, 0)] == [0, 3, 0, 1]
    np.testing.assert_array_equal(fg.compile(fg.grad(chosen))(x, 7), np.zeros(3))
    at = fg.compile(lambda x, i: x[i])
    for _ in range(2):  # at a first call as at any other
        with pytest.raises(IndexError, match="index 7 .*is outside"):
            at(x, 7)
    assert at(x, 1) == 2
    with pytest.raises(IndexError, match="index 7 .*is outside"):
        fg.vmap(lambda i: fg.take(x, i))(np.array([0, 7]))


def test_the_first_call_is_a_replay():
    f = fg.compile(lambda x: fg.sum(fg.exp(x) * x))
    x = np.random.default_rng(0).normal(size=1001)
    assert f(x) == f(x)


def test_the_values_of_the_first_arguments_decide_nothing():
    def f(x, i):
        y = fg.where(x > 0, fg.log(x), x)
        return fg.sum(y * (x // 2)) + fg.sum(fg.take(x, i % 3)) + fg.argmax(x) + fg.sum(np.int64(7) // i)

    bad, good = np.array([-1.0, 0.0, np.nan]), np.array([1.0, 2.0, 4.0])
    compiled = fg.compile(f)
    with np.errstate(all="ignore"):
        compiled(bad, np.array([0, 1]))
        expected = f(fg.asarray(good), np.array([2, 5]))
    assert compiled(good, np.array([2, 5])) == expected.item()


def test_a_loop_without_steps_calls_and_draws_nothing():
    rng, called = fg.random.default_rng(3), []
    start = np.ones(2)
    found = fg.fori_loop(0, 0, lambda i, x: (called.append(i), x + rng.random())[1], start)
    assert not called
    np.testing.assert_array_equal(found.numpy(), start)
    carry, ys = fg.scan(lambda c, x: (c + rng.random(), c * x), np.ones(2), np.ones((0, 2), np.float32))
    assert ys.shape == (0, 2) and ys.dtype == np.float64
    np.testing.assert_array_equal(carry.numpy(), start)
    assert rng.random() == fg.random.default_rng(3).random()
    with pytest.raises(fg.TraceError, match="scan: there are no steps"):
        fg.scan(lambda c, x: (c if c > 0 else -c, None), 1.0, np.ones(0))


def test_operations_on_integers_are_traced_without_values():
    def f(i, j):
        return (
            i // j, i % j, i @ j, fg.argmax(i, axis=1), fg.cumsum(i, axis=0), fg.prod(i, axis=0), fg.where(i > 1, i, j),
            i.astype(np.int16), fg.take(j, i), i**2, ~i, fg.any(i > 2, axis=1, keepdims=True), fg.ldexp(1.5, i),
        )  # fmt: skip

    i, j = np.array([[0, 2], [1, 0]]), np.array([[3, 1], [1, 4]])
    zeros = np.zeros_like(i)
    compiled = fg.compile(f)
    with np.errstate(all="ignore"):
        compiled(zeros, zeros)
    for a, b in zip(compiled(i, j), f(fg.asarray(i), fg.asarray(j))):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b.numpy())
    with pytest.raises(ValueError, match="do not align"):
        fg.compile(lambda i, j: i @ j)(np.ones((2, 3), int), np.ones((2, 3), int))


# ---- functions of ndarrays, which need values -----------------------------------------------------------------------
def test_a_primitive_gets_the_values_of_the_first_element():
    seen = []

    def inverse(a):
        seen.append(a.copy())
        return np.linalg.inv(a)  # raises for a singular matrix

    inv = fg.primitive(inverse)
    inv.defvjp(lambda g, y, a: -(y.T @ g @ y.T))
    a = np.random.default_rng(0).normal(size=(3, 2, 2)) + 3 * np.eye(2)
    b = np.array([1.0, 2.0, 3.0])
    f = lambda a, b: fg.sum(inv(inv(2 * a) + b * np.eye(2)) * a)
    found = fg.vmap(fg.grad(f))(a, b)
    expected = np.stack([fg.grad(f)(a[k], b[k]) for k in range(3)])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(seen[0], 2 * a[0])
    nested = fg.vmap(lambda x: fg.vmap(lambda y: inv(x * a[0] + y * np.eye(2)))(b))(b)
    direct = np.linalg.inv(b[:, None, None, None] * a[0] + b[None, :, None, None] * np.eye(2))
    np.testing.assert_allclose(nested, direct, rtol=1e-12)
    chosen = fg.vmap(lambda a, c: fg.cond(c > 1.5, lambda a: inv(a), lambda a: a * 0, a))(a, b)
    np.testing.assert_allclose(chosen, np.linalg.inv(a) * (b > 1.5)[:, None, None], rtol=1e-12)
    np.testing.assert_allclose(fg.compile(fg.vmap(inv))(a), np.linalg.inv(a), rtol=1e-12)


# ---- batches some of whose results are constant ---------------------------------------------------------------------
def test_second_derivatives_that_are_constant():
    def f(x, w):
        return x[0] ** 2 + w[0] * x[1] ** 3 + (1 - x[2]) ** 2

    x, w = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([2.0])
    expected = np.stack([fg.hessian(f)(row, w) for row in x])
    np.testing.assert_array_equal(expected[1], np.diag([2.0, 60.0, 2.0]))
    for g in (fg.vmap(fg.hessian(f), in_axes=(0, None)), fg.compile(fg.vmap(fg.hessian(f), in_axes=(0, None)))):
        np.testing.assert_array_equal(g(x, w), expected)
    constant = fg.vmap(fg.vmap(fg.hessian(lambda x: x[0] ** 2 + 3 * x[2] * x[1])))(np.stack([x, x, x]))
    np.testing.assert_array_equal(constant, np.broadcast_to([[2, 0, 0], [0, 0, 3], [0, 3, 0]], (3, 2, 3, 3)))
    g = fg.compile(lambda w: fg.sum(fg.hessian(lambda x: f(x, w))(x[0]) ** 2))
    np.testing.assert_array_equal(g(w), fg.sum(fg.hessian(f)(x[0], w) ** 2).item())


# ---- arrays from outside --------------------------------------------------------------------------------------------
def test_a_read_only_array_from_outside_is_shared():
    def facts(data):
        f = fg.compile(lambda x: (x * data + data) * data)
        np.testing.assert_array_equal(f(np.ones(N)), (data + data) * data)
        return f, f.program(np.ones(N)).facts["constant_bytes"]

    data = np.linspace(1.0, 2.0, N)
    before = _core.live()["bytes"]
    frozen = data.copy()
    frozen.flags.writeable = False
    f, size = facts(frozen)
    assert size < 100
    assert _core.live()["bytes"] - before < 4 * data.nbytes  # results and the memory of a replay
    view = data.view()
    view.flags.writeable = False  # the view is read-only, but not the memory that it shows
    for x in (data, view):
        f, size = facts(x)
        assert size < 100  # each replay reads what is there
        data += 1
        np.testing.assert_array_equal(f(np.ones(N)), (data + data) * data)
    _, size = facts(np.frombuffer(data.tobytes()))
    assert size < 100


def test_a_shared_array_lives_as_long_as_the_program():
    data = np.arange(float(N))
    data.flags.writeable = False
    f = fg.compile(lambda x: fg.sum(x * data))
    f(1.0)
    count = sys.getrefcount(data)
    f.cache_clear()
    assert sys.getrefcount(data) < count
