"""native= of training steps, descents and minimize: what it does, what it refuses, and FASTGRAD_NATIVE beside it."""

import numpy as np
import pytest
from _native import agree, needs_compiler, own_directory  # noqa: F401

import fastgrad as fg
from fastgrad._native import background

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 3)), RNG.normal(size=30)


def loss(p, x, y):
    return np.mean((np.tanh(x @ p["w"] + p["b"]) @ p["v"] - y) ** 2)


def start():
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(3, 4)), "b": np.zeros(4), "v": rng.normal(size=4)}


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@needs_compiler
@pytest.mark.parametrize("environment, asked, runs", [("0", True, True), ("1", False, False), ("1", None, True)])
def test_training_steps(environment, asked, runs, monkeypatch):
    monkeypatch.setenv("FASTGRAD_NATIVE", environment)
    step, replayed = (fg.training_step(loss, start(), fg.optim.Adam(0.05), native=how) for how in (asked, False))
    agree([step(X, Y) for _ in range(5)], [replayed(X, Y) for _ in range(5)], "losses")
    agree(step.params, replayed.params, "parameters")
    assert step.program(X, Y).facts["native"]["runs"] == ("native" if runs else "interpreter")


@needs_compiler
def test_training_steps_take_part_in_auto(monkeypatch):
    monkeypatch.setattr(background, "PAYS_AFTER", 1e4)
    step = fg.training_step(loss, start(), "sgd", native="auto")
    for _ in range(50):
        step(X, Y)
    assert background.wait(60)
    assert step.program(X, Y).facts["native"]["runs"] == "native"


@needs_compiler
def test_descents():
    found = [
        fg.descend(loss, start(), (X, Y), optimizer="adam", epochs=3, batch_size=8, seed=0, native=how,
                   validation_data=(X[:5], Y[:5]))
        for how in (True, False)
    ]  # fmt: skip
    agree(found[0].params, found[1].params, "parameters")
    agree(found[0].history, found[1].history, "history")


@needs_compiler
@pytest.mark.parametrize("method", ["BFGS", "trust-ncg", "trust-exact", "trust-constr"])
def test_minimize(method, monkeypatch):
    pytest.importorskip("scipy")
    made = []
    really = background.make_native
    monkeypatch.setattr(background, "make_native", lambda program: (made.append(program), really(program)))
    rows = {"type": "ineq", "fun": lambda x: 1.5 - fg.sum(x * x)}
    given = {"constraints": rows} if method == "trust-constr" else {}
    found = [
        fg.minimize(f, np.zeros(3), method=method, options={"maxiter": 20}, native=how, **given)
        for f, how in ((rosenbrock, True), (fg.compile(rosenbrock, native=True), None), (rosenbrock, False))
    ]
    np.testing.assert_allclose(found[0].x, found[2].x, rtol=1e-9)
    np.testing.assert_allclose(found[1].x, found[2].x, rtol=1e-9)
    assert len(made) >= (2 if method == "BFGS" else 4)


@needs_compiler
@pytest.mark.parametrize("solver", ["curve_fit", "least_squares", "root"])
def test_solvers_do_as_the_compiled_function_says(solver, monkeypatch):
    pytest.importorskip("scipy")
    made = []
    really = background.make_native
    monkeypatch.setattr(background, "make_native", lambda program: (made.append(program), really(program)))
    found = []
    for how in (True, False):
        if solver == "curve_fit":
            model = fg.compile(lambda x, a, b: a * np.exp(-b * x), native=how)
            x = np.linspace(0, 2, 20)
            found.append(fg.curve_fit(model, x, 2 * np.exp(-1.5 * x) + 0.01 * np.cos(9 * x))[0])
        else:
            equations = fg.compile(lambda x: np.tanh(x) * x - np.arange(1.0, 4.0) / 4, native=how)
            found.append(getattr(fg, solver)(equations, np.ones(3)).x)
        assert len(made) == 2, f"values and Jacobian, native={how}: {made}"
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_what_cannot_be_native_is_an_error_where_native_is_asked_for(monkeypatch, tmp_path):
    pytest.importorskip("scipy")

    def strange(p, x):
        return fg.sum(p["w"] * (2 if float(fg.sum(x)) > 0 else 3))

    with pytest.raises(RuntimeError, match="training_step: the loss cannot be traced, which native=True needs"):
        fg.training_step(strange, {"w": np.ones(2)}, "sgd", native=True)(np.ones(3))
    with pytest.raises(ZeroDivisionError):  # the loss's own errors are as they are
        fg.training_step(lambda p: fg.sum(p) * (1 / 0), np.ones(2), "sgd", native=True)()
    with pytest.raises(ValueError, match="descend: native=True goes with compile=True"):
        fg.descend(loss, start(), (X, Y), optimizer="sgd", steps=1, compile=False, native=True)
    for f in (
        lambda: fg.training_step(loss, start(), "sgd", native="yes"),
        lambda: fg.minimize(rosenbrock, np.zeros(3), native="yes"),
    ):
        with pytest.raises(
            ValueError, match="(training_step|minimize): native must be True, False or 'auto', not 'yes'"
        ):
            f()
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    params = start()
    step = fg.training_step(loss, params, "sgd", native=True)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot be started"):
            step(X, Y)
    agree(params, start(), "parameters, which no step has changed")
    with pytest.raises(RuntimeError, match="cannot be started"):
        fg.minimize(rosenbrock, np.zeros(3), native=True)
