"""Decompositions of matrices and the exponential: values against NumPy and SciPy and by reconstruction, with LAPACK and
without it, and at the ends of the range."""

import numpy as np
import pytest
import scipy.linalg
from _decompositions import DTYPES, SHAPES, SQUARE, L, close, drawn, orthonormal, symmetric, t
from _threads import others_run_during

import fastgrad as fg
from fastgrad import _lapack


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


def test_integers_are_taken_as_float64():
    x = np.array([[2, 1], [1, 2]])
    for f in (L.eigvalsh, L.svdvals, L.expm, L.pinv, L.eigvals, L.cond, L.norm, lambda a: L.qr(a).R):
        assert f(x).dtype == np.float64


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


@pytest.mark.parametrize(("f", "n"), [(L.svdvals, 400), (L.expm, 600)])
def test_a_long_one_lets_other_threads_run(f, n):
    """This thread goes on while another one works: it never waits for most of the time that this takes."""
    f, x = fg.compile(f), drawn((n, n))
    others_run_during(f, x)
