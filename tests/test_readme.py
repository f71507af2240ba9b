"""Every Python example of the README and of docs/ runs, in one namespace a page; relative links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if examples(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(
    page: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where their files go
    namespace: dict[str, object] = {}
    for number, block in enumerate(examples(page), 1):
        exec(compile(block, f"{page.name}, example {number}", "exec"), namespace)
    assert capsys.readouterr().out


def anchors(page: Path) -> set[str]:
    """Of its headings: in lower case, blanks as hyphens, without other punctuation."""
    headings = re.findall(r"^#+ +(.*)", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_first_example_is_short() -> None:
    assert len([line for line in examples(ROOT / "README.md")[0].splitlines() if line.strip()]) <= 10


def test_commands_stand_in_the_first_screen() -> None:
    head = "\n".join((ROOT / "README.md").read_text().splitlines()[:25])
    assert "pip install -e '.[demo,test]' && python -m fastgrad.demo\npython -m pytest\n" in head  # one build for both
