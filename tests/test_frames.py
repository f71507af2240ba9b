"""DataFrames and tensors of other libraries as data: by stand-ins, and by pandas, polars and torch where they are."""

import functools
import types

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg

X = np.random.default_rng(0).standard_normal((24, 3))
Y = X @ [1.0, -2.0, 0.5] + 3.0
START = {"w": np.zeros(3), "b": 0.0}


def loss(p, x, y):
    return fg.losses.mse(x @ p["w"] + p["b"], y)


descend = functools.partial(fg.descend, loss, START, optimizer="sgd", epochs=2, batch_size=5, seed=0)
EXPECTED = descend((X, Y)).history.tolist()


class Column:
    """A column of a dtype for numbers that may be missing, of which NumPy makes an array of objects."""

    def __init__(self, values, kind="f", itemsize=8):
        self._values, self.dtype = values, types.SimpleNamespace(kind=kind, itemsize=itemsize)

    def __array__(self, dtype=None, copy=None):
        return np.array([None if np.isnan(x) else x for x in self._values], dtype or object)

    def to_numpy(self, dtype, na_value):
        return np.array([na_value if np.isnan(x) else x for x in self._values], dtype)


class Frame:
    """A DataFrame of such columns, two of which may have one name."""

    def __init__(self, columns, names="abc"):
        self._columns, self.columns = columns, list(names)
        self.iloc = self

    def __getitem__(self, place):
        assert place[0] == slice(None)
        return self._columns[place[1]]

    def __array__(self, dtype=None, copy=None):
        return np.stack([np.array(column, object) for column in self._columns], 1)


def test_columns_whose_numbers_may_be_missing():
    frame = Frame([Column(X[:, 0]), X[:, 1], Column(X[:, 2])], names="aba")
    assert descend((frame, Column(Y))).history.tolist() == EXPECTED
    step = fg.training_step(loss, {"w": np.zeros(3), "b": np.array(0.0)}, "sgd")
    expected = fg.training_step(loss, {"w": np.zeros(3), "b": np.array(0.0)}, "sgd")
    assert [step(frame, Column(Y)) for _ in range(4)] == [expected(X, Y) for _ in range(4)]
    assert step.program(frame, Column(Y)) is not None
    seen = []
    descend((Frame([Column(X[:, k], itemsize=4) for k in range(3)]), Y), epochs=1,
            metrics={"rows": lambda p, x, y: seen.append(x.dtype) or len(x)})  # fmt: skip
    assert seen == [np.float32]


def test_a_missing_value_is_named_where_the_loss_is_not_finite():
    holed = X.copy()
    holed[3, 1] = np.nan
    frame = Frame([Column(column) for column in holed.T])
    text = "batch[0], of float64 and shape (24, 3), has 1 numbers of 72 that are not finite: "
    for run in (
        lambda: descend((frame, Y), batch_size=None),
        lambda: descend(lambda: iter([(frame, Y)]), batch_size=None),
        lambda: fg.training_step(loss, {"w": np.zeros(3), "b": np.array(0.0)}, "sgd")(frame, Y),
    ):
        with pytest.raises(FloatingPointError) as raised:
            run()
        assert any(text in note for note in raised.value.__notes__), raised.value.__notes__
    with pytest.raises(FloatingPointError) as raised:
        fg.descend(lambda p, b: loss(p, b["x"], b["y"]), {"w": np.zeros(3), "b": np.array(0.0)},
                   {"x": X, "y": np.where(np.arange(24) == 3, np.nan, Y)}, optimizer="sgd", steps=1)  # fmt: skip
    assert any("batch[0]['y'], of float64 and shape (24,), has 1 " in note for note in raised.value.__notes__)
    with pytest.raises(FloatingPointError) as raised:  # of data that are finite there is nothing to say
        descend((X, Y * 1e200))
    assert not hasattr(raised.value, "__notes__"), raised.value.__notes__


def test_what_is_no_table_of_numbers():
    class Lazy:
        columns = "abc"

        def collect(self):
            raise AssertionError

    class Refuses:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("unsupported ScalarType BFloat16")

    words = Frame([X[:, 0], np.array(["n"] * 24), np.array(["2020-01-01"] * 24, "M8[D]")])
    text = "has columns that are not numbers: 'b' (<U1), 'c' (datetime64[D]); leave them out, or encode them as numbers"
    step = fg.training_step(loss, {"w": np.zeros(3), "b": np.array(0.0)}, "sgd")
    with raises_text(TypeError, f"descend: data[0] {text} first"):
        descend((words, Y))
    with raises_text(TypeError, f"training_step: batch[0] {text} first"):
        step(words, Y)
    with raises_text(TypeError, f"descend: a batch {text} first"):
        descend(lambda: iter([(words, Y)]), batch_size=None)
    with raises_text(TypeError, "descend: data[0] is a Lazy, whose values are not known yet; pass its .collect()"):
        descend((Lazy(), Y))
    for array in (np.array(["n"] * 24), np.array(["2020-01-01"] * 24, "M8[D]"), np.zeros(24, [("a", "f8")])):
        with pytest.raises(TypeError, match=r"^descend: data\[1\] is .* of shape \(24,\), expected an array of rows"):
            descend((X, array))
    with pytest.raises(TypeError, match=r"encode it as numbers first, words by np.unique\(words, return_inverse="):
        descend((X, np.array(["n"] * 24, object)))
    with pytest.raises(TypeError, match="BFloat16") as raised:
        descend((Refuses(), Y))
    assert raised.value.__notes__ == ["descend: data[0] is a Refuses that NumPy cannot read as an array"]


def test_pandas():
    pd = pytest.importorskip("pandas")
    frame, y = pd.DataFrame(X, columns=list("abc")), pd.Series(Y)
    frame["name"] = "n"
    numbers = frame[["a", "b", "c"]]
    for x in (
        numbers,
        numbers.astype("Float64"),
        numbers.set_index(frame["name"]),
        numbers[["c", "b", "a"]].iloc[:, ::-1],
    ):
        assert descend((x, y)).history.tolist() == EXPECTED
        assert descend((x, y.astype("Float64"))).history.tolist() == EXPECTED
    with pytest.raises(TypeError, match="columns that are not numbers: 'name'"):
        descend((frame, y))


def pandas_tables():
    """What pandas gives for the table X and the column Y: (x, y, the same as arrays)."""
    pd = pytest.importorskip("pandas")
    frame, y = pd.DataFrame(X, columns=list("abc")), pd.Series(Y)
    mixed = frame.assign(a=(3 * frame.a).astype(int), b=frame.b > 0, c=frame.c.astype("float32"))
    shuffled = frame.sample(frac=1.0, random_state=0)
    columns = pd.MultiIndex.from_product([["u"], list("abc")])
    return {
        "values": (frame.values, y.values, X, Y),
        "mixed": (mixed, y, mixed.to_numpy(np.float64), Y),
        "whole numbers that may be missing": ((3 * frame).round().astype("Int64"), y, (3 * X).round(), Y),
        "two columns of one name": (frame.set_axis(list("aab"), axis=1), y, X, Y),
        "two levels of names": (frame.set_axis(columns, axis=1), y, X, Y),
        "another order of rows": (shuffled, y.loc[shuffled.index], X[shuffled.index], Y[shuffled.index]),
        "every other row": (frame[::2], y[::2], X[::2], Y[::2]),
        "float32": (frame.astype("float32"), y.astype("float32"), X.astype(np.float32), Y.astype(np.float32)),
    }


def test_tables_of_pandas():
    for name, (x, y, *arrays) in pandas_tables().items():
        expected = descend(tuple(arrays), validation_data=tuple(arrays))
        found = descend((x, y), validation_data=(x, y), metrics={"rows": lambda p, x, y: len(x)})
        np.testing.assert_allclose(found.history, expected.history, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(found.curves["validation_loss"], expected.curves["validation_loss"], rtol=1e-12)
        batches = ((x[i : i + 5], y[i : i + 5]) for i in range(0, len(x), 5))
        iterated = descend(batches, epochs=None, batch_size=None)
        in_order = descend(tuple(arrays), epochs=1, shuffle=False)
        np.testing.assert_allclose(iterated.history, in_order.history, rtol=1e-12, err_msg=name)


def test_dicts_of_columns_of_pandas():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=Y)
    of_columns = lambda p, batch: loss(p, fg.stack([batch[name] for name in "abc"], 1), batch["y"])
    found = fg.descend(of_columns, START, dict(frame), optimizer="sgd", epochs=2, batch_size=5, seed=0)
    np.testing.assert_allclose(found.history, EXPECTED, rtol=1e-12)


def test_a_missing_value_of_pandas_is_told():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abc")).astype("Float64")
    frame.iloc[3, 2] = pd.NA
    with pytest.raises(FloatingPointError) as raised:
        descend((frame, Y))
    assert "1 numbers of" in "".join(raised.value.__notes__)
    for bad in (pd.Categorical(["x", "y"] * 12), pd.date_range("2020", periods=24), ["n"] * 24):
        with pytest.raises(TypeError, match="columns that are not numbers: 'b'"):
            descend((frame.assign(b=bad), Y))


def test_curve_fit_takes_a_column_of_pandas():
    pd = pytest.importorskip("pandas")
    pytest.importorskip("scipy")
    t = np.linspace(0, 2, 20)
    frame = pd.DataFrame({"t": t, "y": 3 * np.exp(-t) + 1})
    popt, _ = fg.curve_fit(lambda t, a, b: a * np.exp(-t) + b, frame.t, frame.y)
    np.testing.assert_allclose(popt, [3, 1], rtol=1e-8)


def test_polars():
    pl = pytest.importorskip("polars")
    frame, y = pl.DataFrame(X, schema=list("abc")), pl.Series(Y)
    assert descend((frame, y)).history.tolist() == EXPECTED
    with pytest.raises(TypeError, match=r"columns that are not numbers: 'a' \(Date\)"):
        descend((frame.with_columns(pl.lit("2020-01-01").str.to_date().alias("a")), y))
    with pytest.raises(TypeError, match="is a LazyFrame, whose values are not known yet"):
        descend((frame.lazy(), y))


def test_torch():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    for prefetch in (0, 2):
        loader = torch.utils.data.DataLoader(data, batch_size=5)
        found = descend(loader, batch_size=None, prefetch=prefetch)
        assert found.history.tolist() == descend((X, Y), shuffle=False).history.tolist()
    with pytest.raises(TypeError, match="BFloat16") as raised:
        descend((torch.tensor(X).bfloat16(), Y))
    assert raised.value.__notes__ == ["descend: data[0] is a Tensor that NumPy cannot read as an array"]
