"""Functions of symmetric matrices: values, and derivatives where eigenvalues are equal, close or far apart."""

import numpy as np
import pytest

import fastgrad as fg
from fastgrad.linalg import expm, funm_symmetric

BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]


def with_eigenvalues(*w):
    return BASIS @ np.diag(w) @ BASIS.T


MATRICES = [np.eye(3), *[with_eigenvalues(*w) for w in [
    (1, 1, 3), (1, 1 + 1e-9, 3), (1, 1 + 1e-4, 1 + 2e-4), (1, 1.05, 3), (0.5, 1, 3), (1e-10, 3e-10, 1),
]]]  # fmt: skip


def symmetric(a):
    return (a + fg.swapaxes(a, -1, -2)) / 2


@pytest.mark.parametrize("a", MATRICES)
def test_the_exponential_and_its_derivatives_are_those_of_expm(a):
    def ours(a):
        return (funm_symmetric(a, np.exp) ** 2).sum()

    def theirs(a):
        return (expm(symmetric(a)) ** 2).sum()

    for transform in (lambda f: f, fg.grad, fg.hessian, lambda f: fg.jvp(fg.grad(f), (a,), (BASIS,))[1]):
        got, expected = (transform(f) for f in (ours, theirs))
        got, expected = (np.asarray(f(a) if callable(f) else f) for f in (got, expected))
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * abs(expected).max())


@pytest.mark.parametrize("func", [np.sqrt, np.log, lambda w: 1 / w, np.ones_like])
def test_gradients_to_second_order(func):
    for a in (MATRICES[1], np.stack(MATRICES[4:6])):
        fg.check_grads(lambda a: funm_symmetric(symmetric(a), func), (a,), order=2)


def test_derivatives_of_third_order_at_equal_eigenvalues():
    def third(f):
        return fg.grad(lambda a: (fg.hessian(lambda a: f(a)[0, 1])(a) ** 2).sum())(np.eye(2) + 0.1)

    np.testing.assert_allclose(
        third(lambda a: funm_symmetric(a, np.exp)), third(lambda a: expm(symmetric(a))), rtol=1e-9, atol=1e-9
    )


def test_steep_functions_of_close_eigenvalues():
    """The integral of the derivative is not used where its nodes are too far apart."""
    a, rate = with_eigenvalues(1, 1.03, 1.9), 60.0
    got = fg.grad(lambda a: funm_symmetric(a, lambda w: np.sin(rate * w))[0, 1])(a)
    w, v = np.linalg.eigh(a)
    with np.errstate(invalid="ignore"):
        k = (np.sin(rate * w[:, None]) - np.sin(rate * w)) / (w[:, None] - w)
    np.fill_diagonal(k, rate * np.cos(rate * w))
    e = np.zeros((3, 3))
    e[0, 1] = e[1, 0] = 0.5
    np.testing.assert_allclose(got, v @ (k * (v.T @ e @ v)) @ v.T, rtol=1e-9, atol=1e-9)


def test_roots_and_powers_are_inverted():
    a = with_eigenvalues(1, 1, 3)
    root = funm_symmetric(a, np.sqrt)
    np.testing.assert_allclose(root @ root, a, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(funm_symmetric(funm_symmetric(a, np.log), np.exp), a, rtol=1e-13, atol=1e-13)


def test_an_exponent_is_differentiated_through_the_logarithm():
    a = with_eigenvalues(1, 2, 2)
    power = fg.grad(lambda p: funm_symmetric(p * funm_symmetric(a, np.log), np.exp)[0, 1])(0.5)
    w, v = np.linalg.eigh(a)
    np.testing.assert_allclose(power, (v @ np.diag(np.sqrt(w) * np.log(w)) @ v.T)[0, 1], rtol=1e-12)


def test_it_compiles_and_maps_and_reads_one_triangle():
    a = np.stack(MATRICES[:3])

    def f(a):
        return (funm_symmetric(a, np.sqrt, UPLO="U") * BASIS).sum()

    g = fg.grad(f)
    expected = np.stack([g(x) for x in a])
    np.testing.assert_allclose(fg.vmap(g)(a), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fg.compile(g)(a), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(funm_symmetric(np.triu(a), np.sqrt, UPLO="U"), funm_symmetric(a, np.sqrt, UPLO="U"))
    assert funm_symmetric(np.eye(2, dtype=np.float32), np.exp).dtype == np.float32
    assert funm_symmetric(np.eye(2, dtype=int), np.exp).dtype == np.float64
    assert funm_symmetric(np.zeros((2, 0, 0)), np.exp).shape == (2, 0, 0)


def test_errors():
    with pytest.raises(np.linalg.LinAlgError, match="funm_symmetric: expected a square"):
        funm_symmetric(np.ones((2, 3)), np.exp)
    with pytest.raises(ValueError, match="UPLO"):
        funm_symmetric(np.eye(2), np.exp, UPLO="X")
    with pytest.raises(TypeError, match="none of its arguments"):
        fg.grad(lambda p: funm_symmetric(p * np.eye(2), lambda w: w**p).sum())(2.0)
    with pytest.raises(TypeError, match="func"):
        funm_symmetric(np.eye(2), 2.0)
    with pytest.raises(ValueError, match="func"):
        funm_symmetric(np.eye(2), lambda w: w.sum())
