"""Jacobians of short eager functions by forward mode: one pass over the tape pushes the rows of all directions together
(csrc/autodiff/forward.c). Each column is compared with a jvp along its unit vector, a pass of its own."""

import numpy as np
import pytest

import fastgrad as fg

RNG = np.random.default_rng(7)
W, LEFT, INDEX = RNG.normal(size=(6, 4)), RNG.normal(size=(5, 6)), np.array([3, 0, 0, -1])
SQUARE = RNG.normal(size=(6, 6)) + 6 * np.eye(6)
GRID = np.linspace(0, 1, 50)

FUNCTIONS = {
    "nothing": lambda x: x,
    "elementwise": lambda x: np.tanh(x) * np.exp(-x * x) / (1 + x**2) - np.arctan2(x, 2.0) + 3,
    "signs": lambda x: -x + (1 - x) - (x - 2),
    "broadcast": lambda x: x[:, None] * x[:3] + x[0] - x[1:2, None],
    "constants broadcast": lambda x: x + np.ones((3, 1, 6)),
    "scalars": lambda x: x[0] * GRID + np.sin(x[3] * GRID) / x[1],
    "slices": lambda x: fg.concatenate([x[::2], x[::-1], np.zeros(2), x[1:4]]),
    "many pieces": lambda x: fg.concatenate([x[k % 6 :] for k in range(14)]),
    "scalars stacked": lambda x: fg.stack([x[k % 6] * k for k in range(13)]),
    "product on the left": lambda x: x @ W,
    "product on the right": lambda x: LEFT @ x,
    "transposed products": lambda x: fg.stack([(LEFT.T @ (LEFT @ x)), (W @ (W.T @ x))]),
    "products of matrices": lambda x: x.reshape(2, 3) @ (x.reshape(3, 2) * 2) @ x[:4].reshape(2, 2).T,
    "stacked products": lambda x: np.ones((4, 1, 3)) @ x.reshape(3, 2),
    "product with itself": lambda x: x @ x,
    "sums": lambda x: fg.stack([x.sum(), (x.reshape(2, 3).sum(0, keepdims=True) ** 2).sum(), np.cumsum(x)[4]]),
    "sum of outer axes": lambda x: np.sum(x.reshape(2, 3, 1) * np.ones(4), (0, 2)),
    "gathers": lambda x: x[INDEX] * np.take(x.reshape(3, 2), [2, 2], 0).reshape(4),
    "transposes": lambda x: x.reshape(1, 2, 3).transpose(2, 0, 1) * 2.0,
    "rules in Python": lambda x: fg.stack([np.max(x), np.prod(x), fg.logsumexp(x), np.where(x > 0, x, x**2).sum()]),
    "where": lambda x: np.where(np.arange(6) % 2 == 0, x, 1.0) + np.where(x > 0, 2.0, x),
    "softmax": lambda x: fg.softmax(x.reshape(2, 3)) - fg.log_softmax(x.reshape(2, 3)),
    "extremes of rows": lambda x: np.max(x.reshape(2, 3), 1) - np.sort(x)[:2],
    "equations": lambda x: np.linalg.solve(SQUARE + x[:, None] * x, x),
    "special": lambda x: fg.special.polygamma(1, x**2 + 1),
    "no derivative": lambda x: np.floor(x) + fg.asarray(np.ones(6)),
    "a constant beside": lambda x: (x * 2, np.ones(3), {"y": np.sum(x)}),
    "no elements": lambda x: x[:0] * 2,
}  # fmt: skip


def columns(f, x):
    """The leaves of f's Jacobian, column by column."""
    units = np.eye(x.size, dtype=x.dtype).reshape(-1, *x.shape)
    found = [fg.tree.leaves(fg.jvp(f, (x,), (unit,))[1]) for unit in units]
    return [np.stack(parts, -1).reshape(*np.shape(parts[0]), *x.shape) for parts in zip(*found, strict=True)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_columns_are_those_of_jvp(name, dtype):
    f, x = FUNCTIONS[name], RNG.normal(size=6).astype(dtype)
    found = fg.tree.leaves(fg.jacfwd(f)(x))
    expected = columns(f, x)
    assert len(found) == len(expected)
    for mine, one in zip(found, expected, strict=True):
        assert mine.shape == one.shape and mine.dtype == one.dtype
        tolerance = 1e-12 if dtype == np.float64 else 2e-4
        np.testing.assert_allclose(mine, one, tolerance, tolerance)


@pytest.mark.parametrize("n", [2, 3, 9, 26, 70, 181])
def test_any_number_of_directions(n):
    x = RNG.normal(size=n)
    chain = lambda x: np.sin(x[1:]) * x[:-1] + np.sum(x)
    expected = np.zeros((n - 1, n)) + 1
    expected[np.arange(n - 1), np.arange(n - 1)] += np.sin(x[1:])
    expected[np.arange(n - 1), np.arange(1, n)] += np.cos(x[1:]) * x[:-1]
    np.testing.assert_allclose(fg.jacfwd(chain)(x), expected, 1e-13)


def test_several_arguments_of_two_dtypes():
    a, b, c = RNG.normal(size=(2, 2)), np.float32(RNG.normal(size=3)), 0.5
    f = lambda a, rest: {"y": np.sum(a * rest["c"]) * rest["b"].astype(np.float64), "z": a[0] * 2}
    (by_a, by_rest) = fg.jacfwd(f, argnums=(0, 1))(a, {"b": b, "c": c})["y"]
    np.testing.assert_allclose(by_a, np.broadcast_to((c * np.float64(b))[:, None, None], (3, 2, 2)), 1e-6)
    np.testing.assert_allclose(by_rest["b"], np.sum(a) * c * np.eye(3), 1e-6)
    np.testing.assert_allclose(by_rest["c"], np.sum(a) * np.float64(b), 1e-6)


def test_zeros_of_unit_vectors_times_infinity_are_zeros():
    x = np.array([0.0, 4.0, 9.0])
    np.testing.assert_array_equal(fg.jacfwd(np.sqrt)(x), np.diag([np.inf, 0.25, 1 / 6]))


def test_error_in_a_rule_is_told_and_nothing_is_left_behind():
    @fg.custom_jvp
    def f(x):
        return x * 2

    @f.defjvp
    def rule(primals, tangents):
        raise KeyError("of the rule")

    x = np.ones(3)
    with pytest.raises(KeyError, match="of the rule"):
        fg.jacfwd(lambda x: f(x) + x)(x)
    np.testing.assert_array_equal(fg.jacfwd(lambda x: x * x)(x), 2 * np.eye(3))


def test_more_axes_than_a_stack_may_have():
    x = np.ones(2)
    deep = (1,) * 31 + (2,)
    with pytest.raises(ValueError, match="at most 32 axes"):
        fg.jacfwd(lambda x: x.reshape(deep) * 2)(x)
    with pytest.raises(ValueError, match="expected tangents with a first axis of length 4"):
        watched = fg._core.watch(x)
        fg._core.push([watched * 2], [watched], [fg.tensor([1.0, 2.0])], bytes(300), None, 4)
