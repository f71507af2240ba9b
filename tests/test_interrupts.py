"""What interrupts and lack of memory leave behind: nothing. The workloads are in _storm.py."""

import contextlib
import functools
import gc
import operator
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from _oracles import needs_lack_of_memory
from _storm import CLEAN

import fastgrad as fg
from fastgrad import _core

STORM = Path(__file__).parent / "_storm.py"
slowly = [pytest.param(True, marks=pytest.mark.slow, id="long"), pytest.param(False, id="short")]
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no interval timers")


def run(*arguments):
    """In a process of its own, which an interrupt that comes late cannot spoil."""
    command = [sys.executable, str(STORM), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr


@needs_signals
@pytest.mark.parametrize("long", slowly)
def test_interrupts_leave_nothing_behind(long):
    run("interrupts", 1000 if long else 40, 0)


@needs_signals
def test_ctrl_c_in_a_descent_leaves_nothing_behind():
    run("ctrl_c", 60, 0, "descend")


@needs_signals
def test_a_signal_that_raises_while_a_descent_ends_leaves_python_s_handler_of_ctrl_c():
    run("interrupts", 300, 0, "deferred interrupts", "descend")


@needs_signals
def test_a_handler_that_raises_at_the_very_end_does_not_keep_ctrl_c_deferred():
    """All in C from the signal to the end of the context, so that Python calls the handler nowhere else."""

    def handler(number, frame):
        raise ZeroDivisionError

    before = [signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGALRM)]
    context = _core.DeferredInterrupt()
    try:
        signal.signal(signal.SIGALRM, handler)
        context.__enter__()
        assert isinstance(signal.getsignal(signal.SIGINT), _core.FirstInterrupt)
        steps = [
            functools.partial(signal.setitimer, signal.ITIMER_REAL, 1e-6),
            functools.partial(sum, range(10**6)),
            functools.partial(context.__exit__, None, None, None),
        ]
        with pytest.raises(ZeroDivisionError):
            [*map(operator.call, steps)]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        for number, old in zip((signal.SIGINT, signal.SIGALRM), before, strict=True):
            signal.signal(number, old)


class Limit:
    """What may be a handler of a signal; each raises ``error``."""

    def __init__(self, error):
        self.error = error

    def handle(self, number, frame):
        raise self.error

    def any_arguments(self, *arguments):
        self.handle(*arguments)

    def with_a_name(self, name, number, frame):
        raise self.error

    __call__ = handle


HANDLERS = {
    "function": lambda limit: lambda number, frame: limit.handle(number, frame),
    "method": lambda limit: limit.handle,
    "object": lambda limit: limit,
    "any arguments": lambda limit: limit.any_arguments,
    "partial": lambda limit: functools.partial(limit.with_a_name, "limit"),
}


class Late(Exception):
    pass


def on_call(n, f):
    """f, and in the n-th call of it that is traced, mapped or differentiated a signal comes."""
    calls = [0]

    def called(*args):
        calls[0] += 1
        if calls[0] == n:
            signal.raise_signal(signal.SIGALRM)
        return f(*args)

    return called


def squares(x):
    return fg.sum((x - 1) ** 2)


SLOW_CALLS = {
    "step": lambda: fg.training_step(on_call(1, squares), np.zeros(3), "sgd")(),
    "second step": lambda: [step() for step in [fg.training_step(on_call(2, squares), np.zeros(3), "sgd")] * 2],
    "descend": lambda: fg.descend(on_call(1, squares), np.zeros(3), optimizer="sgd", steps=3, progress=False),
    "compile": lambda: fg.compile(on_call(1, squares))(np.zeros(3)),
    "minimize": lambda: fg.minimize(on_call(1, squares), np.zeros(3)),
    "minimize later": lambda: fg.minimize(on_call(2, squares), np.zeros(3)),
    "least_squares": lambda: fg.least_squares(on_call(2, lambda x: x**2 - 1), np.full(3, 2.0)),
    "sparse pattern": lambda: fg.sparse.jacobian(on_call(2, lambda x: x**2))(np.ones(9)),
    "check_grads": lambda: fg.check_grads(on_call(4, squares), np.zeros(40)),
}


@contextlib.contextmanager
def handled(handler):
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


@needs_signals
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("error", [TimeoutError, Late, NotImplementedError, MemoryError])
@pytest.mark.parametrize("call", SLOW_CALLS)
def test_what_a_signal_s_handler_raises_travels_out(call, error):
    pytest.importorskip("scipy")
    with handled(Limit(error("too late")).handle), pytest.raises(error, match="too late"):
        SLOW_CALLS[call]()


@pytest.mark.filterwarnings("ignore:compile. the function changes")
@needs_signals
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", HANDLERS)
@pytest.mark.parametrize("n", [1, 2])
def test_a_step_that_a_signal_ended_goes_on_compiled(kind, n):
    p = np.zeros(2)
    step = fg.training_step(on_call(n, squares), p, fg.optim.SGD(0.25))
    with handled(HANDLERS[kind](Limit(Late("too late")))):
        for k in range(1, 4):
            if k == n:
                with pytest.raises(Late):
                    step()
            step()
    np.testing.assert_array_equal(p, np.full(2, 1 - 0.5**3))
    assert step.optimizer.steps == 3
    assert step._compiled is not None


@needs_signals
@pytest.mark.filterwarnings("error")
def test_an_error_in_place_of_a_signal_s_travels_out():
    def reported(p):
        try:
            return on_call(1, squares)(p)
        except Late:
            raise RuntimeError("the loss took too long")  # noqa: B904

    with handled(Limit(Late()).handle), pytest.raises(RuntimeError, match="took too long"):
        fg.training_step(reported, np.zeros(2), "sgd")()


@needs_signals
def test_a_loss_that_handles_the_signal_itself_falls_back_to_an_eager_run():
    def loss(p):
        try:
            return on_call(1, squares)(p)
        except Late:
            return squares(p) * (2 if p[0] == 0 else 1)

    p = np.zeros(2)
    step = fg.training_step(loss, p, fg.optim.SGD(0.25))
    with handled(Limit(Late()).handle), pytest.warns(RuntimeWarning, match="the value of a tensor was asked"):
        assert step() == 4


@needs_signals
def test_a_deferred_interrupt_that_is_dropped_restores_the_handler():
    """As when an interrupt comes behind __enter__ and before the block."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        context = _core.DeferredInterrupt()
        handler = context.__enter__()
        assert signal.getsignal(signal.SIGINT) is handler
        del context
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt):
            handler(signal.SIGINT, None)
    finally:
        signal.signal(signal.SIGINT, before)


class Halved(fg.optim.Adam):
    """One whose `step` is overridden."""

    def step(self, params, grads):
        super().step(params, grads / 2)


@needs_signals
@pytest.mark.parametrize("through", ["step", "training_step"])
@pytest.mark.parametrize("optimizer", [fg.optim.Adam, Halved])
def test_a_handler_that_raises_leaves_whole_steps_that_are_counted(optimizer, through):
    """At whatever line of a step the signal comes: the parameters are those of as many steps as are counted."""

    def handler(number, frame):
        raise TimeoutError

    def fresh():
        p, opt, g = np.ones(1), optimizer(0.01), np.ones(1)
        step = (lambda: opt.step(p, g)) if through == "step" else fg.training_step(lambda p: np.sum(p), p, opt)
        step(), step(), step()  # of which a training step traces the first two
        return p, opt, step

    p, opt, step = fresh()
    expected = {opt.steps: p.copy()}
    for _ in range(n_steps := 3000):
        step()
        expected[opt.steps] = p.copy()
    before = signal.signal(signal.SIGALRM, handler)
    interrupted = 0
    try:
        for k in range(150):
            p, opt, step = fresh()
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-4 + k * 7e-6)
                for _ in range(n_steps):
                    step()
            except TimeoutError:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert p == expected[opt.steps], f"{opt.steps} steps are counted: {p}, expected {expected[opt.steps]}"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted >= 75  # of 150; the others came too late, or were taken for an error of the loss


@needs_lack_of_memory
@pytest.mark.parametrize("long", slowly)
def test_lack_of_memory_leaves_nothing_behind(long):
    run("memory", 4 if long else 40, 0)


CONTEXTS = {
    "Grads": lambda: _core.Grads(False),
    "Recording": _core.Recording,
    "Outermost": _core.Outermost,
    "Trace": _core.Trace,
    "Trace of instructions": lambda: _core.Trace("mapped"),
    "Drawing": lambda: _core.Drawing(_core.Draws()),
    "Running": lambda: _core.Running(len),
}


@pytest.mark.parametrize("made", CONTEXTS.values(), ids=CONTEXTS)
def test_a_context_that_is_dropped_restores_what_was(made):
    """As when an interrupt comes behind __enter__ and before the block."""
    with _core.Recording(), _core.Grads(True):
        before = _core.thread_state()
        context = made()
        context.__enter__()
        assert _core.thread_state() != before
        del context
        gc.collect()
        assert _core.thread_state() == before
    assert _core.thread_state() == CLEAN


@pytest.mark.parametrize("made", CONTEXTS.values(), ids=CONTEXTS)
def test_contexts_restore_what_was_when_they_are_left(made):
    with made(), contextlib.suppress(ZeroDivisionError), made(), fg.no_grad(), made():
        assert not _core.grad_enabled() or made is CONTEXTS["Recording"]
        raise ZeroDivisionError
    assert _core.thread_state() == CLEAN


def test_a_context_is_entered_once_at_a_time():
    trace = _core.Trace()
    with trace:
        with pytest.raises(RuntimeError, match="entered already"):
            trace.__enter__()
        assert _core.thread_state()["traces"] == 1
    with trace:
        assert _core.tracing()
    assert _core.thread_state() == CLEAN


def test_no_grad_nests_without_end():
    quiet = fg.no_grad()
    for _ in range(1000):
        quiet.__enter__()
    assert _core.thread_state()["no_grad"] == 1000
    for _ in range(1000):
        assert not _core.grad_enabled()
        quiet.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="has not entered it"):
        quiet.__exit__(None, None, None)
    assert _core.thread_state() == CLEAN
