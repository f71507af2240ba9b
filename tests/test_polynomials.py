"""Polynomials, convolutions and correlations: against NumPy's, and under every transform; also vecdot."""

import numpy as np
import pytest
from _errors import raises_text
from _surface import check_transforms, same_as_numpy

import fastgrad as fg

X = np.random.default_rng(0).normal(size=(3, 4))
KINDS = (("f8", "f8"), ("f4", "f4"), ("f4", "f8"), ("i8", "i8"), ("u1", "i2"))


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
def test_convolutions_of_all_lengths(name, mode):
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 4, 7, 8):
        for m in (1, 2, 3, 4, 7, 8):
            a, v = rng.normal(size=n), rng.normal(size=m)
            same_as_numpy(lambda f, a, v: getattr(f, name)(a, v, mode), a, v, message=(n, m))
    for dtypes in KINDS:
        a, v = ((abs(X[k]) * 5).astype(d) for k, d in enumerate(dtypes))
        rtol = 1e-6 if "f4" in dtypes else 1e-13
        same_as_numpy(lambda f, a, v: getattr(f, name)(a, v[:3], mode), a, v, message=dtypes, rtol=rtol)
    for n, m in ((5, 3), (2, 4), (3, 3), (1, 1)):
        check_transforms(lambda f, a, v: getattr(f, name)(a, v, mode), rng.normal(size=n), rng.normal(size=m))


def test_defaults_and_numbers():
    for name in ("convolve", "correlate"):
        same_as_numpy(lambda m, x: getattr(m, name)(x[0], x[1]), X)
        same_as_numpy(lambda m, x: getattr(m, name)(x[0], 2.0), X)  # correlate refuses a number


def test_a_long_vector_and_a_short_one():
    """Rows of the matrix are as many as the shorter one has elements, whichever comes first."""
    rng = np.random.default_rng(0)
    a, v = rng.normal(size=20_000), rng.normal(size=5)
    for x, y in ((a, v), (v, a)):
        np.testing.assert_allclose(fg.convolve(x, y).numpy(), np.convolve(x, y), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n", [0, 1, 3, 5])
def test_polynomials(n):
    p = np.random.default_rng(0).normal(size=n)
    same_as_numpy(lambda m, p, x: m.polyval(p, x), p, X)
    same_as_numpy(lambda m, p, x: m.polyval(p, x), p.astype("f4"), X.astype("f4"), rtol=1e-6)
    same_as_numpy(lambda m, p, x: m.polyval(p, x), np.arange(n), np.arange(4))
    if n:
        check_transforms(lambda m, p, x: m.polyval(p, x), p, X)
        check_transforms(lambda m, p, x: m.polyval(p, x[0, 0]), p, X)


def test_vander():
    for options in ({}, {"N": 2}, {"N": 1}, {"N": 0}, {"N": 6}, {"increasing": True}, {"N": 5, "increasing": True}):
        for dtype in ("f8", "f4", "i8", "u1"):
            x = (abs(X[0]) * 3).astype(dtype)
            same_as_numpy(lambda m, x: m.vander(x, **options), x, message=f"{options}, {dtype}")
            same_as_numpy(lambda m, x: m.vander(x[:0], **options), x)
        if options.get("N", 4):
            check_transforms(lambda m, x: m.vander(x, **options), X[0])
    np.testing.assert_array_equal(fg.jacobian(lambda x: fg.vander(x, 3)[0])(np.zeros(1))[:, 0], [0, 1, 0])


DOTS = {
    "matrices": lambda m, x: m.vecdot(x, x + 1),
    "axis": lambda m, x: m.vecdot(x, x * 2, axis=0),
    "broadcast": lambda m, x: m.vecdot(x, x[0]),
    "vectors": lambda m, x: m.vecdot(x[0], x[1]),
    "empty": lambda m, x: m.vecdot(x[:, :0], x[:, :0]),
    "lengths": lambda m, x: m.vecdot(x, x[:, :2]),
    "none": lambda m, x: m.vecdot(x, 2.0),
    "axis 1": lambda m, x: m.vecdot(x[None], x, axis=1),
}


@pytest.mark.parametrize("name", DOTS)
def test_vecdot(name):
    for dtype in ("f8", "f4", "i8", "u1", "?"):
        if hasattr(np, "vecdot"):
            same_as_numpy(DOTS[name], (abs(X) * 5).astype(dtype), message=dtype, rtol=1e-6 if dtype == "f4" else 1e-13)
    if name not in ("lengths", "none", "axis 1"):
        check_transforms(DOTS[name], X)


def test_vecdot_by_numpys_names():
    t = fg.tensor(X, requires_grad=True)
    for y in (np.vecdot(t, X), np.vecdot(X, t, axis=-1), np.linalg.vecdot(t, X), fg.vecdot(t, X)):
        np.testing.assert_allclose(y.detach().numpy(), (X * X).sum(-1), rtol=1e-15)
        assert y.requires_grad
    np.testing.assert_allclose(np.vecdot(t, X, axis=0).detach().numpy(), (X * X).sum(0), rtol=1e-15)
    np.testing.assert_array_equal(np.linalg.matrix_transpose(t).detach().numpy(), X.T)


# ---- least squares ---------------------------------------------------------------------------------------------------
FIT_X, FIT_Y = np.linspace(-0.4, 1, 7), np.cos(np.arange(14.0)).reshape(7, 2)
FIT_W = np.linspace(0.5, 2, 7)


@pytest.mark.parametrize(
    "options",
    [{}, {"w": FIT_W}, {"full": True}, {"cov": True}, {"cov": "unscaled", "w": FIT_W}, {"rcond": 0.3, "full": True}],
)
@pytest.mark.parametrize("y", [FIT_Y[:, 0], FIT_Y])
def test_polyfit(y, options):
    found, expected = parts(fg.polyfit(FIT_X, y, 2, **options)), parts(np.polyfit(FIT_X, y, 2, **options))
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-11, atol=1e-14)
    if "full" not in options:
        f = lambda x, y, w: fg.polyfit(x, y, 2, **(options | {"w": w}))
        fg.check_grads(f, (FIT_X, y, FIT_W), order=2 if not options else 1, rtol=1e-5)
        np.testing.assert_allclose(np.asarray(parts(fg.compile(f)(FIT_X, y, FIT_W))[0]),
                                   np.asarray(parts(f(FIT_X, y, FIT_W))[0]), rtol=1e-12)  # fmt: skip


def parts(y):
    return y if isinstance(y, tuple) else (y,)


def test_polyfit_by_numpys_name_of_every_dtype_and_mapped():
    t = fg.tensor(FIT_Y[:, 0], requires_grad=True)
    assert np.polyfit(FIT_X, t, 1, None, False, FIT_W).requires_grad
    for dtype in ("f4", "f8", "i8"):
        x, y = (np.arange(5).astype(dtype), np.array([1, 2, 4, 8, 9]).astype(dtype))
        assert fg.polyfit(x, y, 1).dtype == np.polyfit(x, y, 1).dtype
        np.testing.assert_allclose(
            fg.polyfit(x, y, 1).numpy(), np.polyfit(x, y, 1), rtol=1e-6 if dtype == "f4" else 1e-12
        )
    mapped = fg.vmap(lambda y: fg.polyfit(FIT_X, y, 2))(FIT_Y.T)
    np.testing.assert_allclose(mapped.T, np.polyfit(FIT_X, FIT_Y, 2), rtol=1e-11)


def test_polyfit_of_too_few_points_warns():
    with pytest.warns(np.exceptions.RankWarning, match="do not determine all coefficients"):
        found = fg.polyfit([1.0, 1.0], [1.0, 2.0], 1)
    np.testing.assert_allclose(found.numpy(), [0.75, 0.75], rtol=1e-12)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fg.convolve(X, X[0]), ValueError,
         "convolve: expected two vectors with elements, got shapes (3, 4) and (4,)"),
        (lambda: fg.correlate(X[0], X[0, :0]), ValueError,
         "correlate: expected two vectors with elements, got shapes (4,) and (0,)"),
        (lambda: fg.convolve(X[0], X[0], "half"), ValueError,
         "convolve: expected mode 'full', 'same' or 'valid', got 'half'"),
        (lambda: fg.vander(X), ValueError, "vander: expected a vector, got shape (3, 4)"),
        (lambda: fg.vander(X[0], -1), ValueError, "vander: expected N of at least 0, got -1"),
        (lambda: fg.polyval(2.0, X), TypeError, "polyval: expected coefficients along an axis, got a single number"),
        (lambda: fg.polyfit(X[0], X[0], -1), ValueError, "polyfit: expected deg of at least 0, got -1"),
        (lambda: fg.polyfit(X, X[0], 1), TypeError, "polyfit: expected x as a vector with elements, got shape (3, 4)"),
        (lambda: fg.polyfit(X[0], X[0, :3], 1), TypeError,
         "polyfit: expected y of shape (4,) or (4, k) for as many x, got (3,)"),
        (lambda: fg.polyfit(X[0], X[0], 1, w=1.0), TypeError, "polyfit: expected w of the shape of x, (4,), got ()"),
        (lambda: fg.polyfit(X[0], X[0], 3, cov=True), ValueError,
         "polyfit: expected more than 4 points, which the covariance needs, got 4"),
        (lambda: fg.vecdot(X, X[:, :2]), ValueError,
         "vecdot: shapes (3, 4) and (3, 2) have different lengths along axis -1"),
    ],
)  # fmt: skip
def test_error_texts(call, error, message):
    with raises_text(error, message):
        call()


def test_vander_of_more_columns_than_memory_has():
    with pytest.raises(MemoryError):
        fg.vander([1.0, 2.0], 2**50)
    assert fg.vander([2.0, 3.0], 1).numpy().tolist() == [[1.0], [1.0]] and fg.vander([2.0], 0).shape == (1, 0)
