"""What loops carry from step to step: any structure, and containers and tensors that a body changes in place; cost."""

import time
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastgrad as fg

WAYS = [lambda f: f, fg.compile, lambda f: fg.compile(f, verify=True)]


# ---- eager loops take what is built as before without looking at it twice --------------------------------------------
def test_an_eager_loop_takes_any_structure():
    class Pair(NamedTuple):
        a: Any
        b: Any

    xs = np.arange(12.0).reshape(4, 3)
    total, rows = xs.sum(axis=0), np.cumsum(xs, axis=0)
    one = fg.asarray(np.zeros(3))

    def check(f, init, read=lambda c: c, read_y=lambda y: y, reverse=False):
        carry, ys = fg.scan(f, init, xs, reverse=reverse)
        np.testing.assert_array_equal(read(carry).numpy(), total)
        expected = np.cumsum(xs[::-1], axis=0)[::-1] if reverse else rows
        np.testing.assert_array_equal(read_y(ys).numpy(), expected)

    for reverse in (False, True):
        check(lambda c, x: (c + x, c + x), one, reverse=reverse)
        check(lambda c, x: ((c[0] + x, c[1]), [c[0] + x, None]), (one, None), lambda c: c[0], lambda y: y[0], reverse)
        check(lambda c, x: ([c[0] + x], (c[0] + x,)), [one], lambda c: c[0], lambda y: y[0], reverse)
        check(
            lambda c, x: ({"k": c["k"] + x}, {"y": c["k"] + x}), {"k": one}, lambda c: c["k"], lambda y: y["y"], reverse
        )
        check(
            lambda c, x: (Pair(c.a + x, 1.0), Pair(2, c.a + x)), Pair(one, 0.0), lambda c: c.a, lambda y: y.b, reverse
        )
        check(lambda c, x: ((c[0] + x, 3.0), c[0] + x), (one, 0.0), lambda c: c[0], reverse=reverse)
    carry, _ = fg.scan(lambda c, x: ({"b": c["b"], "a": c["a"] + x}, None), {"a": one, "b": one}, xs)
    np.testing.assert_array_equal(carry["a"].numpy(), total)
    with pytest.raises(TypeError, match="its structure must stay the same"):
        fg.scan(lambda c, x: ([c[0] + x], None), (one,), xs)
    with pytest.raises(TypeError, match="goes on as float32"):
        fg.scan(lambda c, x: (c.astype(np.float32), None), one, xs)
    with pytest.raises(TypeError, match="returned y as"):
        k = iter(range(4))
        fg.scan(lambda c, x: (c + x, c if next(k) < 2 else (c,)), one, xs)
    with pytest.raises(TypeError, match="expected f to return"):
        fg.scan(lambda c, x: c, one, xs)
    done = fg.while_loop(lambda c: c["n"] < 3, lambda c: {"n": c["n"] + 1, "x": c["x"] * 2}, {"n": 0, "x": one + 1})
    np.testing.assert_array_equal(done["x"].numpy(), np.full(3, 8.0))
    assert done["n"].dtype == np.int64
    assert float(fg.while_loop(lambda x: np.asarray([x.item() < 3]), lambda x: x.item() + 1.0, 0.0)) == 3.0


# ---- eager loops whose bodies change containers and tensors in place -------------------------------------------------
def filling(make):
    """Bodies for a scan of sums, each of which returns one mutable object at every step, and how to read its y."""
    box, array, kept = [None], np.zeros(()), fg.asarray(0.0)

    def same_dict(c, x):
        c["s"] = c["s"] + x
        return c, c

    def same_list(c, x):
        c[0] = c[0] + x
        return c, c

    def inner_list(c, x):
        c[0][0] = c[0][0] + x
        return c, (c[0], None)

    def outer_list(c, x):
        box[0] = c + x
        return c + x, box

    def outer_array(c, x):
        array[()] = (c + x).item()
        return c + x, array

    def same_tensor(c, x):
        c += x
        return c, c

    def outer_tensor(c, x):
        kept[...] = kept + x
        return c + x, (kept, kept)

    return {
        "same_dict": (same_dict, {"s": 0.0}, lambda y: y["s"]),
        "same_list": (same_list, [0.0], lambda y: y[0]),
        "inner_list": (inner_list, ([0.0],), lambda y: y[0][0]),
        "outer_list": (outer_list, 0.0, lambda y: y[0]),
        "outer_array": (outer_array, 0.0, lambda y: y),
        "same_tensor": (same_tensor, 0.0, lambda y: y),
        "outer_tensor": (outer_tensor, 0.0, lambda y: y[1]),
    }[make]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "make", ["same_dict", "same_list", "inner_list", "outer_list", "outer_array", "same_tensor", "outer_tensor"]
)
def test_a_result_keeps_the_value_of_its_step(make, reverse):
    f, init, read = filling(make)
    ys = read(fg.scan(f, init, np.array([1.0, 2.0, 3.0]), reverse=reverse)[1])
    np.testing.assert_array_equal(ys.numpy(), [6, 5, 3] if reverse else [1, 3, 6])
    assert fg.tree.leaves(init)[0] == 0.0, f"the container of the caller was changed: {init}"


@pytest.mark.parametrize("wrap", WAYS, ids=["eager", "compiled", "both"])
@pytest.mark.parametrize("make", ["same_dict", "same_list", "inner_list"])
def test_gradients_through_a_container_that_is_changed_at_each_step(make, wrap):
    def weighted(xs):
        f, init, read = filling(make)
        return (read(fg.scan(f, init, xs)[1]) * np.array([1.0, 10.0, 100.0])).sum()

    value, gradient = wrap(fg.value_and_grad(weighted))(np.array([1.0, 2.0, 3.0]))
    assert value == 631
    np.testing.assert_array_equal(gradient, [111, 110, 100])


def narrowed(i, v):
    v[0] = v[0].astype(np.float32)
    return v


def lengthened(i, v):
    v.append(v[0])
    return v


def doubled(i, v):
    v[0] = np.concatenate([v[0], v[0]])
    return v


def renamed(i, v):
    v["b"] = v.pop("a")
    return v


def inner(i, v):
    v[0].append(v[0][0])
    return v


@pytest.mark.parametrize("wrap", [lambda f: f, fg.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("body", "build", "error", "message"),
    [
        (narrowed, lambda x: [x], TypeError, "carry.0. came in as float64 .* goes on as float32"),
        (lengthened, lambda x: [x], TypeError, "its structure must stay the same"),
        (
            doubled,
            lambda x: [x],
            ValueError,
            r"came in as float64 of shape \(1,\) and goes on as float64 of shape \(2,\)",
        ),
        (renamed, lambda x: {"a": x}, TypeError, "its structure must stay the same"),
        (inner, lambda x: ([x],), TypeError, "its structure must stay the same"),
    ],
)
def test_a_carry_changed_in_place_is_checked(body, build, error, message, wrap):
    counted = lambda x: fg.fori_loop(0, 3, body, build(x))
    scanned = lambda x: fg.scan(lambda v, _: (body(0, v), None), build(x), length=3)
    going = lambda x: fg.while_loop(lambda v: np.asarray(fg.tree.leaves(v)[0]).size > 0, lambda v: body(0, v), build(x))
    for loop in (counted, scanned) if wrap is fg.compile else (counted, scanned, going):
        with pytest.raises(error, match=message):
            wrap(loop)(np.ones(1))


@pytest.mark.parametrize("wrap", WAYS, ids=["eager", "compiled", "both"])
def test_each_step_takes_containers_of_its_own(wrap):
    def f(x):
        given, pair = [x], [x]

        def step(i, v):
            v[0][0] = v[0][0] + 1  # the step before has put one list in both places: only this one changes
            pair[0] = v[0][0] + v[1][0]
            return [pair, pair]

        twice = fg.fori_loop(0, 2, step, [given, given])
        pair[0] = None
        return twice, given

    twice, given = wrap(f)(1.0)
    # (1 + 1) + 1 = 3 in both places, then (3 + 1) + 3 = 7
    assert [float(x) for x in fg.tree.leaves((twice, given))] == [7.0, 7.0, 1.0]


def test_an_array_carried_is_not_the_buffer_that_the_body_refills():
    buffer = np.zeros(2)

    def step(i, v):
        old = v[0] * 1
        buffer[:] = (old + 1).numpy()
        return [buffer, v[0] + 0]  # the second: what came in

    last, before = fg.fori_loop(0, 3, step, [np.zeros(2), np.zeros(2)])
    buffer[:] = 99
    np.testing.assert_array_equal([last.numpy(), before.numpy()], [[3, 3], [2, 2]])


def test_results_that_change_their_kind_from_step_to_step_are_promoted_and_empty_ones_kept():
    k = iter(range(3))
    ys = fg.scan(lambda c, x: (c, [x.astype(np.float32) if next(k) == 1 else x]), 0.0, np.array([1.0, 2.0, 3.0]))[1]
    np.testing.assert_array_equal(ys[0].numpy(), [1, 2, 3])
    for empty in ([], {}, (), None, [None, {}]):
        assert fg.scan(lambda c, x: (c, empty), 0.0, np.ones(3))[1] == empty


@pytest.mark.parametrize("make", [np.array, fg.tensor, fg.asarray])
def test_the_init_of_a_loop_stays_as_it_is(make):
    add = lambda c: c.__iadd__(1.0)
    for n in (1, 1000):  # elements: small arrays are copied anyway
        init = make(np.ones(n))
        for loop in (
            lambda c: fg.fori_loop(0, 2, lambda i, c: add(c), c),
            lambda c: fg.scan(lambda c, r: (add(c), None), c, length=2)[0],
            lambda c: fg.while_loop(lambda c: c[0] < 3, add, c),
        ):
            np.testing.assert_array_equal(loop(init).numpy(), np.full(n, 3.0))
            np.testing.assert_array_equal(np.asarray(init), np.ones(n))


BODIES_THAT_CHANGE_THEIR_ARGUMENT = {
    "scan": lambda x: fg.scan(lambda c, _: (c.__iadd__(1.0), None), x, length=2)[0],
    "fori_loop": lambda x: fg.fori_loop(0, 2, lambda i, c: c.__iadd__(1.0), x),
    "while_loop": lambda x: fg.while_loop(lambda c: c.sum() < 9, lambda c: c.__iadd__(1.0), x),
    "cond": lambda x: fg.cond(x.sum() > 0, lambda c: c.__iadd__(1.0), lambda c: c, x),
}


@pytest.mark.parametrize("f", BODIES_THAT_CHANGE_THEIR_ARGUMENT.values(), ids=BODIES_THAT_CHANGE_THEIR_ARGUMENT)
def test_a_traced_body_that_changes_its_argument_is_told_how_not_to(f):
    message = r"compile: add changes an argument of the function in place \(.*_carries.py, line \d+\).*c = c \+ x"
    with pytest.raises(fg.TraceError, match=message):
        fg.compile(f)(np.ones(3))


# ---- cost -----------------------------------------------------------------------------------------------------------
def ratio(f, g, bound):
    """The processor time of f by that of g: the least of each in a few rounds, and in more of them while the ratio is
    above the bound, for whatever else the machine does only adds to it."""
    least = [np.inf, np.inf]
    for _ in range(20):
        for _ in range(5):
            for k, work in enumerate((f, g)):
                start = time.thread_time()
                work()
                least[k] = min(least[k], time.thread_time() - start)
        if least[0] < bound * least[1]:
            break
    return least[0] / least[1]


def test_an_eager_loop_costs_what_a_loop_of_python_costs():
    n, x, xs = 1000, fg.asarray(np.ones(3)), fg.asarray(np.ones((1000, 3)))

    def counted():
        c = x
        for i in range(n):
            c = halved(i, c)

    def scanned():
        c, ys = x, []
        for row in xs:
            c, y = step(c, row)
            ys.append(y)
        fg.stack(ys)

    def going():
        c = fg.asarray(0.0), x
        while c[0] < n:
            c = more(c)

    halved, step = lambda i, c: c * 0.5, lambda c, row: (c * 0.5 + row, c)
    more = lambda c: (c[0] + 1, c[1] * 0.5)
    for name, ours, theirs in [
        ("fori_loop", lambda: fg.fori_loop(0, n, halved, x), counted),
        ("scan", lambda: fg.scan(step, x, xs), scanned),
        ("while_loop", lambda: fg.while_loop(lambda c: c[0] < n, more, (0.0, x)), going),
    ]:
        found = ratio(ours, theirs, 1.5)  # benchmarks/bench_flow.py tells more exactly
        assert found < 1.5, f"{name}: {found:.2f} times the loop of Python"


def test_an_integer_carried_costs_little_more_than_a_float():
    n = 2000

    def looped(one):
        return [
            fg.compile(lambda x: fg.while_loop(lambda c: c[1] < n, lambda c: (c[0] * 0.5, c[1] + one), (x, one * 0))),
            fg.compile(lambda x: fg.scan(lambda c, _: ((c[0] * 0.5, c[1] * one + one), None), (x, one), length=n)[0]),
        ]

    for integer, floating in zip(looped(1), looped(1.0)):
        found = ratio(lambda: integer(1.0), lambda: floating(1.0), 5)
        assert found < 5, f"{found:.1f} times the loop that carries floats only"
