"""Logistic regression by `descend`: two clouds of points, a line between them."""

import numpy as np

import fastgrad as fg

rng = np.random.default_rng(0)
n = 500
x = np.concatenate([rng.normal((-1, -1), 1, (n, 2)), rng.normal((1, 1), 1, (n, 2))])
y = np.repeat([0.0, 1.0], n)


def loss(params, x, y):
    logits = x @ params["weights"] + params["bias"]
    penalty = 1e-3 * (params["weights"] ** 2).sum()
    return fg.losses.binary_cross_entropy_with_logits(logits, y) + penalty


result = fg.descend(
    loss,
    {"weights": np.zeros(2), "bias": 0.0},
    (x, y),
    optimizer=fg.optim.SGD(learning_rate=0.5, momentum=0.9),
    epochs=200,
    tol=1e-9,
    progress=False,
)
weights, bias = result.params["weights"], result.params["bias"]
accuracy = np.mean((x @ weights + bias > 0) == (y == 1))

print(f"{result.steps} steps, {result.message}")
print(f"loss {result.loss:.4f}, accuracy {accuracy:.1%}")
print(f"the line: {weights[0]:.3f} x + {weights[1]:.3f} y + {bias:.3f} = 0")
