"""Values in C text: types, literals, and how the elements of an operand are named."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TYPES = {
    "float32": "float", "float64": "double", "bool": "uint8_t", "int8": "int8_t", "int16": "int16_t",
    "int32": "int32_t", "int64": "int64_t", "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t",
    "uint64": "uint64_t",
}  # fmt: skip


@functools.cache
def c_type(dtype: np.dtype) -> str:
    return TYPES[dtype.name]


@functools.cache
def suffix(dtype: np.dtype) -> str:
    """What the names of functions for this dtype end with (csrc/kernels/rows.h)."""
    return {"float32": "f32", "float64": "f64"}[dtype.name]


def declaration(dtype: np.dtype, name: str, *sizes: int) -> str:
    """The declaration of an array. One of more than a vector is aligned to vectors: gcc 12 takes what is left of a loop
    over vectors of 64 bytes to be aligned to 32 in arrays that it has only aligned to 16, which ends the process."""
    aligned = "_Alignas(64) " * (math.prod(sizes) * dtype.itemsize > 64)
    return f"{aligned}{c_type(dtype)} {name}{''.join(f'[{n}]' for n in sizes)}"


def literal(x: np.generic) -> str:
    """A number as C text that is read as the same number."""
    if x.dtype.kind == "b":
        return str(int(x))
    if x.dtype.kind in "iu":
        return _integer(int(x), x.dtype.kind == "u")
    value = float(x)
    if math.isnan(value):
        return "-NAN" if math.copysign(1, value) < 0 else "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = repr(value) if x.dtype == np.float64 else str(x)
    text = text if set(text) & set(".e") else text + ".0"
    return text + "f" * (x.dtype == np.float32)


def _integer(x: int, unsigned: bool) -> str:
    if unsigned:
        return f"{x}u" if x < 2**32 else f"UINT64_C({x})"
    if x == -(2**63):
        return "INT64_MIN"
    return str(x) if abs(x) < 2**31 else f"INT64_C({x})"


class Value(NamedTuple):
    """A value of a program: a C expression for its one element, or for an array of its elements."""

    text: str
    dtype: np.dtype
    shape: tuple[int, ...]
    single: bool  # text is an element, which all elements are equal to; else an array or a pointer

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def at(self, index: str) -> str:
        return self.text if self.single else f"{self.text}[{index}]"

    @property
    def address(self) -> str:
        return f"&{self.text}" if self.single else self.text


def contiguous(shape: Sequence[int]) -> list[int]:
    """The strides, in elements, of an array of this shape."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return strides


class Index(NamedTuple):
    """Where element i of an array is in memory: axes as (length, stride), outermost first, none of length 1, and the
    place of the first element."""

    axes: tuple[tuple[int, int], ...]
    start: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether element i is at place i."""
        return not self.start and len(self.axes) == 1 and self.axes[0][1] == 1

    @property
    def is_constant(self) -> bool:
        """Whether all elements are at one place."""
        return all(not stride for _, stride in self.axes)

    @property
    def divides(self) -> bool:
        """Whether quotients or remainders of i are needed to find an element."""
        return len(self.axes) > 1

    def text(self, i: str) -> str:
        """The place of element i, as C."""
        terms, inner = [], 1
        for k in range(len(self.axes) - 1, -1, -1):
            length, stride = self.axes[k]
            if stride:
                term = i if inner == 1 else f"{i} / {inner}"
                if k:
                    term += f" % {length}"
                terms.append(term if stride == 1 else f"{term} * {stride}")
            inner *= length
        if self.start or not terms:
            terms.insert(0, str(self.start))
        return " + ".join(reversed(terms))

    def split(self, width: int) -> tuple[Index, int] | None:
        """Where rows of `width` elements begin, and the stride within each; None if a row has several strides."""
        length, stride = self.axes[-1] if self.axes else (width, 0)
        if length % width:
            return None
        outer = ((length // width, stride * width),) if length > width else ()
        return Index(self.axes[:-1] + outer, self.start), stride


SINGLE = Index(())  # of a single element, whatever i is


def index_of(shape: Sequence[int], strides: Sequence[int], start: int = 0) -> Index:
    """Of an array of this shape, in memory with these strides from element `start` on."""
    axes: list[tuple[int, int]] = []  # neighbours joined where they are one run
    for length, stride in zip(shape, strides):
        if length == 1:
            continue
        if axes and axes[-1][1] == length * stride:
            axes[-1] = (axes[-1][0] * length, stride)
        else:
            axes.append((length, stride))
    return Index(tuple(axes), start)


def index_text(i: str, shape: Sequence[int], strides: Sequence[int], start: int = 0) -> str:
    """Where element i of an array of this shape is, in memory with these strides from element `start` on.

    >>> index_text("i", (2, 3), (3, 1)), index_text("i", (2, 3), (0, 1)), index_text("i", (2, 3), (1, 2))
    ('i', 'i % 3', 'i / 3 + i % 3 * 2')
    """
    return index_of(shape, strides, start).text(i)


def broadcast_strides(shape: tuple[int, ...], result: tuple[int, ...]) -> list[int] | None:
    """The strides by which an array of this shape is read as one of the result's shape; None: it cannot be."""
    if math.prod(shape) == math.prod(result) and [n for n in shape if n != 1] == [n for n in result if n != 1]:
        return contiguous(result)
    while len(shape) > len(result) and shape[0] == 1:
        shape = shape[1:]
    if len(shape) > len(result):
        return None
    strides = [0] * (len(result) - len(shape))
    for length, stride, whole in zip(shape, contiguous(shape), result[len(strides) :]):
        if length != 1 and length != whole:
            return None
        strides.append(0 if length == 1 else stride)
    return strides
