/* decompositions.c: eigenvalues, singular values, QR factors, exponentials and pseudoinverses of matrices.
 *
 * All take stacks of matrices, in the last two axes. An operation has one result, so eigenvalues and eigenvectors, and
 * the other parts of a decomposition, lie one behind the other in its last axis; fastgrad/_numpy/decompositions.py
 * splits it. The derivatives are made of operations, by fastgrad/_rules/decompositions.py, whether or not a pass is
 * recorded.
 */
#include "kernels/decompositions.h"
#include "matrix_stack.h"

#include <string.h>

static int64_t dim_of(const fg_call *c, int from_end)
{
    const fg_shape *s = c->in[0].array->shape;
    return s->dim[s->ndim - from_end];
}

/* The shape of a result with `size` elements for each matrix of x. */
static int packed_shape(const fg_call *c, int64_t size, fg_shape **shape)
{
    const fg_shape *s = c->in[0].array->shape;
    int64_t dim[FG_MAX_NDIM];
    memcpy(dim, s->dim, (size_t)s->ndim * sizeof *dim);
    dim[s->ndim - 2] = size;
    return fg_shape_made(fg_shape_new(s->ndim - 1, dim), shape);
}

/* Whether a square of m or n elements can be counted in int64. */
static int squares_fit(int64_t m, int64_t n) { return m <= INT32_MAX && n <= INT32_MAX; }

static int too_large(const char *name, const fg_shape *s)
{
    char text[FG_SHAPE_TEXT];
    return fg_fail(FG_NO_MEMORY, "%s: no memory for the square matrices of shape %s", name, fg_shape_text(s, text));
}

/* ---- errors ---------------------------------------------------------------------------------------------------- */
/* The error of matrix `bad` of a stack. */
static int failed(int status, const char *name, const fg_shape *s, int64_t bad)
{
    char text[FG_SHAPE_TEXT];
    if (status != FG_BAD_MATRIX && status != FG_NOT_IMPLEMENTED)
        return status;
    which(s, bad, text);
    if (status == FG_NOT_IMPLEMENTED)
        return fg_fail(status, "%s: matrix%s has eigenvalues that are not real, and there are no complex tensors", name,
                       text);
    return fg_fail(status, "%s: did not converge for matrix%s; are all its elements finite?", name, text);
}

/* ---- eigh: attr: whether the upper triangle is read; whether there are vectors; the caller, if it is no eigh ---- */
static const char *eigh_name(const fg_call *c) { return caller_of(c, 2, c->attr[1] ? "eigh" : "eigvalsh"); }

int fg_eigh_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    int status = check_matrix(eigh_name(c), c->in[0].array->shape, 1);
    if (status)
        return status;
    int64_t n = dim_of(c, 1);
    return packed_shape(c, n + c->attr[1] * n * n, shape);
}

int fg_eigh_run(const fg_call *c, fg_array *y)
{
    int64_t bad = 0;
    int status = fg_linalg_eigh(y->dtype, count_of(c->in[0].array->shape), dim_of(c, 1), (int)c->attr[0],
                                (int)c->attr[1], c->in[0].array->data, y->data, &bad);
    return failed(status, eigh_name(c), c->in[0].array->shape, bad);
}

/* ---- svd: attr: FG_VALUES_ONLY, FG_REDUCED or FG_FULL; the caller, if it is not svd ----------------------------- */
int fg_svd_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    const char *name = caller_of(c, 1, "svd");
    int status = check_matrix(name, c->in[0].array->shape, 0);
    if (status)
        return status;
    int64_t m = dim_of(c, 2), n = dim_of(c, 1), k = m < n ? m : n;
    if (c->attr[0] == FG_FULL && !squares_fit(m, n))
        return too_large(name, c->in[0].array->shape);
    int64_t vectors = c->attr[0] == FG_FULL ? m * m + n * n : c->attr[0] == FG_REDUCED ? (m + n) * k : 0;
    return packed_shape(c, k + vectors, shape);
}

int fg_svd_run(const fg_call *c, fg_array *y)
{
    int64_t bad = 0;
    int status = fg_linalg_svd(y->dtype, count_of(c->in[0].array->shape), dim_of(c, 2), dim_of(c, 1), (int)c->attr[0],
                               c->in[0].array->data, y->data, &bad);
    return failed(status, caller_of(c, 1, "svd"), c->in[0].array->shape, bad);
}

/* ---- qr: attr: whether Q is square, rows and columns of x, for the derivative ---------------------------------- */
int fg_qr_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    const fg_shape *s = c->in[0].array->shape;
    char text[FG_SHAPE_TEXT];
    int status = check_matrix("qr", s, 0);
    if (status)
        return status;
    int64_t m = dim_of(c, 2), n = dim_of(c, 1);
    if (m < n)
        return fg_fail(FG_BAD_VALUE, "qr: expected as many rows as columns or more, got shape %s",
                       fg_shape_text(s, text));
    if (!squares_fit(c->attr[0] ? m : n, n))
        return too_large("qr", s);
    return packed_shape(c, m * (c->attr[0] ? m : n) + n * n, shape);
}

int fg_qr_run(const fg_call *c, fg_array *y)
{
    return fg_linalg_qr(y->dtype, count_of(c->in[0].array->shape), dim_of(c, 2), dim_of(c, 1), (int)c->attr[0],
                        c->in[0].array->data, y->data);
}

/* ---- eig: attr: whether there are vectors ---------------------------------------------------------------------- */
int fg_eig_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    int status = check_matrix(c->attr[0] ? "eig" : "eigvals", c->in[0].array->shape, 1);
    if (status)
        return status;
    int64_t n = dim_of(c, 1);
    return packed_shape(c, n + c->attr[0] * n * n, shape);
}

int fg_eig_run(const fg_call *c, fg_array *y)
{
    int64_t bad = 0;
    int status = fg_linalg_eig(y->dtype, count_of(c->in[0].array->shape), dim_of(c, 1), (int)c->attr[0],
                               c->in[0].array->data, y->data, &bad);
    return failed(status, c->attr[0] ? "eig" : "eigvals", c->in[0].array->shape, bad);
}

/* ---- expm ------------------------------------------------------------------------------------------------------ */
int fg_expm_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    int status = check_matrix("expm", c->in[0].array->shape, 1);
    return status ? status : fg_shape_made(fg_shape_ref(c->in[0].array->shape), shape);
}

int fg_expm_run(const fg_call *c, fg_array *y)
{
    return fg_linalg_expm(y->dtype, count_of(c->in[0].array->shape), dim_of(c, 1), c->in[0].array->data, y->data);
}

/* ---- pinv ------------------------------------------------------------------------------------------------------ */
int fg_pinv_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    return fg_shape_made(fg_shape_ref(c->in[1].array->shape), shape);
}

int fg_pinv_run(const fg_call *c, fg_array *y)
{
    if (y->shape->size)
        memcpy(y->data, c->in[1].array->data, (size_t)y->shape->size * fg_itemsize(y->dtype));
    return FG_OK;
}

/* ---- derivatives ----------------------------------------------------------------------------------------------- */
int fg_eigh_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return fg_vjp_by_rule(n, g, gin); }
int fg_svd_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return fg_vjp_by_rule(n, g, gin); }
int fg_qr_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return fg_vjp_by_rule(n, g, gin); }
int fg_eig_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return fg_vjp_by_rule(n, g, gin); }
int fg_expm_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return fg_vjp_by_rule(n, g, gin); }
int fg_pinv_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return fg_vjp_by_rule(n, g, gin); }
