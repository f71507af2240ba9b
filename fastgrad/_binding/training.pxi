# Training steps: a program's replay, the look at its gradients and the optimizer's update in one call of the core
# (csrc/program/training.c). Included by _core.pyx.

@cython.final
cdef class Rule:
    """An optimizer's numbers at one step, and its state: for each parameter as many arrays as the optimizer keeps."""

    cdef fg_update_rule rule
    cdef tuple state            # a list of arrays for each kind of state
    cdef object optimizer, structure

    def counted_by(self, optimizer, structure):
        """Let the update count as a step of this optimizer, which from then on keeps state for parameters of this
        structure: in the same call, so that no interrupt comes between."""
        self.optimizer, self.structure = optimizer, structure
        return self

    cdef int count(self) except -1:
        if self.optimizer is not None:
            self.optimizer._structure = self.structure
            self.optimizer.steps += 1
        return 0

    @staticmethod
    def sgd(tuple state, double rate, double momentum, double dampening, double weight_decay, bint nesterov,
            bint first):
        cdef Rule r = Rule.__new__(Rule)
        if momentum != 0 and len(state) != 1:
            raise ValueError("SGD: it lacks the state that momentum needs; give momentum when the optimizer is made")
        r.state, r.rule.adam, r.rule.rate, r.rule.weight_decay = state, False, rate, weight_decay
        r.rule.momentum, r.rule.dampening, r.rule.nesterov, r.rule.first = momentum, dampening, nesterov, first
        return r

    @staticmethod
    def adam(tuple state, double rate, double beta1, double beta2, double eps, double weight_decay, bint decoupled,
             double correction1, double correction2):
        cdef Rule r = Rule.__new__(Rule)
        if len(state) != 2:
            raise ValueError("Adam: its state is that of two moments")
        r.state, r.rule.adam, r.rule.rate, r.rule.weight_decay = state, True, rate, weight_decay
        r.rule.beta1, r.rule.beta2, r.rule.eps, r.rule.decoupled = beta1, beta2, eps, decoupled
        r.rule.correction1, r.rule.correction2 = correction1, correction2
        return r

    def update(self, leaves, gradients):
        """Change parameters, ndarrays or leaf tensors, and the state in place along the gradients."""
        cdef fg_array *a[4]
        cdef int k, n_state = len(self.state)
        name = "adam" if self.rule.adam else "sgd"
        for i, (p, g) in enumerate(zip(leaves, gradients)):
            a[0] = a[1] = a[2] = a[3] = NULL
            try:
                a[0] = updated(p, NULL, name, "parameter")
                a[1] = updated(g, a[0], name, "gradient")
                for k in range(n_state):
                    a[2 + k] = updated(self.state[k][i], a[0], name, "state")
                fg_update(&self.rule, a[0].dtype, a[0].shape.size, a[0].data, a[1].data,
                          NULL if a[2] == NULL else a[2].data, NULL if a[3] == NULL else a[3].data)
            finally:
                written(a, 4)
        self.count()

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


cdef tuple train(Program program, fg_replay *r, Rule rule, bint checked):
    """A training step on a replay whose inputs are set, which is given back: the loss, which gradient is not finite
    (the number of parameters: the loss alone; -1: none), and a copy of that gradient."""
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
    """Let input i be these rows of x, if that is what it is like."""
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
