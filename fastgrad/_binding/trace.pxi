# Traces: what is computed is kept as instructions, of which a program is made (csrc/program.h). Included by _core.pyx.

class TraceError(TypeError):
    """A function that is being compiled asked for the value of something that is only known at each call."""


# What to do instead, by the reason for which a value was asked for.
cdef dict CURES = {
    "branch": "instead of a Python branch, loop or `and` use fastgrad.where or maximum",
    "number": "instead of float(x), int(x) or x.item() keep the tensor, on which fastgrad's and NumPy's functions work "
              "as on numbers; instead of a[i] = x in an ndarray write a = fastgrad.asarray(a).at[i].set(x); a choice "
              "between values is made by fastgrad.where",
    "array": "instead of an ndarray of it keep the tensor, on which NumPy's functions work, too, but for those that "
             "make ndarrays: use fastgrad.full and fastgrad.asarray for np.full and np.array, t * np.arange(n) with a "
             "constant n for np.arange, a = fastgrad.asarray(a).at[i].set(x) for a[i] = x in an ndarray, and "
             "fastgrad.sparse.matmul for a matrix of SciPy's; a choice between values is made by fastgrad.where",
    "index": "where it is an index of an ndarray or list a, write fastgrad.take(a, i, axis=0) or "
             "fastgrad.asarray(a)[i]; the bounds of a slice, a shape or the length of a loop decide how much there is "
             "to compute, which cannot change: fastgrad.where can leave elements out",
    "bound": "the bounds of fori_loop are Python ints, because they decide how much there is to compute; while_loop "
             "takes a number of steps that is not known",
    "mask": "a boolean index has a result whose shape depends on it: instead use fastgrad.where(mask, x, 0), which "
            "keeps the shape",
    "found": "the shape of the result depends on which elements there are: instead use fastgrad.where, and sums, "
             "fastgrad.count_nonzero or fastgrad.isin, which keep or drop whole axes",
    "count": "the length of the result depends on the largest of them: give it as length=",
    "update": "what is written to memory outside would be written once: return the new value, chosen by fastgrad.where",
}

CURES["integers"] = CURES["index"] + "; np.array of tensors is fastgrad.asarray"


cdef int refuse_traced(fg_array *x, str reason="array") except -1:
    """Raise TraceError, naming the line that asked."""
    check(fg_trace_check_leaked(x))
    if fg_trace_here() == FG_MAPPED:
        raise TraceError(
            f"vmap: the value of a tensor was asked for in a function that is mapped{frames.user_line()}. Its value "
            f"differs from element to element of the batch: {CURES[reason]}. Arguments that are the same for all "
            "elements have the axis None in in_axes"
        )
    raise TraceError(
        f"compile: the value of a tensor was asked for while the function is traced{frames.user_line()}. Its value "
        f"differs from call to call: {CURES[reason]}. An argument that is a constant is bound by "
        "functools.partial or, of fastgrad.compile, named in static_argnums"
    )


cdef int refuse_to_set_grad(Tensor leaf) except -1:
    if fg_tracing and fg_trace_outside_node(leaf.t.node):
        raise TraceError("compile: the .grad of a tensor made before the function was traced is set"
                         f"{frames.user_line()}, once instead of at each call: do that outside, or return gradients as "
                         "fastgrad.grad makes them")


def refuse_value(Tensor x, str reason):
    """Raise TraceError if x depends on an input of the trace under way, so that its value is not known."""
    if is_traced(x):
        refuse_traced(x.t.array, reason)


cdef class Trace(Nested):
    """A context: the operations of this thread within are traced, possibly inside of other traces. The trace ends with
    ``trace_end`` or ``instructions_end``; without these it is discarded when the context is left.

    ``of`` is "program"; or "mapped", a mapped function, or "body", the body of a loop or branch. The latter two end
    with ``instructions_end``, and keep in ``compounds`` the operations with several results, by number.
    """

    cdef fg_trace_kind what
    cdef uint32_t number        # of the trace
    cdef readonly dict compounds
    cdef dict live              # of a program: by its address, a tensor on each array that is a live input, and a hash
                                # of the elements that it had when the trace began; or None

    def __init__(self, str of="program"):
        self.what = FG_PROGRAM if of == "program" else FG_MAPPED if of == "mapped" else FG_BODY
        self.compounds = {}

    def __enter__(self):
        self.enter(TRACES)
        status = fg_trace_begin(self.what)
        if status != FG_OK:
            self.leave(TRACES)
            fail(status)
        self.number = fg_trace_number()
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    cdef void close(self) noexcept:
        cdef fg_array *x
        self.leave(TRACES)
        if self.number and fg_trace_number() == self.number:
            fg_trace_abort()
        self.number = 0
        if self.live is not None:
            for tensor, _ in self.live.values():
                x = (<Tensor>tensor).t.array
                x.live, x.externally_mutable = False, True
            self.live = None

    def __dealloc__(self):
        self.close()


def register_compound(number, compound):
    """Tell all traces under way in this thread which operation with several results has this number. All, because its
    instruction belongs to an outer trace where a function has closed over the operands."""
    cdef void *trace = innermost(TRACES)
    while trace != NULL:
        (<Trace>trace).compounds[number] = compound
        trace = (<Trace>trace).outer


cdef fg_array *live_array(cnp.ndarray a) except? NULL:
    """The array of the core for the memory of a, a new reference, if that is a live input of a trace of this thread.
    Where the function has written to it, as to a buffer of its own, what is there is a constant as any other."""
    cdef void *trace = innermost(TRACES)
    cdef fg_array *x
    while trace != NULL:
        if (<Trace>trace).live is not None:
            found = (<Trace>trace).live.get(<size_t>cnp.PyArray_DATA(a))
            if found is not None:
                x = (<Tensor>(<tuple>found)[0]).t.array
                if (cnp.PyArray_CheckExact(a) and number_of(a) == x.dtype and cnp.PyArray_ISCARRAY_RO(a)
                        and has_shape(a, x.shape) and <uint64_t>(<tuple>found)[1] == hash_of_elements(a)):
                    return fg_array_ref(x)
        trace = (<Trace>trace).outer
    return NULL


cdef enum:
    HASHED_WHOLE = 1 << 22      # bytes of an array that is hashed whole; of a larger one
    STEP = 4096                 # 64 bytes of each so many, which a write of that length or more does not miss


cdef uint64_t hash_of_elements(cnp.ndarray a) noexcept:
    """Of an array of at least 64 bytes."""
    cdef Py_ssize_t n = cnp.PyArray_NBYTES(a), at
    cdef const char *data = <const char *>cnp.PyArray_DATA(a)
    cdef uint64_t h = fg_hash(64, data + n - 64)
    if n <= HASHED_WHOLE:
        return hash_of_both(h, fg_hash(n - n % 32, data))
    for at in range(0, n - 64, STEP):
        h = hash_of_both(h, fg_hash(64, data + at))
    return h


cdef bint has_shape(cnp.ndarray a, fg_shape *s):
    cdef int i
    if cnp.PyArray_NDIM(a) != s.ndim:
        return False
    for i in range(s.ndim):
        if cnp.PyArray_DIM(a, i) != s.dim[i]:
            return False
    return True


def is_live(Tensor x not None):
    """Whether x is, as a whole, memory that replays of the program being traced read anew."""
    return x.t.array.live != 0


def tracing():
    """Whether a function is being traced in this thread."""
    return fg_trace_here() != FG_NOTHING


def abstract_like(x, bint row=False):
    """An abstract tensor with the dtype and shape of x, a Tensor or ndarray, or if ``row`` with those of a row of x. A
    function is traced on such tensors."""
    cdef cnp.ndarray a
    cdef fg_shape *whole
    cdef fg_shape *s
    cdef fg_array *y
    cdef int dtype
    if type(x) is Tensor:
        whole = fg_shape_ref((<Tensor>x).t.array.shape)
        dtype = (<Tensor>x).t.array.dtype
    else:
        a = as_ndarray(x, "compile")
        whole = shape_of(a)
        dtype = number_of(a)
    s = fg_shape_new(whole.ndim - 1, whole.dim + 1) if row else fg_shape_ref(whole)
    fg_shape_unref(whole)
    y = fg_array_abstract(s, dtype) if s != NULL else NULL
    fg_shape_unref(s)
    if y == NULL:
        fail(fg_failed())
    return wrap_array(y)


def traced(Tensor x):
    """Whether x depends on an input of a trace under way; RuntimeError if it belongs to a trace that has ended."""
    check(fg_trace_check_leaked(x.t.array))
    return fg_traced(x.t.array) != 0


def trace_count(str operation):
    """How many instructions of this name the traces of this thread have so far."""
    return fg_trace_count(OP_NUMBERS[operation])


def trace_input(cnp.ndarray a, bint weak=False):
    """The next input of the program being traced, with a's dtype and shape; weak: it stands for a Python number."""
    cdef Tensor r = abstract_like(a)
    r.t.array.weak = weak
    check(fg_trace_input(r.t.array))
    return r


def trace_live(Trace trace not None, list arrays not None):
    """After all other inputs, make the memory of these float ndarrays inputs of the program being traced, of which each
    replay reads the elements that they have then. Returns those of the arrays that are, in the order of the inputs."""
    cdef list taken = []
    cdef Tensor x
    trace.live = {}
    for a in arrays:
        address = <size_t>cnp.PyArray_DATA(<cnp.ndarray>a)
        if address not in trace.live:
            x = wrap_array(array_from(a, share=True))
            trace.live[address] = x, hash_of_elements(a)
            check(fg_trace_live_input(x.t.array))
            taken.append(a)
    return taken


def trace_end(list results, bint numbers=True, int n_gradients=0, list live=None):
    """End the trace: a Program that computes these tensors, with what ``trace_live`` returned.

    Results without axes come as numbers, or with ``numbers=False`` as ndarrays. The last ``n_gradients``
    results stay in the program for its optimizer.
    """
    cdef Program made = Program.__new__(Program)
    cdef int n = len(results), i
    cdef fg_array **out = <fg_array **>PyMem_Malloc((n + 1) * sizeof(fg_array *))
    if out == NULL:
        raise MemoryError("compile: no memory")
    for i in range(n):
        out[i] = (<Tensor>results[i]).t.array
    status = fg_trace_end(n, out, n_gradients, &made.program)
    PyMem_Free(out)
    check(status)
    made.n_in = fg_program_describe(made.program).n_in
    made.live = [] if live is None else live
    made.n_args = made.n_in - len(made.live)
    for i in range(len(made.live)):
        if not fg_program_reads(made.program, made.n_args + i):
            made.live[i] = None
    while made.live and made.live[-1] is None:
        made.live.pop()
    check(fg_program_compile(made.program))
    facts = fg_program_describe(made.program)
    made.n_out, made.n_gradients = n - n_gradients, n_gradients
    made.numbers = numbers
    made.weak = [(<Tensor>x).t.array.weak for x in results]
    made.releases_gil = facts.work > 50_000 and not facts.allocates
    return made
