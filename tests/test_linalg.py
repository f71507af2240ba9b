"""Linear algebra: values against NumPy and SciPy, gradients against differences, every transform, LAPACK and our own
kernels, and errors. The rules of each operation by itself are tested from tests/_operations.py."""

import ctypes

import numpy as np
import pytest
import scipy.linalg
from _threads import others_run_during

import fastgrad as fg
from fastgrad import _core, _lapack

LinAlgError = np.linalg.LinAlgError
FLOATS = [np.float32, np.float64]


def matrices(n, lead=(), dtype=np.float64, seed=0):
    """Well conditioned ones."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(*lead, n, n)) / max(n, 1) ** 0.5 + 3 * np.eye(n)).astype(dtype)


def positive(n, lead=(), dtype=np.float64, seed=0):
    a = matrices(n, lead, seed=seed)
    return (a @ np.swapaxes(a, -1, -2)).astype(dtype)


def right(*shape, dtype=np.float64, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def symmetric(a):
    return (a + np.swapaxes(a, -1, -2)) / 2


def pos(a, b):
    return fg.linalg.solve(a, b, assume_a="pos")


# ---- values ----------------------------------------------------------------------------------------------------------
SIZES = [0, 1, 2, 3, 4, 5, 8, 16, 17, 31, 33, 50, 97, 150]


def close(got, expected, dtype, what):
    assert got.dtype == expected.dtype and got.shape == expected.shape, what
    tol = 2e-3 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(got.numpy(), expected, tol, tol, err_msg=what)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("lead", [(), (3,), (2, 11), (0,)], ids=str)
def test_values_are_numpys(n, lead, dtype, lapack):
    if n > 50 and len(lead) > 1:
        pytest.skip("slow")
    a, s, b = matrices(n, lead, dtype), positive(n, lead, dtype), right(*lead, n, 5, dtype=dtype)
    for ours, theirs, operands in [
        (fg.linalg.cholesky, np.linalg.cholesky, (s,)),
        (fg.linalg.solve, np.linalg.solve, (a, b)),
        (pos, np.linalg.solve, (s, b)),
        (fg.linalg.inv, np.linalg.inv, (a,)),
        (fg.linalg.det, np.linalg.det, (a / 3,)),
    ]:
        close(ours(*operands), theirs(*operands), dtype, f"{theirs.__name__} of {n} rows, {lead}")
    for got, expected in zip(fg.linalg.slogdet(a), np.linalg.slogdet(a)):
        close(got, np.asarray(expected), dtype, f"slogdet of {n} rows, {lead}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 2, 4, 7, 40, 90])
@pytest.mark.parametrize("columns", [None, 1, 2, 9, 40])
def test_triangular_equations_are_scipys(n, columns, dtype, lapack):
    a, b = matrices(n, dtype=dtype), right(n, *[columns] * (columns is not None), dtype=dtype)
    for trans in (0, "T"):
        for lower in (False, True):
            for unit in (False, True):
                m = a / 4 if unit else a
                expected = scipy.linalg.solve_triangular(m, b, trans, lower, unit)
                got = fg.linalg.solve_triangular(m, b, trans, lower, unit)
                close(got, expected, dtype, f"{trans=} {lower=} {unit=}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [2, 5, 70])
def test_equations_by_a_cholesky_factor_are_scipys(n, dtype, lapack):
    s, b = positive(n, dtype=dtype), right(n, 6, dtype=dtype)
    for lower in (False, True):
        close(
            fg.linalg.cho_solve(fg.linalg.cho_factor(s, lower), b),
            scipy.linalg.cho_solve(scipy.linalg.cho_factor(s, lower), b), dtype, f"{lower=}",
        )  # fmt: skip
        close(
            fg.linalg.cho_solve((scipy.linalg.cholesky(s, lower=lower), lower), b[:, 0]),
            np.linalg.solve(s, b[:, 0]), dtype, f"{lower=}",
        )  # fmt: skip


def test_pivots():
    """Rows must be exchanged, in every lane differently."""
    a = np.stack([np.eye(5)[np.random.default_rng(k).permutation(5)] * (k + 1) for k in range(19)])
    a += 1e-3 * right(19, 5, 5)
    b = right(19, 5, 2)
    np.testing.assert_allclose(fg.linalg.solve(a, b).numpy(), np.linalg.solve(a, b), 1e-10)
    np.testing.assert_allclose(fg.linalg.det(a).numpy(), np.linalg.det(a), 1e-10)
    for one, of in zip(a, fg.linalg.inv(a).numpy()):
        np.testing.assert_allclose(fg.linalg.inv(one).numpy(), of, 1e-10, 1e-13)


def test_leading_axes_broadcast(lapack):
    for n in (3, 40):
        for lead_a, lead_b in [
            ((), (4,)),
            ((4,), ()),
            ((4, 1), (3,)),
            ((1, 3), (4, 1)),
            ((2, 1, 3), (4, 1)),
            ((0,), ()),
        ]:
            a, s, b = matrices(n, lead_a), positive(n, lead_a), right(*lead_b, n, 6)
            what = f"{n} {lead_a} {lead_b}"
            close(fg.linalg.solve(a, b), np.linalg.solve(a, b), np.float64, what)
            close(pos(s, b), np.linalg.solve(s, b), np.float64, what)
            close(fg.linalg.solve_triangular(a, b), np.linalg.solve(np.triu(a), b), np.float64, what)


def test_vectors_by_the_rule_of_numpy_2():
    a = matrices(3, (2,))
    close(fg.linalg.solve(a, right(3)), np.linalg.solve(a, right(3)), np.float64, "a vector for two matrices")
    close(fg.linalg.solve(a, right(3, 4)), np.linalg.solve(a, right(3, 4)), np.float64, "a matrix for two")
    close(fg.linalg.solve_triangular(a[0], right(3)), np.linalg.solve(np.triu(a[0]), right(3)), np.float64, "a vector")


def test_which_triangle_is_read():
    s = positive(4)
    junk = s + np.triu(np.full((4, 4), 7.0), 1)
    np.testing.assert_array_equal(fg.linalg.cholesky(junk).numpy(), fg.linalg.cholesky(s).numpy())
    np.testing.assert_array_equal(pos(junk, np.eye(4)).numpy(), pos(s, np.eye(4)).numpy())
    upper = fg.linalg.cholesky(junk.T, upper=True)
    np.testing.assert_array_equal(upper.numpy(), fg.linalg.cholesky(s).numpy().T)
    np.testing.assert_allclose(upper.numpy(), np.linalg.cholesky(s, upper=True), 1e-12)


def test_dtypes():
    whole = np.array([[4, 2], [2, 5]])
    assert fg.linalg.cholesky(whole).dtype == np.float64
    assert fg.linalg.inv(whole.astype(np.int8)).dtype == np.float64
    assert fg.linalg.solve(whole, [1, 2]).dtype == np.float64
    assert fg.linalg.det(np.eye(2, dtype=bool)).dtype == np.float64
    assert fg.linalg.solve(whole.astype(np.float32), np.ones(2)).dtype == np.float64
    assert fg.linalg.solve(whole.astype(np.float32), np.ones(2, np.float32)).dtype == np.float32


def test_not_contiguous():
    a, b = matrices(4, (3,))[::2, ::-1, ::-1], right(3, 4, 8)[::2, :, ::3]
    close(fg.linalg.solve(a, b), np.linalg.solve(a, b), np.float64, "strided")
    close(fg.linalg.cholesky(positive(3).T), np.linalg.cholesky(positive(3)), np.float64, "transposed")


@pytest.mark.parametrize("n", [2, 3, 60])
def test_nan_is_no_error(n, lapack):
    a = positive(n)
    a[-1, -1] = np.nan
    assert np.isnan(fg.linalg.cholesky(a).numpy()[-1, -1])
    assert np.isnan(fg.linalg.inv(a).numpy()).any()
    assert np.isnan(fg.linalg.det(a).item())
    assert np.isnan(fg.linalg.solve_triangular(a, np.ones(n)).numpy()).any()


def test_through_numpy():
    t, s = fg.asarray(matrices(3)), fg.asarray(positive(3))
    b = right(3)
    for name, args in [("inv", (t,)), ("det", (t,)), ("solve", (t, b)), ("cholesky", (s,)), ("norm", (t,))]:
        got = getattr(np.linalg, name)(*args)
        assert type(got) is fg.Tensor, name
        np.testing.assert_array_equal(got.numpy(), getattr(fg.linalg, name)(*args).numpy())
    result = np.linalg.slogdet(t)
    assert type(result) is fg.linalg.SlogdetResult and type(result.sign) is fg.Tensor
    np.testing.assert_array_equal(np.linalg.cholesky(s, upper=True).numpy(), fg.linalg.cholesky(s, upper=True).numpy())
    np.testing.assert_allclose(np.linalg.solve(np.eye(3), t).numpy(), t.numpy())
    assert set(fg.linalg.__all__) <= set(dir(fg.linalg))


# ---- gradients -------------------------------------------------------------------------------------------------------
FUNCTIONS = {
    "cholesky": (lambda a: fg.linalg.cholesky(symmetric(a)), lambda n, lead: (positive(n, lead),)),
    "upper": (lambda a: fg.linalg.cholesky(symmetric(a), upper=True), lambda n, lead: (positive(n, lead),)),
    "cho_solve": (
        lambda a, b: fg.linalg.cho_solve(fg.linalg.cho_factor(symmetric(a)), b),
        lambda n, lead: (positive(n, lead), right(*lead, n, 2)),
    ),
    "solve": (fg.linalg.solve, lambda n, lead: (matrices(n, lead), right(*lead, n, 2))),
    "a vector": (fg.linalg.solve, lambda n, lead: (matrices(n, lead), right(n))),
    "broadcast": (fg.linalg.solve, lambda n, lead: (matrices(n), right(*lead, n, 1))),
    "pos": (lambda a, b: pos(symmetric(a), b), lambda n, lead: (positive(n, lead), right(*lead, n, 2))),
    "triangular": (fg.linalg.solve_triangular, lambda n, lead: (matrices(n, lead), right(*lead, n, 2))),
    "transposed": (
        lambda a, b: fg.linalg.solve_triangular(a, b, "T", lower=True, unit_diagonal=True),
        lambda n, lead: (matrices(n, lead) / 3, right(n, 2)),
    ),
    "inv": (fg.linalg.inv, lambda n, lead: (matrices(n, lead),)),
    "det": (fg.linalg.det, lambda n, lead: (matrices(n, lead) / 3,)),
    "slogdet": (lambda a: fg.linalg.slogdet(a).logabsdet, lambda n, lead: (matrices(n, lead),)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("lead", [(), (2,)], ids=str)
def test_gradients_are_differences(name, n, lead, lapack):
    f, operands = FUNCTIONS[name]
    fg.check_grads(f, operands(n, lead), order=2)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("lead", [(), (3,)], ids=str)
def test_gradients_of_larger_matrices(name, lead, lapack):
    """Along one direction, as there are many elements."""
    f, operands = FUNCTIONS[name]
    xs = operands(110 if not lead else 20, lead)
    ts, step = [right(*x.shape, seed=5 + k) / x.shape[-1] for k, x in enumerate(xs)], 1e-5
    weights = right(*f(*xs).shape, seed=9)
    gradients = fg.grad(lambda *xs: (f(*xs) * weights).sum(), tuple(range(len(xs))))(*xs)
    along = sum((g * t).sum() for g, t in zip(gradients, ts))
    ahead, behind = [(f(*[x + sign * step * t for x, t in zip(xs, ts)]).numpy() * weights).sum() for sign in (1, -1)]
    np.testing.assert_allclose(along, (ahead - behind) / (2 * step), 1e-5, 1e-6)
    tangent = fg.jvp(f, xs, ts)[1]
    np.testing.assert_allclose((np.asarray(tangent) * weights).sum(), along, 1e-9, 1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jvp_vmap_and_compile(name, lapack):
    f, operands = FUNCTIONS[name]
    for n, lead in [(3, ()), (4, (2,)), (40, ()), (0, ()), (2, (0,))]:
        xs = operands(n, lead)
        ts = [right(*x.shape, seed=5 + k) for k, x in enumerate(xs)]
        y, pull = fg.vjp(f, *xs)
        g = right(*y.shape, seed=9)
        gradients = pull(g)
        tangent = fg.jvp(f, xs, ts)[1]
        np.testing.assert_allclose(
            (np.asarray(tangent) * g).sum(), sum((a * t).sum() for a, t in zip(gradients, ts)), 1e-8, 1e-9
        )
        compiled = fg.compile(f)
        for _ in range(2):
            np.testing.assert_array_equal(np.asarray(compiled(*xs)), np.asarray(f(*xs)))
        loss = lambda *xs: (f(*xs) * g).sum()
        both = fg.value_and_grad(loss, tuple(range(len(xs))))
        again = fg.compile(both)
        for got, expected in zip(again(*xs)[1], both(*xs)[1]):
            np.testing.assert_allclose(got, expected, 1e-11, 1e-13)
        batches = [np.stack([x, x * 1.5, x + x]) for x in xs]
        mapped = np.asarray(fg.vmap(f)(*batches))
        np.testing.assert_allclose(mapped, np.stack([f(*part).numpy() for part in zip(*batches)]), 1e-9, 1e-11)
        for k in range(len(xs)):
            axes = [0 if i == k else None for i in range(len(xs))]
            parts = [x if axis == 0 else [x0] * 3 for x, x0, axis in zip(batches, xs, axes)]
            one = np.asarray(fg.vmap(f, tuple(axes))(*[x if a == 0 else x0 for x, x0, a in zip(batches, xs, axes)]))
            np.testing.assert_allclose(one, np.stack([f(*part).numpy() for part in zip(*parts)]), 1e-9, 1e-11)
        per_element = fg.vmap(fg.grad(loss, tuple(range(len(xs)))))(*batches)
        of_sum = fg.grad(lambda *bs: fg.vmap(loss)(*bs).sum(), tuple(range(len(xs))))(*batches)
        for got, expected in zip(of_sum, per_element):
            np.testing.assert_allclose(got, expected, 1e-9, 1e-11)


def test_conventions_of_gradients():
    """Of a symmetric matrix the gradient is symmetric; of a triangular one it is zero outside the triangle."""
    s, b = positive(3), right(3, 2)
    for f in (fg.linalg.cholesky, lambda a: pos(a, b), lambda a: fg.linalg.cholesky(a, upper=True)):
        g = fg.grad(lambda a: (f(a) ** 2).sum())(s)
        np.testing.assert_array_equal(g, g.T)
        np.testing.assert_allclose(g, fg.grad(lambda a: (f(symmetric(a)) ** 2).sum())(s), 1e-12)
    logdet = fg.grad(lambda a: 2 * np.sum(np.log(np.diagonal(fg.linalg.cholesky(a)))))(s)
    np.testing.assert_allclose(logdet, np.linalg.inv(s), 1e-10)
    g = fg.grad(lambda a: fg.linalg.solve_triangular(a, b, lower=True).sum())(matrices(3))
    assert np.array_equal(g != 0, np.tri(3))
    g = fg.grad(lambda a: fg.linalg.solve_triangular(a, b, unit_diagonal=True).sum())(matrices(3))
    assert np.all(np.tril(g) == 0)
    assert np.all(fg.grad(lambda a: fg.linalg.slogdet(a).sign * np.sum(a))(matrices(3)) == 1)


def test_hessian_and_third_order():
    s = positive(2)
    f = lambda x: 2 * np.sum(np.log(np.diagonal(fg.linalg.cholesky(symmetric(x)))))
    inverse = np.linalg.inv(s)
    expected = -np.einsum("jk,li->ijkl", inverse, inverse)
    expected = (expected + np.einsum("ijkl->ijlk", expected)) / 2
    np.testing.assert_allclose(fg.hessian(f)(s), (expected + expected.transpose(1, 0, 2, 3)) / 2, 1e-9, 1e-12)
    fg.check_grads(lambda x: fg.linalg.inv(x) ** 2, (matrices(2),), order=3)


# ---- the solution's factor serves its gradient -----------------------------------------------------------------------
def test_one_factorization_for_value_and_gradient():
    for f in (fg.linalg.solve, pos):
        program = fg.compile(fg.value_and_grad(lambda a, b: f(a, b).sum(), (0, 1))).program(positive(4), right(4))
        assert str(program).count("= factor ") == 1
    gradient = fg.value_and_grad(lambda a: fg.linalg.det(a) + fg.linalg.slogdet(a)[1] + fg.linalg.inv(a).sum())
    assert str(fg.compile(gradient).program(positive(4))).count("= factor ") == 1


def test_long_programs_release_the_gil():
    """This thread goes on while another one factors a matrix: it never waits for most of the time that this takes."""
    f, s = fg.compile(fg.linalg.cholesky), positive(1500)
    others_run_during(f, s)


def test_in_scan():
    rng = np.random.default_rng(0)
    drive = rng.normal(size=(20, 3, 3))

    def last(p, drive):
        def step(p, q):
            low = fg.linalg.cholesky(symmetric(p) + q @ q.T + np.eye(3))
            return fg.linalg.solve(low @ low.T + np.eye(3), p + q), fg.linalg.slogdet(low)[1]

        p, logs = fg.scan(step, p, drive)
        return p.sum() + logs.sum()

    def unrolled(p, drive):
        total = 0.0
        for q in drive:
            low = fg.linalg.cholesky(symmetric(p) + q @ q.T + np.eye(3))
            p, total = fg.linalg.solve(low @ low.T + np.eye(3), p + q), total + fg.linalg.slogdet(low)[1]
        return p.sum() + total

    expected = fg.grad(unrolled, (0, 1))(positive(3), drive)
    for scanned in (fg.grad(last, (0, 1)), fg.compile(fg.grad(last, (0, 1)))):
        for got, of in zip(scanned(positive(3), drive), expected):
            np.testing.assert_allclose(got, of, 1e-10, 1e-12)


# ---- errors ----------------------------------------------------------------------------------------------------------
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])


def refused(f, *xs):
    """The message of the LinAlgError that f raises, eagerly and from a program."""
    with pytest.raises(LinAlgError) as eager:
        f(*xs)
    with pytest.raises(LinAlgError) as replayed:
        fg.compile(f)(*xs)
    assert str(replayed.value) == str(eager.value)
    return str(eager.value)


def stacked(lead, bad, where, n=2):
    stack = np.broadcast_to(np.eye(n), (*lead, n, n)).copy()
    stack[where] = np.eye(n)
    stack[where][:2, :2] = bad
    return stack


@pytest.mark.parametrize("n", [2, 5, 60])
def test_not_positive_definite(n, lapack):
    one = stacked((1,), INDEFINITE, 0, n)[0]
    assert refused(fg.linalg.cholesky, one) == "cholesky: matrix is not positive definite"
    assert refused(pos, one, np.ones(n)) == "solve: matrix is not positive definite"
    for where in (0, 7, 8, 18):
        message = refused(fg.linalg.cholesky, stacked((19,), INDEFINITE, where, n))
        assert message == f"cholesky: matrix ({where},) of the batch is not positive definite"
    message = refused(pos, stacked((2, 3), INDEFINITE, (1, 2), n), np.ones(n))
    assert message == "solve: matrix (1, 2) of the batch is not positive definite"


@pytest.mark.parametrize("n", [2, 5, 60])
def test_singular(n, lapack):
    one = stacked((1,), SINGULAR, 0, n)[0]
    assert refused(fg.linalg.solve, one, np.ones(n)) == "solve: matrix is singular"
    assert refused(fg.linalg.inv, one) == "inv: matrix is singular"
    message = refused(fg.linalg.inv, stacked((2, 9), SINGULAR, (1, 7), n))
    assert message == "inv: matrix (1, 7) of the batch is singular"
    zero = np.triu(one)
    zero[1, 1] = 0
    assert refused(fg.linalg.solve_triangular, zero, np.ones(n)) == "solve_triangular: matrix is singular"
    fg.linalg.solve_triangular(zero, np.ones(n), unit_diagonal=True)
    for ours, theirs in zip(fg.linalg.slogdet(one), np.linalg.slogdet(one)):
        assert ours.item() == theirs
    assert fg.linalg.det(one).item() == 0
    assert refused(fg.linalg.solve, stacked((3,), SINGULAR, 1, n), np.ones((2, 1, n, 2))) == (
        "solve: matrix (0, 1) of the batch is singular"
    )


def cofactors(a):
    n = len(a)
    minors = [[np.delete(np.delete(a, i, 0), j, 1) for j in range(n)] for i in range(n)]
    return np.array([[(-1) ** (i + j) * np.linalg.det(minors[i][j]) for j in range(n)] for i in range(n)])


def second_cofactors(a, t):
    """The derivative of the cofactors along t."""
    n, out = len(a), np.zeros_like(a)
    for i in range(n):
        for j in range(n):
            minor, along = (np.delete(np.delete(x, i, 0), j, 1) for x in (a, t))
            out[i, j] = (-1) ** (i + j) * (cofactors(minor) * along).sum() if n > 1 else 0
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 9])
@pytest.mark.parametrize("nullity", [0, 1, 2, 3])
def test_the_gradient_of_a_determinant_of_any_rank(n, nullity, lapack):
    rng = np.random.default_rng(10 * n + nullity)
    rank, det = max(n - nullity, 0), fg.linalg.det
    a, t = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, n)), rng.normal(size=(n, n))
    size = np.linalg.norm(a)
    expected, tolerance = cofactors(a), 1e-12 * size ** (n - 1) + 1e-300
    for found in (
        fg.grad(det)(a), fg.compile(fg.grad(det))(a), fg.vmap(fg.grad(det))(np.stack([t, a]))[1],
        fg.grad(lambda x: det(x)[1, 0])(np.stack([[t, t], [a, t]]))[1, 0], fg.jacfwd(det)(a),
    ):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=tolerance)
    expected, tolerance = second_cofactors(a, t), 1e-11 * size ** max(n - 2, 0) * np.linalg.norm(t) + 1e-300
    for found in (
        fg.hvp(det, (a,), (t,)), fg.compile(lambda a: fg.hvp(det, (a,), (t,)))(a),
        fg.grad(lambda a: fg.sum(fg.grad(det)(a) * t))(a),
    ):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=tolerance)
    assert fg.value_and_grad(det)(a)[0] == det(a).item()


def test_the_gradient_of_a_determinant_of_nan_and_of_zeros():
    for call in (fg.grad(fg.linalg.det), fg.compile(fg.grad(fg.linalg.det))):
        x = np.eye(6)
        x[2, 3] = np.nan
        assert np.isnan(call(x)).any()
        np.testing.assert_array_equal(call(np.zeros((6, 6))), 0)
        assert call(np.zeros((0, 0))).shape == (0, 0)
        nearly = np.eye(6, dtype=np.float32)
        nearly[5, 5] = 1e-30
        np.testing.assert_allclose(call(nearly)[5, 5], 1, rtol=1e-6)


def test_columns_of_subnormal_numbers_have_orthonormal_factors():
    x = np.random.default_rng(0).normal(size=(5, 3))
    for scale in (1e-322, 1e-312, 1e-300, 1e300):
        q, r = fg.linalg.qr(x * scale)
        np.testing.assert_allclose(q.numpy().T @ q.numpy(), np.eye(3), atol=1e-14)
        np.testing.assert_allclose((q @ (r / scale)).numpy() if scale > 1e-305 else x, x, atol=1e-12)


@pytest.mark.parametrize("n", [5, 100])
def test_a_factor_with_nan_is_the_same_with_and_without_lapack(n, lapack):
    x = np.eye(n)
    x[3, 2] = np.nan
    found = fg.linalg.cholesky(x).numpy()
    assert np.isnan(found[3, 2:4]).all() and np.isfinite(found[:3, :3]).all() and found[0, 0] == 1


def test_zero_by_zero_is_regular():
    assert fg.linalg.det(np.zeros((0, 0))).item() == 1
    assert fg.linalg.solve(np.zeros((0, 0)), np.zeros((0, 3))).shape == (0, 3)
    assert fg.grad(fg.linalg.det)(np.zeros((0, 0))).shape == (0, 0)


def test_shapes_that_do_not_fit():
    for name in ("cholesky", "inv", "det", "slogdet"):
        for shape in [(2, 3), (3,), ()]:
            with pytest.raises(LinAlgError, match=f"^{name}: expected a square matrix or a stack of them, got shape"):
                getattr(fg.linalg, name)(np.ones(shape))
    with pytest.raises(LinAlgError, match=r"cholesky: expected a square matrix or a stack of them, got shape \(2, 3\)"):
        fg.linalg.cholesky(np.ones((2, 3)), upper=True)
    with pytest.raises(TypeError, match=r"cho_solve: expected the pair \(factor, lower\) that cho_factor returns"):
        fg.linalg.cho_solve(np.eye(2), np.ones(2))
    for f in (fg.linalg.solve, fg.linalg.solve_triangular, pos):
        with pytest.raises(LinAlgError, match=r"expected a square matrix or a stack of them, got shape \(2, 3\)"):
            f(np.ones((2, 3)), np.ones(2))
        with pytest.raises(
            ValueError, match=r"shapes \(2, 2\) and \(3, 4\) do not align: 2 equations for 3 right-hand"
        ):
            f(np.eye(2), np.ones((3, 4)))
        with pytest.raises(ValueError, match="expected a vector, a matrix or a stack of matrices on the right"):
            f(np.eye(2), 1.0)
        with pytest.raises(ValueError, match=r"\(2,\) .*\(3,\)"):
            f(np.stack([np.eye(2)] * 2), np.ones((3, 2, 1)))


def test_unknown_options():
    for wrong in ("triangular", ["sym"]):
        with pytest.raises(ValueError, match="solve: expected assume_a as one of 'gen', .*, or None, got .*triang|sym"):
            fg.linalg.solve(np.eye(2), np.ones(2), assume_a=wrong)
    with pytest.raises(ValueError, match="solve_triangular: expected trans as 0, 1, 2, 'N', 'T' or 'C', got 3"):
        fg.linalg.solve_triangular(np.eye(2), np.ones(2), trans=3)


@pytest.mark.parametrize(
    "names, structured",
    [
        ((None, "gen", "general"), lambda a: a),
        (("pos", "positive definite", "sym", "symmetric", "her", "hermitian"), lambda a: a @ np.swapaxes(a, -1, -2)),
        (("sym",), lambda a: a + np.swapaxes(a, -1, -2) - 3 * np.eye(a.shape[-1])),
        (("diagonal",), lambda a: a * np.eye(a.shape[-1])),
        (("banded", "tridiagonal"), lambda a: np.tril(np.triu(a, -1), 1)),
        (("upper triangular",), np.triu),
        (("lower triangular",), np.tril),
    ],
    ids=lambda p: p[0] if isinstance(p, tuple) else "",
)
def test_structures_of_equations(names, structured):
    for dtype in FLOATS:
        for lead in ((), (2, 3)):
            a, b = structured(matrices(5, lead, np.float64)).astype(dtype), right(5, dtype=dtype)
            for name in names:
                expected = np.linalg.solve(a, b[:, None])[..., 0] if lead else scipy.linalg.solve(a, b, assume_a=name)
                got = fg.linalg.solve(a, b if not lead else b[:, None], assume_a=name)
                close(got if not lead else got[..., 0], expected, dtype, name)
    a, b = structured(matrices(3)), right(3, 2)
    solve = lambda a, b: fg.linalg.solve(a, b, assume_a=names[0])
    if names[0] != "pos":  # tested with symmetric changes elsewhere
        fg.check_grads(solve, (a, b), order=2)
    np.testing.assert_allclose(fg.compile(solve)(a, b), solve(a, b).numpy(), rtol=1e-12)
    with pytest.raises(LinAlgError, match="^solve: "):
        fg.compile(solve)(0 * a, b)
    with pytest.raises(LinAlgError, match=r"^solve: .*\(2, 3\)"):
        solve(np.ones((2, 3)), b)


def test_structures_say_what_is_read():
    a, b = matrices(3) + 1, right(3)
    for name, read in (
        ("diagonal", np.diag(np.diag(a))), ("upper triangular", np.triu(a)), ("lower triangular", np.tril(a)),
        ("tridiagonal", np.tril(np.triu(a, -1), 1)), ("sym", symmetric(a)),
    ):  # fmt: skip
        close(fg.linalg.solve(a, b, assume_a=name), np.linalg.solve(read, b), np.float64, name)
    g = fg.grad(lambda a: fg.linalg.solve(a, b, assume_a="sym").sum())(a)
    np.testing.assert_allclose(g, g.T)


def test_toeplitz():
    rng = np.random.default_rng(0)
    for c, r in (((4,), None), ((4,), (3,)), ((2, 4), (3,)), ((2, 4), (2, 1)), ((), None), ((3,), (0,)), ((0,), None)):
        c, r = rng.normal(size=c), None if r is None else rng.normal(size=r)
        np.testing.assert_array_equal(fg.linalg.toeplitz(c, r).numpy(), scipy.linalg.toeplitz(c, r))
    with pytest.raises(ValueError, match=r"toeplitz: .* do not broadcast: c has shape \(2, 3\), r has \(4, 3\)"):
        fg.linalg.toeplitz(np.ones((2, 3)), np.ones((4, 3)))
    assert fg.linalg.toeplitz([1, 2], [3.0, 4.0]).tolist() == [[1.0, 4.0], [2.0, 1.0]]
    c, r = rng.normal(size=4), rng.normal(size=3)
    fg.check_grads(fg.linalg.toeplitz, (c, r), order=2)
    np.testing.assert_array_equal(fg.compile(fg.linalg.toeplitz)(c, r), scipy.linalg.toeplitz(c, r))
    np.testing.assert_array_equal(fg.vmap(fg.linalg.toeplitz)(c[:3, None] * c, r[:, None] * r)[1],
                                  scipy.linalg.toeplitz(c[1] * c, r[1] * r))  # fmt: skip


def test_scipys_functions_name_ours():
    t = fg.tensor(np.eye(2), requires_grad=True)
    b = np.ones(2)
    for name, args in [
        ("cholesky", (t,)), ("cho_factor", (t,)), ("cho_solve", ((t, True), b)), ("det", (t,)), ("inv", (t,)),
        ("norm", (t,)), ("solve", (t, b)), ("solve_triangular", (t, b)), ("toeplitz", (t[0],)),
    ]:  # fmt: skip
        with pytest.raises(TypeError, match=f"Instead of SciPy's {name} use fastgrad.linalg.{name}$"):
            getattr(scipy.linalg, name)(*args)
        assert callable(getattr(fg.linalg, name))


def test_the_package_names_its_module():
    with pytest.raises(AttributeError, match="has no attribute 'solve'; use fastgrad.linalg.solve$"):
        fg.solve
    assert fg.norm is fg.linalg.norm


def test_a_training_step_that_fails_changes_no_parameter():
    def loss(w, x):
        return fg.linalg.solve(w, x, assume_a="pos").sum()

    w = positive(3)
    step = fg.training_step(loss, w, "sgd")
    for _ in range(4):
        step(np.ones(3))
    before = np.array(step.params)
    np.copyto(step.params, -np.eye(3))
    with pytest.raises(LinAlgError, match="solve: matrix is not positive definite"):
        step(np.ones(3))
    np.testing.assert_array_equal(step.params, -np.eye(3))
    np.copyto(step.params, before)
    step(np.ones(3))


def test_a_backward_pass_that_fails_changes_no_gradient():
    t = fg.tensor(positive(2), requires_grad=True)
    fg.linalg.cholesky(t).sum().backward()
    before = np.array(t.grad)
    with pytest.raises(LinAlgError):
        fg.linalg.cholesky(t - 100 * np.eye(2))
    np.testing.assert_array_equal(np.asarray(t.grad), before)


# ---- where LAPACK comes from -----------------------------------------------------------------------------------------
@pytest.mark.skipif(_lapack.IN_USE is None, reason="NumPy's LAPACK is not reached in this build")
class TestLapack:
    def test_a_wrong_function_is_not_used(self, monkeypatch):
        nothing = ctypes.CFUNCTYPE(None)(lambda *arguments: None)
        for name, check in _lapack._CASES.items():
            assert not check(nothing, ctypes.c_double, ctypes.c_int64), name
            with monkeypatch.context() as m:
                m.setitem(_lapack._CASES, name, lambda *arguments: False)
                assert _lapack.find() is None

    def test_unknown_symbols_are_none_found(self, monkeypatch):
        monkeypatch.setattr(_lapack, "_LAPACK", (("no_such_{}", True),))
        assert _lapack.find() is None

    def test_narrow_integers_are_noticed(self):
        """What is called as if its integers were twice as wide leaves half of the status as it was."""
        lapack = _lapack.IN_USE
        if not lapack.ilp64:
            function = ctypes.CFUNCTYPE(None)(lapack.functions["potrf"][1])
            assert not _lapack._CASES["potrf"](function, ctypes.c_double, ctypes.c_int64)

    def test_show_config_names_it(self):
        config = fg.show_config("dicts")
        assert config["lapack"]["integer_bits"] == (64 if _lapack.IN_USE.ilp64 else 32)
        assert "loaded by NumPy" in config["lapack"]["provider"]


@pytest.mark.parametrize("name", ["cholesky", "factor", "eigh", "svd", "qr", "eig", "expm"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_kernels_refuse_what_is_no_float(name, dtype):
    text = f"^{name}: expected float32 or float64, got {np.dtype(dtype)}$"
    with pytest.raises(TypeError, match=text):
        _core.apply_op(_core.OP_NUMBERS[name], [fg.asarray(np.eye(2, dtype=dtype))], (0, 0, 0))
