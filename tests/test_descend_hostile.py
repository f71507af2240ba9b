"""Descents on data, files and arguments that are not as they should be: the right result, or an error that says so."""

import os
import typing

import numpy as np
import pytest
from _errors import raises_text
from _threads import in_threads

import fastgrad as fg

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3))
Y = X @ [1.0, -2.0, 0.5]
BATCHES = [(X[i::4], Y[i::4]) for i in range(4)]


def loss(p, x, y):
    return fg.losses.mse(x @ p["w"], y)


def descend(data=(X, Y), **options):
    options = {"optimizer": fg.optim.SGD(0.3), "steps": 10, "seed": 0} | options
    return fg.descend(loss, {"w": np.zeros(3)}, data, **options)


class OfLength:
    """Four batches, whatever the length says."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __iter__(self):
        return iter(BATCHES)


# files --------------------------------------------------------------------------------------------------------


def test_behind_a_link_the_checkpoint_before_a_damaged_one_is_found(tmp_path):
    (tmp_path / "disk").mkdir()
    link, file = tmp_path / "link.npz", tmp_path / "disk" / "run.npz"
    link.symlink_to(file)
    expected = descend(batch_size=5, every=2, checkpoint=link)
    assert link.is_symlink()
    file.write_bytes(b"damaged")
    with pytest.warns(RuntimeWarning, match="goes on from the checkpoint before it"):
        found = descend(batch_size=5, checkpoint=link, resume=True)
    assert found.history.tobytes() == expected.history.tobytes()


def test_a_checkpoint_stays_where_it_was_when_the_working_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    descend(checkpoint="run.npz", callback=lambda info: os.chdir(tmp_path / "elsewhere"))
    assert fg.load(tmp_path / "run.npz")["steps"] == 10
    assert not os.listdir(tmp_path / "elsewhere")


def test_paths_of_bytes(tmp_path):
    path = os.fsencode(tmp_path / "run.npz")

    class Path:
        def __fspath__(self):
            return path

    descend(checkpoint=Path())
    assert fg.load(path)["steps"] == 10
    fg.save(path, [1])
    assert fg.load(Path()) == [1]


@pytest.mark.parametrize(
    "content", [{"format": "fastgrad checkpoint"}, {"format": np.ones(3)}, {"w": 1}, [], None], ids=str
)
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "run.npz"
    fg.save(path, content)
    text = f"descend: {str(path)!r} holds no checkpoint of a descent; resume from another file"
    with raises_text(ValueError, text):
        descend(checkpoint=path, resume=True)
    found = fg.load(path)
    assert type(found) is type(content)


def test_types_that_are_no_classes(tmp_path):
    class Line(typing.NamedTuple):
        slope: float

    path = tmp_path / "line.npz"
    fg.save(path, Line(1.0))
    for types in (Line, [1], None, 3):
        with raises_text(TypeError, f"load: types is {types!r}, expected a list of classes"):
            fg.load(path, types=types)
    assert fg.load(path, types=(t for t in [Line])) == Line(1.0)


def test_two_descents_on_one_checkpoint_do_not_hinder_each_other(tmp_path):
    path, errors = tmp_path / "run.npz", []

    def work(_):
        for _ in range(5):
            try:
                descend(batch_size=5, steps=20, every=1, checkpoint=path)
            except OSError as error:
                errors.append(str(error))

    in_threads(3, work)
    assert not errors
    assert fg.load(path)["steps"] == 20
    assert sorted(os.listdir(tmp_path)) == ["run.npz", "run.previous.npz"]


# resumption with other arguments ------------------------------------------------------------------------------


def test_best_parameters_that_a_checkpoint_does_not_have(tmp_path):
    path, given = tmp_path / "run.npz", {"batch_size": 5, "validation_data": (X, Y), "checkpoint": tmp_path / "run.npz"}
    descend(**given)
    optimizer = fg.optim.SGD(0.3)
    text = (
        f"descend: {str(path)!r} is the checkpoint of another descent: it was written without restore_best=True, so it "
        "does not have the best parameters"
    )
    with raises_text(ValueError, text):
        descend(**given, restore_best=True, resume=True, optimizer=optimizer)
    assert optimizer.steps == 0


def test_best_parameters_that_are_no_more_asked_for(tmp_path):
    given = {"batch_size": 5, "validation_data": (X, Y), "checkpoint": tmp_path / "run.npz"}
    descend(**given, restore_best=True)
    result = descend(**given, resume=True, steps=20, optimizer=fg.optim.SGD(3.0))
    assert result.best_epoch < 3
    assert result.curves["validation_loss"][-1] == loss({"w": fg.tensor(result.params["w"])}, X, Y)


def test_metrics_that_are_added_or_left_out(tmp_path):
    given = {"batch_size": 5, "validation_data": (X, Y), "checkpoint": tmp_path / "run.npz"}
    descend(**given, metrics={"one": lambda p, x, y: 1.0})
    curves = descend(**given, resume=True, steps=15, metrics={"two": lambda p, x, y: 2.0}).curves
    np.testing.assert_array_equal(curves["one"], [1, 1, np.nan])
    np.testing.assert_array_equal(curves["two"], [np.nan, np.nan, 2])
    assert len(curves["step"]) == len(curves["validation_loss"]) == 3


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_iterable_that_has_become_shorter(tmp_path, prefetch):
    given = {"checkpoint": tmp_path / "run.npz", "prefetch": prefetch}
    descend(lambda: iter(BATCHES), steps=3, **given)
    text = (
        "descend: data ended after 2 batches, and 3 of this epoch were taken before the descent was resumed; go on "
        "with the data that it began with"
    )
    with raises_text(ValueError, text):
        descend(lambda: iter(BATCHES[:2]), resume=True, **given)
    assert fg.load(tmp_path / "run.npz")["steps"] == 3


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("length", [2, 4, 9])
def test_a_length_that_is_wrong(tmp_path, length, prefetch):
    given = {"checkpoint": tmp_path / "run.npz", "prefetch": prefetch, "every": 1}
    expected = descend(OfLength(4))
    for steps in (3, 7, 10):
        found = descend(OfLength(length), resume=True, **given, steps=steps)
    assert found.history.tobytes() == expected.history.tobytes()


# data and weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1e308, 5e-324, 1.0])
def test_weights_of_any_size(weight):
    def of_rows(p, x, y):
        return (x @ p["w"] - y) ** 2

    def result(sample_weight):
        given = {"optimizer": "adam", "steps": 3, "sample_weight": sample_weight}
        return fg.descend(of_rows, {"w": np.zeros(3)}, (X, Y), **given).history

    for pattern in (np.ones(23), np.arange(23) % 2, np.arange(23) == 4):
        np.testing.assert_allclose(result(pattern * weight), result(pattern), rtol=1e-12)


def test_held_out_batches_without_rows():
    empty = (X[:0], Y[:0])
    expected = descend(validation_data=lambda: iter([(X, Y)])).curves["validation_loss"]
    for batches in ([empty, (X, Y)], [(X, Y), empty]):
        found = descend(validation_data=lambda batches=batches: iter(batches)).curves["validation_loss"]
        np.testing.assert_array_equal(found, expected)
    with raises_text(ValueError, "descend: validation_data has no rows"):
        descend(validation_data=lambda: iter([empty]))


def test_a_function_that_returns_no_iterator():
    text = "descend: data is a function that returned an object of type int, expected an iterator of batches"
    with raises_text(TypeError, text):
        descend(lambda: 5)


# ---- what fails on the way -------------------------------------------------------------------------------------------
ROWS = np.random.default_rng(0).standard_normal((40, 3))


def fit(p, x):
    return fg.mean((x @ p["w"] - 1.0) ** 2)


def failing_batches():
    yield ROWS[:10]
    yield ROWS[10:20]
    raise OSError("the disk is gone")


def failing_callback(info):
    if info.step == 1:
        raise RuntimeError("in the callback")


def failing_metric(params, x):
    raise LookupError("in the metric")


def failing_loss(p, x):
    return fit(p, x) if x.shape[0] == 16 else fg.mean(x @ p["v"])


class Bare(Exception):
    """An error that takes no attributes."""

    def __setattr__(self, name, value):
        raise AttributeError(name)


def bare_callback(info):
    raise Bare


@pytest.mark.parametrize(
    ("more", "error", "steps"),
    [
        ({"data": failing_batches()}, OSError, 2),
        ({"data": failing_batches, "prefetch": 2}, OSError, 2),
        ({"callback": failing_callback}, RuntimeError, 2),
        ({"metrics": {"m": failing_metric}}, LookupError, 4),
        ({"loss": failing_loss, "batch_size": 16}, KeyError, 2),
        ({"data": np.where(np.arange(40)[:, None] < 30, ROWS, np.nan)}, FloatingPointError, 3),
    ],
)
def test_an_error_has_what_was_reached(more, error, steps):
    given = {"loss": fit, "data": ROWS, "optimizer": fg.optim.Adam(0.1), "epochs": 2, "shuffle": False} | more
    if isinstance(given["data"], np.ndarray):
        given.setdefault("batch_size", 10)
    optimizer, start = given["optimizer"], {"w": np.zeros(3)}
    with pytest.raises(error) as caught:
        fg.descend(given.pop("loss"), start, given.pop("data"), **given)
    result = caught.value.result
    assert result.steps == len(result.history) == optimizer.steps == steps
    size = given.get("batch_size", 10)
    rest = [ROWS[i : i + size] for i in range(0, steps * size, size)]
    whole = fg.descend(fit, start, rest.__iter__, optimizer=fg.optim.Adam(0.1), epochs=1)
    np.testing.assert_array_equal(result.history, whole.history)
    np.testing.assert_allclose(result.params["w"], whole.params["w"], rtol=1e-13)
    np.testing.assert_array_equal(start["w"], 0)


def test_an_error_that_takes_no_attributes_is_raised_as_it_is():
    with pytest.raises(Bare):
        fg.descend(fit, {"w": np.zeros(3)}, ROWS, optimizer="sgd", steps=2, callback=bare_callback)


def test_a_validation_loss_of_nan_is_told():
    held_out = np.full((4, 3), np.nan)
    result = fg.descend(
        fit,
        {"w": np.zeros(3)},
        ROWS,
        optimizer="sgd",
        epochs=9,
        validation_data=held_out,
        patience=2,
        restore_best=True,
    )
    assert result.message == "the validation loss has not fallen for patience=2 epochs, in which it was nan"
    assert result.best_epoch == -1 and result.steps == 2


def test_metrics_are_a_dict():
    with pytest.raises(TypeError, match="^descend: metrics is of type list, expected a dict of functions"):
        fg.descend(fit, {"w": np.zeros(3)}, ROWS, optimizer="sgd", steps=2, metrics=[fit])


def test_a_batch_without_rows_is_told():
    step = fg.training_step(fit, {"w": np.zeros(3)}, "sgd")
    with pytest.raises(FloatingPointError) as caught:
        step(ROWS[:0])
    assert (
        "training_step: batch[0], of shape (0, 3), has no rows, and a mean over none is nan" in caught.value.__notes__
    )
    assert step.optimizer.steps == 0
