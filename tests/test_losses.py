"""Losses against their formulas in NumPy and mpmath, at the extremes, and with hostile input."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import losses

RNG = np.random.default_rng(0)
P, T = RNG.standard_normal((2, 4, 3))
INSIDE, BITS = RNG.uniform(0.05, 0.95, (4, 3)), RNG.integers(0, 2, (4, 3))
LOGITS, LABELS = RNG.standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])

REGRESSION = {
    losses.mse: lambda p, t: (p - t) ** 2,
    losses.mae: lambda p, t: np.abs(p - t),
    losses.huber: lambda p, t: np.where(np.abs(p - t) <= 1, 0.5 * (p - t) ** 2, np.abs(p - t) - 0.5),
}
PAIRS = [
    *((f, P, T) for f in REGRESSION),
    (losses.binary_cross_entropy, INSIDE, BITS),
    (losses.binary_cross_entropy_with_logits, P, BITS),
    (losses.softmax_cross_entropy, LOGITS, LABELS),
    (losses.softmax_cross_entropy, LOGITS, np.eye(4)[LABELS]),
]


def ids(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("f", REGRESSION, ids=ids)
def test_regression_losses(f):
    expected = REGRESSION[f](P, T)
    np.testing.assert_allclose(f(P, T, reduction="none").numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(f(P, T, reduction="sum").item(), expected.sum(), rtol=1e-14)
    np.testing.assert_allclose(f(P, T).item(), expected.mean(), rtol=1e-14)


def test_huber_delta_joins_the_pieces():
    errors = np.array([0.0, 1.0, 2.0, 3.0, -5.0])
    got = losses.huber(errors, np.zeros(5), delta=2.0, reduction="none").numpy()
    np.testing.assert_allclose(got, [0, 0.5, 2, 4, 8])
    grad = fg.grad(lambda e: losses.huber(e, np.zeros(5), delta=2.0, reduction="sum"))(errors)
    np.testing.assert_allclose(grad, [0, 1, 2, 2, -2])
    assert losses.huber([1e300], [0.0]).item() == 1e300


def mp_bce(p, t):
    return -(t * mpmath.log(p) + (1 - t) * mpmath.log(1 - p))


def test_binary_cross_entropy():
    expected = -(BITS * np.log(INSIDE) + (1 - BITS) * np.log(1 - INSIDE))
    got = losses.binary_cross_entropy(INSIDE, BITS, reduction="none")
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-14)
    soft = losses.binary_cross_entropy([0.3], [0.25]).item()
    assert soft == pytest.approx(float(mp_bce(0.3, 0.25)), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_of_exact_zeros_and_ones(dtype):
    p = np.array([0, 1, 0, 1], dtype)
    t = np.array([0, 1, 1, 0])
    info = np.finfo(dtype)
    got = losses.binary_cross_entropy(p, t, reduction="none").numpy()
    assert got.dtype == dtype
    assert list(got[:2]) == [0, 0]
    np.testing.assert_allclose(got[2:], [-np.log(info.tiny), -np.log(info.epsneg)], rtol=1e-6)
    grad = fg.grad(lambda p: losses.binary_cross_entropy(p, t, reduction="sum"))(p)
    np.testing.assert_array_equal(grad, [1, -1, 0, 0])


def test_binary_cross_entropy_outside_of_probabilities_is_nan():
    got = losses.binary_cross_entropy([-0.1, 1.1], [1, 0], reduction="none").numpy()
    assert np.isnan(got).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [0.0, 1.0, 0.25])
def test_binary_cross_entropy_with_logits_over_the_whole_range(dtype, t):
    largest = np.finfo(dtype).max
    x = np.array([0, 1e-30, 0.5, -0.5, 3, -20, 20, -80, 80, -1000, 1000, largest, -largest], dtype)
    f = lambda x: losses.binary_cross_entropy_with_logits(x, np.full(x.shape, t), reduction="sum")
    got = losses.binary_cross_entropy_with_logits(x, np.full(x.shape, t), reduction="none").numpy()
    with mpmath.workdps(60):
        for value, result, slope in zip(x, got, fg.grad(f)(x)):
            value = mpmath.mpf(float(value))
            expected = t * mpmath.log1p(mpmath.exp(-value)) if value > -1000 else -t * value
            expected += (1 - t) * (mpmath.log1p(mpmath.exp(value)) if value < 1000 else value)
            tiny = float(np.finfo(dtype).tiny)
            rtol = 8 * float(np.finfo(dtype).eps)
            assert abs(float(result) - expected) <= rtol * abs(expected) + tiny
            p = 1 / (1 + mpmath.exp(-value)) if abs(value) < 1e4 else mpmath.mpf(value > 0)
            q = 1 / (1 + mpmath.exp(value)) if abs(value) < 1e4 else mpmath.mpf(value < 0)
            assert abs(float(slope) - ((1 - t) * p - t * q)) <= rtol * (p + q) * max(t, 1 - t)
    assert losses.binary_cross_entropy(x, np.full(x.shape, t), from_logits=True, reduction="sum").item() == f(x).item()


def mp_cross_entropy(x, label):
    return mpmath.log(sum(mpmath.exp(mpmath.mpf(float(v)) - float(x[label])) for v in x))


def test_softmax_cross_entropy_with_integer_and_one_hot_labels():
    with mpmath.workdps(40):
        expected = [float(mp_cross_entropy(x, k)) for x, k in zip(LOGITS, LABELS)]
    for labels in (LABELS, LABELS.astype(np.uint8), list(LABELS), np.eye(4)[LABELS], np.eye(4, dtype=int)[LABELS]):
        got = losses.softmax_cross_entropy(LOGITS, labels, reduction="none")
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-14)
        assert losses.softmax_cross_entropy(LOGITS, labels).item() == pytest.approx(np.mean(expected), rel=1e-14)
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    for labels in (LABELS, np.eye(4)[LABELS]):
        grad = fg.grad(lambda x: losses.softmax_cross_entropy(x, labels))(LOGITS)
        np.testing.assert_allclose(grad, (softmax - np.eye(4)[LABELS]) / 5, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_cross_entropy_is_stable(dtype):
    x = np.array([[1e30, 0, 0], [-1e30, 1e30, 0], [1000, 0, -1000]], dtype)
    for labels in ([0, 1, 2], np.eye(3)):
        got = losses.softmax_cross_entropy(x, labels, reduction="none").numpy()
        assert got.dtype == dtype
        np.testing.assert_allclose(got, [0, 0, 2000])
        grad = fg.grad(lambda x: losses.softmax_cross_entropy(x, labels, reduction="sum"))(x)
        np.testing.assert_allclose(grad, [[0, 0, 0], [0, 0, 0], [1, 0, -1]], atol=1e-30)


def test_softmax_cross_entropy_of_any_rank():
    got = losses.softmax_cross_entropy(LOGITS[0], 2, reduction="none")
    assert got.shape == ()
    x = LOGITS[:4].reshape(2, 2, 4)
    got = losses.softmax_cross_entropy(x, LABELS[:4].reshape(2, 2), reduction="none")
    assert got.shape == (2, 2)
    flat = losses.softmax_cross_entropy(LOGITS[:4], LABELS[:4], reduction="none")
    np.testing.assert_array_equal(got.numpy().ravel(), flat.numpy())
    # two classes and a bool label a row
    np.testing.assert_array_equal(
        losses.softmax_cross_entropy(LOGITS[:2, :2], np.array([True, False]), reduction="none").numpy(),
        losses.softmax_cross_entropy(LOGITS[:2, :2], np.array([1, 0]), reduction="none").numpy(),
    )


@pytest.mark.parametrize(("f", "x", "t"), PAIRS, ids=ids)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients(f, x, t, reduction):
    fg.check_grads(lambda x: f(x, t, reduction=reduction), (x,))


@pytest.mark.parametrize(("f", "x", "t"), PAIRS, ids=ids)
def test_float32_is_kept_whatever_the_targets(f, x, t):
    x = x.astype(np.float32)
    assert f(x, t).dtype == np.float32
    assert fg.grad(lambda x: f(x, t))(x).dtype == np.float32
    x.flags.writeable = False
    assert f(x, t).shape == ()


@pytest.mark.parametrize("f", [losses.mse, losses.mae, losses.huber], ids=ids)
def test_gradients_reach_targets_that_are_tensors(f):
    fg.check_grads(lambda p, t: f(p, t), (P, T))


@given(st.integers(1, 5), st.integers(1, 4))
def test_cross_entropy_is_at_least_zero_and_mean_is_sum_over_n(rows, classes):
    x = np.random.default_rng(rows * 10 + classes).standard_normal((rows, classes))
    labels = np.arange(rows) % classes
    each = losses.softmax_cross_entropy(x, labels, reduction="none").numpy()
    assert (each >= 0).all()
    assert losses.softmax_cross_entropy(x, labels).item() == pytest.approx(each.sum() / rows)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.mse(np.zeros((4, 1)), np.zeros(4)),
            ValueError,
            "mse: predictions of shape (4, 1) and targets of shape (4,): the shapes must be equal; "
            "use reshape on one of them",
        ),
        (
            lambda: losses.mae([1.0], [1.0], reduction="avg"),
            ValueError,
            "mae: reduction is 'avg', expected 'mean', 'sum' or 'none'",
        ),
        (
            lambda: losses.huber([1.0], [1.0], delta=0),
            ValueError,
            "huber: delta is 0, expected a finite number above 0",
        ),
        (
            lambda: losses.huber([1.0], [2.0], delta=np.inf),
            ValueError,
            "huber: delta is inf, expected a finite number above 0",
        ),
        (
            lambda: losses.huber([1.0], [2.0], delta="1"),
            TypeError,
            "huber: delta is of type str, expected a number above 0",
        ),
        (
            lambda: losses.mse([1.0, 2.0], np.ma.array([1.0, 9.0], mask=[False, True])),
            TypeError,
            "mse: targets are a masked array, whose mask would be ignored; fill it with .filled() first",
        ),
        (
            lambda: losses.softmax_cross_entropy(LOGITS, np.ma.array(LABELS)),
            TypeError,
            "softmax_cross_entropy: labels are a masked array, whose mask would be ignored; fill it with .filled() "
            "first",
        ),
        (
            lambda: losses.mse([1.0], np.array([1 + 2j])),
            TypeError,
            "mse: targets have dtype complex128, expected real numbers",
        ),
        (
            lambda: losses.mse([1.0], ["1"]),
            TypeError,
            "mse: targets have dtype <U1, expected real numbers",
        ),
        (
            lambda: losses.binary_cross_entropy([0.5], [-1]),
            ValueError,
            "binary_cross_entropy: targets run from -1 to -1, expected values in [0, 1]; "
            "labels -1 and 1 become (t + 1) / 2",
        ),
        (
            lambda: losses.binary_cross_entropy_with_logits([0.5, 0.5], [0, 2]),
            ValueError,
            "binary_cross_entropy_with_logits: targets run from 0 to 2, expected values in [0, 1]; "
            "labels -1 and 1 become (t + 1) / 2",
        ),
        (
            lambda: losses.softmax_cross_entropy(LOGITS, LABELS.astype(float)),
            TypeError,
            "softmax_cross_entropy: labels have dtype float64, expected integers in 0..3: use labels.astype(np.int64)",
        ),
        (
            lambda: losses.softmax_cross_entropy(LOGITS, LABELS[:4]),
            ValueError,
            "softmax_cross_entropy: labels of shape (4,) do not fit logits of shape (5, 4): expected integers "
            "of shape (5,), or one-hot rows of shape (5, 4)",
        ),
        (
            lambda: losses.softmax_cross_entropy(1.0, 0),
            ValueError,
            "softmax_cross_entropy: logits are 0-d, expected shape (..., classes)",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize("label", [4, -1, 2**40])
def test_labels_out_of_range_name_the_row(label):
    labels = LABELS.copy()
    labels[3] = label
    with pytest.raises(IndexError) as caught:
        losses.softmax_cross_entropy(LOGITS, labels)
    assert f"label {label} of row 3 is not a class: with 4 logits a row, labels run from 0 to 3" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int16, np.int32, np.int64, np.float32])
def test_integers_are_computed_in_numpys_float_dtype(dtype):
    x, y = np.array([0, 1, 1], dtype), np.array([1, 0, 1], dtype)
    expected = np.result_type(np.sqrt(x), np.float32)  # NumPy's, but no float16
    assert fg.losses.mse(x, y).dtype == fg.losses.softmax_cross_entropy(x, 1).dtype == fg.fabs(x).dtype == expected
    assert fg.losses.mse(x, y).item() == pytest.approx(2 / 3, rel=1e-6)


# ---- second derivatives at seams, and terms of weight 0 --------------------------------------------------------------
SECOND = {  # by the prediction, for a target
    losses.mse: lambda x, t: np.full_like(x, 2),
    losses.mae: lambda x, t: np.zeros_like(x),
    losses.huber: lambda x, t: (np.abs(x - t) <= 1) * 1.0,
    losses.binary_cross_entropy: lambda x, t: 1 / np.square(np.where(t == 1, x, 1 - x)),
    losses.binary_cross_entropy_with_logits: lambda x, t: 1 / (2 + np.exp(x) + np.exp(-x)),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("f", SECOND, ids=ids)
def test_second_derivatives_are_the_closed_forms(f, dtype, reduction):
    x = np.array([-2.5, -1, -0.25, 0, 0.25, 1, 2.5], dtype)  # seams of huber and mae among them
    t = np.zeros(7, dtype)
    if f is losses.binary_cross_entropy:
        x, t = np.array([0.25, 0.75, 0.1, 0.9, 0.5, 0.01, 1], dtype), np.array([0, 1, 0, 1, 0, 1, 1], dtype)
    cost = lambda x: f(x, t, reduction=reduction)
    expected = np.diag(SECOND[f](x.astype(float), t)) / (len(x) if reduction == "mean" else 1)
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    for hessian in (fg.hessian(cost), fg.compile(fg.hessian(cost))):
        np.testing.assert_allclose(hessian(x), expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(fg.hvp(cost, (x,), (np.ones_like(x),)), expected.sum(0), rtol=rtol, atol=rtol)
    found = [fg.hessian(lambda e, k=k: f(e, t[k], reduction=reduction))(x[k]) for k in range(len(x))]
    np.testing.assert_allclose(found, SECOND[f](x.astype(float), t), rtol=rtol)


def test_second_derivative_of_softmax_cross_entropy():
    x = np.array([-np.inf, 0.0, 1.0])
    p = np.exp(x) / np.exp(x).sum()
    for labels in (np.array([0.0, 1.0, 0.0]), np.array(1), np.array([0.0, 0.25, 0.75])):
        found = fg.hessian(lambda x: losses.softmax_cross_entropy(x, labels))(x)
        np.testing.assert_allclose(found, np.diag(p) - np.outer(p, p), atol=1e-15)


def test_newton_starts_at_the_minimum_of_huber():
    f = lambda x: losses.huber(x, np.array([0.0, 1.0]))
    for delta in (0.5, 1.0, 3.0):
        found = fg.hessian(lambda x: losses.huber(x, np.zeros(()), delta=delta))
        assert [found(e) for e in (0.0, delta / 2, -delta, delta * 1.5, -1e30)] == [1, 1, 1, 0, 0]
    assert fg.minimize(f, np.array([0.0, 0.0]), method="Newton-CG").x == pytest.approx([0, 1])


# ---- terms of weight 0 -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wrap", [lambda f: f, fg.compile])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_class_of_weight_0_contributes_0(dtype, wrap):
    inf = np.inf
    x = np.array([[-inf, 0, 1], [-inf, -inf, 2], [0, -inf, 0]], dtype)
    hot = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    labels = hot.argmax(1)
    for reduction in ("none", "mean", "sum"):
        f = lambda x, t: losses.softmax_cross_entropy(x, t, reduction=reduction)
        found = np.asarray(wrap(f)(x, hot.astype(dtype)))
        np.testing.assert_allclose(found, np.asarray(f(x, labels)), rtol=1e-6)
        assert np.isfinite(found).all()
    g = wrap(fg.grad(lambda x, t: losses.softmax_cross_entropy(x, t, reduction="sum")))
    np.testing.assert_allclose(g(x, hot), g(x, labels), rtol=1e-6)
    assert f(np.array([-inf, 0.0]), np.array([1.0, 0.0])).item() == inf  # a weight that counts still does
    by_weight = fg.grad(lambda t: losses.softmax_cross_entropy(np.zeros((1, 2)), t))(np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(by_weight, np.log(2))  # and its own derivative at 0 is not lost


@pytest.mark.parametrize("wrap", [lambda f: f, fg.compile])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_logits_that_are_right_cost_nothing(dtype, wrap):
    x, t = np.array([np.inf, -np.inf, 0.5], dtype), np.array([1, 0, 0.5], dtype)
    f = lambda x, t: losses.binary_cross_entropy_with_logits(x, t, reduction="none")
    np.testing.assert_allclose(
        np.asarray(wrap(f)(x, t)), [0, 0, -0.5 * np.log(1 / (2 + np.exp(0.5) + np.exp(-0.5)))], rtol=1e-6
    )
    np.testing.assert_allclose(
        wrap(fg.grad(lambda x, t: fg.sum(f(x, t))))(x, t), [0, 0, 1 / (1 + np.exp(-0.5)) - 0.5], rtol=1e-6
    )
    assert np.isposinf(np.asarray(f(x[:2], 1 - t[:2]))).all()
    assert np.isnan(np.asarray(f(np.array([np.nan], dtype), np.array([1], dtype)))).all()
    by_target = fg.grad(lambda t: fg.sum(f(np.array([2.0, -3.0]), t)))(np.array([0.0, 1.0]))
    np.testing.assert_allclose(by_target, [-2, 3])
