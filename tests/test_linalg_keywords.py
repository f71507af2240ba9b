"""Keywords of functions of ``scipy.linalg`` that have the name of one of ours."""

import inspect

import numpy as np
import pytest
import scipy.linalg

import fastgrad as fg

RNG = np.random.default_rng(0)
A = RNG.normal(size=(4, 4)) + 4 * np.eye(4)
S = A @ A.T  # positive definite
B = RNG.normal(size=(4, 2))
NOISE = np.triu(RNG.normal(size=(4, 4)), 1)  # in the triangle that is not read
IGNORED = {"overwrite_a": True, "check_finite": False}


@pytest.mark.parametrize("lower", [True, False])
def test_the_triangle_that_is_read(lower):
    a = S + (NOISE if lower else NOISE.T)
    same = lambda ours, theirs: np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-12, atol=1e-12)
    same(fg.linalg.cholesky(a, lower=lower), scipy.linalg.cholesky(a, lower=lower))
    same(fg.linalg.cholesky(a, upper=not lower), scipy.linalg.cholesky(a, lower=lower))
    same(fg.linalg.eigh(a, lower=lower).eigenvalues, scipy.linalg.eigh(a, lower=lower)[0])
    same(fg.linalg.eigvalsh(a, lower=lower), scipy.linalg.eigvalsh(a, lower=lower))
    for structure in ("pos", "sym"):
        same(fg.linalg.solve(a, B, assume_a=structure, lower=lower), np.linalg.solve(S, B))
        same(fg.linalg.inv(a, assume_a=structure, lower=lower), np.linalg.inv(S))
        function = lambda a, s=structure: fg.linalg.solve(a + (NOISE if lower else NOISE.T), B, s, lower=lower)
        fg.check_grads(lambda a, f=function: f(a @ a.T), (A,), order=2)
        np.testing.assert_allclose(fg.compile(function)(S), np.linalg.solve(S, B), rtol=1e-10)


@pytest.mark.parametrize("structure", ["gen", "pos", "sym", "upper triangular", "lower triangular", "diagonal",
                                       "tridiagonal", None])  # fmt: skip
def test_transposed_equations(structure):
    part = {"upper triangular": np.triu, "lower triangular": np.tril, "diagonal": lambda a: np.diag(np.diag(a)),
            "tridiagonal": lambda a: np.triu(np.tril(a, 1), -1)}  # fmt: skip
    a = S if structure in ("pos", "sym") else A
    read = part.get(structure, lambda a: a)(a)
    x = fg.linalg.solve(a, B, structure, transposed=True, overwrite_b=True, **IGNORED)
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(read.T, B), rtol=1e-10)


def test_stacks_and_dtypes():
    a = np.stack([S, 2 * S]).astype(np.float32)
    assert fg.linalg.solve(a, B.astype(np.float32), "sym", lower=False).dtype == np.float32
    np.testing.assert_allclose(fg.linalg.inv(a, assume_a="pos").numpy(), np.linalg.inv(a), rtol=1e-3)


def test_keywords_that_change_nothing():
    same = lambda ours, theirs: np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    linalg = fg.linalg
    for function in (linalg.cholesky, linalg.eigvalsh, linalg.inv, linalg.det):
        same(function(S, **IGNORED), function(S))
    before = S.copy()
    linalg.solve(S, B, overwrite_a=True, overwrite_b=True)
    same(S, before)


@pytest.mark.parametrize("name", ["cholesky", "solve", "inv", "det", "eigvalsh"])
def test_scipys_keywords_are_taken(name):
    """But those of generalized problems, of parts of a spectrum and of LAPACK's drivers."""
    theirs = inspect.signature(getattr(scipy.linalg, name)).parameters
    left_out = (
        {"b", "overwrite_b", "type", "subset_by_index", "subset_by_value", "driver"} if name == "eigvalsh" else set()
    )
    assert theirs.keys() - left_out <= inspect.signature(getattr(fg.linalg, name)).parameters.keys()


def test_two_names_of_one_triangle():
    with pytest.raises(ValueError, match="cholesky: expected upper or lower, got both"):
        fg.linalg.cholesky(S, upper=True, lower=True)


@pytest.mark.parametrize(
    "error, call",
    [
        (np.linalg.LinAlgError, lambda a: fg.linalg.inv(0 * a, assume_a="gen")),
        (np.linalg.LinAlgError, lambda a: fg.linalg.inv(a[:1], assume_a="pos")),
        (np.linalg.LinAlgError, lambda a: fg.linalg.inv(0 * a, assume_a="diagonal")),
        (ValueError, lambda a: fg.linalg.inv(a, assume_a="round")),
    ],
)
def test_errors_of_inv_name_it(error, call):
    for f in (call, fg.compile(call)):
        with pytest.raises(error, match="^inv: "):
            f(S)


def test_a_triangle_without_a_name_is_refused_beside_lower():
    for f in (fg.linalg.eigh, fg.linalg.eigvalsh):
        with pytest.raises(ValueError, match="expected UPLO as 'L' or 'U', got 'X'"):
            f(S, "X", lower=True)
