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

    def tracked(x):
        if isinstance(x, (list, tuple)):
            return type(x)(tracked(item) for item in x)
        return fg.tensor(x, requires_grad=True) if isinstance(x, np.ndarray) else x

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


@pytest.mark.parametrize("title, name", [(t, n) for t, names in WRITTEN.items() for n in names])
def test_the_error_names_what_to_write(title, name):
    if (function := getattr(importlib.import_module(title), name, None)) is None:
        pytest.skip(f"this version has no {name}")
    given = function_calls.GIVEN[title][name].values() or ARGUMENTS.get(name, (np.arange(8.0), np.ones(8)))

    def tracked(x):
        if isinstance(x, (list, tuple)):
            return type(x)(tracked(item) for item in x)
        return fg.tensor(x, requires_grad=True) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x

    expected = f"Instead of SciPy's {name} write {WRITTEN[title][name]}"
    if title == "scipy.special" and name in fg.special.__all__:
        expected = f"Instead of SciPy's {name} use fastgrad.special.{name}"
    with pytest.raises((TypeError, AttributeError), match=re.escape(expected) + "$"):
        function(*[tracked(x) for x in given])


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
