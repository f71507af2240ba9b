"""``compile``: a function recorded once and replayed in one call of the C core.

The first call with a new structure, shapes, dtypes and static values runs the function on tensors and records the
operations that depend on its arguments, the backward pass among them. Later calls check the arguments in C and
replay. What the function reads from outside its arguments is a constant of the recording.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _core, _user_frames, tree
from .._core import Entry, Program, Rule, Tensor, TraceError
from .purity import Outside
from .._transforms.vmap import place_of

__all__ = ["CacheInfo", "Compiled", "compile"]

# What a compiled function may return beside tensors: the same at every call, and nothing in it can be a tensor.
_CONSTANTS = (np.ndarray, np.generic, np.dtype, bool, int, float, complex, str, bytes)


_HITS = 32  # a recording costs about what so many replays save
_ENOUGH = 4  # programs that are confirmed: a function that is the same twice for so many kinds of arguments is believed
_NOWHERE = 1 << 30  # more than any call has arguments


class CacheInfo(NamedTuple):
    """As ``functools.lru_cache`` tells: calls replayed, calls recorded, and programs kept."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class _Kept:
    """An entry among those that are kept: the larger ``used``, the later it was; ``doubted`` ones are recorded a second
    time before they are believed."""

    __slots__ = ("doubted", "entry", "used")

    def __init__(self, entry: Entry, doubted: bool) -> None:
        self.entry, self.doubted, self.used = entry, doubted, 0


class _Leaf(NamedTuple):
    value: Any
    array: np.ndarray
    number: type | None  # of a Python number, which takes on the dtypes of others: its type


class _Call:
    """What a function was called with: constants, and the leaves of the other arguments."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], places: set[int], names: set[str]) -> None:
        self.args, self.kwargs, self.places, self.names = args, kwargs, places, names
        moving = tuple(a for i, a in enumerate(args) if i not in places)
        named = {name: a for name, a in kwargs.items() if name not in names}
        leaves, self.structure = tree.flatten((moving, named))
        self.leaves = [
            _Leaf(x, _input(x, self.structure, i), type(x) if type(x) in (float, int, bool) else None)
            for i, x in enumerate(leaves)
        ]
        self.inputs = [leaf.array for leaf in self.leaves]

    def key(self) -> Any:
        """Equal for calls that one program serves."""
        fixed = tuple((i, _typed(self.args[i], i)) for i in sorted(self.places))
        named = tuple((name, _typed(self.kwargs[name], name)) for name in sorted(self.names))
        kinds = tuple((leaf.array.shape, leaf.array.dtype.char, leaf.number) for leaf in self.leaves)
        return len(self.args), fixed, named, self.structure, kinds

    def on(self, f: Callable[..., Any], leaves: list[Any]) -> Any:
        """f called in this way, but with other leaves."""
        moving, named = tree.unflatten(self.structure, leaves)
        rest = iter(moving)
        args = [a if i in self.places else next(rest) for i, a in enumerate(self.args)]
        return f(*args, **{name: named[name] if name in named else a for name, a in self.kwargs.items()})

    def guard(self) -> Any:
        """What tells such calls in C, or None."""
        args = tuple([_core.Static(a) if i in self.places else a for i, a in enumerate(self.args)])
        kwargs = {name: _core.Static(a) if name in self.names else a for name, a in self.kwargs.items()}
        return _core.make_guard((args, kwargs), iter(range(len(self.leaves))), tree.is_named_tuple)


class Unrecorded(Exception):
    """A call that is left to an eager run: so many kinds of arguments come that recordings do not pay."""


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
        static_argnames: tuple[str, ...] = (),
    ) -> None:
        functools.update_wrapper(self, f)
        self._f, self._static, self._maxsize, self._verify = f, static_argnums, maxsize, verify
        self._static_names = _all_static(f, static_argnums, static_argnames)
        self._optional = _with_defaults(f)
        self._wary = wary  # for a training step: record twice before believing a program; every result is an ndarray
        self._kept = kept  # how many of the last results are gradients that stay in the program
        self._clock = itertools.count(1)
        self._confirmed = 0  # how many programs a second recording has confirmed

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: the function, but no programs; those are recorded anew."""
        return {name: value for name, value in vars(self).items() if name != "_clock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._clock = itertools.count(1)
        self._confirmed = 0

    def _slowly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _core.tracing() or (_core.in_transform() and _differentiated((args, kwargs))):
            return self._f(*args, **kwargs)
        call = self._call(args, kwargs)
        entry = self._entry(call, bounded=self._wary)
        inputs = call.inputs
        draws = _Draws(entry.program) if self._verify else None
        results = entry.program.run(inputs)
        result = results[0] if entry.rebuild is None else entry.rebuild(results)
        if draws is not None:
            draws.rewind()
            leaves = [leaf.value if leaf.number else _core.tensor(leaf.array) for leaf in call.leaves]
            _compare(result, call.on(self._f, leaves), any(a.dtype == np.float32 for a in inputs))
            draws.check()
        return result

    def __repr__(self) -> str:
        name = getattr(self._f, "__qualname__", None) or repr(self._f)
        return f"<fastgrad.compile of {name}, {_count(len(self._entries), 'program')}>"

    def train(self, args: tuple[Any, ...], rule: Rule, checked: bool) -> tuple[float, int, np.ndarray | None]:
        """A training step with parameters args[0], updated by rule: what ``Program.train`` says of it."""
        found = self._train(args, rule, checked)
        if found is None:
            call = self._call(args, {})
            found = self._entry(call, bounded=True).program.train(call.inputs, rule, checked)
        return found

    def program(self, *args: Any, **kwargs: Any) -> Program:
        """The program that a call with these arguments replays; recorded now if there is none."""
        return self._entry(self._call(args, kwargs)).program

    def cache_info(self) -> CacheInfo:
        """How often a program was replayed and recorded, and how many are kept."""
        return CacheInfo(self._hits, self._misses, self._maxsize, len(self._entries))

    def cache_clear(self) -> None:
        """Forget all programs."""
        self._remember(None)
        while not self._replace(self._entries, {}):
            pass
        self._hits = self._misses = 0

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        for i in self._static:
            if not -len(args) <= i < len(args) and self._static_names.get(i) not in kwargs and i not in self._optional:
                raise TypeError(
                    f"compile: static_argnums names argument {i}, but the function was called with "
                    f"{_count(len(args), 'positional argument')}"
                )
        places = {i % len(args) for i in (*self._static, *self._static_names) if -len(args) <= i < len(args)}
        return _Call(args, kwargs, places, set(kwargs).intersection(self._static_names.values()))

    def _entry(self, call: _Call, bounded: bool = False) -> Entry:
        """The entry for a call; recorded now if there is none. bounded: Unrecorded where that does not pay.

        Looking for it compares static arguments, and to drop an entry may end the lives of objects: both run anybody's
        code, which may call this function again. So there is no lock; what is kept is replaced as a whole.
        """
        key = call.key()
        kept = self._entries.get(key)
        if kept is None:
            if bounded and len(self._entries) >= self._maxsize and self._misses - self._maxsize > self._hits // _HITS:
                raise Unrecorded
            outside = None if self._wary else Outside(self._f, call.inputs)
            kept = _Kept(self._record(call), doubted=self._wary and self._confirmed < _ENOUGH)
            if outside is not None and outside.suspect():
                self._confirm(kept.entry, call)
            self._misses += 1
            kept.used = next(self._clock)
            self._keep(key, kept)
        else:
            self._hits += 1
            if kept.doubted:
                if self._confirmed < _ENOUGH:
                    self._confirm(kept.entry, call)
                    self._confirmed += 1
                kept.doubted = False
            kept.used = next(self._clock)
        self._remember(None if self._verify or kept.doubted else kept.entry)
        return kept.entry

    def _keep(self, key: Any, kept: _Kept) -> None:
        while True:  # until no other thread has kept another one meanwhile
            old = self._entries
            new = {**old, key: kept}
            if len(new) > self._maxsize:
                del new[min(new.items(), key=lambda item: item[1].used)[0]]
            if self._replace(old, new):
                return

    def _confirm(self, entry: Entry, call: _Call) -> None:
        """Raise if f, recorded once more, comes out differently or has an effect again that no replay would have."""
        outside = Outside(self._f, call.inputs)
        again = self._record(call)
        changes = outside.changes()
        if changes:
            raise TraceError(
                f"compile: the function {changes[0]} while it is recorded{outside.place}, which a replay would not "
                "repeat: "
                + (
                    "draw from fastgrad.random.default_rng(), or pass the numbers as arguments"
                    if "draws" in changes[0] else "return the new value instead"
                )
            )  # fmt: skip
        if not entry.program.same_as(again.program):
            raise TraceError(
                f"compile: two recordings of this function differ{outside.place}; it draws random numbers of another "
                "library than fastgrad.random, counts its calls, or reads something from outside its arguments that "
                "has changed"
            )

    def _record(self, call: _Call) -> Entry:
        with _core.Outermost(), _core.Trace():
            result = call.on(self._f, [_core.trace_input(leaf.array, leaf.number is not None) for leaf in call.leaves])
            leaves, shape = tree.flatten(result)
            wanted = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            for tensor in wanted:
                if tensor.requires_grad:
                    raise TypeError(
                        "compile: the function returned a tensor that requires gradients; return its .detach()"
                    )
            for path, leaf in tree.flatten_with_path(result)[0]:
                if not isinstance(leaf, (Tensor, *_CONSTANTS)) or getattr(leaf, "dtype", None) == object:
                    raise TypeError(
                        f"compile: result{path} is of type {type(leaf).__name__}, which would be the same object at "
                        "every call; return arrays, numbers and strings, alone or in dicts, lists and tuples"
                    )
            program = _core.trace_end(wanted, numbers=not self._wary, kept=self._kept)
        return Entry(program, _rebuilder(shape, leaves), call.guard())


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
        self.failed: tuple[Any, Compiled] | None = None  # the kind of arguments that could not be recorded

    def __call__(self, *args: Any) -> Any:
        self.reconsider(args)
        if self.compiled is None:
            return self._eager(*args)
        try:
            return self.compiled(*args)
        except Unrecorded:
            return self.eagerly(args)
        except Exception as error:
            return self.give_up(error, args)

    def eagerly(self, args: tuple[Any, ...]) -> Any:
        """The same without a recording."""
        return self._eager(*args)

    def give_up(self, error: Exception, args: tuple[Any, ...]) -> Any:
        """Run such arguments eagerly, as the program failed for this reason, or raise what the function itself does."""
        found = self._eager(*args)
        assert self.compiled is not None
        self.failed, self.compiled = (_kinds(args), self.compiled), None
        place = "" if isinstance(error, TraceError) else _user_frames.line_of(error)
        _user_frames.warn(
            f"{self._name} cannot be recorded and runs eagerly{place}: {error}. Give compile=False to run it so "
            "without this warning"
        )
        return found

    def reconsider(self, args: tuple[Any, ...]) -> None:
        """Record again where these arguments are built otherwise than those that could not be recorded."""
        if self.failed is not None and self.failed[0] != _kinds(args):
            self.compiled, self.failed = self.failed[1], None


def _kinds(args: tuple[Any, ...]) -> Any:
    leaves, structure = tree.flatten(args)
    return structure, [None if isinstance(x, (np.ndarray, np.generic, float, int, Tensor)) else type(x) for x in leaves]


def _differentiated(args: Any) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree.leaves(args))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def compile(
    f: Callable[..., Any],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
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
        must be hashable. Negative numbers count from the last argument of a call.
    static_argnames : str or sequence of strs
        The same by name. A parameter named in either way is a constant also if it is passed in the other.
    maxsize : int
        How many programs are kept; the one not used for longest is dropped first.
    verify : bool
        Run f itself beside every replay and raise AssertionError where the results differ.

    Returns
    -------
    Compiled
        Takes f's arguments. Arrays come back as ndarrays of their own memory, results without axes as NumPy
        numbers; but what is a Python number when f runs by itself is one here, such as the value of
        ``value_and_grad``. ``.program(*args)`` shows the program, ``.cache_info()`` how often it was replayed.

    Of a transform of f it is the outermost that is to be compiled: called within another transform, a compiled function
    runs as f does.

    Python numbers among the arguments may change from call to call, and take on the dtype of the arrays that they meet,
    as in NumPy; f gets tensors for them, and one that is no longer of the same type records a new program. An int that
    meets none is an int64: what overflows wraps around, and a division by zero gives 0, as in NumPy.

    A branch on a value, ``float(x)``, ``x.numpy()`` or an index by a boolean mask inside f raise TraceError, a
    TypeError that names the line: their result would be frozen into the program. Arrays that f reads from outside its
    arguments are constants. So would be random numbers that are not those of ``fastgrad.random``, and what f writes to
    arrays outside would be written once: where a look at what f reaches finds such, f is recorded twice, and TraceError
    raised if it draws or writes again, or the recordings differ. What f computes is known only by its result: a tensor
    that it has kept beside raises RuntimeError wherever it is used. A program leaves out what no result needs, so that
    an index out of range there raises IndexError while f is recorded, and not in a replay.

    >>> import fastgrad as fg, numpy as np
    >>> f = fg.compile(fg.value_and_grad(lambda x: np.sum(np.tanh(x) ** 2)))
    >>> f(np.array([0.0, 1.0]))[1].round(4)
    array([0.    , 0.6397])
    """
    if not callable(f):
        raise TypeError(f"compile: expected a function, got {type(f).__name__}")
    numbers = static_argnums if isinstance(static_argnums, (tuple, list)) else (static_argnums,)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    if operator.index(maxsize) < 1:
        raise ValueError(f"compile: expected maxsize of at least 1, got {maxsize}")
    return Compiled(f, tuple(operator.index(i) for i in numbers), maxsize, verify, static_argnames=names)


def _all_static(f: Callable[..., Any], numbers: tuple[int, ...], names: tuple[str, ...]) -> dict[int, str]:
    """Of constant parameters that can be told by name: {number: name}; the number is their place where they have one,
    else one that no argument has."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"compile: expected static_argnames as names of parameters, got {name!r}")
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # some functions do not tell theirs
        return {_NOWHERE + k: name for k, name in enumerate(names)}
    known = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in names:
        if name not in known and all(p.kind is not p.VAR_KEYWORD for p in parameters):
            raise ValueError(
                f"compile: static_argnames has {name!r}, but the function's parameters are "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    places = {p.name: i for i, p in enumerate(parameters) if p.kind is p.POSITIONAL_OR_KEYWORD}
    found = {places.get(name, _NOWHERE + k): name for k, name in enumerate(names)}
    return found | {i: name for name, i in places.items() if i in numbers}


def _with_defaults(f: Callable[..., Any]) -> set[int]:
    """The places of parameters that a call may leave at their defaults."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {i for i, p in enumerate(parameters) if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY}


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


def _typed(value: Any, i: int | str) -> Any:
    """A static argument as a key."""
    if isinstance(value, tuple):
        return type(value), tuple(_typed(item, i) for item in value)
    try:
        hash(value)
    except TypeError:
        value_type = type(value).__name__
    else:
        if not isinstance(value, Tensor):
            return tree.exact(value)
        value_type = "Tensor"
    i = repr(i) if isinstance(i, str) else i
    cure = "; arrays are passed as arguments that are not static"
    if isinstance(value, (list, dict, set)):
        cure = ", such as a tuple"
    raise TypeError(f"compile: the static argument {i} holds a {value_type}, expected hashable constants{cure}")


def _input(leaf: Any, structure: tree.Structure, i: int) -> np.ndarray:
    if isinstance(leaf, Tensor):
        if leaf.requires_grad:
            raise TypeError(
                "compile: an argument is a tensor that requires gradients; compile the gradient instead, as in "
                "compile(grad(f)), or pass its .detach()"
            )
        leaf = leaf.numpy()
    if not isinstance(leaf, (np.ndarray, np.generic, float, int)) or isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(
            f"compile: {place_of(structure, i)} is of type {type(leaf).__name__}, expected arrays and numbers; name "
            "its argument in static_argnums or static_argnames if it is a constant"
        )
    a = np.asarray(leaf)
    if a.dtype.kind not in "fiub" or a.dtype.itemsize not in (1, 2, 4, 8) or a.dtype == np.float16:
        raise TypeError(
            f"compile: {place_of(structure, i)} has dtype {a.dtype}, expected float32, float64, bool or an integer "
            "dtype"
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


def _compare(found: Any, expected: Any, single: bool) -> None:
    """Raise where a replay's results are not the function's; single: Python floats may come from float32."""
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
