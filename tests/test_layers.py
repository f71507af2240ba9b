"""The layers of csrc: a wing includes and calls only those before it, and no C file depends on itself through others.

Read from the sources: what a file includes, and which functions and variables of other files (``fg_*``) it names. The
headers at the top are the front door, which every wing may include; the names in their inline functions and macros
count for whoever uses these.
"""

import re
from itertools import pairwise
from pathlib import Path

import pytest

CSRC = Path(__file__).parent.parent / "csrc"
BINDING = Path(__file__).parent.parent / "fastgrad" / "_binding"
FRONT = "front door"
WINGS = [FRONT, "core", "kernels", "record", "program", "ops", "autodiff", "op_table.c"]  # in order

COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)
MACRO = re.compile(r"^#define (\w+)(?:\(([\w, ]*)[^)]*\))?((?:.*\\\n)*.*)", re.M)
# At the start of a line: a type, a name, parameters, and a body; or a name that is a variable's.
FUNCTION = re.compile(r"^\w[\w *]*?(?:\(\*)?\b(fg_\w+)\([^;{}]*\)\s*\{", re.M)
VARIABLE = re.compile(
    r"^(?!extern|typedef|static|return)\w[\w *]*?(?:\(\*)?\b(fg_\w+)(?:\[\w*\])*(?:\)\([^;{}]*\))?(?: = \{.*|;)", re.M
)
NAME = re.compile(r"\bfg_\w+\b(?!##)")


def without(pattern, text):
    """The text with each match blanked but for its line breaks, so that line numbers stay."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def wing_of(path):
    first = path.split("/")[0]
    return first if first in WINGS else FRONT if path.endswith((".h", ".def")) else None


class File:
    """What a file includes, defines and names; `path` is below csrc."""

    def __init__(self, path, text):
        self.path, self.wing = path, wing_of(path)
        bare = re.sub(r"/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.S)
        self.includes = [(match[1], bare.count("\n", 0, match.start()) + 1) for match in INCLUDE.finditer(bare)]
        self.code = without(COMMENT_OR_STRING, text)
        self.functions = {match[1]: self.body(match.end() - 1) for match in FUNCTION.finditer(self.code)}
        self.macros = {match[1]: (match.start(3), match[3]) for match in MACRO.finditer(self.code)}
        self.defines = set(self.functions) | self.made_by_macros()
        if path.endswith(".c"):
            self.defines |= {match[1] for match in VARIABLE.finditer(self.code)}

    def body(self, start):
        """Where the braces that open at `start` are, and what is in them."""
        depth = 0
        for end in range(start, len(self.code)):
            depth += {"{": 1, "}": -1}.get(self.code[end], 0)
            if not depth:
                return start, self.code[start:end]
        raise AssertionError(f"{self.path}: a brace is not closed")

    def made_by_macros(self):
        """fg_less_run, where COMPARE(less, ...) defines it as fg_##name##_run."""
        names = set()
        for macro in MACRO.finditer(self.code):
            made = re.findall(r"\bfg_##\w+##(\w+)\([^;]*?\)\s*\\?\s*\{", macro[3])
            calls = re.findall(rf"^{macro[1]}\((\w+)", self.code, re.M) if made else []
            names |= {f"fg_{call}{end}" for call in calls for end in made}
        return names

    def names(self):
        """(name, line) of everything that the code names; of a header, what its functions and macros name."""
        if self.path.endswith(".c"):
            prototype = re.compile(r"^(?!return)\w[\w *]*\([^;{}]*\);", re.M)
            parts = [(0, without(prototype, self.code))]
        else:
            parts = [*self.functions.values(), *self.macros.values()]
        for start, text in parts:
            for match in NAME.finditer(text):
                yield match[0], self.code.count("\n", 0, start + match.start()) + 1


def read(csrc):
    files = [File(str(p.relative_to(csrc)), p.read_text()) for p in sorted(csrc.rglob("*.[ch]"))]
    files += [File(p.name, "") for p in csrc.glob("*.def")]
    return {file.path: file for file in files}


def dependencies(files):
    """{file: {file it depends on: (line, by which name)}}. The front door is no goal, but what it names is."""
    home = {name: file.path for file in files.values() for name in file.defines}
    front = {}
    for file in files.values():
        if file.wing == FRONT:
            for name, (_, text) in {**file.functions, **file.macros}.items():
                front[name] = NAME.findall(text)
    found = {path: {} for path in files}
    for file in files.values():
        for include, line in file.includes:
            near = str(Path(file.path).parent / include)
            path = include if include in files else near
            assert path in files, f"csrc/{file.path}:{line}: includes {include}, which is not in csrc"
            if path != file.path and (files[path].wing != FRONT or file.wing == FRONT):
                found[file.path].setdefault(path, (line, f"#include {include}"))
        for name, line in file.names():
            for used in front.get(name, [name]):
                path = home.get(used, file.path)
                if path != file.path and files[path].wing != FRONT:
                    found[file.path].setdefault(path, (line, name))
    return found


def upward(files):
    """A sentence for each dependency on a later wing."""
    faults = []
    for path, goals in dependencies(files).items():
        # Inline functions of the front door may name core, which holds what all wings share.
        limit = WINGS.index("core" if files[path].wing == FRONT else files[path].wing)
        for goal, (line, name) in goals.items():
            by_include = name.startswith("#include")
            if WINGS.index(files[goal].wing) > (0 if by_include and files[path].wing == FRONT else limit):
                faults.append(
                    f"csrc/{path}:{line}: {name} is of {goal}, but {files[path].wing} comes before {files[goal].wing}"
                )
    return faults


def cycle(files):
    """A cycle of dependencies, told edge by edge, or an empty list."""
    graph = {path: goals for path, goals in dependencies(files).items() if files[path].wing != FRONT}
    done = set()
    for root, first in graph.items():
        path, way = [root], [iter(first)]
        while way:
            goal = next(way[-1], None)
            if goal is None:
                done.add(path.pop())
                way.pop()
            elif goal in path:
                circle = [*path[path.index(goal) :], goal]
                return [f"csrc/{a}:{graph[a][b][0]}: {graph[a][b][1]} is of {b}" for a, b in pairwise(circle)]
            elif goal not in done:
                path.append(goal)
                way.append(iter(graph[goal]))
    return []


@pytest.fixture(scope="module")
def files():
    return read(CSRC)


def test_every_file_is_in_a_wing(files):
    assert [path for path, file in files.items() if file.wing is None] == []
    assert {p.name for p in CSRC.iterdir() if p.is_dir()} == {wing for wing in WINGS if "." not in wing} - {FRONT}


def test_no_wing_depends_on_a_later_one(files):
    faults = upward(files)
    assert not faults, "\n".join(faults)


def test_files_of_c_have_names_of_their_own():
    """Builds by hand, such as those of tests/c, put the objects of all wings into one folder."""
    names = [path.name for path in CSRC.rglob("*.c")]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_functions_of_the_binding_have_names_of_their_own():
    """Its files are one module: of two functions of one name the later one would be called everywhere."""
    text = "".join(path.read_text() for path in sorted(BINDING.glob("*.pxi")))
    names = re.findall(r"^(?:cpdef|cdef|def) [^=(\n]*?(\w+)\(", text, re.M)
    assert len(names) > 200
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})


def test_no_file_depends_on_itself(files):
    circle = cycle(files)
    assert not circle, "a cycle:\n" + "\n".join(circle)


def test_the_reader_understands_the_core(files):
    """So that the two tests above find the dependencies there are."""
    home = {name: file.path for file in files.values() for name in file.defines}
    assert home["fg_alloc"] == "core/memory.c"
    assert home["fg_thread"] == "core/context.c"
    assert home["fg_on_release"] == "core/context.c"
    assert home["fg_less_run"] == "ops/comparisons.c"
    assert home["fg_softmax_run"] == "ops/reductions.c"
    named = dependencies(files)
    assert "program/replay.c" in named["program/control_flow.c"]
    assert "core/context.c" in named["record/tape.c"]  # by way of a macro of fastgrad.h
    assert "record/ir.h" in named["record/trace.c"]


def test_each_wing_has_a_page_that_names_its_files(files):
    for wing in WINGS:
        folder = CSRC / wing
        if folder.is_dir():
            text = (folder / "README.md").read_text()
            missing = [p.name for p in folder.glob("*.[ch]") if p.name not in text]
            assert not missing, f"csrc/{wing}/README.md does not name {missing}"


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ({"core/a.c": "int fg_a(void) { return fg_b(); }", "ops/b.c": "int fg_b(void)\n{\n    return 0;\n}\n"},
         "csrc/core/a.c:1: fg_b is of ops/b.c, but core comes before ops"),
        ({"record/a.c": '\n#include "program/b.h"\n', "program/b.h": "int fg_b(void);\n"},
         "csrc/record/a.c:2: #include program/b.h is of program/b.h, but record comes before program"),
        ({"core/a.c": "void f(void)\n{\n    fg_x = 1;\n}\n", "record/b.c": "int fg_x;\n"},
         "csrc/core/a.c:3: fg_x is of record/b.c, but core comes before record"),
        ({"core/a.c": "void f(void) { fg_on_x(1); }\n", "record/b.c": "void (*fg_on_x)(int);\n"},
         "csrc/core/a.c:1: fg_on_x is of record/b.c, but core comes before record"),
        ({"fastgrad.h": '#include "core/a.h"\n', "core/a.h": ""},
         "csrc/fastgrad.h:1: #include core/a.h is of core/a.h, but front door comes before core"),
        ({"fastgrad.h": "#define fg_g fg_t.g\n", "core/a.c": "void f(void) { fg_g = 1; }\n", "ops/t.c": "int fg_t;\n"},
         "csrc/core/a.c:1: fg_g is of ops/t.c, but core comes before ops"),
        ({"kernels/a.c": "void f(void) { fg_min_run(); }\n",
          "ops/b.c": "#define E(name) \\\n    int fg_##name##_run(void) \\\n    { \\\n    }\nE(min)\nE(max)\n"},
         "csrc/kernels/a.c:1: fg_min_run is of ops/b.c, but kernels comes before ops"),
    ],
)  # fmt: skip
def test_an_upward_dependency_is_named(tmp_path, sources, fault):
    assert fault in upward(read(write(tmp_path, sources)))


def test_comments_strings_and_prototypes_are_no_dependencies(tmp_path):
    sources = {
        "core/a.c": 'int fg_b(void);\n/* fg_b() */\nconst char *s = "fg_b()"; /* "fg_b" */\n',
        "core/a.h": "int fg_b(void);\n",
        "ops/b.c": "int fg_b(void) { return 0; }\n",
    }
    assert upward(read(write(tmp_path, sources))) == []


def test_a_cycle_is_told_edge_by_edge(tmp_path):
    sources = {
        "ops/a.c": "int fg_a(void) { return fg_b(); }\n",
        "ops/b.c": "int fg_b(void) { return fg_c(); }\n",
        "ops/c.c": "int fg_c(void)\n{\n    return fg_a();\n}\n",
    }
    files = read(write(tmp_path, sources))
    assert upward(files) == []
    assert sorted(cycle(files)) == ["csrc/ops/a.c:1: fg_b is of ops/b.c", "csrc/ops/b.c:1: fg_c is of ops/c.c",
                                    "csrc/ops/c.c:3: fg_a is of ops/a.c"]  # fmt: skip


def write(csrc, sources):
    for path, text in sources.items():
        (csrc / path).parent.mkdir(parents=True, exist_ok=True)
        (csrc / path).write_text(text)
    return csrc
