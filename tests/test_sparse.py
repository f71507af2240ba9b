"""Sparse Jacobians against dense ones by hand."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from test_higher_order import STRUCTURAL

import fastgrad as fg
from fastgrad import sparse


def band(x):
    """The discrete Bratu problem: three diagonals."""
    left, right = np.concatenate([np.zeros(1), x[:-1]]), np.concatenate([x[1:], np.zeros(1)])
    return left - 2 * x + right + 0.1 * np.exp(x)


def band_jacobian(x):
    n = x.size
    return np.diag(0.1 * np.exp(x) - 2) + np.eye(n, k=1) + np.eye(n, k=-1)


def arrow(x):
    """A dense row and a diagonal."""
    return np.concatenate([np.sum(x**2).reshape(1), x[1:] ** 3])


def arrow_jacobian(x):
    j = np.diag(3 * x**2)
    j[0] = 2 * x
    return j


def column(x):
    """A dense column: as many colours as rows, but two of columns."""
    return x * x[0]


def column_jacobian(x):
    j = np.diag(np.full(x.size, x[0]))
    j[:, 0] += x
    return j


def shuffled(x):
    return np.sin(x[ORDER]) * x[ORDER[::-1]]


ORDER = np.random.default_rng(3).permutation(30)


def shuffled_jacobian(x):
    i, a, b = np.arange(30), ORDER, ORDER[::-1]
    j = np.zeros((30, 30))
    np.add.at(j, (i, a), np.cos(x[a]) * x[b])
    np.add.at(j, (i, b), np.sin(x[a]))
    return j


CASES = {
    "band": (band, band_jacobian, 3),
    "arrow": (arrow, arrow_jacobian, 2),
    "column": (column, column_jacobian, 2),
    "shuffled": (shuffled, shuffled_jacobian, None),
    "dense": (
        lambda x: np.outer(np.arange(1.0, 6), np.ones(30)) @ x**2,
        lambda x: np.outer(np.arange(1.0, 6), 2 * x),
        5,
    ),
    "one row": (lambda x: np.sum(x[::2] ** 2), lambda x: (2 * x * (np.arange(30) % 2 == 0))[None], 1),
    "empty rows": (
        lambda x: np.concatenate([np.ones(3), x[:2] ** 2, np.zeros(4)]),
        lambda x: np.pad(np.diag(2 * x[:2]), ((3, 4), (0, 28))),
        1,
    ),
    "transposed arrow": (
        lambda x: np.concatenate([x[:1] ** 2, x[1:] * x[0], x[1:2]]),
        lambda x: np.concatenate(
            [np.diag(np.r_[2 * x[0], np.full(29, x[0])]) + np.c_[np.r_[0, x[1:]], np.zeros((30, 29))], np.eye(30)[1:2]]
        ),
        2,
    ),
}
COLUMNS = {"column", "transposed arrow"}


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_against_the_dense_jacobian(name, given, compile):
    f, expected, colors = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    pattern = expected(x) != 0
    jacobian = fg.sparse.jacobian(f, pattern if given else None, compile=compile)
    for _ in range(4):
        got = jacobian(x)
        assert isinstance(got, scipy.sparse.csr_array) and got.nnz == pattern.sum()
        np.testing.assert_allclose(got.toarray(), expected(x), rtol=1e-12, atol=1e-14)
        x = rng.normal(size=30)
    assert (jacobian.pattern.toarray() == pattern).all()
    if colors is not None:
        assert jacobian.colors.max() + 1 == colors
    assert jacobian.mode == ("columns" if name in COLUMNS else "rows")


@pytest.mark.parametrize("name", CASES)
def test_what_has_one_color_shares_no_entry(name):
    f, expected, _ = CASES[name]
    x = np.random.default_rng(1).normal(size=30)
    jacobian = fg.sparse.jacobian(f)
    jacobian(x)
    pattern = expected(x) != 0
    pattern = pattern.T if jacobian.mode == "columns" else pattern
    assert (jacobian.colors == -1).tolist() == (~pattern.any(1)).tolist()
    for color in range(jacobian.colors.max() + 1):
        assert pattern[jacobian.colors == color].sum(0).max() == 1


@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 63, 64, 65, 513])
def test_patterns_of_any_number_of_rows(m):
    x = np.linspace(1, 2, m + 1)
    got = fg.sparse.jacobian(lambda x: x[1:] * x[:-1])(x).toarray()
    np.testing.assert_allclose(got, np.eye(m, m + 1) * x[1:, None] + np.eye(m, m + 1, 1) * x[:-1, None])


@pytest.mark.parametrize("compile", [True, False])
def test_entries_that_are_zero_at_first_are_there_later(compile):
    """Told beforehand of what is compiled; otherwise found out."""
    f = lambda x: np.concatenate([fg.relu(x[:-1]) + 2 * x[1:], fg.relu(x[:1])])
    jacobian = fg.sparse.jacobian(f, compile=compile)
    for x in ([-1.0, -1, -1], [1.0, -1, -1], [-1.0, 1, 1], [1.0, 1, 1], [-1.0, -1, -1]):
        on = np.array(x) > 0
        expected = np.array([[on[0], 2, 0], [0, on[1], 2], [on[0], 0, 0]], float)
        np.testing.assert_array_equal(jacobian(np.array(x)).toarray(), expected)
        assert jacobian.pattern.nnz == 5 if compile else jacobian.pattern.nnz >= (expected != 0).sum()
    assert jacobian.pattern.nnz == 5


@pytest.mark.parametrize("f", [band, column])
def test_a_given_pattern_that_lacks_an_entry_is_refused(f):
    x = np.random.default_rng(0).normal(size=30)
    pattern = CASES[f.__name__][1](x) != 0
    entries = np.argwhere(pattern)
    for i, j in entries[:: len(entries) // 7]:
        lacking = pattern.copy()
        lacking[i, j] = False
        with pytest.raises(
            ValueError, match=rf"entry \({i}, {j}\) of the Jacobian is not zero, but sparsity lacks it$"
        ):
            fg.sparse.jacobian(f, lacking)(x)
    with pytest.raises(ValueError, match=f"as it lacks {pattern.sum() - 1} more"):
        fg.sparse.jacobian(f, np.zeros((30, 30)))(x)


def test_a_given_pattern_may_have_more_than_the_jacobian():
    x = np.random.default_rng(0).normal(size=30)
    for sparsity in (
        np.ones((30, 30)),
        scipy.sparse.diags_array(np.ones((5, 30)), offsets=(-2, -1, 0, 1, 2), shape=(30, 30)),
    ):
        np.testing.assert_allclose(fg.sparse.jacobian(band, sparsity)(x).toarray(), band_jacobian(x), rtol=1e-12)


def test_structures_and_dtypes():
    x = {"a": np.array([[1.0, 2.0]], np.float32), "b": 3.0}
    jacobian = fg.sparse.jacobian(lambda x: {"p": x["a"] ** 2, "q": [x["b"] * x["a"][0, 1]]})
    np.testing.assert_allclose(jacobian(x).toarray(), [[2, 0, 0], [0, 4, 0], [0, 3, 2]], rtol=1e-6)
    x = np.linspace(1, 2, 5, dtype=np.float32)
    jacobian = fg.sparse.jacobian(lambda x: np.exp(x[1:]) * x[:-1])
    expected = np.eye(4, 5) * np.exp(x[1:])[:, None] + np.eye(4, 5, 1) * (np.exp(x[1:]) * x[:-1])[:, None]
    np.testing.assert_allclose(jacobian(x).toarray(), expected, rtol=1e-5)


def test_x_of_another_shape_starts_anew():
    jacobian = fg.sparse.jacobian(band)
    for n in (5, 9, 5):
        x = np.linspace(0, 1, n)
        np.testing.assert_allclose(jacobian(x).toarray(), band_jacobian(x), rtol=1e-12)
        assert jacobian.pattern.shape == (n, n) and jacobian.colors.shape == (n,)
    calls = []
    counted = fg.sparse.jacobian(lambda x: calls.append(x.shape) or band(x))
    for n in (5, 9, 5, 9):
        counted(np.linspace(0, 1, n))
        counted(np.linspace(1, 2, n))
    known = len(calls)
    for n in (5, 9, 5, 9):
        counted(np.linspace(0, 1, n))
    assert len(calls) == known
    fixed = fg.sparse.jacobian(band, np.eye(5))
    with pytest.raises(ValueError, match=r"sparsity has shape \(5, 5\), expected \(6, 6\)"):
        fixed(np.ones(6))


def test_what_is_refused():
    with pytest.raises(TypeError, match="^sparse.jacobian: expected a function, got 3"):
        fg.sparse.jacobian(3)
    with pytest.raises(TypeError, match=r"^sparse.jacobian: x is of dtype complex128"):
        fg.sparse.jacobian(band)(np.ones(3, complex))
    for make in (fg.sparse.jacobian, fg.sparse.hessian):
        with pytest.raises(TypeError, match=rf"^sparse.{make.__name__}: sparsity is 'auto', expected None, to find"):
            make(band, sparsity="auto")


@pytest.mark.parametrize("compile", [True, False])
def test_derivatives_of_constants_are_empty(compile):
    x = np.array([1.0, -1.0, 0.0])
    for found in (
        fg.sparse.jacobian(lambda x: np.ones(3), compile=compile)(x),
        fg.sparse.jacobian(lambda x: fg.stop_gradient(x), compile=compile)(x),
        fg.sparse.hessian(lambda x: np.sum(fg.relu(x)), compile=compile)(x),
        fg.sparse.hessian(lambda x: np.sum(x), compile=compile)(x),
    ):
        assert found.shape == (3, 3) and found.nnz == 0


def test_a_function_with_branches_runs_eagerly_after_one_warning():
    f = lambda x: x**2 if x[0] > 0 else x**3
    with pytest.warns(RuntimeWarning, match="sparse.jacobian: f cannot be traced") as caught:
        got = fg.sparse.jacobian(f)(np.array([1.0, 2.0]))
    np.testing.assert_allclose(got.toarray(), np.diag([2.0, 4.0]))
    assert len(caught) == 1, [str(w.message) for w in caught]


def test_a_function_that_turns_out_to_change_is_checked_again():
    """Its pattern was told from a trace; then it reads something else from outside."""
    order = [np.arange(4)]
    jacobian = fg.sparse.jacobian(lambda x: x[order[0]] ** 2)
    x = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(jacobian(x).toarray(), np.diag(2 * x))
    order[0] = np.array([1, 0, 3, 2])
    np.testing.assert_array_equal(jacobian(x).toarray(), np.diag(2 * x)[order[0]])
    np.testing.assert_array_equal(jacobian(x + 1).toarray(), np.diag(2 * x + 2)[order[0]])


@pytest.mark.parametrize("mapped", [True, False])
def test_a_probe_runs_f_once_and_takes_many_passes_at_once(mapped):
    passes = []

    @fg.custom_vjp
    def through(x):
        return x * 1.0

    def pull(_, g):
        passes.append(g)
        if not mapped:
            assert float(g.detach().sum()) >= 0  # needs the value, which no mapped rule has
        return (g,)

    through.defvjp(lambda x: (x * 1.0, None), pull)
    calls = []

    def f(x):
        calls.append(x)
        assert float(fg.stop_gradient(x[0])) == 0.5  # cannot be recorded
        return band(through(x))

    jacobian, x = fg.sparse.jacobian(f, compile=False), np.linspace(0.5, 1, 300)
    np.testing.assert_allclose(jacobian(x).toarray(), band_jacobian(x), rtol=1e-14)
    assert jacobian.pattern.nnz == 898 and jacobian.colors.max() == 2
    assert len(calls) <= 4, len(calls)
    assert len(passes) < 20 if mapped else len(passes) > 40, len(passes)


def test_custom_rules_and_loops():
    """The pattern is that of the rule, not of the value; of a loop that cannot be told, so it is probed."""

    @fg.custom_vjp
    def through(x):
        return np.rint(x)

    through.defvjp(lambda x: (np.rint(x), None), lambda _, g: (g,))
    jacobian = fg.sparse.jacobian(lambda x: through(x)[::-1])
    np.testing.assert_array_equal(jacobian(np.array([0.2, 1.7, 3.0])).toarray(), np.eye(3)[::-1])
    assert jacobian.mode == "rows"
    jacobian = fg.sparse.jacobian(lambda x: fg.scan(lambda c, _: (c * x, None), x[::-1], None, length=2)[0])
    x = np.array([2.0, 3.0, 5.0, 7.0])
    expected = np.diag(2 * x * x[::-1]) + np.diag(x**2)[:, ::-1]
    np.testing.assert_allclose(jacobian(x).toarray(), expected, rtol=1e-14)


def test_a_dense_column_beside_a_rule_for_reverse_mode():
    @fg.custom_vjp
    def doubled(x):
        return 2 * x

    doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
    jacobian = fg.sparse.jacobian(lambda x: doubled(x) * x[0])
    x = np.array([2.0, 3.0, 5.0])
    np.testing.assert_allclose(jacobian(x).toarray(), 2 * column_jacobian(x), rtol=1e-14)
    assert jacobian.mode == "columns"  # the rule is transposed


@pytest.mark.parametrize("compile", [True, False])
def test_hessians(compile):
    rosenbrock = lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    hessian = fg.sparse.hessian(rosenbrock, compile=compile)
    rng = np.random.default_rng(0)
    for _ in range(4):
        x = rng.normal(size=30)
        got = hessian(x)
        np.testing.assert_allclose(got.toarray(), scipy.optimize.rosen_hess(x), rtol=1e-11, atol=1e-11)
        assert got.nnz == 88 and hessian.colors.max() == 2
    tree = {"a": np.array([[1.0, 2.0]]), "b": 3.0}
    got = fg.sparse.hessian(lambda x: np.sum(x["a"] ** 3) * x["b"], compile=compile)(tree)
    np.testing.assert_allclose(got.toarray(), [[18, 0, 3], [0, 36, 12], [3, 12, 0]])


def test_with_scipys_least_squares():
    target = band(np.sin(np.arange(40.0)))
    f = lambda x: band(x) - target
    result = scipy.optimize.least_squares(lambda x: f(x), np.zeros(40), jac=fg.sparse.jacobian(f), tr_solver="lsmr",
                                          ftol=1e-14, xtol=1e-14, gtol=1e-14)  # fmt: skip
    np.testing.assert_allclose(result.x, np.sin(np.arange(40.0)), atol=1e-5)


def test_a_large_band_takes_a_pass_for_each_diagonal():
    """Three colours; f itself runs once for all of them."""
    n = 100_000
    x = np.random.default_rng(0).normal(size=n)
    calls = []

    def counted(x):
        calls.append(1)
        return band(x)

    pattern = scipy.sparse.diags_array(np.ones((3, n)), offsets=(-1, 0, 1), shape=(n, n))
    jacobian = fg.sparse.jacobian(counted, pattern, compile=False)
    jacobian(x)
    calls.clear()
    got = jacobian(x)
    assert len(calls) == 1 and jacobian.colors.max() == 2
    np.testing.assert_allclose(got.diagonal(), 0.1 * np.exp(x) - 2, rtol=1e-12)
    for k in (-1, 1):
        np.testing.assert_array_equal(got.diagonal(k), np.ones(n - 1))
    assert got.nnz == 3 * n - 2


def test_scipy_is_imported_only_when_called(monkeypatch):
    code = "import sys, fastgrad as fg; fg.sparse.jacobian(fg.tanh); assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match="^sparse.jacobian: SciPy is needed"):
        sparse.jacobian(fg.tanh)(np.ones(2))


EXACT = {
    "products that are zero": (lambda x: x[:-1] * x[1:] ** 3, np.eye(5, 6) + np.eye(5, 6, 1)),
    "relu": (lambda x: fg.relu(x), np.eye(6)),
    "where": (lambda x: np.where(x > 0, x, x[::-1]), np.eye(6) + np.eye(6)[::-1]),
    "rows of a maximum": (lambda x: x.reshape(3, 2).max(axis=1), np.kron(np.eye(3), np.ones((1, 2)))),
    "columns of a minimum": (lambda x: x.reshape(3, 2).min(axis=0), np.kron(np.ones((1, 3)), np.eye(2))),
    "softmax": (lambda x: fg.activations.softmax(x.reshape(3, 2)), np.kron(np.eye(3), np.ones((2, 2)))),
    "logsumexp": (lambda x: fg.logsumexp(x.reshape(3, 2), axis=1), np.kron(np.eye(3), np.ones((1, 2)))),
    "constant matrix": (lambda x: (np.eye(6) - np.eye(6, k=1)) @ x, np.eye(6) + np.eye(6, k=1)),
    "constant matrix on the right": (lambda x: x @ (np.eye(6) - np.eye(6, k=1)), np.eye(6) + np.eye(6, k=-1)),
    "matrix of x": (lambda x: x[:4].reshape(2, 2) @ x[4:], np.c_[np.kron(np.eye(2), np.ones((1, 2))), np.ones((2, 2))]),
    "stack of products": (lambda x: x.reshape(3, 1, 2) @ x.reshape(3, 2, 1), np.kron(np.eye(3), np.ones((1, 2)))),
    "taken": (lambda x: x[np.array([3, 3, 0])] * 2, np.eye(6)[[3, 3, 0]]),
    "transposed": (lambda x: np.transpose(x.reshape(2, 3)), np.eye(6)[[0, 3, 1, 4, 2, 5]]),
    "broadcast": (lambda x: x[:1] + x[1:], np.c_[np.ones(5), np.eye(5)]),
    "sums": (lambda x: x.reshape(2, 3).sum(axis=0), np.c_[np.eye(3), np.eye(3)]),
    "running sums": (lambda x: np.cumsum(x.reshape(2, 3), 1), np.kron(np.eye(2), np.tri(3))),
    "running sums down": (lambda x: np.cumsum(x.reshape(3, 2)[::-1], 0), np.kron(np.tri(3)[:, ::-1], np.eye(2))),
    "index by values": (lambda x: fg.take(x, (x > 0).astype(np.int64)), np.ones((6, 6))),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_patterns_do_not_depend_on_values(name):
    """At zero, where a probe would see little, and where a derivative is not finite."""
    f, expected = EXACT[name]
    for x in (np.zeros(6), np.array([1.0, -1, 0, np.inf, 2, np.nan])):
        jacobian = fg.sparse.jacobian(f)
        with np.errstate(all="ignore"):
            jacobian(x)
        np.testing.assert_array_equal(jacobian.pattern.toarray(), expected != 0)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_every_structural_row(name):
    for f, x, *rest in STRUCTURAL[name]:
        for g in (f, fg.jacrev(lambda x: fg.sum(f(x, *rest) ** 2))):
            call = (lambda x: f(x, *rest)) if g is f else g
            dense = np.reshape(fg.jacrev(call)(x), (-1, np.size(x)))
            got = fg.sparse.jacobian(call)(x)
            np.testing.assert_allclose(got.toarray(), dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
def test_product_with_a_sparse_matrix(kind):
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((4, 3)) * (rng.random((4, 3)) < 0.6)
    a = scipy.sparse.csr_array(dense).asformat(kind)
    for x in (rng.standard_normal(3), rng.standard_normal((3, 2)), np.zeros((3, 0))):
        product = fg.sparse.matmul(a, x)
        assert product.shape == (a @ x).shape
        np.testing.assert_allclose(product.numpy(), dense @ x, rtol=1e-14, atol=1e-15)
    fg.check_grads(lambda x: fg.sparse.matmul(a, x), (rng.standard_normal((3, 2)),), order=2, modes=("fwd", "rev"))
    x = rng.standard_normal(3)
    np.testing.assert_array_equal(fg.jacobian(lambda x: sparse.matmul(a, x))(x), dense)
    np.testing.assert_allclose(fg.compile(lambda x: sparse.matmul(a, x))(x), dense @ x, rtol=1e-14)
    np.testing.assert_allclose(
        fg.vmap(lambda x: sparse.matmul(a, x))(np.stack([x, -x])), [dense @ x, -dense @ x], rtol=1e-14
    )
    np.testing.assert_array_equal(sparse.jacobian(lambda x: sparse.matmul(a, x))(x).toarray(), dense)
    single = sparse.matmul(scipy.sparse.csr_array(dense.astype(np.float32)), x.astype(np.float32))
    assert single.dtype == np.float32


def test_what_a_sparse_product_refuses():
    a, x = scipy.sparse.eye_array(3), np.ones(3)
    for product in (lambda x: a @ x, lambda x: x @ a, lambda x: a.dot(x)):
        with pytest.raises(TypeError, match="fastgrad.sparse.matmul for a matrix of SciPy's"):
            fg.grad(lambda x: product(x).sum())(x)
        with pytest.raises(fg.TraceError, match="fastgrad.sparse.matmul for a matrix of SciPy's"):
            fg.compile(product)(x)
    with pytest.raises(TypeError, match="expected a matrix of scipy.sparse first, got a ndarray"):
        sparse.matmul(np.eye(3), x)
    with pytest.raises(ValueError, match=r"expected a matrix, got an array of shape \(3,\)"):
        sparse.matmul(scipy.sparse.coo_array(np.ones(3)), np.ones(3))
    with pytest.raises(ValueError, match=r"shapes \(3, 3\) and \(2,\) do not align"):
        sparse.matmul(a, x[:2])


@pytest.mark.parametrize("make", [fg.sparse.jacobian, fg.sparse.hessian])
def test_more_arguments_are_refused_with_the_cure(make):
    with pytest.raises(
        TypeError, match=r"f is differentiated by x alone, got 1 argument more; let f read it from outside"
    ):
        make(lambda x, a: np.sum(a * x**2))(np.ones(2), 2.0)


def test_numbered_sets_against_sets():
    """Unions of pairs and of groups, of random sets that are small, dense or empty."""
    n, rng = 40, np.random.default_rng(0)
    numbered, known = fg._core.NumberedSets(n), {0: frozenset(), **{k + 1: frozenset([k]) for k in range(n)}}

    def learn(number, expected):
        assert known.setdefault(int(number), expected) == expected

    for size in (0, 1, 7, 60, 300):
        for _ in range(4):
            names = rng.choice([*known], size=(2, size)).astype(np.int32)
            a, b = names
            for number, x, y in zip(numbered.union(a, b), a, b):
                learn(number, known[x] | known[y])
            groups = max(size // 5, 1)
            for to in (rng.integers(0, groups, size), np.sort(rng.integers(0, groups, size))):
                for j, number in enumerate(numbered.gathered(a, to, groups)):
                    learn(number, frozenset().union(*[known[x] for x in a[to == j]]))
    assert len(set(known.values())) == len(known), "equal sets have one number"
    every = np.array([*known], np.int32)
    start, columns = numbered.rows(every)
    for k, number in enumerate(every):
        assert columns[start[k] : start[k + 1]].tolist() == sorted(known[number])
    with pytest.raises(ValueError, match="expected arrays of one size, got 1 and 2"):
        numbered.union(np.zeros(1, np.int32), np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="expected 0 to 2147483646 elements, got -1"):
        fg._core.NumberedSets(-1)


def first_free_colors(dense):
    colors, taken = [], [set() for _ in dense.T]
    for row in dense:
        mine = np.flatnonzero(row)
        used = set().union(*[taken[j] for j in mine])
        colors.append(min(set(range(len(used) + 1)) - used) if mine.size else -1)
        for j in mine:
            taken[j].add(colors[-1])
    return colors


@pytest.mark.parametrize("density", [0.005, 0.05, 0.4, "arrow"])
def test_colors_are_the_first_that_are_free(density):
    """Up to 64 colours, more of them in columns of few entries, and in columns of many."""
    rng = np.random.default_rng(1)
    if density == "arrow":
        dense = np.eye(300, dtype=bool)
        dense[0] = dense[:, 3] = True
    else:
        dense = rng.random((300, 150)) < density
    expected = first_free_colors(dense)
    matrix = scipy.sparse.csr_array(dense)
    of_matrix = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), dense.shape[1]
    colors, count = fg._core.color_rows(*of_matrix)
    assert colors.tolist() == expected and count == max(expected) + 1
    assert fg._core.color_rows(*of_matrix, count)[0].tolist() == expected
    assert fg._core.color_rows(*of_matrix, count - 1) is None


def observations(x):
    """A small bundle adjustment: rows of cameras and points by index, two results and a weight for each observation."""
    camera, point = x["cameras"][CAMERA], x["points"][POINT]
    turned = point + np.cross(camera[:, :3], point) + camera[:, 3:6]
    flat = turned[:, :2] / turned[:, 2:]
    radius = np.sum(flat * flat, axis=1, keepdims=True)
    return x["weights"][:, None] * (camera[:, 6:7] * (1 + camera[:, 7:8] * radius) * flat + camera[:, 8:10])


CAMERA, POINT = np.random.default_rng(5).integers(0, [[3], [9]], (2, 20))


def test_rows_by_index():
    rng = np.random.default_rng(0)
    x = {"cameras": rng.normal(size=(3, 10)), "points": rng.normal(size=(9, 3)), "weights": rng.normal(size=20)}
    x["points"][:, 2] += 9
    blocks = fg.jacrev(observations)(x)
    dense = np.concatenate([blocks[name].reshape(40, -1) for name in ("cameras", "points", "weights")], axis=1)
    for compile in (True, False):
        jacobian = fg.sparse.jacobian(observations, compile=compile)
        np.testing.assert_allclose(jacobian(x).toarray(), dense, rtol=1e-12, atol=1e-14)
        assert jacobian.mode == "columns" and jacobian.colors.max() + 1 == 13
        assert jacobian(x).indices.dtype == jacobian(x).indptr.dtype == np.int32
    assert jacobian.pattern.nnz == 40 * 13


def test_zeros_of_a_direction_are_not_multiplied():
    """In a program: the infinite derivative of the root by "b" is not multiplied with zeros of directions of "a"."""
    f = lambda x: x["a"] * (1 + np.sqrt(x["b"]) * 0) + np.sqrt(x["b"])
    x = {"a": np.array([2.0, 3.0, 4.0]), "b": np.zeros(1)}
    jacobian = fg.sparse.jacobian(f)
    with np.errstate(all="ignore"):
        got = jacobian(x).toarray()
    assert jacobian.mode == "columns"
    np.testing.assert_array_equal(got[:, :3], np.eye(3))
    assert not np.isfinite(got[:, 3]).any()


def test_a_given_pattern_stays_as_it_is():
    """SciPy sorts entries and sums double ones in place."""
    scipy_sparse = pytest.importorskip("scipy.sparse")
    indices, start = np.array([1, 0, 0, 2, 1], np.int32), np.array([0, 3, 5], np.int32)
    given = scipy_sparse.csr_array((np.ones(5), indices.copy(), start.copy()), shape=(2, 3))
    found = fg.sparse.jacobian(lambda x: x[1:] * x[:-1], given)(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(found.toarray(), [[2.0, 1.0, 0.0], [0.0, 3.0, 2.0]])
    np.testing.assert_array_equal(given.indices, indices)
    np.testing.assert_array_equal(given.indptr, start)


def test_what_was_found_is_read_only():
    jacobian = fg.sparse.jacobian(lambda x: x[1:] * x[:-1])
    x = np.arange(1.0, 5.0)
    expected = jacobian(x).toarray()
    pattern = jacobian.pattern
    for array in (pattern.data, pattern.indices, pattern.indptr, jacobian.colors):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    result = jacobian(x)
    result.data *= 2  # a result is the caller's
    assert np.array_equal(result.toarray(), 2 * expected) and np.array_equal(jacobian(x).toarray(), expected)


def test_integers_are_taken_as_float64():
    for x in (np.arange(3), [1, 2, 3], {"a": np.int32(2), "b": np.arange(2, dtype=np.uint8)}):
        f = lambda x: fg.concatenate([fg.ravel(leaf) ** 2 for leaf in fg.tree.leaves(x)])
        numbers = np.concatenate([np.ravel(leaf) for leaf in fg.tree.leaves(x)]).astype(float)
        np.testing.assert_array_equal(fg.sparse.jacobian(f)(x).toarray(), np.diag(2 * numbers))
    np.testing.assert_array_equal(
        fg.sparse.hessian(lambda x: np.sum(x**3))(np.arange(3)).toarray(), np.diag([0, 6, 12])
    )
    with pytest.raises(TypeError, match="sparse.jacobian: x is of dtype bool, expected float32 or float64"):
        fg.sparse.jacobian(lambda x: x)(np.ones(2, bool))
