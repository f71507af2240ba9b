"""dtypes of results: NumPy 2's rules for every pair of dtypes and kinds of scalar, with float32 for its float16."""

import operator

import numpy as np
import pytest
from _oracles import BINARY, FUNCTIONS, UNARY, gradients

import fastgrad as fg

DTYPES = [np.dtype(c) for c in "?bhilBHILfd"]
NUMPY_BINARY = [name for name in BINARY if isinstance(getattr(np, name, None), np.ufunc)]
NUMPY_UNARY = [name for name in UNARY if isinstance(getattr(np, name, None), np.ufunc)]
OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
    "!=": operator.ne, "&": operator.and_, "|": operator.or_, "^": operator.xor,
}  # fmt: skip
SCALARS = [True, 2, 2.0, np.True_, *(d.type(2) for d in DTYPES[1:])]


def wanted(function, *args):
    """What NumPy makes of the arguments, or the kind of error it raises."""
    with np.errstate(all="ignore"):
        try:
            result = np.asarray(function(*args))
        except (TypeError, ValueError) as error:
            return type(error)
    return result.astype(np.float32) if result.dtype == np.float16 else result


def sinc(x):
    """NumPy's, but exactly 0 at whole numbers, where NumPy has the sine of a rounded multiple of pi."""
    return np.where((x == np.trunc(x)) & (x != 0), np.float32(0), np.sinc(x))


def check(ours, theirs, args, tensors, message):
    expected = wanted(theirs, *args)
    if isinstance(expected, type):
        with pytest.raises((TypeError, ValueError)):
            ours(*tensors)
        return
    with np.errstate(all="ignore"):
        got = ours(*tensors)
    assert got.dtype == expected.dtype, f"{message}: dtype {got.dtype}, NumPy has {expected.dtype}"
    rtol = 4e-3 if any(np.result_type(a).itemsize == 1 for a in args) else 1e-5  # NumPy computes those in float16
    np.testing.assert_allclose(got.numpy(), expected, rtol=rtol, err_msg=message)


def array(dtype):
    return np.array([1, 2, 3]).astype(dtype)


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("name", NUMPY_BINARY)
def test_functions_of_two_arrays(name, a):
    for b in DTYPES:
        args = array(a), array(b)[::-1].copy()
        check(FUNCTIONS[name], getattr(np, name), args, map(fg.tensor, args), f"{name} of {a} and {b}")
        check(
            FUNCTIONS[name],
            getattr(np, name),
            args,
            (args[0], fg.tensor(args[1])),
            f"{name} of an array of {a} and {b}",
        )


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("name", NUMPY_BINARY)
def test_functions_of_an_array_and_a_scalar(name, a):
    for scalar in SCALARS:
        x = array(a)
        kind = f"{type(scalar).__name__} {scalar}"
        check(FUNCTIONS[name], getattr(np, name), (x, scalar), (fg.tensor(x), scalar), f"{name} of {a} and {kind}")
        check(FUNCTIONS[name], getattr(np, name), (scalar, x), (scalar, fg.tensor(x)), f"{name} of {kind} and {a}")


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("sign", OPERATORS)
def test_operators(sign, a):
    """Between tensors, with ndarrays on either side, and with scalars on either side."""
    operate, x = OPERATORS[sign], array(a)
    theirs = (
        np.power if sign == "**" else operate
    )  # the operator of NumPy 2.0 keeps the base's dtype for some exponents
    for b in DTYPES:
        y = array(b)[::-1].copy()
        for args in ((fg.tensor(x), fg.tensor(y)), (fg.tensor(x), y), (x, fg.tensor(y))):
            check(operate, theirs, (x, y), args, f"{a} {sign} {b}")
    for scalar in SCALARS:
        kind = f"{type(scalar).__name__} {scalar}"
        if (sign, a, type(scalar)) != ("**", np.bool_, int):  # NumPy's shortcut for 2 gives int8, np.power gives int64
            check(operate, theirs, (x, scalar), (fg.tensor(x), scalar), f"{a} {sign} {kind}")
        check(operate, theirs, (scalar, x), (scalar, fg.tensor(x)), f"{kind} {sign} {a}")


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("name", NUMPY_UNARY)
def test_functions_of_one_array(name, a):
    x = array(a) % 2  # in the domain of arcsin and its like
    check(FUNCTIONS[name], getattr(np, name), (x,), (fg.tensor(x),), f"{name} of {a}")
    check(FUNCTIONS[name], getattr(np, name), (x,), (x,), f"{name} of an array of {a}")


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("name", [name for name in UNARY if name not in NUMPY_UNARY])
def test_activations_of_integers_are_floats(name, a):
    got = FUNCTIONS[name](fg.tensor(array(a)))
    assert got.dtype == np.result_type(a, np.float32)
    np.testing.assert_allclose(got.numpy(), FUNCTIONS[name](array(a).astype(float)).numpy(), rtol=1e-6)


JOINED = {
    "where": (lambda a, b: fg.where(a > 1, a, b), lambda a, b: np.where(a > 1, a, b)),
    "concatenate": (lambda a, b: fg.concatenate([a, b]), lambda a, b: np.concatenate([a, b])),
    "stack": (lambda a, b: fg.stack([a, b]), lambda a, b: np.stack([a, b])),
    "matmul": (fg.matmul, np.matmul), "dot": (fg.dot, np.dot),
    "clip": (lambda a, b: fg.clip(a, b, None), lambda a, b: np.clip(a, b, None)),
}  # fmt: skip


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("name", JOINED)
def test_functions_that_join(name, a):
    ours, theirs = JOINED[name]
    for b in DTYPES:
        args = array(a), array(b)[::-1].copy()
        check(ours, theirs, args, map(fg.tensor, args), f"{name} of {a} and {b}")


@pytest.mark.parametrize("a", DTYPES, ids=str)
def test_where_and_clip_with_scalars(a):
    x = array(a)
    for scalar in (*SCALARS, -1.5):
        kind = f"{type(scalar).__name__} {scalar}"
        check(lambda x, s: fg.where(x > 1, x, s), lambda x, s: np.where(x > 1, x, s), (x, scalar),
            (fg.tensor(x), scalar),
              f"where of {a} and {kind}")  # fmt: skip
        check(lambda x, s: fg.clip(x, s, None), lambda x, s: np.clip(x, s, None), (x, scalar), (fg.tensor(x), scalar),
              f"clip of {a} at {kind}")  # fmt: skip


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize(
    "name, args", [("modf", ()), ("sinc", ()), ("round", ()), ("round", (1,)), ("fix", ()), ("nan_to_num", ()),
    ("float_power", (2,)),
                   ("ldexp", (2,)), ("divmod", (2,)), ("divmod", (2.0,))]
)  # fmt: skip
def test_composed_functions(name, args, a):
    if name == "round" and a == np.bool_:
        return  # NumPy rounds booleans to no decimals only
    x = array(a)
    numpys = sinc if name == "sinc" else getattr(np, name)
    first = lambda y: y[0] if isinstance(y, tuple) else y
    ours, theirs = (lambda x: first(getattr(fg, name)(x, *args))), (lambda x: first(numpys(x, *args)))
    check(ours, theirs, (x,), (fg.tensor(x),), f"{name} of {a}")


def test_in_place_the_left_operand_keeps_its_dtype():
    for a in DTYPES:
        for b in (*DTYPES, True, 2, 2.0):
            x, y = array(a), array(b)[::-1].copy() if isinstance(b, np.dtype) else b
            t = fg.tensor(x)
            expected = x.copy()
            try:
                expected += y
            except TypeError:
                with pytest.raises(TypeError, match=f"^add: an in-place change cannot turn {a} into"):
                    t += y
                continue
            t += y
            assert t.dtype == a, f"{a} += {b}"
            np.testing.assert_array_equal(t.numpy(), expected, f"{a} += {b}")


@pytest.mark.parametrize("f",
    [*(OPERATORS[s] for s in "+-*/"), fg.matmul, fg.arctan2, lambda a, b: fg.concatenate([a, b]),
                               lambda a, b: fg.where([True, False, True], a, b)])  # fmt: skip
def test_gradients_have_the_dtypes_of_their_inputs(f):
    """A float32 operand of a float64 result receives its gradient in float32."""
    for dtypes in ((np.float32, np.float64), (np.float64, np.float32)):
        args = [array(d) for d in dtypes]
        got = gradients(f, *args)
        assert tuple(g.dtype for g in got) == dtypes
        for g, expected in zip(got, gradients(f, *(a.astype(float) for a in args))):
            np.testing.assert_allclose(g, expected, rtol=1e-6)


def test_astype_between_all_dtypes():
    for a in DTYPES:
        for b in DTYPES:
            x = (np.arange(5) % 3).astype(a)
            got = fg.tensor(x).astype(b)
            assert got.dtype == b
            np.testing.assert_array_equal(got.numpy(), x.astype(b))
    t = fg.tensor([1.0, 2.0], requires_grad=True)
    (t.astype("float32") * 3).sum().backward()
    assert (t.grad.dtype, t.grad.tolist()) == (np.float64, [3, 3])


@pytest.mark.parametrize(
    "dtype", ["float16", "complex64", "complex128", "O", "U3", "S3", "M8[s]", "m8[s]", "longdouble", "f4,i4"]
)
def test_other_dtypes_are_refused(dtype):
    if dtype == "longdouble" and np.dtype(dtype) == np.float64:
        pytest.skip("long double is double here")
    x = np.zeros(2, dtype)
    t = fg.tensor([1.0, 2.0])
    calls = [
        lambda: fg.tensor(x), lambda: fg.asarray(x), lambda: fg.tanh(x), lambda: t + x, lambda: x + t,
        lambda: fg.sum(x), lambda: fg.where(x == x, t, x), lambda: fg.matmul(t, x), lambda: fg.concatenate([t, x]),
        lambda: t > x, lambda: fg.tensor([1.0], dtype=dtype), lambda: t.astype(dtype),
        lambda: fg.zeros(2, dtype=dtype),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(TypeError, match="expected|not supported|no common dtype|none that tensors have"):
            call()


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "f"], ids=str)
def test_only_floats_require_gradients(dtype):
    with pytest.raises(TypeError, match=f"^requires_grad: expected float32 or float64, got {dtype}"):
        fg.tensor([0, 1], dtype=dtype, requires_grad=True)


def test_integers_are_compared_exactly():
    """int64 and uint64 have no common integer dtype, and a Python number may be outside the tensor's."""
    a, b = np.array([2**63, 5], np.uint64), np.array([2**63 - 1, 5])
    for sign in ("<", "<=", ">", ">=", "==", "!="):
        compare = OPERATORS[sign]
        for x, y in ((a, b), (b, a), (a, -1), (array(np.uint8), 300), (array(np.int8), -300), (array(np.bool_), 2)):
            np.testing.assert_array_equal(compare(fg.tensor(x), y).numpy(), compare(x, y), f"{x} {sign} {y}")
            np.testing.assert_array_equal(compare(y, fg.tensor(x)).numpy(), compare(y, x), f"{y} {sign} {x}")


@pytest.mark.parametrize("name", ["divide", "hypot", "arctan2", "logaddexp", "copysign"])
def test_integers_with_a_python_int_outside_their_range(name):
    """As NumPy: where the result is a float the int need not fit the tensor's dtype; where it is an integer it must."""
    ours, theirs = getattr(fg, name), getattr(np, name)
    for dtype, n in ((np.uint8, 256), (np.uint8, -1), (np.int8, 300), (np.int16, 2**40), (np.uint64, -1)):
        x = np.array([1, 2, 3], dtype)
        for got, expected in ((ours(fg.tensor(x), n), theirs(x, n)), (ours(n, fg.tensor(x)), theirs(n, x))):
            assert got.dtype == np.result_type(expected.dtype, np.float32)
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3 if expected.dtype == np.float16 else 1e-6)
    with pytest.raises(OverflowError, match="out of bounds for uint8"):
        fg.tensor(np.array([1], np.uint8)) + 300


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "f"], ids=str)
def test_fabs_is_a_float_of_whatever_numbers(dtype):
    x = np.array([0, 1, 1], dtype)
    got = fg.fabs(x)
    assert got.dtype == np.fabs(fg.tensor(x)).dtype == np.result_type(np.fabs(x).dtype, np.float32)
    np.testing.assert_array_equal(got.numpy(), x)


def test_integers_of_what_is_differentiated_are_data():
    """As in JAX: the derivative of a step is 0 wherever it exists, and integers carry none."""
    table = np.array([1.0, 10.0, 100.0, 1000.0])
    x = np.array([0.25, 1.75, 2.5])

    def f(x):
        i = np.floor(x).astype(int)
        assert i.dtype == np.int64 and not i.requires_grad
        part = x - i
        return (1 - part) * fg.take(table, i) + part * fg.take(table, i + 1) + (x > 1).astype(float) * x.astype("i4")

    slopes = table[np.floor(x).astype(int) + 1] - table[np.floor(x).astype(int)]
    value = np.interp(x, np.arange(4), table) + (x > 1) * x.astype(int)
    g = fg.elementwise_grad(f)
    for evaluated in (f(fg.tensor(x, requires_grad=True)).detach().numpy(), fg.compile(f)(x), fg.vmap(f)(x)):
        np.testing.assert_allclose(evaluated, value, rtol=1e-15)
    for h in (g, fg.compile(g), fg.vmap(fg.grad(f)), fg.compile(fg.vmap(fg.grad(f)))):
        np.testing.assert_allclose(h(x), slopes, rtol=1e-14)
    np.testing.assert_allclose(fg.jvp(f, (x,), (np.ones(3),))[1], slopes, rtol=1e-14)
    np.testing.assert_allclose(np.diag(fg.jacfwd(f)(x)), slopes, rtol=1e-14)
    np.testing.assert_array_equal(fg.hessian(lambda x: fg.sum(f(x)))(x), np.zeros((3, 3)))
    scanned = fg.compile(fg.grad(lambda x: fg.scan(lambda c, v: (c + v * v.astype(int), None), 0.0, x)[0]))
    np.testing.assert_array_equal(scanned(x), np.floor(x))
