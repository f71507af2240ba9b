"""primitive: a function on ndarrays with rules of its own, and what it may read from outside its arguments."""

import numpy as np
import pytest

import fastgrad as fg

X = np.array([0.3, -1.2, 2.0])


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


@pytest.mark.parametrize(
    "transform", [fg.grad, fg.jacfwd, lambda f: fg.compile(fg.grad(f))], ids=["reverse", "forward", "compiled"]
)
def test_a_rule_that_returns_nothing_is_no_gradient_of_0(transform):
    f = fg.primitive(np.sin)

    def rule(g, y, x):
        g * fg.cos(x)

    f.defvjp(rule)
    with pytest.raises(TypeError, match="primitive sin: its rule returned None for .*, expected the cotangent"):
        transform(lambda x: f(x).sum())(X)


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
