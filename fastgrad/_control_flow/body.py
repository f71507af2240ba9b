"""Bodies of loops and branches, and what `scan`, `while_loop` and `cond` have in common as single operations.

The function given to a loop is traced once, on abstract inputs (csrc/record/trace.c). Its instructions can then be
evaluated on other tensors, for three purposes:

- traced again they become a program, the body that csrc/program/control_flow.c runs;
- evaluated on the tape they are differentiated;
- evaluated by the batching rules they are the body for a whole batch.

So the gradient of a scan is a scan in reverse over the gradient of its body, its jvp is a scan over tangents, and a
mapped scan is a scan over batches. All of these are made in the same way, so they nest to any order.

Values that the function reads from outside become operands, called its closure, if they differ from call to call or
require gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from .._core import Program, Tensor
from .._transforms.custom_node import NodeRule, attach_rule, is_float
from .._transforms.evaluate import (
    CONTROL_FLOW_OPS,
    Compound,
    InstructionTrace,
    Part,
    batched_values,
    evaluate,
    first_row,
)
from .._transforms.pushforward import push

__all__ = [
    "Body", "ControlFlow", "as_program", "drawn_inside", "filled", "pullback", "pushforward", "trace", "zeros",
    "zeros_like",
]  # fmt: skip

Tensors = list[Tensor]
Function = Callable[[Tensors], Tensors]
ByNumber = dict[int, Tensor]  # results by their numbers

# Operations that for some values of their operands raise an error or, as a loop may, never end.
_MAY_FAIL = {
    row["index"] for row in _core.STRUCTURAL.values() if row["bodies"] or row["flags"] & {"IS_CUBIC", "BY_HOST"}
}
_MAY_FAIL |= {
    _core.OP_NUMBERS[name] for name in ("take", "untake", "cast", "cross_entropy", "cross_entropy_adjoint", "custom")
}
_FAIL_FOR_INTEGERS = {_core.OP_NUMBERS[name] for name in ("floor_divide", "remainder", "fmod", "power")}


# ---- a traced function --------------------------------------------------------------------------------------------
class Body:
    """A function of tensors as instructions: values 0 to n_in - 1 are its inputs, ``outs`` its results.

    ``may_fail`` tells whether it may raise, or never end, for some values of its inputs.
    """

    def __init__(
        self, f: Function, whole: Tensors, stacks: Tensors, tracked: bool, same: list[tuple[Tensor, Tensor]]
    ) -> None:
        """Trace f on abstract tensors with the shapes of ``whole`` and of the rows of ``stacks``.

        While it runs, f appends to ``same`` pairs of a result and an input that are known to be equal: later uses of
        the result read the input, so that the result need not be computed again.
        """
        abstract = [*map(_core.abstract_like, whole), *[_core.abstract_like(x, True) for x in stacks]]
        self.n_in = len(abstract)
        if tracked:  # then the instructions tell which operands are detached
            abstract = [_core.watch_tensor(x) if is_float(x) else x for x in abstract]
        with InstructionTrace("body", lambda: [*whole, *map(first_row, stacks)]) as self.trace:
            for x in abstract:
                _core.instructions_input(x)
            results = f(list(abstract))
            numbers, _ = _core.instructions_outputs(results)
            equal = dict(zip(*[_core.instructions_outputs([pair[i] for pair in same])[0] for i in range(2)]))
            instructions, self.constants = _core.instructions_end()
        equal = {v: w for v, w in equal.items() if v >= self.n_in}
        instructions = [
            (op, y, [equal.get(v, v) for v in operands], tracked_there, attr, ())
            for op, y, operands, tracked_there, attr, _ in instructions
        ]
        self.outs = [equal.get(v, v) if v >= 0 else -2 - i for i, v in enumerate(numbers)]
        self.constants |= {v: x for v, x in zip(self.outs, results) if v < 0}
        self.kinds = [(x.dtype, x.shape) for x in results]
        self.shapes, self.dtypes = [x.shape for x in abstract], [x.dtype for x in abstract]  # of the inputs
        self._keep(instructions)

    def _keep(self, instructions: list[Any]) -> None:
        """Keep the instructions that a result or a draw needs, and find what they read from outside."""
        draws = [y for op, y, _, _, attr, _ in instructions if self.trace.draws(op, attr)]
        self.instructions = _core.instructions_for([*self.outs, *draws], instructions)
        needed = {v for _, _, operands, *_ in self.instructions for v in operands}.union(self.outs)
        drawing = [(op, y) for op, y, _, _, attr, _ in self.instructions if self.trace.draws(op, attr)]
        self.drawn = [y for _, y in drawing]
        self.opaque = any(op in CONTROL_FLOW_OPS for op, _ in drawing)  # an inner loop draws: its draws are not seen
        self.closure = [
            v for v, x in self.constants.items()
            if v in needed and (x.requires_grad or _core.traced(x) or _core.is_live(x))
        ]  # fmt: skip
        ops = {op for op, *_ in self.instructions}
        integers = any(dtype.kind in "iu" for dtype in [*self.dtypes, *[x.dtype for x in self.constants.values()]])
        self.may_fail = not ops.isdisjoint(_MAY_FAIL | _FAIL_FOR_INTEGERS if integers else _MAY_FAIL)

    def without(self, numbers: set[int]) -> None:
        """Drop the inputs and the results with these numbers."""
        left = {v: i for i, v in enumerate(v for v in range(self.n_in) if v not in numbers)}
        self.n_in = len(left)
        self.shapes, self.dtypes = [self.shapes[v] for v in left], [self.dtypes[v] for v in left]
        self.outs = [left.get(v, v) for i, v in enumerate(self.outs) if i not in numbers]
        self.kinds = [kind for i, kind in enumerate(self.kinds) if i not in numbers]
        self._keep([
            (op, y, [left.get(v, v) for v in operands], tracked, attr, ())
            for op, y, operands, tracked, attr, _ in self.instructions if not numbers & set(operands)
        ])  # fmt: skip

    def kind_of(self, v: int) -> tuple[Any, tuple[int, ...]]:
        """The dtype and shape of value v, a draw of random numbers."""
        attr = next(attr for _, y, _, _, attr, _ in self.instructions if y == v)
        return _core.dtype_numbered(attr[0]), attr[3:]

    @property
    def enclosed(self) -> Tensors:
        """The tensors of the closure."""
        return [self.constants[v] for v in self.closure]

    def values(self, closure: Sequence[Tensor], inputs: Sequence[Tensor], drawn: dict[int, Tensor]) -> dict[int, Any]:
        """All values, by number, of the instructions evaluated on these. Values in ``drawn`` are not drawn again."""
        known = dict(zip(self.closure, closure)) | dict(enumerate(inputs)) | drawn
        return evaluate(self.instructions, self.constants | known, self.trace)

    def batched(self, start: set[int]) -> set[int]:
        """Numbers of the values that are batched if those of ``start`` are: what depends on these, and draws."""
        return batched_values(self.instructions, self.trace, start)

    def carried_on(self, start: set[int], n_carry: int) -> set[int]:
        """As `batched`, over all steps of a loop that carries its first results to its first inputs."""
        found = self.batched(start)
        while more := {i for i, v in enumerate(self.outs[:n_carry]) if v in found and i not in found}:
            found = self.batched(found | more)
        return found

    def reaching(self, values: Sequence[int]) -> set[int]:
        """Numbers of the values on which these depend, themselves among them."""
        found = set(values)
        for _, y, operands, *_ in reversed(self.instructions):
            if y in found:
                found.update(operands)
        return found

    def over(self, given: ByNumber, batched: set[int], size: int, wanted: Sequence[int]) -> Tensors:
        """The wanted values over a batch of this size, given closure and inputs by number. The ``batched`` ones of
        these, and what depends on them, have the batch as first axis."""
        instructions = _core.instructions_for([*wanted, *self.drawn], self.instructions)
        values = evaluate(instructions, self.constants | given, self.trace, batched, size)
        return [values[v] for v in wanted]

    def __call__(
        self, closure: Sequence[Tensor], inputs: Sequence[Tensor], drawn: dict[int, Tensor] | None = None
    ) -> Tensors:
        values = self.values(closure, inputs, drawn or {})
        return [values[v] for v in self.outs]


def trace(
    f: Function, whole: Tensors, stacks: Sequence[Tensor] = (), same: list[tuple[Tensor, Tensor]] | None = None
) -> Body:
    """The Body of f, whose inputs are tensors like ``whole`` and the rows of ``stacks``, tracked if gradients can reach
    these or its closure. ``same``: as for a Body."""
    same, stacks = [] if same is None else same, list(stacks)
    tracked = _core.grad_enabled() and (_core.in_transform() or any(x.requires_grad for x in [*whole, *stacks]))
    body = Body(f, whole, stacks, tracked, same)
    if not tracked and _core.grad_enabled() and any(x.requires_grad for x in body.enclosed):
        same.clear()
        body = Body(f, whole, stacks, True, same)
    return body


def as_program(
    f: Function,
    whole: Tensors,
    stacks: Sequence[Tensor] = (),
    carried: slice = slice(0, 0),
    stack_carry: bool = False,
) -> Program:
    """f of tensors like ``whole`` and the rows of ``stacks``, traced as the program of a body.

    ``carried`` are the inputs whose successors are the first outputs, in the same order: these may share memory unless
    ``stack_carry``, which says that the carry of each step is read later.
    """
    abstract = [*map(_core.abstract_like, whole), *[_core.abstract_like(x, True) for x in stacks]]
    with _core.Grads(False), _core.Trace():
        _core.trace_body(carried.start, carried.stop - carried.start, stack_carry)
        for x in abstract:
            _core.instructions_input(x)
        return _core.trace_end(f(abstract))


# ---- loops and branches in general ----------------------------------------------------------------------------------
class ControlFlow(Compound):
    """A loop or branch as one operation. Its operands are the closures of its bodies, followed by the inputs.

    Its results are followed by residuals, which only its derivative reads; these are computed if it is tracked.
    """

    name: str
    draws: bool
    kinds: list[tuple[Any, tuple[int, ...]]]  # dtypes and shapes of all results, residuals included
    n_results: int  # without residuals
    _made: dict[bool, list[Program]]  # the bodies as programs, without and with residuals
    numbers: tuple[int, ...]  # its attributes after the bodies, where no residuals are computed

    def programs(self, operands: Tensors, with_residuals: bool) -> list[Program]:
        """The bodies as programs, traced on such operands."""
        raise NotImplementedError

    def derivative(
        self, cotangents: ByNumber, saved: ByNumber, operands: Tensors, needed: list[bool], create_graph: bool
    ) -> list[Tensor | None]:
        """The cotangent of each operand from those of some results, both by number; None is zero, or not needed."""
        raise NotImplementedError

    def tangents(
        self, tangents: list[Any], saved: ByNumber, operands: Tensors, wanted: list[int], create_graph: bool
    ) -> list[Any]:
        """The tangents of the wanted results from those of the operands; None is zero."""
        raise NotImplementedError

    def mapped(self, operands: Tensors, batched: list[bool], size: int, wanted: list[int]) -> Tensors:
        """The wanted results over a whole batch, which is the first axis of the batched operands and of all results."""
        raise NotImplementedError

    def attributes(self, with_residuals: bool) -> tuple[int, ...]:
        """The operation's attributes after the bodies."""
        return self.numbers

    def run(self, operands: Tensors, wanted: Sequence[int] | None = None) -> dict[int, Tensor]:
        """The results by number, at least the wanted ones, computed now or traced as one instruction."""
        wanted = range(self.n_results) if wanted is None else wanted
        tracked = _core.grad_enabled() and any(x.requires_grad for x in operands)
        with_residuals = tracked or any(k >= self.n_results for k in wanted)
        if with_residuals not in self._made:
            self._made[with_residuals] = self.programs(operands, with_residuals)
        made = self._made[with_residuals]
        _core.register_compound(_core.body_number(made[0]), self)
        kinds = self.kinds if with_residuals else self.kinds[: self.n_results]
        op, attr = _core.OP_NUMBERS[self.name], self.attributes(with_residuals)
        values = dict(enumerate(_core.control_flow(op, made, attr, operands, kinds)))
        if tracked:
            saved = {k: x for k, x in values.items() if k >= self.n_results}
            values |= self.attached(values, wanted, operands, saved)
        return values

    def _numbered(self, parts: Sequence[Part]) -> list[int]:
        """The numbers of the results that these parts are: a part tells its offset in the block, and its shape."""
        for with_residuals, made in self._made.items():
            count, attr = len(self.kinds) if with_residuals else self.n_results, self.attributes(with_residuals)
            op, shapes = _core.OP_NUMBERS[self.name], [shape for _, shape in self.kinds]
            at = {(_core.control_flow_offset(op, made, attr, k), shapes[k]): k for k in range(count)}
            if all((part[0], part[2:]) in at for part in parts):
                return [at[part[0], part[2:]] for part in parts]
        raise AssertionError(f"{self.name}: an instruction reads a result that does not exist")

    def at(self, operands: Tensors, wanted: Sequence[Part]) -> dict[Part, Tensor]:
        numbers = self._numbered(wanted)
        found = self.run(operands, numbers)
        return {part: found[k] for part, k in zip(wanted, numbers)}

    def over(self, operands: Tensors, batched: list[bool], size: int, wanted: Sequence[Part]) -> dict[Part, Tensor]:
        return dict(zip(wanted, self.mapped(operands, batched, size, self._numbered(wanted))))

    def attached(
        self, values: dict[int, Tensor], wanted: Sequence[int], operands: Tensors, saved: dict[int, Tensor]
    ) -> dict[int, Tensor]:
        """The wanted float values as tensors on the tape, whose rule is the derivative of this operation."""
        floats = [k for k in dict.fromkeys(wanted) if is_float(values[k])]
        if not floats:
            return {}
        rule = _ControlFlowRule(self, floats, saved, operands)
        found = attach_rule(operands, [values[k] for k in floats], rule)
        if len(found) > 1:
            found = [attach_rule([x], [x], _Arrival(rule.arrived, k))[0] for k, x in zip(floats, found)]
        return dict(zip(floats, found))


class _ControlFlowRule(NodeRule):
    """The derivative of those results of a loop or branch that have these numbers."""

    is_derivative = True

    def __init__(self, operation: ControlFlow, numbers: list[int], saved: ByNumber, operands: Tensors) -> None:
        self.operation, self.numbers, self.saved = operation, numbers, saved
        self.arrived: set[int] = set(numbers if len(numbers) == 1 else ())  # results that the pass under way came to
        self.operands = [_core.snapshot(x) for x in operands]

    def _snapshot(self, create_graph: bool) -> tuple[ByNumber, Tensors]:
        """Residuals and operands for the derivative: constants, or with create_graph connected tensors."""
        if not create_graph:
            return self.saved, [x.detach() for x in self.operands]
        saved = self.operation.attached(self.saved, list(self.saved), self.operands, self.saved)
        return self.saved | saved, self.operands

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        create_graph = _core.grad_enabled()
        saved, operands = self._snapshot(create_graph)
        needed = [x.requires_grad for x in self.operands]
        cotangents = {k: part for k, part in zip(self.numbers, self.parts(g)) if k in self.arrived}
        if len(self.numbers) > 1:
            self.arrived.clear()
        return self.operation.derivative(cotangents, saved, operands, needed, create_graph)

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        create_graph = _core.grad_enabled()
        saved, operands = self._snapshot(create_graph)
        found = self.operation.tangents(tangents, saved, operands, self.numbers, create_graph)
        return self.joined([zeros(*self.operation.kinds[k]) if t is None else t for k, t in zip(self.numbers, found)])


class _Arrival(NodeRule):
    """A result as it is, which notes that a cotangent has come to it. What did not come is zero in the vector of all
    cotangents, but tells the derivative that it need not be computed."""

    is_derivative = True

    def __init__(self, arrived: set[int], number: int) -> None:
        self.arrived, self.number = arrived, number

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        self.arrived.add(self.number)
        return [g]

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        return self.joined([t for t in tangents if t is not None])


def pullback(
    f: Callable[[Tensors], Tensors], xs: Tensors, by: list[int], cotangents: dict[int, Tensor], create_graph: bool
) -> Tensors:
    """The gradients of f's results, weighted by cotangents, by those of xs whose numbers are in ``by``.
    ``create_graph``: they will be differentiated, too."""
    with _core.Recording():
        watched = list(xs)
        for i in by:
            watched[i] = _core.watch_tensor(xs[i], create_graph)
        results = f(watched)
        ends = {k: results[k] for k in cotangents if results[k].requires_grad}
        if not ends or not by:
            return [zeros_like(xs[i]) for i in by]
        return _core.pull([*ends.values()], [cotangents[k] for k in ends], [watched[i] for i in by], create_graph)


def pushforward(f: Function, xs: Tensors, tangents: dict[int, Any], create_graph: bool) -> list[Any]:
    """The tangents of f's results for tangents of some of xs, by number; None is zero. ``create_graph``: they will be
    differentiated, too."""
    with _core.Recording():
        watched = list(xs)
        for i in tangents:
            watched[i] = _core.watch_tensor(xs[i], create_graph)
        results = f(watched)
        with _core.Grads(create_graph):
            ts = [t if create_graph else t.detach() for t in tangents.values()]
            return push(results, [watched[i] for i in tangents], ts, create_graph)


def drawn_inside(name: str, what: str) -> NotImplementedError:
    return NotImplementedError(
        f"{name}: the derivative through {what} in which an inner loop draws random numbers; draw outside"
    )


def zeros(dtype: Any, shape: tuple[int, ...]) -> Tensor:
    return _core.adopt(np.zeros(shape, dtype), "zeros")


def zeros_like(x: Tensor) -> Tensor:
    return zeros(x.dtype, x.shape)


def filled(x: Tensor, number: float) -> Tensor:
    """Of the kind of x, with this number everywhere."""
    return _core.adopt(np.full(x.shape, number, x.dtype), "full")
