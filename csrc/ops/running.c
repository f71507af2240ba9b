/* running.c: running sums, products and maxima along an axis, and first-order linear recurrences, of which the
 * derivatives of products are made.
 *
 * attr[0] is the axis. With y[-1] = 1 a running product is y[i] = x[i] y[i - 1]. So its derivative by x is y[i - 1]
 * times a recurrence, without a division by x, and is exact where elements are 0.
 */
#include "fastgrad.h"

typedef struct { int64_t outer, n, inner; } around;

/* The number of elements along the axes before the axis, the axis, and those after it. */
static around lengths_around(const fg_shape *s, int64_t axis)
{
    around l = {1, s->dim[axis], 1};
    for (int i = 0; i < axis; i++)
        l.outer *= s->dim[i];
    for (int i = (int)axis + 1; i < s->ndim; i++)
        l.inner *= s->dim[i];
    return l;
}

static int summed_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    int status = fg_is_summed(*dtype) ? FG_OK : fg_not_float(fg_ops[c->op].name, c->in[0].array);
    return status ? status : fg_same_shape(c, shape, dtype);
}

#define RUNNING(name, rule, of_integers, reverse)                                                             \
    FG_SHAPE_RULE(name, rule)                                                                                 \
    int fg_##name##_run(const fg_call *c, fg_array *y)                                                        \
    {                                                                                                         \
        around l = lengths_around(y->shape, c->attr[0]);                                                      \
        if (y->shape->size && !FG_IS_FLOAT(y->dtype))                                                         \
            of_integers(l.outer, l.n, l.inner, reverse, c->in[0].array->data, y->data);                       \
        else if (y->shape->size)                                                                              \
            fg_kernels[y->dtype].reduce->name(l.outer, l.n, l.inner, reverse, c->in[0].array->data, y->data); \
        return FG_OK;                                                                                         \
    }
RUNNING(cumsum, summed_shape, fg_integer_cumsum, (int)c->attr[1])
RUNNING(cumprod, summed_shape, fg_integer_cumprod, 0)
RUNNING(cummax, fg_same_shape, fg_order_kernels_of(y->dtype)->cummax, 0)

int fg_cumsum_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    int64_t attr[2] = {n->attr[0], !n->attr[1]};
    return fg_apply(FG_OP_cumsum, 1, &g, 2, attr, &gin[0]);
}

/* x moved by one place along an axis: what was last is dropped, and `first` comes in. */
static int moved_by_one(fg_tensor x, int64_t axis, double first, fg_tensor *out)
{
    const fg_shape *s = x.array->shape;
    int64_t dim[FG_MAX_NDIM], attr[3 * FG_MAX_NDIM], last = s->dim[axis] - 1;
    for (int i = 0; i < s->ndim; i++) {
        dim[i] = i == axis ? 1 : s->dim[i];
        attr[3 * i] = 0, attr[3 * i + 1] = 1, attr[3 * i + 2] = i == axis ? last : s->dim[i];
    }
    fg_tensor kept;
    int status = fg_apply(FG_OP_slice, 1, &x, 3 * s->ndim, attr, &kept);
    if (status)
        return status;
    fg_shape *row = fg_shape_new(s->ndim, dim);
    fg_array *filled = row ? fg_array_new(row, x.array->dtype) : NULL;
    fg_shape_unref(row);
    status = filled ? FG_OK : FG_NO_MEMORY;
    if (!status) {
        fg_kernels[filled->dtype].reduce->fill(filled->shape->size, first, filled->data);
        status =
            fg_apply(FG_OP_concatenate, 2, (fg_tensor[]){{filled, NULL}, kept}, 3, (int64_t[]){axis, 1, last}, out);
    }
    fg_array_unref(filled);
    fg_tensor_unref(kept);
    return status;
}

/* a moved by one place, with `first` before it, times b. */
static int times_moved(fg_tensor a, int64_t axis, double first, fg_tensor b, fg_tensor *out)
{
    fg_tensor moved;
    int status = moved_by_one(a, axis, first, &moved);
    if (status)
        return status;
    status = fg_binary(FG_OP_multiply, moved, b, out);
    fg_tensor_unref(moved);
    return status;
}

int fg_cumprod_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor x, y, sum;
    int status;
    if (!g.array->shape->size) {
        gin[0] = fg_tensor_ref(g);
        return FG_OK;
    }
    if ((status = fg_saved(n, 0, &x)) || (status = fg_saved_out(n, &y)) ||
        (status = fg_apply(FG_OP_recurrence, 2, (fg_tensor[]){x, g}, 2, (int64_t[]){n->attr[0], 1}, &sum)))
        return status;
    status = times_moved(y, n->attr[0], 1, sum, &gin[0]);
    fg_tensor_unref(sum);
    return status;
}

/* ---- recurrence: y[i] = b[i] + a[i] y[i - 1]; attr: axis, transposed ----------------------------------- */
int fg_recurrence_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_shape *a = c->in[0].array->shape, *b = c->in[1].array->shape;
    if (!fg_shape_equal(a, b)) {
        char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
        return fg_fail(FG_BAD_VALUE, "recurrence: expected coefficients and terms of one shape, got %s and %s",
                       fg_shape_text(a, sa), fg_shape_text(b, sb));
    }
    return fg_same_shape(c, shape, dtype);
}

int fg_recurrence_run(const fg_call *c, fg_array *y)
{
    around l = lengths_around(y->shape, c->attr[0]);
    if (y->shape->size)
        fg_kernels[y->dtype].reduce->recurrence(l.outer, l.n, l.inner, (int)c->attr[1], c->in[0].array->data,
                                                c->in[1].array->data, y->data);
    return FG_OK;
}

/* The transposed recurrence gives the cotangent of b. That of a[i] is gb[i] y[i - 1]; transposed, gb[i - 1] y[i]. */
int fg_recurrence_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor a, y, gb;
    int status;
    int64_t axis = n->attr[0], transposed = n->attr[1];
    if ((status = fg_saved(n, 0, &a)) ||
        (status = fg_apply(FG_OP_recurrence, 2, (fg_tensor[]){a, g}, 2, (int64_t[]){axis, !transposed}, &gb)))
        return status;
    if (n->in[0].parent && !g.array->shape->size)
        gin[0] = fg_tensor_ref(g);
    else if (n->in[0].parent && !(status = fg_saved_out(n, &y)))
        status = transposed ? times_moved(gb, axis, 0, y, &gin[0]) : times_moved(y, axis, 0, gb, &gin[0]);
    if (!status && n->in[1].parent)
        gin[1] = gb;
    else
        fg_tensor_unref(gb);
    return status;
}

/* ---- cummax -------------------------------------------------------------------------------------------- */
int fg_cummax_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor x, y;
    int status;
    if ((status = fg_saved(n, 0, &x)) || (status = fg_saved_out(n, &y)))
        return status;
    return fg_apply(FG_OP_cummax_adjoint, 3, (fg_tensor[]){{x.array, NULL}, {y.array, NULL}, {g.array, NULL}}, 1,
                    n->attr, &gin[0]);
}

FG_SHAPE_RULE(cummax_adjoint, fg_same_shape)
int fg_cummax_adjoint_run(const fg_call *c, fg_array *gx)
{
    around l = lengths_around(gx->shape, c->attr[0]);
    if (gx->shape->size)
        fg_kernels[gx->dtype].reduce->cummax_vjp(l.outer, l.n, l.inner, c->in[0].array->data, c->in[1].array->data,
                                                 c->in[2].array->data, gx->data);
    return FG_OK;
}
