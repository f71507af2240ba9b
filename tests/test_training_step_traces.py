"""When a training step is traced: again after an error that may pass, once for each shape, and never too often."""

import copy
import subprocess
import sys

import numpy as np
import pytest
from _oracles import needs_lack_of_memory
from _replay import same

import fastgrad as fg
from fastgrad import _core
from fastgrad._compile.compiled import Compiled

# Losses that count how often they are traced change what is outside, which is told by a warning.
pytestmark = pytest.mark.filterwarnings("ignore:compile. the function changes")


# ---- errors that may pass --------------------------------------------------------------------------------------------
def failing(error, *calls):
    """A loss whose traces of these numbers, from 1 on, fail."""
    traced = [0]

    def loss(p, x):
        if isinstance(x, fg.Tensor):
            traced[0] += 1
            if traced[0] in calls:
                raise error("none for once")
        return ((p - x) ** 2).sum()

    return loss


@pytest.mark.parametrize("error", [MemoryError, RecursionError, OSError])
@pytest.mark.parametrize("call", [1, 2])
def test_after_an_error_that_may_pass_a_step_is_traced_again(error, call):
    p, q = np.zeros(2), np.zeros(2)
    step = fg.training_step(failing(error, call), p, fg.optim.Adam(0.1))
    plain = fg.training_step(failing(error), q, fg.optim.Adam(0.1))
    how = []
    for _ in range(5):
        assert step(np.ones(2)) == plain(np.ones(2))
        how.append("compiled" in repr(step))
    assert how == [call != 1, call != 2, True, True, True]
    same(p, q)


LACK_OF_MEMORY = """
import _testcapi
import warnings

import fastgrad as fg
import numpy as np

warnings.simplefilter("ignore")
x, eager = np.ones(2), 0
for at in range(1, 1200, 17):
    p = np.zeros(2)
    step = fg.training_step(lambda p, x: ((p - x) ** 2).sum(), p, fg.optim.SGD(0.25))
    _testcapi.set_nomemory(at, at + 1)
    try:
        step(x)
    except MemoryError:
        eager += 1
    finally:
        _testcapi.remove_mem_hooks()
    eager += "eager" in repr(step)
    for _ in range(4):
        step(x)
    assert "compiled" in repr(step), f"without memory from allocation {at} on"
    assert p[0] == 1 - 0.5**step.optimizer.steps
assert eager > 5
"""


@needs_lack_of_memory
def test_after_a_real_lack_of_memory_a_step_is_traced_again():
    """In a process of its own, as the interpreter itself leaks the arguments of a call for which it finds no memory."""
    found = subprocess.run([sys.executable, "-c", LACK_OF_MEMORY], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_an_error_that_recurs_is_reported_once_and_tracing_is_tried_ever_less_often():
    p = np.zeros(2)
    loss = failing(MemoryError, *range(1000))
    step = fg.training_step(loss, p, fg.optim.SGD(0.25))
    with pytest.warns(RuntimeWarning, match="cannot be traced and runs eagerly.*none for once") as told:
        for _ in range(200):
            step(np.ones(2))
    assert len(told) == 1
    same(p, np.ones(2))


def test_a_solver_traces_again_what_failed_for_want_of_memory():
    pytest.importorskip("scipy")
    traced = [0]

    def f(x):
        if _core.tracing():
            traced[0] += 1
            if traced[0] == 1:
                raise MemoryError("none for once")
        return fg.sum((x - 1) ** 2 + (x - 1) ** 4)

    assert np.allclose(fg.minimize(f, np.zeros(3)).x, 1)
    assert traced[0] == 3  # one that failed, one, and another one to compare it with


# ---- shapes of the batch ---------------------------------------------------------------------------------------------
def counted():
    """A loss of p and x, and a list that has the shape of x for each time it is traced."""
    traced = []

    def loss(p, x):
        if _core.tracing():
            traced.append(x.shape)
        return fg.mean((x * p[0] - p[1]) ** 2)

    return loss, traced


def test_the_number_of_programs_that_are_kept_can_be_set():
    def run(**options):
        p = np.ones(2)
        step = fg.training_step(counted()[0], p, "sgd", **options)
        losses = [step(np.linspace(0.0, 1.0, n)) for n in (2, 3, 4) * 40]
        return losses, step._compiled.cache_info()

    losses, kept = run()
    fewer, bounded = run(maxsize=2)
    assert (kept.maxsize, kept.currsize, bounded.maxsize) == (64, 3, 2) and 1 <= bounded.currsize <= 2
    np.testing.assert_allclose(fewer, losses, rtol=1e-14)


def test_many_shapes_are_traced_once_each():
    loss, traced = counted()
    step, eager = (fg.training_step(loss, np.ones(2), "sgd", compile=c) for c in (True, False))
    batches = [np.linspace(0.0, 1.0, n) for n in range(1, 41)] * 34
    found = [step(x) for x in batches]
    assert set(traced) == {x.shape for x in batches} and len(traced) == 40 + 4
    np.testing.assert_allclose(found, [eager(x) for x in batches], rtol=1e-9)
    assert step._compiled.cache_info()[1:] == (40, 64, 40)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_shapes_that_come_once_or_twice_are_not_traced(optimizer):
    loss, traced = counted()
    step, eager = (fg.training_step(loss, np.ones(2), optimizer, compile=c) for c in (True, False))
    batches = [np.linspace(0.0, 1.0, n) for n in range(1, 400)]
    found = [step(x) for x in batches]
    assert traced == [(1,), (2,)]
    found += [step(x) for x in batches]
    hits, misses, _, kept = step._compiled.cache_info()
    assert hits == 2 == misses == kept
    np.testing.assert_allclose(found, [eager(x) for x in batches * 2], rtol=1e-9)
    np.testing.assert_allclose(step.params, eager.params, rtol=1e-9)
    assert step.optimizer.steps == len(found)


def test_traces_are_a_bounded_part_of_all_steps():
    loss, traced = counted()
    step, eager = (fg.training_step(loss, np.ones(2), fg.optim.SGD(1e-3), compile=c, maxsize=m)
                   for c, m in ((True, 16), (False, 1)))  # fmt: skip
    batches = [np.linspace(0.0, 1.0, n) for n in np.random.default_rng(0).integers(1, 60, 3000)]
    found = [step(x) for x in batches]
    hits, misses, maxsize, kept = step._compiled.cache_info()
    assert maxsize == kept == 16 and len(traced) == misses + 4
    assert hits > 100 and misses <= 16 + (len(found) - hits) // 32
    np.testing.assert_allclose(found, [eager(x) for x in batches], rtol=1e-9)
    np.testing.assert_allclose(step.params, eager.params, rtol=1e-9)


def test_a_shape_that_stays_is_traced_however_many_came_before():
    loss, traced = counted()
    step = fg.training_step(loss, np.ones(2), fg.optim.SGD(1e-3), maxsize=2)
    for n in list(range(1, 100)) * 2:
        step(np.ones(n))
    hits = step._compiled.cache_info().hits
    for _ in range(50):
        step(np.ones(150))
    assert traced.count((150,)) == 2  # the second time to compare with the first
    assert step._compiled.cache_info().hits == hits + 50 - 33


def test_a_batch_in_a_container_of_its_own_is_bounded_as_any():
    class Batch:
        def __init__(self, x):
            self.x = x

    fg.tree.register(Batch, lambda b: ((b.x,), None), lambda _, children: Batch(*children))
    step = fg.training_step(lambda p, b: fg.mean((b.x - p) ** 2), np.ones(1), "sgd")
    for n in range(1, 100):
        step(Batch(np.ones(n)))
    assert step._compiled.cache_info().misses == 2


def test_how_many_programs_a_step_keeps():
    loss, _ = counted()
    step = fg.training_step(loss, np.ones(2), "sgd", maxsize=3)
    for n in [1, 2] + [3] * 34 + [4] * 36:
        step(np.ones(n))
    assert step._compiled.cache_info() == (4, 4, 3, 3)
    assert copy.deepcopy(step)._compiled.cache_info() == (0, 0, 3, 0)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"^training_step: maxsize is {wrong}, expected an integer above 0$"):
            fg.training_step(loss, np.ones(2), "sgd", maxsize=wrong)


def test_two_shapes_in_turn_find_their_programs_without_a_trace(monkeypatch):
    """As the batches of an epoch and its smaller last one: only a new shape leaves the core's call."""
    step = fg.training_step(lambda w, x: fg.sum((w * x) ** 2), np.ones(2), fg.optim.SGD(1e-3))
    large, small = np.ones((4, 2)), np.full((1, 2), 2.0)
    for _ in range(3):
        step(large), step(small)
    left, train = [], Compiled.train
    monkeypatch.setattr(Compiled, "train", lambda self, args, *more: left.append(args) or train(self, args, *more))
    w, values = step.params.copy(), []
    for x in (large, small, large, small):
        values.append(step(x))
        np.testing.assert_allclose(values[-1], np.sum((w * x) ** 2), rtol=1e-14)
        w = w - 1e-3 * 2 * w * np.sum(x**2, axis=0)
    np.testing.assert_allclose(step.params, w, rtol=1e-14)
    assert not left
    step(np.ones((3, 2)))
    assert len(left) == 1
