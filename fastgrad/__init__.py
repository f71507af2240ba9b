"""fastgrad: reverse-mode automatic differentiation for NumPy arrays, with the tape and the kernels in C.

>>> import fastgrad as fg, numpy as np
>>> fg.grad(lambda x: np.sum(np.tanh(x) ** 2))(np.array([0.0, 1.0])).round(4)
array([0.    , 0.6397])

Functions of arrays: ``grad``, ``value_and_grad``, ``vmap``, ``compile`` to trace and replay them, ``check_grads``, and
the module ``tree`` for nested structures. Tensors: ``tensor``, ``.backward()``, ``.grad``. Descent: ``training_step``,
``descend``, and the modules ``losses``, ``optim``, ``schedules``, ``activations`` and ``random``. By NumPy's and
SciPy's names: the modules ``linalg``, ``special`` and ``stats``. With SciPy: ``minimize``, ``least_squares``,
``root``, ``curve_fit``, and the module ``sparse``. With scikit-learn: the module ``sklearn``.
"""

import importlib
import sys
import typing

from . import _blas, _core, _names, _native, _numpy, tree
from ._config import __version__, show_config
from ._core import *
from ._core import Program, TraceError
from ._numpy.functions import *
from ._numpy.indexing import take
from ._rules import table as _rules
from ._threads import get_num_threads, set_num_threads
from ._transforms.checkpoint import checkpoint
from ._transforms.custom import custom_jvp, custom_vjp
from ._transforms.grad import grad, no_grad, stop_gradient, value_and_grad
from ._transforms.jacobian import elementwise_grad, hessian, hessp, hvp, jacfwd, jacobian, jacrev, value_and_jacobian
from ._transforms.linearize import jvp, linearize, vjp
from ._transforms.primitive import primitive
from ._transforms.pure_callback import ShapeDtypeStruct, pure_callback
from ._transforms.vmap import vmap

if typing.TYPE_CHECKING:
    from . import activations, linalg, losses, optim, random, schedules, sklearn, sparse, special, stats, testing
    from ._compile.compiled import CacheInfo, Compiled, compile
    from ._control_flow.api import cond, fori_loop, scan, while_loop
    from ._control_flow.bounded import bounded_while_loop
    from ._export.api import export
    from ._numpy.matrices import norm
    from ._numpy.namespace_info import __array_namespace_info__
    from ._scipy.curve_fit import curve_fit
    from ._scipy.minimize import least_squares, minimize, root
    from ._serialize.api import load, save
    from ._train.descend import descend
    from ._train.lr_find import LRFindResult, lr_find
    from ._train.result import DescentResult
    from ._train.step import TrainingStep, TypePromotionWarning
    from ._train.training_step import training_step
    from .random import dropout
    from .testing import check_grads

__all__ = [
    "CacheInfo", "Compiled", "DescentResult", "LRFindResult", "Program", "ShapeDtypeStruct", "TraceError",
    "TrainingStep", "TypePromotionWarning", "__array_api_version__", "__array_namespace_info__", "__version__",
    "activations", "bounded_while_loop", "check_grads", "checkpoint", "compile", "cond", "curve_fit", "custom_jvp",
    "custom_vjp", "descend", "dropout", "elementwise_grad", "export", "fori_loop", "get_num_threads", "grad", "hessian",
    "hessp", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "least_squares", "linalg", "linearize", "load", "losses",
    "lr_find", "minimize", "no_grad", "norm", "optim", "primitive", "pure_callback", "random", "root", "save", "scan",
    "schedules", "set_num_threads", "show_config", "sklearn", "sparse", "special", "stats", "stop_gradient", "take",
    "testing", "training_step", "tree", "value_and_grad", "value_and_jacobian", "vjp", "vmap", "while_loop",
]  # fmt: skip
__all__ += _core.PUBLIC
if not typing.TYPE_CHECKING:
    __all__ += _numpy.functions.__all__

_core.bind_layer(_numpy.indexing, _numpy.protocol, _numpy.functions, _rules, _native)

_CALLED_OTHERWISE = {  # names of JAX, PyTorch and SciPy
    "Adam": "optim.Adam", "PRNGKey": "random.default_rng", "SGD": "optim.SGD", "Variable": "tensor",
    "autograd": "grad", "bmm": "matmul", "cat": "concatenate", "clamp": "clip", "cumlogsumexp": "logcumsumexp",
    "custom_gradient": "custom_vjp", "detach": "stop_gradient", "from_numpy": "asarray",
    "func": "grad, vmap, jacobian", "functional": "losses and fastgrad.activations", "gather": "take_along_axis",
    "grad_and_value": "value_and_grad", "inference_mode": "no_grad", "jit": "compile",
    "lax": "scan, while_loop, fori_loop and cond", "manual_seed": "random.default_rng", "mm": "matmul",
    "ndarray": "Tensor", "nn": "losses and fastgrad.activations", "permute": "transpose", "pmap": "vmap",
    "rand": "random.default_rng().random", "randn": "random.default_rng().standard_normal", "remat": "checkpoint",
    "scatter": "put_along_axis", "top_k": "topk", "tree_map": "tree.map", "tree_util": "tree",
    "unsqueeze": "expand_dims", "vectorize": "vmap",
}  # fmt: skip

__array_api_version__ = "2024.12"  # of the array API standard, whose namespace this module is

# Imported when they are first asked for: what not every program uses.
_LAZY = {
    "CacheInfo": "fastgrad._compile.compiled",
    "Compiled": "fastgrad._compile.compiled",
    "DescentResult": "fastgrad._train.result",
    "LRFindResult": "fastgrad._train.lr_find",
    "TrainingStep": "fastgrad._train.step",
    "TypePromotionWarning": "fastgrad._train.step",
    "__array_namespace_info__": "fastgrad._numpy.namespace_info",
    "activations": "fastgrad.activations",
    "bounded_while_loop": "fastgrad._control_flow.bounded",
    "check_grads": "fastgrad.testing",
    "compile": "fastgrad._compile.compiled",
    "cond": "fastgrad._control_flow.api",
    "curve_fit": "fastgrad._scipy.curve_fit",
    "descend": "fastgrad._train.descend",
    "dropout": "fastgrad.random",
    "export": "fastgrad._export.api",
    "fori_loop": "fastgrad._control_flow.api",
    "linalg": "fastgrad.linalg",
    "load": "fastgrad._serialize.api",
    "losses": "fastgrad.losses",
    "lr_find": "fastgrad._train.lr_find",
    "norm": "fastgrad._numpy.matrices",
    "optim": "fastgrad.optim",
    "random": "fastgrad.random",
    "save": "fastgrad._serialize.api",
    "scan": "fastgrad._control_flow.api",
    "schedules": "fastgrad.schedules",
    "sklearn": "fastgrad.sklearn",
    "testing": "fastgrad.testing",
    "sparse": "fastgrad.sparse",
    "special": "fastgrad.special",
    "stats": "fastgrad.stats",
    "training_step": "fastgrad._train.training_step",
    "while_loop": "fastgrad._control_flow.api",
    "least_squares": "fastgrad._scipy.minimize",
    "minimize": "fastgrad._scipy.minimize",
    "root": "fastgrad._scipy.minimize",
}

if not typing.TYPE_CHECKING:
    for _module in (sys.modules[__name__], tree):
        _module.__dir__ = _module.__all__.copy  # what completion shows

    def __getattr__(name):
        if name in _LAZY:
            module = importlib.import_module(_LAZY[name])
            return globals().setdefault(
                name, module if module.__name__ == f"fastgrad.{name}" else getattr(module, name)
            )
        if name in _CALLED_OTHERWISE:
            instead = f"; use fastgrad.{_CALLED_OTHERWISE[name]}"
        elif name in _numpy.protocol.INSTEAD:
            instead = f"; write it as {_numpy.protocol.INSTEAD[name]}"
        else:
            instead = _names.where(name, asked="")
        message = f"module 'fastgrad' has no attribute {name!r}{instead}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
