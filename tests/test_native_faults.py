"""Native programs where something is wrong: compilers, directories and files that do not serve, forks and exits."""

import os
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from _native import native, needs_compiler, own_directory  # noqa: F401
from _oracles import ADDRESS_SANITIZER

import fastgrad as fg
from fastgrad._native import background, build, cache, compiler
from fastgrad._native.error import CompilerError


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="the compilers here are shell scripts")
@pytest.mark.parametrize(
    "fault, said",
    [
        ("missing", "cannot be started"),
        ("fails", "failed with status 3: no room"),
        ("killed", "failed with status -9"),
        ("rubbish", "cannot be loaded"),
        ("nothing", "has written no library"),
        ("hangs", "took longer than"),
    ],
)
def test_compilers_that_do_not_work(fault, said, tmp_path, monkeypatch):
    version = 'case "$*" in *--version*) echo cc 1.0; exit 0;; esac\n'
    output = 'while [ "$1" != -o ]; do shift; done\n'
    commands = {
        "fails": "echo no room >&2; exit 3", "killed": "kill -9 $$", "rubbish": output + 'echo rubbish > "$2"',
        "nothing": "exit 0", "hangs": "sleep 30",
    }  # fmt: skip
    path = str(tmp_path / "none") if fault == "missing" else script(tmp_path / "cc", version + commands[fault])
    monkeypatch.setenv("CC", path)
    monkeypatch.setattr(compiler, "SECONDS", 0.3)
    f, x = (lambda x: np.exp(x) * 3), np.arange(3.0)
    expected = fg.compile(f)(x)
    with pytest.raises(RuntimeError, match=said):
        fg.compile(f, native=True)(x)
    monkeypatch.setattr(background, "PAYS_AFTER", 1.0)
    monkeypatch.setattr(background, "_queue", background._Queue())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = fg.compile(f, native="auto")
        for _ in range(10):
            np.testing.assert_array_equal(compiled(x), expected)
        assert background.wait(20)
        np.testing.assert_array_equal(compiled(x), expected)
    facts = compiled.program(x).facts["native"]
    assert facts["runs"] == "interpreter" and said in facts["why"]
    assert len(caught) == (fault != "missing"), [str(w.message) for w in caught]


@pytest.mark.skipif(sys.platform == "win32", reason="the compilers here are shell scripts")
def test_a_compiler_that_always_fails_is_given_up(tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    monkeypatch.setenv("CC", script(tmp_path / "cc", f"[ $1 = --version ] || echo . >> {calls}; [ $1 = --version ]"))
    monkeypatch.setattr(background, "PAYS_AFTER", 1.0)
    monkeypatch.setattr(background, "_queue", background._Queue())
    compiled = fg.compile(np.exp, native="auto")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 7):
            for _ in range(5):
                np.testing.assert_array_equal(compiled(np.zeros(n)), np.ones(n))
            assert background.wait(20)
    assert len(calls.read_text().split()) == 2 * background.MOST_FAILURES  # within the cache, and then elsewhere
    assert len(caught) == 1
    assert "no more are tried" in compiled.program(np.zeros(6)).facts["native"]["why"]
    with pytest.raises(RuntimeError, match="failed with status"):
        fg.compile(np.exp, native=True)(1.0)


@needs_compiler
def test_a_text_that_is_too_long_is_not_compiled(monkeypatch):
    """It says nothing of the compiler, which is tried for other programs."""
    monkeypatch.setattr(build, "MOST_LINES", 50)
    monkeypatch.setattr(background, "PAYS_AFTER", 1.0)
    monkeypatch.setattr(background, "_queue", background._Queue())

    def f(x, times):
        for k in range(times):
            x = np.linalg.multi_dot([x, x, x]) * (0.1 + k)
        return x

    compiled = fg.compile(f, native="auto", static_argnums=1)
    with pytest.warns(UserWarning, match="its text has"):
        for times in range(20, 21 + background.MOST_FAILURES):
            for _ in range(5):
                compiled(np.eye(2), times)
            assert background.wait(60)
    assert "would take a compiler too long" in compiled.program(np.eye(2), 20).facts["native"]["why"]
    for _ in range(5):
        compiled(np.eye(2), 1)
    assert background.wait(60)
    assert compiled.program(np.eye(2), 1).facts["native"]["runs"] == "native"
    with pytest.raises(RuntimeError, match="more than 50 would take"):
        fg.compile(f, native=True, static_argnums=1)(np.eye(2), 30)


@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="the compiler here is a shell script")
@pytest.mark.parametrize("fault", ["full", "noexec"])
def test_a_disk_on_which_nothing_can_be_kept(fault, tmp_path, monkeypatch):
    """The program is compiled elsewhere, and nothing is left behind in either place."""
    command = " ".join(compiler.find().command)
    refuse = "case $* in *no-room*) echo no room left; exit 1;; esac\n" if fault == "full" else ""
    monkeypatch.setenv("CC", script(tmp_path / "cc", f'{refuse}exec {command} "$@"'))
    monkeypatch.setenv("FASTGRAD_CACHE_DIR", str(tmp_path / "no-room"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if fault == "noexec":
        opened = cache.open_library

        def refused(path, text):
            if "no-room" in str(path):
                raise CompilerError("failed to map segment from shared object")
            return opened(path, text)

        monkeypatch.setattr(cache, "open_library", refused)
    x = np.arange(5.0)
    compiled = native(lambda x: np.exp(x) * 5 + (fault == "full"), x)
    np.testing.assert_allclose(compiled(x), np.exp(x) * 5 + (fault == "full"), rtol=1e-15)
    assert compiled.program(x).facts["native"]["text"] is None
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["cc", "native", "no-room"]


def test_a_compiler_that_says_nothing_of_itself_has_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", f"{sys.executable} -c pass")
    assert fg.show_config(mode="dicts")["native"]["compiler"] == f"{sys.executable} -c pass"


def test_abandoned_directories_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGRAD_CACHE_DIR", str(tmp_path))
    new, old = (cache.directory() / f"{cache._WORK}{name}" for name in "ab")
    for path in (new, old):
        path.mkdir()
        (path / "program.c").write_text("")
    os.utime(old, (0, 0))
    cache._shrink(cache.directory())
    assert new.exists() and not old.exists()


@needs_compiler
@pytest.mark.parametrize("fault", ["a file", "read-only", "others may write", "another's"])
def test_directories_that_cannot_be_used(fault, tmp_path, monkeypatch):
    """The program is compiled in a temporary directory instead, and nothing is kept."""
    monkeypatch.setenv("FASTGRAD_CACHE_DIR", str(tmp_path / "base"))
    if fault == "a file":
        (tmp_path / "base").write_text("")
    elif fault == "read-only":
        if os.geteuid() == 0:
            monkeypatch.setattr(Path, "mkdir", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("read-only")))
        (tmp_path / "base").mkdir(0o500) if os.geteuid() else None
    elif fault == "others may write":
        (tmp_path / "base" / "native").mkdir(parents=True)
        (tmp_path / "base" / "native").chmod(0o777)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr(cache._libraries, "by_key", {})
    compiled = native(lambda x: np.exp(x) - 4, np.ones(2))
    assert compiled.program(np.ones(2)).facts["native"]["text"] is None
    with pytest.raises(CompilerError):
        cache.directory()


@needs_compiler
def test_a_damaged_file_is_thrown_away(monkeypatch):
    f, x = (lambda x: np.exp(x) - 5), np.ones(2)
    text = native(f, x).program(x).facts["native"]["text"]
    library = Path(text).with_suffix(".so")
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    whole = library.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole[:-1] + b"x"):
        library.unlink()  # it is mapped: to write into it would change the program that runs
        library.write_bytes(content)
        monkeypatch.setattr(cache._libraries, "by_key", {})
        np.testing.assert_array_equal(native(f, x)(x), fg.compile(f)(x))
        assert library.read_bytes() == whole or len(library.read_bytes()) > len(whole) // 2


@needs_compiler
def test_a_second_process_finds_the_program(tmp_path, monkeypatch):
    """... without its text and without asking the compiler."""
    monkeypatch.setenv("FASTGRAD_CACHE_DIR", str(tmp_path))
    program = """
import sys, numpy as np, fastgrad as fg
w = np.arange(9.0).reshape(3, 3)
def f(x):
    return fg.scan(lambda c, r: (np.exp(-c) + np.linalg.solve(w + 20 * np.eye(3), c), c @ r), x, np.ones((4, 3)))
made = fg.compile(f, native=True)
print(made(np.ones(3))[0].sum(), made.program(np.ones(3)).facts["native"]["share"])
print("subprocess" in sys.modules, "fastgrad._native.emit" in sys.modules)
"""

    def run():
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert not done.returncode, done.stderr
        return done.stdout.splitlines()

    first, second = run(), run()
    assert first[0] == second[0] and first[1] == "True True" and second[1] == "False False"
    # A short key that stands for nothing, or for what is no key, is as good as none.
    for path in (cache.directory()).glob("*.key"):
        for text in ("", "x", "../../x 1.0", f"{'0' * 40} 1.0"):
            path.write_text(text)
    assert run()[0] == first[0]


def test_a_program_is_looked_up_by_the_whole_command_of_the_compiler(monkeypatch):
    program, keys = fg.compile(np.tanh).program(np.ones(3)), set()
    for command in ("gcc", "gcc -O1", "gcc -O1 -g", "ccache gcc"):
        monkeypatch.setenv("CC", command)
        keys.add(cache.short_key(program))
    assert len(keys) == 4


@needs_compiler
def test_the_directory_stays_small(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "MOST_BYTES", 40_000)
    for k in range(4):
        native(lambda x, k=k: x - 7 - k, np.ones(2))
    files = list((tmp_path / "native").iterdir())
    assert files and sum(f.stat().st_size for f in files) <= 80_000, files
    assert not [f for f in files if f.name.startswith("work-")]


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork") or ADDRESS_SANITIZER, reason="a fork beside a thread is not to be had")
def test_fork_while_a_compiler_runs(tmp_path, monkeypatch):
    program = """
import os, sys, warnings, numpy as np, fastgrad as fg
from fastgrad._native import background
warnings.simplefilter("ignore")
background.PAYS_AFTER = 1.0
f = fg.compile(lambda x: np.sum(np.exp(x)), native="auto")
for _ in range(5):
    f(np.ones(3))
child = os.fork()
g = fg.compile(lambda x: np.sum(np.exp(x) + 1), native="auto")
for _ in range(5):
    g(np.ones(3))
done = background.wait(30)
if child == 0:
    os._exit(0 if done and abs(f(np.ones(3)) - 3 * np.e) < 1e-12 else 1)
print(os.waitpid(child, 0)[1], done)
"""
    environment = {**os.environ, "FASTGRAD_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout == "0 True\n", done.stderr


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork") or ADDRESS_SANITIZER, reason="a fork beside a thread is not to be had")
@pytest.mark.parametrize("seconds", [0, 0.03])
def test_fork_while_the_thread_imports(seconds, tmp_path):
    program = f"""
import os, signal, time, warnings, numpy as np, fastgrad as fg
from fastgrad._native import background
warnings.simplefilter("ignore")
background.PAYS_AFTER = 1.0
f = fg.compile(lambda x: np.sum(np.exp(x)), native="auto")
for _ in range(5):
    f(np.ones(3))
time.sleep({seconds})
child = os.fork()
if child == 0:
    signal.alarm(30)
    os._exit(0 if fg.compile(lambda x: x * 3, native=True)(2.0) == 6 else 1)
print(os.waitpid(child, 0)[1])
"""
    environment = {**os.environ, "FASTGRAD_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout == "0\n", done.stderr


def test_the_callers_thread_imports_nothing_that_compiles():
    program = """
import sys, numpy as np, fastgrad as fg
fg.compile(np.exp, native="auto")(np.ones(3))
print([m for m in ("subprocess", "fastgrad._native.build", "fastgrad._native.emit") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stdout + done.stderr


@needs_compiler
def test_exit_does_not_wait_for_a_compiler(tmp_path):
    version = 'case "$*" in *--version*) echo cc 1.0; exit 0;; esac\n'
    environment = {**os.environ, "CC": script(tmp_path / "cc", version + "sleep 50")}
    program = """
import time, numpy as np, fastgrad as fg
from fastgrad._native import background
background.PAYS_AFTER = 1.0
f = fg.compile(np.exp, native="auto")
for _ in range(5):
    f(np.ones(3))
time.sleep(0.3)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
