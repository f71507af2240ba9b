"""``compile``: training steps that replay equal those that do not."""

import random
import warnings

import numpy as np
import pytest
from _errors import raises_text
from _replay import same, same_tree

import fastgrad as fg


def line(p, x, y):
    return fg.losses.mse(x @ p["w"] + p["b"], y)


DATA = np.random.default_rng(1).standard_normal((12, 3))
TARGET = np.random.default_rng(2).standard_normal(12)


def start(dtype=np.float64):
    return {"w": np.zeros(3, dtype), "b": np.zeros((), dtype)}


def pair(loss, optimizer, dtype=np.float64):
    """A step that replays and one that does not, on parameters of their own."""
    a, b = start(dtype), start(dtype)
    return (a, fg.training_step(loss, a, optimizer())), (b, fg.training_step(loss, b, optimizer(), compile=False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "optimizer", [lambda: fg.optim.SGD(0.1, momentum=0.9), lambda: fg.optim.Adam(0.1)], ids=["sgd", "adam"]
)
def test_steps_equal_eager_steps_while_everything_changes(optimizer, dtype):
    (a, step), (b, twin) = pair(line, optimizer, dtype)
    x, y = DATA.astype(dtype), TARGET.astype(dtype)
    for i in range(160):
        rows = slice(0, (12, 5, 12, 1)[i % 4])
        assert step(x[rows], y[rows]) == twin(x[rows], y[rows])
        same_tree(a, b)
        if i == 5:
            for p in (a, b):
                p["w"][:] = 3
        if i == 7:
            step.optimizer.load_state_dict(twin.optimizer.state_dict())
    assert step._compiled.cache_info().currsize == 3


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_integer_labels_are_traced_and_checked(dtype):
    p = np.zeros((3, 4))
    step = fg.training_step(lambda w, x, k: fg.losses.softmax_cross_entropy(x @ w, k), p, fg.optim.SGD(0.5))
    x, labels = DATA[:4], np.array([0, 1, 3, 2], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = [step(x, labels) for _ in range(4)]
        assert losses == sorted(losses, reverse=True)
        before = p.copy()
        with pytest.raises(IndexError, match="label 4 of row 2"):
            step(x, np.array([0, 1, 4, 2], dtype))
        same(p, before)
        assert step.optimizer.steps == 4
        assert step(x, labels) < losses[-1]
    assert step._compiled is not None


def test_losses_that_cannot_be_traced_run_eagerly_after_one_warning():
    rng, state = np.random.default_rng(0), {"n": 0}

    def noisy(p, x, y):
        return line(p, x + rng.standard_normal(x.shape) * 0.01, y)

    def counting(p, x, y):
        state["n"] += 1
        return line(p, x, y) * (1 + 1 / state["n"])

    def branching(p, x, y):
        loss = line(p, x, y)
        return loss if loss > 1 else loss * 2

    texts = {
        noisy: "the function draws from a numpy.random.Generator "
               rf".*test_compile_training.py, line {noisy.__code__.co_firstlineno}\)",
        counting: "two traces of this function differ",
        branching: "eagerly: compile: the value of a tensor was asked "
                   rf".*test_compile_training.py, line {branching.__code__.co_firstlineno + 2}\)",
    }  # fmt: skip
    for loss, text in texts.items():
        p = start()
        step = fg.training_step(loss, p, fg.optim.SGD(0.05))
        with pytest.warns(RuntimeWarning, match=text) as caught:
            step(DATA, TARGET)
            step(DATA, TARGET)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert "Give compile=False to run it so without this warning" in str(caught[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(3):
                step(DATA, TARGET)
        assert step.optimizer.steps == 5
        with pytest.raises(RuntimeError, match="runs eagerly, there is no program"):
            step.program(DATA, TARGET)
    (a, step), (b, twin) = pair(branching, lambda: fg.optim.Adam(0.1))
    with pytest.warns(RuntimeWarning):
        for _ in range(5):
            assert step(DATA, TARGET) == twin(DATA, TARGET)
    same_tree(a, b)


@pytest.mark.parametrize("n", [12, 4000])
def test_an_array_from_outside_changed_between_the_first_steps(n):
    scale = np.ones(n)
    x = np.resize(DATA, (n, 3))
    p = np.zeros(3)
    step = fg.training_step(lambda w, x: fg.mean(fg.square(x @ w - 1) * scale), p, fg.optim.SGD(0.0))
    assert step(x) == 1
    scale[:] = 3
    assert [step(x) for _ in range(3)] == pytest.approx([3] * 3)
    assert step._compiled.cache_info().misses == (2 if n == 12 else 1)  # a large one is read where it lies


def test_an_error_of_the_batch_is_raised_and_the_program_kept():
    p = start()
    step = fg.training_step(line, p, "sgd")
    step(DATA, TARGET)
    step(DATA, TARGET)
    compiled = step._compiled
    with pytest.raises(ValueError), warnings.catch_warnings():
        warnings.simplefilter("error")
        step(DATA, TARGET[:3])
    assert step._compiled is compiled
    step(DATA, TARGET)


def test_a_python_number_in_the_batch_takes_on_the_dtype_of_the_parameters():
    p = np.ones(3, np.float32)
    loss = lambda w, scale, x: fg.sum(fg.square(w * scale - x))
    step = fg.training_step(loss, p, fg.optim.SGD(0.1))
    twin = fg.training_step(loss, q := p.copy(), fg.optim.SGD(0.1), compile=False)
    x = np.arange(3, dtype=np.float32)
    for scale in (0.5, 0.25, 1, 0.5, *[True] * 34):
        assert step(scale, x) == twin(scale, x)
        same(p, q)
    assert step._compiled.cache_info().currsize == 3
    assert "float32 (3,)" in str(step.program(0.5, x)) and "cast" in str(step.program(0.5, x))


def test_lists_of_numbers_in_a_batch_are_arrays():
    (a, step), (b, twin) = pair(line, lambda: fg.optim.Adam(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(4):
            x, y = DATA[i : i + 4], TARGET[i : i + 4]
            assert step(x.tolist(), y.tolist()) == twin(x, y)
            assert step(x, y) == twin(x.tolist(), [tuple(row) if np.ndim(row) else row for row in y.tolist()])
            same_tree(a, b)
    assert step._compiled.cache_info().currsize == 1
    assert str(step.program(DATA[:4].tolist(), TARGET[:4].tolist())) == str(step.program(DATA[:4], TARGET[:4]))


def test_other_lists_in_a_batch_are_structures():
    def loss(p, batch, scale):
        (x, y), extra = batch["xy"], batch["extra"]
        assert extra is None and isinstance(batch["rows"], fg.Tensor) and len(scale) == 2
        return line(p, x, y) * scale[0] + fg.sum(batch["rows"]) * 0

    step = fg.training_step(loss, start(np.float32), "sgd")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = {"xy": [DATA.astype(np.float32), TARGET.astype(np.float32)], "extra": None, "rows": [[1], [2]]}
        for _ in range(3):
            step(batch, (2.0, 1.0))
    assert step._compiled.cache_info().hits >= 1
    assert "float64 ()" in str(step.program(batch, (2.0, 1.0)))


def test_a_batch_that_holds_itself_is_refused():
    numbers, arrays, named, pair = [1.0], [np.ones(3)], {}, ([],)
    numbers.append(numbers)
    arrays.append(arrays)
    named["x"] = named
    pair[0].append(pair)
    for compile in (True, False):
        step = fg.training_step(lambda p, batch: fg.sum(p["w"] * batch[0]), start(), "sgd", compile=compile)
        for batch in (numbers, arrays, named, pair):
            with raises_text(ValueError, "training_step: the batch holds itself, or is nested too deeply"):
                step(batch)
        assert step([np.ones(3)]) == 0


def test_a_step_traces_again_for_arguments_that_are_built_otherwise():
    def loss(p, x, y):
        if isinstance(x, list):
            words = [word.item() if isinstance(word, fg.Tensor) else word for row in x for word in row]
            x = fg.tensor([float(word) for word in words]).reshape(-1, 3)
        return line(p, x, y)

    (a, step), (b, twin) = pair(loss, lambda: fg.optim.SGD(0.1))
    words = [[str(number) for number in row] for row in DATA.tolist()]
    with pytest.warns(RuntimeWarning, match=r"runs eagerly.*args\[0\].* is of type|runs eagerly.*is of type str"):
        step(words, TARGET)
    assert step._compiled is None
    twin(words, TARGET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(words, TARGET), twin(words, TARGET)
        for _ in range(3):
            assert step(DATA, TARGET) == twin(DATA, TARGET)
    same_tree(a, b)
    assert step._compiled.cache_info().hits >= 1


def test_what_a_step_and_a_compiled_function_look_like():
    step = fg.training_step(line, start(), fg.optim.SGD(0.5))
    assert repr(step) == (
        "<training_step of line by SGD(learning_rate=0.5, momentum=0.0, dampening=0.0, nesterov=False, "
        "weight_decay=0.0), 0 steps taken, compiled>"
    )
    f = fg.compile(line)
    assert repr(f) == "<fastgrad.compile of line, 0 programs>"
    f(start(), DATA, TARGET)
    assert repr(f) == "<fastgrad.compile of line, 1 program>"


@pytest.mark.filterwarnings("ignore:.*cannot be traced:RuntimeWarning")
@pytest.mark.parametrize("branches", [False, True], ids=["found by the second trace", "the first trace fails"])
def test_side_effects_are_those_of_eager_steps(branches):
    """A trace that fails is undone before the eager run has these effects again."""

    def run(compile):
        counts, log = np.zeros(1), np.zeros((8, 2), np.int32)
        outside = np.random.default_rng(0), np.random.RandomState(1), random.Random(2), np.random.PCG64(3)
        np.random.seed(4)  # noqa: NPY002
        random.seed(5)

        def loss(p, x):
            counts[...] += 1
            log[int(counts[0])] = 1
            noise = outside[0].random() + outside[1].rand() + outside[2].random() + outside[3].random_raw() / 2**64
            value = fg.sum((p - x * counts - noise - np.random.rand() - random.random()) ** 2)  # noqa: NPY002
            return value * 2 if branches and value > 0 else value

        step = fg.training_step(loss, np.zeros(1), "sgd", compile=compile)
        return [step(1.0) for _ in range(4)], counts, log, [g.random() for g in outside[:1]], random.random()

    for found, expected in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-15)
