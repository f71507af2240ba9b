/* host_call.c: operations that call back the caller, who computes them: `numpy`, for what has no kernel here, and
 * `host_elementwise`, for functions of floats that only a library of the caller's has.
 */
#include "fastgrad.h"

int fg_numpy_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    *dtype = (int)c->attr[1];
    return fg_shape_made(fg_shape_new(c->n_attr - 2, c->attr + 2), shape);
}

int fg_numpy_run(const fg_call *c, fg_array *y) { return fg_on_numpy(c, y); }

int fg_host_elementwise_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    if (c->n_in < 1 || c->n_in > FG_SAVED_INPUTS)
        return fg_fail(FG_BAD_VALUE, "host_elementwise: expected 1 to %d operands, got %d", FG_SAVED_INPUTS, c->n_in);
    fg_shape *joint = fg_shape_ref(c->in[0].array->shape);
    for (int i = 1; joint && i < c->n_in; i++) {
        fg_shape *next = fg_broadcast_shapes(fg_on_numpy_name(c->attr[0]), joint, c->in[i].array->shape);
        fg_shape_unref(joint);
        joint = next;
    }
    return fg_shape_made(joint, shape);
}

int fg_host_elementwise_run(const fg_call *c, fg_array *y) { return fg_on_numpy(c, y); }
int fg_host_elementwise_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return fg_vjp_by_rule(n, g, gin); }
