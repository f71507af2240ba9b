"""minimize, least_squares and root: SciPy's, on structures, with exact derivatives."""

import copy
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import scipy.optimize
from _costs import TARGET, convex, rosenbrock, squares, start

import fastgrad as fg

WITH_GRADIENT = [
    None, "CG", "BFGS", "Newton-CG", "L-BFGS-B", "TNC", "SLSQP", "dogleg", "trust-ncg", "trust-krylov",
    "trust-exact", "trust-constr",
]  # fmt: skip
WITHOUT_GRADIENT = ["Nelder-Mead", "Powell", "COBYLA", "COBYQA"]


class Model(NamedTuple):
    w: object
    b: object


@dataclass(frozen=True)
class Point:
    x: object
    y: object


def check(result):
    assert result.success, result.message
    assert set(result.x) == {"w", "b", "nothing"} and result.x["nothing"] is None
    assert result.x["w"].shape == (2, 2) and type(result.x["b"]) is np.float64
    np.testing.assert_allclose(result.x["w"], TARGET, atol=2e-3)
    np.testing.assert_allclose(result.x["b"], -1, atol=2e-3)
    assert abs(result.fun - 5) < 1e-5


# ---- every method ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", WITH_GRADIENT)
@pytest.mark.parametrize("compile", [True, False])
def test_methods_with_derivatives(method, compile):
    x0 = start()
    result = fg.minimize(convex, x0, method=method, compile=compile)
    check(result)
    assert x0["b"] == 0.5 and x0["w"].tolist() == [[1.5, 1.5], [3.5, 3.5]]
    gradient = result.grad if method == "trust-constr" else result.jac
    assert gradient["w"].shape == (2, 2) and abs(gradient["b"]) < 1e-2
    expected = np.sinh(result.x["w"] - TARGET)
    # Newton-CG reports the gradient of the step before the last.
    np.testing.assert_allclose(gradient["w"], expected, rtol=1e-10, atol=1e-4 if method == "Newton-CG" else 1e-12)


@pytest.mark.parametrize("method", WITHOUT_GRADIENT)
def test_methods_without_derivatives_see_tensors_that_are_data(method):
    seen = set()

    def f(p):
        seen.update((type(p["w"]), type(p["b"])))
        return convex(p)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fg.minimize(f, start(), method=method, tol=1e-8, options={"maxiter": 4000})
    check(result)
    assert seen == {fg.Tensor}


def test_the_search_is_that_of_scipy_with_the_exact_gradient():
    x0 = np.array([-1.2, 1.0, 0.5, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the few steps are used up
        for method in ("BFGS", "L-BFGS-B", "CG", "TNC", "SLSQP"):
            # after more steps, differences of the last bits have grown
            options = {"maxfun": 20} if method == "TNC" else {"maxiter": 8}
            ours = fg.minimize(rosenbrock, x0, method=method, options=options)
            theirs = scipy.optimize.minimize(
                scipy.optimize.rosen, x0, jac=scipy.optimize.rosen_der, method=method, options=options
            )
            assert (ours.nfev, ours.nit, ours.success) == (theirs.nfev, theirs.nit, theirs.success)
            # TNC takes differences of gradients: one last bit in x0 moves SciPy's own result by 3e-8.
            rtol = 1e-6 if method == "TNC" else 1e-11
            np.testing.assert_allclose(ours.x, theirs.x, rtol=rtol)
            np.testing.assert_allclose(ours.jac, theirs.jac, rtol=100 * rtol)
            assert type(ours) is type(theirs) and set(ours) == set(theirs)


def derivatives_given_to_a_method(f, x0, compile):
    """The objective's gradient, Hessian-vector product and Hessian, as functions of vectors."""
    given = {}

    def method(fun, x0, args=(), jac=None, hessp=None, **options):
        given.update(jac=jac, hessp=hessp, x=x0)
        return scipy.optimize.OptimizeResult(x=x0, fun=fun(x0), success=True)

    fg.minimize(f, x0, method=method, compile=compile)
    return given


@pytest.mark.parametrize("compile", [True, False])
def test_hessian_products_are_exact(compile):
    x0 = np.array([-1.2, 1.0, 0.5, 2.0])
    given = derivatives_given_to_a_method(rosenbrock, x0, compile)
    rng = np.random.default_rng(0)
    for _ in range(4):
        x, p = rng.normal(size=(2, 4))
        np.testing.assert_allclose(given["hessp"](x, p), scipy.optimize.rosen_hess_prod(x, p), rtol=1e-11, atol=1e-11)

    given = derivatives_given_to_a_method(convex, start(), compile)
    for _ in range(4):
        x, p = rng.normal(size=(2, 5))
        diagonal = [2 + 12 * (x[0] + 1) ** 2, *np.cosh(x[1:] - TARGET.ravel())]  # the leaves in order: b, w
        np.testing.assert_allclose(given["hessp"](x, p), diagonal * p, rtol=1e-12)
    linear = derivatives_given_to_a_method(lambda x: np.sum(3 * x), np.ones(2), compile)
    assert linear["hessp"](np.ones(2), np.ones(2)).tolist() == [0, 0]


@pytest.mark.parametrize("method", ["Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr"])
def test_methods_of_second_order_take_the_exact_hessian(method):
    """As many evaluations as with SciPy's own exact Hessian of the function, near its minimum (where it is convex)."""
    x0 = np.array([1.1, 1.15, 1.3])
    second = (
        {"hess": scipy.optimize.rosen_hess}
        if method in ("dogleg", "trust-exact")
        else {"hessp": scipy.optimize.rosen_hess_prod}
    )
    ours = fg.minimize(rosenbrock, x0, method=method)
    theirs = scipy.optimize.minimize(scipy.optimize.rosen, x0, jac=scipy.optimize.rosen_der, method=method, **second)
    assert (ours.nit, ours.nhev, ours.success) == (theirs.nit, theirs.nhev, theirs.success)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-8)


def test_a_custom_method_gets_the_gradient():
    def method(fun, x0, args=(), jac=None, **options):
        assert options["steps"] == 60
        x = x0
        for _ in range(60):
            x = x - 0.25 * jac(x)
        return scipy.optimize.OptimizeResult(x=x, fun=fun(x), success=True)

    result = fg.minimize(lambda p: np.sum((p[0] - 3) ** 2), [np.zeros(2)], method=method, options={"steps": 60})
    np.testing.assert_allclose(result.x[0], 3)


def test_an_unknown_method_is_scipys_error():
    for function in (fg.minimize, fg.root):
        with pytest.raises(ValueError, match="Unknown solver nope"):
            function(lambda x: x * x, 1.0, method="nope")
    with pytest.raises(ValueError, match="method"):
        fg.least_squares(lambda x: x * x, 1.0, method="nope")


# ---- x0 --------------------------------------------------------------------------------------------------------------
STARTS = {
    "array": np.array([3.0, 4.0]),
    "matrix": np.array([[3.0], [4.0]]),
    "Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "float": 3.0,
    "0-d": np.array(3.0),
    "list": [np.array([3.0, 4.0]), 5.0],
    "tuple": (np.array([3.0]), np.float64(4.0)),
    "NamedTuple": Model(np.array([3.0, 4.0]), 5.0),
    "dataclass": Point(np.array([3.0]), {"z": [np.array([[4.0]])]}),
    "float32": {"a": np.array([3.0, 4.0], np.float32), "b": np.float32(5)},
    "both dtypes": {"a": np.array([3.0, 4.0], np.float32), "b": 5.0},
    "tensor": fg.tensor([3.0, 4.0]),
    "empty leaves": [np.zeros((0, 3)), np.array([3.0]), {}, None],
}  # fmt: skip


@pytest.mark.parametrize("name", STARTS)
def test_the_result_has_the_structure_of_x0(name):
    x0 = STARTS[name]
    for result in (
        fg.minimize(squares, x0),
        fg.minimize(squares, x0, method="Nelder-Mead", tol=1e-8, options={"maxiter": 4000, "maxfev": 4000}),
        fg.least_squares(lambda tree: fg.tree.map(lambda leaf: leaf - 1, tree), x0),
        fg.root(lambda tree: fg.tree.map(lambda leaf: 2 * leaf - 2, tree), x0),
    ):
        assert fg.tree.structure(result.x) == fg.tree.structure(x0)
        for got, leaf in zip(fg.tree.leaves(result.x), fg.tree.leaves(x0)):
            assert np.asarray(got).dtype == np.asarray(leaf).dtype and np.shape(got) == np.shape(leaf)
            assert isinstance(got, np.ndarray) == (not isinstance(leaf, (float, np.floating)))
            np.testing.assert_allclose(got, 1, atol=1e-4)
        for key in ("jac", "grad"):
            if key in result and not isinstance(result[key], np.ndarray):
                assert fg.tree.structure(result[key]) == fg.tree.structure(x0)


def test_the_function_sees_the_dtypes_of_x0():
    seen = []

    def f(p):
        seen.append((p["a"].dtype, p["a"].shape, p["b"].dtype, p["b"].shape))
        return np.sum(p["a"] ** 2) + p["b"] ** 2

    fg.minimize(f, STARTS["both dtypes"], compile=False)
    assert set(seen) == {(np.dtype(np.float32), (2,), np.dtype(np.float64), ())}


@pytest.mark.parametrize("function", [fg.minimize, fg.least_squares, fg.root])
@pytest.mark.parametrize(
    ("x0", "message"),
    [
        (
            {"a": [1.0, np.array([1j])]},
            r"x0\['a'\]\[1\] is of dtype complex128, expected float32 or float64 arrays and",
        ),
        ({"a": np.float16(1)}, r"x0\['a'\] is of dtype float16, expected"),
        ([1.0, "x"], r"x0\[1\] is a str, expected"),
        (np.array([1j]), "x0 is of dtype complex128, expected"),
        (np.ma.masked_array([1.0], [True]), "x0 is of dtype float64, expected"),
        (True, "x0 is a bool, expected"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_place(function, x0, message):
    with pytest.raises(TypeError, match=f"^{function.__name__}: {message}"):
        function(squares, x0)


@pytest.mark.parametrize("x0", [{}, None, [], np.zeros((0, 2))])
def test_no_numbers(x0):
    with pytest.raises(ValueError, match="^minimize: x0 holds no numbers"):
        fg.minimize(squares, x0)


def test_x0_that_is_being_differentiated_is_refused():
    with pytest.raises(TypeError, match=r"minimize: x0\[0\] is a tensor of a function being differentiated"):
        fg.grad(lambda x: fg.minimize(squares, [x]).x[0])(1.0)


def test_lists_and_integers_are_arrays():
    def shifted(x):
        return (x - 2) ** 2

    for x0 in ([0.0, 1.0], [0, 1], np.array([0, 1])):
        for solve in (lambda f, x: fg.minimize(lambda x: np.sum(f(x)), x), fg.least_squares,
                      lambda f, x: fg.minimize(lambda x: np.sum(f(x)), x, method="Powell"),
                      lambda f, x: fg.root(lambda x: x - 2, x)):  # fmt: skip
            found = solve(shifted, x0).x
            assert found.dtype == np.float64 and found.shape == (2,)
            np.testing.assert_allclose(found, 2, atol=0.01)
    assert isinstance(fg.minimize(shifted, 1).x, np.float64)
    found = fg.minimize(lambda p: np.sum((p["w"] - 2) ** 2) + p["b"] ** 2, {"w": [[0, 1]], "b": 3}, method="BFGS").x
    np.testing.assert_allclose(found["w"], [[2, 2]], atol=1e-4)
    for bounds in ({"w": [(None, 1), (0, 1.5)]}, {"w": ([-9, 0], [1, 1.5])}, {"w": [None, (0, 1.5)]}):
        found = fg.minimize(lambda p: np.sum((p["w"] - 2) ** 2), {"w": [0, 1]}, bounds=bounds).x
        np.testing.assert_allclose(found["w"], [1 if bounds["w"][0] else 2, 1.5], atol=1e-6)
    assert fg.minimize(lambda x: np.sum((x - 2) ** 2), [0, 1], bounds=[(0, 1), (0, 3)]).x[0] == 1


def test_a_tuple_of_numbers_as_x0_is_told_of():
    for minimise in (fg.minimize, fg.least_squares, lambda f, x: fg.minimize(f, x, method="Powell")):
        with pytest.raises((TypeError, ValueError)) as caught:
            minimise(lambda x: (x - 2) ** 2, (0.0, 1.0))
        assert re.search("x0 is a tuple of numbers, so f gets a .*np.array", "".join(caught.value.__notes__))


# ---- f ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda x: x * 2, ValueError, r"f returned a tensor of shape \(2,\), expected a single number"),
        (lambda x: None, TypeError, "f returned a NoneType, expected a single float tensor"),
        (
            lambda x: (x[0], x[1]),
            TypeError,
            "f returned a tuple, expected a single float tensor; return the number alone",
        ),
        (lambda x: 3.0, TypeError, "f returned a float, expected a single float tensor; compute with"),
        (lambda x: fg.tensor(3.0), TypeError, "f does not depend on x"),
        (lambda x: np.sum(fg.stop_gradient(x)), TypeError, "f does not depend on x"),
    ],
)
def test_what_f_may_return(f, error, message):
    for compile in (True, False):
        with pytest.raises(error, match=f"^minimize: {message}"):
            fg.minimize(f, np.ones(2), compile=compile)


def test_what_f_may_return_without_a_gradient():
    with pytest.raises(ValueError, match=r"^minimize: f returned an array of shape \(2,\), expected a single number"):
        fg.minimize(lambda x: x, np.ones(2), method="Powell")
    assert fg.minimize(lambda x: float((x[0] - 2) ** 2), np.ones(1), method="Powell").success


@pytest.mark.parametrize("function", [fg.least_squares, fg.root])
@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: None, "f returned a NoneType without numbers"),
        (lambda x: {"a": []}, "f returned a dict without numbers"),
        (lambda x: [x, "text"], r"f must return numbers: .* of type str"),
    ],
)
def test_what_a_vector_function_may_return(function, f, message):
    with pytest.raises(TypeError, match=f"^{function.__name__}: {message}"):
        function(f, np.ones(2))


def test_what_is_no_function():
    for function in (fg.minimize, fg.least_squares, fg.root):
        with pytest.raises(TypeError, match=f"^{function.__name__}: expected a function, got 3"):
            function(3, 1.0)


def test_args_are_passed_on_as_they_are():
    data = np.array([1.0, 2.0])

    def f(x, target, power, name):
        assert target is data and power == 2 and name == "sum"
        return getattr(np, name)((x - target) ** power)

    np.testing.assert_allclose(fg.minimize(f, np.zeros(2), (data, 2, "sum")).x, data, atol=1e-6)
    np.testing.assert_allclose(
        fg.minimize(lambda x, t: np.sum((x - t) ** 2), np.zeros(2), args=data).x, data, atol=1e-6
    )
    np.testing.assert_allclose(fg.least_squares(lambda x, t: x - t, np.zeros(2), (data,)).x, data)
    np.testing.assert_allclose(fg.root(lambda x, t: x**3 - t**3, data + 1, (data,)).x, data)


def test_the_function_is_traced_and_then_not_called_again():
    calls = []

    def f(x):
        calls.append(x)
        return rosenbrock(x)

    result = fg.minimize(f, np.array([-1.2, 1.0]), method="BFGS")
    assert result.nfev > 20 and len(calls) == 2
    calls.clear()
    assert fg.minimize(f, np.array([-1.2, 1.0]), method="BFGS", compile=False).nfev == len(calls)


def test_what_cannot_be_traced_runs_eagerly_after_one_warning():
    def f(x):
        return np.sum(x**2) if x[0] > 0 else np.sum(x**4)

    with pytest.warns(RuntimeWarning, match=r"minimize: f cannot be traced and runs eagerly.*test_minimize") as caught:
        result = fg.minimize(f, np.array([1.0, 2.0]))
    assert len(caught) == 1 and result.success
    branches = lambda x: x**2 - 9 if x[0] > 0 else x - 4
    for sparsity in (None, "auto", np.eye(2)):
        with pytest.warns(RuntimeWarning, match="least_squares: f cannot be traced") as caught:
            result = fg.least_squares(branches, np.array([1.0, 2.0]), jac_sparsity=sparsity)
        np.testing.assert_allclose(result.x, 3)
        assert len(caught) == 1, [str(w.message) for w in caught]


# ---- callback --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", [m for m in WITH_GRADIENT + WITHOUT_GRADIENT if m not in (None, "trust-constr")])
def test_the_callback_gets_the_structure(method):
    seen, results = [], []
    fg.minimize(convex, start(), method=method, callback=seen.append)
    fg.minimize(
        convex, start(), method=method, callback=lambda intermediate_result: results.append(intermediate_result)
    )
    for x in seen:
        assert x["w"].shape == (2, 2) and type(x["b"]) is np.float64 and x["nothing"] is None
    assert len(seen) > 1 and seen[0]["b"] != seen[-1]["b"]  # and no view of what SciPy changes
    assert all(r.x["w"].shape == (2, 2) for r in results) and len(results) > 1


def test_the_callback_of_trust_constr_gets_the_state():
    states = []
    fg.minimize(convex, start(), method="trust-constr", callback=lambda x, state: states.append((x, state)))
    for x, state in states:
        assert x["w"].shape == state.x["w"].shape == state.grad["w"].shape == (2, 2)


def test_stop_iteration_ends_the_search():
    def callback(x):
        raise StopIteration

    result = fg.minimize(convex, start(), method="BFGS", callback=callback)
    assert result.nit == 1 and not result.success


def test_callback_of_root():
    seen = []
    fg.root(lambda p: [p[0] - 3, p[1] + p[0]], [1.0, 1.0], method="broyden1", callback=lambda x, f: seen.append((x, f)))
    assert all(len(x) == 2 and f.shape == (2,) for x, f in seen) and seen


# ---- least_squares and root ------------------------------------------------------------------------------------------
T = np.linspace(0, 2, 30)


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
@pytest.mark.parametrize("compile", [True, False])
def test_least_squares_fits_and_has_the_jacobian(method, compile):
    data = 3 * np.exp(-1.5 * T) + 0.5

    def residuals(p):
        return p["scale"] * fg.exp(-p["rate"] * T) + p["c"][0] - data

    x0 = {"scale": 1.0, "rate": np.array(1.0), "c": np.zeros(1)}
    result = fg.least_squares(residuals, x0, method=method, compile=compile)
    x = result.x
    np.testing.assert_allclose([x["scale"], x["rate"], x["c"][0]], [3, 1.5, 0.5], rtol=1e-6)
    e = np.exp(-x["rate"] * T)
    np.testing.assert_allclose(result.jac, np.column_stack([np.ones(30), -x["scale"] * T * e, e]), rtol=1e-10)
    assert result.fun.shape == (30,) and set(result.grad) == set(x0)


def test_least_squares_options_are_scipys():
    f = lambda x: np.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])
    x0 = np.array([-1.2, 1.0])
    jac = lambda x: np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])
    for options in ({"loss": "soft_l1"}, {"x_scale": "jac", "ftol": 1e-12}, {"bounds": ([-2, -2], [0.5, 2])}):
        ours = fg.least_squares(f, x0, **options)
        theirs = scipy.optimize.least_squares(f, x0, jac=jac, **options)
        assert (ours.nfev, ours.njev, ours.status) == (theirs.nfev, theirs.njev, theirs.status)
        np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-8)
    result = fg.least_squares(
        lambda p: [p["a"] - 1, p["b"] - 2], {"a": 5.0, "b": 5.0}, bounds={"a": (3, None), "b": None}
    )
    assert result.x["a"] == pytest.approx(3) and result.x["b"] == pytest.approx(2)
    with pytest.raises(TypeError, match="nonsense"):
        fg.least_squares(f, x0, nonsense=1)


@pytest.mark.parametrize("method", ["hybr", "lm", "broyden1", "broyden2", "anderson", "krylov", "df-sane"])
def test_root_of_a_system(method):
    def f(p):
        x, y = p.x, p.y["z"]
        return Point(x + 0.2 * fg.sin(y[::-1]) - 1, y - 0.1 * x**2)

    x0 = Point(np.array([1.0, 1.0]), {"z": np.array([0.2, 0.3])})
    solution = fg.root(f, x0, method=method)
    assert solution.success
    assert fg.tree.structure(solution.x) == fg.tree.structure(x0)
    for leaf in fg.tree.leaves(f(solution.x)):
        np.testing.assert_allclose(leaf, 0, atol=1e-4)
    assert solution.fun.shape == (4,)


def test_root_uses_the_exact_jacobian():
    f = lambda x: [x[0] + 0.5 * (x[0] - x[1]) ** 3 - 1, 0.5 * (x[1] - x[0]) ** 3 + x[1]]

    def jac(x):
        d = 1.5 * (x[0] - x[1]) ** 2
        return np.array([[1 + d, -d], [-d, 1 + d]])

    for method in ("hybr", "lm"):
        ours = fg.root(f, np.zeros(2), method=method)
        theirs = scipy.optimize.root(f, np.zeros(2), jac=jac, method=method)
        assert ours.nfev <= theirs.nfev
        np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-12)


# ---- SciPy -----------------------------------------------------------------------------------------------------------
def test_scipy_is_imported_only_when_called():
    code = "import sys, fastgrad; assert not [m for m in sys.modules if m.split('.')[0] == 'scipy']"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("function", [fg.minimize, fg.least_squares, fg.root])
def test_without_scipy(function, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(
        ImportError, match=rf"^{function.__name__}: SciPy is needed .* pip install 'fastgrad\[scipy\]'$"
    ):
        function(squares, 1.0)


@pytest.mark.parametrize("function, keyword", [
    *[(fg.minimize, key) for key in ("jac", "hess", "hessp")], (fg.least_squares, "jac"), (fg.root, "jac"),
])  # fmt: skip
def test_scipys_arguments_for_derivatives_are_refused_with_the_cure(function, keyword):
    message = f"^{function.__name__}: {keyword}= is not taken: f returns values alone, and their exact derivatives"
    for value in (True, "2-point", lambda x: x):
        with pytest.raises(TypeError, match=message):
            function(squares, np.ones(2), **{keyword: value})


def test_an_unknown_argument_is_refused():
    for function in (fg.minimize, fg.root):
        with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) got an unexpected keyword argument 'bound'$"):
            function(squares, np.ones(2), bound=1)


# ---- a function that is compiled already -----------------------------------------------------------------------------
def test_programs_of_a_compiled_cost_are_kept_from_call_to_call():
    ran = []

    def cost(u, x, weight):
        ran.append(None)
        return fg.sum((u["a"] * x - 1) ** 2) + weight * u["b"] ** 2

    compiled = fg.compile(cost)
    for method in ("BFGS", "L-BFGS-B", "trust-ncg", "trust-exact"):
        for k in range(4):
            x = np.arange(1.0, 4) + k
            result = fg.minimize(compiled, {"b": 1.0, "a": np.zeros(3)}, (x, 1.0 + k), method=method)
            np.testing.assert_allclose(result.x["a"], 1 / x, rtol=1e-4)
            np.testing.assert_allclose(result.x["b"], 0, atol=1e-4)
            if k == 1:
                ran.clear()
        assert not ran, f"{method}: traced anew for other args"
    fg.minimize(compiled, {"b": 1.0, "a": np.zeros(2)}, (np.ones(2), 1.0))
    assert ran
    ran.clear()
    compiled.cache_clear()
    fg.minimize(compiled, {"b": 1.0, "a": np.zeros(2)}, (np.ones(2), 1.0))
    assert ran


def test_static_arguments_of_a_compiled_cost_are_constants():
    for options in ({"static_argnums": 1}, {"static_argnums": -2}, {"static_argnames": "power"}):
        compiled = fg.compile(
            lambda u, power, x: fg.sum((u**power - x) ** 2) if power == 3 else fg.sum(u**2), **options
        )
        for method in ("BFGS", "trust-ncg", "trust-exact", "Nelder-Mead"):
            for x in (8.0, 27.0, 64.0):
                result = fg.minimize(compiled, np.array([1.5]), (3, np.array([x])), method=method)
                np.testing.assert_allclose(result.x, np.cbrt(x), rtol=1e-4)
            np.testing.assert_allclose(fg.minimize(compiled, np.array([1.5]), (2, 8.0), method=method).x, 0, atol=1e-4)


def test_compiled_residuals_and_equations():
    ran = []

    def residuals(p, t, y):
        ran.append(None)
        return p["scale"] * fg.exp(-p["rate"] * t) - y

    compiled = fg.compile(residuals)
    for solve, n in ((fg.least_squares, 20), (fg.root, 2)):
        t = np.linspace(0, 1, n)
        for k in range(4):
            if k == 2:
                ran.clear()
            y = (3 + k) * np.exp(-2 * t)
            result = solve(compiled, {"scale": 1.0, "rate": 1.0}, (t, y))
            np.testing.assert_allclose([result.x["scale"], result.x["rate"]], [3 + k, 2], rtol=1e-6)
        assert not ran


def test_a_compiled_cost_keeps_a_bounded_number_of_kinds_and_copies_none():
    compiled = fg.compile(lambda u: fg.sum((u - 1) ** 2), maxsize=2)
    for n in range(1, 5):
        np.testing.assert_allclose(fg.minimize(compiled, np.zeros(n)).x, np.ones(n), atol=1e-6)
    assert len(compiled._derived) == 2
    assert copy.copy(compiled)._derived == {}
    only = fg.compile(lambda u: fg.sum((u - 1) ** 2), maxsize=1)
    for n in range(1, 4):
        fg.minimize(only, np.zeros(n))
    assert len(only._derived) == 1


def test_matrices_of_a_result_are_in_the_order_of_ravel():
    start = {"b": 0.0, "a": np.zeros(2)}
    f = lambda p: 10 * (p["b"] - 1) ** 2 + fg.sum((p["a"] - 2) ** 2)
    by_ravel = np.diag(fg.tree.ravel({"b": 20.0, "a": np.full(2, 2.0)})[0])
    np.testing.assert_array_equal(np.diag(by_ravel), [2, 2, 20])
    np.testing.assert_allclose(fg.minimize(f, start, method="trust-exact").hess, by_ravel, rtol=1e-12)
    assert fg.minimize(f, start).hess_inv.shape == (3, 3)
    assert fg.minimize(f, start, method="L-BFGS-B").hess_inv.todense().shape == (3, 3)


def test_solvers_say_how_native_code_is_asked_for():
    for solve in (fg.least_squares, fg.root):
        with pytest.raises(TypeError, match=r"native= is not taken; set the environment variable FASTGRAD_NATIVE=1"):
            solve(lambda x: x - 1.0, np.zeros(2), native=True)
    with pytest.raises(TypeError, match=r"^curve_fit: native= is not taken; set the environment"):
        fg.curve_fit(lambda t, a: a * t, np.arange(3.0), np.arange(3.0), native=True)


def test_a_sparse_jacobian_is_kept_with_compiled_residuals():
    """For args of the same values; others may have another pattern."""
    ran = []

    def residuals(x, order, y):
        ran.append(None)
        return x[order] ** 3 - y

    compiled, order, y = fg.compile(residuals), np.array([2, 0, 1]), np.array([1.0, 8.0, 27.0])
    for k in range(4):
        if k == 2:
            ran.clear()
        result = fg.least_squares(compiled, np.ones(3), (order.copy(), y.copy()), jac_sparsity="auto")
        np.testing.assert_allclose(result.x[order], [1, 2, 3], rtol=1e-6)
    assert not ran, f"traced anew {len(ran)} times"
    y[0], order[:] = 8, [1, 0, 2]
    result = fg.least_squares(compiled, np.ones(3), (order, y), jac_sparsity="auto")
    np.testing.assert_allclose(result.x[order], [2, 2, 3], rtol=1e-6)
    np.testing.assert_array_equal(result.jac.toarray() != 0, np.eye(3)[order] != 0)


def test_root_says_how_many_numbers_f_is_to_return():
    for method in ("hybr", "lm", "krylov", "broyden1"):
        with pytest.raises(ValueError, match=r"^root: f returned 1 number, expected 2, as many as x0 holds$"):
            fg.root(lambda x: x[:1], np.ones(2), method=method)
    more = lambda x: np.concatenate([x - 2, 2 - x])
    with pytest.raises(ValueError, match=r"^root: f returned 4 numbers, expected 2, as many as x0 holds$"):
        fg.root(more, np.ones(2))
    np.testing.assert_allclose(fg.root(more, np.ones(2), method="lm").x, 2)


SOLVES = {
    "minimize": lambda a, **options: fg.minimize(lambda x: np.sum((x - a) ** 2), np.ones(2), **options).fun,
    "Powell": lambda a, **options: (
        fg.minimize(lambda x: np.sum((x - a) ** 2), np.ones(2), method="Powell", **options).fun
    ),
    "args": lambda a, **options: (
        fg.minimize(lambda x, a: np.sum((x - a) ** 2), np.ones(2), (a,), method="trust-ncg", **options).fun
    ),
    "constraint": lambda a, **options: (
        fg.minimize(squares, np.ones(2), constraints={"type": "ineq", "fun": lambda x: x - a}, **options).fun
    ),
    "root": lambda a, **options: fg.root(lambda x: x - a, np.ones(2), **options).x[0],
    "least_squares": lambda a, **options: fg.least_squares(lambda x: x - a, np.ones(2), **options).x[0],
    "curve_fit": lambda a, **options: fg.curve_fit(lambda t, p: p * t * a, np.arange(3.0), np.ones(3), **options)[0][0],
}


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("solve", SOLVES.values(), ids=SOLVES)
def test_a_solver_is_not_differentiated_by_what_f_reads(solve, compile):
    """The one error, without a warning that f cannot be traced."""
    for transform in (lambda f: fg.grad(f)(2.0), lambda f: fg.jvp(f, (2.0,), (1.0,))):
        with pytest.raises(TypeError, match=r"^[a-z_]+: .*cannot be differentiated by it. Pass its .detach\(\), or"):
            transform(lambda a: a * solve(a, compile=compile))
    assert np.isfinite(fg.grad(lambda a: a * solve(fg.stop_gradient(a), compile=compile))(2.0))
