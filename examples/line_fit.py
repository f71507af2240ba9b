"""Fit a line to noisy points: by steps of a descent, and by least squares, which also says how sure it is."""

import numpy as np

import fastgrad as fg

rng = np.random.default_rng(0)
x = rng.uniform(-1, 3, 200)
y = 1.5 * x - 0.7 + 0.1 * rng.standard_normal(x.shape)


def line(params, x):
    return params["slope"] * x + params["offset"]


def loss(params, x, y):
    return fg.losses.mse(line(params, x), y)


start = {"slope": 0.0, "offset": 0.0}
result = fg.descend(loss, start, (x, y), optimizer=fg.optim.Adam(0.05), epochs=60, batch_size=50, seed=0)
(slope, offset), covariance = fg.curve_fit(lambda x, a, b: a * x + b, x, y)
errors = np.sqrt(np.diag(covariance))

print("truth    slope 1.500 offset -0.700")
print(f"descent  slope {result.params['slope']:.3f} offset {result.params['offset']:.3f}, {result.message}")
print(f"squares  slope {slope:.3f} offset {offset:.3f}, to within {errors[0]:.3f} and {errors[1]:.3f}")
