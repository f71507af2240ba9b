"""Changes in place of memory that is shared: between tensors, with ndarrays behind `asarray`, through DLPack, by
optimizers' kernels. The gradient is right, or there is an error where the tape holds memory that others change."""

import ctypes
import operator

import numpy as np
import pytest
from _inplace import OPERATORS, OUT_OF_PLACE, A, B, leaf, sgd
from _oracles import sgd_numbers
from _samples import NUMPY_2_0

import fastgrad as fg
from fastgrad import _core

# ---- which tensors a change reaches ----------------------------------------------------------------------------------
DERIVED = {
    "detach": lambda x: x.detach(), "reshape": lambda x: x.reshape(3, 1), "ravel": lambda x: x.ravel(),
    "x[:]": lambda x: x[:], "x[...]": lambda x: x[...], "T": lambda x: x.T, "squeeze": lambda x: x.squeeze(),
    "x[None]": lambda x: x[None], "transpose": lambda x: x.transpose(0), "+x": lambda x: +x, "copy": lambda x: x.copy(),
    "astype": lambda x: x.astype(x.dtype), "broadcast_to": lambda x: fg.broadcast_to(x, (3,)),
    "concatenate": lambda x: fg.concatenate([x]), "stop_gradient": fg.stop_gradient,
}  # fmt: skip


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("by", ["operator", "optimizer"])
@pytest.mark.parametrize("changes", ["the tensor", "what was made of it"])
def test_what_is_made_of_a_tensor_is_a_value_of_its_own(name, by, changes):
    x = fg.tensor(A)
    derived = DERIVED[name](x)
    one, other = (x, derived) if changes == "the tensor" else (derived, x)
    if by == "operator":
        one += 1
    else:
        sgd(one, np.full(one.shape, -10.0), 0.1)
    np.testing.assert_allclose(one.numpy().ravel(), A + 1)
    assert other.numpy().ravel().tolist() == A.tolist()


@pytest.mark.parametrize("name", DERIVED)
def test_the_gradient_is_right_or_refused_when_what_was_made_of_a_tensor_changes(name):
    x = leaf()
    y = x * 1.0
    derived = DERIVED[name](y)
    loss = (y * y).sum() + (fg.exp(derived)).sum()
    with fg.no_grad():
        derived *= 3.0
    cut = name in ("detach", "stop_gradient")
    try:
        loss.backward()
    except RuntimeError as error:
        assert "changed in place" in str(error)
    else:
        np.testing.assert_allclose(x.grad.numpy(), 2 * A + (0 if cut else np.exp(A)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_a_numpy_view_sees_in_place_changes(dtype):
    x = fg.tensor([1, 2, 3], dtype)
    view, buffer, array = x.numpy(), memoryview(x), np.asarray(x)
    x += 1
    x *= 2
    assert view.tolist() == buffer.tolist() == array.tolist() == [4, 6, 8]
    assert np.shares_memory(view, x.numpy())


def test_a_numpy_view_cannot_be_written():
    x = fg.tensor(A)
    for view in (x.numpy(), np.asarray(x), np.asarray(memoryview(x)), x.numpy()[1:], x.numpy().T):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True


def test_a_numpy_view_outlives_its_tensor():
    view = fg.tensor(A).numpy()[::-1]
    filler = [fg.tensor(B) for _ in range(100)]
    assert view.tolist() == A[::-1].tolist() and len(filler) == 100


@pytest.mark.parametrize("size", [3, 1000])
def test_asarray_shares_memory_both_ways(size):
    memory = np.arange(float(size))
    x = fg.asarray(memory)
    memory += 1
    assert x.tolist() == memory.tolist()
    x *= 2
    assert x.tolist() == memory.tolist()
    with np.errstate(all="raise"):
        x += x
    assert x.tolist() == memory.tolist() == (4 * np.arange(1.0, size + 1)).tolist()


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shift", [-1, 1, 0, 7])
def test_operands_that_overlap(name, shift):
    memory = np.linspace(1, 3, 1200)
    expected = memory.copy()
    x, other = slice(10, 1010), slice(10 + shift, 1010 + shift)
    y = fg.asarray(memory[x])
    OPERATORS[name](y, fg.asarray(memory[other]))
    expected[x] = OUT_OF_PLACE[name](expected[x], expected[other].copy())
    np.testing.assert_allclose(memory, expected, rtol=1e-14)


def test_a_read_only_array_is_never_written():
    memory = np.arange(200.0)
    memory.flags.writeable = False
    for change in (lambda x: operator.iadd(x, 1), lambda x: sgd(x, -np.ones(200), 1)):
        x = fg.asarray(memory)
        change(x)
        assert x.tolist() == list(range(1, 201))
        assert memory.tolist() == list(range(200))


# ---- memory that is written behind the tape's back -------------------------------------------------------------------
def plain(n):
    memory = np.arange(1.0, n + 1)
    return memory, memory


def a_read_only_view(n):
    memory = np.arange(1.0, n + 1)
    view = memory[:]
    view.flags.writeable = False
    return memory, view


def strided(n):
    memory = np.repeat(np.arange(1.0, n + 1), 2)
    return memory, memory[::2]


def a_tensors_view(n):
    owner = fg.arange(1.0, n + 1)
    return owner, owner.numpy()


def a_view_of_a_view(n):
    owner = fg.arange(1.0, n + 1)
    return owner, fg.asarray(owner.numpy()[:]).numpy().reshape(n)


@pytest.mark.parametrize("n", [3, 1000])
@pytest.mark.parametrize("make", [plain, a_read_only_view, strided, a_tensors_view, a_view_of_a_view])
@pytest.mark.parametrize(
    "convert", [fg.asarray, lambda a: fg.asarray(a).reshape(-1, 1).ravel(), lambda a: a, fg.from_dlpack]
)
def test_an_ndarray_that_changes_after_it_was_recorded(make, convert, n):
    memory, view = make(n)
    if NUMPY_2_0 and convert is fg.from_dlpack and not view.flags.writeable:
        pytest.skip("NumPy 2.0 exports no read-only memory by DLPack")
    x = fg.ones(n, requires_grad=True)
    y = (x * convert(view)).sum() + fg.sum(fg.take(x, np.arange(n)) * view)
    memory *= 0
    memory -= 7
    y.backward()
    assert x.grad.tolist() == (2 * np.arange(1.0, n + 1)).tolist()


def test_labels_masks_and_indices_that_change_after_they_were_recorded():
    """A label that was checked and then changed must not send the backward pass outside of its array."""
    x = fg.tensor(np.arange(12.0).reshape(4, 3), requires_grad=True)
    labels, index, mask = np.array([0, 1, 2, 0]), np.array([0, 2, 0]), np.arange(12).reshape(4, 3) % 2 == 0
    tensors = [fg.asarray(a) for a in (labels, index, mask)]
    views = [a[:] for a in (labels, index, mask)]
    for view in views:
        view.flags.writeable = False

    def loss(labels, index, mask):
        return fg.losses.softmax_cross_entropy(x, labels) + fg.take(x, index, 0).sum() + fg.where(mask, x, 0.0).sum()

    loss(labels.copy(), index.copy(), mask.copy()).backward()
    expected = x.grad.numpy().copy()
    for values in (tensors, views):
        labels[:], index[:], mask[:] = [0, 1, 2, 0], [0, 2, 0], np.arange(12).reshape(4, 3) % 2 == 0
        x.zero_grad()
        y = loss(*values)
        labels[:], index[:], mask[:] = 2**40, -(2**40), False
        y.backward()
        np.testing.assert_array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize("n", [3, 1000])
def test_dlpack_hands_out_memory_that_may_be_written(n):
    t = fg.arange(0.0, n)
    theirs = np.from_dlpack(t)
    if NUMPY_2_0:  # it takes for read-only whatever it imports
        theirs = np.ctypeslib.as_array((ctypes.c_double * n).from_address(theirs.ctypes.data))
    theirs[:] = 5
    assert t.tolist() == [5] * n, "no copy"
    x = fg.ones(n, requires_grad=True)
    y = (x * t).sum()
    theirs[:] = 7
    y.backward()
    assert x.grad.tolist() == [5] * n


@pytest.mark.parametrize("n", [3, 1000])
@pytest.mark.parametrize("share", [
    lambda t: t.detach(), lambda t: t.reshape(-1, 1), lambda t: fg.tensor(t) if t.requires_grad is None else t,
])  # fmt: skip
def test_dlpack_does_not_hand_out_for_writing_what_the_tape_or_another_tensor_holds(n, share):
    x, t = fg.ones(n, requires_grad=True), fg.arange(0.0, n)
    y = (x * t).sum()
    exported = share(t)
    for consumer in (exported, Consumer(exported), Consumer(exported, max_version=(1, 0), dl_device=(1, 0), copy=True)):
        array = np.from_dlpack(consumer)
        if array.flags.writeable:
            array[:] = 99
    assert t.tolist() == exported.ravel().tolist() == list(range(n))
    y.backward()
    assert x.grad.tolist() == list(range(n))


def test_dlpack_to_one_that_writes_read_only_memory():
    """PyTorch is told that memory is read-only, and writes it."""
    x, t = leaf(), fg.tensor(B)
    y = (x * t).sum()
    array = np.from_dlpack(t)
    ctypes.memset(array.ctypes.data, 0, array.nbytes)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), B)


class Consumer:
    """One that asks with these keyword arguments. An old one knows none: it cannot be told of read-only memory."""

    def __init__(self, x, **options):
        self.__dlpack_device__ = x.__dlpack_device__
        self.x, self.options = x, options

    def __dlpack__(self, **kwargs):
        return self.x.__dlpack__(**self.options)


def test_dlpack_of_the_tape_is_a_copy_or_read_only():
    x, t = leaf(), fg.tensor(B)
    kept = x * t
    assert not np.shares_memory(np.from_dlpack(t), t.numpy())
    shared = Consumer(t, max_version=(1, 0), copy=False)
    if NUMPY_2_0:
        with pytest.raises(BufferError, match="readonly"):
            np.from_dlpack(shared)
    else:
        array = np.from_dlpack(shared)
        assert np.shares_memory(array, t.numpy()) and not array.flags.writeable and kept.requires_grad
    with pytest.raises(BufferError, match="use .detach"):
        np.from_dlpack(x)
    with pytest.raises(BufferError, match="device"):
        t.__dlpack__(dl_device=(2, 0))


def test_a_gradient_is_not_spoiled_by_a_change_of_the_argument_in_place():
    """In-place operators within f act on f's own tensor, never on the caller's array."""
    for n in (3, 1000):
        x = np.arange(float(n))

        def f(w):
            y = (w * w).sum()
            with fg.no_grad():
                w += 1
            return y + w.sum() * 0

        gradient = fg.grad(f)(x)
        assert x.tolist() == list(range(n))
        assert gradient.tolist() == (2 * x).tolist()


@pytest.mark.parametrize("kernel", ["sgd", "adam"])
@pytest.mark.parametrize("which", range(3))
def test_optimizer_kernels_tell_the_tape_of_all_that_they_write(kernel, which):
    p, m, v = (fg.tensor(A) for _ in range(3))
    x = leaf()
    y = (x * (p, m, v)[which]).sum()
    if kernel == "sgd":
        _core.UpdateRule("sgd", ([m],), sgd_numbers(0.1, momentum=0.9)).update([p], [np.ones(3)])
    else:
        _core.UpdateRule("adam", ([m], [v]), (0.5,) * 8).update([p], [np.ones(3)])
    if (p, m, v)[which].tolist() == A.tolist():
        assert kernel == "sgd" and which == 2
        y.backward()
        return
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_an_owner_of_memory_whose_finalizer_reads_the_tensor():
    """To drop the last reference to foreign memory may run any code, which must find the tensor in a valid state."""
    seen = []

    class Owner(np.ndarray):
        def __del__(self):
            seen.append(x.tolist())

    memory = Owner(300)
    memory.fill(7)
    memory.flags.writeable = False
    x = fg.asarray(memory)
    del memory
    x += 1  # takes memory of its own and lets the owner go
    assert seen == [[8] * 300]
