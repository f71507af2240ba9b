"""``compile``: a function traced once and replayed in one call of the C core.

The first call with a new structure, shapes, dtypes and static values runs the function on tensors and traces the
operations that depend on its arguments, those of backward passes among them. Later calls match the arguments with a
guard in C and replay the program. What the function reads from outside its arguments is a constant of the program,
and where a watch finds that it has changed the function is traced again; but large arrays of floats are read anew.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import _core, _native, _user_frames, tree
from .._arguments import integer
from .._core import Entry, Program, Tensor, TraceError, UpdateRule

# Not at the first trace, which may call functions of these: a child forked meanwhile by another thread would wait for
# the lock of the module for ever. The same holds for `outside`.
from .._numpy import decompositions, linalg, matrices  # noqa: F401
from .._transforms.arguments import note_lists
from .._transforms.transformed import global_name
from .outside import watch, watch_what_was_made
from .purity import PurityCheck

__all__ = ["CacheInfo", "Compiled", "compile"]

# What a compiled function may return beside tensors: the same at every call, and nothing in it can be a tensor.
_CONSTANTS = (np.ndarray, np.generic, np.dtype, bool, int, float, complex, str, bytes)
_OBJECT = np.dtype(object)


# When a trace pays. It costs 10 to 40 eager runs of a small function, of which a replay saves most, and a few of one on
# long arrays.
_MANY = 64  # so many are made at first sight of a function that the user asked to compile, however few are kept,
_FEW = 2  # and so many of a training step, which may as well run eagerly: for whole batches and a last one
_CALLS_PER_TRACE = 1024  # while more can be kept, one more is made at second sight for so many calls,
_HITS_PER_TRACE = 16  # and one for so many replays;
_RUNS_PER_TRACE = 32  # after so many eager runs of one kind it is traced in any case
_ENOUGH = 4  # how many programs a second trace must confirm before further ones are replayed without one
_CHANGES = 8  # so many traces are made because something outside has changed, and one more for 16 replays
_VARIANTS = 4  # so many programs are kept for the same arguments and different values of what is outside
_NOWHERE = 1 << 30  # the place of a parameter that is passed by name only: no call has so many arguments


class CacheInfo(NamedTuple):
    """As ``functools.lru_cache`` tells: calls replayed, calls traced, and programs kept."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class _Leaf(NamedTuple):
    value: Any
    array: np.ndarray
    number: type | None  # the type of a Python number, which takes on the dtype of what it meets; None for an array


class _Call:
    """The arguments of a call: static ones, at ``places`` and of ``names``, and the leaves of the dynamic ones."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], places: set[int], names: set[str]) -> None:
        self.args, self.kwargs, self.places, self.names = args, kwargs, places, names
        dynamic = tuple(a for i, a in enumerate(args) if i not in places)
        named = {name: a for name, a in kwargs.items() if name not in names}
        self.given, self.structure = tree.flatten((dynamic, named))
        self.leaves = [
            _Leaf(x, _input(x, self.structure, i), type(x) if type(x) in (float, int, bool) else None)
            for i, x in enumerate(map(_core.number_if_known, self.given))
        ]
        self.inputs = [leaf.array for leaf in self.leaves]
        self.changed: list[str] = []  # what the function changed outside while it was traced for this call

    def key(self) -> Any:
        """The key of the cache: equal for calls that one program serves."""
        fixed = tuple((i, _typed(self.args[i], i)) for i in sorted(self.places))
        named = tuple((name, _typed(self.kwargs[name], name)) for name in sorted(self.names))
        kinds = tuple((leaf.array.shape, leaf.array.dtype.char, leaf.number) for leaf in self.leaves)
        default = _core.default_float()
        return len(self.args), fixed, named, self.structure, self.structure.insertion_orders(), kinds, default

    def constants(self) -> list[Any]:
        """The static arguments."""
        return [*(self.args[i] for i in self.places), *(self.kwargs[name] for name in self.names)]

    def on(self, f: Callable[..., Any], leaves: list[Any]) -> Any:
        """f called with these arguments, but other leaves."""
        dynamic, named = tree.unflatten(self.structure, leaves)
        rest = iter(dynamic)
        args = [a if i in self.places else next(rest) for i, a in enumerate(self.args)]
        return f(*args, **{name: named.get(name, a) for name, a in self.kwargs.items()})

    def guard(self) -> Any:
        """A guard that matches such calls in C, or None if only ``key`` can. It is made of the structure, because the
        function, or another thread, may have changed a container among the arguments meanwhile."""
        dynamic, named = tree.unflatten(self.structure, self.given)
        rest = iter(dynamic)
        args = tuple([_core.Static(a) if i in self.places else next(rest) for i, a in enumerate(self.args)])
        kwargs = {name: _core.Static(a) if name in self.names else named[name] for name, a in self.kwargs.items()}
        return _core.make_guard((args, kwargs), iter(range(len(self.leaves))), tree.is_named_tuple)


class Traced(NamedTuple):
    """A function, its program, the arguments that are no constants, by place, their leaves, and what makes the
    function's result of the program's results, or None where that is the only one."""

    function: Callable[..., Any]
    program: Program
    dynamic: dict[int, Any]
    inputs: list[np.ndarray]
    rebuild: Callable[[list[Any]], Any] | None


class NotWorthTracing(Exception):
    """A call is left to an eager run: so many kinds of arguments come that traces do not pay."""


class Compiled(_core.Replayer):
    """What ``compile`` returns. Called as the function it was made from, with arrays in and out."""

    def __init__(
        self,
        f: Callable[..., Any],
        static_argnums: tuple[int, ...] = (),
        maxsize: int = 64,
        verify: bool = False,
        trace_twice: bool = False,
        n_gradients: int = 0,
        static_argnames: tuple[str, ...] = (),
        native: Any = None,
    ) -> None:
        functools.update_wrapper(self, f)
        self.native, self._native = native, _native.mode(native)  # what was said, and what is done
        # Whether it is an error if a program cannot be compiled: not where only the environment asks for that.
        self._must = native is True or not trace_twice
        self._f, self._static, self._maxsize, self._verify = f, static_argnums, maxsize, verify
        self._static_names = _all_static(f, static_argnums, static_argnames)
        self._optional = _with_defaults(f)
        # For a training step: a program is confirmed by a second trace, and all results are ndarrays.
        self._trace_twice = trace_twice
        self._first = _FEW if trace_twice else _MANY  # so many kinds of arguments are traced at once
        self.n_gradients = n_gradients  # how many of the last results are gradients, which stay in the program
        self._has_signatures = not (static_argnums or self._static_names or verify)
        self._confirmed = 0  # how many programs a second trace has confirmed
        self._forget()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return global_name(self) or super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: the function, but no programs; those are traced anew."""
        return vars(self) | {"_f": self._f, "_derived": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._f = state.pop("_f")
        vars(self).update(state)
        self._has_signatures = not (self._static or self._static_names or self._verify)
        self._confirmed = 0
        self._forget()

    def _forget(self) -> None:
        self._hits = self._misses = self._eager = self._changes = 0
        self._told = False  # whether a warning has told that f reads what changes too often
        self._sights = {}
        self._derived: dict[Any, Any] = {}  # by `derived`

    def _slowly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _core.transforming():  # which may differentiate an argument, or what f reads from outside
            return self._f(*args, **kwargs)
        signature = self._signature_of_call(args, kwargs)
        # Beside a Python number an eager run has other dtypes than a trace, in which the number is a tensor.
        bounded = self._trace_twice or (signature is not None and not _core.holds_number((args, kwargs)))
        entry = None
        if not bounded or self._is_worth_tracing(signature):
            call = self._call(args, kwargs)
            entry = self._entry(call, signature, bounded)
        if entry is None:
            if self._trace_twice:
                raise NotWorthTracing
            return self._run_eagerly(args, kwargs)
        inputs = call.inputs
        draws = _Draws(entry.program) if self._verify else None
        results = entry.program.run(inputs)
        result = results[0] if entry.rebuild is None else entry.rebuild(results)
        if draws is not None:
            draws.rewind()
            leaves = [leaf.value if leaf.number else _core.tensor(leaf.array) for leaf in call.leaves]
            with _core.Outermost():
                expected = call.on(self._f, leaves)
            _compare(result, expected, any(a.dtype == np.float32 for a in inputs))
            draws.check()
        return result

    def __repr__(self) -> str:
        name = getattr(self._f, "__qualname__", None) or repr(self._f)
        return f"<fastgrad.compile of {name}, {_count(len(self._entries), 'program')}>"

    def train(
        self, args: tuple[Any, ...], rule: UpdateRule, checked: bool
    ) -> tuple[float, int, np.ndarray | None, Any] | None:
        """A training step with parameters args[0], updated by rule: what ``Program.train`` says of it. None where it is
        to be an eager run, since so many kinds of arguments come that traces do not pay."""
        signature = self._signature_of_call(args, {})
        if signature is not None:
            found = self.try_train(args, rule, checked, signature)
            if found is not None or not self._is_worth_tracing(signature):
                return found
        call = self._call(args, {})
        entry = self._entry(call, signature, bounded=True)
        return None if entry is None else entry.program.train(call.inputs, rule, checked, entry.rebuild)

    def differentiate(self, args: tuple[Any, ...]) -> tuple[float, Any, list[Any]] | None:
        """The loss at parameters args[0], what else it returns, and its gradients, ndarrays or RowSparse. None as of
        `train`."""
        signature = self._signature_of_call(args, {})
        if signature is not None:
            found = self.try_differentiate(args, signature)
            if found is not None or not self._is_worth_tracing(signature):
                return found
        call = self._call(args, {})
        entry = self._entry(call, signature, bounded=True)
        return None if entry is None else entry.program.differentiate(call.inputs, entry.rebuild)

    def run_into(self, args: tuple[Any, ...], into: list[np.ndarray]) -> Any:
        """What a call returns if there is a program for it, whose last results are written to these ndarrays; else
        None."""
        signature = self._signature_of_call(args, {})
        return None if signature is None else self.try_run_into(args, into, signature)

    def traced(self, *args: Any) -> Traced:
        """A program for a call with these arguments, which reads nothing from outside when it runs."""
        call = self._call(args, {})
        check = PurityCheck(self._f, call.inputs)
        entry = self._trace(call, alone=True)
        if check.suspect():
            self._confirm(entry, call, alone=True)
        places = self.static_places(len(args))
        dynamic = {i: a for i, a in enumerate(args) if i not in places}
        return Traced(self._f, entry.program, dynamic, call.inputs, entry.rebuild)

    def program(self, *args: Any, **kwargs: Any) -> Program:
        """The program that a call with these arguments replays; traced now if there is none."""
        entry = self._entry(self._call(args, kwargs), self._signature_of_call(args, kwargs))
        assert entry is not None  # as it is not bounded
        return entry.program

    def cache_info(self) -> CacheInfo:
        """How often a program was replayed and traced, and how many are kept."""
        return CacheInfo(self._hits, self._misses, self._maxsize, len(self._entries))

    def cache_clear(self) -> None:
        """Forget all programs."""
        self._remember(None)
        while not self._replace(self._entries, {}):
            pass
        self._forget()

    def release_memory(self) -> None:
        """Free the memory of all programs' intermediates; the next replay of one takes it again.

        >>> import fastgrad as fg, numpy as np
        >>> f = fg.compile(fg.value_and_grad(lambda x: np.sum(np.tanh(x) ** 2)))
        >>> value, gradient = f(np.zeros(1000))
        >>> f.release_memory()
        >>> f(np.zeros(1000))[0] == value
        True
        """
        for entry in self._entries.values():
            entry.program.release_memory()

    def derived(self, key: Any, make: Callable[[], Any]) -> Any:
        """What make() returned when it was first called for this key, such as traced derivatives of the function:
        it is kept as long as this compiled function, the last ``maxsize`` of them."""
        found = self._derived.get(key)
        if found is None:
            found = make()
            kept = list(self._derived.items())[1 - self._maxsize :] if self._maxsize > 1 else []
            self._derived = {**dict(kept), key: found}
        return found

    def static_places(self, n: int) -> tuple[int, ...]:
        """The places of static arguments in a call with n positional ones."""
        return tuple(sorted({i % n for i in (*self._static, *self._static_names) if -n <= i < n}))

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        for i in self._static:
            if not -len(args) <= i < len(args) and self._static_names.get(i) not in kwargs and i not in self._optional:
                raise TypeError(
                    f"compile: static_argnums names argument {i}, but the function was called with "
                    f"{_count(len(args), 'positional argument')}"
                )
        places = set(self.static_places(len(args)))
        return _Call(args, kwargs, places, set(kwargs).intersection(self._static_names.values()))

    def _is_worth_tracing(self, signature: int | None) -> bool:
        """Whether a call of this signature has a program, or it pays to trace one; else it is to run eagerly.

        The first kinds of arguments are traced at once. Later ones at their second sight, while there is room and the
        traces so far are few beside all calls or have paid by their replays; or after some eager runs. If there is no
        room, then only if meanwhile a program was not used, which goes: else its kind of arguments comes as often.
        """
        if signature is None or self._is_kept(signature) or self._misses < self._first:
            return True
        sight = self._sights.get(signature)
        runs = 0 if sight is None else sight.runs
        full = len(self._entries) >= self._maxsize
        if not full:
            calls = self._hits + self._misses + self._eager
            allowed = self._first + calls // _CALLS_PER_TRACE + self._hits // _HITS_PER_TRACE
            if not self._trace_twice or runs >= _RUNS_PER_TRACE or (runs and self._misses < allowed):
                return True
        elif sight is not None and runs >= _RUNS_PER_TRACE and not self._begins_again(sight):
            return True
        if sight is None:
            if len(self._sights) > 16 * (self._maxsize + _MANY):  # too many to be remembered for ever
                self._sights.clear()
            sight = self._sights[signature] = self._new_sight()
        sight.until = _RUNS_PER_TRACE if full and not self._trace_twice else 0
        sight.runs += 1
        self._eager += 1
        return False

    def _entry(self, call: _Call, signature: int | None, bounded: bool = False) -> Entry | None:
        """The entry for a call; traced now if there is none; bounded: None if that does not pay.

        Looking for it compares static arguments, and to drop an entry may end the lives of objects: both run anybody's
        code, which may call this function again. So there is no lock; what is kept is replaced as a whole.
        """
        key = call.key()
        entry, place, changed, suspects = self._find(key)
        if entry is None:
            if changed and (self._told or not suspects) and self._changes_too_often(changed) and bounded:
                return None
            if suspects:
                entry = self._still_serving(suspects, call)
                if entry is None and not self._told and self._changes_too_often(changed) and bounded:
                    return None
        if entry is None:
            if bounded and not self._is_worth_tracing(hash(key) if signature is None else signature):
                return None
            if not self._trace_twice:
                check = PurityCheck(self._f, call.inputs)
                entry = self._trace(call, signature)
                if check.suspect():
                    self._confirm(entry, call)
            elif self._confirmed >= _ENOUGH:
                entry = self._trace(call, signature)
            else:  # an eager run follows if it fails
                with _undone_on_failure(PurityCheck(self._f, call.inputs, keep=True)):
                    entry = self._trace(call, signature)
                entry.confirmed = False
            self._misses += 1
            self._sights.pop(signature if signature is not None else hash(key), None)
            _native.request(entry.program, self._native, self._must)
            self._keep(place, entry)
        else:
            self._hits += 1
            if not entry.confirmed:
                if self._confirmed < _ENOUGH:
                    self._confirm(entry, call)
                    self._confirmed += 1
                entry.confirmed = True
        self._remember(None if self._verify or not entry.confirmed else entry)
        return entry

    def _find(self, key: Any) -> tuple[Entry | None, Any, str, dict[Any, Entry]]:
        """The entry for calls of this key with what f reads from outside as it is, or None; then the place where a new
        one is to be kept, the name of something outside that has changed, "" if there is no entry of this key, and, by
        their places, entries that may still serve, as only memory has changed that their replays read anew."""
        entries, place, changed = self._entries, None, ""
        known, suspects = [], {}
        for number in range(_VARIANTS):
            entry = entries.get((key, number))
            if entry is None:
                place = place or (key, number)
                break
            if entry.holds():
                return entry, None, "", {}
            assert entry.watch is not None
            if entry.program.live and entry.watch.are_live(entry.program):
                suspects[key, number] = entry
            else:
                self._refuse_late_changes(entry, (key, number))
            changed = next(iter(entry.watch.changes()), (changed, False))[0]
            if not entry.watch.is_of_constants():  # what was there before will hardly come back
                place = place or (key, number)
            known.append(entry)
        return None, place or (key, min(range(_VARIANTS), key=lambda i: known[i].used)), changed, suspects

    def _refuse_late_changes(self, entry: Entry, place: Any) -> None:
        """TraceError if elements outside have changed and calls since then may have missed it."""
        assert entry.watch is not None
        for changed, is_late in entry.watch.changes():
            if is_late:
                self._drop(place)
                raise TraceError(
                    f"compile: elements of {changed}, a large array that the function reads from outside its "
                    "arguments, were changed, perhaps several calls ago, and results since then may be wrong: pass "
                    "the array as an argument"
                )

    def _still_serving(self, suspects: dict[Any, Entry], call: _Call) -> Entry | None:
        """The one of these entries, by their places, whose program a new trace gives, too, though memory outside has
        changed that replays read anew: then nothing else depends on it, and no result was wrong. If there is none,
        None, or TraceError if results may have been wrong."""
        with _undone_on_failure(PurityCheck(self._f, call.inputs, keep=True)):
            again = self._trace(call)
        for entry in suspects.values():
            if again.frame == entry.frame and again.program.same_as(entry.program):
                assert entry.watch is not None
                entry.watch.renew()
                return entry
        for place, entry in suspects.items():
            self._refuse_late_changes(entry, place)
        return None

    def _drop(self, place: Any) -> None:
        """Forget one program."""
        self._remember(None)
        while place in (old := self._entries):
            if self._replace(old, {k: entry for k, entry in old.items() if k != place}):
                return

    def _changes_too_often(self, name: str) -> bool:
        """Whether f is to run eagerly, as something outside that it reads changes so often that traces do not pay."""
        self._changes += 1
        if self._changes <= _CHANGES + self._hits // _HITS_PER_TRACE:
            return False
        if not self._told:
            self._told = True
            _user_frames.warn(
                f"compile: the function reads {name} from outside its arguments, which changes so often that a trace "
                "for each change costs more than replays save; pass it as an argument"
            )
        return True

    def _keep(self, key: Any, entry: Entry) -> None:
        while True:  # until no other thread has kept another one meanwhile
            old = self._entries
            new = {**old, key: entry}
            if len(new) > self._maxsize:
                del new[min((item for item in new.items() if item[1] is not entry), key=lambda item: item[1].used)[0]]
            if self._replace(old, new):
                return

    def _confirm(self, entry: Entry, call: _Call, alone: bool = False) -> None:
        """Trace f once more; TraceError if the program differs, or f has a side effect that no replay would have."""
        check = PurityCheck(self._f, call.inputs, keep=True)
        entry.program.release_memory()  # a trace beside it would need more memory than an eager run
        with _undone_on_failure(check):
            self._compare_with_a_second_trace(entry, self._trace(call, alone=alone), call, check)

    def _compare_with_a_second_trace(self, entry: Entry, again: Entry, call: _Call, check: PurityCheck) -> None:
        changes = check.changes()
        if changes:
            raise TraceError(
                f"compile: the function {changes[0]} while it is traced{check.place}, which a replay would not "
                "repeat: "
                + (
                    "draw from fastgrad.random.default_rng(), or pass the numbers as arguments"
                    if "draws" in changes[0] else "return the new value instead"
                )
            )  # fmt: skip
        if not entry.program.same_as(again.program):
            raise TraceError(
                f"compile: two traces of this function differ{check.place}; it draws random numbers of another "
                "library than fastgrad.random, counts its calls, or reads something from outside its arguments that "
                "has changed"
            )
        if call.changed and self.n_gradients:  # by a loss; what only the first trace changed may be a cache
            _user_frames.warn(
                f"compile: the function changes {', '.join(call.changed)} each time it runs, which replays do not "
                f"repeat{check.place}: change it outside of the function, or give compile=False"
            )

    def _trace(self, call: _Call, signature: int | None = None, alone: bool = False) -> Entry:
        """A new entry for a call. ``alone``: its program is to have all that it reads as constants."""
        outside = watch(self._f, call.constants())
        with _core.Outermost(), _core.Trace() as trace:
            inputs = [_core.trace_input(leaf.array, leaf.number is not None) for leaf in call.leaves]
            live = _core.trace_live(trace, outside.arrays()) if outside is not None and not alone else []
            try:
                result = call.on(self._f, inputs)
            except (TypeError, AttributeError) as error:
                note_lists(error, (call.args, call.kwargs))
                raise
            leaves, shape = tree.flatten(result)
            wanted = _results(result, leaves)
            program = _core.trace_end(wanted, numbers=not self._trace_twice, n_gradients=self.n_gradients, live=live)
        if outside is not None:
            watch_what_was_made(outside, self._f, call.constants())
            call.changed = outside.forget_changes()  # by f itself, such as those of a counter
        frame = shape, [*map(_told_apart, leaves)]
        return Entry(program, _rebuilder(shape, leaves), call.guard(), signature, outside, frame)

    def _checked(self, result: Any) -> Any:
        """The result of an eager run as a replay would return it; TypeError if that could not."""
        leaves, shape = tree.flatten(result)
        _results(result, leaves)
        return shape.unflatten(map(_owned, leaves))


@contextlib.contextmanager
def _undone_on_failure(check: PurityCheck) -> Iterator[None]:
    """Where the block raises, arrays and generators are as before it, as an eager run will change them once more."""
    try:
        yield
    except BaseException:
        check.restore()
        raise


def _owned(x: Any) -> Any:
    """A result, or a constant of a program among its results, as a caller gets it: an ndarray of its own, or a number
    if it has no axes."""
    a = x.numpy() if isinstance(x, Tensor) else x
    return (a.copy() if a.ndim else a[()]) if isinstance(a, np.ndarray) else a


def _results(result: Any, leaves: list[Any]) -> list[Tensor]:
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


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def compile(
    f: Callable[..., Any],
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    maxsize: int = 64,
    verify: bool = False,
    native: Literal["auto"] | bool | None = None,
) -> Compiled:
    """Trace f once for each kind of arguments, and replay it in one call of the C core.

    Parameters
    ----------
    f : callable
        Takes and returns arrays, or nested structures of them. It may be a plain function, ``grad(g)``,
        ``value_and_grad(g)``, and use fastgrad's or NumPy's functions.
    static_argnums : int or sequence of ints
        Positional arguments that are constants: f gets them as they are, and a new program is traced for each new
        value. They must be hashable. Negative numbers count from the last argument of a call.
    static_argnames : str or sequence of strs
        The same by name. A parameter named in either way is a constant also if it is passed in the other.
    maxsize : int
        How many programs are kept; the one not used for longest is dropped first. Where more kinds of arguments come
        than that and than 64, f runs eagerly for those that a trace does not pay for, unless there are Python
        numbers among the arguments, or static ones. Such calls count neither as hits nor as misses.
    verify : bool
        Run f itself beside every replay and raise AssertionError where the results differ.
    native : bool, "auto" or None
        Whether programs run as C that the machine's compiler has compiled (docs/native.md). True: compiled at the first
        call; RuntimeError if that fails. "auto": in the background, once a program has run
        for so long that it pays; until then, and if it fails, the interpreter runs. None: as the environment variable
        FASTGRAD_NATIVE says (0, 1 or auto), and without that False.

    Returns
    -------
    Compiled
        Takes f's arguments. Arrays come back as ndarrays of their own memory, results without axes as NumPy
        numbers; but what is a Python number when f runs by itself is one here, such as the value of
        ``value_and_grad``. ``.program(*args)`` shows the program, ``.cache_info()`` how often it was replayed.

    Compile the outermost of several transforms: called within another one, a compiled function runs as f does.

    A dict whose keys were inserted in another order has a program of its own, because f may iterate over it.

    Python numbers among the arguments may change from call to call, and take on the dtype of the arrays that they meet,
    as in NumPy; f gets tensors for them, and a new program is traced if one is of another type. An int that meets none
    is an int64: what overflows wraps around, and a division by zero gives 0, as in NumPy. One that does not
    fit int64 is a uint64, and a larger one a TypeError.

    A branch on a value, ``float(x)``, ``x.numpy()`` or an index by a boolean mask inside f raise TraceError, a
    TypeError that names the line: their result would be frozen into the program. Numbers, attributes, functions and
    arrays that f reads from outside its arguments are constants, which each call compares with what they were: where
    one has changed, f is traced again. Operations on large arrays of floats read these anew at each call. What f makes
    of an array of more than 1024 bytes by itself, as by NumPy's functions, is a constant; a change of a few elements
    may be found later, and raises TraceError if it makes another program (docs/compile.md). Random numbers that are not
    those of ``fastgrad.random`` would be constants, too, and a write to an array from outside would happen once. Where
    f has drawn or written in this way, or reaches a clock or an iterator, it is traced twice, and TraceError is raised
    if it draws or writes again, or the traces differ. A tensor that f stores elsewhere than in its result raises
    RuntimeError when it is used. A program leaves out what no result needs: an index out of range there raises
    IndexError while f is traced, and not in a replay.

    Raises TypeError if f is no function, ValueError for a maxsize below 1, for names that f's parameters lack, and for
    another word than these as native. A
    call raises TypeError for arguments that are neither arrays, numbers nor static.

    >>> import fastgrad as fg, numpy as np
    >>> f = fg.compile(fg.value_and_grad(lambda x: np.sum(np.tanh(x) ** 2)))
    >>> f(np.array([0.0, 1.0]))[1].round(4)
    array([0.    , 0.6397])
    """
    if not callable(f):
        raise TypeError(f"compile: expected a function, got {type(f).__name__}")
    numbers = static_argnums if isinstance(static_argnums, (tuple, list)) else (static_argnums,)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    maxsize = integer("compile", "maxsize", maxsize)
    return Compiled(f, tuple(operator.index(i) for i in numbers), maxsize, verify, static_argnames=names, native=native)


def _all_static(f: Callable[..., Any], numbers: tuple[int, ...], names: tuple[str, ...]) -> dict[int, str]:
    """{place: name} of the static parameters that can be passed by name; keyword-only ones get a place that no
    argument has."""
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
    """The places of parameters that have defaults, so that a call may leave them out."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {i for i, p in enumerate(parameters) if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY}


class _Draws:
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


def _typed(value: Any, i: int | str) -> Any:
    """A static argument as a part of the key; TypeError if it cannot be one."""
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
    if not isinstance(leaf, (np.ndarray, np.generic, float, int)) or _core.is_masked(leaf):
        raise TypeError(
            f"compile: {tree.place_of(structure, i)} is of type {type(leaf).__name__}, expected arrays and numbers; "
            "bind it by functools.partial if it is a constant or, of fastgrad.compile, name its argument in "
            "static_argnums or static_argnames"
        )
    if type(leaf) is int and not -(2**63) <= leaf < 2**64:
        raise TypeError(
            f"compile: {tree.place_of(structure, i)} is an integer of {leaf.bit_length()} bits, which fits neither "
            "int64 nor uint64; pass it as a float"
        )
    a = np.asarray(leaf)
    if a.dtype.kind not in "fiub" or a.dtype.itemsize not in (1, 2, 4, 8) or a.dtype == np.float16:
        raise TypeError(
            f"compile: {tree.place_of(structure, i)} has dtype {a.dtype}, expected float32, float64, bool or an "
            "integer dtype"
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
    constants = [None if isinstance(leaf, Tensor) else _owned(leaf) for leaf in leaves]

    def rebuild(results: list[Any]) -> Any:
        filled = [*map(_owned, constants)]
        for i, result in zip(places, results):
            filled[i] = result
        return structure.unflatten(filled)

    return rebuild


def _told_apart(leaf: Any) -> Any:
    """What tells a constant among a function's results from others; None for a tensor, which the program computes."""
    if isinstance(leaf, Tensor):
        return None
    if isinstance(leaf, (np.ndarray, np.generic)):
        return type(leaf), leaf.dtype, leaf.shape, leaf.tobytes()
    return type(leaf), repr(leaf)


def _compare(found: Any, expected: Any, single: bool) -> None:
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
