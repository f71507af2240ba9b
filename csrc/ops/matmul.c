/* matmul.c: matrix products, by our own kernel where it wins and by a BLAS above that.
 *
 * The transposes of either operand are flags, so that the two products of the backward pass need no
 * transposed copies. A stack of matrices times one matrix is a single product with more rows; the Python
 * layer reshapes it so. The BLAS is whichever fg_set_blas was given (usually the one NumPy has loaded);
 * without one, our kernel does every size.
 */
#include "fastgrad.h"

#include <string.h>

typedef void (*sgemm64)(int order, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                        int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
typedef void (*dgemm64)(int order, int ta, int tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                        int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
typedef void (*sgemm32)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                        const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*dgemm32)(int order, int ta, int tb, int m, int n, int k, double alpha, const double *a, int lda,
                        const double *b, int ldb, double beta, double *c, int ldc);
enum { ROWS_FROM = 32, ROWS_MOST = 1 << 15 };
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

static struct { void *gemm[2]; int ilp64; } blas;

void fg_set_blas(void *sgemm, void *dgemm, int ilp64)
{
    blas.gemm[FG_FLOAT32] = sgemm;
    blas.gemm[FG_FLOAT64] = dgemm;
    blas.ilp64 = ilp64;
}

/* Who computes a product. The BLAS is faster than our kernel (measured against the OpenBLAS of NumPy's wheels) where it
 * is large, spread over threads, though not well if its result is small; and where it is thin and both operands run
 * along k, which are dot products. Of those a matrix and a vector are for the kernel of rows while the matrix is in a
 * cache. */
typedef enum { TILES, ROWS, BLAS } taker;

static taker choose_gemm_backend(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k)
{
    int64_t thin = m < n ? m : n, wide = m < n ? n : m;
    int along_k = (!ta || m == 1) && (tb || n == 1);
    if (along_k && thin == 1 && wide >= ROWS_FROM && k >= ROWS_FROM && wide * k <= ROWS_MOST)
        return ROWS;
    if (!blas.gemm[dtype] || !(blas.ilp64 || (m <= INT32_MAX && n <= INT32_MAX && k <= INT32_MAX)))
        return TILES;
    return (wide > 64 && (double)m * (double)n * (double)k >= 256.0 * 256 * 256) ||
                   (along_k && thin <= 4 && wide >= 32 && k >= 32) ? BLAS : TILES;
}

static void gemm(int dtype, taker by, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                 const void *b, int beta, void *c)
{
    int64_t ldb = tb ? k : n;
    if (by == ROWS) {
        fg_kernels[dtype].gemm->rows(m < n ? n : m, k, m < n ? b : a, m < n ? a : b, beta, c);
        return;
    }
    if (by == TILES) {
        fg_kernels[dtype].gemm->gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, n);
        return;
    }
    ta = ta ? TRANSPOSED : PLAIN;
    tb = tb ? TRANSPOSED : PLAIN;
    void *f = blas.gemm[dtype];
    if (dtype == FG_FLOAT32 && blas.ilp64)
        ((sgemm64)f)(ROW_MAJOR, ta, tb, m, n, k, 1, a, lda, b, ldb, beta, c, n);
    else if (blas.ilp64)
        ((dgemm64)f)(ROW_MAJOR, ta, tb, m, n, k, 1, a, lda, b, ldb, beta, c, n);
    else if (dtype == FG_FLOAT32)
        ((sgemm32)f)(ROW_MAJOR, ta, tb, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb, beta, c, (int)n);
    else
        ((dgemm32)f)(ROW_MAJOR, ta, tb, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb, beta, c, (int)n);
}

/* Rows and columns of op(x), x a stack of matrices. */
static int64_t rows_of(const fg_shape *s, int transposed) { return s->dim[s->ndim - 2 + !!transposed]; }
static int64_t cols_of(const fg_shape *s, int transposed) { return s->dim[s->ndim - 1 - !!transposed]; }

static int misaligned(const fg_call *c)
{
    const fg_shape *a = c->in[0].array->shape, *b = c->in[1].array->shape;
    int ta = (int)c->attr[0], tb = (int)c->attr[1];
    char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
    int a_axis = a->ndim - 1 - ta, b_axis = b->ndim - 2 + tb;
    int64_t ar = rows_of(a, ta), ac = cols_of(a, ta), br = rows_of(b, tb), bc = cols_of(b, tb);
    const char *hint = ta || tb ? "" : ac == bc ? ". Did you mean a @ b.T?" : ar == br ? ". Did you mean a.T @ b?"
                       : ar == bc ? ". Did you mean b @ a?" : "";
    return fg_fail(FG_BAD_VALUE, "matmul: shapes %s and %s do not align: %lld (axis %d) is not %lld (axis %d)%s",
                   fg_shape_text(a, sa), fg_shape_text(b, sb), (long long)ac, a_axis, (long long)br, b_axis, hint);
}

int fg_matmul_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_shape *a = c->in[0].array->shape, *b = c->in[1].array->shape;
    int ta = (int)c->attr[0], tb = (int)c->attr[1];
    *dtype = c->in[0].array->dtype;
    if (cols_of(a, ta) != rows_of(b, tb))
        return misaligned(c);
    fg_shape *a_stack = fg_shape_new(a->ndim - 2, a->dim), *b_stack = fg_shape_new(b->ndim - 2, b->dim);
    fg_shape *stack = a_stack && b_stack ? fg_broadcast_shapes("matmul", a_stack, b_stack) : NULL;
    fg_shape_unref(a_stack);
    fg_shape_unref(b_stack);
    if (!stack && fg_failed() == FG_NO_MEMORY)
        return FG_NO_MEMORY;
    if (!stack) {
        char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
        return fg_fail(FG_BAD_VALUE,
                       "matmul: shapes %s and %s do not align: the axes before the last two do not broadcast",
                       fg_shape_text(a, sa), fg_shape_text(b, sb));
    }
    int64_t dim[FG_MAX_NDIM + 2];
    memcpy(dim, stack->dim, (size_t)stack->ndim * sizeof *dim);
    dim[stack->ndim] = rows_of(a, ta);
    dim[stack->ndim + 1] = cols_of(b, tb);
    int status = fg_shape_made(fg_shape_new(stack->ndim + 2, dim), shape);
    fg_shape_unref(stack);
    return status;
}

static int run_stacks(const fg_call *c, fg_array *y, taker by, int64_t m, int64_t n, int64_t k)
{
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int ta = (int)c->attr[0], tb = (int)c->attr[1], ndim = y->shape->ndim;
    /* Matrices apart in each operand's stack, axis by axis; 0 where the stack is stretched. */
    int64_t step[2][FG_MAX_NDIM], index[FG_MAX_NDIM] = {0}, at[2] = {0, 0}, extent[2] = {m * k, k * n};
    for (int i = ndim - 3; i >= 0; i--)
        for (int j = 0; j < 2; j++) {
            const fg_shape *s = (j ? b : a)->shape;
            int own = i - (ndim - s->ndim);
            int64_t length = own >= 0 ? s->dim[own] : 1;
            step[j][i] = length == 1 ? 0 : extent[j];
            extent[j] *= length;
        }
    int64_t itemsize = (int64_t)fg_itemsize(y->dtype);
    char *to = y->data, *end = to + y->shape->size * itemsize;
    for (; to < end; to += m * n * itemsize) {
        gemm(y->dtype, by, ta, tb, m, n, k, (const char *)a->data + at[0] * itemsize, ta ? m : k,
             (const char *)b->data + at[1] * itemsize, c->n_in == 3, to);
        for (int i = ndim - 3; i >= 0; i--) {
            int done = ++index[i] == y->shape->dim[i];
            for (int j = 0; j < 2; j++)
                at[j] += done ? -(y->shape->dim[i] - 1) * step[j][i] : step[j][i];
            if (!done)
                break;
            index[i] = 0;
        }
    }
    return FG_OK;
}

/* Within programs there may be a third operand (simplify.c): what lies in y already, to which the product is added. */
int fg_matmul_run(const fg_call *c, fg_array *y)
{
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int ta = (int)c->attr[0], tb = (int)c->attr[1], ndim = y->shape->ndim;
    int64_t m = rows_of(a->shape, ta), k = cols_of(a->shape, ta), n = cols_of(b->shape, tb);
    taker by = choose_gemm_backend(y->dtype, ta, tb, m, n, k);
    if (ndim != 2)
        return y->shape->size == 0 ? FG_OK : run_stacks(c, y, by, m, n, k);
    gemm(y->dtype, by, ta, tb, m, n, k, a->data, ta ? m : k, b->data, c->n_in == 3, y->data);
    return FG_OK;
}

int fg_matmul_is_ours(int dtype, const fg_shape *a, const fg_shape *b, const int64_t *attr)
{
    int ta = (int)attr[0], tb = (int)attr[1];
    return choose_gemm_backend(dtype, ta, tb, rows_of(a, ta), cols_of(b, tb), cols_of(a, ta)) == TILES;
}

void fg_matmul_rows(const fg_call *c, int64_t from, int64_t rows, void *y)
{
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int dtype = a->dtype, ta = (int)c->attr[0], tb = (int)c->attr[1];
    int64_t m = rows_of(a->shape, ta), k = cols_of(a->shape, ta), n = cols_of(b->shape, tb);
    gemm(dtype, choose_gemm_backend(dtype, ta, tb, m, n, k), ta, tb, rows, n, k,
         (const char *)a->data + from * (ta ? 1 : k) * (int64_t)fg_itemsize(dtype), ta ? m : k, b->data, 0, y);
}

/* With Y = op(A) op(B) and cotangent G: op(A)' = G op(B)^T and op(B)' = op(A)^T G, each transposed once more
 * where the operand itself enters transposed. */
int fg_matmul_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    int ta = (int)n->attr[0], tb = (int)n->attr[1];
    fg_tensor a, b;
    int status;
    if ((status = fg_saved(n, 0, &a)) || (status = fg_saved(n, 1, &b)))
        return status;
    for (int i = 0; i < 2; i++) {
        if (!n->in[i].parent)
            continue;
        fg_tensor full;
        if (i == 0)
            status = ta ? fg_apply(FG_OP_matmul, 2, (fg_tensor[]){b, g}, 2, (int64_t[]){tb, 1}, &full)
                        : fg_apply(FG_OP_matmul, 2, (fg_tensor[]){g, b}, 2, (int64_t[]){0, !tb}, &full);
        else
            status = tb ? fg_apply(FG_OP_matmul, 2, (fg_tensor[]){g, a}, 2, (int64_t[]){1, ta}, &full)
                        : fg_apply(FG_OP_matmul, 2, (fg_tensor[]){a, g}, 2, (int64_t[]){!ta, 0}, &full);
        if (status)
            return status;
        status = fg_sum_to(full, n->in[i].parent->shape, &gin[i]);
        fg_tensor_unref(full);
        if (status)
            return status;
    }
    return FG_OK;
}
