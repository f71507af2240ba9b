"""A tensor as something else: an ndarray, a buffer, a number, a text, a copy. A gradient is never lost silently."""

import copy
import math
import operator
import pickle

import numpy as np
import pytest
from _oracles import same_bits
from _samples import X, tracked

import fastgrad as fg


# ---- ndarrays, buffers, DLPack --------------------------------------------------------------------------------------
@pytest.mark.parametrize("convert",
    [np.asarray, np.array, np.ascontiguousarray, np.asanyarray, lambda t: np.asarray(t, "f4"),
                                     lambda t: np.array([t, t]), lambda t: np.zeros(6).reshape(2, 3) + np.asarray(t),
                                     lambda t: np.zeros((2, 3)).__setitem__(..., t)])  # fmt: skip
def test_a_tracked_tensor_does_not_become_an_ndarray(convert):
    for t in (tracked(), tracked() * 2):
        with pytest.raises(
            TypeError, match="^numpy.array or asarray: this tensor requires gradients, which an ndarray would"
        ):
            convert(t)


def test_a_constant_tensor_becomes_an_ndarray_without_a_copy():
    t = fg.tensor(X)
    a = np.asarray(t)
    assert np.shares_memory(a, t.numpy())
    assert not a.flags.writeable
    same_bits(np.array(t), X)
    assert np.array(t).flags.writeable
    same_bits(np.asarray(t, "f4"), X.astype("f4"))
    same_bits(np.asarray(t, copy=True), X)
    assert np.shares_memory(np.asarray(t, copy=False), t.numpy())
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, "f4", copy=False)


def test_numpy_is_a_read_only_view_that_outlives_the_tensor():
    t = tracked()
    a = t.numpy()
    with pytest.raises(ValueError):
        a[0, 0] = 1
    del t
    same_bits(a, X)


def test_an_element_that_cannot_be_set_says_why():
    v = np.ones(3)

    def f(x):
        v[1] = x
        return x

    with pytest.raises(
        TypeError, match=r"^float: a tensor that is being differentiated .* instead of a\[i\] = x in an ndarray"
    ):
        fg.grad(f)(2.0)
    with pytest.raises(TypeError, match="cannot be .* by float|value of a tensor|float|number"):
        fg.compile(f)(2.0)
    assert v.tolist() == [1, 1, 1]


def test_an_ndarray_does_not_take_the_number_of_a_tensor_that_requires_gradients():
    """Outside of transforms, where ``float`` of it is a number. NumPy asks for an element as ``float`` does."""
    t = fg.tensor(2.0, requires_grad=True)
    arrays = [np.zeros(3), np.zeros(3, np.float32), np.zeros(3, int), np.zeros(3, complex), np.zeros((3, 1))[:, 0]]
    for v in arrays:
        for x in (t, t * 1, fg.sum(t)):
            with pytest.raises(TypeError, match=r"^a\[i\] = x: .* write a = fastgrad.asarray\(a\).at\[i\].set\(x\)"):
                v[1] = x
            if v.dtype != complex:  # a complex number and a tensor have no sum
                with pytest.raises(TypeError, match=r"^a\[i\] = x: "):
                    v[0] += x
        assert v.tolist() == [0, 0, 0]
        v[0], v[1], v[2] = t.item(), float(t), t.detach()
        assert v.tolist() == [2, 2, 2]
    kept = {}
    kept["loss"] = [t]  # what is no array of numbers keeps the tensor
    assert kept["loss"][0] is t and [float(t), int(t), complex(t), math.sqrt(t)] == [2, 2, 2, math.sqrt(2)]


ALL_DTYPES = [np.dtype(c) for c in "?bhilBHILfd"]


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (30, 40)], ids=str)
def test_buffer_and_dlpack(shape, dtype):
    """Both ways with NumPy, and the memory is one, not a copy."""
    x = np.asarray(np.arange(math.prod(shape)).reshape(shape) % 2, dtype)
    t = fg.tensor(x)
    view = memoryview(t)
    assert view.readonly
    same_bits(np.asarray(view), x)
    there = np.from_dlpack(t)
    same_bits(there, x)
    assert t.__dlpack_device__() == (1, 0)
    back = fg.from_dlpack(x)
    same_bits(back, x)
    same_bits(fg.from_dlpack(t), x)
    if x.size:
        assert np.shares_memory(there, t.numpy()) and np.shares_memory(np.asarray(view), t.numpy())
    if x.size > 1:
        assert np.shares_memory(back.numpy(), x)
    del t
    same_bits(there, x)
    same_bits(np.asarray(view), x)


def test_dlpack_of_other_layouts():
    x = np.arange(24.0).reshape(4, 6)
    same_bits(fg.from_dlpack(x[::2, 1::2]), x[::2, 1::2])
    same_bits(fg.from_dlpack(x.T), x.T)


def test_a_tracked_tensor_hands_out_no_memory():
    for t in (tracked(), tracked() + 1):
        with pytest.raises(BufferError, match="requires gradients has no buffer to hand out"):
            memoryview(t)
        with pytest.raises(BufferError, match="requires gradients cannot be exported by DLPack; use .detach"):
            np.from_dlpack(t)
        same_bits(np.from_dlpack(t.detach()), t.numpy())


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_pickle_and_copy(dtype):
    x = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    for t in [fg.tensor(x, requires_grad=leaf) for leaf in (False, True)[: 1 + (dtype.kind == "f")]]:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(t, protocol))
            same_bits(again, x)
            assert again.requires_grad == t.requires_grad
        for make in (copy.copy, copy.deepcopy):
            again = make(t)
            same_bits(again, x)
            assert again is not t and not np.shares_memory(again.numpy(), t.numpy())


def test_a_result_cannot_be_pickled():
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(
            TypeError, match="only a tensor that no recorded operation made can be copied or pickled; use .detach"
        ):
            call(tracked() * 2)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: fg.tensor([1.0, 2.5]), "tensor([1. , 2.5])"), (lambda: fg.tensor(2.0), "tensor(2.)"),
        (lambda: fg.tensor(3), "tensor(3)"), (lambda: fg.tensor([True]), "tensor([ True])"),
        (lambda: fg.tensor([1.0], dtype="f4"), "tensor([1.], dtype=float32)"),
        (lambda: fg.tensor([1], dtype="u1"), "tensor([1], dtype=uint8)"),
        (lambda: fg.tensor([]), "tensor([])"), (lambda: fg.zeros((0, 3)), "tensor([], shape=(0, 3))"),
        (lambda: fg.tensor([[1.0], [2.0]]), "tensor([[1.],\n        [2.]])"),
        (lambda: fg.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: fg.tanh(fg.tensor([0.0], "f4", requires_grad=True)), "tensor([0.], dtype=float32, op=tanh)"),
        (lambda: fg.tensor(np.arange(2000)), "tensor([   0,    1,    2, ..., 1997, 1998, 1999])"),
    ],
)  # fmt: skip
def test_repr(make, text):
    assert repr(make()) == text
    assert str(make()) == text


def test_format():
    assert f"{fg.tensor(2.0):.3f}" == "2.000"
    assert f"{fg.tensor([1.0, 2.0])}" == "tensor([1., 2.])"
    assert format(fg.tensor([3]), "d") == "3"
    with pytest.raises(
        TypeError, match=r"^format '.3f': expected a tensor of one element, got shape \(2,\); use .tolist"
    ):
        format(fg.tensor([1.0, 2.0]), ".3f")


def test_python_numbers():
    assert float(fg.tensor([[2.5]])) == 2.5 and int(fg.tensor(2.5)) == 2 and complex(fg.tensor(2.5)) == 2.5 + 0j
    assert operator.index(fg.tensor(3)) == 3 and [10, 20, 30][fg.tensor(1)] == 20 and math.sqrt(fg.tensor(4.0)) == 2
    for dtype in ALL_DTYPES:
        item = fg.tensor(np.array([1], dtype)).item()
        assert (item, type(item)) == (1, type(np.array([1], dtype).item()))
        assert fg.tensor(np.array([[1, 0]], dtype)).tolist() == np.array([[1, 0]], dtype).tolist()
    assert fg.tensor(2.5).tolist() == 2.5
    assert float(tracked(2.5)) == 2.5 and tracked(2.5).item() == 2.5
    for f in (float, int, complex, operator.index):
        with pytest.raises((TypeError, ValueError)):
            f(fg.tensor([1, 2]))
    for f in (operator.index, lambda t: [1, 2][t], range):
        with pytest.raises(TypeError):
            f(fg.tensor(1.0))


def test_truth():
    assert fg.tensor(1.0) and not fg.tensor([0]) and fg.tensor([[True]])
    for t in (fg.tensor([1.0, 2.0]), fg.zeros(0)):
        with pytest.raises(
            ValueError, match=r"^the truth value of a tensor of shape \([02],\) is ambiguous; use .any\(\) or .all\(\)$"
        ):
            bool(t)


def test_length_iteration_and_membership():
    t = tracked()
    assert len(t) == 2 and [len(r) for r in t] == [3, 3]
    same_bits(fg.stack(list(t)), X)
    a, b = t
    (a * b).sum().backward()
    same_bits(t.grad, X[::-1])
    assert 0.5 in t and 7.0 not in t
    assert 2.0 in fg.tensor(2.0) and "a" not in fg.tensor(2.0) and "a" not in t
    assert list(fg.zeros((0, 2))) == []
    for f in (len, iter, list):
        with pytest.raises(TypeError, match="(of|over) a tensor without axes$"):
            f(fg.tensor(1.0))


def test_attributes():
    t = fg.tensor(np.zeros((2, 3), "f4"))
    assert (t.shape, t.dtype, t.ndim, t.size, t.itemsize, t.nbytes) == ((2, 3), np.float32, 2, 6, 4, 24)
    assert (t.T.shape, t.mT.shape, t.requires_grad, t.grad, t.is_leaf) == ((3, 2), (3, 2), False, None, True)
    for name in ("shape", "dtype", "T", "is_leaf", "anything"):
        with pytest.raises(AttributeError):
            setattr(t, name, 1)


def test_inside_a_transform_a_tensor_does_not_silently_become_a_number():
    for f in (float, int, complex, math.tanh):
        with pytest.raises(TypeError, match="a tensor that is being differentiated would silently become a constant"):
            fg.grad(lambda x: x * f(x))(1.5)


def test_round_format_and_item_of_tensors():
    x = fg.tensor(2.5671, requires_grad=True)
    assert round(x.detach(), 3).item() == 2.567 and round(fg.tensor(-2.5)) == -2 and type(round(fg.tensor(3.5))) is int
    assert round(fg.tensor([1234, 5678]), -2).tolist() == [1200, 5700]
    assert fg.grad(lambda x: x * round(x, 1))(2.5671) == 2.6
    seen = []
    fg.grad(lambda x: (seen.append(f"{x:.2f}"), x * x)[1])(2.5671)
    assert seen == ["2.57"] and f"{x:.2f}" == "2.57" and f"{x:8.3e}" == "2.567e+00"
    y = fg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (y.item(0), y.item(-1), y.item(1, 0), y.item((0, 1))) == (1, 4, 3, 2)
    with pytest.raises(IndexError):
        y.item(4)
    with pytest.raises(TypeError, match="^item: a tensor that is being differentiated"):
        fg.grad(lambda x: x.item(0))(np.ones(2))
    np.testing.assert_array_equal(np.conjugate(fg.tensor([True, False])), np.conjugate(np.array([True, False])))
