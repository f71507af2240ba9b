"""The 2 ULP promise: every row of csrc/ops.def in both dtypes over the whole range of the dtype.

Whatever instruction set this process runs with is the one that is tested (FASTGRAD_ISA forces another). The default
run takes some hundred points a function against mpmath, and every ten-thousandth float32 against the float64
functions of NumPy and SciPy; `-m slow` takes many more of both.
"""

import mpmath
import numpy as np
import pytest
import scipy.special
from _oracles import FLOATS, FUNCTIONS, ROWS, off

LIMIT = 2.0

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
    return [a[keep] for a in args]


def check(name, dtype, n, seed):
    args = points(ROWS[name], n, dtype, seed)
    got = FUNCTIONS[name](*args).numpy()
    worst = (0.0, None, None, None)
    for k, point in enumerate(zip(*args)):
        error, expected = off(name, point, got[k])
        if error > worst[0]:
            worst = error, point, got[k], expected
    assert worst[0] <= LIMIT, (
        f"{name}{worst[1]} = {worst[2]!r}, exactly {mpmath.nstr(worst[3], 20)}: {worst[0]:.2f} ULP off "
        f"(of {len(got)} points)"
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_within_2_ulp(name, dtype):
    check(name, dtype, 100, 0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_within_2_ulp_densely(name, dtype):
    for seed in (1, 2):
        check(name, dtype, 1000, seed)


# ---- float32 against float64 functions of other makers ----------------------------------------------------------
IN_FLOAT64 = {name: getattr(np, name) for name in ROWS if isinstance(getattr(np, name, None), np.ufunc)} | {
    "erf": scipy.special.erf, "erfc": scipy.special.erfc, "sigmoid": scipy.special.expit,
    "log_sigmoid": scipy.special.log_expit, "softplus": lambda x: np.logaddexp(0, x),
    "silu": lambda x: x * scipy.special.expit(x), "gelu": lambda x: x * scipy.special.ndtr(x),
    "elu": lambda a, b: np.where(a > 0, a, b * np.expm1(np.minimum(a, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "mish": lambda x: np.where(np.abs(x) < 80, x * np.tanh(np.log1p(np.exp(np.minimum(x, 80)))),
    np.where(x < 0, x * np.exp(x), x)),
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
    fine = (got == nearest) | (np.isnan(got) & np.isnan(nearest)) | (error <= LIMIT)
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
    for start in range(16):
        check_float32(name, np.arange(start, 1 << 32, 16 * 101 + 1, dtype=np.uint32).view(np.float32))
