"""The user's line in errors and warnings: which stack frames are the user's code, a library's, or ours."""

from __future__ import annotations

import functools
import os
import sys
import types
import warnings
from collections.abc import Iterable

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
    """The line of the user's code that called us, as the end of a phrase."""
    frames = _frames()
    i = _innermost(frame.f_code.co_filename for frame in frames)
    return "" if i is None else f" ({frames[i].f_code.co_filename}, line {frames[i].f_lineno})"


_OF_SCIPY = {
    "logsumexp": "logsumexp", "softmax": "softmax", "log_softmax": "log_softmax", "expit": "sigmoid",
    "log_expit": "log_sigmoid", "erf": "erf", "erfc": "erfc", "minimize": "minimize", "least_squares": "least_squares",
    "root": "root", "norm": "norm", "approx_fprime": "grad", "check_grad": "check_grads",
}  # fmt: skip


# Functions of NumPy's that convert their arguments before any protocol could show us a tensor.
_OF_NUMPY = {
    "full": "fastgrad.full(shape, t)", "_vectorize_call": "fastgrad.vmap(f)", "_vectorize_call_with_signature":
    "fastgrad.vmap(f)",
}  # fmt: skip
_NAMED = {"_vectorize_call": "vectorize", "_vectorize_call_with_signature": "vectorize"}


def instead_of_theirs() -> str:
    """The end of an error's text where a function of NumPy's or SciPy's called us, and we have that function, too."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        name, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if name.startswith(f"{__package__}._scipy."):
            return ""
        if name.startswith("scipy.") and (ours := _OF_SCIPY.get(function)):
            return f". Instead of SciPy's {function} use fastgrad.{ours}"
        if name.startswith("numpy."):
            if ours := _OF_NUMPY.get(function):
                return f". Instead of NumPy's {_NAMED.get(function, function)} use {ours}"
            if function == "__getitem__" and name.endswith("_index_tricks_impl"):
                return ". Instead of NumPy's r_ and c_ use fastgrad.r_ and fastgrad.c_"
        frame = frame.f_back
    return ""


def line_of(error: BaseException) -> str:
    """The line of the user's code that raised an error, as the end of a phrase."""
    import traceback  # only errors need it, and it takes a millisecond or two to import

    places = traceback.extract_tb(error.__traceback__)[::-1]
    i = _innermost(place.filename for place in places)
    return "" if i is None else f" ({places[i].filename}, line {places[i].lineno})"


def warn(message: str) -> None:
    """A RuntimeWarning at the user's line that called us."""
    i = _innermost(frame.f_code.co_filename for frame in _frames())
    warnings.warn(message, RuntimeWarning, stacklevel=1 + (i or 0))
