/* factorizations.c: factors of matrices, and equations solved by them: cholesky, factor, solve_triangular, solve,
 * slogdet, and triangle, of which their derivatives are made.
 *
 * All take stacks of matrices, in the last two axes. solve and slogdet get a matrix and the factor that `factor` made
 * of it. They compute from the factor, which has no derivative, and are differentiated by the matrix: with Y = A^-1 B
 * and the cotangent G of Y, that of B is S = A^-T G, by the same factor, and that of A is -S Y^T. See Giles, "Collected
 * matrix derivative results for forward and reverse mode algorithmic differentiation" (2008).
 *
 * A matrix that is declared positive definite, or whose Cholesky factor is asked for, is symmetric, though only one
 * triangle of it is read: its cotangent is symmetric, too.
 */
#include "kernels/lapack_dispatch.h"
#include "matrix_stack.h"

#include <string.h>

/* ---- errors ------------------------------------------------------------------------------------------------------ */
static const char *const callers[] = {"cho_factor", "cho_solve",   "cond",         "det",         "funm_symmetric",
                                      "inv",        "lstsq",       "matrix_power", "matrix_rank", "multivariate_normal",
                                      "norm",       "pinv",        "qr",           "solve",       "svdvals",
                                      "tensorinv",  "tensorsolve", "wishart"};

const char *fg_caller_name(int64_t i)
{
    return i > 0 && i <= (int64_t)(sizeof callers / sizeof *callers) ? callers[i - 1] : NULL;
}

static int not_positive_definite(const char *name, const fg_shape *s, int64_t m)
{
    char text[FG_SHAPE_TEXT];
    return fg_fail(FG_BAD_MATRIX, "%s: matrix%s is not positive definite", name, which(s, m, text));
}

/* Whether no matrix, each `step` elements after the one before, has a zero on its diagonal; else *bad is the number of
 * the first that has. */
static int is_regular(int dtype, int64_t count, int64_t n, int64_t step, const void *a, int64_t *bad)
{
    for (*bad = 0; *bad < count; ++*bad)
        for (int64_t i = 0; i < n; i++) {
            int64_t at = *bad * step + i * (n + 1);
            if (dtype == FG_FLOAT32 ? ((const float *)a)[at] == 0 : ((const double *)a)[at] == 0)
                return 0;
        }
    return 1;
}

/* ---- triangle ---------------------------------------------------------------------------------------------------- */
/* attr: 0 keeps the elements on and below a diagonal, 1 those on and above it; which diagonal, as numpy.tril counts
 * them; whether the elements on it are halved. */
int fg_triangle_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    fg_shape *s = c->in[0].array->shape;
    char text[FG_SHAPE_TEXT];
    if (s->ndim < 2)
        return fg_fail(FG_BAD_VALUE, "triangle: expected a matrix or a stack of them, got shape %s",
                       fg_shape_text(s, text));
    return fg_shape_made(fg_shape_ref(s), shape);
}

int fg_triangle_run(const fg_call *c, fg_array *y)
{
    int64_t m = y->shape->dim[y->shape->ndim - 2], n = rows_of(y->shape), itemsize = (int64_t)fg_itemsize(y->dtype);
    const char *from = c->in[0].array->data;
    char *to = y->data;
    for (int64_t row = 0; n && row < y->shape->size / n; row++, from += n * itemsize, to += n * itemsize) {
        int64_t at = row % m + c->attr[1], first = 0, end = n;
        if (c->attr[0])
            first = at < 0 ? 0 : at > n ? n : at;
        else
            end = at < -1 ? 0 : at >= n ? n : at + 1;
        memset(to, 0, (size_t)(first * itemsize));
        memcpy(to + first * itemsize, from + first * itemsize, (size_t)((end - first) * itemsize));
        memset(to + end * itemsize, 0, (size_t)((n - end) * itemsize));
        if (!c->attr[2] || at < 0 || at >= n)
            continue;
        if (y->dtype == FG_FLOAT32)
            ((float *)to)[at] /= 2;
        else
            ((double *)to)[at] /= 2;
    }
    return FG_OK;
}

int fg_triangle_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    return fg_apply(FG_OP_triangle, 1, &g, 3, n->attr, &gin[0]);
}

/* ---- cholesky: attr: the caller, if it is not cholesky ----------------------------------------------------------- */
int fg_cholesky_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    fg_shape *s = c->in[0].array->shape;
    int status = check_square(caller_of(c, 0, "cholesky"), s);
    return status ? status : fg_shape_made(fg_shape_ref(s), shape);
}

static int cholesky(const char *name, const fg_array *a, fg_array *y)
{
    int64_t count = count_of(a->shape), bad;
    bad = fg_linalg_cholesky(y->dtype, count, rows_of(a->shape), a->data, y->data);
    return bad < count ? not_positive_definite(name, a->shape, bad) : FG_OK;
}

int fg_cholesky_run(const fg_call *c, fg_array *y) { return cholesky(caller_of(c, 0, "cholesky"), c->in[0].array, y); }

int fg_cholesky_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor y;
    int status = fg_saved_out(n, &y);
    return status
               ? status
               : fg_apply(FG_OP_cholesky_adjoint, 2, (fg_tensor[]){{y.array, NULL}, {g.array, NULL}}, 0, NULL, &gin[0]);
}

FG_SHAPE_RULE(cholesky_adjoint, fg_same_shape)

int fg_cholesky_adjoint_run(const fg_call *c, fg_array *gx)
{
    const fg_array *y = c->in[0].array, *g = c->in[1].array;
    fg_linalg_cholesky_vjp(gx->dtype, count_of(gx->shape), rows_of(gx->shape), y->data, g->data, gx->data);
    return FG_OK;
}

/* ---- factor ------------------------------------------------------------------------------------------------------ */
/* attr: FG_BY_CHOLESKY: the result is the triangle L; or FG_BY_LU: the triangles and the pivots, n + 1 rows. */
int fg_factor_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    fg_shape *s = c->in[0].array->shape;
    int status = check_square("factor", s);
    if (status)
        return status;
    int64_t dim[FG_MAX_NDIM];
    memcpy(dim, s->dim, (size_t)s->ndim * sizeof *dim);
    dim[s->ndim - 2] += c->attr[0] == FG_BY_LU;
    return fg_shape_made(fg_shape_new(s->ndim, dim), shape);
}

int fg_factor_run(const fg_call *c, fg_array *y)
{
    const fg_array *a = c->in[0].array;
    if (c->attr[0] == FG_BY_CHOLESKY)
        return cholesky("solve", a, y);
    return fg_linalg_lu(y->dtype, count_of(a->shape), rows_of(a->shape), a->data, y->data);
}

/* ---- equations --------------------------------------------------------------------------------------------------- */
/* The shape of solutions Y of op(A) Y = B, whose leading axes broadcast. */
static int solution_shape(const char *name, const fg_shape *a, const fg_shape *b, fg_shape **shape)
{
    char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
    int status = check_square(name, a);
    if (status)
        return status;
    if (b->ndim < 2 || b->dim[b->ndim - 2] != rows_of(a))
        return fg_fail(FG_BAD_VALUE, "%s: shapes %s and %s do not align: %lld equations for %lld right-hand elements",
                       name, fg_shape_text(a, sa), fg_shape_text(b, sb), (long long)rows_of(a),
                       (long long)(b->ndim < 2 ? 0 : b->dim[b->ndim - 2]));
    fg_shape *lead_a = fg_shape_new(a->ndim - 2, a->dim), *lead_b = fg_shape_new(b->ndim - 2, b->dim);
    fg_shape *lead = lead_a && lead_b ? fg_broadcast_shapes(name, lead_a, lead_b) : NULL;
    fg_shape_unref(lead_a);
    fg_shape_unref(lead_b);
    if (!lead)
        return fg_failed();
    int64_t dim[FG_MAX_NDIM + 2];
    memcpy(dim, lead->dim, (size_t)lead->ndim * sizeof *dim);
    dim[lead->ndim] = b->dim[b->ndim - 2];
    dim[lead->ndim + 1] = b->dim[b->ndim - 1];
    status = fg_shape_made(fg_shape_new(lead->ndim + 2, dim), shape);
    fg_shape_unref(lead);
    return status;
}

/* A walk over a stack of solutions. Neighbouring axes along which each operand advances evenly, or stays, are one; the
 * last of them is a run, which one call computes. */
typedef struct {
    int ndim;
    int64_t dim[FG_MAX_NDIM], stride[2][FG_MAX_NDIM], index[FG_MAX_NDIM], at[2];    /* strides in matrices */
} stack_walk;

static void start(stack_walk *w, const fg_shape *y, const fg_shape *a, const fg_shape *b)
{
    const fg_shape *of[2] = {a, b};
    int64_t extent[2] = {1, 1};
    *w = (stack_walk){.ndim = 1, .dim = {1}};   /* the last axis first */
    for (int i = 3; i <= y->ndim; i++) {
        int64_t length = y->dim[y->ndim - i], stride[2];
        int last = w->ndim - 1, merges = 1;
        for (int k = 0; k < 2; k++) {
            int64_t own = i <= of[k]->ndim ? of[k]->dim[of[k]->ndim - i] : 1;
            stride[k] = own == 1 ? 0 : extent[k];
            extent[k] *= own;
            merges = merges && stride[k] == w->stride[k][last] * w->dim[last];
        }
        if (length == 1)
            continue;
        if (w->dim[last] == 1)
            merges = 0, w->ndim--;
        if (merges) {
            w->dim[last] *= length;
            continue;
        }
        w->dim[w->ndim] = length;
        for (int k = 0; k < 2; k++)
            w->stride[k][w->ndim] = stride[k];
        w->ndim++;
    }
}

static void next(stack_walk *w)
{
    for (int i = 1; i < w->ndim; i++) {
        int done = ++w->index[i] == w->dim[i];
        for (int k = 0; k < 2; k++)
            w->at[k] += done ? -(w->dim[i] - 1) * w->stride[k][i] : w->stride[k][i];
        if (!done)
            return;
        w->index[i] = 0;
    }
}

/* Y for B by A, or by its factor; fails for a zero on the diagonal of a triangle if `name` is given. */
static int solve(const char *name, int how, const fg_array *a, const fg_array *b, fg_array *y)
{
    int64_t n = y->shape->dim[y->shape->ndim - 2], k = rows_of(y->shape), itemsize = (int64_t)fg_itemsize(y->dtype);
    int64_t a_size = how & FG_BY_LU ? (n + 1) * n : n * n, bad, done = 0;
    if (!y->shape->size)
        return FG_OK;
    stack_walk w;
    start(&w, y->shape, a->shape, b->shape);
    for (int64_t total = count_of(y->shape), run = w.dim[0]; done < total; done += run, next(&w)) {
        const char *from_a = (const char *)a->data + w.at[0] * a_size * itemsize,
                   *from_b = (const char *)b->data + w.at[1] * n * k * itemsize;
        int64_t a_step = w.stride[0][0] * a_size;
        if (name && !(how & (FG_UNIT | FG_BY_CHOLESKY)) &&
            !is_regular(y->dtype, a_step ? run : 1, n, a_step, from_a, &bad)) {
            char text[FG_SHAPE_TEXT];
            return fg_fail(FG_BAD_MATRIX, "%s: matrix%s is singular", name, which(y->shape, done + bad, text));
        }
        fg_linalg_solve(y->dtype, run, n, k, how, from_a, a_step, from_b, w.stride[1][0] * n * k,
                        (char *)y->data + done * n * k * itemsize);
    }
    return FG_OK;
}

/* The matrices x y^T, or, swapped, y x^T. */
static int outer(fg_tensor x, fg_tensor y, int swapped, fg_tensor *out)
{
    return fg_apply(FG_OP_matmul, 2, swapped ? (fg_tensor[]){y, x} : (fg_tensor[]){x, y}, 2, (int64_t[]){0, 1}, out);
}

/* The cotangent of a matrix from the cotangents `gone` of a stack: summed over the axes along which there was one
 * matrix, and negated. `gone` is given back, on failure, too. `status` is that of its computation. */
static int send(fg_tensor gone, fg_shape *shape, int status, fg_tensor *out)
{
    fg_tensor sum = {0};
    if (!status)
        status = fg_sum_to(gone, shape, &sum);
    if (!status)
        status = fg_unary(FG_OP_negative, sum, out);
    fg_tensor_unref(sum);
    fg_tensor_unref(gone);
    return status;
}

/* ---- solve_triangular: attr: which equations; the caller, if it is not solve_triangular -------------------------- */
int fg_solve_triangular_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    return solution_shape(caller_of(c, 1, "solve_triangular"), c->in[0].array->shape, c->in[1].array->shape, shape);
}

int fg_solve_triangular_run(const fg_call *c, fg_array *y)
{
    return solve(caller_of(c, 1, "solve_triangular"), (int)c->attr[0], c->in[0].array, c->in[1].array, y);
}

int fg_solve_triangular_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor a, y, gb, full;
    int status;
    if ((status = fg_saved(n, 0, &a)) || (status = fg_saved_out(n, &y)))
        return status;
    int how = (int)n->attr[0];
    int64_t other[2] = {how ^ FG_TRANSPOSED, n->n_attr > 1 ? n->attr[1] : 0};
    if ((status = fg_apply(FG_OP_solve_triangular, 2, (fg_tensor[]){a, g}, 2, other, &gb)))
        return status;
    if (n->in[1].parent)
        status = fg_sum_to(gb, n->in[1].parent->shape, &gin[1]);
    if (!status && n->in[0].parent && !(status = outer(gb, y, how & FG_TRANSPOSED, &full))) {
        int upper = !(how & FG_LOWER);
        int64_t attr[3] = {upper, how & FG_UNIT ? (upper ? 1 : -1) : 0, 0};
        fg_tensor sum = {0};
        status = send(full, n->in[0].parent->shape, FG_OK, &sum);
        if (!status)
            status = fg_apply(FG_OP_triangle, 1, &sum, 3, attr, &gin[0]);
        fg_tensor_unref(sum);
    }
    fg_tensor_unref(gb);
    return status;
}

/* ---- solve ------------------------------------------------------------------------------------------------------- */
/* attr: FG_BY_CHOLESKY or FG_BY_LU, the latter maybe with FG_TRANSPOSED; and the caller, or UNCHECKED, where a singular
 * matrix gives elements that are not finite. */
enum { UNCHECKED };

int fg_solve_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    return solution_shape(caller_of(c, 1, "slogdet"), c->in[0].array->shape, c->in[2].array->shape, shape);
}

int fg_solve_run(const fg_call *c, fg_array *y)
{
    return solve(caller_of(c, 1, NULL), (int)c->attr[0], c->in[1].array, c->in[2].array, y);
}

/* *x becomes (*x + its transpose) / 2, and the tensor that it was is given back. */
static int make_symmetric(fg_tensor *x)
{
    int64_t order[FG_MAX_NDIM];
    int n = x->array->shape->ndim;
    for (int i = 0; i < n; i++)
        order[i] = i < n - 2 ? i : 2 * n - 3 - i;
    fg_tensor t, sum, half = {fg_array_scalar(x->array->dtype, 0.5), NULL};
    if (!half.array)
        return FG_NO_MEMORY;
    int status = fg_apply(FG_OP_transpose, 1, x, n, order, &t);
    if (!status) {
        status = fg_binary(FG_OP_add, *x, t, &sum);
        fg_tensor_unref(t);
    }
    if (!status) {
        status = fg_binary(FG_OP_multiply, sum, half, &t);
        fg_tensor_unref(sum);
    }
    if (!status) {
        fg_tensor_unref(*x);
        *x = t;
    }
    fg_tensor_unref(half);
    return status;
}

int fg_solve_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor a, f, y, gb, full;
    int status;
    if ((status = fg_saved(n, 0, &a)) || (status = fg_saved(n, 1, &f)) || (status = fg_saved_out(n, &y)))
        return status;
    if (!n->in[0].parent && !n->in[2].parent)
        return FG_OK;
    int how = (int)n->attr[0];
    int64_t attr[2] = {how & FG_BY_LU ? how ^ FG_TRANSPOSED : how, n->attr[1]};
    if ((status = fg_apply(FG_OP_solve, 3, (fg_tensor[]){a, {f.array, NULL}, g}, 2, attr, &gb)))
        return status;
    if (n->in[2].parent)
        status = fg_sum_to(gb, n->in[2].parent->shape, &gin[2]);
    if (!status && n->in[0].parent && !(status = outer(gb, y, how & FG_TRANSPOSED, &full))) {
        if (how & FG_BY_CHOLESKY)
            status = make_symmetric(&full);
        status = send(full, n->in[0].parent->shape, status, &gin[0]);
    }
    fg_tensor_unref(gb);
    return status;
}

/* ---- slogdet ----------------------------------------------------------------------------------------------------- */
int fg_slogdet_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    const fg_shape *a = c->in[0].array->shape;
    int status = check_square("slogdet", a);
    if (status)
        return status;
    int64_t dim[FG_MAX_NDIM];
    memcpy(dim, a->dim, (size_t)a->ndim * sizeof *dim);
    dim[a->ndim - 2] = 2;
    return fg_shape_made(fg_shape_new(a->ndim - 1, dim), shape);
}

int fg_slogdet_run(const fg_call *c, fg_array *y)
{
    const fg_array *a = c->in[0].array;
    fg_kernels[y->dtype].linalg->slogdet(count_of(a->shape), rows_of(a->shape), c->in[1].array->data, y->data);
    return FG_OK;
}

static fg_array *identity(int64_t n, int dtype)
{
    fg_shape *shape = fg_shape_new(2, (int64_t[]){n, n});
    fg_array *x = shape ? fg_array_new(shape, dtype) : NULL;
    fg_shape_unref(shape);
    if (x && n) {
        fg_kernels[dtype].reduce->fill(n * n, 0, x->data);
        for (int64_t i = 0; i < n; i++)
            fg_kernels[dtype].reduce->fill(1, 1, (char *)x->data + i * (n + 1) * (int64_t)fg_itemsize(dtype));
    }
    return x;
}

/* The gradient of the logarithm of |det A| is A^-T, in which a singular matrix has elements that are not finite. */
int fg_slogdet_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor a, f, inverse = {0}, part = {0}, factor = {0};
    int status;
    if ((status = fg_saved(n, 0, &a)) || (status = fg_saved(n, 1, &f)))
        return status;
    const fg_shape *s = a.array->shape, *gs = g.array->shape;
    int64_t attr[3 * FG_MAX_NDIM], how[2] = {FG_BY_LU | FG_TRANSPOSED, UNCHECKED};
    fg_tensor one = {identity(rows_of(s), a.array->dtype), NULL};
    if (!one.array)
        return FG_NO_MEMORY;
    status = fg_apply(FG_OP_solve, 3, (fg_tensor[]){a, {f.array, NULL}, one}, 2, how, &inverse);
    fg_tensor_unref(one);
    for (int i = 0; i < gs->ndim; i++) {
        attr[3 * i] = i == gs->ndim - 1;
        attr[3 * i + 1] = 1;
        attr[3 * i + 2] = i == gs->ndim - 1 ? 1 : gs->dim[i];
    }
    if (!status)
        status = fg_apply(FG_OP_slice, 1, &g, 3 * gs->ndim, attr, &part);
    memcpy(attr, gs->dim, (size_t)gs->ndim * sizeof *attr);
    attr[gs->ndim - 1] = attr[gs->ndim] = 1;
    if (!status)
        status = fg_apply(FG_OP_reshape, 1, &part, gs->ndim + 1, attr, &factor);
    if (!status)
        status = fg_binary(FG_OP_multiply, factor, inverse, &gin[0]);
    fg_tensor_unref(factor);
    fg_tensor_unref(part);
    fg_tensor_unref(inverse);
    return status;
}
