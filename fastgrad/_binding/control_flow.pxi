# Loops and branches as single operations (csrc/program/control_flow.c). Included by _core.pyx.

def tracing_program():
    """Whether any trace of this thread is that of a program or a body; the innermost may be that of a mapped
    function."""
    return fg_trace_is_program() != 0


def compiling():
    """Whether any trace of this thread is that of a program. The program of a body counts."""
    return fg_trace_compiles() != 0


def trace_body(int first, int n, bint stack_carry):
    """Mark the trace under way as that of a body: output k is carried to input first + k of the next step, for k < n.
    Both may share memory unless ``stack_carry``: then the carry of each step is read later."""
    check(fg_trace_body(first, n, stack_carry))


cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    int PyGILState_Check() nogil

cdef extern from "<time.h>" nogil:
    struct timespec:
        long long tv_sec
        long tv_nsec
    int timespec_get(timespec *, int)
    int TIME_UTC


cdef unsigned long main_thread = threading.main_thread().ident
cdef long long last_look = 0        # when the main thread last took the GIL to look for signals, in milliseconds
cdef object poll_signals = eval("lambda: None")      # calling it, the interpreter handles signals and switches threads


cdef int yield_gil() except -1 nogil:
    """Within a long loop: run signal handlers, which may raise, and let other threads run.

    Without the GIL other threads run anyway, and only the main thread takes it, to run signal handlers: every 10 ms, as
    it may have to wait. With the GIL, releasing it for a moment would not do: a waiting thread asks for it
    only after 5 ms, so the interpreter itself has to switch."""
    global last_look
    cdef timespec time
    cdef long long now
    if PyGILState_Check():
        with gil:
            poll_signals()
    elif PyThread_get_thread_ident() == main_thread:
        timespec_get(&time, TIME_UTC)
        now = time.tv_sec * 1000 + time.tv_nsec // 1000000
        if not 0 <= now - last_look < 10:
            last_look = now
            with gil:
                PyErr_CheckSignals()
    return FG_OK


fg_on_pause = yield_gil


def after_fork():
    """Run in a forked child, whose main thread is the one that forked."""
    global main_thread
    main_thread = PyThread_get_thread_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)


def control_flow(int op, list bodies, tuple numbers, list operands, list shapes):
    """The results of a loop or branch whose bodies are these Programs: untracked tensors, parts of the operation's
    block, whose dtypes and shapes are given as pairs."""
    cdef int n = len(operands), n_attr = len(bodies) + len(numbers), k, n_held = 0
    cdef int64_t few[FG_MAX_NDIM + 2]
    cdef fg_tensor y, part
    cdef fg_tensor *given = <fg_tensor *>PyMem_Malloc((n + 1) * sizeof(fg_tensor))
    cdef int64_t *attr = <int64_t *>PyMem_Malloc((n_attr + 1) * sizeof(int64_t))
    found = []
    try:
        if given == NULL or attr == NULL:
            raise MemoryError("no memory")
        for k in range(len(bodies)):
            attr[k] = <int64_t><size_t>(<Program>bodies[k]).program
        for k in range(len(numbers)):
            attr[len(bodies) + k] = numbers[k]
        for k in range(n):                      # with their nodes: an outer trace keeps whether one is tracked
            given[k] = fg_tensor_ref((<Tensor>operands[k]).t)
            n_held = k + 1
        check(fg_apply(op, n, given, n_attr, attr, &y))
        block = wrap(y)
        for k, (dtype, shape) in enumerate(shapes):
            few[0] = fg_control_flow_offset(op, attr, k)
            few[1] = NUMBER_OF[dtype]
            for i, length in enumerate(shape):
                few[2 + i] = length
            check(fg_apply(FG_OP_part, 1, &y, 2 + len(shape), few, &part))
            found.append(wrap(part))
        return found
    finally:
        for k in range(n_held):                 # held, as a loop lets other threads run, which may change operands
            fg_tensor_unref(given[k])
        PyMem_Free(given)
        PyMem_Free(attr)


cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *)

cdef object UNLIKE = object()       # stands for the absence of a tree, as None is a tree


cdef object alike(like, value, bint own, int depth):
    """value, if it is nested in tuples, lists, dicts and Nones as ``like`` is, with tensors of the same dtypes and
    shapes; UNLIKE if it is not, or if that is not quickly known. Its lists and dicts are new ones, which no later
    change of those given reaches. With ``own`` its tensors are new, too: they share memory until one is changed in
    place."""
    cdef Py_ssize_t i
    cdef list parts
    if type(like) is not type(value) or depth > 8:
        return UNLIKE
    if type(like) is Tensor:
        if ((<Tensor>like).t.array.dtype != (<Tensor>value).t.array.dtype or (<Tensor>value).t.array.weak
                or not fg_shape_equal((<Tensor>like).t.array.shape, (<Tensor>value).t.array.shape)):
            return UNLIKE
        return own_tensor((<Tensor>value).t) if own else value
    if type(like) is tuple:
        if len(<tuple>like) != len(<tuple>value):
            return UNLIKE
        parts = None                            # made when the first item is replaced
        for i in range(len(<tuple>like)):
            item = (<tuple>value)[i]
            part = alike((<tuple>like)[i], item, own, depth + 1)
            if part is UNLIKE:
                return UNLIKE
            if part is not item and parts is None:
                parts = list(<tuple>value)
            if parts is not None:
                parts[i] = part
        return value if parts is None else tuple(parts)
    if type(like) is list:
        if len(<list>like) != len(<list>value):
            return UNLIKE
        parts = []
        for i in range(len(<list>like)):
            part = alike((<list>like)[i], (<list>value)[i], own, depth + 1)
            if part is UNLIKE:
                return UNLIKE
            parts.append(part)
        return parts
    if type(like) is dict:
        if len(<dict>like) != len(<dict>value):
            return UNLIKE
        found = {}
        for (key, item), (other_key, other) in zip((<dict>like).items(), (<dict>value).items()):
            part = alike(item, other, own, depth + 1) if key is other_key else UNLIKE
            if part is UNLIKE:
                return UNLIKE
            found[key] = part
        return found
    return value if like is None else UNLIKE


@cython.final
cdef class Carry:
    """What an eager loop hands from step to step: trees with the structure, dtypes and shapes of ``like``."""

    cdef object like, check

    def __cinit__(self, like, check):
        self.like, self.check = like, check

    @cython.binding(False)              # a builtin method, which Python calls quickly
    def hand_on(self, value):
        """The value that a step returned, as tensors in lists and dicts of its own; what ``check(value)`` makes of it
        unless it is quickly seen to be like the others."""
        found = alike(self.like, value, False, 0)
        return self.check(value) if found is UNLIKE else found


@cython.final
cdef class Results:
    """The results of the steps of an eager scan, as ``trees`` of tensors. No change that a later step makes in place,
    of a container or a tensor, reaches them."""

    cdef readonly list trees
    cdef object check

    def __cinit__(self, check):
        self.trees, self.check = [], check

    @cython.binding(False)
    def append(self, y):
        """Keep the result of a step; what ``check(y)`` makes of it unless it is quickly seen to be like the last."""
        found = alike(self.trees[len(self.trees) - 1], y, True, 0) if self.trees else UNLIKE
        self.trees.append(self.check(y) if found is UNLIKE else found)


@cython.final
cdef class Counter:
    """An iterator over ``length`` integers from ``lower`` on, as tensors that stand for Python ints. Where only the
    variable of the caller's loop has kept the last tensor, that gets the next integer and is handed out again."""

    cdef int64_t lower, length, done
    cdef Tensor last

    def __cinit__(self, int64_t lower, int64_t length):
        self.lower, self.length = lower, length

    def __iter__(self):
        return self

    def __next__(self):
        if self.done >= self.length:
            raise StopIteration
        self.done += 1
        if (self.last is not None and Py_REFCNT(<PyObject *>self.last) == 2 and self.last.t.node == NULL
                and self.last.t.array.refs == 1):
            (<int64_t *>self.last.t.array.data)[0] = self.lower + (self.done - 1)
        else:
            self.last = weak_integer(self.lower + (self.done - 1))
        return self.last


@cython.final
cdef class Rows:
    """An iterator over the rows of x, from the last to the first if ``reverse``. They are taken from blocks of rows:
    the cotangent of a row then has the size of a block, not of all of x."""

    cdef Tensor x, block
    cdef int64_t done, length, size, start      # size: rows in a block; start: the first of the present one
    cdef bint reverse
    cdef fg_shape *row                          # the shape of a row of values only, which is copied; else NULL

    def __cinit__(self, Tensor x not None, bint reverse):
        cdef fg_shape *s = x.t.array.shape
        self.x, self.reverse = x, reverse
        self.length, self.start = s.dim[0], -1
        self.size = <int64_t>sqrt(<double>self.length) or 1
        if x.t.node == NULL and not fg_traced(x.t.array):
            self.row = fg_shape_new(s.ndim - 1, s.dim + 1)
            if self.row == NULL:
                fail(fg_failed())

    def __dealloc__(self):
        if self.row != NULL:
            fg_shape_unref(self.row)

    def __iter__(self):
        return self

    def __next__(self):
        cdef int64_t k = self.length - 1 - self.done if self.reverse else self.done, left
        if self.done >= self.length:
            raise StopIteration
        if self.row != NULL:
            self.done += 1
            return self.copied(k)
        if k // self.size * self.size != self.start:
            self.start = k // self.size * self.size
            left = self.length - self.start
            self.block = rows_from(self.x, self.start, self.size if self.size < left else left, True)
        self.done += 1
        return rows_from(self.block, k - self.start, 1, False)

    cdef Tensor copied(self, int64_t k):
        cdef fg_array *x = self.x.t.array
        cdef fg_array *y = fg_array_new(self.row, x.dtype)
        cdef size_t bytes = <size_t>self.row.size * fg_itemsize(x.dtype)
        if y == NULL:
            fail(FG_NO_MEMORY)
        copy_bytes(y.data, <char *>x.data + k * bytes, bytes)
        return wrap_array(y)


cdef Tensor rows_from(Tensor x, int64_t start, int64_t length, bint keep_axis):
    """So many rows of x; without ``keep_axis`` a single one, without its first axis."""
    cdef fg_shape *s = x.t.array.shape
    cdef int64_t attr[3 * FG_MAX_NDIM]
    cdef fg_tensor part, y
    cdef int i
    for i in range(s.ndim):
        attr[3 * i], attr[3 * i + 1], attr[3 * i + 2] = 0, 1, s.dim[i]
    attr[0], attr[2] = start, length
    check(fg_apply(FG_OP_slice, 1, &x.t, 3 * s.ndim, attr, &part))
    if keep_axis:
        return wrap(part)
    status = fg_apply(FG_OP_reshape, 1, &part, s.ndim - 1, s.dim + 1, &y)
    fg_tensor_unref(part)
    check(status)
    return wrap(y)


def holds(condition):
    """The value of a tensor of one boolean; None for anything else, or if the value is not known."""
    cdef fg_array *x
    if type(condition) is not Tensor:
        return None
    x = (<Tensor>condition).t.array
    if x.dtype != FG_BOOL or x.shape.size != 1 or fg_traced(x):
        return None
    return (<uint8_t *>x.data)[0] != 0


def dtype_numbered(int number):
    """The dtype with this number in attributes of operations."""
    return DTYPES[number]


def control_flow_offset(int op, list bodies, tuple numbers, int k):
    """The byte offset of result k in the block of a loop or branch."""
    cdef int64_t attr[8]
    for i in range(len(bodies)):
        attr[i] = <int64_t><size_t>(<Program>bodies[i]).program
    for i in range(len(numbers)):
        attr[len(bodies) + i] = numbers[i]
    return fg_control_flow_offset(op, attr, k)


def body_number(Program body not None):
    """The number of a body in attributes of operations."""
    return <int64_t><size_t>body.program
