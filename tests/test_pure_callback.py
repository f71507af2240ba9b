"""Host calls as operations: pure_callback, and primitive where it is compiled: values, results of every kind, batches,
loops, derivatives by transposition, errors with their tracebacks, and how long a function lives."""

import gc
import threading
import traceback
import weakref

import numpy as np
import pytest

import fastgrad as fg

X = np.array([3.0, 1.0, 2.0])
XS = np.stack([X, X * 2, X[::-1]])
STRUCT = fg.ShapeDtypeStruct


def cumulated():
    f = fg.primitive(np.cumsum)
    f.defvjp(lambda g, y, x: f(g[::-1])[::-1])
    return f


def several(x):
    return {"sorted": np.sort(x), "order": [np.argsort(x), np.float32(x.sum())], "flag": x.max() > 2, "none": x[:0]}


LIKE = {"sorted": X, "order": [STRUCT(3, int), np.float32(0)], "flag": True, "none": STRUCT((0,), float)}


def leaves(tree):
    return [np.asarray(x) for x in fg.tree.leaves(tree)]


# ---- values --------------------------------------------------------------------------------------------------------
def test_values_eager_and_compiled():
    f = lambda x: fg.pure_callback(np.sort, x, 2 * x) + 1
    for g in (f, fg.compile(f)):
        for x in (X, X + 1, -X):
            np.testing.assert_array_equal(g(x), np.sort(2 * x) + 1)
    t = fg.pure_callback(np.sort, X, fg.tensor(X))
    assert isinstance(t, fg.Tensor) and not t.requires_grad
    assert isinstance(fg.pure_callback(np.sort, X, X), np.ndarray)  # of no tensors, no tensor


def test_results_of_several_arrays_and_dtypes():
    f = lambda x: fg.pure_callback(several, LIKE, x)
    expected = several(X)
    for found in (f(X), f(fg.tensor(X)), fg.compile(f)(X), fg.compile(f)(X)):
        assert found.keys() == expected.keys() and isinstance(found["order"], list)
        for a, b in zip(leaves(found), leaves(expected)):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_array_equal(a, b)
    of_shapes = fg.primitive(several)  # found out by stand-ins
    for a, b in zip(leaves(fg.compile(of_shapes)(X)), leaves(expected)):
        np.testing.assert_array_equal(a, b)


def test_arguments_of_all_kinds():
    def f(arrays, factor, how="plus", *, shift):
        assert isinstance(factor, int) and how in ("plus", "minus")
        return arrays["a"] * factor + (arrays["b"] if how == "plus" else -arrays["b"]) + shift

    def g(a, b):
        return fg.pure_callback(f, a, {"a": a, "b": b}, 3, "minus", shift=b)

    for h in (g, fg.compile(g)):
        np.testing.assert_array_equal(np.asarray(h(X, XS[2])), 3 * X)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?"])
def test_dtypes_and_shapes(dtype):
    for shape in ((), (3,), (2, 0), (2, 3, 4)):
        x = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(dtype)
        same = fg.compile(lambda x: fg.pure_callback(lambda x: x, x, x))(x)
        assert (np.asarray(same).dtype, np.shape(same)) == (x.dtype, x.shape)
        np.testing.assert_array_equal(same, x)


def test_what_f_gets_is_its_own():
    """Copies that nobody writes, so that it may keep them; from the memory of a replay they would change."""
    kept = []

    def keep(x):
        assert not x.flags.writeable
        kept.append(x)
        return x

    f = fg.compile(lambda x: fg.pure_callback(keep, x, x * 2) * 3)
    for k in range(3):
        np.testing.assert_array_equal(f(X + k), 6 * (X + k))
    for k, x in enumerate(kept):
        np.testing.assert_array_equal(x, 2 * (X + k))


def test_calls_are_not_merged_but_where_they_are_equal_and_dropped_where_not_needed():
    calls = []

    def f(x):
        calls.append(1)
        return x * 2

    g = fg.compile(lambda x: fg.pure_callback(f, x, x) + fg.pure_callback(f, x, x + 1))
    np.testing.assert_array_equal(g(X), 4 * X + 2)
    assert len(calls) == 2
    calls.clear()
    fg.compile(lambda x: (fg.pure_callback(f, x, x), x)[1])(X)
    assert not calls


# ---- batches -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["sequential", "expand_dims"])
def test_batches(method):
    shapes = []

    def f(x, y):
        shapes.append((x.shape, y.shape))
        return np.cumsum(x, -1) * y

    def g(x, y):
        return fg.pure_callback(f, x, x, y, vmap_method=method)

    expected = np.cumsum(XS, -1) * X
    for h in (fg.vmap(g, (0, None)), fg.compile(fg.vmap(g, (0, None)))):
        shapes.clear()
        np.testing.assert_array_equal(h(XS, X), expected)
        assert len(shapes) == (3 if method == "sequential" else 1)
        assert shapes[0][0] == ((3,) if method == "sequential" else (3, 3))
    nested = fg.vmap(fg.vmap(g, (None, 0)), (0, None))
    for h in (nested, fg.compile(nested)):
        shapes.clear()
        np.testing.assert_array_equal(h(XS, XS), np.cumsum(XS, -1)[:, None] * XS[None])
        assert len(shapes) == (9 if method == "sequential" else 1)
    assert fg.vmap(g)(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("method", ["sequential", "expand_dims"])
def test_batches_of_several_results(method):
    def f(x):
        return np.sort(x, -1), x.sum(-1).astype(np.float32), np.argsort(x, -1)

    like = (STRUCT(3, float), STRUCT((), np.float32), STRUCT(3, int))
    g = fg.vmap(lambda x: fg.pure_callback(f, like, x, vmap_method=method))
    for h in (g, fg.compile(g)):
        for a, b in zip(h(XS), f(XS)):
            np.testing.assert_array_equal(a, b)
    of_rule = fg.primitive(lambda x: np.cumsum(x, -1), vmap_method=method)
    of_rule.defvjp(lambda g, y, x: of_rule(g[::-1])[::-1])
    h = fg.vmap(fg.grad(lambda x: fg.sum(of_rule(x) ** 2)))
    expected = np.stack([fg.grad(lambda x: fg.sum(fg.cumsum(x) ** 2))(x) for x in XS])
    np.testing.assert_allclose(h(XS), expected, rtol=1e-14)
    np.testing.assert_allclose(fg.compile(h)(XS), expected, rtol=1e-14)


# ---- loops and branches -------------------------------------------------------------------------------------------
def test_in_loops_and_branches():
    double = lambda x: fg.pure_callback(lambda x: x * 2, STRUCT((), float), x)

    def scanned(x):
        return fg.scan(lambda c, v: (double(c) + v, double(v)), 0.0, x)

    def looped(x):
        return fg.while_loop(lambda s: s < 50, double, x[0])

    def branched(x):
        return fg.cond(x[0] > x[1], lambda x: double(x[0]), lambda x: x[1], x)

    def counted(x):
        return fg.fori_loop(0, 3, lambda i, s: double(s) + i, x[0])

    last = 0.0
    for v in X:
        last = 2 * last + v
    for f, expected in (
        (scanned, (last, 2 * X)),
        (looped, 96.0),
        (branched, 6.0),
        (counted, 3 * 8 + 0 * 4 + 1 * 2 + 2),
    ):
        for g in (f, fg.compile(f)):
            for a, b in zip(leaves(g(X)), leaves(expected)):
                np.testing.assert_array_equal(a, b, err_msg=f.__name__)
    mapped = fg.compile(fg.vmap(scanned))(XS)
    np.testing.assert_array_equal(mapped[1], 2 * XS)


def test_gradients_of_a_primitive_in_loops():
    f = cumulated()

    def run(x):
        return fg.scan(lambda c, v: (fg.sin(f(fg.stack([v, c]))[1]), None), 0.0, x)[0]

    def plain(x):
        return fg.scan(lambda c, v: (fg.sin(v + c), None), 0.0, x)[0]

    for transform in (fg.grad, fg.hessian, lambda g: fg.jacfwd(fg.grad(g)), fg.jacfwd):
        expected = transform(plain)(X)
        np.testing.assert_allclose(transform(run)(X), expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(fg.compile(transform(run))(X), expected, rtol=1e-12, atol=1e-14)


def test_training_steps():
    f = cumulated()
    losses = []
    for of in (f, fg.cumsum):
        params = [X.copy()]
        step = fg.training_step(lambda p, x, of=of: fg.sum((of(p[0]) - x) ** 2), params, fg.optim.SGD(0.01))
        losses.append([step(XS[1]) for _ in range(5)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-13)
    # a function that is made anew each time the loss runs is the same function
    params = [X.copy()]
    step = fg.training_step(
        lambda p: fg.sum((p[0] - fg.pure_callback(lambda x: np.sort(x), X, fg.stop_gradient(p[0]))) ** 2),
        params, fg.optim.SGD(0.1),
    )  # fmt: skip
    assert step() > step() > step()


# ---- derivatives ---------------------------------------------------------------------------------------------------
def test_a_rule_of_reverse_mode_serves_forward_mode_too():
    f = cumulated()
    product = fg.primitive(lambda x, y: (x * y, {"s": np.sum(x) * y, "n": np.argsort(x)}))
    product.defvjp(
        lambda g, r, x, y: g[0] * y + g[1]["s"].sum() * fg.ones_like(x) * 0 + (g[1]["s"] * y).sum(),
        lambda g, r, x, y: g[0] * x + g[1]["s"] * x.sum(),
    )

    def both(x):
        a, b = product(fg.sin(x), x)
        return fg.sum(f(a) ** 2) + fg.sum(b["s"] * x)

    def plain(x):
        a = fg.sin(x) * x
        return fg.sum(fg.cumsum(a) ** 2) + fg.sum(fg.sum(fg.sin(x)) * x * x)

    for transform in (
        fg.grad, fg.hessian, fg.jacfwd, lambda h: fg.jacfwd(fg.jacfwd(h)), lambda h: fg.jacrev(fg.jacfwd(h)),
        lambda h: lambda x: fg.hvp(h, (x,), (X,)), lambda h: lambda x: fg.jvp(h, (x,), (XS[1],))[1],
    ):  # fmt: skip
        expected = transform(plain)(X)
        np.testing.assert_allclose(transform(both)(X), expected, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(fg.compile(transform(both))(X), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(fg.vmap(fg.jacfwd(f))(XS), np.tile(np.tril(np.ones((3, 3))), (3, 1, 1)))
    fg.check_grads(both, (X,), order=2)


def test_what_cannot_be_transposed_says_which_rule_is_missing():
    opaque = fg.primitive(np.cumsum)
    opaque.defvjp(lambda g, y, x: np.cumsum(np.asarray(fg.stop_gradient(g))[::-1])[::-1])
    assert fg.grad(lambda x: opaque(x).sum())(X).tolist() == [3, 2, 1]
    with pytest.raises(
        TypeError, match=r"rule of reverse mode for a is used for forward mode, too, .* by cumsum.defjvp"
    ):
        fg.jvp(opaque, (X,), (X,))
    none = fg.primitive(np.cumsum)
    with pytest.raises(NotImplementedError, match="primitive cumsum: it has no forward-mode rule for a"):
        fg.jvp(none, (X,), (X,))
    with pytest.raises(NotImplementedError, match="primitive cumsum: it has no reverse-mode rule for a"):
        fg.compile(fg.grad(lambda x: none(x).sum()))(X)


def test_a_callback_has_no_derivative():
    f = lambda x: fg.sum(fg.pure_callback(np.sort, x, x) * x)
    for g in (fg.grad(f), fg.compile(fg.grad(f)), fg.jacfwd(f)):
        with pytest.raises(
            NotImplementedError, match="^pure_callback sort: it has no derivative, but .* a fastgrad.prim"
        ):
            g(X)
    constant = fg.grad(lambda x: fg.sum(fg.pure_callback(np.sort, x, fg.stop_gradient(x)) * x))
    np.testing.assert_array_equal(constant(X), np.sort(X))
    np.testing.assert_array_equal(fg.compile(constant)(X), np.sort(X))


# ---- errors --------------------------------------------------------------------------------------------------------
class Own(Exception):
    pass


def failing(x):
    inner = x + 1
    if inner[0] > 5:
        raise Own("too much")
    return x


@pytest.mark.parametrize("kind", ["eager", "compiled", "mapped", "in a loop"])
def test_an_exception_travels_out_with_its_own_traceback(kind):
    f = lambda x: fg.pure_callback(failing, x, x)
    if kind == "mapped":
        f = fg.compile(fg.vmap(f))
    elif kind == "in a loop":
        f = fg.compile(lambda x, f=f: fg.fori_loop(0, 3, lambda i, c: f(c) + 1, x))
    elif kind == "compiled":
        f = fg.compile(f)
    good, bad = (XS * 0, XS * 4) if kind == "mapped" else (X * 0, X * 4)
    for _ in range(3):
        f(fg.tensor(good) if kind == "eager" else good)
        with pytest.raises(Own, match="too much") as raised:
            f(fg.tensor(bad) if kind == "eager" else bad)
        assert traceback.extract_tb(raised.tb)[-1].name == "failing"


def test_an_exception_leaves_a_training_step_as_it_was():
    params = [X.copy()]

    def loss(p, x):
        return fg.sum((p[0] - fg.pure_callback(failing, x, x)) ** 2)

    step = fg.training_step(loss, params, fg.optim.SGD(0.1))
    for _ in range(3):
        step(X)
    before = params[0].copy()
    with pytest.raises(Own):
        step(X * 4)
    np.testing.assert_array_equal(params[0], before)


@pytest.mark.parametrize(
    "f, error, text",
    [
        (lambda x: x[:2], ValueError, r"<lambda>: it returned shape \(2,\), expected \(3,\)"),
        (lambda x: x + 1j, (ValueError, TypeError), "it returned complex128, expected float64"),
        (lambda x: (x, x), TypeError, "it returned a result of another structure than result_shape"),
        (lambda x: [x], TypeError, "it returned a result of another structure than result_shape"),
    ],
)
def test_results_that_are_not_as_announced(f, error, text):
    g = lambda x: fg.pure_callback(f, x, x)
    for h, x in ((g, X), (lambda x: g(fg.tensor(x)), X), (fg.compile(g), X), (fg.vmap(g), XS)):
        with pytest.raises(error, match=text):
            h(x)


def test_integers_become_what_was_announced():
    f = fg.compile(lambda x: fg.pure_callback(lambda x: np.float64(1) * x, STRUCT(3, np.float32), x))
    assert f(X).dtype == np.float32
    with pytest.raises(ValueError, match="it returned float64, expected int64"):
        fg.compile(lambda x: fg.pure_callback(np.sort, STRUCT(3, int), x))(X)
    for transformed in (fg.compile, lambda f: f, lambda f: lambda x: fg.vmap(f)(x[None])):
        f = transformed(lambda x: fg.pure_callback(lambda x: x.astype(int), STRUCT(3, np.int8), x))
        assert np.asarray(f(X)).dtype == np.int8
        with pytest.raises(ValueError, match="it returned integers of int64 that int8 does not hold"):
            f(X * 100)


def test_shapes_that_do_not_exist():
    with pytest.raises(ValueError, match=r"^ShapeDtypeStruct: expected lengths of at least 0, got \(2, -1\)"):
        STRUCT((2, -1), float)


def test_errors_of_calls():
    with pytest.raises(TypeError, match="^pure_callback: expected a function, got 3"):
        fg.pure_callback(3, X, X)
    with pytest.raises(TypeError, match="^pure_callback: expected arrays of the shapes and dtypes .* got None"):
        fg.pure_callback(np.sort, None, X)
    with pytest.raises(TypeError, match="^pure_callback sort: expected arrays of the shapes and dtypes"):
        fg.pure_callback(np.sort, lambda x: x, X)
    with pytest.raises(ValueError, match="^pure_callback sort: expected vmap_method 'sequential' or .* 'parallel'"):
        fg.pure_callback(np.sort, X, X, vmap_method="parallel")
    assert repr(STRUCT(3, "f4")) == "ShapeDtypeStruct((3,), float32)"


def test_stand_ins_that_are_refused():
    def picky(x):
        if not float(x[0]).is_integer():
            raise Own("no fractions")
        return np.cumsum(x)

    f = fg.primitive(picky)
    with pytest.raises(
        fg.TraceError, match="primitive picky was called while .* Own: no fractions. Say what it returns"
    ):
        fg.compile(f)(X)
    g = fg.primitive(picky, result_shape=lambda x: x)
    np.testing.assert_array_equal(fg.compile(g)(X), np.cumsum(X))
    np.testing.assert_array_equal(fg.compile(fg.vmap(g))(XS), np.cumsum(XS, 1))
    np.testing.assert_array_equal(fg.compile(fg.primitive(picky, result_shape=X))(X), np.cumsum(X))


# ---- lives and threads ---------------------------------------------------------------------------------------------
def test_a_function_lives_as_long_as_the_program():
    class Function:
        def __call__(self, x):
            return x * 2

    f = Function()
    alive = weakref.ref(f)
    compiled = fg.compile(lambda x, f=f: fg.pure_callback(f, x, x))
    looped = fg.compile(lambda x, f=f: fg.fori_loop(0, 2, lambda i, c: fg.pure_callback(f, c, c), x))
    programs = [compiled.program(X), looped.program(X)]
    del f, compiled, looped
    gc.collect()
    for program, expected in zip(programs, (2 * X, 4 * X)):
        np.testing.assert_array_equal(program.run([X])[0], expected)
    assert alive() is not None
    del programs, program
    gc.collect()
    assert alive() is None


def test_calls_that_call_themselves():
    """A replay under way owns its memory: f may run the same compiled function again."""

    itself = []

    def f(x):
        return x * 0 + (itself[0](x - 1)[0] if x[0] > 0 else 1.0)

    itself.append(fg.compile(lambda x: fg.pure_callback(f, x, x) * 0.5))
    np.testing.assert_array_equal(itself[0](X), np.full(3, 0.5**4))
    itself.clear()  # a cycle through a program, which no garbage collection finds


def test_threads(switch_often):
    f = fg.compile(lambda x: fg.pure_callback(lambda x: np.sort(x), x, x * 2) + 1)
    f(X)
    failed = []

    def run(k):
        for _ in range(200):
            if not np.array_equal(f(X * k), np.sort(2 * X * k) + 1):
                failed.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(1, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed


def test_functions_are_the_same_only_where_they_read_the_same():
    def scaled(k):
        return lambda a, *, factor=k: a * factor

    def rebindable(k):
        def set_k(n):
            nonlocal k
            k = n

        return (lambda a: a * k), set_k

    fs = [scaled(2.0), scaled(3.0)]
    first, second = fg.compile(lambda x: [fg.pure_callback(f, x, x) for f in fs])(X)
    np.testing.assert_array_equal([first, second], [X * 2, X * 3])
    signed = fg.compile(lambda x: [fg.pure_callback(np.copysign, x, x, zero) for zero in (0.0, -0.0)])
    np.testing.assert_array_equal(signed(X), [X, -X])

    two, five = 2.5, 5.5
    (f, set_k), (g, _) = rebindable(two), rebindable(two)
    compiled = [fg.compile(lambda x, f=f: fg.pure_callback(f, x, x)) for f in (f, g)]
    np.testing.assert_array_equal(compiled[0](X), X * two)
    set_k(five)  # from then on f reads another number than g, whose key had been the same
    np.testing.assert_array_equal(compiled[1](X), X * two)
    np.testing.assert_array_equal(compiled[0](X), X * five)
