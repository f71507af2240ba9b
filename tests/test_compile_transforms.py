"""``compile`` together with the other transforms, in-place updates and ``verify``."""

import numpy as np
import pytest
from _replay import eagerly, same, same_tree, square

import fastgrad as fg
from fastgrad import _core

RNG = np.random.default_rng(0)


def test_a_compiled_function_inside_a_compiled_function():
    inner = fg.compile(lambda x: x * 2)
    outer = fg.compile(lambda x: inner(inner(x)) + 1)
    for k in (1.0, 2.0):
        same(outer(np.full(3, k)), np.full(3, 4 * k + 1))
    assert inner.cache_info().misses == 0
    twice = fg.compile(fg.compile(square))
    assert twice(np.ones(2)) == 2


def test_compiled_gradients_of_compiled_functions():
    inner = fg.compile(square)
    outer = fg.compile(fg.value_and_grad(inner))
    for k in (1.0, 3.0):
        value, gradient = outer(np.full(2, k))
        assert value == 2 * k * k
        same(gradient, np.full(2, 2 * k))


def test_tensors_that_require_gradients_are_never_silently_constants():
    compiled, x = fg.compile(square), np.ones(2)
    compiled(x)
    for call in (
        lambda: compiled(fg.tensor(x, requires_grad=True)),
        lambda: compiled(fg.tensor(x, requires_grad=True) * 2),
    ):
        with pytest.raises(TypeError, match="requires gradients"):
            call()
    assert compiled(fg.tensor(x)) == 2
    assert not _core.tracing()


def test_a_compiled_function_within_a_transform_is_part_of_it():
    f = fg.compile(lambda x: (x**3).sum())
    x = np.array([1.0, 2.0])
    assert f(x) == 9
    np.testing.assert_array_equal(fg.grad(f)(x), 3 * x**2)
    np.testing.assert_array_equal(fg.grad(lambda x: fg.grad(f)(x).sum())(x), 6 * x)
    np.testing.assert_array_equal(fg.compile(fg.grad(f))(x), 3 * x**2)
    assert f(x) == 9


def test_the_gradient_of_what_is_compiled_in_many_ways():
    x = RNG.standard_normal(5)
    f = lambda x, y: (fg.sum(fg.tanh(x) * y), {"y": y * 2, "n": 3})
    compiled = fg.compile(fg.value_and_grad(f, argnums=(0, 1), has_aux=True))
    for k in (1, 2):
        (value, aux), gradients = compiled(k * x, x)
        (v, a), g = fg.value_and_grad(f, argnums=(0, 1), has_aux=True)(k * x, x)
        assert value == v and aux["n"] == 3
        same(aux["y"], a["y"])
        same_tree(gradients, g)
    unused = fg.compile(fg.grad(lambda x, y: fg.sum(y), argnums=0))
    same(unused(x, x), np.zeros(5))
    with pytest.raises(TypeError, match="argument 0 is int64; only float32 and float64 have gradients"):
        fg.compile(fg.grad(square))(3)


def test_no_grad_stop_gradient_and_backward_inside():
    def f(x):
        t = fg.astype(x, x.dtype)
        with fg.no_grad():
            c = x * 3
        t.requires_grad = True
        fg.sum(t * t * c * fg.stop_gradient(x)).backward()
        return t.grad

    with fg.no_grad():
        compiled = fg.compile(f)
    for x in (np.ones(2), np.full(2, 2.0)):
        same(compiled(x), 2 * x * 3 * x * x) if x[0] == 1 else np.testing.assert_allclose(compiled(x), 6 * x**3)
    with fg.no_grad():
        np.testing.assert_allclose(fg.compile(fg.grad(square))(np.ones(2)), 2)


def test_in_place_updates_inside():
    def f(x, y):
        a = x + 0.0
        b = a
        a += y
        a *= 2
        c = a * a
        a -= 1
        return a, b, c, fg.sum(a)

    compiled = fg.compile(f)
    for k in (1.0, 2.0):
        x, y = np.array([1.0, 2.0]) * k, np.array([3.0])
        same_tree(compiled(x, y), tuple(v.numpy() for v in eagerly(f, x, y)))


def test_a_closed_over_tensor_changed_in_place_after_tracing():
    w = fg.tensor([1.0, 2.0])
    compiled = fg.compile(lambda x: x * w)
    compiled(np.ones(2))
    w += 1
    same(compiled(np.ones(2)), np.array([2.0, 3.0]))


def test_verify_finds_what_was_frozen():
    state = {"n": 0.0}

    def f(x):
        state["n"] += 1
        return {"y": x * state["n"]}

    with pytest.raises(AssertionError, match=r"result\['y'\] of the replay"):
        fg.compile(f, verify=True)(np.ones(2))
    with pytest.raises(AssertionError, match=r"result\[2\] of the replay"):
        fg.compile(lambda x: (x, state.update(n=state["n"] + 1), state["n"]), verify=True)(1.0)
    with pytest.raises(AssertionError, match="returned"):
        fg.compile(lambda x: [x] * int(state.update(n=state["n"] + 1) or state["n"]), verify=True)(1.0)
    rng = np.random.default_rng(0)
    with pytest.raises(fg.TraceError, match="draws from"):
        fg.compile(lambda x: x + rng.standard_normal(2), verify=True)(np.ones(2))
    fine = fg.compile(lambda x, n: fg.sum(x.detach() ** n), static_argnums=1, verify=True)
    x = np.ones(3)
    assert [fine(x, 2), fine(2 * x, 2), fine(x, 3)] == [3, 12, 3]

    def changes(x):
        x += 1
        return fg.sum(x)

    assert fg.compile(changes, verify=True)(x) == 6
    same(x, np.ones(3))


# ---- first called inside another transform --------------------------------------------------------------------------
INSIDE = {
    "grad": lambda f: fg.grad(f)(np.ones(3)),
    "grad of grad": lambda f: fg.grad(lambda x: fg.sum(fg.grad(f)(x)))(np.ones(3)),
    "vjp": lambda f: fg.vjp(f, np.ones(3))[1](1.0)[0],
    "jvp": lambda f: fg.jvp(f, (np.ones(3),), (np.ones(3),))[1],
    "linearize": lambda f: fg.linearize(f, np.ones(3))[1](np.ones(3)),
    "hessian": lambda f: fg.hessian(lambda x: f(x * x))(np.ones(3)),
    "vmap": lambda f: fg.vmap(f)(np.ones((2, 3))),
    "compile": lambda f: fg.compile(f)(np.ones(3)),
    "no_grad": lambda f: fg.no_grad()(fg.grad(f))(np.ones(3)),
}

INNER = {
    "gradient": lambda: fg.grad(lambda z: fg.sum(z * z)),
    "value and gradient": lambda: lambda z: fg.value_and_grad(lambda z: fg.sum(z * z))(z)[1],
    "hessian": lambda: lambda z: fg.hessian(lambda z: fg.sum(z * z * z) / 3)(z)[0],
    "jvp": lambda: lambda z: fg.jvp(lambda z: z * z, (z,), (np.ones(2),))[1],
    "function": lambda: lambda z: z * 2,
}


@pytest.mark.parametrize("verify", [False, True], ids=["", "verify"])
@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
@pytest.mark.parametrize("outer", INSIDE.values(), ids=INSIDE)
def test_a_program_is_the_same_where_it_is_traced_first(outer, inner, verify):
    known = fg.compile(inner(), verify=verify)
    known(np.ones(2))
    expected = outer(lambda x: fg.sum(x) * known(np.ones(2))[0])
    found = outer(lambda x, h=fg.compile(inner(), verify=verify): fg.sum(x) * h(np.ones(2))[0])
    assert type(found) is type(expected)
    same(found, expected)


@pytest.mark.parametrize("known", [True, False], ids=["replayed before", "called first inside"])
def test_what_a_compiled_function_reads_from_outside_is_differentiated(known):
    """Within a transform it runs as if it were not compiled, also if a program for its arguments is there."""
    outside = [1.0]
    for make, expected in (
        (lambda: fg.compile(lambda z: fg.sum(z * outside[0] ** 2)), 3 * 2 * 4.0),
        (lambda: fg.compile(fg.grad(lambda z: fg.sum(z * z * outside[0]))), 3 * 2.0),
        (lambda: fg.compile(lambda z: {"y": z * outside[0]}), 3.0),
    ):
        outside[0], compiled = 1.0, make()

        def f(w, compiled=compiled):
            outside[0] = w
            found = compiled(np.ones(3))
            return fg.sum(found["y"] if isinstance(found, dict) else found)

        if known:
            compiled(np.ones(3))
            compiled(np.ones(3))
        assert fg.grad(f)(4.0) == expected
        assert fg.jvp(f, (4.0,), (1.0,))[1] == expected
        assert fg.grad(lambda w, f=f: fg.grad(lambda v: f(v) * w)(4.0))(1.0) == expected
        np.testing.assert_array_equal(fg.vmap(fg.grad(f))(np.array([4.0, 4.0])), [expected] * 2)
        assert fg.compile(fg.grad(f))(4.0) == expected
        outside[0] = 1.0


def test_a_training_step_made_outside_of_a_transform_does_not_lose_its_gradient():
    outside = [1.0]
    step = fg.training_step(lambda p: fg.sum((p - outside[0]) ** 2), np.zeros(2), "sgd")
    for _ in range(3):
        step()

    def f(w):
        outside[0] = w
        return w * step()

    with pytest.raises(TypeError, match="being differentiated"):
        fg.grad(f)(3.0)
    outside[0] = 1.0
    before = step.params.copy()
    assert fg.grad(lambda w: w * step())(3.0) == np.sum((before - 1) ** 2)


@pytest.mark.parametrize("compile", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("method", ["BFGS", "Newton-CG", "trust-exact", "least_squares", "root", "descend", "sparse"])
def test_solvers_inside_a_transform(method, compile):
    def solution():
        if method in ("least_squares", "root"):
            return getattr(fg, method)(lambda z: z - 3, np.zeros(2), compile=compile).x[0]
        if method == "descend":
            return fg.descend(lambda z: fg.sum((z - 3) ** 2), np.zeros(2), optimizer=fg.optim.SGD(0.5), steps=1,
                              compile=compile).params[0]  # fmt: skip
        if method == "sparse":
            return fg.sparse.jacobian(lambda z: z * 3, compile=compile)(np.ones(2)).toarray()[0, 0]
        return fg.minimize(lambda z: fg.sum((z - 3) ** 2), np.zeros(2), method=method, compile=compile).x[0]

    pytest.importorskip("scipy")
    np.testing.assert_allclose(fg.grad(lambda x: fg.sum(x) * solution())(np.ones(2)), [3, 3], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*cannot be traced:RuntimeWarning")
@pytest.mark.parametrize("compile", [True, False], ids=["compiled", "eager"])
def test_a_solver_that_reads_what_is_differentiated_outside_is_refused(compile):
    pytest.importorskip("scipy")
    with pytest.raises(TypeError, match="would silently become a constant"):
        fg.grad(lambda x: fg.sum(x) * fg.minimize(lambda z: fg.sum((z - x) ** 2), np.zeros(2), compile=compile).x[0])(
            np.ones(2)
        )


@pytest.mark.parametrize("compile", [True, False], ids=["compiled", "eager"])
def test_a_sparse_jacobian_made_outside_of_a_transform_does_not_lose_its_gradient(compile):
    pytest.importorskip("scipy")
    outside = [1.0]
    rows = fg.sparse.jacobian(lambda x: x * outside[0], compile=compile)
    rows(np.ones(3))
    rows(np.ones(3))

    def f(w):
        outside[0] = w
        return w * rows(np.ones(3)).toarray().sum()

    with pytest.raises(TypeError, match="being differentiated"):
        fg.grad(f)(3.0)
    outside[0] = 2.0
    made = fg.sparse.jacobian(lambda x: x * outside[0], compile=compile)
    assert fg.grad(lambda w: w * made(np.ones(3)).toarray().sum())(3.0) == 6
