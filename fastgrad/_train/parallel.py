"""Descent on several processes, the ranks of a communicator such as MPI's, each with its own part of the data.

Each rank holds all parameters. At each step it computes the gradients of the sum of the losses of its rows, which its
program writes next to each other into one block of memory. The block is summed over all ranks in place, and each rank
makes the same update of the mean. So parameters and optimizer states stay the same on all ranks.

No rank waits for one that has left. One that fails or stops says so in the last number of the block, in the all-reduce
in which the others take part with their next step; then all exchange why.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from .. import _blas, _core, optim, tree

__all__ = ["RankError", "Ranks", "Stopped", "agree_on_end", "own_parts"]

_F = TypeVar("_F", bound=Callable[..., Any])

# What is summed behind the gradients: the rows of all parts, their losses, and how many ranks fail or stop.
_COUNT, _LOSS, _ENDED, _NUMBERS = range(4)


class RankError(RuntimeError):
    """Another rank has failed, or takes no more steps. ``rank`` says which."""

    rank = 0


class Stopped(Exception):
    """Another rank has stopped the descent, for the reason that the message gives."""


class Ranks:
    """The ranks that train together, as one of them sees them. All communication is here.

    ``comm`` is a communicator of mpi4py, or an object with `Get_rank`, `Get_size`, `Allreduce` (a sum, of one ndarray
    into another) and `bcast` (of any object). Rank 0 is the one that writes files.
    """

    _last: Ranks | None = None  # whose step was the last in this process

    def __init__(self, comm: Any, name: str) -> None:
        missing = [m for m in ("Allreduce", "bcast", "Get_rank", "Get_size") if not callable(getattr(comm, m, None))]
        if missing:
            raise TypeError(
                f"{name}: comm is of type {type(comm).__name__}, which has no {' and no '.join(missing)}; expected a "
                "communicator of mpi4py, such as MPI.COMM_WORLD"
            )
        self._comm, self._name = comm, name
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self._in_place = _mpi_constant(comm, "IN_PLACE")
        self._blocks: list[np.ndarray] = []  # of the gradients of each dtype; none until the ranks have begun
        self._is_closed = False  # this rank takes part in no more all-reduces
        self.gradients: list[np.ndarray] = []  # where they are, in the blocks
        if self.size > 1 and hasattr(comm, "Abort"):
            _abort_if_uncaught(comm, self.rank)

    # ---- begin and end ---------------------------------------------------------------------------------------

    def begin(self, leaves: Sequence[np.ndarray], optimizer: optim.Optimizer, facts: dict[str, Any]) -> None:
        """Give the parameters and the optimizer's state of rank 0 to all ranks. ValueError if facts, a dict of what
        must be the same on all ranks, differ."""
        facts = {"parameters": [(leaf.shape, str(leaf.dtype)) for leaf in leaves], "optimizer": repr(optimizer)} | facts
        self._vote(None)
        expected = self._comm.bcast(facts, root=0)
        differing = [key for key in facts if facts[key] != expected[key]]
        error: Exception | None = None
        if differing:
            key = differing[0]
            error = ValueError(
                f"{self._name}: on rank {self.rank} {key} is {facts[key]}, on rank 0 {expected[key]}; it must be the "
                "same on all ranks"
            )
        self._vote(error)
        for leaf in leaves:
            if hasattr(self._comm, "Bcast"):
                self._comm.Bcast(leaf, root=0)
            elif self.rank:
                leaf[...] = self._comm.bcast(None, root=0)
            else:
                self._comm.bcast(leaf, root=0)
        state = self._comm.bcast(optimizer.state_dict() if self.rank == 0 else None, root=0)
        try:
            if self.rank and (state["steps"] or optimizer.steps):
                optimizer.load_state_dict(state)
            self._lay_out(leaves)
        except Exception as failure:
            error = failure
        self._vote(error)
        if self.size > 1:
            _share_threads(self._comm)

    def _lay_out(self, leaves: Sequence[np.ndarray]) -> None:
        """One block for each dtype; the numbers come after the gradients of the last."""
        dtypes = sorted({leaf.dtype for leaf in leaves}, key=lambda dtype: dtype.itemsize)
        room = {dtype: sum(leaf.size for leaf in leaves if leaf.dtype == dtype) for dtype in dtypes}
        self._blocks = [np.zeros(room[dtype] + (dtype == dtypes[-1]) * _NUMBERS, dtype) for dtype in dtypes]
        self._numbers = self._blocks[-1][-_NUMBERS:]
        at = dict.fromkeys(dtypes, 0)
        for leaf in leaves:
            block, start = self._blocks[dtypes.index(leaf.dtype)], at[leaf.dtype]
            at[leaf.dtype] = start + leaf.size
            self.gradients.append(block[start : start + leaf.size].reshape(leaf.shape))

    def agree(self, x: Any) -> Any:
        """What rank 0 has for x."""
        return self._comm.bcast(x if self.rank == 0 else None, root=0)

    def of_rank_0(self, f: Callable[[], Any]) -> Any:
        """What f returns on rank 0. If it raises there, the other ranks raise RankError."""
        found, error = None, None
        if self.rank == 0:
            try:
                found = f()
            except Exception as failure:
                error = failure
        self._vote(error)
        return self.agree(found)

    def on_all(self, f: Callable[[], Any]) -> None:
        """Call f on all ranks. If it raises on some, the others raise RankError."""
        error = None
        try:
            f()
        except Exception as failure:
            error = failure
        self._vote(error)

    def finish(self, message: str) -> None:
        """End without an error. All ranks end with this one."""
        if not self._is_closed:
            self._is_closed = True
            self._numbers[:] = 0, 0, 1
            self._sum_blocks()
            self._raise_failures(self._exchange("stopped", message), None)

    def fail(self, error: BaseException) -> None:
        """Tell the other ranks that this one fails by an error, which the caller is to raise, unless all ranks know."""
        if self._is_closed or _reporter(error) is not None:
            return
        if self._blocks:
            self._numbers[:] = 0, 0, 1
            self._sum_blocks()
        else:
            self._sum(np.ones(1))
        kind = "exited" if isinstance(error, SystemExit) else "failed"
        self._raise_failures(self._exchange(kind, _text_of(error)), error)

    def leave(self) -> None:
        """At the end of the process: ranks that take further steps would wait for ever."""
        if not self._is_closed and self._blocks:
            self._is_closed = True
            self._numbers[:] = 0, 0, 1
            self._sum_blocks()
            self._exchange("left", "")

    # ---- a step ----------------------------------------------------------------------------------------------

    def reduce(self, count: int, loss: float) -> tuple[int, float]:
        """Sum the gradients over all ranks, of which this one's belong to so many rows and to this mean of their
        losses. Returns the rows of all, and the mean of all losses. Raises what ends the steps of all."""
        if self._is_closed:
            raise RuntimeError(f"{self._name}: a rank has ended the steps that the ranks take together")
        Ranks._last = self
        if not count:
            for block in self._blocks:
                block.fill(0)
        self._numbers[:] = count, count * loss if count else 0, 0
        self._sum_blocks()
        if self._numbers[_ENDED]:
            reports = self._exchange("", "")
            self._raise_failures(reports, None)
            self._is_closed = True
            for rank, (kind, message) in enumerate(reports):
                if kind == "stopped":
                    raise Stopped(message)
                if kind == "left":
                    raise self._rank_error(
                        rank, reports, "takes no more steps, but others do; all ranks must take the same number of them"
                    )
        total = int(self._numbers[_COUNT])
        if not total:
            error = ValueError(f"{self._name}: the batch has no rows on any rank")
            self.mark(error)
            raise error
        return total, float(self._numbers[_LOSS]) / total

    def mark(self, error: BaseException, rank: int = 0) -> None:
        """Note on an error that all ranks raise it or one for it, so that one rank reports it."""
        with contextlib.suppress(AttributeError):
            error.reporting_rank = rank  # type: ignore[attr-defined]

    # ---- communication ---------------------------------------------------------------------------------------

    def _sum(self, x: np.ndarray) -> None:
        try:
            if self._in_place is not None:
                self._comm.Allreduce(self._in_place, x)
            else:
                self._comm.Allreduce(x.copy(), x)
        except BaseException:
            self._is_closed = True  # nobody knows what the others have received
            raise

    def _sum_blocks(self) -> None:
        for block in self._blocks:
            self._sum(block)

    def _exchange(self, kind: str, message: str) -> list[tuple[str, str]]:
        """What each rank says: it has "failed", "exited", "stopped" or "left", and why; "" if it is in a step."""
        report = (kind, message)
        return [self._comm.bcast(report if rank == self.rank else None, root=rank) for rank in range(self.size)]

    def _vote(self, error: Exception | None) -> None:
        """Raise the error, if there is one, and RankError if another rank has one."""
        failed = np.array([0.0 if error is None else 1.0])
        self._sum(failed)
        if failed[0]:
            self._raise_failures(self._exchange("" if error is None else "failed", _text_of(error)), error)
            if error is not None:
                raise error

    def _raise_failures(self, reports: list[tuple[str, str]], own: BaseException | None) -> None:
        """RankError if another rank has failed, unless this one has by an error of its ``own``, which is marked."""
        failed = [rank for rank, (kind, _) in enumerate(reports) if kind in ("failed", "exited")]
        if not failed:
            return
        if self._name == "descend":
            self._is_closed = True
        if own is None:
            raise self._rank_error(failed[0], reports, f"failed: {reports[failed[0]][1]}")
        self.mark(own, _reporting(reports))
        if self.size > 1:
            own.add_note(f"raised on rank {self.rank} of {self.size}")

    def _rank_error(self, rank: int, reports: list[tuple[str, str]], message: str) -> RankError:
        error = RankError(f"{self._name}: rank {rank} of {self.size} {message}")
        error.rank = rank
        self.mark(error, _reporting(reports))
        return error


def agree_on_end(descend: _F) -> _F:
    """Decorate a function that takes ``comm=`` and returns a result with a message: its ranks end together, in whatever
    way the first of them does. The function gets the `Ranks` instead of the communicator."""

    @functools.wraps(descend)
    def on_ranks(*args: Any, comm: Any = None, **kwargs: Any) -> Any:
        if comm is None:
            return descend(*args, **kwargs)
        ranks = Ranks(comm, descend.__name__)
        try:
            result = descend(*args, comm=ranks, **kwargs)
            ranks.finish(result.message)
        except BaseException as error:
            ranks.fail(error)
            raise
        return result

    return on_ranks  # type: ignore[return-value]


def own_parts(
    batches: Iterator[tuple[tuple[Any, ...], np.ndarray | None]], ranks: Ranks
) -> Iterator[tuple[tuple[Any, ...], np.ndarray | None]]:
    """This rank's part of each batch, which is arrays and their rows, None for all. Each row belongs to one rank. The
    batches are the same for any number of ranks. Arrays of another length than the first are left as they are."""
    for batch, rows in batches:
        arrays = [x for x in tree.leaves(batch) if isinstance(x, np.ndarray) and x.ndim] if rows is None else [rows]
        n = len(arrays[0]) if arrays else 0
        part = slice(n * ranks.rank // ranks.size, n * (ranks.rank + 1) // ranks.size)
        if rows is None:
            yield tree.map(functools.partial(_part, part, n), batch), None
        else:
            yield batch, rows[part]


def _part(part: slice, n: int, x: Any) -> Any:
    return x[part] if isinstance(x, np.ndarray) and x.ndim and len(x) == n else x


# processes --------------------------------------------------------------------------------------------------

_aborts = False


def _mpi_constant(comm: Any, name: str) -> Any:
    """A constant of mpi4py, if the communicator is one of its."""
    mpi = sys.modules.get("mpi4py.MPI")
    return getattr(mpi, name) if mpi is not None and isinstance(comm, mpi.Comm) else None


def _share_threads(comm: Any) -> None:
    """Let BLAS and the core use no more threads than this rank's share of the processors: those on which it may run,
    divided by the ranks that may run on the same ones."""
    mpi, affinity = sys.modules.get("mpi4py.MPI"), getattr(os, "sched_getaffinity", None)
    if mpi is None or not isinstance(comm, mpi.Comm):
        return
    beside = comm.Split_type(mpi.COMM_TYPE_SHARED)
    own = sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))
    sharing = sum(other == own for other in beside.allgather(own))
    beside.Free()
    share = max(1, len(own) // sharing)
    _blas.limit_threads(_blas.IN_USE, share)
    _core.set_threads_limit(min(_core.threads_limit(), share))


def _abort_if_uncaught(comm: Any, rank: int) -> None:
    """End all ranks if an error that only this one knows of ends this one, as they would wait for it. An error that all
    ranks know of is reported by one of them. A rank that ends without an error says so to those that take further
    steps."""
    global _aborts
    if _aborts:
        return
    _aborts, shown = True, sys.excepthook

    def report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        reporter = _reporter(error)
        if reporter in (None, rank):
            shown(kind, error, trace)
            sys.stderr.flush()
        if reporter is None:
            Ranks._last = None
            sys.stdout.flush()
            time.sleep(0.3)  # the launcher ends all at once, and may not have passed on what is shown
            comm.Abort(1)
            os._exit(1)  # some implementations return, and wait for the launcher

    def leave() -> None:
        if Ranks._last is not None and not sys.modules["mpi4py.MPI"].Is_finalized():
            Ranks._last.leave()

    sys.excepthook = report
    if "mpi4py.MPI" in sys.modules:
        atexit.register(leave)


def _reporting(reports: list[tuple[str, str]]) -> int:
    """The rank that is to report an end: the first that has failed, else the first that goes by an error, for which one
    that exits or has left shows none."""
    kinds = [kind for kind, _ in reports]
    return kinds.index("failed") if "failed" in kinds else kinds.index("") if "" in kinds else 0


def _reporter(error: BaseException) -> int | None:
    """The rank that reports an error that all ranks know of, None if they do not."""
    return getattr(error, "reporting_rank", None)


def _text_of(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
