"""Optimizers: each class names its row of csrc/optim.def, checks its arguments and computes the numbers of a step.

Adam and its relatives are in _moments.py. To add one, add row and class; docs/adding-an-operation.md shows how. Names
of arguments and defaults are PyTorch's, of Lion and LAMB optax's.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .._arguments import Range, flag, integer, number, shown
from . import _moments
from ._base import Groups, Optimizer, Rate, argument, checked, checked_flag
from ._lbfgs import LBFGS

__all__ = ["Adadelta", "Adafactor", "Adagrad", "Muon", "RMSprop", "Rprop", "SGD", "get"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked.

    With g' = g + weight_decay p:  buf = momentum buf + (1 - dampening) g' (at the first step buf = g'),
    p -= learning_rate d, where d is g' without momentum, buf with it, g' + momentum buf with nesterov.

    The formulas are PyTorch's; momentum is from Polyak (1964), the Nesterov form from Sutskever, Martens, Dahl
    and Hinton, "On the importance of initialization and momentum in deep learning" (2013).
    Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x, gradient = np.array([1.0]), np.array([2.0])
    >>> optimizer = fg.optim.SGD(learning_rate=0.1, momentum=0.5)
    >>> optimizer.step(x, gradient)
    >>> optimizer.step(x, gradient)
    >>> x
    array([0.5])
    """

    _row = "sgd"
    _takes_lazy_rows = True
    momentum, dampening, weight_decay = checked("momentum", 1), checked("dampening"), checked("weight_decay")
    nesterov = checked_flag("nesterov")

    def __init__(
        self,
        learning_rate: Rate = 1e-2,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.momentum, self.dampening, self.weight_decay = momentum, dampening, weight_decay
        self.nesterov = nesterov
        if self.nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                f"SGD: nesterov=True needs momentum above 0 and dampening=0, got momentum={momentum!r}, "
                f"dampening={dampening!r}"
            )
        if momentum:
            self._slots = ("momentum",)  # type: ignore[misc]

    def _numbers(self, rate: float) -> tuple[float, ...]:
        if self.momentum != 0 and not self._slots:
            raise ValueError("SGD: it lacks the state that momentum needs; give momentum when the optimizer is made")
        return rate, self.weight_decay, self.momentum, self.dampening, self.nesterov, self.steps == 0


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squares of gradients.

    With g' = g + weight_decay p:  s += g'^2,  p -= learning_rate / (1 + t lr_decay) g' / (sqrt(s) + eps), where t is
    the number of steps before and s begins with initial_accumulator_value.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization"
    (2011). Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.array([1.0])
    >>> fg.optim.Adagrad(learning_rate=0.5).step(x, np.array([3.0]))
    >>> x.round(6)
    array([0.5])
    """

    _row = "adagrad"
    _slots = ("sum",)
    eps, weight_decay, lr_decay = checked("eps"), checked("weight_decay"), checked("lr_decay")
    initial_accumulator_value = checked("initial_accumulator_value")

    def __init__(
        self,
        learning_rate: Rate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.lr_decay, self.weight_decay, self.eps = lr_decay, weight_decay, eps
        self.initial_accumulator_value = initial_accumulator_value

    def _numbers(self, rate: float) -> tuple[float, ...]:
        rate /= 1 + self.steps * self.lr_decay
        return rate, self.weight_decay, self.eps, self.initial_accumulator_value, self.steps == 0


class Adadelta(Optimizer):
    """Steps in the units of the parameter: scaled by the running means of squares of steps and of gradients.

    With g' = g + weight_decay p:  s = rho s + (1 - rho) g'^2,  d = g' sqrt(u + eps) / sqrt(s + eps),
    u = rho u + (1 - rho) d^2,  p -= learning_rate d.

    Source: Zeiler, "ADADELTA: an adaptive learning rate method" (2012), algorithm 1.
    Raises TypeError or ValueError for an argument out of range.

    >>> import fastgrad as fg
    >>> fg.optim.Adadelta()
    Adadelta(learning_rate=1.0, rho=0.9, eps=1e-06, weight_decay=0.0)
    """

    _row = "adadelta"
    _takes_lazy_rows = True
    _slots = ("squares", "steps")
    rho, eps, weight_decay = checked("rho", 1), checked("eps"), checked("weight_decay")

    def __init__(
        self,
        learning_rate: Rate = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.rho, self.eps, self.weight_decay = rho, eps, weight_decay

    def _numbers(self, rate: float) -> tuple[float, ...]:
        return rate, self.weight_decay, self.rho, self.eps


class RMSprop(Optimizer):
    """Steps divided by the root of the running mean of squares, or of the running variance if centered.

    With g' = g + weight_decay p:  s = alpha s + (1 - alpha) g'^2,  d = g' / (sqrt(s) + eps), where if centered
    s - a^2 stands for s, a = alpha a + (1 - alpha) g';  p -= learning_rate d, or with momentum
    b = momentum b + d,  p -= learning_rate b.

    Source: Tieleman and Hinton, "Lecture 6.5: RMSprop" (2012); centered by Graves, "Generating sequences with recurrent
    neural networks" (2013). Raises TypeError or ValueError for an argument out of range.

    >>> import fastgrad as fg
    >>> fg.optim.RMSprop(momentum=0.9)
    RMSprop(learning_rate=0.01, alpha=0.99, eps=1e-08, weight_decay=0.0, momentum=0.9, centered=False)
    """

    _row = "rmsprop"
    _takes_lazy_rows = True
    _slots: ClassVar[tuple[str, ...]] = ("squares",)
    _fixed = ("centered",)
    alpha, eps, weight_decay = checked("alpha", 1), checked("eps"), checked("weight_decay")
    momentum = checked("momentum", 1)

    def __init__(
        self,
        learning_rate: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.alpha, self.eps, self.weight_decay, self.momentum = alpha, eps, weight_decay, momentum
        slots = ["squares", *["mean"] * flag("RMSprop", "centered", centered), *["momentum"] * bool(self.momentum)]
        self._slots = tuple(slots)  # type: ignore[misc]

    @property
    def centered(self) -> bool:
        """Whether the running variance is divided by in the place of the mean of squares."""
        return "mean" in self._slots

    def _numbers(self, rate: float) -> tuple[float, ...]:
        if self.momentum != 0 and "momentum" not in self._slots:
            raise ValueError(
                "RMSprop: it lacks the state that momentum needs; give momentum when the optimizer is made"
            )
        return rate, self.weight_decay, self.alpha, self.eps, self.momentum, self.centered


class Rprop(Optimizer):
    """Steps by the sign of the gradient alone, of a size that grows while the sign stays: for gradients of all data.

    Each element has its step size, learning_rate at first. It is multiplied by etas[1] where the sign of the gradient
    is that of the step before, by etas[0] where it has changed, within step_sizes; where it has changed, there is no
    step.

    Source: Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm"
    (1993). Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x, optimizer = np.array([1.0]), fg.optim.Rprop(learning_rate=0.1)
    >>> for _ in range(3):
    ...     optimizer.step(x, 2 * x)
    >>> x.round(3)
    array([0.636])
    """

    _row = "rprop"
    _slots = ("gradient", "size")

    def __init__(
        self,
        learning_rate: Rate = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.etas, self.step_sizes = etas, step_sizes

    @argument
    def etas(self, value: Any) -> Any:
        first, second = self._pair("etas", value, "a number in [0, 1) and one above 1")
        etas = self._number("etas[0]", first, below=1), self._number("etas[1]", second)
        if not etas[1] > 1:
            raise ValueError(f"{type(self).__name__}: etas[1] is {value[1]!r}, expected a number above 1")
        return etas

    @argument
    def step_sizes(self, value: Any) -> Any:
        least, largest = self._pair("step_sizes", value, "the least and the largest size")
        return self._number("step_sizes[0]", least), self._number("step_sizes[1]", largest)

    def _numbers(self, rate: float) -> tuple[float, ...]:
        return rate, *self.etas, *self.step_sizes, self.steps == 0


class Adafactor(Optimizer):
    """Adam without momentum whose mean of squares, of a matrix, is kept as those of its rows and columns alone.

    The state of a parameter of shape (..., rows, columns) takes rows + columns numbers for each matrix. With
    b = t^beta2_decay, r += b (mean of g^2 over the columns - r) and c likewise over the rows, v = r c / mean of r (of a
    vector, v += b (g^2 - v)), u = g / sqrt(v):  p -= min(learning_rate, 1 / sqrt(t)) max(eps[1], rms(p))
    u / max(1, rms(u) / d), after p *= 1 - learning_rate weight_decay. eps[0] is the least mean of r, and its square the
    least v; None is the epsilon of the dtype.

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost" (2018), in PyTorch's
    form. Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> optimizer = fg.optim.Adafactor()
    >>> optimizer.step(np.ones((3, 5)), np.ones((3, 5)))
    >>> {slot: array.shape for slot, array in optimizer.state_dict()["state"].items()}
    {'rows': (3,), 'columns': (5,), 'squares': (0,)}
    """

    _row = "adafactor"
    _slots = ("rows", "columns", "squares")
    _alike = False
    d, weight_decay = checked("d"), checked("weight_decay")

    def __init__(
        self,
        learning_rate: Rate = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.beta2_decay, self.eps, self.d, self.weight_decay = beta2_decay, eps, d, weight_decay

    @argument
    def beta2_decay(self, value: Any) -> Any:
        within: Range = "a finite number of at most 0", lambda x: -math.inf < x <= 0
        return number(type(self).__name__, "beta2_decay", value, within)

    @argument
    def eps(self, value: Any) -> Any:
        first, second = self._pair("eps", value, "a number or None, and a number")
        return None if first is None else self._number("eps[0]", first), self._number("eps[1]", second)

    def _numbers(self, rate: float) -> tuple[float, ...]:
        t, (eps1, eps2) = self.steps + 1, self.eps
        step, new = min(rate, 1 / math.sqrt(t)), t**self.beta2_decay
        return rate, self.weight_decay, step, new, -1.0 if eps1 is None else eps1, eps2, self.d


class Muon(Optimizer):
    """Momentum whose step, of a matrix, is brought near an orthogonal one; other parameters are updated by AdamW.

    m = momentum m + (1 - momentum) g and d = momentum m + (1 - momentum) g, or m without nesterov. X = d / |d|, in
    ns_steps Newton-Schulz iterations X = a X + (b A + c A^2) X, A = X X', gets singular values near 1; a, b and c are
    ns_coefficients. p *= 1 - learning_rate weight_decay, then p -= learning_rate s X, where for rows x columns
    s = sqrt(max(1, rows / columns)), or with adjust_lr_fn="match_rms_adamw" 0.2 sqrt(max(rows, columns)).

    Biases and whatever else is no matrix are updated by `AdamW` with adam_betas, adam_eps and adam_weight_decay, as in
    optax; a group gives embeddings or the like another learning rate. The iterations run in the dtype of the parameter.

    Source: Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: an optimizer for hidden layers in neural
    networks" (2024); the other scale by Liu et al., "Muon is scalable for LLM training" (2025). Raises TypeError or
    ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> w = np.zeros((2, 2))
    >>> fg.optim.Muon(1.0, ns_steps=30, ns_coefficients=(1.5, -0.5, 0.0)).step(w, np.array([[0.0, 3.0], [1.0, 0.0]]))
    >>> w.round(6) + 0.0
    array([[ 0., -1.],
           [-1.,  0.]])
    """

    _row = "muon"
    _other_row = "adam"
    _slots = ("momentum", "v")
    _alike = False
    momentum, weight_decay, eps = checked("momentum", 1), checked("weight_decay"), checked("eps")
    adam_eps, adam_weight_decay = checked("adam_eps"), checked("adam_weight_decay")
    nesterov = checked_flag("nesterov")

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        adam_betas: tuple[float, float] = (0.9, 0.999),
        adam_eps: float = 1e-8,
        adam_weight_decay: float = 0.0,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.weight_decay, self.momentum, self.nesterov, self.eps = weight_decay, momentum, nesterov, eps
        self.ns_coefficients, self.ns_steps, self.adjust_lr_fn = ns_coefficients, ns_steps, adjust_lr_fn
        self.adam_betas, self.adam_eps, self.adam_weight_decay = adam_betas, adam_eps, adam_weight_decay

    @argument
    def adam_betas(self, value: Any) -> Any:
        first, second = self._pair("adam_betas", value, "two numbers in [0, 1)")
        first = self._number("adam_betas[0]", first, below=1)
        return first, self._number("adam_betas[1]", second, below=1)

    @argument
    def ns_coefficients(self, value: Any) -> Any:
        name, within = type(self).__name__, ("a finite number", math.isfinite)
        if not isinstance(value, (tuple, list)) or len(value) != 3:
            raise TypeError(f"{name}: ns_coefficients is {shown(value)}, expected three finite numbers")
        return tuple([number(name, f"ns_coefficients[{i}]", x, within) for i, x in enumerate(value)])

    @argument
    def ns_steps(self, value: Any) -> Any:
        steps = integer(type(self).__name__, "ns_steps", value, least=0)
        if steps >= 100:
            raise ValueError(f"{type(self).__name__}: ns_steps is {steps}, expected an integer below 100")
        return steps

    @argument
    def adjust_lr_fn(self, value: Any) -> Any:
        if value not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"{type(self).__name__}: adjust_lr_fn is {value!r}, expected 'original', 'match_rms_adamw' or None"
            )
        return value

    def _is_other(self, leaf: Any) -> bool:
        return len(leaf.shape) != 2

    def _numbers(self, rate: float) -> tuple[float, ...]:
        match_rms = self.adjust_lr_fn == "match_rms_adamw"
        shape = *self.ns_coefficients, self.eps, self.ns_steps, match_rms
        return rate, self.weight_decay, self.momentum, self.nesterov, *shape

    def _other_numbers(self, rate: float) -> tuple[float, ...]:
        (beta1, beta2), t = self.adam_betas, self.steps + 1
        corrections = 1 - beta1**t, 1 - beta2**t
        return rate, self.adam_weight_decay, beta1, beta2, self.adam_eps, True, *corrections


_KNOWN: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls
    for cls in [*vars(_moments).values(), *globals().values()]
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls._row
} | {"lbfgs": LBFGS}


def get(optimizer: str | Optimizer, **arguments: Any) -> Optimizer:
    """An optimizer by its name, in any case of letters; an optimizer is returned as it is.

    Raises ValueError listing the known names, TypeError for anything that is neither.

    >>> import fastgrad as fg
    >>> fg.optim.get("adam", learning_rate=0.01)
    Adam(learning_rate=0.01, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)
    """
    if isinstance(optimizer, str):
        if optimizer.lower() not in _KNOWN:
            known = ", ".join(map(repr, sorted(_KNOWN)))
            raise ValueError(f"unknown optimizer {optimizer!r}: the known ones are {known}")
        return _KNOWN[optimizer.lower()](**arguments)
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise TypeError(f"optimizer is the class {optimizer.__name__}: pass an object, {optimizer.__name__}()")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer is of type {type(optimizer).__name__}, expected a name or an object of fg.optim, "
            "as fg.optim.Adam(learning_rate=1e-3)"
        )
    if arguments:
        raise TypeError(f"get: arguments {sorted(arguments)} with an optimizer that is made already")
    return optimizer
