"""Loads: steps of fused groups that fetch elements from several arrays, or by index, as expressions of single elements.

The interpreter fetches a block at a time; in the text an element is fetched where it is read. Which piece it is in
depends on its place, which is an operand of the expression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .description import Step
from .maps import PLACE, Map
from .scope import Scope, Unwritten
from .values import SINGLE, Index, contiguous, index_of, literal


class _Piece(NamedTuple):
    """An array that is part of the result, and where its first element is along each axis."""

    v: int
    starts: Sequence[int]


def load_of(scope: Scope, step: Step) -> Map | None:
    """A step of a group that joins pieces, pads, or gathers rows, as a map; None if it is none of these."""
    if scope.is_alone:
        return None
    if step.name == "concatenate":
        return _concatenated(scope, step)
    if step.name == "unslice":
        return _summed(scope, step)
    return _gathered(scope, step) if step.name == "take" else None


def _concatenated(scope: Scope, step: Step) -> Map:
    axis, at, pieces = step.attr[0], 0, list[_Piece]()
    ndim = len(scope.description.buffer(step.y).shape)
    for v in step.operands:
        if scope.description.buffer(v).size:
            pieces.append(_Piece(v, [at * (i == axis) for i in range(ndim)]))
            at += scope.description.buffer(v).shape[axis]

    def joined(conditions: list[str], elements: list[str]) -> str:
        chosen = elements[-1]
        for condition, element in zip(conditions[-2::-1], elements[-2::-1]):
            chosen = f"{condition} ? {element} : {chosen}"
        return chosen

    return _of_pieces(scope, step, pieces, joined)


def _summed(scope: Scope, step: Step) -> Map:
    """A slice with zeros around it, or a sum of several: of -0 where all are -0 (csrc/kernels/pieces.c)."""
    d = scope.description
    ndim, zero = len(d.buffer(step.y).shape), literal(d.buffer(step.y).dtype.type(0))
    pieces = []
    for k, v in enumerate(step.operands):
        slices = [step.attr[3 * (k * ndim + i) : 3 * (k * ndim + i) + 3] for i in range(ndim)]
        if any(s[1] != 1 and n > 1 for s, n in zip(slices, d.buffer(v).shape)):
            raise Unwritten
        if d.buffer(v).size:
            pieces.append(_Piece(v, [s[0] for s in slices]))

    def added(conditions: list[str], elements: list[str]) -> str:
        terms = [f"({condition} ? {element} : {zero})" for condition, element in zip(conditions, elements)]
        if len(step.operands) > 1:
            is_common = " & ".join(conditions) if len(conditions) == len(step.operands) else "0"
            terms.insert(0, f"({is_common} ? -{zero} : {zero})")
        return " + ".join(terms) or zero

    return _of_pieces(scope, step, pieces, added)


def _of_pieces(
    scope: Scope, step: Step, pieces: list[_Piece], expression: Callable[[list[str], list[str]], str]
) -> Map:
    """The map whose expression is made of the conditions that an element is in a piece, and of the pieces' elements."""
    d = scope.description
    shape = d.buffer(step.y).shape
    operands = list[tuple[int, Index]]()
    bounds = list[list[tuple[int, int, int]]]()  # of each piece: the places that are bounded, from where, and up to
    for piece in pieces:
        own = d.buffer(piece.v).shape
        strides = contiguous(own)
        start = -sum(stride * at for stride, at in zip(strides, piece.starts))
        operands.append((piece.v, index_of(shape, strides, start)))
    for piece in pieces:
        found = []
        for i, (at, n, whole) in enumerate(zip(piece.starts, d.buffer(piece.v).shape, shape)):
            if n != whole:
                found.append((len(operands), at, at + n if at + n < whole else -1))
                operands.append((PLACE, index_of(shape, [int(i == j) for j in range(len(shape))])))
        bounds.append(found)

    y = d.buffer(step.y)
    narrow = "(int32_t)" * (y.dtype.itemsize < 8 and y.size < 2**31)  # places fill as many vectors as elements do

    def text(xs: list[str]) -> str:
        conditions = []
        for found in bounds:
            terms = [f"({narrow}({xs[k]}) >= {low})" for k, low, _ in found if low]
            terms += [f"({narrow}({xs[k]}) < {high})" for k, _, high in found if high >= 0]
            conditions.append(f"({' & '.join(terms)})" if terms else "1")
        return expression(conditions, xs[: len(pieces)])

    return Map(y.size, tuple(operands), text)


def _gathered(scope: Scope, step: Step) -> Map:
    """Rows of an array that a constant names, all of which it has (gathers_rows in csrc/program/operands.c)."""
    d = scope.description
    (v, index), (axis, shared) = step.operands[:2], step.attr[:2]
    x, count = d.buffer(v), d.buffer(index).size
    inner = math.prod(x.shape[axis + 1 :])
    if shared or math.prod(x.shape[:axis]) != 1:
        raise Unwritten
    if inner == 1 and x.dtype.itemsize < 8:  # compilers make no vectors of elements that are smaller than indices
        raise Unwritten
    rows = (count, inner)
    operands = ((index, index_of(rows, (1, 0))), (PLACE, index_of(rows, (0, 1))), (v, SINGLE))

    def text(xs: list[str]) -> str:
        row = f"({xs[0]} < 0 ? {xs[0]} + {x.shape[axis]} : {xs[0]})"
        return scope.value(v).at(row if inner == 1 else f"{row} * {inner} + {xs[1]}")

    return Map(d.buffer(step.y).size, operands, text)
