"""Functions of symmetric matrices through their eigenvalues, with derivatives that are exact at equal ones, too.

For A = V diag(w) V^T, f(A) is V diag(f(w)) V^T. Its derivative along E is V (K * (V^T E V)) V^T with the divided
differences K[i, j] = (f(w[i]) - f(w[j])) / (w[i] - w[j]), and f'(w[i]) where the two are equal: the formula of Daleckii
and Krein, as in Higham, "Functions of matrices" (2008), theorem 3.11. The derivative of order k along E_1 ... E_k is
the sum over their orders of products of the V^T E V with divided differences of order k. As a form of k + 1 matrices,
``sum(g * D^k f(A)[E_1 ... E_k])`` does not depend on their order, because f(A) is itself a gradient, of the trace of an
antiderivative of f. So the rule of each derivative consists of derivatives again.
"""

from __future__ import annotations

import functools
import itertools
import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, absolute, reshape, where
from .._numpy.contractions import einsum
from .._numpy.decompositions import eigenpairs
from .._numpy.incomplete_integrals import gauss_legendre
from .._numpy.linalg import floats
from .._rules.vjp import swapped, symmetric
from .custom import custom_vjp
from .jacobian import elementwise_grad

if TYPE_CHECKING:
    from .._numpy.typing import TensorLike

__all__ = ["funm_symmetric"]

_NODES = 8
Function = Callable[..., Any]


def funm_symmetric(A: TensorLike, func: Function, UPLO: str = "L") -> Tensor:
    """A function of a symmetric matrix, ``V @ diag(func(w)) @ V.T`` for its eigenvalues w and eigenvectors V.

    As ``scipy.linalg.funm``, for symmetric matrices: with ``np.sqrt`` it is ``sqrtm``, with ``np.log`` ``logm``, with
    ``lambda w: w**p`` ``fractional_matrix_power``.

    Parameters
    ----------
    A : array_like, shape (..., n, n)
        Only the lower triangle is read, or with ``UPLO="U"`` the upper one.
    func : callable
        Takes a tensor of any shape and returns its elementwise function. It must be differentiable at the eigenvalues
        as often as the result is to be differentiated. What else it reads is constant: tensors that are differentiated
        raise TypeError. A power p that is differentiated is ``funm_symmetric(p * funm_symmetric(A, np.log), np.exp)``.
    UPLO : "L" or "U"

    The gradient is symmetric, as that of ``eigh``. It is exact to every order, also where eigenvalues are equal, where
    that of ``eigh`` is not: by divided differences of func (Daleckii and Krein; Higham, "Functions of matrices", 2008).
    Those of close eigenvalues are integrals of the derivative of func. A derivative of order k takes memory for some
    ``9**(k-1) * n**(k+1)`` numbers. Raises LinAlgError as ``eigh``, and ValueError if func does not keep the shape.

    >>> import fastgrad as fg, numpy as np
    >>> root = fg.linalg.funm_symmetric([[5.0, 4.0], [4.0, 5.0]], np.sqrt)
    >>> root.numpy().round(4)
    array([[2., 1.],
           [1., 2.]])
    >>> fg.grad(lambda a: fg.linalg.funm_symmetric(a, np.sqrt).sum())(np.eye(2))
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    if not callable(func):
        raise TypeError(f"funm_symmetric: expected func as a function of eigenvalues, got {func!r}")
    a = floats(A)
    w, v = eigenpairs("funm_symmetric", a.detach(), UPLO)
    return _derivative(func, a, w, v)


def _derivative(func: Function, a: Tensor, w: Tensor, v: Tensor, *directions: Tensor) -> Tensor:
    """The derivative of f(a) along these directions, of which there may be none. The eigenvalues w and eigenvectors v
    of a have no derivative of their own here."""

    @custom_vjp
    def value(a: Tensor, w: Tensor, v: Tensor, *directions: Tensor) -> Tensor:
        return _value(func, w, v, directions)

    def fwd(*args: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        _, w, v, *directions = args
        return _value(func, w, v, directions), args

    def bwd(args: tuple[Tensor, ...], g: Tensor) -> tuple[Any, ...]:
        a, w, v, *directions = args
        g = symmetric(g)
        others = [_derivative(func, a, w, v, *directions[:i], g, *directions[i + 1 :]) for i in range(len(directions))]
        return (_derivative(func, a, w, v, *directions, g), None, None, *others)

    value.defvjp(fwd, bwd)
    y: Tensor = value(a, w, v, *directions)
    return y


def _value(func: Function, w: Tensor, v: Tensor, directions: Any) -> Tensor:
    order, n = len(directions), w.shape[-1]
    if order == 0:
        values = _core.asarray(func(w))
        if values.shape != w.shape:
            raise ValueError(f"funm_symmetric: expected func to keep the shape {w.shape}, got {values.shape}")
        y: Tensor = (v * reshape(values, (*w.shape[:-1], 1, n))) @ swapped(v)
        return y
    turned = [swapped(v) @ symmetric(x) @ v for x in directions]
    axes = string.ascii_lowercase[: order + 1]
    # w along each of the axes of an array of n^(order + 1) numbers for each matrix
    shape = (*w.shape[:-1], *(n,) * (order + 1))
    at = [
        _core.broadcast_to(reshape(w, (*w.shape[:-1], *(n if i == j else 1 for j in range(order + 1)))), shape)
        for i in range(order + 1)
    ]
    differences = _difference(func, order)(*at)
    terms = ",".join(f"...{i}{j}" for i, j in itertools.pairwise(axes))
    subscripts = f"...{axes},{terms}->...{axes[0]}{axes[-1]}"
    inner: Any = 0.0
    for permuted in itertools.permutations(turned):
        inner = inner + einsum(subscripts, differences, *permuted)
    y = v @ inner @ swapped(v)
    return y


# ---- divided differences ---------------------------------------------------------------------------------------------
def _difference(func: Function, order: int) -> Function:
    """The divided difference of func of this order: a function of order + 1 arrays of one shape, elementwise."""
    if order == 0:
        return func
    lower = _difference(func, order - 1)

    def difference(*at: Tensor) -> Tensor:
        *fixed, x, y = at

        def of_last(t: Tensor) -> Tensor:
            return lower(*(_core.broadcast_to(z, t.shape) for z in fixed), t)  # type: ignore[no-any-return]

        return _first_difference(of_last, x, y)

    return difference


@functools.cache
def _rule() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre's rule on [0, 1], and weights of the last coefficient of the polynomial
    through values at the nodes."""
    nodes, weights = gauss_legendre(_NODES)
    return nodes, weights, weights * np.polynomial.legendre.Legendre.basis(_NODES - 1)(2 * nodes - 1) * (2 * _NODES - 1)


def _first_difference(func: Function, x: Tensor, y: Tensor) -> Tensor:
    """(func(y) - func(x)) / (y - x), where that loses no more digits than the integral of the derivative, else that."""
    slope = elementwise_grad(func)
    nodes, weights, last = (np.reshape(z, (_NODES,) + (1,) * x.ndim).astype(x.dtype) for z in _rule())

    def slopes(gap: Tensor) -> Any:
        return _core.asarray(slope(x + nodes * gap))

    gap = y - x
    fx, fy = func(x), func(y)
    # The last coefficient of the polynomial through the derivative is about the root of its relative error.
    s = slopes(gap.detach()).detach()
    error = _core.square((s * last).sum(0)) * absolute(gap.detach())
    rounding = (absolute(fx) + absolute(fy)).detach() * float(np.finfo(x.dtype).eps)
    near = error <= rounding * absolute((s * weights).sum(0))
    quotient = (fy - fx) / where(near, 1.0, gap)
    integral = (slopes(where(near, gap, 0.0)) * weights).sum(0)
    return where(near, integral, quotient)
