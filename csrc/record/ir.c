/* ir.c: lists of instructions: growth, equality, the bodies of an instruction, and the references to a program. */
#include "record/ir.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

void *fg_list_add(list *l, size_t size)
{
    if (l->n == l->capacity) {
        int capacity = l->capacity ? 2 * l->capacity : 64;
        void *grown = capacity <= INT_MAX / 2 ? realloc(l->item, (size_t)capacity * size) : NULL;
        if (!grown) {
            fg_fail(FG_NO_MEMORY, "no memory for a program");
            return NULL;
        }
        l->item = grown;
        l->capacity = capacity;
    }
    return (char *)l->item + (size_t)l->n++ * size;
}

/* ---- the bodies of an instruction -------------------------------------------------------------------------------- */
int fg_n_bodies(int op) { return (int)(fg_flags(op) >> FG_BODIES_SHIFT); }

fg_program *fg_body(const int64_t *attr, int i) { return (fg_program *)(intptr_t)attr[i]; }

int fg_draws(int op, const int64_t *attr)
{
    int draws = (fg_flags(op) & FG_DRAWS) != 0;
    for (int i = 0; i < fg_n_bodies(op); i++)
        draws |= fg_body(attr, i)->draws;
    return draws;
}

/* ---- equality ---------------------------------------------------------------------------------------------------- */
int fg_same_work(const fg_program *p, const instruction *a, const fg_program *q, const instruction *b)
{
    if (a->op != b->op || a->n_in != b->n_in || a->n_attr != b->n_attr)
        return 0;
    int n = fg_n_bodies(a->op);
    for (int i = 0; i < n; i++)
        if (!fg_program_equal(fg_body(attrs_of(p, a), i), fg_body(attrs_of(q, b), i)))
            return 0;
    return a->n_attr == n || !memcmp(attrs_of(p, a) + n, attrs_of(q, b) + n, (size_t)(a->n_attr - n) * sizeof(int64_t));
}

int fg_same_instruction(const fg_program *p, const instruction *a, const fg_program *q, const instruction *b)
{
    return a->op == b->op && a->n_in == b->n_in &&
           !memcmp(operands_of(p, a), operands_of(q, b), (size_t)a->n_in * sizeof(int)) && fg_same_work(p, a, q, b);
}

size_t fg_data_bytes(const fg_array *x) { return (size_t)x->shape->size * fg_itemsize(x->dtype); }

int fg_same_array(const fg_array *x, const fg_array *y)
{
    if (x->is_rng_state || y->is_rng_state)
        return x == y;
    return x->dtype == y->dtype && fg_shape_equal(x->shape, y->shape) && !memcmp(x->data, y->data, fg_data_bytes(x));
}

int fg_program_equal(const fg_program *a, const fg_program *b)
{
    if (a == b)
        return 1;
    if (a->values.n != b->values.n || a->instructions.n != b->instructions.n || a->operands.n != b->operands.n ||
        a->attrs.n != b->attrs.n || a->n_in != b->n_in || a->n_out != b->n_out ||
        memcmp(a->out, b->out, (size_t)a->n_out * sizeof *a->out))
        return 0;
    for (int k = 0; k < a->instructions.n; k++) {
        const instruction *m = &instructions_of(a)[k], *n = &instructions_of(b)[k];
        if (m->y != n->y || !fg_same_instruction(a, m, b, n))
            return 0;
    }
    for (int v = 0; v < a->values.n; v++) {
        const fg_array *x = values_of(a)[v].array, *y = values_of(b)[v].array;
        if (!x != !y || (x && !fg_same_array(x, y)))
            return 0;
    }
    return 1;
}

/* ---- references -------------------------------------------------------------------------------------------------- */
void fg_value_restore_number(value *v)
{
    if (v->numbered && v->array->trace != FG_TRACE_ENDED)
        v->array->trace = v->outer_number;
    v->numbered = 0;
}

void fg_value_release(value *v)
{
    if (!v->array)
        return;
    fg_value_restore_number(v);
    fg_array_unref(v->array);
    fg_node_unref(v->node);
    v->array = NULL;
    v->node = NULL;
}

void fg_values_release(fg_program *p, int keep_constants)
{
    for (int i = 0; i < p->values.n; i++) {
        value *v = &values_of(p)[i];
        if (!keep_constants || v->from != CONSTANT)
            fg_value_release(v);
        else if (v->array)
            fg_value_restore_number(v);
    }
}

fg_program *fg_program_ref(fg_program *p)
{
    p->refs++;
    return p;
}

void fg_program_free(fg_program *p)
{
    if (!p || --p->refs)
        return;
    int compiled = p->free_compiled != NULL;
    if (compiled)
        p->free_compiled(p);                    /* before the bodies, of which its replays hold replays */
    for (int i = 0; i < p->bodies.n; i++)
        fg_program_free(((fg_program **)p->bodies.item)[i]);
    free(p->bodies.item);
    fg_values_release(p, 0);
    free(p->out);
    free(p->values.item);
    free(p->instructions.item);
    free(p->operands.item);
    free(p->attrs.item);
    free(p->tracked.item);
    if (compiled && !p->body)
        fg_pool_empty();
    free(p);
}
