"""Random numbers as tensors, drawn afresh by every replay of a compiled function.

The generator is Philox4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a function
of a key and a counter. There is one operation, numbers uniform in [0, 1), which advances the counter; everything else
is composed of it and differentiable operations. A draw itself is a constant: gradients flow to locations and scales, to
the means and covariances of ``multivariate_normal`` and the bounds of ``truncated_normal``, and to the shapes of gamma
numbers, by implicit reparameterization. Where a parameter has no gradient, one that requires gradients is refused.

Methods that reject draws run in a ``while_loop`` until every number is accepted, with the draws within, so that they
compile.

While a function is traced its draws become instructions and consume nothing, so that from one seed eager calls and
replays have the same draws in the same order. A program keeps draws that no result needs. The uniform numbers have the
same bits with every instruction set; those computed from them differ by rounding, as logarithm and cosine do.
"""

import sys as _sys
import typing as _typing

from .. import _names
from ._generator import Generator, default_rng, dropout

__all__ = ["Generator", "default_rng", "dropout"]


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


if not _typing.TYPE_CHECKING:

    def __getattr__(name):
        is_method = not name.startswith("_") and hasattr(Generator, name)
        if not is_method:
            raise _names.missing(name, asked="random")
        message = (
            f"module 'fastgrad.random' has no attribute {name!r}; {name} is a method of a generator: "
            f"fastgrad.random.default_rng(seed).{name}"
        )
        raise AttributeError(message, name=name, obj=_sys.modules[__name__])
