/* plan.c: steps to run. */
#include "recording.h"

#include <stdlib.h>

enum { FUSE_FROM = 2 * FG_BLOCK };              /* shorter operands are in cache anyway */

/* ---- steps ---------------------------------------------------------------------------------------------------- */
static int is_view(int op) { return op == FG_OP_reshape; }

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

/* A reduction over axes that are not neighbours keeps partial results in arrays of the pool (reductions.c). */
static int allocates(const fg_program *p, const step *s)
{
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
                .in = operands_of(p, a), .attr = attrs_of(p, a), .n = shape_at(p, a->y)->size};
    s->kernel = (void *)(a->op >= FG_N_ELEMENTWISE && a->op < FG_N_OPS ? fg_ops[a->op].run : fg_run);
    p->work += work_of(p, s);
    p->allocates = p->allocates || allocates(p, s);
    if (is_flat(p, a))
        choose_kernel(p, s);
}

/* Neighbouring flat steps over the same number of elements form a group, which runs block by block. */
static void form_groups(fg_program *p)
{
    for (int k = 0; k < p->n_steps; k++) {
        step *s = &p->step[k];
        if (s->kind == RUN || s->n < FUSE_FROM)
            continue;
        int last = k;
        while (last + 1 < p->n_steps && p->step[last + 1].kind != RUN && p->step[last + 1].n == s->n)
            last++;
        s->group = last - k + 1;
        k = last;
    }
}

/* ---- slots and steps --------------------------------------------------------------------------------------- */
/* An output must have memory of its own: one that is an input, a constant, a view of another output or named twice
 * gets a copy made at the end. Outputs that are kept may share theirs. */
static int separate_outputs(fg_program *p)
{
    for (int i = 0; i < p->n_out; i++) {
        int v = p->out[i], root = p->slot[v].root, kept = fg_program_keeps(p, i);
        slot *memory = &p->slot[root];
        if (values_of(p)[root].from == RESULT && memory->output < 0 && (kept || !memory->kept)) {
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
        if (is_view(a->op))
            p->slot[a->y].root = p->slot[operands_of(p, a)[0]].root;
    }
    return FG_OK;
}

static int make_steps(fg_program *p)
{
    p->step = calloc((size_t)p->notes.n + 1, sizeof *p->step);
    if (!p->step)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; k < p->notes.n; k++)
        if (!is_view(notes_of(p)[k].op))
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
        if (p->slot[p->slot[v].root].offset < 0)
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
    form_groups(p);
    if ((status = fg_program_place(p)))
        return status;
    for (int k = 0; k < p->n_steps; k += p->step[k].group)
        for (int j = k; j < k + p->step[k].group; j++)
            if (p->step[k].group > 1)
                find_advances(p, &p->step[j]);
            else if (p->step[k].kind != RUN)
                fill_vectors(p, &p->step[k]);
    return FG_OK;
}
