/* trace.c: operations traced while a function runs.
 *
 * Tracing is abstract: what depends on an input of a recording has a dtype and a shape but no elements, and the
 * operations on it are noted, not run. */
#include "record/ir.h"

#include <stdlib.h>

int fg_tracing;
static _Thread_local fg_program *tracing;

void *fg_list_add(list *l, size_t size)
{
    if (l->n == l->capacity) {
        int capacity = l->capacity ? 2 * l->capacity : 64;
        void *grown = realloc(l->item, (size_t)capacity * size);
        if (!grown) {
            fg_fail(FG_NO_MEMORY, "no memory for a program");
            return NULL;
        }
        l->item = grown;
        l->capacity = capacity;
    }
    return (char *)l->item + (size_t)l->n++ * size;
}

/* An array carries its value's number plus 1 in the innermost recording of its thread that knows it, negative if it
 * depends on no input of any; the value remembers what the array carried before, its number in an outer one. A
 * constant may carry that of another thread's recording: then it is unknown here, and becomes a new value each time. */
static int value_at(const fg_program *p, const fg_array *x, int trace)
{
    int v = abs(trace) - 1;
    return v >= 0 && v < p->values.n && values_of(p)[v].array == x ? v : -1;
}

static int value_of(const fg_program *p, const fg_array *x)
{
    int trace = x->trace;
    for (const fg_program *q = tracing; q != p; q = q->outer) {
        int v = value_at(q, x, trace);
        trace = v >= 0 ? values_of(q)[v].was : trace;
    }
    return value_at(p, x, trace);
}

static int known(const fg_array *x)
{
    for (const fg_program *p = tracing; p; p = p->outer)
        if (value_of(p, x) >= 0)
            return 1;
    return 0;
}

/* The innermost recording of this thread on whose inputs x depends, or NULL. */
static fg_program *owner_of(const fg_array *x)
{
    for (fg_program *p = tracing; p; p = p->outer) {
        int v = value_of(p, x);
        if (v >= 0 && values_of(p)[v].from != CONSTANT)
            return p;
    }
    return NULL;
}

static int add_value(fg_program *p, fg_array *x, origin from)
{
    int marked = !x->trace || (p == tracing && value_of(p, x) < 0 && known(x));
    value *v = fg_list_add(&p->values, sizeof *v);
    if (!v)
        return -1;
    *v = (value){.array = fg_array_ref(x), .from = from, .marked = marked, .was = x->trace};
    if (marked)
        x->trace = from == CONSTANT && x->trace <= 0 ? -p->values.n : p->values.n;
    return p->values.n - 1;
}

static int keeps_instructions(const fg_program *p) { return p->what != FG_PROGRAM; }

/* A constant has the elements of this moment, also where somebody else may write them later. */
static int add_constant(fg_program *p, fg_array *x, fg_node *node)
{
    if (fg_traced(x) && !keeps_instructions(p)) {
        fg_fail(FG_BAD_TAPE, "compile: a program reads a value of another recording, which is none of its inputs");
        return -1;
    }
    fg_array *copy = fg_array_root(x)->externally_mutable ? fg_array_copy(x) : fg_array_ref(x);
    int v = copy ? add_value(p, copy, CONSTANT) : -1;
    if (v >= 0 && node)
        values_of(p)[v].node = fg_node_ref(node);
    fg_array_unref(copy);
    return v;
}

static int none(void) { return fg_fail(FG_BAD_TAPE, "no program is being recorded in this thread"); }

static int elsewhere(void)
{
    return fg_fail(FG_BAD_TAPE, "compile: a tensor of a function that is being recorded is used in another thread, "
                   "where it cannot be recorded; let the function do its work in one thread");
}

int fg_trace_goes_on(const fg_array *x)
{
    char shape[FG_SHAPE_TEXT];
    return x->trace != FG_TRACE_ENDED ? FG_OK :
        fg_fail(FG_BAD_TAPE, "a tensor, of dtype %s and shape %s, is used outside of the function that made it while "
                "it was recorded by vmap or compile, or as the body of a loop or branch: there it stood for another "
                "value in each element, call or step; return what is needed from that function, or make it an argument",
                fg_dtype_name(x->dtype), fg_shape_text(x->shape, shape));
}

static int refuse(const fg_array *x) { return fg_trace_goes_on(x) ? FG_BAD_TAPE : elsewhere(); }

/* Notes tell what belongs to the transforms outside: a node that leads to nothing older than the recording is that of
 * a transform within, whose work the instructions are. */
static int tracked(const fg_program *p, const fg_node *node)
{
    return node && node->oldest_ancestor <= p->last_node_id;
}

static int operand_of(fg_program *p, fg_tensor x)
{
    int v = value_of(p, x.array);
    fg_node *node = keeps_instructions(p) && tracked(p, x.node) ? x.node : NULL;
    if (v < 0 && fg_traced(x.array) && !owner_of(x.array)) {
        refuse(x.array);
        return -1;
    }
    if (v < 0)
        return add_constant(p, x.array, node);
    if (!keeps_instructions(p) || values_of(p)[v].from != CONSTANT)
        return v;
    while (values_of(p)[v].node != node) {
        int twin = values_of(p)[v].twin;
        if (!twin) {
            if ((twin = add_constant(p, x.array, node)) < 0)
                return -1;
            values_of(p)[v].twin = twin;
        }
        v = twin;
    }
    return v;
}

int fg_trace_begin(fg_trace_kind what)
{
    fg_program *p = calloc(1, sizeof *p);
    if (!p)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    static uint32_t n_traces;
    if (!++n_traces)                        /* 0 is that of no recording */
        n_traces = 1;
    p->refs = 1;
    p->number = n_traces;
    p->what = what;
    p->last_node_id = fg_last_node_id();
    p->outer = tracing;
    p->depth = tracing ? tracing->depth + 1 : 0;
    tracing = p;
    fg_tracing++;
    return FG_OK;
}

fg_trace_kind fg_trace_here(void) { return tracing ? tracing->what : FG_NOTHING; }

int fg_trace_body(int first, int n, int stack_carry)
{
    if (!tracing)
        return none();
    tracing->body = 1;
    tracing->first_carried = first;
    tracing->n_carried = n;
    tracing->stack_carry = stack_carry;
    return FG_OK;
}

int fg_trace_spreading(int on)
{
    int was = tracing && tracing->spreading;
    if (tracing)
        tracing->spreading = on;
    return was;
}

int fg_trace_is_program(void)
{
    const fg_program *p = tracing;
    while (p && p->what == FG_MAPPED)
        p = p->outer;
    return p != NULL;
}

int fg_trace_compiles(void)
{
    const fg_program *p = tracing;
    while (p && p->what != FG_PROGRAM)
        p = p->outer;
    return p != NULL;
}

uint32_t fg_trace_number(void) { return tracing ? tracing->number : 0; }

/* Numbers grow, but may begin again: a recording within has a later one. */
int fg_trace_outside(const fg_array *x)
{
    return tracing && (!x->traced_in || (int32_t)(x->traced_in - tracing->number) < 0);
}

int fg_trace_outside_node(const fg_node *n) { return tracing && n->number <= tracing->last_node_id; }

int fg_trace_input(fg_array *x)
{
    if (!tracing)
        return none();
    tracing->n_in++;
    return add_value(tracing, x, INPUT) < 0 ? FG_NO_MEMORY : FG_OK;
}

static int within_body(void)
{
    const fg_program *p = tracing;
    while (p && p->what != FG_BODY && !p->body)
        p = p->outer;
    return p != NULL;
}

/* Is an operation noted whatever its operands are? A draw is, as it differs from run to run; and a loop of unknown
 * length in the body of a loop or branch is, as no call may get there, and the loop may not end; and what the derivatives
 * of a batch put among zeros (fg_trace_spreading). */
static int is_staged(int op, const int64_t *attr)
{
    if (!tracing)
        return 0;
    int spreads = op == FG_OP_unslice || op == FG_OP_untake;
    return fg_draws(op, attr) || (spreads && tracing->spreading) || (op == FG_OP_while_loop && within_body());
}

int fg_trace_is_abstract(const fg_call *c)
{
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i].array && fg_traced(c->in[i].array))
            return 1;
    return is_staged(c->op, c->attr);
}

static int append_instruction(fg_program *p, const fg_call *c, fg_array *y)
{
    int in = p->operands.n, attr = p->attrs.n;
    for (int i = 0; i < c->n_in; i++) {
        int v = c->in[i].array ? operand_of(p, c->in[i]) : -1;
        if (c->in[i].array && v < 0)
            return fg_failed();
        int *operand = fg_list_add(&p->operands, sizeof *operand);
        char *flag = operand && keeps_instructions(p) ? fg_list_add(&p->tracked, sizeof *flag) : NULL;
        if (!operand || (keeps_instructions(p) && !flag))
            return FG_NO_MEMORY;
        *operand = v;
        if (flag)
            *flag = (char)tracked(p, c->in[i].node);
    }
    for (int i = 0; i < c->n_attr; i++) {
        int64_t *a = fg_list_add(&p->attrs, sizeof *a);
        if (!a)
            return FG_NO_MEMORY;
        *a = c->attr[i];
    }
    for (int i = 0; i < fg_n_bodies(c->op); i++) {
        fg_program **body = fg_list_add(&p->bodies, sizeof *body);
        if (!body)
            return FG_NO_MEMORY;
        *body = fg_program_ref(fg_body(c->attr, i));
    }
    instruction *n = fg_list_add(&p->instructions, sizeof *n);
    int result = n ? add_value(p, y, RESULT) : -1;
    if (result < 0)
        return FG_NO_MEMORY;
    *n = (instruction){c->op, c->n_in, c->n_attr, result, in, attr};
    return FG_OK;
}

int fg_trace_keeps_instructions(int n_in, const fg_tensor *in)
{
    const fg_program *p = NULL;
    for (int i = 0; i < n_in; i++) {
        const fg_program *owner = fg_traced(in[i].array) ? owner_of(in[i].array) : NULL;
        if (owner && (!p || owner->depth > p->depth))
            p = owner;
    }
    return p && keeps_instructions(p);
}

int fg_trace_append(const fg_call *c, fg_array *y)
{
    fg_program *p = is_staged(c->op, c->attr) ? tracing : NULL;
    int status = FG_OK;
    for (int i = 0; i < c->n_in && !status; i++) {
        if (!c->in[i].array || !fg_traced(c->in[i].array))
            continue;
        fg_program *owner = owner_of(c->in[i].array);
        if (!owner)
            status = refuse(c->in[i].array);
        else if (!p || owner->depth > p->depth)
            p = owner;
    }
    if (!status && p)
        status = append_instruction(p, c, y);
    p = p ? p : tracing;
    if (status && p && !p->status)
        p->status = status;
    return status;
}

static void unmark(value *v)
{
    if (v->marked && v->array->trace != FG_TRACE_ENDED)
        v->array->trace = v->was;
    v->marked = 0;
}

void fg_value_release(value *v)
{
    if (!v->array)
        return;
    unmark(v);
    fg_array_unref(v->array);
    fg_node_unref(v->node);
    v->array = NULL;
    v->node = NULL;
}

static void forget(fg_program *p, int keep_constants)
{
    for (int i = 0; i < p->values.n; i++) {
        value *v = &values_of(p)[i];
        if (!keep_constants || v->from != CONSTANT)
            fg_value_release(v);
        else if (v->array)
            unmark(v);
    }
}

/* Values that somebody still holds are marked for the rest of their lives: to use them is an error. */
static void mark_kept(const fg_program *p)
{
    for (int i = 0; i < p->values.n; i++) {
        fg_array *x = values_of(p)[i].array;
        if (values_of(p)[i].from != CONSTANT && x->refs > 1)
            x->trace = FG_TRACE_ENDED;
    }
}

static fg_program *end(void)
{
    fg_program *p = tracing;
    if (p) {
        tracing = p->outer;                   /* letting go of foreign memory may run any code */
        mark_kept(p);
        fg_tracing--;
    }
    return p;
}

void fg_trace_abort(void)
{
    fg_program *p = end();
    if (p) {
        forget(p, 0);
        fg_program_free(p);
    }
}

int fg_trace_end(int n_out, fg_array *const *out, int n_kept, fg_program **made)
{
    fg_program *p = tracing;
    if (!p)
        return none();
    int status = p->status;
    p->out = malloc((size_t)(n_out + 1) * sizeof *p->out);
    if (!p->out)
        status = fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int i = 0; !status && i < n_out; i++) {
        p->out[i] = operand_of(p, (fg_tensor){out[i], NULL});
        if (p->out[i] < 0)
            status = fg_failed();
    }
    p->n_out = n_out;
    p->n_kept = n_kept;
    end();
    p->n_traced = p->instructions.n;
    if (!status)
        status = fg_program_simplify(p);
    int n_values = p->values.n;
    if (!status)
        status = fg_program_lower(p);
    p->values.n = n_values;                     /* `forget` looks at values only, not at places that the plan added */
    forget(p, !status);
    if (status) {
        fg_program_free(p);
        return status;
    }
    *made = p;
    return FG_OK;
}

int fg_trace_find(const fg_array *x, fg_program **p)
{
    *p = owner_of(x);
    return *p ? value_of(*p, x) : -1;
}

uint32_t fg_trace_number_of(const fg_program *p) { return p->number; }

/* ---- instructions ------------------------------------------------------------------------------------------------------ */
int fg_trace_end_instructions(fg_program **made)
{
    fg_program *p = end();
    if (!p)
        return none();
    int status = p->status;
    forget(p, !status);
    if (status)
        fg_program_free(p);
    else
        *made = p;
    return status;
}

int fg_trace_value(const fg_array *x)
{
    int v = tracing ? value_of(tracing, x) : -1;
    return v >= 0 && values_of(tracing)[v].from != CONSTANT ? v : -1;
}

int fg_trace_tracked(fg_tensor x) { return tracing && tracked(tracing, x.node); }

fg_instructions_size fg_instructions_count(const fg_program *p) { return (fg_instructions_size){p->values.n, p->instructions.n}; }

fg_instruction fg_instructions_get(const fg_program *p, int i)
{
    const instruction *n = &instructions_of(p)[i];
    return (fg_instruction){n->op, n->y, n->n_in, n->n_attr, operands_of(p, n), (char *)p->tracked.item + n->in,
                     attrs_of(p, n)};
}

fg_tensor fg_instructions_constant(const fg_program *p, int v)
{
    const value *x = &values_of(p)[v];
    return x->from == CONSTANT ? (fg_tensor){x->array, x->node} : (fg_tensor){0};
}
