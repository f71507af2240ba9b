"""numpy.linalg's functions of tensors are those of fastgrad.linalg, with NumPy's parameters; the errors of
scipy.linalg's name them."""

import inspect

import numpy as np
import pytest
import scipy.linalg
from _decompositions import FOUR, TALL, L, close, drawn, symmetric

import fastgrad as fg


def as_arrays(x):
    if isinstance(x, (list, tuple)):
        return [as_arrays(y) for y in x]
    return x.detach().numpy() if isinstance(x, fg.Tensor) else x


def test_numpys_functions_and_named_tuples():
    x = fg.tensor(TALL, requires_grad=True)
    s = fg.tensor(symmetric(FOUR), requires_grad=True)
    calls = {
        "eigh": (s,), "eigvalsh": (s,), "eig": (s,), "eigvals": (s,), "svd": (x,), "svdvals": (x,), "qr": (x,),
        "pinv": (x,), "matrix_norm": (x,), "vector_norm": (x,), "cond": (x,), "trace": (s,), "diagonal": (s,),
        "matrix_transpose": (x,), "outer": (x[0], x[1]), "cross": (x, x), "vecdot": (x, x), "tensordot": (x, x),
        "matmul": (s, s), "norm": (x, "nuc"), "matrix_power": (s, 3), "multi_dot": ([s, s, s],), "lstsq": (x, x),
        "tensorinv": (s.reshape((2, 2, 4)),), "tensorsolve": (s, s[0]), "matrix_rank": (x,),
    }  # fmt: skip
    for name, args in calls.items():
        got, ours, expected = [f(*a) for f, a in (
            (getattr(np.linalg, name), args), (getattr(L, name), args), (getattr(np.linalg, name), as_arrays(args))
        )]  # fmt: skip
        if isinstance(expected, tuple):
            assert type(got).__name__ == type(expected).__name__
            assert getattr(got, "_fields", ()) == getattr(expected, "_fields", ())
        else:
            got, ours, expected = [got], [ours], [expected]
        for a, b, c in zip(got, ours, expected):
            assert isinstance(a, fg.Tensor), name
            np.testing.assert_array_equal(a.detach(), b.detach())
            np.testing.assert_allclose(a.detach(), c, atol=1e-10, err_msg=name)
    assert isinstance(np.kron(x, x), fg.Tensor) and isinstance(np.cross(x, x), fg.Tensor)
    assert isinstance(np.linalg.svd(x, compute_uv=False), fg.Tensor)


@pytest.mark.parametrize("name", sorted(set(L.__all__) & set(np.linalg.__all__) - {"LinAlgError"}))
def test_parameters_are_numpys(name):
    """By name, beside arrays that go by position alone; more may follow."""
    theirs = inspect.signature(getattr(np.linalg, name)).parameters.values()
    ours = inspect.signature(getattr(L, name)).parameters
    for p in theirs:
        if p.kind is p.POSITIONAL_ONLY or p.name in ("out", "arrays"):
            continue
        assert p.name in ours, p.name
        if p.default is not p.empty:
            assert ours[p.name].default == p.default, p.name


@pytest.mark.parametrize(
    "name", ["eig", "eigh", "eigvals", "eigvalsh", "expm", "lstsq", "norm", "pinv", "qr", "svd", "svdvals"]
)
def test_scipys_functions_name_ours(name):
    x = fg.tensor(np.eye(3), requires_grad=True)
    ours = "svd" if name == "svdvals" else name
    ours = {"eigvals": "eig", "eigvalsh": "eigh"}.get(name, ours)  # which SciPy calls
    with pytest.raises(TypeError, match=rf"use fastgrad\.linalg\.({name}|{ours})$"):
        getattr(scipy.linalg, name)(*[x, x][: 2 if name == "lstsq" else 1])


def test_numpys_functions_with_keywords():
    x, s = fg.tensor(TALL), fg.tensor(symmetric(FOUR))
    b = drawn((5,))
    for f in (
        lambda np_, x, s: np_.svd(x, full_matrices=False).S,
        lambda np_, x, s: np_.svd(s, compute_uv=False, hermitian=True),
        lambda np_, x, s: np_.eigh(s, UPLO="U").eigenvalues,
        lambda np_, x, s: np_.qr(x, mode="r"),
        lambda np_, x, s: np_.pinv(x, rtol=0.5),
        lambda np_, x, s: np_.pinv(x, rcond=0.5),
        lambda np_, x, s: np_.lstsq(x, b, rcond=-1)[0],
        lambda np_, x, s: np_.matrix_rank(x, rtol=0.5) * 1.0,
        lambda np_, x, s: np_.norm(x, ord="nuc", axis=(0, 1), keepdims=True),
        lambda np_, x, s: np_.vector_norm(x, axis=(0, 1), ord=3),
        lambda np_, x, s: np_.matrix_norm(x, ord=-2, keepdims=True),
        lambda np_, x, s: np_.cond(s, p="fro"),
        lambda np_, x, s: np_.cross(x, x[::-1], axis=1),
        lambda np_, x, s: np_.vecdot(x, x, axis=0),
        lambda np_, x, s: np_.trace(s, offset=1, dtype=np.float32),
        lambda np_, x, s: np_.diagonal(s, offset=-1),
        lambda np_, x, s: np_.tensordot(x, x, axes=([0, 1], [0, 1])),
        lambda np_, x, s: np_.matmul(s, s),
        lambda np_, x, s: np_.tensorinv(s, ind=1),
        lambda np_, x, s: np_.tensorsolve(s, s[0], axes=(0,)),
    ):
        got, expected = f(np.linalg, x, s), f(np.linalg, x.numpy(), s.numpy())
        assert isinstance(got, fg.Tensor)
        close(got, expected, expected.dtype, 100)
        close(f(L, x, s), expected, expected.dtype, 100)
