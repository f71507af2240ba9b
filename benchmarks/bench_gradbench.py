"""Evaluations of GradBench, written as one writes them in NumPy, beside jax.jit of the same text, on one thread."""

import numpy as np
import pytest
from _compare import compare, one_thread, peer

import fastgrad as fg

jax = peer("jax")
if jax:
    jax.config.update("jax_enable_x64", True)
RNG = np.random.default_rng(0)


# ---- bundle adjustment ----------------------------------------------------------------------------------------------
def projection_error(m):
    """Of one observation: a camera of 11 parameters, a point, a weight, what was seen."""

    def f(camera, point, weight, seen):
        axis, x = camera[:3], point - camera[3:6]
        angle = m.sqrt(m.sum(axis**2))
        u, s, c = axis / angle, m.sin(angle), m.cos(angle)
        turned = x * c + m.cross(u, x) * s + u * m.sum(u * x) * (1 - c)
        flat = turned[:2] / turned[2]
        square = m.sum(flat**2)
        distorted = flat * (1 + camera[9] * square + camera[10] * square**2)
        return weight * (distorted * camera[6] + camera[7:9] - seen)

    return f


def bundle(m, tools):
    error = tools.vmap(projection_error(m))
    return lambda cameras, points, weights, seen, i, j: (error(cameras[i], points[j], weights, seen), 1 - weights**2)


def bundle_jacobian(m, tools):
    blocks = tools.vmap(tools.jacrev(projection_error(m), (0, 1, 2)))
    return lambda cameras, points, weights, seen, i, j: blocks(cameras[i], points[j], weights, seen)


def observations(n=31_843, cameras=49, points=7_776):
    return (
        RNG.normal(size=(cameras, 11)), RNG.normal(size=(points, 3)) + 5, RNG.random(n), RNG.normal(size=(n, 2)),
        RNG.integers(0, cameras, n), RNG.integers(0, points, n),
    )  # fmt: skip


# ---- k-means --------------------------------------------------------------------------------------------------------
def clusters(m, _=None):
    def cost(points, centers):
        distances = m.sum(points**2, 1)[None] + m.sum(centers**2, 1)[:, None] - 2 * (points @ centers.T).T
        return m.sum(m.min(distances, 0))

    return cost


def newton(m, tools):
    """The step of Newton's method, whose matrix is diagonal."""
    cost = clusters(m)

    def step(points, centers):
        slope = tools.grad(lambda c: cost(points, c))
        by, second = tools.jvp(slope, (centers,), (m.ones(centers.shape),))
        return by / second

    return step


# ---- an ordinary differential equation ------------------------------------------------------------------------------
def runge_kutta(steps):
    def make(m, tools):
        def f(x):
            h = 2.0 / steps
            slope = lambda y: x * m.concatenate([m.ones(1), y[:-1]])

            def step(y, _):
                k1 = slope(y)
                k2 = slope(y + h / 2 * k1)
                k3 = slope(y + h / 2 * k2)
                k4 = slope(y + h * k3)
                return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

            return tools.scan(step, m.zeros(x.shape), None, length=steps)[0]

        return f

    return make


# ---- least squares --------------------------------------------------------------------------------------------------
def least_squares(m, _=None):
    def f(x, powers, signs):
        return m.sum((signs - powers @ x) ** 2) / 2

    return f


def powers(n=16_392, degree=128):
    t = np.linspace(-1, 1, n)
    return RNG.random(degree), t[:, None] ** np.arange(degree), np.sign(t)


# ---- a recurrent network --------------------------------------------------------------------------------------------
def lstm(m, tools):
    """Two layers with a weight for each unit and gate (no matrices), the loss of predicting the next row."""

    def f(weights, ends, state, rows):
        def layer(w, bias, h, c, x):
            forget, ingate, outgate = (1 / (1 + m.exp(-(v * w[k] + bias[k]))) for k, v in enumerate((x, h, x)))
            change = m.tanh(h * w[3] + bias[3])
            c = c * forget + ingate * change
            return outgate * m.tanh(c), c

        def step(state, x):
            y, left = x * ends[0], []
            for k in range(2):
                y, c = layer(weights[2 * k], weights[2 * k + 1], state[2 * k], state[2 * k + 1], y)
                left += [y, c]
            return m.stack(left), y * ends[1] + ends[2]

        predicted = tools.scan(step, state, rows[:-1])[1]
        shifted = predicted - m.log(2 + m.sum(m.exp(predicted), 1, keepdims=True))
        return -m.mean(m.sum(rows[1:] * shifted, 1))

    return f


def recurrent(n=1024, width=14):
    draw = lambda *shape: RNG.normal(size=shape) * 0.3
    return draw(4, 4, width), draw(3, width), draw(4, width), (RNG.random((n, width)) < 0.3) * 1.0


# ---- determinants ---------------------------------------------------------------------------------------------------
def minors(m, _=None):
    """Laplace's expansion by the first row, for a stack of matrices."""

    def det(a):
        n = a.shape[-1]
        if n == 1:
            return a[..., 0, 0]
        others = np.array([[j for j in range(n) if j != i] for i in range(n)])
        smaller = m.moveaxis(a[..., 1:, :][..., others], -2, -3)
        return m.sum((-1.0) ** np.arange(n) * a[..., 0, :] * det(smaller), -1)

    return det


def subsets(m, _=None):
    """The same expansion with each minor computed once, number by number."""

    def det(a):
        n, known = len(a), {}

        def minor(row, columns):
            if not columns:
                return 1.0
            if columns not in known:
                terms = [a[row, c] * minor(row + 1, columns[:i] + columns[i + 1 :]) * (-1.0) ** i
                         for i, c in enumerate(columns)]  # fmt: skip
                known[columns] = sum(terms[1:], start=terms[0])
            return known[columns]

        return minor(0, tuple(range(n)))

    return det


# ---- hand tracking --------------------------------------------------------------------------------------------------
def hand(m, _=None):
    """Distances of points from the skin that 22 bones move, by 26 angles and displacements."""
    parents = [-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19, 0]

    def turn(angles):
        (sx, sy, sz), (cx, cy, cz) = m.sin(angles), m.cos(angles)
        rows = [
            [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz, 0.0],
            [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz, 0.0],
            [-sy, sx * cy, cx * cy, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ]  # fmt: skip
        return m.stack([m.stack(row) for row in rows])

    def f(theta, base, inverse, positions, weights, points, nearest):
        placed = []
        for k, parent in enumerate(parents):
            angles = m.stack([theta[6 + k % 20], theta[6 + (k + 1) % 20] * 0.5, theta[6 + k % 20] * 0.1])
            own = base[k] @ turn(angles)
            placed.append(own if parent < 0 else placed[parent] @ own)
        moves = m.stack(placed) @ inverse
        moved = m.einsum("kij,vj,vk->vi", moves, positions, weights)[:, :3]
        return points - (moved @ turn(theta[:3])[:3, :3].T + theta[3:6])[nearest]

    return f


def skin(vertices=544, points=100):
    base = np.tile(np.eye(4), (22, 1, 1)) + 0.1 * RNG.normal(size=(22, 4, 4))
    positions = np.concatenate([RNG.normal(size=(vertices, 3)), np.ones((vertices, 1))], 1)
    weights = RNG.random((vertices, 22))
    return (RNG.normal(size=26) * 0.3, base, np.linalg.inv(base), positions, weights / weights.sum(1, keepdims=True),
            RNG.normal(size=(points, 3)), RNG.integers(0, vertices, points))  # fmt: skip


# ---- the table ------------------------------------------------------------------------------------------------------
def gradient(make, n=1, of=lambda y: y):
    """By the first n arguments."""
    return lambda m, tools: tools.grad(lambda *args: of(make(m, tools)(*args)), 0 if n == 1 else tuple(range(n)))


def jacobian(make):
    return lambda m, tools: tools.jacfwd(make(m, tools))


POINTS = RNG.random((10_000, 16))
WORK = {  # what is computed, from which arguments, and the ratio to jax.jit to stay below
    "bundle adjustment": (bundle, observations(), 0.9),
    "bundle adjustment, Jacobian": (bundle_jacobian, observations(), 0.9),
    "k-means, cost": (clusters, (POINTS, POINTS[-1000:]), 0.9),
    "k-means, direction": (newton, (POINTS, POINTS[-1000:]), 0.9),
    "Runge and Kutta, 100,000, a step": (runge_kutta(1), (RNG.random(100_000),), 0.9),
    "Runge and Kutta, 100,000, 100 steps": (runge_kutta(100), (RNG.random(100_000),), 0.9),
    "Runge and Kutta, gradient of a step": (gradient(runge_kutta(1), of=lambda y: y[-1]), (RNG.random(100_000),), 0.9),
    "Runge and Kutta, gradient of ten": (gradient(runge_kutta(10), of=lambda y: y[-1]), (RNG.random(10_000),), 0.9),
    "least squares": (least_squares, powers(), 0.9),
    "least squares, gradient": (gradient(least_squares), powers(), 0.9),
    "LSTM": (lstm, recurrent(), 0.9),
    "LSTM, gradient": (gradient(lstm, 2), recurrent(), 0.9),
    "minors, 9": (minors, (RNG.random((9, 9)),), 0.9),
    "minors, 9, gradient": (gradient(minors), (RNG.random((9, 9)),), 0.9),
    "subsets, 7": (subsets, (RNG.random((7, 7)),), 0.9),
    "subsets, 7, gradient": (gradient(subsets), (RNG.random((7, 7)),), 0.9),
    "hand tracking": (hand, skin(), 0.6),
    "hand tracking, Jacobian": (jacobian(hand), skin(), 0.6),
}  # fmt: skip


class Theirs:
    """The transforms of JAX by the names that fastgrad has for them."""

    def __init__(self):
        self.grad, self.jvp, self.vmap, self.jacrev, self.jacfwd = (
            getattr(jax, name) for name in ("grad", "jvp", "vmap", "jacrev", "jacfwd")
        )
        self.scan = jax.lax.scan


@pytest.mark.parametrize("name", WORK)
def test_evaluation(benchmark, name):
    make, args, target = WORK[name]
    ours = fg.compile(lambda *args: fg.tree.leaves(make(np, fg)(*args)), native=False)
    native = fg.compile(lambda *args: fg.tree.leaves(make(np, fg)(*args)), native=True)
    peers, targets = {"native": lambda: native(*args)}, {}
    if jax:
        jitted = jax.jit(lambda *args: jax.tree.leaves(make(jax.numpy, Theirs())(*args)))
        given = [jax.numpy.asarray(x) for x in args]
        peers["jax.jit"], targets["jax.jit"] = (lambda: jax.block_until_ready(jitted(*given))), target
    with one_thread():
        compare(benchmark, f"GradBench: {name}", lambda: ours(*args), peers, targets, rtol=1e-6, atol=1e-9)
