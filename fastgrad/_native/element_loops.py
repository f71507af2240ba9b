"""Elementwise steps that become one loop over elements, and the sums of what it computes.

The steps of a run are collected first. A value that only they read is a variable of the loop, whatever memory the
interpreter has it in; so is a part of one that is read at another place, as `x[1:] - x[:-1]` and its derivative do: it
is computed again there, if that takes a few instructions. Where an operand ends, or zeros are around it, the loop is
cut into segments, in each of which every element is made in one way. element_text.py writes the loops.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque

import numpy as np

from .description import Step
from .element_text import Item, Piece, Plan, Read, Rows, Writer, spread_operands
from .loads import load_of
from .maps import LONG, Map, is_long, lanes, map_of
from .scope import Scope, Unwritten
from .steps import sum_of_terms
from .values import Index, Value, c_type, declaration

_AGAIN = 8  # steps that may be computed again for an element that is read at another place
_SEGMENTS = 6  # of a loop at most
_LEAF, _LANES = 2048, 64  # longer rows are summed by halves, of a multiple of so many elements (csrc/kernels.h)
_TERMS = 16  # a sum of fewer terms is written out
_ROW = 8  # a loop over the elements of a row is worth it from so many on
_REPEATED = 32  # shorter rows are repeated, to so many elements at least
_BLOCKS = 4  # values that are summed in one loop at most: each takes a block of the stack


Span = tuple[object, int, int, int]  # memory: which, first and last byte in it, and the size of its elements


class ElementLoop:
    """A run of steps. A map of one element between loops is a statement."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.loads: set[int] = set()  # the steps of fused groups, which may fetch elements from several arrays
        self.forget()

    def forget(self) -> None:
        self.items: list[Item] = []
        self.pieces: dict[int, list[Piece]] = {}  # of roots that items make
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
        self.loads.update(group)
        if all(self._join(k, steps[k]) for k in group) and self._can_be_together():
            self.safe = len(self.items)
            return True
        del self.items[items:]
        self.late, self.pieces = late, pieces
        return False

    def _join(self, k: int, step: Step) -> bool:
        if step.name == "unslice":
            if self._join_zeros(k, step):
                return True
            if k not in self.loads:
                return False
        if step.name == "sum":
            return self._join_sum(k, step)
        m = map_of(self.scope, step) or (load_of(self.scope, step) if k in self.loads else None)
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
        item = Item(k, step, m, tuple(reads for _, reads in found))
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
        return self._add_pieces(b.root, [Piece(b.shift, b.shift + b.bytes, maker)])

    def _add_pieces(self, root: int, new: list[Piece]) -> bool:
        known = self.pieces.get(root, [])
        if any(p.start < q.end and q.start < p.end for p in new for q in known):
            return False
        self.pieces[root] = sorted([*known, *new])
        return True

    def _reads(self, v: int, index: Index, n: int) -> tuple[bool, tuple[Read, ...] | None]:
        """Whether an operand can be read in the loop; and if the run makes it, how its n elements are made."""
        d = self.scope.description
        b, known = d.buffer(v), self.pieces.get(self._root(v))
        if known is None:
            return True, None
        if not index.is_plain or b.size != n:
            return False, None
        reads, at, size = list[Read](), b.shift, b.dtype.itemsize
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
            reads.append(Read((at - b.shift) // size, (end - b.shift) // size, p.maker, shift))
            at = end
        if at < b.shift + b.bytes or not self._is_cheap(reads):
            return False, None
        return True, tuple(reads)

    def _is_cheap(self, reads: list[Read]) -> bool:
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
        zeros = tuple(Piece(start, end, -1) for start, end in ends if end > start)
        if (x.shift - y.shift) % size or not self._add_pieces(y.root, list(zeros)):
            return False
        self.items.append(Item(k, step, zeros=zeros))
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
        self.items.append(Item(k, step, summed=maker))
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
            self.items.append(Item(k, step, m))
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
    def _plan(self, n: int) -> Plan:
        """How to write as many of the first n items as can be written together. Unwritten if not even those that have
        to be can."""
        while True:
            found = self._plan_of(n)
            if isinstance(found, Plan):
                return found
            if n <= max(self.safe, 1):
                raise Unwritten
            n = max(self.safe, 1, min(found, n - 1))

    def _can_be_together(self) -> bool:
        with contextlib.suppress(Unwritten):
            return self._plan(len(self.items)).n == len(self.items)
        return False

    def _plan_of(self, n: int) -> Plan | int:
        """How to write the first n items; or how many fewer to try."""
        items = self.items[:n]
        stored = self._stored(items)
        targets = sorted({*stored, *(item.summed for item in items if item.summed >= 0)})
        needs: dict[int, dict[int, int]] = {k: {0: k} for k in targets}
        bounds = {0, *(self.items[k].n for k in targets)}
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
        most = max((self.items[k].n for k in targets), default=0)
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
        return Plan(n, stored, needs, ends, rows) if fewer is None else fewer

    def _first_spread(self, items: list[Item], needs: dict[int, dict[int, int]]) -> int | None:
        return len(items) - 1 if any(self._is_spread(items[k]) for k in needs) else None

    def _rows(
        self, items: list[Item], needs: dict[int, dict[int, int]], long: list[int], n: int
    ) -> tuple[Rows | None, int | None]:
        """The rows of a loop, or how many items to write together instead."""
        spread = sorted(k for k in needs if self._is_spread(items[k]))
        width = self._width([items[k] for k in spread]) if spread else 0
        if width < 0 and len(spread) > 1 and self._width([items[spread[0]]]) >= 0:
            return None, spread[-1]
        if width <= 0:
            return None, None
        vector = lanes() * 8 // max(self.scope.description.buffer(items[k].step.y).dtype.itemsize for k in needs)
        rows = Rows(width)
        only_rows = all(_is_row(index) for k in spread for _, index in spread_operands(self.scope, items[k]))
        if only_rows and width < _REPEATED and width % vector:
            rows = Rows(width, vector // math.gcd(vector, width))
            while rows.width * rows.copies < _REPEATED:
                rows = rows._replace(copies=2 * rows.copies)
            rows = Rows(min(width * rows.copies, n), min(rows.copies, n // width))
        elif width < _ROW:
            return None, None
        if long and (rows.width % vector or n % rows.width % vector):
            # Functions are to be computed in whole vectors. A step alone finds its operands by quotients.
            return None, max(spread[-1], long[0]) if len(items) > 1 else None
        return rows, None

    def _stored(self, items: list[Item]) -> list[int]:
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

    def _conflict(self, items: list[Item], stored: list[int], needs: dict[int, dict[int, int]]) -> int | None:
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
    def _is_spread(self, item: Item) -> bool:
        return any(True for _ in spread_operands(self.scope, item))

    def _width(self, items: list[Item]) -> int:
        """The width of rows in which these steps find their operands without quotients; 0: they find them so anyway;
        -1: there is none."""
        indices = [index for item in items for _, index in spread_operands(self.scope, item)]
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
        pending = deque[Item]()
        while True:
            while pending and self._join(pending[0].k, pending[0].step):
                pending.popleft()
            if not self.items and not pending:
                return
            if not self.items:
                self._write_alone(pending.popleft())
                continue
            plan = self._plan(len(self.items))
            left = self.items[plan.n :]
            self._write(plan)
            self.forget()
            pending.extendleft(reversed(left))

    def _write_alone(self, item: Item) -> None:
        """Write a step that can be part of a run, but not begin one, as a sum of what is in memory."""
        try:
            self.scope.text.writers[item.step.name](self.scope, item.k, item.step)
        except Unwritten:
            if self.scope.is_alone:
                raise
            self.scope.fail(range(item.k, item.k + 1))

    def _write(self, plan: Plan) -> None:
        items, scope, text = self.items[: plan.n], self.scope, self.scope.text
        stored = {k: scope.result(items[k].step.y) for k in plan.stored}
        roots = {self._root(items[k].step.y) for k in plan.stored}
        for item in items:
            if item.zeros and self._is_zeroed(item, items, roots):
                self._write_zeros(item)
        sums = [item for item in items if item.is_sum]
        totals = {item.k: scope.result(item.step.y) for item in sums}
        writer = Writer(self.scope, plan, items, stored)
        if sums:
            text.open("{")
            self._write_sums(writer, sums, totals)
            text.close()
        elif plan.needs:
            writer.write(0, plan.bounds[-1])
        for item in items:
            if item.map is not None and not item.is_loop:
                self._define(item.step, item.map)

    def _is_zeroed(self, item: Item, items: list[Item], roots: set[int]) -> bool:
        """Whether zeros have to be in memory, where these items are written together."""
        root = self._root(item.step.y)
        inside = {other.k for other in items if other.map is None or other.is_loop}
        outs = {self._root(v) for v in self.scope.description.outs}
        readers = inside.issuperset(self.scope.readers.get(root, ()))
        return root in roots or not self.scope.is_private(root) or root in outs or not readers

    def _write_zeros(self, item: Item) -> None:
        y, result = self.scope.description.buffer(item.step.y), self.scope.result(item.step.y)
        for piece in item.zeros:
            start, n = ((x // y.dtype.itemsize) for x in (piece.start - y.shift, piece.end - piece.start))
            at = result.at(f"{start} + i" if start else "i")
            self.scope.text.line(f"for (int64_t i = 0; i < {n}; i++) {at} = 0;")

    def _write_sums(self, writer: Writer, sums: list[Item], totals: dict[int, Value]) -> None:
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
