/* choose_kernel.c: a part of lowering: the kernel of a flat step. */
#include "program/passes.h"
#include "program/steps.h"

/* The kernel of a flat step on integers or booleans, where it has one. A kernel that may refuse elements is called by
 * the operation's run, which has the operands for NumPy. */
static void choose_integer_kernel(step *s, int dtype)
{
    const fg_integer_kernel *k = fg_integer_kernel_of(s->op, dtype);
    if (s->op == FG_OP_where) {
        s->kind = WHERE_STEP;
        s->kernel = (void *)fg_where_kernel_of(dtype);
    } else if (k && k->unary) {
        s->kind = UNARY_STEP;
        s->kernel = (void *)k->unary;
    } else if (k && k->binary) {
        s->kind = BINARY_STEP;
        s->kernel = (void *)k->binary;
    }
}

void fg_choose_kernel(const fg_program *p, step *s)
{
    int op = s->op, vjp = (op - FG_N_OPS) / 2;
    int dtype = p->buffer[s->in[op == FG_OP_where || op >= FG_N_OPS ? s->n_in - 1 : 0]].array.dtype;
    if (!FG_IS_FLOAT(dtype)) {
        choose_integer_kernel(s, dtype);
        return;
    }
    const fg_elementwise_kernels *k = fg_kernels[dtype].elementwise;
    if (op < FG_N_UNARY) {
        s->kind = UNARY_STEP;
        s->kernel = (void *)k->unary[op];
    } else if (op < FG_N_ELEMENTWISE) {
        s->kind = BINARY_STEP;
        s->kernel = (void *)k->binary[op - FG_N_UNARY];
    } else if (op == FG_OP_broadcast_to && shape_at(p, s->in[0])->size == 1) {
        s->kind = UNARY_STEP;
        s->kernel = (void *)k->stretch;
    } else if (op >= FG_OP_less && op <= FG_OP_not_equal) {
        s->kind = COMPARE_STEP;
        s->kernel = (void *)k->compare[op - FG_OP_less];
    } else if (op == FG_OP_where) {
        s->kind = WHERE_STEP;
        s->kernel = (void *)k->where;
    } else if (op >= FG_N_OPS && vjp < FG_N_UNARY) {
        s->kind = UNARY_VJP_STEP;
        s->kernel = (void *)k->unary_vjp[vjp];
    } else if (op >= FG_N_OPS) {
        s->kind = BINARY_VJP_STEP;
        s->kernel = (void *)k->binary_vjp[vjp - FG_N_UNARY][(op - FG_N_OPS) % 2];
    }
}
