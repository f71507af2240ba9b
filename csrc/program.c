/* program.c: recorded operations replayed. */
#include "recording.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fg_program_free(fg_program *p)
{
    if (!p)
        return;
    for (int v = 0; v < p->values.n; v++)
        fg_array_unref(values_of(p)[v].array);
    for (int v = 0; p->slot && v < p->values.n + p->n_out; v++)
        fg_shape_unref(p->slot[v].array.shape);
    if (p->arena)
        fg_free(p->arena, (size_t)p->arena_bytes);
    if (p->step)
        free(p->step[0].operand);
    free(p->step);
    free(p->slot);
    free(p->out);
    free(p->view);
    free(p->values.item);
    free(p->notes.item);
    free(p->operands.item);
    free(p->attrs.item);
    free(p);
}

/* ---- replay --------------------------------------------------------------------------------------------------------- */
/* Where operand i of a step lies for the block that starts at element `at`, and the stride to read it with. */
static inline char *operand_at(const fg_program *p, const step *s, int i, int64_t at, int *stride)
{
    int v = s->in[i];
    if (v < 0) {
        *stride = 1;
        return NULL;
    }
    const slot *x = &p->slot[v];
    *stride = x->array.shape->size == s->n;
    return (char *)x->array.data + (*stride && !x->blockwise ? at * (int64_t)fg_itemsize(x->array.dtype) : 0);
}

static void run_flat(const fg_program *p, const step *s, int64_t at, int64_t n)
{
    const slot *result = &p->slot[s->y];
    char *y = (char *)result->array.data + (result->blockwise ? 0 : at * (int64_t)fg_itemsize(result->array.dtype));
    int sa, sb, one;
    char *a = operand_at(p, s, 0, at, &sa);
    switch (s->kind) {
    case UNARY_STEP:
        ((unary_kernel)s->kernel)(n, a, y);
        break;
    case BINARY_STEP: {
        char *b = operand_at(p, s, 1, at, &sb);
        ((binary_kernel)s->kernel)(n, a, sa, b, sb, y);
        break;
    }
    case UNARY_VJP_STEP:
        ((unary_vjp_kernel)s->kernel)(n, a, operand_at(p, s, 1, at, &one), operand_at(p, s, 2, at, &one), y);
        break;
    default: {
        char *b = operand_at(p, s, 1, at, &sb);     /* the stride of a missing operand is 1 */
        ((binary_vjp_kernel)s->kernel)(n, a, sa, b, sb, operand_at(p, s, 2, at, &one), operand_at(p, s, 3, at, &one), y);
    }
    }
}

int fg_program_run(fg_program *p, void *const *data, fg_array **out)
{
    int made = 0, status = FG_OK;
    for (; made < p->n_out; made++) {
        const fg_array *like = &p->slot[p->out[made]].array;
        if (!(out[made] = fg_array_new(like->shape, like->dtype))) {
            status = FG_NO_MEMORY;
            break;
        }
        p->slot[p->slot[p->out[made]].root].array.data = out[made]->data;
    }
    if (!status) {
        for (int i = 0; i < p->n_in; i++)
            p->slot[i].array.data = data[i];
        for (int i = 0; i < p->n_views; i++) {
            slot *v = &p->slot[p->view[i]];
            v->array.data = p->slot[v->root].array.data;
        }
    }
    for (int k = 0; !status && k < p->n_steps;) {
        const step *s = &p->step[k];
        if (s->kind == RUN) {
            status = fg_run(&s->call, &p->slot[s->y].array);
        } else if (s->group == 1) {
            run_flat(p, s, 0, s->n);
        } else {
            for (int64_t at = 0; at < s->n; at += FG_BLOCK)
                for (int j = 0; j < s->group; j++)
                    run_flat(p, s + j, at, s->n - at < FG_BLOCK ? s->n - at : FG_BLOCK);
        }
        k += s->group;
    }
    if (status)
        while (made--)
            fg_array_unref(out[made]);
    return status;
}

/* ---- looking at a program ------------------------------------------------------------------------------------------- */
fg_program_facts fg_program_describe(const fg_program *p)
{
    return (fg_program_facts){p->n_in, p->n_out, p->n_steps, p->n_recorded, p->arena_bytes, p->separate_bytes};
}

fg_shape *fg_program_input_shape(const fg_program *p, int i) { return p->slot[i].array.shape; }
int fg_program_input_dtype(const fg_program *p, int i) { return p->slot[i].array.dtype; }

int fg_program_line(const fg_program *p, int i, char *text, int size)
{
    const step *s = &p->step[i];
    const slot *y = &p->slot[s->y];
    int op = s->call.op, at = 0;
    char shape[FG_SHAPE_TEXT];
#define PRINT(...) at += snprintf(at < size ? text + at : NULL, at < size ? (size_t)(size - at) : 0, __VA_ARGS__)
    PRINT("%%%d = ", s->y);
    if (op < FG_N_OPS)
        PRINT("%s", fg_ops[op].name);
    else
        PRINT("%s_vjp%s", fg_ops[(op - FG_N_OPS) / 2].name,
              (op - FG_N_OPS) / 2 < FG_N_UNARY ? "" : (op - FG_N_OPS) % 2 ? "[b]" : "[a]");
    for (int k = 0; k < s->n_in; k++) {
        int v = s->in[k];
        if (v < 0)
            PRINT(" _");
        else if (v < p->n_in)
            PRINT(" in%d", v);
        else
            PRINT(values_of(p)[v].array ? " const%d" : " %%%d", v);
    }
    PRINT("  %s %s", fg_dtype_name(y->array.dtype), fg_shape_text(y->array.shape, shape));
    if (y->output >= 0)
        PRINT("  out%d", y->output);
    else if (y->blockwise)
        PRINT("  block");
    else
        PRINT("  @%lld", (long long)p->slot[y->root].offset);
#undef PRINT
    return at;
}

int fg_program_group(const fg_program *p, int i) { return p->step[i].group; }

int fg_program_equal(const fg_program *a, const fg_program *b)
{
    if (a->values.n != b->values.n || a->notes.n != b->notes.n || a->operands.n != b->operands.n ||
        a->attrs.n != b->attrs.n || a->n_in != b->n_in || a->n_out != b->n_out ||
        memcmp(a->out, b->out, (size_t)a->n_out * sizeof *a->out))
        return 0;
    for (int k = 0; k < a->notes.n; k++)
        if (!fg_same_note(a, &notes_of(a)[k], b, &notes_of(b)[k]) || notes_of(a)[k].y != notes_of(b)[k].y)
            return 0;
    for (int v = 0; v < a->values.n; v++) {
        const fg_array *x = values_of(a)[v].array, *y = values_of(b)[v].array;
        if (!x != !y || (x && !fg_same_array(x, y)))
            return 0;
    }
    return 1;
}
