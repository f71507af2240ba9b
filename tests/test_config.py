"""The version, show_config, the choice of the instruction set, and NumPy's BLAS as we use it."""

import ctypes
import importlib.metadata
import os
import subprocess
import sys

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import _blas, _core


def python(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_version_is_that_of_the_installed_package():
    assert fg.__version__ == importlib.metadata.version("fastgrad")


def test_show_config_as_dicts():
    config = fg.show_config(mode="dicts")
    assert config["version"] == fg.__version__
    assert config["numpy"] == np.__version__
    isa = config["instruction_set"]
    assert isa["in_use"] in isa["available"]
    assert isa["available"][0] in ("baseline", "neon")
    assert set(config["blas"]) == {"provider", "integer_bits", "threads"}


def test_show_config_prints_what_the_dicts_say(capsys):
    assert fg.show_config() is None
    text = capsys.readouterr().out
    config = fg.show_config(mode="dicts")
    for fact in (fg.__version__, config["instruction_set"]["in_use"], config["blas"]["provider"], "threads: "):
        assert fact in text
    assert len(text.splitlines()) == 7


def test_show_config_rejects_other_modes():
    with pytest.raises(ValueError, match="^show_config: mode must be 'stdout' or 'dicts', not 'json'$"):
        fg.show_config(mode="json")


@pytest.mark.parametrize("isa", _core.available_isas())
def test_environment_forces_an_instruction_set(isa):
    program = "import fastgrad as fg; print(fg.show_config(mode='dicts')['instruction_set']['in_use'], fg.tanh(2.0))"
    result = python(program, FASTGRAD_ISA=isa)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{isa} ")
    assert "0.964" in result.stdout


@pytest.mark.parametrize("value", ["many", "-1", "1e9", "9" * 30])
def test_a_limit_of_the_pool_that_is_no_number_is_refused_by_name(value):
    last = python("import fastgrad", FASTGRAD_POOL_LIMIT=value).stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: FASTGRAD_POOL_LIMIT={value}: expected a number of bytes")


def test_unknown_instruction_set_is_refused_by_name():
    result = python("import fastgrad", FASTGRAD_ISA="sse9")
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert "FASTGRAD_ISA" in last and "sse9" in last
    for isa in _core.available_isas():
        assert isa in last


@pytest.mark.skipif(_blas.IN_USE is None, reason="NumPy's BLAS is not reached in this build")
class TestBlas:
    def test_is_the_one_numpy_has_loaded(self):
        """No library file is mapped that importing NumPy had not mapped already."""
        if not sys.platform.startswith("linux"):
            pytest.skip("reads /proc")
        program = """
import numpy
mapped = lambda: {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
before = mapped()
import fastgrad
print(*(name for name in mapped() - before if "blas" in name or "mkl" in name))
"""
        assert python(program).stdout.strip() == ""

    def test_a_product_that_is_wrong_is_not_used(self, monkeypatch):
        signature = ctypes.CFUNCTYPE(None)
        does_nothing = signature(lambda *arguments: None)
        assert not _blas._multiplies(does_nothing, ctypes.c_double, True)
        monkeypatch.setattr(_blas, "_multiplies", lambda *arguments: False)
        assert _blas.find() is None

    def test_unknown_symbols_are_none_found(self, monkeypatch):
        monkeypatch.setattr(_blas, "_GEMM", (("no_such_{}gemm", True),))
        assert _blas.find() is None
        assert _blas.threads(None) is None

    def test_name_and_threads(self):
        assert _blas.IN_USE.name
        threads = _blas.threads(_blas.IN_USE)
        assert threads is None or threads >= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("provider", ["blas", "own kernel"])
def test_large_products_and_their_gradients_agree_with_numpy(provider, dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((300, 301)).astype(dtype), rng.standard_normal((301, 290)).astype(dtype)
    g = rng.standard_normal((300, 290)).astype(dtype)
    if provider == "own kernel":
        _core.set_blas(0, 0, False)
    try:
        ta, tb = fg.tensor(a, requires_grad=True), fg.tensor(b, requires_grad=True)
        y = ta @ tb
        y.backward(g)
    finally:
        if _blas.IN_USE is not None:
            _core.set_blas(_blas.IN_USE.sgemm, _blas.IN_USE.dgemm, _blas.IN_USE.ilp64)
    rtol = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(y.detach().numpy(), a @ b, rtol, atol=rtol)
    np.testing.assert_allclose(np.asarray(ta.grad), g @ b.T, rtol, atol=rtol)
    np.testing.assert_allclose(np.asarray(tb.grad), a.T @ g, rtol, atol=rtol)
