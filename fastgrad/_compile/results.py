"""The results of a compiled function: which it may return, and what makes them of the results of its program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from .._core import Program, Tensor

# What a compiled function may return beside tensors: the same at every call, and nothing in it can be a tensor.
_CONSTANTS = (np.ndarray, np.generic, np.dtype, bool, int, float, complex, str, bytes)
_OBJECT = np.dtype(object)


def result_tensors(result: Any, leaves: list[Any]) -> list[Tensor]:
    """The tensors among the leaves of what the function returned; TypeError if a compiled function cannot return it."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    for tensor in tensors:
        if tensor.requires_grad:
            raise TypeError("compile: the function returned a tensor that requires gradients; return its .detach()")
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            continue
        if not isinstance(leaf, _CONSTANTS) or getattr(leaf, "dtype", None) == _OBJECT:
            path, _ = tree.flatten_with_path(result)[0][i]
            raise TypeError(
                f"compile: result{path} is of type {type(leaf).__name__}, which would be the same object at "
                "every call; return arrays, numbers and strings, alone or in dicts, lists and tuples"
            )
    return tensors


def owned(x: Any) -> Any:
    """A result, or a constant of a program among its results, as a caller gets it: an ndarray of its own, or a number
    if it has no axes."""
    a = x.numpy() if isinstance(x, Tensor) else x
    return (a.copy() if a.ndim else a[()]) if isinstance(a, np.ndarray) else a


def rebuilder(structure: tree.Structure, leaves: list[Any]) -> Callable[[list[Any]], Any] | None:
    """A function from the program's results to the structure that f returned; None where that is a single result."""
    if all(isinstance(leaf, Tensor) for leaf in leaves):
        if structure == tree.structure(0):
            return None
        if structure == tree.structure(tuple(range(len(leaves)))):
            return tuple
        return structure.unflatten
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    constants = [None if isinstance(leaf, Tensor) else owned(leaf) for leaf in leaves]

    def rebuild(results: list[Any]) -> Any:
        filled = [*map(owned, constants)]
        for i, result in zip(places, results):
            filled[i] = result
        return structure.unflatten(filled)

    return rebuild


def told_apart(leaf: Any) -> Any:
    """What tells a constant among a function's results from others; None for a tensor, which the program computes."""
    if isinstance(leaf, Tensor):
        return None
    if isinstance(leaf, (np.ndarray, np.generic)):
        return type(leaf), leaf.dtype, leaf.shape, leaf.tobytes()
    return type(leaf), repr(leaf)


def compare(found: Any, expected: Any, single: bool) -> None:
    """AssertionError where a replay's results differ from the function's; ``single``: Python floats may have been
    computed in float32."""
    expected = tree.map(lambda x: x.numpy() if isinstance(x, Tensor) else x, expected)
    if tree.structure(found) != tree.structure(expected):
        raise AssertionError(
            f"compile: the replay returned {tree.structure(found)}, the function {tree.structure(expected)}"
        )
    for (path, a), (_, b) in zip(tree.flatten_with_path(found)[0], tree.flatten_with_path(expected)[0]):
        if isinstance(a, (np.ndarray, np.generic, float)):
            tolerance = 1e-4 if np.asarray(a).dtype == np.float32 or (single and type(a) is float) else 1e-10
            what = f"compile: result{path} of the replay"
            np.testing.assert_allclose(np.asarray(a), b, rtol=tolerance, atol=tolerance, err_msg=what)
        elif isinstance(a, (int, str)) and a != b:
            raise AssertionError(
                f"compile: result{path} of the replay is the constant {a!r}, the function returned {b!r}"
            )


class Draws:
    """The states of the generators that a program draws from. For ``verify``: they are set back after a replay, so that
    the function itself draws the same numbers, and compared after that."""

    def __init__(self, program: Program) -> None:
        self._states = program.random_states()
        self._before = [state.copy() for state in self._states]

    def rewind(self) -> None:
        self._after = [state.copy() for state in self._states]
        for state, before in zip(self._states, self._before):
            state[...] = before

    def check(self) -> None:
        for state, after in zip(self._states, self._after):
            if not np.array_equal(state, after):
                raise AssertionError("compile: the replay drew more or fewer random numbers than the function")
