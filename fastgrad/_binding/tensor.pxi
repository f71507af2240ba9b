# The Tensor class. Included by _core.pyx.

# The Python modules whose functions Tensor's methods call. They import this one, so bind_layer hands them over.
cdef object indexing = None, numpy_functions = None, composed = None, rules = None, native_programs = None


cdef dict function_of_ufunc = {}


def bind_layer(indexing_module, numpy_module, ops_module, rules_module, native_module):
    """Hand over the modules of functions composed in Python: for Tensor's methods, NumPy's protocols and recorded
    backward passes; and for the text of native programs."""
    global indexing, numpy_functions, composed, rules, native_programs, function_of_ufunc
    indexing, numpy_functions, composed, rules = indexing_module, numpy_module, ops_module, rules_module
    native_programs = native_module
    function_of_ufunc = numpy_module.UFUNCS


cdef tuple shape_tuple(fg_shape *s):
    return tuple([s.dim[i] for i in range(s.ndim)])


@cython.final
@cython.freelist(256)
@cython.no_gc
@cython.binding(False)              # builtin methods: those of Cython do not check that self is a Tensor
@cython.embedsignature.format("clinic")     # as inspect.signature reads it
cdef class Tensor:
    """An array whose operations are recorded for differentiation.

    Tensors are made by ``fastgrad.tensor`` and by operations; they behave as NumPy arrays do, with
    PyTorch's ``.backward()`` and ``.grad``. dtypes float32 and float64 are differentiable; booleans and
    integers are data, masks and indices. Elements are contiguous in row-major order; a slice, a transpose or
    a reshape is a value of its own: changing it in place never changes the tensor it came from.

    >>> import fastgrad as fg
    >>> x = fg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """

    cdef fg_tensor t
    cdef object __weakref__

    def __dealloc__(self):
        if has_grad(self):
            fg_leaf_abandon(self.t.node)
        fg_tensor_unref(self.t)

    # ---- what it is
    @property
    def shape(self):
        """Lengths of the axes."""
        return shape_tuple(self.t.array.shape)

    @property
    def dtype(self):
        """The element type, a numpy.dtype."""
        return DTYPES[self.t.array.dtype]

    @property
    def ndim(self):
        """Number of axes."""
        return self.t.array.shape.ndim

    @property
    def size(self):
        """Number of elements."""
        return self.t.array.shape.size

    @property
    def itemsize(self):
        """Bytes of one element."""
        return fg_itemsize(self.t.array.dtype)

    @property
    def nbytes(self):
        """Bytes of all elements."""
        return self.t.array.shape.size * <int64_t>fg_itemsize(self.t.array.dtype)

    @property
    def T(self):
        """The tensor with its axes in reverse order."""
        return transpose(self)

    @property
    def mT(self):
        """The tensor with its last two axes exchanged."""
        if self.t.array.shape.ndim < 2:
            raise ValueError(f"mT: expected at least 2 dimensions, got shape {self.shape}")
        return transpose(self, (*range(self.ndim - 2), -1, -2))

    @property
    def requires_grad(self):
        """Whether operations on this tensor are recorded. Can be set on a tensor that no operation made."""
        return self.t.node != NULL

    @requires_grad.setter
    def requires_grad(self, value):
        if bool(value) == (self.t.node != NULL):
            return
        if not value:
            if self.t.node.op != FG_OP_leaf:
                raise RuntimeError("requires_grad can only be turned off on a tensor made by fastgrad.tensor; this "
                                   "one is the result of an operation: use .detach()")
            fg_leaf_abandon(self.t.node)
            fg_node_unref(self.t.node)
            self.t.node = NULL
        else:
            make_leaf(self)

    @property
    def is_leaf(self):
        """True unless a recorded operation made this tensor."""
        return self.t.node == NULL or has_grad(self)

    @property
    def grad(self):
        """The gradient accumulated by ``backward``: a Tensor, or None. Only leaves have one."""
        if not has_grad(self):
            return None
        cdef fg_tensor g = fg_leaf_grad(self.t.node)
        return None if g.array == NULL else wrap(fg_tensor_ref(g))

    @grad.setter
    def grad(self, value):
        if not has_grad(self):
            raise RuntimeError("only a tensor made with requires_grad=True has a .grad to set")
        refuse_to_set_grad(self)
        cdef fg_array *new = NULL
        if value is not None:
            new = cotangent_like(self, value, "grad")
        fg_leaf_set_grad(self.t.node, fg_tensor(new, NULL))

    def zero_grad(self):
        """Forget the gradient: ``.grad`` becomes None."""
        if has_grad(self):
            refuse_to_set_grad(self)
            fg_leaf_set_grad(self.t.node, fg_tensor(NULL, NULL))

    # ---- to NumPy and Python
    def numpy(self):
        """The elements as an ndarray on the same memory, read-only.

        Nothing is copied. The view is read-only because the tape cannot see a change made through it; change
        the tensor with its in-place operators, or take ``.numpy().copy()``. Raises TypeError for a tensor that a
        function transform is differentiating: there ``.detach().numpy()`` says that constants are meant.

        >>> import fastgrad as fg
        >>> fg.tensor([1.0, 2.0]).numpy()
        array([1., 2.])
        """
        refuse_in_transform(self, "numpy")
        return view_of(self.t.array, False)

    def item(self, *index):
        """The only element as a Python number, or that at an index, as NumPy's: an int counts in memory's order.

        ValueError if there are more or fewer elements and no index, TypeError as for ``numpy``.
        """
        if index:
            refuse_in_transform(self, "item")
            refuse_value(self, "number")
            return view_of(self.t.array, False).item(*index)
        return only_element(self, "item")

    def tolist(self):
        """The elements as nested lists of numbers (one number, if there are no axes); TypeError as for ``numpy``."""
        refuse_in_transform(self, "tolist")
        return view_of(self.t.array, False).tolist()

    def tobytes(self, order="C"):
        """The bytes of the elements, as ``numpy.ndarray.tobytes``; TypeError as for ``numpy``."""
        refuse_in_transform(self, "tobytes")
        return view_of(self.t.array, False).tobytes(order)

    def tofile(self, file, sep="", format="%s"):
        """The elements written into a file, as by ``numpy.ndarray.tofile``; TypeError as for ``numpy``."""
        refuse_in_transform(self, "tofile")
        if not isinstance(file, (str, bytes)) and not hasattr(file, "__fspath__") and not hasattr(file, "fileno"):
            raise TypeError(f"tofile: expected the name of a file or an open file, got {type(file).__name__}")
        view_of(self.t.array, False).tofile(file, sep, format)

    # What ndarrays have and tensors refuse.
    flat = RefusedAttribute("flat", "x.ravel(), or x.at[index].set(values) for a changed one")
    dump = RefusedAttribute("dump", "pickle.dump(x, file) or fastgrad.save(path, x)")
    dumps = RefusedAttribute("dumps", "pickle.dumps(x)")
    flags = RefusedAttribute("flags")
    strides = RefusedAttribute("strides")
    base = RefusedAttribute("base")
    data = RefusedAttribute("data")
    ctypes = RefusedAttribute("ctypes")
    byteswap = RefusedAttribute("byteswap")
    getfield = RefusedAttribute("getfield")
    setfield = RefusedAttribute("setfield")
    setflags = RefusedAttribute("setflags")

    def detach(self):
        """The same values as a constant: no gradient passes through the result."""
        return wrap_array(fg_array_ref(self.t.array))

    def __array__(self, dtype=None, copy=None):
        refuse_tracked(self, "numpy.array or asarray")
        a = view_of(self.t.array, False)
        if dtype is not None and np.dtype(dtype) != a.dtype:
            if copy is False:
                raise ValueError(f"numpy.asarray: a copy is needed to convert {a.dtype} to {np.dtype(dtype)}")
            return a.astype(dtype)
        return a.copy() if copy else a

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.t.node != NULL:
            raise BufferError("a tensor that requires gradients has no buffer to hand out; use .detach() or .numpy()")
        PyObject_GetBuffer(view_of(self.t.array, False), buffer, flags)

    @property
    def device(self):
        """Where the elements are: always "cpu"."""
        return "cpu"

    def to_device(self, device, /, *, stream=None):
        """This tensor; ValueError for another device than "cpu"."""
        check_device(device, "to_device")
        if stream is not None:
            raise ValueError(f"to_device: the CPU has no streams, got stream={stream!r}")
        return self

    def __array_namespace__(self, *, api_version=None):
        """The module fastgrad, as the array API standard has it; ValueError for a version that it does not follow."""
        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
            raise ValueError(f"__array_namespace__: expected a version of the array API standard from '2021.12' to "
                             f"'2024.12', got {api_version!r}")
        return sys.modules["fastgrad"]

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if self.t.node != NULL:
            raise BufferError("a tensor that requires gradients cannot be exported by DLPack; use .detach()")
        return dlpack_of(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self):
        return (1, 0)                           # kDLCPU

    def __float__(self):
        return float(only_element(self, "float"))

    def __int__(self):
        return int(only_element(self, "int"))

    def __complex__(self):
        return complex(only_element(self, "complex"))

    def __index__(self):
        if self.t.array.dtype <= FG_BOOL or self.t.array.shape.size != 1:
            raise TypeError("only a tensor of one integer can be an index, or say how often a str or other sequence is "
                            f"repeated; got {self.dtype} of shape {self.shape}")
        refuse_value(self, "index")
        return self.item()

    def __bool__(self):
        if self.t.array.shape.size != 1:
            raise ValueError(f"the truth value of a tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        refuse_value(self, "branch")
        return bool(self.item())

    def __len__(self):
        if self.t.array.shape.ndim == 0:
            raise TypeError("len() of a tensor without axes")
        return self.t.array.shape.dim[0]

    def __iter__(self):
        if self.t.array.shape.ndim == 0:
            raise TypeError("iteration over a tensor without axes")
        return (self[i] for i in range(self.t.array.shape.dim[0]))

    def __contains__(self, value):
        refuse_value(self, "branch")
        return (value.numpy() if isinstance(value, Tensor) else value) in view_of(self.t.array, False)

    def __hash__(self):
        return <Py_ssize_t><void *>self >> 4

    def __repr__(self):
        return text_of_tensor(self)

    def __format__(self, str spec):
        if spec and self.size != 1:
            raise TypeError(f"format {spec!r}: expected a tensor of one element, got shape {self.shape}; use .tolist()")
        if not spec:
            return str(self)
        refuse_value(self, "number")
        return format(view_of(self.t.array, False).item(), spec)  # text, also of what is being differentiated

    def __round__(self, ndigits=None):
        if ndigits is None:
            return int(composed.round(self))
        return composed.round(self, ndigits)

    def __copy__(self):
        if self.t.node != NULL and fg_transform or fg_tracing and fg_traced(self.t.array):
            return self.copy()                  # an operation like any other
        return tensor(*self.__reduce__()[1])

    def __deepcopy__(self, memo):
        return self.__copy__()

    def __reduce__(self):
        refuse_in_transform(self, "pickle")
        if self.t.node != NULL and self.t.node.op != FG_OP_leaf:
            raise TypeError("only a tensor that no recorded operation made can be copied or pickled; use .detach()")
        return tensor, (view_of(self.t.array, False).copy(), None, self.t.node != NULL)

    # ---- differentiation
    def backward(self, gradient=None, retain_graph=False, create_graph=False):
        """Add the gradient of this tensor to ``.grad`` of every leaf it was computed from.

        Parameters
        ----------
        gradient : array_like, optional
            The cotangent, of this tensor's shape. May be left out for a single element: then it is 1.
        retain_graph : bool
            Keep the recorded values, so that backward can be called again.
        create_graph : bool
            Record the pass itself, so that the gradients can be differentiated in turn (also by ``gradient``, if that
            is a tensor which requires gradients). Retains the graph.

        Raises RuntimeError when nothing was recorded, when the graph was used up by an earlier call, or when
        a recorded value was changed in place since; then no ``.grad`` has changed.

        >>> import fastgrad as fg
        >>> x = fg.tensor([0.0, 1.0], requires_grad=True)
        >>> fg.exp(x).backward([1.0, 10.0])
        >>> x.grad.numpy().round(3)
        array([ 1.   , 27.183])
        """
        cdef bint retain = retain_graph, create = create_graph
        cdef fg_tensor g = cotangent_of_backward(self, gradient, create)
        status = fg_backward(self.t, g, retain, create)
        fg_tensor_unref(g)
        check(status)

    # ---- operators
    # Each binary one has a docstring, without which Cython gives it no signature.
    def __add__(self, other): "self + other"; return operate(FG_OP_add, self, other)
    def __radd__(self, other): "other + self"; return operate(FG_OP_add, other, self)
    def __iadd__(self, other): return operate_inplace(FG_OP_add, self, other)
    def __sub__(self, other): "self - other"; return operate(FG_OP_subtract, self, other)
    def __rsub__(self, other): "other - self"; return operate(FG_OP_subtract, other, self)
    def __isub__(self, other): return operate_inplace(FG_OP_subtract, self, other)
    def __mul__(self, other): "self * other"; return operate(FG_OP_multiply, self, other)
    def __rmul__(self, other): "other * self"; return operate(FG_OP_multiply, other, self)
    def __imul__(self, other): return operate_inplace(FG_OP_multiply, self, other)
    def __truediv__(self, other): "self / other"; return operate(FG_OP_divide, self, other)
    def __rtruediv__(self, other): "other / self"; return operate(FG_OP_divide, other, self)
    def __itruediv__(self, other): return operate_inplace(FG_OP_divide, self, other)
    def __floordiv__(self, other): "self // other"; return operate(FG_OP_floor_divide, self, other)
    def __rfloordiv__(self, other): "other // self"; return operate(FG_OP_floor_divide, other, self)
    def __ifloordiv__(self, other): return operate_inplace(FG_OP_floor_divide, self, other)
    def __mod__(self, other): "self % other"; return operate(FG_OP_remainder, self, other)
    def __rmod__(self, other): "other % self"; return operate(FG_OP_remainder, other, self)
    def __imod__(self, other): return operate_inplace(FG_OP_remainder, self, other)
    def __divmod__(self, other): return self // other, self % other
    def __rdivmod__(self, other): return other // self, other % self

    def __pow__(self, other, modulo):
        if modulo is not None:
            raise TypeError("pow: a third argument is not supported")
        return to_the_power(self, other)

    def __rpow__(self, other, modulo):
        return operate(FG_OP_power, other, self)

    def __ipow__(self, other): return operate_inplace(FG_OP_power, self, other)
    def __matmul__(self, other): "self @ other"; return matmul(self, other) if is_operand(other) else NotImplemented
    def __rmatmul__(self, other): "other @ self"; return matmul(other, self) if is_operand(other) else NotImplemented

    def __imatmul__(self, other): return matmul_inplace(self, other)

    def __neg__(self): return operate_unary(FG_OP_negative, self)
    def __pos__(self): return operate_unary(FG_OP_positive, self)
    def __abs__(self): return operate_unary(FG_OP_absolute, self)

    def __lt__(self, other): return compare(FG_OP_less, self, other)
    def __le__(self, other): return compare(FG_OP_less_equal, self, other)
    def __gt__(self, other): return compare(FG_OP_greater, self, other)
    def __ge__(self, other): return compare(FG_OP_greater_equal, self, other)
    def __eq__(self, other): return compare(FG_OP_equal, self, other)
    def __ne__(self, other): return compare(FG_OP_not_equal, self, other)

    def __and__(self, other): "self & other"; return logic(np.bitwise_and, self, other)
    def __rand__(self, other): "other & self"; return logic(np.bitwise_and, other, self)
    def __or__(self, other): "self | other"; return logic(np.bitwise_or, self, other)
    def __ror__(self, other): "other | self"; return logic(np.bitwise_or, other, self)
    def __xor__(self, other): "self ^ other"; return logic(np.bitwise_xor, self, other)
    def __rxor__(self, other): "other ^ self"; return logic(np.bitwise_xor, other, self)
    def __invert__(self): return logic(np.invert, self)
    def __lshift__(self, other): "self << other"; return logic(np.left_shift, self, other)
    def __rlshift__(self, other): "other << self"; return logic(np.left_shift, other, self)
    def __rshift__(self, other): "self >> other"; return logic(np.right_shift, self, other)
    def __rrshift__(self, other): "other >> self"; return logic(np.right_shift, other, self)

    def __getitem__(self, key):
        if is_basic(key):                       # the common cases, without a detour
            return basic(self, (key,))
        if type(key) is tuple:
            for k in <tuple>key:
                if not is_basic(k):
                    break
            else:
                return basic(self, key)
        return indexing.getitem(self, key)

    def __setitem__(self, key, value):
        assign(self, key, value)

    def __delitem__(self, key):
        raise TypeError("the elements of a tensor cannot be deleted; use x = fastgrad.delete(x, index)")

    @property
    def at(self):
        """Functional updates in JAX's spelling: ``x.at[index].set(values)``, and ``add``, ``subtract``, ``multiply``,
        ``divide``, ``power``, ``min``, ``max`` and ``get``; each returns a new tensor.

        An index is any that ``x[index]`` takes. Where one is repeated ``set`` keeps the last value, and the others act
        once for each time.

        >>> import fastgrad as fg
        >>> fg.zeros(3).at[[0, 2, 2]].add([1.0, 2.0, 3.0])
        tensor([1., 0., 5.])
        """
        return composed.At(self)

    __array_priority__ = 1000

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        function = function_of_ufunc.get(ufunc) if method == "__call__" and not kwargs else None
        if function is not None:                # the common case, without a detour
            return function(*inputs)
        return numpy_functions.array_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func, types, args, kwargs):
        return numpy_functions.array_function(func, args, kwargs)

    # ---- NumPy's methods, each the function of its name
    def sum(self, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None):
        """``fastgrad.sum`` of this tensor."""
        return sum(self, axis, dtype, out, keepdims, initial, where)

    def max(self, axis=None, out=None, keepdims=False, initial=None, where=None):
        """``fastgrad.max`` of this tensor."""
        return max(self, axis, out, keepdims, initial, where)

    def min(self, axis=None, out=None, keepdims=False, initial=None, where=None):
        """``fastgrad.min`` of this tensor."""
        return min(self, axis, out, keepdims, initial, where)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False, *, where=None):
        """``fastgrad.mean`` of this tensor."""
        return mean(self, axis, dtype, out, keepdims, where=where)

    def prod(self, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None):
        """``fastgrad.prod`` of this tensor."""
        return composed.prod(self, axis, dtype, out, keepdims, initial, where)

    def var(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=None, mean=None, correction=None):
        """``fastgrad.var`` of this tensor."""
        return composed.var(self, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)

    def std(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=None, mean=None, correction=None):
        """``fastgrad.std`` of this tensor."""
        return composed.std(self, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)

    def any(self, axis=None, out=None, keepdims=False, *, where=None):
        """``fastgrad.any`` of this tensor."""
        return composed.any(self, axis, out, keepdims, where=where)

    def all(self, axis=None, out=None, keepdims=False, *, where=None):
        """``fastgrad.all`` of this tensor."""
        return composed.all(self, axis, out, keepdims, where=where)

    def argmax(self, axis=None, out=None, *, keepdims=False):
        """``fastgrad.argmax`` of this tensor."""
        return composed.argmax(self, axis, out, keepdims=keepdims)

    def argmin(self, axis=None, out=None, *, keepdims=False):
        """``fastgrad.argmin`` of this tensor."""
        return composed.argmin(self, axis, out, keepdims=keepdims)

    def reshape(self, *shape, order="C", copy=None):
        """``fastgrad.reshape`` of this tensor; the shape as a tuple or as separate numbers."""
        return reshape(self, shape[0] if len(shape) == 1 else shape, order, copy=copy)

    def ravel(self, order="C"):
        """``fastgrad.ravel`` of this tensor."""
        return reshape(self, -1) if order == "C" else composed.ravel(self, order)

    def flatten(self, order="C"):
        """``fastgrad.ravel`` of this tensor."""
        return reshape(self, -1) if order == "C" else composed.ravel(self, order)

    def transpose(self, *axes):
        """``fastgrad.transpose`` of this tensor; the axes as a tuple or as separate numbers."""
        return transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def swapaxes(self, axis1, axis2):
        """``fastgrad.swapaxes`` of this tensor."""
        return composed.swapaxes(self, axis1, axis2)

    def squeeze(self, axis=None):
        """``fastgrad.squeeze`` of this tensor."""
        return composed.squeeze(self, axis)

    def cumsum(self, axis=None, dtype=None, out=None):
        """``fastgrad.cumsum`` of this tensor."""
        return composed.cumsum(self, axis, dtype, out)

    def cumprod(self, axis=None, dtype=None, out=None):
        """``fastgrad.cumprod`` of this tensor."""
        return composed.cumprod(self, axis, dtype, out)

    def argsort(self, axis=-1, kind=None, order=None, *, stable=None):
        """``fastgrad.argsort`` of this tensor."""
        return composed.argsort(self, axis, kind, order, stable=stable)

    def argpartition(self, kth, axis=-1, kind="introselect", order=None):
        """``fastgrad.argpartition`` of this tensor."""
        return composed.argpartition(self, kth, axis, kind, order)

    def sort(self, axis=-1, kind=None, order=None, *, stable=None):
        """Refused: NumPy's sorts in place; ``fastgrad.sort`` of this tensor returns a sorted one."""
        raise TypeError("sort: a tensor is not sorted in place; write x = fastgrad.sort(x)")

    def partition(self, kth, axis=-1, kind="introselect", order=None):
        """Refused: NumPy's works in place; ``fastgrad.partition`` of this tensor returns another one."""
        raise TypeError("partition: a tensor is not partitioned in place; write x = fastgrad.partition(x, kth)")

    def fill(self, value):
        """Refused: write ``x[...] = value``, which is recorded."""
        raise TypeError("fill: write x[...] = value, or x = fastgrad.full_like(x, value)")

    def put(self, indices, values, mode="raise"):
        """Refused: NumPy's counts along the raveled array; ``x.at[index].set(values)`` returns another tensor."""
        raise TypeError("put: write x = x.ravel().at[indices].set(values).reshape(x.shape)")

    def resize(self, *new_shape, refcheck=True):
        """Refused: NumPy's works in place; ``fastgrad.resize`` of this tensor returns another one."""
        raise TypeError("resize: a tensor is not resized in place; write x = fastgrad.resize(x, new_shape)")

    def view(self, dtype=None, type=None):
        """Refused: the bytes of a tensor are of one dtype; ``reshape`` and ``astype`` are recorded."""
        raise TypeError("view: write x.reshape(shape) or x.astype(dtype), or x.detach().numpy().view(dtype) to read "
                        "the bytes as another dtype")

    def searchsorted(self, v, side="left", sorter=None):
        """``fastgrad.searchsorted`` in this tensor."""
        return composed.searchsorted(self, v, side, sorter)

    def nonzero(self):
        """``fastgrad.nonzero`` of this tensor."""
        return composed.nonzero(self)

    def trace(self, offset=0, axis1=0, axis2=1, dtype=None, out=None):
        """``fastgrad.trace`` of this tensor."""
        return composed.trace(self, offset, axis1, axis2, dtype, out)

    def diagonal(self, offset=0, axis1=0, axis2=1):
        """``fastgrad.diagonal`` of this tensor."""
        return composed.diagonal(self, offset, axis1, axis2)

    def repeat(self, repeats, axis=None):
        """``fastgrad.repeat`` of this tensor."""
        return composed.repeat(self, repeats, axis)

    def take(self, indices, axis=None, out=None, mode="raise"):
        """``fastgrad.take`` of this tensor."""
        return indexing.take(self, indices, axis, out, mode)

    def clip(self, min=None, max=None, out=None):
        """``fastgrad.clip`` of this tensor."""
        return composed.clip(self, min, max, out)

    def round(self, decimals=0, out=None):
        """``fastgrad.round`` of this tensor."""
        return composed.round(self, decimals, out)

    def choose(self, choices, out=None, mode="raise"):
        """``fastgrad.choose`` among the choices by the integers of this tensor."""
        return composed.choose(self, choices, out, mode)

    def compress(self, condition, axis=None, out=None):
        """``fastgrad.compress`` of this tensor: what is at the places of an axis where a condition is true."""
        return composed.compress(condition, self, axis, out)

    def conj(self):
        """``fastgrad.conj`` of this tensor, which is real."""
        return composed.conj(self)

    def conjugate(self):
        """``fastgrad.conj`` of this tensor, which is real."""
        return composed.conj(self)

    @property
    def real(self):
        """``fastgrad.real`` of this tensor: its elements, as all dtypes are real."""
        return composed.real(self)

    @property
    def imag(self):
        """``fastgrad.imag`` of this tensor: zeros, as all dtypes are real."""
        return composed.imag(self)

    def dot(self, other):
        """``fastgrad.dot`` of this tensor and another."""
        return composed.dot(self, other)

    def astype(self, dtype, *, copy=True):
        """The elements as another dtype. Between float32 and float64 gradients pass; as integers or booleans the
        elements are data without a gradient."""
        return astype(self, dtype, copy=copy)

    def copy(self):
        """The same values in memory of their own, differentiable."""
        return astype(self, self.dtype)
