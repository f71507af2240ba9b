"""Files that appear whole or not at all.

What is written goes to a temporary file in the same folder, is brought to the disk (fsync), and takes the name of the
old file by one rename; then the folder is brought to the disk. A process that is killed at any moment leaves the old
file or the new one. Beside it may be left what has a name that begins with a dot: the temporary file, and a second
name of the old file, which was about to be kept as the previous one.
Whoever writes one holds a lock on it (flock, which ends with the process), so that others tell it from what was left.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

__all__ = ["check_place", "previous_of", "remove_leftovers", "write_whole"]


def previous_of(path: str) -> str:
    """Where the file before the last one is kept: "run.previous.npz" beside "run.npz"."""
    root, extension = os.path.splitext(path)
    return f"{root}.previous{extension}"


def write_whole(path: str, write: Callable[[BinaryIO], Any], subject: str, keep_previous: bool = False) -> None:
    """Let ``write(file)`` fill a new file, which then takes the place of the one at path; that one is kept beside it if
    asked for. OSError that says so where it fails: then the old file is as it was."""
    path = os.path.realpath(path)  # of a link, the file that it stands for is replaced
    temporary = _temporary_of(path)
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(21, "it is a folder")
        try:
            with contextlib.ExitStack() as stack:
                with _created(temporary, stack) as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                _take_over_mode(path, temporary)
                if keep_previous and os.path.exists(path):
                    _keep(path)
                os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(os.path.dirname(path))
    except OSError as error:
        raise _told(error, subject, path) from error


def check_place(path: str, subject: str) -> None:
    """OSError if no file can be written at path: there is no such folder, it cannot be written to, or is a folder."""
    write_path = os.path.realpath(path)
    temporary = _temporary_of(write_path)
    try:
        if os.path.isdir(write_path):
            raise IsADirectoryError(21, "it is a folder")
        with open(temporary, "xb"):
            pass
        with contextlib.suppress(FileNotFoundError):  # another process has tidied up
            os.unlink(temporary)
    except OSError as error:
        raise _told(error, subject, write_path) from error


def remove_leftovers(path: str) -> None:
    """Remove the temporary files that killed processes have left of path, and not those that others are writing."""
    folder, name = os.path.split(os.path.realpath(path))
    for entry in os.listdir(folder or "."):
        if entry.startswith(f".{name}.") and entry.endswith(".temporary"):
            leftover = os.path.join(folder, entry)
            with contextlib.suppress(OSError):
                if fcntl is None:
                    os.unlink(leftover)
                else:
                    with open(leftover, "r+b") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(leftover)


def _created(temporary: str, stack: contextlib.ExitStack) -> BinaryIO:
    """A new file, with a lock on it that is held until the stack ends, where there are such locks."""
    file = open(temporary, "xb")  # noqa: SIM115  (write_whole closes it)
    if fcntl is not None:
        descriptor = os.dup(file.fileno())  # holds the lock after the file is closed
        stack.callback(os.close, descriptor)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.fstat(descriptor).st_nlink and not os.path.exists(temporary):  # removed before it was locked
            file.close()
            return _created(temporary, stack)
    return file


def _temporary_of(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{secrets.token_hex(4)}.temporary")


def _take_over_mode(path: str, temporary: str) -> None:
    """Give the new file the permissions of the old one, as if that had been written to."""
    with contextlib.suppress(OSError):
        os.chmod(temporary, os.stat(path).st_mode & 0o7777)


def _keep(path: str) -> None:
    """Give the file at path a second name, so that it has its first one until the new file takes that."""
    temporary = _temporary_of(path)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links: for a moment there is the previous file only
        os.replace(path, previous_of(path))
        return
    try:
        with contextlib.suppress(FileNotFoundError):  # another process has tidied up; the previous file stays
            os.replace(temporary, previous_of(path))
    finally:  # where both names mean one file already, the rename leaves them
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _sync_folder(folder: str) -> None:
    """Bring the rename to the disk, where folders can be opened and synced at all."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _told(error: OSError, subject: str, path: str) -> OSError:
    """An OSError of the same class that says what was written where, and that nothing was lost."""
    if error.errno is None:
        return OSError(f"{subject}: {path!r} cannot be written: {error}")
    reason = os.strerror(error.errno)
    kept = "; the file that was there is as it was" if os.path.isfile(path) else ""
    told = OSError(error.errno, f"{subject}: {path!r} cannot be written: {reason}{kept}")
    return told
