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


cdef unsigned long main_thread = threading.main_thread().ident
cdef int pauses = 0         # how often the main thread has paused without the GIL
cdef object poll_signals = eval("lambda: None")      # calling it, the interpreter handles signals and switches threads


cdef int yield_gil() except -1 nogil:
    """Within a long loop: run signal handlers, which may raise, and let other threads run.

    Without the GIL other threads run anyway, and only the main thread takes it, to run signal handlers: every 16th
    time, as it may have to wait. With the GIL, releasing it for a moment would not do: a waiting thread asks for it
    only after 5 ms, so the interpreter itself has to switch."""
    global pauses
    if PyGILState_Check():
        with gil:
            poll_signals()
    elif PyThread_get_thread_ident() == main_thread:
        pauses = (pauses + 1) % 16
        if pauses == 0:
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
        for k in range(n_held):                 # were held, as a loop lets other threads run, which may change operands
            fg_tensor_unref(given[k])
        PyMem_Free(given)
        PyMem_Free(attr)


cpdef bint alike(a, b, int depth=0):
    """Whether two values are nested alike in tuples, lists, dicts and Nones, with tensors of equal dtypes and shapes.
    False also where that is not quickly known."""
    cdef Py_ssize_t i
    if type(a) is not type(b) or depth > 8:
        return False
    if type(a) is Tensor:
        return (a is b or ((<Tensor>a).t.array.dtype == (<Tensor>b).t.array.dtype and not (<Tensor>b).t.array.weak
                           and fg_shape_equal((<Tensor>a).t.array.shape, (<Tensor>b).t.array.shape)))
    if type(a) is tuple or type(a) is list:
        if len(a) != len(b):
            return False
        for i in range(len(a)):
            if not alike(a[i], b[i], depth + 1):
                return False
        return True
    if type(a) is dict:
        if len(a) != len(b):
            return False
        for (key, value), (other_key, other) in zip((<dict>a).items(), (<dict>b).items()):
            if key is not other_key or not alike(value, other, depth + 1):
                return False
        return True
    return a is None


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
