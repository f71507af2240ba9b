# Nodes whose derivative is a rule in Python (csrc/custom.c, _custom.py). Included by _core.pyx.

def alias(Tensor x not None):
    """x by an operation that moves nothing: a node of its own where x has one."""
    return apply_one(FG_OP_reshape, x, x.t.array.shape.ndim, x.t.array.shape.dim)


def barrier(Tensor x not None):
    """x as a value that a program takes for no other: what is computed from it is not merged with what was before."""
    return apply_one(FG_OP_barrier, x, 0, NULL)


def settled(Tensor x not None):
    """x to be kept for a backward pass: no change in place reaches it, nor a write to the memory that it came from."""
    cdef int64_t dtype = x.t.array.dtype
    return apply_one(FG_OP_cast, x, 1, &dtype) if fg_array_root(x.t.array).unstable else held(x.t)


def newest():
    """The number of the node that was made last."""
    return fg_newest()


def older(Tensor x not None, uint64_t number):
    """Whether x was recorded by a node of this number or before."""
    return x.t.node != NULL and x.t.node.number <= number


def open_body(uint64_t mark):
    """Begin the body of a custom function, whose own tensors have nodes newer than mark. Returns what close_body
    takes."""
    global fg_transforms_running
    state = fg_here.last_outside, fg_here.read_outside
    fg_here.last_outside, fg_here.read_outside = mark, 0
    fg_transforms_running += 1                  # so that an inner transform is not the outermost
    return state


def close_body(tuple state):
    """End it: whether it has read anything that was recorded up to its mark."""
    global fg_transforms_running
    outside = fg_here.read_outside != 0
    fg_here.last_outside, fg_here.read_outside = state
    fg_transforms_running -= 1
    return outside


def vmapped(Tensor x not None):
    """Whether a function is being mapped here over a batch, of which transforms outside of it track x."""
    return fg_trace_notes_only() != 0 and fg_trace_tracked(x.t) != 0


def custom(list inputs, list results, rule):
    """The results as tensors of their own that depend on the inputs by the rule alone. Its ``vjp(g)`` is called in a
    backward pass, in which operations are recorded or not, and returns a list: for each input a tensor of its shape and
    dtype, or None for zeros. Of several results g is one vector, of float64 where their dtypes differ."""
    cdef int n = len(inputs), m = len(results), i
    cdef Tensor x
    made = []
    cdef fg_tensor *t = <fg_tensor *>PyMem_Malloc((n + m + 1) * sizeof(fg_tensor))
    if t == NULL:
        raise MemoryError("no memory")
    try:
        i = 0
        for x in inputs + results:
            t[i] = x.t
            i += 1
        Py_INCREF(rule)
        status = fg_custom(n, t, <void *>rule, m, t + n)
        for x in results:
            made.append(wrap(fg_tensor(fg_array_ref(x.t.array), t[n + len(made)].node)))
        check(status)
        return made
    finally:
        PyMem_Free(t)


cdef int apply_custom(void *handle, fg_node *n, fg_tensor g, fg_tensor *gin) except -1:
    cdef Tensor t
    cdef int i = 0
    rule = <object>handle                       # held while it runs
    for t in rule.vjp(held(g)):
        if t is not None:
            gin[i] = fg_tensor_ref(t.t)
        i += 1
    return FG_OK


fg_on_custom = apply_custom
