"""What the tests compare with: the rows of csrc/ops.def evaluated in mpmath, NumPy, and plain loops.

No kernel of fastgrad takes part in an oracle. `exact` raises the working precision until two evaluations agree, so a
definition may cancel or underflow as it likes: the row is what is tested, not how the row is written.
"""

import functools
import importlib.util
import os
import re
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import settings

import fastgrad as fg
from fastgrad import _core
from fastgrad._rules import formula

ROWS = {row["name"]: row for row in _core.op_table()}
UNARY = [name for name, row in ROWS.items() if row["arity"] == 1]
BINARY = [name for name, row in ROWS.items() if row["arity"] == 2]
FLOATS = [np.float32, np.float64]
FUNCTIONS = _core.functions  # the rows themselves; fg.elu and its like give some of them defaults


# ---- the rows in high precision ---------------------------------------------------------------------------
def _real(function):
    """Outside its real domain mpmath answers with a complex number; the value there is nan."""

    def call(*args):
        y = function(*args)
        return y if isinstance(y, mpmath.mpf) else mpmath.nan

    return call


def _whole(x):
    return mpmath.isfinite(x) and x == mpmath.floor(x)


def _trunc(x):
    return mpmath.floor(x) if x >= 0 else mpmath.ceil(x)


def _power(a, b):
    if a < 0 and not _whole(b):
        return mpmath.nan
    if a == 0 and b < 0:
        return mpmath.inf
    return mpmath.power(a, b)


def _erfc(x):
    """mpmath.erfc gives up on arguments whose square has too many digits; from 1e6 on the value is none of ours."""
    return mpmath.mpf(1 - mpmath.sign(x)) if abs(x) > 1e6 else mpmath.erfc(x)


def _exp(x):
    """mpmath.exp takes minutes where the exponent of its result has hundreds of digits; 0 is near enough there, except
    in a logarithm (see WITHOUT_UNDERFLOW)."""
    return mpmath.mpf(0) if x < -1e7 else mpmath.exp(x)


def _at_poles(function, value):
    """A function of 0 and the negative integers, where it has poles; `value` is what it is there."""
    return lambda x: value(x) if x <= 0 and _whole(x) else function(x)


def _gammaln(x):
    """From 1e20 on Stirling's series, whose terms are too small to be seen; mpmath takes all digits of x there."""
    if abs(x) < 1e20:
        return mpmath.re(mpmath.loggamma(x))
    x = abs(x)  # a whole number where it is negative: the caller knows the pole
    return (x - mpmath.mpf(1) / 2) * mpmath.log(x) - x + mpmath.log(2 * mpmath.pi) / 2 + 1 / (12 * x)


def _stirling_error(x):
    """With digits for x + 1, of a tiny x, and for the difference, of a large one."""
    if not x > 0 or mpmath.isinf(x):
        return x if x >= 0 else mpmath.nan
    with mpmath.extraprec(abs(mpmath.frexp(x)[1]) + 20):
        return _gammaln(1 + x) - x * mpmath.log(x) + x


def _polygamma(n, x):
    """Of order 1 or 2. For negative x by reflection (DLMF 5.15.6), where mpmath adds as many terms as |x| is large."""
    if x >= 0:
        return mpmath.polygamma(n, x)
    s, c = mpmath.sinpi(x), mpmath.cospi(x)
    if n == 1:
        return (mpmath.pi / s) ** 2 - mpmath.polygamma(1, 1 - x)
    return mpmath.polygamma(2, 1 - x) - 2 * c * (mpmath.pi / s) ** 3


def _gamma(x):
    """Where it over- or underflows any dtype, a number that does, of its sign."""
    if abs(x) < 1e4:
        return mpmath.gamma(x)
    return mpmath.mpf(10) ** 10000 if x > 0 else mpmath.mpf(10) ** -10000 * (-1) ** int(mpmath.floor(x))


def _erfcx(x):
    """By its asymptotic series where the square of x has too many digits for mpmath."""
    if x < 1e6:
        return mpmath.exp(x * x) * mpmath.erfc(x)
    term = total = mpmath.mpf(1)
    for k in range(1, 200):
        term *= -(2 * k - 1) / (2 * x * x)
        if abs(term) <= mpmath.eps:
            break
        total += term
    return (total + term) / (x * mpmath.sqrt(mpmath.pi))


def _scaled_bessel(order, x):
    """exp(-|x|) times the modified Bessel function, from 1e7 on by Hankel's series (DLMF 10.40.1)."""
    if abs(x) < 1e7:
        return mpmath.besseli(order, x) * mpmath.exp(-abs(x))
    term = total = mpmath.mpf(1)
    for k in range(1, 200):
        term *= -(4 * order**2 - (2 * k - 1) ** 2) / (8 * k * abs(x))
        if abs(term) <= mpmath.eps:
            break
        total += term
    return total / mpmath.sqrt(2 * mpmath.pi * abs(x)) * (mpmath.sign(x) if order else 1)


def _bessel(order, x):
    """The Bessel function of order 0 or 1, from 1e4 on by Hankel's series (DLMF 10.17.3). The sine and cosine are those
    of x itself, which keep their digits where x - pi / 4 has none left."""
    a = abs(x)
    if a < 1e4:
        return mpmath.besselj(order, x)
    sums, term = [mpmath.mpf(1), mpmath.mpf(0)], mpmath.mpf(1)
    for k in range(1, 2000):
        term *= (4 * order**2 - (2 * k - 1) ** 2) / (8 * k * a)
        sums[k % 2] += -term if k % 4 >= 2 else term
        if abs(term) <= mpmath.eps:
            break
    s, c = mpmath.sin(a), mpmath.cos(a)
    plus, minus = s + c, s - c
    y = minus * sums[0] + plus * sums[1] if order else plus * sums[0] - minus * sums[1]
    return y / mpmath.sqrt(mpmath.pi * a) * (mpmath.sign(x) if order else 1)


def _log_ndtr(x):
    if x > 0:
        return mpmath.log1p(-_erfc(x / mpmath.sqrt(2)) / 2)
    return mpmath.log(_erfcx(-x / mpmath.sqrt(2)) / 2) - x * x / 2


def _quantile(log_tail):
    """The x >= 0 whose upper tail of the normal distribution has this logarithm, by Newton's method."""
    x = mpmath.sqrt(max(-2 * log_tail - mpmath.log(2 * mpmath.pi * max(1, -2 * log_tail)), 0))
    for _ in range(200):
        step = (_log_ndtr(-x) - log_tail) * mpmath.sqrt(mpmath.pi / 2) * _erfcx(x / mpmath.sqrt(2))
        x += step
        if abs(step) <= abs(x) * mpmath.eps * 4:
            break
    return x


def _ndtri(p):
    if not 0 <= p <= 1:
        return mpmath.nan
    if p in (0, 1):
        return mpmath.inf * (2 * p - 1)
    if 0.3 < p < 0.7:
        return mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)
    return -_quantile(mpmath.log(p)) if p < 0.5 else _quantile(mpmath.log(1 - p))


def _erfcinv(x):
    return -_ndtri(x / 2) / mpmath.sqrt(2)


def _erfinv(x):
    return mpmath.erfinv(x) if abs(x) < 0.5 else mpmath.sign(x) * _erfcinv(1 - abs(x))


FUNCTIONS_OF_TEXTS = {
    "exp": _exp, "exp2": lambda x: mpmath.power(2, x), "expm1": mpmath.expm1, "log": _real(mpmath.log),
    "sqrt": _real(mpmath.sqrt),
    "cbrt": lambda x: mpmath.cbrt(abs(x)) * (1 if x >= 0 else -1), "power": _power, "hypot": mpmath.hypot,
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "sinh": mpmath.sinh, "cosh": mpmath.cosh,
    "tanh": mpmath.tanh, "arcsin": _real(mpmath.asin), "arccos": _real(mpmath.acos), "arctan": mpmath.atan,
    "arctan2": mpmath.atan2, "arcsinh": mpmath.asinh, "arccosh": _real(mpmath.acosh),
    "arctanh": _real(mpmath.atanh), "erf": lambda x: mpmath.erf(min(max(x, -1e6), 1e6)), "erfc": _erfc, "absolute": abs,
    "sign": mpmath.sign,
    "rint": mpmath.nint, "floor": mpmath.floor, "ceil": mpmath.ceil, "trunc": _trunc,
    "floor_divide": lambda a, b: mpmath.floor(a / b), "copysign": lambda a, b: abs(a) * (1 if b >= 0 else -1),
    "minimum": min, "maximum": max, "sigmoid": lambda x: _exp(min(x, 0)) / (1 + _exp(-abs(x))),
    "softplus": lambda x: max(x, 0) + mpmath.log1p(mpmath.exp(-abs(x))), "log1p": _real(mpmath.log1p),
    "gammaln": _at_poles(_gammaln, lambda x: mpmath.inf),
    "digamma": _at_poles(mpmath.digamma, lambda x: mpmath.nan if x else -mpmath.inf),
    "trigamma": _at_poles(functools.partial(_polygamma, 1), lambda x: mpmath.inf),
    "polygamma": lambda n, x: _at_poles(functools.partial(_polygamma, n), lambda x: mpmath.nan)(x),
    "gamma": _at_poles(_gamma, lambda x: mpmath.nan if x else mpmath.inf),
    "rgamma": _at_poles(lambda x: 1 / _gamma(x), lambda x: mpmath.mpf(0)),
    "erfcx": _erfcx, "ndtr": lambda x: _erfc(-x / mpmath.sqrt(2)) / 2, "log_ndtr": _log_ndtr, "ndtri": _ndtri,
    "erfinv": _erfinv, "erfcinv": _erfcinv, "i0": lambda x: mpmath.besseli(0, x), "i1": lambda x: mpmath.besseli(1, x),
    "i0e": functools.partial(_scaled_bessel, 0),
    "j0": functools.partial(_bessel, 0), "j1": functools.partial(_bessel, 1),
    "i1e": functools.partial(_scaled_bessel, 1), "stirling_error": _stirling_error,
}  # fmt: skip
CONSTANTS_OF_TEXTS = {
    "LN_2": lambda: mpmath.ln(2), "LN_10": lambda: mpmath.ln(10), "DEGREES_PER_RADIAN": lambda: 180 / mpmath.pi,
    "RADIANS_PER_DEGREE": lambda: mpmath.pi / 180, "SQRT_HALF": lambda: mpmath.sqrt(mpmath.mpf(1) / 2),
    "TWO_OVER_SQRT_PI": lambda: 2 / mpmath.sqrt(mpmath.pi), "ONE_SIXTH": lambda: mpmath.mpf(1) / 6,
    "ONE_OVER_SQRT_2PI": lambda: 1 / mpmath.sqrt(2 * mpmath.pi),
    "SQRT_2_OVER_PI": lambda: mpmath.sqrt(2 / mpmath.pi), "GELU_CUBIC": lambda: mpmath.mpf("0.044715"),
    # Klambauer et al., "Self-normalizing neural networks" (2017), equation 14
    "SELU_SCALE": lambda: mpmath.mpf("1.05070098735548049341933498529"),
    "SELU_ALPHA": lambda: mpmath.mpf("1.67326324235437728481704299167"),
}  # fmt: skip
# Definitions with exponentials that may be 0 or infinite, or sums in which any number of digits is not enough, as the
# same functions of finite arguments without them.
WITHOUT_UNDERFLOW = {
    "logaddexp": "maximum(a, b) + log(1 + exp(-absolute(a - b)))", "i0e": "i0e(x)", "i1e": "i1e(x)",
    "stirling_error": "stirling_error(x)",
}  # fmt: skip
DIGITS = (30, 60, 120, 400, 1000)


@functools.cache
def _names(digits):
    with mpmath.workdps(digits):
        return {**FUNCTIONS_OF_TEXTS, **{name: +value() for name, value in CONSTANTS_OF_TEXTS.items()}}


def _evaluate(text, letters, digits):
    with mpmath.workdps(digits):
        try:
            return mpmath.mpf(formula.evaluate(text, {**_names(digits), **letters}, scalar=True))
        except (ZeroDivisionError, mpmath.libmp.ComplexResult):
            return mpmath.nan


def exact(row, *args, derivative=None):
    """The row's definition, or its derivative by argument number `derivative`, to some 20 digits."""
    letters = dict(zip("x" if row["arity"] == 1 else "ab", (mpmath.mpf(float(v)) for v in args)))
    definition = WITHOUT_UNDERFLOW.get(row["name"], row["definition"])
    text = definition if derivative is None else row["derivatives"][derivative]
    needs_y = derivative is not None and "y" in formula.names(text)
    previous = known = None
    for digits in DIGITS:
        if needs_y:
            letters["y"] = _evaluate(definition, letters, digits)
            if known is None or not _agree(letters["y"], known):  # an inexact y would make two evaluations agree
                known = letters["y"]
                if mpmath.isfinite(known) and digits < DIGITS[-1]:
                    continue
        value = _evaluate(text, letters, digits)
        if not mpmath.isfinite(value):
            return value
        if previous is not None and _agree(value, previous):
            return value
        if value == previous == 0 and formula.names(text).isdisjoint(ROUGH):
            return value
        previous = value
    return value


def _agree(value, previous):
    """To some 22 digits. A 0 may be what an underflow of "1 + tiny" left; only the highest precision is believed."""
    return value != 0 and abs(value - previous) <= abs(value) * mpmath.mpf(10) ** -22


def text_value(text, row, *args, digits=400, **letters):
    """A text in the letters of a row's arguments, and others."""
    letters = {**dict(zip("x" if row["arity"] == 1 else "ab", (mpmath.mpf(float(v)) for v in args))), **letters}
    return _evaluate(text, letters, digits)


# docs/accuracy.md: the limit of the values of special functions, and the units that some are measured in near zeros.
_PAGE = (Path(__file__).parent.parent / "docs" / "accuracy.md").read_text()
_SPECIAL = re.search(r"These err by at most 4 ULP: ([^.]+)\.", _PAGE)[1]
LIMITS = dict.fromkeys(ROWS, 2.0) | dict.fromkeys(re.findall(r"`(\w+)`", _SPECIAL), 4.0)
VALUE_UNITS = dict(re.findall(r"^\| `(\w+)` \| the value \| `([^`]+)` \|", _PAGE, re.M))

# Where a definition has one of these, a result of 0 may be rounded: only that of the highest precision is believed.
ROUGH = set(
    "cosh digamma erf erfc erfcx exp exp2 floor gammaln i0e i1e log log_ndtr power sigmoid sinh tanh trunc".split()
)


def ulps(got, value, least=0.0):
    """How many units in the last place got, a NumPy scalar, is away from the exact value: units of the exact value's
    binade, or of that of `least` where it is larger."""
    info = np.finfo(got.dtype)
    if mpmath.isnan(value) or np.isnan(got):
        return 0.0 if mpmath.isnan(value) and np.isnan(got) else np.inf
    largest = mpmath.mpf(float(info.max))
    if np.isinf(got):
        value, got = min(max(value, -largest * 2), largest * 2), float(np.sign(got)) * float(info.max) * mpmath.mpf(1)
        return 0.0 if abs(value) > largest and value * got > 0 else float(abs(value - got) / _ulp(largest, info)) + 1
    return float(abs(mpmath.mpf(float(got)) - value) / _ulp(min(max(abs(value), mpmath.mpf(least)), largest), info))


def _ulp(size, info):
    exponent = mpmath.frexp(size)[1] - 1 if size else info.minexp
    return mpmath.ldexp(1, max(exponent, info.minexp) - info.nmant)


def off(name, args, got):
    """By how many ULP a value of a row is off, and what it should be.

    One exception to what an ULP is: in logaddexp and logaddexp2 the larger operand and the logarithm added to it may
    cancel to any degree. What is left is then measured by an eighth of the larger operand.
    """
    value = exact(ROWS[name], *args)
    if name in VALUE_UNITS and mpmath.isfinite(value):
        return ulps(got, value, float(text_value(VALUE_UNITS[name], ROWS[name], *args, digits=60))), value
    least = abs(float(max(args))) / 8 if name in {"logaddexp", "logaddexp2"} and np.isfinite(args).all() else 0.0
    return ulps(got, value, least), value


def exact_derivative(row, orders, *args):
    """A partial derivative of a row's definition, from differences in high precision."""
    letters = "x" if row["arity"] == 1 else "ab"
    with mpmath.workdps(60):
        names = {**FUNCTIONS_OF_TEXTS, **{name: value() for name, value in CONSTANTS_OF_TEXTS.items()}}

        def definition(*values):
            return formula.evaluate(row["definition"], {**names, **dict(zip(letters, values))}, scalar=True)

        return float(mpmath.diff(definition, tuple(map(float, args)), orders))


# ---- inputs -------------------------------------------------------------------------------------------------
def samples(row, n, dtype, seed=0):
    """One array for each argument, drawn from the row's test domain."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(lo, hi, n).astype(dtype) for lo, hi in row["domain"]]


def extremes(dtype, inf=True):
    """Zeros, denormals, the ends of the range and numbers in between, of both signs; infinities and nan."""
    info = np.finfo(dtype)
    big, small = (1e30, 1e-30) if dtype == np.float32 else (1e300, 1e-300)
    sizes = [0, info.smallest_subnormal, info.tiny / 4, info.tiny, small, info.eps, 0.5, 1, 1.5, 2, 3, 20, 88, 1000,
             1 / info.eps, big, info.max]  # fmt: skip
    values = np.array(sizes + [np.inf] * inf, dtype)
    return np.concatenate([values, -values, np.array([np.nan] * inf, dtype)])


def pairs(values):
    """All pairs of values, as two arrays."""
    return [grid.ravel() for grid in np.meshgrid(values, values)]


def layouts(x):
    """The values of x as arrays that lie in memory in every way NumPy has."""
    spread = np.zeros(tuple(2 * n + 1 for n in x.shape), x.dtype)
    spread[(slice(None, -1, 2),) * x.ndim] = x
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    backward = (slice(None, None, -1),) * x.ndim
    return {
        "contiguous": x.copy(), "every other element": spread[(slice(None, -1, 2),) * x.ndim],
        "negative strides": np.ascontiguousarray(x[backward])[backward], "Fortran order": np.asfortranarray(x),
        "big-endian": x.astype(x.dtype.newbyteorder(">")), "unaligned": unaligned,
        "broadcast": np.broadcast_to(x, (2, *x.shape)),
    }  # fmt: skip


def broadcast_operands(name):
    """Operands of shapes (3, 2) and (2,) for a binary row, within its domain and off its ties."""
    lows, highs = zip(*ROWS[name]["domain"])
    a = np.linspace(lows[0] + 0.1, highs[0], 6).reshape(3, 2) + 0.01
    b = np.linspace(lows[1], highs[1] - 0.1, 2) + 0.013
    return a, b


def sgd_numbers(learning_rate, **numbers):
    """The numbers of the row sgd of csrc/optim.def, in its order, 0 unless given."""
    numbers["learning_rate"] = learning_rate
    return tuple(numbers.pop(name, 0.0) for name in _core.OPTIMIZERS["sgd"][1])


# ---- the machine ----------------------------------------------------------------------------------------------
ADDRESS_SANITIZER = "asan" in os.environ.get("LD_PRELOAD", "")


# ---- lack of memory -------------------------------------------------------------------------------------------
needs_lack_of_memory = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None or sys.version_info[:2] in ((3, 12), (3, 13)),
    reason="no _testcapi, or CPython 3.12 or 3.13, which crash themselves where they have no memory for a function",
)


# ---- gradients ------------------------------------------------------------------------------------------------
def gradients(f, *args, cotangent=None):
    """The gradients of f(*args) by each argument, as ndarrays; the cotangent is ones unless given."""
    tensors = [fg.tensor(a, requires_grad=True) for a in args]
    y = f(*tensors)
    y.backward(np.ones(y.shape, y.dtype) if cotangent is None else cotangent)
    return [None if t.grad is None else t.grad.numpy() for t in tensors]


def same_bits(got, expected, message=""):
    """Equal in every bit, but for the payload of a nan."""
    got, expected = (x.numpy() if isinstance(x, fg.Tensor) else np.asarray(x) for x in (got, expected))
    assert got.dtype == expected.dtype, f"{message}: dtype {got.dtype}, expected {expected.dtype}"
    assert got.shape == expected.shape, f"{message}: shape {got.shape}, expected {expected.shape}"
    np.testing.assert_array_equal(got, expected, message)
    np.testing.assert_array_equal(
        np.signbit(got) & (got == got), np.signbit(expected) & (expected == expected), message
    )


property_test = settings(max_examples=60, deadline=None, database=None, derandomize=True)
