"""Counts, numbers and flags among the arguments: what is of a wrong type is a TypeError, what is out of range a
ValueError, and both name the function, the argument, the value and what was expected."""

import functools
import inspect
from fractions import Fraction

import numpy as np
import pytest

import fastgrad as fg

X = np.arange(12.0).reshape(6, 2)


def loss(p, x):
    return fg.losses.mse(x @ p, x[:, 0])


descend = functools.partial(fg.descend, loss, np.zeros(2), X, optimizer="sgd", steps=1)
training_step = functools.partial(fg.training_step, loss, np.zeros(2), "sgd")
lr_find = functools.partial(fg.lr_find, loss, np.zeros(2), X, optimizer="sgd")
minimize = functools.partial(fg.minimize, lambda p: fg.sum(p**2), np.ones(2))
curve_fit = functools.partial(fg.curve_fit, lambda x, a: a * x, X[:, 0], X[:, 1])

NOT_A_COUNT = [True, np.True_, 2.5, 3.0, float("nan"), "3", np.array([1, 2]), np.array([3]), np.array(3.0), [3], 1j]
NOT_A_NUMBER = [True, np.False_, "0.1", np.array([0.1, 0.2]), [0.1], 1j, np.array("a"), object()]
NOT_A_FLAG = [0, 1, "no", 1.0, np.array([True, False]), np.array(True), [], object()]

COUNTS = [
    (descend, "descend", "steps epochs batch_size n_iter_no_change patience accumulate every"),
    (training_step, "training_step", "accumulate maxsize"),
    (lr_find, "lr_find", "num_training"),
    (fg.optim.LBFGS, "LBFGS", "max_iter max_eval history_size"),
    (functools.partial(fg.schedules.cosine, 0.1), "cosine", "steps"),
    (functools.partial(fg.schedules.cosine_restarts, 0.1, 3), "cosine_restarts", "steps_factor"),
    (functools.partial(fg.schedules.step, 0.1), "step", "step_size"),
    (functools.partial(fg.compile, loss), "compile", "maxsize"),
]
COUNTS_FROM_0 = [
    (descend, "descend", "prefetch"),
    (fg.optim.Muon, "Muon", "ns_steps"),
    (functools.partial(fg.schedules.ReduceOnPlateau, 0.1), "ReduceOnPlateau", "patience cooldown"),
    (fg.schedules.constant(0.1).values, "Schedule.values", "n"),
]
NUMBERS = [
    (descend, "descend", "tol time_limit clip_norm clip_value"),
    (training_step, "training_step", "clip_each_norm"),
    (lr_find, "lr_find", "min_lr max_lr early_stop_threshold"),
    (fg.optim.SGD, "SGD", "learning_rate momentum dampening weight_decay"),
    (fg.optim.Adam, "Adam", "eps"),
    (fg.optim.EMA, "EMA", "decay"),
    (fg.schedules.constant, "constant", "value"),
    (functools.partial(fg.schedules.one_cycle, 0.1, 9), "one_cycle", "pct_start div_factor final_div_factor"),
    (functools.partial(fg.schedules.ReduceOnPlateau, 0.1), "ReduceOnPlateau", "factor threshold min_value eps"),
]
FLAGS = [
    (descend, "descend", "shuffle drop_last progress restore_best resume compile has_aux"),
    (training_step, "training_step", "compile has_aux"),
    (minimize, "minimize", "compile"),
    (curve_fit, "curve_fit", "compile"),
    (fg.optim.SGD, "SGD", "nesterov"),
    (fg.optim.Adam, "Adam", "amsgrad"),
    (fg.optim.RMSprop, "RMSprop", "centered"),
    (fg.optim.NAdam, "NAdam", "decoupled_weight_decay"),
    (lambda frozen: fg.optim.SGD(groups=[{"params": "w", "frozen": frozen}]), "SGD: groups[0]", "frozen"),
]


def rows(table):
    return [pytest.param(f, name, what, id=f"{name}-{what}") for f, name, names in table for what in names.split()]


def refuses(f, name, what, values, error):
    more = {"checkpoint": "unused.npz"} if what == "every" else {}
    for value in values:
        with pytest.raises(error) as raised:
            f(**{what: value}, **more)
        assert str(raised.value).startswith(f"{name}: {what} is "), f"{value!r}: {raised.value}"
        assert ", expected " in str(raised.value), f"{value!r}: {raised.value}"


@pytest.mark.parametrize(("f", "name", "what"), rows(COUNTS))
def test_counts(f, name, what):
    refuses(f, name, what, NOT_A_COUNT, TypeError)
    refuses(f, name, what, [0, -1, np.int64(-3), -(10**400)], ValueError)


@pytest.mark.parametrize(("f", "name", "what"), rows(COUNTS_FROM_0))
def test_counts_that_may_be_0(f, name, what):
    refuses(f, name, what, NOT_A_COUNT, TypeError)
    refuses(f, name, what, [-1], ValueError)


@pytest.mark.parametrize(("f", "name", "what"), rows(NUMBERS))
def test_numbers(f, name, what):
    refuses(f, name, what, NOT_A_NUMBER, TypeError)
    refuses(f, name, what, [-1, -0.5, float("nan"), np.float32("nan"), -(10**400)], ValueError)


@pytest.mark.parametrize(("f", "name", "what"), rows(FLAGS))
def test_flags(f, name, what):
    refuses(f, name, what, NOT_A_FLAG, TypeError)


def test_whatever_is_a_number_will_do():
    for one in (1, np.int8(1), np.array(1)):
        assert descend(steps=one, batch_size=one, prefetch=one, accumulate=one, seed=0).steps == 1
    for rate in (Fraction(1, 4), np.float32(0.25), np.array(0.25), fg.asarray(0.25)):
        assert fg.optim.SGD(rate).rate == 0.25
        assert fg.schedules.constant(rate)(0) == 0.25
    assert descend(shuffle=np.True_, tol=np.inf, time_limit=np.inf).steps == 1
    assert fg.bounded_while_loop(lambda x: x < 2, lambda x: x + 1, 0.0, np.int64(2)) == 2
    with pytest.raises(TypeError, match="max_steps is True, expected an integer"):
        fg.bounded_while_loop(lambda x: x < 2, lambda x: x + 1, 0.0, True)


@pytest.mark.parametrize("seed", [True, "0", 1.5, np.nan, object()])
def test_seeds(seed):
    for f in (descend, lr_find):
        with pytest.raises(TypeError, match="descend: seed is .*, expected an integer of at least 0, a generator"):
            f(seed=seed)
    with pytest.raises(ValueError, match="descend: seed is -1, expected an integer of at least 0"):
        descend(seed=-1)


def test_all_flags_of_descend_are_in_the_table():
    flags = {name for name, p in inspect.signature(fg.descend).parameters.items() if "bool" in str(p.annotation)}
    flags -= {"native"}  # may also be "auto"
    assert flags == set(FLAGS[0][2].split())
