"""Gaussian process regression: hyperparameters by the marginal likelihood, predictions with their uncertainty."""

import numpy as np

import fastgrad as fg

rng = np.random.default_rng(0)


def truth(x):
    return np.sin(x) + 0.3 * np.cos(3 * x)


x = np.sort(rng.uniform(0, 10, 60))
y = truth(x) + 0.1 * rng.standard_normal(60)


def kernel(p, a, b):
    distance = (a[:, None] - b) / np.exp(p["log_length"])
    return np.exp(2 * p["log_amplitude"] - distance**2 / 2)


def factor(p, x):
    """L with L L^T = the covariance of noisy values at x."""
    return np.linalg.cholesky(kernel(p, x, x) + np.exp(2 * p["log_noise"]) * np.eye(len(x)))


def cost(p, x, y):
    """The negative logarithm of the marginal likelihood."""
    low = factor(p, x)
    white = fg.linalg.solve_triangular(low, y, lower=True)
    return white @ white / 2 + np.sum(np.log(np.diag(low))) + len(x) / 2 * np.log(2 * np.pi)


def predict(p, x, y, at):
    """Mean and standard deviation of the function at these places."""
    low = factor(p, x)
    white = fg.linalg.solve_triangular(low, y, lower=True)
    cross = fg.linalg.solve_triangular(low, kernel(p, x, at), lower=True)
    return white @ cross, np.sqrt(np.exp(2 * p["log_amplitude"]) - np.sum(cross**2, axis=0))


start = {"log_length": 0.0, "log_amplitude": 0.0, "log_noise": -1.0}
fit = fg.minimize(cost, start, (x, y), method="trust-exact")  # gradient and Hessian are exact
print(f"{fit.nit} iterations, log likelihood {-fit.fun:.3f}")
for name, value in fit.x.items():
    print(f"{name.removeprefix('log_'):>9} {np.exp(value):.3f}")

at = np.linspace(0, 10, 6)
mean, deviation = map(np.asarray, fg.compile(predict)(fit.x, x, y, at))
slope = fg.vmap(fg.grad(lambda at: predict(fit.x, x, y, at[None])[0][0]))(at)
print("     x   truth  predicted   slope")
for row in zip(at, truth(at), mean, deviation, slope):
    print("{:6.1f} {:7.3f} {:7.3f} +- {:.3f} {:7.3f}".format(*row))
print(f"largest error {np.max(np.abs(mean - truth(at)) / deviation):.1f} deviations")
