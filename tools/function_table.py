"""Writes docs/functions.md: what becomes of each function of NumPy and SciPy that is given a tensor.

    python tools/function_table.py [--check]

Each function is called with tensors that require gradients, with the arguments that the tests use or those of
function_calls.py, which also lists the functions that are not called. With --check nothing is written, and the exit
status says whether the page is up to date: for the versions with which it was written the whole text, for others
whether the functions that are there do what the page says.
"""

import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
os.environ.pop("SCIPY_ARRAY_API", None)  # SciPy reads it when it is imported
if "--array-api" in sys.argv[1:]:
    os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np  # noqa: E402
import scipy.special  # noqa: E402
import scipy.stats  # noqa: E402
from function_calls import CALLS, CURES, NUMBERS, SQUARE, WITHOUT_NUMBERS, general  # noqa: E402
from test_numpy_protocol import arguments, dispatched, inputs  # noqa: E402

import fastgrad as fg  # noqa: E402
from fastgrad._instead import WRITTEN  # noqa: E402
from fastgrad._numpy.protocol import INSTEAD  # noqa: E402

PAGE = ROOT / "docs" / "functions.md"
VERSIONS = f"NumPy {np.__version__} and SciPy {scipy.__version__}"
INTEGERS = np.array([1, 2])
DIFFERENTIABLE, DATA, REFUSED = "differentiable", "value only", "refused"
COMPLETE = ("scipy.special", "scipy.stats")  # those of SciPy's modules that are listed whole
UNCLEAR, READ = "refused by an error that names no cure", "read as numbers"
SWITCHED = {DIFFERENTIABLE: "differentiable with SCIPY_ARRAY_API=1", DATA: "value only with SCIPY_ARRAY_API=1"}


DISTRIBUTIONS = (
    scipy.stats.rv_continuous, scipy.stats.rv_discrete, type(scipy.stats.multivariate_normal).__mro__[1],
)  # fmt: skip


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
        yield lambda t, x=x: (t(x), t(x), t(x), t(x), t(x))
    yield lambda t: (t(SQUARE), t(NUMBERS))
    yield lambda t: (t(NUMBERS), 3, None, None, t(NUMBERS))  # with weights
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


def public(module: types.ModuleType) -> dict[str, Any]:
    """Every public function of a module; no classes, distributions or modules."""
    found = {n: getattr(module, n) for n in {*dir(module), *getattr(module, "__all__", ())} if not n.startswith("_")}
    none = (type, types.ModuleType, *DISTRIBUTIONS)
    return {n: f for n, f in sorted(found.items()) if callable(f) and not isinstance(f, none)}


def unseen(module: types.ModuleType) -> dict[str, Any]:
    """The public functions that no protocol sees, without those that make no use of numbers."""
    without = " ".join(WITHOUT_NUMBERS[module.__name__].values()).split()
    return {n: f for n, f in public(module).items() if n not in without and n not in seen(module)}


def seen(module: types.ModuleType) -> dict[str, Any]:
    if module in (np, np.linalg):
        return dispatched(module)
    ufuncs = getattr(module, "_ufuncs", None)  # with SCIPY_ARRAY_API=1, scipy.special has wrappers of them
    return {n: f for n, f in public(module).items() if isinstance(getattr(ufuncs, n, f), np.ufunc)}


def parts(result: Any) -> Iterator[Any]:
    """The numbers and arrays of a result, which may be a tuple or an object with attributes."""
    if isinstance(result, (tuple, list)):
        for item in result:
            yield from parts(item)
    elif type(result).__module__.startswith("scipy.") and hasattr(result, "__dict__"):
        yield from parts(list(vars(result).values()))
    else:
        yield result


def floats(call: Callable[..., Any], function: Callable[..., Any], make: Callable[[np.ndarray], Any]) -> list[Any]:
    with contextlib.redirect_stdout(io.StringIO()):
        found = list(parts(call(function, make)))
    is_float = [type(part) in (float, complex) or getattr(getattr(part, "dtype", None), "kind", "") in ("f", "c", "O")
                for part in found]  # fmt: skip
    return [part for part, counts in zip(found, is_float) if counts]


def outcome(call: Callable[..., Any], function: Callable[..., Any]) -> str:
    """What becomes of a call with tensors that require gradients. Floats without gradients are right where they are
    constant, such as those of ranks: where other numbers of the same order give the same."""
    try:
        found = floats(call, function, tracked)
        if any(isinstance(part, fg.Tensor) and part.requires_grad for part in found):
            return DIFFERENTIABLE
        other = floats(call, function, lambda x: tracked(x + 1e-3 * x**2 if x.dtype.kind == "f" else x))
    except (BufferError, TypeError) as error:
        return REFUSED if re.search(r"fastgrad\.|requires gradients|\.detach\(\)", str(error)) else UNCLEAR
    except Exception:  # those of the function, whatever they are
        return UNCLEAR
    same = [np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True) for x, y in zip(found, other)]
    return DATA if all(same) else READ


def of_unseen(module: types.ModuleType) -> dict[str, str]:
    """What becomes of each function that no protocol sees."""
    found = {}
    for name, function in unseen(module).items():
        own = CALLS.get(module.__name__, {}).get(name)
        outcomes = {outcome(call, function) for call in ([own] if own else general(function))}
        found[name] = next(kind for kind in (DIFFERENTIABLE, REFUSED, READ, DATA, UNCLEAR) if kind in outcomes)
    return found


def wrapped(found: list[str]) -> str:
    return textwrap.fill(", ".join(found), 120, break_on_hyphens=False) if found else "None."


def names(found: list[str]) -> str:
    return wrapped([f"`{name}`" for name in found])


def section(title: str, kinds: dict[str, list[str]]) -> str:
    cures = [f"| `{name}` | `{INSTEAD[name]}` |" for name in kinds[REFUSED] if name in INSTEAD]
    table = ["", "| refused | write |", "|---|---|", *cures] if cures else []
    return "\n".join([
        f"## {title}", "", "Differentiable:", "", names(kinds[DIFFERENTIABLE]), "",
        "Value only, as the result is no float or a constant:", "",
        names(kinds[DATA]), "", "Refused where a tensor is tracked or traced:", "", names(kinds[REFUSED]), *table, "",
    ])  # fmt: skip


def with_array_api() -> dict[str, dict[str, str]]:
    """What becomes of SciPy's functions that no protocol sees in a process in which SCIPY_ARRAY_API is 1."""
    command = [sys.executable, str(Path(__file__)), "--array-api"]
    found: dict[str, dict[str, str]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def section_of_unseen(module: types.ModuleType, switched: dict[str, str]) -> str:
    """The part of a section about functions that no protocol sees, by what becomes of them."""
    kinds: dict[str, list[str]] = {}
    for name, kind in of_unseen(module).items():
        if kind in (REFUSED, UNCLEAR):
            kind = SWITCHED.get(switched.get(name, ""), kind)
        kinds.setdefault(kind, []).append(name)
    texts = {
        DIFFERENTIABLE: "Differentiable, too, as they are composed of differentiable functions:",
        SWITCHED[DIFFERENTIABLE]: "Differentiable where `SCIPY_ARRAY_API` is 1 (docs/array-api.md), otherwise refused:",
        SWITCHED[DATA]: "Value only where `SCIPY_ARRAY_API` is 1, as ranks are constant, otherwise refused:",
        DATA: "Value only, as the result is a constant:",
        READ: "Value only, as they read a number by `float(t)`, which ends the gradient:",
        REFUSED: "Not seen by a protocol: refused by an error that says what to do, where an ndarray would be made:",
        UNCLEAR: "Not seen by a protocol: refused by an error of the function's own, which asks for another type:",
    }
    lines = []
    for kind, text in texts.items():
        if kind in kinds:
            lines += [text, "", names(kinds[kind]), ""]
    cures = {n: c for n, (c, _) in CURES.get(module.__name__, {}).items() if n not in kinds.get(DIFFERENTIABLE, [])}
    if cures:
        lines += ["| instead of | write |", "|---|---|", *[f"| `{n}` | `{c}` |" for n, c in sorted(cures.items())], ""]
    without = WITHOUT_NUMBERS[module.__name__]
    if without:
        lines += ["These make no use of arrays of numbers:", "", "| functions | names |", "|---|---|"]
        there = public(module)
        for reason, listed in without.items():
            lines.append(f"| {reason} | {', '.join(f'`{n}`' for n in sorted(listed.split()) if n in there)} |")
        lines.append("")
    return "\n".join(lines)


def distributions() -> str:
    kinds = (scipy.stats.rv_continuous, scipy.stats.rv_discrete, type(scipy.stats.multivariate_normal).__mro__[1])
    theirs = sorted(n for n, d in vars(scipy.stats).items() if isinstance(d, kinds) and not n.startswith("_"))
    methods = "logpdf pdf logpmf pmf cdf logcdf sf logsf ppf isf".split()
    rows = []
    for name in fg.stats.__all__:
        distribution = getattr(fg.stats, name)
        there = [m for m in methods if m in dir(distribution)]
        if getattr(distribution, "no_quantiles", ""):
            there = [m for m in there if m not in ("ppf", "isf")]
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
    sections = []
    with quiet():
        switched = with_array_api()
        for module in (np, np.linalg, scipy.special):
            sections.append(section(module.__name__, of_module(module, seen(module))))
            sections.append(section_of_unseen(module, switched.get(module.__name__, {})))
        rest = section_of_unseen(scipy.stats, switched["scipy.stats"])
    others = [
        f"| `{title}.{name}` | `{text}` |" for title, written in WRITTEN.items() if title not in COMPLETE
        for name, text in written.items()
    ]  # fmt: skip
    other = [
        "## Other modules of SciPy", "",
        "Their functions are refused by an error that says what to do. Where `fastgrad` has a function of the same",
        "name, as for much of `scipy.linalg`, it names that; of these it says what to write:",
        "", "| instead of | write |", "|---|---|", *others,
    ]  # fmt: skip
    head = f"""# NumPy's and SciPy's functions of tensors

What `np.f(t)` does with a tensor t that requires a gradient, for every public function of `numpy`, `numpy.linalg`,
`scipy.special` and `scipy.stats`. Written by `tools/function_table.py` from calls with {VERSIONS};
a test compares. "Differentiable" means a gradient from some part of the result to at least one argument.
A function that is refused works where the tensors are only data, as those without gradients are outside of
programs, and gives NumPy's own result. Where it is differentiated, give it its rule with `fastgrad.primitive`, or write
what the table says. Functions that convert their arguments before a protocol could show a tensor are "not seen by a
protocol". Classes are not listed: what `np.vectorize` and `np.poly1d` do follows from the functions that they call.
"""
    parts = [head, *sections, distributions(), "### Functions of samples", "", rest, *other]
    return "\n".join(parts).rstrip() + "\n"


def disagreements(text: str) -> list[str]:
    """What the page, written for other versions, says of functions that are there, and is not so. Which of SciPy's
    functions that no protocol sees can be differentiated depends on its version, but not that no gradient is lost."""
    wrong = []
    with quiet():
        for module in (np, np.linalg, scipy.special, scipy.stats):
            lines = text.split(f"## {module.__name__}\n")[1].split("\n## ")[0].split("\n\n")
            said = {name: head.strip() for head, names in itertools.pairwise(lines) if names.startswith("`")
                    for name in re.findall(r"`(\w+)`", names)}  # fmt: skip
            kinds = {} if module is scipy.stats else of_module(module, seen(module))
            heads = {DIFFERENTIABLE: "Differentiable", DATA: "Value only", REFUSED: "Refused"}
            for kind, found in kinds.items():
                wrong += [f"{module.__name__}.{n} is {kind}, but the page has it under {said[n]!r}" for n in found
                          if n in said and not said[n].startswith(heads[kind])]  # fmt: skip
            for name, kind in of_unseen(module).items():
                if kind == READ and name in said and "float(t)" not in said[name]:
                    wrong.append(f"{module.__name__}.{name} loses the gradient")
    return wrong


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    if "--array-api" in sys.argv[1:]:
        with quiet():
            print(json.dumps({module.__name__: of_unseen(module) for module in (scipy.special, scipy.stats)}))
        sys.exit(0)
    if "--check" in sys.argv[1:] and f"{VERSIONS};" not in PAGE.read_text():
        sys.exit("\n".join(disagreements(PAGE.read_text())) or 0)
    text = page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text() == text else "docs/functions.md: run python tools/function_table.py")
    PAGE.write_text(text)
