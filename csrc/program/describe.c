/* describe.c: a program's facts and its printed form: shapes and dtypes of inputs and outputs, a line for each step,
 * the memory and the time that a replay takes.
 */
#include "program/steps.h"

#include <stdio.h>

static int64_t constant_bytes(const fg_program *p)
{
    int64_t bytes = 0;
    for (int i = 0; i < p->values.n; i++) {
        const value *v = &values_of(p)[i];
        if (v->from == CONSTANT && v->array && !fg_array_root(v->array)->frozen)
            bytes += (int64_t)fg_data_bytes(v->array);
    }
    return bytes;
}

fg_program_facts fg_program_describe(const fg_program *p)
{
    int64_t bodies = 0;                         /* the most that those of one step need; steps run in turn */
    for (int k = 0; k < p->n_steps; k++) {
        int64_t bytes = 0;
        for (int i = 0; fg_program_body(p, k, i); i++)
            bytes += fg_program_describe(fg_program_body(p, k, i)).arena_bytes;
        bodies = bytes > bodies ? bytes : bodies;
    }
    return (fg_program_facts){p->n_in,           p->n_out,          p->n_steps,   p->n_traced, p->arena_bytes + bodies,
                              p->separate_bytes, constant_bytes(p), p->allocates, p->work};
}

fg_shape *fg_program_input_shape(const fg_program *p, int i) { return p->buffer[i].array.shape; }
int fg_program_input_dtype(const fg_program *p, int i) { return p->buffer[i].array.dtype; }
fg_shape *fg_program_output_shape(const fg_program *p, int i) { return shape_at(p, p->out[i]); }
int fg_program_output_dtype(const fg_program *p, int i) { return p->buffer[p->out[i]].array.dtype; }

int fg_program_keeps(const fg_program *p, int i)
{
    if (p->body)
        return is_arena_resident(p, p->out[i]);
    return i >= p->n_out - p->n_gradients || shape_at(p, p->out[i])->ndim == 0;
}

int fg_program_in_place(const fg_program *p, int input)
{
    for (int k = 0; carried_to(p, input) >= 0 && k < p->n_steps; k++)
        if (p->step[k].op == FG_OP_matmul && p->step[k].n_in == 3 && p->step[k].in[2] == input)
            return 1;
    return 0;
}

/* ---- the printed form -------------------------------------------------------------------------------------------- */
#define PRINT(...) at += snprintf(at < size ? text + at : NULL, at < size ? (size_t)(size - at) : 0, __VA_ARGS__)
/* A view is printed as the value whose memory it is part of, and the byte at which it begins. */
static int print_operand(const fg_program *p, int v, char *text, int at, int size)
{
    int root = p->buffer[v].root;
    PRINT(root < p->n_in ? " in%d" : p->buffer[root].array.data ? " const%d" : " %%%d", root);
    if (p->buffer[v].shift)
        PRINT("%+lld", (long long)p->buffer[v].shift);
    return at;
}

static int print_name(const step *s, char *text, int at, int size)
{
    int op = s->op;
    if ((fg_flags(op) & FG_BY_HOST) == FG_BY_HOST)
        PRINT("%s.%s", op == FG_OP_numpy ? "numpy" : "host", fg_on_numpy_name(s->attr[0]));
    else if (op < FG_N_OPS)
        PRINT("%s", fg_ops[op].name);
    else
        PRINT("%s_vjp%s", fg_ops[(op - FG_N_OPS) / 2].name,
              (op - FG_N_OPS) / 2 < FG_N_UNARY ? ""
              : (op - FG_N_OPS) % 2            ? "[b]"
                                               : "[a]");
    if (op == FG_OP_scan)
        PRINT("[%lld]", (long long)s->attr[1]);
    return at;
}

int fg_program_line(const fg_program *p, int i, char *text, int size)
{
    const step *s = &p->step[i];
    const buffer *y = &p->buffer[s->y];
    int at = 0;
    char shape[FG_SHAPE_TEXT];
    PRINT("%%%d = ", s->y);
    at = print_name(s, text, at, size);
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

int fg_program_name(const fg_program *p, int i, char *text, int size) { return print_name(&p->step[i], text, 0, size); }
int fg_program_result_dtype(const fg_program *p, int i) { return p->buffer[p->step[i].y].array.dtype; }
fg_shape *fg_program_result_shape(const fg_program *p, int i) { return shape_at(p, p->step[i].y); }

/* ---- the graph of steps ------------------------------------------------------------------------------------------ */
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

/* ---- all that native code is written from ------------------------------------------------------------------------ */
int fg_program_buffer_count(const fg_program *p) { return p->n_buffers; }

fg_buffer_facts fg_program_buffer(const fg_program *p, int v)
{
    const buffer *x = &p->buffer[v];
    int changes = v < p->values.n && values_of(p)[v].array && values_of(p)[v].array->is_rng_state;
    return (fg_buffer_facts){.dtype = x->array.dtype,
                             .root = x->root,
                             .shape = x->array.shape,
                             .shift = x->shift,
                             .output = x->output,
                             .kept = x->kept,
                             .padded = x->padded_in_place,
                             .blockwise = x->blockwise != 0,
                             .period = x->period,
                             .offset = x->offset,
                             .data = changes ? NULL : x->array.data};
}

fg_step_facts fg_program_step(const fg_program *p, int i)
{
    const step *s = &p->step[i];
    return (fg_step_facts){.op = s->op,
                           .y = s->y,
                           .n_in = s->n_in,
                           .n_attr = s->n_attr,
                           .group = s->group,
                           .late = i >= p->n_steps - p->n_late,
                           .in = s->in,
                           .attr = s->attr};
}

int fg_program_out(const fg_program *p, int i) { return p->out[i]; }
