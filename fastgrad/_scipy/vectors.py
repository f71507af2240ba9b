"""Functions of nested structures as SciPy calls them: with one float64 vector, and with their derivatives.

`Variables` converts between the vector and the structure that the user's functions take. A `Scalar` or `Vector` is
such a function with its derivatives. SciPy is imported when one of its solvers is called.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._compile.compiled import Compiled
from .._compile.replayed import Replayed
from .._core import Tensor
from .._transforms.arguments import describe_type, tracked_error, with_arrays
from .._transforms.grad import value_and_grad
from .._transforms.jacobian import hessian, hvp, jacfwd, jacrev

_LIKE_X = ("x", "jac", "grad", "lagrangian_grad")  # entries of a result that have the structure of x0


def scipy(name: str, module: str = "scipy.optimize") -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{name}: SciPy is needed and not installed: pip install 'fastgrad[scipy]'") from None


def refuse_native(name: str) -> None:
    """The error of solvers that do not take native=."""
    raise TypeError(f"{name}: native= is not taken; set the environment variable FASTGRAD_NATIVE=1 instead")


class Variables:
    """The structure of x0, and conversion between it and SciPy's vector."""

    def __init__(self, name: str, x0: Any, what: str = "x0", numbers: bool = False) -> None:
        """Integers count as float64; with ``numbers`` lists of numbers count as arrays."""
        self._lists: list[bool] = []
        if numbers:
            given, x0 = x0, with_arrays(x0, f"{name}: {what}")
            self._lists = [type(leaf) is list for leaf in tree.structure(x0).flatten_up_to(given, what)]
        self._name, self._type, self._what = name, type(x0), what
        found, self.structure = tree.flatten(x0)
        paths = self.structure.paths(what)
        leaves = [_float_leaf(_as_float(leaf), f"{name}: {path}") for leaf, path in zip(found, paths)]
        start, self.unravel = tree.ravel(self.structure.unflatten(leaves))
        if not start.size:
            raise ValueError(f"{name}: {what} holds no numbers: {x0!r}")
        self.start = start.astype(np.float64)
        self._parts, at = [], 0
        for a in map(np.asarray, leaves):
            self._parts.append((slice(at, at + a.size), a.shape, a.dtype))
            at += a.size

    def kind(self) -> tuple[Any, ...]:
        """A key that is equal for x0 of one structure with leaves of the same shapes and dtypes."""
        return self.structure, *[(shape, dtype) for _, shape, dtype in self._parts]

    def ends(self) -> np.ndarray:
        """Where the leaves begin in the vector, and where it ends."""
        return np.array([0, *[part.stop for part, _, _ in self._parts]])

    def leaves(self, vector: np.ndarray) -> list[np.ndarray]:
        """The leaves that make up a vector, as ndarrays, which may be views of it."""
        return [vector[part].reshape(shape).astype(dtype, copy=False) for part, shape, dtype in self._parts]

    def vector(self, leaves: Sequence[Any]) -> np.ndarray:
        """The vector that leaves make up, which may be a view of one; None counts as zeros."""
        if len(leaves) == 1 and isinstance(leaves[0], np.ndarray) and leaves[0].dtype == np.float64:
            return leaves[0].reshape(-1)
        vector = np.zeros(self.start.size)
        for (part, _, _), leaf in zip(self._parts, leaves):
            if leaf is not None:
                vector[part] = np.asarray(leaf).reshape(-1)
        return vector

    def not_finite(self, vector: np.ndarray) -> str:
        """In which leaves a vector like x has numbers that are not finite, and how many of how many."""
        told = []
        for path, (part, shape, _) in zip(self.structure.paths(self._what), self._parts):
            if bad := np.count_nonzero(~np.isfinite(vector[part])):
                told.append(f"{path} ({bad} of {part.stop - part.start} numbers)" if shape else path)
        return ", ".join(told)

    def matrix(self, blocks: Sequence[Any]) -> np.ndarray:
        """Derivatives by each leaf, whose last axes are those of the leaf, side by side."""
        sizes = [part.stop - part.start for part, _, _ in self._parts]
        return np.concatenate([np.reshape(block, (-1, n)) for block, n in zip(blocks, sizes) if n], 1, dtype=np.float64)

    def result(self, result: Any) -> Any:
        """SciPy's result, with vectors of x's shape as structures."""
        changed = type(result)(result)
        for key in _LIKE_X:
            value = result.get(key)
            if isinstance(value, np.ndarray) and value.shape == self.start.shape:
                changed[key] = self.unravel(value.copy())
        return changed

    def callback(self, callback: Callable[..., Any] | None, kind: Any) -> Callable[..., Any] | None:
        """A function of vectors for SciPy, which looks at its parameters' names."""
        if callback is None:
            return None
        try:
            names = set(inspect.signature(callback).parameters)
        except (TypeError, ValueError):
            names = set()
        if names == {"intermediate_result"}:

            def call_with_result(intermediate_result: Any) -> Any:
                if not isinstance(intermediate_result, dict):  # TNC passes the vector alone
                    intermediate_result = kind(x=intermediate_result)
                return callback(intermediate_result=self.result(intermediate_result))

            return call_with_result

        def call(x: np.ndarray, *rest: Any) -> Any:
            return callback(self.unravel(x.copy()), *[self.result(r) if isinstance(r, dict) else r for r in rest])

        return call

    def bounds(self, bounds: Any, kind: Any, pair: bool = False) -> Any:
        """As SciPy takes them. `pair`: of a single array they are a pair of arrays, not a sequence of pairs."""
        if isinstance(bounds, kind):
            n = self.start.size
            sides = bounds.lb, bounds.ub, bounds.keep_feasible
            return kind(*[np.ravel(a) if np.size(a) != 1 else np.full(n, a) for a in sides])
        if self.structure == tree.structure(0):
            if bounds is None or not (pair or _is_pair_of_numbers(bounds)):
                return bounds
        elif type(bounds) is not self._type:
            return bounds
        low, high = [], []
        given = self.structure.flatten_up_to(bounds, f"{self._name}: bounds")
        for i, (value, path, (_, shape, _)) in enumerate(zip(given, self.structure.paths("bounds"), self._parts)):
            if self._lists and self._lists[i] and _are_pairs(value, shape):
                value = _sides(value)
            try:
                lower, upper = (None, None) if value is None else value
                low.append(np.broadcast_to(np.asarray(-np.inf if lower is None else lower, np.float64), shape))
                high.append(np.broadcast_to(np.asarray(np.inf if upper is None else upper, np.float64), shape))
            except (TypeError, ValueError):
                raise ValueError(
                    f"{self._name}: {path} is {value!r}, expected a pair (low, high) of numbers, None, or arrays that "
                    f"broadcast to shape {shape}"
                ) from None
        return kind(self.vector(low), self.vector(high))


def _are_pairs(bounds: Any, shape: tuple[int, ...]) -> bool:
    """Whether they are a list of pairs, one for each number of a list."""
    return (
        type(bounds) is list
        and len(shape) == 1
        and len(bounds) == shape[0]
        and all(pair is None or (isinstance(pair, (tuple, list)) and len(pair) == 2) for pair in bounds)
    )


def _sides(pairs: list[Any]) -> tuple[list[Any], list[Any]]:
    """The lower and the upper ends of a list of pairs."""
    whole = [(None, None) if pair is None else pair for pair in pairs]
    return [-np.inf if a is None else a for a, _ in whole], [np.inf if b is None else b for _, b in whole]


def _as_float(leaf: Any) -> Any:
    """A leaf of integers as float64; any other as it is."""
    if isinstance(leaf, int) and not isinstance(leaf, bool):
        return float(leaf)
    if isinstance(leaf, (np.ndarray, np.integer)) and leaf.dtype.kind in "iu" and not _core.is_masked(leaf):
        return leaf.astype(np.float64)
    return leaf


def _is_pair_of_numbers(bounds: Any) -> bool:
    return isinstance(bounds, (tuple, list)) and len(bounds) == 2 and all(b is None or np.ndim(b) == 0 for b in bounds)


def _float_leaf(leaf: Any, path: str) -> Any:
    if isinstance(leaf, Tensor):
        if leaf.requires_grad or _core.tracing():
            raise tracked_error(path)
        leaf = leaf.numpy()
    may_be = isinstance(leaf, (np.ndarray, np.floating, float)) and not _core.is_masked(leaf)
    if may_be and np.asarray(leaf).dtype in (np.float32, np.float64):
        return leaf
    got = f"of dtype {leaf.dtype}" if isinstance(leaf, (np.ndarray, np.generic)) else describe_type(leaf)
    raise TypeError(
        f"{path} is {got}, expected float32 or float64 arrays and numbers: only these can be searched; convert it with "
        "float(x) or x.astype(float)"
    )


class Function:
    """A function of the user's."""

    def __init__(self, name: str, f: Any, variables: Variables, args: Any) -> None:
        if not callable(f):
            raise TypeError(f"{name}: expected a function, got {f!r}")
        self._name, self._f, self._variables = name, f, variables
        self._args = args if isinstance(args, tuple) else (args,)

    def _call(self, leaves: list[Any], *args: Any) -> Any:
        """f on tensors, whether something is differentiated or not."""
        return self._of(self._variables.structure.unflatten(_core.arrays_as_tensors(leaves)), *args)

    def plain(self, x: np.ndarray, *rest: Any) -> Any:
        """f on tensors that are only data, so that nothing is recorded or traced; its result as an ndarray."""
        y = self._call(self._variables.leaves(x.copy()), *rest)
        if isinstance(y, Tensor) and y.requires_grad and _core.in_transform():
            raise self._recorded()
        return y.numpy() if isinstance(y, Tensor) else y

    def _eagerly(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function for eager runs, of which SciPy takes the results as numbers: they must not be recorded."""

        def eager(*args: Any) -> Any:
            found = function(*args)
            if any(isinstance(y, Tensor) and y.requires_grad for y in tree.leaves(found)):
                raise self._recorded()
            return found

        return eager

    def _recorded(self) -> TypeError:
        """The error for results that depend on what is differentiated around the solver."""
        return TypeError(
            f"{self._name}: f reads a tensor that is being differentiated or requires gradients, from outside or in "
            "args, which would silently become a constant: the result cannot be differentiated by it. Pass its "
            ".detach(), or give the result a rule of its own by fastgrad.custom_vjp, as of a minimum or a root by "
            "differentiating its optimality condition"
        )

    def _of(self, x: Any, *rest: Any) -> Any:
        try:
            return self._f(x, *rest, *self._args)
        except TypeError as error:
            if type(x) in (list, tuple) and x and not any(map(np.ndim, x)):
                kind = type(x).__name__
                error.add_note(
                    f"{self._name}: x0 is a {kind} of numbers, so f gets a {kind}; for an array give np.array(x0)"
                )
            raise


def prepared(
    kind: Any, name: str, f: Any, variables: Variables, args: Any, compile: bool, native: Any = None
) -> tuple[Any, Any]:
    """A function as SciPy calls it, a Scalar or Vector, and the args that SciPy is to pass to it.

    args are constants of f's programs, so that they may be anything. Of an f that is compiled they are inputs, and its
    derivatives' programs are kept with f, for the next x0 of the same kind, and are native as f is unless ``native``
    says otherwise.
    """
    if not (compile and isinstance(f, Compiled)):
        return kind(name, f, variables, args, compile, native=native), ()
    native = f.native if native is None else native
    args = args if isinstance(args, tuple) else (args,)
    static = f.static_places(1 + len(args))
    key = name, variables.kind(), variables.structure.insertion_orders(), static, native
    return f.derived(key, lambda: kind(name, f, variables, (), True, static, native)), args


class Scalar(Function):
    """The function to minimise, as SciPy calls it. Arguments behind x are inputs of its programs, but for those at the
    ``static`` places."""

    def __init__(
        self, name: str, f: Any, variables: Variables, args: Any, compile: bool, static: tuple[int, ...] = (),
        native: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(name, f, variables, args)
        both, whole, of_hessian = value_and_grad(self._of_leaves), hessian(self._of_leaves), f"{name}: the Hessian of f"
        self._both = Replayed(both, self._eagerly(both), f"{name}: f", compile, static, native=native)
        self._product = Replayed(self._along, self._eagerly(self._along), of_hessian, compile, static, native=native)
        self._hessian = Replayed(whole, self._eagerly(whole), of_hessian, compile, static, native=native)

    def _of_leaves(self, leaves: list[Tensor], *args: Any) -> Tensor:
        y = self._call(leaves, *args)
        if not isinstance(y, Tensor):
            cure = "; return the number alone" if isinstance(y, tuple) else (
                "; compute with fastgrad's or NumPy's functions on x, not with math or on copies of its values"
            )  # fmt: skip
            raise TypeError(f"{self._name}: f returned {describe_type(y)}, expected a single float tensor{cure}")
        if y.size != 1:
            raise ValueError(
                f"{self._name}: f returned a tensor of shape {y.shape}, expected a single number, such as a sum; "
                "least_squares takes a vector"
            )
        if not y.requires_grad:
            raise TypeError(f"{self._name}: f does not depend on x: it returned a constant")
        return y

    def value(self, x: np.ndarray, *args: Any) -> float:
        """f(x) alone."""
        y = self.plain(x, *args)
        if np.size(y) != 1:
            raise ValueError(
                f"{self._name}: f returned an array of shape {np.shape(y)}, expected a single number, such as a sum"
            )
        return float(y.item() if isinstance(y, (Tensor, np.ndarray)) else y)

    def value_and_gradient(self, x: np.ndarray, *args: Any) -> tuple[float, np.ndarray]:
        """What SciPy takes with jac=True."""
        y, gradients = self._both(self._variables.leaves(x), *args)
        return float(y), self._variables.vector(gradients)

    def _along(self, leaves: Sequence[Any], *args_and_direction: Any) -> Any:
        """The Hessian times a direction, which comes last so that args have the places that they have in f."""
        *args, direction = args_and_direction
        return hvp(lambda leaves: self._of_leaves(leaves, *args), (leaves,), (direction,))

    def hessian_product(self, x: np.ndarray, p: np.ndarray, *args: Any) -> np.ndarray:
        """What SciPy takes as hessp."""
        return self._variables.vector(self._product(self._variables.leaves(x), *args, self._variables.leaves(p)))

    def hessian(self, x: np.ndarray, *args: Any) -> np.ndarray:
        """The whole of it."""
        rows = self._hessian(self._variables.leaves(x), *args)
        return np.concatenate([self._variables.matrix(row) for row in rows])


class Vector(Function):
    """Residuals, equations or a constraint, as SciPy calls them; args as of Scalar."""

    def __init__(
        self, name: str, f: Any, variables: Variables, args: Any, compile: bool, static: tuple[int, ...] = (),
        native: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(name, f, variables, args)
        self._static = static
        values, eager = self._of_leaves, self._eagerly(self._of_leaves)
        self._values = Replayed(values, eager, f"{name}: f", compile, static, native=native)
        self._jacobian: Replayed | None = None
        of_hessian = f"{name}: the Hessian of f"
        self._product = Replayed(self._along, self._eagerly(self._along), of_hessian, compile, static, native=native)

    def _of_leaves(self, leaves: list[Any], *args: Any) -> Any:
        return self._flat(self._call(leaves, *args))

    def _flat(self, y: Any) -> Any:
        """What f returned as one vector."""
        try:
            flat = tree.ravel(y)[0]
        except TypeError as error:
            raise TypeError(f"{self._name}: f must return numbers: {error}") from None
        if not flat.size:
            raise TypeError(
                f"{self._name}: f returned {describe_type(y)} without numbers, expected a tensor or a structure of them"
            )
        return flat

    def _tracked(self, leaves: list[Any], *args: Any) -> Tensor:
        return _core.asarray(self._of_leaves(leaves, *args))  # constants, too, whose derivatives are zeros

    @property
    def traceable(self) -> bool:
        """Whether f is replayed as far as is known: not where it has turned out that it cannot be traced."""
        return self._values.compiled is not None

    def values(self, x: np.ndarray, *args: Any) -> np.ndarray:
        """f(x) as a vector of its own memory."""
        return np.array(self._values(self._variables.leaves(x), *args), np.float64)

    def plain_values(self, x: np.ndarray) -> np.ndarray:
        """f(x) as a vector, for an f that may be no function of tensors."""
        return np.array(tree.ravel(self.plain(x))[0], np.float64)

    def jacobian(self, x: np.ndarray, *args: Any) -> np.ndarray:
        """Its derivatives, a row for each number."""
        if self._jacobian is None:
            transform = jacfwd if self.values(x, *args).size > x.size else jacrev
            matrix = transform(self._tracked)
            of_jacobian, native = f"{self._name}: the Jacobian of f", self._values.native
            eager = self._eagerly(matrix)
            self._jacobian = Replayed(matrix, eager, of_jacobian, self.traceable, self._static, native=native)
        return self._variables.matrix(self._jacobian(self._variables.leaves(x), *args))

    def _along(self, leaves: Sequence[Any], *args_and_rest: Any) -> Any:
        """The Hessian of the sum with some weights times a direction, which come last, in this order."""
        *args, weights, direction = args_and_rest
        return hvp(lambda leaves: _core.sum(weights * self._tracked(leaves, *args)), (leaves,), (direction,))

    def hessian(self, x: np.ndarray, weights: np.ndarray, *args: Any) -> Any:
        """What trust-constr takes as a constraint's hess: the products with it, of which it needs few."""
        leaves = self._variables.leaves(x.copy())

        def product(p: np.ndarray) -> np.ndarray:
            along = self._product(leaves, *args, weights, self._variables.leaves(p.reshape(-1)))
            return np.array(self._variables.vector(along))

        linalg = scipy(self._name, "scipy.sparse.linalg")
        return linalg.LinearOperator((x.size, x.size), product, dtype=np.float64)
