"""Forward mode: every row against its vjp and against high precision, levels that must not be confused, linearize."""

import numpy as np
import pytest
from _oracles import BINARY, FUNCTIONS, ROWS, UNARY, broadcast_operands, exact_derivative, samples
from test_higher_order import STRUCTURAL, spread

import fastgrad as fg
from fastgrad import _core
from fastgrad._rules import jvp
from fastgrad._rules.table import RULES
from fastgrad._transforms import pushforward


def transposed(f, *args, rtol=1e-12):
    """<v, J u> = <J^T v, u>, at arrays args; eager, differentiated and compiled."""
    rng = np.random.default_rng(0)
    us = tuple(rng.normal(size=np.shape(a)).astype(np.asarray(a).dtype) for a in args)
    y, ju = fg.jvp(f, args, us)
    value, pullback = fg.vjp(f, *args)
    v = rng.normal(size=np.shape(y)).astype(np.asarray(y).dtype)
    left, right = np.sum(v * ju), sum(np.sum(g * u) for g, u in zip(pullback(v), us))
    scale = np.sum(np.abs(v * ju)) + 1e-3
    np.testing.assert_array_equal(y, value)
    assert np.asarray(ju).dtype == np.asarray(y).dtype
    assert abs(left - right) <= rtol * scale, (left, right)

    def recorded(t):
        return fg.sum(fg.jvp(f, args, tuple(u * t for u in us))[1] * v)

    np.testing.assert_allclose(fg.grad(recorded)(0.7), left, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(fg.linearize(f, *args)[1](*us), ju, rtol=rtol)
    compiled = fg.compile(lambda args, us: fg.jvp(f, tuple(args), tuple(us)))
    for got, expected in zip(compiled(list(args), list(us)), (y, ju)):
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)


# ---- rows ------------------------------------------------------------------------------------------------------------
def test_every_operation_with_a_vjp_has_a_rule():
    differentiable = [name for name, row in _core.STRUCTURAL.items() if row["differentiable"]]
    assert [name for name, rules in zip(_core.OP_NAMES, RULES) if rules.jvp] == [*ROWS, *differentiable, "custom"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_elementwise_rows(name, dtype):
    args = samples(ROWS[name], 7, dtype, seed=len(name))
    transposed(FUNCTIONS[name], *args, rtol=1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("name", UNARY)
def test_unary_rows_against_high_precision(name):
    (x,) = samples(ROWS[name], 5, np.float64, seed=3)
    got = fg.jvp(FUNCTIONS[name], (x,), (np.full(5, 2.0),))[1]
    expected = [2 * exact_derivative(ROWS[name], (1,), at) for at in x]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BINARY)
def test_binary_rows_against_high_precision(name):
    a, b = samples(ROWS[name], 5, np.float64, seed=3)
    got = fg.jvp(FUNCTIONS[name], (a, b), (np.full(5, 2.0), np.full(5, -3.0)))[1]
    row = ROWS[name]
    expected = [2 * exact_derivative(row, (1, 0), *at) - 3 * exact_derivative(row, (0, 1), *at) for at in zip(a, b)]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BINARY)
def test_binary_rows_with_broadcast_operands(name):
    f, (a, b) = FUNCTIONS[name], broadcast_operands(name)
    transposed(f, a, b)
    transposed(lambda b: f(a, b), b)
    transposed(lambda a: f(a[:1], b), a)
    transposed(lambda b: f(a.astype(np.float32), b), b, rtol=1e-6)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_structural_rows(name):
    for f, *args in STRUCTURAL[name]:
        transposed(f, *args, rtol=1e-12 if name != "cast" else 1e-6)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_tangents_of_single_operands(name):
    """The other operands are constants or have no tangent."""
    for f, *args in STRUCTURAL[name]:
        for i, x in enumerate(args):
            transposed(lambda x: f(*args[:i], x, *args[i + 1 :]), x, rtol=1e-12 if name != "cast" else 1e-6)


@pytest.mark.parametrize("name", [*ROWS, *STRUCTURAL])
def test_the_rule_that_follows_from_the_vjp_equals_one_by_hand(name, monkeypatch):
    """`jvp.of_vjp` in the place of each operation's own rule, also where the tangent is differentiated."""
    if name in ROWS:
        cases = [(lambda *args: FUNCTIONS[name](*args) * 2, *samples(ROWS[name], 5, np.float64, seed=2))]
    else:
        cases = STRUCTURAL[name]

    def tangents(f, args):
        us = [np.cos(np.arange(np.size(a)) + 1.0).reshape(np.shape(a)) for a in args]
        first = lambda *args: fg.jvp(f, args, tuple(us))[1]
        return [
            first(*args),
            fg.jvp(first, tuple(args), tuple(us))[1],
            fg.grad(lambda *args: fg.sum(first(*args)))(*args),
        ]

    expected = [tangents(f, args) for f, *args in cases]
    op, rules, used = _core.OP_NUMBERS[name], [*RULES], []
    rules[op] = rules[op]._replace(jvp=lambda *given: used.append(given) or jvp.of_vjp(*given))
    monkeypatch.setattr(pushforward, "RULES", rules)
    for (f, *args), values in zip(cases, expected):
        for got, value in zip(tangents(f, args), values):
            np.testing.assert_allclose(got, value, rtol=1e-12 if name != "cast" else 1e-6, atol=1e-12)
    assert used


def test_extrema_that_tie_share_the_tangent_as_they_share_the_cotangent():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    got = fg.jvp(lambda x: x.max(1), (x,), (np.array([[9.0, 1.0, 2.0], [1.0, 2.0, 6.0]]),))[1]
    np.testing.assert_allclose(got, [1.5, 3.0], rtol=1e-15)
    transposed(lambda x: x.max(1), x)


def test_operations_in_place():
    def f(x):
        y = x * 2
        y += x * x
        y *= 3
        return y

    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(fg.jvp(f, (x,), (np.ones(2),))[1], 6 + 6 * x, rtol=1e-15)


# ---- levels ----------------------------------------------------------------------------------------------------------
def derivative(f):
    return lambda x: fg.jvp(f, (x,), (1.0,))[1]


@pytest.mark.parametrize("inner", [derivative, fg.grad])
@pytest.mark.parametrize("outer", [derivative, fg.grad])
def test_perturbations_are_not_confused(outer, inner):
    """Siskind and Pearlmutter, "Nesting forward-mode AD in a functional framework", 2008."""
    assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0) == 1
    assert outer(lambda x: x * inner(lambda y: x * y)(2.0))(3.0) == 6
    assert outer(lambda x: inner(lambda y: x * y * y)(x))(3.0) == 12
    assert outer(lambda x: inner(lambda y: x)(1.0) + x)(1.0) == 1
    assert outer(lambda x: inner(lambda y: fg.sin(y) * 0 + x * x)(x) + x**3)(2.0) == 12
    third = outer(inner(outer(lambda x: x**5)))
    assert third(2.0) == 240
    shifted = outer(lambda x: inner(lambda y: outer(lambda z: x * y * z)(5.0) * y)(4.0))
    assert shifted(3.0) == 8
    compiled = fg.compile(outer(lambda x: x * inner(lambda y: x * y * y)(2.0 * x)))
    assert compiled(np.array(3.0)) == 4 * 3 * 9


def test_the_inner_tangent_may_depend_on_the_outer_argument():
    def f(x):
        return fg.jvp(fg.sin, (x,), (x * x,))[1]

    x = 0.7
    expected = 2 * x * np.cos(x) - x * x * np.sin(x)
    np.testing.assert_allclose([derivative(f)(x), fg.grad(f)(x)], expected, rtol=1e-14)
    y, pullback = fg.vjp(fg.sin, x)
    np.testing.assert_allclose(fg.grad(lambda c: pullback(c * c)[0])(3.0), 6 * np.cos(x), rtol=1e-14)
    f_jvp = fg.linearize(fg.sin, x)[1]
    np.testing.assert_allclose(fg.grad(lambda t: f_jvp(t * t))(3.0), 6 * np.cos(x), rtol=1e-14)


def test_within_vmap_and_around_it():
    x, u = spread(4, 3), spread(4, 3)[::-1]
    f = lambda x: fg.tanh(x) * fg.sum(x * x)
    rows = np.array([fg.jvp(f, (a,), (b,))[1] for a, b in zip(x, u)])
    mapped = fg.vmap(lambda a, b: fg.jvp(f, (a,), (b,))[1])
    np.testing.assert_allclose(mapped(x, u), rows, rtol=1e-13)
    np.testing.assert_allclose(fg.compile(mapped)(x, u), rows, rtol=1e-13)
    np.testing.assert_allclose(fg.jvp(fg.vmap(f), (x,), (u,))[1], rows, rtol=1e-13)
    y, pullback = fg.vjp(fg.vmap(f), x)
    assert abs(np.sum(u * fg.jvp(fg.vmap(f), (x,), (x,))[1]) - np.sum(pullback(u)[0] * x)) < 1e-12


def test_tensors_that_require_gradients():
    w = fg.tensor([1.0, 2.0], requires_grad=True)
    y, dy = fg.jvp(lambda x: w * x * x, (np.array([3.0, 4.0]),), (np.ones(2),))
    dy.backward(np.ones(2))
    np.testing.assert_array_equal(w.grad.numpy(), [6.0, 8.0])
    t = fg.tensor(2.0, requires_grad=True)
    fg.jvp(fg.exp, (0.0,), (t,))[1].backward()
    assert t.grad == 1
    with fg.no_grad():
        y, dy = fg.jvp(lambda x: w * x, (np.ones(2),), (np.ones(2),))
    np.testing.assert_array_equal(dy, [1.0, 2.0])


# ---- what comes in and out -------------------------------------------------------------------------------------------
def test_structures():
    f = lambda p, q: {"y": [p["w"] * q, None], "z": (p["w"] * p["b"]).sum()}
    p, q = {"w": np.array([1.0, 2.0]), "b": 3.0}, np.array([5.0, 7.0])
    y, dy = fg.jvp(f, (p, q), ({"w": np.array([1, 0]), "b": 1.0}, np.zeros(2)))
    assert dy["y"][1] is None and isinstance(dy["z"], np.float64) and dy["z"] == 6
    np.testing.assert_array_equal(dy["y"][0], [5.0, 0.0])
    y, pullback = fg.vjp(f, p, q)
    gp, gq = pullback({"y": [np.ones(2), None], "z": 2.0})
    np.testing.assert_array_equal(gp["w"], [11.0, 13.0])
    assert gp["b"] == 6.0
    np.testing.assert_array_equal(gq, [1.0, 2.0])


def test_aux():
    f = lambda x: (x * x, {"twice": 2 * x, "name": "f"})
    y, dy, aux = fg.jvp(f, (3.0,), (1.0,), has_aux=True)
    assert (y, dy, aux["name"]) == (9, 6, "f") and aux["twice"] == 6 and not isinstance(aux["twice"], fg.Tensor)
    y, pullback, aux = fg.vjp(f, 3.0, has_aux=True)
    assert pullback(2.0) == (12.0,) and aux["name"] == "f"
    y, f_jvp, aux = fg.linearize(f, 3.0, has_aux=True)
    assert f_jvp(2.0) == 12 and aux["twice"] == 6


def test_results_are_the_callers_own():
    x = np.ones(1000)
    y, pullback = fg.vjp(np.tanh, x)
    _, f_jvp = fg.linearize(np.tanh, x)
    before = pullback(np.ones(1000))[0].copy()
    y[:] = 5
    x[:] = 7
    np.testing.assert_array_equal(pullback(np.ones(1000))[0], before)
    np.testing.assert_array_equal(f_jvp(np.ones(1000)), before)
    v = np.ones(1000)
    (g,) = fg.vjp(lambda x: x + 0, x)[1](v)
    g[:] = 3
    assert v.sum() == 1000
    t = fg.jvp(lambda x: x, (x,), (v,))[1]
    t[:] = 3
    assert v.sum() == 1000 and x.sum() == 7000


def test_a_pullback_may_be_called_again_and_takes_several_results():
    y, pullback = fg.vjp(lambda x: (x, x * x, 0 * fg.stop_gradient(x)), np.array([1.0, 2.0]))
    for scale in 1.0, 2.0:
        (g,) = pullback((np.full(2, scale), np.ones(2), np.ones(2)))
        np.testing.assert_array_equal(g, [scale + 2, scale + 4])


def test_linearize_does_not_run_the_function_again():
    calls = []
    _, f_jvp = fg.linearize(lambda x: (calls.append(1), x**3)[1], 2.0)
    assert [f_jvp(1.0), f_jvp(2.0)] == [12.0, 24.0] and calls == [1]


def test_values_changed_since_are_refused():
    w = fg.tensor(np.array([1.0, 2.0]))
    _, f_jvp = fg.linearize(lambda x: x * w, np.ones(2))
    w += 1
    try:
        got = f_jvp(np.ones(2))
    except RuntimeError as error:
        assert "changed in place" in str(error)
    else:
        np.testing.assert_array_equal(got, [1.0, 2.0])


def test_a_long_chain_takes_no_recursion():
    def f(x):
        for _ in range(100_000):
            x = x + 1e-5
        return x

    assert fg.jvp(f, (0.0,), (1.0,))[1] == 1


def test_no_silent_zeros():
    zero = fg.jvp(lambda x: fg.stop_gradient(x), (np.ones(2),), (np.ones(2),))[1]
    np.testing.assert_array_equal(zero, [0.0, 0.0])
    for transform in (lambda f: fg.jvp(f, (1.0,), (1.0,)), lambda f: fg.vjp(f, 1.0), lambda f: fg.linearize(f, 1.0)):
        with pytest.raises(TypeError, match="returned a str, expected a tensor: nothing in it was recorded"):
            transform(lambda x: "1")
        with pytest.raises(TypeError, match="float: a tensor that is being differentiated would silently become a con"):
            transform(lambda x: float(x))
    for transform in (fg.jacrev, fg.jacfwd, fg.hessian):
        with pytest.raises(TypeError, match=r"returned bool at \['k'\], which has no derivative; return it by has_aux"):
            transform(lambda x: {"k": x > 0})(1.0)


@pytest.mark.parametrize("of", [
    lambda x: x > 1, lambda x: fg.floor(x).astype(int), lambda x: np.arange(2), lambda x: np.array([True, False]),
    lambda x: fg.argsort(x),
])  # fmt: skip
def test_integers_and_booleans_have_derivatives_of_zeros(of):
    """As in JAX, where they stand beside floats, too: f(x) is right, and nothing of their cotangents counts."""
    x, zeros = np.array([0.5, 2.0]), np.zeros(2)
    expected = np.asarray(of(fg.tensor(x)))
    y, pullback = fg.vjp(of, x)
    assert y.dtype == expected.dtype and type(y) is np.ndarray
    np.testing.assert_array_equal(y, expected)
    for g in (zeros, np.ones(2), np.ones(2, bool), np.array([1, 2])):
        np.testing.assert_array_equal(pullback(g)[0], zeros)
    for y, t in (fg.jvp(of, (x,), (np.ones(2),)), (lambda y, push: (y, push(np.ones(2))))(*fg.linearize(of, x))):
        np.testing.assert_array_equal(y, expected)
        assert t.dtype == np.float64
        np.testing.assert_array_equal(t, zeros)
    both = lambda x: {"k": of(x), "y": x * x}
    y, pullback = fg.vjp(both, x)
    np.testing.assert_array_equal(y["k"], expected)
    np.testing.assert_array_equal(pullback({"k": np.ones(2), "y": np.ones(2)})[0], 2 * x)
    for transform in (lambda f: f, fg.compile):
        y, t = transform(lambda x: fg.jvp(both, (x,), (np.ones(2),)))(x)
        np.testing.assert_array_equal(y["k"], expected)
        np.testing.assert_array_equal(t["k"], zeros)
        np.testing.assert_array_equal(t["y"], 2 * x)
    np.testing.assert_array_equal(fg.grad(lambda x: fg.sum(fg.vjp(both, x)[1]({"k": zeros, "y": x})[0]))(x), 4 * x)
    assert fg.vjp(lambda x: True, 2.0)[0] == np.True_ and fg.vjp(lambda x: True, 2.0)[1](1.0) == (0.0,)


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: fg.jvp(3, (1.0,), (1.0,)), TypeError, "jvp: expected a function, got 3"),
        (lambda: fg.jvp(fg.exp, 1.0, 1.0), TypeError,
         "jvp: expected primals as a tuple of one for each argument of f, got "
         "a float; of a single argument x write (x,)"),
        (lambda: fg.jvp(fg.exp, (1,), (1.0,)), TypeError, "jvp: primals[0] is an int; only float32 and float64 have "
         "gradients, convert it with float(x) or x.astype(float), or let f read it from outside its arguments"),
        (lambda: fg.vjp(lambda p: p["a"], {"a": np.arange(3)}), TypeError, "vjp: primals[0]['a'] is int64"),
        (lambda: fg.jvp(fg.exp, (np.ones(2),), (np.ones(3),)), ValueError,
         "jvp: tangents[0] has shape (3,), expected (2,), that of the value it belongs to"),
        (lambda: fg.vjp(fg.exp, np.ones(2))[1](1.0), ValueError,
         "pullback: cotangents has shape (), expected (2,), that of the value it belongs to"),
        (lambda: fg.jvp(lambda p: p["a"], ({"a": 1.0},), ({"b": 1.0},)), ValueError, "jvp: tangents[0]"),
        (lambda: fg.jvp(fg.exp, (1.0,), (1.0, 2.0)), ValueError, "jvp: tangents"),
        (lambda: fg.jvp(fg.exp, (1.0,), (1.0,), has_aux=True), TypeError,
         "jvp: with has_aux=True exp must return (value, aux), got a Tensor"),
    ],
)  # fmt: skip
def test_errors(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(text)


def test_used_up_graphs_are_refused():
    def f(x):
        y = x * x
        y.sum().backward()
        return y

    with pytest.raises(RuntimeError, match="already used by an earlier backward pass"):
        fg.jvp(f, (np.ones(2),), (np.ones(2),))


@pytest.mark.parametrize("make", [fg.vjp, fg.linearize])
def test_a_linear_function_that_outlives_its_gradient(make):
    kept = []

    def f(x):
        kept.append(make(lambda z: z * z * x, x))
        return kept[0][0]

    fg.grad(f)(2.0)
    with pytest.raises(RuntimeError, match="grad around it .* call what vjp or linearize returned before") as error:
        kept[0][1](1.0)
    assert "backward:" not in str(error.value) and "retain_graph" not in str(error.value)


def test_the_tape_goes_with_the_pullback():
    before = _core.live()["nodes"]
    _, pullback = fg.vjp(fg.exp, 1.0)
    assert _core.live()["nodes"] > before
    del pullback
    assert _core.live()["nodes"] == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "constant", [2.0, 3, np.float64(2.0), np.float32(2.0), np.array(2.0), np.array(2.0, np.float32)]
)
def test_constants_have_derivatives_of_zeros(constant, dtype):
    """A function that returns a number or an ndarray of floats does not depend on its argument, as a branch may not."""
    f = lambda x: x[0] * 3 if x[0] > 0 else constant
    x, zeros = np.array([-1.0, 2.0], dtype), np.zeros(2, dtype)
    for grad in (
        fg.grad(f), fg.jacobian(f), fg.jacfwd(f), lambda x: fg.value_and_grad(f)(x)[1],
        lambda x: fg.vjp(f, x)[1](1.0)[0], fg.grad(lambda x: fg.sum(x * fg.grad(f)(x))),
        lambda x: fg.hvp(f, (x,), (x,)), lambda x: fg.hessian(f)(x)[1],
    ):  # fmt: skip
        found = grad(x)
        np.testing.assert_array_equal(found, zeros)
        assert type(found) is np.ndarray
    assert fg.grad(f)(x).dtype == dtype
    value, slope = fg.jvp(f, (x,), (x,))
    assert (value, slope) == (constant, 0)
    assert fg.value_and_grad(f)(x)[0] == constant and type(fg.value_and_grad(f)(x)[0]) is float
    assert fg.linearize(f, x)[1](x) == 0
    np.testing.assert_array_equal(fg.compile(fg.grad(lambda x: constant))(x), zeros)
    np.testing.assert_array_equal(fg.vmap(fg.grad(lambda x: constant))(np.ones((3, 2), dtype)), np.zeros((3, 2)))
    np.testing.assert_array_equal(fg.grad(f)(-x), [3, 0])


def test_constants_beside_other_results():
    f = lambda x: {"c": np.ones((2, 2)), "y": x * x, "n": 1}
    value, pullback = fg.vjp(f, 3.0)
    np.testing.assert_array_equal(value["c"], np.ones((2, 2)))
    assert pullback({"c": np.ones((2, 2)), "y": 1.0, "n": 5.0}) == (6,)
    np.testing.assert_array_equal(fg.jacobian(f)(3.0)["c"], np.zeros((2, 2)))
    for other in (None, "text", np.ones(2, int), np.array([True]), 1j, np.ma.masked_array([1.0]), np.array(["x"])):
        with pytest.raises(TypeError, match="expected a tensor"):
            fg.grad(lambda x: other)(1.0)
    with pytest.raises(ValueError, match="a gradient is that of a single number"):
        fg.grad(lambda x: np.ones(3))(1.0)


THROUGH_THE_CORE = {
    "elementwise": lambda x: np.tanh(x) * x - np.exp(-x) / (x + 3) + np.maximum(x, 0.5) + fg.relu(x) ** 2,
    "the same operand twice": lambda x: (x * x + x / x - (x - x)) * x,
    "broadcast operands": lambda x: x[:1] * x[3:] + x.reshape(2, 3) * x.reshape(6, 1, 1) - x[:3],
    "a derivative that is zero": lambda x: np.floor(x) * x + np.sign(x),
    "linear": lambda x: np.cumsum(x.reshape(2, 3).T, axis=0)[::-1, 1:].sum(axis=0) * x[np.array([3, 3])],
    "products": lambda x: x.reshape(2, 3) @ x.reshape(3, 2) @ np.ones((2, 2)) + np.ones((2, 6)) @ np.outer(x, x[:2]),
    "joined": lambda x: np.concatenate([x, x**2, np.ones(2)]) + np.stack([x, -x]).reshape(12, 1)[:1],
    "by rules": lambda x: np.where(x > 0, x**3, -x) + np.cumprod(x) + fg.logsumexp(x) + np.sort(x) + np.max(x),
    "an argument": lambda x: x,
    "constants": lambda x: np.ones(3) + 0 * fg.stop_gradient(x)[:3],
    "none of it": lambda x: fg.stop_gradient(x) ** 2,
}


@pytest.mark.parametrize("name", THROUGH_THE_CORE)
def test_the_core_pushes_as_the_rules_do(name):
    from fastgrad._transforms.linearize import Point
    from fastgrad._transforms.pushforward import by_rules, push

    x, t = np.random.default_rng(0).normal(size=(2, 6))
    point = Point("jvp", lambda x: fg.asarray(THROUGH_THE_CORE[name](x)), (x,), keep=True)
    for dropped in (False, True):
        tangents = [None if dropped else fg.tensor(t)]
        with fg.no_grad():
            (got,), (expected,) = (
                push(point.results, point.watched, tangents, False),
                by_rules(point.results, point.watched, tangents, False, False),
            )
        assert (got is None) == (expected is None) and (not dropped or got is None)
        if expected is not None:
            assert got.shape == expected.shape and got.dtype == expected.dtype
            np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_a_rule_of_forward_mode_that_uses_up_the_tape():
    held = []

    @fg.custom_jvp
    def through(x):
        return 1.0 * x

    def rule(primals, tangents):
        held[0].backward()
        return 1.0 * primals[0], tangents[0]

    through.defjvp(rule)

    def f(x):
        first, y = through(x), np.tanh(x) * 2
        held.append(y)
        return first * y

    push = fg.linearize(f, 0.5)[1]
    with pytest.raises(RuntimeError, match="^this graph was used up by a backward pass in a rule of forward mode"):
        push(1.0)
