"""Handwritten digits by a small net: validation, a metric, a schedule with warm-up, and an end by patience."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastgrad as fg

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
parts = train_test_split(images, labels, test_size=400, random_state=0, stratify=labels)
x, x_held_out, y, y_held_out = parts

rng = np.random.default_rng(0)
params = {
    "w1": (rng.standard_normal((64, 128)) * np.sqrt(2 / 64)).astype(np.float32),
    "b1": np.zeros(128, np.float32),
    "w2": (rng.standard_normal((128, 10)) * np.sqrt(2 / 128)).astype(np.float32),
    "b2": np.zeros(10, np.float32),
}


def scores(p, x):
    return fg.relu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def loss(p, x, y):
    return fg.losses.softmax_cross_entropy(scores(p, x), y)


def accuracy(p, x, y):
    return np.mean(np.argmax(scores(p, fg.asarray(x)).numpy(), axis=1) == y)


epochs, batch = 60, 32
steps = epochs * -(-len(x) // batch)
result = fg.descend(
    loss,
    params,
    (x, y),
    optimizer=fg.optim.AdamW(
        fg.schedules.one_cycle(3e-3, steps), weight_decay=1e-3, groups=[{"params": "b*", "weight_decay": 0.0}]
    ),
    batch_size=batch,
    epochs=epochs,
    seed=0,
    validation_data=(x_held_out, y_held_out),
    metrics={"accuracy": accuracy},
    patience=8,
    restore_best=True,
)

print(result.message)
best = result.best_epoch
print(f"{len(result.curves['loss'])} epochs, of which {best} was the best")
print(f"validation loss {result.curves['validation_loss'][best]:.3f}")
print(f"accuracy {accuracy(result.params, x_held_out, y_held_out):.1%}")
