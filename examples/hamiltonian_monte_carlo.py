"""Hamiltonian Monte Carlo: samples of a Bayesian linear model whose noise is unknown.

A trajectory of leapfrog steps with its draws, energies and acceptance is one compiled program, and the chain a `scan`
of trajectories within it: thousands of gradients in one call.
"""

import numpy as np

import fastgrad as fg

rng = np.random.default_rng(0)
n = 100
x = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
y = x @ [1.0, -2.0, 0.5] + 0.5 * rng.normal(size=n)


def log_posterior(q):
    """The last parameter is the logarithm of the noise."""
    weights, log_noise = q[:3], q[3]
    likelihood = fg.stats.norm.logpdf(y, x @ weights, fg.exp(log_noise)).sum()
    return likelihood + fg.stats.norm.logpdf(weights, scale=10.0).sum() + fg.stats.norm.logpdf(log_noise)


slope = fg.grad(log_posterior)
draws = fg.random.default_rng(1)
size, steps = 0.04, 15


def trajectory(q, _):
    p = draws.normal(size=4)

    def leapfrog(i, state):
        q, p = state
        p = p + 0.5 * size * slope(q)
        q = q + size * p
        return q, p + 0.5 * size * slope(q)

    end, momentum = fg.fori_loop(0, steps, leapfrog, (q, p))
    gain = log_posterior(end) - log_posterior(q) + 0.5 * (p @ p - momentum @ momentum)
    accepted = fg.log(draws.random()) < gain
    q = fg.where(accepted, end, q)
    return q, (q, accepted)


chain = fg.compile(lambda q: fg.scan(trajectory, q, length=1500)[1])
samples, accepted = chain(np.zeros(4))
kept = samples[500:]
print(f"{accepted[500:].mean():.0%} of the trajectories were accepted")
for name, values in zip(["offset", "first", "second"], kept.T):
    print(f"{name:7s} {values.mean():7.3f} +- {values.std():.3f}")
print(f"noise   {np.exp(kept[:, 3]).mean():7.3f} +- {np.exp(kept[:, 3]).std():.3f}")
