"""One step in one call: forward, backward and update."""

import copy
import dataclasses
import gc
import pickle
import re
import weakref

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg
from fastgrad import _core

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((8, 3)), RNG.standard_normal(8)


def line(params, x, y):
    return fg.losses.mse(x @ params["w"] + params["b"], y)


def start(dtype=np.float64):
    return {"w": np.zeros(3, dtype), "b": np.zeros((), dtype)}


def by_hand(w, b, rate=0.1):
    error = X @ w + b - Y
    return np.mean(error**2), w - rate * 2 * X.T @ error / 8, b - rate * 2 * error.mean()


def test_a_step_is_the_gradient_times_the_rate_and_returns_the_loss_before():
    params = start()
    step = fg.training_step(line, params, fg.optim.SGD(0.1))
    w, b = np.zeros(3), 0.0
    for _ in range(5):
        expected, w, b = by_hand(w, b)
        value = step(X, Y)
        assert type(value) is float
        assert value == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(params["w"], w, rtol=1e-12)
        np.testing.assert_allclose(params["b"], b, rtol=1e-12)
    assert step.params is params
    assert step.optimizer.steps == 5


@pytest.mark.parametrize("optimizer", [fg.optim.SGD(0.1, momentum=0.9), fg.optim.Adam(0.1)], ids=repr)
def test_it_equals_grad_and_step(optimizer):
    twin = fg.optim.get(type(optimizer).__name__, **{k: getattr(optimizer, k) for k in
                        ("learning_rate", "momentum", "betas") if hasattr(optimizer, k)})  # fmt: skip
    params, other = start(np.float32), start(np.float32)
    x, y = X.astype(np.float32), Y.astype(np.float32)
    step = fg.training_step(line, params, optimizer)
    for _ in range(4):
        value, grads = fg.value_and_grad(line)(other, x, y)
        twin.step(other, grads)
        assert step(x, y) == value
        np.testing.assert_array_equal(params["w"], other["w"])
        np.testing.assert_array_equal(params["b"], other["b"])


def test_the_step_reads_and_writes_the_arrays_of_the_caller():
    params = start()
    step = fg.training_step(line, params, "sgd")
    first = step(X, Y)
    params["w"][:] = 0
    params["b"][...] = 0
    assert step(X, Y) == first


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_any_size_of_parameter(size):
    p = np.ones(size)
    step = fg.training_step(lambda p: (p * p).sum(), p, fg.optim.SGD(0.25))
    assert step() == size
    np.testing.assert_array_equal(p, np.full(size, 0.5))


def test_unused_parameters_have_gradient_zero():
    params = {"used": np.ones(2), "unused": np.ones(2)}
    step = fg.training_step(lambda p: p["used"].sum(), params, fg.optim.SGD(1.0, weight_decay=0.5))
    step()
    np.testing.assert_array_equal(params["used"], [-0.5, -0.5])
    np.testing.assert_array_equal(params["unused"], [0.5, 0.5])


def test_numpy_functions_and_a_loss_of_one_element():
    p = np.array([1.0, 2.0])
    step = fg.training_step(lambda p: np.sum(np.square(p), keepdims=True), p, fg.optim.SGD(0.5))
    assert step() == 5
    np.testing.assert_array_equal(p, [0, 0])


def test_it_works_within_no_grad_and_keeps_to_its_own_parameters():
    other = fg.tensor([2.0], requires_grad=True)
    p = np.array([1.0])
    step = fg.training_step(lambda p: (p * other).sum(), p, fg.optim.SGD(0.25))
    with fg.no_grad():
        assert step() == 2
        assert not (other * 2).requires_grad
    assert p == [0.5]
    assert other.grad is None


def test_nothing_is_kept_alive_and_nothing_printed(capsys):
    params = start()
    step = fg.training_step(line, params, "adam")
    step(X, Y)
    before = fg._core.live()["nodes"]
    for _ in range(20):
        step(X, Y)
    assert fg._core.live()["nodes"] == before
    gone = weakref.ref(params["w"])
    del params, step
    gc.collect()
    assert gone() is None
    assert capsys.readouterr() == ("", "")


def test_a_loss_that_raises_leaves_everything_and_the_step_usable():
    params = start()

    def loss(params, x, y):
        if x is None:
            raise KeyError("no data")
        return line(params, x, y)

    step = fg.training_step(loss, params, "adam")
    with pytest.raises(KeyError):
        step(None, Y)
    assert step.optimizer.steps == 0
    np.testing.assert_array_equal(params["w"], np.zeros(3))
    assert step(X, Y) > 0


def test_a_state_loaded_between_steps_is_used_or_refused():
    params, other = start(), start()
    step = fg.training_step(line, params, fg.optim.Adam(0.1))
    twin = fg.training_step(line, other, fg.optim.Adam(0.1))
    step(X, Y)
    twin(X, Y)
    twin.optimizer.load_state_dict(step.optimizer.state_dict())
    assert [step(X, Y), step(X, Y)] == [twin(X, Y), twin(X, Y)]
    foreign = fg.optim.Adam()
    foreign.step([np.ones(3)], [np.ones(3)])
    step.optimizer.load_state_dict(foreign.state_dict())
    before = {key: value.copy() for key, value in params.items()}
    with pytest.raises(ValueError, match="^params is built as .* but this optimizer keeps state for \\[\\*\\]"):
        step(X, Y)
    for key in params:
        np.testing.assert_array_equal(params[key], before[key])


# ---- not finite ------------------------------------------------------------------------------------------------------
def blows_up(params, x):
    return (params["w"] * 0).sum() + fg.sqrt(params["b"][1] * x)


@pytest.mark.parametrize("optimizer", [fg.optim.SGD(0.1, momentum=0.5), fg.optim.Adam(0.1)], ids=repr)
def test_a_gradient_that_is_not_finite_raises_and_changes_nothing(optimizer):
    params = {"w": np.ones(2), "b": np.ones(2)}
    step = fg.training_step(blows_up, params, optimizer)
    step(1.0)
    before = {key: value.copy() for key, value in params.items()}
    state = optimizer.state_dict()
    with pytest.raises(FloatingPointError) as caught:
        step(0.0)
    assert str(caught.value) == (
        "training_step: at step 1 the gradient of params['b'] has 1 entries of 2 that are not finite; "
        "the parameters are as they were before this step. Lower the learning rate, or look for log(0), "
        "division by 0 or overflow in the loss"
    )
    for key in params:
        np.testing.assert_array_equal(params[key], before[key])
    np.testing.assert_equal(optimizer.state_dict(), state)
    step(1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite(bad):
    p = np.ones(2)
    loss = lambda p, x: (p * 0).sum() + x
    with pytest.raises(FloatingPointError, match=f"^training_step: at step 0 the loss is {bad}; the parameters are"):
        fg.training_step(loss, p, "sgd")(bad)
    np.testing.assert_array_equal(p, [1, 1])
    step = fg.training_step(loss, p, "sgd", nonfinite="skip")
    assert np.array_equal(step(bad), bad, equal_nan=True)
    assert step.optimizer.steps == 0
    np.testing.assert_array_equal(p, [1, 1])


def test_ignore_updates_with_whatever_came():
    p = np.ones(2)
    step = fg.training_step(lambda p: (p / 0.0).sum(), p, fg.optim.SGD(0.1), nonfinite="ignore")
    with np.errstate(all="ignore"):
        assert step() == np.inf
    assert not np.isfinite(p).any()


# ---- misuse ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda p: float(p.detach().sum().item()),
            "training_step: the loss is of type float, expected a scalar tensor; "
            "was it taken out of a tensor by float(), .item() or .numpy()?",
        ),
        (
            lambda p: (p.sum(), p),
            "training_step: the loss is of type tuple, expected a scalar tensor; return the loss alone",
        ),
        (
            lambda p: p * 2,
            "training_step: the loss has shape (2,), expected a scalar: take its mean or sum",
        ),
        (
            lambda p: p.detach().sum(),
            "training_step: the loss does not depend on params",
        ),
        (
            lambda p: None,
            "training_step: the loss is of type NoneType, expected a scalar tensor; "
            "was it taken out of a tensor by float(), .item() or .numpy()?",
        ),
    ],
)
def test_losses_that_are_no_scalar_of_the_parameters(loss, message):
    p = np.ones(2)
    with raises_text(TypeError, message):
        fg.training_step(loss, p, "sgd")()
    np.testing.assert_array_equal(p, [1, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fg.training_step(3, np.ones(2), "sgd"),
            TypeError,
            "training_step: loss is of type int, expected a function of params",
        ),
        (
            lambda: fg.training_step(line, {}, "sgd"),
            ValueError,
            "training_step: params hold no arrays: {}",
        ),
        (
            lambda: fg.training_step(line, np.ones(2), "sgdd"),
            ValueError,
            "unknown optimizer 'sgdd': the known ones are 'adadelta', 'adafactor', 'adagrad', 'adam', 'adamax', "
            "'adamw', 'lamb', 'lbfgs', 'lion', 'muon', 'nadam', 'radam', 'rmsprop', 'rprop', 'sgd', "
            "'sparseadam'",
        ),
        (
            lambda: fg.training_step(line, [np.ones(2, int)], "sgd"),
            TypeError,
            "params[0] has dtype int64, expected float32 or float64: use params[0].astype(np.float64)",
        ),
        (
            lambda: fg.training_step(line, {"w": fg.tensor([1.0])}, "sgd"),
            TypeError,
            "params['w'] is a Tensor, expected an ndarray: use np.array(params['w'].detach())",
        ),
        (
            lambda: fg.training_step(line, {"w": True}, "sgd"),
            TypeError,
            "params['w'] is of type bool, expected a float32 or float64 array: use an array",
        ),
        (
            lambda: fg.training_step(line, np.ones(2), "sgd", nonfinite="warn"),
            ValueError,
            "training_step: nonfinite is 'warn', expected 'raise', 'skip' or 'ignore'",
        ),
    ],
)
def test_errors(call, error, message):
    with raises_text(error, message):
        call()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("compile", [True, False])
def test_an_array_that_became_read_only_stops_the_whole_update(optimizer, compile):
    params = [np.zeros(2), np.zeros(3)]
    step = fg.training_step(
        lambda p: ((p[0] - 1) ** 2).sum() + ((p[1] - 1) ** 2).sum(), params, optimizer, compile=compile
    )
    for _ in range(3):
        step()
    before, state = [p.copy() for p in params], step.optimizer.state_dict()
    params[1].flags.writeable = False
    with pytest.raises(
        ValueError, match=r"^params\[1\] is read-only and cannot be updated in place: use params\[1\].copy\(\)$"
    ):
        step()
    for p, was in zip(params, before):
        np.testing.assert_array_equal(p, was)
    assert step.optimizer.steps == 3
    after = step.optimizer.state_dict()
    for a, b in zip(fg.tree.leaves(state["state"]), fg.tree.leaves(after["state"])):
        np.testing.assert_array_equal(a, b)


def squares(p, x):
    return ((p - x) ** 2).sum()


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda step: pickle.loads(pickle.dumps(step))], ids=["deepcopy", "pickle"]
)
def test_a_copied_step_goes_on_by_itself(again):
    step = fg.training_step(squares, np.zeros(2), fg.optim.Adam(0.1))
    x = np.array([1.0, 2.0])
    for _ in range(3):
        step(x)
    other = again(step)
    assert not np.shares_memory(step.params, other.params)
    values = [step(x) for _ in range(4)]
    assert [other(x) for _ in range(4)] == values
    np.testing.assert_array_equal(other.params, step.params)


def test_a_copied_compiled_function_traces_anew():
    f = fg.compile(np.tanh, maxsize=3)
    f(np.ones(2))
    other = pickle.loads(pickle.dumps(f))
    assert other.cache_info() == (0, 0, 3, 0)
    np.testing.assert_array_equal(other(np.ones(2)), f(np.ones(2)))


# ---- arrays that share memory or are replaced ------------------------------------------------------------------------
def test_parameters_that_share_memory_are_refused():
    base = np.zeros(10)
    loss = lambda p: np.sum(p["a"] ** 2) + np.sum(p["b"] ** 2)
    for params in (
        {"a": base[:6], "b": base[4:]},
        {"b": base, "a": base[3:5]},
        {"a": base[2:], "b": base.reshape(2, 5)},
    ):
        with pytest.raises(
            ValueError, match=r"^params\['a'\] and params\['b'\] share memory, .* use .copy\(\) of one$"
        ):
            fg.training_step(loss, params, "sgd")
        with pytest.raises(ValueError, match="share memory"):
            fg.optim.SGD(0.1).step(params, params)
    step = fg.training_step(loss, {"a": base[:5], "b": base[5:], "empty": base[:0]}, "sgd")  # neighbours do not
    assert step() == 0


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("make", [lambda: fg.optim.Adam(0.1), lambda: fg.optim.SGD(0.1, momentum=0.5)])
def test_parameters_that_are_tied_between_steps_are_refused(make, compile):
    loss = lambda p, x: np.sum((p["a"] - x) ** 2) + np.sum((p["b"] - x) ** 2)
    optimizer, params = make(), {"a": np.zeros(2), "b": np.zeros(2)}
    step = fg.training_step(loss, params, optimizer, compile=compile)
    for _ in range(3):
        step(1.0)
    own, a = params["b"].copy(), params["a"]
    for tied, what in ((params["b"], "are the same array"), (params["b"][:], "share memory")):
        params["a"] = tied
        for new in (lambda: step(1.0), lambda: fg.training_step(loss, params, optimizer)(1.0)):
            with pytest.raises(ValueError, match=rf"^params\['a'\] and params\['b'\] {what}"):
                new()
    np.testing.assert_array_equal(params["b"], own)
    params["a"] = a
    step(1.0)
    assert optimizer.steps == 4

    def tie(info):
        if info.step == 2:
            info.params["a"] = info.params["b"]

    with pytest.raises(ValueError, match="are the same array"):
        fg.descend(lambda p: loss(p, 1.0), params, optimizer=make(), steps=6, callback=tie, compile=compile)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", fg.optim.Adam])
def test_arrays_put_into_params_take_effect(compile, optimizer):
    """As writing into the arrays does."""
    loss = lambda p, x: np.sum((p["layers"][0] * x - p["b"]) ** 2)
    x = np.array([1.0, 2.0])

    def steps(change):
        params = {"layers": [np.array([3.0, 4.0])], "b": np.array([1.0, 1.0])}
        step = fg.training_step(
            loss, params, optimizer(0.1) if callable(optimizer) else fg.optim.SGD(0.1, momentum=0.9), compile=compile
        )
        found = [step(x)]
        change(step)
        return [*found, step(x), step(x)], step.params

    def write(step):
        step.params["layers"][0][...] = [5.0, 6.0]
        step.params["b"][...] = [0.5, 0.25]

    def put(step):
        step.params["layers"][0] = np.array([5.0, 6.0])
        step.params["b"] = np.array([0.5, 0.25])

    def replace(step):
        step.params = {"b": np.array([0.5, 0.25]), "layers": [np.array([5.0, 6.0])]}

    expected, params = steps(write)
    for change in (put, replace):
        found, reached = steps(change)
        assert found == expected
        np.testing.assert_array_equal(reached["layers"][0], params["layers"][0])
        np.testing.assert_array_equal(reached["b"], params["b"])


def test_what_cannot_be_put_into_params_is_refused():
    step = fg.training_step(lambda p: np.sum(p["w"] ** 2), {"w": np.ones(2)}, "sgd")
    step()
    for value, error, message in (
        (np.ones(3), ValueError, r"params\['w'\] was float64 of shape \(2,\) and is float64 of shape \(3,\)"),
        (np.ones(2, np.float32), ValueError, "is float32"), (fg.ones(2), TypeError, "is a Tensor, expected an ndarray"),
        ([np.ones(2)], ValueError, "make a new step for another structure"), (2.0, TypeError, "expected a float32 or"),
    ):  # fmt: skip
        step.params["w"] = value
        with pytest.raises(error, match=message):
            step()
    step.params["w"] = np.full(2, 3.0)
    assert step() == 18


@pytest.mark.parametrize("keys", [(1, True), (1, 1.0), (0.0, -0.0), ((1, "a"), (True, "a")), (np.int64(1), 1)])
def test_params_with_other_keys_that_are_equal_are_another_structure(keys):
    loss = lambda p: fg.sum(*p.values()) * (2 if repr(next(iter(p))) == repr(keys[0]) else 3)
    w = np.ones(2)
    step = fg.training_step(loss, {keys[0]: w}, fg.optim.SGD(0.0))
    assert step() == step() == 4
    step.params = {keys[1]: w}
    with pytest.raises(ValueError, match="make a new step for another structure"):
        step()
    step.params = {keys[0]: w}
    assert step() == 4


def test_params_with_their_keys_in_another_order_are_the_same():
    step = fg.training_step(lambda p: fg.sum(p["a"] * 3 - p[1000000]), {"a": np.ones(2), 1000000: np.ones(2)}, "sgd")
    was = step()
    step.params = dict(reversed(step.params.items()))
    assert _core.same_leaves(step.params, step._known) and not _core.same_leaves(step.params, {})
    assert step() < was
    step.params = {int("1000000"): np.zeros(2), "a": np.ones(2)}
    assert step() == 6


@dataclasses.dataclass
class _Weights:
    w: np.ndarray


def test_params_of_any_container_can_be_set():
    step = fg.training_step(lambda p: np.sum(p.w**2), _Weights(np.ones(2)), "sgd")
    assert step() == 2
    step.params.w = np.full(2, 2.0)
    assert step() == 8


# ---- a step within a transform or a trace ----------------------------------------------------------------------------
TRANSFORMS = {
    "grad": lambda f: fg.grad(f)(np.ones(2)),
    "jvp": lambda f: fg.jvp(f, (np.ones(2),), (np.ones(2),)),
    "hessian": lambda f: fg.hessian(f)(np.ones(2)),
}


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("way", ["closed over", "computed outside", "batch", "descend"])
def test_a_loss_that_reads_what_is_differentiated_outside_is_refused(transform, compile, way):
    """No step makes a constant of it in silence, the first one nor a later one."""
    params, batches = np.zeros(2), []
    step = fg.training_step(lambda p, x: fg.sum((p - x) ** 2), params, "sgd", compile=compile)

    def f(x):
        if way == "batch":
            value = step(x)
        elif way == "descend":
            value = fg.descend(lambda p: fg.sum((p - x) ** 2), params, optimizer="sgd", steps=3, compile=compile).loss
        else:
            y = x * 2.0 if way == "computed outside" else x
            inner = fg.training_step(lambda p, b: fg.sum((p - y) ** 2 * b), params, "sgd", compile=compile)
            value = inner(np.ones(2))
        batches.append(value)
        return fg.sum(x * x) * value

    for _ in range(3):
        with pytest.raises(TypeError, match=r"^(training_step|descend): the loss reads a tensor that is being diff"):
            transform(f)
        np.testing.assert_array_equal(params, np.zeros(2))
        step(np.ones(2))  # is traced, and replayed, in between
        params[...] = 0.0
    assert not batches and step.optimizer.steps == 3


MISTAKES = {
    "mapped batch": lambda step, box: fg.vmap(lambda b: step(b))(np.ones((3, 2))),
    "traced batch": lambda step, box: fg.compile(lambda b: step(b))(np.ones(2)),
    "mapped array in a batch": lambda step, box: fg.vmap(lambda b: step({"x": [b]}))(np.ones((3, 2))),
    "mapped closed over": lambda step, box: fg.vmap(lambda b: step(box.__setitem__(0, b) or np.ones(1)))(np.eye(2)),
    "traced closed over": lambda step, box: fg.compile(lambda b: step(box.__setitem__(0, b) or np.ones(1)))(np.ones(2)),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("before", [0, 1, 2], ids=["not yet traced", "traced", "replayed"])
def test_a_call_on_tensors_of_a_trace_fails_and_does_not_give_up_the_program(mistake, before):
    """Without a warning that the loss cannot be traced, for it can."""
    box = [1.0]

    def loss(p, x):
        return np.sum((p * (x["x"][0] if type(x) is dict else x) * box[0]) ** 2)

    params = np.ones(2)
    step = fg.training_step(loss, params, fg.optim.SGD(0.01))
    for _ in range(before):
        step(np.ones(2))
    start = params.copy()
    for _ in range(2):
        with pytest.raises(fg.TraceError, match="^(vmap|compile): the value of a tensor was asked for"):
            mistake(step, box)
        box[0] = 1.0
    np.testing.assert_array_equal(params, start)
    assert step.optimizer.steps == before
    for _ in range(3):
        step(np.ones(2))
    assert step._compiled is not None and step._compiled.cache_info()[:2] == (before + 3 - 1, 1)


def test_a_batch_that_requires_gradients_leaves_later_steps_compiled():
    step = fg.training_step(lambda p, x: np.sum((p * x) ** 2), np.ones(2), fg.optim.SGD(0.01))
    step(np.ones(2)), step(np.ones(2))
    with pytest.warns(RuntimeWarning, match="an argument is a tensor that requires gradients"):
        step(fg.tensor(np.ones(2), requires_grad=True))
    step(np.ones(2))
    assert step._compiled is not None and step._compiled.cache_info()[:2] == (2, 1)


@pytest.mark.parametrize("compile", [True, False])
def test_a_step_within_a_transform_that_reads_constants_only(compile):
    params = np.zeros(2)

    def f(x):
        fixed = fg.stop_gradient(x)
        step = fg.training_step(lambda p: fg.sum((p - fixed) ** 2), params, fg.optim.SGD(0.25), compile=compile)
        return fg.sum(x) * [step() for _ in range(3)][-1]

    np.testing.assert_allclose(fg.grad(f)(np.ones(2)), np.full(2, 2 * 0.5**4))
    np.testing.assert_allclose(params, 1 - 0.5**3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.0, 0], np.zeros(2)), ([[0, 1], [2, 3]], np.arange(4.0).reshape(2, 2)), (3, np.array(3.0)),
        ({"a": [1, 2], "b": (0.5, 1)}, {"a": np.array([1.0, 2]), "b": (np.array(0.5), np.array(1.0))}),
        ([np.float32(1), np.float32(2)], np.array([1, 2], np.float32)),
        ([np.zeros(2), 1], [np.zeros(2), np.array(1.0)]),
    ],
)  # fmt: skip
def test_numbers_and_lists_of_numbers_are_parameters(given, expected):
    before = copy.deepcopy(given)

    def loss(p):
        return sum(fg.sum((leaf - 1.0) ** 2) for leaf in fg.tree.leaves(p))

    by_arrays = copy.deepcopy(expected)
    theirs = fg.training_step(loss, by_arrays, fg.optim.SGD(0.25))
    step = fg.training_step(loss, copy.deepcopy(given), fg.optim.SGD(0.25))
    assert [step() for _ in range(4)] == [theirs() for _ in range(4)]
    result = fg.descend(loss, given, optimizer=fg.optim.SGD(0.25), steps=4)
    for found in (step.params, result.params):
        assert fg.tree.structure(found) == fg.tree.structure(expected)
        for leaf, other in zip(fg.tree.leaves(found), fg.tree.leaves(by_arrays)):
            assert leaf.dtype == other.dtype
            np.testing.assert_array_equal(leaf, other)
    for leaf, other in zip(fg.tree.leaves(given), fg.tree.leaves(before)):
        np.testing.assert_array_equal(leaf, other)


def test_arrays_stay_those_given():
    params = {"w": np.zeros(2), "rest": [np.ones(1)]}
    step = fg.training_step(lambda p: fg.sum(p["w"] ** 2) + fg.sum(p["rest"][0]), params, "sgd")
    assert step.params is params
    mixed = {"w": params["w"], "b": 1}
    step = fg.training_step(lambda p: fg.sum(p["w"] ** 2) + p["b"], mixed, "sgd")
    assert step.params is not mixed and step.params["w"] is params["w"] and mixed["b"] == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([True, False], "params has dtype bool, expected float32 or float64"),
        ({"w": "a"}, "params['w'] is of type str, expected"),
        ({"at": np.arange(3)}, "params['at'] has dtype int64, expected"),
        ([1j], "params[0] is of type complex, expected"),
    ],
)
def test_what_is_no_number_is_no_parameter(params, message):
    for train in (
        lambda: fg.training_step(lambda p: fg.sum(p), params, "sgd"),
        lambda: fg.descend(lambda p: fg.sum(p), params, optimizer="sgd", steps=1),
    ):
        with pytest.raises(TypeError, match=re.escape(message)):
            train()
