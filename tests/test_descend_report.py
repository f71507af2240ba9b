"""What a descent tells while it runs and afterwards: bar, log, result, pictures; and the finder of a learning rate."""

import builtins
import copy
import logging
import re
import time
import xml.etree.ElementTree

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg
from fastgrad import _plot
from fastgrad._train import progress

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 3))
Y = X @ [1.0, -2.0, 0.5]
START = {"w": np.zeros(3)}


def line(params, x, y):
    return fg.losses.mse(x @ params["w"], y)


def descend(**arguments):
    return fg.descend(line, START, (X, Y), **{"optimizer": fg.optim.SGD(0.1), "batch_size": 16, "seed": 0, **arguments})


@pytest.fixture
def without(monkeypatch):
    """A function that makes the import of a package fail."""

    def remove(name):
        original = builtins.__import__

        def fails(module, *args, **kwargs):
            if module.partition(".")[0] == name:
                raise ImportError(f"no {name}")
            return original(module, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", fails)

    return remove


class Clock:
    """The time that `progress` sees, which passes only when a step ends."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress, "time", self)

    def monotonic(self):
        return self.now

    def tick(self, seconds):
        def callback(info):
            self.now += seconds

        return callback


@pytest.fixture
def axes():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot.subplots()[1]
    pyplot.close("all")


# ---- bar and log -----------------------------------------------------------------------------------------------------
def test_the_bar_shows_loss_rate_throughput_and_the_time_that_is_left(capsys):
    result = descend(epochs=3, progress=True, callback=lambda info: time.sleep(0.12))
    shown = capsys.readouterr().err.split("\r")
    assert f"loss {result.loss:.4g}, rate 0.1, " in shown[-1] and "rows/s" in shown[-1] and "12/12" in shown[-1]
    assert any(re.search(r" [1-9]\d*/12 \[00:0\d<00:0\d, .*step/s", text) for text in shown[:-1])


def test_the_bar_of_an_iterator_has_no_end(capsys):
    batches = lambda: ((X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16))
    fg.descend(line, START, batches, optimizer="sgd", epochs=2, progress=True)
    assert re.search(r"8step \[.*, loss .*, rate 0.01\]", capsys.readouterr().err)


def test_without_tqdm_there_is_no_bar_unless_it_is_asked_for(without, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    without("tqdm")
    assert descend(epochs=1).steps == 4 and capsys.readouterr().err == ""
    with raises_text(ImportError, "descend: progress=True needs tqdm, which is not installed: pip install tqdm"):
        descend(epochs=1, progress=True)


def test_lines_of_the_log(caplog, monkeypatch):
    clock = Clock(monkeypatch)
    with caplog.at_level(logging.INFO, "fastgrad"):
        result = descend(epochs=3, callback=clock.tick(3.0))
    lines = [record.getMessage() for record in caplog.records]
    assert all(record.name == "fastgrad" and record.levelno == logging.INFO for record in caplog.records)
    number = r"[-+.e\d]+"
    for text in lines[:-1]:
        assert re.fullmatch(
            rf"descend: step \d+ of 12, loss {number}, rate 0\.1, {number} rows/s, {number} steps/s, {number} s left",
            text,
        ), text
    assert [text.split()[2] for text in lines[:-1]] == ["5", "9"], lines  # told before the callback
    assert "0.417 steps/s" in lines[0], lines
    assert lines[-1].startswith(f"descend: took all 12 steps: step 12 of 12, loss {result.loss:.4g}, rate 0.1, ")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "fastgrad"):
        descend(epochs=3)
    assert not caplog.records


# ---- the result ------------------------------------------------------------------------------------------------------
def test_the_speed_of_a_resumed_descent_is_that_of_its_own_steps(tmp_path, caplog, capsys, monkeypatch):
    path = tmp_path / "run.npz"
    descend(steps=400, checkpoint=path)
    with caplog.at_level(logging.INFO, "fastgrad"):
        descend(steps=404, checkpoint=path, resume=True, progress=True, callback=Clock(monkeypatch).tick(0.05))
    steps = float(re.search(r", ([^ ]*) steps/s", caplog.messages[-1])[1])
    rows = float(re.search(r", ([^ ]*) rows/s", caplog.messages[-1])[1])
    assert (steps, rows) == (20, 320), caplog.messages
    assert "404/404" in (shown := capsys.readouterr().err.split("\r"))[-1] and "400/404" in shown[1], shown


def test_history_and_curves_are_arrays():
    result = descend(epochs=3, validation_data=(X, Y))
    assert type(result.history) is np.ndarray and result.history.dtype == np.float64 and result.history.shape == (12,)
    assert {name: (c.dtype, c.shape) for name, c in result.curves.items()} == dict.fromkeys(
        ["step", "loss", "rate", "validation_loss"], (np.dtype(np.float64), (3,))
    )
    np.testing.assert_array_equal(result.curves["step"], [4, 8, 12])
    lines = repr(result).splitlines()
    assert any(re.fullmatch(r" +curves: step: \[4, 8, 12\]", text) for text in lines)
    assert all(len(text) < 120 for text in lines) and len(lines) == 11


def test_a_large_result_has_a_short_repr():
    result = fg.descend(lambda p: fg.sum(p**2), np.ones((200, 200)), optimizer="sgd", epochs=300, patience=500)
    assert len(repr(result)) < 2000


@pytest.mark.parametrize("validation", [None, (X, Y)])
def test_plot_draws_the_losses(axes, validation):
    result = descend(epochs=5, validation_data=validation)
    assert result.plot(axes) is axes
    drawn = [(line.get_label(), *line.get_data()) for line in axes.lines]
    np.testing.assert_array_equal(drawn[0][1], np.arange(1, 21))
    np.testing.assert_array_equal(drawn[0][2], result.history)
    assert axes.get_yscale() == "log"
    if validation is None:
        assert len(drawn) == 1 and axes.get_legend() is None
    else:
        np.testing.assert_array_equal(drawn[1][1], [4, 8, 12, 16, 20])
        np.testing.assert_array_equal(drawn[1][2], result.curves["validation_loss"])


def test_a_schedule_is_drawn(axes):
    schedule = fg.schedules.warmup(fg.schedules.cosine(0.1, steps=20), steps=5)
    schedule.plot(30, ax=axes)
    np.testing.assert_array_equal(axes.lines[0].get_data(), [np.arange(30), schedule.values(30)])


SCHEDULES = fg.schedules
DRAWN = {
    "ReduceOnPlateau": (SCHEDULES.ReduceOnPlateau(0.1), 100),
    "Schedule": (SCHEDULES.Schedule(lambda step: 1 / (1 + step), length=7), 7),
    "constant": (SCHEDULES.constant(0.1), 100),
    "cosine": (SCHEDULES.cosine(0.1, 200), 201),
    "cosine_restarts": (SCHEDULES.cosine_restarts(0.1, 10, 2), 70),
    "exponential": (SCHEDULES.exponential(0.1, 0.5, 40), 200),
    "join": (SCHEDULES.join([0.1, SCHEDULES.linear(0.1, 30)], [20]), 51),
    "linear": (SCHEDULES.linear(0.1, 30), 31),
    "multistep": (SCHEDULES.multistep(0.1, [10, 40]), 52),
    "one_cycle": (SCHEDULES.one_cycle(0.1, 250), 250),
    "piecewise": (SCHEDULES.piecewise([0.3, 0.2, 0.1], [1, 4]), 7),
    "polynomial": (SCHEDULES.polynomial(0.1, 300, 0.0, 2.0), 301),
    "step": (SCHEDULES.step(0.1, 30), 150),
    "warmup": (0.5 * SCHEDULES.warmup(SCHEDULES.cosine(0.1, 20), 5), 26),
}


@pytest.mark.parametrize("name", fg.schedules.__all__)
def test_each_schedule_is_drawn_as_far_as_it_goes(name, axes):
    schedule, n = DRAWN[name]
    for same in (schedule, copy.deepcopy(schedule)):
        same.plot(ax=axes)
        np.testing.assert_array_equal(axes.lines[-1].get_data(), [np.arange(n), schedule.values(n)])


def test_a_schedule_without_an_end_is_drawn_for_a_hundred_steps(axes):
    for schedule in (fg.schedules.multistep(0.1, []), fg.schedules.piecewise([0.1], []), fg.schedules.step(0.1, 2),
                     fg.schedules.Schedule(float), fg.schedules.join([float], [])):  # fmt: skip
        assert schedule.plot(ax=axes).lines[-1].get_xdata().size == 100
    assert fg.schedules.warmup(float, 5).plot(ax=axes).lines[-1].get_xdata().size == 105
    with raises_text(ValueError, "Schedule: length is 0, expected an integer above 0"):
        fg.schedules.Schedule(float, length=0)


def test_without_matplotlib_the_error_says_so(without):
    result, found = descend(epochs=1), fg.lr_find(line, START, (X, Y), optimizer="sgd", num_training=3)
    without("matplotlib")
    for name, call in (
        ("DescentResult.plot", result.plot),
        ("Schedule.plot", lambda: fg.schedules.constant(0.1).plot(3)),
        ("LRFindResult.plot", found.plot),
    ):
        text = f"{name} draws with matplotlib, which is not installed: pip install matplotlib"
        with raises_text(ImportError, text):
            call()


def picture(text):
    """The lines of a drawing as arrays of points, and its words."""
    svg = xml.etree.ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    space = "{http://www.w3.org/2000/svg}"
    lines = [
        np.array([[float(v) for v in point.split(",")] for point in part.get("points").split()])
        for part in svg.iter(space + "polyline")
    ]
    return lines, [part.text for part in svg.iter(space + "text")]


def test_a_notebook_shows_the_curve():
    result = descend(epochs=100, validation_data=(X, Y), nonfinite="skip")
    text = result._repr_html_()
    lines, words = picture(text)
    assert len(lines) == 2 and {"loss", "validation loss", "step"} <= set(words)
    assert 150 <= len(lines[0]) <= 300 and len(lines[1]) == 100
    assert all((np.diff(points[:, 0]) > 0).all() for points in lines)
    assert lines[0][0, 1] < lines[0][-1, 1]  # the loss falls, and pictures count from the top
    assert "&#x27;took all 400 steps&#x27;" in text


def test_pictures_of_little():
    nothing = fg.descend(lambda p: fg.sum(p), np.ones(1), optimizer="sgd", steps=1, nonfinite="skip")
    assert picture(nothing._repr_html_())[0][0].shape == (1, 2)
    nothing.history = np.array([np.nan])
    assert "<svg" not in nothing._repr_html_()
    lines, words = picture(_plot.svg([("<a & b>", np.arange(3), np.array([1.0, np.inf, 3.0]))], "x"))
    assert lines[0].shape == (2, 2) and "<a & b>" in words and "3" in words and "1" in words


# ---- the finder of a learning rate -----------------------------------------------------------------------------------
@pytest.mark.parametrize("compile", [True, False])
def test_lr_find_suggests_a_rate_that_learns_and_leaves_all_as_it_was(compile):
    """By SGD a quadratic with the largest curvature c diverges from the rate 2 / c on."""
    c = 2 * np.linalg.eigvalsh(X.T @ X / len(X)).max()
    optimizer, params, rng = fg.optim.SGD(0.3, momentum=0.5), {"w": np.zeros(3)}, np.random.default_rng(3)
    fg.descend(line, params, (X, Y), optimizer=optimizer, steps=2)
    before, drawn = optimizer.state_dict(), rng.bit_generator.state
    found = fg.lr_find(line, params, (X, Y), optimizer=optimizer, batch_size=16, seed=rng, compile=compile)
    assert 1e-3 / c < found.suggestion < 2 / c
    assert found.rates.shape == found.losses.shape == found.smoothed.shape and 20 < found.rates.size < 100
    np.testing.assert_allclose(found.rates[:3], 1e-7 * 1e8 ** (np.arange(3) / 99), rtol=1e-12)
    assert repr(found) == (
        f"<lr_find: suggestion {found.suggestion:.3g}, rates 1e-07 to {found.rates[-1]:.3g}, {found.rates.size} steps>"
    )
    np.testing.assert_array_equal(params["w"], 0)
    assert rng.bit_generator.state == drawn
    after = optimizer.state_dict()
    assert after["steps"] == before["steps"] == 2 and optimizer.learning_rate == 0.3
    for a, b in zip(fg.tree.leaves(before), fg.tree.leaves(after)):
        np.testing.assert_array_equal(a, b)


TABLE = np.random.default_rng(0).normal(size=(100, 3))
WEIGHTS = np.random.default_rng(1).normal(size=(4, 16)) / 2


def affine(params, x, y):
    return fg.losses.mse(x @ params["w"] + params["b"], y)


def small_net(params, x, y):
    return fg.losses.mse(fg.tanh(x @ params["in"]) @ params["w"] + params["b"], y)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(
    ("loss", "start", "targets"),
    [
        (affine, {"w": np.zeros(3), "b": np.zeros(())}, TABLE @ [1.0, 2.0, -1.0] + 0.5),
        (small_net, {"in": WEIGHTS[:3], "w": WEIGHTS[3], "b": np.zeros(())}, np.tanh(TABLE @ [1, 2, -1]) + TABLE[:, 1]),
    ],
)
def test_lr_find_takes_no_noise_of_small_batches_for_a_fall(loss, start, targets, optimizer):
    """The rate without noise is that of the whole table: nearly all batches suggest one within a decade of it."""
    exact = fg.lr_find(loss, start, (TABLE, targets), optimizer=optimizer).suggestion
    assert 0.01 <= exact <= 0.2
    least, most = (0.005, 1.0) if loss is affine else (exact / 10, 10 * exact)
    found = [
        fg.lr_find(loss, start, (TABLE, targets), optimizer=optimizer, batch_size=10, seed=seed).suggestion
        for seed in range(30)
    ]
    good = [rate for rate in found if rate is not None and least <= rate <= most]
    assert len(good) >= 28, (exact, found)


def test_lr_find_of_batches_that_only_scatter_suggests_nothing():
    rows = np.random.default_rng(3).normal(size=1000)
    found = [
        fg.lr_find(lambda p, x: fg.mean(x) + 0 * p, 0.0, rows, optimizer="sgd", batch_size=10, seed=seed).suggestion
        for seed in range(30)
    ]
    assert sum(rate is not None for rate in found) <= 1, found


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (-100.0, 1.0), (0.0, 1e-6), (0.0, 1e200)])
def test_lr_find_of_a_quadratic(offset, scale):
    """Its largest curvature is 20 times the scale: gradient descent diverges from the rate 0.1 / scale on."""
    curved = lambda p: scale * fg.sum(np.array([1.0, 3.0, 10.0]) * p**2) + offset
    found = fg.lr_find(curved, np.ones(3), optimizer="sgd", min_lr=1e-7 / scale, max_lr=10 / scale)
    assert 0.1 / 20 <= found.suggestion * scale <= 0.1


def test_lr_find_draws_and_goes_through_all_rates(axes):
    found = fg.lr_find(line, START, (X, Y), optimizer="adam", num_training=30, mode="linear", min_lr=0.01, max_lr=0.3,
                       early_stop_threshold=None)  # fmt: skip
    np.testing.assert_allclose(found.rates, np.linspace(0.01, 0.3, 30))
    assert len(found.plot(axes).lines) == 2 + (found.suggestion is not None)
    lines, words = picture(found._repr_html_())
    assert len(lines) == 2 and "learning rate" in words


def test_lr_find_of_what_does_not_learn():
    flat = fg.lr_find(lambda p: fg.sum(0 * p) + 1.0, np.ones(2), optimizer="sgd", num_training=10)
    assert flat.suggestion is None and flat.losses.tolist() == [1.0] * 10
    falls_off = fg.lr_find(lambda p: fg.sum(fg.log(p)), np.ones(2), optimizer="sgd", min_lr=1, max_lr=2)
    assert falls_off.losses.tolist() == [0.0] and falls_off.suggestion is None


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"min_lr": 0}, ValueError, "lr_find: min_lr is 0, expected a finite number above 0"),
        ({"min_lr": 2.0, "max_lr": 1.0}, ValueError, "lr_find: min_lr=2.0 is not below max_lr=1.0"),
        ({"mode": "cubic"}, ValueError, "lr_find: mode is 'cubic', expected 'exponential' or 'linear'"),
        ({"shuffle": 1}, TypeError, "lr_find: shuffle is 1, expected True or False"),
        ({"compile": "yes"}, TypeError, "lr_find: compile is 'yes', expected True or False"),
        ({"has_aux": None}, TypeError, "lr_find: has_aux is None, expected True or False"),
        ({"data": iter([(X, Y)])}, TypeError,
         "lr_find: data is of type list_iterator, whose batches would be used up; give a function that returns an "
         "iterator"),
    ],
)  # fmt: skip
def test_lr_find_refuses(arguments, error, text):
    with raises_text(error, text):
        fg.lr_find(line, START, **{"data": (X, Y), "optimizer": "sgd", **arguments})


def test_lr_find_of_data_that_are_not_finite():
    with pytest.raises(FloatingPointError, match="at step 0 the loss is nan"):
        fg.lr_find(line, START, (X, Y * np.nan), optimizer="sgd")
