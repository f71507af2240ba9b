"""Making tensors: from data, from nothing, and what is refused."""

import inspect

import numpy as np
import pytest
from _oracles import layouts, same_bits

import fastgrad as fg

CREATED = {
    "zeros": [(3,), ((2, 0),), ((),), ((2, 3), "f4"), (3, int)], "ones": [((2, 3),), (2, np.float32), (2, bool)],
    "full": [((2, 2), 7.0), (2, 3), (2, 1, "f4"), ((), True)], "empty": [((2, 3),), ((0, 2), "f4")],
    "arange": [(5,), (1, 7, 2), (0.0, 1.0, 0.25), (3, -1, -1), (4,)], "linspace": [(0, 1, 5), (2.0, 3.0, 1), (0, 1, 0)],
    "logspace": [(0, 2, 3)], "geomspace": [(1, 8, 4)], "eye": [(3,), (2, 4, 1), (3, 3, -1)], "identity": [(2,)],
    "zeros_like": [([1.0, 2],), (np.ones((2, 3), "f4"),), ([True],)], "ones_like": [(np.ones((2, 3), int),)],
    "full_like": [(np.ones((2, 3), "f4"), 2)], "empty_like": [(np.ones((2, 3), "f4"),)],
}  # fmt: skip


@pytest.mark.parametrize("name, args", [(name, args) for name, calls in CREATED.items() for args in calls], ids=str)
def test_creation_is_numpys(name, args):
    got, expected = getattr(fg, name)(*args), getattr(np, name)(*args)
    assert isinstance(got, fg.Tensor)
    assert (got.dtype, got.shape, got.requires_grad) == (expected.dtype, expected.shape, False)
    if "empty" not in name:
        same_bits(got, expected)
    if "like" in name:
        like = getattr(fg, name)(fg.tensor(args[0]), *args[1:])
        assert (like.dtype, like.shape) == (expected.dtype, expected.shape)


def test_keywords_of_creation():
    same_bits(fg.zeros(2, dtype=np.float32), np.zeros(2, np.float32))
    same_bits(fg.linspace(0, 1, num=3, endpoint=False), np.linspace(0, 1, 3, endpoint=False))
    same_bits(fg.full(fill_value=2.0, shape=(2,)), np.full(2, 2.0))
    t = fg.ones((2, 2), dtype="float32", requires_grad=True)
    (t * 3).sum().backward()
    same_bits(t.grad, np.full((2, 2), 3, np.float32))
    for call in (lambda: fg.arange(3, requires_grad=True), lambda: fg.zeros(2, bool, requires_grad=True)):
        with pytest.raises(TypeError, match="^requires_grad: expected float32 or float64, got"):
            call()


@pytest.mark.parametrize("start, stop, num", [(0, 1, 5), (0.0, 1.0, 1), (0, 1, 0), (2, -3, 4)])
@pytest.mark.parametrize("dtype", [None, int, np.float32])
@pytest.mark.parametrize("endpoint", [True, False])
def test_linspace_with_its_step(start, stop, num, dtype, endpoint):
    """As NumPy's, whether the bounds are numbers or tensors."""
    more = {"endpoint": endpoint, "retstep": True, "dtype": dtype}
    expected, expected_step = np.linspace(start, stop, num, **more)
    for a, linspace in (
        (start, fg.linspace),
        (fg.tensor(float(start)), fg.linspace),
        (fg.tensor(float(start)), np.linspace),
    ):
        points, step = linspace(a, stop, num, **more)
        assert type(points) is fg.Tensor and points.dtype == expected.dtype
        np.testing.assert_allclose(points.numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(step), expected_step, rtol=1e-15)


def test_the_step_of_linspace_between_arrays_and_its_gradient():
    points, step = fg.linspace(np.zeros(2), 1.0, 3, True, True)
    assert points.shape == (3, 2) and type(step) is fg.Tensor
    np.testing.assert_array_equal(step.numpy(), [0.5, 0.5])
    assert fg.grad(lambda a: fg.linspace(a, 1.0, 3, retstep=True)[1])(0.0) == -0.5
    with fg.default_dtype("float32"):
        points, step = fg.linspace(0, 1, 3, retstep=True)
    assert points.dtype == np.float32 and step == 0.5


@pytest.mark.parametrize("make", [fg.tensor, fg.asarray])
@pytest.mark.parametrize(
    "data", [2.5, 3, True, [1.0, 2], [[1, 2], [3, 4]], (1.0, (2.0,))[0:1], [], [[]], [[], []], range(3), np.float32(2),
    np.int8(3),
             np.bool_(1), [np.float32(1), 2.0], [True, False], [[1.0], [np.array(2.0)]], memoryview(b"ab")]
)  # fmt: skip
def test_data_becomes_what_numpy_makes_of_it(make, data):
    same_bits(make(data), np.asarray(data))


@pytest.mark.parametrize("make", [fg.tensor, fg.asarray])
@pytest.mark.parametrize("dtype", ["f4", "f8", "?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_layouts_of_memory(make, dtype):
    x = (np.arange(24).reshape(2, 3, 4) % 5).astype(dtype)
    for name, laid in layouts(x).items():
        t = make(laid)
        same_bits(t, np.ascontiguousarray(laid, laid.dtype.newbyteorder("=")), name)
        assert t.numpy().flags.c_contiguous and t.numpy().dtype.isnative


@pytest.mark.parametrize("n", [3, 1000])
def test_tensor_copies_and_asarray_shares(n):
    x = np.zeros(n)
    copy, shared = fg.tensor(x), fg.asarray(x)
    x[:] = 7
    assert copy.sum().item() == 0
    assert shared.sum().item() == 7 * n
    assert np.shares_memory(shared.numpy(), x)
    assert fg.asarray(shared) is shared
    assert fg.asarray(shared, np.float64) is shared
    assert fg.asarray(shared, "f4").dtype == np.float32
    assert fg.tensor(shared) is not shared


def test_a_gradient_is_right_although_shared_memory_changed():
    """The tape keeps its own copy of memory that others may write."""
    x = np.full(1000, 2.0)
    w = fg.tensor(np.ones(1000), requires_grad=True)
    y = (w * fg.asarray(x)).sum()
    x[:] = 99
    y.backward()
    same_bits(w.grad, np.full(1000, 2.0))


def test_read_only_memory_is_never_written():
    x = np.zeros(1000)
    x.flags.writeable = False
    t = fg.asarray(x)
    t += 1
    assert x.sum() == 0
    assert t.sum().item() == 1000


def test_tensors_of_tensors():
    t = fg.tensor([1.0, 2.0])
    same_bits(fg.tensor([t, t]), np.array([[1.0, 2], [1, 2]]))
    same_bits(fg.tensor(t), np.array([1.0, 2.0]))
    same_bits(fg.tensor(t, dtype="f4"), np.array([1, 2], np.float32))
    t.requires_grad = True
    for make in (fg.tensor, lambda d: fg.tensor([d, d])):
        with pytest.raises(TypeError, match="require"):
            make(t)


@pytest.mark.parametrize(
    "data, error, message",
    [
        ("1.0", TypeError, "tensor: expected numbers, got the str '1.0'"),
        (b"1", TypeError, "tensor: expected numbers, got the bytes b'1'"),
        ([[1.0], [1.0, 2.0]], ValueError,
         "tensor: expected an array or nested lists of equal lengths, got ragged ones"),
        (None, TypeError, "tensor: expected float32, float64, integer or bool numbers, got NoneType"),
        ([1, None], TypeError, "tensor: expected float32, float64, integer or bool numbers, got list"),
        (1j, TypeError, "tensor: expected float32, float64, integer or bool numbers, got complex"),
        ([2**70], TypeError, "tensor: expected float32, float64, integer or bool numbers, got list"),
        ({"a": 1}, TypeError, "tensor: expected float32, float64, integer or bool numbers, got dict"),
        (["a"], TypeError, "tensor: expected float32, float64, integer or bool numbers, got list"),
        (np.zeros(2, np.float16), TypeError,
        "tensor: expected float32, float64, integer or bool numbers, got ndarray of dtype float16"),
        (np.ma.masked_array([1.0], [True]), TypeError, "tensor: expected a plain array, got a masked one"),
    ],
    ids=str,
)  # fmt: skip
def test_refusals(data, error, message):
    with pytest.raises(error) as raised:
        fg.tensor(data)
    assert str(raised.value).startswith(message)


def test_a_tensor_is_only_made_by_functions():
    with pytest.raises(TypeError, match="a Tensor is made by fastgrad.tensor"):
        fg.Tensor([1.0])
    with pytest.raises(TypeError):
        type("Sub", (fg.Tensor,), {})


def test_every_public_function_has_a_docstring_with_an_example():
    for name in fg.__all__:
        thing = getattr(fg, name)
        if callable(thing) and not inspect.isclass(thing):
            assert thing.__doc__ and ">>>" in thing.__doc__, f"fastgrad.{name} shows no example"


# ---- of tensors ----------------------------------------------------------------------------------------------------
A = np.array([0.5, -2.0, 3.0])
OF_TENSORS = {
    "full": (lambda m, x: m.full(4, x[1]), A),
    "full rows": (lambda m, x: m.full((2, 3), x), A),
    "full dtype": (lambda m, x: m.full((2, 3), x, np.float32), A),
    "full_like": (lambda m, x: m.full_like(x, x[0]), A),
    "linspace": (lambda m, x: m.linspace(x[0], x[1], 7), A),
    "linspace from": (lambda m, x: m.linspace(0, x[1], 5), A),
    "linspace to": (lambda m, x: m.linspace(x[2], 1.5, num=4), A),
    "linspace of arrays": (lambda m, x: m.linspace(x, 2 * x[None] + 1, 3, endpoint=False), A),
    "linspace of one": (lambda m, x: m.linspace(x[0], x[1], 1), A),
    "linspace of none": (lambda m, x: m.linspace(x[0], x[1], 0), A),
    "linspace dtype": (lambda m, x: m.linspace(x[0], x[1], 3, dtype=np.float32), A),
    "linspace single": (lambda m, x: m.linspace(x[0], 3, 5), A.astype(np.float32)),
}


@pytest.mark.parametrize("name", OF_TENSORS)
def test_of_tensors_as_of_arrays(name):
    f, x = OF_TENSORS[name]
    expected = f(np, x)
    for found in (
        f(fg, fg.tensor(x)).numpy(),
        fg.compile(lambda x: f(fg, x))(x),
        fg.compile(lambda x: f(fg, x) * 1)(x),
    ):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-6 if found.dtype == np.float32 else 1e-15)
    if "linspace" in name:
        np.testing.assert_array_equal(f(np, fg.tensor(x)).numpy(), found)
    fg.check_grads(lambda x: f(fg, x), (x.astype(float),)) if "dtype" not in name else None


def test_what_of_tensors_is_refused():
    t = fg.tensor([1.0, 2.0], requires_grad=True)
    for call, text in [
        (lambda: fg.linspace(t[0], 2, 3, axis=1), "expected axis=0"),
        (lambda: fg.linspace(t[0], 2, -1), "num of at least 0"),
        (lambda: fg.full(3, t[0], requires_grad=True), "requires_grad makes a leaf"),
        (lambda: np.full(3, t[0], float), r"numpy.copyto .* write it as fastgrad.full\(shape, t\)"),
        (lambda: np.logspace(0, t[0], 3), r"write it as 10 \*\* fastgrad.linspace"),
        (lambda: fg.compile(lambda x: np.full(3, x[0]))(np.ones(2)), "use fastgrad.full and fastgrad.asarray"),
        (lambda: fg.compile(lambda x: np.arange(x[0]))(np.ones(2)), r"t \* np.arange\(n\)"),
        (lambda: fg.compile(lambda x: fg.arange(x[0]))(np.ones(2)), r"t \* np.arange\(n\)"),
    ]:
        with pytest.raises((TypeError, ValueError), match=text):
            call()


LISTS = {
    "numbers": (lambda a, b: [a[0], b[1], a[2]], (3,)),
    "matrix": (lambda a, b: [[a[0], b[0]], [b[1], a[0] * b[0]]], (2, 2)),
    "arrays": (lambda a, b: [a, b], (2, 3)),
    "nested arrays": (lambda a, b: ([a, b], (b, a * b)), (2, 2, 3)),
    "with numbers": (lambda a, b: [[a[0], 1.0], [2, b[0]]], (2, 2)),
    "with arrays and lists": (lambda a, b: [a, np.arange(3), [1.0, 2.0, 3.0], [b[0], 0.0, 1]], (4, 3)),
}


@pytest.mark.parametrize("make, shape", LISTS.values(), ids=LISTS)
def test_lists_of_tensors_are_joined_as_numpy_joins_arrays(make, shape):
    a, b = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    expected = np.asarray(make(a, b))
    for call in (fg.asarray, fg.tensor, fg.stack, lambda x: fg.add(x, 0.0), lambda x: fg.concatenate([x])):
        same_bits(fg.astype(call(make(fg.tensor(a), fg.tensor(b))), float), expected.astype(float))
    weights = np.cos(np.arange(expected.size)).reshape(shape)

    def f(a, b):
        return (fg.asarray(make(a, b)) * weights).sum()

    for g in (fg.grad(f, (0, 1)), fg.compile(fg.grad(f, (0, 1)))):
        for got, point in zip(g(a, b), np.eye(2)):
            columns = [(np.asarray(make(a + 1e-6 * point[0] * e, b + 1e-6 * point[1] * e)) * weights).sum()
                       - (np.asarray(make(a - 1e-6 * point[0] * e, b - 1e-6 * point[1] * e)) * weights).sum()
                       for e in np.eye(3)]  # fmt: skip
            np.testing.assert_allclose(got, np.array(columns) / 2e-6, rtol=1e-8, atol=1e-8)
    same_bits(fg.compile(lambda a, b: fg.asarray(make(a, b)))(a, b).astype(float), expected.astype(float))
    mapped = fg.vmap(lambda a, b: fg.asarray(make(a, b)))(np.stack([a, b]), np.stack([b, a]))
    np.testing.assert_array_equal(mapped, np.stack([expected, np.asarray(make(b, a))]))


def test_dtypes_of_joined_lists_are_numpys():
    for parts in (
        [np.float32(1), np.float32(2)],
        [np.float32(1), 2.0],
        [np.int32(1), np.float32(1)],
        [True, np.int8(3)],
    ):
        tensors = [fg.asarray(x) if isinstance(x, np.generic) else x for x in parts]
        same_bits(fg.asarray(tensors), np.asarray(parts))
        same_bits(fg.asarray(tensors, np.float32), np.asarray(parts, np.float32))


def test_ragged_lists_of_tensors_are_refused():
    t = fg.tensor([1.0, 2.0], requires_grad=True)
    for data in ([t, t[0]], [[t[0]], [t[0], t[1]]], [[t], t]):
        with pytest.raises(
            ValueError, match=r"asarray: expected nested lists of equal lengths, got parts of shapes \("
        ):
            fg.asarray(data)
    with pytest.raises(TypeError, match="expected numbers, got the str"):
        fg.asarray([t[0], "a"])


@pytest.mark.parametrize("x", [np.arange(3.0), [[1, 2], [3, 4]], 2.5, np.float32(1), [True]])
def test_an_array_has_memory_of_its_own(x):
    for ndmin in (0, 1, 3):
        got, expected = fg.array(x, ndmin=ndmin), np.array(x, ndmin=ndmin)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got.numpy(), expected)
    assert fg.array(x, "f4").dtype == np.float32
    assert not np.shares_memory(fg.array(x).numpy(), x) and not np.shares_memory(fg.copy(x).numpy(), x)
    if isinstance(x, np.ndarray):
        assert np.shares_memory(fg.array(x, copy=None).numpy(), x)


def test_arrays_of_tensors_are_recorded():
    t = fg.tensor([1.0, 2.0], requires_grad=True)
    (fg.array([t[0] * 3, 4.0, t[1]], ndmin=2)[0] @ fg.copy(t)[[0, 0, 1]]).backward()
    np.testing.assert_allclose(t.grad, [10.0, 4.0])  # 3 x**2 + 4 x + y**2
    with pytest.raises(ValueError, match="^asarray: expected order as 'C', 'A', 'K' or None, got 'F'"):
        fg.array([1.0], order="F")
