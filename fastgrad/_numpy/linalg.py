"""Linear algebra under the names of ``numpy.linalg`` and ``scipy.linalg``: the public module ``fastgrad.linalg``.

Factors and solutions are operations of the core (csrc/ops/factorizations.c); the rest is composed of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import _core
from .. import _lapack as _lapack  # which hands the core its functions
from .._core import Tensor, apply_op, asarray, astype, reshape
from .._rules.decompositions import REDUCED
from .._rules.vjp import symmetric
from .shapes import swapaxes

if TYPE_CHECKING:
    from .typing import TensorLike


# ---- operands --------------------------------------------------------------------------------------------------------
_CHOLESKY, _FACTOR, _SOLVE, _SOLVE_TRIANGULAR, _SLOGDET, _SVD = [
    _core.OP_NUMBERS[name] for name in ("cholesky", "factor", "solve", "solve_triangular", "slogdet", "svd")
]


def floats(x: TensorLike) -> Tensor:
    """x as a tensor of floats; integers and booleans as float64, as NumPy's functions take them."""
    x = asarray(x)
    return x if x.dtype.kind == "f" else astype(x, np.float64)


def both(name: str, a: TensorLike, b: TensorLike) -> tuple[Tensor, Tensor, bool]:
    """Matrices and right-hand sides in one float dtype, and whether b was a vector, which becomes a column."""
    dtype, (x, y) = _core.promoted(name, a, b)
    if dtype.kind != "f":
        dtype = np.dtype(np.float64)
    x, y = [t if t.dtype == dtype else astype(t, dtype) for t in (x, y)]
    if y.ndim == 0:
        raise ValueError(f"{name}: expected a vector, a matrix or a stack of matrices on the right, got a number")
    is_vector = y.ndim == 1
    return x, reshape(y, (y.shape[0], 1)) if is_vector else y, is_vector


def squeezed(y: Tensor, is_vector: bool) -> Tensor:
    """A solution without the axis that `both` gave to a vector."""
    return reshape(y, y.shape[:-1]) if is_vector else y


def check_square(name: str, x: Tensor) -> None:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError(f"{name}: expected a square matrix or a stack of them, got shape {x.shape}")


def factored(name: str, x: Tensor, how: int) -> Tensor:
    """The factorization from which the operations solve and slogdet compute. The same factorization of the same matrix
    is one instruction of a program, also where several functions ask for it."""
    check_square(name, x)
    return apply_op(_FACTOR, [x.detach()], (how,))


# ---- Cholesky factors ------------------------------------------------------------------------------------------------
def cholesky(
    a: TensorLike, *, upper: bool = False, lower: bool | None = None, overwrite_a: bool = False,
    check_finite: bool = True,
) -> Tensor:  # fmt: skip
    """The triangle L with ``a = L @ L.T``, or U with ``a = U.T @ U``, as ``numpy.linalg.cholesky``.

    ``a`` is a symmetric positive definite matrix, or a stack of them in the last two axes, of which only the triangle
    asked for is read: by NumPy's ``upper`` or SciPy's ``lower``. By default it is the lower one, as NumPy's; that of
    ``scipy.linalg.cholesky`` is the upper one. SciPy's ``overwrite_a`` and ``check_finite`` change nothing, as in JAX:
    a is not written to, and nan gives nan. Raises LinAlgError for a matrix that is not square or not positive definite,
    ValueError for both upper and lower.

    The gradient is symmetric: it is that of ``cholesky((a + a.T) / 2)``, by the formula of Murray, "Differentiation of
    the Cholesky decomposition" (2016).

    >>> import fastgrad as fg
    >>> fg.linalg.cholesky([[4.0, 2.0], [2.0, 5.0]])
    tensor([[2., 0.],
            [1., 2.]])
    """
    if upper and lower:
        raise ValueError("cholesky: expected upper or lower, got both")
    return triangle_of("cholesky", a, upper if lower is None else not lower)


def triangle_of(name: str, a: TensorLike, upper: bool) -> Tensor:
    """The Cholesky factor of a, for a function of this name."""
    x, attr = floats(a), () if name == "cholesky" else (_core.CALLERS[name],)
    if not upper or x.ndim < 2 or x.shape[-1] != x.shape[-2]:  # the operation names the shape it is given
        return apply_op(_CHOLESKY, [x], attr)
    return swapaxes(apply_op(_CHOLESKY, [swapaxes(x, -1, -2)], attr), -1, -2)


def cho_factor(
    a: TensorLike, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Tensor, bool]:
    """The Cholesky factor of ``a`` and which triangle it is, for ``cho_solve``; as ``scipy.linalg.cho_factor``, but
    the other triangle is 0. As in JAX ``overwrite_a`` and ``check_finite`` change nothing: a is not written to, and nan
    gives nan.

    >>> import fastgrad as fg
    >>> fg.linalg.cho_factor([[4.0, 2.0], [2.0, 5.0]], lower=True)
    (tensor([[2., 0.],
             [1., 2.]]), True)
    """
    return triangle_of("cho_factor", a, not lower), bool(lower)


def cho_solve(
    c_and_lower: tuple[TensorLike, bool], b: TensorLike, overwrite_b: bool = False, check_finite: bool = True
) -> Tensor:
    """The solution y of ``a @ y = b`` by the Cholesky factor of a: ``c_and_lower`` is the factor and whether it is the
    lower triangle; as ``scipy.linalg.cho_solve``.

    b is a vector, a matrix or a stack of matrices; leading axes broadcast. As in JAX ``overwrite_b`` and
    ``check_finite`` change nothing: b is not written to, and nan gives nan. Raises LinAlgError if the factor has a zero
    on its diagonal.

    >>> import fastgrad as fg
    >>> factor = fg.linalg.cho_factor([[4.0, 2.0], [2.0, 5.0]])
    >>> fg.linalg.cho_solve(factor, [8.0, 12.0])
    tensor([1., 2.])
    """
    if not isinstance(c_and_lower, (tuple, list)) or len(c_and_lower) != 2:
        raise TypeError(
            f"cho_solve: expected the pair (factor, lower) that cho_factor returns, got {type(c_and_lower).__name__}"
        )
    c, lower = c_and_lower
    x, y, is_vector = both("cho_solve", c, b)
    first = _core.LOWER if lower else _core.TRANSPOSED
    caller = _core.CALLERS["cho_solve"]
    half = apply_op(_SOLVE_TRIANGULAR, [x, y], (first, caller))
    return squeezed(apply_op(_SOLVE_TRIANGULAR, [x, half], (first ^ _core.TRANSPOSED, caller)), is_vector)


# ---- equations -------------------------------------------------------------------------------------------------------
# scipy.linalg's names of structures, and those that stand for the same. A banded matrix is solved as any other.
_STRUCTURES = {
    None: "general", "gen": "general", "general": "general", "banded": "general",
    "pos": "positive definite", "positive definite": "positive definite",
    "sym": "symmetric", "symmetric": "symmetric", "her": "symmetric", "hermitian": "symmetric",
    "diagonal": "diagonal", "tridiagonal": "tridiagonal",
    "upper triangular": "upper triangular", "lower triangular": "lower triangular",
}  # fmt: skip
_TRANSPOSES = {"upper triangular": "lower triangular", "lower triangular": "upper triangular"}


def solve(
    a: TensorLike, b: TensorLike, assume_a: str | None = "gen", *, lower: bool | None = None, transposed: bool = False,
    overwrite_a: bool = False, overwrite_b: bool = False, check_finite: bool = True,
) -> Tensor:  # fmt: skip
    """The solution y of ``a @ y = b``, as ``numpy.linalg.solve``, with the structures of ``scipy.linalg.solve``.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
    b : array_like, shape (n,) or (..., n, k)
        With one axis it is a vector, else a stack of matrices (NumPy 2's rule). Leading axes broadcast.
    assume_a : str or None
        What is known of a, by SciPy's names:

        - "gen" or "general", "banded", None: nothing; a is factored as L U.
        - "pos" or "positive definite": a is symmetric and positive definite, which takes half the time. Only its lower
          triangle is read, and its gradient is symmetric, as that of ``cholesky``.
        - "sym" or "symmetric", "her" or "hermitian": ``(a + a.T) / 2`` is taken for a, so that the gradient is
          symmetric. It takes as long as "gen".
        - "upper triangular", "lower triangular", "diagonal": as ``solve_triangular``; other elements are not read.
        - "tridiagonal": elements off the three diagonals are not read. It takes as long as "gen".
    lower : bool, optional
        With "pos" and "sym", the one triangle that is read. (SciPy reads the upper one by default.)
    transposed : bool
        ``a.T @ y = b`` is solved.
    overwrite_a, overwrite_b, check_finite : bool
        As in JAX these change nothing: a and b are not written to, and nan gives nan.

    Raises LinAlgError for a matrix that is not square, that is singular, or, with "pos", not positive definite, and
    ValueError where lengths differ. float32 and float64 are kept, integers are taken as float64. The gradient uses the
    factor of the solution.

    >>> import fastgrad as fg
    >>> fg.linalg.solve([[2.0, 1.0], [1.0, 3.0]], [4.0, 7.0])
    tensor([1., 2.])
    >>> fg.linalg.solve([[2.0, 1.0], [1.0, 4.0]], [4.0, 8.0], assume_a="diagonal")
    tensor([2., 2.])
    """
    return _solved("solve", a, b, assume_a, lower, transposed)


def _solved(
    name: str, a: TensorLike, b: TensorLike, assume_a: str | None, lower: bool | None, transposed: bool = False
) -> Tensor:
    """What ``solve`` returns, for a function of this name."""
    structure = _STRUCTURES.get(assume_a) if assume_a is None or isinstance(assume_a, str) else None
    if structure is None:
        names = ", ".join([repr(name) for name in _STRUCTURES if name is not None])
        raise ValueError(f"{name}: expected assume_a as one of {names}, or None, got {assume_a!r}")
    if transposed and structure not in ("positive definite", "symmetric", "diagonal"):  # which are their transposes
        x = floats(a)
        check_square(name, x)
        a, structure = swapaxes(x, -1, -2), _TRANSPOSES.get(structure, structure)
    if structure == "general":
        return solution(name, a, b, _core.BY_LU)
    if structure == "positive definite" and lower is not False:
        return solution(name, a, b, _core.BY_CHOLESKY)
    x = floats(a)
    check_square(name, x)
    if structure == "positive definite":
        return solution(name, swapaxes(x, -1, -2), b, _core.BY_CHOLESKY)
    if structure == "symmetric":
        return solution(name, symmetric(x) if lower is None else _mirrored(x, lower), b, _core.BY_LU)
    if structure == "tridiagonal":
        i = np.arange(x.shape[-1])
        near = np.abs(i[:, None] - i) <= 1
        return solution(name, _core.where(near, x, x.dtype.type(0)), b, _core.BY_LU)
    if structure == "diagonal":
        x = _core.where(np.eye(x.shape[-1], dtype=bool), x, x.dtype.type(0))
    x, y, is_vector = both(name, x, b)
    how = _core.LOWER * (structure != "upper triangular")
    return squeezed(apply_op(_SOLVE_TRIANGULAR, [x, y], (how, _core.CALLERS[name])), is_vector)


def _mirrored(x: Tensor, lower: bool) -> Tensor:
    """The lower or the upper triangle, mirrored."""
    x, n = x if lower else swapaxes(x, -1, -2), x.shape[-1]
    below = _core.where(np.tri(n, k=-1, dtype=bool), x, x.dtype.type(0))
    return _core.where(np.eye(n, dtype=bool), x, below + swapaxes(below, -1, -2))


def solution(name: str, a: TensorLike, b: TensorLike, how: int) -> Tensor:
    """The solution of equations, for a function of this name."""
    x, y, is_vector = both(name, a, b)
    return squeezed(apply_op(_SOLVE, [x, factored(name, x, how), y], (how, _core.CALLERS[name])), is_vector)


_TRANS = {0: False, 1: True, 2: True, "N": False, "T": True, "C": True}


def solve_triangular(
    a: TensorLike, b: TensorLike, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False,
    overwrite_b: bool = False, check_finite: bool = True,
) -> Tensor:  # fmt: skip
    """The solution y of ``a @ y = b`` for a triangular matrix a, as ``scipy.linalg.solve_triangular``.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Only one triangle of it is read, and only that has a gradient.
    b : array_like, shape (n,) or (..., n, k)
        With one axis it is a vector, else a stack of matrices. Leading axes broadcast.
    trans : 0 or "N"; 1, 2, "T" or "C"
        The latter: ``a.T @ y = b`` is solved.
    lower : bool
        Whether a is lower triangular.
    unit_diagonal : bool
        The diagonal of a is taken as ones and is not read.
    overwrite_b, check_finite : bool
        As in JAX these change nothing: b is not written to, and nan gives nan.

    Raises LinAlgError for a matrix that is not square or has a zero on its diagonal, ValueError where lengths differ.

    >>> import fastgrad as fg
    >>> fg.linalg.solve_triangular([[2.0, 0.0], [1.0, 4.0]], [2.0, 9.0], lower=True)
    tensor([1., 2.])
    """
    if not isinstance(trans, (int, np.integer, str)) or trans not in _TRANS:
        raise ValueError(f"solve_triangular: expected trans as 0, 1, 2, 'N', 'T' or 'C', got {trans!r}")
    x, y, is_vector = both("solve_triangular", a, b)
    how = _core.LOWER * bool(lower) | _core.TRANSPOSED * _TRANS[trans] | _core.UNIT * bool(unit_diagonal)
    return squeezed(apply_op(_SOLVE_TRIANGULAR, [x, y], (how,)), is_vector)


def inv(
    a: TensorLike, *, assume_a: str | None = None, lower: bool | None = None, overwrite_a: bool = False,
    check_finite: bool = True,
) -> Tensor:  # fmt: skip
    """The inverse of a matrix, or of each of a stack of them, as ``numpy.linalg.inv``.

    ``assume_a`` and ``lower`` are as those of ``solve``; SciPy's ``overwrite_a`` and ``check_finite`` change nothing.
    ``solve`` is faster and more accurate where the inverse is only multiplied with something. Raises as ``solve``.

    >>> import fastgrad as fg
    >>> fg.linalg.inv([[2.0, 0.0], [0.0, 4.0]])
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    if assume_a is None:
        return inverse("inv", a)
    x = floats(a)
    check_square("inv", x)
    return _solved("inv", x, np.eye(x.shape[-1], dtype=x.dtype), assume_a, lower)


def inverse(name: str, a: TensorLike) -> Tensor:
    """The inverse, for a function of this name; of integers and booleans in float64."""
    x = floats(a)
    factor = factored(name, x, _core.BY_LU)
    one = np.eye(x.shape[-1], dtype=x.dtype)
    return apply_op(_SOLVE, [x, factor, asarray(one)], (_core.BY_LU, _core.CALLERS[name]))


# ---- determinants ----------------------------------------------------------------------------------------------------
class SlogdetResult(NamedTuple):
    """What ``slogdet`` returns."""

    sign: Tensor
    logabsdet: Tensor


def slogdet(a: TensorLike) -> SlogdetResult:
    """Sign and logarithm of the absolute value of the determinant, as ``numpy.linalg.slogdet``.

    Of a singular matrix they are 0 and -inf, and the gradient is not finite. The sign has none. Raises LinAlgError for
    a matrix that is not square.

    >>> import fastgrad as fg
    >>> sign, logabsdet = fg.linalg.slogdet([[0.0, 1.0], [1.0, 0.0]])
    >>> sign, logabsdet
    (tensor(-1.), tensor(0.))
    """
    return _slogdet("slogdet", a)


def _slogdet(name: str, a: TensorLike) -> SlogdetResult:
    x = floats(a)
    both = apply_op(_SLOGDET, [x, factored(name, x, _core.BY_LU)])
    return SlogdetResult(both[..., 0].detach(), both[..., 1])


def det(a: TensorLike, *, overwrite_a: bool = False, check_finite: bool = True) -> Tensor:
    """The determinant, as ``numpy.linalg.det``: sign and exponential of what ``slogdet`` returns.

    The gradient is the matrix of cofactors, also where a is singular. Up to 4 rows the determinant is differentiated as
    a polynomial; beyond, the gradient is ``det(a) * inv(a).T``, or, where the matrix may be singular, is computed in
    bases of singular vectors that count as constants. Then first and second derivatives are exact, and those of every
    order if the rank is at least n - 2. SciPy's ``overwrite_a`` and ``check_finite`` change nothing. Raises LinAlgError
    for a matrix that is not square, or as ``svd``.

    >>> import fastgrad as fg
    >>> fg.linalg.det([[0.0, 2.0], [1.0, 3.0]])
    tensor(-2.)
    """
    x = floats(a)
    sign, logabsdet = _slogdet("det", x)
    value: Tensor = sign * _core.exp(logabsdet)
    if not (x.requires_grad or _core.traced(x)) or not x.size:
        return value
    n = x.shape[-1]
    if n <= 4:
        slopes = _by_cofactors(x)
    elif _core.traced(x) or _may_be_singular(x):
        slopes = _by_singular_vectors(x)
    else:
        return value
    return value.detach() + (slopes - slopes.detach())


def _may_be_singular(x: Tensor) -> bool:
    """Whether a pivot of a matrix whose values are known is small, compared with the largest of the same matrix."""
    n = x.shape[-1]
    triangles = factored("det", x, _core.BY_LU).detach().numpy()[..., :n, :]
    pivots = np.abs(np.diagonal(triangles, axis1=-2, axis2=-1))
    least = 1e3 * n * np.finfo(x.dtype).eps * pivots.max(-1, initial=0)
    return not bool((pivots.min(-1, initial=np.inf) > least).all())


def _by_cofactors(x: Tensor) -> Tensor:
    """The determinant of matrices with up to 4 rows, as a polynomial in the elements."""

    def minor(row: int, i: int, j: int) -> Tensor:
        """The determinant of columns i and j of this row and the next."""
        return x[..., row, i] * x[..., row + 1, j] - x[..., row, j] * x[..., row + 1, i]

    n = x.shape[-1]
    if n == 1:
        return x[..., 0, 0]
    if n == 2:
        return minor(0, 0, 1)
    if n == 3:
        y: Tensor = x[..., 0, 0] * minor(1, 1, 2) - x[..., 0, 1] * minor(1, 0, 2) + x[..., 0, 2] * minor(1, 0, 1)
        return y
    y = minor(0, 0, 1) * minor(2, 2, 3) - minor(0, 0, 2) * minor(2, 1, 3) + minor(0, 0, 3) * minor(2, 1, 2)
    return y + minor(0, 1, 2) * minor(2, 0, 3) - minor(0, 1, 3) * minor(2, 0, 2) + minor(0, 2, 3) * minor(2, 0, 1)


def _by_singular_vectors(x: Tensor) -> Tensor:
    """The determinant of matrices with at least 3 rows in a form that is smooth where they are singular.

    In bases of singular vectors, taken for constants, the matrix is B = U^T x V, with the two smallest singular values
    in a corner. Then det x = +-det(B11) det(C) for the larger block B11, which is regular if the rank is n - 2, and the
    complement C = B22 - B21 B11^-1 B12 of 2 rows, whose determinant is a polynomial. If the rank is less, the first and
    second derivatives are 0.
    """
    n, at = x.shape[-1], x.detach()
    finite = _core.sum(at * 0.0, (-2, -1), keepdims=True) == 0.0  # nan is no error here, but it is one of svd
    at = _core.where(finite, at, np.eye(n, dtype=x.dtype))
    packed = apply_op(_SVD, [at], (REDUCED, _core.CALLERS["det"]))
    s = packed[..., :n]
    u, vt = [reshape(packed[..., i : i + n * n], x.shape) for i in (n, n + n * n)]
    b = swapaxes(u, -1, -2) @ x @ swapaxes(vt, -1, -2)
    m = n - 2
    enough = s[..., m - 1] > s[..., 0] * (n * float(np.finfo(x.dtype).eps))
    matrix_wise = reshape(enough, (*enough.shape, 1, 1))
    large = _core.where(matrix_wise, b[..., :m, :m], np.eye(m, dtype=x.dtype))
    solved = apply_op(_SOLVE, [large, factored("det", large, _core.BY_LU), b[..., :m, m:]],
                      (_core.BY_LU, _core.UNCHECKED))  # fmt: skip
    scale = _core.where(s[..., m] > 0, s[..., m], 1.0)
    rest = _by_cofactors((b[..., m:, m:] - b[..., m:, :m] @ solved) / reshape(scale, (*scale.shape, 1, 1)))
    sign, size = _slogdet("det", large)
    orientation = _slogdet("det", u @ vt).sign
    product: Tensor = orientation * sign * _core.exp(size + 2 * _core.log(scale)) * rest
    return _core.where(enough, product, 0.0)


__all__ = [
    "SlogdetResult", "cho_factor", "cho_solve", "cholesky", "det", "inv", "slogdet", "solve",
    "solve_triangular",
]  # fmt: skip
