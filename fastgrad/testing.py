"""Checking derivatives against finite differences: for the tests of this package and of its users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _core, _user_frames, tree
from ._arguments import ABOVE_0, integer, number
from ._core import Tensor
from ._transforms.grad import no_grad
from ._transforms.linearize import Point
from ._transforms.vmap import vmap

__all__ = ["check_grads"]


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


# What a derivative may be off by, per dtype of the argument; the differences are taken in float64.
_TOLERANCE = {np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-6}

_BATCH = 1 << 17  # how many numbers the arguments and results of differences taken at once may have
_MANY = 16  # how many entries are worth a batch

_Call = Callable[[list[Tensor]], list[Tensor]]


def check_grads(
    f: Callable[..., Any],
    args: Any,
    order: int = 1,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Compare the derivatives of f(*args) with central differences.

    Parameters
    ----------
    f : callable
        May return any structure with float arrays in it. For the differences it is called with the floats of its
        arguments in float64, whatever their dtype.
    args : tuple
        The arguments of f (anything but a tuple is taken as its one argument), each a nested structure. float32
        and float64 arrays and Python floats in it are differentiated, everything else is held fixed. f must be
        smooth around them.
    order : int
        How often f is differentiated: of order 2 the derivatives of f are checked, and theirs after that, by the
        arguments and by the cotangents or directions alike.
    modes : sequence of str
        "rev": the gradient of f's results, contracted with fixed random cotangents, entry by entry. "fwd": the
        derivative of each result along a fixed random direction. Of a higher order every sequence of the modes given is
        checked: forward over reverse, and so on.
    atol, rtol : float, optional
        An entry passes if |got - expected| <= atol + rtol |expected|. Both default to 1e-3 for float32 arguments
        or results, else 1e-6.
    eps : float, optional
        The differences (f(x + h) - f(x - h)) / 2h are taken in float64 with h = eps max(1, |x|); 6e-6 unless
        given, or 5e-3 if f returns float32 all the same.

    Raises AssertionError showing the worst entry; TypeError if f has no float argument or no float result, or order is
    no integer; ValueError if order is less than 1, eps not above 0, atol or rtol negative or not finite, or modes holds
    others than these.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.check_grads(lambda x, w: fg.tanh(x @ w), (np.ones((2, 3)), np.full((3, 2), 0.1)), order=2)
    """
    if not callable(f):
        raise TypeError(f"check_grads: expected a function, got {f!r}")
    order = integer("check_grads", "order", order)
    atol, rtol = (
        None if value is None else number("check_grads", what, value)
        for what, value in (("atol", atol), ("rtol", rtol))
    )
    eps = None if eps is None else number("check_grads", "eps", eps, ABOVE_0)
    if isinstance(modes, str) or not modes or not set(modes) <= {"fwd", "rev"}:
        raise ValueError(f"check_grads: expected modes of 'fwd' and 'rev', got {modes!r}")
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
    calls = [_Case(of_floats, arrays, [paths[i] for i in places], "")]
    for _ in range(order):
        derivatives = []
        for case in calls:
            check = _Check(case, atol, rtol, eps)
            if "rev" in modes:
                cotangents = check.reverse(rng)
                derivatives.append(case.derived(_gradient(case), cotangents, "cotangent", "gradient"))
            if "fwd" in modes:
                directions = check.forward(rng)
                derivatives.append(case.derived(_slope(case), directions, "direction", "tangent"))
        calls = derivatives


class _Case(NamedTuple):
    """A function that is checked, and where: f, or a derivative of it, which is a function of the inputs and of the
    cotangents or directions."""

    call: _Call
    arrays: list[np.ndarray]
    paths: list[str]  # how errors name the arrays
    of: str  # what the function is to f

    def derived(self, call: _Call, further: list[np.ndarray], name: str, what: str) -> _Case:
        paths = [f"{name} {k}" if len(further) > 1 else name for k in range(len(further))]
        return _Case(call, self.arrays + further, self.paths + paths, f"{self.of}{what} of the ")


def _point(call: _Call, inputs: list[Tensor]) -> Point:
    return Point("check_grads", call, inputs, call=call, what="args")


def _gradient(case: _Case) -> _Call:
    """The gradients of case's results by all its inputs, as a function of these and of the cotangents behind them;
    differentiable in turn by both."""
    n = len(case.arrays)

    def gradient(inputs: list[Tensor]) -> list[Tensor]:
        point = _point(case.call, inputs[:n])
        return point.pull([_core.astype(c, y.dtype) for c, y in zip(inputs[n:], point.results)])

    return gradient


def _slope(case: _Case) -> _Call:
    """The derivatives of case's results, as a function of its inputs and of the directions behind them; differentiable
    in turn by both."""
    n = len(case.arrays)

    def slope(inputs: list[Tensor]) -> list[Tensor]:
        return _point(case.call, inputs[:n]).push([_core.astype(d, x.dtype) for d, x in zip(inputs[n:], inputs)])

    return slope


class _Check:
    """Comparisons of a function's derivatives with differences."""

    def __init__(self, case: _Case, atol: float | None, rtol: float | None, eps: float | None) -> None:
        self._call, self._arrays, self._paths, self._of = call, arrays, _, _ = case
        self._atol, self._rtol = atol, rtol
        self.results = [y.detach() for y in call(_tensors(arrays))]
        if not self.results:
            raise TypeError("check_grads: f returned no float32 or float64 array or tensor")
        self._wide = [a.astype(np.float64) for a in arrays]
        with no_grad():
            self._single = any(y.dtype == np.float32 for y in call(_tensors(self._wide)))
        self._h = eps if eps is not None else 5e-3 if self._single else 6e-6
        self._worst: tuple[float, str] | None = None
        self._failed = 0

    def reverse(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Check the gradients by all inputs; returns the cotangents used."""
        cotangents = [np.asarray(rng.uniform(0.5, 1.5, y.shape), y.dtype) for y in self.results]
        point = _point(self._call, _tensors(self._arrays))
        found = point.pull([_core.tensor(c) for c in cotangents])
        with no_grad():
            for i, array in enumerate(self._arrays):
                got = np.asarray(found[i].detach(), np.float64)
                # Mapping has rules of its own: what seems wrong is judged by a difference of two plain calls.
                for index in self._suspects(got, self._differences(i, cotangents), array.dtype):
                    expected = _difference(self._call, self._wide, i, index, self._h, cotangents)
                    self._compare(self._paths[i], index, got[index], expected, array.dtype, "reverse")
        self._tell(sum(a.size for a in self._arrays), "gradient")
        return cotangents

    def _differences(self, i: int, cotangents: list[np.ndarray]) -> np.ndarray | None:
        """What ``_difference`` gives for each entry of array i, many in one call; None if they are few, or the function
        cannot be mapped."""
        array = self._wide[i]
        at_once = _BATCH // max(1, sum(a.size for a in self._wide) + sum(y.size for y in self.results))
        if array.size < _MANY or at_once < _MANY:
            return None
        constants, weights = _tensors(self._wide), [c.astype(np.float64) for c in cotangents]

        def difference(above: Tensor, below: Tensor) -> Tensor:
            sides = [self._call([*constants[:i], x, *constants[i + 1 :]]) for x in (above, below)]
            found: Tensor = sum([
                ((_core.astype(a.detach(), np.float64) - _core.astype(b.detach(), np.float64)) * c).sum()
                for c, a, b in zip(weights, *sides)
            ])  # fmt: skip
            return found

        flat = array.reshape(-1)
        step = self._h * np.maximum(1.0, np.abs(flat))
        spans, found = (flat + step) - (flat - step), np.empty(array.size)
        try:
            for start in range(0, array.size, at_once):
                some = np.arange(start, min(start + at_once, array.size))
                above = np.tile(flat, (some.size, 1))
                below = above.copy()
                above[some - start, some] += step[some]
                below[some - start, some] -= step[some]
                shape = (some.size, *array.shape)
                found[some] = vmap(difference)(above.reshape(shape), below.reshape(shape)) / spans[some]
        except Exception as error:  # whatever it is, plain calls are right, or raise the same
            if _user_frames.is_from_signal(error):
                raise
            return None
        return found.reshape(array.shape)

    def forward(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Check the derivatives of all results along a direction; returns the direction."""
        directions = [rng.uniform(0.5, 1.5, a.shape) * np.maximum(1, np.abs(a)) for a in self._wide]
        point = _point(self._call, _tensors(self._arrays))
        found = point.push([_core.tensor(d.astype(a.dtype)) for d, a in zip(directions, self._arrays)])
        with no_grad():
            sides = [
                [np.asarray(y.detach(), np.float64) for y in self._call(_tensors(
                    [a + step * d for a, d in zip(self._wide, directions)]
                ))]
                for step in (self._h, -self._h)
            ]  # fmt: skip
        least = min([a.dtype for a in self._arrays], key=lambda dtype: dtype.itemsize)
        paths = [f"result {k}" for k in range(len(found))] if len(found) > 1 else ["result"]
        for path, tangent, above, below in zip(paths, found, *sides):
            got, expected = np.asarray(tangent.detach(), np.float64), (above - below) / (2 * self._h)
            for index in np.ndindex(got.shape):
                self._compare(path, index, got[index], float(expected[index]), least, "forward")
        self._tell(sum(y.size for y in found), "tangent")
        return [np.asarray(d, a.dtype) for d, a in zip(directions, self._arrays)]

    def _allowed(self, expected: Any, dtype: np.dtype[Any]) -> Any:
        """What a derivative may be off by, beside this one or each of an array of such."""
        tolerance = _TOLERANCE[np.dtype(np.float32) if self._single else dtype]
        absolute = tolerance if self._atol is None else self._atol
        return absolute + (tolerance if self._rtol is None else self._rtol) * abs(expected)

    def _suspects(self, got: np.ndarray, expected: np.ndarray | None, dtype: np.dtype[Any]) -> Any:
        """The indices of entries that are not known to be right."""
        if expected is None:
            return np.ndindex(got.shape)
        with np.errstate(invalid="ignore"):
            right = np.abs(got - expected) <= self._allowed(expected, dtype)
        return map(tuple, np.argwhere(~right).tolist())

    def _compare(
        self, path: str, index: tuple[int, ...], got: Any, expected: float, dtype: np.dtype[Any], mode: str
    ) -> None:
        error, allowed = abs(float(got) - expected), self._allowed(expected, dtype)
        if error <= allowed:
            return
        self._failed += 1
        excess = error / allowed if allowed and error == error else np.inf
        if self._worst is None or excess > self._worst[0]:
            place = path + (f"[{', '.join(map(str, index))}]" if index else "")
            self._worst = (
                excess,
                (
                    f"{place}: {mode} mode gives {got:.9g}, central differences {expected:.9g}, off by {error:.3g} "
                    f"where {allowed:.3g} is allowed"
                ),
            )

    def _tell(self, entries: int, what: str) -> None:
        if self._worst is not None:
            raise AssertionError(
                f"check_grads: {self._failed} of {entries} entries of the {self._of}{what} are wrong, the worst at\n"
                f"  {self._worst[1]}"
            )


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
    return (
        sum(
            float(
                np.sum(c.astype(np.float64) * (np.asarray(a.detach(), np.float64) - np.asarray(b.detach(), np.float64)))
            )
            for c, a, b in zip(cotangents, above, below)
        )
        / span
    )
