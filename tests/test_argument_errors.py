"""Values, dtypes, conversions and arguments that are refused, by our functions and NumPy's: what is raised and what it
says, word for word."""

from _errors import check_error, error_rows

INDEX = "only a tensor of one integer can be an index, or say how often a str or other sequence is repeated; got "

TABLE = {
    "what is no number": [
        ('fg.tensor("abc")', TypeError, "tensor: expected numbers, got the str 'abc'"),
        ('fg.tensor(b"abc")', TypeError, "tensor: expected numbers, got the bytes b'abc'"),
        (
            "fg.tensor(None)",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got NoneType of dtype object",
        ),
        (
            'fg.tensor(["a"])',
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got list of dtype <U1",
        ),
        (
            "fg.tensor({})",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got dict of dtype object",
        ),
        (
            "fg.tensor([[1.0], [1.0, 2.0]])",
            ValueError,
            "tensor: expected an array or nested lists of equal lengths, got ragged ones; pad them, or make a tensor "
            "of each",
        ),
        (
            "fg.tensor(np.float16(1))",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got float16 of dtype float16; convert it "
            "with .astype(np.float32)",
        ),
        (
            "fg.tensor(1j)",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got complex of dtype complex128; complex "
            "numbers are not supported: compute with real and imaginary parts, as cos(x) and sin(x) for exp(1j * x)",
        ),
        (
            "fg.tensor(np.ma.masked_array([1.0], [True]))",
            TypeError,
            "tensor: expected a plain array, got a masked one; fill it with .filled() first",
        ),
        (
            'fg.tensor(np.zeros(2, [("a", float)]))',
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got ndarray of dtype [('a', '<f8')]",
        ),
        (
            'fg.tensor(np.array(["2020-01-01"], "M8[D]"))',
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got ndarray of dtype datetime64[D]",
        ),
        (
            "fg.tensor(np.array([1, None]))",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got ndarray of dtype object",
        ),
        (
            "fg.tensor(2**80)",
            TypeError,
            "tensor: expected float32, float64, integer or bool numbers, got int of dtype object",
        ),
        (
            "fg.tensor(1.0, dtype=np.float16)",
            TypeError,
            "dtype float16 is none that tensors have: float32, float64, bool and the integer dtypes; use np.float32",
        ),
        (
            "fg.tensor(1.0, dtype=complex)",
            TypeError,
            "dtype complex128 is none that tensors have: float32, float64, bool and the integer dtypes",
        ),
        (
            "fg.zeros(2, dtype=np.float16)",
            TypeError,
            "zeros: expected float32, float64, integer or bool numbers, got ndarray of dtype float16; convert it with"
            " .astype(np.float32)",
        ),
        (
            "x.astype(np.float16)",
            TypeError,
            "dtype float16 is none that tensors have: float32, float64, bool and the integer dtypes; use np.float32",
        ),
        ('fg.add(x, "a")', TypeError, "add: expected numbers, got the str 'a'"),
        ('x + "a"', TypeError, "unsupported operand type(s) for +: 'fastgrad._core.Tensor' and 'str'"),
        ("x + None", TypeError, "unsupported operand type(s) for +: 'fastgrad._core.Tensor' and 'NoneType'"),
        (
            "fg.add(x, 1j)",
            TypeError,
            "add: expected float32, float64, integer or bool numbers, got complex of dtype complex128; complex "
            "numbers are not supported: compute with real and imaginary parts, as cos(x) and sin(x) for exp(1j * x)",
        ),
        (
            "fg.tensor([w, w])",
            TypeError,
            "tensor: this tensor requires gradients, which an ndarray would silently lose; join tensors with "
            "fastgrad.stack or fastgrad.asarray, use fastgrad.sparse.matmul for a matrix of SciPy's, or take the "
            "plain values with .detach()",
        ),
        (
            "fg.tensor(w)",
            TypeError,
            "tensor: this tensor requires gradients, which an ndarray would silently lose; join tensors with "
            "fastgrad.stack or fastgrad.asarray, use fastgrad.sparse.matmul for a matrix of SciPy's, or take the "
            "plain values with .detach()",
        ),
        ("fg.Tensor([1.0])", TypeError, "a Tensor is made by fastgrad.tensor(data) or fastgrad.asarray(data)"),
    ],
    "dtypes without gradients": [
        (
            "fg.tensor([1], requires_grad=True)",
            TypeError,
            "requires_grad: expected float32 or float64, got int64; gradients of integers do not exist, convert with "
            "dtype=float",
        ),
        (
            "fg.tensor(True, requires_grad=True)",
            TypeError,
            "requires_grad: expected float32 or float64, got bool; gradients of integers do not exist, convert with "
            "dtype=float",
        ),
        (
            "fg.zeros(2, dtype=int, requires_grad=True)",
            TypeError,
            "requires_grad: expected float32 or float64, got int64; gradients of integers do not exist, convert with "
            "dtype=float",
        ),
        (
            "fg.tensor([1]).requires_grad = True",
            TypeError,
            "requires_grad: expected float32 or float64, got int64; gradients of integers do not exist, convert with "
            "dtype=float",
        ),
        (
            "y = fg.tensor([1]); y += 0.5",
            TypeError,
            "add: an in-place change cannot turn int64 into float64; assign the result to a new tensor, or use "
            ".astype() first",
        ),
        (
            "x & True",
            TypeError,
            "bitwise_and: expected booleans or integers, got floats; compare first, as in (x > 0) & (x < 1)",
        ),
        (
            "fg.where(w, 1.0, 0.0)",
            TypeError,
            "where: the condition is a tensor that requires gradients; compare it first, as in x > 0",
        ),
        ("fg.ldexp(x, 0.5)", TypeError, "ldexp: expected integer exponents, got float64"),
    ],
    "as a number, an array, a truth": [
        ("x.item()", ValueError, "item: expected a tensor of one element, got shape (2, 3)"),
        ("float(x)", ValueError, "float: expected a tensor of one element, got shape (2, 3)"),
        ("bool(x)", ValueError, "the truth value of a tensor of shape (2, 3) is ambiguous; use .any() or .all()"),
        (
            "if x > 0: pass",
            ValueError,
            "the truth value of a tensor of shape (2, 3) is ambiguous; use .any() or .all()",
        ),
        ("len(fg.tensor(1.0))", TypeError, "len() of a tensor without axes"),
        ("iter(fg.tensor(1.0))", TypeError, "iteration over a tensor without axes"),
        ("range(fg.tensor(1.0))", TypeError, INDEX + "float64 of shape ()"),
        ("[1, 2][fg.tensor([1, 2])]", TypeError, INDEX + "int64 of shape (2,)"),
        ("fg.tensor(1.0) * 'a'", TypeError, INDEX + "float64 of shape ()"),
        ("b'a' * fg.tensor(1.0)", TypeError, INDEX + "float64 of shape ()"),
        (
            "np.asarray(w)",
            TypeError,
            "numpy.array or asarray: this tensor requires gradients, which an ndarray would silently lose; join "
            "tensors with fastgrad.stack or fastgrad.asarray, write a = fastgrad.asarray(a).at[i].set(x) for a[i] = x, "
            "use fastgrad.sparse.matmul for a matrix of SciPy's, or take the plain values with .detach()",
        ),
        (
            "memoryview(w)",
            BufferError,
            "a tensor that requires gradients has no buffer to hand out; use .detach() or .numpy()",
        ),
        (
            "np.from_dlpack(w)",
            BufferError,
            "a tensor that requires gradients cannot be exported by DLPack; use .detach()",
        ),
        (
            "pickle.dumps(w * 2)",
            TypeError,
            "only a tensor that no recorded operation made can be copied or pickled; use .detach()",
        ),
    ],
    "NumPy's functions": [
        (
            "np.packbits(w)",
            TypeError,
            "numpy.packbits is not supported on tensors; give a function of ndarrays its rule with fastgrad.primitive, "
            "or pass np.asarray(fastgrad.stop_gradient(t)) for values without gradients",
        ),
        (
            "np.fft.fft(w)",
            TypeError,
            "numpy.fft.fft is not supported on tensors; give a function of ndarrays its rule with "
            "fastgrad.primitive, or pass np.asarray(fastgrad.stop_gradient(t)) for values without gradients. Instead "
            "of NumPy's fft write x @ numpy.fft.fft(numpy.eye(x.shape[-1])).real and "
            "x @ numpy.fft.fft(numpy.eye(x.shape[-1])).imag  # the parts; complex numbers are not supported",
        ),
        (
            "np.put(w, 0, 1)",
            TypeError,
            "numpy.put is not supported on tensors; write it as a = fastgrad.asarray(a).at[i].set(t), or give a "
            "function of ndarrays its rule with fastgrad.primitive, or pass "
            "np.asarray(fastgrad.stop_gradient(t)) for values without gradients",
        ),
        (
            "np.spacing(w)",
            TypeError,
            "numpy.spacing is not supported on tensors; give a function of ndarrays its rule with "
            "fastgrad.primitive, or pass np.asarray(fastgrad.stop_gradient(t)) for values "
            "without gradients",
        ),
        (
            "np.multiply.at(np.ones(3), 0, w[0])",
            TypeError,
            "numpy.multiply.at is not supported on tensors; write it as a = fastgrad.asarray(a).at[i].add(t), or "
            "multiply, min, max and so on, or give a function of ndarrays its rule with fastgrad.primitive, or pass "
            "np.asarray(fastgrad.stop_gradient(t)) for values without gradients",
        ),
        (
            "np.multiply.at(w, 0, 1)",
            RuntimeError,
            "numpy.multiply.at: a tensor made with requires_grad=True is changed in place while gradients are "
            "recorded; do it under fg.no_grad(), or make a new tensor",
        ),
        (
            "fg.grad(lambda x: np.multiply.at(x, 0, 1))(np.ones(3))",
            RuntimeError,
            "numpy.multiply.at: an argument that is being differentiated is changed in place; make a new tensor, as in "
            "x = x.at[i].set(v) instead of numpy.multiply.at(x, i, v)",
        ),
        ("np.add(w, x, subok=False)", TypeError, "numpy.add: the argument subok= is not supported on tensors"),
        (
            "np.add(w, x, out=np.zeros((2, 3)))",
            TypeError,
            "numpy.add: the result of an operation on a tensor cannot be stored in an ndarray, which would lose its "
            "gradient; write a = a + t instead of a += t or out=a",
        ),
        (
            "y = np.zeros((2, 3)); y += w",
            TypeError,
            "numpy.add: the result of an operation on a tensor cannot be stored in an ndarray, which would lose its "
            "gradient; write a = a + t instead of a += t or out=a",
        ),
        ("np.where(w)", TypeError, "numpy.where: with a tensor, expected where(condition, x, y)"),
    ],
    "arguments": [
        ("fg.sum(x, foo=1)", TypeError, "sum() got an unexpected keyword argument 'foo'"),
        ('fg.tensor([1.0], device="cpu")', TypeError, "tensor() got an unexpected keyword argument 'device'"),
        ("(w * 2).sum().backward(keep=True)", TypeError, "backward() got an unexpected keyword argument 'keep'"),
        ("fg.add(x)", TypeError, "add() takes 2 positional arguments but 1 were given"),
        ("pow(x, 2, 3)", TypeError, "pow: a third argument is not supported"),
        ('fg.gelu(x, "erf")', ValueError, "gelu: expected approximate='none' or 'tanh', got 'erf'"),
        (
            'fg.norm(x, ord="inf")',
            ValueError,
            "norm: expected ord as 1, -1, 2, -2, inf, -inf, 'fro' or 'nuc' for matrices, got 'inf'",
        ),
        ("fg.isnan(x, x)", TypeError, "isnan() takes 1 positional argument but 2 were given"),
    ],
}


@error_rows(TABLE)
def test_error_text(code, error, text):
    check_error(code, error, text)


def test_every_text_says_something():
    assert all(len(text) > 20 for rows in TABLE.values() for _, _, text in rows)
