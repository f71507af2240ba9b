"""How many threads long work may have: `set_num_threads`, and what holds at first.

The threads are the core's (csrc/core/threads.c), which knows only a number. Here it is found: what the environment
says, or the processors on which this process may run, of which a container may grant the time of fewer.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from . import _core
from ._arguments import integer

__all__ = ["get_num_threads", "set_num_threads"]

MOST = 256  # FG_MAX_THREADS


def set_num_threads(n: int) -> None:
    """Let long work have at most n threads from now on, the caller's included, in the whole process.

    At first it is the number in the environment variable FASTGRAD_NUM_THREADS, else in OMP_NUM_THREADS, else that of
    the processors which this process may use (affinity, a container's limit). Results have the same bits whatever it
    is. BLAS has threads of its own, which ``show_config`` tells and ``threadpoolctl`` limits.

    Parameters
    ----------
    n : int
        From 1, with which no other threads run; more than 256 count as 256.

    Raises TypeError where n is no integer, ValueError where it is less than 1.

    >>> import fastgrad as fg
    >>> before = fg.get_num_threads()
    >>> fg.set_num_threads(1)
    >>> fg.get_num_threads()
    1
    >>> fg.set_num_threads(before)
    """
    _core.set_threads_limit(min(integer("set_num_threads", "n", n), MOST))


def get_num_threads() -> int:
    """How many threads long work may have: see ``set_num_threads``.

    >>> import fastgrad as fg
    >>> fg.get_num_threads() >= 1
    True
    """
    return _core.threads_limit()


def start() -> None:
    """Set the number that holds at first."""
    if text := os.environ.get("FASTGRAD_NUM_THREADS", "").strip():
        if not (text.isascii() and text.isdecimal() and int(text[:9])):
            raise ImportError(f"FASTGRAD_NUM_THREADS={text}: expected an integer above 0")
        n = int(text[:9])
    else:
        outer = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # one number for each level of nesting
        n = int(outer[:9]) if outer.isascii() and outer.isdecimal() else 0
    _core.set_threads_limit(min(n or usable_processors(), MOST))


def usable_processors() -> int:
    """On how many processors this process may run, or the time of how many it is granted if that is less."""
    affinity = getattr(os, "sched_getaffinity", None)
    n = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([n, *(int(share) for share in granted(Path("/")))]))


def granted(root: Path) -> Iterator[float]:
    """The processors whose time the control groups of this process grant: of Linux, in either version, below root."""
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if not controllers:
                yield from _granted_by(root / "sys/fs/cgroup", name, _share)
            elif "cpu" in controllers.split(","):
                yield from _granted_by(root / "sys/fs/cgroup" / controllers, name, _share_of_version_1)


def _granted_by(base: Path, name: str, share: Callable[[Path], float | None]) -> Iterator[float]:
    """What a group and those around it grant; within a container its name may be one that only the host knows."""
    group = base / name.lstrip("/")
    for place in [group, *group.parents]:
        with contextlib.suppress(OSError, ValueError):
            if (found := share(place)) is not None:
                yield found
        if place == base:
            return


def _share(group: Path) -> float | None:
    quota, period = (group / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _share_of_version_1(group: Path) -> float | None:
    quota = int((group / "cpu.cfs_quota_us").read_text())
    return None if quota <= 0 else quota / int((group / "cpu.cfs_period_us").read_text())


start()
