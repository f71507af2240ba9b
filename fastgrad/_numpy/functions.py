"""The namespace of this wing: all functions of tensors that are composed of the core's operations, by NumPy's names.

Each takes tensors, ndarrays, nested lists and numbers, and returns a Tensor. What is differentiable here is so
because its parts are; there is no second list of rules.
"""

from typing import TYPE_CHECKING

from . import contractions, creation, elementwise, neural, predicates, reductions, sequences, shapes
from .contractions import *
from .creation import *
from .elementwise import *
from .matrices import matrix_transpose, norm
from .neural import *
from .predicates import *
from .reductions import *
from .sequences import *
from .shapes import *
from .shapes import from_lists as from_lists

# mypy reads an __all__ only where it is a list of strings; without one it takes what the imports above bring.
if not TYPE_CHECKING:
    __all__ = []
    for _module in (contractions, creation, elementwise, neural, predicates, reductions, sequences, shapes):
        __all__ += _module.__all__
    __all__ += ["matrix_transpose", "norm"]
