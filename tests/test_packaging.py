"""What is installed and what is not: modules, files, import time, and C that compiles without warnings."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import pytest
from _samples import NUMPY_2_0

import fastgrad

ROOT = Path(__file__).resolve().parent.parent


def run(*command, **options):
    result = subprocess.run(
        [sys.executable, *map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def repository_files():
    for name in ("csrc", "fastgrad", "tests", "benchmarks", "examples", ".ci"):
        yield from (p for p in (ROOT / name).rglob("*") if p.is_file() and p.suffix not in (".pyc", ".so", ".png"))
    yield from (p for p in ROOT.iterdir() if p.suffix in (".py", ".md", ".toml", ".in"))


def test_all_names_exist_and_all_public_names_are_in_it():
    public = {
        name
        for name, value in vars(fastgrad).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    listed = fastgrad.__all__
    assert len(listed) == len(set(listed))
    assert [name for name in listed if not hasattr(fastgrad, name)] == []
    assert public - set(listed) == set()
    assert {"tensor", "Tensor", "grad", "value_and_grad", "training_step", "descend", "show_config"} <= set(listed)


def test_importing_fastgrad_imports_nothing_else():
    program = """
import sys
import numpy
before = set(sys.modules)
import fastgrad
packages = lambda modules: {name.partition(".")[0] for name in modules}
new = packages(sys.modules) - packages(before) - sys.stdlib_module_names
print(*sorted(name for name in new if not name.startswith(("_cython", "cython_"))))
"""
    assert run("-c", program).split() == ["fastgrad"]


@pytest.mark.skipif(NUMPY_2_0, reason="NumPy 2.0 does not import inspect, which fastgrad then does")
def test_import_time():
    run(ROOT / "benchmarks" / "import_time.py", "--check")


def test_no_file_names_a_path_of_some_machine():
    folders = "|".join(("work", "tmp", "home", "root", "Users", "opt", "mnt"))
    absolute = re.compile(rf"(?<![\w.*~/-])/({folders})/")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in repository_files()
        for line in path.read_text(encoding="utf-8").splitlines()
        if absolute.search(line)
    ]
    assert found == []


def test_repository_text_is_plain():
    files = list(repository_files())
    assert len(files) > 30
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "\r" not in text and "\t" not in text, path
        assert not re.search(r"[ ]+$", text, re.MULTILINE), f"{path}: blanks at the end of a line"
        assert not text or text.endswith("\n"), path


def test_lines_have_at_most_120_columns():
    suffixes = (".c", ".h", ".py", ".pyi", ".pyx", ".pxi", ".pxd")
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in repository_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if path.suffix in suffixes and len(line) > 120
    ]
    assert long == []


def test_the_linters_before_a_commit_are_those_of_the_project():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert set(re.findall(r"additional_dependencies: \[(.*)\]", hooks)) == set(groups["lint"])


def build(tmp_path, *options, **environment):
    command = [sys.executable, "setup.py", *options, "--build-lib", tmp_path, "--build-temp", tmp_path]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="the platform is named by the environment on Unix only")
@pytest.mark.parametrize(
    "options, environment, sentence",
    [
        (["--compiler=msvc"], {}, "flags that GCC and Clang know and MSVC does not"),
        ([], {"_PYTHON_HOST_PLATFORM": "macosx-11.0-universal2"}, "one architecture at a time, not for macosx"),
        (
            [],
            {"_PYTHON_HOST_PLATFORM": "linux-x86_64", "FASTGRAD_ISAS": "avx2"},
            "FASTGRAD_ISAS names avx2: for linux-x86_64 it must name baseline, which every machine has, and may name "
            "avx2 avx512",
        ),
        (
            [],
            {"_PYTHON_HOST_PLATFORM": "linux-aarch64", "FASTGRAD_ISAS": "neon sse9"},
            "FASTGRAD_ISAS names neon sse9: for linux-aarch64 it must name neon, which every machine has, and may name "
            "nothing else",
        ),
    ],
)
def test_what_is_not_supported_is_refused_before_anything_is_compiled(tmp_path, options, environment, sentence):
    refused = build(tmp_path, "build_ext", *options, **environment)
    assert refused.returncode != 0
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "compiling" not in refused.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the functions of math.h are in a library of their own")
@pytest.mark.skipif(not shutil.which("readelf"), reason="needs readelf")
def test_the_core_is_linked_with_the_library_of_mathematics():
    """Else it would only load where some other library has brought libm along."""
    core = fastgrad._core.__file__
    needed = subprocess.run(["readelf", "-d", core], capture_output=True, text=True, check=True).stdout
    assert re.search(r"NEEDED.*\[libm\.so", needed), needed


@pytest.mark.slow
def test_wheel(tmp_path):
    run("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    limit = re.search(r"^WHEEL_LIMIT = ([\d_]+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE)[1]
    assert wheel.stat().st_size < int(limit)
    archive = zipfile.ZipFile(wheel)
    names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {name.partition("/")[0] for name in names} == {"fastgrad"}
    assert {Path(name).suffix for name in names} <= {".py", ".pyi", ".typed", ".so", ".pyd", ".h", ".def", ".c"}
    include = "fastgrad/_native/include/"  # what native programs include, and exported ones are copied from
    headers = {name for name in names if name.endswith((".h", ".def", ".c"))}
    assert all(name.startswith(include) for name in headers)
    assert {include + name for name in ("native.h", "kernels/rows.h", "kernels/plain.h", "kernels/linalg.c")} <= headers
    assert {"fastgrad/_core.pyi", "fastgrad/py.typed"} <= set(names)
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "fastgrad").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    if sys.platform.startswith("linux"):  # only the core that is built in place has a table of symbols
        (core,) = [name for name in names if name.endswith(".so")]
        assert b".symtab" not in archive.read(core)
        assert b".symtab" in Path(fastgrad._core.__file__).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [None, "clang"])
def test_our_c_compiles_without_warnings_under_every_instruction_set(tmp_path, compiler):
    """By the compiler at hand and by clang. The build says what it does, unless it is to be quiet."""
    if compiler and not shutil.which(compiler):
        pytest.skip(f"{compiler} is not here")
    environment = {"FASTGRAD_WERROR": "1", **({"CC": compiler} if compiler else {})}
    done = build(tmp_path, "build_ext", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "fastgrad").glob("_core.*"))
    assert re.search(r"^fastgrad: building \d+ objects for .* on \d+ cores?", done.stdout, re.M), done.stdout
    quiet = build(tmp_path, "-q", "build_ext", **environment)
    assert (quiet.returncode, quiet.stdout) == (0, ""), quiet.stderr


def test_the_stub_exports_what_the_core_does():
    import ast

    tree = ast.parse((ROOT / "fastgrad" / "_core.pyi").read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    listed = [ast.literal_eval(node.value) for node in assigned if node.targets[0].id == "__all__"]
    assert listed == [fastgrad._core.__all__]
