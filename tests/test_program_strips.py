"""Groups on rows that are too long for a block: strips of their columns, in reductions of columns and thin products.

Random programs with every way in which an operand is read are compared with the eager run, to the last bit.
"""

import numpy as np
import pytest
from _replay import check, same_tree

import fastgrad as fg

WIDTHS = [2047, 2048, 2049, 2175, 2176, 2177, 2303, 4097, 9000]  # around the widest row of a block and whole strips
ROWS = [1, 2, 7, 8, 9, 31, 96, 97, 255, 256, 257, 300]  # around the eights and the halves of sums
REDUCTIONS = [fg.sum, fg.max, fg.min]


def draw(rng, *shape, dtype=np.float64):
    """With equal elements, zeros of both signs and, in some, nan."""
    x = np.where(rng.random(shape) < 0.05, -0.0, np.round(rng.normal(size=shape) * 8) / 8)
    return np.where((rng.random(shape) < 0.001) & (rng.random() < 0.2), np.nan, x).astype(dtype)


def operand(rng, rows, width):
    """A function from an array to one that broadcasts to (rows, width), and the shape of the array."""
    kind = rng.choice("whole row column single strided shifted backwards moved gathered joined table".split())
    if kind == "row":
        return (lambda x: x), (width,)
    if kind == "column":
        return (lambda x: x), (rows, 1)
    if kind == "single":
        return (lambda x: x), ()
    if kind == "strided":
        return (lambda x: x[:, ::2]), (rows, 2 * width)
    if kind == "shifted":
        return (lambda x: x[:, 1:-2]), (rows, width + 3)
    if kind == "backwards":
        return (lambda x: x[::-1, ::-1]), (rows, width)
    if kind == "moved":
        return (lambda x: x.T), (width, rows)
    if kind == "gathered":
        index = rng.integers(0, rows, rows)
        return (lambda x: fg.take(x, index, axis=0)), (rows, width)
    if kind == "joined":
        return (lambda x: fg.concatenate([x[:, :1] * 2, x[:, :-1]], axis=1)), (rows, width)
    if kind == "table" and rows % 2 == 0:  # rows in turn, and each of them twice
        return (lambda x: fg.broadcast_to(x, (rows // 2, 2, width)).reshape(rows, width)), (2, width)
    return (lambda x: x), (rows, width)


def random_program(seed, most=40_000):
    rng = np.random.default_rng(seed)
    width = int(rng.choice(WIDTHS))
    rows = int(rng.choice([r for r in ROWS if r * width <= max(most, width)]))
    dtype = [np.float32, np.float64][seed % 2]
    found = [operand(rng, rows, width) for _ in range(int(rng.integers(2, 5)))]
    arrays = [draw(rng, *shape, dtype=dtype) for _, shape in found]
    steps, ends = rng.integers(0, 6, int(rng.integers(2, 7))), rng.choice(3, int(rng.integers(1, 4)))
    picks = rng.integers(0, 1000, (len(steps) + len(ends), 2))
    is_product, keeps = rng.random() < 0.4, rng.random() < 0.3
    if is_product:
        depth = int(rng.integers(1, 20))
        arrays += [draw(rng, rows, depth, dtype=dtype), draw(rng, width, depth, dtype=dtype)]

    def f(*x):
        values = [read(a) for (read, _), a in zip(found, x)]
        if is_product:
            values.append(x[-2] @ x[-1].T if seed % 3 else (x[-1] @ x[-2].T).T)
        whole = [fg.broadcast_to(values[0], (rows, width)) + values[-1]]
        for kind, (i, j) in zip(steps, picks):
            a, b = whole[i % len(whole)], (values + whole)[j % len(values + whole)]
            whole.append(
                [lambda: a + b, lambda: a * b, lambda: fg.tanh(a), lambda: fg.where(a > 0.1, b, a), lambda: a - b * 2,
                 lambda: a * a][kind]()
            )  # fmt: skip
        read = [whole[i % len(whole)] for i, _ in picks[len(steps) :]]
        reduced = [REDUCTIONS[kind](y, axis=0) for kind, y in zip(ends, read)]
        return (*reduced, whole[-1]) if keeps else tuple(reduced)

    return f, arrays


@pytest.mark.parametrize("part", range(4))
def test_replay_has_the_bits_of_the_eager_run(part):
    for seed in range(40 * part, 40 * part + 40):
        f, arrays = random_program(seed)
        try:
            check(f, *arrays)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_derivatives_and_batches():
    for seed in range(301, 325, 2):
        f, arrays = random_program(seed)
        arrays = [np.nan_to_num(a) + 1e-3 * np.random.default_rng(seed).normal(size=a.shape) for a in arrays]
        g = lambda *x, f=f: sum(fg.sum(fg.sin(y)) for y in f(*x))
        tangents = tuple(np.random.default_rng(seed + 1).normal(size=a.shape) for a in arrays)
        _, slope = fg.compile(lambda *x, g=g, t=tangents: fg.jvp(g, x, t))(*arrays)
        gradients = fg.grad(g, tuple(range(len(arrays))))(*arrays)
        for found, eager in zip(fg.compile(fg.grad(g, tuple(range(len(arrays)))))(*arrays), gradients, strict=True):
            np.testing.assert_allclose(found, eager, 1e-9, 1e-9 * (1 + np.abs(eager).max()), err_msg=f"seed {seed}")
        expected = sum(np.vdot(d, t) for d, t in zip(gradients, tangents, strict=True))
        scale = sum(np.abs(np.asarray(d) * t).sum() for d, t in zip(gradients, tangents, strict=True))
        assert abs(float(slope) - expected) <= 1e-9 * (scale + 1), seed
        mapped = fg.compile(fg.vmap(f))(*(np.stack([a, a[::-1] if a.ndim else a]) for a in arrays))
        for found, alone in zip(mapped, f(*map(fg.asarray, arrays)), strict=True):
            np.testing.assert_allclose(np.asarray(found)[0], alone.numpy(), 1e-9, 1e-9, err_msg=f"seed {seed}")


def test_bits_are_the_same_with_any_number_of_threads():
    before = fg.get_num_threads()
    try:
        for seed in range(500, 512):
            f, arrays = random_program(seed, most=10**6)
            program = fg.compile(f)
            fg.set_num_threads(1)
            expected = program(*arrays)
            for n in (2, 3):
                fg.set_num_threads(n)
                same_tree(program(*arrays), expected)
    finally:
        fg.set_num_threads(before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearest_centers_never_have_all_distances_in_memory(dtype):
    """Neither by rows, nor by columns, nor where the product comes after the sum that it is subtracted from."""
    rng = np.random.default_rng(0)
    points, centers = rng.normal(size=(5000, 8)).astype(dtype), rng.normal(size=(400, 8)).astype(dtype)

    def by_columns(p, c):
        return fg.min(fg.sum(p**2, 1)[None] + fg.sum(c**2, 1)[:, None] - 2 * (p @ c.T).T, axis=0)

    def by_rows(p, c):
        return fg.min(fg.sum(p**2, 1)[:, None] + fg.sum(c**2, 1)[None] - 2 * (p @ c.T), axis=1)

    expected = ((points.astype(float)[:, None] - centers) ** 2).sum(-1).min(1)
    for f in (by_columns, by_rows):
        program = check(f, points, centers)
        assert program.facts["peak_bytes"] < 5000 * 400 * points.itemsize / 4
        np.testing.assert_allclose(fg.compile(f)(points, centers), expected, 0, 1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("n", [33, 100, 2048, 5000])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_a_reduction_of_columns_ends_a_group(reduce, n):
    x = np.random.default_rng(0).normal(size=(300, n))
    program = check(lambda x: reduce(fg.tanh(x) * x, axis=0), x)
    assert program.facts["peak_bytes"] < x.nbytes / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m, n, k", [(1000, 600, 16), (97, 3000, 31), (5000, 130, 32), (3000, 1, 30), (49, 9000, 5)])
def test_thin_products_have_the_same_bits_on_several_threads(m, n, k, dtype):
    rng = np.random.default_rng(m)
    a, b = (fg.tensor(rng.normal(size=s).astype(dtype)) for s in ((m, k), (k, n)))
    whole = (a @ b).numpy()
    exact = a.numpy().astype(float) @ b.numpy().astype(float)
    np.testing.assert_allclose(whole, exact, 0, 1e-4 if dtype == np.float32 else 1e-12)
    before = fg.get_num_threads()
    try:
        fg.set_num_threads(3)
        np.testing.assert_array_equal((a @ b).numpy(), whole)
    finally:
        fg.set_num_threads(before)
