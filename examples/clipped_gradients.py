"""Gradients clipped inside of a graph, by a function with a rule of its own.

A recurrence that grows makes the gradient by its early states explode. `clip_gradient` returns its argument as it is;
its rule scales what comes back through it to a norm of at most `limit`, at each step of the recurrence.
"""

from functools import partial

import numpy as np

import fastgrad as fg


@partial(fg.custom_vjp, nondiff_argnums=(0,))
def clip_gradient(limit, x):
    return x


def forward(limit, x):
    return x, None  # the result, and nothing that backward needs


def backward(limit, residuals, g):
    return (g * np.minimum(1.0, limit / np.maximum(np.sqrt(np.sum(g**2)), 1e-30)),)


clip_gradient.defvjp(forward, backward)


W = 2 * np.eye(3) + 0.1


def loss(h, limit):
    for _ in range(30):
        h = W @ h
        if limit is not None:
            h = clip_gradient(limit, h)
    return np.sum(h)


h = np.ones(3)
print(f"norm of the gradient:       {np.linalg.norm(fg.grad(loss)(h, None)):.1e}")
compiled = fg.compile(fg.grad(lambda h: loss(h, 1.0)))
print(f"norm, clipped at each step: {np.linalg.norm(compiled(h)):.2f}")
