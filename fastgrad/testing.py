"""Checking gradients against finite differences: for the tests of this package and of its users."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _core, tree
from ._core import Tensor
from ._transforms import _recording, no_grad

__all__ = ["check_grads"]

# What reverse mode may be off by, per dtype of the argument; the differences are taken in float64.
_TOLERANCE = {np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-6}

_Call = Callable[[list[Tensor]], list[Tensor]]


def check_grads(
    f: Callable[..., Any],
    args: Any,
    order: int = 1,
    modes: Sequence[str] = ("rev",),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Compare the gradients of f(*args) with central differences, entry by entry.

    Parameters
    ----------
    f : callable
        May return any structure; its float arrays are contracted with a fixed random cotangent.
    args : tuple
        The arguments of f (anything but a tuple is taken as its one argument), each a nested structure. float32
        and float64 arrays and Python floats in it are differentiated, everything else is held fixed. f must be
        smooth around them.
    order : int
        How often f is differentiated: of order 2 the gradient of f is checked, and its own gradient after that.
    modes : sequence of str
        Only ("rev",) until forward mode is here.
    atol, rtol : float, optional
        An entry passes if |got - expected| <= atol + rtol |expected|. Both default to 1e-3 for float32 arguments
        or results, else 1e-6.
    eps : float, optional
        The differences (f(x + h) - f(x - h)) / 2h are taken in float64 with h = eps max(1, |x|); 6e-6 unless
        given, or 5e-3 if f returns float32 all the same.

    Raises AssertionError showing the worst entry; TypeError if f has no float argument or no float result;
    ValueError if order is less than 1; NotImplementedError for other modes.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.check_grads(lambda x, w: fg.tanh(x @ w), (np.ones((2, 3)), np.full((3, 2), 0.1)), order=2)
    """
    if operator.index(order) < 1:
        raise ValueError(f"check_grads: expected an order of 1 or more, got {order}")
    if isinstance(modes, str) or set(modes) != {"rev"}:
        raise NotImplementedError(f"check_grads: modes={modes!r}, supported now: ('rev',)")
    if not isinstance(args, tuple):
        args = (args,)
    leaves, structure = tree.flatten(args)
    places = [i for i, leaf in enumerate(leaves) if _is_float(leaf)]
    if not places:
        raise TypeError("check_grads: args hold no float32 or float64 arrays to differentiate")
    arrays = [np.asarray(leaf.detach() if isinstance(leaf := leaves[i], Tensor) else leaf) for i in places]
    paths = structure.paths("args")

    def of_floats(inputs: list[Tensor]) -> list[Tensor]:
        """The float results of f with these tensors in place of its float leaves."""
        given = dict(zip(places, inputs))
        results = tree.leaves(f(*structure.unflatten([given.get(i, leaf) for i, leaf in enumerate(leaves)])))
        return [_core.asarray(r) for r in results if _is_float(r)]

    rng = np.random.default_rng(0)
    call: _Call = of_floats
    for done in range(order):
        cotangents = _check(call, arrays, [paths[i] for i in places], atol, rtol, eps, rng, done)
        call = _gradient(call, cotangents)


def _gradient(call: _Call, cotangents: list[np.ndarray]) -> _Call:
    """The gradients of call's results, contracted with cotangents, by all its inputs; differentiable in turn."""

    def gradient(inputs: list[Tensor]) -> list[Tensor]:
        connected = _core.grad_enabled()
        with _recording():
            watched = [_core.watch_tensor(x, connected) for x in inputs]
            total = _core.asarray(0.0)
            for result, cotangent in zip(call(watched), cotangents):
                total = total + (result * cotangent.astype(result.dtype)).sum()
            return _core.gradients(total, watched, create_graph=True)

    return gradient


def _check(
    call: _Call,
    arrays: list[np.ndarray],
    paths: list[str],
    atol: float | None,
    rtol: float | None,
    eps: float | None,
    rng: np.random.Generator,
    done: int,
) -> list[np.ndarray]:
    """Compare call's gradients with differences; call is f differentiated `done` times. Returns the cotangents used."""
    tensors = [_core.tensor(a, requires_grad=True) for a in arrays]
    results = call(tensors)
    if not results:
        raise TypeError("check_grads: f returned no float32 or float64 array or tensor")
    cotangents = [np.asarray(rng.uniform(0.5, 1.5, r.shape), r.dtype) for r in results]
    for result, cotangent in zip(results, cotangents):
        if result.requires_grad:
            result.backward(cotangent, retain_graph=True)

    with no_grad():
        wide = [a.astype(np.float64) for a in arrays]
        single = any(r.dtype == np.float32 for r in call(_tensors(wide)))
        h = eps if eps is not None else 5e-3 if single else 6e-6
        worst: tuple[float, str] | None = None
        failed = 0
        for i, array in enumerate(arrays):
            tolerance = _TOLERANCE[np.dtype(np.float32) if single else array.dtype]
            absolute = tolerance if atol is None else atol
            relative = tolerance if rtol is None else rtol
            grad = tensors[i].grad
            got = np.zeros(array.shape) if grad is None else np.asarray(grad, np.float64)
            for index in np.ndindex(array.shape):
                expected = _difference(call, wide, i, index, h, cotangents)
                allowed = absolute + relative * abs(expected)
                error = float(abs(got[index] - expected))
                if error <= allowed:
                    continue
                failed += 1
                excess = error / allowed if allowed and error == error else np.inf
                if worst is None or excess > worst[0]:
                    path = paths[i] + (f"[{', '.join(map(str, index))}]" if index else "")
                    worst = excess, (
                        f"{path}: reverse mode gives {got[index]:.9g}, central differences {expected:.9g}, "
                        f"off by {error:.3g} where {allowed:.3g} is allowed"
                    )
    if worst is not None:
        entries = sum(a.size for a in arrays)
        raise AssertionError(
            f"check_grads: {failed} of {entries} entries of the {'gradient of the ' * done}gradient are wrong, the "
            f"worst at\n  {worst[1]}"
        )
    return cotangents


def _is_float(leaf: Any) -> bool:
    if isinstance(leaf, (np.ndarray, np.generic, Tensor)):
        return leaf.dtype in _TOLERANCE
    return isinstance(leaf, float)


def _tensors(arrays: list[np.ndarray]) -> list[Tensor]:
    return [_core.tensor(array) for array in arrays]


def _difference(
    call: _Call,
    arrays: list[np.ndarray],
    i: int,
    index: tuple[int, ...],
    h: float,
    cotangents: list[np.ndarray],
) -> float:
    """The central difference of the contracted results along one entry of array i."""
    array = arrays[i]
    x = float(array[index])
    step = h * max(1.0, abs(x))
    try:
        array[index] = x + step
        above = call(_tensors(arrays))
        span = float(array[index])
        array[index] = x - step
        below = call(_tensors(arrays))
        span -= float(array[index])
    finally:
        array[index] = x
    return sum(
        float(np.sum(c.astype(np.float64) * (np.asarray(a.detach(), np.float64) - np.asarray(b.detach(), np.float64))))
        for c, a, b in zip(cotangents, above, below)
    ) / span
