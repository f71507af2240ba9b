# How a compiled function is called: if the guard of the last call matches the arguments, its program is replayed.
# Included by _core.pyx.

@cython.final
cdef class Entry:
    """A program, the guard of the calls that it can be replayed for, and a function from its results to what a call
    returns.

    A call takes a reference to one and works with that until it returns, because other threads may call
    `Replayer._remember` whenever the GIL is released; what it holds is never changed. ``signature`` is that of its
    calls (see `Replayer._signature_of_call`) or None, ``used`` increases with each use of an entry, and one that is
    not ``confirmed`` is traced a second time before it is replayed.
    """

    cdef readonly Program program
    cdef readonly object rebuild, signature
    cdef public bint confirmed
    cdef readonly long long used
    cdef Guard guard, keywords  # of the tuple of arguments and the dict of keywords; None: only _slowly can decide

    def __init__(self, Program program not None, rebuild, Guard guard, signature):
        self.program, self.rebuild, self.confirmed = program, rebuild, True
        if guard is not None:
            self.guard, self.keywords = guard.parts
            self.signature = signature

    cdef fg_replay *matched(self, tuple args, dict kwargs) except? NULL:
        """A replay of the program on these arguments, NULL if they do not match. Without ``kwargs`` there are none."""
        cdef fg_replay *r = self.program.take()
        cdef bint found = False
        try:
            found = self.guard.match(args, self.program, r) and (
                kwargs is None or self.keywords.match(kwargs, self.program, r))
        finally:
            if not found:
                self.program.give(r)
        return r if found else NULL


@cython.auto_pickle(False)
cdef class Replayer:
    """The fast path of a compiled function: if the guard of the last call matches the arguments, or that of the entry
    with the call's signature, its program is replayed. Any other call goes to the subclass's ``_slowly``, and so does
    one within a transform, which may differentiate what the function reads from outside."""

    cdef Entry last             # the entry of the last call, or None if that has no guard
    cdef dict entries           # all entries by the key of a call; never changed, only replaced as a whole
    cdef dict by_signature      # of them those that have a signature, likewise
    cdef long long clock        # counts uses of entries
    cdef public bint _has_signatures    # False where more than structure, shapes and dtypes tells calls apart
    cdef public long long _hits, _misses

    def __cinit__(self):
        self.entries, self.by_signature = {}, {}

    @property
    def _entries(self):
        """All entries, by the key of a call. The dict must not be changed."""
        return self.entries

    def _replace(self, dict old not None, dict new not None):
        """Replace the dict of entries if it is still ``old``; returns whether it was (compare-and-swap). This needs no
        lock, because no Python code runs between the comparison and the assignment."""
        cdef dict by_signature = {entry.signature: entry for entry in new.values() if entry.signature is not None}
        cdef bint found = self.entries is old
        if found:
            self.entries, self.by_signature = new, by_signature
        return found

    def _remember(self, Entry entry):
        """Let the next call try this entry first; None: no entry."""
        if entry is not None:
            self.use(entry)
        self.last = entry if entry is not None and entry.guard is not None else None

    cdef void use(self, Entry entry) noexcept:
        self.clock += 1
        entry.used = self.clock

    def _signature_of_call(self, tuple args not None, dict kwargs not None):
        """A hash of structure, shapes and dtypes of a call's arguments, equal for calls that one program serves. None
        where there is no guard for such."""
        cdef uint64_t h = signature_of(args, 1, 32) if self._has_signatures else 0
        if h != 0 and kwargs:
            h = signature_of(kwargs, h, 32)
        return h if h != 0 else None

    def _is_kept(self, signature):
        """Whether there is an entry for calls of this signature."""
        return signature in self.by_signature

    def __call__(self, *args, **kwargs):
        cdef Entry entry = self.last
        cdef fg_replay *r = NULL
        if not fg_transforming():
            if entry is not None:
                r = entry.matched(args, kwargs)
            if r == NULL and self.by_signature:
                entry = self.by_signature.get(self._signature_of_call(args, kwargs))
                if entry is not None and entry.confirmed:
                    r = entry.matched(args, kwargs)
                    if r != NULL:
                        self.last = entry
            if r != NULL:
                self._hits += 1
                self.use(entry)
                results = entry.program.replay(r)
                return results[0] if entry.rebuild is None else entry.rebuild(results)
        return self._slowly(args, kwargs)

    def try_train(self, tuple args, UpdateRule rule not None, bint checked, signature=None):
        """A training step (see `train`) if the guard of the last call matches, or that of the entry with this
        signature; else None, and nothing has changed."""
        cdef Entry entry = self.last if signature is None else self.by_signature.get(signature)
        cdef fg_replay *r
        if entry is None or not entry.confirmed or fg_trace_here():
            return None
        r = entry.matched(args, None)
        if r == NULL:
            return None
        self._hits += 1
        self.use(entry)
        self.last = entry
        return train(entry.program, r, rule, checked, entry.rebuild)

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
        self.use(last)
        return train(program, r, rule, checked, last.rebuild)
