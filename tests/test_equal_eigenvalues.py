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


def test_gradients_are_finite_where_formulas_divide_by_0():
    for x in (np.eye(3), np.zeros((3, 3)), np.ones((3, 3))):
        for f in (eigh_parts, svd_parts, lambda a: svd_parts(a, True)):
            g = fg.grad(lambda a, f=f: fg.sum(f(a)))
            assert np.isfinite(g(x)).all()
            assert np.isfinite(fg.hessian(lambda a, f=f: fg.sum(f(a)))(x)).all()
