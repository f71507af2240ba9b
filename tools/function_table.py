"""Writes docs/functions.md: what becomes of each function of NumPy and SciPy that is given a tensor.

    python tools/function_table.py [--check]

Nothing is listed by hand: each function is called with tensors that require gradients, with the arguments that the
tests use. With --check nothing is written, and the exit status says whether the page is up to date.
"""

import re
import sys
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np  # noqa: E402
import scipy.special  # noqa: E402
import scipy.stats  # noqa: E402
from test_numpy_protocol import arguments, dispatched, inputs  # noqa: E402

import fastgrad as fg  # noqa: E402
from fastgrad._numpy.protocol import INSTEAD  # noqa: E402

PAGE = ROOT / "docs" / "functions.md"
VERSIONS = f"NumPy {np.__version__} and SciPy {scipy.__version__}"
SQUARE = np.array([[4.0, 1.0], [1.0, 3.0]])
NUMBERS = np.array([0.3, 0.6])
INTEGERS = np.array([1, 2])
DIFFERENTIABLE, DATA, REFUSED = "differentiable", "value only", "refused"


def candidates(name: str) -> Iterator[Callable[[Any], tuple[Any, ...]]]:
    """Ways to call a function with a tensor: those of the tests first, then a few that most functions take."""
    if name in fg.__all__:
        yield lambda t: arguments(name, t(inputs(name)[0]), t(inputs(name)[1]))
    for x in (SQUARE, NUMBERS):
        yield lambda t, x=x: (t(x),)
        yield lambda t, x=x: (t(x), t(x))
        yield lambda t, x=x: ([t(x), t(x)],)
        yield lambda t, x=x: (t(x), 1)
        yield lambda t, x=x: (1, t(x))
        yield lambda t, x=x: (t(x), t(x), t(x))
        yield lambda t, x=x: (t(x), t(x), t(x), t(x))
    yield lambda t: (t(SQUARE), t(NUMBERS))
    yield lambda t: (t(INTEGERS),)
    yield lambda t: (t(INTEGERS), t(INTEGERS))


def tensors(result: Any) -> list[fg.Tensor]:
    if isinstance(result, (tuple, list)):
        return [part for item in result for part in tensors(item)]
    return [result] if isinstance(result, fg.Tensor) else []


def tracked(x: np.ndarray) -> fg.Tensor:
    return fg.tensor(x, requires_grad=x.dtype.kind == "f")


def status(name: str, function: Callable[..., Any]) -> str:
    """What becomes of a function. Integers have no gradient, so those that take nothing else are of value only."""
    found = REFUSED
    for make in candidates(name):
        try:
            result = function(*make(tracked))
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            if re.search(r"^[\w.]+ is not supported on tensors", str(error)):  # not one of its arguments
                return REFUSED
            continue
        if any(part.requires_grad for part in tensors(result)):
            return DIFFERENTIABLE
        found = DATA
    return found


def of_module(module: types.ModuleType, functions: dict[str, Any]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {DIFFERENTIABLE: [], DATA: [], REFUSED: []}
    for name in sorted(functions):
        kinds[status(name, functions[name])].append(name)
    return kinds


def names(found: list[str]) -> str:
    return textwrap.fill(", ".join(f"`{name}`" for name in found), 120, break_on_hyphens=False) if found else "None."


def section(title: str, kinds: dict[str, list[str]]) -> str:
    cures = [f"| `{name}` | `{INSTEAD[name]}` |" for name in kinds[REFUSED] if name in INSTEAD]
    table = ["", "| refused | write |", "|---|---|", *cures] if cures else []
    return "\n".join([
        f"## {title}", "", "Differentiable:", "", names(kinds[DIFFERENTIABLE]), "",
        "Value only, as the result is no float or a constant:", "",
        names(kinds[DATA]), "", "Refused where a tensor is tracked or traced:", "", names(kinds[REFUSED]), *table, "",
    ])  # fmt: skip


def distributions() -> str:
    kinds = (scipy.stats.rv_continuous, scipy.stats.rv_discrete, type(scipy.stats.multivariate_normal).__mro__[1])
    theirs = sorted(n for n, d in vars(scipy.stats).items() if isinstance(d, kinds) and not n.startswith("_"))
    methods = "logpdf pdf logpmf pmf cdf logcdf sf logsf ppf".split()
    rows = []
    for name in fg.stats.__all__:
        distribution = getattr(fg.stats, name)
        there = [m for m in methods if m in dir(distribution)]
        if getattr(distribution, "no_quantiles", ""):
            there.remove("ppf")
        found = [f"`{m}`" for m in there]
        rows.append(f"| `{name}` | {', '.join(found)} |")
    rest = [name for name in theirs if name not in fg.stats.__all__]
    return "\n".join([
        "## scipy.stats", "",
        "Methods of SciPy's distributions are no ufuncs: given a tensor they raise an error that names ours. These are",
        "in `fastgrad.stats`, differentiable by every parameter:",
        "", "| distribution | methods |", "|---|---|", *rows, "",
        "Not there; a log density is mostly a line of `fastgrad.special` functions:", "", names(rest), "",
    ])  # fmt: skip


def page() -> str:
    special = {n: f for n, f in vars(scipy.special).items() if isinstance(f, np.ufunc) and not n.startswith("_")}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        sections = [
            section("numpy", of_module(np, dispatched(np))),
            section("numpy.linalg", of_module(np.linalg, dispatched(np.linalg))),
            section("scipy.special", of_module(scipy.special, special)),
        ]
    head = f"""# NumPy's and SciPy's functions of tensors

What `np.f(t)` does with a tensor t, for every function that asks its arguments' types, and `scipy.special.f(t)` for
every ufunc. Written by `tools/function_table.py` from calls with {VERSIONS}; a test compares.
A function that is refused works where the tensors are only data, as those without gradients are outside of
programs, and gives NumPy's own result. Where it is differentiated, give it its rule with `fastgrad.primitive`, or write
what the table says. Functions that take no arrays, and those that convert their arguments before a protocol could show
a tensor, such as `np.full` and `np.vectorize`, are not listed; their errors name what to use.
"""
    return "\n".join([head, *sections, distributions()]).rstrip() + "\n"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text() == text else "docs/functions.md: run python tools/function_table.py")
    PAGE.write_text(text)
