/* training.c: a training step: run the program of loss and gradients, check the gradients, update the parameters.
 *
 * A large gradient that is a matrix product may never exist as a whole (lower.c): it is computed a panel of rows at a
 * time, and each panel is used while it is in cache. All gradients must be known to be finite before any parameter
 * changes: usually a bound from the product's operands proves it; where it does not, the panels are computed twice.
 *
 * The gradient of a table of which rows were gathered is kept as rows (row_sparse.c). Checks and norms look at these
 * rows. So does the update, where the optimizer leaves the other rows as they are; else it takes panels, too.
 */
#include "kernels/gemm_dispatch.h"
#include "program/steps.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static double number(int dtype, const void *x) { return dtype == FG_FLOAT32 ? *(const float *)x : *(const double *)x; }

double fg_replay_loss(const fg_program *p, fg_replay *r)
{
    return number(p->buffer[p->out[0]].array.dtype, fg_replay_address(r)[p->n_in]);
}

/* ---- gradients, as a whole or in panels -------------------------------------------------------------------------- */
static const buffer *gradient(const fg_program *p, int i) { return &p->buffer[p->out[p->n_out - p->n_gradients + i]]; }

static void *gradient_address(const fg_program *p, fg_replay *r, int i)
{
    return fg_replay_address(r)[p->n_in + p->n_out - p->n_gradients + i];
}

/* Compute the panel of gradient i that begins at element `at`, if it has panels. Returns how many of its elements, from
 * that one on, are at its address now: of a gradient that is kept as rows, which has no panels here, those of the rows
 * that there are. */
static int64_t compute_panel(const fg_program *p, fg_replay *r, int i, int64_t at)
{
    const buffer *g = gradient(p, i);
    if (g->row_sums) {
        fg_row_sums s = fg_row_sums_at(p, i, gradient_address(p, r, i));
        return s.n * s.width;
    }
    int64_t rest = g->array.shape->size - at, n = g->panel ? g->panel * g->array.shape->dim[1] : rest;
    n = n < rest ? n : rest;
    if (g->panel)
        fg_gemm_rows(fg_replay_call(r, g->first), at / g->array.shape->dim[1], n / g->array.shape->dim[1],
                     gradient_address(p, r, i));
    return n;
}

/* How many elements the panels have together. */
static int64_t count_elements(const fg_program *p, fg_replay *r, int i)
{
    return gradient(p, i)->row_sums ? compute_panel(p, r, i, 0) : gradient(p, i)->array.shape->size;
}

void fg_replay_gradient(const fg_program *p, fg_replay *r, int i, void *to)
{
    const fg_array *g = &gradient(p, i)->array;
    size_t itemsize = fg_itemsize(g->dtype);
    if (gradient(p, i)->row_sums) {
        fg_row_sums s = fg_row_sums_at(p, i, gradient_address(p, r, i));
        fg_row_sums_write(&s, itemsize, shape_at(p, i)->size, to);
        return;
    }
    for (int64_t at = 0, n; at < g->shape->size; at += n) {
        n = compute_panel(p, r, i, at);
        memcpy((char *)to + (size_t)at * itemsize, gradient_address(p, r, i), (size_t)n * itemsize);
    }
}

/* ---- are all gradients finite? ----------------------------------------------------------------------------------- */
/* The largest magnitude; nan if any element is. */
static double largest(int dtype, int64_t n, const void *x)
{
    const fg_reduce_kernels *k = fg_kernels[dtype].reduce;
    union {
        float f;
        double d;
    } most, least;
    if (!n)
        return 0;
    k->max_rows(1, n, x, &most);
    k->min_rows(1, n, x, &least);
    double high = number(dtype, &most), low = number(dtype, &least);
    return high > -low ? high : -low;
}

static double largest_in(const fg_array *x) { return largest(x->dtype, x->shape->size, x->data); }

/* Do its operands prove that a product is finite? A sum is at most the number of its terms times the largest one, and
 * with all roundings at most twice that. */
static int is_bounded(const fg_call *c)
{
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int64_t terms = a->shape->dim[!c->attr[0]];
    double most = a->dtype == FG_FLOAT32 ? FLT_MAX : DBL_MAX;
    return terms <= 1 << 22 && (double)terms * largest_in(a) * largest_in(b) < most / 2;
}

/* The search for an element that is not finite, shared among threads. */
typedef struct {
    int dtype;
    const char *x;
    atomic_int found;           /* whether there is one */
} shared_check;

static void check_range(void *context, int64_t from, int64_t to)
{
    shared_check *c = context;
    if (!atomic_load_explicit(&c->found, memory_order_relaxed) &&
        !fg_kernels[c->dtype].optim->all_finite(to - from, c->x + (size_t)from * fg_itemsize(c->dtype)))
        atomic_store_explicit(&c->found, 1, memory_order_relaxed);
}

/* Are all of n elements finite? */
static int are_finite(int dtype, int64_t n, const void *x)
{
    if (n < FG_SHARED_FROM)
        return fg_kernels[dtype].optim->all_finite(n, x);
    shared_check c = {dtype, x, 0};
    fg_threads_range(n, FG_SHARED_PART, check_range, &c);
    return !c.found;
}

static int is_finite(const fg_program *p, fg_replay *r, int i)
{
    const buffer *g = gradient(p, i);
    if (g->panel && is_bounded(fg_replay_call(r, g->first)))
        return 1;
    for (int64_t at = 0, n, size = count_elements(p, r, i); at < size; at += n) {
        n = compute_panel(p, r, i, at);
        if (!are_finite(g->array.dtype, n, gradient_address(p, r, i)))
            return 0;
    }
    return 1;
}

/* The first gradient that is not finite, n_gradients if it is the loss alone, or -1. */
static int not_finite(const fg_program *p, fg_replay *r)
{
    for (int i = 0; i < p->n_gradients; i++)
        if (!is_finite(p, r, i))
            return i;
    return isfinite(fg_replay_loss(p, r)) ? -1 : p->n_gradients;
}

/* ---- updates ----------------------------------------------------------------------------------------------------- */
enum { CHUNK = 1024 }; /* elements of a gradient that are clipped at a time, in the cache */

/* What to do about a gradient's elements: scale them and keep them within a limit. */
typedef struct { double scale, limit; } clipping;

static int is_unchanged(clipping c) { return c.scale == 1 && isinf(c.limit); }

/* Part of a parameter: n elements of it, of its gradient and of its state, updated element by element. */
static void update_part(const fg_update_rule *u, int dtype, int64_t n, clipping clip, void *p, const void *g,
                        void *const *state)
{
    const fg_optim_kernels *k = fg_kernels[dtype].optim;
    if (is_unchanged(clip)) {
        k->update[u->optimizer](n, p, g, state, u->number);
        return;
    }
    double memory[CHUNK];
    size_t itemsize = fg_itemsize(dtype);
    for (int64_t at = 0, part; at < n; at += part) {
        void *rest[FG_MAX_STATES];
        part = n - at < CHUNK ? n - at : CHUNK;
        for (int i = 0; i < FG_MAX_STATES; i++)
            rest[i] = state[i] ? (char *)state[i] + (size_t)at * itemsize : NULL;
        k->clip(part, clip.scale, clip.limit, (const char *)g + (size_t)at * itemsize, memory);
        k->update[u->optimizer](part, (char *)p + (size_t)at * itemsize, memory, rest, u->number);
    }
}

/* The same of a long part, on several threads: in stretches of whole chunks, so that clipping divides it alike. */
typedef struct {
    const fg_update_rule *rule;
    int dtype;
    clipping clip;
    char *p;
    const char *g;
    void *const *state;
} shared_update;

static void update_range(void *context, int64_t from, int64_t to)
{
    const shared_update *u = context;
    size_t at = (size_t)from * fg_itemsize(u->dtype);
    void *rest[FG_MAX_STATES];
    for (int i = 0; i < FG_MAX_STATES; i++)
        rest[i] = u->state[i] ? (char *)u->state[i] + at : NULL;
    update_part(u->rule, u->dtype, to - from, u->clip, u->p + at, u->g + at, rest);
}

static void update_elements(const fg_update_rule *u, int dtype, int64_t n, clipping clip, void *p, const void *g,
                            void *const *state)
{
    if (n < FG_SHARED_FROM)
        update_part(u, dtype, n, clip, p, g, state);
    else
        fg_threads_range(n, FG_SHARED_PART, update_range, &(shared_update){u, dtype, clip, p, g, state});
}
_Static_assert(FG_SHARED_PART % CHUNK == 0, "a stretch has whole chunks");

/* The same of n whole rows of `width` elements; if the rule is lazy, of those alone that have an element which is
 * not 0. */
static void update_rows(const fg_update_rule *u, int dtype, int64_t n, int64_t width, clipping clip, void *p,
                        const void *g, void *const *state)
{
    const fg_optim_kernels *k = fg_kernels[dtype].optim;
    size_t bytes = (size_t)width * fg_itemsize(dtype);
    if (!u->lazy_rows) {
        update_elements(u, dtype, n * width, clip, p, g, state);
        return;
    }
    for (int64_t from = 0, to; from < n; from = to) {
        int zero = k->all_zero(width, (const char *)g + (size_t)from * bytes);
        for (to = from + 1; to < n && k->all_zero(width, (const char *)g + (size_t)to * bytes) == zero;)
            to++;
        void *rest[FG_MAX_STATES];
        for (int i = 0; i < FG_MAX_STATES; i++)
            rest[i] = state[i] ? (char *)state[i] + (size_t)from * bytes : NULL;
        if (!zero)
            update_part(u, dtype, (to - from) * width, clip, (char *)p + (size_t)from * bytes,
                        (const char *)g + (size_t)from * bytes, rest);
    }
}

/* The elements of a row, which is all that has one index of the first axis. */
static int64_t width_of(int ndim, const int64_t *dim)
{
    int64_t width = 1;
    for (int i = 1; i < ndim; i++)
        width *= dim[i];
    return width;
}

/* Does a rule leave a row whose gradient is 0 as it is, and its state? Then such rows need not be looked at. */
static int keeps_zero_rows(const fg_update_rule *u)
{
    if (u->optimizer == FG_OPTIMIZER_sgd) {
        const fg_sgd_numbers *n = (const void *)u->number;
        return u->lazy_rows || (n->weight_decay == 0 && n->momentum == 0);
    }
    if (u->optimizer == FG_OPTIMIZER_adagrad) {
        const fg_adagrad_numbers *n = (const void *)u->number;
        return u->lazy_rows || (n->weight_decay == 0 && n->eps > 0 && (n->initial == 0 || n->first == 0));
    }
    return u->lazy_rows;
}

/* A parameter of `size` elements whose gradient is kept as rows: these alone, where the others stay as they are, else
 * panel by panel. */
static void update_of_rows(const fg_update_rule *u, int dtype, int64_t size, const fg_row_sums *s, clipping clip,
                           char *p, void *const *state)
{
    size_t bytes = (size_t)s->width * fg_itemsize(dtype);
    int64_t n = size / s->width, few = keeps_zero_rows(u);
    for (int64_t k = 0, part; k < (few ? s->n : n); k += part) {
        int64_t row = few ? s->row[k] : k;
        part = few ? 1 : n - k < s->panel_rows ? n - k : s->panel_rows;
        if (!few)
            fg_row_sums_spread(s, fg_itemsize(dtype), k, part);
        void *rest[FG_MAX_STATES];
        for (int j = 0; j < FG_MAX_STATES; j++)
            rest[j] = state[j] ? (char *)state[j] + (size_t)row * bytes : NULL;
        update_rows(u, dtype, part, s->width, clip, p + (size_t)row * bytes,
                    few ? s->values + (size_t)k * bytes : s->panel, rest);
    }
}

static int is_whole(const fg_update_rule *u) { return u->optimizer >= FG_N_ELEMENTWISE_OPTIMIZERS; }

static const fg_update_rule *rule_of(const fg_updates *u, int i) { return &u->rule[u->rule_of ? u->rule_of[i] : 0]; }

/* Memory for the update of a whole parameter: what the row needs, and behind it a gradient that is clipped or comes in
 * panels. */
static int64_t work_bytes(const fg_update_rule *u, const fg_parameter *x)
{
    return is_whole(u) ? (fg_update_work(u->optimizer, x->ndim, x->dim) + x->n) * (int64_t)fg_itemsize(x->dtype) : 0;
}

static void *gradient_in(void *work, const fg_update_rule *u, const fg_parameter *x)
{
    return (char *)work + fg_update_work(u->optimizer, x->ndim, x->dim) * (int64_t)fg_itemsize(x->dtype);
}

/* Parameter i of a replay, its gradient, if that is there as a whole, and its state. */
static fg_parameter parameter(const fg_program *p, fg_replay *r, int i, void *const *state)
{
    const fg_array *w = &p->buffer[i].array;
    fg_parameter x = {w->dtype,
                      w->shape->ndim,
                      w->shape->dim,
                      w->shape->size,
                      fg_replay_address(r)[i],
                      gradient_address(p, r, i),
                      {NULL},
                      NULL};
    memcpy(x.state, state + FG_MAX_STATES * i, sizeof x.state);
    return x;
}

/* Of the whole gradient g, which is read only. */
static void update_parameter(const fg_update_rule *u, const fg_parameter *x, clipping clip, void *work)
{
    const void *g = x->g;
    if (u->optimizer == FG_FROZEN || !x->n)
        return;
    if (!is_whole(u)) {
        int64_t width = width_of(x->ndim, x->dim);
        if (x->rows) {
            update_of_rows(u, x->dtype, x->n, x->rows, clip, x->p, x->state);
            return;
        }
        update_rows(u, x->dtype, x->n / width, width, clip, x->p, g, x->state);
        return;
    }
    if (x->rows) {
        void *whole = gradient_in(work, u, x);
        fg_row_sums_write(x->rows, fg_itemsize(x->dtype), x->n, whole);
        g = whole;
    }
    if (!is_unchanged(clip)) {
        void *clipped = gradient_in(work, u, x);
        fg_kernels[x->dtype].optim->clip(x->n, clip.scale, clip.limit, g, clipped);
        g = clipped;
    }
    fg_update_whole(u, x->dtype, x->ndim, x->dim, x->p, g, x->state, work);
}

/* Scale squares that would overflow or vanish: the power of two that brings `most` near 1. */
static double scale_for(double most)
{
    int exponent = 0;
    frexp(most, &exponent);
    return ldexp(1, exponent < -1000 ? 1000 : -exponent);
}

/* Is a sum of squares too large or too small to tell the norm? */
static int is_out_of_range(double sum) { return !(sum < DBL_MAX) || sum < DBL_MIN * 0x1p60; }

/* `norm` is that of the gradients before they are multiplied by c->scale. */
static clipping to_norm(double norm, const fg_clip *c)
{
    norm *= c->scale;
    return (clipping){norm > c->limit ? c->scale * (c->limit / norm) : c->scale, INFINITY};
}

/* Where the gradients of a step are: in arrays or rows, or in a replay. */
typedef struct {
    const fg_parameter *in;
    const fg_program *p;
    fg_replay *r;
} gradients;

/* The sum of squares of scale times gradient i; of the largest magnitude, if `most`, in the place of that. */
static double sum_or_most(const gradients *all, int i, double scale, int most)
{
    const fg_row_sums *rows = all->in ? all->in[i].rows : NULL;
    int64_t size = rows ? rows->n * rows->width : all->in ? all->in[i].n : count_elements(all->p, all->r, i);
    int dtype = all->in ? all->in[i].dtype : gradient(all->p, i)->array.dtype;
    double total = 0;
    for (int64_t at = 0, n; at < size; at += n) {
        n = all->in ? size : compute_panel(all->p, all->r, i, at);
        const void *g = rows ? rows->values : all->in ? all->in[i].g : gradient_address(all->p, all->r, i);
        double part = most ? largest(dtype, n, g) : fg_kernels[dtype].optim->sum_squares(n, scale, g);
        total = !most ? total + part : part > total || part != part ? part : total;
    }
    return total;
}

/* The norm of gradients from..to-1 together. */
static double norm_of(const gradients *all, int from, int to)
{
    double sum = 0, most = 0;
    for (int i = from; i < to; i++)
        sum += sum_or_most(all, i, 1, 0);
    if (!is_out_of_range(sum))
        return sqrt(sum);
    for (int i = from; i < to; i++) {
        double x = sum_or_most(all, i, 1, 1);
        most = x > most || x != x ? x : most;
    }
    if (most == 0 || !isfinite(most))
        return most;
    double scale = scale_for(most);
    sum = 0;
    for (int i = from; i < to; i++)
        sum += sum_or_most(all, i, scale, 0);
    return sqrt(sum) / scale;
}

static clipping clipping_of_all(const fg_clip *c, const gradients *all, int n)
{
    if (c->kind == FG_CLIP_VALUE)
        return (clipping){c->scale, c->limit};
    return c->kind == FG_CLIP_NORM ? to_norm(norm_of(all, 0, n), c) : (clipping){c->scale, INFINITY};
}

static clipping clipping_of(const fg_clip *c, clipping of_all, const gradients *all, int i)
{
    return c->kind == FG_CLIP_EACH_NORM ? to_norm(norm_of(all, i, i + 1), c) : of_all;
}

static int take_work(int64_t bytes, void **work)
{
    *work = bytes ? malloc((size_t)bytes) : NULL;
    return bytes && !*work ? fg_fail(FG_NO_MEMORY, "no memory for the update of a parameter") : FG_OK;
}

int fg_update(const fg_updates *u, int n, const fg_parameter *x)
{
    int64_t bytes = 0;
    void *work;
    for (int i = 0; i < n; i++) {
        int64_t b = work_bytes(rule_of(u, i), &x[i]);
        bytes = b > bytes ? b : bytes;
    }
    int status = take_work(bytes, &work);
    if (status)
        return status;
    const gradients all = {x, NULL, NULL};
    const clipping of_all = clipping_of_all(&u->clip, &all, n);
    for (int i = 0; i < n; i++)
        update_parameter(rule_of(u, i), &x[i], clipping_of(&u->clip, of_all, &all, i), work);
    free(work);
    return FG_OK;
}

/* Update parameter i of a replay, panel by panel where the update allows. */
static void update_in_panels(const fg_program *p, fg_replay *r, int i, const fg_update_rule *u, clipping clip,
                             void *const *state)
{
    const fg_array *w = &p->buffer[i].array;
    int64_t itemsize = (int64_t)fg_itemsize(w->dtype);
    int64_t width = u->lazy_rows ? width_of(w->shape->ndim, w->shape->dim) : 1;
    if (gradient(p, i)->row_sums) {
        const fg_row_sums s = fg_row_sums_at(p, i, gradient_address(p, r, i));
        update_of_rows(u, w->dtype, w->shape->size, &s, clip, fg_replay_address(r)[i], state);
        return;
    }
    for (int64_t at = 0, n; at < w->shape->size; at += n) {
        n = compute_panel(p, r, i, at);
        void *rest[FG_MAX_STATES];
        for (int k = 0; k < FG_MAX_STATES; k++) {
            char *whole = state[k];
            rest[k] = whole ? whole + at * itemsize : NULL;
        }
        update_rows(u, w->dtype, n / width, width, clip, (char *)fg_replay_address(r)[i] + at * itemsize,
                    gradient_address(p, r, i), rest);
    }
}

int fg_replay_train(const fg_program *p, fg_replay *r, const fg_updates *u, void *const *state, int checked, int *bad)
{
    int64_t bytes = 0;
    void *work;
    int status = fg_replay_run(p, r);
    if (status)
        return status;
    *bad = checked ? not_finite(p, r) : -1;
    if (*bad >= 0)
        return FG_OK;
    for (int i = 0; i < p->n_gradients; i++) {
        if (!is_whole(rule_of(u, i)))
            continue;
        const fg_parameter x = parameter(p, r, i, state);
        int64_t b = work_bytes(rule_of(u, i), &x);
        bytes = b > bytes ? b : bytes;
    }
    if ((status = take_work(bytes, &work)))
        return status;
    const gradients all = {NULL, p, r};
    const clipping of_all = clipping_of_all(&u->clip, &all, p->n_gradients);
    for (int i = 0; i < p->n_gradients; i++) {
        const fg_update_rule *rule = rule_of(u, i);
        const clipping clip = clipping_of(&u->clip, of_all, &all, i);
        if (rule->optimizer == FG_FROZEN)
            continue;
        if (!is_whole(rule)) {
            update_in_panels(p, r, i, rule, clip, state + FG_MAX_STATES * i);
            continue;
        }
        fg_parameter x = parameter(p, r, i, state);
        if ((gradient(p, i)->panel || gradient(p, i)->row_sums) && x.n) {
            void *g = gradient_in(work, rule, &x);
            fg_replay_gradient(p, r, i, g);
            x.g = g;
        }
        update_parameter(rule, &x, clip, work);
    }
    free(work);
    return FG_OK;
}

int fg_replay_copy_aliased(const fg_program *p, fg_replay *r)
{
    for (int k = p->n_steps - p->n_late; k < p->n_steps; k++)
        for (int i = 0; i < 2; i++) {
            int v = p->buffer[p->step[k].in[i]].root;
            for (int w = 0; v < p->n_in && w < p->n_gradients; w++) {
                const char *x = fg_replay_address(r)[v], *y = fg_replay_address(r)[w];
                if (x >= y + bytes_at(p, w) || y >= x + bytes_at(p, v))
                    continue;
                void *own = fg_replay_own_input(p, r, v);
                if (!own)
                    return fg_fail(FG_NO_MEMORY, "no memory for a program");
                memcpy(own, x, (size_t)bytes_at(p, v));
            }
        }
    return FG_OK;
}

/* n elements of 4 or 8 bytes that lie a stride apart. */
static void gather_apart(size_t itemsize, int64_t n, int64_t stride, const void *x, void *y)
{
    if (itemsize == sizeof(uint32_t))
        for (int64_t i = 0; i < n; i++)
            ((uint32_t *)y)[i] = ((const uint32_t *)x)[i * stride];
    else
        for (int64_t i = 0; i < n; i++)
            ((uint64_t *)y)[i] = ((const uint64_t *)x)[i * stride];
}

enum {
    LINE = 64,        /* bytes of a cache line */
    LINES_AHEAD = 80, /* so many are asked for before they are read: rows in random order wait for memory otherwise */
};

/* Ask for cache lines that lie a step apart. */
static void ask_for(const char *x, int64_t lines, int64_t step)
{
    for (int64_t k = 0; k < lines; k++)
        __builtin_prefetch(x + k * step);
}

void fg_gather_rows(int ndim, const int64_t *dim, const int64_t *stride, size_t itemsize, int64_t n, const int64_t *row,
                    const void *x, void *y)
{
    int64_t own[FG_MAX_NDIM + 1], size = 1, apart = 1;
    int is_even =
        itemsize == sizeof(uint32_t) || itemsize == sizeof(uint64_t); /* is one stride between all elements? */
    for (int axis = ndim - 1; axis > 0; axis--) {
        own[axis] = size;
        if (dim[axis] > 1) {
            apart = size == 1 ? stride[axis] : apart;
            is_even = is_even && stride[axis] == size * apart;
        }
        size *= dim[axis];
    }
    size_t row_bytes = (size_t)size * itemsize;
    int64_t row_stride = stride[0] * (int64_t)itemsize;
    int64_t step = apart == 1 ? LINE : apart * (int64_t)itemsize; /* between the cache lines of a row */
    int64_t lines = apart == 1 ? ((int64_t)row_bytes + LINE - 1) / LINE : size;
    int64_t ahead = is_even && lines ? LINES_AHEAD / lines : 0;
    for (int64_t i = 0; row_bytes && i < n; i++) {
        const char *from = (const char *)x + row[i] * row_stride;
        char *to = (char *)y + (size_t)i * row_bytes;
        if (ahead && i + ahead < n)
            ask_for((const char *)x + row[i + ahead] * row_stride, lines, step);
        if (is_even && apart == 1)
            memcpy(to, from, row_bytes);
        else if (is_even)
            gather_apart(itemsize, size, apart, from, to);
        else
            fg_copy_strided(ndim - 1, dim + 1, itemsize, to, own + 1, from, stride + 1);
    }
}
