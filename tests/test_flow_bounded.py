"""bounded_while_loop: a loop that ends by a condition, with a gradient, and an error where its bound is exhausted."""

import numpy as np
import pytest

import fastgrad as fg

WAYS = {"eager": lambda f: f, "compiled": fg.compile, "verified": lambda f: fg.compile(f, verify=True)}
EXHAUSTED = r"bounded_while_loop: cond_fun is still true after max_steps=3 steps"


def root(a, max_steps=30):
    """The square root by Newton's method, and the number of steps."""

    def advance(state):
        x, n = state
        return (x + a / x) / 2, n + 1

    return fg.bounded_while_loop(lambda state: abs(state[0] ** 2 - a) > 1e-13 * a, advance, (a / 2, 0), max_steps)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_values_and_derivatives_are_those_of_the_steps_taken(way):
    for a in (4.0, 2.0, 1e4, 4.0):  # the last one stops before it begins
        value, steps = way(root)(a)
        np.testing.assert_allclose(float(value), np.sqrt(a), rtol=1e-12)
        assert int(steps) == sum(abs(x * x - a) > 1e-13 * a for x in iterates(a))
        for k, f in enumerate([fg.grad(first), fg.grad(fg.grad(first)), fg.hessian(first)]):
            exact = [0.5 * a**-0.5, -0.25 * a**-1.5, -0.25 * a**-1.5][k] if a != 4.0 else None
            found = way(f)(a)
            expected = exact if exact is not None else f(a)
            np.testing.assert_allclose(found, expected, rtol=1e-9)
        np.testing.assert_allclose(way(lambda a: fg.jvp(first, (a,), (1.0,))[1])(a), fg.grad(first)(a), rtol=1e-12)


def first(a):
    return root(a)[0]


def iterates(a):
    x, found = a / 2, []
    for _ in range(30):
        found.append(x)
        x = (x + a / x) / 2
    return found


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_elements_of_a_batch_end_at_different_steps(way):
    a = np.array([4.0, 2.0, 1e4, 0.5])
    values, steps = way(fg.vmap(root))(a)
    each = [root(x) for x in a]
    np.testing.assert_array_equal(np.asarray(steps), [int(n) for _, n in each])
    np.testing.assert_allclose(np.asarray(values), np.sqrt(a), rtol=1e-12)
    np.testing.assert_allclose(way(fg.vmap(fg.grad(first)))(a), [fg.grad(first)(x) for x in a], rtol=1e-12)


def test_an_element_that_has_ended_is_not_computed_on():
    """The square root's derivative at 0 is infinite, and an element that stays there must not become nan."""
    f = lambda x: fg.bounded_while_loop(lambda y: y > 1, fg.sqrt, x, 12)
    for way in WAYS.values():
        np.testing.assert_allclose(way(fg.vmap(fg.grad(lambda x: f(x - 1.0))))(np.array([1.0, 1.5])), [1.0, 1.0])
        gradient = way(fg.grad(lambda x: fg.bounded_while_loop(lambda y: y > 2, fg.sqrt, x, 12)))
        np.testing.assert_allclose(gradient(17.0), 0.125 * 17**-0.875 if 17**0.25 > 2 else 0.25 * 17**-0.75)
        assert gradient(0.0) == 1.0


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_exhausted_bound_is_an_error(way):
    for f in (
        lambda a: root(a, 3)[0],
        lambda a: root(a, 3)[1],
        fg.grad(lambda a: root(a, 3)[0]),
        lambda a: fg.vmap(lambda x: root(x, 3))(fg.stack([a, a * 0 + 4.0]))[0],
    ):
        compiled = way(f)
        for _ in range(3):
            with pytest.raises(RuntimeError, match=EXHAUSTED):
                compiled(1e4)
    never = way(lambda x: fg.bounded_while_loop(lambda y: y > 0, lambda y: y - 1, x, 0))
    assert never(-1.0) == -1.0
    with pytest.raises(RuntimeError, match="max_steps=0 "):
        never(1.0)
    assert never(-1.0) == -1.0


def test_a_training_step_whose_bound_is_exhausted_changes_nothing():
    halved = lambda a: fg.bounded_while_loop(lambda x: x > 1, lambda x: x / 2, a, 3)
    step = fg.training_step(lambda a: halved(a) ** 2, np.array(6.0), "sgd")
    for _ in range(3):
        step()
    step.params = np.array(100.0)
    with pytest.raises(RuntimeError, match=EXHAUSTED):
        step()
    np.testing.assert_array_equal(step.params, 100.0)


def test_trees_and_dtypes():
    state = {"x": np.float32(1.5), "n": np.int64(0), "seen": np.zeros(3, bool)}

    def advance(s):
        return {"x": s["x"] * np.float32(2), "n": s["n"] + 1, "seen": s["seen"] | (s["x"] > 4)}

    f = lambda s: fg.bounded_while_loop(lambda s: s["x"] < 40, advance, s, 9)
    eager, compiled = f(state), fg.compile(f)(state)
    assert {k: np.asarray(v).dtype for k, v in compiled.items()} == {k: v.dtype for k, v in state.items()}
    for k, expected in {"x": 48, "n": 5, "seen": [True] * 3}.items():
        np.testing.assert_array_equal(np.asarray(compiled[k]), expected)
        np.testing.assert_array_equal(np.asarray(eager[k]), expected)


@pytest.mark.parametrize("way", [lambda f: f, fg.compile])
def test_wrong_arguments(way):
    def refused(error, match, cond_fun=lambda x: x < 3, body_fun=lambda x: x + 1, init=1.0, max_steps=5):
        with pytest.raises(error, match=match):
            way(lambda x: fg.bounded_while_loop(cond_fun, body_fun, x, max_steps))(init)

    refused(TypeError, "bounded_while_loop: expected a function, got 3", body_fun=3)
    refused(TypeError, r"bounded_while_loop: max_steps is 2\.5, expected an integer", max_steps=2.5)
    refused(TypeError, r"max_steps is an array of shape \(1,\), expected an integer", max_steps=np.array([3]))
    refused(ValueError, "max_steps is -1, expected an integer of at least 0", max_steps=-1)
    refused(ValueError, "got 9223372036854775808", max_steps=2**63)
    refused(TypeError, "bounded_while_loop: expected cond_fun to return a single boolean", cond_fun=lambda x: x)
    refused(ValueError, "bounded_while_loop: carry came in as", body_fun=lambda x: x + np.ones(2))
    refused(TypeError, "bounded_while_loop: the carry came in as", body_fun=lambda x: (x, x))
