/* rematerialize.c: rematerialization: a large value that is cheap to compute is computed again by each later group that
 * reads it, instead of being stored until then.
 *
 * It is computed from inputs and from values that are stored anyway, so that no other value lives longer, but for small
 * ones that are broadcast. It is computed again in every later group that reads it, or in none.
 */
#include "program/passes.h"
#include "program/steps.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEAST = 1 << 18, /* bytes: a smaller value is read from a cache as fast as it is computed */
    SMALL = 8, /* a value with so many times fewer elements than are loaded of it may live longer */
    MOST = 3 /* the greatest cost of computing a value: two steps on one array or one step on two */
};

typedef struct {
    fg_program *p;
    int *maker; /* of each buffer: the step that computes it element by element, or -1 */
    int *reads; /* of each buffer: how many operands in later groups it is; -1: it must be stored */
    int *writers; /* of each root: how many steps write it */
    int *read_in; /* of each buffer: the last group seen in which a step that is needed reads it */
    int *copied_in, *copy; /* of each buffer: the last group that computes it again, and the new buffer there */
    char *again; /* of each buffer: is it computed again in each later group that reads it? */
    char *needed; /* of each step: is its result read in its own group, or stored? */
    step *all; /* the new steps */
    int n;
} rematerialization;

/* Does a text of ops.def contain no division and no function but `where`? */
static int is_cheap_text(const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c == '/' ||
            (c > text && *c == '(' && isalnum((unsigned char)c[-1]) && (c - text < 5 || strncmp(c - 5, "where", 5))))
            return 0;
    return 1;
}

/* Of the steps with a kernel, those of no elementwise operation compare, choose or combine bits. */
int fg_is_cheap(const step *s)
{
    int vjp = s->op - FG_N_OPS;
    return s->kind == COMPARE_STEP || s->kind == WHERE_STEP || (s->op >= FG_N_ELEMENTWISE && vjp < 0) ||
           is_cheap_text(vjp < 0 ? fg_texts[s->op].definition : fg_texts[vjp / 2].derivative[vjp % 2]);
}

/* Is v alive until step `end` anyway, or small? */
static int stays(const rematerialization *a, int v, int end)
{
    int root = a->p->buffer[v].root;
    const buffer *s = &a->p->buffer[root];
    return root < a->p->n_in || s->array.data || s->output >= 0 || s->kept || s->array.shape->size == 1 || s->period ||
           (s->last >= end && !a->again[root]);
}

/* Does a step read operand i in another order than element by element? */
static int is_spread(const step *s, int i) { return is_load(s) || run_at(s, i); }

/* The cost of computing v from values that stay until step `end`: the number of steps, plus the number of large values
 * that they read. More than `most`, if it costs more or is impossible. */
static int cost(const rematerialization *a, int v, int end, int most)
{
    if (most < 1 || a->maker[v] < 0 || !fg_is_cheap(&a->p->step[a->maker[v]]))
        return most + 1;
    const step *s = &a->p->step[a->maker[v]];
    int n = 1;
    for (int i = 0; n <= most && i < s->n_in; i++) {
        int x = s->in[i], is_spread_out = is_spread(s, i);
        if (x < 0)
            continue;
        int is_small = shape_at(a->p, x)->size * SMALL <= s->n && a->writers[a->p->buffer[x].root] == 1;
        if (is_spread_out && !stays(a, x, end))
            n += is_small ? 0 : most; /* such an operand is not computed again */
        else if (!is_spread_out && !stays(a, x, end))
            n += cost(a, x, end, most - n);
        else
            n += !is_spread_out && shape_at(a->p, x)->size == s->n;
    }
    return n;
}

/* Find what computes each value, and how many operands in later groups it is. */
static void find_uses(rematerialization *a)
{
    fg_program *p = a->p;
    for (int v = 0; v < p->n_buffers; v++) {
        a->maker[v] = a->read_in[v] = a->copied_in[v] = -1;
        a->reads[v] = a->writers[v] = 0;
    }
    for (int v = 0; v < p->n_buffers; v++) {
        const buffer *s = &p->buffer[v];
        if (s->root != v || s->output >= 0 || s->kept || s->padded_in_place)
            a->reads[s->root] = a->reads[v] = -1;
    }
    for (int k = 0, start = 0; k < p->n_steps; k++) {
        const step *s = &p->step[k];
        start = k < start + p->step[start].group ? start : k;
        a->writers[p->buffer[s->y].root]++;
        if (s->kind != RUN && s->kind < SUM_STEP && s->n >= FG_FUSE_FROM && p->buffer[s->y].root == s->y && !s->by_row)
            a->maker[s->y] = k;
        for (int i = 0; i < s->n_in; i++) {
            int v = s->in[i];
            if (v >= 0 && (s->kind == RUN || s->kind == PRODUCT_STEP || s->by_row || is_spread(s, i)))
                a->reads[p->buffer[v].root] = -1;
            else if (v >= 0 && a->maker[v] >= 0 && a->maker[v] < start && a->reads[v] >= 0)
                a->reads[v]++;
        }
    }
}

/* Choose the values to compute again, in execution order, because one may be computed from an earlier one. Returns an
 * upper bound of the steps that this adds. */
static int choose(rematerialization *a)
{
    int n = 0;
    for (int k = 0; k < a->p->n_steps; k++) {
        int v = a->p->step[k].y;
        a->again[v] = a->maker[v] == k && a->reads[v] > 0 && bytes_at(a->p, v) >= LEAST &&
                      cost(a, v, a->p->buffer[v].last, MOST) <= MOST;
        n += a->again[v] ? MOST * a->reads[v] : 0;
    }
    return n;
}

/* Room for n steps, their operands, and `more` buffers. */
static int make_room(rematerialization *a, int n, int more)
{
    fg_program *p = a->p;
    int n_operands = p->operands.n + n * FG_RESULT, *old = p->operands.item;
    int *operands = malloc((size_t)n_operands * sizeof *operands);
    buffer *buffers = operands ? realloc(p->buffer, (size_t)(p->n_buffers + more) * sizeof *buffers) : NULL;
    if (buffers)
        p->buffer = buffers;
    if (!buffers || !(a->all = malloc((size_t)n * sizeof *a->all))) {
        free(operands);
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    }
    memcpy(operands, old, (size_t)p->operands.n * sizeof *operands);
    for (int k = 0; k < p->n_steps; k++)
        p->step[k].in = operands + (p->step[k].in - old);
    p->operands = (list){p->operands.n, n_operands, operands};
    free(old);
    return FG_OK;
}

static int compute(rematerialization *a, int v, int end, int group);

/* Append a step to the group that begins with step `group`, after steps that compute again those of its operands that
 * do not stay until step `end`. */
static void add_step(rematerialization *a, step s, int end, int group)
{
    int *in = (int *)a->p->operands.item + a->p->operands.n;
    if (s.kind != RUN && !is_load(&s)) { /* what a load reads is never computed again */
        a->p->operands.n += s.n_in;
        for (int i = 0; i < s.n_in; i++) {
            int v = s.in[i];
            in[i] =
                v < 0 || is_spread(&s, i) || stays(a, v, end) || a->maker[v] >= group ? v : compute(a, v, end, group);
        }
        s.in = in;
    }
    s.group = 1;
    s.reductions = 0;
    s.block = s.width = 0;
    a->all[a->n++] = s;
}

/* The buffer of v computed again in the group that begins with step `group`, which is done once for each group. */
static int compute(rematerialization *a, int v, int end, int group)
{
    fg_program *p = a->p;
    if (a->copied_in[v] == group)
        return a->copy[v];
    step s = p->step[a->maker[v]];
    s.y = a->copy[v] = p->n_buffers++;
    p->buffer[s.y] = (buffer){.array = p->buffer[v].array, .root = s.y, .output = -1, .offset = -1};
    fg_shape_ref(p->buffer[s.y].array.shape);
    a->copied_in[v] = group;
    add_step(a, s, end < 0 ? p->buffer[v].last : end, group);
    return s.y;
}

/* Find the steps of a group that are still needed: not those whose results only later groups read, which compute them
 * again. */
static void find_needed(rematerialization *a, int start, int end)
{
    for (int k = end; k >= start; k--) {
        const step *s = &a->p->step[k];
        int y = s->y, is_read = a->read_in[y] == start || (a->p->buffer[y].last > end && !a->again[y]);
        a->needed[k] = a->maker[y] != k || a->reads[y] < 0 || is_read;
        for (int i = 0; a->needed[k] && i < s->n_in; i++)
            if (s->in[i] >= 0)
                a->read_in[s->in[i]] = start;
    }
}

static void rewrite_group(rematerialization *a, int start, int end)
{
    const step *head = &a->p->step[start];
    int first = a->n;
    find_needed(a, start, end);
    for (int k = start; k <= end; k++)
        if (a->needed[k])
            add_step(a, a->p->step[k], -1, start);
    if (a->n == first)
        return;
    step *begin = &a->all[first];
    begin->group = a->n - first;
    begin->reductions = head->reductions;
    begin->width = head->width;
    begin->strip = head->strip;
    begin->order = head->order;
    begin->block = head->block || begin->group == 1 ? head->block : FG_BLOCK;
}

static int rewrite(rematerialization *a, int more)
{
    fg_program *p = a->p;
    int status = make_room(a, p->n_steps + more, more);
    if (status)
        return status;
    for (int k = 0; k < p->n_steps; k += p->step[k].group)
        rewrite_group(a, k, k + p->step[k].group - 1);
    free(p->step);
    p->step = a->all;
    p->n_steps = a->n;
    return FG_OK;
}

int fg_pass_rematerialize(fg_program *p)
{
    size_t n = (size_t)p->n_buffers + 1, n_steps = (size_t)p->n_steps + 1;
    int *numbers = malloc(6 * n * sizeof *numbers);
    char *flags = calloc(n + n_steps, 1);
    rematerialization a = {.p = p};
    int status = FG_OK, more;
    if (!numbers || !flags) {
        status = fg_fail(FG_NO_MEMORY, "no memory for a program");
    } else {
        a = (rematerialization){.p = p,
                                .maker = numbers,
                                .reads = numbers + n,
                                .writers = numbers + 2 * n,
                                .read_in = numbers + 3 * n,
                                .copied_in = numbers + 4 * n,
                                .copy = numbers + 5 * n,
                                .again = flags,
                                .needed = flags + n};
        find_uses(&a);
        if ((more = choose(&a)))
            status = rewrite(&a, more);
    }
    free(numbers);
    free(flags);
    return status;
}
