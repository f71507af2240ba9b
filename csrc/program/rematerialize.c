/* rematerialize.c: cheap values computed anew where a later group reads them, instead of stored until then.
 *
 * So the derivative's groups repeat what the value's group did in passing, out of inputs and of what is stored anyway:
 * no other value lives longer. A value is computed anew in every later group that reads it, or in none.
 */
#include "program/passes.h"
#include "program/steps.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEAST = 1 << 18,            /* bytes: what is smaller is read from a cache as fast as it is computed */
    MOST = 3                    /* what to compute a value may cost: two steps on one array or one step on two */
};

typedef struct {
    fg_program *p;
    int *maker;                 /* of each buffer: the step that computes it element by element, or -1 */
    int *reads;                 /* how many operands in later groups it is; -1: it must be stored */
    int *wanted;                /* in which group a step that is needed reads it, the last such ... */
    int *copied, *copy;         /* ... and it was computed anew, and the buffer of that */
    char *anew;                 /* is it, in each later group? */
    char *needed;               /* of each step: is it? */
    step *all;                  /* the new steps */
    int n;
} pass;

/* Does a text of ops.def name no division and no function but where? */
static int is_cheap_text(const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c == '/' || (c > text && *c == '(' && isalnum((unsigned char)c[-1]) &&
                          (c - text < 5 || strncmp(c - 5, "where", 5))))
            return 0;
    return 1;
}

static int is_cheap(const step *s)
{
    int vjp = s->op - FG_N_OPS;
    return s->kind == COMPARE_STEP || s->kind == WHERE_STEP || s->op == FG_OP_broadcast_to ||
           is_cheap_text(vjp < 0 ? fg_texts[s->op].definition : fg_texts[vjp / 2].derivative[vjp % 2]);
}

/* Is v there anyway until step `end`, or no large memory? */
static int stays(const pass *a, int v, int end)
{
    int root = a->p->buffer[v].root;
    const buffer *s = &a->p->buffer[root];
    return root < a->p->n_in || s->array.data || s->output >= 0 || s->kept || s->array.shape->size == 1 || s->period ||
           (s->last >= end && !a->anew[root]);
}

/* What it costs to compute v anew from what stays until step `end`: its steps, and the large values that they read.
 * More than `most`: too much, or it cannot be. */
static int cost(const pass *a, int v, int end, int most)
{
    if (most < 1 || a->maker[v] < 0 || !is_cheap(&a->p->step[a->maker[v]]))
        return most + 1;
    const step *s = &a->p->step[a->maker[v]];
    int n = 1;
    for (int i = 0; n <= most && i < s->n_in; i++)
        if (s->in[i] >= 0 && !stays(a, s->in[i], end))
            n += cost(a, s->in[i], end, most - n);
        else if (s->in[i] >= 0)
            n += shape_at(a->p, s->in[i])->size == s->n;
    return n;
}

/* What makes each value, and who reads it. */
static void look(pass *a)
{
    fg_program *p = a->p;
    for (int v = 0; v < p->n_buffers; v++) {
        a->maker[v] = a->wanted[v] = a->copied[v] = -1;
        a->reads[v] = 0;
    }
    for (int v = 0; v < p->n_buffers; v++) {
        const buffer *s = &p->buffer[v];
        if (s->root != v || s->output >= 0 || s->kept || s->padded_in_place)
            a->reads[s->root] = a->reads[v] = -1;
    }
    for (int k = 0, start = 0; k < p->n_steps; k++) {
        const step *s = &p->step[k];
        start = k < start + p->step[start].group ? start : k;
        if (s->kind != RUN && s->kind < SUM_STEP && s->n >= FG_FUSE_FROM && p->buffer[s->y].root == s->y)
            a->maker[s->y] = k;
        for (int i = 0; i < s->n_in; i++) {
            int v = s->in[i];
            if (v >= 0 && (s->kind == RUN || s->kind == PRODUCT_STEP))
                a->reads[p->buffer[v].root] = -1;
            else if (v >= 0 && a->maker[v] >= 0 && a->maker[v] < start && a->reads[v] >= 0)
                a->reads[v]++;
        }
    }
}

/* Choose the values, in their order: one may rest on an earlier one. Returns how many steps compute them, at most. */
static int choose(pass *a)
{
    int n = 0;
    for (int k = 0; k < a->p->n_steps; k++) {
        int v = a->p->step[k].y;
        a->anew[v] = a->maker[v] == k && a->reads[v] > 0 && bytes_at(a->p, v) >= LEAST &&
                     cost(a, v, a->p->buffer[v].last, MOST) <= MOST;
        n += a->anew[v] ? MOST * a->reads[v] : 0;
    }
    return n;
}

/* Room for n steps, their operands, and `more` buffers. */
static int make_room(pass *a, int n, int more)
{
    fg_program *p = a->p;
    int n_operands = p->operands.n + n * FG_RESULT, *old = p->operands.item;
    int *operands = malloc((size_t)n_operands * sizeof *operands);
    buffer *slots = operands ? realloc(p->buffer, (size_t)(p->n_buffers + more) * sizeof *slots) : NULL;
    if (slots)
        p->buffer = slots;
    if (!slots || !(a->all = malloc((size_t)n * sizeof *a->all))) {
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

static int compute(pass *a, int v, int end, int group);

/* Add a step to a group, behind those that compute anew what of its operands does not stay until step `end`. */
static void add_step(pass *a, step s, int end, int group)
{
    int *in = (int *)a->p->operands.item + a->p->operands.n;
    if (s.kind != RUN) {
        a->p->operands.n += s.n_in;
        for (int i = 0; i < s.n_in; i++) {
            int v = s.in[i];
            in[i] = v < 0 || stays(a, v, end) || a->maker[v] >= group ? v : compute(a, v, end, group);
        }
        s.in = in;
    }
    s.group = 1;
    s.reductions = 0;
    s.block = s.width = 0;
    a->all[a->n++] = s;
}

/* The buffer of v computed anew in the group that begins with step `group`, once. */
static int compute(pass *a, int v, int end, int group)
{
    fg_program *p = a->p;
    if (a->copied[v] == group)
        return a->copy[v];
    step s = p->step[a->maker[v]];
    s.y = a->copy[v] = p->n_buffers++;
    p->buffer[s.y] = (buffer){.array = p->buffer[v].array, .root = s.y, .output = -1, .offset = -1};
    fg_shape_ref(p->buffer[s.y].array.shape);
    a->copied[v] = group;
    add_step(a, s, end < 0 ? p->buffer[v].last : end, group);
    return s.y;
}

/* Which steps of a group are still needed: not those whose results only other groups read, which compute them anew. */
static void find_needed(pass *a, int start, int end)
{
    for (int k = end; k >= start; k--) {
        const step *s = &a->p->step[k];
        int y = s->y, is_read = a->wanted[y] == start || (a->p->buffer[y].last > end && !a->anew[y]);
        a->needed[k] = a->maker[y] != k || a->reads[y] < 0 || is_read;
        for (int i = 0; a->needed[k] && i < s->n_in; i++)
            if (s->in[i] >= 0)
                a->wanted[s->in[i]] = start;
    }
}

static void rewrite_group(pass *a, int start, int end)
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
    begin->block = head->block || begin->group == 1 ? head->block : FG_BLOCK;
}

static int rewrite(pass *a, int more)
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
    int *numbers = malloc(5 * n * sizeof *numbers);
    char *flags = calloc(n + n_steps, 1);
    pass a = {.p = p};
    int status = FG_OK, more;
    if (!numbers || !flags) {
        status = fg_fail(FG_NO_MEMORY, "no memory for a program");
    } else {
        a = (pass){p, numbers, numbers + n, numbers + 2 * n, numbers + 3 * n, numbers + 4 * n,
                   flags, flags + n, NULL, 0};
        look(&a);
        if ((more = choose(&a)))
            status = rewrite(&a, more);
    }
    free(numbers);
    free(flags);
    return status;
}
