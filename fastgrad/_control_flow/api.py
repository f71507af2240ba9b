"""``scan``, ``while_loop``, ``cond`` and ``fori_loop``: loops and branches, each a single instruction of a program.

While no program is traced they are Python's own loops and branches over tensors. Within ``compile`` and
``training_step`` they become single instructions (scan.py, while_and_cond.py), whose size does not depend on the
number of steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor
from .._numpy.joining import stack
from . import body, while_and_cond
from . import scan as scan_operation
from .checks import (
    bounds,
    carried,
    check_function,
    condition_of,
    handed_on,
    kind_of,
    length_of,
    pair,
    tensors_of,
    views,
)

__all__ = ["cond", "fori_loop", "scan", "while_loop"]

_SINGLE = tree.structure(0)


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Carry a value through the rows of xs: ``carry, y = f(carry, x)`` for each, from the first to the last.

    Parameters
    ----------
    f : callable
        Takes what is carried and a row of xs, and returns what is carried on, of the same structure, shapes and dtypes,
        and a result of the step; both are arrays, nested structures of them, or None.
    init : tree of arrays
        What is carried into the first step. A Python float is a float64, an int an int64: beside float32 rows give
        ``np.float32(0)``.
    xs : tree of arrays, optional
        Arrays of one length along their first axis, of which each step gets a row.
    length : int, optional
        The number of steps; needed where xs holds no array.
    reverse : bool
        Go from the last row to the first. The results of the steps keep the places of their rows.

    Returns
    -------
    (carry, ys)
        What is carried at last, and the results of the steps stacked along a new first axis, as tensors.

    Traced by ``compile`` or ``training_step``, a scan is one instruction however long it is; f is called while the scan
    is traced, on tensors whose values are not known, and in no replay. A scan without steps calls f in this way too, to
    know the shapes of its results. What f computes from tensors outside of it alone is computed once, before the steps,
    even if there are none. The gradient of a scan stores what was carried from step to step and computes anew, one step
    at a time, what else it needs. Derivatives in forward mode, ``vmap`` and all of these of one another are loops too.

    Raises TypeError where f returns no pair or carries on another dtype or structure, ValueError where shapes or
    lengths differ.

    >>> import fastgrad as fg, numpy as np
    >>> total, sums = fg.scan(lambda total, x: (total + x, total + x), 0.0, np.array([1.0, 2.0, 3.0]))
    >>> sums
    tensor([1., 3., 6.])
    """
    check_function("scan", f)
    carry, structure = tensors_of("scan", "init", init)
    rows, row_structure = tensors_of("scan", "xs", xs)
    length = length_of(rows, row_structure, length)
    found: list[Any] = []  # the structure of the results of a step

    def of_step(y: Any, copy: bool = False) -> list[Tensor]:
        ys, shape = tensors_of("scan", "y", y, copy)
        if found and shape != found[0]:
            raise TypeError(f"scan: f returned y as {shape} and before that as {found[0]}")
        found[:] = [shape]
        return ys

    def step(inputs: list[Tensor]) -> list[Tensor]:
        result = f(structure.unflatten(inputs[: len(carry)]), row_structure.unflatten(inputs[len(carry) :]))
        on, y = pair(result)
        return [*carried("scan", structure, inputs, on), *of_step(y)]

    if length == 0 or (length > 1 and _core.tracing_program()):
        if length == 0 and not _core.tracing_program():
            results = _no_steps(step, carry, rows)
        else:
            results = scan_operation.scan(step, carry, rows, length, bool(reverse))
        return structure.unflatten(results[: len(carry)]), found[0].unflatten(results[len(carry) :])
    value, hand_on = handed_on("scan", structure, carry)
    kept = _core.Results(lambda y: (ys := views(of_step(y, copy=True)), found[0].unflatten(ys))[1])
    keep = kept.append
    try:
        for row in _steps(rows, row_structure, length, bool(reverse)):
            result = f(value, row)
            on, y = result if type(result) is tuple and len(result) == 2 else pair(result)
            value = hand_on(on)
            keep(y)
    except np.linalg.LinAlgError as error:
        done = len(kept.trees)
        _tell_step(error, length - 1 - done if reverse else done)
        raise
    trees = kept.trees[::-1] if reverse else kept.trees
    stacks = [trees] if found[0] == _SINGLE else zip(*map(tree.leaves, trees)) if found[0].num_leaves else ()
    return value, found[0].unflatten([stack(list(y)) for y in stacks])


def fori_loop(lower: int, upper: int, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """``value = body_fun(i, value)`` for i from lower up to, but not, upper: a scan over the integers, with a gradient.

    lower and upper are Python ints; i is an int64 tensor that counts as a Python int beside others, so that ``0.1 * i``
    times a float32 is a float32. What is carried, and errors, are as in ``scan``; OverflowError if i or the number of
    steps does not fit in an int64. Without steps body_fun is not called. Traced, it takes the same memory however many
    steps there are; its gradient stores what was carried from step to step.

    >>> import fastgrad as fg
    >>> fg.fori_loop(0, 3, lambda i, x: x + 0.5 * i, 1.0)
    tensor(2.5)
    """
    lower, length = bounds(lower, upper)
    check_function("fori_loop", body_fun)
    init, structure = tensors_of("fori_loop", "init_val", init_val)

    def step(i: Tensor, values: list[Tensor]) -> list[Tensor]:
        return carried("fori_loop", structure, values, body_fun(i, structure.unflatten(values)))

    if length and _core.tracing_program():
        return structure.unflatten(scan_operation.counted(step, init, lower, length))
    value, hand_on = handed_on("fori_loop", structure, init)
    try:
        for i in _core.Counter(lower, length):
            value = hand_on(body_fun(i, value))
    except np.linalg.LinAlgError as error:
        _tell_step(error, int(i) - lower)
        raise
    return value


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any) -> Any:
    """``value = body_fun(value)`` as long as ``cond_fun(value)`` is true.

    The value is an array or a nested structure of them, of the same structure, shapes and dtypes after each step, else
    TypeError or ValueError; cond_fun returns a single boolean.

    In an eager run this is a Python loop, whose steps are on the tape. Traced by ``compile`` it is one instruction. The
    number of its steps is not known, so it has a derivative in forward mode only, for which the loop runs once more;
    its gradient raises NotImplementedError. It is such an instruction within ``vmap``, too, where the condition differs
    from element to element: the loop goes on until the condition is false for all elements, and an element for which it
    is false keeps its value.

    >>> import fastgrad as fg
    >>> fg.while_loop(lambda x: x < 100, lambda x: 2 * x, 1.0)
    tensor(128.)
    """
    check_function("while_loop", cond_fun)
    check_function("while_loop", body_fun)
    values, structure = tensors_of("while_loop", "init_val", init_val)

    def test(inputs: list[Tensor]) -> list[Tensor]:
        return [condition_of("while_loop", "cond_fun to return", cond_fun(structure.unflatten(inputs)))]

    def step(inputs: list[Tensor]) -> list[Tensor]:
        return carried("while_loop", structure, inputs, body_fun(structure.unflatten(inputs)))

    if _core.tracing_program():
        values = while_and_cond.while_loop(test, step, values)
    else:
        value, hand_on = handed_on("while_loop", structure, values)
        try:
            for done in itertools.count():  # noqa: B007
                going = _core.holds(condition := cond_fun(value))
                if going is None:
                    condition = condition_of("while_loop", "cond_fun to return", condition)
                    if _core.traced(condition):
                        break
                    going = bool(condition)
                if not going:
                    return value
                value = hand_on(body_fun(value))
        except np.linalg.LinAlgError as error:
            _tell_step(error, done)
            raise
        values = while_and_cond.while_loop(test, step, tree.leaves(value))  # mapped: it differs from element to element
    return structure.unflatten(values)


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """``true_fun(*operands)`` where pred is true, else ``false_fun(*operands)``.

    pred is a single boolean, and ndarrays among the operands reach the functions as tensors. Where pred is known, only
    the function that it chooses is called. Where a program is traced and pred differs from call to call, both are
    traced, and a replay runs one of them; then they must return the same structure, shapes and dtypes, else TypeError.

    Within ``vmap``, where pred differs from element to element, both are computed and the results chosen by ``where``,
    as in JAX. Gradients are those of the chosen function. A function that may fail, as for a singular matrix or an
    index out of range, is called with values of elements that choose it only, and not at all where none does. Pass as
    operands what only one of them may compute with: what a function computes from tensors outside of it alone is
    computed whichever is chosen, its errors are raised, and an inf or nan in the derivative of that stays one.

    >>> import fastgrad as fg
    >>> f = fg.compile(lambda x: fg.cond(x > 0, fg.sqrt, fg.exp, x))
    >>> f(4.0), f(0.0)
    (np.float64(2.0), np.float64(1.0))
    """
    check_function("cond", true_fun)
    check_function("cond", false_fun)
    condition = condition_of("cond", "pred to be", pred)
    if not _core.traced(condition):
        return (true_fun if bool(condition) else false_fun)(*_on_tensors(operands))
    leaves, structure = tree.flatten(operands)
    array_places = [i for i, x in enumerate(leaves) if isinstance(x, (Tensor, np.ndarray))]
    inputs = [_core.asarray(leaves[i]) for i in array_places]
    weak = [_core.stands_for_number(leaves[i]) for i in array_places]
    found: dict[str, tree.Structure] = {}
    numbers: dict[str, list[bool]] = {}  # which results stand for Python numbers

    def branch(name: str, f: Callable[..., Any]) -> Callable[[list[Tensor]], list[Tensor]]:
        def flat(given: list[Tensor]) -> list[Tensor]:
            filled = list(leaves)
            for i, x, number in zip(array_places, given, weak):
                filled[i] = _core.made_weak(x) if number else x
            result = f(*structure.unflatten(filled))
            results, found[name] = tensors_of("cond", name, result)
            numbers[name] = [*map(_core.stands_for_number, tree.leaves(result))]
            return results

        return flat

    def check(true_kinds: list[Any], false_kinds: list[Any]) -> None:
        if found["true_fun"] != found["false_fun"]:
            raise TypeError(
                f"cond: true_fun returned {found['true_fun']} and false_fun {found['false_fun']}; both must return the "
                "same structure"
            )
        for path, a, b in zip(found["true_fun"].paths("result"), true_kinds, false_kinds):
            if a != b:
                raise TypeError(
                    f"cond: {path} is {kind_of(*a)} from true_fun and {kind_of(*b)} from false_fun; both must return "
                    "the same shape and dtype"
                )

    branches = branch("true_fun", true_fun), branch("false_fun", false_fun)
    chosen = while_and_cond.cond(condition, *branches, inputs, check, in_batch=not _core.tracing_program())
    results = [
        _core.made_weak(x) if all(both) else x for x, *both in zip(chosen, numbers["true_fun"], numbers["false_fun"])
    ]
    return found["true_fun"].unflatten(results)


def _on_tensors(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands with tensors in the place of ndarrays, as the branches of a traced cond get them."""
    leaves, structure = tree.flatten(operands)
    found = _core.arrays_as_tensors(leaves)
    return operands if found is leaves else structure.unflatten(found)


# ---- eager ----------------------------------------------------------------------------------------------------------
def _tell_step(error: np.linalg.LinAlgError, step: int) -> None:
    """The text of an error in an eager loop ends as that of a loop of a program."""
    error.args = (f"{error}, in step {step} of the loop",)


def _steps(rows: list[Tensor], structure: tree.Structure, length: int, reverse: bool) -> Iterator[Any]:
    """The row that each step takes."""
    if not rows:
        return itertools.repeat(structure.unflatten([]), length)
    each = [_core.Rows(x, reverse) for x in rows]
    return iter(each[0]) if structure == _SINGLE else map(structure.unflatten, zip(*each))


def _no_steps(step: Callable[[list[Tensor]], list[Tensor]], carry: list[Tensor], rows: list[Tensor]) -> list[Tensor]:
    """The results of no steps: f, traced on abstract tensors, tells their shapes and dtypes."""
    try:
        with _core.Grads(False):
            kinds = body.trace(step, carry, rows).kinds[len(carry) :]
    except _core.TraceError as error:
        raise _core.TraceError(
            "scan: there are no steps, and what f would return is found out by a call on tensors without values, in "
            f"which it asked for one: {error}"
        ) from None
    return [*carry, *[body.zeros(dtype, (0, *shape)) for dtype, shape in kinds]]
