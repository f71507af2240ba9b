"""``compile``: work on integers and booleans, and indexing."""

import numpy as np
import pytest
from _replay import eagerly, same, same_tree

import fastgrad as fg

RNG = np.random.default_rng(0)
INTEGERS = [np.dtype(c) for c in "?bhilBHIL"]


@pytest.mark.parametrize("start", INTEGERS, ids=str)
def test_integers_are_converted_as_numpy_does(start):
    info = None if start == bool else np.iinfo(start)
    x = np.array([0, 1, 0, 1] if start == bool else [0, 1, info.max, info.min, info.max // 3], start)
    x = np.concatenate([x, np.resize(x, 700)])
    targets = [*INTEGERS, np.dtype(np.float32), np.dtype(np.float64)]
    f = fg.compile(lambda x: [fg.astype(x, t) for t in targets])
    f(x[::-1])
    same_tree(f(x), [x.astype(t) for t in targets])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int16])
def test_integer_labels_and_indices(dtype):
    x, labels = RNG.standard_normal((4, 3)), np.array([0, 2, 1, 2], dtype)
    loss = lambda x, k: fg.losses.softmax_cross_entropy(x, k)
    compiled = fg.compile(fg.value_and_grad(loss))
    compiled(x, labels[::-1].copy())
    value, gradient = compiled(x, labels)
    v, g = fg.value_and_grad(loss)(x, labels)
    assert value == v
    same(gradient, g)
    f = fg.compile(lambda x, k: (x[k], fg.take(x, k, axis=0), x * k[:, None], fg.mean(k), k / 2, fg.tanh(k)))
    f(x, labels * 0)
    same_tree(f(x, labels), tuple(np.asarray(v) for v in eagerly(lambda x, k: (
        x[k], fg.take(x, k, axis=0), x * k[:, None], fg.mean(k), k / 2, fg.tanh(k)), x, labels)))


@pytest.mark.parametrize("only_gradient", [False, True])
@pytest.mark.parametrize("label", [-1, 3, 10**12])
def test_a_label_out_of_range_at_replay(label, only_gradient):
    loss = lambda x, k: fg.losses.softmax_cross_entropy(x, k)
    f = fg.compile((fg.grad if only_gradient else fg.value_and_grad)(loss))
    x = np.zeros((2, 3))
    f(x, np.array([0, 1]))
    with pytest.raises(IndexError, match=f"label {label} of row 1"):
        f(x, np.array([0, label]))
    f(x, np.array([0, 1]))


@pytest.mark.parametrize("make", [lambda f: f, fg.grad], ids=["value", "gradient"])
def test_an_index_out_of_range_at_replay(make):
    f = fg.compile(make(lambda x, i: fg.sum(x[i])))
    x = np.arange(4.0)
    f(x, np.array([0, -1]))
    for bad in (4, -5):
        with pytest.raises(IndexError):
            f(x, np.array([0, bad]))
    f(x, np.array([0, 3]))
