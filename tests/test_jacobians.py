"""Jacobians and Hessians against each other in every order of the modes, against SciPy's and loops over rows."""

import importlib

import numpy as np
import pytest
import scipy.optimize
from test_higher_order import STRUCTURAL, spread

import fastgrad as fg

ORDERS = {
    "fwd over rev": fg.hessian,
    "rev over fwd": lambda f: fg.jacrev(fg.jacfwd(f)),
    "rev over rev": lambda f: fg.jacrev(fg.jacrev(f)),
    "fwd over fwd": lambda f: fg.jacfwd(fg.jacfwd(f)),
}


def rosenbrock(x):
    return fg.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def by_rows(f, *args):
    """The Jacobian by each argument, a backward pass a row."""
    y, pullback = fg.vjp(f, *args)
    rows = [pullback(unit.reshape(np.shape(y))) for unit in np.eye(np.size(y), dtype=np.asarray(y).dtype)]
    return [np.reshape(parts, (*np.shape(y), *np.shape(x))) for parts, x in zip(zip(*rows), args)]


@pytest.mark.parametrize("transform", [fg.jacrev, fg.jacfwd])
@pytest.mark.parametrize("name", STRUCTURAL)
def test_every_structural_row(name, transform):
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if name == "cast" else {"rtol": 1e-12, "atol": 1e-12}
    for f, *args in STRUCTURAL[name]:
        numbers = tuple(range(len(args)))
        jacobian = transform(f, numbers)
        expected = by_rows(f, *args)
        for found in (jacobian(*args), fg.compile(jacobian)(*args)):
            for got, exact in zip(found, expected):
                assert got.shape == exact.shape and got.dtype == exact.dtype
                np.testing.assert_allclose(got, exact, **tolerance)


def test_the_value_beside_the_jacobian():
    calls = []

    def f(x, y):
        calls.append(1)
        return {"products": x[1:] * y, "sum": fg.sum(x)}, "more"

    x, y = spread(3), np.float32(2.0)
    jacobian, aux = fg.jacobian(f, has_aux=True)(x, y)
    calls.clear()
    both = fg.value_and_jacobian(f, has_aux=True)
    (value, more), found = both(x, y)
    assert calls == [1] and more == aux == "more"
    np.testing.assert_array_equal(value["products"], x[1:] * 2)
    assert type(value["products"]) is np.ndarray and type(value["sum"]) is np.float64
    for name, expected in jacobian.items():
        np.testing.assert_array_equal(found[name], expected)
    y = 2.0
    by_both = fg.value_and_jacobian(lambda x, y: x * y, (0, 1))
    for way in (by_both, fg.compile(by_both), lambda x, y: fg.vmap(by_both, in_axes=(0, None))(x[None], y)):
        value, (dx, dy) = way(x, y)
        for found, expected in zip((value, dx, dy), (x * y, 2 * np.eye(3), x)):
            np.testing.assert_array_equal(np.asarray(found).reshape(expected.shape), expected)
    third = fg.grad(lambda x: fg.sum(fg.value_and_jacobian(lambda x: x**3)(x)[0]))
    np.testing.assert_allclose(third(x), 3 * x**2)
    with pytest.raises(TypeError, match="value_and_jacobian: expected a function, got 3"):
        fg.value_and_jacobian(3)
    with pytest.raises(TypeError, match="value_and_jacobian"):
        fg.value_and_jacobian(lambda x: "a")(1.0)


W, SQUARE = spread(4, 5), spread(4, 4)
LAYERS = {  # what a pass meets first while its cotangents or tangents are still a diagonal
    "matrix on the left": (lambda x: fg.tanh(W @ x + 1), 5),
    "matrix on the right": (lambda x: fg.tanh(x @ W + 1), 4),
    "transposed": (lambda x: fg.tanh(W.T @ fg.exp(x)), 4),
    "no slope": (lambda x: SQUARE @ x, 4),
    "two layers": (lambda x: fg.tanh(SQUARE @ fg.tanh(W @ x)), 5),
    "quotients and signs": (lambda x: -(2 / x) / np.array([1.0, 2, 4]), 3),
    "powers": (lambda x: x ** np.array([1.0, 2, 3]) + np.array([1.0, 2, 3]) ** x, 3),
    "twice": (lambda x: fg.sin(x) - x * fg.cos(x) + x, 3),
    "stretched": (lambda x: x.reshape(3, 1) * np.ones((1, 2)), 3),
    "row of a table": (lambda x: fg.tanh(x.reshape(1, 4)) @ SQUARE, 4),
    "column of a table": (lambda x: (SQUARE @ x.reshape(4, 1)).T, 4),
    "outer product": (lambda x: x.reshape(4, 1) @ x.reshape(1, 4), 4),
    "table": (lambda x: fg.exp(x.reshape(2, 2)) @ SQUARE[:2], 4),
    "sum of itself": (lambda x: x * x.sum(keepdims=True) + x.sum(), 4),
    "float32": (lambda x: fg.tanh(x.astype(np.float32)).astype(np.float64), 4),
    "kinks": (lambda x: fg.relu(x) + fg.where(x > 0.5, x, 2 * x), 4),
}  # fmt: skip


@pytest.mark.parametrize("transform", [fg.jacrev, fg.jacfwd])
@pytest.mark.parametrize("name", LAYERS)
def test_passes_that_start_from_a_diagonal(name, transform, monkeypatch):
    f, n = LAYERS[name]
    x = spread(n)
    (expected,) = by_rows(f, x)
    tolerance = {"rtol": 1e-6} if name == "float32" else {"rtol": 1e-13, "atol": 1e-14}
    jacobian = transform(f)
    for found in (jacobian(x), fg.compile(jacobian)(x)):
        np.testing.assert_allclose(found, expected, **tolerance)
    monkeypatch.setattr(importlib.import_module("fastgrad._transforms.vmap"), "_FEW", 0)
    np.testing.assert_allclose(jacobian(x), expected, **tolerance)
    second = fg.jacrev(lambda x: fg.jacrev(f)(x))(x)
    np.testing.assert_allclose(fg.jacrev(jacobian)(x), second, **tolerance)
    np.testing.assert_allclose(fg.jacfwd(jacobian)(x), second, **tolerance)


@pytest.mark.parametrize("transform", [fg.jacrev, fg.jacfwd])
def test_few_passes_are_made_one_by_one(transform):
    """Without a trace of a pass: by several arguments, of several results, also empty ones and in float32."""
    w = SQUARE[:2, :2]

    def f(x, y):
        return {"a": w @ x * y["t"], "b": fg.sum(x) * y["u"], "none": x[:0]}

    args = spread(2).astype(np.float32), {"t": np.float32(2.0), "u": np.array([3.0], np.float32)}
    found, compiled = (jacobian(*args) for jacobian in (transform(f, (0, 1)), fg.compile(transform(f, (0, 1)))))
    for name, shape in ("a", (2,)), ("b", (1,)), ("none", (0,)):
        for got, expected, x in zip(fg.tree.leaves(found[name]), fg.tree.leaves(compiled[name]), fg.tree.leaves(args)):
            assert got.shape == (*shape, *np.shape(x)) and got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("transform", [fg.jacrev, fg.jacfwd])
def test_a_derivative_that_is_not_finite_spreads_to_no_other_entry(transform):
    """It is not multiplied by the zeros of a unit vector, which would give nan."""
    found = transform(fg.sqrt)(np.array([0.0, 1.0, np.nan]))
    np.testing.assert_array_equal(found, [[np.inf, 0, 0], [0, 0.5, 0], [0, 0, np.nan]])


@pytest.mark.parametrize("transform", [fg.jacrev, fg.jacfwd])
def test_a_jacobian_is_memory_of_its_own(transform):
    """Also where it equals a matrix that f has read."""
    w, x = SQUARE.copy(), spread(4)
    for f in (lambda x: w @ x, lambda x: x @ w, lambda x: fg.tensor(w) @ x, lambda x: x, lambda x: fg.tanh(w @ x)):
        before = transform(f)(x)
        kept = before.copy()
        after = transform(f)(x)
        assert before.flags.writeable and before.flags.c_contiguous
        assert not np.shares_memory(before, after) and not np.shares_memory(before, w)
        after[...] = np.nan
        np.testing.assert_array_equal(before, kept)
        np.testing.assert_array_equal(w, SQUARE)
    t = fg.tensor(SQUARE)
    transform(lambda x: t @ x)(x)[...] = np.nan
    np.testing.assert_array_equal(t.numpy(), SQUARE)


@pytest.mark.parametrize("order", ORDERS)
def test_hessians_in_every_order_of_modes(order):
    x = spread(7)
    expected = scipy.optimize.rosen_hess(x)
    hessian = ORDERS[order](rosenbrock)
    np.testing.assert_allclose(hessian(x), expected, rtol=1e-13, atol=1e-11)
    np.testing.assert_allclose(fg.compile(hessian)(x), expected, rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_hessians_of_every_structural_row(name):
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if name == "cast" else {"rtol": 1e-11, "atol": 1e-11}
    for f, x, *rest in STRUCTURAL[name]:
        found = [hessian(lambda x: fg.sum(f(x, *rest) * x.sum()))(x) for hessian in ORDERS.values()]
        assert found[0].shape == x.shape * 2
        for other in found[1:]:
            np.testing.assert_allclose(other, found[0], **tolerance)


def test_products():
    x, p = spread(9), spread(9)[::-1]
    expected = scipy.optimize.rosen_hess_prod(x, p)
    np.testing.assert_allclose(fg.hvp(rosenbrock, (x,), (p,)), expected, rtol=1e-12)
    np.testing.assert_allclose(fg.hessp(rosenbrock)(x, p), expected, rtol=1e-12)
    np.testing.assert_allclose(fg.compile(fg.hessp(rosenbrock))(x, p), expected, rtol=1e-12)
    f = lambda a, b: fg.sum(a["w"] * b**2)
    ha, hb = fg.hvp(f, ({"w": x}, p), ({"w": p}, x))
    np.testing.assert_allclose(ha["w"], 2 * p * x, rtol=1e-14)
    np.testing.assert_allclose(hb, 2 * p * p + 2 * x * x, rtol=1e-14)
    result = scipy.optimize.minimize(
        lambda x, a: float(np.sum((x - a) ** 4)), np.zeros(3), (2.0,), "Newton-CG",
        jac=lambda x, a: 4 * (x - a) ** 3, hessp=fg.hessp(lambda x, a: fg.sum((x - a) ** 4)),
    )  # fmt: skip
    np.testing.assert_allclose(result.x, 2, atol=1e-2)


def test_elementwise_grad():
    x = spread(2, 3)
    np.testing.assert_allclose(fg.elementwise_grad(np.sin)(x), np.cos(x), rtol=1e-14)
    second = fg.elementwise_grad(fg.elementwise_grad(fg.tanh))
    np.testing.assert_allclose(second(x), -2 * np.tanh(x) / np.cosh(x) ** 2, rtol=1e-13)
    da, db = fg.elementwise_grad(lambda a, b: a * b * b, (0, 1))(x, x)
    np.testing.assert_allclose([da, db], [x * x, 2 * x * x], rtol=1e-14)
    with pytest.raises(TypeError, match="returned a str, expected a tensor"):
        fg.elementwise_grad(lambda x: "1.0")(x)


@pytest.mark.parametrize("transform", [fg.jacrev, fg.jacfwd])
def test_structures_aux_and_argnums(transform):
    f = lambda p, n, q: ({"y": p["w"] * q[0], "z": [(p["w"] * p["b"]).sum() * n]}, "aux")
    p, q = {"w": np.array([1.0, 2.0]), "b": 3.0}, np.array([5.0])
    found, aux = transform(f, argnums=(0, -1), has_aux=True)(p, 2, q)
    assert aux == "aux"
    in_p, in_q = found["y"]
    np.testing.assert_array_equal(in_p["w"], [[5, 0], [0, 5]])
    np.testing.assert_array_equal(in_p["b"], [0, 0])
    np.testing.assert_array_equal(in_q, [[1], [2]])
    in_p, in_q = found["z"][0]
    np.testing.assert_array_equal(in_p["w"], [6, 6])
    assert in_p["b"] == 6 and in_q.shape == (1,) and in_q[0] == 0
    same = transform(lambda x: x * x, (0, 0))(2.0)
    assert same == (4.0, 4.0)


@pytest.mark.parametrize("transform", [fg.jacrev, fg.jacfwd])
def test_shapes_and_dtypes(transform):
    assert transform(fg.exp)(0.0) == 1 and isinstance(transform(fg.exp)(0.0), np.float64)
    x = spread(2, 3).astype(np.float32)
    found = transform(lambda x: fg.tanh(x[:, 0]))(x)
    assert found.shape == (2, 2, 3) and found.dtype == np.float32
    assert transform(fg.exp)(np.zeros((0, 2))).shape == (0, 2, 0, 2)
    assert transform(lambda x: x.sum())(np.zeros(0)).shape == (0,)
    constant = transform(lambda x: fg.stop_gradient(x) + 0 * x[:1])(np.ones(3))
    np.testing.assert_array_equal(constant, np.zeros((3, 3)))
    mapped = fg.vmap(transform(lambda x: x * x * x.sum()))(spread(4, 3))
    looped = [transform(lambda x: x * x * x.sum())(row) for row in spread(4, 3)]
    np.testing.assert_allclose(mapped, looped, rtol=1e-13)
    of_jacobian = lambda x: fg.sum(transform(fg.tanh)(x) ** 2)
    fg.check_grads(of_jacobian, (spread(3),), order=2)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: fg.jacrev(3), "jacrev: expected a function, got 3"),
        (lambda: fg.jacfwd(fg.exp)(np.arange(3)), "jacfwd: args[0] is int64; only float32 and float64 have gradients, "
         "convert it with float(x) or x.astype(float), or leave it out of argnums"),
        (lambda: fg.jacrev(lambda a, b: a, 1)(1.0, {"k": 1}), "jacrev: args[1]['k'] is an int"),
        (lambda: fg.jacrev(fg.exp, 1)(1.0), "jacrev: argnums names argument 1, but exp was called with 1 positional"),
        (lambda: fg.jacrev(fg.exp, "x"), "jacrev: expected argnums as an int or a tuple of ints, got 'x'"),
        (lambda: fg.jacrev(lambda x: "1.0")(1.0),
         "jacrev: <lambda> returned a str, expected a tensor: nothing in it was"),
        (lambda: fg.hvp(fg.exp, 1.0, 1.0),
         "hvp: expected primals as a tuple of f's arguments, got a float; of a single"),
        (lambda: fg.hessp(3), "hessp: expected a function, got 3"),
    ],
)  # fmt: skip
def test_errors(call, text):
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value).startswith(text)
