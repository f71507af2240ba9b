"""What having fastgrad costs: import time beside NumPy's, and the size of the wheel."""

import subprocess
import sys
from pathlib import Path

from _compare import limit
from import_time import LIMIT, import_ratio, import_seconds

ROOT = Path(__file__).resolve().parent.parent


def test_import_time():
    limit("import fastgrad as a part of import numpy", import_ratio(import_seconds()), LIMIT, "")


def test_wheel_size(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    limit("size of the wheel", wheel.stat().st_size / 1e6, 2.5, "MB")
