"""Native programs: the C text of a program, compiled and loaded, gives what the interpreter and the eager run give."""

import math
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from _native import agree, native, needs_compiler, own_directory, rounds_as_compiled_now  # noqa: F401
from _replay import eagerly, random_graph
from test_compile_graphs import KINDS, does_not_fit, draw_inputs

import fastgrad as fg
from fastgrad._native import background, cache, compiler, emit
from fastgrad._native.error import CompilerError
from fastgrad._native.values import broadcast_strides, contiguous, index_text, literal


# ---- one value, one place ----------------------------------------------------------------------------------------
def test_literals_are_read_as_the_same_number():
    values = [0.1, -0.0, 1e300, 5e-324, math.inf, -math.inf, 1.0, -2.5]
    for x in [*map(np.float64, values), *map(np.float32, [0.1, -0.0, 3e38, 1e-45, 1.0])]:
        text = literal(x)
        assert ("." in text or "e" in text or "INF" in text) and text.endswith("f") == (x.dtype == np.float32), text
        if math.isfinite(x):
            assert x.dtype.type(text.removesuffix("f")).tobytes() == x.tobytes(), text
    integers = [np.int64(-(2**63)), np.int64(5), np.int64(2**40), np.uint64(2**63), np.bool_(True)]
    assert [literal(x) for x in integers] == ["INT64_MIN", "5", "INT64_C(1099511627776)",
                                              "UINT64_C(9223372036854775808)", "1"]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_indices_of_strided_and_broadcast_operands(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(0, 5)))
    memory = np.arange(1000)
    operand = tuple(n if rng.random() < 0.6 else 1 for n in shape)[rng.integers(0, len(shape) + 1) :]
    strides = broadcast_strides(operand, shape)
    expected = np.broadcast_to(memory[: math.prod(operand)].reshape(operand), shape).ravel()
    for where, wanted in (
        (strides, expected),
        (
            [contiguous(shape[::-1])[::-1][k] for k in range(len(shape))],
            memory[: math.prod(shape)].reshape(shape[::-1]).T.ravel(),
        ),
    ):
        text = index_text("i", shape, where).replace("/", "//")
        found = [memory[eval(text, {"i": i})] for i in range(math.prod(shape))]
        np.testing.assert_array_equal(found, wanted, err_msg=f"{operand} as {shape}: {text}")
    assert broadcast_strides((3,), (4,)) is None


# ---- results -----------------------------------------------------------------------------------------------------
def neuron(current, n=50):
    """Some steps of a neuron model: exponentials, quotients and powers of numbers."""

    def step(state, _):
        v, m = state
        a, b = 0.1 * (v + 40) / (1 - np.exp(-(v + 40) / 10)), 4 * np.exp(-(v + 65) / 18)
        v_new = v + 0.02 * (current - 12 * m * m * m * (v - 5) - 0.3 * (v + 54.4))
        return (v_new, m + 0.02 * (a * (1 - m) - b * m)), v

    (_, m), vs = fg.scan(step, (-65.3, 0.05), None, n)
    return np.mean(vs * vs) + m


def filtered(a, p):
    """A Kalman-like recursion on matrices: small products, outer products, a root."""

    def step(f, x):
        c = np.sqrt(2.5 + x @ f @ x)
        w = (x - a @ (f @ x)) / c
        return 0.9 * a @ f @ a.T + np.outer(w, w), (c, w)

    f, (c, w) = fg.scan(step, np.eye(3), p)
    return np.sum(np.log(c)) + np.sum(w * w) + np.trace(f)


def branches(x):
    """A while_loop with a cond in it, on floats, integers and a vector."""

    def step(c):
        i, y, v = c
        y = fg.cond(y > 2, lambda y: y * 0.5, lambda y: y * 1.7 + 0.1, y)
        return i + 1, y, v * 0.9 + y

    return fg.while_loop(lambda c: (c[0] < 20) & (c[1] < 100), step, (0, x, np.ones(3)))


def powers(x):
    return fg.fori_loop(0, 6, lambda i, c: c * x + fg.where(i > 2, x, 1.0), x)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def backwards(x):
    return fg.scan(lambda c, row: (np.tanh(c * 0.5 + row), c.sum()), np.zeros(4), x, reverse=True)


def gathered(x, w):
    """Rows by an index that a loop computes, the softmax family, extrema, integers."""

    def step(i, c):
        row = fg.take(w, (2 * i + 1) % 4, axis=0)
        p = fg.softmax(c * 0.1 + row, axis=-1)
        top = fg.max(p) - fg.min(row * c) + fg.logsumexp(c, axis=-1)
        return c.at[i].set(top) * 0.7 + fg.log_softmax(row, axis=-1)

    c = fg.fori_loop(0, 5, step, x)
    return np.sum(c * c) + np.sum(fg.take(w, np.array([3, 0, 3]), axis=0) * c)


def spread(x, row, column):
    """Long steps whose operands are rows, columns, backwards, and gathered."""
    y = fg.tanh(x * column + row) / (1 + column * column)
    y = y - y.mean(axis=1, keepdims=True) + x[:, ::-1] + fg.take(x, np.arange(40) % 7, axis=0)
    return np.sum(y * y + fg.where(y > column, y, row))


RNG = np.random.default_rng(0)
A, P = RNG.normal(size=(3, 3)) / 3, RNG.normal(size=(20, 3))
PROGRAMS = {
    "neuron": (fg.value_and_grad(neuron), (9.5,)),
    "filtered": (fg.value_and_grad(filtered, (0, 1)), (A, P)),
    "branches": (branches, (0.7,)),
    "gathered": (fg.value_and_grad(gathered, (0, 1)), (RNG.normal(size=6), RNG.normal(size=(4, 6)))),
    "powers": (fg.value_and_grad(powers), (1.1,)),
    "rosenbrock": (fg.value_and_grad(rosenbrock), (RNG.normal(size=11),)),
    "hessian": (fg.hessian(rosenbrock), (RNG.normal(size=5),)),
    "backwards": (backwards, (RNG.normal(size=(7, 4)),)),
    "gradient backwards": (fg.grad(lambda x: fg.sum(backwards(x)[1]) ** 2), (RNG.normal(size=(7, 4)),)),
    "float32": (fg.value_and_grad(rosenbrock), (RNG.normal(size=40).astype(np.float32),)),
    "spread": (
        fg.value_and_grad(spread, (0, 1, 2)),
        (RNG.normal(size=(40, 70)), RNG.normal(size=70), RNG.normal(size=(40, 1))),
    ),
    "mapped": (fg.vmap(fg.grad(neuron)), (np.linspace(8, 10, 5),)),
}


@needs_compiler
@pytest.mark.parametrize("name", PROGRAMS)
def test_native_beside_replay_beside_eager(name):
    f, args = PROGRAMS[name]
    compiled = native(f, *args)
    program = compiled.program(*args)
    replay = fg.compile(f, native=False)
    for factor in (1.0, 0.9):
        given = [np.asarray(x * factor, x.dtype) if isinstance(x, np.ndarray) else x * factor for x in args]
        found = compiled(*given)
        agree(found, replay(*given), f"{name}: native beside the interpreter", ulps=16)
        agree(found, eagerly(f, *given) if name in ("branches", "backwards") else f(*given), f"{name}: beside eager")
    left = emit.c_source(program).interpreted
    assert not set(left) & {"scan", "while_loop", "cond", "matmul", "sum"}, f"{name}: {left} are not written out"


@needs_compiler
@pytest.mark.skipif(not rounds_as_compiled_now(), reason="the kernels were built to round otherwise")
def test_bits_are_those_of_the_interpreter_where_no_function_is_called():
    """Sums, products and quotients are rounded one by one, in the interpreter's order."""

    def f(x, a, b):
        def step(c, row):
            y = a * c - row * b + c / (1.5 + row * row)
            return y, y @ y - np.sum(row * c)

        c, ys = fg.scan(step, x, fg.stack([x * 0.5, b, a * b]))
        return c * c - a * b, ys, np.sum(x * a - b), np.outer(x, b) - np.outer(a, c)

    args = [RNG.normal(size=7) for _ in range(3)]
    for g in (f, fg.grad(lambda *args: sum(fg.sum(v * v) for v in f(*args)), (0, 1, 2))):
        found, expected = native(g, *args)(*args), fg.compile(g)(*args)
        for x, y in zip(fg.tree.leaves(found), fg.tree.leaves(expected)):
            np.testing.assert_array_equal(x, y)


def random_program(rng):
    shapes = [(), (1,), (5,), (3, 4), (1, 4), (3, 1), (2, 3, 2), (2500,)]
    steps = [
        (KINDS[rng.integers(len(KINDS))], *map(int, rng.integers(0, 10_000, 3))) for _ in range(rng.integers(2, 9))
    ]
    graph = random_graph(steps, does_not_fit, window=4, most=4000)
    numbers = tuple(range(rng.integers(1, 3)))
    inputs = [shapes[rng.integers(len(shapes))] for _ in numbers]

    def loss(*args):
        return sum((fg.sum(v * v) for v in graph(*args)[-3:]), start=fg.sum(args[0]))

    return fg.value_and_grad(loss, numbers), inputs


@needs_compiler
@pytest.mark.parametrize("count", [3, pytest.param(120, marks=pytest.mark.slow)])
def test_random_programs(count):
    rng = np.random.default_rng(count)
    equal = total = 0
    for _ in range(count):
        f, shapes = random_program(rng)
        args = draw_inputs(shapes, [np.float32, np.float64][rng.integers(2)], rng)
        with np.errstate(all="ignore"):
            try:
                expected = fg.compile(f)(*args)
            except fg.TraceError:
                continue
            found = native(f, *args)(*args)
            if not math.isfinite(expected[0]):
                continue
            agree(found, expected, str(fg.compile(f).program(*args)), ulps=4096)  # what cancels shows the last bits
        total += 1
        equal += all(np.array_equal(x, y) for x, y in zip(fg.tree.leaves(found), fg.tree.leaves(expected)))
    assert equal >= 0.9 * total or not rounds_as_compiled_now(), (
        f"only {equal} of {total} programs have the interpreter's bits"
    )


@needs_compiler
def test_steps_that_are_not_written_out_run_in_the_interpreter():
    rng = fg.random.default_rng(3)

    def f(a, b):
        x = np.linalg.solve(a @ a.T + 20 * np.eye(9), b)
        noise = rng.normal(size=9)
        return np.tanh(x) * 2 + np.sort(b) + noise, fg.pure_callback(np.sum, fg.ShapeDtypeStruct((), b.dtype), x * b)

    args = RNG.normal(size=(9, 9)), RNG.normal(size=9)
    compiled = fg.compile(f, native=True)
    found = compiled(*args)
    source = emit.c_source(compiled.program(*args))
    assert {"solve", "random", "numpy"} <= set(source.interpreted) and source.n_steps > 3
    rng = fg.random.default_rng(3)
    agree(found, [v.numpy() for v in eagerly(f, *args)] and tuple(found), "shapes")
    rng = fg.random.default_rng(3)
    other = fg.compile(f)(*args)
    np.testing.assert_allclose(found[1], other[1], rtol=1e-12)
    assert not np.array_equal(compiled(*args)[0], found[0])  # it draws again


@needs_compiler
def test_long_programs_keep_their_values_in_the_arena():
    """More local arrays than a stack may hold; and a loop that draws, a step of the interpreter."""
    rng = fg.random.default_rng(0)

    def f(x):
        total = x
        for k in range(24):
            x = np.tanh(np.concatenate([x[1:], x[:1]]) * (1 + k / 24))
            total = total + x[::-1]
        return total, fg.scan(lambda c, _: (c + 0 * rng.normal(), c), 0.5, None, length=3)[0]

    x = RNG.normal(size=250)
    agree(fg.compile(f, native=True)(x), fg.compile(f)(x), "long program", ulps=16)


@needs_compiler
def test_constants_of_bodies_too_large_for_the_text():
    w, table = RNG.integers(-9, 9, (300, 4)), np.arange(200.0) ** 2  # large arrays of floats are inputs

    def inner(c, i):
        return fg.while_loop(lambda s: s[1] < 3, lambda s: (s[0] + fg.take(table, s[1] + i), s[1] + 1), (c, 0))[0]

    def f(x):
        return fg.fori_loop(0, 4, lambda i, c: inner(c * 0.5, i) + fg.take(w, 3 * i, axis=0), x)

    compiled = native(f, np.ones(4))
    agree(compiled(np.ones(4)), fg.compile(f)(np.ones(4)), "large constants")
    source = emit.c_source(compiled.program(np.ones(4)))
    assert source.text.count("s->constant(") == 2 and not source.interpreted


@needs_compiler
def test_errors_of_a_step_travel_out_of_native_code():
    compiled = fg.compile(lambda a: 2 * np.linalg.cholesky(a), native=True)
    compiled(np.eye(3))
    with pytest.raises(np.linalg.LinAlgError):
        compiled(-np.eye(3))
    np.testing.assert_array_equal(compiled(np.eye(3)), 2 * np.eye(3))


def tower(x, y):
    """Functions of numbers, some of which need others' results, of two dtypes, and too many for one vector."""

    def step(c, _):
        a, b = c
        many = [np.exp(-a * a * (1 + k / 10)) for k in range(11)]
        deep = np.tanh(np.exp(np.sin(a)) - np.exp(b) + np.log(many[3] + 2))
        few = np.tanh(np.float32(0.5) * fg.astype(a, np.float32)) + np.tanh(fg.astype(b, np.float32))
        return (a + 0.1 * deep - sum(many) / 40, b * 0.9 + 0.1 * np.sqrt(many[10] + 1)), fg.astype(few, np.float64)

    (a, b), few = fg.scan(step, (x, y), None, length=20)
    return a * b + np.sum(few)


@needs_compiler
def test_functions_of_several_numbers_are_computed_side_by_side():
    args = 0.3, -0.2
    programs = (
        (tower, True), (fg.value_and_grad(tower, (0, 1)), True),
        (lambda x, y: np.exp(x) * np.exp(y) + np.exp(x - y), False),
    )  # fmt: skip
    for f, single in programs:
        compiled, replay = native(f, *args), fg.compile(f, native=False)
        for given in (args, (-1.5, 2.0)):
            found = compiled(*given)
            assert np.isfinite(fg.tree.leaves(found)).all()
            agree(found, replay(*given), "side by side, beside the interpreter", ulps=16, single=single)
            agree(found, f(*given), "side by side, beside eager", ulps=16, single=single)
        assert "lanes" in compiled.program(*args).c_source()


@needs_compiler
def test_elements_that_do_not_fill_a_vector():
    """Short loops of long functions, over any number of elements, also backwards, on parts, and in place."""

    def f(x, y, p):
        z = np.tanh(x[::-1]) ** 2 + np.exp(y * p) * x
        z = np.log1p(z * z) / (1 + np.exp(-z))
        return z, np.exp(z[1:]) - z[:-1], np.sum(np.tanh(np.concatenate([z, x])))

    gradient = fg.grad(lambda *args: sum(fg.sum(v * v) for v in f(*args)), (0, 1, 2))
    for g, n, dtype in ((f, 13, np.float64), (gradient, 13, np.float64), (gradient, 7, np.float32)):
        args = [RNG.normal(size=n).astype(dtype), RNG.normal(size=n).astype(dtype), dtype(0.7)]
        agree(native(g, *args)(*args), fg.compile(g, native=False)(*args), f"{n} {dtype}", ulps=16)


@needs_compiler
def test_functions_of_a_number_and_an_array_become_loops_of_vectors():
    """GCC makes none where it can compute conditions on the number before the loop."""
    f = lambda x, p: (x**p, p**x, fg.hypot(x, p))
    args = RNG.uniform(0.5, 2, 37), 2.3
    compiled = native(f, *args)
    agree(compiled(*args), fg.compile(f, native=False)(*args), "powers", ulps=4)
    text = compiled.program(*args).c_source()
    assert re.search(r"power_f64\(\w+\[i\], EACH_f64\(\w+, i\)\)", text), text
    assert re.search(r"power_f64\(EACH_f64\(\w+, i\), \w+\[i\]\)", text), text


@needs_compiler
@pytest.mark.parametrize("n", [7, 15, 17])
def test_a_view_of_what_the_same_loop_computes(n):
    """The elements that do not fill a vector are computed beside unused ones, and are in memory after the loop only."""

    def f(x):
        reversed_rows = np.reshape(np.reshape(x, n)[::-1], (1, n))
        return reversed_rows * x, np.sum(np.sin(np.tanh(x)), axis=1)

    x = np.random.default_rng(n).standard_normal((1, n))
    compiled = fg.compile(f, native=True)
    for _ in range(3):
        agree(compiled(x), fg.tree.map(np.asarray, f(fg.tensor(x))), "a view")


@needs_compiler
def test_an_index_out_of_range_is_told_as_by_the_interpreter():
    compiled = native(lambda x, i: fg.scan(lambda c, k: (c + x[k], c), 0.0, i)[0], np.arange(3.0), np.array([0, -1]))
    assert compiled(np.arange(3.0), np.array([2, -3])) == 2
    for bad in (3, -4):
        with pytest.raises(IndexError, match=f"take: index {bad} at position 0 is outside an axis of length 3"):
            compiled(np.arange(3.0), np.array([0, bad]))
    assert compiled(np.arange(3.0), np.array([1, 2])) == 3


@needs_compiler
def test_a_call_that_fails_at_an_index_has_drawn_once():
    """The draws after it are those of the interpreter, whose generator has advanced as far."""
    drawn = []
    for how in (True, False):
        rng = fg.random.default_rng(3)
        f = fg.compile(lambda x, i, rng=rng: rng.normal(size=3) + x[i], native=how)
        f(np.arange(3.0), np.array([0, 1, 2]))
        with pytest.raises(IndexError, match="take: index 3 at position 1 is outside an axis of length 3"):
            f(np.arange(3.0), np.array([0, 3, 4]))
        drawn.append(f(np.arange(3.0), np.array([0, -1, 2])))
    agree(drawn[0], drawn[1], "draws")


@needs_compiler
def test_training_steps(monkeypatch):
    x, y = RNG.normal(size=(30, 3)), RNG.normal(size=30)

    def loss(p, x, y):
        return np.mean((np.tanh(x @ p["w"] + p["b"]) @ p["v"] - y) ** 2)

    found = []
    for how in ("0", "1"):
        monkeypatch.setenv("FASTGRAD_NATIVE", how)
        rng = np.random.default_rng(1)
        p = {"w": rng.normal(size=(3, 4)), "b": np.zeros(4), "v": rng.normal(size=4)}
        step = fg.training_step(loss, p, fg.optim.Adam(0.05))
        found.append(([step(x, y) for _ in range(8)], p))
        assert step.program(x, y).facts["native"]["runs"] == ("native" if how == "1" else "interpreter")
    agree(found[1], found[0], "training steps")


@needs_compiler
def test_threads_run_one_native_program_at_once():
    compiled = native(lambda x: fg.scan(lambda c, r: (np.tanh(c + r), c), x[0], x), RNG.normal(size=(3000, 5)))
    inputs = [RNG.normal(size=(3000, 5)) for _ in range(4)]
    expected = [compiled(x) for x in inputs]
    wrong = []

    def work(x, y):
        for _ in range(10):
            found = compiled(x)
            if not (np.array_equal(found[0], y[0]) and np.array_equal(found[1], y[1])):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@needs_compiler
def test_ctrl_c_ends_a_native_loop():
    program = """
import _thread, threading, fastgrad as fg
f = fg.compile(lambda x: fg.while_loop(lambda c: c < 1e300, lambda c: c + 1e-9, x), native=True)
f(2e300)
threading.Timer(0.2, _thread.interrupt_main).start()
try:
    f(0.0)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n", done.stderr


# ---- the text ----------------------------------------------------------------------------------------------------
def test_the_text_reads_as_the_program_does():
    text = fg.compile(lambda n: fg.while_loop(lambda c: c < n, lambda c: c * 1.5 + 1, 0.0)).program(9.0).c_source()
    for line in (
        "for (;;) {",
        "if (!v2_1) break;",
        "const double v3_2 = SEPARATE_f64(multiply_f64(carry0_2, 1.5));",
        "const double v5_2 = add_f64(v3_2, 1.0);",
        "carry0_2 = v5_2;",
    ):
        assert line in text, text
    assert all(len(line) < 200 for line in text.splitlines())


@needs_compiler
def test_the_text_compiles_without_warnings(tmp_path):
    strict = ["-Wall", "-Wextra", "-Wno-unused-variable", "-Werror"]
    for name in ("neuron", "gathered"):
        f, args = PROGRAMS[name]
        source = tmp_path / "program.c"
        source.write_text(fg.compile(f).program(*args).c_source())
        line = [a for a in compiler.command_line(compiler.find(), source, tmp_path / "p.so") if a not in ("-w", "-O3")]
        try:
            compiler.run([*line, *strict, "-O0", "-fsyntax-only"], 60)
        except CompilerError as error:
            pytest.fail(f"{name}: {error}")


# ---- what is asked for, and what is told -------------------------------------------------------------------------
def test_other_words_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="compile: native must be True, False or 'auto', not 'yes'"):
        fg.compile(np.sum, native="yes")
    monkeypatch.setenv("FASTGRAD_NATIVE", "maybe")
    with pytest.raises(ValueError, match="FASTGRAD_NATIVE=maybe: expected 0, 1 or auto"):
        fg.compile(np.sum)


@needs_compiler
def test_facts_tell_what_runs(tmp_path):
    x = np.ones(3)
    facts = fg.compile(np.tanh).program(x).facts["native"]
    assert facts["runs"] == "interpreter" and facts["text"] is None and "not asked for" in facts["why"]
    facts = native(lambda x: np.tanh(x) + 1, x).program(x).facts["native"]
    assert facts["share"] == 1 and facts["seconds"] > 0 and "fg_native_program" in Path(facts["text"]).read_text()
    config = fg.show_config(mode="dicts")["native"]
    assert config["compiler"] and config["why"] is None and config["directory"] == str(cache.directory())


@needs_compiler
def test_auto_takes_over_between_two_calls(monkeypatch):
    monkeypatch.setattr(background, "PAYS_AFTER", 1e4)
    compiled, x = fg.compile(fg.value_and_grad(neuron), native="auto"), 9.4
    expected = [compiled(x) for _ in range(2)][0]
    for _ in range(200):
        compiled(x)
    assert background.wait(60)
    facts = compiled.program(x).facts["native"]
    assert facts["runs"] == "native", facts
    agree(compiled(x), expected, "native beside the interpreter")


def test_auto_leaves_programs_alone_that_run_seldom():
    compiled = fg.compile(lambda x: x * 2 + 1, native="auto")
    for _ in range(20):
        compiled(1.0)
    assert background.wait(10)
    assert compiled.program(1.0).facts["native"]["runs"] == "interpreter"


def test_no_storm_of_compilers(monkeypatch):
    """Shapes that change at each call: nothing is compiled."""
    made = []
    monkeypatch.setattr(background, "make_native", made.append)
    compiled = fg.compile(lambda x: np.sum(np.tanh(x)), native="auto")
    for n in range(1, 60):
        compiled(np.ones(n))
    assert background.wait(10)
    assert not made
