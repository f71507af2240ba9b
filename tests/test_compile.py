"""``compile``: the replay equals the eager run to the last bit, on whatever inputs, and nothing is frozen silently."""

import gc
import math
import threading
import warnings
import weakref
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import _core
from fastgrad._compile import Compiled

ROWS = fg._core.op_table()
UNARY = [row for row in ROWS if row["arity"] == 1]
BINARY = [row for row in ROWS if row["arity"] == 2]
RNG = np.random.default_rng(0)


def same(a, b):
    """Equal to the last bit, nan as nan, in dtype and shape."""
    a, b = (np.asarray(x.numpy() if isinstance(x, fg.Tensor) else x) for x in (a, b))
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    np.testing.assert_array_equal(a, b)
    if a.dtype.kind == "f":
        number = ~np.isnan(a)
        np.testing.assert_array_equal(np.signbit(a[number]), np.signbit(b[number]))


def same_tree(a, b):
    (found, structure), (expected, other) = fg.tree.flatten(a), fg.tree.flatten(b)
    assert structure == other
    for x, y in zip(found, expected):
        same(x, y)


def eagerly(f, *args):
    """f on tensors of copies."""
    return f(*fg.tree.map(lambda x: fg.tensor(x), args))


# ---- random graphs ------------------------------------------------------------------------------------------------
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
    ][k % 17]()


def row_op(k, x, *_):
    if x.ndim == 0 or x.size == 0:
        return x
    name = ("softmax", "log_softmax", "logsumexp", "norm")[k % 4]
    return getattr(fg, name)(x) if name == "norm" else getattr(fg, name)(x, axis=-1)


def matmul_op(k, x, y, *_):
    rows = fg.reshape(x, (1, -1)) if x.ndim < 2 and x.size else x
    if rows.ndim < 2:
        return x
    return fg.matmul(rows, fg.swapaxes(rows, -1, -2)) if rows.shape[-2] < 70 else fg.matmul(fg.swapaxes(rows, -1, -2), rows)


def inplace_op(k, x, y, *_):
    z = x * 1.0
    if k % 3 == 0:
        z += 0.5
    elif k % 3 == 1:
        z *= 2.0
    else:
        z -= z
    return z


KINDS = [unary_op, unary_op, unary_op, binary_op, binary_op, binary_op, reduce_op, shape_op, shape_op, row_op, matmul_op, inplace_op]
SHAPES = [(), (0,), (1,), (5,), (3, 4), (1, 4), (3, 1), (2, 0), (2, 3, 4), (2048,), (2500,), (5000,), (50, 61), (3072,)]
STEPS = st.lists(st.tuples(st.integers(0, len(KINDS) - 1), *[st.integers(0, 10_000)] * 3), min_size=1, max_size=14)


def graph(steps):
    """A function of arrays that does these steps, each on earlier values; steps whose shapes do not fit are left out."""

    def f(*inputs):
        values = list(inputs)
        for kind, k, i, j in steps:
            x, y = values[-1 - i % min(4, len(values))], values[j % len(values)]
            try:
                made = KINDS[kind](k, x, y)
            except ValueError as error:
                assert "broadcast" in str(error) or "stretch" in str(error) or "shape" in str(error)
                continue
            if made.size <= 20_000:
                values.append(made)
        return values

    return f


def draw_inputs(shapes, dtype, rng):
    return [np.asarray(rng.uniform(-2, 2, s), dtype) for s in shapes]


@settings(max_examples=400, deadline=None, database=None, derandomize=True)
@given(steps=STEPS, shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3), dtype=st.sampled_from([np.float32, np.float64]))
def test_random_graphs_replay_to_the_last_bit(steps, shapes, dtype):
    f = graph(steps)

    def last(*inputs):
        return [v for v in f(*inputs)[-3:]]

    def loss(*inputs):
        return sum((fg.sum(v * v) for v in f(*inputs)[-3:]), start=fg.sum(inputs[0]))

    numbers = tuple(range(len(shapes)))
    value, gradient = fg.compile(last), fg.compile(fg.value_and_grad(loss, numbers))
    rng = np.random.default_rng(len(steps))
    for call in range(3):
        inputs = draw_inputs(shapes, dtype, rng)
        before = [x.copy() for x in inputs]
        with np.errstate(all="ignore"):
            same_tree(value(*inputs), [v.numpy() for v in eagerly(last, *inputs)])
            found, expected = gradient(*inputs), fg.value_and_grad(loss, numbers)(*inputs)
        assert float(found[0]) == expected[0] or math.isnan(found[0]) and math.isnan(expected[0])
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


# ---- memory ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 3, 3000])
def test_results_share_memory_with_nothing(n):
    constant, tensor = np.full(n, 2.0), fg.full(n, 3.0)

    def f(x, y):
        z = x + y
        return x, x, y, z, fg.reshape(z, (n, 1)), fg.reshape(x, (1, n)), z, constant, tensor, fg.reshape(tensor, (1, n)), z * 2

    compiled = fg.compile(f)
    x, y = RNG.standard_normal((2, n))
    first, second = compiled(x, y), compiled(x, y)
    third = compiled(x, x)
    everything = [*first, *second, *third, x, y, constant, tensor.numpy()]
    for i, a in enumerate(everything):
        for b in everything[:i]:
            assert not np.shares_memory(a, b)
    kept = [a.copy() for a in second]
    for a in [*first, *third]:
        assert a.flags.writeable and a.flags.c_contiguous
        a[...] = np.nan
    same_tree(list(second), kept)
    same_tree(list(compiled(x, y)), kept)
    same_tree(list(second), list(eagerly(f, x, y)[:7]) + [constant, *eagerly(f, x, y)[8:]])


def test_results_outlive_the_program_and_the_inputs():
    def make():
        f = fg.compile(lambda x: (x * 2, x[1:]))
        return f(np.arange(5000.0))

    a, b = make()
    gc.collect()
    np.testing.assert_array_equal(a, 2 * np.arange(5000.0))
    np.testing.assert_array_equal(b, np.arange(1, 5000.0))


def test_inputs_are_never_written():
    def f(x, k):
        x += 1
        x *= x
        y = x
        y -= 3
        k += 1
        return x, k

    x, k = np.arange(3.0), np.arange(2.0, dtype=np.float32)
    x.flags.writeable = False
    compiled = fg.compile(f)
    for _ in range(3):
        same_tree(compiled(x, k), (np.array([-2.0, 1.0, 6.0]), np.array([1, 2], np.float32)))
    same_tree((x, k), (np.arange(3.0), np.arange(2.0, dtype=np.float32)))


@pytest.mark.parametrize("n", [3, 5000])
def test_a_constant_has_the_elements_of_the_recording(n):
    constant, scratch = np.ones(n), np.ones(n)

    def f(x):
        a = x * scratch
        scratch[:] += 1
        b = x * scratch
        inner = fg.grad(lambda w: fg.sum(w * w * x))(constant)
        scratch[:] = 1
        return a, b, x + constant, x @ fg.asarray(constant), inner

    compiled = fg.compile(f)
    x = np.arange(float(n))
    expected = (x, 2 * x, x + 1, x.sum(), 2 * x)
    same_tree(compiled(x), expected)
    constant[:] = 7
    same_tree(compiled(x), expected)


def test_programs_and_what_they_hold_are_freed():
    before = _core.live()
    big = np.ones(100_000)
    f = fg.compile(lambda x: x + big)
    f(np.zeros(100_000))
    f(np.float32(1))
    program = f.program(np.zeros(100_000))
    gone = weakref.ref(f)
    del f, program
    gc.collect()
    assert gone() is None
    assert {k: _core.live()[k] for k in ("arrays", "nodes", "bytes")} == {k: before[k] for k in ("arrays", "nodes", "bytes")}


def test_a_constant_that_nothing_needs_is_not_kept():
    big = np.ones(100_000)

    def f(x):
        fg.sum(x * big)
        return x + 1

    compiled = fg.compile(f)
    before = _core.live()["bytes"]
    compiled(1.0)
    assert _core.live()["bytes"] - before < 10_000


# ---- arguments and results --------------------------------------------------------------------------------------------
Point = namedtuple("Point", "x y")


def test_structures_of_arguments_and_results():
    def f(a, b):
        return {"sum": a["u"] + a["v"][0], "none": None, "empty": ({}, [], ()), "point": Point(b.x, [b.y * 2]), "text": "t", "n": 3}

    compiled = fg.compile(f)
    u, v, x, y = (np.array([float(i)]) for i in range(4))
    for _ in range(3):
        found = compiled({"u": u, "v": [v]}, Point(x, y))
        assert found == {"sum": 1.0, "none": None, "empty": ({}, [], ()), "point": Point(2.0, [6.0]), "text": "t", "n": 3}
    assert compiled({"v": [u], "u": v}, Point(y, x))["sum"] == 1  # keys in another order: the same program
    assert compiled.cache_info() == (3, 1, 64, 1)
    with pytest.raises(AttributeError):
        compiled({"u": u, "v": [v]}, (x, y))  # a tuple is another structure


def test_dicts_match_by_key():
    f = fg.compile(lambda p: p["a"] - 2 * p["b"])
    a, b = np.array([5.0]), np.array([1.0])
    for p in ({"a": a, "b": b}, {"b": b, "a": a}, {"a": b, "b": a}, {"b": b, "a": a}):
        same(f(p), p["a"] - 2 * p["b"])
    assert f.cache_info().misses == 1
    with pytest.raises(KeyError):
        f({"a": a, "c": b})
    same(f({"a": a, "b": b, "c": a}), a - 2 * b)
    f = fg.compile(lambda p: p[1] - 2 * p["b"])
    for p in ({1: a, "b": b}, {"b": b, 1: a}):
        same(f(p), a - 2 * b)
    f = fg.compile(lambda p: p["a"] - 2 * p["b"])
    for p in (OrderedDict(a=a, b=b), OrderedDict(b=b, a=a)):
        same(f(p), a - 2 * b)


def test_results_without_tensors_and_arguments_without_leaves():
    assert fg.compile(lambda: None)() is None
    assert fg.compile(lambda x: ())(1.0) == ()
    assert fg.compile(lambda x: [x["n"], {}])({"n": None}) == [None, {}]
    assert fg.compile(lambda: 3)() == 3
    f = fg.compile(lambda: fg.ones(2) + 1)
    same(f(), np.full(2, 2.0))
    same(f(), np.full(2, 2.0))
    same(fg.compile(lambda x: x)(np.arange(3, dtype=np.int16)), np.arange(3, dtype=np.int16))


@pytest.mark.parametrize("number", [2.5, 3, True, np.float32(1.5), np.float64(2), np.int8(3), np.bool_(True), np.array(2.0), np.array(3)])
def test_numbers_as_arguments(number):
    f = fg.compile(lambda x, a: (x * a, a, x + 1.0))
    x = np.arange(3.0)
    for k in (1, 2):
        result = f(k * x, number)
        same(result[0], k * x * number)
        same(result[1], number)
        assert isinstance(result[1], np.generic)
    other = type(number)(0) if np.ndim(number) == 0 and not isinstance(number, np.ndarray) else number * 0
    same(f(x, other)[0], x * other)
    assert f.cache_info().misses == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_, np.uint8])
def test_layouts_of_arguments(dtype):
    f = fg.compile(lambda x: (x, x.T, fg.astype(x, np.float64) + 0.5))
    base = RNG.integers(0, 2, (4, 6)).astype(dtype)
    unaligned = np.frombuffer(b"." + base.tobytes(), dtype, offset=1).reshape(base.shape)
    for x in (base, np.asfortranarray(base), base[::-1], base[:, ::2].repeat(2, 1), base.T.copy().T, unaligned,
              base.astype(base.dtype.newbyteorder(">")), base.view(np.matrix), np.broadcast_to(base[:1], (4, 6)), fg.tensor(base)):
        plain = np.asarray(x).astype(dtype)
        before = plain.copy()
        found = f(x)
        same_tree(found, (plain, plain.T, plain.astype(float) + 0.5))
        same(np.asarray(x).astype(dtype), before)
    assert f.cache_info().misses == 1


def test_the_same_array_twice_and_overlapping_views():
    f = fg.compile(lambda a, b: (a - b, a * b))
    x = np.arange(4.0)
    same_tree(f(x, x), (x - x, x * x))
    same_tree(f(x, x + 1), (x - (x + 1), x * (x + 1)))
    y = np.arange(5.0)
    same_tree(f(y[1:], y[:-1]), (np.ones(4), y[1:] * y[:-1]))


def test_new_shapes_dtypes_and_structures_record_anew():
    f = fg.compile(lambda x: fg.sum(x["a"] * 2))
    calls = [np.ones(2), np.ones(3), np.ones((3, 1)), np.ones(2, np.float32), np.float64(1), np.ones(0)]
    for _ in range(2):
        for x in calls:
            same(f({"a": x}), np.sum(x * 2))
    assert f.cache_info() == (6, 6, 64, 6)


def test_what_is_no_array_is_refused_by_place():
    f = fg.compile(lambda x: x)
    for bad, text in [
        ({"a": ["text"]}, r"args\[0\]\['a'\]\[0\] is of type str"),
        ([np.ones(2, complex)], r"args\[0\]\[0\] has dtype complex128"),
        (np.ones(2, np.float16), r"args\[0\] has dtype float16"),
        (np.ones(2, np.longdouble), r"args\[0\] has dtype"),
        (np.array([None]), "has dtype object"),
        (np.array(["a"]), "has dtype <U1"),
        (np.zeros(2, "M8[s]"), "has dtype datetime64"),
        (np.ma.array([1.0], mask=[True]), "of type MaskedArray"),
        ({1, 2}, "of type set"),
    ]:
        with pytest.raises(TypeError, match=text):
            f(bad)
    with pytest.raises(TypeError, match="expected a function, got int"):
        fg.compile(3)
    with pytest.raises(ValueError, match="maxsize of at least 1"):
        fg.compile(abs, maxsize=0)
    with pytest.raises(TypeError):
        f(x=1.0)


# ---- static arguments and the cache -------------------------------------------------------------------------------------
def test_static_arguments():
    def f(x, n, how="sum"):
        for _ in range(n):
            x = x * 2
        return getattr(fg, how)(x)

    compiled = fg.compile(f, static_argnums=(1, 2))
    x = np.ones(3)
    assert [compiled(x, n, how) for n, how in [(0, "sum"), (2, "sum"), (2, "max"), (0, "sum")]] == [3, 12, 4, 3]
    assert compiled.cache_info() == (1, 3, 64, 3)
    last = fg.compile(lambda *a: a[0] * a[-1], static_argnums=-1)
    same(last(x, 3.0), x * 3)
    same(last(x, np.ones(4), 2.0), x * 2)
    same(fg.compile(lambda n, x: x[n], static_argnums=0)(slice(1, 2).indices(3)[0], x), np.float64(1))


def test_static_values_are_told_apart_by_type():
    f = fg.compile(lambda x, n: fg.astype(x * 0, float) + len(repr(n)), static_argnums=1)
    x = np.ones(1)
    for n in (1, 1.0, True, 0.0, -0.0, (1, 2), (1.0, 2), np.float32(1), None, "a"):
        assert f(x, n) == len(repr(n))
        assert f(x, n) == len(repr(n))
    assert f.cache_info().misses == 10


def test_a_method():
    class Scale:
        factor = 2.0

        def times(self, x):
            return x * self.factor

        compiled = fg.compile(times, static_argnums=0)
        plain = fg.compile(times)

    same(Scale().compiled(np.ones(2)), np.full(2, 2.0))
    with pytest.raises(TypeError, match=r"args\[0\] is of type Scale, .* name its argument in static_argnums"):
        Scale().plain(np.ones(2))


def test_static_arguments_that_cannot_be():
    f = fg.compile(lambda x, n: x, static_argnums=1)
    with pytest.raises(TypeError, match="the static argument 1 holds a list, expected hashable constants, such as a tuple"):
        f(1.0, [1])
    with pytest.raises(TypeError, match="the static argument 1 holds a ndarray, .* arrays are passed as arguments that are not"):
        f(1.0, (2, np.ones(2)))
    with pytest.raises(TypeError, match="the static argument 1 holds a Tensor"):
        f(1.0, fg.ones(2))
    with pytest.raises(TypeError, match="static_argnums names argument 1, but the function was called with 1 positional argument$"):
        f(1.0)
    with pytest.raises(TypeError, match="static_argnums names argument -3, .* 0 positional arguments$"):
        fg.compile(lambda: 1, static_argnums=-3)()
    assert f(2.0, 1) == 2


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_longest():
    f = fg.compile(lambda x: fg.sum(x), maxsize=2)
    a, b, c = np.ones(1), np.ones(2), np.ones(3)
    f(a), f(b), f(a), f(a), f(c)
    assert f.cache_info() == (2, 3, 2, 2)
    f(a)
    assert f.cache_info() == (3, 3, 2, 2)
    f(b)
    assert f.cache_info() == (3, 4, 2, 2)
    f(a), f(1.0), f(a), f(b)
    assert f.cache_info().currsize == 2
    f.cache_clear()
    assert f.cache_info() == (0, 0, 2, 0)
    assert f(c) == 3


def test_the_cache_keeps_what_is_called_beside_numbers():
    f = fg.compile(lambda x: fg.sum(x), maxsize=2)
    a, b = np.ones(1), np.ones(2)
    f(a), f(1.0), f(a), f(b)  # the number's program is the oldest
    misses = f.cache_info().misses
    f(a)
    assert f.cache_info().misses == misses


# ---- errors --------------------------------------------------------------------------------------------------------------
def test_an_exception_while_recording_leaves_everything_clean():
    state = {"fail": True}

    def f(x):
        y = fg.exp(x) * state.get("w", 1.0)
        if state["fail"]:
            raise KeyError("not now")
        return y

    compiled = fg.compile(f)
    for _ in range(2):
        with pytest.raises(KeyError, match="not now"):
            compiled(np.ones(3))
        assert not _core.tracing() and _core.grad_enabled()
    with pytest.raises(ValueError, match="broadcast"):
        fg.compile(lambda x: x + np.ones(4))(np.ones(3))
    state["fail"] = False
    same(compiled(np.zeros(3)), np.ones(3))
    assert compiled.cache_info() == (0, 1, 64, 1)
    assert float(fg.ones(1) * 2) == 2


FROZEN = {
    "branch": lambda x: x if x[0] > 0 else -x,
    "float": lambda x: x * float(x[0]),
    "int": lambda x: x * int(x[0]),
    "numpy": lambda x: fg.tensor(x.numpy()),
    "math.sin": lambda x: x * math.sin(x[0]),
    "np.asarray": lambda x: x * np.asarray(x),
    "np.array": lambda x: x * np.array([x[0], 1.0]),
    "item": lambda x: x * x[0].item(),
    "tolist": lambda x: fg.tensor(x.tolist()),
    "values": lambda x: [v for v in x if v > 0],
    "mask": lambda x: x[x > 0],
    "index": lambda x: x[fg.argmax(x)],
    "range": lambda x: [x for _ in range(fg.astype(x, int)[0])],
    "in": lambda x: x * (1.0 in x),
    "buffer": lambda x: memoryview(x),
    "dlpack": lambda x: np.from_dlpack(x),
    "format": lambda x: f"{x[0]:.3f}",
    "any": lambda x: fg.any(x > 0),
    "while": lambda x: [1 for _ in iter(lambda: bool(fg.sum(x) > 0), False)],
    "copy": lambda x: x.__reduce__(),
    "ufunc out": lambda x: np.add(np.ones(2), x, out=np.zeros(2)),
    "cotangent": lambda x: fg.tensor([1.0, 2.0], requires_grad=True).backward(x),
    "optimizer": lambda x: fg.optim.SGD(0.1).step([np.ones(2)], [x]),
    "all_finite": lambda x: _core.all_finite(x),
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_would_be_frozen_is_an_error_that_names_the_line(name):
    f = FROZEN[name]
    with pytest.raises((TypeError, BufferError)) as caught:
        fg.compile(f)(np.array([1.0, 2.0]))
    assert not _core.tracing()
    if isinstance(caught.value, fg.TraceError):
        assert f"{__file__}, line {f.__code__.co_firstlineno}" in str(caught.value)
        assert "fastgrad.where" in str(caught.value)
    else:
        assert name in ("ufunc out", "range", "cotangent", "buffer", "dlpack", "np.array")


class Box:
    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize("make", [Box, lambda x: (y for y in x), lambda x: np.array([None]), lambda x: {0, 1}])
def test_a_result_that_may_hide_a_tensor_is_refused(make):
    with pytest.raises(TypeError, match=r"^compile: result\['a'\]\[0\] is of type \w+, which would be the same object"):
        fg.compile(lambda x: {"a": [make(x)]})(np.ones(2))
    assert not _core.tracing()


@pytest.mark.parametrize("start", [lambda: fg.zeros(2), lambda: fg.tensor([0, 0])], ids=["float", "int"])
def test_a_tensor_from_outside_changed_in_place_is_an_error_that_names_the_line(start):
    total = start()

    def f(x):
        nonlocal total
        total += 1
        return x + total

    with pytest.raises(fg.TraceError, match="^compile: add changes a tensor in place that was made before .*once instead of") as caught:
        fg.compile(f)(np.ones(2))
    assert f"{__file__}, line {f.__code__.co_firstlineno + 2})" in str(caught.value)
    assert total.tolist() == [0, 0]


def test_tensors_made_inside_may_be_changed_in_place():
    outside = fg.ones(2)

    def f(x):
        total, part = fg.zeros(2), outside * 2
        total += x
        part *= total
        x += 1
        return part + x

    compiled = fg.compile(f)
    for x in (np.ones(2), np.array([1.0, 3.0])):
        same(compiled(x), 3 * x + 1)
    assert outside.tolist() == [1, 1]


def test_a_step_whose_loss_keeps_a_running_value_runs_eagerly():
    seen = fg.zeros(())

    def loss(p, x):
        nonlocal seen
        seen += 1
        return fg.sum((p - x) ** 2)

    step = fg.training_step(loss, np.zeros(2), fg.optim.SGD(0.1))
    with pytest.warns(RuntimeWarning, match="cannot be recorded and runs eagerly.*changes a tensor in place"):
        step(np.ones(2))
    step(np.ones(2))
    assert seen.item() == 2


def test_arrays_like_a_recorded_one():
    same(fg.compile(lambda x: fg.full_like(x, 2) * x + np.zeros_like(x) + fg.ones_like(x, dtype=int))(np.ones(3)), np.full(3, 3.0))


def test_constants_may_be_looked_at():
    w = fg.tensor([1.0, 2.0])

    def f(x):
        assert float(w[0]) == 1 and w.numpy()[1] == 2 and (w > 0).all()
        assert "being recorded" in repr(x)
        assert len(x) == 2 and x.shape == (2,)
        return x * (w if bool(w[1] > 0) else -w)

    same(fg.compile(f)(np.ones(2)), np.array([1.0, 2.0]))


# ---- together with the other transforms -----------------------------------------------------------------------------------
def square(x):
    return fg.sum(x * x)


def test_a_compiled_function_inside_a_compiled_function():
    inner = fg.compile(lambda x: x * 2)
    outer = fg.compile(lambda x: inner(inner(x)) + 1)
    for k in (1.0, 2.0):
        same(outer(np.full(3, k)), np.full(3, 4 * k + 1))
    assert inner.cache_info().misses == 0
    twice = fg.compile(fg.compile(square))
    assert twice(np.ones(2)) == 2


def test_compiled_gradients_of_compiled_functions():
    inner = fg.compile(square)
    outer = fg.compile(fg.value_and_grad(inner))
    for k in (1.0, 3.0):
        value, gradient = outer(np.full(2, k))
        assert value == 2 * k * k
        same(gradient, np.full(2, 2 * k))


def test_tensors_that_require_gradients_are_never_silently_constants():
    compiled, x = fg.compile(square), np.ones(2)
    compiled(x)
    for call in (
        lambda: fg.grad(compiled)(x),
        lambda: compiled(fg.tensor(x, requires_grad=True)),
        lambda: compiled(fg.tensor(x, requires_grad=True) * 2),
        lambda: fg.grad(lambda w: fg.compile(lambda y: fg.sum(y * w))(x))(x),
    ):
        with pytest.raises(TypeError, match="requires gradients"):
            call()
    assert compiled(fg.tensor(x)) == 2
    assert not _core.tracing()


def test_the_gradient_of_what_is_compiled_in_many_ways():
    x = RNG.standard_normal(5)
    f = lambda x, y: (fg.sum(fg.tanh(x) * y), {"y": y * 2, "n": 3})
    compiled = fg.compile(fg.value_and_grad(f, argnums=(0, 1), has_aux=True))
    for k in (1, 2):
        (value, aux), gradients = compiled(k * x, x)
        (v, a), g = fg.value_and_grad(f, argnums=(0, 1), has_aux=True)(k * x, x)
        assert value == v and aux["n"] == 3
        same(aux["y"], a["y"])
        same_tree(gradients, g)
    unused = fg.compile(fg.grad(lambda x, y: fg.sum(y), argnums=0))
    same(unused(x, x), np.zeros(5))
    with pytest.raises(TypeError, match="argument 0 is int64; only float32 and float64 have gradients"):
        fg.compile(fg.grad(square))(3)


def test_no_grad_stop_gradient_and_backward_inside():
    def f(x):
        t = fg.astype(x, x.dtype)
        with fg.no_grad():
            c = x * 3
        t.requires_grad = True
        fg.sum(t * t * c * fg.stop_gradient(x)).backward()
        return t.grad

    with fg.no_grad():
        compiled = fg.compile(f)
    for x in (np.ones(2), np.full(2, 2.0)):
        same(compiled(x), 2 * x * 3 * x * x) if x[0] == 1 else np.testing.assert_allclose(compiled(x), 6 * x**3)
    with fg.no_grad():
        np.testing.assert_allclose(fg.compile(fg.grad(square))(np.ones(2)), 2)


def test_in_place_updates_inside():
    def f(x, y):
        a = x + 0.0
        b = a
        a += y
        a *= 2
        c = a * a
        a -= 1
        return a, b, c, fg.sum(a)

    compiled = fg.compile(f)
    for k in (1.0, 2.0):
        x, y = np.array([1.0, 2.0]) * k, np.array([3.0])
        same_tree(compiled(x, y), tuple(v.numpy() for v in eagerly(f, x, y)))


def test_a_closed_over_tensor_changed_in_place_after_recording():
    w = fg.tensor([1.0, 2.0])
    compiled = fg.compile(lambda x: x * w)
    compiled(np.ones(2))
    w += 1
    same(compiled(np.ones(2)), np.array([1.0, 2.0]))
    assert w.tolist() == [2.0, 3.0]


def test_verify_finds_what_was_frozen():
    state = {"n": 0.0}

    def f(x):
        state["n"] += 1
        return {"y": x * state["n"]}

    with pytest.raises(AssertionError, match=r"result\['y'\] of the replay"):
        fg.compile(f, verify=True)(np.ones(2))
    with pytest.raises(AssertionError, match="the constant"):
        fg.compile(lambda x: (x, state.update(n=state["n"] + 1), state["n"]), verify=True)(1.0)
    with pytest.raises(AssertionError, match="returned"):
        fg.compile(lambda x: [x] * int(state.update(n=state["n"] + 1) or state["n"]), verify=True)(1.0)
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError):
        fg.compile(lambda x: x + rng.standard_normal(2), verify=True)(np.ones(2))
    fine = fg.compile(lambda x, n: fg.sum(x.detach() ** n), static_argnums=1, verify=True)
    x = np.ones(3)
    assert [fine(x, 2), fine(2 * x, 2), fine(x, 3)] == [3, 12, 3]

    def changes(x):
        x += 1
        return fg.sum(x)

    assert fg.compile(changes, verify=True)(x) == 6
    same(x, np.ones(3))


# ---- integers and booleans --------------------------------------------------------------------------------------------------
INTEGERS = [np.dtype(c) for c in "?bhilBHIL"]


@pytest.mark.parametrize("start", INTEGERS, ids=str)
def test_integers_are_converted_as_numpy_does(start):
    info = None if start == bool else np.iinfo(start)
    x = np.array([0, 1, 0, 1] if start == bool else [0, 1, info.max, info.min, info.max // 3], start)
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
    same_tree(f(x, labels), tuple(np.asarray(v) for v in eagerly(lambda x, k: (
        x[k], fg.take(x, k, axis=0), x * k[:, None], fg.mean(k), k / 2, fg.tanh(k)), x, labels)))


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


# ---- threads ---------------------------------------------------------------------------------------------------------------
def in_threads(n, work):
    errors = []

    def run(i):
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def test_threads_call_one_function():
    f = fg.compile(fg.value_and_grad(lambda x: fg.sum(fg.tanh(x) * x)), maxsize=3)
    g = fg.value_and_grad(lambda x: fg.sum(fg.tanh(x) * x))

    def work(i):
        for k in range(60):
            x = np.full(1 + k % 5, i + k / 10)
            found, expected = f(x), g(x)
            assert found[0] == expected[0]
            same(found[1], expected[1])

    in_threads(4, work)


def test_threads_record_at_once_and_share_constants():
    w, gate = fg.tensor(np.arange(3.0)), threading.Barrier(3, timeout=20)
    results = {}

    def work(i):
        def f(x):
            y = x
            for k in range(i):
                y = y + k
            gate.wait()  # all are recording, each at another number
            y = y * w
            gate.wait()
            y = y + w
            gate.wait()
            z = fg.sum(w * y)
            gate.wait()
            return y, z, w

        compiled = fg.compile(f)
        compiled(np.ones(3))
        results[i] = compiled(np.full(3, 2.0))

    in_threads(3, work)
    for i, (y, z, returned) in results.items():
        expected = (2 + sum(range(i))) * np.arange(3.0) + np.arange(3.0)
        same(y, expected)
        assert z == np.arange(3.0) @ expected
        same(returned, np.arange(3.0))


def test_a_function_that_spreads_its_work_over_threads_is_refused():
    for work in (lambda x: x * 2, lambda x: x.numpy(), lambda x: fg.sum(x).item()):
        results = []

        def f(x):
            in_threads(1, lambda i: results.append(work(x)))
            return x

        with pytest.raises((RuntimeError, TypeError), match="another thread|the value of a tensor was asked for"):
            fg.compile(f)(np.ones(2))
        assert not results and not _core.tracing()


def test_other_threads_compute_as_ever_while_one_records():
    def f(x):
        y = fg.tensor([1.0, 2.0])

        def work(i):
            assert not _core.tracing()
            view = y.numpy()
            y.__iadd__(1.0)
            assert view.tolist() == [2.0, 3.0] and (y * y).tolist() == [4.0, 9.0]
            assert fg.grad(square)(np.ones(2)).tolist() == [2.0, 2.0]

        in_threads(1, work)
        return x * y

    same(fg.compile(f)(np.ones(2)), np.array([2.0, 3.0]))


def test_a_finalizer_may_call_the_program():
    f = fg.compile(lambda x: tuple(x + k for k in range(40)))
    x = np.zeros(3)
    f(x)

    class Loop:
        def __init__(self):
            self.me = self

        def __del__(self):
            f(x + 100)

    was = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for k in range(50):
            Loop()
            for j, y in enumerate(f(x + k)):
                assert y[0] == k + j
    finally:
        gc.set_threshold(*was)


# ---- large and small programs ------------------------------------------------------------------------------------------------
def test_twenty_thousand_operations():
    def f(x):
        y = x
        for _ in range(10_000):
            y = y * 1.0001 - 0.0001
        return fg.sum(y)

    compiled = fg.compile(fg.value_and_grad(f))
    for k in (1.0, 2.0):
        value, gradient = compiled(np.full(3, k))
        v, g = fg.value_and_grad(f)(np.full(3, k))
        assert value == v
        same(gradient, g)
    facts = compiled.program(np.ones(3)).facts
    assert facts["recorded"] >= 20_000
    assert facts["peak_bytes"] < 100_000


def test_the_passes_say_what_they_removed():
    def f(x, w):
        unused = fg.exp(x)
        a = fg.tanh(x @ w.T) * 2.0
        b = fg.tanh(x @ w.T) * 2.0
        return a + b, fg.mean(unused) * 0 if False else a

    compiled = fg.compile(f)
    x, w = RNG.standard_normal((2, 4, 3))
    program = compiled.program(x, w)
    text = str(program)
    assert text.count("tanh") == 1 and text.count("multiply") == 1 and "exp" not in text and "transpose" not in text
    assert text.splitlines()[0].startswith("program: 2 inputs, 2 outputs, 4 instructions")
    assert "in0 in1" in text and "out0" in text and "out1" in text and "float64 (4, 4)" in text
    facts = program.facts
    assert facts["instructions"] == 4 and facts["recorded"] > facts["instructions"]
    np.testing.assert_allclose(compiled(x, w)[0], 4 * np.tanh(x @ w.T), rtol=1e-12)


def test_intermediates_share_memory():
    def f(x):
        for _ in range(20):
            x = fg.sum(x @ x) * x
        return x

    facts = fg.compile(f).program(np.eye(20)).facts
    assert facts["peak_bytes"] < facts["separate_bytes"] / 4


def test_printing_long_and_empty_programs():
    wide = fg.compile(lambda *x: fg.concatenate(x))
    text = str(wide.program(*[np.ones(2)] * 500))
    assert " ..." in text and "concatenate" in text
    assert str(fg.compile(lambda: 1).program()).startswith("program: 0 inputs, 0 outputs, 0 instructions")
    program = fg.compile(lambda x: x).program(np.ones(2))
    for use in (str, lambda p: p.facts, lambda p: p.run([]), lambda p: p.same_as(p)):
        with pytest.raises(TypeError, match="a Program is made by"):
            use(type(program)())
    with pytest.raises(ValueError, match="expected 1 inputs, got 0"):
        program.run([])
    with pytest.raises(ValueError, match=r"expected input 0 of shape \(2,\), got \(3,\)"):
        program.run([np.ones(3)])


def test_it_looks_like_the_function():
    @fg.compile
    def area(r):
        """Of a circle."""
        return np.pi * r * r

    assert area.__name__ == "area" and area.__doc__ == "Of a circle." and isinstance(area, Compiled)
    assert area(1.0) == np.pi


def test_recording_is_not_entered_by_hand():
    for call in (lambda: _core.trace_input(np.ones(2)), lambda: _core.trace_end([fg.ones(2)])):
        with pytest.raises(RuntimeError, match="no program is being recorded"):
            call()
    _core.trace_abort()

    def f(x):
        compiled.program(x.detach())

    compiled = fg.compile(f)
    with pytest.raises(TypeError):
        compiled(1.0)
    assert not _core.tracing()


# ---- training steps --------------------------------------------------------------------------------------------------------
def line(p, x, y):
    return fg.losses.mse(x @ p["w"] + p["b"], y)


DATA = np.random.default_rng(1).standard_normal((12, 3))
TARGET = np.random.default_rng(2).standard_normal(12)


def start(dtype=np.float64):
    return {"w": np.zeros(3, dtype), "b": np.zeros((), dtype)}


def pair(loss, optimizer, dtype=np.float64):
    """A step that replays and one that does not, on parameters of their own."""
    a, b = start(dtype), start(dtype)
    return (a, fg.training_step(loss, a, optimizer())), (b, fg.training_step(loss, b, optimizer(), compile=False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", [lambda: fg.optim.SGD(0.1, momentum=0.9), lambda: fg.optim.Adam(0.1)], ids=["sgd", "adam"])
def test_steps_equal_eager_steps_while_everything_changes(optimizer, dtype):
    (a, step), (b, twin) = pair(line, optimizer, dtype)
    x, y = DATA.astype(dtype), TARGET.astype(dtype)
    for i in range(12):
        rows = slice(0, (12, 5, 12, 1)[i % 4])
        assert step(x[rows], y[rows]) == twin(x[rows], y[rows])
        same_tree(a, b)
        if i == 5:
            for p in (a, b):
                p["w"][:] = 3
        if i == 7:
            step.optimizer.load_state_dict(twin.optimizer.state_dict())
    assert step._compiled.cache_info().currsize == 3


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_integer_labels_are_recorded_and_checked(dtype):
    p = np.zeros((3, 4))
    step = fg.training_step(lambda w, x, k: fg.losses.softmax_cross_entropy(x @ w, k), p, fg.optim.SGD(0.5))
    x, labels = DATA[:4], np.array([0, 1, 3, 2], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = [step(x, labels) for _ in range(4)]
        assert losses == sorted(losses, reverse=True)
        before = p.copy()
        with pytest.raises(IndexError, match="label 4 of row 2"):
            step(x, np.array([0, 1, 4, 2], dtype))
        same(p, before)
        assert step.optimizer.steps == 4
        assert step(x, labels) < losses[-1]
    assert step._compiled is not None


def test_losses_that_cannot_be_recorded_run_eagerly_after_one_warning():
    rng, state = np.random.default_rng(0), {"n": 0}

    def noisy(p, x, y):
        return line(p, x + rng.standard_normal(x.shape) * 0.01, y)

    def counting(p, x, y):
        state["n"] += 1
        return line(p, x, y) * (1 + 1 / state["n"])

    def branching(p, x, y):
        loss = line(p, x, y)
        return loss if loss > 1 else loss * 2

    texts = {
        noisy: "two recordings of this function differ; it draws random numbers of another library than",
        counting: "two recordings of this function differ",
        branching: rf"eagerly: compile: the value of a tensor was asked .*test_compile.py, line {branching.__code__.co_firstlineno + 2}\)",
    }
    for loss, text in texts.items():
        p = start()
        step = fg.training_step(loss, p, fg.optim.SGD(0.05))
        with pytest.warns(RuntimeWarning, match=text) as caught:
            step(DATA, TARGET)
            step(DATA, TARGET)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert "Give compile=False to run it so without this warning" in str(caught[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(3):
                step(DATA, TARGET)
        assert step.optimizer.steps == 5
        with pytest.raises(RuntimeError, match="runs eagerly, there is no program"):
            step.program(DATA, TARGET)
    (a, step), (b, twin) = pair(branching, lambda: fg.optim.Adam(0.1))
    with pytest.warns(RuntimeWarning):
        for _ in range(5):
            assert step(DATA, TARGET) == twin(DATA, TARGET)
    same_tree(a, b)


@pytest.mark.parametrize("n", [12, 4000])
def test_a_constant_changed_between_the_first_steps_is_found(n):
    scale = np.ones(n)
    x = np.resize(DATA, (n, 3))
    p = np.zeros(3)
    step = fg.training_step(lambda w, x: fg.mean(fg.square(x @ w - 1) * scale), p, fg.optim.SGD(0.0))
    assert step(x) == 1
    scale[:] = 3
    with pytest.warns(RuntimeWarning, match="two recordings"):
        assert step(x) == pytest.approx(3)


def test_an_error_of_the_batch_is_raised_and_the_program_kept():
    p = start()
    step = fg.training_step(line, p, "sgd")
    step(DATA, TARGET)
    step(DATA, TARGET)
    compiled = step._compiled
    with pytest.raises(ValueError), warnings.catch_warnings():
        warnings.simplefilter("error")
        step(DATA, TARGET[:3])
    assert step._compiled is compiled
    step(DATA, TARGET)
