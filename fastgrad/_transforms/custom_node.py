"""Nodes of the tape whose derivative is a rule in Python (csrc/autodiff/custom.c).

Functions with rules of their own have such nodes, and loops and branches that are one operation. What the function
computes is recorded as any code is. Then `attach_rule` cuts its results off from that, and connects them with the
inputs by one node that holds the rule. A backward pass calls the rule, which is made of operations: while the pass is
recorded they are recorded, too, so that the derivative of the derivative is that of the rule.

Where the function is mapped and an outer transform differentiates it, its trace (evaluate.py) holds the attachment as
one operation: evaluated, it attaches to the results of the whole batch the rule mapped over the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor
from .._rules.batching import whole
from .evaluate import Compound, trace_call
from .vmap import vmap

__all__ = ["NodeRule", "attach_rule", "is_float", "pull_back"]


class NodeRule:
    """The derivative that a node holds: ``vjp(g)`` is called in a backward pass, ``jvp(tangents)`` in forward mode.

    ``kinds`` are the shapes and dtypes of the node's float results. Several results make one vector, end to end: g and
    the tangent that ``jvp`` returns are laid out so.
    """

    kinds: list[tuple[tuple[int, ...], np.dtype[Any]]]
    is_derivative = False  # whether the rule is the derivative of the operations that computed the results

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        """The cotangent of each input; None stands for zeros."""
        raise NotImplementedError

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        """The tangent of the results, end to end, from those of the inputs; None stands for zeros."""
        raise NotImplementedError

    def parts(self, g: Tensor) -> list[Tensor]:
        """The cotangent of each result, cut out of g."""
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
        """The tangents of all results end to end."""
        if len(parts) == 1:
            return parts[0]
        return _core.concatenate([_core.reshape(part, -1) for part in parts])

    def residuals(self) -> list[Tensor]:
        """The tensors that the rule reads beside its arguments."""
        raise NotImplementedError

    def with_residuals(self, residuals: Sequence[Tensor]) -> NodeRule:
        """The rule with other residuals in their places."""
        raise NotImplementedError


def is_float(x: Any) -> bool:
    """Whether x is an array or number of a dtype that has derivatives."""
    if isinstance(x, (Tensor, np.ndarray, np.generic)):
        return x.dtype in (np.float32, np.float64)
    return isinstance(x, float)


def attach_rule(inputs: list[Tensor], results: list[Tensor], rule: NodeRule) -> list[Tensor]:
    """The results as tensors that depend on the inputs by the rule alone."""
    rule.kinds = [(x.shape, x.dtype) for x in results]
    if not rule.is_derivative and _core.vmapped(inputs):
        saved = rule.residuals()
        call = _AttachedRule(rule, len(inputs), len(results))
        results = trace_call(call, [*inputs, *results, *saved], results) or results
    return _core.custom(inputs, results, rule)


class _AttachedRule(Compound):
    """``attach_rule`` as an operation of a trace. Its operands are inputs, results, and the rule's residuals."""

    draws = False

    def __init__(self, rule: NodeRule, n_inputs: int, n_results: int) -> None:
        self.rule, self.inputs, self.n = rule, slice(0, n_inputs), n_inputs + n_results
        self.results, self.residuals = slice(n_inputs, self.n), slice(self.n, None)

    def at(self, operands: list[Tensor], wanted: Any = ()) -> list[Tensor]:
        rule = self.rule.with_residuals(operands[self.residuals])
        return attach_rule(operands[self.inputs], operands[self.results], rule)

    def over(self, operands: list[Tensor], batched: list[bool], size: int, wanted: Any = ()) -> list[Tensor]:
        results = [whole(x, over, size) for x, over in zip(operands[self.results], batched[self.results])]
        rule = _Mapped(self.rule, operands[self.residuals], batched[self.residuals], batched[self.inputs], size)
        return attach_rule(operands[self.inputs], results, rule)


class _Mapped(NodeRule):
    """A rule over a batch. The cotangent of an input that all elements share is the sum over the batch."""

    def __init__(
        self, rule: NodeRule, saved: list[Tensor], saved_over: list[bool], over: list[bool], size: int
    ) -> None:
        """``saved`` are the rule's residuals; ``saved_over`` and ``over`` say which of these and of the inputs are
        batched."""
        self.rule, self.saved, self.over, self.size = rule, saved, over, size
        self.axes = [0 if each else None for each in saved_over]

    def residuals(self) -> list[Tensor]:
        return self.saved

    def with_residuals(self, residuals: Sequence[Tensor]) -> NodeRule:
        other = copy.copy(self)
        other.saved = list(residuals)
        return other

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        def element(parts: list[Tensor], residuals: list[Tensor]) -> list[Tensor | None]:
            return self.rule.with_residuals(residuals).vjp(self.rule.joined(parts))

        found = vmap(element, (0, self.axes))(self.parts(g), self.saved)
        return [x if x is None or each else x.sum(0) for x, each in zip(found, self.over)]

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        given = {k: t for k, t in enumerate(tangents) if t is not None}

        def element(_: Tensor, ts: list[Tensor], residuals: list[Tensor]) -> list[Tensor]:
            left = dict(zip(given, ts))
            return self.rule.parts(self.rule.with_residuals(residuals).jvp([left.get(k) for k in range(len(tangents))]))

        axes = [0 if self.over[k] else None for k in given]
        return self.joined(vmap(element, (0, axes, self.axes))(np.zeros(self.size), [*given.values()], self.saved))


def pull_back(
    results: Sequence[Any], cotangents: Sequence[Tensor], own: list[Tensor], recorded: bool,
    closed_over: Sequence[Tensor] = (),
) -> list[Tensor | None]:  # fmt: skip
    """The cotangents of the tensors ``own``, and of the nodes that those of ``closed_over`` stand for, from cotangents
    of results that were just computed from them."""
    pairs = [(y, g) for y, g in zip(results, cotangents) if isinstance(y, Tensor) and y.requires_grad]
    if not pairs:
        return [None] * (len(own) + len(closed_over))
    with _core.Grads(True):
        return list(_core.pull([y for y, _ in pairs], [g for _, g in pairs], own, recorded, False, closed_over))
