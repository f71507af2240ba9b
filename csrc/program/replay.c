/* replay.c: replays: runs of a compiled program, step by step, or by its native code.
 *
 * What a run writes (the arena, the headers of arrays, the pointers) is an fg_replay, which bind.c makes.
 */
#include "kernels/gemm_dispatch.h"
#include "program/replay.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*unary_kernel)(int64_t, const void *, void *);
typedef void (*binary_kernel)(int64_t, const void *, int, const void *, int, void *);
typedef void (*unary_vjp_kernel)(int64_t, const void *, const void *, const void *, void *);
typedef void (*binary_vjp_kernel)(int64_t, const void *, int, const void *, int, const void *, const void *, void *);
typedef void (*compare_kernel)(int64_t, const void *, int, const void *, int, uint8_t *);
typedef void (*where_kernel)(int64_t, const uint8_t *, int, const void *, int, const void *, int, void *);
typedef int (*any_kernel)(const fg_call *, fg_array *);

static inline void run_flat(const bound_step *s, char *const *x, int64_t n)
{
    void *y = x[FG_RESULT];
    switch (s->kind) {
    case UNARY_STEP:
        ((unary_kernel)s->kernel)(n, x[0], y);
        break;
    case BINARY_STEP:
        ((binary_kernel)s->kernel)(n, x[0], s->stride[0], x[1], s->stride[1], y);
        break;
    case UNARY_VJP_STEP:
        ((unary_vjp_kernel)s->kernel)(n, x[0], x[1], x[2], y);
        break;
    case BINARY_VJP_STEP:
        ((binary_vjp_kernel)s->kernel)(n, x[0], s->stride[0], x[1], s->stride[1], x[2], x[3], y);
        break;
    case COMPARE_STEP:
        ((compare_kernel)s->kernel)(n, x[0], s->stride[0], x[1], s->stride[1], y);
        break;
    default:
        ((where_kernel)s->kernel)(n, (uint8_t *)x[0], s->stride[0], x[1], s->stride[1], x[2], s->stride[2], y);
    }
}

/* The kernels for the dtype of a step's result. */
static const fg_kernel_set *kernels_of(const step *s)
{
    return &fg_kernels[s->itemsize == sizeof(float) ? FG_FLOAT32 : FG_FLOAT64];
}

/* at / n; processors divide small numbers several times faster, if they are told. */
static inline int64_t quotient(int64_t at, int64_t n)
{
    return (at | n) >> 32 ? at / n : (int64_t)((uint32_t)at / (uint32_t)n);
}

/* A flat step of a group like run_part, some operands of which are read in runs: one kernel call for each run, or the
 * part of it that is among the n elements. */
static void run_in_runs(const step *plan, const bound_step *s, int64_t at, int64_t from, int64_t n)
{
    /* Where each operand is, how far it goes with an element and at the end of a run, and where it goes back to its
     * beginning. */
    char *x[FG_RESULT + 1];
    int64_t step[FG_RESULT + 1], hop[FG_RESULT + 1], run = 0, left = 0;
    const char *end[FG_RESULT + 1];
    int n_in = plan->n_in;
    for (int i = 0; i <= FG_RESULT; i++) {
        const access_pattern *access = &plan->access[i];
        int64_t period = access->period, itemsize = access->itemsize, element = period == BLOCKWISE ? from : at;
        step[i] = itemsize;
        hop[i] = 0;
        end[i] = NULL;
        if (i < n_in && plan->run[i] > 0) {
            int64_t runs = quotient(element, run = plan->run[i]);
            left = run - (element - runs * run);
            element = runs;
            step[i] = 0;
            hop[i] = itemsize;
            end[i] = period == BLOCKWISE ? NULL : s->at[i] + period * itemsize;
        } else if (i < n_in && plan->run[i] == FG_ROW) {
            hop[i] = -period * itemsize;
        }
        element -= period > 0 ? quotient(element, period) * period : 0;
        x[i] = s->at[i] + element * itemsize;
    }
    if (s->kind == BINARY_STEP) { /* the same loop, in registers */
        binary_kernel kernel = (binary_kernel)s->kernel;
        const char *a = x[0], *b = x[1];
        for (char *y = x[FG_RESULT];; left = run) {
            int64_t m = left < n ? left : n;
            kernel(m, a, s->stride[0], b, s->stride[1], y);
            if (!(n -= m))
                return;
            y += m * step[FG_RESULT];
            a += m * step[0] + hop[0];
            b += m * step[1] + hop[1];
            a = a == end[0] ? s->at[0] : a;
            b = b == end[1] ? s->at[1] : b;
        }
    }
    for (;; left = run) {
        int64_t m = left < n ? left : n;
        run_flat(s, x, m);
        if (!(n -= m))
            return;
        x[FG_RESULT] += m * step[FG_RESULT];
        for (int i = 0; i < n_in; i++) {
            x[i] += m * step[i] + hop[i];
            if (x[i] == end[i])
                x[i] = s->at[i];
        }
    }
}

/* A flat step of a group for n of its elements, from element `at` on, which is element `from` of its block. */
static inline void run_part(const step *plan, const bound_step *s, int64_t at, int64_t from, int64_t n)
{
    char *x[FG_RESULT + 1];
    for (int i = 0; i <= FG_RESULT; i++) {
        int64_t period = plan->access[i].period;
        int64_t element = period == BLOCKWISE ? from : period ? at % period : at;
        x[i] = s->at[i] + element * plan->access[i].itemsize;
    }
    run_flat(s, x, n);
}

/* What a JOIN_STEP fetches for n elements from number `at` on. */
static void run_join(const step *plan, const fg_call *c, int64_t at, int64_t n, char *y)
{
    const void *x[FG_MAX_PIECES];
    if (!plan->joined) {
        const fg_array *rows = c->in[0].array;
        int64_t inner = 1, axis = c->attr[0];
        for (int64_t i = axis + 1; i < rows->shape->ndim; i++)
            inner *= rows->shape->dim[i];
        fg_take_read(plan->itemsize, inner, rows->shape->dim[axis], c->in[1].array->data, at, n, rows->data, y);
        return;
    }
    for (int i = 0; i < c->n_in; i++)
        x[i] = c->in[i].array->data;
    fg_joined_read(plan->joined, c->in[0].array->dtype, at, n, x, y);
}

/* The same as run_part of a step that reads operands in runs, or has an element for each row, and of a load; the first
 * of n elements of the group, which are a block, is element `at`. */
static void run_spread(const step *plan, const bound_step *s, int64_t at, int64_t n, int64_t width)
{
    at = plan->by_row ? at / width : at;
    n = plan->by_row ? n / width : n;
    for (int64_t from = 0; from < n; from += FG_BLOCK) {
        int64_t part = n - from < FG_BLOCK ? n - from : FG_BLOCK;
        const access_pattern *x = &plan->access[0], *y = &plan->access[FG_RESULT];
        if (s->kind == LOAD_STEP)
            fg_strided_read(&plan->strided, plan->itemsize, x->period == BLOCKWISE ? from : at + from, part, s->at[0],
                            s->at[FG_RESULT] + (y->period == BLOCKWISE ? from : at + from) * y->itemsize);
        else if (s->kind == JOIN_STEP)
            run_join(plan, (const fg_call *)s->at[0], at + from, part,
                     s->at[FG_RESULT] + (y->period == BLOCKWISE ? from : at + from) * y->itemsize);
        else if (s->in_runs)
            run_in_runs(plan, s, at + from, from, part);
        else
            run_part(plan, s, at + from, from, part);
    }
}

/* Where a step that works on whole rows of a block finds its operand, or puts its result, i: element `at` of a whole
 * array, or the first of a block. */
static inline char *rows_at(const step *plan, const bound_step *s, int i, int64_t at)
{
    const access_pattern *access = &plan->access[i];
    return s->at[i] + (access->period == BLOCKWISE ? 0 : at * access->itemsize);
}

typedef void part_kernel(int go_on, int64_t n, int64_t cols, int64_t ld, const void *x, void *y);
/* The kernel that joins the sums, or extremes, of step s with those of further rows. */
static part_kernel *part_of(const step *s)
{
    const fg_reduce_kernels *k = kernels_of(s)->reduce;
    return s->op == FG_OP_max ? k->max_part : s->op == FG_OP_min ? k->min_part : k->sum_part;
}

/* A group that runs, for whole rows or for a strip of their columns. */
typedef struct {
    const step *plan;
    const bound_step *s;
    int64_t column;             /* the first column of the strip; 0: rows are whole */
    int64_t width;              /* the length of a row, or of its part in the strip */
    int64_t block;              /* elements of a block */
} sweep;

/* A step that works on whole rows of the block of n elements from `at` on. Sums and extremes of rows are written to
 * their results, others to `sums`: one of columns starts in the block for which `first` is true, and later blocks go on
 * with it. */
static void run_rows(const step *t, const bound_step *s, int64_t at, int64_t n, int64_t width, char *sums, int first)
{
    if (t->kind == PRODUCT_STEP) {
        fg_gemm_rows((const fg_call *)s->at[0], at / width, n / width, rows_at(t, s, FG_RESULT, at));
        return;
    }
    const fg_reduce_kernels *k = kernels_of(t)->reduce;
    const char *x = rows_at(t, s, 0, at);
    if (t->kind == ROWS_STEP)
        (t->op == FG_OP_sum   ? k->sum_rows
         : t->op == FG_OP_max ? k->max_rows
                              : k->min_rows)(n / width, width, x, rows_at(t, s, FG_RESULT, at / width));
    else if (t->kind == SUM_STEP)
        k->sum_rows(1, n, x, sums);
    else
        part_of(t)(!first, n / width, width, width, x, sums);
}

/* Where operand i of a step, or its result, has the first element of row `row` of a strip: in a block it is element
 * `from`. *hop: how many bytes further on the next row begins; -1: that is not the same for all rows. */
static char *strip_at(const sweep *g, const step *t, const bound_step *s, int i, int64_t row, int64_t from,
                      int64_t *hop)
{
    const access_pattern *x = &t->access[i];
    int64_t width = g->plan->width, run = run_at(t, i), at = row * width + g->column;
    int by_run = i < t->n_in && run > 0;
    if (x->period == BLOCKWISE) {
        *hop = g->width * x->itemsize;
        return s->at[i] + from * x->itemsize;
    }
    if (by_run) {
        at = quotient(at, run);
        *hop = run == width && x->period * width == g->plan->n ? x->itemsize : -1; /* a run for each row, or not */
    } else if (x->period) {
        *hop = width % x->period ? -1 : 0;
    } else {
        *hop = width * x->itemsize;
    }
    at -= x->period ? quotient(at, x->period) * x->period : 0;
    return s->at[i] + at * x->itemsize;
}

/* A load for the rows from `row` on of a strip. */
static void load_in_strip(const sweep *g, const step *t, const bound_step *s, int64_t row, int64_t rows)
{
    int64_t hop;
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = (row + r) * g->plan->width + g->column;
        char *y = strip_at(g, t, s, FG_RESULT, row + r, r * g->width, &hop);
        if (s->kind == LOAD_STEP)
            fg_strided_read(&t->strided, t->itemsize, at, g->width, s->at[0], y);
        else
            run_join(t, (const fg_call *)s->at[0], at, g->width, y);
    }
}

/* The same of a flat step: row by row, unless all that it works on is in blocks, or single elements. */
static void run_flat_in_strip(const sweep *g, const step *t, const bound_step *s, int64_t row, int64_t rows)
{
    char *x[FG_RESULT + 1];
    int64_t hop[FG_RESULT + 1], width = g->width;
    int in_blocks = 1;
    for (int i = 0; i <= FG_RESULT; i++)
        in_blocks = in_blocks && (t->access[i].period == BLOCKWISE || !t->access[i].itemsize);
    if (in_blocks) {
        for (int64_t from = 0, n = rows * width; from < n; from += FG_BLOCK)
            run_part(t, s, 0, from, n - from < FG_BLOCK ? n - from : FG_BLOCK);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        for (int i = 0; i <= FG_RESULT; i++)
            if (r && hop[i] >= 0)
                x[i] += hop[i];
            else
                x[i] = strip_at(g, t, s, i, row + r, r * width, &hop[i]);
        run_flat(s, x, width);
    }
}

/* The same of a product, or of a reduction of columns. */
static void run_rows_of_strip(const sweep *g, const step *t, const bound_step *s, int64_t row, int64_t rows, char *sums,
                              int first)
{
    int64_t hop;
    int i = t->kind == PRODUCT_STEP ? FG_RESULT : 0;
    int64_t ld = t->access[i].period == BLOCKWISE ? g->width : g->plan->width;
    char *at = strip_at(g, t, s, i, row, 0, &hop);
    if (t->kind == PRODUCT_STEP)
        fg_gemm_part((const fg_call *)s->at[0], row, rows, g->column, g->width, at, ld);
    else
        part_of(t)(!first, rows, g->width, ld, at, sums);
}

/* The steps of a group for the n elements of a block from `at` on; `first`: it is the first of those whose sums go to
 * `sums`. */
static void run_block(const sweep *g, int64_t at, int64_t n, char *const *sums, int first)
{
    const step *plan = g->plan;
    for (int j = 0; j < plan->group; j++) {
        const step *t = &plan[j];
        const bound_step *s = &g->s[j];
        int is_whole = s->kind >= SUM_STEP;
        char *sum = partial_bytes(plan, t) ? *sums++ : NULL;
        if (plan->strip && is_whole)
            run_rows_of_strip(g, t, s, at / g->width, n / g->width, sum, first);
        else if (plan->strip && is_load(t))
            load_in_strip(g, t, s, at / g->width, n / g->width);
        else if (plan->strip)
            run_flat_in_strip(g, t, s, at / g->width, n / g->width);
        else if (s->is_spread)
            run_spread(t, s, at, n, g->width);
        else if (is_whole)
            run_rows(t, s, at, n, g->width, sum, first);
        else
            for (int64_t from = 0; from < n; from += FG_BLOCK)
                run_part(t, s, at + from, from, n - from < FG_BLOCK ? n - from : FG_BLOCK);
    }
}

static void run_blocks(const sweep *g, int64_t at, int64_t n, char *const *sums)
{
    int64_t block = g->block;
    if (g->plan->order < 0) {
        for (int64_t from = (n - 1) / block * block; from >= 0; from -= block)
            run_block(g, at + from, n - from < block ? n - from : block, sums, 0);
        return;
    }
    for (int64_t from = 0; from < n; from += block)
        run_block(g, at + from, n - from < block ? n - from : block, sums, from == 0);
}

/* lower = lower joined with upper, for each sum, or extreme, of columns of a group. */
static void join_sums(const step *plan, int64_t width, char *const *upper, char *const *lower)
{
    for (int j = 0; j < plan->group; j++)
        if (partial_bytes(plan, &plan[j])) {
            part_kernel *join = part_of(&plan[j]);
            join(1, 1, width, width, *upper++, *lower++);
        }
}

/* run_blocks for a group with sums, or extremes of columns. Blocks, and the order in which partial sums are added, are
 * those of the kernels that sum whole rows and columns, so that the bits are the same. The recursion is no deeper than
 * the logarithm of n; each level has partial sums of its own in `scratch`. */
static void run_halves(const sweep *g, int64_t at, int64_t n, char *const *sums, char *scratch)
{
    const step *plan = g->plan;
    int64_t half = sums_half(g->width, n);
    char *upper[FG_MAX_REDUCTIONS];
    if (!half) {
        run_blocks(g, at, n, sums);
        return;
    }
    for (int j = 0, i = 0; j < plan->group; j++)
        if (partial_bytes(plan, &plan[j])) {
            upper[i++] = scratch;
            scratch += partial_bytes(plan, &plan[j]);
        }
    run_halves(g, at, half, sums, scratch);
    run_halves(g, at + half, n - half, upper, scratch);
    join_sums(plan, g->width, upper, sums);
}

/* A group for the columns from number `from` up to `to`, a strip of them after the other. */
static void run_strips(const step *plan, const bound_step *s, int64_t from, int64_t to, char *scratch)
{
    char *sums[FG_MAX_REDUCTIONS];
    for (int64_t column = from; column < to; column += plan->strip) {
        int64_t width = to - column < plan->strip ? to - column : plan->strip;
        sweep g = {plan, s, column, width, plan->block / plan->strip * width};
        for (int j = 0, i = 0; j < plan->group; j++)
            if (partial_bytes(plan, &plan[j]))
                sums[i++] = s[j].at[FG_RESULT] + column * (int64_t)plan[j].itemsize;
        int64_t n = plan->n / plan->width * width;
        if (plan->reductions)
            run_halves(&g, 0, n, sums, scratch);
        else
            run_blocks(&g, 0, n, NULL);
    }
}

static void run_group(const step *plan, const bound_step *s, char *scratch)
{
    char *sums[FG_MAX_REDUCTIONS];
    sweep g = {plan, s, 0, plan->width, plan->block};
    if (plan->strip) {
        run_strips(plan, s, 0, plan->width, scratch);
        return;
    }
    for (int j = 0, i = 0; plan->reductions && j < plan->group; j++)
        if (partial_bytes(plan, &plan[j]))
            sums[i++] = s[j].at[FG_RESULT];
    if (plan->reductions)
        run_halves(&g, 0, s->n, sums, scratch);
    else
        run_blocks(&g, 0, s->n, NULL);
}

/* ---- on several threads ------------------------------------------------------------------------------------------ */
typedef struct {
    const fg_program *p;
    const step *plan;
    const bound_step *s;
    char *scratch, *team, *partials;
    int64_t partial_bytes;      /* of the sums of one part */
    fg_parts parts;
} shared_group;

/* The elements of part k of a group with sums, from *at on: what is left when they have been halved depth times, each
 * bit of k being the choice of a half. None if one of the halvings had nothing to halve, and the lower half was it. */
static int64_t find_half(const step *plan, int64_t k, int64_t *at)
{
    int64_t n = plan->n;
    *at = 0;
    for (int level = plan->depth; level-- > 0;) {
        int64_t half = sums_half(plan->width, n), upper = k >> level & 1;
        if (upper && !half)
            return 0;
        *at += upper ? half : 0;
        n = upper || !half ? n - half : half;
    }
    return n;
}

/* Where the sums of part k go: those of the first to the results. */
static void find_sums(const shared_group *g, int64_t k, char **sums)
{
    char *partial = g->partials + k * g->partial_bytes;
    for (int j = 0, i = 0; j < g->plan->group; j++)
        if (partial_bytes(g->plan, &g->plan[j])) {
            sums[i++] = k ? partial : g->s[j].at[FG_RESULT];
            partial += partial_bytes(g->plan, &g->plan[j]);
        }
}

/* The work of thread i, of which 0 is the caller's and has the blocks in the arena. */
static void share_group(void *context, int i)
{
    shared_group *g = context;
    const step *plan = g->plan;
    const bound_step *s = g->s;
    char *scratch = g->scratch, *sums[FG_MAX_REDUCTIONS];
    if (i) {
        char *blocks = g->team + (i - 1) * g->p->thread_bytes;
        bound_step *own = (bound_step *)(blocks + plan->thread_blocks);
        scratch = (char *)(own + plan->group);
        memcpy(own, s, (size_t)plan->group * sizeof *own);
        for (int j = 0; j < plan->group; j++)
            for (int k = 0; k <= FG_RESULT; k++)
                if (plan[j].access[k].period == BLOCKWISE)
                    own[j].at[k] = blocks + g->p->buffer[k < FG_RESULT ? plan[j].in[k] : plan[j].y].place;
        s = own;
    }
    sweep rows = {plan, s, 0, plan->width, plan->block};
    for (int64_t k, at, n; (k = fg_claim(&g->parts)) < plan->parts;) {
        if (!plan->part) {
            find_sums(g, k, sums);
            if ((n = find_half(plan, k, &at)))
                run_halves(&rows, at, n, sums, scratch);
            continue;
        }
        int64_t all = plan->strip ? plan->width : plan->n;
        at = k * plan->part;
        n = all - at < plan->part ? all - at : plan->part;
        if (plan->strip)
            run_strips(plan, s, at, at + n, scratch);
        else if (s->whole)
            run_part(plan, s, at, 0, n);
        else
            run_blocks(&rows, at, n, NULL);
    }
}

/* Join the sums of the parts as run_halves joins those of halves. */
static void add_parts(const shared_group *g)
{
    const step *plan = g->plan;
    char *lower[FG_MAX_REDUCTIONS], *upper[FG_MAX_REDUCTIONS];
    for (int64_t apart = 1, at; apart < plan->parts; apart *= 2)
        for (int64_t k = 0; k < plan->parts; k += 2 * apart) {
            if (!find_half(plan, k + apart, &at))
                continue;
            find_sums(g, k, lower);
            find_sums(g, k + apart, upper);
            join_sums(plan, plan->width, upper, lower);
        }
}

/* Run a group, or a step that runs at once, on several threads; 0: there is but one, or no memory for more. */
static int run_shared(const fg_program *p, fg_replay *r, const bound_step *s)
{
    const step *plan = p->step + (s - r->bound_step);
    int n = fg_threads_limit();
    if (n < 2)
        return 0;
    if (r->team_size < n - 1) {
        free(r->team);
        r->team_size = 0;
        r->team = malloc((size_t)((n - 1) * p->thread_bytes + p->partials_bytes + FG_ALIGN));
        if (!r->team)
            return 0;
        r->team_size = n - 1;
    }
    char *team = (char *)(((uintptr_t)r->team + FG_ALIGN - 1) / FG_ALIGN * FG_ALIGN);
    shared_group g = {p, plan, s, r->arena + p->scratch, team, team + r->team_size * p->thread_bytes, 0, {0}};
    for (int j = 0; !plan->part && j < plan->group; j++)
        g.partial_bytes += partial_bytes(plan, &plan[j]);
    fg_threads_run(n < plan->parts ? n : (int)plan->parts, share_group, &g);
    if (g.partial_bytes)
        add_parts(&g);
    return 1;
}

#ifdef FG_MEMORY_SANITIZER
/* What step k reads has been written, the rest of each last vector as well. The sanitizer itself looks only where a
 * value decides something. */
static void check_operands(const fg_program *p, const fg_replay *r, int64_t k)
{
    const step *s = &p->step[k];
    int is_flat = s->kind != RUN && s->op != FG_OP_sum && s->op != FG_OP_matmul;
    for (int i = 0; i < s->n_in; i++) {
        int v = s->in[i], source = v < 0 ? -1 : source_of(p, v);
        if (v < 0)
            continue;
        int64_t own = shape_at(p, v)->size, n = !is_flat || (own == 1 && s->n > 1) ? own : s->n;
        const char *at = source < 0 ? address_of(p, r, v) : (char *)r->address[source] + p->buffer[v].shift;
        FG_ASSERT_WRITTEN(at, n * (int64_t)fg_itemsize(p->buffer[v].array.dtype));
    }
}
#define CHECK_OPERANDS(step) check_operands(p, r, (step) - r->bound_step)
#else
#define CHECK_OPERANDS(step) ((void)0)
#endif

/* Run a step that is no LOOP_STEP, with its group. */
static inline int run_step(const fg_program *p, fg_replay *r, const bound_step *s)
{
    if (s->kind == RUN || s->whole)
        CHECK_OPERANDS(s);
    if (s->kind == RUN)
        return ((any_kernel)s->kernel)((const fg_call *)s->at[0], (fg_array *)s->at[1]);
    if (s->shared && run_shared(p, r, s))
        return FG_OK;
    if (s->whole)
        run_flat(s, s->at, s->n);
    else
        run_group(p->step + (s - r->bound_step), s, r->arena + p->scratch);
    return FG_OK;
}

/* Run the steps from s on, up to `end`. */
static inline int run_steps(const fg_program *p, fg_replay *r, const bound_step *s, const bound_step *end)
{
    for (;; s += s->group) {
        for (; s->kind == LOOP_STEP; s++) {     /* ends at the last step: the entry after it is zero, which is RUN */
            CHECK_OPERANDS(s);
            ((fg_loop *)s->kernel)(s->n, s->at[0], s->at[1], s->at[2], s->at[3], s->at[FG_RESULT]);
        }
        if (s >= end)
            return FG_OK;
        FG_ASSERT(s->group > 0 && s->group <= end - s);
        int status = run_step(p, r, s);
        if (status)
            return status;
    }
}

int fg_replay_run_step(const fg_program *p, fg_replay *r, int k)
{
    const bound_step *s = r->bound_step + k;
    if (s->kind == LOOP_STEP) {
        CHECK_OPERANDS(s);
        ((fg_loop *)s->kernel)(s->n, s->at[0], s->at[1], s->at[2], s->at[3], s->at[FG_RESULT]);
        return FG_OK;
    }
    return run_step(p, r, s);
}

int fg_replay_run_again(const fg_program *p, fg_replay *r, int from)
{
    bind_addresses(r, from);
    return run_steps(p, r, r->bound_step, r->bound_step + p->n_steps - p->n_late);
}

fg_services fg_native_services;

static int run_native(fg_native_function *run, const fg_program *p, fg_replay *r)
{
    return run(&(fg_frame){p, r, r->address, r->arena}, &fg_native_services);
}

int fg_replay_run(const fg_program *p, fg_replay *r)
{
    fg_native_function *run = atomic_load_explicit(&p->native, memory_order_acquire);
    return run ? run_native(run, p, r) : fg_replay_run_again(p, r, 0);
}

int fg_refused_in_step(int status, int64_t step)
{
    char text[1024];
    if (status != FG_BAD_MATRIX)
        return status;
    snprintf(text, sizeof text, "%s", fg_message());
    return fg_fail(status, "%s, in step %lld of the loop", text, (long long)step);
}
