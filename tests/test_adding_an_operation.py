"""docs/adding-an-operation.md: the places that it names exist, and what it shows works in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastgrad import _core

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "adding-an-operation.md").read_text()
# (path, place, code) of each block.
BLOCKS = [
    (path, place, code)
    for path, place, code in re.findall(r"```\w+\n(?:/\*|#) (\S+): (.+?)(?: \*/)?\n(.*?)```", PAGE, re.DOTALL)
]
# Where a place is: before the first line that begins so.
PLACES = {
    "before the first BINARY row": "BINARY(",
    "before the first KERNEL row": "KERNEL(",
    'before "less"': '    "less":',
    "before fill": "REDUCE(void, fill",
    "after the other kernels": "#undef FOR_GROUPS",
    "before all_finite": "static int NAME(all_finite)",
    "before _KNOWN": "_KNOWN",
}


def put(text, place, code):
    """The text of a file with code in its place."""
    if place == "at the end":
        return f"{text.rstrip()}\n\n\n{code}" if code.startswith(("def", "int")) else f"{text.rstrip()}\n{code}"
    before, found, after = text.partition("\n" + PLACES[place])
    assert found, f"no line begins with {PLACES[place]!r}"
    gap = "\n\n" if code.startswith(("class", "static")) else ""
    return f"{before}\n{code}{gap}{found[1:]}{after}"


def test_every_file_that_the_page_names_exists():
    named = set(re.findall(r"(?:csrc|fastgrad|tests|tools)/[\w/.-]+", PAGE))
    assert len(named) > 10
    assert sorted(path for path in named if not (ROOT / path.rstrip(".")).exists()) == []


def test_every_name_that_the_page_mentions_exists():
    sources = {path: path.read_text() for folder in ("csrc", "fastgrad") for path in (ROOT / folder).rglob("*")
               if path.suffix in (".c", ".h", ".def", ".py", ".pxi")}  # fmt: skip
    everything = "\n".join(sources.values())
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    words = {word.split(".")[-1] for word in re.findall(r"`([A-Za-z_][\w.]*)`", prose)}
    words = {word for word in words if "_" in word}
    assert len(words) > 10
    assert sorted(word for word in words if not re.search(rf"\b{word}\b", everything)) == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[0])
def test_every_block_has_its_place(block):
    path, place, code = block
    text = put((ROOT / path).read_text(), place, code)
    assert text.count(code) == 1


def test_all_kinds_are_shown():
    assert {path for path, _, _ in BLOCKS} >= {
        "csrc/ops.def", "csrc/structural.def", "csrc/ops/shapes.c", "csrc/kernels.def", "csrc/kernels/reduce.c",
        "csrc/optim.def", "fastgrad/_rules/table.py", "fastgrad/_numpy/scipy_special.py", "fastgrad/optim/_rules.py",
        "tests/_operations.py",
    }  # fmt: skip


CHECK = """
import numpy as np
import fastgrad as fg
from fastgrad import _core

x, w = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0]]), np.array([[1.0, -1.0, 2.0], [0.5, 3.0, -2.0]])
equal = np.testing.assert_allclose

equal(fg.cube(x), x**3)
equal(fg.grad(lambda x: fg.sum(fg.cube(x)))(x), 3 * x**2)
equal(fg.grad(lambda x: fg.sum(fg.grad(lambda x: fg.sum(fg.cube(x)))(x)))(x), 6 * x)
equal(fg.squared_difference(x, w), (x - w) ** 2)
equal(fg.grad(lambda x: fg.sum(fg.squared_difference(x, w)))(x), 2 * (x - w))
for f, expected in ((fg.cube, x**3), (fg.reverse, x[:, ::-1]), (lambda a: fg.squared_difference(a, 1.0), (x - 1) ** 2)):
    equal(fg.vmap(f)(x), expected)
equal(fg.jvp(fg.cube, (x,), (w,))[1], 3 * x**2 * w)

equal(fg.reverse(x, axis=1), x[:, ::-1])
equal(fg.grad(lambda x: fg.sum(fg.reverse(x) * w))(x), w[::-1])
equal(fg.jvp(lambda x: fg.reverse(x, axis=1), (x,), (w,))[1], w[:, ::-1])
equal(fg.jacobian(fg.reverse)(x[0]), np.eye(3)[::-1])
equal(fg.compile(fg.grad(lambda x: fg.sum(fg.reverse(x) ** 3)))(x), 3 * x**2)
fg.check_grads(lambda x: fg.reverse(fg.exp(x)) * x, (x,), order=2)

equal(fg.row_dots(x, w), (x * w).sum(1))
equal(fg.grad(lambda x: fg.sum(fg.row_dots(x, w) ** 2))(x), 2 * (x * w).sum(1, keepdims=True) * w)
equal(fg.jvp(lambda x: fg.row_dots(x, x), (x,), (w,))[1], 2 * (x * w).sum(1))
equal(fg.vmap(fg.row_dots, (0, None))(x, w[0]), x @ w[0])
fg.check_grads(lambda x, w: fg.row_dots(fg.exp(x), x * w), (x, w), order=2)

fg.check_grads(fg.special.exp1, (np.array([0.5, 2.0]),), order=2)

p = np.zeros(3)
optimizer = fg.optim.get("signsgd", learning_rate=0.5)
optimizer.step(p, np.array([3.0, -0.1, 0.0]))
equal(p, [-0.5, 0.5, 0.0])
step = fg.training_step(lambda p, x: fg.sum((p - x) ** 2), p, optimizer)
for _ in range(4):
    step(np.array([-1.5, 1.5, 0.0]))
equal(p[:2], [-1.5, 1.5])
assert "programs" not in repr(step) and repr(step).endswith("compiled>")
"""


@pytest.mark.slow
def test_what_the_page_shows_works(tmp_path):
    for name in ("csrc", "docs", "fastgrad", "tests", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for path, place, code in BLOCKS:
        file = tmp_path / path
        file.write_text(put(file.read_text(), place, code))
    stub = tmp_path / "fastgrad" / "optim" / "_rules.py"
    assert '"SGD", "get"' in stub.read_text()
    stub.write_text(stub.read_text().replace('"SGD", "get"', '"SGD", "SignSGD", "get"'))
    options = {"FASTGRAD_WERROR": "1", "FASTGRAD_ISAS": _core.available_isas()[0]}
    environment = {**os.environ, **options, "PYTHONPATH": str(tmp_path)}

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    run("tools/generate.py")
    run("setup.py", "-q", "build_ext", "-i")
    run("-c", CHECK)
    rows = "reverse or row_dots or cube or squared_difference or row or stub or names or generated or numbers"
    files = [f"tests/test_{name}.py" for name in ("operations", "vmap", "higher_order", "forward", "sparse")]
    run("-m", "pytest", "-q", *files, "-k", rows)
