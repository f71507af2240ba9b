"""``compile``: work on integers and booleans, and indexing."""

import gc
import operator
import threading
import warnings

import numpy as np
import pytest
from _replay import eagerly, random_graph, same, same_tree
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import _core

RNG = np.random.default_rng(0)
INTEGERS = [np.dtype(c) for c in "?bhilBHIL"]


@pytest.mark.parametrize("start", INTEGERS, ids=str)
def test_integers_are_converted_as_numpy_does(start):
    info = None if start.kind == "b" else np.iinfo(start)
    x = np.array([0, 1, 0, 1] if start.kind == "b" else [0, 1, info.max, info.min, info.max // 3], start)
    x = np.concatenate([x, np.resize(x, 700)])
    targets = [*INTEGERS, np.dtype(np.float32), np.dtype(np.float64)]
    f = fg.compile(lambda x: [fg.astype(x, t) for t in targets])
    f(x[::-1])
    same_tree(f(x), [x.astype(t) for t in targets])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int16])
def test_integer_labels_and_indices(dtype):
    x, labels = RNG.standard_normal((4, 3)), np.array([0, 2, 1, 2], dtype)
    loss = lambda x, k: fg.losses.softmax_cross_entropy(x, k)
    compiled = fg.compile(fg.value_and_grad(loss))
    compiled(x, labels[::-1].copy())
    value, gradient = compiled(x, labels)
    v, g = fg.value_and_grad(loss)(x, labels)
    assert value == v
    same(gradient, g)
    f = fg.compile(lambda x, k: (x[k], fg.take(x, k, axis=0), x * k[:, None], fg.mean(k), k / 2, fg.tanh(k)))
    f(x, labels * 0)
    same_tree(
        f(x, labels),
        tuple(
            np.asarray(v)
            for v in eagerly(
                lambda x, k: (x[k], fg.take(x, k, axis=0), x * k[:, None], fg.mean(k), k / 2, fg.tanh(k)), x, labels
            )
        ),
    )


@pytest.mark.parametrize("only_gradient", [False, True])
@pytest.mark.parametrize("label", [-1, 3, 10**12])
def test_a_label_out_of_range_at_replay(label, only_gradient):
    loss = lambda x, k: fg.losses.softmax_cross_entropy(x, k)
    f = fg.compile((fg.grad if only_gradient else fg.value_and_grad)(loss))
    x = np.zeros((2, 3))
    f(x, np.array([0, 1]))
    with pytest.raises(IndexError, match=f"label {label} of row 1"):
        f(x, np.array([0, label]))
    f(x, np.array([0, 1]))


@pytest.mark.parametrize("make", [lambda f: f, fg.grad], ids=["value", "gradient"])
def test_an_index_out_of_range_at_replay(make):
    f = fg.compile(make(lambda x, i: fg.sum(x[i])))
    x = np.arange(4.0)
    f(x, np.array([0, -1]))
    for bad in (4, -5):
        with pytest.raises(IndexError):
            f(x, np.array([0, bad]))
    f(x, np.array([0, 3]))


# ---- random graphs of integers and booleans beside floats -----------------------------------------------------------
# Each step gets two earlier values of whatever dtypes. What eager refuses (by TypeError or ValueError) is left out.
ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.truediv]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
LOGIC = [operator.and_, operator.or_, operator.xor]
NUMBERS = [0, 1, -1, 3, 100, 1000, 2**40, True, False, 0.5, -2.0]
TARGETS = [np.dtype(c) for c in "?bhilBHILfd"]
REDUCTIONS = [fg.sum, fg.prod, fg.max, fg.min, fg.any, fg.all, fg.argmax, fg.argmin, fg.mean]


def arithmetic(k, x, y):
    return ARITHMETIC[k % len(ARITHMETIC)](x, y)


def with_number(k, x, y):
    number = NUMBERS[k % len(NUMBERS)]
    operation = [*ARITHMETIC, *COMPARISONS][k // 11 % 12]
    return operation(x, number) if k % 2 else operation(number, x)


def compared(k, x, y):
    return COMPARISONS[k % len(COMPARISONS)](x, y)


def logical(k, x, y):
    if k % 5 == 0:
        return ~x
    if k % 5 == 1:
        return getattr(fg, ("logical_and", "logical_or", "logical_xor")[k % 3])(x, y)
    return LOGIC[k % 3](x, y if k % 2 else k % 7)


def unary(k, x, y):
    names = """negative absolute sign square floor sqrt isnan isfinite signbit logical_not tanh positive reciprocal
    round""".split()
    return getattr(fg, names[k % len(names)])(x)


def reduced(k, x, y):
    axis = None if x.ndim == 0 or k % 3 == 0 else k % x.ndim
    return REDUCTIONS[k % len(REDUCTIONS)](x, axis=axis, keepdims=bool(k & 4))


def converted(k, x, y):
    return fg.astype(fg.clip(x, -100, 100) if x.dtype.kind == "f" else x, TARGETS[k % len(TARGETS)])


def chosen(k, x, y):
    return [
        lambda: fg.where(x > y, x, y),
        lambda: fg.where(x, y, NUMBERS[k % len(NUMBERS)]),
        lambda: fg.clip(x, 0, 2),
        lambda: fg.maximum(x, y),
        lambda: fg.minimum(x, NUMBERS[k % len(NUMBERS)]),
        lambda: fg.full_like(x, NUMBERS[k % 4]) + x,
    ][k % 6]()


def shaped(k, x, y):
    return [lambda: x.T, lambda: fg.reshape(x, -1), lambda: x[..., ::-1] if x.ndim else x, lambda: fg.stack([x, x]),
            lambda: fg.concatenate([fg.ravel(x), fg.ravel(y)]), lambda: fg.astype(x, x.dtype)][k % 6]()  # fmt: skip


def multiplied(k, x, y):
    return x @ (y.T if k % 2 else y)


def indexed(k, x, y):
    if x.ndim == 0 or not x.size or y.dtype.kind not in "iu":
        return x
    i = fg.astype(fg.remainder(y, x.shape[0]), int)
    j = fg.astype(i % x.shape[-1], np.int8) - x.shape[-1]
    return [lambda: x[i], lambda: x[..., j], lambda: x[None, i], lambda: x[i, ..., j] if x.ndim > 1 else x[j],
            lambda: fg.take(x, i), lambda: fg.take(x, j, axis=-1)][k % 6]()  # fmt: skip


def changed(k, x, y):
    z = fg.astype(x, x.dtype)
    if k % 3 == 0:
        z += y
    elif k % 3 == 1:
        z *= NUMBERS[k % 4]
    else:
        z -= z
    return z


KINDS = [
    arithmetic, with_number, compared, logical, unary, reduced, converted, chosen, shaped, multiplied, indexed, changed
]  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), *[st.integers(0, 10_000)] * 3), min_size=1, max_size=12)
SHAPES = [(), (1,), (4,), (3, 4), (1, 4), (3, 1), (0, 4), (2, 3, 4)]


def drawn(shape, dtype, rng):
    if dtype.kind == "f":
        return rng.uniform(-3, 3, shape).astype(dtype)
    return rng.integers(0 if dtype.kind in "ub" else -5, 2 if dtype.kind == "b" else 6, shape).astype(dtype)


@settings(max_examples=250, deadline=None, database=None, derandomize=True)
@given(STEPS, st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(TARGETS)), min_size=1, max_size=3))
def test_random_graphs_of_integers_replay_as_eager(steps, inputs):
    f = random_graph(steps, lambda error: not isinstance(error, fg.TraceError), window=3, most=5000)
    compiled = fg.compile(f)
    rng = np.random.default_rng(len(steps))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(3):
            arrays = [drawn(shape, dtype, rng) for shape, dtype in inputs]
            same_tree(compiled(*arrays), [v.numpy() for v in eagerly(f, *arrays)])
    assert compiled.cache_info()[:2] == (2, 1)


# ---- Python numbers, which are weak ---------------------------------------------------------------------------------
WEAK = {
    "times": lambda x, s: x * s,
    "reflected": lambda x, s: s - x,
    "twice": lambda x, s: x * (s * 2 + 1),
    "negated": lambda x, s: x + -s + abs(s),
    "in place": lambda x, s: operator.iadd(x * 1, s),
    "number in place": lambda x, s: operator.iadd(s, 1) * x,
    "divided": lambda x, s: x / s,
    "floor": lambda x, s: x // s + x % s,
    "compared": lambda x, s: (x < s, s >= x, (s > 1) * x),
    "where": lambda x, s: fg.where(x > 0, x, s),
    "clip": lambda x, s: fg.clip(x, -s, s),
    "maximum": lambda x, s: np.maximum(x, s),
    "function": lambda x, s: fg.multiply(x, s) + fg.add(s, 1),
    "function of it": lambda x, s: fg.tanh(s) * x,
    "np function of it": lambda x, s: x * np.sqrt(s + 0),
    "tensor": lambda x, s: x * fg.tensor(s),
    "asarray": lambda x, s: x * fg.asarray(s),
    "full_like": lambda x, s: fg.full_like(x, s) + x,
    "full": lambda x, s: fg.full(2, s),
    "stack": lambda x, s: fg.stack([fg.sum(x), s]),
    "comparison of numbers": lambda x, s: x * (s > 0) + ((s > 0) + (s > 0)),
    "other float": lambda x, s: x * s + np.float64(1.5),
    "power": lambda x, s: fg.power(x * x, s),
    "prelu": lambda x, s: fg.leaky_relu(x, s),
    "activation": lambda x, s: fg.activations.elu(x, s) if hasattr(fg.activations, "elu") else fg.elu(x, s),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.uint8, np.int64, np.bool_])
@pytest.mark.parametrize("name", WEAK)
def test_python_numbers_are_as_weak_as_in_eager(name, dtype):
    f = WEAK[name]
    compiled = fg.compile(f)
    for numbers in ((2.0, 0.5, 3.25), (2, 1, 3), (True, True, True)):
        for s in numbers:
            x = np.array([1, 0, 1, 2, 3], dtype)
            with np.errstate(all="ignore"):
                try:
                    expected = fg.tree.map(lambda y: y.numpy() if isinstance(y, fg.Tensor) else y, f(fg.tensor(x), s))
                except (TypeError, ValueError, OverflowError) as error:
                    with pytest.raises(type(error)):
                        compiled(x, s)
                    continue
                same_tree(compiled(x, s), expected)


def test_numbers_of_each_type_have_a_program_of_their_own():
    f = fg.compile(lambda x, s: x * s)
    x = np.ones(2, np.float32)
    for misses, s in enumerate([2.0, 2, True, np.float64(2), np.float32(2), np.int64(2)], 1):
        for _ in range(2):
            same(f(x, s), x * s)
        assert f.cache_info().misses == misses
    same(f(x, np.array(3.0)), x * np.float64(3))
    assert f.cache_info().misses == 6
    for s in (-1.5, 7.0, np.inf):
        same(f(x, s), x * s)
    same(f(x, 2**63), x * 2**63)  # a uint64 to NumPy: traced anew
    same(f(x, 2**62), x * 2**62)
    for n in (2**64, -(2**63) - 1):
        with pytest.raises(
            TypeError, match=r"args\[1\] is an integer of 6[45] bits, which fits neither int64 nor uint64"
        ):
            f(x, n)
    assert f.cache_info().misses == 7


@pytest.mark.parametrize("f", [lambda k: k + 1, lambda k: 1 + k, lambda k: k // 3 * 2, lambda k: (k & 5) + k])
def test_an_int_that_fits_uint64_alone_is_a_uint64(f):
    compiled = fg.compile(f)
    for k in (2**63, 2**63 + 12345, 2**62, 2**63 + 1):
        for _ in range(2):
            assert compiled(k) == int(f(np.uint64(k))), k
            assert type(compiled(k)) is int


@pytest.mark.parametrize(
    "f",
    [
        lambda k, b: k + (k > 0), lambda k, b: (k > 0) + k, lambda k, b: k - b, lambda k, b: k * b, lambda k, b: k // b,
        lambda k, b: k % b, lambda k, b: k - True, lambda k, b: (k - b) * (k > 0) + b, lambda k, b: b + b,
    ],
)  # fmt: skip
def test_a_uint64_and_a_boolean_are_integers(f):
    compiled = fg.compile(f)
    for k in (2**63, 2**63 + 12345, 2**64 - 2):
        for _ in range(2):
            found, expected = compiled(k, True), f(k, True)
            assert (type(found), found) == (int, expected)


def test_a_python_int_out_of_bounds_is_an_error_of_the_call():
    f = fg.compile(lambda x, n: x + n)
    x = np.array([1, 2], np.uint8)
    same(f(x, 250), x + np.uint8(250))
    for n in (256, -1):
        with pytest.raises(OverflowError, match=f"Python integer {n} out of bounds for uint8"):
            f(x, n)
    same(f(x, 3), x + np.uint8(3))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("f", [operator.add, operator.floordiv, np.maximum, np.bitwise_and])
def test_an_int_that_fits_uint64_alone_takes_on_the_dtype_of_an_array_or_is_an_error(f, dtype):
    """It is a Python number like any other: beside an array of integers it makes no floats."""
    x = np.array([1, 2], dtype)
    for k in (2**63, 2**64 - 1):
        for g in (f, lambda x, k: f(k, x)):
            with pytest.raises(OverflowError):
                g(x, k)
            with pytest.raises(OverflowError):
                fg.compile(g)(x, k)
    u = np.array([1, 2], np.uint64)
    same(fg.compile(f)(u, 2**63), f(u, 2**63))
    same(fg.compile(operator.truediv)(u, 2**63), u / 2**63)


def test_gradients_by_python_numbers():
    f = lambda x, s: fg.sum(x * s)
    for argnums in (0, 1, (0, 1)):
        g = fg.grad(f, argnums)
        compiled = fg.compile(g)
        x = np.array([1.0, 2.0], np.float32)
        for s in (2.0, 3.0):
            same_tree(compiled(x, s), g(x, s))


# ---- keyword arguments ----------------------------------------------------------------------------------------------
def test_keyword_arguments():
    f = fg.compile(lambda x, y=1.0, *, p=None, **more: x * y + (0 if p is None else p["a"]) + sum(more.values()))
    x = np.ones(2, np.float32)
    a = np.arange(2.0)
    for _ in range(3):
        same(f(x), x)
        same(f(x, y=3.0), x * 3)
        same(f(x=x, y=2.0), x * 2)
        same(f(x, 4.0, p={"a": a}), x * np.float32(4) + a)
        same(f(x, z=a, w=1.0), x + a + 1)
        same(f(x, w=2.0, z=a), x + a + 2)
    assert f.cache_info() == (12, 6, 64, 6)  # keywords in another order, which more shows, are another program
    with pytest.raises(TypeError, match=r"kwargs\['p'\]\['a'\] is of type str"):
        f(x, p={"a": "text"})
    assert "multiply" in str(f.program(x, y=3.0))
    same(fg.compile(lambda x, s: x * s, verify=True)(x, s=2.0), 2 * x)
    same(fg.compile(lambda x, s: f(x, y=s))(x, s=2.0), 2 * x)


def test_static_arguments_by_name_and_by_number_are_the_same():
    def f(x, n, how="sum"):
        return fg.sum(x) * n if how == "sum" else fg.max(x) ** n

    x = np.array([1.0, 2.0])
    for numbers, names in (((), ("n", "how")), ((1, 2), ()), (1, "how")):
        g = fg.compile(f, static_argnums=numbers, static_argnames=names)
        for n in (2, 3):
            assert g(x, n, "sum") == g(x, n, how="sum") == g(x, how="sum", n=n) == 3 * n
            assert g(x, n=n, how="max") == g(x, n, "max") == 2**n
        assert g.cache_info().misses == 10
    g = fg.compile(f, static_argnames=("n", "how"))
    assert g(x, 2) == 6 and g(x, n=2) == 6
    with pytest.raises(ValueError, match="static_argnames has 'm', but the function's parameters are how, n, x"):
        fg.compile(f, static_argnames="m")
    with pytest.raises(TypeError, match="static_argnames as names of parameters, got 1"):
        fg.compile(f, static_argnames=(1,))
    with pytest.raises(TypeError, match="the static argument 'n' holds a list"):
        g(x, n=[1])
    assert fg.compile(lambda x, **k: x * k["n"], static_argnames="n")(2.0, n=3) == 6


# ---- indexing -------------------------------------------------------------------------------------------------------
X = np.random.default_rng(3).standard_normal((3, 4, 5))
INDEXING = {
    "rows": lambda x, i, j, k: x[i],
    "axis 1": lambda x, i, j, k: x[:, j],
    "last axis": lambda x, i, j, k: x[..., i],
    "pairs": lambda x, i, j, k: x[i, j],
    "adjacent": lambda x, i, j, k: x[:, i, j],
    "apart": lambda x, i, j, k: x[i, :, j],
    "with a number": lambda x, i, j, k: (x[i, 1], x[1, i], x[:, i, -1], x[0, :, j]),
    "traced number": lambda x, i, j, k: (x[k], x[k, 1], x[:, k], x[k, :, k], x[..., k], x[k, k, k], x[k, ..., None]),
    "numbers and arrays": lambda x, i, j, k: (x[k, i], x[k, :, j], x[i, k]),
    "new axes": lambda x, i, j, k: (x[None, i], x[i, None, j], x[i, None], x[:, None, j, :]),
    "slices": lambda x, i, j, k: (x[::-1, j], x[1:, j, ::2], x[..., 1:4][i]),
    "two axes": lambda x, i, j, k: x[i[:, None], j],
    "a constant beside": lambda x, i, j, k: (x[i, np.array([0, 1, 3])], x[[0, 2, 1], j], x[np.array([[0], [1]]), j]),
    "a mask beside": lambda x, i, j, k: (x[np.ones(3, bool), i], x[i[:2], :, [True, False, False, False, True]]),
    "list": lambda x, i, j, k: (x[[k, 0]], x[:, [k, k, 1]]),
    "take": lambda x, i, j, k: (fg.take(x, i, axis=1), np.take(x, j), x.take(k, axis=-1)),
    "computed": lambda x, i, j, k: (
        x[fg.argmax(x, axis=0)[0] % 3],
        x[(i + j) % 3, i * 0 - 1],
        x[i + 0, fg.astype(x[0, 0, :3] > 0, int)],
    ),
    "integers": lambda x, i, j, k: (j[i], fg.astype(x, int)[i, j], (x > 0)[i, :, j]),
}


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, np.uint64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", INDEXING)
def test_indices_that_change_from_call_to_call(name, dtype):
    f = INDEXING[name]
    loss = lambda x, *rest: sum(fg.sum(v * v) * 0.5 for v in fg.tree.leaves(f(x, *rest)) if v.dtype.kind == "f")
    compiled, gradient = fg.compile(f), fg.compile(fg.grad(loss))
    signed = np.dtype(dtype).kind == "i"
    if not signed and name in ("computed", "list"):  # which compute with the indices, where unsigned ones wrap
        return
    for shift in range(3):
        i, j = (np.arange(3) + shift) % 3, (2 * np.arange(3) + shift) % 4
        if signed:
            i, j = i - 3 * (np.arange(3) == shift), j - 4 * (np.arange(3) == 1)
        args = X, i.astype(dtype), j.astype(dtype), dtype(shift - 2 * signed)
        if name not in ("computed", "integers", "take"):  # these use functions of tensors
            same_tree(compiled(*args), f(*args))
        same_tree(compiled(*args), fg.tree.map(lambda t: t.numpy(), eagerly(f, *args)))
        if name != "integers":
            same(gradient(*args), fg.grad(loss)(*args))


@pytest.mark.parametrize("f, bad", [
    (lambda x, i: x[i], 3), (lambda x, i: x[i], -4), (lambda x, i: x[:, i], 4), (lambda x, i: x[i, i], 3),
    (lambda x, i: x[i, :, i], -4), (lambda x, i: fg.take(x, i, axis=2), 5), (lambda x, i: x[0, i], -5),
    (lambda x, i: x[i[0], 0], 7),
])  # fmt: skip
def test_an_index_out_of_range_names_itself_and_does_nothing(f, bad):
    compiled = fg.compile(lambda x, i: fg.sum(f(x, i)))
    good = compiled(X, np.array([0, 1]))
    with pytest.raises(IndexError, match=f"index {bad}.* is outside an? axis"):
        compiled(X, np.array([bad, 1]))
    gradient = fg.compile(fg.grad(lambda x, i: fg.sum(f(x, i))))  # a program of the backward pass alone
    gradient(X, np.array([0, 1]))
    with pytest.raises(IndexError, match=f"^(take|indexing): index {bad}"):
        gradient(X, np.array([bad, 1]))
    assert compiled(X, np.array([0, 1])) == good
    p = np.zeros(3)
    step = fg.training_step(lambda w, x, i: fg.sum(w) + fg.sum(f(x, i)), p, fg.optim.SGD(1.0))
    step(X, np.array([0, 1]))
    step(X, np.array([0, 1]))
    before = p.copy()
    with pytest.raises(IndexError):
        step(X, np.array([bad, 1]))
    same(p, before)


@pytest.mark.parametrize("f", [
    lambda x, i: x[i], lambda x, i: x[:, i], lambda x, i: x[i, i], lambda x, i: x[[i, i]], fg.take,
    lambda x, i: fg.vmap(lambda row: row[i])(x), lambda x, i: fg.vmap(lambda row, k: row[k])(x, fg.stack([i, i, i])),
])  # fmt: skip
def test_an_unsigned_index_is_never_a_negative_one(f):
    for run in (f, fg.compile(f), fg.compile(fg.grad(lambda x, i: fg.sum(f(x, i))))):
        assert run(X, np.uint64(1)) is not None
        for huge in (2**63, 2**64 - 1):
            with pytest.raises(IndexError, match=f"index {huge} is outside"):
                run(fg.tensor(X), fg.tensor(np.uint64(huge)))
    with pytest.raises(IndexError, match="index 18446744073709551615 is outside"):
        fg.compile(f)(X, 2**64 - 1)


def test_programs_for_different_lengths_share_the_numbers_of_their_calls():
    def once(n):
        fg.compile(lambda x, i, j: x[i, j])(np.ones((n, n + 1)), np.array([0]), np.array([1]))

    once(100)
    known = _core.numpy_number(np.add, {"where": object()})  # a call that nobody has made: the newest number
    once(101)
    assert _core.numpy_number(np.add, {"where": object()}) == known + 1


def test_indexing_that_numpy_refuses_is_refused():
    i = np.array([0, 1])
    for f, text in [
        (lambda x, i: x[i, i, i, i], "4 indices for a tensor of 3"),
        (lambda x, i: x[..., i, ...], "only one ellipsis"),
        (lambda x, i: x[i, np.ones(3, bool)], "a mask of shape"),
        (lambda x, i: x[i, True], "a mask of shape"),
    ]:
        with pytest.raises(IndexError, match=text):
            fg.compile(f)(X, i)
    with pytest.raises(ValueError, match="broadcast"):
        fg.compile(lambda x, i: x[i, i[:, None][:, [0, 0, 0]], np.arange(3)])(X, i)


# ---- the operation itself -------------------------------------------------------------------------------------------
def test_equal_calls_are_merged_and_show_their_names():
    f = fg.compile(lambda i: (fg.sum(i * i, axis=0) + fg.sum(i * i, axis=0), fg.sum(i * i, axis=1), fg.argmax(i)))
    program = f.program(np.arange(6).reshape(2, 3))
    text = str(program)
    assert text.count("= multiply") == 1 and text.count("= sum") == 2 and text.count("= argmax") == 1
    assert "numpy" not in text
    program = fg.compile(lambda i: i @ i + i @ i).program(np.arange(4).reshape(2, 2))
    assert str(program).count("numpy.matmul") == 1 and 'label="numpy.matmul\\nint64 (2, 2)"' in program.dot()


def test_a_long_program_with_integers_keeps_the_lock():
    f = fg.compile(lambda x, i: (fg.sum(fg.tanh(x @ x)), i + 1, fg.argmax(i)))
    x, i = np.random.default_rng(0).standard_normal((300, 300)), np.arange(5)
    results = []

    def work():
        for _ in range(5):
            results.append(f(x, i))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for found in results:
        same_tree(found, f(x, i))
    assert len(results) == 20


LOOPS = """add subtract multiply negative positive absolute sign square maximum minimum invert bitwise_and bitwise_or
    bitwise_xor left_shift right_shift logical_not logical_and logical_or logical_xor equal not_equal less less_equal
    greater greater_equal floor_divide remainder""".split()


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_loops_over_elements_give_what_numpy_gives(dtype):
    rng = np.random.default_rng(1)
    low, high = (0, 2) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    draw = lambda *shape: rng.integers(low, high, shape, np.int64 if dtype.kind == "b" else dtype).astype(dtype)
    pairs = [(draw(), draw()), (draw(70), draw(70)), (draw(2, 3), draw()), (draw(1, 1), draw(2, 3)),
             (draw(2, 1), draw(1, 3)), (draw(3), draw(2, 3)), (draw(0), draw())]  # fmt: skip
    for name in LOOPS:
        ufunc = getattr(np, name)
        call = lambda *xs: _core.by_numpy(ufunc, *xs)
        for x, y in pairs:
            if name.endswith("shift"):
                y = y % dtype.type(8) if dtype.kind != "b" else y
            elif name in ("floor_divide", "remainder"):
                y = y | dtype.type(1)
            operands = (x, y)[: ufunc.nin]
            try:
                expected = ufunc(*operands)
            except TypeError:  # NumPy has none for this dtype
                continue
            same(np.asarray(fg.compile(call)(*operands)), np.asarray(expected))


def test_what_has_a_kernel_needs_no_lock():
    i, j = np.arange(6).reshape(2, 3), np.arange(3)
    needs_lock = lambda f: fg.compile(f).program(i, j).allocates
    assert not needs_lock(lambda i, j: (i * i + 1 < 3, ~i, i - j[0], i // 2, i + j, fg.argmax(i), i[j[0], j[1]]))
    assert needs_lock(lambda i, j: i @ i.T)


def test_warnings_and_errors_of_numpy_come_from_the_replay():
    f = fg.compile(lambda i, j: i // j)
    one, zero = np.array([1]), np.array([0])
    f(one, one)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert f(one, zero) == 0
    with pytest.warns(RuntimeWarning, match="overflow"):
        f(np.array([np.iinfo(np.int64).min]), -one)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        f(one, zero)
    same(f(one, one), one)
    g = fg.compile(lambda i, j: i**j)
    g(one, one)
    with pytest.raises(ValueError, match="negative integer powers"):
        g(one, -one)
    same(g(one + 1, one + 2), np.array([8]))


def test_integers_within_vmap_and_vmap_within_programs():
    table, labels = fg.tensor(X[0]), np.array([[0, 1], [3, 2], [-1, 0]])
    for f in (
        lambda i: i * 2 + 1, lambda i: table[i, i[::-1]], lambda i: np.sum(i), lambda i: i[0] > i[1], lambda i: i @ i,
        lambda i: fg.argmax(table[i], axis=1), lambda i: np.where(i > 1, i, -i), lambda i: i @ labels.T,
        lambda i: table[i[:, None], i], lambda i: i.any(), lambda i: fg.argmin(i, keepdims=True), lambda i: np.max(i),
    ):  # fmt: skip
        expected = np.stack([f(fg.tensor(i)).numpy() for i in labels])
        same(fg.vmap(f)(labels), expected)
        compiled = fg.compile(fg.vmap(f))
        compiled(labels[::-1].copy())
        same(compiled(labels), expected)


def test_nothing_is_left_behind():
    def use():
        f = fg.compile(lambda x, i, s: (x[i, i] * s, i + 1, fg.argmax(x)))
        for k in range(3):
            f(X, np.array([0, k]), 2.0)
        with pytest.raises(IndexError):
            f(X, np.array([0, 9]), 2.0)

    use()
    gc.collect()
    before = _core.live()
    for _ in range(5):
        use()
    gc.collect()
    after = _core.live()
    for what in ("arrays", "nodes", "bytes"):
        assert after[what] == before[what]
