"""The losses that PyTorch has, against their formulas in NumPy; weights, ignored labels; derivatives at seams."""

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg
from fastgrad import losses

RNG = np.random.default_rng(0)
P, T = RNG.standard_normal((2, 4, 3))
SIGNS, BITS = RNG.choice([-1.0, 1.0], (4, 3)), RNG.integers(0, 2, (4, 3))
COUNTS, V = RNG.integers(0, 5, (4, 3)), RNG.uniform(0.1, 2, (4, 3))
A, B, C = RNG.standard_normal((3, 5, 4))
LOGITS, LABELS = RNG.standard_normal((6, 4)), np.array([0, 3, 1, 1, 2, 3])
W = np.array([0.5, 2.0, 1.0, 0.25])
sigmoid = lambda x: 1 / (1 + np.exp(-x))


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x), -1, keepdims=True))


def kl(x, t, log_target=False):
    return np.exp(t) * (t - x) if log_target else np.where(t > 0, t * (np.log(np.where(t > 0, t, 1)) - x), 0)


def focal(x, t, alpha=0.25, gamma=2.0):
    p = sigmoid(x)
    right = np.where(t == 1, p, 1 - p)
    scale = 1 if alpha is None else np.where(t == 1, alpha, 1 - alpha)
    return -scale * (1 - right) ** gamma * np.log(right)


def smooth_l1(p, t, beta=1.0):
    return np.where(abs(p - t) < beta, (p - t) ** 2 / 2 / beta, abs(p - t) - beta / 2)


def poisson(x, t, log_input=True, full=False, eps=1e-8):
    cost = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    stirling = t * np.log(np.maximum(t, 1)) - t + 0.5 * np.log(2 * np.pi * np.maximum(t, 1))
    return cost + np.where(t > 1, stirling, 0) * full


def gaussian(x, t, var, full=False, eps=1e-6):
    v = np.maximum(var, eps)
    return 0.5 * (np.log(v) + (x - t) ** 2 / v) + full * 0.5 * np.log(2 * np.pi)


def cosine(a, b, t, margin=0.0):
    c = np.sum(a * b, -1) / np.sqrt((np.sum(a * a, -1) + 1e-12) * (np.sum(b * b, -1) + 1e-12))
    return np.where(t == 1, 1 - c, np.maximum(0, c - margin))


def triplet(a, b, c, margin=1.0, p=2.0, eps=1e-6, swap=False):
    d = lambda x, y: np.sum(np.abs(x - y + eps) ** p, -1) ** (1 / p)
    return np.maximum(0, margin + d(a, b) - (np.minimum(d(a, c), d(b, c)) if swap else d(a, c)))


DISTRIBUTIONS = np.exp(log_softmax(P))
CASES = [
    (losses.smooth_l1, smooth_l1, (P, T), [{}, {"beta": 0.3}]),
    (losses.hinge, lambda p, t: np.maximum(0, 1 - p * t), (P, SIGNS), [{}]),
    (losses.focal, focal, (P, BITS), [{}, {"alpha": None, "gamma": 0.0}, {"gamma": 1.5, "alpha": 0.5}]),
    (losses.kl_div, kl, (P, DISTRIBUTIONS), [{}]),
    (losses.kl_div, kl, (P, np.where(BITS, DISTRIBUTIONS, 0)), [{}]),
    (losses.kl_div, kl, (P, T), [{"log_target": True}]),
    (losses.poisson_nll, poisson, (P, COUNTS), [{}, {"full": True}]),
    (losses.poisson_nll, poisson, (V, COUNTS), [{"log_input": False}]),
    (losses.gaussian_nll, gaussian, (P, T, V), [{}, {"full": True}, {"eps": 0.7}]),
    (losses.cosine_embedding, cosine, (A, B, np.array([1, -1, 1, -1, -1])), [{}, {"margin": 0.2}]),
    (losses.triplet_margin, triplet, (A, B, C), [{}, {"p": 3.0, "swap": True}, {"margin": 0.1}]),
]  # fmt: skip


@pytest.mark.parametrize(("f", "oracle", "args", "options"), CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_values_and_derivatives(f, oracle, args, options):
    for option in options:
        expected = oracle(*args, **option)
        np.testing.assert_allclose(f(*args, **option, reduction="none").numpy(), expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(f(*args, **option, reduction="sum").item(), expected.sum(), rtol=1e-12)
        compiled = fg.compile(lambda *a: f(*a, **option))
        for _ in range(2):
            np.testing.assert_allclose(compiled(*args), expected.mean(), rtol=1e-12)
        fg.check_grads(lambda x: f(x, *args[1:], **option, reduction="sum"), (args[0],), order=2)
        single = f(args[0].astype(np.float32), *args[1:], **option)
        assert single.dtype == np.float32


def test_batchmean_and_variances_of_rows():
    x, t = P, DISTRIBUTIONS
    np.testing.assert_allclose(losses.kl_div(x, t, reduction="batchmean").item(), kl(x, t).sum() / 4, rtol=1e-12)
    for var in (V[:, 0], V[:, :1]):
        np.testing.assert_allclose(losses.gaussian_nll(P, T, var).item(), gaussian(P, T, V[:, :1]).mean(), rtol=1e-12)
    slope = fg.grad(lambda v: losses.gaussian_nll(P, P, v, eps=1e-2, reduction="sum"))(np.full((4, 3), 1e-9))
    np.testing.assert_allclose(slope, 0.5 / 1e-2)  # as of var itself, as in PyTorch
    np.testing.assert_allclose(
        losses.binary_cross_entropy_with_logits(P, BITS, pos_weight=[1.0, 2.0, 3.0], reduction="none").numpy(),
        -(np.array([1, 2, 3]) * BITS * np.log(sigmoid(P)) + (1 - BITS) * np.log(sigmoid(-P))), rtol=1e-12,
    )  # fmt: skip


def costs(x, labels, weight, smoothing):
    """PyTorch's cross_entropy, row by row."""
    logs = log_softmax(x)
    return np.array([
        -(1 - smoothing) * weight[k] * row[k] - smoothing / len(row) * np.sum(weight * row)
        for row, k in zip(logs, labels)
    ])  # fmt: skip


@pytest.mark.parametrize("weight", [None, W])
@pytest.mark.parametrize("ignored", [None, 1, -100])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_cross_entropies_with_weights_ignored_labels_and_smoothing(weight, ignored, smoothing, as_tensor):
    labels = LABELS.copy()
    if ignored == -100:
        labels[2] = -100
    counted = labels != ignored if ignored is not None else np.ones(6, bool)
    w = np.ones(4) if weight is None else weight
    safe = np.where(counted, labels, 0)
    expected = np.where(counted, costs(LOGITS, safe, w, smoothing), 0)
    total = np.sum(w[safe] * counted)
    options = {"weight": weight, "ignore_index": ignored, "label_smoothing": smoothing}
    given = fg.asarray(labels) if as_tensor else labels
    for run in (lambda f: f, fg.compile):
        f = run(lambda x: losses.softmax_cross_entropy(x, given, **options, reduction="none"))
        np.testing.assert_allclose(np.asarray(f(LOGITS)), expected, rtol=1e-12, atol=1e-15)
        f = run(lambda x, k: losses.softmax_cross_entropy(x, k, **options))
        np.testing.assert_allclose(float(f(LOGITS, labels)), expected.sum() / total, rtol=1e-12)
    fg.check_grads(lambda x: losses.softmax_cross_entropy(x, given, **options), (LOGITS,), order=2)
    if not smoothing:
        del options["label_smoothing"]
        found = losses.nll(log_softmax(LOGITS), given, **options, reduction="none").numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(losses.nll(log_softmax(LOGITS), given, **options).item(), expected.sum() / total)
    if ignored is None:
        rows = losses.softmax_cross_entropy(LOGITS, np.eye(4)[LABELS], weight=weight, label_smoothing=smoothing).item()
        np.testing.assert_allclose(rows, expected.mean(), rtol=1e-12)


def test_nothing_to_count_is_nan_and_an_ignored_row_has_no_gradient():
    assert np.isnan(losses.softmax_cross_entropy(LOGITS, np.full(6, -1), ignore_index=-1).item())
    slope = fg.grad(lambda x: losses.softmax_cross_entropy(x, LABELS, ignore_index=1))(LOGITS)
    assert np.all(slope[2:4] == 0) and np.all(slope[[0, 1, 4, 5]] != 0)


def twice(f, x):
    g = fg.grad(f)
    return [float(g(x)), float(fg.grad(g)(x))]


def test_derivatives_at_seams():
    assert twice(lambda x: losses.smooth_l1(x, 0.0, beta=0.5), 0.5) == [1.0, 2.0]
    assert twice(lambda x: losses.smooth_l1(x, 0.0, beta=0.5), np.nextafter(0.5, 1)) == [1.0, 0.0]
    assert twice(lambda x: losses.smooth_l1(x, 0.0, beta=0.0), 0.0) == [0.0, 0.0]
    assert twice(lambda x: losses.hinge(x, 1.0), 1.0) == [0.0, 0.0]
    assert twice(lambda x: losses.hinge(x, 1.0), 0.5) == [-1.0, 0.0]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: losses.softmax_cross_entropy(LOGITS, LABELS, weight=[1.0]),
            ValueError,
            "softmax_cross_entropy: weight has shape (1,), expected one number for each of 4 classes",
        ),
        (
            lambda: losses.softmax_cross_entropy(LOGITS, LABELS, label_smoothing=2),
            ValueError,
            "softmax_cross_entropy: label_smoothing is 2, expected a number in [0, 1]",
        ),
        (
            lambda: losses.softmax_cross_entropy(LOGITS, np.eye(4)[LABELS], ignore_index=0),
            ValueError,
            "softmax_cross_entropy: ignore_index is given, but the labels are distributions",
        ),
        (
            lambda: losses.kl_div(P, T, reduction="batch"),
            ValueError,
            "kl_div: reduction is 'batch', expected 'mean', 'sum', 'none' or 'batchmean'",
        ),
        (
            lambda: losses.gaussian_nll(P, T, V[:2]),
            ValueError,
            "gaussian_nll: predictions of shape (4, 3) and var of shape (2, 3): the shapes do not fit",
        ),
        (
            lambda: losses.nll(LOGITS, LABELS[:2]),
            ValueError,
            "nll: labels of shape (2,) do not fit log_probabilities of shape (6, 4): expected integers of shape (6,)",
        ),
        (
            lambda: losses.triplet_margin(A, B, C, p=0),
            ValueError,
            "triplet_margin: p is 0, expected a finite number above 0",
        ),
    ],
)
def test_errors(call, error, text):
    with raises_text(error, text):
        call()
