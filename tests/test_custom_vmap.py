"""Rules of custom functions under vmap, against the function applied to each element by a Python loop."""

from functools import partial

import numpy as np
import pytest

import fastgrad as fg


# Rules that are not the derivatives, so that it shows where one is ignored; of a vector x and a number w.
def wrong_vjp():
    @fg.custom_vjp
    def f(x, w):
        return np.sin(x) * w

    f.defvjp(lambda x, w: (np.sin(x) * w, (x, w)), lambda r, g: (3 * g * r[0] * r[1], (g * r[0] ** 3).sum() * r[1]))
    return f


def wrong_vjp_by_itself():
    @fg.custom_vjp
    def f(x, w):
        return {"y": x * w, "z": (x * x).sum()}, "tag", np.arange(3)

    def fwd(x, w):
        return f(x, w), {"x": x, "w": w, "tag": "tag"}

    def bwd(r, g):
        assert r["tag"] == "tag" and g[1] is None and g[2] is None
        return g[0]["y"] * r["x"] ** 2 + g[0]["z"] * r["w"], (g[0]["y"] * r["x"]).sum() + 5 * g[0]["z"]

    f.defvjp(fwd, bwd)

    def both(x, w):
        y, tag, n = f(x, w)
        return y["y"] * y["z"] * n

    return both


def wrong_jvp():
    @fg.custom_jvp
    def f(x, w):
        return np.sin(x) * w, x[:2].astype(np.float32)

    @f.defjvp
    def _(primals, tangents):
        (x, w), (tx, tw) = primals, tangents
        return f(x, w), (x**2 * w * tx + x * tw * w, (3 * x * tx)[:2].astype(np.float32))

    return lambda x, w: f(x, w)[0] * f(x, w)[1].astype(np.float64).sum()


def wrong_primitive():
    f = fg.primitive(lambda x, w: (np.sin(x) * w, np.argsort(x)))
    f.defvjp(lambda g, y, x, w: 3 * g[0] * y[0] * x, lambda g, y, x, w: (g[0] * x).sum() * w)
    f.defjvp(lambda t, y, x, w: (3 * t * y[0] * x, y[1]), lambda t, y, x, w: (t * x * w, y[1]))
    return lambda x, w: f(x, w)[0] * f(x, w)[1]


def saving():
    return fg.checkpoint(lambda x, w: np.sin(x) ** 2 * w)


def saving_apart():
    """Each result ignores one argument, which may be all that is mapped."""
    of_x, of_w = fg.checkpoint(lambda x, w: np.sin(x) ** 2), fg.checkpoint(lambda x, w: np.exp(w))
    return lambda x, w: of_x(x, w) * of_w(x, w)


XS = np.cos(np.arange(1.0, 13)).reshape(4, 3) + 0.2 * np.arange(12.0).reshape(4, 3)
WRONG = {f.__name__: f() for f in (wrong_vjp, wrong_vjp_by_itself, wrong_jvp, wrong_primitive, saving, saving_apart)}


def mapped_by_hand(f, in_axes=0):
    """What vmap stands for."""

    def mapped(*args):
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        n = next(len(x) for x, axis in zip(args, axes) if axis == 0)
        calls = [f(*[x if axis is None else x[i] for x, axis in zip(args, axes)]) for i in range(n)]
        return fg.stack([fg.asarray(y) for y in calls])

    return mapped


def around(f, vmap, w=0.7):
    """Transforms around and within a vmap."""
    square = lambda y: fg.sum(y * y * y)
    return {
        "grad by the batch": lambda x: fg.grad(lambda x: square(vmap(f, (0, None))(x, w)))(x),
        "grad by both": lambda x: fg.grad(lambda x, w: square(vmap(f, (0, None))(x, w)), (0, 1))(x, np.float64(w))[1],
        "grad by what is the same for all": lambda x: fg.grad(
            lambda w: square(vmap(f, (0, None))(x, w)))(np.float64(w)),
        "grad by what is mapped alone": lambda x: fg.grad(
            lambda ws: square(vmap(f, (None, 0))(fg.asarray(x[0]), ws)))(x[:, 0] + 1),
        "vmap within a vmap": lambda x: fg.grad(lambda x: square(vmap(vmap(f, (None, 0)), (0, None))(x, x[:2, 1])))(x),
        "vmap around a grad of a vmap": lambda x: vmap(fg.grad(lambda v: square(vmap(f, (None, 0))(v, v * w))))(x),
        "grad of a vmap of a grad": lambda x: fg.grad(
            lambda x: square(vmap(fg.grad(lambda v: square(f(v * v, w))))(x)))(x),
        "grad of a vmap of a grad by another": lambda x: fg.grad(
            lambda w: square(vmap(lambda v: fg.grad(lambda u: square(f(u * w, w)))(v))(x)))(np.float64(w)),
        "second order": lambda x: fg.grad(lambda x: square(fg.grad(lambda x: square(vmap(f, (0, None))(x, w)))(x)))(x),
        "jacobian": lambda x: fg.jacobian(lambda x: vmap(f, (0, None))(x, w))(x),
        "scaled and summed": lambda x: fg.grad(lambda x: vmap(lambda v: f(v, v.sum()).sum() * v[0])(x).sum())(x),
        "backward": lambda x: backward(lambda t: square(vmap(f, (0, None))(t, w)), x),
    }  # fmt: skip


def backward(f, x):
    t = fg.tensor(x, requires_grad=True)
    f(t).backward()
    return t.grad.numpy()


@pytest.mark.parametrize("which", around(None, None))
@pytest.mark.parametrize("name", WRONG)
def test_rules_under_vmap(name, which):
    f = WRONG[name]
    expected = around(f, mapped_by_hand)[which](XS)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(around(f, fg.vmap)[which](XS), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", WRONG)
def test_rules_of_forward_mode_under_vmap(name):
    def value(vmap, x):
        return vmap(WRONG[name], (0, None))(x, 0.7)

    t = np.cos(XS)
    for derivative in (
        lambda f: fg.jvp(f, (XS,), (t,))[1],
        lambda f: fg.jacfwd(f)(XS),
        lambda f: fg.vmap(lambda t: fg.jvp(f, (XS,), (t,))[1])(np.stack([t, t * t])),
        lambda f: fg.hvp(lambda x: fg.sum(f(x) ** 2), (XS,), (t,)),
        lambda f: fg.hessian(lambda x: fg.sum(f(x) ** 2))(XS),
        lambda f: fg.jvp(lambda w: fg.vmap(WRONG[name], (0, None))(XS, w), (0.7,), (2.0,))[1] if f is f else None,
    ):
        expected = derivative(partial(value, mapped_by_hand))
        np.testing.assert_allclose(derivative(partial(value, fg.vmap)), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in WRONG if name != "wrong_primitive"])
def test_compiled_rules_under_vmap_and_in_loops(name):
    f = WRONG[name]
    for which in ("grad by both", "vmap around a grad of a vmap", "grad of a vmap of a grad"):
        expected = around(f, mapped_by_hand)[which](XS)
        np.testing.assert_allclose(fg.compile(around(f, fg.vmap)[which])(XS), expected, rtol=1e-11, atol=1e-13)

    def loop(x):
        step = lambda c, v: (f(c, v.sum()) * 0.5, fg.vmap(f, (0, None))(fg.stack([v, c]), 2.0))
        return fg.sum(fg.scan(step, x[0], x)[1])

    for g in (fg.grad(loop), fg.grad(lambda x: fg.sum(fg.grad(loop)(x) ** 2))):
        np.testing.assert_allclose(fg.compile(g)(XS), g(XS), rtol=1e-10, atol=1e-13)


def test_vmap_of_a_primitive():
    sizes = []
    f = fg.primitive(lambda x: (sizes.append(x.shape), np.cumsum(x))[1])
    np.testing.assert_allclose(fg.vmap(f)(XS), np.cumsum(XS, 1))
    assert set(sizes) == {(3,)}
    np.testing.assert_allclose(fg.vmap(fg.vmap(f))(XS.reshape(2, 2, 3)), np.cumsum(XS, 1).reshape(2, 2, 3))
    assert fg.vmap(f)(np.zeros((0, 3))).shape == (0, 3)
    np.testing.assert_allclose(fg.compile(fg.vmap(f))(XS), np.cumsum(XS, 1))
    assert set(sizes) == {(3,)}


def test_an_empty_batch_of_a_rule():
    for name, f in WRONG.items():
        g = fg.grad(lambda x, w: fg.sum(fg.vmap(f, (0, None))(x, w)), (0, 1))
        gx, gw = g(np.zeros((0, 3)), 1.0)
        assert gx.shape == (0, 3) and gw == 0, name


def test_a_rule_that_keeps_a_value_of_a_mapped_function_is_refused():
    def f(x, c):
        g = fg.custom_vjp(lambda z: z * 2)
        g.defvjp(lambda z: (z * 2, None), lambda r, u: (u * c,))  # c of which element?
        return g(x)

    with pytest.raises(RuntimeError, match="return what is needed from that function, or make it an argument"):
        fg.grad(lambda x: fg.vmap(f)(x, XS[:, 1]).sum())(XS[:, 0])
    np.testing.assert_array_equal(fg.vmap(fg.grad(f))(XS[:, 0], XS[:, 1]), XS[:, 1])


def test_checkpoint_whose_result_is_the_same_for_all_elements():
    w, xs = np.array([0.3, 0.5]), np.arange(1.0, 4)
    makers = (fg.checkpoint, lambda f: f)

    def closed(make):
        return lambda w: fg.vmap(lambda x: make(lambda x: fg.tanh(w) ** 2)(x) * x.sum())(xs).sum()

    def nested(make):
        f = make(lambda w, x, y: fg.tanh(w * y) ** 2)
        return lambda w: fg.vmap(lambda y: fg.vmap(lambda x: f(w, x, y))(xs))(xs[:2]).sum()

    def within(make):  # what a gradient within reads from outside of it
        f = make(lambda v, x, w: fg.sin(v * w) * w)
        return lambda w: fg.vmap(lambda x: sum(fg.value_and_grad(lambda v: f(v, x, w).sum())(2.0)))(xs).sum()

    def loop(make):
        f = make(lambda w, x: fg.tanh(w) ** 2)
        return lambda w: fg.scan(lambda c, x: (c + f(w, x), None), fg.zeros(2), xs)[0].sum()

    for case in (closed, nested, within, loop):
        saving, plain = (case(make) for make in makers)
        for g in (fg.grad, fg.jacfwd, fg.hessian):
            expected = g(plain)(w)
            assert np.abs(expected).max() > 0.1
            for run in (g, lambda f: fg.compile(g(f)), lambda f: g(fg.compile(f))):
                np.testing.assert_allclose(run(saving)(w), expected, rtol=1e-12, err_msg=case.__name__)
