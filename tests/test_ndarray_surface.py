"""Attributes of ndarrays that tensors have or refuse, and names of parameters that are NumPy's."""

import inspect
import io

import numpy as np
import pytest

import fastgrad as fg

X = np.array([[1.25, -2.5, 0.0], [3.5, 4.0, -1.0]])
CALLS = {
    "round": lambda x: (x.round(), x.round(1)), "conj": lambda x: x.conj(), "conjugate": lambda x: x.conjugate(),
    "real": lambda x: x.real, "imag": lambda x: x.imag, "choose": lambda x: x[0].astype(int).choose([x[0], x[1], x[1]]),
    "compress": lambda x: (x.compress([True, False]), x.compress([0, 1, 1], axis=1), x.compress([1] * 6)),
    "tobytes": lambda x: (x.tobytes(), x.tobytes("F")),
    "out by position": lambda x: (
        x.round(1, None), x.clip(0, 1, None), x.compress([0, 1], 0, None), x.clip(max=1, out=None),
        x.astype(int)[0].choose([x[0], x[1]], out=None, mode="wrap"),
    ),
}  # fmt: skip
REFUSED = {
    "fill": lambda x: x.fill(0.0), "put": lambda x: x.put([0], [1.0]), "resize": lambda x: x.resize(3, 2),
    "view": lambda x: x.view(np.int64),
}  # fmt: skip
ABOUT_MEMORY = "base byteswap ctypes data flags getfield setfield setflags strides".split()
OTHERWISE = {"flat": "x.ravel()", "dump": "pickle.dump(x, file)", "dumps": "pickle.dumps(x)"}
# What NumPy's machinery asks of ndarrays alone, and operators that Python replaces by those without the "i".
OF_NDARRAYS = {
    "__array_finalize__", "__array_interface__", "__array_struct__", "__array_wrap__", "__class_getitem__", "__iand__",
    "__ilshift__", "__ior__", "__irshift__", "__ixor__", "__setstate__",
}  # fmt: skip

REMOVED = {"itemset", "newbyteorder", "ptp", "tostring"}  # older NumPys list methods that only raise


@pytest.mark.parametrize("name", CALLS)
def test_methods_are_numpys(name):
    x = abs(X[:, :2]) if name == "choose" else X
    expected, found = CALLS[name](x), CALLS[name](fg.asarray(x))
    for e, f in zip(*[y if isinstance(y, tuple) else (y,) for y in (expected, found)]):
        if isinstance(e, bytes):
            assert e == f
        else:
            assert f.dtype == e.dtype
            np.testing.assert_array_equal(f.numpy(), e)


def test_methods_are_differentiable():
    chosen = lambda x: (x.compress([0, 1], 0) ** 2).sum() + (x.real * x.conj()).sum() + (x.imag + x.round()).sum()
    np.testing.assert_allclose(fg.grad(chosen)(X), 2 * X * [[1], [2]])
    np.testing.assert_allclose(fg.compile(fg.grad(chosen))(X), 2 * X * [[1], [2]])
    picked = fg.grad(lambda x: (fg.asarray([1, 0, 1]).choose(x) ** 2).sum())(X)
    np.testing.assert_allclose(picked, 2 * X * [[0, 1, 0], [1, 0, 1]])


def test_compress():
    x = fg.asarray(X)
    for condition, axis in (([1, 0, 1], 1), ([True], 0), ([False, False], 0), (np.ones(6, bool), None), ([], 1)):
        expected = np.compress(condition, X, axis)
        for found in (np.compress(condition, x, axis), fg.compress(condition, x, axis), x.compress(condition, axis)):
            assert isinstance(found, fg.Tensor)
            np.testing.assert_array_equal(found.numpy(), expected)
    with pytest.raises(ValueError, match=r"compress: expected a condition of one axis, got shape \(2, 1\)"):
        fg.compress([[True], [False]], x)
    with pytest.raises(ValueError, match="compress: axis 2 does not exist"):
        fg.compress([True], x, 2)
    with pytest.raises(IndexError, match="take"):
        fg.compress([0, 0, 0, 1], x, 1)
    with pytest.raises(fg.TraceError, match="the shape of the result depends on which elements there are"):
        fg.compile(fg.compress)(np.array([True, False]), X)


def test_what_tensors_refuse():
    t = fg.tensor(X, requires_grad=True)
    for name, call in REFUSED.items():
        with pytest.raises(TypeError, match=f"^{name}: .*write x"):
            call(t)
    for name in ABOUT_MEMORY:
        with pytest.raises(AttributeError, match=rf"^a tensor has no {name}, .*use x\.detach\(\)\.numpy\(\)\.{name}$"):
            getattr(t, name)
    for name, cure in OTHERWISE.items():
        with pytest.raises(AttributeError) as caught:
            getattr(t, name)
        assert f"a tensor has no {name}; use {cure}" in str(caught.value)
    for call in (lambda x: x.round(1, X), lambda x: x.clip(0, 1, X), lambda x: x.compress([True], 0, X)):
        with pytest.raises(TypeError, match="expected out= as a tensor, got ndarray"):
            call(t)
    with pytest.raises(TypeError, match="choose: expected out= as a tensor, got ndarray"):
        fg.asarray([0, 1, 1]).choose(t, X)
    for call in (lambda x: x.tobytes(), lambda x: x.tofile(io.BytesIO())):
        with pytest.raises(TypeError, match="a tensor that is being differentiated would silently become a constant"):
            fg.grad(call)(X)


def test_the_bytes_of_a_tensor_are_written(tmp_path):
    fg.asarray(X).tofile(tmp_path / "bytes")
    np.testing.assert_array_equal(np.fromfile(tmp_path / "bytes").reshape(X.shape), X)
    with open(tmp_path / "open", "wb") as file:
        fg.asarray(X).tofile(file)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "open").reshape(X.shape), X)
    with pytest.raises(TypeError, match="tofile: expected the name of a file or an open file, got ndarray"):
        fg.asarray(X).tofile(X)


def test_every_attribute_of_ndarrays_is_there_or_refused():
    t = fg.asarray(X)
    names = {name for name in dir(np.ndarray) if name.startswith("__") or not name.startswith("_")}
    lacking = {name for name in names if not hasattr(t, name)}
    assert lacking - OF_NDARRAYS - REMOVED - {*ABOUT_MEMORY, *OTHERWISE} == set()


# Where NumPy's first parameter is not an array, or ours means something else.
OTHER_NAMES = {"arange", "astype", "einsum", "i0", "load", "save"}


def test_first_parameters_are_called_as_numpys():
    wrong = []
    for name in sorted(set(fg.__all__) - OTHER_NAMES):
        theirs = getattr(np, name, None)
        if not callable(theirs) or isinstance(theirs, np.ufunc) or inspect.isclass(theirs):
            continue
        try:
            theirs = next(iter(inspect.signature(theirs).parameters.values()), None)
        except ValueError:  # some of NumPy's C functions do not tell theirs
            continue
        ours = next(iter(inspect.signature(getattr(fg, name)).parameters.values()))
        if theirs is None or theirs.kind is theirs.VAR_POSITIONAL:
            continue
        by_name = theirs.kind is theirs.POSITIONAL_OR_KEYWORD
        if (ours.name != theirs.name and by_name) or (by_name and ours.kind is not ours.POSITIONAL_OR_KEYWORD):
            wrong.append(f"{name}: {ours.name} ({ours.kind.description}), NumPy's {theirs.name}")
    assert wrong == []


def test_first_parameters_go_by_name():
    t = fg.asarray(X)
    for ours, theirs in (
        (fg.sum(a=t), np.sum(a=X)), (fg.flip(m=t, axis=0), np.flip(m=X, axis=0)), (fg.tile(A=t, reps=2), np.tile(X, 2)),
        (fg.reshape(a=t, shape=(3, 2)), X.reshape(3, 2)), (fg.zeros_like(a=t), np.zeros_like(X)),
        (fg.full_like(a=t, fill_value=2.0), np.full_like(X, 2.0)), (fg.asarray(a=X), X),
        (fg.hsplit(ary=t, indices_or_sections=3)[1], X[:, 1:2]), (np.take(a=t, indices=[1], axis=0), X[1:]),
        (np.sum(a=t), X.sum()), (np.full_like(a=t, fill_value=2.0), np.full_like(X, 2.0)),
        (fg.broadcast_to(array=t, shape=(1, 2, 3)), X[None]), (fg.real(val=t), X),
    ):  # fmt: skip
        np.testing.assert_array_equal(ours.numpy(), theirs)
