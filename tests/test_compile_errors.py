"""``compile``: nothing is frozen silently, and errors leave everything clean."""

import copy
import math
import statistics

import numpy as np
import pytest
from _replay import same

import fastgrad as fg
from fastgrad import _core, _user_frames


def test_an_exception_while_tracing_leaves_everything_clean():
    state = {"fail": True}

    def f(x):
        y = fg.exp(x) * state.get("w", 1.0)
        if state["fail"]:
            raise KeyError("not now")
        return y

    compiled = fg.compile(f)
    for _ in range(2):
        with pytest.raises(KeyError, match="not now"):
            compiled(np.ones(3))
        assert not _core.tracing() and _core.grad_enabled()
    with pytest.raises(ValueError, match="broadcast"):
        fg.compile(lambda x: x + np.ones(4))(np.ones(3))
    state["fail"] = False
    same(compiled(np.zeros(3)), np.ones(3))
    assert compiled.cache_info() == (0, 1, 64, 1)
    assert float(fg.ones(1) * 2) == 2


FROZEN = {
    "branch": lambda x: x if x[0] > 0 else -x,
    "float": lambda x: x * float(x[0]),
    "int": lambda x: x * int(x[0]),
    "numpy": lambda x: fg.tensor(x.numpy()),
    "math.sin": lambda x: x * math.sin(x[0]),
    "np.asarray": lambda x: x * np.asarray(x),
    "np.array": lambda x: x * np.array([x[0], 1.0]),
    "item": lambda x: x * x[0].item(),
    "tolist": lambda x: fg.tensor(x.tolist()),
    "values": lambda x: [v for v in x if v > 0],
    "mask": lambda x: x[x > 0],
    "slice": lambda x: x[: fg.argmax(x)],
    "shape": lambda x: fg.zeros(fg.argmax(x)),
    "range": lambda x: [x for _ in range(fg.astype(x, int)[0])],
    "in": lambda x: x * (1.0 in x),
    "buffer": lambda x: memoryview(x),
    "dlpack": lambda x: np.from_dlpack(x),
    "format": lambda x: f"{x[0]:.3f}",
    "any": lambda x: x if fg.any(x > 0) else -x,
    "masks": lambda x: x[None, :][fg.tensor([True]), x > 0],
    "arange": lambda x: fg.arange(0, x[0], 3),
    "while": lambda x: [1 for _ in iter(lambda: bool(fg.sum(x) > 0), False)],
    "copy": lambda x: x.__reduce__(),
    "ufunc out": lambda x: np.add(np.ones(2), x, out=np.zeros(2)),
    "cotangent": lambda x: fg.tensor(np.float32([1.0, 2.0]), requires_grad=True).backward(x),
    "optimizer": lambda x: fg.optim.SGD(0.1).step([np.ones(2)], [x]),
    "all_finite": lambda x: _core.all_finite(x),
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_would_be_frozen_is_an_error_that_names_the_line(name):
    f = FROZEN[name]
    with pytest.raises((TypeError, BufferError)) as caught:
        fg.compile(f)(np.array([1.0, 2.0]))
    assert not _core.tracing()
    if isinstance(caught.value, fg.TraceError):
        assert f"{__file__}, line {f.__code__.co_firstlineno}" in str(caught.value)
        assert "fastgrad.where" in str(caught.value)
    else:
        assert name in ("ufunc out", "range", "cotangent", "buffer", "dlpack", "np.array")


REASONS = {
    "branch": "instead of a Python branch", "while": "instead of a Python branch", "any": "instead of a Python branch",
    "float": "instead of float", "item": "instead of float", "numpy": "instead of an ndarray of it",
    "tolist": "instead of an ndarray", "mask": "a boolean index has a result whose shape depends",
    "masks": "a boolean index", "slice": "the bounds of a slice", "shape": "a shape", "optimizer": "written once",
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_the_error_says_what_to_do_instead(name):
    with pytest.raises(fg.TraceError, match=REASONS[name]):
        fg.compile(FROZEN[name])(np.array([1.0, 2.0]))


class Box:
    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize("make", [Box, lambda x: (y for y in x), lambda x: np.array([None]), lambda x: {0, 1}])
def test_a_result_that_may_hide_a_tensor_is_refused(make):
    with pytest.raises(TypeError, match=r"^compile: result\['a'\]\[0\] is of type \w+, which would be the same object"):
        fg.compile(lambda x: {"a": [make(x)]})(np.ones(2))
    assert not _core.tracing()


@pytest.mark.parametrize("start", [lambda: fg.zeros(2), lambda: fg.tensor([0, 0])], ids=["float", "int"])
def test_a_tensor_from_outside_changed_in_place_is_an_error_that_names_the_line(start):
    total = start()

    def f(x):
        nonlocal total
        total += 1
        return x + total

    with pytest.raises(
        fg.TraceError, match="^compile: add changes a tensor in place that was made before .*once instead of"
    ) as caught:
        fg.compile(f)(np.ones(2))
    assert f"{__file__}, line {f.__code__.co_firstlineno + 2})" in str(caught.value)
    assert total.tolist() == [0, 0]


def test_tensors_made_inside_may_be_changed_in_place():
    outside = fg.ones(2)

    def f(x):
        total, part = fg.zeros(2), outside * 2
        total += x
        part *= total
        x += 1
        return part + x

    compiled = fg.compile(f)
    for x in (np.ones(2), np.array([1.0, 3.0])):
        same(compiled(x), 3 * x + 1)
    assert outside.tolist() == [1, 1]


def test_a_step_whose_loss_keeps_a_running_value_runs_eagerly():
    seen = fg.zeros(())

    def loss(p, x):
        nonlocal seen
        seen += 1
        return fg.sum((p - x) ** 2)

    step = fg.training_step(loss, np.zeros(2), fg.optim.SGD(0.1))
    with pytest.warns(RuntimeWarning, match="cannot be traced and runs eagerly.*changes a tensor in place"):
        step(np.ones(2))
    step(np.ones(2))
    assert seen.item() == 2


def test_arrays_like_a_traced_one():
    same(
        fg.compile(lambda x: fg.full_like(x, 2) * x + np.zeros_like(x) + fg.ones_like(x, dtype=int))(np.ones(3)),
        np.full(3, 3.0),
    )


def test_values_of_constants_may_be_asked_for():
    w = fg.tensor([1.0, 2.0])

    def f(x):
        assert float(w[0]) == 1 and w.numpy()[1] == 2 and (w > 0).all()
        assert "being traced" in repr(x)
        assert len(x) == 2 and x.shape == (2,)
        return x * (w if bool(w[1] > 0) else -w)

    same(fg.compile(f)(np.ones(2)), np.array([1.0, 2.0]))


# ---- whose line is named ---------------------------------------------------------------------------------------------
def test_an_error_in_a_library_names_the_line_that_called_it():
    def f(x):
        return statistics.median([x[0], x[1]])

    with pytest.raises(fg.TraceError) as caught:
        fg.compile(f)(np.ones(2))
    assert f"({__file__}, line {f.__code__.co_firstlineno + 1})" in str(caught.value)


@pytest.mark.parametrize("run", [
    lambda loss: fg.descend(loss, np.ones(2), optimizer="sgd", steps=2),
    lambda loss: fg.minimize(loss, np.ones(2)),
    lambda loss: fg.minimize(loss, np.ones(2), method="Newton-CG"),
], ids=["descend", "minimize", "Newton-CG"])  # fmt: skip
def test_the_warning_is_at_the_users_line_and_names_that_of_the_cause(run):
    def loss(p):
        y = fg.sum(p * p)
        return y if y > 0 else y * 2

    with pytest.warns(RuntimeWarning, match=f"line {loss.__code__.co_firstlineno + 2}") as caught:
        run(loss)
    assert {w.filename for w in caught} == {__file__}


def test_without_a_line_of_the_users_that_of_a_library_is_named():
    paths = __file__, copy.__file__, np.__file__, fg.__file__, "<stdin>", "<frozen os>"
    assert [_user_frames.rank(path) for path in paths] == [0, 1, 1, 2, 0, 1]
    assert _user_frames._innermost([fg.__file__, np.__file__, copy.__file__]) == 1
    assert _user_frames._innermost([fg.__file__, np.__file__, __file__, copy.__file__]) == 2
    assert _user_frames._innermost([fg.__file__]) is None


@pytest.mark.parametrize("index", [
    lambda a, i: a[i], lambda a, i: a[:, i], lambda a, i: a[i, i], lambda a, i: a[i[0]], lambda a, i: a.tolist()[i[0]],
])  # fmt: skip
def test_an_index_of_an_ndarray_is_refused_with_the_cure(index):
    for transform, i in (fg.compile, np.array([1, 2])), (fg.vmap, np.array([[1, 2]])):
        with pytest.raises(fg.TraceError, match=r"write fastgrad.take\(a, i, axis=0\) or fastgrad.asarray\(a\)\[i\]"):
            transform(lambda i: fg.asarray(index(np.eye(3), i)))(i)
    same(fg.compile(lambda i: fg.take(np.eye(3), i, axis=0))(np.array([1, 2])), np.eye(3)[1:])


def test_an_ndarray_of_integers_is_refused_with_the_cure():
    with pytest.raises(fg.TraceError, match=r"fastgrad.take.*; np.array of tensors is fastgrad.asarray"):
        fg.compile(lambda i: np.array([i, i]))(np.array([1, 2]))
    same(fg.compile(lambda i: fg.asarray([i, i + 1]))(np.array([1, 2])), np.array([[1, 2], [2, 3]]))


def test_a_mask_of_an_ndarray_is_refused_with_the_cure():
    with pytest.raises(fg.TraceError, match=r"instead use fastgrad.where\(mask, x, 0\)"):
        fg.compile(lambda x: np.arange(3.0)[x > 0])(np.ones(3))
