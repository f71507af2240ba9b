/* trace.c: tracing: while a function runs, each operation that depends on the trace's inputs becomes an instruction.
 *
 * An array carries the number of its value in the trace: its index plus 1 in the innermost trace of its thread that
 * knows it, negated if it depends on no input of any. The value remembers what the array carried before, its number in
 * an outer trace. A constant may carry its number in another thread's trace: then it is unknown here, and becomes a new
 * value each time that it is used.
 *
 * What depends on an input of a trace is abstract: it has a dtype and a shape but no elements, and operations on it
 * become instructions and do not run.
 */
#include "core/debug.h"
#include "record/ir.h"

#include <stdlib.h>

/* ---- from arrays to values --------------------------------------------------------------------------------------- */
/* The value of x in trace p, if `trace` is the number that x carries there; or -1. */
static int value_at(const fg_program *p, const fg_array *x, int trace)
{
    int v = abs(trace) - 1;
    return v >= 0 && v < p->values.n && values_of(p)[v].array == x ? v : -1;
}

/* The value of x in trace p, or -1. What x carries belongs to the innermost trace that knows x: each trace between that
 * and p tells the number in the next outer one. */
static int value_of(const fg_program *p, const fg_array *x)
{
    int trace = x->trace;
    for (const fg_program *q = fg_thread.trace; q != p; q = q->outer) {
        int v = value_at(q, x, trace);
        trace = v >= 0 ? values_of(q)[v].outer_number : trace;
    }
    return value_at(p, x, trace);
}

static int is_known(const fg_array *x)
{
    for (const fg_program *p = fg_thread.trace; p; p = p->outer)
        if (value_of(p, x) >= 0)
            return 1;
    return 0;
}

/* The innermost trace of this thread on whose inputs x depends, or NULL. */
static fg_program *owner_of(const fg_array *x)
{
    for (fg_program *p = fg_thread.trace; p; p = p->outer) {
        int v = value_of(p, x);
        if (v >= 0 && values_of(p)[v].from != CONSTANT)
            return p;
    }
    return NULL;
}

/* A new value for x, whose number x carries from now on, unless x is a constant that carries one of another thread. */
static int add_value(fg_program *p, fg_array *x, origin from)
{
    int numbered = !x->trace || (p == fg_thread.trace && value_of(p, x) < 0 && is_known(x));
    value *v = fg_list_add(&p->values, sizeof *v);
    if (!v)
        return -1;
    *v = (value){.array = fg_array_ref(x), .from = from, .numbered = numbered, .outer_number = x->trace};
    if (numbered)
        x->trace = from == CONSTANT && x->trace <= 0 ? -p->values.n : p->values.n;
    return p->values.n - 1;
}

static int keeps_instructions(const fg_program *p) { return p->what != FG_PROGRAM; }

/* Will the elements of x, which is a constant, be there as they are? Others may write its memory later; live memory is
 * shared as a whole, so that traces around this one know it by its array, but not a part of it. */
static int keeps_its_elements(const fg_array *x)
{
    const fg_array *root = fg_array_root(x);
    return root->live ? x == root : !root->externally_mutable;
}

/* A constant keeps the elements that it has at this moment, even where others may write the memory later: then it is a
 * copy. */
static int add_constant(fg_program *p, fg_array *x, fg_node *node)
{
    if (fg_traced(x) && !keeps_instructions(p)) {
        fg_fail(FG_BAD_TAPE, "compile: a program reads a value of another trace, which is none of its inputs");
        return -1;
    }
    fg_array *copy = keeps_its_elements(x) ? fg_array_ref(x) : fg_array_copy(x);
    int v = copy ? add_value(p, copy, CONSTANT) : -1;
    if (v >= 0 && node)
        values_of(p)[v].node = fg_node_ref(node);
    fg_array_unref(copy);
    return v;
}

static int not_tracing(void) { return fg_fail(FG_BAD_TAPE, "no program is being traced in this thread"); }

static int of_other_thread(void)
{
    return fg_fail(FG_BAD_TAPE, "compile: a tensor of a function that is being traced is used in another thread, "
                                "where it cannot be traced; let the function do its work in one thread");
}

int fg_trace_check_leaked(const fg_array *x)
{
    char shape[FG_SHAPE_TEXT];
    return x->trace != FG_TRACE_ENDED
               ? FG_OK
               : fg_fail(FG_BAD_TAPE,
                         "a tensor, of dtype %s and shape %s, is used outside of the function that made it while "
                         "it was traced by vmap or compile, or as the body of a loop or branch: there it stood for "
                         "another value in each element, call or step; return what is needed from that function, or "
                         "make it an argument",
                         fg_dtype_name(x->dtype), fg_shape_text(x->shape, shape));
}

static int refuse(const fg_array *x) { return fg_trace_check_leaked(x) ? FG_BAD_TAPE : of_other_thread(); }

/* Does a transform from outside the trace track this node? It does if the node leads to one that is older than the
 * trace; any other node belongs to a transform inside, whose work is among the instructions. */
static int is_tracked(const fg_program *p, const fg_node *node)
{
    return node && node->oldest_ancestor <= p->last_node_id;
}

/* The value of x as an operand, added as a constant where it is unknown; -1: it fails. In a trace of instructions, a
 * constant that comes with several nodes has a value for each. */
static int operand_of(fg_program *p, fg_tensor x)
{
    int v = value_of(p, x.array);
    fg_node *node = keeps_instructions(p) && is_tracked(p, x.node) ? x.node : NULL;
    if (v < 0 && fg_traced(x.array) && !owner_of(x.array)) {
        refuse(x.array);
        return -1;
    }
    if (v < 0)
        return add_constant(p, x.array, node);
    if (!keeps_instructions(p) || values_of(p)[v].from != CONSTANT)
        return v;
    while (values_of(p)[v].node != node) {
        int next = values_of(p)[v].next_same_array;
        if (!next) {
            if ((next = add_constant(p, x.array, node)) < 0)
                return -1;
            values_of(p)[v].next_same_array = next;
        }
        v = next;
    }
    return v;
}

/* ---- beginning, and asking --------------------------------------------------------------------------------------- */
static void make_innermost(fg_program *p)
{
    fg_thread.trace = p;
    fg_thread.trace_number = p ? p->number : 0;
}

int fg_trace_begin(fg_trace_kind what)
{
    fg_program *p = calloc(1, sizeof *p);
    if (!p)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    static uint32_t n_traces;
    if (!++n_traces)                        /* 0 stands for no trace */
        n_traces = 1;
    p->refs = 1;
    p->number = n_traces;
    p->what = what;
    p->last_node_id = fg_last_node_id();
    p->outer = fg_thread.trace;
    p->depth = fg_thread.trace ? fg_thread.trace->depth + 1 : 0;
    make_innermost(p);
    fg_tracing++;
    return FG_OK;
}

fg_trace_kind fg_trace_here(void) { return fg_thread.trace ? fg_thread.trace->what : FG_NOTHING; }

int fg_transforming(void) { return fg_thread.transform != 0 || fg_thread.trace; }

int fg_trace_body(int first, int n, int stack_carry)
{
    if (!fg_thread.trace)
        return not_tracing();
    fg_thread.trace->body = 1;
    fg_thread.trace->first_carried = first;
    fg_thread.trace->n_carried = n;
    fg_thread.trace->stack_carry = stack_carry;
    return FG_OK;
}

int fg_trace_defer_zeros(int on)
{
    fg_program *p = fg_thread.trace;
    int before = p && p->defers_zeros;
    if (p)
        p->defers_zeros = on;
    return before;
}

int fg_trace_is_program(void)
{
    const fg_program *p = fg_thread.trace;
    while (p && p->what == FG_MAPPED)
        p = p->outer;
    return p != NULL;
}

int fg_trace_compiles(void)
{
    const fg_program *p = fg_thread.trace;
    while (p && p->what != FG_PROGRAM)
        p = p->outer;
    return p != NULL;
}

uint32_t fg_trace_number(void) { return fg_thread.trace_number; }

int fg_trace_count(int op)
{
    int found = 0;
    for (const fg_program *p = fg_thread.trace; p; p = p->outer)
        for (int i = 0; i < p->instructions.n; i++)
            found += instructions_of(p)[i].op == op;
    return found;
}

/* Numbers grow, and begin again at 1 after 2^32 traces, so that they are compared by their difference: a trace inside
 * another has the later number. */
int fg_trace_outside(const fg_array *x)
{
    return fg_thread.trace && (!x->traced_in || (int32_t)(x->traced_in - fg_thread.trace->number) < 0);
}

int fg_trace_outside_node(const fg_node *n) { return fg_thread.trace && n->number <= fg_thread.trace->last_node_id; }

int fg_trace_input(fg_array *x)
{
    if (!fg_thread.trace)
        return not_tracing();
    fg_thread.trace->n_in++;
    return add_value(fg_thread.trace, x, INPUT) < 0 ? FG_NO_MEMORY : FG_OK;
}

int fg_trace_live_input(fg_array *x)
{
    x->live = 1;
    x->externally_mutable = 0;
    x->traced_in = 0;
    return fg_trace_input(x);
}

int fg_program_reads(const fg_program *p, int v)
{
    for (int i = 0; i < p->operands.n; i++)
        if (((const int *)p->operands.item)[i] == v)
            return 1;
    for (int i = 0; i < p->n_out; i++)
        if (p->out[i] == v)
            return 1;
    return 0;
}

static int within_body(void)
{
    const fg_program *p = fg_thread.trace;
    while (p && p->what != FG_BODY && !p->body)
        p = p->outer;
    return p != NULL;
}

/* Does an operation belong to the innermost trace even if no operand does? A draw does, because its result differs from
 * call to call. A loop of unknown length in the body of a loop or branch does: the call may never get there, and then
 * the loop may not end. What puts elements among zeros does if fg_trace_defer_zeros asks for it. */
static int is_staged(int op, const int64_t *attr)
{
    if (!fg_thread.trace)
        return 0;
    int spreads = op == FG_OP_unslice || op == FG_OP_untake;
    return fg_draws(op, attr) || (spreads && fg_thread.trace->defers_zeros) ||
           (op == FG_OP_while_loop && within_body());
}

/* Does an operation on x become an instruction? On live memory it does in a pass over the tape, whose values nobody
 * asks for: what it computes of such memory and of constants is to follow the memory. The function's own operations on
 * it run. */
static int is_operand_of_trace(const fg_array *x) { return fg_traced(x) || (x->live && fg_thread.in_pass); }

int fg_trace_is_abstract(const fg_call *c)
{
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i].array && is_operand_of_trace(c->in[i].array))
            return 1;
    return is_staged(c->op, c->attr);
}

/* ---- appending --------------------------------------------------------------------------------------------------- */
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
            *flag = (char)is_tracked(p, c->in[i].node);
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
    FG_ASSERT(p->operands.n == in + c->n_in && p->attrs.n == attr + c->n_attr);
    FG_ASSERT(p->tracked.n == (keeps_instructions(p) ? p->operands.n : 0));
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
    fg_program *p = is_staged(c->op, c->attr) ? fg_thread.trace : NULL;
    int status = FG_OK;
    for (int i = 0; i < c->n_in && !status; i++) {
        if (!c->in[i].array || !is_operand_of_trace(c->in[i].array))
            continue;
        fg_program *owner = owner_of(c->in[i].array);
        if (!owner)
            status = refuse(c->in[i].array);
        else if (!p || owner->depth > p->depth)
            p = owner;
    }
    if (!status && p)
        status = append_instruction(p, c, y);
    p = p ? p : fg_thread.trace;
    if (status && p && !p->status)
        p->status = status;
    return status;
}

/* ---- ending ------------------------------------------------------------------------------------------------------ */
/* Arrays that depend on an input and that somebody still holds are marked for the rest of their lives: they have leaked
 * from the traced function, and operations refuse them. */
static void mark_leaked(const fg_program *p)
{
    for (int i = 0; i < p->values.n; i++) {
        fg_array *x = values_of(p)[i].array;
        if (values_of(p)[i].from != CONSTANT && fg_traced(x) && x->refs > 1)
            x->trace = FG_TRACE_ENDED;
    }
}

static fg_program *end(void)
{
    fg_program *p = fg_thread.trace;
    if (p) {
        make_innermost(p->outer);               /* at once: to release foreign memory may run any code */
        mark_leaked(p);
        fg_tracing--;
        FG_ASSERT(fg_tracing >= p->depth);
    }
    return p;
}

void fg_trace_abort(void)
{
    fg_program *p = end();
    if (p) {
        fg_values_release(p, 0);
        fg_program_free(p);
    }
}

/* From the end of the trace on live inputs are abstract as the others are. */
static int forget_elements(fg_program *p)
{
    for (int i = 0; i < p->n_in; i++) {
        value *v = &values_of(p)[i];
        fg_array *x = fg_traced(v->array) ? v->array : fg_array_abstract(v->array->shape, v->array->dtype);
        if (!x)
            return fg_failed();
        if (x != v->array)
            fg_array_unref(v->array);
        v->array = x;
    }
    return FG_OK;
}

int fg_trace_end(int n_out, fg_array *const *out, int n_gradients, fg_program **made)
{
    fg_program *p = fg_thread.trace;
    if (!p)
        return not_tracing();
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
    p->n_gradients = n_gradients;
    end();
    p->n_traced = p->instructions.n;
    if (status) {
        fg_values_release(p, 0);
        fg_program_free(p);
        return status;
    }
    for (int i = 0; i < p->values.n; i++)
        fg_value_restore_number(&values_of(p)[i]);
    if ((status = forget_elements(p))) {
        fg_values_release(p, 0);
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

/* ---- bare instructions ------------------------------------------------------------------------------------------- */
int fg_trace_end_instructions(fg_program **made)
{
    fg_program *p = end();
    if (!p)
        return not_tracing();
    int status = p->status;
    fg_values_release(p, !status);
    if (status)
        fg_program_free(p);
    else
        *made = p;
    return status;
}

int fg_trace_value(const fg_array *x)
{
    int v = fg_thread.trace ? value_of(fg_thread.trace, x) : -1;
    return v >= 0 && values_of(fg_thread.trace)[v].from != CONSTANT ? v : -1;
}

int fg_trace_tracked(fg_tensor x) { return fg_thread.trace && is_tracked(fg_thread.trace, x.node); }

fg_instructions_size fg_instructions_count(const fg_program *p)
{
    return (fg_instructions_size){p->values.n, p->instructions.n};
}

fg_instruction fg_instructions_get(const fg_program *p, int i)
{
    const instruction *n = &instructions_of(p)[i];
    return (fg_instruction){n->op,         n->y, n->n_in, n->n_attr, operands_of(p, n), (char *)p->tracked.item + n->in,
                            attrs_of(p, n)};
}

fg_tensor fg_instructions_constant(const fg_program *p, int v)
{
    const value *x = &values_of(p)[v];
    return x->from == CONSTANT ? (fg_tensor){x->array, x->node} : (fg_tensor){0};
}
