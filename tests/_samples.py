"""Two arrays that tests of NumPy's and Python's protocols compute with, and a tensor on the tape."""

import inspect

import numpy as np

import fastgrad as fg

X = np.array([[0.25, 0.5, 0.75], [0.375, 0.625, 0.875]])
Y = np.array([[0.5, 0.25, 0.125], [0.75, 0.375, 0.5]])

NUMPY_2_0 = "shape" not in inspect.signature(np.reshape).parameters  # some parameters have other names there


def tracked(x=X):
    return fg.tensor(x, requires_grad=True)
