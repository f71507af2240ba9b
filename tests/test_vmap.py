"""``vmap``: each batching rule against a stacked loop of the bare operation, and functions against a loop of them."""

import itertools
import threading
from typing import NamedTuple

import numpy as np
import pytest
from _operations import OPERATIONS, domain, floats, mixed
from _oracles import FLOATS, ROWS, property_test
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import _core
from fastgrad._rules.table import RULES

NAMES = _core.OP_NAMES
SIZE = 3


# ---- rules --------------------------------------------------------------------------------------------------
SHAPES = {1: [[(2, 3)], [()]], 2: [[(3, 4), (4,)], [(), (5,)], [(3, 1), (1, 4)], [(2, 3), (2, 3)]]}
CASES = {name: row.calls for name, row in OPERATIONS.items()}
for _row in ROWS.values():
    CASES[_row["name"]] = [(domain(_row, *shapes), ()) for shapes in SHAPES[_row["arity"]]]
TABLE = [(NAMES.index(name), make, attr) for name, cases in CASES.items() for make, attr in cases]
for _row in ROWS.values():
    for _i, _shapes in itertools.product(range(_row["arity"]), SHAPES[_row["arity"]]):
        _y = np.broadcast_shapes(*_shapes)
        _operands = mixed(domain(_row, *_shapes), floats(_y, _y))
        TABLE.append((len(NAMES) + 2 * _row["index"] + _i, _operands, ()))


def op_id(op):
    if op < len(NAMES):
        return NAMES[op]
    return f"{NAMES[(op - len(NAMES)) // 2]}_vjp{(op - len(NAMES)) % 2}"


def test_every_operation_has_a_rule_and_is_in_the_table_of_this_test():
    # Of loops and branches a mapped function does the steps themselves; custom is a node and no operation.
    operations = set(NAMES) - {"leaf", "custom", "scan", "while_loop", "cond", "part"}
    assert {name for name, rules in zip(NAMES, RULES) if rules.batching} == operations
    assert set(CASES) == operations - {"random"}  # which is tested by itself


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("number", range(len(TABLE)), ids=lambda k: f"{op_id(TABLE[k][0])}-{k}")
def test_each_rule_equals_a_loop(number, dtype):
    op, make, attr = TABLE[number]
    rng = np.random.default_rng(number)
    draws = [make(rng, dtype) for _ in range(SIZE)]
    for flags in itertools.product((True, False), repeat=len(draws[0])):
        for size in (SIZE, 1, 0) if any(flags) else ():
            elements = [[draw[k] if b else draws[0][k] for k, b in enumerate(flags)] for draw in draws[: size or 1]]
            singles = [_core.apply_op(op, [fg.tensor(x) for x in xs], attr).numpy() for xs in elements]
            stacked = [fg.tensor(np.stack(xs)[:size] if b else xs[0]) for xs, b in zip(zip(*elements), flags)]
            got = RULES[op].batching(op, stacked, list(flags), attr, size).numpy()
            expected = np.stack(singles)[:size]
            assert got.dtype == expected.dtype and got.shape == expected.shape, (flags, size)
            tolerance = 10 * np.finfo(dtype).eps if NAMES[op % len(NAMES)] == "matmul" else 0
            np.testing.assert_allclose(got, expected, tolerance, tolerance, err_msg=f"batched: {flags}, size {size}")


def test_a_kernel_without_a_rule_refuses_to_lose_a_gradient():
    x = fg.tensor([[1.0, 2.0]], requires_grad=True)
    with pytest.raises(NotImplementedError, match="gradient of a gradient"):
        _core.apply_op(NAMES.index("softmax_adjoint"), [x, x])


# ---- whole functions -------------------------------------------------------------------------------------------
def looped(f, args, in_axes, size):
    """f of each element in turn, stacked: what vmap must give."""
    results = []
    for i in range(size):
        call = [a if axis is None else np.take(a, i, axis) for a, axis in zip(args, in_axes)]
        results.append(fg.tree.map(np.asarray, f(*[fg.tensor(a) if isinstance(a, np.ndarray) else a for a in call])))
    return fg.tree.map(lambda *xs: np.stack(xs), *results)


def check(f, *args, in_axes=None, rtol=1e-12):
    """vmap(f) as it is and compiled, against the loop."""
    axes = (0,) * len(args) if in_axes is None else in_axes
    size = next(a.shape[axis] for a, axis in zip(args, axes) if axis is not None)
    expected = looped(f, args, axes, size)
    for mapped in (fg.vmap(f, axes), fg.compile(fg.vmap(f, axes), verify=True)):
        got = mapped(*args)
        assert fg.tree.structure(got) == fg.tree.structure(expected)
        for a, b in zip(fg.tree.leaves(got), fg.tree.leaves(expected)):
            assert isinstance(a, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol, 1e-12)


RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 4))
LABELS = RNG.integers(0, 4, 5)


FUNCTIONS = {
    "matvec": lambda x: x @ W,
    "vecmat": lambda x: W.T @ x,
    "dot": lambda x: x @ x,
    "outer": lambda x: x[:, None] * x[None, ::-1],
    "mean and var": lambda x: (np.mean(x), np.var(x, ddof=1), fg.std(x, keepdims=True)),
    "prod": fg.prod,
    "max": lambda x: np.max(x) - x.min(keepdims=True),
    "softmax": lambda x: fg.softmax(x) + fg.log_softmax(x @ W, axis=0)[:3],
    "logsumexp": lambda x: fg.logsumexp(np.outer(W[0], W[1])[:3, :3] * x, axis=0),
    "concatenate": lambda x: np.concatenate([x, W[0], x[1:] ** 2]),
    "stack": lambda x: np.stack([x, W[:, 0], 2 * x], axis=1),
    "where": lambda x: np.where(x > 0, x, W[:, 0]) + fg.where(x[0] < x[1], 1.0, x),
    "logic": lambda x: (x > 0) & (x < 1) | ~(x != x[0]),
    "mask to float": lambda x: (x > 0).astype(np.float64).sum(),
    "clip": lambda x: np.clip(x, -0.5, 0.5),
    "take": lambda x: np.take(x, [0, 2, 2, -1]),
    "cast": lambda x: x.astype(np.float32),
    "in place": lambda x: double_in_place(x),
    "structure": lambda x: {"a": x, "b": [x.sum(), (x * 2, None)]},
    "constant results": lambda x: (x, fg.ones(2), np.arange(3), 2.5),
    "transpose": lambda x: fg.reshape(x, (1, 3)).T @ W[:1],
    "norm": lambda x: x / np.linalg.norm(x),
}


def double_in_place(x):
    y = x * 1.0
    y += y
    y -= x / 2
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_equal_a_loop(name):
    check(FUNCTIONS[name], X)
    check(FUNCTIONS[name], X.T.copy(), in_axes=(-1,))


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"logic", "constant results", "mask to float"}))
def test_gradients_of_functions_equal_a_loop(name):
    def total(x):
        leaves = [leaf for leaf in fg.tree.leaves(FUNCTIONS[name](x)) if isinstance(leaf, fg.Tensor)]
        return sum(fg.sum(fg.sin(leaf)) for leaf in leaves)

    check(fg.grad(total), X, rtol=1e-6 if name == "cast" else 1e-12)
    expected = fg.grad(lambda x: sum(total(x[i]) for i in range(5)))(X)
    got = fg.grad(lambda x: fg.sum(fg.vmap(total)(x)))(X)
    np.testing.assert_allclose(got, expected, 1e-6 if name == "cast" else 1e-12)
    compiled = fg.compile(fg.grad(lambda x: fg.sum(fg.vmap(total)(x))))
    for _ in range(2):
        np.testing.assert_allclose(compiled(X), expected, 1e-6 if name == "cast" else 1e-12)


@pytest.mark.parametrize("in_axes", [(0, 0), (0, None), (None, 0), (1, 0), (-1, None), (None, -2)])
@pytest.mark.parametrize(
    "shapes", [((3,), (3,)), ((2, 3), (3, 4)), ((2, 3), (3,)), ((3,), (3, 2)), ((4, 2, 3), (3, 2))]
)
def test_products_in_all_combinations(shapes, in_axes):
    rng = np.random.default_rng(1)
    args = []
    for shape, axis in zip(shapes, in_axes):
        whole = rng.normal(size=shape if axis is None else (5, *shape))
        ndim = whole.ndim
        args.append(whole if axis is None else np.moveaxis(whole, 0, max(axis, -ndim) % ndim).copy())
    if any(axis is not None and not -a.ndim <= axis < a.ndim for a, axis in zip(args, in_axes)):
        return
    check(lambda a, b: a @ b, *args, in_axes=in_axes)
    check(fg.grad(lambda a, b: fg.sum(fg.tanh(a @ b)), (0, 1)), *args, in_axes=in_axes)


def test_a_batch_times_one_matrix_is_one_product():
    program = fg.compile(fg.vmap(lambda x: x @ W)).program(X)
    assert str(program).count("matmul") == 1 and program.facts["instructions"] == 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_per_sample_gradients(dtype):
    rng = np.random.default_rng(2)
    params = {
        "a": [rng.normal(size=(3, 6)).astype(dtype), np.zeros(6, dtype)], "b": [rng.normal(size=(6, 4)).astype(dtype)]
    }  # fmt: skip

    def loss(params, x, label):
        w, b = params["a"]
        return fg.losses.softmax_cross_entropy(fg.tanh(x @ w + b) @ params["b"][0], label)

    mapped = fg.vmap(fg.value_and_grad(loss), (None, 0, 0))
    for f in (mapped, fg.compile(mapped)):
        values, gradients = f(params, X.astype(dtype), LABELS)
        for i in range(5):
            value, gradient = fg.value_and_grad(loss)(params, X[i].astype(dtype), LABELS[i])
            tolerance = 1e-5 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(values[i], value, tolerance)
            for g, e in zip(fg.tree.leaves(gradients), fg.tree.leaves(gradient)):
                assert g.dtype == dtype and g.flags.writeable
                np.testing.assert_allclose(g[i], e, tolerance, tolerance)


STEPS = [
    lambda x, w, i: fg.tanh(x) * w,
    lambda x, w, i: x @ fg.reshape(w * w[:, None], (3, 3)),
    lambda x, w, i: np.where(x > w, x, fg.square(w)),
    lambda x, w, i: fg.softmax(x) + x[i],
    lambda x, w, i: x / (1 + fg.sum(x * w) ** 2),
    lambda x, w, i: np.maximum(x, w) - fg.max(x),
    lambda x, w, i: fg.concatenate([x[1:], fg.reshape(w[i], 1)]),
    lambda x, w, i: fg.logsumexp(x) * x[::-1],
    lambda x, w, i: fg.vmap(lambda a: a * x[i])(w),
    lambda x, w, i: fg.stop_gradient(x) * w + x,
    lambda x, w, i: fg.broadcast_to(x, (2, 3)).sum(0) * fg.sigmoid(w),
    lambda x, w, i: np.cos(x) + fg.mean(w),
]
AXES = [(0, 0, 0), (0, None, 0), (None, 0, 0), (1, -1, 0), (0, 1, None), (None, None, 0)]


@property_test
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6), st.sampled_from(AXES), st.integers(0, 1000))
def test_random_functions_equal_a_loop(steps, in_axes, seed):
    rng = np.random.default_rng(seed)

    def f(x, w, i):
        for step in steps:
            x = step(x, w, i)
        return x

    shapes = {None: (3,), 0: (4, 3), 1: (3, 4), -1: (3, 4)}
    args = [rng.normal(size=shapes[axis]) for axis in in_axes[:2]]
    args.append(1 if in_axes[2] is None else rng.integers(0, 3, 4))
    static = 2 if in_axes[2] is None else ()
    for g in (f, fg.grad(lambda *a: fg.sum(f(*a)), (0, 1))):
        expected = looped(g, args, in_axes, 4)
        for mapped in (fg.vmap(g, in_axes), fg.compile(fg.vmap(g, in_axes), static_argnums=static)):
            for a, b in zip(fg.tree.leaves(mapped(*args)), fg.tree.leaves(expected)):
                np.testing.assert_allclose(a, b, 1e-9, 1e-9)


# ---- other transforms around and within ------------------------------------------------------------------------------
def test_gradients_reach_what_the_function_reads_from_outside():
    def total(w, x):
        return fg.sum(fg.vmap(lambda row: fg.tanh(row @ w) * w[0])(x))

    expected = fg.grad(lambda w, x: fg.sum(fg.tanh(x @ w) * w[0]), (0, 1))(W, X)
    for f in (fg.grad(total, (0, 1)), fg.compile(fg.grad(total, (0, 1)))):
        for got, wanted in zip(f(W, X), expected):
            np.testing.assert_allclose(got, wanted, 1e-12)


HIGHER = {
    "tanh": lambda x, w: fg.sum(fg.tanh(x @ w)),
    "cross entropy": lambda x, w: fg.losses.softmax_cross_entropy(x @ w, 1),
    "softmax": lambda x, w: fg.sum(fg.softmax(x @ w) ** 2),
    "max": lambda x, w: fg.max(x @ w) ** 3,
    "logsumexp": lambda x, w: fg.logsumexp(x @ w) * fg.sum(fg.log_softmax(x) * x),
    "powers": lambda x, w: fg.sum((x @ w) ** 3 / (1 + x[0] ** 2)),
    "stopped": lambda x, w: fg.sum(fg.stop_gradient(fg.sin(x)) * x**2) * w[0, 0] ** 2,
    "take": lambda x, w: fg.sum(fg.take(w, [0, 2], axis=0) ** 3 * x[:2, None] ** 2),
}  # fmt: skip


@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize("name", HIGHER)
def test_gradients_of_gradients(name, argument):
    def slope(x, w):
        return fg.sum(fg.sin(fg.grad(HIGHER[name], argument)(x, w)))

    def total(x, w):
        return fg.sum(fg.vmap(slope, (0, None))(x, w))

    expected = fg.grad(lambda x, w: sum(slope(x[i], w) for i in range(5)), (0, 1))(X, W)
    for f in (fg.grad(total, (0, 1)), fg.compile(fg.grad(total, (0, 1)))):
        for got, wanted in zip(f(X, W), expected):
            np.testing.assert_allclose(got, wanted, 1e-9, 1e-9)
    closure = fg.grad(lambda w: fg.sum(fg.vmap(lambda x: slope(x, w))(X)))(W)
    np.testing.assert_allclose(closure, expected[1], 1e-9, 1e-9)
    w = fg.tensor(W, requires_grad=True)
    fg.sum(fg.vmap(lambda x: slope(x, w))(X)).backward()
    np.testing.assert_allclose(w.grad.numpy(), expected[1], 1e-9, 1e-9)
    second = fg.vmap(fg.grad(slope), (0, None))
    for f in (second, fg.compile(second)):
        np.testing.assert_allclose(f(X, W), np.stack([fg.grad(slope)(x, W) for x in X]), 1e-9, 1e-9)


def test_a_hessian_row_by_row_of_the_identity():
    def row(v):
        return fg.grad(lambda x: fg.sum(fg.grad(HIGHER["tanh"])(x, W) * v))(X[0])

    y = np.tanh(X[0] @ W)
    exact = (W * (-2 * y * (1 - y * y))) @ W.T
    for f in (fg.vmap(row), fg.compile(fg.vmap(row))):
        np.testing.assert_allclose(f(np.eye(3)), exact, 1e-9)


def test_imperative_style():
    w = fg.tensor(W, requires_grad=True)
    y = fg.vmap(lambda row: fg.tanh(row @ w))(X)
    assert isinstance(y, fg.Tensor) and y.requires_grad
    y.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), fg.grad(lambda w: fg.sum(fg.tanh(X @ w)))(W), 1e-12)
    assert isinstance(fg.vmap(lambda row: row @ w.detach())(X), np.ndarray)
    with fg.no_grad():
        assert isinstance(fg.vmap(lambda row: row @ w)(X), np.ndarray)


@pytest.mark.parametrize(
    "f, slope",
    [
        (lambda x: x * fg.stop_gradient(x), lambda x: x),
        (lambda x: fg.stop_gradient(x * x) * x, lambda x: x * x),
        (lambda x: x * x + fg.stop_gradient(x * x), lambda x: 2 * x),
        (lambda x: fg.no_grad()(lambda z: z * z)(x) * x, lambda x: x * x),
    ],
)
def test_what_is_stopped_in_the_function_is_stopped_outside(f, slope):
    np.testing.assert_allclose(fg.grad(lambda x: fg.sum(fg.vmap(f)(x)))(X), slope(X), 1e-12)
    np.testing.assert_allclose(fg.vmap(fg.grad(lambda x: fg.sum(f(x))))(X), slope(X), 1e-12)


def test_stopped_results_and_constants_carry_no_gradient():
    w = fg.tensor(W[0], requires_grad=True)
    y, c, d = fg.vmap(lambda x: (fg.stop_gradient(x[0] * w), w, fg.stop_gradient(w)))(X)
    assert not y.requires_grad and c.requires_grad and not d.requires_grad
    assert c.shape == d.shape == (5, 4)
    c.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), np.full(4, 5.0))


def test_the_same_constant_stopped_and_not():
    w = fg.tensor(W[0], requires_grad=True)
    fg.vmap(lambda x: x[0] * w * fg.stop_gradient(w))(X).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), X[:, 0].sum() * W[0], 1e-12)


def test_a_gradient_inside_by_a_constant():
    """The inner grad's leaf has the constant's memory: the two must not be taken for each other."""
    check(lambda x: fg.grad(lambda w: fg.sum(fg.sin(w * x)))(fg.tensor(W[:, 0])), X)


def test_nested():
    check(lambda x: fg.vmap(lambda c: c * x)(x), X)
    check(lambda x: fg.vmap(fg.vmap(lambda a, b: a * b, (0, None)), (None, 0))(x, x), X)
    check(fg.vmap(fg.grad(lambda x: fg.sum(fg.tanh(x) * x))), RNG.normal(size=(2, 4, 3)))
    check(fg.vmap(lambda x: x @ W, in_axes=1, out_axes=1), RNG.normal(size=(2, 3, 4)))
    outer = fg.vmap(lambda a: fg.vmap(lambda b: a @ b)(X))(X)
    np.testing.assert_allclose(outer, X @ X.T, 1e-12)


def test_an_operation_on_an_outer_value_alone_belongs_to_the_outer_trace():
    def f(w, x):
        return fg.vmap(lambda row: row @ fg.square(w))(x)

    program = fg.compile(f).program(W, X)
    assert str(program).count("square") == 1 and str(program).count("matmul") == 1
    np.testing.assert_allclose(fg.compile(f)(W, X), X @ W**2, 1e-12)


# ---- axes and structures ---------------------------------------------------------------------------------------------
class Pair(NamedTuple):
    left: object
    right: object


def test_axes_of_structures():
    tree = {"a": X, "b": [X.T, W]}
    got = fg.vmap(lambda t, y: t["a"] + t["b"][0] + fg.sum(t["b"][1]) + y, ({"a": 0, "b": [-1, None]}, None))(tree, 1.0)
    np.testing.assert_allclose(got, 2 * X + W.sum() + 1, 1e-12)
    got = fg.vmap(lambda p: Pair(p.left * 2, {"k": p.right}), (Pair(0, None),), Pair(1, {"k": None}))(Pair(X, W))
    np.testing.assert_array_equal(got.left, 2 * X.T)
    np.testing.assert_array_equal(got.right["k"], W)
    both = fg.vmap(lambda x: [x, (x.sum(), 1.0)], out_axes=[-1, (0, None)])(X)
    np.testing.assert_array_equal(both[0], X.T)
    assert both[1][0].shape == (5,) and both[1][1] == 1.0
    assert fg.vmap(lambda x, scale=None: x * scale, 0)(X, scale=X).shape == (5, 3)
    assert fg.vmap(lambda x, n: x[:n], [0, None])(X, 2).shape == (5, 2)
    assert fg.vmap(lambda x, g: g(x), (0, None))(X, np.tanh).shape == (5, 3)
    assert fg.vmap(lambda x: {}, 0)(X) == {}


def test_out_axes():
    for axis, shape in [(0, (5, 3, 2)), (1, (3, 5, 2)), (2, (3, 2, 5)), (-1, (3, 2, 5)), (-3, (5, 3, 2))]:
        assert fg.vmap(lambda x: x[:, None] * np.ones(2), out_axes=axis)(X).shape == shape


@pytest.mark.parametrize("size", [0, 1])
def test_short_batches(size):
    x, labels = X[:size], LABELS[:size]
    assert fg.vmap(lambda x: x @ W)(x).shape == (size, 4)
    loss = lambda w, x, k: fg.losses.softmax_cross_entropy(fg.tanh(x @ w), k)
    for f in (fg.vmap(fg.grad(loss), (None, 0, 0)), fg.compile(fg.vmap(fg.grad(loss), (None, 0, 0)))):
        assert f(W, x, labels).shape == (size, 3, 4)
    gradient = fg.grad(lambda w: fg.sum(fg.vmap(lambda x: fg.tanh(x @ w))(x)))(W)
    np.testing.assert_allclose(gradient, fg.grad(lambda w: fg.sum(fg.tanh(x @ w)))(W), 1e-12)
    assert fg.grad(lambda x: fg.sum(fg.vmap(fg.tanh)(x)))(x).shape == x.shape


@pytest.mark.parametrize("dtype", FLOATS)
def test_random_numbers_differ_from_element_to_element(dtype):
    def f(x):
        return x * rng.random((2, 3), dtype)

    rng = fg.random.default_rng(0)
    eager = [fg.vmap(f)(np.ones((5, 1), dtype)) for _ in range(2)]
    again = fg.random.default_rng(0)
    for got in eager:
        np.testing.assert_array_equal(got, again.random((5, 2, 3), dtype).numpy())
    assert len(np.unique(eager)) == 60
    rng = fg.random.default_rng(0)
    compiled = fg.compile(fg.vmap(f))
    for expected in eager:
        np.testing.assert_array_equal(compiled(np.ones((5, 1), dtype)), expected)


def test_arguments_may_be_changed_in_place():
    x, w = X.copy(), W.copy()
    got = fg.vmap(lambda x, w: (x.__imul__(2), w.__iadd__(x[0]))[1], (0, None))(x, w)
    np.testing.assert_allclose(got, W + 2 * X[:, 0, None, None], 1e-12)
    assert (x == X).all() and (w == W).all()


def test_integers_and_booleans_are_data():
    check(lambda x, i: x[i], X, RNG.integers(-3, 3, 5))
    check(lambda x, i: fg.take(W, i, axis=1) + x[0], X, RNG.integers(0, 4, (5, 2)))
    check(lambda x, c: np.where(c, x, -x), X, X > 0.5)
    check(lambda i: fg.tensor(W[:, 0])[i], RNG.integers(0, 3, 5))
    check(lambda x, k: fg.losses.softmax_cross_entropy(x @ W, k), X, LABELS)
    check(lambda x, k: fg.losses.softmax_cross_entropy(x @ W, k), X, LABELS.astype(np.uint8))
    check(lambda i: i, LABELS.astype(np.int32))


def test_compiled_functions_are_mapped_as_plain_ones():
    f = fg.compile(lambda x: fg.tanh(x @ W))
    f(X[0])
    np.testing.assert_allclose(fg.vmap(f)(X), np.tanh(X @ W), 1e-12)


def test_an_argument_may_change_once_the_function_has_returned():
    """Until a backward pass much later: what the tape needs of it has been copied by then."""
    x, v, w = np.tile(X, (100, 1)), np.ones((100, 3)), fg.tensor(W, requires_grad=True)
    y = fg.vmap(lambda x, v: fg.sum(x @ w) + fg.sum(v @ w), (0, None))(x, v)
    expected = x.sum(0)[:, None] + 500 * v.sum(0)[:, None] + np.zeros(4)
    x[:], v[:] = np.nan, np.nan
    y.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), expected, 1e-12)
    same = fg.vmap(lambda x: (x, fg.sum(w)))(x := np.tile(X, (100, 1)))[0]
    same += 1
    np.testing.assert_array_equal(x, np.tile(X, (100, 1)))


def test_results_are_arrays_of_their_own():
    same, again, first = fg.vmap(lambda x: (x, x, x * 2))(X)
    for y in (same, again, first):
        y += 1
    assert not np.shares_memory(same, X) and not np.shares_memory(same, again)
    y, z = fg.vmap(lambda x: (lambda y: (y, y))(x * 2))(X)
    assert not np.shares_memory(y, z)
    t = fg.tensor(W)
    kept = fg.vmap(lambda x: t, out_axes=None)(X)
    kept += 1
    np.testing.assert_array_equal(t.numpy(), W)


TRACKED = fg.tensor(W[:, 0], requires_grad=True)


# ---- errors ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: fg.vmap(3), TypeError, "expected a function, got 3"),
        (lambda: fg.vmap(lambda x, y: x)(X, W), ValueError,
         r"in length: args\[0\] has 5 \(axis 0 of shape \(5, 3\)\), args\[1\] has 3 \(axis 0 of shape \(3, 4\)\)"),
        (lambda: fg.vmap(lambda t: t)({"a": [X], "b": W}), ValueError,
         r"args\[0\]\['a'\]\[0\] has 5 .*args\[0\]\['b'\] has 3"),
        (lambda: fg.vmap(lambda *x: x)(X, W, X, X.T[:2]), ValueError, r"args\[0\] .*args\[1\] .*args\[3\] has 2"),
        (lambda: fg.vmap(lambda x, y=None: x)(X, y=W), ValueError, r"kwargs\['y'\] has 3"),
        (lambda: fg.vmap(lambda x, y=None: x)(X, y=2.0), TypeError,
         r"kwargs\['y'\] is 2.0, expected an array .* mapped along axis 0: pass it by position, with the axis None"),
        (lambda: fg.vmap(lambda x, y=None: x, (0, None))(X, y=2.0), ValueError,
         "1 positional argument; give each one an axis or None; those by keyword are mapped along axis 0"),
        (lambda: fg.vmap(lambda x: x, (0, 0))(X), ValueError, "in_axes has 2 entries, .* with 1 positional argument;"),
        (lambda: fg.vmap(lambda x: x, 2)(X), ValueError, r"args\[0\] the axis 2, but its shape is \(5, 3\)"),
        (lambda: fg.vmap(lambda x: x)(np.float64(3.0)), TypeError, r"args\[0\] is .*3.0.*expected an array to map"),
        (lambda: fg.vmap(lambda x: x)("abc"), TypeError, "args.0. is 'abc'"),
        (lambda: fg.vmap(lambda x: x)(fg.tensor(1.0)), ValueError, r"axis 0, but its shape is \(\)"),
        (lambda: fg.vmap(lambda x: x, None)(X), ValueError, "no argument is mapped"),
        (lambda: fg.vmap(lambda x: x)([]), ValueError, "no argument is mapped"),
        (lambda: fg.vmap(lambda x: x, "a")(X), TypeError, "expected in_axes of ints and None, got 'a'"),
        (lambda: fg.vmap(lambda x: x, 1.0)(X), TypeError, "expected in_axes of ints and None, got 1.0"),
        (lambda: fg.vmap(lambda t: t, ([0, 0],))([X]), ValueError, r"the entries \[0, 1\] for args\[0\], .* \[0\]"),
        (lambda: fg.vmap(lambda t: t, ({"a": 0},))([X]), ValueError, r"in_axes has a dict for args\[0\], .* type list"),
        (lambda: fg.vmap(lambda x: x, out_axes=None)(X), ValueError, "out_axes is None for result, which depends"),
        (lambda: fg.vmap(lambda x: {"k": x}, out_axes=2)(X), ValueError, r"result\['k'\] the axis 2, .*\(5, 3\)"),
        (lambda: fg.vmap(lambda x: x, out_axes=[0])(X), ValueError, "out_axes has a list for result, .* Tensor"),
        (lambda: fg.vmap(lambda x: "text")(X), TypeError, "text"),
        (lambda: fg.vmap(lambda x: x)(np.ones(3, complex)), TypeError, "complex"),
        (lambda: fg.vmap(lambda x: {"a": x, "b": ["no"]})(X), TypeError,
         r"vmap: result\['b'\]\[0\] is 'no', expected an array"),
        (lambda: fg.vmap(lambda x: x if x[0] > 0 else -x)(X), fg.TraceError, "vmap: .*test_vmap.py, line .*where"),
        (lambda: fg.vmap(lambda x: x[x > 0])(X), fg.TraceError, "vmap: .*boolean index"),
        (lambda: fg.vmap(lambda x: float(x[0]))(X), fg.TraceError, "vmap: .*float"),
        (lambda: fg.vmap(lambda x: x[: np.argmax(x)])(X), fg.TraceError, "vmap: .*bounds of a slice"),
        (lambda: fg.vmap(TRACKED.detach().__iadd__)(X), fg.TraceError, "vmap: add .* made before"),
        (lambda: fg.vmap(lambda x: (x * TRACKED).sum().backward())(X), RuntimeError, "backward: .* one element of"),
        (lambda: fg.vmap(lambda x: x @ fg.ones(7))(X), ValueError, "matmul: shapes"),
        (lambda: fg.vmap(lambda x, i: x[i])(X, LABELS + 3), IndexError, "outside an axis of length 3"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
    assert not _core.tracing()


def test_an_index_out_of_range_behind_the_first_element():
    with pytest.raises(IndexError, match="index 3"):
        fg.vmap(lambda x, i: x[i])(X, np.array([0, 1, 2, 3, 0]))


def test_a_mapped_tensor_in_another_thread():
    failures = []

    def other(x):
        try:
            x * 2
        except RuntimeError as error:
            failures.append(str(error))

    def f(x):
        thread = threading.Thread(target=other, args=(x,))
        thread.start()
        thread.join()
        return x

    fg.vmap(f)(X)
    assert len(failures) == 1 and "another thread" in failures[0]


def test_threads_map_at_the_same_time():
    results, w = {}, fg.tensor(W)

    def work(k):
        for _ in range(20):
            results[k] = fg.vmap(lambda x: fg.vmap(lambda c: c @ w)(fg.stack([x, x * k])))(X)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        np.testing.assert_allclose(results[k], np.stack([X @ W, k * X @ W], axis=1), 1e-12)


def test_the_number_of_operations_does_not_depend_on_the_batch():
    f = fg.compile(fg.vmap(fg.grad(lambda x: fg.sum(fg.softmax(x @ W) ** 2))))
    counts = {f.program(np.zeros((n, 3))).facts["traced"] for n in (1, 10, 1000)}
    assert len(counts) == 1
