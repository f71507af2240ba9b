/* decompositions_dispatch.c: eigenvalues, singular values and QR factors by LAPACK, or without it by
 * own_decompositions.c, which also computes the QR factors of matrices with few rows, where it is faster.
 *
 * LAPACK gets a copy of each matrix by columns, as NumPy gives it, so that the signs of vectors are those of NumPy's
 * functions. A matrix with an element that is not finite is refused before the call: some of LAPACK's iterations do not
 * end on one.
 */
#include "kernels/decompositions.h"
#include "kernels/lapack_dispatch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The most rows for which QR factors are ours. Where there is LAPACK, eigenvectors and singular vectors never are: ours
 * have other signs. */
enum { OWN_QR_UP_TO = 8 };

/* Calls of LAPACK, for BY_TYPE. Each returns LAPACK's status; with `work_size` -1 it only writes the size of the
 * workspace to work[0] (and iwork[0]). */
#define SYEVD_ARGUMENTS(integer, real)                                                                                \
    const char *, const char *, const integer *, real *, const integer *, real *, real *, const integer *, integer *, \
        const integer *, integer *, size_t, size_t
#define GESDD_ARGUMENTS(integer, real)                                                                                \
    const char *, const integer *, const integer *, real *, const integer *, real *, real *, const integer *, real *, \
        const integer *, real *, const integer *, integer *, integer *, size_t
#define GEQRF_ARGUMENTS(integer, real) \
    const integer *, const integer *, real *, const integer *, real *, real *, const integer *, integer *
#define ORGQR_ARGUMENTS(integer, real)                                                                                 \
    const integer *, const integer *, const integer *, real *, const integer *, const real *, real *, const integer *, \
        integer *
#define GEEV_ARGUMENTS(integer, real)                                                                              \
    const char *, const char *, const integer *, real *, const integer *, real *, real *, real *, const integer *, \
        real *, const integer *, real *, const integer *, integer *, size_t, size_t

typedef struct {
    void *reals, *integers;
    int64_t n_real, n_integer;          /* -1: asked for */
} workspace;

#define SYEVD(i_t, real)                                                                                             \
    do {                                                                                                             \
        const i_t n_ = (i_t)n, ld = n_ > 0 ? n_ : 1, lw = (i_t)w->n_real, li = (i_t)w->n_integer;                    \
        i_t info = 0;                                                                                                \
        CALL_AS(SYEVD, fg_lapack(FG_LAPACK_syevd, dtype, n), i_t, real, vectors ? "V" : "N", upper ? "U" : "L", &n_, \
                a, &ld, values, w->reals, &lw, w->integers, &li, &info, 1, 1);                                       \
        return (int64_t)info;                                                                                        \
    } while (0)
static int64_t syevd(int dtype, int upper, int vectors, int64_t n, void *a, void *values, const workspace *w)
{
    BY_TYPE(fg_lapack_ilp64(), dtype, SYEVD);
}

#define GESDD(i_t, real)                                                                                              \
    do {                                                                                                              \
        const i_t m_ = (i_t)m, n_ = (i_t)n, ldv = (i_t)v_rows, lw = (i_t)w->n_real;                                   \
        i_t info = 0;                                                                                                 \
        CALL_AS(GESDD, fg_lapack(FG_LAPACK_gesdd, dtype, m > n ? m : n), i_t, real, job, &m_, &n_, a, &m_, s, u, &m_, \
                v, &ldv, w->reals, &lw, w->integers, &info, 1);                                                       \
        return (int64_t)info;                                                                                         \
    } while (0)
static int64_t gesdd(int dtype, const char *job, int64_t m, int64_t n, void *a, void *s, void *u, void *v,
                     int64_t v_rows, const workspace *w)
{
    BY_TYPE(fg_lapack_ilp64(), dtype, GESDD);
}

#define GEQRF(i_t, real)                                                                                              \
    do {                                                                                                              \
        const i_t m_ = (i_t)m, n_ = (i_t)n, lw = (i_t)w->n_real;                                                      \
        i_t info = 0;                                                                                                 \
        CALL_AS(GEQRF, fg_lapack(FG_LAPACK_geqrf, dtype, m), i_t, real, &m_, &n_, a, &m_, tau, w->reals, &lw, &info); \
        return (int64_t)info;                                                                                         \
    } while (0)
static int64_t geqrf(int dtype, int64_t m, int64_t n, void *a, void *tau, const workspace *w)
{
    BY_TYPE(fg_lapack_ilp64(), dtype, GEQRF);
}

#define ORGQR(i_t, real)                                                                                           \
    do {                                                                                                           \
        const i_t m_ = (i_t)m, n_ = (i_t)n, k_ = (i_t)k, lw = (i_t)w->n_real;                                      \
        i_t info = 0;                                                                                              \
        CALL_AS(ORGQR, fg_lapack(FG_LAPACK_orgqr, dtype, m), i_t, real, &m_, &n_, &k_, a, &m_, tau, w->reals, &lw, \
                &info);                                                                                            \
        return (int64_t)info;                                                                                      \
    } while (0)
static int64_t orgqr(int dtype, int64_t m, int64_t n, int64_t k, void *a, const void *tau, const workspace *w)
{
    BY_TYPE(fg_lapack_ilp64(), dtype, ORGQR);
}

#define GEEV(i_t, real)                                                                                              \
    do {                                                                                                             \
        const i_t n_ = (i_t)n, lw = (i_t)w->n_real;                                                                  \
        i_t info = 0;                                                                                                \
        CALL_AS(GEEV, fg_lapack(FG_LAPACK_geev, dtype, n), i_t, real, "N", vectors ? "V" : "N", &n_, a, &n_, values, \
                imaginary, NULL, &n_, v, &n_, w->reals, &lw, &info, 1, 1);                                           \
        return (int64_t)info;                                                                                        \
    } while (0)
static int64_t geev(int dtype, int vectors, int64_t n, void *a, void *values, void *imaginary, void *v,
                    const workspace *w)
{
    BY_TYPE(fg_lapack_ilp64(), dtype, GEEV);
}

/* ---- memory and elements --------------------------------------------------------------------------------------- */
#define AT(array, i) ((char *)(array) + (i) * itemsize)
static int no_memory(void) { return fg_fail(FG_NO_MEMORY, "no memory for a matrix decomposition"); }

/* Do LAPACK's integers hold this size of a workspace? Those of 32 bits overflow without an error, also in the size that
 * LAPACK returns when it is asked for one. */
static int holds(double size) { return fg_lapack_ilp64() || size <= INT32_MAX; }
static int too_large(int64_t n)
{
    return fg_fail(FG_NO_MEMORY,
                   "a decomposition of matrices with %lld rows or columns needs a workspace that is larger "
                   "than the 32-bit integers of this LAPACK; that of NumPy's wheels has 64 bits",
                   (long long)n);
}

/* The status of a failed call that does not depend on the elements: LAPACK refuses argument -info. */
static int refused(const char *function, int64_t info)
{
    return fg_fail(FG_BAD_MATRIX, "LAPACK's %s failed with status %lld", function, (long long)info);
}

static double element(int dtype, const void *x, int64_t i)
{
    return dtype == FG_FLOAT32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

static void set(int dtype, void *x, int64_t i, double value)
{
    if (dtype == FG_FLOAT32)
        ((float *)x)[i] = (float)value;
    else
        ((double *)x)[i] = value;
}

/* Allocate the workspace whose size a call with sizes of -1 has left in sizes[0]. Returns 0 if there is no memory. */
static int reserve(workspace *w, int dtype, const double *sizes, int64_t n_integer)
{
    w->n_real = (int64_t)element(dtype, sizes, 0) + 1;
    w->n_real += w->n_real / 1000000;   /* a float32 rounds a large number */
    if (!holds((double)w->n_real))
        w->n_real = INT32_MAX;          /* less than is best, but enough */
    w->n_integer = n_integer;
    w->reals = malloc((size_t)w->n_real * fg_itemsize(dtype));
    w->integers = malloc((size_t)(n_integer ? n_integer : 1) * sizeof(int64_t));
    return w->reals && w->integers;
}

static void give_back(workspace *w)
{
    free(w->reals);
    free(w->integers);
}

static int64_t first_integer(const void *x) { return fg_lapack_ilp64() ? *(const int64_t *)x : *(const int32_t *)x; }

static int all_finite(int dtype, int64_t size, const void *x)
{
    double sum = 0;                     /* 0 times a number is 0, of nan and infinities nan */
    if (dtype == FG_FLOAT32)
        for (int64_t i = 0; i < size; i++)
            sum += 0 * (double)((const float *)x)[i];
    else
        for (int64_t i = 0; i < size; i++)
            sum += 0 * ((const double *)x)[i];
    return sum == 0;
}

/* y[j][i] = x[i][j] for m rows and n columns. */
#define TRANSPOSE(real)                 \
    for (int64_t i = 0; i < m; i++)     \
        for (int64_t j = 0; j < n; j++) \
            ((real *)y)[j * m + i] = ((const real *)x)[i * n + j];
static void transpose(int dtype, int64_t m, int64_t n, const void *x, void *y)
{
    if (dtype == FG_FLOAT32)
        TRANSPOSE(float)
    else
        TRANSPOSE(double)
}

/* m by n matrices of a dtype as float64, and back; the result is transposed if asked. */
static void to_double(int dtype, int64_t m, int64_t n, int transposed, const void *x, double *y)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            y[transposed ? j * m + i : i * n + j] = element(dtype, x, i * n + j);
}

static void from_double(int dtype, int64_t m, int64_t n, int transposed, const double *x, void *y)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            set(dtype, y, transposed ? j * m + i : i * n + j, x[i * n + j]);
}

/* ---- symmetric matrices ---------------------------------------------------------------------------------------- */
static int own_eigh(int dtype, int64_t count, int64_t n, int upper, int vectors, const void *a, void *y, int64_t *bad)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype), size = n + vectors * n * n;
    double *x = malloc((size_t)(2 * n * n + n) * sizeof *x);
    if (!x)
        return no_memory();
    double *v = x + n * n, *w = v + n * n;
    int status = FG_OK;
    for (*bad = 0; !status && *bad < count; ++*bad) {
        const char *from = AT(a, *bad * n * n);
        char *to = AT(y, *bad * size);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++)
                x[i * n + j] = x[j * n + i] = element(dtype, from, upper ? j * n + i : i * n + j);
        if (!all_finite(FG_FLOAT64, n * n, x) || !fg_own_eigh(n, x, w, v)) {
            status = FG_BAD_MATRIX;
            break;
        }
        from_double(dtype, 1, n, 0, w, to);
        if (vectors)
            from_double(dtype, n, n, 1, v, AT(to, n));
    }
    free(x);
    return status;
}

/* Whether the triangle of a row-major matrix that is read is finite. */
static int triangle_is_finite(int dtype, int64_t n, int upper, const void *a)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype);
    for (int64_t i = 0; i < n; i++)
        if (!all_finite(dtype, upper ? n - i : i + 1, AT(a, i * n + (upper ? i : 0))))
            return 0;
    return 1;
}

int fg_linalg_eigh(int dtype, int64_t count, int64_t n, int upper, int vectors, const void *a, void *y, int64_t *bad)
{
    if (n == 0 || count == 0)
        return FG_OK;
    if (!fg_lapack(FG_LAPACK_syevd, dtype, n))
        return own_eigh(dtype, count, n, upper, vectors, a, y, bad);
    if (vectors && !holds(2.0 * (double)n * (double)n + 6.0 * (double)n + 1))
        return too_large(n);
    int64_t itemsize = (int64_t)fg_itemsize(dtype), size = n + vectors * n * n, integers[1] = {0};
    double sizes[1] = {0};
    workspace w = {sizes, integers, -1, -1};
    syevd(dtype, upper, vectors, n, NULL, NULL, &w);
    int reserved = reserve(&w, dtype, sizes, first_integer(integers));
    char *x = malloc((size_t)(n * n * itemsize));
    int status = reserved && x ? FG_OK : no_memory();
    for (*bad = 0; !status && *bad < count; ++*bad) {
        char *to = AT(y, *bad * size);
        transpose(dtype, n, n, AT(a, *bad * n * n), x);
        if (!triangle_is_finite(dtype, n, upper, AT(a, *bad * n * n)) || syevd(dtype, upper, vectors, n, x, to, &w)) {
            status = FG_BAD_MATRIX;
            break;
        }
        if (vectors)
            transpose(dtype, n, n, x, AT(to, n));
    }
    free(x);
    give_back(&w);
    return status;
}

/* ---- singular values ------------------------------------------------------------------------------------------- */
static int own_svd(int dtype, int64_t count, int64_t m, int64_t n, int part, const void *a, void *y, int64_t *bad)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype), k = m < n ? m : n, longer = m < n ? n : m;
    int64_t columns = part == FG_FULL ? longer : k, of_u = part == FG_FULL ? m : k, of_v = part == FG_FULL ? n : k;
    int64_t size = part == FG_VALUES_ONLY ? k : k + m * of_u + n * of_v;
    double *x = malloc((size_t)(longer * k + k + longer * columns + k * k) * sizeof *x);
    if (!x)
        return no_memory();
    double *s = x + longer * k, *u = s + k, *v = u + longer * columns;
    int status = FG_OK;
    for (*bad = 0; !status && *bad < count; ++*bad) {
        char *to = AT(y, *bad * size);
        to_double(dtype, m, n, m >= n, AT(a, *bad * m * n), x);         /* rows of x: columns of A, or of A^T */
        if (!all_finite(FG_FLOAT64, m * n, x) || !fg_own_svd(longer, k, columns, x, s, u, v)) {
            status = FG_BAD_MATRIX;
            break;
        }
        from_double(dtype, 1, k, 0, s, to);
        if (part == FG_VALUES_ONLY)
            continue;
        from_double(dtype, of_u, m, 1, m >= n ? u : v, AT(to, k));
        from_double(dtype, of_v, n, 0, m >= n ? v : u, AT(to, k + m * of_u));
    }
    free(x);
    return status;
}

int fg_linalg_svd(int dtype, int64_t count, int64_t m, int64_t n, int part, const void *a, void *y, int64_t *bad)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype), k = m < n ? m : n;
    int64_t of_u = part == FG_FULL ? m : k, of_v = part == FG_FULL ? n : k;
    int64_t size = part == FG_VALUES_ONLY ? k : k + m * of_u + n * of_v;
    if (count == 0)
        return FG_OK;
    if (k == 0) {                       /* of no elements; the full U or V is the identity */
        for (int64_t c = 0; c < count; c++)
            for (int64_t i = 0, edge = m < n ? n : m; i < size; i++)
                set(dtype, y, c * size + i, i % (edge + 1) == 0);
        return FG_OK;
    }
    if (!fg_lapack(FG_LAPACK_gesdd, dtype, m > n ? m : n))
        return own_svd(dtype, count, m, n, part, a, y, bad);
    int64_t longer = m > n ? m : n;
    if (part != FG_VALUES_ONLY && !holds(4.0 * (double)k * (double)k + 140.0 * (double)longer))
        return too_large(longer);
    const char *job = part == FG_FULL ? "A" : part == FG_REDUCED ? "S" : "N";
    double sizes[1] = {0};
    workspace w = {sizes, NULL, -1, 0};
    int64_t vectors = part == FG_VALUES_ONLY ? 1 : m * of_u > n * of_v ? m * of_u : n * of_v;
    gesdd(dtype, job, m, n, NULL, NULL, NULL, NULL, of_v, &w);
    int reserved = reserve(&w, dtype, sizes, 8 * k);
    char *x = malloc((size_t)((m * n + 2 * vectors) * itemsize));
    int status = reserved && x ? FG_OK : no_memory();
    char *u = status ? NULL : AT(x, m * n), *v = status ? NULL : AT(u, vectors);
    for (*bad = 0; !status && *bad < count; ++*bad) {
        const char *from = AT(a, *bad * m * n);
        char *to = AT(y, *bad * size);
        if (!all_finite(dtype, m * n, from)) {
            status = FG_BAD_MATRIX;
            break;
        }
        transpose(dtype, m, n, from, x);
        if (gesdd(dtype, job, m, n, x, to, u, v, of_v, &w)) {
            status = FG_BAD_MATRIX;
            break;
        }
        if (part == FG_VALUES_ONLY)
            continue;
        transpose(dtype, of_u, m, u, AT(to, k));
        transpose(dtype, n, of_v, v, AT(to, k + m * of_u));
    }
    free(x);
    give_back(&w);
    return status;
}

/* ---- QR -------------------------------------------------------------------------------------------------------- */
static int own_qr(int dtype, int64_t count, int64_t m, int64_t n, int full, const void *a, void *y)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype), columns = full ? m : n, size = m * columns + n * n;
    double *x = malloc((size_t)(m * n + m * columns + n) * sizeof *x);
    if (!x)
        return no_memory();
    double *q = x + m * n;
    for (int64_t c = 0; c < count; c++) {
        char *to = AT(y, c * size);
        to_double(dtype, m, n, 0, AT(a, c * m * n), x);
        fg_own_qr(m, n, columns, x, q, q + m * columns);
        from_double(dtype, m, columns, 0, q, to);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                set(dtype, to, m * columns + i * n + j, j < i ? 0 : x[i * n + j]);
    }
    free(x);
    return FG_OK;
}

int fg_linalg_qr(int dtype, int64_t count, int64_t m, int64_t n, int full, const void *a, void *y)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype), columns = full ? m : n, size = m * columns + n * n;
    if (m == 0 || count == 0)
        return FG_OK;
    if (n == 0) {
        for (int64_t i = 0; i < count * size; i++)
            set(dtype, y, i, i % size % (m + 1) == 0);
        return FG_OK;
    }
    if (m <= OWN_QR_UP_TO || !fg_lapack(FG_LAPACK_geqrf, dtype, m))
        return own_qr(dtype, count, m, n, full, a, y);
    double sizes[1] = {0}, more[1] = {0};
    workspace w = {sizes, NULL, -1, 0};
    int64_t info = geqrf(dtype, m, n, NULL, NULL, &w);
    if (info)
        return refused("geqrf", info);
    w.reals = more;
    if ((info = orgqr(dtype, m, columns, n, NULL, NULL, &w)))
        return refused("orgqr", info);
    int reserved = reserve(&w, dtype, element(dtype, more, 0) > element(dtype, sizes, 0) ? more : sizes, 0);
    char *x = malloc((size_t)((m * columns + n) * itemsize));
    int status = reserved && x ? FG_OK : no_memory();
    for (int64_t c = 0; !status && c < count; c++) {
        char *to = AT(y, c * size), *tau = AT(x, m * columns);
        transpose(dtype, m, n, AT(a, c * m * n), x);
        if ((info = geqrf(dtype, m, n, x, tau, &w))) {
            status = refused("geqrf", info);
            break;
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                set(dtype, to, m * columns + i * n + j, j < i ? 0 : element(dtype, x, j * m + i));
        if ((info = orgqr(dtype, m, columns, n, x, tau, &w))) {
            status = refused("orgqr", info);
            break;
        }
        transpose(dtype, columns, m, x, to);
    }
    free(x);
    give_back(&w);
    return status;
}

/* ---- other matrices -------------------------------------------------------------------------------------------- */
static int own_eig(int dtype, int64_t count, int64_t n, int vectors, const void *a, void *y, int64_t *bad)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype), size = n + vectors * n * n;
    double *x = malloc((size_t)(3 * n * n + n) * sizeof *x);
    if (!x)
        return no_memory();
    double *v = x + n * n, *z = v + n * n, *w = z + n * n;
    int status = FG_OK;
    for (*bad = 0; !status && *bad < count; ++*bad) {
        char *to = AT(y, *bad * size);
        to_double(dtype, n, n, 0, AT(a, *bad * n * n), x);
        status = all_finite(FG_FLOAT64, n * n, x) ? fg_own_eig(n, x, w, v, z) : FG_BAD_MATRIX;
        if (status)
            break;
        from_double(dtype, 1, n, 0, w, to);
        if (vectors)
            from_double(dtype, n, n, 0, v, AT(to, n));
    }
    free(x);
    return status;
}

int fg_linalg_eig(int dtype, int64_t count, int64_t n, int vectors, const void *a, void *y, int64_t *bad)
{
    if (n == 0 || count == 0)
        return FG_OK;
    if (!fg_lapack(FG_LAPACK_geev, dtype, n))
        return own_eig(dtype, count, n, vectors, a, y, bad);
    int64_t itemsize = (int64_t)fg_itemsize(dtype), size = n + vectors * n * n;
    double sizes[1] = {0};
    workspace w = {sizes, NULL, -1, 0};
    geev(dtype, vectors, n, NULL, NULL, NULL, NULL, &w);
    int reserved = reserve(&w, dtype, sizes, 0);
    char *x = malloc((size_t)((2 * n * n + n) * itemsize));
    int status = reserved && x ? FG_OK : no_memory();
    char *v = status ? NULL : AT(x, n * n), *imaginary = status ? NULL : AT(v, n * n);
    for (*bad = 0; !status && *bad < count; ++*bad) {
        char *to = AT(y, *bad * size);
        if (!all_finite(dtype, n * n, AT(a, *bad * n * n))) {
            status = FG_BAD_MATRIX;
            break;
        }
        transpose(dtype, n, n, AT(a, *bad * n * n), x);
        if (geev(dtype, vectors, n, x, to, imaginary, v, &w)) {
            status = FG_BAD_MATRIX;
            break;
        }
        for (int64_t i = 0; i < n; i++)
            status = element(dtype, imaginary, i) != 0 ? FG_NOT_IMPLEMENTED : status;
        if (status)
            break;
        if (vectors)
            transpose(dtype, n, n, v, AT(to, n));
    }
    free(x);
    give_back(&w);
    return status;
}
