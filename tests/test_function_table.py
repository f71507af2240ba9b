"""docs/functions.md says what becomes of NumPy's and SciPy's functions of tensors."""

import importlib
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats

import fastgrad as fg
from fastgrad._instead import WRITTEN

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "functions.md").read_text()
SAME_VERSIONS = f"NumPy {np.__version__} and SciPy {scipy.__version__};" in PAGE
MODULES = {"numpy": np, "numpy.linalg": np.linalg, "scipy.special": scipy.special, "scipy.stats": scipy.stats}
sys.path.insert(0, str(ROOT / "tools"))

import function_calls  # noqa: E402


def listed(title):
    """The words in code font of the section with this title."""
    return re.findall(r"`(\w+)`", PAGE.split(f"## {title}\n")[1].split("\n## ")[0])


def test_the_page_is_up_to_date():
    """The whole page, or for other versions than those it was written with what it says of functions there."""
    command = [sys.executable, str(ROOT / "tools" / "function_table.py"), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.skipif(not SAME_VERSIONS, reason="other versions of NumPy and SciPy have other functions")
@pytest.mark.parametrize("title", MODULES)
def test_every_public_function_is_listed(title):
    module = MODULES[title]
    public = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    functions = {n for n, f in public.items() if callable(f) and not isinstance(f, (type, types.ModuleType))}
    assert functions - set(listed(title)) == set()
    gone = set(" ".join(function_calls.WITHOUT_NUMBERS[title].values()).split()) - functions
    assert not gone, "listed among those that make no use of numbers, but not there"


def tracked(x):
    """Arguments with tensors in the places of their arrays of floats."""
    if isinstance(x, (list, tuple)):
        return type(x)(tracked(item) for item in x)
    return fg.tensor(x, requires_grad=True) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


@pytest.mark.parametrize(
    "title, name", [(t, n) for t, cures in function_calls.CURES.items() for n, (_, given) in cures.items() if given]
)
def test_what_to_write_instead_is_the_same_and_tracked(title, name):
    if (function := getattr(importlib.import_module(title), name, None)) is None:
        pytest.skip(f"this version has no {name}")
    text, given = function_calls.CURES[title][name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of NumPy's matrices
        expected = function(*given.values())

    found = eval(text, {"numpy": np, "fastgrad": fg}, {key: tracked(x) for key, x in given.items()})
    assert found.requires_grad, text
    if isinstance(expected, tuple) or hasattr(expected, "statistic"):  # also p values and errors
        expected = tuple(expected)[: found.size]
    np.testing.assert_allclose(found.detach().numpy(), np.reshape(expected, found.shape), rtol=1e-7)


# Arguments of those whose text is no expression of them.
ARGUMENTS = {
    "eigh_tridiagonal": (np.ones(3), np.ones(2)), "lu_factor": (np.eye(2),), "lu_solve": ((np.eye(2), np.arange(2)),
    np.ones(2)), "solve_banded": ((1, 1), np.ones((3, 4)), np.ones(4)), "solveh_banded": (np.ones((2, 4)), np.ones(4)),
    "squareform": (np.eye(2),), "lfilter": (np.ones(2), np.ones(2), np.ones(9)), "simpson": (np.ones(9),),
}  # fmt: skip


# Those of which the functions that they call return tensors.
OF_FUNCTIONS = {
    "bisect": lambda f, p: f(lambda t: t - p, 0.0, 5.0),
    "odeint": lambda f, p: f(lambda y, t: -p * y, [1.0], [0.0, 1.0]), "quad": lambda f, p: f(lambda t: p * t, 0, 1),
    "solve_ivp": lambda f, p: f(lambda t, y: -p * y, (0, 1), [1.0]),
}  # fmt: skip
OF_FUNCTIONS |= dict.fromkeys(("brentq", "brenth", "ridder"), OF_FUNCTIONS["bisect"])


@pytest.mark.parametrize("title, name", [(t, n) for t, names in WRITTEN.items() for n in names if n in OF_FUNCTIONS])
def test_the_error_names_what_to_write_where_a_function_returns_a_tensor(title, name):
    function = getattr(importlib.import_module(title), name)
    expected = f"Instead of SciPy's {name} write {WRITTEN[title][name]}"
    with pytest.raises((TypeError, SystemError)) as raised:
        fg.grad(lambda p: OF_FUNCTIONS[name](function, p))(2.0)
    # SciPy 1.18 goes on after an error in the root finders' f, of which CPython makes the cause of a SystemError.
    error = raised.value if isinstance(raised.value, TypeError) else raised.value.__cause__
    assert str(error).endswith(expected)


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_transforms_of_fourier_are_products(name):
    x = np.sin(np.arange(12.0)).reshape(2, 6)
    text = WRITTEN["scipy.fft"][name]
    with pytest.raises(TypeError, match=re.escape(f"Instead of NumPy's {name} write {text}") + "$"):
        getattr(np.fft, name)(fg.tensor(x, requires_grad=True))
    expected = getattr(np.fft, name)(x)
    parts = [eval(part, {"numpy": np, "x": fg.tensor(x)}).numpy() for part in text.partition("  #")[0].split(" and ")]
    np.testing.assert_allclose(parts, [expected.real, expected.imag][: len(parts)], atol=1e-14)
    assert len(parts) == 1 + np.iscomplexobj(expected)


def test_other_functions_of_numpy_fft_are_told_nothing_false():
    for name in ("rfft2", "fftshift"):
        with pytest.raises(TypeError, match=f"^numpy.fft.{name} is not supported on tensors; give .* gradients$"):
            getattr(np.fft, name)(fg.tensor(np.ones((4, 4)), requires_grad=True))


@pytest.mark.parametrize("solve", ["minimize", "root"])
def test_a_solver_behind_the_users_function_is_not_named(solve):
    import scipy.optimize

    def f(x):
        t = fg.tensor(x, requires_grad=True)
        return np.array([t[0] ** 2, t[1]])

    with pytest.raises(TypeError) as raised:
        getattr(scipy.optimize, solve)(f, [1.0, 2.0])
    assert "fastgrad.asarray" in str(raised.value) and solve not in str(raised.value)


@pytest.mark.parametrize(
    "title, name", [(t, n) for t, names in WRITTEN.items() for n in names if n not in OF_FUNCTIONS]
)
def test_the_error_names_what_to_write(title, name):
    if (function := getattr(importlib.import_module(title), name, None)) is None:
        pytest.skip(f"this version has no {name}")
    given = function_calls.GIVEN[title][name].values() or ARGUMENTS.get(name, (np.arange(8.0), np.ones(8)))
    expected = f"Instead of SciPy's {name} write {WRITTEN[title][name]}"
    if title == "scipy.special" and name in fg.special.__all__:
        expected = f"Instead of SciPy's {name} use fastgrad.special.{name}"
    with pytest.raises((TypeError, AttributeError), match=re.escape(expected) + "$"):
        function(*[tracked(x) for x in given])


@pytest.mark.parametrize("name", ["dct", "idct", "dst"])
def test_cosine_transforms_are_written_by_their_matrix(name):
    import scipy.fft

    x = fg.tensor(np.sin(np.arange(12.0)).reshape(2, 6), requires_grad=True)
    found = eval(WRITTEN["scipy.fft"][name], {"numpy": np, "scipy": scipy, "x": x})
    np.testing.assert_allclose(found.detach().numpy(), getattr(scipy.fft, name)(x.detach().numpy()), atol=1e-14)


def test_one_step_of_newtons_method_has_the_gradient_of_a_root():
    import scipy.optimize

    def root(p):
        x = scipy.optimize.brentq(lambda t: np.exp(t) - float(fg.stop_gradient(p)) - 1, 0, 5)
        names = {"x": x, "f": lambda t: np.exp(t) - p - 1, "slope": np.exp}
        return eval(WRITTEN["scipy.optimize"]["brentq"], names)

    np.testing.assert_allclose(fg.value_and_grad(root)(1.5), (np.log(2.5), 1 / 2.5), rtol=1e-10)


def test_what_is_linear_in_the_values_is_written_by_weights():
    import scipy.integrate
    import scipy.interpolate

    x, y = np.array([0.0, 0.3, 0.9, 1.4, 2.0]), np.array([1.0, -0.5, 2.0, 0.3, 0.7])
    at = np.linspace(0.1, 1.9, 7)
    names = {"numpy": np, "fastgrad": fg, "scipy": scipy, "x": x, "at": at, "y": fg.tensor(y, requires_grad=True)}
    for title, name, expected in (
        ("scipy.integrate", "simpson", scipy.integrate.simpson(y, x=x)),
        ("scipy.interpolate", "CubicSpline", scipy.interpolate.CubicSpline(x, y)(at)),
        ("scipy.interpolate", "make_interp_spline", scipy.interpolate.make_interp_spline(x, y)(at)),
        ("scipy.interpolate", "interp1d", scipy.interpolate.interp1d(x, y)(at)),
    ):
        found = eval(WRITTEN[title][name], names)
        assert found.requires_grad
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)
