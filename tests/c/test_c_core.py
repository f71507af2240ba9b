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
    "-Wno-pass-failed",  # of loops that Clang does not vectorise between the sanitizer's instructions
    f"-I{CSRC}", f"-DFG_ISA={ISA}", f"-DFG_HAVE_{ISA.upper()}", "-DFG_DEBUG",
]  # fmt: skip
REPLACED = ["fg_alloc", "realloc", "calloc"]

linux = sys.platform == "linux"
CC = shutil.which(os.environ.get("CC", "cc").split()[-1])
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CC is None or sys.platform == "win32", reason="needs a Unix C compiler"),
]


def call(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


class Compiler:
    """A C compiler with some of the sanitizers, in a directory of its own; core: the objects of all of csrc."""

    def __init__(self, directory, command, sanitizers):
        self.directory, self.command = directory, command
        self.sanitizers = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
        if not sanitizers:
            self.sanitizers = []
        self.core = []

    def runs(self):
        """Whether its programs run here."""
        source = self.directory / "nothing.c"
        source.write_text("int main(void) { return 0; }")
        try:
            return call(self.linked(self.compiled(source))) == ""
        except AssertionError:
            return False

    def compiled(self, source, *flags):
        target = self.directory / f"{source.stem}.o"
        call(self.command, *FLAGS, *self.sanitizers, *flags, "-c", source, "-o", target)
        return target

    def compile_core(self):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self.core = list(pool.map(self.compiled, sorted(CSRC.rglob("*.c"))))
        return self

    def linked(self, main, *flags):
        program = self.directory / main.stem
        call(self.command, *self.sanitizers, *flags, main, *self.core, "-o", program, "-lm", "-lpthread")
        return program


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    return Compiler(tmp_path_factory.mktemp("core"), CC, "address,undefined" if linux else "").compile_core()


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory, request):
    """With the sanitizer that the test names, by CC or by Clang, whichever has it."""
    for command in filter(None, (CC, shutil.which("clang"))):
        found = Compiler(tmp_path_factory.mktemp(request.param), command, request.param)
        if found.runs():
            return found.compile_core()
    return pytest.skip(f"no compiler here has the {request.param} sanitizer")


@pytest.mark.parametrize("sanitized", ["memory"], indirect=True)
@pytest.mark.parametrize("name", ["test_core", "test_program"])
def test_nothing_reads_what_was_never_written(sanitized, name):
    call(sanitized.linked(sanitized.compiled(HERE / f"{name}.c")))


@pytest.mark.parametrize("sanitized", ["thread"], indirect=True)
@pytest.mark.parametrize("name", ["test_core", "test_program"])
def test_threads_do_not_race(sanitized, name):
    call(sanitized.linked(sanitized.compiled(HERE / f"{name}.c")))


def test_core(compiler):
    main = compiler.compiled(HERE / "test_core.c", *(["-DWRAP"] if linux else []))
    call(compiler.linked(main, *(f"-Wl,--wrap={name}" for name in REPLACED if linux)))


def test_programs(compiler):
    call(compiler.linked(compiler.compiled(HERE / "test_program.c")))


def test_the_example_of_the_core_alone(compiler):
    main = compiler.compiled(ROOT / "examples" / "core_alone.c")
    lines = [line.split() for line in call(compiler.linked(main)).splitlines()]
    x, t, a, b = (0, 1, 2, 3), (1, 3, 5, 7), 1.5, 0.0
    residual = [a * xi + b - ti for xi, ti in zip(x, t, strict=True)]
    assert lines == [
        ["loss", f"{sum(r * r for r in residual):g}"],
        ["d/da", f"{2 * sum(r * xi for r, xi in zip(residual, x, strict=True)):g}"],
        ["d/db", f"{2 * sum(residual):g}"],
        ["alive", "0", "arrays,", "0", "nodes"],
    ]


def test_a_failed_assertion_names_its_place_and_stops_the_program(tmp_path, compiler):
    source = tmp_path / "fails.c"
    lines = ['#include "core/debug.h"', "int main(int n, char **v)", "{", "FG_ASSERT(n == 2 && v);", "return 0;", "}"]
    source.write_text("\n".join(lines))
    program = compiler.linked(compiler.compiled(source))
    failed = subprocess.run([program], capture_output=True, text=True)
    assert failed.returncode != 0
    assert "fails.c:4: assertion failed: n == 2 && v" in failed.stderr
    call(program, "1")
