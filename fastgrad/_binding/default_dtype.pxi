# The float dtype of what is made from nothing, and where float32 becomes float64. Included by _core.pyx.

from contextvars import ContextVar

# ---- the default dtype ------------------------------------------------------------------------------------
cdef object UNSET = object()
cdef bint default_was_set = False   # by any thread, ever: until then nothing has to be looked up
cdef object default_of_all = None   # the default of the process, which a context may override
cdef object default_of_context = ContextVar("fastgrad.default_dtype", default=UNSET)


cdef object default_here():
    """float32 or float64 as a dtype, of which there is one object each; None where NumPy's rules hold."""
    if not default_was_set:
        return None
    found = default_of_context.get()
    return default_of_all if found is UNSET else found


def default_float():
    """The default dtype that holds here; None where NumPy's rules hold."""
    return default_here()


cdef object default_of(dtype, str name):
    if dtype is None:
        return None
    try:
        found = NUMBER_OF.get(np.dtype(dtype))
    except TypeError:
        found = None
    if found is None or found > FG_FLOAT64:
        raise TypeError(f"{name}: expected float32, float64 or None, got {dtype!r}")
    return DTYPES[found]


def set_default_float(dtype):
    """Set the default of the process."""
    global default_was_set, default_of_all
    refuse_traced_effect("the default dtype was set", "Set it outside the function, or use a context: with "
                         "fastgrad.default_dtype(dtype)")
    default_of_all = default_of(dtype, "set_default_dtype")
    default_was_set = True


@cython.final
cdef class DefaultFloat:
    """A context with a default dtype, for the thread or asynchronous task that enters it."""

    cdef object dtype, outer
    cdef bint is_entered

    def __cinit__(self, dtype):
        self.dtype = default_of(dtype, "default_dtype")

    def __enter__(self):
        global default_was_set
        if self.is_entered:
            raise RuntimeError("default_dtype: this context is entered already; make another one")
        default_was_set = True
        self.outer = default_of_context.get()
        default_of_context.set(self.dtype)
        self.is_entered = True

    def __exit__(self, kind, error, trace):
        if self.is_entered:
            default_of_context.set(self.outer)
            self.is_entered = False

    def __repr__(self):
        return f"default_dtype({self.dtype})"


# ---- promotions -------------------------------------------------------------------------------------------
cdef int n_promotions = 0           # how many Promotions are entered in all threads


@cython.final
cdef class Promotions(Nested):
    """A context that notes the first operation of this thread within it that computes in float64 because an array of
    float32, with axes, meets one of another dtype: `first` is the file and the line of the user's code and what met
    there, as text; None if there was none. Casts that are asked for are none."""

    cdef readonly object first

    def __enter__(self):
        global n_promotions, fg_on_promotion
        self.enter(PROMOTIONS)
        n_promotions += 1
        fg_on_promotion = on_promotion
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    cdef void close(self) noexcept:
        global n_promotions, fg_on_promotion
        if self.here is not None:
            self.leave(PROMOTIONS)
            n_promotions -= 1
            if not n_promotions:
                fg_on_promotion = NULL

    def __dealloc__(self):
        self.close()


cdef int on_promotion(const fg_array *narrow, const fg_array *wide) except -1:
    return note_promotion(narrow.shape.ndim, narrow, wide)


cdef int note_promotion(int ndim, const fg_array *narrow, const fg_array *wide) except -1:
    cdef void *context = innermost(PROMOTIONS)
    if context == NULL or not ndim or (<Promotions>context).first is not None:
        return 0
    place = frames.user_place()
    if place is not None:
        (<Promotions>context).first = (*place, f"float32 of shape {shape_tuple(narrow.shape)} meets "
                                               f"{DTYPES[wide.dtype]} of shape {shape_tuple(wide.shape)}")
    return 0


cdef int note_operands(operands) except -1:
    """The same for operands that are brought to float64, of which some are tensors."""
    cdef fg_array *narrow = NULL
    cdef fg_array *wide = NULL
    cdef fg_array *a
    for x in operands:
        if type(x) is Tensor:
            a = (<Tensor>x).t.array
            if a.dtype == FG_FLOAT32 and narrow == NULL and a.shape.ndim and not a.weak:
                narrow = a
            elif a.dtype != FG_FLOAT32 and wide == NULL and not a.weak:
                wide = a
    return note_promotion(narrow.shape.ndim, narrow, wide) if narrow != NULL and wide != NULL else 0
