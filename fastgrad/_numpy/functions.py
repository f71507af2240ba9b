"""The namespace of this wing: all functions of tensors that are composed of the core's operations, by NumPy's names.

Each takes tensors, ndarrays, nested lists and numbers, and returns a Tensor. What is differentiable here is so
because its parts are; there is no second list of rules.
"""

from typing import TYPE_CHECKING

from . import (
    bitwise,
    contractions,
    counting,
    creation,
    diagonals,
    dtypes,
    elementwise,
    grids,
    joining,
    neural,
    order,
    padding,
    polynomials,
    predicates,
    reductions,
    selection,
    sequences,
    shapes,
    statistics,
)
from .bitwise import *
from .contractions import *
from .counting import *
from .creation import *
from .diagonals import *
from .dtypes import *
from .elementwise import *
from .grids import *
from .joining import *
from .joining import from_lists as from_lists
from .neural import *
from .order import *
from .padding import *
from .polynomials import *
from .predicates import *
from .reductions import *
from .reductions import reduced_with as reduced_with
from .results import stored as stored
from .selection import *
from .sequences import *
from .shapes import *
from .statistics import *
from .updates import At as At

# mypy reads an __all__ only where it is a list of strings; without one it takes what the imports above bring.
if not TYPE_CHECKING:
    __all__ = []
    for _module in (
        bitwise, contractions, counting, creation, diagonals, dtypes, elementwise, grids, joining, neural, order,
        padding, polynomials, predicates, reductions, selection, sequences, shapes, statistics,
    ):  # fmt: skip
        __all__ += _module.__all__
