/* run.c: the work of elementwise operations and of their vjp kernels, without shapes, tape or trace: what fills a
 * result that is allocated. Programs call these functions by way of the table of operations.
 */
#include "ops/broadcast.h"

int fg_unary_run(const fg_call *c, fg_array *y)
{
    if (!FG_IS_FLOAT(y->dtype))
        return fg_integer_run(c, y);
    run_unary(c->op, c->in[0].array, y);
    return FG_OK;
}

int fg_binary_run(const fg_call *c, fg_array *y)
{
    if (!FG_IS_FLOAT(y->dtype))
        return fg_integer_run(c, y);
    run_binary(c->op, c->in[0].array, c->in[1].array, y);
    return FG_OK;
}

static const void *data_of(const fg_array *x) { return x ? x->data : NULL; }

int fg_unary_vjp_run(const fg_call *c, fg_array *gx)
{
    int op = (c->op - FG_N_OPS) / 2;
    int64_t n = gx->shape->size;
    const void *x = data_of(c->in[0].array), *y = data_of(c->in[1].array), *g = c->in[2].array->data;
    if (n < FG_SHARED_FROM)
        kernels(gx->dtype)->unary_vjp[op](n, x, y, g, gx->data);
    else
        fg_unary_vjp_shared(op, gx->dtype, n, x, y, g, gx->data);
    return FG_OK;
}

/* ga = g * d/d(input i), with the shape of the result. a, b, y are NULL where the derivative does not name them. */
int fg_binary_vjp_run(const fg_call *c, fg_array *ga)
{
    int op = (c->op - FG_N_OPS) / 2, i = (c->op - FG_N_OPS) % 2;
    const fg_array *y = c->in[2].array, *g = c->in[3].array;
    fg_array *a = c->in[0].array, *b = c->in[1].array;
    void (*kernel)(int64_t, const void *, int, const void *, int, const void *, const void *, void *) =
        kernels(ga->dtype)->binary_vjp[op - FG_N_UNARY][i];
    size_t itemsize = fg_itemsize(ga->dtype);
    broadcast_iterator it;
    broadcast_start(&it, ga->shape, 2, (fg_array *[]){a ? a : ga, b ? b : ga});
    for (int64_t r = 0; r < it.runs; r++, broadcast_next(&it)) {
        int64_t at = r * it.length;
        const void *pa = a ? AT(a, it.at[0], itemsize) : NULL, *pb = b ? AT(b, it.at[1], itemsize) : NULL;
        const void *py = y ? AT(y, at, itemsize) : NULL;
        int sa = a ? it.run_stride[0] : 1, sb = b ? it.run_stride[1] : 1;
        if (it.length < FG_SHARED_FROM)
            kernel(it.length, pa, sa, pb, sb, py, AT(g, at, itemsize), AT(ga, at, itemsize));
        else
            fg_binary_vjp_shared(op, i, ga->dtype, it.length, pa, sa, pb, sb, py, AT(g, at, itemsize),
                                 AT(ga, at, itemsize));
    }
    return FG_OK;
}
