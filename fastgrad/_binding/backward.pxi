# Reverse mode: leaves, cotangents, backward passes, the ages of nodes, and whether operations are recorded. Included by
# _core.pyx.

def watch(cnp.ndarray a):
    """A leaf that requires gradients, on a's memory if that is large. Nobody may write to that memory while the tape is
    in use; the leaf is read-only, so that an in-place operator on it makes a copy first."""
    cdef Tensor r = wrap_array(array_from(a, cnp.PyArray_NBYTES(a) >= COPY_BELOW, externally_mutable=False))
    r.t.array.readonly = True
    make_leaf(r)
    return r


def watch_tensor(Tensor x, bint connected=False):
    """A tensor like x with a new node, for a transform to differentiate by: its backward pass ends there. The node is a
    leaf; or, if ``connected`` and x has a node itself, a reshape to the same shape, through which outer transforms
    differentiate on."""
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
    """The elements as a writable ndarray in memory that nothing else shares."""
    if fg_array_is_sole(x.t.array):
        return view_of(x.t.array, True)
    return view_of(x.t.array, False).copy()


cdef fg_array *cotangent_like(Tensor y, value, str name) except NULL:
    """value as a cotangent of y: an array of its shape and dtype, in memory that only the core writes."""
    cdef fg_array *x
    if isinstance(value, Tensor):
        x = (<Tensor>value).t.array
        if ((x.storage == FG_OWNED or fg_traced(x)) and not x.externally_mutable and x.dtype == y.t.array.dtype
                and fg_shape_equal(x.shape, y.t.array.shape)):
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
    """value as a cotangent of y that keeps its node, for a backward pass that is recorded."""
    if value.shape != y.shape:
        raise ValueError(f"backward: expected a gradient of shape {y.shape}, got shape {value.shape}")
    # The node of g is a new one, never that of a leaf, because g may become the gradient of a leaf.
    cdef Tensor g = unary(FG_OP_positive, astype_if(value, y.dtype))
    return fg_tensor_ref(g.t)


cdef fg_tensor cotangent_of_backward(Tensor y, gradient, bint create) except *:
    """What ``y.backward`` begins with: ones, or the gradient that it was given."""
    if (fg_tracing and fg_trace_here() == FG_MAPPED and fg_trace_value(y.t.array) >= 0
            and fg_trace_tracked(y.t)):
        raise RuntimeError("backward: in a function that is mapped by vmap this would add the gradient of one "
                           "element of the batch to the .grad of a tensor from outside; use fastgrad.grad")
    if y.t.node == NULL:
        raise RuntimeError("backward: nothing was recorded for this tensor; make an input with "
                           "requires_grad=True, and compute outside of no_grad()")
    if gradient is None:
        if y.t.array.shape.size != 1:
            raise RuntimeError(f"backward: a tensor of shape {y.shape} has no single gradient; reduce it to "
                               "one number (y.sum().backward()) or pass gradient= of that shape")
        return one_like(y)
    if create and isinstance(gradient, Tensor) and (<Tensor>gradient).t.node != NULL:
        return recorded_cotangent(y, gradient)
    return fg_tensor(cotangent_like(y, gradient, "backward"), NULL)


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


cdef class _GradientCall:
    """The arguments of one call of `fg_gradients`, or of a search of the tape, with references to the results' nodes.

    ``y`` are the n_y results, ``g`` their cotangents, ``wrt`` the nodes of the n inputs, ``out`` the cotangents of
    these. ``closed_over`` is a list of tensors from the function of this name: the parents of their nodes are further
    inputs.
    """
    cdef int n_y, n
    cdef fg_tensor *y
    cdef fg_tensor *g
    cdef fg_node **wrt
    cdef fg_tensor *out

    def __cinit__(self, list results, list inputs, closed_over=()):
        cdef int i
        self.n_y, self.n = len(results), len(inputs) + len(closed_over)
        self.y = <fg_tensor *>PyMem_Calloc(2 * self.n_y + self.n + 1, sizeof(fg_tensor))
        self.wrt = <fg_node **>PyMem_Calloc(self.n + 1, sizeof(fg_node *))
        if self.y == NULL or self.wrt == NULL:
            raise MemoryError("no memory for a backward pass")
        self.g = self.y + self.n_y
        self.out = self.g + self.n_y
        for i in range(self.n_y):
            self.y[i] = fg_tensor_ref((<Tensor>results[i]).t)
        for i in range(len(inputs)):
            self.wrt[i] = (<Tensor>inputs[i]).t.node
        for i in range(len(closed_over)):
            self.wrt[len(inputs) + i] = (<Tensor>closed_over[i]).t.node.in_[0].parent

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
    """The gradients of a y of one element by watched tensors: a list of tensors, zeros where y does not depend on one.
    No ``.grad`` is set. With create_graph the pass is recorded, so that the gradients can be differentiated."""
    if y.t.node == NULL:
        return [zeros_like(x) for x in inputs]
    cdef _GradientCall p = _GradientCall([y], inputs)
    cdef fg_tensor one = one_like(y)
    p.g[0] = one
    try:
        return p.back(inputs, False, create_graph)
    finally:
        fg_tensor_unref(one)


def pull(list results, list cotangents, list inputs, bint create_graph, bint retain=True, closed_over=()):
    """The gradients of several results, whose cotangents are tensors of their shapes and dtypes, by watched tensors. In
    the list they are followed by the gradients by the nodes that the tensors of ``closed_over`` stand for.
    ``retain``: the graph can be used by another pass."""
    cdef _GradientCall p = _GradientCall(results, inputs, closed_over)
    cdef int i
    for i in range(p.n_y):
        p.g[i] = (<Tensor>cotangents[i]).t
        if not create_graph:
            p.g[i].node = NULL
    return p.back([*inputs, *closed_over], retain, create_graph)


@cython.final
cdef class Node:
    """An operation of the tape, for its vjp."""

    cdef fg_node *node

    def __dealloc__(self):
        fg_node_unref(self.node)

    @property
    def dtype(self):
        """That of the result."""
        return DTYPES[self.node.dtype]

    def vjp(self, Tensor g not None):
        """The cotangents of the operands that have nodes, from the cotangent g of the result, else None. They are
        recorded, even where recording is off."""
        cdef int n = self.node.n_in, i
        cdef fg_tensor *gin = <fg_tensor *>PyMem_Calloc(n + 1, sizeof(fg_tensor))
        cdef bint was = set_grad_enabled(True)
        try:
            if gin == NULL:
                raise MemoryError("no memory for a backward pass")
            check(fg_ops[self.node.op].recorded_vjp(self.node, g.t, gin))
            return [own_tensor(gin[i]) if gin[i].array != NULL else None for i in range(n)]
        finally:
            set_grad_enabled(was)
            for i in range(n if gin != NULL else 0):
                fg_tensor_unref(gin[i])
            PyMem_Free(gin)


cdef Node node_of(fg_node *n):
    cdef Node made = Node.__new__(Node)
    made.node = fg_node_ref(n)
    return made


def tape_operations(list results, list inputs, bint recorded):
    """The operations of the tape through which results depend on watched tensors, oldest first.

    Each is a tuple (op, number of the result's node, numbers of the operands' nodes, attr, shape of the result, saved
    result, saved operands, recorded, Node). An operand's number is None for a constant, a saved value None if it is no
    residual. attr of a custom function or a loop is a tuple with its rule. ``recorded``: saved values keep their nodes.
    """
    cdef _GradientCall p = _GradientCall(results, inputs)
    cdef fg_node **nodes = NULL
    cdef int64_t count = 0, i
    try:
        check(fg_tape_between(p.n_y, p.y, p.n, p.wrt, &count, &nodes))
        return [operation_of(nodes[i], recorded) for i in range(count)]
    finally:
        free(nodes)


cdef tuple operation_of(fg_node *n, bint recorded):
    """An operation as `tape_operations` lists it."""
    cdef fg_tensor t
    cdef int k
    check(fg_saved_out(n, &t))
    y = saved_value(t, recorded)
    operands, values = [], []
    for k in range(n.n_in):
        operands.append(n.in_[k].parent.number if n.in_[k].parent != NULL else None)
        check(fg_saved(n, k, &t))
        values.append(saved_value(t, recorded))
    attr = (<object><void *>n.attr[0],) if n.op == FG_OP_custom else tuple([n.attr[k] for k in range(n.n_attr)])
    shape = tuple([n.shape.dim[k] for k in range(n.shape.ndim)])
    return n.op, n.number, operands, attr, shape, y, values, recorded, node_of(n)


cdef int apply_push_rule(void *rule, fg_node *n, const fg_tensor *tangents, fg_tensor *out) except -1:
    cdef int k
    cdef Tensor t
    given = [wrap(fg_tensor_ref(tangents[k])) if tangents[k].array != NULL else None for k in range(n.n_in)]
    t = (<object>rule)(operation_of(n, False), given)
    if t is not None:
        out[0] = fg_tensor_ref(t.t)
    return FG_OK


# How operations take tangents, by names for the table of rules.
PUSH_KINDS = {"linear": FG_PUSH_LINEAR, "product": FG_PUSH_PRODUCT, "together": FG_PUSH_TOGETHER}


def push(list results, list inputs, list tangents, bytes how not None, rule, int64_t directions=0):
    """The tangents of results that were computed from watched tensors with tangents; None for zero.

    ``how`` has one of ``PUSH_KINDS``, or 0, for each operation. For those with 0 ``rule(operation, tangents)`` is
    called, with a tuple as of `tape_operations`. Nothing may be recorded meanwhile. With ``directions`` all tangents
    have a first axis of that length, and the pass may not be part of a trace.
    """
    cdef _GradientCall p = _GradientCall(results, inputs)
    cdef Tensor t
    cdef int i
    if len(how) < FG_N_OPS or len(tangents) != p.n:
        raise ValueError(f"push: expected {FG_N_OPS} kinds and {p.n} tangents, got {len(how)} and {len(tangents)}")
    for i in range(p.n):
        t = tangents[i]
        p.out[i] = t.t if t is not None else fg_tensor(NULL, NULL)
        if directions and t is not None and (t.ndim == 0 or t.t.array.shape.dim[0] != directions):
            raise ValueError(f"push: expected tangents with a first axis of length {directions}, got shape {t.shape}")
    check(fg_push(p.n_y, p.y, p.n, p.wrt, p.out, directions, <const uint8_t *><const char *>how, apply_push_rule,
                  <void *>rule, p.g))
    return [wrap(p.g[i]) if p.g[i].array != NULL else None for i in range(p.n_y)]


def pass_is_short(list results, list inputs, bytes quick not None, int64_t most):
    """Whether a pass over the operations of the tape through which results depend on watched tensors takes hardly more
    time than to call them: ``quick`` has not 0 for each of them, and their arrays have at most ``most`` elements."""
    cdef _GradientCall p = _GradientCall(results, inputs)
    cdef fg_node **nodes = NULL
    cdef fg_node *n
    cdef int64_t count = 0, i
    cdef int k
    cdef bint short = True
    try:
        check(fg_tape_between(p.n_y, p.y, p.n, p.wrt, &count, &nodes))
        for i in range(count):
            n = nodes[i]
            short = short and n.op < len(quick) and quick[n.op] != 0 and n.shape.size <= most
            for k in range(n.n_in):
                short = short and (n.in_[k].saved == NULL or n.in_[k].saved.shape.size <= most)
        return short
    finally:
        free(nodes)


cdef Tensor saved_value(fg_tensor t, bint recorded):
    if t.array == NULL:
        return None
    return own_tensor(t) if recorded else wrap_array(fg_array_ref(t.array))


def node_number(Tensor x):
    """The number of the node that recorded x, in order of creation; None for a constant."""
    return x.t.node.number if x.t.node != NULL else None


def last_node_id():
    """The number of the node that was made last; numbers increase in order of creation."""
    return fg_last_node_id()


def depends_on_outer(tensors, uint64_t mark):
    """Whether any tensor among these depends on a node with a number of at most ``mark``, a former `last_node_id`. Then
    an outer transform, or a backward pass of the user's, differentiates it."""
    for x in tensors:
        if isinstance(x, Tensor) and (<Tensor>x).t.node != NULL and (<Tensor>x).t.node.oldest_ancestor <= mark:
            return True
    return False


def inherit_lineage(list found, list given):
    """Let `depends_on_outer` answer for the tensors ``found`` as for ``given``, whatever they were computed from: their
    nodes get the oldest ancestor of those."""
    cdef uint64_t oldest_ancestor = fg_last_node_id()
    cdef Tensor x
    for x in given:
        if x.t.node != NULL and x.t.node.oldest_ancestor < oldest_ancestor:
            oldest_ancestor = x.t.node.oldest_ancestor
    for x in found:
        if x.t.node != NULL:
            x.t.node.oldest_ancestor = oldest_ancestor


cdef Tensor zeros_like(Tensor x):
    return tensor_of(np.zeros(x.shape, x.dtype))


# ---- rules of a pass that is recorded -------------------------------------------------------------------------
cdef int apply_rule(fg_node *n, int i, fg_tensor g, fg_tensor *gx) except -1:
    """The rule of an operation whose kernel is not differentiable, composed in Python (_rules/table.py)."""
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
        t = rules.gradient(n.op, i, tuple([n.attr[k] for k in range(n.n_attr)]), *given)
        gx[0] = fg_tensor_ref(t.t)
    finally:
        for t in given:                         # without their nodes, as freeing a leaf's Tensor abandons the leaf
            if t is not None:
                fg_node_unref(t.t.node)
                t.t.node = NULL
    return FG_OK


fg_on_rule = apply_rule


# ---- switches -------------------------------------------------------------------------------------------
# A thread's state is changed by contexts whose __enter__ and __exit__ are C. Python raises an interrupt only between
# instructions of Python code, so never in the middle of one of them. __enter__ may fail before it changes the state,
# not after; __exit__ allocates nothing and cannot fail. If an interrupt comes after __enter__ and before the block is
# entered, there is no __exit__: then the context is freed, and __dealloc__ restores the state.

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
    """A context that switches recording on the tape on or off, in this thread."""

    cdef bint enabled, was
    cdef unsigned long thread   # in which it is entered, or 0

    def __cinit__(self, bint enabled):
        self.enabled = enabled

    def __enter__(self):
        self.thread = PyThread_get_thread_ident()
        self.was = set_grad_enabled(self.enabled)

    def __exit__(self, kind, error, trace):
        if self.thread:
            self.thread = 0
            set_grad_enabled(self.was)

    def __dealloc__(self):
        if self.thread and self.thread == PyThread_get_thread_ident():
            set_grad_enabled(self.was)


cdef int64_t last_transform = 0     # the number of the last Recording that was entered, in any thread


@cython.final
cdef class Recording:
    """A context within a functional transform: operations are recorded on the tape, and ``float`` of a tensor with a
    node is refused, because a number has no gradient."""

    cdef bint was
    cdef int64_t outer          # number of the transform around it
    cdef unsigned long thread   # in which it is entered, or 0

    def __enter__(self):
        global fg_transform, last_transform
        self.thread = PyThread_get_thread_ident()
        self.was = set_grad_enabled(True)
        last_transform += 1
        self.outer, fg_transform = fg_transform, last_transform

    def __exit__(self, kind, error, trace):
        self.leave()

    cdef void leave(self) noexcept:
        global fg_transform
        if self.thread:
            self.thread = 0
            fg_transform = self.outer
            set_grad_enabled(self.was)

    def __dealloc__(self):
        if self.thread and self.thread == PyThread_get_thread_ident():
            self.leave()


def in_transform():
    """Whether this thread is inside of a functional transform."""
    return fg_transform != 0


def in_any_transform():
    """The same, also where `Outermost` hides the transform."""
    return fg_transform != 0 or this_thread().hidden > 0


def innermost_transform():
    """The number of the functional transform that this thread is inside of; 0 outside of all."""
    return fg_transform


# ---- contexts that a thread has entered -------------------------------------------------------------------
cdef enum:
    TRACES, DRAWINGS, RULES_RUN, PROMOTIONS, N_KINDS


@cython.final
cdef class Here:
    """The contexts that a thread has entered."""

    cdef void *innermost[N_KINDS]   # Nested context of each kind; whoever entered it holds a reference
    cdef char *was              # for each NoGrad that is entered, whether operations were recorded
    cdef Py_ssize_t n, room
    cdef int hidden             # transforms around the Outermost that are entered

    def __dealloc__(self):
        PyMem_Free(self.was)


cdef object threads = threading.local()


cdef Here this_thread():
    here = getattr(threads, "here", None)
    if here is None:
        threads.here = here = Here.__new__(Here)
    return here


cdef void *innermost(int kind) except? NULL:
    """The innermost Nested context of a kind that this thread has entered, or NULL."""
    cdef Here here = this_thread()
    return here.innermost[kind]


@cython.final
cdef class Outermost:
    """A context in which `in_transform` is false. A program is traced within it, so that the program does not depend on
    whether its first call was inside of a transform."""

    cdef int64_t outer          # number of the transform around it, which it hides, or 0
    cdef Here here
    cdef unsigned long thread   # in which it is entered, or 0

    def __enter__(self):
        global fg_transform
        self.here = this_thread()
        self.thread = PyThread_get_thread_ident()
        self.outer, fg_transform = fg_transform, 0
        self.here.hidden += self.outer != 0

    def __exit__(self, kind, error, trace):
        self.leave()

    cdef void leave(self) noexcept:
        global fg_transform
        if self.thread:
            self.thread = 0
            fg_transform = self.outer
            self.here.hidden -= self.outer != 0

    def __dealloc__(self):
        if self.thread and self.thread == PyThread_get_thread_ident():
            self.leave()


@cython.no_gc_clear
cdef class Nested:
    """A context that code within it can find by its kind (`innermost`); ``outer`` is the next one of its kind."""

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
    """A context: operations within are not recorded, in this thread. One object may be entered several times at once,
    also by several threads."""

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
