/* record.c: operations noted down while a function runs. */
#include "recording.h"

#include <stdlib.h>

int fg_tracing;
static _Thread_local fg_program *recording;

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

/* An array of the recording carries its value's number plus 1, a constant the negative of that. A constant may carry
 * that of another thread's recording: then it is unknown here, and becomes a new value each time. */
static int value_of(const fg_array *x)
{
    int v = abs(x->trace) - 1;
    return v >= 0 && v < recording->values.n && values_of(recording)[v].array == x ? v : -1;
}

static int add_value(fg_array *x, origin from)
{
    value *v = fg_list_add(&recording->values, sizeof *v);
    if (!v)
        return -1;
    *v = (value){fg_array_ref(x), from, !x->trace};
    if (v->marked)
        x->trace = from == CONSTANT ? -recording->values.n : recording->values.n;
    return recording->values.n - 1;
}

/* A constant has the elements of this moment, also where somebody else may write them later. */
static int add_constant(fg_array *x)
{
    if (!fg_array_root(x)->unstable)
        return add_value(x, CONSTANT);
    fg_array *copy = fg_array_copy(x);
    int v = copy ? add_value(copy, CONSTANT) : -1;
    fg_array_unref(copy);
    return v;
}

static int elsewhere(void)
{
    return fg_fail(FG_BAD_TAPE, "compile: a tensor of a function that is being recorded is used in another thread, where "
                   "it cannot be recorded; let the function do its work in one thread");
}

static int operand_of(fg_array *x)
{
    int v = value_of(x);
    if (v >= 0)
        return v;
    if (fg_traced(x)) {
        elsewhere();
        return -1;
    }
    return add_constant(x);
}

int fg_trace_begin(void)
{
    if (recording)
        return fg_fail(FG_BAD_TAPE, "a program is already being recorded in this thread");
    recording = calloc(1, sizeof *recording);
    if (!recording)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    static uint32_t n_recordings;
    if (!++n_recordings)                        /* 0 is that of no recording */
        n_recordings = 1;
    recording->number = n_recordings;
    fg_tracing++;
    return FG_OK;
}

int fg_trace_here(void) { return recording != NULL; }

uint32_t fg_trace_number(void) { return recording ? recording->number : 0; }

int fg_trace_outside(const fg_array *x) { return recording && x->recorded_in != recording->number; }

int fg_trace_input(fg_array *x)
{
    if (!recording)
        return fg_fail(FG_BAD_TAPE, "no program is being recorded in this thread");
    recording->n_in++;
    return add_value(x, INPUT) < 0 ? FG_NO_MEMORY : FG_OK;
}

int fg_traced(const fg_array *x)
{
    return x->trace > 0;
}

static int write_note(const fg_call *c, fg_array *y)
{
    int in = recording->operands.n, attr = recording->attrs.n;
    for (int i = 0; i < c->n_in; i++) {
        fg_array *x = c->in[i].array;
        int *operand = fg_list_add(&recording->operands, sizeof *operand);
        if (!operand)
            return FG_NO_MEMORY;
        *operand = x ? operand_of(x) : -1;
        if (x && *operand < 0)
            return fg_failed();
    }
    for (int i = 0; i < c->n_attr; i++) {
        int64_t *a = fg_list_add(&recording->attrs, sizeof *a);
        if (!a)
            return FG_NO_MEMORY;
        *a = c->attr[i];
    }
    note *n = fg_list_add(&recording->notes, sizeof *n);
    int result = n ? add_value(y, RESULT) : -1;
    if (result < 0)
        return FG_NO_MEMORY;
    *n = (note){c->op, c->n_in, c->n_attr, result, in, attr};
    return FG_OK;
}

int fg_trace_note(const fg_call *c, fg_array *y)
{
    int depends = recording && c->op == FG_OP_random;      /* differs from call to call */
    for (int i = 0; i < c->n_in; i++)
        depends = depends || (c->in[i].array && fg_traced(c->in[i].array));
    if (depends && !recording)
        return elsewhere();
    int status = depends ? write_note(c, y) : FG_OK;
    if (status && !recording->status)
        recording->status = status;
    return status;
}

static void unmark(value *v)
{
    if (v->marked)
        v->array->trace = 0;
    v->marked = 0;
}

void fg_value_release(value *v)
{
    if (!v->array)
        return;
    unmark(v);
    fg_array_unref(v->array);
    v->array = NULL;
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

void fg_trace_abort(void)
{
    fg_program *p = recording;
    recording = NULL;
    if (p) {
        fg_tracing--;
        forget(p, 0);
        fg_program_free(p);
    }
}

int fg_trace_end(int n_out, fg_array *const *out, int n_kept, fg_program **made)
{
    fg_program *p = recording;
    if (!p)
        return fg_fail(FG_BAD_TAPE, "no program is being recorded in this thread");
    int status = p->status;
    p->out = malloc((size_t)(n_out + 1) * sizeof *p->out);
    if (!p->out)
        status = fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int i = 0; !status && i < n_out; i++) {
        p->out[i] = operand_of(out[i]);
        if (p->out[i] < 0)
            status = fg_failed();
    }
    p->n_out = n_out;
    p->n_kept = n_kept;
    recording = NULL;                           /* letting go of foreign memory may run any code */
    fg_tracing--;
    int n_values = p->values.n;
    p->n_recorded = p->notes.n;
    if (!status && !(status = fg_program_simplify(p)))
        status = fg_program_plan(p);
    p->values.n = n_values;                     /* `forget` looks at what was recorded only */
    forget(p, !status);
    if (status) {
        fg_program_free(p);
        return status;
    }
    *made = p;
    return FG_OK;
}
