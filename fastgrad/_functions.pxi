# Functions on tensors, and what the layers above need of the core. Included by _core.pyx.

# The modules of composed functions that Tensor's methods call; they import this one, so it is told of them.
cdef object indexing = None, numpy_functions = None, composed = None


cdef dict OP_OF_UFUNC = {}


def bind_layer(indexing_module, numpy_module, ops_module):
    """Tell Tensor where the functions live that are composed in Python."""
    global indexing, numpy_functions, composed
    OP_OF_UFUNC.update({getattr(np, name): function for name, function in functions.items()
                        if isinstance(getattr(np, name, None), np.ufunc)})
    OP_OF_UFUNC[np.matmul] = matmul
    indexing, numpy_functions, composed = indexing_module, numpy_module, ops_module


# ---- refusals -------------------------------------------------------------------------------------------
cdef int refuse_tracked(Tensor x, str name) except -1:
    if x.t.node != NULL:
        raise TypeError(f"{name}: this tensor requires gradients, which an ndarray would silently lose; use "
                        "fastgrad's functions, or take the plain values with .numpy() or .detach()")
    return 0


cdef int refuse_in_transform(Tensor x, str name) except -1:
    if x.t.node != NULL and fg_transforms_running:
        raise TypeError(f"{name}: a tensor that is being differentiated would silently become a constant; use "
                        "fastgrad's or NumPy's functions instead of math's, or say so with x.detach()")
    return 0


# ---- elementwise ops ------------------------------------------------------------------------------------
cdef tuple OPERANDS = (Tensor, int, float, np.ndarray, np.generic, list, tuple)


cdef inline bint is_operand(x):
    return type(x) is Tensor or isinstance(x, OPERANDS)


cdef Tensor unary(int op, x):
    cdef fg_tensor y
    cdef Tensor operand
    if type(x) is Tensor and (<Tensor>x).t.array.dtype <= FG_FLOAT64:
        check(fg_unary(op, (<Tensor>x).t, &y))
        return wrap(y)
    name = fg_ops[op].name.decode()
    operand = as_tensor(x, name)
    if operand.t.array.dtype > FG_FLOAT64:
        dtype = integral_result(name, operand.dtype)
        if dtype.kind != "f":                   # what NumPy keeps integral stays so
            return tensor_of(np.asarray(getattr(np, name)(view_of(operand.t.array, False))))
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


cdef inline bint weak_scalar(x):
    """A Python number, which takes on the dtype of the other operand."""
    return type(x) is float or type(x) is int or type(x) is bool


cdef Tensor binary(int op, a, b):
    cdef fg_tensor y, scalar
    cdef int status
    if type(a) is Tensor and (<Tensor>a).t.array.dtype <= FG_FLOAT64:
        if type(b) is Tensor:
            if (<Tensor>b).t.array.dtype <= FG_FLOAT64:
                check(fg_binary(op, (<Tensor>a).t, (<Tensor>b).t, &y))
                return wrap(y)
        elif weak_scalar(b):
            scalar = fg_tensor(fg_array_scalar((<Tensor>a).t.array.dtype, b), NULL)
            if scalar.array == NULL:
                fail(FG_NO_MEMORY)
            status = fg_binary(op, (<Tensor>a).t, scalar, &y)
            fg_array_unref(scalar.array)
            check(status)
            return wrap(y)
    elif type(b) is Tensor and (<Tensor>b).t.array.dtype <= FG_FLOAT64 and weak_scalar(a):
        scalar = fg_tensor(fg_array_scalar((<Tensor>b).t.array.dtype, a), NULL)
        if scalar.array == NULL:
            fail(FG_NO_MEMORY)
        status = fg_binary(op, scalar, (<Tensor>b).t, &y)
        fg_array_unref(scalar.array)
        check(status)
        return wrap(y)
    return mixed(op, a, b)


def promoted(str name, *operands):
    """Operands as Tensors of the dtype NumPy 2 would compute in (float32 where that were float16).

    Returns (dtype, tensors); tracked tensors are returned as they are, and cast on the tape by the op itself.
    """
    values = [x if weak_scalar(x) or type(x) is Tensor else as_ndarray(x, name) for x in operands]
    kinds = [v if weak_scalar(v) else v.dtype for v in values]
    dtype = np.result_type(*kinds)
    if dtype == np.float16:
        dtype = FLOAT32
    if dtype not in NUMBER_OF:
        raise TypeError(f"{name}: operands of dtypes {', '.join(str(k) for k in kinds)} have no common dtype among "
                        "float32, float64, bool and the integers")
    tensors = []
    for v in values:
        if type(v) is Tensor:
            tensors.append(v if v.dtype.kind == "f" or v.dtype == dtype else cast_integers(v, dtype))
            continue
        a = np.asarray(v, dtype if weak_scalar(v) else None)
        tensors.append(tensor_of(a if a.dtype == dtype else a.astype(dtype)))
    return dtype, tensors


cdef Tensor mixed(int op, a, b):
    """A binary op on anything: ndarrays, lists, scalars, integers."""
    cdef fg_tensor y
    name = fg_ops[op].name.decode()
    dtype, tensors = promoted(name, a, b)
    if dtype.kind != "f":
        kinds = [type(x) if type(x) is int else np.asarray(plain(x)).dtype for x in (a, b)]
        if kinds == [int, int]:
            kinds = [dtype, dtype]
        dtype = integral_result(name, kinds[0], kinds[1])
        if dtype.kind != "f":
            return tensor_of(np.asarray(getattr(np, name)(plain(a), plain(b))))
        tensors = [astype(t, dtype) for t in tensors]
    check(fg_binary(op, (<Tensor>tensors[0]).t, (<Tensor>tensors[1]).t, &y))
    return wrap(y)


cdef operate(int op, a, b):
    """A binary operator: NotImplemented for what is no number, so that Python can ask the other operand."""
    if not (is_operand(a) and is_operand(b)):
        return NotImplemented
    return binary(op, a, b)


cdef operate_inplace(int op, Tensor a, b):
    cdef Tensor other
    name = fg_ops[op].name.decode()
    if not is_operand(b):
        return NotImplemented
    if a.t.array.dtype > FG_FLOAT64:
        result = binary(op, a, b)
        if not np.can_cast(result.dtype, a.dtype, "same_kind"):
            raise TypeError(f"{name}: an in-place change cannot turn {a.dtype} into {result.dtype}; assign the result to "
                            "a new tensor, or use .astype() first")
        if result.shape != a.shape:
            raise ValueError(f"{name}: an in-place change cannot turn shape {a.shape} into {result.shape}")
        other = result.astype(a.dtype)
        if fg_array_is_private(a.t.array):
            copy_bytes(a.t.array.data, other.t.array.data, a.nbytes)
            fg_array_changed(a.t.array)
        else:
            a.t, other.t = other.t, a.t
        return a
    other = as_float(b, name)
    check(fg_binary_inplace(op, &a.t, other.t))
    return a


cdef to_the_power(Tensor a, b):
    """a ** b; the exponents that have a cheaper and more exact form of their own take it."""
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
    """A comparison: floats by the core, the rest by NumPy's ufunc of that name."""
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    cdef fg_array *scalar = NULL
    cdef Tensor x
    if not (is_operand(a) and is_operand(b)):
        return NotImplemented
    if not (type(a) is Tensor and (<Tensor>a).t.array.dtype <= FG_FLOAT64 and (weak_scalar(b) or (
            type(b) is Tensor and (<Tensor>b).t.array.dtype == (<Tensor>a).t.array.dtype))):
        name = fg_ops[op].name.decode()
        if not (is_float(a) or is_float(b)):    # exactly, although int64 and uint64 have no common dtype but float64
            if not weak_scalar(a):
                a = as_tensor(a, name)
            if not weak_scalar(b):
                b = as_tensor(b, name)
            if not (is_float(a) or is_float(b)):
                return tensor_of(np.asarray(getattr(np, name)(plain(a), plain(b))))
        dtype, (a, b) = promoted(name, a, b)
        a, b = astype_if(a, dtype), astype_if(b, dtype)
    x = <Tensor>a
    operands[0] = x.t
    if type(b) is Tensor:
        operands[1] = (<Tensor>b).t
    else:
        scalar = fg_array_scalar(x.t.array.dtype, b)
        if scalar == NULL:
            fail(FG_NO_MEMORY)
        operands[1] = fg_tensor(scalar, NULL)
    status = fg_apply(op, 2, operands, 0, NULL, &y)
    fg_array_unref(scalar)
    check(status)
    return wrap(y)


cdef plain(x):
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
        if is_bool(a):
            return logic(np.bitwise_xor, a, True)
        return tensor_of(np.asarray(ufunc(plain(a))))
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    if (is_bool(a) or type(a) is bool) and (is_bool(b) or type(b) is bool):
        left, right = as_tensor(a, ufunc.__name__), as_tensor(b, ufunc.__name__)
        operands[0], operands[1] = (<Tensor>left).t, (<Tensor>right).t
        op = (FG_OP_logical_and if ufunc is np.bitwise_and else
              FG_OP_logical_or if ufunc is np.bitwise_or else FG_OP_logical_xor)
        check(fg_apply(op, 2, operands, 0, NULL, &y))
        return wrap(y)
    return tensor_of(np.asarray(ufunc(plain(a), plain(b))))


cdef inline bint is_bool(x):
    return type(x) is Tensor and (<Tensor>x).t.array.dtype == FG_BOOL


# ---- the functions of ops.def, made from its rows ---------------------------------------------------------
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
    lines = [f"{name}({', '.join(letters)}, /)", "--", "", row["doc"][0].upper() + row["doc"][1:] + ", elementwise.", "",
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
    for row in op_table():
        i = row["index"]
        doc = docstring(row).encode()
        doc_texts.append(doc)
        fg_methods[i].ml_doc = doc
        made[row["name"]] = PyCFunction_NewEx(&fg_methods[i], sys.modules[__name__], "fastgrad")
    return made


functions = make_functions()
globals().update(functions)

# The names that fastgrad shows: the rows, but those that a function of the Python layer stands for, and these.
PUBLIC = sorted({*functions, "Tensor", "asarray", "astype", "broadcast_to", "concatenate", "matmul", "max", "mean", "min",
                 "reshape", "sum", "tensor", "transpose", "where"}
                - {"celu", "elu", "gelu", "gelu_tanh", "hard_shrink", "soft_shrink"})
__all__ = PUBLIC


# ---- structural ops ---------------------------------------------------------------------------------------
cdef Tensor apply_one(int op, Tensor x, int n_attr, const int64_t *attr):
    cdef fg_tensor y
    check(fg_apply(op, 1, &x.t, n_attr, attr, &y))
    return wrap(y)


cdef Tensor moved(int op, x, int n_attr, const int64_t *attr, str name):
    """An op that only moves elements, for any dtype."""
    return apply_one(op, as_tensor(x, name), n_attr, attr)


cdef Tensor reduction(int op, x, axis, keepdims, str name):
    cdef Tensor operand = as_tensor(x, name)
    cdef uint32_t bits
    cdef int64_t attr[2]
    spread(axis, operand.t.array.shape.ndim, name, &bits)
    if operand.t.array.dtype > FG_FLOAT64:
        axis = tuple(axis) if isinstance(axis, list) else axis
        return tensor_of(np.asarray(getattr(np, name)(view_of(operand.t.array, False), axis=axis, keepdims=keepdims)))
    attr[0] = bits
    attr[1] = bool(keepdims)
    return apply_one(op, operand, 2, attr)


def sum(x, axis=None, keepdims=False):
    """Sum of elements over axes.

    ``axis`` is an int, a tuple of ints, or None for all; ``keepdims`` keeps the axes with length 1. float32 and
    float64 are kept, integers are summed as NumPy does. Additions are pairwise.

    >>> import fastgrad as fg
    >>> fg.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([4., 6.])
    """
    return reduction(FG_OP_sum, x, axis, keepdims, "sum")


def max(x, axis=None, keepdims=False):
    """Largest element over axes; elements that tie share the gradient equally. nan if any element is nan.

    >>> import fastgrad as fg
    >>> fg.max([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([2., 4.])
    """
    return reduction(FG_OP_max, x, axis, keepdims, "max")


def min(x, axis=None, keepdims=False):
    """Smallest element over axes; elements that tie share the gradient equally. nan if any element is nan.

    >>> import fastgrad as fg
    >>> fg.min([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([1., 3.])
    """
    return reduction(FG_OP_min, x, axis, keepdims, "min")


def mean(x, axis=None, keepdims=False):
    """Arithmetic mean of elements over axes: their sum over their number (nan for none).

    >>> import fastgrad as fg
    >>> fg.mean([[1.0, 2.0], [3.0, 4.0]])
    tensor(2.5)
    """
    cdef Tensor operand = as_tensor(x, "mean")
    if operand.t.array.dtype > FG_FLOAT64:
        operand = cast_integers(operand, FLOAT64)
    cdef uint32_t bits
    cdef int64_t attr[2]
    cdef int64_t count = 1
    cdef int i
    cdef fg_shape *s = operand.t.array.shape
    spread(axis, s.ndim, "mean", &bits)
    for i in range(s.ndim):
        if bits >> i & 1:
            count *= s.dim[i]
    attr[0] = bits
    attr[1] = bool(keepdims)
    return binary(FG_OP_divide, apply_one(FG_OP_sum, operand, 2, attr), <double>count)


def reshape(x, shape):
    """The same elements in another shape; one length may be -1 and is worked out. No elements are copied.

    >>> import fastgrad as fg
    >>> fg.reshape([1.0, 2.0, 3.0, 4.0], (2, -1)).shape
    (2, 2)
    """
    cdef Tensor operand = as_tensor(x, "reshape")
    cdef int64_t dim[FG_MAX_NDIM]
    cdef int64_t known = 1
    cdef int i, n = 0, unknown = -1
    for item in (shape if isinstance(shape, (tuple, list)) else (shape,)):
        if n == FG_MAX_NDIM:
            raise ValueError(f"reshape: a tensor has at most {FG_MAX_NDIM} axes, got a shape of {len(shape)}")
        dim[n] = index_number(item, "reshape", shape)
        if dim[n] == -1 and unknown < 0:
            unknown = n
        elif dim[n] < 0:
            raise ValueError(f"reshape: expected lengths that are 0 or more and at most one -1, got {shape}")
        elif dim[n] and known > (<int64_t>1 << 62) // dim[n]:
            raise ValueError(f"reshape: shape {operand.shape} has {operand.size} elements, {shape} would have more than "
                             "memory can hold")
        else:
            known *= dim[n]
        n += 1
    if unknown >= 0:
        if known == 0 or operand.t.array.shape.size % known:
            raise ValueError(f"reshape: {operand.t.array.shape.size} elements of shape {operand.shape} do not fill "
                             f"the shape {shape} evenly")
        dim[unknown] = operand.t.array.shape.size // known
    return apply_one(FG_OP_reshape, operand, n, dim)


cdef int64_t index_number(item, str name, what) except? -2:
    try:
        return index_of(item)
    except TypeError:
        raise TypeError(f"{name}: expected a shape as an int or a tuple of ints, got {what!r}") from None
    except OverflowError:
        raise ValueError(f"{name}: the length {item!r} is more than memory can hold") from None


def transpose(x, axes=None):
    """The axes in another order: reversed, or as the permutation ``axes`` says.

    >>> import fastgrad as fg
    >>> fg.transpose(fg.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    cdef Tensor operand = as_tensor(x, "transpose")
    cdef int64_t order[FG_MAX_NDIM]
    cdef int i, ndim = operand.t.array.shape.ndim
    if axes is None:
        for i in range(ndim):
            order[i] = ndim - 1 - i
    else:
        numbers = [normal_axis(a, ndim, "transpose") for a in (axes if isinstance(axes, (tuple, list)) else (axes,))]
        if sorted(numbers) != list(range(ndim)):
            raise ValueError(f"transpose: expected each axis of shape {operand.shape} once, got the axes {axes!r}")
        for i in range(ndim):
            order[i] = numbers[i]
    return apply_one(FG_OP_transpose, operand, ndim, order)


def broadcast_to(x, shape):
    """Stretched to a shape by repeating along axes of length 1 and new leading axes.

    >>> import fastgrad as fg
    >>> fg.broadcast_to([1.0, 2.0], (2, 2))
    tensor([[1., 2.],
            [1., 2.]])
    """
    cdef int64_t dim[FG_MAX_NDIM]
    cdef int n = 0
    for item in (shape if isinstance(shape, (tuple, list)) else (shape,)):
        if n == FG_MAX_NDIM:
            raise ValueError(f"broadcast_to: a tensor has at most {FG_MAX_NDIM} axes, got a shape of {len(shape)}")
        dim[n] = index_number(item, "broadcast_to", shape)
        if dim[n] < 0:
            raise ValueError(f"broadcast_to: expected lengths that are 0 or more, got {shape}")
        n += 1
    return moved(FG_OP_broadcast_to, x, n, dim, "broadcast_to")


def sliced(Tensor x, list bounds):
    """Every step-th element: bounds is a list of (start, step, length), one an axis, all within range."""
    cdef int64_t attr[3 * FG_MAX_NDIM]
    cdef int i
    if len(bounds) != x.t.array.shape.ndim:
        raise IndexError(f"indexing: {len(bounds)} indices for a tensor of shape {x.shape}")
    for i in range(len(bounds)):
        attr[3 * i], attr[3 * i + 1], attr[3 * i + 2] = bounds[i]
    return apply_one(FG_OP_slice, x, 3 * len(bounds), attr)


def gathered(Tensor x, Tensor index, int axis):
    """x's elements at the int64 indices along an axis; the index's shape takes the axis's place."""
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    cdef int64_t attr = axis
    operands[0], operands[1] = x.t, index.t
    check(fg_apply(FG_OP_take, 2, operands, 1, &attr, &y))
    return wrap(y)


def concatenate(arrays, axis=0):
    """Joined along an existing axis; ``axis=None`` joins the raveled inputs.

    All inputs must have the same shape but for that axis; dtypes are promoted as NumPy does.

    >>> import fastgrad as fg
    >>> fg.concatenate([[1.0], [2.0, 3.0]])
    tensor([1., 2., 3.])
    """
    try:
        arrays = list(arrays)
    except TypeError:
        raise TypeError(f"concatenate: expected a list of arrays, got {arrays!r}") from None
    if not arrays:
        raise ValueError("concatenate: expected at least one array, got none")
    dtype, tensors = promoted("concatenate", *arrays)
    tensors = [t if t.dtype == dtype else astype(t, dtype) for t in tensors]
    if axis is None:
        tensors, axis = [reshape(t, -1) for t in tensors], 0
    cdef int n = len(tensors), k
    cdef int where = normal_axis(axis, tensors[0].ndim, "concatenate")
    cdef fg_tensor y
    cdef fg_tensor *operands = <fg_tensor *>PyMem_Malloc(n * sizeof(fg_tensor))
    cdef int64_t *attr = <int64_t *>PyMem_Malloc((n + 1) * sizeof(int64_t))
    try:
        if operands == NULL or attr == NULL:
            raise MemoryError("concatenate: no memory")
        attr[0] = where
        for k in range(n):
            operands[k] = (<Tensor>tensors[k]).t
            attr[1 + k] = operands[k].array.shape.dim[where] if where < operands[k].array.shape.ndim else 0
        check(fg_apply(FG_OP_concatenate, n, operands, n + 1, attr, &y))
        return wrap(y)
    finally:
        PyMem_Free(operands)
        PyMem_Free(attr)


def where(condition, x, y):
    """Elements of x where the condition is true, else of y; the three broadcast together.

    The gradient goes to x where the condition holds and to y elsewhere.

    >>> import fastgrad as fg
    >>> fg.where([True, False], [1.0, 2.0], 0.0)
    tensor([1., 0.])
    """
    cdef fg_tensor result
    cdef fg_tensor operands[3]
    cdef Tensor mask = as_tensor(condition, "where")
    if mask.t.array.dtype != FG_BOOL:
        if mask.t.node != NULL:
            raise TypeError("where: the condition is a tensor that requires gradients; compare it first, as in x > 0")
        mask = tensor_of(view_of(mask.t.array, False) != 0)
    dtype, tensors = promoted("where", x, y)
    if dtype.kind != "f":
        return tensor_of(np.asarray(np.where(view_of(mask.t.array, False), tensors[0].numpy(), tensors[1].numpy())))
    a = tensors[0] if tensors[0].dtype == dtype else astype(tensors[0], dtype)
    b = tensors[1] if tensors[1].dtype == dtype else astype(tensors[1], dtype)
    operands[0], operands[1], operands[2] = mask.t, (<Tensor>a).t, (<Tensor>b).t
    check(fg_apply(FG_OP_where, 3, operands, 0, NULL, &result))
    return wrap(result)


def matmul(a, b):
    """Matrix product, as NumPy's: the last two axes are matrices, axes before them broadcast, and an operand with
    one axis is a row (a) or a column (b) whose axis is dropped from the result.

    >>> import fastgrad as fg
    >>> fg.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    tensor([3., 7.])
    """
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    cdef int64_t attr[2]
    cdef Tensor left, right
    if not (type(a) is Tensor and type(b) is Tensor and (<Tensor>a).t.array.dtype == (<Tensor>b).t.array.dtype
            and (<Tensor>a).t.array.dtype <= FG_FLOAT64):
        dtype, (a, b) = promoted("matmul", a, b)
        if dtype.kind != "f":
            return tensor_of(np.asarray(np.matmul(a.numpy(), b.numpy())))
        a, b = astype_if(a, dtype), astype_if(b, dtype)
    left, right = a, b
    cdef int m = left.t.array.shape.ndim, n = right.t.array.shape.ndim
    if m == 0 or n == 0:
        raise ValueError(f"matmul: expected operands with axes, got shapes {left.shape} and {right.shape}; "
                         "multiply by a number with *")
    if m != 2 or n != 2:
        return matmul_stack(left, right)
    attr[0] = attr[1] = 0
    operands[0], operands[1] = left.t, right.t
    check(fg_apply(FG_OP_matmul, 2, operands, 2, attr, &y))
    return wrap(y)


cdef matmul_stack(Tensor a, Tensor b):
    """Vectors become matrices, and a stack of matrices times one matrix becomes one product with more rows."""
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    cdef int64_t attr[2]
    if a.ndim == 1 or b.ndim == 1:
        align = a.shape[-1] == (b.shape[0] if b.ndim == 1 else b.shape[-2])
        if not align:
            at = 0 if b.ndim == 1 else b.ndim - 2
            hint = (". Did you mean a.T @ b?" if a.ndim == 2 and a.shape[0] == b.shape[0]
                    else ". Did you mean a @ b.T?" if b.ndim == 2 and a.shape[0] == b.shape[1] else "")
            raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not align: {a.shape[-1]} (axis {a.ndim - 1}) "
                             f"is not {b.shape[at]} (axis {at}){hint}")
    if a.ndim == 1:
        product = matmul(reshape(a, (1, -1) if a.size else (1, 0)), reshape(b, (b.shape[0], 1)) if b.ndim == 1 else b)
        shape = product.shape
        return reshape(product, () if b.ndim == 1 else (*shape[:-2], shape[-1]))
    if b.ndim == 1:
        product = matmul(a, reshape(b, (b.shape[0], 1)))
        return reshape(product, product.shape[:-1])
    if b.ndim == 2 and a.shape[-1] == b.shape[0]:
        rows = 1
        for length in a.shape[:-1]:
            rows *= length
        return reshape(matmul(reshape(a, (rows, a.shape[-1])), b), (*a.shape[:-1], b.shape[1]))
    attr[0] = attr[1] = 0
    operands[0], operands[1] = a.t, b.t
    check(fg_apply(FG_OP_matmul, 2, operands, 2, attr, &y))
    return wrap(y)


cdef Tensor astype_if(Tensor x, dtype):
    return x if DTYPES[x.t.array.dtype] == dtype else astype(x, dtype)


def astype(array, dtype):
    """The elements as another dtype, in memory of their own. Between float32 and float64 gradients pass.

    >>> import fastgrad as fg
    >>> fg.astype([1, 2], "float32")
    tensor([1., 2.], dtype=float32)
    """
    cdef Tensor x = as_tensor(array, "astype")
    cdef int number = dtype_number(np.dtype(dtype))
    cdef int64_t attr = number
    if (number <= FG_FLOAT64 if x.t.array.dtype <= FG_FLOAT64 else fg_tracing and fg_traced(x.t.array)):
        return apply_one(FG_OP_cast, x, 1, &attr)
    if x.t.node != NULL:
        raise TypeError(f"astype: a tensor that requires gradients cannot become {np.dtype(dtype)}, which has none; "
                        "use .detach() first")
    return tensor_of(view_of(x.t.array, False).astype(DTYPES[number]), share=False)


def softmax_last(x):
    """Softmax along the last axis."""
    return apply_one(FG_OP_softmax, as_float(x, "softmax"), 0, NULL)


def log_softmax_last(x):
    """Logarithm of the softmax along the last axis."""
    return apply_one(FG_OP_log_softmax, as_float(x, "log_softmax"), 0, NULL)


def logsumexp_last(x):
    """Logarithm of the sum of exponentials along the last axis, which is dropped."""
    return apply_one(FG_OP_logsumexp, as_float(x, "logsumexp"), 0, NULL)


def cross_entropy(logits, labels):
    """For each row, logsumexp(logits) - logits[label]. logits (..., classes) float, labels (...) integers.

    Raises IndexError for a label outside 0..classes-1, naming it and its row.
    """
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    cdef Tensor x = as_float(logits, "cross_entropy")
    cdef Tensor k = as_tensor(labels, "cross_entropy")
    if k.t.array.dtype <= FG_BOOL:
        raise TypeError(f"cross_entropy: expected integer class labels, got {k.dtype}")
    if k.t.array.dtype != FG_INT64:
        k = astype(k, np.int64)
    operands[0], operands[1] = x.t, k.t
    check(fg_apply(FG_OP_cross_entropy, 2, operands, 0, NULL, &y))
    return wrap(y)


# ---- making tensors ---------------------------------------------------------------------------------------
cdef int make_leaf(Tensor x) except -1:
    if x.t.array.dtype > FG_FLOAT64:
        raise TypeError(f"requires_grad: expected float32 or float64, got {x.dtype}; gradients of integers do not "
                        "exist, convert with dtype=float")
    x.t.node = fg_leaf(x.t.array)
    if x.t.node == NULL:
        fail(FG_NO_MEMORY)
    return 0


cdef cnp.ndarray with_dtype(x, dtype, str name):
    if isinstance(x, Tensor):
        refuse_tracked(x, name)
        x = view_of((<Tensor>x).t.array, False)
    cdef cnp.ndarray a = as_ndarray(x, name)
    if dtype is None:
        return a
    wanted = DTYPES[dtype_number(np.dtype(dtype))]
    return a if a.dtype == wanted else a.astype(wanted)


def tensor(data, dtype=None, requires_grad=False):
    """A tensor with its own copy of the data.

    Parameters
    ----------
    data : array_like
        Numbers, nested lists of them, an ndarray, or a tensor that does not require gradients.
    dtype : dtype, optional
        float32, float64, bool or an integer dtype; by default that of the data as NumPy sees it.
    requires_grad : bool
        Record operations on it, and collect its gradient in ``.grad``. Needs a float dtype.

    Raises TypeError for strings, objects, complex numbers, and for requires_grad with integers; ValueError for
    ragged lists.

    >>> import fastgrad as fg
    >>> fg.tensor([1.0, 2.0], dtype="float32", requires_grad=True)
    tensor([1., 2.], dtype=float32, requires_grad=True)
    """
    cdef Tensor r = tensor_of(with_dtype(data, dtype, "tensor"), share=False)
    if requires_grad:
        make_leaf(r)
    return r


def asarray(data, dtype=None):
    """A tensor on the memory of an ndarray, where dtype and layout allow; a tensor is returned as it is.

    A later change of the ndarray shows in the tensor. What a gradient needs of such shared memory is copied when
    it is recorded, so that no gradient is wrong for it.

    >>> import fastgrad as fg
    >>> fg.asarray([1, 2])
    tensor([1, 2])
    """
    if isinstance(data, Tensor):
        return data if dtype is None or data.dtype == np.dtype(dtype) else astype(data, dtype)
    return wrap_array(array_from(with_dtype(data, dtype, "asarray"), share=True))


def adopt(a, str name):
    """A tensor on the memory of an ndarray just made, which nobody else knows or will write."""
    return wrap_array(array_from(as_ndarray(np.asarray(a), name), share=True, unstable=False))


def watch(cnp.ndarray a):
    """A leaf that requires gradients on a's memory, which nobody may write while the graph lives: in-place operators
    on it take memory of their own."""
    cdef Tensor r = wrap_array(array_from(a, cnp.PyArray_NBYTES(a) >= COPY_BELOW, unstable=False))
    r.t.array.readonly = True
    make_leaf(r)
    return r


def watch_tensor(Tensor x):
    """A leaf that requires gradients with the elements of x."""
    cdef Tensor r = wrap_array(fg_array_ref(x.t.array))
    make_leaf(r)
    return r


def gradient_tensor(Tensor leaf):
    """The gradient that leaf has collected, as a tensor: zeros where nothing reached it."""
    g = leaf.grad
    return tensor_of(np.zeros(leaf.shape, leaf.dtype)) if g is None else g


def gradient_of(Tensor leaf):
    """The gradient that leaf has collected, as a writable ndarray of its own: zeros where nothing reached it."""
    cdef fg_array *g
    if leaf.t.node.saved == NULL:
        return np.zeros(leaf.shape, leaf.dtype)
    g = leaf.t.node.saved
    if not fg_array_is_private(g):
        return view_of(g, False).copy()
    return view_of(g, True)


cdef fg_array *cotangent_like(Tensor y, value, str name) except NULL:
    """value as a cotangent of y, in memory that only the core writes."""
    cdef fg_array *x
    if isinstance(value, Tensor):
        x = (<Tensor>value).t.array
        if x.storage == FG_OWNED and not x.unstable and x.dtype == y.t.array.dtype and fg_shape_equal(
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


def backward_to(list leaves, Tensor y):
    """The backward pass of the number y to leaves made just before y was computed: nothing older is touched."""
    cdef uint64_t oldest = ~<uint64_t>0
    cdef Tensor leaf
    for leaf in leaves:
        if leaf.t.node.number < oldest:
            oldest = leaf.t.node.number
    cdef fg_array *g = fg_array_new(y.t.array.shape, y.t.array.dtype)
    if g == NULL:
        fail(FG_NO_MEMORY)
    fg_kernels[g.dtype].reduce.fill(1, 1.0, g.data)
    status = fg_backward(y.t, g, False, oldest)
    fg_array_unref(g)
    check(status)


# ---- switches ---------------------------------------------------------------------------------------------
def set_grad_enabled(bint enabled):
    """Turn recording on or off in this thread; returns what it was."""
    global fg_grad_enabled
    was = fg_grad_enabled != 0
    fg_grad_enabled = enabled
    return was


def grad_enabled():
    """Whether operations are recorded in this thread."""
    return fg_grad_enabled != 0


def enter_transform(int step):
    """Count the functional transforms this thread is inside of, by +1 and -1."""
    global fg_transforms_running
    fg_transforms_running += step


# ---- kernels without a tape ---------------------------------------------------------------------------------
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


ROWS = {row["name"]: row for row in op_table()}


cdef int own_memory(Tensor x) except -1:
    """Before x is written: memory of its own, where another tensor looks into what it has or that is read-only."""
    cdef fg_array *other
    if not fg_array_is_private(x.t.array):
        other = fg_array_copy(x.t.array)
        if other == NULL:
            fail(FG_NO_MEMORY)
        x.t.array, other = other, x.t.array
        fg_array_unref(other)
    return 0


cdef fg_array *updated(x, fg_array *like, str name, str what) except NULL:
    """The array behind an ndarray or leaf Tensor that an optimizer kernel works on; a new reference."""
    cdef fg_array *r
    if isinstance(x, Tensor):
        if fg_tracing and fg_traced((<Tensor>x).t.array):
            refuse_traced()                     # the update would be made once, now
        if what != "gradient":
            own_memory(x)
        r = fg_array_ref((<Tensor>x).t.array)
    elif isinstance(x, cnp.ndarray):
        if what != "gradient" and not (cnp.PyArray_IS_C_CONTIGUOUS(x) and cnp.PyArray_ISALIGNED(x)
                                       and cnp.PyArray_ISWRITEABLE(x)):
            raise ValueError(f"{name}: the {what} must be a writable contiguous array")
        r = array_from(x, share=True)
    else:
        raise TypeError(f"{name}: expected the {what} as an ndarray or Tensor, got {type(x).__name__}")
    if r.dtype > FG_FLOAT64 or (like != NULL and (r.dtype != like.dtype or not fg_shape_equal(r.shape, like.shape))):
        got = f"{DTYPES[r.dtype]} of shape {shape_tuple(r.shape)}"
        fg_array_unref(r)
        if like == NULL:
            raise TypeError(f"{name}: expected the {what} as float32 or float64, got {got}")
        raise ValueError(f"{name}: expected the {what} as {DTYPES[like.dtype]} of shape {shape_tuple(like.shape)}, "
                         f"got {got}")
    return r


cdef void written(fg_array **a, int n) noexcept:
    """Let go of the arrays of an update, and tell the tape that all but the gradient, a[1], have changed."""
    for i in range(n):
        if a[i] != NULL:
            if i != 1:
                fg_array_changed(a[i])
            fg_array_unref(a[i])


def sgd(p, g, buffer, double lr, double momentum, double dampening, double weight_decay, bint nesterov, bint first):
    """One step of stochastic gradient descent on p in place (csrc/kernels.h); buffer is None without momentum."""
    cdef fg_array *a[3]
    a[0] = a[1] = a[2] = NULL
    try:
        a[0] = updated(p, NULL, "sgd", "parameter")
        a[1] = updated(g, a[0], "sgd", "gradient")
        if buffer is not None:
            a[2] = updated(buffer, a[0], "sgd", "momentum buffer")
        elif momentum != 0:
            raise ValueError("sgd: momentum needs a buffer")
        fg_kernels[a[0].dtype].reduce.sgd(a[0].shape.size, a[0].data, a[1].data,
                                          NULL if a[2] == NULL else a[2].data, lr, momentum, dampening,
                                          weight_decay, nesterov, first)
    finally:
        written(a, 3)


def adam(p, g, m, v, double lr, double beta1, double beta2, double eps, double weight_decay, bint decoupled,
         double correction1, double correction2):
    """One step of Adam or (decoupled) AdamW on p, m and v in place (csrc/kernels.h)."""
    cdef fg_array *a[4]
    a[0] = a[1] = a[2] = a[3] = NULL
    try:
        a[0] = updated(p, NULL, "adam", "parameter")
        a[1] = updated(g, a[0], "adam", "gradient")
        a[2] = updated(m, a[0], "adam", "first moment")
        a[3] = updated(v, a[0], "adam", "second moment")
        fg_kernels[a[0].dtype].reduce.adam(a[0].shape.size, a[0].data, a[1].data, a[2].data, a[3].data, lr, beta1,
                                           beta2, eps, weight_decay, decoupled, correction1, correction2)
    finally:
        written(a, 4)


def all_finite(x):
    """Whether a float array or tensor holds neither inf nor nan."""
    return first_not_finite([x]) < 0


def first_not_finite(list arrays):
    """Which of these float arrays or tensors is the first to hold an inf or nan; -1 if none does."""
    cdef Tensor operand
    cdef int dtype
    cdef int i = 0
    for x in arrays:
        if cnp.PyArray_CheckExact(x) and cnp.PyArray_ISCARRAY_RO(x) and 0 <= number_of(x) <= FG_FLOAT64:
            dtype = number_of(x)
            if not fg_kernels[dtype].reduce.all_finite(cnp.PyArray_SIZE(x), cnp.PyArray_DATA(x)):
                return i
        else:
            operand = as_float(x, "all_finite")
            if fg_tracing and fg_traced(operand.t.array):
                refuse_traced()
            if not fg_kernels[operand.t.array.dtype].reduce.all_finite(operand.t.array.shape.size, operand.t.array.data):
                return i
        i += 1
    return -1


# ---- the machine --------------------------------------------------------------------------------------------
def isa():
    """Name of the instruction set whose kernels are in use."""
    return fg_isa().decode()


def available_isas():
    """Names of the instruction sets that were built and that this machine has, the best last."""
    names, i = [], 0
    while fg_isa_available(i) != NULL:
        names.append(fg_isa_available(i).decode())
        i += 1
    return names


def set_blas(sgemm, dgemm, bint ilp64):
    """Give the core the addresses of cblas_sgemm and cblas_dgemm (None: it uses its own kernel throughout)."""
    fg_set_blas(<void *><size_t>(sgemm or 0), <void *><size_t>(dgemm or 0), ilp64)


def live():
    """What the core holds now: a dict of arrays, nodes, bytes in use and bytes kept for reuse."""
    return {"arrays": fg_live.arrays, "nodes": fg_live.nodes, "bytes": fg_live.bytes,
            "cached_bytes": fg_live.cached_bytes}


cdef start():
    forced = os.environ.get("FASTGRAD_ISA") or None
    name = forced.encode() if forced else None
    if fg_kernels_select(<const char *>name if name is not None else NULL) != FG_OK:
        raise ImportError(f"FASTGRAD_ISA={forced}: {fg_message().decode()}; available: {', '.join(available_isas())}")
    check(fg_init())


start()
