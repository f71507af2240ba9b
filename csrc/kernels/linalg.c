/* linalg.c: factorizations of matrices and solutions of linear equations, of any size, and of many small matrices side
 * by side.
 *
 * The algorithms are the textbook's, as loops over rows: the matrices are row-major, so the innermost loops run along
 * contiguous memory. Of a stack of small matrices a vector holds one element of as many matrices as it has lanes. Both
 * are compiled from one text: the file includes itself once for each type of element, float, double and vectors of
 * them. Conditions on elements are masks, because the lanes may differ.
 *
 * The derivative of the Cholesky factor is the unblocked one of Murray, "Differentiation of the Cholesky decomposition"
 * (2016): the factorization's loop run backwards.
 */
#ifndef REAL

#include "kernels.h"
#include <math.h>
#include <string.h>

#ifndef MATRIX
#define MATRIX static           /* a function of a single matrix, or of one in each lane */
#endif
#define INLINE static inline __attribute__((always_inline))
#ifndef ONE_BY_ONE
#if defined __AVX512F__
enum { VECTOR_BYTES = 64 };
#elif defined __AVX__
enum { VECTOR_BYTES = 32 };
#else
enum { VECTOR_BYTES = 16 };
#endif
enum {
    SMALL = 16,                 /* the most rows of matrices that are computed in lanes, ... */
    SMALL_RIGHT = 256           /* ... and of equations the most elements of the right-hand side */
};

typedef float vector_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t lanes_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef double vector_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t lanes_f64 __attribute__((vector_size(VECTOR_BYTES)));

INLINE int any_f32(lanes_f32 mask)
{
    int32_t found = 0;
    for (size_t i = 0; i < VECTOR_BYTES / sizeof found; i++) found |= mask[i];
    return found != 0;
}

INLINE int any_f64(lanes_f64 mask)
{
    int64_t found = 0;
    for (size_t i = 0; i < VECTOR_BYTES / sizeof found; i++) found |= mask[i];
    return found != 0;
}

INLINE vector_f32 root_f32(vector_f32 x)
{
    for (size_t i = 0; i < VECTOR_BYTES / sizeof(float); i++) x[i] = sqrtf(x[i]);
    return x;
}

INLINE vector_f64 root_f64(vector_f64 x)
{
    for (size_t i = 0; i < VECTOR_BYTES / sizeof(double); i++) x[i] = sqrt(x[i]);
    return x;
}

#endif

/* Of single elements. */
#define MASK int
#define CHOOSE(mask, a, b) ((mask) ? (a) : (b))
#define ANY(mask) (mask)
#define SIMD _Pragma("omp simd")
#define SIMD_SUM(s) SIMD_SUM_(omp simd reduction(+ : s))
#define SIMD_SUM_(text) _Pragma(#text)

#define REAL float
#define ELEMENT float
#define NAME(x) x##_f32
#define ROOT sqrtf
#include "linalg.c"
#undef REAL
#undef ELEMENT
#undef NAME
#undef ROOT

#define REAL double
#define ELEMENT double
#define NAME(x) x##_f64
#define ROOT sqrt
#include "linalg.c"
#undef REAL
#undef ELEMENT
#undef NAME
#undef ROOT

#undef MASK
#undef CHOOSE
#undef ANY
#undef SIMD
#undef SIMD_SUM
#undef SIMD_SUM_

#ifndef ONE_BY_ONE
/* Of vectors: the mask of a lane has all bits set or none. */
#define CHOOSE(mask, a, b) ((ELEMENT)(((mask) & (MASK)(ELEMENT)(a)) | (~(mask) & (MASK)(ELEMENT)(b))))
#define SIMD
#define SIMD_SUM(s)
#define IN_LANES

#define REAL float
#define ELEMENT vector_f32
#define MASK lanes_f32
#define NAME(x) x##_lanes_f32
#define PLAIN(x) x##_f32
#define ANY any_f32
#define ROOT root_f32
#include "linalg.c"
#undef REAL
#undef ELEMENT
#undef MASK
#undef NAME
#undef PLAIN
#undef ANY
#undef ROOT

#define REAL double
#define ELEMENT vector_f64
#define MASK lanes_f64
#define NAME(x) x##_lanes_f64
#define PLAIN(x) x##_f64
#define ANY any_f64
#define ROOT root_f64
#include "linalg.c"

const fg_linalg_kernels FG_TABLE(fg_linalg)[2] = {
    {
#define LINALG(result, name, operands) .name = name##_all_lanes_f32,
#include "kernels.def"
    },
    {
#define LINALG(result, name, operands) .name = name##_all_lanes_f64,
#include "kernels.def"
    },
};
#endif

#else /* ---- once for each type of element ---- */

/* In place of A, of which only the lower triangle is read: L, with zeros above. Returns where the matrix is not
 * positive definite. The rows of L^T are computed above the diagonal; multiples of each are subtracted from those
 * below it. */
MATRIX MASK NAME(cholesky)(int64_t n, ELEMENT *x)
{
    MASK failed = {0};
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) x[j * n + i] = x[i * n + j];
    for (int64_t j = 0; j < n; j++) {
        ELEMENT *xj = x + j * n;
        failed |= xj[j] <= 0;
        const ELEMENT d = ROOT(xj[j]);
        xj[j] = d;
        SIMD
        for (int64_t c = j + 1; c < n; c++) xj[c] /= d;
        for (int64_t i = j + 1; i < n; i++) {
            ELEMENT *xi = x + i * n;
            const ELEMENT t = xj[i];
            SIMD
            for (int64_t c = i; c < n; c++) xi[c] -= t * xj[c];
        }
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) {
            x[i * n + j] = x[j * n + i];
            x[j * n + i] = (ELEMENT){0};
        }
    return failed;
}

/* In place of the cotangent of L, of which only the lower triangle is read: the symmetric cotangent of A. */
MATRIX void NAME(cholesky_vjp)(int64_t n, const ELEMENT *y, ELEMENT *g)
{
    for (int64_t j = n - 1; j >= 0; j--) {
        const ELEMENT *yj = y + j * n, d = yj[j];
        ELEMENT *gj = g + j * n;
        for (int64_t i = n - 1; i > j; i--) {           /* y[i][j] = (a[i][j] - sum of y[i][k] y[j][k]) / y[j][j] */
            const ELEMENT *yi = y + i * n;
            ELEMENT *gi = g + i * n, t = gi[j] / d;
            gi[j] = t;
            gj[j] -= t * yi[j];
            SIMD
            for (int64_t k = 0; k < j; k++) {
                gi[k] -= t * yj[k];
                gj[k] -= t * yi[k];
            }
        }
        const ELEMENT t = gj[j] / d;                    /* y[j][j] = root of a[j][j] - sum of y[j][k] y[j][k] */
        gj[j] = t / 2;
        SIMD
        for (int64_t k = 0; k < j; k++) gj[k] -= t * yj[k];
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) g[i * n + j] = g[j * n + i] = g[i * n + j] / 2;
}

/* Exchange line i of n lines, the rows or the columns of y, with line p, which is i or a later one. Lines begin `line`
 * elements apart, and each has k elements that are `step` apart. */
MATRIX void NAME(exchange_lines)(int64_t n, int64_t i, ELEMENT p, int64_t k, ELEMENT *y, int64_t line, int64_t step)
{
#ifdef IN_LANES
    for (int64_t r = i + 1; r < n; r++) {
        const MASK here = p == (REAL)r;
        if (!ANY(here)) continue;
        for (int64_t c = 0; c < k; c++) {
            const ELEMENT a = y[i * line + c * step], b = y[r * line + c * step];
            y[i * line + c * step] = CHOOSE(here, b, a);
            y[r * line + c * step] = CHOOSE(here, a, b);
        }
    }
#else
    (void)n;
    for (int64_t c = 0, r = (int64_t)p; r != i && c < k; c++) {
        const ELEMENT a = y[i * line + c * step];
        y[i * line + c * step] = y[r * line + c * step];
        y[r * line + c * step] = a;
    }
#endif
}

/* f holds the transpose of A, which Gaussian elimination with partial pivoting overwrites as kernels.h says. */
MATRIX void NAME(lu)(int64_t n, ELEMENT *f)
{
    for (int64_t j = 0; j < n; j++) {
        ELEMENT *fj = f + j * n, best = CHOOSE(fj[j] < 0, -fj[j], fj[j]), p = (ELEMENT){0} + (REAL)j;
        for (int64_t r = j + 1; r < n; r++) {
            const ELEMENT size = CHOOSE(fj[r] < 0, -fj[r], fj[r]);
            const MASK larger = size > best;
            best = CHOOSE(larger, size, best);
            p = CHOOSE(larger, (ELEMENT){0} + (REAL)r, p);
        }
        f[n * n + j] = p;
        NAME(exchange_lines)(n, j, p, n, f, 1, n);
        const ELEMENT pivot = CHOOSE(fj[j] == 0, (ELEMENT){0} + 1, fj[j]);     /* below a pivot of 0 all are 0 */
        SIMD
        for (int64_t r = j + 1; r < n; r++) fj[r] /= pivot;
        for (int64_t c = j + 1; c < n; c++) {
            ELEMENT *fc = f + c * n;
            const ELEMENT t = fc[j];
            SIMD
            for (int64_t r = j + 1; r < n; r++) fc[r] -= t * fj[r];
        }
    }
}

/* Solve op(A) Y = B for a triangular A, in place of B: row by row, or, of the transpose, column by column. */
MATRIX void NAME(triangular)(int64_t n, int64_t k, int how, const ELEMENT *a, ELEMENT *y)
{
    const int lower = (how & FG_LOWER) != 0, transposed = (how & FG_TRANSPOSED) != 0;
    const int64_t step = lower != transposed ? 1 : -1;
    int64_t i = step > 0 ? 0 : n - 1;
    for (int64_t count = 0; count < n; count++, i += step) {
        const ELEMENT *ai = a + i * n;
        const int64_t from = lower ? 0 : i + 1, to = lower ? i : n;
        ELEMENT *yi = y + i * k;
        if (!transposed && k == 1) {
            ELEMENT dot = {0};
            SIMD_SUM(dot)
            for (int64_t j = from; j < to; j++) dot += ai[j] * y[j];
            *yi -= dot;
        } else if (!transposed) {
            for (int64_t j = from; j < to; j++) {
                const ELEMENT t = ai[j], *yj = y + j * k;
                SIMD
                for (int64_t c = 0; c < k; c++) yi[c] -= t * yj[c];
            }
        }
        if (!(how & FG_UNIT)) {
            const ELEMENT d = ai[i];
            SIMD
            for (int64_t c = 0; c < k; c++) yi[c] /= d;
        }
        if (transposed && k == 1) {
            const ELEMENT t = *yi;
            SIMD
            for (int64_t j = from; j < to; j++) y[j] -= t * ai[j];
        } else if (transposed) {
            for (int64_t j = from; j < to; j++) {
                const ELEMENT t = ai[j];
                ELEMENT *yj = y + j * k;
                SIMD
                for (int64_t c = 0; c < k; c++) yj[c] -= t * yi[c];
            }
        }
    }
}

/* Exchange rows of y as the factorization did, or back again. */
MATRIX void NAME(exchange)(int64_t n, int64_t k, int back, const ELEMENT *p, ELEMENT *y)
{
    for (int64_t count = 0; count < n; count++) {
        const int64_t i = back ? n - 1 - count : count;
        NAME(exchange_lines)(n, i, p[i], k, y, k, 1);
    }
}

/* In place of B, by a triangular matrix or by factors of a matrix. */
MATRIX void NAME(solve)(int64_t n, int64_t k, int how, const ELEMENT *a, ELEMENT *y)
{
    if (how & FG_BY_CHOLESKY) {
        NAME(triangular)(n, k, FG_LOWER, a, y);
        NAME(triangular)(n, k, FG_LOWER | FG_TRANSPOSED, a, y);
    } else if (!(how & FG_BY_LU)) {
        NAME(triangular)(n, k, how, a, y);
    } else if (how & FG_TRANSPOSED) {                   /* A^T = U^T L^T P; the rows of `a` are columns of L and U */
        NAME(triangular)(n, k, FG_LOWER, a, y);
        NAME(triangular)(n, k, FG_UNIT, a, y);
        NAME(exchange)(n, k, 1, a + n * n, y);
    } else {
        NAME(exchange)(n, k, 0, a + n * n, y);
        NAME(triangular)(n, k, FG_UNIT | FG_TRANSPOSED, a, y);
        NAME(triangular)(n, k, FG_LOWER | FG_TRANSPOSED, a, y);
    }
}

#ifndef IN_LANES
/* The sign of the determinant of a matrix with these factors, and the logarithm of its absolute value. */
MATRIX void NAME(slogdet)(int64_t n, const REAL *f, REAL *y)
{
    REAL sign = 1;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const REAL d = f[i * n + i];
        sign = d < 0 ? -sign : d == 0 ? 0 : sign;
        sign = f[n * n + i] != (REAL)i ? -sign : sign;
        sum += log(fabs((double)d));
    }
    y[0] = sign + 0;                                    /* not -0 */
    y[1] = (REAL)sum;
}
#endif

#ifdef IN_LANES
/* ---- stacks of matrices: in lanes if they are small, else one by one ----------------------------------------- */
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(REAL)))

/* Element i of every lane from x[i], and of the next lane from `step` elements on. Of fewer matrices than lanes, the
 * last one fills the rest. */
INLINE void NAME(gather)(int64_t count, int64_t size, const REAL *x, int64_t step, ELEMENT *to)
{
    for (int64_t i = 0; i < size; i++)
        for (int64_t lane = 0; lane < LANES; lane++) to[i][lane] = x[i + (lane < count ? lane : count - 1) * step];
}

/* The same of the transposes of n by n matrices. */
INLINE void NAME(gather_transposed)(int64_t count, int64_t n, const REAL *x, ELEMENT *to)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t lane = 0; lane < LANES; lane++)
                to[j * n + i][lane] = x[i * n + j + (lane < count ? lane : count - 1) * n * n];
}

INLINE void NAME(scatter)(int64_t count, int64_t size, const ELEMENT *from, REAL *y)
{
    for (int64_t i = 0; i < size; i++)
        for (int64_t lane = 0; lane < LANES && lane < count; lane++) y[i + lane * size] = from[i][lane];
}

INLINE int NAME(in_lanes)(int64_t count, int64_t n) { return count > 1 && n <= SMALL; }
INLINE int64_t NAME(lesser)(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t NAME(cholesky_all)(int64_t count, int64_t n, const void *a_, void *y_)
{
    const REAL *a = a_;
    REAL *y = y_;
    if (NAME(in_lanes)(count, n)) {
        ELEMENT x[SMALL * SMALL];
        for (int64_t m = 0; m < count; m += LANES) {
            const int64_t some = NAME(lesser)(LANES, count - m);
            NAME(gather)(some, n * n, a + m * n * n, n * n, x);
            const MASK failed = NAME(cholesky)(n, x);
            for (int64_t lane = 0; ANY(failed) && lane < some; lane++)
                if (failed[lane]) return m + lane;
            NAME(scatter)(some, n * n, x, y + m * n * n);
        }
        return count;
    }
    for (int64_t m = 0; m < count; m++) {
        if (n) memmove(y + m * n * n, a + m * n * n, (size_t)(n * n) * sizeof *y);
        if (PLAIN(cholesky)(n, y + m * n * n)) return m;
    }
    return count;
}

static void NAME(cholesky_vjp_all)(int64_t count, int64_t n, const void *y_, const void *g_, void *gx_)
{
    const REAL *y = y_, *g = g_;
    REAL *gx = gx_;
    if (NAME(in_lanes)(count, n)) {
        ELEMENT l[SMALL * SMALL], x[SMALL * SMALL];
        for (int64_t m = 0; m < count; m += LANES) {
            const int64_t some = NAME(lesser)(LANES, count - m);
            NAME(gather)(some, n * n, y + m * n * n, n * n, l);
            NAME(gather)(some, n * n, g + m * n * n, n * n, x);
            NAME(cholesky_vjp)(n, l, x);
            NAME(scatter)(some, n * n, x, gx + m * n * n);
        }
        return;
    }
    for (int64_t m = 0; m < count; m++) {
        if (n) memmove(gx + m * n * n, g + m * n * n, (size_t)(n * n) * sizeof *gx);
        PLAIN(cholesky_vjp)(n, y + m * n * n, gx + m * n * n);
    }
}

static void NAME(lu_all)(int64_t count, int64_t n, const void *a_, void *f_)
{
    const REAL *a = a_;
    REAL *f = f_;
    const int64_t size = (n + 1) * n;
    if (NAME(in_lanes)(count, n)) {
        ELEMENT x[(SMALL + 1) * SMALL];
        for (int64_t m = 0; m < count; m += LANES) {
            const int64_t some = NAME(lesser)(LANES, count - m);
            NAME(gather_transposed)(some, n, a + m * n * n, x);
            NAME(lu)(n, x);
            NAME(scatter)(some, size, x, f + m * size);
        }
        return;
    }
    for (int64_t m = 0; m < count; m++) {
        REAL *fm = f + m * size;
        const REAL *am = a + m * n * n;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) fm[j * n + i] = am[i * n + j];
        PLAIN(lu)(n, fm);
    }
}

static void NAME(solve_all)(int64_t count, int64_t n, int64_t k, int how, const void *a_, int64_t a_step,
                            const void *b_, int64_t b_step, void *y_)
{
    const REAL *a = a_, *b = b_;
    REAL *y = y_;
    const int64_t size = how & FG_BY_LU ? (n + 1) * n : n * n;
    if (NAME(in_lanes)(count, n) && n * k <= SMALL_RIGHT) {
        ELEMENT f[(SMALL + 1) * SMALL], x[SMALL_RIGHT];
        for (int64_t m = 0; m < count; m += LANES) {
            const int64_t some = NAME(lesser)(LANES, count - m);
            if (m == 0 || a_step) NAME(gather)(some, size, a + m * a_step, a_step, f);
            NAME(gather)(some, n * k, b + m * b_step, b_step, x);
            NAME(solve)(n, k, how, f, x);
            NAME(scatter)(some, n * k, x, y + m * n * k);
        }
        return;
    }
    for (int64_t m = 0; m < count; m++) {
        if (n > 0 && k > 0) memmove(y + m * n * k, b + m * b_step, (size_t)(n * k) * sizeof *y);
        PLAIN(solve)(n, k, how, a + m * a_step, y + m * n * k);
    }
}

static void NAME(slogdet_all)(int64_t count, int64_t n, const void *f_, void *y_)
{
    const REAL *f = f_;
    REAL *y = y_;
    for (int64_t m = 0; m < count; m++, f += (n + 1) * n, y += 2) PLAIN(slogdet)(n, f, y);
}
#endif

#endif
