"""Derivatives of decompositions, and of what is made of them, against differences and under every transform."""

import numpy as np
import pytest
from _decompositions import (
    FOUR,
    ORDERS,
    STACK,
    TALL,
    WIDE,
    L,
    drawn,
    eig_parts,
    eigh_parts,
    packed,
    qr_parts,
    svd_parts,
    symmetric,
)

import fastgrad as fg

LinAlgError = np.linalg.LinAlgError
TS = drawn((4, 2, 2), seed=5)
FUNCTIONS = {
    "eigh": (eigh_parts, FOUR),
    "eigh of a stack": (lambda x: L.eigh(symmetric(x), "U")[1] ** 2, STACK),
    "eigvalsh": (lambda x: L.eigvalsh(symmetric(x)), FOUR),
    "svd, tall": (svd_parts, TALL),
    "svd, wide": (svd_parts, WIDE),
    "svd, full, tall": (lambda x: svd_parts(x, True), TALL),
    "svd, full, wide": (lambda x: svd_parts(x, True), WIDE),
    "svd of a stack": (svd_parts, STACK),
    "svd, hermitian": (lambda x: L.svd(x + x.T, hermitian=True).U ** 2, FOUR),
    "svdvals": (L.svdvals, TALL),
    "qr, tall": (qr_parts, TALL),
    "qr, wide": (qr_parts, WIDE),
    "qr, complete": (lambda x: qr_parts(x, "complete"), TALL),
    "qr of a stack": (lambda x: L.qr(x, "r"), STACK),
    "eig": (eig_parts, STACK[0]),
    "eigvals": (lambda x: L.eigvals(x @ x.T + np.diag([1.0, 3, 5])), STACK[0]),
    "expm": (L.expm, STACK),
    "expm, squared": (lambda x: L.expm(6 * x) * 1e-4, STACK[0]),
    "pinv, tall": (L.pinv, TALL),
    "pinv, wide": (L.pinv, WIDE),
    "pinv, equal singular values": (L.pinv, np.eye(3)),
    "pinv, lower rank": (lambda x: L.pinv(x @ x.T, rtol=1e-10), TALL),
    "lstsq": (lambda x: packed(*[L.lstsq(x, TALL[:, :2] + 1)[i] for i in (0, 1, 3)]), TALL),
    "lstsq, right-hand side": (lambda x: packed(*[L.lstsq(TALL + 1, x)[i] for i in (0, 1)]), TALL),
    "norms": (lambda x: packed(*[L.norm(x, ord) for ord in ORDERS]), TALL),
    "norms of a stack": (lambda x: packed(*[L.norm(x, ord, (2, 0), True) for ord in ORDERS]), STACK),
    "cond": (lambda x: packed(*[L.cond(x, p) for p in (None, -2, 1, "fro", "nuc")]), FOUR),
    "matrix_power": (lambda x: packed(L.matrix_power(x, 5), L.matrix_power(x + 3 * np.eye(4), -3) * 100), FOUR / 2),
    "multi_dot": (lambda x: L.multi_dot([x.T, x, WIDE.T, WIDE[:, 0]]), WIDE),
    "kron": (lambda x: fg.kron(x, x * x), TALL),
    "cross": (lambda x: L.cross(x, x[::-1] ** 2), STACK),
    "tensorsolve": (lambda x: L.tensorsolve(TS, x), drawn((4,), seed=6)),
    "tensorinv": (lambda x: L.tensorinv(x, 1), TS),
    "vecdot": (lambda x: L.vecdot(x, x[::-1], axis=1), STACK),
}


def weights(y):
    return np.cos(np.arange(1.0, y.size + 1)).reshape(y.shape)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name):
    """To second order against differences; in forward mode, compiled, and mapped over a batch the same."""
    f, x = FUNCTIONS[name]
    fg.check_grads(f, (x,), order=2)
    y = np.asarray(f(x))
    gradient = fg.grad(lambda z: fg.sum(f(z) * weights(y)))
    g = gradient(x)
    np.testing.assert_allclose(fg.compile(gradient)(x), g, rtol=1e-9, atol=1e-11 * np.abs(g).max())
    np.testing.assert_allclose(fg.compile(f)(x), y, rtol=1e-10, atol=1e-12)
    tangent = np.sin(np.arange(x.size)).reshape(x.shape)
    along = np.asarray(fg.jvp(f, (x,), (tangent,))[1])
    np.testing.assert_allclose(np.sum(along * weights(y)), np.sum(g * tangent), rtol=1e-8)
    batch = np.stack([x, x * 1.25])
    np.testing.assert_allclose(fg.vmap(f)(batch), np.stack([f(z) for z in batch]), rtol=1e-8, atol=1e-10)
    expected = np.stack([gradient(z) for z in batch])
    np.testing.assert_allclose(fg.vmap(gradient)(batch), expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["eigh", "svd, full, tall", "qr, complete", "eig", "expm", "pinv, tall"])
def test_gradients_in_float32_and_without_lapack(name, lapack):
    f, x = FUNCTIONS[name]
    g = fg.grad(lambda z: fg.sum(f(z) ** 2))
    expected = g(x)
    got = g(x.astype(np.float32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())
    fg.check_grads(f, (x,))


def test_in_scan_and_in_a_loop():
    def step(a, _):
        w, v = L.eigh(symmetric(a))
        return L.expm(-a @ a / 20) + v * w @ v.T / 10, L.svdvals(a)

    def f(a):
        end, ys = fg.scan(step, a, length=3)
        return fg.sum(end) + fg.sum(ys * ys)

    fg.check_grads(f, (FOUR,))
    np.testing.assert_allclose(fg.compile(fg.grad(f))(FOUR), fg.grad(f)(FOUR), rtol=1e-9)


def test_sparse_jacobians_of_stacks_are_blocks():
    pytest.importorskip("scipy.sparse")
    for f in (L.eigvalsh, L.expm, L.svdvals, L.pinv):
        x = symmetric(STACK) + 4 * np.eye(3)
        dense = fg.jacobian(f)(x).reshape(-1, x.size)
        found = fg.sparse.jacobian(f)(x)
        np.testing.assert_allclose(found.toarray().reshape(dense.shape), dense, atol=1e-12)


SUMS = {
    "eigh": lambda x: L.eigh(x)[1] ** 2, "eigvalsh": L.eigvalsh, "eig": lambda x: L.eig(x)[1] ** 2, "expm": L.expm,
    "svd": svd_parts, "svd, full": lambda x: svd_parts(x, True), "svdvals": L.svdvals, "qr": qr_parts,
    "qr, complete": lambda x: qr_parts(x, "complete"), "pinv": L.pinv, "norm": lambda x: L.norm(x, 2, (-2, -1)),
    "lstsq": lambda x: L.lstsq(x, np.ones(x.shape[-2]))[0],
}  # fmt: skip


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (0, 2, 2), (0, 3), (3, 0), (2, 0, 3), (1, 3), (3, 1), (2, 3, 0)])
def test_derivatives_without_elements_and_of_single_ones(shape):
    for name, function in SUMS.items():
        if name in ("eigh", "eigvalsh", "eig", "expm") and shape[-1] != shape[-2]:
            continue
        f = lambda x, function=function: fg.sum(function(x))
        x = np.ones(shape)
        g = fg.grad(f)(x)
        assert g.shape == shape and np.isfinite(g).all(), name
        np.testing.assert_allclose(fg.compile(fg.grad(f))(x), g, atol=1e-12, err_msg=name)
        assert fg.hessian(f)(x).shape == shape + shape, name
        along = fg.jvp(f, (x,), (x,))[1]
        np.testing.assert_allclose(along, np.sum(g * x), atol=1e-12, err_msg=name)
        np.testing.assert_allclose(fg.vmap(f)(np.stack([x, x])), [f(x).item()] * 2, atol=1e-12, err_msg=name)


def test_the_gradient_of_dependent_columns_is_an_error():
    with pytest.raises(LinAlgError, match="singular"):
        fg.grad(lambda x: fg.sum(L.qr(x).Q))(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
