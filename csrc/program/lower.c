/* lower.c: lowering: instructions become steps, which are kernel calls, and values get buffers, which say whose memory
 * they are in.
 *
 * A view (a reshape, a contiguous slice, a part of a loop's results) has no step: its buffer points into another's.
 */
#include "kernels/gemm_dispatch.h"
#include "program/passes.h"
#include "program/steps.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 10000 };    /* an estimate of the iterations of a while_loop */

/* ---- steps ---------------------------------------------------------------------------------------------------- */
/* It is where it has elements, its leading axes have length 1, at most one axis is cut, and the axes after that are
 * whole. */
int fg_slice_is_contiguous(const fg_shape *x, const int64_t *attr, const fg_shape *part, int64_t *first)
{
    int leading = 1;                            /* so far all axes have length 1 */
    *first = 0;
    for (int i = 0; i < x->ndim; i++) {
        int64_t start = attr[3 * i], stride = attr[3 * i + 1], count = part->dim[i];
        if (count > 1 && stride != 1)
            return 0;
        if (!leading && count != x->dim[i])
            return 0;
        leading = leading && count == 1;
        *first = *first * x->dim[i] + start;
    }
    return part->size > 0;
}

/* Are the elements of its result those of its operand from element *shift on? */
static int is_view(const fg_program *p, const instruction *a, int64_t *shift)
{
    *shift = 0;
    if (a->op == FG_OP_part)                    /* of bytes */
        *shift = attrs_of(p, a)[0];
    return a->op == FG_OP_part || fg_flags(a->op) & FG_IS_VIEW ||
           (a->op == FG_OP_slice &&
            fg_slice_is_contiguous(shape_at(p, operands_of(p, a)[0]), attrs_of(p, a), shape_at(p, a->y), shift));
}

/* Can the operand of an unslice be computed inside the result, from element *shift on? Only the zeros around it are
 * left to write then. There must be no more of them than the operand has elements. */
static int can_pad_in_place(const fg_program *p, const instruction *a, int64_t *shift)
{
    if (a->op != FG_OP_unslice || a->n_in != 1)
        return 0;
    int v = operands_of(p, a)[0], root = p->buffer[v].root;
    return values_of(p)[root].from == RESULT && !p->buffer[root].padded_in_place &&
           bytes_at(p, root) == bytes_at(p, v) && bytes_at(p, a->y) <= 2 * bytes_at(p, v) &&
           fg_slice_is_contiguous(shape_at(p, a->y), attrs_of(p, a), shape_at(p, v), shift);
}

/* Is every operand of the size of the result, a single element, a repeated row, or one whose elements stand for long
 * runs? Then one kernel call, or one for each block or run, computes it. */
static int is_flat(const fg_program *p, const instruction *a)
{
    int64_t n = shape_at(p, a->y)->size;
    for (int i = 0; i < a->n_in; i++) {
        int v = operands_of(p, a)[i];
        if (v >= 0 && shape_at(p, v)->size != n && shape_at(p, v)->size != 1 && !p->buffer[v].period &&
            !fg_run_of_operand(p, a, i))
            return 0;
    }
    return n > 0;
}

/* An estimate of a step's nanoseconds, to tell long programs from short ones. */
static double work_of(const fg_program *p, const step *s)
{
    double elements = (double)s->n;
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0 && (double)shape_at(p, s->in[i])->size > elements)
            elements = (double)shape_at(p, s->in[i])->size;
    double times = s->op == FG_OP_scan ? (double)s->attr[1] : s->op == FG_OP_while_loop ? MANY : 1;
    for (int i = 0; i < fg_n_bodies(s->op); i++)
        elements += 4 * times * fg_body(s->attr, i)->work;
    if (fg_flags(s->op) & FG_IS_CUBIC && s->n_in) {
        const fg_shape *x = shape_at(p, s->in[0]);
        return 30 + elements / 4 + elements * (double)x->dim[x->ndim - 1] / 16;
    }
    if (s->op != FG_OP_matmul)
        return ((fg_flags(s->op) & FG_BY_HOST) == FG_BY_HOST ? 1000 : 10) + elements / 4;
    const fg_shape *a = shape_at(p, s->in[0]);
    int64_t k = s->n_attr > FG_PLAIN_PRODUCT ? s->attr[4] : fg_cols_of(a, (int)s->attr[0]);
    return 10 + elements / 4 + (double)s->n * (double)k / 32;
}

/* Does a step take memory from the pool while it runs? A reduction over axes that are not neighbours does, for partial
 * results (reductions.c). */
static int allocates(const fg_program *p, const step *s)
{
    for (int i = 0; i < fg_n_bodies(s->op); i++)
        if (fg_body(s->attr, i)->allocates)
            return 1;
    if (!(fg_flags(s->op) & FG_ALLOCATES_BY_AXES))
        return (fg_flags(s->op) & FG_ALLOCATES) != 0;
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

/* How a JOIN_STEP finds its elements, in memory for as many pieces as it has; NULL: no memory. */
static const fg_joined *joined_for(fg_program *p, const instruction *a)
{
    fg_joined found = {.n = 0}, **place = fg_list_add(&p->joined, sizeof(fg_joined *));
    fg_find_joined(p, a, &found);
    size_t bytes = offsetof(fg_joined, piece) + (size_t)found.n * sizeof *found.piece;
    fg_joined *made = place ? malloc(bytes) : NULL;
    if (place)
        *place = made;
    return made ? memcpy(made, &found, bytes) : NULL;
}

static int prepare_step(fg_program *p, step *s, const instruction *a)
{
    *s = (step){.kind = RUN,
                .group = 1,
                .op = a->op,
                .y = a->y,
                .n_in = a->n_in,
                .n_attr = a->n_attr,
                .in = operands_of(p, a),
                .attr = attrs_of(p, a),
                .n = shape_at(p, a->y)->size,
                .itemsize = fg_itemsize(p->buffer[a->y].array.dtype)};
    s->kernel = is_row_sums(a) ? (void *)fg_row_sums_run : (void *)fg_run_of(a->op);
    p->work += work_of(p, s);
    p->draws = p->draws || fg_draws(s->op, s->attr);
    p->allocates = p->allocates || allocates(p, s);
    if (p->buffer[a->y].loaded && (a->op == FG_OP_unslice || a->op == FG_OP_concatenate)) {
        s->kind = JOIN_STEP;
        if (!(s->joined = joined_for(p, a)))
            return fg_fail(FG_NO_MEMORY, "no memory for a program");
    } else if (p->buffer[a->y].loaded && a->op == FG_OP_take) {
        s->kind = JOIN_STEP;
    } else if (p->buffer[a->y].loaded) {
        s->kind = LOAD_STEP;
        fg_find_strides(p, a, &s->strided);
    } else if (a->n_in && is_flat(p, a)) {
        fg_choose_kernel(p, s);
        for (int i = 0; s->kind != RUN && i < a->n_in; i++)
            s->run[i] = fg_run_of_operand(p, a, i);
    }
    return FG_OK;
}

/* ---- buffers and steps --------------------------------------------------------------------------------------- */
/* An output must have memory of its own: one that is an input, a constant, a view of another output, or the same value
 * as another output is copied at the end. Outputs that are kept may share memory. */
static int separate_outputs(fg_program *p)
{
    for (int i = 0; i < p->n_out; i++) {
        int v = p->out[i], root = p->buffer[v].root, kept = fg_program_keeps(p, i);
        buffer *memory = &p->buffer[root];
        int whole = shape_at(p, v)->size == shape_at(p, root)->size;
        if (values_of(p)[root].from == RESULT && memory->output < 0 &&
            (kept || (whole && !memory->kept && !memory->padded_in_place))) {
            if (kept)
                memory->kept = 1;
            else
                memory->output = i;
            continue;
        }
        /* make_buffers has left room for such a copy of every output, after the values. */
        int copy = p->values.n + i;
        p->buffer[copy] =
            (buffer){.array = p->buffer[v].array, .root = copy, .output = kept ? -1 : i, .kept = kept, .offset = -1};
        p->buffer[copy].array.data = NULL;
        fg_shape_ref(p->buffer[copy].array.shape);
        p->out[i] = copy;
        instruction *n = fg_list_add(&p->instructions, sizeof *n);
        int *operand = n ? fg_list_add(&p->operands, sizeof *operand) : NULL;
        int64_t *attr = operand ? fg_list_add(&p->attrs, sizeof *attr) : NULL;
        if (!attr)
            return FG_NO_MEMORY;
        *operand = v;
        *attr = p->buffer[v].array.dtype;
        *n = (instruction){FG_OP_cast, 1, 1, copy, p->operands.n - 1, p->attrs.n - 1};
    }
    return FG_OK;
}

/* Let the buffer of a gradient that is kept as rows have as many rows as there are at most. */
static int shrink_to_rows(fg_program *p, const instruction *a)
{
    buffer *y = &p->buffer[a->y];
    const int64_t *attr = attrs_of(p, a);
    int64_t dim[FG_MAX_NDIM];
    for (int i = 0; i < y->array.shape->ndim; i++)
        dim[i] = i ? y->array.shape->dim[i] : attr[3];
    fg_shape *shape = fg_shape_new(y->array.shape->ndim, dim);
    if (!shape)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    fg_shape_unref(y->array.shape);
    y->array.shape = shape;
    y->row_sums = fg_row_sums_bytes(shape, y->array.dtype, a->n_in, attr[2]);
    return FG_OK;
}

/* A buffer for each value, with room for copies of the outputs, and the roots of all values. */
static int make_buffers(fg_program *p)
{
    int n = p->values.n;
    p->n_buffers = n + p->n_out;
    p->buffer = calloc((size_t)p->n_buffers + 1, sizeof *p->buffer);
    if (!p->buffer)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int v = 0; v < n; v++) {
        const fg_array *x = values_of(p)[v].array;
        p->buffer[v] = (buffer){.root = v, .output = -1, .offset = -1};
        if (!x)                                 /* a constant that dead code elimination has released */
            continue;
        p->buffer[v] =
            (buffer){.array = {.refs = 1, .dtype = x->dtype, .storage = FG_OWNED, .shape = fg_shape_ref(x->shape)},
                     .root = v,
                     .output = -1,
                     .offset = -1};
        if (values_of(p)[v].from == CONSTANT)
            p->buffer[v].array.data = x->data;
    }
    for (int k = 0; k < p->instructions.n; k++) {
        const instruction *a = &instructions_of(p)[k];
        int64_t shift;
        int status = is_row_sums(a) ? shrink_to_rows(p, a) : FG_OK;
        if (status)
            return status;
        int padded_in_place = can_pad_in_place(p, a, &shift);
        if (!padded_in_place && !is_view(p, a, &shift))
            continue;
        const buffer *x = &p->buffer[operands_of(p, a)[0]];
        shift *= (int64_t)fg_itemsize(x->array.dtype);
        p->buffer[a->y].root = x->root;
        p->buffer[a->y].shift = padded_in_place ? -shift : x->shift + shift;
        if (padded_in_place) {
            buffer *root = &p->buffer[x->root];
            root->padded_in_place = 1;
            root->before = shift;
            root->after = bytes_at(p, a->y) - shift - bytes_at(p, x->root);
        }
    }
    /* A product that another one is added to has the memory of the sum. Backwards, because there may be a chain. */
    for (int k = p->instructions.n - 1; k >= 0; k--) {
        const instruction *a = &instructions_of(p)[k];
        if (is_accumulated(a) && values_of(p)[operands_of(p, a)[2]].from == RESULT)
            p->buffer[operands_of(p, a)[2]].root = p->buffer[a->y].root;
    }
    return FG_OK;
}

/* ---- gradients that never exist as a whole -------------------------------------------------------------------- */
/* How many rows of a product of matrices to compute at a time while the parameters are updated. 0, which is all of them
 * before, if one panel and the operands, which must live as long, need no less memory than the product; or if it reads
 * a parameter, which the updates change. */
static int64_t panel_of(const fg_program *p, const instruction *a)
{
    enum { BYTES = 1 << 20, LEAST_ROWS = 64 };
    if (a->op != FG_OP_matmul || a->n_in != 2 || a->n_attr > FG_PLAIN_PRODUCT || shape_at(p, a->y)->ndim != 2 ||
        !shape_at(p, a->y)->size)
        return 0;
    int64_t m = shape_at(p, a->y)->dim[0], row = bytes_at(p, a->y) / m;
    int64_t most = BYTES / row > LEAST_ROWS ? BYTES / row : LEAST_ROWS, panels = (m + most - 1) / most;
    int64_t rows = (m + panels - 1) / panels, bytes = rows * row;
    for (int i = 0; i < 2; i++) {
        int root = p->buffer[operands_of(p, a)[i]].root;
        if (root < p->n_gradients)              /* a parameter */
            return 0;
        if (values_of(p)[root].from == RESULT)
            bytes += bytes_at(p, root);
    }
    return bytes < bytes_at(p, a->y) ? rows : 0;
}

/* Find the gradients that nothing reads but the updates of their parameters in training.c; the parameters are the first
 * inputs. */
static int find_panels(fg_program *p)
{
    int *uses = calloc((size_t)p->n_buffers + 1, sizeof *uses);
    if (!uses)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int i = 0; i < p->n_out; i++)          /* 2 for a value that is another output, too, or part of one */
        uses[p->buffer[p->out[i]].root] +=
            i < p->n_out - p->n_gradients || p->buffer[p->out[i]].root != p->out[i] ? 2 : 1;
    for (int k = 0; k < p->operands.n; k++) {
        int v = ((int *)p->operands.item)[k];
        uses[v < 0 ? p->n_buffers : p->buffer[v].root]++;
    }
    for (int k = 0; k < p->instructions.n; k++) {
        buffer *y = &p->buffer[instructions_of(p)[k].y];
        if (y->kept && uses[instructions_of(p)[k].y] == 1)
            y->panel = panel_of(p, &instructions_of(p)[k]);
        y->kept = y->kept && !y->panel;
    }
    free(uses);
    return FG_OK;
}

/* A step for each instruction that is no view; panels are the last. */
static int make_steps(fg_program *p)
{
    p->step = calloc((size_t)p->instructions.n + 1, sizeof *p->step);
    if (!p->step)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int late = 0; late < 2; late++)
        for (int k = 0; k < p->instructions.n; k++) {
            const instruction *a = &instructions_of(p)[k];
            const buffer *y = &p->buffer[a->y];
            if (!!y->panel == late && (y->root == a->y || a->op == FG_OP_matmul)) {
                int status = prepare_step(p, &p->step[p->n_steps++], a);
                if (status)
                    return status;
                p->n_late += late;
            }
        }
    return FG_OK;
}

/* Insert, before the first step that writes a value inside the result of an unslice, a step that writes the zeros
 * around it. */
int fg_pass_insert_zeros(fg_program *p)
{
    step *all = malloc((size_t)(p->n_steps + p->instructions.n + 1) * sizeof *all);
    int *zeros = calloc((size_t)p->n_buffers + 1, sizeof *zeros), n = 0;  /* of a root: the instruction, from 1 on */
    if (!all || !zeros) {
        free(all);
        free(zeros);
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    }
    for (int k = 0; k < p->instructions.n; k++) {
        const instruction *a = &instructions_of(p)[k];
        if (a->op == FG_OP_unslice && p->buffer[a->y].root != a->y)
            zeros[p->buffer[a->y].root] = k + 1;
    }
    for (int k = 0, size; k < p->n_steps; k += size) {
        size = p->step[k].group;
        for (int j = k; j < k + size; j++) {
            int *zero = &zeros[p->buffer[p->step[j].y].root];
            if (*zero)                          /* never a JOIN_STEP, so that this cannot fail */
                prepare_step(p, &all[n++], &instructions_of(p)[*zero - 1]);
            *zero = 0;
        }
        for (int j = k; j < k + size; j++)
            all[n++] = p->step[j];
    }
    free(zeros);
    free(p->step);
    p->step = all;
    p->n_steps = n;
    return FG_OK;
}

int fg_pass_lower(fg_program *p)
{
    int status;
    if ((status = make_buffers(p)) || (status = separate_outputs(p)))
        return status;
    for (int i = p->values.n; i < p->n_buffers; i++)    /* of outputs that need no copy */
        if (!p->buffer[i].array.shape)
            p->buffer[i] = (buffer){.root = i, .output = -1, .offset = -1};
    if ((status = fg_load_operands(p)) || (status = find_panels(p)))
        return status;
    return make_steps(p);
}
