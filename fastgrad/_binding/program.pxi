# Programs: what was traced, ready to be replayed (csrc/program.h). Included by _core.pyx.

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

    def __str__(self):
        return text_of_program(self)

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
        lines = ["node [shape=box]", *graph_of_program(self, "")]
        return "\n".join(["digraph program {", *["  " + line for line in lines], "}"])


cdef extern from "numpy/arrayobject.h":
    object PyArray_Scalar(void *, cnp.dtype, object)
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
