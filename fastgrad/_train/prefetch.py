"""Batches that a thread gets ready while steps are taken.

The thread belongs to one epoch. It takes the batches from another source and ends with it, or when it is told to stop.
Nobody waits for it for long: it may be blocked in code of the user's, which nothing can end, and in a forked child it
does not exist.
"""

from __future__ import annotations

import collections
import contextvars
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from .. import _core
from .sources import Batch, Source

__all__ = ["PrefetchedSource", "prefetched"]

_POLL = 0.05  # seconds after which one who waits looks whether there was an interrupt
_PATIENCE = 5.0  # seconds until a thread that was told to stop is left to itself


class PrefetchedSource(Source):
    """The batches of another source, up to `depth` of which a thread has ready."""

    def __init__(self, source: Source, depth: int) -> None:
        self._source, self._depth = source, depth
        self._worker: _Worker | None = None
        self._began: dict[str, Any] | None = None  # the position at which the thread began
        super().__init__()
        self.per_epoch, self.rows, self.is_once = source.per_epoch, source.rows, source.is_once
        self._is_at_end = False

    @property
    def is_over(self) -> bool:  # type: ignore[override]
        return self._source.is_over

    @property
    def is_at_end(self) -> bool:
        return self._is_at_end or super().is_at_end

    @property
    def _most(self) -> float:
        return self._source._most

    def expect(self, steps: int, is_constant: bool) -> None:
        self._source.expect(steps, is_constant)

    def batches(self) -> Iterator[Batch]:
        self._began = self._source.state()
        self._worker = worker = _Worker(self._source, self._depth)
        while (batch := worker.get(self.interrupt)) is not None:
            self.position += 1
            yield batch
        self._is_at_end = worker.is_exhausted

    def end_epoch(self) -> None:
        self._stop()
        super().end_epoch()
        self._source.end_epoch()
        self._is_at_end, self._began = False, None

    def state(self) -> dict[str, Any]:
        began = self._began if self._began is not None else self._source.state()
        return {**began, "position": self.position}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._stop()
        self._source.restore(state)
        super().restore(state)
        self._is_at_end, self._began = False, None

    def close(self) -> None:
        if self._stop():
            self._source.close()

    def _stop(self) -> bool:
        """End the thread; whether it has ended, or there was none."""
        worker, self._worker = self._worker, None
        return worker is None or worker.stop()


def prefetched(source: Source, depth: int, data: Any) -> PrefetchedSource:
    """A source of data, with so many of its batches ready."""
    if data is None:
        raise ValueError("descend: prefetch is given but data is None: there are no batches to fetch")
    return PrefetchedSource(source, depth)


class _Worker:
    """A thread that takes the batches of the epoch from a source."""

    def __init__(self, source: Source, depth: int) -> None:
        self.is_exhausted = False
        self._depth, self._process = depth, os.getpid()
        self._ready: collections.deque[tuple[Batch | None, BaseException | None]] = collections.deque()
        self._changed = threading.Condition()
        self._is_stopped = False
        context = contextvars.copy_context()  # NumPy's errstate among them
        self._thread = threading.Thread(
            target=context.run, args=(self._work, source), name="fastgrad-prefetch", daemon=True
        )
        self._thread.start()

    def get(self, interrupt: _core.FirstInterrupt | None) -> Batch | None:
        """The next batch; None at the end, and at an interrupt while there is none."""
        if os.getpid() != self._process:  # the lock may be held by the thread, which is not here
            raise RuntimeError(
                "descend: this process was forked during a descent with prefetch=, whose thread only its parent has; "
                "begin a descent of its own in the child"
            )
        with self._changed:
            while not self._ready:
                if interrupt is not None and interrupt.seen:
                    return None
                self._changed.wait(_POLL)
            batch, error = self._ready.popleft()
            self._changed.notify()
        if error is not None:
            try:
                raise error
            finally:
                del error  # whose traceback has this frame
        self.is_exhausted = batch is None
        return batch

    def stop(self) -> bool:
        """End the thread; whether it has ended."""
        if os.getpid() != self._process:
            return False
        with self._changed:
            self._is_stopped = True
            self._ready.clear()
            self._changed.notify()
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            warnings.warn(
                f"descend: the iterator of data has not returned for {_PATIENCE:g} seconds; its thread ends when it "
                "does",
                RuntimeWarning,
                stacklevel=2,
            )
        return not self._thread.is_alive()

    def _put(self, batch: Batch | None, error: BaseException | None = None) -> bool:
        """Hand over a batch, or the end; False if nobody wants it."""
        with self._changed:
            while len(self._ready) >= self._depth and not self._is_stopped:
                self._changed.wait()
            if not self._is_stopped:
                self._ready.append((batch, error))
                self._changed.notify()
            return not self._is_stopped

    def _work(self, source: Source) -> None:
        try:
            for batch in source.batches():
                if not self._put(source.loaded(batch)):
                    return
        except BaseException as error:
            self._put(None, error)
        else:
            self._put(None)
