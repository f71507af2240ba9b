"""What is made of decompositions and products: pinv, lstsq, matrix_rank, norms, cond, powers and products of matrices,
against NumPy."""

import numpy as np
import pytest
from _decompositions import DTYPES, FOUR, ORDERS, SHAPES, STACK, TALL, WIDE, L, close, drawn, symmetric
from _samples import NUMPY_2_0

import fastgrad as fg

LinAlgError = np.linalg.LinAlgError


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
    for kind in (np.int64, np.uint8):
        one_inverse = [[1, -1], [-1, 2]]
        np.testing.assert_array_equal(L.matrix_power(np.array([[2, 1], [1, 1]], kind), -1), one_inverse)
    assert L.matrix_power(np.eye(2, dtype=bool), -2).dtype == np.float64
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
    np.testing.assert_array_equal(L.tensorinv(np.array([[2, 1], [1, 1]]), ind=1), [[1, -1], [-1, 2]])
    close(L.tensorinv(drawn((24, 8, 3)), ind=1), np.linalg.tensorinv(drawn((24, 8, 3)), ind=1), scale=100)


def test_a_traced_power_of_a_matrix_is_an_error_of_the_trace():
    with pytest.raises(fg.TraceError):
        fg.compile(L.matrix_power)(FOUR, 3)
