"""Each rule by which programs are rewritten, at inf, nan, -0.0, subnormal numbers and the edge of overflow.

A replay has the bits of the eager run. Native programs are infinite or nan where it is, and have its zeros' signs.
"""

import numpy as np
import pytest
from _native import native, needs_compiler, own_directory  # noqa: F401
from _replay import eager_arrays, same_tree

import fastgrad as fg


def extremes(dtype):
    """Pairs of all that are not ordinary numbers, and some that are."""
    kind = np.finfo(dtype)
    edge = np.sqrt(kind.max)
    numbers = [np.inf, -np.inf, np.nan, 0.0, -0.0, kind.smallest_subnormal, -kind.tiny / 2, kind.tiny, kind.max,
               -kind.max, edge * 1.01, -edge, 1.0, -3.0]  # fmt: skip
    x, y = np.meshgrid(np.array(numbers, dtype), np.array(numbers, dtype))
    return x.ravel(), y.ravel()


def looped(step):
    """Three steps of a loop whose values grow or vanish."""
    return lambda x, y: fg.fori_loop(0, 3, lambda i, c: step(c, y), x)


# By pass of csrc/program/compile.c; the length of x and y is that of extremes(), or longer
ELEMENTWISE = {
    "times 1": lambda x, y: (x * 1.0, 1.0 * y),
    "times 0": lambda x, y: (x * 0.0, x * -0.0),
    "times -1": lambda x, y: (x * -1.0, -x),
    "times ones": lambda x, y: x * np.ones(len(x), x.dtype) + y,
    "times inf": lambda x, y: (x * np.inf, x * np.nan),
    "plus 0": lambda x, y: (x + 0.0, 0.0 + x, x + -0.0, -0.0 + x),
    "minus 0": lambda x, y: (x - 0.0, x - -0.0, 0.0 - x, -0.0 - x),
    "plus zeros": lambda x, y: (x + np.zeros(len(x), x.dtype), x - np.full(len(x), -0.0, x.dtype)),
    "over 1": lambda x, y: (x / 1.0, 1.0 / x, x / -1.0),
    "over 3": lambda x, y: (x / 3.0, x / np.full(len(x), 3.0, x.dtype)),
    "x - x": lambda x, y: (x - x, x / x, x + x),
    "x * x": lambda x, y: (x * x, (x * y) * (x * y), x * x * y),
    "x * y - x * y": lambda x, y: x * y - x * y,
    "common factor": lambda x, y: x * y + x * 2.0,
    "powers": lambda x, y: (x**2, x**3, x**0, x**1, x**0.5, x**-1, x**-2),
    "power of powers": lambda x, y: ((x**2) ** 0.5, fg.sqrt(x) ** 2, fg.sqrt(x * x)),
    "inverse": lambda x, y: (fg.log(fg.exp(x)), fg.exp(fg.log(x)), fg.tanh(fg.arctanh(x))),
    "negative twice": lambda x, y: (-(-x), 0.0 - (0.0 - x), -(x - y)),
    "absolute": lambda x, y: (abs(x), abs(-x), fg.sign(x), fg.copysign(x, y)),
    "cast there and back": lambda x, y: fg.astype(fg.astype(x, np.float64), x.dtype),
    "cast down and up": lambda x, y: fg.astype(fg.astype(x, np.float32), x.dtype),
    "product and sum": lambda x, y: (x * y + x, x * y - y, x - x * y),
    "extremes": lambda x, y: (fg.maximum(x, y), fg.minimum(x, y), fg.maximum(x, 0.0), fg.fmax(x, y), fg.clip(x, -1, 1)),
    "where": lambda x, y: (fg.where(x > y, x, y * 0.0), fg.where(x == x, x, y), fg.where(x > 0, x, 0.0)),
    "comparisons as numbers": lambda x, y: fg.astype(x > y, x.dtype) * x,
    "equal expressions": lambda x, y: (fg.exp(x) * y, fg.exp(x) + y, fg.exp(x * 1.0)),
    "unused": lambda x, y: (x / 0.0, x)[1] + y,
    "slices": lambda x, y: x[1:] * y[:-1] + x[:-1],
    "reversed twice": lambda x, y: x[::-1][::-1] * y,
    "joined": lambda x, y: fg.concatenate([x[3:], y[:3]]) * x,
    "padded": lambda x, y: fg.pad(x[1:], (1, 0)) + fg.pad(y[1:], (1, 0)),
    "gathered": lambda x, y: fg.take(x, [0, 2, 2, 4]) * fg.take(y, [1, 1, 1, 0]),
    "sum": lambda x, y: (fg.sum(x), fg.mean(y), fg.sum(x * y)),
    "rows": lambda x, y: x.reshape(-1, 14) * y.reshape(-1, 14)[:, :1] + y.reshape(-1, 14)[:1],
    "rows summed": lambda x, y: (x.reshape(-1, 14) * y.reshape(-1, 14)).sum(1),
    "softmax": lambda x, y: fg.softmax(x.reshape(-1, 14), -1) * y.reshape(-1, 14),
    "logsumexp": lambda x, y: fg.logsumexp(x.reshape(-1, 14), -1),
    "extremes of rows": lambda x, y: (x.reshape(-1, 14).max(1), y.reshape(-1, 14).min(0), fg.sort(x)),
    "running": lambda x, y: (fg.cumsum(x), fg.cumprod(y)),
}  # fmt: skip

LOOPS = {
    "doubled": looped(lambda c, y: c * y + c),
    "squared": looped(lambda c, y: c * c - y),
    "divided": looped(lambda c, y: y / c),
    "branch": lambda x, y: fg.cond(fg.sum(x[:1]) > 0, lambda x, y: x * y, lambda x, y: x / y, x, y),
    "stacked": lambda x, y: fg.scan(lambda c, r: (c * r, c - r), x, fg.stack([y, x, y * 2.0])),
    "unread carry": lambda x, y: fg.scan(lambda c, r: ((c[0] * r, r / c[0]), None), (x, y), fg.stack([y, x, y]))[0],
    "while": lambda x, y: fg.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * y + x, c[1] + 1), (x, 0))[0],
}  # fmt: skip

CASES = ELEMENTWISE | LOOPS


def parts(f):
    """f with its results as a list."""
    return lambda x, y: fg.tree.leaves(f(x, y))


@pytest.fixture(autouse=True)
def quietly():
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("repeats", [1, 16], ids=["short", "fused"])
@pytest.mark.parametrize("name", CASES)
def test_a_replay_has_the_bits_of_the_eager_run(name, repeats, dtype):
    x, y = (np.tile(v, repeats) for v in extremes(dtype))
    f = parts(CASES[name])
    same_tree(fg.compile(f, native=False)(x, y), eager_arrays(f, x, y))
    same_tree(fg.compile(lambda x, y: fg.jvp(f, (x, y), (y, x)), native=False)(x, y),
              fg.tree.map(np.asarray, fg.jvp(f, (x, y), (y, x))))  # fmt: skip
    if name == "while":  # has no gradient where it is traced
        return

    def gradients(x, y):
        """Of each result, from cotangents that are extremes, too."""
        results, pull = fg.vjp(lambda x, y: [fg.ravel(r) for r in f(x, y)], x, y)
        return pull([fg.stop_gradient(fg.resize(fg.concatenate([y, x]), len(r))) for r in results])

    found, expected = fg.compile(gradients, native=False)(x, y), gradients(x, y)
    if name not in LOOPS:
        same_tree(found, expected)
    for a, b in zip(found, expected):  # a loop adds the gradients of its steps to no padding of zeros: -0.0 stays
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_infinite_or_nan_where_they_are_in_the_eager_run(dtype):
    """Their sums may have another order, which without overflow decides about finite numbers alone."""
    rng = np.random.default_rng(0)
    a, b = rng.choice(np.array([0.0, 1.5, -2.0], dtype), (2, 9, 9))
    a[1, 2], a[6, 4], b[3, 3], b[7, 1], b[0, 0] = np.inf, -0.0, -np.inf, np.nan, np.inf

    def f(a, b):
        return (
            a.T @ b,
            a.T.T @ b + b @ a,
            a @ b + a,
            (a @ b).T @ a.T,
            a @ b[:, 0],
            a[0] @ b,
            fg.einsum("ij,kj->ki", a, b),
        )

    def gradients(a, b):
        results, pull = fg.vjp(f, a, b)
        return pull(fg.tree.map(fg.stop_gradient, results))

    for found, expected in zip(fg.compile(f, native=False)(a, b), eager_arrays(f, a, b)):
        assert not np.isnan(expected).all()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for found, expected in zip(fg.compile(gradients, native=False)(a, b), gradients(a, b)):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_native_programs_at_the_same_numbers(dtype):
    x, y = extremes(dtype)
    f = lambda x, y: {name: parts(case)(x, y) for name, case in CASES.items()}
    found, expected = native(f, x, y)(x, y), fg.compile(f, native=False)(x, y)
    for name in CASES:
        for a, b in zip(found[name], expected[name]):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b), name)
            np.testing.assert_array_equal(np.isinf(a), np.isinf(b), name)
            zeros = (a == 0) & (b == 0)
            np.testing.assert_array_equal(np.signbit(a[zeros]), np.signbit(b[zeros]), name)
            finite = np.isfinite(b)
            np.testing.assert_allclose(
                a[finite], b[finite], 16 * np.finfo(dtype).eps, np.finfo(dtype).tiny, err_msg=name
            )
