"""Linear algebra that compiles: the functions of ``numpy.linalg``, and some of ``scipy.linalg``, for tensors.

All take a matrix or a stack of matrices in the last two axes, float32 or float64; integers are taken as float64. All
have gradients of every order, run under every transform, and are single instructions of compiled programs. Large
matrices are given to the LAPACK that NumPy has loaded; small ones, and all where there is none, have kernels of their
own. A matrix that is singular, not positive definite or not square raises ``numpy.linalg.LinAlgError``, which names
the function and the matrix of the stack, also from a compiled call.

>>> import fastgrad as fg, numpy as np
>>> fg.grad(lambda a: np.linalg.slogdet(a).logabsdet)(np.array([[2.0, 0.0], [0.0, 4.0]]))
array([[0.5 , 0.  ],
       [0.  , 0.25]])
"""

from numpy.linalg import LinAlgError

from ._numpy.linalg import (
    SlogdetResult,
    cho_factor,
    cho_solve,
    cholesky,
    det,
    inv,
    norm,
    slogdet,
    solve,
    solve_triangular,
)  # fmt: skip

__all__ = [
    "LinAlgError", "SlogdetResult", "cho_factor", "cho_solve", "cholesky", "det", "inv", "norm", "slogdet", "solve",
    "solve_triangular",
]  # fmt: skip
