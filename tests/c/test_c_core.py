"""Compiles the C core and test_core.c with the sanitizers, without Python in between, and runs them."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
FLAGS = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp-simd"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
REPLACED = ["fg_alloc", "realloc", "calloc"]

compiler = shutil.which(os.environ.get("CC", "cc"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler is None or sys.platform == "win32", reason="needs a Unix C compiler"),
]


def test_core(tmp_path):
    isa = "neon" if platform.machine() in ("arm64", "aarch64") else "baseline"
    flags = [*FLAGS, f"-I{CSRC}", f"-DFG_ISA={isa}", f"-DFG_HAVE_{isa.upper()}"]
    program = tmp_path / "test_core"
    sources = [*sorted(CSRC.rglob("*.c")), HERE / "test_core.c"]
    if sys.platform == "linux":
        flags += ["-DWRAP", *SANITIZERS, *(f"-Wl,--wrap={name}" for name in REPLACED)]
    build = subprocess.run(
        [compiler, *flags, *map(str, sources), "-o", program, "-lm", "-lpthread"], capture_output=True, text=True
    )
    assert build.returncode == 0, build.stderr
    run = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
