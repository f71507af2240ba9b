"""fg.curve_fit against SciPy's with differences; least_squares with a sparse Jacobian."""

import warnings

import numpy as np
import pytest

import fastgrad as fg

optimize = pytest.importorskip("scipy.optimize")

T = np.linspace(0, 4, 50)
RNG = np.random.default_rng(0)
TRUTH = (2.5, 1.3, 0.5)


def decay(t, scale, rate, offset):
    return scale * np.exp(-rate * t) + offset


Y = decay(T, *TRUTH) + 0.05 * RNG.standard_normal(50)
SIGMA = RNG.uniform(0.02, 0.1, 50)
A = RNG.standard_normal((50, 50))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"p0": [1, 1, 1]},
        {"sigma": SIGMA},
        {"sigma": SIGMA, "absolute_sigma": True},
        {"sigma": np.diag(SIGMA**2) + 1e-5 * A @ A.T, "absolute_sigma": True},
        {"bounds": (0, [3.0, 1.0, 1.0])},
        {"method": "trf"},
        {"method": "dogbox", "loss": "soft_l1"},
        {"method": "lm", "ftol": 1e-12},
    ],
    ids=" ".join,
)
def test_parameters_and_covariance_are_those_of_scipy(options):
    mine, theirs = (fit(decay, T, Y, **options) for fit in (fg.curve_fit, optimize.curve_fit))
    for a, b in zip(mine, theirs, strict=True):
        assert type(a) is np.ndarray
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-8)


def test_the_jacobian_is_exact():
    full = fg.curve_fit(decay, T, Y, full_output=True)
    theirs = optimize.curve_fit(decay, T, Y, full_output=True)
    assert len(full) == 5 and full[2].keys() == theirs[2].keys() | {"njev"} and full[4] in (1, 2, 3, 4)
    assert full[2]["nfev"] < theirs[2]["nfev"]  # no differences
    popt, pcov = full[:2]

    def jacobian(t, scale, rate, offset):
        e = np.exp(-rate * t)
        return np.stack([e, -scale * t * e, np.ones_like(t)], axis=1)

    np.testing.assert_allclose(pcov, optimize.curve_fit(decay, T, Y, jac=jacobian)[1], rtol=1e-7)
    np.testing.assert_allclose(fg.curve_fit(decay, T, Y, jac=jacobian)[0], popt, rtol=1e-7)
    np.testing.assert_allclose(fg.curve_fit(decay, T, Y, compile=False)[0], popt, rtol=1e-12)


def test_data_of_other_kinds():
    surface = np.stack(np.meshgrid(T[:7], T[:7])).reshape(2, -1)

    def plane(x, *p):
        return p[0] * x[0] + p[1] * x[1] + p[2]

    np.testing.assert_allclose(fg.curve_fit(plane, surface, plane(surface, *TRUTH), p0=np.ones(3))[0], TRUTH, rtol=1e-8)
    named = {"t": T}
    found = fg.curve_fit(lambda x, a, b: a * x["t"] + b, named, 3 * T + 1)[0]
    np.testing.assert_allclose(found, [3, 1], rtol=1e-8)
    np.testing.assert_allclose(fg.curve_fit(lambda x, a: a * x, [1, 2, 3], [2, 4, 6])[0], [2])
    assert fg.curve_fit(lambda x, a: a * x, np.float32([1, 2]), np.float32([2, 4]))[0].dtype == np.float64
    holes = np.where(T > 3.5, np.nan, Y)
    np.testing.assert_allclose(
        fg.curve_fit(decay, T, holes, nan_policy="omit")[0], optimize.curve_fit(decay, T, holes, nan_policy="omit")[0],
        rtol=1e-5,
    )  # fmt: skip


def test_errors_are_told():
    with pytest.raises(TypeError, match="curve_fit: expected a function, got 3"):
        fg.curve_fit(3, T, Y)
    with pytest.raises(TypeError, match="f returned a ndarray, of .*jac='2-point'"):
        fg.curve_fit(lambda t, a: np.ones(50), T, Y, compile=False)
    with pytest.raises(ValueError, match="NaNs|nan"):
        fg.curve_fit(decay, T, np.full(50, np.nan))
    with pytest.raises(TypeError):  # more parameters than data, as SciPy says
        fg.curve_fit(decay, T[:2], Y[:2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert np.isinf(fg.curve_fit(lambda t, a, b: a * t + 0 * b, T, Y)[1]).all()
    assert [w.category for w in caught] == [optimize.OptimizeWarning]


# ---- least_squares with a sparse Jacobian ----------------------------------------------------------------------------
def broyden(x):
    """Broyden's tridiagonal function."""
    return (3 - x) * x + 1 - np.concatenate([[0.0], x[:-1]]) - 2 * np.concatenate([x[1:], [0.0]])


@pytest.mark.parametrize("method", ["trf", "dogbox"])
@pytest.mark.parametrize("sparsity", ["auto", "given"])
def test_a_sparse_jacobian(method, sparsity):
    sparse = pytest.importorskip("scipy.sparse")
    n = 40
    pattern = "auto" if sparsity == "auto" else sparse.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(n, n))
    dense = fg.least_squares(broyden, -np.ones(n), method=method)
    found = fg.least_squares(broyden, -np.ones(n), method=method, jac_sparsity=pattern)
    assert sparse.issparse(found.jac) and found.jac.nnz == 3 * n - 2
    np.testing.assert_allclose(found.x, dense.x, atol=1e-6)
    np.testing.assert_allclose(found.jac.toarray(), fg.jacobian(broyden)(found.x), atol=1e-12)


def test_a_sparse_jacobian_of_a_structure_with_args_and_bounds():
    found = fg.least_squares(
        lambda p, shift: [p["a"] - shift, p["b"] ** 2 - 4], {"a": [1, 1, 1], "b": np.full(2, 1.0)}, (np.arange(3.0),),
        jac_sparsity="auto", bounds=(-np.inf, 1.5),
    )  # fmt: skip
    np.testing.assert_allclose(found.x["a"], [0, 1, 1.5], atol=1e-4)
    np.testing.assert_allclose(found.x["b"], 1.5, atol=1e-4)
    assert found.jac.nnz == 5
    with pytest.raises(ValueError, match="jac_sparsity is 'guess', expected 'auto' or a matrix"):
        fg.least_squares(broyden, np.ones(3), jac_sparsity="guess")
    with pytest.raises(ValueError, match="method='lm' takes no jac_sparsity"):
        fg.least_squares(broyden, np.ones(3), method="lm", jac_sparsity="auto")
    with pytest.raises(ValueError, match=r"least_squares: jac_sparsity: entry \(0, 1\) of the Jacobian is not zero"):
        fg.least_squares(broyden, np.ones(3), jac_sparsity=np.eye(3))


def test_fits_of_a_compiled_model_share_its_programs():
    calls = []

    def counted(t, scale, rate, offset):
        calls.append(len(t))
        return decay(t, scale, rate, offset)

    model = fg.compile(counted)
    first = fg.curve_fit(model, T, Y)
    traced = len(calls)
    for k, (t, y) in enumerate(((T, Y), (T + 0.1, Y), (T, 2 * Y), (T.tolist(), Y.tolist()))):
        mine, theirs = fg.curve_fit(model, t, y), optimize.curve_fit(decay, t, y)
        np.testing.assert_allclose(mine[0], theirs[0], rtol=2e-4, err_msg=str(k))
        assert len(calls) == traced, f"fit {k} traced the model again: {calls}"
    np.testing.assert_array_equal(fg.curve_fit(model, T, Y)[0], first[0])
    shorter = fg.curve_fit(model, T[:20], Y[:20])
    np.testing.assert_allclose(shorter[0], optimize.curve_fit(decay, T[:20], Y[:20])[0], rtol=2e-4)
    assert set(calls[traced:]) == {20}
    line = fg.compile(lambda t, *p: p[0] + p[1] * t if len(p) == 2 else p[0] + 0.0 * t)  # by the number of parameters
    for p0 in ([0.0], [0.0, 0.0], [1.0]):
        expected = optimize.curve_fit(lambda t, *p: np.polyval(p[::-1], t) + 0.0 * t, T, Y, p0)[0]
        np.testing.assert_allclose(fg.curve_fit(line, T, Y, p0)[0], expected, rtol=1e-5)
