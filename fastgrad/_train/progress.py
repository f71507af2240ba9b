"""How a descent tells how far it is: a bar on the terminal, and lines of the logger "fastgrad".

Both are told ten times a second at most, since their own work costs as much as a small step.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from ..optim import Optimizer
from .result import DescentResult

__all__ = ["Progress"]

_BAR_EVERY = 0.1  # seconds
_LOG_EVERY = 10.0


class Progress:
    """A tqdm progress bar and a log, or nothing.

    tqdm is imported only when a bar is shown. `logging` is not imported: a program that has not done so has no use for
    it. `total` is the number of steps of the whole descent, `rows` that of rows in a step, None where it is not known;
    `taken` is the number of steps that were taken before, where a descent was resumed.
    """

    def __init__(
        self, progress: bool | None, total: int | None, rows: int | None, optimizer: Optimizer, taken: int
    ) -> None:
        self._total, self._rows, self._optimizer, self._taken = total, rows, optimizer, taken
        self._bar = _bar(progress, total, taken)
        self._log: Any = None
        if "logging" in sys.modules:
            logger = sys.modules["logging"].getLogger("fastgrad")
            self._log = logger if logger.isEnabledFor(sys.modules["logging"].INFO) else None
        self.is_shown = self._bar is not None or self._log is not None
        self._began = time.monotonic()
        self._next, self._next_log = 0.0, self._began + _LOG_EVERY

    def update(self, result: DescentResult) -> None:
        """Called after each step if `is_shown`."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _BAR_EVERY
            if self._bar is not None:
                self._show(result, now)
            if self._log is not None and now >= self._next_log:
                self._next_log = now + _LOG_EVERY
                self._log.info("descend: %s", self._line(result, now))

    def close(self, result: DescentResult) -> None:
        now = time.monotonic()
        if self._bar is not None:
            self._show(result, now)
            self._bar.close()
        if self._log is not None:
            self._log.info("descend: %s: %s", result.message or "ended by an error", self._line(result, now))

    def _show(self, result: DescentResult, now: float) -> None:
        self._bar.set_postfix_str(", ".join(self._numbers(result, now)), refresh=False)
        self._bar.update(result.steps - self._bar.n)

    def _line(self, result: DescentResult, now: float) -> str:
        step = f"step {result.steps}" + (f" of {self._total}" if self._total is not None else "")
        speed = self._speed(result, now)
        line = [step, *self._numbers(result, now), f"{speed:.3g} steps/s"]
        if self._total is not None and speed and result.steps < self._total:
            line.append(f"{(self._total - result.steps) / speed:.3g} s left")
        return ", ".join(line)

    def _speed(self, result: DescentResult, now: float) -> float:
        """Steps a second of this call."""
        return (result.steps - self._taken) / max(now - self._began, 1e-9)

    def _numbers(self, result: DescentResult, now: float) -> list[str]:
        numbers = [f"loss {result.loss:.4g}", f"rate {self._optimizer.rate:.3g}"]
        if self._rows is not None:
            numbers.append(f"{self._rows * self._speed(result, now):.3g} rows/s")
        return numbers


def _bar(progress: bool | None, total: int | None, taken: int) -> Any:
    """A bar, which also shows steps a second and the time that is left; None if there is to be none."""
    if not (sys.stderr is not None and sys.stderr.isatty() if progress is None else progress):
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        if progress is None:
            return None
        raise ImportError("descend: progress=True needs tqdm, which is not installed: pip install tqdm") from None
    return tqdm(total=total, initial=taken, unit="step")
