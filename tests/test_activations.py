"""The activation objects, the derivative table, and the formulas as text, LaTeX and oracle."""

import mpmath
import numpy as np
import pytest
from _oracles import CONSTANTS_OF_TEXTS, FUNCTIONS_OF_TEXTS, ROWS

import fastgrad as fg
from fastgrad import _core, activations
from fastgrad._rules import formula

CONSTANTS = _core.constants()
ELEMENTWISE = [name for name in activations.__all__ if isinstance(getattr(activations, name), activations.Activation)]
BY_ROW = ["softmax", "softmin", "log_softmax", "logsumexp", "glu"]
ISSUE = (
    "sigmoid expit tanh relu leaky_relu prelu relu6 elu selu celu gelu silu swish mish softplus softsign "
    "log_sigmoid hard_tanh hard_sigmoid hard_swish hard_shrink soft_shrink tanh_shrink erf erfc softmax "
    "softmin log_softmax logsumexp glu"
).split()


def test_every_activation_of_the_issue_is_there():
    for name in ISSUE:
        assert callable(getattr(activations, name))
        assert name in activations.__all__
    assert activations.expit is activations.sigmoid
    assert activations.swish is activations.silu


@pytest.mark.parametrize("name", ROWS)
def test_the_derivative_texts_are_the_derivatives_of_the_definitions(name):
    """mpmath differentiates each definition of ops.def numerically at 50 digits."""
    row = ROWS[name]
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(*domain, 20) for domain in row["domain"]], axis=1)
    letters = "x" if row["arity"] == 1 else "ab"
    with mpmath.workdps(50):
        namespace = {**FUNCTIONS_OF_TEXTS, **{key: value() for key, value in CONSTANTS_OF_TEXTS.items()}}

        def value(*args):
            return formula.evaluate(row["definition"], {**namespace, **dict(zip(letters, args))}, scalar=True)

        for point in points:
            point = [mpmath.mpf(float(v)) for v in point]
            for i, text in enumerate(row["derivatives"]):
                names = {**namespace, **dict(zip(letters, point)), "y": value(*point)}
                order = tuple(int(j == i) for j in range(len(point)))
                expected = mpmath.diff(value, tuple(point), order)
                got = formula.evaluate(text, names, scalar=True)
                assert mpmath.almosteq(got, expected, rel_eps=1e-12, abs_eps=1e-12), (name, i, point)


def test_the_constants_are_what_their_names_say():
    with mpmath.workdps(30):
        for name, (value, tex) in CONSTANTS.items():
            assert value == float(CONSTANTS_OF_TEXTS[name]())
            assert tex


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivative_is_that_of_the_function(name, dtype):
    f = getattr(activations, name)
    args = (0.3,) if isinstance(f, activations.ParametricActivation) else ()
    x = np.linspace(*f.domain, 101).astype(dtype).reshape(1, 101) + dtype(0.0123)
    h = 1e-5
    wide = x.astype(np.float64)
    expected = (np.asarray(f(wide + h, *args)) - np.asarray(f(wide - h, *args))) / (2 * h)
    before = x.copy()
    got = f.derivative(x, *args)
    assert isinstance(got, np.ndarray)
    assert got.dtype == dtype
    assert got.shape == x.shape
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_calling_one_is_calling_the_function_of_that_name(name):
    f = getattr(activations, name)
    args = (0.3,) if isinstance(f, activations.ParametricActivation) else ()
    x = np.linspace(-2, 2, 9)
    np.testing.assert_array_equal(np.asarray(f(x, *args)), np.asarray(getattr(fg, name)(x, *args)))
    assert repr(f) == f"<activation {f.__name__}>"


def test_derivative_of_relu_at_its_kink_is_0():
    assert activations.relu.derivative(0.0) == 0
    np.testing.assert_array_equal(activations.relu.derivative(np.array([-1.0, -0.0, 0.0, 1.0])), [0, 0, 0, 1])


def test_derivative_of_a_list_and_of_integers_is_float64():
    got = activations.tanh.derivative([0, 1])
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, [1, 1 - np.tanh(1) ** 2], rtol=1e-15)


def test_derivative_of_scalars_strides_and_nothing():
    assert activations.tanh.derivative(0.0).shape == ()
    assert activations.tanh.derivative(np.zeros((0, 3), np.float32)).shape == (0, 3)
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    np.testing.assert_array_equal(activations.tanh.derivative(x[::-1, ::2]), activations.tanh.derivative(x)[::-1, ::2])
    elu = activations.elu.derivative(x.astype(np.float32), 0.5)
    assert elu.dtype == np.float32


def test_parameters_have_the_defaults_of_the_functions():
    x = np.array([-2.0, -0.25, 0.25, 2.0])
    np.testing.assert_array_equal(activations.leaky_relu.derivative(x), [0.01, 0.01, 1, 1])
    np.testing.assert_array_equal(activations.leaky_relu.derivative(x, negative_slope=0.5), [0.5, 0.5, 1, 1])
    np.testing.assert_array_equal(activations.hard_shrink.derivative(x), [1, 0, 0, 1])
    np.testing.assert_allclose(activations.elu.derivative(x), np.minimum(1, np.exp(x)), rtol=1e-15)
    np.testing.assert_array_equal(activations.prelu.derivative(x, np.array([0.1, 0.2, 0.3, 0.4])), [0.1, 0.2, 1, 1])


def test_a_parameter_that_does_not_fit_is_refused():
    with pytest.raises(TypeError) as caught:
        activations.prelu.derivative(1.0)
    assert str(caught.value) == "prelu.derivative takes x and slope, got 0 more arguments and the names []"
    with pytest.raises(TypeError) as caught:
        activations.elu.derivative(1.0, beta=2)
    assert str(caught.value) == "elu.derivative takes x and alpha, got 0 more arguments and the names ['beta']"
    with pytest.raises(ValueError, match="^gelu: approximate is 'erf', expected 'none' or 'tanh'$"):
        activations.gelu.derivative(1.0, approximate="erf")


def test_gelu_has_two_forms():
    x = np.linspace(-3, 3, 7)
    exact, approximate = activations.gelu.derivative(x), activations.gelu.derivative(x, approximate="tanh")
    assert 0 < np.abs(exact - approximate).max() < 5e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BY_ROW)
def test_jacobian_is_that_of_the_function(name, dtype):
    f = getattr(activations, name)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(dtype)
    got = f.jacobian(x)
    assert got.dtype == dtype
    call = lambda v: np.asarray(getattr(fg, name)(v, axis=-1))
    h, wide = 1e-5, x.astype(np.float64)
    expected = np.stack([(call(wide + h * e) - call(wide - h * e)) / (2 * h) for e in np.eye(4)], axis=-1)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(f.jacobian(x[1, 2]), got[1, 2])


def test_softmax_jacobian_is_p_i_delta_ij_minus_p_j():
    x = np.array([0.1, 1.0, -2.0])
    p = np.exp(x) / np.exp(x).sum()
    np.testing.assert_allclose(activations.softmax.jacobian(x), np.diag(p) - np.outer(p, p), rtol=1e-14)
    assert np.isfinite(activations.softmax.jacobian([1e30, 0.0])).all()


@pytest.mark.parametrize("name", BY_ROW)
def test_functions_of_rows_have_no_elementwise_derivative(name):
    f = getattr(activations, name)
    with pytest.raises(TypeError, match=f"^{name} mixes the elements of a row: use {name}.jacobian\\(x\\)$"):
        f.derivative([1.0, 2.0])
    with pytest.raises(ValueError, match=f"^{name}.jacobian: x is 0-d, expected rows along a last axis$"):
        f.jacobian(1.0)


def test_formula_has_text_and_latex():
    formula = activations.tanh.formula
    assert formula.value == "tanh(x)"
    assert formula.derivative == "(1 + y) * (1 - y)"
    assert str(formula) == "y = tanh(x); dy/dx = (1 + y) * (1 - y)"
    assert formula.latex == (
        r"y = \tanh\left(x\right), \qquad "
        r"\frac{\partial y}{\partial x} = \left(1 + y\right) \, \left(1 - y\right)"
    )


def test_formula_of_an_op_with_a_parameter_is_in_its_public_names():
    assert activations.leaky_relu.formula.value == "where(x > 0, x, x * negative_slope)"
    assert activations.leaky_relu.formula.derivative == "where(x > 0, 1, negative_slope)"
    assert r"\alpha \, \left(e^{x} - 1\right)" in activations.elu.formula.latex


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_formula_reads_nothing_but_x_y_the_parameter_and_the_table(name):
    f = getattr(activations, name)
    allowed = {*ROWS, *CONSTANTS, "where", "x"} | {getattr(f, "_parameter", "x")}
    assert formula.names(f.formula.value) <= allowed
    assert formula.names(f.formula.derivative) <= allowed | {"y"}


def test_table_has_the_textbook_rows_and_every_activation():
    lines = activations.table().splitlines()
    names = [line.split()[0] for line in lines[2:] if not line.startswith(" ")]
    assert names[:7] == ["power", "exp", "log", "sigmoid", "tanh", "relu", "softmax"]
    assert set(names) >= set(ISSUE) - {"expit", "swish"}
    assert len(names) == len(set(names))
    assert max(map(len, lines)) <= 100
    assert not any(line != line.rstrip() for line in lines)
    columns = {line.index(word) for line in lines[:1] for word in ("value", "derivative")}
    assert columns == {14, 52}


def test_table_marks_and_styles():
    marked = activations.table(mark=lambda f: "ok").splitlines()
    assert sum(line.endswith("  ok") for line in marked) == len(activations.table("markdown").splitlines()) - 2
    assert max(map(len, marked)) <= 100
    markdown = activations.table("markdown")
    assert "| `tanh` | $\\tanh\\left(x\\right)$ |" in markdown
    assert {line.count("|") for line in markdown.splitlines()} == {4}
    tex = activations.table("latex").splitlines()
    assert tex[0] == r"\begin{array}{lll}" and tex[-1] == r"\end{array}"
    assert all(line.endswith(r" \\") for line in tex[1:-1])
    with pytest.raises(ValueError, match="^table: style is 'html', expected 'text', 'markdown' or 'latex'$"):
        activations.table("html")


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("x * x", "x^{2}"),
        ("-x", "-x"),
        ("a - (b - x)", r"a - \left(b - x\right)"),
        ("a - b - x", "a - b - x"),
        ("a + -b", r"a + \left(-b\right)"),
        ("-y / b", r"-\frac{y}{b}"),
        ("a / b / b", r"\frac{a}{b^{2}}"),
        ("a / (b / x)", r"\frac{a \, x}{b}"),
        ("0.5 / y", r"\frac{1}{2 \, y}"),
        ("1 / (x + 1)", r"\frac{1}{x + 1}"),
        ("2 * 3 * x", r"2 \cdot 3 \, x"),
        ("(a + b) * x", r"\left(a + b\right) \, x"),
        ("power(a + 1, b - 1)", r"\left(a + 1\right)^{b - 1}"),
        ("exp(x) * exp(x)", r"\left(e^{x}\right)^{2}"),
        ("sqrt(1 - x)", r"\sqrt{1 - x}"),
        ("log(absolute(x))", r"\ln\left(\left|x\right|\right)"),
        ("x * LN_2", r"x \, \ln 2"),
        ("where(x < 0, -x, x)", r"\begin{cases}-x & x < 0 \\ x & \text{otherwise}\end{cases}"),
        ("where(b != b, 1, 0)", r"\begin{cases}1 & b \text{ is nan} \\ 0 & \text{otherwise}\end{cases}"),
        ("x_i / sum_k(exp(x_k))", r"\frac{x_{i}}{\sum_{k} e^{x_{k}}}"),
        ("softplus(x)", r"\operatorname{softplus}\left(x\right)"),
    ],
)
def test_latex(text, tex):
    assert formula.latex(text, {"LN_2": r"\ln 2"}) == tex


@pytest.mark.parametrize("name", ROWS)
def test_every_text_of_the_table_can_be_typeset(name):
    constants = {key: tex for key, (_, tex) in CONSTANTS.items()}
    for text in (ROWS[name]["definition"], *ROWS[name]["derivatives"]):
        tex = formula.latex(text, constants)
        assert tex.count("{") == tex.count("}")
        assert tex.count(r"\left") == tex.count(r"\right")


def test_latex_refuses_what_it_cannot_typeset():
    with pytest.raises(ValueError, match="^cannot typeset '\\[x\\]': no rule for List$"):
        formula.latex("[x]")


def test_evaluate_sees_only_the_names_it_is_given():
    assert formula.evaluate("x + f(x)", {"x": 2, "f": abs}) == 4
    with pytest.raises(NameError):
        formula.evaluate("abs(x)", {"x": 2})
    assert formula.evaluate("where(x == 0, 0, 1 / x)", {"x": 0}, scalar=True) == 0
    with pytest.raises(ZeroDivisionError):
        formula.evaluate("where(x == 0, 0, 1 / x)", {"x": 0, "where": lambda c, a, b: a if c else b})


# ---- derivatives of derivatives --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_derivative_is_differentiated_mapped_and_compiled_as_any_function(name):
    f = getattr(activations, name)
    args = (0.3,) if isinstance(f, activations.ParametricActivation) else ()
    x, h = np.linspace(*f.domain, 7) + 0.0123, 1e-5
    first = f.derivative(x, *args)
    second = (f.derivative(x + h, *args) - f.derivative(x - h, *args)) / (2 * h)

    def total(x):
        return fg.sum(fg.asarray(f.derivative(x, *args)))

    for found, expected in (
        (fg.grad(total)(x), second),
        (fg.compile(fg.grad(total))(x), second),
        (fg.vmap(fg.grad(total))(x), second),
        (fg.jvp(lambda x: fg.asarray(f.derivative(x, *args)), (x,), (np.ones(7),))[1], second),
        (fg.vmap(lambda x: f.derivative(x, *args))(x), first),
        (fg.compile(lambda x: f.derivative(x, *args))(x), first),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_derivative_by_the_parameter_and_of_a_tensor_outside_of_transforms():
    x = np.array([[-1.0], [2.0]])
    slope = fg.grad(lambda a: fg.sum(activations.elu.derivative(x, a)))(np.array([2.0, 3.0, 4.0]))
    np.testing.assert_allclose(slope, np.full(3, np.exp(-1)), rtol=1e-15)
    t = fg.tensor([0.5, -1.0], requires_grad=True)
    activations.tanh.derivative(t).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), -2 * np.tanh(t.numpy()) * (1 - np.tanh(t.numpy()) ** 2), rtol=1e-14)
    with fg.no_grad():
        assert isinstance(activations.tanh.derivative(t), np.ndarray)
    assert isinstance(activations.tanh.derivative(t.detach()), np.ndarray)
