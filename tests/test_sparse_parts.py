"""Sparse Jacobians: results of several leaves, and the sets of numbers of which patterns are made."""

import itertools

import numpy as np
import pytest

import fastgrad as fg

pytest.importorskip("scipy")


@pytest.mark.parametrize("mode", ["rows", "columns"])
@pytest.mark.parametrize("compile", [True, False])
def test_results_of_several_leaves(mode, compile):
    """Of other dtypes and shapes, constant, empty, of integers, and out of reach of some colours."""

    def f(x):
        a, b = x["a"], x["b"]
        shared = np.sum(a) * b if mode == "rows" else a * b[0]
        return {
            "empty": a[:0],
            "float32": fg.astype(a * 2, np.float32),
            "last": b[-1] * 3,
            "none": np.zeros((2, 2)),
            "number": 5.0,
            "shared": shared.reshape(-1, 2),
            "whole": np.arange(3),
        }

    x = {"a": np.array([1.0, 2.0, 4.0, 8.0]), "b": np.array([3.0, 5.0, 7.0, 9.0])}
    a, b = x["a"], x["b"]
    expected = np.zeros((4 + 1 + 4 + 1 + 4 + 3, 8))
    expected[:4, :4] = 2 * np.eye(4)
    expected[4, 7] = 3
    if mode == "rows":
        expected[10:14, :4], expected[10:14, 4:] = b[:, None], np.sum(a) * np.eye(4)
    else:
        expected[10:14, :4], expected[10:14, 4] = b[0] * np.eye(4), a
    jacobian = fg.sparse.jacobian(f, compile=compile)
    for _ in range(3):
        found = jacobian(x)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found.toarray(), expected)
    given = fg.sparse.jacobian(f, expected != 0, compile=compile)
    np.testing.assert_array_equal(given(x).toarray(), expected)


def test_the_first_call_computes_no_values_of_f():
    """Sizes and dtype come from a trace, so that a term without a derivative is never computed."""

    def double(x):
        raise AssertionError("a value of f is computed")

    f = lambda x: fg.pure_callback(double, np.zeros(4), fg.stop_gradient(x)) + x * x
    jacobian = fg.sparse.jacobian(f)
    for x in (np.arange(4.0), np.ones(4)):
        np.testing.assert_array_equal(jacobian(x).toarray(), np.diag(2 * x))


@pytest.mark.parametrize("inner", [(), (1,), (3,), (2, 2)])
def test_unions_of_gathered_rows(inner):
    """The pattern of rows that an index names, some twice, from the end, or not at all, with unlike columns."""
    index = np.array([2, 0, -1, 2, 5, -4, 0])
    x = np.random.default_rng(0).normal(size=(6, *inner))

    def f(x):
        y = x[index] ** 2
        return (
            y
            if not inner
            else np.concatenate([y.reshape(7, -1)[:, ::-1], np.sum(y.reshape(7, -1)[:, :2], 1)[:, None]], 1)
        )

    for g in (f, lambda x: fg.grad(lambda x: np.sum(np.sin(f(x))))(x)):
        dense = fg.jacrev(g)(x)
        found = fg.sparse.jacobian(g)(x).toarray()
        np.testing.assert_allclose(found, np.reshape(dense, found.shape), rtol=1e-12, atol=1e-14)


def test_numbered_sets_are_those_of_python():
    """Unions in any order, again in the same order, and column by column."""
    rng = np.random.default_rng(0)
    sets = fg._core.NumberedSets(40)
    numbers, known = rng.integers(0, 41, (300, 3)).astype(np.int32), {0: set(), **{k + 1: {k} for k in range(40)}}

    def members(found):
        start, columns = sets.rows(found)
        return [set(columns[a:b].tolist()) for a, b in itertools.pairwise(start)]

    to = rng.integers(0, 20, 300)
    for _ in range(2):
        for order in (np.arange(300), rng.permutation(300)):
            x, at = numbers[order], to[order]
            found = sets.gathered(x, at, 20, 3).reshape(20, 3)
            for c in range(3):
                expected = [set().union(*[known[k] for k in x[at == j, c]]) for j in range(20)]
                assert members(found[:, c]) == expected
                assert np.array_equal(sets.gathered(x[:, c], at, 20), found[:, c])
            both = sets.union(x[:, 0], x[:, 1])
            assert members(both) == [known[a] | known[b] for a, b in x[:, :2]]
    with pytest.raises(ValueError, match="expected 900 sets, got 300"):
        sets.gathered(numbers[:, 0], to, 20, 3)
