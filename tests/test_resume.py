"""Checkpoints of descents: what goes on from one has the bits of what was not interrupted, and none is lost."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import typing

import numpy as np
import pytest

import fastgrad as fg
from fastgrad._serialize import atomic
from fastgrad._serialize.api import save_tree

RNG = np.random.default_rng(0)
X = RNG.standard_normal((23, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.1 * RNG.standard_normal(23)
HELD_OUT = (X[:7] * 2, Y[:7] + 1)


class Model(typing.NamedTuple):
    layers: list
    bias: object


def start(dtype=np.float64):
    return Model([{"w": np.full((3, 2), 0.1, dtype)}, {"w": np.linspace(-1, 1, 2).astype(dtype)}], dtype(0.5))


def loss(p, x, y):
    return fg.losses.mse(fg.tanh(x @ p.layers[0]["w"]) @ p.layers[1]["w"] + p.bias, y)


def assert_same(a, b, what):
    leaves, others = fg.tree.flatten_with_path(a)[0], fg.tree.flatten_with_path(b)[0]
    assert [path for path, _ in leaves] == [path for path, _ in others], what
    for (path, x), (_, y) in zip(leaves, others):
        assert np.asarray(x).dtype == np.asarray(y).dtype, f"{what}{path}"
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), f"{what}{path}: {x} and {y}"


def assert_same_result(found, expected, what=""):
    found, expected = dict(found.items()), dict(expected.items())
    assert found.keys() == expected.keys(), what
    for key in expected:
        if key == "message":
            assert found[key] == expected[key], what
        else:
            assert_same(found[key], expected[key], f"{what} {key}")


def check(path, make, total, cuts, every=None):
    """Interrupted after each of the cuts and resumed with objects of its own, a descent ends as if in one go."""
    kwargs = make()
    expected = fg.descend(**kwargs, steps=total)
    for cut in cuts:
        for name in os.listdir(path.parent):
            os.unlink(path.parent / name)
        fg.descend(**make(), steps=cut, checkpoint=path, every=every)
        again = make()
        found = fg.descend(**again, steps=total, checkpoint=path, every=every, resume=True)
        assert_same_result(found, expected, f"cut after {cut}:")
        assert_same(again["optimizer"].state_dict(), kwargs["optimizer"].state_dict(), f"cut after {cut}: optimizer")
        assert fg.load(path)["steps"] == found.steps
    return expected


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


class Loader:
    """Batches of rows without a length, in another order in each epoch."""

    def __init__(self):
        self.epochs = 0

    def __iter__(self):
        order = np.random.default_rng(self.epochs).permutation(23)
        self.epochs += 1
        return ((X[order[k : k + 8]], Y[order[k : k + 8]]) for k in range(0, 23, 8))


def batches():
    for k in range(0, 23, 8):
        yield X[k : k + 8], Y[k : k + 8]


WEIGHTED = dict(loss=lambda p, x, y: (loss_of_rows(p, x) - y) ** 2, sample_weight=np.arange(1.0, 24.0))
SOURCES = {
    "prefetched rows": lambda: dict(data=(X, Y), batch_size=8, seed=4, prefetch=2),
    "whole batches only": lambda: dict(data={"x": X, "y": Y}, loss=lambda p, d: loss(p, d["x"], d["y"]), batch_size=8,
                                       seed=4, drop_last=True, validation_data={"x": X[:7], "y": Y[:7]}),
    "weighted": lambda: dict(WEIGHTED, data=(X, Y), batch_size=8, seed=4),
    "function": lambda: dict(data=batches),
    "prefetched function": lambda: dict(data=batches, prefetch=3),
    "generator": lambda: dict(data=batches(), validation_data=None),
}  # fmt: skip


def loss_of_rows(p, x):
    return fg.tanh(x @ p.layers[0]["w"]) @ p.layers[1]["w"] + p.bias


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_of_data_goes_on_where_it_was(path, name):
    def make():
        given = dict(loss=loss, optimizer=fg.optim.Adam(0.05), validation_data=HELD_OUT, patience=50)
        return {**given, "params": start(), **SOURCES[name]()}

    total = 3 if name == "generator" else 8
    for every in (None, 2):
        check(path, make, total, range(1, total), every)


def test_a_loader_gives_the_order_of_its_own_epoch(path):
    """Which a checkpoint cannot bring back: the epoch under way is gone through in the order that the loader has."""
    loader = Loader()
    given = dict(loss=loss, data=loader, optimizer="adam", params=start())
    fg.descend(**given, steps=4, checkpoint=path)
    found = fg.descend(**given, steps=9, checkpoint=path, resume=True)
    assert found.steps == len(found.history) == 9
    assert loader.epochs == 4


def test_steps_that_were_left_out_are_counted_on(path):
    bad = Y.copy()
    bad[3] = np.nan
    given = dict(loss=loss, data=(X, bad), optimizer="sgd", params=start(), batch_size=8, seed=0, nonfinite="skip")
    full = fg.descend(**given, epochs=4)
    fg.descend(**given, epochs=2, checkpoint=path)
    assert_same_result(fg.descend(**given, epochs=4, checkpoint=path, resume=True), full)
    assert full.skipped == 4


def test_from_any_step(path):
    def make():
        return {
            "loss": loss, "params": start(), "data": (X, Y), "optimizer": fg.optim.Adam(0.05), "batch_size": 5,
            "seed": 1, "validation_data": HELD_OUT, "metrics": {"bias": lambda p, x, y: p.bias},
            "restore_best": True, "tol": 1e-9, "n_iter_no_change": 2,
        }  # fmt: skip

    check(path, make, 12, range(1, 13), every=4)


OPTIMIZERS = [
    "SGD(0.05, momentum=0.9, nesterov=True)", "Adagrad(0.1)", "Adadelta(1.0)", "RMSprop(0.01, momentum=0.5)",
    "Adam(0.05, amsgrad=True)", "AdamW(0.05)", "NAdam(0.05)", "RAdam(0.05)", "Adamax(0.05)", "Lion(0.01)", "LAMB(0.05)",
    "Adafactor(0.05)", "Muon(0.05)", "Rprop(0.01)", "SGD(fg.schedules.cosine(0.1, 10))",
    "SGD(fg.schedules.ReduceOnPlateau(0.5, patience=0), momentum=0.5)",
    'AdamW(0.05, groups=[{"params": "*.w", "weight_decay": 0.0}, {"params": "bias", "frozen": True}])',
]  # fmt: skip


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_every_optimizer(path, text):
    def make():
        optimizer = eval(f"fg.optim.{text}", {"fg": fg})
        return {"loss": loss, "params": start(), "data": (X, Y), "optimizer": optimizer, "batch_size": 8, "seed": 2}

    check(path, make, 7, [4])


@pytest.mark.parametrize("compile", [True, False])
def test_random_draws_in_the_loss(path, compile):
    """Of fastgrad.random, in a closure, and shared with a metric; and an average that a callback keeps."""

    def make():
        rng, average = fg.random.default_rng(3), fg.optim.EMA(0.9)
        averages.append(average)
        noisy = lambda p, x, y: loss(p, fg.dropout(x, 0.3, rng), y + rng.normal(0.0, 0.1, y.shape, np.float32))
        return {
            "loss": noisy, "params": start(np.float32), "data": (X.astype(np.float32), Y.astype(np.float32)),
            "optimizer": fg.optim.Adam(0.05), "batch_size": 6, "seed": np.random.default_rng(5), "compile": compile,
            "metrics": {"noise": lambda p, x, y: float(rng.random())},
            "callback": lambda info: average.update(info.params), "clip_norm": 1.0,
        }  # fmt: skip

    averages = []
    check(path, make, 11, [1, 3, 4, 9])
    for average in averages[2::2]:
        assert_same(average.params, averages[0].params, "the average")
        assert average.steps == averages[0].steps == 11


@pytest.mark.parametrize("source", ["generator", "state", "numpy.random", "random"])
def test_random_numbers_of_others(path, source):
    def make():
        if source == "generator":
            own = np.random.Generator(np.random.MT19937(1))
            draw = lambda: own.normal()
        elif source == "state":
            own = np.random.RandomState(1)
            draw = lambda: own.normal()
        elif source == "numpy.random":
            np.random.seed(1)  # noqa: NPY002
            draw = lambda: np.random.normal()  # noqa: NPY002
        else:
            random.seed(1)
            draw = lambda: random.gauss(0.0, 1.0)
        return {
            "loss": lambda p, x, y: loss(p, x, y + draw()), "params": start(), "data": (X, Y),
            "optimizer": fg.optim.SGD(0.05, momentum=0.9), "batch_size": 8, "seed": 2, "compile": False,
        }  # fmt: skip

    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        check(path, make, 6, [1, 4])
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])


def test_more_than_the_loss_and_accumulation(path):
    def make():
        f = lambda p, x, y: (loss(p, x, y), {"size": fg.sum(p.bias**2)})
        return {
            "loss": f, "params": start(), "data": (X, Y), "optimizer": fg.optim.Adam(0.05), "batch_size": 8, "seed": 2,
            "has_aux": True, "shuffle": False,
        }  # fmt: skip

    check(path, make, 6, [2, 6])


def test_without_data(path):
    def make():
        return {"loss": lambda p: fg.sum(p["x"] ** 2), "params": {"x": np.arange(3.0)}, "optimizer": fg.optim.Adam(0.1)}

    check(path, make, 6, [1, 5], every=2)


@pytest.mark.parametrize(
    "rate, more",
    [(1.5, {"patience": 2, "restore_best": True}), (0.3, {"tol": 0.1, "n_iter_no_change": 3})],
    ids=["patience", "tol"],
)
def test_what_has_ended_stays_so(path, rate, more):
    """A script that is run again after its descent has ended returns the same, and takes no step."""

    def make():
        return {
            "loss": loss, "params": start(), "data": (X, Y), "optimizer": fg.optim.SGD(rate), "batch_size": 12,
            "seed": 1, "validation_data": HELD_OUT, **more,
        }  # fmt: skip

    expected = check(path, make, 60, [1, 6, 60], every=3)
    assert expected.steps < 60
    count = []
    found = fg.descend(**make(), epochs=60, checkpoint=path, resume=True, callback=count.append)
    assert_same_result(found, expected)
    assert not count


def test_a_callback_with_a_state(path):
    class Halving:
        def __init__(self, optimizer):
            self.calls, self.optimizer = 0, optimizer

        def __call__(self, info):
            self.calls += 1
            self.optimizer.learning_rate = 0.1 / self.calls

        def state_dict(self):
            return {"calls": self.calls}

        def load_state_dict(self, state):
            self.calls = state["calls"]
            self.optimizer.learning_rate = 0.1 / self.calls

    def make():
        optimizer = fg.optim.SGD(0.1)
        return {
            "loss": loss, "params": start(), "data": (X, Y), "optimizer": optimizer, "callback": Halving(optimizer)
        }  # fmt: skip

    check(path, make, 5, [1, 3])


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors")

    def make():
        return {"loss": loss, "params": start(), "data": (X, Y), "optimizer": fg.optim.Adam(0.1), "batch_size": 8}

    kwargs = {"seed": 1}
    check(tmp_path / "run.safetensors", lambda: make() | kwargs, 7, [4])


# when it is written -----------------------------------------------------------------------------------------


def arguments(**more):
    return {
        "loss": loss, "params": start(), "data": (X, Y), "optimizer": fg.optim.Adam(0.1), "batch_size": 8, "seed": 1,
    } | more  # fmt: skip


def test_when_it_is_written(path, monkeypatch):
    from fastgrad._train import checkpoint

    written = []

    def noted(path, tree, *args, **kwargs):
        written.append(tree["steps"])
        save_tree(path, tree, *args, **kwargs)

    monkeypatch.setattr(checkpoint, "save_tree", noted)
    for more, expected in [
        (dict(steps=8), [3, 6, 8]), (dict(steps=8, every=4), [4, 8]), (dict(steps=8, every=3), [3, 6, 8]),
        (dict(epochs=2, every=100), [6]), (dict(steps=5, callback=lambda i: i.step == 3), [3, 4]),
        (dict(steps=3, batch_size=None), [3]), (dict(steps=9, resume=True), [6, 9]), (dict(steps=9, resume=True), []),
    ]:  # fmt: skip
        if "resume" in more and expected:
            fg.descend(**arguments(steps=4, checkpoint=path))
            written.clear()
        fg.descend(**arguments(**more), checkpoint=path)
        assert written == expected, more
        written.clear()


def test_the_one_before_is_kept_and_taken_where_the_last_is_damaged(path):
    full = fg.descend(**arguments(), steps=9)
    fg.descend(**arguments(), steps=7, checkpoint=path, every=2)
    previous = atomic.previous_of(str(path))
    assert (fg.load(path)["steps"], fg.load(previous)["steps"]) == (7, 6)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.warns(RuntimeWarning, match=r"descend: '.*run.npz' cannot be used: .* goes on from the checkpoint "
                                            r"before it, '.*run.previous.npz'"):  # fmt: skip
        found = fg.descend(**arguments(), steps=9, checkpoint=path, every=100, resume=True)
    assert_same_result(found, full)
    assert (fg.load(path)["steps"], fg.load(previous)["steps"]) == (9, 6)  # the damaged one is not kept
    os.unlink(path)
    assert fg.descend(**arguments(), steps=9, checkpoint=path, resume=True).steps == 9


def test_nothing_to_resume(path):
    assert_same_result(
        fg.descend(**arguments(), steps=2, checkpoint=path, resume=True), fg.descend(**arguments(), steps=2)
    )
    assert fg.descend(**arguments(), steps=1, checkpoint=path).steps == 1  # begins anew, without resume
    assert fg.load(path)["steps"] == 1


def test_ctrl_c(path):
    def interrupt(info):
        if info.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    found = fg.descend(**arguments(), steps=50, checkpoint=path, callback=interrupt)
    assert found.message == "interrupted after 4 steps"
    assert fg.load(path)["steps"] == 4
    assert_same_result(
        fg.descend(**arguments(), steps=7, checkpoint=path, resume=True), fg.descend(**arguments(), steps=7)
    )


# what is refused --------------------------------------------------------------------------------------------


def test_another_descent(path):
    noisy = lambda p, x, y: loss(p, fg.dropout(x, 0.1, rng), y)
    rng = fg.random.default_rng(0)
    fg.descend(**arguments(), steps=2, checkpoint=path)
    other = X.copy()
    other[-1, 0] += 1
    cases = [
        (dict(optimizer="sgd"), "the optimizer is Adam, and is SGD now"),
        (dict(params=start()._replace(bias=np.zeros(1))), "params is {.*, and is {.*'bias': 'float64 of shape (1,)'}"),
        (dict(params=start(np.float32)), "params is .* now"),
        (dict(params=[np.zeros((3, 2))], loss=lambda p, x, y: fg.sum(x @ p[0])), "params is .* now"),
        (dict(data=(other, Y)), "data is .* now; call descend as it was called then, or give resume=False"),
        (dict(data=(X[:20], Y[:20])), "data is "),
        (dict(batch_size=4), "batch_size is 8, and is 4 now"),
        (dict(shuffle=False), "shuffle is True, and is False now"),
        (dict(accumulate=2), "accumulate is 1, and is 2 now"),
        (dict(validation_data=HELD_OUT), "validation_data is "),
        (dict(seed=np.random.Generator(np.random.MT19937(1))), "seed is a generator on MT19937, and .* one on PCG64"),
        (dict(loss=noisy), "random generators and averages were none, and the functions given now reach rng"),
    ]
    content = path.read_bytes()
    for more, text in cases:
        given = arguments(**more)
        before = fg.tree.map(np.copy, given["params"])
        with pytest.raises(ValueError) as error:
            fg.descend(**given, steps=4, checkpoint=path, resume=True)
        text = text.replace("(", r"\(").replace(")", r"\)").replace("{", r"\{").replace("}", r"\}")
        assert error.match(f"descend: '.*run.npz'.*{text}"), text
        assert_same(given["params"], before, "params")
        assert path.read_bytes() == content


def test_arguments(path):
    with pytest.raises(ValueError, match="every and resume are about a checkpoint"):
        fg.descend(**arguments(), steps=1, resume=True)
    with pytest.raises(ValueError, match="descend: every is 0, expected an integer above 0"):
        fg.descend(**arguments(), steps=1, checkpoint=path, every=0)
    with pytest.raises(TypeError, match="descend: checkpoint is of type int, expected the path of a file"):
        fg.descend(**arguments(), steps=1, checkpoint=3)
    fg.save(path, {"w": np.ones(2)})
    with pytest.raises(ValueError, match=r"run.npz' holds no checkpoint of a descent"):
        fg.descend(**arguments(), steps=1, checkpoint=path, resume=True)
    path.write_text("other")
    with pytest.raises(ValueError, match=r"descend: '.*run.npz' cannot be used: File is not a zip file"):
        fg.descend(**arguments(), steps=1, checkpoint=path, resume=True)


def no_step(info):
    raise AssertionError("a step was taken")


def test_a_place_that_cannot_be_written_is_told_before_the_first_step(path, tmp_path):
    for bad, error, text in [
        (tmp_path, IsADirectoryError, "Is a directory"),
        (tmp_path / "none" / "run.npz", FileNotFoundError, "No such file or directory"),
    ]:
        with pytest.raises(error, match=f"descend: '.*' cannot be written: {text}"):
            fg.descend(**arguments(callback=no_step), steps=1, checkpoint=bad)

    class Callback:
        __call__ = no_step

        def state_dict(self):
            return {"object": object()}

        def load_state_dict(self, state):
            pass

    with pytest.raises(TypeError, match=r"descend: a checkpoint of this: tree\['parts'\]\['the callback'\]\['object'\] "
                                        "is of type object"):  # fmt: skip
        fg.descend(**arguments(callback=Callback()), steps=1, checkpoint=path)
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(path, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="cannot be written: Permission denied"):
            fg.descend(**arguments(callback=no_step), steps=1, checkpoint=path)
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk(path, tmp_path, monkeypatch):
    """The error has what was reached, and the former checkpoint is there."""

    def fill(info):
        if info.step == 3:
            monkeypatch.setattr(os, "fsync", no_space)

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="descend: the checkpoint after 6 steps: '.*' cannot be written: No space left on "
                                      "device; the file that was there is as it was") as error:  # fmt: skip
        fg.descend(**arguments(callback=fill), steps=9, checkpoint=path)
    monkeypatch.undo()
    assert_same(error.value.result.params, fg.descend(**arguments(), steps=6).params, "params")
    assert fg.load(path)["steps"] == 3 and os.listdir(tmp_path) == ["run.npz"]


# training_step ----------------------------------------------------------------------------------------------


def test_the_state_of_a_training_step(path):
    def make():
        rng = fg.random.default_rng(3)
        f = lambda p, x, y: loss(p, fg.dropout(x, 0.2, rng), y)
        return fg.training_step(f, start()._replace(bias=np.array(0.5)), fg.optim.Adam(fg.schedules.cosine(0.1, 20)))

    step = make()
    values = [step(X, Y) for _ in range(8)]
    again = make()
    assert [again(X, Y) for _ in range(3)] == values[:3]
    state = again.state_dict()
    fg.save(path, state)
    assert [again(X, Y) for _ in range(2)] == values[3:5]
    again.load_state_dict(state)
    assert [again(X, Y) for _ in range(2)] == values[3:5]
    other = make()
    live = other.params.bias
    other(X, Y)
    other.load_state_dict(fg.load(path))
    assert [other(X, Y) for _ in range(5)] == values[3:]
    assert other.params.bias is live
    assert_same(other.params, step.params, "params")


def test_the_state_of_another_training_step():
    make = lambda w, optimizer: fg.training_step(lambda p: fg.sum(p["w"] ** 2), {"w": w}, optimizer)
    state = make(np.ones(2), "adam").state_dict()
    rng = fg.random.default_rng(0)
    noisy = fg.training_step(lambda p: fg.sum(p["w"] * rng.random()), {"w": np.ones(2)}, "adam")
    cases = [
        (
            make(np.ones(3), "adam"),
            state,
            ValueError,
            r"w is float64 of shape \(2,\), expected float64 of shape \(3,\)",
        ),
        (make(np.ones(2, np.float32), "adam"), state, ValueError, "expected float32"),
        (make(np.ones(2), "sgd"), state, ValueError, "this is the state of Adam"),
        (make(np.ones(2), "adam"), {"params": {}}, TypeError, "expected what state_dict"),
        (make(np.ones(2), "adam"), state | {"params": {"v": np.ones(2)}}, ValueError, "params are v, expected w"),
        (noisy, state, ValueError, "were none, and the functions given now reach rng"),
    ]
    for step, state, error, text in cases:
        before = step.params["w"].copy()
        with pytest.raises(error, match=text):
            step.load_state_dict(state)
        assert_same(step.params["w"], before, "w")


# killed processes -------------------------------------------------------------------------------------------

SCRIPT = """
    import os, sys
    import numpy as np
    import fastgrad as fg
    path, total = sys.argv[1], int(sys.argv[2])
    x = np.random.default_rng(0).standard_normal((64, 8))
    rng, average = fg.random.default_rng(1), fg.optim.EMA(0.9)
    def loss(p, x):
        return fg.mean((fg.dropout(x, 0.1, rng) @ p["w"] - p["b"]) ** 2)
    def tell(info):
        average.update(info.params)
        if info.step % 10 == 0:
            print(info.step, flush=True)
    result = fg.descend(loss, {"w": np.ones((8, 8)), "b": np.zeros(8)}, x, optimizer=fg.optim.Adam(1e-3), steps=total,
                        batch_size=10, seed=2, callback=tell, checkpoint=path, every=3, resume=True)
    fg.save(path + ".result.npz", {"params": result.params, "average": average.params, "history": result.history})
"""


def kill_and_resume(tmp_path, kills, total):
    """Kill a training at random moments, so often, and let it end; how many steps each kill lost is bounded."""
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    path, expected = str(tmp_path / "run.npz"), str(tmp_path / "whole.npz")
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(fg.__file__))}
    train = lambda path: subprocess.Popen(
        [sys.executable, script, path, str(total)], stdout=subprocess.PIPE, text=True, env=environment
    )
    rng = np.random.default_rng()
    with train(expected) as process:
        process.communicate()
    assert process.returncode == 0
    reached = 0
    for number in range(kills):
        with train(path) as process:
            told = [process.stdout.readline()]  # it is under way
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            told += process.stdout.read().split()
        assert process.returncode in (-signal.SIGKILL, 0)
        last = int(told[-1] or 0)
        if os.path.exists(path):
            steps = fg.load(path)["steps"]
            assert steps >= max(last - 3, reached), (number, last, reached)  # no more than the steps since the last one
            reached = steps
        previous = atomic.previous_of(path)
        if os.path.exists(previous):
            assert fg.load(previous)["steps"] <= reached, number
        leftovers = [name for name in os.listdir(tmp_path) if name.endswith(".temporary")]
        assert len(leftovers) <= 2, number  # the new file and a second name of the old one
    with train(path) as process:
        process.communicate()
    assert process.returncode == 0
    assert_same(fg.load(path + ".result.npz"), fg.load(expected + ".result.npz"), "the result")
    return reached


def test_a_training_that_is_killed(tmp_path):
    assert kill_and_resume(tmp_path, 3, 100) > 0


@pytest.mark.slow
def test_a_training_that_is_killed_a_hundred_times(tmp_path):
    assert kill_and_resume(tmp_path, 100, 3000) > 100
