"""Products of two matrices that products.py refuses: in tiles of registers up to a middle size, else by the kernel.
Both add in the order of csrc/kernels/gemm.c. What a BLAS may compute is left to the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import _core
from .description import PLAIN_PRODUCT, Step
from .products import is_narrow, shared
from .scope import Scope, Text, Unwritten
from .values import Value, c_type, declaration, suffix

_SMALL = 1 << 16  # multiplications of a product that is written in tiles, at most
_PANEL = 512  # elements of the second operand that are copied for that, at most
_BLOCK = 192  # a longer common axis is summed in blocks (K_BLOCK in gemm.c)
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}  # of tile.h, elsewhere 16
_REGISTERS = {"avx512": 24, "neon": 24}  # accumulators of a tile at most, elsewhere 12
_ROWS = 12  # of a tile at most (TILE_ROWS in products.h)


def matmul(scope: Scope, k: int, step: Step) -> None:
    """y = op(a) op(b), or the same added to y."""
    d = scope.description
    a, b, y = (d.buffer(v) for v in (*step.operands[:2], step.y))
    if len(step.attr) > PLAIN_PRODUCT or len(a.shape) != 2 or len(b.shape) != 2 or not y.size or y.dtype.kind != "f":
        raise Unwritten
    ta, tb = (bool(x) for x in step.attr[:2])
    (m, n), depth = y.shape, a.shape[not ta]
    if not depth or not by_tiles(ta, tb, m, n, depth):
        raise Unwritten
    va, vb = scope.operand(step, 0), scope.operand(step, 1)
    adds = len(step.operands) == 3
    if va.single or vb.single:
        raise Unwritten
    result = scope.result(step.y)
    if result.single or (adds and scope.operand(step, 2) != result):
        raise Unwritten
    if m * n * depth <= _SMALL and depth <= _BLOCK and _write_tiles(scope, step, (m, n, depth), (va, vb, result), adds):
        return
    which, lda, ldb = int(y.dtype == np.float64), m if ta else depth, depth if tb else n
    operands = f"{va.address}, {lda}, {vb.address}, {ldb}, {int(adds)}, {result.address}, {n}"
    scope.text.line(f"s->gemm[{which}]({int(ta)}, {int(tb)}, {m}, {n}, {depth}, {operands});")


def by_tiles(ta: bool, tb: bool, m: int, n: int, depth: int) -> bool:
    """Whether our own tiles compute a product (fg_choose_gemm_backend in csrc/kernels/gemm_dispatch.c), whatever BLAS
    there is, on one thread."""
    if is_narrow(ta, tb, m, n, depth):
        return False
    thin, wide = min(m, n), max(m, n)
    along_k = (not ta or m == 1) and (tb or n == 1)
    if along_k and ((thin <= 4 and depth >= 32) or (thin > 1 and wide <= 16 and depth >= 64)):
        return False
    return wide <= 64 or m * n * depth < 256**3


def _write_tiles(
    scope: Scope, step: Step, sizes: tuple[int, int, int], values: tuple[Value, Value, Value], adds: bool
) -> bool:
    """Write loops over tiles; False if the kernel is as fast."""
    (m, n, depth), (a, b, c) = sizes, values
    ta, tb = step.attr[:2]
    tail = suffix(c.dtype)
    width = _VECTOR_BYTES.get(_core.isa(), 16) // c.dtype.itemsize
    a_row, a_col, b_row, b_col, c_row, c_col = *((1, m) if ta else (depth, 1)), *((1, depth) if tb else (n, 1)), n, 1
    as_is = depth * (m * -(-n // width) + (n // 2 if tb else 0))
    turned = depth * (n * -(-m // width) + (0 if ta else m // 2)) + m * n
    if turned < as_is:  # the transpose of y is op(b)' op(a)'
        m, n, a, b = n, m, b, a
        a_row, a_col, b_row, b_col, c_row, c_col = b_col, b_row, a_col, a_row, c_col, c_row
    whole = -(-n // width) * width
    copies = b_col != 1 or n % width
    if copies and depth * whole > _PANEL:
        return False
    most = _REGISTERS.get(_core.isa(), 12)
    wide = min(whole, width * (4 if most == 24 else 2))  # columns of a tile (V_MAX in tile.h)
    rows = _height(m, min(most * width // wide, _ROWS))
    is_direct = c_col == 1 and n == whole
    text = scope.text
    text.include("kernels/products.h")
    with shared(text, c_type(c.dtype), {"a": a.address, "b": b.address, "y": c.address}):
        at_b, ldb = "b", b_row
        if copies:
            at_b, ldb = "panel", whole
            text.line(f"{declaration(c.dtype, 'panel', depth * whole)}{' = {0}' * (n != whole)};")
            text.line(f"for (int64_t p = 0; p < {depth}; p++)")
            place = _place(("p", b_row), ("j", b_col))
            text.line(f"    for (int64_t j = 0; j < {n}; j++) panel[p * {whole} + j] = b[{place}];")
        if not is_direct:
            text.line(f"{declaration(c.dtype, 'tile', rows * wide)};")
        for column, columns in _loop(text, "k", n, wide):
            for row, height in _loop(text, "i", m, rows):
                at_a, from_b = f"a + {_place((row, a_row))}", f"{at_b} + {column}"
                to = f"y + {_place((row, c_row), (column, 1))}, {c_row}" if is_direct else f"tile, {wide}"
                shape, add = f"{height}, {-(-columns // width)}, 0, {depth}", int(adds and is_direct)
                text.line(f"tile_{tail}({shape}, {at_a}, {a_row}, {a_col}, {from_b}, {ldb}, {add}, {to});")
                if not is_direct:
                    place = _place((row, c_row), (column, c_col), ("q", c_row), ("j", c_col))
                    text.line(f"for (int64_t q = 0; q < {height}; q++)")
                    total = f"tile[q * {wide} + j]{f' + y[{place}]' * adds}"
                    text.line(f"    for (int64_t j = 0; j < {columns}; j++) y[{place}] = {total};")
    return True


def _loop(text: Text, name: str, n: int, step: int) -> Iterator[tuple[str, int]]:
    """A loop over whole steps of n, if there are several, and what comes after it: for each text that is to be written,
    the index as C, and how many there are from it on."""
    rest = n % step
    if n - rest > step:
        text.open(f"for (int64_t {name} = 0; {name} < {n - rest}; {name} += {step}) {{")
        yield name, step
        text.close()
    elif n > rest:
        yield "0", step
    if rest:
        yield str(n - rest), rest


def _height(m: int, most: int) -> int:
    """The rows of a tile: as many as can be, but for a thin rest."""
    even = next((rows for rows in range(min(most, m), 0, -1) if m % rows == 0), 1)
    share = -(-m // -(-m // most))
    return even if 2 * even > share else share


def _place(*terms: tuple[str, int]) -> str:
    """The sum of products of indices and strides, as C."""
    found = [index if stride == 1 else f"{index} * {stride}" for index, stride in terms if index != "0" and stride]
    return " + ".join(found) or "0"
