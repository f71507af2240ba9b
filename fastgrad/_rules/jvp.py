"""Forward-mode rules: the tangent of an operation's result from the tangents of its operands.

Forward mode goes over the tape of reverse mode, oldest operation first: what a node has saved for its vjp is what its
jvp needs, for both read the same derivatives. A rule gets a `Step`, one node of the tape, and the tangent of each
operand, a tensor or None for zero, at least one of them not None. It returns the tangent of the result, or None for
zero, by operations that an outer transform may record or trace.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from .._core import Tensor, apply_op
from . import formula, vjp

__all__ = ["Rule", "Step"]

Tangents = list[Any]  # tensors, and None for zero


class Step(NamedTuple):
    """An operation of the tape. Saved values are None where no derivative names them."""

    op: int
    number: int  # of the node
    operands: list[int | None]  # numbers of nodes, None for a constant
    attr: tuple[Any, ...]
    shape: tuple[int, ...]  # of the result
    y: Tensor | None
    inputs: list[Tensor | None]
    recorded: bool  # saved values have their nodes, and the rule is differentiated again

    @property
    def name(self) -> str:
        return _core.OP_NAMES[self.op]


Rule = Callable[[Step, Tangents], Any]


def _full(x: Tensor, step: Step) -> Tensor:
    return x if x.shape == step.shape else _core.broadcast_to(x, step.shape)


def _sum(terms: list[Tensor]) -> Any:
    return functools.reduce(_core.add, terms) if terms else None


# ---- the rows of ops.def --------------------------------------------------------------------------------------------
@functools.cache
def _derivative(name: str, i: int) -> tuple[str, str]:
    """The derivative's text, and the letters in it."""
    row = _core.ROWS[name]
    text = row["derivatives"][i]
    return text, "".join(letter for letter in ("xy" if row["arity"] == 1 else "aby") if letter in formula.names(text))


def of_elementwise(step: Step, ts: Tangents) -> Any:
    """Tangent times derivative, by the kernel or the recorded rule of the vjp with the tangent for the cotangent."""
    terms = []
    for i, t in enumerate(ts):
        text, letters = _derivative(step.name, i)
        if t is None or text == "0":
            continue
        if text in ("1", "-1"):
            terms.append(t if text == "1" else _core.negative(t))
        elif step.recorded:
            terms.append(vjp.of_elementwise(step.op, i, step.attr, t, step.y, *step.inputs))
        else:
            values = zip("x" if len(ts) == 1 else "ab", step.inputs)
            saved = [x if letter in letters else None for letter, x in values] + [step.y if "y" in letters else None]
            terms.append(apply_op(_core.vjp_number(step.op, i), [*saved, _full(t, step)]))
    return _full(_sum(terms), step) if terms else None


# ---- the rows of structural.def -------------------------------------------------------------------------------------
def of_linear(step: Step, ts: Tangents) -> Tensor:
    """Of what is linear in its first operand and reads the others as constants: the operation itself."""
    return apply_op(step.op, ts[:1] + step.inputs[1:], step.attr)


def of_concatenate(step: Step, ts: Tangents) -> Tensor:
    axis, *lengths = step.attr
    dtype = next(t.dtype for t in ts if t is not None)
    shapes = [(*step.shape[:axis], n, *step.shape[axis + 1 :]) for n in lengths]
    parts = [_core.asarray(np.zeros(shape, dtype)) if t is None else t for t, shape in zip(ts, shapes)]
    return apply_op(step.op, parts, step.attr)


def of_where(step: Step, ts: Tangents) -> Tensor:
    condition: Any = step.inputs[0]
    return _full(_core.where(condition, *[0 if t is None else t for t in ts[1:]]), step)


def of_polygamma(step: Step, ts: Tangents) -> Tensor:
    """The next derivative of digamma."""
    slope: Tensor = apply_op(step.op, [step.inputs[0]], (step.attr[0] + 1,))
    y: Tensor = ts[0] * slope
    return y


def of_matmul(step: Step, ts: Tangents) -> Any:
    a, b = step.inputs
    pairs = [(ts[0], b), (a, ts[1])]
    return _sum([apply_op(step.op, list(pair), step.attr) for t, pair in zip(ts, pairs) if t is not None])


def of_softmax(step: Step, ts: Tangents) -> Tensor:
    assert step.y is not None
    return vjp.of_softmax(step.op, 0, step.attr, ts[0], step.y, None)  # the Jacobian is symmetric


def of_log_softmax(step: Step, ts: Tangents) -> Tensor:
    return ts[0] - (_core.exp(step.y) * ts[0]).sum(-1, keepdims=True)  # type: ignore[arg-type, no-any-return]


def of_reduction(gradient: vjp.Rule) -> Rule:
    """The rule of an operation whose results each have elements of their own: the gradient of each result, times the
    tangent, summed."""

    def rule(step: Step, ts: Tangents) -> Tensor:
        (t, *_), bits = ts, step.attr
        one = _core.asarray(np.ones(step.shape, t.dtype))
        terms: Tensor = gradient(step.op, 0, step.attr, one, step.y, *step.inputs) * t
        axes = tuple(k for k in range(t.ndim) if bits[0] >> k & 1) if bits else -1
        return terms.sum(axes).reshape(step.shape)

    return rule


def of_custom(step: Step, ts: Tangents) -> Any:
    return step.attr[0].jvp(ts)
