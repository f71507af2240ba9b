"""scan, while_loop and cond: eager against NumPy, compiled against eager; errors; memory; size."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import _core

RNG = np.random.default_rng(3)
W, H0, XS = RNG.normal(size=(3, 3)) / 2, RNG.normal(size=3), RNG.normal(size=(7, 3))


WAYS = [lambda f: f, fg.compile, lambda f: fg.compile(f, verify=True)]


def rnn(w, h0, xs, scan=fg.scan, reverse=False):
    def f(h, x):
        h = np.tanh(w @ h + x)
        return h, (h * h).sum()

    h, ys = scan(f, h0, xs, reverse=reverse)
    return ys.sum() + h.sum() * ys[2]


def unrolled(f, init, xs, reverse=False):
    """The oracle: NumPy's arrays and Python's loop."""
    carry, ys = init, [None] * len(xs)
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        carry, ys[t] = f(carry, xs[t])
    return carry, np.array(ys)


def differences(f, *args, step=1e-6):
    """Central differences of a number by each argument."""
    found = []
    for i, x in enumerate(args):
        g = np.zeros_like(x)
        for at in np.ndindex(x.shape):
            up, down = x.copy(), x.copy()
            up[at] += step
            down[at] -= step
            g[at] = (f(*args[:i], up, *args[i + 1 :]) - f(*args[:i], down, *args[i + 1 :])) / (2 * step)
        found.append(g)
    return found


# ---- scan -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("wrap", WAYS, ids=["eager", "compiled", "both"])
def test_scan_and_its_gradient_against_numpy(wrap, reverse):
    oracle = lambda *args: rnn(*args, scan=unrolled, reverse=reverse)
    f = lambda *args: rnn(*args, reverse=reverse)
    value, gradients = wrap(fg.value_and_grad(f, (0, 1, 2)))(W, H0, XS)
    np.testing.assert_allclose(value, oracle(W, H0, XS), rtol=1e-13)
    for found, expected in zip(gradients, differences(oracle, W, H0, XS)):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("order", [2, 3])
def test_higher_orders_compiled_equal_eager(order):
    def f(w):
        g = lambda w: rnn(w, H0, XS[:3])
        for _ in range(order - 1):
            g = (lambda g: lambda w: (fg.grad(g)(w) ** 2).sum())(g)
        return fg.grad(g)(w)

    eager = f(W)
    np.testing.assert_allclose(fg.compile(f)(W), eager, rtol=1e-9, atol=1e-9 * abs(eager).max())


def test_instructions_do_not_depend_on_the_length():
    step = fg.compile(fg.value_and_grad(rnn, (0, 1, 2)))
    short, long = (step.program(W, H0, RNG.normal(size=(n, 3))) for n in (10, 10_000))
    assert long.facts["instructions"] <= short.facts["instructions"] < 25
    assert "scan[10000]" in str(long) and "body: " in str(long)
    assert "scan[10000]" in long.dot()


def test_peak_memory_is_that_of_the_stacked_results_not_of_all_steps():
    n, k = 1000, 50
    w, xs = RNG.normal(size=(k, k)) / 10, RNG.normal(size=(n, k))
    f = fg.compile(lambda w, xs: fg.scan(lambda h, x: (np.tanh(w @ h + x), None), np.zeros(k), xs)[0])
    assert f.program(w, xs).facts["peak_bytes"] < 10_000
    g = fg.compile(fg.grad(lambda w, xs: fg.scan(lambda h, x: (np.tanh(w @ h + x), None), np.zeros(k), xs)[0].sum()))
    assert g.program(w, xs).facts["peak_bytes"] < 2 * n * k * 8  # what is carried into each step, and little else


def test_structures_dtypes_and_steps_without_results():
    def f(w, xs, flags):
        def step(carry, x):
            h, (count, seen) = carry["h"], carry["rest"]
            new = {"h": np.tanh(h * w + x["a"]), "rest": (count, x["flag"] | seen)}
            return new, {"h": h, "flag": x["flag"], "i": x["i"], "wide": h.astype(np.float64)}

        init = {"h": np.zeros(2, np.float32), "rest": (7, False)}
        return fg.scan(step, init, {"a": xs, "flag": flags, "i": np.arange(4)})

    w, xs = np.float32([0.5, 2]), RNG.normal(size=(4, 2)).astype(np.float32)
    flags = np.array([False, False, True, False])
    eager, found = f(fg.tensor(w), fg.tensor(xs), fg.tensor(flags)), fg.compile(f)(w, xs, flags)
    assert fg.tree.structure(eager) == fg.tree.structure(found)
    for a, b in zip(fg.tree.leaves(eager), fg.tree.leaves(found)):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a.numpy(), b)
    h, rows = np.zeros(2, np.float32), []
    for x in xs:
        rows.append(h)
        h = np.tanh(h * w + x)
    np.testing.assert_allclose(found[0]["h"], h, rtol=1e-6)
    np.testing.assert_allclose(found[1]["wide"], rows, rtol=1e-6)
    assert found[0]["rest"] == (7, True)

    def gradient(w):
        carry, ys = f(w, xs, flags)
        return carry["h"].sum() + ys["h"].sum() + ys["wide"].sum()

    np.testing.assert_allclose(fg.compile(fg.grad(gradient))(w), fg.grad(gradient)(w), rtol=1e-5)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("length", [0, 1, 2])
def test_few_steps(wrap, length):
    def f(x, rows):
        last, ys = fg.scan(lambda c, r: (c * x + r, (c, np.ones(2))), x, rows, length=length)
        return last, *ys

    last, ys, ones = wrap(f)(np.array([2.0, 3.0]), np.ones((length, 2)))
    expected = [np.array([2.0, 3.0])]
    for _ in range(length):
        expected.append(expected[-1] * expected[0] + 1)
    np.testing.assert_array_equal(np.asarray(last), expected[-1])
    assert ys.shape == ones.shape == (length, 2)
    np.testing.assert_array_equal(np.asarray(ys), np.reshape(expected[:-1], (length, 2)))
    g = lambda x: (lambda last, ys, ones: last.sum() + ys.sum())(*f(x, np.ones((length, 2))))
    d = differences(lambda x: float(g(fg.tensor(x))), np.array([2.0, 3.0]))[0]
    np.testing.assert_allclose(wrap(fg.grad(g))(np.array([2.0, 3.0])), d, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 9, 16, 17])
def test_small_values_move_in_every_way_that_a_step_allows(n, dtype):
    """Exchanged, kept, shifted, returned twice, read after their successors are written; one vector or longer."""
    a, b, big = (RNG.normal(size=k).astype(dtype) for k in (n, n, n + 30))
    xs = RNG.normal(size=(5, n)).astype(dtype)

    def step(carry, x):
        a, b, big, kept, found = carry
        c = b * a + x
        big = np.concatenate([big[n:], c])
        out = c, c > x, big[3 : 3 + n], a - c, x
        return (b, a + c * 0.5, big, kept, found | (c > 1)), out

    def oracle(init):
        carry, rows = init, []
        for x in xs:
            carry, row = step(carry, x)
            rows.append(row)
        return [*carry, *map(np.array, zip(*rows))]

    init = a, b, big, RNG.normal(size=2).astype(dtype), np.zeros(n, bool)
    f = lambda *init: fg.scan(step, init, xs)
    for wrap in WAYS:
        carry, rows = wrap(f)(*init)
        for found, expected in zip([*carry, *rows], oracle(init), strict=True):
            assert np.asarray(found).dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)

    def halve(a, b):
        body = lambda s: (s[1], s[0] + s[2], s[2] / 2)
        end = fg.while_loop(lambda s: s[2] > 0.1, body, (a, b, np.ones((), dtype)))
        return fg.cond(end[2] > 0, lambda x, y: (y, x, x[:1]), lambda x, y: (x, y, y[:1]), end[0], end[1])

    x, y, t = a, b, dtype(1)
    while t > 0.1:
        x, y, t = y, x + t, t / 2
    for wrap in WAYS:
        for found, expected in zip(wrap(halve)(a, b), (y, x, x[:1])):
            np.testing.assert_array_equal(found, expected)


FILLED = """
import numpy as np, fastgrad as fg
for n in range(6, 15):
    f = fg.compile(lambda c, xs: fg.scan(lambda c, x: (c / 2 + fg.tanh(x) / np.arange(1.0, n + 1), fg.exp(c)), c, xs))
    for _ in range(2):
        c, ys = f(np.ones(n), np.linspace(0, 1, 9 * n).reshape(9, n))
    print(c.tobytes().hex(), ys.tobytes().hex())
"""


def test_no_bit_depends_on_what_new_memory_holds():
    """glibc fills new memory with these bytes."""
    found = [
        subprocess.run(
            [sys.executable, "-c", FILLED],
            env={**os.environ, "MALLOC_PERTURB_": fill},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for fill in ("0", "64", "255")
    ]
    assert len(found[0].split()) == 18
    assert found[1:] == found[:1] * 2


def test_a_body_that_ignores_what_is_carried_or_reads_only_constants():
    f = lambda x: fg.scan(lambda c, r: (r, 1.0), 0.0, x)
    last, ys = fg.compile(f)(np.arange(3.0))
    assert last == 2 and list(ys) == [1, 1, 1]
    assert fg.compile(lambda x: fg.scan(lambda c, _: (c, x), 0.0, None, 3)[1])(2.0).tolist() == [2, 2, 2]
    g = fg.grad(lambda x: fg.scan(lambda c, r: (c, 1.0), 0.0, x)[1].sum())
    np.testing.assert_array_equal(fg.compile(g)(np.ones(3)), 0)


def test_detached_parts_of_a_body_have_no_gradient():
    def f(x):
        return fg.scan(lambda c, r: (c * fg.stop_gradient(c) + r, None), x.sum(), x)[0]

    x = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(fg.compile(fg.grad(f))(x), fg.grad(f)(x), rtol=1e-14)


def test_scans_within_scans_and_conditions_within_scans():
    def f(w, xs):
        def outer(h, x):
            inner, ys = fg.scan(lambda c, v: (np.sin(c * w + v), c), h, fg.stack([x, x * h.sum(), h]))
            return fg.cond(inner.sum() > 0, lambda c: c * w, lambda c: np.cos(c), inner), ys.sum()

        h, ys = fg.scan(outer, np.ones(3), xs)
        return (h * w).sum() + (ys**2).sum()

    w = np.array([0.3, -0.8, 1.1])
    for by in range(2):
        eager = fg.grad(f, by)(w, XS)
        np.testing.assert_allclose(fg.compile(fg.grad(f, by))(w, XS), eager, rtol=1e-12, atol=1e-13)
    second = lambda w: fg.grad(lambda w: (fg.grad(f)(w, XS[:2]) ** 2).sum())(w)
    np.testing.assert_allclose(fg.compile(second)(w), second(w), rtol=1e-10)


def test_gradients_within_a_body():
    potential = lambda q: (q**4).sum() / 4

    def leapfrog(q, p):
        def step(state, _):
            q, p = state
            p = p - 0.05 * fg.grad(potential)(q)
            q = q + 0.1 * p
            return (q, p - 0.05 * fg.grad(potential)(q)), None

        return fg.scan(step, (q, p), length=20)[0]

    q, p = np.array([1.0, 0.5]), np.array([0.0, 1.0])
    for a, b in zip(fg.compile(leapfrog)(q, p), leapfrog(fg.tensor(q), fg.tensor(p))):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-13)
    f = lambda q: leapfrog(q, p)[0].sum()
    np.testing.assert_allclose(fg.compile(fg.grad(f))(q), fg.grad(f)(q), rtol=1e-12)


def test_changes_in_place_within_a_body():
    def f(x):
        def step(c, r):
            c = c * 1.0
            c += r
            return c * x, c

        return fg.scan(step, x, np.arange(3.0))[1].sum()

    np.testing.assert_allclose(fg.compile(fg.grad(f))(1.5), fg.grad(f)(1.5), rtol=1e-14)


def test_draws_advance_with_the_steps_and_the_gradient_has_the_same_ones():
    def f(rng):
        def loss(x):
            def step(c, _):
                noise = rng.normal(size=2)
                return c * noise + x, noise

            c, noise = fg.scan(step, x, length=5)
            return c.sum(), noise

        return lambda x: fg.value_and_grad(loss, has_aux=True)(x)

    x = np.array([0.5, 2.0])
    compiled = fg.compile(f(fg.random.default_rng(5)))
    eager = f(fg.random.default_rng(5))
    for _ in range(3):
        (value, noise), g = compiled(x)
        (expected, expected_noise), expected_g = eager(x)
        assert len(np.unique(noise)) == 10
        np.testing.assert_array_equal(noise, expected_noise)
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        np.testing.assert_allclose(g, expected_g, rtol=1e-13)
    fg.compile(f(fg.random.default_rng(5)), verify=True)(x)


@pytest.mark.parametrize("flow", ["scan", "cond"])
def test_second_gradients_through_draws(flow):
    def make():
        rng = fg.random.default_rng(1)
        step = lambda c, r: (np.sin(c * r + rng.normal(size=3)), None)
        if flow == "scan":
            f = lambda x: (fg.scan(step, x, XS)[0] ** 2).sum()
        else:
            true = lambda x: (np.sin(x) * rng.uniform(size=3)).sum()
            f = lambda x: fg.cond(x.sum() > 0, true, np.sum, x)
        return lambda x: fg.grad(lambda x: (fg.grad(f)(x) ** 2).sum())(x)

    for x in (np.array([0.4, 0.7, -0.2]), np.array([-0.4, 0.1, 0.2])):
        np.testing.assert_allclose(fg.compile(make())(x), make()(x), rtol=1e-11, atol=1e-13)


def test_a_scan_in_a_training_step_learns_in_one_call():
    rng = np.random.default_rng(0)
    xs, target = rng.normal(size=(30, 2)), 0.7

    def loss(params, xs):
        h, ys = fg.scan(lambda h, x: (params["a"] * h + x, h), np.zeros(2), xs)
        _, expected = fg.scan(lambda h, x: (target * h + x, h), np.zeros(2), xs)
        return ((ys - expected) ** 2).mean()

    found = {}
    for compiled in (True, False):
        step = fg.training_step(loss, {"a": np.array(0.1)}, fg.optim.SGD(0.02), compile=compiled)
        losses = [step(xs) for _ in range(60)]
        assert losses[-1] < 1e-3 * losses[0]
        found[compiled] = losses
    np.testing.assert_allclose(found[True], found[False], rtol=1e-9)


def test_threads_at_the_same_time():
    step = fg.compile(fg.grad(rnn, (0, 1, 2)))
    inputs = [(W * s, H0, XS) for s in np.linspace(0.1, 1, 8)]
    expected = [step(*args) for args in inputs]
    wrong = []

    def work(i):
        for _ in range(30):
            if any((a != b).any() for a, b in zip(step(*inputs[i]), expected[i])):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_mapped_loops_and_branches():
    def f(x):
        c, ys = fg.scan(lambda c, r: (np.sin(c) * r, c), x.sum(), x)
        return fg.cond(c > 0, lambda c: c * 2, lambda c: c - 1, c) + ys.sum()

    for g in (f, fg.grad(f)):
        loop = [np.asarray(g(fg.tensor(x) if g is f else x)) for x in XS]
        np.testing.assert_allclose(fg.vmap(g)(XS), loop, rtol=1e-12)
        np.testing.assert_allclose(fg.compile(fg.vmap(g))(XS), loop, rtol=1e-12)


# ---- while_loop, cond, fori_loop -------------------------------------------------------------------------------------
@pytest.mark.parametrize("start", [0.5, 3.0, 64.0, 1e9])
def test_while_loop(start):
    test = lambda s: (s[0] < 1000.0) & (s[1] < 8)
    f = lambda x: fg.while_loop(test, lambda s: (s[0] * 2, s[1] + 1), (x, 0.0))
    x, n = start, 0
    while x < 1000 and n < 8:
        x, n = x * 2, n + 1
    eager, found = f(fg.tensor(start)), fg.compile(f)(start)
    assert [float(v) for v in eager] == [x, n] and found == (x, n)


def test_the_gradient_of_a_while_loop_is_eager_only():
    f = lambda x: fg.while_loop(lambda s: s < 10.0, lambda s: s * s, x)
    assert fg.grad(f)(2.0) == 4 * 2.0**3
    with pytest.raises(NotImplementedError, match="use fastgrad.scan"):
        fg.compile(fg.grad(f))(2.0)
    fg.compile(fg.grad(lambda x: x * fg.stop_gradient(f(fg.stop_gradient(x)))))(2.0)


def test_cond_runs_one_branch_and_has_its_gradient():
    w = np.array([0.5, 2.0])

    def f(x, w):
        return fg.cond(x.sum() > 0, lambda x: (np.sin(x) * w).sum(), lambda x: (1 / x * w[0]).sum(), x)

    g = fg.compile(fg.value_and_grad(f, (0, 1)))
    for x in (np.array([1.0, 0.0]), np.array([-1.0, -2.0])):
        value, gradients = g(x, w)
        expected, wanted = fg.value_and_grad(f, (0, 1))(x, w)
        assert np.isclose(value, expected)
        for a, b in zip(gradients, wanted):
            np.testing.assert_allclose(a, b, rtol=1e-14)
    assert g.cache_info().currsize == 1
    calls = []
    fg.cond(True, lambda: calls.append("true"), lambda: calls.append("false"))
    assert calls == ["true"]


def test_cond_draws_only_in_the_branch_it_takes():
    rng = fg.random.default_rng(1)
    f = fg.compile(fg.value_and_grad(lambda x: fg.cond(x > 0, lambda x: x * rng.uniform(), lambda x: x * 3, x)))
    f(-1.0)
    value, g = f(2.0)
    assert value == 2 * g and g == fg.random.default_rng(1).uniform().item()
    assert f(-1.0) == (-3, 3)


# ---- errors ---------------------------------------------------------------------------------------------------------
WRONG = [
    (lambda x: fg.scan(lambda c, r: c, x, x), TypeError, "expected f to return .carry, y."),
    (lambda x: fg.scan(lambda c, r: (c.sum(), r), x, x), ValueError,
     r"carry came in as float64 of shape \(3,\) and goes on as float64 of shape \(\)"),
    (lambda x: fg.scan(lambda c, r: ({"a": c["a"].astype(np.float32)}, r), {"a": x}, x), TypeError,
     r"carry\['a'\] came in as float64 .* float32"),
    (lambda x: fg.scan(lambda c, r: (r, r), 0.0, x.astype(np.float32)), TypeError,
     r"give an initial value of that kind by np.float32\(...\) \(Python's float counts as float64, its int as int64\)"),
    (lambda x: fg.scan(lambda c, r: (c * r, r), np.ones(3, np.float32), x[:, None]), TypeError,
     r"carry came in as float32 of shape \(3,\) and goes on as float64 of shape \(3,\); make float32 of what it meets"),
    (lambda x: fg.scan(lambda c, r: ((c,), r), x, x), TypeError, "its structure must stay the same"),
    (lambda x: fg.scan(lambda c, r: (c, r), x, (x, np.ones(2))), ValueError, r"xs\[0\] has 3, xs\[1\] has 2"),
    (lambda x: fg.scan(lambda c, r: (c, r), x, x, length=4), ValueError, "length is 4"),
    (lambda x: fg.scan(lambda c, r: (c, r), x), ValueError, "number of steps is not known"),
    (lambda x: fg.scan(lambda c, r: (c, r), x, x.sum()), ValueError, "single number"),
    (lambda x: fg.scan(lambda c, r: (c, "y"), x, x), TypeError, "y is of type str"),
    (lambda x: fg.scan(None, x, x), TypeError, "expected a function"),
    (lambda x: fg.while_loop(lambda c: c, lambda c: c, x), TypeError, "single boolean"),
    (lambda x: fg.cond(x, np.sin, np.cos, x), TypeError, "compare, as in x > 0"),
]  # fmt: skip


@pytest.mark.parametrize("f, error, text", WRONG)
@pytest.mark.parametrize("wrap", [lambda f: lambda x: f(fg.tensor(x)), fg.compile], ids=["eager", "compiled"])
def test_errors_name_both_sides_and_leave_nothing(wrap, f, error, text):
    call = wrap(f)
    with pytest.raises(error, match=text):
        call(np.ones(3))
    assert not _core.tracing()


def test_branches_of_different_kinds_and_values_asked_for():
    f = lambda true, false: fg.compile(lambda x: fg.cond(x[0] > 0, true, false, x))(np.ones(3))
    with pytest.raises(TypeError, match="both must return the same structure"):
        f(lambda x: (x, x), lambda x: x)
    with pytest.raises(TypeError, match=r"of shape \(3,\) from true_fun and float64 of shape \(\) from false_fun"):
        f(lambda x: x, lambda x: x.sum())
    with pytest.raises(fg.TraceError, match="where or maximum"):
        fg.compile(lambda x: fg.scan(lambda c, r: (c if r > 0 else -c, None), 0.0, x)[0])(np.ones(3))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8])
def test_small_elements_at_any_address(dtype):
    """A read at a misaligned address shows in the sanitized build, not in the result."""

    def f(x):
        return fg.scan(lambda c, r: (c + fg.sum(fg.where(x[1:5] > 0, r, 1)), x[3:7] * 1), 0, x[1:9])

    x = RNG.integers(0, 2, 9).astype(dtype)
    total, ys = fg.compile(f)(x)
    assert total == 8 * (4 - x[1:5].sum(dtype=int)) + x[1:5].sum(dtype=int) * x[1:9].sum(dtype=int)
    np.testing.assert_array_equal(ys, np.tile(x[3:7] * 1, (8, 1)))


def test_a_value_that_a_body_leaks_is_refused():
    def f(x):
        kept = []
        fg.scan(lambda c, r: (c + r, kept.append(c * r)), 0.0, x)
        return kept[0] * 2

    with pytest.raises(RuntimeError, match="as the body of a loop.*return what is needed"):
        fg.compile(f)(np.ones(3))


# ---- memory ---------------------------------------------------------------------------------------------------------
def test_tracing_and_replaying_leave_nothing():
    def once(n):
        fg.compile(fg.grad(rnn, (0, 1, 2)))(W, H0, RNG.normal(size=(n, 3)))
        product = lambda x: fg.scan(lambda c, r: (c * r, c), 1.0, x)[0]
        f = lambda x: fg.cond(x.sum() > 0, product, np.sum, x)
        fg.compile(fg.grad(lambda x: (fg.grad(f)(x) ** 2).sum()))(XS[0])
        fg.compile(lambda x: fg.while_loop(lambda v: v < 9, lambda v: v * 2, x))(1.0)
        for g, error, _ in WRONG[:4]:
            with pytest.raises(error):
                fg.compile(g)(np.ones(3))

        def fails(c, r):
            raise KeyError

        with pytest.raises(KeyError):
            fg.compile(lambda x: fg.scan(fails, x, x))(np.ones(3))

    once(5)
    gc.collect()
    before = fg._core.live()
    for n in range(10, 15):
        once(n)
    gc.collect()
    after = fg._core.live()
    assert {k: after[k] for k in ("arrays", "nodes")} == {k: before[k] for k in ("arrays", "nodes")}
    assert after["bytes"] == before["bytes"]


# ---- cond and Python numbers ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("true_fun", "false_fun", "dtype"),
    [
        (lambda a: a, lambda a: a + 1, np.float32),
        (lambda a: 5.0, lambda a: a + 1, np.float32),
        (lambda a: 5.0, lambda a: 7.0, np.float32),
        (lambda a: np.float64(5), lambda a: np.float64(7), np.float64),
    ],
)
def test_a_python_number_goes_through_cond(true_fun, false_fun, dtype):
    f = lambda x, k: x * fg.cond(x > 0, lambda a, _: {"y": true_fun(a)}, lambda a, _: {"y": false_fun(a)}, k, x)["y"]
    for x in np.float32([2, -2]):
        expected = f(fg.asarray(x), 3.0)
        found = fg.compile(f)(x, 3.0)
        assert found.dtype == expected.dtype == dtype and found == expected.numpy(), (found, expected)
        for by in (0, 1):
            eager, found = fg.grad(f, by)(x, 3.0), fg.compile(fg.grad(f, by))(x, 3.0)
            assert found.dtype == eager.dtype and found == eager, (by, found, eager)
    both = np.float32([2, -2])
    for g in (fg.vmap(f, (0, None)), fg.compile(fg.vmap(f, (0, None)))):
        found = g(both, 3.0)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, [f(fg.asarray(x), 3.0).numpy() for x in both])


def test_a_result_of_cond_stands_for_a_number_only_if_it_does_from_both():
    f = fg.compile(lambda x, k: x * fg.cond(x > 0, lambda a: a, lambda a: np.float64(1), k))
    assert f(np.float32(1), 2.0).dtype == f(np.float32(-1), 2.0).dtype == np.float64


def test_a_scan_of_one_step_is_traced_without_a_loop():
    f = lambda x: fg.scan(lambda c, r: (c * r + 1.0, {"row": c - r}), x[0], x[:1], reverse=True)
    x = np.array([0.5, -2.0])
    compiled = fg.compile(fg.value_and_grad(lambda x: (y := f(x))[0] * y[1]["row"][0]))
    value, gradient = fg.value_and_grad(lambda x: (y := f(x))[0] * y[1]["row"][0])(x)
    assert compiled(x)[0] == value
    np.testing.assert_array_equal(compiled(x)[1], gradient)
    assert "scan" not in str(compiled.program(x))
