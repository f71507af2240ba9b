"""Every Python example of the README runs, one after the other in one namespace."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)


def test_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) >= 5
    namespace: dict[str, object] = {}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"README.md, example {number}", "exec"), namespace)
    assert capsys.readouterr().out


def test_first_example_is_short() -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 10


def test_commands_stand_in_the_first_screen() -> None:
    head = "\n".join((ROOT / "README.md").read_text().splitlines()[:25])
    assert "pip install -e '.[demo]' && python -m fastgrad.demo" in head
    assert "pip install -e '.[test]' && python -m pytest" in head
