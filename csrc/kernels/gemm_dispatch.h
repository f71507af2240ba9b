/* gemm_dispatch.h: matrix products by whichever kernel is fastest for their size: what ops/matmul.c and programs
 * call. */
#ifndef FG_GEMM_DISPATCH_H
#define FG_GEMM_DISPATCH_H

#include "fastgrad.h"

/* TILES, ROWS, DOTS and NARROW are kernels of gemm.c: ROWS is for a matrix and a vector, DOTS for a vector and a few
 * others, NARROW for a long vector and a matrix of few columns. BLAS is the one of fg_set_blas. */
typedef enum { FG_GEMM_TILES, FG_GEMM_ROWS, FG_GEMM_DOTS, FG_GEMM_NARROW, FG_GEMM_BLAS } fg_gemm_backend;

/* Of op(A)[m][k] op(B)[k][n]; ta and tb: whether op transposes. */
fg_gemm_backend fg_choose_gemm_backend(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k);
/* C = op(A) op(B), plus C if beta; B and C have contiguous rows, A rows of lda elements. */
void fg_gemm(int dtype, fg_gemm_backend by, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a,
             int64_t lda, const void *b, int beta, void *c);
/* The same by TILES, NARROW or BLAS, with rows of lda, ldb and ldc elements. */
void fg_gemm_within(int dtype, fg_gemm_backend by, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a,
                    int64_t lda, const void *b, int64_t ldb, int beta, void *c, int64_t ldc);

/* `count` products, by any kernel, of matrices so many elements apart. */
typedef struct { int64_t ld, step; } fg_matrices;       /* elements from row to row, and from matrix to matrix */
void fg_gemm_stack(int dtype, fg_gemm_backend by, int ta, int tb, int64_t m, int64_t n, int64_t k, int64_t count,
                   const void *a, fg_matrices of_a, const void *b, fg_matrices of_b, int beta, void *c,
                   fg_matrices of_c);

/* In a program the matrices of a stack may lie within arrays of another order of axes, from which they are not copied
 * (product_layouts.c). Then the operation matmul has these attributes: ta, tb, m, n, k, the number of axes of the
 * stack, their lengths; and of each of the arrays a, b and y where the first element is, and how many elements it is
 * from row to row and along each axis of the stack. */
enum { FG_PLAIN_PRODUCT = 2, FG_PRODUCT_STACK = 6 };     /* attributes of any other product; where the lengths begin */
static inline int fg_product_attrs(int stack) { return FG_PRODUCT_STACK + stack + 3 * (2 + stack); }
/* Where those of array i begin. */
static inline int fg_product_array(int stack, int i) { return FG_PRODUCT_STACK + stack + i * (2 + stack); }

/* The BLAS's own product of row-major matrices with rows of lda, ldb and ldc elements, where there is a BLAS:
 * C = alpha op(A) op(B) + beta C. */
int fg_blas_has_gemm(int dtype);
void fg_blas_gemm(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k, double alpha, const void *a, int64_t lda,
                  const void *b, int64_t ldb, double beta, void *c, int64_t ldc);

/* Rows and columns of op(x), x a stack of matrices. */
static inline int64_t fg_rows_of(const fg_shape *s, int transposed) { return s->dim[s->ndim - 2 + !!transposed]; }
static inline int64_t fg_cols_of(const fg_shape *s, int transposed) { return s->dim[s->ndim - 1 - !!transposed]; }

/* Of a call of the operation matmul on two matrices: `rows` rows of the product from row `from` on, by the kernel that
 * would compute the whole. */
void fg_gemm_rows(const fg_call *, int64_t from, int64_t rows, void *y);
/* The same for some of its columns, of a product by tiles, to rows of y that are ldy elements apart. */
void fg_gemm_part(const fg_call *, int64_t from, int64_t rows, int64_t column, int64_t columns, void *y, int64_t ldy);
/* Is such a product computed by tiles? Its attributes are the flags of transposition. */
int fg_gemm_uses_tiles(int dtype, const fg_shape *a, const fg_shape *b, const int64_t *attr);

#endif
