"""Jacobians and Hessians, whole and as products with vectors.

A whole Jacobian is a backward pass from all unit cotangents at once, or a forward pass from all unit tangents: the pass
for a single one is mapped over the basis by ``vmap``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from .. import _core
from .._core import Tensor
from .arguments import LEAVE_OUT, argnum_tuple, argument_places, describe_type, pair_with_aux
from .grad import named_grad
from .linearize import Point
from .transformed import transformed
from .vmap import vmap_over_basis

__all__ = ["elementwise_grad", "hessian", "hessp", "hvp", "jacfwd", "jacobian", "jacrev", "value_and_jacobian"]


def jacrev(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the Jacobian of f, by reverse mode: best where f has fewer results than arguments.

    Parameters
    ----------
    f : callable
        Returns a float tensor, or a nested structure of them (and, with ``has_aux``, anything else beside it).
    argnums : int or sequence of ints
        Which positional arguments to differentiate by, each an array, number or nested structure of them.
    has_aux : bool
        f returns ``(result, aux)``; the function then returns ``(Jacobian, aux)``.

    Returns
    -------
    callable
        Takes f's arguments. In the place of each tensor that f returns there is the structure of the argument (a tuple
        for a sequence of argnums), with arrays of the shape of the tensor followed by that of the argument. f runs
        once; all rows are computed at once, in as many times the memory of one backward pass.

    ``jacobian`` is another name of it. Raises TypeError where an argument is no float or f returns something else than
    float tensors.

    >>> import fastgrad as fg, numpy as np
    >>> fg.jacobian(lambda x: x[1:] * x[:-1])(np.array([1.0, 2.0, 3.0]))
    array([[2., 1., 0.],
           [0., 3., 2.]])
    """
    return _jacobian(jacrev, _by_rows, f, argnums, has_aux, "jacrev")


jacobian = jacrev


def value_and_jacobian(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns f's result and its Jacobian, ``((result, aux), Jacobian)`` with ``has_aux``.

    Arguments, Jacobian and errors are those of ``jacrev``; the result is in the structure that f returns, as ndarrays
    and numbers (tensors within another transform). f runs once.

    >>> import fastgrad as fg, numpy as np
    >>> fg.value_and_jacobian(lambda x: x[1:] * x[:-1])(np.array([1.0, 2.0, 3.0]))
    (array([2., 6.]), array([[2., 1., 0.],
           [0., 3., 2.]]))
    """
    if not callable(f):
        raise TypeError(f"value_and_jacobian: expected a function, got {f!r}")

    @functools.wraps(f)
    def twice(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        result = f(*args, **kwargs)
        return (pair_with_aux(f, result, "value_and_jacobian")[0] if has_aux else result), result

    both = _jacobian(jacrev, _by_rows, twice, argnums, True, "value_and_jacobian")

    @transformed(f, value_and_jacobian, argnums, has_aux)
    def value_and_jacobian_of_f(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        jacobian, value = both(*args, **kwargs)
        return value, jacobian

    return value_and_jacobian_of_f


def jacfwd(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the Jacobian of f, by forward mode: best where f has fewer arguments than results.

    Arguments, results and errors are those of ``jacrev``. All columns are computed at once.

    >>> import fastgrad as fg, numpy as np
    >>> fg.jacfwd(lambda t: fg.stack([fg.cos(t), fg.sin(t)]))(0.0)
    array([-0.,  1.])
    """
    return _jacobian(jacfwd, _by_columns, f, argnums, has_aux, "jacfwd")


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the second derivatives of f, by forward mode over reverse mode.

    f may return a single number or arrays. Arguments and errors are those of ``jacrev``, the result is that of
    ``jacfwd(jacrev(f))``: where there is an array in the argument, there is the structure of the argument again.

    >>> import fastgrad as fg, numpy as np
    >>> fg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([3.0, 5.0]))
    array([[10.,  6.],
           [ 6.,  0.]])
    """
    slopes = _jacobian(jacrev, _by_rows, f, argnums, has_aux, "hessian")
    return transformed(f, hessian, argnums, has_aux)(
        _jacobian(jacfwd, _by_columns, slopes, argnums, has_aux, "hessian")
    )


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of f at primals times tangents, without the Hessian, by forward mode over reverse mode.

    Parameters
    ----------
    f : callable
        Returns a single float tensor.
    primals, tangents : tuple
        f's arguments, and directions in the structure and shapes of these.

    Returns
    -------
    ndarray, number or nested structure of them
        H v in the structure of the argument; of several arguments a tuple.

    Raises as ``grad`` and ``jvp`` do.

    >>> import fastgrad as fg, numpy as np
    >>> fg.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 1.0]),))
    array([ 6., 12.])
    """
    for name, value in ("primals", primals), ("tangents", tangents):
        if not isinstance(value, (tuple, list)) or not value:
            what = "f's arguments" if name == "primals" else "one for each argument of f"
            raise TypeError(
                f"hvp: expected {name} as a tuple of {what}, got {describe_type(value)}; of a single argument x write "
                "(x,)"
            )
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    point = Point("hvp", named_grad(f, argnums, False, "hvp"), tuple(primals))
    return point.push_tree(tuple(tangents), "hvp: tangents")


def hessp(f: Callable[..., Any]) -> Callable[..., Any]:
    """The Hessian-vector product of f as SciPy wants it: a function of ``(x, p, *args)``.

    f(x, *args) returns a single float tensor; x and p are arrays of one shape, or structures of these. Product
    and errors are those of ``hvp``.

    >>> import fastgrad as fg, numpy as np
    >>> fg.hessp(lambda x, scale: scale * np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 1.0]), 10.0)
    array([ 60., 120.])
    """
    if not callable(f):
        raise TypeError(f"hessp: expected a function, got {f!r}")

    @transformed(f, hessp)
    def product(x: Any, p: Any, *args: Any) -> Any:
        gradient = named_grad(lambda x: f(x, *args), 0, False, "hessp")
        return Point("hessp", gradient, x, call=gradient, what="x", cure="pass it in args").push_tree(p, "hessp: p")

    return product


def elementwise_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the derivative of f at each element, for an f that works on each element by itself.

    Parameters
    ----------
    f : callable
        Returns a float tensor of any shape. An element of the result may depend on the element in its place only: of
        other functions this is the gradient of the sum of the results.
    argnums : int or sequence of ints
        As for ``grad``.

    Returns
    -------
    callable
        Takes f's arguments, returns an array in the shape of the argument (a tuple for a sequence of argnums).

    Raises as ``grad`` does.

    >>> import fastgrad as fg, numpy as np
    >>> fg.elementwise_grad(np.sin)(np.array([0.0, np.pi]))
    array([ 1., -1.])
    """
    if not callable(f):
        raise TypeError(f"elementwise_grad: expected a function, got {f!r}")

    @functools.wraps(f)
    def total(*args: Any, **kwargs: Any) -> Any:
        y = f(*args, **kwargs)
        return _core.sum(y) if isinstance(y, Tensor) else y

    return transformed(f, elementwise_grad, argnums)(named_grad(total, argnums, False, "elementwise_grad"))


def _by_rows(point: Point) -> list[list[Tensor]]:
    """The Jacobian by passes back: a list for each result, with an array for each argument."""
    rows = vmap_over_basis(point.pull, point.results, point.passes_are_short)
    return [
        [_shaped(part, (*y.shape, *x.shape)) for part, x in zip(parts, point.watched)]
        for y, parts in zip(point.results, _split(rows, point.results))
    ]


def _by_columns(point: Point) -> list[list[Tensor]]:
    """The same by passes forward."""
    columns = vmap_over_basis(point.push, point.watched, point.passes_are_short, point.push_rows)
    return [
        [
            _shaped(part.transpose((*range(1, part.ndim), 0)), (*y.shape, *x.shape))
            for part, x in zip(parts, point.watched)
        ]
        for y, parts in zip(point.results, zip(*_split(columns, point.watched)))
    ]


def _jacobian(
    make: Callable[..., Any],
    pass_over: Callable[[Point], list[list[Tensor]]],
    f: Callable[..., Any],
    argnums: Any,
    has_aux: bool,
    name: str,
) -> Callable[..., Any]:
    """What ``make(f, argnums, has_aux)`` returns; ``name`` is the transform that the user called, for errors."""
    if not callable(f):
        raise TypeError(f"{name}: expected a function, got {f!r}")
    several = isinstance(argnums, (tuple, list))
    numbers = argnum_tuple(argnums, name)

    @transformed(f, make, argnums, has_aux)
    def jacobian_of_f(*args: Any, **kwargs: Any) -> Any:
        places = argument_places(numbers, args, f, name)

        def call(given: Any) -> Any:
            filled = list(args)
            for i, x in given.items() if several else ((places[0], given),):
                filled[i] = x
            return f(*filled, **kwargs)

        given, what = ({i: args[i] for i in places}, "args") if several else (args[places[0]], f"args[{places[0]}]")
        point = Point(name, f, given, has_aux, call=call, what=what, cure=LEAVE_OUT)
        blocks = [point.structure.unflatten(point.outward(found, point.recorded)) for found in pass_over(point)]
        if several:
            blocks = [tuple([block[i] for i in places]) for block in blocks]
        result = point.result_structure.unflatten(blocks)
        return (result, point.aux()) if has_aux else result

    return jacobian_of_f


def _shaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x itself, which may be given away, where it has the shape."""
    return x if x.shape == shape else x.reshape(shape)


def _split(stacks: list[Tensor], tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """For each tensor, the parts of all stacks that belong to its elements."""
    if len(tensors) == 1:
        return [stacks]
    found, at = [], 0
    for x in tensors:
        found.append([stack[at : at + x.size] for stack in stacks])
        at += x.size
    return found
