"""Choosing among arrays, select and its like, and comparisons of whole arrays: against NumPy's, and transformed."""

import numpy as np
import pytest
from _errors import raises_text
from _oracles import same_bits
from _surface import check_transforms, same_as_numpy

import fastgrad as fg

X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.random.default_rng(1).normal(size=(3, 4))
LOW, HIGH = X < -0.3, X > 0.4
NUMBERS = np.array([[0, 1, 2, 1], [2, 2, 0, 0], [1, 0, 1, 2]])
SELECTIONS = {
    "select": lambda m, x, y: m.select([LOW, HIGH], [x, y]),
    "select, overlap": lambda m, x, y: m.select([X > 0, HIGH], [x, y], 2),
    "select, default": lambda m, x, y: m.select([LOW], [x], y),
    "select, row": lambda m, x, y: m.select([LOW[0], HIGH], [x[0], y]),
    "select, column": lambda m, x, y: m.select([LOW[:, :1]], [x[0]], y[0, 0]),
    "choose": lambda m, x, y: m.choose(NUMBERS, [x, y, x * y]),
    "choose, rows": lambda m, x, y: m.choose(NUMBERS, [x[0], y[0], y]),
    "choose, wrap": lambda m, x, y: m.choose(NUMBERS - 1, [x, y], mode="wrap"),
    "choose, clip": lambda m, x, y: m.choose(NUMBERS - 1, [x, y], mode="clip"),
    "choose, booleans": lambda m, x, y: m.choose(HIGH, [x, y]),
    "choose, one number": lambda m, x, y: m.choose(1, [x, y]),
    "choose, an array": lambda m, x, y: m.choose([0, 2, 1, 0], x),
}
KINDS = (("f8", "f8"), ("f4", "f4"), ("f4", "f8"), ("i8", "i8"), ("u1", "i2"))


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections(name):
    for dtypes in KINDS:
        x, y = ((abs(a) * 5).astype(d) for a, d in zip((X, Y), dtypes))
        same_as_numpy(SELECTIONS[name], x, y, message=dtypes)
    check_transforms(SELECTIONS[name], X, Y)


def test_choices_that_change_from_call_to_call():
    for mode in ("raise", "wrap", "clip"):

        def f(i, x, y, mode=mode):
            return fg.choose(i, [x, y, 1.0], mode=mode)

        shift = 0 if mode == "raise" else 2
        for numbers in (NUMBERS, NUMBERS[::-1] + shift, NUMBERS - shift):
            same_bits(fg.compile(f)(numbers, X, Y), np.choose(numbers, [X, Y, 1.0], mode=mode))
        same_bits(fg.vmap(f)(NUMBERS, X, Y), np.choose(NUMBERS, [X, Y, 1.0], mode=mode))
    for f in (fg.choose, lambda i, c: fg.compile(lambda i: fg.choose(i, c))(i)):
        with pytest.raises(ValueError, match="choose: expected numbers from 0 to 1, got 2"):
            f(NUMBERS, [X, Y])


PIECES = {
    "two": ([LOW, HIGH], [np.square, np.sin]),
    "otherwise": ([LOW, HIGH], [np.square, np.sin, np.cos]),
    "numbers": ([LOW], [2.0, np.negative]),
    "rows": (np.array([LOW, HIGH]), [np.exp, 1.0]),
    "overlap": ([X > 0, HIGH], [np.sin, np.cos]),
    "domain": ([X > 0, X < 0], [np.log, lambda x: np.sqrt(-x)]),
}


@pytest.mark.parametrize("name", PIECES)
def test_piecewise(name):
    conditions, functions = PIECES[name]
    for dtype in ("f8", "i8"):
        same_as_numpy(lambda m, x: m.piecewise(x, conditions, functions), (X * 5).astype(dtype) + (dtype == "i8") * 9)
    same_as_numpy(lambda m, x: m.piecewise(x, conditions, functions), X)
    fg.check_grads(lambda x: fg.piecewise(x, conditions, functions), (X,), order=2)
    f = fg.grad(lambda x: fg.sum(fg.piecewise(x, conditions, functions)))
    np.testing.assert_allclose(fg.compile(f)(X), f(X), rtol=1e-14)


def test_pieces_by_the_argument_itself():
    """Slopes that are infinite, or not defined, where a piece is not chosen do not count, nor its parameters' there."""
    x = np.array([-1.0, 0.0, 0.25, 4.0])

    def f(x, a):
        return fg.piecewise(x, [x > 0, x < 0], [lambda x: a * fg.log(x), lambda x, k=2: a * k * fg.sqrt(-x), 3.0])

    expected = np.piecewise(x, [x > 0, x < 0], [np.log, lambda x: 2 * np.sqrt(-x), 3.0])
    for g in (f, fg.compile(f), fg.vmap(f, (0, None)), fg.compile(fg.vmap(f, (0, None)))):
        np.testing.assert_allclose(np.asarray(g(x, 1.0)), expected, rtol=1e-14)
    for g in (fg.grad(lambda x, a: fg.sum(f(x, a)), argnums=(0, 1)),) * 2:
        slope, of_a = fg.compile(g)(x, 2.0)
        np.testing.assert_allclose(slope, [-2.0, 0.0, 8.0, 0.5], rtol=1e-14)
        np.testing.assert_allclose(of_a, 2 + np.log(0.25) + np.log(4.0), atol=1e-14)
    same_as_numpy(lambda m, x: m.piecewise(x, x > 0, [3.0, 4.0]), x)
    same_as_numpy(lambda m, x: m.piecewise(x, [False, True, True, False], [3.0]), x)
    assert fg.piecewise(np.zeros(0), [np.zeros(0, bool)], [np.sin]).shape == (0,)
    assert fg.piecewise(2.0, [True], [lambda x, k, c: k * x + c, 0.0], 3.0, c=1.0).item() == 7
    np.testing.assert_array_equal(
        np.piecewise(fg.tensor(x), [x > 0], [lambda x, k: k, 0.0], 3.0), np.where(x > 0, 3.0, 0)
    )


def changed(function, x, *args):
    x = x.copy()
    function(x, *args)
    return x


@pytest.mark.parametrize("values", [7.0, [1.0, 2.0], [[1.0, 2.0, 3.0]], np.arange(20.0)])
@pytest.mark.parametrize("mask", [HIGH, NUMBERS, HIGH.ravel(), X > 99], ids=["mask", "numbers", "raveled", "none"])
@pytest.mark.parametrize("name", ["place", "putmask"])
def test_place_and_putmask(name, mask, values):
    ours = getattr(fg, name)
    for dtype in ("f8", "f4", "i8"):
        x, new = (X * 5).astype(dtype), np.asarray(values).astype(dtype)
        same_bits(ours(x, mask, new), changed(getattr(np, name), x, mask, new))
        same_bits(fg.compile(ours)(x, mask, new), changed(getattr(np, name), x, mask, new))
    masks = np.stack([mask, mask[::-1]])
    mapped = fg.vmap(ours, (None, 0, None))(X, masks, np.asarray(values))
    np.testing.assert_array_equal(mapped, [changed(getattr(np, name), X, m, values) for m in masks])
    check_transforms(lambda m, x, v: ours(x, mask, v), X, np.asarray(values))


CLOSE = [
    (X, X + 1e-9),
    (X, X * (1 + 1e-4)),
    (X, X[0]),
    (np.array([np.nan, np.inf, -np.inf]), np.array([np.nan, np.inf, np.inf])),
    (np.array([1, 2]), np.array([1, 3])),
    (1.0, X),
    (np.zeros(0), np.zeros(0)),
    (X, X.T),
    (np.inf, 1e300),
    (X > 0, X > 0),
]


@pytest.mark.parametrize("a, b", CLOSE)
def test_closeness(a, b):
    for options in ({}, {"rtol": 1e-3}, {"atol": 10.0, "rtol": 0}, {"equal_nan": True}):
        for name in ("isclose", "allclose"):
            same_as_numpy(lambda m, a, b: getattr(m, name)(a, b, **options), a, b, message=f"{name}, {options}")
            if np.shape(a) == np.shape(b):
                f = fg.compile(lambda a, b: getattr(fg, name)(a, b, **options))
                same_bits(f(a, b), getattr(np, name)(a, b, **options))
    same_as_numpy(lambda m, a, b: m.array_equal(a, b), a, b)
    same_as_numpy(lambda m, a, b: m.array_equiv(a, b), a, b)
    if np.asarray(a).dtype.kind == "f":
        same_as_numpy(lambda m, a, b: m.array_equal(a, b, equal_nan=True), a, b)


def test_mapped_comparisons_of_arrays():
    batch = np.stack([X, Y, X])
    for name in ("allclose", "array_equal", "array_equiv"):
        got = fg.vmap(getattr(fg, name), (0, None))(batch, X)
        assert np.asarray(got).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fg.select([LOW], [X, Y]), ValueError,
         "select: expected as many choices as conditions, at least one, got 2 and 1"),
        (lambda: fg.select([], []), ValueError,
         "select: expected as many choices as conditions, at least one, got 0 and 0"),
        (lambda: fg.select([X], [X]), TypeError, "select: expected conditions as booleans, got float64 as condition 0"),
        (lambda: fg.choose(X, [X]), TypeError, "choose: expected integers, got float64"),
        (lambda: fg.choose([0], []), ValueError, "choose: expected at least one choice, got none"),
        (lambda: fg.choose([0], [X], mode="wrong"), ValueError,
         "choose: expected mode 'raise', 'wrap' or 'clip', got 'wrong'"),
        (lambda: fg.choose([0, -1], [X[0, :2]]), ValueError, "choose: expected numbers from 0 to 0, got -1"),
        (lambda: fg.piecewise(X, [LOW], [1, 2, 3]), ValueError,
         "piecewise: expected 1 functions for as many conditions, or one more, got 3"),
        (lambda: fg.place(X, [True], [1.0]), ValueError,
         "place: expected a mask of 12 elements, as the array has, got shape (1,)"),
        (lambda: fg.place(X, HIGH, []), ValueError, "place: expected values to place, got none"),
        (lambda: fg.putmask(X, LOW[0], [1.0]), ValueError,
         "putmask: expected a mask of 12 elements, as the array has, got shape (4,)"),
    ],
)  # fmt: skip
def test_error_texts(call, error, message):
    with raises_text(error, message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda t: fg.insert([1, 2], 0, t), lambda t: fg.fill_diagonal(np.zeros((2, 2), int), t),
        lambda t: fg.place([1, 2], [True, False], t), lambda t: fg.putmask([1, 2], [True, False], t),
        lambda t: fg.piecewise([1, 2], [np.array([True, False])], [t]), lambda t: fg.pad([1, 2], 1, constant_values=t),
        lambda t: fg.pad([1, 2], 1, "linear_ramp", end_values=t),
    ],
)  # fmt: skip
def test_values_that_would_lose_their_gradients_in_an_array_of_integers_are_refused(call):
    with pytest.raises(
        TypeError, match="values that require gradients would lose them in an array of int64; cast that"
    ):
        fg.grad(lambda t: fg.sum(call(t)) * 1.0)(2.5)
    assert call(2.5).dtype == np.int64  # of numbers NumPy's rule


@pytest.mark.parametrize("data", [[3.0, 1.0, 2.0], [3, 1, 2], []])
def test_what_changes_nothing_returns_a_value_of_its_own(data):
    calls = [
        lambda x: fg.clip(x, None, None), fg.nan_to_num, lambda x: fg.pad(x, 0), lambda x: fg.roll(x, 0),
        lambda x: fg.diff(x, 0), lambda x: fg.putmask(x, np.zeros(x.shape), []), lambda x: fg.insert(x, [], []),
        lambda x: fg.place(x, np.zeros(x.shape), [1] if x.size else []), lambda x: x.at[[]].set(0), fg.unwrap,
    ]  # fmt: skip
    for call in calls:
        x = fg.asarray(data)
        y = call(x)
        assert y is not x
        before = y.numpy().copy()
        x += 1
        np.testing.assert_array_equal(y.numpy(), before)
