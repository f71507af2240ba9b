"""Programs in which products of matrices read and write arrays of another order of axes in place."""

import itertools

import numpy as np
import pytest

import fastgrad as fg

FLOATS = [np.float32, np.float64]


def draw(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def steps(program):
    """The names of a program's steps, without the loads of fused groups."""
    return [line.split(" = ")[1].split()[0] for line in str(program).splitlines() if " = " in line]


def check(f, *args, moves=0):
    """A replay of f and of its gradients gives what NumPy gives, and what the eager run gives, nearly to the bit; so
    many steps of the program of f move elements."""
    dtype = args[0].dtype
    tolerance = 100 * np.finfo(dtype).eps
    program = fg.compile(f)
    expected = f(*[a.astype(np.float64) for a in args])
    np.testing.assert_allclose(program(*args), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
    found = steps(program.program(*args))
    assert found.count("transpose") + found.count("slice") == moves, found
    weights = draw(np.shape(expected), dtype, 7)

    def loss(*args):
        return fg.sum(fg.asarray(weights) * fg.square(f(*args)))

    numbers = tuple(range(len(args)))
    eager, replayed = fg.grad(loss, numbers)(*args), fg.compile(fg.grad(loss, numbers))(*args)
    for one, other in zip(eager, replayed, strict=True):
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance * np.abs(one).max())


SIZES = [(100, 5, 7), (33, 12, 20), (64, 3, 16), (300, 2, 10), (20, 17, 33)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n, k, d", SIZES)
def test_a_stack_whose_axis_is_not_the_first(n, k, d, dtype):
    x, w = draw((n, k, d), dtype), draw((k, d, d), dtype, 1)
    check(lambda x, w: np.einsum("nkj,kij->nki", x, w), x, w)
    check(lambda x, w: np.einsum("nkj,kji->nki", x, w), x, w)
    check(lambda x, w: np.einsum("nkj,kji->kni", x, w), x, w)


@pytest.mark.parametrize("dtype", FLOATS)
def test_heads_of_attention(dtype):
    q, k, v = (draw((2, 24, 3, 16), dtype, i) for i in range(3))

    def attention(q, k, v):
        scores = np.einsum("bqhd,bkhd->bhqk", q, k)
        return np.einsum("bhqk,bkhd->bqhd", np.exp(scores / 4), v)

    check(attention, q, k, v)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_every_order_of_axes_of_an_operand_and_the_result(order):
    shape, w = (70, 6, 11), draw((70, 11, 13), seed=1)
    x = draw(tuple(shape[i] for i in np.argsort(order)))
    f = fg.compile(lambda x, w: np.transpose(np.transpose(x, order) @ w, order))
    np.testing.assert_allclose(f(x, w), np.transpose(np.transpose(x, order) @ w, order), rtol=1e-12, atol=1e-12)
    g = fg.compile(lambda x, w: np.swapaxes(w, 1, 2) @ np.swapaxes(np.transpose(x, order), 1, 2))
    np.testing.assert_allclose(
        g(x, w), np.swapaxes(w, 1, 2) @ np.swapaxes(np.transpose(x, order), 1, 2), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_sliced_operands(dtype):
    x, w = draw((9, 40, 50), dtype), draw((9, 50, 30), dtype, 1)
    check(lambda x, w: x[:, 1:, 3:43] @ w[:, ::-1][:, 5:45, 2:20], x, w, moves=1)  # reversed rows are copied
    check(lambda x, w: x[::-2, 5:] @ w[::2, :, :-1], x, w)
    check(lambda x, w: np.reshape(x[:, :, 5:], (360, 45))[20:, 3:] @ w[3, 8:, :20], x, w, moves=2)
    check(lambda x, w: np.swapaxes(x, 0, 1)[1:, ::3, :40] @ w[:1, 10:], x, w)
    check(lambda x, w: np.concatenate([x, x], 1)[:3, :, 2:42] @ w[:1, 10:], x, w)  # broadcast along the stack


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("other", [(70,), (70, 3), (70, 70)], ids=str)
def test_ndarrays_that_are_stored_transposed(other, dtype):
    """Such as A.T: its memory is read in its own order, in programs as well, which see later changes of it."""
    a, x = draw((70, 33), dtype), draw(other, dtype, 1)
    tolerance = 100 * np.finfo(dtype).eps
    for f, expected in [(lambda x: a.T @ x, a.T @ x), (lambda x: x.T @ np.asfortranarray(a), x.T @ a)]:
        np.testing.assert_allclose(f(fg.tensor(x)).numpy(), expected, rtol=tolerance, atol=tolerance)
        assert f(fg.tensor(x)).dtype == dtype
        np.testing.assert_allclose(fg.compile(f)(x), expected, rtol=tolerance, atol=tolerance)
        eager, replayed = fg.jacobian(f)(x), fg.compile(fg.jacobian(f))(x)
        np.testing.assert_allclose(eager, replayed, rtol=tolerance, atol=tolerance)
        eye = np.eye(x.size, dtype=dtype).reshape(-1, *x.shape)
        np.testing.assert_allclose(np.moveaxis([f(e) for e in eye], 0, -1).reshape(eager.shape), eager, rtol=tolerance)
        mapped = fg.vmap(f)(np.stack([x, 2 * x]))
        np.testing.assert_allclose(mapped, np.stack([expected, 2 * expected]), rtol=tolerance, atol=2 * tolerance)


def test_a_change_of_an_ndarray_after_its_transpose_was_multiplied():
    a, x = draw((300, 40)), draw((300,), seed=1)
    t = fg.tensor(x, requires_grad=True)
    y = fg.sum(a.T @ t)
    expected = a.sum(axis=1)
    a[:] = 0
    y.backward()
    np.testing.assert_allclose(t.grad.numpy(), expected)

    program = fg.compile(lambda x: a.T @ x)
    for value in (1.0, 2.0, 3.0):
        a[:] = value
        np.testing.assert_allclose(program(x), np.full(40, value * x.sum()))


@pytest.mark.parametrize("shape", [(69,), (69, 2), (2, 70, 3), ()], ids=str)
def test_errors_name_the_shapes_as_they_are_written(shape):
    a, x = draw((70, 33)), fg.tensor(draw(shape))
    if shape == (2, 70, 3):
        np.testing.assert_allclose((a.T @ x).numpy(), a.T @ x.numpy(), rtol=1e-12)
        return
    with pytest.raises(ValueError, match=r"matmul.*\(33, 70\)|expected operands with axes"):
        a.T @ x


def test_mixed_dtypes_and_integers_with_an_ndarray_that_is_stored_transposed():
    a, x = draw((40, 30)), draw((40,), np.float32, 1)
    y = a.T @ fg.tensor(x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.numpy(), a.T @ x, rtol=1e-12)
    counts = np.arange(40)
    np.testing.assert_allclose((a.T @ fg.tensor(counts)).numpy(), a.T @ counts, rtol=1e-12)
    np.testing.assert_array_equal(
        (np.arange(80).reshape(40, 2).T @ fg.tensor(counts)).numpy(), np.arange(80).reshape(40, 2).T @ counts
    )


def test_a_small_part_does_not_keep_what_it_is_part_of_in_memory():
    def f(x, w):
        y = np.tanh(x)
        return y[:, :, :8] @ w

    x, w = draw((20, 30, 100)), draw((20, 8, 5))
    program = fg.compile(f).program(x, w)
    assert steps(program).count("slice") == 1, program
    np.testing.assert_allclose(fg.compile(f)(x, w), f(x, w), rtol=1e-12)


@pytest.mark.parametrize("seed", range(60))
def test_random_products(seed):
    """Any axes, cut and moved, before and after products of all sizes."""
    rng = np.random.default_rng(seed)
    ndim, dtype = int(rng.integers(2, 5)), FLOATS[seed % 2]
    stack = [int(rng.integers(0, 5)) if rng.random() < 0.05 else int(rng.integers(1, 7)) for _ in range(ndim - 2)]
    m, n, k = (int(rng.choice([1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 70, 200, 300])) for _ in range(3))

    def operand(rows, columns, i):
        """An array, and how it becomes one of that many rows and columns."""
        shape = [*(1 if rng.random() < 0.2 else length for length in stack), rows, columns]
        order = tuple(rng.permutation(ndim).tolist())
        starts, steps = rng.integers(0, 3, ndim), rng.choice([1, 1, 1, 2, -1], ndim)
        cuts = tuple(
            slice(int(s) + (length - 1) * abs(int(t)), int(s) - 1 if s else None, int(t)) if t < 0
            else slice(int(s), int(s) + length * int(t), int(t))
            for s, t, length in zip(starts, steps, shape, strict=True)
        )  # fmt: skip
        whole = [int(s) + length * abs(int(t)) for s, t, length in zip(starts, steps, shape, strict=True)]
        cut = rng.random() < 0.5
        x = draw([(whole if cut else shape)[i] for i in np.argsort(order)], dtype, seed + i)
        return x, lambda x: np.transpose(x, order)[cuts] if cut else np.transpose(x, order)

    (a, of_a), (b, of_b) = operand(m, k, 0), operand(k, n, 1)
    back = tuple(rng.permutation(ndim).tolist())

    def f(a, b):
        return np.transpose(of_a(np.sin(a)) @ of_b(b), back) * 2

    got, expected = fg.compile(f)(a, b), f(a.astype(np.float64), b.astype(np.float64))
    assert got.shape == expected.shape
    tolerance = 20 * np.finfo(dtype).eps * (k + 1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
    got = fg.compile(fg.grad(lambda a, b: fg.sum(fg.square(f(a, b))), (0, 1)))(a, b)
    eager = fg.grad(lambda a, b: fg.sum(fg.square(f(a, b))), (0, 1))(a, b)
    for one, other in zip(got, eager, strict=True):
        scale = np.abs(other).max(initial=1)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("m, b, k, n", [(40, 2, 90, 1), (90, 5, 90, 1), (17, 8, 40, 1), (1, 5, 90, 40)])
@pytest.mark.parametrize("equation", ["mbk,knb->nbm", "mbk,bkn->bnm", "mbk,bnk->bmn", "mbk,bnk->bnm"])
def test_thin_products_of_slices_that_would_have_another_kernel(equation, m, b, k, n, dtype):
    """Where these lie they would be products of rows with rows, whose kernel takes whole matrices alone."""
    x, sizes = draw((m, b, k), dtype), {"n": n, "b": b, "k": k}
    w = draw([sizes[axis] for axis in equation[4:7]], dtype, 1)
    found = fg.compile(lambda x, w: np.einsum(equation, np.concatenate([x, x], axis=-1)[..., 1 : k + 1], w))(x, w)
    expected = np.einsum(equation, np.roll(x, -1, axis=-1), w)
    np.testing.assert_allclose(found, expected, atol=200 * np.finfo(dtype).eps * np.abs(expected).max())
