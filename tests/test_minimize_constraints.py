"""Bounds and constraints of minimize and least_squares, in every form, with exact derivatives."""

import math
import warnings

import numpy as np
import pytest
import scipy.optimize
from _costs import TARGET, convex, squares, start

import fastgrad as fg

# ---- bounds ----------------------------------------------------------------------------------------------------------
BOUNDS = {"w": (TARGET - 0.8, TARGET + 0.8), "b": (0, None), "nothing": None}


@pytest.mark.parametrize(
    "method", ["L-BFGS-B", "TNC", "SLSQP", "trust-constr", "Nelder-Mead", "Powell", "COBYLA", "COBYQA"]
)
def test_bounds_in_the_structure_of_x0(method):
    options = {"maxiter": 5000} if method != "TNC" else {}
    result = fg.minimize(convex, start(), method=method, bounds=BOUNDS, options=options)
    np.testing.assert_allclose(result.x["w"], TARGET, atol=2e-3)
    np.testing.assert_allclose(result.x["b"], 0, atol=2e-3)


def test_bounds_of_every_form_mean_the_same():
    low, high = np.array([2.0, -np.inf, -3.0, 0.0, 0.0]), np.array([np.inf, 0.5, -2.0, 9.0, 0.0])
    scipys = scipy.optimize.Bounds(low, high), list(zip(low, high)), [(2, None), (None, 0.5), (-3, -2), (0, 9), (0, 0)]
    structures = {
        "array": (np.full(5, 1.0), scipys),
        "dict": ({"a": np.full(2, 1.0), "b": np.full((1, 3), 1.0)}, (
            *scipys,
            {"a": ([2, -np.inf], [np.inf, 0.5]), "b": (low[2:], [high[2:]])},
            {"a": (low[:2], high[:2]), "b": [low[2:], high[2:]]},
        )),
        "list of floats": ([1.0] * 5, (*scipys, [(2, None), (None, 0.5), (-3, -2), (0, 9), (0, 0)])),
    }  # fmt: skip
    for x0, forms in structures.values():
        for bounds in forms:
            result = fg.minimize(squares, x0, bounds=bounds)
            np.testing.assert_allclose(fg.tree.ravel(result.x)[0], [2, 0.5, -2, 1, 0], atol=1e-6)


def test_bounds_of_a_single_array():
    for bounds in ((2, None), scipy.optimize.Bounds(2.0, np.inf), scipy.optimize.Bounds(np.full((2, 2), 2.0), np.inf)):
        np.testing.assert_allclose(fg.minimize(squares, np.full((2, 2), 3.0), bounds=bounds).x, 2)
        np.testing.assert_allclose(fg.least_squares(lambda x: x - 1, np.full((2, 2), 3.0), bounds=bounds).x, 2)
    low = np.array([[2.0, 3.0], [4.0, 5.0]])
    np.testing.assert_allclose(fg.least_squares(lambda x: x - 1, low + 1, bounds=(low, np.inf)).x, low)
    assert fg.minimize(squares, 5.0, bounds=(2, None)).x == 2


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"w": (0, 1)}, r"minimize: bounds lacks 'b' and 'nothing'|minimize: bounds lacks 'b', 'nothing'"),
        ({"w": 3, "b": None, "nothing": None}, r"minimize: bounds\['w'\] is 3, expected a pair"),
        ({"w": (0, 1, 2), "b": None, "nothing": None}, r"minimize: bounds\['w'\] is \(0, 1, 2\), expected a pair"),
        ({"w": (0, np.ones(3)), "b": None, "nothing": None}, r"bounds\['w'\] is .* broadcast to shape \(2, 2\)"),
    ],
)
def test_bounds_that_do_not_fit(bounds, message):
    with pytest.raises(ValueError, match=message):
        fg.minimize(convex, start(), bounds=bounds)


# ---- constraints -----------------------------------------------------------------------------------------------------
def on_the_line(p, total):
    """Where the squares are least on x + 2 y = total, x - z = 0: a small system of linear equations."""
    return {"line": p["x"] + 2 * p["y"] - total, "plane": p["x"] - p["z"]}


SOLUTION = np.linalg.solve(  # of the Lagrangian of sum (p - 1)^2 under both constraints with total = 5
    np.array([[2, 0, 0, 1, 1], [0, 2, 0, 2, 0], [0, 0, 2, 0, -1], [1, 2, 0, 0, 0], [1, 0, -1, 0, 0]], float),
    np.array([2.0, 2, 2, 5, 0]),
)[:3]


@pytest.mark.parametrize("method", [None, "SLSQP", "trust-constr", "COBYLA", "COBYQA"])
@pytest.mark.parametrize("form", ["dict", "NonlinearConstraint", "own jac", "LinearConstraint"])
def test_constraints_take_the_structure(method, form):
    if form == "LinearConstraint":
        constraints = scipy.optimize.LinearConstraint([[1, 2, 0], [1, 0, -1]], [5, 0], [5, 0])
    elif form == "dict":
        constraints = {"type": "eq", "fun": on_the_line, "args": (5,)}
    elif form == "own jac":
        jac = lambda p, total: np.array([[1.0, 2, 0], [1, 0, -1]]) + 0 * p["x"]
        constraints = ({"type": "eq", "fun": on_the_line, "args": (5,), "jac": jac},)
    else:
        constraints = [scipy.optimize.NonlinearConstraint(lambda p: list(on_the_line(p, 5).values()), 0, 0)]
    x0 = {"x": 0.0, "y": np.array(0.5), "z": 3.0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "delta_grad == 0.0")  # SciPy's, of a linear constraint without a Hessian
        result = fg.minimize(squares, x0, method=method, constraints=constraints)
    np.testing.assert_allclose(fg.tree.ravel(result.x)[0], SOLUTION, atol=1e-3)


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr"])
def test_curved_constraints_have_exact_jacobians(method):
    """The point of the unit ball nearest to (3, 4); the constraint is a scalar, and counts its calls."""
    seen = []

    def inside(p):
        seen.append(type(p["a"]))
        return 1 - np.sum(p["a"] ** 2)

    constraints = [{"type": "ineq", "fun": inside}]
    result = fg.minimize(lambda p: np.sum((p["a"] - np.array([3.0, 4.0])) ** 2), {"a": np.array([0.1, 0.2])},
        method=method,
                         constraints=constraints)  # fmt: skip
    np.testing.assert_allclose(result.x["a"], [0.6, 0.8], atol=1e-4)
    assert fg.Tensor in seen


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("form", ["dict", "NonlinearConstraint", "finite differences"])
def test_trust_constr_gets_the_hessians_of_constraints(form, compile):
    """The steps are those with a Hessian by hand: of two curved constraints, one of them an equality."""
    f = lambda x: np.sum((x - np.array([3.0, 4, 1])) ** 2)
    curved = lambda x: np.stack([1 - np.sum(x**4), x[0] * x[1] * x[2]])
    hess = lambda x, v: -12 * v[0] * np.diag(x**2) + v[1] * (np.ones((3, 3)) - np.eye(3)) * x.sum() - v[1] * np.array(
        [[0, x[0] + x[1], x[0] + x[2]], [x[0] + x[1], 0, x[1] + x[2]], [x[0] + x[2], x[1] + x[2], 0]])  # fmt: skip
    jac = lambda x: np.stack([-4 * x**3, np.array([x[1] * x[2], x[0] * x[2], x[0] * x[1]])])
    x0, low, high = np.array([0.1, 0.2, 0.3]), [0, 0.01], [np.inf, 0.01]
    own = scipy.optimize.minimize(
        f, x0, method="trust-constr", jac=lambda x: 2 * (x - np.array([3.0, 4, 1])), hess=lambda x: 2 * np.eye(3),
        constraints=[scipy.optimize.NonlinearConstraint(curved, low, high, jac, hess)],
    )  # fmt: skip
    if form == "dict":
        equality = {"type": "eq", "fun": lambda x, k: curved(x)[1] - k, "args": (0.01,)}
        constraints = [{"type": "ineq", "fun": lambda x: curved(x)[0]}, equality]
    else:
        kind = "2-point" if form == "finite differences" else None
        constraints = scipy.optimize.NonlinearConstraint(curved, low, high, kind or "3-point", kind)
    result = fg.minimize(f, x0, method="trust-constr", constraints=constraints, compile=compile)
    np.testing.assert_allclose(result.x, own.x, rtol=1e-6)
    assert result.nit == own.nit


def test_a_hessian_of_a_constraint_that_is_given_is_used():
    seen = []

    def hess(p, v):
        seen.append((p["a"].shape, v))
        return -2 * v[0] * np.eye(2)

    ball = scipy.optimize.NonlinearConstraint(lambda p: 1 - np.sum(p["a"] ** 2), 0, np.inf, hess=hess)
    result = fg.minimize(lambda p: np.sum((p["a"] - np.array([3.0, 4.0])) ** 2), {"a": np.array([0.1, 0.2])},
                         method="trust-constr", constraints=ball)  # fmt: skip
    np.testing.assert_allclose(result.x["a"], [0.6, 0.8], atol=1e-4)
    assert seen and seen[0][0] == (2,)


@pytest.mark.parametrize("method", ["COBYLA", "COBYQA"])
def test_constraints_of_methods_without_derivatives_may_be_any_functions(method):
    constraint = {"type": "ineq", "fun": lambda x: 1 - math.hypot(float(x[0]), float(x[1]))}
    result = fg.minimize(lambda x: float(x[0] + x[1]), np.zeros(2), method=method, constraints=constraint)
    np.testing.assert_allclose(result.x, -np.sqrt([0.5, 0.5]), atol=1e-3)


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr"])
@pytest.mark.parametrize("constant", [1.0, np.ones(2), fg.tensor([1.0, 2.0])], ids=repr)
def test_a_constraint_may_be_constant(method, constant):
    """Its derivatives are zeros."""
    constraints = [{"type": "ineq", "fun": lambda x: x[0] - 1}, {"type": "ineq", "fun": lambda x: constant}]
    found = fg.minimize(lambda x: np.sum(x * x), np.full(2, 3.0), method=method, constraints=constraints)
    np.testing.assert_allclose(found.x, [1, 0], atol=1e-3)


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr"])
def test_programs_of_a_compiled_constraint_are_kept_from_solve_to_solve(method):
    ran = []

    def within(x, power, radius):
        ran.append(None)
        return radius - np.sum(x**power)

    cost, within = fg.compile(lambda x: np.sum((x - 2) ** 2)), fg.compile(within, static_argnums=1)
    for k in range(4):
        if k == 2:
            ran.clear()
        constraint = {"type": "ineq", "fun": within, "args": (2, 1.0 + k)}
        result = fg.minimize(cost, np.full(2, 0.5), method=method, constraints=constraint)
        np.testing.assert_allclose(result.x, np.sqrt((1.0 + k) / 2), rtol=1e-3)
    assert not ran, f"traced anew {len(ran)} times"
