"""The tasks of the project. `nox -l` lists them, `nox -s tests lint` runs two, what stands behind `--` goes to pytest.

tests, isa, slow, sanitized, types and docs run in the environment that nox itself runs in, where
`pip install -e '.[test]'` has put fastgrad: nothing is built or installed again. The others make environments of their
own. Those that build the core in another way work in a copy of the tree, so that any two sessions but build and slow,
which both make a wheel, can run side by side: `nox -j 2`. .ci/run names the sessions that every change must pass.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
LINT = PYPROJECT["dependency-groups"]["lint"]
PYTHONS = nox.project.python_versions(PYPROJECT)  # by its classifiers, from the oldest to the newest
OLDEST_NUMPY = "numpy==2.0.*"
WHEEL_LIMIT = 3_000_000  # bytes, a little above what it has
# tests/test_*.py that read sources, pages, types and packages: they find the same with any kernels.
WITHOUT_KERNELS = ["docs", "layers", "packaging", "python_layers", "typing"]

nox.needs_version = ">=2026"
nox.options.sessions = ["lint", "tests", "types", "docs"]
nox.options.allow_parallel = True


def here(session, *command, **options):
    """Run a module in the environment of nox."""
    session.run(sys.executable, "-m", *command, **options)


def copy_of_the_tree(session):
    """Without what was built in it."""
    target = Path(session.create_tmp()).resolve() / "tree"
    shutil.rmtree(target, ignore_errors=True)
    left_out = shutil.ignore_patterns(".git", ".nox", "build", "*.so", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, target, ignore=left_out)
    return target


def instruction_sets():
    """Those of the core here that this machine can run, from the least to the most capable, and the one in use."""
    program = "from fastgrad import _core; print(*_core.available_isas(), _core.isa())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    *available, in_use = done.stdout.split()
    return available, in_use


def without(*names):
    """Options for pytest to leave out test files, all of which must exist."""
    paths = [Path("tests", f"test_{name}.py") for name in names]
    if missing := [str(path) for path in paths if not (ROOT / path).exists()]:
        raise FileNotFoundError(f"noxfile.py leaves out tests that do not exist: {', '.join(missing)}")
    return [f"--ignore={path}" for path in paths]


# ---- in the environment of nox ---------------------------------------------------------------------------------------
@nox.session(python=False)
def tests(session):
    """The tests and the examples of the docstrings, but those marked as slow."""
    here(session, "pytest", *session.posargs)


@nox.session(python=False)
@nox.parametrize("name", ["baseline", "avx2", "avx512", "neon"], ids=["baseline", "avx2", "avx512", "neon"])
def isa(session, name):
    """The tests of kernels with another instruction set than the best one, which `tests` takes."""
    available, in_use = instruction_sets()
    if name not in available or name == in_use:
        session.skip(f"this machine has no other instruction set {name}")
    if name == available[0] and any(interpreter(v) for v in PYTHONS if not sys.version.startswith(f"{v}.")):
        session.skip("`pythons` tests it, the only one that it builds")
    here(session, "pytest", "-q", *without(*WITHOUT_KERNELS), *session.posargs, env={"FASTGRAD_ISA": name})


@nox.session(python=False)
def slow(session):
    """The tests marked as slow, those of the C core alone among them."""
    here(session, "pytest", "-m", "slow", *session.posargs)


@nox.session(python=False)
def sanitized(session):
    """The tests with the address and undefined-behaviour sanitizers and the assertions of csrc/core/debug.h."""
    compiler = os.environ.get("CC", "cc").split()

    def library(name):
        found = subprocess.run([*compiler, f"-print-file-name={name}"], check=False, capture_output=True, text=True)
        return found.stdout.strip()

    if not os.path.isabs(library("libasan.so")):
        session.skip(f"{compiler[0]} has no sanitizers that can be preloaded")
    session.chdir(copy_of_the_tree(session))
    build = ["setup.py", "-q", "build_ext", "-i"]
    (least, *_), in_use = instruction_sets()
    session.run(
        sys.executable,
        *build,
        env={"FASTGRAD_SANITIZE": "address,undefined", "FASTGRAD_ISAS": f"{least} {in_use}"},
    )
    # Leaks are for the tests to find: the interpreter itself frees too little at exit. Requests that are too large are
    # tested, too.
    environment = {
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096",
        "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
    }
    left_out = without(*WITHOUT_KERNELS, "config")
    here(session, "pytest", "-q", "tests", *left_out, *session.posargs, env=environment)


@nox.session(python=False)
def types(session):
    """mypy in strict mode on fastgrad and on a user's program, and the stub of the core against the core."""
    here(session, "mypy")
    here(session, "pytest", "-q", "tests/test_typing.py", *session.posargs)


@nox.session(python=False)
def docs(session):
    """The examples and the links of the README and the pages of docs/."""
    here(session, "pytest", "-q", "tests/test_readme.py", *session.posargs)


# ---- in environments of their own ------------------------------------------------------------------------------------
@nox.session
def lint(session):
    """ruff, clang-format and codespell, in the versions of pyproject.toml. `nox -s lint -- fix` changes the files."""
    session.install(*LINT)
    fix = "fix" in session.posargs
    sources = sorted(str(p) for folder in ("csrc", "examples", "tests") for p in Path(folder).rglob("*.[ch]"))
    session.run("ruff", "check", "--output-format=concise", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")
    session.run("clang-format", *(["-i"] if fix else ["--dry-run", "-Werror"]), *sources)
    session.run("codespell")


@nox.session
def build(session):
    """A wheel: its size, its import time and the demo, away from the sources."""
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder / "wheel", ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder / "wheel"), ".")
    (wheel,) = (folder / "wheel").glob("fastgrad-*.whl")
    size = wheel.stat().st_size
    session.log(f"{wheel.name}: {size} bytes")
    if size >= WHEEL_LIMIT:
        session.error(f"the wheel must stay below {WHEEL_LIMIT} bytes")
    session.install(f"{wheel}[demo]")
    shutil.copy("benchmarks/import_time.py", folder)
    session.chdir(folder)
    session.run("python", "import_time.py", "--check")
    session.run("python", "-m", "fastgrad.demo")


@nox.session
def array_api(session):
    """The suite of the array API standard, github.com/data-apis/array-api-tests, whose checkout with its submodule
    ARRAY_API_TESTS names; `nox -s array_api -- --max-examples 200` for more examples than the 100 of the suite. Its
    deadlines are off: they say how busy a machine is.

    tests/array_api_xfails.txt lists what is expected to fail, with the reasons."""
    checkout = os.environ.get("ARRAY_API_TESTS")
    if not checkout:
        session.skip("the environment variable ARRAY_API_TESTS names no checkout of array-api-tests")
    checkout = Path(checkout).resolve()
    session.install("-r", str(checkout / "requirements.txt"), "pytest-xdist", "-e", ".")
    session.chdir(checkout)
    options = ["--disable-deadline", "--disable-extension", "fft"]
    # With "=": pytest looks for its configuration beside paths that stand alone, and would find that of fastgrad.
    options += [f"--xfails-file={ROOT / 'tests' / 'array_api_xfails.txt'}"]
    session.run(
        "python", "-m", "pytest", "-q", "-n", "2", "array_api_tests", *options, *session.posargs,
        env={"ARRAY_API_TESTS_MODULE": "fastgrad", "ARRAY_API_TESTS_VERSION": "2024.12",
             "ARRAY_API_TESTS_SKIP_DTYPES": "complex64,complex128"},
    )  # fmt: skip


@nox.session
def bench(session):
    """The benchmarks, beside PyTorch and JAX: `nox -s bench -- benchmarks/bench_chain.py` for those of one file."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "pytest", *(session.posargs or ["benchmarks"]))


# ---- other versions of what fastgrad runs on -------------------------------------------------------------------------
def tests_in_a_copy(session, python, *requirements):
    """Build in a copy of the tree, by another interpreter or with other packages, and run the tests there. With the
    least instruction set alone, as `isa` tests the others: it is built in half the time."""
    tree = copy_of_the_tree(session)
    environment = tree.parent / "environment"
    shutil.rmtree(environment, ignore_errors=True)
    session.run(python, "-m", "venv", str(environment), external=True)
    python = str(next(environment.glob("[bS]*/python*")))  # bin/python, Scripts/python.exe
    session.chdir(tree)
    install = [python, "-m", "pip", "install", "-q", "-e", ".[test]", *requirements]
    session.run(*install, env={"FASTGRAD_ISAS": instruction_sets()[0][0]}, external=True)
    session.run(python, "-c", "import numpy, sys; print(sys.version, numpy.__version__)", external=True)
    session.run(python, "-m", "pytest", "-q", *session.posargs, external=True)


def interpreter(version):
    """The path of a CPython that runs, or None. A name on the PATH may be that of a stub which starts none."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for path in (shutil.which(f"python{version}"), *sorted(map(str, versions.glob(f"{version}.*/bin/python")))):
        if path and subprocess.run([path, "-c", "import venv"], check=False, capture_output=True).returncode == 0:
            return path
    return None


@nox.session(python=False)
@nox.parametrize("version", PYTHONS, ids=PYTHONS)
def pythons(session, version):
    """The tests on the other CPythons that are found: on the newest with the newest NumPy, else with the oldest."""
    if sys.version.startswith(f"{version}."):
        session.skip(f"nox itself runs on CPython {version}, and so does the session `tests`")
    python = interpreter(version)
    if not python:
        session.skip(f"no CPython {version} is found here")
    tests_in_a_copy(session, python, "numpy" if version == PYTHONS[-1] else OLDEST_NUMPY)


@nox.session(python=False)
def numpy_oldest(session):
    """The tests on the CPython of nox, with the oldest NumPy that the metadata promise."""
    tests_in_a_copy(session, sys.executable, OLDEST_NUMPY)


@nox.session(python=False)
def numpy_newest(session):
    """The tests on the CPython of nox, with the newest NumPy, release candidates included."""
    tests_in_a_copy(session, sys.executable, "--upgrade", "--pre", "numpy")
