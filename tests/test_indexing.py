"""``x[key]`` for every kind of key: values as NumPy's, gradients added up where an element was named twice."""

import numpy as np
import pytest
from _errors import raises_text
from _oracles import property_test, same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastgrad as fg

X = np.arange(60.0).reshape(3, 4, 5)
MASK = X % 7 < 3
N = None

BASIC = [
    0, -1, np.int8(2), slice(1, 3), slice(None, None, -1), slice(-1, 0, -2), slice(5, 2), slice(-100, 100), ..., N, (),
    (1, 2), (1, 2, 3), (1, -2, slice(None)), (..., 0), (0, ...), (..., N), (N, ..., N, 1), (slice(None), 1),
    (1, ..., 2),
    (slice(2, None, -1), slice(None, None, 2), slice(None, 0, -3)), (N, 1, N, slice(3, 1, -1), N), (slice(0, 0), 1),
    (slice(None), slice(None), slice(None)), (0, 1, 2, ...), np.array(1), (np.array(1), N, 0), True, False, (True, 1),
    np.True_,
]  # fmt: skip
ADVANCED = [
    [0, 2], [0, 0, 0], [-1, 1], [[0, 1], [2, 0]], [], np.array([2, 0], np.int8), np.array([1, 1], np.uint64),
    np.zeros((2, 0), int), (slice(None), [3, 0, 3]), (..., [4, -5]), ([0, 1], [1, 2]), ([0, 1], [1, 2], [3, 3]),
    ([[0], [2]], [1, 3]), ([0, 1], slice(None), [3, 3]), (slice(None), [0, 1], [1, 1]), (0, [1, 1]), ([1, 1], 0),
    ([0, 1], 2, [3, 4]), (0, slice(None), [1, 2]), (N, [0, 0]), ([0, 0], N), ([0, 1], N, [1, 2]), ([2], ..., [3]),
    (slice(None, None, -1), [0, 3]), (slice(1, 2), [1, 1], 0), MASK, ~MASK & False, MASK[:, :, 0], MASK[:, 0, 0],
    (slice(None), MASK[0]), (MASK[:, 0, 0], [1]), (MASK[:, 0, 0], slice(None), [1, 2]), (0, MASK[0, :, 0]),
    (..., MASK[0, 0]),
    ([True, False, True],), [True, False, True], (N, MASK), (MASK[:, :, 0], N), (MASK[:, :, 0], slice(None, None, 2)),
    (True, [0, 1]), np.array(True), (np.array([0, 2]), np.array([True, False, True, False])),
]  # fmt: skip


def key_id(key):
    return str(key).replace("\n", "").replace("slice", "")[:60]


def check(x, key):
    expected = x[key]
    t = fg.tensor(x, requires_grad=True)
    y = t[key]
    same_bits(y, expected, f"[{key_id(key)}]")
    g = np.arange(1, expected.size + 1, dtype=x.dtype).reshape(expected.shape)
    y.backward(g)
    wanted = np.zeros(x.shape, x.dtype)
    np.add.at(wanted, key, g)
    same_bits(t.grad, wanted, f"gradient of [{key_id(key)}]")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("key", BASIC + ADVANCED, ids=key_id)
def test_values_and_gradients(key, dtype):
    check(X.astype(dtype), key)


@pytest.mark.parametrize("key", BASIC + ADVANCED, ids=key_id)
def test_data_that_carries_no_gradient(key):
    for dtype in (np.bool_, np.int8, np.int64, np.uint16):
        x = X.astype(dtype)
        same_bits(fg.tensor(x)[key], x[key])


@pytest.mark.parametrize("key", [[0, 2, 0], ([0, 1], [1, 1]), MASK, np.array(1)], ids=key_id)
def test_keys_as_tensors(key):
    tensors = tuple(fg.tensor(k) for k in key) if isinstance(key, tuple) else fg.tensor(key)
    same_bits(fg.tensor(X)[tensors], X[key])
    same_bits(fg.tensor(X)[fg.tensor(X) > 30.0], X[X > 30])


def test_a_number_without_axes():
    x = np.array(2.5)
    for key in ((), ..., N, (N, ..., N), True, False, np.array(True)):
        check(x, key)


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3)])
def test_no_elements(shape):
    x = np.zeros(shape)
    for key in (slice(None), slice(None, None, -1), ..., [], N, np.zeros(shape, bool)):
        check(x, key)


def test_rank_32():
    x = np.arange(8.0).reshape(2, *[1] * 30, 4)
    for key in ((..., 1), (1, ..., slice(None, None, -1)), (..., [3, 3]), ([0, 0], ..., 0)):
        check(x, key)


def test_a_slice_of_a_result_and_slices_that_overlap():
    """Cotangents of all parts meet in the tensor they were cut from."""
    x = np.arange(1.0, 7)
    t = fg.tensor(x, requires_grad=True)
    u = t * t
    (u[:4] * u[2:] + u[::-1][:4] + u[[0, 0, 1, 5]]).sum().backward()
    s = x * x
    du = np.zeros(6)
    du[:4] += s[2:]
    du[2:] += s[:4]
    du[2:] += 1
    np.add.at(du, [0, 0, 1, 5], 1)
    np.testing.assert_allclose(t.grad.numpy(), du * 2 * x, rtol=1e-14)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("index", [2, [0, -1, 0], [[1], [1]], [], np.array([1, 0], np.uint8)], ids=str)
def test_take(index, axis):
    expected = np.take(X, np.asarray(index, np.intp), axis)
    for ours in (fg.take(X, index, axis), fg.tensor(X).take(index, axis), np.take(fg.tensor(X), index, axis)):
        same_bits(ours, expected)
    t = fg.tensor(X, requires_grad=True)
    g = np.arange(1.0, expected.size + 1).reshape(expected.shape)
    fg.take(t, index, axis).backward(g)
    numbers = np.take(np.arange(60).reshape(X.shape), np.asarray(index, np.intp), axis)
    same_bits(t.grad, np.bincount(numbers.ravel(), g.ravel(), 60).reshape(X.shape).astype(float))


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_modes_of_take(mode):
    index = np.array([[0, 2], [-1, 1]] if mode == "raise" else [[0, 7], [-1, -9]])
    for axis in (None, 0, -1):
        expected = np.take(X, index, axis, mode=mode)
        replay = fg.compile(lambda x, i, axis=axis: fg.take(x, i, axis, mode=mode))
        for found in (fg.take(X, index, axis, mode=mode), fg.tensor(X).take(index, axis, mode=mode),
                      np.take(fg.tensor(X), index, axis, mode=mode), replay(X, index)):  # fmt: skip
            same_bits(found, expected)
    same_bits(fg.take(3.0, 0, 0, mode=mode), np.take(3.0, 0, 0, mode=mode))
    with pytest.raises(IndexError):
        fg.take(np.zeros(0), [0], mode=mode)
    with pytest.raises(ValueError, match="take: expected the mode"):
        fg.take(X, 0, mode="near")


@property_test
@given(st.data())
def test_any_basic_key(data):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    check(np.arange(1.0, np.prod(shape) + 1).reshape(shape), data.draw(hnp.basic_indices(shape, allow_newaxis=True)))


@property_test
@given(st.data())
def test_any_integer_arrays(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    key = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(min_dims=0, max_dims=2, max_side=3)))
    check(np.arange(1.0, np.prod(shape) + 1).reshape(shape), key)


@pytest.mark.parametrize(
    "key, error, message",
    [
        (3, IndexError, "indexing: index 3 is outside axis 0 of length 3"),
        ((0, -5), IndexError, "indexing: index -5 is outside axis 1 of length 4"),
        ((..., 5), IndexError, "indexing: index 5 is outside axis 2 of length 5"),
        ((0, 0, 0, 0), IndexError, "indexing: 4 indices for a tensor of 3 dimensions"),
        ((..., ...), IndexError, "indexing: an index can hold only one ellipsis (...)"),
        ([0, 3], IndexError, "take: index 3 at position 1 is outside an axis of length 3"),
        (([0, 3], [0, 0]), IndexError, "index 3 is out of bounds for axis 0 with size 3"),
        (([0, 1], [0, 1, 2]), IndexError,
        "shape mismatch: indexing arrays could not be broadcast together with shapes (2,) (3,) "),
        (MASK[:2], IndexError,
         "boolean index did not match indexed array along axis 0; size of axis is 3 but size of corresponding "
                               "boolean axis is 2"),
        (1.0, IndexError, "indexing: expected integers, slices, None, ... or arrays of integers or booleans, got 1.0"),
        ("a", IndexError, "indexing: expected integers, slices, None, ... or arrays of integers or booleans, got 'a'"),
        ((0, [0.5]), IndexError,
         "indexing: expected integers, slices, None, ... or arrays of integers or booleans, got 0.5"),
        (X[0, 0], IndexError, "indexing: expected integers or booleans, got an array of float64"),
        (slice(0, 1, 0), ValueError, "slice step cannot be zero"),
    ],
    ids=key_id,
)  # fmt: skip
def test_error_texts(key, error, message):
    with raises_text(error, message):
        fg.tensor(X)[key]


@pytest.mark.parametrize(
    "length, inner, count", [(1, 1, 1_000_000), (3, 1, 300_000), (1000, 1, 200_000), (2, 5, 100_001)]
)
def test_float32_sums_of_gathered_gradients_are_exact_to_few_bits(length, inner, count):
    """One element read a million times: in turn, such a sum is 0.4 % off."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, length, count)
    index[: count // 2] = 0  # most of them one
    x, g = (
        np.zeros((length, inner), np.float32),
        (np.full((count, inner), 0.1) * rng.uniform(0.5, 1.5, (1, inner))).astype(np.float32),
    )
    expected = np.zeros((length, inner))
    np.add.at(expected, index, g.astype(np.float64))
    grad = fg.grad(lambda x: fg.sum(x[index] * g))
    for found in (grad(x), fg.compile(grad)(x)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=5e-6)
    stacked = fg.vmap(grad)(np.stack([x, x]))
    np.testing.assert_allclose(stacked, np.stack([expected] * 2), rtol=5e-6)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("length, inner, count", [(100_000, 1, 1_000_000), (5000, 4, 500_000), (2000, 300, 20_000)])
def test_float32_sums_of_the_frequent_rows_of_a_large_table(length, inner, count, share):
    """In turn, a million equal terms in one row are 1 % off, however many other rows there are."""
    rng = np.random.default_rng(0)
    index = rng.integers(-length, length, count)
    frequent = rng.random(count) < share
    index[frequent] = rng.choice([3, 3 - length, length - 1], frequent.sum())
    g = np.tile(rng.uniform(0.05, 0.15, inner).astype(np.float32), (count, 1))
    x = np.zeros((length, inner), np.float32)
    grad = fg.grad(lambda x: fg.sum(x[index] * g))
    expected = np.bincount(index % length, minlength=length)[:, None] * g[:1].astype(np.float64)
    found = grad(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(fg.compile(grad)(x), found)


def test_a_table_of_words_as_frequent_as_those_of_a_language():
    rng = np.random.default_rng(0)
    index = np.minimum(rng.zipf(1.2, 1_000_000), 50_000) - 1
    x, g = np.zeros(50_000, np.float32), np.float32(0.1)
    found = fg.grad(lambda x: fg.sum(x[index] * g))(x)
    np.testing.assert_allclose(found, np.bincount(index, minlength=50_000) * np.float64(g), rtol=2e-5)


@pytest.mark.parametrize("inner", [1, 40])
@pytest.mark.parametrize("bad", [5000, -5001, 10**15])
def test_a_frequent_row_outside_of_the_table_is_an_error(inner, bad):
    untake = fg._core.OP_NUMBERS["untake"]
    index = np.zeros(50_000, np.int64)
    index[20_000:] = bad
    g = fg.tensor(np.ones((50_000, inner), np.float32))
    with pytest.raises(IndexError, match=f"index {bad} at position 20000 is outside an axis of length 5000"):
        fg._core.apply_op(untake, [g, fg._core.asarray(index)], (0, 0, 5000))
