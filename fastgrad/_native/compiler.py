"""The C compiler of this machine: which one it is, and how it is run.

It is spawned without a shell, with a time limit and in a process group of its own, so that Ctrl-C at the terminal
reaches it only through us.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _core
from .error import CompilerError, NoCompiler, TimeLimit
from .flags import C_FLAGS, ISA_FLAGS

if TYPE_CHECKING:
    import subprocess  # which, like some others, is imported where a compiler is started

SECONDS = 60  # that a compilation may take

# Arithmetic of integers wraps around, as NumPy's does, and memory of the arena holds values of several types in turn.
_NATIVE_FLAGS = ["-fPIC", "-shared", "-fno-strict-aliasing", "-fwrapv", "-w"]


class Compiler:
    def __init__(self, command: tuple[str, ...], identity: str) -> None:
        """identity: the first lines that it says of itself."""
        self.command, self.identity = command, identity

    def flags(self) -> list[str]:
        flags = [*C_FLAGS, *ISA_FLAGS[_core.isa()], *_NATIVE_FLAGS]
        if "clang" in self.identity.lower():  # where `fast` would fuse across the functions of rows.h, too
            flags[flags.index("-ffp-contract=fast")] = "-ffp-contract=on"
        return flags


def _candidates() -> list[list[str]]:
    named = os.environ.get("CC")
    if named:
        import shlex

        return [shlex.split(named)]
    found = [[name] for name in ("cc", "gcc", "clang") if _which(name)]
    if importlib.util.find_spec("ziglang") is not None:
        found.append([sys.executable, "-m", "ziglang", "cc"])
    return found


def _which(name: str) -> str | None:
    if sys.platform == "win32":
        import shutil

        return shutil.which(name)
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def files() -> list[tuple[str, int, int]]:
    """The words of the commands that may be the compiler, its options among them; of those that are files also the
    sizes and times, which are cheaper to know than what a compiler says of itself."""
    found = []
    for command in _candidates():
        for word in command:
            found.append((word, 0, 0))
            path = os.path.realpath(_which(word) or word)
            with contextlib.suppress(OSError, ValueError):
                facts = os.stat(path)
                found.append((path, facts.st_size, facts.st_mtime_ns))
    return found


def find() -> Compiler:
    """$CC, else cc, gcc, clang or the package `ziglang`: the first that runs; NoCompiler if none does."""
    found = _find(tuple(files()), os.environ.get("PATH"))
    if isinstance(found, str):
        raise NoCompiler(found)
    return found


@functools.lru_cache(maxsize=8)
def _find(files: tuple[tuple[str, int, int], ...], path: str | None) -> Compiler | str:
    """The compiler of these candidates, or why there is none, which may take as long as it takes to wait for them."""
    reasons = []
    for command in _candidates():
        try:
            said = run([*command, "--version"], 10)
        except CompilerError as error:
            reasons.append(str(error))
            continue
        return Compiler(tuple(command), said.strip() or " ".join(command))
    return "; ".join(reasons) or "no C compiler was found: looked for $CC, cc, gcc, clang and the package ziglang"


def run(command: Sequence[str], seconds: float, temporary: Path | None = None) -> str:
    """What a command prints; CompilerError if it cannot be started, fails, or takes longer. temporary: where it may put
    files of its own, which one that is killed leaves behind."""
    import shlex
    import subprocess

    name = shlex.join(command[:3])
    if _processes.ended:
        raise CompilerError(f"{name} is not started, because the process exits")
    environment = {**os.environ, "LC_ALL": "C"}
    environment.pop("LD_PRELOAD", None)  # a library for Python, such as a sanitizer's, is none for the compiler
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    except (OSError, ValueError) as error:
        raise CompilerError(f"{name} cannot be started: {error}") from None
    _processes.running.add(process)
    try:
        with process:
            try:
                said, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                kill(process)
                raise TimeLimit(f"{name} took longer than {seconds:g} s") from None
            except BaseException:
                kill(process)
                raise
    finally:
        _processes.running.discard(process)
    text = said.decode(errors="replace")
    if process.returncode:
        raise CompilerError(f"{name} failed with status {process.returncode}: {text[-2000:].strip()}")
    return text


class _Processes:
    """The compilers under way."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[bytes]] = set()
        self.ended = False  # whether this process is about to exit


_processes = _Processes()


def running() -> bool:
    return bool(_processes.running)


def kill_all() -> None:
    """At exit: end all compilers under way; no more are started."""
    _processes.ended = True
    for process in list(_processes.running):
        kill(process)


def forget_all() -> None:
    """In a child after a fork: the compilers are the parent's."""
    _processes.running.clear()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a compiler and the processes that it has started."""
    import signal

    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


@functools.cache
def include_directory() -> Path:
    """Where native.h and the kernels' headers are: in a wheel beside this file, in a source tree in csrc."""
    here = Path(__file__).resolve().parent
    for directory in (here / "include", here.parent.parent / "csrc"):
        if (directory / "native.h").is_file():
            return directory
    raise CompilerError("the headers of native programs are missing from this installation")


def command_line(compiler: Compiler, source: Path, target: Path) -> list[str]:
    return [*compiler.command, *compiler.flags(), f"-I{include_directory()}", "-o", str(target), str(source), "-lm"]
