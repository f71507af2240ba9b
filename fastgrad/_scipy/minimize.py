"""``minimize``, ``least_squares`` and ``root``: SciPy's, on nested structures, with exact derivatives filled in.

This is what each of SciPy's methods is given; vectors.py converts between its vectors and the user's structures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from .._arguments import flag
from .._compile.compiled import Compiled
from .domain import Domain, NoStart, ResidualsDomain
from .vectors import Function, Scalar, Variables, Vector, prepared, refuse_native, scipy

__all__ = ["least_squares", "minimize", "root"]

_WITHOUT_GRADIENT = {"nelder-mead", "powell", "cobyla", "cobyqa"}
_WITH_PRODUCT = {"newton-cg", "trust-ncg", "trust-krylov", "trust-constr"}  # with Hessian-vector products
_WITH_HESSIAN = {"dogleg", "trust-exact"}
_INTERPOLATING = {"l-bfgs-b", "tnc"}  # in their line search


def minimize(
    f: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: Any = None,
    *,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
    compile: bool = True,
    native: Any = None,
    **unknown: Any,
) -> Any:
    """Minimise a function of a nested structure by ``scipy.optimize.minimize``, with its exact derivatives.

    f returns the value alone: SciPy's jac, hess and hessp are filled in, and refused as arguments.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` returns a single float tensor. x has the structure of x0, with tensors as leaves. The methods
        without derivatives (Nelder-Mead, Powell, COBYLA, COBYQA) give tensors that are only data, with which NumPy
        and SciPy work as with arrays (``np.asarray(x)`` for what takes nothing else), and take any number.
    x0 : nested structure
        float32 and float64 arrays and numbers. A list of numbers counts as an array, and integers as float64. The
        search is in float64; f sees each leaf in its dtype, so give float64 where a tight tolerance matters.
    args : tuple
        Passed on to f as they are: constants. Of an f made by ``fastgrad.compile`` they are arrays, numbers or
        structures of them, but for its static arguments, and may change from call to call.
    method : str or callable
        Any of SciPy's; by default BFGS, L-BFGS-B with bounds, or SLSQP with constraints. Newton-CG, trust-ncg,
        trust-krylov and trust-constr get exact Hessian-vector products; dogleg and trust-exact the Hessian.
    bounds : nested structure or as SciPy's
        In the structure of x0, with a pair ``(low, high)`` in the place of each leaf, numbers or arrays that broadcast
        to it, None for no bound; or None for a leaf without bounds. In the place of a list of numbers there may be a
        list of pairs. Otherwise a ``scipy.optimize.Bounds`` or a sequence of pairs for the elements of
        ``tree.ravel(x0)``.
    constraints : as SciPy's
        dicts and NonlinearConstraint, whose functions take the structure, and may be made by ``fastgrad.compile`` so
        that their programs are kept as those of f. Their Jacobian is filled in if they have no function for it; with
        trust-constr their Hessian too, if it is none or SciPy's default, a BFGS. For methods without derivatives their
        functions may return any numbers. LinearConstraint on the elements of ``tree.ravel(x0)``.
    tol, options
        As SciPy's.
    callback : callable
        ``callback(x)`` or ``callback(intermediate_result)``, as SciPy's, with structures; StopIteration ends it.
    compile : bool
        Trace f and its gradient at the first two calls and replay them later (``fastgrad.compile``); an f that cannot
        be traced runs eagerly after a RuntimeWarning. False runs it eagerly from the start. Each call of minimize
        traces anew, unless f is made by ``fastgrad.compile``, once for all calls: then the programs of its derivatives
        are kept with it. In a control loop, solve so: ``cost = fg.compile(cost)`` before the loop, in it
        ``fg.minimize(cost, u, (state,))``.
    native : bool, "auto" or None
        Whether the programs of f, its derivatives and constraints run as C that the machine's compiler has compiled
        (docs/native.md). None: as an f made by ``fastgrad.compile`` says, or else FASTGRAD_NATIVE. With True it is a
        RuntimeError if that fails, or if f cannot be traced. Methods without derivatives have no programs.

    Returns
    -------
    scipy.optimize.OptimizeResult
        Its ``x``, ``jac`` and ``grad`` have the structure of x0, with the dtypes of its leaves. ``hess``, of dogleg and
        trust-exact, and ``hess_inv``, an estimate of BFGS and of L-BFGS-B (which ``.todense()`` makes an array), are
        matrices of shape (n, n) over the n elements of ``tree.ravel(x0)``, in its order: dicts by sorted keys.
        A point that is tried where f raises LinAlgError, or is nan or inf, or its gradient is not finite, shortens the
        step. If the start is such a point, or the search fails, ``message`` says what was not finite, by its place in
        x0, and ``success`` is False; only a LinAlgError at the start is raised.

    Raises TypeError, naming the place, where x0 is no float, and where f returns no tensor that depends on x;
    ValueError where f returns more than one number; ImportError if SciPy is not installed; else what SciPy raises.

    >>> import fastgrad as fg, numpy as np
    >>> rosenbrock = lambda p: (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2
    >>> result = fg.minimize(rosenbrock, {"x": -1.0, "y": 2.0})
    >>> result.x["x"].round(4), result.x["y"].round(4)
    (np.float64(1.0), np.float64(1.0))
    """
    _refuse("minimize", unknown)
    compile = flag("minimize", "compile", compile)
    optimize = scipy("minimize")
    variables = Variables("minimize", x0, numbers=True)
    name = method.lower() if isinstance(method, str) else ""
    objective, inputs = prepared(Scalar, "minimize", f, variables, args, compile, native)
    if name in _WITHOUT_GRADIENT:
        objective, inputs = Scalar("minimize", f, variables, args, compile), ()
    bounds = variables.bounds(bounds, optimize.Bounds)
    constraints = _constraints(constraints, variables, optimize, compile, name, native)
    interpolates = name in _INTERPOLATING or (method is None and bounds is not None and not constraints)
    domain = Domain("minimize", objective, variables, interpolates)
    told = variables.callback(callback, optimize.OptimizeResult)
    try:
        result = optimize.minimize(
            domain.value if name in _WITHOUT_GRADIENT else domain.value_and_gradient,
            variables.start,
            args=inputs,
            method=method,
            jac=None if name in _WITHOUT_GRADIENT else True,
            hess=domain.hessian if name in _WITH_HESSIAN else None,
            hessp=domain.hessian_product if name in _WITH_PRODUCT or callable(method) else None,
            bounds=bounds,
            constraints=constraints,
            tol=tol,
            callback=domain.callback(told) if interpolates else told,
            options=options,
        )
    except NoStart as stop:
        gradient = {} if stop.gradient is None else {"jac": stop.gradient}
        result = optimize.OptimizeResult(
            x=variables.start, fun=stop.value, **gradient, success=False, status=-1, message=str(stop), nit=0, nfev=1,
            njev=len(gradient),
        )  # fmt: skip
    except (ValueError, np.linalg.LinAlgError) as error:
        if domain.told():
            error.add_note(f"minimize: {domain.told()}")
        raise
    if not result.success and domain.told():
        result.message = f"{result.message} {domain.told()}"
    return variables.result(result)


def least_squares(
    f: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str = "trf",
    *,
    bounds: Any = None,
    callback: Callable[..., Any] | None = None,
    jac_sparsity: Any = None,
    compile: bool = True,
    **options: Any,
) -> Any:
    """Minimise half the sum of squares of f's results by ``scipy.optimize.least_squares``, with the exact Jacobian.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` returns the residuals: a tensor, or a nested structure of tensors. x has the structure of x0.
    x0, args, callback, compile
        As for ``minimize``.
    method : {"trf", "dogbox", "lm"}
        As SciPy's.
    bounds : nested structure or as SciPy's
        As for ``minimize``, or SciPy's pair ``(low, high)`` of numbers or arrays.
    jac_sparsity : "auto", array_like or scipy.sparse, optional
        The Jacobian is a sparse matrix, computed by ``fastgrad.sparse.jacobian`` in few passes: "auto" finds which
        entries may be other than zero, which an f made by ``fastgrad.compile`` keeps for args of the same values;
        otherwise these are the nonzero ones of a matrix of shape (m, n). For methods "trf" and "dogbox".
    **options
        SciPy's further arguments: ftol, xtol, gtol, loss, x_scale, max_nfev, verbose, ...

    Returns
    -------
    scipy.optimize.OptimizeResult
        Its ``x`` and ``grad`` have the structure of x0; ``fun`` is the vector of residuals, ``jac`` the matrix of its
        derivatives by the elements of ``tree.ravel(x0)``.

    A point that is tried where f is not finite or raises LinAlgError shortens the step. Raises as ``minimize`` does,
    and ValueError where f is not finite at x0, where its derivatives are not, naming the place in x0, and where
    jac_sparsity lacks an entry.

    >>> import fastgrad as fg, numpy as np
    >>> t = np.linspace(0, 1, 20)
    >>> decay = lambda p: p["scale"] * fg.exp(-p["rate"] * t) - 3 * np.exp(-2 * t)
    >>> result = fg.least_squares(decay, {"scale": 1.0, "rate": 1.0})
    >>> result.x["scale"].round(4), result.x["rate"].round(4)
    (np.float64(3.0), np.float64(2.0))
    """
    _refuse("least_squares", {key: None for key in ("jac", "native") if key in options})
    compile = flag("least_squares", "compile", compile)
    optimize = scipy("least_squares")
    variables = Variables("least_squares", x0, numbers=True)
    residuals, inputs = prepared(Vector, "least_squares", f, variables, args, compile)
    if bounds is not None:
        options["bounds"] = variables.bounds(bounds, optimize.Bounds, pair=True)
    if callback is not None:
        options["callback"] = variables.callback(callback, optimize.OptimizeResult)
    jacobian = residuals.jacobian
    if jac_sparsity is not None:
        if method == "lm":
            raise ValueError("least_squares: method='lm' takes no jac_sparsity; use 'trf' or 'dogbox'")
        jacobian = _sparse_jacobian(f, args, variables, jac_sparsity, residuals, compile)
    domain = ResidualsDomain("least_squares", residuals.values, jacobian, variables.not_finite)
    result = optimize.least_squares(
        domain.values, variables.start, jac=domain.jacobian, method=method, args=inputs, **options
    )
    return variables.result(result)


def root(
    f: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str = "hybr",
    *,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
    compile: bool = True,
    **unknown: Any,
) -> Any:
    """Find a root of a system of equations by ``scipy.optimize.root``, with the exact Jacobian.

    Parameters
    ----------
    f : callable
        ``f(x, *args)`` returns as many numbers as x0 holds: a tensor, or a nested structure of tensors, such as
        that of x0.
    x0, args, compile
        As for ``minimize``.
    method : str
        Any of SciPy's; "hybr" and "lm" use the Jacobian.
    tol, options
        As SciPy's.
    callback : callable
        ``callback(x, f)`` with x as a structure and f(x) as a vector, for the methods that take one.

    Returns
    -------
    scipy.optimize.OptimizeResult
        Its ``x`` has the structure of x0; ``fun`` is a vector.

    Raises as ``minimize`` does, and ValueError where f returns another count of numbers than x0 holds; "lm" takes more.

    >>> import fastgrad as fg, numpy as np
    >>> circle_and_line = lambda p: {"circle": p["x"] ** 2 + p["y"] ** 2 - 2, "line": p["x"] - p["y"]}
    >>> solution = fg.root(circle_and_line, {"x": 2.0, "y": 0.5}).x
    >>> solution["x"].round(6), solution["y"].round(6)
    (np.float64(1.0), np.float64(1.0))
    """
    _refuse("root", unknown)
    compile = flag("root", "compile", compile)
    optimize = scipy("root")
    variables = Variables("root", x0, numbers=True)
    equations, inputs = prepared(Vector, "root", f, variables, args, compile)
    name = method.lower() if isinstance(method, str) else ""
    exact = name in ("hybr", "lm")

    def values(x: np.ndarray, *args: Any) -> np.ndarray:
        y: np.ndarray = equations.values(x, *args)
        if y.size < x.size or (y.size > x.size and name != "lm"):  # which finds the least squares of more equations
            count = f"{y.size} number{'s' * (y.size != 1)}"
            raise ValueError(f"root: f returned {count}, expected {x.size}, as many as x0 holds")
        return y

    result = optimize.root(
        values,
        variables.start,
        args=inputs,
        method=method,
        jac=equations.jacobian if exact else None,
        tol=tol,
        callback=variables.callback(callback, optimize.OptimizeResult),
        options=options,
    )
    return variables.result(result)


class _KeptJacobian:
    """A sparse Jacobian and the args for which it holds: they are constants of it, as the pattern depends on them."""

    def __init__(self) -> None:
        self.found: tuple[Any, Any] | None = None  # replaced as a whole, as other threads read it

    def of(self, f: Compiled, args: tuple[Any, ...]) -> Any:
        from ..sparse import Jacobian  # here, as few ask for it

        if self.found is not None and _are_equal(self.found[0], args):
            return self.found[1]
        own = tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, args)
        jacobian = Jacobian(lambda x: f(x, *own), name="least_squares: jac_sparsity")
        self.found = own, jacobian
        return jacobian


def _are_equal(args: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Whether they have the same structure and arrays and numbers of the same bytes, and else are the same objects."""
    (leaves, structure), (other_leaves, other) = tree.flatten(args), tree.flatten(others)
    return structure == other and all(
        a is b
        or (
            type(a) is type(b)
            and isinstance(a, (np.ndarray, np.generic, float, int))
            and (np.shape(a), np.asarray(a).dtype) == (np.shape(b), np.asarray(b).dtype)
            and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        )
        for a, b in zip(leaves, other_leaves)
    )


def _sparse_jacobian(
    f: Callable[..., Any], args: Any, variables: Variables, sparsity: Any, residuals: Vector, compile: bool
) -> Callable[..., Any]:
    from ..sparse import Jacobian  # here, as few ask for it

    args = args if isinstance(args, tuple) else (args,)
    auto = isinstance(sparsity, str)
    if auto and sparsity != "auto":
        raise ValueError(f"least_squares: jac_sparsity is {sparsity!r}, expected 'auto' or a matrix")

    jacobian: Jacobian | None = None
    if auto and compile and isinstance(f, Compiled):
        key = "least_squares: jac_sparsity", variables.kind(), variables.structure.insertion_orders(), len(args)
        jacobian = f.derived(key, _KeptJacobian).of(f, args)

    def at(x: np.ndarray, *_: Any) -> Any:
        nonlocal jacobian
        if jacobian is None:  # SciPy has computed the residuals, and a warning has told if they cannot be traced
            given, traceable = None if auto else sparsity, compile and residuals.traceable
            jacobian = Jacobian(lambda x: f(x, *args), given, traceable, "least_squares: jac_sparsity")
        return jacobian(variables.unravel(x.copy()))

    return at


def _refuse(name: str, unknown: dict[str, Any]) -> None:
    """Arguments of SciPy's that have no place here."""
    for key in unknown:
        if key in ("jac", "hess", "hessp"):
            raise TypeError(
                f"{name}: {key}= is not taken: f returns values alone, and their exact derivatives are filled in; "
                "leave it out, or give f a rule of its own by fastgrad.custom_vjp"
            )
        if key == "native":
            refuse_native(name)
        raise TypeError(f"{name}() got an unexpected keyword argument {key!r}")


def _constraints(constraints: Any, variables: Variables, optimize: Any, compile: bool, method: str, native: Any) -> Any:
    """SciPy's constraints on vectors, with what derivatives the method takes."""
    if isinstance(constraints, (dict, optimize.NonlinearConstraint, optimize.LinearConstraint)):
        constraints = [constraints]
    made = []
    for i, c in enumerate(constraints):
        name = f"minimize: constraints[{i}]"

        def given(jacobian: Any, args: Any = (), name: str = name) -> Any:
            """A user's function for a derivative, which returns a matrix; anything else as it is."""
            return Function(name, jacobian, variables, args).plain if callable(jacobian) else jacobian

        if isinstance(c, dict) and "fun" in c:
            fun, args, jac, hess = c["fun"], c.get("args", ()), c.get("jac"), None
        elif isinstance(c, optimize.NonlinearConstraint):
            fun, args, jac, hess = c.fun, (), c.jac, c.hess
        else:
            made.append(c)
            continue
        if method in _WITHOUT_GRADIENT:
            vector, inputs = Vector(name, fun, variables, args, compile, native=native), ()
        else:
            vector, inputs = prepared(Vector, name, fun, variables, args, compile, native)

        def on_inputs(function: Any, inputs: Any = inputs) -> Any:
            """A function of vectors with the inputs of its programs."""
            return (lambda *vectors: function(*vectors, *inputs)) if inputs else function

        values = vector.plain_values if method in _WITHOUT_GRADIENT else on_inputs(vector.values)
        jacobian = given(jac, args) if callable(jac) else on_inputs(vector.jacobian)
        if method == "trust-constr" and (hess is None or isinstance(hess, str) or type(hess) is optimize.BFGS):
            hess = on_inputs(vector.hessian)
        else:
            hess = given(hess)
        if isinstance(c, optimize.NonlinearConstraint):
            made.append(optimize.NonlinearConstraint(values, c.lb, c.ub, jacobian, hess, c.keep_feasible))
        elif method == "trust-constr" and c.get("type") in ("eq", "ineq"):
            made.append(optimize.NonlinearConstraint(values, 0, 0 if c["type"] == "eq" else np.inf, jacobian, hess))
        else:
            made.append({**c, "fun": values, "jac": jacobian, "args": ()})
    return made
