# Guards: whether a call's arguments are those that a program was traced for. Included by _core.pyx.

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(object, object key) except? NULL
    bint PyDict_Next(PyObject *, Py_ssize_t *, PyObject **, PyObject **)
    long long PyLong_AsLongLongAndOverflow(object, int *overflow) except? -1
    PyObject *Py_TYPE(object)


cdef bint hold_number(Program program, fg_replay *r, int i, object x) except -1:
    """Store the Python number x as input i; False if the input's dtype cannot hold it."""
    cdef void *to = fg_replay_own_input(program.program, r, i)
    cdef int dtype = fg_program_input_dtype(program.program, i), overflow = 0
    if to == NULL:
        fail(FG_NO_MEMORY)
    if dtype == FG_FLOAT64:
        (<double *>to)[0] = x
    elif dtype == FG_BOOL:
        (<uint8_t *>to)[0] = x
    elif dtype == FG_INT64:
        (<int64_t *>to)[0] = PyLong_AsLongLongAndOverflow(x, &overflow)
    else:
        return False
    return overflow == 0


cdef inline bint fits(object x, int dtype, fg_shape *s):
    """Whether x is an ndarray of this dtype and shape that is contiguous, aligned and in native byte order."""
    return is_like(x, dtype, s) and cnp.PyArray_ISCARRAY_RO(x)


cdef inline bint is_like(object x, int dtype, fg_shape *s):
    """Whether x is an ndarray of this dtype and shape, in any layout and byte order."""
    cdef cnp.ndarray a
    cdef int i
    if not cnp.PyArray_CheckExact(x):
        return False
    a = x
    if number_of(a) != dtype or cnp.PyArray_NDIM(a) != s.ndim:
        return False
    for i in range(s.ndim):
        if cnp.PyArray_DIM(a, i) != s.dim[i]:
            return False
    return True


cdef inline bint is_data(object x):
    """Whether x is a tensor of values alone, which stands for an ndarray."""
    cdef fg_array *array
    if type(x) is not Tensor:
        return False
    array = (<Tensor>x).t.array
    return array != NULL and (<Tensor>x).t.node == NULL and not array.weak and not fg_traced(array)


cdef bint hold_tensor(Program program, fg_replay *r, int i, object x) except -1:
    """Make the memory of x, a tensor, input i; False if it does not fit, or is a parameter, which is an ndarray. The
    replay holds a tensor of its own: whoever changes x in place meanwhile finds that its memory is shared."""
    cdef fg_shape *s = fg_program_input_shape(program.program, i)
    cdef fg_array *array
    cdef Tensor held
    cdef int k
    if i < program.n_gradients or not is_data(x):
        return False
    array = (<Tensor>x).t.array
    if array.dtype != fg_program_input_dtype(program.program, i) or array.shape.ndim != s.ndim or not s.size:
        return False
    for k in range(s.ndim):
        if array.shape.dim[k] != s.dim[k]:
            return False
    held = wrap_array(fg_array_ref(array))
    Py_INCREF(held)
    fg_replay_owner(r)[i] = <void *>held
    fg_replay_address(r)[i] = array.data
    return True


# The scalar types of NumPy that stand for an array without axes.
cdef dict NUMBER_OF_SCALAR = {dtype.type: number for dtype, number in NUMBER_OF.items()}


cdef inline int number_of_scalar(object x):
    """The number of the dtype of one of NumPy's scalars; -1 if x is none."""
    cdef PyObject *found = PyDict_GetItemWithError(NUMBER_OF_SCALAR, type(x))
    return <object>found if found != NULL else -1


cdef bint hold_copy(Program program, fg_replay *r, int i, object x) except -1:
    """Store a copy of x, an ndarray of another layout or a scalar of NumPy's, as input i; False if it does not fit, or
    is a parameter, which a training step writes in place."""
    cdef fg_shape *s = fg_program_input_shape(program.program, i)
    cdef int dtype = fg_program_input_dtype(program.program, i), k
    cdef cnp.npy_intp dim[FG_MAX_NDIM]
    cdef bint is_scalar = s.ndim == 0 and not cnp.PyArray_CheckExact(x) and number_of_scalar(x) == dtype
    cdef void *to
    if i < program.n_gradients or not s.size or not (is_scalar or is_like(x, dtype, s)):
        return False
    to = fg_replay_own_input(program.program, r, i)
    if to == NULL:
        fail(FG_NO_MEMORY)
    if is_scalar:
        cnp.PyArray_ScalarAsCtype(x, to)
        return True
    for k in range(s.ndim):
        dim[k] = s.dim[k]
    PyArray_CopyInto(cnp.PyArray_SimpleNewFromData(s.ndim, dim, TYPE_NUMBER[dtype], to), x)
    return True


cdef enum:
    GUARDS_ARRAY, GUARDS_NUMBER, GUARDS_DICT, GUARDS_LIST, GUARDS_TUPLE, GUARDS_NONE, GUARDS_CONSTANT


@cython.final
cdef class Guard:
    """Decides, in a few nanoseconds for each array, whether arguments are those that a program was traced for.

    Made from the arguments of the call that was traced. It knows arrays and tensors of data, Python numbers, which it
    tells apart by their types, dicts, lists, tuples, NamedTuples, None, and static constants. With any other container
    there is no guard: its own code would have to run, and every call takes the slow way through ``tree``.
    """

    cdef int kind               # GUARDS_...
    cdef int number             # of an array or number: which input
    cdef object value           # sorted keys of a dict, type of a tuple or number, a constant
    cdef tuple inserted         # keys of a dict in the order of insertion, in which the function iterates over them
    cdef list parts

    cdef bint match(self, object x, Program program, fg_replay *r):
        """Whether x matches. Arrays and numbers are set as inputs of the replay meanwhile."""
        cdef int i
        cdef Guard part
        if self.kind == GUARDS_ARRAY:
            if type(x) is Tensor:
                return hold_tensor(program, r, self.number, x)
            if not fits(x, fg_program_input_dtype(program.program, self.number),
                        fg_program_input_shape(program.program, self.number)):
                return hold_copy(program, r, self.number, x)
            hold_input(r, self.number, x)
            return True
        if self.kind == GUARDS_NUMBER:
            return type(x) is self.value and hold_number(program, r, self.number, x)
        if self.kind == GUARDS_DICT:
            if type(x) is not dict or not has_keys(<dict>x, self.inserted):
                return False
            for i in range(len(self.parts)):
                found = (<dict>x).get((<tuple>self.value)[i], self)
                if found is self or not (<Guard>self.parts[i]).match(found, program, r):
                    return False
            return True
        if self.kind == GUARDS_LIST:
            if type(x) is not list or len(<list>x) != len(self.parts):
                return False
            for i in range(len(self.parts)):
                # Another thread may have shortened the list since.
                if i >= len(<list>x) or not (<Guard>self.parts[i]).match((<list>x)[i], program, r):
                    return False
            return True
        if self.kind == GUARDS_TUPLE:
            if type(x) is not self.value or len(<tuple>x) != len(self.parts):
                return False
            for i in range(len(self.parts)):
                if not (<Guard>self.parts[i]).match((<tuple>x)[i], program, r):
                    return False
            return True
        return x is self.value or (self.kind == GUARDS_CONSTANT and same_constant(x, self.value))


@cython.final
cdef class Static:
    """A constant among the arguments that a guard is made from."""

    cdef object value

    def __cinit__(self, value):
        self.value = value


cdef bint same_constant(x, value):
    """Whether x is the same constant, as far as can be told without running code of others."""
    cdef double a, b
    if type(x) is not type(value):
        return False
    if type(x) is float:
        a, b = x, value
        return memcmp(&a, &b, sizeof(double)) == 0
    if type(x) is tuple:
        return len(<tuple>x) == len(<tuple>value) and all([i is k or same_constant(i, k) for i, k in zip(x, value)])
    return (type(x) is str or type(x) is int or type(x) is bool or type(x) is bytes) and x == value


cdef bint has_keys(dict x, tuple keys):
    """Whether these, strings and ints, are the keys of x in this order."""
    cdef Py_ssize_t at = 0, i = 0
    cdef PyObject *key
    if len(x) != len(keys):
        return False
    while PyDict_Next(<PyObject *>x, &at, &key, NULL):
        if <object>key is not keys[i] and not same_constant(<object>key, keys[i]):
            return False
        i += 1
    return True


cdef inline uint64_t hash_of_both(uint64_t h, uint64_t x) noexcept:
    """A hash of what h is a hash of, followed by x."""
    h = (h ^ x) * <uint64_t>0x9E3779B97F4A7C15
    return h ^ (h >> 29)


cdef uint64_t signature_of(object x, uint64_t h, int depth):
    """A hash of h and the kind of x: structure, shapes, dtypes, types of numbers. 0 where guards cannot match, or x has
    more than ``depth`` levels. Runs no code of others."""
    cdef PyObject *key
    cdef PyObject *child
    cdef Py_ssize_t at = 0, i
    cdef cnp.ndarray a
    cdef fg_shape *s
    if cnp.PyArray_CheckExact(x):
        a = x
        if number_of(a) < 0:
            return 0
        h = hash_of_both(h, 64 * cnp.PyArray_NDIM(a) + number_of(a) + 8)
        for i in range(cnp.PyArray_NDIM(a)):
            h = hash_of_both(h, cnp.PyArray_DIM(a, <int>i))
        return h or 1
    if is_data(x):                              # as an ndarray
        s = (<Tensor>x).t.array.shape
        h = hash_of_both(h, 64 * s.ndim + (<Tensor>x).t.array.dtype + 8)
        for i in range(s.ndim):
            h = hash_of_both(h, <uint64_t>s.dim[i])
        return h or 1
    if x is None or weak_scalar(x):
        return hash_of_both(h, <uint64_t><size_t>Py_TYPE(x)) or 1
    i = number_of_scalar(x)
    if i >= 0:                                  # as an array without axes
        return hash_of_both(h, <uint64_t>i + 8) or 1
    if depth == 0:
        return 0
    if type(x) is dict:
        h = hash_of_both(h, 2 + 8 * <uint64_t>len(<dict>x))
        while PyDict_Next(<PyObject *>x, &at, &key, &child):
            if type(<object>key) is not str and type(<object>key) is not int:
                return 0
            h = signature_of(<object>child, hash_of_both(h, <uint64_t>hash(<object>key)), depth - 1)
            if h == 0:
                return 0
        return h
    if type(x) is list:
        h = hash_of_both(h, 3 + 8 * <uint64_t>len(<list>x)) or 1
        for i in range(len(<list>x)):
            if i < len(<list>x) and h != 0:  # another thread may shorten the list
                h = signature_of((<list>x)[i], h, depth - 1)
        return h
    if isinstance(x, tuple):
        h = hash_of_both(hash_of_both(h, 4 + 8 * <uint64_t>len(<tuple>x)), <uint64_t><size_t>Py_TYPE(x)) or 1
        for i in range(len(<tuple>x)):
            if h != 0:
                h = signature_of((<tuple>x)[i], h, depth - 1)
        return h
    return 0


def holds_number(x):
    """Whether there is a Python number in arguments that have a signature."""
    if type(x) is dict:
        x = list((<dict>x).values())
    if type(x) is list or isinstance(x, tuple):
        for child in x:
            if holds_number(child):
                return True
        return False
    return weak_scalar(x)


def memory_of(x):
    """The bytes of an object's own memory, without its reference count and type."""
    cdef Py_ssize_t head = object.__basicsize__
    return (<char *><PyObject *>x)[head:type(x).__basicsize__]


def same_leaves(tree, other):
    """Whether two trees of dicts, lists and tuples hold the same objects as leaves, in the same places. Keys of dicts
    are compared as constants are: keys that are equal in any other way count as different."""
    return same_below(tree, other)


cdef bint same_below(object a, object b) except -1:
    cdef PyObject *key
    cdef PyObject *child
    cdef PyObject *other_key
    cdef PyObject *other
    cdef Py_ssize_t at = 0, other_at = 0, i
    cdef dict stored = None
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is dict:
        if len(<dict>a) != len(<dict>b):
            return False
        while PyDict_Next(<PyObject *>a, &at, &key, &child):
            if not PyDict_Next(<PyObject *>b, &other_at, &other_key, &other):
                return False
            if key != other_key and not same_constant(<object>key, <object>other_key):
                if stored is None:                  # their keys stand in another order
                    stored = {k: k for k in b}
                found = stored.get(<object>key, stored)
                if found is not <object>key and not same_constant(<object>key, found):
                    return False
                other = PyDict_GetItemWithError(b, <object>key)
            if other == NULL or (other != child and not same_below(<object>child, <object>other)):
                return False
        return True
    if type(a) is list:
        if len(<list>a) != len(<list>b):
            return False
        for i in range(len(<list>a)):
            if not same_below((<list>a)[i], (<list>b)[i]):
                return False
        return True
    if not isinstance(a, tuple) or len(<tuple>a) != len(<tuple>b):
        return False
    for i in range(len(<tuple>a)):
        if not same_below((<tuple>a)[i], (<tuple>b)[i]):
            return False
    return True


def make_guard(args, numbers, named_tuple):
    """A Guard for a tuple of arguments. ``numbers`` is an iterator over the inputs' numbers in order of leaves (dicts
    by sorted keys); ``named_tuple`` says of a type whether it is a NamedTuple. None if only the slow way can decide."""
    cdef Guard g = Guard.__new__(Guard)
    if isinstance(args, np.ndarray) or number_of_scalar(args) >= 0 or is_data(args):
        g.kind, g.number = GUARDS_ARRAY, next(numbers)
        return g
    if type(args) is Static:
        g.kind, g.value = GUARDS_CONSTANT, (<Static>args).value
        return g
    if weak_scalar(args):
        g.kind, g.number, g.value = GUARDS_NUMBER, next(numbers), type(args)
        return g
    if type(args) is dict:
        if not all([type(key) is str or type(key) is int for key in args]):
            return None                         # comparing other keys may run Python code in the middle of a match
        try:
            keys = tuple(sorted(args))
        except TypeError:
            return None
        g.kind, g.value, g.inserted, children = GUARDS_DICT, keys, tuple(args), [args[k] for k in keys]
    elif type(args) is list:
        g.kind, children = GUARDS_LIST, args
    elif type(args) is tuple or named_tuple(type(args)):
        g.kind, g.value, children = GUARDS_TUPLE, type(args), args
    elif args is None:
        g.kind, children = GUARDS_NONE, ()
    else:
        return None
    g.parts = [make_guard(child, numbers, named_tuple) for child in children]
    return None if None in g.parts else g
