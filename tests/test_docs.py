"""The pages of docs/ and the README name only files and C functions that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *ROOT.glob("*/*/README.md"),
]
PAGES = [page for page in PAGES if page.exists() and not {"build", "dist"} & set(page.relative_to(ROOT).parts)]
SUFFIXES = (".c", ".h", ".def", ".py", ".pyx", ".pxi", ".pxd", ".pyi", ".md", ".toml")


def files() -> set[str]:
    found = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("*") if p.is_file()}
    for folder in ("csrc", "fastgrad", "tests", "benchmarks", "examples", "docs", ".ci", "tools"):
        found |= {folder} | {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*")}
    return found


FILES = files()
C_NAMES = set(re.findall(r"\bfg_\w+", "\n".join(p.read_text() for p in (ROOT / "csrc").rglob("*.[chd]*"))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_exists(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    words = re.findall(r"`([^`\s]+)`", prose)
    paths = {word.rstrip("/") for word in words if word.endswith(SUFFIXES) or word.startswith(("csrc/", "fastgrad/_"))}
    missing = {path for path in paths if not any(f"/{name}".endswith(f"/{path}") for name in FILES) and "*" not in path}
    unknown = {word for word in words if re.fullmatch(r"fg_\w+", word) and word not in C_NAMES}
    assert (missing, unknown) == (set(), set())
