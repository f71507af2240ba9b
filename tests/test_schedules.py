"""Schedules against the recurrences of PyTorch and the formulas of optax, and within optimizers."""

import copy
import math
import pickle

import numpy as np
import pytest
from _errors import raises_text

import fastgrad as fg
from fastgrad import schedules

N = 40


def recurrence(start, change):
    """The rates where each follows from the one before and its number."""
    rates = [start]
    for step in range(1, N):
        rates.append(change(rates[-1], step))
    return rates


def cosine_by_recurrence(start, end, n):
    """PyTorch's CosineAnnealingLR, whose recurrence is that of the closed form, up to T_max."""
    change = lambda r, t: end + (r - end) * (1 + math.cos(math.pi * t / n)) / (1 + math.cos(math.pi * (t - 1) / n))
    return [r if t <= n else end for t, r in enumerate(recurrence(start, lambda r, t: change(r, t) if t <= n else r))]


def restarts(start, end, first, factor):
    rates, length, place = [], first, 0
    for _ in range(N):
        rates.append(end + (start - end) * (1 + math.cos(math.pi * place / length)) / 2)
        place += 1
        if place == length:
            place, length = 0, length * factor
    return rates


def one_cycle(most, n, part, div, final):
    """Smith and Topin's, as PyTorch numbers the steps: the top at part n - 1, the end at n - 1."""
    points = [0, part * n - 1, n - 1]
    values = [most / div, most, most / div / final]
    return [np.interp(min(t, n - 1), points, values) for t in range(N)]


CASES = [
    (schedules.constant(0.3), [0.3] * N),
    (schedules.step(0.3, 7, 0.5), recurrence(0.3, lambda r, t: r * 0.5 if t % 7 == 0 else r)),
    (schedules.multistep(0.3, [3, 4, 20], 0.5), recurrence(0.3, lambda r, t: r * 0.5 if t in (3, 4, 20) else r)),
    (schedules.exponential(0.3, 0.9), recurrence(0.3, lambda r, t: r * 0.9)),
    (schedules.exponential(0.3, 0.5, steps=10), [0.3 * 0.5 ** (t / 10) for t in range(N)]),
    (
        schedules.polynomial(0.3, 20, power=2),
        recurrence(0.3, lambda r, t: r * ((1 - t / 20) / (1 - (t - 1) / 20)) ** 2 if t <= 20 else 0.0),
    ),
    (schedules.linear(0.3, 10, 0.1), np.interp(np.arange(N), [0, 10], [0.3, 0.1])),
    (schedules.cosine(0.3, 20, 0.1), cosine_by_recurrence(0.3, 0.1, 20)),
    (schedules.cosine_restarts(0.3, 5, end_value=0.1), restarts(0.3, 0.1, 5, 1)),
    (schedules.cosine_restarts(0.3, 3, 2), restarts(0.3, 0.0, 3, 2)),
    (schedules.one_cycle(0.3, 30, 0.3, "linear", 10, 100), one_cycle(0.3, 30, 0.3, 10, 100)),
    (schedules.piecewise([0.3, 0.2, 0.1], [4, 9]), [0.3] * 4 + [0.2] * 5 + [0.1] * (N - 9)),
    (schedules.join([0.3, schedules.linear(1.0, 4)], [5]), [0.3] * 5 + [1, 0.75, 0.5, 0.25] + [0] * (N - 9)),
    (
        schedules.warmup(schedules.exponential(0.3, 0.9), 4, 0.5),
        [0.15, 0.1875, 0.225, 0.2625, *(0.3 * 0.9 ** np.arange(N - 4))],
    ),
    (0.5 * schedules.exponential(0.3, 0.9) * 2.0, 0.3 * 0.9 ** np.arange(N)),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "expected"), CASES, ids=lambda x: repr(x) if callable(x) else "")
def test_rates(schedule, expected):
    np.testing.assert_allclose(schedule.values(N), expected, rtol=1e-12, atol=1e-15)
    assert all(type(schedule(t)) is float for t in range(3))


def test_one_cycle_along_cosines_meets_its_three_rates():
    rates = schedules.one_cycle(0.3, 30, 0.3, "cos", 10, 100).values(N)
    np.testing.assert_allclose(rates[[0, 8, 29, 39]], [0.03, 0.3, 3e-4, 3e-4], rtol=1e-12)
    assert np.all(np.diff(rates[:9]) > 0) and np.all(np.diff(rates[8:30]) < 0)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_reduce_on_plateau(mode):
    sign = 1 if mode == "min" else -1
    schedule = schedules.ReduceOnPlateau(1.0, mode, factor=0.5, patience=2, cooldown=1, threshold=0.1, min_value=0.2)
    values = [10, 9, 8.5, 8.2, 8.11, 9, 9, 9, 9, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    rates = []
    for value in values:
        schedule.observe(sign * value)
        rates.append(schedule(0))
    # 9 is not better than 10 by a tenth, nor is 8.5 by much: it is the best one of 8.5 that 8.2 and 8.11 are held to
    assert rates == reduced([sign * v for v in values], sign)
    other = schedules.ReduceOnPlateau(1.0, mode, factor=0.5, patience=2, cooldown=1, threshold=0.1, min_value=0.2)
    other.load_state_dict(pickle.loads(pickle.dumps(schedule.state_dict())))
    for _ in range(5):
        schedule.observe(sign * 5)
        other.observe(sign * 5)
    assert other.state_dict() == schedule.state_dict()


def reduced(values, sign):
    """ReduceLROnPlateau of PyTorch: rate 1, factor 0.5, patience 2, cooldown 1, threshold 0.1 rel, min_lr 0.2."""
    rate, best, bad, cooling, rates = 1.0, sign * np.inf, 0, 0, []
    for value in values:
        if np.isinf(best):
            is_better = True
        elif sign > 0:
            is_better = value < best * 0.9
        else:
            is_better = value > best * (1 + 0.1 * np.sign(best))
        if is_better:
            best, bad = value, 0
        else:
            bad += 1
        if cooling:
            cooling, bad = cooling - 1, 0
        if bad > 2:
            rate, cooling, bad = max(rate * 0.5, 0.2), 1, 0
        rates.append(rate)
    return rates


@pytest.mark.filterwarnings("ignore:compile. the function changes")
def test_the_rate_is_read_at_each_step_and_changes_no_program():
    schedule, traces = schedules.exponential(0.5, 0.5), []

    def loss(p):
        traces.append(1)
        return fg.sum(p)

    p, optimizer = np.zeros(2), fg.optim.SGD(schedule)
    step = fg.training_step(loss, p, optimizer)
    for _ in range(5):
        assert optimizer.rate == schedule(optimizer.steps)
        step()
    np.testing.assert_allclose(p, -np.sum(schedule.values(5)), rtol=1e-15)
    assert len(traces) == 2


def test_the_state_of_a_schedule_belongs_to_that_of_its_optimizer():
    make = lambda: fg.optim.SGD(schedules.ReduceOnPlateau(1.0, patience=0))
    optimizer, other = make(), make()
    for value in (1.0, 2.0):
        optimizer.learning_rate.observe(value)
    assert optimizer.rate == 0.1
    other.load_state_dict(optimizer.state_dict())
    assert other.rate == 0.1 and other.state_dict() == optimizer.state_dict()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: schedules.cosine(-1, 3), ValueError, "cosine: value is -1, expected a finite number of at least 0"),
        (lambda: schedules.cosine(1, 0), ValueError, "cosine: steps is 0, expected an integer above 0"),
        (lambda: schedules.linear(1.0, 0.0, 4), TypeError, "linear: steps is 0.0, expected an integer above 0"),
        (lambda: schedules.step("a", 1), TypeError, "step: value is 'a', expected a finite number of at least 0"),
        (lambda: schedules.step(1, 1.5), TypeError, "step: step_size is 1.5, expected an integer above 0"),
        (
            lambda: schedules.multistep(1, [3, 2]),
            ValueError,
            "multistep: milestones are [3, 2], expected numbers of steps in rising order",
        ),
        (
            lambda: schedules.piecewise([1.0], [3]),
            ValueError,
            "piecewise: expected one value more than boundaries, got 1 and 1",
        ),
        (
            lambda: schedules.one_cycle(1, 10, anneal_strategy="cosine"),
            ValueError,
            "one_cycle: anneal_strategy is 'cosine', expected 'cos' or 'linear'",
        ),
        (
            lambda: schedules.ReduceOnPlateau(1, factor=1),
            ValueError,
            "ReduceOnPlateau: factor is 1, expected a number in (0, 1)",
        ),
    ],
)
def test_arguments_out_of_range(call, error, text):
    with raises_text(error, text):
        call()


MADE = [
    schedules.constant(0.1), schedules.step(1.0, 2), schedules.multistep(1.0, [1, 3]),
    schedules.piecewise([1.0, 0.5], [2]), schedules.exponential(1.0, 0.9), schedules.polynomial(1.0, 4, 0.1, power=2),
    schedules.linear(1.0, 4, 0.1), schedules.cosine(1.0, steps=4), schedules.cosine_restarts(1.0, 2),
    schedules.one_cycle(1.0, 5), schedules.warmup(0.5 * schedules.cosine(0.1, 5), steps=2),
    schedules.join([0.1, schedules.linear(1.0, 4, 0.1)], [2]), schedules.ReduceOnPlateau(0.1),
    schedules.Schedule(float),
]  # fmt: skip


@pytest.mark.parametrize("schedule", MADE, ids=repr)
def test_pickles_and_copies(schedule):
    optimizer = fg.optim.SGD(schedule, momentum=0.9)
    for again in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer), copy.copy(optimizer)):
        assert again.learning_rate.values(7).tolist() == schedule.values(7).tolist()
        assert repr(again) == repr(optimizer)


def test_copies_do_not_depend_on_what_becomes_of_the_arguments():
    milestones, schedules_in_turn = [1, 3], [0.1, 0.2]
    for schedule in (
        schedules.multistep(1.0, milestones),
        schedules.multistep(1.0, iter([1, 3])),
        schedules.join(schedules_in_turn, boundaries=np.array(milestones)[:1]),
        schedules.piecewise(values=(x for x in (1.0, 0.5)), boundaries=[2]),
    ):
        expected = schedule.values(5).tolist()
        milestones[0], schedules_in_turn[0] = 2, 0.3
        assert copy.deepcopy(schedule).values(5).tolist() == expected, repr(schedule)
        assert pickle.loads(pickle.dumps(schedule)).values(5).tolist() == expected, repr(schedule)
        milestones[0], schedules_in_turn[0] = 1, 0.1


def test_a_copy_of_a_plateau_has_a_rate_of_its_own():
    schedule = schedules.ReduceOnPlateau(1.0, factor=0.5, patience=0)
    schedule.observe(1.0)
    copies = [copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))]
    for again in copies:
        again.observe(2.0)
        assert (schedule(0), again(0)) == (1.0, 0.5)
