"""Natural text beside the same work in the layout that suits: rows, heads, channels, stencils, gathers, mixtures.

Both are compiled. The natural text should take at most 1.5 times as long, the Gaussian mixture at most 1.3 times. Then
products of matrices and vectors beside NumPy's.
"""

import numpy as np
import pytest
from _compare import compare, one_thread

import fastgrad as fg

N = 20_000


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def columns(x):
    """The last axis first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 0))


POINTS, QUATERNIONS, IMAGES = draw(N, 3), draw(N, 4), draw(8, 64, 64, 3)
ROTATIONS, PLANE, SERIES = draw(N, 3, 3), draw(512, 512), draw(200, 500)
TABLE, FROM, TO = draw(1000, 3), *np.random.default_rng(1).integers(0, 1000, (2, N))
HEADS = tuple(draw(4, 64, 8, 32, seed=i) for i in range(3))
DATA, MEANS, FACTORS, LOGITS = draw(1000, 10), draw(25, 10, seed=1), draw(25, 10, 10, seed=2), draw(25, seed=3)
LEFT, RIGHT, WEIGHT = draw(1000, 30), draw(1000, 20, seed=1), draw(50, 40, seed=2)


def mixture(logits, z):
    return fg.sum(fg.logsumexp(logits - fg.sum(z * z, axis=2) / 2, axis=1))


def mixture_of_differences(logits, means, factors):
    return mixture(logits, fg.einsum("kij,nkj->nki", factors, DATA[:, None, :] - means[None, :, :]))


def mixture_by_one_product(logits, means, factors):
    k, d, _ = factors.shape
    products = fg.reshape(fg.matmul(DATA, fg.reshape(factors, (k * d, d)).T), (len(DATA), k, d))
    return mixture(logits, products - fg.einsum("kij,kj->ki", factors, means))


def standardized(x, axes):
    difference = x - fg.mean(x, axis=axes, keepdims=True)
    return fg.sum(fg.tanh(difference / fg.sqrt(fg.mean(difference * difference, axis=axes, keepdims=True) + 1e-5)))


def by_columns(w, x, y, z):
    return fg.sum(fg.tanh(w * x + y * z) * fg.sin(w * y - x * z))


def laplacian(u):
    inner = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]
    return fg.sum(inner * inner)


def flat_laplacian(u):
    """Rows from end to end; what reaches over an edge has weight 0."""
    n = u.shape[1]
    x = fg.reshape(u, (-1,))
    inner = x[2 * n + 1 : -1] + x[1 : -2 * n - 1] + x[n + 2 : -n] + x[n : -n - 2] - 4 * x[n + 1 : -n - 1]
    return fg.sum(inner * inner * np.tile(np.arange(n) < n - 2, n - 2)[: len(inner)])


def attention(q, k, v):
    weights = fg.softmax(fg.einsum("bqhd,bkhd->bhqk", q, k) / 6, axis=-1)
    return fg.sum(fg.einsum("bhqk,bkhd->bqhd", weights, v) ** 2)


def attention_by_heads(q, k, v):
    return fg.sum((fg.softmax(q @ fg.swapaxes(k, 2, 3) / 6, axis=-1) @ v) ** 2)


# name: (natural text, its arguments, tuned text, its arguments, at most)
PAIRS = {
    "mixture": (
        mixture_of_differences, (LOGITS, MEANS, FACTORS),
        mixture_by_one_product, (LOGITS, MEANS, FACTORS), 1.3,
    ),
    "unit vectors": (
        lambda x: fg.sum((x / fg.sqrt(fg.sum(x * x, axis=1, keepdims=True))) ** 3), (POINTS,),
        lambda x: fg.sum((x / fg.sqrt(fg.sum(x * x, axis=0))) ** 3), (columns(POINTS),), 1.5,
    ),
    "rotations": (
        lambda r, x: fg.sum(fg.einsum("nij,nj->ni", r, x) ** 2), (ROTATIONS, POINTS),
        lambda r, x: sum(fg.sum((r[i] * x[0] + r[3 + i] * x[1] + r[6 + i] * x[2]) ** 2) for i in range(3)),
        (columns(ROTATIONS.swapaxes(1, 2).reshape(N, 9)), columns(POINTS)), 1.5,
    ),
    "columns of rows": (
        lambda q: by_columns(q[:, 0], q[:, 1], q[:, 2], q[:, 3]), (QUATERNIONS,),
        lambda q: by_columns(*q), (columns(QUATERNIONS),), 1.5,
    ),
    "stacked columns": (
        lambda r, t: fg.sum(fg.tanh(fg.stack([r * fg.cos(t), r * fg.sin(t)], axis=-1)) ** 2), (draw(N), draw(N)),
        lambda r, t: fg.sum(fg.tanh(r * fg.cos(t)) ** 2) + fg.sum(fg.tanh(r * fg.sin(t)) ** 2), (draw(N), draw(N)), 1.5,
    ),
    "concatenated columns": (
        lambda a, b, w: fg.sum(fg.tanh(fg.concatenate([fg.tanh(a), b * 2], axis=1) @ w)), (LEFT, RIGHT, WEIGHT),
        lambda a, b, w: fg.sum(fg.tanh(fg.tanh(a) @ w[:30] + (b * 2) @ w[30:])), (LEFT, RIGHT, WEIGHT), 1.5,
    ),
    "channels last": (
        lambda x: standardized(x, (0, 1, 2)), (IMAGES,),
        lambda x: standardized(x, 1), (columns(IMAGES).reshape(3, -1),), 1.5,
    ),
    "edges by arguments": (
        lambda x, i, j: fg.sum(fg.sqrt(fg.sum((x[i] - x[j]) ** 2, axis=1) + 1e-3)), (TABLE, FROM, TO),
        lambda x: fg.sum(fg.sqrt(fg.sum((x[:, FROM] - x[:, TO]) ** 2, axis=0) + 1e-3)), (columns(TABLE),), 1.5,
    ),
    "distances of pairs": (
        lambda x, y: fg.sum(fg.sqrt(fg.sum((x[:, None] - y) ** 2, axis=-1) + 1e-3)), (POINTS[:200], POINTS[200:300]),
        lambda x, y: fg.sum(fg.sqrt(fg.sum((x[:, :, None] - y[:, None]) ** 2, axis=0) + 1e-3)),
        (columns(POINTS[:200]), columns(POINTS[200:300])), 1.5,
    ),
    "moving sums": (
        lambda x: fg.sum(fg.tanh(x[:, :-3] + x[:, 1:-2] + x[:, 2:-1] + x[:, 3:]) ** 2), (SERIES,),
        lambda x: fg.sum(fg.tanh(x[:-3] + x[1:-2] + x[2:-1] + x[3:]) ** 2), (columns(SERIES),), 1.5,
    ),
    "Laplacian": (laplacian, (PLANE,), flat_laplacian, (PLANE,), 1.5),
    "attention": (attention, HEADS, attention_by_heads, tuple(np.swapaxes(x, 1, 2).copy() for x in HEADS), 1.5),
    "transposed matrix": (
        lambda a, x: fg.sum((a.T @ x) ** 2), (draw(2000, 300), draw(2000)),
        lambda a, x: fg.sum((x @ a) ** 2), (draw(2000, 300), draw(2000)), 1.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ["value", "gradient"])
@pytest.mark.parametrize("name", PAIRS)
def test_natural_and_tuned(benchmark, name, what):
    natural, of_natural, tuned, of_tuned, most = PAIRS[name]

    def contender(f, args):
        if what == "value":
            replay = fg.compile(f)
            return lambda: replay(*args)
        floats = tuple(i for i, x in enumerate(args) if x.dtype.kind == "f")
        replay = fg.compile(fg.value_and_grad(f, floats))
        return lambda: replay(*args)[0]

    with one_thread():
        ours, peers = contender(natural, of_natural), {"tuned": contender(tuned, of_tuned)}
        compare(benchmark, f"{name}, {what}", ours, peers, {"tuned": most}, rtol=1e-8)


@pytest.mark.parametrize("text", ["a @ w", "v @ a", "a.T @ v"])
@pytest.mark.parametrize("m, k", [(50, 20), (1000, 10), (20_000, 16), (100_000, 3), (16_392, 128)])
def test_matrix_and_vector(benchmark, m, k, text):
    names = {"a": draw(m, k), "v": draw(m), "w": draw(k)}
    with one_thread():
        ours = text, {name: fg.tensor(x) for name, x in names.items()}
        compare(benchmark, f"{text}, {m} x {k}", ours, {"NumPy": (text, names)}, {"NumPy": 1.2})
