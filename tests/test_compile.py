"""``compile``: arguments, results, memory, static arguments, the cache and what programs look like."""

import gc
import weakref
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from _replay import eagerly, same, same_tree

import fastgrad as fg
from fastgrad import _core
from fastgrad._compile.compiled import Compiled

RNG = np.random.default_rng(0)
X = np.ones(3)
Point = namedtuple("Point", "x y")


@dataclass(frozen=True)
class Setting:
    value: float


# ---- memory ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 3, 3000])
def test_results_share_memory_with_nothing(n):
    constant, tensor = np.full(n, 2.0), fg.full(n, 3.0)

    def f(x, y):
        z = x + y
        column, row, inner = fg.reshape(z, (n, 1)), fg.reshape(x, (1, n)), fg.reshape(tensor, (1, n))
        return x, x, y, z, column, row, z, constant, tensor, inner, z * 2

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
    same_tree(list(second), [*eagerly(f, x, y)[:7], constant, *eagerly(f, x, y)[8:]])


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
def test_a_constant_has_the_elements_of_the_trace(n):
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
    same_tree(compiled(x), (x, 2 * x, x + 7, 7 * x.sum(), 14 * x))


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
    after = _core.live()
    assert [after[k] for k in ("arrays", "nodes", "bytes")] == [before[k] for k in ("arrays", "nodes", "bytes")]


def test_a_constant_that_nothing_needs_is_not_kept():
    big = np.ones(100_000)

    def f(x):
        fg.sum(x * big)
        return x + 1

    compiled = fg.compile(f)
    before = _core.live()["bytes"]
    compiled(1.0)
    assert _core.live()["bytes"] - before < 10_000


# ---- arguments and results -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_])
def test_scalars_of_numpy_are_arrays_without_axes(kind):
    """They take the quick way, whichever of the two came first."""
    for first, then in ((kind, lambda x: np.array(x, kind)), (lambda x: np.array(x, kind), kind)):
        compiled = fg.compile(lambda c, x: (c + 1) * x)
        for make, x in ((first, 1), (then, 0), (first, 1), (then, 1)):
            same(compiled(make(x), X), (kind(x) + 1) * X)
        assert compiled.cache_info()[:2] == (3, 1)
        assert compiled._signature_of_call((kind(1), X), {}) is not None
    same(compiled(np.float64(0.5), X), 1.5 * X)


def test_structures_of_arguments_and_results():
    def f(a, b):
        return {
            "sum": a["u"] + a["v"][0],
            "none": None,
            "empty": ({}, [], ()),
            "point": Point(b.x, [b.y * 2]),
            "text": "t",
            "n": 3,
        }

    compiled = fg.compile(f)
    u, v, x, y = (np.array([float(i)]) for i in range(4))
    for _ in range(3):
        found = compiled({"u": u, "v": [v]}, Point(x, y))
        assert found == {
            "sum": 1.0,
            "none": None,
            "empty": ({}, [], ()),
            "point": Point(2.0, [6.0]),
            "text": "t",
            "n": 3,
        }
    assert compiled({"v": [u], "u": v}, Point(y, x))["sum"] == 1
    assert compiled.cache_info() == (2, 2, 64, 2)  # keys in another order, which the function sees: another program
    with pytest.raises(AttributeError):
        compiled({"u": u, "v": [v]}, (x, y))  # a tuple is another structure


def test_dicts_match_by_key():
    f = fg.compile(lambda p: p["a"] - 2 * p["b"])
    a, b = np.array([5.0]), np.array([1.0])
    for p in ({"a": a, "b": b}, {"b": b, "a": a}, {"a": b, "b": a}, {"b": b, "a": a}):
        same(f(p), p["a"] - 2 * p["b"])
    assert f.cache_info() == (2, 2, 64, 2)  # a program for each order of the keys, which the function sees
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


@pytest.mark.parametrize(
    "number", [2.5, 3, True, np.float32(1.5), np.float64(2), np.int8(3), np.bool_(True), np.array(2.0), np.array(3)]
)
def test_numbers_as_arguments(number):
    f = fg.compile(lambda x, a: (x * a, a, x + 1.0))
    x = np.arange(3.0)
    for k in (1, 2):
        result = f(k * x, number)
        same(result[0], k * x * number)
        same(result[1], number)
        assert type(result[1]) is (type(number[()]) if isinstance(number, np.ndarray) else type(number))
    other = type(number)(0) if np.ndim(number) == 0 and not isinstance(number, np.ndarray) else number * 0
    same(f(x, other)[0], x * other)
    assert f.cache_info().misses == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_, np.uint8])
def test_layouts_of_arguments(dtype):
    f = fg.compile(lambda x: (x, x.T, fg.astype(x, np.float64) + 0.5))
    base = RNG.integers(0, 2, (4, 6)).astype(dtype)
    unaligned = np.frombuffer(b"." + base.tobytes(), dtype, offset=1).reshape(base.shape)
    for x in (
        base,
        np.asfortranarray(base),
        base[::-1],
        base[:, ::2].repeat(2, 1),
        base.T.copy().T,
        unaligned,
        base.astype(base.dtype.newbyteorder(">")),
        base.view(np.matrix),
        np.broadcast_to(base[:1], (4, 6)),
        fg.tensor(base),
    ):
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


def test_new_shapes_dtypes_and_structures_are_traced_anew():
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
    with pytest.raises(ValueError, match="compile: maxsize is 0, expected an integer above 0"):
        fg.compile(abs, maxsize=0)
    with pytest.raises(TypeError, match=r"kwargs\['x'\]\[1\] is of type str"):
        f(x=[1.0, "text"])


# ---- large and small programs ----------------------------------------------------------------------------------------
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
    assert facts["traced"] >= 20_000
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
    assert facts["instructions"] == 4 and facts["traced"] > facts["instructions"]
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
    with pytest.raises(ValueError, match="expected 1 input, got 0"):
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


def test_inputs_and_results_of_a_trace_need_a_trace_under_way():
    for call in (lambda: _core.trace_input(np.ones(2)), lambda: _core.trace_end([fg.ones(2)])):
        with pytest.raises(RuntimeError, match="no program is being traced"):
            call()
    with _core.Trace():
        assert _core.tracing()
    assert not _core.tracing()

    def f(x):
        compiled.program(x.detach())

    compiled = fg.compile(f)
    with pytest.raises(TypeError):
        compiled(1.0)
    assert not _core.tracing()


# ---- what a call costs -----------------------------------------------------------------------------------------------
STATICS = [1, 1.0, True, 0.0, -0.0, (1, 2), (1.0, 2), (1, (0.0, "a")), (1, (-0.0, "a")), None, "a", b"a",
    frozenset({1}), frozenset({1.0}),
           frozenset({(1, True)}), frozenset({(1, 1)}), Point(1, 2), Point(1.0, 2), 1j, complex(-0.0, 1), np.float32(0),
           np.float32(-0.0), float("nan"), len, int, Setting(1), Setting(1.0)]  # fmt: skip


def test_static_values_that_are_equal_but_not_the_same_are_told_apart():
    seen = []
    f = fg.compile(lambda x, n, *, m: seen.append((n, m)) or x + 1, static_argnums=1, static_argnames="m")
    for _ in range(3):
        for n in STATICS:
            f(X, n, m=0)
            f(X, 0, m=n)
    assert [repr(n) for n, _ in seen] == [r for n in STATICS for r in (repr(n), "0")]
    assert f.cache_info().misses == 2 * len(STATICS)


@pytest.mark.parametrize("n", STATICS, ids=repr)
def test_static_values_are_guarded_in_c(n, monkeypatch):
    f = fg.compile(lambda x, n, how="": x * 2, static_argnums=1, static_argnames="how")
    f(X, n, how="a")
    monkeypatch.setattr(Compiled, "_slowly", None)
    for x in (X, 3 * X):
        same(f(x, n, how="".join(["a"])), 2 * x)
    with pytest.raises(TypeError, match="not callable"):
        f(X, n, how="b")
    with pytest.raises(TypeError, match="not callable"):
        f(X, object(), how="a")


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.bool_])
def test_arrays_of_any_layout_are_copied_in_c(dtype, monkeypatch):
    f = fg.compile(lambda a, b: (a, fg.transpose(b)))
    base = RNG.integers(0, 2, (4, 6)).astype(dtype)
    f(base, base)
    monkeypatch.setattr(Compiled, "_slowly", None)
    unaligned = np.frombuffer(b"." + base.tobytes(), dtype, offset=1).reshape(base.shape)
    for x in (base, np.asfortranarray(base), base[::-1], base[:, ::-1], unaligned,
            base.astype(base.dtype.newbyteorder(">")),
              np.broadcast_to(base[:1], (4, 6))):  # fmt: skip
        before = x.tobytes()
        same_tree(f(x, base), (np.ascontiguousarray(x).astype(dtype), base.T))
        same_tree(f(x, x), (np.ascontiguousarray(x).astype(dtype), np.asarray(x).astype(dtype).T))
        assert x.tobytes() == before
    with pytest.raises(TypeError, match="not callable"):
        f(base.T, base)


# ---- numbers ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_a_python_number_eagerly_is_one_in_a_replay(dtype):
    both = fg.value_and_grad(lambda x: fg.sum(fg.tanh(x)))
    x = np.ones(3, dtype)
    compiled = fg.compile(both)
    for _ in range(2):
        value, gradient = compiled(x)
        assert type(value) is float and value == both(x)[0]
        same(gradient, both(x)[1])
    f = fg.compile(lambda x: (both(x)[0] * x, both(x)[0] + 1, fg.sum(x)))
    for _ in range(2):
        scaled, more, total = f(x)
        assert scaled.dtype == dtype and type(more) is float and type(total) is dtype
        np.testing.assert_allclose(scaled, both(x)[0] * x, rtol=1e-6)
    ints = fg.compile(lambda n: (n + 1, n / 2, n > 2, -n))
    for n in (1, 4):
        assert [(type(r), r) for r in ints(n)] == [(type(r), r) for r in (n + 1, n / 2, n > 2, -n)]
    assert fg.compile(both, verify=True)(x)[0] == both(x)[0]


def test_tensors_of_data_are_guarded_as_arrays_are():
    """The same program serves both, in the same few hundred nanoseconds, and shapes that come once run eagerly."""
    f = fg.compile(lambda x, n: {"y": x["a"] * x["a"] + n, "x": x["a"]})
    array = np.arange(3.0)
    t = fg.tensor(array)
    expected = f({"a": array}, 1.0)
    for x in (t, array, np.asfortranarray(array), t.reshape(3), fg.asarray(np.arange(3.0)), t):
        found = f({"a": x}, 1.0)
        np.testing.assert_array_equal(found["y"], expected["y"])
        assert type(found["x"]) is np.ndarray
        found["x"][0] = 9  # a copy
    np.testing.assert_array_equal(t, array)
    assert f.cache_info()[:2] == (6, 1)
    for x in (t.astype(np.float32), t[:2], t.reshape(1, 3), fg.zeros((0,))):  # of another kind
        np.testing.assert_array_equal(f({"a": x}, 1.0)["y"], x.numpy() ** 2 + 1)
    assert f.cache_info().misses > 1
    with pytest.raises(TypeError, match="requires gradients"):
        f({"a": fg.ones(3, requires_grad=True)}, 1.0)


def test_a_tensor_argument_is_not_changed_by_a_function_that_changes_its_own():
    def add(x):
        x += 1
        return x

    f, t = fg.compile(add), fg.tensor([1.0, 2.0])
    for _ in range(3):
        np.testing.assert_array_equal(f(t), [2, 3])
        np.testing.assert_array_equal(t, [1, 2])
    for n in range(1, 100):  # kinds that come once run eagerly
        t = fg.zeros(n)
        assert f(t).all() and not t.numpy().any()
