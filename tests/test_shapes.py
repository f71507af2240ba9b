"""Functions that only move elements: against NumPy for every dtype; gradients move back the same way."""

import itertools
import math

import numpy as np
import pytest
from _errors import raises_text
from _oracles import gradients, property_test, same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastgrad as fg

AxisError = np.exceptions.AxisError
DTYPES = [np.dtype(c) for c in "fd?bhilBHIL"]
X = np.arange(24.0).reshape(2, 3, 4)

MOVES = {
    # name: the call, with fg or np in the place of m
    "reshape": lambda m, x: m.reshape(x, (4, 6)),
    "reshape, -1": lambda m, x: m.reshape(x, (3, -1)),
    "reshape, number": lambda m, x: m.reshape(x, -1),
    "reshape, rank 32": lambda m, x: m.reshape(x, (1,) * 29 + (2, 3, 4)),
    "ravel": lambda m, x: m.ravel(x),
    "transpose": lambda m, x: m.transpose(x),
    "transpose, axes": lambda m, x: m.transpose(x, (1, 2, 0)),
    "transpose, negative": lambda m, x: m.transpose(x, (-1, 0, -2)),
    "permute_dims": lambda m, x: m.permute_dims(x, (2, 0, 1)),
    "swapaxes": lambda m, x: m.swapaxes(x, 0, -1),
    "swapaxes, same": lambda m, x: m.swapaxes(x, 1, 1),
    "moveaxis": lambda m, x: m.moveaxis(x, 0, -1),
    "moveaxis, several": lambda m, x: m.moveaxis(x, (0, 1), (-1, 0)),
    "moveaxis, NumPy integers": lambda m, x: m.moveaxis(x, np.int64(2), np.int8(-3)),
    "moveaxis, lists": lambda m, x: m.moveaxis(x, [2, 0], [0, 1]),
    "expand_dims, list": lambda m, x: m.expand_dims(x, [0, -1]),
    "squeeze": lambda m, x: m.squeeze(x[:1, :, :1]),
    "squeeze, axis": lambda m, x: m.squeeze(x[:1, :, :1], axis=0),
    "squeeze, axes": lambda m, x: m.squeeze(x[:1, :, :1], axis=(-1, 0)),
    "expand_dims": lambda m, x: m.expand_dims(x, 1),
    "expand_dims, last": lambda m, x: m.expand_dims(x, -1),
    "expand_dims, several": lambda m, x: m.expand_dims(x, (0, 2, -1)),
    "broadcast_to": lambda m, x: m.broadcast_to(x, (5, 2, 3, 4)),
    "broadcast_to, stretched": lambda m, x: m.broadcast_to(x[:, :1], (2, 3, 2, 7, 4)),
    "broadcast_to, nothing": lambda m, x: m.broadcast_to(x[:, :, :1], (2, 3, 0)),
    "concatenate": lambda m, x: m.concatenate([x, x[:1]]),
    "concatenate, axis": lambda m, x: m.concatenate([x, x[..., 1:], x[..., :0]], axis=-1),
    "concatenate, None": lambda m, x: m.concatenate([x, x[0]], axis=None),
    "concat": lambda m, x: m.concat([x, x], axis=1),
    "stack": lambda m, x: m.stack([x[0], x[1], x[0]]),
    "stack, axis": lambda m, x: m.stack([x[0], x[1]], axis=1),
    "stack, last": lambda m, x: m.stack([x[0], x[1]], axis=-1),
    "stack, array": lambda m, x: m.stack(x, axis=2),
    "where": lambda m, x: m.where(np.arange(4) % 2 == 0, x, x[:, :1]),
    "take": lambda m, x: m.take(x, [2, 0, 2], axis=1),
    "take, raveled": lambda m, x: m.take(x, [[5, -1], [5, 0]]),
    "atleast_1d": lambda m, x: m.atleast_1d(x[0, 0, 0]),
    "atleast_2d": lambda m, x: m.atleast_2d(x[0, 0]),
    "atleast_2d, number": lambda m, x: m.atleast_2d(x[0, 0, 0]),
    "atleast_3d": lambda m, x: m.atleast_3d(x[0]),
    "atleast_3d, vector": lambda m, x: m.atleast_3d(x[0, 0]),
    "atleast_3d, nothing to do": lambda m, x: m.atleast_3d(x),
    "matrix_transpose": lambda m, x: m.matrix_transpose(x),
    "rollaxis": lambda m, x: m.rollaxis(x, 2),
    "rollaxis, start": lambda m, x: m.rollaxis(x, 0, 3),
    "rollaxis, negative": lambda m, x: m.rollaxis(x, -1, -2),
    "rollaxis, stays": lambda m, x: m.rollaxis(x, 1, 2),
    "resize, smaller": lambda m, x: m.resize(x, (2, 5)),
    "resize, larger": lambda m, x: m.resize(x, (5, 11)),
    "resize, number": lambda m, x: m.resize(x, 30),
    "resize, nothing": lambda m, x: m.resize(x, (2, 0)),
    "flipud": lambda m, x: m.flipud(x),
    "fliplr": lambda m, x: m.fliplr(x),
    "rot90": lambda m, x: m.rot90(x),
    "rot90, twice": lambda m, x: m.rot90(x, 2),
    "rot90, back": lambda m, x: m.rot90(x, -1),
    "rot90, not at all": lambda m, x: m.rot90(x, 4),
    "rot90, axes": lambda m, x: m.rot90(x, 3, axes=(-1, 0)),
    "broadcast_arrays": lambda m, x: m.broadcast_arrays(x, x[:1, :, :1])[1],
    "tile": lambda m, x: m.tile(x, (2, 1, 2)),
    "roll, several": lambda m, x: m.roll(x, (1, -2), axis=(0, 2)),
    "roll, one for several": lambda m, x: m.roll(x, 1, axis=(1, 2)),
    "roll, several for one": lambda m, x: m.roll(x, (1, 1), axis=1),
}
METHODS = {
    "T": lambda x: x.T, "mT": lambda x: x.mT, "reshape numbers": lambda x: x.reshape(6, -1),
    "reshape tuple": lambda x: x.reshape((6, 4)),
    "ravel": lambda x: x.ravel(), "flatten": lambda x: x.flatten(), "transpose": lambda x: x.transpose(),
    "transpose numbers": lambda x: x.transpose(2, 0, 1), "transpose tuple": lambda x: x.transpose((2, 0, 1)),
    "swapaxes": lambda x: x.swapaxes(0, 2), "squeeze": lambda x: x[:1].squeeze(),
    "squeeze axis": lambda x: x[:1].squeeze(0),
    "take": lambda x: x.take([0, 1], axis=2), "clip": lambda x: x.clip(3, 7), "copy": lambda x: x.copy(),
    "astype": lambda x: x.astype("float32"), "cumsum": lambda x: x.cumsum(), "cumsum axis": lambda x: x.cumsum(1),
    "trace": lambda x: x.trace(1, axis1=2, axis2=0), "diagonal": lambda x: x.diagonal(-1, 0, 2),
    "repeat": lambda x: x.repeat(2, axis=1),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_values_are_numpys_for_every_dtype(name):
    for dtype in DTYPES:
        x = (X % 7).astype(dtype)
        expected = MOVES[name](np, x)
        same_bits(
            MOVES[name](fg, x if "stack" in name or "[" in name else fg.tensor(x)), expected, f"{name} of {dtype}"
        )


def check_movement(f, x):
    """The gradient of a movement: each element receives the cotangents of the places where it went."""
    went = f(np.arange(x.size).reshape(x.shape))
    g = np.arange(1.0, went.size + 1).reshape(went.shape).astype(x.dtype)
    expected = np.bincount(went.ravel().astype(int), g.ravel(), x.size).reshape(x.shape)
    t = fg.tensor(x, requires_grad=True)
    y = f(t)
    y.backward(g)
    same_bits(t.grad, expected.astype(x.dtype))


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_move_back(name, dtype):
    move = MOVES[name]
    check_movement(lambda x: move(fg if isinstance(x, fg.Tensor) else np, x), X.astype(dtype))


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_numpys(name):
    same_bits(METHODS[name](fg.tensor(X)), METHODS[name](X))
    fg.check_grads(METHODS[name], (X + 0.5,))


# Around the squares, the tiles and the limits of csrc/core/strided_copy.c; the last are streamed past the caches.
PLANES = [(8, 8), (7, 9), (9, 33), (31, 66), (65, 130), (64, 128), (129, 257), (3, 300), (1030, 1024), (1040, 515)]


@pytest.mark.parametrize("dtype", [np.dtype(c) for c in "fd?hB"], ids=str)
def test_transposes_of_planes_are_numpys(dtype):
    for shape in PLANES:
        x = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
        same_bits(fg.transpose(x), x.T)
        same_bits(fg.transpose(fg.transpose(x)), x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize(
    "shape", [(3, 9, 70), (9, 3, 70), (70, 9, 8), (2, 17, 3, 34), (33, 1, 9, 12), (64, 128, 130)], ids=str
)
def test_every_order_of_axes_around_the_tiles(shape, dtype):
    x = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    for order in itertools.permutations(range(x.ndim)):
        same_bits(fg.transpose(x, order), x.transpose(order))
    same_bits(fg.matrix_transpose(x[::-1, 1:, ..., ::2]), np.matrix_transpose(x[::-1, 1:, ..., ::2]))
    same_bits(fg.tensor(x.T)[1:, ::-1], x.T[1:, ::-1])


def test_a_tensor_that_a_movement_made_is_a_value_of_its_own():
    """Changing it in place never shows in the tensor it came from, nor the other way round."""
    for make in (lambda t: t.reshape(3, 2), lambda t: t.T, lambda t: t[:1], lambda t: t.ravel(), lambda t: t.copy()):
        t = fg.tensor([[1.0, 2, 3], [4, 5, 6]])
        part = make(t)
        kept = part.numpy().copy()
        part += 10
        same_bits(t, np.array([[1.0, 2, 3], [4, 5, 6]]))
        same_bits(part, kept + 10)
        t *= 0
        same_bits(part, kept + 10)


def test_several_arrays_at_once():
    for f in ("atleast_1d", "atleast_2d", "atleast_3d"):
        ours, theirs = getattr(fg, f)(1.0, [1.0, 2.0], X), getattr(np, f)(1.0, [1.0, 2.0], X)
        assert isinstance(ours, tuple) and len(ours) == 3
        for a, b in zip(ours, theirs):
            same_bits(a, b)
    for a, b in zip(fg.broadcast_arrays(X, 1.0, X[0, :, :1]), np.broadcast_arrays(X, 1.0, X[0, :, :1])):
        same_bits(a, b)
    assert fg.broadcast_shapes((3, 1), (2, 1, 4), 4) == (2, 3, 4)
    same_bits(fg.resize(np.zeros(0), (2, 3)), np.zeros((2, 3)))


def test_shapes_of_a_number():
    x = fg.tensor(2.5)
    assert [f.shape for f in (x.T, x.reshape(1, 1), x.ravel(), fg.squeeze(x), fg.expand_dims(x, 0),
        fg.broadcast_to(x, (2, 0)))] == [
        (), (1, 1), (1,), (), (1,), (2, 0)]  # fmt: skip
    assert fg.stack([x, x]).shape == (2,)


def test_broadcasting_ranks_up_to_32():
    shape = (2, *[1] * 30, 3)
    x = np.arange(6.0).reshape(shape)
    y = np.arange(2.0).reshape((2, *[1] * 15))
    same_bits(fg.add(x, y), x + y)
    fg.check_grads(fg.multiply, (x, y + 1))
    same_bits(fg.transpose(x), x.T)
    with pytest.raises(ValueError, match="at most 32 axes"):
        fg.expand_dims(fg.tensor(x), 0)
    with pytest.raises(ValueError, match="at most 32 axes"):
        fg.tensor(np.zeros((1,) * 33))


@st.composite
def shape_and_permutation(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4))
    return shape, tuple(draw(st.permutations(range(len(shape)))))


@property_test
@given(shape_and_permutation())
def test_any_transposition(case):
    shape, order = case
    check_movement(lambda x: x.transpose(order), np.ones(shape))
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    same_bits(fg.transpose(x, order), x.transpose(order))
    same_bits(fg.reshape(fg.transpose(x, order), shape), x.transpose(order).reshape(shape))


@property_test
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=5, min_side=0, max_side=4))
def test_any_shapes_that_broadcast(shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in shapes.input_shapes]
    a, b, c = arrays
    same_bits(fg.add(fg.multiply(a, b), c), a * b + c)
    same_bits(fg.where(a > 0, b, c), np.where(a > 0, b, c))
    g = rng.normal(size=shapes.result_shape)
    got = gradients(lambda a, b, c: a * b + c, *arrays, cotangent=g)
    for grad, full, x in zip(got, (g * b, g * a, g), arrays):
        full = np.broadcast_to(full, shapes.result_shape)
        lead = full.ndim - x.ndim
        axes = tuple(i for i in range(full.ndim) if i < lead or x.shape[i - lead] == 1)
        np.testing.assert_allclose(grad, full.sum(axis=axes, keepdims=True).reshape(x.shape), rtol=1e-12, atol=1e-12)


@property_test
@given(st.data())
def test_any_concatenation(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for k, n in enumerate(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))):
        part = list(shape)
        part[axis] = n
        parts.append(np.full(part, float(k)))
    expected = np.concatenate(parts, axis)
    same_bits(fg.concatenate(parts, axis), expected)
    g = np.arange(1.0, expected.size + 1).reshape(expected.shape)
    at = np.cumsum([0] + [p.shape[axis] for p in parts])
    for k, got in enumerate(gradients(lambda *t: fg.concatenate(t, axis), *parts, cotangent=g)):
        same_bits(got, np.take(g, range(at[k], at[k + 1]), axis))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fg.reshape(X, (5, 5)), ValueError, "reshape: shape (2, 3, 4) has 24 elements, (5, 5) would have 25"),
        (lambda: fg.reshape(X, (5, -1)), ValueError,
        "reshape: 24 elements of shape (2, 3, 4) do not fill the shape (5, -1) evenly"),
        (lambda: fg.reshape(X, (-1, -1)), ValueError,
         "reshape: expected lengths that are 0 or more and at most one -1, got (-1, -1)"),
        (lambda: fg.reshape(X, (2.0, 12)), TypeError,
         "reshape: expected a shape as an int or a tuple of ints, got (2.0, 12)"),
        (lambda: fg.transpose(X, (0, 1)), ValueError,
        "transpose: expected each axis of shape (2, 3, 4) once, got the axes (0, 1)"),
        (lambda: fg.transpose(X, (0, 1, 1)), ValueError,
        "transpose: expected each axis of shape (2, 3, 4) once, got the axes (0, 1, 1)"),
        (lambda: fg.transpose(X, (0, 1, 3)), AxisError, "transpose: axis 3 does not exist in a tensor of 3 dimensions"),
        (lambda: fg.swapaxes(X, 0, 3), AxisError, "swapaxes: axis 3 does not exist in a tensor of 3 dimensions"),
        (lambda: fg.moveaxis(X, (0, 1), 0), ValueError, "moveaxis: 2 source axes for 1 destinations"),
        (lambda: fg.moveaxis(X, -4, 0), AxisError, "moveaxis: axis -4 does not exist in a tensor of 3 dimensions"),
        (lambda: fg.rollaxis(X, 3), AxisError, "rollaxis: axis 3 does not exist in a tensor of 3 dimensions"),
        (lambda: fg.rollaxis(X, 0, 4), AxisError, "rollaxis: expected start from -3 to 3, got 4"),
        (lambda: fg.matrix_transpose(X[0, 0]), ValueError,
         "matrix_transpose: expected at least 2 dimensions, got shape (4,)"),
        (lambda: fg.flipud(1.0), ValueError, "flipud: expected at least 1 dimension, got shape ()"),
        (lambda: fg.fliplr(X[0, 0]), ValueError, "fliplr: expected at least 2 dimensions, got shape (4,)"),
        (lambda: fg.rot90(X, axes=(0, 0)), ValueError, "rot90: axis 0 is named twice in (0, 0)"),
        (lambda: fg.rot90(X, axes=(0, 1, 2)), ValueError, "rot90: expected two axes, got (0, 1, 2)"),
        (lambda: fg.resize(X, (2, -1)), ValueError, "resize: expected lengths that are 0 or more, got (2, -1)"),
        (lambda: fg.squeeze(X, 1), ValueError, "squeeze: axis 1 of shape (2, 3, 4) has length 3, not 1"),
        (lambda: fg.expand_dims(X, 4), AxisError, "expand_dims: axis 4 does not exist in a tensor of 4 dimensions"),
        (lambda: fg.broadcast_to(X, (2, 3, 5)), ValueError,
         "broadcast_to: shape (2, 3, 4) does not stretch to (2, 3, 5): aligned at the last axis, each length must be 1 "
         "or that of the target"),
        (lambda: fg.broadcast_to(X, (3, 4)), ValueError,
         "broadcast_to: shape (2, 3, 4) does not stretch to (3, 4): aligned at the last axis, each length must be 1 or "
         "that of the target"),
        (lambda: fg.concatenate([]), ValueError, "concatenate: expected at least one array, got none"),
        (lambda: fg.concatenate([X, X[0]]), ValueError,
         "concatenate: input 0 has shape (2, 3, 4), input 1 has (3, 4): all lengths but that of axis 0 must agree"),
        (lambda: fg.concatenate([X, X[:, :2]], axis=2), ValueError,
         "concatenate: input 0 has shape (2, 3, 4), input 1 has (2, 2, 4): all lengths but that of axis 2 must agree"),
        (lambda: fg.concatenate([X], axis=3), AxisError,
         "concatenate: axis 3 does not exist in a tensor of 3 dimensions"),
        (lambda: fg.concatenate([1.0, 2.0]), AxisError,
         "concatenate: axis 0 does not exist in a tensor of 0 dimensions"),
        (lambda: fg.stack([]), ValueError, "stack: expected at least one array, got none"),
        (lambda: fg.stack([X, X[0]]), ValueError,
         "stack: input 0 has shape (2, 3, 4), input 1 has (3, 4); all must be the same"),
        (lambda: fg.tensor(1.0).mT, ValueError, "mT: expected at least 2 dimensions, got shape ()"),
        (lambda: fg.add(X, X[:, :2]), ValueError,
         "add: shapes (2, 3, 4) and (2, 2, 4) do not broadcast: axis -2 has lengths 3 and 2, which must be equal or "
         "one of them 1. Use reshape or expand_dims to line the axes up"),
        (lambda: fg.where(X > 0, X[:, :2], X), ValueError,
         "where: shapes (2, 2, 4) and (2, 3, 4) do not broadcast: axis -2 has lengths 2 and 3, which must be equal or "
         "one of them 1. Use reshape or expand_dims to line the axes up"),
        (lambda: fg.take(X, [0.5]), TypeError, "take: expected integer indices, got float64"),
        (lambda: fg.take(X, [0, 3], axis=1), IndexError, "take: index 3 at position 1 is outside an axis of length 3"),
        (lambda: fg.take(X, [-25]), IndexError, "take: index -25 at position 0 is outside an axis of length 24"),
        (lambda: fg.take(X, [0], axis=3), AxisError, "take: axis 3 does not exist in a tensor of 3 dimensions"),
    ],
)  # fmt: skip
def test_error_texts(call, error, message):
    with raises_text(error, message):
        call()


@pytest.mark.parametrize("integer", [np.uint8, np.uint64, np.int8, np.int64, int])
def test_integer_parameters_of_every_type(integer):
    """Unsigned integers wrap around where they are negated: parameters are Python ints first."""
    n, x, rows = integer(2), np.arange(12.0).reshape(3, 4), np.array([[1, 2, 3], [4, 5, 6]])
    for ours, theirs in (
        (fg.roll(rows, n), np.roll(rows, 2)), (fg.roll(x, n, 1), np.roll(x, 2, 1)),
        (fg.roll(x, (n, n), (0, 1)), np.roll(x, (2, 2), (0, 1))),
        (fg.roll(x, np.array([2, 1], np.uint8), (0, 1)), np.roll(x, (2, 1), (0, 1))), (fg.tril(x, n), np.tril(x, 2)),
        (fg.triu(x, n), np.triu(x, 2)), (fg.diag(x, n), np.diag(x, 2)), (fg.diagonal(x, n), np.diagonal(x, 2)),
        (fg.trace(x, n), np.trace(x, 2)), (fg.eye(4, k=n), np.eye(4, k=2)), (fg.diff(x, n), np.diff(x, 2)),
        (fg.repeat(x, n, 1), np.repeat(x, 2, 1)), (fg.tile(x, n), np.tile(x, 2)),
        (fg.round(x / 7, n), np.round(x / 7, 2)), (fg.var(x, ddof=integer(13)), np.inf),
        (fg.std(x, 0, ddof=n), np.std(x, 0, ddof=2)), (fg.sum(x[None], n), np.sum(x[None], 2)),
        (fg.swapaxes(x[None], n, integer(0)), np.swapaxes(x[None], 2, 0)), (fg.flip(x[None], n), np.flip(x[None], 2)),
        (fg.moveaxis(x[None], n, integer(0)), np.moveaxis(x[None], 2, 0)), (fg.stack([x, x], n), np.stack([x, x], 2)),
        (fg.split(x, n, integer(1))[1], np.split(x, 2, 1)[1]), (fg.cumsum(x[None], n), np.cumsum(x[None], 2)),
        (fg.expand_dims(x, n), np.expand_dims(x, 2)), (fg.tensordot(x, x, n), np.tensordot(x, x, 2)),
        (fg.reshape(x, (n, -1)), x.reshape(2, -1)),
        (fg.concatenate([x[None]] * 2, n), np.concatenate([x[None]] * 2, 2)),
        (fg.tensor(x)[n], x[2]), (fg.tensor(x)[n:], x[2:]), (fg.linspace(0, 1, n), np.linspace(0, 1, 2)),
    ):  # fmt: skip
        np.testing.assert_array_equal(np.asarray(ours), theirs)
    for wrong in (2.0, np.float64(2), "2", None):
        for call in (lambda: fg.roll(rows, wrong), lambda: fg.round(x, wrong), lambda: fg.tril(x, wrong)):
            with pytest.raises(TypeError):
                call()


# ---- windows ---------------------------------------------------------------------------------------------------------
IMAGES = np.sin(np.arange(120.0)).reshape(2, 3, 4, 5)


@pytest.mark.parametrize(
    "window, axis",
    [((2, 1, 3, 2), None), (3, -1), ((2, 3), (2, 3)), ((2, 3), (3, 3)), ((0,), (1,)), (4, 2), ((), ())],
)
def test_windows_are_those_of_numpy(window, axis):
    expected = np.lib.stride_tricks.sliding_window_view(IMAGES, window, axis)
    for windows in (fg.sliding_window_view, np.lib.stride_tricks.sliding_window_view):
        x = fg.tensor(IMAGES, requires_grad=True)
        y = windows(x, window, axis)
        np.testing.assert_array_equal(y.detach().numpy(), expected)
        y.backward(weights := np.cos(np.arange(float(y.size)).reshape(y.shape)))
        read = np.zeros(IMAGES.size)  # each element gets the weights of all windows that read it
        places = np.lib.stride_tricks.sliding_window_view(np.arange(IMAGES.size).reshape(IMAGES.shape), window, axis)
        np.add.at(read, places.ravel(), weights.ravel())
        np.testing.assert_allclose(x.grad.ravel(), read, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(fg.compile(lambda t: fg.sliding_window_view(t, window, axis))(IMAGES), expected)
    if axis is not None and min(np.atleast_1d(axis), default=0) >= 0:
        stack = np.stack([IMAGES, IMAGES + 1])
        mapped = fg.vmap(lambda t: fg.sliding_window_view(t, window, axis))(stack)
        np.testing.assert_array_equal(mapped, np.stack([expected, expected + 1]))


def test_windows_give_a_convolution_of_images():
    signal = pytest.importorskip("scipy.signal")
    image, kernel = IMAGES.reshape(10, 12), np.array([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]])

    def convolved(x, k):
        return fg.einsum("ijkl,kl->ij", fg.sliding_window_view(x, k.shape), k[::-1, ::-1])

    np.testing.assert_allclose(
        convolved(image, kernel).numpy(), signal.convolve2d(image, kernel, mode="valid"), rtol=1e-12, atol=1e-14
    )
    fg.check_grads(lambda x, k: fg.sum(convolved(x, k) ** 2), (image, kernel), order=2)


def test_windows_that_there_are_not():
    with pytest.raises(ValueError, match="expected a window of 0 to 5 elements along axis 3, got 6$"):
        fg.sliding_window_view(IMAGES, 6, -1)
    with pytest.raises(ValueError, match="expected a window of 0 to 3 elements along axis 1, got -1$"):
        fg.sliding_window_view(IMAGES, -1, 1)
    with pytest.raises(ValueError, match="expected a length for each of 4 axes, got 2$"):
        fg.sliding_window_view(IMAGES, 2)
    with pytest.raises(np.exceptions.AxisError, match="^sliding_window_view: axis 4 "):
        fg.sliding_window_view(IMAGES, 2, 4)
