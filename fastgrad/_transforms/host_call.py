"""Calls of functions of ndarrays: what `primitive` and `pure_callback` do with the function itself, without its rules.

Where all operands have values the function is called. In a trace it becomes an operation. In that of a mapped function,
or of the body of a loop, the operation is a compound, which over a batch calls the function for each element, or once
with the batch as first axis. In that of a program it is the operation `numpy` of the core, whose first operand is the
function itself (`_core.HostFunction`): so the program keeps it alive, as any constant. Several results are the bytes of
one block, and cut out of it by further calls of that kind.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor
from .evaluate import Compound, first_elements, trace_call

__all__ = ["HostCall", "Identity", "arguments_key", "called"]

Kinds = list[tuple[tuple[int, ...], np.dtype[Any]]]  # shapes and dtypes


class HostCall(Compound):
    """A function of ndarrays that returns a list of them, and how it is called over a batch.

    ``key``: equal ones mean that functions do the same, None that it is not known. ``kinds``: of the results without
    the axes ``lead`` of batches, which come first; None until they are known. ``whole``: for each batch that is given
    whole to the function, outermost first, which operands have its axis.
    """

    draws = False

    def __init__(
        self, name: str, f: Callable[..., list[Any]], key: Hashable, kinds: Kinds | None, method: str = "sequential",
        lead: tuple[int, ...] = (), whole: tuple[tuple[bool, ...], ...] = (),
    ) -> None:  # fmt: skip
        self.name, self.f, self.key, self.kinds, self.method, self.lead = name, f, key, kinds, method, lead
        self.whole, self.alone = whole, f  # alone: without any batch

    def __call__(self, *arrays: Any) -> list[np.ndarray]:
        """The results, checked."""
        results = [np.asarray(y) for y in self.f(*arrays)]
        if self.kinds is None:
            return results
        if len(results) != len(self.kinds):
            raise ValueError(f"{self.name}: it returned {len(results)} arrays, expected {len(self.kinds)}")
        for k, (y, (shape, dtype)) in enumerate(zip(results, self.kinds)):
            if y.shape != (*self.lead, *shape):
                raise ValueError(f"{self.name}: it returned shape {y.shape}, expected {(*self.lead, *shape)}")
            if y.dtype != dtype:
                if not np.can_cast(y.dtype, dtype, "same_kind"):
                    raise ValueError(f"{self.name}: it returned {y.dtype}, expected {dtype}")
                results[k] = y.astype(dtype)
                if dtype.kind in "iu" and not (results[k] == y).all():
                    raise ValueError(f"{self.name}: it returned integers of {y.dtype} that {dtype} does not hold")
        return results

    def block(self, *arrays: Any) -> np.ndarray:
        """The only result, or the bytes of all of them along the last axis."""
        results = self(*arrays)
        if len(results) == 1:
            return results[0]
        rows = [np.ascontiguousarray(y).reshape(*self.lead, -1) for y in results if y.size]
        rows = [y.view(np.uint8) for y in rows]
        return np.concatenate(rows, -1) if rows else np.zeros((*self.lead, 0), np.uint8)

    def at(self, operands: list[Tensor], wanted: Any = ()) -> list[Tensor]:
        return called(self, operands)

    def over(self, operands: list[Tensor], batched: list[bool], size: int, wanted: Any = ()) -> list[Tensor]:
        assert self.kinds is not None
        flags = tuple(batched)
        if self.method == "sequential":
            whole, f = self.whole, functools.partial(_each, self, flags, size)
        else:
            whole = (flags, *self.whole)
            f = functools.partial(_at_once, self.alone, whole)
        key = None if self.key is None else (self.key, flags, size)
        made = HostCall(self.name, f, key, self.kinds, self.method, (size, *self.lead), whole)
        made.alone = self.alone
        return called(made, operands)


def _each(call: HostCall, batched: tuple[bool, ...], size: int, *arrays: Any) -> list[Any]:
    """The results over a batch, of one call for each element."""
    assert call.kinds is not None
    rows = [call(*[x[i] if over else x for x, over in zip(arrays, batched)]) for i in range(size)]
    if not rows:
        return [np.zeros((0, *call.lead, *shape), dtype) for shape, dtype in call.kinds]
    return [np.stack(parts) for parts in zip(*rows)]


def _at_once(f: Callable[..., list[Any]], whole: tuple[tuple[bool, ...], ...], *arrays: Any) -> list[Any]:
    """The results of f over batches, of one call; what is not in a batch gets an axis of length 1 in its place."""
    missing = [tuple(axis for axis, batched in enumerate(whole) if not batched[k]) for k in range(len(arrays))]
    return f(*[np.expand_dims(x, axes) for x, axes in zip(arrays, missing)])


def called(call: HostCall, tensors: list[Tensor]) -> list[Tensor]:
    """The results for tensors, without gradients: of the call, or abstract ones of an operation in a trace."""
    if not any(map(_core.traced, tensors)):
        return [_core.tensor(y) for y in call(*[x.detach().numpy() for x in tensors])]
    if call.kinds is None:
        call = HostCall(call.name, call.f, call.key, _kinds_found(call, tensors), call.method)
    assert call.kinds is not None
    like = [np.broadcast_to(np.zeros((), dtype), (*call.lead, *shape)) for shape, dtype in call.kinds]
    found = trace_call(call, tensors, like)  # type: ignore[arg-type]
    return found or _in_program(call, tensors)


def _kinds_found(call: HostCall, tensors: list[Tensor]) -> Kinds:
    """The shapes and dtypes of the results, from a call on the values that the tensors have in the first element of a
    batch; while a program is traced there are none, and stand-ins of the same shapes take their place."""
    values = first_elements(tensors)
    if values is not None:
        return [(y.shape, y.dtype) for y in called(call, values)]
    rng = np.random.default_rng(0)
    stand_ins = [
        x.detach().numpy() if not _core.traced(x) else rng.uniform(0.5, 1.5, x.shape).astype(x.dtype) for x in tensors
    ]
    try:
        with np.errstate(all="ignore"):
            return [(y.shape, y.dtype) for y in call(*stand_ins)]
    except TypeError as error:
        if str(error).startswith(call.name):  # our own, which says what is wrong with the function
            raise
        raise _unknown(call, error) from error
    except Exception as error:
        raise _unknown(call, error) from error


def _unknown(call: HostCall, error: Exception) -> _core.TraceError:
    return _core.TraceError(
        f"{call.name} was called while the function is traced, where its arguments have no values, and for numbers in "
        f"their place it raised {type(error).__name__}: {error}. Say what it returns, as in fastgrad.primitive(f, "
        "result_shape=lambda x: x), with arrays of the shapes and dtypes of its results"
    )


def _in_program(call: HostCall, tensors: list[Tensor]) -> list[Tensor]:
    """The results as those of an operation of the program that is traced."""
    assert call.kinds is not None
    sizes = [int(np.prod(shape)) * dtype.itemsize for shape, dtype in call.kinds]
    single = len(call.kinds) == 1
    shape, dtype = call.kinds[0] if single else ((sum(sizes),), np.dtype(np.uint8))
    block = _core.host_call(_registered(call), tensors, dtype, (*call.lead, *shape))
    if single:
        return [block]
    begins = [sum(sizes[:k]) for k in range(len(sizes))]
    return [
        _core.by_numpy(_cut_out, block, begin=begin, dtype=dtype.str, shape=(*call.lead, *shape), axes=len(call.lead))
        for begin, (shape, dtype) in zip(begins, call.kinds)
    ]


def _cut_out(block: Any, begin: int, dtype: str, shape: tuple[int, ...], axes: int) -> Any:
    """One of the arrays whose bytes are along the last axis of a block."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    size = int(np.prod(shape[axes:])) * np.dtype(dtype).itemsize
    return np.ascontiguousarray(block[..., begin : begin + size]).view(dtype).reshape(shape)


# One object for equal calls, as long as a program uses it: a function that is traced twice gives equal programs.
_known: weakref.WeakValueDictionary[Any, _core.HostFunction] = weakref.WeakValueDictionary()


def _registered(call: HostCall) -> _core.HostFunction:
    made = _core.HostFunction(call.block)
    if call.key is None:
        return made
    kinds = tuple([(shape, dtype.str) for shape, dtype in call.kinds or ()])
    try:
        return _known.setdefault((call.key, kinds, call.method, call.lead), made)
    except TypeError:  # something in the key cannot be hashed
        return made


class Identity:
    """A function as a part of a key: equal to another that does the same, to itself or to one of the same text, as the
    same ``lambda`` evaluated twice, if they read the same objects. It keeps the function, and compares what the two
    read at that moment: a variable may have been bound anew since the key was made."""

    __slots__ = ("_hash", "f")

    def __init__(self, f: Any) -> None:
        self.f = f
        self._hash = hash(f.__code__) if isinstance(f, types.FunctionType) else id(f)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return NotImplemented
        return self.f is other.f or self._text() == other._text()

    def _text(self) -> Hashable:
        """The code and the objects that it reads; of what is no Python function, the object itself."""
        f = self.f
        if not isinstance(f, types.FunctionType):
            return id(f)
        try:
            cells = [id(cell.cell_contents) for cell in f.__closure__ or ()]
        except ValueError:  # a variable that has no value yet
            return id(f)
        defaults = [id(x) for x in f.__defaults__ or ()]
        by_keyword = [(name, id(x)) for name, x in (f.__kwdefaults__ or {}).items()]
        return f.__code__, id(f.__globals__), tuple(defaults), tuple(by_keyword), tuple(cells)


def arguments_key(values: Sequence[Any]) -> Hashable:
    """A key of arguments that are no tensors: numbers and strings by value, with the sign of a zero, other objects by
    identity."""
    return tuple(
        [
            (type(x), x.hex() if isinstance(x, float) else x if isinstance(x, (int, str, bytes, type(None))) else id(x))
            for x in values
        ]
    )
