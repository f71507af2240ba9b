"""Derivatives where eigenvalues or singular values are equal: exact where the result is smooth though its parts are
not, and finite elsewhere."""

import numpy as np
import pytest
from _decompositions import STACK, TALL, L, eigh_parts, svd_parts, symmetric

import fastgrad as fg

DEGENERATE = np.diag([1.0, 1.0, 3.0])
TURNED = np.linalg.qr(STACK[0])[0] @ DEGENERATE @ np.linalg.qr(STACK[0])[0].T


@pytest.mark.parametrize("x", [np.eye(3), DEGENERATE, TURNED, np.zeros((3, 3))])
def test_functions_of_equal_eigenvalues_have_exact_gradients(x):
    fg.check_grads(lambda a: fg.sum(fg.exp(L.eigvalsh(symmetric(a)))), (x,))
    fg.check_grads(lambda a: fg.sum(L.eigh(symmetric(a)).eigenvalues ** 3), (x,))
    fg.check_grads(lambda a: fg.sum(L.svdvals(a + 2 * np.eye(3)) ** 2), (x,))
    fg.check_grads(lambda a: L.norm(a + 2 * np.eye(3), "nuc"), (x,), order=2)


def test_a_projection_on_equal_eigenvalues_has_an_exact_gradient():
    def projection(a):
        v = L.eigh(symmetric(a)).eigenvectors[:, :2]
        return v @ v.T

    fg.check_grads(projection, (DEGENERATE,))
    fg.check_grads(projection, (TURNED,))


def test_a_polar_factor_has_an_exact_gradient_where_singular_values_are_equal():
    def polar(a):
        u, _, vh = L.svd(a, full_matrices=False)
        return u @ vh

    for x in (np.eye(3), np.linalg.qr(TALL)[0], TURNED):
        fg.check_grads(polar, (x,))


def test_functions_of_equal_singular_values_lack_what_mixes_their_vectors_but_by_a_function_of_the_square():
    """As the documentation says; the part that does not mix them is there."""

    def again(a):
        u, s, vh = L.svd(a, full_matrices=False)
        return (u * s) @ vh

    x = np.eye(3, 2)
    whole = np.eye(6).reshape(3, 2, 3, 2)
    found = fg.jacobian(again)(x)
    turned = np.zeros_like(whole)  # the antisymmetric part, the diagonal, and what leaves the space
    for i, j in ((0, 1), (1, 0)):
        turned[i, j, i, j], turned[i, j, j, i] = 0.5, -0.5
    turned[0, 0, 0, 0] = turned[1, 1, 1, 1] = turned[2, 0, 2, 0] = turned[2, 1, 2, 1] = 1.0
    np.testing.assert_allclose(found, turned, atol=1e-14)

    def of_values(f):
        return lambda x: x @ L.funm_symmetric(x.T @ x, lambda w: f(fg.sqrt(w)) / fg.sqrt(w))

    np.testing.assert_allclose(fg.jacobian(of_values(lambda s: s))(x), whole, atol=1e-13)
    fg.check_grads(of_values(fg.log1p), (x,), order=2)
    fg.check_grads(of_values(fg.log1p), (np.linalg.qr(TALL)[0],), order=2)


def test_functions_that_depend_on_the_basis_of_equal_eigenvalues_get_the_derivative_without_turns():
    g = fg.grad(lambda a: L.eigh(symmetric(a)).eigenvectors[0, 0])(np.eye(3))
    np.testing.assert_array_equal(g, np.zeros((3, 3)))
    v = np.linalg.eigh(2 * DEGENERATE)[1]
    g = fg.grad(lambda a: fg.sum(L.eigh(symmetric(a)).eigenvectors[:, 0] ** 2 * np.arange(3)))(DEGENERATE)
    assert np.isfinite(g).all()
    np.testing.assert_allclose(v[:, :2].T @ g @ v[:, :2], 0, atol=1e-14)


def test_gradients_are_finite_where_formulas_divide_by_0():
    for x in (np.eye(3), np.zeros((3, 3)), np.ones((3, 3))):
        for f in (eigh_parts, svd_parts, lambda a: svd_parts(a, True)):
            g = fg.grad(lambda a, f=f: fg.sum(f(a)))
            assert np.isfinite(g(x)).all()
            assert np.isfinite(fg.hessian(lambda a, f=f: fg.sum(f(a)))(x)).all()
