# Recordings whose bare notes are carried out in another way (csrc/record.c). Included by _core.pyx.

def op_names():
    """Names of all operations by their numbers, those of csrc/ops.def first. What follows are the kernels of their
    derivatives: number len(names) + 2 * op + i is g * d op / d input i of an elementwise op."""
    return [fg_ops[i].name.decode() for i in range(FG_N_OPS)]


def apply_op(int op, list operands, tuple attr=()):
    """Any operation by its number, on tensors (None: a missing operand of a derivative's kernel) that are as its C
    rules expect them: nothing is promoted or checked but shapes."""
    cdef fg_tensor y
    cdef int n = len(operands), k, n_held = 0
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
            n_held = k + 1
        check(fg_apply(op, n, given, n_attr, numbers, &y))
        made = wrap(y)
        if y.node == NULL and y.array.dtype <= FG_FLOAT64 and fg_grad_enabled:
            for k in range(n):
                if given[k].node != NULL:
                    raise NotImplementedError("the gradient of a gradient through a kernel that has no rule for it")
        return made
    finally:
        for k in range(n_held):                 # NumPy lets other threads run, which may change the operands in place
            fg_tensor_unref(given[k])
        PyMem_Free(given)
        PyMem_Free(numbers)


def borrowed(cnp.ndarray a, bint unstable):
    """A constant on a's memory, which others may write if it is unstable."""
    cdef Tensor r = wrap_array(array_from(as_ndarray(a, "vmap"), cnp.PyArray_NBYTES(a) >= COPY_BELOW, unstable))
    r.t.array.readonly = True
    return r


def transforming():
    """Whether this thread is inside of a transform, such as grad, or a recording."""
    return fg_transforms_running != 0 or fg_trace_here() != 0


def notes_input(Tensor x):
    """Make x, which nobody else knows, the next input of the recording. It may be tracked by outer transforms."""
    check(fg_trace_input(x.t.array))


def notes_outputs(list values):
    """What these are to the recording under way: their numbers, -1 for what depends on no input or is no tensor, and
    whether transforms outside of the recording track them."""
    cdef list numbers = [], tracked = []
    cdef Tensor t
    for x in values:
        t = x if type(x) is Tensor else None
        numbers.append(-1 if t is None else fg_trace_value(t.t.array))
        tracked.append(t is not None and fg_trace_tracked(t.t) != 0)
    return numbers, tracked


cdef Tensor held(fg_tensor t):
    """A tensor of its own for t: of a leaf, which has but one, the same elements by an operation that moves nothing."""
    cdef fg_tensor y
    if t.node != NULL and t.node.op == FG_OP_leaf:
        check(fg_apply(FG_OP_reshape, 1, &t, t.array.shape.ndim, t.array.shape.dim, &y))
        return wrap(y)
    fg_array_ref(t.array)
    if t.node != NULL:
        fg_node_ref(t.node)
    return wrap(t)


def notes_end():
    """End the recording: (notes, constants). A note is (op, result, operands, tracked, attr, last): numbers of values,
    -1 for a missing operand; for each operand whether outer transforms track it there; and what ``notes_for`` tells.
    Inputs have the numbers from 0 on. Constants is a dict of the values that depend on no input, as Tensors with the
    nodes that outer transforms know."""
    cdef fg_program *p = NULL
    cdef fg_note note
    cdef fg_tensor t
    cdef int i, k
    check(fg_trace_notes(&p))
    try:
        size = fg_notes_count(p)
        notes, constants = [], {}
        for i in range(size.n_notes):
            note = fg_notes_get(p, i)
            notes.append((note.op, note.y, [note.in_[k] for k in range(note.n_in)],
                          [note.tracked[k] != 0 for k in range(note.n_in)],
                          tuple([note.attr[k] for k in range(note.n_attr)]), ()))
        for i in range(size.n_values):
            t = fg_notes_constant(p, i)
            if t.array != NULL:
                constants[i] = held(t)
        return notes, constants
    finally:
        fg_program_free(p)


def notes_carry_out(list notes, dict values, set moving, set apart, special):
    """Carry notes out on ``values``, by number, to which those of the notes are added, and which are returned. A note
    whose value is known is left out; what nothing later reads is dropped. Operations of ``apart``, and what depends on
    values that are ``moving``, to which it is added, are carried out by ``special(op, result, operands, which of them
    move, attr)``. Operands that were not tracked are constants."""
    cdef list operands, tracked, xs, moves
    cdef tuple attr
    cdef int op, k
    cdef bint tracks = False, moved
    for x in values.values():
        tracks = tracks or x.requires_grad
    values[-1] = None                           # a missing operand
    for op, y, operands, tracked, attr, last in notes:
        if y in values:
            continue
        xs, moves, moved = [], [], False
        for k in range(len(operands)):
            x = values[operands[k]]
            if tracks and not tracked[k] and x is not None and type(x) is not dict and x.requires_grad:
                x = x.detach()
            xs.append(x)
            moves.append(operands[k] in moving)
            moved = moved or moves[k]
        values[y] = special(op, y, xs, moves, attr) if moved or op in apart else apply_op(op, xs, attr)
        if moved:
            moving.add(y)
        for v in last:
            del values[v]
    return values


def notes_for(wanted, list notes):
    """Those of the notes that these values need, each with those of its operands that nothing later reads."""
    cdef set needed = {-1, *wanted}
    cdef list operands, last, kept = []
    for op, y, operands, tracked, attr, _ in reversed(notes):
        if y in needed:
            last = []
            for v in operands:
                if v not in needed:
                    needed.add(v)
                    last.append(v)
            kept.append((op, y, operands, tracked, attr, last))
    kept.reverse()
    return kept
