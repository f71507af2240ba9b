"""BLAS and LAPACK: finds what the core calls in the library that NumPy has loaded. Importing this hands it to the core.

No second library is loaded and no second thread pool started: a symbol looked up through NumPy's own extension
module is searched in the libraries which that module is linked to, whatever they are called and wherever they
lie. What is found must compute a small case correctly before it is used. Where nothing is found (static or unusual
builds, Windows), `find` and `find_lapack` return None and the core's own kernels do work of every size.
"""

import ctypes
import importlib
from collections.abc import Callable
from typing import NamedTuple

from . import _core

# The names builds of NumPy use, `{}` being s or d, and whether their integers have 64 bits.
_GEMM = (
    ("scipy_cblas_{}gemm64_", True),  # NumPy's wheels
    ("scipy_cblas_{}gemm", False),
    ("cblas_{}gemm64_", True),  # OpenBLAS with 64-bit integers
    ("cblas_{}gemm$NEWLAPACK$ILP64", True),  # Accelerate
    ("cblas_{}gemm$NEWLAPACK", False),
    ("cblas_{}gemm", False),  # reference CBLAS, OpenBLAS, BLIS, MKL
)
_OPENBLAS = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")
_ROW_MAJOR, _NO_TRANSPOSE, _TRANSPOSE = 101, 111, 112


class Blas(NamedTuple):
    """Where the two products are, their integers' width, and what to call the library."""

    sgemm: int
    dgemm: int
    ilp64: bool
    name: str
    handle: ctypes.CDLL


def find() -> Blas | None:
    """The BLAS that NumPy runs on, or None if it cannot be reached or gives a wrong product."""
    try:
        extension = importlib.import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(extension.__file__)
    except (ImportError, OSError, TypeError):
        return None
    for name, ilp64 in _GEMM:
        try:
            sgemm, dgemm = library[name.format("s")], library[name.format("d")]
        except AttributeError:
            continue
        if _multiplies(sgemm, ctypes.c_float, ilp64) and _multiplies(dgemm, ctypes.c_double, ilp64):
            return Blas(_address(sgemm), _address(dgemm), ilp64, _name(library), library)
    return None


def threads(blas: Blas | None) -> int | None:
    """How many threads a large product uses now; None where the library does not say."""
    function = _openblas_function(blas.handle, "get_num_threads") if blas else None
    return int(function()) if function else None


def _address(function: "ctypes._NamedFuncPointer") -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def _multiplies(
    gemm: "ctypes._NamedFuncPointer", real: type[ctypes.c_float] | type[ctypes.c_double], ilp64: bool
) -> bool:
    """Does gemm compute C += A^T B for 2x2 matrices, C having rows of three?"""
    integer = ctypes.c_int64 if ilp64 else ctypes.c_int32
    matrix = ctypes.POINTER(real)
    gemm.restype = None
    gemm.argtypes = [
        *[ctypes.c_int] * 3, *[integer] * 3, real, matrix, integer, matrix, integer, real, matrix, integer
    ]  # fmt: skip
    a, b, c = (real * 4)(1, 2, 3, 4), (real * 4)(5, 6, 7, 8), (real * 6)(1, 1, 9, 1, 1, 9)
    gemm(_ROW_MAJOR, _TRANSPOSE, _NO_TRANSPOSE, 2, 2, 2, 1, a, 2, b, 2, 1, c, 3)
    return list(c) == [27, 31, 9, 39, 45, 9]


def _name(library: ctypes.CDLL) -> str:
    """What OpenBLAS says of itself, such as "OpenBLAS 0.3.30"; other libraries are just a BLAS."""
    function = _openblas_function(library, "get_config")
    if function is None:
        return "BLAS"
    function.restype = ctypes.c_char_p
    return " ".join(function().decode().split()[:2])


def _openblas_function(library: ctypes.CDLL, name: str) -> "ctypes._NamedFuncPointer | None":
    for pattern in _OPENBLAS:
        try:
            return library[pattern.format(name)]
        except AttributeError:
            pass
    return None


# ---- LAPACK ----------------------------------------------------------------------------------------------------------
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


def find_lapack() -> Lapack | None:
    """The LAPACK that NumPy runs on, or None if it cannot be reached, lacks a function or gives a wrong result."""
    try:
        extension = importlib.import_module("numpy.linalg._umath_linalg")
        library = ctypes.CDLL(extension.__file__)
    except (ImportError, OSError, TypeError):
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
            found[name] = _address(single), _address(twice)
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


def use_lapack(lapack: Lapack | None) -> None:
    """Let the core call these functions; None: its own kernels do all."""
    for name in _core.LAPACK_NAMES:
        single, twice = lapack.functions[name] if lapack else (None, None)
        _core.set_lapack(name, single, twice, lapack is not None and lapack.ilp64)


IN_USE = find()
if IN_USE is not None:
    _core.set_blas(IN_USE.sgemm, IN_USE.dgemm, IN_USE.ilp64)
LAPACK_IN_USE = find_lapack()
use_lapack(LAPACK_IN_USE)
