"""dtypes under NumPy's names, what can be asked of them, and the constants, as the array API standard has them.

A dtype here is a ``numpy.dtype``, as ``Tensor.dtype`` is: the two compare equal and have one hash.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor

bool = np.dtype(np.bool_)
int8, int16, int32, int64 = map(np.dtype, (np.int8, np.int16, np.int32, np.int64))
uint8, uint16, uint32, uint64 = map(np.dtype, (np.uint8, np.uint16, np.uint32, np.uint64))
float32, float64 = map(np.dtype, (np.float32, np.float64))
e, inf, nan, newaxis, pi = np.e, np.inf, np.nan, None, np.pi


def set_default_dtype(dtype: Any) -> None:
    """Let float32 or float64 be the dtype of what is made without one, in all threads; None: NumPy's rules again.

    It is taken by ``zeros``, ``ones``, ``empty``, ``eye``, ``identity``, ``tri``, by ``full`` of a Python float, by
    ``arange``, ``linspace``, ``logspace`` and ``geomspace`` of Python numbers, where float64 would be the result, by
    nested lists of Python numbers with a float among them wherever a function takes them for an array, by ``asarray``
    and ``tensor`` of a Python float, and by the float draws of `fastgrad.random` whose parameters are Python numbers or
    lists of them. What is made from other values, as by ``zeros_like``, has their dtype: float64 of NumPy's scalars and
    arrays, of integers where a function computes in floats, and of what NumPy's own functions return. A dtype that is
    given holds. `default_dtype` is a context with another default. A compiled function that is called under another
    default than before is traced anew.

    The name is PyTorch's. Raises TypeError for another dtype, TraceError while a function is traced.

    >>> import fastgrad as fg
    >>> fg.set_default_dtype(fg.float32)
    >>> fg.ones(2).dtype, fg.random.default_rng(0).normal(size=3).dtype, fg.get_default_dtype()
    (dtype('float32'), dtype('float32'), dtype('float32'))
    >>> fg.set_default_dtype(None)
    """
    _core.set_default_float(dtype)


def get_default_dtype() -> np.dtype[Any] | None:
    """The default dtype that holds here: that of the innermost `default_dtype` context of this thread or asynchronous
    task, else that of `set_default_dtype`; None where NumPy's rules hold.

    >>> import fastgrad as fg
    >>> fg.get_default_dtype() is None
    True
    """
    return _core.default_float()


def default_dtype(dtype: Any) -> contextlib.AbstractContextManager[None]:
    """A context in which float32 or float64 is the default dtype, as by `set_default_dtype`, or with None NumPy's rules
    hold. For the thread, or the asynchronous task, that enters it: others are as before, and threads that are started
    within it, too. Within a function that is compiled it holds for what is traced in it.

    Raises TypeError for another dtype, RuntimeError where one context is entered twice at once.

    >>> import fastgrad as fg
    >>> with fg.default_dtype("float32"):
    ...     x = fg.linspace(0, 1, 3)
    >>> x.dtype, fg.linspace(0, 1, 3).dtype
    (dtype('float32'), dtype('float64'))
    """
    return _core.DefaultFloat(dtype)


def _dtype(x: Any) -> Any:
    """The dtype of a tensor or ndarray; anything else as it is."""
    return x.dtype if isinstance(x, (Tensor, np.ndarray, np.generic)) else x


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a dtype is another dtype, or of a kind: "bool", "signed integer", "unsigned integer", "integral", "real
    floating", "complex floating", "numeric"; or any of those in a tuple. Raises TypeError for what is no dtype,
    ValueError for an unknown kind.

    >>> import fastgrad as fg
    >>> fg.isdtype(fg.float32, "real floating"), fg.isdtype(fg.int8, (fg.bool, "unsigned integer"))
    (True, False)
    """
    return np.isdtype(dtype, kind)


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype that arrays, dtypes and Python numbers promote to; a number takes the dtype of what is beside it.

    >>> import fastgrad as fg
    >>> fg.result_type(fg.ones(2, dtype="float32"), 1.5), fg.result_type(fg.int8, fg.uint8)
    (dtype('float32'), dtype('int16'))
    """
    return np.result_type(*map(_dtype, arrays_and_dtypes))


def can_cast(from_: Any, to: Any, casting: Any = "safe") -> Any:
    """Whether an array or dtype can be cast to a dtype by a rule of NumPy's: by default without loss.

    >>> import fastgrad as fg
    >>> fg.can_cast(fg.int8, fg.int16), fg.can_cast(fg.float64, fg.float32)
    (True, False)
    """
    return np.can_cast(_dtype(from_), to, casting)


class finfo:
    """Machine limits of a float dtype or of that of an array: ``bits``, ``eps``, ``max``, ``min`` and
    ``smallest_normal`` as Python numbers, ``dtype``; other attributes as those of ``numpy.finfo``. Raises ValueError
    for a dtype that is no float.

    >>> import fastgrad as fg
    >>> fg.finfo(fg.float64).eps
    2.220446049250313e-16
    """

    def __init__(self, type: Any, /) -> None:
        self._info = np.finfo(_dtype(type))
        self.bits = self._info.bits
        self.dtype = np.dtype(self._info.dtype)
        self.eps, self.max, self.min = float(self._info.eps), float(self._info.max), float(self._info.min)
        self.smallest_normal = float(self._info.smallest_normal)

    def __getattr__(self, name: str) -> Any:
        if name == "_info":
            raise AttributeError(name)
        return getattr(self._info, name)

    def __repr__(self) -> str:
        return repr(self._info)


class iinfo:
    """Machine limits of an integer dtype or of that of an array: ``bits``, ``max``, ``min``, ``dtype``. Raises
    ValueError for a dtype that is no integer.

    >>> import fastgrad as fg
    >>> fg.iinfo(fg.int8).max
    127
    """

    def __init__(self, type: Any, /) -> None:
        info = np.iinfo(_dtype(type))
        self.bits, self.max, self.min, self.dtype = info.bits, info.max, info.min, info.dtype

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


__all__ = [
    "bool", "can_cast", "default_dtype", "e", "finfo", "float32", "float64", "get_default_dtype", "iinfo", "inf",
    "int16", "int32", "int64", "int8", "isdtype", "nan", "newaxis", "pi", "result_type", "set_default_dtype", "uint16",
    "uint32", "uint64", "uint8",
]  # fmt: skip
