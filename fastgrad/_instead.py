"""What to write instead of functions of SciPy's that take no tensors and that fastgrad does not have by their names.

Errors say it (`_user_frames.py`), and docs/functions.md lists it. Each text is an expression of the function's own
arguments, or a comment behind it says of what; tests/test_function_table.py compares with SciPy's results.
"""


def _parts(transform: str) -> str:
    """Of real x, the products that are the real and the imaginary part."""
    matrix = f"numpy.fft.{transform}(numpy.eye(x.shape[-1]))"
    return f"x @ {matrix}.real and x @ {matrix}.imag  # the parts; complex numbers are not supported"


_STEPS = "fastgrad.scan(step, y0, h)  # with a step of the method of Runge and Kutta for each length in h"
_ROOT = "x - f(x) / slope(x)  # of the root x, found without gradients: this step of Newton's method has its gradient"

WRITTEN: dict[str, dict[str, str]] = {
    "scipy.special": {
        "boxcox": "fastgrad.expm1(lmbda * fastgrad.log(x)) / lmbda  # lmbda other than 0",
        "chdtr": "fastgrad.stats.chi2.cdf(x, v)",
        "chdtrc": "fastgrad.stats.chi2.sf(x, v)",
        "comb": "fastgrad.special.binom(n, k)",
        "cosdg": "fastgrad.cos(fastgrad.radians(x))",
        "cosm1": "-2 * fastgrad.sin(x / 2) ** 2",
        "diric": "numpy.sin(n * x / 2) / (n * numpy.sin(x / 2))  # sin(x / 2) other than 0",
        "exp10": "10.0**x",
        "exprel": "fastgrad.expm1(x) / x  # x other than 0",
        "fdtr": "fastgrad.stats.f.cdf(x, dfn, dfd)",
        "gdtr": "fastgrad.special.gammainc(b, a * x)",
        "huber": "fastgrad.where(abs(r) <= delta, r * r / 2, delta * (abs(r) - delta / 2))",
        "inv_boxcox": "fastgrad.exp(fastgrad.log1p(lmbda * y) / lmbda)  # lmbda other than 0",
        "k0": "fastgrad.special.kv(0, x)",
        "k0e": "fastgrad.special.kve(0, x)",
        "k1": "fastgrad.special.kv(1, x)",
        "k1e": "fastgrad.special.kve(1, x)",
        "kn": "fastgrad.special.kv(n, x)",
        "log_softmax": "fastgrad.log_softmax(x, axis)",
        "logsumexp": "fastgrad.logsumexp(x, axis)",
        "loggamma": "fastgrad.special.gammaln(z)  # of real numbers",
        "multigammaln": "fastgrad.special.multigammaln(a, d)",
        "perm": "numpy.exp(fastgrad.special.gammaln(n + 1) - fastgrad.special.gammaln(n - k + 1))",
        "pdtr": "fastgrad.stats.poisson.cdf(k, m)",
        "poch": "fastgrad.exp(fastgrad.special.gammaln(z + m) - fastgrad.special.gammaln(z))  # z and z + m above 0",
        "polygamma": "fastgrad.special.polygamma(n, x)",
        "powm1": "fastgrad.expm1(y * fastgrad.log(x))  # x above 0",
        "pseudo_huber": "delta**2 * (fastgrad.sqrt(1 + (r / delta) ** 2) - 1)",
        "sindg": "fastgrad.sin(fastgrad.radians(x))",
        "softmax": "fastgrad.softmax(x, axis)",
        "spherical_in": "numpy.sqrt(numpy.pi / (2 * x)) * fastgrad.special.iv(n + 0.5, x)",
        "spherical_jn": "numpy.sqrt(numpy.pi / (2 * x)) * fastgrad.special.jv(n + 0.5, x)",
        "spherical_kn": "numpy.sqrt(numpy.pi / (2 * x)) * fastgrad.special.kv(n + 0.5, x)",
        "spherical_yn": "numpy.sqrt(numpy.pi / (2 * x)) * fastgrad.special.yv(n + 0.5, x)",
        "tandg": "fastgrad.tan(fastgrad.radians(x))",
        "y0": "fastgrad.special.yv(0, x)",
        "y1": "fastgrad.special.yv(1, x)",
        "yn": "fastgrad.special.yv(n, x)",
    },
    "scipy.stats": {
        "boxcox": "(x**lmbda - 1) / lmbda  # lmbda other than 0",
        "entropy": "-numpy.sum(fastgrad.special.xlogy(p, p))",
        "gmean": "numpy.exp(numpy.mean(numpy.log(x)))",
        "hmean": "1 / numpy.mean(1 / x)",
        "iqr": "numpy.percentile(x, 75) - numpy.percentile(x, 25)",
        "kurtosis": "numpy.mean((x - numpy.mean(x)) ** 4) / numpy.var(x) ** 2 - 3",
        "linregress": "numpy.polyfit(x, y, 1)",
        "moment": "numpy.mean((x - numpy.mean(x)) ** order)",
        "pearsonr": "numpy.corrcoef(x, y)[0, 1]",
        "quantile": "numpy.quantile(x, p)",
        "scoreatpercentile": "numpy.percentile(x, per)",
        "sem": "numpy.std(x, ddof=1) / x.size**0.5",
        "skew": "numpy.mean((x - numpy.mean(x)) ** 3) / numpy.var(x) ** 1.5",
        "wasserstein_distance": "numpy.mean(numpy.abs(numpy.sort(u) - numpy.sort(v)))  # samples of one size",
        "zscore": "(x - numpy.mean(x)) / numpy.std(x)",
    },
    "scipy.linalg": {
        "block_diag":
            "fastgrad.block([[a, fastgrad.zeros((len(a), b.shape[1]))], [fastgrad.zeros((len(b), "
            "a.shape[1])), b]])",
        "circulant": "fastgrad.linalg.toeplitz(c, fastgrad.roll(c[::-1], 1))",
        "eigh_tridiagonal": "fastgrad.linalg.eigh(fastgrad.diag(d) + fastgrad.diag(e, 1) + fastgrad.diag(e, -1))",
        "hankel": "fastgrad.concatenate([c, r[1:]])[numpy.add.outer(numpy.arange(len(c)), numpy.arange(len(r)))]",
        "khatri_rao": "fastgrad.reshape(a[:, None] * b, (-1, a.shape[1]))",
        "logm": "fastgrad.linalg.funm_symmetric(A, fastgrad.log)  # of a symmetric matrix",
        "lu_factor": "fastgrad.linalg.solve(a, b)  # equations at once",
        "lu_solve": "fastgrad.linalg.solve(a, b)  # of the matrix itself",
        "matmul_toeplitz": "fastgrad.linalg.toeplitz(*c_and_r) @ x",
        "pinvh": "fastgrad.linalg.pinv(a)",
        "solve_banded":
            'fastgrad.linalg.solve(a, b, assume_a="tridiagonal")  # of the whole matrix, with three '
            'diagonals',
        "solve_continuous_lyapunov":
            "fastgrad.linalg.solve(fastgrad.kron(a, numpy.eye(len(a))) + fastgrad.kron(numpy.eye(len(a)), a), "
            "fastgrad.ravel(q)).reshape(q.shape)",
        "solve_discrete_lyapunov":
            "fastgrad.linalg.solve(numpy.eye(len(a) ** 2) - fastgrad.kron(a, a), fastgrad.ravel(q)).reshape(q.shape)",
        "solve_sylvester":
            "fastgrad.linalg.solve(fastgrad.kron(a, numpy.eye(len(b))) + fastgrad.kron(numpy.eye(len(a)), b.T), "
            "fastgrad.ravel(q)).reshape(q.shape)",
        "solve_toeplitz": "fastgrad.linalg.solve(fastgrad.linalg.toeplitz(*c_and_r), b)",
        "solveh_banded": 'fastgrad.linalg.solve(a, b, assume_a="pos")  # of the whole matrix',
        "sqrtm": "fastgrad.linalg.funm_symmetric(A, fastgrad.sqrt)  # of a symmetric matrix",
    },
    "scipy.spatial.distance": {
        "cdist": "fastgrad.norm(XA[:, None] - XB, axis=-1)",
        "cityblock": "fastgrad.sum(fastgrad.abs(u - v))",
        "cosine": "1 - u @ v / (fastgrad.norm(u) * fastgrad.norm(v))",
        "euclidean": "fastgrad.norm(u - v)",
        "mahalanobis": "fastgrad.sqrt((u - v) @ VI @ (u - v))",
        "pdist": "fastgrad.norm(fastgrad.subtract(*X[numpy.array(numpy.triu_indices(len(X), 1))]), axis=-1)",
        "sqeuclidean": "fastgrad.sum((u - v) ** 2)",
        "squareform": "fastgrad.norm(X[:, None] - X, axis=-1)  # of the points X",
    },
    "scipy.signal": {
        "convolve": "fastgrad.convolve(in1, in2, mode)",
        "convolve2d":
            'fastgrad.einsum("ijkl,kl->ij", fastgrad.sliding_window_view(in1, in2.shape), in2[::-1, ::-1])  # "valid"',
        "correlate": "fastgrad.correlate(in1, in2, mode)",
        "correlate2d": 'fastgrad.einsum("ijkl,kl->ij", fastgrad.sliding_window_view(in1, in2.shape), in2)  # "valid"',
        "fftconvolve": "fastgrad.convolve(in1, in2, mode)",
        "lfilter": "fastgrad.scan(step, start, x)  # with a step for each sample",
        "oaconvolve": "fastgrad.convolve(in1, in2, mode)",
    },
    "scipy.integrate": {
        "cumulative_trapezoid": "fastgrad.cumsum((y[1:] + y[:-1]) / 2 * fastgrad.diff(x))",
        "odeint": _STEPS,
        "quad": "fastgrad.sum(w * f(x))  # with nodes x and weights w of numpy.polynomial.legendre.leggauss",
        "simpson": "fastgrad.sum(scipy.integrate.simpson(numpy.eye(len(y)), x=x) * y)  # x without a gradient",
        "solve_ivp": _STEPS,
        "trapezoid": "fastgrad.trapezoid(y, x)",
    },
    "scipy.optimize": {
        "bisect": _ROOT,
        "brenth": _ROOT,
        "brentq": _ROOT,
        "ridder": _ROOT,
    },
    "scipy.ndimage": {
        "convolve":
            'fastgrad.einsum("ijkl,kl->ij", fastgrad.sliding_window_view(fastgrad.pad(input, 1, "symmetric"), '
            '(3, 3)), weights[::-1, ::-1])  # of 3 x 3 weights',
        "correlate":
            'fastgrad.einsum("ijkl,kl->ij", fastgrad.sliding_window_view(fastgrad.pad(input, 1, "symmetric"), '
            '(3, 3)), weights)  # of 3 x 3 weights',
    },
    "scipy.fft": {
        "dct": "x @ scipy.fft.dct(numpy.eye(x.shape[-1]))",
        "dst": "x @ scipy.fft.dst(numpy.eye(x.shape[-1]))",
        "fft": _parts("fft"),
        "idct": "x @ scipy.fft.idct(numpy.eye(x.shape[-1]))",
        "ifft": _parts("ifft"),
        "irfft": "x @ numpy.fft.irfft(numpy.eye(x.shape[-1]))  # of real x",
        "rfft": _parts("rfft"),
    },
    "scipy.interpolate": {
        "CubicSpline": "scipy.interpolate.CubicSpline(x, numpy.eye(len(x)))(at) @ y  # at points without a gradient",
        "PchipInterpolator": "fastgrad.interp(at, x, y)  # linear",
        "interp1d": "fastgrad.interp(at, x, y)",
        "make_interp_spline":
            "scipy.interpolate.make_interp_spline(x, numpy.eye(len(x)))(at) @ y  # at points without a "
            "gradient",
    },
}  # fmt: skip
