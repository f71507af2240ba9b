"""The wings of fastgrad's Python: imports go downward only, in no circle, and private names stay in their module.

All imports count, those inside of functions and those for type checkers too. What `_core` calls in Python it is handed
by ``bind_layer``, which imports nothing.
"""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fastgrad"

# From the bottom up. A wing is a folder, or some modules that stand beside each other.
WINGS = [
    "_arguments _instead _user_frames _core _blas _lapack _config _names _native _plot _threads tree".split(),
    ["_rules"],
    ["_numpy"],
    ["_transforms"],
    ["_control_flow"],
    ["_compile"],
    ["_export"],
    ["_serialize", "activations", "linalg", "losses", "optim", "random", "schedules", "special", "stats", "testing"],
    ["_train"],
    ["_scipy", "sparse"],
    ["sklearn"],
    [""],  # fastgrad/__init__.py
    ["_demo", "demo"],
]
RANK = {name: k for k, names in enumerate(WINGS) for name in names}

# Private names of other packages that there is no public way around.
FOREIGN = {"_NamedFuncPointer", "_exit", "_NoValue", "_getframe", "_fields"}


def module_name(path: Path) -> str:
    """ "_numpy.shapes" of fastgrad/_numpy/shapes.py, "_numpy" of its __init__.py, "" of fastgrad/__init__.py."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def wing(module: str) -> str:
    return module.partition(".")[0]


SOURCES = {module_name(path): path for pattern in ("*.py", "*.pyx") for path in sorted(PACKAGE.rglob(pattern))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items() if path.suffix == ".py"}


def place(module: str, line: int) -> str:
    return f"{SOURCES[module].relative_to(PACKAGE.parent)}:{line}"


def resolve(module: str, level: int, target: str) -> str | None:
    """The module of the package that an import statement means; None for another package."""
    if level == 0:
        head, _, rest = target.partition(".")
        return rest if head == "fastgrad" else None
    parts = module.split(".") if module else []
    if SOURCES[module].name != "__init__.py":
        parts = parts[:-1]
    parts = parts[: len(parts) - (level - 1)]
    return ".".join([*parts, *([target] if target else [])])


def imports_of(module: str):
    """(line, module imported, name taken from it or None, name it gets here) of each import from the package."""
    if module not in TREES:
        for number, line in enumerate(SOURCES[module].read_text().splitlines(), 1):
            if found := re.match(r"from (\.\w*) import (\w+)(?: as (\w+))?", line):
                yield number, *taken(module, found[1], found[2]), found[3] or found[2]
        return
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (target := resolve(module, 0, alias.name)) is not None:
                    yield node.lineno, target, None, alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            dotted = "." * node.level + (node.module or "")
            for alias in node.names:
                if resolve(module, node.level, node.module or "") is not None:
                    yield node.lineno, *taken(module, dotted, alias.name), alias.asname or alias.name


def taken(module: str, dotted: str, name: str) -> tuple[str, str | None]:
    """The module that ``from dotted import name`` depends on, and the name unless that is a module itself."""
    level = len(dotted) - len(dotted.lstrip("."))
    origin = resolve(module, level, dotted[level:])
    assert origin is not None
    below = f"{origin}.{name}".lstrip(".")
    return (below, None) if below in SOURCES else (origin, name)


IMPORTS = {module: list(imports_of(module)) for module in SOURCES}


def test_every_module_belongs_to_a_wing():
    assert {wing(module) for module in SOURCES} == set(RANK)


def test_every_import_is_of_a_module_that_exists():
    missing = [f"{place(m, line)}: no module fastgrad.{target}" for m, found in IMPORTS.items()
               for line, target, _, _ in found if target not in SOURCES]  # fmt: skip
    assert not missing, "\n".join(missing)


def test_wings_import_downward_only():
    upward = [
        f"{place(module, line)}: fastgrad.{module or '__init__'} imports fastgrad.{target or '__init__'}, which is in "
        "a wing above its own"
        for module, found in IMPORTS.items()
        for line, target, _, _ in found
        if RANK[wing(target)] > RANK[wing(module)]
    ]
    assert not upward, "\n".join(upward)


def reachable(module: str, edges: dict[str, set[str]]) -> set[str]:
    """The modules that one imports, directly or by others."""
    found, todo = set(), [module]
    while todo:
        new = edges[todo.pop()] - found
        found |= new
        todo += new
    return found


def test_modules_import_one_another_in_no_circle():
    edges = {m: {target for _, target, _, _ in found if target != m} for m, found in IMPORTS.items()}
    circles = [
        f"{place(module, line)}: fastgrad.{module or '__init__'} imports fastgrad.{target}, which imports it in turn"
        for module, found in IMPORTS.items()
        for line, target, _, _ in found
        if target != module and module in reachable(target, edges)
    ]
    assert not circles, "\n".join(circles)


def test_no_private_name_is_imported():
    private = [
        f"{place(module, line)}: {name} is a private name of fastgrad.{target}"
        for module, found in IMPORTS.items()
        for line, target, name, _ in found
        if name is not None and name.startswith("_") and not name.startswith("__")
    ]
    assert not private, "\n".join(private)


def is_self(node: ast.expr) -> bool:
    return ast.unparse(node) in ("self", "cls", "super()")


def own_names(module: str) -> set[str]:
    """Names that a module defines: functions, classes, variables, attributes that it sets on ``self``."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            found.add(node.attr)
    return found


@pytest.mark.parametrize("module", TREES)
def test_private_attributes_are_used_where_they_are_defined(module):
    """Those of ``self`` may be inherited; those of anything else must be this module's own."""
    own = own_names(module) | FOREIGN | {"_replace"}  # of named tuples, a public method
    reached = [
        f"{place(module, node.lineno)}: {ast.unparse(node)} is private to another module"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr) and node.attr not in own
        and not is_self(node.value)
    ]  # fmt: skip
    assert not reached, "\n".join(reached)


@pytest.mark.parametrize("folder", sorted(path.name for path in PACKAGE.iterdir() if path.name in [*RANK, "_binding"]
                                          and path.is_dir()))  # fmt: skip
def test_each_wing_says_what_it_imports(folder):
    text = (PACKAGE / folder / "README.md").read_text()
    named = re.search(r"^Imports: ([^.]*)\.", text, re.M)
    assert named, f"fastgrad/{folder}/README.md has no line 'Imports: ...'"
    said = set(re.findall(r"`(\w+)`", named[1]))
    modules = ["_core"] if folder == "_binding" else [module for module in SOURCES if wing(module) == folder]
    used = {wing(target) for module in modules for _, target, _, _ in IMPORTS[module]} - {folder}
    assert said == used, f"fastgrad/{folder}/README.md says that it imports {sorted(said)}, it imports {sorted(used)}"
