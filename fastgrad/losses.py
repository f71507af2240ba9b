"""Loss functions of predictions and targets: one number, or one per element or row (`reduction="none"`).

Predictions and targets must have one shape; nothing is broadcast, because a (n, 1) against a (n,) would
silently become n x n. Targets that are not tensors are taken in the dtype of the predictions.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from . import _core
from ._core import Tensor
from ._numpy.creation import floating
from ._numpy.neural import log_softmax
from ._numpy.predicates import isfinite

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "huber",
    "mae",
    "mse",
    "softmax_cross_entropy",
]

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


def binary_cross_entropy_with_logits(logits: Any, targets: Any, *, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy -(t log p + (1 - t) log(1 - p)) of p = sigmoid(logit) with targets t, by default the mean.

    Any shape, the same for both; targets are 0 or 1, or probabilities. Accurate for every logit, value and gradient; a
    term of weight 0 contributes 0, also at an infinite logit. Raises ValueError if the shapes differ, if an array of
    targets leaves [0, 1], or for an unknown reduction.

    >>> import fastgrad as fg
    >>> fg.losses.binary_cross_entropy_with_logits([0.0, 1000.0, -1000.0], [1, 1, 1], reduction="none").tolist()
    [0.6931471805599453, 0.0, 1000.0]
    """
    name = "binary_cross_entropy_with_logits"
    x, t = _pair(name, logits, targets)
    _check_probabilities(name, targets)
    right, wrong = _weighted(_core.log_sigmoid(x), t), _weighted(_core.log_sigmoid(-x), 1 - t)
    return _reduce(name, -right - wrong, reduction)


def softmax_cross_entropy(logits: Any, labels: Any, *, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy of softmax(logits) with the true classes: one cost a row, by default their mean.

    logits has shape (..., classes). labels are integers 0..classes - 1 of shape (...), or one-hot rows (or any
    distributions) of the shape of the logits. Computed as logsumexp(x) - x[label], which is finite for every finite
    logit. A class of weight 0 contributes 0, also with the logit -inf. Raises ValueError for shapes that do not match
    or an unknown reduction, TypeError for labels that are not integers, IndexError for a label out of range.

    >>> import fastgrad as fg
    >>> fg.losses.softmax_cross_entropy([[0.0, 0.0], [1000.0, 0.0]], [1, 0], reduction="none").tolist()
    [0.6931471805599453, 0.0]
    """
    name = "softmax_cross_entropy"
    x = floating(logits)
    if x.ndim == 0:
        raise ValueError(f"{name}: logits are 0-d, expected shape (..., classes)")
    if not isinstance(labels, Tensor):
        labels = _array(name, "labels", labels)
    classes, rows = x.shape[-1], x.shape[:-1]
    if labels.shape == x.shape:
        if labels.dtype != x.dtype and not (isinstance(labels, Tensor) and labels.requires_grad):
            labels = labels.astype(x.dtype)
        return _reduce(name, -_core.sum(_weighted(log_softmax(x), labels), axis=-1), reduction)
    if labels.shape != rows:
        raise ValueError(
            f"{name}: labels of shape {labels.shape} do not fit logits of shape {x.shape}: expected integers "
            f"of shape {rows}, or one-hot rows of shape {x.shape}"
        )
    if labels.dtype.kind not in "iub":
        raise TypeError(
            f"{name}: labels have dtype {labels.dtype}, expected integers in 0..{classes - 1}: "
            "use labels.astype(np.int64)"
        )
    if labels.dtype != np.int64:
        labels = labels.astype(np.int64)
    return _reduce(name, _core.cross_entropy(x, labels), reduction)


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


def _reduce(name: str, losses: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "mean":
        return _core.mean(losses)
    if reduction == "sum":
        return _core.sum(losses)
    if reduction == "none":
        return losses
    raise ValueError(f"{name}: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")
