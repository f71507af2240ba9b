# Recording and replaying programs (csrc/program.h). Included by _core.pyx.

class TraceError(TypeError):
    """A function that is being compiled asked for the value of something that is only known at each call."""


cdef str user_line():
    """The line of the user's code that called fastgrad, for a message."""
    frame = sys._getframe()
    package = os.path.dirname(__file__)
    while frame is not None and os.path.dirname(frame.f_code.co_filename) == package:
        frame = frame.f_back
    return f" ({frame.f_code.co_filename}, line {frame.f_lineno})" if frame is not None else ""


cdef int refuse_traced() except -1:
    """Raise TraceError, naming the line that asked."""
    if fg_trace_here() == 2:
        raise TraceError(
            f"vmap: the value of a tensor was asked for in a function that is mapped{user_line()}. Its value differs from "
            "element to element of the batch: instead of a Python branch or a boolean index use fastgrad.where or maximum, "
            "instead of float(x) keep the tensor, and give arguments that are the same for all elements the axis None; "
            "arithmetic on integers, argmax, any and all ask for values, too"
        )
    raise TraceError(
        f"compile: the value of a tensor was asked for while the function is recorded{user_line()}. Its value differs from "
        "call to call: instead of a Python branch use fastgrad.where or maximum, instead of float(x) keep the tensor, "
        "and mark arguments that are constants by static_argnums"
    )


def trace_begin():
    """Start recording in this thread."""
    check(fg_trace_begin(False))


def trace_abort():
    """Stop recording and forget what was recorded."""
    fg_trace_abort()


def tracing():
    """Whether this thread is recording."""
    return fg_trace_here() != 0


def traced(Tensor x):
    """Whether x depends on an input of the recording under way."""
    return fg_traced(x.t.array) != 0


def trace_input(cnp.ndarray a):
    """The next input of the program being recorded, with a's present elements."""
    cdef Tensor r = wrap_array(array_from(as_ndarray(a, "compile"), share=True, unstable=False))
    r.t.array.readonly = True
    check(fg_trace_input(r.t.array))
    return r


def trace_end(list results, bint numbers=True):
    """End the recording: a Program that computes these tensors; those without axes as NumPy numbers, or as ndarrays."""
    cdef Program made = Program.__new__(Program)
    cdef int n = len(results), i
    cdef fg_array **out = <fg_array **>PyMem_Malloc((n + 1) * sizeof(fg_array *))
    if out == NULL:
        fg_trace_abort()
        raise MemoryError("compile: no memory")
    for i in range(n):
        out[i] = (<Tensor>results[i]).t.array
    status = fg_trace_end(n, out, &made.program)
    PyMem_Free(out)
    check(status)
    made.n_in = fg_program_describe(made.program).n_in
    made.n_out = n
    made.numbers = numbers
    made.data = <void **>PyMem_Malloc((made.n_in + 1) * sizeof(void *))
    if made.data == NULL:
        raise MemoryError("compile: no memory")
    return made


@cython.final
cdef class Program:
    """A recorded function, optimised and ready to be replayed on inputs of the same shapes and dtypes."""

    cdef fg_program *program
    cdef void **data
    cdef int n_in, n_out
    cdef bint numbers           # results without axes come as NumPy numbers instead of ndarrays

    def __dealloc__(self):
        fg_program_free(self.program)
        PyMem_Free(self.data)

    cdef int whole(self) except -1:
        if self.data == NULL:
            raise TypeError("a Program is made by fastgrad.compile(f).program(*args)")
        return 0

    def run(self, list inputs):
        """The results for these ndarrays, each of the recorded shape and dtype, as a list of ndarrays."""
        self.whole()
        cdef int i
        kept = []
        if len(inputs) != self.n_in:
            raise ValueError(f"program: expected {self.n_in} inputs, got {len(inputs)}")
        for i in range(self.n_in):
            a = inputs[i]
            if not fits(a, fg_program_input_dtype(self.program, i), fg_program_input_shape(self.program, i)):
                a = np.array(a, DTYPES[fg_program_input_dtype(self.program, i)], order="C")
                if shape_tuple(fg_program_input_shape(self.program, i)) != a.shape:
                    raise ValueError(f"program: expected input {i} of shape "
                                     f"{shape_tuple(fg_program_input_shape(self.program, i))}, got {a.shape}")
            kept.append(a)
        for i in range(self.n_in):              # only now, and without Python code: another thread may run it too
            self.data[i] = cnp.PyArray_DATA(kept[i])
        return self.replay()

    cdef list replay(self):
        # To make an ndarray may run Python code (a finalizer), which may call this program again: the results are
        # held here, not in the program.
        cdef fg_array *few[16]
        cdef fg_array **out = few
        cdef int i, made, status
        if self.n_out > 16:
            out = <fg_array **>PyMem_Malloc(self.n_out * sizeof(fg_array *))
            if out == NULL:
                raise MemoryError("compile: no memory")
        status = fg_program_run(self.program, self.data, out)
        made = self.n_out if status == FG_OK else 0
        try:
            check(status)
            results = []
            for i in range(made):
                results.append(result_of(out[i], self.numbers))
            return results
        finally:
            for i in range(made):
                fg_array_unref(out[i])
            if out != few:
                PyMem_Free(out)

    def same_as(self, Program other not None):
        """Whether both compute the same from the same constants."""
        self.whole()
        other.whole()
        return fg_program_equal(self.program, other.program) != 0

    def random_states(self):
        """The states of the generators that a replay draws from, as ndarrays on their memory."""
        self.whole()
        states, i = [], 0
        while fg_program_live(self.program, i) != NULL:
            states.append(view_of(fg_program_live(self.program, i), True))
            i += 1
        return states

    @property
    def facts(self):
        """How large it is: a dict of inputs, outputs, instructions, recorded (instructions before optimisation),
        peak_bytes of intermediates, and separate_bytes, what they would take without sharing."""
        self.whole()
        facts = fg_program_describe(self.program)
        return {"inputs": facts.n_in, "outputs": facts.n_out, "instructions": facts.n_instructions,
                "recorded": facts.n_recorded, "peak_bytes": facts.arena_bytes,
                "separate_bytes": facts.separate_bytes}

    def __str__(self):
        cdef char text[1024]
        facts, lines, fused = self.facts, [], 0
        for i in range(facts["instructions"]):
            cut = fg_program_line(self.program, i, text, sizeof(text)) >= <int>sizeof(text)
            size = fg_program_group(self.program, i)
            if size > 1:
                lines.append(f"  fused {size}:")
                fused = size
            lines.append(("    " if fused else "  ") + text.decode() + " ..." * cut)
            fused -= fused > 0
        head = (f"program: {facts['inputs']} inputs, {facts['outputs']} outputs, {facts['instructions']} instructions "
                f"({facts['recorded']} recorded), {facts['peak_bytes']} bytes of intermediates "
                f"({facts['separate_bytes']} without sharing)")
        return "\n".join([head, *lines])


cdef inline object result_of(fg_array *x, bint number):
    """A new array of the core as an ndarray, or if asked for as a NumPy number."""
    cdef object r = view_of(x, True)
    return r[()] if number and x.shape.ndim == 0 else r


cdef inline bint fits(object x, int dtype, fg_shape *s):
    """Is x an ndarray of just this dtype and shape, laid out as the core needs it?"""
    cdef cnp.ndarray a
    cdef int i
    if not cnp.PyArray_CheckExact(x):
        return False
    a = x
    if number_of(a) != dtype or cnp.PyArray_NDIM(a) != s.ndim or not (
            cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_ISALIGNED(a) and cnp.PyArray_ISNOTSWAPPED(a)):
        return False
    for i in range(s.ndim):
        if cnp.PyArray_DIM(a, i) != s.dim[i]:
            return False
    return True


@cython.final
cdef class Guard:
    """Decides in a few nanoseconds an array whether arguments are those a program was recorded for.

    Made from the arguments of the recording call; knows dicts, lists, tuples, NamedTuples and None. With any other
    container there is no guard: its own code would have to run, and every call takes the slow way through ``tree``.
    """

    cdef int kind               # 0 array, 2 dict, 3 list, 4 tuple, 5 None
    cdef int number             # of an array: which input
    cdef object value           # keys of a dict, type of a tuple
    cdef list parts

    cdef bint match(self, object x, Program program):
        cdef int i
        cdef Guard part
        if self.kind == 0:
            if not fits(x, fg_program_input_dtype(program.program, self.number),
                        fg_program_input_shape(program.program, self.number)):
                return False
            program.data[self.number] = cnp.PyArray_DATA(x)
            return True
        if self.kind == 2:
            if type(x) is not dict or len(<dict>x) != len(self.parts):
                return False
            for i in range(len(self.parts)):
                found = (<dict>x).get((<tuple>self.value)[i], self)
                if found is self or not (<Guard>self.parts[i]).match(found, program):
                    return False
            return True
        if self.kind == 3:
            if type(x) is not list or len(<list>x) != len(self.parts):
                return False
            for i in range(len(self.parts)):
                if not (<Guard>self.parts[i]).match((<list>x)[i], program):
                    return False
            return True
        if self.kind == 4:
            if type(x) is not self.value or len(<tuple>x) != len(self.parts):
                return False
            for i in range(len(self.parts)):
                if not (<Guard>self.parts[i]).match((<tuple>x)[i], program):
                    return False
            return True
        return x is None


def make_guard(args, numbers, named_tuple):
    """A Guard for a tuple of arguments; ``numbers`` is an iterator over the inputs' numbers in order of leaves (dicts
    by sorted keys), ``named_tuple`` tells types that are split as tuples. None where only the slow way can tell."""
    cdef Guard g = Guard.__new__(Guard)
    if isinstance(args, np.ndarray):
        g.kind, g.number = 0, next(numbers)
        return g
    if type(args) is dict:
        if not all([type(key) is str or type(key) is int for key in args]):
            return None                         # comparing other keys may run Python code in the middle of a match
        try:
            keys = tuple(sorted(args))
        except TypeError:
            return None
        g.kind, g.value, children = 2, keys, [args[k] for k in keys]
    elif type(args) is list:
        g.kind, children = 3, args
    elif type(args) is tuple or named_tuple(type(args)):
        g.kind, g.value, children = 4, type(args), args
    elif args is None:
        g.kind, children = 5, ()
    else:
        return None
    g.parts = [make_guard(child, numbers, named_tuple) for child in children]
    return None if None in g.parts else g


def replay_if(Guard guard, Program program, tuple args):
    """The program's results if the guard knows the arguments, else None."""
    return program.replay() if guard.match(args, program) else None
