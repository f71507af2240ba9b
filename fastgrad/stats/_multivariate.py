"""Distributions of vectors and matrices, by SciPy's names and arguments. The formulas are those of Kotz, Balakrishnan
and Johnson, "Continuous multivariate distributions" (2000), and Anderson, "An introduction to multivariate statistical
analysis" (2003), 7.2."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import Tensor, astype, log, square, stirling_error, where
from .._numpy.creation import floating
from .._numpy.decompositions import eigh, eigvalsh, pinv
from .._numpy.diagonals import diagonal, tril
from .._numpy.linalg import solve_triangular, triangle_of
from .._numpy.predicates import isnan
from .._numpy.sequences import cumsum
from .._numpy.shapes import swapaxes
from .._numpy.special import gammaln, multigammaln, xlogy
from .._transforms.custom import custom_jvp
from ._base import HALF_LOG_2_PI, LIMITS, Refusing, if_any, with_value
from ._deviance import above_0, deviance

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._numpy.typing import TensorLike

__all__ = ["dirichlet", "multinomial", "multivariate_normal", "wishart"]


class MultivariateNormal(Refusing):
    """The multivariate normal distribution of vectors of length d, in the last axis of x.

    ``mean`` (0 by default) broadcasts with x. ``cov`` (1 by default) is a number, for that times the identity; a
    vector, the diagonal; or a matrix, or a stack of them, of which the lower triangle is read. In its place ``chol``
    may be given, the lower triangle L with ``cov = L @ L.T``, as ``fastgrad.linalg.cholesky`` returns it. Leading axes
    broadcast.

    Where the mean and the covariance are numbers, or have a length of 1, the elements of an x of no or one axis are
    vectors of length 1, as in SciPy: for a standard normal vector of length d give ``mean=np.zeros(d)``. An x of more
    axes consists of vectors also then, where SciPy raises an error.

    With ``allow_singular`` the covariance may be singular: eigenvalues within rounding of 0, measured by the largest
    one, count as 0. The density is that on the subspace through the mean that the other eigenvectors span, and 0 for
    points outside of it. The gradients are those for a constant rank.

    Raises ValueError where the shapes do not fit. Raises LinAlgError for a matrix that is not positive definite; with
    ``allow_singular`` only where an eigenvalue is negative.

    >>> import fastgrad as fg
    >>> fg.stats.multivariate_normal.logpdf([0.0, 1.0], mean=[0.0, 0.0], cov=[[1.0, 0.5], [0.5, 2.0]]).numpy().round(4)
    np.float64(-2.4034)
    """

    def logpdf(
        self,
        x: TensorLike,
        mean: TensorLike | None = None,
        cov: TensorLike | None = None,
        allow_singular: bool = False,
        *,
        chol: TensorLike | None = None,
    ) -> Tensor:
        """The logarithm of the density, of the shape of x without its last axis, broadcast with the stacks of mean and
        covariance."""
        x = floating(x)
        center = None if mean is None else floating(mean)
        if chol is not None and cov is not None:
            raise ValueError("stats.multivariate_normal: expected cov or chol, got both")
        matrix = floating(chol if chol is not None else 1.0 if cov is None else cov)
        lengths = [given.shape[-1] for given in (center, matrix) if given is not None and given.ndim > 0]
        if x.ndim == 0 or (x.ndim == 1 and max(lengths, default=1) == 1 != x.shape[0]):
            x = x.reshape((*x.shape, 1))
        d = x.shape[-1]
        if center is not None and center.shape[-1:] not in ((), (1,), (d,)):
            raise ValueError(f"stats.multivariate_normal: the mean has shape {center.shape}, expected vectors of "
                             f"length {d}, as of x")  # fmt: skip
        deviation = x if center is None else x - center
        if allow_singular:
            if chol is None and matrix.ndim < 2:
                matrix = where(np.eye(d, dtype=bool), matrix, matrix.dtype.type(0))
            _check(matrix.shape[-2:], (d, d))
            if chol is not None:
                matrix = tril(matrix) @ swapaxes(tril(matrix), -1, -2)
            return _on_subspace(deviation, matrix)
        if chol is None and matrix.ndim < 2:
            variances = _core.broadcast_to(matrix, (d,)) if matrix.ndim == 0 else matrix
            _check(variances.shape, (d,))
            return self._density(square(deviation) / variances, log(variances) / 2)
        _check(matrix.shape[-2:], (d, d))
        factor = triangle_of("multivariate_normal", matrix, False) if chol is None else matrix
        if factor.ndim == 2:  # one factor for all points, which are columns
            points = deviation.reshape((math.prod(deviation.shape[:-1]), d))
            whitened = solve_triangular(factor, swapaxes(points, 0, 1), lower=True)
            squares = square(whitened).sum(0).reshape(deviation.shape[:-1])
            return -0.5 * squares - (log(diagonal(factor)).sum() + d * HALF_LOG_2_PI)
        whitened = solve_triangular(factor, deviation.reshape((*deviation.shape, 1)), lower=True)
        return self._density(square(whitened[..., 0]), log(diagonal(factor, axis1=-2, axis2=-1)))

    def pdf(
        self,
        x: TensorLike,
        mean: TensorLike | None = None,
        cov: TensorLike | None = None,
        allow_singular: bool = False,
        *,
        chol: TensorLike | None = None,
    ) -> Tensor:
        """The density."""
        return _core.exp(self.logpdf(x, mean, cov, allow_singular, chol=chol))

    def _density(self, squares: Tensor, log_deviations: Tensor) -> Tensor:
        d = squares.shape[-1]
        return -0.5 * squares.sum(-1) - (log_deviations.sum(-1) + d * HALF_LOG_2_PI)

    def __repr__(self) -> str:
        return "fastgrad.stats.multivariate_normal"


def _on_subspace(deviation: Tensor, matrix: Tensor) -> Tensor:
    """The logarithm of the density on the subspace of the eigenvectors whose eigenvalues are not 0, as SciPy tells
    them: by a multiple of the largest one."""
    matrix = _mirrored(matrix)
    w, v = eigh(matrix.detach())
    least = _relative_cutoff(matrix.dtype) * _core.absolute(w).max(-1, keepdims=True)
    is_kept, is_negative = w > least, (w < -least).any(-1)
    point = deviation.detach()
    outside = _core.sqrt(where(is_kept, 0.0, square((point[..., None, :] @ v)[..., 0, :])).sum(-1))
    column = deviation[..., None]
    squares = (deviation[..., None, :] @ (_pseudoinverse(matrix) @ column))[..., 0, 0]
    rank = astype(is_kept, matrix.dtype).sum(-1)
    y = -0.5 * (squares + _log_pseudodeterminant(matrix)) - rank * HALF_LOG_2_PI
    y = where((outside < 1e3 * least[..., 0]) | is_kept.all(-1), y, -math.inf)
    y = where(isnan(point).any(-1), math.nan, y)
    # Also a program that is replayed raises LinAlgError here, as the factor of -1 does not exist. That of 1 is 1.
    sign = where(is_negative, matrix.dtype.type(-1), matrix.dtype.type(1))
    return y * triangle_of("multivariate_normal", sign[..., None, None], False)[..., 0, 0]


def _mirrored(matrix: Tensor) -> Tensor:
    """The lower triangle, mirrored, with the gradient of the mean of both triangles, as a Cholesky factor has it."""
    mean, constant = (matrix + swapaxes(matrix, -1, -2)) / 2, matrix.detach()
    return mean + (tril(constant) + swapaxes(tril(constant, -1), -1, -2) - mean.detach())


def _relative_cutoff(dtype: np.dtype) -> float:
    return float((1e3 if dtype == np.float32 else 1e6) * np.finfo(dtype).eps)


def _pseudoinverse(matrix: Tensor) -> Tensor:
    return pinv(matrix, rtol=_relative_cutoff(matrix.dtype), hermitian=True)


@custom_jvp
def _log_pseudodeterminant(matrix: Tensor) -> Tensor:
    """The logarithm of the product of the eigenvalues that are not 0. That of eigenvalues would lose terms of second
    derivatives where they are equal."""
    w = eigvalsh(matrix)
    least = _relative_cutoff(matrix.dtype) * _core.absolute(w).max(-1, keepdims=True)
    return log(where(w > least, w, 1.0)).sum(-1)


@_log_pseudodeterminant.defjvp
def _log_pseudodeterminant_jvp(primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    matrix = primals[0]
    return _log_pseudodeterminant(matrix), (_pseudoinverse(matrix) * tangents[0]).sum((-2, -1))


class Dirichlet(Refusing):
    """The Dirichlet distribution of the parts of a whole, with parameters ``alpha`` of shape (k,), or of more axes,
    which broadcast with those of x.

    The parts are the **first** axis of x, as SciPy has them; the last part may be left out. Where a part is negative,
    or their sum is not 1 up to rounding, the density is 0, where SciPy raises an error.

    >>> import fastgrad as fg
    >>> fg.stats.dirichlet.logpdf([0.2, 0.3, 0.5], [1.0, 1.0, 1.0]).numpy().round(4)
    np.float64(0.6931)
    """

    def logpdf(self, x: TensorLike, alpha: TensorLike) -> Tensor:
        """The logarithm of the density, of the shape of x without its first axis, broadcast with that of alpha. Raises
        ValueError unless x has as many parts as alpha, or one less."""
        return self._density("logpdf", x, alpha, lambda y: y)

    def pdf(self, x: TensorLike, alpha: TensorLike) -> Tensor:
        """The density."""
        return self._density("pdf", x, alpha, _core.exp)

    def _density(self, method: str, x: TensorLike, alpha: TensorLike, function: Callable[[Any], Tensor]) -> Tensor:
        """A function of the logarithm. Parts of 0, where that is infinite, are evaluated next to it (see _base.py)."""
        _, (x, alpha) = _core.promoted(f"stats.dirichlet.{method}", x, alpha)
        x, alpha = floating(x), floating(alpha)
        if alpha.ndim == 0 or x.ndim == 0 or 0 == alpha.shape[0] or x.shape[0] - alpha.shape[0] not in (0, -1):
            raise ValueError(f"stats.dirichlet: x of shape {x.shape} and alpha of shape {alpha.shape} do not fit: "
                             "expected as many parts in their first axes, or one less in that of x")  # fmt: skip
        if x.shape[0] < alpha.shape[0]:
            x = _core.concatenate([x, 1 - x.sum(0, keepdims=True)])
        ndim = max(x.ndim, alpha.ndim)
        x, alpha = (v.reshape((v.shape[0],) + (1,) * (ndim - v.ndim) + v.shape[1:]) for v in (x, alpha))
        excess = _core.absolute(x.sum(0) - 1)
        outside = (x < 0).any(0) | (excess > (1e-9 if x.dtype == np.float64 else 1e-5))
        inner = where(outside, 1 / alpha.shape[0], x)
        is_zero, is_pole = (inner == 0) & (alpha > 1), (inner == 0) & (alpha < 1)
        at_edge = if_any(is_zero | is_pole)
        if at_edge is not None:
            inner = where(at_edge, inner + LIMITS[x.dtype][1], inner)
        constant = gammaln(alpha.sum(0)) - gammaln(alpha).sum(0)
        y = function(xlogy(alpha - 1, inner).sum(0) + constant)
        if at_edge is not None:
            limit = where(is_zero.any(0), where(is_pole.any(0), math.nan, -math.inf), math.inf)
            y = with_value(y, at_edge.any(0), function(_core.astype(limit, y.dtype)))
        y = where(outside, function(y.dtype.type(-math.inf)), y)
        return where((alpha > 0).all(0), y, math.nan)

    def __repr__(self) -> str:
        return "fastgrad.stats.dirichlet"


class Multinomial(Refusing):
    """The counts of k outcomes, in the last axis of x, of ``n`` trials with probabilities ``p``.

    p must sum to 1 and is taken as it is given, where SciPy replaces its last element by what the others leave.

    >>> import fastgrad as fg
    >>> fg.stats.multinomial.pmf([1, 1], 2, [0.5, 0.5]).numpy().round(4)
    np.float64(0.5)
    """

    def logpmf(self, x: TensorLike, n: TensorLike, p: TensorLike) -> Tensor:
        """The logarithm of the probability of x, of the shape of x without its last axis, broadcast with n. Raises
        ValueError where x and p do not have as many outcomes."""
        return self._probability("logpmf", x, n, p, lambda y: y)

    def pmf(self, x: TensorLike, n: TensorLike, p: TensorLike) -> Tensor:
        """The probability of x."""
        return self._probability("pmf", x, n, p, _core.exp)

    def _probability(
        self, method: str, x: TensorLike, n: TensorLike, p: TensorLike, function: Callable[[Any], Tensor]
    ) -> Tensor:
        """A function of the logarithm. Where that is infinite for a p of 0, it is evaluated next to it (see
        _base.py)."""
        _, operands = _core.promoted(f"stats.multinomial.{method}", x, n, p)
        x, n, p = map(floating, operands)
        if x.ndim == 0 or p.ndim == 0 or x.shape[-1] != p.shape[-1]:
            raise ValueError(f"stats.multinomial: x of shape {x.shape} and p of shape {p.shape} do not fit: expected "
                             "as many outcomes in their last axes")  # fmt: skip
        valid = ((p >= 0) & (p <= 1)).all(-1) & (n >= 0) & (n % 1 == 0)
        outside = ((x < 0) | (_core.floor(x) < x)).any(-1) | (x.sum(-1) != n)
        inner = where(outside.reshape((*outside.shape, 1)), 0.0, x)
        at_edge = if_any((p == 0) & (inner > 0))
        if at_edge is not None:
            p = where(at_edge, p + LIMITS[p.dtype][1], p)
        # What p lacks of a sum of 1, as the deviances have it, counts where n is large.
        excess = n * (p.sum(-1) - p.detach().sum(-1) + _excess(p.detach()))
        inner, n = above_0(inner), above_0(n)
        deviances = deviance(inner, n.reshape((*n.shape, 1)) * p) + stirling_error(inner)
        # It is 0, as the counts add up to n; the deviances lack its slopes, by n alone and by each count alone.
        slope_by_counts = xlogy(n - inner.sum(-1), n)
        y = function(stirling_error(n) - deviances.sum(-1) + (excess + slope_by_counts))
        nothing = function(y.dtype.type(-math.inf))
        if at_edge is not None:
            y = with_value(y, at_edge.any(-1), nothing)
        return where(valid, where(outside, nothing, y), math.nan)

    def __repr__(self) -> str:
        return "fastgrad.stats.multinomial"


def _excess(p: Tensor) -> Tensor:
    """The sum of p over its last axis, minus 1: with what each addition of a running sum rounds off (D. Knuth, "The art
    of computer programming", 4.2.2, theorem B)."""
    y = astype(p, np.float64)
    ends = cumsum(y, -1)
    before, end = ends[..., :-1], ends[..., 1:]
    term = y[..., 1:]
    total = before + term  # but for the order of additions, that is the end
    part = total - before
    errors = (before - (total - part)) + (term - part) + (total - end)
    return astype(ends[..., -1:].sum(-1) - 1 + errors.sum(-1), p.dtype)


class Wishart(Refusing):
    """The Wishart distribution of p x p matrices, of ``df`` > p - 1 degrees of freedom and the positive definite matrix
    ``scale``.

    Matrices are the last two axes of x and scale, as in ``fastgrad.linalg``; SciPy takes a stack of x along a third
    axis at the end. nan for a smaller df, LinAlgError where x or scale is not positive definite; only their lower
    triangles are read, and their gradients are symmetric.

    >>> import fastgrad as fg
    >>> fg.stats.wishart.logpdf([[1.0, 0.0], [0.0, 1.0]], 3.0, [[1.0, 0.0], [0.0, 1.0]]).numpy().round(4)
    np.float64(-3.531)
    """

    def logpdf(self, x: TensorLike, df: TensorLike, scale: TensorLike) -> Tensor:
        """The logarithm of the density, of the shape of x without its last two axes. Raises ValueError unless x and
        scale are square matrices of one size."""
        _, operands = _core.promoted("stats.wishart.logpdf", x, df, scale)
        x, df, scale = map(floating, operands)
        if x.ndim < 2 or x.shape[-2:] != scale.shape[-2:] or x.shape[-1] != x.shape[-2]:
            raise ValueError(f"stats.wishart: x of shape {x.shape} and scale of shape {scale.shape} do not fit: "
                             "expected square matrices of one size in their last axes")  # fmt: skip
        p = x.shape[-1]
        roots, factor = triangle_of("wishart", x, False), triangle_of("wishart", scale, False)
        trace = square(solve_triangular(factor, roots, lower=True)).sum((-1, -2))
        log_x = log(diagonal(roots, axis1=-2, axis2=-1)).sum(-1)
        log_scale = log(diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
        constant = df * (p * math.log(2) / 2) + df * log_scale + multigammaln(df / 2, p)
        return where(df > p - 1, (df - p - 1) * log_x - trace / 2 - constant, math.nan)

    def pdf(self, x: TensorLike, df: TensorLike, scale: TensorLike) -> Tensor:
        """The density."""
        return _core.exp(self.logpdf(x, df, scale))

    def __repr__(self) -> str:
        return "fastgrad.stats.wishart"


def _check(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ValueError(f"stats.multivariate_normal: the covariance has shape {shape} in its last axes, expected "
                         f"{expected}, for vectors of length {expected[0]}")  # fmt: skip


multivariate_normal, dirichlet, multinomial, wishart = MultivariateNormal(), Dirichlet(), Multinomial(), Wishart()
