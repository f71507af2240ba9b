"""Logistic regression by `descend` on a real table: is a tumour benign? Beside scikit-learn's of this penalty."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import fastgrad as fg

x, y = load_breast_cancer(return_X_y=True)
x = (x - x.mean(axis=0)) / x.std(axis=0)
x, x_test, y, y_test = train_test_split(x, y.astype(float), test_size=0.3, random_state=0, stratify=y)
penalty = 1.0


def loss(params, x, y):
    logits = x @ params["weights"] + params["bias"]
    cross_entropy = fg.losses.binary_cross_entropy_with_logits(logits, y)
    return cross_entropy + penalty / (2 * len(y)) * (params["weights"] ** 2).sum()


result = fg.descend(
    loss,
    {"weights": np.zeros(x.shape[1]), "bias": 0.0},
    (x, y),
    optimizer="lbfgs",
    epochs=100,
    tol=1e-12,
    progress=False,
)
weights, bias = result.params["weights"], result.params["bias"]
accuracy = np.mean((x_test @ weights + bias > 0) == (y_test == 1))
theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=1000).fit(x, y)

print(f"{result.steps} steps, {result.message}")
print(f"loss {result.loss:.4f}, accuracy {accuracy:.1%} on rows that were held out")
print(f"largest difference from scikit-learn's weights {np.abs(weights - theirs.coef_[0]).max():.1e}")
