# Gradients that are kept as rows, those of eager steps and of parts of a batch (csrc/program/row_sparse.c). Included by
# _core.pyx.

@cython.final
cdef class RowSparse:
    """The gradient of a table of which few rows were gathered: their numbers and values. All others are 0."""

    cdef fg_row_sums sums
    cdef fg_shape *whole
    cdef int number             # of the dtype

    def __dealloc__(self):
        free(self.sums.values)
        fg_shape_unref(self.whole)

    @property
    def shape(self):
        """That of the table."""
        return shape_tuple(self.whole)

    @property
    def dtype(self):
        return DTYPES[self.number]

    def __array__(self, dtype=None, copy=None):
        """The whole gradient, a new array, for np.asarray."""
        if copy is False:
            raise ValueError("numpy.asarray: a gradient that is kept as rows becomes an array by a copy only")
        cdef cnp.ndarray a = new_ndarray(self.whole, self.number)
        fg_row_sums_write(&self.sums, fg_itemsize(self.number), self.whole.size, cnp.PyArray_DATA(a))
        return a if dtype is None else a.astype(dtype)

    def plus(self, RowSparse other not None, double weight):
        """The sum of this gradient and ``weight`` times another one of the same table."""
        if self.shape != other.shape or self.number != other.number:
            raise ValueError(f"expected gradients of one table, got shapes {self.shape} and {other.shape}")
        return weighted_sum([self, other], [1.0, weight])

    def times(self, double weight):
        """``weight`` times this gradient."""
        return weighted_sum([self], [weight])

    cdef bint is_finite(self):
        return fg_kernels[self.number].optim.all_finite(self.sums.n * self.sums.width, self.sums.values) != 0


cdef RowSparse row_sparse(fg_row_terms *terms, Tensor x):
    """The gradient by x that these terms make."""
    cdef RowSparse r = RowSparse.__new__(RowSparse)
    r.number, r.whole = x.t.array.dtype, fg_shape_ref(x.t.array.shape)
    check(fg_row_terms_sum(terms, r.whole, r.number, &r.sums))
    return r


cdef int add_term(fg_row_terms *terms, RowSparse g, double weight) except -1:
    """Add a term: weight times the rows of g."""
    cdef int64_t dim[FG_MAX_NDIM]
    cdef int i
    cdef fg_shape *shape
    cdef fg_row_term *term = &terms.term[terms.n]
    for i in range(1, g.whole.ndim):
        dim[i] = g.whole.dim[i]
    dim[0] = g.sums.n
    terms.n += 1
    shape = fg_shape_new(1, dim)
    term.index = fg_array_new(shape, FG_INT64) if shape != NULL else NULL
    fg_shape_unref(shape)
    shape = fg_shape_new(g.whole.ndim, dim)
    term.values = fg_array_new(shape, g.number) if shape != NULL else NULL
    fg_shape_unref(shape)
    if term.index == NULL or term.values == NULL:
        fail(FG_NO_MEMORY)
    memcpy(term.index.data, g.sums.row, g.sums.n * sizeof(int64_t))
    fg_kernels[g.number].optim.clip(g.sums.n * g.sums.width, weight, INFINITY, g.sums.values, term.values.data)
    return 0


cdef RowSparse weighted_sum(list gradients, list weights):
    cdef RowSparse r = RowSparse.__new__(RowSparse), first = gradients[0]
    cdef fg_row_terms terms
    cdef int i
    r.number, r.whole = first.number, fg_shape_ref(first.whole)
    terms.n = 0
    try:
        for i in range(len(gradients)):
            add_term(&terms, gradients[i], weights[i])
        check(fg_row_terms_sum(&terms, r.whole, r.number, &r.sums))
    finally:
        fg_row_terms_drop(&terms)
    return r


def gradients_by_rows(Tensor y, list inputs):
    """As ``gradients``, of a pass that is not recorded, with a RowSparse where a gradient arises from gathers of few
    rows alone."""
    if y.t.node == NULL or fg_tracing:
        return gradients(y, inputs, False)
    cdef _GradientCall p = _GradientCall([y], inputs)
    cdef fg_tensor one = one_like(y)
    cdef int i, status
    cdef fg_row_terms *rows = <fg_row_terms *>PyMem_Calloc(p.n + 1, sizeof(fg_row_terms))
    try:
        if rows == NULL:
            raise MemoryError("no memory for a backward pass")
        check(fg_gradients_by_rows(1, p.y, &one, False, p.n, p.wrt, p.out, rows))
        found = [wrap(p.out[i]) if p.out[i].array != NULL else None for i in range(p.n)]
        for i in range(p.n):
            if rows[i].n:
                found[i] = row_sparse(&rows[i], inputs[i])
            elif found[i] is None:
                found[i] = zeros_like(inputs[i])
        return found
    finally:
        fg_tensor_unref(one)
        for i in range(p.n if rows != NULL else 0):
            fg_row_terms_drop(&rows[i])
        PyMem_Free(rows)
