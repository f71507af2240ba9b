"""Matrix products: values against NumPy in float64, gradients against the products written out."""

import functools
import itertools

import numpy as np
import pytest
from _oracles import FLOATS, gradients, layouts, property_test
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastgrad as fg
from fastgrad import _blas, _core

# (2,) (3, 2) (4, 3, 2) ...: every pair of ranks that NumPy multiplies, stacks that broadcast, lengths 0 and 1
SHAPES = [
    ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((1, 1), (1, 1)), ((1, 5), (5, 1)),
    ((5, 1), (1, 5)),
    ((6, 2, 3), (3, 4)), ((2, 3), (6, 3, 4)), ((6, 2, 3), (6, 3, 4)), ((6, 2, 3), (1, 3, 4)), ((1, 2, 3), (6, 3, 4)),
    ((6, 2, 3), (3,)), ((3,), (6, 3, 4)), ((5, 1, 2, 3), (6, 3, 4)), ((5, 6, 2, 3), (3, 4)),
    ((2, 1, 2, 3), (1, 3, 3, 4)),
    ((1, 2, 1, 2, 3), (2, 1, 3, 3, 4)), ((5, 6, 2, 3), (3,)), ((3,), (5, 6, 3, 4)), ((2, 3), (2, 2, 2, 3, 2)),
    ((0,), (0,)), ((0,), (0, 4)), ((2, 0), (0,)), ((2, 0), (0, 4)), ((0, 3), (3, 4)), ((2, 3), (3, 0)),
    ((0, 2, 3), (3, 4)),
    ((0, 2, 3), (1, 3, 4)), ((4, 2, 0), (4, 0, 3)), ((4, 2, 0), (0, 3)), ((4, 0, 3), (3,)), ((0, 0), (0, 0)),
]  # fmt: skip


def draw(shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, s).astype(dtype) for s in shapes]


def sum_to(x, shape):
    """Undo a broadcast."""
    lead = x.ndim - len(shape)
    axes = tuple(i for i in range(x.ndim) if i < lead or shape[i - lead] == 1)
    return x.sum(axis=axes, keepdims=True).reshape(shape)


def gradients_written_out(a, b, g):
    """G B^T and A^T G, for vectors made into matrices, summed over the stacks that were stretched."""
    A, B = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    G = g[..., None] if b.ndim == 1 else g
    G = G[..., None, :] if a.ndim == 1 else G
    return (
        sum_to(G @ B.swapaxes(-1, -2), A.shape).reshape(a.shape),
        sum_to(A.swapaxes(-1, -2) @ G, B.shape).reshape(b.shape),
    )


def check(f, a, b, theirs=np.matmul):
    dtype = np.result_type(a, b)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    expected = theirs(wide_a, wide_b)
    got = f(a, b)
    assert (got.dtype, got.shape) == (dtype, expected.shape)
    k = a.shape[-1] if a.ndim else 1
    tolerance = {"rtol": 4 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps * (k + 1)}
    np.testing.assert_allclose(got.numpy(), expected, **tolerance)
    if theirs is np.matmul:
        (g,) = draw([expected.shape], dtype, 1)
        rows = max(np.prod(expected.shape), 1)
        for grad, x, wanted in zip(
            gradients(f, a, b, cotangent=g), (a, b), gradients_written_out(wide_a, wide_b, g.astype(np.float64))
        ):
            assert (grad.dtype, grad.shape) == (x.dtype, x.shape)
            eps = np.finfo(x.dtype).eps + np.finfo(dtype).eps
            np.testing.assert_allclose(grad, wanted, rtol=8 * eps, atol=4 * eps * rows)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_shapes(shapes, dtype):
    check(fg.matmul, *draw(shapes, dtype))


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_float32_with_float64(shapes):
    a, b = draw(shapes, np.float64)
    check(fg.matmul, a.astype(np.float32), b)
    check(fg.matmul, a, b.astype(np.float32))


EDGES = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    11,
    12,
    13,
    15,
    16,
    17,
    23,
    24,
    25,
    31,
    32,
    33,
    47,
    48,
    49,
    63,
    64,
    65,
    96,
    97,
    127,
    129,
]


@pytest.mark.parametrize("dtype", FLOATS)
def test_sizes_around_the_edges_of_tiles(dtype):
    """Each of m, n and k over all edges, the other two over a few."""
    few = [1, 7, 16, 33]
    for m, n, k in {
        *itertools.product(EDGES, few, few),
        *itertools.product(few, EDGES, few),
        *itertools.product(few, few, EDGES),
    }:
        a, b = draw([(m, k), (k, n)], dtype, m + n + k)
        got = fg.matmul(a, b).numpy()
        error = np.abs(got - a.astype(np.float64) @ b.astype(np.float64)).max()
        assert error <= 2 * np.finfo(dtype).eps * (k + 2), f"{m}x{k} times {k}x{n} in {dtype.__name__}: off by {error}"


LARGE_AND_THIN = [
    ((256, 256), (256, 256)), ((300, 257), (257, 310)), ((20, 1000), (1000, 900)), ((2000, 9), (9, 1000)),
    ((2, 260, 270), (270, 280)), ((2, 260, 270), (2, 270, 280)), ((40000, 30), (30, 20)), ((100, 64), (64,)),
    ((64,), (64, 100)), ((3, 64), (64, 100)), ((100, 64), (64, 3)), ((5, 100, 64), (64,)), ((1, 100), (100, 64)),
    ((4, 33), (33, 32)), ((600, 130), (130,)), ((200,), (200, 2100)), ((2, 9), (9, 1030)),
    ((3, 600), (600, 5)), ((4, 3, 70), (4, 70, 5)), ((16, 512), (512, 16)),
]  # fmt: skip


@pytest.fixture(params=["with BLAS", "without"])
def blas(request):
    if request.param == "without":
        _core.set_blas(None, None, False)
    yield
    if _blas.IN_USE:
        _core.set_blas(_blas.IN_USE.sgemm, _blas.IN_USE.dgemm, _blas.IN_USE.ilp64)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shapes", LARGE_AND_THIN, ids=str)
def test_large_and_thin_products(shapes, dtype, blas):
    """Where a BLAS may take over, forward or backward, and where there is none."""
    check(fg.matmul, *draw(shapes, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_dot_products_of_every_length(dtype):
    """Of two vectors, of few rows with a vector, and of stacks of vectors, whose operands may be broadcast."""
    for k in (1, 2, 3, *range(15, 18), *range(31, 36), *range(63, 68), 100, 127, 129, 1000, 10_003):
        bound = 2 * np.finfo(dtype).eps * (k + 2)
        a, b, rows, stack = draw([(k,), (k,), (3, k), (2, 4, k)], dtype, k)
        wide = [x.astype(np.float64) for x in (a, b, rows, stack)]
        for got, expected in (
            (fg.tensor(a) @ b, wide[0] @ wide[1]),
            (fg.tensor(rows) @ b, wide[2] @ wide[1]),
            (b @ fg.tensor(rows).T, wide[2] @ wide[1]),
            (fg.einsum("ijk,ijk->ij", stack, stack), (wide[3] ** 2).sum(-1)),
            (fg.matmul(stack[:, :, None], b[:, None])[..., 0, 0], wide[3] @ wide[1]),
            (fg.matmul(stack[:, :1, None], stack[..., None])[..., 0, 0], (wide[3][:, :1] * wide[3]).sum(-1)),
        ):
            np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=bound, err_msg=f"k = {k}")


def test_gradients_of_dot_products_are_elementwise_products():
    """Also of stacks, with either operand transposed or broadcast; and no product with ones is left in a program."""
    row, column, stack = draw([(1, 5), (5, 1), (3, 4, 5)], np.float64)
    for f, a, b in (
        (lambda matmul, a, b: matmul(a, b), row, column),
        (lambda matmul, a, b: matmul(a.T, b.T), column, row),
        (lambda matmul, a, b: matmul(a, b.T), row, row + 1),
        (lambda matmul, a, b: matmul(a.T, b), column, column + 1),
        (lambda matmul, a, b: matmul(a[:, :, None, :], b), stack, column),
        (lambda matmul, a, b: matmul(a, b[..., None]), row, stack),
    ):
        check(functools.partial(f, fg.matmul), a, b, functools.partial(f, np.matmul))
        fg.check_grads(functools.partial(f, fg.matmul), (a, b), order=2)
    squares = fg.compile(fg.vmap(fg.grad(lambda v: v @ v)))
    np.testing.assert_array_equal(squares(stack[0]), 2 * stack[0])
    assert "matmul" not in str(squares.program(stack[0]))


@pytest.mark.parametrize("n", [3, 17, 64, 300])
@pytest.mark.parametrize("dtype", FLOATS)
def test_transposed_operands(n, dtype):
    a, b = draw([(n, n + 1), (n + 2, n)], dtype)
    for f in (lambda a, b: fg.matmul(a.T, b.T), lambda a, b: a.T @ b.T, lambda a, b: (b @ a).T):
        expected = a.T.astype(float) @ b.T.astype(float)
        ta, tb = fg.tensor(a, requires_grad=True), fg.tensor(b, requires_grad=True)
        y = f(ta, tb)
        np.testing.assert_allclose(y.numpy(), expected, atol=4 * np.finfo(dtype).eps * n)
        (g,) = draw([y.shape], dtype, 1)
        y.backward(g)
        np.testing.assert_allclose(ta.grad.numpy(), (g.astype(float) @ b).T, atol=8 * np.finfo(dtype).eps * n)
        np.testing.assert_allclose(tb.grad.numpy(), (a.astype(float) @ g).T, atol=8 * np.finfo(dtype).eps * n)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_row_does_not_depend_on_the_other_rows(dtype):
    """The same bits for a row and a column however many are multiplied with it, up to where a BLAS takes over."""
    a, b = draw([(37, 29), (29, 41)], dtype)
    whole = fg.matmul(a, b).numpy()
    for m, n in [(1, 1), (1, 41), (5, 7), (17, 40), (36, 33), (37, 1)]:
        np.testing.assert_array_equal(fg.matmul(a[:m], b[:, :n]).numpy(), whole[:m, :n])
    a, b = draw([(5, 203), (203, 1100)], dtype)
    whole = fg.matmul(a, b).numpy()
    for m, n in [(1, 1100), (2, 1100), (1, 67), (2, 1025), (5, 1024)]:
        np.testing.assert_array_equal(fg.matmul(a[:m], b[:, :n]).numpy(), whole[:m, :n])


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_vector_with_short_rows(dtype):
    """The kernel for these sums as those of matrices do: the same bits as where more is multiplied."""
    for k in range(1, 32):
        a, b = draw([(70, k), (k, 17)], dtype)
        whole = fg.matmul(a, b).numpy()
        for m in (9, 16, 31, 32, 33, 64, 69, 70):
            np.testing.assert_array_equal(fg.matmul(a[:m], b[:, 0]).numpy(), whole[:m, 0], err_msg=f"k {k}, m {m}")
            np.testing.assert_array_equal(fg.matmul(b[:, 0], a[:m].T.copy()).numpy(), whole[:m, 0])
            np.testing.assert_array_equal(fg.compile(lambda a, x: x @ a.T)(a[:m], b[:, 0]), whole[:m, 0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_long_vector_with_few_columns(dtype):
    """Eight sums for each element, however many columns there are, and wherever they and the vector are."""
    eps = np.finfo(dtype).eps
    for k in (32, 33, 39, 100, 193, 500, 1537, 4000):
        a, b = draw([(3, k), (k, 64)], dtype)
        exact = a[0].astype(np.longdouble) @ b.astype(np.longdouble)
        whole = fg.matmul(a[0], b).numpy()
        bound = (3 + min(k, 1536) / 8 + k / 1536) * eps * (np.abs(a[0]) @ np.abs(b))
        assert (np.abs(whole - exact) <= bound).all(), k
        added = fg.compile(lambda a, b, c: c + a @ b)(a[0], b, whole)
        np.testing.assert_array_equal(added, whole + whole)
        for n in (*range(2, 20), 31, 32, 33, 47, 48, 49, 63, 64):
            columns = np.ascontiguousarray(b[:, :n])
            expected = whole[:n]
            np.testing.assert_array_equal(fg.matmul(a[0], columns).numpy(), expected, err_msg=f"k {k}, n {n}")
            np.testing.assert_array_equal(fg.compile(lambda a, b: b.T @ a)(a[0], columns), expected)
            stack = np.stack([columns, 2 * columns], axis=1)  # matrices whose rows are not next to one another
            found = fg.compile(lambda a, b: a @ fg.moveaxis(b, 1, 0))(a[:1], stack)
            np.testing.assert_array_equal(found, np.stack([expected, 2 * expected])[:, None])
            of_columns = fg.compile(lambda a, b: fg.swapaxes(b, -1, -2) @ a[..., None])(a[:1], np.stack([columns]))
            np.testing.assert_array_equal(of_columns[..., 0], expected[None])


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_of_a_long_vector_with_few_columns(dtype):
    """Row p goes to sum p % 8; then the upper half of the sums is added to the lower one."""
    rng = np.random.default_rng(0)
    for k in (32, 37, 1000):  # products that are exact, whose sums are not
        scales = 2.0 ** rng.integers(-10, 10, k)
        a, b = scales.astype(dtype), (rng.integers(1, 1 << 10, (k, 5)) + 0.5).astype(dtype)
        products = np.zeros((-(-k // 8) * 8, 5), dtype)
        products[:k] = a[:, None] * b
        sums = np.zeros((8, 5), dtype)
        for rows in products.reshape(-1, 8, 5):
            sums += rows
        while len(sums) > 1:
            sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
        np.testing.assert_array_equal(fg.matmul(a, b).numpy(), sums[0])


@pytest.mark.parametrize("layout", layouts(np.zeros((2, 2))))
def test_layouts_of_memory(layout):
    a, b = draw([(5, 4), (4, 3)], np.float64)
    got = fg.matmul(layouts(a)[layout], layouts(b)[layout]).numpy()
    np.testing.assert_allclose(got, np.broadcast_to(a @ b, got.shape), rtol=1e-13)


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinities_and_nan(dtype):
    a = np.array([[1, np.inf, 0], [np.nan, 1, 2], [0, 0, 1]], dtype)
    b = np.array([[1, 0], [2, 1], [-1, np.inf]], dtype)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(fg.matmul(a, b).numpy(), a @ b)


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((2, 3), (3, 4)), ((2, 3), (3,)), ((), (2, 3)), ((2,), ()),
    ((2, 3), (5, 3, 4)),
                                    ((3,), (5, 3, 4)), ((4, 2, 3), (5, 6, 3, 2)), ((2, 0), (5, 0, 4)),
                                    ((2, 3), (0, 3, 4))],
                                    ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", FLOATS)
def test_dot(shapes, dtype):
    a, b = draw(shapes, dtype)
    check(fg.dot, a, b, theirs=np.dot)
    np.testing.assert_array_equal(fg.tensor(a).dot(b).numpy(), fg.dot(a, b).numpy())
    fg.check_grads(fg.dot, (a, b))


@property_test
@given(
    hnp.mutually_broadcastable_shapes(signature="(m?,k),(k,n?)->(m?,n?)", max_dims=3, min_side=0, max_side=5),
    st.sampled_from(FLOATS),
)
def test_any_shapes(shapes, dtype):
    check(fg.matmul, *draw(shapes.input_shapes, dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.bool_])
def test_integers_and_booleans_as_numpy_has_them(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, (2, 3)).astype(dtype), rng.integers(0, 3, (3, 4)).astype(dtype)
    got = fg.matmul(a, b)
    assert got.dtype == (a @ b).dtype
    np.testing.assert_array_equal(got.numpy(), a @ b)
    assert fg.matmul(a, b.astype(np.float32)).dtype == np.result_type(dtype, np.float32)
    np.testing.assert_allclose(fg.matmul(a, b.astype(float)).numpy(), a @ b.astype(float))


@pytest.mark.parametrize(
    "left, right",
    [
        ((3,), (3,)), ((3,), (3, 2)), ((4, 3), (3,)), ((4, 3), (5, 3, 2)), ((2, 4, 3), (3,)), ((3,), (2, 3, 4)),
        ((2, 4, 3), (3, 2)), ((2, 1, 4, 3), (5, 3, 2)), ((0, 3), (3,)), ((2, 0), (0,)),
    ],
)  # fmt: skip
def test_integers_of_any_shapes_eager_and_compiled(left, right):
    a, b = (np.arange(np.prod(shape)).reshape(shape) - 3 for shape in (left, right))
    for got in (fg.matmul(a, b).numpy(), fg.compile(lambda a, b: a @ b)(a, b)):
        assert np.shape(got) == np.shape(a @ b) and got.dtype == a.dtype
        np.testing.assert_array_equal(got, a @ b)


@pytest.mark.parametrize(
    "a, b, message",
    [
        ((32, 64), (32, 10), "64 (axis 1) is not 32 (axis 0). Did you mean a.T @ b?"),
        ((32, 64), (10, 64), "64 (axis 1) is not 10 (axis 0). Did you mean a @ b.T?"),
        ((32, 64), (10, 32), "64 (axis 1) is not 10 (axis 0). Did you mean b @ a?"),
        ((2, 3), (4, 5), "3 (axis 1) is not 4 (axis 0)"),
        ((3,), (4,), "3 (axis 0) is not 4 (axis 0)"),
        ((3,), (4, 5), "3 (axis 0) is not 4 (axis 0)"),
        ((2, 3), (4,), "3 (axis 1) is not 4 (axis 0)"),
        ((7, 2, 3), (7, 4, 5), "3 (axis 2) is not 4 (axis 1)"),
        ((7, 2, 3), (4, 5), "3 (axis 2) is not 4 (axis 0)"),
        ((7, 2, 3), (4, 3), "3 (axis 2) is not 4 (axis 0). Did you mean a @ b.T?"),
        ((7, 2, 3), (7, 4, 3), "3 (axis 2) is not 4 (axis 1)"),
    ],
)
@pytest.mark.parametrize("dtype", [float, int])
def test_misaligned_shapes(a, b, message, dtype):
    with pytest.raises(ValueError) as error:
        fg.matmul(np.ones(a, dtype), np.ones(b, dtype))
    assert str(error.value) == f"matmul: shapes {a} and {b} do not align: {message}"


def test_other_refusals():
    with pytest.raises(
        ValueError, match=r"^matmul: expected operands with axes, got shapes \(\) and \(2,\); multiply by"
    ):
        fg.matmul(2.0, np.ones(2))
    with pytest.raises(ValueError, match=r"^matmul: shapes \(2, 1, 1\) and \(3, 1, 1\) do not align: the axes before"):
        fg.matmul(np.ones((2, 1, 1)), np.ones((3, 1, 1)))
    with pytest.raises(
        ValueError, match=r"^dot: shapes \(2, 3\) and \(5, 4, 6\) do not align: 3 \(axis 1\) is not 4 \(axis 1\)$"
    ):
        fg.dot(np.ones((2, 3)), np.ones((5, 4, 6)))
    with pytest.raises(TypeError, match="^matmul: expected numbers, got the str 'a'$"):
        fg.matmul("a", np.ones(2))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [32, 33, 50, 63, 64])
def test_sums_of_products_of_matrices_and_vectors(n, dtype):
    """Which a program accumulates in one array."""
    a, x, b, y = draw([(n, n + 3), (n + 3, 1), (n, 40), (40, 1)], dtype)
    expected = a.astype(float) @ x + b.astype(float) @ y
    atol = 4 * np.finfo(dtype).eps * n
    columns = fg.compile(lambda a, x, b, y: a @ x + b @ y)
    np.testing.assert_allclose(columns(a, x, b, y), expected, atol=atol)
    rows = fg.compile(lambda a, x, b, y: x.T @ a.T + y.T @ b.T)
    np.testing.assert_allclose(rows(a, x, b, y), expected.T, atol=atol)
