"""Errors of decompositions, and of what is made of them, eager, in programs and in training steps."""

import contextlib

import numpy as np
import pytest
from _decompositions import FOUR, STACK, TALL, L

import fastgrad as fg

LinAlgError = np.linalg.LinAlgError
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


def test_in_a_loop_the_error_tells_the_step():
    """Of a stack, the matrix as well, and of loops within loops each step, the innermost first."""
    good, bad = np.eye(2), -np.eye(2)
    rows = np.stack([good, good, bad, good])
    factors = lambda x, **kwargs: fg.scan(lambda c, a: (c, L.cholesky(a)), 0.0, x, **kwargs)[1]
    inverses = lambda x: fg.while_loop(lambda v: v[1] < 6, lambda v: (L.inv(v[0]) * (v[1] < 3), v[1] + 1), (x, 0))
    twice = lambda x: fg.fori_loop(0, 3, lambda i, c: c + factors(x * (1 - (i > 1) * 2.0)).sum(), 0.0)
    of_matrix = lambda which: f"^cholesky: matrix{which} is not positive definite"
    for f, x, text in (
        (factors, rows, of_matrix("") + ", in step 2 of the loop$"),
        (lambda x: factors(x, reverse=True), rows, of_matrix("") + ", in step 2 of the loop$"),
        (fg.grad(lambda x: factors(x).sum()), rows, of_matrix("") + ", in step 2 of the loop$"),
        (twice, np.abs(rows), of_matrix("") + ", in step 0 of the loop, in step 2 of the loop$"),
        (inverses, good, "^inv: matrix is singular, in step 4 of the loop$"),
    ):
        for call in (f, fg.compile(f)):
            with pytest.raises(LinAlgError, match=text):
                call(x)
    with pytest.raises(LinAlgError, match=of_matrix(r" \(1,\) of the batch") + ", in step 2 of the loop$"):
        fg.compile(fg.vmap(factors))(np.stack([abs(rows), rows]))
    step = fg.training_step(lambda w, x: factors(x * w).sum(), np.array(1.0), "sgd")
    for _ in range(4):
        with pytest.raises(LinAlgError, match=of_matrix("") + ", in step 2 of the loop$"):
            step(rows)
        assert step.params == 1.0


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
