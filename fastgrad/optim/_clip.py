"""Clipping of gradients in loops of the user's own; training_step and descend clip in the core (clip_norm=)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core, tree
from .._arguments import ABOVE_0, number
from .._core import Tensor
from ._base import Clip, clipped

__all__ = ["clip_by_global_norm", "clip_by_norm", "clip_by_value", "global_norm"]

_KINDS = {
    "clip_value": _core.CLIP_VALUE,
    "clip_norm": _core.CLIP_NORM,
    "clip_each_norm": _core.CLIP_EACH_NORM,
}


def clip_of(name: str, **limits: Any) -> Clip | None:
    """What of clip_value=, clip_norm= and clip_each_norm= is given, as the core takes it; None if nothing is."""
    given = {key: value for key, value in limits.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"{name}: {' and '.join(given)} are given, expected at most one of them")
    for key, value in given.items():
        return _KINDS[key], limit_of(name, key, value)
    return None


def limit_of(name: str, what: str, value: Any) -> float:
    return number(name, what, value, ABOVE_0)


def clip_by_value(grads: Any, limit: float) -> Any:
    """Copies of gradients, in any nested structure, with each element brought into [-limit, limit].

    float32 or float64 arrays, or tensors, of which the values are taken. Raises TypeError or ValueError unless limit is
    a finite number above 0. As ``clip`` of optax, and ``clip_grad_value_`` of PyTorch in place.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.optim.clip_by_value({"w": np.array([3.0, -0.5])}, 1.0)
    {'w': array([ 1. , -0.5])}
    """
    return _clip(grads, _core.CLIP_VALUE, limit_of("clip_by_value", "limit", limit))


def clip_by_norm(grads: Any, max_norm: float) -> Any:
    """Copies of gradients, each scaled so that the root of the sum of its squares is at most max_norm.

    Arguments and errors are those of `clip_by_value`.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.optim.clip_by_norm([np.array([3.0, 4.0]), np.array([0.5])], 1.0)
    [array([0.6, 0.8]), array([0.5])]
    """
    return _clip(grads, _core.CLIP_EACH_NORM, limit_of("clip_by_norm", "max_norm", max_norm))


def clip_by_global_norm(grads: Any, max_norm: float) -> Any:
    """Copies of gradients, all scaled by one factor so that their `global_norm` is at most max_norm.

    Arguments and errors are those of `clip_by_value`. Source: Pascanu, Mikolov and Bengio, "On the difficulty of
    training recurrent neural networks" (2013).

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.optim.clip_by_global_norm([np.array([3.0]), np.array([4.0])], 1.0)
    [array([0.6]), array([0.8])]
    """
    return _clip(grads, _core.CLIP_NORM, limit_of("clip_by_global_norm", "max_norm", max_norm))


def global_norm(grads: Any) -> float:
    """The root of the sum of the squares of all elements of gradients, in any nested structure.

    Squares that would overflow or vanish are scaled.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.optim.global_norm([np.array([3.0]), np.array([4.0])])
    5.0
    """
    arrays = [np.asarray(g, np.float64) for g in _values(tree.leaves(grads))]
    most = max((float(np.max(np.abs(a))) for a in arrays if a.size), default=0.0)
    if most == 0 or not math.isfinite(most):
        return most
    scale = math.ldexp(1.0, min(-math.frexp(most)[1], 1000))
    return math.sqrt(sum(float(np.sum(np.square(a * scale))) for a in arrays)) / scale


def _values(leaves: list[Any]) -> list[Any]:
    return [leaf.detach().numpy() if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _clip(grads: Any, kind: int, limit: float) -> Any:
    leaves, structure = tree.flatten(grads)
    return structure.unflatten(clipped([np.asarray(leaf) for leaf in _values(leaves)], (kind, limit)))
