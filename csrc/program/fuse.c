/* fuse.c: fusion: elementwise steps of one length become a group, which runs block by block, so that intermediates stay
 * in the cache.
 *
 * A group starts at a flat step and takes later flat steps of the same length, overtaking steps in between where no
 * value depends on it; sums of what it computes; short steps that it needs are moved before it; and products of
 * matrices that it reads become its first steps, computed some rows at a time. Operands that are read with strides are
 * loaded in each group that reads them.
 *
 * A block holds whole rows where rows are summed or their extremes taken. So the results for its rows are complete at
 * once, and later steps of the group may read them: flat steps with one element for each row, and loads that repeat
 * such an element along its row. A group may start with such a reduction. So a softmax or the normalization of rows is
 * one group. Where columns are reduced, or products computed, of rows that are too long for a block, the group runs for
 * a strip of columns after the other.
 *
 * A step may also read what the group makes some elements further back, as a step of a recurrence along an array does
 * (`concatenate([one, y[:-1]])`): the blocks run upwards, and what is read so is stored. So may one that reads elements
 * further on, as the derivative of that does, where they run downwards. Such a group is not shared by threads, so that
 * only steps are in it whose time is that of moving memory.
 */
#include "kernels/gemm_dispatch.h"
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOOK_AHEAD = 64, /* steps that a group may overtake */
    WIDEST = 2048, /* a longer row makes blocks too large for a cache when rows or columns are summed: rows are not
                    * reduced in a group then, and blocks have the rows of a strip of columns ... */
    STRIP = 128, /* ... so wide */
    ROWS_BYTES = FG_BLOCK * sizeof(double), /* of a block of short rows whose sums or extremes the group reads */
    PRODUCT_BYTES = 1 << 14, /* a block of a product has at least so many bytes ... */
    PRODUCT_ROWS = 3 * FG_SUM_PART, /* ... and a multiple of so many rows, which are whole tiles of gemm.c, too */
    PRODUCT_DEPTH = 32, /* a product whose inner dimension is greater is computed as a whole */
    LEAST_BLOCKS = 4 /* a product of fewer blocks is computed as a whole: blocks would save no memory */
};

/* The group that is being formed. Its number is written at the roots of values: in `mine` at those that it reads or
 * writes, in `made` at those that it writes, `by_row` at those of them that have one element for each of its rows, in
 * `passed` at those that overtaken steps write, or that are complete only when the group ends: what reads these runs
 * after it. */
typedef struct {
    int order; /* as in `step` */
    int number, *mine, *made, *by_row, *passed;
    int *loader; /* of each value: the step that loads it, from 1 on; 0: none */
    step *sorted; /* the steps in their new order: those before the group, and from `start` to `end` - 1 its own */
    int start, end;
} group;

static int reads_any(const fg_program *p, const step *s, const int *marks, int number)
{
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0 && marks[p->buffer[s->in[i]].root] == number)
            return 1;
    return 0;
}

static int reads_root(const fg_program *p, const step *s, int root)
{
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0 && p->buffer[s->in[i]].root == root)
            return 1;
    return 0;
}

/* Can a group whose blocks are strips of rows of `width` elements take a flat step or a load? What a row is read from
 * is of one piece then. */
static int fits_strips(const fg_program *p, const step *s, int64_t width)
{
    for (int i = 0; i < s->n_in; i++) {
        int64_t run = run_at(s, i) == FG_ROW ? shape_at(p, s->in[i])->size : run_at(s, i);
        if (run % width)
            return 0;
    }
    return 1;
}

/* Can the blocks of a group of n steps have rows of `width` elements, or strips of such? */
static int can_have_rows(const fg_program *p, const step *first, int n, int64_t width)
{
    int fits = 1;
    for (int j = 0; width > WIDEST && fits && j < n; j++)
        fits = fits_strips(p, &first[j], width);
    return fits;
}

/* How many elements each row of a group has whose rows are reduced; 0: none is. */
static int64_t row_length(const step *first) { return first->width > 1 && first->reductions ? first->width : 0; }

/* Does a step read a result of the group other than element by element, or than one element for each row, so that a
 * block of it may need elements of another block? */
static int reads_across(const fg_program *p, const step *s, const step *first, const group *g)
{
    for (int i = 0; i < s->n_in; i++) {
        const buffer *x = s->in[i] < 0 ? NULL : &p->buffer[s->in[i]];
        if (!x || g->made[x->root] != g->number)
            continue;
        int in_step = run_at(s, i) ? g->by_row[x->root] == g->number && run_at(s, i) == row_length(first)
                                   : x->array.shape->size == first->n;
        if (!in_step || x->shift)
            return 1;
    }
    return 0;
}

/* Does a flat step compute one element for each row of the group, from such elements of the group and of values outside
 * of it? */
static int is_by_row(const fg_program *p, const step *s, const step *first, const group *g)
{
    int64_t width = row_length(first);
    if (s->kind == RUN || s->kind >= LOAD_STEP || !width || s->n * width != first->n ||
        !reads_any(p, s, g->by_row, g->number) || reads_any(p, s, g->passed, g->number))
        return 0;
    for (int i = 0; i < s->n_in; i++) {
        const buffer *x = s->in[i] < 0 ? NULL : &p->buffer[s->in[i]];
        if (x && (x->loaded || (g->made[x->root] == g->number &&
                                (g->by_row[x->root] != g->number || x->array.shape->size != s->n || x->shift))))
            return 0;
    }
    return 1;
}

/* May steps of the group read what it makes in other places? */
static int may_be_ordered(const step *first, int n)
{
    int cheap = !first->reductions && first->width <= 1;
    for (int j = 0; cheap && j < n; j++)
        cheap = is_load(&first[j]) || (first[j].kind < LOAD_STEP && fg_is_cheap(&first[j]));
    return cheap;
}

/* How much further on than its own place a step finds the elements of its operand i in the memory of the operand's
 * root, if that is the same number for all: 1 and *distance, else 0. */
static int distance_of(const fg_program *p, const step *s, int i, int64_t *distance)
{
    const buffer *x = &p->buffer[s->in[i]], *root = &p->buffer[x->root];
    const fg_piece *piece = s->joined ? &s->joined->piece[i] : NULL;
    int64_t itemsize = (int64_t)fg_itemsize(x->array.dtype);
    if (!piece || piece->dim[0] != s->n || piece->step[0] != 1 || piece->stride[0] != 1 || piece->shift ||
        root->padded_in_place || root->panel || root->row_sums || root->array.shape->size != s->n ||
        root->array.dtype != x->array.dtype || x->shift % itemsize)
        return 0;
    *distance = x->shift / itemsize - piece->start[0];
    return 1;
}

/* Can a group of n steps load what step s, a JOIN_STEP, puts together? Its pieces are complete, or all that the group
 * makes lies in earlier blocks, in an order in which these can run, which is then *order. */
static int can_join(const fg_program *p, const step *s, const step *first, int n, const group *g, int *order)
{
    if (reads_any(p, s, g->passed, g->number))
        return 0;
    for (int i = 0; i < s->n_in; i++) {
        int root = p->buffer[s->in[i]].root;
        int64_t distance;
        if (g->made[root] != g->number)
            continue;
        if (g->by_row[root] == g->number || !distance_of(p, s, i, &distance))
            return 0;
        int here = distance > 0 ? -1 : 1;
        if (distance && *order && *order != here)
            return 0;
        if (distance && !*order && !may_be_ordered(first, n))
            return 0;
        *order = distance ? here : *order;
    }
    return 1;
}

/* Can a group load what step s loads? Its operand has to be complete, or have one element for each row of the group,
 * which is repeated along the row. */
static int can_load(const fg_program *p, const step *s, const step *first, int n, const group *g, int *order)
{
    const buffer *x = &p->buffer[s->in[0]];
    const fg_strided *t = &s->strided;
    int64_t width = row_length(first);
    if (s->kind == JOIN_STEP)
        return can_join(p, s, first, n, g, order);
    if (g->passed[x->root] == g->number)
        return 0;
    return g->made[x->root] != g->number ||
           (g->by_row[x->root] == g->number && width && !x->shift && x->array.shape->size * width == s->n &&
            t->ndim == 2 && t->dim[0] == width && t->stride[0] == 0 && t->stride[1] == 1 && !t->shift);
}

/* Can it load all operands of s, if its blocks run in *order, which may be changed? The group has n steps. */
static int can_load_all(const fg_program *p, const step *s, const step *first, int n, const group *g, int *order)
{
    *order = g->order;
    for (int i = 0; i < s->n_in; i++) {
        int k = s->in[i] < 0 ? 0 : g->loader[s->in[i]];
        if (k && p->step[k - 1].group && !can_load(p, &p->step[k - 1], first, n, g, order))
            return 0;
    }
    return !*order || fg_is_cheap(s);
}

static int loads_alike(const step *s, const step *t)
{
    const fg_strided *a = &s->strided, *b = &t->strided;
    size_t bytes = (size_t)a->ndim * sizeof *a->dim;
    if (s->kind != t->kind || s->n_in != t->n_in || memcmp(s->in, t->in, (size_t)s->n_in * sizeof *s->in))
        return 0;
    if (s->kind == JOIN_STEP)
        return s->op == t->op && s->n_attr == t->n_attr && s->n == t->n &&
               !memcmp(s->attr, t->attr, (size_t)s->n_attr * sizeof *s->attr);
    return a->ndim == b->ndim && a->shift == b->shift && !memcmp(a->dim, b->dim, bytes) &&
           !memcmp(a->stride, b->stride, bytes);
}

/* Put the steps that load the operands of step s at the end of the group; where it has loaded the same already, s reads
 * that. */
static void take_loads(fg_program *p, const step *s, group *g)
{
    for (int i = 0; i < s->n_in; i++) {
        int k = s->in[i] < 0 ? 0 : g->loader[s->in[i]], same = -1;
        if (!k || !p->step[k - 1].group)
            continue;
        step *load = &p->step[k - 1];
        load->group = 0;
        for (int j = g->start; j < g->end && same < 0; j++)
            if (is_load(&g->sorted[j]) && loads_alike(&g->sorted[j], load))
                same = g->sorted[j].y;
        if (same >= 0)
            ((int *)p->operands.item)[s->in + i - (int *)p->operands.item] = same;
        else
            g->sorted[g->end++] = *load;
    }
}

static int has_rows(const fg_program *p, const step *s)
{
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0 && (p->buffer[s->in[i]].period || run_at(s, i)))
            return 1;
    return 0;
}

/* Does a flat step read an operand in runs, and none from a buffer where a row is repeated? Then its operands are
 * broadcast to its result, and it may run by itself, which is faster than block by block. Not if all operands have one
 * shape, which has to be that of the result then; nor if it is a derivative and reads its cotangent so: the instruction
 * takes none that is broadcast. */
static int is_broadcast(const fg_program *p, const step *s)
{
    int found = 0, are_alike = 1, first = -1;
    for (int i = 0; i < s->n_in; i++) {
        if (s->in[i] >= 0 && first >= 0)
            are_alike = are_alike && fg_shape_equal(shape_at(p, first), shape_at(p, s->in[i]));
        first = first < 0 ? s->in[i] : first;
        if (s->in[i] >= 0 && p->buffer[s->in[i]].period)
            return 0;
        if (s->op >= FG_N_OPS && i >= 2 && run_at(s, i))
            return 0;
        found |= run_at(s, i) != 0;
    }
    return found && !are_alike;
}

static void join(const fg_program *p, const step *s, group *g)
{
    int y = p->buffer[s->y].root;
    g->mine[y] = g->made[y] = g->number;
    if (s->by_row || s->kind == ROWS_STEP)
        g->by_row[y] = g->number;
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0)
            g->mine[p->buffer[s->in[i]].root] = g->number;
}

/* What a reduction reduces: all elements, rows or columns, and the length of the rows; or RUN: none of these. */
static kind kind_of_axes(const fg_program *p, const step *s, int64_t *width)
{
    const fg_shape *x = shape_at(p, s->in[0]);
    kind found = SUM_STEP;
    int started = 0, previous = 0; /* was the axis after this one summed? */
    *width = 1;
    for (int i = x->ndim - 1; i >= 0; i--) {
        if (x->dim[i] == 1)
            continue;
        int here = (int)(s->attr[0] >> i & 1);
        if (!started)
            found = here ? ROWS_STEP : COLS_STEP;
        else if (here != previous && here == (found == ROWS_STEP))
            return RUN; /* summed and other axes alternate more than once */
        if (here == (found == ROWS_STEP))
            *width *= x->dim[i];
        started = 1;
        previous = here;
    }
    if (s->n == 1)
        *width = 1;
    return s->n == 1 ? SUM_STEP : (found == COLS_STEP ? *width < FG_SUM_COLS : *width > WIDEST) ? RUN : found;
}

/* What a step reduces, and the length of the rows: rows or columns, or of a sum also all elements; or RUN. */
static kind kind_of_any_reduction(const fg_program *p, const step *s, int64_t *width)
{
    if (s->kind != RUN || (s->op != FG_OP_sum && s->op != FG_OP_max && s->op != FG_OP_min) ||
        !FG_IS_FLOAT(p->buffer[s->y].array.dtype))
        return RUN;
    kind found = kind_of_axes(p, s, width);
    return s->op == FG_OP_sum || found == COLS_STEP || (found == ROWS_STEP && *width > 1) ? found : RUN;
}

/* The kind of a step that reduces something that the group reads or computes, if its blocks fit those of the group's
 * other steps; else RUN. */
static kind kind_of_reduction(const fg_program *p, const step *s, const group *g, int64_t *width)
{
    const step *first = &g->sorted[g->start];
    if ((s->op != FG_OP_sum && s->op != FG_OP_max && s->op != FG_OP_min) || shape_at(p, s->in[0])->size != first->n ||
        g->order || first->reductions == FG_MAX_REDUCTIONS || !reads_any(p, s, g->mine, g->number) ||
        reads_any(p, s, g->passed, g->number) || reads_across(p, s, first, g))
        return RUN;
    kind found = kind_of_any_reduction(p, s, width);
    if (first->width ? first->width != *width : !can_have_rows(p, first, g->end - g->start, *width))
        return RUN;
    return found;
}

/* Does a group start at step k, which reduces rows? It does if a later flat step reads the same elements, as that of a
 * softmax. */
static int starts_with_rows(const fg_program *p, int k, int64_t *width)
{
    const step *s = &p->step[k];
    if (kind_of_any_reduction(p, s, width) != ROWS_STEP || *width < 2)
        return 0;
    int v = s->in[0];
    int64_t n = shape_at(p, v)->size;
    for (int j = k + 1; n >= FG_FUSE_FROM && j < p->n_steps && j <= k + LOOK_AHEAD; j++) {
        const step *t = &p->step[j];
        for (int i = 0; t->group && t->kind != RUN && !is_load(t) && t->n == n && i < t->n_in; i++)
            if (t->in[i] == v)
                return 1;
    }
    return 0;
}

/* Does a later step of a group of n steps read what one of them makes of rows? */
static int reads_rows(const fg_program *p, const step *first, int n)
{
    for (int j = 0; j < n; j++)
        for (int k = j + 1; first[j].kind == ROWS_STEP && k < n; k++)
            if (reads_root(p, &first[k], p->buffer[first[j].y].root))
                return 1;
    return 0;
}

/* How many elements a group of n steps works on at a time: with sums of rows, whole rows, and more of them where
 * later steps read what is made of rows; with reductions of columns, a multiple of FG_SUM_PART rows; with products, of
 * the rows that take_products has left in first->block. */
static int64_t block_of(const fg_program *p, const step *first, int n)
{
    int is_product = first->kind == PRODUCT_STEP, sums_columns = 0;
    int64_t itemsize = 1;
    for (int j = 0; j < n; j++) {
        sums_columns |= first[j].kind == COLS_STEP;
        itemsize = (int64_t)first[j].itemsize > itemsize ? (int64_t)first[j].itemsize : itemsize;
    }
    int64_t part = block_width(first) * (is_product ? first->block : sums_columns ? FG_SUM_PART : 1), least = FG_BLOCK;
    if (is_product)
        least = PRODUCT_BYTES / itemsize;
    else if (!sums_columns && reads_rows(p, first, n))
        least = ROWS_BYTES / itemsize;
    int64_t block = first->width == 0   ? FG_BLOCK
                    : first->width == 1 ? FG_SUM_LEAF
                    : part < least      ? least / part * part
                                        : part;
    return block < elements_in_turn(first) ? block : elements_in_turn(first);
}

/* If a step is a product that a group can compute some rows at a time: a number of rows, of which every block must have
 * a multiple; else 0. Conditions:
 * (a) Tiles compute it, whose results do not depend on the number of rows.
 * (b) Its inner dimension is small: each block reads the second operand again, and may transpose it again.
 * (c) Its operands, which must stay alive until the group ends, are no larger than its result.
 * (d) Its result is large enough for several blocks. */
static int64_t rows_at_a_time(const fg_program *p, const step *s)
{
    const buffer *y = &p->buffer[s->y];
    if (s->kind != RUN || s->op != FG_OP_matmul || s->n_in != 2 || s->n_attr > FG_PLAIN_PRODUCT || y->panel ||
        y->array.shape->ndim != 2 ||
        !fg_gemm_uses_tiles(y->array.dtype, shape_at(p, s->in[0]), shape_at(p, s->in[1]), s->attr))
        return 0;
    int64_t bytes = 0, width = y->array.shape->dim[1], depth = shape_at(p, s->in[0])->dim[!s->attr[0]];
    for (int i = 0; i < 1 + (s->in[0] != s->in[1]); i++)
        if (values_of(p)[p->buffer[s->in[i]].root].from == RESULT)
            bytes += bytes_at(p, s->in[i]);
    int64_t rows = depth > 4 ? 4 * PRODUCT_ROWS : PRODUCT_ROWS;
    return depth <= PRODUCT_DEPTH && bytes <= bytes_at(p, s->y) && width > 1 &&
                   bytes_at(p, s->y) >= LEAST_BLOCKS * PRODUCT_BYTES && s->n / width >= LEAST_BLOCKS * rows
               ? rows
               : 0;
}

/* Does a group read a product element by element, if at all, and can its blocks be whole rows of it? */
static int fits(const fg_program *p, const step *product, const step *first, int size)
{
    int root = p->buffer[product->y].root;
    int64_t width = shape_at(p, product->y)->dim[1];
    if (product->n != first->n || (first->width ? first->width != width : !can_have_rows(p, first, size, width)))
        return 0;
    for (int j = 0; j < size; j++)
        for (int i = 0; i < first[j].n_in; i++) {
            int v = first[j].in[i];
            if (v >= 0 && p->buffer[v].root == root &&
                (first[j].kind == PRODUCT_STEP || is_load(&first[j]) || shape_at(p, v)->size != first->n ||
                 p->buffer[v].shift))
                return 0;
        }
    return 1;
}

/* May a short step, or a product of which the group may compute some rows at a time, run before the group? */
static int can_run_before(const fg_program *p, const step *s, int64_t elements, const group *g)
{
    return (s->n < FG_FUSE_FROM || (s->n == elements && rows_at_a_time(p, s))) && !fg_draws(s->op, s->attr) &&
           !reads_any(p, s, g->made, g->number) && !reads_any(p, s, g->passed, g->number);
}

/* Put at the start of a group the products that it reads and that no step before it reads: they are computed some rows
 * at a time. */
static void take_products(const fg_program *p, group *g)
{
    step *sorted = g->sorted;
    for (int j = g->start - 1; j >= 0 && j >= g->start - LOOK_AHEAD; j--) {
        step product = sorted[j];
        int reader = j + 1;
        product.block = rows_at_a_time(p, &product);
        if (!product.block)
            continue;
        while (reader < g->end && !reads_root(p, &sorted[reader], p->buffer[product.y].root))
            reader++;
        if (reader < g->start || reader == g->end || !fits(p, &product, &sorted[g->start], g->end - g->start))
            continue;
        memmove(&sorted[j], &sorted[j + 1], (size_t)(g->start - j - 1) * sizeof *sorted);
        product.kind = PRODUCT_STEP;
        product.width = shape_at(p, product.y)->dim[1];
        product.reductions = sorted[g->start].reductions;
        if (product.block < sorted[g->start].block)
            product.block = sorted[g->start].block;
        sorted[--g->start] = product;
    }
}

/* ---- forming groups ---------------------------------------------------------------------------------------------- */
/* Begin a group with a flat step, or with one that reduces rows of `width` elements (0: it is flat). Returns how many
 * elements the group works on. */
static int64_t begin_group(fg_program *p, const step *first, int64_t width, group *g)
{
    if (!width)
        take_loads(p, first, g);
    step *s = &g->sorted[g->end++];
    *s = *first;
    if (width) {
        s->kind = ROWS_STEP;
        s->n = shape_at(p, first->in[0])->size;
        s->reductions = 1;
        s->width = width;
    }
    join(p, s, g);
    return s->n;
}

/* Each of these takes a later step into the group, or before it, and returns 1; 0: the step is none for that.
 *
 * A flat step, with what it loads, if it is next to the group, or if it reads what the group reads or writes; and if it
 * reads nothing that an overtaken step writes. */
static int take_flat(fg_program *p, const step *s, int64_t elements, int is_next, group *g)
{
    const step *first = &g->sorted[g->start];
    int order;
    if (s->kind == RUN || s->n != elements || reads_any(p, s, g->passed, g->number) || reads_across(p, s, first, g) ||
        !(is_next || reads_any(p, s, g->mine, g->number)) || !can_have_rows(p, s, 1, first->width) ||
        !can_load_all(p, s, first, g->end - g->start, g, &order))
        return 0;
    g->order = order;
    take_loads(p, s, g);
    join(p, s, g);
    g->sorted[g->end++] = *s;
    return 1;
}

/* A flat step with one element for each row of the group. */
static int take_by_row(const fg_program *p, step *s, group *g)
{
    if (!is_by_row(p, s, &g->sorted[g->start], g))
        return 0;
    s->by_row = 1;
    join(p, s, g);
    g->sorted[g->end++] = *s;
    return 1;
}

/* A reduction of what the group reads or computes. One of columns or of all elements is complete, and may be read,
 * after the group only. */
static int take_reduction(const fg_program *p, const step *s, int64_t elements, group *g)
{
    step *first = &g->sorted[g->start], *y = &g->sorted[g->end];
    int64_t width;
    kind found = kind_of_reduction(p, s, g, &width);
    if (found == RUN)
        return 0;
    first->reductions++;
    first->width = width;
    *y = *s;
    y->kind = found;
    if (found == ROWS_STEP && width > 1)
        join(p, y, g);
    else
        g->passed[p->buffer[s->y].root] = g->number;
    y->n = elements;
    g->end++;
    return 1;
}

/* A step that can run before the group, later steps of which may then read its result. */
static int take_before(const fg_program *p, const step *s, int64_t elements, group *g)
{
    if (!can_run_before(p, s, elements, g))
        return 0;
    step *first = &g->sorted[g->start];
    memmove(first + 1, first, (size_t)(g->end - g->start) * sizeof *first);
    *first = *s;
    g->start++;
    g->end++;
    return 1;
}

/* Take later steps, from step k on, into the group, or let them run before it. */
static void grow_group(fg_program *p, int k, int64_t elements, group *g)
{
    for (int passed = 0, before = 0; k < p->n_steps && passed + before < LOOK_AHEAD; k++) {
        step *s = &p->step[k];
        if (!s->group || is_load(s))
            continue;
        if (take_flat(p, s, elements, !passed, g) || take_by_row(p, s, g) || take_reduction(p, s, elements, g)) {
            s->group = 0;
        } else if (take_before(p, s, elements, g)) {
            before++;
            s->group = 0;
        } else {
            g->passed[p->buffer[s->y].root] = g->number;
            passed++;
        }
    }
}

/* Write at the group's first step how it runs. */
static void end_group(const fg_program *p, const step *begun_with, group *g)
{
    if (!g->order)
        take_products(p, g);
    step *first = &g->sorted[g->start];
    int size = g->end - g->start;
    first->order = g->order;
    if (size == 1 && is_broadcast(p, first)) {
        first->kind = RUN;
        first->kernel = (void *)fg_run_of(first->op);
        return;
    }
    first->group = size;
    first->strip = first->width > WIDEST ? STRIP : 0;
    if (size > 1 || has_rows(p, begun_with))
        first->block = block_of(p, first, size);
}

/* Form all groups: fills g->sorted; a step whose group is 0 has been moved. Returns how many steps there are: fewer
 * where a group loads an operand for several steps. */
static int sort_steps(fg_program *p, group *g)
{
    for (int k = 0; k < p->n_steps; k++) {
        const step *first = &p->step[k];
        int64_t width = 0;
        if (!first->group || is_load(first))
            continue;
        int by_rows = first->kind == RUN && starts_with_rows(p, k, &width);
        g->number = k + 1;
        g->start = g->end;
        g->order = 0;
        if (!by_rows && (first->kind == RUN || first->n < FG_FUSE_FROM)) {
            g->sorted[g->end++] = *first;
            continue;
        }
        grow_group(p, k + 1, begin_group(p, first, by_rows ? width : 0, g), g);
        if (by_rows && g->end - g->start == 1)
            g->sorted[g->start] = *first; /* alone it is no group */
        else
            end_group(p, first, g);
    }
    return g->end;
}

int fg_pass_fuse(fg_program *p)
{
    step *sorted = malloc((size_t)(p->n_steps + 1) * sizeof *sorted);
    int n = p->n_buffers, *marks = calloc(5 * (size_t)n + 1, sizeof *marks);
    if (!sorted || !marks) {
        free(sorted);
        free(marks);
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    }
    int *loader = marks + 4 * n;
    for (int k = 0; k < p->n_steps; k++)
        if (is_load(&p->step[k]))
            loader[p->step[k].y] = k + 1;
    n = sort_steps(p, &(group){0, 0, marks, marks + n, marks + 2 * n, marks + 3 * n, loader, sorted, 0, 0});
    free(marks);
    free(p->step);
    p->step = sorted;
    p->n_steps = n;
    return FG_OK;
}
