"""A Tensor among NumPy's functions and Python's protocols: what works gives what fastgrad's own function gives, on the
tape; what does not raises, and says what."""

import copy
import inspect
import io
import math
import operator
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
from _oracles import BINARY, FLOATS, ROWS, UNARY, gradients, same_bits

import fastgrad as fg

X = np.array([[0.25, 0.5, 0.75], [0.375, 0.625, 0.875]])
Y = np.array([[0.5, 0.25, 0.125], [0.75, 0.375, 0.5]])

NUMPY_2_0 = "shape" not in inspect.signature(np.reshape).parameters  # some parameters have other names there


def tracked(x=X):
    return fg.tensor(x, requires_grad=True)


# ---- NumPy's functions --------------------------------------------------------------------------------------------
def dispatched(module):
    """Every function of a module that asks its arguments' types: ufuncs, and those with __array_function__."""
    found = {n: f for n, f in vars(module).items() if isinstance(f, np.ufunc) or hasattr(f, "_implementation")}
    return {n: f for n, f in found.items() if not n.startswith("_")}


NUMPY = dispatched(np)
OURS = [name for name in NUMPY if name in fg.__all__]
NOT_OF_A_TENSOR = {"logspace", "geomspace"}  # take numbers; a tracked tensor would end as one
CALLS = {
    # name: arguments that need no tensor; the others are called with one tensor, or two
    "ldexp": (np.array([1, 2, 3]),), "round": (1,), "around": (1,), "take": ([2, 0],), "reshape": ((3, 2),),
    "expand_dims": (1,), "linspace": (2.0, 5),
    "roll": (1, 0), "repeat": (2,), "tile": ((2, 1),), "split": ([1], 1), "interp": ([0.0, 0.2, 0.7], [1.0, 3.0, 2.0]),
    "swapaxes": (0, 1), "moveaxis": (0, 1), "broadcast_to": ((4, 2, 3),), "transpose": ((1, 0),),
    "permute_dims": ((1, 0),),
    "clip": (0.3, 0.6), "full_like": (3.0,), "astype": ("f4",),
}  # fmt: skip
SEQUENCES = {"concatenate", "concat", "stack", "hstack", "vstack"}
WITHOUT_GRADIENT = {"any", "all", "argmax", "argmin", "zeros_like", "ones_like", "empty_like", "full_like", "isfinite",
    "isinf", "isnan",
                    "signbit", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and",
                    "logical_or",
                    "logical_xor", "logical_not"}  # fmt: skip
TWO = {name for name in OURS if getattr(NUMPY[name], "nin", 1) == 2} | {
    "dot",
    "where",
    "inner",
    "outer",
    "tensordot",
    "vdot",
}


def arguments(name, t, u):
    if name in SEQUENCES:
        return ([t, Y, u],)
    if name in CALLS:
        return (t, *CALLS[name])
    if name == "where":
        return (Y > 0.3, t, u)
    if name == "einsum":
        return ("ij,ij->j", t, u)
    if name in ("dot", "matmul"):
        return (t, Y.T)
    return (t, u) if name in TWO else (t,)


def inputs(name):
    return (X + 1, Y + 1) if name in ("arccosh", "acosh") else (X, Y)


def parts(y):
    return y if isinstance(y, (tuple, list)) else (y,)


@pytest.mark.parametrize("name", [name for name in OURS if name not in NOT_OF_A_TENSOR])
def test_numpys_function_is_ours_and_tracked(name):
    """The same bits and the same gradient as fastgrad's function of that name."""
    x, y = inputs(name)
    runs = []
    for function in (NUMPY[name], getattr(fg, name)):
        t, u = tracked(x), tracked(y)
        results = parts(function(*arguments(name, t, u)))
        assert all(isinstance(r, fg.Tensor) for r in results)
        if name not in WITHOUT_GRADIENT:
            for r in results:
                assert r.requires_grad, f"numpy.{name} of a tracked tensor gave a constant"
                r.backward(np.ones(r.shape))
        runs.append((results, t, u))
    for got, expected in zip(runs[0][0], runs[1][0]):
        if name == "empty_like":
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        else:
            same_bits(got, expected, name)
    if name not in WITHOUT_GRADIENT:
        for got, expected in zip(runs[0][1:], runs[1][1:]):
            assert (got.grad is None) == (expected.grad is None)
            if got.grad is not None:
                same_bits(got.grad, expected.grad, name)


@pytest.mark.parametrize("name", [name for name in OURS if name not in NOT_OF_A_TENSOR | {"empty_like"}])
def test_numpys_function_of_a_constant_tensor_is_numpys(name):
    x, y = inputs(name)
    got = NUMPY[name](*arguments(name, fg.tensor(x), fg.tensor(y)))
    expected = NUMPY[name](*arguments(name, x, y))
    for a, b in zip(parts(got), parts(expected)):
        assert isinstance(a, fg.Tensor) and not a.requires_grad
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-15)


def refusals(function, t):
    """What function says of one to five tensors; it must never return."""
    said = []
    for n in range(1, 6):
        try:
            result = function(*[t] * n)
        except Exception as error:
            said.append(str(error))
        else:
            return [f"returned {result!r}"]
    return said


OTHERS = {f"numpy.{name}": f for name, f in NUMPY.items() if name not in fg.__all__}
OTHERS |= {f"numpy.linalg.{name}": f for name, f in dispatched(np.linalg).items() if name != "norm"}
OTHERS |= {f"numpy.fft.{name}": f for name, f in dispatched(np.fft).items()}
# What needs no gradient to be right, or is one of ours under another name
ALSO_HERE = {"numpy.shape", "numpy.ndim", "numpy.size", "numpy.copy", "numpy.invert", "numpy.bitwise_not",
    "numpy.bitwise_invert",
             "numpy.bitwise_and", "numpy.bitwise_or", "numpy.bitwise_xor", "numpy.conjugate", "numpy.conj",
             "numpy.linalg.matmul"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in ALSO_HERE])
def test_any_other_function_of_numpy_raises_and_is_named(name):
    said = refusals(OTHERS[name], tracked())
    own = OTHERS[name].__name__
    assert any(f"{own} is not supported on tensors" in s for s in said), f"{name} of a tensor says {said}"


@pytest.mark.parametrize("name", sorted(NOT_OF_A_TENSOR))
def test_creation_from_a_tracked_tensor_is_refused(name):
    for function in (NUMPY[name], getattr(fg, name)):
        with pytest.raises(TypeError, match="not supported on tensors|requires gradients"):
            function(tracked(1.0), 2.0)
    with pytest.raises(TypeError, match="^eye: this tensor requires gradients"):
        fg.eye(tracked(1.0))
    same_bits(fg.full((2,), fg.tensor(1.5)), np.full(2, 1.5))


def test_functions_under_other_names():
    t = tracked()
    assert (np.shape(t), np.ndim(t), np.size(t), np.size(t, 1)) == ((2, 3), 2, 6, 3)
    same_bits(np.copy(t), X)
    same_bits(np.conjugate(t), X)
    assert np.copy(t).requires_grad and np.conjugate(t).requires_grad
    same_bits(np.linalg.norm(t), fg.norm(X))
    mask = fg.tensor(X > 0.5)
    for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor):
        same_bits(f(mask, Y > 0.3), f(X > 0.5, Y > 0.3))
        same_bits(f(Y > 0.3, mask), f(X > 0.5, Y > 0.3))
    same_bits(np.invert(mask), X <= 0.5)


KEYWORDS = {
    "sum": dict(axis=1, keepdims=True), "mean": dict(axis=(0, 1)), "max": dict(axis=0, keepdims=True),
    "amin": dict(axis=-1),
    "prod": dict(axis=0), "var": dict(axis=1, ddof=1), "std": dict(axis=0, ddof=1, keepdims=True),
    "argmax": dict(axis=1),
    "any": dict(axis=0), "all": dict(axis=1, keepdims=True), "round": dict(decimals=1),
    "clip": dict(a_min=0.3, a_max=0.6),
    "reshape": {"newshape" if NUMPY_2_0 else "shape": (3, 2)}, "transpose": dict(axes=(1, 0)),
    "squeeze": dict(axis=None), "moveaxis": dict(source=0, destination=1),
    "swapaxes": dict(axis1=0, axis2=1), "expand_dims": dict(axis=0), "broadcast_to": dict(shape=(2, 2, 3)),
    "take": dict(indices=[1], axis=1),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYWORDS)
def test_keyword_arguments_go_over(name):
    keywords = KEYWORDS[name]
    got = NUMPY[name](tracked(), **keywords)
    expected = NUMPY[name](X, **keywords)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-15)


def test_more_keyword_arguments():
    t = tracked()
    if not NUMPY_2_0:
        same_bits(np.clip(t, min=0.3), np.clip(X, min=0.3))
    same_bits(np.clip(t, None, 0.6), np.clip(X, None, 0.6))
    same_bits(np.concatenate([t, Y], axis=1), np.concatenate([X, Y], axis=1))
    same_bits(np.concatenate([Y, t], None), np.concatenate([Y, X], None))
    same_bits(np.stack([t, Y], axis=-1), np.stack([X, Y], axis=-1))
    same_bits(np.linalg.norm(t, ord=1, axis=1, keepdims=True), np.linalg.norm(X, ord=1, axis=1, keepdims=True))


@pytest.mark.parametrize(
    "call, name, argument",
    [
        (lambda t: np.add(t, 1, where=np.ones((2, 3), bool)), "numpy.add", "where"),
        (lambda t: np.add(t, 1, dtype="f4"), "numpy.add", "dtype"),
        (lambda t: np.tanh(t, casting="unsafe"), "numpy.tanh", "casting"),
        (lambda t: np.add(t, 1, order="F"), "numpy.add", "order"),
        (lambda t: np.sum(t, dtype="f4"), "numpy.sum", "dtype"),
        (lambda t: np.sum(t, initial=1.0), "numpy.sum", "initial"),
        (lambda t: np.sum(t, where=X > 0.5), "numpy.sum", "where"),
        (lambda t: np.sum(t, out=np.zeros(())), "numpy.sum", "out"),
        (lambda t: np.mean(t, dtype="f4"), "numpy.mean", "dtype"),
        (lambda t: np.max(t, initial=0.0), "numpy.max", "initial"),
        (lambda t: np.std(t, mean=0.0), "numpy.std", "mean"),
        (lambda t: np.var(t, where=X > 0.5), "numpy.var", "where"),
        (lambda t: np.argmax(t, out=np.zeros((), int)), "numpy.argmax", "out"),
        (lambda t: np.reshape(t, 6, order="F"), "numpy.reshape", "order"),
        (lambda t: np.take(t, [0], mode="clip"), "numpy.take", "mode"),
        (lambda t: np.round(t, out=np.zeros((2, 3))), "numpy.round", "out"),
        (lambda t: np.stack([t, t], out=np.zeros((2, 2, 3))), "numpy.stack", "out"),
        (lambda t: np.concatenate([t, t], out=np.zeros((4, 3))), "numpy.concatenate", "out"),
        (lambda t: np.concatenate([t, t], dtype="f4"), "numpy.concatenate", "dtype"),
        (lambda t: np.clip(t, 0, 1, out=np.zeros((2, 3))), "numpy.clip", "out"),
        (lambda t: np.dot(t, Y.T, out=np.zeros((2, 2))), "numpy.dot", "out"),
    ],
)  # fmt: skip
def test_arguments_that_are_not_here_are_refused(call, name, argument):
    with pytest.raises(TypeError) as raised:
        call(tracked())
    assert str(raised.value) == f"{name}: the argument {argument}= is not supported on tensors"


REDUCERS = {np.add: fg.sum, np.multiply: fg.prod, np.maximum: fg.max, np.minimum: fg.min}


@pytest.mark.parametrize("ufunc", REDUCERS)
def test_reduce(ufunc):
    for keywords in ({}, {"axis": 1}, {"axis": None}, {"axis": (0, 1), "keepdims": True}, {"axis": ()}):
        got = ufunc.reduce(tracked(), **keywords)
        np.testing.assert_allclose(got.numpy(), ufunc.reduce(X, **keywords), rtol=1e-15)
        assert got.requires_grad
    same_bits(gradients(lambda t: ufunc.reduce(t), X)[0], gradients(lambda t: REDUCERS[ufunc](t, axis=0), X)[0])


LASTING = tracked()  # NumPy forgets to let go of a tensor whose class refuses a method of a ufunc


@pytest.mark.parametrize(
    "argument, value", [("dtype", "f4"), ("initial", 3.0), ("where", X > 0.5), ("out", np.zeros(3))]
)
def test_arguments_of_reduce_that_are_not_here(argument, value):
    with pytest.raises(TypeError, match=f"^numpy.add.reduce: the argument {argument}= is not supported on tensors$"):
        np.add.reduce(LASTING, **{argument: value})


def test_running_sums_and_tables_of_ufuncs():
    for axis in (0, 1, -1):
        same_bits(np.add.accumulate(tracked(), axis=axis), np.add.accumulate(X, axis=axis))
    same_bits(np.add.accumulate(tracked()), np.add.accumulate(X))
    for a, b in ((X, Y), (X, 2.0), (Y[0, 0], X)):
        for u, v in ((fg.tensor(a), b), (a, fg.tensor(b)), (fg.tensor(a, requires_grad=True), b)):
            same_bits(np.subtract.outer(u, v), np.subtract.outer(a, b))


@pytest.mark.parametrize(
    "call, name",
    [(lambda t: np.subtract.reduce(t), "numpy.subtract.reduce"),
     (lambda t: np.maximum.accumulate(t), "numpy.maximum.accumulate"),
     (lambda t: np.add.at(np.zeros(3), [0], t), "numpy.add.at"),
     (lambda t: np.multiply.reduceat(t, [0]), "numpy.multiply.reduceat"),
     (lambda t: np.logical_and.reduce(t), "numpy.logical_and.reduce")],
)  # fmt: skip
def test_other_methods_of_ufuncs(call, name):
    with pytest.raises(TypeError, match=f"^{name} is not supported on tensors"):
        call(LASTING)


@pytest.mark.parametrize("name", ["expit", "erf", "erfc", "log_expit"])
def test_functions_of_scipy(name):
    ours = {"expit": fg.sigmoid, "log_expit": fg.log_sigmoid}.get(name) or getattr(fg, name)
    theirs = getattr(scipy.special, name)
    same_bits(theirs(tracked()), ours(X))
    same_bits(gradients(theirs, X)[0], gradients(ours, X)[0])
    np.testing.assert_allclose(theirs(fg.tensor(X)).numpy(), theirs(X), rtol=1e-14)


def test_other_functions_of_scipy():
    for name in ("gammaln", "ndtr", "xlogy"):
        said = refusals(getattr(scipy.special, name), tracked())
        assert any(f"scipy.special.{name} is not supported on tensors" in s for s in said), said


# ---- becoming an ndarray -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("convert",
    [np.asarray, np.array, np.ascontiguousarray, np.asanyarray, lambda t: np.asarray(t, "f4"),
                                     lambda t: np.array([t, t]), lambda t: np.zeros(6).reshape(2, 3) + np.asarray(t),
                                     lambda t: np.zeros((2, 3)).__setitem__(..., t)])  # fmt: skip
def test_a_tracked_tensor_does_not_become_an_ndarray(convert):
    for t in (tracked(), tracked() * 2):
        with pytest.raises(
            TypeError,
            match="^numpy.array or asarray: this tensor requires gradients, which an ndarray would",
        ):
            convert(t)


def test_a_constant_tensor_becomes_an_ndarray_without_a_copy():
    t = fg.tensor(X)
    a = np.asarray(t)
    assert np.shares_memory(a, t.numpy())
    assert not a.flags.writeable
    same_bits(np.array(t), X)
    assert np.array(t).flags.writeable
    same_bits(np.asarray(t, "f4"), X.astype("f4"))
    same_bits(np.asarray(t, copy=True), X)
    assert np.shares_memory(np.asarray(t, copy=False), t.numpy())
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, "f4", copy=False)


def test_numpy_is_a_read_only_view_that_outlives_the_tensor():
    t = tracked()
    a = t.numpy()
    with pytest.raises(ValueError):
        a[0, 0] = 1
    del t
    same_bits(a, X)


# ---- operators -------------------------------------------------------------------------------------------------------
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
    """Value as NumPy's, and tracked, whoever stands on the left."""
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
    if sign == "**=":  # the derivative names the base, which is gone
        with pytest.raises(RuntimeError, match="^power: its input of shape .* was changed in place"):
            y.sum().backward()
        return
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
    with pytest.raises(TypeError, match="^a @= b is not supported; write a = a @ b$"):
        t @= np.eye(3)
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
    """a += t would leave the gradient behind, unless t is only data."""
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
    for operand in (tracked(), X):
        with pytest.raises(TypeError, match="^numpy.add: the argument out= is not supported on tensors$"):
            np.add(operand, 1.0, out=fg.tensor(X))


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


# ---- other protocols -------------------------------------------------------------------------------------------------
ALL_DTYPES = [np.dtype(c) for c in "?bhilBHILfd"]


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (30, 40)], ids=str)
def test_buffer_and_dlpack(shape, dtype):
    """Both ways with NumPy, and the memory is one, not a copy."""
    x = np.asarray(np.arange(math.prod(shape)).reshape(shape) % 2, dtype)
    t = fg.tensor(x)
    view = memoryview(t)
    assert view.readonly
    same_bits(np.asarray(view), x)
    there = np.from_dlpack(t)
    same_bits(there, x)
    assert t.__dlpack_device__() == (1, 0)
    back = fg.from_dlpack(x)
    same_bits(back, x)
    same_bits(fg.from_dlpack(t), x)
    if x.size:
        assert np.shares_memory(there, t.numpy()) and np.shares_memory(np.asarray(view), t.numpy())
    if x.size > 1:
        assert np.shares_memory(back.numpy(), x)
    del t
    same_bits(there, x)
    same_bits(np.asarray(view), x)


def test_dlpack_of_other_layouts():
    x = np.arange(24.0).reshape(4, 6)
    same_bits(fg.from_dlpack(x[::2, 1::2]), x[::2, 1::2])
    same_bits(fg.from_dlpack(x.T), x.T)


def test_a_tracked_tensor_hands_out_no_memory():
    for t in (tracked(), tracked() + 1):
        with pytest.raises(BufferError, match="requires gradients has no buffer to hand out"):
            memoryview(t)
        with pytest.raises(BufferError, match="requires gradients cannot be exported by DLPack; use .detach"):
            np.from_dlpack(t)
        same_bits(np.from_dlpack(t.detach()), t.numpy())


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_pickle_and_copy(dtype):
    x = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    for t in [fg.tensor(x, requires_grad=leaf) for leaf in (False, True)[: 1 + (dtype.kind == "f")]]:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(t, protocol))
            same_bits(again, x)
            assert again.requires_grad == t.requires_grad
        for make in (copy.copy, copy.deepcopy):
            again = make(t)
            same_bits(again, x)
            assert again is not t and not np.shares_memory(again.numpy(), t.numpy())


def test_a_result_cannot_be_pickled():
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(
            TypeError, match="only a tensor that no recorded operation made can be copied or pickled; use .detach"
        ):
            call(tracked() * 2)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: fg.tensor([1.0, 2.5]), "tensor([1. , 2.5])"), (lambda: fg.tensor(2.0), "tensor(2.)"),
        (lambda: fg.tensor(3), "tensor(3)"), (lambda: fg.tensor([True]), "tensor([ True])"),
        (lambda: fg.tensor([1.0], dtype="f4"), "tensor([1.], dtype=float32)"),
        (lambda: fg.tensor([1], dtype="u1"), "tensor([1], dtype=uint8)"),
        (lambda: fg.tensor([]), "tensor([])"), (lambda: fg.zeros((0, 3)), "tensor([], shape=(0, 3))"),
        (lambda: fg.tensor([[1.0], [2.0]]), "tensor([[1.],\n        [2.]])"),
        (lambda: fg.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: fg.tanh(fg.tensor([0.0], "f4", requires_grad=True)), "tensor([0.], dtype=float32, op=tanh)"),
        (lambda: fg.tensor(np.arange(2000)), "tensor([   0,    1,    2, ..., 1997, 1998, 1999])"),
    ],
)  # fmt: skip
def test_repr(make, text):
    assert repr(make()) == text
    assert str(make()) == text


def test_format():
    assert f"{fg.tensor(2.0):.3f}" == "2.000"
    assert f"{fg.tensor([1.0, 2.0])}" == "tensor([1., 2.])"
    assert format(fg.tensor([3]), "d") == "3"
    with pytest.raises(
        TypeError, match=r"^format '.3f': expected a tensor of one element, got shape \(2,\); use .tolist"
    ):
        format(fg.tensor([1.0, 2.0]), ".3f")


def test_python_numbers():
    assert float(fg.tensor([[2.5]])) == 2.5 and int(fg.tensor(2.5)) == 2 and complex(fg.tensor(2.5)) == 2.5 + 0j
    assert operator.index(fg.tensor(3)) == 3 and [10, 20, 30][fg.tensor(1)] == 20 and math.sqrt(fg.tensor(4.0)) == 2
    for dtype in ALL_DTYPES:
        item = fg.tensor(np.array([1], dtype)).item()
        assert (item, type(item)) == (1, type(np.array([1], dtype).item()))
        assert fg.tensor(np.array([[1, 0]], dtype)).tolist() == np.array([[1, 0]], dtype).tolist()
    assert fg.tensor(2.5).tolist() == 2.5
    assert float(tracked(2.5)) == 2.5 and tracked(2.5).item() == 2.5
    for f in (float, int, complex, operator.index):
        with pytest.raises((TypeError, ValueError)):
            f(fg.tensor([1, 2]))
    for f in (operator.index, lambda t: [1, 2][t], range):
        with pytest.raises(TypeError):
            f(fg.tensor(1.0))


def test_truth():
    assert fg.tensor(1.0) and not fg.tensor([0]) and fg.tensor([[True]])
    for t in (fg.tensor([1.0, 2.0]), fg.zeros(0)):
        with pytest.raises(
            ValueError, match=r"^the truth value of a tensor of shape \([02],\) is ambiguous; use .any\(\) or .all\(\)$"
        ):
            bool(t)


def test_length_iteration_and_membership():
    t = tracked()
    assert len(t) == 2 and [len(r) for r in t] == [3, 3]
    same_bits(fg.stack(list(t)), X)
    a, b = t
    (a * b).sum().backward()
    same_bits(t.grad, X[::-1])
    assert 0.5 in t and 7.0 not in t
    assert list(fg.zeros((0, 2))) == []
    for f in (len, iter, list):
        with pytest.raises(TypeError, match="(of|over) a tensor without axes$"):
            f(fg.tensor(1.0))


def test_attributes():
    t = fg.tensor(np.zeros((2, 3), "f4"))
    assert (t.shape, t.dtype, t.ndim, t.size, t.itemsize, t.nbytes) == ((2, 3), np.float32, 2, 6, 4, 24)
    assert (t.T.shape, t.mT.shape, t.requires_grad, t.grad, t.is_leaf) == ((3, 2), (3, 2), False, None, True)
    for name in ("shape", "dtype", "T", "is_leaf", "anything"):
        with pytest.raises(AttributeError):
            setattr(t, name, 1)


def test_inside_a_transform_a_tensor_does_not_silently_become_a_number():
    for f in (float, int, complex, math.tanh):
        with pytest.raises(TypeError, match="a tensor that is being differentiated would silently become a constant"):
            fg.grad(lambda x: x * f(x))(1.5)


def test_every_row_of_the_table_is_a_method_of_numpys_function_of_that_name():
    """No row is forgotten: what NumPy has under the name of a row is answered by the row."""
    for name in ROWS:
        ufunc = getattr(np, name, None)
        if isinstance(ufunc, np.ufunc):
            assert name in OURS
            assert ufunc.nin == (1 if name in UNARY else 2) and (name in UNARY) != (name in BINARY)


# ---- tensors that are only data -------------------------------------------------------------------------------------
DATA = np.array([[3.0, 1.0, 2.0], [0.5, -1.0, 4.0]])
ON_DATA = [
    lambda x: np.allclose(x, DATA), lambda x: np.array_equal(x, DATA), lambda x: np.array_equal(DATA, x),
    lambda x: np.argsort(x, axis=1), lambda x: np.sort(x), lambda x: np.median(x, axis=0), lambda x: np.unique(x),
    lambda x: np.percentile(x, [10, 90]), lambda x: np.histogram(x, 3), lambda x: np.quantile(x, 0.3, axis=-1),
    lambda x: np.isclose(x, 1.0), lambda x: np.linalg.inv(x[:, :2]), lambda x: np.linalg.svd(x)[1],
    lambda x: np.cov(x), lambda x: np.pad(x, 1), lambda x: np.array2string(x), lambda x: np.savez(io.BytesIO(), a=x),
    lambda x: np.meshgrid(x[0], x[1]), lambda x: np.block([[x, x]]), lambda x: np.searchsorted(np.sort(x[0]), x[1]),
    lambda x: np.sum(x, where=DATA > 0), lambda x: np.mean(x, dtype=np.float32), lambda x: np.max(x, initial=9.0),
    lambda x: np.average(x, weights=x * x), lambda x: np.argwhere(x > 1), lambda x: np.nonzero(x),
    lambda x: np.cumprod(x), lambda x: np.nextafter(x, 2.0), lambda x: np.add.reduceat(x, [0, 1]),
    lambda x: np.multiply.accumulate(x),
    lambda x: np.divmod(x, 2.0, where=DATA > 0, out=(np.zeros((2, 3)), np.zeros((2, 3)))),
    lambda x: np.in1d(x, DATA) if np.__version__ < "2" else np.isin(x, DATA),  # noqa: NPY201 - only where it exists
    lambda x: np.apply_along_axis(np.sort, 0, x), lambda x: np.where(x), lambda x: scipy.special.gamma(x),
    lambda x: np.isposinf(x), lambda x: np.select([x > 1], [x]), lambda x: np.conjugate(x > 1), lambda x: np.ptp(x),
]  # fmt: skip


def _assert_equal(found, expected):
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected):
            _assert_equal(a, b)
    elif isinstance(expected, (np.ndarray, np.generic)):
        np.testing.assert_array_equal(np.asarray(found), expected)
        assert np.asarray(found).dtype == expected.dtype
    else:
        assert found == expected


@pytest.mark.parametrize("f", ON_DATA, ids=lambda f: f.__code__.co_firstlineno)
def test_numpy_does_with_data_what_it_does_with_ndarrays(f):
    expected = f(DATA)
    for x in (fg.tensor(DATA), fg.tensor(DATA, requires_grad=True).detach()):
        _assert_equal(f(x), expected)
    leaf = fg.tensor(DATA, requires_grad=True)
    (leaf * fg.tensor(DATA)).sum().backward()
    _assert_equal(f(leaf.grad), expected)


NOT_ON_TRACKED = (
    (
        "np.allclose(x, 1) np.array_equal(x,1) np.argsort(x) np.median(x) np.save(io.BytesIO(),x) np.nextafter(x,2) "
        "np.pad(x,1) np.sum(x,dtype=np.float32) scipy.special.gamma(x) np.linalg.inv([[x[0,0]]])"
    )
    .replace(", 1)", ",1)")
    .split()
)


@pytest.mark.parametrize("text", NOT_ON_TRACKED)
def test_what_would_lose_a_gradient_is_refused(text):
    names = {"np": np, "io": io, "scipy": scipy}
    for value in (fg.tensor(DATA, requires_grad=True), fg.tensor(DATA, requires_grad=True) * 2):
        with pytest.raises(TypeError, match="not supported on tensors|requires gradients"):
            eval(text, names | {"x": value})
    with pytest.raises(TypeError, match="not supported on tensors|requires gradients"):
        fg.grad(lambda x: eval(text, names | {"x": x}))(DATA)
    with pytest.raises(TypeError):  # nor is it frozen into a program
        fg.compile(lambda x: eval(text, names | {"x": x}))(DATA)
    with pytest.raises(TypeError):
        fg.vmap(lambda x: eval(text, names | {"x": x}))(DATA[None])


def test_an_ndarray_takes_in_data():
    x = fg.tensor(DATA, requires_grad=True)
    (x * x).sum().backward()
    a, b = DATA.copy(), DATA.copy()
    a -= x.grad
    np.testing.assert_array_equal(a, -DATA)
    b *= 0.5 * x.grad
    np.testing.assert_array_equal(b, DATA**2)
    np.add.at(a, [0, 0], x.grad[:2])
    np.testing.assert_array_equal(a[0], -DATA[0] + 2 * DATA[0] + 2 * DATA[1])
    c = np.empty_like(DATA)
    assert np.exp(x.grad, out=c) is c
    np.testing.assert_array_equal(c, np.exp(2 * DATA))
    np.copyto(c, x.grad)
    np.testing.assert_array_equal(c, 2 * DATA)
    v = np.zeros(3)
    v[1], v[2:] = x.grad[0, 0], x.grad[0, 1:2]
    assert v.tolist() == [0, 6, 2]
    for write in (lambda: np.add(DATA, DATA, out=x.grad), lambda: np.add.at(x.grad, [0], 1.0)):
        with pytest.raises(TypeError, match="not supported on tensors"):
            write()
    with pytest.raises(ValueError, match="read-only"):
        np.copyto(x.grad, DATA)


def test_an_element_that_cannot_be_set_says_why():
    v = np.ones(3)

    def f(x):
        v[1] = x
        return x

    with pytest.raises(TypeError, match="^float: a tensor that is being differentiated .* ndarray that is filled"):
        fg.grad(f)(2.0)
    with pytest.raises(TypeError, match="cannot be .* by float|value of a tensor|float|number"):
        fg.compile(f)(2.0)
    assert v.tolist() == [1, 1, 1]


def test_scipy_s_functions_name_ours():
    for name in ("logsumexp", "softmax", "log_softmax"):
        with pytest.raises(TypeError, match=f"Instead of SciPy's {name} use fastgrad.{name}$"):
            fg.grad(lambda x: getattr(scipy.special, name)(x).sum())(np.ones(3))


def test_round_format_and_item_of_tensors():
    x = fg.tensor(2.5671, requires_grad=True)
    assert round(x.detach(), 3).item() == 2.567 and round(fg.tensor(-2.5)) == -2 and type(round(fg.tensor(3.5))) is int
    assert round(fg.tensor([1234, 5678]), -2).tolist() == [1200, 5700]
    assert fg.grad(lambda x: x * round(x, 1))(2.5671) == 2.6
    seen = []
    fg.grad(lambda x: (seen.append(f"{x:.2f}"), x * x)[1])(2.5671)
    assert seen == ["2.57"] and f"{x:.2f}" == "2.57" and f"{x:8.3e}" == "2.567e+00"
    y = fg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (y.item(0), y.item(-1), y.item(1, 0), y.item((0, 1))) == (1, 4, 3, 2)
    with pytest.raises(IndexError):
        y.item(4)
    with pytest.raises(TypeError, match="^item: a tensor that is being differentiated"):
        fg.grad(lambda x: x.item(0))(np.ones(2))
    np.testing.assert_array_equal(np.conjugate(fg.tensor([True, False])), np.conjugate(np.array([True, False])))


def test_questions_of_none_and_copy_of_nan_to_num():
    for f in (fg.equal, fg.not_equal, np.equal, np.not_equal):
        with pytest.raises(TypeError, match="equal: expected arrays and numbers, got None"):
            f(fg.ones(2), None)
    x = np.array([np.nan, np.inf, 1.0])
    for args in ((), (True,), (True, 5.0), (True, 5.0, 6.0), (True, 5.0, 6.0, 7.0)):
        np.testing.assert_array_equal(fg.nan_to_num(x, *args).numpy(), np.nan_to_num(x, *args))
        np.testing.assert_array_equal(np.nan_to_num(fg.tensor(x), *args), np.nan_to_num(x, *args))
    with pytest.raises(TypeError, match="nan_to_num: expected copy=True, got 0.0; the second argument is copy"):
        fg.nan_to_num(x, 0.0)


def test_scipy_s_functions_in_its_array_api_mode():
    """There they are wrappers, of which NumPy tells us the ufunc."""
    program = (
        "import numpy as np, scipy.special as s, fastgrad as fg\n"
        "all_ours = {'expit': fg.sigmoid, 'erf': fg.erf, 'erfc': fg.erfc, 'log_expit': fg.log_sigmoid}\n"
        "for name, ours in all_ours.items():\n"
        "    theirs = getattr(s, name); x = np.array([0.5, -1.0])\n"
        "    for f in (fg.grad(lambda x: fg.sum(theirs(x))), fg.compile(fg.grad(lambda x: fg.sum(theirs(x))))):\n"
        "        np.testing.assert_array_equal(f(x), fg.grad(lambda x: fg.sum(ours(x)))(x))\n"
        "    np.testing.assert_array_equal(theirs(fg.tensor(x)), ours(x))\n"
    )
    for mode in ("0", "1"):
        done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"SCIPY_ARRAY_API": mode},
            capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, f"SCIPY_ARRAY_API={mode}: {done.stderr}"


def test_reshape_by_every_name_of_its_shape():
    x = tracked()
    for y in (np.reshape(x, (3, 2)), np.reshape(x, (3, -1)), np.reshape(x, 6)):
        assert y.requires_grad and y.size == 6
    assert np.reshape(x, **{"newshape" if NUMPY_2_0 else "shape": (3, 2)}).requires_grad
