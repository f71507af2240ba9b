# How a compiled function is called: if the guard of the last call matches the arguments, its program is replayed.
# Included by _core.pyx.

cdef extern from "Python.h":
    int Py_EnterRecursiveCall(const char *where) except -1
    void Py_LeaveRecursiveCall()

cdef object np_generic = np.generic


@cython.final
cdef class Entry:
    """A program, the guard of the calls that it can be replayed for, a watch over what the function reads from outside
    of its arguments, and a function from the program's results to what a call returns.

    A call takes a reference to one and works with that until it returns, because other threads may call
    `Replayer._remember` whenever the GIL is released; what it holds is never changed. ``signature`` is that of its
    calls (see `Replayer._signature_of_call`) or None, ``used`` increases with each use of an entry, and one that is
    not ``confirmed`` is traced a second time before it is replayed.
    """

    cdef readonly Program program
    cdef readonly Watch watch               # None: the function reads nothing that may change
    cdef readonly object rebuild, signature
    cdef object default_dtype               # that held when it was traced
    cdef public bint confirmed
    cdef readonly object frame              # what a call returns beside the program's results, comparable
    cdef readonly long long used
    cdef Guard guard, keywords  # of the tuple of arguments and the dict of keywords; None: only _slowly can decide

    def __cinit__(self, Program program not None, rebuild, Guard guard, signature, Watch watch, frame=None):
        self.frame = frame
        self.program, self.rebuild, self.watch, self.confirmed = program, rebuild, watch, True
        self.default_dtype = default_here()
        if watch is not None:
            watch.pace(program)
        if guard is not None:
            self.guard, self.keywords = guard.parts
            self.signature = signature

    cpdef bint holds(self) except -1:
        """Whether what the function reads from outside is as it was, and the default dtype."""
        return (self.watch is None or self.watch.holds()) and self.default_dtype is default_here()

    cdef fg_replay *matched(self, tuple args, dict kwargs) except? NULL:
        """A replay of the program on these arguments, NULL if they do not match. Without ``kwargs`` there are none."""
        cdef fg_replay *r
        cdef bint found = False
        if not self.holds():
            return NULL
        r = self.program.take()
        try:
            found = self.guard.match(args, self.program, r) and (
                kwargs is None or self.keywords.match(kwargs, self.program, r))
        finally:
            if not found:
                self.program.give(r)
        return r if found else NULL


@cython.final
cdef class Sight:
    """A kind of arguments for which there is no program: how often the function ran eagerly for it, and how often
    entries had been used before the first of these runs. As ``_slowly`` has decided, the next runs are eager, too, up
    to run ``until`` and then while all entries are in use."""

    cdef public long long runs, until
    cdef long long since


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
    cdef public long long _eager        # how many calls ran eagerly since tracing does not pay
    cdef public dict _sights            # of what kinds they were: {signature: Sight}
    cdef public object _f               # the function that was compiled

    def __cinit__(self):
        self.entries, self.by_signature, self._sights = {}, {}, {}

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
        return self.signature(args, kwargs)

    cdef object signature(self, tuple args, dict kwargs):
        cdef int default = 0 if not default_was_set else 1 + (NUMBER_OF.get(default_here(), -1))
        cdef uint64_t h = signature_of(args, 1 + default, 32) if self._has_signatures else 0
        if h != 0 and kwargs:
            h = signature_of(kwargs, h, 32)
        return h if h != 0 else None

    def _new_sight(self):
        cdef Sight sight = Sight.__new__(Sight)
        sight.since = self.clock
        return sight

    cpdef bint _begins_again(self, Sight sight) except -1:
        """Whether all entries have been used since the first eager run of this other kind of arguments. If so the next
        run counts as the first."""
        cdef Entry entry
        for entry in self.entries.values():
            if entry.used <= sight.since:
                return False
        sight.runs, sight.since = 0, self.clock
        return True

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
                signature = self.signature(args, kwargs)
                entry = self.by_signature.get(signature)
                if entry is None:
                    sight = self._sights.get(signature)
                    if sight is not None and ((<Sight>sight).runs < (<Sight>sight).until
                                              or (<Sight>sight).until and self._begins_again(sight)):
                        (<Sight>sight).runs += 1
                        self._eager += 1
                        self.last = None        # it would be compared in vain as long as such kinds come
                        return self._run_eagerly(args, kwargs)
                elif entry.confirmed:
                    r = entry.matched(args, kwargs)
                    if r != NULL:
                        self.last = entry
            if r != NULL:
                self._hits += 1
                self.use(entry)
                results = entry.program.replay(r)
                return results[0] if entry.rebuild is None else entry.rebuild(results)
        return self._slowly(args, kwargs)

    cpdef _run_eagerly(self, tuple args, dict kwargs):
        """What a replay would give for these arguments, which have a signature; outside of any transform."""
        if len(args) == 1 and not kwargs:
            result = self._f(as_tensors(args[0]))
        else:
            result = self._f(*as_tensors(args), **as_tensors(kwargs))
        found = result_of_own(result, 1)
        return self._checked(result) if found is NotImplemented else found

    def try_train(self, tuple args, UpdateRule rule not None, bint checked, signature=None):
        """A training step (see `train`) if the guard of the last call matches, or that of the entry with this
        signature, by default the signature of the call; else None, and nothing has changed."""
        cdef Entry entry = self.last if signature is None else self.by_signature.get(signature)
        cdef fg_replay *r = self.matched(entry, args)
        if r == NULL and signature is None and len(self.by_signature) > 1:  # as of the last batch of an epoch
            entry = self.by_signature.get(self.signature(args, None))
            r = self.matched(entry, args)
        return train(entry.program, r, rule, checked, entry.rebuild) if r != NULL else None

    def try_differentiate(self, tuple args, signature=None):
        """Loss, what else the program returns, and gradients (see `differentiate`), if a guard matches as for
        `try_train`; else None."""
        cdef Entry entry = self.last if signature is None else self.by_signature.get(signature)
        cdef fg_replay *r = self.matched(entry, args)
        return differentiate(entry.program, r, entry.rebuild) if r != NULL else None

    def try_run_into(self, tuple args, list into not None, signature=None):
        """What a call returns, whose last results are written to the ndarrays ``into``, if a guard matches as for
        `try_train`; else None, and nothing has changed."""
        cdef Entry entry = self.last if signature is None else self.by_signature.get(signature)
        cdef fg_replay *r = self.matched(entry, args)
        return entry.rebuild(entry.program.replay_into(r, into)) if r != NULL else None

    cdef fg_replay *matched(self, Entry entry, tuple args) except? NULL:
        """A replay of this entry's program on these arguments, NULL if they do not match."""
        cdef fg_replay *r
        if entry is None or not entry.confirmed or fg_trace_here():
            return NULL
        r = entry.matched(args, None)
        if r != NULL:
            self._hits += 1
            self.use(entry)
            self.last = entry
        return r

    def try_train_on_rows(self, list leaves, tuple arrays, cnp.ndarray rows not None, UpdateRule rule not None,
                          bint checked):
        """A training step of the parameters ``leaves`` on a batch: of each of ``arrays``, the rows with the int64
        indices ``rows``. None if the last call's program is not for such arguments, and nothing has changed."""
        cdef Entry last = self.last
        cdef fg_replay *r = self.matched_on_rows(last, leaves, arrays, rows, len(leaves))
        return train(last.program, r, rule, checked, last.rebuild) if r != NULL else None

    def try_run_on_rows_into(self, list leaves, tuple arrays, cnp.ndarray rows not None, list into not None):
        """What `try_run_into` returns for the parameters ``leaves`` and these rows of each of ``arrays``."""
        cdef Entry last = self.last
        cdef fg_replay *r = self.matched_on_rows(last, leaves, arrays, rows, 0)
        return last.rebuild(last.program.replay_into(r, into)) if r != NULL else None

    cdef fg_replay *matched_on_rows(self, Entry last, list leaves, tuple arrays, cnp.ndarray rows,
                                    int n_gradients) except? NULL:
        """A replay of this entry's program, which keeps so many gradients, on parameters and gathered rows; NULL if it
        is not for such arguments."""
        cdef Program program
        cdef fg_replay *r
        cdef bint found = True
        cdef int i, n = len(leaves)
        if last is None or fg_trace_here() or not last.holds():
            return NULL
        program = last.program
        if (program.n_args != n + len(arrays) or program.n_gradients != n_gradients or number_of(rows) != FG_INT64
                or not cnp.PyArray_ISCARRAY_RO(rows)):
            return NULL
        r = program.take()
        try:
            for i in range(program.n_args):
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
            return NULL
        self._hits += 1
        self.use(last)
        return r


cdef object as_tensors(object x):
    """Arguments that have a signature, with tensors of their own in place of arrays."""
    if cnp.PyArray_CheckExact(x) or number_of_scalar(x) >= 0:
        return tensor_of(as_ndarray(x, "compile"), share=False)
    if type(x) is Tensor:                       # one of its own, that the function may change in place
        return wrap_array(fg_array_ref((<Tensor>x).t.array))
    Py_EnterRecursiveCall(" in the arguments of a compiled function")
    try:
        if type(x) is list:
            return [as_tensors(child) for child in <list>x]
        if type(x) is tuple:
            return tuple([as_tensors(child) for child in <tuple>x])
        if type(x) is dict:
            return {key: as_tensors(child) for key, child in (<dict>x).items()}
        return type(x)(*[as_tensors(child) for child in <tuple>x]) if isinstance(x, tuple) else x
    finally:
        Py_LeaveRecursiveCall()


cdef object result_of_own(object x, Py_ssize_t references):
    """A result of an eager run as a replay returns it: tensors as ndarrays of their own memory, or numbers if they have
    no axes, in containers of their own. NotImplemented where Python code must look at it, and refuse it or not.

    If there are no more than this many ``references`` to x, nobody else will see what becomes of it.
    """
    cdef fg_array *a
    cdef bint is_sole = Py_REFCNT(<PyObject *>x) <= references
    if type(x) is Tensor:
        a = (<Tensor>x).t.array
        if (<Tensor>x).t.node != NULL or fg_traced(a):
            return NotImplemented
        if a.shape.ndim == 0:
            return PyArray_Scalar(a.data, DTYPES[a.dtype], None)
        return view_of(a, True) if is_sole and fg_array_is_sole(a) else view_of(a, False).copy()
    if cnp.PyArray_CheckExact(x):
        return NotImplemented if cnp.PyArray_TYPE(x) == cnp.NPY_OBJECT else x.copy() if cnp.PyArray_NDIM(x) else x[()]
    if x is None or isinstance(x, (float, int, str, bytes, np_generic)):
        return x
    if type(x) is not tuple and type(x) is not list and type(x) is not dict:
        return NotImplemented
    made = []
    Py_EnterRecursiveCall(" in the result of a compiled function")
    try:
        for child in (<dict>x).values() if type(x) is dict else x:
            found = result_of_own(child, 2 if is_sole else 0)   # of x and the variable
            if found is NotImplemented:
                return found
            made.append(found)
    finally:
        Py_LeaveRecursiveCall()
    return made if type(x) is list else tuple(made) if type(x) is tuple else dict(zip(x, made))
