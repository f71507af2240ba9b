"""Changing values in place: the right gradient, as the tape keeps a value that it needs, or an error; never a wrong
gradient. Changes are made by every operator and by assignment; those of shared memory are in test_inplace_memory.py."""

import operator

import numpy as np
import pytest
from _inplace import OPERATORS, OUT_OF_PLACE, A, B, changed, leaf, sgd

import fastgrad as fg


# ---- values --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    "other", [B, B[1], fg.tensor(B), fg.tensor(B[None, 0]), 2, 0.75, np.float32(2), [2, 1, 2], B[::-1]]
)
def test_values_are_those_of_numpy(name, other):
    x, expected = fg.tensor(A), A.copy()
    same = OPERATORS[name](x, other)
    expected = OPERATORS[name](expected, np.asarray(other))
    assert same is x
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-15)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(name, dtype):
    x = fg.tensor(A, dtype)
    OPERATORS[name](x, fg.tensor(B, np.float64 if dtype == np.float32 else np.float32))
    assert x.dtype == dtype
    np.testing.assert_allclose(x.numpy(), OUT_OF_PLACE[name](A, B), rtol=1e-6)


def test_integers_change_in_place_too():
    x = fg.tensor([7, 8, 9])
    view = x.numpy()
    x += 1
    x *= 2
    x //= 3
    assert (x.dtype, x.tolist(), view.tolist()) == (np.int64, [5, 6, 6], [5, 6, 6])


# ---- tensors without axes ------------------------------------------------------------------------------------------
def partial_sums(x):
    """The sum of the elements and of the first ones, as each of those that are kept keeps its value."""
    kept, s = [], x[0]
    for i in range(1, 3):
        kept.append(s)
        s += x[i]
    return s + np.sum(np.stack(kept))


def mean_beside_the_sum(x):
    s = np.sum(x)
    total = s
    s /= 3
    return total * s


def one_more(x):
    s = x[1]
    y = s
    y *= s
    y -= 1.0
    return s * y


def a_count_is_divided(x):
    n = np.sum(x > 0)
    counted = n
    n /= 2
    return n * x[0] + counted


def a_sum_becomes_a_vector(x):
    s = np.sum(x)
    s += x
    return np.sum(s * s)


@pytest.mark.parametrize("f", [partial_sums, mean_beside_the_sum, one_more, a_count_is_divided, a_sum_becomes_a_vector])
def test_without_axes_a_value_is_what_a_scalar_is_to_numpy(f):
    x, t = np.array([1.5, 2.25, 3.125]), np.array([0.5, -1.0, 2.0])
    value, step = f(x), 1e-6
    slope = (f(x + step * t) - f(x - step * t)) / (2 * step)
    got, gradient = fg.value_and_grad(f)(x)
    np.testing.assert_allclose([got, gradient @ t], [value, slope], rtol=1e-8)
    np.testing.assert_allclose(fg.jvp(f, (x,), (t,)), [value, slope], rtol=1e-8)
    np.testing.assert_allclose(fg.compile(f)(x), value, rtol=1e-14)
    np.testing.assert_allclose(fg.compile(fg.grad(f))(x), gradient, rtol=1e-14)
    np.testing.assert_allclose(fg.vmap(f)(np.stack([x, t])), [value, f(t)], rtol=1e-14)
    np.testing.assert_allclose(f(fg.asarray(x)).numpy(), value, rtol=1e-14)


@pytest.mark.parametrize("number", [2.0, np.float64(2.0), fg.tensor(2.0)])
def test_an_argument_without_axes_keeps_its_value(number):
    def f(x):
        y = x
        y += 1
        return x * y

    assert float(f(number)) == 6.0
    assert float(number) == 2.0
    assert [float(v) for v in fg.value_and_grad(f)(number)] == [6.0, 5.0]
    assert float(fg.hessian(f)(number)) == 2.0
    assert fg.vmap(f)(np.array([2.0, 3.0])).tolist() == [6.0, 12.0]


def test_without_axes_carries_and_operands_are_values_in_bodies_too():
    def step(c, t):
        before = c
        c += t
        c *= t
        return c, before * c

    def branch(v):
        v *= v
        return v

    def f(w):
        s = 1 + w
        s, kept = fg.scan(step, s, np.array([1.0, 2.0]))
        last = s
        s += fg.cond(w > 0, branch, lambda v: v, w)
        return s * last + fg.sum(kept)

    def plain(w):
        a = (1 + w + 1) * 1
        b = (a + 2) * 2
        return (b + (w * w if w > 0 else w)) * b + (1 + w) * a + a * b

    slope = (plain(1.5 + 1e-6) - plain(1.5 - 1e-6)) / 2e-6
    for transformed in (fg.value_and_grad(f), fg.compile(fg.value_and_grad(f))):
        np.testing.assert_allclose(transformed(1.5), [plain(1.5), slope], rtol=1e-8)
    np.testing.assert_allclose(fg.compile(f)(1.5), plain(1.5), rtol=1e-14)
    np.testing.assert_allclose(fg.vmap(f)(np.array([1.5, -0.5])), [plain(1.5), plain(-0.5)], rtol=1e-14)


def test_a_parameter_without_axes_changes_in_place():
    x = fg.tensor(2.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="made with requires_grad=True is changed in place"):
        x -= 1.0
    same = x
    with fg.no_grad():
        x -= 0.5
    assert x is same and x.requires_grad and float(x) == 1.5
    y = fg.zeros(())
    same = y
    y[...] = 4.0
    y += 1.0
    assert float(same) == 4.0 and float(y) == 5.0


# ---- gradients -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tracked", ["target", "operand", "both"])
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shown", [False, True])
def test_a_change_that_is_recorded_gives_the_right_gradient_or_an_error(name, tracked, shown):
    """y op= b is y = y op b. Where an ndarray shows the memory of y and the tape would need the old y, it refuses."""

    def run(operators):
        x, b = leaf(A), leaf(B)
        y = x * 1.0 if tracked != "operand" else fg.tensor(A)
        view = y.detach().numpy() if shown else None  # noqa: F841
        y = operators[name](y, b if tracked != "target" else fg.tensor(B))
        y.sum().backward()
        return [None if t.grad is None else t.grad.tolist() for t in (x, b)]

    expected = run(OUT_OF_PLACE)
    names = {"*=": "multiply", "%=": "remainder", "**=": "power"}
    needs_old = shown and ((name in {"*=", "%="} and tracked != "target") or name == "**=")
    if needs_old:
        with pytest.raises(RuntimeError) as error:
            run(OPERATORS)
        assert str(error.value) == changed(names[name], "input")
    else:
        assert run(OPERATORS) == expected


@pytest.mark.parametrize("shared", [False, True], ids=["own memory", "an ndarray's memory"])
@pytest.mark.parametrize("name", ["+=", "-=", "/="])
def test_the_result_of_a_recorded_change_is_what_the_tape_keeps(name, shared):
    """The derivative of a / b by b names the result, which is only known after the change."""
    memory = A.copy()
    y, b = (fg.asarray if shared else fg.tensor)(memory), leaf(B)
    OPERATORS[name](y, b)
    (y * A).sum().backward()
    expected = fg.grad(lambda b: (OUT_OF_PLACE[name](A, b) * A).sum())(B)
    np.testing.assert_allclose(b.grad.numpy(), expected, rtol=1e-14)


def test_a_chain_of_changes():
    x = leaf()
    y = x * 1.0
    for _ in range(5):
        y += x
        y *= 2.0
        y -= 1.0
        y /= 4.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 3


def test_a_tensor_and_itself():
    for change, factor in ((lambda y: operator.iadd(y, y), 2), (lambda y: operator.isub(y, y), 0)):
        x = leaf()
        y = x * 1.0
        change(y)
        y.sum().backward()
        assert x.grad.tolist() == [factor] * 3
    x = leaf()
    y = x * 1.0
    y *= y
    y.sum().backward()
    assert x.grad.tolist() == (2 * A).tolist()


# What was recorded, and which of its values is then changed.
NEEDED = {
    "input of square": (lambda x: (y := x * 1.0, fg.square(y)), "square", "input"),
    "input of sin": (lambda x: (y := x * 1.0, fg.sin(y)), "sin", "input"),
    "input of log": (lambda x: (y := x * 1.0, fg.log(y)), "log", "input"),
    "input of multiply": (lambda x: (y := fg.tensor(B), x * y), "multiply", "input"),
    "input of divide": (lambda x: (y := fg.tensor(B), x / y), "divide", "input"),
    "input of matmul": (lambda x: (y := fg.tensor(B), x @ y), None, "input"),
    "input of max": (lambda x: (y := x * 1.0, fg.max(y)), "max", "input"),
    "input of logsumexp": (lambda x: (y := x * 1.0, fg.logsumexp(y)), "logsumexp", "input"),
    "result of exp": (lambda x: (y := fg.exp(x), y), "exp", "result"),
    "result of tanh": (lambda x: (y := fg.tanh(x), y * 2), "tanh", "result"),
    "result of sqrt": (lambda x: (y := fg.sqrt(x), y), "sqrt", "result"),
    "result of softmax": (lambda x: (y := fg.softmax(x), y), "softmax", "result"),
    "an integer index": (lambda x: (y := fg.tensor([0, 1, 1]), fg.take(x, y)), "take", "input"),
}


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("by", ["operator", "assignment", "operator, shown", "under no_grad", "optimizer"])
def test_a_needed_value_that_changed_is_kept_or_an_error(name, by):
    record, op, which = NEEDED[name]
    x = leaf()
    value, result = record(x)
    view = value.detach().numpy() if by == "operator, shown" else None  # noqa: F841
    if by == "assignment":
        if value is result:
            return  # whose gradient the assignment changes
        value[1:] = 2
    elif by.startswith("operator"):
        value += 1
    elif by == "under no_grad":
        with fg.no_grad():
            value += 1
    elif value.dtype != np.float64:
        return  # an optimizer changes floats only
    else:
        sgd(value, np.ones(3), 0.1)
    if by in ("operator", "assignment") or op is None:  # a matmul is reached by way of a reshape
        expected = fg.grad(lambda x: record(x)[1].sum())(A)
        result.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), expected)
        return
    with pytest.raises(RuntimeError) as error:
        result.sum().backward()
    assert str(error.value) == changed(op, which)
    assert x.grad is None


def test_a_leaf_cannot_change_while_it_is_recorded():
    x = leaf()
    for name, op in (("+=", "add"), ("-=", "subtract"), ("*=", "multiply"), ("/=", "divide"), ("//=", "floor_divide"),
                     ("%=", "remainder"), ("**=", "power")):  # fmt: skip
        with pytest.raises(RuntimeError) as error:
            OPERATORS[name](x, 1.0)
        assert str(error.value) == (
            f"{op}: a tensor made with requires_grad=True is changed in place while gradients are recorded; do it "
            "under fg.no_grad(), or make a new tensor"
        )
    assert x.tolist() == A.tolist()
    y = x * x
    with fg.no_grad():
        x -= 1.0
    assert x.requires_grad and x.is_leaf and x.tolist() == (A - 1).tolist()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()
    (x * x).sum().backward()
    assert x.grad.tolist() == (2 * (A - 1)).tolist()


def test_a_matrix_product_in_place():
    m = np.array([[1.0, 2.0], [3.0, 4.0]])
    for dtype in (np.float64, np.float32, np.int32):
        x = y = fg.tensor(m.astype(dtype))
        y @= m.astype(dtype)
        assert x is y and x.dtype == dtype and x.tolist() == (m @ m).tolist()
    x = leaf(m)
    y = x * 2.0
    y @= x
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), fg.grad(lambda x: fg.sum(2.0 * x @ x))(m), rtol=1e-14)
    with pytest.raises(RuntimeError, match="^matmul: a tensor made with requires_grad=True is changed in place"):
        x @= m


# ---- assignment to elements ----------------------------------------------------------------------------------------
KEYS = [
    0,
    -1,
    slice(1, None),
    Ellipsis,
    [0, 2, 0],
    np.array([True, False, True]),
    np.array([], int),
    (slice(None), None),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.bool_])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_assigned_elements_are_those_of_numpy(key, dtype):
    for value in (A[0], A[key] * 2) if np.dtype(dtype).kind == "f" else (np.dtype(dtype).type(1),):
        x, expected = fg.tensor(A.astype(dtype)), A.astype(dtype)
        view = x.numpy()
        x[key] = value
        expected[key] = value
        assert x.dtype == dtype
        np.testing.assert_array_equal(x.numpy(), expected)
        np.testing.assert_array_equal(view, expected)


def test_assignment_is_recorded():
    def f(x, v):
        y = x * x
        square = y * y  # needs the y of before
        y[1:] = fg.exp(v)
        y[y > 5.0] = 0.0
        return fg.sum(y * x) + fg.sum(square)

    def values(x, v):
        y = x * x
        square = y * y
        y = y.at[1:].set(fg.exp(v))
        return fg.sum(fg.where(y > 5.0, 0.0, y) * x) + fg.sum(square)

    x, v = np.array([1.5, 2.5, 0.5]), np.array([0.25, 2.0])
    expected = fg.grad(values, (0, 1))(x, v)
    for run in (fg.grad(f, (0, 1)), fg.compile(fg.grad(f, (0, 1)))):
        for got, wanted in zip(run(x, v), expected):
            np.testing.assert_allclose(got, wanted, rtol=1e-15)
    mapped = fg.vmap(fg.grad(f))(np.stack([x, x + 1]), np.stack([v, v]))
    np.testing.assert_allclose(mapped[0], expected[0], rtol=1e-15)
    fg.check_grads(f, (x, v), order=2)


def test_assignment_is_refused_where_a_change_in_place_is():
    x = leaf()
    with pytest.raises(RuntimeError, match="requires_grad=True is changed in place while gradients are recorded"):
        x[0] = 1.0
    with fg.no_grad():
        x[0] = 1.0
    assert x.requires_grad and x.tolist() == [1.0, *A[1:]]

    def changes(x):
        x[0] = 1.0
        return fg.sum(x)

    with pytest.raises(RuntimeError, match=r"make a new tensor, as in x = x.at\[i\].set\(v\) instead of x\[i\] = v"):
        fg.grad(changes)(A)
    with pytest.raises(fg.TraceError, match="assignment changes an argument of the function in place"):
        fg.compile(lambda x: fg.scan(lambda c, t: (c.__setitem__(0, t), c), x, x)[0])(A)
    outside = fg.tensor(A)
    with pytest.raises(fg.TraceError, match="assignment changes a tensor in place that was made before"):
        fg.compile(lambda t: outside.__setitem__(0, t[0]))(A)
    with pytest.raises(IndexError):
        outside[3] = 1.0
    with pytest.raises(TypeError):
        fg.tensor([1, 2])[0] = x
    with pytest.raises(ValueError):
        outside[:2] = A
    assert outside.tolist() == A.tolist()


def test_a_failed_change_changes_nothing():
    x = leaf()
    y = x * 1.0
    for other, error in (([1.0, 2.0], ValueError), (np.ones((2, 3)), ValueError), (np.ones((3, 3)), ValueError)):
        with pytest.raises(error):
            y += other
    with pytest.raises(TypeError):
        y += "a"
    (y * y).sum().backward()
    assert x.grad.tolist() == (2 * A).tolist()
