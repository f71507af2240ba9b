"""The descent loop: its arguments, its result, and how it ends."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg
from fastgrad._train.result import DescentResult

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 3))
Y = X @ [1.0, -2.0, 0.5] + 3.0
START = {"w": np.zeros(3), "b": 0.0}


def line(params, x, y):
    return fg.losses.mse(x @ params["w"] + params["b"], y)


def bowl(p):
    return ((p - 3.0) ** 2).sum()


def test_it_finds_the_line():
    result = fg.descend(line, START, (X, Y), optimizer=fg.optim.SGD(0.1), steps=500)
    np.testing.assert_allclose(result.params["w"], [1, -2, 0.5], atol=1e-8)
    np.testing.assert_allclose(result.params["b"], 3, atol=1e-8)
    assert result.steps == len(result.history) == 500
    assert result.loss == result.history[-1] < 1e-15
    assert result.message == "took all 500 steps"
    assert result.converged is False


def test_it_equals_training_steps_over_the_same_batches():
    seen = []

    def loss(params, x, y):
        seen.append((np.array(x), np.array(y)))
        return line(params, x, y)

    result = fg.descend(loss, START, (X, Y), optimizer="adam", epochs=3, batch_size=6, seed=1, compile=False)
    assert len(seen) == result.steps == 12
    params = {"w": np.zeros(3), "b": np.zeros(())}
    step = fg.training_step(line, params, "adam")
    assert result.history.tolist() == [step(x, y) for x, y in seen]
    np.testing.assert_array_equal(result.params["w"], params["w"])


def batches(**arguments):
    """The rows that each step sees, by number."""
    seen = []

    def loss(p, rows, twice):
        np.testing.assert_array_equal(twice, 2 * rows)
        seen.append(rows.tolist())
        return (p * rows).sum()

    rows = np.arange(10.0)
    fg.descend(loss, np.ones(1), (rows, 2 * rows), optimizer=fg.optim.SGD(0.0), compile=False, **arguments)
    return seen


def test_every_row_is_seen_once_an_epoch():
    seen = batches(epochs=3, batch_size=4, seed=0)
    assert [len(rows) for rows in seen] == [4, 4, 2] * 3
    epochs = [[*seen[i], *seen[i + 1], *seen[i + 2]] for i in (0, 3, 6)]
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_shuffling_is_by_the_seed():
    assert batches(epochs=2, batch_size=3, seed=5) == batches(epochs=2, batch_size=3, seed=5)
    assert batches(epochs=2, batch_size=3, seed=5) != batches(epochs=2, batch_size=3, seed=6)
    assert batches(epochs=2, batch_size=3) != batches(epochs=2, batch_size=3)
    rng = np.random.default_rng(5)
    assert batches(epochs=2, batch_size=3, seed=rng) == batches(epochs=2, batch_size=3, seed=5)
    assert batches(steps=4, batch_size=4, shuffle=False) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]


def test_without_batch_size_a_step_takes_all_rows_in_order():
    assert batches(steps=2) == [list(range(10))] * 2
    assert batches(epochs=2, batch_size=10) == [list(range(10))] * 2


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({"steps": 7}, 7),
        ({"epochs": 2}, 2),
        ({"epochs": 2, "batch_size": 4}, 6),
        ({"epochs": 2, "batch_size": 4, "steps": 5}, 5),
        ({"epochs": 2, "batch_size": 4, "steps": 50}, 6),
        ({"steps": np.int64(3), "batch_size": np.int32(2)}, 3),
    ],
)
def test_steps_and_epochs_whichever_ends_first(arguments, count):
    assert len(batches(**arguments)) == count


def test_one_array_as_data_and_rows_of_any_rank():
    images = RNG.standard_normal((6, 2, 3))
    result = fg.descend(
        lambda p, x: fg.losses.mse(p + 0 * x, x), np.zeros((2, 3)), images, optimizer=fg.optim.SGD(2.0), steps=20
    )
    np.testing.assert_allclose(result.params, images.mean(axis=0), atol=1e-3)
    lists = fg.descend(lambda p, x: (p[0] * x).sum(), [0.0], [np.ones(3)], optimizer="sgd", steps=1)
    assert lists.params[0] == pytest.approx(-0.03)


def test_the_callers_arrays_are_not_changed_and_the_structure_is_kept():
    w = np.ones((2, 3), order="F")
    w.flags.writeable = False
    params = {"w": [w, (1.0, np.float32(2))], "none": None}
    result = fg.descend(
        lambda p: (p["w"][0] ** 2).sum() + p["w"][1][0] ** 2 + p["w"][1][1] ** 2,
        params, optimizer=fg.optim.SGD(0.5), steps=1,
    )  # fmt: skip
    np.testing.assert_array_equal(w, np.ones((2, 3)))
    assert params["w"][1] == (1.0, 2)
    assert fg.tree.structure(result.params) == fg.tree.structure(params)
    assert all(type(leaf) is np.ndarray for leaf in fg.tree.leaves(result.params))
    assert [leaf.dtype for leaf in fg.tree.leaves(result.params)] == [np.float64, np.float64, np.float32]
    np.testing.assert_array_equal(result.params["w"][0], np.zeros((2, 3)))


def test_an_optimizer_goes_on_where_it_ended():
    whole = fg.descend(line, START, (X, Y), optimizer=fg.optim.Adam(0.1), steps=10)
    opt = fg.optim.Adam(0.1)
    first = fg.descend(line, START, (X, Y), optimizer=opt, steps=4)
    second = fg.descend(line, first.params, (X, Y), optimizer=opt, steps=6)
    assert first.history.tolist() + second.history.tolist() == whole.history.tolist()
    np.testing.assert_array_equal(second.params["w"], whole.params["w"])


# ---- how it ends -----------------------------------------------------------------------------------------------------
def test_tol_ends_when_the_loss_stands_still():
    result = fg.descend(bowl, np.zeros(1), optimizer=fg.optim.SGD(0.25), steps=1000, tol=1e-6)
    assert result.converged is True
    assert result.message == "the loss changed by less than tol=1e-06"
    # the loss is 9 / 4^k: the first change below tol is that from k = 11 to 12
    changes = -np.diff([9 / 4**k for k in range(20)])
    assert result.steps == np.argmax(changes < 1e-6) + 2
    assert abs(result.history[-1] - result.history[-2]) < 1e-6 <= abs(result.history[-2] - result.history[-3])


def test_tol_over_batches_compares_the_means_of_epochs():
    rows = np.array([0.0, 1.0, 2.0, 3.0])
    loss = lambda p, x: (p * 0).sum() + x.mean()
    result = fg.descend(loss, np.ones(1), rows, optimizer="sgd", epochs=50, batch_size=1, seed=0, tol=1e-9)
    assert result.converged and result.steps == 8
    assert sorted(result.history[:4]) == [0, 1, 2, 3]


def test_tol_of_zero_never_ends_early():
    result = fg.descend(lambda p: (p * 0).sum(), np.ones(1), optimizer="sgd", steps=5, tol=0)
    assert result.steps == 5 and not result.converged


def test_callback_sees_every_step():
    seen = []

    def callback(info):
        seen.append((info.step, info["epoch"], info.loss, info.params.copy()))

    rows = np.arange(4.0)
    result = fg.descend(
        lambda p, x: (p * x).sum(), np.zeros(1), rows, optimizer=fg.optim.SGD(1.0), epochs=2, batch_size=2,
        shuffle=False, callback=callback,
    )  # fmt: skip
    assert [step for step, *_ in seen] == [0, 1, 2, 3]
    assert [epoch for _, epoch, *_ in seen] == [0, 0, 1, 1]
    assert [loss for *_, loss, _ in seen] == result.history.tolist() == [0, -5, -6, -35]
    assert [p.item() for *_, p in seen] == [-1, -6, -7, -12]


def stop_by_exception(info):
    if info.step == 2:
        raise StopIteration


@pytest.mark.parametrize(
    "callback", [lambda info: info.step == 2, lambda info: np.bool_(info.step == 2), stop_by_exception]
)
def test_callback_can_end_it(callback):
    result = fg.descend(bowl, np.zeros(1), optimizer="sgd", steps=10, callback=callback)
    assert result.steps == len(result.history) == 3
    assert result.message == "stopped by the callback after 3 steps"
    assert not result.converged


def test_a_callback_that_returns_something_else_ends_nothing():
    kept = []
    result = fg.descend(bowl, np.zeros(1), optimizer="sgd", steps=4, callback=lambda info: kept.append(1) or "yes")
    assert result.steps == 4


def test_errors_of_loss_and_callback_come_through():
    def broken(info):
        raise KeyError("callback")

    with pytest.raises(KeyError, match="callback"):
        fg.descend(bowl, np.zeros(1), optimizer="sgd", steps=4, callback=broken)
    with pytest.raises(ZeroDivisionError):
        fg.descend(lambda p: 1 / 0, np.zeros(1), optimizer="sgd", steps=4)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def check_interrupted(result, steps):
    assert result.steps == len(result.history) == steps
    assert result.message == f"interrupted after {steps} steps"
    reference = fg.descend(bowl, np.zeros(1), optimizer=fg.optim.SGD(0.1), steps=steps)
    np.testing.assert_array_equal(result.params, reference.params)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_ends_after_the_step_under_way():
    calls = []

    def loss(p):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return bowl(p)

    check_interrupted(fg.descend(loss, np.zeros(1), optimizer=fg.optim.SGD(0.1), steps=100, compile=False), 3)


def test_a_second_ctrl_c_interrupts_the_step():
    calls = []

    def loss(p):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return bowl(p)

    check_interrupted(fg.descend(loss, np.zeros(1), optimizer=fg.optim.SGD(0.1), steps=100, compile=False), 2)


def test_an_interrupt_raised_in_the_callback_returns_what_was_reached():
    def callback(info):
        if info.step == 4:
            raise KeyboardInterrupt

    check_interrupted(fg.descend(bowl, np.zeros(1), optimizer=fg.optim.SGD(0.1), steps=100, callback=callback), 5)


def test_a_handler_of_the_user_is_left_alone():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        ours = signal.getsignal(signal.SIGINT)
        result = fg.descend(
            bowl, np.zeros(1), optimizer="sgd", steps=3, callback=lambda info: os.kill(os.getpid(), signal.SIGINT)
        )
        assert result.steps == 3 and len(seen) == 3
        assert signal.getsignal(signal.SIGINT) is ours
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_runs_in_a_thread():
    results = []
    thread = threading.Thread(
        target=lambda: results.append(fg.descend(bowl, np.zeros(1), optimizer=fg.optim.SGD(0.5), steps=3))
    )
    thread.start()
    thread.join()
    np.testing.assert_array_equal(results[0].params, [3])


# ---- not finite ------------------------------------------------------------------------------------------------------
def falls_off(p):
    return fg.log(p["deep"][0]).sum() + p["other"].sum()


def test_what_is_not_finite_raises_and_hands_over_what_was_reached():
    # log p with rate 1 from 1: p is 1, 0 (1 - 1/1); at 0 the loss is -inf
    params = {"deep": [np.array([1.0])], "other": np.zeros(2)}
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as caught:
        fg.descend(falls_off, params, optimizer=fg.optim.SGD(1.0), steps=10)
    assert str(caught.value).startswith(
        "descend: at step 1 the loss is -inf and the gradient of params['deep'][0] has 1 entries of 1 that are not "
        "finite; the parameters are as they were before this step. "
    )
    result = caught.value.result
    assert result.steps == 1 and result.history.tolist() == [0.0]
    assert result.params["deep"][0] == [0.0]
    np.testing.assert_array_equal(result.params["other"], [-1, -1])
    assert params["deep"][0] == [1.0]


def test_the_gradient_that_is_not_finite_is_named():
    loss = lambda p: fg.sqrt(p["deep"][0]).sum() + p["other"].sum()
    params = {"deep": [np.array([1.0, 0.0])], "other": np.zeros(2)}
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as caught:
        fg.descend(loss, params, optimizer="adam", steps=10)
    assert "at step 0 the gradient of params['deep'][0] has 1 entries of 2 that are not finite" in str(caught.value)
    np.testing.assert_array_equal(caught.value.result.params["deep"][0], [1, 0])
    assert caught.value.result.steps == 0 and np.isnan(caught.value.result.loss)


def test_skip_leaves_the_step_out():
    rows = np.array([1.0, np.nan, 2.0])
    arguments = {"optimizer": fg.optim.SGD(1.0), "steps": 3, "batch_size": 1, "shuffle": False}
    result = fg.descend(lambda p, x: (p * x).sum(), np.zeros(1), rows, nonfinite="skip", **arguments)
    assert result.params == [-3]
    assert np.isnan(result.history[1]) and result.steps == 3
    ignored = fg.descend(lambda p, x: (p * x).sum(), np.zeros(1), rows, nonfinite="ignore", **arguments)
    assert np.isnan(ignored.params)


# ---- the result ------------------------------------------------------------------------------------------------------
def test_result_is_a_dict_with_attributes():
    result = fg.descend(bowl, np.zeros(2), optimizer="sgd", steps=10)
    assert set(result) == {"params", "loss", "history", "steps", "converged", "message"}
    assert result["steps"] == result.steps == 10
    assert set(result) <= set(dir(result))
    with pytest.raises(AttributeError, match="^a descent result has no 'x', only params, loss, history, steps, "):
        result.x
    result.note = "kept"
    assert result["note"] == "kept"
    for copied in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert type(copied) is DescentResult
        assert copied.history.tolist() == result.history.tolist()


def test_result_repr_is_short_and_aligned():
    result = DescentResult(
        params={"w": np.zeros((2, 2))}, loss=0.5, history=[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 0.5], steps=7,
        converged=False, message="took all 7 steps",
    )  # fmt: skip
    assert repr(result).splitlines() == [
        "   params: {'w': array([[0., 0.],",
        "                  [0., 0.]])}",
        "     loss: 0.5",
        "  history: [9, 8, 7, ..., 5, 4, 0.5]",
        "    steps: 7",
        "converged: False",
        "  message: 'took all 7 steps'",
    ]


# ---- the progress bar ------------------------------------------------------------------------------------------------
def test_no_bar_unless_asked_for(capsys):
    fg.descend(bowl, np.zeros(1), optimizer="sgd", steps=3)
    fg.descend(bowl, np.zeros(1), optimizer="sgd", steps=3, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_stderr(capsys):
    fg.descend(bowl, np.zeros(1), optimizer="sgd", steps=3, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err and "loss" in captured.err and "step/s" in captured.err


def test_tqdm_is_imported_only_for_a_bar():
    program = (
        "import sys, numpy as np, fastgrad as fg\n"
        "f = lambda p: (p * p).sum()\n"
        "fg.descend(f, np.zeros(1), optimizer='sgd', steps=2)\n"
        "assert 'tqdm' not in sys.modules\n"
        "fg.descend(f, np.zeros(1), optimizer='sgd', steps=2, progress=True)\n"
        "assert 'tqdm' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


# ---- misuse ----------------------------------------------------------------------------------------------------------
def descend(loss=bowl, params=np.zeros(1), data=None, **arguments):
    return fg.descend(loss, params, data, **{"optimizer": "sgd", "steps": 1, **arguments})


ROWS = np.zeros((100, 2))
W = np.ones(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: descend(data=ROWS, batch_size=256),
            ValueError,
            "descend: batch_size=256 is larger than the data, which has 100 rows; use a smaller one, "
            "or None for all rows",
        ),
        (
            lambda: descend(data=ROWS, batch_size=0),
            ValueError,
            "descend: batch_size is 0, expected an integer above 0 or None",
        ),
        (
            lambda: descend(data=ROWS, batch_size=2.5),
            TypeError,
            "descend: batch_size is 2.5, expected an integer above 0 or None",
        ),
        (
            lambda: descend(batch_size=2),
            ValueError,
            "descend: batch_size is given but data is None: there are no rows to draw",
        ),
        (
            lambda: descend(steps=None),
            ValueError,
            "descend: how long to run? Give steps= or epochs=",
        ),
        (
            lambda: descend(steps=-1),
            ValueError,
            "descend: steps is -1, expected an integer above 0 or None",
        ),
        (
            lambda: descend(steps=True),
            TypeError,
            "descend: steps is True, expected an integer above 0 or None",
        ),
        (
            lambda: descend(epochs="3"),
            TypeError,
            "descend: epochs is '3', expected an integer above 0 or None",
        ),
        (
            lambda: descend(data=(ROWS, np.zeros(99))),
            ValueError,
            "descend: the arrays of data have [100, 99] rows, expected the same number in each",
        ),
        (
            lambda: descend(data=np.zeros((0, 2))),
            ValueError,
            "descend: data has no rows",
        ),
        (
            lambda: descend(data=()),
            ValueError,
            "descend: data is empty; pass an array, a tuple of arrays, or None",
        ),
        (
            lambda: descend(data=[1.0, 2.0]),
            TypeError,
            "descend: data[0] is float64 of shape (), expected an array of rows; "
            "pass an array or a tuple of arrays with one first axis",
        ),
        (
            lambda: descend(data={"x": [{}]}),
            TypeError,
            "descend: data[0]['x'] is object of shape (1,), expected an array of rows; "
            "pass an array or a tuple of arrays with one first axis",
        ),
        (
            lambda: descend(tol=-1),
            ValueError,
            "descend: tol is -1, expected a number of at least 0 or None",
        ),
        (
            lambda: descend(callback=3),
            TypeError,
            "descend: callback is of type int, expected a function",
        ),
        (
            lambda: descend(loss="mse"),
            TypeError,
            "descend: loss is of type str, expected a function of params",
        ),
        (
            lambda: descend(params={}),
            ValueError,
            "descend: params hold no arrays: {}",
        ),
        (
            lambda: descend(params={"w": [np.arange(3)]}),
            TypeError,
            "params['w'][0] has dtype int64, expected float32 or float64: use params['w'][0].astype(np.float64)",
        ),
        (
            lambda: descend(params=[W, W]),
            ValueError,
            "params[0] and params[1] are the same array: keep it under one name",
        ),
        (
            lambda: descend(params=np.ma.array([1.0, 2.0], mask=[False, True])),
            TypeError,
            "params is a masked array, whose mask would be ignored: use params.filled()",
        ),
        (
            lambda: descend(data=(X, np.ma.array(Y))),
            TypeError,
            "descend: data[1] is a masked array, whose mask would be ignored; fill it with .filled() first",
        ),
        (
            lambda: descend(tol="1"),
            TypeError,
            "descend: tol is '1', expected a number of at least 0 or None",
        ),
        (
            lambda: descend(optimizer="sgdd"),
            ValueError,
            "unknown optimizer 'sgdd': the known ones are 'adadelta', 'adafactor', 'adagrad', 'adam', 'adamax', "
            "'adamw', 'lamb', 'lbfgs', 'lion', 'muon', 'nadam', 'radam', 'rmsprop', 'rprop', 'sgd', "
            "'sparseadam'",
        ),
        (
            lambda: descend(nonfinite=None),
            ValueError,
            "descend: nonfinite is None, expected 'raise', 'skip' or 'ignore'",
        ),
        (
            lambda: descend(loss=lambda p: p * p, params=np.ones(2)),
            TypeError,
            "descend: the loss has shape (2,), expected a scalar: take its mean or sum",
        ),
    ],
)
def test_errors(call, error, message):
    with raises_text(error, message):
        call()


def test_parameters_that_are_being_differentiated_are_refused():
    def ended(p):
        return fg.descend(lambda p: fg.sum(p["w"] ** 2), {"w": p}, optimizer="sgd", steps=1).params["w"]

    message = (
        "descend: params['w'] is a tensor of a function being differentiated or traced, which the result would not "
        "know; pass its .detach()"
    )
    for call in (
        lambda: fg.grad(lambda w: fg.sum(ended(w) * w))(np.ones(2)),
        lambda: fg.jvp(lambda w: w * ended(w), (np.ones(2),), (np.ones(2),)),
        lambda: fg.vmap(lambda w: w * ended(w))(np.ones(2)),
        lambda: fg.compile(ended)(np.ones(2)),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value) == message
    expected = ended(np.ones(2))
    np.testing.assert_array_equal(fg.grad(lambda w: fg.sum(ended(w.detach()) * w))(np.ones(2)), expected)
