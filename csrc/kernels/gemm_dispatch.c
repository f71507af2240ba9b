/* gemm_dispatch.c: which kernel computes a matrix product: our own where it wins, a BLAS above that.
 *
 * The BLAS is whichever fg_set_blas was given, usually the one that NumPy has loaded. Without one, our kernels compute
 * every size.
 */
#include "kernels/gemm_dispatch.h"

typedef void (*sgemm64)(int order, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                        int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
typedef void (*dgemm64)(int order, int ta, int tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                        int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
typedef void (*sgemm32)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                        const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*dgemm32)(int order, int ta, int tb, int m, int n, int k, double alpha, const double *a, int lda,
                        const double *b, int ldb, double beta, double *c, int ldc);
enum { ROWS_FROM = 32 };        /* least rows and columns of a matrix for ROWS, and k of NARROW */
enum { NARROW_TO = 64 };        /* most columns of a matrix for NARROW */
enum { LONG_FROM = 64 };        /* least k of (c) below */
enum { DEEP_FROM = 33 };        /* least k of (a) */
/* The constants of the CBLAS interface. */
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

static struct {
    void *gemm[2];
    int ilp64;
} blas;

void fg_set_blas(void *sgemm, void *dgemm, int ilp64)
{
    blas.gemm[FG_FLOAT32] = sgemm;
    blas.gemm[FG_FLOAT64] = dgemm;
    blas.ilp64 = ilp64;
}

int fg_blas_has_gemm(int dtype) { return blas.gemm[dtype] != NULL; }

void fg_blas_gemm(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k, double alpha, const void *a, int64_t lda,
                  const void *b, int64_t ldb, double beta, void *c, int64_t ldc)
{
    ta = ta ? TRANSPOSED : PLAIN;
    tb = tb ? TRANSPOSED : PLAIN;
    void *f = blas.gemm[dtype];
    float alpha_f = (float)alpha, beta_f = (float)beta;
    fg_threads_enter_library();
    if (dtype == FG_FLOAT32 && blas.ilp64)
        ((sgemm64)f)(ROW_MAJOR, ta, tb, m, n, k, alpha_f, a, lda, b, ldb, beta_f, c, ldc);
    else if (blas.ilp64)
        ((dgemm64)f)(ROW_MAJOR, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else if (dtype == FG_FLOAT32)
        ((sgemm32)f)(ROW_MAJOR, ta, tb, (int)m, (int)n, (int)k, alpha_f, a, (int)lda, b, (int)ldb, beta_f, c, (int)ldc);
    else
        ((dgemm32)f)(ROW_MAJOR, ta, tb, (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
    fg_threads_leave_library();
}

/* Measured against the OpenBLAS of NumPy's wheels. A BLAS is faster than our tiles
 * (a) where the product is large and k is not small; and
 * (b) where the result is thin and both operands are contiguous along k, so that its elements are dot products; or
 * (c) where they are, the result is so small that it occupies a part of a tile alone, and k is long.
 * Of the products (b), a matrix times a vector is fastest by the kernel of rows, and one of few rows by dot products. A
 * tile of a vector times a matrix of few columns has few sums, each addition to which waits for the one before.
 */
fg_gemm_backend fg_choose_gemm_backend(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k)
{
    int64_t thin = m < n ? m : n, wide = m < n ? n : m;
    int along_k = (!ta || m == 1) && (tb || n == 1);
    if (along_k && thin == 1 && wide >= ROWS_FROM && k >= ROWS_FROM)
        return FG_GEMM_ROWS;
    if (along_k && thin == 1 && wide < ROWS_FROM && k >= ROWS_FROM && !fg_is_few(m, n, k))
        return FG_GEMM_DOTS;
    if (!along_k && thin == 1 && wide <= NARROW_TO && k >= ROWS_FROM)
        return FG_GEMM_NARROW;
    if (!blas.gemm[dtype] || !(blas.ilp64 || (m <= INT32_MAX && n <= INT32_MAX && k <= INT32_MAX)))
        return FG_GEMM_TILES;
    return (wide > 64 && k >= DEEP_FROM && (double)m * (double)n * (double)k >= 256.0 * 256 * 256) ||
                   (along_k && thin <= 4 && wide >= 32 && k >= 32) ||
                   (along_k && thin > 1 && wide <= 16 && k >= LONG_FROM)
               ? FG_GEMM_BLAS
               : FG_GEMM_TILES;
}

void fg_gemm(int dtype, fg_gemm_backend by, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
             const void *b, int beta, void *c)
{
    int64_t ldb = tb ? k : n;
    if (by == FG_GEMM_ROWS) {
        fg_kernels[dtype].gemm->rows(m < n ? n : m, k, m < n ? b : a, m < n ? a : b, beta, c);
        return;
    }
    if (by == FG_GEMM_DOTS) {
        fg_kernels[dtype].gemm->dots(m < n ? n : m, k, m < n ? b : a, k, m < n ? a : b, 0, beta, c);
        return;
    }
    fg_gemm_within(dtype, by, ta, tb, m, n, k, a, lda, b, ldb, beta, c, n);
}

void fg_gemm_within(int dtype, fg_gemm_backend by, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a,
                    int64_t lda, const void *b, int64_t ldb, int beta, void *c, int64_t ldc)
{
    if (by == FG_GEMM_BLAS)
        fg_blas_gemm(dtype, ta, tb, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
    else if (by == FG_GEMM_NARROW && n == 1)
        fg_kernels[dtype].gemm->narrow(m, k, b, tb ? 1 : ldb, a, lda, beta, c, ldc);
    else if (by == FG_GEMM_NARROW)
        fg_kernels[dtype].gemm->narrow(n, k, a, ta ? lda : 1, b, ldb, beta, c, 1);
    else
        fg_kernels[dtype].gemm->gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

void fg_gemm_stack(int dtype, fg_gemm_backend by, int ta, int tb, int64_t m, int64_t n, int64_t k, int64_t count,
                   const void *a, fg_matrices of_a, const void *b, fg_matrices of_b, int beta, void *c,
                   fg_matrices of_c)
{
    if (by == FG_GEMM_TILES && k && fg_is_few(m, n, k)) {
        const fg_product few = {
            m, n, k, ta ? 1 : of_a.ld, ta ? of_a.ld : 1, tb ? 1 : of_b.ld, tb ? of_b.ld : 1, of_c.ld, beta, 0};
        fg_kernels[dtype].gemm->few_stack(&few, count, a, of_a.step, b, of_b.step, c, of_c.step);
        return;
    }
    int64_t itemsize = (int64_t)fg_itemsize(dtype);
    for (; count > 0; count--) {
        if (by == FG_GEMM_ROWS || by == FG_GEMM_DOTS)
            fg_gemm(dtype, by, ta, tb, m, n, k, a, of_a.ld, b, beta, c);
        else
            fg_gemm_within(dtype, by, ta, tb, m, n, k, a, of_a.ld, b, of_b.ld, beta, c, of_c.ld);
        a = (const char *)a + of_a.step * itemsize;
        b = (const char *)b + of_b.step * itemsize;
        c = (char *)c + of_c.step * itemsize;
    }
}

void fg_gemm_rows(const fg_call *c, int64_t from, int64_t rows, void *y)
{
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int dtype = a->dtype, ta = (int)c->attr[0], tb = (int)c->attr[1];
    int64_t m = fg_rows_of(a->shape, ta), k = fg_cols_of(a->shape, ta), n = fg_cols_of(b->shape, tb);
    fg_gemm(dtype, fg_choose_gemm_backend(dtype, ta, tb, m, n, k), ta, tb, rows, n, k,
            (const char *)a->data + from * (ta ? 1 : k) * (int64_t)fg_itemsize(dtype), ta ? m : k, b->data, 0, y);
}

void fg_gemm_part(const fg_call *c, int64_t from, int64_t rows, int64_t column, int64_t columns, void *y, int64_t ldy)
{
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int dtype = a->dtype, ta = (int)c->attr[0], tb = (int)c->attr[1];
    int64_t m = fg_rows_of(a->shape, ta), k = fg_cols_of(a->shape, ta), n = fg_cols_of(b->shape, tb);
    int64_t itemsize = (int64_t)fg_itemsize(dtype);
    fg_gemm_within(dtype, FG_GEMM_TILES, ta, tb, rows, columns, k,
                   (const char *)a->data + from * (ta ? 1 : k) * itemsize, ta ? m : k,
                   (const char *)b->data + column * (tb ? k : 1) * itemsize, tb ? k : n, 0, y, ldy);
}

int fg_gemm_uses_tiles(int dtype, const fg_shape *a, const fg_shape *b, const int64_t *attr)
{
    int ta = (int)attr[0], tb = (int)attr[1];
    return fg_choose_gemm_backend(dtype, ta, tb, fg_rows_of(a, ta), fg_cols_of(b, tb), fg_cols_of(a, ta)) ==
           FG_GEMM_TILES;
}
