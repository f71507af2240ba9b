"""custom_vjp, custom_jvp, primitive and checkpoint: against derivatives by hand and JAX's conventions."""

import gc
import threading
import weakref
from functools import partial

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import _core

X = np.array([0.3, -1.2, 2.0])


def spread(shape):
    return np.cos(np.arange(1.0, 1 + np.prod(shape))).reshape(shape)


def scaled_sine(calls=None):
    """sin(x) * y, in the way of JAX's documentation: fwd calls the function itself."""

    @fg.custom_vjp
    def f(x, y):
        return np.sin(x) * y

    def fwd(x, y):
        return f(x, y), (np.cos(x), np.sin(x), y)

    def bwd(residuals, g):
        if calls is not None:
            calls.append(g)
        cos, sin, y = residuals
        return cos * g * y, sin * g

    f.defvjp(fwd, bwd)
    return f


# ---- custom_vjp -----------------------------------------------------------------------------------------------------
def test_rule_is_used_and_differentiated_to_third_order():
    f, d = scaled_sine(), fg.grad
    x, y = 0.7, 2.0
    assert f(x, y) == np.sin(x) * y
    np.testing.assert_allclose(d(f, (0, 1))(x, y), (y * np.cos(x), np.sin(x)), rtol=1e-15)
    np.testing.assert_allclose(d(d(f), (0, 1))(x, y), (-y * np.sin(x), np.cos(x)), rtol=1e-15)
    np.testing.assert_allclose(d(d(d(f)), (0, 1))(x, y), (-y * np.cos(x), -np.sin(x)), rtol=1e-15)
    fg.check_grads(lambda x, y: fg.sum(f(x, y)), (X, X + 3), order=3, modes=("rev",))
    fg.check_grads(lambda x, y: fg.sum(f(x * x, y) ** 3), (X, X + 3), order=3, modes=("rev",))


def test_a_rule_that_is_not_the_derivative_is_believed():
    @fg.custom_vjp
    def f(x):
        return x**2

    f.defvjp(lambda x: (x**2, x), lambda x, g: (10 * g * x**3,))
    assert fg.grad(f)(2.0) == 80
    assert fg.grad(fg.grad(f))(2.0) == 120  # of bwd
    assert fg.compile(fg.grad(fg.grad(f)))(2.0) == 120


def test_imperative_style_and_retained_graphs():
    calls = []
    f = scaled_sine(calls)
    x = fg.tensor(X, requires_grad=True)
    y = f(x, 2.0).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * np.cos(X), rtol=1e-15)
    assert len(calls) == 2
    with pytest.raises(RuntimeError, match="already used"):
        y.backward()
    x.grad = None
    y = f(x, 2.0).sum()
    y.backward(create_graph=True)  # x.grad refers to x through the residuals
    g = x.grad
    x.grad = None
    g.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), -2 * np.sin(X), rtol=1e-15)


def test_nothing_differentiated_calls_f_itself():
    @fg.custom_vjp
    def f(x):
        return x

    f.defvjp(lambda x: 1 / 0, lambda r, g: (g,))
    assert f(3) == 3
    with fg.no_grad():
        assert f(fg.tensor(1.0, requires_grad=True)) == 1


def test_nondiff_arguments_come_first_and_keywords_are_placed():
    @partial(fg.custom_vjp, nondiff_argnums=(0, 2))
    def apply(function, x, name, y=3.0):
        return function(x) * y

    seen = []

    def fwd(function, x, name, y):
        return function(x) * y, (x, y)

    def bwd(function, name, residuals, g):
        seen.append((function, name, residuals[1]))
        return g, None

    apply.defvjp(fwd, bwd)
    gradients = fg.grad(lambda x, y: apply(np.sin, x, y=y, name="n"), (0, 1))(1.0, 2.0)
    assert gradients == (1, 0) and seen[0][:2] == (np.sin, "n")
    assert fg.grad(lambda x: apply(np.sin, x, "n"))(1.0) == 1 and seen[1][2] == 3.0
    with pytest.raises(TypeError, match="argument name is named in nondiff_argnums, but holds a tensor"):
        fg.grad(lambda x: apply(np.sin, x, x))(1.0)


def test_structures_nones_integers_and_constant_arguments():
    @fg.custom_vjp
    def f(params, index, tag):
        return {"y": params["w"][0] * 2, "n": index}

    f.defvjp(
        lambda params, index, tag: (f(params, index, tag), None),
        lambda _, g: ({"w": (5 * g["y"], None), "b": None}, None, None) if g["n"] is None else None,
    )
    params = {"w": (X, X), "b": 1.0}
    found = fg.grad(lambda p: f(p, np.array([1, 2]), "tag")["y"].sum())(params)
    np.testing.assert_array_equal(found["w"][0], [5, 5, 5])
    np.testing.assert_array_equal(found["w"][1], [0, 0, 0])
    assert found["b"] == 0


def test_several_results_of_two_dtypes():
    @fg.custom_vjp
    def f(x, z):
        return x * 2, (z.astype(np.float32) * 3).reshape((1, -1)), 7, fg.astype(z, np.float64).sum()

    seen = []

    def bwd(residuals, g):
        seen.append(g)
        return g[0] * 2 + g[3], g[1].reshape(-1) * 3

    f.defvjp(lambda x, z: (f(x, z), None), bwd)

    def loss(x, z):
        a, b, c, d = f(x, z)
        assert c == 7 and b.dtype == np.float32 and b.shape == (1, 2)
        return (a * X).sum() + (b * b).sum() + 5 * d

    z = np.array([0.1, 0.7], np.float32)
    gx, gz = fg.grad(loss, (0, 1))(X, z)
    np.testing.assert_array_equal(gx, 2 * X + 5)
    np.testing.assert_array_equal(gz, 3 * 2 * (3 * z))
    assert gz.dtype == np.float32 and [getattr(g, "dtype", None) for g in seen[0]] == [
        np.float64, np.float32, None, np.float64]  # fmt: skip
    np.testing.assert_array_equal(fg.compile(fg.grad(loss, (0, 1)))(X, z)[1], gz)
    # what is not used has zeros for its cotangent
    np.testing.assert_array_equal(fg.grad(lambda x: f(x, z)[3])(X), np.ones(3))
    assert seen[-1][0].tolist() == [0, 0, 0] and seen[-1][1].tolist() == [[0, 0]]


def test_constant_and_identical_results_follow_the_rule():
    @fg.custom_vjp
    def straight_through(x):
        return np.round(x.detach().numpy() if isinstance(x, fg.Tensor) else x)

    straight_through.defvjp(lambda x: (straight_through(x), None), lambda _, g: (g,))
    x = fg.tensor(X, requires_grad=True)
    straight_through(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1, 1])


@pytest.mark.parametrize(
    "returned, error, message",
    [
        (lambda x: x, TypeError, "bwd must return a tuple of 2, a cotangent for each of x, p.* got Tensor"),
        (lambda x: (x,), TypeError, "got a tuple of 1"),
        (lambda x: (x, {"a": x}), TypeError, r"built as the arguments: p lacks 'b' and has the unexpected 'a'"),
        (lambda x: (x.sum(), None), ValueError, r"returned shape \(\) for x, expected its shape \(3,\)"),
        (lambda x: (x, {"b": x[:2]}), ValueError, r"returned shape \(2,\) for p\['b'\]"),
        (lambda x: (x.astype(np.float32), None), ValueError, "returned float32 for x, expected its dtype float64"),
        (lambda x: ("no", None), TypeError, "returned str for x"),
        (lambda x: 1 / 0, ZeroDivisionError, "division"),
    ],
)
def test_rules_that_return_something_else(returned, error, message):
    @fg.custom_vjp
    def f(x, p):
        return x * p["b"]

    f.defvjp(lambda x, p: (x * p["b"], x), lambda x, g: returned(x))
    with pytest.raises(error, match=message):
        fg.grad(lambda x, p: f(x, p).sum(), (0, 1))(X, {"b": X})
    x = fg.tensor(X, requires_grad=True)
    y = f(x * 2, {"b": fg.tensor(X, requires_grad=True)}).sum() + x.sum()
    with pytest.raises(error, match=message):
        y.backward()
    assert x.grad is None and _core.grad_enabled() and not _core.in_transform()


def test_exceptions_in_bodies_leave_nothing():
    @fg.custom_vjp
    def f(x):
        return x

    f.defvjp(lambda x: 1 / 0, lambda r, g: (g,))
    with pytest.raises(ZeroDivisionError):
        fg.grad(f)(1.0)
    assert not _core.in_transform() and _core.grad_enabled()
    f.defvjp(lambda x: x, lambda r, g: (g,))
    with pytest.raises(TypeError, match="fwd must return a pair, the result and the residuals; got Tensor"):
        fg.grad(f)(1.0)


def test_missing_rules_and_bad_arguments():
    for make in (fg.custom_vjp, fg.custom_jvp):
        f = make(lambda x: x)
        with pytest.raises(AttributeError, match="has no rule yet"):
            f(1.0)
        with pytest.raises(TypeError, match="expected a function"):
            make(3)
    with pytest.raises(TypeError, match="expected bwd as a function"):
        fg.custom_vjp(np.sin).defvjp(np.sin, None)
    with pytest.raises(TypeError, match="cannot be used with nondiff_argnums"):
        fg.custom_jvp(np.sin, 0).defjvps(None)


def test_tensors_from_outside_are_refused():
    w = fg.tensor(2.0, requires_grad=True)
    for read in (lambda x: w * x, lambda x: w):
        f = fg.custom_vjp(read)
        f.defvjp(lambda x, read=read: (read(x), None), lambda r, g: (g,))
        with pytest.raises(TypeError, match="reads a tensor which requires gradients and is none of its arguments"):
            f(fg.tensor(1.0, requires_grad=True))
    g = fg.custom_vjp(lambda x: x * 1)
    g.defvjp(lambda x: (x * 1, None), lambda r, g: (g,))
    with pytest.raises(TypeError, match="is none of its arguments"):
        fg.grad(lambda v: fg.grad(lambda x: f(x))(3.0) * v)(2.0)


def test_changes_after_the_call_do_not_reach_the_rule():
    @fg.custom_vjp
    def square(x, a):
        return x * x * a

    square.defvjp(lambda x, a: (square(x, a), (x, a)), lambda r, g: (2 * r[0] * g * r[1], None))
    again = fg.checkpoint(lambda x, a: x * x * a)
    for f in (square, again):
        a, leaf = np.full(3, 5.0), fg.tensor(X, requires_grad=True)
        x = leaf * 1
        y = f(x, a).sum()
        x += 100
        a[:] = 0
        with fg.no_grad():
            leaf += 7
        y.backward()
        np.testing.assert_allclose(leaf.grad.numpy(), 10 * X, rtol=1e-15)
        memory = X.copy()
        x = fg.asarray(memory)
        x.requires_grad = True
        y = f(x, 1.0).sum()
        memory[:] = 0
        y.backward()
        np.testing.assert_allclose(x.grad.numpy(), 2 * X, rtol=1e-15)


def test_long_chains_and_chains_by_residuals_are_freed_without_recursion():
    @fg.custom_vjp
    def step(x, before):
        return x * 1

    held = []
    step.defvjp(lambda x, before: (x * 1, (x, held.pop() if held else None)), lambda r, g: (g, None))
    x = fg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = step(y, None)
    y.backward()
    assert x.grad == 1
    del y
    for _ in range(30_000):  # each leads to the one before by its residuals alone
        y = step(x, None)
        held.append(y)
    del y
    held.clear()


def test_threads():
    f, found = scaled_sine(), {}

    def work(k):
        for _ in range(50):
            found[k] = fg.grad(fg.grad(lambda x: f(x, 2.0)))(float(k))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    np.testing.assert_allclose([found[k] for k in range(4)], -2 * np.sin(np.arange(4)), atol=1e-15)


def test_methods():
    class Layer:
        @fg.custom_vjp
        def double(self, x):
            return 2 * x

        double.defvjp(lambda self, x: (2 * x, None), lambda r, g: (None, 7 * g))

    assert fg.grad(Layer().double)(1.0) == 7


# ---- custom_jvp -----------------------------------------------------------------------------------------------------
def test_jvp_rule_is_transposed_to_third_order():
    @fg.custom_jvp
    def f(x, y):
        return np.sin(x) * y

    @f.defjvp
    def _(primals, tangents):
        (x, y), (tx, ty) = primals, tangents
        return f(x, y), np.cos(x) * y * tx + np.sin(x) * ty

    fg.check_grads(lambda x, y: fg.sum(f(x * x, y) ** 3), (X, 2.0), order=3)
    np.testing.assert_allclose(fg.compile(fg.grad(lambda x: f(x, X).sum()))(X), np.cos(X) * X, rtol=1e-15)


def test_a_jvp_rule_that_calls_its_function_ends():
    @fg.custom_jvp
    def sine(x):
        return np.sin(x)

    sine.defjvps(lambda t, y, x: t * (1 - 2 * sine(x / 2) ** 2))
    d = fg.grad
    np.testing.assert_allclose([d(sine)(0.7), d(d(sine))(0.7), d(d(d(sine)))(0.7)],
                               [np.cos(0.7), -np.sin(0.7), -np.cos(0.7)], rtol=1e-14)  # fmt: skip


def test_jvps_for_each_argument_and_nondiff():
    @fg.custom_jvp
    def f(x, y):
        return {"r": x * y}

    f.defjvps(None, lambda t, out, x, y: {"r": 3 * t * out["r"]})
    assert fg.grad(lambda x, y: f(x, y)["r"], (0, 1))(2.0, 5.0) == (0, 30)

    power = fg.custom_jvp(lambda n, x: x**n, nondiff_argnums=(0,))
    power.defjvp(lambda n, primals, tangents: (primals[0] ** n, n * primals[0] ** (n - 1) * tangents[0]))
    assert fg.grad(fg.grad(partial(power, 3)))(2.0) == 12


def test_jvp_rules_that_return_something_else():
    f = fg.custom_jvp(lambda x: x * 2)
    for returned, error, message in [
        (lambda p, t: t[0], TypeError, "jvp must return a pair"),
        (lambda p, t: (p[0], {"a": t[0]}), TypeError, "jvp returned dict"),
        (lambda p, t: (p[0], t[0].sum()), ValueError, r"returned shape \(\) for the tangent of the result"),
    ]:
        f.defjvp(returned)
        with pytest.raises(error, match=message):
            fg.grad(lambda x: f(x).sum())(X)
    assert _core.grad_enabled()


def test_rules_in_forward_mode(monkeypatch):
    """What a node answers, asked as a forward pass would ask it."""
    rules, custom = [], _core.custom
    monkeypatch.setattr(_core, "custom", lambda *args: rules.append(args[2]) or custom(*args))
    f = fg.custom_jvp(lambda x, y: (x * y, np.sin(x)))
    f.defjvps(lambda t, r, x, y: (t * y, t * np.cos(x)), lambda t, r, x, y: (x * t, 0 * x * t))
    x = fg.tensor(X, requires_grad=True)
    y = f(x, 2.0)
    np.testing.assert_allclose(rules[0].jvp([fg.ones(3)]).numpy(), [2, 2, 2, *np.cos(X)], rtol=1e-15)
    z = scaled_sine()(x, 2.0)
    with pytest.raises(TypeError, match="custom_vjp f: it has a rule for reverse mode only"):
        rules[-1].jvp([fg.ones(3)])
    c = fg.checkpoint(lambda x, y: (x * y, np.sin(x), y.astype(np.float32)))(x, fg.tensor(X, requires_grad=True))
    found = rules[-1].jvp([fg.ones(3), None])
    np.testing.assert_allclose(found.numpy(), [*X, *np.cos(X), 0, 0, 0], rtol=1e-15)
    rules.clear()
    del y, z, c


# ---- checkpoint -----------------------------------------------------------------------------------------------------
def block(x):
    for _ in range(10):
        x = np.tanh(x) * 1.1
    return x


def chain(segment, n=10):
    def f(x):
        for _ in range(n):
            x = segment(x)
        return np.sum(x)

    return f


def test_checkpoint_has_the_same_derivatives_to_the_bit():
    plain, saving = chain(block, 3), chain(fg.checkpoint(block), 3)
    np.testing.assert_array_equal(fg.grad(saving)(X), fg.grad(plain)(X))
    fg.check_grads(lambda x: fg.sum(fg.checkpoint(lambda z: np.sin(z) * z)(x)), (X,), order=3)
    fg.check_grads(lambda x: fg.sum(fg.checkpoint(np.sin)(x * x) ** 3), (X,), order=3)  # the cotangent depends on x
    nested = fg.checkpoint(chain(fg.checkpoint(block), 3))
    np.testing.assert_array_equal(fg.grad(nested)(X), fg.grad(plain)(X))


def test_checkpoint_of_structures_keywords_and_several_results():
    f = fg.checkpoint(lambda p, *, scale: (p["w"] * scale, p["w"].sum() * p["b"], "tag"))

    def loss(p):
        a, b, tag = f(p, scale=X)
        return a.sum() * b if tag == "tag" else None

    found = fg.grad(loss)({"w": X, "b": 2.0})
    np.testing.assert_allclose(found["w"], X * X.sum() * 2 + (X * X).sum() * 2, rtol=1e-14)
    np.testing.assert_allclose(found["b"], (X * X).sum() * X.sum(), rtol=1e-14)


def test_checkpoint_keeps_less_alive():
    x = fg.tensor(np.full(1000, 0.5), requires_grad=True)

    def kept(f):
        before = _core.live()["bytes"]
        y = f(x)
        return _core.live()["bytes"] - before, y

    plain, _ = kept(chain(block))
    saved, y = kept(chain(fg.checkpoint(block)))
    assert plain > 100 * 8000 and saved < 14 * 8000  # an array for each segment instead of each tanh
    y.backward()


def test_checkpoint_lowers_the_peak_of_a_program():
    x, w = spread((50, 50)), spread((50, 50)) / 5

    def layers(x, w):
        for _ in range(10):
            x = np.tanh(x @ w)
        return x

    def loss(layers):
        return lambda x: np.sum(layers(layers(layers(layers(layers(layers(x, w), w), w), w), w), w))

    plain, saving = (fg.compile(fg.grad(loss(f))) for f in (layers, fg.checkpoint(layers)))
    np.testing.assert_array_equal(saving(x), plain(x))
    peaks = [f.program(x).facts["peak_bytes"] for f in (plain, saving)]
    assert peaks[0] > 60 * x.nbytes and peaks[1] < 25 * x.nbytes
    counts = [str(f.program(x)).count("= tanh ") for f in (plain, saving)]
    assert counts == [60, 110]  # all but the last ten, whose result a gradient does not need, are computed twice


def test_checkpoint_reads_parameters_from_outside():
    w, b = fg.tensor(X, requires_grad=True), fg.tensor(0.5, requires_grad=True)
    scaled = w * 2  # no leaf

    def layer(x):
        return np.tanh(scaled * x + b) * w, w

    def loss(f, x):
        y, same = f(f(x)[0])
        return (y * y * b).sum() + (same * x).sum()

    def gradients(f):
        x = fg.tensor(X + 1, requires_grad=True)
        loss(f, x).backward(retain_graph=True)
        found = [t.grad.numpy().copy() for t in (x, w, b)]
        w.grad = b.grad = None
        return found

    for a, c in zip(gradients(fg.checkpoint(layer)), gradients(layer)):
        np.testing.assert_allclose(a, c, rtol=1e-13)
    nested = fg.checkpoint(lambda x: fg.checkpoint(layer)(x))
    for a, c in zip(gradients(nested), gradients(layer)):
        np.testing.assert_allclose(a, c, rtol=1e-13)


def test_checkpoint_reads_what_outer_transforms_differentiate():
    def f(segment):
        return lambda v: fg.sum(segment(lambda z: np.sin(z * v) * v)(v * v) * v)

    for v in (X, X[0]):
        fg.check_grads(f(fg.checkpoint), (v,), order=3)
    np.testing.assert_allclose(fg.hessian(f(fg.checkpoint))(X), fg.hessian(f(lambda g: g))(X), rtol=1e-13)
    np.testing.assert_allclose(fg.compile(fg.grad(f(fg.checkpoint)))(X), fg.grad(f(lambda g: g))(X), rtol=1e-13)
    mixed = lambda segment: lambda v: fg.grad(lambda x: segment(lambda z: z * z * v)(x))(3.0)
    assert fg.grad(mixed(fg.checkpoint))(2.0) == fg.grad(mixed(lambda g: g))(2.0) == 6
    only = fg.checkpoint(lambda z, v: fg.sum(z) * 0 + v[0] * 2)  # the result is that of what is read alone
    assert fg.grad(lambda v: only(v * 1.0, [v]))(2.0) == 2


def test_checkpoint_that_reads_other_tensors_again():
    read = iter([fg.tensor(2.0, requires_grad=True), fg.tensor(3.0, requires_grad=True)])
    with pytest.raises(RuntimeError, match="reads other tensors that require gradients than before"):
        fg.checkpoint(lambda x: x * next(read))(fg.tensor(1.0, requires_grad=True)).backward()


def test_checkpoint_repeats_its_draws():
    def noisy(rng):
        return lambda x: x * rng.random(3) + fg.dropout(x * x, 0.5, rng)

    rng, same = fg.random.default_rng(1), fg.random.default_rng(1)
    for _ in range(2):
        found = fg.grad(lambda x: fg.checkpoint(fg.checkpoint(noisy(rng)))(x).sum())(X)
        np.testing.assert_array_equal(found, fg.grad(lambda x: noisy(same)(x).sum())(X))
    assert rng.state == same.state
    rng, same = fg.random.default_rng(1), fg.random.default_rng(1)
    compiled = fg.compile(fg.grad(lambda x: fg.checkpoint(noisy(rng))(x).sum()))
    for _ in range(3):
        np.testing.assert_allclose(compiled(X), fg.grad(lambda x: noisy(same)(x).sum())(X), rtol=1e-15)


DRAWING = {
    "fori_loop": lambda rng: lambda x: fg.fori_loop(0, 2, lambda i, c: c + x * rng.random(), x),
    "scan": lambda rng: lambda x: fg.scan(lambda c, _: (c * rng.random(), np.sin(c)), x, None, length=3)[1].sum(),
    "cond": lambda rng: lambda x: fg.cond(x > 2, lambda c: c * c * rng.random(), lambda c: c * 2, x),
    "scan and after it": lambda rng: (
        lambda x: rng.random() * fg.scan(lambda c, _: (c * rng.random(), None), x, None, length=3)[0] * rng.random()
    ),
    "vmap": lambda rng: lambda x: fg.vmap(lambda v: v * rng.random())(x * np.ones(3)).sum(),
    "checkpoint": lambda rng: fg.checkpoint(
        lambda x: x * rng.random() * fg.fori_loop(0, 2, lambda i, c: c * rng.random(), x)
    ),
}
MODES = {
    "grad": lambda f: fg.value_and_grad(f)(3.0),
    "compiled": lambda f: fg.compile(fg.value_and_grad(f))(3.0),
    "mapped": lambda f: fg.vmap(fg.value_and_grad(f))(np.array([1.0, 3.0])),
    "compiled and mapped": lambda f: fg.compile(fg.vmap(fg.value_and_grad(f)))(np.array([1.0, 3.0])),
    "jvp": lambda f: fg.jvp(f, (3.0,), (1.0,)),
    "compiled hessian": lambda f: fg.compile(fg.hessian(f))(3.0),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", DRAWING)
def test_checkpoint_of_loops_branches_and_mapped_functions_that_draw(f, mode):
    rng, same = fg.random.default_rng(5), fg.random.default_rng(5)
    for _ in range(2):
        found = MODES[mode](fg.checkpoint(DRAWING[f](rng)))
        expected = MODES[mode](DRAWING[f](same))
        for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)
    assert rng.state == same.state


def test_checkpoint_of_what_is_not_the_same_again():
    rng, counts = fg.random.default_rng(0), iter(range(10))
    with pytest.raises(RuntimeError, match="draws other random numbers than before"):
        fg.grad(fg.checkpoint(lambda x: (x * rng.random(next(counts))).sum()))(1.0)
    with pytest.raises(RuntimeError, match="run again, the function returned other shapes"):
        fg.grad(lambda x: fg.checkpoint(lambda x: x * np.ones(next(counts)))(x).sum())(1.0)


# ---- primitive ------------------------------------------------------------------------------------------------------
def test_primitive():
    kinds = []

    @fg.primitive
    def cumulated(x, factor=1.0):
        kinds.append((type(x), type(factor)))
        return np.cumsum(x) * factor

    cumulated.defvjp(lambda g, y, x, factor=1.0: cumulated(g[::-1], factor)[::-1], lambda g, y, x, f: (g * y).sum() / f)
    assert type(cumulated(X)) is np.ndarray
    assert type(cumulated(fg.tensor(X))) is fg.Tensor and kinds[-1][0] is np.ndarray
    fg.check_grads(lambda x, f: (cumulated(x, f) ** 2).sum(), (X, 2.0), order=3, modes=("rev",))


def test_primitive_without_a_rule_says_so_when_differentiated():
    f = fg.primitive(np.sort)
    x = fg.tensor(X, requires_grad=True)
    y = f(x)
    np.testing.assert_array_equal(y.numpy(), np.sort(X))
    with pytest.raises(NotImplementedError, match="primitive sort: it has no reverse-mode rule for a"):
        y.sum().backward()
    f.defvjp(lambda g, y, a: np.asarray(g))  # an ndarray: only where the pass is not recorded
    assert fg.grad(lambda x: f(x).sum())(X).tolist() == [1, 1, 1]
    with pytest.raises(TypeError, match="requires gradients"):
        fg.grad(lambda z: fg.grad(lambda x: (f(x) ** 2).sum())(z).sum())(X)


def test_primitive_that_refuses_stand_ins_runs_eagerly():
    def cumsum(x):
        if not np.isin(x, X).all() and x.min() > 0:
            raise ValueError("strange numbers")
        return np.cumsum(x)

    f = fg.primitive(cumsum)
    f.defvjp(lambda g, y, a: fg.cumsum(g[::-1])[::-1])
    with pytest.raises(fg.TraceError, match="primitive cumsum was called while .* ValueError: strange numbers"):
        fg.compile(fg.grad(lambda x: f(x).sum()))(X)
    params = [X.copy()]
    step = fg.training_step(lambda p: (f(p[0]) ** 2).sum(), params, fg.optim.SGD(0.01))
    with pytest.warns(RuntimeWarning, match="cannot be traced and runs eagerly"):
        step()
    step()


def test_primitive_in_forward_mode():
    f = fg.primitive(lambda x, y: np.sin(x) * y)
    cos = fg.primitive(np.cos)
    cos.defvjp(lambda g, y, x: -g * np.sin(x))
    cos.defjvp(lambda t, y, x: -t * np.sin(x))
    f.defvjp(lambda g, r, x, y: g * cos(x) * y, lambda g, r, x, y: (g * np.sin(x)).sum())
    f.defjvp(lambda t, r, x, y: t * cos(x) * y, lambda t, r, x, y: t * np.sin(x))
    fg.check_grads(lambda x, y: fg.sum(f(x * x, y) ** 3), (X, 2.0), order=3)
    h = fg.hessian(lambda x: fg.sum(f(x, 2.0)))(X)
    np.testing.assert_allclose(h, np.diag(-2 * np.sin(X)), rtol=1e-14)
    np.testing.assert_allclose(fg.hvp(lambda x: fg.sum(f(x, 2.0)), (X,), (X,)), -2 * np.sin(X) * X, rtol=1e-14)


def test_primitive_without_a_rule_of_forward_mode_says_so():
    f = fg.primitive(lambda x, y: x * y)
    with pytest.raises(NotImplementedError, match=r"no forward-mode rule for x.* give it one by <lambda>.defjvp"):
        fg.jvp(lambda x: f(x, 2.0), (1.0,), (1.0,))
    f.defjvp(lambda t, r, x, y: t * y)
    assert fg.jvp(lambda x: f(x, 2.0), (1.0,), (1.0,)) == (2, 2)
    with pytest.raises(NotImplementedError, match="no forward-mode rule for y"):
        fg.jvp(lambda y: f(1.0, y), (1.0,), (1.0,))
    f.defvjp(None, lambda g, r, x, y: g * x)
    assert fg.jvp(lambda y: f(3.0, y), (1.0,), (1.0,)) == (3, 3)
    assert fg.jvp(lambda x: f(x, x), (3.0,), (1.0,)) == (9, 6)
    for returned, error, message in [
        (lambda t: [t], TypeError, "its rule returned list for the tangent of the result"),
        (lambda t: fg.ones(2), ValueError, r"its rule returned shape \(2,\) for the tangent of the result"),
    ]:
        f.defjvp(lambda t, r, x, y, returned=returned: returned(t))
        with pytest.raises(error, match=message):
            fg.jvp(lambda x: f(x, 2.0), (1.0,), (1.0,))
    with pytest.raises(TypeError, match="expected functions and None, got 3"):
        f.defjvp(3)


# ---- vmap -----------------------------------------------------------------------------------------------------------
def test_vmap():
    f = scaled_sine()
    np.testing.assert_allclose(fg.vmap(fg.grad(f), (0, None))(X, 2.0), 2 * np.cos(X), rtol=1e-15)
    np.testing.assert_allclose(fg.vmap(f, (0, None))(X, 2.0), 2 * np.sin(X), rtol=1e-15)
    saving = fg.checkpoint(lambda x: np.sin(x) * x)
    np.testing.assert_allclose(fg.vmap(fg.grad(saving))(X), np.cos(X) * X + np.sin(X), rtol=1e-15)
    np.testing.assert_allclose(fg.grad(lambda x: fg.vmap(saving)(x).sum())(X), np.cos(X) * X + np.sin(X), rtol=1e-15)


CONSTANT_TANGENTS = {
    "a number": lambda p, t: (p[0] ** 2, np.float64(4.0)),
    "of the primals": lambda p, t: (p[0] ** 2, fg.stop_gradient(p[0]) * 2.0),
    "cut off": lambda p, t: (p[0] ** 2, 2 * fg.stop_gradient(p[0] * t[0])),
}


@pytest.mark.parametrize("rule", CONSTANT_TANGENTS.values(), ids=CONSTANT_TANGENTS)
def test_tangents_that_do_not_depend_on_those_given_are_no_silent_zeros(rule):
    square = fg.custom_jvp(lambda x: x * x)
    square.defjvp(rule)
    with pytest.raises(
        TypeError, match="jvp returned a tangent that is not zero and does not depend on the tangents given"
    ):
        fg.grad(square)(2.0)


def test_a_tangent_of_constant_zeros_is_right():
    step = fg.custom_jvp(lambda x: np.sign(x))
    step.defjvp(lambda p, t: (np.sign(p[0]), np.zeros(2)))
    np.testing.assert_array_equal(fg.grad(lambda x: (step(x) * x).sum())(np.array([2.0, -3.0])), [1, -1])


# ---- tensors that a primitive reads from outside ---------------------------------------------------------------------
def reading(w):
    """A primitive that reads w from outside: its result is w * a."""
    scaled = fg.primitive(lambda a: a * w)
    scaled.defvjp(lambda g, y, a: g * w)
    scaled.defjvp(lambda t, y, a: t * w)
    return scaled


@pytest.mark.parametrize(
    "call",
    [
        lambda: fg.vmap(lambda w: reading(w)(w))(np.array([1.0, 2.0, 5.0])),
        lambda: fg.vmap(lambda w: fg.primitive(lambda a: np.sin(w) * a)(2 * w))(np.array([1.0, 2.0])),
        lambda: fg.vmap(lambda w: fg.primitive(lambda a: {"y": [a, a + w]})(2 * w))(np.array([1.0, 2.0])),
        lambda: fg.vmap(lambda w: fg.cond(w > 1, lambda c: reading(w)(c), lambda c: c, w))(np.array([1.0, 2.0])),
        lambda: fg.vmap(lambda w: fg.fori_loop(0, 2, lambda i, c: reading(w)(c), w))(np.array([1.0, 2.0])),
        lambda: fg.vmap(lambda w: fg.sum(reading(w)(w * np.ones(2))))(np.array([1.0, 2.0])),
        lambda: fg.grad(lambda w: fg.sum(reading(w)(w * np.ones(2))))(3.0),
        lambda: fg.grad(lambda w: fg.sum(reading(w)(fg.tensor(np.ones(2)))))(3.0),
        lambda: fg.jvp(lambda w: reading(w)(w * np.ones(2)), (3.0,), (1.0,)),
        lambda: fg.vmap(fg.grad(lambda w: reading(w)(w)))(np.array([1.0, 2.0])),
        lambda: reading(fg.tensor(2.0, requires_grad=True))(fg.tensor(1.0)),
    ],
)
def test_a_primitive_refuses_a_tensor_from_outside_that_is_differentiated_or_mapped(call):
    with pytest.raises(TypeError, match="reads a tensor which is differentiated or mapped and is none of"):
        call()


def test_a_primitive_may_read_a_constant_tensor_and_return_one():
    w = fg.tensor([2.0, 3.0])
    x = np.array([[1.0, 2.0], [5.0, 7.0]])
    np.testing.assert_array_equal(fg.vmap(reading(w))(x), x * w.numpy())
    np.testing.assert_array_equal(fg.grad(lambda x: fg.sum(reading(w)(x)))(x), np.ones((2, 2)) * w.numpy())
    np.testing.assert_array_equal(fg.grad(lambda x: fg.sum(reading(fg.stop_gradient(x))(x)))(x), x)


def test_a_primitive_may_use_transforms_inside():
    def slope(w):
        inner = fg.primitive(lambda a: fg.grad(lambda z: fg.sum(z**3))(a))
        inner.defvjp(lambda g, y, a: g * 6 * a)
        return fg.sum(inner(w))

    np.testing.assert_array_equal(fg.grad(slope)(np.array([1.0, 2.0])), [6, 12])
    np.testing.assert_array_equal(fg.vmap(fg.grad(slope))(np.eye(2)), 6 * np.eye(2))
    cubed = fg.compile(lambda a: a**3)

    def replayed(w):
        inner = fg.primitive(lambda a: np.asarray(cubed(a)))
        inner.defvjp(lambda g, y, a: g * 3 * a**2)
        return fg.sum(inner(w))

    np.testing.assert_array_equal(fg.vmap(fg.grad(replayed))(np.eye(2)), 3 * np.eye(2))


def test_numbers_that_a_primitive_returns_are_those_of_each_element():
    for f in (lambda a: int(a.argmax()), lambda a: bool(a[0] > 0), lambda a: float(a[1])):
        found = fg.vmap(fg.primitive(f))(np.eye(3))
        np.testing.assert_array_equal(found, [f(row) for row in np.eye(3)])
        assert found.dtype == np.asarray(f(np.ones(3))).dtype


class Box:
    """No tree: rules see it as it is."""


@pytest.mark.parametrize("nested", [lambda box: box, lambda box: (box, None), lambda box: {"inner": [box]}])
@pytest.mark.parametrize("made", [list, dict], ids=["list", "dict"])
def test_residuals_that_hold_the_result_of_their_own_call_are_freed(made, nested):
    boxes = []

    @fg.custom_vjp
    def f(x):
        return x * 2.0

    def fwd(x):
        boxes.append(made([] if made is list else {"x": x}))
        return x * 2.0, nested(boxes[-1])

    f.defvjp(fwd, lambda residuals, g: (g * 2.0,))
    x = fg.tensor(X, requires_grad=True)
    y = f(x)
    box, watched = boxes.pop(), weakref.ref(y)
    if made is list:
        box.append(y)
    else:
        box["y"] = y
    del y, box
    assert watched() is None


@pytest.mark.parametrize("way", ["residual", "bwd closes over it"])
def test_objects_that_refer_to_the_result_are_freed_after_a_backward_pass(way):
    box = Box()
    f = fg.custom_vjp(lambda x: x * 2.0)
    if way == "residual":
        boxes = [box]
        f.defvjp(lambda x: (x * 2.0, boxes.pop()), lambda residual, g: (g * 2.0,))
    else:
        f.defvjp(lambda x: (x * 2.0, None), lambda residual, g, box=box: (g * 2.0,))
    box.y = f(fg.tensor(X, requires_grad=True))
    watched = weakref.ref(box.y)
    box.y.sum().backward()
    del box, f
    gc.collect()
    assert watched() is None
