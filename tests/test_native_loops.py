"""Native programs: elementwise steps, sums, rows, columns and products that are written as loops, beside the
interpreter, whose bits they have."""

import re

import numpy as np
import pytest
from _native import agree, native, needs_compiler, own_directory, rounds_as_compiled_now  # noqa: F401

import fastgrad as fg
from fastgrad._native import emit

RNG = np.random.default_rng(0)
pytestmark = needs_compiler


def check(f, args, what, whole=True):
    """f has the interpreter's bits; if `whole`, all of it is written out. Returns the text."""
    compiled, replay = native(f, *args), fg.compile(f, native=False)
    single = any(x.dtype == np.float32 for x in args)  # a result that is a Python float does not tell
    for factor in (1.0, 0.7):  # memory of a replay that has run before holds other values
        given = [(x * factor).astype(x.dtype) for x in args]
        found, expected = compiled(*given), replay(*given)
        agree(found, expected, what, ulps=16, single=single)
        if rounds_as_compiled_now():
            for x, y in zip(fg.tree.leaves(found), fg.tree.leaves(expected)):
                np.testing.assert_array_equal(x, y, err_msg=what)
    source = emit.c_source(compiled.program(*args))
    assert not (whole and source.interpreted), f"{what}: {source.interpreted} are not written out"
    return source.text


# ---- neighbouring elements ---------------------------------------------------------------------------------------
def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def bending(x):
    """Second differences, and a sum of another length."""
    d = x[2:] - 2 * x[1:-1] + x[:-2]
    return np.sum(d * d) + np.sum(x * x)


def halves(x):
    """Two parts, side by side, and a part that is used as it is, too."""
    n = len(x) // 2
    return np.sum(np.concatenate([x[:n] * 2, x[n:] * x[n:]]) ** 2) + np.sum(np.sqrt(x[:n] * x[:n] + 1))


@pytest.mark.parametrize(("n", "dtype"), [(3, "float64"), (33, "float64"), (1000, "float32"), (9001, "float64")])
def test_neighbours_are_read_in_one_loop(n, dtype):
    x = RNG.normal(size=n).astype(dtype)
    check(lambda x: [fg.value_and_grad(f)(x) for f in (rosenbrock, bending, halves)], [x], f"{n} {dtype}", False)
    text = fg.compile(fg.value_and_grad(rosenbrock)).program(x).c_source()
    assert text.count("f->arena") <= 1 and "run_step" not in text  # nothing but the value goes through memory


def test_a_sum_that_a_loop_leaves_for_later_is_written_by_itself():
    """Its operand takes over the memory of what the loop reads elsewhere."""

    def f(x, y, w):
        d = x - w
        joined = np.concatenate([x[500:], y[:500]]) + d
        scaled = d * w
        return joined, scaled, np.sum(scaled * joined)

    check(f, RNG.normal(size=(3, 1032)), "a sum")


def random_stencil(rng, n):
    """A random program of differences, products and sums of parts of a vector."""
    plan = [(int(rng.integers(5)), int(rng.integers(100)), int(rng.integers(1, 4))) for _ in range(rng.integers(2, 7))]

    def f(x):
        known, total = [x], 0.0
        for kind, which, k in plan:
            a, b = known[which % len(known)], known[which // 3 % len(known)]
            if kind == 0 and a.shape[0] > k:
                known.append(a[k:] - a[:-k])
            elif kind == 1 and a.shape[0] > 2 * k:
                known.append(a[k:-k] * a[: -2 * k])
            elif kind == 2:
                m = min(a.shape[0], b.shape[0])
                known.append(a[:m] + b[-m:] * 0.5)
            elif kind == 3:
                total = total + np.sum(a * a)
            else:
                known.append(a * 0.5 - k)
        return total + np.sum(known[-1] ** 2)

    return fg.value_and_grad(f), [rng.normal(size=n)]


@pytest.mark.parametrize("count", [3, pytest.param(150, marks=pytest.mark.slow)])
def test_random_stencils(count):
    rng = np.random.default_rng(count)
    for k in range(count):
        f, args = random_stencil(rng, int(rng.choice([9, 40, 700, 5000])))
        check(f, args, f"stencil {k}: {fg.compile(f).program(*args)}", False)


# ---- rows and columns --------------------------------------------------------------------------------------------
def normalized(x, g, b):
    """Means and variances of rows, which later steps of the same group read."""
    c = x - x.mean(axis=1, keepdims=True)
    return np.sum((c / np.sqrt(np.mean(c * c, axis=1, keepdims=True) + 1e-5) * g + b) ** 2)


def scaled(x, row, column):
    """Rows, columns, and the sums of both."""
    return np.sum(np.tanh(x * row + column) * row) + np.sum(np.max(x, axis=1) * column[:, 0])


def centered(x, column):
    """Means and extremes of rows, and products with the sum of all."""
    c = x - x.mean(axis=1, keepdims=True)
    return np.sum((c * np.sum(c)) ** 2) + np.sum(np.max(x, axis=1) * column[:, 0])


def summed(x, row):
    """Sums of many columns."""
    return np.sum(np.cos(row) * np.sum(np.exp(-x * x + row) * x, axis=0))


def layered(w, b, v, x, y):
    """Products of a few rows at a time, with the steps that read them."""
    return np.mean((np.tanh(x @ w + b) @ v - y) ** 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_groups_of_rows(dtype):
    def draw(*shape):
        return RNG.normal(size=shape).astype(dtype)

    work = (
        (normalized, (draw(300, 64), draw(64), draw(64))),
        (normalized, (draw(70, 50), draw(50), draw(50))),
        (scaled, (draw(150, 48), draw(48), draw(150, 1))),
        (centered, (draw(70, 100), draw(70, 1))),
        (summed, (draw(777, 33), draw(33))),
        (summed, (draw(40, 160), draw(160))),
        (layered, (draw(10, 64), draw(64), draw(64, 3), draw(1000, 10), draw(1000, 3))),
    )
    work = work[dtype == np.float32 :: 2]  # compilers take a second for each half
    flat = [x for _, args in work for x in args]

    def all_of_them(*flat):
        found, given = [], iter(flat)
        for f, args in work:
            found.append(fg.value_and_grad(f, tuple(range(len(args))))(*(next(given) for _ in args)))
        return found

    check(all_of_them, flat, f"groups of rows, {dtype.__name__}", False)
    for f, args in work:
        if f in (scaled, centered) or len(args[1]) == 160:
            continue  # some of it, as a long cosine, is the interpreter's
        text = fg.compile(fg.grad(f, tuple(range(len(args))))).program(*args).c_source()
        assert "count" in text and "run_step" not in text, f.__name__
        unaligned = re.findall(r"^ +(?:double|float) \w+\[(?:1[7-9]|[2-9]\d|\d{3,})\];", text, re.MULTILINE)
        assert not unaligned, f"gcc 12 expects more of what is left of a loop over vectors: {unaligned}"


def test_rows_of_few_elements_are_read_in_whole_vectors():
    sizes = [(rows, width) for width in (3, 10, 16, 100) for rows in (5, 33)]

    def f(*args):
        triples = zip(args[::3], args[1::3], args[2::3])
        return [fg.value_and_grad(lambda x, row, y: np.sum((x + row - y) ** 2 * row), (0, 1))(*t) for t in triples]

    args = [RNG.normal(size=s) for rows, width in sizes for s in ((rows, width), width, (rows, width))]
    text = check(f, args, "short rows", False)
    assert "rows1" in text and "% 3]" not in text


# ---- loads of fused groups -----------------------------------------------------------------------------------------
def random_loads(rng, dtype):
    """A random program of joined, padded and gathered matrices between elementwise steps, with its sums."""
    rows, width = int(rng.choice([48, 131])), int(rng.choice([48, 61, 96]))
    plan = [(int(rng.integers(7)), int(rng.integers(1, 20)), int(rng.integers(20))) for _ in range(3)]
    index = rng.integers(-rows, rows, (3, rows))

    def f(x, w):
        y, total = x, 0.0
        for (kind, k, j), i in zip(plan, index):
            a = fg.exp(-y * y) if kind % 2 else y * w + k
            if kind == 0:
                y = fg.concatenate([a[k:], y[:k] * 2])
            elif kind == 1:
                y = fg.concatenate([a[:, k:], y[:, :k]], axis=1)
            elif kind == 2:
                y = fg.pad(a, ((k, 0), (0, j)))[: a.shape[0], : a.shape[1]] - y
            elif kind == 3:
                y = fg.pad(y, ((j, k), (k, j)))[j : j + y.shape[0], k : k + y.shape[1]] + a
            elif kind == 4:
                y = a[i] * y
            elif kind == 5:
                y = fg.stack([a, y], axis=1).reshape(2 * rows, width)[:rows] * w
            else:
                total = total + fg.sum(a * a)
        return fg.sum(fg.tanh(y) * w) + total

    return fg.value_and_grad(f, (0, 1)), [rng.normal(size=(rows, width)).astype(dtype) for _ in range(2)]


@pytest.mark.parametrize("count", [4, pytest.param(120, marks=pytest.mark.slow)])
def test_random_loads(count):
    rng = np.random.default_rng(count)
    for k in range(count):
        f, args = random_loads(rng, (np.float64, np.float32)[k % 2])
        check(f, args, f"loads {k}: {fg.compile(f).program(*args)}", False)


def test_loads_are_written_in_the_loop_that_reads_them():
    rng = np.random.default_rng(0)
    named = rng.integers(-40, 40, 90)
    at = rng.integers(-300, 300, 3000)
    work = {
        "joined": (lambda a, b: fg.tanh(fg.concatenate([a, b]) * 2), [3000, 2000]),
        "joined rows": (lambda a, b: fg.sum(fg.concatenate([a, b], axis=1) ** 2 * 3), [(60, 30), (60, 35)]),
        "padded": (lambda a: fg.tanh(fg.pad(a, 3) + 1), [4000]),
        "padded rows": (lambda a: fg.exp(fg.pad(a, ((1, 2), (3, 2))) * 2), [(60, 59)]),
        "gathered": (lambda a, b: fg.tanh(a[at] * b), [300, 3000]),
        "gathered rows": (lambda a, b: fg.sum((a[named] - b) ** 2), [(40, 33), (90, 33)]),
    }
    for name, (f, shapes) in work.items():
        args = [rng.normal(size=shape) for shape in shapes]
        program = fg.compile(f).program(*args)
        assert any(kind in str(program) for kind in ("concatenate", "unslice", "take")), name
        assert "run_step" not in check(f, args, name), name


def test_zeros_around_slices_keep_their_signs():
    """A sum of padded slices is -0 only where each of them is."""
    x = np.where(np.arange(6000) % 3, -0.0, 1.0).reshape(60, 100)
    f = fg.grad(lambda a, b: fg.sum(a[1:] * b[1:]) + fg.sum(a[:-2] * b[:-2]) + fg.sum(a[:, 3:] * b[:, 3:]))
    compiled = (fg.compile(f, native=native) for native in (False, True))
    expected, found = (np.asarray(g(x, -x * x)) for g in compiled)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


# ---- products ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products(dtype):
    """In tiles, whole or cut off, of several in a row, turned, of copied operands; and by the kernel."""
    sizes = [(32, 16, 4), (32, 3, 16), (16, 3, 32), (4, 16, 32), (7, 9, 11), (13, 64, 5), (40, 30, 20), (5, 33, 6),
             (13, 1, 20), (9, 36, 7), (11, 41, 13), (32, 10, 32), (17, 20, 40), (60, 50, 70),
             (50, 60, 70)][dtype == np.float32 :: 2]  # fmt: skip

    def f(*pairs):
        found = []
        for a, b in zip(pairs[::2], pairs[1::2]):
            found += [a @ b, *fg.grad(lambda a, b: np.sum((a @ b) ** 2), (0, 1))(a, b)]
        return found

    args = [RNG.normal(size=s).astype(dtype) for m, n, k in sizes for s in ((m, k), (k, n))]
    args += [RNG.normal(size=s).astype(dtype) for s in ((1, 17, 1), (1, 1, 1))]  # of a stack of one, a dot product
    text = check(f, args, "products", False)
    assert "tile_f" in text and "s->gemm" in text


def test_products_of_one_kind_share_a_function():
    """Compilers would take long for a program that has the text of each."""

    def f(x, *ws):
        return [np.tanh(x @ w) for w in ws]

    args = [RNG.normal(size=(6, 20)), *RNG.normal(size=(40, 20, 20))]
    text = check(f, args, "shared", False)
    assert text.count("(const double *a, const double *b, double *y)") == 1 and text.count("product0(") == 41


def test_a_function_of_a_short_row_that_ends_within_a_vector():
    """It is a step alone, which no rows serve, whatever comes before and after it."""
    row, x = np.array([0.5, 1.5, 2.5]), RNG.uniform(0.5, 2.0, size=(3, 3))
    check(lambda row, x: [fg.special.xlog1py(row, x)], [row, x], "alone", False)
    check(lambda row, x: [fg.special.xlog1py(row, x * 2) * x + row], [row, x], "among others", False)
