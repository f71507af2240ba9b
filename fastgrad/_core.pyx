# cython: language_level=3, embedsignature=True
"""The one binding between the C core and Python.

It turns Python values into tensors, status codes into exceptions, and operators into calls of the C core. It
computes nothing itself: float32 and float64 go to the core, integers and booleans (which carry no gradient)
to NumPy's own ufuncs.
"""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyObject_GetBuffer
from cpython.exc cimport PyErr_Clear
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.math cimport INFINITY, sqrt
from libc.stdlib cimport free, qsort
from libc.string cimport memcmp
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() nogil

import os
import sys
import threading
from operator import index as index_of

import numpy as np

from . import _user_frames as frames

cnp.import_array()

cdef bint NUMPY_2_0 = np.lib.NumpyVersion(np.__version__) < "2.1.0"

# ---- errors ---------------------------------------------------------------------------------------------
cdef int fail(int status) except -1:
    """Raise what a C status means."""
    if status == FG_RAISED:
        return -1                               # Python code that the core called has set an exception
    text = fg_message().decode()
    if status == FG_NO_MEMORY:
        raise MemoryError(text)
    if status == FG_BAD_TYPE:
        raise TypeError(text)
    if status == FG_BAD_INDEX:
        raise IndexError(text)
    if status == FG_BAD_TAPE:
        raise RuntimeError(text)
    if status == FG_NOT_IMPLEMENTED:
        raise NotImplementedError(text)
    if status == FG_BAD_MATRIX:
        raise np.linalg.LinAlgError(text)
    if status == FG_SIDE_EFFECT:
        raise TraceError(f"{text}{frames.user_line()}")
    raise ValueError(text)


cdef inline int check(int status) except -1:
    return fail(status) if status != FG_OK else 0


# ---- dtypes ---------------------------------------------------------------------------------------------
cdef object DTYPES = [np.dtype(fg_dtype_name(i).decode()) for i in range(FG_N_DTYPES)]
cdef dict NUMBER_OF = {dtype: i for i, dtype in enumerate(DTYPES)}
cdef object FLOAT32 = DTYPES[FG_FLOAT32]
cdef object FLOAT64 = DTYPES[FG_FLOAT64]


# The core's numbers by NumPy's type numbers, -1 where the core has no such dtype. Two type numbers of NumPy may be the
# same integer dtype, as those of long and long long.
cdef int NUMBER_OF_TYPE[32]
cdef int TYPE_NUMBER[FG_N_DTYPES]
for _i in range(32):
    NUMBER_OF_TYPE[_i] = -1
for _i in range(FG_N_DTYPES):
    TYPE_NUMBER[_i] = DTYPES[_i].num
for _dtype in map(np.dtype, "?bhilqBHILQfd"):
    NUMBER_OF_TYPE[_dtype.num] = NUMBER_OF[_dtype]


cdef inline int number_of(cnp.ndarray a) noexcept:
    """The core's number of an ndarray's dtype, in either byte order; -1 if it has none."""
    cdef int num = cnp.PyArray_TYPE(a)
    return NUMBER_OF_TYPE[num] if num < 32 else -1


cdef int dtype_number(dtype) except -1:
    number = NUMBER_OF.get(dtype)
    if number is None:
        number = NUMBER_OF.get(dtype.newbyteorder("="))
    if number is None:
        raise TypeError(
            f"dtype {dtype} is none that tensors have: float32, float64, bool and the integer dtypes"
            + ("; use np.float32" if dtype == np.float16 else "")
        )
    return number


def float_dtype(dtype):
    """The float dtype that functions like tanh compute in for an input of this dtype (NumPy's rule, but float32
    where NumPy would take float16)."""
    return np.result_type(dtype, np.float32)


# ---- between ndarrays and arrays of the core ------------------------------------------------------------
cdef enum:
    COPY_BELOW = 513        # bytes; sharing the memory of a smaller ndarray costs more than copying it


cdef void release_owner(void *owner) noexcept with gil:
    Py_DECREF(<object>owner)


fg_on_release = release_owner


cdef fg_shape *shape_of(cnp.ndarray a) except NULL:
    cdef int64_t dim[FG_MAX_NDIM]
    cdef int i, ndim = cnp.PyArray_NDIM(a)
    if ndim > FG_MAX_NDIM:
        raise ValueError(f"a tensor has at most {FG_MAX_NDIM} axes, got an array with {ndim}")
    for i in range(ndim):
        dim[i] = cnp.PyArray_DIM(a, i)
    cdef fg_shape *s = fg_shape_new(ndim, dim)
    if s == NULL:
        fail(fg_failed())
    return s


cdef fg_array *array_from(cnp.ndarray a, bint share, bint externally_mutable=True) except NULL:
    """An array of the core with a's elements, a new reference: on a's memory if ``share`` and possible, else a copy."""
    cdef int dtype = number_of(a)
    cdef fg_array *x
    cdef bint frozen
    if share and fg_tracing:
        x = live_array(a)
        if x != NULL:
            return x
    if not (cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_ISALIGNED(a) and cnp.PyArray_ISNOTSWAPPED(a)):
        a = np.array(a, DTYPES[dtype], order="C")
        externally_mutable = False                # a fresh copy that nobody else knows
    cdef fg_shape *s = shape_of(a)
    cdef size_t bytes = <size_t>s.size * fg_itemsize(dtype)
    if share:
        owner = keeper(a)
        # A read-only ndarray is externally_mutable, too, unless what it looks into is frozen.
        frozen = not cnp.PyArray_ISWRITEABLE(a) and is_frozen(a)
        x = fg_array_foreign(s, dtype, cnp.PyArray_DATA(a), <void *>owner, not cnp.PyArray_ISWRITEABLE(a),
                             externally_mutable and not frozen)
        if x != NULL:
            x.frozen = frozen
            Py_INCREF(owner)
    else:
        x = fg_array_new(s, dtype)
        if x != NULL:
            copy_bytes(x.data, cnp.PyArray_DATA(a), bytes)
    fg_shape_unref(s)
    if x == NULL:
        fail(FG_NO_MEMORY)
    return x


cdef bint is_frozen(cnp.ndarray a):
    """Whether nobody writes a's memory: a is read-only, and so is every ndarray whose memory it shares. Through one
    that is writable, a could change."""
    base = a
    while isinstance(base, cnp.ndarray):
        if cnp.PyArray_ISWRITEABLE(base):
            return False
        base = base.base
    return base is None or type(base) is bytes


cdef object keeper(cnp.ndarray a):
    """The object to keep alive for a's memory: a itself, or the end of a chain of tensors and ndarrays on one memory.
    Otherwise the chain would grow with every ``asarray(t.numpy())``, and be freed by recursion."""
    cdef fg_array *x
    base = a
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if type(base) is not _Export:
        return a
    x = (<_Export>base).array
    if x.storage == FG_VIEW:
        x = <fg_array *>x.owner
    return <object>x.owner if x.storage == FG_FOREIGN else base


cdef extern from "string.h" nogil:
    void *memcpy(void *to, const void *source, size_t n)
    int memcmp(const void *a, const void *b, size_t n)


# Of no bytes there may be no address, such as that of the lengths of an ndarray without axes, which C's functions must
# not be given.
cdef inline void copy_bytes(void *to, const void *source, size_t n) noexcept:
    if n:
        memcpy(to, source, n)


cdef inline bint same_bytes(const void *a, const void *b, size_t n) noexcept:
    return n == 0 or memcmp(a, b, n) == 0


@cython.final
cdef class _Export:
    """The base object of ndarrays on the memory of an array of the core, which it keeps alive."""
    cdef fg_array *array

    def __dealloc__(self):
        if self.array != NULL:
            self.array.exports -= 1
            fg_array_unref(self.array)


cdef cnp.ndarray view_of(fg_array *x, bint writeable):
    """An ndarray on the memory of x; TraceError if x is abstract."""
    cdef cnp.npy_intp dim[FG_MAX_NDIM]
    cdef int i
    if fg_tracing and fg_traced(x):
        refuse_traced(x, "array" if x.dtype <= FG_FLOAT64 else "mask" if x.dtype == FG_BOOL else "integers")
    for i in range(x.shape.ndim):
        dim[i] = x.shape.dim[i]
    cdef cnp.ndarray a = cnp.PyArray_SimpleNewFromData(x.shape.ndim, dim, TYPE_NUMBER[x.dtype], x.data)
    cdef _Export owner = _Export.__new__(_Export)
    owner.array = fg_array_ref(x)
    x.exports += 1
    Py_INCREF(owner)
    cnp.PyArray_SetBaseObject(a, owner)
    if not writeable:
        cnp.PyArray_CLEARFLAGS(a, cnp.NPY_ARRAY_WRITEABLE)
    return a


def is_masked(x):
    """Whether x is a masked array. Where there is one, numpy.ma has been imported; to import it here would let a child
    that another thread forks meanwhile wait for the end of the import for ever."""
    return (isinstance(x, cnp.ndarray) and not cnp.PyArray_CheckExact(x)
            and isinstance(x, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())))


cdef cnp.ndarray as_ndarray(x, str name):
    """x as an ndarray of a dtype that the core has; errors begin with ``name``."""
    cdef cnp.ndarray a
    if cnp.PyArray_CheckExact(x):
        a = x
    elif isinstance(x, cnp.ndarray):
        if is_masked(x):
            raise TypeError(f"{name}: expected a plain array, got a masked one; fill it with .filled() first")
        a = np.asarray(x)
    elif isinstance(x, (str, bytes)):
        raise TypeError(f"{name}: expected numbers, got the {type(x).__name__} {x!r}")
    else:
        try:
            a = np.asarray(x)
        except ValueError as error:
            if not any(word in str(error) for word in ("inhomogeneous", "maximum number of dim")):
                raise
            raise ValueError(f"{name}: expected an array or nested lists of equal lengths, got ragged ones; pad them, "
                             "or make a tensor of each") from error
        if default_was_set and (type(x) is list or type(x) is tuple):
            a = in_default_dtype(a, x)
    if number_of(a) < 0:
        raise TypeError(f"{name}: expected float32, float64, integer or bool numbers, got {type(x).__name__} of dtype "
                        f"{a.dtype}"
                        + ("; convert it with .astype(np.float32)" if a.dtype == np.float16 else
                           "; complex numbers are not supported: compute with real and imaginary parts, as cos(x) and "
                           "sin(x) for exp(1j * x)" if a.dtype.kind == "c" else ""))
    return a


cdef cnp.ndarray in_default_dtype(cnp.ndarray a, x):
    """What NumPy has made of x, nested lists or a number, in the default dtype if x has floats of Python's and nothing
    but Python's numbers."""
    cdef bint has_float = False
    default = default_here()
    if default is None or cnp.PyArray_TYPE(a) != cnp.NPY_FLOAT64 or default is a.dtype:
        return a
    cdef list todo = [x]
    while todo:
        item = todo.pop()
        if type(item) is list or type(item) is tuple:
            todo.extend(item)
        elif type(item) is float:
            has_float = True
        elif type(item) is not int and type(item) is not bool:
            return a
    return a.astype(default) if has_float else a


cdef bint holds_tensors(x):
    todo, seen = [x], {id(x)}           # seen, for lists that hold themselves
    while todo:
        for item in todo.pop():
            if type(item) is Tensor:
                return True
            if isinstance(item, (list, tuple)) and id(item) not in seen:
                seen.add(id(item))
                todo.append(item)
    return False


cdef object joined(x, str name):
    """A nested list that holds tensors as one Tensor, stacked by operations; anything else unchanged."""
    return composed.from_lists(x, name) if isinstance(x, (list, tuple)) and holds_tensors(x) else x


# ---- tensors --------------------------------------------------------------------------------------------
cdef extern from *:
    """
    #define owned(made) made
    """
    Tensor owned(PyObject *made)                # the object, whose reference is the pointer's


ctypedef PyObject *(*new_function)(PyObject *cls, PyObject *args, PyObject *kwargs) noexcept
cdef new_function new_tensor = NULL             # Cython's Tensor.__new__, set below


cdef inline Tensor wrap(fg_tensor t):
    """A tensor that takes over the references of t, also where there is no memory for it."""
    cdef PyObject *made = new_tensor(<PyObject *>Tensor, <PyObject *>(), NULL)
    if made == NULL:                            # called by its address: try and finally would take 50 instructions
        PyErr_Clear()
        fg_tensor_unref(t)
        raise MemoryError("no memory for a tensor")
    (<Tensor>made).t = t
    return owned(made)


cdef inline Tensor wrap_array(fg_array *x):
    return wrap(fg_tensor(x, NULL))


cdef Tensor tensor_of(cnp.ndarray a, bint share=True):
    """An untracked tensor: small arrays are copied, large ones shared if asked for."""
    return wrap_array(array_from(a, share and cnp.PyArray_NBYTES(a) >= COPY_BELOW))


cdef Tensor as_tensor(x, str name):
    x = joined(x, name)
    return <Tensor>x if type(x) is Tensor else tensor_of(as_ndarray(x, name))


cdef Tensor as_float(x, str name):
    """x as a float tensor; integers and booleans become the float dtype NumPy would compute in."""
    cdef Tensor r = as_tensor(x, name)
    if r.t.array.dtype <= FG_FLOAT64:
        return r
    return cast_integers(r, float_dtype(DTYPES[r.t.array.dtype]))


cdef Tensor cast_integers(Tensor x, dtype):
    """A tensor of integers or booleans as another dtype."""
    cdef int64_t number = NUMBER_OF[dtype]
    return apply_one(FG_OP_cast, x, 1, &number)


include "_binding/host_call.pxi"
include "_binding/refusals.pxi"
include "_binding/tensor.pxi"
include "_binding/elementwise.pxi"
include "_binding/structural.pxi"
include "_binding/create.pxi"
include "_binding/backward.pxi"
include "_binding/row_sparse.pxi"
include "_binding/update.pxi"
include "_binding/trace.pxi"
include "_binding/program.pxi"
include "_binding/describe.pxi"
include "_binding/guard.pxi"
include "_binding/watch.pxi"
include "_binding/replayer.pxi"
include "_binding/instructions.pxi"
include "_binding/sparsity.pxi"
include "_binding/training.pxi"
include "_binding/control_flow.pxi"
include "_binding/interrupt.pxi"
include "_binding/random.pxi"
include "_binding/default_dtype.pxi"
include "_binding/custom.pxi"


# Objects of these classes are nothing without what only C code gives them, so __new__ refuses to make one. Cython's own
# Tensor.__new__(Tensor) does not use this slot, and wrap has what was in it.
cdef extern from "Python.h":
    ctypedef struct PySequenceMethods:
        void *sq_item
    ctypedef struct PyTypeObject:
        void *tp_new
        void *tp_vectorcall
        PySequenceMethods *tp_as_sequence


cdef dict MADE_BY = {
    Tensor: "a Tensor is made by fastgrad.tensor(data) or fastgrad.asarray(data)",
    Program: "a Program is made by fastgrad.compile(f).program(*args)",
}


cdef object refuse_new(PyObject *cls, PyObject *args, PyObject *kwargs):
    raise TypeError(MADE_BY.get(<object>cls, f"a {(<object>cls).__name__} is made by fastgrad alone"))


new_tensor = <new_function>(<PyTypeObject *>Tensor).tp_new
for _class in (Tensor, Program, Node, Guard, Sight, Here, _Export):
    (<PyTypeObject *>_class).tp_new = <void *>refuse_new
    (<PyTypeObject *>_class).tp_vectorcall = NULL   # the shortcut that some versions of Cython take past __new__


# NumPy hides why an object could not become an element, as in a[0] = t, where the object is a sequence to C.
(<PyTypeObject *>Tensor).tp_as_sequence.sq_item = NULL


# ---- the machine ----------------------------------------------------------------------------------------
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


cdef extern from *:
    """
    static const char *const fg_lapack_names[] = {
    #define LAPACK(name) #name,
    #include "lapack.def"
    #undef LAPACK
    };
    """
    const char *fg_lapack_names[]


# How equations are solved (csrc/kernels.h).
LOWER, TRANSPOSED, UNIT, BY_CHOLESKY, BY_LU = FG_LOWER, FG_TRANSPOSED, FG_UNIT, FG_BY_CHOLESKY, FG_BY_LU
# The last attribute of operations of linear algebra (ops/factorizations.c): the number of the function that errors
# name, or, of `solve`, UNCHECKED, with which a singular matrix is no error.
UNCHECKED = 0
CALLERS = {}
while fg_caller_name(len(CALLERS) + 1) != NULL:
    CALLERS[fg_caller_name(len(CALLERS) + 1).decode()] = len(CALLERS) + 1

LAPACK_NAMES = [fg_lapack_names[i].decode() for i in range(FG_N_LAPACK)]


def set_lapack(str name, single, twice, bint ilp64):
    """Give the core the addresses of a function of csrc/lapack.def for both dtypes (None: it uses its own kernel)."""
    fg_set_lapack(LAPACK_NAMES.index(name), <void *><size_t>(single or 0), <void *><size_t>(twice or 0), ilp64)


def live():
    """What the core holds now: a dict of arrays, nodes, bytes in use and bytes kept for reuse."""
    return {"arrays": fg_live.arrays, "nodes": fg_live.nodes, "bytes": fg_live.bytes,
            "cached_bytes": fg_live.cached_bytes}


def thread_state():
    """The state of this thread, for tests: whether operations are recorded on the tape, how many transforms and traces
    are under way, and which contexts of other kinds it has entered."""
    cdef Here here = this_thread()
    cdef void *context = here.innermost[TRACES]
    cdef int traces = 0
    while context != NULL:
        traces += 1
        context = (<Trace>context).outer
    return {"grad_enabled": grad_enabled(), "transform": fg_transform, "tracing": tracing(),
            "traces": traces, "drawing": here.innermost[DRAWINGS] != NULL,
            "running": here.innermost[RULES_RUN] != NULL, "no_grad": here.n,
            "promotions": here.innermost[PROMOTIONS] != NULL}


def empty_pool():
    """Give the blocks that the core keeps for reuse back to the system."""
    fg_pool_empty()


def threads_limit():
    """How many threads long work may have, the caller's included."""
    return fg_threads_limit()


def set_threads_limit(int n):
    """Let long work have so many, at least 1."""
    fg_threads_set_limit(n)


def pool_limit():
    """How many bytes of freed blocks the core keeps for reuse at most."""
    return fg_pool_limit()


cdef start():
    forced = os.environ.get("FASTGRAD_ISA") or None
    name = forced.encode() if forced else None
    if fg_kernels_select(<const char *>name if name is not None else NULL) != FG_OK:
        raise ImportError(f"FASTGRAD_ISA={forced}: {fg_message().decode()}; available: {', '.join(available_isas())}")
    limit = os.environ.get("FASTGRAD_POOL_LIMIT", "").strip()
    if limit:
        if not (limit.isascii() and limit.isdecimal() and len(limit) < 19):
            raise ImportError(f"FASTGRAD_POOL_LIMIT={limit}: expected a number of bytes, such as 268435456")
        fg_pool_set_limit(int(limit))
    fg_init()


start()

include "_binding/op_tables.pxi"

PUBLIC.sort()
