# Training steps: replay of a program, check of its gradients and the optimizer's update in one call of the core
# (csrc/program/training.c). Included by _core.pyx.

@cython.final
cdef class UpdateRule:
    """An optimizer's update at one step: its numbers, and its state arrays for each parameter."""

    cdef fg_update_rule rule
    cdef tuple state            # a list of arrays for each kind of state
    cdef object optimizer, structure, steps
    cdef readonly bint taken    # the step was: parameters and state are updated, and it is counted

    def counted_by(self, optimizer, structure):
        """Let the update count as a step of this optimizer, which from then on keeps state for parameters of this
        structure: in the same call, so that no interrupt comes between, and without memory, so that nothing fails."""
        self.optimizer, self.structure, self.steps = optimizer, structure, optimizer.steps + 1
        return self

    cdef int count(self) except -1:
        self.taken = True
        if self.optimizer is not None:
            self.optimizer._structure = self.structure
            self.optimizer.steps = self.steps
        return 0

    @staticmethod
    def sgd(tuple state, double rate, double momentum, double dampening, double weight_decay, bint nesterov,
            bint first):
        cdef UpdateRule r = UpdateRule.__new__(UpdateRule)
        if momentum != 0 and len(state) != 1:
            raise ValueError("SGD: it lacks the state that momentum needs; give momentum when the optimizer is made")
        r.state, r.rule.adam, r.rule.rate, r.rule.weight_decay = state, False, rate, weight_decay
        r.rule.momentum, r.rule.dampening, r.rule.nesterov, r.rule.first = momentum, dampening, nesterov, first
        return r

    @staticmethod
    def adam(tuple state, double rate, double beta1, double beta2, double eps, double weight_decay, bint decoupled,
             double correction1, double correction2):
        cdef UpdateRule r = UpdateRule.__new__(UpdateRule)
        if len(state) != 2:
            raise ValueError("Adam: its state is that of two moments")
        r.state, r.rule.adam, r.rule.rate, r.rule.weight_decay = state, True, rate, weight_decay
        r.rule.beta1, r.rule.beta2, r.rule.eps, r.rule.decoupled = beta1, beta2, eps, decoupled
        r.rule.correction1, r.rule.correction2 = correction1, correction2
        return r

    def update(self, leaves, gradients):
        """Change parameters, ndarrays or leaf tensors, and the state in place along the gradients; all or none."""
        cdef int i, k, n = len(leaves), n_state = len(self.state)
        cdef bint done = False
        cdef fg_array **a = <fg_array **>PyMem_Calloc(4 * n + 1, sizeof(fg_array *))
        cdef fg_array **x
        name = "adam" if self.rule.adam else "sgd"
        try:
            if a == NULL:
                raise MemoryError(f"{name}: no memory")
            for i in range(n):
                x = a + 4 * i                   # parameter, gradient, state
                x[0] = updated(leaves[i], NULL, name, "parameter")
                x[1] = updated(gradients[i], x[0], name, "gradient")
                for k in range(n_state):
                    x[2 + k] = updated(self.state[k][i], x[0], name, "state")
            for i in range(n):
                x = a + 4 * i
                fg_update(&self.rule, x[0].dtype, x[0].shape.size, x[0].data, x[1].data,
                          NULL if x[2] == NULL else x[2].data, NULL if x[3] == NULL else x[3].data)
            done = True
            self.count()
        finally:
            for i in range(4 * n if a != NULL else 0):
                if a[i] != NULL:
                    if done and i % 4 != 1:
                        fg_array_changed(a[i])  # for the tape
                    fg_array_unref(a[i])
            PyMem_Free(a)

    cdef int point(self, Program program, void **to) except -1:
        """Fill in the addresses of the state, two for each parameter, checked against it."""
        cdef int i, k
        cdef cnp.ndarray a
        for k in range(2):
            for i in range(program.n_kept):
                to[2 * i + k] = NULL
                if k < len(self.state):
                    a = (<list>self.state[k])[i]
                    if not fits(a, fg_program_input_dtype(program.program, i),
                                fg_program_input_shape(program.program, i)) or not cnp.PyArray_ISWRITEABLE(a):
                        raise ValueError("training step: the optimizer's state does not fit the parameters")
                    to[2 * i + k] = cnp.PyArray_DATA(a)
        return 0


cdef tuple train(Program program, fg_replay *r, UpdateRule rule, bint checked):
    """A training step on a replay whose inputs are set; the replay is given back. Returns the loss, the index of the
    first gradient that is not finite (-1: none; the number of parameters: only the loss is not), and a copy of that
    gradient."""
    cdef void *few[32]
    cdef void **state = few
    cdef int bad = -1, status, i
    cdef cnp.ndarray gradient = None
    try:
        for i in range(program.n_kept):
            if not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>fg_replay_owner(r)[i]):
                raise ValueError("training step: a parameter is read-only and cannot be updated in place")
        if program.n_kept > 16:
            state = <void **>PyMem_Malloc(2 * program.n_kept * sizeof(void *))
            if state == NULL:
                raise MemoryError("training step: no memory")
        rule.point(program, state)
        check(fg_replay_copy_aliased(program.program, r))
        if program.alone:
            with nogil:
                status = fg_replay_train(program.program, r, &rule.rule, state, checked, &bad)
        else:
            status = fg_replay_train(program.program, r, &rule.rule, state, checked, &bad)
        check(status)
        if bad < 0:
            rule.count()
        elif bad < program.n_kept:
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
