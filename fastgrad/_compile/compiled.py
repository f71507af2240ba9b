"""``compile``: a function traced once and replayed in one call of the C core.

The first call with a new structure, shapes, dtypes and static values runs the function on tensors and traces the
operations that depend on its arguments, those of backward passes among them. Later calls match the arguments with a
guard in C and replay the program. What the function reads from outside its arguments is a constant of the program,
and where a watch finds that it has changed the function is traced again; but large arrays of floats are read anew.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import _core, _native, _user_frames, tree
from .._arguments import integer
from .._core import Entry, Program, TraceError, UpdateRule

# Not at the first trace, which may call functions of these: a child forked meanwhile by another thread would wait for
# the lock of the module for ever. The same holds for `outside`.
from .._numpy import decompositions, linalg, matrices  # noqa: F401
from .._transforms.arguments import note_lists
from .._transforms.transformed import global_name
from .call import Call, all_static, with_defaults
from .outside import watch, watch_what_was_made
from .purity import PurityCheck
from .results import Draws, compare, owned, rebuilder, result_tensors, told_apart

__all__ = ["CacheInfo", "Compiled", "compile"]

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


class CacheInfo(NamedTuple):
    """As ``functools.lru_cache`` tells: calls replayed, calls traced, and programs kept."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


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
        self._static_names = all_static(f, static_argnums, static_argnames)
        self._optional = with_defaults(f) if static_argnums else set()
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
        draws = Draws(entry.program) if self._verify else None
        results = entry.program.run(inputs)
        result = results[0] if entry.rebuild is None else entry.rebuild(results)
        if draws is not None:
            draws.rewind()
            leaves = [leaf.value if leaf.number else _core.tensor(leaf.array) for leaf in call.leaves]
            with _core.Outermost():
                expected = call.on(self._f, leaves)
            compare(result, expected, any(a.dtype == np.float32 for a in inputs))
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

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        for i in self._static:
            if not -len(args) <= i < len(args) and self._static_names.get(i) not in kwargs and i not in self._optional:
                raise TypeError(
                    f"compile: static_argnums names argument {i}, but the function was called with "
                    f"{_count(len(args), 'positional argument')}"
                )
        places = set(self.static_places(len(args)))
        return Call(args, kwargs, places, set(kwargs).intersection(self._static_names.values()))

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

    def _entry(self, call: Call, signature: int | None, bounded: bool = False) -> Entry | None:
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

    def _still_serving(self, suspects: dict[Any, Entry], call: Call) -> Entry | None:
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

    def _confirm(self, entry: Entry, call: Call, alone: bool = False) -> None:
        """Trace f once more; TraceError if the program differs, or f has a side effect that no replay would have."""
        check = PurityCheck(self._f, call.inputs, keep=True)
        entry.program.release_memory()  # a trace beside it would need more memory than an eager run
        with _undone_on_failure(check):
            self._compare_with_a_second_trace(entry, self._trace(call, alone=alone), call, check)

    def _compare_with_a_second_trace(self, entry: Entry, again: Entry, call: Call, check: PurityCheck) -> None:
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

    def _trace(self, call: Call, signature: int | None = None, alone: bool = False) -> Entry:
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
            wanted = result_tensors(result, leaves)
            program = _core.trace_end(wanted, numbers=not self._trace_twice, n_gradients=self.n_gradients, live=live)
        if outside is not None:
            watch_what_was_made(outside, self._f, call.constants())
            call.changed = outside.forget_changes()  # by f itself, such as those of a counter
        frame = shape, [*map(told_apart, leaves)]
        return Entry(program, rebuilder(shape, leaves), call.guard(), signature, outside, frame)

    def _checked(self, result: Any) -> Any:
        """The result of an eager run as a replay would return it; TypeError if that could not."""
        leaves, shape = tree.flatten(result)
        result_tensors(result, leaves)
        return shape.unflatten(map(owned, leaves))


@contextlib.contextmanager
def _undone_on_failure(check: PurityCheck) -> Iterator[None]:
    """Where the block raises, arrays and generators are as before it, as an eager run will change them once more."""
    try:
        yield
    except BaseException:
        check.restore()
        raise


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
