"""``vmap``: a function of single elements applied to whole batches.

The function is traced once, on abstract tensors that stand for any element of the batch; the operations of backward
passes within it are part of the trace. Then each instruction is evaluated over the whole batch (evaluate.py,
_rules/batching.py), by operations that an outer transform sees as any others: a mapped function can be differentiated,
compiled and mapped again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor, reshape
from .._numpy.shapes import moveaxis
from .._rules.batching import whole
from .._rules.diagonal import Diagonal
from .evaluate import TracedFunction, first_row
from .transformed import transformed

__all__ = ["vmap"]

_FEW = 8  # so many short passes take less time than a trace of one


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """A function that applies f to each element of a batch, all at once.

    Parameters
    ----------
    f : callable
        Takes and returns arrays, or nested structures of them. It runs once, on tensors, and may use fastgrad's and
        NumPy's functions, ``grad``, and ``vmap`` itself.
    in_axes : int, None, or tuple of these or of structures of them
        Which axis of each positional argument is the batch; it may be negative. None: the argument is the same for all
        elements, and f gets it as it is, but ndarrays as tensors. An int or None in the place of a structure holds for
        all arrays in it. Keyword arguments are all mapped along axis 0.
    out_axes : int, None, or a structure of these
        Where the batch is in each result. None: the result does not depend on a mapped argument, and comes once.

    Returns
    -------
    callable
        Takes f's arguments with the batch as a further axis. Returns ndarrays; inside of another transform, and where a
        tensor is among the arguments or a result requires gradients, tensors.

    Raises ValueError where the batch's lengths differ, an axis does not exist, or in_axes is built otherwise than the
    arguments; TypeError where what is mapped or comes with an axis is no array. A branch on a value, ``float(x)`` or an
    index by a boolean mask inside f raise TraceError: use ``where``. f must not change tensors from outside; what it
    computes is known only by its result, and a tensor that it has stored elsewhere raises RuntimeError when used.

    >>> import fastgrad as fg, numpy as np
    >>> loss = lambda w, x, y: np.sum((x @ w - y) ** 2)
    >>> w, x, y = np.ones(2), np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2)
    >>> fg.vmap(fg.grad(loss), in_axes=(None, 0, 0))(w, x, y)  # one gradient for each sample
    array([[ 6., 12.],
           [42., 56.]])
    """
    if not callable(f):
        raise TypeError(f"vmap: expected a function, got {f!r}")
    in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes

    @transformed(f, vmap, in_axes, out_axes)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise ValueError(
                f"vmap: in_axes has {len(in_axes)} entries, but the function was called with {len(args)} positional "
                f"argument{'s' * (len(args) != 1)}; give each one an axis or None"
                f"{'; those by keyword are mapped along axis 0' if kwargs else ''}"
            )
        leaves, structure = tree.flatten((args, kwargs))
        axes = _spread(in_axes, args, "in_axes", "args")
        axes += [0] * (len(leaves) - len(axes))  # of keyword arguments
        inside = _core.transforming()
        where = {i: axis for i, axis in enumerate(axes) if axis is not None}
        batches = {i: _batch(leaves[i], axis, not inside, i, structure) for i, axis in where.items()}
        size = _size(batches, where, leaves, structure)
        call: list[Any] = []
        made: list[tree.Structure] = []

        def element() -> list[Tensor]:
            call[:] = [_core.element(batches[i]) if i in batches else _same(x, inside) for i, x in enumerate(leaves)]
            return [call[i] for i in batches]

        def on_element(_: list[Tensor]) -> list[Any]:
            inner, options = structure.unflatten(call)
            found, built = tree.flatten(f(*inner, **options))
            made.append(built)
            return found

        traced = TracedFunction(element, on_element, lambda: [first_row(x) for x in batches.values()])
        (structure_found,) = made
        found = traced.over(batches.values(), size)
        if out_axes is None or isinstance(out_axes, int):
            places = [out_axes] * len(found)
        else:
            places = _spread(out_axes, structure_found.unflatten(found), "out_axes", "result")
        results = [
            _placed(x, batched, axis, size, i, structure_found)
            for i, (x, batched, axis) in enumerate(zip(found, traced.batched, places))
        ]
        tensors = inside or any(isinstance(x, Tensor) for x in leaves)
        tensors = tensors or any(isinstance(x, Tensor) and x.requires_grad for x in results)
        return structure_found.unflatten(results if tensors else _ndarrays(results))

    return mapped


def vmap_over_basis(
    f: Callable[[list[Tensor]], list[Tensor]],
    tensors: list[Tensor],
    are_short: Callable[[int], bool],
    at_once: Callable[[list[Tensor], int], list[Tensor]] | None = None,
) -> list[Tensor]:
    """The results of a linear function for each unit vector of the space of these tensors, stacked along a first axis.

    The unit vectors of a single tensor are a `Diagonal`, which the passes of elementwise functions never expand.
    ``are_short``: whether so many calls of f, with values and without a record, take less time than a trace of it.
    ``at_once(stacks, n)``: what f does for n vectors, with their results stacked, if it can do that without a trace.
    """
    n = sum([x.size for x in tensors])
    if n == 1:
        return [reshape(y, (1, *y.shape)) for y in f([*map(_core.ones_like, tensors)])]
    if 1 < n and (at_once or n <= _FEW) and are_short(n):
        rows = at_once(_unit_vectors(tensors, n), n) if at_once else _one_by_one(f, tensors, n)
        if _are_finite(rows):
            return rows
    traced = TracedFunction(lambda: [*map(_core.abstract_like, tensors)], f, lambda: [*map(_core.ones_like, tensors)])
    batches: list[Tensor | Diagonal] = []
    if len(tensors) == 1:
        batches.append(Diagonal(_core.ones_like(tensors[0]), units=True))
    else:
        batches.extend(_unit_vectors(tensors, n))
    return [whole(y, batched, n) for y, batched in zip(traced.over(batches, n), traced.batched)]


def _unit_vectors(tensors: list[Tensor], n: int) -> list[Tensor]:
    """All n unit vectors of the space of the tensors: for each tensor the stack of its parts of them."""
    stacks, at = [], 0
    for x in tensors:
        stacks.append(_core.adopt(np.eye(n, x.size, -at, x.dtype).reshape((n, *x.shape)), "jacobian"))
        at += x.size
    return stacks


def _are_finite(stacks: list[Tensor]) -> bool:
    """Whether all elements are finite. The zeros of a unit vector times infinity are nan, those of a `Diagonal` 0."""
    return all(bool(np.isfinite(x.numpy()).all()) for x in stacks)


def _one_by_one(f: Callable[[list[Tensor]], list[Tensor]], tensors: list[Tensor], n: int) -> list[Tensor]:
    """The same by a call of f for each unit vector."""
    basis = []
    for place, x in enumerate(tensors):
        for k in range(x.size):
            unit = np.zeros(x.shape, x.dtype)
            unit.reshape(-1)[k] = 1
            basis.append((place, unit))
    zeros = [_core.adopt(np.zeros(x.shape, x.dtype), "jacobian") for x in tensors]
    rows = [f([*zeros[:place], _core.adopt(unit, "jacobian"), *zeros[place + 1 :]]) for place, unit in basis]
    return [_core.adopt(np.array([y.numpy() for y in ys]), "jacobian") for ys in zip(*rows)]


def _same(x: Any, inside: bool) -> Any:
    """An argument that is the same for all elements, as a tensor if it is an ndarray. ``inside`` a transform nobody
    writes to its memory; otherwise the tensor is a copy, which f may keep."""
    if not isinstance(x, np.ndarray):
        return x
    return _core.borrowed(x, externally_mutable=False) if inside else _core.tensor(x)


def _axis(axis: Any, what: str) -> int:
    try:
        return operator.index(axis)
    except TypeError:
        raise TypeError(f"vmap: expected {what} of ints and None, got {axis!r}") from None


def _spread(axes: Any, node: Any, what: str, path: str) -> list[int | None]:
    """An axis or None for each leaf of a tree, where ``axes`` has the upper part of the tree's structure."""
    kind = None if axes is None else tree.kind_of(type(axes))
    if kind is None:
        return [None if axes is None else _axis(axes, what)] * len(tree.leaves(node))
    if type(node) is not type(axes):
        raise ValueError(f"vmap: {what} has a {type(axes).__name__} for {path}, which is of type {type(node).__name__}")
    keys, children = kind.split(axes)[:2]
    own_keys, parts = kind.split(node)[:2]
    if not tree.same_keys(keys, own_keys):
        raise ValueError(f"vmap: {what} has the entries {list(keys)} for {path}, which has {list(own_keys)}")
    return [
        axis
        for key, child, part in zip(keys, children, parts)
        for axis in _spread(child, part, what, path + kind.entry.format(key))
    ]


# How to make an argument the same for all elements: a positional one, one by keyword.
_SAME = (
    "give it the axis None in in_axes",
    "keyword arguments are mapped along axis 0: pass it by position, with the axis None in in_axes",
)


def _batch(x: Any, axis: int, externally_mutable: bool, i: int, structure: tree.Structure) -> Tensor:
    """x, leaf number i of the arguments, as a tensor with the batch as first axis."""
    if isinstance(x, np.ndarray):
        x = _core.borrowed(x, externally_mutable)
    if not isinstance(x, Tensor):
        name = tree.place_of(structure, i)
        raise TypeError(f"vmap: {name} is {x!r}, expected an array to map over; {_SAME[name.startswith('kwargs')]}")
    if not -x.ndim <= axis < x.ndim:
        name = tree.place_of(structure, i)
        raise ValueError(f"vmap: in_axes gives {name} the axis {axis}, but its shape is {x.shape}")
    return x if axis % x.ndim == 0 else moveaxis(x, axis, 0)


def _size(batches: dict[int, Tensor], where: dict[int, int], leaves: list[Any], structure: tree.Structure) -> int:
    """The length of the batch. ``where`` maps the numbers of the mapped leaves to their axes."""
    if not batches:
        raise ValueError("vmap: no argument is mapped; at least one array must have an axis in in_axes")
    lengths = [len(batch) for batch in batches.values()]
    if len(set(lengths)) > 1:
        told: dict[int, str] = {}
        for length, (i, axis) in zip(lengths, where.items()):
            name = tree.place_of(structure, i)
            told.setdefault(length, f"{name} has {length} (axis {axis} of shape {leaves[i].shape})")
        raise ValueError(f"vmap: the mapped axes differ in length: {', '.join(told.values())}")
    return lengths[0]


def _placed(x: Any, batched: bool, axis: int | None, size: int, i: int, structure: tree.Structure) -> Any:
    """Result number i with the batch at the given axis."""
    if axis is None:
        if batched:
            name = structure.paths("result")[i]
            raise ValueError(f"vmap: out_axes is None for {name}, which depends on a mapped argument; give it an axis")
        return x.detach() if isinstance(x, Tensor) and not x.requires_grad else x
    if not batched:
        if not isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float)):
            raise TypeError(
                f"vmap: {structure.paths('result')[i]} is {x!r}, expected an array or a number; give it the axis None "
                "in out_axes"
            )
        x = whole(_core.asarray(x), False, size)
    if not -x.ndim <= axis < x.ndim:
        name = structure.paths("result")[i]
        raise ValueError(f"vmap: out_axes gives {name} the axis {axis}, but with the batch its shape is {x.shape}")
    return x if axis % x.ndim == 0 else moveaxis(x, 0, axis)


def _ndarrays(results: list[Any]) -> list[Any]:
    made = {id(x): _core.own(x)[()] if x.ndim == 0 else _core.own(x)
            for x in results if isinstance(x, Tensor)}  # fmt: skip
    seen: set[int] = set()
    arrays = []
    for x in results:
        arrays.append(x if id(x) not in made else made[id(x)].copy() if id(x) in seen else made[id(x)])
        seen.add(id(x))
    return arrays
