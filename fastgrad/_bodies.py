"""Loops and branches that are recorded: scan, while_loop and cond over flat lists of tensors.

A function given to them runs once, on examples, while its operations are noted (csrc/record.c). The notes can be
carried out anew on other tensors: recorded as a program they are the body that csrc/flow.c runs, and on the tape they
are what the derivative of the body is taken of. So the gradient of a scan is a scan in
reverse over the derivative of its body,
that of a cond a cond of derivatives, both recorded in the same way, and gradients of gradients follow.

What a function reads from outside and what differs from call to call, or is tracked, becomes an operand: its closure.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from . import _core
from ._batching import CUSTOM, calls_noted
from ._core import Program, Tensor
from ._nodes import Rule, connected

__all__ = ["cond", "scan", "while_loop"]

Tensors = list[Tensor]
Function = Callable[[Tensors], Tensors]
_ByNumber = dict[int, Tensor]  # results by their numbers

_NAMES = _core.op_names()
_PART, _RANDOM = _NAMES.index("part"), _NAMES.index("random")
_FLOWS = [_NAMES.index(name) for name in ("scan", "while_loop", "cond")]

_here = threading.local()


def _under_way() -> list[_Body]:
    """The bodies that this thread is recording, the innermost last."""
    if not hasattr(_here, "bodies"):
        _here.bodies = []
    found: list[_Body] = _here.bodies
    return found


def _is_float(x: Tensor) -> bool:
    return x.dtype.kind == "f"


@contextmanager
def _grads(enabled: bool) -> Iterator[None]:
    was = _core.set_grad_enabled(enabled)
    try:
        yield
    finally:
        _core.set_grad_enabled(was)


@contextmanager
def _transform() -> Iterator[None]:
    """As within `grad`: operations are on the tape."""
    _core.enter_transform(1)
    try:
        with _grads(True):
            yield
    finally:
        _core.enter_transform(-1)


# ---- a function, noted --------------------------------------------------------------------------------------------
class _Body:
    """The notes of a function of examples, which may be overwritten."""

    def __init__(self, f: Function, examples: Tensors, tracked: bool) -> None:
        self.n_in = len(examples)
        self.flows: dict[int, _Flow] = {}  # by how a note names its first body
        bodies = _under_way()
        bodies.append(self)
        if tracked:  # so that the notes tell what is detached
            examples = [_core.watch_tensor(x) if _is_float(x) else x for x in examples]
        try:
            with calls_noted() as self.calls:
                _core.notes_begin(body=True)
                try:
                    for x in examples:
                        _core.notes_input(x)
                    results = f(list(examples))
                    numbers = [_core.notes_output(x)[0] for x in results]
                except BaseException:
                    _core.trace_abort()
                    raise
                notes, self.constants = _core.notes_end()
        finally:
            bodies.pop()
        self.outs = [v if v >= 0 else -1 - i for i, v in enumerate(numbers)]
        self.constants |= {v: x for v, x in zip(self.outs, results) if v < 0}
        self.kinds = [(x.dtype, x.shape) for x in results]

        needed = set(self.outs)
        kept = []
        for note in reversed(notes):
            if note[1] in needed or self._draws(note):
                needed |= set(note[2])
                kept.append(note)
        self.notes = kept[::-1]
        self.parts: dict[int, list[int]] = {}  # of each loop or branch, the results that are read
        for op, _, (v, *_), _, attr in (note for note in self.notes if note[0] == _PART):
            self.parts.setdefault(v, []).append(attr[0])
        self.drawn = [note[1] for note in self.notes if self._draws(note)]
        self.opaque = any(note[0] in _FLOWS and self._draws(note) for note in self.notes)
        self.closure = [
            v for v, x in self.constants.items() if v in needed and (x.requires_grad or _core.traced(x))
        ]

    def _draws(self, note: Any) -> bool:
        return note[0] == _RANDOM or (note[0] in _FLOWS and self.flows[note[4][0]].draws)

    @property
    def outside(self) -> Tensors:
        """The closure as it is outside."""
        return [self.constants[v] for v in self.closure]

    def values(self, closure: Sequence[Tensor], inputs: Sequence[Tensor], drawn: dict[int, Tensor]) -> dict[int, Any]:
        """All values when the notes are carried out on these. What has been drawn already is not drawn again."""
        values: dict[int, Any] = dict(self.constants)
        values.update(zip(self.closure, closure))
        values.update(enumerate(inputs))
        values.update(drawn)
        called: dict[int, Tensors] = {}  # the results of calls that are noted as a whole
        for op, result, operands, tracked, attr in self.notes:
            if result in drawn:
                continue
            if op == _PART:
                if isinstance(values[operands[0]], dict):
                    values[result] = values[operands[0]][attr[0]]
                    continue
            xs: list[Any] = [
                None if v < 0 else values[v] if outer else values[v].detach() for v, outer in zip(operands, tracked)
            ]
            if op == CUSTOM:
                if attr[0] not in called:
                    called[attr[0]] = self.calls[attr[0]].again(xs)
                values[result] = called[attr[0]][attr[1]]
            elif op in _FLOWS:
                values[result] = self.flows[attr[0]].by_place(xs, self.parts.get(result, []))
            else:
                values[result] = _core.apply_op(op, xs, attr)
        return values

    def __call__(
        self, closure: Sequence[Tensor], inputs: Sequence[Tensor], drawn: dict[int, Tensor] | None = None
    ) -> Tensors:
        values = self.values(closure, inputs, drawn or {})
        return [values[v] for v in self.outs]


def _record(f: Function, examples: Callable[[], Tensors], operands: Tensors) -> _Body:
    tracked = _core.grad_enabled() and (_core.in_transform() or any(x.requires_grad for x in operands))
    body = _Body(f, examples(), tracked)
    if not tracked and _core.grad_enabled() and any(x.requires_grad for x in body.outside):
        body = _Body(f, examples(), True)
    return body


def _program(f: Function, examples: Tensors) -> Program:
    with _grads(False):
        _core.trace_begin()
        try:
            for x in examples:
                _core.notes_input(x)
            results = f(examples)
        except BaseException:
            _core.trace_abort()
            raise
        return _core.trace_end(results)


# ---- loops and branches in general ----------------------------------------------------------------------------------
class _Flow:
    """A loop or branch. Its operands are the closures of its bodies and then the inputs.

    Beside its results there are further ones, which only its derivative reads; they are computed if it is tracked.
    """

    name: str
    draws: bool
    kinds: list[tuple[Any, tuple[int, ...]]]  # dtypes and shapes of all results
    n_results: int  # without the further ones
    numbers: tuple[int, ...]  # its attributes behind the bodies

    def programs(self, operands: Tensors, further: bool) -> list[Program]:
        raise NotImplementedError

    def derivative(
        self, cotangents: _ByNumber, saved: _ByNumber, operands: Tensors, needed: list[bool], again: bool
    ) -> list[Tensor | None]:
        raise NotImplementedError

    @functools.cached_property
    def _made(self) -> dict[bool, list[Program]]:
        return {}

    def run(self, operands: Tensors, wanted: Sequence[int] | None = None) -> dict[int, Tensor]:
        wanted = range(self.n_results) if wanted is None else wanted
        tracked = _core.grad_enabled() and any(x.requires_grad for x in operands)
        further = tracked or any(k >= self.n_results for k in wanted)
        if further not in self._made:
            self._made[further] = self.programs([_core.example(x) for x in operands], further)
        made = self._made[further]
        for body in _under_way():
            body.flows[_core.body_number(made[0])] = self
        kinds = self.kinds if further else self.kinds[: self.n_results]
        values = dict(enumerate(_core.flow(_NAMES.index(self.name), made, self.numbers, operands, kinds)))
        if tracked:
            saved = {k: x for k, x in values.items() if k >= self.n_results}
            values |= self.attached(values, wanted, operands, saved)
        return values

    def by_place(self, operands: Tensors, places: list[int]) -> dict[int, Tensor]:
        """The results that lie at these bytes of the block."""
        for made in self._made.values():
            at = {_core.flow_place(_NAMES.index(self.name), made, self.numbers, k): k for k in range(len(self.kinds))
                  if made is self._made.get(True) or k < self.n_results}  # fmt: skip
            if all(place in at for place in places):
                found = self.run(operands, [at[place] for place in places])
                return {place: found[at[place]] for place in places}
        raise AssertionError(f"{self.name}: a note reads what there is not")

    def attached(
        self, values: dict[int, Tensor], wanted: Sequence[int], operands: Tensors, saved: dict[int, Tensor]
    ) -> dict[int, Tensor]:
        """Those of the wanted values that have gradients, on the tape."""
        floats = [k for k in dict.fromkeys(wanted) if _is_float(values[k])]
        if not floats:
            return {}
        rule = _Through(self, floats, saved, operands)
        return dict(zip(floats, connected(operands, [values[k] for k in floats], rule)))


class _Through(Rule):
    """The rule of those results of a loop or branch that have these numbers."""

    is_derivative = True

    def __init__(self, flow: _Flow, numbers: list[int], saved: _ByNumber, operands: Tensors) -> None:
        self.flow, self.numbers, self.saved = flow, numbers, saved
        self.operands = [_core.settled(x) for x in operands]

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        flow, saved, operands, again = self.flow, self.saved, self.operands, _core.grad_enabled()
        needed = [x.requires_grad for x in operands]
        if again:
            saved = saved | flow.attached(saved, list(saved), operands, saved)
        else:
            operands = [x.detach() for x in operands]
        return flow.derivative(dict(zip(self.numbers, self.parts(g))), saved, operands, needed, again)

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        raise NotImplementedError(
            "forward mode through a recorded scan or cond is not here yet; use reverse mode, or do not compile the "
            "function"
        )


def _pullback(
    f: Callable[[Tensors], Tensors], xs: Tensors, by: list[int], cotangents: dict[int, Tensor], again: bool
) -> Tensors:
    """The gradients by some of xs of f's results, weighted by cotangents. again: they will be differentiated, too."""
    with _transform():
        watched = list(xs)
        for i in by:
            watched[i] = _core.watch_tensor(xs[i], again)
        results = f(watched)
        ends = {k: results[k] for k in cotangents if results[k].requires_grad}
        if not ends or not by:
            return [_zeros(xs[i]) for i in by]
        return _core.pull([*ends.values()], [cotangents[k] for k in ends], [watched[i] for i in by], again)


def _zeros(x: Tensor) -> Tensor:
    return _core.adopt(np.zeros(x.shape, x.dtype), "zeros")


# ---- scan -----------------------------------------------------------------------------------------------------------
class _Scan(_Flow):
    """Further results: what was carried into each step, and what was drawn there."""

    name = "scan"

    def __init__(self, body: _Body, n_carry: int, length: int, reverse: bool) -> None:
        self.body, self.n_carry, self.length, self.reverse = body, n_carry, length, reverse
        self.n_closure, self.draws = len(body.closure), bool(body.drawn)
        self.numbers = (length, reverse, self.n_closure, n_carry)
        self.n_results = len(body.outs)
        steps = body.kinds[n_carry:] + body.kinds[:n_carry] + [_kind_of(body, v) for v in body.drawn if not body.opaque]
        self.kinds = body.kinds[:n_carry] + [(dtype, (length, *shape)) for dtype, shape in steps]

    def _step(self, further: bool, inputs: Tensors) -> Tensors:
        closure, rest = inputs[: self.n_closure], inputs[self.n_closure :]
        values = self.body.values(closure, rest, {})
        results = [values[v] for v in self.body.outs]
        if further:
            results += rest[: self.n_carry]
            results += [] if self.body.opaque else [values[v] for v in self.body.drawn]
        return results

    def programs(self, operands: Tensors, further: bool) -> list[Program]:
        first = self.n_closure + self.n_carry
        examples = operands[:first] + [_core.example(x, 0) for x in operands[first:]]
        return [_program(functools.partial(self._step, further), examples)]

    def derivative(
        self, cotangents: _ByNumber, saved: _ByNumber, operands: Tensors, needed: list[bool], again: bool
    ) -> list[Tensor | None]:
        if self.body.opaque:
            raise NotImplementedError(
                "scan: the gradient through a body in which an inner loop draws random numbers; draw outside"
            )
        n, c, first = self.n_closure, self.n_carry, self.n_closure + self.n_carry
        closure, init, xs = operands[:n], operands[n:first], operands[first:]
        floats = [i for i in range(c) if _is_float(init[i])]
        outer = [i for i in range(n) if needed[i]]
        rows = [j for j in range(len(xs)) if needed[first + j]]
        stacked = [k for k in cotangents if k >= c]
        further = [saved[k] for k in sorted(saved)]
        by = [*outer, *[n + i for i in floats], *[first + j for j in rows]]

        def step(inputs: Tensors) -> Tensors:
            left = iter(inputs)

            def take(count: int) -> Tensors:
                return list(islice(left, count))

            arrived, sums, carry = take(len(floats)), take(len(outer)), take(c)
            drawn = dict(zip(self.body.drawn, take(len(further) - c)))
            x, ys = take(len(xs)), take(len(stacked))

            def f(all_inputs: Tensors) -> Tensors:
                inner = all_inputs[n:]
                return [*self.body(all_inputs[:n], inner, drawn), *inner[:c], *drawn.values()]

            weights = dict(zip(floats, arrived)) | dict(zip(stacked, ys))
            found = _pullback(f, [*closure, *carry, *x], by, weights, again)
            k, m = len(outer), len(outer) + len(floats)
            return [*found[k:m], *[a + b for a, b in zip(sums, found[:k])], *found[m:]]

        start = [cotangents[i] if i in cotangents else _zeros(init[i]) for i in floats]
        sums = [_zeros(closure[i]) for i in outer]
        rows_in = [*further, *xs, *[cotangents[k] for k in stacked]]
        found = scan(step, start + sums, rows_in, self.length, not self.reverse)
        result: list[Tensor | None] = [None] * len(operands)
        places = [*[n + i for i in floats], *outer, *[first + j for j in rows]]
        for place, gradient in zip(places, found):
            result[place] = gradient
        return result


def _kind_of(body: _Body, v: int) -> tuple[Any, tuple[int, ...]]:
    """Of a draw."""
    attr = next(note[4] for note in body.notes if note[1] == v)
    return _core.dtype_numbered(attr[0]), attr[3:]


def scan(f: Function, init: Tensors, xs: Tensors, length: int, reverse: bool) -> Tensors:
    """f takes what is carried and a row of each of xs, and returns what is carried on and a row for each of the stacked
    results, which come behind what is carried at last."""
    body = _record(f, lambda: [_core.example(x) for x in init] + [_core.example(x, 0) for x in xs], [*init, *xs])
    flow = _Scan(body, len(init), length, reverse)
    return [*flow.run([*body.outside, *init, *xs]).values()][: flow.n_results]


# ---- cond -----------------------------------------------------------------------------------------------------------
class _Cond(_Flow):
    """Operands: the condition, both closures, the inputs. Further results: what was drawn in the one or the other."""

    name = "cond"

    def __init__(self, bodies: tuple[_Body, _Body]) -> None:
        self.bodies, self.numbers = bodies, ()
        self.draws = any(body.drawn for body in bodies)
        self.n_results = len(bodies[0].outs)
        self.drawn = [(body, v) for body in bodies if not body.opaque for v in body.drawn]
        self.kinds = bodies[0].kinds + [_kind_of(body, v) for body, v in self.drawn]

    def _of(self, i: int, inputs: Sequence[Any]) -> tuple[slice, slice]:
        """Where among the operands but the condition the closure and the inputs of branch i are."""
        first, both = len(self.bodies[0].closure), sum(len(body.closure) for body in self.bodies)
        return slice(0, first) if i == 0 else slice(first, both), slice(both, len(inputs))

    def _branch(self, i: int, further: bool, inputs: Tensors) -> Tensors:
        body = self.bodies[i]
        closure, own = self._of(i, inputs)
        values = body.values(inputs[closure], inputs[own], {})
        results = [values[v] for v in body.outs]
        for other, v in self.drawn if further else []:
            results.append(values[v] if other is body else _core.adopt(np.zeros(*_kind_of(other, v)[::-1]), "cond"))
        return results

    def programs(self, operands: Tensors, further: bool) -> list[Program]:
        return [
            _program(functools.partial(self._branch, i, further), [_core.example(x) for x in operands[1:]])
            for i in range(2)
        ]

    def derivative(
        self, cotangents: _ByNumber, saved: _ByNumber, operands: Tensors, needed: list[bool], again: bool
    ) -> list[Tensor | None]:
        if any(body.opaque for body in self.bodies):
            raise NotImplementedError(
                "cond: the gradient through a branch in which an inner loop draws random numbers; draw outside"
            )
        by = [i - 1 for i in range(1, len(operands)) if needed[i]]
        further = [saved[k] for k in sorted(saved)]
        m = len(further)

        def branch(i: int) -> Function:
            body = self.bodies[i]

            def f(inputs: Tensors) -> Tensors:
                drawn = {v: x for (other, v), x in zip(self.drawn, inputs) if other is body}
                closure, own = self._of(i, operands[1:])
                n = m + len(operands) - 1
                weights = dict(zip(cotangents, inputs[n:]))
                results = lambda xs: [*body(xs[closure], xs[own], drawn), *inputs[:m]]  # noqa: E731
                return _pullback(results, inputs[m:n], by, weights, again)

            return f

        found = cond(operands[0], branch(0), branch(1), [*further, *operands[1:], *cotangents.values()])
        result: list[Tensor | None] = [None] * len(operands)
        for i, gradient in zip(by, found):
            result[i + 1] = gradient
        return result


def cond(
    condition: Tensor,
    true: Function,
    false: Function,
    inputs: Tensors,
    check: Callable[..., None] = lambda *kinds: None,
) -> Tensors:
    """true(inputs) where the condition, a boolean, holds, and else false(inputs)."""
    bodies = tuple(_record(f, lambda: [_core.example(x) for x in inputs], inputs) for f in (true, false))
    check(bodies[0].kinds, bodies[1].kinds)
    flow = _Cond(bodies)  # type: ignore[arg-type]
    found = flow.run([condition, *bodies[0].outside, *bodies[1].outside, *inputs])
    return [*found.values()][: flow.n_results]


# ---- while_loop -----------------------------------------------------------------------------------------------------
class _While(_Flow):
    """Operands: the closure of the condition, that of the body, what is carried."""

    name = "while_loop"

    def __init__(self, test: _Body, body: _Body) -> None:
        self.bodies = test, body
        self.n_closure = len(test.closure) + len(body.closure)
        self.numbers = (self.n_closure,)
        self.draws = bool(test.drawn or body.drawn)
        self.kinds, self.n_results = body.kinds, len(body.outs)

    def programs(self, operands: Tensors, further: bool) -> list[Program]:
        def part(i: int, inputs: Tensors) -> Tensors:
            first = len(self.bodies[0].closure)
            closure = inputs[:first] if i == 0 else inputs[first : self.n_closure]
            return self.bodies[i](closure, inputs[self.n_closure :])

        return [_program(functools.partial(part, i), [_core.example(x) for x in operands]) for i in range(2)]

    def derivative(
        self, cotangents: _ByNumber, saved: _ByNumber, operands: Tensors, needed: list[bool], again: bool
    ) -> list[Tensor | None]:
        raise NotImplementedError(
            "while_loop: no gradient through a recorded loop of unknown length, whose steps are not kept; use "
            "fastgrad.scan or fori_loop with a fixed number of steps, or fastgrad.stop_gradient on what it starts from"
        )


def while_loop(test: Function, f: Function, init: Tensors) -> Tensors:
    """f carried out again and again on what it returns, as long as the test, which returns a single boolean, holds."""
    examples = lambda: [_core.example(x) for x in init]  # noqa: E731
    flow = _While(_record(test, examples, init), _record(f, examples, init))
    found = flow.run([*flow.bodies[0].outside, *flow.bodies[1].outside, *init])
    return [*found.values()][: flow.n_results]
