"""Loss functions of predictions and targets: one number, or one per element or row (`reduction="none"`).

Predictions and targets must have one shape; nothing is broadcast, because a (n, 1) against a (n,) would
silently become n x n. Targets that are not tensors are taken in the dtype of the predictions.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from . import _core
from ._core import Tensor
from ._numpy.creation import floating
from ._numpy.neural import log_softmax
from ._numpy.order import take_along_axis
from ._numpy.predicates import isfinite

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding", "focal", "gaussian_nll", "hinge",
    "huber", "kl_div", "mae", "mse", "nll", "poisson_nll", "smooth_l1", "softmax_cross_entropy", "triplet_margin",
]  # fmt: skip


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


Reduction = Literal["mean", "sum", "none"]


def mse(predictions: Any, targets: Any, *, reduction: Reduction = "mean") -> Tensor:
    """Squared error (prediction - target)^2, by default its mean.

    Any shape, the same for both. Raises ValueError if the shapes differ or for an unknown reduction.

    >>> import fastgrad as fg
    >>> fg.losses.mse([1.0, 2.0], [0.0, 4.0]).item()
    2.5
    """
    predictions, targets = _pair("mse", predictions, targets)
    return _reduce("mse", _core.square(predictions - targets), reduction)


def mae(predictions: Any, targets: Any, *, reduction: Reduction = "mean") -> Tensor:
    """Absolute error |prediction - target|, by default its mean; its derivative where they are equal is 0.

    Any shape, the same for both. Raises ValueError if the shapes differ or for an unknown reduction.

    >>> import fastgrad as fg
    >>> fg.losses.mae([1.0, 2.0], [0.0, 4.0]).item()
    1.5
    """
    predictions, targets = _pair("mae", predictions, targets)
    return _reduce("mae", _core.absolute(predictions - targets), reduction)


def huber(predictions: Any, targets: Any, *, delta: float = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Huber's loss: e^2 / 2 for an error |e| up to delta, delta (|e| - delta / 2) beyond; by default the mean.

    The second derivative is 1 up to delta, at delta too, and 0 beyond. Any shape, the same for both. Raises ValueError
    if the shapes differ, unless delta is above 0, or for an unknown reduction. Source: Huber, "Robust estimation of a
    location parameter" (1964).

    >>> import fastgrad as fg
    >>> fg.losses.huber([1.0, 2.0], [0.0, 5.0], reduction="none").tolist()
    [0.5, 2.5]
    """
    if not isinstance(delta, (int, float, np.number)):
        raise TypeError(f"huber: delta is of type {type(delta).__name__}, expected a number above 0")
    if not 0 < delta < np.inf:
        raise ValueError(f"huber: delta is {delta!r}, expected a finite number above 0")
    predictions, targets = _pair("huber", predictions, targets)
    error = predictions - targets
    # A large error is never squared, which could overflow.
    inner = _core.where(error < -delta, -delta, _core.where(error > delta, delta, error))
    return _reduce("huber", 0.5 * _core.square(inner) + delta * _core.absolute(error - inner), reduction)


def smooth_l1(predictions: Any, targets: Any, *, beta: float = 1.0, reduction: Reduction = "mean") -> Tensor:
    """The absolute error made smooth: e^2 / (2 beta) up to beta, |e| - beta / 2 beyond; by default the mean.

    That is Huber's loss divided by its delta; with beta 0 it is the absolute error. The second derivative is 1 / beta
    up to beta, at beta too, and 0 beyond. Any shape, the same for both. Raises ValueError if the shapes differ, for a
    beta below 0, or for an unknown reduction. Source: Girshick, "Fast R-CNN" (2015).

    >>> import fastgrad as fg
    >>> fg.losses.smooth_l1([1.0, 2.0], [0.0, 5.0], beta=2.0, reduction="none").tolist()
    [0.25, 2.0]
    """
    beta = _at_least_0("smooth_l1", "beta", beta)
    if beta == 0:
        predictions, targets = _pair("smooth_l1", predictions, targets)
        return _reduce("smooth_l1", _core.absolute(predictions - targets), reduction)
    predictions, targets = _pair("smooth_l1", predictions, targets)
    error = predictions - targets
    inner = _core.where(error < -beta, -beta, _core.where(error > beta, beta, error))
    return _reduce("smooth_l1", 0.5 / beta * _core.square(inner) + _core.absolute(error - inner), reduction)


def hinge(predictions: Any, targets: Any, *, reduction: Reduction = "mean") -> Tensor:
    """max(0, 1 - t x) for scores x and targets t of -1 or 1, by default the mean; the derivative where t x is 1 is 0.

    Any shape, the same for both. Raises ValueError if the shapes differ, or for an unknown reduction. Source: Cortes
    and Vapnik, "Support-vector networks" (1995).

    >>> import fastgrad as fg
    >>> fg.losses.hinge([2.0, 0.5, -1.0], [1, 1, 1], reduction="none").tolist()
    [0.0, 0.5, 2.0]
    """
    x, t = _pair("hinge", predictions, targets)
    return _reduce("hinge", _positive_part(1 - x * t), reduction)


def binary_cross_entropy(
    probabilities: Any, targets: Any, *, from_logits: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """Cross-entropy -(t log p + (1 - t) log(1 - p)) of probabilities p with targets t, by default the mean.

    Any shape, the same for both; targets are 0 or 1, or probabilities. A p of exactly 0 or 1 costs 0 where
    the target agrees; where it does not, p is taken as the nearest number inside (0, 1), so that the cost is
    finite, and its derivative there is 0. A p outside [0, 1] gives nan. Prefer logits, the x of
    p = sigmoid(x), with from_logits=True: exact over the whole range.

    Raises ValueError if the shapes differ, if an array of targets leaves [0, 1], or for an unknown reduction.

    >>> import fastgrad as fg
    >>> fg.losses.binary_cross_entropy([0.5, 1.0], [1, 1], reduction="none").tolist()
    [0.6931471805599453, 0.0]
    """
    if from_logits:
        return binary_cross_entropy_with_logits(probabilities, targets, reduction=reduction)
    name = "binary_cross_entropy"
    p, t = _pair(name, probabilities, targets)
    _check_probabilities(name, targets)
    info = np.finfo(p.dtype)
    above = _core.where(p == 0, info.tiny, p)
    below = _core.where(p == 1, 1 - info.epsneg, p)
    return _reduce(name, _core.log(above) * -t - _core.log1p(-below) * (1 - t), reduction)


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, pos_weight: Any = None, reduction: Reduction = "mean"
) -> Tensor:
    """Cross-entropy -(t log p + (1 - t) log(1 - p)) of p = sigmoid(logit) with targets t, by default the mean.

    Any shape, the same for both; targets are 0 or 1, or probabilities. Accurate for every logit, value and gradient; a
    term of weight 0 contributes 0, also at an infinite logit. pos_weight, a number or an array that broadcasts to the
    logits, multiplies the terms t log p of positive targets. Raises ValueError if the shapes differ, if an array of
    targets leaves [0, 1], or for an unknown reduction.

    >>> import fastgrad as fg
    >>> fg.losses.binary_cross_entropy_with_logits([0.0, 1000.0, -1000.0], [1, 1, 1], reduction="none").tolist()
    [0.6931471805599453, 0.0, 1000.0]
    """
    name = "binary_cross_entropy_with_logits"
    x, t = _pair(name, logits, targets)
    _check_probabilities(name, targets)
    right, wrong = _weighted(_core.log_sigmoid(x), t), _weighted(_core.log_sigmoid(-x), 1 - t)
    if pos_weight is not None:
        right = right * _weight(name, "pos_weight", pos_weight, x)
    return _reduce(name, -right - wrong, reduction)


def focal(
    logits: Any, targets: Any, *, alpha: float | None = 0.25, gamma: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    """Binary cross-entropy of p = sigmoid(logit), where what is right already counts little; by default the mean.

    alpha_t (1 - p_t)^gamma times the cross-entropy, where p_t = p and alpha_t = alpha for the target 1, p_t = 1 - p and
    alpha_t = 1 - alpha for 0; alpha=None leaves alpha_t out. Any shape, the same for both. Raises ValueError if the
    shapes differ, for alpha outside of [0, 1], a gamma below 0, targets outside of [0, 1], or an unknown reduction.
    Source: Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection" (2017); names and defaults are
    those of torchvision's ``sigmoid_focal_loss``.

    >>> import fastgrad as fg
    >>> fg.losses.focal([0.0, 4.0], [1, 1], reduction="none").numpy().round(6)
    array([4.3322e-02, 1.0000e-06])
    """
    name = "focal"
    gamma = _at_least_0(name, "gamma", gamma)
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"{name}: alpha is {alpha!r}, expected a number in [0, 1] or None")
    x, t = _pair(name, logits, targets)
    _check_probabilities(name, targets)
    costs = binary_cross_entropy_with_logits(x, t, reduction="none")
    if gamma:
        costs = costs * (_core.sigmoid(-x) * t + _core.sigmoid(x) * (1 - t)) ** gamma
    if alpha is not None:
        costs = costs * (alpha * t + (1 - alpha) * (1 - t))
    return _reduce(name, costs, reduction)


def softmax_cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of softmax(logits) with the true classes: one cost a row, by default their mean.

    logits has shape (..., classes). labels are integers 0..classes - 1 of shape (...), or one-hot rows (or any
    distributions) of the shape of the logits. Computed as logsumexp(x) - x[label], which is finite for every finite
    logit. A class of weight 0 contributes 0, also with the logit -inf.

    As in PyTorch's ``cross_entropy``, weight has one number for each class, which multiplies its costs, and the mean is
    then divided by the weights of the labels; rows with the label ignore_index cost 0 and do not count in the mean (nan
    if there are no others); label_smoothing mixes the labels with so much of the uniform distribution.

    Raises ValueError for shapes that do not match, a label_smoothing outside of [0, 1], an ignore_index with rows of
    distributions, or an unknown reduction, TypeError for labels that are not integers, IndexError for a label out of
    range. Source of label smoothing: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception
    architecture for computer vision" (2016).

    >>> import fastgrad as fg
    >>> fg.losses.softmax_cross_entropy([[0.0, 0.0], [1000.0, 0.0]], [1, 0], reduction="none").tolist()
    [0.6931471805599453, 0.0]
    >>> fg.losses.softmax_cross_entropy([[0.0, 0.0], [1.0, 0.0]], [1, -1], ignore_index=-1).item()
    0.6931471805599453
    """
    name = "softmax_cross_entropy"
    x = floating(logits)
    if x.ndim == 0:
        raise ValueError(f"{name}: logits are 0-d, expected shape (..., classes)")
    if not isinstance(labels, Tensor):
        labels = _array(name, "labels", labels)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing is {label_smoothing!r}, expected a number in [0, 1]")
    classes = x.shape[-1]
    weights = None if weight is None else _class_weights(name, weight, x)
    if labels.shape == x.shape:
        if ignore_index is not None:
            raise ValueError(f"{name}: ignore_index is given, but the labels are distributions")
        if labels.dtype != x.dtype and not (isinstance(labels, Tensor) and labels.requires_grad):
            labels = labels.astype(x.dtype)
        if label_smoothing:
            labels = labels * (1 - label_smoothing) + label_smoothing / classes
        terms = _weighted(log_softmax(x), labels)
        return _reduce(name, -_core.sum(terms if weights is None else terms * weights, axis=-1), reduction)
    labels = _labels(name, labels, x, f", or one-hot rows of shape {x.shape}")
    if weights is None and ignore_index is None and not label_smoothing:
        return _reduce(name, _core.cross_entropy(x, labels), reduction)
    safe, counts = _counted(labels, weights, ignore_index, x)
    costs = _core.cross_entropy(x, safe)
    if weights is not None:
        costs = costs * weights[safe]
    if label_smoothing:
        terms = -log_softmax(x)
        spread = _core.sum(terms if weights is None else terms * weights, axis=-1) / classes
        costs = (1 - label_smoothing) * costs + label_smoothing * spread
    return _reduce_counted(name, costs, counts, labels, ignore_index, reduction)


def nll(
    log_probabilities: Any,
    labels: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The negative logarithm of the probability of the true classes: one cost a row, by default their mean.

    log_probabilities has shape (..., classes), as of ``fastgrad.log_softmax``; labels are integers 0..classes - 1 of
    shape (...). weight, ignore_index and errors are those of `softmax_cross_entropy`, which is better of logits.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.losses.nll(np.log([[0.5, 0.5], [0.25, 0.75]]), [0, 1], reduction="none").numpy().round(6)
    array([0.693147, 0.287682])
    """
    name = "nll"
    x = floating(log_probabilities)
    if x.ndim == 0:
        raise ValueError(f"{name}: log_probabilities are 0-d, expected shape (..., classes)")
    labels = _labels(name, labels if isinstance(labels, Tensor) else _array(name, "labels", labels), x, "")
    weights = None if weight is None else _class_weights(name, weight, x)
    safe, counts = _counted(labels, weights, ignore_index, x)
    costs = -take_along_axis(x, safe[..., None], axis=-1)[..., 0]
    if weights is not None:
        costs = costs * weights[safe]
    return _reduce_counted(name, costs, counts, labels, ignore_index, reduction)


def kl_div(
    log_probabilities: Any,
    targets: Any,
    *,
    log_target: bool = False,
    reduction: Literal["mean", "sum", "none", "batchmean"] = "mean",
) -> Tensor:
    """The Kullback-Leibler divergence of targets t from exp(x): the terms t (log t - x), by default their mean.

    x are logarithms of probabilities; with log_target so are the targets. Where t is 0 the term is 0. Any shape, the
    same for both. "batchmean", the sum divided by the length of the first axis, is the divergence itself of rows that
    are distributions; "mean" divides by all elements, as PyTorch's. Raises ValueError if the shapes differ, or for an
    unknown reduction. Source: Kullback and Leibler, "On information and sufficiency" (1951).

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.losses.kl_div(np.log([[0.5, 0.5]]), [[1.0, 0.0]], reduction="batchmean").item()
    0.6931471805599453
    """
    name = "kl_div"
    x, t = _pair(name, log_probabilities, targets)
    t = floating(t)
    if log_target:
        terms = _weighted(t - x, _core.exp(t))
    else:
        is_zero = t == 0
        terms = _core.where(is_zero, 0, t * (_core.log(_core.where(is_zero, 1, t)) - x))
    if reduction == "batchmean":
        if not terms.ndim:
            raise ValueError(f"{name}: reduction is 'batchmean', but the predictions are 0-d")
        return _core.sum(terms) / terms.shape[0]
    return _reduce(name, terms, reduction, "'mean', 'sum', 'none' or 'batchmean'")


def poisson_nll(
    predictions: Any,
    targets: Any,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Tensor:
    """The negative log-likelihood of counts t under Poisson's distribution, without the constant log t!.

    exp(x) - t x, where x is the logarithm of the rate; with log_input=False, x is the rate: x - t log(x + eps). full
    adds Stirling's approximation of the constant, t log t - t + log(2 pi t) / 2, for targets above 1. Any shape, the
    same for both; by default the mean. Raises ValueError if the shapes differ, or for an unknown reduction.

    >>> import fastgrad as fg
    >>> fg.losses.poisson_nll([0.0, 1.0], [1.0, 0.0], reduction="none").numpy().round(6)
    array([1.      , 2.718282])
    """
    name = "poisson_nll"
    x, t = _pair(name, predictions, targets)
    costs = _core.exp(x) - t * x if log_input else x - t * _core.log(x + _at_least_0(name, "eps", eps))
    if full:
        t = floating(t)
        above = _core.where(t > 1, t, 1)
        constant = above * _core.log(above) - above + 0.5 * _core.log(2 * np.pi * above)
        costs = costs + _core.where(t > 1, constant, 0)
    return _reduce(name, costs, reduction)


def gaussian_nll(
    predictions: Any,
    targets: Any,
    var: Any,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> Tensor:
    """The negative log-likelihood of targets under normal distributions: (log v + (x - t)^2 / v) / 2.

    By default the mean. var is the variance, of the shape of the predictions, that without the last axis, or that with
    a last axis of 1 (one variance a row), or a number. v is max(var, eps), whose derivative is taken as that of var, as
    in PyTorch. full adds the constant log(2 pi) / 2. Raises ValueError if shapes do not fit, for an array of variances
    below 0, or for an unknown reduction. Source: Nix and Weigend, "Estimating the mean and variance of the target
    probability distribution" (1994).

    >>> import fastgrad as fg
    >>> fg.losses.gaussian_nll([1.0, 2.0], [1.0, 0.0], [1.0, 4.0], reduction="none").numpy().round(6)
    array([0.      , 1.193147])
    """
    name = "gaussian_nll"
    x, t = _pair(name, predictions, targets)
    eps = _at_least_0(name, "eps", eps)
    if not isinstance(var, Tensor):
        var = _weight(name, "var", var, x)
        if np.any(var < 0):
            raise ValueError(f"{name}: var has elements below 0, expected variances")
    v = floating(var)
    if v.ndim and v.shape not in (x.shape, x.shape[:-1], (*x.shape[:-1], 1)):
        raise ValueError(f"{name}: predictions of shape {x.shape} and var of shape {v.shape}: the shapes do not fit")
    if v.ndim and v.shape == x.shape[:-1] and v.shape != x.shape:
        v = v[..., None]
    v = v + _core.where(v < eps, eps - v, 0).detach()
    costs = 0.5 * (_core.log(v) + _core.square(x - t) / v)
    return _reduce(name, costs + 0.5 * math.log(2 * math.pi) if full else costs, reduction)


def cosine_embedding(x1: Any, x2: Any, targets: Any, *, margin: float = 0.0, reduction: Reduction = "mean") -> Tensor:
    """1 - c for pairs of rows that are alike (target 1), max(0, c - margin) for others (target -1), c their cosine.

    x1 and x2 have shape (..., n), targets shape (...); by default the mean. c = x1 x2 / sqrt((|x1|^2 + 1e-12)
    (|x2|^2 + 1e-12)), as PyTorch's; the derivative where c is margin is 0. Raises ValueError if the shapes do not fit,
    or for an unknown reduction.

    >>> import fastgrad as fg
    >>> round(fg.losses.cosine_embedding([[3.0, 4.0], [1.0, 0.0]], [[3.0, 4.0], [1.0, 1.0]], [1, -1]).item(), 6)
    0.353553
    """
    name = "cosine_embedding"
    a, b = _pair(name, x1, x2)
    if not a.ndim:
        raise ValueError(f"{name}: x1 and x2 are 0-d, expected shape (..., n)")
    t = targets if isinstance(targets, Tensor) else _array(name, "targets", targets)
    if t.shape != a.shape[:-1]:
        raise ValueError(
            f"{name}: targets of shape {t.shape} do not fit rows of shape {a.shape}: expected {a.shape[:-1]}"
        )
    of_a, of_b = (_core.sum(_core.square(x), axis=-1) + 1e-12 for x in (a, floating(b)))
    cosine = _core.sum(a * b, axis=-1) / _core.sqrt(of_a * of_b)
    return _reduce(name, _core.where(t == 1, 1 - cosine, _positive_part(cosine - margin)), reduction)


def triplet_margin(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) of rows, by default the mean.

    All have shape (..., n). d(a, b) is the p-norm of a - b + eps, as PyTorch's; with swap, the smaller one of
    d(anchor, negative) and d(positive, negative) is subtracted. Raises ValueError if the shapes differ, for a p or
    margin that is not above 0, or for an unknown reduction. Source: Balntas, Riba, Ponsa and Mikolajczyk, "Learning
    local feature descriptors with triplets and shallow convolutional neural networks" (2016).

    >>> import fastgrad as fg
    >>> round(fg.losses.triplet_margin([[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 2.0]]).item(), 4)
    4.0
    """
    name = "triplet_margin"
    for what, value in (("margin", margin), ("p", p)):
        if not _at_least_0(name, what, value) > 0:
            raise ValueError(f"{name}: {what} is {value!r}, expected a finite number above 0")
    a, b = _pair(name, anchor, positive)
    _, c = _pair(name, a, negative)
    if not a.ndim:
        raise ValueError(f"{name}: anchor is 0-d, expected shape (..., n)")

    def distance(x: Any, y: Any) -> Tensor:
        difference = x - y + eps
        if p == 2:
            return _core.sqrt(_core.sum(_core.square(difference), axis=-1))
        return _core.sum(_core.absolute(difference) ** p, axis=-1) ** (1 / p)

    far = distance(a, c)
    if swap:
        far = _core.minimum(far, distance(floating(b), c))
    return _reduce(name, _positive_part(distance(a, b) - far + margin), reduction)


def _at_least_0(name: str, what: str, value: Any) -> float:
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}: {what} is of type {type(value).__name__}, expected a number of at least 0")
    if not 0 <= value < np.inf:
        raise ValueError(f"{name}: {what} is {value!r}, expected a finite number of at least 0")
    return float(value)


def _positive_part(x: Tensor) -> Tensor:
    """max(0, x), whose derivative at 0 is 0."""
    part: Tensor = _core.where(x <= 0, 0, x)
    return part


def _weight(name: str, what: str, weight: Any, x: Tensor) -> Any:
    """Weights in the dtype of x."""
    return weight if isinstance(weight, Tensor) else _array(name, what, weight).astype(x.dtype, copy=False)


def _class_weights(name: str, weight: Any, x: Tensor) -> Tensor:
    weights = _weight(name, "weight", weight, x)
    if weights.shape != x.shape[-1:]:
        raise ValueError(
            f"{name}: weight has shape {weights.shape}, expected one number for each of {x.shape[-1]} classes"
        )
    return floating(weights)


def _labels(name: str, labels: Any, x: Tensor, other: str) -> Any:
    """Labels of the rows of x as int64."""
    rows = x.shape[:-1]
    if labels.shape != rows:
        what = "logits" if other else "log_probabilities"
        raise ValueError(
            f"{name}: labels of shape {labels.shape} do not fit {what} of shape {x.shape}: expected integers "
            f"of shape {rows}{other}"
        )
    if labels.dtype.kind not in "iub":
        raise TypeError(
            f"{name}: labels have dtype {labels.dtype}, expected integers in 0..{x.shape[-1] - 1}: "
            "use labels.astype(np.int64)"
        )
    return labels if labels.dtype == np.int64 else labels.astype(np.int64)


def _counted(labels: Any, weights: Tensor | None, ignore_index: int | None, x: Tensor) -> tuple[Any, Any]:
    """Labels with 0 in the place of those that are ignored, and how much each row counts in a mean: None is 1."""
    where: Any = _core.where if isinstance(labels, Tensor) else np.where
    safe = labels if ignore_index is None else where(labels == ignore_index, 0, labels)
    counts = None if weights is None else weights[safe]
    if ignore_index is not None:
        ones = np.ones((), x.dtype) if counts is None else counts
        counts = _core.where(labels == ignore_index, 0, ones)
    return safe, counts


def _reduce_counted(
    name: str, costs: Tensor, counts: Any, labels: Any, ignore_index: int | None, reduction: Reduction
) -> Tensor:
    if ignore_index is not None:
        costs = _core.where(labels == ignore_index, 0, costs)
    if reduction == "mean" and counts is not None:
        return _core.sum(costs) / _core.sum(counts)
    return _reduce(name, costs, reduction)


def _weighted(x: Tensor, weights: Any) -> Tensor:
    """x * weights, and 0 where the weight is 0 and x, a logarithm of a probability, is -inf."""
    terms: Tensor = _core.where((weights == 0) & ~isfinite(x), 0, x) * weights
    return terms


def _array(name: str, what: str, x: Any) -> np.ndarray:
    if _core.is_masked(x):
        raise TypeError(f"{name}: {what} are a masked array, whose mask would be ignored; fill it with .filled() first")
    return np.asarray(x)


def _pair(name: str, predictions: Any, targets: Any) -> tuple[Tensor, Any]:
    """Predictions as a floating tensor, targets of the same shape and, unless a tensor, of its dtype."""
    x = floating(predictions)
    if not isinstance(targets, Tensor):
        targets = _array(name, "targets", targets)
        if targets.dtype.kind not in "fiub":
            raise TypeError(f"{name}: targets have dtype {targets.dtype}, expected real numbers")
        targets = targets.astype(x.dtype, copy=False)
    if targets.shape != x.shape:
        raise ValueError(
            f"{name}: predictions of shape {x.shape} and targets of shape {targets.shape}: "
            "the shapes must be equal; use reshape on one of them"
        )
    return x, targets


def _check_probabilities(name: str, targets: Any) -> None:
    if isinstance(targets, Tensor):
        return
    targets = np.asarray(targets)
    if targets.size and not (0 <= targets.min() and targets.max() <= 1):
        raise ValueError(
            f"{name}: targets run from {targets.min()} to {targets.max()}, expected values in [0, 1]; "
            "labels -1 and 1 become (t + 1) / 2"
        )


def _reduce(name: str, losses: Tensor, reduction: str, known: str = "'mean', 'sum' or 'none'") -> Tensor:
    if reduction == "mean":
        return _core.mean(losses)
    if reduction == "sum":
        return _core.sum(losses)
    if reduction == "none":
        return losses
    raise ValueError(f"{name}: reduction is {reduction!r}, expected {known}")
