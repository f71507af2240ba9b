"""``compile``: the replay of random graphs equals the eager run to the last bit."""

import math

import numpy as np
import pytest
from _replay import eagerly, random_graph, same, same_tree
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import _core

ROWS = fg._core.op_table()
UNARY = [row for row in ROWS if row["arity"] == 1]
BINARY = [row for row in ROWS if row["arity"] == 2]


def squashed(x, domain):
    lo, hi = domain
    return lo + (hi - lo) * fg.sigmoid(x)


def unary_op(k, x, *_):
    row = UNARY[k % len(UNARY)]
    return getattr(_core, row["name"])(squashed(x, row["domain"][0]) if k % 2 else x)


def binary_op(k, x, y, *_):
    row = BINARY[k % len(BINARY)]
    if k % 2:
        x, y = (squashed(v, domain) for v, domain in zip((x, y), row["domain"]))
    return getattr(_core, row["name"])(x, y)


def reduce_op(k, x, *_):
    function = (fg.sum, fg.mean, fg.max, fg.min, fg.prod, fg.var)[k % 6]
    axis = None if x.ndim == 0 or k % 5 == 0 else k % x.ndim
    if x.size == 0 or (function is fg.prod and x.size > 100):
        function = fg.sum
    return function(x, axis=axis, keepdims=bool(k & 8))


def shape_op(k, x, y, *_):
    n = x.shape[0] if x.ndim else 0
    return [
        lambda: x.T,
        lambda: fg.reshape(x, (-1,)) if x.size else x,
        lambda: fg.reshape(x, (*x.shape, 1)),
        lambda: x[None],
        lambda: x[..., ::-1] if x.ndim else x,
        lambda: x[n // 3 : n] if n else x,
        lambda: x[k % n] if n else x,
        lambda: fg.concatenate([fg.ravel(x), fg.ravel(y), fg.ravel(x)]),
        lambda: fg.stack([x, x * 0.5], axis=-1),
        lambda: fg.take(x, [0, n - 1, k % n], axis=0) if n else x,
        lambda: fg.where(x > 0, x, y),
        lambda: fg.where((x > 0) & ~(x > 1), 1.0, x),
        lambda: fg.clip(x, -1, 1),
        lambda: fg.broadcast_to(x, (2, *x.shape)),
        lambda: fg.moveaxis(x, 0, -1) if n else x,
        lambda: fg.astype(fg.astype(x, np.float64), np.float32),
        lambda: fg.astype(x > 0, x.dtype) * x,
        lambda: fg.cumsum(x, axis=k % x.ndim) if n else x,
        lambda: fg.cumsum(x[::-1] * 0.5)[::-1] if n else x,
        lambda: fg.diagonal(x, k % 5 - 2) if x.ndim > 1 else x,
        lambda: fg.triu(x, 1) if x.ndim > 1 else x,
        lambda: fg.roll(x, k) * x,
        lambda: fg.einsum("...i,...i->...", x, x) if n else x,
    ][k % 23]()


def row_op(k, x, *_):
    if x.ndim == 0 or x.size == 0:
        return x
    name = ("softmax", "log_softmax", "logsumexp", "norm")[k % 4]
    return getattr(fg, name)(x) if name == "norm" else getattr(fg, name)(x, axis=-1)


def matmul_op(k, x, y, *_):
    rows = fg.reshape(x, (1, -1)) if x.ndim < 2 and x.size else x
    if rows.ndim < 2:
        return x
    if rows.shape[-2] > 1 and min(rows.shape[-2:]) < 5 and max(rows.shape[-2:]) >= 32:
        return x  # the kernel of a thin product depends on its transposition, which a program absorbs
    columns = fg.swapaxes(rows, -1, -2)
    return fg.matmul(rows, columns) if rows.shape[-2] < 70 else fg.matmul(columns, rows)


def inplace_op(k, x, y, *_):
    z = x * 1.0
    if k % 3 == 0:
        z += 0.5
    elif k % 3 == 1:
        z *= 2.0
    else:
        z -= z
    return z


KINDS = [
    unary_op,
    unary_op,
    unary_op,
    binary_op,
    binary_op,
    binary_op,
    reduce_op,
    shape_op,
    shape_op,
    row_op,
    matmul_op,
    inplace_op,
]
SHAPES = [(), (0,), (1,), (5,), (3, 4), (1, 4), (3, 1), (2, 0), (2, 3, 4), (2048,), (2500,), (5000,), (50, 61), (3072,)]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), *[st.integers(0, 10_000)] * 3), min_size=1, max_size=14)


def does_not_fit(error):
    """Whether an operation refuses the shapes of its operands."""
    return isinstance(error, ValueError) and any(word in str(error) for word in ("broadcast", "stretch", "shape"))


def draw_inputs(shapes, dtype, rng):
    return [np.asarray(rng.uniform(-2, 2, s), dtype) for s in shapes]


@settings(max_examples=250, deadline=None, database=None, derandomize=True)
@given(
    steps=STEPS,
    shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_random_graphs_replay_to_the_last_bit(steps, shapes, dtype):
    f = random_graph(steps, does_not_fit, window=4, most=20_000)

    def last(*inputs):
        return list(f(*inputs)[-3:])

    def loss(*inputs):
        return sum((fg.sum(v * v) for v in f(*inputs)[-3:]), start=fg.sum(inputs[0]))

    numbers = tuple(range(len(shapes)))
    value, gradient = fg.compile(last), fg.compile(fg.value_and_grad(loss, numbers))
    rng = np.random.default_rng(len(steps))
    for _ in range(3):
        inputs = draw_inputs(shapes, dtype, rng)
        before = [x.copy() for x in inputs]
        with np.errstate(all="ignore"):
            same_tree(value(*inputs), [v.numpy() for v in eagerly(last, *inputs)])
            found, expected = gradient(*inputs), fg.value_and_grad(loss, numbers)(*inputs)
        assert float(found[0]) == expected[0] or (math.isnan(found[0]) and math.isnan(expected[0]))
        same_tree(found[1], expected[1])
        same_tree(inputs, before)
    assert value.cache_info()[:2] == gradient.cache_info()[:2] == (2, 1)


@pytest.mark.parametrize("n", [0, 1, 7, 1024, 2047, 2048, 2049, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_row_of_the_table_alone_and_in_a_fused_run(n, dtype):
    rng = np.random.default_rng(n)
    x, y = rng.uniform(-2, 2, (2, n)).astype(dtype)

    def every(x, y):
        results = [getattr(_core, row["name"])(squashed(x, row["domain"][0])) for row in UNARY]
        for row in BINARY:
            results.append(getattr(_core, row["name"])(*(squashed(v, d) for v, d in zip((x, y), row["domain"]))))
        return results

    with np.errstate(all="ignore"):
        f = fg.compile(every)
        same_tree(f(y, x), eagerly(every, y, x))
        same_tree(f(x, y), eagerly(every, x, y))
        g = fg.value_and_grad(lambda x, y: sum(fg.sum(v) for v in every(x, y)), (0, 1))
        compiled = fg.compile(g)
        compiled(y, x)
        same_tree(compiled(x, y)[1], g(x, y)[1])
    if n >= 2048:
        assert "fused" in str(f.program(x, y))
        assert "block" in str(f.program(x, y))


@pytest.mark.parametrize("n", [3, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constants_of_equal_elements_are_numbers(n, dtype):
    """A constant whose elements are equal is broadcast from a single one; a factor 1 or a term -0.0 is left out."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, n)).astype(dtype)
    column = np.full((4, 1), 2, dtype)
    wide = np.full((4, n), 3, dtype)
    cases = {
        "ones": (lambda x, y: x * np.ones(n, dtype) + y, 1),
        "twos": (lambda x, y: np.full(n, 2, dtype) * x - y / np.full(n, 3, dtype), 3),
        "slope": (lambda x, y: fg.hvp(lambda x: np.sum(x**3 * np.ones(n, dtype)), (x,), (y,)), None),
        "minus zero": (lambda x, y: (x * 0 + np.full(n, -0.0, dtype)) * y, None),
        "stretched": (lambda x, y: (x + column) * wide, None),
        "both stretched": (lambda x, y: x.reshape(1, n) * wide + column * wide, None),
        "nan": (lambda x, y: x * np.full(n, np.nan, dtype), 1),
        "not equal": (lambda x, y: x * np.where(np.arange(n) < n - 1, 1, 2).astype(dtype), 1),
    }  # fmt: skip
    for name, (f, instructions) in cases.items():
        compiled = fg.compile(f)
        same(compiled(x, y), eagerly(f, x, y))
        if instructions is not None:
            assert str(compiled.program(x, y)).count(" = ") == instructions, name
