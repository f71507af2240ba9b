"""Rematerialization of cheap values in later groups of a program: of which, what it saves, and that no bit changes."""

import re

import numpy as np
import pytest
from _replay import check

import fastgrad as fg

N = 100_000  # elements: long enough that not to store them is worth a step
RNG = np.random.default_rng(0)


def times(name, program):
    return len(re.findall(rf"= {name} ", str(program)))


def centred(x):
    d = x - x.mean()
    z = d / fg.sqrt((d * d).mean() + 1e-5)
    return fg.mean(fg.tanh(z))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_deviations_from_a_mean_are_computed_again_in_each_of_three_groups(dtype):
    x = RNG.normal(size=N).astype(dtype)
    program = check(fg.value_and_grad(centred), x)
    assert times("subtract", program) == 3
    assert all(line.endswith("block") for line in str(program).splitlines() if "= subtract" in line)
    assert x.nbytes <= program.facts["peak_bytes"] < 1.1 * x.nbytes  # else twice that


def test_short_values_are_stored():
    program = check(fg.value_and_grad(centred), RNG.normal(size=10_000))
    assert times("subtract", program) == 1


def test_one_may_be_computed_from_another_and_only_where_it_is_read():
    def f(x):
        h = fg.maximum(x * 2, 0)  # the derivative reads both
        return fg.sum(h * h) / (fg.sum(h) + 1)

    x = RNG.normal(size=N)
    program = check(fg.value_and_grad(f), x)
    assert times("multiply", program) == times("maximum", program) == 2
    assert program.facts["peak_bytes"] < 0.5 * x.nbytes

    def g(x):
        late = x * 3  # could be computed with exp(x), but is read when the sum is known
        return late + fg.sum(fg.exp(x))

    program = check(g, x)
    assert times("multiply", program) == 1
    assert program.facts["peak_bytes"] < 0.5 * x.nbytes


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: fg.tanh(x),
        lambda x, y: x / 3,
        lambda x, y: fg.sqrt(x * x),
        lambda x, y: x * 2 + y * 3,  # too much to read and to do
        lambda x, y: fg.tanh(x) * 2,  # its operand would have to be stored instead
        lambda x, y: (x * 2)[::2],
    ],
)
def test_what_is_stored(make):
    def f(x, y):
        a = make(x, y)
        return fg.exp(a * fg.sum(a))[::3]

    x, y = RNG.normal(size=(2, N)) / 1000
    program = check(f, x, y)
    count = len(re.findall(" = ", str(program)))
    assert count == len(
        re.findall(" = ", str(fg.compile(f).program(x[:10_000], y[:10_000])))
    )  # where nothing is computed again
    assert program.facts["peak_bytes"] > 0.4 * x.nbytes


def test_outputs_products_and_what_they_read_are_stored():
    def f(x, w):
        a, b = x * 2, x + 1
        s = fg.sum(a * b)
        return a, fg.exp(a * s), fg.sin(b + s), b @ w

    x, w = RNG.normal(size=(400, 250)) / 1000, RNG.normal(size=(250, 3))
    program = check(f, x, w)
    assert times("add", program) == 2
    assert times("multiply", program) == 3


def test_draws_are_not_repeated():
    rng, twin = fg.random.default_rng(0), fg.random.default_rng(0)

    def f(x, rng):
        noise = rng.random(N) * 2
        return fg.exp(noise * fg.sum(x + noise))[::3]

    x = RNG.normal(size=N) / 1000
    compiled = fg.compile(lambda x: f(x, rng))
    program = compiled.program(x)
    assert (times("random", program), times("multiply", program)) == (1, 2)
    assert program.facts["peak_bytes"] > 0.9 * x.nbytes
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x), f(fg.tensor(x), twin).numpy())


def drawn(seed):
    """A random function of two arrays and a row, of cheap and dear steps in groups that wait for each other's sums."""
    rng = np.random.default_rng(seed)
    unary = (fg.negative, fg.relu, fg.square, lambda x: x * 0.5, lambda x: 1 - x, fg.tanh, lambda x: 1 / (2 + x * x))
    binary = (fg.add, fg.subtract, fg.multiply, fg.maximum, lambda x, y: fg.where(x > y, x, y * 0.25))
    plan = [(rng.integers(2), rng.integers(99), rng.integers(99), rng.integers(99), rng.integers(4)) for _ in range(10)]

    def f(x, y, row):
        values, total = [x, y, x - row], 0.0
        for kind, which, i, j, wait in plan:
            a, b = values[i % len(values)], values[j % len(values)]
            made = binary[which % len(binary)](a, b) if kind else unary[which % len(unary)](a)
            if not wait:
                total = total + fg.mean(made)
                made = made * fg.tanh(total)
            values.append(made)
        return total + fg.mean(values[-1] * values[-2])

    return f


@pytest.mark.parametrize("seed", range(40))
def test_random_functions(seed):
    x, y = RNG.normal(size=(2, 320, 210 + seed)).astype(np.float64 if seed % 2 else np.float32)
    f, row = drawn(seed), x[0] * 0.5
    check(lambda *args: (f(*args), fg.grad(f, (0, 1, 2))(*args)), x, y, row)
