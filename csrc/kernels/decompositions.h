/* decompositions.h: eigenvalues, singular values, QR factors and exponentials of matrices.
 *
 * fg_linalg_... take `count` row-major matrices one after the other, of either dtype, and use LAPACK or what is below
 * (decompositions_dispatch.c, expm.c). They return FG_OK or FG_NO_MEMORY; FG_BAD_MATRIX for a matrix whose elements are
 * not finite or whose iteration did not converge; and FG_NOT_IMPLEMENTED for one that has eigenvalues that are not
 * real. *bad is its number. The parts of a result lie one behind the other.
 */
#ifndef FG_DECOMPOSITIONS_H
#define FG_DECOMPOSITIONS_H

#include "fastgrad.h"

enum { FG_VALUES_ONLY, FG_REDUCED, FG_FULL };       /* what is asked of a singular value decomposition */

/* n eigenvalues in ascending order and, if `vectors`, n by n eigenvectors as columns. One triangle of A is read. */
int fg_linalg_eigh(int dtype, int64_t count, int64_t n, int upper, int vectors, const void *a, void *y, int64_t *bad);
/* Of m by n matrices the singular values in descending order and, unless FG_VALUES_ONLY, U and V^T. */
int fg_linalg_svd(int dtype, int64_t count, int64_t m, int64_t n, int part, const void *a, void *y, int64_t *bad);
/* Of m by n matrices, m >= n: Q, m by n or, if full, m by m; and R, n by n. */
int fg_linalg_qr(int dtype, int64_t count, int64_t m, int64_t n, int full, const void *a, void *y);
/* n eigenvalues and, if `vectors`, eigenvectors of length 1 as columns. */
int fg_linalg_eig(int dtype, int64_t count, int64_t n, int vectors, const void *a, void *y, int64_t *bad);
int fg_linalg_expm(int dtype, int64_t count, int64_t n, const void *a, void *y);

/* ---- own_decompositions.c: of one matrix, in float64. eigh and svd return whether they converged. ---- */
/* a: symmetric, n by n, is destroyed. w: ascending. v: eigenvectors as rows. */
int fg_own_eigh(int64_t n, double *a, double *w, double *v);
/* a: n rows that are the columns of an m by n matrix, m >= n, destroyed. s: descending. u: `columns` of U as rows, n or
 * m. v: n columns of V as rows. */
int fg_own_svd(int64_t m, int64_t n, int64_t columns, double *a, double *s, double *u, double *v);
/* a: m by n, m >= n, becomes R on and above its diagonal. q: m by `columns`; beta: room for n numbers. */
void fg_own_qr(int64_t m, int64_t n, int64_t columns, double *a, double *q, double *beta);
/* a: n by n, destroyed. v: eigenvectors as columns. z: room for n by n. Returns FG_OK, FG_NOT_IMPLEMENTED if
 * eigenvalues are not real, or FG_BAD_MATRIX if it did not converge. */
int fg_own_eig(int64_t n, double *a, double *w, double *v, double *z);

#endif
