"""``MLPClassifier`` and ``MLPRegressor``: scikit-learn's nets, trained by fastgrad's training steps.

The weights, the order of the rows and the rule by which training ends are drawn and computed as scikit-learn does, so
that with one random_state both take nearly the same steps (adam places its eps otherwise, in rounding of a step).
"""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _core, activations, losses, optim
from .._core import Tensor
from .._scipy.minimize import minimize
from .._train.step import TrainingStep, take_step
from .._transforms.grad import no_grad
from ._checks import check_choice, check_flags, check_number, row_weights

__all__ = ["MLPClassifier", "MLPRegressor"]

_ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {
    "identity": _core.asarray, "logistic": activations.sigmoid, "tanh": activations.tanh, "relu": activations.relu,
}  # fmt: skip
_OUTPUTS: dict[str, Callable[[Any], Tensor]] = {
    "identity": _core.asarray, "exp": _core.exp, "logistic": activations.sigmoid, "softmax": activations.softmax,
}  # fmt: skip


def _half_squares(y: Tensor, target: Tensor) -> Tensor:
    return 0.5 * _core.mean((y - target) ** 2, axis=1)


def _poisson(y: Tensor, target: Tensor) -> Tensor:
    """Half the deviance, of rates exp(y): without it the loss would not be 0 where the rate is right."""
    at_best = target * _core.log(_core.where(target > 0, target, 1.0)) - target
    return _core.mean(losses.poisson_nll(y, target, reduction="none") + at_best, axis=1)


def _logistic(y: Tensor, target: Tensor) -> Tensor:
    return _core.sum(losses.binary_cross_entropy_with_logits(y, target, reduction="none"), axis=1)


def _cross_entropy(y: Tensor, target: Tensor) -> Tensor:
    return losses.softmax_cross_entropy(y, target, reduction="none")


# The loss of each row, of what the last layer gives before its own activation.
_ROW_LOSSES = {"identity": _half_squares, "exp": _poisson, "logistic": _logistic, "softmax": _cross_entropy}


def _net(params: Any, x: Any, activation: Callable[[Any], Tensor]) -> Any:
    """What the last layer gives for rows x, before its own activation."""
    *hidden, last = zip(*params)
    for weights, bias in hidden:
        x = activation(x @ weights + bias)
    return x @ last[0] + last[1]


def _penalised(activation: str, output: str, alpha: float) -> Callable[..., Tensor]:
    """The loss that is minimised: the mean of those of the rows, and a penalty, of which each row bears a part."""
    act, row_losses = _ACTIVATIONS[activation], _ROW_LOSSES[output]

    def loss(params: Any, x: Any, target: Any, weight: Any = None) -> Any:
        found = row_losses(_net(params, x, act), target)
        if weight is None:
            total, count = _core.mean(found), x.shape[0]
        else:
            count = _core.sum(weight)
            total = _core.sum(found * weight) / count
        if alpha == 0:
            return total
        squares = [_core.sum(weights * weights) for weights in params[0]]
        return total + (0.5 * alpha) / count * sum(squares)

    return loss


class _MLP(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share. y is encoded by each: `_encoded` gives what the loss takes as targets."""

    loss = ""  # of a regressor, where it is a parameter
    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    _optimizer: optim.Optimizer | None = None
    _step: TrainingStep | None = None
    _step_key: tuple[Any, ...]

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
    ) -> None:
        self.hidden_layer_sizes, self.activation = hidden_layer_sizes, activation
        self.solver, self.alpha = solver, alpha
        self.batch_size, self.learning_rate, self.learning_rate_init = batch_size, learning_rate, learning_rate_init
        self.power_t, self.max_iter, self.shuffle, self.random_state = power_t, max_iter, shuffle, random_state
        self.tol, self.verbose, self.warm_start, self.momentum = tol, verbose, warm_start, momentum
        self.nesterovs_momentum, self.early_stopping = nesterovs_momentum, early_stopping
        self.validation_fraction, self.beta_1, self.beta_2, self.epsilon = validation_fraction, beta_1, beta_2, epsilon
        self.n_iter_no_change, self.max_fun = n_iter_no_change, max_fun

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train the net on rows X, of shape (n_samples, n_features), and targets y; returns self.

        y has shape (n_samples,) or (n_samples, n_outputs). A row of sample_weight 0 counts as if it were not there.
        """
        return self._fit(X, y, sample_weight, resume=bool(self.warm_start) and hasattr(self, "coefs_"))

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, resume: bool, one_epoch: bool = False, classes: Any = None
    ) -> Any:
        sizes = self._check_parameters()
        x, y = validate_data(
            self, X, y, multi_output=True, y_numeric=not hasattr(self, "predict_proba"),
            dtype=(np.float64, np.float32), reset=not resume,
        )  # fmt: skip
        x, y, weight = row_weights(self, sample_weight, x, y)
        target = self._encoded(y, x.dtype, resume, classes)
        if not resume:
            self._initialise([x.shape[1], *sizes, self.n_outputs_], x.dtype)
        if not (one_epoch and resume):
            self._optimizer = self._step = None
        if self.solver == "lbfgs":
            self._fit_at_once(x, target, weight)
        else:
            self._fit_by_batches(x, target, weight, one_epoch)
        return self

    def _initialise(self, sizes: list[int], dtype: np.dtype[Any]) -> None:
        """Weights as Glorot and Bengio (2010) draw them, and what is told of the training."""
        self._random_state = check_random_state(self.random_state)
        self.n_layers_, self.t_, self.n_iter_ = len(sizes), 0, 0
        self.coefs_, self.intercepts_ = [], []
        for rows, columns in itertools.pairwise(sizes):
            bound = math.sqrt((2 if self.activation == "logistic" else 6) / (rows + columns))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (rows, columns)).astype(dtype))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, columns).astype(dtype))
        self._unchanged = 0
        self.loss_curve_: list[float] = []
        self.best_loss_: float | None = None if self._stops_early() else math.inf
        self.validation_scores_: list[float] | None = [] if self._stops_early() else None
        self.best_validation_score_: float | None = -math.inf if self._stops_early() else None

    def _stops_early(self) -> bool:
        return bool(self.early_stopping) and self.solver != "lbfgs"

    def _loss(self) -> Callable[..., Tensor]:
        return _penalised(self.activation, self.out_activation_, float(self.alpha))

    def _fit_at_once(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> None:
        more = (x, target) if weight is None else (x, target, weight)
        found = minimize(
            self._loss(), (self.coefs_, self.intercepts_), more, method="L-BFGS-B",
            options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
        )  # fmt: skip
        self.coefs_, self.intercepts_ = found.x
        self.n_iter_, self.loss_ = int(found.nit), float(found.fun)
        if not np.isfinite(self.loss_):
            raise ValueError(_not_finite(self, f"the loss is {self.loss_}"))
        if not found.success:
            message = f"{type(self).__name__}: lbfgs did not converge: {found.message}; increase max_iter or max_fun"
            warnings.warn(message, ConvergenceWarning, stacklevel=4)

    def _hold_out(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> Any:
        """The rows to train on, of each of the three, and a list of those that are held out for validation."""
        parts = [x, target] if weight is None else [x, target, weight]
        # Classes are divided as in the whole.
        stratified = target if self.out_activation_ == "softmax" or (
            self.out_activation_ == "logistic" and self.n_outputs_ == 1
        ) else None  # fmt: skip
        parts = train_test_split(
            *parts, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratified
        )
        if len(parts[0]) == 0 or len(parts[1]) < 2:
            raise ValueError(
                f"{type(self).__name__}: the validation set is too small; increase validation_fraction or the "
                "number of rows"
            )
        return parts[0], parts[2], None if weight is None else parts[4], parts[1::2]

    def _next_rate(self, optimizer: Any) -> bool:
        """Set the rate after an epoch; False where the training ends, since neither it nor a smaller rate helps."""
        if self.learning_rate == "invscaling" and self.solver == "sgd":
            optimizer.learning_rate = self.learning_rate_init / (self.t_ + 1) ** self.power_t
        if self._unchanged > self.n_iter_no_change:
            if self.solver != "sgd" or self.learning_rate != "adaptive" or optimizer.rate <= 1e-6:
                return False
            optimizer.learning_rate = optimizer.rate / 5
            self._unchanged = 0
        return True

    def _fit_by_batches(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None, one_epoch: bool) -> None:
        """Epochs of training steps, until the loss or the validation score no longer improves."""
        stops_early, held_out = self._stops_early() and not one_epoch, None
        if stops_early:
            x, target, weight, held_out = self._hold_out(x, target, weight)
        batch = (x, target) if weight is None else (x, target, weight)
        n = len(x)
        size = min(200, n) if isinstance(self.batch_size, str) else min(self.batch_size, n)
        if not isinstance(self.batch_size, str) and self.batch_size > n:
            warnings.warn(
                f"{type(self).__name__}: batch_size={self.batch_size} is larger than the data, which has {n} rows",
                UserWarning,
                stacklevel=4,
            )
        step, order, best = self._training_step(), np.arange(n), None
        optimizer, self.n_iter_ = step.optimizer, 0
        with _core.DeferredInterrupt() as interrupt:
            for _ in range(1 if one_epoch else self.max_iter):
                if self.shuffle:
                    within = np.arange(n)
                    self._random_state.shuffle(within)
                    order = order[within]
                total = 0.0
                try:
                    for start in range(0, n, size):
                        rows = order[start : start + size]
                        total += take_step(step, batch, rows) * len(rows)
                        if interrupt.seen:
                            break
                except FloatingPointError as error:
                    raise ValueError(_not_finite(self, str(error))) from None
                if interrupt.seen:
                    warnings.warn(f"{type(self).__name__}: training was interrupted", UserWarning, stacklevel=4)
                    break
                self.n_iter_ += 1
                self.t_ += n
                self.loss_ = total / n
                self.loss_curve_.append(self.loss_)
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                if held_out is None:
                    improves = self._follow_loss(self.loss_)
                else:
                    improves = self._follow_score(self._score_of(*held_out))
                    if improves:
                        best = copy.deepcopy((self.coefs_, self.intercepts_))
                if not self._next_rate(optimizer):
                    break
            else:
                if not one_epoch:
                    warnings.warn(
                        f"{type(self).__name__}: max_iter={self.max_iter} epochs were taken, and the training has not "
                        "converged",
                        ConvergenceWarning,
                        stacklevel=4,
                    )
        if best is not None:
            for live, kept in zip([*self.coefs_, *self.intercepts_], [*best[0], *best[1]]):
                live[...] = kept

    def _training_step(self) -> TrainingStep:
        """The step of the last call, with its programs, where it still is that of these parameters."""
        key = self.activation, self.out_activation_, self.alpha
        params = self.coefs_, self.intercepts_
        if self._step is None or self._step_key != key or self._step.params[0] is not self.coefs_:
            optimizer = self._new_optimizer() if self._optimizer is None else self._optimizer
            self._optimizer, self._step_key = optimizer, key
            self._step = TrainingStep(self._loss(), params, optimizer, _name=type(self).__name__)
        return self._step

    def _new_optimizer(self) -> optim.Optimizer:
        if isinstance(self.solver, optim.Optimizer):
            return copy.deepcopy(self.solver)
        if self.solver == "adam":
            return optim.Adam(self.learning_rate_init, (self.beta_1, self.beta_2), self.epsilon)
        nesterov = bool(self.nesterovs_momentum) and self.momentum > 0
        return optim.SGD(self.learning_rate_init, momentum=self.momentum, nesterov=nesterov)

    def _follow_loss(self, loss: float) -> bool:
        """Count the epochs in a row that did not lower the loss by tol; whether this one has the lowest."""
        best = math.inf if self.best_loss_ is None else self.best_loss_
        self._unchanged = self._unchanged + 1 if loss > best - self.tol else 0
        self.best_loss_ = min(best, loss)
        return loss < best

    def _follow_score(self, score: float) -> bool:
        """The same of the score on the validation set."""
        best = -math.inf if self.best_validation_score_ is None else self.best_validation_score_
        self.validation_scores_ = [*(self.validation_scores_ or []), score]
        if self.verbose:
            print(f"Validation score: {score:f}")
        self._unchanged = self._unchanged + 1 if score < best + self.tol else 0
        self.best_validation_score_ = max(best, score)
        return score > best

    def _raw(self, x: np.ndarray) -> np.ndarray:
        with no_grad():
            found: np.ndarray = _net(
                (self.coefs_, self.intercepts_), _core.asarray(x), _ACTIVATIONS[self.activation]
            ).numpy()
        return found

    def _outputs(self, raw: np.ndarray) -> np.ndarray:
        with no_grad():
            return np.array(_OUTPUTS[self.out_activation_](raw).numpy())

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        x: np.ndarray = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return x.astype(self.coefs_[0].dtype, copy=False)

    def _check_parameters(self) -> list[int]:
        """Raise where a parameter is out of range; the sizes of the hidden layers."""
        check_choice(self, "activation", list(_ACTIVATIONS))
        if not isinstance(self.solver, optim.Optimizer):
            check_choice(self, "solver", ["lbfgs", "sgd", "adam"])
        check_choice(self, "learning_rate", ["constant", "invscaling", "adaptive"])
        for name in ("alpha", "tol"):
            check_number(self, name, 0)
        for name in ("learning_rate_init", "epsilon", "validation_fraction"):
            check_number(self, name, 0, 1 if name == "validation_fraction" else math.inf, above=True)
        check_number(self, "power_t", 0)
        for name in ("momentum", "beta_1", "beta_2"):
            check_number(self, name, 0, 1 + (name == "momentum") * np.finfo(float).eps)
        for name in ("max_iter", "max_fun", "n_iter_no_change"):
            check_number(self, name, 1, integer=True)
        if self.batch_size != "auto":
            check_number(self, "batch_size", 1, integer=True)
        check_flags(self, "shuffle", "verbose", "warm_start", "nesterovs_momentum", "early_stopping")
        given = self.hidden_layer_sizes
        sizes = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(n, (int, np.integer)) and n > 0 for n in sizes):
            raise ValueError(
                f"{type(self).__name__}: hidden_layer_sizes is {given!r}, expected integers of at least 1, one for "
                "each hidden layer"
            )
        return [int(n) for n in sizes]

    def __getstate__(self) -> dict[str, Any]:
        """Without the training step, whose programs are no data; the next `partial_fit` makes it anew."""
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key not in ("_step", "_step_key")}


def _has_batches(estimator: _MLP) -> bool:
    """Whether there is a `partial_fit`; AttributeError, which says why, if there is none."""
    if estimator.solver == "lbfgs":
        name = type(estimator).__name__
        raise AttributeError(f"{name}: partial_fit is there for solver='sgd' and 'adam', not for 'lbfgs'")
    return True


def _not_finite(estimator: _MLP, what: str) -> str:
    return f"{type(estimator).__name__}: {what}; bring the columns of X to one scale, or lower learning_rate_init"


class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc]
    """A net of fully connected layers that tells classes, by the parameters of scikit-learn's MLPClassifier.

    It minimises the mean cross-entropy of the rows, softmax for more than two classes, plus alpha / (2 n) times the
    sum of the squares of the weights, n rows in a batch.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter,
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction,
    beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As of ``sklearn.neural_network.MLPClassifier``. The solver may also be an optimizer of ``fastgrad.optim``, of
        which each fit uses a copy.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coefs_, intercepts_ : lists of arrays
        Of each layer, in the dtype of X, float32 or float64: shapes (n_in, n_out) and (n_out,).
    loss_, best_loss_ : float
    loss_curve_ : list of float
        The mean loss of each epoch.
    validation_scores_, best_validation_score_
        The accuracy on the rows that early_stopping holds out, after each epoch.
    n_iter_, t_ : int
        Epochs of the last fit, and rows seen in all.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_

    Raises ValueError or TypeError for a parameter out of range, for X or y that are no numbers, are not finite or do
    not fit, and ValueError where loss or gradients are not finite. Sparse X are refused. Ctrl-C ends the training with
    a warning. Source of the initial weights: Glorot and Bengio (2010).

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> net = fg.sklearn.MLPClassifier((8,), solver="lbfgs", random_state=1).fit(x, ["same", "other", "other", "same"])
    >>> list(map(str, net.predict([[0.0, 1.0], [1.0, 1.0]])))
    ['other', 'same']
    """

    classes_: np.ndarray

    @available_if(_has_batches)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """One epoch more on these rows; returns self. The first call names all classes that any call will have."""
        resume = hasattr(self, "coefs_")
        if not resume and classes is None:
            raise ValueError("MLPClassifier.partial_fit: classes must be given at the first call")
        if resume and classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(
                f"MLPClassifier.partial_fit: classes is {classes!r}, but was {self.classes_!r} at the first call"
            )
        return self._fit(X, y, sample_weight, resume, one_epoch=True, classes=classes)

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row; of several labels, an array of 0 and 1 for each."""
        raw = self._raw(self._checked(X))
        if self._is_multilabel:
            return (raw > 0).astype(np.int64)
        if self.out_activation_ == "softmax":
            return np.asarray(self.classes_[raw.argmax(axis=1)])
        return np.asarray(self.classes_[np.minimum(raw[:, 0] > 0, len(self.classes_) - 1).astype(np.int64)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, of shape (n_samples, n_classes)."""
        raw = self._raw(self._checked(X))
        p = self._outputs(raw)
        return p if self.out_activation_ == "softmax" or self._is_multilabel else np.hstack([self._outputs(-raw), p])

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of these, which do not underflow."""
        raw = self._raw(self._checked(X))
        with no_grad():
            if self.out_activation_ == "softmax":
                return np.array(activations.log_softmax(raw).numpy())
            yes = np.array(activations.log_sigmoid(raw).numpy())
            return yes if self._is_multilabel else np.hstack([activations.log_sigmoid(-raw).numpy(), yes])

    def _encoded(self, y: np.ndarray, dtype: np.dtype[Any], resume: bool, classes: Any) -> np.ndarray:
        """Targets of the loss: numbers of classes for softmax, else 0 and 1 of shape (n_samples, n_outputs)."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        multilabel = y.ndim == 2
        if multilabel:
            if not np.isin(y, (0, 1)).all():
                raise ValueError(
                    "MLPClassifier: y has several columns of classes, expected one, or 0 and 1 of each label"
                )
            found = np.arange(y.shape[1])
        else:
            found, numbers = np.unique(y, return_inverse=True)
        if not resume:
            self._is_multilabel = multilabel
            self.classes_ = found if classes is None else unique_labels(classes)
            several = not multilabel and len(self.classes_) > 2
            self.out_activation_ = "softmax" if several else "logistic"
            self.n_outputs_ = len(self.classes_) if several or multilabel else 1
        unknown = np.setdiff1d(found, self.classes_)
        if len(unknown) or multilabel != self._is_multilabel:
            raise ValueError(
                f"MLPClassifier: y has the classes {found}, expected some of those of the first fit, {self.classes_}; "
                "with warm_start=False another fit may have others"
            )
        if multilabel:
            return y.astype(dtype)
        numbers = np.searchsorted(self.classes_, found)[numbers]
        return numbers if self.out_activation_ == "softmax" else numbers.astype(dtype)[:, None]

    def _score_of(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
        raw = self._raw(x)
        predicted = raw.argmax(axis=1) if self.out_activation_ == "softmax" else (raw > 0).astype(np.int64)
        if target.ndim == 2:
            target = target.astype(np.int64)
            if target.shape[1] == 1:
                predicted, target = predicted[:, 0], target[:, 0]
        return float(accuracy_score(target, predicted, sample_weight=weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc]
    """A net of fully connected layers for numbers, by the parameters of scikit-learn's MLPRegressor.

    It minimises the mean over rows of half the squared error, or with loss="poisson" of half the deviance of counts,
    plus alpha / (2 n) times the sum of the squares of the weights, n rows in a batch.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        With "poisson" the net gives the logarithm of the rate.
    hidden_layer_sizes, activation, ...
        As of ``MLPClassifier``.

    Attributes are those of ``MLPClassifier`` but for ``classes_``; the validation score is R^2. y has shape
    (n_samples,) or (n_samples, n_outputs). Errors are those of ``MLPClassifier``.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> net = fg.sklearn.MLPRegressor(hidden_layer_sizes=(16,), solver="lbfgs", random_state=0, max_iter=1000)
    >>> net.fit(x, x[:, 0] ** 2).predict([[0.5]]).round(2)
    array([0.25])
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
    ) -> None:
        super().__init__(
            hidden_layer_sizes, activation, solver=solver, alpha=alpha, batch_size=batch_size,
            learning_rate=learning_rate, learning_rate_init=learning_rate_init, power_t=power_t, max_iter=max_iter,
            shuffle=shuffle, random_state=random_state, tol=tol, verbose=verbose, warm_start=warm_start,
            momentum=momentum, nesterovs_momentum=nesterovs_momentum, early_stopping=early_stopping,
            validation_fraction=validation_fraction, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon,
            n_iter_no_change=n_iter_no_change, max_fun=max_fun,
        )  # fmt: skip
        self.loss = loss

    @available_if(_has_batches)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch more on these rows; returns self."""
        return self._fit(X, y, sample_weight, hasattr(self, "coefs_"), one_epoch=True)

    def predict(self, X: Any) -> np.ndarray:
        """The number, or numbers, of each row: of shape (n_samples,) or (n_samples, n_outputs)."""
        y = self._outputs(self._raw(self._checked(X)))
        return y[:, 0] if y.shape[1] == 1 else y

    def _encoded(self, y: np.ndarray, dtype: np.dtype[Any], resume: bool, classes: Any) -> np.ndarray:
        check_choice(self, "loss", ["squared_error", "poisson"])
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        target = y.astype(dtype, copy=False).reshape(len(y), -1)
        if self.loss == "poisson" and np.any(target < 0):
            raise ValueError("MLPRegressor: y has negative entries, expected counts for loss='poisson'")
        if not resume:
            self.n_outputs_ = target.shape[1]
            self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        elif target.shape[1] != self.n_outputs_:
            raise ValueError(f"MLPRegressor: y has {target.shape[1]} columns, expected {self.n_outputs_} as before")
        return target

    def _score_of(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
        predicted = self._outputs(self._raw(x))
        return float(r2_score(target, predicted, sample_weight=weight)) if np.isfinite(predicted).all() else math.nan

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
