"""Decompositions of matrices, and what is made of them: values against NumPy and SciPy and by reconstruction, gradients
against differences, where the result is smooth though its parts are not, errors, and the core without LAPACK."""

import contextlib
import inspect

import numpy as np
import pytest
import scipy.linalg
from _samples import NUMPY_2_0
from _threads import others_run_during

import fastgrad as fg
from fastgrad import _lapack

L = fg.linalg
LinAlgError = np.linalg.LinAlgError
DTYPES = [np.float32, np.float64]
SHAPES = [(1, 1), (2, 2), (4, 4), (5, 3), (3, 5), (2, 4, 4), (2, 1, 5, 3), (0, 3, 3), (70, 70), (60, 40)]
SQUARE = [s for s in SHAPES if s[-1] == s[-2]]
TALL, WIDE, FOUR = (np.random.default_rng(7).normal(size=s) for s in ((5, 3), (3, 5), (4, 4)))
STACK = np.random.default_rng(8).normal(size=(2, 3, 3))


def drawn(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def t(x):
    return np.swapaxes(x, -1, -2)


def symmetric(x):
    return x + t(x)


def close(got, expected, dtype=np.float64, scale=1.0):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape and got.dtype == dtype
    bound = 2000 * np.finfo(dtype).eps * max(1.0, scale, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


def orthonormal(q, dtype):
    q = np.asarray(q)
    close(
        t(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*q.shape[:-2], q.shape[-1], q.shape[-1])).astype(dtype), dtype
    )


@pytest.fixture(params=["LAPACK", "own"])
def lapack(request):
    """With LAPACK and without it."""
    if request.param == "own":
        _lapack.use(None)
    elif _lapack.IN_USE is None:
        pytest.skip("NumPy's LAPACK was not found")
    yield request.param
    _lapack.use(_lapack.IN_USE)


# ---- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SQUARE)
def test_eigh(shape, dtype, lapack):
    x = symmetric(drawn(shape, dtype))
    w, v = L.eigh(x)
    expected = np.linalg.eigvalsh(x.astype(np.float64)).astype(dtype)
    close(w, expected, dtype)
    close(L.eigvalsh(x), expected, dtype)
    close(np.asarray(v) * np.asarray(w)[..., None, :] @ t(np.asarray(v)), x, dtype)
    orthonormal(v, dtype)
    close(L.eigh(np.tril(x)).eigenvalues, expected, dtype)
    close(L.eigh(np.triu(x), "u").eigenvalues, expected, dtype)
    close(L.eigvalsh(np.triu(x), UPLO="U"), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_svd(shape, dtype, lapack):
    x = drawn(shape, dtype)
    k = min(shape[-2:])
    expected = np.linalg.svd(x.astype(np.float64), compute_uv=False).astype(dtype)
    close(L.svdvals(x), expected, dtype)
    close(L.svd(x, compute_uv=False), expected, dtype)
    for full in (False, True):
        u, s, vh = map(np.asarray, L.svd(x, full_matrices=full))
        theirs = np.linalg.svd(x, full_matrices=full)
        assert u.shape == theirs.U.shape and vh.shape == theirs.Vh.shape
        close(s, expected, dtype)
        close(u[..., :k] * s[..., None, :] @ vh[..., :k, :], x, dtype)
        orthonormal(u, dtype)
        orthonormal(t(vh), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_qr(shape, dtype, lapack):
    x = drawn(shape, dtype)
    for mode in ("reduced", "complete"):
        q, r = L.qr(x, mode)
        theirs = np.linalg.qr(x, mode)
        close(q, theirs.Q, dtype)
        close(r, theirs.R, dtype)
        close(np.asarray(q) @ np.asarray(r), x, dtype)
        orthonormal(q, dtype)
    close(L.qr(x, "r"), np.linalg.qr(x, "r"), dtype)


def with_real_spectrum(shape, dtype=np.float64):
    x = drawn(shape) + 3 * np.eye(shape[-1])
    return (x @ (np.arange(1.0, shape[-1] + 1)[:, None] * np.linalg.inv(x))).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 5), (2, 3, 3), (0, 2, 2)])
def test_eig(shape, dtype, lapack):
    x = with_real_spectrum(shape, dtype)
    w, v = map(np.asarray, L.eig(x))
    expected = np.broadcast_to(np.arange(1, shape[-1] + 1), shape[:-1]).astype(dtype)
    close(np.sort(w, -1), expected, dtype, 20)
    close(np.sort(np.asarray(L.eigvals(x)), -1), expected, dtype, 20)
    close(x @ v, v * w[..., None, :], dtype, 20)
    close(np.sum(v * v, -2), np.ones(shape[:-1], dtype), dtype)


def test_eigenvalues_of_a_defective_matrix(lapack):
    np.testing.assert_array_equal(L.eigvals(np.triu(np.ones((4, 4)))), 1)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 13])
def test_matrices_of_low_rank_and_of_any_size_of_numbers(n, lapack):
    one = np.ones((n, n))
    for x in (
        one,
        0 * one,
        np.eye(n),
        1e200 * one,
        1e-200 * one,
        np.outer(np.arange(n), np.arange(n)),
        np.tri(n, k=-1),
    ):
        size = max(1e-300, np.abs(x).max())
        u, s, vh = map(np.asarray, L.svd(x))
        np.testing.assert_allclose(u * s @ vh / size, x / size, atol=1e-13 * n)
        orthonormal(u, np.float64)
        orthonormal(vh.T, np.float64)
        w, v = map(np.asarray, L.eigh(x))
        lower = np.tril(x) + np.tril(x, -1).T
        np.testing.assert_allclose(v * w @ v.T / size, lower / size, atol=1e-13 * n)
        orthonormal(v, np.float64)
        q, r = map(np.asarray, L.qr(np.vstack([x, x])))
        np.testing.assert_allclose(q @ r / size, np.vstack([x, x]) / size, atol=1e-13 * n)
        orthonormal(q, np.float64)


def test_vectors_have_the_signs_of_numpys():
    if _lapack.IN_USE is None:
        pytest.skip("NumPy's LAPACK was not found")
    for n in (2, 5, 20):
        x = drawn((n, n + 2))
        np.testing.assert_array_equal(L.eigh(symmetric(x[:, :n])).eigenvectors, np.linalg.eigh(symmetric(x[:, :n]))[1])
        np.testing.assert_allclose(L.svd(x).U, np.linalg.svd(x).U, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", [0.01, 0.2, 0.9, 2, 5, 40, 700])
def test_expm(norm, dtype, lapack):
    x = drawn((3, 6, 6), np.float64)
    x = (x - t(x) if norm > 40 else x) / np.abs(x).sum(-2).max() * norm
    close(L.expm(x.astype(dtype)), scipy.linalg.expm(x).astype(dtype), dtype, 1 + norm)


def test_expm_of_special_matrices():
    np.testing.assert_array_equal(L.expm(np.zeros((2, 3, 3))), np.broadcast_to(np.eye(3), (2, 3, 3)))
    np.testing.assert_array_equal(L.expm(np.zeros((0, 0))), np.zeros((0, 0)))
    close(L.expm([[2.0]]), np.exp([[2.0]]))
    np.testing.assert_allclose(L.expm([[-1e4, 0], [0, 1.0]]), [[0, 0], [0, np.e]], rtol=1e-10)
    assert np.isnan(np.asarray(L.expm([[np.nan, 0], [0, 1]]))).all()
    assert np.isnan(np.asarray(L.expm(np.array([[np.inf, 0], [0, 1]], np.float32)))).all()
    fg.check_grads(L.expm, (np.zeros((2, 2)),), order=2)
    assert fg.grad(lambda x: L.expm(x).sum())(np.zeros((0, 0))).shape == (0, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_pinv(shape, dtype):
    x = drawn(shape, dtype)
    close(L.pinv(x), np.linalg.pinv(x), dtype, 50)


def test_pinv_of_lower_rank_and_its_arguments():
    x = TALL @ WIDE
    close(L.pinv(x, 1e-10), np.linalg.pinv(x, 1e-10))
    close(L.pinv(x, rtol=None), np.linalg.pinv(x, rtol=None))
    close(L.pinv(STACK, [0.5, 1e-3]), np.linalg.pinv(STACK, np.array([0.5, 1e-3])))
    close(L.pinv(symmetric(FOUR), hermitian=True), np.linalg.pinv(symmetric(FOUR), hermitian=True))
    close(L.pinv(np.tril(symmetric(FOUR)), hermitian=True), np.linalg.pinv(symmetric(FOUR)))
    with pytest.raises(ValueError, match="^pinv: expected rcond or rtol, got both$"):
        L.pinv(x, 1e-3, rtol=1e-3)
    assert L.pinv(np.zeros((2, 0, 3))).shape == (2, 3, 0)


@pytest.mark.parametrize(("a", "k"), [(TALL, None), (TALL, 2), (WIDE, None), (WIDE, 1), (FOUR, 3), (TALL @ WIDE, 2)])
def test_lstsq(a, k):
    b = drawn((len(a),) if k is None else (len(a), k), seed=3)
    got, expected = L.lstsq(a, b), np.linalg.lstsq(a, b)
    for x, theirs in zip(got, expected):
        assert np.shape(x) == np.shape(theirs)
        np.testing.assert_allclose(x, theirs, atol=1e-12, rtol=1e-9)
    assert got[2].dtype == np.int64


def test_lstsq_of_stacks_and_without_elements():
    a, b = drawn((4, 5, 3)), drawn((4, 5, 2), seed=1)
    x, residuals, rank, s = L.lstsq(a, b)
    each = [np.linalg.lstsq(i, j) for i, j in zip(a, b)]
    for got, expected in zip((x, residuals, rank, s), zip(*each)):
        np.testing.assert_allclose(got, np.stack(expected), atol=1e-12)
    for shape in ((0, 3), (3, 0)):
        got, theirs = L.lstsq(np.zeros(shape), np.ones(shape[0])), np.linalg.lstsq(np.zeros(shape), np.ones(shape[0]))
        assert [np.shape(x) for x in got] == [np.shape(x) for x in theirs]
        np.testing.assert_array_equal(got[0], theirs[0])


def test_lstsq_compiled():
    b = drawn((5,), seed=3)
    for a in (TALL, TALL[:, [0, 1, 0]]):
        x, residuals, rank, s = fg.compile(L.lstsq)(a, b)
        np.testing.assert_allclose(x, L.lstsq(a, b)[0], atol=1e-12)
        np.testing.assert_allclose(residuals, np.sum((b - a @ np.asarray(x)) ** 2, keepdims=True))
        assert int(rank) == np.linalg.matrix_rank(a)
    assert fg.compile(L.lstsq)(WIDE, b[:3])[1].shape == (0,)


def test_matrix_rank():
    for x in (TALL, WIDE, TALL @ WIDE, np.zeros((3, 3)), STACK, np.zeros((2, 0, 3)), np.zeros(3), np.ones(2)):
        if NUMPY_2_0 and not x.size:
            continue  # an error of NumPy 2.0's
        got, expected = L.matrix_rank(x), np.linalg.matrix_rank(x)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(L.matrix_rank(STACK, tol=1.5), np.linalg.matrix_rank(STACK, tol=1.5))
    np.testing.assert_array_equal(L.matrix_rank(STACK, [0.1, 2.0]), np.linalg.matrix_rank(STACK, [0.1, 2.0]))
    np.testing.assert_array_equal(L.matrix_rank(STACK, rtol=0.3), np.linalg.matrix_rank(STACK, rtol=0.3))
    assert int(L.matrix_rank(symmetric(FOUR), hermitian=True)) == 4
    assert int(fg.compile(L.matrix_rank)(TALL @ WIDE)) == 3
    with pytest.raises(ValueError, match="^matrix_rank: expected tol or rtol, got both$"):
        L.matrix_rank(TALL, 1.0, rtol=1.0)


ORDERS = ["fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ord", [None, *ORDERS])
def test_norms_of_matrices(ord, dtype):
    for x in (TALL, WIDE, FOUR):
        x = x.astype(dtype)
        close(L.norm(x, ord), np.linalg.norm(x, ord), dtype)
        close(L.norm(x, ord, keepdims=True), np.linalg.norm(x, ord, keepdims=True), dtype)
        close(L.norm(x, ord, (1, 0)), np.linalg.norm(x, ord, (1, 0)), dtype)
    x = drawn((2, 3, 4), dtype)
    for axis in ((0, 1), (2, 0), (-2, -1)):
        for keepdims in (False, True):
            close(L.norm(x, ord, axis, keepdims), np.linalg.norm(x, ord, axis, keepdims), dtype)
    if ord is not None:
        close(L.matrix_norm(x, ord=ord), np.linalg.matrix_norm(x, ord=ord), dtype)


@pytest.mark.skipif(NUMPY_2_0, reason="norms of no elements are errors of NumPy 2.0's")
@pytest.mark.parametrize("ord", ["fro", "nuc", 1, 2, np.inf])
def test_norms_without_elements_are_0(ord):
    for shape in ((0, 3), (3, 0), (0, 0)):
        np.testing.assert_array_equal(L.norm(np.zeros(shape), ord), np.linalg.norm(np.zeros(shape), ord))


def test_vector_norms():
    x = drawn((2, 3, 4))
    for ord in (2, 1, 3, 0.5, np.inf, -np.inf, 0):
        for axis in (None, 1, (0, 2), (2, 1)):
            for keepdims in (False, True):
                expected = np.linalg.vector_norm(x, ord=ord, axis=axis, keepdims=keepdims)
                close(L.vector_norm(x, ord=ord, axis=axis, keepdims=keepdims), expected, scale=100)


@pytest.mark.parametrize("p", [None, *ORDERS])
def test_cond(p):
    for x in (FOUR, STACK):
        np.testing.assert_allclose(L.cond(x, p), np.linalg.cond(x, p), rtol=1e-9)
    singular = np.array([[1.0, 0.0], [0.0, 0.0]])
    if p == "nuc":  # the singular values of an inverse that is not finite do not converge, nor do NumPy's
        with pytest.raises(LinAlgError):
            L.cond(singular, p)
        return
    np.testing.assert_array_equal(L.cond(singular, p), 0 if p == -2 else np.inf)
    if p in (None, 2, -2):
        np.testing.assert_allclose(L.cond(TALL, p), np.linalg.cond(TALL, p), rtol=1e-9)
        np.testing.assert_array_equal(L.cond(np.zeros((2, 2)), p), np.inf)
    else:
        assert np.isnan(L.cond(np.array([[np.nan, 1], [1, 1]]), p).item())


def test_products_and_powers():
    for n in (-3, -1, 0, 1, 2, 3, 5, 10):
        np.testing.assert_allclose(L.matrix_power(FOUR, n), np.linalg.matrix_power(FOUR, n), rtol=1e-9)
    whole = np.arange(4).reshape(2, 2)
    got = L.matrix_power(whole, 3)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, np.linalg.matrix_power(whole, 3))
    chain = [drawn(s) for s in ((2, 30), (30, 3), (3, 20), (20, 4), (4, 1))]
    close(L.multi_dot(chain), np.linalg.multi_dot(chain))
    close(L.multi_dot([chain[0][0], *chain[1:]]), np.linalg.multi_dot([chain[0][0], *chain[1:]]))
    close(L.multi_dot([chain[0][0], *chain[1:4], chain[4][:, 0]]), np.linalg.multi_dot(chain)[0, 0])
    close(L.multi_dot(chain[:2]), chain[0] @ chain[1])
    assert L.multi_dot([np.eye(2)] * 200).shape == (2, 2)


@pytest.mark.parametrize(
    ("a", "b"),
    [((2,), (3,)), ((2, 3), (4,)), ((2,), (2, 2, 2)), ((), (3,)), ((), ()), ((0, 2), (3, 1)), ((2, 3), (3, 2))],
)
def test_kron(a, b):
    a, b = drawn(a), drawn(b, seed=1)
    close(fg.kron(a, b), np.kron(a, b))


def test_cross_vecdot_outer_trace_and_diagonal():
    a, b = drawn((4, 3)), drawn((2, 1, 3), seed=1)
    close(L.cross(a, b), np.linalg.cross(a, b))
    close(fg.cross(a.T, b, 0, 2, 1), np.cross(a.T, b, 0, 2, 1))
    close(fg.cross(a.T, a.T, axis=0), np.zeros((3, 4)))
    close(L.vecdot(a, b), np.linalg.vecdot(a, b))
    close(L.vecdot(a, a, axis=0), np.linalg.vecdot(a, a, axis=0))
    close(L.outer(a[0], a[1]), np.linalg.outer(a[0], a[1]))
    close(L.matrix_transpose(b), np.linalg.matrix_transpose(b))
    for offset in (-1, 0, 2):
        close(L.trace(STACK, offset=offset), np.linalg.trace(STACK, offset=offset))
        close(L.diagonal(STACK, offset=offset), np.linalg.diagonal(STACK, offset=offset))
    assert L.trace(STACK, dtype=np.float32).dtype == np.float32


def test_equations_of_tensors():
    a = drawn((6, 4, 2, 3, 4))
    b = drawn((6, 4), seed=2)
    close(L.tensorsolve(a, b), np.linalg.tensorsolve(a, b), scale=100)
    moved = np.moveaxis(a, (2, 3), (0, 1))
    close(L.tensorsolve(moved, b, (0, 1)), np.linalg.tensorsolve(moved, b, (0, 1)), scale=100)
    x = drawn((4, 6, 8, 3))
    close(L.tensorinv(x), np.linalg.tensorinv(x), scale=100)
    close(L.tensorinv(drawn((24, 8, 3)), ind=1), np.linalg.tensorinv(drawn((24, 8, 3)), ind=1), scale=100)


def test_integers_are_taken_as_float64():
    x = np.array([[2, 1], [1, 2]])
    for f in (L.eigvalsh, L.svdvals, L.expm, L.pinv, L.eigvals, L.cond, L.norm, lambda a: L.qr(a).R):
        assert f(x).dtype == np.float64


# ---- derivatives -----------------------------------------------------------------------------------------------------
def packed(*parts):
    return fg.concatenate([x.ravel() for x in parts])


def svd_parts(x, full=False):
    """What does not depend on signs, nor on the basis of the columns beyond k."""
    u, s, vh = L.svd(x, full_matrices=full)
    k = s.shape[-1]
    parts = [u[..., :k] ** 2, s, vh[..., :k, :] ** 2, u[..., :k] @ vh[..., :k, :]]
    if u.shape[-1] > k:
        parts.append(u[..., k:] @ t(u[..., k:]))
    if vh.shape[-2] > k:
        parts.append(t(vh[..., k:, :]) @ vh[..., k:, :])
    return packed(*parts)


def qr_parts(x, mode="reduced"):
    q, r = L.qr(x, mode)
    k = min(x.shape[-2:])
    return packed(q[..., :k], r, q[..., k:] @ t(q[..., k:])) if mode == "complete" else packed(q, r)


def eig_parts(x):
    base = x * 0.3 + 2 * np.eye(3)
    w, v = L.eig(L.solve(base, np.diag([1.0, 2.0, 4.0]) @ base))
    return packed(w, v * v, v @ (w[..., None] * t(v)))


def eigh_parts(x):
    w, v = L.eigh(symmetric(x))
    return packed(w * w, v * v, v * fg.exp(w)[..., None, :] @ t(v))


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


# ---- equal eigenvalues and singular values ---------------------------------------------------------------------------
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


# ---- everywhere ------------------------------------------------------------------------------------------------------
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


def as_arrays(x):
    if isinstance(x, (list, tuple)):
        return [as_arrays(y) for y in x]
    return x.detach().numpy() if isinstance(x, fg.Tensor) else x


def test_numpys_functions_and_named_tuples():
    x = fg.tensor(TALL, requires_grad=True)
    s = fg.tensor(symmetric(FOUR), requires_grad=True)
    calls = {
        "eigh": (s,), "eigvalsh": (s,), "eig": (s,), "eigvals": (s,), "svd": (x,), "svdvals": (x,), "qr": (x,),
        "pinv": (x,), "matrix_norm": (x,), "vector_norm": (x,), "cond": (x,), "trace": (s,), "diagonal": (s,),
        "matrix_transpose": (x,), "outer": (x[0], x[1]), "cross": (x, x), "vecdot": (x, x), "tensordot": (x, x),
        "matmul": (s, s), "norm": (x, "nuc"), "matrix_power": (s, 3), "multi_dot": ([s, s, s],), "lstsq": (x, x),
        "tensorinv": (s.reshape((2, 2, 4)),), "tensorsolve": (s, s[0]), "matrix_rank": (x,),
    }  # fmt: skip
    for name, args in calls.items():
        got, ours, expected = [f(*a) for f, a in (
            (getattr(np.linalg, name), args), (getattr(L, name), args), (getattr(np.linalg, name), as_arrays(args))
        )]  # fmt: skip
        if isinstance(expected, tuple):
            assert type(got).__name__ == type(expected).__name__
            assert getattr(got, "_fields", ()) == getattr(expected, "_fields", ())
        else:
            got, ours, expected = [got], [ours], [expected]
        for a, b, c in zip(got, ours, expected):
            assert isinstance(a, fg.Tensor), name
            np.testing.assert_array_equal(a.detach(), b.detach())
            np.testing.assert_allclose(a.detach(), c, atol=1e-10, err_msg=name)
    assert isinstance(np.kron(x, x), fg.Tensor) and isinstance(np.cross(x, x), fg.Tensor)
    assert isinstance(np.linalg.svd(x, compute_uv=False), fg.Tensor)


# ---- errors ----------------------------------------------------------------------------------------------------------
BAD = np.stack([np.eye(2), np.array([[1.0, np.nan], [np.nan, 1.0]]), np.full((2, 2), np.inf)])


@pytest.mark.parametrize(
    ("f", "name"),
    [(L.eigh, "eigh"), (L.eigvalsh, "eigvalsh"), (L.svd, "svd"), (L.svdvals, "svdvals"), (L.eig, "eig"),
     (L.eigvals, "eigvals"), (L.pinv, "pinv"), (L.matrix_rank, "matrix_rank"), (L.cond, "cond"),
     (lambda x: L.norm(x, 2, (-2, -1)), "norm"), (lambda x: L.lstsq(x, np.ones((3, 2, 1))), "lstsq")],
)  # fmt: skip
def test_elements_that_are_not_finite(f, name, lapack):
    text = rf"^{name}: did not converge for matrix \(1,\) of the batch; are all its elements finite\?$"
    with pytest.raises(LinAlgError, match=text):
        f(BAD)
    with pytest.raises(LinAlgError, match=text):
        fg.compile(f)(BAD)
    with pytest.raises(LinAlgError, match=rf"^{name}: did not converge for matrix; are"):
        f(BAD[2])


SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])
RNG_OF_DRAWS = fg.random.default_rng(0)


@pytest.mark.parametrize(
    ("f", "name"),
    [(lambda x: L.cho_factor(x), "cho_factor"), (L.cholesky, "cholesky"), (lambda x: L.inv(x), "inv"),
     (lambda x: L.cho_solve((x * np.array([[1.0], [0.0]]), True), np.ones(2)), "cho_solve"),
     (lambda x: L.solve(x, np.ones(2)), "solve"), (lambda x: L.solve(x, np.ones(2), assume_a="pos"), "solve"),
     (lambda x: L.matrix_power(x, -2), "matrix_power"), (lambda x: L.tensorinv(x.reshape(2, 1, 2)), "tensorinv"),
     (lambda x: L.tensorsolve(x.reshape(2, 1, 2), np.ones((2, 1))), "tensorsolve"),
     (lambda x: fg.grad(lambda x: fg.sum(L.qr(x).Q))(x), "qr"),
     (lambda x: fg.stats.multivariate_normal.logpdf(np.ones(2), np.zeros(2), x), "multivariate_normal"),
     (lambda x: RNG_OF_DRAWS.multivariate_normal(np.zeros(2), x), "multivariate_normal")],
)  # fmt: skip
def test_errors_name_the_function_that_was_called(f, name):
    bad = np.full((2, 2), 1.0) if name in ("solve", "qr") else SINGULAR  # which no rounding makes regular
    bad = bad - 1e-3 * np.eye(2) if name in ("cho_factor", "cholesky", "multivariate_normal") else bad
    for call in (f, fg.compile(f)):
        with pytest.raises(LinAlgError, match=f"^{name}: matrix.* is (singular|not positive definite)"):
            call(fg.tensor(bad) if call is f else bad)


def test_qr_lets_nan_through():
    assert np.isnan(np.asarray(L.qr(BAD[1]).R)).any()


def test_spectra_that_are_not_real(lapack):
    x = np.stack([np.eye(2), [[0.0, 1.0], [-1.0, 0.0]]])
    text = r"^eigvals: matrix \(1,\) of the batch has eigenvalues that are not real, and there are no complex tensors$"
    with pytest.raises(NotImplementedError, match=text):
        L.eigvals(x)
    with pytest.raises(NotImplementedError, match="^eig: matrix has"):
        fg.compile(lambda a: L.eig(a).eigenvalues)(x[1])


@pytest.mark.parametrize(
    ("f", "error", "text"),
    [
        (lambda: L.eigh(TALL), LinAlgError, r"eigh: expected a square matrix or a stack of them, got shape (5, 3)"),
        (lambda: L.eigvalsh(3.0), LinAlgError, "eigvalsh: expected a square matrix or a stack of them, got shape ()"),
        (lambda: L.eig(TALL), LinAlgError, "eig: expected a square matrix or a stack of them, got shape (5, 3)"),
        (lambda: L.expm(TALL), LinAlgError, "expm: expected a square matrix or a stack of them, got shape (5, 3)"),
        (lambda: L.svd(TALL[0]), LinAlgError, "svd: expected a matrix or a stack of them, got shape (3,)"),
        (lambda: L.qr(1.0), LinAlgError, "qr: expected a matrix or a stack of them, got shape ()"),
        (lambda: L.eigh(FOUR, "X"), ValueError, "eigh: expected UPLO as 'L' or 'U', got 'X'"),
        (lambda: L.qr(TALL, "full"), ValueError, "qr: expected mode as 'reduced', 'complete' or 'r', got 'full'"),
        (lambda: L.qr(TALL, "raw"), NotImplementedError,
         "qr: mode 'raw' is not supported on tensors; use 'reduced', 'complete' or 'r'"),
        (lambda: L.lstsq(TALL, TALL[:4]), LinAlgError, "lstsq: 5 rows of a for 4 of b"),
        (lambda: L.norm(TALL, 3), ValueError,
         "norm: expected ord as 1, -1, 2, -2, inf, -inf, 'fro' or 'nuc' for matrices, got 3"),
        (lambda: L.norm(STACK, 2), ValueError, "norm: expected one axis or two for ord=2, got 3"),
        (lambda: L.norm(np.zeros((0, 2)), -2), ValueError,
         "norm: a matrix without elements has no norm of ord -2, got shape (0, 2)"),
        (lambda: L.cond(np.zeros((0, 2))), LinAlgError, "cond: a matrix without elements has no condition number"),
        (lambda: L.matrix_power(TALL, 2), LinAlgError,
         "matrix_power: expected a square matrix or a stack of them, got shape (5, 3)"),
        (lambda: L.matrix_power(FOUR, 0.5), TypeError, "matrix_power: expected n as an int, got 0.5"),
        (lambda: L.multi_dot([FOUR]), ValueError, "multi_dot: expected at least two factors, got 1"),
        (lambda: L.multi_dot([FOUR, STACK, FOUR]), LinAlgError, "multi_dot: expected matrices, got one of 3 axes"),
        (lambda: L.outer(FOUR, FOUR), ValueError, "outer: expected vectors, got 2 and 2 axes"),
        (lambda: L.cross(FOUR, FOUR), ValueError, "cross: expected vectors of 3 elements, got 4 and 4"),
        (lambda: L.matrix_transpose([1.0]), ValueError,
         "matrix_transpose: expected at least 2 dimensions, got shape (1,)"),
        (lambda: L.vecdot([1.0], [1.0, 2.0]), ValueError,
         "vecdot: shapes (1,) and (2,) have different lengths along axis -1"),
        (lambda: L.tensorinv(FOUR, 0), ValueError, "tensorinv: expected ind of at least 1, got 0"),
        (lambda: L.tensorinv(STACK, 1), LinAlgError,
         "tensorinv: expected as many rows as columns, got shape (2, 3, 3) for ind 1"),
        (lambda: L.tensorsolve(FOUR, FOUR), LinAlgError,
         "tensorsolve: expected as many unknowns as equations, got shapes (4, 4) and (4, 4)"),
    ],
)  # fmt: skip
def test_errors(f, error, text):
    with pytest.raises(error) as caught:
        f()
    assert str(caught.value) == text


def test_the_gradient_of_dependent_columns_is_an_error():
    with pytest.raises(LinAlgError, match="singular"):
        fg.grad(lambda x: fg.sum(L.qr(x).Q))(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))


def test_a_failure_leaves_a_compiled_function_usable():
    f = fg.compile(L.svdvals)
    expected = f(np.eye(2))
    with contextlib.suppress(LinAlgError):
        f(BAD[1])
    np.testing.assert_array_equal(f(np.eye(2)), expected)


def test_a_training_step_that_fails_changes_no_parameter():
    step = fg.training_step(lambda w, x: fg.sum(L.svdvals(w) * x), np.eye(3), "sgd")
    for _ in range(4):
        step(np.ones(3))
    np.copyto(step.params, np.full((3, 3), np.nan))
    with pytest.raises(LinAlgError, match=r"^svdvals: did not converge for matrix; are all its elements finite\?$"):
        step(np.ones(3))
    np.testing.assert_array_equal(step.params, np.nan)
    np.copyto(step.params, np.eye(3))
    step(np.ones(3))


@pytest.mark.parametrize("name", sorted(set(L.__all__) & set(np.linalg.__all__) - {"LinAlgError"}))
def test_parameters_are_numpys(name):
    """By name, beside arrays that go by position alone; more may follow."""
    theirs = inspect.signature(getattr(np.linalg, name)).parameters.values()
    ours = inspect.signature(getattr(L, name)).parameters
    for p in theirs:
        if p.kind is p.POSITIONAL_ONLY or p.name in ("out", "arrays"):
            continue
        assert p.name in ours, p.name
        if p.default is not p.empty:
            assert ours[p.name].default == p.default, p.name


@pytest.mark.parametrize(
    "name", ["eig", "eigh", "eigvals", "eigvalsh", "expm", "lstsq", "norm", "pinv", "qr", "svd", "svdvals"]
)
def test_scipys_functions_name_ours(name):
    x = fg.tensor(np.eye(3), requires_grad=True)
    ours = "svd" if name == "svdvals" else name
    ours = {"eigvals": "eig", "eigvalsh": "eigh"}.get(name, ours)  # which SciPy calls
    with pytest.raises(TypeError, match=rf"use fastgrad\.linalg\.({name}|{ours})$"):
        getattr(scipy.linalg, name)(*[x, x][: 2 if name == "lstsq" else 1])


def test_numpys_functions_with_keywords():
    x, s = fg.tensor(TALL), fg.tensor(symmetric(FOUR))
    b = drawn((5,))
    for f in (
        lambda np_, x, s: np_.svd(x, full_matrices=False).S,
        lambda np_, x, s: np_.svd(s, compute_uv=False, hermitian=True),
        lambda np_, x, s: np_.eigh(s, UPLO="U").eigenvalues,
        lambda np_, x, s: np_.qr(x, mode="r"),
        lambda np_, x, s: np_.pinv(x, rtol=0.5),
        lambda np_, x, s: np_.pinv(x, rcond=0.5),
        lambda np_, x, s: np_.lstsq(x, b, rcond=-1)[0],
        lambda np_, x, s: np_.matrix_rank(x, rtol=0.5) * 1.0,
        lambda np_, x, s: np_.norm(x, ord="nuc", axis=(0, 1), keepdims=True),
        lambda np_, x, s: np_.vector_norm(x, axis=(0, 1), ord=3),
        lambda np_, x, s: np_.matrix_norm(x, ord=-2, keepdims=True),
        lambda np_, x, s: np_.cond(s, p="fro"),
        lambda np_, x, s: np_.cross(x, x[::-1], axis=1),
        lambda np_, x, s: np_.vecdot(x, x, axis=0),
        lambda np_, x, s: np_.trace(s, offset=1, dtype=np.float32),
        lambda np_, x, s: np_.diagonal(s, offset=-1),
        lambda np_, x, s: np_.tensordot(x, x, axes=([0, 1], [0, 1])),
        lambda np_, x, s: np_.matmul(s, s),
        lambda np_, x, s: np_.tensorinv(s, ind=1),
        lambda np_, x, s: np_.tensorsolve(s, s[0], axes=(0,)),
    ):
        got, expected = f(np.linalg, x, s), f(np.linalg, x.numpy(), s.numpy())
        assert isinstance(got, fg.Tensor)
        close(got, expected, expected.dtype, 100)
        close(f(L, x, s), expected, expected.dtype, 100)


@pytest.mark.parametrize(("f", "n"), [(L.svdvals, 400), (L.expm, 600)])
def test_a_long_one_lets_other_threads_run(f, n):
    """This thread goes on while another one works: it never waits for most of the time that this takes."""
    f, x = fg.compile(f), drawn((n, n))
    others_run_during(f, x)


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


def test_a_traced_power_of_a_matrix_is_an_error_of_the_trace():
    with pytest.raises(fg.TraceError):
        fg.compile(L.matrix_power)(FOUR, 3)


# ---- ends of the range -----------------------------------------------------------------------------------------------
def test_eigenvalues_near_the_largest_and_smallest_numbers(lapack):
    for scale in (1e308, 1e-300):
        x = scale * np.array([[1.0, 0.5], [0.5, -1.0]])
        np.testing.assert_allclose(L.eigvalsh(x).numpy(), scale * np.sqrt(1.25) * np.array([-1.0, 1.0]), rtol=1e-14)


def test_eigenvectors_of_jordan_blocks_are_finite(lapack):
    for n in (3, 40):
        w, v = L.eig(np.eye(n, k=1))
        np.testing.assert_array_equal(w.numpy(), np.zeros(n))
        np.testing.assert_allclose(np.linalg.norm(v.numpy(), axis=0), np.ones(n))
        np.testing.assert_allclose(np.abs(v.numpy()[0]), np.ones(n), atol=1e-12)


def test_shapes_of_many_matrices_without_elements():
    assert fg.linalg.cholesky(np.empty((10**12, 0, 0))).shape == (10**12, 0, 0)
    assert fg.linalg.inv(np.empty((10**12, 0, 0))).shape == (10**12, 0, 0)
    for f in (lambda x: L.svd(x), lambda x: L.qr(x, "complete")):
        with pytest.raises(MemoryError, match="no memory for the square matrices of shape"):
            f(np.empty((2**32, 0)))
