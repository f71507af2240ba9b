"""What type checkers see: a user's program against the public names, and the stub of the core against the core."""

import inspect
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from _samples import NUMPY_2_0

ROOT = Path(__file__).parent.parent
USER_CODE = ROOT / "tests" / "typing" / "user_code.py"
needs_defaults = pytest.mark.skipif(NUMPY_2_0, reason="np.ndarray has no default type arguments in NumPy 2.0's stubs")


def checked(*arguments):
    result = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


@needs_defaults
def test_a_users_program_passes_mypy(tmp_path):
    pytest.importorskip("mypy")
    checked("mypy", f"--cache-dir={tmp_path}", str(USER_CODE))


@needs_defaults
def test_the_stub_of_the_core_tells_the_truth():
    pytest.importorskip("mypy")
    allowed = ["--allowlist", str(USER_CODE.with_name("stub_allowlist.txt"))]
    if sys.version_info >= (3, 12):
        allowed.append("--ignore-unused-allowlist")  # some entries are for 3.11
    config = ["--mypy-config-file", "pyproject.toml", "--ignore-positional-only"]
    checked("mypy.stubtest", "fastgrad._core", *config, *allowed)


def test_a_users_program_runs():
    program = runpy.run_path(str(USER_CODE))
    own = [f for f in program.values() if inspect.isfunction(f) and f.__module__ == program["__name__"]]
    called = [f for f in own if not inspect.signature(f).parameters and f.__name__ != "wrong"]
    assert len(called) > 10
    for f in called:
        f()
