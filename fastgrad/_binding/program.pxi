# Programs: tracing a function, and replaying what was traced (csrc/program.h). Included by _core.pyx.

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


cdef dict NOT_NATIVE = {"runs": "interpreter", "why": "native code was not asked for, or is not ready", "seconds": 0.0,
                        "text": None, "share": 0.0}


cdef bint has_equal_elements(const void *x, size_t n, size_t size) noexcept:
    """Whether n bytes are elements of this size with the same bits."""
    return n >= size and memcmp(x, <const char *>x + size, n - size) == 0


@cython.final
cdef class Program:
    """A traced function, optimised and ready to be replayed on inputs of the same shapes and dtypes."""

    cdef fg_program *program
    cdef int n_in, n_out
    cdef int n_args             # of the inputs, those that a call gives
    cdef readonly list live     # the ndarrays that are the next ones, which each replay reads anew; None: nothing does
    cdef int n_gradients        # further outputs: of a training step, the gradients by the parameters, its first inputs
    cdef bint numbers           # results without axes are returned as numbers instead of ndarrays:
    cdef list weak              # as Python's where this says that they stand for such, else as NumPy's
    cdef dict native            # which runs, native code or the interpreter, and why: part of its facts
    cdef long long runs_left    # until on_zero is called; 0: it is not
    cdef object on_zero
    cdef object __weakref__
    cdef bint releases_gil      # a replay takes long, and needs nothing that the GIL protects

    def __dealloc__(self):
        fg_program_free(self.program)

    def run(self, list inputs):
        """The results for these ndarrays, which have the shapes and dtypes that were traced, as a list of ndarrays."""
        return self.replay(self.with_inputs(inputs))

    def train(self, list inputs, UpdateRule rule not None, bint checked, rebuild):
        """A training step on these ndarrays, of which the first are the parameters (see `train` in training.pxi)."""
        return train(self, self.with_inputs(inputs), rule, checked, rebuild)

    def differentiate(self, list inputs, rebuild):
        """Loss and gradients at these ndarrays, of which the first are the parameters (see `differentiate` in
        training.pxi)."""
        return differentiate(self, self.with_inputs(inputs), rebuild)

    cdef fg_replay *with_inputs(self, list inputs) except NULL:
        cdef fg_replay *r
        cdef int i
        kept = []
        if len(inputs) != self.n_args:
            raise ValueError(f"program: expected {self.n_args} input{'s' * (self.n_args != 1)}, got {len(inputs)}")
        for i in range(self.n_args):
            a = inputs[i]
            if not fits(a, fg_program_input_dtype(self.program, i), fg_program_input_shape(self.program, i)):
                if i < self.n_gradients:
                    raise ValueError("training step: a parameter must be a writable contiguous array")
                a = np.array(a, DTYPES[fg_program_input_dtype(self.program, i)], order="C")
                if shape_tuple(fg_program_input_shape(self.program, i)) != a.shape:
                    raise ValueError(f"program: expected input {i} of shape "
                                     f"{shape_tuple(fg_program_input_shape(self.program, i))}, got {a.shape}")
            kept.append(a)
        r = self.take()
        for i in range(self.n_args):
            hold_input(r, i, kept[i])
        return r

    cdef fg_replay *take(self) except NULL:
        if self.runs_left:
            self.runs_left -= 1
            if self.runs_left == 0:
                self.reach_zero()
        cdef fg_replay *r = fg_replay_take(self.program)
        if r == NULL:
            fail(FG_NO_MEMORY)
        if self.live:
            self.hold_live(r)
        return r

    cdef int hold_live(self, fg_replay *r) except -1:
        cdef int i = self.n_args
        for a in self.live:
            if a is not None:
                if not fits(a, fg_program_input_dtype(self.program, i), fg_program_input_shape(self.program, i)):
                    self.give(r)
                    raise TraceError("compile: an array that the function reads from outside its arguments has another "
                                     "shape or dtype than it had when the function was traced: pass it as an argument")
                hold_input(r, i, a)
            i += 1
        return 0

    cdef void give(self, fg_replay *r) noexcept:
        """Release the inputs and give the replay back to the program."""
        cdef void **owner = fg_replay_owner(r)
        cdef void *held
        cdef int i
        for i in range(self.n_in):
            held, owner[i] = owner[i], NULL
            Py_XDECREF(<PyObject *>held)
        fg_replay_give(self.program, r)

    cdef list replay(self, fg_replay *r):
        """The results of a replay whose inputs are set, which is given back."""
        try:
            results = self.make_results(r)
            self.evaluate(r)
            self.read_kept(r, results)
            return results
        finally:
            self.give(r)

    cdef list replay_into(self, fg_replay *r, list into):
        """The same; the last results are written to the ndarrays ``into``."""
        cdef list results
        cdef int i, n_new = self.n_out - len(into)
        try:
            results = [None] * self.n_out
            for i in range(self.n_out):
                if i >= n_new >= 0 and not fg_program_keeps(self.program, i) and fits(
                        into[i - n_new], fg_program_output_dtype(self.program, i),
                        fg_program_output_shape(self.program, i)) and cnp.PyArray_ISWRITEABLE(into[i - n_new]):
                    results[i] = into[i - n_new]
                    fg_replay_address(r)[self.n_in + i] = cnp.PyArray_DATA(<cnp.ndarray>results[i])
                else:
                    self.make_result(r, i, results)
            self.evaluate(r)
            self.read_kept(r, results)
            for i in range(max(n_new, 0), self.n_out):
                if results[i] is not into[i - n_new]:       # without axes, or of another layout
                    into[i - n_new][...] = results[i]
            return results
        finally:
            self.give(r)

    cdef int evaluate(self, fg_replay *r) except -1:
        cdef int status
        if self.releases_gil:
            with nogil:
                status = fg_replay_run(self.program, r)
        else:
            status = fg_replay_run(self.program, r)
        return check(status)

    cdef list make_results(self, fg_replay *r):
        """New arrays for the results that are not kept in the arena; None for those that are."""
        cdef list results = [None] * self.n_out
        cdef int i
        for i in range(self.n_out):
            self.make_result(r, i, results)
        return results

    cdef inline int make_result(self, fg_replay *r, int i, list results) except -1:
        if not fg_program_keeps(self.program, i):
            a = new_ndarray(fg_program_output_shape(self.program, i), fg_program_output_dtype(self.program, i))
            fg_replay_address(r)[self.n_in + i] = cnp.PyArray_DATA(a)
            results[i] = a
        return 0

    cdef int read_kept(self, fg_replay *r, list results) except -1:
        """Fill in the kept results, those without axes."""
        cdef int i, dtype
        cdef void *at
        for i in range(self.n_out):
            if results[i] is None:
                at = fg_replay_address(r)[self.n_in + i]
                dtype = fg_program_output_dtype(self.program, i)
                if self.numbers and self.weak[i] and dtype == FG_FLOAT64:
                    results[i] = (<double *>at)[0]
                elif self.numbers:
                    results[i] = PyArray_Scalar(at, DTYPES[dtype], None)
                    if self.weak[i]:
                        results[i] = results[i].item()
                else:
                    results[i] = self.copy_kept(r, i)
        return 0

    cdef cnp.ndarray copy_kept(self, fg_replay *r, int i):
        cdef cnp.ndarray a = new_ndarray(fg_program_output_shape(self.program, i),
                                         fg_program_output_dtype(self.program, i))
        memcpy(cnp.PyArray_DATA(a), fg_replay_address(r)[self.n_in + i], cnp.PyArray_NBYTES(a))
        return a

    def same_as(self, Program other not None):
        """Whether both compute the same from the same constants, and read the same memory."""
        cdef Py_ssize_t i
        if len(self.live) != len(other.live):
            return False
        for i in range(len(self.live)):
            if self.live[i] is not other.live[i]:
                return False
        return fg_program_equal(self.program, other.program) != 0

    def release_memory(self):
        """Free the memory of the intermediates of past runs; the next run takes it again."""
        fg_replays_free(self.program)

    def random_states(self):
        """The states of the generators that a replay draws from, as ndarrays on their memory."""
        states, i = [], 0
        while fg_program_rng_state(self.program, i) != NULL:
            states.append(view_of(fg_program_rng_state(self.program, i), True))
            i += 1
        return states

    @property
    def facts(self):
        """How large it is: a dict of inputs, outputs, instructions, traced (instructions before optimisation),
        peak_bytes of intermediates, separate_bytes, what they would take without sharing, and constant_bytes, the
        copies of arrays from outside the function. A large array is not copied if it and every array whose memory it
        shares are read-only; they must remain so. Of a training step gradients: how that by each parameter is kept, in
        the order of the parameters: "row-sparse", "panels", or "dense" and why. And native: a dict of which runs,
        "native" code or the "interpreter", why, the seconds that it took to get the native code, the path of its text
        or None, and the share of the steps, those of loops' bodies among them, that is native."""
        facts = fg_program_describe(self.program)
        return {"inputs": facts.n_in, "outputs": facts.n_out, "instructions": facts.n_instructions,
                "traced": facts.n_traced, "peak_bytes": facts.arena_bytes,
                "separate_bytes": facts.separate_bytes, "constant_bytes": facts.constant_bytes,
                "gradients": [fg_program_gradient(self.program, i).decode() for i in range(self.n_gradients)],
                "native": dict(self.native or NOT_NATIVE)}

    @property
    def allocates(self):
        """Whether a run may take memory from the core's pool, so that it must hold the GIL."""
        return fg_program_describe(self.program).allocates != 0

    cdef list lines(self):
        """A line for each instruction."""
        cdef char text[1024]
        lines = []
        for i in range(fg_program_describe(self.program).n_instructions):
            cut = fg_program_line(self.program, i, text, sizeof(text)) >= <int>sizeof(text)
            lines.append(text.decode() + " ..." * cut)
        return lines

    def __str__(self):
        facts, lines, fused = self.facts, [], 0
        for i, line in enumerate(self.lines()):
            size = fg_program_group(self.program, i)
            if size > 1:
                lines.append(f"  fused {size}:")
                fused = size
            lines.append(("    " if fused else "  ") + line)
            fused -= fused > 0
            for body in self.bodies(i):
                lines += ["    " + inner for inner in str(body).replace("program:", "body:", 1).splitlines()]
        counts = [f"{facts[what]} {what[:-1]}{'s' * (facts[what] != 1)}"
                  for what in ("inputs", "outputs", "instructions")]
        head = (f"program: {', '.join(counts)} ({facts['traced']} traced), {facts['peak_bytes']} bytes of "
                f"intermediates ({facts['separate_bytes']} without sharing)")
        return "\n".join([head, *lines])

    def bodies(self, int i):
        """The Programs that instruction i runs: the body of a loop, both branches of a cond."""
        cdef Program body
        cdef int k = 0
        if not 0 <= i < fg_program_describe(self.program).n_instructions:
            raise IndexError(f"program: no instruction {i}")
        found = []
        while fg_program_body(self.program, i, k) != NULL:
            body = Program.__new__(Program)
            body.program = fg_program_ref(fg_program_body(self.program, i, k))
            facts = fg_program_describe(body.program)
            body.n_in, body.n_args, body.n_out, body.live = facts.n_in, facts.n_in, facts.n_out, []
            found.append(body)
            k += 1
        return found

    def buffers(self, size_t most):
        """What is known of each buffer, for the text of native code: None where there is none, else a tuple of dtype,
        shape, root, shift, output, kept, padded, blockwise, period, offset, and of a constant of at most so many bytes
        its elements, of a larger one whose elements are equal one of them, else b"" (see fg_buffer_facts in
        csrc/program.h)."""
        found = []
        for v in range(fg_program_buffer_count(self.program)):
            x = fg_program_buffer(self.program, v)
            if x.shape == NULL:
                found.append(None)
                continue
            n = <size_t>x.shape.size * fg_itemsize(x.dtype)
            size = fg_itemsize(x.dtype)
            if x.data == NULL:
                data = None
            elif n <= most:
                data = (<const char *>x.data)[:n]
            else:
                data = (<const char *>x.data)[:size] if has_equal_elements(x.data, n, size) else b""
            found.append((DTYPES[x.dtype], shape_tuple(x.shape), x.root, x.shift, x.output, x.kept != 0, x.padded != 0,
                          x.blockwise != 0, x.period, x.offset, data))
        return found

    def steps(self):
        """The steps, for the text of native code: tuples of operation, result, operands, attributes, how many steps
        its group has, and whether it runs after the replay (see fg_step_facts in csrc/program.h)."""
        found = []
        for i in range(fg_program_describe(self.program).n_instructions):
            s = fg_program_step(self.program, i)
            found.append((s.op, s.y, tuple([s.in_[k] for k in range(s.n_in)]),
                          tuple([s.attr[k] for k in range(s.n_attr)]), s.group, s.late != 0))
        return found

    def outs(self):
        """The buffer that each output is."""
        return [fg_program_out(self.program, k) for k in range(fg_program_describe(self.program).n_out)]

    def result_offset(self, int i, int k):
        """Of step i, a loop or branch: the byte offset of result k in its block (see fg_control_flow_offset)."""
        s = fg_program_step(self.program, i)
        return fg_control_flow_offset(s.op, s.attr, k)

    @property
    def work(self):
        """An estimate of the nanoseconds of a replay by the interpreter."""
        return fg_program_describe(self.program).work

    def set_native(self, address, str why, double seconds, text, double share=0):
        """From now on a run is a call of the function at this address (csrc/native.h), which stays loaded; None: of the
        interpreter. ``why``, what it took, the path of its text and the share of native steps are what `facts`
        tell."""
        self.native = {"runs": "interpreter" if address is None else "native", "why": why, "seconds": seconds,
                       "text": text, "share": share}
        fg_program_set_native(self.program, <fg_native_function *><size_t>(address or 0))

    def count_down(self, long long runs, on_zero):
        """Call ``on_zero(self)`` before the run that follows so many."""
        self.on_zero, self.runs_left = on_zero, runs

    cdef int reach_zero(self) except -1:
        on_zero, self.on_zero = self.on_zero, None
        if on_zero is not None:
            on_zero(self)
        return 0

    def c_source(self):
        """The program as C (see docs/native.md): a function of the replay's memory, in which a step that is not written
        out is run by the interpreter.

        >>> import fastgrad as fg, numpy as np
        >>> print(fg.compile(lambda x: 2 * fg.exp(x)).program(1.0).c_source())
        /* A program of fastgrad: ...
            const double v1 = exp_f64(in0);
            v3[0] = multiply_f64(2.0, v1);
            return 0;
        }
        """
        return native_programs.c_source(self)

    def dot(self):
        """The program as a graph in the DOT language, for Graphviz: ``dot -Tsvg``.

        A box is an instruction with the dtype and shape of its result, a frame a fused group or the body of a loop or
        branch, an ellipse an input, a constant or an output.

        >>> import fastgrad as fg, numpy as np
        >>> print(fg.compile(lambda x: fg.tanh(x) * 2).program(np.zeros(3)).dot())
        digraph program {
          node [shape=box]
          in0 [shape=ellipse label="in0\\nfloat64 (3,)"]
          i0 [label="tanh\\nfloat64 (3,)"]
          i1 [label="multiply\\nfloat64 (3,)"]
          const1 [shape=ellipse]
          out0 [shape=ellipse]
          in0 -> i0
          i0 -> i1
          const1 -> i1
          i1 -> out0
        }
        """
        return "\n".join(["digraph program {", "  node [shape=box]", *["  " + x for x in self.graph("")], "}"])

    cdef list graph(self, str prefix):
        """The lines of ``dot``, for names that begin so."""
        cdef char text[256]
        facts, makers, nodes, edges, constants, left = self.facts, {}, [], [], {}, 0
        for k in range(self.n_in):
            makers[k] = f"{prefix}in{k}"
            what = DTYPES[fg_program_input_dtype(self.program, k)], shape_tuple(fg_program_input_shape(self.program, k))
            nodes.append(f'{makers[k]} [shape=ellipse label="in{k}\\n{what[0]} {what[1]}"]')
        for i in range(facts["instructions"]):
            name = f"{prefix}i{i}"
            size = fg_program_group(self.program, i)
            if size > 1:
                nodes.append(f'subgraph cluster_{name} {{ label="fused {size}"')
                left = size
            fg_program_name(self.program, i, text, sizeof(text))
            what = (DTYPES[fg_program_result_dtype(self.program, i)],
                    shape_tuple(fg_program_result_shape(self.program, i)))
            nodes.append("  " * (left > 0) + f'{name} [label="{text.decode()}\\n{what[0]} {what[1]}"]')
            left -= 1
            if left == 0:
                nodes.append("}")
            for k, body in enumerate(self.bodies(i)):
                inner = f"{name}_{k}_"
                nodes.append(f'subgraph cluster_{inner} {{ label="body {k} of {name}"')
                nodes += ["  " + x for x in (<Program>body).graph(inner)] + ["}"]
                edges.append(f"{inner}out0 -> {name} [style=dashed]")
            for k in range(fg_program_operand_count(self.program, i)):
                v = fg_program_operand(self.program, i, k)
                if v >= 0:
                    source = makers.get(v) or constants.setdefault(v, f"{prefix}const{v}")
                    edges.append(f"{source} -> {name}")
            makers[fg_program_operand(self.program, i, -1)] = name
        nodes.extend(f"{name} [shape=ellipse]" for name in constants.values())
        for k in range(facts["outputs"]):
            nodes.append(f"{prefix}out{k} [shape=ellipse]")
            edges.append(f"{makers[fg_program_output(self.program, k)]} -> {prefix}out{k}")
        return nodes + edges


cdef extern from "numpy/arrayobject.h":
    object PyArray_Scalar(void *data, cnp.dtype, object base)
    int PyArray_CopyInto(cnp.ndarray to, cnp.ndarray source) except -1


cdef cnp.ndarray new_ndarray(fg_shape *s, int dtype):
    """An uninitialised ndarray: on NumPy's memory if it is small, which is quicker, else on the core's pool."""
    cdef cnp.npy_intp dim[FG_MAX_NDIM]
    cdef fg_array *x
    cdef int i
    if s.size * fg_itemsize(dtype) <= 16384:
        for i in range(s.ndim):
            dim[i] = s.dim[i]
        return cnp.PyArray_SimpleNew(s.ndim, dim, TYPE_NUMBER[dtype])
    x = fg_array_new(s, dtype)
    if x == NULL:
        fail(FG_NO_MEMORY)
    try:
        return view_of(x, True)
    finally:
        fg_array_unref(x)


cdef inline void hold_input(fg_replay *r, int i, cnp.ndarray a) noexcept:
    """Make a input i of a replay. The replay holds a reference, whatever another thread does to a's container."""
    Py_INCREF(a)
    fg_replay_owner(r)[i] = <void *>a
    fg_replay_address(r)[i] = cnp.PyArray_DATA(a)
