"""How a descent tells how far it is."""

from __future__ import annotations

import sys
import time
from typing import Any

from .result import DescentResult

__all__ = ["Progress"]


class Progress:
    """A tqdm progress bar, or nothing: tqdm is imported only when a bar is shown.

    tqdm is told of the steps ten times a second, since its own bookkeeping costs as much as a small step.
    """

    def __init__(self, progress: bool | None, total: int | None) -> None:
        self._bar: Any = None
        self.is_shown = False
        self._next = 0.0
        if sys.stderr is not None and sys.stderr.isatty() if progress is None else progress:
            from tqdm import tqdm

            self._bar, self.is_shown = tqdm(total=total, unit="step"), True

    def update(self, result: DescentResult) -> None:
        if self._bar is not None and (now := time.monotonic()) >= self._next:
            self._next = now + 0.1
            self._show(result)

    def close(self, result: DescentResult) -> None:
        if self._bar is not None:
            self._show(result)
            self._bar.close()

    def _show(self, result: DescentResult) -> None:
        self._bar.set_postfix_str(f"loss {result.loss:.4g}", refresh=False)
        self._bar.update(result.steps - self._bar.n)
