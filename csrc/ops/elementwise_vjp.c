/* elementwise_vjp.c: vjp rules of the elementwise operations, made of the kernels that the derivatives of ops.def were
 * compiled to, or, in a pass that is recorded, of the caller's rules, which are differentiable in turn.
 */
#include "fastgrad.h"

int fg_unary_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor x, y;
    int status;
    if ((status = fg_saved(n, 0, &x)) || (status = fg_saved_out(n, &y)))
        return status;
    if (fg_ops[n->op].unit[0] == 1) {
        gin[0] = fg_tensor_ref(g);
        return FG_OK;
    }
    const fg_tensor in[] = {{x.array, NULL}, {y.array, NULL}, {g.array, NULL}};
    return fg_apply(FG_VJP(n->op, 0), 3, in, 0, NULL, &gin[0]);
}

int fg_vjp_by_rule(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    if (!fg_on_rule)
        return fg_fail(FG_NOT_IMPLEMENTED, "%s: its derivative is a rule in Python", fg_ops[n->op].name);
    for (int i = 0; i < n->n_in; i++) {
        fg_tensor full;
        int status;
        if (!n->in[i].parent)
            continue;
        if ((status = fg_on_rule(n, i, g, &full)))
            return status;
        status = fg_sum_to(full, n->in[i].parent->shape, &gin[i]);
        fg_tensor_unref(full);
        if (status)
            return status;
    }
    return FG_OK;
}

static inline int binary_rules(int recorded, fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor a, b, y;
    int status;
    if ((status = fg_saved(n, 0, &a)) || (status = fg_saved(n, 1, &b)) || (status = fg_saved_out(n, &y)))
        return status;
    for (int i = 0; i < 2; i++) {
        int unit = fg_ops[n->op].unit[i];
        fg_node *parent = n->in[i].parent;
        if (!parent)
            continue;
        fg_tensor full = {0};
        if (unit == 1) {
            full = fg_tensor_ref(g);
        } else if (unit == -1 && !fg_shape_equal(parent->shape, n->shape)) {
            fg_tensor sum;                      /* cheaper to negate after the sum */
            if ((status = fg_sum_to(g, parent->shape, &sum)))
                return status;
            status = fg_unary(FG_OP_negative, sum, &gin[i]);
            fg_tensor_unref(sum);
            if (status)
                return status;
            continue;
        } else if (recorded) {
            if ((status = fg_on_rule(n, i, g, &full)))
                return status;
        } else {
            unsigned needs = fg_ops[n->op].needs[i];
            const fg_tensor in[] = {{needs & FG_IN(0) ? a.array : NULL, NULL},
                                    {needs & FG_IN(1) ? b.array : NULL, NULL},
                                    {needs & FG_OUT ? y.array : NULL, NULL},
                                    {g.array, NULL}};
            if ((status = fg_apply(FG_VJP(n->op, i), 4, in, 0, NULL, &full)))
                return status;
        }
        status = fg_sum_to(full, parent->shape, &gin[i]);
        fg_tensor_unref(full);
        if (status)
            return status;
    }
    return FG_OK;
}

int fg_binary_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return binary_rules(0, n, g, gin); }
int fg_recorded_binary_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return binary_rules(1, n, g, gin); }

/* The derivative itself, for the table: the vjp kernel with cotangent 1. a and b have one dtype. */
int fg_derivative(int op, int i, fg_array *a, fg_array *b, fg_array **out)
{
    fg_tensor y;
    int status =
        b ? fg_binary(op, (fg_tensor){a, NULL}, (fg_tensor){b, NULL}, &y) : fg_unary(op, (fg_tensor){a, NULL}, &y);
    if (status)
        return status;
    fg_array *one = fg_array_new(y.array->shape, y.array->dtype);
    fg_tensor d;
    if (!one) {
        status = FG_NO_MEMORY;
    } else {
        const fg_tensor in[] = {{a, NULL}, {b ? b : y.array, NULL}, {b ? y.array : one, NULL}, {one, NULL}};
        fg_kernels[one->dtype].reduce->fill(one->shape->size, 1, one->data);
        if (!(status = fg_apply(FG_VJP(op, i), b ? 4 : 3, in, 0, NULL, &d)))
            *out = d.array;
    }
    fg_array_unref(one);
    fg_tensor_unref(y);
    return status;
}
