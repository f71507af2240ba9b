# Tensors made of ndarrays, numbers and nested lists. Included by _core.pyx.

cdef int make_leaf(Tensor x) except -1:
    if x.t.array.dtype > FG_FLOAT64:
        raise TypeError(f"requires_grad: expected float32 or float64, got {x.dtype}; gradients of integers do not "
                        "exist, convert with dtype=float")
    x.t.node = fg_leaf(x.t.array)
    if x.t.node == NULL:
        fail(FG_NO_MEMORY)
    return 0


cdef cnp.ndarray with_dtype(x, dtype, str name):
    if isinstance(x, Tensor):
        refuse_tracked(x, name)
        x = view_of((<Tensor>x).t.array, False)
    cdef cnp.ndarray a = as_ndarray(x, name)
    if dtype is None:
        return in_default_dtype(a, x) if default_was_set and type(x) is float else a
    wanted = DTYPES[dtype_number(np.dtype(dtype))]
    if wanted.kind == "u" and a.dtype.kind == "f" and type(x) in (list, tuple):
        # Integers beyond int64 beside others, which NumPy takes for float64 where no dtype is given.
        if all_integers(np.asarray(x, object).flat):
            return np.asarray(x, wanted)
    return a if a.dtype == wanted else a.astype(wanted)


cdef bint all_integers(items):
    for item in items:
        if not isinstance(item, (int, np.integer)):
            return False
    return True


@public
def tensor(data, dtype=None, requires_grad=False):
    """A tensor with its own copy of the data.

    Parameters
    ----------
    data : array_like
        Numbers, nested lists of them, an ndarray, or a tensor that does not require gradients.
    dtype : dtype, optional
        float32, float64, bool or an integer dtype; by default that of the data as NumPy sees it.
    requires_grad : bool
        Record operations on it, and accumulate its gradient in ``.grad``. Needs a float dtype.

    Raises TypeError for strings, objects, complex numbers, and for requires_grad with integers; ValueError for
    ragged lists.

    >>> import fastgrad as fg
    >>> fg.tensor([1.0, 2.0], dtype="float32", requires_grad=True)
    tensor([1., 2.], dtype=float32, requires_grad=True)
    """
    cdef Tensor r
    data = joined(data, "tensor")
    if is_traced(data):
        refuse_tracked(data, "tensor")
        r = astype(data, data.dtype if dtype is None else dtype)
    else:
        r = tensor_of(with_dtype(data, dtype, "tensor"), share=False)
    if requires_grad:
        make_leaf(r)
    return r


def check_device(device, str name not None):
    """Raise ValueError for another device than that of all tensors."""
    if device is not None and device != "cpu":
        raise ValueError(f"{name}: tensors are in the memory of the CPU; expected device None or 'cpu', got "
                         f"{device!r}")


@public
def asarray(a, dtype=None, order=None, *, device=None, copy=None):
    """A tensor on the memory of an ndarray, where dtype and layout allow; a tensor is returned as it is.

    A later change of the ndarray shows in the tensor. What a gradient needs of such shared memory is copied when the
    operation is recorded, so that a change does not make the gradient wrong. Nested lists may hold tensors, which are
    joined as ``numpy.asarray`` joins arrays, with their gradients.

    ``copy=True`` always copies, with gradients where a tensor has them. ``copy=False`` raises ValueError where another
    dtype or what is no array would need a copy. ``device`` is "cpu" or None, else ValueError. So is an ``order`` of
    memory other than None, "C", "A" and "K", as tensors are in row-major order.

    >>> import fastgrad as fg
    >>> fg.asarray([1, 2])
    tensor([1, 2])
    >>> fg.jacobian(lambda a: fg.asarray([[a, 1.0], [0.0, a * a]]))(3.0)
    array([[1., 0.],
           [0., 6.]])
    """
    if order is not None and order not in ("C", "A", "K"):
        raise ValueError(f"asarray: expected order as 'C', 'A', 'K' or None, got {order!r}; tensors are row-major")
    if device is not None:
        check_device(device, "asarray")
    if copy is not None:
        return copied_or_not(a, dtype, copy)
    a = joined(a, "asarray")
    if isinstance(a, Tensor):
        a = strong(a)
        return a if dtype is None or a.dtype == np.dtype(dtype) else astype(a, dtype)
    return wrap_array(array_from(with_dtype(a, dtype, "asarray"), share=True))


cdef Tensor copied_or_not(data, dtype, bint copy):
    """``asarray`` with copy=True or copy=False."""
    if copy:
        data = joined(data, "asarray")
        if isinstance(data, Tensor):
            data = strong(data)
            return astype(data, data.dtype if dtype is None else dtype)
        return tensor_of(with_dtype(data, dtype, "asarray"), share=False)
    if isinstance(data, (Tensor, np.ndarray)):
        if dtype is None or data.dtype == np.dtype(dtype):
            if isinstance(data, Tensor) or data.dtype.isnative and data.flags.c_contiguous and data.flags.aligned:
                return asarray(data)
            raise ValueError("asarray: a copy is needed of an ndarray whose elements are not in row-major order, or "
                             "not as this machine stores them; leave out copy=False")
        raise ValueError(f"asarray: a copy is needed to convert {data.dtype} to {np.dtype(dtype)}; leave out "
                         "copy=False")
    raise ValueError(f"asarray: a copy is needed to make a tensor of {type(data).__name__}; leave out copy=False")


def adopt(a, str name):
    """A tensor on the memory of a new ndarray, which nobody else uses or will write."""
    return wrap_array(array_from(as_ndarray(np.asarray(a), name), share=True, externally_mutable=False))
