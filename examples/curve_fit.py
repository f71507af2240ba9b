"""Fit a damped oscillation to noisy data with SciPy's minimiser and exact gradients."""

import numpy as np
from scipy.optimize import minimize

import fastgrad as fg

rng = np.random.default_rng(0)
t = np.linspace(0, 10, 200)
truth = np.array([2.0, 0.3, 1.5, 0.4])  # amplitude, decay, frequency, phase


def model(p, t):
    return p[0] * np.exp(-p[1] * t) * np.cos(p[2] * t + p[3])


y = model(truth, t) + 0.05 * rng.standard_normal(t.shape)


def cost(p):
    return fg.losses.mse(model(p, t), y, reduction="sum")


result = minimize(fg.value_and_grad(cost), x0=[1.0, 0.1, 1.4, 0.0], jac=True, method="BFGS")

print("          amplitude    decay  frequency    phase")
print("truth   ", *(f"{v:10.4f}" for v in truth))
print("fitted  ", *(f"{v:10.4f}" for v in result.x))
print(f"{result.nit} iterations, {result.nfev} evaluations, residual {result.fun:.4f}")
