"""A net with two hidden layers learns two interleaved spirals, step by step with `training_step`."""

from itertools import pairwise

import numpy as np

import fastgrad as fg

rng = np.random.default_rng(0)
n = 300
angle = np.sqrt(rng.uniform(0.05, 1, 2 * n)) * 3 * np.pi
label = np.repeat([0, 1], n)
turn = angle + np.pi * label
x = (np.stack([np.cos(turn), np.sin(turn)], axis=1) * angle[:, None] / 10).astype(np.float32)

sizes = [2, 32, 32, 2]
params = [
    {
        "weights": (rng.standard_normal((rows, columns)) * np.sqrt(2 / rows)).astype(np.float32),
        "bias": np.zeros(columns, np.float32),
    }
    for rows, columns in pairwise(sizes)
]


def logits(params, x):
    *hidden, last = params
    for layer in hidden:
        x = fg.silu(x @ layer["weights"] + layer["bias"])
    return x @ last["weights"] + last["bias"]


def loss(params, x, label):
    return fg.losses.softmax_cross_entropy(logits(params, x), label)


def cosine_decay(step, steps=1500, peak=1e-2):
    return 0.5 * peak * (1 + np.cos(np.pi * min(step / steps, 1)))


step = fg.training_step(loss, params, fg.optim.AdamW(learning_rate=cosine_decay, weight_decay=1e-3))
for number in range(1501):
    rows = rng.integers(0, 2 * n, 64)
    value = step(x[rows], label[rows])
    if number % 300 == 0:
        print(f"step {number:5d}  loss {value:.4f}")

accuracy = np.mean(np.argmax(logits(step.params, fg.asarray(x)).numpy(), axis=1) == label)
print(f"accuracy {accuracy:.1%}")
