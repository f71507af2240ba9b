"""fastgrad.special against scipy.special: values and their edges, gradients to second order, dispatch, errors."""

import mpmath
import numpy as np
import pytest
import scipy.special
from _errors import raises_text
from _oracles import FLOATS, gradients

import fastgrad as fg
from fastgrad import special

INF, NAN = np.inf, np.nan
EDGES = np.array([-INF, -2.5, -2, -1, -0.5, -1e-300, -0.0, 0.0, 1e-300, 0.5, 1, 2, 3, 30, 1e300, INF, NAN])
ONE = (
    "digamma entr erf erfc erfcinv erfcx erfinv expit gamma gammaln log_expit log_ndtr logit ndtr ndtri psi rgamma"
).split()
TWO = "betaln kl_div rel_entr xlog1py xlogy".split()
BESSEL = "i0 i0e i1 i1e j0 j1".split()  # at infinity SciPy's are nan, and ours the limits
INSIDE = {
    # name: an interval where the function is smooth
    **dict.fromkeys("erfinv".split(), (-0.9, 0.9)), **dict.fromkeys("ndtri logit".split(), (0.1, 0.9)),
    "erfcinv": (0.2, 1.8), **dict.fromkeys("entr digamma psi gamma gammaln rgamma log1mexp".split(), (0.3, 6)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*ONE, *BESSEL])
def test_values_at_the_edges_are_scipys(name, dtype):
    x = EDGES if name not in BESSEL else EDGES[np.isfinite(EDGES)]
    x = x[(np.abs(x) < 1e30) & ((x == 0) | (np.abs(x) > 1e-30)) | ~np.isfinite(x)] if dtype == np.float32 else x
    x = x[np.abs(x) < 1e299] if name in {"j0", "j1"} else x
    x = x[x > -INF] if name == "gammaln" else x  # ours is inf, as of any large negative number that is whole
    x = x.astype(dtype)
    with np.errstate(all="ignore"):
        expected = getattr(scipy.special, name)(x)
    got = getattr(special, name)(x)
    assert got.dtype == dtype
    rtol = 1e-12 if name == "log_ndtr" and dtype == np.float64 else 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(got.numpy(), expected, rtol=rtol, atol=1e-300, err_msg=name)


@pytest.mark.parametrize("name", TWO)
def test_values_of_two_at_the_edges_are_scipys(name):
    edges = EDGES[EDGES >= 0] if name == "betaln" else EDGES
    if name in {"betaln", "kl_div"}:  # SciPy's overflow earlier
        edges = edges[(np.abs(edges) < 1e100) & ((np.abs(edges) > 1e-100) | (edges == 0))]
    a, b = (v.ravel() for v in np.meshgrid(edges, edges))
    fine = np.isfinite(a) & np.isfinite(b) if name in {"rel_entr", "kl_div", "betaln"} else np.full(a.shape, True)
    with np.errstate(all="ignore"):
        expected = getattr(scipy.special, name)(a[fine], b[fine])
    np.testing.assert_allclose(getattr(special, name)(a[fine], b[fine]).numpy(), expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*ONE, *BESSEL, "log1mexp"])
def test_gradients_to_second_order(name, dtype):
    low, high = INSIDE.get(name, (-3, 3))
    x = np.random.default_rng(3).uniform(low, high, 5).astype(dtype)
    fg.check_grads(getattr(special, name), (x,), order=2)


@pytest.mark.parametrize("name", [*TWO, "beta", "log_binom", "binom"])
def test_gradients_of_two_to_second_order(name):
    rng = np.random.default_rng(4)
    a, b = rng.uniform(2, 4, (3, 1)), rng.uniform(0.5, 1.5, 2)
    fg.check_grads(getattr(special, name), (a, b), order=2)


def test_mixed_derivatives_where_a_term_vanishes():
    """By both arguments, at a = 0: of xlogy 1 / b, of xlog1py 1 / (1 + b), of rel_entr and kl_div -1 / b."""
    for f, expected in [
        (special.xlogy, 0.5),
        (special.xlog1py, 1 / 3),
        (special.rel_entr, -0.5),
        (special.kl_div, -0.5),
    ]:
        mixed = fg.grad(lambda b, f=f: fg.grad(lambda a: f(a, b))(0.0))(2.0)
        other = fg.grad(lambda a, f=f: fg.grad(lambda b: f(a, b))(2.0))(0.0)
        assert mixed == pytest.approx(expected) and other == pytest.approx(expected), f


def test_log1mexp():
    x = np.array([1e-300, 1e-9, 0.3, 0.7, 5, 40, 700, INF, 0, -1])
    with mpmath.workdps(400):
        expected = [float(mpmath.log(-mpmath.expm1(-mpmath.mpf(float(v))))) if 0 < v < INF else v for v in x]
    expected[-3:] = [0, -INF, NAN]
    np.testing.assert_allclose(special.log1mexp(x).numpy(), expected, rtol=1e-15)


# ---- tails -----------------------------------------------------------------------------------------------------------
def test_the_logarithm_of_the_normal_tail_has_its_derivatives():
    """Far out the first is -x - 1 / x + 2 / x^3, the second -1 + 1 / x^2 - 6 / x^4."""
    for x in (-40.0, -1e4):
        first, second = fg.grad(special.log_ndtr)(x), fg.grad(fg.grad(special.log_ndtr))(x)
        assert first == pytest.approx(-x - 1 / x + 2 / x**3, rel=1e-7)
        assert second == pytest.approx(-1 + 1 / x**2 - 6 / x**4, rel=1e-7)
        assert np.isfinite(fg.grad(fg.grad(fg.grad(special.log_ndtr)))(x))


def test_the_quantile_of_a_tiny_probability_has_its_derivatives():
    """dx/dp = 1 / phi(x), and the second derivative is x / phi(x)^2."""
    for p in (1e-300, 1e-20, 0.3, 1 - 1e-12):
        x, first = special.ndtri(p).item(), fg.grad(special.ndtri)(p)
        phi = mpmath.exp(-(mpmath.mpf(x) ** 2) / 2) / mpmath.sqrt(2 * mpmath.pi)
        assert first == pytest.approx(float(1 / phi), rel=1e-12)
        if p > 1e-100:
            assert fg.grad(fg.grad(special.ndtri))(p) == pytest.approx(float(x / phi**2), rel=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, ends, slope", [
    ("ndtri", (0.0, -0.0, 1.0), np.inf), ("erfinv", (-1.0, 1.0), np.inf), ("erfcinv", (0.0, -0.0, 2.0), -np.inf),
])  # fmt: skip
def test_the_slopes_of_quantiles_are_infinite_at_the_ends(name, ends, slope, dtype):
    gradient = fg.grad(lambda x: getattr(special, name)(x).sum())
    for f in (gradient, fg.compile(gradient)):
        np.testing.assert_array_equal(f(np.array(ends, dtype)), np.full(len(ends), slope, dtype))


def test_quantile_and_distribution_are_inverse():
    p = np.concatenate([10.0 ** -np.arange(1, 300, 13), np.linspace(0.01, 0.99, 50)])
    np.testing.assert_allclose(special.ndtr(special.ndtri(p)).numpy(), p, rtol=1e-12)
    x = np.linspace(-3, 3, 41)
    np.testing.assert_allclose(special.erfinv(special.erf(x)).numpy(), x, rtol=1e-10, atol=1e-16)


# ---- the gamma function ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 40])
def test_polygamma_is_scipys(n):
    x = np.array([1e-3, 0.3, 1, 2.5, 7.9, 8.1, 40, 1e5])
    np.testing.assert_allclose(special.polygamma(n, x).numpy(), scipy.special.polygamma(n, x), rtol=2e-15 * (n + 4))
    below = np.array([-0.3, -1.25, -6.6])
    expected = [float(mpmath.polygamma(n, float(v))) for v in below]
    np.testing.assert_allclose(special.polygamma(n, below).numpy(), expected, rtol=1e-12)
    if n:
        poles = special.polygamma(n, [0.0, -1.0, -7.0]).numpy()
        np.testing.assert_array_equal(poles, scipy.special.polygamma(n, [0.0, -1.0, -7.0]))


def test_polygamma_of_several_orders_broadcasts():
    n, x = np.array([[0], [1], [3]]), np.array([0.5, 2.0])
    np.testing.assert_allclose(special.polygamma(n, x).numpy(), scipy.special.polygamma(n, x), rtol=1e-14)
    assert special.polygamma(2, np.float32(1.5)).dtype == np.float32
    fg.check_grads(lambda x: special.polygamma(n, x), (x,), order=2)


def test_derivatives_of_gammaln_of_every_order():
    f = special.gammaln
    for n in range(5):
        f = fg.grad(f)
        assert f(2.25) == pytest.approx(float(scipy.special.polygamma(n, 2.25)), rel=1e-14)


def test_compiled_and_mapped():
    f = lambda x: special.gammaln(x) * special.polygamma(3, x) + special.log_ndtr(x) + special.betaln(x, 2.0)
    x = np.linspace(0.5, 3, 7)
    g = fg.grad(lambda x: f(x).sum())
    np.testing.assert_allclose(fg.compile(g)(x), g(x), rtol=1e-14)
    np.testing.assert_allclose(np.asarray(fg.vmap(fg.grad(f))(x)), g(x), rtol=1e-14)


def test_multigammaln():
    for d in (1, 2, 5):
        a = np.array([[3.5, 9.0], [20.0, 100.0]])
        np.testing.assert_allclose(special.multigammaln(a, d).numpy(), scipy.special.multigammaln(a, d), rtol=1e-13)
        fg.check_grads(lambda a, d=d: special.multigammaln(a, d), (a,), order=2)
    assert np.isnan(special.multigammaln(0.5, 3).item())


def test_beta_and_binomial_coefficients():
    a, b = np.array([0.5, 2.5, -0.5, -1.5, 30]), np.array([3.0, 0.25, 2.25, 0.75, 4])
    np.testing.assert_allclose(special.beta(a, b).numpy(), scipy.special.beta(a, b), rtol=1e-13)
    n, k = np.array([5.0, 10, 60.5]), np.array([2.0, 10, 7])
    np.testing.assert_allclose(special.binom(n, k).numpy(), scipy.special.binom(n, k), rtol=1e-12)
    n = np.array([5, 5, 5.5, 5.5, -1.5, -3.5, 0, 60, 200, -70.5])
    k = np.array([6, 6.5, 7, -0.5, 5, 6, 0.5, 60.5, 201.5, 3])
    np.testing.assert_allclose(special.binom(n, k).numpy(), scipy.special.binom(n, k), rtol=1e-11, atol=1e-300)
    fg.check_grads(special.binom, (n[:-3], k[:-3]), order=2)
    assert np.isnan(special.binom(-2.0, 3.0).item())
    x = EDGES[np.isfinite(EDGES)]
    np.testing.assert_array_equal(special.gammasgn(x).numpy(), scipy.special.gammasgn(x))


def test_beta_of_negative_whole_numbers():
    """Values are SciPy's: the limits along the negative whole number, with derivatives by that."""
    whole = np.arange(-5.0, 8.0)
    a, b = (x.ravel() for x in np.meshgrid(whole, [*whole, -2.5, 0.5, 3.25]))
    expected = scipy.special.beta(a, b)
    for f in (special.beta, fg.compile(special.beta), fg.vmap(special.beta)):
        np.testing.assert_allclose(np.asarray(f(a, b)), expected, rtol=1e-13)
        np.testing.assert_allclose(np.asarray(f(b, a)), scipy.special.beta(b, a), rtol=1e-13)
    np.testing.assert_allclose(special.beta(a.astype(np.float32), b.astype(np.float32)).numpy(), expected, rtol=1e-5)
    assert special.beta(-200.5, -200.5).item() == 0
    f = lambda a: special.beta(a, 2.0)  # 1 / a - 1 / (a + 1)
    np.testing.assert_allclose(fg.grad(f)(-5.0), -1 / 25 + 1 / 16, rtol=1e-12)
    np.testing.assert_allclose(fg.hessian(f)(-5.0), -2 / 125 + 2 / 64, rtol=1e-12)
    by_a, by_b = fg.grad(lambda a, b: special.beta(a, b).sum(), (0, 1))(np.array([-2.0, 2.0]), np.array([1.0, 3.0]))
    np.testing.assert_allclose(by_a[0], -1 / 4, rtol=1e-12)
    assert np.isnan(by_b[0]) and np.isfinite(by_a[1]) and np.isfinite(by_b[1])
    for slope in fg.grad(special.beta, (0, 1))(-3.0, 2.5):
        assert np.isnan(slope)


def test_betaln_does_not_cancel():
    for a, b in [(1e10, 1.0), (1e15, 3.0), (1e8, 1e-5), (1e6, 1e6)]:
        exactly = mpmath.log(mpmath.beta(a, b))
        assert special.betaln(a, b).item() == pytest.approx(float(exactly), rel=1e-15)
    with mpmath.workdps(40):
        exactly = mpmath.digamma(mpmath.mpf(1e10)) - mpmath.digamma(mpmath.mpf(1e10) + 1)
        assert fg.grad(special.betaln)(1e10, 1.0) == pytest.approx(float(exactly), rel=1e-14)


# ---- sums of exponentials -------------------------------------------------------------------------------------------
AXES = [None, 0, 1, (0, 1), (0, 2), -1, ()]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_is_scipys(axis, keepdims):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4)) * 100, rng.normal(size=(3, 1))
    b[1] = 0
    for weights in (None, b, np.abs(b)):
        expected = scipy.special.logsumexp(a, axis=axis, b=weights, keepdims=keepdims, return_sign=True)
        got = special.logsumexp(a, axis, weights, keepdims, return_sign=True)
        for ours, theirs in zip(got, expected):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12)


def test_logsumexp_gradients_and_edges():
    a, b = np.array([[0.5, -1.0, 2.0]]), np.array([[1.0], [-0.25]])
    fg.check_grads(lambda a, b: special.logsumexp(a, 0, b, return_sign=True)[0], (a, b), order=2)
    assert np.isnan(special.logsumexp([0.0, 1.0], b=[1.0, -1.0]).item())
    assert special.logsumexp([INF, 0.0], b=[0.0, 1.0]).item() == 0
    assert special.logsumexp([-INF, -INF], b=[1.0, 2.0]).item() == -INF
    assert special.logsumexp([-INF], return_sign=True)[1].item() == 0
    by_a, by_b = gradients(lambda a, b: special.logsumexp(a, b=b), np.array([900.0, -900.0]), np.array([1.0, 0.0]))
    np.testing.assert_array_equal(by_a, [1, 0])


@pytest.mark.parametrize("axis", AXES[:-1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_is_scipys(name, axis):
    x = np.random.default_rng(1).normal(size=(2, 3, 4)) * 10
    ours = lambda x: getattr(special, name)(x, axis)
    np.testing.assert_allclose(ours(x).numpy(), getattr(scipy.special, name)(x, axis), rtol=1e-12)
    fg.check_grads(ours, (x / 10,), order=2)


# ---- SciPy's own functions of tensors -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*ONE, *TWO, *BESSEL, "beta", "binom", "gammasgn"])
def test_scipys_ufuncs_of_tensors_are_ours(name):
    theirs = getattr(scipy.special, name)
    arguments = [np.array([0.25, 0.5])] * (1 if theirs.__name__ in {*ONE, *BESSEL, "gammasgn"} else 2)
    t = fg.tensor(arguments[0], requires_grad=True)
    got = theirs(t, *arguments[1:])
    assert isinstance(got, fg.Tensor) and got.requires_grad == (name != "gammasgn")
    np.testing.assert_allclose(got.numpy(), theirs(*arguments), rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        *((name, lambda f, t: f(t)) for name in ("logsumexp", "softmax", "log_softmax")),
        ("polygamma", lambda f, t: f(2, t)),
        ("multigammaln", lambda f, t: f(t + 3, 2)),
    ],
)
def test_scipys_other_functions_name_ours(name, call):
    t = fg.tensor([0.25, 0.5], requires_grad=True)
    with pytest.raises(TypeError, match=f"use fastgrad.special.{name}"):
        call(getattr(scipy.special, name), t)


@pytest.mark.parametrize("name", ["i0", "sinc"])
def test_numpys_functions_of_tensors_are_ours(name):
    x = np.array([[0.0, -0.25, 3.0], [0.5, 20.0, -2.0]])
    t = fg.tensor(x, requires_grad=True)
    got = getattr(np, name)(t)
    assert isinstance(got, fg.Tensor) and got.requires_grad
    np.testing.assert_array_equal(got.numpy(), getattr(special, name)(x).numpy())
    np.testing.assert_allclose(got.numpy(), getattr(np, name)(x), rtol=1e-13, atol=1e-16)
    expected = fg.grad(lambda x: getattr(special, name)(x).sum())(x)
    np.testing.assert_array_equal(fg.grad(lambda x: getattr(np, name)(x).sum())(x), expected)


@pytest.mark.parametrize("large", [-5.0, 1.0, 3.0, 50.0])
def test_a_weight_of_0_has_a_derivative(large):
    """That of a weight is exp(a) over the sum."""
    a, b = np.array([large, 2.0]), np.array([0.0, 1.0])
    f = lambda a, b: special.logsumexp(a, b=b)
    expected = np.exp(a - 2)
    by_a, by_b = fg.grad(f, argnums=(0, 1))(a, b)
    np.testing.assert_array_equal(by_a, [0, 1])
    np.testing.assert_allclose(by_b, expected, rtol=1e-15)
    np.testing.assert_allclose(fg.compile(fg.hessian(f, argnums=1))(a, b), -np.outer(expected, expected), rtol=1e-14)


@pytest.mark.parametrize("a", [np.nan, np.inf, -np.inf, 1e300])
def test_a_term_of_weight_0_changes_nothing(a):
    value, by_b = fg.value_and_grad(lambda b: special.logsumexp(np.array([a, 2.0]), b=b))(np.array([0.0, 1.0]))
    assert value == 2 and by_b[1] == 1 and np.isfinite(by_b[0])


ERRORS = [
    (lambda: special.polygamma(-1, 1.0), ValueError, "polygamma: expected whole orders from 0 to 100000, got -1"),
    (lambda: special.polygamma(1.5, 1.0), ValueError, "polygamma: expected whole orders from 0 to 100000, got 1.5"),
    *((lambda n=n: special.polygamma(n, 1.0), ValueError, f"polygamma: expected whole orders from 0 to 100000, got {n}")
      for n in (100_001, 2**31, 2**63, 10**30, np.inf, np.nan)),
    (lambda: special.polygamma(fg.tensor(1.0, requires_grad=True), 1.0), TypeError,
     "polygamma: the order n must be a constant: there is no derivative by it, and it is not traced; got a tensor that "
     "requires gradients"),
    (lambda: special.multigammaln(1.0, 0), ValueError, "multigammaln: expected a dimension of at least 1, got d=0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), ERRORS)
def test_errors(call, error, text):
    with raises_text(error, text):
        call()


def test_the_sign_of_a_sum_that_underflows():
    for dtype, x in ((np.float64, -800.0), (np.float32, -110.0)):
        y, sign = fg.special.logsumexp(np.array([x], dtype), return_sign=True)
        assert (y.item(), sign.item(), sign.dtype) == (x, 1, dtype)
    assert [fg.special.logsumexp([x], return_sign=True)[1].item() for x in (-np.inf, np.inf)] == [0, 1]
    assert np.isnan(fg.special.logsumexp([np.nan], return_sign=True)[1])


def test_the_dimension_of_multigammaln():
    with pytest.raises(ValueError, match=r"expected a dimension of at least 1, got d=2\.5"):
        fg.special.multigammaln(3.0, 2.5)
    with pytest.raises(fg.TraceError):
        fg.compile(fg.special.multigammaln)(3.0, 2)
    assert np.isnan(fg.special.multigammaln(-0.5, 1))


def test_entropies_whose_sums_overflow():
    big = np.finfo(float).max
    for f, slope in ((fg.special.rel_entr, 20.007184995170291), (fg.special.kl_div, 19.007184995170291)):
        assert abs(fg.grad(lambda a: f(a, 1e300))(big) - slope) < 1e-14 * slope


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name, unusual", [("gammaln", -0.5), ("gammaln", 0.0), ("ndtri", 0.0), ("ndtri", 1e-30)])
def test_the_same_bits_beside_an_argument_that_is_not_usual(name, unusual, dtype):
    """Blocks of positive arguments, or of probabilities that are not tiny, are computed by a shorter loop."""
    rng, f = np.random.default_rng(0), getattr(special, name)
    if name == "gammaln":
        x = [rng.uniform(1e-3, 20, 2000), 10.0 ** rng.uniform(-17, 30, 2000), [0.75, 1, 2, 2.5, 7.5, 8]]
    else:
        x = [rng.uniform(1e-6, 1, 2000), 10.0 ** rng.uniform(-17, -1, 2000), 1 - 10.0 ** rng.uniform(-6, -1, 2000)]
    x = np.concatenate(x).astype(dtype)
    among = np.insert(x, np.arange(0, x.size, 100), dtype(unusual))
    keep = np.insert(np.full(x.size, True), np.arange(0, x.size, 100), False)
    y = f(fg.asarray(x)).numpy()
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(f(fg.asarray(among)).numpy()[keep], y)
    np.testing.assert_array_equal(np.array([f(v).item() for v in x[:50]], dtype), y[:50])


@pytest.mark.parametrize("dtype", FLOATS)
def test_extreme_arguments_of_the_beta_function_and_of_coefficients(dtype):
    """Where SciPy's values are the limits."""
    huge, tiny = (1e30, 1e-30) if dtype == np.float32 else (1e300, 1e-300)
    cases = {
        "beta": [(-0.5, -0.5), (-0.5, huge), (huge, -0.5), (-0.5, tiny), (-1.5, 2.5), (0.0, 0.5), (-0.5, 0.25)],
        "betaln": [(-0.5, -0.5), (-0.5, huge), (huge, -0.5), (-7.5, 20.25), (-0.5, INF), (0.5, INF)],
        "binom": [(0.5, -INF), (0.5, -huge), (huge, -2), (INF, -2), (INF, 0), (INF, 2), (-1, 0.5), (-2, 0.5)],
    }
    for name, pairs in cases.items():
        a, b = (np.array(v, dtype) for v in zip(*pairs, strict=True))
        expected = getattr(scipy.special, name)(a.astype(float), b.astype(float))
        if name == "betaln":
            expected[pairs.index((-0.5, INF))] = INF  # SciPy's is -inf, but the function grows as the root of b
        f = getattr(special, name)
        for y in (f(a, b).numpy(), np.asarray(fg.compile(f)(a, b))):
            assert y.dtype == dtype
            np.testing.assert_allclose(y, expected, rtol=100 * np.finfo(dtype).eps, err_msg=name)
    assert np.isinf(special.beta(np.array([-2, 0.5], dtype), np.array([0.5, -1], dtype)).numpy()).all()
    fg.check_grads(special.beta, (np.array([-0.5, -0.4], dtype), np.array([-0.5, 0.3], dtype)), order=1)


def test_betaln_has_the_same_bits_among_unusual_arguments():
    rng = np.random.default_rng(0)
    a, b = 10.0 ** rng.uniform(-3, 3, (2, 2000))
    places = np.arange(0, a.size, 100)
    y = special.betaln(np.insert(a, places, -0.5), np.insert(b, places, 2.0)).numpy()
    keep = np.insert(np.full(a.size, True), places, False)
    np.testing.assert_array_equal(y[keep], special.betaln(a, b).numpy())
    assert special.betaln(1.0, 1.0).item() == 0
