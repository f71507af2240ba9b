"""pad: every mode against NumPy's, for every dtype, and under every transform."""

import numpy as np
import pytest
from _errors import raises_text
from _samples import NUMPY_2_0
from _surface import check_transforms, same_as_numpy

import fastgrad as fg

X = np.random.default_rng(0).normal(size=(3, 4))
WIDTHS = [0, 2, (1, 2), [(1, 2), (3, 0)], ((7, 11), (9, 5)), {0: (1, 2)}, {-1: 3}, np.array([[1], [2]])]
OPTIONS = {
    "constant": [{}, {"constant_values": 2.5}, {"constant_values": (1, 2)}, {"constant_values": ((1, 2), (3, 4))}],
    "edge": [{}],
    "linear_ramp": [{}, {"end_values": 5}, {"end_values": ((1, 2), (3, -4))}],
    "maximum": [{}, {"stat_length": 2}, {"stat_length": ((1, 2), (3, 99))}, {"stat_length": 0}],
    "mean": [{}, {"stat_length": 2}, {"stat_length": ((1, 2), (3, 1))}],
    "median": [{}, {"stat_length": 2}, {"stat_length": ((1, 2), (3, 1))}],
    "minimum": [{}, {"stat_length": 2}],
    "reflect": [{}, {"reflect_type": "odd"}, {"reflect_type": "even"}],
    "symmetric": [{}, {"reflect_type": "odd"}],
    "wrap": [{}],
}
CASES = [(mode, options) for mode, listed in OPTIONS.items() for options in listed]


@pytest.mark.parametrize("mode, options", CASES)
def test_values_are_those_of_numpy(mode, options):
    for widths in WIDTHS:
        if NUMPY_2_0 and isinstance(widths, dict):
            continue  # NumPy 2.0 takes none
        for dtype in (np.float64, np.float32, np.int64, np.uint8):
            x = (abs(X) * 5).astype(dtype)
            rtol = 1e-5 if dtype == np.float32 else 1e-12
            message = f"{widths}, {dtype}"
            same_as_numpy(lambda m, x: m.pad(x, widths, mode, **options), x, message=message, rtol=rtol)
    for shape in ((1,), (1, 3), (5,), (2, 0), (0,), (2, 1, 3)):
        for width in (0, 1, 4):
            same_as_numpy(lambda m, x: m.pad(x, width, mode), np.ones(shape), message=f"{shape}, {width}")
    same_as_numpy(lambda m, x: m.pad(x, 2, mode), X > 0, message="booleans")
    same_as_numpy(lambda m, x: m.pad(x, 1, mode), np.float64(2.0), message="a number")


@pytest.mark.parametrize("mode, options", CASES)
@pytest.mark.parametrize("widths", [(1, 2), ((5, 0), (2, 7))])
def test_gradients_and_transforms(mode, options, widths):
    if options.get("stat_length") != 0:
        check_transforms(lambda m, x: m.pad(x, widths, mode, **options), X)


def test_integers_that_are_known_at_each_call_only():
    x = (X * 5).astype(np.int64)
    for mode, options in CASES:
        if options.get("stat_length") != 0:
            got = fg.compile(lambda x: fg.pad(x, 2, mode, **options))(x)
            np.testing.assert_array_equal(got, np.pad(x, 2, mode, **options), err_msg=mode)


def test_values_at_the_ends_may_be_tensors():
    def f(x, c):
        return fg.sum(fg.pad(x, 1, constant_values=c) ** 2) + fg.sum(fg.pad(x, 2, "linear_ramp", end_values=c) ** 2)

    fg.check_grads(f, (X, 2.0), order=2)
    fg.check_grads(f, (X, np.array([[1.0, 2.0], [3.0, 4.0]])), order=2)
    np.testing.assert_allclose(fg.grad(f, argnums=1)(X, 2.0), fg.compile(fg.grad(f, argnums=1))(X, 2.0))


def test_not_a_number_stays_in_its_row():
    x = np.array([[np.nan, 1.0, 2.0], [np.inf, 4.0, 6.0]])
    for mode, options in CASES:
        if options.get("stat_length") != 0:
            with np.errstate(invalid="ignore"):
                expected = np.pad(x, ((0, 0), (2, 2)), mode, **options)
            np.testing.assert_array_equal(fg.pad(x, ((0, 0), (2, 2)), mode, **options).numpy(), expected, err_msg=mode)


def test_empty_and_functions():
    assert fg.pad(X, 1, "empty").shape == (5, 6)
    with pytest.raises(TypeError, match="^pad: a function that changes a vector in place has no gradient"):
        fg.pad(X, 1, lambda *args: None)
    with pytest.raises(TypeError, match="^pad: an odd reflection subtracts, which booleans do not"):
        fg.pad(X > 0, 1, "reflect", reflect_type="odd")


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: fg.pad(X, 1, "mirror"), ValueError,
         "pad: expected a mode of constant, edge, empty, linear_ramp, maximum, mean, median, minimum, reflect, "
         "symmetric, wrap, got 'mirror'"),
        (lambda: fg.pad(X, 1, "edge", constant_values=1), ValueError,
         "pad: mode 'edge' does not take constant_values="),
        (lambda: fg.pad(X, -1), ValueError, "pad: expected widths of at least 0, got -1"),
        (lambda: fg.pad(X, 1.5), TypeError, "pad: expected pad_width as ints, got 1.5"),
        (lambda: fg.pad(np.zeros(0), 1, "edge"), ValueError,
         "pad: axis 0 of shape (0,) has no elements, which mode 'edge' needs; mode 'constant' does not"),
        (lambda: fg.pad(X, 1, "reflect", reflect_type="both"), ValueError,
         "pad: expected reflect_type 'even' or 'odd', got 'both'"),
        (lambda: fg.pad(X, 1, "mean", stat_length=-1), ValueError, "pad: expected stat_length of at least 0, got -1"),
        (lambda: fg.pad(X, 1, "maximum", stat_length=0), ValueError,
         "pad: of no elements there is no maximum; expected stat_length of at least 1, got 0"),
    ],
)  # fmt: skip
def test_error_texts(call, error, message):
    with raises_text(error, message):
        call()


def test_pad_by_axes_that_do_not_exist():
    with pytest.raises(np.exceptions.AxisError, match="pad: axis 3 does not exist"):
        fg.pad(np.ones(2), {3: 1})
    np.testing.assert_array_equal(fg.pad(np.ones((2, 2)), {-1: (1, 0)}), np.pad(np.ones((2, 2)), ((0, 0), (1, 0))))
