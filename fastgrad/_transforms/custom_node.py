"""Nodes whose derivative is a rule in Python (csrc/autodiff/custom.c): custom functions, and recorded loops and branches.

A function with a rule is no operation. What it computes is recorded as any code; then its results are cut off from
that, and a node that holds the rule connects them with the inputs. In a backward pass the node calls its rule, which is
made of operations: while a pass is recorded, so are they, and the derivative of the derivative is that of the rule.

Where a function is mapped, and a transform outside differentiates it, the instructions of it (_batching.py) hold such a step
as one operation: carried out, it connects the results of the whole batch by the rule mapped over it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from .._rules.batching import whole
from .._core import Tensor
from .evaluate import Compound, record_call
from .vmap import vmap

__all__ = ["Rule", "connected", "is_float", "pulled"]


class Rule:
    """What a node holds: ``vjp(g)`` is called in a backward pass, ``jvp(tangents)`` in a forward one.

    The node stands for float results whose shapes and dtypes are ``kinds``, laid end to end in a vector where they are
    several: g and the tangent that ``jvp`` returns are in its place.
    """

    kinds: list[tuple[tuple[int, ...], np.dtype[Any]]]
    is_derivative = False  # of just what was computed

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        """The cotangent of each input; None stands for zeros."""
        raise NotImplementedError

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        """The tangent of what the node stands for, for those of its inputs; None stands for zeros."""
        raise NotImplementedError

    def parts(self, g: Tensor) -> list[Tensor]:
        """The cotangent of each result."""
        if len(self.kinds) == 1:
            return [g]
        found, at = [], 0
        for shape, dtype in self.kinds:
            size = int(np.prod(shape))
            part = _core.reshape(g[at : at + size], shape)
            found.append(part if part.dtype == dtype else _core.astype(part, dtype))
            at += size
        return found

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Tangents of the results as one of what the node stands for."""
        if len(parts) == 1:
            return parts[0]
        return _core.concatenate([_core.reshape(part, -1) for part in parts])

    def held(self) -> list[Tensor]:
        """The values that the rule reads beside its arguments."""
        raise NotImplementedError

    def holding(self, held: Sequence[Tensor]) -> Rule:
        """The rule with others in their places."""
        raise NotImplementedError


def is_float(x: Any) -> bool:
    """Whether x has derivatives."""
    if isinstance(x, (Tensor, np.ndarray, np.generic)):
        return x.dtype in (np.float32, np.float64)
    return isinstance(x, float)


def connected(inputs: list[Tensor], results: list[Tensor], rule: Rule) -> list[Tensor]:
    """The results as tensors that depend on the inputs by the rule alone."""
    rule.kinds = [(x.shape, x.dtype) for x in results]
    if not rule.is_derivative and _core.vmapped(inputs):
        held = rule.held()
        call = _Connected(rule, len(inputs), len(results))
        results = record_call(call, [*inputs, *results, *held], results) or results
    return _core.custom(inputs, results, rule)


class _Connected(Compound):
    """``connected``, as instructions hold it. Its operands are inputs, results, and what the rule holds."""

    draws = False

    def __init__(self, rule: Rule, n_inputs: int, n_results: int) -> None:
        self.rule, self.inputs, self.n = rule, slice(0, n_inputs), n_inputs + n_results
        self.results, self.held = slice(n_inputs, self.n), slice(self.n, None)

    def at(self, operands: list[Tensor], wanted: Any = ()) -> list[Tensor]:
        return connected(operands[self.inputs], operands[self.results], self.rule.holding(operands[self.held]))

    def over(self, operands: list[Tensor], batched: list[bool], size: int, wanted: Any = ()) -> list[Tensor]:
        results = [whole(x, over, size) for x, over in zip(operands[self.results], batched[self.results])]
        rule = _Mapped(self.rule, operands[self.held], batched[self.held], batched[self.inputs], size)
        return connected(operands[self.inputs], results, rule)


class _Mapped(Rule):
    """A rule over a batch. What an input that is the same for all elements receives is their sum."""

    def __init__(self, rule: Rule, held: list[Tensor], held_over: list[bool], over: list[bool], size: int) -> None:
        self.rule, self.tensors, self.over, self.size = rule, held, over, size
        self.axes = [0 if each else None for each in held_over]

    def held(self) -> list[Tensor]:
        return self.tensors

    def holding(self, held: Sequence[Tensor]) -> Rule:
        other = copy.copy(self)
        other.tensors = list(held)
        return other

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        def element(parts: list[Tensor], held: list[Tensor]) -> list[Tensor | None]:
            return self.rule.holding(held).vjp(self.rule.joined(parts))

        found = vmap(element, (0, self.axes))(self.parts(g), self.tensors)
        return [x if x is None or each else x.sum(0) for x, each in zip(found, self.over)]

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        given = {k: t for k, t in enumerate(tangents) if t is not None}

        def element(_: Tensor, ts: list[Tensor], held: list[Tensor]) -> list[Tensor]:
            left = dict(zip(given, ts))
            return self.rule.parts(self.rule.holding(held).jvp([left.get(k) for k in range(len(tangents))]))

        axes = [0 if self.over[k] else None for k in given]
        return self.joined(vmap(element, (0, axes, self.axes))(np.zeros(self.size), [*given.values()], self.tensors))


def pulled(
    results: Sequence[Any], cotangents: Sequence[Tensor], own: list[Tensor], recorded: bool,
    behind: Sequence[Tensor] = (),
) -> list[Tensor | None]:  # fmt: skip
    """The cotangents of the tensors ``own``, and of what those of ``behind`` stand for, from those of results that were
    just computed from them."""
    pairs = [(y, g) for y, g in zip(results, cotangents) if isinstance(y, Tensor) and y.requires_grad]
    if not pairs:
        return [None] * (len(own) + len(behind))
    with _core.Grads(True):
        return list(_core.pull([y for y, _ in pairs], [g for _, g in pairs], own, recorded, False, behind))
