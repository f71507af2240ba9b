"""Native programs: loops and branches with steps that the interpreter runs, beside loops that it runs as a whole."""

import numpy as np
import pytest
from _native import agree, needs_compiler, own_directory, rounds_as_compiled_now  # noqa: F401
from _replay import random_graph
from test_compile_graphs import KINDS, does_not_fit, draw_inputs

import fastgrad as fg
from fastgrad import _core
from fastgrad._native import emit

RNG = np.random.default_rng(0)
pytestmark = needs_compiler


def factored(a, rows):
    """LAPACK and products in a scan."""

    def step(c, row):
        m = a @ a.T + 3 * np.eye(len(a)) + np.outer(row, row)
        x = np.linalg.solve(m, c) + row
        low = np.linalg.cholesky(m)
        return np.tanh(x @ low), (np.sum(np.log(np.diag(low))), x)

    c, (logarithms, xs) = fg.scan(step, np.ones(len(a)), rows)
    return np.sum(c * c) + np.sum(logarithms) + np.sum(xs**2)


def wide(x, w):
    """Carried values that are larger than a local array, products, one of which is added to in its place, and sorts."""

    def step(c, row):
        return np.tanh(c @ w * 0.1 + np.sort(row, axis=0)), np.sum(c * row)

    c, s = fg.scan(step, x, fg.stack([x * 0.1, x * 0.2, x[::-1]]))
    return np.sum(c * c) + np.sum(s)


def wide_while(x):
    """Large values that change their places, in a while_loop whose test sorts."""

    def step(c):
        i, a, b = c
        return i + 1, np.cumsum(b) * 0.1, a + np.sort(b)

    return fg.while_loop(lambda c: (c[0] < 5) & (np.sort(c[1])[0] < 50), step, (0, x, x[::-1] * 1.0))


def branching(x):
    def step(c):
        i, v, m = c
        m = np.linalg.inv(m + 5 * np.eye(9)) @ m + m
        v = fg.cond(
            np.sum(v) > 3,
            lambda v, m: np.sort(v) * 0.5,
            lambda v, m: np.linalg.solve(m + 9 * np.eye(9), v) + np.cumsum(m[0]),
            v,
            m,
        )
        return i + 1, v, m

    return fg.while_loop(lambda c: (c[0] < 6) & (np.sort(c[1])[0] < 50), step, (0, x, np.outer(x, x)))


def nested(x, a):
    def inner(c, row):
        return np.linalg.solve(a + np.eye(9) * 4 + np.diag(c), row + c), c[::-1]

    def outer(c, row):
        d, rows = fg.scan(inner, c, fg.stack([row, row * 2]), reverse=True)
        return d + np.sum(rows, 0) * 0.1, np.cumsum(d)

    c, ys = fg.scan(outer, np.ones(9), x)
    return np.sum(c**2) + np.sum(ys)


def ordered(x):
    """Rows and results of more than a vector, from the last row to the first."""
    c, ys = fg.scan(lambda c, row: (np.sort(c) * 0.9 + row, np.cumsum(c)), x[0], x, reverse=True)
    return np.sum(c**2 * np.arange(40)) + np.sum(ys * ys)


def flags(x):
    """A boolean and an integer that are carried, and functions of many elements."""

    def step(i, c):
        b, v, n = c
        return np.logical_xor(b, np.sum(v) > 2), np.sin(v) + np.cumsum(v) * 0.01, n // 2 + np.argmax(v)

    return fg.fori_loop(0, 5, step, (True, x, 1000))


def equal_constants(x):
    """Constants of equal elements, which are numbers in the text and arrays for the interpreter."""
    zeros = np.zeros((9, 9))

    def step(c, row):
        return np.linalg.solve(zeros + 4 * np.eye(9), c) + row, np.cumsum(zeros[0]) + np.sort(row)

    return fg.scan(step, x, np.zeros((5, 9)))


def swapped(x):
    def step(c, _):
        a, b = c
        return (b, np.sort(a)), (a, b, a + b)

    return fg.scan(step, (x, x[::-1] * 1.0), None, length=5)


def called(x):
    def step(c, row):
        y = fg.pure_callback(np.sort, fg.ShapeDtypeStruct((4,), x.dtype), c + row)
        return y * 0.5, np.sum(y)

    return fg.scan(step, x[0], x)


A = RNG.normal(size=(9, 9)) / 9
PROGRAMS = {
    "factored": (fg.value_and_grad(factored, (0, 1)), (A, RNG.normal(size=(5, 9)))),
    "factored, float32": (
        fg.value_and_grad(factored, (0, 1)),
        (A.astype(np.float32), RNG.normal(size=(5, 9)).astype(np.float32)),
    ),
    "wide": (wide, (RNG.normal(size=(20, 20)), RNG.normal(size=(20, 20)))),
    "gradient of wide": (fg.value_and_grad(wide, (0, 1)), (RNG.normal(size=(20, 20)), RNG.normal(size=(20, 20)))),
    "gradient of wider": (fg.value_and_grad(wide, (0, 1)), (RNG.normal(size=(50, 50)), RNG.normal(size=(50, 50)))),
    "wide_while": (wide_while, (RNG.normal(size=300),)),
    "branching": (branching, (RNG.normal(size=9),)),
    "nested": (fg.value_and_grad(nested, (0, 1)), (RNG.normal(size=(4, 9)), RNG.normal(size=(9, 9)))),
    "ordered": (fg.value_and_grad(ordered), (RNG.normal(size=(6, 40)),)),
    "flags": (flags, (RNG.normal(size=100),)),
    "equal_constants": (equal_constants, (RNG.normal(size=9),)),
    "swapped": (swapped, (RNG.normal(size=300),)),
    "swapped, small": (swapped, (RNG.normal(size=5),)),
    "called": (called, (RNG.normal(size=(5, 4)),)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_steps_of_bodies_run_in_the_interpreter(name):
    f, args = PROGRAMS[name]
    native, replay = fg.compile(f, native=True), fg.compile(f, native=False)
    for factor in (1.0, 0.9, 0.8):  # memory of a replay that has run before holds other values
        given = [(x * factor).astype(x.dtype) for x in args]
        found, expected, single = native(*given), replay(*given), name.endswith("float32")
        agree(found, expected, f"{name}: native beside the interpreter", ulps=16, single=single)
    program = native.program(*args)
    assert program.facts["native"]["runs"] == "native"
    source = emit.c_source(program)
    assert source.interpreted and not set(source.interpreted) & {"scan", "while_loop", "cond"}, name
    least = 0.4 if name == "gradient of wider" else 0.5  # groups load some of its long arrays
    assert least < source.share < 1 and program.facts["native"]["share"] == source.share, name


@pytest.mark.skipif(_core.isa() == "baseline", reason="products are the interpreter's without fused multiply-add")
@pytest.mark.parametrize(
    ("given", "dtype"), [("constant", np.float64), ("argument", np.float32), ("changing", np.float64)]
)
def test_products_of_a_loop_are_written_out(given, dtype):
    """Of a matrix that is turned before the loop, or is used as it is; by vectors and by narrow matrices."""
    x = RNG.normal(size=(100, 5)).astype(dtype)
    wide, square = (0.2 * RNG.normal(size=(8, n)).astype(dtype) for n in (32, 8))

    def loss(w, x):
        def step(w, _):
            m = x * np.sum(w) if given == "changing" else x
            slope = fg.grad(lambda w: np.sum(np.tanh(m @ w)))(w)
            return w - dtype(0.01) * slope, (np.sum(square @ wide), square @ np.tanh(wide * w[0]))

        w, (first, rows) = fg.scan(step, w, None, length=7)
        return w, np.sum(first), rows

    f, args = (lambda w: loss(w, x), (x[0],)) if given == "constant" else (loss, (x[0], x))
    compiled = fg.compile(f, native=True)
    agree(compiled(*args), fg.compile(f, native=False)(*args), given)
    source = emit.c_source(compiled.program(*args))
    assert ("turned" in source.text) == (given != "changing")
    assert "matmul" not in source.interpreted, source.text


@pytest.mark.parametrize(("length", "dtype"), [(31, np.float64), (45, np.float64), (32, np.float32)])
def test_what_reads_no_carried_value_is_computed_ahead(length, dtype):
    """In blocks of iterations, the last of which may be short: of rows given, and of the values of a forward pass."""

    def loss(x, rate, rows, reverse=False):
        def step(c, row):
            opens = np.exp(-(row**2)) / (1 + rate * row)
            kept = np.where(row > 0, opens, np.tanh(row) * rate)
            c = c + dtype(0.1) * (kept - np.exp(c / 4) * rate)
            return c, (kept, c * row)

        c, (kept, ys) = fg.scan(step, x, rows, reverse=reverse)
        return c + np.sum(ys) + np.sum(kept)

    args = dtype(0.3), dtype(0.7), RNG.normal(size=length).astype(dtype)
    for reverse in (False, True):
        f = fg.value_and_grad(lambda *args, r=reverse: loss(*args, r), (0, 1, 2))
        compiled = fg.compile(f, native=True)
        agree(compiled(*args), fg.compile(f, native=False)(*args), reverse)
        assert ("ahead" in compiled.program(*args).c_source()) == (length >= 32)


def test_what_is_computed_ahead_may_be_read_in_another_shape():
    rows, start = RNG.normal(size=(40, 1)), np.eye(1)
    f = lambda c, rows: fg.scan(lambda c, row: (c * 0.9 + row, c @ np.tanh(row)), c, rows)
    agree(fg.compile(f, native=True)(start, rows), fg.compile(f, native=False)(start, rows), "another shape")


@pytest.mark.skipif(_core.isa() == "baseline", reason="products are the interpreter's without fused multiply-add")
def test_products_are_written_out_by_their_shapes():
    """Rows, stacks, outer products, columns in vectors, sums over a long axis; plain, transposed, and added to."""
    shapes = [((36, 3), (3, 3)), ((3, 3), (4, 3, 3)), ((36, 1), (1, 3)), ((2, 8), (8, 13)), ((8, 5), (5, 32)),
              ((3, 20), (20, 3)), ((2, 3, 2, 2), (2, 3, 2, 3))]  # fmt: skip
    args = [RNG.normal(size=shape) for pair in shapes for shape in pair]

    def loss(*args):
        return sum(np.sum(np.matmul(a, b) ** 2) + np.sum((b.mT @ a.mT) * 3) for a, b in zip(args[::2], args[1::2]))

    f = fg.value_and_grad(loss, tuple(range(len(args))))
    compiled = fg.compile(f, native=True)
    agree(compiled(*args), fg.compile(f, native=False)(*args), "products")
    source = emit.c_source(compiled.program(*args))
    assert source.share > 0.9 and "product0(" in source.text, source.interpreted


def test_draws_in_a_loop_are_those_of_the_interpreter():
    drawn = []
    for how in (True, False):
        rng = fg.random.default_rng(3)
        x = RNG.normal(size=(5, 4)) * 0 + 1.5
        f = fg.compile(
            lambda x, rng=rng: fg.scan(lambda c, r: (c * 0.5 + rng.normal(size=4) + r, rng.normal()), x[0], x),
            native=how,
        )
        drawn.append([f(x) for _ in range(3)])
    agree(drawn[0], drawn[1], "draws")


@pytest.mark.parametrize("where", ["scan", "reverse", "while", "nested"])
def test_a_refused_matrix_is_told_as_by_the_interpreter(where):
    """The error names the step of each loop around it."""

    def step(c, x):
        return c + np.linalg.cholesky(np.eye(3) * (2 - x))[0, 0], c

    def f(x):
        if where == "while":
            return fg.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, step(c[1], x[2] * c[0])[0]), (0.0, x[0]))
        if where == "nested":
            return fg.fori_loop(0, 3, lambda i, c: fg.scan(step, c, x * i)[0], x[0])
        return fg.scan(step, 0.0, x, reverse=where == "reverse")

    good, bad = np.array([0.1, 0.2, 0.3, 0.2]), np.array([0.1, 0.2, 1.3, 0.2])
    bad *= 1 if where == "nested" else 2
    native, replay = fg.compile(f, native=True), fg.compile(f, native=False)
    agree(native(good), replay(good), where)
    told = []
    for compiled in (native, replay):
        with pytest.raises(np.linalg.LinAlgError) as error:
            compiled(bad)
        told.append(str(error.value))
    assert told[0] == told[1] and told[0].count("in step") == 1 + (where == "nested")
    agree(native(good), replay(good), f"{where}, after an error")


def random_loop(rng):
    """A loop whose body is a random graph of elementwise operations, sums, products, factorizations and orders."""
    shapes = [(), (1,), (5,), (3, 4), (3, 3), (2, 3, 2), (300,)]
    orders = [
        lambda k, x, y: [np.sort, np.cumsum][k % 2](np.reshape(x, -1)),
        lambda k, x, y: np.linalg.solve(x @ x.T * 0.1 + 3 * np.eye(len(x)), x) if x.ndim == 2 else np.sort(x),
    ]
    kinds = [*KINDS, *orders]
    graphs = []
    for _ in range(2):
        steps = [
            (kinds[rng.integers(len(kinds))], *map(int, rng.integers(0, 10_000, 3))) for _ in range(rng.integers(2, 7))
        ]
        graphs.append(random_graph(steps, does_not_fit, window=4, most=1000))
    shape, other = (shapes[i] for i in rng.integers(0, len(shapes), 2))
    kind, length, reverse = rng.integers(0, 3), int(rng.integers(1, 5)), bool(rng.integers(2))

    def advance(graph, c, d):
        made = graph(c, d)[-2:]
        return np.tanh(c * 0.7 + 0.1 * fg.sum(made[0])), np.tanh(d + 0.1 * fg.sum(made[-1] * made[-1])), made[-1]

    def f(x, y):
        if kind == 0:
            rows = fg.stack([y * k for k in (1.0, 0.5, -0.5, 0.2)[:length]])
            (c, d), rows = fg.scan(lambda c, r: ((s := advance(graphs[0], c[0], r))[:2], s[2]), (x, y), rows,
                                   reverse=reverse)  # fmt: skip
            return fg.sum(c * c) + fg.sum(d) + fg.sum(rows * rows)
        if kind == 1:
            step = lambda i, c: advance(graphs[0], *c)[:2]
            c, d = fg.fori_loop(0, length, step, (x, y))
            return fg.sum(c) + fg.sum(d * d)
        step = lambda i, c: fg.cond(fg.sum(c[0]) > 0, *[lambda c, d, g=g: advance(g, c, d)[:2] for g in graphs], *c)
        c, d = fg.fori_loop(0, length, step, (x, y))
        return fg.sum(c) * fg.sum(d)

    return (f if rng.random() < 0.3 else fg.value_and_grad(f, (0, 1))), [shape, other]


@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_random_loops(count):
    rng = np.random.default_rng(count)
    equal = total = 0
    for _ in range(count):
        f, shapes = random_loop(rng)
        args = draw_inputs(shapes, [np.float32, np.float64][rng.integers(2)], rng)
        with np.errstate(all="ignore"):
            try:
                expected = fg.compile(f, native=False)(*args)
            except (fg.TraceError, ValueError, TypeError, np.linalg.LinAlgError):
                continue
            compiled = fg.compile(f, native=True)
            found = [compiled(*args) for _ in range(2)][1]
        leaves = fg.tree.leaves(expected)
        if not all(np.isfinite(x).all() for x in leaves):
            continue
        agree(found, expected, str(compiled.program(*args)), ulps=4096)  # what cancels shows the last bits
        total += 1
        equal += all(np.array_equal(x, y) for x, y in zip(fg.tree.leaves(found), leaves))
    assert total >= 0.5 * count
    assert equal >= 0.9 * total or not rounds_as_compiled_now(), f"only {equal} of {total} have the interpreter's bits"
