"""Functions that fastgrad shares with NumPy take the same arguments in the same order, so that positional calls mean
the same; and each that has NumPy's ``out=`` takes a tensor there."""

import inspect

import numpy as np
import pytest

import fastgrad as fg

PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
LEFT_OUT = {
    "like": "the function itself makes tensors",
    "subok": "tensors have no subclasses",
    "writeable": "of windows, which are a value here",
    "ndmax": "of arrays of objects",
    "interpolation": "another name of method, which NumPy 2.4 has dropped",
    "kwargs": "NumPy hands these on to a ufunc or to other functions; ours are all named",
    "fix_imports": "of pickles, which tensors do not use",
}
OTHERWISE = {"load": "trees, by a path", "save": "trees, by a path", "clip": "min and a_min are names of one argument"}
REFUSED = ("put", "resize")  # methods that would change the memory of an array
OLD = {"newshape": "shape"}  # names of NumPy 2.0
DROPPED = {"corrcoef": {"bias", "ddof"}}  # which did nothing
MODULES = {"numpy": (np, fg), "numpy.linalg": (np.linalg, fg.linalg)}


def signature(function):
    try:
        return inspect.signature(function)
    except ValueError:  # some of NumPy's C functions do not tell theirs
        return None


def shared():
    for module, (theirs, ours) in MODULES.items():
        for name in sorted(set(dir(theirs)) & set(dir(ours)) - OTHERWISE.keys()):
            f, g = getattr(theirs, name), getattr(ours, name)
            if name.startswith("_") or isinstance(f, (type, np.ufunc)) or not callable(f) or not callable(g):
                continue
            if signature(f) and not isinstance(g, type):
                yield pytest.param(f, g, id=f"{module}.{name}")


@pytest.mark.parametrize("theirs, ours", list(shared()))
def test_arguments_are_numpys_in_numpys_order(theirs, ours):
    wanted, found = signature(theirs).parameters, signature(ours).parameters
    placed = [p for p in wanted.values() if p.kind in PLACED and (p.name in found or p.name not in LEFT_OUT)]
    for mine, p in zip([p for p in found.values() if p.kind in PLACED], placed, strict=False):
        assert mine.name == OLD.get(p.name, p.name) or p.kind is p.POSITIONAL_ONLY, (
            f"{mine.name} in the place of {p.name}"
        )
    variadic = any(p.kind is p.VAR_POSITIONAL for p in wanted.values())
    named = {OLD.get(p.name, p.name) for p in wanted.values() if p.kind not in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)}
    assert variadic or named - DROPPED.get(theirs.__name__, set()) <= found.keys() | LEFT_OUT.keys()


@pytest.mark.parametrize("name", ["cho_factor", "cho_solve", "solve_triangular"])
def test_arguments_are_scipys(name):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    theirs, ours = signature(getattr(scipy_linalg, name)), signature(getattr(fg.linalg, name))
    assert list(ours.parameters) == list(theirs.parameters)
    assert [p.default for p in ours.parameters.values()] == [p.default for p in theirs.parameters.values()]


@pytest.mark.parametrize("method", ["cdf", "sf", "logcdf", "logsf", "ppf", "isf", "pdf", "logpdf", "pmf", "logpmf"])
@pytest.mark.parametrize("name", ["norm", "gamma", "poisson", "geom"])
def test_first_arguments_of_distributions_are_scipys(name, method):
    scipy_stats = pytest.importorskip("scipy.stats")
    theirs, ours = (getattr(getattr(m, name), method, None) for m in (scipy_stats, fg.stats))
    if theirs and ours:
        assert next(iter(signature(ours).parameters)) == next(iter(signature(theirs).parameters))


@pytest.mark.parametrize("name", [name for name in dir(fg.Tensor) if not name.startswith("_")])
def test_arguments_of_methods_are_those_of_the_function(name):
    """NumPy's own methods take theirs in the order of its functions, too, but do not tell all of them."""
    method, function = getattr(fg.Tensor, name), getattr(np, name, None)
    if not callable(method) or not inspect.isroutine(function) or name in ("dot", "compress", "copy", *REFUSED):
        return
    if (theirs := signature(function)) is None or name == "clip":
        return
    wanted = [p.name for p in theirs.parameters.values() if p.kind in PLACED][1:]
    mine = [p.name for p in signature(method).parameters.values() if p.kind in PLACED][1:]
    if name not in ("reshape", "transpose"):  # whose shape and axes may be given one by one
        assert mine[: len(wanted)] == wanted[: len(mine)]


X, Y = np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.2]]), np.array([0.5, 2.0, -0.7])
BY_POSITION = {
    "sum": (0, "f4", None, True, 2.0, X > 0), "prod": (0, "f4", None, True, 2.0, X > 0),
    "mean": (0, "f4", None, True), "max": (0, None, True, 0.5, X > 0), "min": (0, None, True, 0.5, X > 0),
    "var": (0, None, None, 1, True), "std": (0, None, None, 1, True), "any": (0, None, True), "all": (0, None, True),
    "argmax": (0, None), "median": (0, None, False, True), "quantile": (0.3, 0, None, False, "hazen", True),
    "percentile": (30, 0, None, False, "lower", True), "ptp": (0, None, True), "clip": (-0.5, 0.5, None),
    "nansum": (0, "f4", None, True, 2.0), "nanmax": (0, None, True, 0.5), "nanstd": (0, None, None, 1, True),
    "nanmedian": (0, None, False, True), "nanpercentile": (30, 0, None, False, "lower", True), "cumsum": (1, "f4"),
    "asarray": ("f4", "C"), "concatenate": (1,), "stack": (1,), "trace": (1, 0, 1, "f4"),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_POSITION)
def test_positional_calls_mean_the_same(name):
    first = [X, X] if name in ("concatenate", "stack") else X
    expected = getattr(np, name)(first, *BY_POSITION[name])
    ours = [getattr(fg, name)(first, *BY_POSITION[name])]
    if hasattr(fg.Tensor, name):
        ours.append(getattr(fg.tensor(X), name)(*BY_POSITION[name]))
    for y in ours:
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["sum", "max", "median", "cumsum", "trace", "var"])
def test_a_tensor_takes_the_result_of_numpys_function_by_position(name):
    before = {"sum": (0, None), "max": (0,), "median": (0,), "cumsum": (0, None), "trace": (0, 0, 1, None),
              "var": (0, None)}[name]  # fmt: skip
    expected = getattr(np, name)(X, *before)
    out = fg.zeros(expected.shape)
    x = fg.tensor(X, requires_grad=True)
    assert getattr(np, name)(x, *before, out) is out and out.requires_grad
    np.testing.assert_allclose(out.detach(), expected, rtol=1e-12)


# ---- out= ------------------------------------------------------------------------------------------------------------
ARGUMENTS = {
    **dict.fromkeys(("quantile", "nanquantile"), (X, 0.3)), **dict.fromkeys(("percentile", "nanpercentile"), (X, 30)),
    **dict.fromkeys(("dot", "outer"), (X, Y)), **dict.fromkeys(("concat", "concatenate", "stack"), ([X, X],)),
    **dict.fromkeys(("cumulative_sum", "cumulative_prod"), (Y,)), "take": (X, [0, 4]), "compress": ([True, False], X),
    "choose": ([1, 0, 1], X), "einsum": ("ij,j", X, Y), "linalg.multi_dot": ([X, X.T, X],),
    "special.zeta": ([3.0, 4.0],),
}  # fmt: skip


def functions_with_out():
    for prefix, module in (("", fg), ("linalg.", fg.linalg), ("special.", fg.special)):
        for name in sorted(set(dir(module)) - {"sklearn"}):  # which an extra has
            f = getattr(module, name)
            if callable(f) and not isinstance(f, type) and (s := signature(f)) and "out" in s.parameters:
                yield prefix + name, f


@pytest.mark.parametrize("name, f", [pytest.param(name, f, id=name) for name, f in functions_with_out()])
def test_a_tensor_takes_the_result(name, f):
    if name == "special.zeta":
        pytest.importorskip("scipy")
    arguments = ARGUMENTS.get(name, (X,))
    expected = f(*arguments)
    out = fg.asarray(np.full(expected.shape, 7, expected.dtype))
    assert f(*arguments, out=out) is out
    np.testing.assert_array_equal(out, expected)
    own = {"amax": "max", "amin": "min", "concat": "concatenate", "around": "round"}.get(name, name)
    cure = f"^{own}: expected out= as a tensor, got ndarray, .* write a = fastgrad.{own}"
    with pytest.raises(TypeError, match=cure):
        f(*arguments, out=np.zeros(expected.shape, expected.dtype))
    with pytest.raises(ValueError, match=f"^{own}: a result of shape .* does not go into out= of shape"):
        f(*arguments, out=fg.asarray(np.zeros((*expected.shape, 0), expected.dtype)))
    if expected.dtype.kind != "f" or not isinstance(arguments[0], np.ndarray) or name in ("fix", "round"):
        return

    def loss(x):
        out = fg.zeros(expected.shape)
        f(x * 1.0, *arguments[1:], out=out)
        return (out * out).sum()

    for g in (fg.grad(loss), fg.compile(fg.grad(loss))):
        np.testing.assert_allclose(g(arguments[0]), fg.grad(lambda x: (f(x, *arguments[1:]) ** 2).sum())(arguments[0]))


@pytest.mark.parametrize("name", ["nanvar", "nanstd"])
def test_the_dtype_of_a_mean_does_not_count(name):
    x = np.array([[1.0, np.nan], [3.0, 5.0]], np.float32)
    expected = getattr(np, name)(x, axis=0, keepdims=True, mean=np.array([[2.5, 5.0]]))
    y = getattr(fg, name)(x, axis=0, keepdims=True, mean=np.array([[2.5, 5.0]]))
    assert y.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
