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
        return a
    wanted = DTYPES[dtype_number(np.dtype(dtype))]
    return a if a.dtype == wanted else a.astype(wanted)


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


@public
def asarray(data, dtype=None):
    """A tensor on the memory of an ndarray, where dtype and layout allow; a tensor is returned as it is.

    A later change of the ndarray shows in the tensor. What a gradient needs of such shared memory is copied when the
    operation is recorded, so that a change does not make the gradient wrong. Nested lists may hold tensors, which are
    joined as ``numpy.asarray`` joins arrays, with their gradients.

    >>> import fastgrad as fg
    >>> fg.asarray([1, 2])
    tensor([1, 2])
    >>> fg.jacobian(lambda a: fg.asarray([[a, 1.0], [0.0, a * a]]))(3.0)
    array([[1., 0.],
           [0., 6.]])
    """
    data = joined(data, "asarray")
    if isinstance(data, Tensor):
        data = strong(data)
        return data if dtype is None or data.dtype == np.dtype(dtype) else astype(data, dtype)
    return wrap_array(array_from(with_dtype(data, dtype, "asarray"), share=True))


def adopt(a, str name):
    """A tensor on the memory of a new ndarray, which nobody else uses or will write."""
    return wrap_array(array_from(as_ndarray(np.asarray(a), name), share=True, externally_mutable=False))
