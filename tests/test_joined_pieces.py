"""Random programs that cut arrays into slices and join them again: overlapping, disjoint, backwards and strided slices,
concatenations and stacks along any axis, paddings, shifted arrays, and rows that an index names. Compiled programs are
compared with the eager run, and derivatives with each other."""

import numpy as np
import pytest
from _native import agree, native, needs_compiler
from _replay import check, instructions
from _replay import same as same_bits

import fastgrad as fg

LENGTHS = [*range(1, 71), 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 2047, 2048, 2049, 4099]


def cut(rng, n):
    """A slice of an axis of n elements, and how many it has."""
    kind = rng.integers(6)
    if kind == 0:
        found = slice(None)
    elif kind == 1:
        found = slice(None, None, int(rng.choice([-1, 2, -2, 3])))
    elif kind == 2:
        found = slice(int(rng.integers(3)), max(1, n - int(rng.integers(3))))
    else:
        low = int(rng.integers(n))
        found = slice(low, int(rng.integers(low, n + 1)), int(rng.choice([1, 1, 1, 2])))
    return found, len(range(n)[found])


def random_program(seed):
    """A function of two arrays of one shape, and these, among whose elements are zeros of both signs."""
    rng = np.random.default_rng(seed)
    dtype = [np.float32, np.float64][seed % 2]
    d = int(rng.integers(1, 4))
    shape = [int(rng.integers(1, 6)) for _ in range(d)]
    axis = int(rng.integers(d))
    shape[axis] = int(rng.choice(LENGTHS))
    if d > 1 and rng.integers(2):
        shape[(axis + 1) % d] = int(rng.choice([7, 70, 300]))
    shape = tuple(shape)
    pairs = [[cut(rng, n) for n in shape] for _ in range(int(rng.integers(2, 7)))]
    steps = rng.choice(10, int(rng.integers(2, 6)))
    picks = rng.integers(0, 1000, (len(steps), 3))
    weights = [np.asarray(rng.standard_normal(tuple(n for _, n in pair)), dtype) for pair in pairs]
    arrays = [np.where(rng.random(shape) < 0.2, [-0.0, 0.0][k], rng.standard_normal(shape)) for k in range(2)]

    def f(x, y):
        whole, total = x * y, 0
        for kind, (i, j, k) in zip(steps, picks, strict=True):
            axis = int(i) % d
            first = tuple(slice(None, -1) if a == axis else slice(None) for a in range(d))
            last = tuple(slice(-1, None) if a == axis else slice(None) for a in range(d))
            if kind == 0:
                whole = fg.tanh(fg.concatenate([whole[last], whole[first]], axis=axis)) * y
            elif kind == 1:
                whole = whole + fg.concatenate([fg.ones_like(whole[last]), whole[first]], axis=axis)
            elif kind == 2:
                two = fg.stack([whole, fg.sin(x)], axis=int(j) % (d + 1))
                whole = fg.sum(two * two, axis=int(j) % (d + 1)) * x
            elif kind == 3:
                three = fg.tanh(fg.concatenate([whole, y, x * 0.5], axis=axis))
                n = shape[axis]
                places = [tuple(slice(p, p + n) if a == axis else slice(None) for a in range(d)) for p in (0, n, 2 * n)]
                whole = three[places[0]] * three[places[1]] + three[places[2]]
            elif kind == 4:
                pad = [(1, 1) if a == axis else (0, 0) for a in range(d)]
                wide = fg.pad(whole, pad)
                n = shape[axis]
                parts = [tuple(slice(p, p + n) if a == axis else slice(None) for a in range(d)) for p in range(3)]
                whole = wide[parts[0]] + wide[parts[2]] - 2 * wide[parts[1]]
            elif kind == 5:
                whole = fg.roll(whole, int(j) % 3, axis=axis) * x
            elif kind == 6:
                rows = np.random.default_rng(int(j)).integers(-shape[0], shape[0], shape[0])
                whole = fg.take(fg.sin(whole), rows, axis=0) * x - fg.take(y, rows[::-1], axis=0)
            else:
                chosen = (pairs[int(j) % len(pairs)], pairs[int(k) % len(pairs)])
                for pair in chosen:
                    part = whole[tuple(c for c, _ in pair)]
                    total = total + fg.sum(part * fg.asarray(weights[pairs.index(pair)]))
        for pair, weight in zip(pairs, weights, strict=True):
            total = total + fg.sum(fg.sin(x[tuple(c for c, _ in pair)]) * weight) * 0.5
        return whole, total

    return f, [a.astype(dtype) for a in arrays], dtype


def scalar(f):
    return lambda x, y: (lambda whole, total: fg.sum(fg.sin(whole)) + total)(*f(x, y))


@pytest.mark.parametrize("part", range(2))
def test_replay_has_the_bits_of_the_eager_run(part):
    for seed in range(part * 40, part * 40 + 40):
        f, arrays, _ = random_program(seed)
        gradient = fg.grad(scalar(f), argnums=(0, 1))
        try:
            check(lambda x, y, f=f, gradient=gradient: (*f(x, y), *gradient(x, y)), *arrays)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("seen", [(-1,), (48, 64), (1, 64, 48), (64, 48, 1), (32, 96)])
@pytest.mark.parametrize("lead", [(), (1,)])
def test_operands_are_broadcast_and_then_read_in_another_shape(lead, seen):
    """Rows and columns stand for others in an array of another shape than in that which they are broadcast to."""
    rng = np.random.default_rng(0)
    x, row, column = (rng.standard_normal(shape) for shape in ((64, 48), (48,), (64, 1)))

    def f(x, row, column):
        wide, high = (np.broadcast_to(part, (*lead, 64, 48)).reshape(seen) for part in (row, column))
        x = x.reshape(seen)
        return np.tanh(x * wide), np.sin(high - x), np.exp(high * wide), np.where(x > high, x, wide)

    check(f, x, row, column)


def test_an_operation_on_operands_that_are_broadcast_alike():
    """None of the operands has the shape of the result."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 64, 1))

    def f(x, y):
        a, b = np.broadcast_to(x, (64, 300)), np.broadcast_to(y, (64, 300))
        return a + b, np.maximum(a, b), a * a, a < b, np.where(a > b, a, b)

    check(f, x, y)
    check(fg.grad(lambda x, y: np.sum(f(x, y)[1] ** 3), argnums=(0, 1)), x, y)
    for step in range(5):
        check(lambda x, y, step=step: f(x, y)[step], x, y)


def close(got, want, bound, what):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, what
    assert np.allclose(got, want, rtol=bound, atol=bound * max(1.0, float(np.abs(want).max(initial=0)))), what


def test_forward_mode_vmap_and_differences():
    for seed in range(300, 304):
        f, arrays, _ = random_program(seed)
        x, y = (a.astype(np.float64) for a in arrays)
        g, rng = scalar(f), np.random.default_rng(seed)
        t = rng.standard_normal((2, *x.shape))
        compiled = fg.compile(g)
        _, slope = fg.compile(lambda x, y, g=g, t=t: fg.jvp(g, (x, y), (t[0], t[1])))(x, y)
        gradients = fg.compile(fg.grad(g, argnums=(0, 1)))(x, y)
        close(slope, sum((np.asarray(d) * v).sum() for d, v in zip(gradients, t)), 1e-9, f"jvp, seed {seed}")
        difference = (compiled(x + 1e-6 * t[0], y + 1e-6 * t[1]) - compiled(x - 1e-6 * t[0], y - 1e-6 * t[1])) / 2e-6
        close(difference, slope, 1e-3, f"differences, seed {seed}")
        mapped = fg.compile(fg.vmap(g))(np.stack([x, 2 * x]), np.stack([y, y + 1]))
        close(mapped, [compiled(x, y), compiled(2 * x, y + 1)], 1e-10, f"vmap, seed {seed}")


@needs_compiler
def test_native_programs_of_short_arrays():
    for seed in (3, 20):
        rng = np.random.default_rng(seed)
        n, single = int(rng.integers(8, 40)), seed % 2
        x = rng.standard_normal((3, n)).astype([np.float64, np.float32][single])
        pairs = [[cut(rng, m) for m in x.shape] for _ in range(4)]

        def f(x, pairs=pairs):
            return sum(fg.sum(fg.sin(x[tuple(c for c, _ in pair)]) * (k + 1)) for k, pair in enumerate(pairs))

        g = fg.value_and_grad(f)
        assert "unslice" in instructions(fg.compile(g).program(x))
        agree(native(g, x)(x), fg.compile(g)(x), f"seed {seed}", single=bool(single))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_zero_keeps_its_sign_where_every_slice_has_it(dtype):
    """A sum with 0, which pads the others, makes 0 of -0."""
    for n in (3, 6, 70, 5000):
        x, zero = np.full(n, 2, dtype), np.full(n, -0.0, dtype)

        def f(x, zero):
            return sum(fg.sum(x[part] * zero[part]) for part in (slice(1, None), slice(None, -1), slice(None, None, 2)))

        gradient = fg.compile(fg.grad(f))
        assert instructions(gradient.program(x, zero)).count("unslice") == 1
        place = np.arange(n)
        in_all = (place % 2 == 0) & (place > 0) & (place < n - 1)
        same_bits(gradient(x, zero), np.where(in_all, -0.0, 0.0).astype(dtype))


def test_paddings_that_are_broadcast_are_added_as_they_are():
    def padded(x, before, after):
        whole = np.zeros((*x.shape[:-1], before + x.shape[-1] + after))
        return fg.vjp(lambda y: y[..., before : before + x.shape[-1]], whole)[1](x)[0]

    def f(a, b, c):
        return padded(a, 1, 2) + padded(b, 2, 1) + padded(c, 0, 3)

    rng = np.random.default_rng(3)
    for a, b, c in (((3,), (4, 3), (4, 3)), ((5,), (1, 5), (400, 5)), ((3000,), (2, 3000), (1, 3000))):
        x = [rng.normal(size=shape) for shape in (a, b, c)]
        program = fg.compile(f).program(*x)
        assert "unslice" in str(program), program
        np.testing.assert_array_equal(fg.compile(f)(*x), f(*x), f"{a} + {b} + {c}")


def test_gradients_of_slices_are_written_to_one_place():
    x = np.random.default_rng(0).standard_normal(40_000)

    def parts(x):
        a, b, c, d = x.reshape(4, -1)
        return fg.sum(fg.tanh(a) * fg.exp(b) + c * fg.sin(d))

    program = fg.compile(fg.grad(parts)).program(x)
    assert instructions(program).count("unslice") == 1 and "add" not in instructions(program)
    assert program.facts["peak_bytes"] < 1.2 * x.nbytes


@pytest.mark.parametrize("n", [100, 4000])
@pytest.mark.parametrize("apart", [True, False])
def test_the_gradient_of_many_slices(n, apart):
    """One instruction for each 15 slices, which adds them in the order of the eager run."""
    rng = np.random.default_rng(n)
    x, weights = rng.standard_normal(n), rng.standard_normal(50)
    starts = np.arange(50) * (n // 50) if apart else rng.integers(0, n - n // 50, 50)

    def f(x):
        parts = [x[i : i + n // 50] for i in starts.tolist()]
        return sum(fg.sum(fg.sin(part) * part) * w for part, w in zip(parts, weights))

    program = check(fg.grad(f), x)
    assert instructions(program).count("unslice") == 4


def test_pieces_are_read_by_the_group_that_needs_them():
    x = np.random.default_rng(0).standard_normal(40_000)

    def f(x):
        before = fg.concatenate([fg.ones(1), x[:-1]])
        return fg.sum(fg.tanh(before * x))

    program = str(fg.compile(f).program(x))
    assert program.count("fused") == 1 and "concatenate" in program and program.count(" block") >= 3
    assert fg.compile(f).program(x).facts["peak_bytes"] < 0.2 * x.nbytes


@pytest.mark.parametrize("inner", [1, 2, 3, 4, 5, 8, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_gathered_by_the_group_that_needs_them(dtype, inner):
    rng = np.random.default_rng(inner)
    table, rows = rng.standard_normal((30, inner)).astype(dtype), rng.integers(-30, 30, (2, 3001))

    def f(t):
        difference = t[rows[0]] - fg.take(t, rows[1], axis=0)
        return fg.sqrt(fg.sum(difference * difference, axis=1) + 1)

    program = check(f, table)
    assert instructions(program).count("take") == 2
    assert str(program).count("fused") == 1 or inner == 1  # a sum of rows of one element is no part of a group
    assert program.facts["peak_bytes"] < 0.1 * rows.size * table[0].nbytes + 100_000
    check(fg.grad(lambda t: fg.sum(f(t))), table)


def test_an_index_out_of_range_is_told():
    for index in ([0, 3], [-4, 0]):
        index = np.resize(index, 5000)
        with pytest.raises(IndexError, match="outside an axis of length 3"):
            fg.compile(lambda x, i=index: fg.sum(fg.sin(fg.take(x, i))))(np.arange(3.0))


def test_an_index_that_was_read_only_is_checked_by_each_replay():
    index = np.arange(6000) % 30
    index.flags.writeable = False
    compiled, table = fg.compile(lambda t: fg.sin(fg.take(fg.cos(t), index)) * 2), np.ones(30)
    compiled(table)
    index.flags.writeable = True
    index[4000:] = 30
    with pytest.raises(IndexError, match="index 30 at position 4000 is outside an axis of length 30"):
        compiled(table)
