/* replay.c: replays: runs of a compiled program.
 *
 * What a run writes (the arena, the headers of arrays, the pointers) is an fg_replay. A program makes one for each
 * thread that runs it at the same time, and keeps them for later runs. Pointers into the arena and to constants are set
 * when a replay is made; the few that depend on the addresses of inputs and outputs are listed as patches, and set by
 * each run.
 */
#include "core/debug.h"
#include "kernels/gemm_dispatch.h"
#include "program/steps.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A step bound to its memory: a kernel and its pointers. One cache line, because small programs do little else than
 * read these. */
typedef struct {
    uint8_t kind, stride[3];
    /* whole: it runs at once, not in blocks; in_runs: it reads operands in runs; is_spread: that, or it loads an
     * operand, or has one element for each row of its group; shared: by several threads, with its group. */
    uint32_t whole : 1, in_runs : 1, is_spread : 1, shared : 1, group : 28;
    void *kernel;
    int64_t n;
    char *at[FG_RESULT + 1];    /* of a RUN step: its fg_call and its result's fg_array */
} bound_step;
_Static_assert(sizeof(bound_step) <= FG_BOUND_BYTES, "share.c plans the memory of threads by it");

/* *at is the address of input `source`, or of output `source` - n_in, plus `shift` bytes. */
typedef struct {
    int source;
    int64_t shift;
    char **at;
} patch;

struct fg_replay {
    fg_replay *next;
    char *arena;
    void **address, **owner;
    void **input;               /* memory of its own for inputs, where asked for */
    bound_step *bound_step;
    fg_replay **body_replays;   /* of the bodies of its steps, step by step */
    int n_patches;
    patch *patch;               /* in the order of their sources */
    fg_array *array;            /* one for each buffer */
    char *team;                 /* memory for the threads beside the caller's, `team_size` at most, or NULL */
    int team_size;
};

typedef void (*unary_kernel)(int64_t, const void *, void *);
typedef void (*binary_kernel)(int64_t, const void *, int, const void *, int, void *);
typedef void (*unary_vjp_kernel)(int64_t, const void *, const void *, const void *, void *);
typedef void (*binary_vjp_kernel)(int64_t, const void *, int, const void *, int, const void *, const void *, void *);
typedef void (*compare_kernel)(int64_t, const void *, int, const void *, int, uint8_t *);
typedef void (*where_kernel)(int64_t, const uint8_t *, int, const void *, int, const void *, int, void *);
typedef int (*any_kernel)(const fg_call *, fg_array *);

/* ---- making one -------------------------------------------------------------------------------------------------- */
/* The index in the address array whose memory a value has, or -1: it is in the arena or a constant. */
static int source_of(const fg_program *p, int v)
{
    int root = p->buffer[v].root;
    if (p->buffer[root].offset >= 0)
        return -1;
    return root < p->n_in ? root : p->buffer[root].output < 0 ? -1 : p->n_in + p->buffer[root].output;
}

static char *address_of(const fg_program *p, const fg_replay *r, int v)
{
    const buffer *root = &p->buffer[p->buffer[v].root];
    FG_ASSERT(root->offset < 0 || root->blockwise || root->panel ||
              root->offset + p->buffer[v].shift + bytes_at(p, v) <= p->arena_bytes);
    return (root->offset >= 0 ? r->arena + root->offset : (char *)root->array.data) + p->buffer[v].shift;
}

static void set_pointer(const fg_program *p, fg_replay *r, int v, char **at)
{
    int source = source_of(p, v);
    FG_ASSERT(source < p->n_in + p->n_out);
    if (source >= 0)
        r->patch[r->n_patches++] = (patch){source, p->buffer[v].shift, at};
    else
        *at = address_of(p, r, v);
}

static void bind_call(const fg_program *p, fg_replay *r, const step *s, bound_step *to, fg_call *call,
                      fg_tensor *operand, fg_replay **bodies)
{
    for (int i = 0; i < s->n_in; i++)
        operand[i].array = s->in[i] < 0 ? NULL : &r->array[s->in[i]];
    *call =
        (fg_call){.op = s->op, .n_in = s->n_in, .n_attr = s->n_attr, .in = operand, .attr = s->attr, .replay = bodies};
    for (int i = 0; i <= s->n_in; i++) {
        int v = i < s->n_in ? s->in[i] : s->y;
        if (v >= 0)
            set_pointer(p, r, v, (char **)&r->array[v].data);
    }
    to->at[0] = (char *)call;
    to->at[1] = (char *)&r->array[s->y];
    if (s->kind != RUN)
        set_pointer(p, r, s->y, &to->at[FG_RESULT]);
}

/* The operands of an fg_loop: the result stands in for those that are missing. A product passes its fg_product as y; a
 * third operand of it is in the memory of its result already. */
static void bind_loop(const fg_program *p, fg_replay *r, const step *s, bound_step *to)
{
    int is_product = s->op == FG_OP_matmul, is_unary_vjp = s->op >= FG_N_OPS && (s->op - FG_N_OPS) / 2 < FG_N_UNARY;
    for (int i = 0; i < FG_RESULT; i++)
        to->at[i] = address_of(p, r, s->y);
    for (int i = 0; i < (is_product ? 2 : s->n_in); i++)
        if (s->in[i] >= 0)
            set_pointer(p, r, s->in[i], &to->at[i && is_unary_vjp ? i + 1 : i]);    /* there is no b */
    if (is_product)
        to->at[2] = (char *)&s->product;
    set_pointer(p, r, s->y, &to->at[FG_RESULT]);
}

static void bind_flat(const fg_program *p, fg_replay *r, const step *s, bound_step *to)
{
    for (int i = 0; i < s->n_in; i++) {
        if (i < 3)                              /* the stride of a missing operand is 1 */
            to->stride[i] = s->in[i] < 0 || p->buffer[s->in[i]].period || run_at(s, i) == FG_ROW ||
                            shape_at(p, s->in[i])->size == shape_at(p, s->y)->size;
        if (s->in[i] >= 0)
            set_pointer(p, r, s->in[i], &to->at[i]);
    }
    set_pointer(p, r, s->y, &to->at[FG_RESULT]);
}

static void free_replay(const fg_program *p, fg_replay *r)
{
    fg_replay **body = r->body_replays;
    for (int i = 0; i < p->n_in; i++)
        if (r->input[i])
            fg_free(r->input[i], (size_t)bytes_at(p, i));
    for (int k = 0; k < p->n_steps; k++)
        for (int i = 0; i < fg_n_bodies(p->step[k].op); i++)
            if (*body)                          /* NULL after the one for which there was no memory */
                fg_replay_give(fg_body(p->step[k].attr, i), *body++);
    if (r->arena)
        fg_free_lasting(r->arena, (size_t)p->arena_bytes);
    free(r->team);
    free(r);
}

/* Clear what steps read of the arena beyond the elements of a value: the rest of its last vector (fill_vectors in
 * specialize.c). What is computed there is never used, but it must not take long: the leftovers of other programs would
 * decay to subnormal numbers, on which a processor may take a hundred times as long, in a recurrence that runs again
 * and again. The rest behaves like an element whose data are 0, or holds what other steps of the same run have left. A
 * recurrence that decays keeps a 0, and infinities and nan, as 1/0 and 0/0 give, cost no time. */
static void clear_rests(const fg_program *p, const fg_replay *r)
{
    for (int v = 0; v < p->n_buffers; v++) {
        const buffer *root = &p->buffer[p->buffer[v].root];
        if (root->offset < 0 || p->buffer[v].shift || root->blockwise || root->panel)
            continue;
        int64_t end = root->offset + bytes_at(p, v);
        if (end % FG_ALIGN)
            memset(r->arena + end / FG_ALIGN * FG_ALIGN, 0, FG_ALIGN);
    }
}

static int by_source(const void *a, const void *b) { return ((const patch *)a)->source - ((const patch *)b)->source; }

static fg_replay *new_replay(const fg_program *p)
{
    size_t n_bound = (size_t)p->n_steps + 1, n_io = (size_t)(p->n_in + p->n_out), n_buffers = (size_t)p->n_buffers;
    size_t n_operands = (size_t)p->operands.n, n_patches = n_buffers + n_operands + n_bound + n_io;
    size_t bytes = sizeof(fg_replay) + n_bound * (sizeof(bound_step) + sizeof(fg_call)) + n_buffers * sizeof(fg_array) +
                   n_operands * sizeof(fg_tensor) + n_patches * sizeof(patch) + 3 * n_io * sizeof(void *) +
                   (size_t)p->bodies.n * sizeof(void *) + 64;
    fg_replay *r = calloc(1, bytes);
    enum { LARGE_ARENA = 64 << 20 };    /* bytes; writing to them for the first time takes longer than a trim */
    if (!p->body)
        (p->arena_bytes < LARGE_ARENA ? fg_pool_empty : fg_memory_trim)();
    if (r && p->arena_bytes &&
        ((uint64_t)p->arena_bytes > SIZE_MAX / 2 || !(r->arena = fg_alloc_lasting((size_t)p->arena_bytes)))) {
        free(r);
        r = NULL;
    }
    if (!r) {
        fg_fail(FG_NO_MEMORY, "no memory for a program");
        return NULL;
    }
    clear_rests(p, r);
    r->bound_step = (bound_step *)(((uintptr_t)(r + 1) + 63) / 64 * 64);
    fg_call *call = (fg_call *)(r->bound_step + n_bound);
    r->array = (fg_array *)(call + n_bound);
    fg_tensor *operand = (fg_tensor *)(r->array + n_buffers);
    r->patch = (patch *)(operand + n_operands);
    r->address = (void **)(r->patch + n_patches);
    r->owner = r->address + n_io;
    r->input = r->owner + n_io;
    fg_replay **body = r->body_replays = (fg_replay **)(r->input + n_io);

    for (int v = 0; v < p->n_buffers; v++)
        r->array[v] = p->buffer[v].array;
    for (int k = 0; k < p->n_steps; k++) {
        const step *s = &p->step[k];
        int n_bodies = fg_n_bodies(s->op);
        r->bound_step[k] = (bound_step){.kind = (uint8_t)s->kind,
                                        .whole = !s->block,
                                        .shared = s->parts > 1,
                                        .group = (uint32_t)s->group,
                                        .kernel = s->kernel,
                                        .n = s->n};
        for (int i = 0; s->kind != RUN && i < FG_RESULT; i++)
            r->bound_step[k].in_runs |= s->run[i] > 0;
        r->bound_step[k].is_spread = r->bound_step[k].in_runs || is_load(s) || s->by_row;
        if (s->kind == RUN || s->kind == PRODUCT_STEP || s->kind == JOIN_STEP)
            bind_call(p, r, s, &r->bound_step[k], &call[k], operand, n_bodies ? body : NULL);
        else
            (s->kind == LOOP_STEP ? bind_loop : bind_flat)(p, r, s, &r->bound_step[k]);
        operand += s->n_in;
        for (int i = 0; i < n_bodies; i++)
            if (!(*body++ = fg_replay_take(fg_body(s->attr, i)))) {
                free_replay(p, r);
                return NULL;
            }
    }
    FG_ASSERT((size_t)r->n_patches <= n_patches && operand <= (fg_tensor *)r->patch);
    qsort(r->patch, (size_t)r->n_patches, sizeof *r->patch, by_source);
    for (size_t i = 0; p->body && i < n_io; i++)
        r->address[i] = r;                      /* native code sets only those that it needs, but binds all */
    for (int i = 0; i < p->n_in; i++)
        if (is_arena_resident(p, i))
            r->address[i] = address_of(p, r, i);
    for (int i = 0; i < p->n_out; i++)
        if (fg_program_keeps(p, i))
            r->address[p->n_in + i] = address_of(p, r, p->out[i]);
    return r;
}

fg_replay *fg_replay_take(fg_program *p)
{
    fg_replay *r = p->idle;
    if (!r)
        return new_replay(p);
    p->idle = r->next;
    return r;
}

void fg_replay_give(fg_program *p, fg_replay *r)
{
    FG_ASSERT(r != p->idle);                    /* given back once */
    r->next = p->idle;
    p->idle = r;
}

void fg_replays_free(fg_program *p)
{
    for (fg_replay *r; (r = p->idle);) {
        p->idle = r->next;
        free_replay(p, r);                      /* gives the replays of the bodies back to them */
    }
    for (int i = 0; i < p->bodies.n; i++)
        fg_replays_free(((fg_program **)p->bodies.item)[i]);
}

void **fg_replay_address(fg_replay *r) { return r->address; }
void **fg_replay_owner(fg_replay *r) { return r->owner; }

const fg_call *fg_replay_call(const fg_replay *r, int k) { return (const fg_call *)r->bound_step[k].at[0]; }

void *fg_replay_own_input(const fg_program *p, fg_replay *r, int i)
{
    if (!r->input[i])
        r->input[i] = fg_alloc((size_t)bytes_at(p, i));
    return r->address[i] = r->input[i];
}

/* ---- running it -------------------------------------------------------------------------------------------------- */
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

/* The steps of a group for the n elements of a block from `at` on. Sums and extremes of rows are written to their
 * results, other sums to `sums` in turn: a sum of columns starts in the block for which `first` is true, and later
 * blocks add to it. */
static void run_block(const step *plan, const bound_step *s, int64_t at, int64_t n, char *const *sums, int first)
{
    int64_t width = plan->width;
    for (int j = 0; j < plan->group; j++) {
        const step *t = &plan[j];
        if (s[j].is_spread) {
            run_spread(t, &s[j], at, n, width);
            continue;
        }
        if (s[j].kind < SUM_STEP) {
            for (int64_t from = 0; from < n; from += FG_BLOCK)
                run_part(t, &s[j], at + from, from, n - from < FG_BLOCK ? n - from : FG_BLOCK);
            continue;
        }
        if (s[j].kind == PRODUCT_STEP) {
            fg_gemm_rows((const fg_call *)s[j].at[0], at / width, n / width, rows_at(t, &s[j], FG_RESULT, at));
            continue;
        }
        const fg_reduce_kernels *k = kernels_of(t)->reduce;
        const char *x = rows_at(t, &s[j], 0, at);
        if (s[j].kind == ROWS_STEP)
            (t->op == FG_OP_sum   ? k->sum_rows
             : t->op == FG_OP_max ? k->max_rows
                                  : k->min_rows)(n / width, width, x, rows_at(t, &s[j], FG_RESULT, at / width));
        else if (s[j].kind == SUM_STEP)
            k->sum_rows(1, n, x, *sums++);
        else
            (first ? k->sum_cols : k->add_cols)(n / width, width, x, *sums++);
    }
}

static void run_blocks(const step *plan, const bound_step *s, int64_t at, int64_t n, char *const *sums)
{
    if (plan->order < 0) {
        for (int64_t from = (n - 1) / plan->block * plan->block; from >= 0; from -= plan->block)
            run_block(plan, s, at + from, n - from < plan->block ? n - from : plan->block, sums, 0);
        return;
    }
    for (int64_t from = 0; from < n; from += plan->block)
        run_block(plan, s, at + from, n - from < plan->block ? n - from : plan->block, sums, from == 0);
}

/* The same for a group with sums. Blocks, and the order in which partial sums are added, are those of the kernels that
 * sum whole rows and columns, so that the bits are the same. The recursion is no deeper than the logarithm of n; each
 * level has partial sums of its own in `scratch`. */
static void run_halves(const step *plan, const bound_step *s, int64_t at, int64_t n, char *const *sums, char *scratch)
{
    int64_t half = sums_half(plan, n);
    char *upper[FG_MAX_REDUCTIONS];
    if (!half) {
        run_blocks(plan, s, at, n, sums);
        return;
    }
    for (int j = 0, i = 0; j < plan->group; j++)
        if (partial_bytes(plan, &plan[j])) {
            upper[i++] = scratch;
            scratch += partial_bytes(plan, &plan[j]);
        }
    run_halves(plan, s, at, half, sums, scratch);
    run_halves(plan, s, at + half, n - half, upper, scratch);
    for (int j = 0, i = 0; j < plan->group; j++)
        if (partial_bytes(plan, &plan[j])) {
            kernels_of(&plan[j])->elementwise->binary[FG_BINARY_add](plan->width, sums[i], 1, upper[i], 1, sums[i]);
            i++;
        }
}

static void run_group(const step *plan, const bound_step *s, char *scratch)
{
    char *sums[FG_MAX_REDUCTIONS];
    for (int j = 0, i = 0; plan->reductions && j < plan->group; j++)
        if (partial_bytes(plan, &plan[j]))
            sums[i++] = s[j].at[FG_RESULT];
    if (plan->reductions)
        run_halves(plan, s, 0, s->n, sums, scratch);
    else
        run_blocks(plan, s, 0, s->n, NULL);
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
        int64_t half = sums_half(plan, n), upper = k >> level & 1;
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
    for (int64_t k, at, n; (k = fg_claim(&g->parts)) < plan->parts;) {
        if (!plan->part) {
            find_sums(g, k, sums);
            if ((n = find_half(plan, k, &at)))
                run_halves(plan, s, at, n, sums, scratch);
            continue;
        }
        at = k * plan->part;
        n = plan->n - at < plan->part ? plan->n - at : plan->part;
        if (s->whole)
            run_part(plan, s, at, 0, n);
        else
            run_blocks(plan, s, at, n, NULL);
    }
}

/* Add up the sums of the parts as run_halves adds those of halves. */
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
            for (int j = 0, i = 0; j < plan->group; j++)
                if (partial_bytes(plan, &plan[j])) {
                    kernels_of(&plan[j])->elementwise->binary[FG_BINARY_add](plan->width, lower[i], 1, upper[i], 1,
                                                                             lower[i]);
                    i++;
                }
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
    for (int j = 0; j < plan->group; j++)
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

/* Set the pointers that depend on the addresses of the inputs from `from` on, and of the outputs. */
static inline void bind_addresses(fg_replay *r, int from)
{
    for (const patch *x = r->patch + r->n_patches; x-- > r->patch && x->source >= from;)
        *x->at = (char *)r->address[x->source] + x->shift;
}

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

int fg_replay_run_again(const fg_program *p, fg_replay *r, int from)
{
    bind_addresses(r, from);
    return run_steps(p, r, r->bound_step, r->bound_step + p->n_steps - p->n_late);
}

int fg_refused_in_step(int status, int64_t step)
{
    char text[1024];
    if (status != FG_BAD_MATRIX)
        return status;
    snprintf(text, sizeof text, "%s", fg_message());
    return fg_fail(status, "%s, in step %lld of the loop", text, (long long)step);
}

/* ---- native programs (native.h) ---------------------------------------------------------------------------------- */
static void native_bind(const fg_frame *f, int from) { bind_addresses(f->replay, from); }

static int native_run_step(const fg_frame *f, int k)
{
    const fg_program *p = f->program;
    fg_replay *r = f->replay;
    const bound_step *s = r->bound_step + k;
    if (s->kind == LOOP_STEP) {
        CHECK_OPERANDS(s);
        ((fg_loop *)s->kernel)(s->n, s->at[0], s->at[1], s->at[2], s->at[3], s->at[FG_RESULT]);
        return FG_OK;
    }
    return run_step(p, r, s);
}

static int native_pause(void) { return fg_on_pause ? fg_on_pause() : FG_OK; }

static void native_enter(const fg_frame *f, int k, int i, fg_frame *body)
{
    fg_replay *r = fg_replay_call(f->replay, k)->replay[i];
    *body = (fg_frame){fg_body(f->program->step[k].attr, i), r, r->address, r->arena};
}

static const void *native_constant(const fg_frame *f, int v) { return f->program->buffer[v].array.data; }

/* What native programs call. Filled in when the first of them is set, because the kernels are chosen at import. */
static fg_services services;

static void fill_services(void)
{
    const fg_reduce_kernels *f32 = fg_kernels[FG_FLOAT32].reduce, *f64 = fg_kernels[FG_FLOAT64].reduce;
#define BOTH(kernel) {f32->kernel, f64->kernel}
    services = (fg_services){.bind = native_bind,
                             .run_step = native_run_step,
                             .in_step = fg_refused_in_step,
                             .enter = native_enter,
                             .outside = fg_index_outside,
                             .pause = native_pause,
                             .constant = native_constant,
                             .rows = {BOTH(sum_rows), BOTH(max_rows), BOTH(min_rows), BOTH(softmax_rows),
                                      BOTH(log_softmax_rows), BOTH(logsumexp_rows)},
                             .cols = {BOTH(sum_cols), BOTH(max_cols), BOTH(min_cols)},
                             .add_cols = BOTH(add_cols),
                             .rows_adjoint = {[FG_ROWS_softmax] = BOTH(softmax_vjp_rows),
                                              [FG_ROWS_log_softmax] = BOTH(log_softmax_vjp_rows),
                                              [FG_ROWS_logsumexp] = BOTH(logsumexp_vjp_rows)},
                             .gemm = {fg_kernels[FG_FLOAT32].gemm->gemm, fg_kernels[FG_FLOAT64].gemm->gemm},
                             .extremum_adjoint = BOTH(extremum_vjp_rows)};
#undef BOTH
}

static int run_native(fg_native_function *run, const fg_program *p, fg_replay *r)
{
    return run(&(fg_frame){p, r, r->address, r->arena}, &services);
}

void fg_program_set_native(fg_program *p, fg_native_function *run)
{
    if (run && !services.bind)
        fill_services();
    atomic_store_explicit(&p->native, run, memory_order_release);
}

int fg_replay_run(const fg_program *p, fg_replay *r)
{
    fg_native_function *run = atomic_load_explicit(&p->native, memory_order_acquire);
    return run ? run_native(run, p, r) : fg_replay_run_again(p, r, 0);
}
