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
    "logsumexp": "special.logsumexp", "softmax": "special.softmax", "log_softmax": "special.log_softmax",
    "polygamma": "special.polygamma", "multigammaln": "special.multigammaln", "expit": "sigmoid",
    "log_expit": "log_sigmoid", "erf": "erf", "erfc": "erfc", "minimize": "minimize", "least_squares": "least_squares",
    "root": "root", "norm": "norm", "approx_fprime": "grad", "check_grad": "check_grads",
}  # fmt: skip


def instead_of_scipy() -> str:
    """The end of an error's text where a function of SciPy's called the user's code, and we have that function, too."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(f"{__package__}._scipy."):
            return ""
        if name.startswith("scipy.") and (ours := _OF_SCIPY.get(frame.f_code.co_name)):
            return f". Instead of SciPy's {frame.f_code.co_name} use fastgrad.{ours}"
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
