"""The user's line in errors and warnings: which stack frames are the user's code, a library's, or ours."""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import os
import sys
import types
import warnings
from collections.abc import Iterable

from ._instead import WRITTEN

_OURS = os.path.dirname(__file__)
_STANDARD = os.path.dirname(os.__file__)


@functools.cache
def rank(path: str) -> int:
    """0 for a file of the user's, 1 for one of a library, 2 for one of ours."""
    if path.startswith(_OURS + os.sep) or path.endswith((".pyx", ".pxi")):
        return 2
    library = path.startswith((_STANDARD + os.sep, "<frozen ")) or "-packages" + os.sep in path
    return int(library)


def _innermost(paths: Iterable[str]) -> int | None:
    """The index of the first path, innermost first, that is the user's, else of the first that is not ours."""
    ranks = [rank(path) for path in paths]
    return next((ranks.index(wanted) for wanted in (0, 1) if wanted in ranks), None)


def _frames() -> list[types.FrameType]:
    frame: types.FrameType | None = sys._getframe(1)
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def user_line() -> str:
    """The line of the user's code that called us, as the end of a phrase; with what to use instead where that line
    calls a function of NumPy's or SciPy's that we have, too."""
    frames = _frames()
    i = _innermost(frame.f_code.co_filename for frame in frames)
    if i is None:
        return ""
    instead = _instead_among(frames[:i]).replace(". Instead", "; instead", 1)
    return f" ({frames[i].f_code.co_filename}, line {frames[i].f_lineno}{instead})"


def user_place() -> tuple[str, int] | None:
    """The file and line of the user's code that called us; None where only libraries did."""
    frames = _frames()
    i = _innermost(frame.f_code.co_filename for frame in frames)
    return None if i is None else (frames[i].f_code.co_filename, frames[i].f_lineno)


_OF_SCIPY = {
    "logsumexp": "special.logsumexp", "softmax": "special.softmax", "log_softmax": "special.log_softmax",
    "polygamma": "special.polygamma", "multigammaln": "special.multigammaln", "expit": "sigmoid",
    "log_expit": "log_sigmoid", "erf": "erf", "erfc": "erfc", "minimize": "minimize", "least_squares": "least_squares",
    "root": "root", "norm": "norm", "approx_fprime": "grad", "check_grad": "check_grads",
}  # fmt: skip
# Those of scipy.linalg that fastgrad.linalg has under the same names.
_OF_SCIPY_LINALG = {
    "cho_factor", "cho_solve", "cholesky", "det", "eig", "eigh", "eigvals", "eigvalsh", "expm", "inv", "lstsq", "norm",
    "pinv", "qr", "solve", "solve_triangular", "svd", "svdvals", "toeplitz",
}  # fmt: skip


def _of_wrapped(frame: types.FrameType, module: str) -> tuple[str, str]:
    """Name and module of a frame's function, or of that which it wraps: SciPy's wrappers call it for each matrix of a
    stack, or for samples along an axis, or for arrays of one namespace."""
    name = frame.f_code.co_name
    for variable in ("f", "fun", "func", "hypotest_fun_in"):
        wrapped = frame.f_locals.get(variable)
        if "wrapper" in name and isinstance(wrapped, types.FunctionType):
            return wrapped.__name__.lstrip("_"), wrapped.__module__
    return name, module


def _written(frame: types.FrameType, module: str) -> str:
    """What to write instead of the function of SciPy's that a frame belongs to, as the end of a text; "" if unknown."""
    name, module = _of_wrapped(frame, module)
    if name == "__init__":
        name = frame.f_code.co_qualname.partition(".")[0]
    parts = module.split(".")
    for n in range(len(parts), 1, -1):  # "scipy.linalg._basic" is part of "scipy.linalg"
        if text := WRITTEN.get(".".join(parts[:n]), {}).get(name):
            return f". Instead of SciPy's {name} write {text}"
    return ""


def _called(frame: types.FrameType, module: str) -> str:
    """What function of SciPy's a frame belongs to, as in "linalg.inv"; "" if it has no counterpart here."""
    name, module = _of_wrapped(frame, module)
    if module.startswith("scipy.linalg.") and name in _OF_SCIPY_LINALG:
        return f"linalg.{name}"
    if module.startswith("scipy.stats."):  # a method of norm_gen or multivariate_normal_frozen, say
        owner = type(frame.f_locals.get("self")).__name__.removesuffix("_gen").removesuffix("_frozen")
        ours = getattr(sys.modules[__package__].stats, owner, None)  # this wing imports none above it
        if ours is not None and name == "__init__":  # of a frozen distribution
            return f"stats.{owner}"
        return f"stats.{owner}.{name}" if name[0] != "_" and hasattr(ours, name) else ""
    return name if name in _OF_SCIPY else ""


# Functions of NumPy's that convert their arguments before any protocol could show us a tensor.
_OF_NUMPY = {
    "full": "fastgrad.full(shape, t)", "_vectorize_call": "fastgrad.vmap(f)", "_vectorize_call_with_signature":
    "fastgrad.vmap(f)",
}  # fmt: skip
_NAMED = {"_vectorize_call": "vectorize", "_vectorize_call_with_signature": "vectorize"}


def _of_numpy(module: str, function: str) -> str:
    """What is to be used instead of a function of NumPy's; "" if it has no counterpart here."""
    if ours := _OF_NUMPY.get(function):
        return f". Instead of NumPy's {_NAMED.get(function, function)} use {ours}"
    if function == "__getitem__" and module.endswith("_index_tricks_impl"):
        return ". Instead of NumPy's r_ and c_ use fastgrad.r_ and fastgrad.c_"
    fastgrad = sys.modules[__package__]
    if module.startswith("numpy.linalg.") and function in fastgrad.linalg.__all__:
        return f". Instead of NumPy's {function} use fastgrad.linalg.{function}"
    return f". Instead of NumPy's {function} use fastgrad.{function}" if function in fastgrad.__all__ else ""


def instead_of_theirs() -> str:
    """The end of an error's text where a function of NumPy's or SciPy's called us, and we have that function, too.

    Only those that the user's code called: behind it may be a solver of SciPy's, which calls that code in turn."""
    frames = _frames()
    users = next((i for i, frame in enumerate(frames) if rank(frame.f_code.co_filename) == 0), None)
    return _instead_among(frames[:users])


def _instead_among(frames: list[types.FrameType]) -> str:
    """The same for the function that is the first of these, innermost first, to be one of theirs that we have."""
    of_numpy = ""
    for frame in frames:
        name, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if name.startswith(f"{__package__}._scipy."):
            return ""
        if name.startswith("scipy."):
            if theirs := _called(frame, name):
                ours = _OF_SCIPY.get(theirs, theirs)
                return f". Instead of SciPy's {theirs.rpartition('.')[2]} use fastgrad.{ours}"
            if text := _written(frame, name):
                return text
        elif name.startswith("numpy."):  # NumPy's functions call each other: the outermost is the one that was called
            of_numpy = _of_numpy(name, function) or of_numpy
        elif of_numpy:
            return of_numpy
    return of_numpy


def line_of(error: BaseException) -> str:
    """The line of the user's code that raised an error, as the end of a phrase."""
    import traceback  # only errors need it, and it takes a millisecond or two to import

    places = traceback.extract_tb(error.__traceback__)[::-1]
    i = _innermost(place.filename for place in places)
    return "" if i is None else f" ({places[i].filename}, line {places[i].lineno})"


def is_from_signal(error: BaseException) -> bool:
    """Whether an error, or one that it was raised in place of, comes from a handler of a signal. It has nothing to do
    with what was called meanwhile, so code that tries something else after a failure must raise it again.

    Python calls a handler with the number of the signal and the frame that it interrupts, which is also its caller.
    """
    cause: BaseException | None = error
    seen = set[int]()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        trace = cause.__traceback__
        while trace is not None:
            if _handles_signal(trace.tb_frame):
                return True
            trace = trace.tb_next
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False


def _handles_signal(frame: types.FrameType) -> bool:
    code = frame.f_code
    n = code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames[: n + bool(code.co_flags & inspect.CO_VARARGS)]
    given = [frame.f_locals.get(name) for name in names]
    if given and isinstance(given[-1], tuple):
        given = [*given[:-1], *given[-1]]
    return any(type(a) is int and b is frame.f_back is not None for a, b in itertools.pairwise(given))


_STORE = dis.opmap["STORE_SUBSCR"]


def stores_an_element() -> bool:
    """Whether the innermost frame runs a statement ``a[i] = x``. NumPy asks x for its number there as ``float(x)``
    does, but that is a call."""
    frame = sys._getframe(1)
    return frame.f_code.co_code[frame.f_lasti] == _STORE


def warn(message: str) -> None:
    """A RuntimeWarning at the user's line that called us."""
    i = _innermost(frame.f_code.co_filename for frame in _frames())
    warnings.warn(message, RuntimeWarning, stacklevel=1 + (i or 0))
