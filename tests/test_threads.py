"""Threads take turns under the GIL: each has its own switches, and none spoils another's gradients."""

import threading
import time

import numpy as np
import pytest
from _threads import run_with_stack, together

import fastgrad as fg
from fastgrad import _core

pytestmark = pytest.mark.usefixtures("switch_often")


def net(w, x):
    for _ in range(5):
        x = np.tanh(x @ w)
    return np.sum(x**2)


def test_gradients_in_many_threads_are_those_of_one():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((8, 8))
    inputs = rng.standard_normal((4, 16, 8))
    expected = [fg.grad(net)(w, x) for x in inputs]

    def work(x, expected):
        for _ in range(100):
            np.testing.assert_array_equal(fg.grad(net)(w, x), expected)

    together(*(lambda x=x, e=e: work(x, e) for x, e in zip(inputs, expected)))


def test_threads_may_share_a_leaf():
    x = fg.tensor(np.ones(5), requires_grad=True)

    def work():
        for _ in range(300):
            (x * 2).sum().backward()

    together(work, work, work)
    assert x.grad.tolist() == [3 * 300 * 2] * 5


def test_a_tensor_may_end_in_another_thread():
    made = [[fg.exp(fg.tensor(np.ones(100), requires_grad=True)) for _ in range(100)] for _ in range(2)]
    counts = _core.live()["nodes"]
    together(made[0].clear, made[1].clear)
    assert _core.live()["nodes"] == counts - 400


def test_no_grad_is_of_its_thread():
    x = fg.tensor(1.0, requires_grad=True)
    quiet, inside, done = fg.no_grad(), threading.Event(), threading.Event()

    def off():
        with fg.no_grad():
            inside.set()
            assert done.wait(10)
            assert not (x * 2).requires_grad

    def on():
        assert inside.wait(10)
        try:
            assert (x * 2).requires_grad
            with quiet:
                assert not (x * 2).requires_grad
            assert (x * 2).requires_grad
        finally:
            done.set()

    together(off, on)
    with fg.no_grad():
        together(lambda: None if (x * 2).requires_grad else pytest.fail("a new thread records"))


def test_one_no_grad_in_many_threads_and_states():
    """A decorator is one object for all threads; each gets back what it had."""
    x = fg.tensor(1.0, requires_grad=True)
    pause = threading.Barrier(2, timeout=10)

    @fg.no_grad()
    def decorated():
        pause.wait()  # both are inside
        assert not (x * 2).requires_grad
        pause.wait()

    def recording():
        decorated()
        assert (x * 2).requires_grad

    def quiet():
        with fg.no_grad():
            decorated()
            assert not (x * 2).requires_grad
        assert (x * 2).requires_grad

    for _ in range(20):
        together(recording, quiet)
        together(quiet, recording)


def test_being_inside_grad_is_of_its_thread():
    x = fg.tensor(1.0, requires_grad=True)
    inside, done = threading.Event(), threading.Event()

    def f(w):
        inside.set()
        assert done.wait(10)
        with pytest.raises(TypeError):
            float(w)
        return w * w

    def outside():
        assert inside.wait(10)
        try:
            assert float(x * 2) == 2
        finally:
            done.set()

    together(lambda: fg.grad(f)(1.0), outside)


def test_error_texts_do_not_mix():
    def work(n):
        for _ in range(300):
            with pytest.raises(ValueError, match=rf"\({n},\)"):
                fg.zeros(n) + fg.zeros(n + 1)

    together(*(lambda n=n: work(n) for n in (2, 20, 200)))


def test_a_small_stack_is_enough():
    def deep():
        x = fg.tensor(np.ones((2,) * 12), requires_grad=True)
        y = fg.logsumexp(fg.concatenate([x[..., ::-1].transpose() * x] * 50), axis=None)
        y.backward()
        assert x.grad.shape == x.shape

    run_with_stack(128 * 1024, deep)


def test_threads_run_a_function_again_that_draws():
    """Each run has its own place among the draws that the function made first."""
    rng = fg.random.default_rng(3)

    @fg.checkpoint
    def noisy(x):
        for _ in range(3):
            x = fg.tanh(x * rng.random(3))
            time.sleep(0)  # another thread's turn
        return x

    _, f_jvp = fg.linearize(noisy, np.ones(3))
    expected = f_jvp(np.ones(3))

    def work():
        for _ in range(30):
            np.testing.assert_array_equal(f_jvp(np.ones(3)), expected)

    together(work, work, work)


def test_a_conversion_may_run_anything():
    """NumPy asks what is no array for one, in the middle of an operation, a gradient or a trace."""

    class Asked:
        def __array__(self, dtype=None, copy=None):
            together(elsewhere)
            fg.grad(net)(w, x)
            assert compiled(w) == np.sum(w)
            return np.ones((2, 2))

    w, x = np.arange(4.0).reshape(2, 2), np.ones((2, 2))
    compiled, fresh = fg.compile(lambda w: fg.sum(w)), fg.compile(fg.grad(net))

    def elsewhere():
        np.testing.assert_array_equal(fg.grad(net)(w, x), fresh(w, x))

    assert fg.add(w, Asked()).tolist() == (w + 1).tolist()
    assert fg.grad(lambda w: fg.sum(fg.multiply(w, Asked())))(w).tolist() == x.tolist()
    assert fg.compile(lambda w: fg.multiply(w, Asked()))(w).tolist() == w.tolist()
    compiled.cache_clear()
    assert fg.compile(fg.grad(lambda w: fg.sum(fg.multiply(w, Asked()))))(w).tolist() == x.tolist()
