"""The order in which the groups of a program are written.

Elementwise steps that read what others of as many elements have made become one loop with them, if nothing but steps
that may as well come later is between the two. So a gradient's steps join those of the value that they read, which then
need not be stored, though the gradient of something else is between them.
"""

from __future__ import annotations

from .. import _core
from . import maps
from .element_loops import Span, meet, memory_of
from .scope import Scope

_BACK = 12  # groups that a group is moved over, at most


class _Group:
    """What decides whether a group may change places with another."""

    def __init__(self, scope: Scope, group: range) -> None:
        d = scope.description
        steps = [d.steps[k] for k in group]
        self.group, self.scope = group, scope
        self.is_late = any(step.late for step in steps)
        sizes = {d.buffer(step.y).size for step in steps}
        is_map = all(step.name in _core.ROWS or step.name in maps.MAPS for step in steps)
        self.n = sizes.pop() if is_map and len(sizes) == 1 and group[0] not in scope.interpreted else 0
        self.made = {d.root(step.y) for step in steps}
        self.y = [step.y for step in steps]
        self.operands = [v for step in steps for v in step.operands if v >= 0]
        self.read = {d.root(v) for v in self.operands} - self.made
        self._spans: tuple[list[Span], list[Span]] | None = None

    def spans(self) -> tuple[list[Span], list[Span]]:
        """The memory that is written, and that is read."""
        if self._spans is None:
            d = self.scope.description
            reads = [v for v in self.operands if d.buffer(d.root(v)).data is None]
            self._spans = [memory_of(self.scope, v) for v in self.y], [memory_of(self.scope, v) for v in reads]
        return self._spans

    def commutes(self, other: _Group) -> bool:
        """Whether neither writes what the other reads or writes."""
        (writes, reads), (writes_too, reads_too) = self.spans(), other.spans()
        return not any(meet(x, y) for x in writes for y in (*writes_too, *reads_too)) and not any(
            meet(x, y) for x in reads for y in writes_too
        )


def ordered(scope: Scope) -> list[range]:
    """All groups, each of which may have been moved back behind one that it reads from."""
    found: list[_Group] = []
    groups = scope.groups()
    for i, group in enumerate(groups):
        new = _Group(scope, group)
        if new.is_late:
            return [*(g.group for g in found), *groups[i:]]
        found.insert(_place(found, new), new)
    return [g.group for g in found]


def _place(found: list[_Group], new: _Group) -> int:
    if new.n > 1:
        for at in range(len(found) - 1, max(-1, len(found) - 1 - _BACK), -1):
            other = found[at]
            if other.n == new.n and other.made & new.read:
                return at + 1
            if not new.commutes(other):
                break
    return len(found)
