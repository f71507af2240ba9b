"""Traced loops that run long: they can be stopped, let other threads run, and leave nothing half-done."""

import subprocess
import sys
import textwrap

import pytest

START = """
import _thread, signal, sys, threading, time
import numpy as np
import fastgrad as fg

def stopped(f):
    "Whether f, which never ends, is stopped by an interrupt that another thread sends."
    threading.Thread(target=lambda: (time.sleep(0.1), _thread.interrupt_main())).start()
    try:
        f()
    except KeyboardInterrupt:
        return True
    return False
"""

LOOPS = {
    "floats": "f = fg.compile(lambda x: fg.while_loop(lambda c: c >= 0, lambda c: c * 1, x)); on, end = 1.0, -1.0",
    "integers": "f = fg.compile(lambda x: fg.while_loop(lambda c: c >= 0, lambda c: c * 1, x)); on, end = 1, -1",
    "within a scan": "f = fg.compile(lambda x: fg.scan(lambda c, _: "
    "(fg.while_loop(lambda c: c >= 0, lambda c: c * 1, c), None), x, length=3)[0]); on, end = 1.0, -1.0",
    "a long scan": "f = fg.compile(lambda x: fg.scan(lambda c, n: (fg.scan(lambda c, _: "
    "(fg.sin(c), None), c, length=10**12)[0], None), x, np.zeros(2))[0]); on, end = 1.0, None",
}


def run(script):
    """As a process of its own, which can be ended if the loop cannot."""
    done = subprocess.run([sys.executable, "-c", START + script], timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_loop_that_does_not_end_is_stopped_by_an_interrupt(loop):
    run(loop + textwrap.dedent("""
        assert stopped(lambda: f(on))  # while it is traced
        if end is not None:
            assert f(end) == end
            assert stopped(lambda: f(on)) and f(end) == end
    """))  # fmt: skip


COUNTED = {
    "floats": "lambda i, c: c * 0.5 + 1.0",
    "counter": "lambda i, c: c * 0.5 + 0.1 * i",
    "long steps": "lambda i, c: np.sum(np.tanh(c + np.ones((100, 1000)))) * 1e-5",
    "under the lock": "lambda i, c: c + i // 3",
}


@pytest.mark.parametrize("body", COUNTED.values(), ids=COUNTED)
def test_an_interrupt_stops_a_fori_loop_within_a_fifth_of_a_second(body):
    run(
        textwrap.dedent(f"""
        body = {body}
        f = fg.compile(lambda x, n: fg.fori_loop(0, n, body, x), static_argnums=1)
        expected = f(1.0, 7)
        state = fg._core.thread_state()
        took = []
        for _ in range(8):      # the machine may be busy: once in time will do
            def send():
                time.sleep(0.1)
                took.append(time.perf_counter())
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            thread = threading.Thread(target=send)
            try:
                thread.start()
                f(1.0, 10**12)
                sys.exit("it ended")
            except KeyboardInterrupt:
                took[-1] = time.perf_counter() - took[-1]
            thread.join()
            assert fg._core.thread_state() == state
            assert np.array_equal(f(1.0, 7), expected)
            if took[-1] < 0.2:
                break
        assert min(took) < 0.2, took
    """)
    )


def test_a_training_step_that_is_stopped_changes_nothing():
    run(
        textwrap.dedent("""
        def loss(p, x):
            return (p * fg.while_loop(lambda c: c[0] >= 0, lambda c: c * 1, x)).sum()

        def stepping():
            p = np.ones(3)
            return p, fg.training_step(loss, p, fg.optim.Adam(learning_rate=0.1))

        x = np.array([-1.0, 2.0, 3.0])
        (p, step), (q, other) = stepping(), stepping()
        for _ in range(3):
            step(x)
            other(x)
        assert stopped(lambda: step(np.abs(x))) and (p == q).all()
        step(x)
        other(x)
        assert (p == q).all() and (p != 1).all()
    """)
    )
