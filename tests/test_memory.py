"""Memory: loops that do not grow, views that outlive their tensors, errors that leave nothing behind, fork, exit."""

import gc
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from _oracles import needs_lack_of_memory, sgd_numbers

import fastgrad as fg
from fastgrad import _core

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


def held():
    gc.collect()
    counts = _core.live()
    return counts["nodes"], counts["arrays"], counts["bytes"]


def python(code, *flags, timeout=60):
    """Run a program; its standard output."""
    run = subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout
    )
    assert run.returncode == 0, f"exit code {run.returncode}\n{run.stdout}{run.stderr}"
    assert not run.stderr, run.stderr
    return run.stdout.strip()


@linux
def test_a_million_evaluations_without_backward_do_not_grow():
    w = fg.tensor(np.ones(3), requires_grad=True)
    x = fg.tensor(np.arange(3.0))
    last = [None] * 10

    def evaluate(n):
        for i in range(n):
            last[i % 10] = (w * x).sum()

    evaluate(50_000)
    before, size = held(), resident()
    evaluate(1_000_000)
    assert held() == before
    assert resident() - size < 2**20
    last[3].backward()
    assert w.grad.tolist() == [0, 1, 2]


ROUNDS = {
    "backward": lambda w, x: fg.tanh(x @ w).sum().backward(),
    "backward twice": lambda w, x: ((y := fg.exp(x @ w).sum()).backward(retain_graph=True), y.backward()),
    "no backward": lambda w, x: fg.softmax(x @ w).sum(),
    "grad": lambda w, x: fg.grad(lambda w: fg.tanh(x @ w).sum())(w.numpy()),
    "grad of grad": lambda w, x: fg.grad(lambda w: fg.grad(lambda w: fg.tanh(x @ w).sum())(w).sum())(w.numpy()),
    "create_graph": lambda w, x: (
        w.zero_grad(),
        fg.tanh(x @ w).sum().backward(create_graph=True),
        (w.grad**2).sum().backward(),
    ),
    "in place": lambda w, x: (y := x @ w, y.__iadd__(w), y.__imul__(2.0), y.sum().backward()),
    "views": lambda w, x: [np.asarray(v) for v in (x, w.numpy(), memoryview(x), np.from_dlpack(x), x.T[1:])],
    "asarray of views": lambda w, x: fg.asarray(fg.asarray(x.numpy()).numpy()) * w,
    "integers": lambda w, x: fg.tensor([1, 2, 3]).__iadd__(1) + fg.argmax(x),
    "repr": lambda w, x: repr(w * x),
}
FAILURES = {
    "shapes": lambda w, x: w + np.ones(7),
    "matmul": lambda w, x: x @ np.ones((7, 7)),
    "grad of grad": lambda w, x: fg.grad(lambda w: fg.grad(lambda w: fg.tanh(x @ w).sum())(w).sum())(w.numpy()),
    "create_graph": lambda w, x: (
        w.zero_grad(),
        fg.tanh(x @ w).sum().backward(create_graph=True),
        (w.grad**2).sum().backward(),
    ),
    "in place": lambda w, x: (x * w).__iadd__(np.ones(7)),
    "a leaf in place": lambda w, x: w.__iadd__(1),
    "index": lambda w, x: fg.take(w * 1, [9]),
    "concatenate": lambda w, x: fg.concatenate([w * 2, x, np.ones((2, 2))]),
    "no memory": lambda w, x: fg.broadcast_to(w[0] * 2, (2**50,)),
    "backward of many": lambda w, x: (w * 2).backward(),
    "cotangent": lambda w, x: (w * 2).backward([1.0]),
    "used up": lambda w, x: ((y := (w * w).sum()).backward(), y.backward()),
    "changed": lambda w, x: ((y := fg.exp(w)), (z := y * y), y.detach().numpy(), y.__iadd__(1), z.sum().backward()),
    "ragged": lambda w, x: fg.tensor([[1.0], [1.0, 2.0]]),
    "raises in grad": lambda w, x: fg.grad(lambda w: (w * w, 1 / 0))(np.ones(100)),
    "label": lambda w, x: fg.losses.softmax_cross_entropy(x * w, [0, 1, 7]),
    "fails in the inner": lambda w, x: fg.grad(lambda a: fg.grad(lambda b: a * b)(np.ones(3)).sum())(np.ones(3)),
    "dtype": lambda w, x: (w * 2).astype(complex),
    "kernel": lambda w, x: _core.UpdateRule("sgd", (), sgd_numbers(0.1)).update([np.ones(3)], [np.ones(4)]),
}


@pytest.mark.parametrize("name", [*ROUNDS, *FAILURES])
def test_a_loop_holds_no_more_after_a_hundred_rounds(name):
    w = fg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = fg.tensor(np.eye(3))

    def rounds(n):
        for _ in range(n):
            if name in ROUNDS:
                ROUNDS[name](w, x)
            else:
                with pytest.raises((ValueError, TypeError, IndexError, RuntimeError, MemoryError, ZeroDivisionError)):
                    FAILURES[name](w, x)

    rounds(3)
    before = held()
    rounds(100)
    assert held() == before


def test_blocks_are_counted_and_kept_for_reuse():
    before = _core.live()
    x = fg.ones(10_000).copy()
    during = _core.live()
    assert during["arrays"] - before["arrays"] == 1
    assert 80_000 <= during["bytes"] - before["bytes"] <= 110_000
    del x
    after = _core.live()
    assert after["bytes"] == before["bytes"] and after["cached_bytes"] >= 80_000
    huge = fg.zeros(8_000_000).copy()
    del huge
    assert _core.live()["cached_bytes"] <= 128 * 2**20


def test_large_results_take_the_memory_of_those_that_were_dropped():
    """Also those above 32 MB, which a C library returns to the system at once."""
    f = fg.compile(lambda x: np.tanh(x) + x)
    for n in (200_000, 5_000_000):
        x = np.linspace(-1, 1, n)
        y = f(x)
        expected, addresses = y.copy(), set()
        _core.empty_pool()
        for _ in range(8):
            y = f(x)  # the old y is dropped when the new one is there
            addresses.add(y.ctypes.data)
            eager = fg.tensor(x) * 2.0
            del eager
        assert len(addresses) <= 3
        np.testing.assert_array_equal(y, expected)


def test_memory_that_is_referenced_is_not_handed_out_again():
    f = fg.compile(lambda x: x * 2.0)
    x = np.ones(300_000)
    parts = [f(x * k)[5:8] for k in range(20)]  # a view keeps the whole
    assert [part.tolist() for part in parts] == [[2.0 * k] * 3 for k in range(20)]


def test_the_pool_has_a_limit_which_the_oldest_blocks_leave_first():
    out = python("""
        import os
        os.environ["FASTGRAD_POOL_LIMIT"] = str(20 * 2**20)
        import fastgrad as fg
        from fastgrad import _core
        most = 0
        for n in [100, 5000, 200_000, 500_000, 900_000, 1_000_000, 3_000_000] * 3:
            x = [fg.zeros(n) + 1 for _ in range(5)]
            del x
            most = max(most, _core.live()["cached_bytes"])
        print(most <= 20 * 2**20, fg.show_config(mode="dicts")["pool"]["limit"])
        kept = fg.zeros(1_500_000) + 1
        at = kept.numpy().ctypes.data
        others = [fg.zeros(200_000 + 200_000 * k) + 1 for k in range(3)]
        del others, kept            # 12 MB, the last: it stays
        print((fg.zeros(1_500_000) + 1).numpy().ctypes.data == at)
    """)
    assert out == "True 20971520\nTrue"


def test_a_limit_of_0_keeps_nothing():
    out = python("""
        import os
        os.environ["FASTGRAD_POOL_LIMIT"] = "0"
        import numpy as np, fastgrad as fg
        f = fg.compile(fg.grad(lambda x: (np.tanh(x) * x).sum()))
        print([round(float(f(np.ones(n))[0]), 4) for n in (3, 3000, 300_000)], fg._core.live()["cached_bytes"])
    """)
    assert out == "[1.1816, 1.1816, 1.1816] 0"


@pytest.mark.slow
def test_what_is_not_used_again_goes_back_to_the_system():
    """At the next use of the pool for something large."""
    x = fg.zeros(10_000_000) + 1
    del x
    assert _core.live()["cached_bytes"] >= 80_000_000
    time.sleep(5.1)
    y = fg.zeros(300_000) + 1
    assert _core.live()["cached_bytes"] < 80_000_000 and y.shape == (300_000,)


def test_views_keep_their_memory():
    makers = {
        "numpy": lambda t: t.numpy(),
        "numpy slice": lambda t: t.numpy()[2:-2][::-1],
        "memoryview": lambda t: np.asarray(memoryview(t)),
        "dlpack": lambda t: np.from_dlpack(t),
        "asarray": lambda t: fg.asarray(t.numpy()).numpy(),
        "gradient": lambda t: fg.grad(lambda x: (x * t).sum())(np.ones(t.shape)),
    }
    for name, make in makers.items():
        view = make(fg.arange(0.0, 500.0) * 1)
        expected = view.copy()
        others = [fg.full(500, -1.0) * 2 for _ in range(20)]
        np.testing.assert_array_equal(view, expected, err_msg=name)
        assert len(others) == 20


def test_a_chain_of_tensors_and_views_on_one_memory_stays_short():
    """Each holds the owner of the memory, not the one before it: nothing is freed by recursion."""
    for start in (fg.tensor(np.ones(100)), fg.asarray(np.ones(100))):
        x, before = start, held()
        for _ in range(100_000):
            x = fg.asarray(x.numpy())
        assert held()[1] - before[1] <= 2
        assert np.shares_memory(x.numpy(), start.numpy())
        del x


def test_results_are_writable_and_in_memory_of_their_own():
    for n in (3, 1000):
        x = np.arange(float(n))
        cases = {
            "sum": fg.grad(lambda x: x.sum()),
            "linear": fg.grad(lambda x: (x * x).sum()),
            "unused": fg.grad(lambda x: fg.tensor(1.0)),
            "two": lambda x: fg.grad(lambda a, b: (a + b).sum(), (0, 1))(x, x)[1],
            "reshaped": fg.grad(lambda x: x.reshape(1, -1)[0].sum()),
            "the whole": lambda x: fg.grad(lambda x: x.reshape(()))(x[:1].copy()),
            "aux": lambda x: fg.grad(lambda x: (x.sum(), x), has_aux=True)(x)[1],
        }
        results = {name: f(x) for name, f in cases.items()}
        for name, result in results.items():
            assert type(result) is np.ndarray and result.flags.writeable and not np.shares_memory(result, x), name
            kept = {other: r.copy() for other, r in results.items() if other != name}
            result += 1000
            assert all((results[other] == r).all() for other, r in kept.items()), name
        assert x.tolist() == list(range(n))


def test_inputs_may_be_read_only():
    x = np.arange(1000.0)
    x.flags.writeable = False
    np.testing.assert_array_equal(fg.grad(lambda x: (x * x).sum())(x), 2 * x)


@linux
@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_training_does_not_grow(size):
    w = {"w": np.ones(size)}
    step = fg.training_step(lambda p, x: fg.square(p["w"] * x).mean(), w, fg.optim.Adam(1e-3))
    x = np.linspace(0, 1, size)
    for _ in range(100):
        step(x)
    before, memory = held(), resident()
    for _ in range(2000):
        step(x)
    assert held() == before and resident() - memory < 2**20


def test_exit_with_live_tensors_and_cycles():
    out = python("""
        import atexit, numpy as np, fastgrad as fg
        x = fg.tensor(np.ones(1000), requires_grad=True)
        y = (x * fg.asarray(np.ones(1000))).sum()
        class Cycle: pass
        c = Cycle(); c.c = c; c.y = fg.exp(x); c.view = c.y.numpy(); c.array = fg.asarray(c.view)
        fg._core.kept = [x, y, c]
        atexit.register(lambda: print((x * 2).sum().item()))
        g = fg.grad(lambda a: (a * x.detach()).sum())
        print(g(np.ones(1000)).sum())
    """)
    assert out == "1000.0\n2000.0"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_fork():
    out = python("""
        import os, numpy as np, fastgrad as fg
        x = fg.tensor(np.ones((300, 300)), requires_grad=True)
        y = (x @ x).sum()
        for _ in range(3):
            child = os.fork()
            if child == 0:
                y.backward()
                assert x.grad.numpy()[0, 0] == 600
                assert fg.grad(lambda a: (a @ a).sum())(np.ones((300, 300)))[0, 0] == 600
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        y.backward()
        print(x.grad.numpy().min())
    """)
    assert out == "600.0"


@linux
def test_memory_that_runs_out_is_an_error_and_leaves_all_as_it_was():
    out = python("""
        import resource, numpy as np, fastgrad as fg
        x = fg.tensor(np.ones(2_000_000), requires_grad=True)
        y = x
        for _ in range(6):
            y = fg.exp(-y)
        loss = (y * (y + 1)).sum()
        warm = (x[:10] * 1).sum(); warm.backward(); x.zero_grad()
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + 20 * 2**20, hard))
        failed = 0
        for f in (lambda: loss.backward(), lambda: fg.exp(x) + fg.exp(x) * fg.exp(x), lambda: x.copy().tolist()):
            try:
                f()
            except MemoryError as error:
                failed += 1
        print(failed, x.grad)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        fg.exp(-x).sum().backward()
        print(round(x.grad.numpy()[0], 4))
    """)
    assert out == "3 None\n-0.3679"


def test_a_trace_leaves_nothing_in_the_pool():
    def loss(p, x, labels):
        return fg.losses.softmax_cross_entropy(np.tanh(x @ p["w"]) @ p["v"], labels)

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(300, 400)) / 20, "v": rng.normal(size=(400, 500)) / 20}
    batch = rng.normal(size=(200, 300)), rng.integers(0, 500, 200)
    step = fg.training_step(loss, params, fg.optim.Adam())
    before = _core.live()["bytes"]
    for _ in range(3):
        step(*batch)
    program = step.program(*batch)
    assert _core.live()["cached_bytes"] < 2**16
    assert 0 <= _core.live()["bytes"] - before - program.facts["peak_bytes"] < 2**16


@linux
@pytest.mark.parametrize("transform", ["jvp", "hvp"])
def test_forward_mode_holds_the_tangents_that_are_still_to_be_read(transform):
    """200 linear steps save nothing for a derivative, so that their number does not matter for memory."""
    code = f"""
        import resource
        import numpy as np, fastgrad as fg

        def f(y):
            for _ in range(200):
                y = y + 0.1 * (np.roll(y, 1) - y)
            return np.sum(y * y)

        def run(n):
            x = np.ones(n)
            fg.{transform}(f, (x,), (x,))
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = run(10)
        print((run(50_000) - before) // 1024)
    """
    assert int(python(code)) < 40  # MB; a step has about six arrays of 0.4 MB


@needs_lack_of_memory
def test_a_result_for_which_there_is_no_tensor_leaks_nothing():
    """Many tensors are held, as objects of those that are gone would be used again."""
    code = """
        import _testcapi
        import numpy as np, fastgrad as fg
        from fastgrad import _core

        x, y = fg.tensor(np.ones(100), requires_grad=True), fg.tensor(np.ones(100))
        held = [fg.tensor(1.0) for _ in range(600)]
        work = {
            "recorded": lambda: x + y, "data": lambda: y * y, "view": lambda: y[2:5],
            "new": lambda: fg.asarray(np.ones(3)), "detached": lambda: x.detach(),
        }
        for name, f in work.items():
            held.append(f())
            failed = 0
            for at in range(12):
                result, before = None, _core.live()
                _testcapi.set_nomemory(at, at + 1)
                try:
                    result = f()
                except MemoryError:
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
                after, made = _core.live(), result is not None
                failed += not made
                arrays, nodes = after["arrays"] - before["arrays"], after["nodes"] - before["nodes"]
                assert arrays <= made and nodes <= made, f"{name}, allocation {at}: {arrays} arrays and {nodes} nodes"
                held.append(result)
            assert failed, name
    """
    python(code)


@needs_lack_of_memory
def test_lack_of_memory_in_the_binding_frees_nothing_twice():
    """Objects that are freed twice crash the interpreter when others take their place."""
    code = """
        import _testcapi
        import numpy as np, fastgrad as fg

        x = fg.tensor(np.ones(1000))
        work = [lambda: x.shape, lambda: fg.split(x, 4), lambda: fg.jvp(np.sin, (x,), (x,)), x.tolist]
        for f in work:
            f()
            for at in range(12):
                _testcapi.set_nomemory(at, at + 1)
                try:
                    f()
                except MemoryError:
                    pass
                finally:
                    _testcapi.remove_mem_hooks()
            numbers = [1000 + i for i in range(20_000)], [float(i) for i in range(20_000)]
            assert sum(numbers[0]) == 219_990_000 and sum(numbers[1]) == 199_990_000
    """
    python(code)
