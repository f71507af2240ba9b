"""Each program of examples/ runs as a user would run it, in seconds, and reaches what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def fitted(out):
    """Whether the lines after that of the truth begin with its numbers."""
    rows = [list(map(float, re.findall(r"-?\d+\.\d+", line))) for line in out.splitlines()]
    truth, *fits = [row for row in rows if len(row) > 1]
    return fits and all(abs(a - b) < 0.02 for fit in fits for a, b in zip(truth, fit))


CHECKS = {
    "character_lstm.py": lambda out: "the derivative of the outer function by the" in out.splitlines()[-1],
    "clipped_gradients.py": lambda out: 1e10 < float(out.split()[4]) and "step: 2.30" in out,
    "curve_fit.py": fitted,
    "digits.py": lambda out: float(re.search(r"accuracy ([\d.]+)%", out)[1]) > 96,
    "gaussian_process.py": lambda out: (
        0.08 < float(re.search(r"noise ([\d.]+)", out)[1]) < 0.12
        and float(re.search(r"error ([\d.]+) deviations", out)[1]) < 3
    ),
    "hamiltonian_monte_carlo.py": lambda out: (
        all(
            abs(float(re.search(rf"^{name} +(\S+)", out, re.M)[1]) - exact) < 0.2
            for name, exact in [("offset", 1), ("first", -2), ("second", 0.5), ("noise", 0.5)]
        )
        and 80 < int(re.match(r"(\d+)%", out)[1])
    ),
    "imperative.py": lambda out: "minimum at [1. 1. 1. 1.]" in out,
    "line_fit.py": fitted,
    "logistic_regression.py": lambda out: (
        float(re.search(r"accuracy ([\d.]+)%", out)[1]) > 95 and float(out.split()[-1]) < 1e-3
    ),
    "memory_map.py": lambda out: "without a stop: True" in out and float(re.search(r"weight (\S+)", out)[1]) < 0.01,
    "mpi_regression.py": lambda out: "1 process" in out and float(re.search(r"rows ([\d.]+)", out)[1]) < 0.02,
    "ode_fit.py": lambda out: (
        4
        == sum(
            abs(float(rate) - float(true)) < 5 * float(error)
            for rate, error, true in re.findall(r"^rate (\S+) \+- (\S+), true (\S+)", out, re.M)
        )
    ),
    "pendulum_controller.py": lambda out: (
        (heights := list(map(float, re.findall(r"height (\S+)", out)))) and min(heights) > 0.95
    ),
    "small_net.py": lambda out: float(re.search(r"accuracy ([\d.]+)%", out)[1]) > 98,
}


def test_every_example_is_checked():
    assert {path.name for path in EXAMPLES.glob("*.py")} == CHECKS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_example(name, tmp_path):
    if name in ("curve_fit.py", "gaussian_process.py", "line_fit.py", "ode_fit.py"):
        pytest.importorskip("scipy")
    if name in ("digits.py", "logistic_regression.py"):
        pytest.importorskip("sklearn")
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert CHECKS[name](done.stdout), done.stdout
