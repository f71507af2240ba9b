"""Groups of a program that begin with products, made some rows at a time: which, what that saves, and every bit."""

import re

import numpy as np
import pytest
from _replay import check

import fastgrad as fg

RNG = np.random.default_rng(0)


def normal(*shape, dtype=np.float64):
    return RNG.normal(size=shape).astype(dtype)


def groups(program):
    """The names of the instructions of each fused group."""
    blocks = re.findall(r"  fused \d+:\n((?:    .*(?:\n|$))+)", str(program))
    return [re.findall(r"= (\S+)", block) for block in blocks]


def whole(program):
    """How many products are stored as a whole, be it for a group."""
    return sum("= matmul" in line and not line.endswith("block") for line in str(program).splitlines())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neither_what_an_activation_reads_nor_its_cotangent_is_stored(dtype):
    def loss(w, b, v, x):
        return fg.mean(fg.square(fg.tanh(x @ w + b) @ v))

    w, b, v, x = (normal(*s, dtype=dtype) for s in ((20, 100), (100,), (100, 4), (400, 20)))
    program = check(fg.value_and_grad(loss, (0, 1, 2)), w, b, v, x)
    assert groups(program) == [["matmul", "add", "tanh"], ["matmul", "tanh_vjp", "sum"]]
    assert program.facts["peak_bytes"] < 1.6 * 400 * 100 * x.itemsize  # only what tanh gives is whole; else 2.2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "m, k, n", [(200, 3, 100), (401, 20, 90), (9001, 1, 2), (97, 4, 2000), (7000, 7, 3), (800, 24, 33)]
)
def test_rows_of_every_number_and_width(m, k, n, dtype):
    def f(x, w, b):
        z = x @ w
        a = fg.gelu(z + b)
        return a * z, fg.sum(a, axis=0), fg.sum(a, axis=1), fg.transpose(w) @ fg.transpose(x)

    x, w, b = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype), normal(n, dtype=dtype)
    assert groups(check(f, x, w, b))[0][0] == "matmul"
    assert groups(check(lambda x, w, b: fg.exp(fg.transpose(x) @ w) + b, x.T.copy(), w, b))[0][0] == "matmul"
    if k <= 16:
        assert groups(check(lambda x, w, b: fg.exp(x @ fg.transpose(w)) + b, x, w.T.copy(), b))[0][0] == "matmul"


def test_several_products_in_one_group():
    def f(x, w, v):
        z, u = x @ w, x @ v
        return fg.sigmoid(z) * fg.tanh(u)

    program = check(f, normal(500, 20), normal(20, 50), normal(20, 50))
    assert groups(program) == [["matmul", "matmul", "sigmoid", "tanh", "multiply"]]
    assert whole(program) == 0


def test_what_a_product_reads_is_not_overwritten():
    def f(x, w):
        a = fg.exp(x)  # of the size of the product
        return fg.sin(a @ w + a), fg.sum(x)

    program = check(f, normal(500, 20), normal(20, 20))
    assert groups(program) == [["exp", "sum"], ["matmul", "add", "sin"]]


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w: fg.mean(fg.tanh(x @ w)),  # a sum of everything goes by halves that do not end with rows
        lambda x, w: fg.tanh(fg.transpose(x @ w)) + 1,
        lambda x, w: (lambda z: fg.tanh(z) + fg.sum(z))(x @ w),
        lambda x, w: fg.tanh(fg.reshape(fg.sum(x @ w, axis=0), (-1, 1)) + fg.transpose(x @ w)),
        lambda x, w: fg.tanh(x @ w @ (fg.transpose(w) @ w)),  # much of the second operand would be read again and again
        lambda x, w: fg.tanh(fg.exp(x) @ w[:, :10]),  # the first operand is more than the product
        lambda x, w: fg.tanh(fg.reshape(x, (2, 1000, 20)) @ fg.stack([w, w + 1])),
        lambda x, w: fg.tanh(x[:150] @ w),  # short
    ],
)
def test_products_that_are_made_at_once(f):
    program = check(f, normal(2000, 20), normal(20, 50))
    assert all("matmul" not in names for names in groups(program))


def test_what_others_read_is_stored_too():
    def f(x, w):
        z = x @ w
        return z, fg.tanh(z) * 2, fg.transpose(z) @ z

    program = check(f, normal(500, 20), normal(20, 50))
    assert groups(program) == [["matmul", "tanh", "multiply"]]
    assert whole(program) == 2


def drawn(seed):
    """A random function of products and elementwise steps in any order."""
    rng = np.random.default_rng(seed)
    unary = (fg.tanh, fg.relu, fg.sin, lambda z: z * 0.5, lambda z: z - fg.mean(z, axis=0),
             lambda z: z / (1 + fg.sum(z * z)))  # fmt: skip
    plan = [rng.integers(60, size=4) for _ in range(12)]

    def f(x, w, row):
        values, weights = [x, x - row], [w, fg.transpose(w), fg.tanh(w)]
        for kind, which, i, j in plan:
            a, b = values[-1 - i % min(3, len(values))], values[j % len(values)]
            product = a @ weights[which % len(weights)]
            values.append((unary[which % len(unary)](a), product, product + row, product * b, a * b)[kind % 5])
            if kind == 0:
                weights.append(fg.tanh(fg.transpose(a) @ b) / 4)
        return fg.sum(fg.tanh(values[-1]), axis=0), fg.tanh(values[-2])

    return f


@pytest.mark.parametrize("seed", range(40))
def test_random_functions(seed):
    dtype = np.float64 if seed % 2 else np.float32
    x, w = normal(1000 + seed, 18 + seed % 7, dtype=dtype), normal(18 + seed % 7, 18 + seed % 7, dtype=dtype) / 4
    f, row = drawn(seed), x[0] * 0.5
    check(f, x, w, row)
    gradient = fg.grad(lambda *args: sum(fg.sum(y) for y in f(*args)), (0, 1, 2))
    # Sums of products have another order.
    for found, expected in zip(fg.compile(gradient)(x, w, row), gradient(x, w, row)):
        assert np.linalg.norm(found - expected) <= 1000 * np.finfo(dtype).eps * np.linalg.norm(expected)
