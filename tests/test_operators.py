"""Python's operators on tensors, on either side and in place: NumPy's values and dtypes, and gradients."""

import operator

import numpy as np
import pytest
from _oracles import FLOATS, gradients, same_bits
from _samples import X, Y, tracked

import fastgrad as fg

ARITHMETIC = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}  # fmt: skip
IN_PLACE = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv, "//=": operator.ifloordiv,
    "%=": operator.imod, "**=": operator.ipow,
}  # fmt: skip
OPERANDS = [X + 0.5, 0.7, 2, np.float64(0.7), np.float32(0.5), [0.5, 1.5, 0.25], np.array(0.7)]


def number(x):
    return "scalar" if np.ndim(x) == 0 else "array"


@pytest.mark.parametrize("other", OPERANDS, ids=lambda o: f"{type(o).__name__} {number(o)}")
@pytest.mark.parametrize("sign", ARITHMETIC)
def test_operators_on_either_side(sign, other):
    """Value as NumPy's, and tracked, with the tensor on either side."""
    f = ARITHMETIC[sign]
    plain = np.asarray(other) if isinstance(other, list) else other
    for ours, expected in ((f(tracked(), other), f(X, plain)), (f(other, tracked()), f(plain, X))):
        assert isinstance(ours, fg.Tensor) and ours.requires_grad
        assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-15)
    if sign not in ("//", "%"):
        fg.check_grads(lambda t: f(t, other), (X,))
        fg.check_grads(lambda t: f(other, t), (X,))


def test_matrix_products_on_either_side():
    for f in (lambda t: t @ Y.T, lambda t: Y.T @ t, lambda t: [[1.0, 2.0]] @ t, lambda t: t @ [1.0, 2.0, 3.0]):
        same_bits(f(tracked()), np.asarray(f(X)))
        fg.check_grads(f, (X,))


def test_divmod_abs_and_signs():
    t = tracked()
    for got, expected in (
        (divmod(t, 0.2), divmod(X, 0.2)),
        (divmod(3.0, t), divmod(3.0, X)),
        (divmod(Y, t), divmod(Y, X)),
    ):
        for a, b in zip(got, expected):
            same_bits(a, b)
            assert a.requires_grad
    same_bits(-t, -X)
    same_bits(+t, X)
    same_bits(abs(fg.tensor(-X)), X)


@pytest.mark.parametrize(
    "exponent", [0, 1, 2, 3, -1, -2, 0.5, -0.5, 1.5, 2.0, True, np.float64(2), np.array(3.0), np.int8(2), 10]
)
def test_powers(exponent):
    """Those with a shortcut too: value, dtype and gradient of power."""
    for dtype in FLOATS:
        x = X.astype(dtype)
        got, expected = fg.tensor(x) ** exponent, np.power(x, exponent)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got.numpy(), expected, rtol=4 * np.finfo(dtype).eps)
        slope = float(exponent) * x.astype(float) ** (float(exponent) - 1)
        np.testing.assert_allclose(gradients(lambda t: t**exponent, x)[0], slope, rtol=8 * np.finfo(dtype).eps)
    with pytest.raises(TypeError, match="^pow: a third argument is not supported$"):
        pow(fg.tensor(X), exponent, 3)


def test_powers_of_negative_bases():
    x = np.array([-2.0, -0.5])
    for exponent in (2, 3, -1, 0, np.array([2.0, 3.0])):
        same_bits(fg.tensor(x) ** exponent, x**exponent)
    same_bits(gradients(lambda t: t**3, x)[0], 3 * x**2)
    assert np.isnan((fg.tensor(x) ** 0.5).numpy()).all()


@pytest.mark.parametrize("other", [*OPERANDS[:-2], Y[0]], ids=lambda o: f"{type(o).__name__} {number(o)}")
@pytest.mark.parametrize("sign", IN_PLACE)
def test_in_place_operators(sign, other):
    f = IN_PLACE[sign]
    expected = f(X.copy(), other)
    t = fg.tensor(X)
    view = t.numpy()
    u = f(t, other)
    assert u is t
    np.testing.assert_allclose(t.numpy(), expected, rtol=1e-15)
    np.testing.assert_allclose(view, expected, rtol=1e-15)  # an ndarray on the same memory shows it
    leaf = tracked()
    y = leaf * 1
    y = f(y, other)
    y.sum().backward()
    plain = ARITHMETIC[sign[:-1]]
    np.testing.assert_allclose(leaf.grad.numpy(), gradients(lambda t: plain(t * 1, other), X)[0], rtol=1e-14)


def test_in_place_refusals():
    t = fg.tensor(X)
    with pytest.raises(
        ValueError, match=r"^add: an in-place change cannot stretch shape \(2, 3\) to take in shape \(4, 2, 3\)"
    ):
        t += np.zeros((4, 2, 3))
    with pytest.raises(ValueError, match=r"^multiply: shapes \(2, 3\) and \(2,\) do not broadcast"):
        t *= [1.0, 2.0]
    with pytest.raises(ValueError, match=r"^matmul: an in-place change cannot turn shape \(2, 3\) into \(2, 2\)$"):
        t @= np.ones((3, 2))
    leaf = tracked()
    with pytest.raises(
        RuntimeError, match="^add: a tensor made with requires_grad=True is changed in place while gradients"
    ):
        leaf += 1
    with fg.no_grad():
        leaf += 1
    same_bits(leaf, X + 1)
    assert leaf.is_leaf and leaf.requires_grad
    same_bits(t, X)


@pytest.mark.parametrize("sign", IN_PLACE)
def test_an_ndarray_does_not_take_in_a_tensor(sign):
    """a += t would lose the gradient, unless t is only data."""
    a = np.ones((2, 3))
    with pytest.raises(
        TypeError, match="cannot be stored in an ndarray, which would lose its gradient; write a = a [+] t"
    ):
        IN_PLACE[sign](a, tracked())
    same_bits(a, np.ones((2, 3)))
    b = a.copy()
    assert IN_PLACE[sign](a, fg.tensor(X)) is a
    np.testing.assert_array_equal(a, IN_PLACE[sign](b, X))
    with pytest.raises(TypeError, match="cannot be stored in an ndarray"):
        np.add(1.0, tracked(), out=np.zeros((2, 3)))


def test_what_is_no_operand_is_left_to_the_other():
    class Stranger:
        __array_ufunc__ = None

        def __radd__(self, other):
            return "added"

        def __eq__(self, other):
            return "compared"

    t = fg.tensor(X)
    assert t + Stranger() == "added"
    assert (t == Stranger()) == "compared"
    assert (t == "text") is False and (t != None) is True  # noqa: E711
    for f in (
        lambda: t + "text",
        lambda: "text" + t,
        lambda: t * None,
        lambda: t < None,
        lambda: t @ None,
        lambda: t & 1.5,
        lambda: t | t,
    ):
        with pytest.raises(TypeError):
            f()


@pytest.mark.parametrize("f", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne])
def test_comparisons(f):
    for other in (
        Y,
        0.5,
        1,
        np.float32(0.5),
        fg.tensor(Y),
        [0.25, 0.5, 0.75],
        np.float64(0.5),
        np.array([[1], [0]]),
        True,
    ):
        plain = np.asarray(other) if isinstance(other, (fg.Tensor, list)) else other
        for t in (tracked(), fg.tensor(X)):
            same_bits(f(t, other), f(X, plain))
            same_bits(f(other, t), f(plain, X))
            assert not f(t, other).requires_grad
    assert t.__hash__() == t.__hash__() and len({t, t}) == 1


@pytest.mark.parametrize("f", [operator.and_, operator.or_, operator.xor])
def test_logic(f):
    a, b = X > 0.5, Y > 0.3
    for x, y in ((a, b), (a, True), (np.arange(3), np.arange(3)[::-1] + 1), (np.arange(3), 1)):
        same_bits(f(fg.tensor(x), y), f(x, y))
        same_bits(f(y, fg.tensor(x)), f(y, x))
        same_bits(f(fg.tensor(x), fg.tensor(y)), f(x, np.asarray(y)))
    same_bits(~fg.tensor(a), ~a)
    with pytest.raises(TypeError, match="expected booleans or integers, got floats; compare first, as in"):
        f(fg.tensor(X), fg.tensor(a))
