/* gather.c: take, the rows of an array that an index names, and its adjoint untake, which adds rows to those that an
 * index names.
 *
 * Sums in float32 lose bits with each term: a million terms of 0.1 in turn are 1 % off. So float32 rows that get many
 * terms are added in float64, or in blocks whose sums are added in float64: all rows where there are few, else those
 * that a sample of the index finds. A call must not take memory, since programs run without the GIL: what this
 * takes is on the stack.
 *
 * Threads that share an untake have rows of the result each. Each looks through the whole index for its own, so that a
 * row gets its terms in the order of the index, whoever adds them: the bits do not depend on the number of threads.
 */
#include "fastgrad.h"

#include <stdatomic.h>
#include <string.h>

/* attr: the axis, and how many leading axes, all before it, are batch axes that elements and index share: each batch
 * has an index of its own. */
typedef struct {
    int64_t stack, outer, length, count, inner;
    int64_t begin, end;         /* the rows, of all `length`, that a thread adds to */
} gather;

/* The number of elements along the shared axes, the other axes before the axis, the axis, the rest of the index, and
 * the axes after it; and all rows. */
static gather gather_sizes(const fg_shape *whole, const int64_t *attr, const fg_shape *index)
{
    int axis = (int)attr[0], shared = (int)attr[1];
    gather s = {.stack = 1, .outer = 1, .length = whole->dim[axis], .count = 1, .inner = 1, .end = whole->dim[axis]};
    for (int i = 0; i < shared; i++)
        s.stack *= whole->dim[i];
    for (int i = shared; i < axis; i++)
        s.outer *= whole->dim[i];
    for (int i = shared; i < index->ndim; i++)
        s.count *= index->dim[i];
    for (int i = axis + 1; i < whole->ndim; i++)
        s.inner *= whole->dim[i];
    return s;
}

/* The message says `take` for untake, too, because that is the name which the user has called. */
static int index_in_range(int64_t *index, int64_t at, int64_t length)
{
    int64_t i = *index < 0 ? *index + length : *index;
    if (i < 0 || i >= length)
        return fg_index_outside("take", *index, at, length);
    *index = i;
    return FG_OK;
}

/* An index of few elements that serves many arrays is checked once: `known` gets its numbers from 0 on. */
enum { KNOWN = 256 };

static int is_short_index(const gather *s) { return s->stack == 1 && s->outer > 1 && s->count <= KNOWN; }

static int find_known(const gather *s, const int64_t *index, int64_t *known)
{
    int status = FG_OK;
    for (int64_t k = 0; k < s->count && !status; k++) {
        known[k] = index[k];
        status = index_in_range(&known[k], k, s->length);
    }
    return status;
}

int fg_take_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    const fg_shape *x = c->in[0].array->shape, *index = c->in[1].array->shape;
    int axis = (int)c->attr[0], n = 0;
    int64_t dim[2 * FG_MAX_NDIM];
    for (int i = 0; i < axis; i++)
        dim[n++] = x->dim[i];
    for (int i = (int)c->attr[1]; i < index->ndim; i++)
        dim[n++] = index->dim[i];
    for (int i = axis + 1; i < x->ndim; i++)
        dim[n++] = x->dim[i];
    return fg_shape_made(fg_shape_new(n, dim), shape);
}

/* Rows from..to of those that an index names, by one of several threads. */
typedef struct {
    const int64_t *index;
    int64_t length;
    size_t bytes;               /* of a row */
    const char *x;
    char *y;
    atomic_int is_out_of_range; /* some index is */
} shared_take;

static void take_range(void *context, int64_t from, int64_t to)
{
    shared_take *t = context;
    int64_t n = to - from;
    if (fg_take_rows(t->bytes, t->length, t->index + from, n, t->x, t->y + (size_t)from * t->bytes) < n)
        atomic_store(&t->is_out_of_range, 1);
}

/* Whether threads share a gather. To find a row takes about as long as to move three elements. */
static int is_long(const gather *s) { return s->stack * s->outer * s->count * (s->inner + 3) >= FG_SHARED_FROM; }

int fg_take_run(const fg_call *c, fg_array *y)
{
    const fg_array *x = c->in[0].array;
    gather s = gather_sizes(x->shape, c->attr, c->in[1].array->shape);
    const int64_t *index = c->in[1].array->data;
    size_t bytes = (size_t)s.inner * fg_itemsize(x->dtype);
    char *to = y->data;
    if (s.stack * s.outer == 1 && is_long(&s)) {
        shared_take t = {index, s.length, bytes, x->data, y->data, 0};
        fg_threads_range(s.count, (FG_SHARED_PART + s.inner + 2) / (s.inner + 3), take_range, &t);
        if (!t.is_out_of_range)
            return FG_OK;
    }                                           /* else what follows finds the first one and tells it */
    int64_t known[KNOWN];
    if (is_short_index(&s)) {
        int status = find_known(&s, index, known);
        if (!status)
            fg_take_stack(bytes, s.outer, s.length, known, s.count, x->data, to);
        return status;
    }
    for (int64_t o = 0; o < s.stack * s.outer; o++) {
        if (o && o % s.outer == 0)
            index += s.count;
        const char *from = (const char *)x->data + (size_t)(o * s.length) * bytes;
        int64_t out = fg_take_rows(bytes, s.length, index, s.count, from, to);
        if (out < s.count) {
            int64_t i = index[out];
            return index_in_range(&i, out, s.length);
        }
        to += (size_t)s.count * bytes;
    }
    return FG_OK;
}

int fg_take_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor index;
    int status = fg_saved(n, 1, &index);
    int axis = (int)n->attr[0];
    int64_t attr[3] = {axis, n->attr[1], n->in[0].parent->shape->dim[axis]};
    return status ? status : fg_apply(FG_OP_untake, 2, (fg_tensor[]){g, index}, 3, attr, &gin[0]);
}

int fg_untake_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    const fg_shape *g = c->in[0].array->shape, *index = c->in[1].array->shape;
    int axis = (int)c->attr[0], n = 0;
    int64_t dim[FG_MAX_NDIM + 1];
    for (int i = 0; i < axis; i++)
        dim[n++] = g->dim[i];
    dim[n++] = c->attr[2];
    for (int i = axis + index->ndim - (int)c->attr[1]; i < g->ndim; i++)
        dim[n++] = g->dim[i];
    return fg_shape_made(fg_shape_new(n, dim), shape);
}

/* The sums of a row to which several terms in turn are added stay in registers. */
#define ADD_ELEMENTS(T, N)                                \
    for (int64_t k = from; k < to;) {                     \
        int64_t i = index[k], named = i;                  \
        int status = index_in_range(&i, k, s->length);    \
        if (status)                                       \
            return status;                                \
        T sum[N], *at = (T *)y + i * (N);                 \
        for (int64_t j = 0; j < (N); j++)                 \
            sum[j] = at[j] + ((const T *)g)[k * (N) + j]; \
        for (k++; k < to && index[k] == named; k++)       \
            for (int64_t j = 0; j < (N); j++)             \
                sum[j] += ((const T *)g)[k * (N) + j];    \
        for (int64_t j = 0; j < (N); j++)                 \
            at[j] = sum[j];                               \
    }                                                     \
    return FG_OK;
#define ADD_FEW(T)         \
    switch (s->inner) {    \
    case 1:                \
        ADD_ELEMENTS(T, 1) \
    case 2:                \
        ADD_ELEMENTS(T, 2) \
    case 3:                \
        ADD_ELEMENTS(T, 3) \
    case 4:                \
        ADD_ELEMENTS(T, 4) \
    default:               \
        break;             \
    }

static int has_all_rows(const gather *s) { return s->end - s->begin == s->length; }

/* add_rows where only some rows of y are a thread's own: those of LIST terms are listed at a time, without a branch
 * that would often be mispredicted. */
static int add_own_rows(int dtype, const gather *s, const int64_t *index, int64_t from, int64_t to, const char *g,
                        char *y)
{
    enum { LIST = 256 };
    struct { int64_t term, row; } own[LIST];
    size_t bytes = (size_t)s->inner * fg_itemsize(dtype);
    for (int64_t k = from; k < to;) {
        int64_t end = to - k < LIST ? to : k + LIST;
        int n = 0, is_outside = 0;
        for (; k < end; k++) {
            int64_t i = index[k] + (index[k] < 0 ? s->length : 0);
            is_outside |= (uint64_t)i >= (uint64_t)s->length;
            own[n].term = k;
            own[n].row = i;
            n += (uint64_t)i - (uint64_t)s->begin < (uint64_t)(s->end - s->begin);
        }
        if (is_outside)
            return FG_BAD_INDEX;                /* the caller finds the first one and tells it */
        for (int j = 0; j < n; j++) {
            char *sum = y + (size_t)own[j].row * bytes;
            const char *term = g + (size_t)own[j].term * bytes;
            fg_kernels[dtype].elementwise->binary[FG_BINARY_add](s->inner, sum, 1, term, 1, sum);
        }
    }
    return FG_OK;
}

/* Add rows from..to of g, each `inner` long, to the rows of y that the index names. */
static int add_rows(int dtype, const gather *s, const int64_t *index, int64_t from, int64_t to, const char *g, char *y)
{
    size_t bytes = (size_t)s->inner * fg_itemsize(dtype);
    if (!has_all_rows(s))
        return add_own_rows(dtype, s, index, from, to, g, y);
    if (dtype == FG_FLOAT32) {
        ADD_FEW(float)
    } else {
        ADD_FEW(double)
    }
    for (int64_t k = from; k < to; k++) {
        int64_t i = index[k];
        int status = index_in_range(&i, k, s->length);
        if (status)
            return status;
        char *sum = y + (size_t)i * bytes;
        fg_kernels[dtype].elementwise->binary[FG_BINARY_add](s->inner, sum, 1, g + (size_t)k * bytes, 1, sum);
    }
    return FG_OK;
}

/* The same of all rows in float32, into y that held nothing, with sums in float64: of single elements at once, of
 * longer rows those of a block of rows, so long that this costs little, and short enough that its own sums lose few
 * bits. */
enum { BLOCKED = 1024, BLOCK = 64 }; /* elements of y; rows of a block for each row of y */

static int add_blocks(const gather *s, const int64_t *index, const char *g, float *y)
{
    _Alignas(64) float part[BLOCKED]; /* where rows cross cache lines, sums take up to a quarter longer */
    double sum[BLOCKED] = {0};
    const int64_t n = s->length * s->inner, step = BLOCK * s->length;
    for (int64_t k = 0; s->inner == 1 && k < s->count; k++) {
        int64_t i = index[k];
        int status = index_in_range(&i, k, s->length);
        if (status)
            return status;
        sum[i] += ((const float *)g)[k];
    }
    for (int64_t from = 0; s->inner != 1 && from < s->count; from += step) {
        memset(part, 0, (size_t)n * sizeof *part);
        int64_t to = from + step < s->count ? from + step : s->count;
        int status = add_rows(FG_FLOAT32, s, index, from, to, g, (char *)part);
        if (status)
            return status;
        for (int64_t j = 0; j < n; j++)
            sum[j] += part[j];
    }
    for (int64_t j = s->begin * s->inner; j < s->end * s->inner; j++)
        y[j] = (float)sum[j];
    return FG_OK;
}

/* ---- rows of a large array that get many terms ----
 * The sample is every STRIDE-th index, a prime, as indices may have a period. A row belongs to the slot of
 * its last bits, and in each slot the rows vote: one for itself, or against another that is there (Boyer and Moore's
 * majority vote). So a row is found that gets more terms than all others of its slot together: one that gets more than
 * a 500th of all terms, in all likelihood. VOTES votes, which stand for about a thousand terms, make a frequent row.
 *
 * What a frequent row has got is moved to its sum in float64 again and again: of tier 0, which has half of all terms or
 * more, every TURN terms, of tier t every 2^t times as many. So a move comes after TURN terms of a row, more or less,
 * and as no more than 2^(t+1) rows can be in tier t, moves are few beside terms. */
enum { SLOTS = 1024, STRIDE = 127, VOTES = 8, TIERS = 24, TURN = 512, FREQUENT = 2048 };
/* FREQUENT: elements of all frequent rows */

typedef struct {
    int64_t row[SLOTS]; /* by tiers */
    int end[TIERS]; /* where each tier ends */
} frequent;

/* Whether a look for frequent rows takes less than 5 % of the additions. */
static int is_worth_a_look(const gather *s) { return s->count >= STRIDE * VOTES && s->count * s->inner >= 1 << 15; }

/* Fills in the frequent rows, and returns how many there are. */
static int find_frequent(frequent *f, const gather *s, const int64_t *index)
{
    int64_t row[SLOTS] = {0}, votes[SLOTS] = {0}, n_votes = (s->count + STRIDE - 1) / STRIDE, least = VOTES;
    int tier[SLOTS], n = 0;
    for (int64_t k = 0; k < s->count; k += STRIDE) {
        int64_t i = index[k] < 0 ? index[k] + s->length : index[k];
        if (i < 0 || i >= s->length) /* an error, which is told when it is met */
            continue;
        int at = (int)(i & (SLOTS - 1));
        int64_t is_free = votes[at] == 0, is_same = row[at] == i;
        row[at] = is_free ? i : row[at];
        votes[at] += 2 * (is_free | is_same) - 1; /* with no branch, as it would often be mispredicted */
    }
    for (int too_many = 1; too_many; least *= 2) {
        memset(f->end, 0, sizeof f->end);
        n = 0;
        for (int at = 0; at < SLOTS; at++) {
            tier[at] = -1;
            if (votes[at] < least)
                continue;
            for (tier[at] = 0; tier[at] < TIERS - 1 && votes[at] << (tier[at] + 1) < n_votes;)
                tier[at]++;
            f->end[tier[at]]++;
            n++;
        }
        too_many = n * s->inner > FREQUENT;
    }
    for (int t = 0, from = 0; t < TIERS; t++) {
        int size = f->end[t];
        f->end[t] = from;
        from += size;
    }
    for (int at = 0; at < SLOTS; at++)
        if (tier[at] >= 0)
            f->row[f->end[tier[at]]++] = row[at];
    return n;
}

/* Add all rows of g into y, and those of the n frequent rows in float64. */
static int add_with_frequent(const frequent *f, int n, const gather *s, const int64_t *index, const char *g, float *y)
{
    double sum[FREQUENT];
    memset(sum, 0, (size_t)(n * s->inner) * sizeof *sum);
    for (int64_t from = 0, turn = 1; from < s->count; from += TURN, turn++) {
        int is_last = s->count - from <= TURN, last_tier = 0;
        int status = add_rows(FG_FLOAT32, s, index, from, is_last ? s->count : from + TURN, g, (char *)y);
        if (status)
            return status;
        while (last_tier < TIERS - 1 && (is_last || turn % ((int64_t)2 << last_tier) == 0))
            last_tier++;
        for (int k = 0; k < f->end[last_tier]; k++) {
            float *part = y + f->row[k] * s->inner;
            double *whole = sum + k * s->inner;
            for (int64_t j = 0; f->row[k] >= s->begin && f->row[k] < s->end && j < s->inner; j++) {
                whole[j] += part[j];
                part[j] = is_last ? (float)whole[j] : 0;
            }
        }
    }
    return FG_OK;
}

/* Add the elements of a stack of arrays g to those of a stack y that a checked index names, in its order. */
#define ADD_STACK(T)                                                                         \
    static void add_stack_##T(const gather *s, const int64_t *known, const void *g, void *y) \
    {                                                                                        \
        const T *term = g;                                                                   \
        T *sum = y;                                                                          \
        for (int64_t o = 0; o < s->outer; o++, term += s->count, sum += s->length)           \
            for (int64_t k = 0; k < s->count; k++)                                           \
                sum[known[k]] += term[k];                                                    \
    }
ADD_STACK(float)
ADD_STACK(double)

/* Add all rows of g into y, which holds nothing. */
static int add_all(int dtype, const gather *s, const int64_t *index, const char *g, char *y)
{
    if (dtype == FG_FLOAT32 && s->length * s->inner <= BLOCKED && s->count / BLOCK > s->length)
        return add_blocks(s, index, g, (float *)y);
    if (dtype == FG_FLOAT32 && s->inner > 0 && is_worth_a_look(s)) {
        frequent f;
        int n = find_frequent(&f, s, index);
        if (n)
            return add_with_frequent(&f, n, s, index, g, (float *)y);
    }
    return add_rows(dtype, s, index, 0, s->count, g, y);
}

/* Sums of rows of y, where there is one batch, by one of several threads. */
typedef struct {
    const gather *s;
    const int64_t *index;
    const char *g;
    fg_array *y;
    atomic_int is_out_of_range; /* some index is */
} shared_sums;

static void sum_own_rows(void *context, int64_t from, int64_t to)
{
    shared_sums *t = context;
    gather own = *t->s;
    size_t bytes = (size_t)own.inner * fg_itemsize(t->y->dtype);
    own.begin = from;
    own.end = to;
    memset((char *)t->y->data + (size_t)from * bytes, 0, (size_t)(to - from) * bytes);
    if (add_all(t->y->dtype, &own, t->index, t->g, t->y->data))
        atomic_store(&t->is_out_of_range, 1);
}

/* How many threads share the rows of a result: to look through the index takes each as long as to add some elements, so
 * there is one for every PER_PART elements of a row. */
enum { PER_PART = 32 };

static int64_t parts_of(const gather *s)
{
    int64_t parts = s->inner / PER_PART, most = fg_threads_limit();
    return parts < most ? parts : most;
}

int fg_untake_run(const fg_call *c, fg_array *y)
{
    gather s = gather_sizes(y->shape, c->attr, c->in[1].array->shape);
    const int64_t *index = c->in[1].array->data;
    size_t bytes = (size_t)s.inner * fg_itemsize(y->dtype);
    if (s.stack * s.outer == 1 && s.length > 1 && is_long(&s) && parts_of(&s) > 1) {
        shared_sums t = {&s, index, c->in[0].array->data, y, 0};
        fg_threads_range(s.length, (s.length + parts_of(&s) - 1) / parts_of(&s), sum_own_rows, &t);
        if (!t.is_out_of_range)
            return FG_OK;
    }                                           /* else what follows finds the first one and tells it */
    memset(y->data, 0, (size_t)y->shape->size * fg_itemsize(y->dtype));
    int64_t known[KNOWN];
    if (s.inner == 1 && is_short_index(&s)) {
        int status = find_known(&s, index, known);
        if (!status)
            (y->dtype == FG_FLOAT32 ? add_stack_float : add_stack_double)(&s, known, c->in[0].array->data, y->data);
        return status;
    }
    for (int64_t o = 0; o < s.stack * s.outer; o++) {
        if (o && o % s.outer == 0)
            index += s.count;
        const char *g = (const char *)c->in[0].array->data + (size_t)(o * s.count) * bytes;
        int status = add_all(y->dtype, &s, index, g, (char *)y->data + (size_t)(o * s.length) * bytes);
        if (status)
            return status;
    }
    return FG_OK;
}

int fg_untake_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor index;
    int status = fg_saved(n, 1, &index);
    return status ? status : fg_apply(FG_OP_take, 2, (fg_tensor[]){g, index}, 2, n->attr, &gin[0]);
}
