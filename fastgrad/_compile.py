"""``compile``: a function recorded once and replayed in one call of the C core.

The first call with a new structure, shapes, dtypes and static values runs the function on tensors and records the
operations that depend on its arguments, the backward pass among them. Later calls check the arguments in C and
replay. What the function reads from outside its arguments is a constant of the recording.
"""

from __future__ import annotations

import functools
import operator
import os
import threading
import traceback
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _core, tree
from ._core import Program, Rule, Tensor, TraceError

__all__ = ["CacheInfo", "Compiled", "compile"]

# What a compiled function may return beside tensors: the same at every call, and nothing in it can be a tensor.
_CONSTANTS = (np.ndarray, np.generic, np.dtype, bool, int, float, complex, str, bytes)


class CacheInfo(NamedTuple):
    """As ``functools.lru_cache`` tells: calls replayed, calls recorded, and programs kept."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class _Entry(NamedTuple):
    program: Program
    rebuild: Callable[[list[Any]], Any] | None
    guard: Any


class Compiled(_core.Replayer):
    """What ``compile`` returns. Called as the function it was made from, with arrays in and out."""

    def __init__(
        self,
        f: Callable[..., Any],
        static_argnums: tuple[int, ...] = (),
        maxsize: int = 64,
        verify: bool = False,
        wary: bool = False,
        kept: int = 0,
    ) -> None:
        functools.update_wrapper(self, f)
        self._f, self._static, self._maxsize, self._verify = f, static_argnums, maxsize, verify
        self._wary = wary  # for a training step: record twice before believing a program; every result is an ndarray
        self._kept = kept  # how many of the last results are gradients that stay in the program
        self._doubted: set[Any] = set()
        self._entries: OrderedDict[Any, _Entry] = OrderedDict()
        self._misses = 0
        self._lock = threading.Lock()  # over what is kept, not while f runs

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: the function, but no programs; those are recorded anew."""
        dropped = ("_lock", "_entries", "_doubted", "_misses")
        return {name: value for name, value in vars(self).items() if name not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self._entries, self._doubted = OrderedDict(), set()
        self.cache_clear()
        vars(self).update(state)

    def _slowly(self, args: tuple[Any, ...]) -> Any:
        if _core.tracing():
            return self._f(*args)
        entry, inputs = self._entry(args)
        draws = _Draws(entry.program) if self._verify else None
        results = entry.program.run(inputs)
        result = results[0] if entry.rebuild is None else entry.rebuild(results)
        if draws is not None:
            draws.rewind()
            static = self._static_of(args)
            moving = tuple(a for i, a in enumerate(args) if i not in static)
            tensors = iter(tree.unflatten(tree.structure(moving), [_core.tensor(a) for a in inputs]))
            _compare(result, self._f(*[a if i in static else next(tensors) for i, a in enumerate(args)]))
            draws.check()
        return result

    def train(self, args: tuple[Any, ...], rule: Rule, checked: bool) -> tuple[float, int, np.ndarray | None]:
        """A training step with parameters args[0], updated by rule: what ``Program.train`` says of it."""
        found = self._train(args, rule, checked)
        if found is None:
            entry, inputs = self._entry(args)
            found = entry.program.train(inputs, rule, checked)
        return found

    def program(self, *args: Any) -> Program:
        """The program that a call with these arguments replays; recorded now if there is none."""
        return self._entry(args)[0].program

    def cache_info(self) -> CacheInfo:
        """How often a program was replayed and recorded, and how many are kept."""
        return CacheInfo(self._hits, self._misses, self._maxsize, len(self._entries))

    def cache_clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._entries.clear()
            self._doubted.clear()
            self._remember(None, None, None)
            self._hits = self._misses = 0

    def _static_of(self, args: tuple[Any, ...]) -> set[int]:
        for i in self._static:
            if not -len(args) <= i < len(args):
                raise TypeError(
                    f"compile: static_argnums names argument {i}, but the function was called with {len(args)} positional "
                    f"argument{'s' * (len(args) != 1)}"
                )
        return {i % len(args) for i in self._static}

    def _entry(self, args: tuple[Any, ...]) -> tuple[_Entry, list[np.ndarray]]:
        static = self._static_of(args)
        moving = tuple(a for i, a in enumerate(args) if i not in static)
        leaves, structure = tree.flatten(moving)
        inputs = [_input(leaf, structure, i) for i, leaf in enumerate(leaves)]
        fixed = tuple((i, _typed(args[i], i)) for i in sorted(static))
        key = (len(args), fixed, structure, tuple((a.shape, a.dtype.char) for a in inputs))
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._hits += 1
                self._entries.move_to_end(key)
        if entry is None:
            entry = self._record(args, static, structure, inputs)
            with self._lock:
                self._misses += 1
                self._entries[key] = entry
                if self._wary:
                    self._doubted.add(key)
                if len(self._entries) > self._maxsize:
                    self._doubted.discard(self._entries.popitem(last=False)[0])
        else:
            if key in self._doubted:
                if not entry.program.same_as(self._record(args, static, structure, inputs).program):
                    raise TraceError(
                        "compile: two recordings of this function differ; it draws random numbers of another library than "
                        "fastgrad.random, counts its calls, or reads something from outside its arguments that has changed"
                    )
                self._doubted.discard(key)
        fast = entry.guard is not None and not self._verify and key not in self._doubted
        self._remember(entry.guard if fast else None, entry.program, entry.rebuild)
        return entry, inputs

    def _record(
        self, args: tuple[Any, ...], static: set[int], structure: tree.Structure, inputs: list[np.ndarray]
    ) -> _Entry:
        _core.trace_begin()
        try:
            moving = iter(tree.unflatten(structure, [_core.trace_input(a) for a in inputs]))
            call = [a if i in static else next(moving) for i, a in enumerate(args)]
            result = self._f(*call)
            leaves, shape = tree.flatten(result)
            wanted = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            for tensor in wanted:
                if tensor.requires_grad:
                    raise TypeError("compile: the function returned a tensor that requires gradients; return its .detach()")
            for path, leaf in tree.flatten_with_path(result)[0]:
                if not isinstance(leaf, (Tensor, *_CONSTANTS)) or getattr(leaf, "dtype", None) == object:
                    raise TypeError(
                        f"compile: result{path} is of type {type(leaf).__name__}, which would be the same object at every "
                        "call; return arrays, numbers and strings, alone or in dicts, lists and tuples"
                    )
        except BaseException:
            _core.trace_abort()
            raise
        program = _core.trace_end(wanted, numbers=not self._wary, kept=self._kept)
        rebuild = _rebuilder(shape, leaves)
        guard = None if static else _core.make_guard(args, iter(range(len(inputs))), tree.is_named_tuple)
        return _Entry(program, rebuild, guard)


class Replayed:
    """A function of arrays that is recorded and replayed, or run as it is after one warning if that cannot be.

    `traced` is what is recorded, on tensors; `eager` computes the same on ndarrays, in results of whatever type.
    `name` is the subject of the warning.
    """

    def __init__(
        self, traced: Callable[..., Any], eager: Callable[..., Any], name: str, compile: bool = True
    ) -> None:
        self.compiled = Compiled(traced, wary=True) if compile else None
        self._eager, self._name = eager, name

    def __call__(self, *args: Any) -> Any:
        if self.compiled is None:
            return self._eager(*args)
        try:
            return self.compiled(*args)
        except Exception as error:
            return self.give_up(error, args, 4)

    def give_up(self, error: Exception, args: tuple[Any, ...], stacklevel: int) -> Any:
        """Run eagerly from now on, as the program failed for this reason; or raise what the function raises itself."""
        found = self._eager(*args)
        self.compiled = None
        warnings.warn(
            f"{self._name} cannot be recorded and runs eagerly{_place(error)}: {error}. Give compile=False to run it "
            "so without this warning",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
        return found


def _place(error: BaseException) -> str:
    """Where in the user's code an error came from, as the end of a phrase; a TraceError says so itself."""
    if isinstance(error, _core.TraceError):
        return ""
    here = os.path.dirname(__file__)
    frames = [
        f for f in traceback.extract_tb(error.__traceback__)
        if os.path.dirname(f.filename) != here and not f.filename.endswith((".pyx", ".pxi"))
    ]  # fmt: skip
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def compile(
    f: Callable[..., Any],
    *,
    static_argnums: int | Sequence[int] = (),
    maxsize: int = 64,
    verify: bool = False,
) -> Compiled:
    """Record f once for each kind of arguments, and replay it in one call of the C core.

    Parameters
    ----------
    f : callable
        Takes and returns arrays, or nested structures of them. It may be a plain function, ``grad(g)``,
        ``value_and_grad(g)``, and use fastgrad's or NumPy's functions.
    static_argnums : int or sequence of ints
        Positional arguments that are constants: f gets them as they are, and a new value records a new program. They
        must be hashable.
    maxsize : int
        How many programs are kept; the one not used for longest is dropped first.
    verify : bool
        Run f itself beside every replay and raise AssertionError where the results differ.

    Returns
    -------
    Compiled
        Takes f's positional arguments. Arrays come back as ndarrays of their own memory, results without axes as NumPy
        numbers. ``.program(*args)`` shows the program, ``.cache_info()`` how often it was replayed.

    A branch on a value, ``float(x)`` or ``x.numpy()`` inside f raise TraceError, a TypeError that names the line: their
    result would be frozen into the program. Arrays that f reads from outside its arguments are constants.

    >>> import fastgrad as fg, numpy as np
    >>> f = fg.compile(fg.value_and_grad(lambda x: np.sum(np.tanh(x) ** 2)))
    >>> f(np.array([0.0, 1.0]))[1].round(4)
    array([0.    , 0.6397])
    """
    if not callable(f):
        raise TypeError(f"compile: expected a function, got {type(f).__name__}")
    numbers = static_argnums if isinstance(static_argnums, (tuple, list)) else (static_argnums,)
    if operator.index(maxsize) < 1:
        raise ValueError(f"compile: expected maxsize of at least 1, got {maxsize}")
    return Compiled(f, tuple(operator.index(i) for i in numbers), maxsize, verify)


class _Draws:
    """The generators that a program draws from, so that the function run beside a replay draws the same numbers."""

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


def _typed(value: Any, i: int) -> Any:
    """A static argument as a key."""
    if type(value) is tuple:
        return tuple(_typed(item, i) for item in value)
    try:
        hash(value)
    except TypeError:
        value_type = type(value).__name__
    else:
        if not isinstance(value, Tensor):
            return tree.exact(value)
        value_type = "Tensor"
    cure = ", such as a tuple" if isinstance(value, (list, dict, set)) else "; arrays are passed as arguments that are not static"
    raise TypeError(f"compile: the static argument {i} holds a {value_type}, expected hashable constants{cure}")


def _input(leaf: Any, structure: tree.Structure, i: int) -> np.ndarray:
    if isinstance(leaf, Tensor):
        if leaf.requires_grad:
            raise TypeError("compile: an argument is a tensor that requires gradients; compile the gradient instead, as in "
                            "compile(grad(f)), or pass its .detach()")
        leaf = leaf.numpy()
    if not isinstance(leaf, (np.ndarray, np.generic, float, int)) or isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(
            f"compile: args{structure.paths('')[i]} is of type {type(leaf).__name__}, expected arrays and numbers; name its "
            "argument in static_argnums if it is a constant"
        )
    a = np.asarray(leaf)
    if a.dtype.kind not in "fiub" or a.dtype.itemsize not in (1, 2, 4, 8) or a.dtype == np.float16:
        raise TypeError(
            f"compile: args{structure.paths('')[i]} has dtype {a.dtype}, expected float32, float64, bool or an integer dtype"
        )
    return a if a.flags.c_contiguous else np.ascontiguousarray(a).reshape(a.shape)


def _rebuilder(structure: tree.Structure, leaves: list[Any]) -> Callable[[list[Any]], Any] | None:
    """A function from the program's results to the structure that f returned; None where that is a single result."""
    if all(isinstance(leaf, Tensor) for leaf in leaves):
        if structure == tree.structure(0):
            return None
        if structure == tree.structure(tuple(range(len(leaves)))):
            return tuple
        return structure.unflatten
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    constants = [leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
    for i in places:
        constants[i] = None

    def rebuild(results: list[Any]) -> Any:
        filled = [x.copy() if isinstance(x, np.ndarray) else x for x in constants]
        for i, result in zip(places, results):
            filled[i] = result
        return structure.unflatten(filled)

    return rebuild


def _compare(found: Any, expected: Any) -> None:
    expected = tree.map(lambda x: x.numpy() if isinstance(x, Tensor) else x, expected)
    if tree.structure(found) != tree.structure(expected):
        raise AssertionError(f"compile: the replay returned {tree.structure(found)}, the function {tree.structure(expected)}")
    for (path, a), (_, b) in zip(tree.flatten_with_path(found)[0], tree.flatten_with_path(expected)[0]):
        if isinstance(a, (np.ndarray, np.generic)):
            tolerance = 1e-4 if np.asarray(a).dtype == np.float32 else 1e-10
            np.testing.assert_allclose(np.asarray(a), b, rtol=tolerance, atol=tolerance, err_msg=f"compile: result{path} of the replay")
        elif isinstance(a, (int, float, str)) and a != b and not (a != a and b != b):
            raise AssertionError(f"compile: result{path} of the replay is the constant {a!r}, the function returned {b!r}")
