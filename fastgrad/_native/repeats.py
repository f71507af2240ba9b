"""Pieces of a text that recur become functions, which are called in their place; so do loops that call long functions.

The text of a program that does the same for each link of an arm, or each layer of a network, has the same loops many
times, of other variables. One function for all of them is compiled once, and its machine code stays in the processor's
cache. Moreover a compiler's time grows faster than the length of a function: so each loop over elements that calls
functions of vecmath.h, whose texts are long, is a function of its own.

A piece is a loop, a block, or neighbouring assignments to elements of one array. Its text is looked at by regular
expressions, which know how the other modules of this package write: a statement a line, what is within it indented
further. A piece that may be more than they can see is left as it is: one that leaves the function, reads a name without
a plain declaration, passes an array on, or changes anything but elements and numbers.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .. import _core
from .maps import calls_long_functions
from .values import TYPES

_SAVED, _SAVED_IN_LOOPS = 500, 5000  # characters of text: where fewer would be saved, pieces stay as they are
_PARAMETERS = 16  # of a function at most
_LINES = 60  # of a piece at most
_SHORT = 150  # characters: shorter assignments take no more time than a call

_TYPE = rf"(?:(?:static|const|_Alignas\(64\)) )*({'|'.join(TYPES.values())}) "
_DECLARATION = re.compile(rf"\b{_TYPE}(?=\w|\*const \w|\*\w)([^;{{}}]*)")
_DECLARATOR = re.compile(r"\s*(\*const |\*)?(\w+)\b(\[[^\]]*\])?(?!\[)")
_NAME = re.compile(r"(?<![\w.>])[A-Za-z_]\w*\b(?!\()")
_ELEMENT = re.compile(r"(?:for \(int64_t i = 0; i < \d+; i\+\+\) )?(\w+)\[[^\[\]]*\] = ")
_CALL = re.compile(r"\w+(?=\()")
_SIMD = '_Pragma("omp simd")'
_KEYWORDS = {"for", "if", "else", "const", "static", "_Alignas", *TYPES.values()}
_LOOP = re.compile(r"for \([^;]*;[^;]*;[^)]*\)")
_ASSIGNMENT = re.compile(r"(?:^|[;{}]) *([^;{}=\n]*) [-+]?=(?: |$)", re.MULTILINE)
_TARGET = re.compile(r"(?:\((?:\(\w+ \*\)\(?)?(\w+)(?: \+ \d+)?\)*|(\w+))(?:\[.*\])?")
# What leaves the function, or may change more than can be seen.
_LEAVES = re.compile(r"\b(?:return|break|continue|status|s|f|part)\b|[&\"]|--|[*/|^%]=|\b(?:product\d+\(|tile_|mem)")
# A name of which no element is taken: of an array, it is passed on to what may write to it.
_WHOLE = re.compile(r"(?<![\w.>])([A-Za-z_]\w*)\b(?!\(|(?: \+ \d+)?\)*\[)")
_HIDES = re.compile(r"\b(?:SEPARATE_LANES|EACH)_")  # macros that read no_bits (csrc/kernels/rows.h)


class _Kind(NamedTuple):
    """How a variable is declared."""

    type: str
    is_pointer: bool  # or an array
    is_array: bool


class _Piece(NamedTuple):
    """Lines first..last-1; the text of a function that does what they do, named `piece`; and what it is called with."""

    first: int
    last: int
    function: str
    arguments: list[str]
    is_long: bool  # whether it is a loop that calls functions of vecmath.h


@functools.cache
def _long_functions() -> set[str]:
    """The functions of csrc/kernels/rows.h that have those of vecmath.h in them."""
    found = set[str]()
    for name, row in _core.ROWS.items():
        slopes = ["_vjp"] if row["arity"] == 1 else ["_da", "_db"]
        for ending, text in zip(["", *slopes], [row["definition"], *row["derivatives"]]):
            if calls_long_functions(text):
                found |= {f"{name}{ending}_f32", f"{name}{ending}_f64"}
    return found


def shared(lines: list[str], top: list[str]) -> tuple[list[str], list[str]]:
    """The lines of a function, with calls in the place of pieces, and the functions that are called. ``top`` has the
    declarations before the lines."""
    kinds = _kinds([*top, *lines])
    functions: dict[str, int] = {}
    chosen = list[_Piece]()
    waiting = [(0, len(lines), False)]  # parts of the text, and whether they are in loops
    while waiting:
        found = [(*piece, in_loop) for first, last, in_loop in waiting for piece in _pieces(lines, first, last)]
        known = {piece: _as_function(lines, *piece[:2], kinds) for piece in found}
        counts = Counter(made.function for made in known.values() if made)
        waiting = []
        for (first, last, in_loop), made in known.items():
            if made is not None and _is_worth_it(made, counts[made.function], in_loop):
                chosen.append(made)
                continue
            first += 1 + lines[first].lstrip().startswith(_SIMD)
            if last > first:
                waiting.append((first, last, in_loop or "for (" in lines[first - 1]))
    out, at = list[str](), 0
    for piece in sorted(chosen):
        number = functions.setdefault(piece.function, len(functions))
        indent = lines[piece.first][: _indent(lines[piece.first])]
        out += [*lines[at : piece.first], f"{indent}piece{number}({', '.join(piece.arguments)});"]
        at = piece.last
    return out + lines[at:], [function.replace("piece(", f"piece{i}(", 1) for function, i in functions.items()]


def _is_worth_it(piece: _Piece, count: int, in_loop: bool) -> bool:
    """Whether so much text is saved that the time of the calls, which counts in loops, does not matter."""
    return piece.is_long or (count - 1) * len(piece.function) >= (_SAVED_IN_LOOPS if in_loop else _SAVED)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _declared(text: str) -> Iterator[tuple[str, _Kind]]:
    """The variables that a text declares. An initial value may have commas within parentheses."""
    for found in _DECLARATION.finditer(text):
        depth, start = 0, 0
        declarators = found[2] + ","
        for i, letter in enumerate(declarators):
            depth += (letter in "([") - (letter in ")]")
            if depth < 0:
                break
            if letter == "," and not depth:
                if made := _DECLARATOR.match(declarators, start):
                    yield made[2], _Kind(found[1], bool(made[1] or made[3]), bool(made[3]))
                start = i + 1


def _kinds(lines: list[str]) -> dict[str, _Kind | None]:
    """How the variables of a text are declared; None: in several ways."""
    kinds: dict[str, _Kind | None] = {}
    for line in lines:
        for name, made in _declared(line):
            kinds[name] = made if kinds.get(name, made) == made else None
    return kinds


def _pieces(lines: list[str], first: int, last: int) -> list[tuple[int, int]]:
    """The first and last lines of the statements between two lines that may be pieces, or have such within."""
    found, i = list[tuple[int, int]](), first
    while i < last:
        if _goes_on(lines[i], _indent(lines[i])):  # the statement is looked into
            i += 1
            continue
        target, end = _target(lines[i]), _end(lines, i, last)
        if target:
            while end < last and _target(lines[end]) == target and _indent(lines[end]) == _indent(lines[i]):
                end += 1
        if target or end > i + 1:
            found.append((i, end))
        i = end
    return found


def _target(line: str) -> str:
    """The array that an assignment, or a loop over one, in a single line writes to."""
    found = _ELEMENT.match(line.lstrip())
    return found[1] if found and line.endswith(";") else ""


def _end(lines: list[str], i: int, last: int) -> int:
    """The line after a statement that begins in line i: what is in it is indented further. A condition has both of its
    branches in it."""
    depth, end = _indent(lines[i]), i + 1 + lines[i].lstrip().startswith(_SIMD)
    while end < last and (not lines[end] or _indent(lines[end]) > depth or _goes_on(lines[end], depth)):
        end += 1
    return end


def _goes_on(line: str, depth: int) -> bool:
    """Whether a line belongs to the statement before it, which has such a depth."""
    return _indent(line) == depth and line.lstrip().startswith(("}", "else"))


def _as_function(lines: list[str], first: int, last: int, kinds: dict[str, _Kind | None]) -> _Piece | None:
    """A piece as a call; None if it cannot be one, or is not worth it."""
    if last - first > _LINES:
        return None
    depth = _indent(lines[first])
    body = "\n".join("    " + line[depth:] for line in lines[first:last])
    plain = body.replace(_SIMD, "")
    if ("for (" not in body and len(body) < _SHORT) or _LEAVES.search(plain):
        return None
    within = [name for name, _ in _declared(plain)]
    names = [name for name in dict.fromkeys(_NAME.findall(plain)) if not name.isupper()]  # macros are
    names = [name for name in names if not (name in within or name in _KEYWORDS)]
    written = _written(plain, within)
    if written is None or len(names) > _PARAMETERS or not all(kinds.get(name) for name in names):
        return None
    given = {name: kind for name in names if (kind := kinds[name])}
    if any(name in given and given[name].is_pointer for name in _WHOLE.findall(plain)):
        return None
    restrict = "restrict " * all(kind.is_array or not kind.is_pointer for kind in given.values())
    renamed, parameters, arguments = dict[str, str](), list[str](), list[str]()
    for i, (name, kind) in enumerate(given.items()):
        is_result = name in written and not kind.is_pointer
        letter = f"{'y' if name in written else 'x'}{i}"
        renamed[name] = f"{letter}[0]" if is_result else letter
        pointer = f"*{restrict}" if kind.is_pointer or is_result else ""
        parameters.append(f"{'const ' * bool(pointer and name not in written)}{kind.type} {pointer}{letter}")
        arguments.append("&" * is_result + name)
    for name in within:  # which differ from one piece to the next
        renamed.setdefault(name, name if len(name) == 1 else f"z{len(renamed)}")
    body = _NAME.sub(lambda found: renamed.get(found[0], found[0]), body)
    if _HIDES.search(body):
        body = f"    const uint64_t no_bits = NO_BITS;\n{body}"
    head = f"static __attribute__((noinline)) void piece({', '.join(parameters)})"
    is_long = "{\n" in body and not _long_functions().isdisjoint(_CALL.findall(body))
    return _Piece(first, last, f"{head}\n{{\n{body}\n}}\n\n", arguments, is_long)


def _written(body: str, within: list[str]) -> set[str] | None:
    """The arrays and numbers that a piece writes to; None if it may write to anything else."""
    written = set[str]()
    for target in _ASSIGNMENT.findall(_LOOP.sub("\n", body)):
        found = _TARGET.fullmatch(target)
        if found:
            written.add(found[1] or found[2])
        elif not _DECLARATION.match(target):
            return None
    return written.difference(within)
