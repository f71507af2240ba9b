/* plan.c: steps to run, and where each value lies. */
#include "recording.h"

#include <stdlib.h>

enum {
    FUSE_FROM = 2 * FG_BLOCK,   /* shorter operands are in cache anyway */
    ALIGN = 64
};

/* ---- steps ---------------------------------------------------------------------------------------------------- */
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
    int64_t n = s->blockwise ? FG_BLOCK : s->array.shape->size;
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
    gap *new = fg_list_add(gaps, sizeof *new);
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

/* ---- slots and steps --------------------------------------------------------------------------------------- */
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
        note *n = fg_list_add(&p->notes, sizeof *n);
        int *operand = n ? fg_list_add(&p->operands, sizeof *operand) : NULL;
        int64_t *attr = operand ? fg_list_add(&p->attrs, sizeof *attr) : NULL;
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
        if (FG_IS_VIEW(a->op))
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
        if (FG_IS_VIEW(a->op))
            continue;
        step *s = &p->step[p->n_steps++];
        s->operand = operands + at;
        at += a->n_in;
        prepare_step(p, s, a);
    }
    return FG_OK;
}

int fg_program_plan(fg_program *p)
{
    int status;
    if ((status = make_slots(p)) || (status = separate_outputs(p)))
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
