"""while_loop and cond over flat lists of tensors, as single operations (csrc/program/control_flow.c) with derivatives and rules for
batches that are loops and branches again; scan is in _scan.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from .._numpy import functions
from .._rules.batching import whole
from .body import (
    Body, ByNumber, Flow, Function, Tensors, as_program, drawn_inside, pullback, pushforward, record, zeros, zeros_like,
)
from .._core import Program, Tensor
from .._transforms.custom_node import is_float

__all__ = ["both", "cond", "while_loop"]


# ---- cond -----------------------------------------------------------------------------------------------------------
class _Cond(Flow):
    """Operands: the condition, both closures, the inputs. Further results: what was drawn in the one or the other."""

    name = "cond"

    def __init__(self, bodies: tuple[Body, Body]) -> None:
        self.bodies, self.numbers, self._made = bodies, (), {}
        self.draws = any(body.drawn for body in bodies)
        self.n_results = len(bodies[0].outs)
        self.drawn = [(body, v) for body in bodies if not body.opaque for v in body.drawn]
        self.kinds = bodies[0].kinds + [body.kind_of(v) for body, v in self.drawn]

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
            results.append(values[v] if other is body else _core.adopt(np.zeros(*other.kind_of(v)[::-1]), "cond"))
        return results

    def programs(self, operands: Tensors, further: bool) -> list[Program]:
        return [as_program(functools.partial(self._branch, i, further), operands[1:]) for i in range(2)]

    def derivative(
        self, cotangents: ByNumber, saved: ByNumber, operands: Tensors, needed: list[bool], again: bool
    ) -> list[Tensor | None]:
        if any(body.opaque for body in self.bodies):
            raise drawn_inside("cond", "a branch")
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
                return pullback(results, inputs[m:n], by, weights, again)

            return f

        found = cond(operands[0], branch(0), branch(1), [*further, *operands[1:], *cotangents.values()])
        result: list[Tensor | None] = [None] * len(operands)
        for i, gradient in zip(by, found):
            result[i + 1] = gradient
        return result

    def tangents(
        self, tangents: list[Any], saved: ByNumber, operands: Tensors, wanted: list[int], again: bool
    ) -> list[Any]:
        if any(body.opaque for body in self.bodies):
            raise drawn_inside("cond", "a branch")
        further = [saved[k] for k in sorted(saved)]
        m, n = len(further), len(further) + len(operands) - 1
        by = [m + i for i, t in enumerate(tangents[1:]) if t is not None]

        def branch(i: int) -> Function:
            body = self.bodies[i]

            def f(inputs: Tensors) -> Tensors:
                drawn = {v: x for (other, v), x in zip(self.drawn, inputs) if other is body}
                closure, own = self._of(i, operands[1:])
                results = lambda xs: [*body(xs[m:][closure], xs[m:][own], drawn), *xs[:m]]  # noqa: E731
                found = pushforward(results, inputs[:n], dict(zip(by, inputs[n:])), again)
                return [zeros(*self.kinds[k]) if found[k] is None else found[k] for k in wanted]

            return f

        moving = [t for t in tangents if t is not None]
        return cond(operands[0], branch(0), branch(1), [*further, *operands[1:], *moving])

    def mapped(self, operands: Tensors, batched: list[bool], size: int, wanted: list[int]) -> Tensors:
        def branch(i: int) -> Function:
            body = self.bodies[i]

            def f(inputs: Tensors) -> Tensors:
                closure, own = self._of(i, inputs)
                known = [*body.closure, *range(len(inputs[own]))]
                flags = batched[1:][closure] + batched[1:][own]
                given = dict(zip(known, inputs[closure] + inputs[own]))
                moving = {v for v, b in zip(known, flags) if b}
                drawn = [v for other, v in self.drawn if other is body]
                values = dict(zip([*body.outs, *drawn], body.over(given, moving, size, [*body.outs, *drawn])))
                moving = body.batched(moving)
                results = [whole(values[v], v in moving, size) for v in body.outs]
                for other, v in self.drawn:
                    dtype, shape = other.kind_of(v)
                    results.append(values[v] if other is body else zeros(dtype, (size, *shape)))
                return [results[k] for k in wanted]

            return f

        if not batched[0]:
            return cond(operands[0], branch(0), branch(1), operands[1:])
        operands = [whole(x, b or not _is_guarded(x), size) for x, b in zip(operands, batched)]
        batched = [b or _is_guarded(x) for x, b in zip(operands, batched)]
        inputs, found = _guarded(_chosen, operands[0], operands[1:]), []
        for k, a, b in zip(wanted, *[branch(i)(inputs[i]) for i in range(2)]):
            if k >= self.n_results:  # drawn in one of them: the other has zeros there
                found.append(a if self.drawn[k - self.n_results][0] is self.bodies[0] else b)
            else:
                found.append(_chosen(operands[0], a, b))
        return found


def _chosen(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """By a condition for each element of the batch."""
    return functions.where(_core.reshape(condition, (len(condition), *[1] * (a.ndim - 1))), a, b)


def _is_guarded(x: Tensor) -> bool:
    return _core.grad_enabled() and is_float(x) and x.requires_grad


def _guarded(chosen: Callable[..., Tensor], condition: Tensor, inputs: Tensors) -> tuple[Tensors, Tensors]:
    """What each branch gets where both are computed: an element that goes the other way is a constant to it, as its
    derivative there may be inf, which no zero that arrives takes away."""
    true = [chosen(condition, x, x.detach()) if _is_guarded(x) else x for x in inputs]
    false = [chosen(condition, x.detach(), x) if _is_guarded(x) else x for x in inputs]
    return true, false


def cond(
    condition: Tensor,
    true: Function,
    false: Function,
    inputs: Tensors,
    check: Callable[..., None] = lambda *kinds: None,
) -> Tensors:
    """true(inputs) where the condition, a boolean, holds, and else false(inputs)."""
    bodies = tuple(record(f, inputs) for f in (true, false))
    check(bodies[0].kinds, bodies[1].kinds)
    flow = _Cond(bodies)  # type: ignore[arg-type]
    found = flow.run([condition, *bodies[0].enclosed, *bodies[1].enclosed, *inputs])
    return [*found.values()][: flow.n_results]


def both(
    condition: Tensor, true: Function, false: Function, inputs: Tensors, check: Callable[..., None]
) -> Tensors:
    """The same by both branches: for a condition that is mapped, while no program is recorded."""
    bodies = [record(f, inputs) for f in (true, false)]
    check(bodies[0].kinds, bodies[1].kinds)
    found = []
    for i, body in enumerate(bodies):
        given = _guarded(functions.where, condition, [*body.enclosed, *inputs])[i]
        found.append(body(given[: len(body.closure)], given[len(body.closure) :]))
    return [functions.where(condition, a, b) for a, b in zip(*found)]


# ---- while_loop -----------------------------------------------------------------------------------------------------
class _While(Flow):
    """Operands: the closure of the condition, that of the body, what is carried."""

    name = "while_loop"

    def __init__(self, test: Body, body: Body) -> None:
        self.bodies, self._made = (test, body), {}
        self.n_closure = len(test.closure) + len(body.closure)
        self.numbers = (self.n_closure,)
        self.draws = bool(test.drawn or body.drawn)
        self.kinds, self.n_results = body.kinds, len(body.outs)

    def programs(self, operands: Tensors, further: bool) -> list[Program]:
        return [as_program(functools.partial(self._part, i), operands) for i in range(2)]

    def _part(self, i: int, inputs: Tensors) -> Tensors:
        first = len(self.bodies[0].closure)
        closure = inputs[:first] if i == 0 else inputs[first : self.n_closure]
        return self.bodies[i](closure, inputs[self.n_closure :])

    def derivative(
        self, cotangents: ByNumber, saved: ByNumber, operands: Tensors, needed: list[bool], again: bool
    ) -> list[Tensor | None]:
        raise NotImplementedError(
            "while_loop: no gradient through a recorded loop of unknown length, whose steps are not kept; use "
            "fastgrad.scan or fori_loop with a fixed number of steps, or fastgrad.stop_gradient on what it starts from"
        )

    def tangents(
        self, tangents: list[Any], saved: ByNumber, operands: Tensors, wanted: list[int], again: bool
    ) -> list[Any]:
        """The loop runs once more, with the tangents beside the values."""
        if self.draws:
            raise NotImplementedError("while_loop: the derivative of a recorded loop that draws; draw outside")
        n = self.n_closure
        closures, init = operands[:n], operands[n:]
        floats = [i for i, x in enumerate(init) if is_float(x)]
        outer = {i: tangents[i] for i in range(n) if tangents[i] is not None}

        def test(inputs: Tensors) -> Tensors:
            return self._part(0, closures + inputs[: len(init)])

        def step(inputs: Tensors) -> Tensors:
            values = closures + inputs[: len(init)]
            by = dict(zip([n + i for i in floats], inputs[len(init) :]))
            found = pushforward(lambda xs: self._part(1, xs), values, outer | by, again)
            return [
                *self._part(1, values),
                *[zeros(*self.kinds[i]) if found[i] is None else found[i] for i in floats],
            ]

        start = [zeros_like(init[i]) if tangents[n + i] is None else tangents[n + i] for i in floats]
        found = while_loop(test, step, init + start)[len(init) :]
        return [found[floats.index(k)] for k in wanted]

    def mapped(self, operands: Tensors, batched: list[bool], size: int, wanted: list[int]) -> Tensors:
        """Where the condition differs over the batch, the loop goes on until it holds for none, and keeps what is
        ready."""
        n, flags = self.n_closure, batched[self.n_closure :]
        known = [*self.bodies[0].closure, *self.bodies[1].closure]
        first = len(self.bodies[0].closure)

        def moving(i: int, carried: set[int]) -> set[int]:
            own = slice(0, first) if i == 0 else slice(first, n)
            return {v for v, b in zip(known[own], batched[own]) if b} | carried

        on = {i for i, b in enumerate(flags) if b}
        for _ in flags:
            after = self.bodies[1].batched(moving(1, on))
            on |= {i for i, v in enumerate(self.bodies[1].outs) if v in after}
        masked = self.bodies[0].outs[0] in self.bodies[0].batched(moving(0, on))
        on = set(range(len(flags))) if masked else on

        def part(i: int, inputs: Tensors) -> Tensors:
            own = slice(0, first) if i == 0 else slice(first, n)
            given = dict(zip([*known[own], *range(len(flags))], operands[own] + inputs))
            found = self.bodies[i].over(given, moving(i, on), size, self.bodies[i].outs)
            after = self.bodies[i].batched(moving(i, on))
            return [whole(x, v in after or (i == 1 and k not in on) or (i == 0 and not masked), size)
                    for k, (x, v) in enumerate(zip(found, self.bodies[i].outs))]  # fmt: skip

        init = [whole(x, b or i not in on, size) for i, (x, b) in enumerate(zip(operands[n:], flags))]
        if not masked:
            found = while_loop(functools.partial(part, 0), functools.partial(part, 1), init)
        else:

            def step(inputs: Tensors) -> Tensors:
                going, *values = inputs
                kept = [_chosen(going, a, b) for a, b in zip(part(1, values), values)]
                return [going & part(0, kept)[0], *kept]

            found = while_loop(lambda inputs: [_some(inputs[0])], step, [part(0, init)[0], *init])[1:]
        return [whole(found[k], k in on, size) for k in wanted]


def _some(conditions: Tensor) -> Tensor:
    """Whether any holds, by kernels."""
    return conditions.astype(np.float32).sum() > 0


def while_loop(test: Function, f: Function, init: Tensors) -> Tensors:
    """f carried out again and again on what it returns, as long as the test, which returns a single boolean, holds."""
    flow = _While(record(test, init), record(f, init))
    found = flow.run([*flow.bodies[0].enclosed, *flow.bodies[1].enclosed, *init])
    return [*found.values()][: flow.n_results]
