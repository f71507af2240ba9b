"""Random programs whose long steps read operands with strides: rows, columns, channels, slices and moved axes, with
reductions of rows between them. Compiled programs are compared with the eager run, and derivatives with each other."""

import numpy as np
import pytest
from _native import agree, native, needs_compiler
from _replay import instructions
from _replay import same as same_bits

import fastgrad as fg

# Lengths of rows: short ones, and around those of vectors and blocks.
LENGTHS = [*range(71), 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 2047, 2048, 2049, 4099]


def operands(rng, shape, dtype):
    """Functions from one array to one that broadcasts to `shape`, and the arrays that they take."""
    d = len(shape)
    ones = [int(rng.integers(2)) for _ in shape]
    kinds = "whole axes row column channel backwards strided shifted moved gathered lead broadcast".split()
    kind = rng.choice(kinds)
    reduced = tuple(1 if one else n for one, n in zip(ones, shape, strict=True))
    if kind == "axes":
        return (lambda x: x), reduced
    if kind == "row":
        return (lambda x: x), shape[int(rng.integers(d)) :]
    if kind == "column":
        return (lambda x: x), (*shape[:-1], 1)
    if kind == "channel":
        return (lambda x: x), tuple(n if i == d // 2 else 1 for i, n in enumerate(shape))
    if kind == "gathered":
        axis = int(rng.integers(d))
        rows = rng.integers(0, max(1, shape[axis]), shape[axis])
        return (lambda x: fg.take(x, rows, axis=axis)), shape
    if kind == "lead":
        return (lambda x: x.reshape(x.shape + (1,) * (d - 1))), shape[:1]
    if kind == "broadcast":
        return (lambda x: fg.broadcast_to(x, shape)), reduced
    if kind == "backwards":
        axis = int(rng.integers(d))
        index = tuple(slice(None, None, -1) if i == axis else slice(None) for i in range(d))
        return (lambda x: x[index]), shape
    if kind == "strided":
        axis = int(rng.integers(d))
        step = int(rng.choice([2, -2]))
        index = tuple(slice(None, None, step) if i == axis else slice(None) for i in range(d))
        return (lambda x: x[index]), tuple(2 * n if i == axis else n for i, n in enumerate(shape))
    if kind == "shifted":
        low, high = int(rng.integers(3)), int(rng.integers(3))
        index = (*[slice(None)] * (d - 1), slice(low, low + shape[-1]))
        return (lambda x: x[index]), (*shape[:-1], shape[-1] + low + high)
    if kind == "moved":
        axes = tuple(int(i) for i in rng.permutation(d))
        inverse = np.argsort(axes)
        return (lambda x: x.transpose(*axes)), tuple(shape[i] for i in inverse)
    return (lambda x: x), shape


CORNERS = (4, 7, 11, 12)  # steps that compare


def random_program(seed, smooth=False):
    """A function of some arrays, which is differentiable everywhere if it is to be ``smooth``, and their values."""
    rng = np.random.default_rng(seed)
    dtype = [np.float32, np.float64][seed % 2]
    d = int(rng.integers(1, 5))
    shape = [int(rng.choice([1, 2, 3, 4, 5])) for _ in range(d)]
    shape[-1] = int(rng.choice(LENGTHS))
    rows = int(rng.choice([3, 8, 70, 300]))
    if d > 1:
        axis = int(rng.integers(d - 1))
        shape[axis] = max(1, min(rows, 20000 // max(1, int(np.prod(shape)))))
    shape = tuple(shape)
    n = int(rng.integers(2, 5))
    found = [operands(rng, shape, dtype) for _ in range(n)]
    arrays = [rng.standard_normal(s).astype(dtype) for _, s in found]
    steps = rng.choice([k for k in range(13) if not smooth or k not in CORNERS], int(rng.integers(3, 9)))
    picks = rng.integers(0, 1000, (len(steps), 2))
    last = shape[-1]

    def f(*x):
        values = [read(a) for (read, _), a in zip(found, x, strict=True)]
        values.append(values[0] * values[1] + 0.5)
        whole = fg.zeros(shape, dtype=dtype) + values[-1]
        values[-1] = whole
        for kind, (i, j) in zip(steps, picks, strict=True):
            a, b = values[i % len(values)], values[j % len(values)]
            if kind == 0:
                y = a + b
            elif kind == 1:
                y = a * b
            elif kind == 2:
                y = fg.tanh(a) - b
            elif kind == 3:
                y = fg.sin(whole) * a
            elif kind == 4:
                y = fg.where(a > 0.1, b, a * 0.5)
            elif kind == 5:
                y = a / (1 + b * b)
            elif kind == 6:
                y = whole - whole.mean(axis=-1, keepdims=True) if last else whole
            elif kind == 7:
                y = fg.exp(whole - whole.max(axis=-1, keepdims=True)) if last else whole
            elif kind == 8:
                y = fg.sqrt((whole * whole).sum(axis=-1, keepdims=True) + 1)
            elif kind == 9:
                y = whole * 0.5 + fg.broadcast_to(whole.sum(axis=0, keepdims=True) * 0.01, shape)
            elif kind == 10:
                y = whole[..., ::-1] + a
            elif kind == 12:
                y = whole - (whole.max(axis=0, keepdims=True) + whole.min(axis=0, keepdims=True)) * a
            else:
                y = fg.broadcast_to(fg.tanh(whole.min(axis=-1, keepdims=True)), shape) * a if last else whole
            values.append(y)
            if y.shape == shape:
                whole = fg.tanh(y)
        return whole, whole.sum(axis=-1)

    return f, arrays, dtype


def scalar(f):
    return lambda *x: (lambda y, s: (y * fg.cos(y)).sum() + (s * s).sum() * 0.01)(*f(*x))


def same(got, want, bound, what):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype, what
    scale = bound * max(1.0, float(np.abs(want).max(initial=0)))
    assert np.allclose(got, want, rtol=bound, atol=scale), (what, float(np.abs(got - want).max()))


@pytest.mark.parametrize("part", range(4))
def test_replay_has_the_bits_of_the_eager_run(part):
    for seed in range(part * 25, part * 25 + 25):
        f, arrays, _ = random_program(seed)
        numbers = tuple(range(len(arrays)))
        compiled, gradient = fg.compile(f), fg.compile(fg.grad(scalar(f), argnums=numbers))
        want, wanted = f(*(fg.asarray(a) for a in arrays)), fg.grad(scalar(f), argnums=numbers)(*arrays)
        for _ in range(2):
            for got, value in zip((*compiled(*arrays), *gradient(*arrays)), (*want, *wanted), strict=True):
                try:
                    same_bits(got, value)
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}: {error}") from error


@needs_compiler
def test_native_programs_beside_replays():
    for seed in (300, 303):
        f, arrays, dtype = random_program(seed)
        g = fg.value_and_grad(scalar(f), tuple(range(len(arrays))))
        single = dtype == np.float32
        ulps = 2**16 if single else 2**20  # sums of thousands, and what cancels shows the last bits
        agree(native(g, *arrays)(*arrays), fg.compile(g)(*arrays), f"seed {seed}", ulps=ulps, single=single)


def test_forward_mode_vmap_and_differences():
    for seed in range(200, 216):
        f, arrays, dtype = random_program(seed)
        if dtype == np.float32:
            arrays = [a.astype(np.float64) for a in arrays]
        g = scalar(f)
        rng = np.random.default_rng(seed)
        tangents = [rng.standard_normal(a.shape) for a in arrays]
        _, slope = fg.compile(lambda *x, g=g, t=tangents: fg.jvp(g, x, tuple(t)))(*arrays)
        gradients = fg.compile(fg.grad(g, argnums=tuple(range(len(arrays)))))(*arrays)
        product = sum(float((np.asarray(d) * t).sum()) for d, t in zip(gradients, tangents, strict=True))
        same(slope, np.float64(product), 1e-8, f"jvp and gradient, seed {seed}")
        batches = [np.stack([a, a * 0.5]) for a in arrays]
        mapped = fg.compile(fg.vmap(g))(*batches)
        for i in range(2):
            same(np.asarray(mapped)[i], g(*(b[i] for b in batches)), 1e-10, f"vmap, seed {seed}")


def test_differences():
    for seed in range(400, 412):
        f, arrays, _ = random_program(2 * seed + 1, smooth=True)
        rng = np.random.default_rng(seed)
        tangents = [rng.standard_normal(a.shape) for a in arrays]
        g = fg.compile(scalar(f))
        slope = fg.compile(lambda *x, g=scalar(f), t=tangents: fg.jvp(g, x, tuple(t))[1])(*arrays)
        up, down = (g(*(a + h * t for a, t in zip(arrays, tangents, strict=True))) for h in (1e-6, -1e-6))
        same((up - down) / 2e-6, np.float64(slope), 1e-5, f"seed {seed}")


def test_blocks_of_flags_are_not_overwritten_by_numbers():
    """A block has few rows: the flags and the results for these are rounded up to the same number of bytes."""
    for dtype in (np.float32, np.float64):
        x = np.linspace(-1, 1, 5 * 2048, dtype=dtype).reshape(5, 2048)[[3, 0, 4, 1, 2]]

        def f(x):
            s = x.sum(axis=-1, keepdims=True)
            return x * fg.where(s > 0.1, s, s * 0.5)

        same(fg.compile(f)(x), f(fg.asarray(x)), 1e-5, f"{dtype}")


LONG = np.random.default_rng(0).standard_normal((40, 16, 64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_operand_that_is_broadcast_is_stored(dtype):
    x, column = LONG.astype(dtype), LONG[0, :, :1].astype(dtype)

    def norm(x):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / fg.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)

    for f, args in (
        (norm, (x,)),
        (lambda x, c: fg.tanh(x * c) + c, (x, column)),
        (lambda r, c: fg.exp(-((r - c) ** 2)).sum(axis=-1), (x[0, 0], x[:, 0, :1])),
        (lambda x, c: fg.where(x > c, x, fg.broadcast_to(c, x.shape) * x), (x, column)),
    ):
        program = fg.compile(f).program(*args)
        assert "broadcast_to" not in instructions(program), str(program)
        assert str(program).count("fused") == 1, str(program)
    program = str(fg.compile(lambda x: fg.tanh(x[:, 1:9]) * fg.sin(x[:, 8:])).program(x))
    assert program.count("fused") == 1 and program.count(" block") >= program.count(" slice ") == 2, program


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(9, 2048), (70, 65)])
def test_a_cotangent_that_is_a_row_beside_a_column(shape, factor):
    """A derivative reads both in runs; alone it is no instruction, which would take the row for the whole cotangent."""
    rng = np.random.default_rng(0)
    x, column, row = rng.standard_normal(shape), rng.standard_normal(shape[0]), rng.standard_normal(shape[1])

    def f(x, column, row):
        return fg.vjp(lambda x: np.sum(x * column[:, None], axis=0), x)[1](row * factor)[0]

    compiled = fg.compile(f)
    for _ in range(2):
        np.testing.assert_allclose(compiled(x, column, row), column[:, None] * row * factor, rtol=1e-14)
