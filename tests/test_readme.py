"""Every Python example of the README and of docs/ runs, one after the other in one namespace a page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if examples(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    for number, block in enumerate(examples(page), 1):
        exec(compile(block, f"{page.name}, example {number}", "exec"), namespace)
    assert capsys.readouterr().out


def test_first_example_is_short() -> None:
    assert len([line for line in examples(ROOT / "README.md")[0].splitlines() if line.strip()]) <= 10


def test_commands_stand_in_the_first_screen() -> None:
    head = "\n".join((ROOT / "README.md").read_text().splitlines()[:25])
    assert "pip install -e '.[demo]' && python -m fastgrad.demo" in head
    assert "pip install -e '.[test]' && python -m pytest" in head
