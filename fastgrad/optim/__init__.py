"""Optimizers: the rules that turn a gradient into a step, over any nested structure of arrays.

``optimizer.step(params, grads)`` changes arrays in place; `fastgrad.training_step` and `fastgrad.descend` do the same
in one call with the loss and its gradients. Averages of the weights (`EMA`, `SWA`) and clipping of gradients
(`clip_by_global_norm`) are here, too. docs/training.md tells how they work together.

>>> import numpy as np
>>> import fastgrad as fg
>>> optimizer, w = fg.optim.AdamW(learning_rate=0.1), np.array([1.0, -1.0])
>>> optimizer.step(w, fg.grad(lambda w: fg.sum(w**2))(w))
>>> w.round(3)
array([ 0.899, -0.899])
"""

from ._average import EMA, SWA
from ._base import (  # what training steps use
    Clip as Clip,
)
from ._base import (
    Optimizer,
)
from ._base import apply_gradients as apply_gradients
from ._base import check_distinct as check_distinct
from ._base import check_parameters as check_parameters
from ._base import frozen as frozen
from ._base import leaf_error as leaf_error
from ._base import next_update as next_update
from ._base import parameter_names as parameter_names
from ._base import updates_in_core as updates_in_core
from ._clip import clip_by_global_norm, clip_by_norm, clip_by_value, global_norm
from ._clip import clip_of as clip_of
from ._lbfgs import LBFGS
from ._lbfgs import search as search
from ._lbfgs import takes_closure as takes_closure
from ._moments import LAMB, Adam, Adamax, AdamW, Lion, NAdam, RAdam, SparseAdam
from ._rules import SGD, Adadelta, Adafactor, Adagrad, Muon, RMSprop, Rprop, get

__all__ = [
    "EMA", "LAMB", "LBFGS", "SGD", "SWA", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Muon",
    "NAdam", "Optimizer", "RAdam", "RMSprop", "Rprop", "SparseAdam", "clip_by_global_norm", "clip_by_norm",
    "clip_by_value", "get", "global_norm",
]  # fmt: skip


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows
