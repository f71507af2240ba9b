"""NumPy's functions of tensors, by its dispatch protocols: what works gives what fastgrad's own function gives, on the
tape; what does not raises, and says what. SciPy's ufuncs come the same way."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
from _oracles import BINARY, ROWS, UNARY, gradients, same_bits
from _samples import NUMPY_2_0, X, Y, tracked

import fastgrad as fg


# ---- NumPy's functions --------------------------------------------------------------------------------------------
def dispatched(module):
    """Every function of a module that asks its arguments' types: ufuncs, and those with __array_function__."""
    found = {n: f for n, f in vars(module).items() if isinstance(f, np.ufunc) or hasattr(f, "_implementation")}
    return {n: f for n, f in found.items() if not n.startswith("_")}


NUMPY = dispatched(np)
OURS = [name for name in NUMPY if name in fg.__all__ and name not in ("load", "save")]  # those are other functions
# Those that take numbers, as which a tracked tensor would end; and one that NumPy does in place.
NOT_OF_A_TENSOR = {"logspace", "geomspace", "put_along_axis"}
# Those of dtypes, those of integers, and one that refuses what requires gradients.
ASK_DTYPES = {"can_cast", "result_type"}
OF_INTEGERS = {name for name in OURS if name.startswith("bitwise_") or name.endswith(("invert", "shift"))}
ASK_SHAPES = {"shape", "ndim", "size"}
WITHOUT_GRADIENT = ASK_DTYPES | ASK_SHAPES | OF_INTEGERS | {"nextafter"}
CALLS = {
    # name: arguments that need no tensor; the others are called with one tensor, or two
    "ldexp": (np.array([1, 2, 3]),), "round": (1,), "around": (1,), "take": ([2, 0],), "reshape": ((3, 2),),
    "expand_dims": (1,), "linspace": (2.0, 5),
    "roll": (1, 0), "repeat": (2,), "tile": ((2, 1),), "split": ([1], 1), "interp": ([0.0, 0.2, 0.7], [1.0, 3.0, 2.0]),
    "swapaxes": (0, 1), "moveaxis": (0, 1), "broadcast_to": ((4, 2, 3),), "transpose": ((1, 0),),
    "permute_dims": ((1, 0),),
    "clip": (0.3, 0.6), "full_like": (3.0,), "astype": ("f4",), "partition": (1,), "argpartition": (1,),
    "percentile": (30.0,), "quantile": (0.3,), "nanpercentile": ([20.0, 70.0],), "nanquantile": (0.3,),
    "isin": (X[:1],),
    "digitize": ([0.2, 0.6],), "take_along_axis": (np.array([[2, 0], [1, 1]]), 1),
}  # fmt: skip
CALLS |= {
    "append": ([7.0, 8.0],), "array_split": (2,),
    "delete": (1,), "fill_diagonal": (7.0,), "hsplit": (3,), "insert": (1, 7.0), "pad": (1,), "piecewise":
    ([X > 0.5], [np.negative, 2.0]), "place": (X > 0.5, [7.0]), "putmask": (X > 0.5, 7.0),
    "resize": ((4, 2),), "rollaxis": (1,), "vsplit": (2,),
}  # fmt: skip
# Functions of other arguments than a tensor of shape (2, 3) and such
OTHERWISE = {
    "apply_along_axis": lambda t, u: (lambda row: row * 2, 1, t),
    "choose": lambda t, u: (np.array([[0, 1, 1], [1, 1, 0]]), [t, u]),
    "compress": lambda t, u: ([True, False, True], t, 1),
    "convolve": lambda t, u: (t[0], u[0]), "correlate": lambda t, u: (t[0], u[0]),
    "diag_indices_from": lambda t, u: (t[:, :2],), "dsplit": lambda t, u: (t[None], 3),
    "ix_": lambda t, u: (t[0], u[1]), "polyval": lambda t, u: (t[0], u),
    "polyfit": lambda t, u: (t[0], u[0], 1), "vander": lambda t, u: (t[0],),
    "select": lambda t, u: ([X > 0.5, Y > 0.3], [t, u]),
}  # fmt: skip
IN_PLACE = {"fill_diagonal", "place", "putmask"}  # NumPy's change an array and return nothing
SEQUENCES = {"concatenate", "concat", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack", "block"}
# Floats that are no function of the tensor; the edges of a histogram are data.
CONSTANT = {"zeros_like", "ones_like", "empty_like", "full_like", "histogram", "imag"}
TWO = {name for name in OURS if getattr(NUMPY[name], "nin", 1) == 2}
TWO |= {"dot", "where", "inner", "outer", "tensordot", "vdot", "allclose", "isclose", "array_equal", "array_equiv"}
TWO |= {"broadcast_arrays", "meshgrid"}
TWO |= {"cross", "kron"}


def arguments(name, t, u):
    if name in SEQUENCES:
        return ([t, Y, u],)
    if name in OTHERWISE:
        return OTHERWISE[name](t, u)
    if name in CALLS:
        return (t, *CALLS[name])
    if name == "where":
        return (Y > 0.3, t, u)
    if name == "bincount":
        return ([0, 2, 2, 1, 0, 3], t.reshape(-1))
    if name == "searchsorted":
        return ([0.2, 0.5], t)
    if name in ("cumulative_sum", "cumulative_prod"):
        return (t.reshape(-1),)
    if name == "einsum":
        return ("ij,ij->j", t, u)
    if name in ("dot", "matmul"):
        return (t, Y.T)
    return (t, u) if name in TWO else (t,)


def inputs(name):
    if name in OF_INTEGERS:
        return (X * 8).astype(int), (Y * 8).astype(int)
    return (X + 1, Y + 1) if name in ("arccosh", "acosh") else (X, Y)


def parts(y):
    return y if isinstance(y, (tuple, list)) else (y,)


@pytest.mark.parametrize("name", [name for name in OURS if name not in NOT_OF_A_TENSOR | IN_PLACE | WITHOUT_GRADIENT])
def test_numpys_function_is_ours_and_tracked(name):
    """The same bits and the same gradient as fastgrad's function of that name."""
    x, y = inputs(name)
    runs = []
    for function in (NUMPY[name], getattr(fg, name)):
        t, u = tracked(x), tracked(y)
        results = parts(function(*arguments(name, t, u)))
        assert all(isinstance(r, fg.Tensor) for r in results)
        for r in results:
            is_function_of_it = r.dtype.kind == "f" and name not in CONSTANT
            assert r.requires_grad == is_function_of_it, (
                f"numpy.{name} of a tracked tensor: wrongly tracked or constant"
            )
            if is_function_of_it:
                r.backward(np.ones(r.shape), retain_graph=True)
        runs.append((results, t, u))
    for got, expected in zip(runs[0][0], runs[1][0]):
        if name == "empty_like":
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        else:
            same_bits(got, expected, name)
    for got, expected in zip(runs[0][1:], runs[1][1:]):
        assert (got.grad is None) == (expected.grad is None)
        if got.grad is not None:
            same_bits(got.grad, expected.grad, name)


@pytest.mark.parametrize(
    "name", [name for name in OURS if name not in NOT_OF_A_TENSOR | IN_PLACE | ASK_DTYPES | ASK_SHAPES | {"empty_like"}]
)
def test_numpys_function_of_a_constant_tensor_is_numpys(name):
    x, y = inputs(name)
    got = NUMPY[name](*arguments(name, fg.tensor(x), fg.tensor(y)))
    expected = NUMPY[name](*arguments(name, x, y))
    for a, b in zip(parts(got), parts(expected)):
        assert isinstance(a, fg.Tensor) and not a.requires_grad
        b = np.asarray(b)  # of allclose and such a bool
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-15)


@pytest.mark.parametrize("function", [np, fg])
def test_what_a_tensor_tells_of_its_shape(function):
    for t in (tracked(), fg.tensor(X)):
        assert (function.shape(t), function.ndim(t), function.size(t), function.size(t, -1)) == ((2, 3), 2, 6, 3)
    told = fg.compile(lambda t: t * function.ndim(t) + function.size(t, axis=0))
    np.testing.assert_array_equal(told(X), X * 2 + 2)
    assert (fg.shape([[1.0, tracked()[0, 0]]]), fg.ndim(3.0), fg.size([])) == ((1, 2), 0, 0)
    with pytest.raises(np.exceptions.AxisError, match="^size: axis 2 "):
        fg.size(tracked(), 2)


def refusals(function, t):
    """What function says of one to five tensors; it must never return."""
    said = []
    for n in range(1, 6):
        try:
            result = function(*[t] * n)
        except (NotImplementedError, TypeError) as error:
            said.append(str(error))
        else:
            return [f"returned {result!r}"]
    return said


OTHERS = {f"numpy.{name}": f for name, f in NUMPY.items() if name not in fg.__all__}
OTHERS |= {f"numpy.linalg.{name}": f for name, f in dispatched(np.linalg).items() if name not in fg.linalg.__all__}
OTHERS |= {f"numpy.fft.{name}": f for name, f in dispatched(np.fft).items()}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_function_of_numpy_raises_and_is_named(name):
    said = refusals(OTHERS[name], tracked())
    own = OTHERS[name].__name__
    assert any(f"{own} is not supported on tensors" in s for s in said), f"{name} of a tensor says {said}"


@pytest.mark.parametrize("name", sorted(IN_PLACE))
def test_functions_that_change_an_array_in_place_name_the_value(name):
    """Of a tensor they could only do nothing."""
    for t in (tracked(), fg.tensor(X)):
        with pytest.raises(TypeError) as raised:
            NUMPY[name](t, *CALLS[name])
        assert f"numpy.{name} is not supported on tensors; write it as a = fastgrad.{name}(a, " in str(raised.value)


@pytest.mark.parametrize("name", sorted(NOT_OF_A_TENSOR - {"put_along_axis"}))
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
        (lambda t: np.less(t, 1, dtype="f4"), "numpy.less", "dtype"),
        (lambda t: np.tanh(t, casting="unsafe"), "numpy.tanh", "casting"),
        (lambda t: np.sum(t, out=np.zeros(())), "numpy.sum", "out"),
        (lambda t: np.any(t, out=np.zeros((), bool)), "numpy.any", "out"),
        (lambda t: np.median(t, out=np.zeros(())), "numpy.median", "out"),
        (lambda t: np.cumprod(t, out=np.zeros(6)), "numpy.cumprod", "out"),
        (lambda t: np.argmax(t, out=np.zeros((), int)), "numpy.argmax", "out"),
        (lambda t: np.round(t, out=np.zeros((2, 3))), "numpy.round", "out"),
        (lambda t: np.stack([t, t], out=np.zeros((2, 2, 3))), "numpy.stack", "out"),
        (lambda t: np.concatenate([t, t], out=np.zeros((4, 3))), "numpy.concatenate", "out"),
        (lambda t: np.clip(t, 0, 1, out=np.zeros((2, 3))), "numpy.clip", "out"),
        (lambda t: np.dot(t, Y.T, out=np.zeros((2, 2))), "numpy.dot", "out"),
    ],
)  # fmt: skip
def test_arguments_that_are_not_here_are_refused(call, name, argument):
    with pytest.raises(TypeError) as raised:
        call(tracked())
    cure = {
        "out": " must be a tensor where tensors are among the operands, as an ndarray would lose the gradient; "
        f"write a = {name}(t) instead of {name}(t, out=a), or make a a tensor",
        "where": f", as what it leaves out has no value; write fastgrad.where(mask, {name}(t), other)",
        "dtype": "; use .astype() on the arguments or the result",
    }.get(argument, "")
    refused = "" if argument == "out" else " is not supported on tensors"
    assert str(raised.value) == f"{name}: the argument {argument}={refused}{cure}"


def test_keywords_of_ufuncs():
    for dtype in ("f4", "f8", np.float32):
        got, expected = (np.multiply(x, 3, dtype=dtype, casting="same_kind", order="F") for x in (tracked(), X))
        assert got.dtype == expected.dtype and got.requires_grad
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)
    whole = np.add(fg.asarray([1, 2]), np.uint8(3), dtype=np.int32, where=True)
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(whole, [4, 5])
    same_bits(gradients(lambda t: np.exp(t, dtype="f8"), X)[0], gradients(np.exp, X)[0])
    with pytest.raises(TypeError, match=r"^numpy.add: cannot compute with float64 in dtype=int64; use .astype\(\)"):
        np.add(tracked(), 1, dtype=np.int64)


def test_an_input_that_may_be_overwritten_is_kept():
    t = tracked()
    same_bits(np.median(t, axis=1, overwrite_input=True), np.median(X, axis=1))
    same_bits(t.detach(), X)


def test_order_of_elements():
    for order in "CFA":
        for shape in ((3, 2), 6, (-1, 3), (1, 6), (1, 2, 3)):
            same_bits(np.reshape(tracked(), shape, order=order), np.reshape(X, shape, order=order))
            same_bits(tracked().reshape(shape, order=order), X.reshape(shape, order=order))
        for flat in ("ravel", "flatten"):
            same_bits(getattr(tracked(), flat)(order), getattr(X, flat)(order))
        weights = np.arange(6.0)
        ours = gradients(lambda t, order=order: np.ravel(t, order=order) * weights, X)[0]
        same_bits(ours, weights.reshape(X.shape, order=order))
        compiled = fg.compile(lambda t, order=order: np.reshape(t, (3, 2), order))
        same_bits([compiled(X), compiled(X)][1], X.reshape((3, 2), order=order))
        mapped = fg.vmap(lambda t, order=order: t.ravel(order))(np.stack([X, 2 * X]))
        np.testing.assert_array_equal(mapped, np.stack([X.ravel(order), 2 * X.ravel(order)]))
    same_bits(np.ravel(tracked(), "K"), X.ravel())
    same_bits(np.copy(tracked(), "F"), X)
    same_bits(np.reshape(fg.zeros(()), (1, 1), order="F"), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="^reshape: expected order as 'C', 'F' or 'A', got 'K'$"):
        tracked().reshape(6, order="K")
    with pytest.raises(ValueError, match=r"^reshape: .*\(4, -1\)"):
        np.reshape(tracked(), (4, -1), order="F")
    with pytest.raises(ValueError, match="^ravel: expected order as 'C', 'F', 'A' or 'K', got 'f'$"):
        np.ravel(tracked(), order="f")


REDUCERS = {np.add: fg.sum, np.multiply: fg.prod, np.maximum: fg.max, np.minimum: fg.min}


@pytest.mark.parametrize("ufunc", REDUCERS)
def test_reduce(ufunc):
    for keywords in ({}, {"axis": 1}, {"axis": None}, {"axis": (0, 1), "keepdims": True}, {"axis": ()}):
        got = ufunc.reduce(tracked(), **keywords)
        np.testing.assert_allclose(got.numpy(), ufunc.reduce(X, **keywords), rtol=1e-15)
        assert got.requires_grad
    same_bits(gradients(lambda t: ufunc.reduce(t), X)[0], gradients(lambda t: REDUCERS[ufunc](t, axis=0), X)[0])


LASTING = tracked()  # NumPy leaks a tensor whose class refuses a method of a ufunc


@pytest.mark.parametrize("argument, value", [("dtype", "f4"), ("initial", 3.0), ("where", X > 0.5)])
def test_arguments_of_reduce(argument, value):
    got, expected = (np.add.reduce(x, **{argument: value}) for x in (LASTING, X))
    assert got.dtype == expected.dtype and got.requires_grad
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("ufunc, argument, value", [(np.add, "out", np.zeros(3)), (np.subtract, "out", np.zeros(3))])
def test_arguments_of_reduce_that_are_not_here(ufunc, argument, value):
    text = f"^numpy.{ufunc.__name__}.reduce: the argument {argument}= must be a tensor where tensors"
    with pytest.raises(TypeError, match=text):
        ufunc.reduce(LASTING, **{argument: value})


def test_running_sums_and_tables_of_ufuncs():
    for axis in (0, 1, -1):
        same_bits(np.add.accumulate(tracked(), axis=axis), np.add.accumulate(X, axis=axis))
    same_bits(np.add.accumulate(tracked()), np.add.accumulate(X))
    for a, b in ((X, Y), (X, 2.0), (Y[0, 0], X)):
        for u, v in ((fg.tensor(a), b), (a, fg.tensor(b)), (fg.tensor(a, requires_grad=True), b)):
            same_bits(np.subtract.outer(u, v), np.subtract.outer(a, b))


@pytest.mark.parametrize(
    "call, name",
    [(lambda t: np.lcm.reduce(t), "numpy.lcm.reduce"),
     (lambda t: np.gcd.accumulate(t), "numpy.gcd.accumulate"),
     (lambda t: np.add.at(np.zeros(3), [0], t), "numpy.add.at"),
     (lambda t: np.spacing.at(t, [0]), "numpy.spacing.at"),
     (lambda t: np.put_along_axis(t, np.zeros((1, 3), int), 0.0, 0), "numpy.put_along_axis"),
     (lambda t: np.lcm.reduceat(t, [0]), "numpy.lcm.reduceat")],
)  # fmt: skip
def test_other_methods_of_ufuncs(call, name):
    with pytest.raises(TypeError, match=f"^{name} is not supported on tensors"):
        call(LASTING)


def test_every_row_of_the_table_is_a_method_of_numpys_function_of_that_name():
    """No row is forgotten: what NumPy has under the name of a row is answered by the row."""
    for name in ROWS:
        ufunc = getattr(np, name, None)
        if isinstance(ufunc, np.ufunc):
            assert name in OURS
            assert ufunc.nin == (1 if name in UNARY else 2) and (name in UNARY) != (name in BINARY)


def test_equality_with_none_and_copy_of_nan_to_num():
    for f in (fg.equal, fg.not_equal, np.equal, np.not_equal):
        with pytest.raises(TypeError, match="equal: expected arrays and numbers, got None"):
            f(fg.ones(2), None)
    x = np.array([np.nan, np.inf, 1.0])
    for args in ((), (True,), (True, 5.0), (True, 5.0, 6.0), (True, 5.0, 6.0, 7.0)):
        np.testing.assert_array_equal(fg.nan_to_num(x, *args).numpy(), np.nan_to_num(x, *args))
        np.testing.assert_array_equal(np.nan_to_num(fg.tensor(x), *args), np.nan_to_num(x, *args))
    with pytest.raises(TypeError, match="nan_to_num: expected copy=True, got 0.0; the second argument is copy"):
        fg.nan_to_num(x, 0.0)


def test_reshape_by_every_name_of_its_shape():
    x = tracked()
    for y in (np.reshape(x, (3, 2)), np.reshape(x, (3, -1)), np.reshape(x, 6)):
        assert y.requires_grad and y.size == 6
    assert np.reshape(x, **{"newshape" if NUMPY_2_0 else "shape": (3, 2)}).requires_grad


# ---- SciPy's functions --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["expit", "erf", "erfc", "log_expit"])
def test_functions_of_scipy(name):
    ours = {"expit": fg.sigmoid, "log_expit": fg.log_sigmoid}.get(name) or getattr(fg, name)
    theirs = getattr(scipy.special, name)
    same_bits(theirs(tracked()), ours(X))
    same_bits(gradients(theirs, X)[0], gradients(ours, X)[0])
    np.testing.assert_allclose(theirs(fg.tensor(X)).numpy(), theirs(X), rtol=1e-14)


def test_other_functions_of_scipy():
    for name in ("spence", "exp1", "zetac"):
        said = refusals(getattr(scipy.special, name), tracked())
        assert any(f"scipy.special.{name} is not supported on tensors" in s for s in said), said


def test_scipy_s_functions_name_ours():
    for name in ("logsumexp", "softmax", "log_softmax"):
        with pytest.raises(TypeError, match=f"Instead of SciPy's {name} use fastgrad.special.{name}$"):
            fg.grad(lambda x: getattr(scipy.special, name)(x).sum())(np.ones(3))


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
