"""What having fastgrad costs: import time above NumPy's, and the size of the wheel."""

import statistics
import subprocess
import sys
from pathlib import Path

from _compare import limit
from import_time import import_milliseconds

ROOT = Path(__file__).resolve().parent.parent


def test_import_time():
    limit("import fastgrad above import numpy", statistics.median(import_milliseconds()), 25, "ms")


def test_wheel_size(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    limit("size of the wheel", wheel.stat().st_size / 1e6, 5, "MB")
