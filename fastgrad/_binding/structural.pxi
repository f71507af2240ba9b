# Structural operations (csrc/structural.def) under NumPy's names and rules. Included by _core.pyx.

# ---- axes -----------------------------------------------------------------------------------------------
cdef int normal_axis(axis, int ndim, str name) except -1:
    try:
        number = index_of(axis)
    except TypeError:
        raise TypeError(f"{name}: expected an axis as an int, a tuple of ints or None, got {axis!r}") from None
    if not -ndim <= number < ndim:
        raise np.exceptions.AxisError(
            f"{name}: axis {number} does not exist in a tensor of {ndim} dimension{'' if ndim == 1 else 's'}"
        )
    return number % ndim


# The functions that take the axis 0 or -1 of a number without axes, as NumPy's and SciPy's do; it stands for no axes.
cdef frozenset OF_NUMBERS = frozenset((
    "all", "any", "count_nonzero", "log_softmax", "logsumexp", "max", "min", "nanmean", "nanstd", "nanvar", "prod",
    "softmax", "squeeze", "sum",
))


cdef bint means_number(axes, str name) except -1:
    return name in OF_NUMBERS and isinstance(axes, (int, np.integer)) and -1 <= axes <= 0


def normal_axes(axes, int ndim, str name):
    """The axes (an int, a tuple or list of them, or None for all) as a sorted tuple of numbers of 0 or more."""
    if axes is None:
        return tuple(range(ndim))
    if ndim == 0 and means_number(axes, name):
        return ()
    found = []
    for item in (axes if isinstance(axes, (tuple, list)) else (axes,)):
        axis = normal_axis(item, ndim, name)
        if axis in found:
            raise ValueError(f"{name}: axis {item} is named twice in {axes!r}")
        found.append(axis)
    return tuple(sorted(found))


cdef int axis_bits(axes, int ndim, str name, uint32_t *bits) except -1:
    """Axes as a set of bits, in which reductions take them as an attribute."""
    if axes is None:
        bits[0] = <uint32_t>((<int64_t>1 << ndim) - 1)
    elif ndim == 0 and means_number(axes, name):
        bits[0] = 0
    elif isinstance(axes, (tuple, list)):
        bits[0] = 0
        for axis in normal_axes(axes, ndim, name):
            bits[0] |= <uint32_t>1 << <int>axis
    else:
        bits[0] = <uint32_t>1 << normal_axis(axes, ndim, name)
    return 0


# ---- operations -----------------------------------------------------------------------------------------
cdef Tensor apply_one(int op, Tensor x, int n_attr, const int64_t *attr):
    cdef fg_tensor y
    check(fg_apply(op, 1, &x.t, n_attr, attr, &y))
    return wrap(y)


cdef Tensor reduction(int op, x, axis, keepdims, str name):
    cdef Tensor operand = as_tensor(x, name)
    cdef uint32_t bits
    cdef int64_t attr[2]
    axis_bits(axis, operand.t.array.shape.ndim, name, &bits)
    if operand.t.array.dtype > FG_FLOAT64:
        if not is_traced(operand):
            axes = normal_axes(axis, operand.t.array.shape.ndim, name)
            return by_numpy(getattr(np, name), operand, axis=axes, keepdims=bool(keepdims))
        if op == FG_OP_sum:
            operand = astype_if(operand, summed_dtype(operand.dtype))
    attr[0] = bits
    attr[1] = bool(keepdims)
    return apply_one(op, operand, 2, attr)


def summed_dtype(dtype):
    """The dtype in which NumPy adds and multiplies integers and booleans of this dtype: of 64 bits."""
    return DTYPES[FG_UINT64 if dtype.kind == "u" else FG_INT64]


@public
def sum(a, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None):
    """Sum of elements over axes.

    ``axis`` is an int, a tuple of ints, or None for all; ``keepdims`` keeps the axes with length 1. float32 and
    float64 are kept, integers are summed as NumPy does. Additions are pairwise. ``where`` chooses elements by a mask
    that broadcasts, ``initial`` is a number to begin with, ``dtype`` what is computed in. ``out`` is a tensor that
    takes the result, in place, and is returned; TypeError for an ndarray, which would lose the gradient.

    >>> import fastgrad as fg
    >>> fg.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([4., 6.])
    """
    if dtype is not None or out is not None or initial is not None or where is not None:
        return composed.reduced_with("sum", a, axis, keepdims, dtype, out, initial, where)
    return reduction(FG_OP_sum, a, axis, keepdims, "sum")


@public
def max(a, axis=None, out=None, keepdims=False, initial=None, where=None):
    """Largest element over axes; elements that tie share the gradient equally. nan if any element is nan.

    Keywords as in ``sum``; with ``where``, ``initial`` must be given, else ValueError.

    >>> import fastgrad as fg
    >>> fg.max([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([2., 4.])
    """
    if out is not None or initial is not None or where is not None:
        return composed.reduced_with("max", a, axis, keepdims, None, out, initial, where)
    return reduction(FG_OP_max, a, axis, keepdims, "max")


@public
def min(a, axis=None, out=None, keepdims=False, initial=None, where=None):
    """Smallest element over axes; elements that tie share the gradient equally. nan if any element is nan.

    Keywords as in ``sum``; with ``where``, ``initial`` must be given, else ValueError.

    >>> import fastgrad as fg
    >>> fg.min([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([1., 3.])
    """
    if out is not None or initial is not None or where is not None:
        return composed.reduced_with("min", a, axis, keepdims, None, out, initial, where)
    return reduction(FG_OP_min, a, axis, keepdims, "min")


@public
def mean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=None):
    """Arithmetic mean of elements over axes: their sum over their number (nan for none). Keywords as in ``sum``.

    >>> import fastgrad as fg
    >>> fg.mean([[1.0, 2.0], [3.0, 4.0]])
    tensor(2.5)
    """
    if dtype is not None or out is not None or where is not None:
        return composed.reduced_with("mean", a, axis, keepdims, dtype, out, None, where)
    cdef Tensor operand = as_tensor(a, "mean")
    if operand.t.array.dtype > FG_FLOAT64:
        operand = cast_integers(operand, FLOAT64)
    cdef uint32_t bits
    cdef int64_t attr[2]
    cdef int64_t count = 1
    cdef int i
    cdef fg_shape *s = operand.t.array.shape
    axis_bits(axis, s.ndim, "mean", &bits)
    for i in range(s.ndim):
        if bits >> i & 1:
            count *= s.dim[i]
    attr[0] = bits
    attr[1] = bool(keepdims)
    return binary(FG_OP_divide, apply_one(FG_OP_sum, operand, 2, attr), <double>count)


@public
def reshape(a, shape, order="C", *, copy=None):
    """The same elements in another shape; one length may be -1 and is worked out.

    ``order="F"`` reads and places the elements with the first index changing fastest, ``"C"`` with the last; ``"A"`` is
    ``"C"``, as tensors are in row-major order. No elements are copied in that order, unless ``copy=True`` asks for it.
    Raises ValueError for another order, or where the elements do not fill the shape.

    >>> import fastgrad as fg
    >>> fg.reshape([1.0, 2.0, 3.0, 4.0], (2, -1)).shape
    (2, 2)
    >>> fg.reshape([1.0, 2.0, 3.0, 4.0], (2, 2), order="F")
    tensor([[1., 3.],
            [2., 4.]])
    """
    cdef Tensor operand = as_tensor(a, "reshape")
    if order != "C" and order != "A":
        if order != "F":
            raise ValueError(f"reshape: expected order as 'C', 'F' or 'A', got {order!r}")
        filled = reshape(operand, shape).shape
        return transpose(reshape(transpose(operand), filled[::-1], copy=copy))
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
            raise ValueError(f"reshape: shape {operand.shape} has {operand.size} elements, {shape} would have more "
                             "than memory can hold")
        else:
            known *= dim[n]
        n += 1
    if unknown >= 0:
        if known == 0 or operand.t.array.shape.size % known:
            raise ValueError(f"reshape: {operand.t.array.shape.size} elements of shape {operand.shape} do not fill "
                             f"the shape {shape} evenly")
        dim[unknown] = operand.t.array.shape.size // known
    if copy is True:
        operand = astype(operand, operand.dtype)
    return apply_one(FG_OP_reshape, operand, n, dim)


cdef int64_t index_number(item, str name, what) except? -2:
    try:
        return index_of(item)
    except TypeError:
        raise TypeError(f"{name}: expected a shape as an int or a tuple of ints, got {what!r}") from None
    except OverflowError:
        raise ValueError(f"{name}: the length {item!r} is more than memory can hold") from None


@public
def transpose(a, axes=None):
    """The axes in another order: reversed, or as the permutation ``axes`` says.

    >>> import fastgrad as fg
    >>> fg.transpose(fg.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    cdef Tensor operand = as_tensor(a, "transpose")
    cdef int64_t order[FG_MAX_NDIM]
    cdef int i, ndim = operand.t.array.shape.ndim
    if axes is None:
        for i in range(ndim):
            order[i] = ndim - 1 - i
    else:
        given = axes if isinstance(axes, (tuple, list)) else (axes,)
        numbers = [normal_axis(axis, ndim, "transpose") for axis in given]
        if sorted(numbers) != list(range(ndim)):
            raise ValueError(f"transpose: expected each axis of shape {operand.shape} once, got the axes {axes!r}")
        for i in range(ndim):
            order[i] = numbers[i]
    return apply_one(FG_OP_transpose, operand, ndim, order)


@public
def broadcast_to(array, shape):
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
    return apply_one(FG_OP_broadcast_to, as_tensor(array, "broadcast_to"), n, dim)


cdef extern from "Python.h":
    int PySlice_Unpack(object, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t *step) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t length, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t step)


cdef inline bint is_basic(key):
    """Python's own integers and slices, None and Ellipsis; other kinds of keys go to _numpy/indexing.py."""
    return type(key) is int or type(key) is slice or key is None or key is Ellipsis


def basic(Tensor x, keys):
    """Basic indexing, by integers, slices, None and at most one Ellipsis: a slice followed by a reshape, each left out
    if it changes nothing."""
    cdef fg_shape *s = x.t.array.shape
    cdef int64_t attr[3 * FG_MAX_NDIM]
    cdef int64_t shape[FG_MAX_NDIM]
    cdef int64_t length
    cdef Py_ssize_t start, stop, step
    cdef int named = 0, axis = 0, n = s.ndim
    cdef bint ellipsis = False, sliced = False
    for key in keys:
        if key is Ellipsis:
            if ellipsis:
                raise IndexError("indexing: an index can hold only one ellipsis (...)")
            ellipsis = True
        elif key is None:
            n += 1
        else:
            named += 1
            n -= not isinstance(key, slice)
    if named > s.ndim:
        raise IndexError(f"indexing: {named} indices for a tensor of {s.ndim} dimension{'s' * (s.ndim != 1)}")
    if n > FG_MAX_NDIM:
        raise ValueError(f"indexing: a tensor has at most {FG_MAX_NDIM} axes, got an index that would make {n}")
    n = 0
    for key in (keys if ellipsis else (*keys, Ellipsis)):
        if key is None:
            shape[n] = 1
            n += 1
            continue
        if key is Ellipsis:
            for _ in range(s.ndim - named):
                attr[3 * axis], attr[3 * axis + 1], attr[3 * axis + 2] = 0, 1, s.dim[axis]
                shape[n] = s.dim[axis]
                axis += 1
                n += 1
            continue
        if isinstance(key, slice):
            PySlice_Unpack(key, &start, &stop, &step)
            length = PySlice_AdjustIndices(s.dim[axis], &start, &stop, step)
            shape[n] = length
            n += 1
        else:
            start, step, length = position_of(key, axis, s.dim[axis]), 1, 1
        attr[3 * axis], attr[3 * axis + 1] = start if length else 0, step if length > 1 else 1
        attr[3 * axis + 2] = length
        sliced |= length != s.dim[axis] or attr[3 * axis + 1] != 1
        axis += 1
    part = apply_one(FG_OP_slice, x, 3 * s.ndim, attr) if sliced else x
    if sliced and n == s.ndim and memcmp(shape, (<Tensor>part).t.array.shape.dim, n * sizeof(int64_t)) == 0:
        return part
    return apply_one(FG_OP_reshape, part, n, shape)


cdef Py_ssize_t position_of(key, int axis, Py_ssize_t length) except -1:
    """An integer of an index, counted from the first element."""
    i = index_of(key)
    if not -length <= i < length:
        raise IndexError(f"indexing: index {i} is outside axis {axis} of length {length}")
    return i % length


def gathered(Tensor x, Tensor index, int axis):
    """x's elements at the int64 indices along an axis; the index's shape takes the axis's place."""
    cdef fg_tensor y
    cdef fg_tensor operands[2]
    cdef int64_t attr[2]
    operands[0], operands[1] = x.t, index.t
    attr[0], attr[1] = axis, 0
    check(fg_apply(FG_OP_take, 2, operands, 2, attr, &y))
    return wrap(y)


@public
def concatenate(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """Joined along an existing axis; ``axis=None`` joins the raveled inputs.

    All inputs must have the same shape but for that axis. They are converted to ``dtype``, or else to the dtype that
    NumPy promotes them to, with a TypeError where ``casting`` does not allow it. ``out`` is a tensor that takes the
    result, in place, and is returned.

    >>> import fastgrad as fg
    >>> fg.concatenate([[1.0], [2.0, 3.0]])
    tensor([1., 2., 3.])
    """
    if out is not None:
        return composed.stored("concatenate", out, concatenate(arrays, axis, dtype=dtype, casting=casting))
    try:
        arrays = list(arrays)
    except TypeError:
        raise TypeError(f"concatenate: expected a list of arrays, got {arrays!r}") from None
    if not arrays:
        raise ValueError("concatenate: expected at least one array, got none")
    if dtype is not None or casting != "same_kind":
        arrays = cast_arrays("concatenate", arrays, dtype, casting)
    dtype, tensors = promoted("concatenate", *arrays)
    tensors = [astype_if(t, dtype) for t in tensors]
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


def cast_arrays(name, arrays, dtype, casting):
    """Arrays as tensors of a dtype, or, where that is None, of the one that they have together; TypeError where
    ``casting`` forbids it."""
    tensors = [asarray(a) for a in arrays]
    if dtype is None and (casting == "same_kind" or not tensors):       # the operation itself promotes them
        return tensors
    dtype = np.result_type(*[t.dtype for t in tensors]) if dtype is None else np.dtype(dtype)
    for t in tensors:
        if not np.can_cast(t.dtype, dtype, casting):
            raise TypeError(f"{name}: {t.dtype} is not converted to {dtype} by the rule casting={casting!r}")
    return [astype_if(t, dtype) for t in tensors]


def stacked(list tensors, int axis):
    """Tensors, at least one, joined along a new axis; ValueError unless all have one shape."""
    cdef fg_shape *s = (<Tensor>tensors[0]).t.array.shape
    cdef int64_t dim[FG_MAX_NDIM]
    cdef fg_tensor y
    cdef int k
    for k in range(1, len(tensors)):
        if not fg_shape_equal(s, (<Tensor>tensors[k]).t.array.shape):
            raise ValueError(f"stack: input 0 has shape {tensors[0].shape}, input {k} has {tensors[k].shape}; all must "
                             "be the same")
    if s.ndim == FG_MAX_NDIM:                   # the error of a shape with too many axes
        reshape(tensors[0], (1, *tensors[0].shape))
    for k in range(s.ndim + 1):
        dim[k] = 1 if k == axis else s.dim[k - (k > axis)]
    thicker = []
    for k in range(len(tensors)):
        check(fg_apply(FG_OP_reshape, 1, &(<Tensor>tensors[k]).t, s.ndim + 1, dim, &y))
        thicker.append(wrap(y))
    return concatenate(thicker, axis)


@public
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
        mask = compare_values(FG_OP_not_equal, mask, 0)
    dtype, tensors = promoted("where", x, y)
    a = tensors[0] if tensors[0].dtype == dtype else astype(tensors[0], dtype)
    b = tensors[1] if tensors[1].dtype == dtype else astype(tensors[1], dtype)
    operands[0], operands[1], operands[2] = mask.t, (<Tensor>a).t, (<Tensor>b).t
    check(fg_apply(FG_OP_where, 3, operands, 0, NULL, &result))
    return wrap(result)


@public
def matmul(a, b):
    """Matrix product, as NumPy's: the last two axes are matrices, axes before them broadcast, and an operand with
    one axis is a row (a) or a column (b) whose axis is dropped from the result.

    >>> import fastgrad as fg
    >>> fg.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    tensor([3., 7.])
    """
    cdef fg_tensor y
    cdef Tensor left, right
    if not (type(a) is Tensor and type(b) is Tensor and (<Tensor>a).t.array.dtype == (<Tensor>b).t.array.dtype
            and (<Tensor>a).t.array.dtype <= FG_FLOAT64):
        if is_stored_transposed(a) and has_axes(b, 0, a.shape[1]):
            return transposed_product(a, b, 0)
        if is_stored_transposed(b) and has_axes(a, 1, b.shape[0]):
            return transposed_product(b, a, 1)
        dtype, (a, b) = promoted("matmul", a, b)
        a, b = astype_if(a, dtype), astype_if(b, dtype)
    left, right = a, b
    if left.t.array.dtype > FG_FLOAT64:
        check(fg_matmul_check(left.t.array.shape, right.t.array.shape))
        return integer_matmul(left, right)
    check(fg_matmul(left.t, right.t, &y))
    return wrap(y)


cdef bint is_stored_transposed(x):
    """Whether x is an ndarray such as A.T, whose elements are in the order of columns."""
    return (type(x) is np_ndarray and x.ndim == 2 and x.dtype.char in "fd" and x.dtype.isnative
            and x.flags.f_contiguous and not x.flags.c_contiguous)


cdef bint has_axes(x, int axis, Py_ssize_t length):
    """Whether x is a matrix, or a vector, with so many elements along an axis: of others an error may tell."""
    return (type(x) is Tensor or type(x) is np_ndarray) and x.dtype.char in "fd" and (
        x.ndim == 1 and x.shape[0] == length or x.ndim == 2 and x.shape[axis] == length)


cdef Tensor transposed_product(x, other, int k):
    """x @ other (k = 0) or other @ x (k = 1), where x is stored transposed: a product with a flag, without a copy of x
    in the order of rows."""
    cdef fg_tensor operands[2]
    cdef fg_tensor y
    cdef int64_t flags[2]
    cdef Tensor matrix, factor
    dtype, (stored, right) = promoted("matmul", x.T, other)
    matrix, factor = astype_if(stored, dtype), astype_if(right, dtype)
    if other.ndim == 1:
        factor = reshape(factor, (1, -1) if k else (-1, 1))
    flags[k], flags[1 - k] = 1, 0
    operands[k], operands[1 - k] = matrix.t, factor.t
    check(fg_apply(FG_OP_matmul, 2, operands, 2, flags, &y))
    product = wrap(y)
    return reshape(product, (-1,)) if other.ndim == 1 else product


cdef Tensor integer_matmul(Tensor a, Tensor b):
    """NumPy's product of integers. A vector is reshaped to a matrix, because the batching rule of a host call only
    knows functions whose operands broadcast."""
    if a.ndim > 1 and b.ndim > 1:
        return by_numpy(np.matmul, a, b)
    y = by_numpy(np.matmul, reshape(a, (1, -1)) if a.ndim == 1 else a, reshape(b, (-1, 1)) if b.ndim == 1 else b)
    return reshape(y, (*y.shape[:-2], *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())))


cdef Tensor astype_if(Tensor x, dtype):
    return x if DTYPES[x.t.array.dtype] == dtype else astype(x, dtype)


@public
def astype(array, dtype, *, copy=True, device=None):
    """The elements as another dtype, in memory of their own. Between float32 and float64 gradients pass; as integers or
    booleans the elements are data without a gradient. With ``copy=False`` a tensor that has the dtype is returned as it
    is. ``device`` is "cpu" or None, else ValueError.

    >>> import fastgrad as fg
    >>> fg.astype([1, 2], "float32")
    tensor([1., 2.], dtype=float32)
    """
    cdef Tensor x = as_tensor(array, "astype")
    cdef int number = dtype_number(np.dtype(dtype))
    if device is not None:
        check_device(device, "astype")
    if number == x.t.array.dtype and not copy:
        return x
    cdef int64_t attr = number
    if number <= FG_FLOAT64 or x.t.array.dtype > FG_FLOAT64:
        return apply_one(FG_OP_cast, x, 1, &attr)
    return apply_one(FG_OP_cast, x.detach(), 1, &attr)


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
