"""einsum and the like, running sums, differences, diagonals, interpolation: values against NumPy, derivatives against
differences, batches against a loop, traces against eager."""

import numpy as np
import pytest
from _oracles import same_bits

import fastgrad as fg

RNG = np.random.default_rng(7)
EINSUM = {
    # subscripts: shapes
    "ij,jk->ik": [(2, 3), (3, 4)], "ij,kj": [(2, 3), (4, 3)], "ji,jk->ki": [(3, 2), (3, 4)],
    "ij,kj->ki": [(2, 3), (4, 3)], "bqd,bkd->bqk": [(2, 3, 4), (2, 5, 4)], "bqk,bkd->bqd": [(2, 3, 5), (2, 5, 4)],
    "bi,bi->b": [(3, 4), (3, 4)], "nchw,oc->nohw": [(2, 3, 2, 2), (4, 3)], "ijk,ilj->lk": [(2, 3, 4), (2, 5, 3)],
    "i,j": [(2,), (3,)], "i,i": [(3,), (3,)], "i,ij,j": [(2,), (2, 3), (3,)], "ii": [(3, 3)], "ii->i": [(3, 3)],
    "iij->ji": [(2, 2, 3)], "iiii->i": [(2, 2, 2, 2)], "iji,jkj->ik": [(2, 3, 2), (3, 4, 3)], "ij->ji": [(2, 3)],
    "ij->": [(2, 3)], "ijk,jl,kl->il": [(2, 3, 4), (3, 5), (4, 5)], "ab,bc,cd,de->ae": [(2, 3), (3, 4), (4, 2), (2, 5)],
    "ij,ij,ij->i": [(2, 3)] * 3, "a,b,c": [(2,), (3,), (2,)], ",ij": [(), (2, 3)], "b a, a -> b": [(2, 3), (3,)],
    "zA": [(2, 3)], "ba,cb": [(2, 3), (4, 2)], "...ij,...jk": [(2, 3, 4), (4, 2)],
    "...ij,...jk->...ik": [(2, 1, 3, 4), (3, 4, 2)], "i...,i...->...": [(3, 2, 1), (3, 2, 4)],
    "...i->i...": [(2, 3, 4)],
    "kij,nkj->nki": [(2, 8, 2), (3, 2, 2)], "ijk,ikl->lij": [(2, 2, 3), (2, 3, 4)], "ib,ib->b": [(3, 2), (3, 2)],
    "bi,bi": [(2, 66), (2, 66)], "ib,bi->b": [(3, 2), (2, 3)],
    "...,...": [(2, 1), (3,)], "ij,jk": [(2, 1), (3, 4)], "...ii->...": [(2, 3, 3)],
}  # fmt: skip
# Each is called with NumPy or fastgrad, and with arrays of these shapes.
CALLS = {
    "cumsum": (lambda m, x: m.cumsum(x), (2, 3)), "cumsum along": (lambda m, x: m.cumsum(x, axis=1), (2, 3, 4)),
    "cumsum of columns": (lambda m, x: m.cumsum(x, 0), (3, 2)), "cumsum from the end": (
        lambda m, x: m.cumsum(x[::-1], axis=0)[::-1], (4, 2)),
    "diff": (lambda m, x: m.diff(x), (2, 4)), "diff twice": (lambda m, x: m.diff(x, 2, axis=0), (4, 2)),
    "diff with ends": (lambda m, x, y: m.diff(x, axis=0, prepend=0.5, append=y), (2, 3), (1, 3)),
    "no diff": (lambda m, x: m.diff(x, n=0), (3,)), "diff of few": (lambda m, x: m.diff(x, 3), (2, 2)),
    "diff of ends alone": (lambda m, x, y: m.diff(x, prepend=y, append=y), (2, 0), (2, 1)),
    "trace": (lambda m, x: m.trace(x), (3, 2)), "traces": (lambda m, x: m.trace(x, 1, axis1=2, axis2=0), (3, 2, 3)),
    "diagonal": (lambda m, x: m.diagonal(x), (3, 4, 2)), "diagonal above": (lambda m, x: m.diagonal(x, 2), (3, 4)),
    "diagonal below": (lambda m, x: m.diagonal(x, -1, axis1=0, axis2=-1), (3, 2, 4)),
    "no diagonal": (lambda m, x: m.diagonal(x, 5), (3, 4)), "last diagonal": (lambda m, x: m.diagonal(x, -2), (3, 4)),
    "diag of a matrix": (lambda m, x: m.diag(x, 1), (3, 4)), "matrix of a diag": (lambda m, x: m.diag(x), (3,)),
    "diag above": (lambda m, x: m.diag(x, 2), (3,)), "diag below": (lambda m, x: m.diag(x, k=-1), (3,)),
    "tril": (lambda m, x: m.tril(x), (3, 4)), "tril of more": (lambda m, x: m.tril(x, -1), (2, 3, 3)),
    "triu": (lambda m, x: m.triu(x, 1), (3, 4)), "triu of more": (lambda m, x: m.triu(x), (2, 4, 3)),
    "tril of a vector": (lambda m, x: m.tril(x), (3,)), "flip": (lambda m, x: m.flip(x), (2, 3)),
    "flip along": (lambda m, x: m.flip(x, axis=(0, -1)), (2, 3, 2)), "roll": (lambda m, x: m.roll(x, 4), (2, 3)),
    "roll along": (lambda m, x: m.roll(x, -1, axis=1), (2, 3)), "roll of none": (lambda m, x: m.roll(x, 1, 0), (0, 2)),
    "rolls": (lambda m, x: m.roll(x, (1, 2), axis=(0, 1)), (2, 3)), "roll twice": (
        lambda m, x: m.roll(x, 1, axis=(0, 1)), (2, 3)),
    "hstack": (lambda m, x, y: m.hstack([x, y]), (2, 3), (2, 1)), "hstack of vectors": (
        lambda m, x, y: m.hstack([x, y, y]), (3,), ()),
    "parts": (lambda m, x: m.split(x, 3, axis=1)[1], (2, 6)), "parts at": (lambda m, x: m.split(x, [1, 4])[-1], (5, 2)),
    "part of a part": (lambda m, x: m.split(x, [-2, 2], -1)[1], (2, 6)),
    "repeat": (lambda m, x: m.repeat(x, 2), (2, 3)),
    "repeat along": (lambda m, x: m.repeat(x, 3, axis=1), (2, 3)), "repeat in turn": (
        lambda m, x: m.repeat(x, [0, 2, 1], axis=-1), (2, 3)),
    "tile": (lambda m, x: m.tile(x, 2), (2, 3)), "tile along": (lambda m, x: m.tile(x, (2, 3)), (2, 1)),
    "tile up": (lambda m, x: m.tile(x, (2, 1, 2)), (3,)), "tile of none": (lambda m, x: m.tile(x, (0, 2)), (2, 3)),
    "vstack": (lambda m, x, y: m.vstack([x, y]), (3,), (2, 3)), "outer": (lambda m, x, y: m.outer(x, y), (2, 2), (3,)),
    "inner": (lambda m, x, y: m.inner(x, y), (2, 3), (4, 2, 3)), "inner of a number": (
        lambda m, x, y: m.inner(x, y), (2, 3), ()),
    "vdot": (lambda m, x, y: m.vdot(x, y), (2, 3), (3, 2)), "dot": (lambda m, x, y: m.dot(x, y), (2, 3), (4, 3, 2)),
    "tensordot": (lambda m, x, y: m.tensordot(x, y), (2, 3, 4), (3, 4, 2)),
    "tensordot of none": (lambda m, x, y: m.tensordot(x, y, 0), (2,), (3, 2)),
    "tensordot over one": (lambda m, x, y: m.tensordot(x, y, axes=(0, -1)), (3, 2), (2, 3)),
    "tensordot over lists": (lambda m, x, y: m.tensordot(x, y, axes=([0, -1], [1, 0])), (3, 2, 4), (4, 3)),
    "tensordot over NumPy's": (lambda m, x, y: m.tensordot(x, y, tuple(np.array([0, -1]))), (3, 2), (2, 3)),
    "interp": (lambda m, x, y: m.interp(x, [-2.0, -0.1, 0.3, 0.9], y), (3, 4), (4,)),
    "interp with ends": (lambda m, x, y: m.interp(x, [-0.5, 0.3], y, left=-1.0, right=x[0]), (5,), (2,)),
    "interp with a period": (lambda m, x, y: m.interp(x, [1.9, -0.2, 3.5], y, -1.0, period=2.5), (5,), (3,)),
    "interp with a period and points": (lambda m, x, y: m.interp([9.1, -7.3], x, y, period=-2.5), (4,), (4,)),
    "interp over points": (lambda m, x, y: m.interp([0.1, 0.6, 3.0], m.cumsum(x * x), y), (4,), (4,)),
    **{f"einsum {s}": (lambda m, *x, s=s: m.einsum(s, *x), *shapes) for s, shapes in EINSUM.items()},
}  # fmt: skip
ROUNDED = ("einsum", "tensordot", "inner", "vdot", "dot", "trace")


def drawn(name, dtype=float):
    f, *shapes = CALLS[name]
    if dtype in (float, np.float32):
        return f, [RNG.normal(size=shape).astype(dtype) for shape in shapes]
    return f, [RNG.integers(-3, 9, size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [float, np.float32, np.int8, np.int64, bool])
@pytest.mark.parametrize("name", CALLS)
def test_values_are_numpys(name, dtype):
    f, args = drawn(name, dtype)
    if dtype is bool and "diff with ends" in name:
        return  # NumPy would subtract booleans from numbers
    expected = f(np, *args)
    for got in (f(fg, *map(fg.tensor, args)), f(np, *map(fg.tensor, args))):
        assert isinstance(got, fg.Tensor) and (got.dtype, got.shape) == (expected.dtype, expected.shape)
        if dtype in (float, np.float32) and name.startswith(ROUNDED):
            eps = np.finfo(dtype).eps
            np.testing.assert_allclose(got.numpy(), expected, rtol=20 * eps, atol=40 * eps)
        else:
            same_bits(got, expected)
    replayed = fg.compile(lambda *args: f(fg, *args))(*args)
    same_bits(np.asarray(replayed, expected.dtype), got.numpy())


@pytest.mark.parametrize("name", CALLS)
def test_derivatives_to_second_order(name):
    f, args = drawn(name)
    if f(np, *args).size:
        fg.check_grads(lambda *args: f(fg, *args) ** 2, tuple(args), order=2)
        gradient = fg.grad(lambda *args: (f(fg, *args) ** 2).sum(), tuple(range(len(args))))
        for got, expected in zip(fg.compile(gradient)(*args), gradient(*args)):
            np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", [float, np.int64])
@pytest.mark.parametrize("name", CALLS)
def test_batches_are_stacked_loops(name, dtype):
    f, args = drawn(name, dtype)
    others = drawn(name, dtype)[1]
    for mapped in range(1, 2 ** len(args)):
        axes = tuple(-1 if mapped >> i & 1 else None for i in range(len(args)))
        batch = [a if axis is None else np.stack([a, b], -1) for a, b, axis in zip(args, others, axes)]
        rows = [f(np, *[a if axis is None else (a, b)[k] for a, b, axis in zip(args, others, axes)]) for k in range(2)]
        got = fg.vmap(lambda *args: f(fg, *args), axes)(*batch)
        np.testing.assert_allclose(got, np.stack(rows), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, axis", [((1000,), 0), ((3, 1000), 1), ((1000, 3), 0), ((5, 70, 33), 1), ((0, 3), 0),
                                         ((3, 0), 0), ((1,), 0), ((2, 1, 3), -2)])  # fmt: skip
def test_running_sums_have_numpys_bits(shape, axis, dtype):
    x = (RNG.normal(size=shape) * 10.0 ** RNG.integers(-9, 9, size=shape)).astype(dtype)
    same_bits(fg.cumsum(x, axis), np.cumsum(x, axis))
    back = tuple(slice(None, None, -1 if k == axis % x.ndim else 1) for k in range(x.ndim))
    pulled = fg.vjp(lambda x: fg.cumsum(x, axis), x)[1](x)[0]
    same_bits(pulled, np.cumsum(x[back], axis)[back])


def test_running_sums_of_special_values():
    for x in ([-0.0, -0.0, 0.0], [np.inf, 1.0, -np.inf, 2.0], [1.0, np.nan, 2.0]):
        columns = np.array([x, x]).T
        with np.errstate(invalid="ignore"):
            same_bits(fg.cumsum(x), np.cumsum(x))
            same_bits(fg.cumsum(columns, 0), np.cumsum(columns, 0))


def test_the_lower_triangle_hides_what_is_not_finite():
    x = np.array([[1.0, np.inf], [np.nan, 2.0]])
    same_bits(fg.tril(x, -1), np.tril(x, -1))
    np.testing.assert_array_equal(fg.grad(lambda x: (fg.triu(x, 2) ** 2).sum())(x), 0)


def test_slopes_of_interpolation():
    xp, fp = np.array([0.0, 1.0, 3.0]), np.array([1.0, 2.0, -2.0])
    slope = fg.elementwise_grad(lambda x: fg.interp(x, xp, fp))
    np.testing.assert_array_equal(slope(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.5])), [0, 1, 1, -2, -2, 0])
    same_bits(fg.interp(np.array([np.nan, 0.5]), xp, fp), np.interp([np.nan, 0.5], xp, fp))
    same_bits(fg.interp(2.0, [1.0], [7.0]), np.asarray(np.interp(2.0, [1.0], [7.0])))
    fg.check_grads(lambda period: fg.interp([9.1, -7.3], xp, fp, period=period), (2.5,), order=2)
    with pytest.raises(ValueError, match="^interp: expected a period that is not 0"):
        fg.interp(1.0, xp, fp, period=0)


@pytest.mark.parametrize("fp", [
    [1.0, -np.inf, 2.0, 3.0], [-np.inf, -np.inf, 0.5, np.inf], [np.nan, 1.0, 2.0, np.nan],
    [np.inf, -np.inf, np.nan, 0.0],
])  # fmt: skip
def test_interpolation_beside_points_that_are_not_finite(fp):
    x, xp = np.array([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, np.nan, np.inf]), [0.0, 1.0, 2.0, 4.0]
    np.testing.assert_array_equal(fg.interp(x, xp, fp).numpy(), np.interp(x, xp, fp))


def test_slopes_beside_a_point_that_is_not_finite():
    xp, fp = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, -np.inf, 2.0])
    got = fg.jacobian(lambda fp: fg.interp([0.5, 1.0, 3.0], xp, fp))(fp)
    np.testing.assert_array_equal(got, [[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def test_einsum_in_other_forms():
    a, b = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 4))
    for f in (fg.einsum, np.einsum):
        for call in ((a, [0, 1], b, [1, 2]), (a, [0, 1], b, [1, 2], [2, 0]), (a, [..., 1], b, [1, 2], [..., 2])):
            got = f(*[fg.tensor(x) if isinstance(x, np.ndarray) else x for x in call])
            np.testing.assert_allclose(got.numpy(), np.einsum(*call), rtol=1e-14)
    c = RNG.normal(size=(4, 2))
    path = np.einsum_path("ij,jk,kl->il", a, b, c)[0]
    for optimize in (True, False, "optimal", "greedy", path):
        got = np.einsum("ij,jk,kl->il", fg.tensor(a), b, c, optimize=optimize)
        np.testing.assert_allclose(got.numpy(), a @ b @ c, rtol=1e-13)
    mixed = fg.einsum("ij,jk", fg.tensor(a, dtype="f4"), b)
    single = fg.einsum("ij,j", fg.tensor(a, dtype="f4"), np.ones(3, "f4"))
    assert (mixed.dtype, single.dtype) == (np.float64, np.float32)


@pytest.mark.parametrize("f", [
    lambda x: fg.einsum("ij", x), lambda x: fg.einsum("ij->ij", x), lambda x: fg.roll(x, 0, 1), lambda x: fg.roll(x, 6),
    lambda x: fg.diff(x, 0), lambda x: fg.flip(x, ()), lambda x: fg.tril(x, 3), lambda x: fg.hstack([x]),
    lambda x: fg.vstack([x]), lambda x: fg.diagonal(x.reshape(1, 2, 3)), lambda x: fg.cumsum(x.reshape(1, 2, 3), 0),
    lambda x: fg.interp(x, [0.0, 9.0], [0.0, 9.0]),
])  # fmt: skip
def test_a_result_is_a_value_of_its_own(f):
    x = fg.tensor(np.arange(6.0).reshape(2, 3))
    y = f(x)
    y += 1
    np.testing.assert_array_equal(x.numpy(), np.arange(6.0).reshape(2, 3))


def test_einsum_multiplies_in_a_cheap_order():
    """From left to right the first product would have a million elements."""
    a, b, c = np.ones((1000, 1)), np.ones((1, 1000)), np.ones((1000, 1))
    program = fg.compile(lambda a, b, c: fg.einsum("ij,jk,kl->il", a, b, c)).program(a, b, c)
    assert program.facts["separate_bytes"] < 100_000


def test_einsum_fuses_short_dot_products_and_lays_products_out_as_the_result():
    x, q = np.ones((500, 4, 9)), np.ones((4, 9, 9))
    dots = str(fg.compile(lambda x: fg.einsum("nki,nki->nk", x, fg.exp(x))).program(x))
    assert "matmul" not in dots and dots.count("fused") == 1, dots
    products = str(fg.compile(lambda q, x: fg.einsum("kij,nkj->nki", q, x)).program(q, x))
    assert "(4, 500, 9)" in next(line for line in products.splitlines() if "matmul" in line), products


def test_einsum_neither_copies_nor_transposes_matrices():
    for subscripts, a, b in [
        ("ij,kj->ik", (3, 4), (5, 4)), ("ji,jk->ik", (4, 3), (4, 5)), ("bij,bkj->bik", (2, 3, 4), (2, 5, 4))
    ]:  # fmt: skip
        program = fg.compile(lambda a, b: fg.einsum(subscripts, a, b)).program(np.ones(a), np.ones(b))
        _, *lines = str(program).splitlines()
        assert len(lines) == 1 and "matmul" in lines[0]


def tracked(t):
    """One whose gradient would be lost where NumPy itself computes."""
    return fg.tensor(t.numpy(), requires_grad=True)


REFUSED = [
    (lambda t: fg.einsum("ij,jk", t), ValueError, "has subscripts for 2 factors, got 1"),
    (lambda t: fg.einsum("ijk", t), ValueError, "'ijk' of 'ijk' names 3 axes of a factor that has 2"),
    (lambda t: fg.einsum("i", t), ValueError, "names 1 axes of a factor that has 2"),
    (lambda t: fg.einsum("ii", t), ValueError, r"'i' of 'ii' has different lengths in shapes \(2, 3\)"),
    (lambda t: fg.einsum("ij,ij", t, t.T), ValueError, "different lengths"),
    (lambda t: fg.einsum("ij->k", t), ValueError, "in the result of 'ij->k' letters of the factors, each once"),
    (lambda t: fg.einsum("ij->ii", t), ValueError, "each once"),
    (lambda t: fg.einsum("...j->j", t), ValueError, "and ... if they have it"),
    (lambda t: fg.einsum("i1", t), ValueError, "expected letters, commas, '...' and one '->'"),
    (lambda t: fg.einsum("ij->->i", t), ValueError, "expected letters"),
    (lambda t: fg.einsum(t, "ij"), TypeError, "expected a string of subscripts first"),
    (lambda t: fg.tensordot(t, t, 3), ValueError, "expected axes of 0 to 2"),
    (lambda t: fg.tensordot(t, t, 1), ValueError,
     r"tensordot: shapes \(2, 3\) and \(2, 3\) do not align: 3 \(axis 1\) is not 2"),
    (lambda t: fg.tensordot(t, t, ([0, 1], [0])), ValueError, "2 axes of the first factor for 1"),
    (lambda t: fg.tensordot(t, t, ([0, 0], [0, 1])), ValueError, "named twice"),
    (lambda t: fg.tensordot(t, t, (0, 1, 2)), ValueError, "expected axes as a number or a pair"),
    (lambda t: fg.einsum("i"), ValueError, "expected factors after the subscripts 'i'"),
    (lambda t: fg.vstack(1.0), TypeError, "vstack: expected a list of arrays, got 1.0"),
    (lambda t: fg.hstack(None), TypeError, "hstack: expected a list of arrays, got None"),
    (lambda t: fg.inner(t, t.T), ValueError, "inner: shapes"),
    (lambda t: fg.cumsum(t, 2), ValueError, "cumsum: axis 2 does not exist"),
    (lambda t: fg.cumsum(t, (0, 1)), TypeError, "cumsum: expected one axis"),
    (lambda t: fg.diff(t, -1), ValueError, "expected n of at least 0"),
    (lambda t: fg.diag(t.reshape(1, 2, 3)), ValueError, "diag: expected a vector or a matrix"),
    (lambda t: fg.diagonal(t, 0, 1, 1), ValueError, "diagonal: axis 1 is named twice"),
    (lambda t: fg.split(t, 4, 1), ValueError, "has length 3, which is not 4 equal parts"),
    (lambda t: fg.split(t, 0), ValueError, "not 0 equal parts"),
    (lambda t: fg.repeat(t, [1, 2], 1), ValueError, "broadcast"),
    (lambda t: fg.repeat(t, -1), ValueError, "at least 0"),
    (lambda t: fg.repeat(t, 1.5), TypeError, "integer"),
    (lambda t: fg.repeat(t, 2**62), ValueError, "more elements than memory can hold"),
    (lambda t: fg.repeat(t, [2**62, 2**62, 2**62], 1), MemoryError, "no memory"),
    (lambda t: fg.tile(t, 1.5), TypeError, "float"),
    (lambda t: fg.tril(t[0, 0]), ValueError, "tril: expected a matrix"),
    (lambda t: fg.interp(t, [0.0, 1.0], [1.0]), ValueError, "two vectors of one length"),
    (lambda t: np.einsum("ij->i", tracked(t), dtype=float), TypeError, "the argument dtype= is not supported"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, text", REFUSED)
def test_what_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call(fg.tensor(np.arange(6.0).reshape(2, 3)))


@pytest.mark.parametrize(
    ("a", "b"), [((700, 3), (700, 3)), ((700, 3), (3,)), ((1, 3), (700, 3)), ((20, 1, 3), (50, 3))]
)
def test_cross_products_of_many_vectors(a, b):
    """Long ones go another way: values, derivatives in both modes and a replay, against NumPy and short ones."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=a), rng.normal(size=b)
    np.testing.assert_array_equal(fg.cross(a, b), np.cross(a, b))
    np.testing.assert_array_equal(fg.compile(lambda a, b: fg.cross(a, b))(a, b), np.cross(a, b))
    g = rng.normal(size=np.cross(a, b).shape)
    f = lambda a, b: fg.sum(fg.cross(a, b) * g)
    by_a, by_b = np.broadcast_arrays(np.cross(b, g), np.cross(g, a))
    for gradient in (fg.grad(f, (0, 1)), fg.compile(fg.grad(f, (0, 1)))):
        for found, whole, x in zip(gradient(a, b), (by_a, by_b), (a, b)):
            lead = tuple(range(whole.ndim - x.ndim))
            kept = tuple(i + len(lead) for i, n in enumerate(x.shape) if n == 1)
            expected = whole.sum(lead + kept, keepdims=True).reshape(x.shape)
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    found = fg.jvp(fg.cross, (a, b), (2 * a, b + 1))[1]
    np.testing.assert_allclose(found, np.cross(2 * a, b) + np.cross(a, b + 1), rtol=1e-12, atol=1e-12)
    moved = fg.cross(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0), axisa=0, axisb=0, axisc=0)
    np.testing.assert_array_equal(moved, np.moveaxis(np.cross(a, b), -1, 0))
