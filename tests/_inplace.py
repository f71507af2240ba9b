"""What tests of changes in place share."""

import operator

import numpy as np
from _oracles import sgd_numbers

import fastgrad as fg
from fastgrad import _core

OPERATORS = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv, "//=": operator.ifloordiv,
    "%=": operator.imod, "**=": operator.ipow,
}  # fmt: skip
OUT_OF_PLACE = {
    "+=": operator.add, "-=": operator.sub, "*=": operator.mul, "/=": operator.truediv, "//=": operator.floordiv,
    "%=": operator.mod, "**=": operator.pow,
}  # fmt: skip
A, B = np.array([1.5, 2.25, 3.125]), np.array([2.0, 0.75, 1.25])


def changed(name, which):
    return (
        f"{name}: its {which} of shape (3,) was changed in place after it was recorded, and its gradient needs the "
        "value it had; write y = y + x instead of y += x, or change a copy"
    )


def sgd(p, g, rate):
    """An optimizer's kernel on p."""
    _core.UpdateRule("sgd", (), sgd_numbers(rate)).update([p], [g])


def leaf(values=A):
    return fg.tensor(values, requires_grad=True)
