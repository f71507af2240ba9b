"""The calls with which function_table.py finds what becomes of tensors in functions that no protocol of NumPy sees,
and those functions that are not called, each with its reason."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastgrad._instead import WRITTEN

SAMPLE = np.array([0.3, 0.6, 0.5, 0.9, 0.2, 0.7, 0.4, 0.8])
OTHER = np.array([0.35, 0.1, 0.55, 0.65, 0.25, 0.75, 0.95, 0.45])
PAIRS = np.stack([SAMPLE, OTHER], 1)
SQUARE = np.array([[4.0, 1.0], [1.0, 3.0]])
NUMBERS = np.array([0.3, 0.6])
HALF, THREE, SIX = np.array(0.5), np.array(3.0), np.array(6.0)

Tracked = Callable[[np.ndarray], Any]

# name: how it is called, given the function and what makes a tensor of an array; others are called as by `general`.
CALLS: dict[str, dict[str, Callable[[Callable[..., Any], Tracked], Any]]] = {
    "numpy": {
        "arange": lambda f, t: f(t(THREE)),
        "array": lambda f, t: f([t(HALF), t(THREE)]),
        "bmat": lambda f, t: f([[t(SQUARE), t(SQUARE)]]),
        "from_dlpack": lambda f, t: f(t(NUMBERS)),
        "frombuffer": lambda f, t: f(t(NUMBERS)),
        "fromfunction": lambda f, t: f(lambda i, j: t(THREE) * i * j, (2, 2)),
        "fromiter": lambda f, t: f([t(HALF), t(THREE)], float),
        "frompyfunc": lambda f, t: f(lambda x: x * x, 1, 1)(t(NUMBERS)),
        "full": lambda f, t: f((2, 2), t(HALF)),
        "kaiser": lambda f, t: f(3, t(HALF)),
        "nested_iters": lambda f, t: f([t(SQUARE)], [[0], [1]]),
    },
    "scipy.special": {
        "ellip_harm": lambda f, t: f(5.0, 8.0, 1, 1, t(THREE)),
        "ellip_harm_2": lambda f, t: f(5.0, 8.0, 2, 1, t(SIX * 2)),
        "ellip_normal": lambda f, t: f(t(THREE), t(SIX), 1, 1),
        "diric": lambda f, t: f(t(NUMBERS), 3),
        "jacobi": lambda f, t: f(2, t(HALF), t(HALF)),
        "sh_jacobi": lambda f, t: f(2, t(THREE), t(HALF)),
        "multigammaln": lambda f, t: f(t(THREE), 2),
        "obl_cv_seq": lambda f, t: f(0, 1, t(HALF)),
        "pro_cv_seq": lambda f, t: f(0, 1, t(HALF)),
        "lqmn": lambda f, t: f(1, 1, t(HALF)),
    }
    | dict.fromkeys(
        ["gegenbauer", "genlaguerre", "lmbda", "lqn", "pbdv_seq", "pbvv_seq", "pbdn_seq", "riccati_jn", "riccati_yn",
         "mathieu_even_coef", "mathieu_odd_coef", "cg_roots", "la_roots", "roots_gegenbauer", "roots_genlaguerre"],
        lambda f, t: f(1, t(HALF)),
    )
    | dict.fromkeys(["j_roots", "js_roots", "roots_jacobi", "roots_sh_jacobi"], lambda f, t: f(1, t(THREE), t(HALF))),
    "scipy.stats": {
        "anderson_ksamp": lambda f, t: f([t(SAMPLE), t(OTHER)]),
        "binned_statistic_dd": lambda f, t: f(t(PAIRS), t(SAMPLE)),
        "binomtest": lambda f, t: f(3, 10, t(HALF)),
        "bootstrap": lambda f, t: f((t(SAMPLE),), np.mean, n_resamples=9),
        "boxcox_llf": lambda f, t: f(0.5, t(SAMPLE)),
        "boxcox_normplot": lambda f, t: f(t(SAMPLE), 0, 1, N=3),
        "yeojohnson_llf": lambda f, t: f(0.5, t(SAMPLE)),
        "yeojohnson_normplot": lambda f, t: f(t(SAMPLE), 0, 1, N=3),
        "cramervonmises": lambda f, t: f(t(SAMPLE), "norm"),
        "directional_stats": lambda f, t: f(t(PAIRS)),
        "dunnett": lambda f, t: f(t(SAMPLE), control=t(OTHER)),
        "expectile": lambda f, t: f(t(SAMPLE), 0.4),
        "fit": lambda f, t: f(_normal(), t(SAMPLE), [(0, 1), (0.1, 1)]),
        "goodness_of_fit": lambda f, t: f(_normal(), t(SAMPLE), n_mc_samples=9),
        "kstest": lambda f, t: f(t(SAMPLE), "norm"),
        "ks_1samp": lambda f, t: f(t(SAMPLE), _normal().cdf),
        "linregress": lambda f, t: f(t(SAMPLE), t(OTHER)),
        "monte_carlo_test": lambda f, t: f(t(SAMPLE), np.random.default_rng(0).normal, np.mean, n_resamples=9),
        "fligner": lambda f, t: f(t(SAMPLE[:7] ** 2), t(OTHER[:7] ** 3)),  # no ties of distances from the median
        "bws_test": lambda f, t: f(t(SAMPLE[:4]), t(OTHER[:4])),  # few enough for all permutations
        "mvsdist": lambda f, t: f(t(SAMPLE))[0].mean(),
        "multiscale_graphcorr": lambda f, t: f(t(PAIRS), t(PAIRS), reps=2),
        "page_trend_test": lambda f, t: f(t(PAIRS.T)),
        "percentileofscore": lambda f, t: f(t(SAMPLE), 0.5),
        "permutation_test": lambda f, t: f((t(SAMPLE), t(OTHER)), lambda a, b: a.mean() - b.mean(), n_resamples=9),
        "pmean": lambda f, t: f(t(SAMPLE), 2),
        "poisson_means_test": lambda f, t: f(3, t(THREE), 4, t(THREE)),
        "ppcc_plot": lambda f, t: f(t(SAMPLE), 0, 1, N=3),
        "quantile": lambda f, t: f(t(SAMPLE), 0.4),
        "quantile_test": lambda f, t: f(t(SAMPLE), q=0.45),
        "scoreatpercentile": lambda f, t: f(t(SAMPLE), 40),
        "sobol_indices": lambda f, t: f(func=lambda x: t(HALF) * x.sum(0), n=2, dists=[_uniform(), _uniform()]),
        "trim1": lambda f, t: f(t(SAMPLE), 0.2),
        "trimboth": lambda f, t: f(t(SAMPLE), 0.2),
        "trim_mean": lambda f, t: f(t(SAMPLE), 0.2),
        "ttest_1samp": lambda f, t: f(t(SAMPLE), 0.5),
        "ttest_ind_from_stats": lambda f, t: f(t(HALF), t(HALF), 5, t(THREE), t(HALF), 5),
        "wasserstein_distance_nd": lambda f, t: f(t(PAIRS), t(PAIRS * 2)),
    }
    | dict.fromkeys(["barnard_exact", "boschloo_exact", "chi2_contingency", "fisher_exact", "somersd"],
                    lambda f, t: f(t(SQUARE))),
}  # fmt: skip


def _normal() -> Any:
    from scipy.stats import norm

    return norm


def _uniform() -> Any:
    from scipy.stats import uniform

    return uniform()


def general(f: Callable[..., Any]) -> Iterator[Callable[[Callable[..., Any], Tracked], Any]]:
    """The ways in which any other function is called."""
    yield lambda f, t: f(t(SAMPLE))
    yield lambda f, t: f(t(SAMPLE), t(OTHER))
    yield lambda f, t: f(t(SAMPLE), t(OTHER), t(SAMPLE * OTHER))
    yield lambda f, t: f(1, t(NUMBERS))
    yield lambda f, t: f(2, 1, t(NUMBERS))
    yield lambda f, t: f(2, 1, t(NUMBERS), t(NUMBERS))
    yield lambda f, t: f(t(SQUARE))
    yield lambda f, t: f(t(THREE))


# Functions that make no use of arrays of numbers: reason -> their names.
WITHOUT_NUMBERS: dict[str, dict[str, str]] = {
    "numpy": {
        "read files, text and iterables of it": "fromfile fromregex fromstring genfromtxt load loadtxt",
        "make arrays of a shape or a count, and ask shapes": (
            "bartlett blackman broadcast_shapes diag_indices empty eye hamming hanning identity indices mask_indices "
            "ones tri tril_indices triu_indices zeros"
        ),
        "dtypes": "datetime_data isdtype issubdtype mintypecode promote_types typename",
        "settings and descriptions": (
            "get_include get_printoptions getbufsize geterr geterrcall info printoptions set_printoptions setbufsize "
            "seterr seterrcall show_config show_runtime test"
        ),
        "the text of one number": "base_repr binary_repr format_float_positional format_float_scientific",
    },
    "numpy.linalg": {"runs NumPy's tests": "test"},
    "scipy.special": {
        "tables of zeros, by counts": (
            "ai_zeros bei_zeros beip_zeros ber_zeros berp_zeros bi_zeros erf_zeros fresnel_zeros fresnelc_zeros "
            "fresnels_zeros jn_zeros jnjnp_zeros jnp_zeros jnyn_zeros kei_zeros keip_zeros kelvin_zeros ker_zeros "
            "kerp_zeros y0_zeros y1_zeros y1p_zeros yn_zeros ynp_zeros"
        ),
        "polynomials and nodes of quadrature, by a degree": (
            "c_roots chebyc chebys chebyt chebyu h_roots he_roots hermite hermitenorm l_roots laguerre legendre "
            "p_roots ps_roots roots_chebyc roots_chebys roots_chebyt roots_chebyu roots_hermite roots_hermitenorm "
            "roots_laguerre roots_legendre roots_sh_chebyt roots_sh_chebyu roots_sh_legendre s_roots sh_chebyt "
            "sh_chebyu sh_legendre t_roots ts_roots u_roots us_roots"
        ),
        "whole numbers of whole numbers": "bernoulli euler factorial2 factorialk stirling2",
        "settings": "geterr seterr test",
    },
    "scipy.stats": {
        "take or make distributions": "make_distribution truncate order_statistic abs exp log",
        "takes a test and a sampler": "power",
        "runs SciPy's tests": "test",
    },
}


# What to write instead of NumPy's functions that are refused; by name, with the arguments by which the test compares.
OF_NUMPY: dict[str, tuple[str, dict[str, Any]]] = {
    "array": ("fastgrad.asarray(x)", {"x": [HALF, THREE]}),
    "asanyarray": ("fastgrad.asarray(x)", {"x": SAMPLE}),
    "asarray": ("fastgrad.asarray(x)", {"x": SAMPLE}),
    "bmat": ("numpy.block(x)", {"x": [[SQUARE, SQUARE]]}),
    "fromiter": ("fastgrad.stack(list(x))", {"x": NUMBERS, "dtype": float}),
    "full": ("fastgrad.full(shape, x)", {"shape": (2, 3), "x": HALF}),
    "kaiser": (
        "numpy.i0(beta * numpy.sqrt(1 - numpy.linspace(-1, 1, M) ** 2)) / numpy.i0(beta)", {"M": 6, "beta": THREE},
    ),
}  # fmt: skip

# The arguments by which the test compares what fastgrad/_instead.py has instead of SciPy's. Empty: it is no expression
# of these arguments.
GIVEN: dict[str, dict[str, dict[str, Any]]] = {
    "scipy.special": {
        "boxcox": {"x": NUMBERS, "lmbda": 0.5},
        "chdtr": {"v": 3.0, "x": NUMBERS},
        "chdtrc": {"v": 3.0, "x": NUMBERS},
        "comb": {"n": SIX, "k": NUMBERS},
        "perm": {"n": SIX, "k": 2},
        "cosdg": {"x": NUMBERS},
        "cosm1": {"x": NUMBERS},
        "diric": {"x": NUMBERS, "n": 3},
        "exp10": {"x": NUMBERS},
        "exprel": {"x": NUMBERS},
        "fdtr": {"dfn": 2.0, "dfd": 5.0, "x": NUMBERS},
        "gdtr": {"a": 2.0, "b": 3.0, "x": NUMBERS},
        "huber": {"delta": 0.5, "r": NUMBERS},
        "inv_boxcox": {"y": NUMBERS, "lmbda": 0.5},
        "k0": {"x": NUMBERS},
        "k0e": {"x": NUMBERS},
        "k1": {"x": NUMBERS},
        "k1e": {"x": NUMBERS},
        "kn": {"n": 2, "x": NUMBERS},
        "log_softmax": {"x": PAIRS, "axis": 0},
        "logsumexp": {"x": PAIRS, "axis": 0},
        "loggamma": {"z": NUMBERS},
        "multigammaln": {"a": THREE, "d": 2},
        "pdtr": {"k": 2.0, "m": NUMBERS},
        "poch": {"z": NUMBERS, "m": 2.0},
        "polygamma": {"n": 1, "x": NUMBERS},
        "powm1": {"x": NUMBERS, "y": 2.0},
        "pseudo_huber": {"delta": 0.5, "r": NUMBERS},
        "sindg": {"x": NUMBERS},
        "softmax": {"x": PAIRS, "axis": 0},
        "spherical_in": {"n": 2, "x": NUMBERS},
        "spherical_jn": {"n": 2, "x": NUMBERS},
        "spherical_kn": {"n": 2, "x": NUMBERS},
        "spherical_yn": {"n": 2, "x": NUMBERS},
        "tandg": {"x": NUMBERS},
        "y0": {"x": NUMBERS},
        "y1": {"x": NUMBERS},
        "yn": {"n": 2, "x": NUMBERS},
    },
    "scipy.stats": {
        "boxcox": {"x": SAMPLE, "lmbda": 0.5},
        "entropy": {"p": SAMPLE / SAMPLE.sum()},
        "gmean": {"x": SAMPLE},
        "hmean": {"x": SAMPLE},
        "iqr": {"x": SAMPLE},
        "kurtosis": {"x": SAMPLE},
        "linregress": {"x": SAMPLE, "y": OTHER},
        "moment": {"x": SAMPLE, "order": 3},
        "pearsonr": {"x": SAMPLE, "y": OTHER},
        "quantile": {"x": SAMPLE, "p": 0.4},
        "scoreatpercentile": {"x": SAMPLE, "per": 40},
        "sem": {"x": SAMPLE},
        "skew": {"x": SAMPLE},
        "wasserstein_distance": {"u": SAMPLE, "v": OTHER},
        "zscore": {"x": SAMPLE},
    },
    "scipy.linalg": {
        "block_diag": {"a": SQUARE, "b": PAIRS},
        "circulant": {"c": SAMPLE},
        "eigh_tridiagonal": {},
        "hankel": {"c": SAMPLE, "r": OTHER},
        "khatri_rao": {"a": SQUARE, "b": PAIRS},
        "logm": {"A": SQUARE},
        "lu_factor": {},
        "lu_solve": {},
        "matmul_toeplitz": {"c_and_r": (SAMPLE, OTHER), "x": SAMPLE},
        "pinvh": {"a": SQUARE},
        "solve_banded": {},
        "solve_continuous_lyapunov": {"a": SQUARE, "q": np.outer(NUMBERS, [1.0, 3.0])},
        "solve_discrete_lyapunov": {"a": SQUARE / 9, "q": SQUARE[::-1]},
        "solve_sylvester": {"a": SQUARE, "b": SQUARE / 9, "q": SQUARE[::-1]},
        "solve_toeplitz": {"c_and_r": (SAMPLE[:2], OTHER[:2]), "b": NUMBERS},
        "solveh_banded": {},
        "sqrtm": {"A": SQUARE},
    },
    "scipy.spatial.distance": {
        "cdist": {"XA": PAIRS, "XB": SQUARE},
        "cityblock": {"u": SAMPLE, "v": OTHER},
        "cosine": {"u": SAMPLE, "v": OTHER},
        "euclidean": {"u": SAMPLE, "v": OTHER},
        "mahalanobis": {"u": NUMBERS, "v": SQUARE[0], "VI": SQUARE},
        "pdist": {"X": PAIRS},
        "sqeuclidean": {"u": SAMPLE, "v": OTHER},
        "squareform": {},
    },
    "scipy.signal": {
        "convolve": {"in1": SAMPLE, "in2": NUMBERS, "mode": "same"},
        "convolve2d": {"in1": np.outer(SAMPLE, OTHER), "in2": SQUARE, "mode": "valid"},
        "correlate": {"in1": SAMPLE, "in2": NUMBERS, "mode": "same"},
        "correlate2d": {"in1": np.outer(SAMPLE, OTHER), "in2": SQUARE, "mode": "valid"},
        "fftconvolve": {"in1": SAMPLE, "in2": NUMBERS, "mode": "full"},
        "lfilter": {},
        "oaconvolve": {"in1": SAMPLE, "in2": NUMBERS, "mode": "valid"},
    },
    "scipy.integrate": {
        "cumulative_trapezoid": {"y": SAMPLE, "x": np.sort(OTHER)},
        "odeint": {},
        "quad": {},
        "simpson": {},
        "solve_ivp": {},
        "trapezoid": {"y": SAMPLE, "x": np.sort(OTHER)},
    },
    "scipy.optimize": {"bisect": {}, "brenth": {}, "brentq": {}, "ridder": {}},
    "scipy.ndimage": {
        "convolve": {"input": np.outer(SAMPLE, OTHER), "weights": np.outer([1.0, 2.0, 3.0], [1.0, 0.0, 4.0])},
        "correlate": {"input": np.outer(SAMPLE, OTHER), "weights": np.outer([1.0, 2.0, 3.0], [1.0, 0.0, 4.0])},
    },
    "scipy.fft": {"dct": {}, "dst": {}, "fft": {}, "idct": {}, "ifft": {}, "irfft": {}, "rfft": {}},
    "scipy.interpolate": {"CubicSpline": {}, "PchipInterpolator": {}, "interp1d": {}, "make_interp_spline": {}},
}  # fmt: skip

CURES: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "numpy": OF_NUMPY,
    **{m: {n: (WRITTEN[m][n], given) for n, given in named.items()} for m, named in GIVEN.items()},
}
