/* special.c: special functions that are elementwise but have a parameter which is not differentiated. */
#include "fastgrad.h"

FG_SHAPE_RULE(polygamma, fg_same_shape)

int fg_polygamma_run(const fg_call *c, fg_array *y)
{
    fg_kernels[y->dtype].elementwise->polygamma(y->shape->size, c->attr[0], c->in[0].array->data, y->data);
    return FG_OK;
}

int fg_polygamma_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor x, slope;
    int64_t order = n->attr[0] + 1;
    int status = fg_saved(n, 0, &x);
    if (status || (status = fg_apply(FG_OP_polygamma, 1, &x, 1, &order, &slope)))
        return status;
    status = fg_apply(FG_OP_multiply, 2, (fg_tensor[]){g, slope}, 0, NULL, &gin[0]);
    fg_tensor_unref(slope);
    return status;
}
