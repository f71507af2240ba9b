"""Linear algebra that compiles: the functions of ``numpy.linalg``, and some of ``scipy.linalg``, for tensors.

They take a matrix or a stack of matrices in the last two axes, float32 or float64; where they factor or decompose it,
integers are taken as float64. They have gradients of every order and run under every transform. In compiled programs
factorizations, decompositions and solutions are instructions, and the rest is composed of them. Large matrices are
given to the LAPACK that NumPy has loaded; small ones, and all where there is none, have kernels of their own. A matrix
that is singular, not positive definite or not square raises ``numpy.linalg.LinAlgError``, which names the function and
the matrix of the stack, also from a compiled call. docs/linear-algebra.md and docs/decompositions.md list the
functions.

>>> import fastgrad as fg, numpy as np
>>> fg.grad(lambda a: np.linalg.slogdet(a).logabsdet)(np.array([[2.0, 0.0], [0.0, 4.0]]))
array([[0.5 , 0.  ],
       [0.  , 0.25]])
"""

import typing as _typing

from numpy.linalg import LinAlgError

from . import _names
from ._numpy.contractions import kron
from ._numpy.decompositions import (
    EighResult,
    EigResult,
    QRResult,
    SVDResult,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    expm,
    lstsq,
    matrix_rank,
    pinv,
    qr,
    svd,
    svdvals,
)  # fmt: skip
from ._numpy.linalg import (
    SlogdetResult,
    cho_factor,
    cho_solve,
    cholesky,
    det,
    inv,
    slogdet,
    solve,
    solve_triangular,
)  # fmt: skip
from ._numpy.matrices import (
    cond,
    cross,
    diagonal,
    matmul,
    matrix_norm,
    matrix_power,
    matrix_transpose,
    multi_dot,
    norm,
    outer,
    tensordot,
    tensorinv,
    tensorsolve,
    toeplitz,
    trace,
    vecdot,
    vector_norm,
)  # fmt: skip
from ._transforms.matrix_functions import funm_symmetric

__all__ = [
    "EigResult", "EighResult", "LinAlgError", "QRResult", "SVDResult", "SlogdetResult", "cho_factor", "cho_solve",
    "cholesky", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "expm", "funm_symmetric",
    "inv", "kron", "lstsq", "matmul", "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "multi_dot",
    "norm", "outer", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd", "svdvals", "tensordot", "tensorinv",
    "tensorsolve", "toeplitz", "trace", "vecdot", "vector_norm",
]  # fmt: skip


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


if not _typing.TYPE_CHECKING:

    def __getattr__(name):
        raise _names.missing(name, asked="linalg")
