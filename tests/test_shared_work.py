"""Work that the core's own threads share: the same bits on any number of them, forks, interrupts, limits."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from _threads import in_threads

import fastgrad as fg
from fastgrad import _threads

RNG = np.random.default_rng(0)
LONG, WIDE = RNG.normal(size=300_001), RNG.normal(size=(1500, 257))
ROW, COLUMN = RNG.normal(size=257), RNG.normal(size=(1500, 1))
ALL = RNG.normal(size=WIDE.size)


@pytest.fixture(autouse=True)
def threads():
    before = fg.get_num_threads()
    yield
    fg.set_num_threads(before)


def layer_norm(x):
    mean = x.mean(1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + 1e-5)


FUNCTIONS = {
    "one step": (lambda x: np.tanh(x), LONG),
    "one step, in float32": (lambda x: np.exp(x), LONG.astype(np.float32)),
    "one step of two operands": (lambda x: x * 3.0, LONG),
    "chain": (lambda x: np.sqrt(np.exp(np.sin(x)) + x * x) * np.cos(x), LONG),
    "rosenbrock": (
        fg.value_and_grad(lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)),
        LONG,
    ),
    "several sums": (lambda x: (np.sum(x), np.sum(np.tanh(x) * x), np.sum(np.exp(-x * x))), LONG),
    "a sum of few columns": (lambda x: np.sum(np.tanh(x) * x, axis=0), RNG.normal(size=(20_000, 20))),
    "sums of columns and rows": (lambda x: (np.sum(np.sin(x) * x, 0), np.sum(x * x, 0)), WIDE),
    "rows": (lambda x: (np.max(np.sin(x) * x, 1), np.sum(np.sin(x), 1), np.tanh(np.sin(x))), WIDE),
    "softmax": (fg.grad(lambda x: np.sum(fg.softmax(x * 2.0) ** 2)), WIDE),
    "layer norm": (fg.value_and_grad(lambda x: np.sum(layer_norm(x) * ROW)), WIDE),
    "views of a number for each row": (fg.grad(lambda x: np.sum(layer_norm(x) ** 3)), RNG.normal(size=(4000, 64))),
    "rows and columns as operands": (lambda x: np.tanh(x * ROW + COLUMN) * x[:1], WIDE),
    "slices": (fg.grad(lambda x: np.sum(np.tanh(x[1:, :-1] * x[:-1, 1:]) * ROW[1:])), WIDE),
    "reshaped": (lambda x: np.tanh(np.sin(x).reshape(-1) * np.cos(x).reshape(-1)) * np.exp(x).reshape(-1), WIDE),
    "a derivative of maxima": (lambda x: fg.jvp(lambda x: np.max(x, 1, keepdims=True) * x, (x,), (COLUMN * x,)), WIDE),
    "transposed": (lambda x: np.tanh(x).T + 1.0, WIDE),
    "in another shape": (lambda x: np.sin(np.tanh(x).ravel() * ALL) + np.exp(x).ravel() * np.tanh(x).ravel(), WIDE),
    "a thin product": (lambda x: np.tanh(x @ np.ones((3, 150)) + 1.0) * 2.0, RNG.normal(size=(4000, 3))),
    "comparisons": (lambda x: np.where(x > 0.0, np.sin(x), x * x) + (x < 1.0), LONG),
    "in a loop": (lambda x: fg.fori_loop(0, 3, lambda i, y: np.tanh(y) + np.sin(x), x), LONG),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_are_the_same_with_any_number_of_threads(name):
    f, x = FUNCTIONS[name]
    program = fg.compile(f)
    program(x)
    fg.set_num_threads(1)
    expected = fg.tree.leaves(program(x))
    for n in (2, 3, 8):
        fg.set_num_threads(n)
        for found, alone in zip(fg.tree.leaves(program(x)), expected, strict=True):
            np.testing.assert_array_equal(found, alone, err_msg=f"{n} threads")


@pytest.mark.parametrize("n", [2**18 - 1, 2**18, 2**18 + 1, 2**18 + 1023, 2**19 + 5, 40 * 2048, 40 * 2048 + 1])
def test_parts_meet_at_every_length(n):
    """One step, and ten of them with a sum, against NumPy's."""
    x = np.linspace(-1, 1, n)
    fg.set_num_threads(3)
    np.testing.assert_array_equal(fg.compile(lambda x: x * 2.0)(x), x * 2.0)

    def chain(x):
        for _ in range(5):
            x = x * 0.5 + 1.0
        return x, np.sum(x)

    y, total = fg.compile(chain)(x)
    np.testing.assert_allclose(y, chain(x)[0], rtol=1e-15)
    np.testing.assert_allclose(total, chain(x)[1], rtol=1e-13)


INDEX = RNG.integers(-len(LONG), len(LONG), 400_000)
EAGER = {
    "unary": lambda x: np.tanh(x),
    "binary": lambda x: x * x[::-1],
    "a number": lambda x: x * 3.0,
    "a number before": lambda x: 3.0 / x,
    "in place": lambda x: x.copy().__iadd__(2.0),
    "sum": lambda x: np.sum(x),
    "gradient": fg.grad(lambda x: np.sum(np.tanh(x) * np.exp(x) / (1.0 + x * x) ** 1.5)),
    "take": lambda x: fg.take(x, INDEX),
    "gradient of take": fg.grad(lambda x: np.sum(fg.take(x, INDEX) ** 2)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", EAGER)
def test_eager_bits_are_the_same_with_any_number_of_threads(name, dtype):
    x = fg.tensor(LONG.astype(dtype))
    fg.set_num_threads(1)
    expected = np.asarray(EAGER[name](x))
    for n in (2, 3, 8):
        fg.set_num_threads(n)
        np.testing.assert_array_equal(EAGER[name](x), expected, err_msg=f"{n} threads")


@pytest.mark.parametrize("shape", [(2**18,), (2**18 + 77,), (600, 501), (501, 3, 200), (3, 100_000), (100_000, 3),
                                   (9001, 33), (511, 600), (512, 600), (4099, 70), (2, 3000, 50)])  # fmt: skip
def test_reductions_of_long_operands(shape):
    """Rows, matrices of columns and all elements, against those of one thread, and of NumPy."""
    x = RNG.normal(size=shape)
    axes = [None, *range(len(shape)), *([(0, 2)] if len(shape) == 3 else [])]
    for function in (np.sum, np.max, np.min):
        for axis in axes:
            fg.set_num_threads(1)
            expected = np.asarray(function(fg.tensor(x), axis=axis))
            fg.set_num_threads(3)
            np.testing.assert_array_equal(function(fg.tensor(x), axis=axis), expected, err_msg=f"{function} {axis}")
            np.testing.assert_allclose(expected, function(x, axis=axis), rtol=1e-12, atol=1e-11)
    columns = []
    for n in (1, 2, 3):
        fg.set_num_threads(n)
        columns.append(np.asarray(np.sum(fg.tensor(x.astype(np.float32)), axis=0)))
        np.testing.assert_array_equal(columns[-1], columns[0], err_msg=f"{n} threads")
    integers = np.arange(x.size).reshape(shape)
    assert np.sum(fg.tensor(integers)).item() == integers.sum()


def test_an_index_out_of_range_is_told_as_by_one_thread():
    """The first of several, and rows as well as elements."""
    index = INDEX.copy()
    index[[150_000, 390_000]] = 10**6, -(10**7)
    fg.set_num_threads(3)
    message = f"^take: index 1000000 at position 150000 is outside an axis of length {len(LONG)}$"
    with pytest.raises(IndexError, match=message):
        fg.take(fg.tensor(LONG), index)
    with pytest.raises(IndexError, match=message):
        fg.compile(lambda x, i: fg.take(x, i))(LONG, index)
    rows = RNG.normal(size=(1000, 7))
    chosen = RNG.integers(-1000, 1000, 50_000)
    np.testing.assert_array_equal(fg.take(fg.tensor(rows), chosen, axis=0), rows[chosen])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape, terms", [((5000, 64), 9000), ((90, 511), 1500), ((7, 140), 9000), ((3, 500), 3000),
                                          ((2, 70), 5000), ((1, 300), 2000), ((300, 10, 100), 800)])  # fmt: skip
@pytest.mark.parametrize("frequent", [0.0, 0.6])
def test_gradients_of_gathered_rows(shape, terms, frequent, dtype):
    """Each row of the table belongs to one thread; rows that many terms share are summed in float64."""
    index = RNG.integers(-shape[0], shape[0], terms)
    index[RNG.random(terms) < frequent] = shape[0] // 2
    weights = RNG.normal(size=(terms, *shape[1:])).astype(dtype)
    program = fg.compile(fg.grad(lambda x, i: np.sum(fg.take(x, i, axis=0) * weights)))
    expected, found = np.zeros(shape), []
    np.add.at(expected, index, weights.astype(float))
    for n in (1, 2, 3, 8):
        fg.set_num_threads(n)
        found.append(program(np.zeros(shape, dtype), index))
        np.testing.assert_array_equal(found[-1], found[0], err_msg=f"{n} threads")
    scale = 1e-14 if dtype == "float64" else 4e-6
    np.testing.assert_allclose(found[0], expected, scale, scale * np.abs(expected).max())


def test_an_index_out_of_range_of_a_gradient_is_told_as_by_one_thread():
    index = RNG.integers(0, 100, 3000)
    index[[2000, 2900]] = -101, 10**6
    fg.set_num_threads(3)
    g = fg.tensor(RNG.normal(size=(3000, 128)))
    with pytest.raises(IndexError, match="^take: index -101 at position 2000 is outside an axis of length 100$"):
        fg._core.apply_op(fg._core.OP_NUMBERS["untake"], [g, fg.tensor(index)], (0, 0, 100))


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.1}, {"clip_value": 1e-6}])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_updates_are_the_same_with_any_number_of_threads(optimizer, clip):
    def train(n):
        fg.set_num_threads(n)
        step = fg.training_step(lambda p: np.sum((p["w"] - 1.0) ** 2), {"w": LONG.copy()}, optimizer, **clip)
        for _ in range(4):
            step()
        return step.params["w"]

    np.testing.assert_array_equal(train(3), train(1))


@pytest.mark.parametrize("place", [0, 150_000, -1])
def test_a_gradient_that_is_not_finite_is_found_by_any_thread(place):
    for n in (1, 3):
        fg.set_num_threads(n)
        weights = np.ones(LONG.size)
        step = fg.training_step(lambda p, w: np.sum((p["w"] - 1.0) ** 2 * w), {"w": LONG.copy()}, "sgd")
        for _ in range(3):
            step(weights)
        before = step.params["w"].copy()
        weights[place] = np.inf
        with pytest.raises(FloatingPointError, match="w"):
            step(weights)
        np.testing.assert_array_equal(step.params["w"], before)


def test_the_number_of_threads_changes_while_others_work():
    """Also by numbers that are refused."""
    f = fg.compile(fg.value_and_grad(lambda x: np.sum(np.tanh(x) * np.exp(-x * x))))
    table = fg.tensor(RNG.normal(size=(9001, 33)))
    value, gradient = f(LONG)
    columns = np.asarray(np.sum(table, axis=0))

    def work(k):
        for turn in range(30):
            if k == 0:
                fg.set_num_threads((1, 2, 5, 10**12)[turn % 4])
                for number in (0, -3):
                    with pytest.raises(ValueError, match="set_num_threads"):
                        fg.set_num_threads(number)
                continue
            found = f(LONG)
            assert found[0] == value
            np.testing.assert_array_equal(found[1], gradient)
            np.testing.assert_array_equal(np.sum(table, axis=0), columns)

    in_threads(3, work)


def test_threads_that_come_meanwhile_work_alone():
    fg.set_num_threads(3)
    f = fg.compile(fg.value_and_grad(lambda x: np.sum(np.tanh(x) * np.exp(-x * x))))
    inputs = [LONG + k for k in range(4)]
    expected = [f(x) for x in inputs]

    def work(k):
        for _ in range(20):
            value, gradient = f(inputs[k])
            assert value == expected[k][0]
            np.testing.assert_array_equal(gradient, expected[k][1])

    in_threads(4, work)


def python(code, timeout=60, **environment):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )
    assert run.returncode == 0, f"exit code {run.returncode}\n{run.stdout}{run.stderr}"
    assert not run.stderr, run.stderr
    return run.stdout.strip()


SETUP = """
import os, signal, threading, numpy as np, fastgrad as fg
x = np.linspace(-1, 1, 300_000)
f = fg.compile(lambda x: np.sum(np.tanh(x) * np.exp(-x * x)))
def count():
    return len(os.listdir("/proc/self/task"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_threads_are_idle_has_its_own():
    """And Python, which looks for threads at a fork, does not warn."""
    out = python(
        SETUP
        + """
value = f(x)
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if f(x) == value and f(x) == value else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert f(x) == value
print("done")
""",
        FASTGRAD_NUM_THREADS="3",
        OPENBLAS_NUM_THREADS="1",
    )
    assert out == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_threads_are_at_work_has_its_own():
    out = python(
        SETUP
        + """
import warnings
warnings.simplefilter("ignore")     # Python's, of threads: one of its own is at work, too
value, done = f(x), threading.Event()
def work():
    while not done.is_set():
        assert f(x) == value
thread = threading.Thread(target=work)
thread.start()
for _ in range(12):
    child = os.fork()
    if child == 0:
        os._exit(0 if f(x) == value else 1)
    assert os.waitpid(child, 0)[1] == 0
done.set()
thread.join()
print("done")
""",
        FASTGRAD_NUM_THREADS="3",
    )
    assert out == "done"


def test_exit_while_a_daemon_thread_shares_work():
    out = python(
        SETUP
        + """
def work():
    while True:
        f(x)
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
print(f(x) == f(x))
""",
        FASTGRAD_NUM_THREADS="3",
    )
    assert out == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_are_started_at_first_need_and_take_no_signals():
    out = python(
        SETUP
        + """
before = count()
fg.compile(lambda x: x * 2.0)(x[:1000])
assert count() == before
f(x)
f(x)
assert count() == before + 2, count()
caught = []
signal.signal(signal.SIGUSR1, lambda *_: caught.append(threading.current_thread() is threading.main_thread()))
for _ in range(20):
    os.kill(os.getpid(), signal.SIGUSR1)
    f(x)
fg.set_num_threads(1)
f(x)
print(all(caught) and len(caught) > 0)
""",
        FASTGRAD_NUM_THREADS="3",
        OPENBLAS_NUM_THREADS="1",
    )
    assert out == "True"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_ends_a_loop_over_shared_work():
    fg.set_num_threads(3)
    f = fg.compile(lambda x: np.sum(np.tanh(x) * x))
    expected = f(LONG)
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        start = time.monotonic()
        while time.monotonic() - start < 30:
            f(LONG)
    timer.join()
    assert f(LONG) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FASTGRAD_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3),
        ({"OMP_NUM_THREADS": "2,1"}, 2),
        ({"FASTGRAD_NUM_THREADS": "100000"}, 256),
        ({"OMP_NUM_THREADS": "lots"}, _threads.usable_processors()),
        ({}, _threads.usable_processors()),
    ],
)
def test_the_environment_sets_the_number_of_threads(environment, expected, monkeypatch):
    before = fg.get_num_threads()
    for name in ("FASTGRAD_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _threads.start()
    assert fg.get_num_threads() == expected == fg.show_config(mode="dicts")["threads"]
    fg.set_num_threads(before)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused(value, monkeypatch):
    monkeypatch.setenv("FASTGRAD_NUM_THREADS", value)
    with pytest.raises(ImportError, match=rf"^FASTGRAD_NUM_THREADS={value}: expected an integer above 0$"):
        _threads.start()
    with pytest.raises(ValueError, match="^set_num_threads: n is 0, expected an integer above 0$"):
        fg.set_num_threads(0)
    with pytest.raises(TypeError, match=r"^set_num_threads: n is 1\.5, expected an integer above 0$"):
        fg.set_num_threads(1.5)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, []),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, [1.5]),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, [4.0]),
        ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, [4.0]),
        (
            {
                "proc/self/cgroup": "12:memory:/m\n4:cpu,cpuacct:/c\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": "100000\n",
            },
            [0.5],
        ),
        ({"proc/self/cgroup": "nonsense"}, []),
        ({}, []),
    ],
)
def test_what_control_groups_grant(files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(_threads.granted(tmp_path)) == expected
