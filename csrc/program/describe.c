/* describe.c: what a program is, told and compared, and its end. */
#include "record/ir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fg_program *fg_program_ref(fg_program *p)
{
    p->refs++;
    return p;
}

void fg_program_free(fg_program *p)
{
    if (!p || --p->refs)
        return;
    fg_replays_free(p);                         /* which hold replays of the bodies */
    for (int i = 0; i < p->bodies.n; i++)
        fg_program_free(((fg_program **)p->bodies.item)[i]);
    free(p->bodies.item);
    for (int v = 0; v < p->values.n; v++)
        fg_value_release(&values_of(p)[v]);
    for (int v = 0; p->buffer && v < p->n_buffers; v++)
        fg_shape_unref(p->buffer[v].array.shape);
    free(p->step);
    free(p->buffer);
    free(p->out);
    free(p->values.item);
    free(p->instructions.item);
    free(p->operands.item);
    free(p->attrs.item);
    free(p->tracked.item);
    if (p->step && !p->body)                    /* it may be that nothing but its recording has come of it */
        fg_pool_empty();
    free(p);
}

/* ---- looking at a program ---------------------------------------------------------------------------------------- */
static int64_t constant_bytes(const fg_program *p)
{
    int64_t bytes = 0;
    for (int i = 0; i < p->values.n; i++) {
        const value *v = &values_of(p)[i];
        if (v->from == CONSTANT && v->array && !fg_array_root(v->array)->frozen)
            bytes += v->array->shape->size * (int64_t)fg_itemsize(v->array->dtype);
    }
    return bytes;
}

fg_program_facts fg_program_describe(const fg_program *p)
{
    int64_t inner = 0;                          /* bodies run one at a time */
    for (int k = 0; k < p->n_steps; k++) {
        int64_t bytes = 0;
        for (int i = 0; fg_program_body(p, k, i); i++)
            bytes += fg_program_describe(fg_program_body(p, k, i)).arena_bytes;
        inner = bytes > inner ? bytes : inner;
    }
    return (fg_program_facts){p->n_in, p->n_out, p->n_steps, p->n_traced, p->arena_bytes + inner, p->separate_bytes,
                              constant_bytes(p), p->allocates, p->work};
}

fg_shape *fg_program_input_shape(const fg_program *p, int i) { return p->buffer[i].array.shape; }
int fg_program_input_dtype(const fg_program *p, int i) { return p->buffer[i].array.dtype; }
fg_shape *fg_program_output_shape(const fg_program *p, int i) { return shape_at(p, p->out[i]); }
int fg_program_output_dtype(const fg_program *p, int i) { return p->buffer[p->out[i]].array.dtype; }

int fg_program_keeps(const fg_program *p, int i)
{
    return p->body ? is_arena_resident(p, p->out[i]) : i >= p->n_out - p->n_kept || shape_at(p, p->out[i])->ndim == 0;
}

int fg_program_in_place(const fg_program *p, int input)
{
    for (int k = 0; carried_to(p, input) >= 0 && k < p->n_steps; k++)
        if (p->step[k].op == FG_OP_matmul && p->step[k].n_in == 3 && p->step[k].in[2] == input)
            return 1;
    return 0;
}

#define PRINT(...) at += snprintf(at < size ? text + at : NULL, at < size ? (size_t)(size - at) : 0, __VA_ARGS__)
/* A view is shown as what it looks into, from which byte on. */
static int print_operand(const fg_program *p, int v, char *text, int at, int size)
{
    int root = p->buffer[v].root;
    PRINT(root < p->n_in ? " in%d" : p->buffer[root].array.data ? " const%d" : " %%%d", root);
    if (p->buffer[v].shift)
        PRINT("%+lld", (long long)p->buffer[v].shift);
    return at;
}

int fg_program_line(const fg_program *p, int i, char *text, int size)
{
    const step *s = &p->step[i];
    const buffer *y = &p->buffer[s->y];
    int op = s->op, at = 0;
    char shape[FG_SHAPE_TEXT];
    PRINT("%%%d = ", s->y);
    if (op == FG_OP_numpy)
        PRINT("numpy.%s", fg_on_numpy_name(s->attr[0]));
    else if (op < FG_N_OPS)
        PRINT("%s", fg_ops[op].name);
    else
        PRINT("%s_vjp%s", fg_ops[(op - FG_N_OPS) / 2].name,
              (op - FG_N_OPS) / 2 < FG_N_UNARY ? "" : (op - FG_N_OPS) % 2 ? "[b]" : "[a]");
    if (op == FG_OP_scan)
        PRINT("[%lld]", (long long)s->attr[1]);
    for (int k = 0; k < s->n_in; k++) {
        int v = s->in[k];
        if (v < 0)
            PRINT(" _");
        else
            at = print_operand(p, v, text, at, size);
    }
    PRINT("  %s %s", fg_dtype_name(y->array.dtype), fg_shape_text(y->array.shape, shape));
    if (y->blockwise)
        PRINT("  block");
    else if (p->buffer[y->root].output < 0)
        PRINT("  @%lld", (long long)p->buffer[y->root].offset);
    if (y->panel)
        PRINT("  %lld rows at a time", (long long)y->panel);
    for (int k = 0; k < p->n_out; k++)
        if (fg_program_output(p, k) == s->y)
            PRINT("  out%d", k);
    return at;
}
#undef PRINT

int fg_program_operand(const fg_program *p, int i, int k)
{
    const step *s = &p->step[i];
    int v = k < 0 ? s->y : k < s->n_in ? s->in[k] : -1;
    return v < 0 ? -1 : p->buffer[v].root;
}

int fg_program_operand_count(const fg_program *p, int i) { return p->step[i].n_in; }
int fg_program_output(const fg_program *p, int i) { return p->buffer[p->out[i]].root; }

static fg_array *find_rng_state(const fg_program *p, int *i)
{
    for (int v = 0; v < p->values.n; v++) {
        fg_array *x = values_of(p)[v].array;
        if (x && x->is_rng_state && (*i)-- == 0)
            return x;
    }
    fg_array *found = NULL;
    for (int k = 0; !found && k < p->bodies.n; k++)
        found = find_rng_state(((fg_program **)p->bodies.item)[k], i);
    return found;
}

fg_array *fg_program_rng_state(const fg_program *p, int i) { return find_rng_state(p, &i); }

int fg_program_group(const fg_program *p, int i) { return p->step[i].group; }

fg_program *fg_program_body(const fg_program *p, int i, int k)
{
    const step *s = &p->step[i];
    return k < fg_n_bodies(s->op) ? fg_body(s->attr, k) : NULL;
}

int fg_program_equal(const fg_program *a, const fg_program *b)
{
    if (a == b)
        return 1;
    if (a->values.n != b->values.n || a->instructions.n != b->instructions.n || a->operands.n != b->operands.n ||
        a->attrs.n != b->attrs.n || a->n_in != b->n_in || a->n_out != b->n_out ||
        memcmp(a->out, b->out, (size_t)a->n_out * sizeof *a->out))
        return 0;
    for (int k = 0; k < a->instructions.n; k++)
        if (!fg_same_instruction(a, &instructions_of(a)[k], b, &instructions_of(b)[k]) || instructions_of(a)[k].y != instructions_of(b)[k].y)
            return 0;
    for (int v = 0; v < a->values.n; v++) {
        const fg_array *x = values_of(a)[v].array, *y = values_of(b)[v].array;
        if (!x != !y || (x && !fg_same_array(x, y)))
            return 0;
    }
    return 1;
}
