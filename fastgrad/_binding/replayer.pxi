# How a compiled function is called: if the guard of the last call matches the arguments, its program is replayed.
# Included by _core.pyx.

@cython.final
cdef class Entry:
    """A program, the guard of the calls that it can be replayed for, and a function from its results to what a call
    returns.

    An entry is never changed. A call takes a reference to one and works with that until it returns, because other
    threads may call `Replayer._remember` whenever the GIL is released.
    """

    cdef readonly Program program
    cdef readonly object rebuild
    cdef Guard guard, keywords  # of the tuple of arguments and the dict of keywords; None: only _slowly can decide

    def __init__(self, Program program not None, rebuild, Guard guard):
        self.program, self.rebuild = program, rebuild
        if guard is not None:
            self.guard, self.keywords = guard.parts


@cython.auto_pickle(False)
cdef class Replayer:
    """The fast path of a compiled function: if the guard of the last call matches the arguments, its program is
    replayed; any other call goes to the subclass's ``_slowly``."""

    cdef Entry last             # the entry of the last call, or None if that has no guard
    cdef dict entries           # all entries by the key of a call; never changed, only replaced as a whole
    cdef public long long _hits, _misses

    def __cinit__(self):
        self.entries = {}

    @property
    def _entries(self):
        """All entries, by the key of a call. The dict must not be changed."""
        return self.entries

    def _replace(self, dict old not None, dict new not None):
        """Replace the dict of entries if it is still ``old``; returns whether it was (compare-and-swap). This needs no
        lock, because no Python code runs between the comparison and the assignment."""
        cdef bint found = self.entries is old
        if found:
            self.entries = new
        return found

    def _remember(self, Entry entry):
        """Let the next call try this entry first; None: no entry."""
        self.last = entry if entry is not None and entry.guard is not None else None

    def __call__(self, *args, **kwargs):
        cdef Entry last = self.last
        cdef fg_replay *r
        cdef bint found = False
        if last is not None and not fg_trace_here():
            r = last.program.take()
            try:
                found = last.guard.match(args, last.program, r) and last.keywords.match(kwargs, last.program, r)
            finally:
                if not found:
                    last.program.give(r)
            if found:
                self._hits += 1
                results = last.program.replay(r)
                return results[0] if last.rebuild is None else last.rebuild(results)
        return self._slowly(args, kwargs)

    def try_train(self, tuple args, UpdateRule rule not None, bint checked):
        """A training step (see `train`) if the guard of the last call matches; else None, and nothing has changed."""
        cdef Entry last = self.last
        cdef fg_replay *r
        cdef bint found = False
        if last is None or fg_trace_here():
            return None
        r = last.program.take()
        try:
            found = last.guard.match(args, last.program, r)
        finally:
            if not found:
                last.program.give(r)
        if not found:
            return None
        self._hits += 1
        return train(last.program, r, rule, checked)

    def try_train_on_rows(self, list leaves, tuple arrays, cnp.ndarray rows not None, UpdateRule rule not None,
                          bint checked):
        """A training step of the parameters ``leaves`` on a batch: of each of ``arrays``, the rows with the int64
        indices ``rows``. None if the last call's program is not for such arguments, and nothing has changed."""
        cdef Entry last = self.last
        cdef Program program
        cdef fg_replay *r
        cdef bint found = True
        cdef int i, n = len(leaves)
        if last is None or fg_trace_here():
            return None
        program = last.program
        if (program.n_in != n + len(arrays) or program.n_gradients != n or number_of(rows) != FG_INT64
                or not cnp.PyArray_ISCARRAY_RO(rows)):
            return None
        r = program.take()
        try:
            for i in range(program.n_in):
                if i >= n:
                    found = gather(program, r, i, arrays[i - n], rows)
                elif found := fits(leaves[i], fg_program_input_dtype(program.program, i),
                                   fg_program_input_shape(program.program, i)):
                    hold_input(r, i, leaves[i])
                if not found:
                    break
        except BaseException:
            program.give(r)
            raise
        if not found:
            program.give(r)
            return None
        self._hits += 1
        return train(program, r, rule, checked)
