"""Random numbers: the published vectors of the generator, the distributions, and the same draws eager and replayed."""

import copy
import hashlib
import os
import pickle
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from scipy import stats

import fastgrad as fg
from fastgrad import _core
from fastgrad.random import Generator, default_rng

FLOATS = [np.float32, np.float64]
CHUNK = 16  # blocks of the stream that are made at once, each with 2 doubles or 4 floats


# ---- the generator, in the paper's words ----------------------------------------------------------------------------
def philox(counter, key):
    """Philox4x32-10 on Python integers."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q & 0xFFFFFFFF, (p >> 32) ^ d ^ m, p & 0xFFFFFFFF
        k, m = (k + 0x9E3779B9) & 0xFFFFFFFF, (m + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


KNOWN = [  # counter, key, result: the vectors published with the paper
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def at(key, stream, position):
    rng = default_rng(0)
    rng.state = {"bit_generator": "Philox4x32-10", "key": key, "stream": stream, "position": position}
    return rng


def expected(n, dtype, key, stream, position):
    """The first n numbers there: of each chunk the first two words of its blocks, then the last two."""
    low = lambda x: x & 0xFFFFFFFF
    numbers = []
    for first in range(position, position + n, CHUNK):
        blocks = [
            philox((low(i), low(i >> 32), low(stream), stream >> 32), (low(key), key >> 32))
            for i in (j % 2**64 for j in range(first, first + CHUNK))
        ]
        for half in (0, 2):
            for block in blocks:
                a, b = block[half : half + 2]
                numbers += (
                    [(a >> 8) / 2**24, (b >> 8) / 2**24]
                    if dtype is np.float32
                    else [((a >> 5) * 2**26 + (b >> 6)) / 2**53]
                )
    return np.array(numbers[:n], dtype)


def test_known_answers_of_the_reference():
    for counter, key, result in KNOWN:
        assert philox(counter, key) == result


@pytest.mark.parametrize("counter, key, result", KNOWN)
def test_known_answers(counter, key, result):
    c, k = (sum(w << 32 * i for i, w in enumerate(words)) for words in (counter, key))
    where = k, c >> 64, c & (2**64 - 1)
    numbers = at(*where).random(64, np.float32).numpy()
    assert [int(x * 2**24) for x in numbers[[0, 1, 32, 33]]] == [word >> 8 for word in result]
    for dtype in FLOATS:
        for n in (1, 31, 32, 63, 64, 65, 200):
            np.testing.assert_array_equal(at(*where).random(n, dtype).numpy(), expected(n, dtype, *where))


def test_a_draw_takes_whole_chunks():
    rng = at(1, 2, 3)
    for size, dtype, blocks in (
        (0, "f8", 0),
        (1, "f8", 16),
        (32, "f8", 16),
        (33, "f8", 32),
        (64, "f4", 16),
        ((65, 1), "f4", 32),
    ):
        before = rng.state["position"]
        rng.random(size, dtype)
        assert rng.state == {"bit_generator": "Philox4x32-10", "key": 1, "stream": 2, "position": before + blocks}
    rng = at(0, 0, 2**64 - 8)
    rng.random()
    assert rng.state["position"] == 8


@pytest.mark.parametrize("isa", _core.available_isas())
def test_every_instruction_set_draws_the_same(isa):
    program = """
import fastgrad as fg, hashlib, numpy as np
rng = fg.random.default_rng(7)
for n in (1, 100, 1001):
    for dtype in ("f4", "f8"):
        print(hashlib.sha256(rng.random(n, dtype).numpy().tobytes()).hexdigest())
print(*rng.standard_normal(5).tolist())
"""
    out = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FASTGRAD_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    rng = default_rng(7)
    found = [
        hashlib.sha256(rng.random(n, d).numpy().tobytes()).hexdigest() for n in (1, 100, 1001) for d in ("f4", "f8")
    ]
    assert out[:6] == found
    np.testing.assert_allclose(np.array(out[6].split(), float), rng.standard_normal(5).numpy(), rtol=1e-14)


# ---- distributions --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "draw, distribution",
    [
        (lambda rng, n, d: rng.random(n, d), stats.uniform()),
        (lambda rng, n, d: rng.uniform(-1.0, 3.0, n, d), stats.uniform(-1, 4)),
        (lambda rng, n, d: rng.standard_normal(n, d), stats.norm()),
        (lambda rng, n, d: rng.normal(2.0, 0.5, n, d), stats.norm(2, 0.5)),
        (lambda rng, n, d: rng.standard_exponential(n, d), stats.expon()),
        (lambda rng, n, d: rng.exponential(3.0, n, d), stats.expon(scale=3)),
    ],
)
def test_distributions(draw, distribution, dtype):
    n = 100_001  # odd: normals come in pairs
    x = draw(default_rng(12), n, dtype)
    assert x.dtype == dtype and x.shape == (n,)
    x = x.numpy().astype(float)
    assert stats.kstest(x, distribution.cdf).pvalue > 0.01
    mean, variance, skewness, kurtosis = map(float, distribution.stats("mvsk"))
    z = (x - mean) / np.sqrt(variance)
    # Each moment within 4 standard errors, from the moments of twice its order.
    for k, wanted in ((1, 0), (2, 1), (3, skewness), (4, kurtosis + 3)):
        error = np.std(z**k) / np.sqrt(n)
        assert abs(np.mean(z**k) - wanted) < 4 * error
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 4 / np.sqrt(n)
    half = n // 2  # the two of a pair
    assert abs(np.corrcoef(x[:half] ** 2, x[half : 2 * half] ** 2)[0, 1]) < 4 / np.sqrt(half)


def test_float32_is_uniform_and_below_one():
    rng = default_rng(3)
    top = 0
    for _ in range(20):
        x = rng.random(10**6, np.float32).numpy()
        assert x.min() >= 0 and x.max() < 1
        top = max(top, x.max())
    assert top > 1 - 2**-22
    counts = np.bincount((x * 64).astype(int), minlength=64)
    assert stats.chisquare(counts).pvalue > 0.01


def test_extreme_draws_give_finite_numbers(monkeypatch):
    for u in (0.0, 1 - 2**-53):
        rng = default_rng(0)
        monkeypatch.setattr(Generator, "_draw", lambda self, name, size, dtype: fg.full(size, u, dtype=dtype))
        assert np.isfinite(rng.standard_normal(3).numpy()).all()
        assert np.isfinite(rng.standard_exponential(3).numpy()).all()


def test_bernoulli_and_integers():
    rng = default_rng(5)
    x = rng.bernoulli(0.3, 100_000)
    assert x.dtype == bool and abs(x.numpy().mean() - 0.3) < 4 * np.sqrt(0.21 / 1e5)
    assert rng.bernoulli(np.array([0.0, 1.0])).tolist() == [False, True]
    x = rng.integers(-3, 4, 70_000).numpy()
    assert x.dtype == np.int64
    assert stats.chisquare(np.unique(x, return_counts=True)[1]).pvalue > 0.01
    assert set(x) == set(range(-3, 4))
    assert set(rng.integers(2, size=50, endpoint=True).tolist()) == {0, 1, 2}
    for low in (2**40, -(2**63), 2**63 - 2**32):
        rng, twin = default_rng(5), default_rng(5)
        wanted = [low + int(u * 2**32) for u in twin.random(100).tolist()]
        assert rng.integers(low, low + 2**32, 100).tolist() == wanted
        assert rng.state == twin.state


# ---- arguments ------------------------------------------------------------------------------------------------------
def test_shapes_and_dtypes():
    rng = default_rng(0)
    for draw in (rng.random, rng.standard_normal, rng.standard_exponential):
        assert draw().shape == () and draw(3).shape == (3,)
        assert draw((2, 3)).shape == (2, 3) and draw((2, 0)).shape == (2, 0)
        assert draw(2).dtype == np.float64 and draw(2, "float32").dtype == np.float32
    assert rng.normal(np.zeros((2, 1)), np.ones(3)).shape == (2, 3)
    assert rng.normal(np.zeros(3), 1.0, (2, 3)).shape == (2, 3)
    for a in (np.zeros(2, np.float32), fg.zeros(2, dtype=np.float32)):
        assert rng.normal(a, 1.0).dtype == rng.uniform(a, 1.0).dtype == rng.exponential(a).dtype == np.float32
    assert rng.uniform(1, 2, 3, np.float32).dtype == np.float32
    assert rng.normal(np.zeros(2, int), 1).dtype == np.float64
    assert rng.normal(0.0, [1, 2]).shape == (2,)


@pytest.mark.parametrize(
    "act, error, text",
    [
        (lambda r: default_rng(-1), ValueError, "expected a seed of 0 or more, got -1"),
        (lambda r: default_rng(1.5), TypeError, "expected the seed as None, an int or a sequence of ints, got 1.5"),
        (lambda r: default_rng(np.random.default_rng(0)), TypeError, "expected the seed as None, an int"),
        (lambda r: r.random(3, np.float16), TypeError, "random: expected dtype float32 or float64, got float16"),
        (
            lambda r: r.standard_normal(3, int),
            TypeError,
            "standard_normal: expected dtype float32 or float64, got int64",
        ),
        (lambda r: r.random(-1), ValueError, "random: expected lengths that are 0 or more, got the size -1"),
        (lambda r: r.pareto(3.0, -1), ValueError, "pareto: expected lengths that are 0 or more, got the size -1"),
        (lambda r: r.standard_normal((2, -1)), ValueError, "standard_normal: expected lengths that are 0 or more"),
        (lambda r: r.random(2.0), TypeError, "random: expected a size as an int or a tuple of ints, got 2.0"),
        (lambda r: r.normal(size=2.0), TypeError, "normal: expected a size as an int or a tuple of ints, got 2.0"),
        (lambda r: r.random((1,) * 40), ValueError, "random: a tensor has at most 32 axes"),
        (lambda r: r.random((2**40, 2**40)), ValueError, "memory can hold"),
        (lambda r: r.random(2**70), ValueError, "memory can hold"),
        (lambda r: r.normal(0, -1), ValueError, "normal: expected scale of 0 or more, got -1"),
        (
            lambda r: r.exponential(fg.tensor([1.0, -2.0])),
            ValueError,
            "exponential: expected scale of 0 or more, got -2.0",
        ),
        (lambda r: r.uniform(2.0, 1.0), ValueError, "uniform: expected high - low of 0 or more, got -1.0"),
        (
            lambda r: r.normal(np.zeros(3), 1, 2),
            ValueError,
            "normal: the shapes of loc (3,) and scale () do not broadcast to",
        ),
        (
            lambda r: r.normal(np.zeros(3), np.ones(2)),
            ValueError,
            "the shapes of loc (3,) and scale (2,) do not broadcast",
        ),
        (lambda r: r.bernoulli(1.5), ValueError, "bernoulli: expected p from 0 to 1, got 1.5"),
        (lambda r: r.bernoulli(np.nan), ValueError, "bernoulli: expected p from 0 to 1, got nan"),
        (lambda r: r.bernoulli(fg.tensor(0.5, requires_grad=True)), TypeError, "bernoulli: p requires gradients"),
        (lambda r: r.integers(3, 3), ValueError, "integers: expected bounds of int64"),
        (lambda r: r.integers(2**63 - 1, 2**63 + 1), ValueError, "integers: expected bounds of int64"),
        (lambda r: r.integers(2**33), ValueError, "integers: expected bounds of int64"),
        (lambda r: r.integers(2.5), TypeError, "integers: expected the bounds as ints, got 2.5"),
        (
            lambda r: fg.dropout([1.0], 1.0, r),
            ValueError,
            "dropout: expected a rate from 0 up to but not including 1, got 1.0",
        ),
        (
            lambda r: fg.dropout([1.0], 0.5, np.random.default_rng(0)),
            TypeError,
            "make one by fastgrad.random.default_rng(seed)",
        ),
        (
            lambda r: setattr(r, "state", {"key": 1}),
            ValueError,
            "expected the state of another fastgrad.random.Generator",
        ),
        (
            lambda r: setattr(r, "state", {**r.state, "key": -1}),
            ValueError,
            "expected the state's key as an int from 0",
        ),
    ],
)
def test_errors(act, error, text):
    rng = default_rng(0)
    before = rng.state
    with pytest.raises(error, match=re.escape(text)):
        act(rng)
    assert rng.state == before


# ---- state ----------------------------------------------------------------------------------------------------------
def test_seeds():
    numbers = [
        default_rng(seed).random().item()
        for seed in (0, 1, 2**100, [1, 2], [2, 1], np.random.SeedSequence(9), None, None)
    ]
    assert len(set(numbers)) == len(numbers)
    assert default_rng(np.int64(1)).random().item() == numbers[1]
    rng = default_rng(0)
    assert default_rng(rng) is rng


def test_state_copies_and_pickles():
    rng = default_rng(4)
    rng.random(10)
    state = rng.state
    others = [copy.copy(rng), copy.deepcopy(rng), pickle.loads(pickle.dumps(rng))]
    first = rng.random(5).tolist()
    assert rng.state != state
    for other in others:
        assert other.state == state
        assert other.random(5).tolist() == first
        assert other.spawn(1)[0].random().item() not in first
    rng.state = state
    assert rng.random(5).tolist() == first
    assert "Philox" in repr(rng)


def test_spawned_and_jumped_generators_differ():
    rng = default_rng(4)
    family = [rng, *rng.spawn(3), *rng.spawn(2), rng.jumped(), rng.jumped(2)]
    assert len({other.random().item() for other in family}) == len(family)
    states = [g.state for g in default_rng(4).spawn(5)]
    assert states == [{**g.state, "position": 0} for g in family[1:6]]


def test_threads_never_draw_the_same():
    rng, drawn = default_rng(0), []

    def work():
        drawn.extend([rng.random().item() for _ in range(500)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 2000


# ---- gradients ------------------------------------------------------------------------------------------------------
def test_gradients_reach_the_parameters():
    z = default_rng(1).standard_normal(50).numpy()
    loc, scale = np.array(0.5), np.array(2.0)
    g = fg.grad(lambda m, s: fg.sum(fg.square(default_rng(1).normal(m, s, 50))), argnums=(0, 1))(loc, scale)
    x = loc + scale * z
    np.testing.assert_allclose(g, [np.sum(2 * x), np.sum(2 * x * z)], rtol=1e-12)
    u = default_rng(1).random(50).numpy()
    g = fg.grad(lambda a, b: fg.sum(default_rng(1).uniform(a, b, 50)), argnums=(0, 1))(0.0, 1.0)
    np.testing.assert_allclose(g, [np.sum(1 - u), np.sum(u)], rtol=1e-12)
    g = fg.grad(lambda s: fg.sum(default_rng(1).exponential(s, 50)))(3.0)
    np.testing.assert_allclose(g, -np.sum(np.log(1 - u)), rtol=1e-12)
    assert not default_rng(1).standard_normal(3).requires_grad


def test_dropout():
    x = fg.tensor(np.linspace(1, 2, 10_000), dtype=np.float32, requires_grad=True)
    y = fg.dropout(x, 0.25, default_rng(0))
    assert y.dtype == np.float32
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - 0.75) < 4 * np.sqrt(0.1875 / 1e4)
    np.testing.assert_allclose(y.detach().numpy()[kept], x.detach().numpy()[kept] / 0.75, rtol=1e-6)
    y.backward(fg.ones(10_000, dtype=np.float32))
    np.testing.assert_allclose(x.grad.numpy(), kept / 0.75, rtol=1e-6)
    rng = default_rng(0)
    assert fg.dropout(x, 0, rng) is x and rng.state["position"] == 0
    assert fg.dropout([np.inf, np.nan] * 20, 0.5, rng).numpy().tolist().count(0.0) > 5


# ---- compiled -------------------------------------------------------------------------------------------------------
def several(rng):
    def f(x):
        a = rng.random(x.shape)
        b = rng.standard_normal(x.shape, np.float32)
        rng.random(100)  # no result needs it
        c = rng.normal(fg.mean(x), fg.exp(x))
        return a * x, b, c, rng.integers(10, size=4), rng.bernoulli(fg.sigmoid(x)), rng.random(x.shape) - a

    return f


def test_replays_draw_what_eager_calls_draw():
    rng, twin = default_rng(8), default_rng(8)
    compiled, f = fg.compile(several(rng)), several(twin)
    seen = set()
    for n in (3, 3, 3000, 3, 3000):
        x = np.linspace(-1, 1, n)
        for found, wanted in zip(compiled(x), f(fg.tensor(x))):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted.numpy())
            seen.add(found.tobytes())
        assert rng.state == twin.state
        assert rng.random().item() == twin.random().item()  # between the replays too
    assert len(seen) > 20
    assert str(compiled.program(x)).count("= random") == 9


def test_a_draw_without_arguments_is_fresh():
    rng = default_rng(8)
    f = fg.compile(lambda x: rng.random())
    assert len({float(f(1.0)) for _ in range(5)}) == 5


def test_two_generators_in_one_state_stay_two():
    a, b = default_rng(8), default_rng(8)
    f = fg.compile(lambda x: (x + a.random(), x + b.random()))
    for _ in range(3):
        x, y = f(0.0)
        assert x == y  # one generator drawn from twice would give two numbers
    assert a.state == b.state
    a.random()
    x, y = f(0.0)
    assert x != y
    program = f.program(0.0)
    assert not program.same_as(fg.compile(lambda x: (x + a.random(), x + a.random())).program(0.0))


def test_a_program_keeps_its_generator():
    f = fg.compile(lambda x, rng: x + rng.random(), static_argnums=1)
    rng, twin = default_rng(8), default_rng(8)
    program = f.program(0.0, rng)
    del f, rng
    for _ in range(3):
        assert program.run([np.zeros(())])[0] == twin.random().item()


def test_tracing_draws_nothing():
    rng = default_rng(0)
    fg.compile(lambda x: x + rng.random(5)).program(1.0)
    with pytest.raises(TypeError):
        fg.compile(lambda x: float(x + rng.random()))(1.0)
    assert rng.state == default_rng(0).state


def test_verify_compares_the_same_draws():
    rng, twin = default_rng(8), default_rng(8)
    f = fg.compile(lambda x: x * rng.standard_normal(x.shape), verify=True)
    for _ in range(3):
        np.testing.assert_array_equal(f(np.ones(4)), twin.standard_normal(4).numpy())
        assert rng.state == twin.state
    calls = []
    count = lambda: calls.append(None) or len(calls) - 1
    odd = fg.compile(lambda x: x * [rng.random(100) for _ in range(1 + count() // 2)][0].mean(), verify=True)
    odd(1.0)
    with pytest.raises(AssertionError, match="drew more or fewer random numbers"):
        odd(1.0)


@pytest.mark.parametrize(
    "act",
    [
        lambda rng: rng.state,
        lambda rng: setattr(rng, "state", {}),
        lambda rng: rng.spawn(1),
        lambda rng: rng.jumped(),
        lambda rng: copy.deepcopy(rng),
        lambda rng: default_rng(0),
    ],
)
def test_what_a_replay_would_not_repeat_is_refused(act):
    rng = default_rng(0)

    def f(x):
        act(rng)
        return x

    with pytest.raises(fg.TraceError, match=r"while the function is traced \(.*(test_random|copy).py, line \d+\)"):
        fg.compile(f)(1.0)


def test_sizes_are_static():
    rng = default_rng(0)
    for draw in (rng.random, rng.standard_normal, lambda n: rng.normal(size=n)):
        with pytest.raises(fg.TraceError, match="the value of a tensor was asked for"):
            fg.compile(lambda n: draw(n))(3)


def test_gradients_of_a_compiled_draw():
    rng, twin = default_rng(2), default_rng(2)
    f = fg.compile(fg.value_and_grad(lambda p: fg.sum(rng.normal(p["loc"], fg.exp(p["log"])) ** 2)))
    p = {"loc": np.array([1.0, 2.0]), "log": np.array([0.0, -1.0])}
    for _ in range(4):
        value, g = f(p)
        z = twin.standard_normal(2).numpy()
        x = p["loc"] + np.exp(p["log"]) * z
        np.testing.assert_allclose(value, np.sum(x**2), rtol=1e-12)
        np.testing.assert_allclose(g["loc"], 2 * x, rtol=1e-12)
        np.testing.assert_allclose(g["log"], 2 * x * np.exp(p["log"]) * z, rtol=1e-12)


def test_a_training_step_with_dropout_is_traced():
    def train(compile):
        rng = default_rng(3)

        def loss(p, x, y):
            hidden = fg.dropout(fg.tanh(x @ p["a"]), 0.5, rng)
            return fg.losses.mse(hidden @ p["b"], y)

        data = np.random.default_rng(0)
        p = {"a": data.normal(size=(3, 64)), "b": data.normal(size=(64, 1))}
        step = fg.training_step(loss, p, "adam", compile=compile)
        values = [step(data.normal(size=(16, 3)), np.ones((16, 1))) for _ in range(8)]
        if compile:
            assert "random" in str(step.program(np.zeros((16, 3)), np.ones((16, 1))))
        return values, p, rng.state

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (values, p, state), (wanted, q, end) = train(True), train(False)
    assert state == end
    np.testing.assert_allclose(values, wanted, rtol=1e-12)
    for name in p:
        np.testing.assert_allclose(p[name], q[name], rtol=1e-12)


def test_a_generator_made_in_a_mapped_function_is_refused_in_the_name_of_vmap():
    with pytest.raises(
        fg.TraceError, match=r"^vmap: a generator was made in a function that is mapped \(.*test_random.py, line"
    ):
        fg.vmap(lambda x: x + fg.random.default_rng(0).normal())(np.ones(3))
    with pytest.raises(fg.TraceError, match="^compile: a generator was made while the function is traced"):
        fg.compile(lambda x: x + fg.random.default_rng(0).normal())(np.ones(3))


@pytest.mark.parametrize("n", [-1, 2**63 - 1, 10**30])
def test_spawn_refuses_numbers_of_children_that_it_would_not_finish(n):
    with pytest.raises(ValueError, match=f"^spawn: expected from 0 to 10,000,000 children, got {n}$"):
        fg.random.default_rng(0).spawn(n)
    with pytest.raises(TypeError):
        fg.random.default_rng(0).spawn(2.0)
