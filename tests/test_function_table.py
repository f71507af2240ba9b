"""docs/functions.md says what becomes of NumPy's and SciPy's functions of tensors."""

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


@pytest.mark.parametrize("title, name", [(t, n) for t, cures in function_calls.CURES.items() for n in cures])
def test_what_to_write_instead_is_the_same_and_tracked(title, name):
    if (function := getattr(MODULES[title], name, None)) is None:
        pytest.skip(f"this version has no {name}")
    text, given = function_calls.CURES[title][name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of NumPy's matrices
        expected = function(*given.values())

    def tracked(x):
        if isinstance(x, list):
            return [tracked(item) for item in x]
        return fg.tensor(x, requires_grad=True) if isinstance(x, np.ndarray) else x

    found = eval(text, {"numpy": np, "fastgrad": fg}, {key: tracked(x) for key, x in given.items()})
    assert found.requires_grad, text
    if isinstance(expected, tuple) or hasattr(expected, "statistic"):  # also p values and errors
        expected = tuple(expected)[: found.size]
    np.testing.assert_allclose(found.detach().numpy(), np.reshape(expected, found.shape), rtol=1e-7)
