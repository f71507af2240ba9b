"""A check of every test: when it ends, the C core holds no node, array or byte more than when it began.

Tensors of a test module or of a wider fixture exist before the test and do not count.
"""

import gc
import signal
import sys

import pytest

import fastgrad as fg
from fastgrad import _blas, _core, _lapack

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background ignores
fg.ones(2) * 2  # so that what the core makes only once is made before the first test


def held():
    counts = _core.live()
    return {what: counts[what] for what in ("nodes", "arrays", "bytes")}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.failed = report.failed
    return report


def collect():
    """Free garbage. What is left, objects by which pytest knows the tests and their results, hundreds of thousands, is
    looked through once and not by each further collection: those would take more than half of the suite's time."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish():
    collect()


@pytest.fixture(autouse=True)
def no_leak(request):
    before = held()
    yield
    if held() == before or getattr(request.node, "failed", False):
        return
    collect()  # only now: it costs more than most tests
    leaked = {what: n - before[what] for what, n in held().items() if n > before[what]}
    if leaked:
        pytest.fail(f"left behind in the core: {leaked}", pytrace=False)


@pytest.fixture(autouse=True)
def switches_restored():
    yield
    assert _core.set_grad_enabled(True), "the test left recording switched off"


@pytest.fixture
def switch_often():
    """The GIL may change hands after each microsecond."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(params=["LAPACK", "own"])
def lapack(request):
    """The library that NumPy has loaded, if it is found; or our own kernels for every size."""
    if request.param == "own":
        _lapack.use(None)
        _core.set_blas(None, None, False)
    elif _lapack.IN_USE is None:
        pytest.skip("NumPy's LAPACK was not found")
    yield request.param
    _lapack.use(_lapack.IN_USE)
    if _blas.IN_USE:
        _core.set_blas(_blas.IN_USE.sgemm, _blas.IN_USE.dgemm, _blas.IN_USE.ilp64)
