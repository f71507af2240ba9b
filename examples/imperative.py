"""The imperative style: tensors, `.backward()`, `.grad`, and an update written by hand.

Gradient descent on the Rosenbrock function with a step that shrinks until the value falls.
"""

import numpy as np

import fastgrad as fg


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


x = fg.tensor(np.zeros(4), requires_grad=True)
rate = 1e-3
for iteration in range(12_001):
    value = rosenbrock(x)
    value.backward()
    with fg.no_grad():
        while rosenbrock(x - rate * x.grad).item() > value.item():
            rate /= 2
        x -= rate * x.grad
    rate *= 1.1
    x.zero_grad()
    if iteration % 3000 == 0:
        print(f"iteration {iteration:6d}  value {value.item():.3e}")

print("minimum at", np.round(x.detach().numpy(), 3))
