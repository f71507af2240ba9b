# Host calls: the core's operation `numpy`, a call of a function of ndarrays that has no kernel. Included by _core.pyx.

# The calls by number: a function of ndarrays with its keyword arguments. Equal calls have one number, so that the lists
# grow only with the number of different calls.
cdef list numpy_calls = []      # each with the function's name in bytes
cdef dict numpy_numbers = {}


cpdef int64_t numpy_number(function, dict options) except -1:
    """The number of this call: the first attribute of the operation `numpy`."""
    key = function, tuple(sorted(options.items()))
    number = numpy_numbers.get(key)
    if number is None:
        numpy_calls.append((function, options, function.__name__.encode()))
        number = numpy_numbers[key] = len(numpy_calls) - 1
    return number


def numpy_call(int64_t number):
    """What the operation `numpy` with this first attribute calls: a function, and its keyword arguments."""
    return numpy_calls[number][:2]


cdef const char *numpy_name(int64_t number) noexcept:
    return <const char *><bytes>(<tuple>numpy_calls[number])[2]


cdef int run_numpy(const fg_call *c, fg_array *y) except -1:
    """Fill y, the result of an operation `numpy`."""
    cdef int k
    function, options, *_ = numpy_calls[c.attr[0]]
    operands = [view_of(c.in_[k].array, False) for k in range(c.n_in)]
    result = view_of(y, True)
    if function is call_host_function:          # an error of the user's function keeps its traceback
        result[...] = call_host_function(*operands)
        return FG_OK
    try:
        if isinstance(function, np.ufunc):
            function(*operands, out=result, **options)
        else:
            result[...] = function(*operands, **options)
    except Exception as error:
        raise error.with_traceback(None)        # its frames would keep views of memory that is used again
    return FG_OK


cdef int run_refused(const fg_call *c, fg_array *y) except -1 with gil:
    """Fill y, the result of an operation on integers of which a kernel refuses an element, as in a division by 0, or of
    a cast to integers: NumPy warns or raises, by its settings."""
    cdef int k
    operands = [view_of(c.in_[k].array, False) for k in range(c.n_in)]
    result = view_of(y, True)
    try:
        if c.op == FG_OP_cast:
            result[...] = (taken_on if c.n_attr > 1 else converted)(operands[0], result.dtype)
        else:
            getattr(np, fg_ops[c.op].name.decode())(*operands, out=result)
    except Exception as error:
        raise error.with_traceback(None)        # as in run_numpy
    return FG_OK


fg_on_refused = run_refused
fg_on_numpy = run_numpy
fg_on_numpy_name = numpy_name


# ---- functions of the user's ----------------------------------------------------------------------------
@cython.final
cdef class HostFunction:
    """A function of ndarrays as an operand: a constant, a number without axes, whose memory belongs to this object. So
    whatever holds the operand (trace, program) keeps the function alive, and no list of functions grows."""

    cdef int64_t address        # of this object: what the operand's memory holds
    cdef object function
    cdef object __weakref__

    def __cinit__(self, function):
        self.function, self.address = function, <int64_t><size_t><void *>self


cdef Tensor host_operand(HostFunction f):
    cdef fg_shape *s = fg_shape_new(0, NULL)
    if s == NULL:
        fail(fg_failed())
    cdef fg_array *x = fg_array_foreign(s, FG_INT64, &f.address, <void *>f, True, False)
    fg_shape_unref(s)
    if x == NULL:
        fail(FG_NO_MEMORY)
    x.frozen = True             # so that a program does not copy it, which would let go of the function
    Py_INCREF(f)
    return wrap_array(x)


def call_host_function(handle, *operands):
    """The function whose HostFunction has this address, of copies of the operands, which are views of a replay's memory
    and may be kept by the function, or by the traceback of its error."""
    cdef int64_t address = handle
    cdef HostFunction f = <HostFunction><void *><size_t>address
    copies = [x.copy() for x in operands]
    for x in copies:
        x.flags.writeable = False
    return f.function(*copies)


def host_call(HostFunction f not None, list tensors, dtype, tuple shape):
    """A call of a function of ndarrays as an operation of the trace under way. Its only result has this dtype and shape
    and carries no gradient."""
    return apply_op(FG_OP_numpy, [host_operand(f), *[(<Tensor>x).detach() for x in tensors]],
                    (numpy_number(call_host_function, {}), dtype_number(dtype), *shape))


cdef inline bint is_traced(x):
    return fg_tracing != 0 and type(x) is Tensor and fg_traced((<Tensor>x).t.array) != 0


def by_numpy(function, *operands, **options):
    """function(*operands, **options), whose result carries no gradient; in a trace it is one instruction.

    The function is one of NumPy's, or any other of ndarrays whose result has a shape and dtype that follow from those
    of its operands; its options are hashable. Operands are tensors, ndarrays and numbers, at most 64. Returns a Tensor.
    """
    if not any([is_traced(x) for x in operands]):
        return tensor_of(np.asarray(function(*[plain(x) for x in operands], **options)))
    if not options and function in NATIVE:
        native = by_kernel(NATIVE[function], function, operands)
        if native is not None:
            return native
    tensors = [x if type(x) is Tensor else tensor_of(as_constant(x)) for x in operands]
    dtype, shape = result_kind(function, options, tensors)
    return apply_op(FG_OP_numpy, [x.detach() for x in tensors],
                    (numpy_number(function, options), dtype_number(dtype), *shape))


cdef extern from *:
    """
    static const struct { const char *name; int op; } fg_integer_rows[] = {
    #define INTEGER_UNARY(name, ...) {#name, FG_OP_##name},
    #define INTEGER_BINARY INTEGER_UNARY
    #define INTEGER_CHECKED INTEGER_UNARY
    #define COMPARISON INTEGER_UNARY
    #define BOOLEAN_UNARY(...)
    #define BOOLEAN_BINARY(...)
    #include "integers.def"
    #undef INTEGER_UNARY
    #undef INTEGER_BINARY
    #undef INTEGER_CHECKED
    #undef COMPARISON
    #undef BOOLEAN_UNARY
    #undef BOOLEAN_BINARY
    };
    enum { FG_N_INTEGERS = sizeof fg_integer_rows / sizeof *fg_integer_rows };
    """
    ctypedef struct fg_integer_row:
        const char *name
        int op
    const fg_integer_row fg_integer_rows[]
    int FG_N_INTEGERS


# The ufuncs that operations of the same name compute on integers and booleans.
cdef dict NATIVE = {getattr(np, fg_integer_rows[i].name.decode()): fg_integer_rows[i].op for i in range(FG_N_INTEGERS)}


cdef by_kernel(int op, function, operands):
    """A ufunc of integers and booleans by the operation of its name, on operands cast to the dtype that NumPy computes
    in; None if there is no kernel for that."""
    tensors = [x if type(x) is Tensor else tensor_of(in_dtype_of(operands, x)) for x in operands]
    try:
        dtypes = function.resolve_dtypes((*[x.dtype for x in tensors], None))
    except TypeError:                           # NumPy itself says why
        return None
    dtype = dtypes[0]
    if any([d != dtype for d in dtypes[:-1]]) or fg_integer_kernel_of(op, NUMBER_OF.get(dtype, FG_FLOAT64)) == NULL:
        return None
    return apply_op(op, [astype_if((<Tensor>x).detach(), dtype) for x in tensors], ())


cdef object in_dtype_of(operands, x):
    """A number or array as an ndarray: a Python integer in the dtype of the other operand, if it fits that."""
    if type(x) is int:
        for other in operands:
            if type(other) is Tensor and (<Tensor>other).t.array.dtype > FG_BOOL:
                limits = np.iinfo((<Tensor>other).dtype)
                if limits.min <= x <= limits.max:
                    return np.asarray(x, (<Tensor>other).dtype)
    return as_constant(x)


cdef tuple result_kind(function, dict options, list tensors):
    """The dtype and shape of function(*tensors, **options), some of which are abstract. The function is called on zeros
    in their place: on single ones if it works element by element, else on the whole shape, in the memory of one."""
    shapes = [x.shape for x in tensors]
    if function is np.matmul:                   # of matrices and stacks of them
        a, b = shapes
        shape = (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
        shapes = [(*(1,) * (len(a) - 1), a[-1]), (*(1,) * (len(b) - 2), b[-2], 1)]
    elif isinstance(function, np.ufunc) or function in ELEMENTWISE_CALLS:
        shape = np.broadcast_shapes(*shapes)
        shapes = [(1,) * len(s) for s in shapes]
    else:
        shape = None
    stand_ins = []
    for x, s in zip(tensors, shapes):
        if shape is None and not fg_traced((<Tensor>x).t.array):
            stand_ins.append(view_of((<Tensor>x).t.array, False))
        else:
            stand_ins.append(np.broadcast_to(np.zeros((), x.dtype), s))
    with np.errstate(all="ignore"):
        found = np.asarray(function(*stand_ins, **options))
    return found.dtype, found.shape if shape is None else shape


cdef object as_constant(x):
    """x as an ndarray; an integer too large for every dtype becomes inf or -inf, which compares as it does."""
    a = np.asarray(x)
    return a if a.dtype != object else np.asarray(np.inf if x > 0 else -np.inf)


def converted(a, dtype):
    """a as another dtype."""
    return a.astype(dtype)


def taken_on(a, dtype):
    """Integers as another integer dtype; OverflowError, as NumPy's for Python integers, where one does not fit."""
    limits = np.iinfo(dtype)
    for number in (a.min(initial=0), a.max(initial=0)):
        if not limits.min <= number <= limits.max:
            raise OverflowError(f"Python integer {number} out of bounds for {dtype}")
    return a.astype(dtype)


# Functions that by_numpy calls and that work element by element, beside NumPy's ufuncs.
cdef set ELEMENTWISE_CALLS = {np.round}


# ---- weak values: Python numbers among the inputs of a trace, the counter of a loop ---------------------------------
cdef inline bint weak_scalar(x):
    """Whether x is a Python number, which takes on the dtype of the other operand."""
    return type(x) is float or type(x) is int or type(x) is bool


cdef inline bint is_weak(x):
    """Whether x is a Python number, or a tensor that stands for one."""
    return (<Tensor>x).t.array.weak if type(x) is Tensor else weak_scalar(x)


cpdef object number_if_known(x):
    """x; if it is a tensor that stands for a Python number, and its value is known, that number."""
    cdef fg_array *array
    if type(x) is not Tensor:
        return x
    array = (<Tensor>x).t.array
    if not array.weak or fg_traced(array) or array.shape.size != 1 or (<Tensor>x).t.node != NULL:
        return x
    if array.dtype == FG_INT64:
        return (<int64_t *>array.data)[0]
    return (<Tensor>x).item()


cdef Tensor weak_integer(int64_t value):
    """A tensor that stands for a Python int."""
    cdef fg_array *x = integer_array(value)
    x.weak = True
    return wrap_array(x)


def stands_for_number(x):
    """Whether x is a Python number, or a tensor that stands for one."""
    return is_weak(x)


def made_weak(Tensor x not None):
    """x, which nobody else has yet, as a tensor that stands for a Python number."""
    return still_weak(x)


cdef Tensor strong(Tensor x):
    """x; if it stands for a Python number, a tensor of the same value that no longer takes on other dtypes."""
    return apply_one(FG_OP_reshape, x, x.t.array.shape.ndim, x.t.array.shape.dim) if x.t.array.weak else x


def as_number(Tensor x):
    """A tensor of one element in place of the float that ``x.item()`` returns outside of a trace: it stands for a
    Python number, in float64."""
    cdef Tensor y = apply_one(FG_OP_reshape, x, 0, NULL)
    if fg_trace_here() != FG_PROGRAM:
        return y
    if y.dtype != FLOAT64:
        y = astype(y, FLOAT64)
    return still_weak(y)


cdef object still_weak(result):
    """Mark the result of an operator on Python numbers only: it stands for a Python number, too."""
    if type(result) is Tensor:
        (<Tensor>result).t.array.weak = True
    return result


cdef Tensor weak_as(Tensor x, dtype):
    """A tensor that stands for a Python number, cast to the dtype that it takes on."""
    if dtype.kind in "iu" and x.t.array.dtype > FG_BOOL:
        return apply_op(FG_OP_cast, [x], (NUMBER_OF[dtype], 1))
    return astype(x, dtype)


cdef object beside(x, other):
    """x as an operand of a ufunc of integers and booleans beside ``other``: a weak x takes on the other's dtype, if
    that is not weak itself, or a uint64, as of 2**63: with an int64 NumPy would make that a float."""
    if not is_weak(x) or (is_weak(other) and (type(other) is not Tensor or (<Tensor>other).dtype != np.uint64)):
        return x
    dtype = other.dtype if other.dtype.kind in "iu" else DTYPES[FG_INT64]
    if type(x) is bool or (type(x) is Tensor and (<Tensor>x).t.array.dtype in (FG_BOOL, NUMBER_OF[dtype])):
        return x
    return weak_as(x, dtype) if type(x) is Tensor else np.asarray(x, dtype)
