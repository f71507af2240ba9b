"""Sparse Jacobians and Hessians: many rows from one backward pass.

Rows without a common column can be had together: the pass that starts from their sum gives each of them in its own
columns. So the rows are coloured, as few colours as a greedy choice finds, and a Jacobian costs one pass for each
colour: for a banded one as many as the band is wide, whatever n (Curtis, Powell and Reid, "On the estimation of sparse
Jacobian matrices", 1974). A pass more compares the result with the Jacobian along one random direction, so that a
pattern that lacks an entry is found out and never gives wrong numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._compile import Replayed
from ._linear import vjp
from ._minimize import _Variables, _Vector, _scipy
from ._transforms import _grad

__all__ = ["Jacobian", "hessian", "jacobian"]

_SPLIT = 8  # into how many parts blocks of rows are divided while a pattern is searched


def jacobian(f: Callable[[Any], Any], sparsity: Any = None, *, compile: bool = True) -> Jacobian:
    """A function that returns the Jacobian of f as a sparse matrix.

    Parameters
    ----------
    f : callable
        ``f(x)`` returns a tensor, or a nested structure of tensors, in all m numbers.
    sparsity : array_like or scipy.sparse, optional
        Where the Jacobian may be other than zero: its nonzero entries, of shape (m, n). By default it is found at the
        first x, by passes from blocks of rows that are split until they are single rows: some 8 log8(m) passes for
        each colour. Where at a later x entries turn up that were zero before, they are searched for again.
    compile : bool
        Record f and its backward passes and replay them (``fastgrad.compile``), or run them eagerly after one
        RuntimeWarning if they cannot be recorded; False runs them eagerly.

    Returns
    -------
    Jacobian
        ``jacobian(f)(x)`` is a ``scipy.sparse.csr_array`` of shape (m, n). Its rows are the numbers of f(x), its
        columns those of x, a nested structure of float32 and float64 arrays with n numbers, both in the order of
        ``tree.ravel``. ``.pattern`` and ``.colors`` tell what was found.

    One dense column makes every row a colour of its own; then this is no better than a dense Jacobian. A derivative
    that is not finite may make others in its columns nan.

    Raises ValueError, naming an entry, where a given sparsity lacks one or has another shape; TypeError where x is no
    float or f(x) does not depend on it; ImportError if SciPy is not installed.

    >>> import fastgrad as fg, numpy as np
    >>> jacobian = fg.sparse.jacobian(lambda x: (x[1:] - x[:-1]) ** 2)
    >>> jacobian(np.array([1.0, 2.0, 4.0, 3.0])).toarray()
    array([[-2.,  2.,  0.,  0.],
           [ 0., -4.,  4.,  0.],
           [ 0.,  0.,  2., -2.]])
    >>> jacobian.colors
    array([0, 1, 0])
    """
    return Jacobian(f, sparsity, compile)


def hessian(f: Callable[[Any], Any], sparsity: Any = None, *, compile: bool = True) -> Jacobian:
    """A function that returns the Hessian of f, which returns a single number, as a sparse matrix of shape (n, n).

    It is the Jacobian of the gradient: everything else is as for ``jacobian``. Its symmetry is not made use of.

    >>> import fastgrad as fg, numpy as np
    >>> hessian = fg.sparse.hessian(lambda x: np.sum(x[1:] * x[:-1] ** 2))
    >>> hessian(np.array([1.0, 2.0, 4.0])).toarray()
    array([[4., 2., 0.],
           [2., 8., 4.],
           [0., 4., 0.]])
    """
    return Jacobian(_grad(f, 0, False, "sparse.hessian"), sparsity, compile)


class Jacobian:
    """What ``sparse.jacobian`` returns: call it with x. `pattern` is the csr_array of ones that is known so far,
    `colors` the colour of each row; both None before the first call."""

    pattern: Any = None
    colors: np.ndarray | None = None

    def __init__(self, f: Callable[[Any], Any], sparsity: Any = None, compile: bool = True) -> None:
        if not callable(f):
            raise TypeError(f"sparse.jacobian: expected a function, got {f!r}")
        self._f, self._given, self._compile = f, sparsity, compile
        self._rows: _Rows | None = None

    def __call__(self, x: Any) -> Any:
        sparse = _scipy("sparse.jacobian", "scipy.sparse")
        variables = _Variables("sparse.jacobian", x, "x")
        rows = self._rows
        if rows is None or not rows.fits(variables):
            rows = self._rows = _Rows(self._f, variables, self._compile)
            self._know(self._first_pattern(rows, variables.start, sparse), rows)
        result, right = rows.compressed(variables.start)
        if not right:
            found = rows.search(variables.start, sparse)
            missing = found > found.multiply(self.pattern)
            if missing.nnz and self._given is not None:
                i, j = (int(k[0]) for k in missing.nonzero())
                raise ValueError(
                    f"sparse.jacobian: entry ({i}, {j}) of the Jacobian is not zero, but sparsity lacks it"
                    + (f", as it lacks {missing.nnz - 1} more" if missing.nnz > 1 else "")
                )
            if missing.nnz:
                self._know(self.pattern + found, rows)
                result, _ = rows.compressed(variables.start)
        return result

    def _first_pattern(self, rows: _Rows, x: np.ndarray, sparse: Any) -> Any:
        if self._given is None:
            return rows.search(x, sparse)
        given = sparse.csr_array(self._given)
        if given.shape != (rows.m, x.size):
            raise ValueError(
                f"sparse.jacobian: sparsity has shape {given.shape}, expected {(rows.m, x.size)}: a row for each "
                "number of f(x), a column for each of x"
            )
        return given

    def _know(self, pattern: Any, rows: _Rows) -> None:
        pattern = (pattern != 0).tocsr().astype(np.int8)
        pattern.sort_indices()
        self.pattern = pattern
        entries = pattern.tocoo()
        self.colors = _colors(entries.row, entries.col, rows.m)
        rows.color(pattern, self.colors)


class _Rows(_Vector):
    """The rows of a Jacobian by backward passes at vectors x of one kind."""

    def __init__(self, f: Callable[[Any], Any], variables: _Variables, compile: bool) -> None:
        super().__init__("sparse.jacobian", f, variables, (), compile)
        y = self._values(variables.leaves(variables.start))
        self.m, self._dtype, self._compile = y.size, np.dtype(y.dtype), compile
        self._pull = Replayed(self._combined, self._combined, "sparse.jacobian: f", compile)
        self._random = np.random.default_rng(0)

    def fits(self, variables: _Variables) -> bool:
        """Whether the x of these variables has the structure, shapes and dtypes of ours."""
        return self._variables.alike(variables)

    def _combined(self, leaves: list[Any], weights: Any) -> Any:
        """The sum of the rows with these weights, leaf by leaf."""
        return vjp(self._tracked, leaves)[1](weights)[0]

    def _weights(self, rows: np.ndarray) -> np.ndarray:
        """Random weights for the rows of a mask, zero for others; sums do not vanish by accident."""
        return np.where(rows, self._random.uniform(0.5, 1.5, self.m), 0).astype(self._dtype)

    def search(self, x: np.ndarray, sparse: Any) -> Any:
        """The pattern at x. Blocks of rows that have no column in common are told apart in one pass."""
        leaves, row = self._variables.leaves(x), np.arange(self.m)
        size = _SPLIT
        while size < self.m:
            size *= _SPLIT
        block, column = np.zeros(x.size, np.int64), np.arange(x.size)
        while size > 1:
            colors = _colors(block, column, -(-self.m // size))
            parent, size = row // size, size // _SPLIT
            child, found = row // size, []
            for color in range(colors.max(initial=-1) + 1):
                mine = np.flatnonzero(colors[block] == color)
                for part in range(_SPLIT):
                    weights = self._weights((colors[parent] == color) & (child % _SPLIT == part))
                    if weights.any():
                        sums = self._variables.vector(self._pull(leaves, weights))
                        hit = mine[sums[column[mine]] != 0]
                        found.append((block[hit] * _SPLIT + part, column[hit]))
            block, column = (np.concatenate(a) for a in zip(*found)) if found else (block[:0], column[:0])
            order = np.argsort(block, kind="stable")
            block, column = block[order], column[order]
        return sparse.csr_array((np.ones(block.size, np.int8), (block, column)), (self.m, x.size))

    def color(self, pattern: Any, colors: np.ndarray) -> None:
        """Compute the Jacobian in this pattern by these colours from now on."""
        seeds = [(colors == color).astype(self._dtype) for color in range(colors.max(initial=-1) + 1)]
        self._check = self._weights(np.ones(self.m, bool))
        seeds.append(self._check)
        self._pattern = pattern
        self._row = np.repeat(np.arange(self.m), np.diff(pattern.indptr))
        self._entries = [np.flatnonzero(colors[self._row] == color) for color in range(len(seeds) - 1)]
        self._columns = [pattern.indices[entries] for entries in self._entries]

        def passes(leaves: list[Any]) -> list[Any]:
            pullback = vjp(self._tracked, leaves)[1]
            return [pullback(seed)[0] for seed in seeds]

        self._passes = Replayed(passes, passes, "sparse.jacobian: f", self._compile)

    def compressed(self, x: np.ndarray) -> tuple[Any, bool]:
        """The Jacobian at x, and whether its rows with random weights are what one more pass gives for their sum."""
        *sums, total = [self._variables.vector(g) for g in self._passes(self._variables.leaves(x))]
        pattern = self._pattern
        data, taken = np.empty(pattern.nnz), np.empty(x.size)  # few temporaries: new memory costs more than the work
        for entries, columns, g in zip(self._entries, self._columns, sums):
            data[entries] = g.take(columns, out=taken[: columns.size], mode="clip")
        result = type(pattern)((data, pattern.indices.copy(), pattern.indptr.copy()), pattern.shape)
        return result, self._agrees(total, result.T @ self._check, data)

    def _agrees(self, total: np.ndarray, expected: np.ndarray, data: np.ndarray) -> bool:
        """Whether two sums over columns, which are overwritten, differ by rounding only; data are the terms."""
        tolerance = float(np.finfo(self._dtype).eps) ** 0.75
        with np.errstate(invalid="ignore"):
            off = np.abs(np.subtract(total, expected, out=total), out=total)
            doubtful = off > np.multiply(np.abs(expected, out=expected), tolerance, out=expected)
            if not doubtful.any():
                return True
            entries = np.flatnonzero(doubtful[self._pattern.indices])  # of sums that may have cancelled
            terms = np.abs(data[entries]) * self._check[self._row[entries]]
            scale = np.bincount(self._pattern.indices[entries], terms, off.size)
            return not (off > tolerance * scale)[doubtful].any()


def _colors(rows: np.ndarray, columns: np.ndarray, n_rows: int) -> np.ndarray:
    """A colour for each row such that no two of one colour share a column, the first that is free; -1 for empty rows.

    The entries are sorted by rows. The colours that a column has are the bits of a number.
    """
    taken = [0] * (int(columns.max(initial=-1)) + 1)
    colors = np.full(n_rows, -1)
    starts = np.searchsorted(rows, np.arange(n_rows + 1)).tolist()
    listed = columns.tolist()
    for row, (start, end) in enumerate(zip(starts, starts[1:])):
        if start == end:
            continue
        mine, used = listed[start:end], 0
        for column in mine:
            used |= taken[column]
        bit = ~used & (used + 1)
        for column in mine:
            taken[column] |= bit
        colors[row] = bit.bit_length() - 1
    return colors
