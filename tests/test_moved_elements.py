"""Elements that transposes, slices and gathers move, beside NumPy's: shapes around the lengths of rows, squares and
tiles that csrc/core/strided_copy.c copies in different ways, and keys with an array of integers."""

import itertools
import random

import numpy as np
import pytest

import fastgrad as fg

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "bool"])
@pytest.mark.parametrize("cols", [1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 33])
@pytest.mark.parametrize("rows", [1, 3, 4, 7, 8, 63, 64, 65, 67, 300])
def test_planes(rows, cols, dtype):
    for shape in ((cols, rows), (3, cols, rows), (2, cols, 2, rows), (cols, rows, 2)):
        x = (RNG.normal(size=shape) * 100).astype(dtype)
        for order in itertools.permutations(range(len(shape))):
            np.testing.assert_array_equal(
                np.transpose(fg.asarray(x), order), np.transpose(x, order), err_msg=f"{order}"
            )


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16"])
def test_slices_of_short_rows(dtype):
    x = (RNG.normal(size=(5, 4, 6, 20)) * 100).astype(dtype)
    t = fg.asarray(x)
    for n in (*range(1, 12), 16, 17, 20):
        keys = [(..., slice(0, n)), (slice(1, 4), slice(None, None, 2), slice(1, 5), slice(20 - n, None))]
        keys += [(0, slice(None), 2, slice(0, n)), (slice(None, None, -1), slice(0, 1), ..., slice(0, n))]
        for key in keys:
            np.testing.assert_array_equal(t[key], x[key], err_msg=f"{key}")


def random_key(ndim):
    pool = [slice(None), slice(1, None), slice(None, None, -1), slice(0, 0), None, Ellipsis]
    index = RNG.integers(-3, 3, size=tuple(RNG.integers(0, 4, size=random.randint(1, 2))))
    keys = random.choices(pool, k=random.randint(0, ndim))
    keys.insert(random.randint(0, len(keys)), index)
    return tuple(keys)


def test_keys_with_one_array():
    """Values, gradients and shapes are NumPy's; where NumPy raises, an IndexError is raised."""
    random.seed(0)
    known = 0
    for _ in range(1500):
        x = RNG.normal(size=tuple(RNG.integers(1, 5, size=random.randint(1, 4))))
        key = random_key(x.ndim)
        try:
            expected = x[key]
        except (IndexError, DeprecationWarning):  # NumPy 2.0 only warns of it where the result has no elements
            with pytest.raises((IndexError, DeprecationWarning)):
                fg.tensor(x)[key]
            continue
        np.testing.assert_array_equal(fg.tensor(x)[key], expected, err_msg=f"{x.shape} {key}")
        gradient = np.zeros(x.shape)
        np.add.at(gradient, key, expected)
        found = fg.grad(lambda t, key=key, g=expected: np.sum(t[key] * g))(x)
        np.testing.assert_allclose(found, gradient, 1e-14, err_msg=f"{x.shape} {key}")
        known += 1
    assert known > 500


def test_a_key_with_one_array_has_no_index_of_all_elements():
    index = np.array([[2, 0], [1, 1], [-1, 0]])
    program = fg.compile(lambda x: x[..., index] * 2.0)
    x = RNG.normal(size=(50, 40, 3))
    np.testing.assert_array_equal(program(x), x[..., index] * 2)
    assert program.program(x).facts["constant_bytes"] < 200


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("inner", [1, 2, 3, 5])
@pytest.mark.parametrize("terms", [1, 6, 256, 257, 1000])
def test_one_index_for_a_stack_of_arrays(terms, inner, dtype):
    x = RNG.normal(size=(4, 3, 7, inner)).astype(dtype)
    index = RNG.integers(-7, 7, terms)
    np.testing.assert_array_equal(fg.take(fg.tensor(x), index, axis=2), np.take(x, index, axis=2))
    g = RNG.normal(size=(4, 3, terms, inner)).astype(dtype)
    expected = np.zeros(x.shape)
    np.add.at(expected, (slice(None), slice(None), index), g.astype(float))
    found = fg.grad(lambda x: np.sum(fg.take(x, index, axis=2) * g))(x)
    tolerance = 1e-13 if dtype == "float64" else 3e-5
    np.testing.assert_allclose(found, expected, tolerance, tolerance)


def test_an_index_of_a_stack_out_of_range():
    x, index = fg.tensor(RNG.normal(size=(4, 3))), [0, 3, 5]
    with pytest.raises(IndexError, match="^take: index 3 at position 1 is outside an axis of length 3$"):
        fg.take(x, index, axis=1)
    with pytest.raises(IndexError, match="^take: index 3 at position 1 is outside an axis of length 3$"):
        fg.compile(lambda x, i: fg.take(x, i, axis=1))(x.numpy(), np.array(index))
    untake = fg._core.OP_NUMBERS["untake"]
    with pytest.raises(IndexError, match="^take: index 3 at position 1 is outside an axis of length 3$"):
        fg._core.apply_op(untake, [x, fg.tensor(np.array(index))], (1, 0, 3))
