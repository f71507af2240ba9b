# Patterns of sparse Jacobians as numbered sets, and colours of their rows (csrc/sparsity.h). Included by _core.pyx.

cdef int same_size(cnp.ndarray a, cnp.ndarray b) except -1:
    if cnp.PyArray_SIZE(a) != cnp.PyArray_SIZE(b):
        raise ValueError(f"expected arrays of one size, got {cnp.PyArray_SIZE(a)} and {cnp.PyArray_SIZE(b)}")
    return 0


cdef cnp.ndarray contiguous(x, dtype):
    return np.ascontiguousarray(x, dtype)


@cython.final
cdef class NumberedSets:
    """Sets of the integers below n, of which equal ones have one number: 0 is the empty set, k + 1 is {k}. Arrays of
    sets are int32 arrays of these numbers."""

    cdef fg_sets *sets
    cdef readonly int32_t n

    def __cinit__(self, int32_t n):
        if n < 0 or n == 2**31 - 1:
            raise ValueError(f"expected 0 to {2**31 - 2} elements, got {n}")
        self.n = n
        self.sets = fg_sets_new(n)
        if self.sets == NULL:
            fail(fg_failed())

    def __dealloc__(self):
        fg_sets_free(self.sets)

    def union(self, a not None, b not None):
        """The union of each set of an array with that in its place of another one of the same shape."""
        cdef cnp.ndarray x = contiguous(a, np.int32), y = contiguous(b, np.int32)
        same_size(x, y)
        cdef cnp.ndarray found = np.empty(np.shape(a), np.int32)
        check(fg_sets_union(self.sets, cnp.PyArray_SIZE(x), <int32_t *>cnp.PyArray_DATA(x),
                            <int32_t *>cnp.PyArray_DATA(y), <int32_t *>cnp.PyArray_DATA(found)))
        return found

    def gathered(self, sets not None, to not None, int64_t n, int64_t inner=1):
        """n sets, of which number j is the union of all ``sets[k]`` with ``to[k] == j``, both arrays flattened; with
        ``inner`` the same of n rows of so many sets, column by column."""
        cdef cnp.ndarray x = contiguous(sets, np.int32), places = contiguous(to, np.int64)
        if cnp.PyArray_SIZE(x) != cnp.PyArray_SIZE(places) * inner:
            raise ValueError(f"expected {cnp.PyArray_SIZE(places) * inner} sets, got {cnp.PyArray_SIZE(x)}")
        cdef cnp.ndarray found = np.empty(n * inner, np.int32)
        check(fg_sets_gather(self.sets, cnp.PyArray_SIZE(places), inner, <int32_t *>cnp.PyArray_DATA(x),
                             <int64_t *>cnp.PyArray_DATA(places), n, <int32_t *>cnp.PyArray_DATA(found)))
        return found

    def rows(self, sets not None):
        """(start, columns) of the matrix in CSR form that has each set, in the order of a flattened array, as a row:
        arrays of int64 and int32."""
        cdef cnp.ndarray x = contiguous(sets, np.int32)
        cdef cnp.ndarray start = np.empty(cnp.PyArray_SIZE(x) + 1, np.int64)
        fg_sets_starts(self.sets, cnp.PyArray_SIZE(x), <int32_t *>cnp.PyArray_DATA(x),
                       <int64_t *>cnp.PyArray_DATA(start))
        cdef cnp.ndarray columns = np.empty(start[-1], np.int32)
        fg_sets_columns(self.sets, cnp.PyArray_SIZE(x), <int32_t *>cnp.PyArray_DATA(x),
                        <int32_t *>cnp.PyArray_DATA(columns))
        return start, columns


def color_rows(cnp.ndarray start not None, cnp.ndarray columns not None, int64_t n_columns,
               int32_t most=2147483646):
    """(colors, how many) of the rows of a matrix in CSR form, whose ``start`` is int64 and ``columns`` int32: the first
    that is free for each row, in their order, and -1 for empty rows. None if more than ``most`` colours are needed."""
    cdef int64_t n = cnp.PyArray_SIZE(start) - 1
    cdef int32_t count
    cdef cnp.ndarray places = contiguous(start, np.int64), entries = contiguous(columns, np.int32)
    cdef cnp.ndarray colors = np.empty(n, np.int32)
    check(fg_color_rows(n, n_columns, <int64_t *>cnp.PyArray_DATA(places), <int32_t *>cnp.PyArray_DATA(entries), most,
                        <int32_t *>cnp.PyArray_DATA(colors), &count))
    return (colors, count) if count <= most else None


def entries_of_passes(cnp.ndarray start not None, cnp.ndarray columns not None, cnp.ndarray colors not None,
                      bint of_columns, ends not None, list passes not None):
    """The entries of a matrix in CSR form, in which columns ascend, from a pass for each colour of its rows.

    A pass has a number for each column; with ``of_columns`` there is one for each colour of the columns, with a number
    for each row. It is a list of float arrays, or None for zeros, of which array k has the numbers from ``ends[k]`` to
    ``ends[k + 1]``.
    """
    cdef cnp.ndarray entries = np.empty(cnp.PyArray_SIZE(columns), np.float64)
    cdef cnp.ndarray places = contiguous(start, np.int64), indices = contiguous(columns, np.int32)
    cdef cnp.ndarray mine = contiguous(colors, np.int32), between = contiguous(ends, np.int64)
    cdef list held = [None if x is None else contiguous(x, np.float64) for parts in passes for x in parts]
    cdef int k, n = len(held)
    cdef const double **given = <const double **>PyMem_Malloc((n + 1) * sizeof(double *))
    if given == NULL:
        raise MemoryError("no memory")
    for k in range(n):
        given[k] = NULL
        if held[k] is not None:
            given[k] = <const double *>cnp.PyArray_DATA(<cnp.ndarray>held[k])
    fg_entries_of_passes(cnp.PyArray_SIZE(places) - 1, <int64_t *>cnp.PyArray_DATA(places),
                         <int32_t *>cnp.PyArray_DATA(indices), <int32_t *>cnp.PyArray_DATA(mine), of_columns,
                         <int>cnp.PyArray_SIZE(between) - 1, <int64_t *>cnp.PyArray_DATA(between), given,
                         <double *>cnp.PyArray_DATA(entries))
    PyMem_Free(given)
    return entries
