# Which calls of a compiled function a program can be replayed for. Included by _core.pyx.

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int *overflow) except? -1


cdef bint hold_number(Program program, fg_replay *r, int i, object x) except -1:
    """The Python number x is input i, if the input's dtype can hold it."""
    cdef void *to = fg_replay_own_input(program.program, r, i)
    cdef int dtype = fg_program_input_dtype(program.program, i), overflow = 0
    if to == NULL:
        fail(FG_NO_MEMORY)
    if dtype == FG_FLOAT64:
        (<double *>to)[0] = x
    elif dtype == FG_BOOL:
        (<uint8_t *>to)[0] = x
    elif dtype == FG_INT64:
        (<int64_t *>to)[0] = PyLong_AsLongLongAndOverflow(x, &overflow)
    else:
        return False
    return overflow == 0


cdef inline bint fits(object x, int dtype, fg_shape *s):
    """Is x an ndarray of just this dtype and shape, laid out as the core needs it?"""
    return is_like(x, dtype, s) and cnp.PyArray_ISCARRAY_RO(x)


cdef inline bint is_like(object x, int dtype, fg_shape *s):
    """The same in whatever layout and byte order."""
    cdef cnp.ndarray a
    cdef int i
    if not cnp.PyArray_CheckExact(x):
        return False
    a = x
    if number_of(a) != dtype or cnp.PyArray_NDIM(a) != s.ndim:
        return False
    for i in range(s.ndim):
        if cnp.PyArray_DIM(a, i) != s.dim[i]:
            return False
    return True


cdef bint hold_copy(Program program, fg_replay *r, int i, object x) except -1:
    """Let input i be a copy of x, an ndarray of another layout, unless it is a parameter that is to be written."""
    cdef fg_shape *s = fg_program_input_shape(program.program, i)
    cdef int dtype = fg_program_input_dtype(program.program, i), k
    cdef cnp.npy_intp dim[FG_MAX_NDIM]
    cdef void *to
    if i < program.n_kept or not s.size or not is_like(x, dtype, s):
        return False
    to = fg_replay_own_input(program.program, r, i)
    if to == NULL:
        fail(FG_NO_MEMORY)
    for k in range(s.ndim):
        dim[k] = s.dim[k]
    PyArray_CopyInto(cnp.PyArray_SimpleNewFromData(s.ndim, dim, TYPE_NUMBER[dtype], to), x)
    return True


@cython.final
cdef class Guard:
    """Decides in a few nanoseconds an array whether arguments are those a program was recorded for.

    Made from the arguments of the recording call; knows Python numbers, which it tells apart by their types, dicts,
    lists, tuples, NamedTuples, None, and static constants. With any other container there is no guard: its own code
    would have to run, and every call takes the slow way through ``tree``.
    """

    cdef int kind               # 0 array, 1 Python number, 2 dict, 3 list, 4 tuple, 5 None, 6 constant
    cdef int number             # of an array or number: which input
    cdef object value           # keys of a dict, type of a tuple or number, a constant
    cdef list parts

    cdef bint match(self, object x, Program program, fg_replay *r):
        cdef int i
        cdef Guard part
        if self.kind == 0:
            if not fits(x, fg_program_input_dtype(program.program, self.number),
                        fg_program_input_shape(program.program, self.number)):
                return hold_copy(program, r, self.number, x)
            hold_input(r, self.number, x)
            return True
        if self.kind == 1:
            return type(x) is self.value and hold_number(program, r, self.number, x)
        if self.kind == 2:
            if type(x) is not dict or len(<dict>x) != len(self.parts):
                return False
            for i in range(len(self.parts)):
                found = (<dict>x).get((<tuple>self.value)[i], self)
                if found is self or not (<Guard>self.parts[i]).match(found, program, r):
                    return False
            return True
        if self.kind == 3:
            if type(x) is not list or len(<list>x) != len(self.parts):
                return False
            for i in range(len(self.parts)):
                # Another thread may have shortened the list since.
                if i >= len(<list>x) or not (<Guard>self.parts[i]).match((<list>x)[i], program, r):
                    return False
            return True
        if self.kind == 4:
            if type(x) is not self.value or len(<tuple>x) != len(self.parts):
                return False
            for i in range(len(self.parts)):
                if not (<Guard>self.parts[i]).match((<tuple>x)[i], program, r):
                    return False
            return True
        return x is self.value or (self.kind == 6 and same_constant(x, self.value))


@cython.final
cdef class Static:
    """A constant among the arguments that a guard is made from."""

    cdef object value

    def __init__(self, value):
        self.value = value


cdef bint same_constant(x, value):
    """Whether x is the same constant, as far as can be told without running code of others."""
    cdef double a, b
    if type(x) is not type(value):
        return False
    if type(x) is float:
        a, b = x, value
        return memcmp(&a, &b, sizeof(double)) == 0
    if type(x) is tuple:
        return len(<tuple>x) == len(<tuple>value) and all([i is k or same_constant(i, k) for i, k in zip(x, value)])
    return (type(x) is str or type(x) is int or type(x) is bool or type(x) is bytes) and x == value


def make_guard(args, numbers, named_tuple):
    """A Guard for a tuple of arguments; ``numbers`` is an iterator over the inputs' numbers in order of leaves (dicts
    by sorted keys), ``named_tuple`` tells types that are split as tuples. None where only the slow way can tell."""
    cdef Guard g = Guard.__new__(Guard)
    if isinstance(args, np.ndarray):
        g.kind, g.number = 0, next(numbers)
        return g
    if type(args) is Static:
        g.kind, g.value = 6, (<Static>args).value
        return g
    if weak_scalar(args):
        g.kind, g.number, g.value = 1, next(numbers), type(args)
        return g
    if type(args) is dict:
        if not all([type(key) is str or type(key) is int for key in args]):
            return None                         # comparing other keys may run Python code in the middle of a match
        try:
            keys = tuple(sorted(args))
        except TypeError:
            return None
        g.kind, g.value, children = 2, keys, [args[k] for k in keys]
    elif type(args) is list:
        g.kind, children = 3, args
    elif type(args) is tuple or named_tuple(type(args)):
        g.kind, g.value, children = 4, type(args), args
    elif args is None:
        g.kind, children = 5, ()
    else:
        return None
    g.parts = [make_guard(child, numbers, named_tuple) for child in children]
    return None if None in g.parts else g


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
    """The quick half of ``compile``: a call like the last is replayed, any other goes to ``_slowly``."""

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

    def _train(self, tuple args, Rule rule not None, bint checked):
        """If the call is like the last: a training step (see `train`). Else None, and nothing has happened."""
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

    def _train_on_rows(self, list leaves, tuple arrays, cnp.ndarray rows not None, Rule rule not None, bint checked):
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
