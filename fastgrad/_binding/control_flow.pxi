# Loops and branches as single operations (csrc/program/control_flow.c). Included by _core.pyx.

def recording_programs():
    """Whether the operations of this thread become part of a program, whatever is recorded on the way."""
    return fg_trace_is_program() != 0


def compiling():
    """Whether a program is being recorded in this thread, or the program of a body, beside bare instructions or not."""
    return fg_trace_compiles() != 0


def trace_body(int first, int n, bint apart):
    """The recording under way is that of a body, of which output k is carried on as input first + k, k < n; apart: what
    comes in is wanted later beside what goes out."""
    check(fg_trace_body(first, n, apart))


cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    int PyGILState_Check() nogil


cdef unsigned long main_thread = threading.main_thread().ident
cdef int pauses = 0         # of the main thread without the GIL
cdef object poll_signals = eval("lambda: None")      # of the interpreter: as it begins, signals and threads have their turn


cdef int yield_gil() except -1 nogil:
    """In the midst of a long loop: run signal handlers, which may raise, and let other threads run. Where the GIL is
    not held they run anyway, and only the main thread takes it for signals: rarely, as it may have to wait for it.
    Where it is held, giving it up here would not do: that a thread waits for it is known after 5 ms in which nobody
    did."""
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


def flow(int op, list bodies, tuple numbers, list operands, list shapes):
    """The results of a loop or branch with these Programs as bodies: tensors that are not tracked, of the shapes and
    dtypes given as (dtype, shape)."""
    cdef int n = len(operands), n_attr = len(bodies) + len(numbers), k, held = 0
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
            held = k + 1
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
        for k in range(held):                   # a loop lets other threads run, which may change its operands in place
            fg_tensor_unref(given[k])
        PyMem_Free(given)
        PyMem_Free(attr)


cpdef bint alike(a, b, int depth=0):
    """Whether two values are built alike from tuples, lists, dicts and Nones, with tensors of the same dtypes and shapes;
    False also where that is not seen quickly."""
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
    """The dtype that attributes name by this number."""
    return DTYPES[number]


def flow_place(int op, list bodies, tuple numbers, int k):
    """At which byte of their block result k of such an operation lies."""
    cdef int64_t attr[8]
    for i in range(len(bodies)):
        attr[i] = <int64_t><size_t>(<Program>bodies[i]).program
    for i in range(len(numbers)):
        attr[len(bodies) + i] = numbers[i]
    return fg_control_flow_offset(op, attr, k)


def body_number(Program body not None):
    """How the attributes of an operation name a body."""
    return <int64_t><size_t>body.program
