# What tensors refuse, or hand out to NumPy and Python. Included by _core.pyx.

cdef int refuse_tracked(Tensor x, str name) except -1:
    if x.t.node != NULL:
        raise TypeError(f"{name}: this tensor requires gradients, which an ndarray would silently lose; join tensors "
                        "with fastgrad.stack or fastgrad.asarray, "
                        + ("write a = fastgrad.asarray(a).at[i].set(x) for a[i] = x, "
                           if name.startswith("numpy") else "")
                        + "use fastgrad.sparse.matmul for a matrix of SciPy's, or take the plain values with .detach()"
                        + (frames.instead_of_theirs()
                           or (". If it is an element of a list or tuple x that is differentiated, which an ndarray A "
                               "would convert in A @ x, pass np.array(x) instead, or join it"
                               if x.t.array.shape.ndim == 0 else "")))
    return 0


cdef class RefusedAttribute:
    """An attribute that ndarrays have and tensors refuse, with what to use instead; without that it is about memory."""

    cdef str name, cure

    def __init__(self, str name, str cure=""):
        self.name, self.cure = name, cure

    def __get__(self, tensor, owner):
        if tensor is None:
            return self
        raise AttributeError(self.text())

    def __set__(self, tensor, value):
        raise AttributeError(self.text())

    cdef str text(self):
        if self.cure:
            return f"a tensor has no {self.name}; use {self.cure}"
        return (f"a tensor has no {self.name}, as its memory is the core's; use x.detach().numpy().{self.name}"
                + frames.instead_of_theirs())


cdef int refuse_in_transform(Tensor x, str name) except -1:
    if x.t.node != NULL and fg_transform:
        raise TypeError(f"{name}: a tensor that is being differentiated would silently become a constant; use "
                        "fastgrad's or NumPy's functions instead of math's, fastgrad.asarray instead of a list, "
                        "a = fastgrad.asarray(a).at[i].set(x) instead of a[i] = x in an ndarray, or say that a "
                        "constant is meant with fastgrad.stop_gradient(x)" + frames.instead_of_theirs())
    return 0


cdef only_element(Tensor x, str name):
    """The only element as a Python number, for a function of this name."""
    refuse_in_transform(x, name)
    if x.t.node != NULL and name != "item" and frames.stores_an_element():
        raise TypeError("a[i] = x: an ndarray or other array of numbers would keep the number of this tensor, which "
                        "requires gradients, and silently lose its gradient; write a = fastgrad.asarray(a).at[i].set(x)"
                        ", or a[i] = x.item() where the number alone is meant")
    if x.t.array.shape.size != 1:
        raise ValueError(f"{name}: expected a tensor of one element, got shape {x.shape}")
    refuse_value(x, "number")
    if x.t.array.dtype == FG_FLOAT64:
        return (<double *>x.t.array.data)[0]
    if x.t.array.dtype == FG_FLOAT32:
        return <double>(<float *>x.t.array.data)[0]
    return view_of(x.t.array, False).item()


cdef inline bint has_grad(Tensor x):
    return x.t.node != NULL and x.t.node.op == FG_OP_leaf


cdef str text_of_tensor(Tensor x):
    if fg_tracing and fg_traced(x.t.array):
        kind = "being traced" if fg_trace_check_leaked(x.t.array) == FG_OK else "of an ended trace"
        return f"tensor(<{kind}>, shape={x.shape}, dtype={x.dtype})"
    with np.printoptions(threshold=1000):
        text = np.array2string(view_of(x.t.array, False), separator=", ", prefix="tensor(")
    suffix = "" if x.t.array.dtype in (FG_FLOAT64, FG_BOOL, FG_INT64) else f", dtype={x.dtype}"
    if x.size == 0 and x.ndim != 1:
        suffix += f", shape={x.shape}"
    if x.t.node != NULL:
        suffix += (", requires_grad=True" if x.t.node.op == FG_OP_leaf
                  else f", op={fg_ops[x.t.node.op].name.decode()}")
    return f"tensor({text}{suffix})"


cdef dlpack_of(Tensor x, stream, max_version, dl_device, copy):
    # Whoever imports it may write, and some (PyTorch) also where they are told that it is read-only. Memory that
    # the tape or another tensor holds too is therefore copied, unless copy=False asks for it, read-only.
    given = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
    cdef bint writeable = fg_array_is_private(x.t.array) and x.t.array.tape_refs == 0
    a = view_of(x.t.array, writeable)
    if writeable and copy is not True:
        x.t.array.externally_mutable = True
    elif copy is None:
        a = a.copy()
    if NUMPY_2_0:                           # it knows neither versions nor copies, and exports no read-only memory
        if dl_device not in (None, x.__dlpack_device__()):
            raise BufferError(f"a tensor is in the memory of the CPU, not on the device {dl_device}")
        return (a.copy() if copy else a).__dlpack__(stream=stream)
    return a.__dlpack__(**{key: value for key, value in given.items() if value is not None})
