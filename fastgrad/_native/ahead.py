"""What the iterations of a scan compute from rows and constants alone, computed for many iterations side by side.

The recurrence of a scan is one long chain of operations that wait for one another. What does not read the carried
values, as the functions that an adjoint evaluates again at the values of the forward pass, need not wait: the loop
is made in blocks of iterations, and each block begins with a loop of vectors over these steps.
"""

from __future__ import annotations

from .description import Step
from .lanes import is_number_of_numbers
from .maps import HUGE, Map, for_each, is_long, map_of
from .scope import Scope, Unwritten
from .values import Value, c_type, declaration

_BLOCKS = (32, 16, 8)  # iterations: as many as the values of a block leave room for
_STACK = 1 << 15  # bytes of these values, at most
_FUNCTIONS = 12  # of a loop of vectors, at most: more take compilers seconds


class Ahead:
    """The steps of a body that are computed ahead, none if that would not pay."""

    def __init__(self, scope: Scope, rows: range, length: int) -> None:
        """`rows`: the inputs that are rows."""
        self.scope, self.rows, self.length = scope, rows, length
        self.steps: dict[int, Step] = {}  # by their numbers
        self.maps: dict[int, Map] = {}
        d = scope.description
        if scope.is_alone or length < _BLOCKS[0]:
            return
        known = {*scope.constants, *rows}
        for group in scope.groups():
            step = d.steps[group[0]]
            if len(group) == 1 and group[0] not in scope.interpreted and self._is_ahead(group[0], step, known):
                self.steps[group[0]] = step
                known.add(step.y)
        later = {d.root(v) for k, step in enumerate(d.steps) if k not in self.steps for v in step.operands if v >= 0}
        later |= {d.root(v) for v in d.outs}
        self.kept = [step.y for step in self.steps.values() if step.y in later]
        row = sum(d.buffer(v).dtype.itemsize for v in self.kept)
        self.block = next((n for n in _BLOCKS if scope.fits(n * row, _STACK)), 0)
        if not self.block or not 0 < sum(is_long(scope, step) for step in self.steps.values()) <= _FUNCTIONS:
            self.steps = {}
        scope.written = set(self.steps)
        scope.text.stack += self.block * row if self.steps else 0

    def __bool__(self) -> bool:
        return bool(self.steps)

    def _is_ahead(self, k: int, step: Step, known: set[int]) -> bool:
        scope, d = self.scope, self.scope.description
        if step.name in HUGE or not is_number_of_numbers(scope, k):
            return False
        if not all(v < 0 or v in known or d.buffer(d.root(v)).data is not None for v in step.operands):
            return False
        try:
            found = map_of(scope, step, in_lanes=True)
        except Unwritten:
            found = None
        if found is None:
            return False
        self.maps[k] = found
        return True

    def write(self, values: list[Value], row: str) -> None:
        """Write the loop over the iterations i of a block; row: of iteration i. `values`: of which rows are taken."""
        scope, text, d = self.scope, self.scope.text, self.scope.description
        for v in self.kept:
            text.line(f"{declaration(d.buffer(v).dtype, f'ahead{v}{scope.name}', self.block)};")
        text.line('_Pragma("omp simd")')
        text.open(f"for (int64_t i = 0; i < n{scope.name}; i++) {{")
        text.line(f"const int64_t row = {row};")
        names: dict[int, str] = {}
        for v in dict.fromkeys(v for step in self.steps.values() for v in step.operands if v in self.rows):
            names[v] = f"row{v}"
            text.line(f"const {c_type(d.buffer(v).dtype)} row{v} = {values[v].at('row')};")
        for k, step in self.steps.items():
            given = [v for v, _ in self.maps[k].operands]
            operands = [
                "0" if v < 0 else names.get(v) or for_each(scope, step, v, scope.value(v).at("0")) for v in given
            ]
            kind, name = c_type(d.buffer(step.y).dtype), f"e{step.y}{scope.name}"
            text.line(f"const {kind} {name} = {scope.separate(step, self.maps[k].expression(operands), lanes=True)};")
            if step.y in self.kept:
                text.line(f"ahead{step.y}{scope.name}[i] = {name};")
            names[step.y] = name
        text.close()
        for v in self.kept:
            b = d.buffer(v)
            scope.places[v] = Value(f"ahead{v}{scope.name}[i{scope.name}]", b.dtype, b.shape, True)
