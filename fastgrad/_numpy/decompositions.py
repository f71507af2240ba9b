"""Decompositions of matrices under the names of ``numpy.linalg`` and ``scipy.linalg``, and what is made of them.

The decompositions are operations of the core (csrc/ops/decompositions.c). Each returns its parts one after the other in
one array, which is split here. Their derivatives are in fastgrad/_rules/decompositions.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from .._core import Tensor, apply_op, asarray, astype, reshape
from .._rules.decompositions import FULL, REDUCED, VALUES_ONLY, split_eig, split_qr, split_svd
from .._rules.vjp import swapped
from .linalg import both, floats, squeezed

if TYPE_CHECKING:
    from .typing import TensorLike

_EIGH, _SVD, _QR, _EIG, _EXPM, _PINV, _TRIANGLE = [
    _core.OP_NUMBERS[name] for name in ("eigh", "svd", "qr", "eig", "expm", "pinv", "triangle")
]


# ---- results ---------------------------------------------------------------------------------------------------------
class EighResult(NamedTuple):
    """What ``eigh`` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class EigResult(NamedTuple):
    """What ``eig`` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVDResult(NamedTuple):
    """What ``svd`` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class QRResult(NamedTuple):
    """What ``qr`` returns."""

    Q: Tensor
    R: Tensor


def _matrices(name: str, a: TensorLike) -> Tensor:
    x = floats(a)
    if x.ndim < 2:
        raise np.linalg.LinAlgError(f"{name}: expected a matrix or a stack of them, got shape {x.shape}")
    return x


# ---- symmetric matrices ----------------------------------------------------------------------------------------------
def _upper(name: str, uplo: str, lower: bool | None = None) -> int:
    triangle = uplo.upper() if isinstance(uplo, str) else uplo
    if triangle not in ("L", "U"):
        raise ValueError(f"{name}: expected UPLO as 'L' or 'U', got {uplo!r}")
    return int(triangle == "U" if lower is None else not lower)


def eigh(
    a: TensorLike, UPLO: str = "L", *, lower: bool | None = None, overwrite_a: bool = False, check_finite: bool = True
) -> EighResult:
    """Eigenvalues, in ascending order, and eigenvectors, as columns, of a symmetric matrix, as ``numpy.linalg.eigh``.

    ``a`` is a matrix or a stack of matrices in the last two axes; only the lower triangle is read, or with ``UPLO="U"``
    the upper one; SciPy's ``lower`` takes the place of UPLO, and ``overwrite_a`` and ``check_finite`` change nothing.
    Returns a named tuple of ``eigenvalues`` (..., n) and ``eigenvectors`` (..., n, n). The sign of an
    eigenvector is LAPACK's choice; so is the basis of the eigenvectors where eigenvalues are equal, and only functions
    that depend on neither have a derivative that means something.

    The gradient is symmetric, as that of ``cholesky``. Where eigenvalues are different it is exact, to every order.
    Where some are equal, up to rounding, it is finite: the part of it that would mix their eigenvectors is left out.
    First derivatives are exact there for functions of the eigenvalues that treat equal ones alike, such as
    ``sum(f(w))``, and for functions that depend on the eigenvectors of equal eigenvalues only through the space that
    they span, such as the projection on it. For other functions they are not exact: the derivative of
    ``V @ diag(f(w)) @ V.T`` lacks the terms ``f'(w)`` that mix equal eigenvalues, and so does the second derivative of
    ``sum(f(w))``. For these use ``funm_symmetric(a, f)``, and its trace, which are exact to every order. A function
    that depends on the choice of the basis has no derivative there; what is returned is that for a basis held fixed.
    Functions that are sums, products and inverses of the matrix itself are better written as such, and ``expm`` has a
    derivative everywhere. Formulas: Giles, "Collected matrix derivative results for forward and reverse mode
    algorithmic differentiation" (2008); Seeger et al., "Auto-differentiating linear algebra" (2017).

    Raises LinAlgError for a matrix that is not square, and where the iteration did not converge or an element is not
    finite, ValueError for another UPLO.

    >>> import fastgrad as fg
    >>> fg.linalg.eigh([[2.0, 0.0], [0.0, 1.0]]).eigenvalues
    tensor([1., 2.])
    """
    return eigenpairs("eigh", floats(a), "LU"[_upper("eigh", UPLO, lower)])


def eigenpairs(name: str, x: Tensor, uplo: str) -> EighResult:
    """Eigenvalues and eigenvectors, for a function of this name."""
    attr = (_upper(name, uplo), 1) if name == "eigh" else (_upper(name, uplo), 1, _core.CALLERS[name])
    return EighResult(*split_eig(apply_op(_EIGH, [x], attr), x.shape[-1]))


def eigvalsh(
    a: TensorLike, UPLO: str = "L", *, lower: bool | None = None, overwrite_a: bool = False, check_finite: bool = True
) -> Tensor:
    """The eigenvalues of a symmetric matrix in ascending order, as ``numpy.linalg.eigvalsh``; see ``eigh``.

    The result has shape (..., n). The gradient computes the eigenvectors.

    >>> import fastgrad as fg
    >>> fg.linalg.eigvalsh([[2.0, 1.0], [1.0, 2.0]])
    tensor([1., 3.])
    """
    return apply_op(_EIGH, [floats(a)], (_upper("eigvalsh", UPLO, lower), 0))


def _symmetric(x: Tensor) -> Tensor:
    """The lower triangle, mirrored."""
    lower = apply_op(_TRIANGLE, [x], (0, -1, 0))
    return apply_op(_TRIANGLE, [x], (0, 0, 0)) + swapped(lower)


# ---- singular values -------------------------------------------------------------------------------------------------
def svd(a: TensorLike, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """The singular value decomposition ``a = U @ diag(S) @ Vh``, as ``numpy.linalg.svd``.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    full_matrices : bool
        U is (..., m, m) and Vh (..., n, n); else (..., m, k) and (..., k, n), for k = min(m, n).
    compute_uv : bool
        If not, only S is returned, as by ``svdvals``.
    hermitian : bool
        a is symmetric, and only its lower triangle is read.

    Returns a named tuple ``U``, ``S`` (..., k), in descending order, and ``Vh``. The sign of a pair of singular vectors
    is LAPACK's choice, as is the basis of those of equal singular values, and of those beyond k.

    Where the singular values are different and positive, the gradient is exact, to every order. Where some are equal it
    is finite, and first derivatives are exact for functions of the singular values that treat equal ones alike, and for
    functions that weigh the vectors of equal singular values alike and do not change when these are rotated, in U and V
    together, such as the polar factor ``U @ Vh``. The derivatives of others lack the part that would mix these vectors,
    as with ``eigh``, also that of ``U @ diag(S) @ Vh``, which is better written as ``a``. A singular value of 0 adds
    nothing to the gradients of U and Vh. The columns beyond k get the derivative of functions of the space that they
    span. Formulas: Giles (2008), as ``eigh``; Wan and Zhang, "Automatic differentiation for complex valued SVD" (2019).

    Raises LinAlgError where the iteration did not converge or an element is not finite.

    >>> import fastgrad as fg
    >>> fg.linalg.svd([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]], full_matrices=False).S
    tensor([4., 3.])
    """
    x = _matrices("svd", a)
    x = _symmetric(x) if hermitian else x
    if not compute_uv:
        return apply_op(_SVD, [x], (VALUES_ONLY,))
    m, n = x.shape[-2:]
    packed = apply_op(_SVD, [x], (FULL if full_matrices else REDUCED,))
    s, u, vh = split_svd(packed, m, n, bool(full_matrices))
    return SVDResult(u, s, vh)


def svdvals(x: TensorLike, /) -> Tensor:
    """The singular values in descending order, of shape (..., min(m, n)), as ``numpy.linalg.svdvals``; see ``svd``.

    >>> import fastgrad as fg
    >>> fg.linalg.svdvals([[3.0, 0.0], [0.0, 4.0]])
    tensor([4., 3.])
    """
    return singular_values("svdvals", x)


def singular_values(name: str, x: TensorLike) -> Tensor:
    """The singular values, for a function of this name."""
    return apply_op(_SVD, [_matrices(name, x)], (VALUES_ONLY, _core.CALLERS[name]))


def matrix_rank(A: TensorLike, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Tensor:
    """How many singular values are greater than ``tol``, as ``numpy.linalg.matrix_rank``: int64 data, no gradient.

    By default ``tol`` is the largest singular value times ``rtol``, which is by default the longer axis times the
    dtype's eps. With less than two axes: whether any element is not 0. Raises ValueError if both are given.

    >>> import fastgrad as fg
    >>> fg.linalg.matrix_rank([[1.0, 2.0], [2.0, 4.0]])
    tensor(1)
    """
    if rtol is not None and tol is not None:
        raise ValueError("matrix_rank: expected tol or rtol, got both")
    x = floats(A).detach()
    if x.ndim < 2:
        return astype(_core.sum(astype(x != 0, np.int64)) > 0, np.int64)
    s = singular_values("matrix_rank", _symmetric(x) if hermitian else x)
    if s.shape[-1] == 0:
        return asarray(np.zeros(s.shape[:-1], np.int64))
    if tol is None:
        rtol = max(x.shape[-2:]) * float(np.finfo(x.dtype).eps) if rtol is None else _column(rtol)
        tol = s[..., :1] * rtol
    else:
        tol = _column(tol)
    return _core.sum(astype(s > tol, np.int64), -1)


def _column(x: Any) -> Any:
    """Numbers for each matrix, to be compared with its singular values; a number stays one."""
    if isinstance(x, (int, float)):
        return x
    x = asarray(x).detach()
    return reshape(x, (*x.shape, 1))


# ---- pseudoinverses --------------------------------------------------------------------------------------------------
def _pseudoinverse(name: str, x: Tensor, rcond: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The pseudoinverse, the singular values and which of them count, the latter two without a gradient."""
    m, n = x.shape[-2:]
    s, u, vt = split_svd(apply_op(_SVD, [x.detach()], (REDUCED, _core.CALLERS[name])), m, n, False)
    large = s > s[..., :1] * rcond
    inverse = _core.where(large, 1.0 / _core.where(large, s, 1.0), 0.0)
    value = (swapped(vt) * reshape(inverse, (*inverse.shape[:-1], 1, inverse.shape[-1]))) @ swapped(u)
    return apply_op(_PINV, [x, value]), s, large


def pinv(a: TensorLike, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Tensor:
    """The Moore-Penrose pseudoinverse, as ``numpy.linalg.pinv``.

    Singular values of at most ``rcond`` times the largest count as 0; the default is 1e-15, and for ``rtol=None`` the
    longer axis times the dtype's eps. Where ``hermitian``, only the lower triangle is read.

    The gradient is that of Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares
    problems whose variables separate" (1973). It is exact to every order, for equal singular values, too, where the
    rank does not change near ``a``, as it does not where that is full. Raises LinAlgError as ``svd``, ValueError for
    both rcond and rtol.

    >>> import fastgrad as fg
    >>> fg.linalg.pinv([[2.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    tensor([[0.5 , 0.  , 0.  ],
            [0.  , 0.25, 0.  ]])
    """
    x = _matrices("pinv", a)
    m, n = x.shape[-2:]
    if rcond is not None and rtol is not np._NoValue:
        raise ValueError("pinv: expected rcond or rtol, got both")
    if rcond is None:
        rcond = 1e-15 if rtol is np._NoValue else rtol
        rcond = max(m, n) * float(np.finfo(x.dtype).eps) if rcond is None else rcond
    if x.size == 0:
        return swapped(x)
    return _pseudoinverse("pinv", _symmetric(x) if hermitian else x, _column(rcond))[0]


def lstsq(a: TensorLike, b: TensorLike, rcond: float | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The solution x of least norm among those for which ``norm(b - a @ x)`` is least, as ``numpy.linalg.lstsq``.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    b : array_like, shape (m,) or (..., m, k)
        With one axis it is a vector, else a stack of matrices. Leading axes broadcast, which NumPy does not allow.
    rcond : float, optional
        Singular values of at most rcond times the largest count as 0; by default the longer axis times the dtype's eps,
        and that eps if it is negative.

    Returns
    -------
    (x, residuals, rank, s)
        The solution; the sums of the squares of ``b - a @ x``, empty if the rank is below n or m is not above n; the
        rank, an int64 without gradient; and the singular values of a. Where the rank is not known, because the function
        is being traced, the residuals are computed if m is above n.

    The gradient is that of ``pinv``. Raises LinAlgError for other shapes, or as ``svd``, TypeError for another rcond.

    >>> import fastgrad as fg
    >>> x, residuals, rank, s = fg.linalg.lstsq([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], [1.0, 3.0, 5.0])
    >>> x, rank
    (tensor([1., 2.]), tensor(2))
    """
    x, y, is_vector = both("lstsq", a, b)
    x = _matrices("lstsq", x)
    m, n = x.shape[-2:]
    if y.shape[-2] != m:
        raise np.linalg.LinAlgError(f"lstsq: {m} rows of a for {y.shape[-2]} of b")
    eps = float(np.finfo(x.dtype).eps)
    if rcond is not None and not isinstance(rcond, (float, int, np.floating, np.integer)):
        raise TypeError(f"lstsq: expected rcond as a number or None, got {rcond!r}")
    rcond = eps * max(m, n) if rcond is None else eps if rcond < 0 else rcond
    tracked = x.requires_grad or _core.traced(x)
    if min(m, n) == 0:
        inverse, values, large = swapped(x), singular_values("lstsq", x), asarray(np.zeros((*x.shape[:-2], 0), bool))
    else:
        inverse, values, large = _pseudoinverse("lstsq", x, rcond)
    s = singular_values("lstsq", x) if tracked else values
    solution = inverse @ y
    rank = _core.sum(astype(large, np.int64), -1)
    full = m > n and (_core.traced(rank) or bool(np.all(rank.detach().numpy() == n)))
    residuals = _core.sum(_core.square(y - x @ solution), -2) if full else asarray(np.zeros(0, x.dtype))
    return squeezed(solution, is_vector), residuals, rank, s


# ---- QR --------------------------------------------------------------------------------------------------------------
def qr(a: TensorLike, mode: str = "reduced") -> Any:
    """Columns Q that are orthonormal and an upper triangle R with ``a = Q @ R``, as ``numpy.linalg.qr``.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    mode : "reduced", "complete" or "r"
        Q is (..., m, k) and R (..., k, n) for k = min(m, n); or (..., m, m) and (..., m, n); or R alone is returned, as
        in "reduced". NumPy's "raw" raises NotImplementedError.

    Returns a named tuple ``Q``, ``R``. The signs are LAPACK's: the diagonal of R may be negative.

    The gradient needs the first k columns of a to be independent, else it raises LinAlgError. Columns of Q beyond n get
    the derivative of functions of the space that they span. Formulas: Walter and Lehmann, "Algorithmic differentiation
    of linear algebra functions with application in optimum experimental design" (2010). If m is below n, the first m
    columns are decomposed, and those of R beyond are ``Q.T @ a``.

    >>> import fastgrad as fg
    >>> q, r = fg.linalg.qr([[3.0, 1.0], [4.0, 2.0]])
    >>> (q @ r)
    tensor([[3., 1.],
            [4., 2.]])
    """
    if mode == "raw":
        raise NotImplementedError("qr: mode 'raw' is not supported on tensors; use 'reduced', 'complete' or 'r'")
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"qr: expected mode as 'reduced', 'complete' or 'r', got {mode!r}")
    x = _matrices("qr", a)
    m, n = x.shape[-2:]
    square = x[..., :m] if m < n else x
    full = mode == "complete" and m > n
    q, r = split_qr(apply_op(_QR, [square], (full, m, min(m, n))), m, min(m, n), full)
    if m < n:
        r = _core.concatenate([r, swapped(q) @ x[..., m:]], axis=-1)
    if full:
        r = _core.concatenate([r, np.zeros((*r.shape[:-2], m - n, n), r.dtype)], axis=-2)
    return r if mode == "r" else QRResult(q, r)


# ---- other matrices --------------------------------------------------------------------------------------------------
def eig(a: TensorLike) -> EigResult:
    """Eigenvalues and eigenvectors, as columns of length 1, of a square matrix, as ``numpy.linalg.eig``.

    There are no complex tensors: the eigenvalues have to be real. Their order and the signs of eigenvectors are
    LAPACK's. The gradient is exact, to every order, where the eigenvalues are different; where some are equal it is as
    ``eigh`` says, and not finite if the matrix has too few eigenvectors. Formulas: Giles (2008), with the derivative of
    the length.

    Raises LinAlgError for a matrix that is not square, did not converge or has an element that is not finite,
    NotImplementedError for one with eigenvalues that are not real.

    >>> import fastgrad as fg
    >>> fg.linalg.eig([[2.0, 1.0], [0.0, 3.0]]).eigenvalues
    tensor([2., 3.])
    """
    x = floats(a)
    return EigResult(*split_eig(apply_op(_EIG, [x], (1,)), x.shape[-1]))


def eigvals(a: TensorLike) -> Tensor:
    """The eigenvalues of a square matrix, which have to be real, as ``numpy.linalg.eigvals``; see ``eig``.

    >>> import fastgrad as fg
    >>> fg.linalg.eigvals([[2.0, 1.0], [0.0, 3.0]])
    tensor([2., 3.])
    """
    return apply_op(_EIG, [floats(a)], (0,))


def expm(A: TensorLike) -> Tensor:
    """The exponential of a square matrix, as ``scipy.linalg.expm``, or of each of a stack of them.

    By a Pade approximant, scaling and squaring: Higham, "The scaling and squaring method for the matrix exponential
    revisited" (2005). The matrix decides how often it is squared, in a compiled program at each call. The derivative,
    exact to every order, is a block of the exponential of a matrix twice as large: Mathias, "A chain rule for matrix
    functions and applications" (1996); Al-Mohy and Higham (2009) discuss it. An element that is not finite makes the
    whole result nan. Raises LinAlgError for a matrix that is not square.

    >>> import fastgrad as fg
    >>> fg.linalg.expm([[0.0, 1.0], [0.0, 0.0]])
    tensor([[1., 1.],
            [0., 1.]])
    """
    return apply_op(_EXPM, [floats(A)])


__all__ = [
    "EigResult", "EighResult", "QRResult", "SVDResult", "eig", "eigh", "eigvals", "eigvalsh", "expm", "lstsq",
    "matrix_rank", "pinv", "qr", "svd", "svdvals",
]  # fmt: skip
