"""``out=`` that is a tensor takes the result, in place and on the tape; and ``ufunc.reduceat``."""

import numpy as np
import pytest

import fastgrad as fg
from fastgrad._numpy.protocol import array_ufunc

X, Y = np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.2]]), np.array([0.5, 2.0, -0.7])
MASK = np.array([[True, False, True], [False, True, True]])
CALLS = {
    "add": ((2, 3), lambda x, out: np.add(x, Y, out=out)),
    "exp, masked": ((2, 3), lambda x, out: np.exp(x, out=out, where=MASK)),
    "broadcast": ((4, 2, 3), lambda x, out: np.multiply(x, Y, out=out)),
    "matmul": ((2,), lambda x, out: np.matmul(x, Y, out=out)),
    "reduce": ((3,), lambda x, out: np.add.reduce(x, out=out)),
    "accumulate": ((2, 3), lambda x, out: np.multiply.accumulate(x, axis=1, out=out)),
    "sum": ((2,), lambda x, out: np.sum(x, axis=1, out=out)),
    "mean": ((), lambda x, out: np.mean(x, out=out)),
    "median": ((3,), lambda x, out: np.median(x, axis=0, out=out)),
    "cumsum": ((6,), lambda x, out: np.cumsum(x, out=out)),
    "clip": ((2, 3), lambda x, out: np.clip(x, -0.5, 0.5, out=out)),
    "concatenate": ((4, 3), lambda x, out: np.concatenate([x, x], out=out)),
    "argmax": ((3,), lambda x, out: np.argmax(x, axis=0, out=out)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_tensor_takes_the_result(name):
    shape, call = CALLS[name]
    dtype = np.int64 if name == "argmax" else np.float64
    start = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    expected = start.copy()
    call(X, expected)
    for x in (fg.tensor(X), fg.tensor(X, requires_grad=True)):
        out = fg.tensor(start)
        assert call(x, out) is out
        np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-15)
    if name == "argmax":
        return
    assert out.requires_grad

    def loss(x):
        out = fg.zeros(shape) + start
        call(x * 2, out)
        return (out**2).sum()

    fg.check_grads(loss, (X,), order=2)
    np.testing.assert_allclose(fg.compile(fg.grad(loss))(X), fg.grad(loss)(X), rtol=1e-14)


def test_the_operand_may_be_the_result():
    x = fg.tensor(X, requires_grad=True)
    y = x * 1.0
    np.square(y, out=y)
    np.exp(y, out=y)
    np.subtract(y, 1.0, out=y)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * X * np.exp(X**2), rtol=1e-14)
    quotient, rest = fg.zeros(3), fg.zeros(3)
    assert np.divmod(fg.tensor(Y), 0.3, out=(quotient, rest)) == (quotient, rest)
    np.testing.assert_array_equal((quotient, rest), np.divmod(Y, 0.3))
    data = fg.zeros(3)
    assert np.add(Y, Y, out=data) is data
    np.testing.assert_array_equal(data, 2 * Y)


def test_what_does_not_fit_is_refused():
    x = fg.tensor(X, requires_grad=True)
    with pytest.raises(ValueError, match=r"^numpy.add: a result of shape \(2, 3\) does not go into out="):
        np.add(x, 1.0, out=fg.zeros(3))
    with pytest.raises(TypeError, match="^numpy.sum: a result of float64 does not go into out= of int64"):
        np.sum(x, out=fg.tensor(1))
    with pytest.raises(TypeError, match="^numpy.sum: the argument out= must be a tensor"):
        np.sum(x, out=np.zeros(()))
    with pytest.raises(RuntimeError, match="requires_grad=True is changed in place"):
        np.add(x, 1.0, out=x)


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.maximum, np.subtract, np.logaddexp])
def test_reduceat(ufunc):
    x = np.linspace(-1.3, 2.1, 12).reshape(3, 4)
    for indices, axis in (([0, 2], 1), ([2, 1, 1, 3], 1), ([0], 0), ([2, 0], -2), ([], 0)):
        indices = np.array(indices, int)

        def f(x, indices=indices, axis=axis):
            return ufunc.reduceat(x, indices, axis)

        np.testing.assert_allclose(f(fg.tensor(x)), f(x), rtol=1e-14)
        fg.check_grads(f, (x,), order=2)
        np.testing.assert_allclose(fg.compile(f)(x), f(x), rtol=1e-14)
    # NumPy leaks a tensor whose class refuses a method of a ufunc, so it is not asked.
    with pytest.raises(IndexError, match="expected indices from 0 to 2 for axis 0"):
        array_ufunc(ufunc, "reduceat", (fg.tensor(x), [0, 3]), {})
    with pytest.raises(TypeError, match="the indices must be known"):
        fg.compile(lambda i: array_ufunc(ufunc, "reduceat", (fg.tensor(x), i), {}))(np.array([0, 1]))
