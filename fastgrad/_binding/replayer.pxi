# The entry of a compiled call: the guard of the last one is tried, and its program replayed. Included by _core.pyx.

@cython.final
cdef class Entry:
    """A program, the guard of the calls it can be replayed for, and a function from its results to what a call returns.

    Never changed once it is made: a call takes a reference to its entry first and works with that one throughout, for
    other threads may remember another one whenever the GIL is let go.
    """

    cdef readonly Program program
    cdef readonly object rebuild
    cdef Guard guard, keywords  # of the arguments' tuple and of the keywords' dict; None: only the slow way can tell

    def __init__(self, Program program not None, rebuild, Guard guard):
        self.program, self.rebuild = program, rebuild
        if guard is not None:
            self.guard, self.keywords = guard.parts


@cython.auto_pickle(False)
cdef class Replayer:
    """The quick half of ``compile``: a call that the guard of the last one matches is replayed, any other goes to
    ``_slowly``, and so does one within a transform, which may differentiate what the function reads from outside."""

    cdef Entry last             # one with a guard, or None
    cdef dict entries           # all that are kept, never changed but replaced
    cdef public long long _hits, _misses

    def __cinit__(self):
        self.entries = {}

    @property
    def _entries(self):
        """What is kept, by the key of a call: a dict that is not to be changed."""
        return self.entries

    def _replace(self, dict old not None, dict new not None):
        """Keep other entries, if those that are kept are still the old ones; returns whether they were. No lock is
        needed for that: nothing comes between the comparison and the assignment."""
        cdef bint found = self.entries is old
        if found:
            self.entries = new
        return found

    def _remember(self, Entry entry):
        """What to replay for a call like the last: an entry, or None for nothing."""
        self.last = entry if entry is not None and entry.guard is not None else None

    def __call__(self, *args, **kwargs):
        cdef Entry last = self.last
        cdef fg_replay *r
        cdef bint found = False
        if last is not None and fg_transform == 0 and not fg_trace_here():
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
        """A training step (see `train`) if the guard of the last call matches; else None, and nothing has happened."""
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
        """The same on the rows of arrays with these int64 numbers."""
        cdef Entry last = self.last
        cdef Program program
        cdef fg_replay *r
        cdef bint found = True
        cdef int i, n = len(leaves)
        if last is None or fg_trace_here():
            return None
        program = last.program
        if (program.n_in != n + len(arrays) or program.n_kept != n or number_of(rows) != FG_INT64
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
