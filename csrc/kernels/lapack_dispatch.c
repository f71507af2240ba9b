/* lapack_dispatch.c: which code factors a matrix or solves equations: our kernels if it is small, else LAPACK.
 *
 * LAPACK is whichever fg_set_lapack was given, usually the one that NumPy has loaded. Without it, our kernels compute
 * every size. LAPACK knows matrices by columns: to it, a row-major matrix is the transpose. So a symmetric matrix needs
 * no copy, and op(A) Y = B is solved as Y^T op(A)^T = B^T, with A on the right.
 */
#include "kernels/lapack_dispatch.h"
#include "kernels/gemm_dispatch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* From how many rows on LAPACK is used, measured against the OpenBLAS of NumPy's wheels: for factors, for equations
 * with at least WIDE columns on the right, and for those with fewer, on which our inner loops are short. A single
 * column is ours: it takes dot products, at which a function for many columns is not faster. */
enum { FACTORS_FROM = 80, WIDE_FROM = 128, NARROW_FROM = 32, WIDE = 16 };
enum { BLOCK = 48 };            /* rows of a block in the derivative of the Cholesky factor */

static struct {
    void *of[FG_N_LAPACK][2];
    int ilp64;
} lapack;

void fg_set_lapack(int function, void *of_float32, void *of_float64, int ilp64)
{
    lapack.of[function][FG_FLOAT32] = of_float32;
    lapack.of[function][FG_FLOAT64] = of_float64;
    lapack.ilp64 = ilp64;
}

static int has(int function, int dtype, int64_t largest)
{
    return lapack.of[function][dtype] && (lapack.ilp64 || largest <= INT32_MAX);
}

void *fg_lapack(int function, int dtype, int64_t largest)
{
    return has(function, dtype, largest) ? lapack.of[function][dtype] : NULL;
}

int fg_lapack_ilp64(void) { return lapack.ilp64; }

#define TRSM_ARGUMENTS(integer, real)                                                                       \
    const char *, const char *, const char *, const char *, const integer *, const integer *, const real *, \
        const real *, const integer *, real *, const integer *, size_t, size_t, size_t, size_t
#define POTRF_ARGUMENTS(integer, real) const char *, const integer *, real *, const integer *, integer *, size_t
#define GETRF_ARGUMENTS(integer, real) const integer *, const integer *, real *, const integer *, integer *, integer *

#define TRSM(integer, real)                                                                                       \
    do {                                                                                                          \
        const integer m_ = (integer)m, n_ = (integer)n, lda_ = (integer)lda, ldb_ = (integer)ldb;                 \
        const real one = 1;                                                                                       \
        CALL_AS(TRSM, f, integer, real, side, uplo, trans, diag, &m_, &n_, &one, a, &lda_, b, &ldb_, 1, 1, 1, 1); \
    } while (0)
/* In place of B, m by n: X with op(A) X = B, or X op(A) = B if side is "R"; all by columns. */
static void trsm(int dtype, const char *side, const char *uplo, const char *trans, const char *diag, int64_t m,
                 int64_t n, const void *a, int64_t lda, void *b, int64_t ldb)
{
    void *f = lapack.of[FG_LAPACK_trsm][dtype];
    BY_TYPE(lapack.ilp64, dtype, TRSM);
}

#define POTRF(integer, real)                                          \
    do {                                                              \
        const integer n_ = (integer)n;                                \
        integer info = 0;                                             \
        CALL_AS(POTRF, f, integer, real, "U", &n_, a, &n_, &info, 1); \
        return info == 0;                                             \
    } while (0)
/* The lower triangle of a row-major matrix becomes its Cholesky factor. Returns whether the matrix is positive
 * definite; if not, its elements are unspecified. */
static int potrf(int dtype, int64_t n, void *a)
{
    void *f = lapack.of[FG_LAPACK_potrf][dtype];
    BY_TYPE(lapack.ilp64, dtype, POTRF);
}

#define GETRF(integer, real)                                              \
    do {                                                                  \
        const integer n_ = (integer)n;                                    \
        integer info = 0;                                                 \
        CALL_AS(GETRF, f, integer, real, &n_, &n_, a, &n_, pivot, &info); \
        real *to = (real *)a + n * n;                                     \
        for (int64_t i = 0; i < n; i++) {                                 \
            int64_t p = ((integer *)pivot)[i] - 1;                        \
            to[i] = (real)(p < i || p >= n ? i : p); /* of nan */         \
        }                                                                 \
    } while (0)
/* The factors of a matrix by columns, in its place, and behind it the pivots; `pivot` has room for n int64. */
static void getrf(int dtype, int64_t n, void *a, void *pivot)
{
    void *f = lapack.of[FG_LAPACK_getrf][dtype];
    BY_TYPE(lapack.ilp64, dtype, GETRF);
}

#define AT(array, i) ((char *)(array) + (i) * (int64_t)fg_itemsize(dtype))

static const fg_linalg_kernels *own(int dtype) { return fg_kernels[dtype].linalg; }

/* ---- Cholesky factors -------------------------------------------------------------------------------------------- */
/* The lower triangle of a row-major matrix, with zeros above. */
static void copy_lower(int dtype, int64_t n, const void *x, void *y)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype);
    for (int64_t i = 0; i < n; i++) {
        memmove(AT(y, i * n), AT(x, i * n), (size_t)((i + 1) * itemsize));
        memset(AT(y, i * n + i + 1), 0, (size_t)((n - i - 1) * itemsize));
    }
}

static int lower_has_nan(int dtype, int64_t n, const void *x)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i * n; j <= i * (n + 1); j++)
            if (dtype == FG_FLOAT32 ? isnan(((const float *)x)[j]) : isnan(((const double *)x)[j]))
                return 1;
    return 0;
}

int64_t fg_linalg_cholesky(int dtype, int64_t count, int64_t n, const void *a, void *y)
{
    if (n == 0)
        return count;
    if (n < FACTORS_FROM || !has(FG_LAPACK_potrf, dtype, n))
        return own(dtype)->cholesky(count, n, a, y);
    for (int64_t m = 0; m < count; m++) {
        copy_lower(dtype, n, AT(a, m * n * n), AT(y, m * n * n));
        /* With nan some versions of LAPACK report that a matrix is not positive definite. Our kernel hands nan on. */
        if (!potrf(dtype, n, AT(y, m * n * n)) && (!lower_has_nan(dtype, n, AT(a, m * n * n)) ||
                                                   !own(dtype)->cholesky(1, n, AT(a, m * n * n), AT(y, m * n * n))))
            return m;
    }
    return count;
}

/* The cotangent of A in place of that of its factor y, block by block from the last: Murray (2016), section 3.3. With
 * the block D on the diagonal, R to its left, C below it and B below R, the factorization computes D from
 * D - R R^T, and then C from (C - B R^T) D^-T. Above the diagonal of g anything may be left. */
static void blocked_vjp(int dtype, int64_t n, const void *y, void *g)
{
    double memory[2][BLOCK * BLOCK];
    char *square = (char *)memory[0], *factor = (char *)memory[1];
    int64_t itemsize = (int64_t)fg_itemsize(dtype);
    for (int64_t end = n, start; end > 0; end = start) {
        start = end > BLOCK ? end - BLOCK : 0;
        int64_t width = end - start, below = n - end;
        const char *d = AT(y, start * n + start), *r = AT(y, start * n), *c = AT(y, end * n + start),
                   *b = AT(y, end * n);
        char *gd = AT(g, start * n + start), *gr = AT(g, start * n), *gc = AT(g, end * n + start), *gb = AT(g, end * n);
        if (below) {
            trsm(dtype, "L", "U", "N", "N", width, below, d, n, gc, n);
            if (start) {
                fg_blas_gemm(dtype, 0, 0, below, start, width, -1, gc, n, r, n, 1, gb, n);
                fg_blas_gemm(dtype, 1, 0, width, start, below, -1, gc, n, b, n, 1, gr, n);
            }
            fg_blas_gemm(dtype, 1, 0, width, width, below, -1, gc, n, c, n, 1, gd, n);
        }
        for (int64_t i = 0; i < width; i++) {
            memcpy(factor + i * width * itemsize, d + i * n * itemsize, (size_t)(width * itemsize));
            memcpy(square + i * width * itemsize, gd + i * n * itemsize, (size_t)(width * itemsize));
        }
        own(dtype)->cholesky_vjp(1, width, factor, square, square);
        for (int64_t i = 0; i < width; i++)
            memcpy(gd + i * n * itemsize, square + i * width * itemsize, (size_t)(width * itemsize));
        if (start)
            fg_blas_gemm(dtype, 0, 0, width, start, width, -2, gd, n, r, n, 1, gr, n);
    }
}

/* Off its diagonal blocks, blocked_vjp leaves twice the symmetric cotangent, below the diagonal. */
#define MIRROR(real)                                       \
    for (int64_t i = 0; i < n; i++)                        \
        for (int64_t j = 0; j < first_of_block(n, i); j++) \
            ((real *)g)[j * n + i] = ((real *)g)[i * n + j] /= 2;
static int64_t first_of_block(int64_t n, int64_t i)
{
    int64_t first = i - (BLOCK - 1 - (n - 1 - i) % BLOCK);
    return first > 0 ? first : 0;
}

static void mirror(int dtype, int64_t n, void *g)
{
    if (dtype == FG_FLOAT32)
        MIRROR(float)
    else
        MIRROR(double)
}

void fg_linalg_cholesky_vjp(int dtype, int64_t count, int64_t n, const void *y, const void *g, void *gx)
{
    if (n <= BLOCK || !has(FG_LAPACK_trsm, dtype, n) || !fg_blas_has_gemm(dtype)) {
        own(dtype)->cholesky_vjp(count, n, y, g, gx);
        return;
    }
    for (int64_t m = 0; m < count; m++) {
        copy_lower(dtype, n, AT(g, m * n * n), AT(gx, m * n * n));
        blocked_vjp(dtype, n, AT(y, m * n * n), AT(gx, m * n * n));
        mirror(dtype, n, AT(gx, m * n * n));
    }
}

/* ---- LU factors and equations ------------------------------------------------------------------------------------ */
/* y[j][i] = x[i][j], in squares that fit the first-level cache. */
#define TRANSPOSE(integer)                     \
    for (int64_t i = from; i < to; i++)        \
        for (int64_t j = left; j < right; j++) \
            ((integer *)y)[j * n + i] = ((const integer *)x)[i * n + j];
static void transpose(int dtype, int64_t n, const void *x, void *y)
{
    enum { SQUARE = 32 };
    for (int64_t from = 0; from < n; from += SQUARE)
        for (int64_t left = 0; left < n; left += SQUARE) {
            int64_t to = from + SQUARE < n ? from + SQUARE : n, right = left + SQUARE < n ? left + SQUARE : n;
            if (dtype == FG_FLOAT32)
                TRANSPOSE(float)
            else
                TRANSPOSE(double)
        }
}

int fg_linalg_lu(int dtype, int64_t count, int64_t n, const void *a, void *f)
{
    if (n == 0)
        return FG_OK;
    if (n < FACTORS_FROM || !has(FG_LAPACK_getrf, dtype, n)) {
        own(dtype)->lu(count, n, a, f);
        return FG_OK;
    }
    int64_t *pivot = malloc((size_t)n * sizeof *pivot);
    if (!pivot)
        return fg_fail(FG_NO_MEMORY, "no memory for an LU factorization");
    for (int64_t m = 0; m < count; m++) {
        transpose(dtype, n, AT(a, m * n * n), AT(f, m * (n + 1) * n));
        getrf(dtype, n, AT(f, m * (n + 1) * n), pivot);
    }
    free(pivot);
    return FG_OK;
}

/* In place of Y, n rows of k elements: op(A) Y = B with a row-major triangular A. */
static void triangular(int dtype, int64_t n, int64_t k, int how, const void *a, void *y)
{
    trsm(dtype, "R", how & FG_LOWER ? "U" : "L", how & FG_TRANSPOSED ? "T" : "N", how & FG_UNIT ? "U" : "N", k, n, a, n,
         y, k);
}

/* Exchange rows i and p[i] of y, which have k elements, for each i in turn; if `back`, from the last i to the first. */
static void exchange(int dtype, int64_t n, int64_t k, int back, const void *p, char *y)
{
    int64_t bytes = k * (int64_t)fg_itemsize(dtype);
    for (int64_t count = 0; count < n; count++) {
        int64_t i = back ? n - 1 - count : count;
        int64_t r = dtype == FG_FLOAT32 ? (int64_t)((const float *)p)[i] : (int64_t)((const double *)p)[i];
        char part[512], *one = y + i * bytes, *other = y + r * bytes;
        for (int64_t at = 0, size; r != i && at < bytes; at += size) {
            size = bytes - at < (int64_t)sizeof part ? bytes - at : (int64_t)sizeof part;
            memcpy(part, one + at, (size_t)size);
            memcpy(one + at, other + at, (size_t)size);
            memcpy(other + at, part, (size_t)size);
        }
    }
}

void fg_linalg_solve(int dtype, int64_t count, int64_t n, int64_t k, int how, const void *a, int64_t a_step,
                     const void *b, int64_t b_step, void *y)
{
    if (n * k == 0)
        return;
    if (k == 1 || n < (k < WIDE ? NARROW_FROM : WIDE_FROM) || !has(FG_LAPACK_trsm, dtype, n > k ? n : k)) {
        own(dtype)->solve(count, n, k, how, a, a_step, b, b_step, y);
        return;
    }
    for (int64_t m = 0; m < count; m++) {
        const char *am = AT(a, m * a_step);
        char *ym = AT(y, m * n * k);
        memmove(ym, AT(b, m * b_step), (size_t)(n * k) * fg_itemsize(dtype));
        if (how & FG_BY_CHOLESKY) {
            triangular(dtype, n, k, FG_LOWER, am, ym);
            triangular(dtype, n, k, FG_LOWER | FG_TRANSPOSED, am, ym);
        } else if (!(how & FG_BY_LU)) {
            triangular(dtype, n, k, how, am, ym);
        } else if (how & FG_TRANSPOSED) {
            triangular(dtype, n, k, FG_LOWER, am, ym);
            triangular(dtype, n, k, FG_UNIT, am, ym);
            exchange(dtype, n, k, 1, AT(am, n * n), ym);
        } else {
            exchange(dtype, n, k, 0, AT(am, n * n), ym);
            triangular(dtype, n, k, FG_UNIT | FG_TRANSPOSED, am, ym);
            triangular(dtype, n, k, FG_LOWER | FG_TRANSPOSED, am, ym);
        }
    }
}
