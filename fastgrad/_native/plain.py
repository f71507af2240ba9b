"""The C functions that an exported program calls, each with all macros expanded.

The texts are those of the kernels (csrc/kernels/plain.h and what it includes). A small preprocessor expands them for a
plain processor, which takes some tenths of a second, once; of the result a program gets the functions that it calls,
and those that these call.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .compiler import include_directory

_TOKEN = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[A-Za-z_]\w*|\.?\d(?:[eEpP][+-]|[\w.])*|##|\.\.\.|\s+|[^\w\s]', re.ASCII
)
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|/\*.*?\*/|//[^\n]*', re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
# Compilers' own words, which standard C does not have.
_BEFORE = "#define __attribute__(x)\n#define _Pragma(x)\n#define _Alignas(x)\n#define __builtin_fma fma\n"

_Hidden = frozenset[str]
_Token = tuple[str, _Hidden]  # the text, and the macros that are not expanded in it


class _Macro(NamedTuple):
    parameters: list[str] | None  # None: it takes none, not even parentheses
    body: list[str]

    @property
    def is_variadic(self) -> bool:
        return bool(self.parameters) and self.parameters[-1] == "__VA_ARGS__"  # type: ignore[index]


class _Preprocessor:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.macros: dict[str, _Macro] = {}
        self.out: list[str] = []

    def run(self, text: str, here: Path) -> None:
        """Expand a text that stands in this directory."""
        text = _COMMENT.sub(lambda m: m.group(1) or " ", text.replace("\\\n", " "))
        taken: list[bool] = []  # of each open #if: whether one of its branches has been
        active: list[bool] = []  # ... and whether the present one is
        waiting: list[str] = []
        for line in text.split("\n"):
            stripped = line.strip()
            if not stripped.startswith("#"):
                if all(active):
                    waiting.append(line)
                continue
            word, _, rest = stripped[1:].strip().partition(" ")
            if word in ("if", "ifdef", "ifndef"):
                condition = {"if": rest, "ifdef": f"defined {rest}", "ifndef": f"!defined {rest}"}[word]
                holds = all(active) and self._holds(condition)
                taken.append(holds)
                active.append(holds)
            elif word in ("else", "elif"):
                active[-1] = not taken[-1] and (word == "else" or self._holds(rest))
                taken[-1] = taken[-1] or active[-1]
            elif word == "endif":
                taken.pop()
                active.pop()
            elif all(active):
                self._flush(waiting)
                self._directive(word, rest.strip(), here)
        self._flush(waiting)

    def _flush(self, lines: list[str]) -> None:
        if lines:
            tokens = [(t, frozenset[str]()) for t in _TOKEN.findall("\n".join(lines) + "\n")]
            self.out += [text for text, _ in self._expanded(tokens)]
            lines.clear()

    def _holds(self, condition: str) -> bool:
        text = re.sub(r"defined\s*\(?\s*(\w+)\s*\)?", lambda m: str(m.group(1) in self.macros), condition)
        text = text.replace("&&", " and ").replace("||", " or ").replace("!", " not ")
        if not re.fullmatch(r"(?:True|False|and|or|not|[()\s])*", text):
            raise ValueError(f"a condition that is not understood: {condition}")
        return bool(eval(text, {"__builtins__": {}}))

    def _directive(self, word: str, rest: str, here: Path) -> None:
        if word == "define":
            self._define(rest)
        elif word == "undef":
            self.macros.pop(rest, None)
        elif word == "include" and rest.startswith('"'):
            path = next(p for p in (here / rest[1:-1], self.root / rest[1:-1]) if p.is_file())
            self.run(path.read_text(encoding="utf-8"), path.parent)

    def _define(self, text: str) -> None:
        found = re.match(r"(\w+)(\([^)]*\))?(.*)", text, re.DOTALL)
        assert found is not None
        name, parameters, body = found.groups()
        names = None
        if parameters is not None:
            names = [p.strip() for p in parameters[1:-1].split(",") if p.strip()]
            names = ["__VA_ARGS__" if p == "..." else p for p in names]
        self.macros[name] = _Macro(names, _TOKEN.findall(body.strip()))

    def _expanded(self, tokens: list[_Token]) -> list[_Token]:
        """The tokens with all macros expanded, by D. Prosser's algorithm with sets of hidden names."""
        stack, done = tokens[::-1], []
        while stack:
            text, hidden = stack.pop()
            macro = self.macros.get(text)
            if macro is None or text in hidden:
                done.append((text, hidden))
                continue
            if macro.parameters is None:
                made = self._substituted(macro, {}, hidden | {text})
            else:
                ahead = len(stack)
                while ahead and stack[ahead - 1][0].isspace():
                    ahead -= 1
                if not ahead or stack[ahead - 1][0] != "(":
                    done.append((text, hidden))
                    continue
                del stack[ahead - 1 :]
                arguments, closing = _arguments(stack)
                named = _named(macro, arguments)
                made = self._substituted(macro, named, (hidden & closing) | {text})
            stack += made[::-1]
        return done

    def _substituted(self, macro: _Macro, arguments: dict[str, list[_Token]], hidden: _Hidden) -> list[_Token]:
        body, made = macro.body, list[_Token]()
        i = 0
        while i < len(body):
            text = body[i]
            following = next((k for k in range(i + 1, len(body)) if not body[k].isspace()), None)
            if text == "##":
                while made and made[-1][0].isspace():
                    made.pop()
                assert following is not None
                right = arguments.get(body[following], [(body[following], frozenset())])
                right = [t for t in right if not t[0].isspace()]
                if right and made:
                    made[-1] = (made[-1][0] + right[0][0], made[-1][1])
                    made += right[1:]
                i = following + 1
                continue
            if text == "#" and following is not None and body[following] in arguments:
                made.append(('"' + "".join(t for t, _ in arguments[body[following]]) + '"', frozenset()))
                i = following + 1
                continue
            if text in arguments:
                pasted = following is not None and body[following] == "##"
                made += arguments[text] if pasted else self._expanded(arguments[text])
            else:
                made.append((text if not text.isspace() else " ", frozenset()))
            i += 1
        return [(text, own | hidden) for text, own in made]


def _arguments(stack: list[_Token]) -> tuple[list[list[_Token]], _Hidden]:
    """What stands between the parentheses of a call, the first of which has been taken, split at commas."""
    arguments: list[list[_Token]] = [[]]
    depth = 0
    while True:
        text, hidden = stack.pop()
        if text == ")" and not depth:
            return [_stripped(a) for a in arguments], hidden
        depth += (text in "([{") - (text in ")]}")
        if text == "," and not depth:
            arguments.append([])
        else:
            arguments[-1].append((text, hidden))


def _stripped(tokens: list[_Token]) -> list[_Token]:
    first = next((i for i, t in enumerate(tokens) if not t[0].isspace()), len(tokens))
    last = next((i for i in range(len(tokens), first, -1) if not tokens[i - 1][0].isspace()), first)
    return [(" " if text.isspace() else text, hidden) for text, hidden in tokens[first:last]]


def _named(macro: _Macro, arguments: list[list[_Token]]) -> dict[str, list[_Token]]:
    names = macro.parameters or []
    if macro.is_variadic:
        fixed, rest = arguments[: len(names) - 1], arguments[len(names) - 1 :]
        comma = [(",", frozenset[str]()), (" ", frozenset[str]())]
        joined = [t for k, a in enumerate(rest) for t in comma * (k > 0) + a]
        return dict(zip(names, [*fixed, joined]))
    return dict(zip(names, arguments))


class _Item(NamedTuple):
    text: str
    uses: frozenset[str]


@functools.cache
def _items() -> dict[str, _Item]:
    """All functions, types and tables by name, in the order of the texts."""
    root = include_directory()
    preprocessor = _Preprocessor(root)
    preprocessor.run(_BEFORE, root)
    path = root / "kernels" / "plain.h"
    preprocessor.run(path.read_text(encoding="utf-8"), path.parent)
    found: dict[str, _Item] = {}
    for text in _split("".join(preprocessor.out)):
        item = _Item(_laid_out(text), frozenset(re.findall(r"[A-Za-z_]\w*", text)))
        for name in _names(text):
            found.setdefault(name, item)
    return found


def _split(text: str) -> list[str]:
    """The declarations and functions of a text."""
    items, start, depth = [], 0, 0
    for m in re.finditer(r"[{}();]", text):
        c = m.group()
        depth += (c in "({") - (c in ")}")
        whole = text[start : m.end()]
        if depth or c in "({)":
            continue
        if c == "}" and (re.match(r"\s*(?:typedef|enum)\b", whole) or re.search(r"=\s*\{", whole.partition("(")[0])):
            continue  # what it declares is still to come
        items.append(whole.strip())
        start = m.end()
    return items


def _names(text: str) -> list[str]:
    if text.startswith("typedef"):
        return re.findall(r"(\w+)\s*;\Z", text)
    if text.startswith("enum"):
        return re.findall(r"[{,]\s*(\w+)", text)
    head = re.match(r"[^({=\[]*?(\w+)\s*[({=\[]", text)
    return [head.group(1)] if head and (text.endswith("}") or "=" in text) else []


def _laid_out(text: str) -> str:
    """In lines of at most 120 characters, without empty ones."""
    lines = []
    for whole in text.split("\n"):
        whole = re.sub(r"(?<=\S) +", " ", whole.rstrip())
        for line in _statements(whole) if len(whole) > 120 else [whole]:
            indent = line[: len(line) - len(line.lstrip())] + "    "
            while len(line) > 120 and (cut := line.rfind(" ", len(indent) + 1, 120)) > 0:
                lines.append(line[:cut].rstrip())
                line = indent + line[cut:].lstrip()
            if line:
                lines.append(line)
    return "\n".join(lines)


def _statements(line: str) -> list[str]:
    """A line of several statements, such as a macro gives, as lines of one each."""
    found, start, level, depth = list[str](), 0, 0, 0
    margin = line[: len(line) - len(line.lstrip())]

    def end(at: int, indent: int) -> None:
        nonlocal start
        if piece := line[start:at].strip():
            found.append(margin + "    " * indent + piece)
        start = at

    blocks = list[bool]()  # of each open brace: whether it opens a block of statements
    for i, c in enumerate(line):
        depth += (c in "([") - (c in ")]")
        if c == "{":
            blocks.append(";" in line[i : _closing(line, i)])
            if blocks[-1]:
                end(i + 1, level)
                level += 1
        elif c == "}" and blocks and blocks.pop():
            end(i, level)
            level -= 1
            end(i + 1, level)
        elif c == ";" and not depth:
            end(i + 1, level)
    end(len(line), level)
    return found


def _closing(line: str, at: int) -> int:
    depth = 0
    for i in range(at, len(line)):
        depth += (line[i] == "{") - (line[i] == "}")
        if not depth:
            return i
    return len(line)


def functions(wanted: Iterable[str]) -> str:
    """The texts of these functions and of all that they use."""
    items, needed = _items(), set[str]()
    ahead = [name for name in wanted if name in items]
    while ahead:
        name = ahead.pop()
        if name not in needed:
            needed.add(name)
            ahead += [used for used in items[name].uses if used in items]
    texts: dict[str, None] = dict.fromkeys(item.text for name, item in items.items() if name in needed)
    return "\n\n".join(texts)


def is_function(name: str) -> bool:
    return name in _items()
