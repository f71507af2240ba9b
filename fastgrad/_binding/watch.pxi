# Whether what a program read from outside its arguments is still as it was. Included by _core.pyx.

cdef object np_ndarray = np.ndarray

cdef extern from "Python.h":
    char *PyBytes_AS_STRING(object)
    PyObject *PyCell_GET(object)
    PyObject *PyFunction_GET_CODE(object)
    PyObject *PyList_GET_ITEM(object, Py_ssize_t)
    Py_ssize_t PyList_GET_SIZE(object)

cdef enum:
    WATCHES_CELL, WATCHES_ITEM, WATCHES_SLOT, WATCHES_CODE, WATCHES_LIST, WATCHES_ITEMS, WATCHES_OBJECTS, WATCHES_DICT
    WATCHES_SIZE, WATCHES_ARRAY, WATCHES_PIECES

cdef dict WATCHES = {"cell": WATCHES_CELL, "item": WATCHES_ITEM, "slot": WATCHES_SLOT, "code": WATCHES_CODE,
                     "list": WATCHES_LIST, "items": WATCHES_ITEMS, "objects": WATCHES_OBJECTS, "dict": WATCHES_DICT,
                     "size": WATCHES_SIZE, "array": WATCHES_ARRAY}

ABSENT = object()               # for the value of an item that is not there

cdef enum:
    SMALL = 1024            # bytes of an array that is compared whole at each call; of a larger one
    PIECE = 256             # a piece of so many at each call, the next one each time, in turn all of it;
    WORK_PER_PIECE = 1000   # of a program that takes long one more piece for so many nanoseconds of a replay,
    MOST_AT_ONCE = 1 << 16  # up to so many;
    GAPS = 32               # and fewer by this factor of an array with gaps, of which a piece takes longer
    PART = 1                # what a new trace that gives the same program counts after a change of part of live memory,
    WHOLE = 4               # or of all of it;
    CONFIRMED = 8           # from this sum on, changes are passed over:
    FIRST_PASSED = 16       # so many that calls meet, and after each further trace four times as many, until
    MOST_PASSED = 1000000   # it was this number


cdef struct fg_place:
    int kind                    # WATCHES_...
    PyObject *holder            # borrowed from `Watch.held`: a cell, dict, object, list or array
    PyObject *key               # of an item: the key; of a slot: its descriptor
    PyObject *value             # what was found there; of a container, a tuple of its items; of an ndarray its dtype
    int ndim                    # of an ndarray: its axes
    cnp.npy_intp *dim           # and their lengths
    char *bytes                 # of an array: a copy of its elements, or of pieces of them hashes
    Py_ssize_t size, pieces, piece  # of an array: the bytes of its elements, how many pieces, their bytes,
    Py_ssize_t next             # and which one the next call compares
    bint has_gaps               # of an array: it does not lie in one piece
    bint differs                # a piece was found that differs
    int confirmed               # of live memory, the sum of WHOLE or PART over new traces that gave the same program,
    int to_pass, passed         # how many changes more calls pass over, and how many they have since the last trace


cdef bint has_form(fg_place *p):
    """Whether an array has the shape and dtype that it had when it was traced."""
    cdef object x = <object>p.holder
    if isinstance(x, Tensor):
        return bytes_of(x) == p.size
    return (<PyObject *>cnp.PyArray_DESCR(<cnp.ndarray>x) == p.value and cnp.PyArray_NDIM(<cnp.ndarray>x) == p.ndim
            and same_bytes(cnp.PyArray_DIMS(<cnp.ndarray>x), p.dim, p.ndim * sizeof(cnp.npy_intp)))


cdef Py_ssize_t bytes_of(object x):
    """The size of an ndarray's or tensor's elements; 0 where a tensor has no memory."""
    cdef fg_array *t
    if isinstance(x, Tensor):
        t = (<Tensor>x).t.array
        return t.shape.size * <Py_ssize_t>fg_itemsize(t.dtype) if t.data != NULL else 0
    return cnp.PyArray_NBYTES(<cnp.ndarray>x)


cdef inline Py_ssize_t begin_of(fg_place *p, Py_ssize_t k):
    """Where piece k begins: the first with the array, and the last ends with it."""
    cdef Py_ssize_t begin = k * p.piece, last = p.size - p.piece
    return begin if begin < last else last


cdef bint is_contiguous(object x):
    """Whether the elements of an ndarray or tensor lie in one piece of memory."""
    return (isinstance(x, Tensor) or cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>x)
            or cnp.PyArray_IS_F_CONTIGUOUS(<cnp.ndarray>x))


cdef object in_one_piece(fg_place *p):
    """The array, or where it has gaps a copy without, whose elements lie in one piece of memory."""
    cdef object x = <object>p.holder
    return x if is_contiguous(x) else np.ascontiguousarray(x)


cdef const char *memory_in(object x):
    return <const char *>(<Tensor>x).t.array.data if isinstance(x, Tensor) else cnp.PyArray_BYTES(<cnp.ndarray>x)


cdef int keep(fg_place *p) except -1:
    """Keep a copy of a small array, or hashes of all pieces of a larger one."""
    cdef object x = in_one_piece(p)
    cdef const char *data = memory_in(x)
    cdef Py_ssize_t k
    if p.kind == WATCHES_ARRAY:
        memcpy(p.bytes, data, p.size)
    else:
        for k in range(p.pieces):
            (<uint64_t *>p.bytes)[k] = fg_hash(PIECE, data + begin_of(p, k))
    return 0


cdef bint is_as_kept(fg_place *p, Py_ssize_t k) except -1:
    """Whether piece k of an array that still has its shape is as it was."""
    cdef object x = <object>p.holder
    cdef Py_ssize_t begin = begin_of(p, k), itemsize, first
    cdef const char *data
    if is_contiguous(x):
        data = memory_in(x) + begin
    else:                                       # it has gaps
        itemsize = cnp.PyArray_ITEMSIZE(<cnp.ndarray>x)
        first = begin // itemsize
        x = np_ndarray.view(x, np_ndarray).flat[first : first + (p.piece + 2 * itemsize - 2) // itemsize].tobytes()
        data = PyBytes_AS_STRING(x) + begin % itemsize
    if p.kind == WATCHES_PIECES:
        return fg_hash(PIECE, data) == (<uint64_t *>p.bytes)[k]
    return memcmp(p.bytes, data, p.size) == 0


cdef bint same_items(PyObject *found, PyObject *expected):
    """Whether two tuples hold the same objects, or equal numbers and strings."""
    cdef Py_ssize_t k
    if len(<tuple>found) != len(<tuple>expected):
        return False
    for k in range(len(<tuple>expected)):
        item, other = (<tuple>found)[k], (<tuple>expected)[k]
        if not same_object(<PyObject *>item, <PyObject *>other):
            return False
    return True


cdef bint same_entries(PyObject *holder, PyObject *expected):
    """Whether a dict's keys and values are those of a tuple, in this order."""
    cdef Py_ssize_t at = 0, k = 0
    cdef PyObject *key
    cdef PyObject *value
    if 2 * len(<dict>holder) != len(<tuple>expected):
        return False
    while PyDict_Next(holder, &at, &key, &value):
        item, other = (<tuple>expected)[k], (<tuple>expected)[k + 1]
        if not (same_object(key, <PyObject *>item) and same_object(value, <PyObject *>other)):
            return False
        k += 2
    return True


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
    object, the "code" of a function, a "list", set or deque ("items"), "dict" or array of "objects" by its items, the
    "size" of a dict, the elements of an "array". Of an array of more than SMALL bytes each call compares one piece or
    some, the next ones each time. No code of the user's runs in a comparison.

    Where replays read an array anew (`Program.live`), a change of it matters only if the function also reads elements
    of it in another way, as for a branch or by NumPy's functions. A new trace tells: where it gives the same program,
    what is there is what was there when it was traced (`renew`). After some of these, most changes are passed over
    without a trace; where a later one gives another program, calls meanwhile may have had wrong results.
    """

    cdef fg_place *places
    cdef int n
    cdef int at_once            # of a large array each call compares so many pieces
    cdef list held, names

    def __cinit__(self):
        self.held, self.names, self.at_once = [], [], 1

    def __init__(self, list places not None):
        if self.places != NULL:
            raise RuntimeError("a Watch is made once")
        self.add(places)

    def add(self, list places not None):
        """Watch further places; those that are watched already stay as they are. For a watch that no other thread knows
        yet."""
        cdef set known = {identity_of(holder, key) for holder, key, _ in self.held}
        cdef fg_place *p
        p = <fg_place *>PyMem_Realloc(self.places, (self.n + len(places) + 1) * sizeof(fg_place))
        if p == NULL:
            raise MemoryError("no memory for what a program reads from outside")
        self.places = p
        for kind, holder, key, value, name in places:
            if identity_of(holder, key) in known:
                continue
            p = &self.places[self.n]
            if kind == "array" and not isinstance(holder, Tensor):
                value = <object><PyObject *>cnp.PyArray_DESCR(<cnp.ndarray>holder)
            p[0] = fg_place(WATCHES[kind], <PyObject *>holder, <PyObject *>key, <PyObject *>value, 0, NULL, NULL, 0, 0,
                            0, 0, False, False, 0, 0, 0)
            if value is ABSENT:
                p.value = NULL
            self.held.append([holder, key, value])
            self.names.append(name)
            self.n += 1
            if kind == "array":
                self.copy(p)

    def __dealloc__(self):
        cdef int i
        for i in range(self.n):
            PyMem_Free(self.places[i].bytes)
            PyMem_Free(self.places[i].dim)
        PyMem_Free(self.places)

    def pace(self, Program program not None):
        """Let calls compare as much of large arrays as takes little beside a replay of this program."""
        cdef double n = fg_program_describe(program.program).work / WORK_PER_PIECE
        self.at_once = 1 + <int>(n if n < MOST_AT_ONCE else MOST_AT_ONCE)

    cdef int copy(self, fg_place *p) except -1:
        """Keep shape and dtype of an array, and a copy of its memory or hashes of pieces of it."""
        if not isinstance(<object>p.holder, Tensor):
            p.ndim = cnp.PyArray_NDIM(<cnp.ndarray>p.holder)
            p.dim = <cnp.npy_intp *>PyMem_Malloc((p.ndim + 1) * sizeof(cnp.npy_intp))
            if p.dim == NULL:
                raise MemoryError("no memory for the shape of an array that a program reads from outside")
            copy_bytes(p.dim, cnp.PyArray_DIMS(<cnp.ndarray>p.holder), p.ndim * sizeof(cnp.npy_intp))
        p.size = bytes_of(<object>p.holder)
        if p.size == 0:
            return 0
        p.pieces, p.piece = 1, p.size
        if p.size > SMALL:
            p.kind, p.piece = WATCHES_PIECES, PIECE
            p.pieces = (p.size + PIECE - 1) // PIECE
        # Hashes, as every program has a watch of its own, and may read many large arrays.
        p.bytes = <char *>PyMem_Malloc(p.size if p.kind == WATCHES_ARRAY else p.pieces * sizeof(uint64_t))
        if p.bytes == NULL:
            raise MemoryError("no memory for a copy of an array that a program reads from outside")
        p.has_gaps = in_one_piece(p) is not <object>p.holder
        return keep(p)

    cdef bint is_same(self, int i) except -1:
        """Whether the place is as it was; of a large array, whether the pieces are whose turn it is."""
        cdef fg_place *p = &self.places[i]
        cdef PyObject *found = NULL
        cdef Py_ssize_t k, at_once
        if p.kind == WATCHES_CELL:
            found = PyCell_GET(<object>p.holder)
        elif p.kind == WATCHES_ITEM:
            found = PyDict_GetItemWithError(<object>p.holder, <object>p.key)
        elif p.kind == WATCHES_CODE:
            return PyFunction_GET_CODE(<object>p.holder) == p.value
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
        elif p.kind == WATCHES_ITEMS:
            items = tuple(<object>p.holder)
            return same_items(<PyObject *>items, p.value)
        elif p.kind == WATCHES_OBJECTS:
            items = tuple(np_ndarray.flat.__get__(<object>p.holder))
            return same_items(<PyObject *>items, p.value)
        elif p.kind == WATCHES_DICT:
            return same_entries(p.holder, p.value)
        elif p.kind == WATCHES_ARRAY or p.kind == WATCHES_PIECES:
            if p.bytes == NULL:
                return True
            if not has_form(p):
                return False
            if p.kind == WATCHES_ARRAY:
                return is_as_kept(p, 0)
            at_once = 1 + self.at_once // GAPS if p.has_gaps else self.at_once
            for k in range(at_once if at_once < p.pieces else p.pieces):
                if p.differs:
                    break
                self.compare_next(p)
            return not p.differs
        else:
            try:
                value = (<object>p.key).__get__(<object>p.holder, type(<object>p.holder))
            except AttributeError:
                return False
            return same_object(<PyObject *>value, p.value)
        return same_object(found, p.value)

    cdef int compare_next(self, fg_place *p) except -1:
        """Compare the next piece of an array; a change that is to be passed over becomes what is expected."""
        if not is_as_kept(p, p.next):
            if p.to_pass:
                x = in_one_piece(p)             # holds the memory while it is read
                (<uint64_t *>p.bytes)[p.next] = fg_hash(PIECE, memory_in(x) + begin_of(p, p.next))
                p.to_pass -= 1
                p.passed += 1
            else:
                p.differs = True
        p.next = p.next + 1 if p.next + 1 < p.pieces else 0
        return 0

    cpdef bint holds(self) except -1:
        """Whether everything is as it was, as far as this call compares it."""
        cdef int i
        for i in range(self.n):
            if not self.is_same(i):
                return False
        return True

    def changes(self):
        """The names of the places that are not as they were. For each, whether earlier calls may have missed the
        change: that of an array of which calls compare pieces, and of which some pieces are as they were or changes
        were passed over."""
        return [(self.names[i], self.places[i].passed > 0 or self.is_partly_same(i)) for i in range(self.n)
                if not self.is_same(i)]

    def arrays(self):
        """The ndarrays of floats that calls compare piece by piece, whose memory replays may read anew."""
        return [<object>self.places[i].holder for i in range(self.n) if is_readable_anew(&self.places[i])]

    def are_live(self, Program program not None):
        """Whether nothing has changed but elements of arrays that replays of this program read anew."""
        cdef int i
        for i in range(self.n):
            if not self.is_same(i) and not self.is_live(i, program):
                return False
        return True

    cdef bint is_live(self, int i, Program program) except -1:
        cdef fg_place *p = &self.places[i]
        if p.kind != WATCHES_PIECES or not cnp.PyArray_CheckExact(<object>p.holder):
            return False
        if not has_form(p):
            return False
        for a in program.live:
            if a is not None and cnp.PyArray_DATA(<cnp.ndarray>a) == cnp.PyArray_DATA(<cnp.ndarray>p.holder):
                return True
        return False

    def renew(self):
        """Take what is there for what was there when the program was traced, as a new trace has given the same one."""
        cdef int i
        cdef fg_place *p
        for i in range(self.n):
            p = &self.places[i]
            if p.kind == WATCHES_PIECES and p.differs:
                if p.confirmed < CONFIRMED:
                    p.confirmed += PART if self.is_partly_same(i) else WHOLE
                if p.confirmed >= CONFIRMED:
                    p.to_pass = FIRST_PASSED if not p.passed else 4 * p.passed if p.passed < MOST_PASSED else p.passed
                keep(p)
                p.differs, p.passed = False, 0

    cdef bint is_partly_same(self, int i) except -1:
        cdef fg_place *p = &self.places[i]
        cdef Py_ssize_t k
        if p.kind == WATCHES_PIECES and has_form(p):
            for k in range(p.pieces):
                if is_as_kept(p, k):
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
                PyMem_Free(self.places[i].dim)
                self.places[i].bytes, self.places[i].dim = NULL, NULL
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


cdef bint is_readable_anew(fg_place *p):
    if p.kind != WATCHES_PIECES or not cnp.PyArray_CheckExact(<object>p.holder):
        return False
    a = <cnp.ndarray><object>p.holder
    return cnp.PyArray_ISCARRAY_RO(a) and 0 <= number_of(a) <= FG_FLOAT64 and not (
        not cnp.PyArray_ISWRITEABLE(a) and is_frozen(a))


cdef tuple identity_of(holder, key):
    """What tells places apart."""
    return id(holder), key if type(key) is str or type(key) is int else id(key)


cdef bint is_constant(x):
    return x is None or issubclass(type(x), (bool, int, float, complex, str, bytes, np.generic))
