"""Array creation: NumPy's creation functions, and arrays of other libraries by DLPack.

Where a value is a tensor, such as the fill value of ``full``, the result is computed from it, so that gradients pass.
"""

from __future__ import annotations

import builtins
import inspect
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, asarray, astype, broadcast_to, reshape, where

if TYPE_CHECKING:
    from .typing import TensorLike


def floating(x: TensorLike) -> Tensor:
    """x as a float tensor: integers and booleans in the dtype that NumPy would compute in."""
    x = asarray(x)
    return x if x.dtype.kind == "f" else astype(x, _core.float_dtype(x.dtype))


def array(
    object: Any, dtype: Any = None, *, copy: builtins.bool | None = True, order: str | None = None, ndmin: int = 0
) -> Tensor:
    """A tensor of the values of an array, a number, or nested lists of them and of tensors, with their gradients.

    As ``asarray``, but ``copy=True`` is the default; ``ndmin`` puts axes of length 1 before those that there are.

    >>> import fastgrad as fg
    >>> fg.grad(lambda a: fg.sum(fg.array([a, 2 * a]) ** 2))(3.0)
    np.float64(30.0)
    """
    x = asarray(object, dtype, order, copy=copy)
    return reshape(x, (1,) * builtins.max(operator.index(ndmin) - x.ndim, 0) + x.shape)


def copy(a: TensorLike, order: str = "K") -> Tensor:
    """A tensor of the same values on memory of its own, in row-major order whatever ``order`` says. Gradients pass.

    >>> import fastgrad as fg
    >>> fg.copy([1.0, 2.0])
    tensor([1., 2.])
    """
    return asarray(a, copy=True)


NUMBERS = (bool, int, float)


def pair(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Two operands for a binary operator, at least one of them as a tensor. A Python number stays one, so that it takes
    the dtype of the other operand."""
    if type(x1) is Tensor:
        return x1, x2
    if type(x1) in NUMBERS and type(x2) not in NUMBERS:
        return x1, x2 if type(x2) is Tensor else asarray(x2)
    return asarray(x1), x2


def _creator(
    function: Callable[..., np.ndarray], arguments: Callable[..., None], summary: str, example: str
) -> Callable[..., Tensor]:
    """NumPy's function for tensors. ``arguments`` has its signature."""

    takes_array = arguments.__code__.co_varnames[0] == "a"  # which may be given by name

    def create(*args: Any, requires_grad: builtins.bool = False, **kwargs: Any) -> Any:
        if takes_array and not args and "a" in kwargs:
            args = (kwargs.pop("a"),)
        like, values = (args[:1], args[1:]) if function.__name__.endswith("_like") else ((), args)
        if function in _OF_TENSORS and builtins.any(isinstance(a, Tensor) for a in (*values, *kwargs.values())):
            if requires_grad:
                raise TypeError(
                    f"{function.__name__}: requires_grad makes a leaf, but the result is computed from a tensor"
                )
            return _OF_TENSORS[function](*like, *values, **kwargs)
        for a in (*values, *kwargs.values()):
            if isinstance(a, Tensor) and a.requires_grad:
                raise TypeError(
                    f"{function.__name__}: this tensor requires gradients, which would silently end here; compute with "
                    "it instead, as in fastgrad.zeros(shape) + t, or pass t.detach()"
                )
        like = tuple(_stand_in(a) if isinstance(a, Tensor) else a for a in like)
        given = {k: known(a) for k, a in kwargs.items()}
        default = _core.default_float()
        if default is not None and not like:
            made = _with_default(function, arguments, tuple(map(known, values)), given, default)
        else:
            made = function(*like, *map(known, values), **given)
        step = None
        if isinstance(made, tuple):  # linspace with retstep
            made, step = made
            step = _core.adopt(step, "linspace") if isinstance(step, np.ndarray) else step
        result = _core.adopt(made, function.__name__)
        if requires_grad:
            result.requires_grad = True
        return result if step is None else (result, step)

    create.__name__ = create.__qualname__ = function.__name__
    create.__wrapped__ = arguments  # type: ignore[attr-defined]  # inspect.signature finds it here
    create.__doc__ = (
        f"{summary} Arguments as ``numpy.{function.__name__}``, and ``requires_grad``; returns a Tensor.\n\n"
        f"    >>> import fastgrad as fg\n    >>> {example}\n    "
    )
    return create


def _with_default(
    function: Callable[..., Any], arguments: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any],
    default: np.dtype[Any],
) -> Any:  # fmt: skip
    """What a function of NumPy's makes, in the default dtype where NumPy would choose float64 because neither a dtype
    nor an array or NumPy number is given."""
    try:
        bound = inspect.signature(arguments).bind_partial(*args, **kwargs)
    except TypeError:  # NumPy's own says what is wrong
        return function(*args, **kwargs)
    given = bound.arguments
    if given.get("dtype") is not None or (function is np.full and type(given.get("fill_value")) is not float):
        return function(*args, **kwargs)
    if function not in _FROM_NUMBERS:
        given["dtype"] = default
        return function(*bound.args, **bound.kwargs)
    made = function(*args, **kwargs)
    values = [given[name] for name in ("start", "stop", "step") if given.get(name) is not None]
    array = made[0] if isinstance(made, tuple) else made
    is_taken = getattr(array, "dtype", None) == np.float64 and builtins.all(type(value) in NUMBERS for value in values)
    if not is_taken:
        return made
    return (array.astype(default), made[1]) if isinstance(made, tuple) else array.astype(default)


def _full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", device: str | None = None) -> Tensor:
    """``numpy.full`` with a tensor. Tensors have one order and one device, whatever is asked for."""
    value = asarray(fill_value)
    shape = np.broadcast_to(0, shape).shape
    return broadcast_to(astype(value, value.dtype if dtype is None else dtype), shape)


def _full_like(a: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    if not isinstance(a, Tensor):
        a = np.asarray(a)
    value = into(asarray(fill_value), a.dtype, "full_like") if dtype is None else fill_value
    return _full(a.shape, value, dtype)


def _linspace(
    start: Any, stop: Any, num: int = 50, endpoint: builtins.bool = True, retstep: builtins.bool = False,
    dtype: Any = None, axis: int = 0, *, device: str | None = None,
) -> Any:  # fmt: skip
    """``numpy.linspace`` with tensors as bounds, in its order of arithmetic."""
    _core.check_device(device, "linspace")
    num = operator.index(num)
    if axis != 0 or num < 0:
        raise ValueError(f"linspace: of tensors, expected axis=0 and num of at least 0, got {axis} and {num}")
    bounds: list[Any] = [x if isinstance(x, (float, int)) else floating(x) for x in (start, stop)]
    first, last = bounds
    distance = asarray(last - first)
    place = np.arange(num, dtype=distance.dtype).reshape(-1, *[1] * distance.ndim)
    parts = num - builtins.bool(endpoint)
    step = distance / builtins.max(parts, 1)
    y: Tensor = step * place + first
    if endpoint and num > 1:
        y = where(place == num - 1, last, y)
    if dtype is not None:
        y = astype(_core.floor(y) if np.dtype(dtype).kind in "iu" else y, dtype)
    if not retstep:
        return y
    return y, step if parts > 0 else step * np.nan


# They compute in float64, and the result is rounded to the default dtype.
_FROM_NUMBERS = {np.arange, np.linspace, np.logspace, np.geomspace}
# The creation functions that compute with a tensor among their values, so that gradients pass.
_OF_TENSORS: dict[Any, Callable[..., Any]] = {np.full: _full, np.full_like: _full_like, np.linspace: _linspace}


def known(x: Any) -> Any:
    """x; a tensor, whose value must be known, as an ndarray."""
    if isinstance(x, Tensor):
        _core.refuse_value(x, "index" if x.dtype.kind in "iu" else "array")
        return x.numpy()
    return x


def into(x: Tensor, dtype: np.dtype[Any], name: str) -> Tensor:
    """x in the dtype of an array that it is put into; TypeError where its gradients would silently end there."""
    if x.dtype == dtype:
        return x
    if x.requires_grad and dtype.kind != "f":
        raise TypeError(
            f"{name}: values that require gradients would lose them in an array of {dtype}; cast that to a float dtype "
            "first, or pass the values' .detach()"
        )
    return astype(x, dtype)


def _stand_in(x: Tensor) -> np.ndarray:
    """An ndarray of x's shape and dtype that reads no value of x: while x is traced they are not known."""
    return np.broadcast_to(np.empty((), x.dtype), x.shape)


# ---- the signatures, which are NumPy's; requires_grad is ours -------------------------------------------------------
def _of_shape(
    shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None, requires_grad: builtins.bool = False
) -> None: ...


def _of_value(
    shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", *, device: Any = None,
    requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _like(
    a: Any, dtype: Any = None, order: str = "K", subok: builtins.bool = True, shape: Any = None, *,
    device: Any = None, requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _value_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: builtins.bool = True, shape: Any = None, *,
    device: Any = None, requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _unset_like(
    prototype: Any, /, dtype: Any = None, order: str = "K", subok: builtins.bool = True, shape: Any = None, *,
    device: Any = None, requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _range(
    start: Any, /, stop: Any = None, step: Any = 1, dtype: Any = None, *, device: Any = None,
    requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _interval(
    start: Any, stop: Any, num: int = 50, endpoint: builtins.bool = True, retstep: builtins.bool = False,
    dtype: Any = None, axis: int = 0, *, device: Any = None, requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _log_interval(
    start: Any, stop: Any, num: int = 50, endpoint: builtins.bool = True, base: Any = 10.0, dtype: Any = None,
    axis: int = 0, *, requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _progression(
    start: Any, stop: Any, num: int = 50, endpoint: builtins.bool = True, dtype: Any = None, axis: int = 0, *,
    requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _rectangle(
    N: int, M: int | None = None, k: int = 0, dtype: Any = float, order: str = "C", *, device: Any = None,
    requires_grad: builtins.bool = False,
) -> None: ...  # fmt: skip


def _triangle(
    N: int, M: int | None = None, k: int = 0, dtype: Any = float, *, requires_grad: builtins.bool = False
) -> None: ...


def _square(n: int, dtype: Any = None, *, requires_grad: builtins.bool = False) -> None: ...


zeros = _creator(np.zeros, _of_shape, "A tensor of zeros.", "fg.zeros(2)\n    tensor([0., 0.])")
ones = _creator(np.ones, _of_shape, "A tensor of ones.", "fg.ones(2)\n    tensor([1., 1.])")
empty = _creator(np.empty, _of_shape, "A tensor whose values are not set.", "fg.empty((2, 3)).shape\n    (2, 3)")
full = _creator(np.full, _of_value, "A tensor filled with one value.", "fg.full(2, 7.0)\n    tensor([7., 7.])")
zeros_like = _creator(
    np.zeros_like, _like, "Zeros of the shape and dtype of another.", "fg.zeros_like([1.0])\n    tensor([0.])"
)
ones_like = _creator(
    np.ones_like, _like, "Ones of the shape and dtype of another.", "fg.ones_like([3.0])\n    tensor([1.])"
)
empty_like = _creator(
    np.empty_like,
    _unset_like,
    "A tensor whose values are not set, of the shape and dtype of another.",
    "fg.empty_like([1.0]).shape\n    (1,)",
)
full_like = _creator(
    np.full_like,
    _value_like,
    "One value in each element, of the shape and dtype of another.",
    "fg.full_like([1.0], 2)\n    tensor([2.])",
)
arange = _creator(
    np.arange, _range, "Evenly spaced values in a half-open interval.", "fg.arange(3)\n    tensor([0, 1, 2])"
)
linspace = _creator(
    np.linspace,
    _interval,
    "Evenly spaced values over an interval.",
    "fg.linspace(0, 1, 3)\n    tensor([0. , 0.5, 1. ])",
)
logspace = _creator(
    np.logspace,
    _log_interval,
    "Values evenly spaced on a log scale.",
    "fg.logspace(0, 2, 3)\n    tensor([  1.,  10., 100.])",
)
geomspace = _creator(
    np.geomspace, _progression, "Values in geometric progression.", "fg.geomspace(1, 4, 3)\n    tensor([1., 2., 4.])"
)
eye = _creator(
    np.eye, _rectangle, "A matrix with ones on a diagonal.", "fg.eye(2)\n    tensor([[1., 0.],\n            [0., 1.]])"
)
tri = _creator(
    np.tri,
    _triangle,
    "A matrix of ones on and below a diagonal, zeros above.",
    "fg.tri(2)\n    tensor([[1., 0.],\n            [1., 1.]])",
)
identity = _creator(np.identity, _square, "A square identity matrix.", "fg.identity(1)\n    tensor([[1.]])")


def from_dlpack(x: Any, /, *, device: str | None = None, copy: builtins.bool | None = None) -> Tensor:
    """A tensor on the memory of another library's CPU array, by the DLPack protocol; else TypeError. With ``copy=True``
    in memory of its own. ``device`` is "cpu" or None, else ValueError.

    >>> import fastgrad as fg, numpy as np
    >>> fg.from_dlpack(np.array([1.0, 2.0]))
    tensor([1., 2.])
    """
    if not hasattr(x, "__dlpack__"):
        raise TypeError(f"from_dlpack: expected an array with a __dlpack__ method, got {type(x).__name__}")
    _core.check_device(device, "from_dlpack")
    if copy is False and np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # older versions of NumPy never copy
        return asarray(np.from_dlpack(x, copy=False))
    return asarray(np.from_dlpack(x), copy=True if copy else None)


__all__ = [
    "arange", "array", "copy", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "geomspace",
    "identity", "linspace", "logspace", "ones", "ones_like", "tri", "zeros", "zeros_like",
]  # fmt: skip
