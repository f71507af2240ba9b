"""Branches and loops under `vmap` that fail for the values of elements that do not take them."""

import warnings

import numpy as np
import pytest

import fastgrad as fg

MATRICES = np.array([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]], [[3.0, 1.0], [1.0, 2.0]]])
ONES = np.ones_like(MATRICES)


def factored(a):
    return fg.cond(a[0, 0] > 0, lambda a: fg.linalg.cholesky(a).sum(), lambda a: (a * a).sum(), a)


def inverted(a):
    return fg.cond(fg.linalg.det(a) > 0, lambda a: fg.linalg.inv(a).sum(), lambda a: 0 * a.sum(), a)


def nested(a):
    return fg.cond(a[0, 0] > 2.5, lambda a: a.sum(), lambda a: factored(a) * 2, a)


def in_place_of_each(f):
    """What ``fg.vmap(f)`` is to be: a call for each element."""
    return lambda *batches: np.stack([f(*row) for row in zip(*batches)])


def totals(f):
    """The gradient of the sum over the batch by the batch."""
    return fg.grad(lambda b: fg.vmap(f)(b).sum())


WAYS = {
    "value": (fg.vmap, lambda f: in_place_of_each(f)(MATRICES)),
    "vmap of grad": (lambda f: fg.vmap(fg.grad(f)), lambda f: in_place_of_each(fg.grad(f))(MATRICES)),
    "grad of vmap": (totals, lambda f: in_place_of_each(fg.grad(f))(MATRICES)),
    "jvp of vmap": (
        lambda f: lambda b: fg.jvp(fg.vmap(f), (b,), (ONES,))[1],
        lambda f: in_place_of_each(fg.grad(f))(MATRICES).sum((1, 2)),
    ),
    "hvp of vmap": (
        lambda f: lambda b: fg.hvp(lambda b: fg.vmap(f)(b).sum(), (b,), (ONES,)),
        lambda f: in_place_of_each(fg.hessian(f))(MATRICES).sum((3, 4)),
    ),
    "vmap of hessian": (lambda f: fg.vmap(fg.hessian(f)), lambda f: in_place_of_each(fg.hessian(f))(MATRICES)),
    "vmap of vmap": (
        lambda f: lambda b: fg.vmap(fg.vmap(f))(np.stack([b, b[::-1]])),
        lambda f: in_place_of_each(in_place_of_each(f))([MATRICES, MATRICES[::-1]]),
    ),
    "vmap of scan": (
        lambda f: lambda b: fg.vmap(lambda s: fg.scan(lambda c, a: (c, f(a * s)), 0.0, b)[1])(np.array([1.0, 2.0])),
        lambda f: [[f(a * s) for a in MATRICES] for s in (1.0, 2.0)],
    ),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("f", [factored, inverted, nested])
@pytest.mark.parametrize("way", WAYS)
def test_a_branch_fails_only_for_elements_that_take_it(way, f, compiled):
    """The second matrix is singular, and all that is computed of it by the other branch is nan or an error."""
    transformed, expected = WAYS[way]
    g = transformed(f)
    np.testing.assert_allclose((fg.compile(g) if compiled else g)(MATRICES), expected(f), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("wrap", [lambda f: f, fg.compile], ids=["eager", "compiled"])
class TestFailures:
    @pytest.mark.parametrize("rows", [slice(1, 2), slice(0, 1), slice(0, 0)], ids=["none", "all", "empty"])
    def test_a_branch_that_no_element_takes(self, wrap, rows):
        np.testing.assert_allclose(wrap(fg.vmap(factored))(MATRICES[rows]), [factored(a) for a in MATRICES[rows]])

    def test_the_error_of_an_element_that_takes_the_branch_is_raised(self, wrap):
        mapped = wrap(fg.vmap(lambda a: fg.cond(a[0, 0] >= 0, lambda a: fg.linalg.cholesky(a), lambda a: a, a)))
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
            mapped(MATRICES)

    def test_an_index_out_of_range(self, wrap):
        def f(x, i):
            return fg.cond(i < 3, lambda x, i: x[i], lambda x, i: x[0] * 0, x, i)

        x, places = np.arange(1.0, 4), np.array([0, 7, 2, -1])
        np.testing.assert_array_equal(wrap(fg.vmap(f, (None, 0)))(x, places), [1, 0, 3, 3])
        found = wrap(fg.vmap(fg.grad(f), (None, 0)))(x, places)
        np.testing.assert_array_equal(found, [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]])
        total = wrap(fg.grad(lambda x: fg.vmap(f, (None, 0))(x, places).sum()))
        np.testing.assert_array_equal(total(x), [1, 0, 2])

    def test_a_division_of_integers_by_zero(self, wrap):
        mapped = wrap(fg.vmap(lambda n: fg.cond(n != 0, lambda n: 12 // n, lambda n: n, n)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(mapped(np.array([3, 0, -5])), [4, 0, -3])

    def test_a_loop_that_would_not_end(self, wrap):
        def root(x):
            return fg.while_loop(lambda y: abs(y * y - x) > 1e-9, lambda y: (y + x / y) / 2, 1.0)

        mapped = wrap(fg.vmap(lambda x: fg.cond(x > 0, root, lambda x: x * 0, x)))
        np.testing.assert_allclose(mapped(np.array([-2.0, 4.0, 9.0])), [0, 2, 3], rtol=1e-9)

    def test_a_loop_that_would_not_end_in_the_body_of_one_that_is_over_for_an_element(self, wrap):
        def f(x):
            def root(z):
                return fg.while_loop(lambda y: abs(y * y - z) > 1e-9, lambda y: (y + z / y) / 2, 1.0)

            return fg.while_loop(lambda z: z > 0, lambda z: root(z) - 1.5, x)

        starts = np.array([9.0, -2.0, 4.0, 100.0])
        np.testing.assert_allclose(wrap(fg.vmap(f))(starts), [f(x) for x in starts], rtol=1e-12)

    def test_the_body_of_a_loop_that_fails_where_it_is_over(self, wrap):
        """It sums up tr((k I)^-1) for k = n, n - 1, ..., 1, and would have an error at 0."""

        def f(n):
            def body(state):
                k, total = state
                return k - 1, total + fg.linalg.inv(k * np.eye(2)).sum()

            return fg.while_loop(lambda state: state[0] > 0, body, (n, 0.0))[1]

        starts = np.array([0.0, 1.0, 3.0])
        np.testing.assert_allclose(wrap(fg.vmap(f))(starts), [0, 2, 11 / 3], rtol=1e-14)
        slopes = wrap(lambda b: fg.jvp(fg.vmap(f), (b,), (np.ones(3),))[1])(starts)
        np.testing.assert_allclose(slopes, [0, -2, -2 * (1 + 1 / 4 + 1 / 9)], rtol=1e-14)

    def test_what_the_batch_shares_gets_no_nan(self, wrap):
        def f(x, w):
            return fg.cond(x > 0, lambda x: fg.linalg.solve(x * np.eye(2), w).sum(), lambda x: w.sum() * x, x)

        xs, w = np.array([1.0, 0.0, 4.0]), np.array([1.0, 2.0])
        by_x, by_w = wrap(fg.grad(lambda xs, w: fg.vmap(f, (0, None))(xs, w).sum(), (0, 1)))(xs, w)
        np.testing.assert_allclose(by_x, [-3, 3, -3 / 16], rtol=1e-14)
        np.testing.assert_allclose(by_w, [1.25, 1.25], rtol=1e-14)

    def test_a_host_call_sees_no_other_elements(self, wrap):
        seen = []

        def log(x):
            seen.append(x.copy())
            return np.log(x)

        def f(x):
            call = lambda x: fg.pure_callback(log, np.zeros(x.shape), x)
            return fg.cond(x > 0, call, lambda x: x * 0, x)

        np.testing.assert_allclose(wrap(fg.vmap(f))(np.array([1.0, -1.0, np.e])), [0, 0, 1], atol=1e-15)
        assert all((x > 0).all() for x in seen), seen
