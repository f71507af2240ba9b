# Training steps: replay of a program, check of its gradients and the optimizer's update in one call of the core
# (csrc/program/training.c). Included by _core.pyx.

cdef extern from *:
    """
    typedef struct { const char *name, *numbers; int least, most; } fg_optimizer_row;
    static const fg_optimizer_row fg_optimizers[] = {
    #define OPTIMIZER(name, least, most, ...) [FG_OPTIMIZER_##name] = {#name, #__VA_ARGS__, least, most},
    #include "optim.def"
    #undef OPTIMIZER
    };
    """
    ctypedef struct fg_optimizer_row:
        const char *name
        const char *numbers
        int least, most
    const fg_optimizer_row fg_optimizers[]


# The rows of csrc/optim.def by name: (number, names of the numbers, least and most state arrays).
cdef dict OPTIMIZER_ROWS = {
    fg_optimizers[_i].name.decode(): (_i, tuple(map(sys.intern, fg_optimizers[_i].numbers.decode().split(", "))),
                                      fg_optimizers[_i].least, fg_optimizers[_i].most)
    for _i in range(FG_N_OPTIMIZERS)
}
OPTIMIZERS = OPTIMIZER_ROWS


cdef int set_rule(fg_update_rule *to, str row, tuple numbers, int n_state, bint lazy) except -1:
    """Set a rule to a row of csrc/optim.def and its numbers, for n_state state arrays a parameter; lazy: rows whose
    gradient is 0 stay as they are."""
    cdef tuple known = <tuple>OPTIMIZER_ROWS[row]
    cdef int least = known[2], most = known[3], i
    if not least <= n_state <= most:
        raise ValueError(f"{row}: expected {least} to {most} state arrays a parameter, got {n_state}")
    if len(numbers) != len(<tuple>known[1]):
        raise ValueError(f"{row}: expected the numbers {', '.join(known[1])}, got {len(numbers)}")
    for i in range(len(numbers)):
        to.number[i] = numbers[i]
    to.optimizer, to.lazy_rows = known[0], lazy
    if lazy and to.optimizer >= FG_N_ELEMENTWISE_OPTIMIZERS:
        raise ValueError(f"{row}: an update of whole parameters cannot leave rows out")
    return 0


cdef bint owns_its_memory(cnp.ndarray a):
    """Whether an ndarray's memory belongs to an ndarray, so that no tensor can be on it."""
    cdef object base = <object>cnp.PyArray_BASE(a) if cnp.PyArray_BASE(a) != NULL else None
    return base is None or (cnp.PyArray_CheckExact(base) and cnp.PyArray_BASE(<cnp.ndarray>base) == NULL)


cdef bint fits_beside(x, cnp.ndarray p):
    """Whether x is an ndarray that a kernel may read beside p: of its shape and dtype, and contiguous."""
    cdef int i
    if not cnp.PyArray_CheckExact(x) or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>x):
        return False
    if (cnp.PyArray_NDIM(x) != cnp.PyArray_NDIM(p) or cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(p)):
        return False
    for i in range(cnp.PyArray_NDIM(p)):
        if cnp.PyArray_DIM(<cnp.ndarray>x, i) != cnp.PyArray_DIM(p, i):
            return False
    return True


@cython.final
cdef class UpdateRule:
    """An update as the core takes it: the row of csrc/optim.def, its numbers at one step, and the state. The state is a
    tuple that has, for each state array of the optimizer, a list with one array for each parameter.

    With ``lazy`` a row of a parameter whose gradient is 0 stays as it is, and so does its state. With ``groups`` the
    parameters differ in how they are updated: it lists further rows, each with its numbers and whether it is lazy, or
    None for parameters that are frozen, and ``which`` (an int32 array) has the number of each parameter's, 0 for the
    first row."""

    cdef fg_update_rule first
    cdef fg_update_rule *rules      # the first and those of groups; or NULL
    cdef fg_updates updates
    cdef tuple state
    cdef cnp.ndarray which
    cdef object optimizer, structure, steps
    cdef readonly bint taken    # parameters and state are updated, and the step is counted
    cdef public bint has_aux    # the loss returns more than its value

    def __cinit__(self, str row, tuple state, tuple numbers, optimizer=None, structure=None, list groups=None,
                  cnp.ndarray which=None, bint lazy=False):
        """With a structure the update counts as a step of the optimizer, which from then on keeps state for parameters
        of this structure. The count is part of the call that updates, so that no interrupt comes between, and
        allocates nothing, so that it cannot fail."""
        cdef int i, n = 0 if groups is None else len(groups)
        set_rule(&self.first, row, numbers, len(state), lazy)
        self.updates.rule, self.updates.rule_of = &self.first, NULL
        self.updates.clip.kind, self.updates.clip.scale = FG_CLIP_NOTHING, 1
        self.state = state
        if groups is not None:
            if (which is None or cnp.PyArray_TYPE(which) != cnp.NPY_INT32 or not cnp.PyArray_ISCARRAY_RO(which)
                    or (which.size and not 0 <= which.min() <= which.max() <= n)):
                raise ValueError(f"{row}: expected the groups of the parameters as an array of int32 up to {n}")
            self.rules = <fg_update_rule *>PyMem_Calloc(n + 1, sizeof(fg_update_rule))
            if self.rules == NULL:
                raise MemoryError(f"{row}: no memory")
            self.rules[0] = self.first
            for i in range(n):
                if groups[i] is None:
                    self.rules[i + 1].optimizer = FG_FROZEN
                else:
                    set_rule(&self.rules[i + 1], groups[i][0], groups[i][1], len(state), groups[i][2])
            self.updates.rule, self.which = self.rules, which
            self.updates.rule_of = <const int *>cnp.PyArray_DATA(which)
        if structure is not None:
            self.optimizer, self.structure, self.steps = optimizer, structure, optimizer.steps + 1

    def __dealloc__(self):
        PyMem_Free(self.rules)

    def clip(self, int kind, double limit):
        """Clip the gradients before they are used: CLIP_VALUE, CLIP_NORM or CLIP_EACH_NORM."""
        if not FG_CLIP_NOTHING <= kind <= FG_CLIP_EACH_NORM or not limit >= 0:
            raise ValueError(f"clip: there is no kind {kind} with the limit {limit}")
        self.updates.clip.kind, self.updates.clip.limit = <fg_clip_kind>kind, limit

    def scale(self, double factor):
        """Multiply the gradients by this number before they are clipped and used."""
        self.updates.clip.scale = factor

    cdef int count(self) except -1:
        self.taken = True
        if self.structure is not None:
            self.optimizer._structure = self.structure
            self.optimizer.steps = self.steps
        return 0

    cdef int rule_of(self, int i) noexcept:
        """The row of parameter i, or FG_FROZEN."""
        return self.updates.rule[self.updates.rule_of[i] if self.updates.rule_of != NULL else 0].optimizer

    cdef int check_count(self, int n, name) except -1:
        if self.which is not None and cnp.PyArray_SIZE(self.which) != n:
            raise ValueError(f"{name}: expected the groups of {n} parameters, got {cnp.PyArray_SIZE(self.which)}")
        return 0

    cdef bint fits_state(self, a, int i, int k, int dtype, int ndim, const int64_t *dim):
        """Whether a is state array k of parameter i, which has this dtype and shape."""
        cdef int row = self.rule_of(i)
        cdef int axis
        if not (isinstance(a, cnp.ndarray) and cnp.PyArray_ISCARRAY(<cnp.ndarray>a) and number_of(a) == dtype):
            return False
        if row >= FG_N_ELEMENTWISE_OPTIMIZERS:
            return cnp.PyArray_SIZE(a) == fg_state_size(row, k, ndim, dim)
        if cnp.PyArray_NDIM(<cnp.ndarray>a) != ndim:
            return False
        for axis in range(ndim):
            if cnp.PyArray_DIM(<cnp.ndarray>a, axis) != dim[axis]:
                return False
        return True

    cdef bint take_ndarrays(self, fg_parameter *x, int i, p, g):
        """Set up a parameter whose arrays are all plain ndarrays, but for a gradient that may be a RowSparse; False if
        they are not."""
        cdef int k
        cdef cnp.ndarray a
        if not (cnp.PyArray_CheckExact(p) and cnp.PyArray_ISCARRAY(<cnp.ndarray>p)
                and 0 <= number_of(p) <= FG_FLOAT64 and owns_its_memory(p)):
            return False
        a = p
        x.dtype, x.ndim, x.dim = number_of(a), cnp.PyArray_NDIM(a), <const int64_t *>cnp.PyArray_DIMS(a)
        x.n, x.p = cnp.PyArray_SIZE(a), cnp.PyArray_DATA(a)
        if isinstance(g, RowSparse):
            if not fits(a, (<RowSparse>g).number, (<RowSparse>g).whole):
                return False
            x.rows = &(<RowSparse>g).sums
        elif fits_beside(g, p):
            x.g = cnp.PyArray_DATA(<cnp.ndarray>g)
        else:
            return False
        if self.rule_of(i) == FG_FROZEN:
            return True
        for k in range(len(self.state)):
            s = (<list>(<tuple>self.state)[k])[i]
            if not self.fits_state(s, i, k, x.dtype, x.ndim, x.dim):
                return False
            x.state[k] = cnp.PyArray_DATA(<cnp.ndarray>s)
        return True

    def update(self, leaves, gradients):
        """Update parameters, ndarrays or leaf tensors, and the state in place; if an argument is wrong, none of
        them."""
        cdef int i, k, n = len(leaves), n_state = len(self.state)
        cdef bint done = False
        cdef fg_parameter *x = <fg_parameter *>PyMem_Calloc(n + 1, sizeof(fg_parameter))
        cdef int width = 2 + n_state    # arrays for each parameter that are no plain ndarrays, or NULL
        cdef fg_array **own = <fg_array **>PyMem_Calloc(width * n + 1, sizeof(fg_array *))
        cdef fg_array **a
        name = fg_optimizers[self.first.optimizer].name.decode()
        try:
            if x == NULL or own == NULL:
                raise MemoryError(f"{name}: no memory")
            self.check_count(n, name)
            for i in range(n):
                if self.take_ndarrays(&x[i], i, leaves[i], gradients[i]):
                    continue
                x[i].rows = NULL
                a = own + width * i
                a[0] = updated(leaves[i], NULL, name, "parameter")
                g = gradients[i]
                a[1] = updated(np.asarray(g) if isinstance(g, RowSparse) else g, a[0], name, "gradient")
                x[i].dtype, x[i].ndim, x[i].dim = a[0].dtype, a[0].shape.ndim, a[0].shape.dim
                x[i].n, x[i].p, x[i].g = a[0].shape.size, a[0].data, a[1].data
                for k in range(n_state if self.rule_of(i) != FG_FROZEN else 0):
                    s = self.state[k][i]
                    if self.rule_of(i) < FG_N_ELEMENTWISE_OPTIMIZERS:
                        a[2 + k] = updated(s, a[0], name, "state")
                        x[i].state[k] = a[2 + k].data
                    elif self.fits_state(s, i, k, a[0].dtype, a[0].shape.ndim, a[0].shape.dim):
                        x[i].state[k] = cnp.PyArray_DATA(<cnp.ndarray>s)
                    else:
                        raise ValueError(f"{name}: the state does not fit a parameter of shape "
                                         f"{shape_tuple(a[0].shape)}")
            check(fg_update(&self.updates, n, x))
            done = True
            self.count()
        finally:
            for i in range(width * n if own != NULL else 0):
                if own[i] != NULL:
                    if done and i % width != 1:
                        fg_array_changed(own[i])  # for the tape
                    fg_array_unref(own[i])
            PyMem_Free(x)
            PyMem_Free(own)

    cdef int state_addresses(self, Program program, void **to) except -1:
        """Fill in the addresses of the state arrays, FG_MAX_STATES for each parameter. ValueError if one does not have
        the parameter's shape and dtype."""
        cdef int i, k
        cdef fg_shape *shape
        cdef bint is_plain = self.which is None and self.first.optimizer < FG_N_ELEMENTWISE_OPTIMIZERS
        cdef cnp.ndarray x
        self.check_count(program.n_gradients, "training step")
        for i in range(FG_MAX_STATES * program.n_gradients):
            to[i] = NULL
        for k in range(len(self.state)):
            for i in range(program.n_gradients):
                if not is_plain and self.rule_of(i) == FG_FROZEN:
                    continue
                a = (<list>self.state[k])[i]
                if is_plain:
                    x = a
                    if fits(x, fg_program_input_dtype(program.program, i),
                            fg_program_input_shape(program.program, i)) and cnp.PyArray_ISWRITEABLE(x):
                        to[FG_MAX_STATES * i + k] = cnp.PyArray_DATA(x)
                        continue
                shape = fg_program_input_shape(program.program, i)
                if not self.fits_state(a, i, k, fg_program_input_dtype(program.program, i), shape.ndim, shape.dim):
                    raise ValueError("training step: the optimizer's state does not fit the parameters")
                to[FG_MAX_STATES * i + k] = cnp.PyArray_DATA(<cnp.ndarray>a)
        return 0


CLIP_VALUE, CLIP_NORM, CLIP_EACH_NORM = FG_CLIP_VALUE, FG_CLIP_NORM, FG_CLIP_EACH_NORM


def state_shape(str row, int k, tuple shape):
    """The shape of state array k that a row keeps for a parameter: the parameter's own, or one axis of so many
    elements."""
    cdef int64_t dim[FG_MAX_NDIM]
    cdef int64_t size, n = 1
    cdef int i
    for i in range(len(shape)):
        dim[i] = shape[i]
        n *= dim[i]
    size = fg_state_size(OPTIMIZER_ROWS[row][0], k, len(shape), dim)
    return shape if size == n else (size,)


cdef tuple train(Program program, fg_replay *r, UpdateRule rule, bint checked, rebuild):
    """A training step on a replay whose inputs are set; the replay is given back. Returns the loss, the index of the
    first gradient that is not finite (-1: none; the number of parameters: only the loss is not), a copy of that
    gradient, and if the rule has ``has_aux`` what the loss returns besides its value, which ``rebuild`` makes of the
    program's results."""
    cdef void *few[16 * FG_MAX_STATES]
    cdef void **state = few
    cdef int bad = -1, status, i
    cdef cnp.ndarray gradient = None
    aux = None
    try:
        for i in range(program.n_gradients):
            if not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>fg_replay_owner(r)[i]):
                raise ValueError("training step: a parameter is read-only and cannot be updated in place")
        if program.n_gradients > 16:
            state = <void **>PyMem_Malloc(FG_MAX_STATES * program.n_gradients * sizeof(void *))
            if state == NULL:
                raise MemoryError("training step: no memory")
        rule.state_addresses(program, state)
        results = program.make_results(r) if rule.has_aux else None
        check(fg_replay_copy_aliased(program.program, r))
        if program.releases_gil:
            with nogil:
                status = fg_replay_train(program.program, r, &rule.updates, state, checked, &bad)
        else:
            status = fg_replay_train(program.program, r, &rule.updates, state, checked, &bad)
        check(status)
        if bad < 0:
            rule.count()
        elif bad < program.n_gradients:
            gradient = new_ndarray(fg_program_input_shape(program.program, bad),
                                   fg_program_input_dtype(program.program, bad))
            fg_replay_gradient(program.program, r, bad, cnp.PyArray_DATA(gradient))
        if rule.has_aux:
            program.read_kept(r, results)
            aux = rebuild([*results, *[None] * program.n_gradients])[1]
        return fg_replay_loss(program.program, r), bad, gradient, aux
    finally:
        if state != few:
            PyMem_Free(state)
        program.give(r)


cdef tuple differentiate(Program program, fg_replay *r, rebuild):
    """(loss, what else the function returned, gradients) of a replay whose inputs are set. Gradients are ndarrays, or
    RowSparse where they are kept as rows. The replay is given back, and nothing is updated."""
    cdef int i
    cdef RowSparse rows
    cdef cnp.ndarray whole
    cdef list gradients = []
    try:
        results = program.make_results(r)
        program.evaluate(r)
        program.read_kept(r, results)
        for i in range(program.n_gradients):
            rows = RowSparse.__new__(RowSparse)
            rows.number = fg_program_input_dtype(program.program, i)
            rows.whole = fg_shape_ref(fg_program_input_shape(program.program, i))
            check(fg_replay_gradient_rows(program.program, r, i, &rows.sums))
            if rows.sums.values != NULL:
                gradients.append(rows)
                continue
            whole = new_ndarray(rows.whole, rows.number)
            fg_replay_gradient(program.program, r, i, cnp.PyArray_DATA(whole))
            gradients.append(whole)
        aux = rebuild([*results, *[None] * program.n_gradients])[1]
        return fg_replay_loss(program.program, r), aux, gradients
    finally:
        program.give(r)


cdef bint element_strides(cnp.ndarray x, int64_t *stride):
    """Set the strides of an array in elements; False if they are no whole numbers of them, or x is not aligned."""
    cdef cnp.npy_intp itemsize = cnp.PyArray_ITEMSIZE(x)
    for k in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_STRIDE(x, k) % itemsize:
            return False
        stride[k] = cnp.PyArray_STRIDE(x, k) // itemsize
    return cnp.PyArray_ISALIGNED(x)


cdef bint are_within(const int64_t *row, cnp.npy_intp n, cnp.npy_intp length) noexcept:
    """Whether all of n indices are those of rows of an array of so many."""
    for k in range(n):
        if not 0 <= row[k] < length:
            return False
    return True


def gather_rows(cnp.ndarray x not None, cnp.ndarray rows not None):
    """A contiguous copy of the rows of x with these int64 indices, as ``x[rows]``."""
    cdef int64_t stride[FG_MAX_NDIM]
    cdef int64_t dim[FG_MAX_NDIM]
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(rows), itemsize = cnp.PyArray_ITEMSIZE(x)
    cdef int ndim = cnp.PyArray_NDIM(x), k
    cdef int64_t *row = <int64_t *>cnp.PyArray_DATA(rows)
    cdef const void *start = cnp.PyArray_DATA(x)
    cdef void *to
    if (not 0 < ndim <= FG_MAX_NDIM or number_of(x) < 0 or number_of(rows) != FG_INT64
            or cnp.PyArray_NDIM(rows) != 1 or not cnp.PyArray_ISCARRAY_RO(rows) or not element_strides(x, stride)
            or not are_within(row, n, cnp.PyArray_DIM(x, 0))):
        return np.ascontiguousarray(x[rows])
    for k in range(ndim):
        dim[k] = cnp.PyArray_DIM(x, k) if k else n
    found = np.empty((n, *(<object>x).shape[1:]), x.dtype)
    to = cnp.PyArray_DATA(<cnp.ndarray>found)
    with nogil:
        fg_gather_rows(ndim, dim, stride, itemsize, n, row, start, to)
    return found


cdef bint gather(Program program, fg_replay *r, int i, cnp.ndarray x, cnp.ndarray rows):
    """Gather these rows of x into input i; False if their shape or dtype is not that of the input, or x is not aligned.
    """
    cdef fg_shape *s = fg_program_input_shape(program.program, i)
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(rows), itemsize = cnp.PyArray_ITEMSIZE(x), k
    cdef int64_t *row = <int64_t *>cnp.PyArray_DATA(rows)
    cdef int64_t stride[FG_MAX_NDIM]
    cdef void *to
    if (number_of(x) != fg_program_input_dtype(program.program, i) or cnp.PyArray_NDIM(x) != s.ndim or not s.ndim
            or s.dim[0] != n or not cnp.PyArray_ISNOTSWAPPED(x) or not element_strides(x, stride)):
        return False
    for k in range(1, s.ndim):
        if cnp.PyArray_DIM(x, <int>k) != s.dim[k]:
            return False
    if not are_within(row, n, cnp.PyArray_DIM(x, 0)):
        return False
    to = fg_replay_own_input(program.program, r, i)
    if to == NULL:
        fail(FG_NO_MEMORY)
    fg_gather_rows(s.ndim, s.dim, stride, itemsize, n, row, cnp.PyArray_DATA(x), to)
    return True
