"""native="auto": programs are compiled in the background, one at a time, while the interpreter goes on with them.

A program counts its runs down (`Program.count_down`). When they have taken about as long as a compilation does, one
thread of this module compiles it, and the next run is native. That thread waits for the compiler, a process of its own;
Python work is done in it only to write the text. A program that nobody holds any more is not compiled.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import os
import sys
import threading
import time
import warnings
import weakref

from .._core import Program
from . import importing
from .error import CompilerError, NoCompiler, TooLong

__all__ = ["make_native", "try_native", "wait", "watch"]

PAYS_AFTER = 50e6  # nanoseconds of the interpreter's, by estimate, that a compilation has to save
MOST_WAITING = 64  # programs; further ones wait for their turn to count down again
MOST_FAILURES = 3  # of the compiler, one after the other: then it is not tried any more


class _Queue:
    """The programs that wait for the compiler, and the thread that serves them."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.waiting: collections.deque[weakref.ref[Program]] = collections.deque()
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None
        self.broken: str | None = None  # why no program can be compiled, once that is known
        self.failures = 0  # of the compiler, since it last made a program
        self.busy = self.stopped = self.warned = False


_queue = _Queue()


def watch(program: Program) -> None:
    """Compile a program when its runs have taken long enough."""
    runs = max(2, int(PAYS_AFTER / max(program.work, 1.0)))
    program.count_down(runs, _enqueue)


def make_native(program: Program) -> None:
    """Let a program run as native code from now on; CompilerError if it cannot be compiled."""
    with importing.lock:
        from .build import make_native

    make_native(program)


def _enqueue(program: Program) -> None:
    """Called by a run, when a program's count is down."""
    queue = _queue
    if queue.broken is not None:
        program.set_native(None, queue.broken, 0.0, None)
        return
    with queue.changed:
        if queue.stopped:
            return
        if len(queue.waiting) >= MOST_WAITING:
            watch(program)
            return
        queue.waiting.append(weakref.ref(program))
        if queue.thread is None:
            queue.thread = threading.Thread(target=_work, args=(queue,), name="fastgrad-native", daemon=True)
            queue.thread.start()
        queue.changed.notify()


def _work(queue: _Queue) -> None:
    while True:
        with queue.changed:
            queue.busy = False
            while not queue.waiting and not queue.stopped:
                queue.changed.wait()
            if queue.stopped:
                return
            program = queue.waiting.popleft()()
            queue.busy = True
        if program is not None:
            try_native(program, in_background=True)
            del program


def try_native(program: Program, in_background: bool = False) -> None:
    """Let a program run as native code from now on. If that fails the interpreter goes on, after one warning; of a
    missing compiler show_config tells, and in the background nobody is warned of that."""
    queue = _queue
    if queue.broken is not None:
        program.set_native(None, queue.broken, 0.0, None)
        return
    try:
        make_native(program)
        queue.failures = 0
        return
    except NoCompiler as error:
        reason = str(error)
        if in_background:
            queue.broken = reason
            program.set_native(None, reason, 0.0, None)
            return
    except TooLong as error:
        reason = str(error)
    except CompilerError as error:
        reason = str(error)
        queue.failures += not queue.stopped
        if queue.failures >= MOST_FAILURES:
            queue.broken = f"{MOST_FAILURES} compilations have failed, and no more are tried; the last: {reason}"
    except Exception as error:  # a fault of ours
        reason = f"{type(error).__name__}: {error}"
    program.set_native(None, reason, 0.0, None)
    if not queue.stopped:
        _warn(reason)


def _warn(reason: str) -> None:
    """Say once that programs go on in the interpreter."""
    if not _queue.warned:
        _queue.warned = True
        with contextlib.suppress(Warning):  # where warnings are errors, there is nobody to catch one in this thread
            warnings.warn(f"a program could not be compiled and runs in the interpreter: {reason}", stacklevel=1)


def wait(seconds: float) -> bool:
    """Wait until nothing is left to be compiled, for so long at most; whether that is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with _queue.changed:
            if not _queue.waiting and not _queue.busy:
                return True
        time.sleep(0.005)
    return False


def _stop() -> None:
    """At exit: end the compiler under way."""
    with _queue.changed:
        _queue.stopped = True
        _queue.changed.notify()
    with importing.lock:
        _call_of("compiler", "kill_all")
        _call_of("cache", "remove_workplaces")


def _call_of(module: str, function: str) -> None:
    """Call a function of a module of this package, if that is imported."""
    found = sys.modules.get(f"{__package__}.{module}")
    if found is not None:
        getattr(found, function)()


def _after_fork() -> None:
    """In a child there is no thread that compiles; what waits, waits in the parent."""
    _call_of("compiler", "forget_all")
    _call_of("cache", "after_fork")
    importing.lock.release()
    _queue.reset()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=importing.lock.acquire, after_in_parent=importing.lock.release, after_in_child=_after_fork
    )
