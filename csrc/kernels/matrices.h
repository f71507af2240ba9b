/* matrices.h: the functions of linalg.c for a single matrix, each with its result apart from its operands.
 *
 * Programs that are written out as C include it: its functions become part of those that call them with sizes that are
 * constants. Exported programs have them through plain.h.
 *
 * The file includes itself once per dtype.
 */
#ifndef T
#define ONE_BY_ONE              /* of linalg.c the functions of a single matrix, without the table of kernels */
#define MATRIX static inline __attribute__((always_inline))
#include "linalg.c"
#define T float
#define FN(name) name##_f32
#include "matrices.h"
#undef T
#undef FN
#define T double
#define FN(name) name##_f64
#include "matrices.h"
#undef T
#undef FN

#else

/* Elements on and below a diagonal, or on and above it, which may be halved; zeros elsewhere. */
MATRIX void FN(triangle_of)(int64_t m, int64_t n, int upper, int64_t diagonal, int halves, const T *x, T *y)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t above = j - i - diagonal;
            const T value = x[i * n + j];
            y[i * n + j] = above == 0 ? (halves ? value / 2 : value) : (above > 0) == (upper != 0) ? value : 0;
        }
}

MATRIX int FN(cholesky_of)(int64_t n, const T *a, T *y)
{
    for (int64_t i = 0; i < n * n; i++) y[i] = a[i];
    return FN(cholesky)(n, y);
}

MATRIX void FN(cholesky_adjoint_of)(int64_t n, const T *y, const T *g, T *gx)
{
    for (int64_t i = 0; i < n * n; i++) gx[i] = g[i];
    FN(cholesky_vjp)(n, y, gx);
}

MATRIX void FN(lu_of)(int64_t n, const T *a, T *f)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) f[j * n + i] = a[i * n + j];
    FN(lu)(n, f);
}

MATRIX void FN(solve_of)(int64_t n, int64_t k, int how, const T *a, const T *b, T *y)
{
    for (int64_t i = 0; i < n * k; i++) y[i] = b[i];
    FN(solve)(n, k, how, a, y);
}

/* Whether no element of the diagonal is 0. */
MATRIX int FN(is_regular)(int64_t n, const T *a)
{
    for (int64_t i = 0; i < n; i++)
        if (a[i * (n + 1)] == 0) return 0;
    return 1;
}

/* The sign of the determinant and the logarithm of its absolute value, of a matrix whose LU factor is f. */
MATRIX void FN(slogdet_of)(int64_t n, const T *f, T *y) { FN(slogdet)(n, f, y); }

#endif
