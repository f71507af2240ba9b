"""Programs: what the passes make of a trace, how they are shown, and replays at the same time."""

import re
import threading
import time

import numpy as np
import pytest
from _replay import eager_arrays, instructions

import fastgrad as fg

RNG = np.random.default_rng(0)


# ---- memory -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [100, 10_000])
def test_a_chain_of_elementwise_steps_needs_one_buffer(n):
    def f(x):
        for _ in range(20):
            x = fg.tanh(x * 1.5)
        return x[::2]  # so that the last of the chain is no output

    x = RNG.standard_normal(n)
    compiled = fg.compile(f)
    facts = compiled.program(x).facts
    assert facts["separate_bytes"] > 39 * 8 * n
    assert facts["peak_bytes"] < 2 * 8 * n
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x), eager_arrays(f, x))


def test_a_value_that_is_read_later_keeps_its_buffer():
    def f(x):
        a = fg.exp(x)
        b = fg.tanh(a)  # may not overwrite a
        c = b * 2.0  # may overwrite b
        return (a + c)[1:], fg.reshape(a, (-1, 2))[0]

    for n in (10, 6000):
        x = RNG.standard_normal(n)
        compiled = fg.compile(f)
        for _ in range(2):
            for found, expected in zip(compiled(x), eager_arrays(f, x)):
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 16, 17])
def test_a_number_stretched_within_the_arena(n, dtype):
    """Also to one element: that of another shape."""

    def f(x):
        row = fg.broadcast_to(fg.sum(x), (n,))
        return row @ x[:n], fg.fori_loop(0, 3, lambda i, c: fg.broadcast_to(fg.sum(x) - c[0], (n,)), x[:n])

    compiled = fg.compile(f)
    for _ in range(3):
        x = RNG.integers(-9, 9, 20).astype(dtype)  # sums are exact
        for found, expected in zip(compiled(x), (x.sum() * x[:n].sum(), np.full(n, x.sum() - x[0]))):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 3, 15, 16, 17, 33])
def test_elements_beyond_the_end_of_an_array_reach_no_result(n, dtype):
    """Steps within the arena run over whole vectors: what lies beyond the elements reaches no result."""

    def f(x, y):
        a = fg.tan(fg.log(x) / y)
        b = fg.where(a > 0.25, fg.sin(a * 1e5), y - a)
        return fg.sum(b), fg.concatenate([b * 2, a, fg.sqrt(x)]), fg.max(a), b.reshape(-1, 1) * a

    compiled = fg.compile(f)
    for k in range(3):
        x, y = RNG.uniform(0.5, 2 + k, (2, n)).astype(dtype)
        for found, expected in zip(compiled(x, y), eager_arrays(f, x, y)):
            np.testing.assert_array_equal(found, expected)


# ---- showing a program --------------------------------------------------------------------------------------------
def test_dot_shows_every_instruction_group_and_output():
    def f(x, w):
        y = fg.tanh(x @ w) * 2 + fg.exp(x)
        return y, fg.sum(y), fg.reshape(y, (-1,))

    x, w = RNG.standard_normal((2, 60, 60))
    program = fg.compile(f).program(x, w)
    text = program.dot()
    assert text.startswith("digraph program {") and text.count("{") == text.count("}")
    names = re.findall(r"^ +i\d+ \[label=\"(\w+)", text, re.M)
    assert names == instructions(program) and len(names) == program.facts["instructions"]
    assert text.count("subgraph") == str(program).count("fused") > 0
    declared = set(re.findall(r"^ +(\w+) \[", text, re.M)) - {"node"}
    edges = re.findall(r"^ +(\w+) -> (\w+)$", text, re.M)
    assert {name for edge in edges for name in edge} == declared
    assert {b for _, b in edges if b.startswith("out")} == {"out0", "out1", "out2"}
    assert 'in1 [shape=ellipse label="in1\\nfloat64 (60, 60)"]' in text


def test_dot_of_programs_without_instructions():
    assert fg.compile(lambda: 1).program().dot() == "digraph program {\n  node [shape=box]\n}"
    text = fg.compile(lambda x: (x, x.reshape(2, 1))).program(np.ones(2)).dot()
    assert text.count("in0 -> ") == 2 and text.count("-> out") == 2
    with pytest.raises(TypeError, match="a Program is made by"):
        type(fg.compile(lambda x: x).program(1.0))().dot()


# ---- several at once ----------------------------------------------------------------------------------------------
def test_long_replays_run_at_the_same_time():
    """The GIL is let go: while a thread replays, another one gets to run Python code, and each gets its own result."""

    def f(x, k):
        y = x
        for _ in range(30):
            y = fg.sin(y) + k * fg.tanh(y @ y)[0, 0]
        return y, fg.sum(y)

    compiled = fg.compile(f)
    inputs = [(RNG.standard_normal((200, 200)) / 200, np.float64(k)) for k in range(4)]
    expected = [eager_arrays(f, x, k) for x, k in inputs]
    compiled(*inputs[0])
    errors, ticks, stop = [], [0], threading.Event()

    def work(i):
        for _ in range(15):
            found = compiled(*inputs[i])
            for a, b in zip(found, expected[i]):
                if not np.array_equal(a, b):
                    errors.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors

    def tick():
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0)

    ticker = threading.Thread(target=tick)
    ticker.start()
    before, during = ticks[0], 0
    for _ in range(20):
        before = ticks[0]
        compiled(*inputs[0])
        during += ticks[0] - before
    stop.set()
    ticker.join()
    assert during > 0


def test_inputs_stay_alive_while_another_thread_replaces_them():
    def f(p):
        y = p["x"]
        for _ in range(20):
            y = fg.tanh(y * 1.25)
        return y

    compiled, n = fg.compile(f), 100_000
    params = {"x": np.full(n, 0.5)}
    expected = eager_arrays(lambda x: f({"x": x}), np.full(n, 0.5))
    compiled(params)
    stop = threading.Event()

    def replace():
        while not stop.is_set():
            params["x"] = np.full(n, 0.5)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(60):
            np.testing.assert_array_equal(compiled(params), expected)
    finally:
        stop.set()
        thread.join()


def test_an_error_in_a_long_replay_names_its_reason():
    def f(x, index):
        y = fg.take(x, index, axis=0)
        for _ in range(20):
            y = fg.tanh(y)
        return y

    compiled = fg.compile(f)
    x = RNG.standard_normal((1000, 100))
    good, bad = np.arange(1000), np.full(1000, 1000)
    compiled(x, good)
    with pytest.raises(IndexError, match="1000"):
        compiled(x, bad)
    np.testing.assert_array_equal(compiled(x, good), eager_arrays(f, x, good))


# ---- algebra ------------------------------------------------------------------------------------------------------
IDENTITIES = {
    "times one": lambda x: fg.tanh(x) * 1.0,
    "one times": lambda x: 1.0 * fg.tanh(x),
    "over one": lambda x: fg.tanh(x) / 1.0,
    "minus zero": lambda x: fg.tanh(x) - 0.0,
    "plus negative zero": lambda x: fg.tanh(x) + (-0.0),
    "plus": lambda x: +fg.tanh(x),
    "twice negative": lambda x: -(-fg.tanh(x)),
    "twice transposed": lambda x: fg.tanh(x).T.T,
    "no axis moved": lambda x: fg.moveaxis(fg.tanh(x), -1, -1),
    "axes turned round": lambda x: fg.transpose(fg.transpose(fg.tanh(x), (1, 2, 0)), (2, 0, 1)),
    "reshaped and back": lambda x: fg.tanh(x).reshape(-1).reshape(x.shape),
    "the same dtype": lambda x: fg.astype(fg.tanh(x), x.dtype),
    "a wider dtype and back": lambda x: fg.astype(fg.astype(fg.tanh(x), np.float64), np.float32),
    "stretched to itself": lambda x: fg.broadcast_to(fg.tanh(x), x.shape),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_what_changes_nothing_is_left_out(name):
    f = IDENTITIES[name]
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    x.flat[:6] = 0.0, -0.0, np.inf, -np.inf, np.nan, -1.0
    compiled = fg.compile(f)
    program = compiled.program(x)
    assert instructions(program) == ["tanh"]
    found, expected = compiled(x), eager_arrays(f, x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    g = fg.grad(lambda x: fg.sum(f(x) * fg.exp(x)))
    np.testing.assert_array_equal(fg.compile(g)(x), g(x))


def test_what_changes_something_is_kept():
    ones = np.ones((2, 1, 1, 1), np.float32)
    for f, names in [
        (lambda x: fg.tanh(x) + 0.0, ["tanh", "add"]),  # -0 becomes 0
        (lambda x: 0.0 - fg.tanh(x), ["tanh", "subtract"]),
        (lambda x: 1.0 / fg.tanh(x), ["tanh", "divide"]),
        (lambda x: fg.tanh(x) * ones, ["tanh", "multiply"]),  # stretches
        (lambda x: fg.transpose(fg.transpose(fg.tanh(x), (1, 2, 0)), (1, 2, 0)), ["tanh", "transpose", "transpose"]),
        (lambda x: fg.astype(fg.tanh(x), np.float64) * 1.0, ["tanh", "cast"]),
    ]:
        x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
        x.flat[:2] = 0.0, -0.0
        with np.errstate(divide="ignore"):
            compiled = fg.compile(f)
            found, expected = compiled(x), eager_arrays(f, x)
        assert instructions(compiled.program(x)) == names
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    y = np.float32(RNG.standard_normal((2, 3)))
    wide = fg.compile(lambda x: fg.astype(fg.astype(x, np.float32), np.float64))
    assert instructions(wide.program(y.astype(np.float64) + 1e-12)) == ["cast", "cast"]  # rounds
