/* specialize.c: specialization: when all offsets are known, the access patterns of steps in groups are computed, and
 * steps on small arrays become direct calls of the kernel that fits their strides.
 */
#include "kernels/gemm_dispatch.h"
#include "program/passes.h"
#include "program/steps.h"

/* The operand of a load, and the result of a reduction of rows, have other sizes than the step itself. */
static void find_access_patterns(const fg_program *p, step *s)
{
    for (int i = 0; i <= s->n_in; i++) {
        int v = i < s->n_in ? s->in[i] : s->y, other = is_load(s) || s->kind == ROWS_STEP;
        int64_t run = i < s->n_in ? run_at(s, i) : 0;
        if ((i < s->n_in && s->kind == JOIN_STEP) || v < 0 ||
            (shape_at(p, v)->size != s->n && !p->buffer[v].period && !other && !run))
            continue;
        const buffer *x = &p->buffer[v];
        int64_t period = run ? x->array.shape->size : x->period;
        s->access[i < s->n_in ? i : FG_RESULT] =
            (access_pattern){(int64_t)fg_itemsize(x->array.dtype), x->blockwise ? BLOCKWISE : period};
    }
}

/* The loop over whole vectors that computes what a step's kernel computes, or NULL. Bits of `single`: 1 if the first
 * operand is a single element, 2 if the second is. */
static fg_loop *loop_of(const fg_program *p, const step *s, int single)
{
    int op = s->op, vjp = (op - FG_N_OPS) / 2, dtype = p->buffer[s->y].array.dtype;
    if (!FG_IS_FLOAT(dtype))
        return NULL;
    const fg_elementwise_kernels *k = fg_kernels[dtype].elementwise;
    switch (s->kind) {
    case UNARY_STEP:
        return op < FG_N_UNARY ? k->unary_loop[op] : k->stretch_loop;
    case BINARY_STEP:
        return single > 2 ? NULL : k->binary_loop[op - FG_N_UNARY][single];
    case UNARY_VJP_STEP:
        return k->unary_vjp_loop[vjp];
    case BINARY_VJP_STEP:
        return single > 2 ? NULL : k->binary_vjp_loop[vjp - FG_N_UNARY][(op - FG_N_OPS) % 2][single];
    default:
        return NULL;
    }
}

/* Buffers in the arena, and padded constants, have memory up to the end of their last vector, which was written once
 * (clear_rests in bind.c). A step on such memory alone may compute whole vectors: nothing uses the elements beyond
 * its own. Loops treat n = 1 apart, so a single element remains one. */
static void fill_vectors(const fg_program *p, step *s)
{
    int dtype = p->buffer[s->in[s->n_in - 1]].array.dtype;
    fg_loop *one = s->n == 1 && s->op < FG_N_OPS ? fg_single_kernel_of(s->op, dtype) : NULL;
    if (one) {
        s->kind = LOOP_STEP;
        s->kernel = (void *)one;
        return;
    }
    if (s->op < FG_N_ELEMENTWISE && FG_IS_FLOAT(dtype) && fg_kernels[dtype].elementwise->by_element[s->op])
        return;
    int64_t itemsize = 1;
    int single = 0;
    if (p->buffer[p->buffer[s->y].root].after)
        return;
    for (int i = 0; i <= s->n_in; i++) {
        int v = i < s->n_in ? s->in[i] : s->y;
        if (v < 0)
            continue;
        if (shape_at(p, v)->size == 1 && s->n > 1) {
            single |= 1 << i;
            continue;
        }
        const buffer *root = &p->buffer[p->buffer[v].root];
        if ((root->offset < 0 && !(root->array.data && fg_constant_is_padded(&root->array))) || p->buffer[v].shift)
            return;
        int64_t own = (int64_t)fg_itemsize(p->buffer[v].array.dtype);
        itemsize = own > itemsize ? own : itemsize;
    }
    int64_t vector = FG_ALIGN / itemsize;
    fg_loop *loop = loop_of(p, s, single);
    if (!loop || s->n > 1)
        s->n = (s->n + vector - 1) / vector * vector;
    if (loop) {
        s->kind = LOOP_STEP;
        s->kernel = (void *)loop;
    }
}

/* May the memory of v be written up to the end of its last vector? */
static int is_roomy(const fg_program *p, int v)
{
    const buffer *root = &p->buffer[p->buffer[v].root];
    return root->offset >= 0 && !root->after && !p->buffer[v].shift;
}

/* Call the kernels of small products, and of sums of all elements, directly. */
static void prepare_call(const fg_program *p, step *s)
{
    if (s->op != FG_OP_sum && s->op != FG_OP_matmul)
        return;
    int dtype = p->buffer[s->y].array.dtype;
    const fg_shape *y = shape_at(p, s->y), *x = shape_at(p, s->in[0]);
    if (s->op == FG_OP_sum && s->n == 1 && x->size > 1) {
        s->kind = LOOP_STEP;
        s->kernel = FG_IS_FLOAT(dtype) ? (void *)fg_kernels[dtype].reduce->sum : (void *)fg_integer_sum;
        s->n = x->size;
    } else if (s->op == FG_OP_matmul && s->n_attr == FG_PLAIN_PRODUCT && y->ndim == 2 && s->n) {
        int ta = (int)s->attr[0], tb = (int)s->attr[1];
        int64_t m = y->dim[0], n = y->dim[1], k = x->dim[!ta], lda = ta ? m : k, ldb = tb ? k : n;
        if (!k || !fg_is_few(m, n, k))
            return;
        s->kind = LOOP_STEP;
        s->kernel = (void *)fg_kernels[dtype].gemm->few;
        s->product = (fg_product){
            m, n, k, ta ? 1 : lda, ta ? lda : 1, tb ? 1 : ldb, tb ? ldb : 1, n, s->n_in == 3, is_roomy(p, s->y)};
    }
}

int fg_pass_specialize(fg_program *p)
{
    for (int k = 0; k < p->n_steps; k += p->step[k].group)
        for (int j = k; j < k + p->step[k].group; j++)
            if (p->step[k].block || p->step[k].parts > 1)
                find_access_patterns(p, &p->step[j]);
            else if (p->step[k].kind != RUN)
                fill_vectors(p, &p->step[k]);
            else
                prepare_call(p, &p->step[k]);
    return FG_OK;
}
