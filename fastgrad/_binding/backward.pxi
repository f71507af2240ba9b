# Leaves, cotangents, the backward pass, and the switches of recording. Included by _core.pyx.

def watch(cnp.ndarray a):
    """A leaf that requires gradients on a's memory, which nobody may write while the graph lives: in-place operators
    on it take memory of their own."""
    cdef Tensor r = wrap_array(array_from(a, cnp.PyArray_NBYTES(a) >= COPY_BELOW, externally_mutable=False))
    r.t.array.readonly = True
    make_leaf(r)
    return r


def watch_tensor(Tensor x, bint connected=False):
    """x as the argument of a transform. What is recorded already stays so if asked for, by an operation that moves
    nothing: the transform has a node of its own to stop at, and an outer one goes on through it."""
    cdef Tensor r
    x = strong(x)
    if x.t.node != NULL and connected:
        r = apply_one(FG_OP_reshape, x, x.t.array.shape.ndim, x.t.array.shape.dim)
        r.t.node.fixed = True
    else:
        r = wrap_array(fg_array_ref(x.t.array))
        make_leaf(r)
    return r


def own(Tensor x):
    """The elements as a writable ndarray, in memory that nobody else looks at."""
    if fg_array_is_sole(x.t.array):
        return view_of(x.t.array, True)
    return view_of(x.t.array, False).copy()


cdef fg_array *cotangent_like(Tensor y, value, str name) except NULL:
    """value as a cotangent of y, in memory that only the core writes."""
    cdef fg_array *x
    if isinstance(value, Tensor):
        x = (<Tensor>value).t.array
        if (x.storage == FG_OWNED or fg_traced(x)) and not x.externally_mutable and x.dtype == y.t.array.dtype and fg_shape_equal(
                x.shape, y.t.array.shape):
            return fg_array_ref(x)
        value = view_of(x, False)
    cdef cnp.ndarray a = as_ndarray(value, name)
    if number_of(a) != y.t.array.dtype:
        a = a.astype(y.dtype)
    cdef fg_array *g = array_from(a, share=False)
    if not fg_shape_equal(g.shape, y.t.array.shape):
        fg_array_unref(g)
        raise ValueError(f"{name}: expected a gradient of shape {y.shape}, got shape {np.shape(a)}")
    return g


cdef fg_tensor recorded_cotangent(Tensor y, Tensor value) except *:
    """value as a cotangent of y that stays connected with what it was computed from."""
    if value.shape != y.shape:
        raise ValueError(f"backward: expected a gradient of shape {y.shape}, got shape {value.shape}")
    # never a leaf itself: the gradient that it may become is a tensor of its own
    cdef Tensor g = unary(FG_OP_positive, astype_if(value, y.dtype))
    return fg_tensor_ref(g.t)


cdef fg_tensor one_like(Tensor y) except *:
    """The cotangent 1 of a single number, or ones in the shape of a float y."""
    cdef fg_array *g = fg_array_new(y.t.array.shape, y.t.array.dtype)
    if g == NULL:
        fail(FG_NO_MEMORY)
    fg_kernels[g.dtype].reduce.fill(g.shape.size, 1.0, g.data)
    return fg_tensor(g, NULL)


def ones_like(Tensor y):
    """A constant of ones in the shape and dtype of a float y."""
    return wrap(one_like(y))


cdef class _Pass:
    """The memory that a pass between tensors needs, which holds their nodes."""
    cdef int n_y, n
    cdef fg_tensor *y
    cdef fg_tensor *g
    cdef fg_node **wrt
    cdef fg_tensor *out

    def __cinit__(self, list results, list inputs, behind=()):
        cdef int i
        self.n_y, self.n = len(results), len(inputs) + len(behind)
        self.y = <fg_tensor *>PyMem_Calloc(2 * self.n_y + self.n + 1, sizeof(fg_tensor))
        self.wrt = <fg_node **>PyMem_Calloc(self.n + 1, sizeof(fg_node *))
        if self.y == NULL or self.wrt == NULL:
            raise MemoryError("no memory for a pass")
        self.g = self.y + self.n_y
        self.out = self.g + self.n_y
        for i in range(self.n_y):
            self.y[i] = fg_tensor_ref((<Tensor>results[i]).t)
        for i in range(len(inputs)):
            self.wrt[i] = (<Tensor>inputs[i]).t.node
        for i in range(len(behind)):
            self.wrt[len(inputs) + i] = (<Tensor>behind[i]).t.node.in_[0].parent

    def __dealloc__(self):
        cdef int i
        if self.y != NULL:
            for i in range(self.n_y):
                fg_tensor_unref(self.y[i])
        PyMem_Free(self.y)
        PyMem_Free(self.wrt)

    cdef list back(self, list inputs, bint retain, bint create_graph):
        cdef int i
        check(fg_gradients(self.n_y, self.y, self.g, retain, create_graph, self.n, self.wrt, self.out))
        found = [wrap(self.out[i]) if self.out[i].array != NULL else None for i in range(self.n)]
        return [zeros_like(x) if g is None else g for x, g in zip(inputs, found)]


def gradients(Tensor y, list inputs, bint create_graph):
    """The gradients of the number y by tensors that were watched just before it was computed: a list of tensors, zeros
    where y does not depend on one, and None of their .grad set. With create_graph they are recorded themselves."""
    if y.t.node == NULL:
        return [zeros_like(x) for x in inputs]
    cdef _Pass p = _Pass([y], inputs)
    cdef fg_tensor one = one_like(y)
    p.g[0] = one
    try:
        return p.back(inputs, False, create_graph)
    finally:
        fg_tensor_unref(one)


def pull(list results, list cotangents, list inputs, bint create_graph, bint retain=True, behind=()):
    """The same of several results with cotangents, tensors of their shapes and dtypes; further gradients by what
    tensors of ``outside`` stand for. The graph stays for the next unless told otherwise."""
    cdef _Pass p = _Pass(results, inputs, behind)
    cdef int i
    for i in range(p.n_y):
        p.g[i] = (<Tensor>cotangents[i]).t
        if not create_graph:
            p.g[i].node = NULL
    return p.back([*inputs, *behind], retain, create_graph)


def steps(list results, list inputs, bint recorded):
    """The operations through which results depend on watched tensors, in order: tuples (op number, number of the
    result, numbers of the operands, attr, shape of the result, saved result, saved operands, recorded). Numbers are
    those of nodes: ``node_number``; None for a constant or a value that was not saved. attr of a custom function or a
    loop is its rule. ``recorded``: with the nodes of what was saved."""
    cdef _Pass p = _Pass(results, inputs)
    cdef fg_node **nodes = NULL
    cdef fg_node *n
    cdef int64_t count = 0, i
    cdef int k
    cdef fg_tensor t
    made = []
    try:
        check(fg_tape_between(p.n_y, p.y, p.n, p.wrt, &count, &nodes))
        for i in range(count):
            n = nodes[i]
            check(fg_saved_out(n, &t))
            y = saved_value(t, recorded)
            operands, values = [], []
            for k in range(n.n_in):
                operands.append(n.in_[k].parent.number if n.in_[k].parent != NULL else None)
                check(fg_saved(n, k, &t))
                values.append(saved_value(t, recorded))
            attr = ((<object><void *>n.attr[0],) if n.op == FG_OP_custom
                    else tuple([n.attr[k] for k in range(n.n_attr)]))
            made.append((n.op, n.number, operands, attr,
                         tuple([n.shape.dim[k] for k in range(n.shape.ndim)]), y, values, recorded))
    finally:
        free(nodes)
    return made


cdef Tensor saved_value(fg_tensor t, bint recorded):
    if t.array == NULL:
        return None
    return held(t) if recorded else wrap_array(fg_array_ref(t.array))


def node_number(Tensor x):
    """The number of the node that recorded x, in order of creation; None for a constant."""
    return x.t.node.number if x.t.node != NULL else None


cdef Tensor zeros_like(Tensor x):
    return tensor_of(np.zeros(x.shape, x.dtype))


# ---- rules of a pass that is recorded -------------------------------------------------------------------------
cdef int apply_rule(fg_node *n, int i, fg_tensor g, fg_tensor *gx) except -1:
    """The rule of an operation whose kernel is not differentiable, composed in Python (_rules.py)."""
    cdef fg_tensor saved
    cdef Tensor t
    cdef int k
    given = [wrap(fg_tensor_ref(g))]
    try:
        check(fg_saved_out(n, &saved))
        given.append(wrap(fg_tensor_ref(saved)) if saved.array != NULL else None)
        for k in range(n.n_in):
            check(fg_saved(n, k, &saved))
            given.append(wrap(fg_tensor_ref(saved)) if saved.array != NULL else None)
        t = rules.gradient(fg_ops[n.op].name.decode(), i, tuple([n.attr[k] for k in range(n.n_attr)]), *given)
        gx[0] = fg_tensor_ref(t.t)
    finally:
        for t in given:                         # lest a leaf believe that its own tensor goes
            if t is not None:
                fg_node_unref(t.t.node)
                t.t.node = NULL
    return FG_OK


fg_on_rule = apply_rule


# ---- switches -------------------------------------------------------------------------------------------
# What is switched for a while is switched by a context whose __enter__ and __exit__ are C: an interrupt, which Python
# raises only between instructions of Python code, cannot part them. Before the switch __enter__ may fail, behind it
# nothing may; __exit__ takes no memory and cannot fail. Should an interrupt come behind __enter__ and before the block
# that it is for, the context is dropped, and restores what it was then.

cpdef bint set_grad_enabled(bint enabled) noexcept:
    """Turn recording on or off in this thread; returns what it was."""
    global fg_grad_enabled
    was = fg_grad_enabled != 0
    fg_grad_enabled = enabled
    return was


def grad_enabled():
    """Whether operations are recorded in this thread."""
    return fg_grad_enabled != 0


@cython.final
cdef class Grads:
    """A context: whether operations are recorded within, in this thread."""

    cdef bint enabled, was
    cdef unsigned long thread   # in which it is entered, or 0

    def __init__(self, bint enabled):
        self.enabled = enabled

    def __enter__(self):
        self.thread = PyThread_get_thread_ident()
        self.was = set_grad_enabled(self.enabled)

    def __exit__(self, kind, error, trace):
        self.thread = 0
        set_grad_enabled(self.was)

    def __dealloc__(self):
        if self.thread and self.thread == PyThread_get_thread_ident():
            set_grad_enabled(self.was)


@cython.final
cdef class Recording:
    """A context, inside of a functional transform: operations are recorded, and tensors do not silently turn into
    numbers."""

    cdef bint was
    cdef unsigned long thread   # in which it is entered, or 0

    def __enter__(self):
        global fg_transforms_running
        self.thread = PyThread_get_thread_ident()
        self.was = set_grad_enabled(True)
        fg_transforms_running += 1

    def __exit__(self, kind, error, trace):
        self.leave()

    cdef void leave(self) noexcept:
        global fg_transforms_running
        self.thread = 0
        fg_transforms_running -= 1
        set_grad_enabled(self.was)

    def __dealloc__(self):
        if self.thread and self.thread == PyThread_get_thread_ident():
            self.leave()


@cython.final
cdef class Outermost:
    """A context: within it this thread is inside of no functional transform, as far as it asks. For the recording of a
    program, which is the same wherever it happens to be made first."""

    cdef int running
    cdef unsigned long thread   # in which it is entered, or 0

    def __enter__(self):
        global fg_transforms_running
        self.thread = PyThread_get_thread_ident()
        self.running, fg_transforms_running = fg_transforms_running, 0

    def __exit__(self, kind, error, trace):
        self.leave()

    cdef void leave(self) noexcept:
        global fg_transforms_running
        self.thread = 0
        fg_transforms_running = self.running

    def __dealloc__(self):
        if self.thread and self.thread == PyThread_get_thread_ident():
            self.leave()


def in_transform():
    """Whether this thread is inside of a functional transform."""
    return fg_transforms_running > 0


# ---- what a thread is in the midst of ---------------------------------------------------------------------
cdef enum:
    TRACES, DRAWINGS, RULES_RUN, N_KINDS


@cython.final
cdef class Here:
    """What a thread is in the midst of."""

    cdef void *innermost[N_KINDS]   # of the Nested contexts of each kind, which are held by those who entered them
    cdef char *was              # for each NoGrad that is entered, whether operations were recorded
    cdef Py_ssize_t n, room

    def __dealloc__(self):
        PyMem_Free(self.was)


cdef object threads = threading.local()


cdef Here this_thread():
    here = getattr(threads, "here", None)
    if here is None:
        threads.here = here = Here()
    return here


cdef void *innermost(int kind) except? NULL:
    """The innermost Nested context of a kind that this thread has entered, or NULL."""
    cdef Here here = this_thread()
    return here.innermost[kind]


@cython.no_gc_clear
cdef class Nested:
    """A context that is found by what runs within it, in its thread, as are those of the same kind around it."""

    cdef Here here              # while it is entered
    cdef void *outer

    cdef int enter(self, int kind) except -1:
        if self.here is not None:
            raise RuntimeError("a context that is entered already")
        self.here = this_thread()
        self.outer, self.here.innermost[kind] = self.here.innermost[kind], <void *>self
        return 0

    cdef void leave(self, int kind) noexcept:
        if self.here is not None:
            self.here.innermost[kind] = self.outer
            self.here = None



cdef class NoGrad:
    """A context: operations within are not recorded, in this thread. One object may be entered again while it is
    entered, and by several threads."""

    def __enter__(self):
        cdef Here here = this_thread()
        cdef Py_ssize_t room = 2 * here.room + 16
        cdef char *grown
        if here.n == here.room:
            grown = <char *>PyMem_Realloc(here.was, room)
            if grown == NULL:
                raise MemoryError("no_grad: no memory")
            here.was, here.room = grown, room
        here.was[here.n] = set_grad_enabled(False)
        here.n += 1

    def __exit__(self, kind, error, trace):
        cdef Here here = this_thread()
        if not here.n:
            raise RuntimeError("no_grad: left in a thread that has not entered it")
        here.n -= 1
        set_grad_enabled(here.was[here.n])
