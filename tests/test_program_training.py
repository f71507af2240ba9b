"""Training steps as one program: descend and training_step, replayed and run eagerly."""

import numpy as np
import pytest

import fastgrad as fg

RNG = np.random.default_rng(0)


def net(params, x, labels):
    hidden = fg.tanh(x @ params["w1"] + params["b1"])
    return fg.losses.softmax_cross_entropy(hidden @ params["w2"], labels)


def start():
    rng = np.random.default_rng(1)
    return {"w1": rng.standard_normal((5, 8)), "b1": np.zeros(8), "w2": rng.standard_normal((8, 3))}


ROWS, LABELS = RNG.standard_normal((50, 5)), RNG.integers(0, 3, 50)
OPTIMIZERS = {
    "sgd": lambda: fg.optim.SGD(0.1, weight_decay=0.01),
    "nesterov": lambda: fg.optim.SGD(lambda t: 0.1 / (1 + t), momentum=0.9, nesterov=True),
    "adam": lambda: fg.optim.Adam(0.01),
    "adamw": lambda: fg.optim.AdamW(lambda t: 0.01 / (1 + t)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_descend_replayed_equals_descend_run_eagerly(optimizer, shuffle):
    found, expected = (
        fg.descend(net, start(), (ROWS, LABELS), optimizer=optimizer(), epochs=4, batch_size=16, seed=3,
                   shuffle=shuffle, compile=compile)
        for compile in (True, False)
    )  # fmt: skip
    assert found.history.tolist() == expected.history.tolist()
    for name in expected.params:
        np.testing.assert_array_equal(found.params[name], expected.params[name])


def test_the_gradients_stay_in_the_program():
    params = start()
    step = fg.training_step(net, params, "adam")
    for _ in range(3):
        step(ROWS, LABELS)
    program = step.program(ROWS, LABELS)
    assert program.facts["outputs"] == 4
    shown = [line for line in str(program).splitlines() if "out" in line and "outputs" not in line]
    assert shown and all("@" in line for line in shown)  # in the arena, none in memory of its own


def test_a_gradient_that_is_a_parameter_or_the_data():
    """d(p q)/dp is q: it must be the q from before the update."""
    x = np.array([2.0, 3.0])
    for compile in (True, False):
        params = {"p": np.array([1.0, 2.0]), "q": np.array([4.0, 5.0]), "r": np.array([1.0, 1.0])}
        step = fg.training_step(lambda p, x: fg.sum(p["p"] * p["q"]) + fg.sum(p["r"] * x), params,
                                fg.optim.SGD(0.5), compile=compile)  # fmt: skip
        for _ in range(4):
            before = {name: a.copy() for name, a in params.items()}
            step(x)
            np.testing.assert_array_equal(params["p"], before["p"] - 0.5 * before["q"])
            np.testing.assert_array_equal(params["q"], before["q"] - 0.5 * before["p"])
            np.testing.assert_array_equal(params["r"], before["r"] - 0.5 * x)


@pytest.mark.parametrize("nonfinite", ["raise", "skip", "ignore"])
def test_what_is_not_finite_in_one_call(nonfinite):
    params = {"a": np.ones(3), "b": np.ones(2)}
    step = fg.training_step(lambda p, x: fg.sum(p["a"]) + fg.sum(fg.sqrt(p["b"]) * x), params, "adam",
                            nonfinite=nonfinite)  # fmt: skip
    for _ in range(3):
        step(np.ones(2))
    params["b"][0] = 0.0
    before, state = {k: v.copy() for k, v in params.items()}, step.optimizer.state_dict()
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match=r"step 3 the gradient of params\['b'\] has 1 entries of 2"):
            step(np.ones(2))
    else:
        assert step(np.ones(2)) == 3 + np.sqrt(before["b"]).sum() - 3 + before["a"].sum()
    if nonfinite == "ignore":
        assert np.isnan(params["b"][0]) or np.isinf(params["b"][0]) or params["b"][0] == 0
        assert step.optimizer.steps == 4
        return
    for name in params:
        np.testing.assert_array_equal(params[name], before[name])
    after = step.optimizer.state_dict()
    assert after["steps"] == state["steps"] == 3
    for slot in ("m", "v"):
        for name in params:
            np.testing.assert_array_equal(after["state"][slot][name], state["state"][slot][name])
    params["b"][0] = 1.0
    step(np.ones(2))
    assert step.optimizer.steps == 4


def test_an_optimizer_made_in_python_sees_the_gradients():
    seen = []

    class Sign(fg.optim.SGD):
        def _update(self, leaves, gradients, rate):
            seen.append([g.copy() for g in gradients])
            for p, g in zip(leaves, gradients):
                p -= rate * np.sign(g)

    params = {"w": np.array([1.0, -2.0])}
    step = fg.training_step(lambda p: fg.sum(p["w"] ** 2), params, Sign(0.25))
    values = [step() for _ in range(4)]
    assert values == [5.0, 3.625, 2.5, 1.625]
    np.testing.assert_array_equal(params["w"], [0.0, -1.0])
    np.testing.assert_array_equal(seen[-1][0], [0.5, -2.5])
    step.optimizer = fg.optim.SGD(0.5)  # and back to one the core knows
    assert step() == 1.0
    np.testing.assert_array_equal(params["w"], [0.0, 0.0])


def test_a_parameter_made_read_only_is_refused_and_the_program_kept():
    params = {"w": np.ones(2)}
    step = fg.training_step(lambda p: fg.sum(p["w"] ** 2), params, fg.optim.SGD(0.25))
    for _ in range(3):
        step()
    params["w"].flags.writeable = False
    with pytest.raises(ValueError, match=r"params\['w'\] is read-only"):
        step()
    np.testing.assert_array_equal(params["w"], [0.125, 0.125])
    params["w"].flags.writeable = True
    assert step() == 2 * 0.125**2
    assert step.program() is not None
