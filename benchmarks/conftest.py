"""Prints the table of all ratios after a benchmark run: python -m pytest benchmarks"""

import pytest
from _compare import REPORT

HEADINGS = ("work", "ours", "peer", "theirs", "ours/theirs", "quartiles", "at most", "reached")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_quiet = True  # its table has no peers; --benchmark-json and the like still work


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("default"))  # the peers' warnings are not our errors


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not REPORT.rows:
        return
    table = [HEADINGS, *REPORT.rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("fastgrad and its peers, medians of interleaved rounds")
    for row in table:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for module in sorted(REPORT.missing):
        terminalreporter.line(f"not installed, left out: {module}")
