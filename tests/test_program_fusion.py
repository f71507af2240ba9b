"""Programs: which instructions are computed together in blocks, and which products are accumulated in place."""

import re

import numpy as np
import pytest
from _replay import eager_arrays, instructions

import fastgrad as fg

RNG = np.random.default_rng(0)


def blocks(program):
    """For each fused group the text of its lines."""
    return re.findall(r"  fused \d+:\n((?:    .*\n?)+)", str(program))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2047, 2048, 2049, 4096, 5000, 100_001])
def test_a_sum_ends_a_group_without_its_operand_in_memory(n, dtype):
    def f(x, y):
        a = fg.tanh(x) * y
        return fg.sum(a * a), fg.mean(fg.exp(y) - x), fg.sum(x * y).reshape(1, 1) * 2

    x, y = RNG.standard_normal((2, n)).astype(dtype)
    compiled = fg.compile(f)
    for _ in range(2):
        for found, expected in zip(compiled(x, y), eager_arrays(f, x, y)):
            np.testing.assert_array_equal(found, expected)  # the same order of additions
    program = compiled.program(x, y)
    if n >= 2048:
        (group,) = blocks(program)
        assert group.count(" = sum ") == 3
        assert program.facts["peak_bytes"] <= 6 * 2048 * x.itemsize + 512
        assert program.facts["separate_bytes"] > 6 * n * x.itemsize


def test_sums_of_a_value_and_gradient_and_steps_that_read_them():
    """Steps that read a sum wait for it."""

    def f(x):
        s = fg.sum(fg.tanh(x) * 2)
        y = x * s
        return fg.sum(y), fg.sum(fg.exp(x), axis=0), fg.sum(y * x, axis=1), fg.max(y)

    x = RNG.standard_normal((50, 90))
    compiled = fg.compile(f)
    for _ in range(2):
        for found, expected in zip(compiled(x), eager_arrays(f, x)):
            np.testing.assert_array_equal(found, expected)
    g = fg.value_and_grad(lambda x: f(x)[0])
    value, gradient = fg.compile(g)(x)
    np.testing.assert_array_equal(gradient, g(x)[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "rows, columns",
    [(3000, 2), (300, 10), (70, 33), (100, 77), (257, 128), (9, 1000), (600, 200), (5000, 40), (3, 2048)],
)
def test_sums_over_rows_and_columns_end_a_group_without_their_operand_in_memory(rows, columns, dtype):
    def f(x, y):
        a = fg.tanh(x) * y
        return fg.sum(a, axis=0), fg.sum(a - y, axis=1), fg.sum(a * a, axis=0, keepdims=True) * 2, a[0]

    def g(x, y):  # nothing but sums reads what this makes
        return fg.sum(fg.exp(x) * y, axis=1), fg.sum(fg.exp(x) - y, axis=1)

    x, y = RNG.standard_normal((2, rows, columns)).astype(dtype)
    for f, sums in ((f, 1 if columns < 33 else 3), (g, 2)):
        compiled = fg.compile(f)
        for _ in range(2):
            for found, expected in zip(compiled(x, y), eager_arrays(f, x, y)):
                np.testing.assert_array_equal(found, expected)  # the same order of additions
        program = compiled.program(x, y)
        assert blocks(program)[0].count(" = sum ") == sums
    block = max(1024, 8 * columns)
    assert program.facts["separate_bytes"] >= 3 * x.nbytes
    assert program.facts["peak_bytes"] <= 3 * min(block * x.itemsize, x.nbytes) + 512


def test_sums_of_both_kinds_in_one_function():
    """Blocks serve sums of everything or sums over one length of rows, whichever comes first; others stay apart."""

    def f(x):
        a = fg.tanh(x)
        return fg.sum(a), fg.sum(a, axis=(0, 1)), fg.sum(a, axis=2), fg.sum(a, axis=(1, 2)), fg.sum(a, axis=1)

    def g(x):
        a = fg.tanh(x)
        return fg.sum(a, axis=(1, 2)), fg.sum(a, axis=0), fg.sum(a, axis=2), fg.sum(a), fg.sum(a, axis=(0, 2))

    x = RNG.standard_normal((20, 7, 50))
    for f in (f, g):
        compiled = fg.compile(f)
        for _ in range(2):
            for found, expected in zip(compiled(x), eager_arrays(f, x)):
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows, columns", [(2, 1024), (1000, 3), (300, 10), (33, 100), (5, 1500), (4, 5000), (300, 64)])
def test_rows_join_a_group(rows, columns, dtype):
    def f(x, b, c):
        late = fg.exp(b)
        a = fg.tanh(x * 2 + b)
        a = fg.where(a > c, a, b) * late
        return fg.sum(fg.power(fg.absolute(a) + 1, c)), a

    x = RNG.standard_normal((rows, columns)).astype(dtype)
    b, c = RNG.standard_normal((2, columns)).astype(dtype)
    c = c[None]
    compiled = fg.compile(f)
    for _ in range(2):
        for found, expected in zip(compiled(x, b, c), eager_arrays(f, x, b, c)):
            np.testing.assert_array_equal(found, expected)
    program = compiled.program(x, b, c)
    (group,) = [text for text in blocks(program) if "tanh" in text]
    assert re.findall(r" = (\w+)", group)[-3:] == ["add", "power", "sum"]
    assert group.count("  block") >= 7
    gradient = fg.compile(fg.grad(lambda *args: f(*args)[0], argnums=(0, 1, 2)))
    for found, expected in zip(gradient(x, b, c), fg.grad(lambda *args: f(*args)[0], argnums=(0, 1, 2))(x, b, c)):
        np.testing.assert_array_equal(found, expected)


def test_bias_and_activation_are_one_pass_over_a_product():
    def f(x, w, b):
        return fg.mean(fg.tanh(x @ w + b))

    x, w, b = RNG.standard_normal((80, 20)), RNG.standard_normal((20, 70)), RNG.standard_normal(70)
    program = fg.compile(fg.value_and_grad(f, argnums=(1, 2))).program(x, w, b)
    (group,) = blocks(program)
    assert re.findall(r" = (\w+)", group) == ["add", "tanh", "sum", "tanh_vjp"]  # of which only the last is stored
    assert program.facts["peak_bytes"] < 2 * 80 * 70 * 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m, k, n", [(3, 4, 5), (40, 30, 50), (300, 250, 260)])  # the last by BLAS
def test_gradients_of_a_weight_used_several_times_are_accumulated_in_place(m, k, n, dtype):
    def f(w, xs):
        return sum(fg.sum(fg.sin(x @ w)) for x in xs)

    w, xs = RNG.standard_normal((k, n)).astype(dtype), [RNG.standard_normal((m, k)).astype(dtype) for _ in range(3)]
    for outer in (lambda g: g, lambda g: fg.tanh(g)):  # the sum is an output, or a value in the arena
        step = fg.compile(lambda w, xs, outer=outer: outer(fg.grad(f)(w, xs)))
        program = step.program(w, xs)
        names = instructions(program)
        assert len(re.findall(r" = matmul(?: \S+){3}  ", str(program))) == 2  # what each is added to comes third
        assert names.count("matmul") == 6 and "add" not in names
        assert program.facts["peak_bytes"] <= program.facts["separate_bytes"]
        exact = sum(x.T.astype(np.float64) @ np.cos(x.astype(np.float64) @ w) for x in xs)
        # Rounding of a sum of 3 m products and of the values of x @ w that went in
        bound = 4 * (3 * m + k) * np.finfo(dtype).eps * sum(np.abs(x).T @ (1 + np.abs(x) @ np.abs(w)) for x in xs)
        for _ in range(2):
            error = np.abs(step(w, xs) - (exact if names[-1] != "tanh" else np.tanh(exact)))
            assert np.all(error <= bound)


def test_products_that_are_read_elsewhere_are_not_accumulated_in_place():
    def f(x, w):
        a, b = x @ w, w @ x
        return a + b, a * 2, (x @ x + x), a + a

    x, w = RNG.standard_normal((2, 20, 20))
    compiled = fg.compile(f)
    assert instructions(compiled.program(x, w)).count("add") == 3
    for _ in range(2):
        for found, expected in zip(compiled(x, w), eager_arrays(f, x, w)):
            np.testing.assert_array_equal(found, expected)


def test_no_accumulated_product_runs_before_what_it_is_added_to():
    def f(w, x):
        return fg.sum(fg.tanh(fg.tanh(x @ w) @ w) + fg.tanh(fg.sin(x) @ w))

    w, x = RNG.standard_normal((18, 18)) / 4, RNG.standard_normal((1000, 18))
    step = fg.compile(fg.grad(f))
    assert len(re.findall(r" = matmul(?: \S+){3}  ", str(step.program(w, x)))) == 2
    exact = fg.grad(f)(w, x)
    for _ in range(2):
        assert np.max(np.abs(step(w, x) - exact)) < 1e-13 * np.max(np.abs(exact))


def test_rows_of_a_stack_and_rows_that_are_computed():
    def f(x, w):
        row = fg.sum(w, axis=0)  # (30, 40)
        a = fg.exp(x - row) * w[0, 0]  # (20, 30, 40) by (30, 40) and (40,)
        late = fg.tanh(a)[3]
        return (a + late) / (1 + fg.absolute(late[1:2]))

    x, w = RNG.standard_normal((20, 30, 40)), RNG.standard_normal((5, 30, 40))
    compiled = fg.compile(f)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x, w), eager_arrays(f, x, w))
    assert len(blocks(compiled.program(x, w))) == 2


def test_groups_overtake_what_they_do_not_need():
    def f(x, w):
        a = fg.tanh(x)
        b = w @ w  # stands between, needs nothing of the group
        c = a * x
        return c + 1, fg.sum(b, axis=0)

    x, w = RNG.standard_normal((100, 100)), RNG.standard_normal((10, 10))
    compiled = fg.compile(f)
    for _ in range(2):
        for found, expected in zip(compiled(x, w), eager_arrays(f, x, w)):
            np.testing.assert_array_equal(found, expected)
    (group,) = blocks(compiled.program(x, w))
    assert re.findall(r" = (\w+)", group) == ["tanh", "multiply", "add"]


@pytest.mark.parametrize("n", [10, 6000])
def test_contiguous_slices_are_not_copied(n):
    def f(x, m):
        a = fg.tanh(x)
        return x[1:] * a[:-1], fg.sum(a[n // 2 :]), m[1] + m[0, 0], a[2:-1], a[0:1] * 2, m[:, 1:], x[3:4]

    x, m = RNG.standard_normal(n), RNG.standard_normal((3, n))
    compiled = fg.compile(f)
    for _ in range(2):
        for found, expected in zip(compiled(x, m), eager_arrays(f, x, m)):
            np.testing.assert_array_equal(found, expected)
    assert instructions(compiled.program(x, m)).count("slice") == 1  # only m[:, 1:] is not contiguous
    assert instructions(fg.compile(lambda x: fg.tanh(x[1:]) + x[::2][0]).program(x)).count("slice") == 1


@pytest.mark.parametrize("n", [8, 5000])
def test_a_value_is_not_overwritten_while_its_parts_are_read(n):
    def f(x):
        a = fg.exp(x)
        b = a + a[0]  # the last reader of a reads its first element for every block
        c = fg.tanh(b)
        d = c * c[n - 1]
        return d[1:] - d[:-1]

    x = RNG.standard_normal(n)
    compiled = fg.compile(f)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x), eager_arrays(f, x))


def test_short_steps_between_long_ones_do_not_end_a_group():
    """A log-likelihood, whose scale is computed from a parameter in the middle of it: nothing long is stored."""

    def f(p, x, y):
        z = y - (p[0] + p[1] * x)
        loss = fg.log1p(fg.square(z * fg.exp(-p[2])))
        return fg.sum(loss) + p[2] * x.size, fg.sum(fg.exp(loss) * fg.sum(fg.tanh(p)))

    p, (x, y) = np.array([0.5, 2.0, 0.25]), RNG.standard_normal((2, 10_000))
    gradient = fg.grad(lambda p, x, y: f(p, x, y)[0])
    for compiled, expected in ((fg.compile(f), eager_arrays(f, p, x, y)), (fg.compile(gradient), gradient(p, x, y))):
        for _ in range(2):
            for a, b in zip(compiled(p, x, y), expected):
                np.testing.assert_array_equal(a, b)
        program = compiled.program(p, x, y)
        assert len(blocks(program)) == 1
        assert program.facts["peak_bytes"] < x.nbytes


def test_draws_keep_their_order_where_short_steps_go_ahead():
    def f(x, generator):
        y = fg.tanh(x) * 2
        noise = generator.normal(x.shape)
        z = y * generator.normal()
        return fg.sum(z + noise), fg.sum(y) * generator.uniform()

    x = RNG.standard_normal(5000)
    ours, theirs = fg.random.Generator(3), fg.random.Generator(3)
    compiled = fg.compile(lambda x: f(x, ours))
    for _ in range(3):
        for found, expected in zip(compiled(x), eager_arrays(lambda x: f(x, theirs), x)):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 17, 2047, 2048, 5001])
def test_a_number_stretched_over_an_array_is_part_of_the_group(n, dtype):
    """The gradient of a mean within a longer one."""

    def f(x):
        d = x - fg.mean(x)
        return fg.sum(fg.tanh(d / fg.sqrt(fg.mean(d * d) + 1)))

    x = RNG.standard_normal(n).astype(dtype)
    compiled, expected = fg.compile(fg.grad(f)), fg.grad(f)(x)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x), expected)
    stretched = fg.compile(lambda x: fg.broadcast_to(fg.sum(x), (3, n)) * 1)
    np.testing.assert_array_equal(stretched(x), np.full((3, n), eager_arrays(fg.sum, x)))
    if n >= 2048:
        lines = [line for line in str(compiled.program(x)).splitlines() if "broadcast_to" in line]
        assert lines and all(line.endswith("block") for line in lines)


BLOCK = 1024  # elements of which long steps run at a time
OF_MEANS = {
    "product": (lambda y: fg.sum(y * (y + 1)), 1),
    "product of two": (lambda y: fg.mean(fg.tanh(y) * y), 1),
    "mean of squares": (lambda y: fg.mean(y**2), BLOCK),
    "unary": (lambda y: fg.sum(fg.tanh(y)), BLOCK),
    "two numbers": (lambda y: fg.sum(fg.tanh(y)) + 3 * fg.sum(fg.exp(y)), 2 * BLOCK),
    "binary": (lambda y: fg.mean(y / (y + 2)), BLOCK + 1),
    "a number in it": (lambda y: fg.mean(fg.hypot(y, 3.0)), BLOCK + 1),
    "a number beside it": (lambda y: fg.mean(fg.power(3.0, y)), BLOCK + 1),
    "seconds": (lambda y: fg.sum(fg.grad(lambda y: fg.sum(fg.tanh(y)))(y)), 3 * BLOCK + 8),
    "a block of its own": (lambda y: fg.sum(fg.tanh(y)) + fg.sum(fg.ones(BLOCK) * fg.exp(y[:BLOCK])), 2 * BLOCK),
    "the block as a row": (
        lambda y: fg.sum(fg.tanh(y)) + fg.sum(fg.sin(y[: 4 * BLOCK].reshape(4, BLOCK) * fg.ones(BLOCK))),
        6 * BLOCK,
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [3, BLOCK, 2 * BLOCK, 5 * BLOCK, 100_001])
@pytest.mark.parametrize("name", OF_MEANS)
def test_the_cotangent_of_a_sum_is_no_constant_of_full_size(name, n, dtype):
    f, most = OF_MEANS[name]
    if "block" in name and n < 4 * BLOCK:
        return
    x = RNG.uniform(0.1, 0.9, n).astype(dtype)
    compiled, expected = fg.compile(fg.grad(f)), fg.grad(f)(x)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x), expected)
    if n >= 2 * BLOCK:
        found = compiled.program(x).facts["constant_bytes"] / x.itemsize
        assert found <= most + 8, f"constants of {found:g} elements, at most {most} are needed"


# ---- constants that repeat a row -----------------------------------------------------------------------------------
def repeated(shape, axes, seed=0):
    """An array that is the same along its first axes."""
    row = np.random.default_rng(seed).normal(size=shape[axes:])
    return np.broadcast_to(row, shape).copy()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("shape", "axes"), [((1365, 3), 1), ((700, 3), 1), ((682, 3), 1), ((80, 5, 7), 1),
                                             ((30, 40, 7), 2), ((4, 4096), 1), ((2049, 1, 2), 1)])  # fmt: skip
def test_a_constant_that_repeats_a_row_is_kept_as_the_row(shape, axes, dtype):
    constant = repeated(shape, axes).astype(dtype)
    x = np.random.default_rng(1).normal(size=shape).astype(dtype)
    f = lambda x: fg.jvp(lambda x: np.tanh(x * constant) / (2 + np.sin(x)) + np.square(x), (x,), (constant,))
    compiled = fg.compile(f)
    for found, expected in zip(compiled(x), f(x)):
        np.testing.assert_array_equal(found, expected)
    if x.size >= 2048:
        row = constant.nbytes // np.prod(shape[:axes])
        assert compiled.program(x).facts["constant_bytes"] <= 2 * row + 64 * 64


def test_constants_that_nearly_repeat_a_row():
    """Their last element differs, or the sign of a zero; or they are read as a whole, too."""
    x = np.random.default_rng(1).normal(size=(1000, 3))
    other, zero = repeated((1000, 3), 1), np.zeros((1000, 3))
    other[-1, -1] += 1
    zero[-1, 0] = -0.0
    whole = repeated((1000, 3), 1)
    for f in (
        lambda x: x * other,
        lambda x: np.copysign(1.0, x) * zero,
        lambda x: (x * whole, x.T @ whole),
        lambda x: np.where(x > whole, x * whole, whole),
    ):
        for found, expected in zip(fg.tree.leaves(fg.compile(f)(x)), eager_arrays(lambda x: fg.tree.leaves(f(x)), x)):
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
