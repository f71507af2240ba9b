"""``bounded_while_loop``: a loop that ends by a condition, of at most so many steps, and so with a gradient.

Traced, it is a scan whose steps do nothing once the condition is false.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core, tree
from .._arguments import integer
from .._core import Tensor
from .._transforms.pure_callback import ShapeDtypeStruct, pure_callback
from .api import cond, scan
from .checks import carried, check_function, condition_of, handed_on, tensors_of

__all__ = ["bounded_while_loop"]

NAME = "bounded_while_loop"


def bounded_while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any, max_steps: int
) -> Any:
    """``value = body_fun(value)`` as long as ``cond_fun(value)`` is true, at most max_steps times, with a gradient.

    Parameters
    ----------
    cond_fun : callable
        Takes the value and returns a single boolean.
    body_fun : callable
        Takes the value and returns the next, of the same structure, shapes and dtypes.
    init_val : tree of arrays
        An array or a nested structure of them.
    max_steps : int
        The most steps that the loop may take.

    Returns
    -------
    tree of tensors
        The first value for which cond_fun is false.

    In an eager run this is a Python loop, whose steps are on the tape. Traced by ``compile``, or within ``vmap`` where
    the condition differs from element to element, it is a scan of max_steps steps: those after the end only test the
    condition, but the gradient stores what is carried for each of them, so max_steps should not be far above what is
    needed. Derivatives of all orders, in reverse and forward mode, are those of the steps taken. Python code checks the
    bound after the loop, so ``export`` refuses it.

    Raises RuntimeError where cond_fun is still true after max_steps steps, in a compiled function and for any element
    under ``vmap``, too; TypeError or ValueError where a function returns something else than described or max_steps is
    no integer of at least 0.

    >>> import fastgrad as fg
    >>> def root(a):
    ...     return fg.bounded_while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, 3.0, 50)
    >>> fg.compile(fg.value_and_grad(root))(4.0)
    (2.0, np.float64(0.25))
    """
    check_function(NAME, cond_fun)
    check_function(NAME, body_fun)
    max_steps = _at_least_0(max_steps)
    init, structure = tensors_of(NAME, "init_val", init_val)
    value, hand_on = handed_on(NAME, structure, init)
    left = max_steps
    while not _core.tracing_program():
        going = _core.holds(condition := cond_fun(value))
        if going is None:
            condition = condition_of(NAME, "cond_fun to return", condition)
            if _core.traced(condition):
                break  # mapped: it differs from element to element
            going = bool(condition)
        if not going:
            return value
        if left == 0:
            raise _exhausted(max_steps)
        value, left = hand_on(body_fun(value)), left - 1

    def holds(value: Any) -> Tensor:
        return condition_of(NAME, "cond_fun to return", cond_fun(value))

    def advance(value: Any) -> Any:
        return structure.unflatten(carried(NAME, structure, tree.leaves(value), body_fun(value)))

    def step(value: Any, _: None) -> tuple[Any, None]:
        return cond(holds(value), advance, lambda value: value, value), None

    def check(going: np.ndarray) -> np.ndarray:
        if going.any():
            raise _exhausted(max_steps)
        return ~going

    value = scan(step, value, length=left)[0]
    ended = pure_callback(check, ShapeDtypeStruct((), bool), holds(value), vmap_method="expand_dims")
    # Each result depends on the check, so that no pass leaves it out.
    return tree.map(lambda x: _core.where(ended, x, np.zeros((), x.dtype)), value)


def _at_least_0(max_steps: Any) -> int:
    if isinstance(max_steps, Tensor):
        _core.refuse_value(max_steps, "bound")
    steps = integer(NAME, "max_steps", max_steps, least=0)
    if steps >= 2**63:
        raise ValueError(f"{NAME}: expected max_steps that fits in an int64, got {steps}")
    return steps


def _exhausted(max_steps: int) -> RuntimeError:
    return RuntimeError(
        f"{NAME}: cond_fun is still true after max_steps={max_steps} steps; allow more, or see whether the loop ends"
    )
