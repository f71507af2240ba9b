"""The kernels as other compilers, C libraries and processors compute them: built without Python, run, and compared.

A build that is not possible here, for want of a compiler or an emulator, is skipped and says so.
"""

import math
import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
FLAGS = [
    "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
    "-fopenmp-simd", f"-I{CSRC}",
]  # fmt: skip
ARM = platform.machine() in ("arm64", "aarch64")
NATIVE = "neon" if ARM else "baseline"

# What is built beside gcc: the compiler, the instruction set, further flags, and the emulator that runs it.
BUILDS = {
    "clang": ("clang", NATIVE, [], []),
    "musl": ("musl-gcc", NATIVE, ["-static"], []),
    "aarch64": ("aarch64-linux-gnu-gcc", "neon", ["-static"], ["qemu-aarch64"]),
}
# How far two builds may be apart, in units in the last place: twice what each may be off (docs/accuracy.md). The bits
# of sums and draws are fixed. A compiler may round a product before it is added or not: matrix products and updates,
# where terms cancel, are compared with the size of their terms.
ULPS = {
    "value": 4, "derivative": 16, "derivative_b": 16, "sum": 0, "softmax": 16, "product": 16, "draws": 0, "update": 8
}  # fmt: skip

# Derivatives near a zero of theirs, or taken from the result alone, are compared with the size of their terms
# (docs/accuracy.md, exceptions).
BY_SIZE_OF_TERMS = {
    "tanh", "silu", "gelu", "gelu_tanh", "mish", "gammaln", "gamma", "rgamma", "betaln", "entr", "rel_entr", "i0e",
    "i1e", "j0", "j1",
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="compares with gcc, which is not found"),
]


def call(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def results(directory, compiler, isa, flags, emulator):
    """What kernel_values prints in a build: {(kind, row, dtype, index): value}."""

    def compiled(source):
        target = directory / f"{source.stem}.o"
        call(compiler, *FLAGS, f"-DFG_ISA={isa}", f"-DFG_HAVE_{isa.upper()}", *flags, "-c", source, "-o", target)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, [*sorted(CSRC.rglob("*.c")), HERE / "kernel_values.c"]))
    program = directory / "kernel_values"
    call(compiler, *flags, *objects, "-o", program, "-lm", "-lpthread")
    lines = (line.split() for line in call(*emulator, program).splitlines())
    return {(kind, name, dtype, int(i)): float.fromhex(value) for kind, name, dtype, i, value in lines}


@pytest.fixture(scope="module")
def by_gcc(tmp_path_factory):
    return results(tmp_path_factory.mktemp("gcc"), "gcc", NATIVE, [], [])


def distance(a, b, dtype, least):
    """In units in the last place of the larger, or of `least` where both are smaller."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    exponent = max(math.frexp(max(abs(a), abs(b), least))[1], -125 if dtype == "float32" else -1021)
    return abs(a - b) / 2.0 ** (exponent - (24 if dtype == "float32" else 53))


@pytest.mark.parametrize("name", BUILDS)
def test_another_build_computes_the_same(tmp_path, by_gcc, name):
    compiler, isa, flags, emulator = BUILDS[name]
    missing = [tool for tool in (compiler, *emulator) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not found")
    found = results(tmp_path, compiler, isa, flags, emulator)
    assert found.keys() == by_gcc.keys()
    worst = {}
    for key, value in found.items():
        kind, row, dtype, _ = key
        least = 1.0 if kind in ("product", "update") else 0.25 if row in BY_SIZE_OF_TERMS else 0.0
        off = distance(value, by_gcc[key], dtype, least)
        worst[kind, row, dtype] = max(worst.get((kind, row, dtype), (0,)), (off, value, by_gcc[key]))
    too_far = {place: at for place, at in worst.items() if at[0] > ULPS[place[0]]}
    assert too_far == {}
