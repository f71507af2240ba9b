"""One row for each operation of csrc/structural.def: what the tests call it with. A new operation adds a row here.

From a row its batching rule is tested against a loop (test_vmap.py), its derivatives to third order and in float32
(test_higher_order.py), its jvp and compiled gradient (test_forward.py), and the facts of its row in structural.def
(test_operations.py).
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from _oracles import ROWS, samples

import fastgrad as fg
from fastgrad import _core
from fastgrad._rules.host import HostElementwise


class Row(NamedTuple):
    calls: list  # (a maker of operands, attributes), for _core.apply_op
    functions: Sequence = ()  # (f, *arguments): smooth functions of the operation, if it has a derivative


# ---- operands ------------------------------------------------------------------------------------------------------
def floats(*shapes):
    """A maker of random operands of these shapes; None stays one."""
    return lambda rng, dtype: [None if s is None else rng.normal(size=s).astype(dtype) for s in shapes]


def booleans(*shapes):
    return lambda rng, dtype: [rng.random(s) < 0.5 for s in shapes]


def mixed(*makers):
    """Operands of several makers, one after another."""
    return lambda rng, dtype: [x for make in makers for x in make(rng, dtype)]


def indices(shape, below, least=0):
    return lambda rng, dtype: [rng.integers(least, below, size=shape)]


def domain(row, *shapes):
    """Operands from the domain of a row of csrc/ops.def."""

    def make(rng, dtype):
        seed = int(rng.integers(1 << 30))
        drawn = samples(row, 24, dtype, seed)
        return [x[: int(np.prod(s))].reshape(s) for x, s in zip(drawn, shapes)]

    return make


def like_maximum(rng, dtype):
    """Of extremum_adjoint: x with the reduced axes last, the extrema, and a cotangent; some elements tie."""
    x = rng.integers(0, 3, size=(4, 5)).astype(dtype)
    return [x, x.max(1), rng.normal(size=4).astype(dtype)]


def like_cummax(rng, dtype):
    """Of cummax_adjoint: x, its running maxima along axis 1, and a cotangent; some elements tie."""
    x = rng.integers(0, 3, size=(4, 5, 2)).astype(dtype)
    return [x, np.maximum.accumulate(x, 1), rng.normal(size=x.shape).astype(dtype)]


def recurrence(a, b, axis, transposed):
    return _core.apply_op(_core.OP_NUMBERS["recurrence"], [_core.asarray(a), _core.asarray(b)], (axis, transposed))


def weighted(a, b, c):
    return 100 * a + 10 * b + c


def by_numpy(function, operands, shape, dtype=np.int64, **options):
    """A case of the operation `numpy`, whose attributes name the call, the dtype's number and the shape."""
    number = {np.bool_: 2, np.int64: 6}[dtype]
    return operands, (_core.numpy_number(function, options), number, *shape)


HOST_SINE: HostElementwise = HostElementwise("sine", np.sin, [lambda y, x: fg.cos(x)])
HOST_SUM = HostElementwise("sum_of_4", lambda a, b, c, d: a + b * c - d, [None, "b", lambda y, a, b, c, d: b, "d"])
HOST_PRODUCT: HostElementwise = HostElementwise(
    "product", lambda a, b, power: a * b**power,
    [lambda y, a, b, power: b**power, lambda y, a, b, power: power * a * b ** (power - 1)],
)  # fmt: skip


def matrices(*shapes):
    """Operands of which the first is a stack of matrices that are symmetric and positive definite, and diagonally
    dominant."""

    def make(rng, dtype):
        first, *rest = floats(*shapes)(rng, dtype)
        n = shapes[0][-1]
        return [(first + np.swapaxes(first, -1, -2) + 4 * n * np.eye(n)).astype(dtype), *rest]

    return make


def factored(how, *shapes):
    """Operands of solve and slogdet: matrices, their factors, and more operands."""

    def make(rng, dtype):
        a, *rest = matrices(*shapes)(rng, dtype)
        return [a, factor(a, how).numpy(), *rest]

    return make


def factor(a, how):
    return _core.apply_op(_core.OP_NUMBERS["factor"], [fg.asarray(a).detach()], (how,))


def solved(a, b, how=_core.BY_LU):
    """The operation solve as a function of its matrix and right-hand side."""
    a, b = fg.asarray(a), fg.asarray(b)
    operands = [a, factor(a, how & ~_core.TRANSPOSED), b.astype(a.dtype)]
    return _core.apply_op(_core.OP_NUMBERS["solve"], operands, (how, _core.CALLERS["solve"]))


def positive(x):
    """A symmetric positive definite matrix of any."""
    return x @ np.swapaxes(x, -1, -2) + np.eye(x.shape[-1])


def svd_without_signs(x):
    u, s, vh = fg.linalg.svd(x, full_matrices=False)
    return fg.concatenate([(u**2).ravel(), s, (vh**2).ravel()])


INTEGERS = indices((2, 3), 9, -9)


def spread(*shape):
    """Values without ties."""
    n = int(np.prod(shape))
    return np.cos(np.arange(1.0, n + 1) * 2.3).reshape(shape) * 1.5


MASK = np.array([[True, False, True], [False, False, True]])
COMPARED = [(floats((3, 1), (4,)), ()), (floats((), (2,)), ())]
BITS = [
    (booleans((3, 1), (4,)), ()), (booleans((), (2,)), ()), (mixed(INTEGERS, indices((3,), 70, -3)), ()),
    (mixed(indices((), 9), indices((2, 2), 9)), ()),
]  # fmt: skip

# ---- rows ----------------------------------------------------------------------------------------------------------
OPERATIONS = {
    "cast": Row(
        [(floats((2, 3)), (1,)), (floats(()), (0,)), (booleans((2,)), (0,)), (indices((2, 2), 9), (1,)),
         (INTEGERS, (7,)), (floats((2, 3)), (6,)), (floats((3,)), (2,))],
        [(lambda x: fg.exp(x.astype(np.float64)) * x.astype(np.float32), spread(3))],
    ),
    "reshape": Row(
        [(floats((2, 6)), (3, 4)), (floats(()), (1, 1)), (floats((1,)), ())],
        [(lambda x: fg.exp(x).reshape((3, 2)) * x.reshape((3, 2)), spread(2, 3))],
    ),
    "barrier": Row(
        [(floats((2, 3)), ()), (booleans((2,)), ())],
        [(lambda x: _core.barrier(fg.exp(x)) * x, spread(2, 3))],
    ),
    "transpose": Row(
        [(floats((2, 3, 4)), (2, 0, 1)), (floats((3,)), (0,)), (floats(()), ())],
        [(lambda x: fg.exp(x.transpose((2, 0, 1))), spread(2, 3, 2))],
    ),
    "broadcast_to": Row(
        [(floats((3, 1)), (2, 3, 4)), (floats(()), (2,)), (floats((2, 3)), (2, 3))],
        [(lambda x: fg.broadcast_to(fg.exp(x), (2, 2, 3)), spread(2, 1))],
    ),
    "slice": Row(
        [(floats((5, 6)), (4, -2, 3, 1, 1, 4)), (booleans((4,)), (1, 1, 2)), (floats(()), ())],
        [(lambda x: fg.exp(x)[::-1, 1:] * x[:, :2], spread(2, 3))],
    ),
    "unslice": Row(
        [(floats((3, 4)), (4, -2, 5, 1, 1, 6)), (floats(()), ())],
        [(lambda x: fg.grad(lambda z: (fg.exp(z)[:, ::2] ** 2).sum())(x), spread(2, 3))],
    ),
    "concatenate": Row(
        [(floats((2, 3), (2, 1), (2, 2)), (1, 3, 1, 2)), (floats((2,), (3,)), (0, 2, 3))],
        [(lambda x, y: fg.concatenate([x, fg.exp(y), y, x * x], axis=1) ** 2, spread(2, 2), spread(2, 1))],
    ),
    "take": Row(
        [
            (mixed(floats((4, 5)), indices((2, 3), 5, -5)), (1, 0)),
            (mixed(floats((4, 5)), indices((), 4, -4)), (0, 0)),
            (mixed(floats((4, 5, 2)), indices((4, 3), 5)), (1, 1)), (mixed(indices((4,), 9), indices((7,), 4)), (0, 0)),
        ],
        [
            (lambda x: fg.exp(x)[:, [0, 2, 2, 1]] ** 2, spread(2, 3)),
            (lambda x: fg.take(x * x, [[1, 1], [5, 0]]), spread(2, 3)),
        ],
    ),
    "untake": Row(
        [
            (mixed(floats((4, 2, 3)), indices((2, 3), 5, -5)), (1, 0, 5)),
            (mixed(floats((5,)), indices((), 4)), (0, 0, 4)),
            (mixed(floats((4, 3, 2)), indices((4, 3), 5)), (1, 1, 5)),
        ],
        [(lambda x: fg.grad(lambda z: (fg.exp(z)[:, [0, 2, 2]] ** 2).sum())(x), spread(2, 3))],
    ),
    "where": Row(
        [(mixed(booleans((3, 1)), floats((4,), ())), ()), (mixed(booleans(()), floats((2, 3), (2, 1))), ()),
         (mixed(booleans((3,)), INTEGERS, indices((), 9)), ())],
        [(lambda x, y: fg.where(MASK, fg.exp(x), y * y) * y, spread(2, 3), spread(3))],
    ),
    "polygamma": Row(
        [(domain(ROWS["trigamma"], (2, 3)), (1,)), (domain(ROWS["trigamma"], (3,)), (4,)), (floats((2, 0)), (2,))],
        [
            (lambda x: fg.special.polygamma(2, 2 + x * x) * x, spread(3, 2)),
            (lambda x: fg.special.polygamma(5, 2 + x * x) ** 2, spread(3)),
        ],
    ),
    "sum": Row(
        [(floats((2, 3, 4)), (0b101, 0)), (floats((2, 3)), (0b10, 1)), (floats(()), (0, 0)),
                (floats((2, 0)), (2, 0)), (indices((2, 3, 4), 9), (0b101, 0))],
        [(lambda x: fg.exp(x).sum(1) * x.sum((0, 1)) ** 2 + (x**3).sum(0, keepdims=True), spread(2, 2))],
    ),
    "cumsum": Row(
        [(floats((2, 3, 4)), (1, 0)), (floats((2, 3)), (0, 1)), (floats((3,)), (0, 1)), (floats((2, 0)), (1, 0)),
         (INTEGERS, (1, 1))],
        [
            (lambda x: fg.cumsum(fg.exp(x), axis=1) * fg.cumsum(x, axis=0), spread(2, 3)),
            (lambda x: fg.cumsum(x[::-1] ** 2)[::-1] ** 2, spread(2, 3)),
            (lambda x: fg.cumsum(x, axis=1) ** 2, spread(2, 3, 2)),
        ],
    ),
    "cumprod": Row(
        [(floats((2, 3, 4)), (1,)), (floats((2, 3)), (1,)), (floats((3,)), (0,)), (floats((2, 0)), (1,)),
         (INTEGERS, (1,))],
        [
            (lambda x: fg.cumprod(fg.exp(x), axis=1) * fg.cumprod(x, axis=0), spread(2, 3)),
            (lambda x: fg.cumprod(x * np.array([1.0, 0.0, 2.0, 0.0, 3.0])), spread(5)),
            (lambda x: fg.cumprod(x, axis=1) ** 2, spread(2, 3, 2)),
        ],
    ),
    "cummax": Row(
        [(floats((2, 3, 4)), (1,)), (floats((2, 5)), (1,)), (floats((3,)), (0,)), (floats((2, 0)), (1,)),
         (INTEGERS, (1,))],
        [
            (lambda x: fg.cummax(fg.exp(x), axis=1) * fg.cummax(x, axis=0), spread(3, 3)),
            (lambda x: fg.cummax(x, axis=1) ** 3, spread(2, 3, 2)),
        ],
    ),
    "recurrence": Row(
        [
            (floats((2, 3, 4), (2, 3, 4)), (1, 0)), (floats((2, 3), (2, 3)), (1, 1)), (floats((3,), (3,)), (0, 1)),
            (floats((2, 0), (2, 0)), (1, 0)), (floats((3, 2), (3, 2)), (0, 1)),
        ],
        [
            (lambda a, b: recurrence(fg.exp(a), b * b, 1, 0) ** 2, spread(2, 3), spread(2, 3)),
            (lambda a, b: recurrence(a * a, b, 0, 1) ** 2, spread(3, 2), spread(3, 2)),
            (lambda a, b: recurrence(a, b, 0, 1) * recurrence(b, a, 0, 0), spread(4), spread(4)),
        ],
    ),
    "max": Row(
        [(floats((2, 3, 4)), (0b101, 0)), (floats((2, 3)), (0b10, 1)), (floats((3,)), (1, 0)), (INTEGERS, (1, 0))],
        [
            (lambda x: fg.exp(x).max(1) * x.max(0), spread(3, 3)),
            (lambda x: x.max((0, 2), keepdims=True) ** 3, spread(2, 3, 2)),
        ],
    ),
    "min": Row(
        [(floats((2, 3, 4)), (0b110, 0)), (floats((2, 3)), (0b01, 1)), (floats((3,)), (1, 0)),
         (booleans((2, 3)), (2, 1))],
        [(lambda x: fg.exp(x).min(-1, keepdims=True) * x, spread(3, 2)), (lambda x: x.min() ** 3, spread(2, 3))],
    ),
    "matmul": Row(
        [
            (floats(a[::-1] if ta else a, b[::-1] if tb else b), (ta, tb))
            for a, b in [
                ((2, 3), (3, 4)), ((1, 3), (3, 4)), ((2, 3), (3, 1)), ((2, 1), (1, 4)), ((1, 3), (3, 1)),
                ((2, 0), (0, 3)),
                ((2, 0), (0, 1)), ((1, 0), (0, 3)),
            ]
            for ta, tb in itertools.product((0, 1), (0, 1))
        ] + [
            (floats((5, 2, 3), (3, 4)), (0, 0)), (floats((3, 2), (5, 3, 4)), (1, 0)),
            (floats((5, 2, 3), (5, 3, 4)), (0, 0)),
            (floats((2, 1, 2, 3), (5, 4, 3)), (0, 1)), (floats((5, 3, 2), (3, 1)), (1, 0)),
            (floats((2, 3), (5, 3, 1)), (0, 0)),
        ],
        [
            (lambda a, b: fg.tanh(a @ b), spread(2, 3), spread(3, 2)),
            (lambda a, b: fg.exp(a @ b) @ b.T @ a.T, spread(2, 3), spread(3, 2)),
            (lambda a, b: (a @ b) ** 2, spread(2, 2, 3), spread(3, 2)),
            (lambda a, b: (a @ b) ** 2, spread(2, 1, 2, 3), spread(3, 3, 1)),
            (lambda a, b: (a @ b) ** 3, spread(3), spread(3)),
        ],
    ),
    "softmax": Row(
        [(floats((2, 3)), ()), (floats((4,)), ())],
        [(lambda x: fg.softmax(x) ** 2, spread(2, 3)), (lambda x: fg.softmax(x * x, axis=0), spread(2, 3))],
    ),
    "log_softmax": Row(
        [(floats((2, 3)), ()), (floats((4,)), ())],
        [
            (lambda x: fg.log_softmax(x) ** 2, spread(2, 3)),
            (lambda x: fg.log_softmax(x * x, axis=0), spread(2, 3)),
        ],
    ),
    "logsumexp": Row(
        [(floats((2, 3)), ()), (floats((4,)), ())],
        [
            (lambda x: fg.logsumexp(x * x, axis=0) ** 2, spread(2, 3)),
            (lambda x: fg.logsumexp(x), spread(2, 3)),
        ],
    ),
    "cross_entropy": Row(
        [(mixed(floats((4, 3)), indices((4,), 3)), ()), (mixed(floats((3,)), indices((), 3)), ())],
        [(lambda x: fg.losses.softmax_cross_entropy(x * x, np.array([2, 0])) ** 2, spread(2, 3))],
    ),
    "triangle": Row(
        [(floats((3, 4)), (0, 0, 0)), (floats((2, 4, 3)), (1, -1, 1)), (floats((2, 2)), (0, -5, 1)),
                (floats((0, 3)), (1, 1, 0))],
        [(lambda x: _core.apply_op(_core.OP_NUMBERS["triangle"], [fg.exp(x)], (0, 0, 1)) ** 2, spread(2, 3))],
    ),
    "cholesky": Row(
        [(matrices((3, 3)), ()), (matrices((2, 2, 2)), ()), (matrices((0, 2, 2)), ())],
        [(lambda x: fg.linalg.cholesky(positive(x)), spread(3, 3)),
         (lambda x: fg.linalg.cholesky(positive(x)) ** 2, spread(2, 2, 2))],
    ),
    "solve_triangular": Row(
        [(matrices((3, 3), (3, 2)), (how,)) for how in range(8)]
        + [(matrices((2, 1, 2, 2), (3, 2, 2)), (1,)), (matrices((2, 2), (4, 2, 1)), (2,)),
           (matrices((4, 2, 2), (2, 3)), (5,))],
        [
            (lambda a, b: fg.linalg.solve_triangular(a + 3 * np.eye(2), b, lower=True), spread(2, 2), spread(2, 2)),
            (lambda a, b: fg.linalg.solve_triangular(a, b * b, trans=1, unit_diagonal=True), spread(3, 3), spread(3)),
            (lambda a, b: fg.linalg.solve_triangular(a + 3 * np.eye(2), b), spread(2, 2), spread(2, 2, 1)),
        ],
    ),
    "solve": Row(
        [(factored(how & 24, (3, 3), (3, 2)), (how, 0)) for how in (8, 16, 18)]
        + [(factored(16, (2, 1, 2, 2), (3, 2, 2)), (16, 1)), (factored(16, (2, 2), (4, 2, 1)), (18, 2)),
           (factored(8, (4, 2, 2), (2, 3)), (8, 0))],
        [
            (lambda a, b: solved(a + 3 * np.eye(2), b), spread(2, 2), spread(2, 2)),
            (lambda a, b: solved(a + 3 * np.eye(2), b, _core.BY_LU | _core.TRANSPOSED), spread(3, 2, 2), spread(2, 1)),
            (lambda a, b: solved(positive(a), b * b, _core.BY_CHOLESKY), spread(2, 2), spread(2, 1)),
        ],
    ),
    "slogdet": Row(
        [(factored(16, (3, 3)), ()), (factored(16, (2, 2, 2)), ()), (factored(16, (0, 1, 1)), ())],
        [(lambda a: fg.linalg.slogdet(a + 3 * np.eye(2))[1] ** 2, spread(2, 2)),
         (lambda a: fg.linalg.det(a + 3 * np.eye(2)), spread(2, 2, 2))],
    ),
    "eigh": Row(
        [(matrices((3, 3)), (0, 1)), (matrices((2, 2, 2)), (1, 1)), (matrices((2, 3, 3)), (0, 0)),
                (matrices((0, 2, 2)), (0, 1))],
        [(lambda x: fg.linalg.eigh(x + x.T).eigenvectors ** 2, spread(3, 3)),
         (lambda x: fg.linalg.eigvalsh(positive(x)), spread(2, 2, 2))],
    ),
    "svd": Row(
        [(floats((3, 3)), (0,)), (floats((2, 3, 2)), (1,)), (floats((2, 2, 3)), (2,)), (floats((0, 2, 2)), (1,))],
        [(svd_without_signs, spread(3, 2)), (lambda x: fg.exp(fg.linalg.svdvals(x)), spread(2, 2, 3))],
    ),
    "qr": Row(
        [(floats((3, 3)), (0, 3, 3)), (floats((2, 3, 2)), (1, 3, 2)), (floats((2, 3, 2)), (0, 3, 2)),
                (floats((0, 2, 1)), (0, 2, 1))],
        [(lambda x: fg.concatenate([y.ravel() for y in fg.linalg.qr(x)]), spread(3, 2))],
    ),
    "eig": Row(
        [(matrices((3, 3)), (1,)), (matrices((2, 2, 2)), (0,)), (matrices((0, 2, 2)), (1,))],
        [(lambda x: fg.linalg.eig(x * 0.1 + np.diag([1.0, 4.0])).eigenvectors ** 2, spread(2, 2)),
         (lambda x: fg.linalg.eigvals(x * 0.1 + np.diag([1.0, 4.0])), spread(2, 2))],
    ),
    "expm": Row(
        [(floats((3, 3)), ()), (floats((2, 2, 2)), ()), (floats((0, 2, 2)), ())],
        [(fg.linalg.expm, spread(2, 2)), (lambda x: fg.linalg.expm(x * x), spread(2, 2, 2))],
    ),
    "pinv": Row(
        [(floats((3, 2), (2, 3)), ()), (floats((2, 2, 3), (2, 3, 2)), ()), (floats((0, 2, 2), (0, 2, 2)), ())],
        [(fg.linalg.pinv, spread(3, 2)), (lambda x: fg.linalg.pinv(x * x), spread(2, 2, 3))],
    ),
    "host_elementwise": Row(
        [
            (floats((2, 3)), (_core.numpy_number(HOST_SINE, {}),)),
            (floats((3, 1), (4,), (2, 1, 1), ()), (_core.numpy_number(HOST_SUM, {}),)),
            (floats((2, 0), (1,)), (_core.numpy_number(HOST_PRODUCT, {"power": 2}),)),
        ],
        [
            (lambda x: HOST_SINE.at(fg.asarray(x)) * x, spread(3, 2)),
            (lambda x, y: HOST_PRODUCT.at(fg.asarray(x), fg.asarray(y), power=3) * x, spread(2, 3), spread(3)),
        ],
    ),
    "less": Row([*COMPARED, (mixed(INTEGERS, indices((3,), 9)), ())]),
    "less_equal": Row(COMPARED),
    "greater": Row(COMPARED),
    "greater_equal": Row(COMPARED),
    "equal": Row(COMPARED),
    "not_equal": Row(COMPARED),
    "invert": Row([(INTEGERS, ()), (booleans((3,)), ())]),
    "bitwise_and": Row(BITS),
    "bitwise_or": Row(BITS),
    "bitwise_xor": Row(BITS),
    "left_shift": Row(BITS[2:]),
    "right_shift": Row(BITS[2:]),
    "position": Row([(indices((2, 3), 5, -5), (5,)), (indices((), 1), (1,))]),
    "last_writer": Row([(indices((2, 6), 4, -4), (4,)), (indices((5,), 3), (7,)), (indices((2, 0), 1), (2,))]),
    "argmax": Row([(floats((2, 3)), (1,)), (INTEGERS, (0,)), (booleans((4,)), (0,))]),
    "argmin": Row([(floats((2, 3, 4)), (1,)), (indices((3, 5), 2), (1,))]),
    "argsort": Row([
        (floats((2, 3, 4)), (0,)), (floats((5,)), (1,)), (floats((3, 6)), (0, 2, 5)), (floats((2, 0)), (0,)),
        (floats((40,)), (1, *range(20))),
    ]),
    "cummax_adjoint": Row([(like_cummax, (1,))]),
    "extremum_adjoint": Row([(like_maximum, ())]),
    "softmax_adjoint": Row([(floats((2, 3), (2, 3)), ())]),
    "log_softmax_adjoint": Row([(floats((2, 3), (2, 3)), ())]),
    "logsumexp_adjoint": Row([(floats((2, 3), (2,)), ()), (floats((3,), ()), ())]),
    "cross_entropy_adjoint": Row([(mixed(floats((4, 3)), indices((4,), 3), floats((4,))), ())]),
    "cholesky_adjoint": Row([(matrices((3, 3), (3, 3)), ()), (matrices((2, 2, 2), (2, 2, 2)), ())]),
    "factor": Row([(matrices((3, 3)), (16,)), (matrices((2, 3, 2, 2)), (8,)), (matrices((0, 2, 2)), (16,))]),
    "numpy": Row([
        by_numpy(np.gcd, mixed(INTEGERS, indices((3,), 9)), (2, 3)),
        by_numpy(np.less, mixed(indices((), 9), INTEGERS), (2, 3), np.bool_),
        by_numpy(np.reciprocal, indices((2, 3), 9, 1), (2, 3)),
        by_numpy(np.matmul, mixed(INTEGERS, indices((3, 4), 9)), (2, 4)),
        by_numpy(np.sum, INTEGERS, (2,), axis=(1,), keepdims=False),
        by_numpy(np.max, INTEGERS, (1, 3), axis=(0,), keepdims=True),
        by_numpy(np.argmin, floats((2, 3)), (3,), axis=0, keepdims=False),
        by_numpy(np.argmax, INTEGERS, (), axis=None, keepdims=False),
        by_numpy(np.any, floats((2, 3)), (1, 1), np.bool_, axis=None, keepdims=True),
        by_numpy(weighted, mixed(indices((2, 1), 3, -3), indices((), 4, 3), indices((4,), 5)), (2, 4)),
    ]),
}  # fmt: skip
