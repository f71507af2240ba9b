"""Special functions of a million float64 beside SciPy's, values alone, on one thread."""

import numpy as np
import pytest
import scipy.special
from _compare import compare, one_thread

import fastgrad as fg

# name: where the input is drawn from
FUNCTIONS = {"gammaln": (0.1, 20), "digamma": (0.1, 20), "ndtri": (0, 1), "log_ndtr": (-9, 9), "erfinv": (-1, 1)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_million(benchmark, name):
    data = np.random.default_rng(0).uniform(*FUNCTIONS[name], 10**6)
    function, theirs, x = getattr(fg.special, name), getattr(scipy.special, name), fg.tensor(data)
    with one_thread():
        compare(
            benchmark, f"{name}, a million float64", lambda: function(x), {"SciPy": lambda: theirs(data)},
            {"SciPy": 0.5}, rtol=1e-11, atol=1e-13,
        )  # fmt: skip


def test_a_million_of_betaln(benchmark):
    a, b = np.random.default_rng(0).uniform(0.1, 20, (2, 10**6))
    x, y = fg.tensor(a), fg.tensor(b)
    with one_thread():
        compare(
            benchmark, "betaln, a million float64", lambda: fg.special.betaln(x, y),
            {"SciPy": lambda: scipy.special.betaln(a, b)}, {"SciPy": 0.5}, rtol=1e-9, atol=1e-11,
        )  # fmt: skip
