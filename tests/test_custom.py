"""custom_vjp and custom_jvp: against derivatives by hand and JAX's conventions."""

import gc
import threading
import weakref
from functools import partial

import numpy as np
import pytest
from _threads import run_with_stack

import fastgrad as fg
from fastgrad import _core

X = np.array([0.3, -1.2, 2.0])


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
    """On a small stack, where one frame for each of 10,000 links would not fit."""

    @fg.custom_vjp
    def step(x, before):
        return x * 1

    held = []
    step.defvjp(lambda x, before: (x * 1, (x, held.pop() if held else None)), lambda r, g: (g, None))
    x = fg.tensor(1.0, requires_grad=True)

    def chains():
        y = x
        for _ in range(10_000):
            y = step(y, None)
        y.backward()
        del y
        for _ in range(10_000):  # each leads to the one before by its residuals alone
            y = step(x, None)
            held.append(y)
        del y
        held.clear()

    run_with_stack(256 * 1024, chains)
    assert x.grad == 1


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
    np.testing.assert_allclose(rules[-1].jvp([fg.ones(3)]).numpy(), 2 * np.cos(X), rtol=1e-15)
    c = fg.checkpoint(lambda x, y: (x * y, np.sin(x), y.astype(np.float32)))(x, fg.tensor(X, requires_grad=True))
    found = rules[-1].jvp([fg.ones(3), None])
    np.testing.assert_allclose(found.numpy(), [*X, *np.cos(X), 0, 0, 0], rtol=1e-15)
    rules.clear()
    del y, z, c


def sine(x, w):
    return np.sin(x) * w


def sine_by_rule():
    """The same by a rule, where w is a number or as large as x."""
    f = fg.custom_vjp(sine)
    f.defvjp(
        lambda x, w: (f(x, w), (np.cos(x), np.sin(x), w)),
        lambda r, g: (g * r[0] * r[2], g * r[1] if np.ndim(r[2]) == np.ndim(r[1]) else (g * r[1]).sum()),
    )
    return f


FORWARD = {
    "jvp": lambda f: lambda x: fg.jvp(f, (x, 0.7), (np.cos(x), 1.0))[1],
    "jacfwd": lambda f: fg.jacfwd(lambda x: f(x * x, 0.7)),
    "hessian": lambda f: fg.hessian(lambda x: fg.sum(f(x * x, 0.7) ** 3)),
    "hvp": lambda f: lambda x: fg.hvp(lambda x: fg.sum(f(x * x, 0.7) ** 3), (x,), (np.cos(x),)),
    "jacfwd of a jacfwd": lambda f: fg.jacfwd(fg.jacfwd(lambda x: f(x * x, 0.7))),
    "grad of a jvp": lambda f: fg.grad(lambda x: fg.sum(fg.jvp(lambda x: f(x * x, 0.7), (x,), (np.cos(X),))[1] ** 2)),
    "mapped": lambda f: fg.vmap(lambda v: fg.jvp(f, (v, 0.7), (2 * v, 1.0))[1]),
    "of a mapped function": lambda f: fg.jacfwd(fg.vmap(lambda v: f(v * v, v))),
    "scan": lambda f: fg.hessian(lambda x: fg.sum(fg.scan(lambda c, v: (f(c, v) / 2 + v, f(v, c.sum())), x, x)[1])),
    "while_loop": lambda f: fg.jacfwd(
        lambda x: fg.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, f(c[1], 0.7)), (0, x))[1]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORWARD)
def test_a_reverse_rule_in_forward_mode(name):
    expected = FORWARD[name](sine)(X)
    for call in (FORWARD[name](sine_by_rule()), fg.compile(FORWARD[name](sine_by_rule()))):
        np.testing.assert_allclose(call(X), expected, rtol=1e-12, atol=1e-13)


def test_a_reverse_rule_of_a_tree_in_forward_mode():
    f = fg.custom_vjp(lambda n, p: {"y": p["a"] * p["b"] ** n, "n": n}, nondiff_argnums=0)
    f.defvjp(
        lambda n, p: (f(n, p), (p["a"], p["b"])),
        lambda n, r, g: ({"a": g["y"] * r[1] ** n, "b": None if n == 0 else n * g["y"] * r[0] * r[1] ** (n - 1)},),
    )
    p, t = {"a": X, "b": 2 + X}, {"a": np.cos(X), "b": X**2}
    found = fg.jvp(lambda p: f(3, p)["y"], (p,), (t,))[1]
    np.testing.assert_allclose(found, t["a"] * p["b"] ** 3 + 3 * X * p["b"] ** 2 * t["b"], rtol=1e-14)
    np.testing.assert_array_equal(fg.jvp(lambda p: f(0, p)["y"], (p,), (t,))[1], t["a"])


@pytest.mark.parametrize(
    "bwd", [lambda _, g: np.clip(g, -1, 1), lambda _, g: np.clip(np.sum(g, keepdims=True), -1, 1) + 0 * g,
            lambda _, g: g / np.linalg.norm(g), lambda _, g: g * g,
            lambda _, g: np.where(np.abs(g) > 5, np.sign(g), g), lambda _, g: np.tanh(g)],
)  # fmt: skip
def test_a_reverse_rule_that_is_not_linear_is_refused_in_forward_mode(bwd):
    f = fg.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda *args: (bwd(*args),))
    for call in (lambda x: fg.jvp(f, (x,), (x,))[1], fg.jacfwd(f), fg.hessian(lambda x: fg.sum(f(x) ** 2))):
        for each, x in ((call, X), (fg.compile(call), X), (call, X[:2]), (call, np.ones((4, 6), np.float32))):
            with pytest.raises(TypeError, match="its bwd is not linear in the cotangent.* use custom_jvp"):
                each(x)


def test_a_reverse_rule_that_cannot_be_transposed_says_so():
    f = fg.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda _, g: (np.ones(3),))
    with pytest.raises(TypeError, match="its bwd for x is used for forward mode, too, but its result does not depend"):
        fg.jvp(f, (X,), (X,))
    f.defvjp(lambda x: (x, None), lambda _, g: (None,))
    np.testing.assert_array_equal(fg.jvp(f, (X,), (X,))[1], 0 * X)


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


# ---- references ------------------------------------------------------------------------------------------------------
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
