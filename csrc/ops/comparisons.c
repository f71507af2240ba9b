/* comparisons.c: comparisons, whose results are booleans, and where, which chooses by them. */
#include "ops/broadcast.h"

static int run_compare(int which, const fg_call *c, fg_array *y)
{
    fg_array *a = c->in[0].array, *b = c->in[1].array;
    if (!FG_IS_FLOAT(a->dtype))
        return fg_integer_run(c, y);
    size_t itemsize = fg_itemsize(a->dtype);
    broadcast_iterator it;
    broadcast_start(&it, y->shape, 2, (fg_array *[]){a, b});
    for (int64_t r = 0; r < it.runs; r++, broadcast_next(&it))
        kernels(a->dtype)->compare[which](it.length, AT(a, it.at[0], itemsize), it.run_stride[0],
                                          AT(b, it.at[1], itemsize), it.run_stride[1],
                                          (uint8_t *)y->data + r * it.length);
    return FG_OK;
}

static int truth_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    *dtype = FG_BOOL;
    return fg_shape_made(fg_broadcast_shapes(fg_ops[c->op].name, c->in[0].array->shape, c->in[1].array->shape), shape);
}

#define COMPARE(name, which)                                                                               \
    int fg_##name##_shape(const fg_call *c, fg_shape **y, int *dtype) { return truth_shape(c, y, dtype); } \
    int fg_##name##_run(const fg_call *c, fg_array *y) { return run_compare(which, c, y); }
COMPARE(less, FG_LESS)
COMPARE(less_equal, FG_LESS_EQUAL)
COMPARE(greater, FG_GREATER)
COMPARE(greater_equal, FG_GREATER_EQUAL)
COMPARE(equal, FG_EQUAL)
COMPARE(not_equal, FG_NOT_EQUAL)

/* ---- where -------------------------------------------------------------------------------------------- */
int fg_where_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    fg_shape *ab = fg_broadcast_shapes("where", c->in[1].array->shape, c->in[2].array->shape);
    if (!ab)
        return fg_failed();
    *dtype = c->in[1].array->dtype;
    int status = fg_shape_made(fg_broadcast_shapes("where", c->in[0].array->shape, ab), shape);
    fg_shape_unref(ab);
    return status;
}

int fg_where_run(const fg_call *c, fg_array *y)
{
    fg_array *condition = c->in[0].array, *a = c->in[1].array, *b = c->in[2].array;
    size_t itemsize = fg_itemsize(y->dtype);
    fg_where_kernel *kernel = fg_where_kernel_of(y->dtype);
    broadcast_iterator it;
    broadcast_start(&it, y->shape, 3, (fg_array *[]){condition, a, b});
    for (int64_t r = 0; r < it.runs; r++, broadcast_next(&it))
        kernel(it.length, (const uint8_t *)condition->data + it.at[0], it.run_stride[0], AT(a, it.at[1], itemsize),
               it.run_stride[1], AT(b, it.at[2], itemsize), it.run_stride[2], AT(y, r * it.length, itemsize));
    return FG_OK;
}

int fg_where_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor condition, zero = {fg_array_scalar(n->dtype, 0), NULL};
    if (!zero.array)
        return FG_NO_MEMORY;
    int status = fg_saved(n, 0, &condition);
    for (int i = 1; !status && i < 3; i++) {
        if (!n->in[i].parent)
            continue;
        fg_tensor full;
        const fg_tensor chosen[3] = {condition, i == 1 ? g : zero, i == 1 ? zero : g};
        if ((status = fg_apply(FG_OP_where, 3, chosen, 0, NULL, &full)))
            break;
        status = fg_sum_to(full, n->in[i].parent->shape, &gin[i]);
        fg_tensor_unref(full);
    }
    fg_tensor_unref(zero);
    return status;
}
