"""What tests of decompositions share: matrices, and results that do not depend on the signs of vectors."""

import numpy as np

import fastgrad as fg

L = fg.linalg
DTYPES = [np.float32, np.float64]
SHAPES = [(1, 1), (2, 2), (4, 4), (5, 3), (3, 5), (2, 4, 4), (2, 1, 5, 3), (0, 3, 3), (70, 70), (60, 40)]
SQUARE = [s for s in SHAPES if s[-1] == s[-2]]
TALL, WIDE, FOUR = (np.random.default_rng(7).normal(size=s) for s in ((5, 3), (3, 5), (4, 4)))
STACK = np.random.default_rng(8).normal(size=(2, 3, 3))
ORDERS = ["fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf]


def drawn(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def t(x):
    return np.swapaxes(x, -1, -2)


def symmetric(x):
    return x + t(x)


def close(got, expected, dtype=np.float64, scale=1.0):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape and got.dtype == dtype
    bound = 2000 * np.finfo(dtype).eps * max(1.0, scale, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


def orthonormal(q, dtype):
    q = np.asarray(q)
    close(
        t(q) @ q, np.broadcast_to(np.eye(q.shape[-1]), (*q.shape[:-2], q.shape[-1], q.shape[-1])).astype(dtype), dtype
    )


def packed(*parts):
    return fg.concatenate([x.ravel() for x in parts])


def svd_parts(x, full=False):
    """What does not depend on signs, nor on the basis of the columns beyond k."""
    u, s, vh = L.svd(x, full_matrices=full)
    k = s.shape[-1]
    parts = [u[..., :k] ** 2, s, vh[..., :k, :] ** 2, u[..., :k] @ vh[..., :k, :]]
    if u.shape[-1] > k:
        parts.append(u[..., k:] @ t(u[..., k:]))
    if vh.shape[-2] > k:
        parts.append(t(vh[..., k:, :]) @ vh[..., k:, :])
    return packed(*parts)


def qr_parts(x, mode="reduced"):
    q, r = L.qr(x, mode)
    k = min(x.shape[-2:])
    return packed(q[..., :k], r, q[..., k:] @ t(q[..., k:])) if mode == "complete" else packed(q, r)


def eig_parts(x):
    base = x * 0.3 + 2 * np.eye(3)
    w, v = L.eig(L.solve(base, np.diag([1.0, 2.0, 4.0]) @ base))
    return packed(w, v * v, v @ (w[..., None] * t(v)))


def eigh_parts(x):
    w, v = L.eigh(symmetric(x))
    return packed(w * w, v * v, v * fg.exp(w)[..., None, :] @ t(v))
