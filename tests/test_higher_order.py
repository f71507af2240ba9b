"""Gradients of gradients: every row to third order against mpmath, levels that must not be confused, and what nests."""

import itertools
import threading

import mpmath
import numpy as np
import pytest
from _operations import OPERATIONS, spread
from _oracles import BINARY, FUNCTIONS, ROWS, UNARY, broadcast_operands, exact, exact_derivative, samples

import fastgrad as fg
from fastgrad import _core
from fastgrad._rules import formula


def derivative(f, i=0, order=1):
    """f differentiated elementwise by argument i, `order` times over."""
    for _ in range(order):
        f = fg.grad(lambda *args, f=f: f(*args).sum(), argnums=i)
    return f


def hessian(f, x):
    return np.array([fg.grad(lambda x, i=i: fg.grad(f)(x)[i])(x) for i in range(len(x))])


def along(f, i):
    """f differentiated elementwise by argument i in forward mode."""

    def moved(*args):
        return fg.jvp(f, args, tuple(np.full(x.shape, float(k == i), x.dtype) for k, x in enumerate(args)))[1]

    return moved


# From the innermost derivative on: reverse and forward mode alone, and each around the other.
MODES = [(derivative,) * 3, (along,) * 3, (derivative, along, along), (along, derivative, along)]


# ---- the rows of ops.def ----------------------------------------------------------------------------------------
def compare_with_mpmath(name, dtype, orders, args=None):
    row = ROWS[name]
    args = samples(row, 7, dtype, seed=len(name)) if args is None else args
    expected = np.array([exact_derivative(row, orders, *point) for point in zip(*args)])
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    by = [i for i, order in enumerate(orders) for _ in range(order)]
    for modes in MODES:
        f = FUNCTIONS[name]
        for i, mode in zip(by, modes):
            f = mode(f, i)
        got = f(*args)
        assert got.dtype == dtype and got.shape == args[0].shape
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", UNARY)
def test_unary_rows_to_third_order(name, dtype):
    for order in (2, 3):
        compare_with_mpmath(name, dtype, (order,))


@pytest.mark.parametrize("name", BINARY)
def test_binary_rows_to_third_order(name):
    for orders in [(2, 0), (1, 1), (0, 2), (2, 1), (0, 3)]:
        compare_with_mpmath(name, np.float64, orders)
    compare_with_mpmath(name, np.float32, (1, 1))


def test_a_parameter_below_zero():
    args = [np.array([-2.0, -0.3, 0.7]), np.array([-0.5, -2.0, -1.0])]
    for orders in [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (1, 2)]:
        compare_with_mpmath("celu", np.float64, orders, args)


@pytest.mark.parametrize("mode", [derivative, along])
def test_a_parameter_of_zero_is_a_limit(mode):
    a, b = np.array([-1.0, -1e-300, 1e-300, 2.0]), np.zeros(4)
    for by in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 1, 0)]:
        f = FUNCTIONS["celu"]
        for i in by:
            f = mode(f, i)
        np.testing.assert_array_equal(f(a, b), 0, err_msg=str(by))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", UNARY)
def test_derivatives_of_unary_rows_are_numbers_where_the_function_is_smooth(name):
    """Or infinite, far from 1: but never nan because parts of a formula overflow."""
    x = np.array([s * 10.0**k for k in (-310, -200, -100, -30, -9, 9, 30, 100, 200) for s in (1, -1)])
    row = ROWS[name]
    known = [(exact(row, v), exact(row, v, derivative=0)) for v in x]
    smooth = np.array([bool(mpmath.isfinite(y) and mpmath.isfinite(slope)) for y, slope in known])
    for modes in MODES:
        f = FUNCTIONS[name]
        for mode in modes:
            f = mode(f, 0)
            assert not np.isnan(f(x)[smooth]).any(), (modes, x[np.isnan(f(x)) & smooth])


@pytest.mark.parametrize("name", BINARY)
def test_binary_rows_with_broadcast_operands(name):
    f, (a, b) = FUNCTIONS[name], broadcast_operands(name)
    fg.check_grads(lambda a, b: f(a, b) * a, (a, b), order=2)
    fg.check_grads(lambda b: f(a.astype(np.float32), b) * b, (b,), order=2, atol=1e-4)


def test_every_name_in_a_derivative_is_an_operation_on_tensors():
    from fastgrad._rules.vjp import _TWICE, _namespace

    known = {*_namespace("d"), "x", "a", "b", "y"}
    texts = [text for row in ROWS.values() for text in row["derivatives"]] + list(_TWICE.values())
    assert [text for text in texts if not formula.names(text) <= known] == []


@pytest.mark.parametrize("name", ["gelu", "power", "logaddexp", "logaddexp2"])
def test_other_forms_of_a_derivative_equal_that_of_the_table(name):
    """So that the first gradient is the same whether the pass is recorded or not."""
    row = ROWS[name]
    points = samples(row, 100, np.float64)
    special = [np.concatenate([p, [0.0, 0.0, 1.0, 2.0, np.inf]]) for p in points]
    special[-1][-3:] = [1.0, 0.0, np.inf] if row["arity"] == 2 else [1e-300, -40.0, np.inf]
    for i in range(row["arity"]):
        plain = fg.grad(lambda *args: FUNCTIONS[name](*args).sum(), i)(*special)
        nested = []
        fg.grad(lambda x: (nested.append(fg.grad(lambda *args: FUNCTIONS[name](*args).sum(), i)(*special)), x)[1])(1.0)
        np.testing.assert_allclose(nested[0].numpy(), plain, rtol=2e-15, atol=1e-300)


KINKS = {
    "gelu at 0": (FUNCTIONS["gelu"], 0.0, 2, 2 / np.sqrt(2 * np.pi)),
    "gelu at 0, fourth": (FUNCTIONS["gelu"], 0.0, 4, -4 / np.sqrt(2 * np.pi)),
    "x**3 at 0": (lambda x: x**3, 0.0, 3, 6.0),
    "x**3 at 0, fourth": (lambda x: x**3, 0.0, 4, 0.0),
    "x**0 at 0": (lambda x: x**0, 0.0, 2, 0.0),
    "0**x": (lambda x: 0.0**x, 2.0, 2, 0.0),
    "logaddexp of equals": (lambda x: fg.logaddexp(x, 0.0), 0.0, 2, 0.25),
    "logaddexp2 of equals": (lambda x: fg.logaddexp2(x, 0.0), 0.0, 2, np.log(2) / 4),
    "softplus far out": (fg.softplus, 800.0, 2, 0.0),
    "tanh far out": (fg.tanh, -400.0, 3, 0.0),
    "gelu_tanh far out": (FUNCTIONS["gelu_tanh"], 1e3, 2, 0.0),
    "gelu_tanh at the end": (FUNCTIONS["gelu_tanh"], -1e300, 2, 0.0),
    "silu far out": (fg.silu, -1e3, 2, 0.0),
    "log_ndtr at 0": (fg.special.log_ndtr, 0.0, 2, -2 / np.pi),
    "log_ndtr where its slope is small": (fg.special.log_ndtr, 30.0, 2, -4.420938404635642e-195),
    "log_ndtr far out": (fg.special.log_ndtr, 50.0, 2, 0.0),
    "log_ndtr at the end": (fg.special.log_ndtr, 1e300, 3, 0.0),
    "log_ndtr on the left": (fg.special.log_ndtr, -1e5, 2, -1 + 1e-10),
    "log1mexp where its slope is small": (fg.special.log1mexp, 700.0, 2, -9.85967654375977e-305),
    "log1mexp far out": (fg.special.log1mexp, 1e3, 2, 0.0),
    "log1mexp at the end": (fg.special.log1mexp, 1e300, 3, 0.0),
    "square of relu at 0": (lambda x: fg.relu(x) ** 2, 0.0, 2, 0.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_where_a_naive_rule_gives_nan(name):
    f, x, order, expected = KINKS[name]
    for _ in range(order):
        f = fg.grad(f)
    np.testing.assert_allclose(f(x), expected, rtol=1e-14)


# ---- the rows of structural.def -----------------------------------------------------------------------------------
STRUCTURAL = {name: row.functions for name, row in OPERATIONS.items() if row.functions}


def scalar(f, order):
    """f contracted to a number, or for order 2 its gradients so contracted."""

    def number(*args):
        y = f(*args)
        return (y * spread(*y.shape)).sum()

    if order == 1:
        return number
    return lambda *args: sum((g * spread(*g.shape)).sum() for g in fg.grad(number, tuple(range(len(args))))(*args))


def test_every_structural_row_is_here():
    assert list(STRUCTURAL) == [name for name, row in _core.STRUCTURAL.items() if row["differentiable"]]


@pytest.mark.parametrize("name", STRUCTURAL)
def test_structural_rows_to_third_order(name):
    rounded = {"eps": 5e-3, "rtol": 1e-3, "atol": 1e-4} if name == "cast" else {}
    for f, *args in STRUCTURAL[name]:
        fg.check_grads(f, tuple(args), order=3, **rounded)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_structural_rows_in_float32(name):
    for f, *args in STRUCTURAL[name]:
        f32 = [a.astype(np.float32) for a in args]
        for order in (1, 2):
            got, expected = (fg.grad(scalar(f, order), tuple(range(len(args))))(*a) for a in (f32, args))
            for g, e in zip(got, expected):
                assert g.dtype == np.float32
                np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5 * np.abs(e).max())


def test_ties_share_to_every_order():
    x = np.array([1.0, 2.0, 2.0])
    np.testing.assert_array_equal(hessian(lambda x: x.max() ** 2, x), [[0, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]])
    assert np.isnan(derivative(lambda x: x.max() ** 3, 0, 2)(np.array([1.0, np.nan]))).tolist() == [False, True]


# ---- levels -----------------------------------------------------------------------------------------------------
LEVELS = {
    "Siskind and Pearlmutter's": (lambda x: x * fg.grad(lambda y: x + y)(1.0), 1.0, 1.0),
    "a product in the inner": (lambda x: x * fg.grad(lambda y: x * y)(2.0), 3.0, 6.0),
    "inner at the outer variable": (lambda x: x * fg.grad(lambda y: x * y * y)(x), 3.0, 54.0),
    "of the argument": (lambda x: fg.grad(lambda y: y * y * y)(x), 3.0, 18.0),
    "of a result": (lambda x: fg.grad(lambda y: y * y)(x * 2), 3.0, 4.0),
    "closing over the argument": (lambda x: x * fg.grad(lambda y: y * y * x)(1.0), 3.0, 12.0),
    "closing over a result": (lambda x: (z := x * 2, x * fg.grad(lambda y: y * z)(1.0))[1], 3.0, 12.0),
    "returning the argument": (lambda x: x * fg.grad(lambda y: x)(1.0), 3.0, 0.0),
    "returning the inner argument": (lambda x: x * fg.grad(lambda y: y)(x), 3.0, 1.0),
    "in a structure": (lambda x: fg.grad(lambda p: p["a"] ** 2 * p["b"])({"a": x, "b": x * x})["a"], 3.0, 54.0),
    "two arguments that are one": (lambda x: sum(fg.grad(lambda a, b: a * b * b, argnums=(0, 1))(x, x)), 3.0, 18.0),
    "three levels": (lambda x: x * fg.grad(lambda y: y * fg.grad(lambda z: x * y * z * z)(y))(x), 2.0, 192.0),
    "the inner value": (lambda x: (vg := fg.value_and_grad(lambda y: y * y * x)(x))[0] * vg[1], 2.0, 160.0),
    "the value of an inner of constants": (lambda x: x * fg.value_and_grad(lambda y: y**3)(2.0)[1], 3.0, 12.0),
    "stopped outside": (lambda x: x * fg.grad(lambda y: y * y * fg.stop_gradient(x))(1.0), 3.0, 6.0),
    "stopped inside": (lambda x: fg.grad(lambda y: y * y * fg.stop_gradient(y))(x), 3.0, 6.0),
    "a stopped gradient": (lambda x: x * fg.stop_gradient(fg.grad(lambda y: y**3)(x)), 2.0, 12.0),
    "a gradient without recording": (lambda x: x * fg.no_grad()(fg.grad(lambda y: y**3))(x), 2.0, 12.0),
}  # fmt: skip


@pytest.mark.parametrize("name", LEVELS)
def test_levels_are_not_confused(name):
    f, x, expected = LEVELS[name]
    assert fg.grad(f)(x) == expected
    assert fg.compile(fg.grad(f))(x) == expected


def test_the_third_derivative_of_a_nested_loop():
    def f(x):
        y = x
        for _ in range(3):
            y = fg.grad(lambda z, y=y: fg.sin(z * y) * z)(x)
        return y

    fg.check_grads(f, 0.7, order=3, rtol=1e-5)


def test_types_within_and_without():
    seen = {}

    def outer(x):
        inner = fg.value_and_grad(lambda y: ((y * x).sum(), {"y": y * 2, "n": 3}), has_aux=True)
        (value, aux), gradient = inner(np.ones(2))
        seen.update(value=value, gradient=gradient, aux=aux["y"], n=aux["n"])
        return (gradient * x).sum() * value

    assert fg.grad(outer)(np.array([1.0, 2.0])).tolist() == [11, 17]
    assert type(seen["value"]) is fg.Tensor and seen["value"].shape == ()
    assert type(seen["gradient"]) is fg.Tensor and seen["gradient"].requires_grad
    assert type(seen["aux"]) is fg.Tensor and seen["n"] == 3
    value, gradient = fg.value_and_grad(lambda x: (fg.grad(lambda y: (y * y).sum())(x) * x).sum())(np.ones(2))
    assert type(value) is float and type(gradient) is np.ndarray
    gradient += 1
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    value, gradient = fg.value_and_grad(lambda x: (x**3).sum())(x)
    assert value.shape == () and gradient.requires_grad and x.grad is None
    (gradient.sum() + value).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [9, 24])


def test_a_gradient_without_recording_stays_a_tensor_in_a_transform():
    def f(x):
        with fg.no_grad():
            value, gradient = fg.value_and_grad(lambda y: y**3)(x)
        assert type(gradient) is type(value) is fg.Tensor and not gradient.requires_grad and not value.requires_grad
        return x * gradient * value

    assert fg.grad(f)(2.0) == 96


def test_what_the_function_reads_stays_connected_too():
    """Also outside of all transforms: an ndarray would turn it into a constant without a word."""
    w = fg.tensor([1.0, 2.0], requires_grad=True)
    x = np.array([3.0, 4.0])
    value, gradient = fg.value_and_grad(lambda x: (w * x * x).sum())(x)
    assert gradient.requires_grad and value.shape == ()
    gradient.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [6, 8])
    assert w.grad is not None and not w.grad.requires_grad
    with fg.no_grad():
        value, gradient = fg.value_and_grad(lambda x: (w * x * x).sum())(x)
        assert type(value) is float and type(gradient) is np.ndarray
        assert type(fg.grad(lambda x: (x * x).sum())(w)) is np.ndarray
    for plain in (w.detach(), w.numpy()):
        assert type(fg.grad(lambda x: (plain * x * x).sum())(x)) is np.ndarray
    assert type(fg.grad(lambda x: (x * x).sum())(x)) is np.ndarray
    with pytest.raises(TypeError, match="returned a tensor that requires gradients"):
        fg.compile(fg.grad(lambda x: (w * x * x).sum()))(x)


def test_other_leaves_get_no_gradient_from_a_transform():
    def f(x):
        z = fg.tensor([1.0, 2.0], requires_grad=True)
        fg.grad(lambda y: (y * z).sum())(x)
        assert z.grad is None
        return (x * z).sum()

    assert fg.grad(f)(np.ones(2)).tolist() == [1, 2]


def test_a_linear_function_has_a_second_gradient_of_zeros():
    x = np.arange(3.0, dtype=np.float32)
    second = derivative(lambda x: 2 * x, 0, 2)(x)
    assert second.dtype == np.float32 and second.tolist() == [0, 0, 0]


def test_the_argument_of_an_inner_transform_is_not_changed_in_place():
    def f(y):
        y += 1.0
        return y.sum()

    for call in (fg.grad(f), fg.grad(lambda x: fg.grad(f)(x).sum()), fg.grad(lambda x: fg.grad(f)(x * 2).sum())):
        with pytest.raises(RuntimeError, match="an argument that is being differentiated is changed in place"):
            call(np.ones(2))


@pytest.mark.parametrize("order", [2, 3])
def test_a_net(order):
    def loss(w, b, v, x, label):
        return fg.losses.softmax_cross_entropy(FUNCTIONS["gelu"](fg.tanh(x @ w + b) @ v), label)

    rng = np.random.default_rng(0)
    args = [rng.standard_normal(shape) * 0.5 for shape in [(3, 2), (2,), (2, 3), (2, 3)]]
    fg.check_grads(loss, (*args, np.array([2, 0])), order=order, rtol=1e-5, atol=1e-5)


def test_the_hessian_of_rosenbrock():
    def rosenbrock(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    from scipy.optimize import rosen_hess

    x = spread(6)
    np.testing.assert_allclose(hessian(rosenbrock, x), rosen_hess(x), rtol=1e-13, atol=1e-12)


# ---- compiled -----------------------------------------------------------------------------------------------------
COMPILED = {
    "tanh": (lambda x: fg.tanh(x * x).sum(), 3),
    "softmax": (lambda x: (fg.softmax(x.reshape((2, 3))) ** 2).sum(), 3),
    "cross_entropy": (lambda x: fg.losses.softmax_cross_entropy(x.reshape((2, 3)) ** 2, np.array([2, 1])), 3),
    "max": (lambda x: (x.reshape((2, 3)) ** 3).max(1).sum(), 3),
    "indexing": (lambda x: (x[[0, 1, 1]] ** 3 * x[::-2]).sum(), 3),
    "where": (lambda x: fg.where(x > 0, x**3, fg.exp(x)).sum(), 3),
    "matmul": (lambda x: fg.tanh(x.reshape((2, 3)) @ x.reshape((3, 2))).sum(), 3),
    "gelu": (lambda x: FUNCTIONS["gelu"](x).sum(), 4),
}


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_gradient_of_a_gradient(name):
    f, order = COMPILED[name]
    x, other = spread(6), spread(6)[::-1] * 0.7
    for _ in range(order - 1):
        f = fg.grad(lambda x, f=f: (f(x) * np.arange(1.0, 7.0)).sum())
    compiled = fg.compile(f)
    for point in (x, other, x):
        np.testing.assert_allclose(compiled(point), f(point), rtol=1e-12, atol=1e-13)
    assert compiled.cache_info().misses == 1


def test_a_gradient_of_a_gradient_whose_labels_are_an_argument_of_the_program():
    f = fg.grad(lambda x, k: (fg.grad(lambda x: fg.losses.softmax_cross_entropy(x, k))(x) ** 2).sum())
    compiled = fg.compile(f)
    for args in [(spread(2, 3), np.array(labels)) for labels in ([0, 2], [1, 1])]:
        np.testing.assert_allclose(compiled(*args), f(*args), rtol=1e-13)
    assert compiled.cache_info().misses == 1


def test_a_training_step_whose_loss_holds_a_gradient():
    """u' = -u from u(0) = 1 by a net of a few numbers: its derivative by x is in the loss."""
    x = np.linspace(0, 1, 9)

    def loss(w):
        net = lambda x: 1 + x * (fg.tanh(x[:, None] * w["a"] + w["b"]) @ w["c"])
        slope = fg.grad(lambda x: net(x).sum())(x)
        return ((slope + net(x)) ** 2).mean()

    losses = {}
    for compile in (False, True):
        w = {"a": spread(4), "b": spread(4) * 0.3, "c": spread(4) * 0.5}
        step = fg.training_step(loss, w, fg.optim.Adam(0.05), compile=compile)
        losses[compile] = [step() for _ in range(200)]
    assert losses[True][-1] < 1e-3 < losses[True][0]
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-6)
    fg.check_grads(loss, (w,), order=2)


# ---- the imperative style -----------------------------------------------------------------------------------------
def test_backward_with_create_graph():
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    g = x.grad
    assert g.requires_grad and not g.is_leaf
    np.testing.assert_array_equal(g.numpy(), [3, 12])
    x.zero_grad()
    (g**2).sum().backward(create_graph=True)
    np.testing.assert_array_equal(x.grad.numpy(), 2 * np.array([3, 12]) * np.array([6, 12]))
    h = x.grad
    x.grad = None
    h.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 36 * 3 * np.array([1.0, 2.0]) ** 2)
    assert not x.grad.requires_grad


def test_gradients_that_accumulate_stay_recorded():
    x = fg.tensor(2.0, requires_grad=True)
    (x**3).backward(create_graph=True)
    (x**2).backward()
    assert x.grad.item() == 16 and x.grad.requires_grad
    g, x.grad = x.grad, None
    g.backward()
    assert x.grad.item() == 12  # the second contribution was not recorded
    x.grad = None
    (x**3).backward(create_graph=True)
    (x**2).backward(create_graph=True)
    g, x.grad = x.grad, None
    g.backward()
    assert x.grad.item() == 14


def test_a_gradient_is_differentiated_by_its_cotangent():
    """The derivative of a vjp by its cotangent is a jvp."""
    x = fg.tensor(spread(3), requires_grad=True)
    v = fg.tensor(np.ones(3), requires_grad=True)
    fg.exp(x).backward(v, create_graph=True)
    g, x.grad = x.grad, None
    t = np.array([1.0, 2.0, 3.0])
    g.backward(t)
    np.testing.assert_allclose(v.grad.numpy(), np.exp(spread(3)) * t, rtol=1e-15)
    with pytest.raises(ValueError, match=r"backward: expected a gradient of shape \(3,\), got shape \(\)"):
        fg.exp(x).backward(v.sum(), create_graph=True)


def test_a_cotangent_that_becomes_the_gradient_is_another_tensor():
    x, v = fg.tensor(1.0, requires_grad=True), fg.tensor(2.0, requires_grad=True)
    (x * 1.0).backward(v, create_graph=True)
    g, x.grad = x.grad, None
    g.backward(3.0)
    assert v.grad.item() == 3 and x.grad is None
    del g, x
    assert v.grad.item() == 3


def test_the_graph_of_a_recorded_pass_is_kept_and_an_ordinary_one_uses_it_up():
    x = fg.tensor(2.0, requires_grad=True)
    y = x**3
    y.backward(create_graph=True)
    g, x.grad = x.grad, None
    y.backward()
    assert x.grad.item() == 12
    with pytest.raises(RuntimeError, match="already used by an earlier backward pass"):
        (g * y).backward()


@pytest.mark.parametrize("change", ["input", "result"])
def test_a_change_in_place_before_the_second_pass_is_an_error(change):
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    a = x * 2
    y = fg.exp(a) if change == "result" else a**3
    y.sum().backward(create_graph=True)
    g = x.grad
    x.zero_grad()
    with fg.no_grad():
        if change == "result":
            y *= 2.0
        else:
            a += 1.0
    with pytest.raises(RuntimeError, match="was changed in place after it was recorded"):
        g.sum().backward()
    assert x.grad is None


def test_gradients_may_be_changed_in_place_unless_something_needs_them():
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    g, x.grad = x.grad, None
    g *= 2.0
    g.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [12, 24])


# ---- memory, depth, failures ----------------------------------------------------------------------------------------
def test_a_leaf_and_its_recorded_gradient_are_freed_together():
    before = _core.live()["nodes"]
    x = fg.tensor(spread(100), requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    y = fg.exp(x).sum()
    assert _core.live()["nodes"] > before + 3
    del x
    y.backward(create_graph=True)  # nobody can read the leaf's gradient any more
    del y
    assert _core.live()["nodes"] == before


def test_requires_grad_turned_off_lets_the_gradient_go():
    before = _core.live()["nodes"]
    x = fg.tensor(2.0, requires_grad=True)
    (x**3).backward(create_graph=True)
    x.requires_grad = False
    assert _core.live()["nodes"] == before and x.grad is None


def test_a_chain_of_100_000_operations_is_differentiated_twice():
    x = fg.tensor(np.full(2, 0.5), requires_grad=True)
    y = x
    for _ in range(50_000):
        y = fg.tanh(y) * 1.00001
    y.sum().backward(create_graph=True)
    g, x.grad = x.grad, None
    assert np.isfinite(g.numpy()).all()
    g.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_an_error_in_a_rule_reaches_the_caller_and_changes_nothing(monkeypatch):
    from fastgrad._rules import table as _rules

    x = fg.tensor([1.0, 2.0], requires_grad=True)
    y = (fg.tanh(x) * x).sum()

    def broken(*args):
        raise KeyError("of the rule")

    monkeypatch.setattr(_rules, "gradient", broken)
    with pytest.raises(KeyError, match="of the rule"):
        y.backward(create_graph=True)
    with pytest.raises(KeyError, match="of the rule"):
        fg.grad(lambda x: fg.grad(fg.tanh)(x))(1.0)
    assert x.grad is None and fg.grad(fg.tanh)(0.0) == 1
    monkeypatch.undo()
    y.backward(create_graph=True)
    np.testing.assert_allclose(x.grad.numpy(), np.tanh([1, 2]) + np.array([1, 2]) / np.cosh([1, 2]) ** 2, rtol=1e-14)
    x.zero_grad()


def test_a_pass_within_a_pass_over_one_graph_is_refused(monkeypatch):
    """Rules run Python code, where another thread may begin a pass: its cotangents must not mix with these."""
    from fastgrad._rules import table as _rules

    x = fg.tensor([1.0, 2.0], requires_grad=True)
    y = (fg.tanh(x) * x).sum()
    rule, caught = _rules.gradient, []

    def elsewhere():
        try:
            y.backward(retain_graph=True)
        except RuntimeError as error:
            caught.append(str(error))

    def interrupted(*args):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return rule(*args)

    monkeypatch.setattr(_rules, "gradient", interrupted)
    y.backward(create_graph=True)
    np.testing.assert_allclose(x.grad.numpy(), np.tanh([1, 2]) + np.array([1, 2]) / np.cosh([1, 2]) ** 2, rtol=1e-14)
    assert caught and all("another backward pass has not finished with this graph" in text for text in caught)
    x.zero_grad()
    monkeypatch.undo()
    y.backward(retain_graph=True)
    np.testing.assert_allclose(x.grad.numpy(), np.tanh([1, 2]) + np.array([1, 2]) / np.cosh([1, 2]) ** 2, rtol=1e-14)


@pytest.mark.parametrize("a", [0.5, 2.0, 3.0])
def test_third_derivatives_of_power_do_not_depend_on_their_order(a):
    """At exponent 0, too, where the first derivative by the base is written in another way."""
    for b in (0.0, 1.0, -1.5, 2.0):
        log = np.log(a)
        expected = {0: log**3 * a**b, 1: (2 * log + b * log**2) * a ** (b - 1)}
        expected[2] = ((2 * b - 1) + b * (b - 1) * log) * a ** (b - 2)
        for order in itertools.product((0, 1), repeat=3):
            f = fg.power
            for i in order:
                f = fg.grad(f, i)
            by_base = order.count(0)
            if by_base < 3:
                np.testing.assert_allclose(
                    f(a, b), expected[by_base], rtol=1e-13, atol=1e-14, err_msg=f"{order}, b = {b}"
                )
