"""``pure_callback``: a call of a function of ndarrays as an operation, as ``jax.pure_callback``: a primitive without
rules, whose result's shapes are given.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from .primitive import primitive

__all__ = ["ShapeDtypeStruct", "pure_callback"]


class _Callback(primitive):
    """The function of a `pure_callback`, called with its positional arguments and those by keyword."""

    _kind = "pure_callback"
    _checks_always = True

    def __init__(self, f: Callable[..., Any], result_shape: Any, vmap_method: str) -> None:
        if not callable(f):
            raise TypeError(f"pure_callback: expected a function, got {f!r}")
        if result_shape is None:
            raise TypeError(
                "pure_callback: expected arrays of the shapes and dtypes of the result as result_shape, got None"
            )
        call = lambda args, kwargs: f(*args, **kwargs)
        call.__name__ = getattr(f, "__name__", type(f).__name__)
        super().__init__(call, result_shape, vmap_method)
        self._identified = f

    def _kinds_of_result(self, args: tuple[Any, ...]) -> tuple[list[Any] | None, tree.Structure | None]:
        if callable(self._result_shape) and not hasattr(self._result_shape, "dtype"):
            raise TypeError(
                f"{self._name}: expected arrays of the shapes and dtypes of the result as result_shape, got "
                f"{self._result_shape!r}"
            )
        return super()._kinds_of_result(args)

    def _without_rule(self, mode: str, name: str) -> NotImplementedError:
        return NotImplementedError(
            f"{self._name}: it has no derivative, but {name} is differentiated by; make the function a "
            "fastgrad.primitive and give it a rule by defvjp or defjvp, or pass the argument's .detach()"
        )


class ShapeDtypeStruct:
    """The shape and dtype of an array, as ``jax.ShapeDtypeStruct``: what ``pure_callback`` is told of a result.

    >>> import fastgrad as fg
    >>> fg.ShapeDtypeStruct((2, 3), "float32")
    ShapeDtypeStruct((2, 3), float32)
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: int | Sequence[int], dtype: Any) -> None:
        self.shape = tuple([operator.index(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,))])
        if any(n < 0 for n in self.shape):
            raise ValueError(f"ShapeDtypeStruct: expected lengths of at least 0, got {self.shape}")
        self.dtype = np.dtype(dtype)

    def __repr__(self) -> str:
        return f"ShapeDtypeStruct({self.shape}, {self.dtype})"


def pure_callback(
    f: Callable[..., Any], result_shape: Any, *args: Any, vmap_method: str = "sequential", **kwargs: Any
) -> Any:
    """The result of f, a function of ndarrays, as an operation: it compiles, maps, and runs in loops.

    Parameters
    ----------
    f : callable
        Called with ndarrays, read-only copies, in the places of tensors. It must be pure: a program calls it at each
        run, but not where its result is not needed, and once where equal calls occur twice. An exception that it raises
        comes out of the call, with its own traceback.
    result_shape : array_like, ShapeDtypeStruct, or nested structure of these
        The structure, shapes and dtypes of the result; elements are not looked at.
    *args, **kwargs
        Arguments of f: tensors, ndarrays, numbers and other objects, also nested.
    vmap_method : str
        What ``vmap`` does: "sequential" calls f for each element; "expand_dims" calls it once, with the batch as first
        axis of what is mapped, and a first axis of length 1 for the other tensors: f has to broadcast them.

    The result has no derivative: give a ``primitive`` its rule instead. A program that calls f holds the GIL; a call
    costs some microseconds beside the work of f. The program keeps f alive, and no garbage collection finds a cycle
    through it: an f that refers to the compiled function which calls it is never freed.

    Raises ValueError where f returns other shapes, a dtype of another kind, or integers that the announced dtype does
    not hold; a result of another dtype of the same kind is converted, float64 to float32 for one. Raises TypeError for
    another structure, NotImplementedError where the result is differentiated.

    >>> import fastgrad as fg, numpy as np
    >>> f = fg.compile(lambda x: 2 * fg.pure_callback(np.sort, x, x))
    >>> f(np.array([3.0, 1.0, 2.0]))
    array([2., 4., 6.])
    """
    return _Callback(f, result_shape, vmap_method)(args, kwargs)
