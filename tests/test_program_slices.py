"""Programs of slices and their gradients: where values are in memory, and that results have the bits of eager runs."""

import re

import numpy as np
import pytest
from _replay import check, eagerly, same

import fastgrad as fg


def rosenbrock(x):
    return fg.sum(100 * fg.square(x[1:] - fg.square(x[:-1])) + fg.square(1 - x[:-1]))


def unslices(program):
    """Of each unslice: was its operand computed in its place? Then the zeros around it were written before."""
    found = []
    lines = str(program).splitlines()
    for i, line in enumerate(lines):
        if match := re.search(r"%\d+ = unslice (%\d+)", line):
            found.append(not any(f"{match[1]} = " in before for before in lines[:i]))
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 3, 16, 17, 33, 1000, 2048, 2049, 5000, 70_001])
def test_the_gradient_of_slices_is_not_copied_to_its_place(n, dtype):
    x, v = np.random.default_rng(0).normal(size=(2, n)).astype(dtype)
    program = check(lambda x: (rosenbrock(x), fg.grad(rosenbrock)(x)), x)
    assert unslices(program) == [True, True]  # x[:-1] is used twice: the two are added before
    if n >= 2049:
        assert program.facts["peak_bytes"] < 2 * x.nbytes + 9 * 1024 * x.itemsize
    assert unslices(check(lambda x, v: fg.hvp(rosenbrock, (x,), (v,)), x, v)) == [True, True]


def test_whole_rows_are_in_place_but_not_a_few_of_many():
    """The parts of a vector of parameters must not have each the memory of the whole."""

    def f(x):
        middle, row, cell = fg.tanh(x[2:-2]), fg.exp(x[4]), x[1, 2]
        return fg.sum(fg.sum(middle) * fg.sum(row * row) + cell * cell)

    for shape in ((9, 5), (300, 40), (9, 5, 7)):
        x = np.random.default_rng(3).normal(size=shape)
        program = check(fg.grad(f), x)
        assert unslices(program) == [False]  # of three operands
        program = check(fg.grad(lambda x: fg.sum(fg.tanh(x[2:-2])) + fg.sum(fg.exp(x[4]))), x)
        assert sorted(unslices(program)) == ([False] if x.size >= 2048 else [False, True])
        assert unslices(check(fg.grad(lambda x: fg.sum(fg.tanh(x[2:-2])) * 2), x)) == [True]

    x = np.random.default_rng(3).normal(size=50_000)
    program = check(fg.grad(lambda x: sum(fg.sum(fg.tanh(x[k : k + 1000])) * k for k in range(0, 50_000, 1000))), x)
    assert not any(unslices(program))
    assert program.facts["peak_bytes"] < 4 * x.nbytes


def test_beside_rows_that_are_repeated():
    """A bias, for whose repetition a program has instructions of its own, in front of the others."""

    def f(x, row):
        y = fg.tanh(x + row)
        return fg.sum(fg.square(y[1:] - y[:-1]) * row)

    for shape in ((9, 5), (300, 40)):
        x, row = np.random.default_rng(6).normal(size=shape), np.random.default_rng(7).normal(size=shape[1])
        program = check(lambda x, row: (f(x, row), *fg.grad(f, argnums=(0, 1))(x, row)), x, row)
        assert unslices(program) == [True, True]


def test_sums_of_paddings_with_other_numbers_of_axes():
    """Only equal paddings are added before: here the sum broadcasts one to the other."""
    g = fg.grad(lambda x: fg.sum(fg.square(x[1:])))
    for shapes in (((4,), (4, 4)), ((4, 4), (4,)), ((4, 4), (1, 4, 4))):
        check(lambda x, y: g(x) + g(y), *(np.random.default_rng(8).normal(size=shape) for shape in shapes))


def test_elements_apart_are_copied_as_before():
    f = lambda x: fg.sum(fg.exp(x[::2])) + fg.sum(fg.tanh(x[::-1])) + fg.sum(fg.square(x[1:-1]))
    assert unslices(check(fg.grad(f), np.arange(20.0) / 7)) == [False]  # of three operands
    f = lambda x: fg.sum(fg.exp(x[::2])) + fg.sum(fg.square(x[1:-1]))
    assert sorted(unslices(check(fg.grad(f), np.arange(20.0) / 7))) == [False, True]


def test_values_that_are_results_too():
    """What the caller gets must not have zeros around it, nor be a part of other results."""

    def f(x):
        gradient = fg.grad(rosenbrock)(x)
        inner = gradient[1:-1] * 2
        outer = fg.vjp(lambda x: x[1:-1], x)[1](inner)[0]
        return inner, outer, gradient, outer[2:], inner.reshape(-1, 1), outer + 1

    for n in (7, 3000):
        check(f, np.random.default_rng(1).normal(size=n))


def test_what_is_in_place_is_read_at_every_offset():
    """Shifted reads of a value, of the zeros around it too, by steps that must not join the loop that computes it."""

    def f(x):
        y = fg.tanh(x)
        wide = fg.vjp(lambda x: x[3:-2], fg.concatenate([x, x[:5]]))[1](y)[0]
        n = x.shape[0]
        shifted = [wide[k : k + n] for k in range(6)]
        return [s * y for s in shifted], [fg.sum(s * 1.5) for s in shifted], [fg.sum(s) for s in shifted]

    for n in (8, 2048, 5000, 5001):
        check(f, np.random.default_rng(2).normal(size=n))


def test_sums_of_what_is_read_elsewhere_too():
    place = lambda x, y: fg.vjp(lambda x: x[1:], x)[1](y)[0]
    for n in (5, 6, 3000):
        x = np.random.default_rng(4).normal(size=n)
        for again in range(3):

            def f(x):
                a, b = place(x, fg.exp(x[1:])), place(x, fg.tanh(x[1:]))
                return a + b if n == 5 else b + a, (a, b, a + a)[again] * 2

            check(f, x)


def test_a_value_that_is_put_in_two_places():
    def f(x):
        y, z = fg.exp(x[1:]), fg.tanh(x[1:])
        wide = fg.concatenate([x, x[:4]])
        twice = lambda y, k: fg.vjp(lambda x: (x[1:], x[:-1]), x)[1]((y, y * k))[0]
        once = lambda y: fg.vjp(lambda x: x[2:-3], wide)[1](y)[0]
        return twice(y, 1), once(y), once(z), twice(z, 1), twice(z, 2)

    for n in (5, 6, 3000):
        check(f, np.random.default_rng(5).normal(size=n))


def test_zeros_have_their_sign():
    """The sum of 0 and -0 is 0: what lies between zeros is still added to zeros."""
    f = lambda x, g: fg.vjp(lambda x: (x[1:], x[:-1]), x)[1]((g, g * 2))[0]
    same(fg.compile(f)(np.ones(4), np.array([-0.0, 1.0, -0.0])), eagerly(f, np.ones(4), np.array([-0.0, 1.0, -0.0])))


PARTS = (
    slice(1, None),
    slice(None, -1),
    slice(2, -2),
    slice(None, None, 2),
    slice(None, None, -1),
    slice(3, 4),
    slice(None),
)


def drawn(seed, ndim):
    """A random function of an array, that reads slices of slices, of results and of single elements."""
    rng = np.random.default_rng(seed)
    unary = (fg.tanh, fg.exp, fg.square, fg.negative, lambda x: x * 0.5, lambda x: x.reshape(-1).reshape(x.shape))
    plan = [
        (rng.integers(len(PARTS), size=ndim), rng.integers(len(unary)), rng.integers(8), rng.integers(5))
        for _ in range(6)
    ]

    def f(x):
        values, total = [x], 0.0
        for parts, how, which, also in plan:
            y = values[which % len(values)]
            y = y[tuple(PARTS[k] for k in parts)] if min(y.shape) > 5 else y
            values.append(unary[how](y))
            other = values[also % len(values)]
            if other.shape == values[-1].shape:
                values.append(values[-1] * other + values[-1])
            total = total + fg.sum(values[-1] * 0.125)
        return total

    return f


@pytest.mark.parametrize("seed", range(40))
def test_random_functions_of_slices(seed):
    rng = np.random.default_rng(seed)
    for shape in ((int(rng.integers(20, 60)),), (int(rng.integers(2048, 6000)),), (25, 31), (60, 70)):
        f = drawn(seed, len(shape))
        x = rng.normal(size=shape) * 0.25
        check(lambda x: (f(x), fg.grad(f)(x)), x)
        check(fg.grad(lambda x: fg.sum(fg.square(fg.grad(f)(x)))), x)


@pytest.mark.parametrize("n", [6, 3000])
@pytest.mark.parametrize(
    "loss", [rosenbrock, lambda p: fg.sum(fg.tanh(p[2:]) * 3), lambda p: fg.sum(fg.exp(p[1:-1]) * p[1:-1])]
)
def test_training_steps_whose_gradients_lie_between_zeros(loss, n):
    p = np.random.default_rng(8).normal(size=n)
    q = p.copy()
    step = fg.training_step(loss, p, fg.optim.SGD(1e-3, momentum=0.5))
    twin = fg.training_step(loss, q, fg.optim.SGD(1e-3, momentum=0.5), compile=False)
    for _ in range(4):
        assert step() == twin()
        same(p, q)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [5, 17, 70])
def test_a_slice_of_padded_values_is_not_overwritten_while_it_is_read(n, dtype):
    """It has as many elements as the values, but begins before them, in the zeros: a step that reads it may not write
    its result in their memory."""
    weights, x = np.random.default_rng(n).standard_normal((2, n)).astype(dtype)

    def f(x):
        return np.sum(np.sin(np.pad(x * x, (1, 0))[:n] * x + x))

    def product(x):
        return fg.vjp(fg.grad(f), x)[1](weights)[0]

    compiled = fg.compile(product)
    compiled(x)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(compiled(x), product(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n", [3, 40, 700])
def test_a_carried_value_with_zeros_around_it_has_room_for_them(n):
    """Its result cannot be written to the memory of the value that it replaces."""

    def padded(x):
        return fg.vjp(lambda z: z[3 : n + 3], np.zeros(n + 5))[1](x)[0]

    def body(carry, z):
        new = np.cos(np.sin(carry) * 2 + z)
        return new, padded(new)

    def f(x):
        return fg.scan(body, x, np.linspace(0, 1, 5))

    x = np.random.default_rng(n).standard_normal(n)
    compiled = fg.compile(f)
    compiled(x)
    for found, expected in zip(compiled(x), f(x)):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
