/* reductions.c: sums and extrema over axes, and the softmax family over the last axis. */
#include "fastgrad.h"

#include <stdlib.h>
#include <string.h>

/* ---- over which axes ---------------------------------------------------------------------------------- */
/* attr: the axes as bits, and whether they stay as axes of length 1. */
static int reduced(const int64_t *attr, int axis) { return (int)(attr[0] >> axis & 1); }

static fg_shape *reduced_shape(const fg_shape *x, const int64_t *attr, int keepdims)
{
    int64_t dim[FG_MAX_NDIM];
    int n = 0;
    for (int i = 0; i < x->ndim; i++)
        if (!reduced(attr, i))
            dim[n++] = x->dim[i];
        else if (keepdims)
            dim[n++] = 1;
    return fg_shape_new(n, dim);
}

static int reduction_shape(const fg_call *c, fg_shape **shape)
{
    return fg_shape_made(reduced_shape(c->in[0].array->shape, c->attr, (int)c->attr[1]), shape);
}

typedef struct {
    void (*rows)(int64_t rows, int64_t n, const void *x, void *y);
    void (*cols)(int64_t n, int64_t cols, const void *x, void *y);
    int is_sum;                 /* of floats */
} reducer;

/* ---- long ones, on several threads ---- */
typedef struct {
    reducer kernel;
    int dtype, by_columns;
    int64_t n, inner;           /* the length of a row, or of columns, and how many of these there are */
    const char *x;
    char *y;
} shared_reduction;

/* Each row, or each matrix of columns, is the work of one thread. */
static void reduce_range(void *context, int64_t from, int64_t to)
{
    const shared_reduction *r = context;
    int64_t itemsize = (int64_t)fg_itemsize(r->dtype);
    if (!r->by_columns)
        r->kernel.rows(to - from, r->n, r->x + from * r->n * itemsize, r->y + from * itemsize);
    for (int64_t o = from; r->by_columns && o < to; o++)
        r->kernel.cols(r->n, r->inner, r->x + o * r->n * r->inner * itemsize, r->y + o * r->inner * itemsize);
}

/* Columns of a single matrix are summed in the parts to which many rows are halved (kernels.h), whose sums are added as
 * those of halves are. */
enum { MOST_LEVELS = 3 };
typedef struct {
    const shared_reduction *all;
    int levels;
    char *sums;
} shared_columns;

static void columns_range(void *context, int64_t from, int64_t to)
{
    const shared_columns *c = context;
    const shared_reduction *r = c->all;
    int64_t bytes = r->inner * (int64_t)fg_itemsize(r->dtype);
    for (int64_t k = from; k < to; k++) {
        int64_t n = r->n, at = 0;
        for (int level = c->levels; level-- > 0;) {
            int64_t half = FG_SUM_HALF_ROWS(n), upper = k >> level & 1;
            at += upper ? half : 0;
            n = upper ? n - half : half;
        }
        r->kernel.cols(n, r->inner, r->x + at * bytes, c->sums + k * bytes);
    }
}

/* 0: not worth it, or no memory. It is the system's, as a program may run this without the GIL. */
static int sum_columns_shared(const shared_reduction *r)
{
    int levels = 0;
    while (levels < MOST_LEVELS && r->n >> levels >= 2 * FG_SUM_ROWS)
        levels++;
    size_t bytes = (size_t)r->inner * fg_itemsize(r->dtype), parts = (size_t)1 << levels;
    if (!levels || r->inner < FG_SUM_COLS || fg_threads_limit() < 2)
        return 0;
    char *sums = malloc(parts * bytes);
    if (!sums)
        return 0;
    fg_threads_range((int64_t)parts, 1, columns_range, &(shared_columns){r, levels, sums});
    for (size_t apart = 1; apart < parts; apart *= 2)
        for (size_t k = 0; k < parts; k += 2 * apart)
            fg_kernels[r->dtype].elementwise->binary[FG_BINARY_add](r->inner, sums + k * bytes, 1,
                                                                    sums + (k + apart) * bytes, 1, sums + k * bytes);
    memcpy(r->y, sums, bytes);
    free(sums);
    return 1;
}

static void reduce_shared(reducer kernel, int dtype, int by_columns, int64_t outer, int64_t n, int64_t inner,
                          const void *x, void *y)
{
    shared_reduction r = {kernel, dtype, by_columns, n, inner, x, y};
    if (outer * n * inner < FG_SHARED_FROM)
        reduce_range(&r, 0, outer);
    else if (outer > 1 || !by_columns || !kernel.is_sum || !sum_columns_shared(&r))
        fg_threads_range(outer, 1 + (FG_SHARED_PART - 1) / (n * inner), reduce_range, &r);
}

/* One long row is summed in the parts to which it is halved DEPTH times, and their sums are added as those of halves
 * are (kernels.h). */
enum { DEPTH = 5, PARTS = 1 << DEPTH };
_Static_assert(FG_SHARED_FROM / PARTS > 2 * FG_SUM_LEAF, "each part is a half of one that is halved");

static int64_t find_part(int64_t n, int64_t k, int64_t *at)
{
    *at = 0;
    for (int level = DEPTH; level-- > 0;) {
        int64_t half = FG_SUM_HALF(n), upper = k >> level & 1;
        *at += upper ? half : 0;
        n = upper ? n - half : half;
    }
    return n;
}

static void sum_range(void *context, int64_t from, int64_t to)
{
    const shared_reduction *r = context;
    int64_t itemsize = (int64_t)fg_itemsize(r->dtype), at;
    for (int64_t k = from; k < to; k++) {
        int64_t n = find_part(r->n, k, &at);
        r->kernel.rows(1, n, r->x + at * itemsize, r->y + k * itemsize);
    }
}

static void sum_shared(reducer kernel, int dtype, int64_t n, const void *x, void *y)
{
    union {
        float f32[PARTS];
        double f64[PARTS];
    } memory;
    size_t itemsize = fg_itemsize(dtype);
    char *sums = (char *)&memory;
    shared_reduction r = {kernel, dtype, 0, n, 1, x, sums};
    fg_threads_range(PARTS, 1, sum_range, &r);
    for (size_t apart = 1; apart < PARTS; apart *= 2)
        for (size_t k = 0; k < PARTS; k += 2 * apart)
            fg_kernels[dtype].elementwise->binary[FG_BINARY_add](1, sums + k * itemsize, 1,
                                                                 sums + (k + apart) * itemsize, 1, sums + k * itemsize);
    memcpy(y, sums, itemsize);
}

/* Reduce one group of neighbouring axes at a time, from the last group to the first; between groups the partial result
 * is in an array of its own. Axes of length 1 belong to any group. */
static int reduce(reducer kernel, const fg_call *c, fg_array *y)
{
    if (y->shape->size == 1 && c->in[0].array->shape->size > 1) {      /* a shortcut: the loop below does the same */
        int64_t n = c->in[0].array->shape->size;
        if (kernel.is_sum && n >= FG_SHARED_FROM)
            sum_shared(kernel, y->dtype, n, c->in[0].array->data, y->data);
        else
            kernel.rows(1, n, c->in[0].array->data, y->data);
        return FG_OK;
    }
    fg_array *x = fg_array_ref(c->in[0].array);
    size_t itemsize = fg_itemsize(y->dtype);
    int64_t dim[FG_MAX_NDIM];
    int end = x->shape->ndim;
    memcpy(dim, x->shape->dim, (size_t)end * sizeof *dim);
    int64_t inner = 1;
    while (end > 0) {
        while (end > 0 && !(reduced(c->attr, end - 1) && dim[end - 1] != 1))
            inner *= dim[--end];
        int64_t outer = 1, n = 1;
        while (end > 0 && (reduced(c->attr, end - 1) || dim[end - 1] == 1))
            n *= dim[--end];
        for (int i = 0; i < end; i++)
            outer *= dim[i];
        int last = 1;
        for (int i = 0; i < end; i++)
            last = last && !(reduced(c->attr, i) && dim[i] != 1);
        if (n == 1 && !last)
            continue;
        fg_array *part = y;
        if (!last) {
            int64_t size = outer * inner;
            fg_shape *shape = fg_shape_new(1, &size);
            part = shape ? fg_array_new(shape, y->dtype) : NULL;
            fg_shape_unref(shape);
            if (!part) {
                fg_array_unref(x);
                return FG_NO_MEMORY;
            }
        }
        if (n == 1)
            memcpy(part->data, x->data, (size_t)(outer * inner) * itemsize);
        else
            reduce_shared(kernel, y->dtype, inner != 1, outer, n, inner, x->data, part->data);
        if (last)
            break;
        fg_array_unref(x);
        x = part;
    }
    if (c->in[0].array->shape->ndim == 0)
        memcpy(y->data, x->data, itemsize);
    fg_array_unref(x);
    return FG_OK;
}

/* ---- sum ---------------------------------------------------------------------------------------------- */
int fg_sum_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    int status = fg_is_summed(*dtype) ? FG_OK : fg_not_float(fg_ops[c->op].name, c->in[0].array);
    return status ? status : reduction_shape(c, shape);
}

int fg_sum_run(const fg_call *c, fg_array *y)
{
    if (!FG_IS_FLOAT(y->dtype))                 /* int64 or uint64 */
        return reduce((reducer){fg_integer_sum_rows, fg_integer_sum_cols, 0}, c, y);
    const fg_reduce_kernels *k = fg_kernels[y->dtype].reduce;
    return reduce((reducer){k->sum_rows, k->sum_cols, 1}, c, y);
}

/* g, shaped as a reduction of x over attr's axes, with those axes back as length 1. */
static int with_axes(const fg_shape *x, const int64_t *attr, fg_tensor g, fg_tensor *out)
{
    fg_shape *kept = reduced_shape(x, attr, 1);
    if (!kept)
        return FG_NO_MEMORY;
    int status = fg_apply(FG_OP_reshape, 1, &g, kept->ndim, kept->dim, out);
    fg_shape_unref(kept);
    return status;
}

int fg_sum_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    const fg_shape *x = n->in[0].parent->shape;
    fg_tensor kept;
    int status = with_axes(x, n->attr, g, &kept);
    if (status)
        return status;
    status = fg_apply(FG_OP_broadcast_to, 1, &kept, x->ndim, x->dim, &gin[0]);
    fg_tensor_unref(kept);
    return status;
}

int fg_sum_to(fg_tensor x, fg_shape *target, fg_tensor *out)
{
    const fg_shape *s = x.array->shape;
    if (fg_shape_equal(s, target)) {
        *out = fg_tensor_ref(x);
        return FG_OK;
    }
    int lead = s->ndim - target->ndim;
    int64_t attr[2] = {0, 0};
    for (int i = 0; i < s->ndim; i++)
        if (i < lead || (target->dim[i - lead] == 1 && s->dim[i] != 1))
            attr[0] |= (int64_t)1 << i;
    fg_tensor sum;
    int status = fg_apply(FG_OP_sum, 1, &x, 2, attr, &sum);
    if (status)
        return status;
    if (fg_shape_equal(sum.array->shape, target)) {
        *out = sum;
        return FG_OK;
    }
    status = fg_apply(FG_OP_reshape, 1, &sum, target->ndim, target->dim, out);
    fg_tensor_unref(sum);
    return status;
}

/* ---- max and min -------------------------------------------------------------------------------------- */
static int extremum_shape(const fg_call *c, fg_shape **shape)
{
    const fg_shape *x = c->in[0].array->shape;
    for (int i = 0; i < x->ndim; i++)
        if (reduced(c->attr, i) && x->dim[i] == 0)
            return fg_fail(FG_BAD_VALUE, "%s: axis %d has length 0, but a %s needs at least one element",
                           fg_ops[c->op].name, i, c->op == FG_OP_max ? "maximum" : "minimum");
    return reduction_shape(c, shape);
}

/* The tied elements of a row share its cotangent. A transpose makes rows: it moves the reduced axes to the end. */
static int extremum_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor x, y, moved, back;
    int status;
    if ((status = fg_saved(n, 0, &x)) || (status = fg_saved_out(n, &y)))
        return status;
    const fg_shape *s = x.array->shape;
    int64_t order[FG_MAX_NDIM], count = 0;
    for (int i = 0; i < s->ndim; i++)
        if (!reduced(n->attr, i))
            order[count++] = i;
    for (int i = 0; i < s->ndim; i++)
        if (reduced(n->attr, i))
            order[count++] = i;
    if ((status = fg_apply(FG_OP_transpose, 1, &(fg_tensor){x.array, NULL}, s->ndim, order, &moved)))
        return status;
    status = fg_apply(FG_OP_extremum_adjoint, 3, (fg_tensor[]){{moved.array, NULL}, {y.array, NULL}, {g.array, NULL}},
                      0, NULL, &back);
    fg_tensor_unref(moved);
    if (status)
        return status;
    int64_t inverse[FG_MAX_NDIM];
    for (int i = 0; i < s->ndim; i++)
        inverse[order[i]] = i;
    status = fg_apply(FG_OP_transpose, 1, &back, s->ndim, inverse, &gin[0]);
    fg_tensor_unref(back);
    return status;
}

#define EXTREMUM(name)                                                         \
    int fg_##name##_shape(const fg_call *c, fg_shape **shape, int *dtype)      \
    {                                                                          \
        (void)dtype;                                                           \
        return extremum_shape(c, shape);                                       \
    }                                                                          \
    int fg_##name##_run(const fg_call *c, fg_array *y)                         \
    {                                                                          \
        const fg_order_kernels *i = fg_order_kernels_of(y->dtype);             \
        if (!FG_IS_FLOAT(y->dtype))                                            \
            return reduce((reducer){i->name##_rows, i->name##_cols, 0}, c, y); \
        const fg_reduce_kernels *k = fg_kernels[y->dtype].reduce;              \
        return reduce((reducer){k->name##_rows, k->name##_cols, 0}, c, y);     \
    }                                                                          \
    int fg_##name##_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return extremum_vjp(n, g, gin); }
EXTREMUM(max)
EXTREMUM(min)

/* ---- argmax and argmin; attr: the axis, which is dropped ---------------------------------------------- */
static int place_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_shape *x = c->in[0].array->shape;
    int axis = (int)c->attr[0];
    *dtype = FG_INT64;
    if (!x->dim[axis])
        return fg_fail(FG_BAD_VALUE, "%s: axis %d has length 0, but it needs at least one element", fg_ops[c->op].name,
                       axis);
    return fg_shape_made(reduced_shape(x, (int64_t[]){(int64_t)1 << axis}, 0), shape);
}

static int run_place(void (*kernel)(int64_t, int64_t, int64_t, const void *, int64_t *), const fg_call *c, fg_array *y)
{
    const fg_shape *x = c->in[0].array->shape;
    int axis = (int)c->attr[0];
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < axis; i++)
        outer *= x->dim[i];
    for (int i = axis + 1; i < x->ndim; i++)
        inner *= x->dim[i];
    kernel(outer, x->dim[axis], inner, c->in[0].array->data, y->data);
    return FG_OK;
}

#define PLACE(name)                                                                                        \
    int fg_##name##_shape(const fg_call *c, fg_shape **y, int *dtype) { return place_shape(c, y, dtype); } \
    int fg_##name##_run(const fg_call *c, fg_array *y)                                                     \
    {                                                                                                      \
        return run_place(fg_order_kernels_of(c->in[0].array->dtype)->name, c, y);                          \
    }
PLACE(argmax)
PLACE(argmin)

/* ---- the softmax family ------------------------------------------------------------------------------- */
static int64_t row_length(const fg_shape *s) { return s->dim[s->ndim - 1]; }
static int64_t row_count(const fg_shape *s) { return s->size ? s->size / row_length(s) : 0; }

static int rows_shape(const fg_call *c, fg_shape **shape, int drop_last)
{
    fg_shape *x = c->in[0].array->shape;
    if (x->ndim == 0 || (drop_last && row_length(x) == 0)) {
        char text[FG_SHAPE_TEXT];
        return fg_fail(FG_BAD_VALUE, "%s: expected at least one element along the axis, got shape %s",
                       fg_ops[c->op].name, fg_shape_text(x, text));
    }
    return fg_shape_made(drop_last ? fg_shape_new(x->ndim - 1, x->dim) : fg_shape_ref(x), shape);
}

/* The result of an adjoint kernel is a cotangent of its first input, so it has that shape. */
#define ADJOINT(name) FG_SHAPE_RULE(name##_adjoint, fg_same_shape)

ADJOINT(extremum)
int fg_extremum_adjoint_run(const fg_call *c, fg_array *gx)
{
    const fg_array *x = c->in[0].array, *y = c->in[1].array, *g = c->in[2].array;
    if (gx->shape->size)
        fg_kernels[gx->dtype].reduce->extremum_vjp_rows(y->shape->size, gx->shape->size / y->shape->size, x->data,
                                                        y->data, g->data, gx->data);
    return FG_OK;
}

#define SOFTMAX(name, rows)                                                                                       \
    int fg_##name##_shape(const fg_call *c, fg_shape **shape, int *dtype)                                         \
    {                                                                                                             \
        (void)dtype;                                                                                              \
        return rows_shape(c, shape, 0);                                                                           \
    }                                                                                                             \
    int fg_##name##_run(const fg_call *c, fg_array *y)                                                            \
    {                                                                                                             \
        const fg_reduce_kernels *k = fg_kernels[y->dtype].reduce;                                                 \
        if (y->shape->size)                                                                                       \
            (rows)(row_count(y->shape), row_length(y->shape), c->in[0].array->data, y->data);                     \
        return FG_OK;                                                                                             \
    }                                                                                                             \
    int fg_##name##_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)                                                  \
    {                                                                                                             \
        fg_tensor y;                                                                                              \
        int status = fg_saved_out(n, &y);                                                                         \
        return status ? status                                                                                    \
                      : fg_apply(FG_OP_##name##_adjoint, 2, (fg_tensor[]){{y.array, NULL}, g}, 0, NULL, &gin[0]); \
    }                                                                                                             \
    ADJOINT(name)                                                                                                 \
    int fg_##name##_adjoint_run(const fg_call *c, fg_array *gx)                                                   \
    {                                                                                                             \
        if (gx->shape->size)                                                                                      \
            fg_kernels[gx->dtype].reduce->name##_vjp_rows(row_count(gx->shape), row_length(gx->shape),            \
                                                          c->in[0].array->data, c->in[1].array->data, gx->data);  \
        return FG_OK;                                                                                             \
    }
SOFTMAX(softmax, c->n_attr ? k->weight_rows : k->softmax_rows)
SOFTMAX(log_softmax, k->log_softmax_rows)

int fg_logsumexp_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    return rows_shape(c, shape, 1);
}

int fg_logsumexp_run(const fg_call *c, fg_array *y)
{
    const fg_array *x = c->in[0].array;
    fg_kernels[y->dtype].reduce->logsumexp_rows(row_count(x->shape), row_length(x->shape), x->data, y->data);
    return FG_OK;
}

int fg_logsumexp_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor x;
    int status = fg_saved(n, 0, &x);
    return status ? status : fg_apply(FG_OP_logsumexp_adjoint, 2, (fg_tensor[]){{x.array, NULL}, g}, 0, NULL, &gin[0]);
}

ADJOINT(logsumexp)
int fg_logsumexp_adjoint_run(const fg_call *c, fg_array *gx)
{
    const fg_array *x = c->in[0].array;
    fg_kernels[gx->dtype].reduce->logsumexp_vjp_rows(row_count(x->shape), row_length(x->shape), x->data,
                                                     c->in[1].array->data, gx->data);
    return FG_OK;
}

int fg_cross_entropy_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    const fg_array *x = c->in[0].array, *label = c->in[1].array;
    int status = rows_shape(c, shape, 1);
    if (status)
        return status;
    if (!fg_shape_equal(label->shape, *shape)) {
        char sx[FG_SHAPE_TEXT], sl[FG_SHAPE_TEXT];
        status = fg_fail(FG_BAD_VALUE,
                         "cross_entropy: logits of shape %s need one label for each row, got labels of "
                         "shape %s",
                         fg_shape_text(x->shape, sx), fg_shape_text(label->shape, sl));
    }
    if (status)
        fg_shape_unref(*shape);
    return status;
}

static int check_labels(const fg_call *c)
{
    const fg_shape *rows = c->in[1].array->shape;
    const int64_t *k = c->in[1].array->data, classes = row_length(c->in[0].array->shape);
    for (int64_t i = 0; i < rows->size; i++)
        if (k[i] < 0 || k[i] >= classes)
            return fg_fail(FG_BAD_INDEX,
                           "cross_entropy: label %lld of row %lld is not a class: with %lld logits a row, labels run "
                           "from 0 to %lld",
                           (long long)k[i], (long long)i, (long long)classes, (long long)classes - 1);
    return FG_OK;
}

int fg_cross_entropy_run(const fg_call *c, fg_array *y)
{
    const fg_array *x = c->in[0].array;
    int status = check_labels(c);
    if (status)
        return status;
    fg_kernels[y->dtype].reduce->cross_entropy_rows(row_count(x->shape), row_length(x->shape), x->data,
                                                    c->in[1].array->data, y->data);
    return FG_OK;
}

int fg_cross_entropy_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor x, label;
    int status;
    if ((status = fg_saved(n, 0, &x)) || (status = fg_saved(n, 1, &label)))
        return status;
    return fg_apply(FG_OP_cross_entropy_adjoint, 3, (fg_tensor[]){{x.array, NULL}, label, g}, 0, NULL, &gin[0]);
}

ADJOINT(cross_entropy)
int fg_cross_entropy_adjoint_run(const fg_call *c, fg_array *gx)
{
    const fg_array *x = c->in[0].array;
    int status = check_labels(c);               /* in a program this may run without the forward */
    if (status)
        return status;
    fg_kernels[gx->dtype].reduce->cross_entropy_vjp_rows(row_count(x->shape), row_length(x->shape), x->data,
                                                         c->in[1].array->data, c->in[2].array->data, gx->data);
    return FG_OK;
}
