/* program.c: recorded operations, made ready once and replayed many times. */
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 1024,               /* elements that a fused group works on at a time: a few operands fit the L1 cache */
    FUSE_FROM = 2 * BLOCK,      /* shorter operands are in cache anyway */
    ALIGN = 64
};

/* ---- what a recording holds ------------------------------------------------------------------------------ */
typedef enum { INPUT, CONSTANT, RESULT } origin;

typedef struct {
    fg_array *array;            /* held while recording; afterwards only if it is a constant */
    origin from;
    int marked;                 /* array->trace is this value's number */
} value;

typedef struct {
    int op, n_in, n_attr, y;
    int in;                     /* where its operands start in the list of operands; -1 there: a missing one */
    int attr;                   /* where its attributes start */
} note;

typedef struct { int n, capacity; void *item; } list;

struct fg_program {
    list values, notes, operands, attrs;        /* of value, note, int, int64_t */
    int n_in, n_out, n_views;
    int *out;                                   /* the value each output is */
    int *view;                                  /* the values that look into another's memory */
    struct slot *slot;                          /* one a value */
    struct step *step;
    int n_steps, n_recorded;
    int status;                 /* of the first note that failed: then the recording is not whole */
    char *arena;
    int64_t arena_bytes, separate_bytes;
};

int fg_tracing;
static _Thread_local fg_program *recording;

static void *add(list *l, size_t size)
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

static value *values_of(const fg_program *p) { return p->values.item; }
static note *notes_of(const fg_program *p) { return p->notes.item; }
static int *operands_of(const fg_program *p, const note *n) { return (int *)p->operands.item + n->in; }
static int64_t *attrs_of(const fg_program *p, const note *n) { return (int64_t *)p->attrs.item + n->attr; }

/* ---- recording ------------------------------------------------------------------------------------------- */
/* An array of the recording carries its value's number plus 1, a constant the negative of that. A constant may carry
 * that of another thread's recording: then it is unknown here, and becomes a new value each time. */
static int value_of(const fg_array *x)
{
    int v = abs(x->trace) - 1;
    return v >= 0 && v < recording->values.n && values_of(recording)[v].array == x ? v : -1;
}

static int add_value(fg_array *x, origin from)
{
    value *v = add(&recording->values, sizeof *v);
    if (!v)
        return -1;
    *v = (value){fg_array_ref(x), from, !x->trace};
    if (v->marked)
        x->trace = from == CONSTANT ? -recording->values.n : recording->values.n;
    return recording->values.n - 1;
}

static const fg_array *memory_of(const fg_array *x) { return x->storage == FG_VIEW ? x->owner : x; }

/* A constant has the elements of this moment, also where somebody else may write them later. */
static int add_constant(fg_array *x)
{
    if (!memory_of(x)->unstable)
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
    fg_tracing++;
    return FG_OK;
}

int fg_trace_here(void) { return recording != NULL; }

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
        int *operand = add(&recording->operands, sizeof *operand);
        if (!operand)
            return FG_NO_MEMORY;
        *operand = x ? operand_of(x) : -1;
        if (x && *operand < 0)
            return fg_failed();
    }
    for (int i = 0; i < c->n_attr; i++) {
        int64_t *a = add(&recording->attrs, sizeof *a);
        if (!a)
            return FG_NO_MEMORY;
        *a = c->attr[i];
    }
    note *n = add(&recording->notes, sizeof *n);
    int result = n ? add_value(y, RESULT) : -1;
    if (result < 0)
        return FG_NO_MEMORY;
    *n = (note){c->op, c->n_in, c->n_attr, result, in, attr};
    return FG_OK;
}

int fg_trace_note(const fg_call *c, fg_array *y)
{
    int depends = 0;
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

static void let_go(value *v)
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
            let_go(v);
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

/* ---- values used twice, values not used ---------------------------------------------------------------------- */
static uint64_t mix(uint64_t h, uint64_t x) { return (h ^ x) * 0x9E3779B97F4A7C15u ^ h >> 29; }

static uint64_t hash_note(const fg_program *p, const note *n)
{
    uint64_t h = mix(0, (uint64_t)n->op);
    for (int i = 0; i < n->n_in; i++)
        h = mix(h, (uint64_t)(uint32_t)operands_of(p, n)[i]);
    for (int i = 0; i < n->n_attr; i++)
        h = mix(h, (uint64_t)attrs_of(p, n)[i]);
    return h;
}

static int same_note(const fg_program *p, const note *a, const fg_program *q, const note *b)
{
    return a->op == b->op && a->n_in == b->n_in && a->n_attr == b->n_attr &&
           !memcmp(operands_of(p, a), operands_of(q, b), (size_t)a->n_in * sizeof(int)) &&
           (!a->n_attr || !memcmp(attrs_of(p, a), attrs_of(q, b), (size_t)a->n_attr * sizeof(int64_t)));
}

static size_t data_bytes(const fg_array *x) { return (size_t)x->shape->size * fg_itemsize(x->dtype); }

static int same_array(const fg_array *x, const fg_array *y)
{
    return x->dtype == y->dtype && fg_shape_equal(x->shape, y->shape) && !memcmp(x->data, y->data, data_bytes(x));
}

/* Of a large array the first elements tell enough. */
static uint64_t hash_array(const fg_array *x)
{
    const uint8_t *c = x->data;
    size_t bytes = data_bytes(x);
    uint64_t h = mix(x->dtype, (uint64_t)x->shape->size);
    for (size_t i = 0; i < bytes && i < 256; i++)
        h = mix(h, c[i]);
    return h ^ h >> 32;
}

/* same[v] becomes the first constant with the elements of constant v. */
static void merge_constants(fg_program *p, int size, int *table, int *same)
{
    for (int i = 0; i < size; i++)
        table[i] = -1;
    for (int v = 0; v < p->values.n; v++) {
        if (values_of(p)[v].from != CONSTANT)
            continue;
        const fg_array *x = values_of(p)[v].array;
        int at = (int)(hash_array(x) & (uint64_t)(size - 1));
        while (table[at] >= 0 && !same_array(x, values_of(p)[table[at]].array))
            at = (at + 1) & (size - 1);
        if (table[at] >= 0)
            same[v] = table[at];
        else
            table[at] = v;
    }
}

/* Let every operand and output name the first value computed in its way. */
static int merge_equal(fg_program *p)
{
    int n = p->notes.n, size = 16;
    while (size < 2 * p->values.n)              /* each note has made a value */
        size *= 2;
    int *table = malloc((size_t)size * sizeof *table), *same = malloc((size_t)p->values.n * sizeof *same);
    if (!table || !same) {
        free(table);
        free(same);
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    }
    for (int i = 0; i < p->values.n; i++)
        same[i] = i;
    merge_constants(p, size, table, same);
    for (int i = 0; i < size; i++)
        table[i] = -1;
    for (int k = 0; k < n; k++) {
        note *a = &notes_of(p)[k];
        for (int i = 0; i < a->n_in; i++)
            if (operands_of(p, a)[i] >= 0)
                operands_of(p, a)[i] = same[operands_of(p, a)[i]];
        int at = (int)(hash_note(p, a) & (uint64_t)(size - 1));
        while (table[at] >= 0 && !same_note(p, a, p, &notes_of(p)[table[at]]))
            at = (at + 1) & (size - 1);
        if (table[at] >= 0)
            same[a->y] = notes_of(p)[table[at]].y;
        else
            table[at] = k;
    }
    for (int i = 0; i < p->n_out; i++)
        p->out[i] = same[p->out[i]];
    free(table);
    free(same);
    return FG_OK;
}

/* Does a transpose exchange just the last two axes? Then a product can read its operand transposed. */
static int swaps_last_two(const fg_program *p, const note *t)
{
    const int64_t *order = attrs_of(p, t);
    int n = t->n_attr;
    for (int i = 0; i < n - 2; i++)
        if (order[i] != i)
            return 0;
    return n >= 2 && order[n - 2] == n - 1 && order[n - 1] == n - 2;
}

/* Products of transposed copies become products with a flag. */
static int absorb_transposes(fg_program *p)
{
    int *maker = malloc((size_t)p->values.n * sizeof *maker);
    if (!maker)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int v = 0; v < p->values.n; v++)
        maker[v] = -1;
    for (int k = 0; k < p->notes.n; k++) {
        note *a = &notes_of(p)[k];
        maker[a->y] = k;
        for (int i = 0; a->op == FG_OP_matmul && i < 2; i++) {
            int m = maker[operands_of(p, a)[i]];
            const note *t = m < 0 ? NULL : &notes_of(p)[m];
            if (t && t->op == FG_OP_transpose && swaps_last_two(p, t)) {
                operands_of(p, a)[i] = operands_of(p, t)[0];
                attrs_of(p, a)[i] ^= 1;
            }
        }
    }
    free(maker);
    return FG_OK;
}

/* Keep the notes that an output needs, in their order, and the constants. */
static int drop_unused(fg_program *p)
{
    char *used = calloc((size_t)p->values.n + 1, 1);
    if (!used)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int i = 0; i < p->n_out; i++)
        used[p->out[i]] = 1;
    for (int k = p->notes.n - 1; k >= 0; k--) {
        const note *a = &notes_of(p)[k];
        for (int i = 0; used[a->y] && i < a->n_in; i++)
            if (operands_of(p, a)[i] >= 0)
                used[operands_of(p, a)[i]] = 1;
    }
    int kept = 0;
    for (int k = 0; k < p->notes.n; k++)
        if (used[notes_of(p)[k].y])
            notes_of(p)[kept++] = notes_of(p)[k];
    p->notes.n = kept;
    for (int v = 0; v < p->values.n; v++)
        if (values_of(p)[v].from == CONSTANT && !used[v])
            let_go(&values_of(p)[v]);
    free(used);
    return FG_OK;
}

/* A constant in memory that is not ours gets memory of its own: what lies there may change after the recording. */
static int own_constants(fg_program *p)
{
    for (int i = 0; i < p->values.n; i++) {
        value *v = &values_of(p)[i];
        if (v->from != CONSTANT || !v->array || memory_of(v->array)->storage != FG_FOREIGN)
            continue;
        fg_array *copy = fg_array_copy(v->array);
        if (!copy)
            return FG_NO_MEMORY;
        let_go(v);
        v->array = copy;
    }
    return FG_OK;
}

/* ---- places ---------------------------------------------------------------------------------------------------- */
/* A slot is a value at replay: an array header that never dies, whose data pointer is set once (a place in the
 * arena, a constant) or at each call (an input or output, and views of them: those with `root` >= 0 are copied from
 * their root's). */
typedef struct slot {
    fg_array array;
    int root;                   /* the value whose memory this is; itself unless a view */
    int output;                 /* of a root: the output whose memory it is, or -1 */
    int first, last;            /* of a root: the steps that write and last read it */
    int blockwise;              /* lives within one fused group, a block at a time */
    int64_t offset;             /* in the arena, or -1 */
} slot;

/* ---- steps ------------------------------------------------------------------------------------------------------ */
typedef enum { RUN, UNARY_STEP, BINARY_STEP, UNARY_VJP_STEP, BINARY_VJP_STEP } kind;

typedef struct step {
    kind kind;
    int group;                  /* first of a fused group: how many steps it has; else 1 */
    int y, n_in;
    const int *in;              /* values */
    void *kernel;
    int64_t n;                  /* elements */
    fg_call call;
    fg_tensor *operand;         /* call.in: the slots' arrays */
} step;

typedef void (*unary_kernel)(int64_t, const void *, void *);
typedef void (*binary_kernel)(int64_t, const void *, int, const void *, int, void *);
typedef void (*unary_vjp_kernel)(int64_t, const void *, const void *, const void *, void *);
typedef void (*binary_vjp_kernel)(int64_t, const void *, int, const void *, int, const void *, const void *, void *);

static int is_view(int op) { return op == FG_OP_reshape; }

static fg_shape *shape_at(const fg_program *p, int v) { return p->slot[v].array.shape; }

/* Is every operand of the size of the result or a single element? Then one kernel call, or one a block, does it. */
static int is_flat(const fg_program *p, const note *a)
{
    int64_t n = shape_at(p, a->y)->size;
    for (int i = 0; i < a->n_in; i++) {
        int v = operands_of(p, a)[i];
        if (v >= 0 && shape_at(p, v)->size != n && shape_at(p, v)->size != 1)
            return 0;
    }
    return n > 0;
}

static void prepare_step(fg_program *p, step *s, const note *a)
{
    const fg_elementwise_kernels *k = NULL;
    int dtype = p->slot[a->y].array.dtype;
    if (FG_IS_FLOAT(dtype))
        k = fg_kernels[dtype].elementwise;
    s->kind = RUN;
    s->group = 1;
    s->y = a->y;
    s->n_in = a->n_in;
    s->in = operands_of(p, a);
    s->n = shape_at(p, a->y)->size;
    s->call = (fg_call){.op = a->op, .n_in = a->n_in, .n_attr = a->n_attr, .in = s->operand, .attr = attrs_of(p, a)};
    for (int i = 0; i < a->n_in; i++)
        s->operand[i] = (fg_tensor){s->in[i] < 0 ? NULL : &p->slot[s->in[i]].array, NULL};
    if (!is_flat(p, a))
        return;
    if (a->op < FG_N_UNARY) {
        s->kind = UNARY_STEP;
        s->kernel = (void *)k->unary[a->op];
    } else if (a->op < FG_N_ELEMENTWISE) {
        s->kind = BINARY_STEP;
        s->kernel = (void *)k->binary[a->op - FG_N_UNARY];
    } else if (a->op >= FG_N_OPS) {
        int op = (a->op - FG_N_OPS) / 2, i = (a->op - FG_N_OPS) % 2;
        s->kind = op < FG_N_UNARY ? UNARY_VJP_STEP : BINARY_VJP_STEP;
        s->kernel = op < FG_N_UNARY ? (void *)k->unary_vjp[op] : (void *)k->binary_vjp[op - FG_N_UNARY][i];
    }
}

/* Neighbouring flat steps over the same number of elements form a group, which runs block by block. */
static void form_groups(fg_program *p)
{
    for (int k = 0; k < p->n_steps; k++) {
        step *s = &p->step[k];
        if (s->kind == RUN || s->n < FUSE_FROM)
            continue;
        int last = k;
        while (last + 1 < p->n_steps && p->step[last + 1].kind != RUN && p->step[last + 1].n == s->n &&
               p->slot[p->step[last + 1].y].array.dtype == p->slot[s->y].array.dtype)
            last++;
        s->group = last - k + 1;
        k = last;
    }
}

/* Which steps write and last read each root, and which values never leave their group. */
static void find_lifetimes(fg_program *p)
{
    for (int v = 0; v < p->values.n; v++)
        p->slot[v].first = p->slot[v].last = -1;
    for (int k = 0, group_end = -1, group_start = 0; k < p->n_steps; k++) {
        step *s = &p->step[k];
        if (k > group_end) {
            group_start = k;
            group_end = k + s->group - 1;
        }
        /* Within a group the first block of the last step runs before the last block of the first. */
        slot *y = &p->slot[p->slot[s->y].root];
        if (y->first < 0)
            y->first = group_start;
        if (y->last < group_end)
            y->last = group_end;
        for (int i = 0; i < s->n_in; i++)
            if (s->in[i] >= 0 && p->slot[p->slot[s->in[i]].root].last < group_end)
                p->slot[p->slot[s->in[i]].root].last = group_end;
    }
}

static void find_blockwise(fg_program *p)
{
    for (int k = 0; k < p->n_steps; k += p->step[k].group) {
        int end = k + p->step[k].group;
        if (end - k < 2)
            continue;
        for (int j = k; j < end; j++) {
            slot *y = &p->slot[p->step[j].y];
            if (y->root == p->step[j].y && y->output < 0 && y->last == end - 1)
                y->blockwise = 1;
        }
    }
    for (int v = 0; v < p->values.n; v++)
        if (p->slot[v].root != v)               /* what is viewed is read as a whole */
            p->slot[p->slot[v].root].blockwise = 0;
}

/* ---- the arena --------------------------------------------------------------------------------------------------- */
typedef struct { int64_t offset, bytes; } gap;

static int64_t bytes_of(const slot *s)
{
    int64_t n = s->blockwise ? BLOCK : s->array.shape->size;
    int64_t bytes = (n ? n : 1) * (int64_t)fg_itemsize(s->array.dtype);     /* a pointer even to nothing */
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Take the smallest gap that fits, or grow the arena. */
static int64_t take_place(list *gaps, int64_t bytes, int64_t *end)
{
    gap *g = gaps->item;
    int best = -1;
    for (int i = 0; i < gaps->n; i++)
        if (g[i].bytes >= bytes && (best < 0 || g[i].bytes < g[best].bytes))
            best = i;
    if (best < 0) {
        int64_t offset = *end;
        *end += bytes;
        return offset;
    }
    int64_t offset = g[best].offset;
    g[best].offset += bytes;
    g[best].bytes -= bytes;
    if (!g[best].bytes)
        g[best] = g[--gaps->n];
    return offset;
}

static int give_back(list *gaps, int64_t offset, int64_t bytes)
{
    gap *g = gaps->item;
    for (int i = 0; i < gaps->n; i++)           /* join neighbours */
        if (g[i].offset + g[i].bytes == offset || offset + bytes == g[i].offset) {
            offset = g[i].offset < offset ? g[i].offset : offset;
            bytes += g[i].bytes;
            g[i] = g[--gaps->n];
            i = -1;
        }
    gap *new = add(gaps, sizeof *new);
    if (!new)
        return FG_NO_MEMORY;
    *new = (gap){offset, bytes};
    return FG_OK;
}

static int in_arena(const slot *s, int v) { return s->root == v && s->output < 0 && s->first >= 0; }

static int plan_memory(fg_program *p)
{
    list gaps = {0};
    int status = FG_OK, n = p->values.n;
    /* Roots by the step they die at. */
    int *next = malloc((size_t)(n + 1) * sizeof *next), *dying = malloc((size_t)(p->n_steps + 1) * sizeof *dying);
    if (!next || !dying)
        status = fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; !status && k <= p->n_steps; k++)
        dying[k] = -1;
    for (int v = 0; !status && v < n; v++)
        if (in_arena(&p->slot[v], v)) {
            next[v] = dying[p->slot[v].last];
            dying[p->slot[v].last] = v;
        }
    for (int k = 0; !status && k < p->n_steps; k += p->step[k].group) {
        int end = k + p->step[k].group - 1;
        for (int j = k; j <= end; j++) {
            int y = p->step[j].y;
            if (!in_arena(&p->slot[y], y))
                continue;
            p->slot[y].offset = take_place(&gaps, bytes_of(&p->slot[y]), &p->arena_bytes);
            p->separate_bytes += p->slot[y].array.shape->size * (int64_t)fg_itemsize(p->slot[y].array.dtype);
        }
        for (int j = k; j <= end; j++)
            for (int v = dying[j]; !status && v >= 0; v = next[v])
                status = give_back(&gaps, p->slot[v].offset, bytes_of(&p->slot[v]));
    }
    free(next);
    free(dying);
    free(gaps.item);
    if (!status && p->arena_bytes && !(p->arena = fg_alloc((size_t)p->arena_bytes)))
        status = FG_NO_MEMORY;
    return status;
}

/* ---- making a program ready --------------------------------------------------------------------------------------- */
/* An output must have memory of its own: one that is an input, a constant, a view of another output or named twice
 * gets a copy made at the end. */
static int separate_outputs(fg_program *p)
{
    for (int i = 0; i < p->n_out; i++) {
        int v = p->out[i], root = p->slot[v].root;
        if (values_of(p)[root].from == RESULT && p->slot[root].output < 0) {
            p->slot[root].output = i;
            continue;
        }
        /* The slots were allotted with room for one such copy an output, behind the values. */
        int copy = p->values.n + i;
        p->slot[copy] = p->slot[v];
        p->slot[copy].root = copy;
        p->slot[copy].output = i;
        fg_shape_ref(p->slot[copy].array.shape);
        p->out[i] = copy;
        note *n = add(&p->notes, sizeof *n);
        int *operand = n ? add(&p->operands, sizeof *operand) : NULL;
        int64_t *attr = operand ? add(&p->attrs, sizeof *attr) : NULL;
        if (!attr)
            return FG_NO_MEMORY;
        *operand = v;
        *attr = p->slot[v].array.dtype;
        *n = (note){FG_OP_cast, 1, 1, copy, p->operands.n - 1, p->attrs.n - 1};
    }
    return FG_OK;
}

static int make_slots(fg_program *p)
{
    int n = p->values.n;
    p->slot = calloc((size_t)(n + p->n_out) + 1, sizeof *p->slot);
    if (!p->slot)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int v = 0; v < n; v++) {
        const fg_array *x = values_of(p)[v].array;
        p->slot[v] = (slot){.root = v, .output = -1, .offset = -1};
        if (!x)                                 /* a constant that nothing needs */
            continue;
        p->slot[v] = (slot){.array = {.refs = 1, .dtype = x->dtype, .storage = FG_OWNED,
                                      .shape = fg_shape_ref(x->shape)},
                            .root = v, .output = -1, .offset = -1};
        if (values_of(p)[v].from == CONSTANT)
            p->slot[v].array.data = x->data;
    }
    for (int k = 0; k < p->notes.n; k++) {
        const note *a = &notes_of(p)[k];
        if (is_view(a->op))
            p->slot[a->y].root = p->slot[operands_of(p, a)[0]].root;
    }
    return FG_OK;
}

static int make_steps(fg_program *p)
{
    p->step = calloc((size_t)p->notes.n + 1, sizeof *p->step);
    fg_tensor *operands = calloc((size_t)p->operands.n + 1, sizeof *operands);
    if (!p->step || !operands) {
        free(operands);
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    }
    p->step[0].operand = operands;              /* even without steps: fg_program_free looks here */
    for (int k = 0, at = 0; k < p->notes.n; k++) {
        const note *a = &notes_of(p)[k];
        if (is_view(a->op))
            continue;
        step *s = &p->step[p->n_steps++];
        s->operand = operands + at;
        at += a->n_in;
        prepare_step(p, s, a);
    }
    return FG_OK;
}

static int make_ready(fg_program *p)
{
    int status;
    p->n_recorded = p->notes.n;
    if ((status = absorb_transposes(p)) || (status = merge_equal(p)) || (status = drop_unused(p)) ||
        (status = own_constants(p)) || (status = make_slots(p)) || (status = separate_outputs(p)))
        return status;
    p->values.n += p->n_out;                    /* the copies' slots; those not needed stay empty */
    for (int i = p->values.n - p->n_out; i < p->values.n; i++)
        if (!p->slot[i].array.shape)
            p->slot[i] = (slot){.root = i, .output = -1, .offset = -1};
    if ((status = make_steps(p)))
        return status;
    form_groups(p);
    find_lifetimes(p);
    find_blockwise(p);
    if ((status = plan_memory(p)))
        return status;
    for (int v = 0; v < p->values.n; v++)
        if (p->slot[v].root == v && p->slot[v].offset >= 0)
            p->slot[v].array.data = p->arena + p->slot[v].offset;
    if (!(p->view = malloc((size_t)p->values.n * sizeof *p->view)))
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int v = 0; v < p->values.n; v++)
        if (p->slot[v].root != v) {
            p->slot[v].array.data = p->slot[p->slot[v].root].array.data;
            p->view[p->n_views++] = v;
        }
    return FG_OK;
}

int fg_trace_end(int n_out, fg_array *const *out, fg_program **made)
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
    recording = NULL;                           /* letting go of foreign memory may run any code */
    fg_tracing--;
    int n_values = p->values.n;
    if (!status)
        status = make_ready(p);
    p->values.n = n_values;                     /* `forget` looks at what was recorded only */
    forget(p, !status);
    if (status) {
        fg_program_free(p);
        return status;
    }
    *made = p;
    return FG_OK;
}

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
            for (int64_t at = 0; at < s->n; at += BLOCK)
                for (int j = 0; j < s->group; j++)
                    run_flat(p, s + j, at, s->n - at < BLOCK ? s->n - at : BLOCK);
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
        if (!same_note(a, &notes_of(a)[k], b, &notes_of(b)[k]) || notes_of(a)[k].y != notes_of(b)[k].y)
            return 0;
    for (int v = 0; v < a->values.n; v++) {
        const fg_array *x = values_of(a)[v].array, *y = values_of(b)[v].array;
        if (!x != !y || (x && !same_array(x, y)))
            return 0;
    }
    return 1;
}
