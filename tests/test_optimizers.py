"""Every optimizer, over 100 steps, against its published update written out in NumPy; groups, averages, clipping."""

import copy
import functools
import pickle

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg

STEPS = 100


# ---- the updates, one step of one parameter: s is a dict of state, t counts from 1 -----------------------------------
def means(s, g, betas):
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    return s["m"], s["v"]


def sgd(p, g, s, t, rate, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    if momentum:
        s["b"] = g if t == 1 else momentum * s["b"] + (1 - dampening) * g
        g = g + momentum * s["b"] if nesterov else s["b"]
    return p - rate * g


def adam(p, g, s, t, rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled=False):
    if decoupled:
        p = p * (1 - rate * weight_decay)
    else:
        g = g + weight_decay * p
    m, v = means(s, g, betas)
    if amsgrad:
        v = s["most"] = np.maximum(s.get("most", 0), v)
    return p - rate * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def adamw(*a, weight_decay=1e-2, **k):
    return adam(*a, weight_decay=weight_decay, decoupled=True, **k)


def nadam(p, g, s, t, rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
          decoupled_weight_decay=False):  # fmt: skip
    if decoupled_weight_decay:
        p = p * (1 - rate * weight_decay)
    else:
        g = g + weight_decay * p
    mu, after = (betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    s["product"] = s.get("product", 1) * mu
    m, v = means(s, g, betas)
    root = np.sqrt(v / (1 - betas[1] ** t)) + eps
    p = p - rate * (1 - mu) / (1 - s["product"]) * g / root
    return p - rate * after / (1 - s["product"] * after) * m / root


def radam(p, g, s, t, rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False):
    if decoupled_weight_decay:
        p = p * (1 - rate * weight_decay)
    else:
        g = g + weight_decay * p
    m, v = means(s, g, betas)
    m = m / (1 - betas[0] ** t)
    most = 2 / (1 - betas[1]) - 1
    length = most - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if length <= 5:
        return p - rate * m
    r = np.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    return p - rate * m * r * np.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps)


def adamax(p, g, s, t, rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    m, _ = means(s, g, betas)
    s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g) + eps)
    return p - rate / (1 - betas[0] ** t) * m / s["u"]


def lion(p, g, s, t, rate, betas=(0.9, 0.99), weight_decay=1e-3):
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p - rate * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)


def lamb(p, g, s, t, rate, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
    m, v = means(s, g, betas)
    u = (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * p
    of_p, of_u = np.linalg.norm(p.ravel()), np.linalg.norm(u.ravel())
    return p - rate * (of_p / of_u if of_p and of_u else 1) * u


def adagrad(p, g, s, t, rate, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    g = g + weight_decay * p
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    return p - rate / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def adadelta(p, g, s, t, rate, rho=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * p
    s["s"] = rho * s.get("s", 0) + (1 - rho) * g * g
    d = np.sqrt(s.get("u", 0) + eps) / np.sqrt(s["s"] + eps) * g
    s["u"] = rho * s.get("u", 0) + (1 - rho) * d * d
    return p - rate * d


def rmsprop(p, g, s, t, rate, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    g = g + weight_decay * p
    v = s["s"] = alpha * s.get("s", 0) + (1 - alpha) * g * g
    if centered:
        s["a"] = alpha * s.get("a", 0) + (1 - alpha) * g
        v = v - s["a"] ** 2
    d = g / (np.sqrt(v) + eps)
    if momentum:
        d = s["b"] = momentum * s.get("b", 0) + d
    return p - rate * d


def rprop(p, g, s, t, rate, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0)):
    turn = np.sign(g * s.get("g", 0))
    factor = np.where(turn > 0, etas[1], np.where(turn < 0, etas[0], 1))
    s["size"] = np.clip(s.get("size", rate) * factor, *step_sizes)
    s["g"] = np.where(turn < 0, 0, g)
    return p - np.sign(s["g"]) * s["size"]


def adafactor(p, g, s, t, rate, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0):
    eps1 = np.finfo(p.dtype).eps if eps[0] is None else eps[0]
    new, rms = t**beta2_decay, lambda x: np.sqrt(np.mean(x * x))
    alpha = max(eps[1], rms(p)) * min(rate, 1 / np.sqrt(t))
    p = p * (1 - rate * weight_decay)
    if p.ndim > 1:
        s["r"] = (1 - new) * s.get("r", 0) + new * np.mean(g * g, -1, keepdims=True)
        s["c"] = (1 - new) * s.get("c", 0) + new * np.mean(g * g, -2, keepdims=True)
        v = s["r"] * s["c"] / np.maximum(np.mean(s["r"], -2, keepdims=True), eps1)
    else:
        v = s["v"] = (1 - new) * s.get("v", 0) + new * g * g
    u = g / np.sqrt(np.maximum(v, eps1**2))
    return p - alpha / max(1, rms(u) / d) * u


def muon(p, g, s, t, rate, weight_decay=0.1, momentum=0.95, nesterov=True,
         ns_coefficients=(3.4445, -4.775, 2.0315), eps=1e-7, ns_steps=5, adjust_lr_fn=None):  # fmt: skip
    if p.ndim != 2:
        return adam(p, g, s, t, rate, decoupled=True)
    s["m"] = momentum * s.get("m", 0) + (1 - momentum) * g
    x = momentum * s["m"] + (1 - momentum) * g if nesterov else s["m"]
    x, (a, b, c), is_tall = x / max(np.linalg.norm(x), eps), ns_coefficients, p.shape[0] > p.shape[1]
    x = x.T if is_tall else x
    for _ in range(ns_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    rows, cols = p.shape
    scale = 0.2 * np.sqrt(max(rows, cols)) if adjust_lr_fn == "match_rms_adamw" else np.sqrt(max(1, rows / cols))
    return p * (1 - rate * weight_decay) - rate * scale * (x.T if is_tall else x)


CASES = [
    ("SGD", sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", adam, {}),
    ("Adam", adam, {"amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", adamw, {"amsgrad": True}),
    ("NAdam", nadam, {}),
    ("NAdam", nadam, {"weight_decay": 0.1, "momentum_decay": 0.1}),
    ("NAdam", nadam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", radam, {}),
    ("RAdam", radam, {"weight_decay": 0.1, "betas": (0.8, 0.9)}),
    ("RAdam", radam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adamax", adamax, {"weight_decay": 0.1}),
    ("Lion", lion, {}),
    ("Lion", lion, {"weight_decay": 0.3, "betas": (0.5, 0.8)}),
    ("LAMB", lamb, {}),
    ("LAMB", lamb, {"weight_decay": 0.1}),
    ("Adagrad", adagrad, {}),
    ("Adagrad", adagrad, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("Adadelta", adadelta, {}),
    ("Adadelta", adadelta, {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", rmsprop, {}),
    ("RMSprop", rmsprop, {"momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", rmsprop, {"centered": True}),
    ("RMSprop", rmsprop, {"centered": True, "momentum": 0.5, "alpha": 0.9}),
    ("Rprop", rprop, {}),
    ("Rprop", rprop, {"etas": (0.25, 1.5), "step_sizes": (1e-3, 0.2)}),
    ("Adafactor", adafactor, {}),
    ("Adafactor", adafactor, {"weight_decay": 0.1, "d": 0.5, "eps": (1e-6, 1e-2), "beta2_decay": -0.5}),
    ("Muon", muon, {}),
    ("Muon", muon, {"nesterov": False, "momentum": 0.5, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}),
]  # fmt: skip
IDS = [f"{name}-{'-'.join(arguments)}" for name, _, arguments in CASES]


def nested(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)
    return {"wide": draw(3, 5), "tall": draw(7, 2), "bias": draw(5), "scale": draw(), "stack": draw(2, 3, 4)}


def gradient_at(params, t):
    """Of a quadratic, and noise, so that signs change and means vary."""
    noise = nested(seed=t)
    return {key: np.asarray(0.5 * p + noise[key] * (1 + t % 7), p.dtype) for key, p in params.items()}


@pytest.mark.parametrize(("name", "oracle", "arguments"), CASES, ids=IDS)
def test_the_trajectory_is_that_of_the_published_update(name, oracle, arguments):
    params, optimizer = nested(), getattr(fg.optim, name)(learning_rate=0.01, **arguments)
    expected, state = nested(), {key: {} for key in params}
    for t in range(1, STEPS + 1):
        grads = gradient_at(expected, t)
        expected = {k: oracle(expected[k], grads[k], state[k], t, 0.01, **arguments) for k in params}
        optimizer.step(params, gradient_at(params, t))
    for key in params:
        np.testing.assert_allclose(params[key], expected[key], rtol=1e-6, atol=1e-8, err_msg=key)
    assert optimizer.steps == STEPS


@pytest.mark.parametrize(("name", "oracle", "arguments"), CASES, ids=IDS)
def test_float32_state_files_and_compiled_steps(name, oracle, arguments):
    """In float32 each step is near the one in float64; one that goes through a file goes on with the same bits; and
    training steps, compiled and eager, do what `step` does."""
    make = lambda: getattr(fg.optim, name)(learning_rate=0.01, **arguments)
    params, wide, optimizer, twin = nested(np.float32), nested(), make(), make()
    for key in params:
        wide[key] = params[key].astype(np.float64)
    for t in range(1, 4):
        optimizer.step(params, gradient_at(params, t))
        twin.step(wide, gradient_at(wide, t))
    for key in params:
        np.testing.assert_allclose(params[key], wide[key], rtol=2e-4, atol=2e-5, err_msg=key)
    again, other = copy.deepcopy(params), make()
    other.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    for t in range(4, 6):
        optimizer.step(params, gradient_at(params, t))
        other.step(again, gradient_at(again, t))
    for key in params:
        np.testing.assert_array_equal(params[key], again[key])

    def loss(p, x):
        return sum(fg.sum((p[key] - x) ** 2 * np.arange(1.0, p[key].size + 1).reshape(p[key].shape)) for key in p)

    found = []
    for how in ("step", True, False):
        p, own = nested(), make()
        step = None if how == "step" else fg.training_step(loss, p, own, compile=how)
        for t in range(4):
            if step is None:
                own.step(p, fg.grad(loss)(p, t / 8.0))
            else:
                step(t / 8.0)
        found.append(p)
    for p in found[1:]:
        for key in p:
            np.testing.assert_allclose(p[key], found[0][key], rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", ["Adam", "LAMB", "Adafactor", "Muon", "SGD", "RMSprop"])
def test_large_gradients_that_come_in_panels(name):
    """A gradient that is a product of large matrices is never whole in memory, except where the update needs it so."""
    rng = np.random.default_rng(0)
    x, y, start = rng.standard_normal((64, 700)), rng.standard_normal((64, 300)), rng.standard_normal((700, 300))
    loss = lambda p, x, y: fg.sum((x @ p - y) ** 2) * 1e-3
    found = []
    for compiled in (True, False):
        p = start.copy()
        step = fg.training_step(loss, p, fg.optim.get(name, learning_rate=0.01), compile=compiled, clip_norm=0.5)
        for _ in range(4):
            step(x, y)
        found.append(p)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8, atol=1e-11)
    assert not np.array_equal(found[0], start)


def test_adafactor_keeps_rows_and_columns_only():
    params, optimizer = nested(), fg.optim.Adafactor()
    optimizer.step(params, nested(seed=1))
    state = optimizer.state_dict()["state"]
    assert {key: tuple(state[slot][key].size for slot in ("rows", "columns", "squares")) for key in params} == {
        "wide": (3, 5, 0), "tall": (7, 2, 0), "bias": (0, 0, 5), "scale": (0, 0, 1), "stack": (6, 8, 0)
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"^params\['bias'\] is float64 of shape \(6,\), but this optimizer keeps"):
        optimizer.step({**params, "bias": np.ones(6)}, {**params, "bias": np.ones(6)})


def test_empty_arrays_and_zeros():
    for name in {name for name, _, _ in CASES}:
        params = {"a": np.zeros((0, 3)), "b": np.zeros(2), "c": np.zeros((2, 2))}
        optimizer = fg.optim.get(name)
        optimizer.step(params, {key: np.zeros_like(p) for key, p in params.items()})
        for key, p in params.items():
            np.testing.assert_array_equal(p, np.zeros_like(p), err_msg=f"{name} {key}")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: fg.optim.RMSprop(alpha=1), ValueError, "RMSprop: alpha is 1, expected a number in [0, 1)"),
        (
            lambda: fg.optim.Rprop(etas=(0.5, 1.0)),
            ValueError,
            "Rprop: etas[1] is 1.0, expected a number above 1",
        ),
        (
            lambda: fg.optim.Muon(adjust_lr_fn="rms"),
            ValueError,
            "Muon: adjust_lr_fn is 'rms', expected 'original', 'match_rms_adamw' or None",
        ),
        (
            lambda: fg.optim.Adafactor(beta2_decay=0.5),
            ValueError,
            "Adafactor: beta2_decay is 0.5, expected a finite number of at most 0",
        ),
        (lambda: fg.optim.EMA(2.0), ValueError, "EMA: decay is 2.0, expected a number in [0, 1]"),
    ],
)
def test_arguments_out_of_range(call, error, text):
    with raises_text(error, text):
        call()


# ---- averages --------------------------------------------------------------------------------------------------------
def test_averages_of_the_weights():
    weights = [nested(seed=seed) for seed in range(5)]
    for average, expected in (
        (fg.optim.SWA(), lambda values: np.mean(values, axis=0)),
        (fg.optim.EMA(0.7), lambda values: sum(w * v for w, v in zip([0.7**4, *(0.3 * 0.7**k for k in (3, 2, 1, 0))],
                                                                     values))),
    ):  # fmt: skip
        other = copy.deepcopy(average)
        for k, params in enumerate(weights):
            if k == 3:
                other.load_state_dict(pickle.loads(pickle.dumps(average.state_dict())))
            before = copy.deepcopy(params)
            average.update(params)
            if k >= 3:
                other.update(params)
            np.testing.assert_equal(params, before)
        assert average.steps == other.steps == 5
        for key in weights[0]:
            np.testing.assert_allclose(average.params[key], expected([w[key] for w in weights]), rtol=1e-12)
            np.testing.assert_array_equal(average.params[key], other.params[key])
        with pytest.raises(ValueError, match="^params lacks"):
            average.update({"wide": np.ones(3)})


# ---- groups ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["step", "compiled", "eager"])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "LAMB", "Muon"])
def test_groups_are_updated_as_by_optimizers_of_their_own(name, how):
    """By name with wildcards, by a function of name and array; the first that fits; frozen ones stay."""
    make = lambda **more: getattr(fg.optim, name)(**{"learning_rate": 0.1, "weight_decay": 0.2, **more})
    groups = [
        {"params": "head.*", "frozen": True},
        {"params": "*.bias", "weight_decay": 0.0},
        {"params": lambda path, array: array.ndim == 1, "learning_rate": fg.schedules.linear(0.5, 3, 0.1)},
    ]
    rng = np.random.default_rng(0)
    draw = lambda: {
        "head": [rng.standard_normal((2, 3))],
        "body": {"bias": rng.standard_normal(3), "w": rng.standard_normal((3, 2))},
        "scale": rng.standard_normal(4),
    }  # fmt: skip
    start, weights = draw(), draw()
    loss = lambda p: sum(fg.sum((a - b) ** 2) for a, b in zip(fg.tree.leaves(p), fg.tree.leaves(weights)))
    params, optimizer = copy.deepcopy(start), make(groups=groups)
    step = None if how == "step" else fg.training_step(loss, params, optimizer, compile=how == "compiled")
    for _ in range(5):
        optimizer.step(params, fg.grad(loss)(params)) if step is None else step()
    alone = {
        "bias": (start["body"]["bias"], weights["body"]["bias"], make(weight_decay=0.0)),
        "w": (start["body"]["w"], weights["body"]["w"], make()),
        "scale": (start["scale"], weights["scale"], make(learning_rate=fg.schedules.linear(0.5, 3, 0.1))),
    }
    for p, w, own in alone.values():
        for _ in range(5):
            own.step(p, 2 * (p - w))
    np.testing.assert_array_equal(params["head"][0], start["head"][0])
    for found, key in ((params["body"]["bias"], "bias"), (params["body"]["w"], "w"), (params["scale"], "scale")):
        np.testing.assert_allclose(found, alone[key][0], rtol=1e-12, err_msg=key)
    again = make(groups=groups)
    again.load_state_dict(optimizer.state_dict())
    before = copy.deepcopy(params)
    optimizer.step(params, start)
    again.step(before, start)
    np.testing.assert_equal(params, before)
    assert all(array.size == 0 for slot in optimizer.state_dict()["state"].values() for array in slot["head"])


def test_arguments_that_change_later_are_those_of_the_groups_that_have_none_of_their_own():
    optimizer = fg.optim.SGD(1.0, groups=[{"params": "b", "weight_decay": 0.5}])
    params = {"a": np.ones(1), "b": np.ones(1)}
    zero = {"a": np.zeros(1), "b": np.zeros(1)}
    optimizer.learning_rate, optimizer.weight_decay = 0.5, 0.25
    optimizer.step(params, zero)
    assert params == {"a": [1 - 0.5 * 0.25], "b": [1 - 0.5 * 0.5]}


def test_a_frozen_parameter_takes_no_part_in_the_gradient():
    """Not even one that is not finite, nor in the norm."""
    params = {"a": np.zeros(1), "b": np.ones(1)}
    optimizer = fg.optim.SGD(1.0, groups=[{"params": "a", "frozen": True}])
    for compiled in (True, False):
        step = fg.training_step(lambda p: fg.sum(fg.sqrt(p["a"]) + 3 * p["b"]), params, optimizer, compile=compiled,
                                clip_norm=0.5)  # fmt: skip
        for _ in range(3):
            step()
    assert params == {"a": [0.0], "b": [1 - 6 * 0.5]}


@pytest.mark.parametrize(
    ("groups", "error", "text"),
    [
        (["w"], TypeError, "SGD: groups[0] is 'w', expected a dict with \"params\", which says what belongs to it"),
        (
            [{"params": "w", "eps": 1.0}],
            ValueError,
            "SGD: groups[0] has 'eps', expected some of learning_rate, momentum, dampening, nesterov, weight_decay, "
            "frozen, lazy_rows",
        ),
        (
            [{"params": 3}],
            TypeError,
            "SGD: groups[0]['params'] is 3, expected a name such as \"*.bias\", or a function of name and array",
        ),
        *(
            (
                [{"params": predicate}],
                TypeError,
                "SGD: groups[0]['params'] is a function that cannot be called with two arguments; it is called with "
                "the name of a parameter and its array, as in lambda name, array: array.ndim == 1",
            )
            for predicate in (lambda name: True, lambda a, b, c: True, lambda name, *, array: True, len)
        ),
        (
            [{"params": "w", "learning_rate": -1.0}],
            ValueError,
            "SGD: learning_rate is -1.0, expected a finite number of at least 0",
        ),
    ],
)
def test_groups_that_are_refused(groups, error, text):
    with raises_text(error, text):
        fg.optim.SGD(0.1, groups=groups)


@pytest.mark.parametrize(
    "predicate",
    [lambda *args: True, lambda name, array, strict=False: True, functools.partial(lambda k, n, a: k, 1), max],
)
def test_predicates_that_take_a_name_and_an_array(predicate):
    fg.optim.SGD(0.1, groups=[{"params": predicate}])


def test_a_group_without_parameters_is_an_error():
    optimizer = fg.optim.SGD(0.1, groups=[{"params": "layer.0.weight", "frozen": True}])
    params = {"layers": [{"weight": np.ones(2)}]}
    text = "SGD: no parameter belongs to groups[0]; the names are layers.0.weight"
    with raises_text(ValueError, text):
        optimizer.step(params, params)
    with raises_text(ValueError, text):
        fg.training_step(lambda p: fg.sum(p["layers"][0]["weight"]), params, optimizer)


# ---- clipping, accumulation, aux -------------------------------------------------------------------------------------
def norm(arrays):
    return np.sqrt(sum(np.sum(np.asarray(a, np.float64) ** 2) for a in arrays))


CLIPS = {
    "clip_value": lambda grads, limit: [np.clip(g, -limit, limit) for g in grads],
    "clip_norm": lambda grads, limit: [g * min(1, limit / norm(grads)) for g in grads],
    "clip_each_norm": lambda grads, limit: [g * min(1, limit / norm([g])) for g in grads],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping(kind, limit, dtype):
    weights = [np.linspace(-3, 3, 1500).astype(dtype), np.array([[0.1, 0.2]], dtype), np.array(4.0, dtype)]
    loss = lambda p: sum(fg.sum(a * w) for a, w in zip(p, weights))
    expected = CLIPS[kind](weights, limit)
    by_hand = {"clip_value": fg.optim.clip_by_value, "clip_norm": fg.optim.clip_by_global_norm,
               "clip_each_norm": fg.optim.clip_by_norm}[kind]  # fmt: skip
    for found, e in zip(by_hand(weights, limit), expected):
        np.testing.assert_allclose(found, e, rtol=1e-6)
        assert found.dtype == dtype
    for compiled in (True, False):
        p = [np.zeros_like(w) for w in weights]
        step = fg.training_step(loss, p, fg.optim.SGD(1.0), compile=compiled, **{kind: limit})
        for _ in range(3):
            step()
        for found, e in zip(p, expected):
            np.testing.assert_allclose(found, -3 * e, rtol=1e-6)


def test_a_gradient_that_two_parameters_share_is_clipped_once():
    p = {"a": np.zeros(3), "b": np.zeros(3)}
    step = fg.training_step(lambda p, x: fg.sum((p["a"] + p["b"]) * x), p, fg.optim.SGD(1.0), clip_norm=1.0)
    x = np.array([2.0, 0.0, 0.0])
    for _ in range(4):
        step(x)
    np.testing.assert_allclose(p["a"], [-4 / np.sqrt(2), 0, 0], rtol=1e-12)
    np.testing.assert_array_equal(p["a"], p["b"])
    np.testing.assert_array_equal(x, [2.0, 0.0, 0.0])


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_norms_whose_squares_leave_the_range(size):
    weights = np.array([3.0, 4.0]) * size
    p = np.zeros(2)
    step = fg.training_step(lambda p: fg.sum(p * weights), p, fg.optim.SGD(1.0), clip_norm=size)
    step()
    np.testing.assert_allclose(p / size, [-0.6, -0.8], rtol=1e-12)
    assert fg.optim.global_norm([weights, np.zeros(0)]) / size == pytest.approx(5.0, rel=1e-12)


def test_clipping_where_an_optimizer_updates_in_python():
    class Own(fg.optim.SGD):
        def step(self, params, grads):
            seen.append(grads)
            super().step(params, grads)

    seen, p = [], np.zeros(2)
    step = fg.training_step(lambda p: fg.sum(p * np.array([3.0, 4.0])), p, Own(1.0), clip_norm=1.0)
    for _ in range(3):
        step()
    np.testing.assert_allclose(seen, [[0.6, 0.8]] * 3, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"clip_norm": 0}, ValueError, "training_step: clip_norm is 0, expected a finite number above 0"),
        ({"clip_norm": "1"}, TypeError, "training_step: clip_norm is '1', expected a finite number above 0"),
        (
            {"clip_norm": 1.0, "clip_value": 1.0},
            ValueError,
            "training_step: clip_value and clip_norm are given, expected at most one of them",
        ),
        ({"accumulate": 0}, ValueError, "training_step: accumulate is 0, expected an integer above 0"),
    ],
)
def test_arguments_of_a_step_that_are_refused(arguments, error, text):
    with raises_text(error, text):
        fg.training_step(fg.sum, np.ones(2), "sgd", **arguments)


RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((23, 3)), RNG.standard_normal(23)


def line(p, x, y):
    return fg.losses.mse(x @ p["w"] + p["b"], y)


@pytest.mark.parametrize("compiled", [True, False])
def test_parts_of_a_batch_make_the_step_of_the_whole(compiled):
    start = lambda: {"w": np.zeros(3), "b": np.zeros(())}
    found = []
    for accumulate in (1, 4, 23):
        p = start()
        step = fg.training_step(line, p, fg.optim.Adam(0.1), compile=compiled, accumulate=accumulate, clip_norm=0.7)
        losses = [step(X, Y) for _ in range(5)]
        found.append((losses, p))
        assert step.optimizer.steps == 5
    for losses, p in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], rtol=1e-12)
        for key in p:
            np.testing.assert_allclose(p[key], found[0][1][key], rtol=1e-10)
    with raises_text(ValueError, "training_step: a batch of 2 rows cannot be split in accumulate=23 parts"):
        step(X[:2], Y[:2])


@pytest.mark.parametrize("compiled", [True, False])
def test_a_loss_that_returns_more(compiled):
    def loss(p, x, y):
        error = x @ p["w"] + p["b"] - y
        return fg.mean(error**2), {"mean": error.mean(), "error": error, "w": p["w"], "what": "line", "none": None}

    p = {"w": np.zeros(3), "b": np.zeros(())}
    step = fg.training_step(loss, p, fg.optim.SGD(0.1), compile=compiled, has_aux=True)
    kept = []
    for _ in range(4):
        before = copy.deepcopy(p)
        value, aux = step(X, Y)
        error = X @ before["w"] + before["b"] - Y
        assert type(value) is float and value == pytest.approx(np.mean(error**2), rel=1e-12)
        np.testing.assert_allclose(aux["error"], error, rtol=1e-12)
        np.testing.assert_allclose(aux["mean"], error.mean(), rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(aux["w"], before["w"])
        assert aux["what"] == "line" and aux["none"] is None and type(aux["error"]) is np.ndarray
        kept.append((aux["error"], error))
    for found, error in kept:
        np.testing.assert_allclose(found, error, rtol=1e-12)
    step = fg.training_step(loss, p, fg.optim.SGD(0.1), compile=compiled, has_aux=True, accumulate=3)
    value, aux = step(X, Y)
    assert [len(part["error"]) for part in aux] == [8, 8, 7]
    with pytest.raises(
        TypeError, match=r"^training_step: with has_aux=True the loss returns a pair \(loss, aux\), got a T"
    ):
        fg.training_step(line, p, fg.optim.SGD(0.1), compile=compiled, has_aux=True)(X, Y)
