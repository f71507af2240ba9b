"""Fused groups that work on whole rows: sums of columns, sums and extremes of rows that later steps read, products.

As in the interpreter, a block of rows at a time goes through the group. But elementwise steps between two reductions
are one loop, in which a value that only they read is a variable; one that is read after a reduction, or by it, is in an
array of the block's size. Kernels reduce the rows and columns of a block, and compute its rows of a product, so that
results have the interpreter's bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import _core
from .description import Step
from .element_loops import meet, memory_of
from .loads import load_of
from .maps import PLACE, Map, is_long, lanes, map_of, place_text
from .scope import Scope, Unwritten
from .steps import reduced
from .tiles import by_tiles
from .values import Index, Value, c_type, declaration, suffix

_ELEMENTS = 2048  # of a block, about
_ROW = 16, 512  # elements of a row
_EIGHT = 8  # columns are summed in eights of rows (FG_SUM_PART in csrc/kernels.h),
_PART = 256  # and those of more rows by halves (FG_SUM_ROWS)
_BYTES = 3 << 14  # of all arrays of a block, unless the fewest rows take more
_MOST = 3 << 15  # of these


class _Stage(NamedTuple):
    """Steps that run together for a block: elementwise ones, or a single other."""

    kind: str  # "elements": in a loop for each row; "flat": in one for all; "rows": an element for each row; or what is
    # called: "reduce", "product"
    steps: list[int]


def write(scope: Scope, group: range) -> None:
    """Write a group; Unwritten if it is left to the interpreter."""
    if scope.is_alone:
        raise Unwritten
    _Group(scope, group).write()


class _Group:
    def __init__(self, scope: Scope, group: range) -> None:
        self.scope, self.text, self.d = scope, scope.text, scope.description
        self.steps = {k: self.d.steps[k] for k in group}
        self.maps: dict[int, Map] = {}
        self.made = {step.y: k for k, step in self.steps.items()}  # which step makes a value
        self.roots = {self.d.root(y) for y in self.made}
        self.columns: list[int] = []  # steps that reduce columns
        self.stages: list[_Stage] = []
        self.stage_of: dict[int, int] = {}
        self.arrays: dict[int, str] = {}  # of values: those of a block
        self.places: dict[tuple[int, Index], str] = {}  # of operands: the element in the present loop
        self.in_rows = False  # whether the present loop is one over element j of row r
        self.n, self.width = self._sizes()
        self.rows = self.n // self.width
        if not _ROW[0] <= self.width <= _ROW[1]:
            raise Unwritten
        for k, step in self.steps.items():
            self._place(k, step)

    def _sizes(self) -> tuple[int, int]:
        """How many elements the group has, and each of its rows."""
        found = set[tuple[int, int]]()
        for step in self.steps.values():
            y = self.d.buffer(step.y)
            if step.name == "matmul":
                found.add((y.size, y.shape[-1]))
            elif step.name in ("sum", "max", "min"):
                x = self.d.buffer(step.operands[0])
                sizes = reduced(x.shape, step.attr[0])
                if sizes is None or x.dtype.kind != "f" or (sizes[0] != 1 and sizes[2] != 1):
                    raise Unwritten
                found.add((x.size, sizes[1] if sizes[2] == 1 else sizes[2]))
        if not found:
            maps = [m for m in map(self._map_of, self.steps.values()) if m is not None]
            indices = [index for m in maps for v, index in m.operands if v >= 0 and index.divides]
            if indices:
                found.add((max(m.n for m in maps), min(index.axes[-1][0] for index in indices)))
        if len(found) != 1:
            raise Unwritten
        return found.pop()

    def _place(self, k: int, step: Step) -> None:
        """Put a step into a stage."""
        y = self.d.buffer(step.y)
        if y.dtype.kind not in "fb":
            raise Unwritten
        if step.name == "matmul":
            self._add("product", k)
        elif step.name in ("sum", "max", "min"):
            if reduced(self.d.buffer(step.operands[0]).shape, step.attr[0])[2] != 1:  # type: ignore[index]
                if self.width <= _PART // 8:
                    raise Unwritten
                self.columns.append(k)
            elif y.size == self.rows:
                self._add("reduce", k)
            else:
                raise Unwritten
        else:
            m = self._map_of(step)
            if m is None or m.n not in (self.n, self.rows):
                raise Unwritten
            self.maps[k] = m._replace(operands=tuple((self._as_made(v), index) for v, index in m.operands))
            self._add(self._kind(step, m), k)

    def _map_of(self, step: Step) -> Map | None:
        """The step as a map. What it puts together from pieces has to be in memory."""
        if (m := map_of(self.scope, step)) is not None:
            return m
        m = load_of(self.scope, step)
        if m is not None and any(self.d.root(v) in self.roots for v in step.operands):
            raise Unwritten
        return m

    def _as_made(self, v: int) -> int:
        """An operand; where it is a view, such as a reshape, of what the group makes, that itself."""
        x = self.d.buffer(v) if v >= 0 else None
        for y in self.made if x and v not in self.made and x.root in self.roots else ():
            b = self.d.buffer(y)
            if x and (x.root, x.shift, x.bytes, x.dtype) == (b.root, b.shift, b.bytes, b.dtype):
                return y
        return v

    def _kind(self, step: Step, m: Map) -> str:
        """Functions are computed in whole vectors: where rows end within one, in a loop for all elements."""
        if m.n == self.rows:
            return "rows"
        plain = all(v < 0 or index.is_plain or index.is_constant for v, index in m.operands)
        now = self.stages[-1].kind if self.stages else ""
        vector = lanes() * 8 // self.d.buffer(step.y).dtype.itemsize
        if plain and self.width % vector and (now == "flat" or is_long(self.scope, step)):
            return "flat"
        return "elements"

    def _add(self, kind: str, k: int) -> None:
        joins = self.stages and self.stages[-1].kind == kind and kind in ("elements", "flat", "rows")
        if not joins:
            self.stages.append(_Stage(kind, []))
        self.stages[-1].steps.append(k)
        self.stage_of[k] = len(self.stages) - 1

    # ---- where values are ----------------------------------------------------------------------------------------
    def _is_stored(self, v: int) -> bool:
        return not self.d.buffer(self.d.root(v)).blockwise

    def _is_by_row(self, v: int) -> bool:
        return v in self.made and self.d.buffer(v).size == self.rows

    def _is_read_later(self, k: int) -> bool:
        """Whether another stage than a step's own, or a sum of columns, reads its result."""
        y = self.steps[k].y
        return any(
            self.stage_of.get(j) != self.stage_of[k] and y in map(self._as_made, step.operands)
            for j, step in self.steps.items()
        )

    def _address(self, v: int) -> str:
        """Of a value's elements in the present block."""
        v = self._as_made(v)
        if v in self.arrays:
            return self.arrays[v]
        if v not in self.made and self.d.root(v) in self.roots:
            raise Unwritten
        value = self.scope.value(v)
        if value.single:
            raise Unwritten
        return f"{value.address} + at{'' if self._is_by_row(v) else f' * {self.width}'}"

    # ---- writing -------------------------------------------------------------------------------------------------
    def write(self) -> None:
        text, d = self.text, self.d
        rows = min(self._block_rows(), self.rows)
        results = {k: self.scope.result(self.steps[k].y) for k in self.columns}
        stored = {y: self.scope.result(y) for k, y in ((k, s.y) for k, s in self.steps.items()) if self._is_stored(y)}
        self._check_columns(list(stored))
        text.open("{")
        for y in self._in_arrays():
            self.arrays[y] = f"block{y}{self.scope.name}"
            n = rows if self._is_by_row(y) else rows * self.width
            text.line(f"{declaration(d.buffer(y).dtype, self.arrays[y], n)};")
        if self.columns:
            self._write_parts(rows, stored, results)
        else:
            self._write_blocks("0", str(self.rows), rows, stored)
            text.close()
        text.close()

    def _check_columns(self, stored: list[int]) -> None:
        """Columns are summed at the end of a block, before which no step may write over what is in memory."""
        for k in self.columns:
            v = self._as_made(self.steps[k].operands[0])
            x = memory_of(self.scope, v)
            if any(self.made[y] > k and meet(x, memory_of(self.scope, y)) for y in stored if y != v):
                raise Unwritten

    def _in_arrays(self) -> list[int]:
        """The values that are neither in memory nor in variables."""
        called = {k for k, at in self.stage_of.items() if self.stages[at].kind in ("reduce", "product")}
        return [
            self.steps[k].y
            for k in self.stage_of
            if not self._is_stored(self.steps[k].y) and (k in called or self._is_read_later(k))
        ]

    def _block_rows(self) -> int:
        """How many rows a block has."""
        row = sum(self.d.buffer(y).bytes // self.rows for y in self._in_arrays())
        unit = _EIGHT if self.columns else 1
        rows = max(1, min(_ELEMENTS // self.width, _BYTES // max(row, 1)) // unit) * unit
        if rows * row > _MOST:
            raise Unwritten
        return rows

    def _write_parts(self, rows: int, stored: dict[int, Value], results: dict[int, Value]) -> None:
        """Loops over the halves in which columns are summed, and over the blocks of each."""
        text, levels = self.text, 2 + max(0, (-(-self.rows // _PART) - 1).bit_length()) + 1
        for k in self.columns:
            y = self.steps[k].y
            dtype = self.d.buffer(y).dtype
            text.line(f"{declaration(dtype, f'sum{y}', self.width)};")
            text.line(f"{declaration(dtype, f'lower{y}', levels, self.width)};")
        text.line(f"fg_halves part = halves_of({self.rows}, {_PART}, {_EIGHT});")
        text.open("do {")
        self._write_blocks("part.from", "part.to", rows, stored)
        for k in self.columns:
            y, x = self.steps[k].y, self.steps[k].operands[0]
            text.line(
                f"{self._part(k)}(at > part.from, count, {self.width}, {self.width}, {self._address(x)}, sum{y});"
            )
        text.close()
        text.open("for (; is_upper(&part); part.depth--) {")
        for k in self.columns:
            y = self.steps[k].y
            text.line(f"{self._part(k)}(1, 1, {self.width}, {self.width}, sum{y}, lower{y}[part.depth]);")
            text.line(f"memcpy(sum{y}, lower{y}[part.depth], sizeof sum{y});")
        text.close()
        for k in self.columns:
            y = self.steps[k].y
            text.line(f"memcpy(lower{y}[part.depth], sum{y}, sizeof sum{y});")
        text.close("} while (next_half(&part));")
        for k, result in results.items():
            text.line(f"memcpy({result.address}, lower{self.steps[k].y}[0], sizeof sum{self.steps[k].y});")

    def _part(self, k: int) -> str:
        """The kernel that joins what a step has made of its columns with further rows."""
        step = self.steps[k]
        return f"s->part[FG_ROWS_{step.name}][{int(self.d.buffer(step.y).dtype == np.float64)}]"

    def _write_blocks(self, low: str, high: str, rows: int, stored: dict[int, Value]) -> None:
        """Open the loop over blocks, with all stages."""
        text = self.text
        text.open(f"for (int64_t at = {low}; at < {high}; at += {rows}) {{")
        text.line(f"const int64_t count = {high} - at < {rows} ? {high} - at : {rows};")
        for stage in self.stages:
            step = self.steps[stage.steps[0]]
            if stage.kind == "reduce":
                which = f"[FG_ROWS_{step.name}][{int(self.d.buffer(step.y).dtype == np.float64)}]"
                operands = f"{self._address(step.operands[0])}, {self._address(step.y)}"
                text.line(f"s->rows{which}(count, {self.width}, {operands});")
            elif stage.kind == "product":
                self._write_product(step)
            elif stage.kind == "flat":
                self.places = {}
                text.line('_Pragma("omp simd")')
                text.open(f"for (int64_t j = 0; j < count * {self.width}; j++) {{")
                text.line(f"const int64_t i = at * {self.width} + j;")
                self._write_statements(stage.steps, stored, "j")
                text.close()
            elif stage.kind == "rows":
                self.places = {}
                text.open("for (int64_t q = 0; q < count; q++) {")
                text.line("const int64_t i = at + q;")
                self._write_statements(stage.steps, stored, "q")
                text.close()
            else:
                self._write_elements(stage.steps, stored)

    def _write_product(self, step: Step) -> None:
        d = self.d
        a, y = d.buffer(step.operands[0]), d.buffer(step.y)
        ta, tb = (bool(x) for x in step.attr[:2])
        depth = a.shape[not ta]
        if not by_tiles(ta, tb, self.rows, self.width, depth) or self.scope.is_single(step.operands[0]):
            raise Unwritten
        va, vb = self.scope.operand(step, 0), self.scope.operand(step, 1)
        if va.single or vb.single or any(d.root(v) in self.roots for v in step.operands):
            raise Unwritten
        start = "at" if ta else f"at * {depth}"
        operands = f"{va.address} + {start}, {self.rows if ta else depth}, {vb.address}, {depth if tb else self.width}"
        which = int(y.dtype == np.float64)
        to = f"{self._address(step.y)}, {self.width}"
        self.text.line(f"s->gemm[{which}]({int(ta)}, {int(tb)}, count, {self.width}, {depth}, {operands}, 0, {to});")

    def _write_elements(self, steps: list[int], stored: dict[int, Value]) -> None:
        text = self.text
        text.open("for (int64_t q = 0; q < count; q++) {")
        text.line(f"const int64_t r = at + q, from0 = r * {self.width};")
        self.places = {}
        for k in steps:
            for v, index in self.maps[k].operands:
                self._find(v, index, set(steps))
        text.line('_Pragma("omp simd")')
        text.open(f"for (int64_t j = 0; j < {self.width}; j++) {{")
        text.line("const int64_t i = from0 + j;")
        self.in_rows = True
        self._write_statements(steps, stored, f"q * {self.width} + j")
        self.in_rows = False
        text.close()
        text.close()

    def _find(self, v: int, index: Index, steps: set[int]) -> None:
        """Declare where a row of an operand begins, or its element for a whole row."""
        if v < 0 or (v, index) in self.places or self.made.get(v) in steps or self.scope.is_single(v):
            return
        if index.is_constant or (v in self.arrays and index.is_plain):
            return
        parts = index.split(self.width)
        if parts is None or parts[1] not in (0, 1):
            raise Unwritten
        outer, stride = parts
        kind, name = c_type(self.d.buffer(v).dtype), f"at{len(self.places)}"
        if v in self.arrays:  # an element for each row
            if stride or not outer.is_plain:
                raise Unwritten
            self.text.line(f"const {kind} {name} = {self.arrays[v]}[q];")
        else:
            if v not in self.made and self.d.root(v) in self.roots:
                raise Unwritten
            value, place = self.scope.value(v), outer.text("r")
            if stride:
                self.text.line(f"const {kind} *const {name} = {value.address} + ({place});")
            else:
                self.text.line(f"const {kind} {name} = {value.at(place)};")
        self.places[v, index] = f"{name}[j]" if stride else name

    def _write_statements(self, steps: list[int], stored: dict[int, Value], place: str) -> None:
        """What is computed for element i, or for row i, which is in a block's arrays at this place."""
        text, d, here = self.text, self.d, set(steps)
        for k in steps:
            step, m = self.steps[k], self.maps[k]
            values = [
                self._element(step, v, index, here, place)
                if v >= 0
                else place_text(index, self.width * self.in_rows)
                if v == PLACE
                else "0"
                for v, index in m.operands
            ]
            y, name = d.buffer(step.y), f"e{step.y}{self.scope.name}"
            expression = self.scope.separate(step, m.expression(values), lanes=True)
            text.line(f"const {c_type(y.dtype)} {name} = {expression};")
            if step.y in stored:
                text.line(f"{stored[step.y].at('i')} = {name};")
            elif step.y in self.arrays:
                text.line(f"{self.arrays[step.y]}[{place}] = {name};")

    def _element(self, step: Step, v: int, index: Index, here: set[int], place: str) -> str:
        scope, d = self.scope, self.d
        if self.made.get(v) in here:
            if not index.is_plain:
                raise Unwritten
            return f"e{v}{scope.name}"
        known = d.buffer(d.root(v)).data is not None and scope.value(v).single
        if known:
            return scope.value(v).at("0")
        if v not in self.made and d.root(v) in self.roots:
            raise Unwritten
        if (v, index) in self.places:
            element, is_constant = self.places[v, index], not self.places[v, index].endswith("[j]")
        elif v in self.arrays:
            if not index.is_plain:
                raise Unwritten
            return f"{self.arrays[v]}[{place}]"
        else:
            if index.divides:
                raise Unwritten
            element, is_constant = scope.value(v).at(index.text("i")), index.is_constant
        if not is_constant or d.buffer(v).dtype.kind != "f" or step.name not in _core.ROWS:
            return element
        if _core.ROWS[step.name]["arity"] < 2 or not scope.calls(step):
            return element
        scope.text.declare("const uint64_t no_bits = NO_BITS;")
        return f"EACH_{suffix(d.buffer(v).dtype)}({element}, i)"
