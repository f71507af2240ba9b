"""The loops that element_loops.py plans, and their text: over segments, rows, or parts of what is summed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from .description import Step
from .maps import LONG, PLACE, Map, for_each, is_long, lanes, place_text
from .scope import Scope
from .values import Index, Value, c_type, declaration, literal

_FEW = 9  # elements that are written one by one, at most


class Piece(NamedTuple):
    """Bytes of a root that a step of the run makes: item number, or -1 for zeros."""

    start: int
    end: int
    maker: int


class Read(NamedTuple):
    """Elements first..last-1 of an operand: element i is made as element i + shift by an item, or -1: it is 0."""

    first: int
    last: int
    maker: int
    shift: int


class Item(NamedTuple):
    """A step of the run: a map of many elements, zeros around a value, the sum of a value, or a map of one element,
    which is computed after the loop."""

    k: int
    step: Step
    map: Map | None = None
    reads: tuple[tuple[Read, ...] | None, ...] = ()  # of each operand that the run makes; None: it is in memory
    zeros: tuple[Piece, ...] = ()
    summed: int = -1  # of a sum: the item whose elements are added, or -1: they are in memory

    @property
    def n(self) -> int:
        """The elements of a map."""
        assert self.map is not None
        return self.map.n

    @property
    def is_loop(self) -> bool:
        return self.map is not None and self.map.n != 1

    @property
    def is_sum(self) -> bool:
        return self.map is None and not self.zeros and self.step.name == "sum"


class Rows(NamedTuple):
    """A loop over rows around one over the elements of each: how long these are, and if operands are rows of fewer
    elements, how often each is repeated in an array of that length."""

    width: int
    copies: int = 1


class Plan(NamedTuple):
    """How the first `n` items are written: which of them are stored, for which shifts of the index each is computed,
    where the segments begin and end, and the rows, if there are any."""

    n: int
    stored: list[int]
    needs: dict[int, dict[int, int]]  # of items: shifts, each with the last item that asks for it
    bounds: list[int]
    rows: Rows | None


def spread_operands(scope: Scope, item: Item) -> Iterator[tuple[int, Index]]:
    """The operands that are read from memory in another way than element by element."""
    assert item.map is not None
    for (v, index), reads in zip(item.map.operands, item.reads):
        if v >= 0 and reads is None and index.divides and not is_number(scope, v):
            yield v, index


def is_number(scope: Scope, v: int) -> bool:
    """Whether a buffer is a constant whose elements are all one number, which the text has."""
    return scope.description.buffer(scope.description.root(v)).data is not None and scope.value(v).single


class Writer:
    """Writes the loops of a plan."""

    def __init__(self, scope: Scope, plan: Plan, items: list[Item], stored: dict[int, Value]) -> None:
        self.plan, self.items, self.stored = plan, items, stored
        self.scope, self.text = scope, scope.text
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
        needed, rows = self._needed(start, end), self.plan.rows
        if not needed:
            return
        if end - start == 1 or self._is_few(needed, end - start):
            self._write_elements(needed, start, end)
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

    def _write_elements(self, needed: list[tuple[int, int]], start: int, end: int) -> None:
        """Write elements one by one."""
        text, first = self.text, len(self.text.lines)
        for i in range(start, end):
            text.open("{")
            text.line(f"const int64_t i = {i};")
            self._statements(needed, start, lanes=self.scope.is_alone)
            text.close()
        if len(text.lines) - first == 4 * (end - start):  # of a single statement each
            written, text.lines[first:] = text.lines[first + 2 :: 4], []
            for i, line in enumerate(written, start):
                text.line(re.sub(r"\bi\b", str(i), line.lstrip()))

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
            if v >= 0 and reads is None and not index.is_constant and not is_number(self.scope, v)
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
        return list(dict.fromkeys(o for k, _ in needed for o in spread_operands(self.scope, self.items[k])))

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
    def _operands(self, k: int) -> Iterator[tuple[tuple[int, Index], tuple[Read, ...] | None]]:
        item = self.items[k]
        assert item.map is not None
        return zip(item.map.operands, item.reads)

    def _needed(self, start: int, end: int) -> list[tuple[int, int]]:
        """The items, each with a shift, of which a segment's elements are computed, in order."""
        needed = {(k, 0) for k in (*self.stored, *self.blocks) if end <= self.items[k].n}
        for k in range(len(self.items) - 1, -1, -1):
            for shift in [shift for j, shift in needed if j == k]:
                for _, reads in self._operands(k):
                    r = self._read(reads, start + shift)
                    if r is not None and r.maker >= 0:
                        needed.add((r.maker, shift + r.shift))
        return sorted(needed)

    @staticmethod
    def _read(reads: tuple[Read, ...] | None, i: int) -> Read | None:
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
                if v == PLACE:
                    values.append(place_text(index, self.plan.rows.width if self.plan.rows else 0, shift))
                elif v < 0:
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
        return for_each(scope, step, v, element) if is_constant and not is_number(self.scope, v) else element
