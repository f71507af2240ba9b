"""What tests of threads share: work in several threads at once."""

import functools
import threading


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
