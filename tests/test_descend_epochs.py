"""What descend does after each epoch, how it may end, and data that are not contiguous."""

import resource
import time

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 3))
Y = X @ [1.0, -2.0, 0.5] + 3.0
START = {"w": np.zeros(3), "b": 0.0}
HELD_OUT = (X[:7] * 2, Y[:7] + 1)


def line(params, x, y):
    return fg.losses.mse(x @ params["w"] + params["b"], y)


def at(params, x, y):
    return np.mean((x @ params["w"] + params["b"] - y) ** 2)


@pytest.mark.parametrize("compile", [True, False])
def test_validation_metrics_and_the_best_parameters(compile):
    """Rates so large at the end that the loss rises again."""
    rate = fg.schedules.piecewise([0.05, 2.5], [20])
    seen = []
    result = fg.descend(
        line, START, (X, Y), optimizer=fg.optim.SGD(rate), epochs=8, batch_size=5, seed=0, compile=compile,
        validation_data=HELD_OUT, metrics={"size": lambda p, x, y: np.sum(p["w"] ** 2) + 0 * x.sum()},
        restore_best=True, callback=lambda i: seen.append((at(i.params, *HELD_OUT), np.sum(i.params["w"] ** 2))),
    )  # fmt: skip
    ends = seen[3::4]
    np.testing.assert_allclose(result.curves["validation_loss"], [loss for loss, _ in ends], rtol=1e-12)
    np.testing.assert_allclose(result.curves["size"], [size for _, size in ends], rtol=1e-12)
    np.testing.assert_allclose(result.curves["loss"], np.reshape(result.history, (8, 4)).mean(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(result.curves["rate"], [0.05] * 4 + [2.5] * 4)
    assert result.best_epoch == np.argmin(result.curves["validation_loss"]) < 7
    assert at(result.params, *HELD_OUT) == pytest.approx(result.curves["validation_loss"].min(), rel=1e-12)


def test_patience_ends_it():
    arguments = {"optimizer": fg.optim.SGD(1.2), "epochs": 50, "seed": 0}
    result = fg.descend(lambda p: fg.sum(p * p), np.ones(1), patience=3, restore_best=True, **arguments)
    assert result.steps == 4 and result.best_epoch == 0
    assert result.message == "the loss has not fallen for patience=3 epochs"
    np.testing.assert_allclose(result.params, -1.4)
    assert len(result.curves["loss"]) == 4


def test_n_iter_no_change_and_time_limit():
    halved = lambda **more: fg.descend(
        lambda p: fg.sum(p * p), np.ones(1), optimizer=fg.optim.SGD(0.25), steps=10_000, **more
    )
    assert halved(tol=1e-6, n_iter_no_change=4).steps == halved(tol=1e-6).steps + 3
    began = time.monotonic()
    result = halved(time_limit=0.05, callback=lambda info: time.sleep(0.01))
    assert result.steps < 10 and time.monotonic() - began < 5
    assert result.message == f"stopped by time_limit=0.05 after {result.steps} steps"


def test_a_plateau_lowers_the_rate():
    schedule = fg.schedules.ReduceOnPlateau(1.2, factor=0.25, patience=0)
    result = fg.descend(lambda p: fg.sum(p * p), np.ones(1), optimizer=fg.optim.SGD(schedule), steps=30)
    assert schedule.value < 1.2 and abs(result.params[0]) < 0.1
    assert "curves" not in result


@pytest.mark.parametrize("compile", [True, False])
def test_aux_parts_and_clipping_are_those_of_training_steps(compile):
    def loss(p, x, y):
        value = line(p, x, y)
        return value, {"root": fg.sqrt(value)}

    seen = []
    result = fg.descend(
        loss, START, (X, Y), optimizer="adam", epochs=3, batch_size=20, compile=compile, has_aux=True, clip_norm=0.1,
        validation_data=HELD_OUT, callback=lambda info: seen.append(float(info.aux["root"])),
    )  # fmt: skip
    np.testing.assert_allclose(np.square(seen), result.history, rtol=1e-12)
    assert float(result.aux["root"]) == seen[-1]
    split = fg.descend(line, START, (X, Y), optimizer="adam", epochs=3, batch_size=20, accumulate=3, compile=compile,
                       clip_norm=0.1)  # fmt: skip
    np.testing.assert_allclose(split.params["w"], result.params["w"], rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"patience": 0}, ValueError, "descend: patience is 0, expected an integer above 0 or None"),
        ({"time_limit": -1}, ValueError, "descend: time_limit is -1, expected a number of seconds above 0 or None"),
        (
            {"metrics": {"loss": at}},
            ValueError,
            "descend: 'loss' is the name of a metric, but also that of a curve",
        ),
        (
            {"metrics": {"a": 1}},
            TypeError,
            "descend: metrics['a'] is of type int, expected a function of params and data",
        ),
        ({"validation_data": (X, Y[:3])}, ValueError,
         "descend: the arrays of validation_data have [20, 3] rows, expected the same number in each"),
    ],
)  # fmt: skip
def test_arguments_that_are_refused(arguments, error, text):
    with raises_text(error, text):
        fg.descend(line, START, (X, Y), optimizer="sgd", steps=1, **arguments)


# ---- data that are not contiguous ------------------------------------------------------------------------------------
def layouts(x):
    wide = np.zeros((3 * len(x), *[2 * n for n in x.shape[1:]]), x.dtype)
    view = wide[(slice(None, None, 3), *[slice(None, None, 2)] * (x.ndim - 1))]
    view[...] = x
    backward = np.ascontiguousarray(x[::-1])[::-1]
    table = np.zeros(len(x), [("a", "i1"), ("x", x.dtype, x.shape[1:])])  # rows that are not aligned
    table["x"] = x
    return {"fortran": np.asfortranarray(x), "strided": view, "backward": backward, "packed": table["x"],
            "broadcast last": np.broadcast_to(x[..., None], (*x.shape, 1))[..., 0]}  # fmt: skip


@pytest.mark.parametrize("shape", [(20,), (20, 3), (20, 3, 4), (20, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("batch_size", [6, 20])
def test_rows_are_the_same_from_any_layout(shape, dtype, batch_size):
    x = (10 * RNG.standard_normal(shape)).astype(dtype)
    p = np.linspace(0.5, 1, 6)
    run = lambda x: fg.descend(
        lambda p, x: fg.sum(p) * fg.sum(fg.sin(x * 0.1)), p, x, optimizer=fg.optim.SGD(0.01), epochs=3,
        batch_size=batch_size, seed=1,
    )  # fmt: skip
    expected = run(x)
    for name, other in layouts(x).items():
        np.testing.assert_array_equal(other, x)
        assert run(other).history.tolist() == expected.history.tolist(), name


def test_rows_of_a_memory_map_are_not_loaded_as_a_whole(tmp_path):
    """Two million rows in a sparse file: the memory that is resident grows by little, also where columns are chosen."""
    rows, columns = 2_000_000, 16
    path = tmp_path / "rows"
    with path.open("wb") as file:
        file.truncate(8 * rows * columns)
    x = np.memmap(path, np.float64, "r", shape=(rows, columns))
    loss = lambda p, x: fg.mean((x @ p - 1) ** 2)
    fg.descend(loss, np.zeros(8), x[:100, ::2], optimizer="sgd", steps=3, batch_size=10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = fg.descend(loss, np.zeros(8), x[:, ::2], optimizer="sgd", steps=20, batch_size=32, shuffle=True, seed=0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert result.history.tolist() == [1.0] * 20
    assert grown < 60_000, f"{grown} KB, of {8 * rows * columns // 1024} in the file"  # 16 MB are the order of the rows
