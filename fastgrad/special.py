"""Special functions by the names and arguments of ``scipy.special``, differentiable.

Where SciPy has a ufunc of that name, ``scipy.special.f(t)`` of a tensor t is ``fastgrad.special.f(t)``.
Some call SciPy, as their docstrings say, and need it installed. docs/accuracy.md says how exact they are,
docs/conventions.md what their derivatives are at the ends of domains.

>>> import fastgrad as fg
>>> round(float(fg.grad(fg.special.gammaln)(3.0)), 4)
0.9228
"""

import typing as _typing

from . import _names
from ._numpy import incomplete as _incomplete
from ._numpy import scipy_special as _scipy_special
from ._numpy import special as _special
from ._numpy.incomplete import *
from ._numpy.scipy_special import *
from ._numpy.special import *

__all__: list[str] = []
__all__ += _special.__all__
__all__ += _incomplete.__all__
__all__ += _scipy_special.__all__


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


if not _typing.TYPE_CHECKING:

    def __getattr__(name):
        raise _names.missing(name, asked="special")
