"""Every row of docs/conventions.md: derivatives at kinks and singular points, in every mode that computes them."""

import re
from pathlib import Path

import numpy as np
import pytest

import fastgrad as fg

PAGE = Path(__file__).parent.parent / "docs" / "conventions.md"
NUMBERS = {"inf": np.inf, "nan": np.nan}


def _rows():
    rows = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if line.startswith("| `"):
            assert len(cells) == 5, f"docs/conventions.md: a row of {len(cells)} cells: {line}"
            text, *values = [re.fullmatch(r"\|?\s*`(.*)`", cell).group(1) for cell in cells[:4]]
            rows.append(pytest.param(text, *values, id=f"{text} at {values[0]}"))
    return rows


ROWS = _rows()


def _function(text, x):
    names = {"fg": fg, "np": np, "zero": np.zeros_like(x), "one": np.ones_like(x)}
    return eval(f"lambda x: fg.sum({text})", names)


def _value(text, dtype):
    return np.array(eval(text, NUMBERS), dtype)


def _same(found, expected, what):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6, atol=1e-7, err_msg=what)


def test_the_page_has_rows_of_every_kind():
    text = PAGE.read_text()
    assert len(ROWS) > 80
    for name in (
        "relu max norm hypot std var absolute sign clip where logaddexp logsumexp softmax huber hard_swish hard_tanh "
        "hard_sigmoid hard_shrink soft_shrink relu6 leaky_relu elu celu selu prelu mae mse binary_cross_entropy "
        "binary_cross_entropy_with_logits softmax_cross_entropy"
    ).split():
        assert re.search(rf"^\| `fg\.(losses\.)?{name}\(", text, re.M), f"no row of {name}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("text", "at", "first", "second"), ROWS)
def test_derivatives_are_those_of_the_page(text, at, first, second, dtype):
    x = _value(at, dtype)
    f, first = _function(text, x), _value(first, dtype)
    grad = fg.grad(f)
    _same(grad(x), first, "grad")
    _same(fg.compile(grad)(x), first, "compiled grad")
    _same(fg.vmap(grad)(np.stack([x, x]))[1], first, "vmap of grad")
    units = np.eye(x.size, dtype=dtype).reshape(x.size, *x.shape)
    slopes = [np.asarray(fg.jvp(f, (x,), (unit,))[1]) for unit in units]
    finite = np.isfinite(first)
    if finite.all():
        _same(np.reshape(slopes, x.shape), first, "jvp")
    recorded = fg.grad(lambda x: fg.sum(grad(x) * np.zeros_like(x)))  # of a gradient that is differentiated again
    assert recorded(x).shape == x.shape
    if second == "-":
        return
    second = _value(second, dtype)
    _same(fg.hessian(f)(x).reshape(x.size, -1).sum(1).reshape(x.shape), second, "hessian")
    if x.size == 1 or np.isfinite(second).all():  # else zeros times what is infinite are nan in some modes
        _same(fg.grad(lambda x: fg.sum(grad(x)))(x), second, "reverse over reverse")
        _same(fg.jvp(grad, (x,), (np.ones_like(x),))[1], second, "forward over reverse")
        _same(fg.compile(fg.hessian(f))(x).reshape(x.size, -1).sum(1).reshape(x.shape), second, "compiled hessian")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", [fg.norm, fg.std])
def test_squares_that_overflow_or_underflow(f, dtype):
    """The paragraph on norms, and the two formulas in it that neither overflow nor underflow."""
    largest, smallest = np.finfo(dtype).max / 16, np.finfo(dtype).smallest_normal
    for x, value in ((np.array([largest, -largest], dtype), np.inf), (np.array([smallest, -smallest], dtype), 0)):
        for both in (fg.value_and_grad(f), fg.compile(fg.value_and_grad(f))):
            found, gradient = both(x)
            assert found == value
            np.testing.assert_array_equal(gradient, [0, 0])
        assert fg.jvp(f, (x,), (np.array([1, 0], dtype),))[1] == 0
        c = np.abs(x).max()
        found, gradient = fg.value_and_grad(lambda x, c=c: c * f(x / c))(x)
        unit = f(np.array([1, -1], dtype)).numpy()
        np.testing.assert_allclose(found, c * unit, rtol=1e-6)
        np.testing.assert_allclose(gradient, fg.grad(f)(np.array([1, -1], dtype)), rtol=1e-6)
        _same(fg.grad(lambda x: fg.hypot(x[0], x[1]))(x), [np.sqrt(0.5), -np.sqrt(0.5)], "hypot")


def _second_derivatives(f, x):
    """The Hessian of f in each mode that computes one."""
    units, grad = np.eye(x.size, dtype=x.dtype), fg.grad(f)
    yield fg.hessian(f)(x)
    yield fg.compile(fg.hessian(f))(x)
    yield fg.vmap(fg.hessian(f))(np.stack([x, x]))[1]
    yield np.stack([fg.grad(lambda v, i=i: grad(v)[i])(x) for i in range(x.size)])
    yield np.stack([fg.jvp(grad, (x,), (unit,))[1] for unit in units])
    yield np.stack([fg.hvp(f, (x,), (unit,)) for unit in units])
    slope = lambda v, unit: fg.jvp(f, (v,), (unit,))[1]
    yield np.stack([[fg.jvp(lambda v, u=u: slope(v, u), (x,), (w,))[1] for w in units] for u in units])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("a", "b"),
    [(0, 0), (0, 1), (0, 2), (0, 3), (1e-160, 0), (1e-160, 1), (1e-150, 2), (2, 0), (2, 1), (1, 0), (3, -2.5)],
)
def test_second_derivatives_of_power_in_every_mode(a, b):
    """Against the formulas; derivatives by the exponent are 0 at base 0. Some powers of the small bases overflow."""
    log = np.log(a) if a else 0.0
    power = lambda e: float(a) ** e if a else float(e == 0)
    by_both = power(b - 1) * (1 + b * log) if a else 0.0
    expected = [[b * (b - 1) * power(b - 2) if b not in (0, 1) else 0.0, by_both], [by_both, power(b) * log * log]]
    for k, found in enumerate(_second_derivatives(lambda v: fg.power(v[0], v[1]), np.array([a, b], float))):
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-13, err_msg=f"mode {k}")
        np.testing.assert_array_equal(np.asarray(found), np.asarray(found).T, err_msg=f"mode {k}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("b", [0, 1, 2, 0.5])
def test_second_derivatives_of_the_power_of_a_negative_base_are_nan_in_every_mode(b):
    """It has none by the exponent, since no power is near it that is a number."""
    for k, found in enumerate(_second_derivatives(lambda v: fg.power(v[0], v[1]), np.array([-2.0, b]))):
        np.testing.assert_array_equal(np.asarray(found), np.full((2, 2), np.nan), err_msg=f"mode {k}")
    exponents = np.array([0.0, 1.0, 2.0, 3.0])  # constants
    for found in _second_derivatives(lambda v: fg.sum(fg.power(v[0], exponents)), np.array([-2.0])):
        np.testing.assert_allclose(np.asarray(found), [[2 + 6 * -2.0]], rtol=1e-14)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("point", [(0, 1), (0, -1), (1, 0), (1, 1), (-2, 1), (3, -4)])
@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1.0, 1e15])
def test_second_derivatives_of_arctan2_in_every_mode(point, scale, dtype):
    """Near (0, 0) they overflow, but are 0 where they have a factor of 0."""
    a, b = point
    scale = dtype(np.finfo(dtype).smallest_normal if scale == 1e-150 and dtype == np.float32 else scale)
    with np.errstate(all="ignore"):
        unit = np.array([[-2 * a * b, a * a - b * b], [a * a - b * b, 2 * a * b]]) / float(a * a + b * b) ** 2
        expected = np.where(unit == 0, 0, unit.astype(dtype) / scale / scale)
    modes = [*_second_derivatives(lambda v: fg.arctan2(v[0], v[1]), np.array([a, b], dtype) * scale)]
    if not np.isfinite(expected).all():
        modes.pop()  # forward over forward, where the zero of a unit vector meets what is infinite
    for k, found in enumerate(modes):
        rtol = 50 * np.finfo(dtype).eps
        np.testing.assert_allclose(np.asarray(found), expected, rtol=rtol, err_msg=f"mode {k}")


@pytest.mark.parametrize(
    ("dtype", "x"), [(np.float32, 1e-20), (np.float32, 1e-38), (np.float64, 1e-160), (np.float64, 0)]
)
def test_constant_exponents_near_0(dtype, x):
    """Of a polynomial written with x ** 0, and of an array of exponents some of which are 0."""
    exponents = np.arange(4, dtype=dtype)
    for f in (
        lambda x: 1 + x + x**2 + x**0,
        lambda x: fg.sum(fg.power(x, exponents)),
        lambda x: x**2 + 0 * x ** dtype(0),
    ):
        grad = fg.grad(f)
        for g in (
            fg.hessian(f),
            fg.grad(grad),
            fg.compile(fg.hessian(f)),
            lambda x: fg.jvp(grad, (x,), (dtype(1),))[1],
        ):
            np.testing.assert_allclose(g(dtype(x)), 2, rtol=1e-6)
        np.testing.assert_allclose(fg.vmap(fg.grad(grad))(np.full(3, x, dtype)), 2, rtol=1e-6)
    third = fg.grad(fg.grad(fg.grad(lambda x: 1 + x + x**2 + x**3 + x**0)))
    assert third(dtype(x)) == 6


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["arctan", "arcsinh", "arctanh", "log", "arccosh"])
def test_second_derivatives_that_underflow_at_the_largest_number(name, dtype):
    f, x = getattr(fg, name), np.array([np.finfo(dtype).max])
    for k, found in enumerate(_second_derivatives(lambda x: fg.sum(f(x)), x)):
        np.testing.assert_array_equal(np.asarray(found), [[0]], err_msg=f"mode {k}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("f", [fg.fmod, fg.remainder])
def test_remainders_have_second_derivatives_of_0(f):
    for at in ([7.0, 2.0], [1.0, 1e-160]):
        for k, found in enumerate(_second_derivatives(lambda x: f(x[0], x[1]), np.array(at))):
            np.testing.assert_array_equal(np.asarray(found), np.zeros((2, 2)), err_msg=f"mode {k}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("p", [1, 1.25, 1.5, 1.75, 2, 3, 4.5])
def test_norms_of_zeros_have_second_derivatives_of_0(p):
    f = lambda x: fg.norm(x, p)
    for k, found in enumerate(_second_derivatives(f, np.zeros(2))):
        np.testing.assert_array_equal(np.asarray(found), np.zeros((2, 2)), err_msg=f"mode {k}")
    rows = lambda x: fg.sum(fg.norm(x, p, 1))
    at = np.array([[3.0, -4.0], [0.0, 0.0]])
    one = fg.hessian(f)(at[0])
    np.testing.assert_allclose(fg.hessian(rows)(at)[0, :, 0], one, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(fg.hessian(rows)(at)[1], np.zeros((2, 2, 2)))
    assert rows(np.zeros((2, 0))).item() == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_norms_with_p_below_1_have_no_derivative_where_an_element_is_0():
    for x in (np.zeros(2), np.array([0.0, 1.0])):
        f = lambda x: fg.norm(x, 0.5)
        assert np.isnan(fg.grad(f)(x)[0])
        assert np.isnan(fg.jvp(f, (x,), (np.ones(2),))[1])
        assert f(x).item() == x[1]
