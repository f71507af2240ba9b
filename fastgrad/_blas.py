"""BLAS: finds the matrix product of the library that NumPy has already loaded. Importing this hands it to the core.

No second library is loaded and no second thread pool started: a symbol looked up through NumPy's own extension
module is searched in the libraries which that module is linked to, whatever they are called and wherever they
lie. What is found must multiply correctly before it is used. Where nothing is found (static or unusual builds,
Windows), `find` returns None and the core's own kernel does products of every size.
"""

import ctypes
import importlib
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


def library_of(module: str) -> ctypes.CDLL | None:
    """An extension module of NumPy's as a library, or None if it cannot be reached."""
    try:
        return ctypes.CDLL(importlib.import_module(module).__file__)
    except (ImportError, OSError, TypeError):
        return None


def find() -> Blas | None:
    """The BLAS that NumPy runs on, or None if it cannot be reached or gives a wrong product."""
    if not (library := library_of("numpy._core._multiarray_umath")):
        return None
    for name, ilp64 in _GEMM:
        try:
            sgemm, dgemm = library[name.format("s")], library[name.format("d")]
        except AttributeError:
            continue
        if _multiplies(sgemm, ctypes.c_float, ilp64) and _multiplies(dgemm, ctypes.c_double, ilp64):
            return Blas(address_of(sgemm), address_of(dgemm), ilp64, _name(library), library)
    return None


def threads(blas: Blas | None) -> int | None:
    """How many threads a large product uses now; None where the library does not say."""
    function = _openblas_function(blas.handle, "get_num_threads") if blas else None
    return int(function()) if function else None


def limit_threads(blas: Blas | None, most: int) -> None:
    """Let large products use at most so many threads from now on, if the library is one that can be told."""
    function = _openblas_function(blas.handle, "set_num_threads") if blas else None
    if function and (threads(blas) or 0) > most:
        function(most)


def address_of(function: "ctypes._NamedFuncPointer") -> int:
    """Where the function of a library is, for the core to call."""
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


IN_USE = find()
if IN_USE is not None:
    _core.set_blas(IN_USE.sgemm, IN_USE.dgemm, IN_USE.ilp64)
