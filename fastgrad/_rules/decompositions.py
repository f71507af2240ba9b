"""Rules of matrix decompositions, reverse and forward: eigh, svd, qr, eig, expm and pinv.

The result of a decomposition has its parts one behind the other in its last axis (csrc/ops/decompositions.c); so have
its cotangent and its tangent. The rules are made of operations, and so differentiated again. Where a formula divides by
the difference of two eigenvalues or singular values that are equal, or by a singular value that is 0, each up to the
rounding of a decomposition, the quotient is left out: 0 takes its place.

Sources: Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation" (2008);
Seeger, Hetzel, Dai, Meissner and Lawrence, "Auto-differentiating linear algebra" (2017); Wan and Zhang, "Automatic
differentiation for complex valued SVD" (2019); Walter and Lehmann, "Algorithmic differentiation of linear algebra
functions with application in optimum experimental design" (2010); Golub and Pereyra, "The differentiation of
pseudo-inverses and nonlinear least squares problems whose variables separate" (1973); Mathias, "A chain rule for matrix
functions and applications" (1996).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from .._core import Tensor, apply_op, reshape
from .vjp import swapped, symmetric

__all__ = ["cut", "split_eig", "split_qr", "split_svd"]

_EIGH, _SVD, _EIG, _EXPM, _TRIANGLE, _SOLVE_TRIANGULAR, _FACTOR, _SOLVE = [
    _core.OP_NUMBERS[name] for name in ("eigh", "svd", "eig", "expm", "triangle", "solve_triangular", "factor", "solve")
]
Shape = tuple[int, ...]
VALUES_ONLY, REDUCED, FULL = range(3)  # csrc/kernels/decompositions.h


# ---- parts -----------------------------------------------------------------------------------------------------------
def cut(packed: Tensor, *shapes: Shape) -> list[Tensor]:
    """The parts of a result, which have these shapes for each matrix."""
    lead, at, parts = packed.shape[:-1], 0, []
    for shape in shapes:
        size = math.prod(shape)
        part = packed[..., at : at + size]
        parts.append(part if len(shape) == 1 else reshape(part, (*lead, *shape)))
        at += size
    return parts


def _packed(*parts: Tensor) -> Tensor:
    lead = parts[0].shape[:-1]
    return _core.concatenate([parts[0], *[reshape(x, (*lead, x.shape[-2] * x.shape[-1])) for x in parts[1:]]], axis=-1)


def split_eig(packed: Tensor, n: int) -> list[Tensor]:
    """Eigenvalues and eigenvectors."""
    return cut(packed, (n,), (n, n))


def split_svd(packed: Tensor, m: int, n: int, full: bool) -> list[Tensor]:
    """Singular values, U and V^T."""
    k = min(m, n)
    return cut(packed, (k,), (m, m if full else k), (n if full else k, n))


def split_qr(packed: Tensor, m: int, n: int, full: bool) -> list[Tensor]:
    return cut(packed, (m, m if full else n), (n, n))


# ---- elements --------------------------------------------------------------------------------------------------------
def _row(x: Tensor) -> Tensor:
    """A vector for each matrix as a row that multiplies the columns of a matrix."""
    return reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


def _column(x: Tensor) -> Tensor:
    return reshape(x, (*x.shape, 1))


def _inverse(x: Tensor, w: Tensor) -> Tensor:
    """1 / x for sums or differences x of eigenvalues or singular values w; 0 where x is 0 up to the error of w."""
    if not w.shape[-1]:
        return x
    largest = _core.max(_core.absolute(w.detach()), -1, keepdims=True)
    least = largest * (8 * w.shape[-1] * float(np.finfo(w.dtype).eps))
    zero = _core.absolute(x.detach()) <= (least if x.ndim == w.ndim else _column(least))
    return _core.where(zero, 0.0, 1.0 / _core.where(zero, 1.0, x))


def _identity(x: Tensor, n: int) -> Any:
    return np.eye(n, dtype=x.dtype)


def _on_diagonal(x: Tensor) -> Tensor:
    """Matrices with these diagonals."""
    y: Tensor = _row(x) * _identity(x, x.shape[-1])
    return y


def _diagonal(x: Tensor) -> Tensor:
    n = x.shape[-1]
    return reshape(x, (*x.shape[:-2], n * n))[..., :: n + 1]


def _gaps(w: Tensor) -> Tensor:
    """1 / (w[j] - w[i]) for i, j; 0 where these are equal."""
    return _inverse(_row(w) - _column(w), w)


# ---- eigh ------------------------------------------------------------------------------------------------------------
def of_eigh_vjp(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """V (diag(gw) + F * (V^T gV)) V^T, symmetric, with F = 1 / (w[j] - w[i])."""
    n = x.shape[-1]
    if not attr[1]:
        _, v = split_eig(apply_op(_EIGH, [x], (attr[0], 1)), n)
        return (v * _row(g)) @ swapped(v)
    (w, v), (gw, gv) = split_eig(y, n), split_eig(g, n)
    return symmetric(v @ (_on_diagonal(gw) + _gaps(w) * (swapped(v) @ gv)) @ swapped(v))


def of_eigh_jvp(saved: Any, ts: list[Any]) -> Tensor:
    (x,), t = saved.inputs, symmetric(ts[0])
    n = x.shape[-1]
    y = saved.y if saved.attr[1] else apply_op(_EIGH, [x], (saved.attr[0], 1))
    w, v = split_eig(y, n)
    inner = swapped(v) @ t @ v
    return _packed(_diagonal(inner), v @ (_gaps(w) * inner)) if saved.attr[1] else _diagonal(inner)


# ---- svd -------------------------------------------------------------------------------------------------------------
def _svd_parts(x: Tensor, y: Tensor, full: bool) -> tuple[Tensor, Tensor, Tensor, Any, Any]:
    """s, the first columns of U and of V, and the others of both, None where there are none."""
    m, n = x.shape[-2:]
    k = min(m, n)
    s, u, vt = split_svd(y, m, n, full)
    v = swapped(vt)
    if not full:
        return s, u, v, None, None
    return s, u[..., :k], v[..., :k], u[..., k:] if m > k else None, v[..., k:] if n > k else None


def _quotients(s: Tensor) -> tuple[Tensor, Tensor]:
    """1 / (s[j] - s[i]) and 1 / (s[j] + s[i]): those of the symmetric and of the antisymmetric part of U^T dA V. The
    second is finite for equal singular values, on which the polar factor U V^T depends smoothly."""
    return _gaps(s), _inverse(_row(s) + _column(s), s)


def of_svd_vjp(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """With P = U^T dA V, X and Y its symmetric and antisymmetric part, dU = U (E X + D Y) and dV = V (E X - D Y) for
    E = 1 / (s[j] - s[i]) and D = 1 / (s[j] + s[i]), beside what leaves the span of U and V; transposed."""
    m, n = x.shape[-2:]
    if attr[0] == VALUES_ONLY:
        _, u, vt = split_svd(apply_op(_SVD, [x], (REDUCED, *attr[1:])), m, n, False)
        return (u * _row(g)) @ vt
    full, k = attr[0] == FULL, min(m, n)
    s, u, v, u_rest, v_rest = _svd_parts(x, y, full)
    gs, gu, gv, gu_rest, gv_rest = _svd_parts(x, g, full)
    apart, together = _quotients(s)
    cu, cv = swapped(u) @ gu, swapped(v) @ gv
    even, odd = apart * (cu + cv), together * (cu - cv)
    inner = _on_diagonal(gs) + (even + swapped(even) + odd - swapped(odd)) * 0.5
    gx, inverse = u @ inner @ swapped(v), _inverse(s, s)
    if m > k:
        gx = gx + _outside(u, u_rest, gu, gu_rest, cu) * _row(inverse) @ swapped(v)
    if n > k:
        gx = gx + u @ swapped(_outside(v, v_rest, gv, gv_rest, cv) * _row(inverse))
    return gx


def _outside(q: Tensor, rest: Any, g: Tensor, g_rest: Any, inside: Tensor) -> Tensor:
    """The part of a cotangent g of orthonormal columns q that is orthogonal to them; that of further columns `rest`
    acts on q by the opposite rotation. ``inside`` is q^T g."""
    if rest is None:
        return g - q @ inside
    y: Tensor = rest @ (swapped(rest) @ g - swapped(g_rest) @ q)
    return y


def of_svd_jvp(saved: Any, ts: list[Any]) -> Tensor:
    (x,), (t,) = saved.inputs, ts
    m, n = x.shape[-2:]
    if saved.attr[0] == VALUES_ONLY:
        _, u, vt = split_svd(apply_op(_SVD, [x], (REDUCED, *saved.attr[1:])), m, n, False)
        values: Tensor = (u * (t @ swapped(vt))).sum(-2)
        return values
    full, k = saved.attr[0] == FULL, min(m, n)
    s, u, v, u_rest, v_rest = _svd_parts(x, saved.y, full)
    apart, together = _quotients(s)
    p = swapped(u) @ t @ v
    even, odd = apart * (p + swapped(p)) * 0.5, together * (p - swapped(p)) * 0.5
    tu, tv, inverse = u @ (even + odd), v @ (even - odd), _row(_inverse(s, s))
    if m > k:
        tu = _turned(u, u_rest, tu, t @ v * inverse)
    if n > k:
        tv = _turned(v, v_rest, tv, swapped(t) @ u * inverse)
    return _packed(_diagonal(p), tu, swapped(tv))


def _turned(q: Tensor, rest: Any, t: Tensor, off: Tensor) -> Tensor:
    """The tangent t of columns q, completed by the part of ``off`` that is orthogonal to q; and that of the rest."""
    if rest is None:
        return t + off - q @ (swapped(q) @ off)
    angle = swapped(rest) @ off
    return _core.concatenate([t + rest @ angle, -(q @ swapped(angle))], axis=-1)


# ---- qr --------------------------------------------------------------------------------------------------------------
def _over_r(r: Tensor, x: Tensor, how: int) -> Tensor:
    """x R^-T, or, with TRANSPOSED, x R^-1."""
    return swapped(apply_op(_SOLVE_TRIANGULAR, [r, swapped(x)], (how, _core.CALLERS["qr"])))


def _qr_parts(y: Tensor, attr: tuple[int, ...]) -> tuple[Tensor, Any, Tensor]:
    """The first columns of Q, the others or None, and R."""
    full, m, n = attr
    q, r = split_qr(y, m, n, bool(full))
    return (q[..., :n], q[..., n:], r) if full and m > n else (q, None, r)


def _copied_lower(x: Tensor) -> Tensor:
    """The lower triangle with its diagonal, mirrored to the upper one."""
    lower = apply_op(_TRIANGLE, [x], (0, -1, 0))
    return apply_op(_TRIANGLE, [x], (0, 0, 0)) + swapped(lower)


def of_qr_vjp(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: None) -> Tensor:
    """(gQ + Q copyltu(R gR^T - gQ^T Q)) R^-T: Walter and Lehmann, section 4.3."""
    q, rest, r = _qr_parts(y, attr)
    gq, g_rest, gr = _qr_parts(g, attr)
    inner = _copied_lower(r @ swapped(gr) - swapped(gq) @ q)
    if rest is None:
        return _over_r(r, gq + q @ inner, 0)
    # Q (Q^T gQ) + the rest of gQ, to which the cotangent of the other columns adds
    return _over_r(r, q @ (swapped(q) @ gq + inner) + _outside(q, rest, gq, g_rest, q), 0)


def of_qr_jvp(saved: Any, ts: list[Any]) -> Tensor:
    (t,) = ts
    q, rest, r = _qr_parts(saved.y, saved.attr)
    off = _over_r(r, t, _core.TRANSPOSED)
    c = swapped(q) @ off
    lower = apply_op(_TRIANGLE, [c], (0, -1, 0))
    turn = lower - swapped(lower)
    tq = _turned(q, rest, q @ turn, off)
    lead = tq.shape[:-2]
    tr = (c - turn) @ r
    return _core.concatenate([reshape(z, (*lead, z.shape[-2] * z.shape[-1])) for z in (tq, tr)], axis=-1)


# ---- eig -------------------------------------------------------------------------------------------------------------
def _solved(a: Tensor, b: Tensor, transposed: bool) -> Tensor:
    """a^-1 b or a^-T b; not finite where a is singular."""
    how = _core.BY_LU | (_core.TRANSPOSED if transposed else 0)
    return apply_op(_SOLVE, [a, apply_op(_FACTOR, [a.detach()], (_core.BY_LU,)), b], (how, _core.UNCHECKED))


def of_eig_vjp(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """V^-T (diag(gw) + F * (V^T gV - V^T V diag(V^T gV))) V^T: the second term keeps columns of V at length 1."""
    n = x.shape[-1]
    if not attr[0]:
        _, v = split_eig(apply_op(_EIG, [x], (1,)), n)
        return _solved(v, _column(g) * swapped(v), True)
    (w, v), (gw, gv) = split_eig(y, n), split_eig(g, n)
    inner = swapped(v) @ gv
    inner = inner - swapped(v) @ v * _row(_diagonal(inner))
    return _solved(v, (_on_diagonal(gw) + _gaps(w) * inner) @ swapped(v), True)


def of_eig_jvp(saved: Any, ts: list[Any]) -> Tensor:
    (x,), (t,) = saved.inputs, ts
    n = x.shape[-1]
    w, v = split_eig(saved.y if saved.attr[0] else apply_op(_EIG, [x], (1,)), n)
    inner = _solved(v, t @ v, False)
    if not saved.attr[0]:
        return _diagonal(inner)
    tv = v @ (_gaps(w) * inner)
    return _packed(_diagonal(inner), tv - v * (v * tv).sum(-2, keepdims=True))


# ---- expm ------------------------------------------------------------------------------------------------------------
def _frechet(a: Tensor, t: Tensor) -> Tensor:
    """The derivative of the exponential at a along t: the upper right block of that of [[a, t], [0, a]]. It is linear
    in t, which is scaled so that it does not decide how often the block is squared."""
    n = a.shape[-1]
    size = _core.max(_core.absolute(t.detach()), (-2, -1), keepdims=True)
    size = _core.where(size > 0, size, 1.0)
    zero = np.zeros(a.shape, a.dtype)
    top, bottom = _core.concatenate([a, t / size], axis=-1), _core.concatenate([zero, a], axis=-1)
    return apply_op(_EXPM, [_core.concatenate([top, bottom], axis=-2)])[..., :n, n:] * size


def of_expm_vjp(op: int, i: int, attr: tuple[int, ...], g: Tensor, y: None, x: Tensor) -> Tensor:
    return _frechet(swapped(x), g) if x.size else g


def of_expm_jvp(saved: Any, ts: list[Any]) -> Tensor:
    return _frechet(saved.inputs[0], ts[0]) if ts[0].size else ts[0]


# ---- pinv ------------------------------------------------------------------------------------------------------------
def of_pinv_vjp(op: int, i: int, attr: tuple[int, ...], g: Tensor, p: Tensor, a: Tensor, b: None) -> Tensor:
    """Transposed: dP = -P dA P + P P^T dA^T (I - A P) + (I - P A) dA^T P^T P, where the rank does not change."""
    pt, gt = swapped(p), swapped(g)
    left, right = gt @ (p @ pt), pt @ p @ gt
    return left - a @ (p @ left) + right - (right @ p) @ a - pt @ g @ pt


def of_pinv_jvp(saved: Any, ts: list[Any]) -> Tensor:
    a, p, t = saved.inputs[0], saved.y, swapped(ts[0])
    pt = swapped(p)
    left, right = p @ pt @ t, t @ (pt @ p)
    y: Tensor = left - (left @ a) @ p + right - p @ (a @ right) - p @ ts[0] @ p
    return y
