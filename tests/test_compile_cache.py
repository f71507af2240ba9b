"""Static arguments of compiled functions, and the cache of programs: what is kept, and what runs eagerly."""

import itertools
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from _replay import same

import fastgrad as fg
from fastgrad import _core

RNG = np.random.default_rng(0)
X = np.ones(3)
Point = namedtuple("Point", "x y")


@dataclass(frozen=True)
class Setting:
    value: float


# ---- static arguments and the cache ----------------------------------------------------------------------------------
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
    with pytest.raises(
        TypeError, match="the static argument 1 holds a list, expected hashable constants, such as a tuple"
    ):
        f(1.0, [1])
    with pytest.raises(
        TypeError, match="the static argument 1 holds a ndarray, .* arrays are passed as arguments that are not"
    ):
        f(1.0, (2, np.ones(2)))
    with pytest.raises(TypeError, match="the static argument 1 holds a Tensor"):
        f(1.0, fg.ones(2))
    with pytest.raises(
        TypeError, match="static_argnums names argument 1, but the function was called with 1 positional argument$"
    ):
        f(1.0)
    with pytest.raises(TypeError, match="static_argnums names argument -3, .* 0 positional arguments$"):
        fg.compile(lambda: 1, static_argnums=-3)()
    assert f(2.0, 1) == 2


def test_a_static_argument_may_be_left_at_its_default():
    def f(x, n=2, *, m=1):
        return x**n if type(n) is int and m == 1 else None

    compiled = fg.compile(f, static_argnums=1)
    assert (compiled(3.0), compiled(3.0, 3), compiled(3.0, n=1), compiled(2.0)) == (9, 27, 3, 4)
    assert compiled.cache_info()[:2] == (1, 3)
    with pytest.raises(TypeError, match="static_argnums names argument 0, .* 0 positional arguments$"):
        fg.compile(f, static_argnums=(0, 1))()


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


def test_alternating_shapes_are_replayed_whatever_came_last():
    f = fg.compile(lambda d, s=1.0: {"y": d["x"] * s, "n": d["x"].shape[0]})
    for n in (1, 2, 3) * 4:
        for s in (2.0, 3.0):
            found = f({"x": np.ones(n)}, s=s)
            same(found["y"], np.full(n, s))
            assert found["n"] == n
    assert f.cache_info()[:2] == (21, 3)


def test_constants_without_axes_are_numbers_in_replays_and_eager_runs():
    constants = [np.array(3.0), np.array(2, np.int8), np.array(True), np.float32(1.5), np.array("text"), np.ones(1)]
    alone, among = fg.compile(lambda x: constants[0], maxsize=1), fg.compile(lambda x: (x.sum(), constants), maxsize=1)
    assert fg.compile(lambda x: constants[0], verify=True)(np.ones(2)) == 3.0
    for n in range(1, 70):
        for _ in range(2):
            assert type(alone(np.ones(n))) is np.float64
            value, found = among(np.ones(n))
            assert type(value) is np.float64
            for a, b in zip(found, constants, strict=True):
                assert type(a) is (type(b[()]) if b.ndim == 0 else np.ndarray), f"{a!r} for {b!r}, with {n} elements"
                assert a == b and a.dtype == b.dtype
            assert not np.shares_memory(found[-1], constants[-1])
    assert alone.cache_info().misses < 69


def test_shapes_that_come_once_run_eagerly_with_the_same_results():
    traced = []

    def f(d, y):
        if _core.tracing():
            traced.append(y.shape)
        value, slope = fg.value_and_grad(lambda x: fg.sum(fg.tanh(x) * y))(d["x"])
        d["x"] += 1.0
        return {"all": (value, slope, y.sum(), 3, "text", d["x"]), "least": fg.grad(lambda m: m**2)(y.mean())}

    compiled, eager = fg.compile(f, maxsize=4), fg.compile(f, maxsize=1000)
    for n in [*range(1, 90), 80, 81]:
        for dtype in (np.float64, np.float32):
            x, y = np.linspace(0, 1, n).astype(dtype), np.linspace(1, 2, n)
            before = x.copy()
            found, expected = compiled({"x": x}, y), eager({"x": x}, y)
            same(x, before)
            assert not np.shares_memory(found["all"][-1], x)
            for a, b in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
                assert type(a) is type(b) and getattr(a, "dtype", None) == getattr(b, "dtype", None)
                if not isinstance(a, str):
                    np.testing.assert_allclose(a, b, rtol=1e-6)
    assert compiled.cache_info()[1:] == (64, 4, 4) and len(eager._entries) == 178
    for result, text in (
        (object(), "of type object"),
        (lambda x: fg.tensor(x, requires_grad=True), "requires gradients"),
    ):
        refused = fg.compile(lambda x: x if x.size < 65 else result(x) if callable(result) else result, maxsize=1)
        for n in range(1, 65):
            refused(np.ones(n))
        with pytest.raises(TypeError, match=text):
            refused(np.ones(65))


def test_results_of_eager_runs_are_the_callers_own():
    kept = []

    def f(x, kind):
        kept.append(fg.ones(3))
        results = {"alone": lambda: 2 * x, "kept": lambda: kept[-1], "argument": lambda: x[0]}
        value = results.get(next(iter(kind)), lambda: x[0].sum())()
        return [value, {"b": (value, None, "text"), "a": 1}] if "nested" in kind else value

    compiled = fg.compile(f, maxsize=1)
    for n in range(64):
        compiled((np.ones(n),), {"argument": np.ones(1)})
    x = np.arange(70.0)
    for names in itertools.product(("alone", "kept", "argument", "number"), ((), ("nested",))):
        kind = dict.fromkeys([names[0], *names[1]], np.ones(2))
        given = x if names[0] == "alone" else (x,)
        for _ in range(3):
            found, before = compiled(given, kind), kept[-2].numpy().copy()
            values = [found[0], found[1]["b"][0]] if names[1] else [found]
            assert not names[1] or (list(found[1]) == ["b", "a"] and found[1]["b"][1:] == (None, "text"))
            if names[0] == "number":
                assert type(values[0]) is np.float64 and values[0] == x.sum()
                continue
            for value in values:
                same(value, {"alone": 2 * x, "kept": np.ones(3), "argument": x}[names[0]])
            for value in values:
                value[...] = -1.0
            same(kept[-2].numpy(), before)
            same(x, np.arange(70.0))
    assert compiled.cache_info().misses == 64

    def endless(x):
        result = [x]
        result.append(result)
        return result if x.size > 64 else x

    compiled = fg.compile(endless, maxsize=1)
    for n in range(64):
        compiled(np.ones(n))
    with pytest.raises(RecursionError):
        compiled(np.ones(65))


def test_a_full_cache_keeps_what_is_in_use():
    compiled = fg.compile(lambda x: x.sum())
    sizes = np.arange(1, 150)
    for _ in range(70):
        for n in np.random.default_rng(0).permutation(sizes):
            compiled(np.ones(n))
    assert compiled.cache_info().misses == 64  # each kind comes as often as another
    for _ in range(40):
        for n in range(200, 220):
            compiled(np.ones(n))
    assert compiled.cache_info().misses == 84  # these took the places of kinds that come no more


def test_numbers_among_the_arguments_keep_their_dtypes_however_many_shapes_come():
    f = fg.compile(lambda x, k: x * (k * 2), maxsize=2)
    for n in range(1, 80):
        found = f(np.ones(n, np.float32), 0.5)
        assert found.dtype == np.float32
        same(found, np.ones(n, np.float32))


def test_many_shapes_of_tensors_are_not_traced_without_end():
    compiled = fg.compile(lambda x: x * x)
    for _ in range(3):
        for n in range(1, 200):
            np.testing.assert_array_equal(compiled(fg.ones(n)), np.ones(n))
    assert compiled.cache_info().misses <= 64
