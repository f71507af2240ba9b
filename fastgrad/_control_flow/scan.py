"""scan over flat lists of tensors, as a single operation (csrc/program/control_flow.c) with derivatives and a rule for batches that are
scans again, and sums over its steps that are products after it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import islice
from typing import Any

from .. import _core
from .._rules.batching import whole
from .body import (
    Body, ByNumber, Flow, Function, Tensors, as_program, drawn_inside, pullback, pushforward, record, zeros,
    zeros_like,
)
from .._core import Program, Tensor
from .._transforms.custom_node import is_float

__all__ = ["scan"]

_ADD, _MATMUL, _RESHAPE = [_core.op_names().index(name) for name in ("add", "matmul", "reshape")]


def _moved(x: Tensor) -> Tensor:
    """The first two axes exchanged: that of the steps and that of the batch."""
    return _core.transpose(x, (1, 0, *range(2, x.ndim)))


def _taking(xs: Tensors) -> Callable[[int], Tensors]:
    """A function that returns the next so many of xs."""
    left = iter(xs)
    return lambda count: list(islice(left, count))


class _Scan(Flow):
    """Further results: what was drawn at each step, what was carried into it, and what out of it."""

    name = "scan"

    def __init__(self, body: Body, n_carry: int, length: int, reverse: bool) -> None:
        self.body, self.n_carry, self.length, self.reverse = body, n_carry, length, reverse
        self.n_closure, self.draws = len(body.closure), bool(body.drawn)
        self.numbers, self._made = (length, reverse, self.n_closure, n_carry, 0), {}
        self.n_results = len(body.outs)
        drawn = [] if body.opaque else body.drawn
        self._results = [*body.outs, *drawn, *range(n_carry), *body.outs[:n_carry]]  # values of the body
        self._steps = body.kinds + [body.kind_of(v) for v in drawn] + 2 * body.kinds[:n_carry]
        self.kinds = body.kinds[:n_carry] + [(dtype, (length, *shape)) for dtype, shape in self._steps[n_carry:]]

    def _step(self, further: bool, inputs: Tensors) -> Tensors:
        closure, rest = inputs[: self.n_closure], inputs[self.n_closure :]
        values = self.body.values(closure, rest, {})
        count = len(self._results) - 2 * self.n_carry if further else self.n_results
        return [values[v] for v in self._results[:count]]

    def attributes(self, further: bool) -> tuple[int, ...]:
        return *self.numbers[:-1], further  # what is carried is stacked

    def programs(self, operands: Tensors, further: bool) -> list[Program]:
        first = self.n_closure + self.n_carry
        carried = slice(self.n_closure, first)
        step = functools.partial(self._step, further)
        return [as_program(step, operands[:first], operands[first:], carried, further)]

    def _again(self, same: list[tuple[Tensor, Tensor]], further: Tensors) -> Function:
        """A step on closure, carry and row, in the course of which further results are known."""
        n, c, d = self.n_closure, self.n_carry, len(further) - 2 * self.n_carry

        def f(inputs: Tensors) -> Tensors:
            inner, drawn = inputs[n:], further[:d]
            results = self.body(inputs[:n], inner, dict(zip(self.body.drawn, drawn)))
            same[:] = zip(results[:c], further[d + c :])
            return [*results, *drawn, *inner[:c], *results[:c]]

        return f

    def derivative(
        self, cotangents: ByNumber, saved: ByNumber, operands: Tensors, needed: list[bool], again: bool
    ) -> list[Tensor | None]:
        if self.body.opaque:
            raise drawn_inside("scan", "a body")
        n, c, first = self.n_closure, self.n_carry, self.n_closure + self.n_carry
        closure, init, xs = operands[:n], operands[n:first], operands[first:]
        floats = [i for i in range(c) if is_float(init[i])]
        outer = [i for i in range(n) if needed[i]]
        rows = [j for j in range(len(xs)) if needed[first + j]]
        stacked = [k for k in cotangents if k >= c]
        further = [saved[k] for k in sorted(saved)]
        same: list[tuple[Tensor, Tensor]] = []
        by = [*outer, *[n + i for i in floats], *[first + j for j in rows]]

        def step(inputs: Tensors) -> Tensors:
            take = _taking(inputs)
            arrived, sums, known = take(len(floats)), take(len(outer)), take(len(further))
            carry = known[len(known) - 2 * c : len(known) - c]
            x, ys = take(len(xs)), take(len(stacked))
            f = self._again(same, known)
            weights = dict(zip(floats, arrived)) | dict(zip(stacked, ys))
            found = pullback(f, [*closure, *carry, *x], by, weights, again)
            k, m = len(outer), len(outer) + len(floats)
            return [*found[k:m], *[a + b for a, b in zip(sums, found[:k])], *found[m:]]

        start = [cotangents[i] if i in cotangents else zeros_like(init[i]) for i in floats]
        sums = [zeros_like(closure[i]) for i in outer]
        rows_in = [*further, *xs, *[cotangents[k] for k in stacked]]
        body, carried = record(step, start + sums, rows_in, same), start + sums
        products = {} if again else _products(body, len(carried), range(len(start), len(carried)))
        body.without(set(products))
        carried = [x for k, x in enumerate(carried) if k not in products]
        found = _scanned(body, carried, rows_in, self.length, not self.reverse)
        of_stacks = {k: _product(*factors, rows_in, found[len(carried) :]) for k, factors in products.items()}
        left = iter(found)
        result: list[Tensor | None] = [None] * len(operands)
        for k, place in enumerate([*[n + i for i in floats], *outer, *[first + j for j in rows]]):
            result[place] = of_stacks[k] if k in of_stacks else next(left)
        return result

    def tangents(
        self, tangents: list[Any], saved: ByNumber, operands: Tensors, wanted: list[int], again: bool
    ) -> list[Any]:
        if self.body.opaque:
            raise drawn_inside("scan", "a body")
        n, c, first = self.n_closure, self.n_carry, self.n_closure + self.n_carry
        closure, init, xs = operands[:n], operands[n:first], operands[first:]
        floats = [i for i in range(c) if is_float(init[i])]
        outer = {i: tangents[i] for i in range(n) if tangents[i] is not None}
        rows = [j for j in range(len(xs)) if tangents[first + j] is not None]
        stacked = [k for k in wanted if k >= c]
        further = [saved[k] for k in sorted(saved)]
        same: list[tuple[Tensor, Tensor]] = []

        def step(inputs: Tensors) -> Tensors:
            take = _taking(inputs)
            arrived, known = take(len(floats)), take(len(further))
            carry = known[len(known) - 2 * c : len(known) - c]
            x, moving = take(len(xs)), take(len(rows))
            f = self._again(same, known)
            by = dict(zip([n + i for i in floats], arrived)) | dict(zip([first + j for j in rows], moving))
            values = [*closure, *carry, *x]
            found = pushforward(f, values, outer | by, again)
            kinds = self._steps
            return [zeros(*kinds[k]) if found[k] is None else found[k] for k in [*floats, *stacked]]

        start = [zeros_like(init[i]) if tangents[n + i] is None else tangents[n + i] for i in floats]
        rows_in = [*further, *xs, *[tangents[first + j] for j in rows]]
        found = dict(zip([*floats, *stacked], scan(step, start, rows_in, self.length, self.reverse, same)))
        return [found[k] for k in wanted]

    def mapped(self, operands: Tensors, batched: list[bool], size: int, wanted: list[int]) -> Tensors:
        n, c, first = self.n_closure, self.n_carry, self.n_closure + self.n_carry
        body = self.body
        known = [*body.closure, *range(len(operands) - n)]  # the operands' numbers in the body
        moving = body.batched({v for v, b in zip(known, batched) if b})
        while more := {i for i in range(c) if body.outs[i] in moving and i not in moving}:
            moving = body.batched(moving | more)
        rows = [_moved(x) if b else x for x, b in zip(operands[first:], batched[first:])]
        init = [whole(x, b or i not in moving, size) for i, (x, b) in enumerate(zip(operands[n:], batched[n:first]))]
        results = self._results
        stacked = [k for k in wanted if k >= c]

        def step(inputs: Tensors) -> Tensors:
            given = dict(zip(known, [*operands[:n], *inputs]))
            found = body.over(given, moving & given.keys(), size, [*results[:c], *[results[k] for k in stacked]])
            return [whole(x, i not in moving or v in moving, size) if i < c else x
                    for i, (x, v) in enumerate(zip(found, results[:c]))] + found[c:]  # fmt: skip

        found = scan(step, init, rows, self.length, self.reverse)
        values = dict(zip([*range(c), *stacked], found))
        return [
            whole(_moved(values[k]) if k >= c and b else values[k], b, size)
            for k, b in [(k, k in moving if k < c else results[k] in moving) for k in wanted]
        ]


def scan(
    f: Function, init: Tensors, xs: Tensors, length: int, reverse: bool, same: list[tuple[Tensor, Tensor]] | None = None
) -> Tensors:
    """f takes what is carried and a row of each of xs, and returns what is carried on and a row for each of the stacked
    results, which come behind what is carried at last. ``same``: as for a Body."""
    return _scanned(record(f, init, xs, same), init, xs, length, reverse)


def _scanned(body: Body, init: Tensors, xs: Tensors, length: int, reverse: bool) -> Tensors:
    flow = _Scan(body, len(init), length, reverse)
    return [*flow.run([*body.enclosed, *init, *xs]).values()][: flow.n_results]


# A sum over the steps of products of what is stacked anyway is one product of the stacks, which costs less than to add
# a matrix to another one at each step. A factor: where in the rows (0) or the stacked results (1) it is, its shape in a
# step, and whether it is transposed.
_Factor = tuple[tuple[int, int], tuple[int, ...], bool]


def _products(body: Body, n_carried: int, sums: range) -> dict[int, tuple[_Factor, _Factor]]:
    """Which of these carried sums are such, and of which factors."""
    maker = {instruction[1]: instruction for instruction in body.instructions}
    stacks = {v: ((1, k), body.kinds[n_carried + k][1]) for k, v in enumerate(body.outs[n_carried:])}
    stacks |= {n_carried + j: ((0, j), shape) for j, shape in enumerate(body.shapes[n_carried:])}

    def factor(v: int, turned: bool) -> _Factor | None:
        shape = None
        while v in maker and v not in stacks and maker[v][0] == _RESHAPE:
            shape, v = shape or maker[v][4], maker[v][2][0]
        if v not in stacks or len(shape or stacks[v][1]) != 2:
            return None
        return stacks[v][0], shape or stacks[v][1], turned

    found = {}
    for k in sums:
        op, _, operands, *_ = maker.get(body.outs[k], (None, 0, []))
        if op == _ADD and k in operands:
            op, _, operands, _, attr, _ = maker.get(sum(operands) - k, (None, 0, [], [], (), []))
            factors = [factor(v, bool(turned)) for v, turned in zip(operands, attr)] if op == _MATMUL else [None]
            if None not in factors:
                found[k] = (factors[0], factors[1])
    return found  # type: ignore[return-value]


def _product(a: _Factor, b: _Factor, *stacks: Tensors) -> Tensor:
    def matrix(where: tuple[int, int], shape: tuple[int, ...], turned: bool) -> Tensor:
        """The factors of all steps, one below the other, with what is summed over in a step first."""
        x = stacks[where[0]][where[1]]
        if not turned and 1 not in shape:
            x, shape = _core.transpose(_core.reshape(x, (len(x), *shape)), (0, 2, 1)), shape[::-1]
        elif not turned:
            shape = shape[::-1]
        return _core.reshape(x, (len(x) * shape[0], shape[1]))

    (x, shape, turned), (y, other, flipped) = a, b
    return _core.matmul(_core.transpose(matrix(x, shape, turned), (1, 0)), matrix(y, other, not flipped))
