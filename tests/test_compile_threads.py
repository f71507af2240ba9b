"""``compile``: traces and replays in several threads."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from _oracles import ADDRESS_SANITIZER
from _replay import same, square
from _threads import in_threads

import fastgrad as fg
from fastgrad import _core

pytestmark = pytest.mark.usefixtures("switch_often")


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


def test_threads_trace_at_once_and_share_constants():
    w, gate = fg.tensor(np.arange(3.0)), threading.Barrier(3, timeout=20)
    results = {}

    def work(i):
        def f(x):
            y = x
            for k in range(i):
                y = y + k
            gate.wait()  # all are tracing, each at another number
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


def test_other_threads_compute_as_usual_while_one_traces():
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


def repeated(seconds, *works):
    """Call each of these over and over in a thread of its own; the first exception ends all and is raised."""
    end, failed = time.monotonic() + seconds, threading.Event()

    def work(i):
        try:
            while time.monotonic() < end and not failed.is_set():
                works[i]()
        except BaseException:
            failed.set()
            raise

    in_threads(len(works), work)


def layouts(a):
    """The same numbers as the core takes them, and as they are copied on the way in, where NumPy lets go of the GIL."""
    padded = np.zeros((a.shape[0], 2 * a.shape[1]))
    padded[:, ::2] = a
    return [a, np.asfortranarray(a), a.astype(">f8"), padded[:, ::2], a.astype(np.float32), a.astype(int)]


def test_threads_whose_calls_differ_in_number_layout_dtype_and_keywords():
    f = fg.compile(lambda *xs, k: sum([a.sum() for a in xs]) + 1000 * k.sum())
    x, k, many = np.ones((300, 300)), np.arange(5.0), [np.ones(12 + i) for i in range(40)]
    works = []

    def add(*args, k=k):
        def work():
            found = f(*args, k=k)
            assert found == expected, (found, expected)

        expected = sum(float(a.sum()) for a in args) + 1000 * float(np.sum(k))
        work()
        works.append(work)

    for a in layouts(x):
        add(a)
    add(np.asfortranarray(x), *many)
    add(np.asfortranarray(x), k=k[::-1].astype(np.float32))
    repeated(1, *works)


def test_threads_whose_calls_differ_in_structure():
    """A wrong program's numbers of inputs would take another array for an argument, or none."""
    f = fg.compile(lambda tree, scale: fg.sum(fg.stack([fg.sum(x) for x in fg.tree.leaves(tree)])) * scale, maxsize=3)
    x = np.asfortranarray(np.arange(90_000.0).reshape(300, 300))
    ones = [np.full(i + 1, 1.0) for i in range(30)]
    works = []
    structures = {"a": x, "b": ones}, [x, *ones], (x, {"b": ones[:3]}), {"b": ones, "c": [x, x]}, (x, 2.5), [x, 3]
    for structure in structures:
        for scale in (2.0, np.float32(2), 2):
            expected = sum(float(np.sum(leaf)) for leaf in fg.tree.leaves(structure)) * 2

            def work(structure=structure, scale=scale, expected=expected):
                found = f(structure, scale=scale)
                assert found == expected, (found, expected)

            works.append(work)
    for work in works:
        work()
    repeated(1, *works)


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_an_argument_that_changes_while_the_function_is_traced(kind, change):
    """The program serves calls like the one that was traced, and no others."""
    make = lambda n: (lambda items: items if kind is list else dict(enumerate(items)))([np.full(4, 1.0)] * n)
    given = make(3)

    def f(x):
        if len(given) == 3 and change == "longer":
            given.append(np.ones(4)) if kind is list else given.update({3: np.ones(4)})
        elif len(given) == 3:
            given.pop(2)
        return sum(np.sum(a * a) for a in (x if kind is list else x.values()))

    for g in (fg.compile(f), fg.compile(fg.value_and_grad(f))):
        given = make(3)
        g(given)
        for n in (2, 3, 4):
            found = g(make(n))
            value, gradient = found if isinstance(found, tuple) else (found, make(n))
            assert (value, len(gradient)) == (4.0 * n, n), f"{n} arrays"


def test_the_buffers_of_a_call_whose_match_raises_are_given_back():
    class Key:
        def __hash__(self):
            return hash("a")

        def __eq__(self, other):
            raise ZeroDivisionError

    def calls(f, *rest):
        for _ in range(3):
            f({"a": x}, *rest)
        before = _core.live()["bytes"]
        for _ in range(10):
            with pytest.raises(ZeroDivisionError):
                f({Key(): x}, *rest)
        assert _core.live()["bytes"] == before

    x, p = np.ones(1000), np.ones(1000)
    calls(fg.compile(lambda d: fg.tanh(fg.tanh(d["a"]) @ np.ones((1000, 50))) @ np.ones(50)))
    step = fg.training_step(lambda p, d: fg.tanh(fg.tanh(p * d["a"]) @ np.ones((1000, 50))).sum(), p, fg.optim.SGD(0.0))
    for _ in range(3):
        step({"a": x})
    compiled = step._compiled
    rule = step.optimizer._update_rule([p], 0.0)
    before = _core.live()["bytes"]
    for _ in range(10):
        assert compiled.try_train(([p], {Key(): x}), rule, True) is None  # keys of other types do not match
    assert _core.live()["bytes"] == before


def test_threads_whose_calls_differ_in_static_arguments():
    class Power:
        def __init__(self, n):
            self.n = n

        def __hash__(self):
            return 0

        def __eq__(self, other):
            return type(other) is Power and self.n == other.n

    f = fg.compile(lambda x, p: fg.sum(x) * p.n, static_argnums=1, maxsize=3)
    x = np.asfortranarray(np.ones((100, 100)))

    def work(n):
        def calls():
            assert f(x, Power(n)) == 10_000 * n

        return calls

    repeated(1, *[work(n) for n in range(5)])
    assert f.cache_info().currsize == 3


@pytest.mark.parametrize("n", [3, 40])
def test_threads_take_training_steps_of_one_object(n):
    """The losses are those of the batches that were given, also where a batch is copied on the way in."""
    params = [np.ones((8, 8)) for _ in range(n)]
    step = fg.training_step(lambda p, x, *more: sum([(w * fg.mean(x)).sum() for w in p]) + len(more), params,
                            fg.optim.SGD(0.0))  # fmt: skip
    assert step._compiled is not None
    step._compiled._kept, step._compiled._maxsize = n, 2  # few programs are kept, so that others are dropped
    x = np.full((300, 300), 2.0)
    works = []
    for more in ((), (np.ones(3),), tuple(np.ones(9) for _ in range(30))):
        for a in layouts(x)[:5]:

            def work(batch=(a, *more), expected=2.0 * 64 * n + len(more)):
                found = step(*batch)
                assert found == expected, (found, expected)

            for _ in range(3):
                work()
            works.append(work)
    repeated(1, *works)
    for w in params:
        same(w, np.ones((8, 8)))


def test_threads_descend_on_data_in_other_layouts():
    x = np.arange(600.0).reshape(300, 2)

    def run(data, batch_size):
        return fg.descend(lambda p, a: ((p - a) ** 2).mean(), np.zeros(2), data, optimizer=fg.optim.SGD(1e-3), steps=12,
                          batch_size=batch_size, seed=1).history.tolist()  # fmt: skip

    kinds = [(a, size) for a in layouts(x)[:4] for size in (None, 32, 7)]
    expected = [run(*kind) for kind in kinds]

    def work(i):
        for _ in range(4):
            assert run(*kinds[i]) == expected[i]

    in_threads(len(kinds), work)


@pytest.mark.parametrize("size", [3, 60_000])  # a long replay lets go of the GIL
def test_threads_draw_from_one_generator(size):
    rng, reference = fg.random.default_rng(7), fg.random.default_rng(7)
    draw = fg.compile(lambda scale: rng.random(size) * scale)
    found = [[] for _ in range(4)]

    def work(i):
        for _ in range(20):
            found[i].append(draw(1.0))

    draw(1.0)
    reference.random(size)
    in_threads(4, work)
    drawn = sorted([y.tolist() for part in found for y in part])
    assert drawn == sorted([reference.random(size).tolist() for _ in range(80)])


def test_blocks_of_the_pool_are_of_one_thread():
    """Long replays without the GIL write to memory while other threads take and give back blocks of the same sizes."""
    f = fg.compile(lambda x: fg.tanh(fg.tanh(x) * 2) * 2)
    x = np.linspace(-1, 1, 100_000)
    expected, total = f(x), fg.sum(fg.tanh(fg.tanh(x) * 2) * 2).item()

    def replay():
        same(f(x), expected)

    def eager():
        y = fg.tensor(x, requires_grad=True)
        loss = fg.sum(fg.tanh(fg.tanh(y) * 2) * 2)
        loss.backward()
        assert loss.item() == total

    repeated(1, replay, replay, eager, eager)


def test_operands_of_a_loop_that_another_thread_changes_in_place_are_kept():
    """A loop lets other threads run: one may give a tensor other memory and free the old."""
    size = 200_000
    x = fg.tensor(np.ones(size))

    def change():
        shared = x.detach()  # while it shares the memory, x += 0 takes other memory
        x.__iadd__(0.0)
        del shared
        x.detach() * 7.0  # what was freed is written to

    def loop():
        n, last = fg.while_loop(lambda c: c[0] < 300.0, lambda c: (c[0] + 1.0, c[1] * 1.0), (0.0, x))
        assert n.item() == 300
        same(last, np.ones(size))

    repeated(2, loop, change)


# ---- no lock is held while anybody's code runs ----------------------------------------------------------------------
def run(script):
    """As a process of its own, which can be ended if it hangs."""
    start = "import os, signal, sys, threading, time\nimport numpy as np\nimport fastgrad as fg\n"
    done = subprocess.run([sys.executable, "-c", start + textwrap.dedent(script)], timeout=60, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_comparing_a_static_argument_may_call_the_function():
    run("""
        class Key:
            def __init__(self, n):
                self.n = n

            def __hash__(self):
                return 7

            def __eq__(self, other):
                calls.append(f(np.ones(2), 1000 + len(calls)))
                return self.n == other.n

        calls = []
        f = fg.compile(lambda x, key: x.sum() * (key.n if type(key) is Key else 1.0), static_argnums=1, maxsize=3)
        for _ in range(3):
            for n in range(4):
                assert f(np.ones(2), Key(n)) == 2 * n
        assert calls and all(y == 2 for y in calls)
        assert f.cache_info().currsize == 3
    """)


def test_a_finalizer_that_runs_when_a_program_is_dropped_may_call_the_function():
    run("""
        class Result:
            def __init__(self, n):
                self.n = n

            def __hash__(self):
                return hash(self.n)

            def __eq__(self, other):
                return type(other) is Result and other.n == self.n

            def __del__(self):
                ended.append(f(np.ones(3), 0))

        ended = []
        f = fg.compile(lambda x, key: x.sum() + 0.0, static_argnums=1, maxsize=2)
        for n in range(20):
            assert f(np.ones(3), Result(n)) == 3
        assert len(ended) > 10 and set(ended) == {3.0}
        f.cache_clear()
        assert f(np.ones(3), 0) == 3
    """)


@pytest.mark.skipif(sys.platform == "win32", reason="no interval timers")
def test_a_signal_handler_may_call_the_function():
    run("""
        def handle(number, frame):
            key = len(seen) % 7
            seen.append(f(np.ones(2), key) == 2 * key)

        seen = []
        f = fg.compile(lambda x, key: x.sum() * key, static_argnums=1, maxsize=4)
        signal.signal(signal.SIGALRM, handle)
        end = time.monotonic() + 1
        n = 0
        while time.monotonic() < end:
            n += 1
            signal.setitimer(signal.ITIMER_REAL, n % 50 * 1e-5 + 1e-6)
            assert f(np.ones(2), n % 6) == 2 * (n % 6)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(seen) > 20 and all(seen)
    """)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.skipif(
    ADDRESS_SANITIZER,
    reason="a fork while another thread is in the sanitizer's allocator leaves the child waiting for its lock",
)
def test_a_child_forked_during_calls_can_go_on():
    run("""
        import warnings
        warnings.simplefilter("ignore")  # later Pythons warn of forks in processes with threads
        sys.setswitchinterval(1e-6)
        f = fg.compile(lambda x, key: x.sum() * key, static_argnums=1, maxsize=4)
        done = False

        def call():
            n = 0
            while not done:
                n += 1
                f(np.ones(2), n % 6)

        def fork():
            "From this thread, which is the child's main one."
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)  # ends a child that hangs
                for n in range(12):
                    if f(np.ones(2), n % 6) != 2 * (n % 6):
                        os._exit(1)
                os._exit(0)
            if os.waitpid(pid, 0)[1] != 0:
                failed.append(pid)

        failed = []
        threads = [threading.Thread(target=call) for _ in range(2)]
        for t in threads:
            t.start()
        for k in range(150):
            if failed:
                break
            if k % 2:
                fork()
            else:
                t = threading.Thread(target=fork)
                t.start()
                t.join()
        done = True
        for t in threads:
            t.join()
        assert not failed
    """)


def test_a_static_argument_whose_comparison_calls_the_function():
    """Entries are added to the dict in which the key of this call is looked up."""

    class Same:
        calls = 0

        def __hash__(self):
            return 7

        def __eq__(self, other):
            Same.calls += 1
            if Same.calls < 200:
                assert f(np.ones(2), Same.calls).tolist() == [Same.calls] * 2
            return self is other

    f = fg.compile(lambda x, s: x * (s if isinstance(s, int) else 3), static_argnums=1, maxsize=400)
    kinds = [Same() for _ in range(20)]
    for _ in range(2):
        for s in kinds:
            assert f(np.ones(2), s).tolist() == [3, 3]
    assert f.cache_info().currsize == 20 + 199
