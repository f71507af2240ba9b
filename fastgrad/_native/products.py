"""Products of matrices, added in the order of the kernels (csrc/kernels/gemm.c), so that their bits are the same.

Each element is one chain of sums over the common axis. A very small product is written out, element by element; a
larger one is a loop over its rows or columns, in the lanes of vectors, if the sums are short, or over the common axis,
if there are few elements. All others are left to the kernels, which keep tiles of the result in registers.
"""

from __future__ import annotations

from typing import NamedTuple

from .. import _core
from .description import Step
from .maps import lanes
from .scope import Scope, Unwritten
from .steps import elements
from .values import Value, c_type, suffix

_FEW = 200  # multiplications of a product that is written out, at most (fg_is_few in csrc/kernels.h)
_MOST = 2048  # ... of one that is a loop
_LONG = 32  # from here on, products of rows with rows are summed in another order (csrc/kernels/gemm_dispatch.c),
_BLOCK = 192  # and all products in blocks (K_BLOCK in gemm.c)
_TERMS = 16  # of each element's sum, at most, where elements are computed in the lanes of vectors
_SCALARS = 8  # elements of a result that are numbers in registers, at most


class _Matrix(NamedTuple):
    """An operand: element (r, c) of the matrix that it enters the product as is at r * row + c * column."""

    value: Value
    row: int
    column: int

    def at(self, r: str | int, c: str | int) -> str:
        terms = [_times(r, self.row), _times(c, self.column)]
        return self.value.at(" + ".join(t for t in terms if t != "0") or "0")


def _times(index: str | int, step: int) -> str:
    if isinstance(index, int) or not step:
        return str(int(index) * step if step else 0)
    return index if step == 1 else f"{index} * {step}"


def matmul(scope: Scope, k: int, step: Step) -> None:
    """y = a b, or y = a b + c."""
    d = scope.description
    a, b, y = (d.buffer(v) for v in (*step.operands[:2], step.y))
    if len(a.shape) != 2 or len(b.shape) != 2 or not y.size:
        raise Unwritten
    ta, tb = step.attr[:2]
    (m, n), depth = y.shape, a.shape[not ta]
    if not depth:
        raise Unwritten
    va = _Matrix(scope.operand(step, 0), *((1, m) if ta else (depth, 1)))
    vb = _Matrix(scope.operand(step, 1), *((1, depth) if tb else (n, 1)))
    added = scope.operand(step, 2) if len(step.operands) == 3 else None
    function = f"FMA_{suffix(y.dtype)}"

    def element(i: str | int, j: str | int) -> str:
        total = "0"
        for p in range(depth):
            total = f"{function}({va.at(i, p)}, {vb.at(p, j)}, {total})"
        return total

    def with_c(total: str, place: str) -> str:
        return total if added is None else f"{total} + {added.at(place)}"

    if depth <= 8 and m * n <= 64 and m * n * depth <= _FEW:
        elements(scope, step, [with_c(element(i, j), str(i * n + j)) for i in range(m) for j in range(n)])
        return
    sums_rows = (not ta or m == 1) and (tb or n == 1)
    if m * n * depth > _MOST or depth > _BLOCK or (sums_rows and depth >= _LONG) or _core.isa() == "baseline":
        raise Unwritten
    text, kind = scope.text, c_type(y.dtype)
    if n == 1 and m > _SCALARS and va.row != 1:  # a matrix times a vector: its columns are needed one after the other
        va = _Matrix(_turned(scope, step.operands[0], m, depth), 1, m)
    elif m == 1 and n > _SCALARS and vb.column != 1:
        vb = _Matrix(_turned(scope, step.operands[1], n, depth), n, 1)
    result = scope.result(step.y)
    if m * n <= _SCALARS:
        text.open("{")
        places = [(i, j) for i in range(m) for j in range(n)]
        text.line(f"{kind} {', '.join(f's{i}_{j} = 0' for i, j in places)};")
        text.open(f"for (int64_t p = 0; p < {depth}; p++) {{")
        for i, j in places:
            text.line(f"s{i}_{j} = {function}({va.at(i, 'p')}, {vb.at('p', j)}, s{i}_{j});")
        text.close()
        for i, j in places:
            text.line(f"{result.at(str(i * n + j))} = {with_c(f's{i}_{j}', str(i * n + j))};")
        text.close()
        return
    along_rows = n == 1 or (vb.column != 1 and va.row == 1)
    count, others = (m, n) if along_rows else (n, m)
    vectors, rest = divmod(count, lanes() * (8 // y.dtype.itemsize))
    if depth > _TERMS or (va.row if along_rows else vb.column) != 1 or not vectors or (rest and vectors < 4):
        raise Unwritten
    lane, other = ("i", "j") if along_rows else ("j", "i")
    if others > 1:
        text.open(f"for (int64_t {other} = 0; {other} < {others}; {other}++) {{")
    text.line('_Pragma("omp simd")')
    text.open(f"for (int64_t {lane} = 0; {lane} < {count}; {lane}++) {{")
    row, column = ("i" if m > 1 else 0), ("j" if n > 1 else 0)
    place = " + ".join(t for t in (_times(row, n), _times(column, 1)) if t != "0")
    text.line(f"{result.at(place)} = {with_c(element(row, column), place)};")
    text.close()
    if others > 1:
        text.close()


def _turned(scope: Scope, v: int, rows: int, columns: int) -> Value:
    """A copy of a matrix column by column, made once before all loops; Unwritten where there is no loop, or it is not
    known before."""
    value = scope.before_loops(v) if scope.is_in_loop() else None
    if value is None or value.single or not scope.fits(rows * columns * value.dtype.itemsize, 1 << 14):
        raise Unwritten
    name, kind = f"turned{v}{scope.name}", c_type(value.dtype)
    declaration = f"{kind} {name}[{rows * columns}];"
    if declaration not in scope.text.top:
        scope.text.stack += rows * columns * value.dtype.itemsize
    scope.text.declare(declaration)
    scope.text.declare(
        f"for (int64_t i = 0; i < {rows}; i++) for (int64_t p = 0; p < {columns}; p++) "
        f"{name}[p * {rows} + i] = {value.at(f'i * {columns} + p')};"
    )
    return value._replace(text=name)
