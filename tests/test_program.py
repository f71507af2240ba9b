"""Programs: what the passes make of a trace, how they are shown, and replays at the same time."""

import re
import threading
import time

import numpy as np
import pytest

import fastgrad as fg

RNG = np.random.default_rng(0)


def eagerly(f, *args):
    return fg.tree.map(lambda x: x.numpy(), f(*map(fg.tensor, args)))


def instructions(program):
    """The names of the instructions in order."""
    return re.findall(r"%\d+ = (\S+)", str(program))


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
        np.testing.assert_array_equal(compiled(x), eagerly(f, x))


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
            for found, expected in zip(compiled(x), eagerly(f, x)):
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
        for found, expected in zip(compiled(x, y), eagerly(f, x, y)):
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
    expected = [eagerly(f, x, k) for x, k in inputs]
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
    expected = eagerly(lambda x: f({"x": x}), np.full(n, 0.5))
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
    np.testing.assert_array_equal(compiled(x, good), eagerly(f, x, good))


# ---- training steps in one call --------------------------------------------------------------------------------------
def net(params, x, labels):
    hidden = fg.tanh(x @ params["w1"] + params["b1"])
    return fg.losses.softmax_cross_entropy(hidden @ params["w2"], labels)


def start():
    rng = np.random.default_rng(1)
    return {"w1": rng.standard_normal((5, 8)), "b1": np.zeros(8), "w2": rng.standard_normal((8, 3))}


ROWS, LABELS = RNG.standard_normal((50, 5)), RNG.integers(0, 3, 50)
OPTIMIZERS = {
    "sgd": lambda: fg.optim.SGD(0.1, weight_decay=0.01),
    "nesterov": lambda: fg.optim.SGD(lambda t: 0.1 / (1 + t), momentum=0.9, nesterov=True),
    "adam": lambda: fg.optim.Adam(0.01),
    "adamw": lambda: fg.optim.AdamW(lambda t: 0.01 / (1 + t)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_descend_replayed_equals_descend_run_eagerly(optimizer, shuffle):
    found, expected = (
        fg.descend(net, start(), (ROWS, LABELS), optimizer=optimizer(), epochs=4, batch_size=16, seed=3,
                   shuffle=shuffle, compile=compile)
        for compile in (True, False)
    )  # fmt: skip
    assert found.history == expected.history
    for name in expected.params:
        np.testing.assert_array_equal(found.params[name], expected.params[name])


def test_the_gradients_stay_in_the_program():
    params = start()
    step = fg.training_step(net, params, "adam")
    for _ in range(3):
        step(ROWS, LABELS)
    program = step.program(ROWS, LABELS)
    assert program.facts["outputs"] == 4
    shown = [line for line in str(program).splitlines() if "out" in line and "outputs" not in line]
    assert shown and all("@" in line for line in shown)  # in the arena, none in memory of its own


def test_a_gradient_that_is_a_parameter_or_the_data():
    """d(p q)/dp is q: it must be the q from before the update."""
    x = np.array([2.0, 3.0])
    for compile in (True, False):
        params = {"p": np.array([1.0, 2.0]), "q": np.array([4.0, 5.0]), "r": np.array([1.0, 1.0])}
        step = fg.training_step(lambda p, x: fg.sum(p["p"] * p["q"]) + fg.sum(p["r"] * x), params,
                                fg.optim.SGD(0.5), compile=compile)  # fmt: skip
        for _ in range(4):
            before = {name: a.copy() for name, a in params.items()}
            step(x)
            np.testing.assert_array_equal(params["p"], before["p"] - 0.5 * before["q"])
            np.testing.assert_array_equal(params["q"], before["q"] - 0.5 * before["p"])
            np.testing.assert_array_equal(params["r"], before["r"] - 0.5 * x)


@pytest.mark.parametrize("nonfinite", ["raise", "skip", "ignore"])
def test_what_is_not_finite_in_one_call(nonfinite):
    params = {"a": np.ones(3), "b": np.ones(2)}
    step = fg.training_step(lambda p, x: fg.sum(p["a"]) + fg.sum(fg.sqrt(p["b"]) * x), params, "adam",
                            nonfinite=nonfinite)  # fmt: skip
    for _ in range(3):
        step(np.ones(2))
    params["b"][0] = 0.0
    before, state = {k: v.copy() for k, v in params.items()}, step.optimizer.state_dict()
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match=r"step 3 the gradient of params\['b'\] has 1 entries of 2"):
            step(np.ones(2))
    else:
        assert step(np.ones(2)) == 3 + np.sqrt(before["b"]).sum() - 3 + before["a"].sum()
    if nonfinite == "ignore":
        assert np.isnan(params["b"][0]) or np.isinf(params["b"][0]) or params["b"][0] == 0
        assert step.optimizer.steps == 4
        return
    for name in params:
        np.testing.assert_array_equal(params[name], before[name])
    after = step.optimizer.state_dict()
    assert after["steps"] == state["steps"] == 3
    for slot in ("m", "v"):
        for name in params:
            np.testing.assert_array_equal(after["state"][slot][name], state["state"][slot][name])
    params["b"][0] = 1.0
    step(np.ones(2))
    assert step.optimizer.steps == 4


def test_an_optimizer_made_in_python_sees_the_gradients():
    seen = []

    class Sign(fg.optim.SGD):
        def _update(self, leaves, gradients, rate):
            seen.append([g.copy() for g in gradients])
            for p, g in zip(leaves, gradients):
                p -= rate * np.sign(g)

    params = {"w": np.array([1.0, -2.0])}
    step = fg.training_step(lambda p: fg.sum(p["w"] ** 2), params, Sign(0.25))
    values = [step() for _ in range(4)]
    assert values == [5.0, 3.625, 2.5, 1.625]
    np.testing.assert_array_equal(params["w"], [0.0, -1.0])
    np.testing.assert_array_equal(seen[-1][0], [0.5, -2.5])
    step.optimizer = fg.optim.SGD(0.5)  # and back to one the core knows
    assert step() == 1.0
    np.testing.assert_array_equal(params["w"], [0.0, 0.0])


def test_a_parameter_made_read_only_is_refused_and_the_program_kept():
    params = {"w": np.ones(2)}
    step = fg.training_step(lambda p: fg.sum(p["w"] ** 2), params, fg.optim.SGD(0.25))
    for _ in range(3):
        step()
    params["w"].flags.writeable = False
    with pytest.raises(ValueError, match=r"params\['w'\] is read-only"):
        step()
    np.testing.assert_array_equal(params["w"], [0.125, 0.125])
    params["w"].flags.writeable = True
    assert step() == 2 * 0.125**2
    assert step.program() is not None


# ---- fusion -------------------------------------------------------------------------------------------------------
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
        for found, expected in zip(compiled(x, y), eagerly(f, x, y)):
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
        for found, expected in zip(compiled(x), eagerly(f, x)):
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
            for found, expected in zip(compiled(x, y), eagerly(f, x, y)):
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
            for found, expected in zip(compiled(x), eagerly(f, x)):
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
        for found, expected in zip(compiled(x, b, c), eagerly(f, x, b, c)):
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
        for found, expected in zip(compiled(x, w), eagerly(f, x, w)):
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
        np.testing.assert_array_equal(compiled(x, w), eagerly(f, x, w))
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
        for found, expected in zip(compiled(x, w), eagerly(f, x, w)):
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
        for found, expected in zip(compiled(x, m), eagerly(f, x, m)):
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
        np.testing.assert_array_equal(compiled(x), eagerly(f, x))


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
    found, expected = compiled(x), eagerly(f, x)
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
            found, expected = compiled(x), eagerly(f, x)
        assert instructions(compiled.program(x)) == names
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    y = np.float32(RNG.standard_normal((2, 3)))
    wide = fg.compile(lambda x: fg.astype(fg.astype(x, np.float32), np.float64))
    assert instructions(wide.program(y.astype(np.float64) + 1e-12)) == ["cast", "cast"]  # rounds


def test_short_steps_between_long_ones_do_not_end_a_group():
    """A log-likelihood, whose scale is computed from a parameter in the middle of it: nothing long is stored."""

    def f(p, x, y):
        z = y - (p[0] + p[1] * x)
        loss = fg.log1p(fg.square(z * fg.exp(-p[2])))
        return fg.sum(loss) + p[2] * x.size, fg.sum(fg.exp(loss) * fg.sum(fg.tanh(p)))

    p, (x, y) = np.array([0.5, 2.0, 0.25]), RNG.standard_normal((2, 10_000))
    gradient = fg.grad(lambda p, x, y: f(p, x, y)[0])
    for compiled, expected in ((fg.compile(f), eagerly(f, p, x, y)), (fg.compile(gradient), gradient(p, x, y))):
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
        for found, expected in zip(compiled(x), eagerly(lambda x: f(x, theirs), x)):
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
    np.testing.assert_array_equal(stretched(x), np.full((3, n), eagerly(fg.sum, x)))
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
