# Draws of random numbers (csrc/ops/random.c). Included by _core.pyx.

def refuse_recorded(str what, str cure):
    """Raise TraceError if this thread is recording, naming the line of the user's code."""
    if fg_trace_here() == 2 and not fg_trace_is_program():
        raise TraceError(f"vmap: {what} in a function that is mapped{frames.user_line()}, which would happen once "
                         f"instead of for each element. {cure}")
    if fg_trace_here():
        raise TraceError(f"compile: {what} while the function is recorded{frames.user_line()}, which a replay would "
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
    cdef Draws log
    cdef Tensor y = None
    cdef int k = -1
    logs = getattr(draws_here, "logs", ()) if n_draws else ()
    for k in range(len(logs) - 1, -1, -1):
        log = logs[k]
        if log.repeats:
            y = log.next(attr, n, name)
            break
    else:
        k = -1
        y = apply_one(FG_OP_random, state, n, attr)
    for log in logs[k + 1:]:
        log.drawn.append((tuple([attr[i] for i in range(n)]), y.detach()))
    return y


# ---- draws that are repeated for rematerialization --------------------------------------------------------------
cdef object draws_here = threading.local()      # .logs: the Draws open in this thread, the innermost last
cdef int n_draws = 0                            # how many are open in all threads


@cython.final
cdef class Draws:
    """A context: the first time it is entered it logs the random numbers drawn within, later it repeats them."""

    cdef list drawn
    cdef int at
    cdef bint repeats

    def __cinit__(self):
        self.drawn = []

    cdef Tensor next(self, int64_t *attr, int n, str name):
        if self.at == len(self.drawn) or self.drawn[self.at][0] != tuple([attr[i] for i in range(n)]):
            raise RuntimeError(f"{name}: a function that is run again for its gradient draws other random numbers than "
                               "before")
        self.at += 1
        return self.drawn[self.at - 1][1].detach()

    def __enter__(self):
        global n_draws
        self.at = 0
        draws_here.logs = [*getattr(draws_here, "logs", ()), self]
        n_draws += 1
        return self

    def __exit__(self, *exception):
        global n_draws
        self.repeats = True
        draws_here.logs = draws_here.logs[:-1]
        n_draws -= 1

