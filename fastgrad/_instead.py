"""What to write instead of functions of SciPy's that take no tensors and that fastgrad does not have by their names.

Errors say it (`_user_frames.py`), and docs/functions.md lists it. Each text is an expression of the function's own
arguments, or a comment behind it says of what; tests/test_function_table.py compares with SciPy's results.
"""

WRITTEN: dict[str, dict[str, str]] = {
    "scipy.special": {
        "comb": "fastgrad.special.binom(n, k)",
        "diric": "numpy.sin(n * x / 2) / (n * numpy.sin(x / 2))",
        "log_softmax": "fastgrad.log_softmax(x, axis)",
        "logsumexp": "fastgrad.logsumexp(x, axis)",
        "multigammaln": "fastgrad.special.multigammaln(a, d)",
        "perm": "numpy.exp(fastgrad.special.gammaln(n + 1) - fastgrad.special.gammaln(n - k + 1))",
        "polygamma": "fastgrad.special.polygamma(n, x)",
        "softmax": "fastgrad.softmax(x, axis)",
        "spherical_in": "numpy.sqrt(numpy.pi / (2 * x)) * fastgrad.special.iv(n + 0.5, x)",
        "spherical_jn": "numpy.sqrt(numpy.pi / (2 * x)) * fastgrad.special.jv(n + 0.5, x)",
        "spherical_kn": "numpy.sqrt(numpy.pi / (2 * x)) * fastgrad.special.kv(n + 0.5, x)",
        "spherical_yn": "numpy.sqrt(numpy.pi / (2 * x)) * fastgrad.special.yv(n + 0.5, x)",
    },
    "scipy.stats": {
        "boxcox": "(x**lmbda - 1) / lmbda",
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
        "solve_toeplitz": "fastgrad.linalg.solve(fastgrad.linalg.toeplitz(*c_and_r), b)",
        "solveh_banded": 'fastgrad.linalg.solve(a, b, assume_a="pos")  # of the whole matrix',
        "sqrtm": "fastgrad.linalg.funm_symmetric(A, fastgrad.sqrt)  # of a symmetric matrix",
    },
    "scipy.spatial": {
        "distance_matrix": "fastgrad.norm(x[:, None] - y, axis=-1)",
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
        "correlate": "fastgrad.correlate(in1, in2, mode)",
        "fftconvolve": "fastgrad.convolve(in1, in2, mode)",
        "lfilter": "fastgrad.scan(step, start, x)  # with a step for each sample",
        "oaconvolve": "fastgrad.convolve(in1, in2, mode)",
    },
    "scipy.integrate": {
        "cumulative_trapezoid": "fastgrad.cumsum((y[1:] + y[:-1]) / 2 * fastgrad.diff(x))",
        "simpson": "fastgrad.sum(scipy.integrate.simpson(numpy.eye(len(y)), x=x) * y)  # x without a gradient",
        "trapezoid": "fastgrad.trapezoid(y, x)",
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
