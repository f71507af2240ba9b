"""What tests of threads share: work in several threads at once."""

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest


def together(*functions):
    """Run functions in threads that start at once; the first exception is raised here."""
    barrier, errors = threading.Barrier(len(functions)), []

    def run(f):
        try:
            barrier.wait()
            f()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def in_threads(n, work):
    """work(0), ..., work(n - 1), each in a thread."""
    together(*[functools.partial(work, i) for i in range(n)])


def run_with_stack(size, f):
    """f() in a thread of that stack, whatever it raises."""
    outcome = []

    def run():
        try:
            outcome.append(f())
        except BaseException as error:
            outcome.append(error)

    old = threading.stack_size(size)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def others_run_during(f, x):
    """Fails if this thread waits for most of the time that f(x) takes in another one, in each of five calls."""
    f(x)
    for _ in range(5):
        with ThreadPoolExecutor(1) as pool:
            start = last = time.perf_counter()
            replay, gap = pool.submit(f, x), 0.0
            while not replay.done():
                now = time.perf_counter()
                gap, last = max(gap, now - last), now
        if gap < (time.perf_counter() - start) / 2:
            return
    pytest.fail(f"this thread waited for {gap:.3f} s while the other one worked")
