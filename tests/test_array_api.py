"""fastgrad as a namespace of the array API standard 2024.12, without complex numbers.

The standard's own suite is larger; `nox -s array_api` runs it on a checkout.
"""

import inspect
import operator
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import fastgrad as fg

# The arguments of the standard's functions: those before "/" have a place and no name, those behind "*" a name and no
# place, and those with "?" a default.
FUNCTIONS = {
    "x dtype / * copy? device?": "astype", "from_ to /": "can_cast", "type /": "finfo iinfo", "dtype kind": "isdtype",
    "*": "result_type broadcast_arrays", "* indexing?": "meshgrid",
    "x / * axis? dtype? include_initial?": "cumulative_prod cumulative_sum",
    "x / * axis? keepdims?": "max mean min argmax argmin count_nonzero all any",
    "x / * axis? dtype? keepdims?": "prod sum", "x / * axis? correction? keepdims?": "std var",
    "start / stop? step? * dtype? device?": "arange", "obj / * dtype? device? copy?": "asarray",
    "shape * dtype? device?": "empty ones zeros", "x / * dtype? device?": "empty_like ones_like zeros_like",
    "n_rows n_cols? / * k? dtype? device?": "eye", "x / * device? copy?": "from_dlpack",
    "shape fill_value * dtype? device?": "full", "x / fill_value * dtype? device?": "full_like",
    "start stop / num * dtype? device? endpoint?": "linspace", "x / * k?": "tril triu",
    "x / * axis? descending? stable?": "argsort sort",
    "x /": "abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag isfinite isinf "
    "isnan log log1p log2 log10 logical_not negative positive real reciprocal round sign signbit sin sinh square sqrt "
    "tan tanh trunc nonzero matrix_transpose unique_all unique_counts unique_inverse unique_values",
    "x1 x2 /": "add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide "
    "equal floor_divide greater greater_equal hypot less less_equal logaddexp logical_and logical_or logical_xor "
    "maximum minimum multiply nextafter not_equal pow remainder subtract matmul",
    "x / min? max?": "clip", "x1 x2 / * side? sorter?": "searchsorted", "condition x1 x2 /": "where",
    "x / * axis? n? prepend? append?": "diff", "x indices / * axis?": "take take_along_axis",
    "x1 x2 / * axes?": "tensordot", "x1 x2 / * axis?": "vecdot", "x / shape": "broadcast_to",
    "arrays / * axis?": "concat stack", "x / * axis?": "expand_dims flip unstack",
    "x source destination /": "moveaxis", "x / axes": "permute_dims", "x repeats / * axis?": "repeat",
    "x / shape * copy?": "reshape", "x / shift * axis?": "roll", "x / axis": "squeeze", "x repetitions /": "tile",
    "": "__array_namespace_info__",
}  # fmt: skip
LINALG = {
    "x / * upper?": "cholesky", "x1 x2 / * axis?": "cross vecdot",
    "x /": "det eigh eigvalsh inv matrix_transpose slogdet svdvals", "x / * offset?": "diagonal",
    "x1 x2 /": "matmul outer solve", "x / * keepdims? ord?": "matrix_norm", "x n /": "matrix_power",
    "x / * rtol?": "matrix_rank pinv", "x / * mode?": "qr", "x / * full_matrices?": "svd",
    "x1 x2 / * axes?": "tensordot", "x / * offset? dtype?": "trace", "x / * axis? keepdims? ord?": "vector_norm",
}  # fmt: skip
SIGNATURES = [(fg, name, text) for text, names in FUNCTIONS.items() for name in names.split()]
SIGNATURES += [(fg.linalg, name, text) for text, names in LINALG.items() for name in names.split()]
METHODS = """dtype device mT ndim shape size T __array_namespace__ __dlpack__ __dlpack_device__ to_device __getitem__
    __setitem__ __add__ __sub__ __mul__ __matmul__ __truediv__ __floordiv__ __mod__ __pow__ __lshift__ __rshift__
    __and__ __xor__ __or__ __radd__ __rsub__ __rmul__ __rmatmul__ __rtruediv__ __rfloordiv__ __rmod__ __rpow__
    __rlshift__ __rrshift__ __rand__ __rxor__ __ror__ __iadd__ __isub__ __imul__ __imatmul__ __itruediv__ __ifloordiv__
    __imod__ __ipow__ __neg__ __pos__ __abs__ __invert__ __lt__ __le__ __eq__ __ne__ __gt__ __ge__ __bool__ __complex__
    __int__ __float__ __index__""".split()
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float32", "float64"]
DTYPES = ["bool", *INTEGERS, *FLOATS]


@pytest.mark.parametrize("module, name, text", SIGNATURES, ids=[f"{m.__name__}.{n}" for m, n, _ in SIGNATURES])
def test_signatures(module, name, text):
    parameters = inspect.signature(getattr(module, name)).parameters
    ours = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    placed, _, named = text.partition("*")
    unnamed, _, either = placed.rpartition("/")
    unnamed, either, named = unnamed.split(), either.split(), named.split()
    if "*" in text and not placed:
        assert any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    assert len(ours) >= len(unnamed) + len(either)
    for theirs, p in zip(unnamed + either, ours):
        assert not theirs.endswith("?") or p.default is not p.empty, f"{p} needs a default"
    for p in ours[len(unnamed) + len(either) :]:
        assert p.default is not p.empty, f"{p}, which the standard does not have, needs a default"
    for theirs, p in zip(either, ours[len(unnamed) :]):
        assert p.name == theirs.rstrip("?") and p.kind is p.POSITIONAL_OR_KEYWORD
    for theirs in named:
        p = parameters[theirs.rstrip("?")]
        assert p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        assert not theirs.endswith("?") or p.default is not p.empty


def test_the_tensor_and_the_constants():
    x = fg.ones((2, 2))
    assert [name for name in METHODS if not hasattr(x, name)] == []
    assert (fg.e, fg.pi, fg.inf, fg.newaxis) == (np.e, np.pi, np.inf, None) and np.isnan(fg.nan)
    assert x.device == "cpu" and x.to_device("cpu") is x and x.mT.shape == (2, 2)
    assert fg.__array_api_version__ == "2024.12" and x.__array_namespace__(api_version="2024.12") is fg
    assert x.__array_namespace__() is fg


def test_methods_of_the_tensor_have_signatures():
    """Those that Python itself calls by an operator, too: `__and__` is built in, and its arguments are seldom tried."""
    without = []
    for name in [*METHODS, *(name for name in dir(fg.Tensor) if not name.startswith("_"))]:
        method = getattr(fg.Tensor, name)
        try:
            if callable(method):
                inspect.signature(method)
        except ValueError:
            without.append(name)
    assert without == []
    for name, expected in {
        "__and__": "(self, /, other)",
        "__rsub__": "(self, /, other)",
        "astype": "(self, /, dtype, *, copy=True)",
        "to_device": "(self, device, /, *, stream=None)",
        "sum": "(self, /, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=None)",
    }.items():
        assert str(inspect.signature(getattr(fg.Tensor, name))) == expected, name
    assert fg.Tensor.to_device.__doc__.startswith("This tensor; ValueError")


def test_each_expected_failure_of_the_suite_is_one_whole_name():
    """The suite compares names as wholes: a part of one would stand for no test at all."""
    lines = (Path(__file__).parent / "array_api_xfails.txt").read_text().splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    wrong = [n for n in names if not re.fullmatch(r"array_api_tests/test_\w+\.py::test_\w+\[.*\]", n) or n != n.strip()]
    assert not wrong and len(set(names)) == len(names) > 0


@pytest.mark.parametrize("dtype", INTEGERS)
def test_repeats_are_of_every_integer_dtype(dtype):
    x, counts = np.array([1.0, 2.0, 3.0]), np.array([2, 0, 1], dtype)
    for repeats in (counts, fg.asarray(counts)):
        same(fg.repeat(fg.asarray(x), repeats), np.repeat(x, [2, 0, 1]), dtype)
        gradient = fg.grad(lambda x: fg.sum(fg.repeat(x, repeats) ** 2))(x)
        np.testing.assert_array_equal(gradient, 2 * x * [2, 0, 1], err_msg=dtype)
    same(fg.repeat(fg.asarray(x), counts[:1], axis=0), np.repeat(x, 2), dtype)


def test_what_is_refused():
    x = fg.ones(2)
    for call, message in {
        "x.to_device('cuda')": "to_device: tensors are in the memory of the CPU; expected device None or 'cpu'",
        "x.to_device('cpu', stream=1)": "to_device: the CPU has no streams, got stream=1",
        "x.__array_namespace__(api_version='1999.12')": "__array_namespace__: expected a version of the array API",
        "fg.asarray(1.0, device='cuda')": "asarray: tensors are in the memory of the CPU",
        "fg.astype(x, 'f4', device='cuda')": "astype: tensors are in the memory of the CPU",
        "fg.from_dlpack(x, device='cuda')": "from_dlpack: tensors are in the memory of the CPU",
        "fg.asarray(x, fg.float32, copy=False)": "asarray: a copy is needed to convert float64 to float32",
        "fg.asarray([1.0], copy=False)": "asarray: a copy is needed to make a tensor of list",
        "fg.asarray(np.ones((2, 3)).T, copy=False)": "asarray: a copy is needed of an ndarray whose elements are not",
        "fg.__array_namespace_info__().dtypes(kind='complex')": "dtypes: expected kinds among 'bool', 'signed integer'",
        "fg.__array_namespace_info__().default_dtypes(device='cuda')": "expected device None or 'cpu', got 'cuda'",
        "fg.finfo(fg.int8)": "data type .* not (inexact|compatible)",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            eval(call, {"fg": fg, "np": np, "x": x})
    with pytest.raises(TypeError, match="^nextafter is not supported on tensors that require gradients"):
        fg.grad(lambda x: fg.sum(fg.nextafter(x, 2.0)))(np.ones(2))
    with pytest.raises(TypeError, match="^left_shift: expected booleans or integers, got floats"):
        fg.bitwise_left_shift(x, 1)


def test_shifts_of_booleans_are_integers():
    a = np.array([True, False])
    t = fg.tensor(a)
    for shift in (operator.lshift, operator.rshift):
        for left, right in ((t, t), (t, True), (True, t)):
            expected = shift(np.asarray(left), np.asarray(right))
            same(shift(left, right), expected, f"{shift}")
        same(fg.asarray(fg.compile(shift)(a, a)), shift(a, a), f"{shift}, compiled")


def test_namespace_info():
    info = fg.__array_namespace_info__()
    capabilities = info.capabilities()
    assert capabilities["boolean indexing"] and capabilities["data-dependent shapes"]
    n = capabilities["max dimensions"]
    assert fg.ones((1,) * n).ndim == n
    with pytest.raises(ValueError):
        fg.ones((1,) * (n + 1))
    assert info.devices() == [info.default_device()] == ["cpu"]
    defaults = info.default_dtypes(device="cpu")
    assert defaults["real floating"] == fg.ones(1).dtype and defaults["integral"] == fg.asarray(1).dtype
    assert defaults["indexing"] == fg.argsort([1.0]).dtype
    assert info.dtypes() == {name: np.dtype(name) for name in DTYPES}
    for kind in ("bool", "signed integer", "unsigned integer", "integral", "real floating", "numeric"):
        expected = {name for name in DTYPES if np.isdtype(np.dtype(name), kind)}
        assert set(info.dtypes(kind=kind)) == expected and set(info.dtypes(kind=(kind, "bool"))) == expected | {"bool"}
    assert info.dtypes(kind="complex floating") == {}


def test_dtypes():
    for a in DTYPES:
        dtype = getattr(fg, a)
        assert dtype == fg.ones(1, dtype=a).dtype and hash(dtype) == hash(fg.ones(1, dtype=dtype).dtype)
        assert fg.isdtype(dtype, dtype) and fg.isdtype(dtype, ("bool", "numeric"))
        for b in DTYPES:
            expected = np.result_type(np.dtype(a), np.dtype(b))
            assert fg.result_type(dtype, getattr(fg, b)) == fg.result_type(fg.ones(1, dtype=a), np.dtype(b)) == expected
            assert fg.can_cast(fg.ones(1, dtype=a), b) == fg.can_cast(dtype, getattr(fg, b)) == np.can_cast(a, b)
    assert fg.result_type(fg.float32, 1.0) == fg.float32 and fg.result_type(2, fg.ones(1, dtype="int8")) == fg.int8
    for a in FLOATS:
        info, theirs = fg.finfo(fg.ones(1, dtype=a)), np.finfo(a)
        for name in ("eps", "max", "min", "smallest_normal"):
            assert type(getattr(info, name)) is float and getattr(info, name) == getattr(theirs, name)
        assert (info.bits, info.dtype, info.tiny) == (theirs.bits, np.dtype(a), theirs.tiny)
    for a in INTEGERS:
        info, theirs = fg.iinfo(getattr(fg, a)), np.iinfo(a)
        assert (info.bits, info.min, info.max, info.dtype) == (theirs.bits, theirs.min, theirs.max, np.dtype(a))


def same(got, expected, message):
    """A tensor with the dtype, shape and elements of an ndarray."""
    expected = np.asarray(expected)
    assert isinstance(got, fg.Tensor), f"{message}: {type(got)}"
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), f"{message}: {got!r}"
    np.testing.assert_array_equal(got.numpy(), expected, err_msg=message)


BITWISE = {
    "bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor,
    "bitwise_left_shift": operator.lshift, "bitwise_right_shift": operator.rshift,
}  # fmt: skip


@pytest.mark.parametrize("name", BITWISE)
def test_bitwise_functions_and_operators(name):
    for dtype in INTEGERS + ["bool"] * ("shift" not in name):
        a, b = np.array([[1, 0, 3], [7, 100, 2]]).astype(dtype), np.array([1, 3, 0]).astype(dtype)
        f, number = getattr(np, name), True if dtype == "bool" else 1
        for operands in ((a, b), (a, number), (number, b)):
            tensors = [fg.tensor(x) if isinstance(x, np.ndarray) else x for x in operands]
            message = f"{name}{operands}"
            same(getattr(fg, name)(*tensors), f(*operands), message)
            same(BITWISE[name](*tensors), f(*operands), message)
            same(f(*tensors), f(*operands), f"numpy.{message}")
            compiled = fg.compile(getattr(fg, name))(*operands)
            np.testing.assert_array_equal(compiled, f(*operands))
    for x in (np.array([0, 5], np.int8), np.array([True, False])):
        same(fg.bitwise_invert(fg.tensor(x)), ~x, "bitwise_invert")


def test_python_numbers_take_the_dtype_beside_them():
    """The float32 nearest to 0.1 is 0.1 beside a float32, although it is another number in float64."""
    x = fg.tensor([0.1], "float32")
    assert fg.equal(x, 0.1).tolist() == fg.equal(0.1, x).tolist() == [True]
    assert fg.less(0.1, x).tolist() == fg.less(x, 0.1).tolist() == fg.less(0.1, x.numpy()).tolist() == [False]
    assert fg.bitwise_or(1, np.array([2], np.int8)).dtype == np.int8 and fg.bitwise_or(1, 2).tolist() == 3
    assert fg.multiply(2, x).dtype == fg.maximum(0.5, x).dtype == fg.where(x > 0, x, 1.0).dtype == fg.float32


@pytest.mark.parametrize("dtype", DTYPES)
def test_results(dtype):
    """Against NumPy, whose namespace conforms to the standard."""
    a = np.array([[3, 1, 2], [1, 0, 3]]).astype(dtype)
    x = fg.tensor(a)
    for name in ("sum", "prod", "all", "any", "count_nonzero", "argmax", "max"):
        same(getattr(fg, name)(x, axis=-1, keepdims=True), getattr(np, name)(a, axis=-1, keepdims=True), name)
    if dtype != "bool":
        for name in ("cumulative_sum", "cumulative_prod"):
            keywords = {"axis": 1, "include_initial": True}
            if hasattr(np, name):  # from NumPy 2.1 on
                same(getattr(fg, name)(x, **keywords), getattr(np, name)(a, **keywords), name)
        same(fg.diff(x), np.diff(a), "diff")
        same(fg.clip(x, 1, 2), np.clip(a, 1, 2), "clip")
    same(fg.sort(x, axis=0, descending=True), np.sort(a, 0)[::-1], "sort")
    order = fg.argsort(x, axis=1, descending=True)
    same(fg.take_along_axis(x, order, axis=1), np.sort(a, 1)[:, ::-1], "argsort")
    values, indices, inverse, counts = fg.unique_all(x)
    same(values, np.unique(a), "unique_all")
    same(x.reshape(-1)[indices], np.unique(a), "unique_all")
    same(values[inverse], a, "unique_all")
    same(counts, np.unique_counts(a).counts, "unique_all")
    same(fg.unique_counts(x).counts, counts.numpy(), "unique_counts")
    same(fg.unique_inverse(x).inverse_indices, inverse.numpy(), "unique_inverse")
    same(fg.unique_values(x), values.numpy(), "unique_values")
    same(fg.conj(x), np.conj(a), "conj")
    same(fg.real(x), a, "real")
    same(fg.imag(x), np.zeros_like(a), "imag")
    for copy in (None, True, False):
        same(fg.from_dlpack(x, device="cpu", copy=copy), a, "from_dlpack")
        same(fg.asarray(x, copy=copy), a, "asarray")
        same(fg.astype(x, x.dtype, copy=bool(copy)), a, "astype")
        same(fg.reshape(x, (3, 2), copy=copy), a.reshape(3, 2), "reshape")


def test_equal_elements_of_a_descending_sort_keep_their_order():
    x = np.array([1.0, 2.0, 1.0, 2.0])
    for dtype in ("float64", "int32"):
        assert fg.argsort(fg.tensor(x, dtype), descending=True).tolist() == [1, 3, 0, 2]
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    assert fg.grad(lambda x: fg.sum(weights * fg.sort(x, descending=True)))(x).tolist() == [3.0, 1.0, 4.0, 2.0]


def test_each_nan_is_distinct():
    x = fg.asarray([np.nan, 1.0, np.nan])
    assert fg.unique_values(x).shape == (3,) and fg.unique_counts(x).counts.tolist() == [1, 1, 1]


def test_copies_are_of_their_own():
    x = fg.ones(2)
    assert fg.asarray(x, copy=False) is x and fg.astype(x, x.dtype, copy=False) is x
    copies = [fg.asarray(x, copy=True), fg.astype(x, x.dtype), fg.reshape(x, (2,), copy=True),
              fg.from_dlpack(x, copy=True)]  # fmt: skip
    x[0] = 7.0
    assert [y.tolist() for y in copies] == [[1.0, 1.0]] * 4
    a = np.ones(1000)
    shared = fg.asarray(a, copy=False)
    a[0] = 7.0
    assert shared[0] == 7.0
    assert fg.grad(lambda x: fg.sum(fg.asarray(x, copy=True) * fg.asarray(x, "float32", copy=True)))(a)[1] == 2.0


def test_nextafter():
    for dtype in FLOATS:
        a = np.array([0.0, 1.0, np.inf, -1.0], dtype)
        same(fg.nextafter(fg.tensor(a), 0.5), np.nextafter(a, np.array(0.5, dtype)), "nextafter")
    assert fg.nextafter(1, 2).dtype == np.float64


def test_integers_beyond_int64_beside_others_are_exact():
    for make in (fg.asarray, fg.tensor):
        same(
            make([2**64 - 1024, 0, 2**63 + 1], dtype="uint64"),
            np.array([2**64 - 1024, 0, 2**63 + 1], np.uint64),
            make.__name__,
        )
        same(make([[2**64 - 1], [3]], dtype=np.uint64), np.array([[2**64 - 1], [3]], np.uint64), make.__name__)
        same(make([1.5, 2.0], dtype="uint64"), np.array([1, 2], np.uint64), make.__name__)


@settings(max_examples=25, deadline=None, database=None)
@given(data=st.data())
def test_strategies_of_hypothesis_make_tensors(data):
    """They fill arrays by assignment, element by element."""
    xps = make_strategies_namespace(fg, api_version="2021.12")
    x = data.draw(xps.arrays(xps.scalar_dtypes(), xps.array_shapes(max_dims=2, max_side=3)))
    y = data.draw(xps.indices(x.shape).map(lambda key: x[key]))
    assert isinstance(y, fg.Tensor) and y.dtype == x.dtype


SCIPY = """
import numpy as np, scipy.special as special, fastgrad as fg
x, b = np.array([[1.0, -2.0, 0.5], [1.0, 1.0, 3.0]]), np.array([[0.5, 1.0, 2.0], [1.0, 0.0, 3.0]])
theirs = {
    "logsumexp": lambda x, f=special.logsumexp: f(x, axis=1),
    "logsumexp with weights": lambda x, f=special.logsumexp: f(x, b=fg.asarray(b) if isinstance(x, fg.Tensor) else b),
    "softmax": lambda x: special.softmax(x, axis=1), "log_softmax": lambda x: special.log_softmax(x, axis=1),
    "xlogy": lambda x: special.xlogy(x + 3, x + 4), "gammaln": lambda x: special.gammaln(x + 3),
    "rel_entr": lambda x: special.rel_entr(x + 3, x + 4),
}
for name, f in theirs.items():
    y = f(fg.tensor(x))
    assert isinstance(y, fg.Tensor), f"{name} of a tensor returns {type(y)}"
    np.testing.assert_allclose(y.numpy(), f(x), rtol=1e-13, err_msg=name)
    total = lambda x: fg.sum(fg.sin(f(x)))
    fg.check_grads(lambda x: total(fg.asarray(x)), (x,), order=2)
    np.testing.assert_allclose(fg.compile(fg.grad(total))(x), fg.grad(total)(x), rtol=1e-13, err_msg=name)
"""


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"SCIPY_ARRAY_API": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_functions_of_scipy_take_tensors_and_record():
    run(SCIPY)


SCIKIT_LEARN = """
import numpy as np, fastgrad as fg, sklearn
from sklearn import metrics, preprocessing
from sklearn.metrics import pairwise
rng = np.random.default_rng(0)
x, y, p, q = rng.random((5, 3)), rng.random((2, 3)), rng.random(20), rng.random(20)
with sklearn.config_context(array_api_dispatch=True):
    for f in (pairwise.rbf_kernel, pairwise.euclidean_distances, pairwise.sigmoid_kernel, pairwise.laplacian_kernel):
        got = f(fg.tensor(x), fg.tensor(y))
        assert isinstance(got, fg.Tensor), f"{f.__name__} of tensors returns {type(got)}"
        np.testing.assert_allclose(got.numpy(), f(x, y), rtol=1e-12)
        fg.check_grads(lambda x: fg.sum(fg.sin(f(fg.asarray(x), fg.tensor(y)))), (x,), order=1)
    for f in (metrics.mean_squared_error, metrics.r2_score, metrics.mean_tweedie_deviance):
        np.testing.assert_allclose(f(fg.tensor(p), fg.tensor(q)), f(p, q), rtol=1e-12)
    a, b = p > 0.5, q > 0.5
    for f in (metrics.accuracy_score, metrics.f1_score):
        np.testing.assert_allclose(f(fg.tensor(a), fg.tensor(b)), f(a, b), rtol=1e-12)
    scaled = preprocessing.StandardScaler().fit_transform(fg.tensor(x))
    np.testing.assert_allclose(scaled.numpy(), preprocessing.StandardScaler().fit_transform(x), rtol=1e-12)
"""


@pytest.mark.slow
def test_functions_of_scikit_learn_take_tensors():
    pytest.importorskip("sklearn")
    run(SCIKIT_LEARN)


def test_code_for_the_standard_runs_under_every_transform():
    def normalized(x):
        xp = x.__array_namespace__()
        x = (x - xp.mean(x, axis=0)) / xp.std(x, axis=0, correction=1)
        return xp.linalg.vector_norm(xp.concat([x, xp.linalg.matrix_transpose(x)], axis=None), ord=3)

    x = np.array([[1.0, 2.0], [4.0, -1.0]])
    fg.check_grads(lambda x: normalized(fg.asarray(x)), (x,), order=2)
    expected = fg.grad(normalized)(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(fg.compile(fg.grad(normalized))(x), expected, rtol=1e-12, atol=1e-14)
        mapped = fg.vmap(fg.grad(normalized))(np.stack([x, 2 * x + 1]))
    np.testing.assert_allclose(mapped[0], expected, rtol=1e-12, atol=1e-14)
