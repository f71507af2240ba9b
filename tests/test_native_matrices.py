"""Native programs: linear algebra of small matrices is written out, beside the interpreter and NumPy."""

import numpy as np
import pytest
from _native import agree, needs_compiler, own_directory, rounds_as_compiled_now  # noqa: F401

import fastgrad as fg
from fastgrad._native import emit

pytestmark = needs_compiler


def matrix(n, dtype=np.float64):
    """A symmetric positive definite matrix."""
    a = np.random.default_rng(n).normal(size=(n, n))
    return (a @ a.T + np.eye(n)).astype(dtype)


FUNCTIONS = {
    "cholesky": lambda a, b: np.linalg.cholesky(a) @ b,
    "solve": lambda a, b: np.linalg.solve(a[::-1] * 1.0, b),
    "solve a vector": lambda a, b: np.linalg.solve(a[::-1] * 1.0, b[:, 0]),
    "solve, symmetric": lambda a, b: fg.linalg.solve(a, b, assume_a="pos"),
    "solve_triangular": lambda a, b: fg.linalg.solve_triangular(a, b, lower=True),
    "solve_triangular, upper": lambda a, b: fg.linalg.solve_triangular(a, b[:, 0], lower=False),
    "inv": lambda a, b: np.linalg.inv(a[::-1] * 1.0) @ b,
    "det": lambda a, b: np.linalg.det(a * 0.3) * b,
    "slogdet": lambda a, b: np.linalg.slogdet(a[::-1] * 1.0)[1] * b,
    "tril": lambda a, b: np.tril(a, -1) @ b + np.triu(a) @ b,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
def test_small_matrices(name, n, dtype):
    f, a = FUNCTIONS[name], matrix(n, dtype)
    b = np.random.default_rng(7).normal(size=(n, 3)).astype(dtype)

    def value_and_gradients(a, b):
        value, (ga, gb) = fg.value_and_grad(lambda a, b: fg.sum(f(a, b) ** 2), (0, 1))(a, b)
        return f(a, b), value, ga, gb

    native, replay = fg.compile(value_and_gradients, native=True), fg.compile(value_and_gradients, native=False)
    found, expected = native(a, b), replay(a, b)
    agree(found, expected, name, ulps=256, single=dtype == np.float32)
    source = emit.c_source(native.program(a, b))
    assert not {"cholesky", "factor", "solve", "solve_triangular", "slogdet", "triangle", "cholesky_adjoint"} & set(
        source.interpreted
    ), source.interpreted
    if name == "solve":
        wide = np.linalg.solve(a[::-1].astype(np.float64), b.astype(np.float64))
        np.testing.assert_allclose(found[0], wide, rtol=1e-2 if dtype == np.float32 else 1e-9, atol=1e-3)


def test_larger_matrices_and_stacks_are_left_to_the_interpreter():
    a, stack = matrix(9), np.stack([matrix(3), matrix(3) + 1])
    native = fg.compile(lambda a, s: (np.linalg.cholesky(a) * 2, np.linalg.inv(s) + 1), native=True)
    agree(native(a, stack), (np.linalg.cholesky(a) * 2, np.linalg.inv(stack) + 1), "larger", ulps=4096)
    interpreted = emit.c_source(native.program(a, stack)).interpreted
    assert {"cholesky", "factor", "solve"} <= set(interpreted)


def kalman(q, r, observed):
    """The log-likelihood of observed places under a model of constant velocity in the plane."""
    forward, seen = np.eye(4) + 0.1 * np.diag([1.0, 1.0], 2), np.eye(2, 4)

    def step(state, y):
        m, p = forward @ state[0], forward @ state[1] @ forward.T + q * np.eye(4)
        s, e = seen @ p @ seen.T + r * np.eye(2), y - seen @ m
        gain = np.linalg.solve(s, seen @ p).T
        likely = e @ np.linalg.solve(s, e) + np.linalg.slogdet(s)[1]
        return (m + gain @ e, p - gain @ s @ gain.T), likely

    return -0.5 * np.sum(fg.scan(step, (np.zeros(4), np.eye(4)), observed)[1])


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
def test_factors_in_a_loop(dtype):
    rng = np.random.default_rng(0)
    args = [rng.normal(size=shape).astype(dtype) for shape in ((3, 3), (5, 3))]

    def factored(a, rows):
        def step(c, row):
            m = a @ a.T + 3 * np.eye(3, dtype=dtype) + np.outer(row, row)
            low = np.linalg.cholesky(m)
            return np.tanh((np.linalg.solve(m, c) + row) @ low), np.sum(np.log(np.diag(low)))

        c, logarithms = fg.scan(step, np.ones(3, dtype), rows)
        return np.sum(c * c) + np.sum(logarithms)

    f = fg.value_and_grad(factored, (0, 1))
    native, replay = fg.compile(f, native=True), fg.compile(f, native=False)
    agree(native(*args), replay(*args), "factored", ulps=256)
    assert emit.c_source(native.program(*args)).interpreted == []


def test_a_kalman_filter_has_no_step_of_the_interpreter():
    observed = np.random.default_rng(0).normal(size=(50, 2)).cumsum(0)
    f = fg.value_and_grad(lambda q, r: kalman(q, r, observed), (0, 1))
    native, replay = fg.compile(f, native=True), fg.compile(f, native=False)
    agree(native(0.1, 0.5), replay(0.1, 0.5), "kalman", ulps=256)
    assert emit.c_source(native.program(0.1, 0.5)).interpreted == []
    assert native.program(0.1, 0.5).facts["native"]["share"] == 1.0


REFUSED = {
    "cholesky": (np.linalg.cholesky, -np.eye(3)),
    "inv": (np.linalg.inv, np.zeros((3, 3))),
    "solve": (lambda a: np.linalg.solve(a, np.ones(3)), np.ones((3, 3))),
    "positive": (lambda a: fg.linalg.solve(a, np.ones(3), assume_a="pos"), -np.eye(3)),
    "triangular": (lambda a: fg.linalg.solve_triangular(a, np.ones(3)), np.diag([1.0, 0, 1])),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("in_loop", [False, True], ids=["alone", "in a loop"])
def test_refused_matrices_are_told_as_by_the_interpreter(name, in_loop):
    f, bad = REFUSED[name]

    def looped(a):
        return fg.scan(lambda c, k: (c + f(np.eye(3) * (1 - k) + a * k).sum(), c), 0.0, np.array([0.0, 0.0, 1.0]))[0]

    told = []
    for native in (True, False):
        compiled = fg.compile(looped if in_loop else f, native=native)
        good = compiled(np.eye(3))
        with pytest.raises(np.linalg.LinAlgError) as error:
            compiled(bad)
        told.append(str(error.value))
        np.testing.assert_array_equal(compiled(np.eye(3)), good)
    assert told[0] == told[1]


def test_a_determinant_of_zero_and_nan():
    native, replay = (fg.compile(lambda a: np.linalg.slogdet(a), native=how) for how in (True, False))
    for a in (np.zeros((3, 3)), np.full((3, 3), np.nan), np.eye(3)[::-1] * 2):
        for x, y in zip(native(a), replay(a)):
            np.testing.assert_array_equal(x, y)
