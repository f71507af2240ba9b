"""Training steps whose gradients are rows: tables of which a batch gathers a few rows (csrc/program/row_sparse.c)."""

import sys
import tracemalloc

import numpy as np
import pytest
from _errors import raises_text
from _replay import same_tree

import fastgrad as fg

ROWS, WIDTH = 61, 5
LAZY = {"params": "*", "lazy_rows": True}
OPTIMIZERS = {
    "sgd": lambda: fg.optim.SGD(0.1),
    "adagrad": lambda: fg.optim.Adagrad(0.1),
    "adagrad_from_above_0": lambda: fg.optim.Adagrad(0.1, initial_accumulator_value=0.5),
    "sparse_adam": lambda: fg.optim.SparseAdam(0.1),
    "lazy_adamw": lambda: fg.optim.AdamW(0.1, groups=[LAZY]),
    "lazy_momentum": lambda: fg.optim.SGD(0.1, momentum=0.9, weight_decay=0.1, groups=[LAZY]),
    "decay": lambda: fg.optim.SGD(0.1, weight_decay=0.1),
    "momentum": lambda: fg.optim.SGD(0.1, momentum=0.9),
    "adam": lambda: fg.optim.Adam(0.1),
    "lamb": lambda: fg.optim.LAMB(0.1),
}


def word2vec(p, centre, context, negative):
    """The loss of skip-gram with negative sampling: two tables, one of which is gathered from twice."""
    v = p["in"][centre]
    right = fg.sum(v * p["out"][context], axis=1)
    wrong = fg.sum(v[:, None] * p["out"][negative], axis=2)
    return fg.mean(fg.logaddexp(0.0, -right)) + fg.mean(fg.sum(fg.logaddexp(0.0, wrong), axis=1))


def tables(dtype=np.float64):
    rng = np.random.default_rng(0)
    return {name: (rng.standard_normal((ROWS, WIDTH)) / 2).astype(dtype) for name in ("in", "out")}


def batch(seed, size=4):
    """Few different rows, so that some come more than once, and some of them counted from the end."""
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 5, size), rng.integers(-4, 5, size), rng.integers(-9, 10, (size, 5))


def forms(step, *data):
    return step.program(*data).facts["gradients"]


def steps_on(loss, p, optimizer, batches, **options):
    step = fg.training_step(loss, p, optimizer, **options)
    return step, [step(*data) for data in batches]


def by_hand(loss, p, optimizer, batches, clip=None):
    """The losses of steps in a loop of the user's, along whole gradients."""
    losses = []
    for data in batches:
        value, gradients = fg.value_and_grad(loss)(p, *data)
        losses.append(float(value))
        optimizer.step(p, gradients if clip is None else clip(gradients))
    return losses


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_have_the_bits_of_whole_gradients(name, dtype):
    p, batches = tables(dtype), [batch(k) for k in range(6)]
    expected = by_hand(word2vec, p, OPTIMIZERS[name](), batches)
    for compile in (True, False):
        q = tables(dtype)
        step, losses = steps_on(word2vec, q, OPTIMIZERS[name](), batches, compile=compile)
        assert losses == expected
        same_tree(q, p)
        assert not compile or forms(step, *batches[0]) == ["row-sparse"] * 2


@pytest.mark.parametrize(
    ("option", "clip"),
    [
        ({"clip_value": 1e-3}, lambda g: fg.optim.clip_by_value(g, 1e-3)),
        ({"clip_norm": 0.1}, lambda g: fg.optim.clip_by_global_norm(g, 0.1)),
        ({"clip_each_norm": 0.1}, lambda g: fg.optim.clip_by_norm(g, 0.1)),
    ],
    ids=["value", "norm", "each"],
)
@pytest.mark.parametrize("name", ["sgd", "sparse_adam", "adam", "lamb"])
def test_clipping(name, option, clip):
    p, batches = tables(), [batch(k) for k in range(4)]
    expected = by_hand(word2vec, p, OPTIMIZERS[name](), batches, clip)
    for compile in (True, False):
        q = tables()
        _, losses = steps_on(word2vec, q, OPTIMIZERS[name](), batches, compile=compile, **option)
        np.testing.assert_allclose(losses, expected, rtol=1e-12)
        for key in p:
            np.testing.assert_allclose(q[key], p[key], rtol=1e-12)


@pytest.mark.parametrize("option", [{"accumulate": 2}, {"has_aux": True}])
def test_parts_of_a_batch_and_more_than_the_loss(option):
    def loss(p, *data):
        value = word2vec(p, *data)
        return (value, {"rows": p["in"][data[0]]}) if "has_aux" in option else value

    p, q = tables(), tables()
    step, _ = steps_on(loss, p, fg.optim.SparseAdam(0.1), [batch(k) for k in range(4)], **option)
    twin, _ = steps_on(loss, q, fg.optim.SparseAdam(0.1), [batch(k) for k in range(4)], compile=False, **option)
    same_tree(p, q)
    same_tree(step(*batch(9)), twin(*batch(9)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parts_keep_rows(name):
    """The gradients of the parts of a batch are added as rows, and equal that of the batch where rows weigh alike."""
    p, q, whole = tables(), tables(), tables()
    options = {"accumulate": 2, "clip_norm": 0.3}
    step, losses = steps_on(word2vec, p, OPTIMIZERS[name](), [batch(k) for k in range(5)], **options)
    _, eager = steps_on(word2vec, q, OPTIMIZERS[name](), [batch(k) for k in range(5)], compile=False, **options)
    _, expected = steps_on(word2vec, whole, OPTIMIZERS[name](), [batch(k) for k in range(5)], clip_norm=0.3)
    same_tree(p, q)
    assert losses == eager
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    for key in p:
        np.testing.assert_allclose(p[key], whole[key], rtol=1e-8, atol=1e-10)
    _, _, gradients = step._gradients_in_parts(batch(9), None)
    assert {type(g) for g in gradients} == {fg._core.RowSparse}


@pytest.mark.parametrize("compile", [True, False])
def test_parts_of_a_long_table_take_little_memory(compile):
    table = {"t": np.zeros((200_000, 16))}
    index, x = np.arange(0, 64), np.ones((64, 16))
    loss = lambda p, index, x: fg.mean((p["t"][index] - x) ** 2)
    step = fg.training_step(loss, table, fg.optim.SGD(0.1), accumulate=4, compile=compile)
    for _ in range(3):
        step(index, x)
    tracemalloc.start()
    try:
        step(index, x)
        assert tracemalloc.get_traced_memory()[1] < table["t"].nbytes / 20
    finally:
        tracemalloc.stop()
    assert np.count_nonzero(table["t"].any(axis=1)) == 64


def test_a_table_whose_parts_gather_many_rows():
    """Dense parts and parts of rows add up."""
    loss = lambda p, index: fg.mean(p["t"][index[index >= 0] if isinstance(index, np.ndarray) else index] ** 2)
    p, q = ({"t": np.arange(1.0, 41.0).reshape(20, 2)} for _ in range(2))
    index = np.arange(60) % 20
    fg.training_step(loss, p, fg.optim.SGD(0.1), accumulate=7)(index)
    fg.training_step(loss, q, fg.optim.SGD(0.1))(index)
    np.testing.assert_allclose(p["t"], q["t"], rtol=1e-12)


def test_an_optimizer_that_changes_while_it_runs():
    """Whether other rows stay as they are is asked at each step, of the same program."""
    p, q = tables(), tables()
    steps = [fg.training_step(word2vec, p, "sgd"), fg.training_step(word2vec, q, "sgd", compile=False)]
    for k in range(8):
        for step in steps:
            step.optimizer.weight_decay = 0.1 * (k % 3 == 2)
            step(*batch(k))
        same_tree(p, q)
    assert steps[0]._compiled.cache_info().currsize == 1


# ---- SparseAdam ------------------------------------------------------------------------------------------------------
def sparse_adam(table, gathers, rate, beta1, beta2, eps):
    """PyTorch's SparseAdam, row by row; a gather is an index and the gradient by each row that it reads."""
    m, v = np.zeros_like(table), np.zeros_like(table)
    for t, (index, values) in enumerate(gathers, 1):
        for row in set(index % len(table)):
            g = values[index % len(table) == row].sum(axis=0)
            m[row] += (1 - beta1) * (g - m[row])
            v[row] += (1 - beta2) * (g * g - v[row])
            size = rate * np.sqrt(1 - beta2**t) / (1 - beta1**t)
            table[row] -= size * m[row] / (np.sqrt(v[row]) + eps)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("rows", [9, 40], ids=["whole", "row-sparse"])
def test_sparse_adam_is_that_of_pytorch(rows, compile):
    rng = np.random.default_rng(5)
    gathers = [(rng.integers(-9, 9, 7), rng.standard_normal((7, 3))) for _ in range(12)]
    table = rng.standard_normal((rows, 3))
    expected = table.copy()
    optimizer = fg.optim.SparseAdam(0.05, betas=(0.8, 0.95), eps=1e-3)
    steps_on(lambda p, i, c: fg.sum(p[i] * c), table, optimizer, gathers, compile=compile)
    sparse_adam(expected, gathers, 0.05, 0.8, 0.95, 1e-3)
    np.testing.assert_allclose(table, expected, rtol=1e-13, atol=1e-15)


def test_sparse_adam_gives_what_pytorch_gave():
    """The table after six steps by torch.optim.SparseAdam of PyTorch 2 (lr=0.05, betas=(0.8, 0.95), eps=1e-3)."""
    recorded = [
        [-0.8177697637263555, -1.3259305295631076, -0.17787643139170117],
        [0.3140170984564613, 1.1424871750996992, 0.07339319383960952],
        [-0.6159896915006698, -0.7564224413142012, 0.831063708087884],
        [1.5956707912673254, 0.37167914972853805, -1.2420738347027722],
        [-0.8768053655666539, 1.5403911066873972, 0.1919091952490146],
        [-1.6673268718395355, -0.022759370811112407, -1.1810229338359204],
        [-0.6603930225364674, -0.5188750402044588, -0.6822345564278058],
        [0.6510960243271932, 0.03220527703699301, -0.49859958691095363],
        [0.4208225767562226, 0.8564734030343203, -1.7328972868865655],
    ]
    rng = np.random.default_rng(5)
    table = rng.standard_normal((9, 3))
    gathers = [(rng.integers(0, 9, 4), rng.standard_normal((4, 3))) for _ in range(6)]
    optimizer = fg.optim.SparseAdam(0.05, betas=(0.8, 0.95), eps=1e-3)
    steps_on(lambda p, i, c: fg.sum(fg.sin(p[i]) * c), table, optimizer, gathers)
    np.testing.assert_allclose(table, recorded, rtol=1e-12)


def test_rows_of_gradient_0_stay_however_it_is_kept():
    """A row that is read but has the gradient 0, in a loop of the user's, and in steps of both kinds."""
    index, weights = np.array([1, 2, 2, 5]), np.array([[1.0], [1.0], [-1.0], [0.0]])

    def loss(p, index, weights):
        return fg.sum(p["table"][index] * weights) + fg.sum(p["bias"] * p["bias"])

    results = []
    for compile in (True, False, None):
        p = {"bias": np.array([0.0, 1.0]), "table": np.ones((ROWS, 2))}
        optimizer = fg.optim.Adam(0.1, groups=[{"params": "table", "lazy_rows": True}])
        if compile is not None:
            step, _ = steps_on(loss, p, optimizer, [(index, weights), (index[1:], weights[1:])], compile=compile)
        else:
            for skipped in range(2):
                optimizer.step(p, fg.grad(loss)(p, index[skipped:], weights[skipped:]))
        assert (np.flatnonzero(np.any(p["table"] != 1, axis=1)) == [1]).all()
        assert p["bias"][0] == 0 and p["bias"][1] != 1
        np.testing.assert_allclose(p["table"][1], 0.9, rtol=1e-6)  # one step, though two were taken
        results.append(p)
    same_tree(results[0], results[1])
    same_tree(results[0], results[2])


def test_lazy_rows_that_are_refused():
    with raises_text(
        ValueError,
        "Adagrad: groups[0] has lazy_rows, but Adagrad cannot leave rows out: expected one of SGD, RMSprop, Adadelta, "
        "Lion, Adam and its variants",
    ):
        fg.optim.Adagrad(groups=[LAZY])
    with raises_text(ValueError, "lamb: an update of whole parameters cannot leave rows out"):
        fg._core.UpdateRule("lamb", ([], []), (0.0,) * 7, lazy=True)


# ---- which gradients are rows ----------------------------------------------------------------------------------------
def form_of(loss):
    """How the gradient of a table by a loss of it and an index is kept; steps of both kinds are right."""
    p, index = tables()["in"], np.array([1, 2, 2, -1])
    by_hand(loss, p, fg.optim.SGD(), [(index,)] * 4)
    form = None
    for compile in (False, True):
        q = tables()["in"]
        step, _ = steps_on(loss, q, fg.optim.SGD(), [(index,)] * 4, compile=compile)
        np.testing.assert_allclose(q, p, rtol=1e-12)
        (form,) = forms(step, index) if compile else [None]
    return form


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, i: fg.sum(fg.take(p, i, axis=0) ** 2),
        lambda p, i: fg.sum(p[i.reshape(2, 2, 1)] ** 2),
        lambda p, i: fg.sum(p[i][:, 1:3] ** 2),
        lambda p, i: fg.sum(p[i[0]] ** 2),
        lambda p, i: fg.sum(p[np.array([3, -3, 3])] ** 2),
        lambda p, i: fg.sum(fg.vmap(lambda k: fg.sum(p[k] ** 2))(i)),
        lambda p, i: fg.sum(p[i] * p[i - 1]) + fg.sum(p[i[1:]]) + fg.sum(p[i[:0]]),
        lambda p, i: fg.sum(p[i[:0]]),
        lambda p, i: fg.sum(p[i] * p[i]),
        lambda p, i: fg.sum(p[i] * p[i - 1] * p[i]),
    ],
)
def test_gathers_of_rows(loss):
    assert form_of(loss) == "row-sparse"


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda p, i: fg.sum(p[i]) + fg.sum(p**2), ": the parameter is read otherwise than by gathers of rows, too"),
        (lambda p, i: fg.sum(p[fg.concatenate([i] * 8)]), ": more rows are gathered than half of those that there are"),
        (lambda p, i: sum(fg.sum(p[i[:1] + k]) for k in range(17)), ": rows are gathered more than 16 times"),
        (lambda p, i: fg.sum(p[i, i % 3] ** 2), ""),
    ],
)
def test_gradients_that_are_whole(loss, why):
    assert form_of(loss) == "dense" + why


def test_a_gradient_that_is_read_otherwise():
    def loss(p, i):
        slope = fg.grad(lambda table: fg.sum(table[i] ** 2))(p["table"])
        return fg.sum(p["table"][i] * p["w"]) + 0.5 * fg.sum(slope**2)

    results = []
    for compile in (True, False):
        p = {"table": tables()["in"], "w": np.ones(WIDTH)}
        steps_on(loss, p, "sgd", [(np.array([1, 1, 3]),)] * 4, compile=compile)
        results.append(p)
    for key in p:
        np.testing.assert_allclose(results[0][key], results[1][key], rtol=1e-12)


def test_many_terms_of_one_row_in_float32():
    """They are summed as those of a whole gradient, in float64 where a row gets many."""
    index = np.zeros(3000, np.int64)
    index[::3] = np.arange(1000)
    p = np.zeros((8000, 16), np.float32)
    step, _ = steps_on(lambda p, i: fg.sum(p[i]) * np.float32(0.1), p, fg.optim.SGD(1.0), [(index,)] * 3)
    assert forms(step, index) == ["row-sparse"]
    np.testing.assert_allclose(p[0], -3 * 0.1 * np.sum(index == 0), rtol=2e-6)
    np.testing.assert_allclose(p[3:1000], -0.3, rtol=1e-6)


# ---- memory ----------------------------------------------------------------------------------------------------------
def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "sparse_adam"])
def test_neither_table_nor_state_is_touched_as_a_whole(name, compile):
    """Memory that nobody has touched takes no room: 256 MB for each of the table and its state."""
    before = resident_bytes()
    table, index = np.zeros((500_000, 64)), np.array([3, -3, 3, 250_000])
    steps_on(lambda p, i: fg.sum((p[i] - 1) ** 2), table, OPTIMIZERS[name](), [(index,)] * 4, compile=compile)
    assert resident_bytes() - before < 100e6  # pages may have 2 MB
    assert np.all(table[index] > 0) and not table[4].any()


def test_memory_of_the_intermediates_does_not_grow_with_the_table():
    bytes_of = []
    for rows in (1000, 100_000):
        step, _ = steps_on(lambda p, i: fg.sum(p[i] ** 2), np.ones((rows, 8)), "adam", [(np.arange(9),)] * 3)
        bytes_of.append(step.program(np.arange(9)).facts["peak_bytes"])
    assert bytes_of[0] == bytes_of[1] < 100_000


# ---- errors, values that are not finite ------------------------------------------------------------------------------
def test_an_index_out_of_range_changes_nothing():
    p = tables()
    step, _ = steps_on(word2vec, p, fg.optim.SparseAdam(0.1), [batch(k) for k in range(3)])
    before, data = {name: w.copy() for name, w in p.items()}, batch(4)
    for bad in (ROWS, -ROWS - 1):
        data[1][2] = bad
        with pytest.raises(IndexError, match=f"index {bad} .*outside an axis of length {ROWS}"):
            step(*data)
        same_tree(p, before)
    assert step.optimizer.steps == 3


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("nonfinite", ["raise", "skip", "ignore"])
def test_a_row_that_is_not_finite(nonfinite, compile):
    def loss(p, index, scale):
        return fg.sum(fg.sum(p[index], axis=1) * scale)

    p, index, scale = np.ones((ROWS, WIDTH)), np.array([7, 3, 7]), np.ones(3)
    step, _ = steps_on(loss, p, fg.optim.SGD(0.0), [(index, scale)] * 3, nonfinite=nonfinite, compile=compile)
    step.optimizer.learning_rate, scale[2] = 0.1, np.inf
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match=rf"params has {WIDTH} entries of {ROWS * WIDTH} that are not"):
            step(index, scale)
    else:
        step(index, scale)
    assert np.isfinite(p).all() == (p[3] == 1).all() == (nonfinite != "ignore")
    assert step.skipped == (nonfinite == "skip")


def test_optimizers_of_the_users_are_handed_arrays():
    class Halved(fg.optim.SGD):
        def step(self, params, grads):
            assert all(type(g) is np.ndarray for g in grads.values())
            super().step(params, {name: g / 2 for name, g in grads.items()})

    class InPython(fg.optim.SGD):
        def _update(self, leaves, gradients, rate):
            for p, g in zip(leaves, gradients):
                p -= rate / 2 * np.asarray(g)

    results = []
    for cls in (Halved, InPython):
        for compile in (True, False):
            p = tables()
            steps_on(word2vec, p, cls(0.5), [batch(k) for k in range(3)], compile=compile)
            results.append(p)
    for p in results[1:]:
        for key in p:
            np.testing.assert_allclose(p[key], results[0][key], rtol=1e-12)


# ---- descents --------------------------------------------------------------------------------------------------------
def test_descend_goes_on_from_a_checkpoint(tmp_path):
    data = batch(11, size=40)

    def descend(steps, **options):
        return fg.descend(
            word2vec, tables(), data, optimizer=fg.optim.SparseAdam(0.05), steps=steps, batch_size=4, seed=1, **options
        )

    whole = descend(30)
    descend(12, checkpoint=tmp_path / "run", every=5)
    resumed = descend(30, checkpoint=tmp_path / "run", every=5, resume=True)
    same_tree(resumed.params, whole.params)
    eager = descend(30, compile=False)
    same_tree(eager.params, whole.params)


def test_a_table_in_a_net_whose_other_parameters_are_dense():
    """Bag of words: embeddings that are averaged, and a layer."""

    def loss(p, words, labels):
        hidden = fg.tanh(fg.mean(p["embed"]["table"][words], axis=1) @ p["layers"][0]["w"] + p["layers"][0]["b"])
        return fg.losses.softmax_cross_entropy(hidden, labels)

    results, rng = [], np.random.default_rng(3)
    words, labels = rng.integers(0, 400, (6, 4)), rng.integers(0, 3, 6)
    for compile in (True, False):
        p = {"embed": {"table": np.ones((400, 8))}, "layers": [{"w": np.ones((8, 3)), "b": np.zeros(3)}]}
        optimizer = fg.optim.AdamW(0.1, groups=[{"params": "embed.*", "lazy_rows": True, "weight_decay": 0.0}])
        step, _ = steps_on(loss, p, optimizer, [(words, labels)] * 5, compile=compile)
        results.append(p)
        if compile:
            assert forms(step, words, labels) == ["row-sparse", "dense", "dense"]
    same_tree(*results)
    untouched = np.setdiff1d(np.arange(400), words)
    assert (p["embed"]["table"][untouched] == 1).all()


def test_rows_as_an_array():
    table = fg._core.watch(tables()["in"])
    (rows,) = fg._core.gradients_by_rows(fg.sum(table[np.array([2, -1, 2])]), [table])
    assert isinstance(rows, fg._core.RowSparse)
    expected = np.zeros((ROWS, WIDTH))
    expected[[2, -1]] = [[2.0], [1.0]]
    np.testing.assert_array_equal(np.asarray(rows), expected)
    with raises_text(ValueError, "numpy.asarray: a gradient that is kept as rows becomes an array by a copy only"):
        rows.__array__(copy=False)
