"""Ranks as threads of one process: a communicator with the four methods that `comm=` needs, for fast tests."""

import threading

import numpy as np


class Rank:
    """One rank's communicator. What the others do not answer within 20 seconds is a failed test, no hang."""

    def __init__(self, world, rank):
        self.world, self.rank, self.bytes = world, rank, []

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return len(self.world.ranks)

    def Allreduce(self, send, receive):
        self.bytes.append(send.nbytes)
        parts = self.world.exchange(self.rank, send.copy())
        assert len({part.shape for part in parts}) == 1, [part.shape for part in parts]
        receive[...] = sum(parts[1:], parts[0])

    def bcast(self, x, root=0):
        found = self.world.exchange(self.rank, x)[root]
        return found.copy() if isinstance(found, np.ndarray) else found


class World:
    def __init__(self, size):
        self.ranks = [Rank(self, rank) for rank in range(size)]
        self._slots = [None] * size
        self._barrier = threading.Barrier(size, timeout=20)

    def exchange(self, rank, x):
        self._slots[rank] = x
        self._barrier.wait()
        found = list(self._slots)
        self._barrier.wait()
        return found


def run(size, f):
    """What f(comm) returned on each rank, or the exception that it raised."""
    world, found = World(size), [None] * size

    def on_rank(comm):
        try:
            found[comm.rank] = f(comm)
        except BaseException as error:
            found[comm.rank] = error

    threads = [threading.Thread(target=on_rank, args=[comm]) for comm in world.ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def results(size, f):
    """The same, where no rank may fail."""
    found = run(size, f)
    for x in found:
        if isinstance(x, BaseException):
            raise x
    return found
