"""Linear algebra, value and gradient in float64: programs that are made of it, beside jax.jit, and beside the calls of
LAPACK that they consist of; many small matrices at once."""

import statistics
import timeit

import numpy as np
import pytest
from _compare import compare, limit, one_thread, peer, slopes_by_both

import fastgrad as fg

jax = peer("jax")
scipy_linalg = peer("scipy.linalg")
if jax:
    import jax.numpy
    import jax.scipy.linalg

    jax.config.update("jax_enable_x64", True)


# ---- a Gaussian process ----------------------------------------------------------------------------------------------
def gaussian_process(module, linalg):
    """The negative log marginal likelihood of noisy values y at points x, by scale, length and noise as logarithms."""

    def loss(parameters, x, y):
        scale, length, noise = module.exp(parameters)
        distance = (x[:, None] - x[None, :]) ** 2
        k = scale * module.exp(-0.5 * distance / length**2) + noise * module.eye(len(x))
        factor = linalg.cholesky(k, lower=True)
        half = linalg.solve_triangular(factor, y, lower=True)
        return 0.5 * (half @ half) + module.sum(module.log(module.diagonal(factor)))

    return loss


class Scipy:
    """fastgrad's functions with SciPy's argument, as JAX's have it."""

    solve_triangular = staticmethod(fg.linalg.solve_triangular)

    @staticmethod
    def cholesky(a, lower):
        return fg.linalg.cholesky(a, upper=not lower)


def by_lapack(n):
    """The calls of LAPACK and of BLAS for a factor, and for its gradient by the formula with whole matrices: a product
    and two triangular equations of n right-hand sides (Murray 2016, section 3.2). This is what jax.jit calls."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(n, n))
    k, g = np.asfortranarray(a @ a.T + n * np.eye(n)), np.asfortranarray(np.tril(a))
    (potrf,) = scipy_linalg.get_lapack_funcs(("potrf",), (k,))
    trsm, trmm = scipy_linalg.get_blas_funcs(("trsm", "trmm"), (k,))

    def calls():
        factor, _ = potrf(k, lower=1)
        half = trsm(1.0, factor, trmm(1.0, factor, g, lower=1, trans_a=1), lower=1, trans_a=1)
        trsm(1.0, factor, half, lower=1, side=1)

    return calls


@pytest.mark.parametrize("n", [200, 1000])
def test_gaussian_process(benchmark, n):
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 10, n))
    y = np.sin(x) + 0.1 * rng.normal(size=n)
    parameters = np.log([1.0, 1.0, 0.1])
    theirs = jax and gaussian_process(jax.numpy, jax.scipy.linalg)
    ours, peers = slopes_by_both(gaussian_process(np, Scipy), theirs, (parameters, x, y), 0)
    compare(benchmark, f"Gaussian process of {n:,} points", ours, peers, {"jax.jit": 0.6}, atol=1e-5)
    if scipy_linalg and n == 1000:
        with one_thread():
            calls = by_lapack(n)
            ratios = [timeit.timeit(ours, number=1) / timeit.timeit(calls, number=1) for _ in range(15)]
        limit(f"Gaussian process of {n:,} points, to LAPACK's calls alone", statistics.median(ratios), 1.1, "times")


# ---- a Kalman filter -------------------------------------------------------------------------------------------------
def kalman(module, linalg, scan):
    """The negative log-likelihood of outputs by transition, logarithms of noises, and the outputs' matrix."""

    def loss(transition, noises, outputs, ys):
        q, r = module.exp(noises[0]) * module.eye(4), module.exp(noises[1]) * module.eye(2)

        def step(carry, y):
            m, p = carry
            m, p = transition @ m, transition @ p @ transition.T + q
            error = y - outputs @ m
            s = outputs @ p @ outputs.T + r
            gain = linalg.solve(s, outputs @ p).T
            total = error @ linalg.solve(s, error) + linalg.slogdet(s)[1]
            return (m + gain @ error, p - gain @ outputs @ p), 0.5 * total

        return module.sum(scan(step, (module.zeros(4), module.eye(4)), ys)[1])

    return loss


def test_kalman_filter(benchmark):
    rng = np.random.default_rng(0)
    steps = 500
    transition = 0.9 * np.linalg.qr(rng.normal(size=(4, 4)))[0]
    arguments = (transition, np.log([0.1, 0.2]), rng.normal(size=(2, 4)), rng.normal(size=(steps, 2)))
    theirs = jax and kalman(jax.numpy, jax.numpy.linalg, jax.lax.scan)
    ours, peers = slopes_by_both(kalman(np, np.linalg, fg.scan), theirs, arguments, (0, 1, 2))
    compare(benchmark, f"Kalman filter of 4 states, {steps} steps", ours, peers, {"jax.jit": 0.15}, atol=1e-5)


# ---- many small matrices ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize("work", ["solve", "cholesky"])
def test_stacks(benchmark, work, gradient):
    rng = np.random.default_rng(0)
    n = 4 if work == "solve" else 6
    a = rng.normal(size=(500, n, n))
    a = a @ a.transpose(0, 2, 1) + n * np.eye(n)
    operands = (a, rng.normal(size=(500, n, 1))) if work == "solve" else (a,)

    def function(linalg):
        return lambda *xs: getattr(linalg, work)(*xs)

    def loss(linalg):
        return lambda *xs: (getattr(linalg, work)(*xs) ** 2).sum()

    if gradient:
        ours, peers = slopes_by_both(
            loss(np.linalg), jax and loss(jax.numpy.linalg), operands, tuple(range(len(operands)))
        )
    else:
        replay = fg.compile(function(np.linalg))
        ours, peers = lambda: replay(*operands), {}
        if jax:
            compiled = jax.jit(function(jax.numpy.linalg))
            peers["jax.jit"] = lambda: jax.block_until_ready(compiled(*operands))
    what = f"500 {'solutions' if work == 'solve' else 'Cholesky factors'} of {n}x{n}"
    compare(benchmark, f"{what}, {'gradient' if gradient else 'value'}", ours, peers, {"jax.jit": 0.3}, atol=1e-6)
