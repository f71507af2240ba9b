"""Forward-mode rules: the tangent of an operation's result from the tangents of its operands.

Forward mode goes over the tape of reverse mode, oldest operation first: what a node has saved for its vjp is what its
jvp needs, for both read the same derivatives. A rule gets a `SavedNode`, one node of the tape, and the tangent of each
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

__all__ = ["Rule", "SavedNode"]

_MATMUL, _TRIANGLE, _SOLVE_TRIANGULAR, _SOLVE = [
    _core.OP_NUMBERS[name] for name in ("matmul", "triangle", "solve_triangular", "solve")
]
Tangents = list[Any]  # tensors, and None for zero


class SavedNode(NamedTuple):
    """An operation of the tape. Saved values are None where no derivative names them."""

    op: int
    number: int  # of the node
    operands: list[int | None]  # numbers of nodes, None for a constant
    attr: tuple[Any, ...]
    shape: tuple[int, ...]  # of the result
    y: Tensor | None
    inputs: list[Tensor | None]
    recorded: bool  # saved values have their nodes, and the rule is differentiated again
    node: _core.Node

    @property
    def name(self) -> str:
        return _core.OP_NAMES[self.op]


Rule = Callable[[SavedNode, Tangents], Any]


def _full(x: Tensor, saved: SavedNode) -> Tensor:
    return x if x.shape == saved.shape else _core.broadcast_to(x, saved.shape)


def _sum(terms: list[Tensor]) -> Any:
    return functools.reduce(_core.add, terms) if terms else None


# ---- the rows of ops.def --------------------------------------------------------------------------------------------
@functools.cache
def _derivative(name: str, i: int) -> tuple[str, str]:
    """The derivative's text, and the letters in it."""
    row = _core.ROWS[name]
    text = row["derivatives"][i]
    return text, "".join(letter for letter in ("xy" if row["arity"] == 1 else "aby") if letter in formula.names(text))


def of_elementwise(saved: SavedNode, ts: Tangents) -> Any:
    """Tangent times derivative, by the kernel or the recorded rule of the vjp with the tangent for the cotangent."""
    terms = []
    for i, t in enumerate(ts):
        text, letters = _derivative(saved.name, i)
        if t is None or text == "0":
            continue
        if text in ("1", "-1"):
            terms.append(t if text == "1" else _core.negative(t))
        elif saved.recorded:
            terms.append(vjp.of_elementwise(saved.op, i, saved.attr, t, saved.y, *saved.inputs))
        else:
            values = zip("x" if len(ts) == 1 else "ab", saved.inputs)
            operands = [x if letter in letters else None for letter, x in values] + [
                saved.y if "y" in letters else None
            ]
            terms.append(apply_op(_core.vjp_number(saved.op, i), [*operands, _full(t, saved)]))
    return _full(_sum(terms), saved) if terms else None


# ---- the rows of structural.def -------------------------------------------------------------------------------------
def of_linear(saved: SavedNode, ts: Tangents) -> Tensor:
    """Of what is linear in its first operand and reads the others as constants: the operation itself."""
    return apply_op(saved.op, ts[:1] + saved.inputs[1:], saved.attr)


def of_concatenate(saved: SavedNode, ts: Tangents) -> Tensor:
    axis, *lengths = saved.attr
    dtype = next(t.dtype for t in ts if t is not None)
    shapes = [(*saved.shape[:axis], n, *saved.shape[axis + 1 :]) for n in lengths]
    parts = [_core.asarray(np.zeros(shape, dtype)) if t is None else t for t, shape in zip(ts, shapes)]
    return apply_op(saved.op, parts, saved.attr)


def of_where(saved: SavedNode, ts: Tangents) -> Tensor:
    condition: Any = saved.inputs[0]
    return _full(_core.where(condition, *[0 if t is None else t for t in ts[1:]]), saved)


def of_polygamma(saved: SavedNode, ts: Tangents) -> Tensor:
    """The next derivative of digamma."""
    slope: Tensor = apply_op(saved.op, [saved.inputs[0]], (saved.attr[0] + 1,))
    y: Tensor = ts[0] * slope
    return y


def _one_before(y: Any, axis: int, first: float) -> Tensor:
    """y moved by one place along an axis, with ``first`` in front."""
    front = _core.asarray(np.full((*y.shape[:axis], min(y.shape[axis], 1), *y.shape[axis + 1 :]), first, y.dtype))
    return _core.concatenate([front, y[(slice(None),) * axis + (slice(None, -1),)]], axis)


def of_cumprod(saved: SavedNode, ts: Tangents) -> Tensor:
    axis = saved.attr[0]
    return apply_op(vjp.RECURRENCE, [saved.inputs[0], ts[0] * _one_before(saved.y, axis, 1)], (axis, 0))


def of_recurrence(saved: SavedNode, ts: Tangents) -> Tensor:
    """The recurrence of the same coefficients, whose terms are tb[i] + ta[i] y[i-1], or tb[i] + ta[i+1] y[i+1]."""
    (axis, transposed), (ta, tb), y = saved.attr, ts, saved.y
    if ta is not None and transposed:  # flipped, a term is where its coefficient belongs
        back = (slice(None),) * axis + (slice(None, None, -1),)
        ta = _one_before((ta * y)[back], axis, 0)[back]
    elif ta is not None:
        ta = ta * _one_before(y, axis, 0)
    return apply_op(saved.op, [saved.inputs[0], _sum([t for t in (ta, tb) if t is not None])], saved.attr)


def of_cummax(saved: SavedNode, ts: Tangents) -> Tensor:
    """The mean of the tangents of the elements so far that tie for the maximum."""
    attr = (saved.attr[0], 0)
    ties, goes_on = vjp.ties_of_cummax(saved.attr[0], saved.y, saved.inputs[0])  # type: ignore[arg-type]
    count, total = (apply_op(vjp.RECURRENCE, [goes_on, terms], attr) for terms in (ties, ties * ts[0]))
    return total / count


def of_matmul(saved: SavedNode, ts: Tangents) -> Any:
    a, b = saved.inputs
    pairs = [(ts[0], b), (a, ts[1])]
    return _sum([apply_op(saved.op, list(pair), saved.attr) for t, pair in zip(ts, pairs) if t is not None])


def of_softmax(saved: SavedNode, ts: Tangents) -> Tensor:
    assert saved.y is not None
    return vjp.of_softmax(saved.op, 0, saved.attr, ts[0], saved.y, None)  # the Jacobian is symmetric


def of_log_softmax(saved: SavedNode, ts: Tangents) -> Tensor:
    return ts[0] - (_core.exp(saved.y) * ts[0]).sum(-1, keepdims=True)  # type: ignore[arg-type, no-any-return]


def of_vjp(saved: SavedNode, ts: Tangents) -> Any:
    """The rule that follows from the vjp. That is linear in the cotangent, so that its own vjp by the cotangent, which
    may be any, is its transpose: the jvp (J. Townsend, "A new trick for calculating Jacobian vector products", 2017).

    An eager run computes the vjp of a cotangent of zeros in vain, which a jvp rule of the operation's own would save; a
    program drops it as dead code.
    """
    g = _core.watch(np.zeros(saved.shape, saved.node.dtype))
    pairs = [(gx, t) for gx, t in zip(saved.node.vjp(g), ts) if gx is not None and t is not None]
    if not pairs:
        return None
    return _core.pull([gx for gx, _ in pairs], [t for _, t in pairs], [g], saved.recorded, retain=False)[0]


def of_cholesky(saved: SavedNode, ts: Tangents) -> Tensor:
    """L Phi(L^-1 t L^-T) for the symmetric part of the tangent t."""
    y, how = saved.y, (_core.LOWER,)
    half = apply_op(_SOLVE_TRIANGULAR, [y, vjp.symmetric(ts[0])], how)
    assert y is not None
    return y @ vjp.lower_half(apply_op(_SOLVE_TRIANGULAR, [y, vjp.swapped(half)], how))


def _of_equations(saved: SavedNode, a: Any, b: Any, how: int) -> Any:
    """Of Y = op(A)^-1 B, by the same equations: op(A)^-1 (b - op(a) Y), for tangents a of A and b of B."""
    right = b
    if a is not None:
        product = apply_op(_MATMUL, [a, saved.y], (how & _core.TRANSPOSED != 0, 0))
        right = _core.negative(product) if b is None else b - product
    return apply_op(saved.op, [*saved.inputs[:-1], right], saved.attr)


def of_solve_triangular(saved: SavedNode, ts: Tangents) -> Any:
    a, b = ts
    how = saved.attr[0]
    if a is not None:
        upper, unit = not how & _core.LOWER, how & _core.UNIT
        a = apply_op(_TRIANGLE, [a], (upper, (1 if upper else -1) if unit else 0, 0))
    return _of_equations(saved, a, b, how)


def of_solve(saved: SavedNode, ts: Tangents) -> Any:
    a, _, b = ts
    how = saved.attr[0]
    if a is not None and how & _core.BY_CHOLESKY:
        a = vjp.symmetric(a)
    return _of_equations(saved, a, b, how)


def of_slogdet(saved: SavedNode, ts: Tangents) -> Tensor:
    """0 for the sign, and the trace of A^-1 t for the logarithm."""
    a, factor = saved.inputs
    t = ts[0]
    solved = apply_op(_SOLVE, [a, factor, t], (_core.BY_LU, _core.UNCHECKED))
    n = t.shape[-1]
    diagonal = solved.reshape((*t.shape[:-2], n * n))[..., :: n + 1]
    log = diagonal.sum(-1, keepdims=True)
    return _core.concatenate([np.zeros(log.shape, log.dtype), log], axis=-1)


def of_custom(saved: SavedNode, ts: Tangents) -> Any:
    return saved.attr[0].jvp(ts)
