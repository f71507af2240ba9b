"""Builds fastgrad._core: one Cython file and the C core of csrc/.

The kernel files are compiled once per instruction set, each time with that set's flags; everything else is
compiled once, and told by -DFG_HAVE_* which sets exist, so that isa_dispatch.c can choose among them at import.
Objects are kept below build/ and compiled again only when a file they were made from has changed.

    FASTGRAD_WERROR=1              warnings in our own C are errors; in what Cython writes, those of types of pointers
    FASTGRAD_SANITIZE=address      (or address,undefined ...) builds with the sanitizers, and with assertions
    FASTGRAD_DEBUG=1               assertions (csrc/core/debug.h) and tables for unwinding, without the sanitizers
    FASTGRAD_ISAS="baseline avx2"  these instruction sets only, to build faster; without it all that the platform has

It builds with GCC and Clang, for one architecture at a time; what is not supported is refused before the first file.
"""

import hashlib
import logging
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import PlatformError

KERNELS = ("elementwise", "reduce", "gemm", "linalg", "philox", "optim")
# Flags of native programs, too, which are compiled after the installation.
FLAGS = runpy.run_path(str(Path(__file__).parent / "fastgrad" / "_native" / "flags.py"))
ISA_FLAGS = FLAGS["ISA_FLAGS"]
C_FLAGS = [*FLAGS["C_FLAGS"], "-fvisibility=hidden", "-g0", "-Wall", "-Wextra"]
# Tables for unwinding a stack serve exceptions of C++ and debuggers: nothing here throws, and builds for debuggers have
# them. They would be a twentieth of a wheel.
NO_UNWIND_TABLES = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
BINDING_FLAGS = ["-O2", "-fvisibility=hidden", "-g0", "-DNPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION"]
# Of the warnings in what Cython writes, those that come from the types of our declarations. GCC's name of the second is
# one of the first with Clang, which would warn of a name that it does not know.
BINDING_ERRORS = ["-Werror=incompatible-pointer-types", "-Werror=discarded-qualifiers", "-Wno-unknown-warning-option"]

# What the C text of a native program includes (csrc/kernels/rows.h, csrc/native.h), and what an exported one is copied
# from (csrc/kernels/plain.h).
NATIVE_HEADERS = ["native.h", "ops.def", "constants.def", "kernels/rows.h", "kernels/texts.h", "kernels/plain.h"]
NATIVE_HEADERS += ["kernels/halves.h", "kernels/tile.h", "kernels/products.h", "kernels/eight.h"]
NATIVE_HEADERS += ["kernels/linalg.c", "kernels/matrices.h", "kernels/running.h"]
NATIVE_HEADERS += ["kernels.h", "kernels.def", "optim.def", "integers.def"]
NATIVE_HEADERS += sorted(str(path.relative_to("csrc")) for path in Path("csrc").rglob("vecmath*.h"))

WERROR = os.environ.get("FASTGRAD_WERROR", "0") not in ("", "0")
SANITIZE = os.environ.get("FASTGRAD_SANITIZE", "")
DEBUG = bool(SANITIZE) or os.environ.get("FASTGRAD_DEBUG", "0") not in ("", "0")
ISAS = os.environ.get("FASTGRAD_ISAS", "").split()


def known_sets(platform):
    """The sets of a platform tag such as linux-x86_64 or macosx-11.0-arm64. The first runs on each of its machines."""
    if platform.endswith(("x86_64", "amd64")):
        return ["baseline", "avx2", "avx512"]
    return ["neon"] if platform.endswith(("arm64", "aarch64")) else ["baseline"]


def instruction_sets(platform):
    """The sets to build."""
    return [name for name in known_sets(platform) if not ISAS or name in ISAS]


def refusal(compiler_type, platform):
    """Why fastgrad cannot be built by this kind of compiler for this platform tag, in one sentence; or None."""
    if compiler_type == "msvc":
        return (
            "fastgrad is compiled with flags that GCC and Clang know and MSVC does not: "
            "build it with one of those, on Windows with `python setup.py build_ext --compiler=mingw32`"
        )
    if platform.endswith(("universal2", "universal", "fat64", "intel")):
        return (
            f"fastgrad is built for one architecture at a time, not for {platform}: its kernels differ between them; "
            "set ARCHFLAGS='-arch arm64' and _PYTHON_HOST_PLATFORM=macosx-11.0-arm64, or x86_64 in both"
        )
    known = known_sets(platform)
    if ISAS and (known[0] not in ISAS or set(ISAS) - set(known)):
        return (
            f"FASTGRAD_ISAS names {' '.join(ISAS)}: for {platform} it must name {known[0]}, which every machine has, "
            f"and may name {' '.join(known[1:]) or 'nothing else'}"
        )
    return None


def usable_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BuildCore(build_ext):
    def finalize_options(self):
        super().finalize_options()
        # A wheel's library has no table of symbols, which profilers and debuggers read. Known here, because setuptools
        # unsets `inplace` while it builds.
        self.stripped = not (self.inplace or DEBUG) and sys.platform.startswith("linux")

    def build_extension(self, ext):
        if sentence := refusal(self.compiler.compiler_type, self.plat_name):
            raise PlatformError(sentence)
        import numpy
        from Cython import __version__ as cython_version
        from Cython.Build import cythonize

        command = " ".join(self.compiler.compiler_so)
        options = str((WERROR, SANITIZE, DEBUG, instruction_sets(self.plat_name)))
        key = (command, sys.version, numpy.__version__, cython_version, self.plat_name, options)
        self.cache = Path("build", "core-" + hashlib.sha256("\n".join(key).encode()).hexdigest()[:12])

        binding = cythonize([Extension(ext.name, [ext.sources[0]])], build_dir=self.cache, quiet=True)
        jobs = self.core_jobs(ext.sources[1:])
        flags = [*BINDING_FLAGS, *(BINDING_ERRORS if WERROR else [])]
        jobs.insert(0, (binding[0].sources[0], "binding", flags, [numpy.get_include()]))
        cores = usable_cores()
        self.announce(
            f"fastgrad: building {len(jobs)} objects for {', '.join(instruction_sets(self.plat_name))} on {cores} "
            f"core{'s' if cores > 1 else ''}; those that are up to date are kept",
            logging.INFO,
        )
        with ThreadPoolExecutor(cores) as pool:
            objects = list(pool.map(self.compile_object, jobs))

        # What is left for setuptools is to link, and to know where the result belongs.
        ext.sources, ext.depends, ext.extra_objects = [], objects, objects
        ext.extra_link_args = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
        ext.libraries = [] if sys.platform == "win32" else ["m", "pthread"]
        if sys.platform.startswith("linux"):
            ext.extra_link_args += ["-Wl,--as-needed", *(["-Wl,-s"] if self.stripped else [])]
        # Linked anew, because the library of the last build may be one that is stripped, or one that is not.
        Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        super().build_extension(ext)

    def core_jobs(self, sources):
        """(source, label of the object's directory, flags, include directories) of every object of csrc."""
        sets = instruction_sets(self.plat_name)
        flags = [*C_FLAGS, *(["-Werror"] if WERROR else []), *(["-DFG_DEBUG"] if DEBUG else [])]
        kernels = [source for source in sources if Path(source).stem in KERNELS]
        jobs = [(s, isa, [*flags, f"-DFG_ISA={isa}", *ISA_FLAGS[isa]], []) for s in kernels for isa in sets]
        have = [f"-DFG_HAVE_{isa.upper()}" for isa in sets]
        return jobs + [(s, "core", flags + have, []) for s in sources if s not in kernels]

    def compile_object(self, job):
        """Compiles one file, unless its object is newer than everything that was read to make it."""
        source, label, flags, include_dirs = job
        directory = self.cache / label
        target = Path(self.compiler.object_filenames([source], output_dir=directory)[0])
        if is_current(target):
            return str(target)
        self.announce(f"fastgrad: compiling {source} ({label})", logging.INFO)
        if SANITIZE:
            # Instrumented loops over the same expression are contracted differently, and tests compare bits.
            flags = [*flags, "-ffp-contract=off", "-g", "-fno-omit-frame-pointer"]
            flags += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"]
        if not DEBUG:
            flags = [*flags, *NO_UNWIND_TABLES]
        target.unlink(missing_ok=True)  # a failed compilation must not leave an old object that looks current
        self.compiler.compile(
            [source],
            output_dir=str(directory),
            include_dirs=["csrc", *include_dirs, *self.include_dirs],
            extra_postargs=[*flags, "-MMD"],
        )
        return str(target)


def is_current(target):
    """Is the object there, and newer than setup.py and the files its .d file (from -MMD) lists?"""
    rule = target.with_suffix(".d")
    if not (target.exists() and rule.exists()):
        return False
    read = rule.read_text().replace("\\\n", " ").split()[1:]
    return all(os.path.getmtime(p) < target.stat().st_mtime for p in [__file__, *read] if os.path.exists(p))


class CopyHeaders(build_py):
    """Copies what native programs include into the package; in a source tree they read it in csrc."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for source, target in self.headers():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def headers(self):
        include = Path(self.build_lib, "fastgrad", "_native", "include")
        return [(Path("csrc", name), include / name) for name in NATIVE_HEADERS]

    def get_outputs(self, include_bytecode=True):
        return super().get_outputs(include_bytecode) + [str(target) for _, target in self.headers()]


sources = sorted(map(str, Path("csrc").rglob("*.c")))
headers = sorted(str(p) for pattern in ("*.h", "*.def") for p in Path("csrc").rglob(pattern))
setup(
    ext_modules=[Extension("fastgrad._core", ["fastgrad/_core.pyx", *sources], depends=headers)],
    cmdclass={"build_ext": BuildCore, "build_py": CopyHeaders},
)
