"""Products of matrices, added in the order of the kernels (csrc/kernels/gemm.c), so that their bits are the same.

Each element is one chain of sums over the common axis. A very small product is written out, element by element. A
larger one is a loop: over its rows or columns in the lanes of vectors, if the sums are short and a side is whole
vectors; over the matrices of a stack or the rows of a narrow matrix; or over the common axis, if there are few
elements. A long vector times a matrix of few columns has sums of another order. All others are left to tiles.py, which
takes half the time for wide matrices, but twice as much for narrow ones, of which it computes whole vectors.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import _core
from .description import PLAIN_PRODUCT, Step
from .maps import lanes
from .scope import Scope, Text, Unwritten
from .steps import elements
from .values import Value, c_type, declaration, suffix

_FEW = 200  # multiplications of a product that is written out, at most (fg_is_few in csrc/kernels.h)
_MOST = 2048  # ... of one that is a loop
_LONG = 32  # from here on, products with a vector are summed in another order (csrc/kernels/gemm_dispatch.c),
_BLOCK = 192  # and all products in blocks (K_BLOCK in gemm.c)
_TERMS = 16  # of each element's sum, at most, where elements are computed in the lanes of vectors
_ELEMENTS = 16  # of a product that is written out, at most
_SCALARS = 9  # elements of a result that are numbers in registers, at most
_COLUMNS = 4  # of a matrix that is a loop over rows, at most: of more, tiles take half the time
_NARROW = 64  # columns of a matrix at most that such an order is for
_EIGHT = 8  # sums of each element of such a product (narrow in gemm.c)
_BODY = 64  # multiplications in the body of a loop over matrices or rows, at most

_Index = str | int


class _Matrix(NamedTuple):
    """An operand or the result: element (r, c) of the matrix as it enters the product, of matrix s of a stack."""

    value: Value
    row: int
    column: int
    stack: int = 0  # elements from one matrix to the next

    def at(self, r: _Index, c: _Index, s: _Index) -> str:
        number, terms = 0, list[str]()
        for index, step in ((s, self.stack), (r, self.row), (c, self.column)):
            if isinstance(index, int):
                number += index * step
            elif step:
                terms.append(index if step == 1 else f"{index} * {step}")
        return self.value.at(" + ".join([*terms, str(number)] if number or not terms else terms))

    def named(self, text: str) -> _Matrix:
        return self._replace(value=self.value._replace(text=text))


class _Product(NamedTuple):
    """y = a b, or y = a b + c, of matrices or of a stack of them."""

    scope: Scope
    a: _Matrix
    b: _Matrix
    c: _Matrix | None
    y: _Matrix
    n_stack: int
    m: int
    n: int
    depth: int

    @property
    def function(self) -> str:
        return f"FMA_{suffix(self.y.value.dtype)}"

    def element(self, i: _Index, j: _Index, s: _Index = 0, total: str = "") -> str:
        """The expression of an element, or of it where the sum is `total`."""
        if not total:
            total = "0"
            for p in range(self.depth):
                total = f"{self.function}({self.a.at(i, p, s)}, {self.b.at(p, j, s)}, {total})"
        return total if self.c is None else f"{total} + {self.c.at(i, j, s)}"

    def write_rows(self) -> None:
        """A loop over matrices, or over rows, with the elements of one in its body."""
        text = self.scope.text
        s, rows = ("s", list[_Index](range(self.m))) if self.n_stack > 1 else (0, ["i"])
        lane, count = ("s", self.n_stack) if self.n_stack > 1 else ("i", self.m)
        text.open(f"for (int64_t {lane} = 0; {lane} < {count}; {lane}++) {{")
        for i in rows:
            for j in range(self.n):
                text.line(f"{self.y.at(i, j, s)} = {self.element(i, j, s)};")
        text.close()

    def write_scalars(self) -> None:
        """A loop over the common axis, with a sum in its body for each element."""
        text, places = self.scope.text, [(i, j) for i in range(self.m) for j in range(self.n)]
        text.open("{")
        text.line(f"{c_type(self.y.value.dtype)} {', '.join(f's{i}_{j} = 0' for i, j in places)};")
        text.open(f"for (int64_t p = 0; p < {self.depth}; p++) {{")
        for i, j in places:
            text.line(f"s{i}_{j} = {self.function}({self.a.at(i, 'p', 0)}, {self.b.at('p', j, 0)}, s{i}_{j});")
        text.close()
        for i, j in places:
            text.line(f"{self.y.at(i, j, 0)} = {self.element(i, j, total=f's{i}_{j}')};")
        text.close()

    def lanes_are_rows(self) -> bool | None:
        """Whether the lanes of vectors can be the rows, or else the columns; None if neither fits."""
        by_row = self.n == 1 or (self.b.column != 1 and self.a.row == 1)
        count, step = (self.m, self.a.row) if by_row else (self.n, self.b.column)
        vectors, rest = divmod(count, lanes() * (8 // self.y.value.dtype.itemsize))
        fits = self.depth <= _TERMS and step == 1 and vectors and not (rest and vectors < 4)
        return by_row if fits else None

    def write_lanes(self, by_row: bool) -> None:
        """Loops over the elements, the inner one in the lanes of vectors."""
        text, axes = self.scope.text, [("j", self.n), ("i", self.m)] if by_row else [("i", self.m), ("j", self.n)]
        for axis, n in axes:
            if axis == axes[1][0]:
                text.line('_Pragma("omp simd")')
            if n > 1:
                text.open(f"for (int64_t {axis} = 0; {axis} < {n}; {axis}++) {{")
        i, j = ("i" if self.m > 1 else 0), ("j" if self.n > 1 else 0)
        text.line(f"{self.y.at(i, j, 0)} = {self.element(i, j)};")
        for _, n in axes:
            if n > 1:
                text.close()


def _stacked(shape: tuple[int, ...], y: tuple[int, ...]) -> int:
    """How far apart the matrices of an operand are, in elements; 0 if all products have the same one."""
    if any(n != 1 for n in shape[:-2]) and math.prod(shape[:-2]) != math.prod(y[:-2]):
        raise Unwritten
    return math.prod(shape[-2:]) if math.prod(shape[:-2]) > 1 else 0


def matmul(scope: Scope, k: int, step: Step) -> None:
    """y = a b, or y = a b + c."""
    d = scope.description
    a, b, y = (d.buffer(v) for v in (*step.operands[:2], step.y))
    if len(step.attr) > PLAIN_PRODUCT:
        raise Unwritten
    (ta, tb), (m, n), n_stack = step.attr[:2], y.shape[-2:], math.prod(y.shape[:-2])
    depth = a.shape[-1 - bool(ta)]
    if not depth or not y.size:
        raise Unwritten
    va = _Matrix(scope.operand(step, 0), *((1, m) if ta else (depth, 1)), _stacked(a.shape, y.shape))
    vb = _Matrix(scope.operand(step, 1), *((1, depth) if tb else (n, 1)), _stacked(b.shape, y.shape))
    vc = _Matrix(scope.operand(step, 2), n, 1, m * n) if len(step.operands) == 3 else None
    if is_narrow(bool(ta), bool(tb), m, n, depth):
        _narrow(scope, step, (m, n, depth), n_stack)
        return
    few = n_stack == 1 and depth <= 8 and m * n <= 64 and m * n * depth <= _FEW
    sums_rows = (not ta or m == 1) and (tb or n == 1)
    is_large = n_stack * m * n * depth > _MOST or depth > _BLOCK or (sums_rows and depth >= _LONG)
    if not few and (is_large or _core.isa() == "baseline"):
        raise Unwritten
    if not few and n_stack == 1 and n == 1 and m > _SCALARS and va.row != 1:  # a vector is multiplied by columns
        va = _Matrix(_turned(scope, step.operands[0], m, depth), 1, _whole(m))
    elif not few and n_stack == 1 and m == 1 and n > _SCALARS and vb.column != 1:
        vb = _Matrix(_turned(scope, step.operands[1], n, depth), _whole(n), 1)
    vy = _Matrix(Value("", y.dtype, y.shape, False), n, 1, m * n)
    product = _Product(scope, va, vb, vc, vy, n_stack, m, n, depth)
    by_row = product.lanes_are_rows() if n_stack == 1 else None
    has_rows = (m if n_stack > 1 else 1) * n * depth <= _BODY and (few or n > 1)
    is_wide = n_stack == 1 and n > _COLUMNS and m * n > _ELEMENTS and not (va.value.single or vb.value.single)
    if by_row is None and is_wide:
        raise Unwritten
    if few and (m * n <= _ELEMENTS or (by_row is None and not has_rows)):
        elements(scope, step, [product.element(i, j) for i in range(m) for j in range(n)])
        return
    if by_row is None and not has_rows and (n_stack > 1 or m * n > _SCALARS):
        raise Unwritten
    product = product._replace(y=vy._replace(value=scope.result(step.y)))
    if by_row is not None:
        product.write_lanes(by_row)
    elif n_stack == 1 and m * n <= _SCALARS:
        product.write_scalars()
    else:
        _call_rows(product)


def _call_rows(product: _Product) -> None:
    """Call a function that is a loop over matrices or rows: products of one kind share it, which saves compilers time
    where there are many."""
    text = product.scope.text
    given = {"y": product.y, "a": product.a, "b": product.b} | ({"c": product.c} if product.c else {})
    if any(x.value.single for x in given.values()):
        product.write_rows()
        return
    named = {name: x.named(name) for name, x in given.items()}
    addresses = {name: x.value.address for name, x in given.items()}
    with shared(text, c_type(product.y.value.dtype), addresses):
        product._replace(a=named["a"], b=named["b"], c=named.get("c"), y=named["y"]).write_rows()


@contextlib.contextmanager
def shared(text: Text, kind: str, addresses: dict[str, str]) -> Iterator[None]:
    """What is written meanwhile becomes the body of a function, which is called, and which other products of the same
    text call, too. Its parameters are pointers to elements of a type, at these addresses; y is written to."""
    start, depth = len(text.lines), text.depth
    text.depth = 1
    yield
    body, text.depth = "\n".join(text.lines[start:]), depth
    del text.lines[start:]
    parameters = ", ".join(f"{'const ' * (name != 'y')}{kind} *{name}" for name in addresses)
    head = f"static __attribute__((noinline)) void product%d({parameters})\n{{\n{body}\n}}\n\n"
    known = next((i for i, function in enumerate(text.functions) if function == head % i), len(text.functions))
    if known == len(text.functions):
        text.functions.append(head % known)
    text.line(f"product{known}({', '.join(addresses.values())});")


def is_narrow(ta: bool, tb: bool, m: int, n: int, depth: int) -> bool:
    """Whether the kernel `narrow` computes a product (fg_choose_gemm_backend in csrc/kernels/gemm_dispatch.c)."""
    along_k = (not ta or m == 1) and (tb or n == 1)
    return min(m, n) == 1 and max(m, n) <= _NARROW and depth >= _LONG and not along_k


def _narrow(scope: Scope, step: Step, sizes: tuple[int, int, int], n_stack: int) -> None:
    """A long vector times a matrix of few columns: in the lanes of vectors, where the matrix can be turned before a
    loop, else by the kernel."""
    (m, n, depth), text = sizes, scope.text
    at = 0 if n == 1 else 1  # the vector is the other operand
    wide, adds = max(m, n), len(step.operands) == 3
    x, b = scope.operand(step, 1 - at), scope.operand(step, at)
    if n_stack > 1 or x.single or b.single:
        raise Unwritten
    turned = None
    if wide <= _SCALARS and depth <= _EIGHT * _BLOCK:
        with contextlib.suppress(Unwritten):
            turned = _turned(scope, step.operands[at], depth, wide)
    added = scope.operand(step, 2) if adds else None
    y = scope.result(step.y)
    if turned is not None:
        _write_eight(text, (wide, depth), x, turned, y, added)
    elif added is None or added == y:
        operands = f"{x.address}, 1, {b.address}, {wide}, {int(adds)}, {y.address}, 1"
        text.line(f"s->narrow[{int(y.dtype == np.float64)}]({wide}, {depth}, {operands});")
    else:
        raise Unwritten


def _write_eight(text: Text, sizes: tuple[int, int], x: Value, turned: Value, y: Value, added: Value | None) -> None:
    """The sums of products of each column and the vector, which go to eight lanes in turn."""
    (wide, depth), tail = sizes, suffix(y.dtype)
    rest = depth % _EIGHT
    text.include("kernels/eight.h")
    text.open("{")
    text.line(f"eight_{tail} {', '.join(f's{j} = {{0}}' for j in range(wide))};")
    text.open(f"for (int64_t p = 0; p < {depth - rest}; p += {_EIGHT}) {{")
    text.line(f"const eight_{tail} x = *(const eight_{tail} *)({x.address} + p);")
    for j in range(wide):
        text.line(f"s{j} += *(const eight_{tail} *)({turned.address} + {j * _whole(depth)} + p) * x;")
    text.close()
    if rest:  # zeros follow in what is turned
        text.line(f"const eight_{tail} x = {{{', '.join(x.at(str(depth - rest + i)) for i in range(rest))}}};")
        for j in range(wide):
            place = f"{turned.address} + {j * _whole(depth) + depth - rest}"
            text.line(f"s{j} += *(const eight_{tail} *)({place}) * x;")
    for j in range(wide):
        total = f"sum_of_eight_{tail}(s{j}){f' + {added.at(str(j))}' if added is not None else ''}"
        text.line(f"{y.at(str(j))} = {total};")
    text.close()


def _whole(n: int) -> int:
    """How far apart columns of n elements are in a matrix that is turned: there are zeros up to the next column."""
    return -(-n // _EIGHT) * _EIGHT


def _turned(scope: Scope, v: int, rows: int, columns: int) -> Value:
    """A copy of a matrix column by column, made once before all loops; Unwritten where there is no loop, or it is not
    known before."""
    value = scope.before_loops(v) if scope.is_in_loop() else None
    if value is None or value.single or not scope.fits(_whole(rows) * columns * value.dtype.itemsize, 1 << 14):
        raise Unwritten
    name, length = f"turned{v}{scope.name}", _whole(rows)
    array = f"{declaration(value.dtype, name, length * columns)}{' = {0}' * (rows != length)};"
    if array not in scope.text.top:
        scope.text.stack += length * columns * value.dtype.itemsize
    scope.text.declare(array)
    scope.text.declare(
        f"for (int64_t i = 0; i < {rows}; i++) for (int64_t p = 0; p < {columns}; p++) "
        f"{name}[p * {length} + i] = {value.at(f'i * {columns} + p')};"
    )
    return value._replace(text=name)
