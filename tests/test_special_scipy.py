"""The functions of fastgrad.special that SciPy computes: values, derivatives by every argument that has one, in the
tails too, the same under every transform, dispatch, and errors."""

import itertools
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
from _oracles import FLOATS

import fastgrad as fg
from fastgrad import special
from fastgrad._numpy.incomplete import gamma_quantile_slope

# name: arguments, and the places of those that are differentiated
ROWS = {
    "betainc": ((2.3, 1.2, 0.3), (0, 1, 2)), "betaincc": ((2.3, 1.2, 0.3), (0, 1, 2)),
    "betaincinv": ((2.3, 1.2, 0.3), (0, 1, 2)), "betainccinv": ((2.3, 1.2, 0.3), (0, 1, 2)),
    "gammainc": ((2.3, 1.9), (0, 1)), "gammaincc": ((2.3, 1.9), (0, 1)), "gammaincinv": ((2.3, 0.2), (0, 1)),
    "gammainccinv": ((2.3, 0.2), (0, 1)), "stdtr": ((2.3, -0.4), (0, 1)), "stdtrit": ((2.3, 0.4), (0, 1)),
    "hyp2f1": ((0.3, 1.2, 2.0, 0.3), (3,)), "iv": ((0.4, 1.2), (1,)),
    "ive": ((2, -1.2), (1,)),  # of a negative number only whole orders are real
    "jv": ((0.4, 1.2), (1,)), "yv": ((0.4, 1.2), (1,)), "kv": ((0.4, 1.2), (1,)), "kve": ((0.4, 1.2), (1,)),
    "owens_t": ((-0.4, 1.2), (0, 1)), "zeta": ((2.5, 1.3), (1,)),
}  # fmt: skip


def ours(name):
    return getattr(special, name)


def theirs(name):
    return getattr(scipy.special, name)


def by_last(name):
    """The function of its last argument, which every row is differentiated by."""
    *fixed, x = ROWS[name][0]
    return (lambda x: ours(name)(*fixed, x)), x


# ---- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_values_are_scipys(name, dtype):
    *fixed, x = ROWS[name][0]
    arguments = [np.full((2, 1), p, dtype) for p in fixed] + [np.asarray([x, 0.9 * x, np.nan], dtype)]
    got, expected = ours(name)(*arguments), theirs(name)(*arguments)
    assert (got.dtype, got.shape) == (dtype, (2, 3))
    np.testing.assert_allclose(got.numpy(), expected, rtol=100 * np.finfo(dtype).eps)
    assert ours(name)(*fixed, np.zeros((0, 2), dtype)).shape == (0, 2)
    assert ours(name)(*fixed, np.asarray([x], dtype)).dtype == dtype  # Python's numbers are weak
    assert ours(name)(*arguments[:-1], x).dtype == (dtype if fixed else np.float64)
    whole = [2] * len(fixed) + [1]
    assert ours(name)(*whole).dtype == np.float64
    np.testing.assert_allclose(ours(name)(*whole).numpy(), theirs(name)(*map(float, whole)), rtol=1e-13)


@pytest.mark.parametrize("name", ["betainc", "betaincc", "gammainc", "gammaincc"])
def test_values_at_the_edges_are_scipys(name):
    edges = np.array([0, 1e-300, 1e-5, 0.5, 1 - 1e-10, 1, 30, 1e6, np.nan])
    last = edges if "gamma" in name else edges[(edges <= 1) | np.isnan(edges)]
    shapes = edges[edges > 0] if "beta" in name else edges
    grid = np.meshgrid(*[shapes] * (1 if "gamma" in name else 2), last)
    np.testing.assert_allclose(ours(name)(*grid).numpy(), theirs(name)(*grid), rtol=1e-11, atol=1e-300)


def test_ends_of_stdtr_are_scipys():
    grid = np.meshgrid([-1.0, 0.0, 1e-300, 0.3, 30.0, 1e12, np.inf, np.nan], [-np.inf, -2.5, 0.0, 1.0, np.inf, np.nan])
    np.testing.assert_allclose(special.stdtr(*grid).numpy(), scipy.special.stdtr(*grid), rtol=1e-11)
    with np.errstate(all="ignore"):
        expected = np.log(scipy.special.stdtr(*grid))
    np.testing.assert_allclose(fg.stats.t.logcdf(grid[1], grid[0]).numpy(), np.where(grid[0] > 0, expected, np.nan),
                               rtol=1e-11)  # fmt: skip


def test_zeta_of_riemann():
    np.testing.assert_allclose(special.zeta([2.0, 0.5]).numpy(), scipy.special.zeta([2.0, 0.5]), rtol=1e-14)
    assert isinstance(scipy.special.zeta(fg.tensor(2.0)), fg.Tensor)
    with pytest.raises(NotImplementedError, match="special.zeta: there is no derivative by its argument x"):
        fg.grad(special.zeta)(2.0)


# ---- derivatives -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ROWS)
def test_derivatives(name):
    arguments, places = ROWS[name]

    def f(*free):
        given = list(arguments)
        for place, value in zip(places, free):
            given[place] = value
        return ours(name)(*given)

    free = [arguments[place] * np.array([1.0, 0.9]) for place in places]
    fg.check_grads(f, tuple(free), order=2, rtol=1e-5)
    fg.check_grads(f, tuple(free[:1] + [x[0] for x in free[1:]]), rtol=1e-5)  # broadcast
    for x in free:
        assert fg.grad(lambda *free: f(*free).sum())(*[x.astype(np.float32) for x in free]).dtype == np.float32


@pytest.mark.parametrize("name", [name for name, (arguments, places) in ROWS.items() if 0 not in places])
def test_an_argument_without_a_derivative_is_an_error(name):
    arguments = ROWS[name][0]
    words = {"hyp2f1": "its parameter a", "zeta": "its argument x"}.get(name, "its order v")
    text = f"special.{name}: there is no derivative by {words}, by which it is differentiated; pass that as a number"
    with pytest.raises(NotImplementedError, match=text):
        fg.grad(ours(name))(*map(float, arguments))
    with pytest.raises(NotImplementedError, match=text):
        fg.jvp(lambda v: ours(name)(v, *arguments[1:]), (float(arguments[0]),), (1.0,))
    v = fg.tensor(float(arguments[0]), requires_grad=True)
    y = ours(name)(v.detach(), *arguments[1:-1], fg.tensor(arguments[-1], requires_grad=True))
    assert y.requires_grad


SHAPES = (0.02, 0.7, 1.0, 3.0, 40.0, 2000.0)


def q_of_gamma(a, x):
    return mpmath.exp(a * mpmath.log(x) - x - mpmath.loggamma(a))


def test_derivatives_by_the_shape_of_gammainc():
    """Against differences of 60 digits, of the smaller tail, from where it is 1e-300 to where it is nearly 1."""
    with mpmath.workdps(60):
        for a, ratio in itertools.product(SHAPES, (1e-3, 0.4, 0.97, 1.02, 1.8, 5.0, 50.0)):
            x = a * ratio
            p, z = map(mpmath.mpf, (a, x))
            below = lambda p, z=z: mpmath.gammainc(p, 0, z, regularized=True)
            above = lambda p, z=z: -mpmath.gammainc(p, z, mpmath.inf, regularized=True)
            step = p * mpmath.mpf(10) ** -20
            f = below if ratio < 1 else above
            slope = (f(p + step) - f(p - step)) / (2 * step) / q_of_gamma(p, z)
            got = -gamma_quantile_slope(fg.tensor(a), fg.tensor(x)).item() / x
            assert abs(got - slope) <= 1e-13 * abs(slope), (a, x, got, float(slope))


def test_derivatives_by_the_shapes_of_betainc():
    with mpmath.workdps(60):
        for a, b, place in itertools.product(SHAPES[1:5], SHAPES[1:], (0.01, 0.5, 0.99, 1.01, 1.5)):
            middle = a / (a + b)
            x = middle * place if place < 1 else middle + (1 - middle) * (1 - 1 / place)
            p, q, z = map(mpmath.mpf, (a, b, x))
            f = lambda p, q, z=z: mpmath.betainc(p, q, 0, z, regularized=True)
            if place > 1:
                f = lambda p, q, z=z: -mpmath.betainc(q, p, 0, 1 - z, regularized=True)
            h = mpmath.mpf(10) ** -20
            got = fg.grad(special.betainc, (0, 1))(a, b, x)
            expected = ((f(p + h, q) - f(p - h, q)) / (2 * h), (f(p, q + h) - f(p, q - h)) / (2 * h))
            for found, slope in zip(got, expected):
                assert abs(found - slope) <= (1e-12 + 2e-15 * max(a, b)) * abs(slope) + 1e-300, (a, b, x, found)


@pytest.mark.parametrize("df, t", [(0.3, -2.0), (3.0, 1e-9), (3.0, 0.0), (30.0, 1.5), (2.5, -1e8), (400.0, -3.0)])
def test_derivatives_of_stdtr(df, t):
    with mpmath.workdps(50):
        n, z = map(mpmath.mpf, (df, t))

        def below(n):
            tail = mpmath.betainc(n / 2, mpmath.mpf(1) / 2, 0, n / (n + z * z), regularized=True) / 2
            return tail if t < 0 else 1 - tail

        expected = float(
            (below(n + mpmath.mpf(10) ** -15) - below(n - mpmath.mpf(10) ** -15)) / (2 * mpmath.mpf(10) ** -15)
        )
    got = fg.grad(special.stdtr)(df, t)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(fg.grad(special.stdtr, 1)(df, t), scipy.stats.t.pdf(t, df), rtol=1e-12)


def test_derivatives_at_the_ends():
    """Finite by the shapes, and by x the density there, at both ends of the domain."""
    for a, at_0 in ((1.0, 1.0), (2.0, 0.0), (0.5, np.inf)):
        by_a, by_x = fg.grad(special.gammainc, (0, 1))(a, 0.0)
        assert (by_a, by_x) == (0, at_0)
        assert fg.grad(special.gammaincc, (0, 1))(a, np.inf) == (0, 0)
    assert fg.grad(special.betainc, (0, 1, 2))(1.0, 3.0, 0.0) == pytest.approx((0, 0, 3.0), abs=0, rel=1e-14)
    assert fg.grad(special.betainc, (0, 1, 2))(3.0, 1.0, 1.0) == pytest.approx((0, 0, 3.0), abs=0, rel=1e-14)
    assert fg.grad(special.betaincc, (0, 1, 2))(3.0, 2.0, 1.0) == (0, 0, 0)
    assert fg.grad(special.gammaincinv, (0, 1))(2.0, 0.0) == (0, np.inf)


def test_the_slope_of_a_quantile_that_underflowed_is_0():
    for x in (0.0, np.inf):
        assert gamma_quantile_slope(fg.tensor(0.01), fg.tensor(x)).item() == 0
    f = lambda a: gamma_quantile_slope(fg.asarray(a), fg.asarray(np.array([0.0, 1e-200, 0.3])))
    assert np.isfinite(fg.jvp(f, (0.01,), (1.0,))[1]).all()


# ---- transforms ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ROWS)
def test_compiled_mapped_and_in_loops(name):
    f, x = by_last(name)
    xs = x * np.array([0.8, 0.95, 1.0, 1.1])
    slope = fg.grad(lambda x: f(x).sum())
    compiled, expected = fg.compile(slope), slope(xs)
    np.testing.assert_allclose(compiled(xs), expected, rtol=1e-14)
    np.testing.assert_allclose(compiled(xs * 0.9), slope(xs * 0.9), rtol=1e-14)
    np.testing.assert_allclose(fg.vmap(fg.grad(f))(xs), expected, rtol=1e-14)
    np.testing.assert_allclose(fg.jvp(f, (xs,), (np.ones(4),))[1], expected, rtol=1e-13)
    second = fg.vmap(fg.grad(fg.grad(f)))
    np.testing.assert_allclose(fg.compile(second)(xs), second(xs), rtol=1e-13)
    np.testing.assert_allclose(np.diagonal(fg.jacobian(f)(xs)), expected, rtol=1e-13)
    loop = lambda x: fg.scan(lambda c, _: (0.9 * c + 0.01 * f(c), None), x, None, 3)[0]
    step = x
    for _ in range(3):
        step = 0.9 * step + 0.01 * float(f(step))
    np.testing.assert_allclose(fg.compile(loop)(x), step, rtol=1e-13)
    np.testing.assert_allclose(fg.compile(fg.grad(loop))(x), fg.grad(loop)(x), rtol=1e-12)


def test_parameters_of_a_compiled_function_may_change():
    f = fg.compile(lambda v, x: special.kv(v, x))
    for v in (0.5, 1.5):
        np.testing.assert_allclose(f(v, [1.0, 2.0]), scipy.special.kv(v, [1.0, 2.0]), rtol=1e-14)


def test_a_hessian_of_elements_is_sparse():
    f = lambda x: special.gammainc(2.0, x).sum()
    found = fg.sparse.hessian(f)(np.array([0.5, 1.0, 2.0]))
    np.testing.assert_array_equal(np.asarray(found.toarray()) != 0, np.eye(3) * [1, 0, 1] != 0)


def test_a_program_names_what_it_calls():
    assert "host.jv" in str(fg.compile(lambda x: special.jv(1.0, x)).program(2.0))


# ---- dispatch and errors ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ROWS)
def test_scipys_functions_of_tensors_are_ours(name):
    *fixed, x = ROWS[name][0]
    got = theirs(name)(*fixed, fg.tensor([x], requires_grad=True))
    assert isinstance(got, fg.Tensor) and got.requires_grad
    np.testing.assert_allclose(got.numpy(), theirs(name)(*fixed, [x]), rtol=1e-13)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"kv: shapes \(2,\) and \(3,\) do not broadcast"):
        special.kv(np.ones(2), np.ones(3))
    with pytest.raises(TypeError, match="gammainc"):
        special.gammainc("a", 1.0)


def test_without_scipy_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['scipy'] = None\n"
        "import fastgrad as fg\n"
        "assert fg.special.gammaln(3.0).item() > 0\n"
        "for f in (lambda: fg.special.kv(1.0, 2.0), lambda: fg.stats.gamma.cdf(1.0, 2.0)):\n"
        "    try: f()\n"
        "    except ImportError as error: assert 'pip install scipy' in str(error), error\n"
        "    else: raise AssertionError('no error')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_t_distribution_of_the_least_degree_of_freedom():
    np.testing.assert_allclose(special.stdtr(5e-324, [-1e300, -2.0, 0.0, 2.0, 1e300]).numpy(), 0.5, rtol=1e-12)


def test_inverses_of_tiny_probabilities():
    """By the leading term of the series, computed in high precision; SciPy's are nan or stop at the smallest number."""
    for a, b, p in ((4.0, 1.5, 1e-200), (4.0, 1.5, 1e-300), (0.4, 0.15, 1e-100), (1.5, 4.0, 1e-300), (4.0, 1.5, 1e-90)):
        expected = (mpmath.mpf(p) * a * mpmath.beta(a, b)) ** (1 / mpmath.mpf(a))
        np.testing.assert_allclose(special.betaincinv(a, b, p).item(), float(expected), rtol=1e-12)
    assert special.betaincinv(0.1, 0.2, 1e-300).item() == 0
    fg.check_grads(lambda q: fg.log(fg.stats.f.isf(fg.exp(q), 3, 8)), (np.array([-460.0]),), order=1)
    np.testing.assert_allclose(fg.stats.f.sf(fg.stats.f.isf(1e-200, 3, 8), 3, 8).item(), 1e-200, rtol=1e-10)
    for f in (fg.stats.gamma.ppf, fg.stats.chi2.ppf):  # the quantile is too small for a float
        slope = fg.grad(lambda q, f=f: f(q, 0.1))
        assert slope(1e-100) == 0 and fg.grad(slope)(1e-100) == 0
