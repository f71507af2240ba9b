"""Compiles the C core with the sanitizers and its assertions, without Python in between, and runs it in programs."""

import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"
ISA = "neon" if platform.machine() in ("arm64", "aarch64") else "baseline"
FLAGS = [
    "-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-math-errno", "-ffp-contract=fast", "-fopenmp-simd",
    f"-I{CSRC}", f"-DFG_ISA={ISA}", f"-DFG_HAVE_{ISA.upper()}", "-DFG_DEBUG",
]  # fmt: skip
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
REPLACED = ["fg_alloc", "realloc", "calloc"]

linux = sys.platform == "linux"
compiler = shutil.which(os.environ.get("CC", "cc").split()[-1])
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler is None or sys.platform == "win32", reason="needs a Unix C compiler"),
]


def call(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def compiled(directory, source, *flags):
    target = directory / f"{source.stem}.o"
    call(compiler, *FLAGS, *(SANITIZERS if linux else []), *flags, "-c", source, "-o", target)
    return target


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """The objects of all of csrc."""
    directory = tmp_path_factory.mktemp("core")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: compiled(directory, source), sorted(CSRC.rglob("*.c"))))


def linked(directory, core, main, *flags):
    program = directory / main.stem
    call(compiler, *(SANITIZERS if linux else []), *flags, main, *core, "-o", program, "-lm", "-lpthread")
    return program


def test_core(tmp_path, core):
    main = compiled(tmp_path, HERE / "test_core.c", *(["-DWRAP"] if linux else []))
    call(linked(tmp_path, core, main, *(f"-Wl,--wrap={name}" for name in REPLACED if linux)))


def test_the_example_of_the_core_alone(tmp_path, core):
    main = compiled(tmp_path, ROOT / "examples" / "core_alone.c")
    lines = [line.split() for line in call(linked(tmp_path, core, main)).splitlines()]
    x, t, a, b = (0, 1, 2, 3), (1, 3, 5, 7), 1.5, 0.0
    residual = [a * xi + b - ti for xi, ti in zip(x, t, strict=True)]
    assert lines == [
        ["loss", f"{sum(r * r for r in residual):g}"],
        ["d/da", f"{2 * sum(r * xi for r, xi in zip(residual, x, strict=True)):g}"],
        ["d/db", f"{2 * sum(residual):g}"],
        ["alive", "0", "arrays,", "0", "nodes"],
    ]


def test_a_failed_assertion_names_its_place_and_stops_the_program(tmp_path, core):
    source = tmp_path / "fails.c"
    lines = ['#include "core/debug.h"', "int main(int n, char **v)", "{", "FG_ASSERT(n == 2 && v);", "return 0;", "}"]
    source.write_text("\n".join(lines))
    program = linked(tmp_path, core, compiled(tmp_path, source))
    failed = subprocess.run([program], capture_output=True, text=True)
    assert failed.returncode != 0
    assert "fails.c:4: assertion failed: n == 2 && v" in failed.stderr
    call(program, "1")
