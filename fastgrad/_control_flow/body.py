"""The bodies of recorded loops and branches (``_scan``, ``_loops``), and what all of these have in common.

A function given to a loop runs once, on abstract tensors, while its operations are noted (csrc/record/trace.c). The instructions can be
carried out anew on other tensors: recorded as a program they are the body that csrc/program/control_flow.c runs, on the tape they are
what derivatives of the body are taken of, and by the rules of ``_batching`` they are the body for a whole batch. So the
gradient of a scan is a scan in reverse over the gradient of its body, its derivative in forward mode a scan over
tangents, a mapped scan a scan over batches, all recorded in the same way, and each of the other to any order.

What a function reads from outside and what differs from call to call, or is tracked, becomes an operand: its closure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from .._rules.batching import FLOWS, Compound, Noted, Part, evaluate, first_row, instruction, moving
from .._core import Program, Tensor
from .._rules.jvp import push
from .._transforms.custom_node import Rule, connected, is_float

__all__ = ["Body", "Flow", "as_program", "drawn_inside", "pullback", "pushforward", "record", "zeros", "zeros_like"]

Tensors = list[Tensor]
Function = Callable[[Tensors], Tensors]
ByNumber = dict[int, Tensor]  # results by their numbers

_NAMES = _core.op_names()


# ---- a function, noted --------------------------------------------------------------------------------------------
class Body:
    """The instructions of a function of tensors such as ``whole`` and the rows of ``stacks``."""

    def __init__(
        self, f: Function, whole: Tensors, stacks: Tensors, tracked: bool, same: list[tuple[Tensor, Tensor]]
    ) -> None:
        """f adds to ``same`` pairs of a result and an input with its value: what reads the one is to read the other."""
        examples = [*map(_core.example, whole), *[_core.example(x, True) for x in stacks]]
        self.n_in = len(examples)
        if tracked:  # so that the instructions tell what is detached
            examples = [_core.watch_tensor(x) if is_float(x) else x for x in examples]
        with Noted("body", lambda: [*whole, *map(first_row, stacks)]) as self.noted:
            for x in examples:
                _core.instructions_input(x)
            results = f(list(examples))
            numbers, _ = _core.instructions_outputs(results)
            known = dict(zip(*[_core.instructions_outputs([pair[i] for pair in same])[0] for i in range(2)]))
            instructions, self.constants = _core.instructions_end()
        known = {v: w for v, w in known.items() if v >= self.n_in}
        instructions = [(op, y, [known.get(v, v) for v in given], outer, attr, ()) for op, y, given, outer, attr, _ in instructions]
        self.outs = [known.get(v, v) if v >= 0 else -2 - i for i, v in enumerate(numbers)]
        self.constants |= {v: x for v, x in zip(self.outs, results) if v < 0}
        self.kinds = [(x.dtype, x.shape) for x in results]
        self.shapes = [x.shape for x in examples]  # of the inputs
        self._keep(instructions)

    def _keep(self, instructions: list[Any]) -> None:
        """Those of the instructions that are needed."""
        self.instructions = _core.instructions_for([*self.outs, *[instruction[1] for instruction in instructions if self._draws(instruction)]], instructions)
        needed = {v for instruction in self.instructions for v in instruction[2]}.union(self.outs)
        self.drawn = [instruction[1] for instruction in self.instructions if self._draws(instruction)]
        self.opaque = any(instruction[0] in FLOWS and self._draws(instruction) for instruction in self.instructions)
        self.closure = [
            v for v, x in self.constants.items() if v in needed and (x.requires_grad or _core.traced(x))
        ]

    def without(self, numbers: set[int]) -> None:
        """Take away the inputs, and the results, of these numbers."""
        left = {v: i for i, v in enumerate(v for v in range(self.n_in) if v not in numbers)}
        self.n_in, self.shapes = len(left), [self.shapes[v] for v in left]
        self.outs = [left.get(v, v) for i, v in enumerate(self.outs) if i not in numbers]
        self.kinds = [kind for i, kind in enumerate(self.kinds) if i not in numbers]
        self._keep([(op, y, [left.get(v, v) for v in given], outer, attr, ())
                    for op, y, given, outer, attr, _ in self.instructions if not numbers & set(given)])  # fmt: skip

    def _draws(self, instruction: Any) -> bool:
        return self.noted.draws(instruction[0], instruction[4])

    def kind_of(self, v: int) -> tuple[Any, tuple[int, ...]]:
        """The dtype and shape of a draw."""
        attr = next(instruction[4] for instruction in self.instructions if instruction[1] == v)
        return _core.dtype_numbered(attr[0]), attr[3:]

    @property
    def enclosed(self) -> Tensors:
        """The closure as it is outside."""
        return [self.constants[v] for v in self.closure]

    def values(self, closure: Sequence[Tensor], inputs: Sequence[Tensor], drawn: dict[int, Tensor]) -> dict[int, Any]:
        """All values when the instructions are carried out on these. What has been drawn already is not drawn again."""
        known = dict(zip(self.closure, closure)) | dict(enumerate(inputs)) | drawn
        return evaluate(self.instructions, self.constants | known, self.noted)

    def batched(self, start: set[int]) -> set[int]:
        """Which values differ over a batch if these do."""
        return moving(self.instructions, self.noted, start)

    def over(self, given: ByNumber, batched: set[int], size: int, wanted: Sequence[int]) -> Tensors:
        """The wanted values for a batch of this size, given the closure and the inputs. Those that differ over the
        batch, all that follow from the batched ones, have it as first axis."""
        instructions = _core.instructions_for([*wanted, *self.drawn], self.instructions)
        values = evaluate(instructions, self.constants | given, self.noted, batched, size)
        return [values[v] for v in wanted]

    def __call__(
        self, closure: Sequence[Tensor], inputs: Sequence[Tensor], drawn: dict[int, Tensor] | None = None
    ) -> Tensors:
        values = self.values(closure, inputs, drawn or {})
        return [values[v] for v in self.outs]


def record(
    f: Function, whole: Tensors, stacks: Sequence[Tensor] = (), same: list[tuple[Tensor, Tensor]] | None = None
) -> Body:
    """f as the body of a loop or branch: its inputs are tensors such as ``whole`` and the rows of ``stacks``."""
    same, stacks = [] if same is None else same, list(stacks)
    tracked = _core.grad_enabled() and (_core.in_transform() or any(x.requires_grad for x in [*whole, *stacks]))
    body = Body(f, whole, stacks, tracked, same)
    if not tracked and _core.grad_enabled() and any(x.requires_grad for x in body.enclosed):
        same.clear()
        body = Body(f, whole, stacks, True, same)
    return body


def as_program(
    f: Function, whole: Tensors, stacks: Sequence[Tensor] = (), carried: slice = slice(0, 0), apart: bool = False
) -> Program:
    """f of tensors such as ``whole`` and the rows of ``stacks``. carried: which of the inputs go on as the first
    outputs; apart: both are wanted later."""
    examples = [*map(_core.example, whole), *[_core.example(x, True) for x in stacks]]
    with _core.Grads(False), _core.Trace():
        _core.trace_body(carried.start, carried.stop - carried.start, apart)
        for x in examples:
            _core.instructions_input(x)
        return _core.trace_end(f(examples))


# ---- loops and branches in general ----------------------------------------------------------------------------------
class Flow(Compound):
    """A loop or branch. Its operands are the closures of its bodies and then the inputs.

    Beside its results there are further ones, which only its derivative reads; they are computed if it is tracked.
    """

    name: str
    draws: bool
    kinds: list[tuple[Any, tuple[int, ...]]]  # dtypes and shapes of all results
    n_results: int  # without the further ones
    _made: dict[bool, list[Program]]  # its bodies, with the further results or without
    numbers: tuple[int, ...]  # its attributes behind the bodies, where nothing further is computed

    def programs(self, operands: Tensors, further: bool) -> list[Program]:
        raise NotImplementedError

    def derivative(
        self, cotangents: ByNumber, saved: ByNumber, operands: Tensors, needed: list[bool], again: bool
    ) -> list[Tensor | None]:
        raise NotImplementedError

    def tangents(
        self, tangents: list[Any], saved: ByNumber, operands: Tensors, wanted: list[int], again: bool
    ) -> list[Any]:
        """Those of the wanted results, for those of the operands; None is zero."""
        raise NotImplementedError

    def mapped(self, operands: Tensors, batched: list[bool], size: int, wanted: list[int]) -> Tensors:
        """The wanted results for a whole batch, which is the first axis of some operands and of all results."""
        raise NotImplementedError

    def attributes(self, further: bool) -> tuple[int, ...]:
        """Those behind the bodies."""
        return self.numbers

    def run(self, operands: Tensors, wanted: Sequence[int] | None = None) -> dict[int, Tensor]:
        wanted = range(self.n_results) if wanted is None else wanted
        tracked = _core.grad_enabled() and any(x.requires_grad for x in operands)
        further = tracked or any(k >= self.n_results for k in wanted)
        if further not in self._made:
            self._made[further] = self.programs(operands, further)
        made = self._made[further]
        instruction(_core.body_number(made[0]), self)
        kinds = self.kinds if further else self.kinds[: self.n_results]
        values = dict(enumerate(_core.flow(_NAMES.index(self.name), made, self.attributes(further), operands, kinds)))
        if tracked:
            saved = {k: x for k, x in values.items() if k >= self.n_results}
            values |= self.attached(values, wanted, operands, saved)
        return values

    def _numbered(self, parts: Sequence[Part]) -> list[int]:
        """The numbers of the results that these are, in their order; by where they lie, and their shapes."""
        for further, made in self._made.items():
            count, attr = len(self.kinds) if further else self.n_results, self.attributes(further)
            op, shapes = _NAMES.index(self.name), [shape for _, shape in self.kinds]
            at = {(_core.flow_place(op, made, attr, k), shapes[k]): k for k in range(count)}
            if all((part[0], part[2:]) in at for part in parts):
                return [at[part[0], part[2:]] for part in parts]
        raise AssertionError(f"{self.name}: a note reads what there is not")

    def at(self, operands: Tensors, wanted: Sequence[Part]) -> dict[Part, Tensor]:
        numbers = self._numbered(wanted)
        found = self.run(operands, numbers)
        return {part: found[k] for part, k in zip(wanted, numbers)}

    def over(self, operands: Tensors, batched: list[bool], size: int, wanted: Sequence[Part]) -> dict[Part, Tensor]:
        return dict(zip(wanted, self.mapped(operands, batched, size, self._numbered(wanted))))

    def attached(
        self, values: dict[int, Tensor], wanted: Sequence[int], operands: Tensors, saved: dict[int, Tensor]
    ) -> dict[int, Tensor]:
        """Those of the wanted values that have gradients, on the tape."""
        floats = [k for k in dict.fromkeys(wanted) if is_float(values[k])]
        if not floats:
            return {}
        rule = _Through(self, floats, saved, operands)
        return dict(zip(floats, connected(operands, [values[k] for k in floats], rule)))


class _Through(Rule):
    """The rule of those results of a loop or branch that have these numbers."""

    is_derivative = True

    def __init__(self, flow: Flow, numbers: list[int], saved: ByNumber, operands: Tensors) -> None:
        self.flow, self.numbers, self.saved = flow, numbers, saved
        self.operands = [_core.snapshot(x) for x in operands]

    def _snapshot(self, again: bool) -> tuple[ByNumber, Tensors]:
        """The further results and the operands, as the derivative is to see them."""
        if not again:
            return self.saved, [x.detach() for x in self.operands]
        return self.saved | self.flow.attached(self.saved, list(self.saved), self.operands, self.saved), self.operands

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        again = _core.grad_enabled()
        saved, operands = self._snapshot(again)
        needed = [x.requires_grad for x in self.operands]
        return self.flow.derivative(dict(zip(self.numbers, self.parts(g))), saved, operands, needed, again)

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        again = _core.grad_enabled()
        saved, operands = self._snapshot(again)
        found = self.flow.tangents(tangents, saved, operands, self.numbers, again)
        return self.joined([zeros(*self.flow.kinds[k]) if t is None else t for k, t in zip(self.numbers, found)])


def pullback(
    f: Callable[[Tensors], Tensors], xs: Tensors, by: list[int], cotangents: dict[int, Tensor], again: bool
) -> Tensors:
    """The gradients by some of xs of f's results, weighted by cotangents. again: they will be differentiated, too."""
    with _core.Recording():
        watched = list(xs)
        for i in by:
            watched[i] = _core.watch_tensor(xs[i], again)
        results = f(watched)
        ends = {k: results[k] for k in cotangents if results[k].requires_grad}
        if not ends or not by:
            return [zeros_like(xs[i]) for i in by]
        return _core.pull([*ends.values()], [cotangents[k] for k in ends], [watched[i] for i in by], again)


def pushforward(f: Function, xs: Tensors, tangents: dict[int, Any], again: bool) -> list[Any]:
    """The tangents of f's results for those of some of xs; None is zero. again: they will be differentiated, too."""
    with _core.Recording():
        watched = list(xs)
        for i in tangents:
            watched[i] = _core.watch_tensor(xs[i], again)
        results = f(watched)
        with _core.Grads(again):
            ts = [t if again else t.detach() for t in tangents.values()]
            return push(results, [watched[i] for i in tangents], ts, again)


def drawn_inside(name: str, what: str) -> NotImplementedError:
    return NotImplementedError(
        f"{name}: the derivative through {what} in which an inner loop draws random numbers; draw outside"
    )


def zeros(dtype: Any, shape: tuple[int, ...]) -> Tensor:
    return _core.adopt(np.zeros(shape, dtype), "zeros")


def zeros_like(x: Tensor) -> Tensor:
    return zeros(x.dtype, x.shape)
