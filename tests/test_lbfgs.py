"""optim.LBFGS against the trajectory of torch.optim.LBFGS (PyTorch 2.13), recorded here; training steps; state."""

import pickle

import numpy as np
import pytest
from _ranks import run

import fastgrad as fg


def rosenbrock(x):
    return fg.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


START = np.array([-1.2, 1, 0.5, -0.7, 2.0])
RECORDED = {  # step: loss before it, parameters after it, evaluations so far
    (None, 1, 0.01, 5): {
        1: (370.6, [-1.19772574, 0.998818565, 0.499061181, -0.702419831, 1.99681435], 1),
        2: (368.382199, [-1.19528711, 0.993999103, 0.49473607, -0.71017934, 1.98770161], 2),
        5: (349.28087, [-1.18325678, 0.982165599, 0.474525821, -0.746534519, 1.96671509], 5),
        10: (313.136215, [-1.15902083, 0.950342103, 0.427491602, -0.852546923, 1.96587279], 10),
        20: (278.413269, [-1.12222254, 0.901321525, 0.361641053, -0.99312389, 2.02733166], 20),
        50: (33.266818, [-0.921217812, 0.763050831, 0.414503065, -0.146413321, 0.359531291], 50),
        100: (4.79209625, [-0.965446927, 0.909095736, 0.781057469, 0.568194797, 0.369135945], 100),
    },
    (None, 4, 0.001, 3): {
        1: (370.6, [-1.19871392, 0.998592644, 0.498115666, -0.70344567, 1.99710477], 4),
        2: (368.336638, [-1.19461653, 0.992877754, 0.488545443, -0.726298279, 1.99409037], 8),
        5: (333.645754, [-1.177577, 0.965274664, 0.440027794, -0.850065851, 2.00833109], 20),
        10: (303.253974, [-1.15822635, 0.932148732, 0.381610759, -1.00215275, 2.09561917], 40),
        20: (293.236542, [-1.13371875, 0.902729757, 0.34111855, -1.10528329, 2.18705107], 80),
        50: (24.8017567, [-1.09645369, 1.12921401, 1.00674501, 0.686629467, 0.579331942], 200),
        100: (12.5589282, [-1.16654046, 1.31035716, 1.54287086, 2.21897665, 4.94905114], 400),
    },
    ("strong_wolfe", 1, 1.0, 5): {
        1: (370.6, [-0.97257384, 0.88185654, 0.406118143, -0.941983122, 1.6814346], 2),
        2: (207.830262, [-0.90169103, 0.558018525, 0.119432892, -1.1378594, 1.25231195], 4),
        5: (77.3085032, [-0.187622059, -0.176507671, -0.0443606644, 0.082963434, -0.326226887], 10),
        10: (4.51764832, [-0.279912985, 0.0927481402, 0.0217536966, 0.0103750484, -0.00258919823], 20),
        20: (4.27729421, [-0.11040187, 0.00366438554, -0.0118065344, 0.0222976786, 0.00453037632], 40),
        50: (4.27729421, [-0.11040187, 0.00366438554, -0.0118065344, 0.0222976786, 0.00453037632], 100),
        100: (4.27729421, [-0.11040187, 0.00366438554, -0.0118065344, 0.0222976786, 0.00453037632], 200),
    },
    ("strong_wolfe", 4, 0.7, 3): {
        1: (370.6, [-0.71279805, 0.44934435, 0.0211942204, -0.853452272, 1.04857551], 5),
        2: (94.4083145, [-0.376596516, 0.222032859, 0.0502040989, 0.0224878691, 0.0111272887], 10),
        5: (4.53122348, [0.0596958711, -0.0209400755, -0.0109306239, 0.00304588094, 0.00287747289], 26),
        10: (1.11593615, [0.888667311, 0.780670495, 0.606394485, 0.367376196, 0.115516584], 51),
        20: (2.4737867e-13, [1, 1.00000001, 1.00000004, 1.00000009, 1.00000018], 100),
        50: (7.13262958e-14, [1, 1.00000001, 1.00000004, 1.00000009, 1.00000018], 130),
        100: (7.13262958e-14, [1, 1.00000001, 1.00000004, 1.00000009, 1.00000018], 180),
    },
}  # fmt: skip


@pytest.mark.parametrize("case", RECORDED, ids=str)
def test_the_trajectory_is_that_of_pytorch(case):
    search, max_iter, rate, history = case
    optimizer = fg.optim.LBFGS(
        rate, max_iter, line_search_fn=search, history_size=history, tolerance_grad=0, tolerance_change=1e-13
    )
    x, both, calls = START.copy(), fg.value_and_grad(rosenbrock), []
    for number in range(1, 101):
        value = optimizer.step(x, lambda x: calls.append(1) or both(x))
        if number in RECORDED[case]:
            loss, reached, evaluations = RECORDED[case][number]
            assert value == pytest.approx(loss, rel=1e-6, abs=1e-9) and len(calls) == evaluations
            np.testing.assert_allclose(x, reached, rtol=0, atol=1e-6)


@pytest.mark.parametrize("compile", [True, False])
def test_a_training_step_takes_the_same_steps(compile):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal(40)

    def loss(p, x, y):
        return fg.losses.mse(fg.tanh(x @ p["w"]) + p["b"], y)

    params = {"w": np.zeros(3), "b": np.zeros(())}
    by_hand = {"w": np.zeros(3), "b": np.zeros(())}
    one, other = (fg.optim.LBFGS(max_iter=3, line_search_fn="strong_wolfe") for _ in range(2))
    step = fg.training_step(loss, params, one, compile=compile)
    both = fg.value_and_grad(lambda p: loss(p, x, y))
    for number in range(6):
        assert step(x, y) == pytest.approx(other.step(by_hand, both), rel=1e-12)
        if number == 2:  # the state is all there is
            saved, other = other.state_dict(), fg.optim.LBFGS(max_iter=3, line_search_fn="strong_wolfe")
            other.load_state_dict(pickle.loads(pickle.dumps(saved)))
    np.testing.assert_allclose(params["w"], by_hand["w"], rtol=1e-9)
    assert one.steps == other.steps == 6
    found = fg.descend(loss, {"w": np.zeros(3, np.float32), "b": 0.0}, (x, y), optimizer="lbfgs", steps=4)
    assert found.params["w"].dtype == np.float32 and found.loss < loss({"w": np.zeros(3), "b": 0.0}, x, y).item()


def test_what_is_not_finite_and_what_is_refused():
    params = np.array([1.0, -1.0])
    step = fg.training_step(lambda p: fg.sum(fg.log(p)), params, fg.optim.LBFGS())
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match="at step 0 the loss is nan"):
        step()
    assert params.tolist() == [1, -1] and step.optimizer.steps == 0
    # The search shortens a step that leaves the domain.
    inside, optimizer = np.array([1e-3]), fg.optim.LBFGS(line_search_fn="strong_wolfe", tolerance_change=1e-15)
    with np.errstate(all="ignore"):
        for _ in range(3):
            optimizer.step(inside, fg.value_and_grad(lambda p: fg.sum(p - fg.log(p))))
    np.testing.assert_allclose(inside, 1, atol=1e-5)
    with pytest.raises(TypeError, match=r"LBFGS: step needs a function .*value_and_grad"):
        optimizer.step(inside, inside)
    with pytest.raises(ValueError, match="LBFGS searches along the gradient of the whole batch"):
        fg.training_step(fg.sum, np.ones(2), fg.optim.LBFGS(), clip_norm=1.0)
    with pytest.raises(ValueError, match="line_search_fn is 'armijo', expected 'strong_wolfe' or None"):
        fg.optim.LBFGS(line_search_fn="armijo")
    with pytest.raises(ValueError, match="keeps state for 1; use a new optimizer"):
        optimizer.step(np.ones(3), fg.value_and_grad(fg.sum))
    with pytest.raises(ValueError, match="history_size is 0, expected an integer above 0"):
        fg.optim.LBFGS(history_size=0)


def test_a_descent_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    given = dict(
        loss=lambda p, x, y: fg.losses.mse(fg.tanh(x @ p["w"]) + p["b"], y), params={"w": np.zeros(3), "b": 0.0},
        data=(x, x @ [1.0, -2.0, 0.5]),
    )  # fmt: skip
    full = fg.descend(**given, optimizer="lbfgs", steps=8)
    for steps in (3, 8):
        found = fg.descend(**given, optimizer="lbfgs", steps=steps, checkpoint=tmp_path / "run.npz", resume=True)
    np.testing.assert_array_equal(found.history, full.history)
    for name in full.params:
        np.testing.assert_array_equal(found.params[name], full.params[name])
    for error in run(2, lambda comm: fg.descend(**given, optimizer="lbfgs", steps=8, comm=comm)):
        assert isinstance(error, ValueError) and "accumulate and comm do not go with it" in str(error)
