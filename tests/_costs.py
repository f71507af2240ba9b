"""Functions whose least value is known, for the tests of minimize, least_squares and root."""

import numpy as np

import fastgrad as fg

TARGET = np.array([[1.0, 2.0], [3.0, 4.0]])


def rosenbrock(x):
    """Least at ones, where it is 0."""
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def convex(p):
    """Least at w = [[1, 2], [3, 4]], b = -1, where it is 5."""
    w, b = p["w"], p["b"]
    return np.sum(np.cosh(w - TARGET)) + (b + 1) ** 2 + (b + 1) ** 4 + 1


def start():
    return {"w": np.array([[1.5, 1.5], [3.5, 3.5]]), "b": 0.5, "nothing": None}


def squares(tree):
    """Least where all numbers are 1, where it is 0."""
    return sum([np.sum((leaf - 1) ** 2) for leaf in fg.tree.leaves(tree)], start=0.0)
