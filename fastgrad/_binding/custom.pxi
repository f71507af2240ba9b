# Nodes whose derivative is a rule in Python (csrc/autodiff/custom.c, _transforms/custom_node.py). Included by
# _core.pyx.

def alias(Tensor x not None):
    """x reshaped to its own shape: the same elements, with another node if x has one."""
    return apply_one(FG_OP_reshape, x, x.t.array.shape.ndim, x.t.array.shape.dim)


def barrier(Tensor x not None):
    """x as a value of its own in a program: common subexpression elimination does not merge what is computed from it
    with what is computed from x. It stands for a Python number if x does."""
    cdef Tensor y = apply_one(FG_OP_barrier, x, 0, NULL)
    y.t.array.weak = x.t.array.weak
    return y


def snapshot(Tensor x not None):
    """x as a residual: neither an in-place change of x nor a write to externally mutable memory changes it."""
    cdef int64_t dtype = x.t.array.dtype
    return apply_one(FG_OP_cast, x, 1, &dtype) if fg_array_root(x.t.array).externally_mutable else own_tensor(x.t)


@cython.final
cdef class Running(Nested):
    """A context in which the rule of this function runs."""

    cdef object function

    def __cinit__(self, function):
        self.function = function

    def __enter__(self):
        self.enter(RULES_RUN)

    def __exit__(self, kind, error, trace):
        self.leave(RULES_RUN)

    def __dealloc__(self):
        self.leave(RULES_RUN)


def is_running(function):
    """Whether this thread is within a context Running of this function."""
    cdef void *context = innermost(RULES_RUN)
    while context != NULL:
        if (<Running>context).function is function:
            return True
        context = (<Running>context).outer
    return False


def tracked_among(list values):
    """The indices of the tensors in a list that require gradients; none while operations are not recorded."""
    if not fg_grad_enabled:
        return []
    return [i for i in range(len(values)) if type(values[i]) is Tensor and (<Tensor>values[i]).t.node != NULL]


def arrays_as_tensors(list values):
    """The list with tensors, on the same memory, in the place of ndarrays; the list itself if it has none. Masked
    arrays and ndarrays of dtypes that the core does not have stay what they are."""
    cdef list found = None
    cdef Py_ssize_t i
    for i in range(len(values)):
        x = values[i]
        if not isinstance(x, cnp.ndarray) or is_masked(x) or number_of(x) < 0:
            continue
        if found is None:
            found = list(values)
        found[i] = wrap_array(array_from(as_ndarray(x, "asarray"), share=True))
    return values if found is None else found


def closed_over(list results, list own):
    """What a function has closed over: the nodes from before the tensors ``own`` on which ``results`` depend other than
    through ``own``. A dict by the numbers of these nodes. Each value is a tensor without elements whose node is a
    reshape of the node: it stands for the node where `pull` and `custom` take inputs."""
    cdef _GradientCall p = _GradientCall(results, own)
    cdef fg_node **nodes = NULL
    cdef fg_tensor x, y
    cdef int64_t count = 0, i
    found = {}
    try:
        check(fg_tape_closed_over(p.n_y, p.y, p.n, p.wrt, &count, &nodes))
        for i in range(count):
            if nodes[i].number not in found:
                x = fg_tensor(fg_array_foreign(nodes[i].shape, nodes[i].dtype, NULL, NULL, True, False), nodes[i])
                if x.array == NULL:
                    fail(FG_NO_MEMORY)
                status = fg_apply(FG_OP_reshape, 1, &x, x.array.shape.ndim, x.array.shape.dim, &y)
                fg_array_unref(x.array)
                check(status)
                found[nodes[i].number] = wrap(y)
    finally:
        free(nodes)
    return found


def vmapped(list tensors):
    """Whether a mapped function or the body of a loop is being traced in this thread, and outer transforms track any of
    these tensors."""
    cdef Tensor x
    if fg_trace_here() > FG_PROGRAM:
        for x in tensors:
            if fg_trace_tracked(x.t):
                return True
    return False


cdef fg_tensor *borrowed_list(list tensors) except NULL:
    """The tensors as an array, which the caller frees."""
    cdef Tensor x
    cdef int i = 0
    cdef fg_tensor *t = <fg_tensor *>PyMem_Malloc((len(tensors) + 1) * sizeof(fg_tensor))
    if t == NULL:
        raise MemoryError("no memory")
    for x in tensors:
        t[i] = x.t
        i += 1
    return t


def trace_call(list operands, list results, number):
    """Append a call to the trace of a mapped function or of the body of a loop, as an instruction `custom` for each
    result, with the attributes (number, index of the result). Returns the abstract results, like ``results``; None if
    the innermost trace on whose inputs the operands depend is that of a program, or there is none."""
    cdef int n = len(operands), k
    cdef int64_t attr[2]
    cdef fg_call call
    cdef Tensor y
    cdef fg_tensor *t = borrowed_list(operands)
    made = []
    try:
        if not fg_trace_keeps_instructions(n, t):
            return None
        call.op, call.n_in, call.in_, call.n_attr, call.attr = FG_OP_custom, n, t, 2, attr
        attr[0] = number
        for k in range(len(results)):
            y, attr[1] = abstract_like(results[k]), k
            check(fg_trace_append(&call, y.t.array))
            made.append(y)
        return made
    finally:
        PyMem_Free(t)


def custom(list inputs, list results, rule):
    """The results as new tensors that depend on the inputs by the rule alone. A backward pass, recorded or not, calls
    its ``vjp(g)``, which returns a list with a tensor of the shape and dtype of each input, or None for zeros. Of
    several results g is one vector, float64 if their dtypes differ."""
    cdef int n = len(inputs), m = len(results), k = m
    cdef fg_node *node
    cdef Tensor x
    made = []
    cdef fg_tensor *t = borrowed_list(inputs + results)
    try:
        Py_INCREF(rule)
        status = fg_custom(n, t, <void *>rule, m, t + n)
        k = 0                                   # from here on we own the nodes of the results
        for x in results:
            node = t[n + k].node
            k += 1
            made.append(wrap(fg_tensor(fg_array_ref(x.t.array), node)))
        check(status)
        return made
    finally:
        for k in range(k, m):                   # nodes that no Tensor has taken over, because there was no memory
            fg_node_unref(t[n + k].node)
        PyMem_Free(t)


cdef int apply_custom(void *handle, fg_node *n, fg_tensor g, fg_tensor *gin) except -1:
    cdef Tensor t
    cdef int i = 0
    rule = <object>handle                       # held while it runs
    for t in rule.vjp(own_tensor(g)):
        if t is not None and n.in_[i].parent != NULL:
            gin[i] = fg_tensor_ref(t.t)
        i += 1
    return FG_OK


fg_on_custom = apply_custom
