"""The promises of docs/accuracy.md: every row of csrc/ops.def in both dtypes over the whole range of the dtype.

Values are tested on whatever instruction set this process runs with (FASTGRAD_ISA forces another), derivatives on all
that there are. The default run takes some hundred points a function against mpmath, and every ten-thousandth float32
against the float64 functions of NumPy and SciPy; `-m slow` takes many more of both.
"""

import functools
import os
import pickle
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.special
from _oracles import (
    FLOATS,
    FUNCTIONS,
    LIMITS,
    ROWS,
    UNARY,
    VALUE_UNITS,
    WITHOUT_UNDERFLOW,
    exact,
    extremes,
    gradients,
    off,
    pairs,
    text_value,
    ulps,
)  # fmt: skip

import fastgrad as fg
from fastgrad import _core

SLOPE_LIMIT = 8.0

# Points beside which a function would be hard: thresholds of overflow and underflow, roots, multiples of pi/2, and
# where implementations change from one formula to another.
NOTABLE = np.array([
    0.25, 0.45, 0.5, 0.55, 0.6, 0.625, 0.7, np.log(2), 0.75, 1, np.sqrt(2), np.pi / 4, np.pi / 2, 2, np.e, np.pi, 4.1,
    6, 9, 10, 10.5, 13.5, 14, 16, 17.3, 22, 26.5, 38, 40, 60, 87.3, 88.7, 103.9, 127, 128, 149, 700, 708.4, 709.78,
    745.1, 1022, 1024, 1074, 2.0**20 * np.pi, 2.0**60 * np.pi / 2, 1e10, 1e30,
])  # fmt: skip


def log_uniform(rng, lo, hi, n):
    """Numbers of both signs whose exponents are spread evenly."""
    return np.exp2(rng.uniform(np.log2(lo), np.log2(hi), n)) * rng.choice([-1, 1], n)


@np.errstate(all="ignore")
def points(row, n, dtype, seed=0):
    """n numbers an argument: from the row's domain, of every size that matters, of every size there is, notable."""
    rng, info = np.random.default_rng(seed), np.finfo(dtype)
    near = NOTABLE * rng.choice([-1, 1], NOTABLE.size) * (1 + rng.integers(-4, 5, NOTABLE.size) * info.eps)
    everywhere = rng.integers(0, 1 << info.bits, n, f"u{info.bits // 8}").view(dtype)
    args = []
    for lo, hi in row["domain"]:
        inside = rng.uniform(lo - (hi - lo) / 4, hi + (hi - lo) / 4, n // 2)
        args.append(np.concatenate([inside, log_uniform(rng, 1e-6, 1e3, n), everywhere, near]).astype(dtype))
        rng.shuffle(everywhere)
        near = rng.permutation(near)
    if len(args) == 2:  # and some pairs that lie close together, and far ones with a quotient that does not
        a = log_uniform(rng, 1e-30, 1e30, n // 4)
        args[0] = np.append(args[0], a.astype(dtype))
        args[1] = np.append(args[1], (a * rng.uniform(-3, 3, a.size)).astype(dtype))
        if row["name"] == "power":  # a result that neither overflows nor underflows
            base = np.abs(log_uniform(rng, 1e-30, 1e30, n))
            args[0] = np.append(args[0], base.astype(dtype))
            args[1] = np.append(args[1], (rng.uniform(info.minexp - 30, info.maxexp, n) / np.log2(base)).astype(dtype))
        if row["name"] in {"logaddexp", "logaddexp2"}:  # a result near 0, where the sum cancels
            a = -np.abs(log_uniform(rng, 1e-3, 30, n // 2))
            exp, log = (np.exp, np.log) if row["name"] == "logaddexp" else (np.exp2, np.log2)
            args[0] = np.append(args[0], a.astype(dtype))
            args[1] = np.append(args[1], (log(1 - exp(a)) * (1 + log_uniform(rng, 1e-8, 1e-1, n // 2))).astype(dtype))
    keep = np.logical_and.reduce([np.isfinite(a) for a in args])
    if row["domain"][-1][0] > 0 and len(args) == 2 and row["name"] in {"celu", "elu"}:
        keep &= args[1] > 0
    if row["name"] == "betaln":
        keep &= (args[0] > 0) & (args[1] > 0)
    return [a[keep] for a in args]


def of_every_row(test):
    """A decorator: a test of each row of the table in each dtype."""
    return pytest.mark.parametrize("dtype", FLOATS)(pytest.mark.parametrize("name", ROWS)(test))


def check(name, dtype, n, seed):
    args = points(ROWS[name], n, dtype, seed)
    got = FUNCTIONS[name](*args).numpy()
    worst = (0.0, None, None, None)
    for k, point in enumerate(zip(*args)):
        error, expected = off(name, point, got[k])
        if error > worst[0]:
            worst = error, point, got[k], expected
    assert worst[0] <= LIMITS[name], (
        f"{name}{worst[1]} = {worst[2]!r}, exactly {mpmath.nstr(worst[3], 20)}: {worst[0]:.2f} ULP off "
        f"(of {len(got)} points)"
    )


@of_every_row
def test_within_2_ulp(name, dtype):
    check(name, dtype, 100, 0)


# Their oracles take milliseconds a point.
SPECIAL = {name for name in ROWS if name in fg.special.__all__}


@pytest.mark.slow
@of_every_row
def test_within_2_ulp_densely(name, dtype):
    for seed in (1, 2):
        check(name, dtype, 100 if name in SPECIAL else 1000, seed)


@pytest.mark.parametrize("name", WITHOUT_UNDERFLOW)
def test_what_the_oracle_computes_without_underflow_is_the_definition(name):
    row, rng = ROWS[name], np.random.default_rng(0)
    for a, b in [(0.0, 0.0), *rng.uniform(-30, 30, (50, 2)).tolist(), *rng.uniform(-1e6, 1e6, (10, 2)).tolist()]:
        text, definition = (text_value(t, row, a, b) for t in (WITHOUT_UNDERFLOW[name], row["definition"]))
        both_nan = mpmath.isnan(text) and mpmath.isnan(definition)
        assert both_nan or abs(text - definition) <= abs(definition) * mpmath.mpf(10) ** -300, (a, b, text, definition)


# ---- float32 against float64 functions of other makers ----------------------------------------------------------
IN_FLOAT64 = {name: getattr(np, name) for name in ROWS if isinstance(getattr(np, name, None), np.ufunc)} | {
    "erf": scipy.special.erf, "erfc": scipy.special.erfc, "sigmoid": scipy.special.expit,
    "log_sigmoid": scipy.special.log_expit, "softplus": lambda x: np.logaddexp(0, x),
    "silu": lambda x: x * scipy.special.expit(x), "gelu": lambda x: x * scipy.special.ndtr(x),
    "elu": lambda a, b: np.where(a > 0, a, b * np.expm1(np.minimum(a, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "mish": lambda x: np.where(np.abs(x) < 80, x * np.tanh(np.log1p(np.exp(np.minimum(x, 80)))),
    np.where(x < 0, x * np.exp(x), x)),
} | {
    name: getattr(scipy.special, name) for name in (
        "ndtr log_ndtr ndtri erfinv erfcinv erfcx logit entr gammaln digamma gamma rgamma rel_entr kl_div xlogy xlog1py"
    ).split()
}  # fmt: skip


def check_float32(name, x):
    reference = IN_FLOAT64[name]
    args = [x] if ROWS[name]["arity"] == 1 else [x, np.random.default_rng(0).permutation(x)]
    got = FUNCTIONS[name](*args).numpy()
    with np.errstate(all="ignore"):
        exactly = reference(*(a.astype(np.float64) for a in args))
        nearest = exactly.astype(np.float32)
        unit = np.spacing(np.minimum(np.abs(nearest), np.finfo(np.float32).max)).astype(np.float64)
        error = np.abs(got.astype(np.float64) - exactly) / unit
    fine = (got == nearest) | (np.isnan(got) & np.isnan(nearest)) | (error <= LIMITS[name])
    assert fine.all(), f"{name}: {(~fine).sum()} of {x.size} numbers are off: " + "; ".join(
        f"{[a[k] for a in args]} gives {got[k]!r}, exactly {exactly[k]!r}: {error[k]:.2f} ULP"
        for k in np.flatnonzero(~fine)[:3]
    )


# Where a scan of all of [1e-4, 40] and its negative found the float32 functions to be worst
HARDEST = {"silu": [-0.0038016837, -0.060415424], "sigmoid": [-1.1024338], "softplus": [0.0003028809],
           "tanh": [1.35075295, 1.24478829], "gelu": [-0.9776865, -0.96352792], "log_sigmoid": [-0.0003028809],
           "erf": [0.90885276], "exp": [-5.848032], "expm1": [0.39033082], "selu": [-0.15172864], "exp2": [-0.49671218],
           "log": [0.38521904], "log1p": [-0.36509514]}  # fmt: skip


@pytest.mark.parametrize("name", HARDEST)
def test_the_hardest_float32_known(name):
    check_float32(name, np.array(HARDEST[name], np.float32))


def test_tanh_of_float32_stays_in_bounds():
    """Odd, exact where x is tiny, 1 from 10 on, never above 1, and never less than at a smaller number tried."""
    x = np.arange(0, 0x7F800001, 4999, dtype=np.uint32).view(np.float32)
    x = np.append(x, np.float32([10, np.inf]))
    x.sort()
    y = FUNCTIONS["tanh"](x).numpy()
    assert (FUNCTIONS["tanh"](-x).numpy().view(np.uint32) == (-y).view(np.uint32)).all()
    assert (y[x < 1e-4] == x[x < 1e-4]).all() and (y[x >= 10] == 1).all() and y.max() == 1
    assert (np.diff(y) >= 0).all()


@pytest.mark.parametrize("name", IN_FLOAT64)
def test_every_so_many_a_float32_is_within_2_ulp(name):
    check_float32(name, np.arange(0, 1 << 32, 50021, dtype=np.uint32).view(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_FLOAT64)
def test_many_float32_are_within_2_ulp(name):
    for start in range(2 if name in SPECIAL else 16):
        check_float32(name, np.arange(start, 1 << 32, 16 * 101 + 1, dtype=np.uint32).view(np.float32))


# ---- derivatives --------------------------------------------------------------------------------------------------
PAGE = Path(__file__).parent.parent / "docs" / "accuracy.md"
# (function, number of the argument): the text of the unit that its error is measured in where its derivative is smaller
UNITS = {
    (name, "xab".index(letter) - (letter != "x")): unit
    for name, letter, unit in re.findall(r"^\| `(\w+)` \| `([xab])` \| `([^`]+)` \|", PAGE.read_text(), re.M)
}


OVERFLOW_WITH_THE_VALUE = {"exp2"}  # though the derivative is a little smaller


def slope_points(row, n, dtype, seed):
    """Those of values, and more: where exponentials end, and the extremes of two arguments against each other."""
    rng, args = np.random.default_rng(seed), points(row, n, dtype, seed)
    far = 110 if dtype == np.float32 else 760
    if row["arity"] == 1:
        return [np.concatenate([args[0], rng.uniform(-far, far, n).astype(dtype), extremes(dtype, inf=False)])]
    with np.errstate(all="ignore"):
        a, b = pairs(extremes(dtype, inf=False)[:: max(1, 100 // n)])
        tail = np.exp2(rng.uniform(-100, 100, n))
        args = [
            np.concatenate([args[0], a, rng.uniform(-far, far, n), tail * rng.uniform(-far, 0, n)]).astype(dtype),
            np.concatenate([args[1], b, rng.uniform(-far, far, n), tail]).astype(dtype),
        ]
    keep = np.isfinite(args[0]) & np.isfinite(args[1])
    if row["name"] in {"celu", "elu", "prelu", "hard_shrink", "soft_shrink"}:
        keep &= args[1] > 0
    if row["name"] == "copysign":
        keep &= args[1] != 0  # the oracle has no -0
    if row["name"] == "betaln":
        keep &= (args[0] > 0) & (args[1] > 0)
    return [a[keep] for a in args]


# Reads a list of (name, args) and writes the list of their gradients.
GRADIENTS = """
import pickle, sys
import numpy as np
from _oracles import FUNCTIONS, gradients
cases = pickle.load(sys.stdin.buffer)
with np.errstate(all="ignore"):
    pickle.dump([gradients(FUNCTIONS[name], *args) for name, args in cases], sys.stdout.buffer)
"""


def gradients_by(isa, cases):
    """The gradients of every (name, args) of cases with one instruction set."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", GRADIENTS], input=pickle.dumps(cases), capture_output=True, check=False,
        env={**os.environ, "FASTGRAD_ISA": isa, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


@functools.cache
def all_slopes(n, seed):
    """{(name, dtype): (args, {instruction set: the gradient by each argument})}"""
    cases = [(name, slope_points(ROWS[name], n, dtype, seed)) for name in ROWS for dtype in FLOATS]
    found = {isa: gradients_by(isa, cases) for isa in _core.available_isas()}
    return {
        (name, args[0].dtype.type): (args, {isa: slopes[k] for isa, slopes in found.items()})
        for k, (name, args) in enumerate(cases)
    }


def check_slopes(name, dtype, n, seed):
    args, found = all_slopes(n, seed)[name, dtype]
    row, info = ROWS[name], np.finfo(dtype)
    tiny = float(info.tiny)
    for i in range(row["arity"]):
        unit = UNITS.get((name, i))
        for k, point in enumerate(zip(*args)):
            if name == "power" and point[0] < 0 and (point[1] != np.rint(point[1]) or abs(point[1]) > 1e25):
                continue  # the oracle rounds b - 1, to an integer perhaps, or an even one
            expected = exact(row, *point, derivative=i)
            if not mpmath.isfinite(expected):
                continue  # a pole, or outside the domain
            if name in OVERFLOW_WITH_THE_VALUE and exact(row, *point) > float(info.max):
                assert all(slopes[i][k] == np.inf for slopes in found.values()), (name, point)
                continue
            least = text_value(unit, row, *point, tiny=tiny) if unit else 0
            if abs(expected) < tiny:
                least = tiny / info.eps  # an ULP is then the smallest normal number
            for isa, slopes in found.items():
                error = ulps(slopes[i][k], expected, float(least))
                assert error <= SLOPE_LIMIT, (
                    f"d {name} / d argument {i} at {point} is {slopes[i][k]!r} with {isa}, exactly "
                    f"{mpmath.nstr(expected, 20)}: {error:.2f} ULP off"
                )


@of_every_row
def test_slope_within_8_ulp(name, dtype):
    check_slopes(name, dtype, 20, 0)


@pytest.mark.slow
@of_every_row
def test_slope_within_8_ulp_densely(name, dtype):
    check_slopes(name, dtype, 50 if name in SPECIAL else 1000, 1)


def test_the_exceptions_are_rows_of_the_table():
    assert UNITS and VALUE_UNITS
    assert len(UNITS) + len(VALUE_UNITS) == PAGE.read_text().count("\n| `")
    assert all(name in ROWS and i < ROWS[name]["arity"] for name, i in UNITS)
    assert LIMITS.keys() == ROWS.keys() and VALUE_UNITS.keys() <= ROWS.keys()


# At -inf and inf, of what grows as a logarithm, has poles all along, or takes mpmath too long
LIMITS_OF_SLOPES = {
    "gammaln": (np.nan, np.inf), "digamma": (np.inf, 0), "trigamma": (np.nan, 0), "gamma": (np.nan, np.inf),
    "stirling_error": (np.nan, 0),
    "rgamma": (np.nan, 0), "entr": (0, -np.inf), "erfcx": (-np.inf, 0), "erfinv": (np.nan, np.nan),
    "erfcinv": (np.nan, np.nan), "ndtri": (np.nan, np.nan), "log_ndtr": (np.inf, 0), "i0": (-np.inf, np.inf),
    "i1": (np.inf, np.inf), "i0e": (0, 0), "i1e": (0, 0), "j0": (0, 0), "j1": (0, 0), "log1mexp": (-1, 0),
}  # fmt: skip


def limit_of_slope(name, sign):
    """The text of a derivative so far out that only roots and quotients move; the rows that swing have no limit."""
    row, far = ROWS[name], sign * mpmath.mpf(10) ** 40
    if name in {"sin", "cos", "tan"}:
        return np.nan
    if name in LIMITS_OF_SLOPES:
        return LIMITS_OF_SLOPES[name][sign > 0]
    slope = text_value(row["derivatives"][0], row, x=far, y=text_value(row["definition"], row, x=far))
    if not mpmath.isfinite(slope):
        return float(slope)
    return np.inf * float(mpmath.sign(slope)) if abs(slope) > 1e30 else float(slope)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_slope_at_infinity_is_the_limit(name, dtype):
    expected = [limit_of_slope(name, sign) for sign in (-1, 1)]
    got = gradients(FUNCTIONS[name], np.array([-np.inf, np.inf], dtype))[0]
    np.testing.assert_allclose(got, np.array(expected, dtype), rtol=np.finfo(dtype).eps, atol=1e-20, err_msg=name)
    assert np.isnan(gradients(FUNCTIONS[name], np.array([np.nan], dtype))[0]) or name in NAN_HAS_A_SLOPE, name


NAN_HAS_A_SLOPE = {  # constant pieces
    "negative", "positive", "rint", "floor", "ceil", "trunc", "sign", "degrees", "radians", "relu", "relu6",
    "hard_tanh", "hard_sigmoid",
}  # fmt: skip
INF = np.inf
OF_TWO_AT_INFINITY = [
    # name, a, b, derivatives by a and by b
    ("power", INF, 2, INF, INF), ("power", INF, -2, 0, 0), ("power", INF, 1, 1, INF), ("power", 2, INF, INF, INF),
    ("power", 2, -INF, 0, 0), ("power", 0.5, INF, 0, 0), ("power", INF, 0, 0, INF), ("power", 0, 2, 0, 0),
    ("power", 0, 1, 1, 0), ("power", 1, 1e300, 1e300, 0), ("power", -2, 3, 12, np.nan), ("power", -2, 4, -32, np.nan),
    ("power", -2, 0.5, np.nan, np.nan), ("power", np.nan, 1, np.nan, np.nan), ("divide", 1, INF, 0, 0),
    ("arctan2", 1, INF, 0, 0), ("arctan2", INF, 1, 0, 0), ("arctan2", INF, INF, 0, 0), ("hypot", INF, 1, 1, 0),
    ("hypot", 1, -INF, 0, -1), ("hypot", INF, INF, np.nan, np.nan), ("hypot", 0, 0, 0, 0), ("logaddexp", INF, 0, 1, 0),
    ("logaddexp", -INF, 0, 0, 1), ("logaddexp", INF, INF, 0.5, 0.5), ("logaddexp", -INF, -INF, 0.5, 0.5),
    ("logaddexp2", INF, 0, 1, 0), ("logaddexp2", -INF, 0, 0, 1), ("logaddexp2", -INF, -INF, 0.5, 0.5),
    ("celu", -INF, 1, 0, -1), ("celu", INF, 1, 1, 0), ("celu", -1, INF, 1, 0), ("elu", -INF, 2, 0, -1),
    ("elu", INF, 2, 1, 0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name, a, b, by_a, by_b", OF_TWO_AT_INFINITY)
def test_slopes_of_two_arguments_at_infinity(name, a, b, by_a, by_b, dtype):
    if dtype == np.float32 and b == 1e300:
        pytest.skip("1e300 is infinite in float32")
    got = gradients(FUNCTIONS[name], np.array([a], dtype), np.array([b], dtype))
    np.testing.assert_array_equal(np.ravel(got), [by_a, by_b])


@pytest.mark.parametrize("dtype", FLOATS)
def test_slopes_of_hypot_where_it_overflows(dtype):
    most = np.finfo(dtype).max
    a, b = np.array([most, -most, most / 4], dtype), np.array([most, most / 2, -most], dtype)
    expected = [np.array([1, -1, 0.25]), np.array([1, 0.5, -1])] / np.sqrt([2, 1.25, 1.0625])
    with np.errstate(over="ignore"):
        got = gradients(FUNCTIONS["hypot"], a, b)
    np.testing.assert_allclose(got, expected, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2", "hypot", "arctan2"])
@pytest.mark.parametrize("k", [0, 1])
def test_nan_is_in_both_slopes(name, k):
    args = [np.array([0.5]), np.array([2.0])]
    args[k][0] = np.nan
    assert np.isnan(gradients(FUNCTIONS[name], *args)).all()


def test_fmod_knows_the_quotient_that_is_almost_an_integer():
    """a / b rounds to q, but a is less than q b."""
    b, found = 1.1, 0
    for q in range(1, 200):
        a = float(q * b)
        if a / b == q and Fraction(a) < q * Fraction(b):
            found += 1
            for sign in (-1, 1):
                assert gradients(FUNCTIONS["fmod"], np.array([sign * a]), np.array([b]))[1] == -sign * (q - 1)
    assert found > 10


# ---- far out ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name, x, value, slope",
    [
        ("erfcx", 1e305, 5.641895835477563e-306, -0.0), ("erfcx", INF, 0.0, -0.0),
        ("log_ndtr", -1e150, -5e299, 1e150), ("log_ndtr", -1e305, -INF, 1e305),
        ("i0", 1e3, INF, INF), ("i0", 1e300, INF, INF), ("i0", INF, INF, INF), ("i0", -INF, INF, -INF),
        ("i1", -1e3, -INF, INF), ("i1", 1e300, INF, INF), ("i1", -INF, -INF, INF),
    ],
)  # fmt: skip
def test_far_out(name, x, value, slope):
    np.testing.assert_allclose(FUNCTIONS[name](x).item(), value, rtol=1e-15)
    np.testing.assert_allclose(fg.grad(FUNCTIONS[name])(x), slope, rtol=1e-15)


@pytest.mark.parametrize("x", [18.5, 30.0, 1e3, -1e5, 1e12])
def test_slopes_of_scaled_bessel_functions_do_not_cancel(x):
    with mpmath.workdps(60):
        # exp(-a) sqrt(2 pi a) I(v, a) by Hankel's expansion (DLMF 10.40.1); of three of these the slopes are made
        a = abs(mpmath.mpf(x))
        i0e, i1e = (
            mpmath.exp(-a) * mpmath.besseli(v, a) if a < 1e6 else
            (1 - (4 * v - 1) / (8 * a) + (4 * v - 1) * (4 * v - 9) / (128 * a**2)) / mpmath.sqrt(2 * mpmath.pi * a)
            for v in (0, 1)
        )  # fmt: skip
        by_i0e, by_i1e = float(i1e - i0e) * np.sign(x), float(i0e - i1e - i1e / a)
    np.testing.assert_allclose(fg.grad(fg.special.i0e)(x), by_i0e, rtol=8 * np.finfo(float).eps)
    np.testing.assert_allclose(fg.grad(fg.special.i1e)(x), by_i1e, rtol=8 * np.finfo(float).eps)


# ---- derivatives of second order -------------------------------------------------------------------------------------
FAR_ARGUMENTS = [
    -700, -300, -110, -87, -40, -25, -20, -12, -6, -3.5, -0.3, 0.4, 2.5, 5, 9, 16, 20, 33, 60, 90, 300, 700,
]  # fmt: skip
NOT_SMOOTH_FAR_FROM_0 = set(
    "gammaln stirling_error digamma trigamma gamma rgamma erfinv erfcinv erfcx ndtri logit log1mexp entr i0 i1 "
    "sinh cosh exp expm1 exp2 tan arcsin arccos arctanh arccosh log log2 log10 log1p sqrt sin cos square cbrt".split()
)
SMOOTH = [name for name in UNARY if name not in NOT_SMOOTH_FAR_FROM_0]


@functools.cache
def slope_of_the_slope(row, x):
    """The derivative of a derivative's text, by a difference in 420 digits."""
    row = ROWS[row]
    with mpmath.workdps(420):
        h, x = mpmath.mpf(10) ** -60, mpmath.mpf(x)
        y = [text_value(row["definition"], row, x=v, digits=420) for v in (x + h, x - h)]
        high, low = (text_value(row["derivatives"][0], row, x=v, y=w, digits=420) for v, w in zip((x + h, x - h), y))
        return float((high - low) / (2 * h))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives_far_from_0(name, dtype):
    x = np.array(FAR_ARGUMENTS, dtype)
    got = fg.grad(lambda v: fg.grad(lambda u: FUNCTIONS[name](u).sum())(v).sum())(x)
    scale = np.finfo(dtype).eps * (1e-3 if name in RELATIVE_TWICE else 100)
    for k, point in enumerate(x):
        expected = slope_of_the_slope(name, float(point))
        rtol = 1e-3 if dtype == np.float32 else 1e-10
        assert abs(got[k] - expected) <= rtol * abs(expected) + scale, (
            f"the second derivative of {name} at {point} is {got[k]!r}, exactly {expected!r}"
        )


# What rounds to a constant far from 0 must not have lost its curvature with it.
RELATIVE_TWICE = {"sigmoid", "log_sigmoid", "softplus", "erf", "erfc", "silu"}


@pytest.mark.parametrize("name", ["log_sigmoid", "softplus"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_curvature_where_the_slope_rounds_to_1(name, dtype):
    """At distance 20 it is exp(-20), on both sides."""
    curve = fg.hessian(lambda x: FUNCTIONS[name](x).sum())(np.array([-20, 20], dtype))
    expected = np.exp(-20.0) / (1 + np.exp(-20.0)) ** 2 * (1 if name == "softplus" else -1)
    np.testing.assert_allclose(np.diag(curve), [expected] * 2, rtol=8 * np.finfo(dtype).eps)


def test_the_hessian_of_power_at_an_exponent_of_0_is_symmetric():
    hessian = fg.hessian(lambda v: fg.power(v[0], v[1]))(np.array([2.0, 0.0]))
    np.testing.assert_allclose(hessian, [[0, 0.5], [0.5, np.log(2) ** 2]], rtol=1e-15)
    for a in (0.0, 1e-100, INF):
        assert gradients(FUNCTIONS["power"], np.array([a]), np.array([0.0]))[0] == 0
        assert fg.grad(lambda x, a=a: fg.grad(lambda u: fg.power(u, 0.0))(x))(a) == 0
