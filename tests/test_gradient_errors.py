"""Backward passes and gradients that cannot be had: what is raised and what it says, word for word."""

from _errors import check_error, error_rows

TABLE = {
    "backward": [
        (
            "(w * 2).backward()",
            RuntimeError,
            "backward: a tensor of shape (2, 3) has no single gradient; reduce it to one number (y.sum().backward()) "
            "or pass gradient= of that shape",
        ),
        (
            "x.backward()",
            RuntimeError,
            "backward: nothing was recorded for this tensor; make an input with requires_grad=True, and compute "
            "outside of no_grad()",
        ),
        (
            "y = (w * w).sum(); y.backward(); y.backward()",
            RuntimeError,
            "backward: this graph was already used by an earlier backward pass and its values are freed; pass "
            "retain_graph=True to the earlier call, or compute the result anew",
        ),
        (
            "y = fg.exp(w); view = y.detach().numpy(); y += 1; y.sum().backward()",
            RuntimeError,
            "exp: its result of shape (2, 3) was changed in place after it was recorded, and its gradient needs the "
            "value it had; write y = y + x instead of y += x, or change a copy",
        ),
        ("(w * 2).backward([1.0])", ValueError, "backward: expected a gradient of shape (2, 3), got shape (1,)"),
        ('(w * 2).backward("a")', TypeError, "backward: expected numbers, got the str 'a'"),
        (
            "w += 1",
            RuntimeError,
            "add: a tensor made with requires_grad=True is changed in place while gradients are recorded; do it under"
            " fg.no_grad(), or make a new tensor",
        ),
        (
            "(w * 2).requires_grad = False",
            RuntimeError,
            "requires_grad can only be turned off on a tensor made by fastgrad.tensor; this one is the result of an "
            "operation: use .detach()",
        ),
        ("x.grad = 1.0", RuntimeError, "only a tensor made with requires_grad=True has a .grad to set"),
        ("w.grad = [1.0]", ValueError, "grad: expected a gradient of shape (2, 3), got shape (1,)"),
    ],
    "grad": [
        ("fg.grad(3)", TypeError, "grad: expected a function, got 3"),
        ('fg.grad(f, argnums="a")', TypeError, "grad: expected argnums as an int or a tuple of ints, got 'a'"),
        (
            "fg.grad(f, argnums=1)(1.0)",
            TypeError,
            "grad: argnums names argument 1, but f was called with 1 positional argument",
        ),
        ("fg.grad(f)()", TypeError, "grad: argnums names argument 0, but f was called with 0 positional arguments"),
        (
            "fg.grad(f)(1)",
            TypeError,
            "grad: argument 0 is an int; only float32 and float64 have gradients, convert it with float(x) or "
            "x.astype(float), or leave it out of argnums",
        ),
        (
            'fg.grad(f)("a")',
            TypeError,
            "grad: argument 0 is a str; only float32 and float64 have gradients, convert it with float(x) or "
            "x.astype(float), or leave it out of argnums",
        ),
        (
            'fg.grad(f)({"a": [1.0, 2]})',
            TypeError,
            "grad: argument 0 at ['a'][1] is an int; only float32 and float64 have gradients, convert it with "
            "float(x) or x.astype(float), or leave it out of argnums",
        ),
        (
            "fg.grad(f)(np.float16(1))",
            TypeError,
            "grad: argument 0 is float16; only float32 and float64 have gradients, convert it with float(x) or "
            "x.astype(float), or leave it out of argnums",
        ),
        (
            "fg.grad(f)(np.ma.masked_array([1.0], [True]))",
            TypeError,
            "grad: argument 0 is a masked array, whose mask would be ignored; fill it with .filled() first",
        ),
        (
            "fg.grad(f)(np.zeros(3))",
            ValueError,
            "grad: f returned a tensor of shape (3,); a gradient is that of a single number, such as a sum or mean",
        ),
        (
            "fg.grad(f, has_aux=True)(1.0)",
            TypeError,
            "grad: with has_aux=True f must return (value, aux), got a Tensor",
        ),
        (
            "fg.grad(lambda x: '1.0')(1.0)",
            TypeError,
            "grad: <lambda> returned a str, expected a tensor: nothing in it was recorded. Compute with "
            "fastgrad's or NumPy's functions on the arguments, not with math or on copies of their values",
        ),
        (
            "fg.grad(lambda x: (x, 1))(1.0)",
            TypeError,
            "grad: <lambda> returned a tuple, expected a tensor; to return more beside the value, give "
            "has_aux=True and return (value, aux)",
        ),
        ("fg.grad(lambda x: fg.tensor(1))(1.0)", TypeError, "grad: <lambda> returned int64, which has no gradient"),
        (
            "fg.grad(lambda x: math.sin(x))(1.0)",
            TypeError,
            "float: a tensor that is being differentiated would silently become a constant; use fastgrad's or NumPy's"
            " functions instead of math's, fastgrad.asarray instead of a list, a = fastgrad.asarray(a).at[i].set(x) "
            "instead of a[i] = x in an ndarray, or say that a constant is meant with fastgrad.stop_gradient(x)",
        ),
    ],
}


@error_rows(TABLE)
def test_error_text(code, error, text):
    check_error(code, error, text)


def test_every_text_says_something():
    assert all(len(text) > 20 for rows in TABLE.values() for _, _, text in rows)
