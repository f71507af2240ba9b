"""Optimizers that keep moments of the gradient, running averages of it and of its square: Adam and what follows it.

Each class names its row of csrc/optim.def, as those of _rules.py do.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .._arguments import flag
from ._base import Groups, Optimizer, Rate, argument, checked, checked_flag

__all__ = ["LAMB", "Adam", "AdamW", "Adamax", "Lion", "NAdam", "RAdam", "SparseAdam"]


class _WithMoments(Optimizer):
    """Those that keep running means with the two factors `betas`."""

    @argument
    def betas(self, value: Any) -> tuple[float, float]:
        first, second = self._pair("betas", value, "two numbers in [0, 1)")
        return self._number("betas[0]", first, below=1), self._number("betas[1]", second, below=1)

    def _corrections(self) -> tuple[float, float]:
        """1 - beta^t, by which the means that began at 0 are too small at the next step."""
        (beta1, beta2), t = self.betas, self.steps + 1
        return 1 - beta1**t, 1 - beta2**t


class Adam(_WithMoments):
    """Adam: steps scaled by running means of the gradient and of its square.

    With g' = g + weight_decay p and t counting from 1:  m = beta1 m + (1 - beta1) g',
    v = beta2 v + (1 - beta2) g'^2,  p -= learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps). With
    amsgrad the largest v so far is divided by in the place of v.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1; Reddi, Kale and Kumar, "On
    the convergence of Adam and beyond" (2018). Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.array([1.0, -1.0])
    >>> fg.optim.Adam(learning_rate=0.1).step(x, np.array([5.0, -0.01]))
    >>> x.round(6)
    array([ 0.9, -0.9])
    """

    _row = "adam"
    _takes_lazy_rows: ClassVar[bool] = True
    _slots: ClassVar[tuple[str, ...]] = ("m", "v")
    _fixed = ("amsgrad",)
    _decoupled: ClassVar[bool] = False

    eps, weight_decay = checked("eps"), checked("weight_decay")

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        amsgrad: bool = False,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        if flag(type(self).__name__, "amsgrad", amsgrad):
            self._slots = ("m", "v", "largest_v")  # type: ignore[misc]

    @property
    def amsgrad(self) -> bool:
        """Whether the largest v so far is divided by."""
        return len(self._slots) == 3

    def _numbers(self, rate: float) -> tuple[float, ...]:
        (beta1, beta2), t = self.betas, self.steps + 1  # spelled out: it runs in every step of most trainings
        return rate, self.weight_decay, beta1, beta2, self.eps, self._decoupled, 1 - beta1**t, 1 - beta2**t


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - learning_rate weight_decay, then Adam's step without decay.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.
    Raises TypeError or ValueError for an argument out of range.

    >>> import fastgrad as fg
    >>> fg.optim.AdamW(learning_rate=1e-3)
    AdamW(learning_rate=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)
    """

    _decoupled = True

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        amsgrad: bool = False,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, betas, eps, weight_decay, amsgrad=amsgrad, groups=groups)


class SparseAdam(_WithMoments):
    """Adam that leaves rows whose gradient is 0 as they are, for tables of which a batch reads few rows.

    With t counting all steps from 1, of each row (along the first axis) whose gradient g is not 0:
    m += (1 - beta1) (g - m),  v += (1 - beta2) (g^2 - v),
    p -= learning_rate sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps). Other rows keep p, m and v, where `Adam`
    would go on with what m remembers. So a training step need not touch them (``docs/training.md``), and the result
    does not depend on how a gradient is kept. The group entry ``"lazy_rows": True`` does the same with `Adam`, `AdamW`,
    `SGD` with momentum, and others.

    The formulas are those of PyTorch's SparseAdam, which differs in that it updates each row that was read, also one
    whose gradient comes out as 0. Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> table = np.ones((3, 2))
    >>> step = fg.training_step(lambda p, rows: fg.sum(p[rows]), table, fg.optim.SparseAdam(0.5))
    >>> step(np.array([2, 0])), round(step(np.array([2])), 6)
    (4.0, 1.0)
    >>> table.round(6)
    array([[0.5, 0.5],
           [1. , 1. ],
           [0. , 0. ]])
    """

    _row = "adam"
    _slots = ("m", "v")
    _takes_lazy_rows = _lazy_rows = True

    eps = checked("eps")

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.betas, self.eps = betas, eps

    def _numbers(self, rate: float) -> tuple[float, ...]:
        correction1, correction2 = self._corrections()
        # Both corrections in the step's size, as eps is added to the root of v itself.
        return rate, 0.0, *self.betas, self.eps, False, correction1 / math.sqrt(correction2), 1.0


class NAdam(_WithMoments):
    """Adam with Nesterov's momentum.

    With mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) and M_t the product of mu_1 .. mu_t:
    p -= learning_rate ((1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v / (1 - beta2^t)) + eps), m and
    v as of `Adam`. decoupled_weight_decay is that of `AdamW`.

    Source: Dozat, "Incorporating Nesterov momentum into Adam" (2016).
    Raises TypeError or ValueError for an argument out of range.

    >>> import fastgrad as fg
    >>> fg.optim.NAdam()
    NAdam(learning_rate=0.002, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0, momentum_decay=0.004, \
decoupled_weight_decay=False)
    """

    _row = "nadam"
    _takes_lazy_rows = True
    _slots = ("m", "v")
    momentum_decay, decoupled_weight_decay = checked("momentum_decay"), checked_flag("decoupled_weight_decay")
    eps, weight_decay = checked("eps"), checked("weight_decay")

    def __init__(
        self,
        learning_rate: Rate = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.betas, self.eps, self.weight_decay, self.momentum_decay = betas, eps, weight_decay, momentum_decay
        self.decoupled_weight_decay = decoupled_weight_decay
        self._product = (0, 1.0, (0.0, 0.0))  # t, M_t, and the arguments of which it was made

    def _momentum(self, t: int) -> float:
        momentum: float = self.betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))
        return momentum

    def _numbers(self, rate: float) -> tuple[float, ...]:
        beta1, t = self.betas[0], self.steps + 1
        done, product, made_of = self._product
        if made_of != (beta1, self.momentum_decay) or done > self.steps:
            done, product = 0, 1.0
        for k in range(done + 1, t):
            product *= self._momentum(k)
        self._product = self.steps, product, (beta1, self.momentum_decay)
        now, after = self._momentum(t), self._momentum(t + 1)
        of_gradient, of_mean = rate * (1 - now) / (1 - product * now), rate * after / (1 - product * now * after)
        decoupled, correction2 = self.decoupled_weight_decay, self._corrections()[1]
        return rate, self.weight_decay, *self.betas, self.eps, decoupled, of_gradient, of_mean, correction2


class RAdam(_WithMoments):
    """Adam that begins as gradient descent, until the mean of the squares is of enough of them.

    With r_t = r - 2 t beta2^t / (1 - beta2^t), r = 2 / (1 - beta2) - 1, and m, v as of `Adam`: while r_t <= 5,
    p -= learning_rate m / (1 - beta1^t); then this times sqrt((r_t - 4) (r_t - 2) r / ((r - 4) (r - 2) r_t))
    sqrt(1 - beta2^t) / (sqrt(v) + eps). decoupled_weight_decay is that of `AdamW`.

    Source: Liu, Jiang, He, Chen, Liu, Gao and Han, "On the variance of the adaptive learning rate and beyond" (2020).
    Raises TypeError or ValueError for an argument out of range.

    >>> import fastgrad as fg
    >>> fg.optim.RAdam(decoupled_weight_decay=True).decoupled_weight_decay
    True
    """

    _row = "radam"
    _takes_lazy_rows = True
    _slots = ("m", "v")
    decoupled_weight_decay = checked_flag("decoupled_weight_decay")
    eps, weight_decay = checked("eps"), checked("weight_decay")

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.decoupled_weight_decay = decoupled_weight_decay

    def _numbers(self, rate: float) -> tuple[float, ...]:
        beta2, t, adaptive = self.betas[1], self.steps + 1, 0.0
        correction1, correction2 = self._corrections()
        most = 2 / (1 - beta2) - 1
        length = most - 2 * t * beta2**t / correction2
        if length > 5:
            ratio = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
            adaptive = math.sqrt(ratio * correction2)
        decoupled = self.decoupled_weight_decay
        return rate, self.weight_decay, *self.betas, self.eps, decoupled, correction1, adaptive


class Adamax(_WithMoments):
    """Adam by the largest gradient, of which old ones fade, in the place of the mean of squares.

    With g' = g + weight_decay p:  m = beta1 m + (1 - beta1) g',  u = max(beta2 u, |g'| + eps),
    p -= learning_rate / (1 - beta1^t) m / u.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), algorithm 2.
    Raises TypeError or ValueError for an argument out of range.

    >>> import fastgrad as fg
    >>> fg.optim.Adamax()
    Adamax(learning_rate=0.002, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)
    """

    _row = "adamax"
    _takes_lazy_rows = True
    _slots = ("m", "u")

    eps, weight_decay = checked("eps"), checked("weight_decay")

    def __init__(
        self,
        learning_rate: Rate = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def _numbers(self, rate: float) -> tuple[float, ...]:
        return rate, self.weight_decay, *self.betas, self.eps, self._corrections()[0]


class Lion(_WithMoments):
    """Steps of one size along the sign of a mean of the gradients.

    p -= learning_rate (sign(beta1 m + (1 - beta1) g) + weight_decay p),  m = beta2 m + (1 - beta2) g.

    Source: Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu and Le, "Symbolic discovery of
    optimization algorithms" (2023), algorithm 2. Raises TypeError or ValueError for an argument out of range.

    >>> import fastgrad as fg
    >>> fg.optim.Lion()
    Lion(learning_rate=0.0001, betas=(0.9, 0.99), weight_decay=0.001)
    """

    _row = "lion"
    _takes_lazy_rows = True
    _slots = ("m",)

    weight_decay = checked("weight_decay")

    def __init__(
        self,
        learning_rate: Rate = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-3,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.betas, self.weight_decay = betas, weight_decay

    def _numbers(self, rate: float) -> tuple[float, ...]:
        return rate, self.weight_decay, *self.betas


class LAMB(_WithMoments):
    """Adam with decoupled decay whose step, for each parameter, is as long as the learning rate times its norm.

    With m, v as of `Adam`:  u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay p,
    p -= learning_rate (|p| / |u|) u, and p -= learning_rate u where one of the norms is 0.

    Source: You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer and Hsieh, "Large batch optimization for
    deep learning: training BERT in 76 minutes" (2020), algorithm 2. Raises TypeError or ValueError for an argument out
    of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.array([3.0, 4.0])
    >>> fg.optim.LAMB(learning_rate=0.1).step(x, np.array([7.0, -7.0]))
    >>> x.round(4)  # a step of 0.1 times 5
    array([2.6464, 4.3536])
    """

    _row = "lamb"
    _slots = ("m", "v")

    eps, weight_decay = checked("eps"), checked("weight_decay")

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, groups)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def _numbers(self, rate: float) -> tuple[float, ...]:
        return rate, self.weight_decay, *self.betas, self.eps, *self._corrections()
