/* row_sparse.c: gradients that are kept as rows: those of a table of which a step reads a few rows, as of embeddings.
 *
 * The gradient of `take` along the first axis is `untake`: zeros of the size of the table, to which rows are added.
 * Where nothing but the update of the parameter reads it, such a gradient, or the sum of several, becomes one step.
 * It finds which rows there are, in ascending order, and sums the values of each; what it needs is as large as the
 * values. training.c updates these rows alone where the optimizer leaves the others as they are, and else makes the
 * gradient a panel at a time. The sums are computed by `untake` on an index into the rows found, and several of them
 * are added in the order of the trace, so that they have the bits of the whole gradient.
 */
#include "core/debug.h"
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

/* ---- the pass ---------------------------------------------------------------------------------------------------- */
/* Is an instruction the gradient of a gather along the first axis? */
static int adds_rows(const fg_program *p, const instruction *a)
{
    return a->op == FG_OP_untake && a->n_in == 2 && attrs_of(p, a)[0] == 0 && attrs_of(p, a)[1] == 0;
}

static const fg_shape *traced_shape(const fg_program *p, int v) { return values_of(p)[v].array->shape; }

/* Is every term read by the sum of the terms alone? Common subexpression elimination may have made two of them one. */
static int are_read_once(const fg_program *p, const int *uses, const int *term, int n)
{
    for (int t = 0; t < n; t++) {
        int times = 0;
        for (int i = 0; i < n; i++)
            times += term[i] == term[t];
        if (uses[instructions_of(p)[term[t]].y] != times)
            return 0;
    }
    return 1;
}

/* Find the terms of value v, the last first: each an instruction that adds rows, and no term is read otherwise. */
static fg_gradient_form find_terms(const fg_program *p, int v, const int *maker, const int *uses, int *term, int *n)
{
    const fg_shape *whole = traced_shape(p, v);
    int64_t rows = 0;
    *n = 0;
    if (!whole->size)
        return FG_DENSE;
    while (v >= 0) {
        const instruction *a = maker[v] < 0 ? NULL : &instructions_of(p)[maker[v]];
        int rest = -1, last = v;                /* the last term, and what it is added to */
        if (a && a->op == FG_OP_add) {
            const int *in = operands_of(p, a);
            for (int i = 0; i < 2 && rest < 0; i++)
                if (maker[in[i]] >= 0 && adds_rows(p, &instructions_of(p)[maker[in[i]]])) {
                    last = in[i];
                    rest = in[!i];
                }
            if (rest < 0)
                return *n ? FG_DENSE_OTHER_TERMS : FG_DENSE;
            a = &instructions_of(p)[maker[last]];
        }
        if (!a || !adds_rows(p, a) || !fg_shape_equal(traced_shape(p, last), whole))
            return *n ? FG_DENSE_OTHER_TERMS : FG_DENSE;
        if (last != v && uses[v] != 1)
            return FG_DENSE_READ;
        if (*n == FG_MAX_ROW_TERMS)
            return FG_DENSE_MANY_TERMS;
        term[(*n)++] = maker[last];
        rows += traced_shape(p, operands_of(p, a)[1])->size;
        v = rest;
    }
    if (!are_read_once(p, uses, term, *n))
        return FG_DENSE_READ;
    return rows <= whole->dim[0] / 2 ? FG_ROW_SPARSE : FG_DENSE_MANY_ROWS;
}

/* Let instruction k compute the rows of n terms, the last of which comes first in the list. */
static int sum_rows(fg_program *p, int k, const int *term, int n)
{
    int64_t length = traced_shape(p, instructions_of(p)[k].y)->dim[0], rows = 0;
    int start = p->operands.n, attr = p->attrs.n;
    for (int t = n - 1; t >= 0; t--) {
        const int *in = operands_of(p, &instructions_of(p)[term[t]]);
        int operand[2] = {in[0], in[1]};
        rows += traced_shape(p, operand[1])->size;
        for (int i = 0; i < 2; i++) {
            int *to = fg_list_add(&p->operands, sizeof *to);
            if (!to)
                return FG_NO_MEMORY;
            *to = operand[i];
        }
    }
    const int64_t attrs[FG_ROW_SUMS_ATTRS] = {0, 0, length, rows};
    for (int i = 0; i < FG_ROW_SUMS_ATTRS; i++) {
        int64_t *to = fg_list_add(&p->attrs, sizeof *to);
        if (!to)
            return FG_NO_MEMORY;
        *to = attrs[i];
    }
    instruction *a = &instructions_of(p)[k];
    *a = (instruction){FG_OP_untake, 2 * n, FG_ROW_SUMS_ATTRS, a->y, start, attr};
    return FG_OK;
}

int fg_pass_keep_rows(fg_program *p)
{
    int status = FG_OK, *maker, *uses;
    if (!p->n_gradients)
        return FG_OK;
    p->form = calloc((size_t)p->n_gradients, sizeof *p->form);
    if (!p->form || !fg_count_uses(p, &maker, &uses))
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; k < p->instructions.n; k++)
        maker[instructions_of(p)[k].y] = k;
    for (int i = 0; !status && i < p->n_gradients; i++) {
        int v = p->out[p->n_out - p->n_gradients + i], term[FG_MAX_ROW_TERMS], n;
        p->form[i] = find_terms(p, v, maker, uses, term, &n);
        if (p->form[i] == FG_ROW_SPARSE)
            status = sum_rows(p, maker[v], term, n);
    }
    free(maker);
    return status;
}

const char *fg_program_gradient(const fg_program *p, int i)
{
    switch (p->form ? p->form[i] : FG_DENSE) {
    case FG_ROW_SPARSE:
        return "row-sparse";
    case FG_DENSE_OTHER_TERMS:
        return "dense: the parameter is read otherwise than by gathers of rows, too";
    case FG_DENSE_READ:
        return "dense: something else reads the gradient, too";
    case FG_DENSE_MANY_TERMS:
        return "dense: rows are gathered more than 16 times";
    case FG_DENSE_MANY_ROWS:
        return "dense: more rows are gathered than half of those that there are";
    default:
        return p->buffer[p->out[p->n_out - p->n_gradients + i]].panel ? "panels" : "dense";
    }
}

/* ---- the memory of such a gradient ------------------------------------------------------------------------------- */
typedef struct { int64_t row, at; } entry;      /* a row, and which of the values belongs to it */

/* Where in its memory things begin, in bytes: behind the values of as many rows as there are at most. */
typedef struct {
    int64_t count;              /* how many rows there are */
    int64_t row;                /* their numbers */
    int64_t place;              /* of each value: which of these rows it belongs to */
    int64_t spare;              /* entries to sort; then the sums of one term; then a panel of the whole gradient */
    int64_t end;
    int64_t panel;              /* rows of a panel */
} layout;

static int64_t aligned(int64_t bytes) { return (bytes + FG_ALIGN - 1) / FG_ALIGN * FG_ALIGN; }

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static layout layout_of(const fg_shape *s, size_t itemsize, int n_terms, int64_t length)
{
    enum { PANEL_BYTES = 1 << 15 };             /* stays in the cache next to the processor */
    int64_t n = s->dim[0], bytes = 1;           /* of a row */
    for (int i = 1; i < s->ndim; i++)
        bytes *= s->dim[i];
    bytes *= (int64_t)itemsize;
    layout l = {.count = aligned(n * bytes), .panel = most(PANEL_BYTES / bytes, 1)};
    l.panel = l.panel < length ? l.panel : length;
    l.row = l.count + FG_ALIGN;
    l.place = l.row + aligned(n * (int64_t)sizeof(int64_t));
    l.spare = l.place + aligned(n * (int64_t)sizeof(int64_t));
    l.end = l.spare + aligned(most(most(2 * n * (int64_t)sizeof(entry), n_terms > 1 ? n * bytes : 0), l.panel * bytes));
    return l;
}

int64_t fg_row_sums_bytes(const fg_shape *s, int dtype, int n_in, int64_t length)
{
    return layout_of(s, fg_itemsize(dtype), n_in / 2, length).end;
}

/* What is in such memory; shape: of as many rows as there are at most. */
static fg_row_sums sums_in(char *memory, const fg_shape *s, int dtype, const fg_shape *whole)
{
    int64_t length = whole->dim[0];
    layout l = layout_of(s, fg_itemsize(dtype), 1, length);
    return (fg_row_sums){*(const int64_t *)(memory + l.count),
                         whole->size / length,
                         l.panel,
                         (const int64_t *)(memory + l.row),
                         memory,
                         memory + l.spare};
}

fg_row_sums fg_row_sums_at(const fg_program *p, int i, char *memory)
{
    const fg_array *g = &p->buffer[p->out[p->n_out - p->n_gradients + i]].array;
    return sums_in(memory, g->shape, g->dtype, shape_at(p, i));
}

/* ---- the step ---------------------------------------------------------------------------------------------------- */
/* Sort n entries by rows below `length`, those of one row as they came, a byte of the row after the other from the last
 * on. `other` is memory for as many. Returns which of both has them. */
static entry *sort(entry *x, entry *other, int64_t n, int64_t length)
{
    for (int shift = 0; shift < 64 && (length - 1) >> shift; shift += 8) {
        int64_t start[257] = {0};
        for (int64_t k = 0; k < n; k++)
            start[(x[k].row >> shift & 255) + 1]++;
        for (int b = 0; b < 256; b++)
            start[b + 1] += start[b];
        for (int64_t k = 0; k < n; k++)
            other[start[x[k].row >> shift & 255]++] = x[k];
        entry *sorted = other;
        other = x;
        x = sorted;
    }
    return x;
}

int fg_row_sums_run(const fg_call *c, fg_array *y)
{
    const int64_t n = y->shape->dim[0], length = c->attr[2];
    const layout l = layout_of(y->shape, fg_itemsize(y->dtype), c->n_in / 2, length);
    char *memory = y->data;
    int64_t *row = (int64_t *)(memory + l.row), *place = (int64_t *)(memory + l.place), n_rows = 0;
    entry *x = (entry *)(memory + l.spare), *e = x;
    for (int t = 1; t < c->n_in; t += 2) {
        const fg_array *index = c->in[t].array;
        for (int64_t k = 0; k < index->shape->size; k++, e++) {
            int64_t given = ((const int64_t *)index->data)[k], i = given < 0 ? given + length : given;
            if (i < 0 || i >= length)
                return fg_index_outside("take", given, k, length);
            *e = (entry){i, e - x};
        }
    }
    FG_ASSERT(e - x == n);
    x = sort(x, e, n, length);
    for (int64_t k = 0; k < n; k++) {
        if (!k || x[k].row != row[n_rows - 1])
            row[n_rows++] = x[k].row;
        place[x[k].at] = n_rows - 1;
    }
    *(int64_t *)(memory + l.count) = n_rows;

    int status = FG_OK;
    int64_t elements = n ? n_rows * (y->shape->size / n) : 0;
    for (int t = 0; !status && t < c->n_in; t += 2) {
        fg_array index = *c->in[t + 1].array, sum = *y;
        index.data = place;
        sum.data = t ? memory + l.spare : memory;
        fg_tensor in[2] = {c->in[t], {&index, NULL}};
        const int64_t attr[3] = {0, 0, n};
        status = fg_run_of(FG_OP_untake)(&(fg_call){.op = FG_OP_untake, .n_in = 2, .n_attr = 3, .in = in, .attr = attr},
                                         &sum);
        if (t)
            fg_kernels[y->dtype].elementwise->binary[FG_BINARY_add](elements, memory, 1, sum.data, 1, memory);
        place += index.shape->size;
    }
    return status;
}

int fg_row_terms_sum(const fg_row_terms *t, const fg_shape *whole, int dtype, fg_row_sums *sums)
{
    fg_tensor in[2 * FG_MAX_ROW_TERMS];
    int64_t attr[FG_ROW_SUMS_ATTRS] = {0, 0, whole->dim[0], 0}, dim[FG_MAX_NDIM];
    for (int k = 0; k < t->n; k++) {
        in[2 * k] = (fg_tensor){t->term[k].values, NULL};
        in[2 * k + 1] = (fg_tensor){t->term[k].index, NULL};
        attr[3] += t->term[k].index->shape->size;
    }
    for (int i = 0; i < whole->ndim; i++)
        dim[i] = i ? whole->dim[i] : attr[3];
    fg_shape *shape = fg_shape_new(whole->ndim, dim);
    void *memory = shape ? malloc((size_t)fg_row_sums_bytes(shape, dtype, 2 * t->n, attr[2])) : NULL;
    int status = memory ? FG_OK : fg_fail(FG_NO_MEMORY, "no memory for the rows of a gradient");
    if (!status) {
        fg_array y = {.refs = 1, .dtype = (uint8_t)dtype, .storage = FG_OWNED, .shape = shape, .data = memory};
        status = fg_row_sums_run(
            &(fg_call){.op = FG_OP_untake, .n_in = 2 * t->n, .n_attr = FG_ROW_SUMS_ATTRS, .in = in, .attr = attr}, &y);
    }
    if (!status)
        *sums = sums_in(memory, shape, dtype, whole);
    else
        free(memory);
    fg_shape_unref(shape);
    return status;
}

int fg_replay_gradient_rows(const fg_program *p, fg_replay *r, int i, fg_row_sums *sums)
{
    int out = p->n_out - p->n_gradients + i;
    const buffer *g = &p->buffer[p->out[out]];
    *sums = (fg_row_sums){0};
    if (!g->row_sums)
        return FG_OK;
    const layout l = layout_of(g->array.shape, fg_itemsize(g->array.dtype), 1, shape_at(p, i)->dim[0]);
    char *memory = malloc((size_t)l.end);
    if (!memory)
        return fg_fail(FG_NO_MEMORY, "no memory for the rows of a gradient");
    memcpy(memory, fg_replay_address(r)[p->n_in + out], (size_t)l.spare);
    *sums = sums_in(memory, g->array.shape, g->array.dtype, shape_at(p, i));
    return FG_OK;
}

/* ---- rows of the whole gradient ---------------------------------------------------------------------------------- */
/* The first of the rows found that is not before this one. */
static int64_t first_from(const fg_row_sums *s, int64_t row)
{
    int64_t low = 0, high = s->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (s->row[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void fg_row_sums_spread(const fg_row_sums *s, size_t itemsize, int64_t from, int64_t n)
{
    size_t bytes = (size_t)s->width * itemsize;
    memset(s->panel, 0, (size_t)n * bytes);
    for (int64_t k = first_from(s, from); k < s->n && s->row[k] < from + n; k++)
        memcpy(s->panel + (size_t)(s->row[k] - from) * bytes, s->values + (size_t)k * bytes, bytes);
}

void fg_row_sums_write(const fg_row_sums *s, size_t itemsize, int64_t size, void *to)
{
    size_t bytes = (size_t)s->width * itemsize;
    memset(to, 0, (size_t)size * itemsize);
    for (int64_t k = 0; k < s->n; k++)
        memcpy((char *)to + (size_t)s->row[k] * bytes, s->values + (size_t)k * bytes, bytes);
}
