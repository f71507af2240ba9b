"""Data of a descent: dicts, tables of other libraries, iterators, prefetch in a thread, weights of rows, positions."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg
from fastgrad import _core
from fastgrad._train.prefetch import prefetched
from fastgrad._train.sources import Table, source_of

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 3))
Y = X @ [1.0, -2.0, 0.5]
START = {"w": np.zeros(3)}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    deadline = time.monotonic() + 5
    while (left := [t.name for t in threading.enumerate() if t.name == "fastgrad-prefetch"]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.01)
    assert not left


def loss(params, x, y):
    return fg.losses.mse(x @ params["w"], y)


def descend(data=(X, Y), loss=loss, params=START, **arguments):
    return fg.descend(loss, params, data, **{"optimizer": fg.optim.SGD(0.1), **arguments})


def batches():
    for i in range(0, 24, 8):
        yield X[i : i + 8], Y[i : i + 8]


class Loader:
    """As a DataLoader: a length, a new iterator each epoch, batches in lists of objects that are no ndarrays."""

    def __init__(self, items=batches):
        self.items, self.epochs = items, 0

    def __len__(self):
        return 3

    def __iter__(self):
        self.epochs += 1
        return ([Foreign(x), Foreign(y)] for x, y in self.items())


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._array, dtype)


class Frame:
    """A table with columns by name, as of pandas or polars."""

    def __init__(self, **columns):
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return Foreign(self._columns[name])

    def to_numpy(self):
        return np.stack([self._columns[name] for name in self.columns], axis=1)


IN_ORDER = descend(epochs=4, batch_size=8, shuffle=False).history.tolist()
SHUFFLED = descend(epochs=3, batch_size=5, seed=0).history.tolist()


# ---- arrays ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_dict_of_arrays_comes_to_the_loss_as_a_dict(compile, prefetch):
    data = {"y": Y, "x": {"left": X[:, :1], "right": Foreign(X[:, 1:])}}

    def of_dict(params, batch):
        assert list(batch) == ["y", "x"]
        x = fg.concatenate([batch["x"]["left"], batch["x"]["right"]], axis=1)
        return loss(params, x, batch["y"])

    held_out = {"y": Y[:5], "x": {"left": X[:5, :1], "right": X[:5, 1:]}}
    result = descend(
        data, of_dict, epochs=3, batch_size=5, seed=0, compile=compile, prefetch=prefetch, validation_data=held_out,
        metrics={"rows": lambda params, batch: len(batch["y"])},
    )  # fmt: skip
    np.testing.assert_allclose(result.history, SHUFFLED, rtol=1e-12)
    np.testing.assert_allclose(
        result.curves["validation_loss"],
        descend(epochs=3, batch_size=5, seed=0, validation_data=(X[:5], Y[:5])).curves["validation_loss"], rtol=1e-12,
    )  # fmt: skip
    np.testing.assert_array_equal(result.curves["rows"], 5)


def test_a_dict_among_arrays():
    result = descend(({"x": X}, Y), lambda p, table, y: loss(p, table["x"], y), epochs=3, batch_size=5, seed=0)
    assert result.history.tolist() == SHUFFLED


def test_tables_of_other_libraries():
    frame = Frame(a=X[:, 0], b=X[:, 1], c=X[:, 2])
    assert descend((frame, Foreign(Y)), epochs=3, batch_size=5, seed=0).history.tolist() == SHUFFLED
    text = (
        "descend: data[0] has columns that are not numbers: 'name' (object); leave them out, or encode them as numbers"
    )
    with raises_text(TypeError, f"{text} first"):
        descend((Frame(a=X[:, 0], name=np.array(["n"] * 24, object)), Y), steps=1)


def test_drop_last():
    seen = []
    result = descend(epochs=2, batch_size=7, drop_last=True, seed=0, callback=lambda info: seen.append(info.epoch))
    assert result.steps == 6 and seen == [0, 0, 0, 1, 1, 1]
    assert result.history.tolist()[:3] == descend(steps=3, batch_size=7, seed=0).history.tolist()
    assert descend(epochs=2, batch_size=8, drop_last=True, seed=0).steps == 6


# ---- iterators -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("data", [Loader(), batches], ids=["loader", "function"])
def test_an_epoch_iterates_anew(data, prefetch):
    seen = []
    result = descend(
        data, epochs=4, prefetch=prefetch, validation_data=data, metrics={"n": lambda p, x, y: len(x)},
        callback=lambda info: seen.append(info.epoch),
    )  # fmt: skip
    assert result.history.tolist() == IN_ORDER and result.message == "took all 12 steps"
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    whole = descend(epochs=4, batch_size=8, shuffle=False, validation_data=(X, Y))
    np.testing.assert_allclose(result.curves["validation_loss"], whole.curves["validation_loss"], rtol=1e-12)
    np.testing.assert_allclose(result.curves["loss"], whole.curves["loss"], rtol=1e-12)
    np.testing.assert_array_equal(result.curves["n"], 8)
    assert descend(data, steps=5, prefetch=prefetch).history.tolist() == IN_ORDER[:5]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_generator_that_ends_ends_the_training(prefetch):
    result = descend(batches(), prefetch=prefetch)
    assert result.history.tolist() == IN_ORDER[:3] and result.message == "the data ended after 3 steps"
    assert descend(batches(), epochs=1, prefetch=prefetch).message == "took all 3 steps"
    assert descend(batches(), epochs=9, prefetch=prefetch, tol=1e-9).message == "the data ended after 3 steps"


def test_a_generator_goes_on_in_a_further_call():
    data, optimizer = batches(), fg.optim.SGD(0.1)
    first = descend(data, steps=1, optimizer=optimizer)
    second = descend(data, params=first.params, optimizer=optimizer)
    assert first.history.tolist() + second.history.tolist() == IN_ORDER[:3]


def test_items_of_an_iterator():
    """A dict, one array, lists of numbers, a frame: what the loss gets."""
    seen = []

    def look(params, *batch):
        seen.append(fg.tree.map(np.asarray, batch))
        return fg.sum(params["w"])

    items = [{"x": Foreign(X)}, X, ([1.0, 2.0], 3.0), Frame(a=Y, b=Y), (X, (Foreign(Y), None))]
    descend(iter(items), look, compile=False)
    expected = [({"x": X},), (X,), (np.array([1.0, 2.0]), 3.0), (np.stack([Y, Y], axis=1),), (X, (Y, None))]
    assert len(seen) == len(expected)
    for a, b in zip(seen, expected):
        assert fg.tree.structure(a) == fg.tree.structure(b)
        for x, y in zip(fg.tree.leaves(a), fg.tree.leaves(b)):
            np.testing.assert_array_equal(x, y)


def test_batches_of_ever_new_shapes_are_not_all_traced():
    """Each length comes once: the loss is traced for the first few, and then runs eagerly."""
    calls = []

    def counted(params, x):
        calls.append(1)
        return fg.mean((x * params["w"]) ** 2)

    lengths = range(1, 301)
    result = descend((np.ones(n) for n in lengths), counted, {"w": np.ones(1)}, optimizer=fg.optim.SGD(0.0))
    assert result.history.tolist() == pytest.approx([1.0] * 300)
    assert 300 <= len(calls) < 320  # an eager run each, and few traces


# ---- prefetch --------------------------------------------------------------------------------------------------------
def test_prefetched_rows_are_the_same():
    for shuffle in (True, False):
        plain = descend(epochs=3, batch_size=5, seed=0, shuffle=shuffle)
        assert (
            descend(epochs=3, batch_size=5, seed=0, shuffle=shuffle, prefetch=4).history.tolist()
            == plain.history.tolist()
        )
    assert descend(epochs=2, prefetch=2).history.tolist() == descend(epochs=2).history.tolist()


def test_prefetch_reads_ahead_in_a_thread_while_steps_are_taken():
    taken, threads = [], set()

    def data():
        with np.errstate(all="raise"):
            pass
        for item in [*batches()] * 2:
            taken.append(1)
            threads.add(threading.current_thread().name)
            yield item

    ahead = []

    def callback(info):
        deadline = time.monotonic() + 5
        while len(taken) < min(info.step + 4, 6) and time.monotonic() < deadline:
            time.sleep(0.001)
        ahead.append(len(taken) - info.step - 1)

    descend(data(), prefetch=2, callback=callback)
    assert threads == {"fastgrad-prefetch"}
    assert ahead[:3] == [3, 3, 3] and ahead[-1] == 0  # two are ready, and the thread holds one more


def test_an_array_that_the_iterator_fills_again_is_copied():
    def data():
        x, y = np.zeros((8, 3)), np.zeros(8)
        for a, b in batches():
            x[...], y[...] = a, b
            yield x, {"y": y}

    result = descend(data(), lambda p, x, more: loss(p, x, more["y"]), prefetch=2)
    assert result.history.tolist() == IN_ORDER[:3]


def test_an_error_of_the_iterator_comes_with_its_traceback():
    def broken():
        yield from batches()
        raise LookupError("no more disks")

    for prefetch in (0, 2):
        seen = []
        with pytest.raises(LookupError, match="no more disks") as caught:
            descend(broken, epochs=3, prefetch=prefetch, callback=lambda info: seen.append(1))
        assert len(seen) == 3
        assert "broken" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_a_generator_function_is_closed_where_the_descent_ends_early():
    ended = []

    def data():
        try:
            while True:
                yield X, Y
        finally:
            ended.append(threading.current_thread().name)

    for prefetch in (0, 3):
        descend(data, steps=2, prefetch=prefetch)
        with pytest.raises(ZeroDivisionError):
            descend(data, steps=2, prefetch=prefetch, callback=lambda info: 1 / 0)
        assert len(ended) == 2, prefetch
        ended.clear()


def test_ctrl_c_while_the_thread_has_nothing():
    release, before = threading.Event(), signal.signal(signal.SIGINT, signal.default_int_handler)

    def data():
        yield X, Y
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(10)
        yield X, Y

    timer = threading.Timer(0.3, release.set)
    timer.start()
    try:
        result = descend(data, steps=5, prefetch=1)
    finally:
        signal.signal(signal.SIGINT, before)
        timer.join()
    assert result.message == "interrupted after 1 steps"


def test_an_iterator_that_does_not_return_is_left_to_itself(monkeypatch):
    monkeypatch.setattr("fastgrad._train.prefetch._PATIENCE", 0.05)
    release = threading.Event()

    def data():
        yield X, Y
        release.wait(10)

    try:
        with pytest.warns(RuntimeWarning, match="^descend: the iterator of data has not returned for 0.05 seconds"):
            descend(data, steps=1, prefetch=2)
    finally:
        release.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told_and_neither_hangs():
    program = """if True:
        import os, numpy as np, fastgrad as fg
        def data():
            while True:
                yield np.ones(2)
        child = []
        def callback(info):
            if info.step == 3:
                child.append(os.fork())
        try:
            result = fg.descend(lambda p, x: fg.sum(p * x), np.ones(2), data(), optimizer="sgd", steps=9, prefetch=2,
                                callback=callback)
        except RuntimeError as error:
            assert child == [0] and "was forked during a descent with prefetch=" in str(error)
            fg.descend(lambda p, x: fg.sum(p * x), np.ones(2), data(), optimizer="sgd", steps=9, prefetch=2)
            os._exit(7)
        assert child[0] and os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]) == 7
        assert result.steps == 9
    """
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


# ---- weights ---------------------------------------------------------------------------------------------------------
WEIGHTS = np.arange(24) % 3


def of_rows(params, x, y):
    return (x @ params["w"] - y) ** 2


@pytest.mark.parametrize(
    "arguments", [{}, {"compile": False}, {"accumulate": 5}, {"prefetch": 1}], ids=lambda x: str(*x)
)
def test_a_weight_of_2_is_a_row_twice(arguments):
    twice = np.repeat(np.arange(24), WEIGHTS)
    expected = descend((X[twice], Y[twice]), epochs=4)
    result = descend(loss=of_rows, sample_weight=WEIGHTS, epochs=4, validation_data=(X, Y), **arguments)
    np.testing.assert_allclose(result.history, expected.history, rtol=1e-12)
    assert result.curves["validation_loss"][-1] == pytest.approx(float(loss(result.params, X, Y)), rel=1e-12)


def test_weights_of_batches_go_with_their_rows():
    """Over an epoch without an update the mean of the batches is the weighted mean of all rows."""
    result = descend(loss=of_rows, sample_weight=list(WEIGHTS), epochs=1, batch_size=6, seed=0,
                     optimizer=fg.optim.SGD(0.0))  # fmt: skip
    assert np.mean(result.history) == pytest.approx(np.average(Y**2, weights=WEIGHTS), rel=1e-12)
    has_aux = descend(loss=lambda *a: (of_rows(*a), {"n": len(a[1])}), sample_weight=WEIGHTS, epochs=1, has_aux=True)
    assert has_aux.aux == {"n": 24}


def test_weights_of_float32_parameters_are_float32():
    small = {"w": np.zeros(3, np.float32)}
    dtypes = []

    def look(params, x, y):
        values = of_rows(params, x, y)
        dtypes.append(values.dtype)
        return values

    def callback(info):
        dtypes.append(info.params["w"].dtype)

    data = (X.astype(np.float32), Y.astype(np.float32))
    step = descend(data, look, small, sample_weight=WEIGHTS, epochs=2, callback=callback, compile=False)
    assert set(dtypes) == {np.dtype(np.float32)} and step.steps == 2


# ---- seeds, positions ------------------------------------------------------------------------------------------------
def test_a_seed_gives_the_same_bits_on_any_number_of_threads():
    program = """if True:
        import numpy as np, fastgrad as fg
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((600, 80)), rng.integers(0, 5, 600)
        p = {"a": rng.standard_normal((80, 50)) / 9, "b": rng.standard_normal((50, 5)) / 7}
        loss = lambda p, x, y: fg.losses.softmax_cross_entropy(fg.tanh(x @ p["a"]) @ p["b"], y)
        r = fg.descend(loss, p, (x, y), optimizer="adam", epochs=3, batch_size=128, seed=3)
        print([v.hex() for v in r.history], r.params["a"].tobytes().hex()[:400])
    """
    found = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60,
            env={**os.environ, "OPENBLAS_NUM_THREADS": str(n), "OMP_NUM_THREADS": str(n)},
        ).stdout
        for n in (1, 2)
    }  # fmt: skip
    assert len(found) == 1


def ahead(source, prefetch):
    return prefetched(source, prefetch, X) if prefetch else source


SOURCES = {
    "rows": lambda prefetch: ahead(source_of((X, Y), Table((X, Y)), 5, True, 4, False, None), prefetch),
    "in order": lambda prefetch: ahead(source_of((X, Y), Table((X, Y)), 5, False, 4, True, None), prefetch),
    "all rows": lambda prefetch: ahead(source_of((X, Y), Table((X, Y)), None, True, 4, False, None), prefetch),
    "loader": lambda prefetch: ahead(source_of(Loader(), None, None, True, None, False, None), prefetch),
    "generator": lambda prefetch: ahead(source_of(batches(), None, None, True, None, False, None), prefetch),
}


def run(source, n=10**6):
    """The first columns of the next n batches, and the state after them."""
    seen = []
    while not source.is_over and source.epoch < 3:
        for arrays, rows in source.batches():
            seen.append(arrays[0][:, 0].tolist() if rows is None else arrays[0][rows, 0].tolist())
            if len(seen) == n:
                return seen, source.state()
        source.end_epoch()
    return seen, source.state()


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("name", SOURCES)
def test_a_position_is_taken_up_by_another_source(name, prefetch):
    expected, _ = run(SOURCES[name](prefetch))
    assert expected == run(SOURCES[name](2 - prefetch))[0]
    for n in (1, 2, 3, 5, len(expected)):
        first = SOURCES[name](prefetch)
        seen, state = run(first, n)
        first.close()
        assert set(state) == {"epoch", "position", "random"}
        second = SOURCES[name](2 - prefetch)
        second.restore(state)
        assert seen + run(second)[0] == expected, n
        second.close()


def test_a_position_that_does_not_fit():
    source = SOURCES["rows"](0)
    text = (
        "descend: there is no batch 6 in epoch 0 of the data, which has 5 an epoch; go on with the data and the "
        "batch_size that the position was saved with"
    )
    with raises_text(ValueError, text):
        source.restore({"epoch": 0, "position": 6, "random": None})
    with raises_text(ValueError, "descend: the position in the data was saved without shuffle=True"):
        source.restore({"epoch": 0, "position": 1, "random": None})
    with raises_text(TypeError, "descend: expected a position in data, as state() of a source gives it"):
        source.restore({"epoch": 0})


# ---- misuse ----------------------------------------------------------------------------------------------------------
def nothing():
    yield from ()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: descend(Loader(), steps=1, batch_size=2), ValueError,
         "descend: batch_size is given but data is of type Loader, which yields whole batches"),
        (lambda: descend(batches(), steps=1, drop_last=True), ValueError,
         "descend: drop_last is given but data is of type generator, which yields whole batches"),
        (lambda: descend(Loader()), ValueError, "descend: how long to run? Give steps= or epochs="),
        (lambda: descend(nothing(), steps=1), ValueError,
         "descend: data has no batches: the iterator ended before the first"),
        (lambda: descend(nothing, steps=1, prefetch=2), ValueError,
         "descend: data has no batches: the iterator ended before the first"),
        (lambda: descend((X, iter(Y)), steps=1), TypeError,
         "descend: data[1] is an iterator, expected an array of rows; an iterator is data as a whole and yields "
         "batches, tuples of all that the loss takes"),
        (lambda: descend(steps=1, prefetch=-1), ValueError,
         "descend: prefetch is -1, expected an integer of at least 0"),
        (lambda: descend(steps=1, prefetch=1.5), TypeError,
         "descend: prefetch is 1.5, expected an integer of at least 0"),
        (lambda: descend(None, lambda p: fg.sum(p["w"]), steps=1, prefetch=1), ValueError,
         "descend: prefetch is given but data is None: there are no batches to fetch"),
        (lambda: descend({}, steps=1), ValueError,
         "descend: data is empty; pass an array, a tuple of arrays, or None"),
        (lambda: descend({"x": X, "y": Y[1:]}, steps=1), ValueError,
         "descend: the arrays of data have [24, 23] rows, expected the same number in each"),
        (lambda: descend(steps=1, validation_data=X), ValueError,
         "descend: validation_data is an array and data is (an array, an array); expected the same, as the loss takes "
         "both"),
        (lambda: descend({"x": X}, steps=1, validation_data={"z": X}), ValueError,
         "descend: validation_data is a dict of 'z' and data is a dict of 'x'; expected the same, as the loss takes "
         "both"),
        (lambda: descend(steps=1, validation_data=(X, Y[:, None])), ValueError,
         "descend: validation_data[1] has shape (24, 1) and data[1] has shape (24,); expected the same number of axes"),
        (lambda: descend(steps=1, validation_data=batches()), TypeError,
         "descend: validation_data is of type generator, which can be gone through only once; give arrays, an object "
         "to iterate over again, or a function that returns an iterator"),
        (lambda: descend(epochs=1, validation_data=nothing), ValueError,
         "descend: validation_data has no batches: the iterator ended before the first"),
        (lambda: descend(Loader(), steps=1, metrics={"n": lambda *a: 1}), ValueError,
         "descend: metrics are of validation_data, or of data if that is arrays, but data is iterated over; give "
         "validation_data"),
        (lambda: descend(epochs=1, metrics={"n": lambda *a: "good"}), TypeError,
         "descend: metrics['n'] returned a str of shape (), expected a number"),
        (lambda: descend(Loader(), steps=1, sample_weight=WEIGHTS), ValueError,
         "descend: sample_weight has a number for each row of arrays, but data is not arrays; let the iterator yield "
         "the weights with each batch, and the loss multiply by them"),
        (lambda: descend(steps=1, sample_weight=WEIGHTS[1:]), ValueError,
         "descend: sample_weight is int64 of shape (23,), expected a number for each of the 24 rows of data"),
        (lambda: descend(steps=1, sample_weight=-WEIGHTS), ValueError,
         "descend: sample_weight has to be finite and at least 0, and not 0 for all rows"),
        (lambda: descend(steps=1, sample_weight=WEIGHTS), ValueError,
         "descend: with sample_weight the loss returns a value for each row, of shape (24,), got shape (); take no "
         "mean or sum over the rows, as with reduction='none' of fastgrad.losses"),
        (lambda: descend(steps=1, optimizer=fg.optim.SGD(0.1, groups=[{"params": "*", "frozen": True}])), ValueError,
         "descend: the optimizer's groups freeze all of the parameters (params['w']): there is nothing to train"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with raises_text(error, text):
        call()


def test_an_error_of_a_metric_or_of_validation_tells_where_it_was():
    def broken(params, x, y):
        raise KeyError("accuracy of what?")

    with pytest.raises(KeyError) as caught:
        descend(epochs=2, metrics={"accuracy": broken})
    assert caught.value.__notes__ == ["descend: this came from metrics['accuracy'] after epoch 0"]
    with pytest.raises(ValueError) as caught:
        descend(epochs=2, validation_data=(X[:, :2], Y))
    assert caught.value.__notes__ == ["descend: this came from the loss of validation_data after epoch 0"]


def test_skipped_steps_are_counted_and_left_out_of_the_means():
    x = X.copy()
    x[5] = np.nan
    result = descend((x, Y), epochs=3, batch_size=8, shuffle=False, nonfinite="skip", patience=5)
    assert result.skipped == 3 and np.isnan(result.history).sum() == 3
    np.testing.assert_allclose(result.curves["loss"], np.nanmean(np.reshape(result.history, (3, 3)), axis=1))
    assert "skipped" not in descend(epochs=1)


def test_rows_of_a_column_major_table_are_copied_once_an_epoch(monkeypatch):
    monkeypatch.setattr("fastgrad._train.sources._CACHE_BYTES", 0)
    found = []
    for table in (np.asfortranarray(X), np.array(X)):
        source, rows = source_of((table, Y), Table((table, Y)), 5, True, 0, False, None), []
        for _ in range(3):
            rows += [[array[at].tolist() for array in arrays] for arrays, at in source.batches()]
            state = source.state()
            source.end_epoch()
            table *= 2  # an epoch sees the table as it is at its beginning
        source.restore({**state, "position": 2})  # of the last epoch, with the table as it is now
        found.append([*rows, *[[array[at].tolist() for array in arrays] for arrays, at in source.batches()]])
    assert found[0] == found[1]
    for prefetch in (0, 2):
        result = descend((np.asfortranarray(X), Y), epochs=3, batch_size=5, seed=0, prefetch=prefetch)
        assert result.history.tolist() == SHUFFLED


@pytest.mark.parametrize("told", ["callback", "metrics", "nothing"])
def test_when_a_column_major_table_is_copied(monkeypatch, told):
    """At each epoch where functions of the user's are called that may change it, and else once; at the beginning of a
    descent that reads much of it, and not in one that reads little."""
    monkeypatch.setattr("fastgrad._train.sources._CACHE_BYTES", 0)
    copies, copyto = [], np.copyto
    monkeypatch.setattr("fastgrad._train.sources.np.copyto", lambda *a: (copies.append(0), copyto(*a)))
    options = {"callback": {"callback": lambda info: None}, "metrics": {"metrics": {"m": lambda p, x, y: 0.0}}}
    data = np.asfortranarray(X), Y
    whole = descend(data, epochs=3, batch_size=5, seed=0, **options.get(told, {}))
    assert whole.history.tolist() == SHUFFLED
    assert len(copies) == (1 if told == "nothing" else 3)
    copies.clear()
    long = np.asfortranarray(np.tile(X, (20, 1))), np.tile(Y, 20)
    descend(long, steps=4, batch_size=5, seed=0, **options.get(told, {}))
    assert not copies


def test_what_a_callback_changes_is_seen_by_the_next_epoch(monkeypatch):
    monkeypatch.setattr("fastgrad._train.sources._CACHE_BYTES", 0)
    found = []
    for table in (np.asfortranarray(X), np.array(X)):

        def change(info, table=table):
            if info.step % 5 == 4:  # the last of an epoch
                table[:] *= 1.5

        found.append(descend((table, Y), epochs=4, batch_size=5, seed=0, callback=change).history.tolist())
    assert found[0] == found[1] and found[0] != SHUFFLED[:20]


def test_gathered_rows_are_those_of_numpy():
    at = np.array([5, 0, 5, 2])
    big = np.arange(7 * 6 * 5.0).reshape(7, 6, 5)
    unaligned = np.zeros(7 * 8 + 1, np.uint8)[1:].view(np.float64)
    arrays = [
        big, big[:, ::2], big[::-1], big.T.copy().T, big.transpose(0, 2, 1), big[:, :, 0], big[:, :0], big[:, 0, 0],
        np.asfortranarray(big[:, :, 1]), np.broadcast_to(big[:1], big.shape), big.astype(np.float32).T.copy().T,
        big.astype(np.int8)[:, :, ::-1], big.astype(">f8"), big.astype(complex).T.copy().T, unaligned,
        np.array(["a"] * 7, object),
    ]  # fmt: skip
    for array in arrays:
        found = _core.gather_rows(array, at)
        np.testing.assert_array_equal(found, array[at])
        assert found.flags.c_contiguous and found.dtype == array.dtype
        assert _core.gather_rows(array, at[:0]).shape == (0, *array.shape[1:])
    np.testing.assert_array_equal(_core.gather_rows(big, np.array([-1])), big[[-1]])
    with pytest.raises(IndexError):
        _core.gather_rows(big, np.array([7]))


@pytest.mark.parametrize("made", [lambda x, y: (x, y), lambda x, y: {"x": x, "y": y}], ids=["tuples", "dicts"])
def test_a_list_of_batches_is_refused(made):
    """Each of them would be taken for an argument of the loss."""
    x, y = np.ones((4, 2)), np.ones(4)
    batches = [made(x, y), made(x, y)]
    with pytest.raises(
        TypeError, match=r"data is a list of (tuple|dict)s, which look like batches.*lambda: iter\(data"
    ):
        fg.descend(lambda w, *batch: fg.sum(w), np.zeros(2), batches, optimizer="sgd", steps=1)
    seen = []

    def loss(w, *batch):
        seen.append(len(batch))
        return fg.sum(w**2)

    fg.descend(loss, np.zeros(2), lambda: iter(batches), optimizer="sgd", epochs=1, compile=False)
    assert set(seen) == {len(made(x, y)) if isinstance(made(x, y), tuple) else 1}
