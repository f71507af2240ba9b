"""Tangents through what a function has recorded: one rule for each differentiable operation of the core.

Forward mode goes over the tape of reverse mode, oldest operation first: what a node has saved for its vjp is what its
jvp needs, for both read the same derivatives. A rule gets a `Step`, a noted operation, and the tangent of each operand,
a tensor or None for zero, at least one of them not None. It returns the tangent of the result, or None for zero, by
operations that an outer transform may record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from .._core import Tensor, apply_op
from . import formula
from .vjp import gradient

__all__ = ["push"]

Tangents = list[Any]  # tensors, and None for zero

_NAMES = _core.op_names()


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
        return _NAMES[self.op]


Rule = Callable[[Step, Tangents], Any]


def push(results: list[Tensor], inputs: list[Tensor], tangents: Iterable[Tensor], recorded: bool) -> Tangents:
    """The tangents of results that were computed from watched inputs with tangents; None for zero.

    ``recorded``: what an outer transform has to do with the saved values is differentiated again.
    """
    found: dict[int | None, Any] = {_core.node_number(x): t for x, t in zip(inputs, tangents)}
    for noted in _core.tape_operations(results, inputs, recorded):
        ts = [*map(found.get, noted[2])]
        if any(t is not None for t in ts):
            step = Step(*noted)
            found[step.number] = RULES[step.name](step, ts)
    return [found.get(_core.node_number(y)) for y in results]


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


def _elementwise(step: Step, ts: Tangents) -> Any:
    """Tangent times derivative, by the kernel or the recorded rule of the vjp with the tangent for the cotangent."""
    terms = []
    for i, t in enumerate(ts):
        text, letters = _derivative(step.name, i)
        if t is None or text == "0":
            continue
        if text in ("1", "-1"):
            terms.append(t if text == "1" else _core.negative(t))
        elif step.recorded:
            terms.append(gradient(step.name, i, step.attr, t, step.y, *step.inputs))
        else:
            values = zip("x" if len(ts) == 1 else "ab", step.inputs)
            saved = [x if letter in letters else None for letter, x in values] + [step.y if "y" in letters else None]
            terms.append(apply_op(len(_NAMES) + 2 * step.op + i, [*saved, _full(t, step)]))
    return _full(_sum(terms), step) if terms else None


# ---- the rows of structural.def -------------------------------------------------------------------------------------
def _linear(step: Step, ts: Tangents) -> Tensor:
    return apply_op(step.op, ts[:1] + step.inputs[1:], step.attr)


def _concatenate(step: Step, ts: Tangents) -> Tensor:
    axis, *lengths = step.attr
    dtype = next(t.dtype for t in ts if t is not None)
    shapes = [(*step.shape[:axis], n, *step.shape[axis + 1 :]) for n in lengths]
    parts = [_core.asarray(np.zeros(shape, dtype)) if t is None else t for t, shape in zip(ts, shapes)]
    return apply_op(step.op, parts, step.attr)


def _where(step: Step, ts: Tangents) -> Tensor:
    condition: Any = step.inputs[0]
    return _full(_core.where(condition, *[0 if t is None else t for t in ts[1:]]), step)


def _matmul(step: Step, ts: Tangents) -> Any:
    a, b = step.inputs
    pairs = [(ts[0], b), (a, ts[1])]
    return _sum([apply_op(step.op, list(pair), step.attr) for t, pair in zip(ts, pairs) if t is not None])


def _softmax(step: Step, ts: Tangents) -> Tensor:
    return gradient(step.name, 0, step.attr, ts[0], step.y, *step.inputs)  # its Jacobian is symmetric


def _log_softmax(step: Step, ts: Tangents) -> Tensor:
    return ts[0] - (_core.exp(step.y) * ts[0]).sum(-1, keepdims=True)  # type: ignore[arg-type, no-any-return]


def _reduction(step: Step, ts: Tangents) -> Tensor:
    """The gradient of each result, times the tangent, summed."""
    (t, *_), bits = ts, step.attr
    one = _core.asarray(np.ones(step.shape, t.dtype))
    terms: Tensor = gradient(step.name, 0, step.attr, one, step.y, *step.inputs) * t
    axes = tuple(k for k in range(t.ndim) if bits[0] >> k & 1) if bits else -1
    return terms.sum(axes).reshape(step.shape)


RULES: dict[str, Rule] = dict.fromkeys(_core.ROWS, _elementwise) | {
    **dict.fromkeys(
        "cast reshape barrier transpose broadcast_to slice unslice take untake sum cumsum".split(),
        _linear,
    ),
    **dict.fromkeys(("max", "min", "logsumexp", "cross_entropy"), _reduction),
    "concatenate": _concatenate, "where": _where, "matmul": _matmul, "softmax": _softmax, "log_softmax": _log_softmax,
    "custom": lambda step, ts: step.attr[0].jvp(ts),
}  # fmt: skip
