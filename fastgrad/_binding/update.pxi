# In-place updates by optimizers, which are not recorded, and the checks before them. Included by _core.pyx.

cdef int own_memory(Tensor x) except -1:
    """Give x memory of its own before it is written in place: a copy if another tensor shares it or it is read-only."""
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
        if fg_tracing and (fg_traced((<Tensor>x).t.array)
                           or (what != "gradient" and fg_trace_outside((<Tensor>x).t.array))):
            refuse_traced((<Tensor>x).t.array, "update")     # the update would be made once, now
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


def first_not_writable(arrays):
    """The index of the first ndarray that an update cannot write to, -1 if there is none. Tensors can be written."""
    for i, x in enumerate(arrays):
        if isinstance(x, cnp.ndarray) and not cnp.PyArray_ISCARRAY(x):
            return i
    return -1


cdef struct fg_span:
    size_t begin, end


cdef int by_begin(const void *a, const void *b) noexcept nogil:
    return ((<const fg_span *>a).begin > (<const fg_span *>b).begin) - (
        (<const fg_span *>a).begin < (<const fg_span *>b).begin)


def are_plain(list leaves not None, list gradients not None, states):
    """Whether all parameters are ndarrays that an update may write, each in memory of its own, and their gradients and
    states are ndarrays of the same shapes and dtypes. Where they are not, Python code finds out what is wrong, if
    anything is. ``states`` has a list of them for each slot."""
    cdef Py_ssize_t n = len(leaves), i
    cdef bint found = len(gradients) == n
    cdef cnp.ndarray p
    cdef fg_span *spans = <fg_span *>PyMem_Malloc((n + 1) * sizeof(fg_span))
    if spans == NULL:
        raise MemoryError("optimizer: no memory")
    try:
        for i in range(n if found else 0):
            if not cnp.PyArray_CheckExact(leaves[i]):
                return False
            p = leaves[i]
            if not (cnp.PyArray_ISCARRAY(p) and 0 <= number_of(p) <= FG_FLOAT64 and cnp.PyArray_SIZE(p)
                    and fits_beside(gradients[i], p)):
                return False
            spans[i].begin = <size_t>cnp.PyArray_DATA(p)
            spans[i].end = spans[i].begin + cnp.PyArray_NBYTES(p)
        for arrays in states:
            if len(<list>arrays) != n:
                return False
            for i in range(n if found else 0):
                if not fits_beside((<list>arrays)[i], leaves[i]):
                    return False
        qsort(spans, n if found else 0, sizeof(fg_span), by_begin)
        for i in range(1, n if found else 0):
            found = found and spans[i - 1].end <= spans[i].begin
        return found
    finally:
        PyMem_Free(spans)


def first_shared(leaves):
    """The indices of two leaves that are one array or share memory, the smaller first; None if there are none.

    ndarrays are taken for contiguous: in the order of their addresses each must end where the next begins, or before.
    A tensor whose memory is shared is copied before it is written, so only the tensor itself counts.
    """
    cdef dict seen = {}
    cdef list spans = []
    cdef Py_ssize_t i = 0, other = 0
    cdef size_t end = 0
    for x in leaves:
        if isinstance(x, cnp.ndarray):
            if cnp.PyArray_SIZE(x):
                spans.append((<size_t>cnp.PyArray_DATA(x), i, x))
        if isinstance(x, (cnp.ndarray, Tensor)):
            other = seen.setdefault(<size_t><void *>x, i)
            if other != i:
                return other, i
        i += 1
    if len(spans) > 1:
        spans.sort()                            # by address and index: no two have both, so arrays are not compared
        for address, i, x in spans:
            if <size_t>address < end:
                return (i, other) if i < other else (other, i)
            end, other = <size_t>address + cnp.PyArray_NBYTES(x), i
    return None


def all_finite(x):
    """Whether a float array or tensor holds neither inf nor nan."""
    return first_not_finite([x]) < 0


def first_not_finite(list arrays):
    """The index of the first of these float arrays, tensors or RowSparse that holds an inf or nan, -1 if none does."""
    cdef Tensor operand
    cdef int dtype
    cdef int i = 0
    for x in arrays:
        if isinstance(x, RowSparse):
            if not (<RowSparse>x).is_finite():
                return i
        elif cnp.PyArray_CheckExact(x) and cnp.PyArray_ISCARRAY_RO(x) and 0 <= number_of(x) <= FG_FLOAT64:
            dtype = number_of(x)
            if not fg_kernels[dtype].optim.all_finite(cnp.PyArray_SIZE(x), cnp.PyArray_DATA(x)):
                return i
        else:
            operand = as_float(x, "all_finite")
            if fg_tracing and fg_traced(operand.t.array):
                refuse_traced(operand.t.array, "branch")
            dtype = operand.t.array.dtype
            if not fg_kernels[dtype].optim.all_finite(operand.t.array.shape.size, operand.t.array.data):
                return i
        i += 1
    return -1
