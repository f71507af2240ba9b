# Elementwise operations: operators, comparisons, and the functions of csrc/ops.def. Included by _core.pyx.

# ---- operators and promotion ----------------------------------------------------------------------------
# complex among them, for as_ndarray to refuse with the reason.
cdef tuple OPERANDS = (Tensor, int, float, complex, np.ndarray, np.generic, list, tuple)


cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1


cdef inline bint is_operand(x):
    return type(x) is Tensor or isinstance(x, OPERANDS)


cdef inline fg_array *scalar_of(int dtype, double value) except NULL:
    cdef fg_array *scalar = fg_array_scalar(dtype, value)
    if scalar == NULL:
        fail(FG_NO_MEMORY)
    return scalar


# NumPy 2.0 rounds integers to floats, later versions to themselves.
cdef bint ROUNDS_TO_FLOATS = np.floor(np.int8(1)).dtype.kind == "f"


cdef Tensor unary(int op, x):
    cdef fg_tensor y
    cdef Tensor operand
    if type(x) is Tensor and (<Tensor>x).t.array.dtype <= FG_FLOAT64:
        check(fg_unary(op, (<Tensor>x).t, &y))
        return wrap(y)
    name = fg_ops[op].name.decode()
    operand = as_tensor(x, name)
    if operand.t.array.dtype > FG_FLOAT64:
        if operand.t.array.dtype != FG_BOOL and is_quick(op, operand.t.array) and not (
                ROUNDS_TO_FLOATS and (op == FG_OP_floor or op == FG_OP_ceil or op == FG_OP_trunc)):
            check(fg_apply(op, 1, &operand.t, 0, NULL, &y))
            return wrap(y)
        dtype = integral_result(name, operand.dtype)
        if dtype.kind != "f":                   # what NumPy keeps integral stays so
            return by_numpy(getattr(np, name), operand)
        operand = as_float(operand, name)
    check(fg_unary(op, operand.t, &y))
    return wrap(y)


cdef object integral_result(str name, dtype, other=None):
    """The dtype of an op on integers and booleans: what NumPy's ufunc has, but float32 in the place of float16."""
    ufunc = getattr(np, name, None)
    kinds = (dtype,) if other is None else (dtype, other)
    result = ufunc.resolve_dtypes((*kinds, None))[-1] if isinstance(ufunc, np.ufunc) else np.result_type(*kinds)
    if result.kind == "f" or not isinstance(ufunc, np.ufunc):
        result = float_dtype(result)
    return result


cdef object np_float64 = np.float64


cdef Tensor binary(int op, a, b):
    cdef fg_tensor y
    cdef Tensor first = None, second = None
    if type(a) is Tensor:
        first = <Tensor>a
        second = <Tensor>b if type(b) is Tensor else companion(b, first.t.array)
    elif type(b) is Tensor:
        second = <Tensor>b
        first = companion(a, second.t.array)
    if (first is None or second is None or first.t.array.dtype > FG_FLOAT64 or second.t.array.dtype > FG_FLOAT64
            or first.t.array.weak != second.t.array.weak and type(a) is type(b)):
        return mixed(op, a, b)
    if first is second and op == FG_OP_multiply:        # one derivative instead of two
        check(fg_unary(FG_OP_square, first.t, &y))
    else:
        check(fg_binary(op, first.t, second.t, &y))
    return wrap(y)


cdef inline Tensor companion(x, fg_array *other):
    """x as a tensor of the float dtype of the other operand, if that needs no promotion: a Python number, or an ndarray
    or NumPy float of that dtype. Else None."""
    if other.dtype <= FG_FLOAT64:
        if weak_scalar(x) or (other.dtype == FG_FLOAT64 and type(x) is np_float64 and not other.weak):
            return wrap_array(scalar_of(other.dtype, x))
        if cnp.PyArray_CheckExact(x) and number_of(x) == other.dtype and not other.weak:
            return tensor_of(x)
    return None


cdef int one_float(operands) except -2:
    """The float dtype that all tensors and ndarrays among the operands share, Python numbers aside; -1 if none."""
    cdef int dtype = -1, number
    for x in operands:
        if weak_scalar(x):
            continue
        if type(x) is Tensor and not (<Tensor>x).t.array.weak:
            number = (<Tensor>x).t.array.dtype
        elif cnp.PyArray_CheckExact(x):
            number = number_of(x)
        else:
            return -1
        if number < 0 or number > FG_FLOAT64 or (dtype >= 0 and number != dtype):
            return -1
        dtype = number
    return dtype


def promoted(str name, *operands):
    """Operands as Tensors of the dtype NumPy 2 would compute in (float32 where that were float16).

    Returns (dtype, tensors); tracked tensors are returned as they are, and cast on the tape by the op itself.
    """
    cdef int same = one_float(operands)
    if same >= 0:                               # the common case, without asking NumPy
        return DTYPES[same], [x if type(x) is Tensor else wrap_array(scalar_of(same, x)) if weak_scalar(x)
                              else tensor_of(x) for x in operands]
    values = [operand(x, name) for x in operands]
    dtype = common_dtype(name, values)
    tensors = [in_dtype(v, dtype) for v in values]
    if n_promotions and dtype == FLOAT64:
        note_operands(tensors)
    return dtype, tensors


cdef object operand(x, str name):
    x = joined(x, name)
    return x if weak_scalar(x) or type(x) is Tensor else as_ndarray(x, name)


cdef object common_dtype(str name, values):
    kinds = [v if weak_scalar(v) else v.dtype.type(1).item() if is_weak(v) else v.dtype for v in values]
    dtype = np.result_type(*kinds)
    if dtype == np.float16:
        dtype = FLOAT32
    if dtype not in NUMBER_OF:
        raise TypeError(f"{name}: operands of dtypes {', '.join(str(k) for k in kinds)} have no common dtype among "
                        "float32, float64, bool and the integers")
    return dtype


cdef Tensor in_dtype(v, dtype):
    if type(v) is Tensor:
        if (<Tensor>v).t.array.weak and v.dtype != dtype:
            return weak_as(v, dtype)
        return v if v.dtype.kind == "f" or v.dtype == dtype else cast_integers(v, dtype)
    a = np.asarray(v, dtype if weak_scalar(v) else None)
    return tensor_of(a if a.dtype == dtype else a.astype(dtype))


cdef Tensor mixed(int op, a, b):
    """A binary op on operands of any kind and dtype: ndarrays, lists, scalars, integers."""
    cdef fg_tensor y
    cdef Tensor first, second
    left, right = number_if_known(a), number_if_known(b)
    if weak_scalar(left) and weak_scalar(right):
        if type(left) is float or type(right) is float:
            first, second = wrap_array(scalar_of(FG_FLOAT64, left)), wrap_array(scalar_of(FG_FLOAT64, right))
            check(fg_binary(op, first.t, second.t, &y))
            return wrap(y)
    elif left is not a or right is not b:
        return binary(op, left, right)
    first = of_integers(op, a, b)
    if first is not None:
        return first
    name = fg_ops[op].name.decode()
    a, b = operand(a, name), operand(b, name)
    dtype = common_dtype(name, (a, b))
    if dtype.kind != "f":
        kinds = [number_kind(a, b), number_kind(b, a)]
        if kinds == [int, int]:
            kinds = [dtype, dtype]
        dtype = integral_result(name, kinds[0], kinds[1])
        if dtype.kind != "f":
            if is_traced(a) or is_traced(b):
                a, b = beside(a, b), beside(b, a)
            return by_numpy(getattr(np, name), a, b)
    first, second = in_dtype(a, dtype), in_dtype(b, dtype)
    check(fg_binary(op, first.t, second.t, &y))
    return wrap(y)


# A kernel of integers.def takes less time than a call of NumPy for at most so many elements. For more, NumPy's loops
# make up for that with the vectors of the widest instruction set.
cdef enum: QUICK_INTEGERS = 2048


cdef inline bint is_quick(int op, fg_array *x):
    return (x.shape.size <= QUICK_INTEGERS and not x.weak and x.dtype > FG_FLOAT64
            and fg_integer_kernel_of(op, x.dtype) != NULL)


cdef Tensor of_integers(int op, a, b):
    """A binary op on a few integers or booleans of one dtype, or on integers and a Python int that fits it, by its
    kernel. None for any others."""
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    cdef Tensor first = None, second = None
    if type(a) is Tensor:
        first = <Tensor>a
        if not is_quick(op, first.t.array):
            return None
        second = <Tensor>b if type(b) is Tensor else integer_beside(b, first)
    elif type(b) is Tensor:
        second = <Tensor>b
        first = integer_beside(a, second) if is_quick(op, second.t.array) else None
    if (first is None or second is None or first.t.array.dtype != second.t.array.dtype
            or not is_quick(op, first.t.array) or not is_quick(op, second.t.array)):
        return None
    operands[0], operands[1] = first.t, second.t
    check(fg_apply(op, 2, operands, 0, NULL, &y))
    return wrap(y)


cdef Tensor integer_beside(x, Tensor other):
    """A Python int as a tensor of the dtype of other; None if it does not fit, or is no int."""
    cdef int overflow = 0
    cdef long long value
    if type(x) is not int or other.t.array.dtype <= FG_BOOL:
        return None
    if other.t.array.dtype == FG_INT64:
        value = PyLong_AsLongLongAndOverflow(x, &overflow)
        if overflow:
            return None
        return wrap_array(integer_array(value))
    try:
        return tensor_of(np.asarray(x, other.dtype))
    except OverflowError:
        return None


cdef inline fg_array *integer_array(int64_t value) except NULL:
    cdef fg_array *x = fg_array_integer(value)
    if x == NULL:
        fail(FG_NO_MEMORY)
    return x


cdef object number_kind(x, other):
    """The dtype of an operand that is no float; for a Python int, or a weak tensor of integers, int itself. Among weak
    tensors a uint64, which stands for an int that fits no int64, keeps its dtype."""
    dtype = np.dtype(bool) if type(x) is bool else None if type(x) is int else x.dtype
    if dtype is None:
        return int
    return int if is_weak(x) and (dtype.kind == "i" or (dtype.kind == "u" and not is_weak(other))) else dtype


cdef operate(int op, a, b):
    """A binary operator; NotImplemented where an operand is no number or array, so that Python asks the other one."""
    if not (is_operand(a) and is_operand(b)):
        return NotImplemented
    if is_weak(a) and is_weak(b):
        return still_weak(binary(op, weak_number(a, b), weak_number(b, a)))
    return binary(op, a, b)


cdef object weak_number(x, other=None):
    """x, which stands for a Python number, as a number: to Python's operators booleans are integers. An integer too
    large for int64 is a uint64, and a boolean beside one as well, since both together would be floats."""
    if is_bool(x):
        return astype(x, np.uint64 if type(other) is Tensor and other.dtype == np.uint64 else np.int64)
    return int(x) if type(x) is bool else x


cdef operate_unary(int op, Tensor x):
    return still_weak(unary(op, weak_number(x))) if x.t.array.weak else unary(op, x)


cdef operate_inplace(int op, Tensor a, b):
    cdef Tensor other
    name = fg_ops[op].name.decode()
    if not is_operand(b):
        return NotImplemented
    if a.t.array.weak:                          # it stands for a Python number, which cannot change in place
        return operate(op, a, b)
    if is_scalar(a) and not is_captured(a):
        return operate(op, a, b)
    refuse_inplace(a, name, "c = c + x does it in place of c += x")
    if a.t.array.dtype > FG_FLOAT64:
        take_result(a, binary(op, a, b), name)
        return a
    other = as_float(b, name)
    check(fg_binary_inplace(op, &a.t, other.t))
    return a


cdef inline bint is_scalar(Tensor a):
    """Whether NumPy would have a scalar in the place of a, which cannot change in place: ``s += x`` makes a new one,
    and what else names the old one keeps its value. A tensor made with requires_grad=True without axes is a
    parameter."""
    return a.t.array.shape.ndim == 0 and (a.t.node == NULL or a.t.node.op != FG_OP_leaf or fg_transform != 0)


cdef inline bint is_captured(Tensor a):
    """Whether a was made before the function that is being traced, of which it is no argument. It may be a running
    value, as of ``nonlocal count``, which would change once instead of at each call."""
    return fg_tracing and fg_trace_outside(a.t.array) and fg_trace_value(a.t.array) < 0


cdef int refuse_inplace(Tensor a, str name, str instead) except -1:
    """Refuse to change a tensor from outside of the function that is being traced."""
    if not (fg_tracing and fg_trace_outside(a.t.array)):
        return 0
    tracer, often = "compile", "at each call"
    if fg_trace_here() == FG_MAPPED or not fg_trace_is_program():
        tracer, often = "vmap", "for each element"
    if fg_trace_value(a.t.array) >= 0:
        raise TraceError(f"{tracer}: {name} changes an argument of the function in place{frames.user_line()}: "
                         f"return the new value instead, as {instead}")
    raise TraceError(f"{tracer}: {name} changes a tensor in place that was made before the function was traced"
                     f"{frames.user_line()}. That would happen once instead of {often}: pass the tensor as an "
                     "argument and return its new value")


def replace_inplace(Tensor a not None, Tensor y not None, str name not None):
    """Let a take the value and the node of y, which has its shape and dtype and is not used afterwards. Errors call
    this change by ``name``, that of a ufunc's method ``at``."""
    refuse_inplace(a, name, f"c = c.at[i].set(x) does it in place of {name}(c, i, x)")
    check(fg_may_change(name.encode(), f"x = x.at[i].set(v) instead of {name}(x, i, v)".encode(), &a.t))
    a.t, y.t = y.t, a.t


cdef int take_result(Tensor a, Tensor result, str name) except -1:
    """Give a the value of a result, which must have its shape and a dtype of its kind."""
    if not np.can_cast(result.dtype, a.dtype, "same_kind"):
        raise TypeError(f"{name}: an in-place change cannot turn {a.dtype} into {result.dtype}; assign the result "
                        "to a new tensor, or use .astype() first")
    if result.shape != a.shape:
        raise ValueError(f"{name}: an in-place change cannot turn shape {a.shape} into {result.shape}")
    return take_value(a, result.astype(a.dtype))


cdef matmul_inplace(Tensor a, b):
    """a @= b"""
    if not is_operand(b):
        return NotImplemented
    refuse_inplace(a, "matmul", "c = c @ x does it in place of c @= x")
    check(fg_may_change(b"matmul", b"x = x @ a instead of x @= a", &a.t))
    take_result(a, matmul(a, b), "matmul")
    return a


cdef int take_value(Tensor a, Tensor new) except -1:
    """Give a the value of a new tensor of its shape and dtype: in its own memory, if nothing shares or needs it."""
    if (fg_changes_in_place(a.t.array) and new.t.node == NULL
            and not (fg_tracing and (fg_trace_here() or fg_traced(new.t.array)))):   # a trace knows values, not memory
        copy_bytes(a.t.array.data, new.t.array.data, a.nbytes)
        fg_array_changed(a.t.array)
    else:
        a.t.array, new.t.array = new.t.array, a.t.array
    if fg_grad_enabled:
        a.t.node, new.t.node = new.t.node, a.t.node
    return 0


cdef int assign(Tensor a, key, value) except -1:
    """a[key] = value: a takes the value that ``a.at[key].set(value)`` has, and its place on the tape."""
    if a.t.array.weak:
        raise TypeError("assignment: this tensor stands for a Python number, which has no elements to assign to")
    refuse_inplace(a, "assignment", "c = c.at[i].set(x) does it in place of c[i] = x")
    check(fg_may_change(b"assignment", b"x = x.at[i].set(v) instead of x[i] = v", &a.t))
    return take_value(a, composed.At(a)[key].set(value))


cdef to_the_power(Tensor a, b):
    """a ** b; the exponents 2, 1, 0.5 and -1 use operations that are cheaper and more exact."""
    if a.t.array.weak:
        return operate(FG_OP_power, a, b)
    if a.t.array.dtype <= FG_FLOAT64 and weak_scalar(b):
        if b == 2:
            return unary(FG_OP_square, a)
        if b == 1:
            return unary(FG_OP_positive, a)
        if b == 0.5:
            return unary(FG_OP_sqrt, a)
        if b == -1:
            return unary(FG_OP_reciprocal, a)
    return operate(FG_OP_power, a, b)


cdef inline bint is_float(x):
    return type(x) is float or (type(x) is Tensor and (<Tensor>x).t.array.dtype <= FG_FLOAT64)


cdef compare(int op, a, b):
    """A comparison by an operator."""
    found = compare_values(op, a, b)
    return still_weak(found) if is_weak(a) and is_weak(b) else found


cdef compare_values(int op, a, b):
    """Floats by the core, the rest by NumPy's ufunc of that name."""
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    cdef fg_array *scalar = NULL
    cdef Tensor x
    if not (is_operand(a) and is_operand(b)):
        return NotImplemented
    if not (type(a) is Tensor and (<Tensor>a).t.array.dtype <= FG_FLOAT64 and (weak_scalar(b) or (
            type(b) is Tensor and (<Tensor>b).t.array.dtype == (<Tensor>a).t.array.dtype))):
        x = of_integers(op, a, b)
        if x is not None:
            return x
        name = fg_ops[op].name.decode()
        if not (is_float(a) or is_float(b)):    # exactly, although int64 and uint64 have no common dtype but float64
            if not weak_scalar(a):
                a = as_tensor(a, name)
            if not weak_scalar(b):
                b = as_tensor(b, name)
            if not (is_float(a) or is_float(b)):
                return by_numpy(getattr(np, name), a, b)
        dtype, (a, b) = promoted(name, a, b)
        a, b = astype_if(a, dtype), astype_if(b, dtype)
    x = <Tensor>a
    operands[0] = x.t
    if type(b) is Tensor:
        operands[1] = (<Tensor>b).t
    else:
        scalar = scalar_of(x.t.array.dtype, b)
        operands[1] = fg_tensor(scalar, NULL)
    status = fg_apply(op, 2, operands, 0, NULL, &y)
    fg_array_unref(scalar)
    check(status)
    return wrap(y)


cdef plain(x):
    """x; if it is a Tensor, an ndarray on its memory."""
    return view_of((<Tensor>x).t.array, False) if type(x) is Tensor else x


cdef logic(ufunc, a, b=None):
    """A bitwise operator, on booleans and integers only."""
    if not is_operand(a) or not (b is None or is_operand(b)):
        return NotImplemented
    for x in (a, b):
        if isinstance(x, float) or (type(x) is Tensor and (<Tensor>x).t.array.dtype <= FG_FLOAT64):
            raise TypeError(f"{ufunc.__name__}: expected booleans or integers, got floats; compare first, as in "
                            "(x > 0) & (x < 1)")
    if b is None:
        if is_bool(a) and not (<Tensor>a).t.array.weak:
            return apply_op(FG_OP_invert, [a], ())
        return still_weak(by_numpy(ufunc, weak_number(a))) if is_weak(a) else by_numpy(ufunc, a)
    if is_weak(a) and is_weak(b):
        return still_weak(logic_of(ufunc, a, b))
    return logic_of(ufunc, a, b)


# The bitwise operations whose results on booleans are booleans; a shift makes them integers.
cdef dict OF_BOOLEANS = {np.bitwise_and: FG_OP_bitwise_and, np.bitwise_or: FG_OP_bitwise_or,
                         np.bitwise_xor: FG_OP_bitwise_xor}


cdef logic_of(ufunc, a, b):
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    op = OF_BOOLEANS.get(ufunc)
    if op is not None and (is_bool(a) or type(a) is bool) and (is_bool(b) or type(b) is bool):
        left, right = as_tensor(a, ufunc.__name__), as_tensor(b, ufunc.__name__)
        operands[0], operands[1] = (<Tensor>left).t, (<Tensor>right).t
        check(fg_apply(op, 2, operands, 0, NULL, &y))
        return wrap(y)
    found = of_integers(NATIVE[ufunc], a, b)
    if found is not None:
        return found
    if is_traced(a) or is_traced(b):
        a, b = operand(a, ufunc.__name__), operand(b, ufunc.__name__)
        a, b = beside(a, b), beside(b, a)
    return by_numpy(ufunc, a, b)


cdef inline bint is_bool(x):
    return type(x) is Tensor and (<Tensor>x).t.array.dtype == FG_BOOL


# ---- the functions of ops.def, made from its rows -------------------------------------------------------
cdef extern from *:
    """
    static PyObject *(*fg_enter_unary)(int op, PyObject *x);
    static PyObject *(*fg_enter_binary)(int op, PyObject *const *args, Py_ssize_t n);

    #define UNARY(name, ...) \\
        static PyObject *fg_call_##name(PyObject *self, PyObject *x) \\
        { (void)self; return fg_enter_unary(FG_OP_##name, x); }
    #define BINARY(name, ...) \\
        static PyObject *fg_call_##name(PyObject *self, PyObject *const *args, Py_ssize_t n) \\
        { (void)self; return fg_enter_binary(FG_OP_##name, args, n); }
    #define UNARY_FN UNARY
    #define BINARY_FN BINARY
    #include "ops.def"
    #undef UNARY
    #undef BINARY

    #define UNARY(name, ...) {#name, fg_call_##name, METH_O, NULL},
    #define BINARY(name, ...) {#name, (PyCFunction)(void (*)(void))fg_call_##name, METH_FASTCALL, NULL},
    static PyMethodDef fg_methods[] = {
    #include "ops.def"
    };
    #undef UNARY
    #undef BINARY
    #undef UNARY_FN
    #undef BINARY_FN
    """
    ctypedef struct PyMethodDef:
        const char *ml_doc
    object PyCFunction_NewEx(PyMethodDef *, object self, object module)
    PyMethodDef fg_methods[]
    object (*fg_enter_unary)(int, object)
    object (*fg_enter_binary)(int, PyObject *const *, Py_ssize_t)


cdef object enter_unary(int op, object x):
    return unary(op, x)


cdef object enter_binary(int op, PyObject *const *args, Py_ssize_t n):
    if n != 2:
        raise TypeError(f"{fg_ops[op].name.decode()}() takes 2 positional arguments but {n} were given")
    return binary(op, <object>args[0], <object>args[1])


fg_enter_unary = enter_unary
fg_enter_binary = enter_binary
cdef list doc_texts = []                         # keeps the bytes that ml_doc points to


def op_table():
    """The rows of csrc/ops.def: a list of dicts with the keys name, arity, definition, derivatives, domain, doc
    and index."""
    rows = []
    for i in range(FG_N_ELEMENTWISE):
        text = fg_texts[i]
        rows.append({
            "name": text.name.decode(), "arity": text.arity, "definition": text.definition.decode(),
            "derivatives": tuple([text.derivative[k].decode() for k in range(text.arity)]),
            "domain": tuple([(text.lo[k], text.hi[k]) for k in range(text.arity)]),
            "doc": text.doc.decode(), "index": i,
        })
    return rows


ROWS = {row["name"]: row for row in op_table()}


cdef extern from *:
    """
    static const struct { const char *name; double value; const char *latex; } fg_constants[] = {
    #define CONSTANT(name, value, latex) {#name, value, latex},
    #include "constants.def"
    #undef CONSTANT
    };
    enum { FG_N_CONSTANTS = sizeof fg_constants / sizeof *fg_constants };
    """
    ctypedef struct fg_constant:
        const char *name
        double value
        const char *latex
    const fg_constant fg_constants[]
    int FG_N_CONSTANTS


def constants():
    """The named constants of csrc/constants.def: {name: (value, LaTeX)}."""
    return {fg_constants[i].name.decode(): (fg_constants[i].value, fg_constants[i].latex.decode())
            for i in range(FG_N_CONSTANTS)}


cdef str docstring(row):
    name, derivatives = row["name"], row["derivatives"]
    letters = ("x",) if row["arity"] == 1 else ("a", "b")
    points = [repr(float(f"{lo + part * (hi - lo):.4g}")) for part, (lo, hi) in zip((0.3, 0.65), row["domain"])]
    summary = row["doc"][0].upper() + row["doc"][1:] + ", elementwise."
    lines = [f"{name}({', '.join(letters)}, /)", "--", "", summary, "",
             f"    y = {row['definition']}"]
    lines += [f"    dy/d{letter} = {derivative}" for letter, derivative in zip(letters, derivatives)]
    lines += ["",
              "Takes tensors, ndarrays and numbers" + (" that broadcast together" if row["arity"] == 2 else "")
              + "; returns a Tensor. float32 and float64 are kept, integers",
              "are computed as NumPy does. The formulas are those of csrc/ops.def, where a derivative at a kink is the",
              "one given here. Raises TypeError for what is no number" +
              (", ValueError for shapes that do not broadcast." if row["arity"] == 2 else "."), "",
              ">>> import fastgrad as fg",
              f">>> fg.check_grads(fg.{name}, ({', '.join(points)}{',' if row['arity'] == 1 else ''}))"]
    return "\n".join(lines)


cdef make_functions():
    """One built-in function for each row."""
    made = {}
    for row in ROWS.values():
        i = row["index"]
        doc = docstring(row).encode()
        doc_texts.append(doc)
        fg_methods[i].ml_doc = doc
        made[row["name"]] = PyCFunction_NewEx(&fg_methods[i], sys.modules[__name__], "fastgrad")
    return made


functions = make_functions()
globals().update(functions)

# The rows with a parameter, which functions of the same names in _numpy/neural.py give a default; gelu chooses between
# two rows.
WITH_DEFAULTS = {"celu", "elu", "gelu", "gelu_tanh", "hard_shrink", "soft_shrink"}
# The names that fastgrad shows; `public` adds to them.
PUBLIC = sorted(functions.keys() - WITH_DEFAULTS) + ["Tensor"]
__all__ = PUBLIC


def public(function):
    """A decorator: fastgrad shows the function as its own."""
    PUBLIC.append(function.__name__)
    return function


def elementwise_derivative(str name, int i, a, b=None):
    """The derivative of the op ``name`` by its i-th argument, elementwise, from its row of csrc/ops.def.

    a and b (for ops of two arguments) are array_like; float32 and float64 are kept, other dtypes become float64.
    Returns an ndarray.
    """
    cdef fg_array *d
    row = ROWS.get(name)
    if row is None:
        raise ValueError(f"no elementwise operation is called {name!r}")
    arity = row["arity"]
    if (b is None) != (arity == 1) or not 0 <= i < arity:
        raise ValueError(f"{name}: takes {arity} argument{'s' if arity > 1 else ''} and has as many derivatives")
    operands = [a] if b is None else [a, b]
    operands = [plain(x) for x in operands]
    arrays = [as_ndarray(x, name) for x in operands]
    dtype = np.result_type(*[x if weak_scalar(x) else v.dtype for x, v in zip(operands, arrays)])
    if dtype not in (FLOAT32, FLOAT64):
        dtype = FLOAT64
    tensors = [tensor_of(np.asarray(v, dtype)) for v in arrays]
    cdef fg_array *second = (<Tensor>tensors[1]).t.array if arity == 2 else NULL
    check(fg_derivative(row["index"], i, (<Tensor>tensors[0]).t.array, second, &d))
    return wrap_array(d).numpy().copy()
