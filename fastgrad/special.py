"""Special functions by the names and arguments of ``scipy.special``, differentiable.

Where SciPy has a ufunc of that name, ``scipy.special.f(t)`` of a tensor t is ``fastgrad.special.f(t)``.
docs/accuracy.md says how exact they are, docs/conventions.md what their derivatives are at the ends of domains.

>>> import fastgrad as fg
>>> round(float(fg.grad(fg.special.gammaln)(3.0)), 4)
0.9228
"""

from ._numpy.special import *
from ._numpy.special import __all__ as __all__
