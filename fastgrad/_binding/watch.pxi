# Whether what a program read from outside its arguments is still as it was. Included by _core.pyx.

cdef extern from "Python.h":
    PyObject *PyCell_GET(object)
    PyObject *PyList_GET_ITEM(object, Py_ssize_t)
    Py_ssize_t PyList_GET_SIZE(object)

cdef enum:
    WATCHES_CELL, WATCHES_ITEM, WATCHES_SLOT, WATCHES_LIST, WATCHES_SIZE, WATCHES_ARRAY, WATCHES_PIECES

cdef dict WATCHES = {"cell": WATCHES_CELL, "item": WATCHES_ITEM, "slot": WATCHES_SLOT, "list": WATCHES_LIST,
                     "size": WATCHES_SIZE, "array": WATCHES_ARRAY}

ABSENT = object()               # for the value of an item that is not there

cdef enum:
    SMALL = 1024            # bytes of an array that is compared whole at each call; of a larger one
    PIECE = 256             # so many at each call, at another place each time,
    MOST_PIECES = 4096      # of at most so many places; up to a megabyte they are the whole array


cdef struct fg_place:
    int kind                    # WATCHES_...
    PyObject *holder            # borrowed from `Watch.held`: a cell, dict, object, list or array
    PyObject *key               # of an item: the key; of a slot: its descriptor
    PyObject *value             # what was found there; of a list, a tuple of its items
    char *bytes                 # of an array: a copy of its memory, or of pieces of it
    Py_ssize_t size, pieces, step   # of an array: its bytes, how many pieces, and how far apart they begin
    bint differs                # a piece was found that differs


cdef const char *memory_of_elements(object x, Py_ssize_t *size):
    """The memory of an ndarray or tensor; NULL if it has gaps or no elements."""
    cdef cnp.ndarray a
    cdef fg_array *t
    size[0] = 0
    if isinstance(x, Tensor):
        t = (<Tensor>x).t.array
        if t.data != NULL:
            size[0] = t.shape.size * <Py_ssize_t>fg_itemsize(t.dtype)
        return <const char *>t.data
    a = x
    if not (cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_IS_F_CONTIGUOUS(a)):
        return NULL
    size[0] = cnp.PyArray_NBYTES(a)
    return cnp.PyArray_BYTES(a)


cdef inline Py_ssize_t start_of(const fg_place *p, Py_ssize_t k) noexcept:
    """Where in an array piece k begins. The last one ends with the array."""
    return k * p.step if k * p.step < p.size - PIECE else p.size - PIECE


cdef inline bint same_object(PyObject *found, PyObject *expected):
    """Whether both are one object, or equal numbers, strings or tuples of such."""
    return found == expected or (found != NULL and expected != NULL and same_value(<object>found, <object>expected))


cdef bint same_value(found, expected):
    if type(found) is not type(expected):
        return False
    if issubclass(type(found), np.generic):
        return found.tobytes() == expected.tobytes()
    return same_constant(found, expected)


@cython.final
cdef class Watch:
    """Places outside of the arguments of a function, and what was found there when it was traced.

    Made from tuples (kind, holder, key, value, name): the contents of a "cell", an "item" of a dict, a "slot" of an
    object, a "list" by its items, the "size" of a dict, the elements of an "array". Of an array of more than SMALL
    bytes each call compares one piece, the next one each time. No code of the user's runs in a comparison.
    """

    cdef fg_place *places
    cdef int n
    cdef Py_ssize_t turn        # counts the calls: which pieces are compared next
    cdef list held, names

    def __cinit__(self):
        self.held, self.names = [], []

    def __init__(self, list places not None):
        cdef int i
        if self.places != NULL:
            raise RuntimeError("a Watch is made once")
        self.names = [place[4] for place in places]
        self.places = <fg_place *>PyMem_Calloc(len(places) + 1, sizeof(fg_place))
        if self.places == NULL:
            raise MemoryError("no memory for what a program reads from outside")
        for i, (kind, holder, key, value, _) in enumerate(places):
            self.held.append([holder, key, value])
            self.places[i] = fg_place(
                WATCHES[kind], <PyObject *>holder, <PyObject *>key, <PyObject *>value, NULL, 0, 0, 0, False)
            if value is ABSENT:
                self.places[i].value = NULL
            self.n = i + 1
            if kind == "array":
                self.copy(&self.places[i])

    def __dealloc__(self):
        cdef int i
        for i in range(self.n):
            PyMem_Free(self.places[i].bytes)
        PyMem_Free(self.places)

    cdef int copy(self, fg_place *p) except -1:
        """Copy the memory of an array, or pieces of it."""
        cdef Py_ssize_t k
        cdef const char *data = memory_of_elements(<object>p.holder, &p.size)
        if data == NULL or p.size == 0:
            return 0
        p.pieces, p.step = 1, 0
        if p.size > SMALL:
            p.kind = WATCHES_PIECES
            p.pieces = (p.size + PIECE - 1) // PIECE
            if p.pieces > MOST_PIECES:
                p.pieces = MOST_PIECES
            p.step = (p.size - PIECE + p.pieces - 2) // (p.pieces - 1)
        p.bytes = <char *>PyMem_Malloc(p.pieces * (PIECE if p.kind == WATCHES_PIECES else p.size) + 1)
        if p.bytes == NULL:
            raise MemoryError("no memory for a copy of an array that a program reads from outside")
        if p.kind == WATCHES_ARRAY:
            memcpy(p.bytes, data, p.size)
        for k in range(p.pieces if p.kind == WATCHES_PIECES else 0):
            memcpy(p.bytes + k * PIECE, data + start_of(p, k), PIECE)
        return 0

    cdef bint is_same(self, int i) except -1:
        """Whether the place is as it was; of a large array, whether one piece is."""
        cdef fg_place *p = &self.places[i]
        cdef PyObject *found = NULL
        cdef Py_ssize_t k, size
        cdef const char *data
        if p.kind == WATCHES_CELL:
            found = PyCell_GET(<object>p.holder)
        elif p.kind == WATCHES_ITEM:
            found = PyDict_GetItemWithError(<object>p.holder, <object>p.key)
        elif p.kind == WATCHES_SIZE:
            return len(<dict>p.holder) == <object>p.value
        elif p.kind == WATCHES_LIST:
            if PyList_GET_SIZE(<object>p.holder) != len(<tuple>p.value):
                return False
            for k in range(len(<tuple>p.value)):
                item = (<tuple>p.value)[k]
                if not same_object(PyList_GET_ITEM(<object>p.holder, k), <PyObject *>item):
                    return False
            return True
        elif p.kind == WATCHES_ARRAY or p.kind == WATCHES_PIECES:
            if p.bytes == NULL:
                return True
            data = memory_of_elements(<object>p.holder, &size)
            if data == NULL or size != p.size:
                return False
            if p.kind == WATCHES_ARRAY:
                return memcmp(p.bytes, data, size) == 0
            k = self.turn % p.pieces
            p.differs = p.differs or memcmp(p.bytes + k * PIECE, data + start_of(p, k), PIECE) != 0
            return not p.differs
        else:
            try:
                value = (<object>p.key).__get__(<object>p.holder, type(<object>p.holder))
            except AttributeError:
                return False
            return same_object(<PyObject *>value, p.value)
        return same_object(found, p.value)

    cpdef bint holds(self) except -1:
        """Whether everything is as it was, as far as this call compares it."""
        cdef int i
        self.turn += 1
        for i in range(self.n):
            if not self.is_same(i):
                return False
        return True

    def changes(self):
        """The names of the places that are not as they were. For each, whether earlier calls may have missed the
        change: that of an array of which calls compare pieces, and of which some pieces are as they were."""
        return [(self.names[i], self.is_partly_same(i)) for i in range(self.n) if not self.is_same(i)]

    cdef bint is_partly_same(self, int i):
        cdef fg_place *p = &self.places[i]
        cdef Py_ssize_t k, size
        cdef const char *data
        if p.kind == WATCHES_PIECES:
            data = memory_of_elements(<object>p.holder, &size)
            for k in range(p.pieces if data != NULL and size == p.size else 0):
                if memcmp(p.bytes + k * PIECE, data + start_of(p, k), PIECE) == 0:
                    return True
        return False

    def forget_changes(self):
        """Leave out the places that are not as they were; returns their names. For a watch that no other thread has."""
        cdef int i, kept = 0
        cdef list found = []
        for i in range(self.n):
            if self.is_same(i):
                self.places[i], self.places[kept] = self.places[kept], self.places[i]
                self.held[i], self.held[kept] = self.held[kept], self.held[i]
                self.names[i], self.names[kept] = self.names[kept], self.names[i]
                kept += 1
            else:
                found.append(self.names[i])
                PyMem_Free(self.places[i].bytes)
                self.places[i].bytes = NULL
        self.n = kept
        del self.held[kept:], self.names[kept:]
        return found

    def is_of_constants(self):
        """Whether only numbers and strings differ from what they were, so that they may become the same again."""
        cdef int i
        for i in range(self.n):
            if not self.is_same(i) and (self.places[i].kind > WATCHES_SLOT or not is_constant(self.held[i][2])):
                return False
        return True


cdef bint is_constant(x):
    return x is None or issubclass(type(x), (bool, int, float, complex, str, bytes, np.generic))
