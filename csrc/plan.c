/* plan.c: steps to run. */
#include "recording.h"

#include <stdlib.h>

enum {
    FUSE_FROM = 2 * FG_BLOCK,   /* shorter operands are in cache anyway */
    LOOK_AHEAD = 64             /* steps that a group may overtake */
};

/* ---- steps ---------------------------------------------------------------------------------------------------- */
/* Does a slice take elements that lie together? Up to some axis single ones, behind it all there are. */
static int is_stretch(const fg_shape *x, const int64_t *attr, int64_t *first)
{
    int together = 1;
    *first = 0;
    for (int i = 0; i < x->ndim; i++) {
        int64_t start = attr[3 * i], pace = attr[3 * i + 1], count = attr[3 * i + 2];
        if (count > 1 && pace != 1)
            return 0;
        if (!together && count != x->dim[i])
            return 0;
        together = together && count == 1;
        *first = *first * x->dim[i] + start;
    }
    return 1;
}

/* Is a value another one's elements, `shift` elements on? */
static int is_view(const fg_program *p, const note *a, int64_t *shift)
{
    *shift = 0;
    return FG_IS_VIEW(a->op) || (a->op == FG_OP_slice && shape_at(p, a->y)->size > 0 &&
                                      is_stretch(shape_at(p, operands_of(p, a)[0]), attrs_of(p, a), shift));
}

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

/* The kernel of a flat step. */
static void choose_kernel(const fg_program *p, step *s)
{
    int op = s->op, vjp = (op - FG_N_OPS) / 2;
    int dtype = p->slot[s->in[op == FG_OP_where || op >= FG_N_OPS ? s->n_in - 1 : 0]].array.dtype;
    if (!FG_IS_FLOAT(dtype))
        return;
    const fg_elementwise_kernels *k = fg_kernels[dtype].elementwise;
    if (op < FG_N_UNARY) {
        s->kind = UNARY_STEP;
        s->kernel = (void *)k->unary[op];
    } else if (op < FG_N_ELEMENTWISE) {
        s->kind = BINARY_STEP;
        s->kernel = (void *)k->binary[op - FG_N_UNARY];
    } else if (op >= FG_OP_less && op <= FG_OP_not_equal) {
        s->kind = COMPARE_STEP;
        s->kernel = (void *)k->compare[op - FG_OP_less];
    } else if (op == FG_OP_where) {
        s->kind = WHERE_STEP;
        s->kernel = (void *)k->where;
    } else if (op >= FG_N_OPS && vjp < FG_N_UNARY) {
        s->kind = UNARY_VJP_STEP;
        s->kernel = (void *)k->unary_vjp[vjp];
    } else if (op >= FG_N_OPS) {
        s->kind = BINARY_VJP_STEP;
        s->kernel = (void *)k->binary_vjp[vjp - FG_N_UNARY][(op - FG_N_OPS) % 2];
    }
}

/* About how long a step takes, in nanoseconds: only to tell long programs from short ones. */
static double work_of(const fg_program *p, const step *s)
{
    double elements = (double)s->n;
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0 && (double)shape_at(p, s->in[i])->size > elements)
            elements = (double)shape_at(p, s->in[i])->size;
    if (s->op != FG_OP_matmul)
        return elements / 4;
    const fg_shape *a = shape_at(p, s->in[0]);
    return elements / 4 + (double)s->n * (double)a->dim[a->ndim - 1 - !!s->attr[0]] / 32;
}

/* A reduction over axes that are not neighbours keeps partial results in arrays of the pool (reductions.c); NumPy's
 * functions make arrays of their own. */
static int allocates(const fg_program *p, const step *s)
{
    if (s->op == FG_OP_numpy)
        return 1;
    if (s->op != FG_OP_sum && s->op != FG_OP_max && s->op != FG_OP_min)
        return 0;
    const fg_shape *x = shape_at(p, s->in[0]);
    int stretches = 0, inside = 0;
    for (int i = 0; i < x->ndim; i++) {
        if (x->dim[i] == 1)
            continue;
        int here = (int)(s->attr[0] >> i & 1);
        stretches += here && !inside;
        inside = here;
    }
    return stretches > 1;
}

static void prepare_step(fg_program *p, step *s, const note *a)
{
    *s = (step){.kind = RUN, .group = 1, .op = a->op, .y = a->y, .n_in = a->n_in, .n_attr = a->n_attr,
                .in = operands_of(p, a), .attr = attrs_of(p, a), .n = shape_at(p, a->y)->size,
                .itemsize = fg_itemsize(p->slot[a->y].array.dtype)};
    s->kernel = (void *)(a->op >= FG_N_ELEMENTWISE && a->op < FG_N_OPS ? fg_ops[a->op].run : fg_run);
    p->work += work_of(p, s);
    p->allocates = p->allocates || allocates(p, s);
    if (is_flat(p, a))
        choose_kernel(p, s);
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */
/* While a group is formed: its number in `mine` marks the values that it reads or writes, in `made` those it writes, in
 * `passed` those made by steps that stay behind it. */
typedef struct { int number, *mine, *made, *passed; } group;

static int reads_any(const fg_program *p, const step *s, const int *marks, int number)
{
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0 && marks[p->slot[s->in[i]].root] == number)
            return 1;
    return 0;
}

/* Does a step read a part of what the group makes, which may lie in another block? */
static int reads_part(const fg_program *p, const step *s, const group *g)
{
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0 && g->made[p->slot[s->in[i]].root] == g->number && shape_at(p, s->in[i])->size != s->n)
            return 1;
    return 0;
}

static void join(const fg_program *p, const step *s, group *g)
{
    g->mine[s->y] = g->made[s->y] = g->number;
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0)
            g->mine[p->slot[s->in[i]].root] = g->number;
}

/* Is a step the sum of all of something that the group makes? */
static int is_sink(const fg_program *p, const step *s, const step *first, const group *g)
{
    return s->op == FG_OP_sum && s->n == 1 && shape_at(p, s->in[0])->size == first->n &&
           FG_IS_FLOAT(p->slot[s->y].array.dtype) && first->sinks < FG_SINKS && reads_any(p, s, g->mine, g->number) &&
           !reads_any(p, s, g->passed, g->number);
}

/* Move flat steps of one length to a group, which runs block by block: neighbours, and those further on that read
 * what the group has at hand and nothing that is made in between. A sum joins too, but only later steps may read it.
 * Fills `sorted`, takes steps out of p->step. */
static void sort_steps(fg_program *p, step *sorted, group *g)
{
    for (int k = 0, n = 0; k < p->n_steps; k++) {
        step *first = &p->step[k];
        if (!first->group)                      /* taken by an earlier group */
            continue;
        int start = n;
        sorted[n++] = *first;
        if (first->kind == RUN || first->n < FUSE_FROM)
            continue;
        g->number = k + 1;
        join(p, first, g);
        for (int j = k + 1, passed = 0; j < p->n_steps && passed < LOOK_AHEAD; j++) {
            step *s = &p->step[j];
            if (!s->group)
                continue;
            if (s->kind != RUN && s->n == first->n && !reads_any(p, s, g->passed, g->number) &&
                !reads_part(p, s, g) && (!passed || reads_any(p, s, g->mine, g->number))) {
                join(p, s, g);
                sorted[n++] = *s;
                s->group = 0;
            } else if (is_sink(p, s, &sorted[start], g)) {
                g->passed[s->y] = g->number;
                sorted[start].sinks++;
                sorted[n] = *s;
                sorted[n].kind = SUM_STEP;
                sorted[n].kernel = (void *)fg_kernels[p->slot[s->y].array.dtype].reduce->sum_rows;
                sorted[n++].n = first->n;
                s->group = 0;
            } else {
                g->passed[s->y] = g->number;
                passed++;
            }
        }
        sorted[start].group = n - start;
    }
}

static int form_groups(fg_program *p)
{
    step *sorted = malloc((size_t)(p->n_steps + 1) * sizeof *sorted);
    int *marks = calloc(3 * (size_t)p->values.n + 1, sizeof *marks);
    if (!sorted || !marks) {
        free(sorted);
        free(marks);
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    }
    sort_steps(p, sorted, &(group){0, marks, marks + p->values.n, marks + 2 * p->values.n});
    free(marks);
    free(p->step);
    p->step = sorted;
    return FG_OK;
}

/* ---- slots and steps --------------------------------------------------------------------------------------- */
/* An output must have memory of its own: one that is an input, a constant, a view of another output or named twice
 * gets a copy made at the end. Outputs that are kept may share theirs. */
static int separate_outputs(fg_program *p)
{
    for (int i = 0; i < p->n_out; i++) {
        int v = p->out[i], root = p->slot[v].root, kept = fg_program_keeps(p, i);
        slot *memory = &p->slot[root];
        int whole = shape_at(p, v)->size == shape_at(p, root)->size;
        if (values_of(p)[root].from == RESULT && memory->output < 0 && (kept || (whole && !memory->kept))) {
            if (kept)
                memory->kept = 1;
            else
                memory->output = i;
            continue;
        }
        /* The slots were allotted with room for one such copy an output, behind the values. */
        int copy = p->values.n + i;
        p->slot[copy] = (slot){.array = p->slot[v].array, .root = copy, .output = kept ? -1 : i, .kept = kept,
                               .offset = -1};
        p->slot[copy].array.data = NULL;
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
        int64_t shift;
        if (!is_view(p, a, &shift))
            continue;
        const slot *x = &p->slot[operands_of(p, a)[0]];
        p->slot[a->y].root = x->root;
        p->slot[a->y].shift = x->shift + shift * (int64_t)fg_itemsize(x->array.dtype);
    }
    return FG_OK;
}

static int make_steps(fg_program *p)
{
    p->step = calloc((size_t)p->notes.n + 1, sizeof *p->step);
    if (!p->step)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; k < p->notes.n; k++)
        if (p->slot[notes_of(p)[k].y].root == notes_of(p)[k].y)
            prepare_step(p, &p->step[p->n_steps++], &notes_of(p)[k]);
    return FG_OK;
}

/* ---- the last touches, when every value has its place -------------------------------------------------------- */
/* How many bytes the operands and the result of a flat step advance with each element of a group. */
static void find_advances(const fg_program *p, step *s)
{
    for (int i = 0; i <= s->n_in; i++) {
        int v = i < s->n_in ? s->in[i] : s->y;
        if (v >= 0 && shape_at(p, v)->size == s->n && !p->slot[v].blockwise)
            s->advance[i < s->n_in ? i : FG_RESULT] = (int64_t)fg_itemsize(p->slot[v].array.dtype);
    }
}

/* Places in the arena end with whole vectors. A step that touches nothing else need not mind where its elements end:
 * what it computes beyond them nobody reads. */
static void fill_vectors(const fg_program *p, step *s)
{
    if (s->op < FG_N_ELEMENTWISE && fg_kernels[p->slot[s->y].array.dtype].elementwise->by_element[s->op])
        return;
    int64_t itemsize = 1;
    for (int i = 0; i <= s->n_in; i++) {
        int v = i < s->n_in ? s->in[i] : s->y;
        if (v < 0 || (shape_at(p, v)->size == 1 && s->n > 1))
            continue;
        if (p->slot[p->slot[v].root].offset < 0 || p->slot[v].shift)
            return;
        int64_t own = (int64_t)fg_itemsize(p->slot[v].array.dtype);
        itemsize = own > itemsize ? own : itemsize;
    }
    int64_t vector = FG_ALIGN / itemsize;
    s->n = (s->n + vector - 1) / vector * vector;
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
    if ((status = form_groups(p)) || (status = fg_program_place(p)))
        return status;
    for (int k = 0; k < p->n_steps; k += p->step[k].group)
        for (int j = k; j < k + p->step[k].group; j++)
            if (p->step[k].group > 1)
                find_advances(p, &p->step[j]);
            else if (p->step[k].kind != RUN)
                fill_vectors(p, &p->step[k]);
    return FG_OK;
}
