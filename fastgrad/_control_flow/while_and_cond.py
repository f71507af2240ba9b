"""`while_loop` and `cond` over flat lists of tensors, as single operations (csrc/program/control_flow.c).

Their derivatives and batching rules are loops and branches again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from .._core import Program, Tensor
from .._rules.batching import whole
from .._transforms.custom_node import is_float
from .body import (
    Body,
    ByNumber,
    ControlFlow,
    Function,
    Tensors,
    as_program,
    drawn_inside,
    pullback,
    pushforward,
    trace,
    zeros,
    zeros_like,
)

__all__ = ["cond", "while_loop"]

_ARGMAX, _TAKE = (_core.OP_NUMBERS[name] for name in ("argmax", "take"))


# ---- cond -----------------------------------------------------------------------------------------------------------
class _Cond(ControlFlow):
    """Operands: the condition, both closures, the inputs. Residuals: what was drawn in either branch."""

    name = "cond"

    def __init__(self, bodies: tuple[Body, Body]) -> None:
        self.bodies, self.numbers, self._made = bodies, (), {}
        self.draws = any(body.drawn for body in bodies)
        self.n_results = len(bodies[0].outs)
        self.drawn = [(body, v) for body in bodies if not body.opaque for v in body.drawn]
        self.kinds = bodies[0].kinds + [body.kind_of(v) for body, v in self.drawn]

    def _of(self, i: int, inputs: Sequence[Any]) -> tuple[slice, slice]:
        """The closure and the inputs of branch i among the operands that follow the condition."""
        first, both = len(self.bodies[0].closure), sum(len(body.closure) for body in self.bodies)
        return slice(0, first) if i == 0 else slice(first, both), slice(both, len(inputs))

    def _branch(self, i: int, with_residuals: bool, inputs: Tensors) -> Tensors:
        body = self.bodies[i]
        closure, own = self._of(i, inputs)
        values = body.values(inputs[closure], inputs[own], {})
        results = [values[v] for v in body.outs]
        for other, v in self.drawn if with_residuals else []:
            results.append(values[v] if other is body else _core.adopt(np.zeros(*other.kind_of(v)[::-1]), "cond"))
        return results

    def programs(self, operands: Tensors, with_residuals: bool) -> list[Program]:
        return [as_program(functools.partial(self._branch, i, with_residuals), operands[1:]) for i in range(2)]

    def derivative(
        self, cotangents: ByNumber, saved: ByNumber, operands: Tensors, needed: list[bool], create_graph: bool
    ) -> list[Tensor | None]:
        if any(body.opaque for body in self.bodies):
            raise drawn_inside("cond", "a branch")
        by = [i - 1 for i in range(1, len(operands)) if needed[i]]
        residuals = [saved[k] for k in sorted(saved)]
        m = len(residuals)

        def branch(i: int) -> Function:
            body = self.bodies[i]

            def f(inputs: Tensors) -> Tensors:
                drawn = {v: x for (other, v), x in zip(self.drawn, inputs) if other is body}
                closure, own = self._of(i, operands[1:])
                n = m + len(operands) - 1
                weights = dict(zip(cotangents, inputs[n:]))
                results = lambda xs: [*body(xs[closure], xs[own], drawn), *inputs[:m]]
                return pullback(results, inputs[m:n], by, weights, create_graph)

            return f

        found = cond(operands[0], branch(0), branch(1), [*residuals, *operands[1:], *cotangents.values()])
        result: list[Tensor | None] = [None] * len(operands)
        for i, gradient in zip(by, found):
            result[i + 1] = gradient
        return result

    def tangents(
        self, tangents: list[Any], saved: ByNumber, operands: Tensors, wanted: list[int], create_graph: bool
    ) -> list[Any]:
        if any(body.opaque for body in self.bodies):
            raise drawn_inside("cond", "a branch")
        residuals = [saved[k] for k in sorted(saved)]
        m, n = len(residuals), len(residuals) + len(operands) - 1
        by = [m + i for i, t in enumerate(tangents[1:]) if t is not None]

        def branch(i: int) -> Function:
            body = self.bodies[i]

            def f(inputs: Tensors) -> Tensors:
                drawn = {v: x for (other, v), x in zip(self.drawn, inputs) if other is body}
                closure, own = self._of(i, operands[1:])
                results = lambda xs: [*body(xs[m:][closure], xs[m:][own], drawn), *xs[:m]]
                found = pushforward(results, inputs[:n], dict(zip(by, inputs[n:])), create_graph)
                return [zeros(*self.kinds[k]) if found[k] is None else found[k] for k in wanted]

            return f

        given = [t for t in tangents if t is not None]
        return cond(operands[0], branch(0), branch(1), [*residuals, *operands[1:], *given])

    def mapped(self, operands: Tensors, batched: list[bool], size: int, wanted: list[int]) -> Tensors:
        def branch(i: int) -> Function:
            body = self.bodies[i]

            def f(inputs: Tensors) -> Tensors:
                closure, own = self._of(i, inputs)
                known = [*body.closure, *range(len(inputs[own]))]
                flags = batched[1:][closure] + batched[1:][own]
                given = dict(zip(known, inputs[closure] + inputs[own]))
                start = {v for v, b in zip(known, flags) if b}
                drawn = [v for other, v in self.drawn if other is body]
                values = dict(zip([*body.outs, *drawn], body.over(given, start, size, [*body.outs, *drawn])))
                varying = body.batched(start)
                results = [whole(values[v], v in varying, size) for v in body.outs]
                for other, v in self.drawn:
                    dtype, shape = other.kind_of(v)
                    results.append(values[v] if other is body else zeros(dtype, (size, *shape)))
                return [results[k] for k in wanted]

            return f

        if not batched[0]:
            return cond(operands[0], branch(0), branch(1), operands[1:])
        operands = [whole(x, b or not _is_guarded(x), size) for x, b in zip(operands, batched)]
        batched = [b or _is_guarded(x) for x, b in zip(operands, batched)]
        kinds = [(dtype, (size, *shape)) for dtype, shape in (self.kinds[k] for k in wanted)]

        def results(i: int) -> Tensors:
            """Of branch i, for all elements; those of elements that take the other branch are not read."""
            taken = operands[0] if i == 0 else ~operands[0]
            if not self.bodies[i].may_fail:
                return branch(i)(_guarded(_chosen, taken, operands[1:]))

            def f(inputs: Tensors) -> Tensors:
                return branch(i)(_in_place_of_others(inputs[0], inputs[1:], batched[1:]))

            return _if_any(taken, f, [taken, *operands[1:]], kinds)

        found = []
        for k, a, b in zip(wanted, results(0), results(1)):
            if k >= self.n_results:  # drawn in one of them: the other has zeros there
                found.append(a if self.drawn[k - self.n_results][0] is self.bodies[0] else b)
            else:
                found.append(_chosen(operands[0], a, b))
        return found


def _chosen(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a or b for each element of the batch, by a condition for each."""
    return _core.where(_core.reshape(condition, (len(condition), *[1] * (a.ndim - 1))), a, b)


def _is_guarded(x: Tensor) -> bool:
    return _core.grad_enabled() and is_float(x) and x.requires_grad


def _guarded(chosen: Callable[..., Tensor], taken: Tensor, inputs: Tensors) -> Tensors:
    """The inputs of a branch that is computed for all elements. Those that do not take it are constants to it: its
    derivative there may be inf, and inf times a cotangent of zero would be nan."""
    return [chosen(taken, x, x.detach()) if _is_guarded(x) else x for x in inputs]


def _in_place_of_others(taken: Tensor, inputs: Tensors, batched: list[bool]) -> Tensors:
    """The inputs of a branch or of a loop's body that fails for some values. Elements that do not take it get, as
    constants, the values of the first element that does: so it fails only where an element that takes it does."""
    if not len(taken):
        return inputs
    first = _core.apply_op(_ARGMAX, [taken], (0,))
    return [
        _chosen(taken, x, _core.apply_op(_TAKE, [x.detach(), first], (0, 0))) if b else x
        for x, b in zip(inputs, batched)
    ]


def _some(conditions: Tensor) -> Tensor:
    """Whether any of the booleans is true, by operations that have kernels."""
    return conditions.astype(np.float32).sum() > 0


def _if_any(taken: Tensor, f: Function, inputs: Tensors, kinds: list[tuple[Any, tuple[int, ...]]]) -> Tensors:
    """f(inputs) if any of the booleans is true, else zeros of these kinds."""
    some = _some(taken)
    none = lambda _: [zeros(*kind) for kind in kinds]
    if _core.traced(some):
        return cond(some, f, none, inputs)
    return (f if bool(some) else none)(inputs)


def cond(
    condition: Tensor,
    true: Function,
    false: Function,
    inputs: Tensors,
    check: Callable[..., None] = lambda *kinds: None,
    in_batch: bool = False,
) -> Tensors:
    """true(inputs) where the condition, a boolean, holds, and else false(inputs).

    ``in_batch``: the condition differs over a batch, and no program is traced. Then both are computed at once, without
    an operation of their own, if they cannot fail.
    """
    bodies = tuple(trace(f, inputs) for f in (true, false))
    check(bodies[0].kinds, bodies[1].kinds)
    if in_batch and not any(body.may_fail for body in bodies):
        found = []
        for body, taken in zip(bodies, (condition, ~condition)):
            given = _guarded(_core.where, taken, [*body.enclosed, *inputs])
            found.append(body(given[: len(body.closure)], given[len(body.closure) :]))
        return [_core.where(condition, a, b) for a, b in zip(*found)]
    branch = _Cond(bodies)  # type: ignore[arg-type]
    results = branch.run([condition, *bodies[0].enclosed, *bodies[1].enclosed, *inputs])
    return [*results.values()][: branch.n_results]


# ---- while_loop -----------------------------------------------------------------------------------------------------
class _While(ControlFlow):
    """Operands: the closure of the condition, that of the body, what is carried."""

    name = "while_loop"

    def __init__(self, test: Body, body: Body) -> None:
        self.bodies, self._made = (test, body), {}
        self.n_closure = len(test.closure) + len(body.closure)
        self.numbers = (self.n_closure,)
        self.draws = bool(test.drawn or body.drawn)
        self.kinds, self.n_results = body.kinds, len(body.outs)

    def programs(self, operands: Tensors, with_residuals: bool) -> list[Program]:
        return [as_program(functools.partial(self._part, i), operands) for i in range(2)]

    def _part(self, i: int, inputs: Tensors) -> Tensors:
        first = len(self.bodies[0].closure)
        closure = inputs[:first] if i == 0 else inputs[first : self.n_closure]
        return self.bodies[i](closure, inputs[self.n_closure :])

    def derivative(
        self, cotangents: ByNumber, saved: ByNumber, operands: Tensors, needed: list[bool], create_graph: bool
    ) -> list[Tensor | None]:
        raise NotImplementedError(
            "while_loop: no gradient through a traced loop of unknown length, whose steps are not kept; use "
            "fastgrad.scan or fori_loop with a fixed number of steps, or fastgrad.stop_gradient on what it starts from"
        )

    def tangents(
        self, tangents: list[Any], saved: ByNumber, operands: Tensors, wanted: list[int], create_graph: bool
    ) -> list[Any]:
        """The loop runs once more, with the tangents beside the values."""
        if self.draws:
            raise NotImplementedError("while_loop: the derivative of a traced loop that draws; draw outside")
        n = self.n_closure
        closures, init = operands[:n], operands[n:]
        outer = {i: tangents[i] for i in range(n) if tangents[i] is not None}
        tests, moved = len(self.bodies[0].closure), [i for i in range(len(init)) if tangents[n + i] is not None]
        enclosed = [v for i, v in enumerate(self.bodies[1].closure) if tests + i in outer]
        varying = self.bodies[1].carried_on({*moved, *enclosed}, len(init))
        floats = [i for i, x in enumerate(init) if is_float(x) and i in varying]

        def test(inputs: Tensors) -> Tensors:
            return self._part(0, closures + inputs[: len(init)])

        def step(inputs: Tensors) -> Tensors:
            values = closures + inputs[: len(init)]
            by = dict(zip([n + i for i in floats], inputs[len(init) :]))
            found = pushforward(lambda xs: self._part(1, xs), values, outer | by, create_graph)
            return [
                *self._part(1, values),
                *[zeros(*self.kinds[i]) if found[i] is None else found[i] for i in floats],
            ]

        start = [zeros_like(init[i]) if tangents[n + i] is None else tangents[n + i] for i in floats]
        found = while_loop(test, step, init + start)[len(init) :]
        return [found[floats.index(k)] if k in floats else None for k in wanted]

    def mapped(self, operands: Tensors, batched: list[bool], size: int, wanted: list[int]) -> Tensors:
        """If the condition is batched, the loop goes on until it holds for no element; elements for which it does not
        hold keep their values."""
        n, flags = self.n_closure, batched[self.n_closure :]
        known = [*self.bodies[0].closure, *self.bodies[1].closure]
        first = len(self.bodies[0].closure)

        def start(i: int, carried: set[int]) -> set[int]:
            """The batched closure and carry of the condition (0) or the body (1), by number."""
            own = slice(0, first) if i == 0 else slice(first, n)
            return {v for v, b in zip(known[own], batched[own]) if b} | carried

        on = {i for i, b in enumerate(flags) if b}
        for _ in flags:
            after = self.bodies[1].batched(start(1, on))
            on |= {i for i, v in enumerate(self.bodies[1].outs) if v in after}
        masked = self.bodies[0].outs[0] in self.bodies[0].batched(start(0, on))
        on = set(range(len(flags))) if masked else on

        def part(i: int, inputs: Tensors, going: Tensor | None = None) -> Tensors:
            """The results of the condition or the body; of the latter only those of elements that are ``going``."""
            own = slice(0, first) if i == 0 else slice(first, n)
            values = operands[own] + inputs
            if going is not None and self.bodies[i].may_fail:
                values = _in_place_of_others(going, values, batched[own] + [True] * len(flags))
            given = dict(zip([*known[own], *range(len(flags))], values))
            found = self.bodies[i].over(given, start(i, on), size, self.bodies[i].outs)
            after = self.bodies[i].batched(start(i, on))
            return [whole(x, v in after or (i == 1 and k not in on) or (i == 0 and not masked), size)
                    for k, (x, v) in enumerate(zip(found, self.bodies[i].outs))]  # fmt: skip

        init = [whole(x, b or i not in on, size) for i, (x, b) in enumerate(zip(operands[n:], flags))]
        if not masked:
            found = while_loop(functools.partial(part, 0), functools.partial(part, 1), init)
        else:

            def step(inputs: Tensors) -> Tensors:
                going, *values = inputs
                kept = [_chosen(going, a, b) for a, b in zip(part(1, values, going), values)]
                return [going & part(0, kept)[0], *kept]

            found = while_loop(lambda inputs: [_some(inputs[0])], step, [part(0, init)[0], *init])[1:]
        return [whole(found[k], k in on, size) for k in wanted]


def while_loop(test: Function, f: Function, init: Tensors) -> Tensors:
    """The carry after f has been applied as long as the test, which returns a single boolean, holds."""
    loop = _While(trace(test, init), trace(f, init))
    found = loop.run([*loop.bodies[0].enclosed, *loop.bodies[1].enclosed, *init])
    return [*found.values()][: loop.n_results]
