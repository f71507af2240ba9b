"""Errors at places where newcomers stumble: what they say and advise, word for word.

Each row is an expression, in which s is the argument of a function that is differentiated.
"""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats

import fastgrad as fg

JOIN = (
    "numpy.array or asarray: this tensor requires gradients, which an ndarray would silently lose; join tensors with "
    "fastgrad.stack or fastgrad.asarray, write a = fastgrad.asarray(a).at[i].set(x) for a[i] = x, use "
    "fastgrad.sparse.matmul for a matrix of SciPy's, or take the plain values with .detach()"
)
OF_NUMBERS = (
    ". If it is an element of a list or tuple x that is differentiated, which an ndarray A would convert in A @ x, "
    "pass np.array(x) instead, or join it"
)
COMPLEX = (
    "expected float32, float64, integer or bool numbers, got complex of dtype complex128; complex numbers are not "
    "supported: compute with real and imaginary parts, as cos(x) and sin(x) for exp(1j * x)"
)
A = np.ones((2, 2))


def differentiate(f, x):
    return fg.grad(lambda x: fg.sum(f(x)))(x)


@pytest.mark.parametrize(
    "f, x, text",
    [
        (lambda s: np.array([s[0], s[1]]), np.ones(2), JOIN + OF_NUMBERS),
        (lambda s: np.asarray(s), np.ones(2), JOIN),
        (lambda s: A @ s, [1.0, 2.0], JOIN + OF_NUMBERS),
        (lambda s: A * s, (1.0, 2.0), JOIN + OF_NUMBERS),
        (lambda s: np.sin(s), [1.0, 2.0], JOIN + OF_NUMBERS),
        (lambda s: np.diag(s), [1.0, 2.0], JOIN + ". Instead of NumPy's diag use fastgrad.diag"),
        (lambda s: np.exp(1j * s), 1.0, "multiply: " + COMPLEX),
        (lambda s: s + 1j, 1.0, "add: " + COMPLEX),
        (lambda s: s**1j, 1.0, "power: " + COMPLEX),
        (lambda s: s == 1j, 1.0, "equal: " + COMPLEX),
        (lambda s: s < 1j, 1.0, "less: " + COMPLEX),
        (lambda s: s * A.astype(complex), 1.0, "multiply: " + COMPLEX.replace("got complex", "got ndarray")),
    ],
)
def test_in_a_function_that_is_differentiated(f, x, text):
    with pytest.raises(TypeError) as raised:
        differentiate(f, x)
    assert str(raised.value) == text


def test_what_the_error_of_an_ndarray_advises_works():
    expected = A.T @ np.ones(2)
    np.testing.assert_allclose(differentiate(lambda s: A @ fg.stack(s), [1.0, 2.0]), expected)
    np.testing.assert_allclose(differentiate(lambda s: A @ s, np.array([1.0, 2.0])), expected)
    np.testing.assert_allclose(differentiate(lambda s: A @ fg.stack([s[0], s[1]]), np.ones(2)), expected)


LASTING = fg.ones(2, requires_grad=True)  # NumPy leaks a tensor whose class refuses a method of a ufunc


def test_scan_is_an_accumulate():
    with pytest.raises(TypeError) as raised:
        np.lcm.accumulate(LASTING)
    assert str(raised.value) == (
        "numpy.lcm.accumulate is not supported on tensors; write it as fastgrad.scan, or give a function of "
        "ndarrays its rule with fastgrad.primitive, or pass "
        "np.asarray(fastgrad.stop_gradient(t)) for values without gradients"
    )
    x = np.array([1.0, 3.0, 2.0, 5.0])

    def largest_so_far(x):
        return fg.scan(lambda m, v: (fg.maximum(m, v),) * 2, -np.inf, x)[1]

    np.testing.assert_array_equal(largest_so_far(x), np.maximum.accumulate(x))
    np.testing.assert_array_equal(differentiate(largest_so_far, x), [1, 2, 0, 1])


def test_minimize_from_a_tuple_says_so_and_does_not_advise_itself():
    with pytest.raises(TypeError) as raised:
        fg.minimize(lambda x: fg.sum((A @ x) ** 2), (1.0, 2.0))
    assert str(raised.value) == JOIN + OF_NUMBERS
    assert raised.value.__notes__ == [
        "minimize: x0 is a tuple of numbers, so f gets a tuple; for an array give np.array(x0)"
    ]


# ---- names of what was called ----------------------------------------------------------------------------------------
INT = " is an int; only float32 and float64 have gradients, convert it with float(x) or x.astype(float), or "


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: fg.hessian(fg.exp)(3), "hessian: args[0]" + INT + "leave it out of argnums"),
        (lambda: fg.hessian(fg.exp, 1)(3.0), "hessian: argnums names argument 1, but exp was called with 1 positional"
         " argument"),
        (lambda: fg.hessian(lambda x: "3")(3.0), "hessian: <lambda> returned a str, expected a tensor: nothing in it "
         "was recorded. Compute with fastgrad's or NumPy's functions on the arguments, not with math or on copies of "
         "their values; return constants by has_aux=True"),
        (lambda: fg.hessian(3), "hessian: expected a function, got 3"),
        (lambda: fg.hvp(fg.exp, (3,), (1.0,)), "hvp: primals[0]" + INT + "let f read it from outside its arguments"),
        (lambda: fg.hvp(fg.exp, (3.0,), 1.0), "hvp: expected tangents as a tuple of one for each argument of f, got a "
         "float; of a single argument x write (x,)"),
        (lambda: fg.hvp(lambda x: "3", (3.0,), (1.0,)), "hvp: <lambda> returned a str, expected a tensor: nothing in "
         "it was recorded. Compute with fastgrad's or NumPy's functions on the arguments, not with math or on copies "
         "of their values"),
        (lambda: fg.hessp(fg.exp)(3, 1.0), "hessp: x" + INT + "pass it in args"),
        (lambda: fg.sparse.hessian(fg.exp)("3"), "sparse.hessian: x is a str, expected float32 or float64 arrays and "
         "numbers: only these can be searched; convert it with float(x) or x.astype(float)"),
    ],
)  # fmt: skip
def test_an_error_names_the_function_that_was_called(call, text):
    with pytest.raises(TypeError) as raised:
        call()
    assert str(raised.value) == text


def test_a_direction_of_another_shape():
    with pytest.raises(ValueError, match=r"^hessp: p has shape \(3,\), expected \(2,\), that of the value"):
        fg.hessp(lambda x: fg.sum(x**3))(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"^hvp: tangents\[0\] has shape \(3,\), expected \(2,\), that of the value"):
        fg.hvp(lambda x: fg.sum(x**3), (np.ones(2),), (np.ones(3),))


# ---- sizes that differ from call to call -----------------------------------------------------------------------------
def test_rows_of_different_lengths_are_no_data():
    def loss(p, x):
        return fg.sum((p - x) ** 2)

    for data, place in (([np.zeros(2), np.zeros(3)],), 0), ((np.zeros((2, 2)), [[1.0], [1.0, 2.0]]), 1):
        with pytest.raises(ValueError) as raised:
            fg.descend(loss, np.zeros(2), data, optimizer="adam", steps=1, progress=False)
        assert str(raised.value) == (
            f"descend: data[{place}] is a list of rows of different shapes, expected an array of rows; pad sequences "
            "to one length and pass their lengths as another array of data, for fastgrad.where to leave out what was "
            "added"
        )


def test_bounds_of_a_traced_fori_loop_are_ints():
    def doubled(x, n):
        return fg.fori_loop(0, n, lambda i, x: 2 * x, x)

    with pytest.raises(fg.TraceError) as raised:
        fg.compile(doubled)(1.0, 3)
    assert str(raised.value).partition("). ")[2] == (
        "Its value differs from call to call: the bounds of fori_loop are Python ints, because they decide how much "
        "there is to compute; while_loop takes a number of steps that is not known. An argument that is a constant is "
        "bound by functools.partial or, of fastgrad.compile, named in static_argnums"
    )
    with pytest.raises(fg.TraceError, match="^vmap: .* the bounds of fori_loop are Python ints"):
        fg.vmap(doubled)(np.ones(2), np.arange(2))
    assert fg.compile(doubled, static_argnums=1)(1.0, 3) == 8
    counted = lambda x, n: fg.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, 2 * c[1]), (0, x))[1]
    assert fg.compile(counted)(1.0, 3) == 8
    for bounds, text in ((0, 3.0), "upper is 3.0"), (("0", 3), "lower is '0'"):
        with pytest.raises(TypeError, match=f"^fori_loop: {text}, expected an integer$"):
            fg.fori_loop(*bounds, lambda i, x: x, 1.0)
    assert fg.fori_loop(np.int64(0), fg.tensor(3), lambda i, x: 2 * x, 1.0).item() == 8


# ---- functions of SciPy and NumPy within a trace ---------------------------------------------------------------------
@pytest.mark.parametrize("transform", [fg.compile, fg.vmap])
@pytest.mark.parametrize(
    "f, advice",
    [
        (lambda x: scipy.stats.norm.logpdf(x).sum(), "; instead of SciPy's logpdf use fastgrad.stats.norm.logpdf"),
        (lambda x: scipy.special.softmax(x), "; instead of SciPy's softmax use fastgrad.special.softmax"),
        (lambda x: scipy.linalg.inv(fg.diag(x)), "; instead of SciPy's inv use fastgrad.linalg.inv"),
        (lambda x: np.diag([x[0], x[1]]), "; instead of NumPy's diag use fastgrad.diag"),
        (lambda x: np.asarray(x), ""),
    ],
)
def test_a_trace_names_what_to_use_instead_of_theirs(transform, f, advice):
    with pytest.raises(fg.TraceError) as raised:
        transform(f)(np.ones((2, 2)) if transform is fg.vmap else np.ones(2))
    place, _, cure = str(raised.value).partition("). Its value differs from ")
    assert place.endswith(f" ({__file__}, line {f.__code__.co_firstlineno}{advice}")
    assert cure


def test_a_call_of_scipys_around_a_trace_is_not_blamed():
    with pytest.raises(fg.TraceError) as raised:
        scipy.optimize.minimize(fg.compile(lambda x: float(x[0])), np.ones(2))
    assert "SciPy's minimize" not in str(raised.value)
