"""``vjp``, ``jvp`` and ``linearize``: the linear map that approximates a function at a point, in either direction.

All three run the function once on watched arguments. The tape of that run is then walked from the results to the
arguments with cotangents (reverse mode, csrc/autodiff/backward.c), or the other way with tangents (forward mode,
_rules/jvp.py), as often as is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor
from .arguments import (
    array_like,
    as_constant,
    constant_as_tensor,
    describe_type,
    function_name,
    note_lists,
    pair_with_aux,
    watch_leaves,
)
from .grad import no_grad
from .pushforward import passes_are_short, push, push_rows

__all__ = ["jvp", "linearize", "vjp"]


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """f(*primals), and the function that takes cotangents of the result to cotangents of the primals.

    Parameters
    ----------
    f : callable
        Returns a float tensor, or a nested structure of them (and, with ``has_aux``, anything else beside it). Python
        numbers and ndarrays of floats in it are constants, whose derivatives are zeros. So are those of integers and
        booleans, as in JAX: their cotangents, of any numbers in their shapes, count for nothing, and their tangents are
        zeros in float64.
    *primals : arrays, numbers or nested structures of them
        f's arguments, all of dtype float32 or float64.
    has_aux : bool
        f returns ``(result, aux)``.

    Returns
    -------
    result : ndarray, number or nested structure of them
    pullback : callable
        ``pullback(cotangents)``, with cotangents in the structure and shapes of the result, is a tuple with v^T J for
        each of the primals. It holds what f has recorded, and may be called any number of times, by one thread at a
        time.
    aux
        With ``has_aux`` only.

    As with ``grad``, results within another transform, or of tensors that require gradients, are connected tensors.

    Raises TypeError where a primal is no float or f returns something else than numbers, ValueError where cotangents
    are built otherwise than the result.

    >>> import fastgrad as fg, numpy as np
    >>> y, pullback = fg.vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    point = Point("vjp", f, primals, has_aux, keep=True, any_numbers=True)

    def pullback(cotangents: Any) -> Any:
        given = point.like_results(cotangents, "pullback: cotangents")
        recorded = point.recording(given)
        return point.structure.unflatten(point.outward(point.pull(given), recorded, point.given))

    return (point.value(), pullback, point.aux()) if has_aux else (point.value(), pullback)


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """f(*primals), and its derivative along tangents (forward mode).

    Parameters
    ----------
    f : callable
        As for ``vjp``.
    primals, tangents : tuple
        f's arguments, and directions in the structure and shapes of these.
    has_aux : bool
        f returns ``(result, aux)``.

    Returns
    -------
    tuple
        ``(result, J v)``, both in the structure that f returns; with ``has_aux`` ``(result, J v, aux)``.

    f is recorded as for a gradient, then its tape is walked from the arguments on. So a jvp takes the memory of a
    gradient: it grows with the number of operations.

    Raises as ``vjp`` does; ValueError where tangents are built otherwise than primals.

    >>> import fastgrad as fg, numpy as np
    >>> fg.jvp(np.sin, (0.0,), (2.0,))
    (np.float64(0.0), np.float64(2.0))
    """
    for name, value in ("primals", primals), ("tangents", tangents):
        if not isinstance(value, (tuple, list)):
            raise TypeError(f"jvp: expected {name} as a tuple of one for each argument of f, got "
                            f"{describe_type(value)}; of a single argument x write (x,)")  # fmt: skip
    point = Point("jvp", f, tuple(primals), has_aux, any_numbers=True)
    tangent = point.push_tree(tuple(tangents), "jvp: tangents")
    return (point.value(), tangent, point.aux()) if has_aux else (point.value(), tangent)


def linearize(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """f(*primals), and the linear function of tangents that is f's derivative there: ``jvp`` for many tangents.

    Parameters
    ----------
    f, *primals, has_aux
        As for ``vjp``.

    Returns
    -------
    result : ndarray, number or nested structure of them
    f_jvp : callable
        ``f_jvp(*tangents)`` is J v in the structure of the result. It holds what f has recorded, does not run f,
        and may be called by several threads at once.
    aux
        With ``has_aux`` only.

    Raises as ``jvp`` does; RuntimeError where a tensor that f has read was changed in place since.

    >>> import fastgrad as fg, numpy as np
    >>> y, f_jvp = fg.linearize(lambda x: x**2, np.array([1.0, 2.0]))
    >>> f_jvp(np.array([1.0, 0.0])), f_jvp(np.array([0.0, 1.0]))
    (array([2., 0.]), array([0., 4.]))
    """
    point = Point("linearize", f, primals, has_aux, keep=True, any_numbers=True)

    def f_jvp(*tangents: Any) -> Any:
        return point.push_tree(tangents, "f_jvp: tangents")

    return (point.value(), f_jvp, point.aux()) if has_aux else (point.value(), f_jvp)


class Point:
    """A function recorded at given arguments, ready for passes in either direction.

    ``watched`` are the leaves of the arguments as tensors, ``results`` the leaves of the result, with float64 zeros in
    the place of integers and booleans; ``recorded`` says whether an outer transform differentiates the passes in turn.
    """

    def __init__(
        self, name: str, f: Callable[..., Any], primals: Any, has_aux: bool = False, keep: bool = False,
        call: Callable[[Any], Any] | None = None, what: str = "primals",
        cure: str = "let f read it from outside its arguments", any_numbers: bool = False,
    ) -> None:  # fmt: skip
        """``call`` calls f with tensors in the places of primals, by default as f(*primals); ``what`` is their name in
        errors. ``keep``: the tape outlasts the call, so arrays are copied. ``any_numbers``: f may return integers and
        booleans, whose derivatives are zeros."""
        if not callable(f):
            raise TypeError(f"{name}: expected a function, got {f!r}")
        connected = _core.grad_enabled()
        nested, mark = _core.in_transform(), _core.last_node_id()
        self.given, self.structure = tree.flatten(primals)
        with _core.Recording():
            self.watched = watch_leaves(
                self.given, connected, lambda k: f"{name}: {self.structure.paths(what)[k]}", cure, keep
            )
            inside = self.structure.unflatten(self.watched)
            try:
                result, self._aux = f(*inside) if call is None else call(inside), None
            except (TypeError, AttributeError) as error:
                note_lists(error, primals)
                raise
            if has_aux:
                result, self._aux = pair_with_aux(f, result, name)
            results, self.result_structure = tree.flatten(result)
            self._values = [constant_as_tensor(y, any_numbers) for y in results]
            self.results = list(self._values)
            for k, y in enumerate(self._values):
                if not isinstance(y, Tensor) or not (y.dtype.kind == "f" or any_numbers):
                    raise self._refusal(name, f, k, y)
                if y.dtype.kind != "f":
                    self.results[k] = _core.asarray(np.zeros(y.shape))
            if connected and not nested:
                aux = tree.leaves(self._aux) if has_aux else ()
                nested = _core.depends_on_outer([*self.results, *self.watched, *aux], mark)
            self.recorded = connected and nested  # an outer transform differentiates this again

    def _refusal(self, name: str, f: Callable[..., Any], k: int, y: Any) -> TypeError:
        """The error for result number k, which has no derivative."""
        path = self.result_structure.paths("")[k]
        if not isinstance(y, Tensor):
            return TypeError(
                f"{name}: {function_name(f)} returned {describe_type(y)}{path and f' at {path}'}, expected a tensor: "
                "nothing in it was recorded. Compute with fastgrad's or NumPy's functions on the arguments, not with "
                "math or on copies of their values; return constants by has_aux=True"
            )
        return TypeError(
            f"{name}: {function_name(f)} returned {y.dtype}{path and f' at {path}'}, which has no derivative; return "
            "it by has_aux=True"
        )

    def value(self) -> Any:
        return self.result_structure.unflatten(self.outward(self._values, self.recorded, copied=True))

    def aux(self) -> Any:
        inside = _core.transforming()
        return self._aux if self.recorded else tree.map(lambda x: as_constant(x, inside), self._aux)

    def recording(self, given: list[Tensor]) -> bool:
        """Whether a pass with these cotangents or tangents is to be differentiated again."""
        return _core.grad_enabled() and (self.recorded or any(x.requires_grad for x in given))

    def pull(self, cotangents: list[Tensor]) -> list[Tensor]:
        """The cotangents of the arguments."""
        if not self.recording(cotangents):
            return _core.pull(self.results, cotangents, self.watched, False)
        with _core.Recording():
            return self._with_lineage(_core.pull(self.results, cotangents, self.watched, True), cotangents)

    def push(self, tangents: list[Any], drop_zeros: bool = False, fill: bool = True) -> list[Any]:
        """The tangents of the results. A tangent that is None is zero, among the results only where they are not to be
        filled with zeros; ``drop_zeros`` is that of `pushforward.push`."""
        given = [t for t in tangents if t is not None]
        if self.recording(given):
            with _core.Recording():
                found = push(self.results, self.watched, tangents, True, drop_zeros)
                self._with_lineage([t for t in found if t is not None], given)
        else:
            with no_grad():
                constant = [None if t is None else t.detach() for t in tangents]
                found = push(self.results, self.watched, constant, False, drop_zeros)
        if not fill:
            return found
        return [_core.asarray(np.zeros(y.shape, y.dtype)) if t is None else t for t, y in zip(found, self.results)]

    def push_rows(self, tangents: list[Tensor], n: int) -> list[Tensor]:
        """The tangents of the results in n directions, as rows, from such tangents of the arguments; of a point that is
        neither recorded nor traced."""
        with no_grad():
            found = push_rows(self.results, self.watched, tangents, n)
        return [
            _core.adopt(np.zeros((n, *y.shape), y.dtype), "jacobian") if t is None else t
            for t, y in zip(found, self.results)
        ]

    def passes_are_short(self, n: int) -> bool:
        """Whether n passes, which are not recorded or traced, take little time beside that of tracing one."""
        return not self.recorded and not _core.transforming() and passes_are_short(self.results, self.watched, n)

    def _with_lineage(self, found: list[Tensor], given: list[Tensor]) -> list[Tensor]:
        """Results of a recorded pass, with the lineage of what was given to it.

        An outer transform to which this tape is a constant must not take them for its own because the pass reads the
        tape; it must where the cotangents or tangents given are its own.
        """
        if not self.recorded:
            _core.inherit_lineage(found, given)
        return found

    def push_tree(self, tangents: tuple[Any, ...], name: str) -> Any:
        """J v, in the structure of the result."""
        given = _like(self.structure, self.watched, tangents, name)
        return self.result_structure.unflatten(self.outward(self.push(given), self.recording(given)))

    def like_results(self, cotangents: Any, name: str) -> list[Tensor]:
        return _like(self.result_structure, self.results, cotangents, name)

    def outward(
        self, found: list[Tensor], recorded: bool, like: list[Any] | None = None, copied: bool = False
    ) -> list[Any]:
        """Tensors as the caller gets them: connected, as constants, or as ndarrays and numbers, ``copied`` if the tape
        keeps their memory."""
        if recorded:
            return found
        if _core.transforming():
            return [x.detach() for x in found]
        if copied:
            return [x.numpy().copy()[()] if x.ndim == 0 else x.numpy().copy() for x in found]
        if like is None:
            return [_core.own(x)[()] if x.ndim == 0 else _core.own(x) for x in found]
        return [array_like(x, a) for x, a in zip(found, like)]


def _like(structure: tree.Structure, tensors: list[Tensor], given: Any, name: str) -> list[Tensor]:
    """The leaves of a tree of cotangents or tangents, checked against tensors of a structure and cast to their
    dtypes."""
    found = []
    for k, (x, y) in enumerate(zip(structure.flatten_up_to(given, name), tensors)):
        x = _core.asarray(x)
        if x.shape != y.shape:
            before, _, what = name.rpartition(" ")
            raise ValueError(
                f"{before} {structure.paths(what)[k]} has shape {x.shape}, expected {y.shape}, that of the value it "
                "belongs to"
            )
        found.append(x if x.dtype == y.dtype else _core.astype(x, y.dtype))
    return found
