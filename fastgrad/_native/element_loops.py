"""Elementwise steps that become one loop over elements, and the sums of what it computes.

The steps of a run are collected first. A value that only they read is a variable of the loop, whatever memory the
interpreter has it in; so is a part of one that is read at another place, as `x[1:] - x[:-1]` and its derivative do: it
is computed again there, if that takes a few instructions. Where an operand ends, or zeros are around it, the loop is
cut into segments, in each of which every element is made in one way.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .description import Step
from .maps import LONG, Map, for_each, is_long, lanes, map_of
from .scope import Scope, Unwritten
from .steps import sum_of_terms
from .values import Index, Value, c_type, declaration, literal

_AGAIN = 8  # steps that may be computed again for an element that is read at another place
_SEGMENTS = 6  # of a loop at most
_LEAF, _LANES = 2048, 64  # longer rows are summed by halves, of a multiple of so many elements (csrc/kernels.h)
_TERMS = 16  # a sum of fewer terms is written out
_FEW = 9  # elements that are written one by one, at most
_ROW = 8  # a loop over the elements of a row is worth it from so many on
_REPEATED = 32  # shorter rows are repeated, to so many elements at least
_BLOCKS = 4  # values that are summed in one loop at most: each takes a block of the stack


class _Piece(NamedTuple):
    """Bytes of a root that a step of the run makes: item number, or -1 for zeros."""

    start: int
    end: int
    maker: int


class _Read(NamedTuple):
    """Elements first..last-1 of an operand: element i is made as element i + shift by an item, or -1: it is 0."""

    first: int
    last: int
    maker: int
    shift: int


class _Item(NamedTuple):
    """A step of the run: a map of many elements, zeros around a value, the sum of a value, or a map of one element,
    which is computed after the loop."""

    k: int
    step: Step
    map: Map | None = None
    reads: tuple[tuple[_Read, ...] | None, ...] = ()  # of each operand that the run makes; None: it is in memory
    zeros: tuple[_Piece, ...] = ()
    summed: int = -1  # of a sum: the item whose elements are added, or -1: they are in memory

    @property
    def is_loop(self) -> bool:
        return self.map is not None and self.map.n != 1

    @property
    def is_sum(self) -> bool:
        return self.map is None and not self.zeros and self.step.name == "sum"


class _Rows(NamedTuple):
    """A loop over rows around one over the elements of each: how long these are, and if operands are rows of fewer
    elements, how often each is repeated in an array of that length."""

    width: int
    copies: int = 1


class _Plan(NamedTuple):
    """How the first `n` items are written: which of them are stored, for which shifts of the index each is computed,
    where the segments begin and end, and the rows, if there are any."""

    n: int
    stored: list[int]
    needs: dict[int, dict[int, int]]  # of items: shifts, each with the last item that asks for it
    bounds: list[int]
    rows: _Rows | None


Span = tuple[object, int, int, int]  # memory: which, first and last byte in it, and the size of its elements


class ElementLoop:
    """A run of steps. A map of one element between loops is a statement."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.forget()

    def forget(self) -> None:
        self.items: list[_Item] = []
        self.pieces: dict[int, list[_Piece]] = {}  # of roots that items make
        self.late: set[int] = set()  # roots that are complete after the loop
        self.safe = 0  # so many items can be written together

    @property
    def is_empty(self) -> bool:
        return not self.items

    # ---- collecting ----------------------------------------------------------------------------------------------
    def takes(self, k: int, step: Step) -> bool:
        """Whether the step can join the run; if so, it has."""
        return self._join(k, step)

    def takes_group(self, group: range) -> bool:
        """The same of a fused group, whose values may exist within one loop only."""
        items, late = len(self.items), set(self.late)
        pieces = {root: list(found) for root, found in self.pieces.items()}
        steps = self.scope.description.steps
        if all(self._join(k, steps[k]) for k in group) and self._plan(len(self.items)).n == len(self.items):
            self.safe = len(self.items)
            return True
        del self.items[items:]
        self.late, self.pieces = late, pieces
        return False

    def _join(self, k: int, step: Step) -> bool:
        if step.name == "unslice":
            return self._join_zeros(k, step)
        if step.name == "sum":
            return self._join_sum(k, step)
        m = map_of(self.scope, step)
        if m is None:
            return False
        if m.n == 1:
            return self._join_number(k, step, m)
        if m.n == 0:
            return self._join_nothing(step)
        if any(self._root(v) in self.late for v in step.operands if v >= 0):
            return False
        found = [self._reads(v, index, m.n) if v >= 0 else (True, None) for v, index in m.operands]
        if not all(fits for fits, _ in found) or self._root(step.y) in self.late:
            return False
        item = _Item(k, step, m, tuple(reads for _, reads in found))
        if self._width([item]) < 0 and m.n >= LONG and self.scope.around is None and not self.scope.is_alone:
            raise Unwritten
        loops = [other for other in self.items if other.is_loop]
        joined = any(reads for _, reads in found)
        if loops and not joined and all(other.map is not None and other.map.n != m.n for other in loops):
            return False
        if not self._make(step, len(self.items)):
            return False
        self.items.append(item)
        return True

    def _join_nothing(self, step: Step) -> bool:
        """A map of no elements only has a place."""
        if not self.items:
            self.scope.result(step.y)
        return not self.items

    def _make(self, step: Step, maker: int) -> bool:
        """Note that an item makes its result; False if the run has made some of it already."""
        b = self.scope.description.buffer(step.y)
        return self._add_pieces(b.root, [_Piece(b.shift, b.shift + b.bytes, maker)])

    def _add_pieces(self, root: int, new: list[_Piece]) -> bool:
        known = self.pieces.get(root, [])
        if any(p.start < q.end and q.start < p.end for p in new for q in known):
            return False
        self.pieces[root] = sorted([*known, *new])
        return True

    def _reads(self, v: int, index: Index, n: int) -> tuple[bool, tuple[_Read, ...] | None]:
        """Whether an operand can be read in the loop; and if the run makes it, how its n elements are made."""
        d = self.scope.description
        b, known = d.buffer(v), self.pieces.get(self._root(v))
        if known is None:
            return True, None
        if not index.is_plain or b.size != n:
            return False, None
        reads, at, size = list[_Read](), b.shift, b.dtype.itemsize
        for p in known:
            if p.end <= at or at >= b.shift + b.bytes:
                continue
            if p.start > at:
                break
            shift = 0
            if p.maker >= 0:
                y = d.buffer(self.items[p.maker].step.y)
                if y.dtype != b.dtype or (b.shift - y.shift) % size:
                    return False, None
                shift = (b.shift - y.shift) // size
            end = min(p.end, b.shift + b.bytes)
            reads.append(_Read((at - b.shift) // size, (end - b.shift) // size, p.maker, shift))
            at = end
        if at < b.shift + b.bytes or not self._is_cheap(reads):
            return False, None
        return True, tuple(reads)

    def _is_cheap(self, reads: list[_Read]) -> bool:
        """Whether what is read at other places can be computed again there."""
        if len(reads) == 1 and not reads[0].shift:
            return True
        again = self._makers({r.maker for r in reads if r.maker >= 0 and r.shift})
        return len(again) <= _AGAIN and not any(is_long(self.scope, item.step) for item in self.items)

    def _makers(self, items: set[int]) -> set[int]:
        """These items, and those that they read, and so on."""
        found = set(items)
        for k in range(max(items, default=-1), -1, -1):
            if k in found:
                found |= {r.maker for reads in self.items[k].reads if reads for r in reads if r.maker >= 0}
        return found

    def _join_zeros(self, k: int, step: Step) -> bool:
        """Zeros around a value that is made within the result."""
        d = self.scope.description
        x, y = d.buffer(step.operands[0]), d.buffer(step.y)
        if x.root != y.root or y.root in self.late or self.scope.is_alone:
            return False
        size = y.dtype.itemsize
        ends = ((y.shift, x.shift), (x.shift + x.bytes, y.shift + y.bytes))
        zeros = tuple(_Piece(start, end, -1) for start, end in ends if end > start)
        if (x.shift - y.shift) % size or not self._add_pieces(y.root, list(zeros)):
            return False
        self.items.append(_Item(k, step, zeros=zeros))
        return True

    def _join_sum(self, k: int, step: Step) -> bool:
        """The sum of all elements of a value that the run makes, or that is in memory."""
        d = self.scope.description
        x, y = d.buffer(step.operands[0]), d.buffer(step.y)
        loops = [item for item in self.items if item.is_loop]
        root = self._root(step.y)
        if self.scope.is_alone or y.size != 1 or x.size < 2 or x.dtype.kind != "f" or x.dtype != y.dtype or not loops:
            return False
        if root in self.pieces or root in self.late or x.root in self.late or self.scope.is_single(step.operands[0]):
            return False
        maker = -1
        if x.root in self.pieces:
            pieces = [p for p in self.pieces[x.root] if (p.start, p.end) == (x.shift, x.shift + x.bytes)]
            maker = pieces[0].maker if pieces else -1
            if maker < 0 or d.buffer(self.items[maker].step.y).dtype != x.dtype:
                return False
        sums = [item for item in self.items if item.is_sum]
        blocks = {item.summed for item in sums} | {maker}
        sizes = {d.buffer(item.step.operands[0]).size for item in sums} | {x.size}
        if len(sizes) > 1 or len(blocks) > _BLOCKS or all(item.map is None or item.map.n != x.size for item in loops):
            return False
        self.items.append(_Item(k, step, summed=maker))
        self.late.add(root)
        return True

    def _join_number(self, k: int, step: Step, m: Map) -> bool:
        if not self.items:
            self._define(step, m)
            return True
        d, root = self.scope.description, self._root(step.y)
        made = any(self._root(v) in self.pieces or self._root(v) in self.late for v, _ in m.operands if v >= 0)
        if root in self.pieces or root in self.late:
            return False
        if made or not (root == step.y and self.scope.is_local(root) and self.scope.writers[root] == 1):
            if self.scope.is_alone or any(d.buffer(v).blockwise for v, _ in m.operands if v >= 0):
                return False
            self.items.append(_Item(k, step, m))
            self.late.add(root)
        else:
            self._define(step, m)
        return True

    def _define(self, step: Step, m: Map) -> None:
        values = [self.scope.value(v).at(index.text("i")) if v >= 0 else "0" for v, index in m.operands]
        self.scope.define(step, m.expression(values))

    def _root(self, v: int) -> int:
        return self.scope.description.root(v)

    # ---- planning ------------------------------------------------------------------------------------------------
    def _plan(self, n: int) -> _Plan:
        """How to write as many of the first n items as can be written together."""
        while True:
            found = self._plan_of(n)
            if isinstance(found, _Plan):
                return found
            n = max(self.safe, 1, min(found, n - 1))

    def _plan_of(self, n: int) -> _Plan | int:
        """How to write the first n items; or how many fewer to try."""
        items = self.items[:n]
        stored = self._stored(items)
        targets = sorted({*stored, *(item.summed for item in items if item.summed >= 0)})
        needs: dict[int, dict[int, int]] = {k: {0: k} for k in targets}
        bounds = {0, *(self._n(k) for k in targets)}
        for k in range(n - 1, -1, -1):
            for shift in needs.get(k, ()):
                for reads in filter(None, items[k].reads):
                    for r in reads:
                        if len(reads) > 1:
                            bounds |= {r.first - shift, r.last - shift}
                        if r.maker >= 0:
                            by = k if not r.shift else needs[k][shift]
                            asked = needs.setdefault(r.maker, {})
                            asked[shift + r.shift] = max(by if shift or r.shift else k, asked.get(shift + r.shift, 0))
        most = max((self._n(k) for k in targets), default=0)
        ends = sorted(b for b in bounds if 0 <= b <= most)
        if len(ends) - 1 > _SEGMENTS:
            return n - 1
        is_plain = len(ends) <= 2 and all(set(shifts) == {0} for shifts in needs.values())
        long = [k for k in needs if is_long(self.scope, items[k].step)]
        if long and not is_plain:
            return n - 1
        rows, fewer = self._rows(items, needs, long, most) if is_plain else (None, self._first_spread(items, needs))
        if fewer is None:
            fewer = self._conflict(items, stored, needs)
        return _Plan(n, stored, needs, ends, rows) if fewer is None else fewer

    def _first_spread(self, items: list[_Item], needs: dict[int, dict[int, int]]) -> int | None:
        return len(items) - 1 if any(self._is_spread(items[k]) for k in needs) else None

    def _rows(
        self, items: list[_Item], needs: dict[int, dict[int, int]], long: list[int], n: int
    ) -> tuple[_Rows | None, int | None]:
        """The rows of a loop, or how many items to write together instead."""
        spread = sorted(k for k in needs if self._is_spread(items[k]))
        width = self._width([items[k] for k in spread]) if spread else 0
        if width < 0 and len(spread) > 1 and self._width([items[spread[0]]]) >= 0:
            return None, spread[-1]
        if width <= 0:
            return None, None
        vector = lanes() * 8 // max(self.scope.description.buffer(items[k].step.y).dtype.itemsize for k in needs)
        rows = _Rows(width)
        only_rows = all(_is_row(index) for k in spread for _, index in self._spread_operands(items[k]))
        if only_rows and width < _REPEATED and width % vector:
            rows = _Rows(width, vector // math.gcd(vector, width))
            while rows.width * rows.copies < _REPEATED:
                rows = rows._replace(copies=2 * rows.copies)
            rows = _Rows(min(width * rows.copies, n), min(rows.copies, n // width))
        elif width < _ROW:
            return None, None
        if long and (rows.width % vector or n % rows.width % vector):
            return None, max(spread[-1], long[0])  # functions are to be computed in whole vectors
        return rows, None

    def _n(self, k: int) -> int:
        m = self.items[k].map
        assert m is not None
        return m.n

    def _stored(self, items: list[_Item]) -> list[int]:
        """The items whose results anything but the loop reads."""
        scope, d = self.scope, self.scope.description
        inside = {item.k for item in items if item.map is None or item.is_loop}
        outs = {d.root(v) for v in d.outs}
        stored = []
        for k, item in enumerate(items):
            root = d.root(item.step.y)
            if not item.is_loop or (d.buffer(root).blockwise and not scope.is_alone):
                continue
            if not scope.is_private(root) or root in outs or not inside.issuperset(scope.readers.get(root, ())):
                stored.append(k)
        return stored

    def _conflict(self, items: list[_Item], stored: list[int], needs: dict[int, dict[int, int]]) -> int | None:
        """If the loop would write what it reads elsewhere, how many items to write together instead."""
        d, roots = self.scope.description, {self._root(items[k].step.y) for k in stored}
        writes = [(k, memory_of(self.scope, items[k].step.y), True) for k in stored]
        for k, item in enumerate(items):
            zeroed = item.zeros and self._is_zeroed(item, items, roots)
            after = not item.is_loop and not item.zeros and not self.scope.is_local(item.step.y)
            if zeroed or after:
                writes.append((k, memory_of(self.scope, item.step.y), False))
        found = list[int]()
        for at, (k, x, in_turn) in enumerate(writes):
            for j, y, also in writes[at + 1 :]:
                roots_of = self._root(items[k].step.y), self._root(items[j].step.y)
                same = items[j].zeros and items[k].is_loop and roots_of[0] == roots_of[1]
                if not same and meet(x, y) and not (in_turn and also and x[1] == y[1] and x[3] == y[3]):
                    found.append(max(k, j))
        for k, item in enumerate(items):
            if item.is_sum and item.summed < 0:  # it is read after the loop has written
                x = memory_of(self.scope, item.step.operands[0])
                found += [max(j, k) for j, y, _ in writes if j != k and meet(x, y)]
            if item.map is None:
                continue
            all_reads = item.reads if item.is_loop else (None,) * len(item.map.operands)
            for (v, index), reads in zip(item.map.operands, all_reads):
                if v < 0 or reads is not None or d.buffer(d.root(v)).data is not None:
                    continue
                if not item.is_loop and self._root(v) in self.pieces:
                    continue  # it is read after the loop
                for shift, by in needs.get(k, {}).items() if item.is_loop else ((0, k),):
                    x = memory_of(self.scope, v)
                    moved = (x[0], x[1] + shift * x[3], x[2] + shift * x[3], x[3])
                    for j, y, in_turn in writes:
                        if (j == k and not shift) or not (meet(x, y) or meet(moved, y)):
                            continue
                        if not (in_turn and index.is_plain and k <= j and moved[1] == y[1] and x[3] == y[3]):
                            found.append(max(j, by))
        return min(found, default=None)

    # ---- rows ----------------------------------------------------------------------------------------------------
    def _spread_operands(self, item: _Item) -> Iterator[tuple[int, Index]]:
        """Those that are read from memory in another way than element by element."""
        assert item.map is not None
        for (v, index), reads in zip(item.map.operands, item.reads):
            if v >= 0 and reads is None and index.divides and not self._is_number(v):
                yield v, index

    def _is_spread(self, item: _Item) -> bool:
        return any(True for _ in self._spread_operands(item))

    def _is_number(self, v: int) -> bool:
        return self.scope.description.buffer(self._root(v)).data is not None and self.scope.value(v).single

    def _width(self, items: list[_Item]) -> int:
        """The width of rows in which these steps find their operands without quotients; 0: they find them so anyway;
        -1: there is none."""
        indices = [index for item in items for _, index in self._spread_operands(item)]
        if not indices:
            return 0
        assert items[0].map is not None
        n = items[0].map.n
        width = min(index.axes[-1][0] for index in indices)
        parts = [index.split(width) for index in indices]
        if not all(part is not None and part[1] in (0, 1) for part in parts):
            return -1
        if all(_is_row(index) for index in indices) and not self.scope.is_alone:
            return width
        return width if width >= _ROW and n // width >= 2 else -1

    # ---- writing -------------------------------------------------------------------------------------------------
    def end(self) -> None:
        """Write the run, as few loops as can be."""
        pending = deque[_Item]()
        while True:
            while pending and self._join(pending[0].k, pending[0].step):
                pending.popleft()
            if not self.items:
                return
            plan = self._plan(len(self.items))
            left = self.items[plan.n :]
            self._write(plan)
            self.forget()
            pending.extendleft(reversed(left))

    def _write(self, plan: _Plan) -> None:
        items, scope, text = self.items[: plan.n], self.scope, self.scope.text
        stored = {k: scope.result(items[k].step.y) for k in plan.stored}
        roots = {self._root(items[k].step.y) for k in plan.stored}
        for item in items:
            if item.zeros and self._is_zeroed(item, items, roots):
                self._write_zeros(item)
        sums = [item for item in items if item.is_sum]
        totals = {item.k: scope.result(item.step.y) for item in sums}
        writer = _Writer(self, plan, items, stored)
        if sums:
            text.open("{")
            self._write_sums(writer, sums, totals)
            text.close()
        elif plan.needs:
            writer.write(0, plan.bounds[-1])
        for item in items:
            if item.map is not None and not item.is_loop:
                self._define(item.step, item.map)

    def _is_zeroed(self, item: _Item, items: list[_Item], roots: set[int]) -> bool:
        """Whether zeros have to be in memory, where these items are written together."""
        root = self._root(item.step.y)
        inside = {other.k for other in items if other.map is None or other.is_loop}
        outs = {self._root(v) for v in self.scope.description.outs}
        readers = inside.issuperset(self.scope.readers.get(root, ()))
        return root in roots or not self.scope.is_private(root) or root in outs or not readers

    def _write_zeros(self, item: _Item) -> None:
        y, result = self.scope.description.buffer(item.step.y), self.scope.result(item.step.y)
        for piece in item.zeros:
            start, n = ((x // y.dtype.itemsize) for x in (piece.start - y.shift, piece.end - piece.start))
            at = result.at(f"{start} + i" if start else "i")
            self.scope.text.line(f"for (int64_t i = 0; i < {n}; i++) {at} = 0;")

    def _write_sums(self, writer: _Writer, sums: list[_Item], totals: dict[int, Value]) -> None:
        """Loops that put what is summed into blocks, whose sums are added in the interpreter's order."""
        text, d = self.scope.text, self.scope.description
        n = d.buffer(sums[0].step.operands[0]).size
        in_parts = n > _LEAF
        for k in dict.fromkeys(item.summed for item in sums if item.summed >= 0):
            y = self.items[k].step.y
            writer.blocks[k] = f"block{y}{self.scope.name}"
            text.line(f"{declaration(d.buffer(y).dtype, writer.blocks[k], min(n, _LEAF))};")
        if in_parts:
            for item in sums:
                text.line(f"{c_type(d.buffer(item.step.y).dtype)} lower{item.step.y}[FG_HALVES];")
            text.line(f"fg_halves part = halves_of({n}, {_LEAF}, {_LANES});")
            text.open("do {")
            writer.write_part(n)
        else:
            writer.write(0, writer.plan.bounds[-1])
        for item in sums:
            b, name = d.buffer(item.step.y), f"sum{item.step.y}"
            of = writer.blocks.get(item.summed)
            if not in_parts and n < _TERMS:
                added = Value(of, b.dtype, (n,), False) if of else self.scope.operand(item.step, 0)
                terms = [added.at(str(i)) for i in range(n)]
                text.line(f"const {c_type(b.dtype)} {name} = {sum_of_terms(terms)};")
                continue
            if of is None:
                of = f"{self.scope.operand(item.step, 0).address}{' + part.from' * in_parts}"
            text.line(f"{c_type(b.dtype)} {name};")
            length = "part.to - part.from" if in_parts else str(n)
            text.line(f"s->rows[FG_ROWS_sum][{int(b.dtype == np.float64)}](1, {length}, {of}, &{name});")
        if in_parts:
            text.open("for (; is_upper(&part); part.depth--) {")
            for item in sums:
                text.line(f"sum{item.step.y} = lower{item.step.y}[part.depth] + sum{item.step.y};")
            text.close()
            for item in sums:
                text.line(f"lower{item.step.y}[part.depth] = sum{item.step.y};")
            text.close("} while (next_half(&part));")
            writer.write(n, writer.plan.bounds[-1])
        for item in sums:
            value = f"lower{item.step.y}[0]" if in_parts else f"sum{item.step.y}"
            text.line(f"{totals[item.k].at('0')} = {value};")


class _Writer:
    """Writes the loops of a plan."""

    def __init__(self, run: ElementLoop, plan: _Plan, items: list[_Item], stored: dict[int, Value]) -> None:
        self.run, self.plan, self.items, self.stored = run, plan, items, stored
        self.scope, self.text = run.scope, run.scope.text
        self.blocks: dict[int, str] = {}  # arrays of a part, for what is summed
        self.in_parts = False
        self.repeated: dict[tuple[int, Index], str] = {}  # arrays in which a row is repeated
        self.places: dict[tuple[int, Index], str] = {}  # where a row begins, or of a column: its element

    # ---- loops ---------------------------------------------------------------------------------------------------
    def write(self, first: int, last: int) -> None:
        """Write loops over elements first..last-1, which are whole segments."""
        for start, end in itertools.pairwise(self.plan.bounds):
            if first <= start and end <= last:
                self._write_segment(start, end)

    def write_part(self, n: int) -> None:
        """The same over those of `part` in the text, as far as they are among the first n."""
        self.in_parts = True
        for start, end in itertools.pairwise(self.plan.bounds):
            if end <= n:
                low = "part.from" if not start else f"(part.from < {start} ? {start} : part.from)"
                high = "part.to" if end == n else f"(part.to < {end} ? part.to : {end})"
                self._write_clipped(start, end, low, high)
        self.in_parts = False

    def _write_clipped(self, start: int, end: int, low: str, high: str) -> None:
        needed, rows, text = self._needed(start, end), self.plan.rows, self.text
        if rows is None:
            self._open(f"for (int64_t i = {low}; i < {high}; i++) {{")
            self._statements(needed, start)
            text.close()
            return
        text.open("{")
        self._repeat(needed)
        text.open(f"for (int64_t r = {low} / {rows.width}; r * {rows.width} < {high}; r++) {{")
        text.line(f"const int64_t from0 = r * {rows.width}, low = from0 < {low} ? {low} - from0 : 0;")
        text.line(f"const int64_t high = {high} - from0 < {rows.width} ? {high} - from0 : {rows.width};")
        self._write_row(needed, "low", "high")
        text.close()
        text.close()

    def _write_segment(self, start: int, end: int) -> None:
        needed, rows, text = self._needed(start, end), self.plan.rows, self.text
        if not needed:
            return
        if end - start == 1 or self._is_few(needed, end - start):
            for i in range(start, end):
                text.open("{")
                text.line(f"const int64_t i = {i};")
                self._statements(needed, start, lanes=self.scope.is_alone)
                text.close()
        elif rows is not None:
            self._write_rows(needed, end)
        else:
            whole = end - (end - start) % self._vector(needed, end - start)
            if whole > start:
                self._write_loop(needed, start, whole)
            rest, most = end - whole, 1 << (end - whole - 1).bit_length()
            if rest == most:
                self._write_loop(needed, whole, end)
            elif rest:
                self._write_padded(needed, whole, rest, most)

    def _is_few(self, needed: list[tuple[int, int]], n: int) -> bool:
        """Whether so many elements are written one by one, so that their values stay in registers: they are few, and
        no whole vectors."""
        if n > _FEW or n % lanes() == 0 or self.scope.is_alone:
            return False
        return not any(is_long(self.scope, self.items[k].step) for k, _ in needed)

    def _open(self, head: str) -> None:
        if not self.scope.is_alone:
            self.text.line('_Pragma("omp simd")')
        self.text.open(head)

    def _write_loop(self, needed: list[tuple[int, int]], start: int, end: int) -> None:
        self._open(f"for (int64_t i = {start}; i < {end}; i++) {{")
        self._statements(needed, start)
        self.text.close()

    def _vector(self, needed: list[tuple[int, int]], n: int) -> int:
        """How many elements a loop takes in vectors only. Of few elements and long functions the rest gets a loop of
        its own, because compilers would compute it one by one; any other loop takes all."""
        steps = [self.items[k].step for k, _ in needed]
        if self.scope.is_alone or n >= LONG or not any(is_long(self.scope, step) for step in steps):
            return 1
        return lanes() * 8 // max(self.scope.description.buffer(step.y).dtype.itemsize for step in steps)

    def _write_padded(self, needed: list[tuple[int, int]], start: int, rest: int, n: int) -> None:
        """Write a loop over the `rest` elements from `start` on, as one over n of which the last ones are not used."""
        text, d = self.text, self.scope.description
        read = dict.fromkeys(
            (v, index)
            for k, _ in needed
            for (v, index), reads in self._operands(k)
            if v >= 0 and reads is None and not index.is_constant and not self.run._is_number(v)
        )
        text.open("{")
        padded: dict[tuple[int, Index], str] = {}
        for v, index in read:
            padded[v, index] = name = f"padded{len(padded)}"
            text.line(f"{declaration(d.buffer(v).dtype, name, n)};")
        kept = {k: value for k, value in self.stored.items() if (k, 0) in needed}
        for k in kept:
            y = self.items[k].step.y
            text.line(f"{declaration(d.buffer(y).dtype, f'made{y}', n)};")
        blocks = {k: f"added{self.items[k].step.y}" for k in self.blocks}
        for k, name in blocks.items():
            text.line(f"{declaration(d.buffer(self.items[k].step.y).dtype, name, n)};")
        text.open(f"for (int64_t j = 0; j < {n}; j++) {{")
        text.line(f"const int64_t i = j < {rest} ? {start} + j : {start};")
        for (v, index), name in padded.items():
            text.line(f"{name}[j] = {self.scope.value(v).at(index.text('i'))};")
        text.close()
        for name in padded.values():
            text.line(f"IN_MEMORY({name});")
        made = {k: value._replace(text=f"made{self.items[k].step.y}", single=False) for k, value in kept.items()}
        outside = self.stored, self.blocks
        self.stored, self.blocks, self.places = made, blocks, padded
        self._open(f"for (int64_t i = 0; i < {n}; i++) {{")
        self._statements(needed, start)
        text.close()
        (self.stored, self.blocks), self.places = outside, {}
        for k, value in kept.items():
            text.line(f"for (int64_t i = 0; i < {rest}; i++) {value.at(f'{start} + i')} = {made[k].text}[i];")
        for k, name in blocks.items():
            text.line(f"for (int64_t i = 0; i < {rest}; i++) {self.blocks[k]}[{start} + i] = {name}[i];")
        text.close()

    # ---- rows ----------------------------------------------------------------------------------------------------
    def _write_rows(self, needed: list[tuple[int, int]], n: int) -> None:
        text, rows = self.text, self.plan.rows
        assert rows is not None
        text.open("{")
        self._repeat(needed)
        if n >= rows.width:
            text.open(f"for (int64_t r = 0; r < {n // rows.width}; r++) {{")
            text.line(f"const int64_t from0 = r * {rows.width};")
            self._write_row(needed, "0", str(rows.width))
            text.close()
        if n % rows.width:
            text.open("{")
            text.line(f"const int64_t from0 = {n - n % rows.width};")
            self._write_row(needed, "0", str(n % rows.width))
            text.close()
        text.close()

    def _spread(self, needed: list[tuple[int, int]]) -> list[tuple[int, Index]]:
        return list(dict.fromkeys(o for k, _ in needed for o in self.run._spread_operands(self.items[k])))

    def _repeat(self, needed: list[tuple[int, int]]) -> None:
        """Declare the arrays in which short rows are repeated."""
        rows = self.plan.rows
        assert rows is not None
        self.repeated = {}
        for v, index in self._spread(needed) if rows.copies > 1 else ():
            name, short = f"rows{v}{self.scope.name}", index.axes[-1][0]
            self.repeated[v, index] = name
            self.text.line(f"{declaration(self.scope.description.buffer(v).dtype, name, rows.width)};")
            self.text.line(f"for (int64_t k = 0; k < {rows.copies}; k++)")
            value = self.scope.value(v).at("j")
            self.text.line(f"    for (int64_t j = 0; j < {short}; j++) {name}[k * {short} + j] = {value};")

    def _write_row(self, needed: list[tuple[int, int]], low: str, high: str) -> None:
        rows = self.plan.rows
        assert rows is not None
        for v, index in self._spread(needed):
            if (v, index) in self.repeated:
                self.places[v, index] = self.repeated[v, index]
                continue
            parts = index.split(rows.width)
            assert parts is not None
            at, name = parts[0].text("r"), f"at{len(self.places)}{self.scope.name}"
            value, kind = self.scope.value(v), c_type(self.scope.description.buffer(v).dtype)
            if parts[1]:
                self.text.line(f"const {kind} *const {name} = {value.address} + ({at});")
            else:
                self.text.line(f"const {kind} {name} = {value.at(at)};")
            self.places[v, index] = name if parts[1] else f"={name}"
        self._open(f"for (int64_t j = {low}; j < {high}; j++) {{")
        self.text.line("const int64_t i = from0 + j;")
        self._statements(needed, 0)
        self.text.close()
        self.places = {}

    # ---- statements ----------------------------------------------------------------------------------------------
    def _operands(self, k: int) -> Iterator[tuple[tuple[int, Index], tuple[_Read, ...] | None]]:
        item = self.items[k]
        assert item.map is not None
        return zip(item.map.operands, item.reads)

    def _needed(self, start: int, end: int) -> list[tuple[int, int]]:
        """The items, each with a shift, of which a segment's elements are computed, in order."""
        needed = {(k, 0) for k in (*self.stored, *self.blocks) if end <= self.run._n(k)}
        for k in range(len(self.items) - 1, -1, -1):
            for shift in [shift for j, shift in needed if j == k]:
                for _, reads in self._operands(k):
                    r = self._read(reads, start + shift)
                    if r is not None and r.maker >= 0:
                        needed.add((r.maker, shift + r.shift))
        return sorted(needed)

    @staticmethod
    def _read(reads: tuple[_Read, ...] | None, i: int) -> _Read | None:
        """Of an operand that the run makes: how its elements from i on are made."""
        return next((r for r in reads or () if r.first <= i < r.last), None)

    def _name(self, k: int, shift: int) -> str:
        moved = f"_{'m' if shift < 0 else 'p'}{abs(shift)}" if shift else ""
        return f"e{self.items[k].step.y}{self.scope.name}{moved}"

    def _statements(self, needed: list[tuple[int, int]], start: int, lanes: bool = True) -> None:
        """What is computed for element i, in a segment that begins at `start`; lanes: in a loop of vectors."""
        text, d = self.text, self.scope.description
        used = set[tuple[int, int]]()
        for k, shift in needed:
            for _, reads in self._operands(k):
                if (r := self._read(reads, start + shift)) is not None:
                    used.add((r.maker, shift + r.shift))
        for k, shift in needed:
            item = self.items[k]
            assert item.map is not None
            values = []
            for (v, index), reads in self._operands(k):
                r = self._read(reads, start + shift)
                if v < 0:
                    values.append("0")
                elif r is None:
                    values.append(self._element(item.step, v, index, shift))
                elif r.maker < 0:
                    values.append(literal(d.buffer(v).dtype.type(0)))
                else:
                    values.append(self._name(r.maker, shift + r.shift))
            b, name = d.buffer(item.step.y), self._name(k, shift)
            expression = self.scope.separate(item.step, item.map.expression(values), lanes=lanes)
            to = [self.stored[k].at("i")] if k in self.stored and not shift else []
            if k in self.blocks and not shift:
                to.append(f"{self.blocks[k]}[i{' - part.from' * self.in_parts}]")
            if len(to) == 1 and (k, shift) not in used:
                text.line(f"{to[0]} = {expression};")
                continue
            text.line(f"const {c_type(b.dtype)} {name} = {expression};")
            for place in to:
                text.line(f"{place} = {name};")

    def _element(self, step: Step, v: int, index: Index, shift: int) -> str:
        """An operand's element; of a number that a function of two operands takes for all elements, one for each."""
        scope = self.scope
        place = self.places.get((v, index))
        is_constant = index.is_constant
        if place is None:
            i = "i" if not shift else f"i {'-' if shift < 0 else '+'} {abs(shift)}"
            element = scope.value(v).at(i if index.is_plain else index.text(f"({i})" if shift else "i"))
        elif place.startswith("="):
            element, is_constant = place[1:], True
        else:
            element = f"{place}[{'j' if self.plan.rows else 'i'}]"
        return for_each(scope, step, v, element) if is_constant and not self.run._is_number(v) else element


def _is_row(index: Index) -> bool:
    """Whether an operand is one row for all rows of the result."""
    return not index.start and len(index.axes) == 2 and index.axes[0][1] == 0 and index.axes[1][1] == 1


def memory_of(scope: Scope, v: int) -> Span:
    """The memory of a buffer."""
    b = scope.description.buffer(v)
    root = scope.description.buffer(b.root)
    start, end = b.shift, b.shift + b.bytes
    if scope.is_in_arena(b.root):
        return "arena", root.offset + start, root.offset + end, b.dtype.itemsize
    return b.root, start, end, b.dtype.itemsize


def meet(x: Span, y: Span) -> bool:
    """Whether two parts of memory have bytes in common."""
    return x[0] == y[0] and x[1] < y[2] and y[1] < x[2]
