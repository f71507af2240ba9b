"""Traced loops and branches within transforms: forward mode, batches, and all of these of one another."""

import threading

import numpy as np
import pytest

import fastgrad as fg

RNG = np.random.default_rng(5)
W, H0, XS = RNG.normal(size=(3, 3)) / 2, RNG.normal(size=3), RNG.normal(size=(6, 3))
MANY = RNG.normal(size=(4, 6, 3))
UNIT = RNG.normal(size=(3, 3))


def plain(w, h0, xs):
    """A recurrence; what is carried is a structure, of which an integer has no derivative."""

    def step(carry, x):
        h, count = carry
        h = np.tanh(w @ h + x)
        return (h, count + 1), ((h * h).sum(), x * count)

    (h, count), (ys, rest) = fg.scan(step, (h0, 1), xs)
    return ys.sum() + h.sum() * ys[2] + (rest * rest).sum() * count


def backward_with_matrices(w, h0, xs):
    """A stack of states times a matrix, from the last row to the first."""
    h, ys = fg.scan(lambda h, x: ((np.sin(h @ w + x)), (h * x).sum()), np.ones((2, 3)) * h0, xs, reverse=True)
    return (h**2).sum() + ys @ ys


def branches(w, h0, xs):
    def step(h, x):
        h = fg.cond(h.sum() > x[0], lambda h: np.tanh(w @ h + x), lambda h: np.sin(h) * w[0], h)
        return h, (h * h).sum()

    h, ys = fg.scan(step, h0, xs)
    return ys.sum() + h.sum() * ys[2]


def loops_within(w, h0, xs):
    def step(h, x):
        inner, ys = fg.scan(lambda c, i: (np.sin(w @ c + x), c[0]), h, length=3)
        return fg.fori_loop(0, 2, lambda i, c: c * x[i] + w[0], inner), ys.sum()

    h, ys = fg.scan(step, h0, xs)
    return (h * h).sum() + ys.sum() * ys[1]


FUNCTIONS = [plain, backward_with_matrices, branches, loops_within]
TRANSFORMS = {
    "jvp": (lambda f: lambda w, h, x: fg.jvp(f, (w, h, x), (UNIT, h + 1, x * 2)), XS),
    "jvp of jvp": (
        lambda f: (
            lambda w, h, x: fg.jvp(
                lambda w: fg.jvp(lambda w, h: f(w, h, x), (w, h), (UNIT, w[0]))[1], (w,), (w + UNIT,)
            )
        ),
        XS,
    ),
    "jacfwd": (lambda f: fg.jacfwd(f, (0, 1, 2)), XS),
    "hvp": (lambda f: lambda w, h, x: fg.hvp(f, (w, h, x), (UNIT, h + 1, x * 2)), XS),
    "hessian": (lambda f: fg.hessian(f, (0, 1)), XS),
    "jacrev of grad": (lambda f: fg.jacrev(fg.grad(f, 2), 2), XS),
    "gradient of hvp": (
        lambda f: fg.grad(lambda w, h, x: (fg.hvp(lambda w: f(w, h, x), (w,), (UNIT,)) ** 2).sum(), (0, 1)),
        XS[:3],
    ),
    "vmap": (lambda f: fg.vmap(f, (None, None, 0)), MANY),
    "vmap over all": (lambda f: lambda w, h, x: fg.vmap(f)(np.stack([w] * 4), h * x[:, 0], x), MANY),
    "vmap of grad": (lambda f: fg.vmap(fg.grad(f, (0, 1, 2)), (None, None, 0)), MANY),
    "grad of vmap": (lambda f: fg.grad(lambda *args: (fg.vmap(f, (None, None, 0))(*args) ** 2).sum(), (0, 1, 2)), MANY),
    "vmap of hessian": (lambda f: fg.vmap(fg.hessian(f), (None, None, 0)), MANY),
    "vmap of vmap": (
        lambda f: lambda w, h, x: fg.vmap(lambda s: fg.vmap(f, (None, None, 0))(w * s, h, x))(np.array([1.0, 2.0])),
        MANY,
    ),
    "vmap of jvp of grad": (lambda f: fg.vmap(lambda x: fg.hvp(lambda h: f(W, h, x), (H0,), (H0 + 1,))), MANY),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("f", FUNCTIONS)
def test_compiled_loops_equal_unrolled_ones(f, name):
    transform, xs = TRANSFORMS[name]
    args = (xs,) if name == "vmap of jvp of grad" else (W, H0, xs)
    expected, found = transform(f)(*args), fg.compile(transform(f))(*args)
    for a, b in zip(fg.tree.leaves(expected), fg.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_derivatives_of_compiled_loops_against_differences(f):
    compiled = fg.compile(f)
    for mode in ("fwd", "rev"):
        fg.testing.check_grads(compiled, (W, H0, XS), modes=[mode])
    fg.testing.check_grads(compiled, (W, H0, XS[:3]), order=2)


@pytest.mark.parametrize("transform", [fg.hessian, lambda f: fg.vmap(fg.grad(f), (None, None, 0))])
def test_programs_do_not_grow_with_the_length(transform):
    def instructions(n):
        xs = RNG.normal(size=(n, 3) if transform is fg.hessian else (4, n, 3))
        return fg.compile(transform(plain)).program(W, H0, xs).facts["instructions"]

    assert instructions(5) == instructions(50)


def test_mapped_draws_are_those_of_the_unrolled_loop():
    def f(rng):
        step = lambda c, x: (c * rng.normal(size=3) + x, None)
        return fg.vmap(lambda x: fg.scan(step, x[0], x)[0])

    expected = f(fg.random.default_rng(2))(MANY)
    np.testing.assert_allclose(fg.compile(f(fg.random.default_rng(2)))(MANY), expected, rtol=1e-13)
    assert len(np.unique(expected)) == expected.size


def test_gradients_and_tangents_with_draws():
    def f(rng):
        step = lambda c, x: (np.sin(c * x + rng.normal(size=3)), None)
        loss = lambda c: (fg.scan(step, c, XS)[0] ** 2).sum()
        return lambda c: fg.hvp(loss, (c,), (c + 1,))

    for _ in range(2):
        expected = f(fg.random.default_rng(4))(H0)
        np.testing.assert_allclose(fg.compile(f(fg.random.default_rng(4)))(H0), expected, rtol=1e-11)


# ---- while_loop -----------------------------------------------------------------------------------------------------
def grown(x):
    """Squared until it is large, at most 20 times: how often depends on x."""
    test = lambda s: (s[0] < 100) & (s[1] < 20)
    return fg.while_loop(test, lambda s: (s[0] * s[0] + 0.5 * x, s[1] + 1), (x, 0))


STARTS = np.array([0.25, 2.0, 3.0, 101.0, 1.5])


@pytest.mark.parametrize("wrap", [lambda f: f, fg.compile], ids=["eager", "compiled"])
def test_mapped_while_loops_end_one_by_one(wrap):
    expected = [[float(y) for y in grown(x)] for x in STARTS]
    values, counts = wrap(fg.vmap(grown))(STARTS)
    assert len({n for _, n in expected}) > 3
    np.testing.assert_allclose(values, [y for y, _ in expected], rtol=1e-14)
    np.testing.assert_array_equal(counts, [n for _, n in expected])
    assert counts.dtype == np.int64


def test_what_a_finished_element_would_compute_is_not_seen():
    f = lambda x: fg.while_loop(lambda v: v > 1, lambda v: np.sqrt(v - 1), x)
    expected = [float(f(x)) for x in STARTS]
    np.testing.assert_allclose(fg.compile(fg.vmap(f))(STARTS), expected, rtol=1e-14)


def test_forward_mode_of_while_loops():
    value = lambda x: grown(x)[0]
    derivatives = [fg.grad(value)(x) for x in STARTS]
    np.testing.assert_allclose([fg.compile(fg.jacfwd(value))(x) for x in STARTS], derivatives, rtol=1e-13)
    np.testing.assert_allclose(fg.compile(fg.vmap(fg.jacfwd(value)))(STARTS), derivatives, rtol=1e-13)
    second = [fg.grad(fg.grad(value))(x) for x in STARTS]
    np.testing.assert_allclose([fg.compile(fg.jacfwd(fg.jacfwd(value)))(x) for x in STARTS], second, rtol=1e-12)
    a = np.array([2.0, 1.5])

    def f(a):
        return fg.while_loop(lambda s: s[0] < 50, lambda s: (s[0] * a[0], s[1] + a[1] * s[0]), (1.0, a[1]))

    found = fg.compile(fg.jacfwd(f))(a)
    np.testing.assert_allclose(found, fg.jacrev(f)(a), rtol=1e-13)


def test_a_counted_while_loop_is_mapped_without_masks():
    count = lambda x: fg.while_loop(lambda s: s[1] < 5, lambda s: (s[0] * x, s[1] + 1), (x, 0))[0]
    program = fg.compile(fg.vmap(count)).program(STARTS)
    assert "where" not in str(program)
    np.testing.assert_allclose(fg.compile(fg.vmap(count))(STARTS), STARTS**6, rtol=1e-14)


def test_loops_that_draw_refuse_what_they_cannot_do():
    rng = fg.random.default_rng(0)
    f = lambda x: fg.while_loop(lambda v: v < 10, lambda v: v + rng.uniform(), x)
    with pytest.raises(NotImplementedError, match="draw outside"):
        fg.compile(fg.jacfwd(f))(1.0)
    with pytest.raises(NotImplementedError, match="use fastgrad.scan"):
        fg.compile(fg.vmap(fg.grad(lambda x: grown(x)[0])))(STARTS)


# ---- sums in place, products of stacks ------------------------------------------------------------------------------
LOSSES = {
    "a weight used twice": lambda w, h, x: fg.scan(lambda h, x: (np.tanh(w @ (w @ h) + x), None), h, x)[0].sum(),
    "two weights": lambda w, h, x: fg.scan(lambda h, x: (np.tanh(w @ h + (w * w) @ x), None), h, x)[0].sum(),
    "matrices": lambda w, h, x: fg.scan(
        lambda m, x: (np.sin(m @ w) * x, m.sum()), fg.stack([h, h * 2]), x)[1].sum(),
    "transposed": lambda w, h, x: (fg.scan(lambda m, x: (np.sin(w.T @ m.T).T * x, None), h * np.ones((4, 1)), x)[0]
                                   ** 2).sum(),
    "an outer product of rows": lambda w, h, x: fg.scan(lambda c, x: (c + (x @ w @ x), x * c), 0.5, x)[1].sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("by", [0, (0, 1, 2)], ids=["weight", "all"])
def test_gradients_of_weights(name, by):
    f = LOSSES[name]
    for xs in (XS, XS[:1], RNG.normal(size=(40, 3)) / 3):
        expected, found = fg.grad(f, by)(W, H0, xs), fg.compile(fg.grad(f, by))(W, H0, xs)
        for a, b in zip(fg.tree.leaves(expected), fg.tree.leaves(found), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-11, atol=1e-13)


def test_the_gradient_of_a_weight_is_accumulated_in_place_or_is_one_product():
    loss = LOSSES["two weights"]
    alone = str(fg.compile(fg.grad(loss)).program(W, H0, XS))
    recurrence = lambda w, h, x: fg.scan(lambda h, x: (np.tanh(w @ h + x), h), h, x)[1].sum()
    both = str(fg.compile(fg.grad(recurrence, (0, 2))).program(W, H0, XS))
    assert any("matmul" in line and "in2" in line and "(3, 3)" in line for line in alone.splitlines())
    bodies = [line for line in both.splitlines() if line.startswith("      ")]
    assert not any("(3, 3)" in line for line in bodies)
    assert any("matmul" in line and "(3, 3)" in line for line in both.splitlines())


# ---- the rest -------------------------------------------------------------------------------------------------------
def test_a_long_loop_lets_other_threads_run():
    f = fg.compile(lambda x: fg.scan(lambda c, _: (np.sin(c), None), x, length=3_000_000)[0])
    g = fg.compile(lambda x: fg.while_loop(lambda s: s[1] < 1_000_000, lambda s: (np.sin(s[0]), s[1] + 1.0), (x, 0.0)))
    h = fg.compile(  # what it does with integers is NumPy's work, under the GIL
        lambda x: fg.while_loop(lambda s: s[1] < 100_000, lambda s: (np.sin(s[0]), s[1] + 1), (x, 0))
    )
    for loop in (f, g, h):
        loop(np.ones(3))
        ended, ticks = threading.Event(), 0

        def work(loop=loop, ended=ended):
            loop(np.ones(3))
            ended.set()

        thread = threading.Thread(target=work)
        thread.start()
        while not ended.is_set():
            ticks += 1
        thread.join()
        assert ticks > 1000


def test_dot_shows_the_bodies():
    text = fg.compile(fg.grad(plain)).program(W, H0, XS).dot()
    assert text.count("subgraph cluster_") == 2 and "tanh_vjp" in text
    assert text.count("{") == text.count("}")
    branch = fg.compile(lambda x: fg.cond(x > 0, np.sin, np.cos, x)).program(1.0).dot()
    assert "body 0 of i" in branch and "body 1 of i" in branch and "sin" in branch and "cos" in branch


# ---- branches that are mapped, of which only one may be differentiated -----------------------------------------------
def _root(x):
    return fg.cond(x > 0, np.sqrt, lambda z: z * 0, x)


def _root_with_closure(x):
    return fg.cond(x > 0, lambda z: np.sqrt(z * x), lambda z: x * z * 0, x)


@pytest.mark.parametrize("f", [_root, _root_with_closure])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("order, transformed", [
    (1, lambda f: fg.vmap(fg.grad(f))),
    (1, lambda f: fg.grad(lambda b: fg.vmap(f)(b).sum())),
    (1, lambda f: lambda b: fg.jvp(fg.vmap(f), (b,), (np.ones(3),))[1]),
    (2, lambda f: fg.vmap(fg.grad(fg.grad(f)))),
    (2, lambda f: fg.grad(lambda b: fg.vmap(fg.grad(f))(b).sum())),
], ids=["vmap-grad", "grad-vmap", "jvp-vmap", "vmap-grad-grad", "grad-vmap-grad"])  # fmt: skip
def test_the_branch_that_is_not_chosen_leaves_no_nan_under_vmap(f, compiled, order, transformed):
    """The derivative of sqrt is inf at 0 and nan below."""
    once = fg.grad(f) if order == 1 else fg.grad(fg.grad(f))
    x = np.array([4.0, 0.0, -1.0])
    found = fg.compile(transformed(f))(x) if compiled else transformed(f)(x)
    np.testing.assert_allclose(found, [once(e) for e in x], rtol=1e-13)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_a_mapped_branch_shares_among_the_batch_is_differentiated(compiled):
    w, xs = np.array([2.0, 3.0]), np.array([[1.0, 2.0], [-1.0, 2.0], [4.0, 1.0]])

    def f(w, x):
        return fg.cond(x[0] > 0, lambda z: (np.sqrt(z) * w).sum(), lambda z: (z * w).sum(), x)

    mapped = fg.grad(lambda w, xs: fg.vmap(lambda x: f(w, x))(xs).sum(), (0, 1))
    found = (fg.compile(mapped) if compiled else mapped)(w, xs)
    expected = fg.grad(lambda w, xs: sum(f(w, x) for x in xs), (0, 1))(w, xs)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-13)


@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("slope", [0.5, np.inf], ids=["finite", "infinite"])
def test_a_carry_that_no_step_reads_has_a_cotangent_in_the_last_step_alone(length, reverse, slope):
    """Zeros in the others would be nan times an infinite slope; the weights and rows of other steps stay out, too."""

    def f(w, v, xs):
        def step(c, x):
            return (c[0] * v + fg.sum(x[:2]), x * w * slope, c[0] * slope, c[3]), c[0] ** 2

        last, rows = fg.scan(step, (v, xs[0], v, v * slope), xs[:length], reverse=reverse)
        return fg.sum(last[0]) + fg.sum(last[1] ** 2), fg.sum(rows), fg.sum(last[2])

    args = (np.array([0.3, -1.2, 0.7]), np.float64(0.8), RNG.normal(size=(4, 3)))
    for k in range(3):
        part = lambda *args: f(*args)[k]
        for g in (fg.grad(part, (0, 1, 2)), lambda *args: fg.jvp(part, args, args)):
            for a, b in zip(fg.compile(g)(*args), g(*args)):
                np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)
    mapped = fg.vmap(fg.grad(lambda *args: f(*args)[0], 2), (None, None, 0))
    batch = np.stack([args[2], args[2] * 2])
    np.testing.assert_allclose(fg.compile(mapped)(*args[:2], batch), mapped(*args[:2], batch), rtol=1e-13, atol=1e-15)
    if slope == 0.5:
        second = fg.hessian(lambda *args: f(*args)[0] * f(*args)[2], (0, 1))
        for a, b in zip(fg.tree.leaves(fg.compile(second)(*args)), fg.tree.leaves(second(*args))):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_tangents_stay_out_of_carries_that_they_do_not_reach():
    step = lambda c, x: ((c[0] * x, c[1] * np.inf), c[1] - np.inf)
    push = lambda x: fg.jvp(lambda x: fg.scan(step, (x[0], 1.0), x), (x,), (x * 0,))
    for a, b in zip(fg.tree.leaves(fg.compile(push)(XS[:, 0])), fg.tree.leaves(push(XS[:, 0]))):
        np.testing.assert_array_equal(a, b)
    loop = lambda x: fg.while_loop(lambda c: c[2] < 3, lambda c: (c[0] * x, c[1] * np.inf, c[2] + 1), (x, 1.0, 0))[:2]
    push = lambda x: fg.jvp(loop, (x,), (x,))
    for a, b in zip(fg.tree.leaves(fg.compile(push)(0.5)), fg.tree.leaves(push(0.5))):
        np.testing.assert_array_equal(a, b)
