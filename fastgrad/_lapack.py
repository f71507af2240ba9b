"""LAPACK: finds the functions of csrc/lapack.def in the library that NumPy has loaded, as `_blas` finds the matrix
product. Importing this, which the first use of linear algebra does, hands them to the core.

What is found must compute a small case correctly before it is used. Where a function is missing, `find` returns None
and the core's own kernels do work of every size.
"""

import ctypes
from collections.abc import Callable
from typing import NamedTuple

from . import _core
from ._blas import address_of, library_of

# The names of Fortran functions, `{}` being a letter for the type and a name of csrc/lapack.def, and whether their
# integers have 64 bits.
_LAPACK = (
    ("scipy_{}_64_", True),  # NumPy's wheels
    ("scipy_{}_", False),
    ("{}_64_", True),  # OpenBLAS and LAPACK with 64-bit integers
    ("{}$NEWLAPACK$ILP64", True),  # Accelerate
    ("{}$NEWLAPACK", False),
    ("{}_", False),  # reference LAPACK, OpenBLAS, MKL
)
_Function = Callable[..., None]
_Real = type[ctypes.c_float] | type[ctypes.c_double]
_Integer = type[ctypes.c_int64] | type[ctypes.c_int32]


class Lapack(NamedTuple):
    """Where the functions of csrc/lapack.def are, for float32 and float64, and their integers' width."""

    functions: dict[str, tuple[int, int]]
    ilp64: bool


def find() -> Lapack | None:
    """The LAPACK that NumPy runs on, or None if it cannot be reached, lacks a function or gives a wrong result."""
    if not (library := library_of("numpy.linalg._umath_linalg")):
        return None
    for pattern, ilp64 in _LAPACK:
        integer: _Integer = ctypes.c_int64 if ilp64 else ctypes.c_int32
        found: dict[str, tuple[int, int]] = {}
        for name in _core.LAPACK_NAMES:
            try:
                single, twice = library[pattern.format("s" + name)], library[pattern.format("d" + name)]
            except AttributeError:
                break
            check = _CASES[name]
            if not (check(single, ctypes.c_float, integer) and check(twice, ctypes.c_double, integer)):
                break
            found[name] = address_of(single), address_of(twice)
        if len(found) == len(_core.LAPACK_NAMES):
            return Lapack(found, ilp64)
    return None


# A small case for each function, with matrices by columns. A status or pivot begins as -1: a function that writes only
# half of it has narrower integers than its name says.
def _called(function: _Function, *arguments: object, strings: int) -> None:
    """Call a function of Fortran: every argument by address, and after them the lengths of those that are strings."""
    by_address = [a if isinstance(a, (bytes, ctypes.Array)) else ctypes.byref(a) for a in arguments]  # type: ignore
    function(*by_address, *[ctypes.c_size_t(1)] * strings)


def _solves_triangles(function: _Function, real: _Real, integer: _Integer) -> bool:
    """Does trsm solve X A = B for an upper triangle A, rows of B being the fastest axis?"""
    n, one = integer(2), real(1)
    a, b = (real * 4)(2, 9, 1, 4), (real * 4)(2, 4, 5, 14)
    _called(function, b"R", b"U", b"N", b"N", n, n, one, a, n, b, n, strings=4)
    return list(b) == [1, 2, 1, 3]


def _finds_cholesky_factors(function: _Function, real: _Real, integer: _Integer) -> bool:
    n, status = integer(2), integer(-1)
    a = (real * 4)(4, 7, 2, 10)
    _called(function, b"U", n, a, n, status, strings=1)
    return list(a) == [2, 7, 1, 3] and status.value == 0


def _finds_lu_factors(function: _Function, real: _Real, integer: _Integer) -> bool:
    n, status, pivots = integer(2), integer(-1), (integer * 2)(-1, -1)
    a = (real * 4)(1, 2, 3, 4)
    _called(function, n, n, a, n, pivots, status, strings=0)
    return list(a) == [2, 0.5, 4, 1] and list(pivots) == [2, 2] and status.value == 0


def _finds_symmetric_eigenvalues(function: _Function, real: _Real, integer: _Integer) -> bool:
    n, status, size = integer(2), integer(-1), integer(50)
    a, w = (real * 4)(2, 0, 0, 1), (real * 2)()
    _called(function, b"V", b"L", n, a, n, w, (real * 50)(), size, (integer * 50)(), size, status, strings=2)
    return list(w) == [1, 2] and [abs(x) for x in a] == [0, 1, 1, 0] and status.value == 0


def _finds_singular_values(function: _Function, real: _Real, integer: _Integer) -> bool:
    n, status, size = integer(2), integer(-1), integer(100)
    a, s, u, v = (real * 4)(1, 0, 0, 2), (real * 2)(), (real * 4)(), (real * 4)()
    work, more = (real * 100)(), (integer * 16)()
    _called(function, b"S", n, n, a, n, s, u, n, v, n, work, size, more, status, strings=1)
    vectors = [[abs(x) for x in y] for y in (u, v)]
    return list(s) == [2, 1] and vectors == [[0, 1, 1, 0]] * 2 and status.value == 0


def _finds_qr_factors(function: _Function, real: _Real, integer: _Integer) -> bool:
    n, one, status, size = integer(2), integer(1), integer(-1), integer(64)
    a, tau = (real * 2)(3, 4), (real * 1)()
    _called(function, n, one, a, n, tau, (real * 64)(), size, status, strings=0)
    return abs(a[0] + 5) + abs(a[1] - 0.5) + abs(tau[0] - 1.6) < 1e-5 and status.value == 0


def _makes_orthogonal_factors(function: _Function, real: _Real, integer: _Integer) -> bool:
    n, one, status, size = integer(2), integer(1), integer(-1), integer(64)
    a = (real * 2)(-5, 0.5)
    _called(function, n, one, one, a, n, (real * 1)(1.6), (real * 64)(), size, status, strings=0)
    return abs(a[0] + 0.6) + abs(a[1] + 0.8) < 1e-5 and status.value == 0


def _finds_eigenvalues(function: _Function, real: _Real, integer: _Integer) -> bool:
    n, status, size = integer(2), integer(-1), integer(64)
    a, w, i, v = (real * 4)(1, 0, 0, 2), (real * 2)(), (real * 2)(5, 5), (real * 4)()
    _called(function, b"N", b"V", n, a, n, w, i, (real * 4)(), n, v, n, (real * 64)(), size, status, strings=2)
    return [*w, *i] == [1, 2, 0, 0] and [abs(x) for x in v] == [1, 0, 0, 1] and status.value == 0


_CASES: dict[str, Callable[[_Function, _Real, _Integer], bool]] = {
    "trsm": _solves_triangles,
    "potrf": _finds_cholesky_factors,
    "getrf": _finds_lu_factors,
    "syevd": _finds_symmetric_eigenvalues,
    "gesdd": _finds_singular_values,
    "geqrf": _finds_qr_factors,
    "orgqr": _makes_orthogonal_factors,
    "geev": _finds_eigenvalues,
}


def use(lapack: Lapack | None) -> None:
    """Let the core call these functions; None: its own kernels do all."""
    for name in _core.LAPACK_NAMES:
        single, twice = lapack.functions[name] if lapack else (None, None)
        _core.set_lapack(name, single, twice, lapack is not None and lapack.ilp64)


IN_USE = find()
use(IN_USE)
