"""Each program of examples/ runs as a user would run it, in seconds, and reaches what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def fitted(out):
    rows = [list(map(float, re.findall(r"-?\d+\.\d+", line))) for line in out.splitlines()[1:3]]
    return max(abs(a - b) for a, b in zip(*rows)) < 0.02


CHECKS = {
    "clipped_gradients.py": lambda out: 1e10 < float(out.split()[4]) and "step: 2.30" in out,
    "curve_fit.py": fitted,
    "gaussian_process.py": lambda out: (
        0.08 < float(re.search(r"noise ([\d.]+)", out)[1]) < 0.12
        and float(re.search(r"error ([\d.]+) deviations", out)[1]) < 3
    ),
    "imperative.py": lambda out: "minimum at [1. 1. 1. 1.]" in out,
    "logistic_regression.py": lambda out: float(re.search(r"accuracy ([\d.]+)%", out)[1]) > 90,
    "mpi_regression.py": lambda out: "1 process" in out and float(re.search(r"rows ([\d.]+)", out)[1]) < 0.02,
    "pendulum_controller.py": lambda out: (
        (heights := list(map(float, re.findall(r"height (\S+)", out)))) and min(heights) > 0.95
    ),
    "small_net.py": lambda out: float(re.search(r"accuracy ([\d.]+)%", out)[1]) > 98,
}


def test_every_example_is_checked():
    assert {path.name for path in EXAMPLES.glob("*.py")} == CHECKS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_example(name, tmp_path):
    if name in ("curve_fit.py", "gaussian_process.py"):
        pytest.importorskip("scipy")
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert CHECKS[name](done.stdout), done.stdout
