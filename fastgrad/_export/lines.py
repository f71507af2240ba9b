"""The user's line that an operation of a program comes from."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

from .. import _core, _user_frames
from .._compile.compiled import Compiled


def of_operation(f: Callable[..., Any], args: tuple[Any, ...], operation: str) -> str:
    """The first line of the user's code that traces the operation, as the end of a phrase; "" if none is found. The
    function is traced once more, and after each of its lines the trace is asked how many there are."""
    found: list[str] = []
    before: dict[types.FrameType, tuple[int, int]] = {}  # of a frame: its line, and the number when that began

    def look(frame: types.FrameType, event: str, _: Any) -> Any:
        if found:
            return None
        n = _core.trace_count(operation)
        line, earlier = before.get(frame, (frame.f_lineno, n))
        if n > earlier:
            found.append(f" ({frame.f_code.co_filename}, line {line})")
            return None
        before[frame] = frame.f_lineno, n
        return look

    def enter(frame: types.FrameType, event: str, _: Any) -> Any:
        return look(frame, event, _) if _user_frames.rank(frame.f_code.co_filename) == 0 else None

    tracing = sys.gettrace()
    sys.settrace(enter)
    try:
        Compiled(f).traced(*args)
    finally:
        sys.settrace(tracing)
    return found[0] if found else ""
