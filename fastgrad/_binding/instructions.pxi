# Traces as lists of instructions, and their evaluation (csrc/record/trace.c). Included by _core.pyx.

def apply_op(int op, list operands, tuple attr=()):
    """Any operation by its number. Operands are tensors as the operation's C rules expect them (None: a missing operand
    of a derivative's kernel): only shapes are checked, nothing is promoted."""
    cdef fg_tensor y
    cdef int n = len(operands), k, held = 0
    cdef int n_attr = len(attr)
    cdef fg_tensor *given = <fg_tensor *>PyMem_Malloc((n + 1) * sizeof(fg_tensor))
    cdef int64_t *numbers = <int64_t *>PyMem_Malloc((n_attr + 1) * sizeof(int64_t))
    try:
        if given == NULL or numbers == NULL:
            raise MemoryError("no memory")
        for k in range(n_attr):
            numbers[k] = attr[k]
        for k in range(n):
            given[k] = fg_tensor(NULL, NULL) if operands[k] is None else fg_tensor_ref((<Tensor>operands[k]).t)
            held = k + 1
        check(fg_apply(op, n, given, n_attr, numbers, &y))
        made = wrap(y)
        if y.node == NULL and y.array.dtype <= FG_FLOAT64 and fg_grad_enabled:
            for k in range(n):
                if given[k].node != NULL:
                    raise NotImplementedError("the gradient of a gradient through a kernel that has no rule for it")
        return made
    finally:
        for k in range(held):                   # held, as NumPy lets other threads run, which may change operands
            fg_tensor_unref(given[k])
        PyMem_Free(given)
        PyMem_Free(numbers)


def borrowed(cnp.ndarray a, bint externally_mutable):
    """A constant tensor with a's elements, on a's memory if that is large; ``externally_mutable``: others may write to
    it."""
    cdef bint share = cnp.PyArray_NBYTES(a) >= COPY_BELOW
    cdef Tensor r = wrap_array(array_from(as_ndarray(a, "vmap"), share, externally_mutable))
    r.t.array.readonly = True
    return r


def transforming():
    """Whether this thread is inside of a transform such as grad, or traces a function."""
    return fg_transforming() != 0


def instructions_input(Tensor x):
    """Make x, a tensor from ``abstract_like`` that nobody else uses, the next input of the trace. Outer transforms may
    track it."""
    check(fg_trace_input(x.t.array))


def element(Tensor batch not None):
    """An abstract tensor like a row of a batch. If an outer transform tracks the batch it tracks the row, too: the row
    has the node of a sum over the batch."""
    cdef Tensor y = abstract_like(batch, True)
    cdef int64_t first_axis[2]
    cdef fg_call call
    first_axis[0], first_axis[1] = 1, 0
    call.op, call.n_in, call.in_, call.n_attr, call.attr = FG_OP_sum, 1, &batch.t, 2, first_axis
    check(fg_tape_record(&call, &y.t))
    return y


def instructions_outputs(list values):
    """The numbers of these values in the trace under way, -1 for what depends on no input or is no tensor; and whether
    transforms outside of the trace track them."""
    cdef list numbers = [], tracked = []
    cdef Tensor t
    for x in values:
        t = x if type(x) is Tensor else None
        numbers.append(-1 if t is None else fg_trace_value(t.t.array))
        tracked.append(t is not None and fg_trace_tracked(t.t) != 0)
    return numbers, tracked


cdef Tensor own_tensor(fg_tensor t):
    """A new Tensor for t. If t is a leaf it is a reshape to the same shape, because a leaf belongs to one Tensor
    only."""
    cdef fg_tensor y
    if t.node != NULL and t.node.op == FG_OP_leaf:
        check(fg_apply(FG_OP_reshape, 1, &t, t.array.shape.ndim, t.array.shape.dim, &y))
        return wrap(y)
    fg_array_ref(t.array)
    if t.node != NULL:
        fg_node_ref(t.node)
    return wrap(t)


def instructions_end():
    """End the trace: (instructions, constants).

    An instruction is a tuple (op, result, operands, tracked, attr, last). Result and operands are numbers of values, -1
    for a missing operand; inputs are numbered from 0. tracked tells for each operand whether outer transforms track it;
    last is filled in by ``instructions_for``. constants maps the numbers of values that depend on no input to Tensors
    with their nodes.
    """
    cdef fg_program *p = NULL
    check(fg_trace_end_instructions(&p))
    try:
        return instructions_in(p)
    finally:
        fg_program_free(p)


cdef tuple instructions_in(fg_program *p):
    cdef fg_instruction instruction
    cdef fg_tensor t
    cdef int i, k
    size = fg_instructions_count(p)
    instructions, constants = [], {}
    for i in range(size.n_instructions):
        instruction = fg_instructions_get(p, i)
        instructions.append((instruction.op, instruction.y, [instruction.in_[k] for k in range(instruction.n_in)],
                             [instruction.tracked[k] != 0 for k in range(instruction.n_in)],
                             tuple([instruction.attr[k] for k in range(instruction.n_attr)]), ()))
    for i in range(size.n_values):
        t = fg_instructions_constant(p, i)
        if t.array != NULL:
            constants[i] = own_tensor(t)
    return instructions, constants


def instructions_before(Tensor x not None):
    """What the innermost trace on whose inputs x depends contains so far: (its Trace, the number of x in it,
    instructions, constants), the latter two as ``instructions_end`` returns them."""
    cdef fg_program *p = NULL
    cdef int v = fg_trace_find(x.t.array, &p)
    cdef void *trace = innermost(TRACES)
    if p == NULL:
        refuse_traced(x.t.array)
    while (<Trace>trace).number != fg_trace_number_of(p):
        trace = (<Trace>trace).outer
    return <Trace>trace, v, *instructions_in(p)


@cython.final
cdef class DeferZeros:
    """A context: if ``on``, the innermost trace takes operations that put few constant elements among many zeros, so
    that the program does not hold the zeros."""

    cdef bint on, before

    def __cinit__(self, bint on):
        self.on = on

    def __enter__(self):
        self.before = fg_trace_defer_zeros(self.on)

    def __exit__(self, *error):
        fg_trace_defer_zeros(self.before)


def instructions_evaluate(list instructions, dict values, set batched, set special_ops, special):
    """Evaluate instructions on ``values``, a dict by number, and return it with their results added.

    An instruction whose result is in ``values`` already is skipped; a value is dropped after its last use. Operations
    in ``special_ops``, and those that read a value in the set ``batched``, are done by ``special(op, result, operands,
    which of them are batched, attr)``; the results of the latter are added to ``batched``. Operands that were not
    tracked while the function was traced are detached.
    """
    cdef list operands, tracked, xs, flags
    cdef tuple attr
    cdef int op, k
    cdef bint tracks = False, any_batched
    global fg_in_pass
    cdef int within = fg_in_pass
    for x in values.values():
        tracks = tracks or x.requires_grad
    values[-1] = None                           # a missing operand
    fg_in_pass = True
    try:
        for op, y, operands, tracked, attr, last in instructions:
            if y in values:
                continue
            xs, flags, any_batched = [], [], False
            for k in range(len(operands)):
                x = values[operands[k]]
                if tracks and not tracked[k] and x is not None and type(x) is not dict and x.requires_grad:
                    x = x.detach()
                xs.append(x)
                flags.append(operands[k] in batched)
                any_batched = any_batched or flags[k]
            values[y] = special(op, y, xs, flags, attr) if any_batched or op in special_ops else apply_op(op, xs, attr)
            if any_batched:
                batched.add(y)
            for v in last:
                del values[v]
    finally:
        fg_in_pass = within
    return values


def instructions_for(wanted, list instructions):
    """The instructions that the wanted values need, each with the operands that it is the last to read."""
    cdef set needed = {-1, *wanted}
    cdef list operands, last, kept = []
    for op, y, operands, tracked, attr, _ in reversed(instructions):
        if y in needed:
            last = []
            for v in operands:
                if v not in needed:
                    needed.add(v)
                    last.append(v)
            kept.append((op, y, operands, tracked, attr, last))
    kept.reverse()
    return kept
