"""``compile``: recordings and replays in several threads."""

import gc
import threading

import numpy as np
import pytest
from _replay import same, square

import fastgrad as fg
from fastgrad import _core


def in_threads(n, work):
    errors = []

    def run(i):
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def test_threads_call_one_function():
    f = fg.compile(fg.value_and_grad(lambda x: fg.sum(fg.tanh(x) * x)), maxsize=3)
    g = fg.value_and_grad(lambda x: fg.sum(fg.tanh(x) * x))

    def work(i):
        for k in range(60):
            x = np.full(1 + k % 5, i + k / 10)
            found, expected = f(x), g(x)
            assert found[0] == expected[0]
            same(found[1], expected[1])

    in_threads(4, work)


def test_threads_record_at_once_and_share_constants():
    w, gate = fg.tensor(np.arange(3.0)), threading.Barrier(3, timeout=20)
    results = {}

    def work(i):
        def f(x):
            y = x
            for k in range(i):
                y = y + k
            gate.wait()  # all are recording, each at another number
            y = y * w
            gate.wait()
            y = y + w
            gate.wait()
            z = fg.sum(w * y)
            gate.wait()
            return y, z, w

        compiled = fg.compile(f)
        compiled(np.ones(3))
        results[i] = compiled(np.full(3, 2.0))

    in_threads(3, work)
    for i, (y, z, returned) in results.items():
        expected = (2 + sum(range(i))) * np.arange(3.0) + np.arange(3.0)
        same(y, expected)
        assert z == np.arange(3.0) @ expected
        same(returned, np.arange(3.0))


def test_a_function_that_spreads_its_work_over_threads_is_refused():
    for work in (lambda x: x * 2, lambda x: x.numpy(), lambda x: fg.sum(x).item()):
        results = []

        def f(x):
            in_threads(1, lambda i: results.append(work(x)))
            return x

        with pytest.raises((RuntimeError, TypeError), match="another thread|the value of a tensor was asked for"):
            fg.compile(f)(np.ones(2))
        assert not results and not _core.tracing()


def test_other_threads_compute_as_ever_while_one_records():
    def f(x):
        y = fg.tensor([1.0, 2.0])

        def work(i):
            assert not _core.tracing()
            view = y.numpy()
            y.__iadd__(1.0)
            assert view.tolist() == [2.0, 3.0] and (y * y).tolist() == [4.0, 9.0]
            assert fg.grad(square)(np.ones(2)).tolist() == [2.0, 2.0]

        in_threads(1, work)
        return x * y

    same(fg.compile(f)(np.ones(2)), np.array([2.0, 3.0]))


def test_a_finalizer_may_call_the_program():
    f = fg.compile(lambda x: tuple(x + k for k in range(40)))
    x = np.zeros(3)
    f(x)

    class Loop:
        def __init__(self):
            self.me = self

        def __del__(self):
            f(x + 100)

    was = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for k in range(50):
            Loop()
            for j, y in enumerate(f(x + k)):
                assert y[0] == k + j
    finally:
        gc.set_threshold(*was)
