/* custom.c: nodes whose derivative the caller knows, and the barrier that keeps a program from sharing work.
 *
 * A custom function is no operation: its results are computed by operations as any others, then a node of op `custom`
 * takes the place of what these recorded. The node's only attribute is a handle for the caller's rule.
 */
#include "fastgrad.h"

int (*fg_on_custom)(void *rule, fg_node *, fg_tensor g, fg_tensor *gin);

/* Replace *node by that of an operation on it, whose result is known already. */
static int then(fg_node **node, int op, int n_attr, const int64_t *attr, fg_shape *shape, int dtype)
{
    fg_array like = {.dtype = (uint8_t)dtype, .shape = shape};  /* all that these operations' nodes take of a result */
    fg_tensor x = {&like, *node}, y = {&like, NULL};
    int status = fg_tape_record(&(fg_call){.op = op, .n_in = 1, .n_attr = n_attr, .in = &x, .attr = attr}, &y);
    fg_node_unref(*node);
    *node = y.node;
    return status;
}

/* y is the elements from `at` on of the vector that a node stands for. */
static int record_part(fg_node *whole, int64_t at, fg_tensor *y)
{
    const fg_shape *shape = y->array->shape;
    int64_t dtype = y->array->dtype, part[3] = {at, 1, shape->size};
    fg_shape *flat = fg_shape_new(1, &shape->size);
    if (!flat)
        return fg_failed();
    y->node = fg_node_ref(whole);
    int status = then(&y->node, FG_OP_slice, 3, part, flat, whole->dtype);
    if (!status && dtype != whole->dtype)
        status = then(&y->node, FG_OP_cast, 1, &dtype, flat, (int)dtype);
    if (!status)
        status = then(&y->node, FG_OP_reshape, shape->ndim, shape->dim, y->array->shape, (int)dtype);
    fg_shape_unref(flat);
    return status;
}

int fg_custom(int n_in, const fg_tensor *in, void *rule, int n_out, fg_tensor *y)
{
    int64_t handle = (int64_t)(intptr_t)rule, length = 0, at = 0;
    fg_call call = {.op = FG_OP_custom, .n_in = n_in, .n_attr = 1, .in = in, .attr = &handle};
    fg_array like = {.dtype = y[0].array->dtype, .shape = y[0].array->shape};
    for (int i = 0; i < n_out; i++) {
        y[i].node = NULL;
        length += y[i].array->shape->size;
        if (y[i].array->dtype != like.dtype)
            like.dtype = FG_FLOAT64;
    }
    if (n_out > 1)
        like.shape = fg_shape_new(1, &length);
    fg_tensor whole = {&like, NULL};
    int status = like.shape ? fg_tape_record(&call, &whole) : fg_failed();
    if (!whole.node)
        fg_on_release(rule);
    else if (n_out == 1)
        y[0].node = fg_node_ref(whole.node);
    else
        for (int i = 0; !status && i < n_out; at += y[i++].array->shape->size)
            status = record_part(whole.node, at, &y[i]);
    fg_node_unref(whole.node);
    if (n_out > 1)
        fg_shape_unref(like.shape);
    return status;
}

int fg_custom_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    return fg_on_custom((void *)(intptr_t)n->attr[0], n, g, gin);
}
