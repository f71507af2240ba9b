"""Training steps whose large gradients are computed panel by panel while their parameters are updated."""

import numpy as np
import pytest
from _replay import same, same_tree

import fastgrad as fg

ROWS, COLUMNS, BATCH = 600, 800, 8  # a gradient of 1.9 MB in float32; our own kernel's products have its bits anywhere
OPTIMIZERS = {
    "sgd": lambda: fg.optim.SGD(0.1),
    "momentum": lambda: fg.optim.SGD(0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda: fg.optim.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: fg.optim.Adam(0.01, weight_decay=0.1),
    "adamw": lambda: fg.optim.AdamW(0.01),
}


def two_layers(p, x):
    return fg.mean(fg.square(fg.tanh(x @ p["w"] + p["b"]) @ p["v"]))


def start(dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = {"w": (ROWS, COLUMNS), "b": COLUMNS, "v": (COLUMNS, ROWS)}
    return {name: (rng.normal(size=shape) / 20).astype(dtype) for name, shape in shapes.items()}


def batch(dtype=np.float32, rows=BATCH):
    return np.random.default_rng(1).normal(size=(rows, ROWS)).astype(dtype)


def traced(loss, p, optimizer, *data, **options):
    """A step that has its program: the learning rate is that of all steps, so the first two are taken with 0."""
    step = fg.training_step(loss, p, optimizer, **options)
    rate, optimizer.learning_rate = optimizer.learning_rate, 0.0
    before = {name: w.copy() for name, w in p.items()}
    step(*data)
    step(*data)
    optimizer.learning_rate = rate
    for name, w in p.items():
        w[...] = before[name]
    return step


def panels(step, *data):
    return str(step.program(*data)).count("rows at a time")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_eager_steps(name, dtype):
    p, q, x = start(dtype), start(dtype), batch(dtype)
    step = fg.training_step(two_layers, p, OPTIMIZERS[name]())
    twin = fg.training_step(two_layers, q, OPTIMIZERS[name](), compile=False)
    for _ in range(4):
        assert step(x) == twin(x)
        same_tree(p, q)
    assert panels(step, x) == 2


def test_products_by_the_blas_equal_eager_ones_to_rounding():
    p, q, x = start(), start(), batch(rows=96)
    step = fg.training_step(two_layers, p, fg.optim.SGD(0.1))
    twin = fg.training_step(two_layers, q, fg.optim.SGD(0.1), compile=False)
    for _ in range(4):
        assert step(x) == pytest.approx(twin(x), rel=1e-6)
    assert panels(step, x) == 2
    for name in p:
        np.testing.assert_allclose(p[name], q[name], rtol=1e-5, atol=1e-7)


def test_neither_gradient_is_in_memory_as_a_whole():
    p, x = start(), batch()
    step = fg.training_step(two_layers, p, "sgd")
    step(x)
    facts = step.program(x).facts
    assert facts["peak_bytes"] < 0.7 * p["w"].nbytes
    assert facts["separate_bytes"] > 2 * p["w"].nbytes


def test_mini_batches_of_descend():
    x = np.random.default_rng(2).normal(size=(5 * BATCH, ROWS)).astype(np.float32)
    results = [
        fg.descend(two_layers, start(), x, optimizer=fg.optim.SGD(0.1), epochs=2, batch_size=BATCH, seed=3, compile=c)
        for c in (True, False)
    ]
    assert results[0].history.tolist() == results[1].history.tolist()
    same_tree(results[0].params, results[1].params)


# ---- what is not finite ----------------------------------------------------------------------------------------------
def refused(step, p, x, message):
    before = {name: w.copy() for name, w in p.items()}
    steps = step.optimizer.steps
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=message):
        step(x)
    same_tree(p, before)
    assert step.optimizer.steps == steps


def by_row(p, x):
    """By w the gradient is x.T @ 1, by b it is 1."""
    return fg.sum(fg.matmul(x, p["w"]) * p["z"] + p["b"])


def rows_and_scale():
    return {"b": np.ones(COLUMNS, np.float32), "w": np.zeros((ROWS, COLUMNS), np.float32), "z": np.ones(1, np.float32)}


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 3e38])
@pytest.mark.parametrize("row", [0, ROWS // 2, ROWS - 1])
def test_a_product_that_is_not_finite_leaves_every_parameter(row, bad):
    """3e38 itself is finite, but the sum of two such is not; the last rows are those of the last panel."""
    p, x = rows_and_scale(), np.ones((2, ROWS), np.float32)
    step = traced(by_row, p, fg.optim.SGD(0.1), x)
    assert panels(step, x) == 1
    x[:, row] = bad
    refused(step, p, x, rf"gradient of params\['w'\] has {COLUMNS} entries of {ROWS * COLUMNS} that are not finite")
    x[:, row] = 1
    step(x)
    np.testing.assert_allclose(p["w"], -0.2, rtol=1e-6)


def test_finite_products_whose_bound_is_not_finite():
    p, q, x = rows_and_scale(), rows_and_scale(), np.ones((2, ROWS), np.float32)
    step = traced(by_row, p, fg.optim.SGD(1e-38), x)
    assert panels(step, x) == 1
    x[0], x[1] = 3e38, -3e38
    step(x)
    fg.training_step(by_row, q, fg.optim.SGD(1e-38), compile=False)(x)
    same_tree(p, q)
    x[1] = 1
    step(x)
    fg.training_step(by_row, q, fg.optim.SGD(1e-38), compile=False)(x)
    assert p["w"][0, 0] == pytest.approx(-3)
    same_tree(p, q)


def test_panels_of_one_gradient_leave_what_another_is_computed_from():
    """Panels that are only checked for values that are not finite: one of the second gradient would fit the memory of
    an operand of the first. All sums are exact in any order, as a BLAS may add in any."""

    def loss(p, x, y):
        return fg.sum((y * 2) @ p["v"]) + fg.sum((x * 2) @ p["w"])

    x, y = np.full((500, 600), 2.0**105, np.float32), np.full((100, 1200), 2.0**105, np.float32)
    x[0], x[1] = 2.0**126, -(2.0**126)
    y[0], y[1] = 2.0**126, -(2.0**126)
    p = {"w": np.zeros((600, 1000), np.float32), "v": np.zeros((1200, 870), np.float32)}
    step = traced(loss, p, fg.optim.SGD(1.0), x, y)
    assert panels(step, x, y) == 2
    step(x, y)
    np.testing.assert_array_equal(p["w"], -2 * np.sum(x, axis=0, dtype=np.float64)[:, None] * np.ones(1000))
    np.testing.assert_array_equal(p["v"], -2 * np.sum(y, axis=0, dtype=np.float64)[:, None] * np.ones(870))


def test_a_later_gradient_that_is_not_finite_leaves_what_is_before():
    p, x = rows_and_scale(), np.ones((2, ROWS), np.float32)
    step = traced(by_row, p, fg.optim.SGD(0.1), x)
    p["w"][:] = 1e38  # the gradient by z is the sum of the products
    refused(step, p, x, r"gradient of params\['z'\] has 1 entries of 1")


def test_nonfinite_ignore_checks_nothing():
    p, x = rows_and_scale(), np.ones((2, ROWS), np.float32)
    step = traced(by_row, p, fg.optim.SGD(0.1), x, nonfinite="ignore")
    x[:, 1] = np.nan
    step(x)
    assert np.isnan(p["w"][1]).all() and np.isfinite(p["w"][2:]).all()


# ---- gradients that must be in memory as a whole ---------------------------------------------------------------------
@pytest.mark.parametrize(
    "loss",
    [
        lambda p, x: fg.mean(fg.square(x @ p["w"] @ p["v"])),
        lambda p, x: fg.mean(fg.square(p["w"] @ p["v"])),  # either gradient reads the other parameter
        lambda p, x: fg.mean(fg.square(fg.tanh(x @ p["w"]) @ p["w"].T)),  # a sum of products
        lambda p, x: fg.mean(x @ p["w"]) + fg.mean(fg.square(p["w"])),
        lambda p, x: fg.mean(fg.square(x @ p["w"].reshape(COLUMNS, ROWS)[:ROWS])),
        lambda p, x: fg.mean(fg.square(x[:, :, None] * p["w"][None])),
    ],
)
def test_other_uses_of_large_parameters(loss):
    p, q, x = start(), start(), batch(rows=2)
    step = fg.training_step(loss, p, fg.optim.SGD(0.1))
    twin = fg.training_step(loss, q, fg.optim.SGD(0.1), compile=False)
    for _ in range(4):
        assert step(x) == pytest.approx(twin(x), rel=1e-6)
    for name in p:
        np.testing.assert_allclose(p[name], q[name], rtol=1e-5, atol=1e-7)


def test_a_batch_in_the_memory_of_a_parameter():
    p, q = start(), start()
    step = fg.training_step(two_layers, p, fg.optim.SGD(0.5))
    twin = fg.training_step(two_layers, q, fg.optim.SGD(0.5), compile=False)
    for _ in range(4):
        rows = slice(0, BATCH * ROWS)
        p_rows, q_rows = (tree["w"].reshape(-1)[rows].reshape(BATCH, ROWS) for tree in (p, q))
        assert step(p_rows) == twin(q_rows)
        same_tree(p, q)
    assert panels(step, batch()) == 2


def test_a_batch_beside_a_parameter_in_the_same_memory():
    memory = np.zeros(ROWS * COLUMNS + BATCH * ROWS, np.float32)
    p, x = start(), memory[ROWS * COLUMNS :].reshape(BATCH, ROWS)
    q, x[...] = start(), batch()
    memory[: ROWS * COLUMNS] = p["w"].reshape(-1)
    p["w"] = memory[: ROWS * COLUMNS].reshape(ROWS, COLUMNS)
    step = fg.training_step(two_layers, p, fg.optim.SGD(0.5))
    twin = fg.training_step(two_layers, q, fg.optim.SGD(0.5), compile=False)
    for _ in range(4):
        assert step(x) == twin(batch())
        same_tree(p, q)
    same(x, batch())
