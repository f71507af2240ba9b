"""A program as C that needs neither the interpreter nor its kernels: where its values are.

Inputs and outputs are arguments of the function. Small values are local variables, all others parts of a workspace,
which has an array for each type, so that no memory is read as another type than it was written as.
"""

from __future__ import annotations

import numpy as np

from .description import Buffer, Step
from .scope import Block, Scope, Unwritten, part_of
from .values import Value, c_type, declaration, literal

LOCAL_BYTES = 256  # larger values are in the workspace,
STACK_BYTES = 4096  # and all when local variables take so much
_KEPT = 1 << 60  # later than any step
_LINE = 100  # characters of a line of numbers
BAD_INDEX = "return 1;"


class Pool:
    """The part of the workspace that has one type: which elements are free."""

    def __init__(self) -> None:
        self.size = 0
        self.free: list[tuple[int, int]] = []  # (first, number), in order

    def take(self, n: int) -> int:
        for i, (first, length) in enumerate(self.free):
            if length >= n:
                self.free[i : i + 1] = [(first + n, length - n)] if length > n else []
                return first
        first = self.size
        if self.free and sum(self.free[-1]) == self.size:
            first = self.free.pop()[0]
        self.size = first + n
        return first

    def give(self, first: int, n: int) -> None:
        joined: list[tuple[int, int]] = []
        for start, length in sorted([*self.free, (first, n)]):
            if joined and sum(joined[-1]) == start:
                joined[-1] = joined[-1][0], joined[-1][1] + length
            else:
                joined.append((start, length))
        self.free = joined


class Workspace:
    """The pools of a program."""

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}

    def take(self, dtype: np.dtype, n: int) -> tuple[str, int, int]:
        """Which pool, the first element, and how many."""
        name = f"of_{c_type(dtype).removesuffix('_t')}"
        return name, self.pools.setdefault(name, Pool()).take(n), n

    def give(self, part: tuple[str, int, int]) -> None:
        self.pools[part[0]].give(*part[1:])


class StandaloneBlock(Block):
    """The results of a loop or branch, each of which is an array of its own."""

    def __init__(self, scope: StandaloneScope, k: int, step: Step) -> None:
        self.scope, self.program, self.k, self.root = scope, scope.description.program, k, step.y
        self.pieces = scope.pieces.setdefault(step.y, [])

    def array(self, j: int, b: Buffer, rows: int, first: int = 0) -> str:
        offset = self.program.result_offset(self.k, j) - first * b.bytes
        return self._piece(j, offset, b.dtype, (rows, *b.shape)).address

    def final(self, j: int, like: Value) -> Value:
        return self._piece(j, self.program.result_offset(self.k, j), like.dtype, like.shape)

    def _piece(self, j: int, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> Value:
        found = next((value for start, value in self.pieces if start == offset), None)
        if found is None:
            found = self.scope.memory(f"r{self.k}_{j}{self.scope.name}", dtype, shape, self.root)
            self.pieces.append((offset, found))
        return found


class StandaloneScope(Scope):
    """A program, or a body."""

    constant_bytes = _KEPT
    is_alone = True
    workspace: Workspace  # of the program
    states: list[np.ndarray]  # of the generators that the program draws from

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.pieces: dict[int, list[tuple[int, Value]]] = {}  # of blocks of results: (byte, where they are)
        self.taken: list[tuple[int, tuple[str, int, int]]] = []  # parts of the workspace, and the roots in them
        self.inside: list[StandaloneScope] = []  # bodies that have been written
        self.used_until: dict[int, int] = {}
        d = self.description
        for k, step in enumerate(d.steps):
            for v in (step.y, *step.operands):
                if v >= 0:
                    self.used_until[d.root(v)] = k
        self.used_until |= dict.fromkeys(map(d.root, d.outs), _KEPT)
        if self.around is None:
            self.workspace, self.states = Workspace(), []
        else:
            outer = self.around[0]
            assert isinstance(outer, StandaloneScope)
            self.workspace, self.states = outer.workspace, outer.states
            outer.inside.append(self)

    def groups(self) -> list[range]:
        return [range(k, k + 1) for k in range(len(self.description.steps))]

    def separate(self, step: Step, expression: str, lanes: bool = False) -> str:
        return expression

    def block(self, k: int, step: Step) -> Block:
        return StandaloneBlock(self, k, step)

    def is_in_arena(self, v: int) -> bool:
        return False

    def is_private(self, v: int) -> bool:
        return v not in self.shared

    def is_local(self, v: int) -> bool:
        low, high = self.extent[self.description.root(v)]
        return self.description.root(v) not in self.shared and high - low <= LOCAL_BYTES

    def _count_uses(self) -> None:
        super()._count_uses()
        d = self.description
        # What is no output by itself, but copied to one, may be a local variable.
        self.shared = {v for v in self.shared if d.buffer(v).output >= 0 or self.extent[v][1] > LOCAL_BYTES}

    # ---- where values are ----------------------------------------------------------------------------------------
    def value(self, v: int) -> Value:
        b = self.description.buffer(v)
        if b.root in self.pieces:
            starts = [(start, value) for start, value in self.pieces[b.root] if start <= b.shift]
            start, value = max(starts, key=lambda piece: piece[0])
            return part_of(value, b.shift - start, b.dtype, b.shape)
        return super().value(v)

    def refuse_index(self, name: str, index: str, at: str, length: int) -> str:
        return BAD_INDEX

    def state(self, v: int) -> str:
        """The state of a generator, which draws advance: an argument of the function."""
        d = self.description
        states = d.program.random_states()  # those of the program's own values, in their order, come first
        addresses = [state.__array_interface__["data"][0] for state in states]
        own = [k for k, b in enumerate(d.buffers) if b is not None and k >= d.n_in and self._is_state(k, b)]
        if len(set(addresses)) > 1 and len(own) > len(states):
            raise Unwritten
        i = own.index(d.root(v)) if len(set(addresses)) > 1 else 0
        known = [state.__array_interface__["data"][0] for state in self.states]
        if addresses[i] not in known:
            self.states.append(states[i])
            known.append(addresses[i])
        return f"state{known.index(addresses[i])}"

    def _is_state(self, v: int, b: Buffer) -> bool:
        return b.root == v and b.data is None and b.dtype == np.uint64 and v in self.readers and v not in self.writers

    def result(self, v: int) -> Value:
        b = self.description.buffer(v)
        if b.root in self.places or b.root in self.pieces:
            return self.value(v)
        low, high = self.extent[b.root]
        root = self.description.buffer(b.root)
        small = 0 < high - low <= LOCAL_BYTES and self.text.stack + high - low <= STACK_BYTES
        if small and b.root not in self.shared:
            self._declare(b.root)
        else:
            itemsize = root.dtype.itemsize
            whole = self.memory(f"w{b.root}{self.name}", root.dtype, ((high - low) // itemsize,), b.root)
            start = -low // itemsize
            text = f"({whole.address} + {start})" if start else whole.text
            self.places[b.root] = Value(text, root.dtype, root.shape, whole.single)
        return self.value(v)

    def _memory(self, v: int) -> Value:
        return self.result(v)

    def memory(self, name: str, dtype: np.dtype, shape: tuple[int, ...], root: int = -1) -> Value:
        """A part of the workspace, until the last use of a root, or, without one, until the end of the scope."""
        n = int(np.prod(shape, dtype=np.int64))
        self.taken.append((root, part := self.workspace.take(dtype, max(n, 1))))
        start = f" + {part[1]}" if part[1] else ""
        self.text.declare(f"{c_type(dtype)} *const {name} = workspace->{part[0]}{start};")
        return Value(f"{name}[0]" if n == 1 else name, dtype, shape, n == 1)

    def release(self, before: int) -> None:
        for body in self.inside:
            body.release(_KEPT + 1)
        self.inside.clear()
        for root, part in self.taken[:]:
            if self.used_until.get(root, _KEPT if root < 0 else before) < before:
                self.taken.remove((root, part))
                self.workspace.give(part)

    def array(self, name: str, b: Buffer) -> Value:
        if b.bytes <= LOCAL_BYTES and b.size and self.text.stack + b.bytes <= STACK_BYTES:
            return super().array(name, b)
        return self.memory(name, b.dtype, b.shape)

    def _constant(self, v: int, b: Buffer, root: Buffer) -> Value:
        elements = np.frombuffer(root.data or b"", root.dtype)
        bits = elements.view(f"V{root.dtype.itemsize}")
        if root.size and (bits == bits[0]).all():
            return Value(literal(elements[0]), b.dtype, b.shape, True)
        if v != b.root:
            return part_of(self.value(b.root), b.shift, b.dtype, b.shape)
        name = f"const{v}{self.name}"
        lines, line = list[str](), ""
        for number in map(literal, elements):
            if len(line) + len(number) > _LINE:
                lines.append(line.rstrip())
                line = ""
            line += f"{number}, "
        numbers = "\n        ".join([*lines, line.rstrip(", ")]) or "0"
        self.text.declare(f"static const {declaration(b.dtype, name, max(b.size, 1))} = {{\n        {numbers}}};")
        return Value(f"{name}[0]" if b.size == 1 else name, b.dtype, b.shape, b.size == 1)

    def function(self, step: Step, in_lanes: bool = False) -> str:
        self.statements.clear()  # the compiler decides what it inlines
        return super().function(step, in_lanes)
