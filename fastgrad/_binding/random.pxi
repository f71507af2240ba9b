# Draws of random numbers (csrc/ops/random.c). Included by _core.pyx.

def refuse_traced_effect(str what, str cure):
    """Raise TraceError if this thread traces, naming the line of the user's code: a replay would not do ``what``."""
    if fg_trace_here() == FG_MAPPED and not fg_trace_is_program():
        raise TraceError(f"vmap: {what} in a function that is mapped{frames.user_line()}, which would happen once "
                         f"instead of for each element. {cure}")
    if fg_trace_here():
        raise TraceError(f"compile: {what} while the function is traced{frames.user_line()}, which a replay would "
                         f"not repeat. {cure}")


def random_state(words):
    """A tensor that is the state of a generator: key, stream and position as uint64. ``random_draw`` advances it."""
    cdef Tensor state = wrap_array(array_from(np.array(words, np.uint64), share=False))
    if state.t.array.shape.size != FG_RANDOM_WORDS:
        raise ValueError(f"random: a state has {FG_RANDOM_WORDS} words, got {len(words)}")
    state.t.array.is_rng_state = True
    return state


def random_words(Tensor state not None):
    """The state of a generator as an ndarray on its memory."""
    return view_of(state.t.array, True)


def random_draw(Tensor state not None, tuple shape, dtype, str name, int64_t low=0, int64_t count=0):
    """Numbers uniform in [0, 1) of a shape, whose lengths are 0 or more, and a float dtype; with a count, int64 from
    low to low + count - 1."""
    cdef int64_t attr[FG_MAX_NDIM + 3]
    cdef int n = 3
    if not state.t.array.is_rng_state:
        raise TypeError(f"{name}: expected the state of a generator")
    wanted = np.dtype(dtype)
    if wanted not in (FLOAT32, FLOAT64) and not count:
        raise TypeError(f"{name}: expected dtype float32 or float64, got {wanted}")
    attr[0], attr[1], attr[2] = FG_INT64 if count else NUMBER_OF[wanted], low, count
    if len(shape) > FG_MAX_NDIM:
        raise ValueError(f"{name}: a tensor has at most {FG_MAX_NDIM} axes, got a size of {len(shape)}")
    for length in shape:
        attr[n] = index_number(length, name, shape)
        n += 1
    cdef Tensor y = None
    cdef void *first = innermost(DRAWINGS) if n_draws else NULL
    cdef void *log = first
    while log != NULL and not (<Drawing>log).repeats:
        log = (<Drawing>log).outer
    y = apply_one(FG_OP_random, state, n, attr) if log == NULL else (<Drawing>log).next(attr, n, name)
    while first != log:
        (<Drawing>first).draws.within |= fg_trace_number() != (<Drawing>first).trace
        (<Drawing>first).drawn.append((tuple([attr[i] for i in range(n)]), y.detach()))
        first = (<Drawing>first).outer
    return y


# ---- draws that are repeated by checkpoint ----------------------------------------------------------------------
cdef int n_draws = 0                            # how many Drawings are entered in all threads


@cython.final
cdef class Draws:
    """The random numbers that a function has drawn, which it draws again when `checkpoint` runs it again."""

    cdef list drawn             # (attributes, numbers) of each draw; None before the function has run
    cdef bint within            # some were in a mapped function or a body, traced while the function ran

    @property
    def can_be_repeated(self):
        """Whether the numbers are known. Those of a mapped function or a body are other ones in each element or step,
        which only its own instructions draw."""
        return not self.within


@cython.final
cdef class Drawing(Nested):
    """A context for one run of a function: the first run fills its Draws, later ones repeat them. Each run has its own
    context, as several threads may run the function at the same time."""

    cdef Draws draws
    cdef list drawn
    cdef int at
    cdef bint repeats
    cdef uint32_t trace         # number of the trace that the function runs in, or 0

    def __cinit__(self, Draws draws not None):
        self.draws = draws
        self.repeats = draws.drawn is not None
        self.drawn = draws.drawn if self.repeats else []

    cdef Tensor next(self, int64_t *attr, int n, str name):
        if self.at == len(self.drawn) or self.drawn[self.at][0] != tuple([attr[i] for i in range(n)]):
            raise RuntimeError(f"{name}: a function that is run again for its gradient draws other random numbers than "
                               "before")
        self.at += 1
        return self.drawn[self.at - 1][1].detach()

    def __enter__(self):
        global n_draws
        self.trace = fg_trace_number()
        self.enter(DRAWINGS)
        n_draws += 1

    def __exit__(self, kind, error, trace):
        self.close()

    cdef void close(self) noexcept:
        global n_draws
        if self.here is not None:
            self.leave(DRAWINGS)
            n_draws -= 1
            self.draws.drawn = self.drawn

    def __dealloc__(self):
        self.close()
