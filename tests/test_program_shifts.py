"""``compile``: fused groups in which a step reads what the group makes some elements before or after its own place."""

import re

import numpy as np
import pytest
from _native import needs_compiler, own_directory  # noqa: F401
from _replay import check, eager_arrays, same_tree

import fastgrad as fg

RNG = np.random.default_rng(0)


def earlier(y, k, end=1.0):
    """Each element is the one k places before it."""
    return fg.concatenate([fg.full(k, end, dtype=y.dtype), y[:-k]])


def later(y, k, end=1.0):
    return fg.concatenate([y[k:], fg.full(k, end, dtype=y.dtype)])


def groups(program):
    """How many steps each fused group has."""
    return [int(n) for n in re.findall(r"fused (\d+):", str(program))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2047, 2048, 2049, 5000, 100_003])
@pytest.mark.parametrize("k", [1, 2, 1023, 1024, 1500])
@pytest.mark.parametrize("shift", [earlier, later])
def test_a_chain_of_shifts_is_one_group(shift, k, n, dtype):
    x = RNG.normal(size=n).astype(dtype)

    def f(x):
        y = x * 0.5 - x
        for _ in range(3):
            y = x * shift(y, k) + y
        return y

    program = check(f, x)
    if n >= 2048:
        assert len(groups(program)) == 1


@pytest.mark.parametrize("n", [2049, 6000])
def test_both_directions_are_two_groups(n):
    x = RNG.normal(size=n)
    up = lambda x: (y := x * 0.5 - x) * earlier(y, 1) + y
    down = lambda y: (z := y * 3.0 - y) * later(z, 2) + z
    assert len(groups(check(lambda x: down(up(x)), x))) == 2
    assert len(groups(check(lambda x: up(down(x)), x))) == 2
    assert len(groups(check(lambda x: (y := x * 0.5 - x) * earlier(y, 1) + later(y, 1), x))) >= 2


def test_the_derivative_runs_downwards():
    """Of a step of the method of Runge and Kutta: one group up, one group down."""
    x = RNG.random(10_000)

    def f(x):
        slope = lambda y: x * earlier(y, 1)
        y = x * 0.1
        for _ in range(3):
            y = y + 0.5 * slope(y + 0.1 * slope(y))
        return y[-1]

    gradient = fg.compile(fg.grad(f), native=False)
    np.testing.assert_array_equal(gradient(x), fg.grad(f)(x))
    assert len(groups(gradient.program(x))) <= 3
    fg.testing.check_grads(f, RNG.random(2100), modes=["rev"])


def test_what_takes_long_stays_apart_for_threads():
    """A group that is ordered runs on one thread, so that it has no functions."""
    x = RNG.normal(size=300_000)
    program = check(lambda x: (y := np.exp(x) * x) * earlier(y, 1) + y, x)
    assert len(groups(program)) == 2


def random_shifts(rng, n):
    """A function of two vectors made of products, sums, shifts, sums of elements and views, and its arguments."""
    plan = [
        (int(rng.integers(9)), int(rng.integers(100)), int(rng.integers(1, 3000))) for _ in range(rng.integers(3, 14))
    ]

    def f(x, y):
        values = [x, y, x * 0.5]
        for kind, which, k in plan:
            a, b = values[which % len(values)], values[-1]
            k = 1 + (k % 3 if which % 3 else k % (n - 1))
            values.append([
                lambda: a * b, lambda: a * 0.5 + b, lambda: a - b, lambda: earlier(b, k) * a, lambda: later(b, k) - a,
                lambda: earlier(a, k) + earlier(b, 1), lambda: np.tanh(b) + a,
                lambda: fg.pad(b[k:], (k, 0)) + a, lambda: b - np.mean(a) * a,
            ][kind]())  # fmt: skip
        return values[-1], values[-3], fg.sum(values[-2] * values[-1])

    return f, (rng.normal(size=n), rng.normal(size=n))


def test_a_value_within_its_padding_gives_its_memory_only_to_what_fits():
    """Where it dies in a step, another value takes its memory over, which may be longer for an array of this length."""
    n = 2040
    difference = lambda y: np.diff(y, append=0.0)

    def f(x, y):
        a = earlier(y, 1) + later(x, 1)
        b = difference(a) + x
        c = difference(b) + b * 0.5 + a
        d = c * 0.5 + a
        e = later(d, 1000) - c
        return fg.sum(fg.tanh(e) * e) + fg.sum(d * e)

    args = RNG.normal(size=(2, n))
    gradient = fg.grad(f, (0, 1))
    same_tree(fg.compile(gradient, native=False)(*args), gradient(*args))


@pytest.mark.parametrize("seed", range(40))
def test_random_shifts(seed):
    rng = np.random.default_rng(seed)
    f, args = random_shifts(rng, int(rng.choice([2048, 3000, 4096, 7001])))
    args = [x.astype(rng.choice([np.float32, np.float64])) for x in args]
    check(f, *args)
    gradient = lambda *args: fg.grad(lambda *args: sum(fg.sum(y * y) for y in f(*args)), (0, 1))(*args)
    same_tree(fg.compile(gradient, native=False)(*args), gradient(*args))
    mapped = fg.vmap(lambda *args: f(*args)[0])
    batch = [np.stack([x, x * 2]) for x in args]
    same_tree(
        fg.compile(mapped, native=False)(*batch), np.stack([eager_arrays(f, *[x[i] for x in batch])[0] for i in (0, 1)])
    )


@needs_compiler
def test_native_programs_leave_such_a_group_as_it_is():
    x = RNG.normal(size=5000)
    f = lambda x: (y := x * 0.5 - x) * earlier(y, 1) + y
    np.testing.assert_array_equal(fg.compile(f, native=True)(x), eager_arrays(f, x))
