"""Fit the rates of an ordinary differential equation: foxes and rabbits (Lotka and Volterra) seen with noise.

Each step of the integrator is a step of `scan`, so the whole solution is one instruction of the compiled program, and
`least_squares` gets its exact Jacobian.
"""

import numpy as np

import fastgrad as fg

h, per_sample, samples = 0.1, 2, 60
true_rates = np.array([0.8, 0.4, 0.6, 0.2])  # births of rabbits, hunting, deaths of foxes, births of foxes
start = np.array([4.0, 1.5])


def velocity(rates, populations):
    births, hunting, deaths, feeding = rates
    rabbits, foxes = populations
    return fg.stack([rabbits * (births - hunting * foxes), foxes * (feeding * rabbits - deaths)])


def solution(rates):
    """The populations at each sample, by the classical method of Runge and Kutta."""

    def step(y, _):
        k1 = velocity(rates, y)
        k2 = velocity(rates, y + h / 2 * k1)
        k3 = velocity(rates, y + h / 2 * k2)
        k4 = velocity(rates, y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y, y

    _, path = fg.scan(step, fg.asarray(start), length=per_sample * samples)
    return path[per_sample - 1 :: per_sample]


rng = np.random.default_rng(0)
seen = fg.compile(solution)(true_rates) * np.exp(0.02 * rng.standard_normal((samples, 2)))


def residuals(log_rates):
    return (fg.log(solution(fg.exp(log_rates))) - np.log(seen)).ravel()


guess = np.log([0.7, 0.5, 0.5, 0.25])
result = fg.least_squares(residuals, guess)
covariance = np.linalg.inv(result.jac.T @ result.jac) * 2 * result.cost / (result.fun.size - 4)

print(f"{result.nfev} solutions, {result.njev} Jacobians, {result.message}")
for true, log_rate, error in zip(true_rates, result.x, np.sqrt(np.diag(covariance))):
    print(f"rate {np.exp(log_rate):.4f} +- {np.exp(log_rate) * error:.4f}, true {true}")
