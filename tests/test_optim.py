"""Optimizers against their formulas written out in NumPy, and against every misuse we could think of."""

import copy
import pickle
import re
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg
from fastgrad.optim import SGD, Adam, AdamW


def sgd_oracle(p, gradients, lr, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    """PyTorch's documented algorithm."""
    buffer = None
    for g in gradients:
        g = g + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
    return p


def adam_oracle(p, gradients, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    """Kingma and Ba (2015), algorithm 1; Loshchilov and Hutter (2019), algorithm 2."""
    m = v = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


CASES = [
    (SGD, sgd_oracle, {}),
    (SGD, sgd_oracle, {"weight_decay": 0.1}),
    (SGD, sgd_oracle, {"momentum": 0.9}),
    (SGD, sgd_oracle, {"momentum": 0.9, "dampening": 0.5}),
    (SGD, sgd_oracle, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (Adam, adam_oracle, {}),
    (Adam, adam_oracle, {"betas": (0.5, 0.9), "eps": 1e-3}),
    (Adam, adam_oracle, {"weight_decay": 0.1}),
    (AdamW, lambda *a, **k: adam_oracle(*a, **{"weight_decay": 1e-2, "decoupled": True, **k}), {}),
    (AdamW, lambda *a, **k: adam_oracle(*a, decoupled=True, **k), {"weight_decay": 0.3}),
]


class Layer(NamedTuple):
    weights: np.ndarray
    bias: np.ndarray


def nested(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)
    return {"layers": [Layer(draw(3, 5), draw(5)), Layer(draw(5, 17), draw(17))], "scale": draw(), "none": None}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("optimizer", "oracle", "arguments"), CASES)
def test_steps_are_those_of_the_formulas(optimizer, oracle, arguments, dtype):
    params = nested(dtype)
    start, grads = copy.deepcopy(params), [nested(dtype, seed) for seed in range(1, 8)]
    live = fg.tree.leaves(params)
    opt = optimizer(learning_rate=0.05, **arguments)
    for g in grads:
        assert opt.step(params, g) is None
    assert opt.steps == 7
    for i, (now, before) in enumerate(zip(fg.tree.leaves(params), fg.tree.leaves(start))):
        assert now is live[i]
        wide = [np.asarray(fg.tree.leaves(g)[i], np.float64) for g in grads]
        expected = oracle(np.asarray(before, np.float64), wide, 0.05, **arguments)
        np.testing.assert_allclose(now, expected, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-6)


def test_gradients_are_only_read_and_need_not_be_contiguous():
    p, g = np.ones((3, 4)), np.arange(24.0).reshape(4, 6)[:, ::2].T
    g.flags.writeable = False
    SGD(1.0).step(p, g)
    np.testing.assert_array_equal(p, 1 - g)


def test_leaf_tensors_are_updated_in_place():
    x = fg.tensor([1.0, 2.0], requires_grad=True)
    opt = SGD(0.5)
    (x * x).sum().backward()
    opt.step([x], [x.grad])
    np.testing.assert_array_equal(x.detach().numpy(), [0, 0])


def test_the_result_of_an_operation_is_no_parameter():
    y = fg.tensor([1.0, 2.0], requires_grad=True) * 2
    with pytest.raises(TypeError) as caught:
        SGD(0.5).step({"y": y}, {"y": np.ones(2)})
    assert str(caught.value) == (
        "params['y'] is the result of an operation and cannot be updated: use params['y'].detach().copy()"
    )
    np.testing.assert_array_equal(y.numpy(), [2, 4])


def test_a_tape_that_still_needs_a_stepped_tensor_says_so():
    x = fg.tensor(np.ones(2), requires_grad=True)
    y = (x * x).sum()
    SGD(0.5).step([x], [np.ones(2)])
    with pytest.raises(RuntimeError):
        y.backward()


def test_empty_arrays_and_structures():
    params, optimizer = {"a": np.zeros((0, 3)), "b": np.zeros(2)}, SGD(0.1, momentum=0.5)
    optimizer.step(params, {"a": np.zeros((0, 3)), "b": np.ones(2)})
    np.testing.assert_array_equal(params["b"], [-0.1, -0.1])
    optimizer = Adam()
    optimizer.step({}, {})
    assert optimizer.steps == 1


def test_learning_rate_may_be_a_function_of_the_step():
    seen = []

    def rate(step):
        seen.append(step)
        return [1.0, 0.5, 0.25][step]

    p = np.array([10.0])
    opt = SGD(learning_rate=rate)
    for _ in range(3):
        opt.step(p, np.array([1.0]))
    assert seen == [0, 1, 2]
    assert p == [10 - 1.75]


def test_learning_rate_may_be_changed_between_steps():
    p = np.array([0.0])
    opt = SGD(1.0)
    opt.step(p, np.array([1.0]))
    opt.learning_rate = 0.5
    opt.step(p, np.array([1.0]))
    assert p == [-1.5]


@pytest.mark.parametrize(("optimizer", "oracle", "arguments"), CASES)
def test_state_goes_through_a_file(optimizer, oracle, arguments):
    grads = [nested(seed=seed) for seed in range(1, 5)]
    params, opt = nested(), optimizer(0.05, **arguments)
    for g in grads[:2]:
        opt.step(params, g)
    saved = pickle.dumps((params, opt.state_dict()))
    for g in grads[2:]:
        opt.step(params, g)
    again, state = pickle.loads(saved)
    resumed = optimizer(0.05, **arguments)
    resumed.load_state_dict(state)
    assert resumed.steps == 2
    for g in grads[2:]:
        resumed.step(again, g)
    for a, b in zip(fg.tree.leaves(params), fg.tree.leaves(again)):
        np.testing.assert_array_equal(a, b)


def test_state_dict_is_a_copy_in_the_structure_of_the_parameters():
    params, opt = nested(), Adam()
    assert opt.state_dict() == {"optimizer": "Adam", "steps": 0, "state": {}}
    opt.step(params, nested(seed=1))
    state = opt.state_dict()
    np.testing.assert_allclose(state["state"]["m"]["scale"], 0.1 * nested(seed=1)["scale"], rtol=1e-12)
    np.testing.assert_allclose(state["state"]["v"]["scale"], 0.001 * nested(seed=1)["scale"] ** 2, rtol=1e-12)
    assert fg.tree.structure(state["state"]["m"]) == fg.tree.structure(params)
    before = copy.deepcopy(state)
    opt.step(params, nested(seed=2))
    np.testing.assert_array_equal(state["state"]["v"]["layers"][0].bias, before["state"]["v"]["layers"][0].bias)
    opt.load_state_dict(state)
    state["state"]["m"]["scale"][...] = 99
    assert opt.state_dict()["state"]["m"]["scale"] == before["state"]["m"]["scale"]


def test_repr_shows_the_arguments():
    assert repr(SGD(0.1, momentum=0.9, nesterov=True)) == (
        "SGD(learning_rate=0.1, momentum=0.9, dampening=0.0, nesterov=True, weight_decay=0.0)"
    )
    assert repr(AdamW()) == "AdamW(learning_rate=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)"


def test_get():
    assert type(fg.optim.get("sgd", learning_rate=0.1)) is SGD
    assert type(fg.optim.get("AdamW")) is AdamW
    opt = Adam()
    assert fg.optim.get(opt) is opt


# ---- misuse ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SGD("0.1"), TypeError, "SGD: learning_rate is '0.1', expected a finite number of at least 0"),
        (lambda: SGD(-1), ValueError, "SGD: learning_rate is -1, expected a finite number of at least 0"),
        (lambda: Adam(np.nan), ValueError, "Adam: learning_rate is nan, expected a finite number of at least 0"),
        (lambda: AdamW(np.inf), ValueError, "AdamW: learning_rate is inf, expected a finite number of at least 0"),
        (lambda: SGD(None), TypeError, "SGD: learning_rate is None, expected a finite number of at least 0"),
        (lambda: SGD(0.1, momentum=1), ValueError, "SGD: momentum is 1, expected a number in [0, 1)"),
        (lambda: SGD(0.1, momentum=-0.5), ValueError, "SGD: momentum is -0.5, expected a number in [0, 1)"),
        (
            lambda: SGD(0.1, weight_decay=-1),
            ValueError,
            "SGD: weight_decay is -1, expected a finite number of at least 0",
        ),
        (
            lambda: SGD(0.1, nesterov=True),
            ValueError,
            "SGD: nesterov=True needs momentum above 0 and dampening=0, got momentum=0.0, dampening=0.0",
        ),
        (lambda: Adam(betas=0.9), TypeError, "Adam: betas is 0.9, expected two numbers in [0, 1)"),
        (lambda: Adam(betas=(0.9, 1.0)), ValueError, "Adam: betas[1] is 1.0, expected a number in [0, 1)"),
        (lambda: Adam(eps=-1e-8), ValueError, "Adam: eps is -1e-08, expected a finite number of at least 0"),
        (
            lambda: fg.optim.get("sgdd"),
            ValueError,
            "unknown optimizer 'sgdd': the known ones are 'adadelta', 'adafactor', 'adagrad', 'adam', 'adamax', "
            "'adamw', 'lamb', 'lbfgs', 'lion', 'muon', 'nadam', 'radam', 'rmsprop', 'rprop', 'sgd', "
            "'sparseadam'",
        ),
        (lambda: fg.optim.get(Adam), TypeError, "optimizer is the class Adam: pass an object, Adam()"),
        (
            lambda: fg.optim.get(3),
            TypeError,
            "optimizer is of type int, expected a name or an object of fg.optim, as fg.optim.Adam(learning_rate=1e-3)",
        ),
        (
            lambda: fg.optim.get(Adam(), eps=1),
            TypeError,
            "get: arguments ['eps'] with an optimizer that is made already",
        ),
    ],
)
def test_arguments_out_of_range(call, error, message):
    with raises_text(error, message):
        call()


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


BAD_PARAMS = [
    (np.ones((2, 3), np.int64), TypeError,
     "params['bad'][0] has dtype int64, expected float32 or float64: use params['bad'][0].astype(np.float64)"),
    (np.ones(3, np.float16), TypeError,
     "params['bad'][0] has dtype float16, expected float32 or float64: use params['bad'][0].astype(np.float64)"),
    (np.ones(3, ">f8"), TypeError,
     "params['bad'][0] has dtype >f8, expected float32 or float64: use params['bad'][0].astype(np.float64)"),
    (1.5, TypeError, "params['bad'][0] is of type float, expected a float32 or float64 array: use np.array(1.5)"),
    ("w", TypeError, "params['bad'][0] is of type str, expected a float32 or float64 array: use an array"),
    (read_only(np.ones(3)), ValueError,
     "params['bad'][0] is read-only and cannot be updated in place: use params['bad'][0].copy()"),
    (np.ones((3, 4)).T, ValueError,
     "params['bad'][0] is not C-contiguous and cannot be updated in place: "
     "use np.ascontiguousarray(params['bad'][0])"),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.1)], ids=repr)
@pytest.mark.parametrize(("bad", "error", "message"), BAD_PARAMS)
def test_parameters_that_cannot_be_updated_change_nothing(bad, error, message, optimizer):
    optimizer = copy.deepcopy(optimizer)
    params = {"a": np.ones(2), "bad": [bad]}
    with raises_text(error, message):
        optimizer.step(params, {"a": np.ones(2), "bad": [bad]})
    np.testing.assert_array_equal(params["a"], [1, 1])
    assert optimizer.steps == 0
    assert optimizer.state_dict()["state"] == {}


BAD_GRADS = [
    (np.ones(4), ValueError, "grads['b'] is float64 of shape (4,), but params['b'] is float64 of shape (3,)"),
    (np.ones((3, 1)), ValueError, "grads['b'] is float64 of shape (3, 1), but params['b'] is float64 of shape (3,)"),
    (np.ones(3, np.float32), TypeError,
     "grads['b'] is float32 of shape (3,), but params['b'] is float64 of shape (3,)"),
    (None, TypeError, "grads['b'] is None, but params['b'] is float64 of shape (3,)"),
    (0.5, TypeError, "grads['b'] is of type float, but params['b'] is float64 of shape (3,)"),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.1)], ids=repr)
@pytest.mark.parametrize(("bad", "error", "message"), BAD_GRADS)
def test_gradients_that_do_not_fit_change_nothing(bad, error, message, optimizer):
    optimizer = copy.deepcopy(optimizer)
    params = {"a": np.ones(2), "b": np.ones(3)}
    for steps in (0, 1):
        before, state = copy.deepcopy(params), optimizer.state_dict()
        with raises_text(error, message):
            optimizer.step(params, {"a": np.ones(2), "b": bad})
        assert optimizer.steps == steps
        for key in params:
            np.testing.assert_array_equal(params[key], before[key])
        np.testing.assert_equal(optimizer.state_dict(), state)
        optimizer.step(params, {"a": np.ones(2), "b": np.ones(3)})


def test_structures_that_differ():
    params, opt = {"a": np.ones(2)}, Adam()
    with pytest.raises(ValueError, match="^grads lacks 'a' and has the unexpected 'b'$"):
        opt.step(params, {"b": np.ones(2)})
    opt.step(params, {"a": np.ones(2)})
    with pytest.raises(ValueError) as caught:
        opt.step([np.ones(2)], [np.ones(2)])
    assert str(caught.value) == (
        "params is built as [*], but this optimizer keeps state for {'a': *}; use a new optimizer for new parameters"
    )
    with pytest.raises(ValueError) as caught:
        opt.step({"a": np.ones(3)}, {"a": np.ones(3)})
    assert str(caught.value) == (
        "params['a'] is float64 of shape (3,), but this optimizer keeps state for float64 of shape (2,); "
        "use a new optimizer for new parameters"
    )


def test_an_optimizer_without_state_takes_any_parameters():
    opt = SGD(0.1)
    opt.step([np.ones(2)], [np.ones(2)])
    opt.step({"a": np.ones(3)}, {"a": np.ones(3)})
    assert opt.steps == 2


def test_one_array_in_two_places_is_refused():
    w = np.ones(2)
    with pytest.raises(ValueError) as caught:
        Adam().step({"a": w, "b": [w]}, {"a": w, "b": [w]})
    assert str(caught.value) == "params['a'] and params['b'][0] are the same array: keep it under one name"


def tied(base):
    """Parameters two of which are one array, and some of which share memory in part."""
    return [
        ({"a": base[:3], "b": (same := base[3:6])} | {"a": same}, "are the same array: keep it under one name"),
        ({"a": base[:3], "b": base[:3]}, "share memory, which would be updated twice: use .copy() of one"),
        ({"a": base[:3], "b": base[2:5]}, "share memory, which would be updated twice: use .copy() of one"),
        ({"a": base[2:5], "b": base[:3]}, "share memory, which would be updated twice: use .copy() of one"),
    ]


@pytest.mark.parametrize("make", [lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.5), lambda: Adam(0.1)])
@pytest.mark.parametrize("loaded", [False, True])
def test_tied_parameters_are_refused_also_by_an_optimizer_that_has_state(make, loaded):
    optimizer, base = make(), np.zeros(6)
    apart = {"a": base[:3], "b": base[3:]}
    gradients = {"a": np.ones(3), "b": np.ones(3)}
    for _ in range(2):
        optimizer.step(apart, gradients)
    if loaded:
        state, optimizer = optimizer.state_dict(), make()
        optimizer.load_state_dict(state)
    before, state = base.copy(), repr(optimizer.state_dict())
    for params, what in tied(base):
        with pytest.raises(ValueError) as caught:
            optimizer.step(params, gradients)
        assert str(caught.value) == f"params['a'] and params['b'] {what}"
        with pytest.raises(ValueError, match=re.escape(what)):
            fg.training_step(lambda p: np.sum(p["a"] * p["b"]), params, optimizer)
    np.testing.assert_array_equal(base, before)
    assert repr(optimizer.state_dict()) == state
    optimizer.step(apart, gradients)
    assert optimizer.steps == 3


def test_a_leaf_tensor_in_two_places_is_refused():
    optimizer, (a, b) = Adam(0.1), (fg.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer.step([a, b], [np.ones(1)] * 2)
    with pytest.raises(ValueError, match=r"^params\[0\] and params\[1\] are the same array"):
        optimizer.step([a, a], [np.ones(1)] * 2)


@pytest.mark.parametrize("steps", [1, np.int64(1), np.uint8(1), np.array(1)])
def test_steps_of_a_state_may_be_any_integer(steps):
    optimizer = Adam(0.1)
    optimizer.step(np.ones(1), np.ones(1))
    state = optimizer.state_dict() | {"steps": steps}
    optimizer.load_state_dict(state)
    assert type(optimizer.steps) is int
    assert optimizer.steps == 1
    for bad in (True, np.True_, 1.0, "1", None, -1, np.int64(-1), np.array([1, 2])):
        with pytest.raises(ValueError, match="^Adam.load_state_dict: steps is .*, expected an integer of at least 0$"):
            optimizer.load_state_dict(state | {"steps": bad})


@pytest.mark.parametrize(("base", "exponent"), [(10, 400), (-10, 401), (10, 5000), (2, 1024)])
def test_an_integer_too_large_for_a_float_is_no_rate(base, exponent):
    number = base**exponent
    p, optimizer = np.ones(2), SGD(lambda step: number)
    with pytest.raises(
        ValueError, match=r"^SGD: learning_rate\(0\) is an integer of \d+ bits, expected a finite number"
    ):
        optimizer.step(p, p)
    with pytest.raises(ValueError, match=r"^Adam: eps is an integer of \d+ bits, expected a finite number"):
        Adam(eps=number)
    np.testing.assert_array_equal(p, 1)


def test_a_misaligned_array_is_called_that():
    x = np.zeros(17, np.uint8)[1:].view("f8")
    with pytest.raises(ValueError, match=r"^params is misaligned and cannot be updated in place: use params.copy\(\)$"):
        SGD(0.1).step(x, np.ones(2))
    with pytest.raises(ValueError, match=r"^params\['x'\] is misaligned .* use params\['x'\].copy\(\)$"):
        fg.training_step(lambda p: np.sum(p["x"]), {"x": x}, "adam")
    SGD(0.1).step(x.copy(), x + 1)  # a gradient may be


@pytest.mark.parametrize("rate", [-1.0, np.nan, "fast", None])
def test_a_schedule_that_returns_nonsense_changes_nothing(rate):
    p, opt = np.ones(2), SGD(lambda step: rate, momentum=0.5)
    with pytest.raises((TypeError, ValueError), match=r"^SGD: learning_rate\(0\) is .*, expected a finite number"):
        opt.step(p, np.ones(2))
    np.testing.assert_array_equal(p, [1, 1])
    assert opt.state_dict() == {"optimizer": "SGD", "steps": 0, "state": {}}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: 5, TypeError, "Adam.load_state_dict: expected what Adam.state_dict() returned"),
        (lambda s: {"steps": 1}, TypeError, "Adam.load_state_dict: expected what Adam.state_dict() returned"),
        (lambda s: {**s, "optimizer": "SGD"}, ValueError, "Adam.load_state_dict: this is the state of SGD"),
        (
            lambda s: {**s, "steps": -1},
            ValueError,
            "Adam.load_state_dict: steps is -1, expected an integer of at least 0",
        ),
        (
            lambda s: {**s, "state": {"m": s["state"]["m"]}},
            ValueError,
            "Adam.load_state_dict: state has ['m'], expected ['m', 'v']; was it saved with other arguments of Adam?",
        ),
        (
            lambda s: {**s, "state": {**s["state"], "v": [np.ones(2)]}},
            ValueError,
            "Adam.load_state_dict: v is built as [*], not as {'a': *}",
        ),
        (
            lambda s: {**s, "state": {**s["state"], "v": {"a": np.ones(3)}}},
            ValueError,
            "Adam.load_state_dict: state['v']['a'] is float64 of shape (3,), not float64 of shape (2,)",
        ),
        (
            lambda s: {**s, "state": {**s["state"], "v": {"a": np.ones(2, int)}}},
            TypeError,
            "state['v']['a'] has dtype int64, expected float32 or float64: use state['v']['a'].astype(np.float64)",
        ),
    ],
)
def test_states_that_do_not_fit_change_nothing(change, error, message):
    params, opt = {"a": np.ones(2)}, Adam()
    opt.step(params, {"a": np.ones(2)})
    state = opt.state_dict()
    with raises_text(error, message):
        opt.load_state_dict(change(state))
    np.testing.assert_equal(opt.state_dict(), state)


@pytest.mark.parametrize("name", ["learning_rate", "momentum", "dampening", "weight_decay", "eps", "betas"])
@pytest.mark.parametrize("cls", [fg.optim.SGD, fg.optim.Adam, fg.optim.AdamW])
def test_arguments_that_are_set_later_are_checked_and_used(cls, name):
    optimizer = cls(learning_rate=0.1)
    if not hasattr(optimizer, name):
        return
    before = repr(optimizer)
    for bad in (-1.0, float("nan"), "fast", None, (0.9, 1.0)):
        with pytest.raises((TypeError, ValueError), match=rf"^{cls.__name__}: {name}(\[1\])? is "):
            setattr(optimizer, name, bad)
    assert repr(optimizer) == before
    new = (0.5, 0.25) if name == "betas" else 0.5
    needed = {"momentum": 0.9} if cls is fg.optim.SGD and name == "dampening" else {}
    arguments = {"learning_rate": 0.1, name: new} | needed
    old = 0.25 if name == "momentum" else getattr(cls(), name)
    optimizer, made = cls(**{**arguments, name: old}), cls(**arguments)
    setattr(optimizer, name, new)
    assert repr(optimizer) == repr(made)
    x, y = np.array([1.0, -2.0]), np.array([1.0, -2.0])
    for g in (np.array([1.0, 3.0]), np.array([-1.0, 0.5])):
        optimizer.step(x, g)
        made.step(y, g)
    np.testing.assert_array_equal(x, y)


def test_a_momentum_that_comes_too_late():
    optimizer, x = fg.optim.SGD(0.1), np.ones(2)
    optimizer.momentum = 0.9
    with pytest.raises(ValueError, match="lacks the state .* give momentum when the optimizer is made"):
        optimizer.step(x, np.ones(2))
    assert x.tolist() == [1, 1]
    step = fg.training_step(lambda p: fg.sum(p * p), x, optimizer)
    with pytest.raises(ValueError, match="lacks the state"), warnings.catch_warnings():
        warnings.simplefilter("error")
        step()


def test_the_spelling_of_pytorch():
    with pytest.raises(TypeError, match="^Adam: lr is called learning_rate here$"):
        fg.optim.Adam(lr=0.1)
    with pytest.raises(TypeError, match="^SGD: lr is called learning_rate here$"):
        fg.optim.get("sgd", lr=0.1)
    with pytest.raises(TypeError, match="unexpected keyword"):
        fg.optim.Adam(rate=0.1)


@pytest.mark.parametrize("optimizer", [fg.optim.SGD(0.1), fg.optim.Adam(0.1)], ids=["sgd", "adam"])
def test_tensors_from_outside_are_not_updated_by_a_trace(optimizer):
    w = fg.tensor([1.0, 2.0], requires_grad=True)

    def f(x):
        optimizer.step([w], [np.ones(2)])
        return x * w.detach()

    with pytest.raises(fg.TraceError, match="written once"):
        fg.compile(f)(np.ones(2))
    assert w.tolist() == [1, 2]


def test_gradients_that_are_being_differentiated_are_refused():
    """The parameters are ndarrays, which know nothing of them."""
    for optimizer in (SGD(0.1), Adam(0.1)):
        p = {"w": np.zeros(2), "b": np.ones(2)}

        def f(w, optimizer=optimizer, p=p):
            optimizer.step(p, {"w": fg.full((2,), w), "b": np.ones(2)})
            return fg.sum(p["w"] * w)

        with pytest.raises(TypeError) as caught:
            fg.grad(f)(3.0)
        assert str(caught.value) == (
            "grads['w'] is a tensor of a function being differentiated or traced, which the result would not know; "
            "pass its .detach()"
        )
        assert optimizer.steps == 0
        np.testing.assert_array_equal(p["b"], np.ones(2))

        def constant(w, optimizer=optimizer, p=p):
            optimizer.step(p, {"w": fg.full((2,), w).detach(), "b": np.ones(2)})
            return fg.sum(p["w"].copy() * w)

        assert fg.grad(constant)(3.0) == p["w"].sum()
    t = fg.tensor([1.0, 2.0], requires_grad=True)
    (t**3).sum().backward(create_graph=True)
    SGD(0.1).step(t, t.grad)  # outside of transforms, as in any training loop
    np.testing.assert_allclose(t.numpy(), [0.7, 0.8], rtol=1e-15)
