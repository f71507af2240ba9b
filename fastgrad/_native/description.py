"""A program as its native code is written from it: buffers, which say where values are, and steps."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .. import _core
from .._core import Program
from .limits import CONSTANT_BYTES

_N_OPS = len(_core.OP_NAMES)
PLAIN_PRODUCT = 2  # attributes of a product whose matrices do not lie within arrays of another order (gemm_dispatch.h)


class Buffer(NamedTuple):
    """What fg_buffer_facts in csrc/program.h says. ``data`` is the memory of a constant, b"" of a large one."""

    dtype: np.dtype
    shape: tuple[int, ...]
    root: int
    shift: int
    output: int
    kept: bool
    padded: bool
    blockwise: bool
    period: int
    offset: int
    data: bytes | None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.itemsize


class Step(NamedTuple):
    """What fg_step_facts says: an operation, or the derivative of an elementwise one by an input."""

    op: int
    y: int
    operands: tuple[int, ...]
    attr: tuple[int, ...]
    group: int
    late: bool

    @property
    def name(self) -> str:
        return _core.OP_NAMES[self.op] if self.op < _N_OPS else _core.OP_NAMES[(self.op - _N_OPS) // 2]

    @property
    def by_input(self) -> int | None:
        """Of a derivative: by which input; else None."""
        return None if self.op < _N_OPS else (self.op - _N_OPS) % 2


class Description:
    """All that is known of a program."""

    def __init__(self, program: Program, constant_bytes: int = CONSTANT_BYTES) -> None:
        self.program = program
        self.buffers = [None if b is None else Buffer(*b) for b in program.buffers(constant_bytes)]
        self.steps = [Step(*s) for s in program.steps()]
        self.outs: list[int] = program.outs()
        self.n_in: int = program.facts["inputs"]

    def buffer(self, v: int) -> Buffer:
        found = self.buffers[v]
        assert found is not None
        return found

    def root(self, v: int) -> int:
        return self.buffer(v).root

    def groups(self) -> list[range]:
        """The steps as they run: fused groups, and single ones."""
        found, k = [], 0
        while k < len(self.steps):
            found.append(range(k, k + self.steps[k].group))
            k += self.steps[k].group
        return found
