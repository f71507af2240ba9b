"""Compiled programs on disk, and loaded.

A library is named by the hash of all that it was made from: text, headers (which tell the version of the contract),
compiler, flags, instruction set. Its file ends with the hash of its own bytes, so that one which was cut short is found
and thrown away. Nothing is ever loaded from a directory that another user owns or can write to, nor from one that
another user could put in the place of such a directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

try:
    from _blake2 import blake2b  # as hashlib has it, whose import takes milliseconds
except ImportError:
    from hashlib import blake2b

from .. import _core
from .._core import Program
from . import compiler as _compiler
from .compiler import Compiler
from .error import CompilerError
from .limits import CONSTANT_BYTES

MOST_BYTES = 256 << 20  # that the directory may hold; the files used longest ago go first
_INCLUDED = (".h", ".def", "linalg.c")  # what the names of headers end with
_SEAL = 32  # bytes of a hash
_WORK = "work-"  # what the names of directories begin with in which a compiler works
_ABANDONED = 3600  # seconds after which that is over
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Native:
    """A program's native code, loaded; it stays loaded as long as the process runs. (A plain class: each class of the
    typing module takes a third of a millisecond of the first program.)"""

    def __init__(self, address: int, text: Path | None, library: ctypes.CDLL) -> None:
        """text: None where nothing could be kept on disk."""
        self.address, self.text, self.library = address, text, library


class _Libraries:
    """The programs that this process has loaded, by key."""

    def __init__(self) -> None:
        self.by_key: dict[str, Native] = {}
        self.lock = threading.Lock()


_libraries = _Libraries()


def after_fork() -> None:
    """In a child: a thread that holds the lock, or compiles, is in the parent."""
    _libraries.lock = threading.Lock()
    _under_way.clear()


def directory() -> Path:
    """The directory of compiled programs, which only this user can write to; CompilerError if there is none."""
    base = os.environ.get("FASTGRAD_CACHE_DIR")
    if base:
        path = Path(base)
    elif sys.platform == "darwin":
        path = Path.home() / "Library" / "Caches" / "fastgrad"
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastgrad"
    path = path / "native"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise CompilerError(f"no directory for compiled programs: {error}") from None
    path = path.resolve()
    if not is_own(path) or not all(is_kept(parent) for parent in path.parents):
        raise CompilerError(f"{path}, or a directory above it, is another user's or can be written to by others")
    return path


def is_own(path: Path) -> bool:
    """Whether this user owns the file or directory, and nobody else can write to it."""
    if not hasattr(os, "getuid"):
        return True
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return not stat.S_ISLNK(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & _OTHERS_WRITE


def is_kept(path: Path) -> bool:
    """Whether nobody but this user and the system's can put another directory in the place of one within this."""
    if not hasattr(os, "getuid"):
        return True
    found = os.lstat(path)
    return found.st_uid in (0, os.getuid()) and (not found.st_mode & _OTHERS_WRITE or found.st_mode & stat.S_ISVTX != 0)


@functools.cache
def _headers() -> bytes:
    files = sorted(p for p in _compiler.include_directory().rglob("*") if p.name.endswith(_INCLUDED))
    whole = blake2b(digest_size=32)
    for path in files:
        whole.update(path.read_bytes())
    return whole.digest()


@functools.cache
def _files() -> list[tuple[str, int, int]]:
    """The headers, and what writes the text, with their sizes and times."""
    found, folders = [], [str(_compiler.include_directory()), os.path.dirname(__file__)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name.endswith((*_INCLUDED, ".py")):
                    facts = entry.stat()
                    found.append((entry.path, facts.st_size, facts.st_mtime_ns))
    return sorted(found)


def short_key(program: Program) -> str:
    """A hash of the program itself, for one that was compiled before: neither its text nor the compiler is needed."""
    facts = (_described(program), _files(), _compiler.files(), _core.isa())
    return blake2b(repr(facts).encode(), digest_size=20).hexdigest()


def _described(program: Program) -> tuple[object, ...]:
    steps: list[object] = []
    bodies: list[object] = []
    for k, (op, y, operands, attr, *rest) in enumerate(program.steps()):
        within = program.bodies(k)
        bodies += map(_described, within)
        steps.append((op, y, operands, attr[len(within) :], *rest))  # without the bodies' addresses
    return program.buffers(CONSTANT_BYTES), steps, program.outs(), program.facts["inputs"], program.work, bodies


def linked(short: str) -> tuple[Native, float] | None:
    """The program of this short key, and its share of native steps, if it is known and can be loaded."""
    with contextlib.suppress(CompilerError, OSError, ValueError):
        path = directory() / f"{short}.key"
        name, share = path.read_text().split() if is_own(path) else ("", "0")
        found = loaded(name) if len(name) == 40 and name.isalnum() else None
        if found is not None:
            return found, float(share)
    return None


def link(short: str, name: str, share: float) -> None:
    """Note which key a short key stands for."""
    with contextlib.suppress(CompilerError, OSError):
        path = directory() / f"{short}.key"
        new = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        new.write_text(f"{name} {share!r}\n")
        os.replace(new, path)


def key(text: str, compiler: Compiler) -> str:
    parts = (text, compiler.identity, " ".join(compiler.command), " ".join(compiler.flags()), _core.isa())
    whole = blake2b(_headers(), digest_size=20)
    for part in parts:
        whole.update(b"%d:" % len(part) + part.encode())
    return whole.hexdigest()


def loaded(name: str) -> Native | None:
    """The program of this key if it is loaded, or can be from the directory."""
    with _libraries.lock:
        if name in _libraries.by_key:
            return _libraries.by_key[name]
        with contextlib.suppress(CompilerError, OSError):
            path = directory() / f"{name}.so"
            if path.exists():
                return _load(name, path)
    return None


def _load(name: str, path: Path) -> Native | None:
    """Load a library; None, and the file is thrown away, if it is not what was once written there."""
    content = path.read_bytes() if is_own(path) else b""
    if not content or blake2b(content[:-_SEAL], digest_size=_SEAL).digest() != content[-_SEAL:]:
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    text = path.with_suffix(".c")
    _libraries.by_key[name] = open_library(path, text if text.exists() else None)
    return _libraries.by_key[name]


def open_library(path: Path, text: Path | None) -> Native:
    try:
        library = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
        address = ctypes.cast(library.fg_native_program, ctypes.c_void_p).value
    except (OSError, AttributeError) as error:
        raise CompilerError(f"a compiled program cannot be loaded: {error}") from None
    assert address is not None
    return Native(address, text, library)


class Workplace:
    """A private directory for one compilation."""

    def __init__(self, path: Path, kept: Path | None) -> None:
        """kept: the directory of compiled programs, if the library is to be kept there."""
        self.path, self.kept = path, kept
        self.source, self.target = path / "program.c", path / "program.so"
        _under_way.add(self)

    def write(self, text: str) -> None:
        try:
            self.source.write_text(text)
        except OSError as error:
            raise CompilerError(f"a program's text cannot be written: {error}") from None

    def finish(self, name: str) -> Native:
        """Load the library that the compiler has written; and keep it on disk if that can be done."""
        try:
            content = self.target.read_bytes()
        except OSError:
            raise CompilerError("the compiler has written no library") from None
        with _libraries.lock:
            if name not in _libraries.by_key:
                made = open_library(self.target, None)
                made.text = self._keep(name, content)
                _libraries.by_key[name] = made
            return _libraries.by_key[name]

    def _keep(self, name: str, content: bytes) -> Path | None:
        """Move both files to the cache; where the text is then, None if they are not kept."""
        if self.kept is None:
            return None
        text = self.kept / f"{name}.c"
        try:
            sealed = self.path / "sealed.so"  # a new file: the other one is in use
            sealed.write_bytes(content + blake2b(content, digest_size=_SEAL).digest())
            os.replace(self.source, text)
            os.replace(sealed, self.kept / f"{name}.so")
        except OSError:
            return None
        _shrink(self.kept)
        return text

    def remove(self) -> None:
        import shutil

        _under_way.discard(self)
        shutil.rmtree(self.path, ignore_errors=True)


_under_way: set[Workplace] = set()


def remove_workplaces() -> None:
    """At exit: those of compilations under way."""
    for place in list(_under_way):
        place.remove()


def workplaces() -> Iterator[Workplace]:
    """A directory within the cache, if that can be used, and then a temporary one."""
    import tempfile

    with contextlib.suppress(CompilerError, OSError):
        kept = directory()
        yield Workplace(Path(tempfile.mkdtemp(prefix=_WORK, dir=kept)), kept)
    try:
        path = Path(tempfile.mkdtemp(prefix="fastgrad-"))
    except OSError as error:
        raise CompilerError(f"no directory to compile in: {error}") from None
    yield Workplace(path, None)


def _shrink(path: Path) -> None:
    """Drop the files used longest ago until the rest is no more than MOST_BYTES, and the directories of compilations
    whose process was killed."""
    import shutil

    files = []
    for file in path.iterdir():
        with contextlib.suppress(OSError):
            found = file.stat()
            if file.name.startswith(_WORK):
                if found.st_mtime < time.time() - _ABANDONED:
                    shutil.rmtree(file, ignore_errors=True)
                continue
            files.append((found.st_mtime, found.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= MOST_BYTES:
            break
        with contextlib.suppress(OSError):
            file.unlink()
            total -= size
