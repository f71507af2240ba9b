"""Optimizers that override methods or arguments of others: what they override takes part in every kind of step."""

import contextlib
import copy

import numpy as np
import pytest

import fastgrad as fg
from fastgrad.optim import SGD, Adam


def in_every_way(optimizer, n=4):
    """What n steps of an optimizer make of the same parameters: by `step` alone, and by training steps."""

    def loss(p):
        return np.sum(p["w"] ** 2) * 3 + np.sum(p["b"])

    start = lambda: {"w": np.array([1.0, -2.0]), "b": np.array([0.5])}
    found = []
    for how in ("step", True, False):
        params, own = start(), copy.deepcopy(optimizer)
        step = None if how == "step" else fg.training_step(loss, params, own, compile=how)
        for _ in range(n):
            if step is None:
                own.step(params, fg.grad(loss)(params))
            else:
                step()
        assert own.steps == n
        found.append(params)
    for compiled in (True, False):
        found.append(fg.descend(loss, start(), optimizer=copy.deepcopy(optimizer), steps=n, compile=compiled).params)
    return found


def assert_all_the_same(found):
    for other in found[1:]:
        fg.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found[0], other)


@pytest.mark.parametrize("make", [lambda cls: cls(0.1), lambda cls: cls(0.1, momentum=0.5)])
def test_a_step_that_is_overridden_is_taken(make):
    class Clip(SGD):
        def step(self, params, grads):
            assert type(params) is type(grads) is dict
            assert all(type(g) is np.ndarray for g in fg.tree.leaves(grads))
            super().step(params, fg.tree.map(lambda g: np.clip(g, -1e-3, 1e-3), grads))

    class Deeper(Clip):
        pass

    for cls in (Clip, Deeper):
        found = in_every_way(make(cls))
        assert_all_the_same(found)
        assert np.all(np.abs(found[0]["w"] - [1.0, -2.0]) <= 4 * 0.1 * 1e-3 * 2)


@pytest.mark.parametrize("how", ["compiled", "eager", "untraceable", "many shapes"])
def test_a_step_that_is_overridden_may_write_to_its_gradients(how):
    """They are arrays of their own, also where two parameters have the same gradient."""

    class Clip(SGD):
        def step(self, params, grads):
            for g in grads:
                np.clip(g, -1.0, 1.0, out=g)
            assert not np.shares_memory(*grads)
            kept.append((grads, [g.copy() for g in grads]))
            super().step(params, grads)

    def loss(p, x):
        if how == "untraceable" and p[0][0] > 2.0:
            return np.sum(p[0])
        return np.sum((p[0] + p[1]) * np.sum(x)) ** 2

    kept, params = [], [np.ones(2), np.ones(2)]
    step = fg.training_step(loss, params, Clip(0.01), compile=how != "eager")
    expected = np.ones(2)
    with pytest.warns(RuntimeWarning, match="runs eagerly") if how == "untraceable" else contextlib.nullcontext():
        for n in range(1, 20):
            step(np.ones(n if how == "many shapes" else 1))
            expected = expected - 0.01  # as each gradient is larger than 1
    for p in params:
        np.testing.assert_allclose(p, expected, rtol=1e-12)
    assert step.optimizer.steps == 19 and (step._compiled is None) == (how in ("eager", "untraceable"))
    for grads, before in kept:
        np.testing.assert_array_equal(grads, before, err_msg="a later step wrote to the gradients of an earlier one")


def test_what_is_mixed_in_or_overridden_takes_part():
    class Halved:
        def _update(self, leaves, gradients, rate):
            super()._update(leaves, gradients, rate / 2)

    class Stepping:
        def step(self, params, grads):
            super().step(params, fg.tree.map(lambda g: g / 2, grads))

    class Rated:
        def _rate(self):
            return super()._rate() / 2

    class Computed:
        learning_rate = property(lambda self: 0.05, lambda self, value: None)

    expected = in_every_way(SGD(0.05))
    assert_all_the_same(expected)
    for mixed_in in (Halved, Stepping, Rated, Computed):
        mixed = type("Mixed", (mixed_in, SGD), {})
        for cls in (mixed, type("Own", (mixed,), {"_numbers": lambda self, rate: SGD._numbers(self, rate)})):
            assert_all_the_same(expected[:1] + in_every_way(cls(0.1)))


def test_arguments_may_be_computed_by_a_subclass():
    class Warm(SGD):
        @property
        def learning_rate(self):
            return self.base * (self.steps + 1)

        @learning_rate.setter
        def learning_rate(self, value):
            self.base = value

    class Heavy(SGD):
        momentum = property(lambda self: 0.5, lambda self, value: None)

    assert_all_the_same(in_every_way(SGD(lambda t: 0.01 * (t + 1))) + in_every_way(Warm(0.01)))
    assert_all_the_same(in_every_way(SGD(0.01, momentum=0.5)) + in_every_way(Heavy(0.01, momentum=0.9)))
    bad = Warm(0.1)
    bad.base = np.nan
    with pytest.raises(ValueError, match="^Warm: learning_rate is nan, expected a finite number of at least 0$"):
        bad.step(np.ones(1), np.ones(1))


def test_an_optimizer_of_the_users_may_build_on_another():
    class Clipped(fg.optim.Adam):
        def _update(self, leaves, gradients, rate):
            super()._update(leaves, [np.clip(g, -1, 1) for g in gradients], rate)

    x, y = np.array([1.0, 2.0]), np.array([1.0, 2.0])
    clipped, plain = Clipped(0.1), fg.optim.Adam(0.1)
    for g in (np.array([5.0, 0.5]), np.array([-9.0, 0.25])):
        clipped.step(x, g)
        plain.step(y, np.clip(g, -1, 1))
    np.testing.assert_array_equal(x, y)


def test_which_optimizers_the_core_updates():
    """Where a method of a subclass takes part in the update, its gradients are not left in the program."""

    class OwnStep(SGD):
        def step(self, params, grads):
            super().step(params, grads)

    class OwnUpdate(SGD):
        def _update(self, leaves, gradients, rate):
            super()._update(leaves, gradients, rate)

    for optimizer, expected in ((SGD(0.1), 1), (Adam(0.1), 1), (OwnStep(0.1), 0), (OwnUpdate(0.1), 0)):
        step = fg.training_step(lambda w: fg.sum(w**2), np.ones(2), optimizer)
        compiled = step._compiled
        assert compiled.n_gradients == expected, optimizer
        values = [step() for _ in range(3)]
        if isinstance(optimizer, SGD):  # w is multiplied by 1 - 2 0.1
            np.testing.assert_allclose(values, 2 * 0.8 ** (2 * np.arange(3)), rtol=1e-12)
        assert step._compiled is compiled, "it was compiled a second time"
