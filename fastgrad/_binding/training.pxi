# Training steps: replay of a program, check of its gradients and the optimizer's update in one call of the core
# (csrc/program/training.c). Included by _core.pyx.

cdef extern from *:
    """
    typedef struct { const char *name, *numbers; int least, most; } fg_optimizer_row;
    static const fg_optimizer_row fg_optimizers[] = {
    #define OPTIMIZER(name, least, most, ...) {#name, #__VA_ARGS__, least, most},
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


@cython.final
cdef class UpdateRule:
    """An update as the core takes it: the row of csrc/optim.def, its numbers at one step, and the state. The state is a
    tuple that has, for each state array of the optimizer, a list with one array for each parameter."""

    cdef fg_update_rule rule
    cdef tuple state
    cdef object optimizer, structure, steps
    cdef readonly bint taken    # parameters and state are updated, and the step is counted

    def __cinit__(self, str row, tuple state, tuple numbers, optimizer=None, structure=None):
        """With a structure the update counts as a step of the optimizer, which from then on keeps state for parameters
        of this structure. The count is part of the call that updates, so that no interrupt comes between, and
        allocates nothing, so that it cannot fail."""
        cdef tuple known = <tuple>OPTIMIZER_ROWS[row]
        cdef int number = known[0], least = known[2], most = known[3], i
        if not least <= len(state) <= most:
            raise ValueError(f"{row}: expected {least} to {most} state arrays a parameter, got {len(state)}")
        if len(numbers) != len(<tuple>known[1]):
            raise ValueError(f"{row}: expected the numbers {', '.join(known[1])}, got {len(numbers)}")
        for i in range(len(numbers)):
            self.rule.number[i] = numbers[i]
        self.rule.optimizer, self.state = number, state
        if structure is not None:
            self.optimizer, self.structure, self.steps = optimizer, structure, optimizer.steps + 1

    cdef int count(self) except -1:
        self.taken = True
        if self.structure is not None:
            self.optimizer._structure = self.structure
            self.optimizer.steps = self.steps
        return 0

    def update(self, leaves, gradients):
        """Update parameters, ndarrays or leaf tensors, and the state in place; if an argument is wrong, none of
        them."""
        cdef int i, k, n = len(leaves), n_state = len(self.state)
        cdef int width = 2 + n_state            # arrays for each parameter: itself, its gradient, its state
        cdef bint done = False
        cdef void *state[FG_MAX_STATES]
        cdef fg_array **a = <fg_array **>PyMem_Calloc(width * n + 1, sizeof(fg_array *))
        cdef fg_array **x
        name = fg_optimizers[self.rule.optimizer].name.decode()
        try:
            if a == NULL:
                raise MemoryError(f"{name}: no memory")
            for i in range(n):
                x = a + width * i
                x[0] = updated(leaves[i], NULL, name, "parameter")
                x[1] = updated(gradients[i], x[0], name, "gradient")
                for k in range(n_state):
                    x[2 + k] = updated(self.state[k][i], x[0], name, "state")
            for i in range(n):
                x = a + width * i
                for k in range(FG_MAX_STATES):
                    state[k] = x[2 + k].data if k < n_state else NULL
                fg_update(&self.rule, x[0].dtype, x[0].shape.size, x[0].data, x[1].data, state)
            done = True
            self.count()
        finally:
            for i in range(width * n if a != NULL else 0):
                if a[i] != NULL:
                    if done and i % width != 1:
                        fg_array_changed(a[i])  # for the tape
                    fg_array_unref(a[i])
            PyMem_Free(a)

    cdef int state_addresses(self, Program program, void **to) except -1:
        """Fill in the addresses of the state arrays, FG_MAX_STATES for each parameter. ValueError if one does not have
        the parameter's shape and dtype."""
        cdef int i, k
        cdef cnp.ndarray a
        for i in range(FG_MAX_STATES * program.n_gradients):
            to[i] = NULL
        for k in range(len(self.state)):
            for i in range(program.n_gradients):
                a = (<list>self.state[k])[i]
                if not fits(a, fg_program_input_dtype(program.program, i),
                            fg_program_input_shape(program.program, i)) or not cnp.PyArray_ISWRITEABLE(a):
                    raise ValueError("training step: the optimizer's state does not fit the parameters")
                to[FG_MAX_STATES * i + k] = cnp.PyArray_DATA(a)
        return 0


cdef tuple train(Program program, fg_replay *r, UpdateRule rule, bint checked):
    """A training step on a replay whose inputs are set; the replay is given back. Returns the loss, the index of the
    first gradient that is not finite (-1: none; the number of parameters: only the loss is not), and a copy of that
    gradient."""
    cdef void *few[16 * FG_MAX_STATES]
    cdef void **state = few
    cdef int bad = -1, status, i
    cdef cnp.ndarray gradient = None
    try:
        for i in range(program.n_gradients):
            if not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>fg_replay_owner(r)[i]):
                raise ValueError("training step: a parameter is read-only and cannot be updated in place")
        if program.n_gradients > 16:
            state = <void **>PyMem_Malloc(FG_MAX_STATES * program.n_gradients * sizeof(void *))
            if state == NULL:
                raise MemoryError("training step: no memory")
        rule.state_addresses(program, state)
        check(fg_replay_copy_aliased(program.program, r))
        if program.releases_gil:
            with nogil:
                status = fg_replay_train(program.program, r, &rule.rule, state, checked, &bad)
        else:
            status = fg_replay_train(program.program, r, &rule.rule, state, checked, &bad)
        check(status)
        if bad < 0:
            rule.count()
        elif bad < program.n_gradients:
            gradient = new_ndarray(fg_program_input_shape(program.program, bad),
                                   fg_program_input_dtype(program.program, bad))
            fg_replay_gradient(program.program, r, bad, cnp.PyArray_DATA(gradient))
        return fg_replay_loss(program.program, r), bad, gradient
    finally:
        if state != few:
            PyMem_Free(state)
        program.give(r)


cdef bint gather(Program program, fg_replay *r, int i, cnp.ndarray x, cnp.ndarray rows):
    """Gather these rows of x into input i; False if their shape, dtype or layout is not that of the input."""
    cdef fg_shape *s = fg_program_input_shape(program.program, i)
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(rows), length = cnp.PyArray_DIM(x, 0), row_bytes, k
    cdef int64_t *row = <int64_t *>cnp.PyArray_DATA(rows)
    cdef void *to
    if (number_of(x) != fg_program_input_dtype(program.program, i) or cnp.PyArray_NDIM(x) != s.ndim or s.dim[0] != n
            or not cnp.PyArray_ISCARRAY_RO(x)):
        return False
    for k in range(1, s.ndim):
        if cnp.PyArray_DIM(x, <int>k) != s.dim[k]:
            return False
    for k in range(n):
        if not 0 <= row[k] < length:
            return False
    to = fg_replay_own_input(program.program, r, i)
    if to == NULL:
        fail(FG_NO_MEMORY)
    row_bytes = cnp.PyArray_NBYTES(x) // length if length else 0
    fg_gather_rows(row_bytes, n, row, cnp.PyArray_DATA(x), to)
    return True
