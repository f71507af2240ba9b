/* matmul.c: the operation matmul: its shape rule, products of stacks of matrices, and its vjp; and fg_matmul, which
 * makes NumPy's matmul of it.
 *
 * The transposes of either operand are flags, so that the two products of the backward pass need no transposed copies.
 * The operation knows matrices and stacks of them. fg_matmul reshapes vectors to matrices of one row or column, and a
 * stack of matrices times one matrix to a single product with more rows; reshapes copy nothing, and a program has no
 * steps for them. Which kernel computes a product is decided in kernels/gemm_dispatch.c.
 */
#include "kernels/gemm_dispatch.h"

#include <string.h>

/* The error where the shapes of two operands, vectors among them, do not align; ta and tb: they enter transposed. */
static int misaligned(const fg_shape *a, const fg_shape *b, int ta, int tb)
{
    char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
    int a_axis = a->ndim - 1 - ta, b_axis = b->ndim == 1 ? 0 : b->ndim - 2 + tb;
    /* A hint names the transpose of a matrix: that of a vector is itself, and that of a stack reverses all axes. */
    int64_t rows = a->ndim == 2 ? a->dim[0] : -1, columns = b->ndim == 2 ? b->dim[1] : -1;
    const char *hint = ta || tb                       ? ""
                       : a->dim[a_axis] == columns    ? ". Did you mean a @ b.T?"
                       : rows == b->dim[b_axis]       ? ". Did you mean a.T @ b?"
                       : rows >= 0 && rows == columns ? ". Did you mean b @ a?"
                                                      : "";
    return fg_fail(FG_BAD_VALUE, "matmul: shapes %s and %s do not align: %lld (axis %d) is not %lld (axis %d)%s",
                   fg_shape_text(a, sa), fg_shape_text(b, sb), (long long)a->dim[a_axis], a_axis,
                   (long long)b->dim[b_axis], b_axis, hint);
}

int fg_matmul_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_shape *a = c->in[0].array->shape, *b = c->in[1].array->shape;
    int ta = (int)c->attr[0], tb = (int)c->attr[1];
    *dtype = c->in[0].array->dtype;
    if (fg_cols_of(a, ta) != fg_rows_of(b, tb))
        return misaligned(a, b, ta, tb);
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
    dim[stack->ndim] = fg_rows_of(a, ta);
    dim[stack->ndim + 1] = fg_cols_of(b, tb);
    int status = fg_shape_made(fg_shape_new(stack->ndim + 2, dim), shape);
    fg_shape_unref(stack);
    return status;
}

static int run_stacks(const fg_call *c, fg_array *y, fg_gemm_backend by, int64_t m, int64_t n, int64_t k)
{
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int ta = (int)c->attr[0], tb = (int)c->attr[1], ndim = y->shape->ndim;
    /* Of each operand, how many elements apart its matrices are along each axis of the stack; 0 where it is
     * broadcast. */
    int64_t stride[2][FG_MAX_NDIM], index[FG_MAX_NDIM] = {0}, at[2] = {0, 0}, extent[2] = {m * k, k * n};
    for (int i = ndim - 3; i >= 0; i--)
        for (int j = 0; j < 2; j++) {
            const fg_shape *s = (j ? b : a)->shape;
            int own = i - (ndim - s->ndim);
            int64_t length = own >= 0 ? s->dim[own] : 1;
            stride[j][i] = length == 1 ? 0 : extent[j];
            extent[j] *= length;
        }
    int64_t itemsize = (int64_t)fg_itemsize(y->dtype);
    char *to = y->data, *end = to + y->shape->size * itemsize;
    /* The products along the last axis of the stack are computed in one call. */
    int last = ndim - 3;
    int64_t together = y->shape->dim[last], step_a = stride[0][last], step_b = stride[1][last--];
    for (; to < end; to += together * m * n * itemsize) {
        const char *from_a = (const char *)a->data + at[0] * itemsize,
                   *from_b = (const char *)b->data + at[1] * itemsize;
        if (m * n == 1)
            fg_kernels[y->dtype].gemm->dots(together, k, from_a, step_a, from_b, step_b, c->n_in == 3, to);
        else
            fg_gemm_stack(y->dtype, by, ta, tb, m, n, k, together, from_a, (fg_matrices){ta ? m : k, step_a}, from_b,
                          (fg_matrices){tb ? k : n, step_b}, c->n_in == 3, to, (fg_matrices){n, m * n});
        for (int i = last; i >= 0; i--) {
            int done = ++index[i] == y->shape->dim[i];
            for (int j = 0; j < 2; j++)
                at[j] += done ? -(y->shape->dim[i] - 1) * stride[j][i] : stride[j][i];
            if (!done)
                break;
            index[i] = 0;
        }
    }
    return FG_OK;
}

/* A product of matrices that lie within arrays of another order of axes. */
static int run_within(const fg_call *c, fg_array *y)
{
    const int64_t *attr = c->attr, m = attr[2], n = attr[3], k = attr[4], *dim = attr + FG_PRODUCT_STACK;
    int ta = (int)attr[0], tb = (int)attr[1], stack = (int)attr[5];
    int64_t itemsize = (int64_t)fg_itemsize(y->dtype), index[FG_MAX_NDIM] = {0};
    const fg_array *array[3] = {c->in[0].array, c->in[1].array, y};
    const int64_t *place[3];
    char *at[3];
    for (int i = 0; i < 3; i++) {
        place[i] = attr + fg_product_array(stack, i);
        at[i] = (char *)array[i]->data + place[i][0] * itemsize;
    }
    fg_gemm_backend by = fg_choose_gemm_backend(y->dtype, ta, tb, m, n, k);
    /* The products along the last axis of the stack, if it has any, are computed in one call. */
    int last = stack - 1;
    fg_matrices of[3];
    for (int i = 0; i < 3; i++)
        of[i] = (fg_matrices){place[i][1], stack ? place[i][2 + last] : 0};
    for (int axis = 0; axis >= 0;) {
        fg_gemm_stack(y->dtype, by, ta, tb, m, n, k, stack ? dim[last] : 1, at[0], of[0], at[1], of[1], 0, at[2],
                      of[2]);
        for (axis = last - 1; axis >= 0; axis--) {
            int done = ++index[axis] == dim[axis];
            for (int i = 0; i < 3; i++)
                at[i] += place[i][2 + axis] * itemsize * (done ? 1 - dim[axis] : 1);
            if (!done)
                break;
            index[axis] = 0;
        }
    }
    return FG_OK;
}

/* A large product by tiles, whose rows several threads share. */
enum { SHARED_MULTIPLICATIONS = 1 << 22, SHARED_PART = 1 << 20, SHARED_ROWS = 48 };
typedef struct {
    int dtype, ta, tb, beta;
    int64_t m, n, k;
    const char *a, *b;
    char *c;
} shared_product;

static void product_range(void *context, int64_t from, int64_t to)
{
    const shared_product *s = context;
    int64_t itemsize = (int64_t)fg_itemsize(s->dtype);
    fg_gemm_within(s->dtype, FG_GEMM_TILES, s->ta, s->tb, to - from, s->n, s->k,
                   s->a + from * (s->ta ? 1 : s->k) * itemsize, s->ta ? s->m : s->k, s->b, s->tb ? s->k : s->n, s->beta,
                   s->c + from * s->n * itemsize, s->n);
}

/* In a program there may be a third operand (simplify.c): the elements that y holds already, to which the product is
 * added. */
int fg_matmul_run(const fg_call *c, fg_array *y)
{
    if (c->n_attr > FG_PLAIN_PRODUCT)
        return run_within(c, y);
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int ta = (int)c->attr[0], tb = (int)c->attr[1], ndim = y->shape->ndim;
    int64_t m = fg_rows_of(a->shape, ta), k = fg_cols_of(a->shape, ta), n = fg_cols_of(b->shape, tb);
    fg_gemm_backend by = fg_choose_gemm_backend(y->dtype, ta, tb, m, n, k);
    if (ndim != 2)
        return y->shape->size == 0 ? FG_OK : run_stacks(c, y, by, m, n, k);
    if (by == FG_GEMM_TILES && (double)m * (double)n * (double)k >= SHARED_MULTIPLICATIONS) {
        int64_t rows = (SHARED_PART / (n * k) + SHARED_ROWS) / SHARED_ROWS * SHARED_ROWS;
        fg_threads_range(m, rows, product_range,
                         &(shared_product){y->dtype, ta, tb, c->n_in == 3, m, n, k, a->data, b->data, y->data});
        return FG_OK;
    }
    fg_gemm(y->dtype, by, ta, tb, m, n, k, a->data, ta ? m : k, b->data, c->n_in == 3, y->data);
    return FG_OK;
}

/* With Y = op(A) op(B) and cotangent G: op(A)' = G op(B)^T and op(B)' = op(A)^T G, each transposed once more
 * where the operand itself enters transposed. */
static int product_with(const fg_node *n, fg_tensor g, const fg_tensor *factor, int i, fg_tensor *out)
{
    int ta = (int)n->attr[0], tb = (int)n->attr[1];
    fg_tensor a = factor[0], b = factor[1];
    if (i == 0)
        return ta ? fg_apply(FG_OP_matmul, 2, (fg_tensor[]){b, g}, 2, (int64_t[]){tb, 1}, out)
                  : fg_apply(FG_OP_matmul, 2, (fg_tensor[]){g, b}, 2, (int64_t[]){0, !tb}, out);
    return tb ? fg_apply(FG_OP_matmul, 2, (fg_tensor[]){g, a}, 2, (int64_t[]){1, ta}, out)
              : fg_apply(FG_OP_matmul, 2, (fg_tensor[]){a, g}, 2, (int64_t[]){!ta, 0}, out);
}

/* Where the product has one element, its cotangent is a number, and the gradient an elementwise product with the other
 * factor, whose row or column is laid out as that of the operand. */
static int multiple_of(const fg_node *n, fg_tensor g, const fg_tensor *factor, int i, fg_tensor *out)
{
    const fg_shape *own = n->in[i].parent->shape, *other = factor[!i].array->shape;
    int64_t dim[FG_MAX_NDIM];
    memcpy(dim, other->dim, (size_t)other->ndim * sizeof *dim);
    memcpy(dim + other->ndim - 2, own->dim + own->ndim - 2, 2 * sizeof *dim);
    fg_tensor laid_out;
    int status = fg_apply(FG_OP_reshape, 1, &factor[!i], other->ndim, dim, &laid_out);
    if (status)
        return status;
    status = fg_binary(FG_OP_multiply, g, laid_out, out);
    fg_tensor_unref(laid_out);
    return status;
}

int fg_matmul_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor factor[2];
    int status;
    if ((status = fg_saved(n, 0, &factor[0])) || (status = fg_saved(n, 1, &factor[1])))
        return status;
    int number = fg_rows_of(g.array->shape, 0) == 1 && fg_cols_of(g.array->shape, 0) == 1;
    for (int i = 0; i < 2; i++) {
        if (!n->in[i].parent)
            continue;
        fg_tensor full;
        if ((status = (number ? multiple_of : product_with)(n, g, factor, i, &full)))
            return status;
        status = fg_sum_to(full, n->in[i].parent->shape, &gin[i]);
        fg_tensor_unref(full);
        if (status)
            return status;
    }
    return FG_OK;
}

int fg_matmul_check(const fg_shape *a, const fg_shape *b)
{
    if (!a->ndim || !b->ndim) {
        char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
        return fg_fail(FG_BAD_VALUE,
                       "matmul: expected operands with axes, got shapes %s and %s; multiply by a number with *",
                       fg_shape_text(a, sa), fg_shape_text(b, sb));
    }
    return a->dim[a->ndim - 1] == b->dim[b->ndim == 1 ? 0 : b->ndim - 2] ? FG_OK : misaligned(a, b, 0, 0);
}

int fg_matmul(fg_tensor a, fg_tensor b, fg_tensor *out)
{
    static const int64_t plain[2] = {0, 0};
    const fg_shape *sa = a.array->shape, *sb = b.array->shape;
    int m = sa->ndim, n = sb->ndim, status;
    if (m > 1 && n > 1 && (m == 2 || n > 2))
        return fg_apply(FG_OP_matmul, 2, (fg_tensor[]){a, b}, 2, plain, out);
    if ((status = fg_matmul_check(sa, sb)))
        return status;

    /* One of them is a vector, or a is a stack and b a matrix. Operands that are reshaped are new references. */
    fg_tensor left = {0}, right = {0}, product = {0};
    int64_t k = sa->dim[m - 1], rows = 1, dim[FG_MAX_NDIM];
    for (int i = 0; i < m - 1; i++)
        rows *= sa->dim[i];
    if (m != 2)
        status = fg_apply(FG_OP_reshape, 1, &a, 2, (int64_t[]){rows, k}, &left);
    if (!status && n == 1)
        status = fg_apply(FG_OP_reshape, 1, &b, 2, (int64_t[]){k, 1}, &right);
    if (!status)
        status = fg_apply(FG_OP_matmul, 2, (fg_tensor[]){left.array ? left : a, right.array ? right : b}, 2, plain,
                          &product);

    /* The result's axes: those of a but its last and, with a vector a, those of the stack b; then b's columns. */
    int ndim = 0;
    for (int i = 0; i < m - 1; i++)
        dim[ndim++] = sa->dim[i];
    for (int i = 0; m == 1 && i < n - 2; i++)
        dim[ndim++] = sb->dim[i];
    if (n > 1)
        dim[ndim++] = sb->dim[n - 1];
    if (!status)
        status = fg_apply(FG_OP_reshape, 1, &product, ndim, dim, out);
    fg_tensor_unref(product);
    fg_tensor_unref(right);
    fg_tensor_unref(left);
    return status;
}
