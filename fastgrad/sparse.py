"""Sparse Jacobians and Hessians: many rows from one backward pass, or many columns from one forward pass.

Rows without a common column can be had together: the pass that starts from their sum gives each of them in its own
columns. So the rows are coloured, as few colours as a greedy choice finds, and a Jacobian costs one pass for each
colour: for a banded one as many as the band is wide, whatever n (Curtis, Powell and Reid, "On the estimation of sparse
Jacobian matrices", 1974). Where columns need fewer colours than rows, as those of a matrix with a dense column, forward
passes do the same the other way round.

The sparsity pattern is read off the traced operations (_transforms/sparsity_pattern.py), which misses no entry. Where
that cannot be done, or the pattern is the user's, one more pass compares each result with the Jacobian along a random
direction, so that a pattern that lacks an entry is found out and never gives wrong numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _core, _user_frames, tree
from ._arguments import shown
from ._compile.outside import watch
from ._compile.replayed import Replayed
from ._core import Tensor
from ._numpy.creation import floating
from ._scipy.vectors import Variables, Vector, scipy
from ._transforms.arguments import describe_type
from ._transforms.evaluate import TracedFunction
from ._transforms.grad import named_grad
from ._transforms.linearize import Point, vjp
from ._transforms.sparsity_pattern import pattern as structural
from ._transforms.vmap import vmap

__all__ = ["Jacobian", "hessian", "jacobian", "matmul"]


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


_ADD_AT = _core.OP_NUMBERS["untake"]
_ANY = 2**31 - 2  # colours: as many as are needed
_KINDS = 16  # for how many kinds of x patterns and programs are kept
_SPLIT = 8  # into how many parts blocks of rows are divided while a pattern is searched
_LARGE = 1 << 26  # bytes of all passes, from which on memory is worth more than the time to take it again
_BATCH = 1 << 17  # how many numbers the cotangents and results of passes taken at once may have


def jacobian(f: Callable[[Any], Any], sparsity: Any = None, *, compile: bool = True) -> Jacobian:
    """A function that returns the Jacobian of f as a sparse matrix.

    Parameters
    ----------
    f : callable
        ``f(x)`` returns a tensor, or a nested structure of tensors, in all m numbers.
    sparsity : array_like or scipy.sparse, optional
        Where the Jacobian may be other than zero: its nonzero entries, of shape (m, n). By default it is found by
        tracing f: an entry that some x could make other than zero belongs to it, whatever it is at this one. An f that
        cannot be traced, such as one with a branch on a value, is probed at the first x, by passes from blocks of rows
        that are split until they are single rows: some 8 log8(m) passes for each colour. Where at a later x entries
        turn up that were zero before, they are searched for again; but one that is below the rounding of its column's
        sum (a part of 1e-5 of it in float32, 1e-12 in float64) passes for such, so scale rows that differ by more.
    compile : bool
        Trace f and its backward passes and replay them (``fastgrad.compile``), or run them eagerly after a
        RuntimeWarning if they cannot be traced; False runs them eagerly.

    Returns
    -------
    Jacobian
        ``jacobian(f)(x)`` is a ``scipy.sparse.csr_array`` of float64 and shape (m, n). Its rows are the numbers of
        f(x), its columns those of x, a nested structure of float32 and float64 arrays with n numbers, both in the order
        of ``tree.ravel``; integers in x count as float64. ``.pattern``, ``.colors`` and ``.mode`` tell what was found.

    One dense row together with a dense column makes every row and column a colour of its own; then this is no better
    than a dense Jacobian. A derivative that is not finite may make others of its column nan, or of its row where
    ``.mode`` is "columns": each pass multiplies it, most of them by zero.

    Raises ValueError, naming an entry, where a given sparsity lacks one or has another shape; TypeError where x is no
    float; ImportError if SciPy is not installed.

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
    return Jacobian(named_grad(f, 0, False, "sparse.hessian"), sparsity, compile, "sparse.hessian")


def matmul(matrix: Any, x: Any) -> Tensor:
    """The product of a sparse matrix, a constant, with x: what ``matrix @ x`` is of ndarrays, with gradients to x.

    Parameters
    ----------
    matrix : scipy.sparse array or matrix of shape (m, n)
    x : tensor or array_like of shape (n,) or (n, k)
        For ``x @ matrix`` give ``matrix.T`` and x, or its transpose.

    Returns a float Tensor of shape (m,) or (m, k), of the dtype that NumPy promotes to. Raises TypeError where matrix
    is no sparse one, ValueError where the shapes do not align.

    >>> import fastgrad as fg, numpy as np, scipy.sparse
    >>> a = scipy.sparse.csr_array([[1.0, 2.0], [0.0, 3.0]])
    >>> fg.grad(lambda x: np.sum(fg.sparse.matmul(a, x)))(np.ones(2))
    array([1., 5.])
    """
    if not scipy("sparse.matmul", "scipy.sparse").issparse(matrix):
        raise TypeError(f"sparse.matmul: expected a matrix of scipy.sparse first, got {describe_type(matrix)}")
    if matrix.ndim != 2:
        raise ValueError(f"sparse.matmul: expected a matrix, got an array of shape {matrix.shape}")
    entries, x = matrix.tocoo(), floating(x)
    m, n = matrix.shape
    if x.ndim not in (1, 2) or x.shape[0] != n:
        raise ValueError(
            f"sparse.matmul: shapes {matrix.shape} and {x.shape} do not align: expected x of shape ({n},) or ({n}, k)"
        )
    rows, columns = (_core.asarray(i.astype(np.int64)) for i in (entries.row, entries.col))
    data = entries.data.reshape(-1, *[1] * (x.ndim - 1))
    return _core.apply_op(_ADD_AT, [data * _core.gathered(x, columns, 0), rows], (0, 0, m))


class Jacobian:
    """What ``sparse.jacobian`` returns: call it with x. Of the x it was last called with, `pattern` is the csr_array of
    ones that is known so far, `colors` the colour of each row, or where `mode` is "columns" that of each column, -1 for
    an empty one, all read-only; None before the first call. What belongs to x of some shapes is kept for the next such
    x."""

    pattern: Any = None
    colors: np.ndarray | None = None
    mode: str | None = None

    def __init__(
        self, f: Callable[[Any], Any], sparsity: Any = None, compile: bool = True, name: str = "sparse.jacobian"
    ) -> None:
        """``name`` is the function that the user called, for errors."""
        if not callable(f):
            raise TypeError(f"{name}: expected a function, got {f!r}")
        if not (sparsity is None or hasattr(sparsity, "tocsr") or np.asarray(sparsity).dtype.kind in "biufc"):
            raise TypeError(
                f"{name}: sparsity is {shown(sparsity)}, expected None, to find the pattern, or a matrix of shape "
                "(m, n), an array or of scipy.sparse, that is nonzero where the Jacobian may be"
            )
        self._f, self._given, self._compile, self._name = f, sparsity, compile, name
        self._rows: dict[Any, _Rows] = {}

    def __call__(self, x: Any, *more: Any) -> Any:
        if more:
            raise TypeError(
                f"{self._name}: f is differentiated by x alone, got {len(more)} argument{'s' * (len(more) > 1)} "
                "more; let f read it from outside, as in "
                f"fastgrad.{self._name}(lambda x: f(x, a)), a constant of it"
            )
        sparse = scipy(self._name, "scipy.sparse")
        variables = Variables(self._name, x, "x")
        kind = variables.kind()
        rows = self._rows.get(kind)
        changed = rows is not None and rows.outside is not None and not rows.outside.holds()
        if rows is None or (changed and not _core.transforming()):
            rows = _Rows(self._f, variables, self._compile, self._name)
            self._start(rows, variables.start, sparse)
            if rows.outside is not None:
                rows.outside.forget_changes()  # by f itself, such as those of a counter
            if kind not in self._rows and len(self._rows) == _KINDS:
                self._rows.pop(next(iter(self._rows)))
            self._rows[kind] = rows
        self.pattern, self.colors, self.mode = rows.pattern, rows.colors, rows.mode
        result, right = rows.compressed(variables.start)
        if rows.gave_up() or (changed and _core.transforming()):
            self._know(self.pattern, rows, variables.start, checked=True)
            result, right = rows.compressed(variables.start)
        if not right:
            found = rows.search(variables.start, sparse)
            missing = found > found.multiply(self.pattern)
            if missing.nnz and self._given is not None:
                i, j = (int(k[0]) for k in missing.nonzero())
                raise ValueError(
                    f"{self._name}: entry ({i}, {j}) of the Jacobian is not zero, but sparsity lacks it"
                    + (f", as it lacks {missing.nnz - 1} more" if missing.nnz > 1 else "")
                )
            if missing.nnz:
                self._know(self.pattern + found, rows, variables.start, checked=True)
                result, _ = rows.compressed(variables.start)
        return result

    def _start(self, rows: _Rows, x: np.ndarray, sparse: Any) -> None:
        """Find the pattern, or check whether the given one holds for every x."""
        traced = rows.traced(x, sparse)
        if self._given is None:
            found = rows.search(x, sparse) if traced is None else traced.tocsr()
            self._know(found, rows, x, checked=traced is None, by_columns=traced)
            return
        given = sparse.csr_array(self._given, copy=True) != 0  # which sums duplicates in place
        if given.shape != (rows.m, x.size):
            raise ValueError(
                f"{self._name}: sparsity has shape {given.shape}, expected {(rows.m, x.size)}: a row for each "
                "number of f(x), a column for each of x"
            )
        self._know(given, rows, x, checked=traced is None or (traced.tocsr() > given).nnz > 0)

    def _know(self, pattern: Any, rows: _Rows, x: np.ndarray, checked: bool, by_columns: Any = None) -> None:
        """Compute the Jacobian with these nonzero entries from now on; ``by_columns`` has the same, as a csc_array."""
        indptr, indices = _index(pattern.indptr, pattern.indices)
        pattern = type(pattern)((np.ones(indices.size, np.int8), indices, indptr), pattern.shape)
        pattern.sort_indices()

        transposed = pattern.tocsc() if by_columns is None else by_columns

        def color_rows(most: int = _ANY) -> Any:
            return _core.color_rows(pattern.indptr, pattern.indices, x.size, most)

        def color_columns(most: int = _ANY) -> Any:
            return _core.color_rows(transposed.indptr, transposed.indices, rows.m, most)

        # Rows with an entry in one column have different colours, and so have columns with one in a row.
        least_by_rows = int(np.diff(transposed.indptr).max())
        least_by_columns = int(np.diff(pattern.indptr).max())
        in_rows: Any = color_rows() if least_by_rows <= least_by_columns else None
        in_columns: Any = None
        if in_rows is None:
            in_columns = color_columns()
            if least_by_rows <= in_columns[1]:
                in_rows = color_rows(in_columns[1])
        elif least_by_columns < in_rows[1]:
            in_columns = color_columns(in_rows[1] - 1)
        fewer = in_columns is not None and (in_rows is None or in_columns[1] < in_rows[1])
        forward = fewer and rows.goes_forward(x)
        colors, _ = in_columns if forward else in_rows or color_rows()
        rows.color(pattern, colors, forward, checked)
        self.pattern, self.colors, self.mode = rows.pattern, rows.colors, rows.mode


class _Rows(Vector):
    """The rows of a Jacobian by backward passes, or its columns by forward passes, at vectors x of one kind."""

    def __init__(self, f: Callable[[Any], Any], variables: Variables, compile: bool, name: str) -> None:
        self.outside = watch(f)  # the pattern is found anew where f reads something else than before
        super().__init__(name, f, variables, (), compile)
        self._values = Replayed(self._measured, self._eagerly(self._measured), f"{name}: f", compile)
        found = self._values(variables.leaves(variables.start))  # from a trace, which computes nothing
        self._dtype = np.result_type(*[dtype for _, dtype in found])
        self._ends = np.cumsum([0, *[size for size, _ in found]])  # between the leaves of f(x)
        self.m = int(self._ends[-1])
        self._traceable = self.traceable  # if not, a warning has told so, and the passes are not tried
        del self._values  # with its program
        self._random = np.random.default_rng(0)

    def _pieces(self, leaves: list[Any]) -> list[Tensor]:
        """The leaves of f(x) as vectors."""
        y = self._call(leaves)
        self._flat(y)  # refuses what are no numbers
        return [_core.asarray(leaf).reshape(-1) for leaf in tree.leaves(y)]

    def _measured(self, leaves: list[Any]) -> list[tuple[int, str]]:
        return [(y.size, y.dtype.str) for y in self._pieces(leaves)]

    def _combined(self, leaves: list[Any], weights: Any) -> Any:
        """The sum of the rows with these weights, leaf by leaf."""
        return vjp(self._tracked, leaves)[1](weights)[0]

    def _weights(self, chosen: np.ndarray) -> np.ndarray:
        """Random weights where a mask is true, else zero: sums with them do not vanish by accident."""
        return np.where(chosen, self._random.uniform(0.5, 1.5, chosen.size), 0).astype(self._dtype)

    def traced(self, x: np.ndarray, sparse: Any) -> Any:
        """The pattern for all x, by columns; None if f cannot be traced, or runs eagerly and may compute something else
        later."""
        if not self._traceable:
            return None
        y = _core.tensor(np.ones(self.m, self._dtype))
        found = structural(self._combined, self._variables.leaves(x), y)
        if found is None:
            return None
        start, rows = _index(*found)
        return sparse.csc_array((np.ones(rows.size, np.int8), rows, start), (self.m, x.size))

    def goes_forward(self, x: np.ndarray) -> bool:
        """Whether all operations of f have forward rules."""
        leaves = self._variables.leaves(x)

        def push(xs: list[Any]) -> list[Any]:
            return Point(self._name, self._tracked, (xs[: len(leaves)],), keep=True).push(xs[len(leaves) :])

        try:
            try:  # without values, if f can be traced
                TracedFunction(
                    lambda: [_core.abstract_like(a) for a in 2 * leaves], push, lambda: _constants(2 * leaves)
                )
            except _core.TraceError:
                push(_constants(leaves) + _constants([np.zeros_like(leaf) for leaf in leaves]))
        except (NotImplementedError, TypeError) as error:
            if _user_frames.is_from_signal(error):
                raise
            return False
        return True

    def search(self, x: np.ndarray, sparse: Any) -> Any:
        """The pattern at x, by passes from sums of rows: blocks of rows that share no column are split in one pass."""
        pull, row = self._pulled(self._variables.leaves(x)), np.arange(self.m)
        size = _SPLIT
        while size < self.m:
            size *= _SPLIT
        block, column = np.zeros(x.size, np.int64), np.arange(x.size)
        while size > 1:
            colors = _colors(block, column, -(-self.m // size))
            parent, size = row // size, size // _SPLIT
            child, found = row // size, []
            passes = []
            for color in range(colors.max(initial=-1) + 1):
                for part in range(_SPLIT):
                    weights = self._weights((colors[parent] == color) & (child % _SPLIT == part))
                    if weights.any():
                        passes.append((color, part, weights))
            for (color, part, _), sums in zip(passes, pull([weights for _, _, weights in passes])):
                mine = np.flatnonzero(colors[block] == color)
                hit = mine[sums[column[mine]] != 0]
                found.append((block[hit] * _SPLIT + part, column[hit]))
            block, column = (np.concatenate(a) for a in zip(*found)) if found else (block[:0], column[:0])
            order = np.argsort(block, kind="stable")
            block, column = block[order], column[order]
        return sparse.csr_array((np.ones(block.size, np.int8), (block, column)), (self.m, x.size))

    def _pulled(self, leaves: list[Any]) -> Callable[[list[np.ndarray]], Iterator[np.ndarray]]:
        """A function from weights to the sums of rows with these, of which many are had from one pass."""
        pull = vjp(self._tracked, leaves)[1]
        at_once = max(1, _BATCH // (self.m + self._variables.start.size))

        def sums(weights: list[np.ndarray]) -> Iterator[np.ndarray]:
            for start in range(0, len(weights), at_once):
                some = weights[start : start + at_once]
                try:
                    mapped = vmap(lambda w: pull(w)[0])(np.stack(some))
                except Exception as error:  # a rule that cannot be mapped: plain passes are right, or raise the same
                    if _user_frames.is_from_signal(error):
                        raise
                    mapped = None
                if mapped is not None:
                    yield from np.concatenate([np.asarray(leaf).reshape(len(some), -1) for leaf in mapped], axis=1)
                else:
                    yield from (self._variables.vector(pull(w)[0]) for w in some)

        return sums

    def color(self, pattern: Any, colors: np.ndarray, forward: bool, checked: bool) -> None:
        """Compute the Jacobian in this pattern by these colours from now on, of columns if forward, and ``checked``
        against one random direction."""
        self._check = self._weights(np.ones(colors.size, bool)) if checked else None
        count = int(colors.max(initial=-1)) + 1
        self.pattern, self.colors, self.mode = pattern, colors.astype(np.int64), "columns" if forward else "rows"
        self._forward = forward
        for array in (pattern.data, pattern.indices, pattern.indptr, self.colors):
            array.flags.writeable = False  # they can be read from outside, and each call relies on them

        def passes(leaves: list[Any]) -> list[list[Any]]:
            """The sum of the rows or columns of each colour, and the result of the random direction, leaf by leaf; None
            for leaves that are all zero."""
            seeds: Iterator[np.ndarray] = ((colors == color).astype(self._dtype) for color in range(count))
            if self._check is not None:
                seeds = itertools.chain(seeds, [self._check])
            if forward:
                point = Point(self._name, self._pieces, (leaves,), keep=True, any_numbers=True)
                found = [point.push(self._tangents(seed), drop_zeros=True, fill=False) for seed in seeds]
            else:
                pull, ends = vjp(self._pieces, leaves)[1], self._ends
                found = [pull([seed[a:b] for a, b in itertools.pairwise(ends)])[0] for seed in seeds]
            return [[*map(_result, parts)] for parts in found]

        self._passes = Replayed(passes, self._eagerly(passes), f"{self._name}: f", self._traceable)

    def _tangents(self, seed: np.ndarray) -> list[Any]:
        """The leaves of a direction as tensors, None for those that are all zero."""
        return [_core.tensor(leaf) if leaf.any() else None for leaf in self._variables.leaves(seed)]

    def compressed(self, x: np.ndarray) -> tuple[Any, bool]:
        """The Jacobian at x, and whether it agrees with one more pass, for a weighted sum of its rows or columns."""
        ends = self._ends if self._forward else self._variables.ends()
        found = [
            [y.numpy() if isinstance(y, Tensor) else y for y in parts]  # refused if f reads what is differentiated
            for parts in self._passes(self._variables.leaves(x))
        ]
        pattern, total = self.pattern, None if self._check is None else _joined(found.pop(), ends)
        if sum(y.nbytes for parts in found for y in parts if y is not None) >= _LARGE:
            self._passes.release_memory()  # before the entries take more
        data = _core.entries_of_passes(pattern.indptr, pattern.indices, self.colors, self._forward, ends, found)
        found.clear()  # lets go of their memory
        result = type(pattern)((data, pattern.indices.copy(), pattern.indptr.copy()), pattern.shape)
        if total is None:
            return result, True
        return result, self._agrees(total, (result if self._forward else result.T) @ self._check, data)

    def gave_up(self) -> bool:
        """Whether f has turned out to run eagerly after its pattern was read off a trace."""
        return self._check is None and self._passes.compiled is None

    def _agrees(self, total: np.ndarray, expected: np.ndarray, data: np.ndarray) -> bool:
        """Whether two sums, which are overwritten, differ by rounding only; data are the terms."""
        assert self._check is not None
        tolerance = float(np.finfo(self._dtype).eps) ** 0.75
        with np.errstate(invalid="ignore"):
            off = np.abs(np.subtract(total, expected, out=total), out=total)
            doubtful = off > np.multiply(np.abs(expected, out=expected), tolerance, out=expected)
            if not doubtful.any():
                return True
            # Of each entry: the row or column that has its colour, and its place in that colour's pass.
            row = np.repeat(np.arange(self.m), np.diff(self.pattern.indptr))
            of, to = (self.pattern.indices, row) if self._forward else (row, self.pattern.indices)
            entries = np.flatnonzero(doubtful[to])  # of sums that may have cancelled
            terms = np.abs(data[entries]) * self._check[of[entries]]
            scale = np.bincount(to[entries], terms, off.size)
            return not (off > tolerance * scale)[doubtful].any()


def _index(start: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
    """Both arrays of one dtype, as SciPy takes them, and of the narrower one where they fit."""
    largest = max(columns.size, int(columns.max(initial=0)))
    dtype = np.int32 if largest < 2**31 else np.int64
    return [a.astype(dtype, copy=False) for a in (start, columns)]


def _constants(leaves: list[np.ndarray]) -> list[Any]:
    return [_core.tensor(leaf) for leaf in leaves]


def _result(y: Any) -> Any:
    """A leaf of a pass as the passes return it: None, and what an outer trace or transform reads, as they are."""
    return _core.own(y) if isinstance(y, Tensor) and not (_core.tracing() or y.requires_grad) else y


def _joined(leaves: list[Any], ends: np.ndarray) -> np.ndarray:
    """All numbers of some leaves as one vector of float64; None is zeros."""
    vector = np.zeros(ends[-1])
    for (start, end), leaf in zip(itertools.pairwise(ends), leaves):
        if leaf is not None:
            vector[start:end] = leaf.reshape(-1)
    return vector


def _colors(rows: np.ndarray, columns: np.ndarray, n_rows: int) -> np.ndarray:
    """Colours for the rows of a matrix whose entries are sorted by rows."""
    start = np.searchsorted(rows, np.arange(n_rows + 1))
    return _core.color_rows(start, columns, int(columns.max(initial=-1)) + 1)[0]  # type: ignore[index]
