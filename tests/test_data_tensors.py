"""Tensors that are only data, such as gradients: what fastgrad lacks is left to NumPy there, and nowhere else."""

import io

import numpy as np
import pytest
import scipy.special

import fastgrad as fg

DATA = np.array([[3.0, 1.0, 2.0], [0.5, -1.0, 4.0]])
ON_DATA = [
    lambda x: np.allclose(x, DATA), lambda x: np.array_equal(x, DATA), lambda x: np.array_equal(DATA, x),
    lambda x: np.argsort(x, axis=1), lambda x: np.sort(x), lambda x: np.median(x, axis=0), lambda x: np.unique(x),
    lambda x: np.percentile(x, [10, 90]), lambda x: np.histogram(x, 3), lambda x: np.quantile(x, 0.3, axis=-1),
    lambda x: np.isclose(x, 1.0), lambda x: np.fft.rfft(x), lambda x: np.linalg.svd(x)[1],
    lambda x: np.round(np.cov(x), 12), lambda x: np.pad(x, 1), lambda x: np.array2string(x),
    lambda x: np.savez(io.BytesIO(), a=x),
    lambda x: np.meshgrid(x[0], x[1]), lambda x: np.block([[x, x]]), lambda x: np.searchsorted(np.sort(x[0]), x[1]),
    lambda x: np.sum(x, where=DATA > 0), lambda x: np.mean(x, dtype=np.float32), lambda x: np.max(x, initial=9.0),
    lambda x: np.average(x, weights=x * x), lambda x: np.argwhere(x > 1), lambda x: np.nonzero(x),
    lambda x: np.cumprod(x), lambda x: np.nextafter(x, 2.0), lambda x: np.add.reduceat(x, [0, 1]),
    lambda x: np.multiply.accumulate(x),
    lambda x: np.divmod(x, 2.0, where=DATA > 0, out=(np.zeros((2, 3)), np.zeros((2, 3)))),
    lambda x: np.isin(x, DATA),
    lambda x: np.apply_along_axis(np.sort, 0, x), lambda x: np.where(x), lambda x: scipy.special.spence(x),
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


@pytest.mark.parametrize("f", ON_DATA, ids=lambda f: ".".join(f.__code__.co_names[:2]))
def test_numpy_does_with_data_what_it_does_with_ndarrays(f):
    expected = f(DATA)
    for x in (fg.tensor(DATA), fg.tensor(DATA, requires_grad=True).detach()):
        _assert_equal(f(x), expected)
    leaf = fg.tensor(DATA, requires_grad=True)
    (leaf * fg.tensor(DATA)).sum().backward()
    _assert_equal(f(leaf.grad), expected)


NOT_ON_TRACKED = (
    "np.array2string(x) np.save(io.BytesIO(),x) np.spacing(x) np.fft.rfft(x) np.roots(x[0]) "
    "scipy.special.spence(x) np.linalg.inv([[x[0,0]]])"
).split()


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
    with pytest.raises(TypeError, match="not supported on tensors"):
        np.spacing.at(x.grad, [0])
    with pytest.raises(TypeError, match="not supported on tensors"):
        np.copyto(x.grad, DATA)
