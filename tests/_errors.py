"""What tests of errors share: error texts are part of the interface, so they are compared word for word.

A table of errors is a dict of lists of rows (code, error, text), by subject. In the code x is a constant and w a tensor
that requires gradients, both of shape (2, 3), and f(x) = x.
"""

import contextlib
import math
import pickle

import numpy as np
import pytest

import fastgrad as fg


@contextlib.contextmanager
def raises_text(error, text):
    """The block must raise this error with this whole text."""
    with pytest.raises(error) as raised:
        yield
    assert str(raised.value) == text


def identity(x):
    return x


identity.__name__ = "f"


def error_rows(table):
    """A decorator: a test of (code, error, text) for each row."""
    rows = [row for rows in table.values() for row in rows]
    return pytest.mark.parametrize("code, error, text", rows, ids=[code for code, _, _ in rows])


def check_error(code, error, text):
    names = {"fg": fg, "np": np, "math": math, "pickle": pickle, "f": identity}
    names |= {"x": fg.zeros((2, 3)), "w": fg.ones((2, 3), requires_grad=True)}
    with raises_text(error, text):
        exec(code, names)
