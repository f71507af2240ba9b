"""Functions get tensors in the place of ndarrays, whatever calls them and whether anything is differentiated: what is
written for a tensor, such as ``x.detach()``, holds everywhere. Lists of numbers, and NumPy integers, as arguments."""

import numpy as np
import pytest

import fastgrad as fg

X = np.array([0.5, 2.0])


def squares(x):
    return x * fg.stop_gradient(x) + x.detach() * x


def of_rule(make):
    def call(f):
        g = make(f)
        if make is fg.custom_vjp:
            g.defvjp(lambda x: (f(x), x.detach()), lambda x, g: (4 * g * x.detach(),))
        else:
            g.defjvp(lambda x, t: (f(x[0]), 4 * x[0].detach() * t[0].detach()))
        return g(X)

    return call


def solver(name, **options):
    return lambda f: getattr(fg, name)(lambda x: f(x) - 1, X, **options).x


def minimizer(method, compile=True):
    return lambda f: fg.minimize(lambda x: fg.sum(f(x)), X, method=method, compile=compile, options={"maxiter": 5}).x


def constrained(method, compile, kind):
    def call(f):
        def fun(x):
            return f(x) - 0.1

        constraint = {"type": "ineq", "fun": fun}
        if kind == "jac":
            constraint["jac"] = lambda x: np.diag(4 * x.detach()) + 0 * f(x)
        return fg.minimize(
            lambda x: fg.sum(x.detach() * 0 + x * x), X, method=method, constraints=constraint, compile=compile,
            options={"maxiter": 5},
        ).x  # fmt: skip

    return call


CALLS = {
    "cond": lambda f: fg.cond(True, f, f, X),
    "cond of a dict": lambda f: fg.cond(np.array(False), f, lambda d: f(d["x"]), {"x": X}),
    "checkpoint": lambda f: fg.checkpoint(f)(X),
    "checkpoint of a dict": lambda f: fg.checkpoint(lambda *, d: f(d["x"]))(d={"x": X}),
    "scan": lambda f: fg.scan(lambda x, row: (f(x), f(row)), np.float64(1), X)[1],
    "custom_vjp": of_rule(fg.custom_vjp),
    "custom_jvp": of_rule(fg.custom_jvp),
    "Nelder-Mead": minimizer("Nelder-Mead"),
    "Powell": minimizer("Powell"),
    "BFGS": minimizer("BFGS", False),
    "root": solver("root"),
    "root, eager": solver("root", compile=False),
    "root without a Jacobian": solver("root", method="krylov", compile=False),
    "least_squares": solver("least_squares"),
    "least_squares, eager": solver("least_squares", compile=False),
    "least_squares, sparse": solver("least_squares", jac_sparsity="auto", compile=False),
    "sparse.jacobian": lambda f: fg.sparse.jacobian(f, compile=False)(X),
    "sparse.hessian": lambda f: fg.sparse.hessian(lambda x: fg.sum(f(x)), compile=False)(X),
    **{
        f"constraints of {method}, {kind}, {compile}": constrained(method, compile, kind)
        for method in ("SLSQP", "trust-constr", "COBYLA") for kind in ("fun", "jac") for compile in (True, False)
        if (method, kind) != ("COBYLA", "jac")
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Maximum number:RuntimeWarning", "ignore:delta_grad:UserWarning")
@pytest.mark.parametrize("call", CALLS)
def test_a_function_gets_tensors_wherever_it_is_called(call):
    if call.split()[0] not in ("cond", "checkpoint", "scan", "custom_vjp", "custom_jvp"):
        pytest.importorskip("scipy")
    seen = set()

    def f(x):
        seen.add(type(x))
        return squares(x)

    CALLS[call](f)
    assert seen == {fg.Tensor}


def test_rules_get_tensors_for_arguments_that_are_not_differentiated():
    kinds = []

    @fg.custom_vjp
    def f(x, y, n):
        return x * y

    f.defvjp(
        lambda x, y, n: (kinds.append((type(x), type(y), type(n))) or x * y, (x, y)),
        lambda r, g: (g * r[1].detach(), g * r[0].detach(), None),
    )
    for argnums, expected in (0, [3.0, 4.0]), (1, X):
        got = fg.grad(lambda x, y: fg.sum(f(x, y, 2)), argnums)(X, np.array([3.0, 4.0]))
        np.testing.assert_array_equal(got, expected)
    assert kinds == [(fg.Tensor, fg.Tensor, int)] * 2

    @fg.custom_jvp
    def g(x, y):
        return x * y

    g.defjvp(lambda p, t: (p[0] * p[1], t[0] * p[1].detach() + p[0].detach() * t[1] + 0 * t[1].detach()))
    for argnums, expected in (0, [3.0, 4.0]), (1, X):
        got = fg.grad(lambda x, y: fg.sum(g(x, y)), argnums)(X, np.array([3.0, 4.0]))
        np.testing.assert_array_equal(got, expected)

    h = fg.primitive(lambda x, y: x * y)
    h.defvjp(lambda g, z, x, y: g * y.detach(), lambda g, z, x, y: g * x.detach())
    for argnums, expected in (0, [3.0, 4.0]), (1, X):
        got = fg.grad(lambda x, y: fg.sum(h(x, y)), argnums)(X, np.array([3.0, 4.0]))
        np.testing.assert_array_equal(got, expected)


def test_what_is_no_array_of_numbers_stays_what_it_is():
    text, odd = np.array(["a"]), np.array([1j])
    seen = []
    f = lambda *args: seen.append(args) or args[-1]
    for call in (lambda *args: fg.cond(True, f, f, *args), fg.checkpoint(f)):
        seen.clear()
        call(text, odd, 1, 2.0, "mean", None, X)
        (given,) = seen
        assert given[0] is text and given[1] is odd and given[2:6] == (1, 2.0, "mean", None)
        assert type(given[6]) is fg.Tensor


def test_no_array_is_copied():
    a = np.zeros(200_000)
    seen = fg.cond(True, lambda x: x, lambda x: x, a)
    a[3] = 1.0
    assert seen[3].item() == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda f: fg.grad(f)([1.0, 2.0]),
        lambda f: fg.value_and_grad(f)([[1.0], [2.0]]),
        lambda f: fg.hessian(f)([1.0, 2.0]),
        lambda f: fg.jacobian(f)([1.0, 2.0]),
        lambda f: fg.vjp(f, [1.0, 2.0]),
        lambda f: fg.jvp(f, ([1.0, 2.0],), ([1.0, 2.0],)),
        lambda f: fg.compile(f)([1.0, 2.0]),
        lambda f: fg.compile(lambda *, x: f(x))(x=[1.0, 2.0]),
        lambda f: fg.grad(lambda d: f(d["x"]))({"x": [1.0, 2.0]}),
    ],
)
@pytest.mark.parametrize("f", [lambda x: fg.sum(x**2), lambda x: x.sum(), lambda x: fg.sum(x - 1.0)])
def test_a_list_of_numbers_where_an_array_is_meant(f, call):
    with pytest.raises((TypeError, AttributeError)) as raised:
        call(f)
    assert raised.value.__notes__ == [
        "a list of numbers among the arguments is a structure of single numbers, for which the function gets a list of "
        "tensors; for an array give np.array(...)"
    ]


def test_no_note_where_no_list_of_numbers_is_given():
    for x in (X, [X, X], (1.0, 2.0), {"a": 1.0}):
        with pytest.raises(AttributeError) as raised:
            fg.grad(lambda x: x.no_such_name)(x)
        assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize(
    "f",
    [
        lambda x, n: fg.roll(x, n), lambda x, n: fg.roll(x, n, axis=n), lambda x, n: fg.sum(x, axis=n),
        lambda x, n: fg.cumsum(x, axis=n), lambda x, n: fg.diff(x, n, axis=n), lambda x, n: fg.take(x, n, axis=n),
        lambda x, n: fg.moveaxis(x, n, 0), lambda x, n: fg.tril(x, n), lambda x, n: fg.trace(x, n),
        lambda x, n: fg.rot90(x, n), lambda x, n: fg.repeat(x, n, axis=n), lambda x, n: fg.tile(x, n),
        lambda x, n: fg.pad(x, n), lambda x, n: fg.partition(x, n, axis=n), lambda x, n: fg.topk(x, n),
        lambda x, n: fg.softmax(x, axis=n), lambda x, n: fg.linalg.matrix_power(x[:, :2], n),
        lambda x, n: fg.concatenate([x, x], axis=n), lambda x, n: fg.eye(3, k=n), lambda x, n: fg.diag(x[0], n),
        lambda x, n: fg.split(x, n), lambda x, n: fg.array_split(x, n), lambda x, n: fg.argpartition(x, n),
        lambda x, n: fg.histogram(x, n), lambda x, n: fg.tensordot(x, x.T, n),
    ],
)  # fmt: skip
def test_numbers_of_axes_and_places_may_be_of_any_integer_type(f):
    """A negation of an unsigned one would wrap. An array or tensor without axes is a number, too."""
    x = np.arange(6.0).reshape(2, 3)
    for number in (np.uint8, np.int64, np.uint64, np.array, fg.asarray):
        for got, expected in zip(fg.tree.leaves(f(x, number(1))), fg.tree.leaves(f(x, 1)), strict=True):
            np.testing.assert_array_equal(got.numpy(), expected.numpy())
