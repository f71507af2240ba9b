"""What the tests of native programs share: whether there is a compiler, a directory, and comparisons."""

import sys

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import _core
from fastgrad._native import compiler
from fastgrad._native.error import CompilerError

ULPS = 64  # how far a chain of functions may carry the last bit of one of them


def has_compiler():
    try:
        compiler.find()
    except CompilerError:
        return False
    return sys.platform != "win32"


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C compiler")


def rounds_as_compiled_now():
    """Whether the kernels fuse products and sums where native code does: not in a sanitized build."""
    x = 1 + 2.0**-30
    found = float(np.array([[-1.0, x]]) @ fg.tensor(np.array([[1.0], [x]])))
    return (found != 2.0**-29) == (_core.isa() != "baseline")


@pytest.fixture(autouse=True)
def own_directory(tmp_path_factory, monkeypatch):
    """A directory of compiled programs for this run of the tests."""
    monkeypatch.setenv("FASTGRAD_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "native"))


def native(f, *args, **kwargs):
    """f compiled to native code for these arguments; every step of it must be written out."""
    compiled = fg.compile(f, native=True, **kwargs)
    compiled(*args)
    program = compiled.program(*args)
    assert program.facts["native"]["runs"] == "native"
    return compiled


def agree(found, expected, what, ulps=ULPS, single=False):
    """Within so many units in the last place; `single`: of float32, in which some of it is computed."""
    (a, structure), (b, other) = fg.tree.flatten(found), fg.tree.flatten(expected)
    assert structure == other, what
    for x, y in zip(a, b):
        x, y = (np.asarray(v.numpy() if isinstance(v, fg.Tensor) else v) for v in (x, y))
        assert (x.dtype, x.shape) == (y.dtype, y.shape), what
        if x.dtype.kind != "f":
            np.testing.assert_array_equal(x, y, err_msg=what)
        else:
            scale = np.max(np.abs(y[np.isfinite(y)]), initial=0)
            tolerance = ulps * np.finfo(np.float32 if single else y.dtype).eps
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * scale, err_msg=what)
