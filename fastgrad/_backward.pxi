# Leaves, cotangents, the backward pass, and the switches of recording. Included by _core.pyx.

def watch(cnp.ndarray a):
    """A leaf that requires gradients on a's memory, which nobody may write while the graph lives: in-place operators
    on it take memory of their own."""
    cdef Tensor r = wrap_array(array_from(a, cnp.PyArray_NBYTES(a) >= COPY_BELOW, unstable=False))
    r.t.array.readonly = True
    make_leaf(r)
    return r


def watch_tensor(Tensor x):
    """A leaf that requires gradients with the elements of x."""
    cdef Tensor r = wrap_array(fg_array_ref(x.t.array))
    make_leaf(r)
    return r


def gradient_tensor(Tensor leaf):
    """The gradient that leaf has collected, as a tensor: zeros where nothing reached it."""
    g = leaf.grad
    return tensor_of(np.zeros(leaf.shape, leaf.dtype)) if g is None else g


def gradient_of(Tensor leaf):
    """The gradient that leaf has collected, as a writable ndarray of its own: zeros where nothing reached it."""
    cdef fg_array *g
    if leaf.t.node.saved == NULL:
        return np.zeros(leaf.shape, leaf.dtype)
    g = leaf.t.node.saved
    if not fg_array_is_private(g):
        return view_of(g, False).copy()
    return view_of(g, True)


cdef fg_array *cotangent_like(Tensor y, value, str name) except NULL:
    """value as a cotangent of y, in memory that only the core writes."""
    cdef fg_array *x
    if isinstance(value, Tensor):
        x = (<Tensor>value).t.array
        if x.storage == FG_OWNED and not x.unstable and x.dtype == y.t.array.dtype and fg_shape_equal(
                x.shape, y.t.array.shape):
            return fg_array_ref(x)
        value = view_of(x, False)
    cdef cnp.ndarray a = as_ndarray(value, name)
    if number_of(a) != y.t.array.dtype:
        a = a.astype(y.dtype)
    cdef fg_array *g = array_from(a, share=False)
    if not fg_shape_equal(g.shape, y.t.array.shape):
        fg_array_unref(g)
        raise ValueError(f"{name}: expected a gradient of shape {y.shape}, got shape {np.shape(a)}")
    return g


def backward_to(list leaves, Tensor y):
    """The backward pass of the number y to leaves made just before y was computed: nothing older is touched."""
    cdef uint64_t oldest = ~<uint64_t>0
    cdef Tensor leaf
    for leaf in leaves:
        if leaf.t.node.number < oldest:
            oldest = leaf.t.node.number
    cdef fg_array *g = fg_array_new(y.t.array.shape, y.t.array.dtype)
    if g == NULL:
        fail(FG_NO_MEMORY)
    fg_kernels[g.dtype].reduce.fill(1, 1.0, g.data)
    status = fg_backward(y.t, g, False, oldest)
    fg_array_unref(g)
    check(status)


# ---- switches -------------------------------------------------------------------------------------------
def set_grad_enabled(bint enabled):
    """Turn recording on or off in this thread; returns what it was."""
    global fg_grad_enabled
    was = fg_grad_enabled != 0
    fg_grad_enabled = enabled
    return was


def grad_enabled():
    """Whether operations are recorded in this thread."""
    return fg_grad_enabled != 0


def enter_transform(int step):
    """Count the functional transforms this thread is inside of, by +1 and -1."""
    global fg_transforms_running
    fg_transforms_running += step
