"""`scan` over flat lists of tensors, as a single operation (csrc/program/control_flow.c).

Its derivatives and its batching rule are scans again. Sums over the steps of products of matrices become one product
of the stacked factors after the scan.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import islice
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
    filled,
    pullback,
    pushforward,
    trace,
    zeros,
    zeros_like,
)

__all__ = ["counted", "scan"]

_ADD, _MATMUL, _RESHAPE = [_core.OP_NUMBERS[name] for name in ("add", "matmul", "reshape")]


def _moved(x: Tensor) -> Tensor:
    """The first two axes exchanged: that of the steps and that of the batch."""
    return _core.transpose(x, (1, 0, *range(2, x.ndim)))


def _taking(xs: Tensors) -> Callable[[int], Tensors]:
    """A function that returns the next ``count`` of xs."""
    left = iter(xs)
    return lambda count: list(islice(left, count))


class _Scan(ControlFlow):
    """Residuals, stacked over the steps: what was drawn in a step, the carry into it, and the carry out of it."""

    name = "scan"

    def __init__(self, body: Body, n_carry: int, length: int, reverse: bool) -> None:
        self.body, self.n_carry, self.length, self.reverse = body, n_carry, length, reverse
        self.n_closure, self.draws = len(body.closure), bool(body.drawn)
        self.numbers, self._made = (length, reverse, self.n_closure, n_carry, 0), {}
        self.n_results = len(body.outs)
        drawn = [] if body.opaque else body.drawn
        self._results = [*body.outs, *drawn, *range(n_carry), *body.outs[:n_carry]]  # by number in the body
        self._steps = body.kinds + [body.kind_of(v) for v in drawn] + 2 * body.kinds[:n_carry]
        self.kinds = body.kinds[:n_carry] + [(dtype, (length, *shape)) for dtype, shape in self._steps[n_carry:]]

    def _step(self, with_residuals: bool, inputs: Tensors) -> Tensors:
        closure, rest = inputs[: self.n_closure], inputs[self.n_closure :]
        values = self.body.values(closure, rest, {})
        count = len(self._results) - 2 * self.n_carry if with_residuals else self.n_results
        return [values[v] for v in self._results[:count]]

    def attributes(self, with_residuals: bool) -> tuple[int, ...]:
        return *self.numbers[:-1], with_residuals  # the last: whether the carry is stacked

    def programs(self, operands: Tensors, with_residuals: bool) -> list[Program]:
        first = self.n_closure + self.n_carry
        carried = slice(self.n_closure, first)
        step = functools.partial(self._step, with_residuals)
        return [as_program(step, operands[:first], operands[first:], carried, with_residuals)]

    def _recomputed(self, same: list[tuple[Tensor, Tensor]], residuals: Tensors) -> Function:
        """A step on closure, carry and row, for a derivative: draws and the carry out of it are known residuals."""
        n, c, d = self.n_closure, self.n_carry, len(residuals) - 2 * self.n_carry

        def f(inputs: Tensors) -> Tensors:
            inner, drawn = inputs[n:], residuals[:d]
            results = self.body(inputs[:n], inner, dict(zip(self.body.drawn, drawn)))
            same[:] = zip(results[:c], residuals[d + c :])
            return [*results, *drawn, *inner[:c], *results[:c]]

        return f

    def _reached(self, cotangents: ByNumber) -> set[int]:
        """The values of a step, by number, that get a cotangent from those of these results in any step but the last
        one, and so the carries that get one at all before it."""
        stacked = [self._results[k] for k in cotangents if k >= self.n_carry]
        reached: set[int] = set()
        more = self.body.reaching([self._results[k] for k in cotangents])
        while carries := {i for i in range(self.n_carry) if i in more} - reached:
            reached |= carries
            more = self.body.reaching([*stacked, *[self.body.outs[i] for i in reached]])
        return reached | self.body.reaching([*stacked, *[self.body.outs[i] for i in reached]])

    def derivative(
        self, cotangents: ByNumber, saved: ByNumber, operands: Tensors, needed: list[bool], create_graph: bool
    ) -> list[Tensor | None]:
        """What no cotangent reaches has none, as on the tape of an eager run: a zero would be nan times an infinite
        slope. A carry that no step reads has one in the last step alone, which is then evaluated before the others."""
        if self.body.opaque:
            raise drawn_inside("scan", "a body")
        reached = self._reached(cotangents)
        residuals = [saved[k] for k in sorted(saved)]
        if all(k in reached or k >= self.n_carry for k in cotangents):
            return self._pulled(self.length, cotangents, residuals, operands, needed, create_graph, reached, {})
        return self._pulled_after_last(cotangents, residuals, operands, needed, create_graph, reached)

    def _pulled_after_last(
        self, cotangents: ByNumber, residuals: Tensors, operands: Tensors, needed: list[bool], create_graph: bool,
        reached: set[int],
    ) -> list[Tensor | None]:  # fmt: skip
        n, c, first = self.n_closure, self.n_carry, self.n_closure + self.n_carry
        at, rest = (0, slice(1, None)) if self.reverse else (self.length - 1, slice(0, self.length - 1))
        known, xs = [x[at] for x in residuals], [x[at] for x in operands[first:]]
        carry = known[len(known) - 2 * c : len(known) - c]
        rows = [first + j for j in range(len(xs)) if needed[first + j]]
        outer = [i for i in range(n) if needed[i]]
        by = [*outer, *[n + i for i in range(c) if i in reached and is_float(operands[n + i])], *rows]
        weights = {k: g if k < c else g[at] for k, g in cotangents.items()}
        values = [*operands[:n], *carry, *xs]
        last = dict(zip(by, pullback(self._recomputed([], known), values, by, weights, create_graph)))
        before = {i - n: g for i, g in last.items() if n <= i < first}
        before |= {k: g[rest] for k, g in cotangents.items() if k >= c}
        left = [*operands[:first], *[x[rest] for x in operands[first:]]]
        result = self._pulled(
            self.length - 1, before, [x[rest] for x in residuals], left, needed, create_graph, reached, last
        )
        for i in outer:
            result[i] = last[i] if result[i] is None else result[i]
        for i in rows:
            found = result[i]
            others = zeros_like(left[i]) if found is None else found
            result[i] = _core.concatenate([last[i][None], others][:: 1 if self.reverse else -1], 0)
        return result

    def _pulled(
        self, length: int, cotangents: ByNumber, residuals: Tensors, operands: Tensors, needed: list[bool],
        create_graph: bool, reached: set[int], last: ByNumber,
    ) -> list[Tensor | None]:  # fmt: skip
        """The cotangents of the operands of the first ``length`` steps. ``last``: those from the steps after them, of
        the closure, by number."""
        n, c, first = self.n_closure, self.n_carry, self.n_closure + self.n_carry
        closure, init, xs = operands[:n], operands[n:first], operands[first:]
        floats = [i for i in range(c) if is_float(init[i]) and i in reached]
        outer = [i for i in range(n) if needed[i] and self.body.closure[i] in reached]
        rows = [j for j in range(len(xs)) if needed[first + j] and c + j in reached]
        stacked = [k for k in cotangents if k >= c]
        same: list[tuple[Tensor, Tensor]] = []
        by = [*outer, *[n + i for i in floats], *[first + j for j in rows]]

        def step(inputs: Tensors) -> Tensors:
            take = _taking(inputs)
            arrived, sums, known = take(len(floats)), take(len(outer)), take(len(residuals))
            carry = known[len(known) - 2 * c : len(known) - c]
            x, ys = take(len(xs)), take(len(stacked))
            f = self._recomputed(same, known)
            weights = dict(zip(floats, arrived)) | dict(zip(stacked, ys))
            found = pullback(f, [*closure, *carry, *x], by, weights, create_graph)
            k, m = len(outer), len(outer) + len(floats)
            return [*found[k:m], *[a + b for a, b in zip(sums, found[:k])], *found[m:]]

        start = [cotangents[i] if i in cotangents else zeros_like(init[i]) for i in floats]
        none = -0.0 if length else 0.0  # -0.0 plus x is x, with the sign of a zero
        sums = [last[i] if i in last else filled(closure[i], none) for i in outer]
        rows_in = [*residuals, *xs, *[cotangents[k] for k in stacked]]
        body, carried = trace(step, start + sums, rows_in, same), start + sums
        products = {} if create_graph else _products(body, len(carried), range(len(start), len(carried)))
        body.without(set(products))
        carried = [x for k, x in enumerate(carried) if k not in products]
        found = _scanned(body, carried, rows_in, length, not self.reverse)
        products_of_stacks = {k: _product(*factors, rows_in, found[len(carried) :]) for k, factors in products.items()}
        for k in products_of_stacks:
            if (i := outer[k - len(start)]) in last:
                products_of_stacks[k] = last[i] + products_of_stacks[k]
        left = iter(found)
        result: list[Tensor | None] = [None] * len(operands)
        for k, place in enumerate([*[n + i for i in floats], *outer, *[first + j for j in rows]]):
            result[place] = products_of_stacks[k] if k in products_of_stacks else next(left)
        return result

    def tangents(
        self, tangents: list[Any], saved: ByNumber, operands: Tensors, wanted: list[int], create_graph: bool
    ) -> list[Any]:
        if self.body.opaque:
            raise drawn_inside("scan", "a body")
        n, c, first = self.n_closure, self.n_carry, self.n_closure + self.n_carry
        closure, init, xs = operands[:n], operands[n:first], operands[first:]
        outer = {i: tangents[i] for i in range(n) if tangents[i] is not None}
        rows = [j for j in range(len(xs)) if tangents[first + j] is not None]
        moved = [i for i in range(c) if tangents[n + i] is not None]
        varying = self.body.carried_on({*moved, *[self.body.closure[i] for i in outer], *[c + j for j in rows]}, c)
        floats = [i for i in range(c) if is_float(init[i]) and i in varying]
        stacked = [k for k in wanted if k >= c and self._results[k] in varying]
        residuals = [saved[k] for k in sorted(saved)]
        same: list[tuple[Tensor, Tensor]] = []

        def step(inputs: Tensors) -> Tensors:
            take = _taking(inputs)
            arrived, known = take(len(floats)), take(len(residuals))
            carry = known[len(known) - 2 * c : len(known) - c]
            x, row_tangents = take(len(xs)), take(len(rows))
            f = self._recomputed(same, known)
            by = dict(zip([n + i for i in floats], arrived)) | dict(zip([first + j for j in rows], row_tangents))
            values = [*closure, *carry, *x]
            found = pushforward(f, values, outer | by, create_graph)
            kinds = self._steps
            return [zeros(*kinds[k]) if found[k] is None else found[k] for k in [*floats, *stacked]]

        start = [zeros_like(init[i]) if tangents[n + i] is None else tangents[n + i] for i in floats]
        rows_in = [*residuals, *xs, *[tangents[first + j] for j in rows]]
        found = dict(zip([*floats, *stacked], scan(step, start, rows_in, self.length, self.reverse, same)))
        return [found.get(k) for k in wanted]

    def mapped(self, operands: Tensors, batched: list[bool], size: int, wanted: list[int]) -> Tensors:
        n, c, first = self.n_closure, self.n_carry, self.n_closure + self.n_carry
        body = self.body
        numbers = [*body.closure, *range(len(operands) - n)]  # of the operands in the body
        varying = body.carried_on({v for v, b in zip(numbers, batched) if b}, c)  # over the batch
        rows = [_moved(x) if b else x for x, b in zip(operands[first:], batched[first:])]
        init = [whole(x, b or i not in varying, size) for i, (x, b) in enumerate(zip(operands[n:], batched[n:first]))]
        results = self._results
        stacked = [k for k in wanted if k >= c]

        def step(inputs: Tensors) -> Tensors:
            given = dict(zip(numbers, [*operands[:n], *inputs]))
            found = body.over(given, varying & given.keys(), size, [*results[:c], *[results[k] for k in stacked]])
            return [whole(x, i not in varying or v in varying, size) if i < c else x
                    for i, (x, v) in enumerate(zip(found, results[:c]))] + found[c:]  # fmt: skip

        found = scan(step, init, rows, self.length, self.reverse)
        values = dict(zip([*range(c), *stacked], found))
        return [
            whole(_moved(values[k]) if k >= c and b else values[k], b, size)
            for k, b in [(k, k in varying if k < c else results[k] in varying) for k in wanted]
        ]


def scan(
    f: Function, init: Tensors, xs: Tensors, length: int, reverse: bool, same: list[tuple[Tensor, Tensor]] | None = None
) -> Tensors:
    """The last carry, followed by the stacked results.

    f takes the carry and a row of each of xs, and returns the next carry and a row of each stacked result. ``same``: as
    for a Body.
    """
    return _scanned(trace(f, init, xs, same), init, xs, length, reverse)


def counted(f: Callable[[Tensor, Tensors], Tensors], init: Tensors, lower: int, length: int) -> Tensors:
    """The last carry of f, which takes a counter that begins at ``lower``, and the carry. The counter is carried, too,
    unless f does not read it."""

    def step(inputs: Tensors) -> Tensors:
        i = _core.made_weak(inputs[0])
        return [_core.by_numpy(np.add, i, 1), *f(i, inputs[1:])]

    start = [_core.adopt(np.array(lower, np.int64), "fori_loop"), *init]
    body = trace(step, start)
    after = body.outs[0]
    read = {v for _, y, operands, *_ in body.instructions if y != after for v in operands}.union(body.outs[1:])
    if init and read.isdisjoint((0, after)):
        body.without({0})
        start = init
    return _scanned(body, start, [], length, False)[len(start) - len(init) :]


def _scanned(body: Body, init: Tensors, xs: Tensors, length: int, reverse: bool) -> Tensors:
    loop = _Scan(body, len(init), length, reverse)
    return [*loop.run([*body.enclosed, *init, *xs]).values()][: loop.n_results]


# A carried sum of matrix products whose factors are rows or stacked results is one product of the stacks, which costs
# less than to add a matrix at each step. A factor: whether it is among the rows (0) or the stacked results (1) and its
# number there, its shape in a step, and whether it is transposed.
_Factor = tuple[tuple[int, int], tuple[int, ...], bool]


def _products(body: Body, n_carried: int, sums: range) -> dict[int, tuple[_Factor, _Factor]]:
    """The carried sums among ``sums`` that are such products, with their factors."""
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
        """The factors of all steps, one below the other, the axis that a step sums over first."""
        x = stacks[where[0]][where[1]]
        if not turned and 1 not in shape:
            x, shape = _core.transpose(_core.reshape(x, (len(x), *shape)), (0, 2, 1)), shape[::-1]
        elif not turned:
            shape = shape[::-1]
        return _core.reshape(x, (len(x) * shape[0], shape[1]))

    (x, shape, turned), (y, other, flipped) = a, b
    return _core.matmul(_core.transpose(matrix(x, shape, turned), (1, 0)), matrix(y, other, not flipped))
