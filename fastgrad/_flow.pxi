# Loops and branches as single operations (csrc/flow.c), and nodes of several results. Included by _core.pyx.

def recording_programs():
    """Whether the operations of this thread become part of a program, whatever is recorded on the way."""
    return fg_trace_programs() != 0


def trace_body(int first, int n):
    """The recording under way is that of a body, of which output k is carried on as input first + k, k < n."""
    check(fg_trace_body(first, n))


def example(Tensor x not None, int64_t row=-1):
    """A tensor of its own with the elements that x has at the moment; with a row, those of x[row] or, where x has no
    row, zeros. Nothing of it is recorded."""
    cdef fg_array *a = x.t.array
    cdef int dropped = row >= 0
    cdef fg_shape *s = fg_shape_new(a.shape.ndim - dropped, a.shape.dim + dropped)
    cdef fg_array *y = fg_array_new(s, a.dtype) if s != NULL else NULL
    fg_shape_unref(s)
    if y == NULL:
        fail(fg_failed())
    cdef size_t bytes = <size_t>y.shape.size * fg_itemsize(y.dtype)
    if row >= 0 and row >= a.shape.dim[0]:
        memset(y.data, 0, bytes)
    else:
        copy_bytes(y.data, <char *>a.data + (row * <int64_t>bytes if row > 0 else 0), bytes)
    return wrap_array(y)


cdef extern from "string.h" nogil:
    void *memset(void *to, int value, size_t n)


def flow(int op, list bodies, tuple numbers, list operands, list shapes):
    """The results of a loop or branch with these Programs as bodies: tensors that are not tracked, of the shapes and
    dtypes given as (dtype, shape)."""
    cdef int n = len(operands), n_attr = len(bodies) + len(numbers), k
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
        for k in range(n):
            given[k] = (<Tensor>operands[k]).t  # with its node: an outer recording notes whether it is tracked
        check(fg_apply(op, n, given, n_attr, attr, &y))
        block = wrap(y)
        for k, (dtype, shape) in enumerate(shapes):
            few[0] = fg_flow_place(op, attr, k)
            few[1] = NUMBER_OF[dtype]
            for i, length in enumerate(shape):
                few[2 + i] = length
            check(fg_apply(FG_OP_part, 1, &y, 2 + len(shape), few, &part))
            found.append(wrap(part))
        return found
    finally:
        PyMem_Free(given)
        PyMem_Free(attr)


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
    return fg_flow_place(op, attr, k)


def body_number(Program body not None):
    """How the attributes of an operation name a body."""
    return <int64_t><size_t>body.program


# ---- several results on the tape ------------------------------------------------------------------------------
def joint(list inputs, rule, int64_t size, dtype):
    """The node of several results at once, laid end to end in a vector of this size and dtype, as a tensor without
    elements. Its rule is called with the cotangent of the vector, the inputs, and for each whether it needs a gradient;
    it returns their gradients, None for those without."""
    cdef int n = len(inputs), k, status = FG_NO_MEMORY
    cdef fg_node *node = NULL
    cdef fg_shape *s = fg_shape_new(1, &size)
    cdef int number = NUMBER_OF[np.dtype(dtype)]
    cdef fg_array *handle = fg_array_foreign(s, number, NULL, <void *>rule, True, False) if s != NULL else NULL
    cdef fg_tensor *given = <fg_tensor *>PyMem_Malloc((n + 1) * sizeof(fg_tensor))
    fg_shape_unref(s)
    if handle != NULL:
        Py_INCREF(rule)
        if given != NULL:
            for k in range(n):
                given[k] = (<Tensor>inputs[k]).t
            status = fg_joint(n, given, handle, &node)
    PyMem_Free(given)
    if status != FG_OK:
        fg_array_unref(handle)
        fail(status)
    return wrap(fg_tensor(handle, node))


def joint_part(Tensor whole not None, Tensor value not None, int64_t start):
    """value as the result of `joint` whose elements begin at start."""
    cdef fg_node *node = NULL
    check(fg_joint_part(whole.t.node, start, value.t.array, &node))
    return wrap(fg_tensor(fg_array_ref(value.t.array), node))


cdef int apply_joint(fg_node *n, fg_tensor g, fg_tensor *gin) except -1:
    cdef Tensor t
    cdef int k
    cdef fg_tensor saved
    given = []
    try:
        for k in range(n.n_in):
            check(fg_saved(n, k, &saved))
            given.append(wrap(fg_tensor_ref(saved)))
        t = wrap(fg_tensor_ref(g))
        found = (<object>n.saved.owner)(t, given, [n.in_[k].parent != NULL for k in range(n.n_in)])
        t = None
        for k in range(n.n_in):
            if n.in_[k].parent != NULL and found[k] is not None:
                gin[k] = fg_tensor_ref((<Tensor>found[k]).t)
    finally:
        for t in given:                         # lest a leaf believe that its own tensor goes
            fg_node_unref(t.t.node)
            t.t.node = NULL
    return FG_OK


fg_on_joint = apply_joint
